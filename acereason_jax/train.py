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
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Sequence

import jax
from absl import flags, logging
from ml_collections import config_flags

from acereason_jax.config import checks, renamed
from acereason_jax.console import command_line, exits, jax_setup, terminal
from acereason_jax.run import pins
from acereason_jax.run.build import build
from acereason_jax.run.whole import train

NO_FIELD = (
  'no such field; acereason_jax/config/base.py has them all, and an argument '
  'of a component is given with its whole dict: --config.X="{\'fn\': ...}"'
)
# Hides the libraries' messages: Orbax logs twenty lines for every save.
FLAGS = command_line.Flags(logging.WARNING)
config_flags.DEFINE_config_file(
  'config', None, 'A file of configs/.', flag_values=FLAGS.values
)
flags.mark_flag_as_required('config', flag_values=FLAGS.values)
FLAGS.string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
FLAGS.string(
  'coordinator', None, "host:port of process 0; 'auto' on TPU pods and Slurm."
)
FLAGS.integer('processes', 1, 'Processes of this run.')
FLAGS.integer('process', 0, 'Index of this process.')


@contextlib.contextmanager
def ends_all() -> Iterator[None]:
  """Makes an error of one process end the others too, at once.

  Python's own exit would wait 300 seconds for them, as they wait for this one.
  """
  try:
    yield
  except BaseException as e:
    if jax.process_count() == 1:
      raise
    known = isinstance(e, SystemExit)
    sys.stderr.write(f'{e}\n' if known else traceback.format_exc())
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(1 if known else exits.BUG)


def connect(coordinator: str | None, processes: int, process: int) -> None:
  """Joins the processes of this run, if there are several."""
  if processes > 1 and coordinator is None:
    raise SystemExit(
      f'error: --processes={processes} without --coordinator: give the '
      'host:port of process 0'
    )
  if coordinator == 'auto':
    jax.distributed.initialize()
  elif coordinator is not None:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      # The default listens on every interface.
      coordinator_bind_address=coordinator if process == 0 else None,
    )


def read_flags(argv: Sequence[str]) -> types.SimpleNamespace:
  """The values of the flags; ends with one line for a bad flag or config."""
  try:
    args = command_line.parse(FLAGS, argv, __doc__)
    # A file that is missing is reported only when its config is read.
    getattr(args.config, 'steps', None)
    return args
  except OSError as e:
    raise command_line.refused(e) from e
  except (AttributeError, KeyError) as e:
    reason = e
    while isinstance(reason, Exception) and reason.args:
      reason = reason.args[0]  # ml_collections wraps errors.
    reason = reason if str(reason) else type(reason).__name__
    reason = ' '.join(str(reason).partition('Other fields')[0].split())
    remedy = renamed.hint(reason, argv) or NO_FIELD
    raise command_line.refused(f'{place_of(e)}: {reason}', remedy) from e


def place_of(error: Exception) -> str:
  """'file:line' of a config that raised it, or the flag --config."""
  frames = traceback.extract_tb(error.__traceback__)
  package = os.path.dirname(__file__)
  configs = [
    frame
    for frame in frames
    if 'site-packages' not in frame.filename
    and not frame.filename.startswith(package)
  ]
  if not configs:
    return '--config'
  return f'{configs[-1].filename}:{configs[-1].lineno}'


def config_name() -> str:
  """'quickstart' of --config=configs/quickstart.py; of FILE:NAME both."""
  path = config_flags.get_config_filename(FLAGS.values['config'])
  file, _, name = path.partition(':')
  return '-'.join(filter(None, (pathlib.Path(file).stem, name)))


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_flags(argv)
  if '://' in (args.workdir or ''):
    raise SystemExit(
      f'error: --workdir={args.workdir}: expected a folder on a disk that all '
      'hosts share; mount the bucket'
    )
  with exits.one_line_for(ValueError):
    checks.validate(args.config)
  jax_setup.keep_compiled()
  jax_setup.use_precision(args.config.dtype)
  workdir = pathlib.Path(args.workdir or f'runs/{config_name()}')
  connect(args.coordinator, args.processes, args.process)
  with ends_all():
    try:
      with exits.one_line_for(ValueError, OSError):
        first = jax.process_index() == 0
        run = build(pins.pinned(args.config, workdir, first))
      return train(run, workdir)
    except KeyboardInterrupt:
      raise SystemExit(
        'interrupted; the same command goes on from the last checkpoint'
      ) from None


if __name__ == '__main__':
  command_line.run(main)
