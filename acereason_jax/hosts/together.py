"""Commands of several processes: flags, how they meet and how they end."""

import contextlib
import os
import time
import traceback
import types
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from acereason_jax.console import command_line, exits, signals
from acereason_jax.hosts import cluster, watchdog
from acereason_jax.hosts import gang as gang_lib
from acereason_jax.hosts import ids as ids_lib


def define(flags: command_line.Flags) -> None:
  """Adds the flags that `join` and the watchdog read."""
  flags.string(
    'coordinator',
    None,
    "host:port of process 0, for a run of several processes; jax's own service "
    "takes the next port. 'auto' on Slurm, Kubernetes, SkyPilot and TPU pods.",
  )
  flags.integer('processes', None, 'Processes of this run.')
  flags.integer('process', None, 'Index of this process.')
  flags.number(
    'join_seconds', 600.0, 'All processes must meet within it.', lower_bound=1.0
  )
  flags.number(
    'peer_seconds',
    300.0,
    'A process that says nothing for so long is lost.',
    lower_bound=1.0,
  )
  flags.number(
    'hang_seconds',
    None,
    'Ends a process that made no progress for so many seconds; a compile and a '
    'save must fit. 0: never; default: by phase, 15 minutes to 2 hours.',
    lower_bound=0.0,
  )


def join(args: types.SimpleNamespace) -> gang_lib.Gang:
  """Meets the other processes of this run, if there are any.

  Raises:
    SystemExit: in one line, if they do not meet.
  """
  given = ids_lib.Flags(args.coordinator, args.processes, args.process)
  with exits.one_line_for(ValueError):
    ids = ids_lib.find(given, os.environ, cluster.detect)
  return gang_lib.join(
    ids,
    watchdog.status,
    join_seconds=args.join_seconds,
    peer_seconds=args.peer_seconds,
  )


@contextlib.contextmanager
def ends_all(gang: gang_lib.Gang) -> Iterator[None]:
  """Makes an error of one process end the others too, at once.

  Python's own exit would wait 300 seconds for them, as they wait for this one.
  """
  try:
    yield
  except BaseException as e:
    if gang.alone:
      raise
    if isinstance(e, SystemExit) and isinstance(e.code, str):
      gang.end(e.code, exits.FOR_USER)
    # A lost process ends this one with a line of its own, and breaks what jax
    # does at the same moment.
    time.sleep(gang_lib.SETTLE_SECONDS)
    gang.end(traceback.format_exc().rstrip(), exits.BUG)
  gang.leave()


def stop_request() -> signals.StopRequest:
  """One that all processes heed at the same safe point; once jax has them."""
  several = jax.distributed.is_initialized() and jax.process_count() > 1
  return signals.StopRequest(
    multihost_utils.reached_preemption_sync_point if several else None
  )


@contextlib.contextmanager
def interruptible(how: str) -> Iterator[None]:
  """Makes Ctrl+C an end in one line, which says `how` it goes on."""
  try:
    yield
  except KeyboardInterrupt:
    raise SystemExit(f'interrupted; the same command goes on {how}') from None
