"""Ends a process that no longer moves, and says where it stood.

The main thread says what it does, with `phase` and `progress`. A thread counts
the seconds since the last of these. After too many it writes the stacks of all
threads, one line, and ends the process: the command can be started again, and
a device that waits for ever cannot.

    with watchdog.phase('sample'):
      for chunk in chunks:
        ...
        watchdog.progress()

The thread's ticks are the clock. So a process that was suspended was not slow,
and neither was one on a machine that had no time for it. A library that holds
Python's lock stops the clock too; then only other hosts notice.
"""

import contextlib
import faulthandler
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from acereason_jax import storage
from acereason_jax.console import exits
from acereason_jax.hosts import gang as gang_lib

# Seconds without progress in a phase, however fast it was before.
FLOORS = {
  # Reads the model, tokenises the data; a first start downloads both.
  'load': 7200.0,
  # Reference answers, which a judge of one's own may take long to read.
  'screen': 7200.0,
  # Arrays of every host from one network disk.
  'restore': 3600.0,
  # Two copies may be written, and an object store is waited for.
  'save': 3600.0,
  # One chunk of decoding, or the preparation of the first.
  'sample': 900.0,
  # Judges have limits of their own, and each second of the wait is progress.
  'judge': 900.0,
  # Waits for the slowest host, which may write to a slow disk.
  'exchange': 1800.0,
  # One microbatch of one width.
  'microbatch': 1800.0,
  # The optimizer's step.
  'update': 1800.0,
}
# A program for a pod may compile for 30 minutes, in the first time of a phase.
# Its second time may be as long, as nothing is known yet.
COMPILE = 3600.0
# All between: prompts, packing, lines and metrics.
OTHER = 1800.0
OUTSIDE = 'between phases'
# A phase may take so many times as long as it ever did in this process.
FACTOR = 5.0

_TICK = 0.5
_WRITING_SECONDS = 10.0


class _Phase(NamedTuple):
  """A phase that has begun.

  name: name, a key of FLOORS or another.
  of: what the phase compiles once for, with `name`.
  """

  name: str
  of: Hashable


# The main thread alone changes these; the thread reads them.
_open: list[_Phase] = []
_begun: set[_Phase] = set()
_longest: dict[_Phase, float] = {}
_told: list[Callable[[tuple[str, ...]], None]] = []
_clock = 0.0
_marked = 0.0


@contextlib.contextmanager
def phase(name: str, of: Hashable = '') -> Iterator[None]:
  """Inside, the process does `name`; phases may be inside each other.

  Each `of` compiles anew: its first time may take as long as a compile.
  """
  here = _Phase(name, of)
  _mark()
  _open.append(here)
  try:
    _tell()
    yield
  finally:
    progress()
    _open.remove(here)
    _tell()


def progress() -> None:
  """Says that the innermost phase has moved on."""
  spent = _mark()
  if _open:
    here = _open[-1]
    # The first time compiled, and is no measure. So what it was given, the
    # second gets too: else a slow machine's phase would pass once, and hang.
    if here in _begun:
      _longest[here] = max(_longest.get(here, 0.0), spent)
    _begun.add(here)


def doing() -> str:
  """The open phases, the outermost first: 'heldout: sample'."""
  return ': '.join([p.name for p in _open]) or OUTSIDE


def status() -> str:
  """What the process does, and since when without progress.

  For example 'heldout: sample, 43 s'.
  """
  return f'{doing()}, {_clock - _marked:,.0f} s'


@contextlib.contextmanager
def told_of_phases(
  call: Callable[[tuple[str, ...]], None],
) -> Iterator[None]:
  """Inside, `call` gets the open phases each time one begins or ends.

  They are names, the outermost first; () between phases.
  """
  _told.append(call)
  try:
    yield
  finally:
    _told.remove(call)


def start(folder: str, seconds: float | None, gang: gang_lib.Gang) -> None:
  """Starts to watch this process, to its end.

  Processes wait for each other, so one that hangs is not always the first to
  notice. All of them write their stacks.

  Args:
    folder: where the stacks are written; it may be at gs://.
    seconds: replaces every floor; 0: nothing is watched; None: the table.
    gang: this process and the others.
  """
  path = storage.join(folder, f'stacks-{gang.own.process}.txt')
  gang.witness = lambda: _written(path)
  if seconds == 0:
    return
  _mark()
  watch = threading.Thread(
    target=_watch, args=(path, seconds, gang), daemon=True, name='watchdog'
  )
  watch.start()


def deadline(
  here: _Phase | None, longest: float | None, seconds: float | None
) -> float:
  """Seconds without progress after which a phase hangs.

  `longest` is the longest that it took before, without the first time, which
  compiles; None if there is none. `seconds` replaces the floor.
  """
  floor = seconds
  if floor is None:
    floor = FLOORS.get(here.name, OTHER) if here else OTHER
    if here and longest is None:
      floor = max(floor, COMPILE)
  return max(floor, FACTOR * (longest or 0.0))


def _tell() -> None:
  names = tuple(phase.name for phase in _open)
  for call in _told:
    call(names)


def _mark() -> float:
  """Begins to count anew; returns the seconds counted."""
  global _marked
  spent, _marked = _clock - _marked, _clock
  return spent


def _watch(path: str, seconds: float | None, gang: gang_lib.Gang) -> None:
  global _clock
  last = time.monotonic()
  while True:
    time.sleep(_TICK)
    now = time.monotonic()
    _clock += min(now - last, 2 * _TICK)
    last = now
    here = next(iter(_open[-1:]), None)
    longest, still = _longest.get(here), _clock - _marked
    if still > deadline(here, longest, seconds):
      name = here.name if here else OUTSIDE
      where = _dump(path, gang.alone)
      line = _line(name, still, longest, str(gang.own), where)
      gang.end(line, exits.BUG, told=line)


def _line(
  name: str, still: float, longest: float | None, who: str, where: str
) -> str:
  before = 'no time before to compare with'
  if longest:
    before = f'the longest before took {longest:,.0f} s'
  return (
    f'error: {who}: no progress in {name!r} for {still:,.0f} s ({before}); '
    f'the stacks {where}; the same command resumes'
  )


def _dump(path: str, alone: bool) -> str:
  """Writes the stacks of all threads; tells where they are."""
  written = _written(path)
  with contextlib.suppress(OSError, ValueError, RuntimeError):
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
  if not written:
    return 'are above'
  return f'are in {path}' + ('' if alone else ', those of others beside it')


def _written(path: str) -> bool:
  """Whether the stacks of all threads could be written in time."""
  written = threading.Event()
  # The disk may be what hangs.
  write = lambda: _write_stacks(path) and written.set()
  threading.Thread(target=write, daemon=True).start()
  return written.wait(_WRITING_SECONDS)


def _write_stacks(path: str) -> bool:
  """Whether it wrote the stacks of all threads."""
  # The dump goes to a descriptor, which not every place has.
  with contextlib.suppress(OSError), tempfile.TemporaryFile() as memory:
    faulthandler.dump_traceback(memory, all_threads=True)
    memory.seek(0)
    storage.write(path, memory.read())
    return True
  return False
