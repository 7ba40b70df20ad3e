"""How a command reads its command line: absl's flags, a set for each command.

A command defines its flags in a set of its own, so that two commands may have
a flag of one name, and only its `main` reads them, as values:

    FLAGS = command_line.new_flags()
    flags.DEFINE_string('out', None, 'The file.', flag_values=FLAGS)

    def main(argv: Sequence[str]) -> int:
      args = command_line.parse(FLAGS, argv, __doc__, places=('run',))
"""

import sys
import types
from collections.abc import Iterator, Sequence

from absl import flags, logging

from acereason_jax.console import exits, terminal

# What absl gives to every set, for the few who know of them.
_HIDDEN = 'flagfile', 'undefok'


def new_flags() -> flags.FlagValues:
  """A set of flags that has --help and --verbosity."""
  known = flags.FlagValues()
  flags.DEFINE_bool(
    'help', False, 'Shows this.', short_name='h', flag_values=known
  )
  flags.DEFINE_integer(
    'verbosity',
    logging.ERROR,
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
    sys.stderr.write(f'error: {text} (--help lists the flags)\n')
    raise SystemExit(exits.USAGE) from e
  values = known.flag_values_dict()
  logging.set_verbosity(values['verbosity'])
  return types.SimpleNamespace(**values, **dict(zip(places, given)))


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
