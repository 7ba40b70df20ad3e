"""What became of the runs in a folder, as a table of their newest metrics."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from acereason_jax.console import terminal

_TAIL_BYTES = 1 << 16
_COLUMNS = (
  ('reward', '.3f'),
  ('pass_rate', '.3f'),
  ('response_length', '.1f'),
  ('entropy', '.3f'),
  ('mismatch', '.1e'),
)
_HELDOUT = 'heldout/'
_MOST_HELDOUT = 4


def table(folder: pathlib.Path) -> str:
  """One line for each run below a folder, by name.

  Raises:
    ValueError: it holds no run.
  """
  runs = {
    path.name: read(path) for path in sorted(found(folder), key=_by_number)
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


def found(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """The runs in a folder, or the folder if it is one."""
  for path in (folder, *folder.glob('*/')):
    if (path / 'metrics.jsonl').is_file() or (path / 'config.json').is_file():
      yield path


def read(run: pathlib.Path) -> dict[str, Any]:
  """The newest value of each metric of a run, and its state."""
  newest: dict[str, Any] = {}
  for line in _last_lines(run / 'metrics.jsonl'):
    with contextlib.suppress(ValueError, RecursionError):
      values = json.loads(line)
      newest |= values if isinstance(values, dict) else {}
  done = (run / 'summary.json').is_file()
  state = 'done' if done else 'going' if newest else 'begun'
  return dict(newest, state=state)


def _last_lines(path: pathlib.Path) -> list[bytes]:
  try:
    with path.open('rb') as file:
      size = file.seek(0, os.SEEK_END)
      start = file.seek(max(0, size - _TAIL_BYTES))
      lines = file.read(_TAIL_BYTES).split(b'\n')
  except OSError:
    return []
  # The first may be the end of a line.
  return lines[1:] if start else lines


def _is_rate(name: str) -> bool:
  return name.startswith(_HELDOUT)


def _told(value: Any, form: str) -> str:
  # Files may hold anything.
  if type(value) not in (int, float) or not math.isfinite(value):
    return '-'
  return format(int(value) if form == 'd' else value, form)


def _by_number(path: pathlib.Path) -> tuple[int, str]:
  """Folders of a sweep begin with a number."""
  first = path.name.partition('-')[0]
  return (int(first) if first.isdecimal() else -1), path.name
