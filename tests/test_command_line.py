"""How commands read their command lines, and how they end."""

import errno
import importlib
import os
import subprocess
import sys
import textwrap

import pytest
import tiny
from absl import logging

from acereason_jax.console import command_line, damage, exits

COMMANDS = (
  *('train', 'generate', 'judge', 'export', 'ledger', 'timeline', 'plan'),
)


@pytest.fixture
def known():
  verbosity = logging.get_verbosity()
  known = command_line.Flags()
  known.string('out', None, 'The file.')
  known.integer('steps', 3, 'How many.')
  known.boolean('fast', True, 'Hurry.')
  yield known
  logging.set_verbosity(verbosity)


def parse(known, *argv, places=()):
  return command_line.parse(known, ['prog', *argv], 'About it.', places)


def refused(capsys, known, *argv, places=()):
  with pytest.raises(SystemExit) as e:
    parse(known, *argv, places=places)
  assert e.value.code == exits.USAGE
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1 and err[:-1].isprintable()
  assert err.startswith('error: ')
  assert err.endswith(' (--help lists the flags)\n')
  return err


def test_flags_stand_before_between_and_after_places(known):
  args = parse(
    known, '--steps', '5', 'a', '--nofast', 'b', '--out=c', places=('x', 'y')
  )
  assert (args.x, args.y, args.steps, args.out) == ('a', 'b', 5, 'c')
  assert not args.fast
  args = parse(known, '--', '--steps', places=('x',))
  assert (args.x, args.steps) == ('--steps', 3)


def test_a_command_line_leaves_nothing_to_the_next(known):
  assert parse(known, '--steps=5', '--out=a').out == 'a'
  args = parse(known)
  assert (args.steps, args.out, args.fast) == (3, None, True)


def test_a_wrong_command_line_is_one_line(known, capsys):
  assert "flag 'step'. Did you mean: steps" in refused(
    capsys, known, '--step=1'
  )
  assert "int() with base 10: 'x\\x1b'" in refused(
    capsys, known, '--steps=x\x1b'
  )
  assert 'got 1 arguments without a flag, expected none' in refused(
    capsys, known, 'a\n'
  )
  places = 'run', 'page'
  assert 'got 0 arguments without a flag, expected RUN PAGE' in refused(
    capsys, known, places=places
  )
  assert 'got 3' in refused(capsys, known, *'abc', places=places)


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_a_number_is_finite(known, value, capsys):
  known.number('seconds', 1.0, 'Seconds.', lower_bound=0.0)
  with pytest.raises(SystemExit) as e:
    parse(known, '--out=a', f'--seconds={value}')
  assert e.value.code == 2 and '--seconds=' in capsys.readouterr().err


def test_a_flag_that_is_missing_is_one_line(known, capsys):
  known.string('to', None, 'A', required=True)
  assert '--to' in refused(capsys, known)
  assert parse(known, '--to=x').to == 'x'


def test_verbosity_is_heeded(known):
  parse(known, '--verbosity=1')
  assert logging.get_verbosity() == logging.DEBUG
  parse(known)
  assert logging.get_verbosity() == logging.ERROR


def test_help_shows_what_there_is(known, capsys):
  known.string('to', None, 'A', required=True)
  for argv in (['--help'], ['-h'], ['x', '--help']):
    with pytest.raises(SystemExit) as e:
      parse(known, *argv)
    assert e.value.code == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
      'About it.',
      '',
      'Flags:',
      '  --[no]help: Shows this. (default False)',
    ]


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_helps(name, capsys):
  command = importlib.import_module(f'acereason_jax.{name}')
  with pytest.raises(SystemExit) as e:
    command.main(['', '--help'])
  assert e.value.code == 0
  said = capsys.readouterr().out
  assert said.startswith(command.__doc__.strip())
  assert all(
    f'--{n}' in said or f'--[no]{n}' in said
    for n in command.FLAGS.values
    if n not in ('h', 'flagfile', 'undefok')
  )
  with pytest.raises(SystemExit) as e:
    command.main(['', '--no_such_flag'])
  assert e.value.code == exits.USAGE


def test_the_exit_status_of_a_process_and_its_one_line(tmp_path):
  ask = lambda *args: subprocess.run(
    [sys.executable, '-m', 'acereason_jax.timeline', *args],
    capture_output=True,
    text=True,
    env=tiny.environment(tmp_path),
  )
  done = ask('only-one')
  assert (done.returncode, done.stdout) == (exits.USAGE, '')
  assert done.stderr.count('\n') == 1
  done = ask(str(tmp_path / 'none'), str(tmp_path / 'page'))
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  said = ask('none', 'page', '--verbosity=1').stderr
  assert 'Traceback' in said and 'before flag parsing' not in said
  assert said.splitlines()[-1].startswith('error: none: ')
  assert ask('--help').returncode == 0


GUARD = 300
STREAMS = 'stdin', 'stdout', 'stderr'


def ended(body, before=''):
  """(status, standard output, standard error) of a command with this `main`."""
  code = (
    'import atexit, os, signal, sys, threading, time\n'
    'from acereason_jax.console import command_line\n'
    f'{before}\n'
    f'def main(argv):\n{textwrap.indent(textwrap.dedent(body), "  ")}\n'
    'command_line.run(main)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    timeout=GUARD,
  )
  return done.returncode, done.stdout, done.stderr


