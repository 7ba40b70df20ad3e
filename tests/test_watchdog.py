"""A process that does not move ends, and says where; one that moves does not.

Clocks are turned by hand; where they are real, nothing depends on how fast the
machine is.
"""

import re
import signal
import subprocess
import sys
import time
import types

import gangs
import pytest
import tiny
from runs import Command, assert_same_run

from acereason_jax.hosts import watchdog

HUNG = 70
OVER = object()


class Ended(Exception):
  """The watchdog ended the process: name, seconds, the longest before.

  Without them the script is over, and nothing was ended.
  """


@pytest.fixture
def watched(monkeypatch):
  """Runs a watchdog over a script, a generator that yields at each tick.

  What it yields are the seconds until the next tick, None for the usual.
  """
  for name in ('_open', '_begun', '_longest', '_told'):
    empty = type(getattr(watchdog, name))()
    monkeypatch.setattr(watchdog, name, empty)
  monkeypatch.setattr(watchdog, '_clock', 0.0)
  monkeypatch.setattr(watchdog, '_marked', 0.0)

  def line(name, still, longest, who, where):
    raise Ended(name, still, longest)

  monkeypatch.setattr(watchdog, '_dump', lambda path, alone: '')
  monkeypatch.setattr(watchdog, '_line', line)

  def run(script, seconds=None):
    now = 1000.0

    def sleep(tick):
      nonlocal now
      late = next(script, OVER)
      if late is OVER:
        raise Ended
      now += tick if late is None else late

    alone = types.SimpleNamespace(own='process 0', alone=True)
    fake = types.SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(watchdog, 'time', fake)
    with pytest.raises(Ended) as e:
      watchdog._watch('', seconds, alone)
    script.close()
    return e.value.args

  return run


def ticks(seconds):
  for _ in range(round(seconds / watchdog._TICK)):
    yield


def test_a_phase_without_progress_ends_the_process(watched):
  def script():
    for seconds in (50, 40, 41):
      with watchdog.phase('update', 'one'):
        yield from ticks(seconds)
    with watchdog.phase('update', 'one'):
      yield from ticks(10 * 3600)

  name, still, longest = watched(script())
  assert name == 'update' and longest == 41
  assert still == watchdog.FLOORS['update'] + watchdog._TICK


def test_what_took_long_before_may_take_long_again(watched):
  long = watchdog.FLOORS['update'] - 1

  def script():
    for seconds in (1, long, watchdog.FACTOR * long):
      with watchdog.phase('update', 'one'):
        yield from ticks(seconds)

  assert not watched(script())


def test_the_first_time_may_be_a_compile_and_is_no_measure(watched):
  compiles = watchdog.COMPILE - 1

  def script():
    for of in ('short', 'long'):
      with watchdog.phase('sample', of):
        yield from ticks(compiles)
        watchdog.progress()
        yield from ticks(watchdog.FLOORS['sample'] - 1)
        watchdog.progress()
    with watchdog.phase('sample', 'short'):
      yield from ticks(10 * 3600)

  _, still, longest = watched(script())
  assert longest == watchdog.FLOORS['sample'] - 1
  assert still <= watchdog.FACTOR * longest + 1 < compiles + 3600


def test_what_passed_the_first_time_does_not_hang_the_second(watched):
  def script():
    for _ in range(4):
      with watchdog.phase('update', 'one'):
        yield from ticks(watchdog.COMPILE - 1)

  assert not watched(script())


def test_an_error_of_who_is_told_ends_the_phase(watched):
  def refuse(name):
    raise OSError(name)

  def script():
    with (
      watchdog.told_of_phases(refuse),
      pytest.raises(OSError),
      watchdog.phase('a'),
    ):
      yield
    assert watchdog.status().startswith(watchdog.OUTSIDE)

  assert not watched(script())


def test_progress_is_of_the_innermost_phase(watched):
  """The outer one begins to count again when the inner one is over."""
  said = []

  def script():
    with watchdog.phase('heldout'):
      for _ in range(9):
        with watchdog.phase('sample'):
          yield from ticks(500)
          said.append(watchdog.status())
    yield from ticks(10 * 3600)

  name, still, _ = watched(script())
  assert said[0] == 'heldout: sample, 500 s'
  assert name == watchdog.OUTSIDE and still == watchdog.OTHER + 0.5
  assert watchdog.status() == f'{watchdog.OUTSIDE}, {still:,.0f} s'


def test_a_suspended_process_was_not_slow(watched):
  def script():
    with watchdog.phase('save'):
      for _ in range(100):
        yield 9 * 3600.0

  assert not watched(script())


def test_seconds_replace_the_floors(watched):
  def script():
    with watchdog.phase('load'):
      yield from ticks(100)

  assert watched(script(), seconds=60.0)[:2] == ('load', 60.5)
  assert not watched(script(), seconds=100.0)


