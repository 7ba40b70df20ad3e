"""The papers' tables as data, to compare an evaluation with.

A config names the row of a model, and each of its benchmarks names a column.
Nothing is guessed from names. Rates are fractions; `codeforces` is a rating and
`codeforces_percentile` the share of humans below it.
"""

import types
from collections.abc import Mapping
from typing import NamedTuple

_PAPER = 'arXiv 2505.16400'
_PAPER_1_1 = 'arXiv 2506.13284'
# Rollouts of each problem [P 4.1]; 0 where the paper does not say.
_K = types.MappingProxyType(
  {
    **dict(aime24=64, aime25=64, math500=4, hmmt=64, brumo=64),
    **dict(lcb_v5=8, lcb_v6=8, codeforces=0, codeforces_percentile=0),
    **dict(evalplus=4),
  }
)
COLUMNS = tuple(_K)
# The standard error of AIME 2024 at avg@64 that the paper tells of its models;
# 0.018 at 16 and 0.012 at 32.
_AIME24_ERROR = 0.007


class Score(NamedTuple):
  """One number of a table.

  value: fraction of rollouts that are right; for codeforces, a rating.
  k: rollouts of each problem that it is the average of; 0 if unknown.
  error: standard error over reruns; None if the source gives none.
  source: where it was published.
  """

  value: float
  k: int
  error: float | None
  source: str


_ALONG = ('aime24', 'aime25', 'lcb_v5', 'lcb_v6')
# Percents, in the order of COLUMNS or, for checkpoints on the way, of _ALONG.
# None: not published.
_ROWS = {
  'r1-distill-qwen-7b': (
    *(55.5, 39.0, 92.8, 26.3, 51.2),
    *(37.6, 34.1, 1189, 57.4, 80.4),
  ),
  'r1-distill-qwen-14b': (
    *(69.7, 50.2, 93.9, 31.7, 61.1),
    *(53.1, 47.9, 1481, 85.6, 83.9),
  ),
  'acereason-7b': (
    *(69.0, 53.6, 94.1, 33.9, 62.2),
    *(51.8, 44.1, 1475, 84.8, 84.6),
  ),
  'acereason-14b': (
    *(78.6, 67.4, 95.0, 46.4, 72.3),
    *(61.1, 54.9, 2024, 98.1, 85.7),
  ),
  'acereason-1.1-7b': (
    *(72.6, 64.8, 95.3, 42.9, None),
    *(57.2, 52.1, None, None, 84.8),
  ),
  # After math at 8K to 24K, and after code at 24K and 32K.
  'acereason-7b-math': (65.9, 52.5, 44.4, 37.6),
  'acereason-7b-code': (66.9, 51.7, 51.8, 44.1),
  'acereason-14b-math': (76.6, 63.4, 58.6, 50.9),
  'acereason-14b-code': (75.7, 63.9, 61.1, 54.9),
}
NAMES = tuple(_ROWS)


def row(name: str) -> Mapping[str, Score]:
  """The published scores of a model, by column; only those that there are.

  Raises:
    ValueError: no such row; one line with the names.
  """
  if name not in _ROWS:
    raise ValueError(
      f'published={name!r:.60}: no such row; give one of {", ".join(NAMES)}, '
      "or '' for none"
    )
  percents = _ROWS[name]
  columns = COLUMNS if len(percents) == len(COLUMNS) else _ALONG
  return {
    column: _score(name, column, value)
    for column, value in zip(columns, percents, strict=True)
    if value is not None
  }


def score(name: str, column: str) -> Score | None:
  """The published score of a model in a column; None if there is none.

  Raises:
    ValueError: no such row or column; one line with the names.
  """
  if column not in COLUMNS:
    raise ValueError(
      f'published={column!r:.60}: no such column; give one of '
      f"{', '.join(COLUMNS)}, or '' for none"
    )
  return row(name).get(column)


def _score(name: str, column: str, value: float) -> Score:
  return Score(
    # Rounded, because 69.0 / 100 has more digits than the paper.
    value if column == 'codeforces' else round(value / 100, 4),
    _K[column],
    _AIME24_ERROR if column == 'aime24' and _is_ours(name) else None,
    _PAPER_1_1 if '-1.1-' in name else _PAPER,
  )


def _is_ours(name: str) -> bool:
  """Whether it is a model of the 1.0 paper, and no start of one."""
  return name.startswith('acereason-') and '-1.1-' not in name
