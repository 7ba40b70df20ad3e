"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again resumes where the run stopped. The end of a stage, the
evaluation of held-out questions and stages that have not begun may differ then:
see docs/recipe.md. Exit status 75 means stopped by a signal and saved; 1,
something for the user to fix, in one line (--verbosity=1 shows the traceback
too).
"""

import functools
import types
from collections.abc import Sequence

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
from acereason_jax.hosts import cluster, together, watchdog
from acereason_jax.run import folder, handshake, pins, profile
from acereason_jax.run.build import build
from acereason_jax.run.whole import counted, train

# Hides the libraries' messages: Orbax logs twenty lines for every save.
FLAGS = command_line.Flags(logging.WARNING)
from_flags.define(FLAGS.values)
flags.mark_flag_as_required('config', flag_values=FLAGS.values)
FLAGS.string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
FLAGS.string(
  'profile', None, 'Steps to trace, 3 or 3:5, into the folder profile/ there.'
)
together.define(FLAGS)


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
  name = from_flags.name(from_flags.path(FLAGS.values))
  workdir = args.workdir or f'runs/{name}'
  with exits.one_line_for(ValueError, where='--workdir: '):
    storage.is_remote(workdir)
  with exits.one_line_for(ValueError, where='--profile='):
    traced = profile.Steps.parse(args.profile) if args.profile else None
  with exits.one_line_for(ValueError):
    checks.validate(args.config)
  with exits.one_line_for(ValueError, OSError):
    folder.check_ours(workdir)
  jax_setup.keep_compiled()
  jax_setup.use_precision(args.config.dtype)
  ends_in_a_line = functools.partial(
    together.interruptible, 'from the last checkpoint'
  )
  with ends_in_a_line():
    gang = together.join(args)
  with together.ends_all(gang), ends_in_a_line():
    with exits.one_line_for(ValueError, OSError):
      config = pins.pinned(args.config, workdir, gang.own.process == 0)
      handshake.check(gang, config, workdir)
      cluster.connect(gang, args.join_seconds, args.peer_seconds)
      jax_setup.check_devices()
    if gang.own.process == 0:
      jax_setup.tell_flags()
    watchdog.start(workdir, args.hang_seconds, gang)
    with together.stop_request() as stop, counted() as account:
      try:
        with (
          stop.interruptible(),
          watchdog.phase('load'),
          exits.one_line_for(ValueError, OSError),
        ):
          run = build(config)._replace(name=name)
          handshake.check_digests(gang, run)
        return train(run, workdir, stop, traced, account)
      except signals.Asked:
        terminal.say('stopped before the run began; run it again')
        return exits.STOPPED


if __name__ == '__main__':
  command_line.run(main)
