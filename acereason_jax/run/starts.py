"""The starts of a run, in its folder; one that gets nowhere is not repeated.

`starts.jsonl` has a line for each start that opened the run's journal. The last
line is written again as the start goes on. A supervisor starts a run that died
again and again; after three starts that died where they began, in the same
code, the run ends with a line for the user instead.
"""

import contextlib
import datetime
import hashlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import storage
from acereason_jax.console import exits, signals
from acereason_jax.hosts import watchdog
from acereason_jax.run import checkpoint, handshake, judged, versions
from acereason_jax.run.values import Run, Stopped

NAME = 'starts.jsonl'
# So many starts without progress end a run.
TRIES = 3
# Errors with a line for the user; others are bugs.
TOLD = (
  *(judged.JudgeFailed, checkpoint.Damaged, Stopped, OSError),
  *(SystemExit, KeyboardInterrupt),
)
_MAX_BYTES = 1 << 20
_KEPT = 200
_UNKNOWN: Mapping[str, Any] = {}


class Start(NamedTuple):
  """A line of the file.

  time: when it began, UTC.
  host: name of the host of process 0.
  processes: number of processes.
  what: digest of the code and the config.
  step: step of the checkpoint that it began with; -1: there was none.
  entries: entries of the journal that it began with.
  phase: the last phase that it entered for the first time.
  ended: 'done', 'asked' by a signal, 'told' the user what to fix; '' if it
    died, or has not ended.
  config: name of the config's file, for the run's report; '' if it is unknown.
  made: the fields of `versions.Made`; empty if it is of an older version.
  """

  time: str
  host: str
  processes: int
  what: str
  step: int
  entries: int
  phase: str = ''
  ended: str = ''
  config: str = ''
  made: Mapping[str, Any] = _UNKNOWN


def now(run: Run, step: int | None, entries: int) -> Start:
  """This start, which has a checkpoint of `step` and `entries` of a journal."""
  time = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  # Only the first process writes it.
  first = jax.process_index() == 0
  return Start(
    time,
    socket.gethostname(),
    jax.process_count(),
    digest(run),
    -1 if step is None else step,
    entries,
    config=run.name,
    made=versions.here()._asdict() if first else _UNKNOWN,
  )


def digest(run: Run) -> str:
  """A digest of the config and of the source files that the run is made of."""
  sources = dict(handshake.sources(run.config))
  text = json.dumps([run.config, sources], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_vain(before: Sequence[Start], here: Start) -> list[Start]:
  """The starts right before this one that died and changed nothing.

  What a start did shows in where the next one begins. A start with another
  code, config or number of processes is a new try.
  """
  found = []
  for start in reversed(before):
    same = start.what == here.what and start.processes == here.processes
    moved = (start.step, start.entries) != (here.step, here.entries)
    if start.ended or moved or not same:
      break
    found.append(start)
  return found


@contextlib.contextmanager
def recorded(root: str, here: Start) -> Iterator[None]:
  """Inside, the run goes on; its folder has a line about this start.

  Raises:
    Stopped: one line; three starts before this one were in vain.
  """
  path = storage.join(root, NAME)
  with exits.one_line_for(ValueError):  # It is no file of a run's size.
    found = storage.read(path, _MAX_BYTES) or b''
  before = _parse(found.decode(errors='replace'))
  vain = in_vain(before, here)
  count = np.int32(len(vain))
  if jax.process_count() > 1:
    # Also: no process writes before all have read.
    count = multihost_utils.process_allgather(count).max()
  if count >= TRIES:
    phase = vain[0].phase if vain else ''
    raise Stopped(
      f'{count} starts without progress, the last ended in phase '
      f'{phase or "start"!r}: look at its stacks-*.txt and output; remove '
      f'{path} to try again'
    )
  if jax.process_index() != 0:
    yield
    return

  entered = set()

  def note(**changes: str) -> None:
    nonlocal here
    here = here._replace(**changes)
    lines = [*before[1 - _KEPT :], here]
    text = ''.join(f'{json.dumps(s._asdict())}\n' for s in lines)
    storage.write(path, text.encode())

  def enter(phases: tuple[str, ...]) -> None:
    # The innermost, which was entered before if another ended inside it.
    for phase in phases[-1:]:
      if phase not in entered:
        entered.add(phase)
        note(phase=phase)

  note()
  with watchdog.told_of_phases(enter), _ended(note):
    yield


@contextlib.contextmanager
def _ended(note: Callable[..., None]) -> Iterator[None]:
  """Notes how the block ends; nothing if that is a bug."""
  ended = ''
  try:
    yield
    ended = 'done'
  except signals.Asked:
    ended = 'asked'
    raise
  except TOLD:
    ended = 'told'
    raise
  finally:
    # The error that ends the run matters more than this one.
    with contextlib.suppress(OSError):
      note(ended=ended)


def _parse(text: str) -> list[Start]:
  """The starts of a file; a line that no run wrote counts for nothing."""
  found = []
  for line in text.splitlines():
    with contextlib.suppress(ValueError, RecursionError, TypeError):
      start = Start(**json.loads(line))
      kinds = [type(value) for value in start]
      if kinds == [str, str, int, str, int, int, str, str, str, dict]:
        found.append(start)
  return found
