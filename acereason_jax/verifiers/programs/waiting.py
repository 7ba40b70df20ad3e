"""Waits for a program, and measures its sleep apart from waits for a core."""

import contextlib
import math
import os
import select
import signal
import time
from typing import NamedTuple

from acereason_jax.verifiers.programs import descriptors

# A program is killed this far above its CPU limit, so errors of measuring
# cannot be the cause. The kernel's own limit counts ticks, which on a busy
# machine are a quarter off.
_CPU_FACTOR = 1.3
CHECK_SECONDS = 0.1
# Waits count up to this multiple of the CPU time if threads may have waited for
# each other.
_WAIT_FACTOR = 3.0


class Run(NamedTuple):
  """A program that was started.

  pid: id of its process.
  began: time.monotonic() at its start.
  busy: result of `busy` at its start, in seconds.
  confined: end of a pipe that reports its confinement.
  """

  pid: int
  began: float
  busy: float
  confined: int


def wait(run: Run, request: dict, processes: int) -> tuple[bool, float]:
  """Waits for a child, and kills it at its limits.

  Returns whether it slept too long, and the seconds it slept. A program that
  waits for a core is neither asleep nor running: only its wall time is limited
  then, because the machine causes the wait. Wall time and sleep count from its
  confinement on, which alone may take longer on a busy machine.
  """
  pid, spent = run.pid, run.busy
  handle = os.pidfd_open(pid)
  poll = select.poll()
  poll.register(handle, select.POLLIN)
  poll.register(run.confined, select.POLLIN)
  # linux/posix-timers.h: the clock of a process, in the scheduler's counting.
  clock, most = ~pid << 3 | 2, _CPU_FACTOR * request['cpu_seconds']
  seconds = min(most, request['wall_seconds'], request['asleep_seconds'])
  waits: dict[str, float] = {}
  timed_out = False

  def measure() -> tuple[float, float, float]:
    """(seconds since it began, on a core, neither on a core nor waiting)."""
    waits.update(_waits(pid, processes))
    passed, ran = time.monotonic() - run.began, time.clock_gettime(clock)
    return passed, ran, passed - ran - _believed(waits, ran)

  poll.poll()  # Until it is confined, or has ended.
  poll.unregister(run.confined)
  confining, _, still = measure()
  while not poll.poll(seconds * 1000 + 1):
    passed, ran, asleep = measure()
    wall, cpu = request['wall_seconds'] + confining - passed, most - ran
    left = min(wall, request['asleep_seconds'] + still - asleep)
    timed_out = left <= 0
    if min(left, cpu) <= 0:
      os.kill(pid, signal.SIGKILL)
      break
    # Several threads may spend it faster than one.
    seconds = max(min(left, cpu / 2), CHECK_SECONDS)
    spent = busy(processes)
  else:
    # It ended by itself, and exists until it is waited for. The time until this
    # process noticed its end does not count as sleep.
    asleep = measure()[2] - (busy(processes) - spent)
  poll.poll()
  os.close(handle)
  return timed_out, max(0.0, asleep - still) if processes >= 0 else 0.0


def _believed(waits: dict[str, float], ran: float) -> float:
  """Returns the seconds that a process waited for cores, from its threads'.

  Threads that wait for each other's cores wait more than the process does, and
  could so pay for sleep. So all their waits count only up to a multiple of
  `ran`.
  """
  total, longest = sum(waits.values()), max(waits.values(), default=0.0)
  return min(total, max(longest, _WAIT_FACTOR * ran))


def _waits(pid: int, processes: int) -> dict[str, float]:
  """Returns the seconds that each thread of a process waited for cores.

  Infinity if the kernel does not count or report them.
  """
  if processes < 0:
    return {'': math.inf}
  waits = {}
  try:
    tasks = os.open(f'{pid}/task', os.O_RDONLY, dir_fd=processes)
    try:
      for thread in os.listdir(tasks):
        # Threads may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
          waits[thread] = _schedule(f'{thread}/schedstat', tasks)[1]
    finally:
      os.close(tasks)
  except OSError:
    return {'': math.inf}
  return waits


def busy(processes: int) -> float:
  """Returns the seconds that this process ran or waited for a core."""
  return sum(_schedule('self/schedstat', processes)) if processes >= 0 else 0.0


def _schedule(path: str, folder: int) -> tuple[float, float]:
  """Returns the seconds that a thread was on a core, and waited for one."""
  ran, waited, _ = descriptors.read_text(path, folder).split()
  return int(ran) / 1e9, int(waited) / 1e9


def open_processes() -> int:
  """Returns /proc, open, or -1 if it does not count how long threads wait."""
  try:
    processes = os.open('/proc', os.O_RDONLY | os.O_DIRECTORY)
    return processes if _schedule('self/schedstat', processes)[0] else -1
  except (OSError, ValueError):
    return -1
