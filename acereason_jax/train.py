"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again goes on where the run stopped. The end of a stage, the
looks at held-out questions and stages that have not begun may differ then: see
docs/recipe.md. Exit status 75 means stopped by a signal and saved; 1, something
for the user to fix, in one line (--verbosity=1 shows the traceback too).
"""

import contextlib
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

import jax
from absl import app, flags
from ml_collections import config_flags

from acereason_jax.config import checks, renamed
from acereason_jax.console import exits, jax_setup, terminal
from acereason_jax.run.build import build
from acereason_jax.run.whole import train

NO_FIELD = 'no such field; acereason_jax/config/base.py has them all'
CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' on TPU pods and Slurm."
)
PROCESSES = flags.DEFINE_integer('processes', 1, 'Processes of this run.')
PROCESS = flags.DEFINE_integer('process', 0, 'Index of this process.')


@contextlib.contextmanager
def ends_all() -> Iterator[None]:
  """Has an error of one process end the others too, at once.

  Python's own exit waits 300 seconds for them, as they wait for this one.
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
    os._exit(1 if known else os.EX_SOFTWARE)


def connect() -> None:
  """Joins the processes of this run, if there are several."""
  if PROCESSES.value > 1 and COORDINATOR.value is None:
    raise SystemExit(
      f'error: --processes={PROCESSES.value} without --coordinator: give the '
      'host:port of process 0'
    )
  if COORDINATOR.value == 'auto':
    jax.distributed.initialize()
  elif COORDINATOR.value is not None:
    first = PROCESS.value == 0
    jax.distributed.initialize(
      COORDINATOR.value,
      PROCESSES.value,
      PROCESS.value,
      # The default listens on every interface.
      coordinator_bind_address=COORDINATOR.value if first else None,
    )


def parse_flags(argv: list[str]) -> list[str]:
  """absl's parser, with one line for a flag or a config that is no good."""
  try:
    rest = flags.FLAGS(argv)
    # A file that is not there is told only to who asks for the config.
    getattr(CONFIG.value, 'steps', None)
    return rest
  except (flags.Error, OSError) as e:
    # absl puts a traceback of the config's file before what it says.
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    raise SystemExit(
      f'error: {terminal.printable(lines[-1])} (--help lists the flags)'
    ) from e
  except (AttributeError, KeyError) as e:
    frames = traceback.extract_tb(e.__traceback__)
    mine = [f for f in frames if 'site-packages' not in f.filename][-1]
    in_file = f'{mine.filename}:{mine.lineno}: '
    reason = e.args[0]
    while isinstance(reason, Exception):  # ml_collections wraps them.
      reason = reason.args[0]
    reason = ' '.join(str(reason).partition('Other fields')[0].split())
    raise SystemExit(
      f'error: {"--config: " if mine.filename == __file__ else in_file}'
      f'{reason} ({renamed.hint(reason, argv) or NO_FIELD})'
    ) from e


def config_name() -> str:
  """'quickstart' of --config=configs/quickstart.py; of FILE:NAME both."""
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  file, _, name = path.partition(':')
  return '-'.join(filter(None, (pathlib.Path(file).stem, name)))


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise SystemExit(f'error: unexpected arguments: {argv[1:]}')
  jax_setup.keep_compiled()
  jax_setup.quiet_libraries()
  if '://' in (WORKDIR.value or ''):
    raise SystemExit(
      f'error: --workdir={WORKDIR.value}: expected a folder on a disk that all '
      'hosts share; mount the bucket'
    )
  terminal.use_stdout()
  jax_setup.use_precision(CONFIG.value.dtype)
  workdir = pathlib.Path(WORKDIR.value or f'runs/{config_name()}')
  connect()
  with ends_all():
    try:
      with exits.mendable(ValueError, OSError):
        checks.validate(CONFIG.value)
        run = build(CONFIG.value)
      return train(run, workdir)
    except KeyboardInterrupt:
      raise SystemExit(
        'interrupted; the same command goes on from the last checkpoint'
      ) from None


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
