"""Charges each second of a process to the kind of work that it did.

The kind is that of the outermost open phase of the watchdog. So all that a look
at held-out questions needs is 'heldout', and the exchanges between processes
while rollouts are judged are 'judge'. Only compiles are taken out of the kind
that they were in.

`RUN/clock.jsonl` has these seconds, a line a step (run/clock_file.py). A line:

    {"start": 0, "step": 3, "time": 1790000000.1, "seconds": {"sample": 4.2}}
"""

import collections
import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Before the first phase, and between the phases until the first step: Python,
# imports, other processes, the run's folder.
START = 'start'
COMPILE = 'compile'
# No phase is open, although steps are being taken.
BETWEEN = 'between'
# The kind of work by outermost phase.
KINDS: Mapping[str, str] = {
  'load': 'load',
  'screen': 'screen',
  'restore': 'restore',
  'heldout': 'heldout',
  # The begin of a stage: its probe, and its first state.
  'enter': 'probe',
  'draw': 'draw',
  'reshard': 'reshard',
  'sample': 'sample',
  'judge': 'judge',
  'pack': 'pack',
  'update': 'update',
  'save': 'save',
  'write': 'write',
  'profile': 'write',
  'report': 'report',
}
_NAME = re.compile('[a-z_]{1,32}')
MOST = 1 << 53
# Seconds that two clocks are read within, if one of so many tries does.
_AT_ONCE, _READINGS = 1e-3, 10
_IMPORTED = time.monotonic()


class Line(NamedTuple):
  """A line of the file: an interval of a start, from the line before it.

  start: number of the start among those of the run, from 0.
  step: steps of the run that were done at its end.
  time: its end, unix seconds. The host's clock may have been set meanwhile.
  seconds: seconds by kind of work; their sum is its length.
  """

  start: int
  step: int
  time: float
  seconds: Mapping[str, float]


class Account:
  """The seconds since the last line, by kind.

  Phases and compiles are those of the thread that made it. Other threads may
  call `spent`.
  """

  def __init__(
    self,
    age: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """`age`: seconds since the process began; `clock`: gives seconds."""
    self._clock = clock
    self._charged = clock() - age
    self._kind = self._outside = START
    self._seconds: dict[str, float] = collections.defaultdict(float)
    # The compiles of this phase, without those inside others: (begin, end).
    self._compiles: list[tuple[float, float]] = []
    self._thread, self._lock = threading.get_ident(), threading.Lock()

  def phases(self, names: tuple[str, ...]) -> None:
    """From now on these phases are open; see `watchdog.told_of_phases`."""
    with self._lock:
      self._charge()
      self._compiles.clear()
      self._kind = KINDS.get(names[0], BETWEEN) if names else self._outside

  def steps_begin(self) -> None:
    """From now on the time between phases is `BETWEEN`."""
    with self._lock:
      self._charge()
      if self._kind == self._outside:
        self._kind = BETWEEN
      self._outside = BETWEEN

  def compiled(self, seconds: float) -> None:
    """A part of a compile, which took so long, has just ended."""
    if threading.get_ident() != self._thread:
      return
    with self._lock:
      self._charge()
      # Functions are traced inside others, and both are told: inner ones first.
      began, new = self._charged - seconds, seconds
      while self._compiles and self._compiles[-1][0] >= began:
        first, last = self._compiles.pop()
        new -= last - first
      self._compiles.append((began, self._charged))
      new = min(max(new, 0.0), self._seconds[self._kind])
      self._seconds[self._kind] -= new
      self._seconds[COMPILE] += new

  def spent(self) -> tuple[dict[str, float], float]:
    """(seconds by kind since the last line, unix time)."""
    with self._lock:
      for _ in range(_READINGS):
        self._charge()
        now = time.time()
        # Else another process had the processor between the two readings.
        if self._clock() - self._charged < _AT_ONCE:
          break
      return dict(self._seconds), now

  def settle(self, seconds: Mapping[str, float]) -> None:
    """These are in a line: the next begins without them."""
    with self._lock:
      for kind, spent in seconds.items():
        self._seconds[kind] -= spent

  def _charge(self) -> None:
    now = self._clock()
    self._seconds[self._kind] += now - self._charged
    self._charged = now


def process_age() -> float:
  """Seconds since this process began; since this import, if nothing tells."""
  with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
    with open('/proc/self/stat', 'rb') as file:
      # The name of the program, in brackets, may hold anything.
      fields = file.read().rpartition(b')')[2].split()
    began = int(fields[19]) / os.sysconf('SC_CLK_TCK')
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 0.0)
  return time.monotonic() - _IMPORTED


def to_text(line: Line) -> str:
  """The line, with its end; parts of a microsecond are left out."""
  seconds = {k: round(s, 6) for k, s in line.seconds.items()}
  seconds = {k: s for k, s in seconds.items() if s > 0}
  values = dict(line._asdict(), time=round(line.time, 6), seconds=seconds)
  return json.dumps(values) + '\n'


def read(text: str) -> list[Line]:
  """The lines of a file; torn ones, and those of no run, are dropped."""
  found = []
  for text_line in text.split('\n'):
    with contextlib.suppress(ValueError, RecursionError):
      if (line := _line(json.loads(text_line))) is not None:
        found.append(line)
  return found


def _line(value: Any) -> Line | None:
  match value:
    case {
      'start': int(start),
      'step': int(step),
      'time': float() | int() as at,
      'seconds': dict(seconds),
    }:
      good = (
        all(type(n) is int and 0 <= n < MOST for n in (start, step))
        and all(map(_is_time, (at, *seconds.values())))
        and all(map(_NAME.fullmatch, seconds))
      )
      return Line(start, step, float(at), seconds) if good else None
  return None


def _is_time(value: Any) -> bool:
  """Whether it is a number of seconds."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return 0 <= value < MOST and math.isfinite(value)
