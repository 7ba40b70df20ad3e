"""Commands that tests call in their own process."""

import sys


def by(command, capsys, monkeypatch):
  """words -> (exit status, what was said) of a command, given its module."""

  def call(*words):
    monkeypatch.setattr(sys, 'argv', [command.__name__, *map(str, words)])
    # A process reads one command line: the fields that it gives become flags.
    given = command.FLAGS.values
    for name in [n for n in given if n.startswith('config.')]:
      delattr(given, name)
    try:
      status = command.main(sys.argv)
    except SystemExit as e:
      if isinstance(e.code, str):
        assert e.code.startswith('error: ') and '\n' not in e.code
        return 1, e.code
      status = e.code
    said = capsys.readouterr()
    return status, said.out + said.err

  return call
