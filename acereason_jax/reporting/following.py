"""The steps of a run that goes on, read from a file that still grows."""

import bisect
import errno
import math
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax import storage
from acereason_jax.reporting import values

# Bytes of a file, of its longest line, and of one read.
_MOST_BYTES = 256 << 20
_MOST_LINE = 4 << 20
_CHUNK = 8 << 20
# Steps of one answer; the next answer has those after it.
MOST_STEPS = 2000
# Seconds between looks at a file; an object of a bucket is read whole.
_EVERY, _EVERY_REMOTE = 1.0, 30.0
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Lines:
  """The lines of a file, each of them once.

  A last line that is not whole waits for its end. If another file took the
  place, as when a run starts again, its lines come from the first on.
  """

  def __init__(self, path: str):
    self._path = path
    self._remote = storage.is_remote(path)
    # It stays open: no other file has its number as long as it does.
    self._file = None
    # The bytes read; of a local file those after its last whole line.
    self._seen, self._skips = b'', False
    self._other = False

  def read(self) -> tuple[bool, str]:
    """(whether the earlier lines are of another file, new lines).

    The lines are '' if there is none now. Raises: ValueError, OSError.
    """
    fresh = self._read_remote() if self._remote else self._read_local()
    other, self._other = self._other, False
    return other, fresh.decode(errors='replace')

  def close(self) -> None:
    if self._file is not None:
      self._file.close()
    self._file, self._seen, self._skips = None, b'', False

  def _read_remote(self) -> bytes:
    content = storage.read(self._path, _MOST_BYTES) or b''
    whole = content[: content.rfind(b'\n') + 1]
    self._other |= not whole.startswith(self._seen)
    fresh = whole if self._other else whole[len(self._seen) :]
    self._seen = whole
    return fresh

  def _read_local(self) -> bytes:
    if self._is_other():
      self.close()
      self._other = True
    if self._file is None and not self._open():
      return b''
    if self._file.tell() > _MOST_BYTES:
      raise ValueError(
        f'{self._path}: more than {_MOST_BYTES:,} bytes; is it the file that '
        'was meant?'
      )
    read = self._seen + self._file.read(_CHUNK)
    head, end, tail = read.rpartition(b'\n')
    if self._skips and end:
      # The end of a line that was too long.
      _, _, head = head.partition(b'\n')
      self._skips = False
    if len(tail) > _MOST_LINE:
      tail, self._skips = b'', True
    self._seen = tail
    return head

  def _is_other(self) -> bool:
    if self._file is None:
      return False
    known = os.fstat(self._file.fileno())
    try:
      found = os.stat(self._path)
    except FileNotFoundError:
      return True
    same = (known.st_dev, known.st_ino) == (found.st_dev, found.st_ino)
    return not same or found.st_size < self._file.tell()

  def _open(self) -> bool:
    try:
      # Does not wait for the writer of a pipe.
      descriptor = os.open(self._path, _FLAGS)
    except FileNotFoundError:
      return False
    file = open(descriptor, 'rb')  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
      file.close()
      raise OSError(errno.EINVAL, f'{self._path}: not a file; remove it')
    self._file = file
    return True


class Steps:
  """The steps of a run: one thread refreshes them, any may read them.

  Args:
    path: the run's metrics.jsonl.
    parse: lines of that file -> their objects, each with an int 'step'.
    curves: the objects of all steps, in order -> their curves.
  """

  def __init__(
    self,
    path: str,
    parse: Callable[[str], Sequence[Mapping[str, Any]]],
    curves: Callable[[Sequence[Mapping[str, Any]]], values.Curves],
  ):
    self._lines, self._parse, self._to_curves = Lines(path), parse, curves
    self._records = {}
    self._lock = threading.Lock()
    self._curves, self._changes = None, 0
    self.every = _EVERY_REMOTE if storage.is_remote(path) else _EVERY

  @property
  def changes(self) -> int:
    """How often they changed."""
    return self._changes

  def refresh(self) -> None:
    """Looks for new steps. Raises: ValueError, OSError."""
    changed = False
    while True:
      other, text = self._lines.read()
      if other:
        self._records.clear()
      found = self._parse(text)
      self._records |= {record['step']: record for record in found}
      changed |= other or bool(found)
      if not text:
        break
    if changed:
      records = [self._records[step] for step in sorted(self._records)]
      made = self._to_curves(records) if records else None
      with self._lock:
        self._curves, self._changes = made, self._changes + 1

  def after(self, step: int) -> dict[str, Any]:
    """The steps after a step, at most MOST_STEPS, for the page's script."""
    with self._lock:
      curves = self._curves
    if curves is None:
      curves = values.Curves('', (), (), (), (), (), ())
    return answer(curves, step)


def answer(curves: values.Curves, after: int) -> dict[str, Any]:
  """The first steps of curves after a step; a number that is no number: None.

  {"steps": [...], "hours": [...], "tokens": [...], "series": {name: [...]},
  "restarts": [...], "bands": [[stage, first, last], ...]}
  """
  begin = bisect.bisect_right(curves.steps, after)
  part = slice(begin, begin + MOST_STEPS)
  steps = list(curves.steps[part])
  first, last = (steps[0], steps[-1]) if steps else (0, -1)
  return dict(
    steps=steps,
    hours=list(map(_finite, curves.hours[part])),
    tokens=list(map(_finite, curves.tokens[part])),
    series={s.name: list(map(_finite, s.values[part])) for s in curves.series},
    restarts=[step for step in curves.restarts if after < step <= last],
    bands=[
      [band.stage, max(band.first, first), min(band.last, last)]
      for band in curves.bands
      if band.last >= first and band.first <= last
    ],
  )


def _finite(value: float | None) -> float | None:
  return value if value is not None and math.isfinite(value) else None
