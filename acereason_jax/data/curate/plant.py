"""Planted contamination: copies of benchmark problems that must be found.

They are given to the step `contaminated` beside the rows and taken away after
it, so no row's fate depends on them. What it found of them is in the datasheet:
the recall on these very benchmarks, not on an author's.
"""

import collections
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from acereason_jax.data.curate import keys, values

# Benchmark problems that are copied, each in every way.
_MOST_ITEMS = 250
_SHOWN_MISSES = 20
_FRACTION = re.compile(r'\\[dt]?frac')
_PUNCTUATION = re.compile(r'[.,;:!?]')


class Found(NamedTuple):
  """What a step found of the planted copies.

  planted: number of copies by way.
  found: number of these that were found.
  missed: (benchmark, id, way) of the first few that were not.
  """

  planted: Mapping[str, int]
  found: Mapping[str, int]
  missed: tuple[tuple[str, str, str], ...]


def _two_thirds(text: str) -> str:
  words = text.split()
  return ' '.join(words[: max(1, -(-2 * len(words) // 3))])


def _one_word(text: str) -> str:
  """Another word in the middle."""
  words = text.split()
  words[len(words) // 2] = 'instead'
  return ' '.join(words)


_WAYS: Mapping[str, Callable[[str], str]] = {
  'verbatim': lambda text: text,
  'label before': lambda text: f'Problem 7. {text}',
  'no dollars': lambda text: text.replace('$', ''),
  'dfrac': lambda text: _FRACTION.sub(r'\\dfrac ', text).replace(' ', '  '),
  'two thirds': _two_thirds,
  'upper case': str.upper,
  'no punctuation': lambda text: _PUNCTUATION.sub('', text),
  'one word': _one_word,
}


def rows(context: values.Context) -> list[values.Row]:
  """Copies of problems, chosen by hash, in every way."""

  def order(item: values.Item) -> bytes:
    name = f'{context.seed}/{item.benchmark}/{item.id}'
    return hashlib.sha256(name.encode()).digest()

  chosen = sorted(context.items, key=order)[:_MOST_ITEMS]
  return [
    values.Row(
      # No id of a row has a NUL, so it is nobody's.
      id='\0'.join(('planted', way, item.benchmark, item.id)),
      problem=change(item.text),
      answer='0',
      source='planted',
    )
    for item in chosen
    for way, change in _WAYS.items()
    if keys.tokens(change(item.text))
  ]


def found(fates: Sequence[values.Fate], before: Found | None) -> Found:
  """What a step found, added to what an earlier one did."""
  planted: collections.Counter[str] = collections.Counter()
  hits: collections.Counter[str] = collections.Counter()
  missed = []
  for fate in fates:
    _, way, benchmark, name = fate.row.id.split('\0')
    planted[way] += 1
    if fate.kind == values.DROPPED:
      hits[way] += 1
    else:
      missed.append((benchmark, name, way))
  if before is not None:
    planted.update(before.planted)
    hits.update(before.found)
    missed = [*before.missed, *missed]
  by_way = {way: hits[way] for way in planted}
  return Found(dict(planted), by_way, tuple(missed[:_SHOWN_MISSES]))
