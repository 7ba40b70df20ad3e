"""What became of the runs in a folder, as a table of their newest metrics."""

import contextlib
import json
import math
from typing import Any

from acereason_jax import storage
from acereason_jax.console import terminal
from acereason_jax.reporting import files, living

_MOST_BYTES, _LINES = 1 << 28, 200
_COLUMNS = (
  ('reward', '.3f'),
  ('pass_rate', '.3f'),
  ('response_length', '.1f'),
  ('entropy', '.3f'),
  ('mismatch', '.1e'),
)
_HELDOUT = 'heldout/'
_MOST_HELDOUT = 4
# States by how the newest start says that it ended.
_ENDED = dict(done='done', asked='stopped', told='failed')


def table(folder: str) -> str:
  """One line for each run below a folder, which may be in a bucket.

  Raises:
    ValueError: it holds no run.
  """
  runs = {
    name or '.': read(storage.join(folder, name) if name else folder)
    for name in found(folder)
  }
  if not runs:
    raise ValueError(
      f'--status={folder}: holds no run; expected a folder of runs, each with '
      'metrics.jsonl'
    )
  heldout = sorted({k for run in runs.values() for k in run if _is_rate(k)})
  columns = [*_COLUMNS, *((name, '.3f') for name in heldout[:_MOST_HELDOUT])]
  head = ['run', 'state', 'step', *(name for name, _ in columns)]
  rows = [
    [
      terminal.one_line(name, 80),
      run['state'],
      _told(run.get('step'), 'd'),
      *(_told(run.get(key), form) for key, form in columns),
    ]
    for name, run in runs.items()
  ]
  widths = [max(map(len, column)) for column in zip(head, *rows)]
  lines = ('  '.join(map(str.ljust, row, widths)) for row in (head, *rows))
  return '\n'.join(line.rstrip() for line in lines)


def found(folder: str) -> list[str]:
  """The runs in a folder, or the folder if it is one, by number."""
  kept = ('metrics.jsonl', 'config.json')
  every = [name.rpartition('/') for name in storage.names(folder)]
  runs = {run for run, _, file in every if file in kept and '/' not in run}
  return sorted(runs, key=_by_number)


def read(run: str) -> dict[str, Any]:
  """The newest value of each metric of a run, and its state."""
  newest: dict[str, Any] = {}
  content = storage.read(storage.join(run, files.METRICS), _MOST_BYTES)
  for line in (content or b'').split(b'\n')[-_LINES:]:
    with contextlib.suppress(ValueError, RecursionError):
      values = json.loads(line)
      newest |= values if isinstance(values, dict) else {}
  return dict(newest, state=_state(run, bool(newest)))


def _state(run: str, stepped: bool) -> str:
  """See docs/launch.md; `stepped`: whether it took a step."""
  if storage.read(storage.join(run, files.SUMMARY), _MOST_BYTES) is not None:
    return 'done'
  starts, lives = [], None
  with contextlib.suppress(ValueError):  # Damaged: nothing is known.
    starts, lives = living.lives(run, files.starts(run))
  if starts and starts[-1].ended in _ENDED:
    return _ENDED[starts[-1].ended]
  if lives is False:
    return 'died'
  return ('going' if stepped else 'begun') + '?' * (lives is None)


def _is_rate(name: str) -> bool:
  return name.startswith(_HELDOUT)


def _told(value: Any, form: str) -> str:
  # Files may hold anything.
  if type(value) not in (int, float) or not math.isfinite(value):
    return '-'
  return format(int(value) if form == 'd' else value, form)


def _by_number(name: str) -> tuple[int, str]:
  """Folders of a sweep begin with a number."""
  first = name.partition('-')[0]
  return (int(first) if first.isdecimal() else -1), name
