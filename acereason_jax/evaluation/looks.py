"""The held-out pass rates of a training run, from the rows that it keeps.

A run's questions are the same at every look, and so are its draws. So two looks
differ by less than their errors where the model has not changed.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from acereason_jax.data import archive, kept
from acereason_jax.evaluation import estimators, shown

_HEAD = (
  *('step', 'domain', 'problems', 'avg@k', 'rerun', 'problem', 'trunc'),
  *('length', 'failed'),
)
_COLUMNS = ('domain', 'prompt', 'status', 'stop', 'length')
_JUDGED = ('right', 'wrong', 'unparsed')


def is_run(path: str) -> bool:
  """Whether a folder is that of a run with kept rollouts. Raises: OSError."""
  return kept.is_run(path) and bool(kept.places(path))


def told(run: str) -> list[str]:
  """Lines: a table of each look and domain.

  Raises:
    ValueError, OSError: one line; there are none, or a file is damaged.
  """
  lines = []
  for place in kept.places(run):
    if place.phase in (archive.HELDOUT, archive.BEFORE):
      table = kept.rows(run, place, _COLUMNS)
      columns = {name: _plain(table[name]) for name in _COLUMNS}
      for domain in np.unique(columns['domain']):
        chosen = columns['domain'] == domain
        part = {name: column[chosen] for name, column in columns.items()}
        lines.append([str(place.step), str(domain), *_rates(part)])
  if not lines:
    raise ValueError(f'{run}: has no held-out answers; config.heldout asks')
  return [
    'Held-out answers of a run. rerun: standard error over other draws;',
    'problem: over other problems. In percent and points.',
    *shown.table([_HEAD, *lines], names=2),
  ]


def _plain(column: Any) -> np.ndarray:
  return np.array(column.to_pylist(), object)


def _rates(part: Mapping[str, np.ndarray]) -> list[str]:
  """The cells of a look in one domain, from its columns."""
  prompts, places = np.unique(part['prompt'], return_inverse=True)
  judged = np.isin(part['status'], _JUDGED)
  right = part['status'] == 'right'
  n, c = (
    np.bincount(places[which], minlength=len(prompts))
    for which in (judged, right)
  )
  # A problem without a verdict has no rate.
  found = estimators.average(n[n > 0], c[n > 0])
  length = part['length'].astype(np.int64).mean()
  return [
    f'{shown.count(found.problems)}x{shown.mean(_known(found.k))}',
    shown.percent(_known(found.avg)),
    shown.error(_known(found.rerun_error)),
    shown.error(_known(found.problems_error)),
    f'{shown.percent(float((part["stop"] == "length").mean()))}%',
    shown.size(float(length)),
    str(int((~judged).sum())),
  ]


def _known(value: float) -> float | None:
  return None if math.isnan(value) else value