def test_an_interrupt_of_any_command_is_one_line():
  got = ended('signal.raise_signal(signal.SIGINT)')
  assert got == (exits.STOPPED, '', 'interrupted\n')


@pytest.mark.parametrize(
  'body, status, errors',
  [
    ('return 3', 3, ''),
    ('sys.exit()', 0, ''),
    ('sys.exit(4)', 4, ''),
    ('sys.exit("error: no")', 1, 'error: no\n'),
  ],
)
def test_the_status_of_a_command(body, status, errors):
  assert ended(body) == (status, '', errors)


def test_a_bug_ends_a_command_with_its_traceback():
  status, out, errors = ended('{}["here"]')
  assert (status, out) == (1, '')
  assert errors.startswith('Traceback (most recent call last):\n')
  assert errors.endswith("KeyError: 'here'\n")


def test_what_is_left_to_do_is_done_at_the_end():
  body = """
  atexit.register(print, 'at exit', end='')
  wait = lambda: (time.sleep(0.2), print('thread'))
  threading.Thread(target=wait).start()
  return 5
  """
  assert ended(body) == (5, 'thread\nat exit', '')


@pytest.mark.parametrize('number', ['SIGTERM', 'SIGHUP', 'SIGINT'])
def test_a_signal_at_the_end_changes_no_status(number):
  body = f"""
  atexit.register(signal.raise_signal, signal.{number})
  return {exits.STOPPED}
  """
  assert ended(body) == (exits.STOPPED, '', '')


def test_an_interrupt_waits_for_no_thread_at_the_end():
  body = f"""
  main = threading.main_thread().ident
  def interrupt():
    code = None
    while code is not threading._shutdown.__code__:
      frame = sys._current_frames()[main]
      while frame and frame.f_code is not threading._shutdown.__code__:
        frame = frame.f_back
      code = frame and frame.f_code
    signal.pthread_kill(main, signal.SIGINT)
    time.sleep({GUARD})
  threading.Thread(target=interrupt).start()
  return 5
  """
  assert ended(body) == (5, '', '')


@pytest.mark.parametrize('descriptor', [1, 2])
def test_the_status_where_output_is_closed(descriptor):
  before = f'os.close({descriptor}); sys.{STREAMS[descriptor]} = None'
  assert ended('return 5', before) == (5, '', '')
  body = """
  from acereason_jax.console import terminal
  terminal.use_stdout()
  terminal.say('error', to_stderr=True)
  return 5
  """
  got = ended(body, before)
  assert got == (5, '', '' if descriptor == 2 else 'error\n')


def test_output_that_is_lost_is_no_success():
  before = "sys.stdout = open('/dev/full', 'w')"
  body = 'print("a")'
  assert ended(f'{body}; return 0', before)[0] == 120
  assert ended(f'{body}; return 5', before)[0] == 5


@pytest.mark.parametrize(
  'before, call',
  [
    ('import jax; f = jax.jit(lambda: 1)', 'f().block_until_ready()'),
    (
      'import tensorstore\n'
      'file = dict(driver="zarr", kvstore=dict(driver="memory"))\n'
      'store = tensorstore.open('
      'file, dtype=tensorstore.uint8, shape=[1000], create=True).result()',
      'store.read().result()',
    ),
  ],
)
def test_threads_in_libraries_do_not_abort_the_end(before, call):
  """Python's own end made them print 'Fatal Python error', status 134."""
  body = f"""
  goes = threading.Barrier(5, timeout={GUARD})
  def work():
    {call}
    goes.wait()
    while True:
      {call}
  for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
  goes.wait()
  return {exits.STOPPED}
  """
  status, _, errors = ended(body, before)
  assert status == exits.STOPPED and 'Fatal' not in errors


@pytest.mark.parametrize(
  'error, line',
  [
    (ValueError('a\n  b\x1b'), 'error: here: a b\\x1b'),
    (
      OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/a'),
      "error: here: No space left on device: '/a'; free space",
    ),
  ],
)
def test_an_error_of_the_user_is_one_line(error, line):
  with (
    pytest.raises(SystemExit) as e,
    exits.one_line_for(ValueError, OSError, where='here: '),
  ):
    raise error
  assert e.value.code == line and e.value.__cause__ is error


def test_a_bug_keeps_its_traceback():
  with pytest.raises(KeyError), exits.one_line_for(ValueError, OSError):
    raise KeyError('x')


@pytest.mark.parametrize(
  'error', [KeyError('x'), Exception('x'), ZeroDivisionError('x')]
)
def test_whatever_a_library_makes_of_damage_is_told(error):
  with (
    pytest.raises(ValueError, match=f'broken: {type(error).__name__}: '),
    damage.told(lambda reason: ValueError(f'broken: {reason}')),
  ):
    raise error


def test_what_is_no_damage_passes():
  for error in (KeyboardInterrupt, MemoryError, AssertionError):
    with pytest.raises(error), damage.told(ValueError):
      raise error
