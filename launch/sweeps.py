"""The runs of a sweep: overrides of a config, one list for each run."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MOST_RUNS = 1000
_OPENS, _CLOSES = '([{', ')]}'


class Point(NamedTuple):
  """One run of a sweep.

  label: the values in a few characters, good for the name of a folder; ''
    where there is one run.
  overrides: flags, --config.PATH=VALUE.
  """

  label: str
  overrides: tuple[str, ...]


def points(sweeps: Sequence[str], together: bool) -> list[Point]:
  """The runs of PATH=VALUE,VALUE texts: all combinations, the last fastest.

  With `together` the first values of all are the first run, and so on.

  Raises:
    ValueError: a text names no field or no values, or lengths differ.
  """
  axes = [_axis(text) for text in sweeps]
  paths = [path for path, _ in axes]
  if twice := {path for path in paths if paths.count(path) > 1}:
    raise ValueError(
      f'--sweep: {sorted(twice)[0]} is given twice; put all its values into one'
    )
  lengths = [len(values) for _, values in axes]
  if together and len(set(lengths)) > 1:
    raise ValueError(
      f'--zip: the sweeps have {", ".join(map(str, lengths))} values; give '
      'each as many'
    )
  count = max(lengths, default=1) if together else math.prod(lengths)
  if count > MOST_RUNS:
    raise ValueError(f'--sweep: makes {count} runs; give at most {MOST_RUNS}')
  values = [values for _, values in axes]
  rows = zip(*values) if together and axes else itertools.product(*values)
  return [
    _point(i, list(zip(paths, row)), math.prod(lengths) > 1)
    for i, row in enumerate(rows)
  ]


def _axis(text: str) -> tuple[str, list[str]]:
  """The field and the values of 'PATH=VALUE,VALUE'."""
  path, equals, given = text.partition('=')
  path = path.strip().removeprefix('--').removeprefix('config.')
  values = [value.strip() for value in _split(given)]
  if not equals or not re.fullmatch(r'\w+(\.\w+)*', path) or not all(values):
    raise ValueError(
      f'--sweep={text}: expected FIELD=VALUE,VALUE, such as '
      'optim.learning_rate=1e-6,2e-6'
    )
  return path, values


def _split(text: str) -> Iterator[str]:
  """The parts between commas that no bracket and no quote holds."""
  depth, quote, part = 0, '', ''
  for c in text:
    if c == ',' and not depth and not quote:
      yield part
      part = ''
      continue
    if quote:
      quote = '' if c == quote else quote
    elif c in '\'"':
      quote = c
    depth += 0 if quote else (c in _OPENS) - (c in _CLOSES)
    part += c
  yield part


def _point(
  index: int, given: Sequence[tuple[str, str]], several: bool
) -> Point:
  overrides = tuple(f'--config.{path}={value}' for path, value in given)
  if not several:
    return Point('', overrides)
  values = [f'{path.rpartition(".")[2]}={value}' for path, value in given]
  label = re.sub('[^A-Za-z0-9._=-]+', '_', '-'.join([str(index), *values]))
  return Point(label[:80].rstrip('.'), overrides)
