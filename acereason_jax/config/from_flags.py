"""--config=FILE and --config.field=value: the config of a command line.

Every complaint of ml_collections becomes one line with a remedy. jax is not
imported, so that a launcher can read a config too.
"""

import contextlib
import pathlib
import re
import traceback
from collections.abc import Iterator, Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from acereason_jax.config import renamed
from acereason_jax.console import command_line

# The other kind of config, which a user may have confused with it.
_OTHERS = {
  'base.py': 'evaluation.py those of an evaluation',
  'evaluation.py': 'base.py those of a run',
}
_PACKAGE = str(pathlib.Path(__file__).parent.parent)


def define(values: flags.FlagValues, argv: Sequence[str] | None = None) -> None:
  """Defines --config, and with it --config.field, in a command's flags.

  The fields are looked for in `argv`; None is the command line of the process.
  """
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A file of configs/.',
    flag_values=values,
    sys_argv=None if argv is None else list(argv),
  )


def read(argv: Sequence[str]) -> ml_collections.ConfigDict:
  """The config that flags give, of which there are no others.

  Raises:
    SystemExit: one line for a file or a field that cannot be read.
  """
  values = flags.FlagValues()
  define(values, argv)
  with told(argv):
    try:
      values(['', *argv])
    except flags.Error as e:
      raise command_line.refused(e, 'see acereason_jax/config/base.py') from e
    # A file that is missing is reported only when its config is read.
    getattr(values.config, 'steps', None)
  return values.config


@contextlib.contextmanager
def told(argv: Sequence[str], file: str = 'base.py') -> Iterator[None]:
  """Ends the command with one line if the config of `argv` cannot be read.

  `file` of this folder has the fields of the command's configs.
  """
  try:
    yield
  except OSError as e:
    # ml_collections puts the system's error last.
    *_, reason = str(e).splitlines()
    reason = re.sub(r'\[Errno \d+\] ', '', reason.strip())
    raise command_line.refused(f'--config: {reason}') from e
  except (AttributeError, KeyError) as e:
    reason = e
    while isinstance(reason, Exception) and reason.args:
      reason = reason.args[0]  # ml_collections wraps errors.
    reason = reason if str(reason) else type(reason).__name__
    reason = ' '.join(str(reason).partition('Other fields')[0].split())
    remedy = renamed.hint(reason, argv) or _no_field(file)
    raise command_line.refused(f'{_place_of(e)}: {reason}', remedy) from e


def _no_field(file: str) -> str:
  return (
    f'no such field; acereason_jax/config/{file} has them all '
    f'({_OTHERS[file]}), and an argument of a component is given with its '
    'whole dict: --config.X="{\'fn\': ...}"'
  )


def path(values: flags.FlagValues) -> str:
  """What a command's --config was given."""
  return config_flags.get_config_filename(values['config'])


def name(path: str) -> str:
  """'quickstart' of configs/quickstart.py; of FILE:ORDER both."""
  file, _, order = path.partition(':')
  return '-'.join(filter(None, (pathlib.Path(file).stem, order)))


def _place_of(error: Exception) -> str:
  """'file:line' of a config that raised it, or the flag --config."""
  frames = traceback.extract_tb(error.__traceback__)
  configs = [
    frame
    for frame in frames
    if 'site-packages' not in frame.filename
    and not frame.filename.startswith(_PACKAGE)
  ]
  if not configs:
    return '--config'
  return f'{configs[-1].filename}:{configs[-1].lineno}'
