"""The seconds that a phase of a step takes, on the wall and of CPU time.

A phase is a part of the step's time, so the work of any thread counts for the
phase in which it runs. Judges are other processes: their work counts nowhere.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple


class Seconds(NamedTuple):
  """A reading of the clock, or the seconds between two readings.

  wall: wall seconds.
  cpu: CPU seconds of all threads of this process.
  """

  wall: float
  cpu: float


def now() -> Seconds:
  """A reading; only differences between readings mean something."""
  return Seconds(time.monotonic(), time.process_time())


def between(began: Seconds, ended: Seconds) -> Seconds:
  return Seconds(ended.wall - began.wall, ended.cpu - began.cpu)


def total(parts: Iterable[Seconds]) -> Seconds:
  return Seconds(*map(sum, zip(*parts)))


def named(phase: str, seconds: Seconds) -> dict[str, float]:
  """The metrics of a phase."""
  return {
    f'seconds_{phase}': seconds.wall,
    f'cpu_seconds_{phase}': seconds.cpu,
  }
