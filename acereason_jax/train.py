"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again resumes where the run stopped. The end of a stage, the
evaluation of held-out questions and stages that have not begun may differ then:
see docs/recipe.md. Exit status 75 means stopped by a signal and saved; 1,
something for the user to fix, in one line (--verbosity=1 shows the traceback
too).
"""

import contextlib
import os
import time
import traceback
import types
from collections.abc import Iterator, Sequence

from absl import flags, logging

from acereason_jax import storage
from acereason_jax.config import checks, from_flags
from acereason_jax.console import (
  command_line,
  exits,
  jax_setup,
  signals,
  terminal,
)
from acereason_jax.hosts import cluster, watchdog
from acereason_jax.hosts import gang as gang_lib
from acereason_jax.hosts import ids as ids_lib
from acereason_jax.run import handshake, pins
from acereason_jax.run.build import build
from acereason_jax.run.whole import train

# Hides the libraries' messages: Orbax logs twenty lines for every save.
FLAGS = command_line.Flags(logging.WARNING)
from_flags.define(FLAGS.values)
flags.mark_flag_as_required('config', flag_values=FLAGS.values)
FLAGS.string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
FLAGS.string(
  'coordinator',
  None,
  "host:port of process 0, for a run of several processes; jax's own service "
  "takes the next port. 'auto' on Slurm, Kubernetes, SkyPilot and TPU pods.",
)
FLAGS.integer('processes', None, 'Processes of this run.')
FLAGS.integer('process', None, 'Index of this process.')
FLAGS.number(
  'join_seconds', 600.0, 'All processes must meet within it.', lower_bound=1.0
)
FLAGS.number(
  'peer_seconds',
  300.0,
  'A process that says nothing for so long is lost.',
  lower_bound=1.0,
)
FLAGS.number(
  'hang_seconds',
  None,
  'Ends a process that made no progress for so many seconds; a compile and a '
  'save must fit. 0: never; default: by phase, 15 minutes to 2 hours.',
  lower_bound=0.0,
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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Makes Ctrl+C an end in one line."""
  try:
    yield
  except KeyboardInterrupt:
    raise SystemExit(
      'interrupted; the same command goes on from the last checkpoint'
    ) from None


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


def read_flags(argv: Sequence[str]) -> types.SimpleNamespace:
  """The values of the flags; ends with one line for a bad flag or config."""
  with from_flags.told(argv):
    args = command_line.parse(FLAGS, argv, __doc__)
    # A file that is missing is reported only when its config is read.
    getattr(args.config, 'steps', None)
    return args


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_flags(argv)
  workdir = (
    args.workdir or f'runs/{from_flags.name(from_flags.path(FLAGS.values))}'
  )
  with exits.one_line_for(ValueError, where='--workdir: '):
    storage.is_remote(workdir)
  with exits.one_line_for(ValueError):
    checks.validate(args.config)
  jax_setup.keep_compiled()
  jax_setup.use_precision(args.config.dtype)
  with interruptible():
    gang = join(args)
  with ends_all(gang), interruptible():
    with exits.one_line_for(ValueError, OSError):
      config = pins.pinned(args.config, workdir, gang.own.process == 0)
      handshake.check(gang, config, workdir)
      cluster.connect(gang, args.join_seconds, args.peer_seconds)
      jax_setup.check_devices()
    watchdog.start(workdir, args.hang_seconds, gang)
    with signals.StopRequest() as stop:
      try:
        with (
          stop.interruptible(),
          watchdog.phase('load'),
          exits.one_line_for(ValueError, OSError),
        ):
          run = build(config)
          handshake.check_digests(gang, run)
        return train(run, workdir, stop)
      except signals.Asked:
        terminal.say('stopped before the run began; run it again')
        return exits.STOPPED


if __name__ == '__main__':
  command_line.run(main)
