"""Reads command lines with absl's flags, one set of flags for each command.

A command defines its flags in a set of its own, so that two commands may have
a flag of one name, and only its `main` reads them, as values:

    FLAGS = command_line.Flags()
    FLAGS.string('out', None, 'The file to write.')

    def main(argv: Sequence[str]) -> int:
      args = command_line.parse(FLAGS, argv, __doc__, places=('run',))
      ...

    if __name__ == '__main__':
      command_line.run(main)
"""

import contextlib
import faulthandler
import functools
import math
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import flags, logging

from acereason_jax.console import exits, terminal

# Flags that absl adds to every set; few users need them.
_HIDDEN = 'flagfile', 'undefok'


class Flags:
  """A command's flags: absl's, in a set of its own.

  `string`, `integer` and the others take a name, a default, a help text and the
  other arguments of absl's functions. --help and --verbosity always exist;
  `verbosity` is the default of the latter.
  """

  def __init__(self, verbosity: int = logging.ERROR) -> None:
    self.values = flags.FlagValues()
    here = lambda define: functools.partial(define, flag_values=self.values)
    self.string = here(flags.DEFINE_string)
    self.strings = here(flags.DEFINE_multi_string)
    self.boolean = here(flags.DEFINE_bool)
    self.integer = here(flags.DEFINE_integer)
    self.number = here(flags.DEFINE_float)
    self.choice = here(flags.DEFINE_enum)
    self.boolean('help', False, 'Shows this.', short_name='h')
    self.integer(
      'verbosity',
      verbosity,
      'What is logged: -2 errors, -1 warnings, 0 news, 1 all and tracebacks.',
    )


def parse(
  known: Flags,
  argv: Sequence[str],
  about: str,
  places: Sequence[str] = (),
  usage: str = '',
) -> types.SimpleNamespace:
  """The values of flags, and of the arguments that have no flag, by name.

  Args:
    known: the command's flags.
    argv: the command line; argv[0] is the program.
    about: what --help shows above the flags, the module's docstring.
    places: names of the arguments without a flag, all required, in order; they
      may stand between flags.
    usage: the line for another number of them; '' makes one.

  Raises:
    SystemExit: after --help, or one line for a command line that is wrong.
  """
  known.values.unparse_flags()
  known.values.set_gnu_getopt(True)
  if {'--help', '-h'} & set(argv[1:]):
    # Required flags may be missing then.
    terminal.say(_help(known.values, about))
    raise SystemExit(0)
  try:
    _, *given = known.values(argv)
    if len(given) != len(places):
      if usage:
        raise flags.Error(usage)
      expected = ' '.join(place.upper() for place in places) or 'none'
      raise flags.Error(
        f'got {len(given)} arguments without a flag, expected {expected}'
        f'{f": {given}" if given else ""}'
      )
  except flags.Error as e:
    raise refused(e) from e
  values = known.values.flag_values_dict()
  for name, value in values.items():
    # absl's bounds let these pass.
    if isinstance(value, float) and not math.isfinite(value):
      raise refused(f'flag --{name}={value}: expected a number')
  logging.set_verbosity(values['verbosity'])
  return types.SimpleNamespace(**values, **dict(zip(places, given)))


def refused(
  error: Exception | str, remedy: str = '--help lists the flags'
) -> SystemExit:
  """Prints one line for a wrong command line; returns what to raise."""
  # absl puts a traceback of the config file before its message.
  *_, last = filter(None, map(str.strip, str(error).splitlines()))
  line = f'error: {terminal.printable(last)} ({remedy})'
  terminal.say(line, to_stderr=True)
  return SystemExit(exits.USAGE)


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
  """Runs `main` on the command line of this process; ends with its status."""
  logging.use_absl_handler()
  # absl's own set of flags decides whether it logs.
  flags.FLAGS.mark_as_parsed()
  with contextlib.suppress(RuntimeError, OSError):  # Standard error is closed.
    faulthandler.enable()
  exits.leave(_status(main))


def _status(main: Callable[[Sequence[str]], int]) -> int:
  """What it returns, or what its exception stands for, which is shown."""
  try:
    return main(sys.argv)
  except KeyboardInterrupt:
    logging.debug('where the command was interrupted', exc_info=True)
    terminal.say('interrupted', to_stderr=True)
    return exits.STOPPED
  except SystemExit as e:
    if e.code is None or isinstance(e.code, int):
      return e.code or 0
    terminal.say(str(e.code), to_stderr=True)
    return exits.FOR_USER
  except Exception:  # noqa: BLE001 (a bug, shown as Python would)
    sys.excepthook(*sys.exc_info())
    return exits.FOR_USER


def _help(known: flags.FlagValues, about: str) -> str:
  return '\n'.join([about.strip(), '', 'Flags:', *_described(known)])


def _described(known: flags.FlagValues) -> Iterator[str]:
  for name in known:
    flag = known[name]
    if name != flag.name or name in _HIDDEN:
      continue
    shown = f'[no]{name}' if flag.boolean else name
    default = '' if flag.default is None else f' (default {flag.default!r})'
    yield f'  --{shown}: {flag.help}{default}'
