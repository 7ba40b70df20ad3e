"""The rule `near`: one row of those that are nearly the same problem.

Candidates share a band of MinHash values. Each is then compared exactly, and
problems with other numbers never are the same: 3 + 5 and 3 + 6 are two.
"""

import array
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import rensa

from acereason_jax.data.curate import comparing, index, keys
from acereason_jax.data.curate.values import Context, Fate, Row, Step

_COMPARES = {'fn': 'acereason_jax.verifiers.math:verify', 'reasons': False}
_GRAM = 3
_PERMUTATIONS, _BANDS, _SEED = 128, 32, 0
_CHUNK_ROWS = 8192
# Rows of one band and equal numbers that a row is compared with, at most.
_MOST_COMPARED = 200
# Words of which another one makes another problem, as another number does.
_TELLING = frozenset(
  (
    'zero', 'half', 'third', 'quarter', 'twice', 'thrice', 'double', 'triple',
    'dozen', 'hundred', 'thousand', 'million', 'no', 'not', 'never', 'without',
    'even', 'odd', 'positive', 'negative', 'nonnegative', 'nonpositive',
    'largest', 'smallest', 'greatest', 'least', 'most', 'maximum', 'minimum',
    'maximal', 'minimal', 'maximize', 'minimize', 'more', 'less', 'fewer',
    'longer', 'shorter', 'older', 'younger', 'larger', 'smaller', 'greater',
    'sum', 'difference', 'product', 'quotient', 'remainder', 'area',
    'perimeter', 'volume', 'circumference', 'diameter', 'radius', 'mean',
    'median', 'mode', 'range', 'first', 'second', 'last', 'before', 'after',
    'increase', 'decrease', 'increasing', 'decreasing', 'inside',
    'outside', 'left', 'right', 'sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'log',
    'ln', 'le', 'ge', 'lt', 'gt', 'ne', 'notin', 'cup', 'cap', 'min',
    'max', 'gcd', 'lcm', 'inscribed', 'circumscribed', 'arithmetic',
    'geometric', 'prime', 'composite', 'rational', 'irrational', 'north',
    'south', 'east', 'west', 'clockwise', 'counterclockwise',
  )
)  # fmt: skip
_NUMBERS = (
  'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten',
  'eleven', 'twelve', 'thirteen', 'fourteen', 'fifteen', 'sixteen',
  'seventeen', 'eighteen', 'nineteen', 'twenty',
)  # fmt: skip
# Three is 3; one is a pronoun, too.
_DIGITS = {word: f'{i}' for i, word in enumerate(_NUMBERS, 2)}
_MIX = np.array(
  [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64
)


def near(
  threshold: float = 0.8, judge: Mapping[str, Any] | None = _COMPARES
) -> Step:
  """One row of those that are nearly equal; unequal answers are a conflict.

  threshold: least share of word 3-grams, of those that either row has.
  judge: component that compares answers; None if they are no answers, as code
    tasks.
  """
  if not 0.5 <= threshold <= 1:
    raise ValueError(
      f'near: threshold={threshold}; expected 0.5 to 1: fewer candidates are '
      'found below, and unlike problems would go'
    )
  return Step('near', whole=functools.partial(_whole, threshold, judge))


def _whole(
  threshold: float,
  judge: Mapping[str, Any] | None,
  rows: Sequence[Row],
  context: Context,
) -> list[Fate]:
  found = groups([row.problem for row in rows], threshold)
  return comparing.one_of_each(judge, rows, found, context)


class _Words(NamedTuple):
  """A statement's words and what tells it from a problem like it.

  words: letters and digits, without a label.
  marks: numbers, points in them, signs, names of variables, and words that
    tell problems apart, in order.
  """

  words: tuple[str, ...]
  marks: tuple[str, ...]


def groups(problems: Sequence[str], threshold: float) -> list[list[int]]:
  """Positions of problems that are nearly equal, at least two each.

  A problem is in the group of every problem that it is nearly equal to.
  """
  parents, banded = _banded(problems)

  def root(at: int) -> int:
    while parents[at] != at:
      parents[at] = at = parents[parents[at]]
    return at

  known = _Known(problems)
  for same in _same(banded):
    for i, one in enumerate(same):
      for other in same[i + 1 : i + 1 + _MOST_COMPARED]:
        first, second = sorted((root(one), root(other)))
        if first != second and known.alike(one, other, threshold):
          parents[second] = first
  found: dict[int, list[int]] = {}
  for at in range(len(problems)):
    found.setdefault(root(at), []).append(at)
  return [group for group in found.values() if len(group) > 1]


def _words(problem: str) -> _Words:
  found = keys.significant(problem)
  return _Words(
    tuple([token for token in found if token.isalnum()]),
    tuple([_DIGITS.get(t, t) for t in found if tells(t)]),
  )


# Most tokens of a problem are words of many others.
@functools.lru_cache(1 << 16)
def tells(token: str) -> bool:
  """Whether problems that differ in a token are two."""
  return (
    token[0].isdecimal()
    or token in '+-<>.'
    or token[0] == "'"
    or token in _TELLING
    or token in _DIGITS
    # A variable, and no article.
    or (len(token) == 1 and token.isalpha() and token != 'a')
  )


def _grams(words: Sequence[str]) -> set[tuple[str, ...]]:
  return set(index.runs(words, _GRAM)) or {tuple(words)}


def alike(one: str, other: str, threshold: float) -> bool:
  """Whether two problems have the same marks and enough 3-grams in common."""
  return _Known((one, other)).alike(0, 1, threshold)


class _Known:
  """Compares problems; remembers those of the last comparison."""

  def __init__(self, problems: Sequence[str]):
    self._problems = problems
    self._parsed = functools.lru_cache(4096)(self._parse)

  def _parse(self, at: int) -> tuple[set[tuple[str, ...]], tuple[str, ...]]:
    found = _words(self._problems[at])
    return _grams(found.words), found.marks

  def alike(self, one: int, other: int, threshold: float) -> bool:
    (ours, marks), (theirs, their_marks) = map(self._parsed, (one, other))
    if marks != their_marks:
      return False
    shared = len(ours & theirs)
    return shared >= threshold * (len(ours) + len(theirs) - shared)


class _Banded(NamedTuple):
  """The hashes of different problems whose marks others have, too.

  places: positions of the problems, [N].
  sizes: their 3-grams, [N].
  hashes: hash of each band, uint64 [N, _BANDS]; problems with other marks have
    other hashes.
  """

  places: np.ndarray
  sizes: np.ndarray
  hashes: np.ndarray


def _banded(problems: Sequence[str]) -> tuple[list[int], _Banded | None]:
  """(the first equal problem of each, hashes of the first ones or None).

  Only of those that have their marks in common with another one: the others
  are like none.
  """
  parents, places = [], []
  first: dict[bytes, int] = {}
  marks = array.array('Q')
  for at, problem in enumerate(problems):
    words = _words(problem)
    # The text itself would take as much memory as the rows.
    text = ' '.join((*words.words, '', *words.marks))
    # One without words is like no other.
    equal = first.setdefault(_digest(text, 16), at) if words.words else at
    parents.append(equal)
    if words.words and equal == at:
      places.append(at)
      marks.append(_hash(' '.join(words.marks)))
  parts, numbers = [], {}
  hashes = np.array(marks, np.uint64)
  shared = _repeated(hashes)
  for start in range(0, len(shared), _CHUNK_ROWS):
    some = shared[start : start + _CHUNK_ROWS]
    found = [_words(problems[places[i]]) for i in some]
    sizes = np.array([max(len(f.words) - _GRAM + 1, 1) for f in found])
    bands = _bands(found, sizes, numbers) ^ hashes[some][:, None]
    parts.append(([places[i] for i in some], sizes, bands))
  whole = (np.concatenate(each) for each in zip(*parts))
  return parents, _Banded(*whole) if parts else None


def _repeated(hashes: np.ndarray) -> np.ndarray:
  """Positions of the values that are there more than once."""
  _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
  return np.nonzero(counts[which] > 1)[0]


def _bands(
  found: Sequence[_Words], sizes: np.ndarray, numbers: dict[str, int]
) -> np.ndarray:
  """The hash of each band, [N, _BANDS]; `numbers` are hashes of words."""
  words = [w.words + ('',) * max(_GRAM - len(w.words), 0) for w in found]
  for word in set(itertools.chain.from_iterable(words)) - numbers.keys():
    numbers[word] = _hash(word)
  each = map(numbers.__getitem__, itertools.chain.from_iterable(words))
  flat = np.fromiter(each, np.uint64)
  grams = len(flat) - _GRAM + 1
  hashes = sum(flat[i : i + grams] * _MIX[i] for i in range(_GRAM))
  lengths = np.fromiter(map(len, words), np.int64)
  firsts = np.cumsum(lengths) - lengths
  offsets = np.concatenate([[0], np.cumsum(sizes)])
  # The place of each 3-gram; those over the end of a problem are none.
  places = np.arange(offsets[-1]) + np.repeat(firsts - offsets[:-1], sizes)
  matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
    hashes[places], offsets.astype(np.uint64), _PERMUTATIONS, _SEED
  )
  values = np.array(matrix.to_rows(), np.uint64)
  values = values.reshape(len(found), _BANDS, _PERMUTATIONS // _BANDS)
  weights = np.cumprod(np.full(values.shape[2], _MIX[0], np.uint64))
  return (values * weights).sum(axis=2, dtype=np.uint64)


def _digest(text: str, size: int) -> bytes:
  # Not `hash`, which is another in each process.
  return hashlib.blake2b(
    text.encode(errors='replace'), digest_size=size
  ).digest()


def _hash(text: str) -> int:
  return int.from_bytes(_digest(text, 8))


def _same(banded: _Banded | None) -> Iterator[list[int]]:
  """Yields positions of problems with one hash of a band; short ones first."""
  if banded is None:
    return
  for band in banded.hashes.T:
    order = np.lexsort((banded.places, banded.sizes, band))
    (cuts,) = np.nonzero(np.diff(band[order]))
    edges = np.concatenate([[0], cuts + 1, [len(order)]])
    for i in np.nonzero(np.diff(edges) > 1)[0]:
      yield banded.places[order[edges[i] : edges[i + 1]]].tolist()