def test_an_error_ends_a_phase(watched):
  def script():
    for error in (ValueError, KeyboardInterrupt):
      with pytest.raises(error), watchdog.phase('a'), watchdog.phase('b'):
        raise error
    yield from ticks(1)

  assert not watched(script())
  assert watchdog.status().startswith(watchdog.OUTSIDE)


def test_phases_are_told(watched):
  told = []

  def script():
    with watchdog.phase('load'):
      yield
    with watchdog.told_of_phases(told.append):
      with watchdog.phase('heldout'):
        for name in ('sample', 'judge'):
          with watchdog.phase(name):
            yield
      with pytest.raises(ValueError), watchdog.phase('update'):
        raise ValueError
    with watchdog.phase('save'):
      yield

  assert not watched(script())
  heldout = ('heldout',)
  assert told == [
    heldout,
    *((*heldout, 'sample'), heldout),
    *((*heldout, 'judge'), heldout),
    (),
    *(('update',), ()),
  ]


ALONE = """
import sys, time
from acereason_jax.hosts import gang, ids, watchdog
folder, seconds, rounds = sys.argv[1:]
one = gang.join(ids.Ids(), watchdog.status, join_seconds=9, peer_seconds=9)
watchdog.start(folder, float(seconds), one)
print('ready', flush=True)
with watchdog.phase('update'):
  for _ in range(int(rounds)):
    time.sleep(0.1)
    watchdog.progress()
  def stuck():
    time.sleep(float(seconds) and 1000)
  if rounds == '0':
    stuck()
"""


def alone(folder, seconds, rounds):
  return subprocess.Popen(
    [sys.executable, '-c', ALONE, folder, str(seconds), str(rounds)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=tiny.environment(folder.parent),
  )


def test_the_end_is_a_line_and_all_stacks(tmp_path):
  _, said = (process := alone(tmp_path, 2, 0)).communicate()
  assert process.returncode == HUNG
  *stacks, last = said.splitlines()
  file = tmp_path / 'stacks-0.txt'
  assert re.fullmatch(
    r"error: process 0 on [^ ]+: no progress in 'update' for [23] s \(no time "
    rf'before to compare with\); the stacks are in {file}; the same command '
    'resumes',
    last,
  )
  for text in ('\n'.join(stacks), file.read_text()):
    assert 'in stuck' in text and 'in _watch' in text


def test_a_folder_that_is_not_there_costs_only_the_file(tmp_path):
  (tmp_path / 'none').write_text('')
  _, said = (process := alone(tmp_path / 'none', 2, 0)).communicate()
  assert process.returncode == HUNG
  assert 'in stuck' in said and 'the stacks are above;' in said.splitlines()[-1]


def test_zero_watches_nothing(tmp_path):
  _, said = (process := alone(tmp_path, 0, 0)).communicate()
  assert (process.returncode, said) == (0, '')


def test_a_process_that_was_stopped_goes_on(tmp_path):
  process = alone(tmp_path, 3, 30)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGSTOP)
  time.sleep(5)
  process.send_signal(signal.SIGCONT)
  _, said = process.communicate()
  assert (process.returncode, said) == (0, '')


# Runs that hang.


@pytest.fixture(scope='module')
def command(folder, compiled):
  return lambda *args, **kwargs: Command(
    folder, compiled, *args, '--hang_seconds=20', **kwargs
  )


@pytest.mark.hosts
def test_a_hang_in_each_phase_names_it_and_the_run_goes_on(command, folder):
  command(folder / 'whole').ends(0)
  workdir = folder / 'hung'
  places = {
    'load@-1': 'load',
    'sample@0': 'sample',
    'judge@1': 'judge',
    'update@2': 'update',
    'save@2': 'save',
    'draw@2': 'draw',
    'restore@-1': 'restore',
  }
  for place, name in places.items():
    said = command(workdir, script=place, by='hanging').ends(HUNG)
    last = said.splitlines()[-1]
    assert last.startswith('error: process 0 on ')
    # A late tick counts as two.
    assert re.search(rf': no progress in {name!r} for 2[01] s \(', last), last
    if place != 'load@-1':
      assert str(workdir) in last
      assert 'in hang' in (workdir / 'stacks-0.txt').read_text()
  command(workdir).ends(0)
  assert_same_run(workdir, folder / 'whole', 4)


@pytest.mark.hosts
def test_of_two_processes_the_one_that_hangs_is_told(command, folder):
  workdir = folder / 'two'
  one, other = gangs.flags(2)
  first = command(workdir, *one)
  second = command(workdir, *other, script='exchange@1', by='hanging')
  assert [first.end(), second.end()] == [HUNG, HUNG]
  # The one that waits for it may be the first to notice; the stacks tell.
  last = second.output.splitlines()[-1]
  assert re.search(r'error: process [01] on .*no progress in ', second.output)
  assert 'in hang' in (workdir / 'stacks-1.txt').read_text(), last
