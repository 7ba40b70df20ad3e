"""How a command reads its command line: absl's flags, a set for each command.

A command defines its flags in a set of its own, so that two commands may have
a flag of one name, and only its `main` reads them, as values:

    FLAGS = command_line.new_flags()
    flags.DEFINE_string('out', None, 'The file.', flag_values=FLAGS)

    def main(argv: Sequence[str]) -> int:
      args = command_line.parse(FLAGS, argv, __doc__, places=('run',))
      ...

    if __name__ == '__main__':
      command_line.run(main)
"""

import contextlib
import faulthandler
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import flags, logging

from acereason_jax.console import exits, terminal

# What absl gives to every set, for the few who know of them.
_HIDDEN = 'flagfile', 'undefok'


def new_flags(verbosity: int = logging.ERROR) -> flags.FlagValues:
  """A set of flags that has --help and --verbosity, with this default."""
  known = flags.FlagValues()
  flags.DEFINE_bool(
    'help', False, 'Shows this.', short_name='h', flag_values=known
  )
  flags.DEFINE_integer(
    'verbosity',
    verbosity,
    'What is logged: -2 errors, -1 warnings, 0 news, 1 all and tracebacks.',
    flag_values=known,
  )
  return known


def parse(
  known: flags.FlagValues,
  argv: Sequence[str],
  about: str,
  places: Sequence[str] = (),
) -> types.SimpleNamespace:
  """The values of flags, and of the arguments that have no flag, by name.

  Args:
    known: the command's flags, of `new_flags`.
    argv: the command line; argv[0] is the program.
    about: what --help shows above the flags, the module's docstring.
    places: names of the arguments without a flag, all required, in order; they
      may stand between flags.

  Raises:
    SystemExit: after --help, or one line for a command line that is wrong.
  """
  known.unparse_flags()
  known.set_gnu_getopt(True)
  if {'--help', '-h'} & set(argv[1:]):
    # Flags that are required may be missing then.
    terminal.say(_help(known, about))
    raise SystemExit(0)
  try:
    _, *given = known(argv)
    if len(given) != len(places):
      expected = ' '.join(place.upper() for place in places) or 'none'
      raise flags.Error(
        f'got {len(given)} arguments without a flag, expected {expected}'
        f'{f": {given}" if given else ""}'
      )
  except flags.Error as e:
    text = terminal.printable(' '.join(str(e).split()))
    terminal.say(f'error: {text} (--help lists the flags)', to_stderr=True)
    raise SystemExit(exits.USAGE) from e
  values = known.flag_values_dict()
  logging.set_verbosity(values['verbosity'])
  return types.SimpleNamespace(**values, **dict(zip(places, given)))


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
  """Runs `main` on the command line of this process; exits with its status."""
  logging.use_absl_handler()
  # absl asks its own set whether it may log.
  flags.FLAGS.mark_as_parsed()
  with contextlib.suppress(RuntimeError, OSError):  # Standard error is closed.
    faulthandler.enable()
  sys.exit(main(sys.argv))


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
