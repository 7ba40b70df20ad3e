"""Each second of a process has a kind, whatever phases and compiles do."""

import ast
import itertools
import json
import math
import pathlib
import subprocess
import sys
import threading
import time

import hypothesis
import pytest
import tiny
from hypothesis import strategies as st

from acereason_jax import train
from acereason_jax.hosts import watchdog
from acereason_jax.run import account as account_lib

PACKAGE = pathlib.Path(train.__file__).parent
# Phases that are only inside others.
INNER = {'exchange', 'microbatch'}


class Hands:
  """A clock that stands still until it is moved."""

  def __init__(self):
    self.now = 100.0

  def read(self):
    return self.now


def new(age=0.0):
  hands = Hands()
  return hands, account_lib.Account(age, hands.read)


def spent(account):
  return account.spent()[0]


def test_seconds_go_to_the_outermost_phase():
  hands, account = new(age=7.0)
  with watchdog.told_of_phases(account.phases):
    hands.now += 1
    with watchdog.phase('load'):
      hands.now += 2
    hands.now += 4
    account.steps_begin()
    hands.now += 8
    with watchdog.phase('heldout'):
      for inner in ('sample', 'exchange', 'judge'):
        with watchdog.phase(inner):
          hands.now += 16
    with watchdog.phase('enter'), watchdog.phase('sample'):
      hands.now += 64
    with watchdog.phase('update'), watchdog.phase('microbatch', 1):
      hands.now += 128
    with pytest.raises(ValueError), watchdog.phase('save'):
      hands.now += 256
      raise ValueError
    hands.now += 512
  assert spent(account) == dict(
    start=12, load=2, between=520, heldout=48, probe=64, update=128, save=256
  )


@pytest.mark.parametrize('stalls, wrong', [(0, 0), (3, 0), (99, 5)])
def test_both_clocks_are_read_at_once(monkeypatch, stalls, wrong):
  """Another process may have the processor between the two readings."""
  hands, account = new()
  left = itertools.chain([5.0] * stalls, itertools.repeat(0.0))

  def wall():
    hands.now += next(left)
    return 1e9 + hands.now

  monkeypatch.setattr(account_lib.time, 'time', wall)
  seconds, now = account.spent()
  # The account began at 100.
  assert now - 1e9 - 100 - seconds.get('start', 0) == wrong


def test_a_compile_is_taken_out_of_the_kind_that_it_was_in():
  hands, account = new()
  account.phases(('sample',))
  hands.now += 10
  # What is traced inside is told first, and is a part of the whole.
  account.compiled(2.0)
  hands.now += 5
  account.compiled(3.0)
  hands.now += 1
  account.compiled(9.0)
  hands.now += 4
  account.phases(('update',))
  hands.now += 1
  account.compiled(1.0)
  assert spent(account) == dict(start=0, sample=11, compile=10, update=0)


def test_a_line_that_is_kept_during_a_compile_is_put_right_later():
  hands, account = new()
  account.phases(('update',))
  hands.now += 30
  assert spent(account) == dict(start=0, update=30)
  hands.now += 10
  account.compiled(39.0)
  assert spent(account) == dict(start=0, update=1, compile=39)


def test_a_compile_takes_no_more_than_its_line_has():
  hands, account = new()
  account.phases(('sample',))
  hands.now += 10
  account.settle(spent(account))
  hands.now += 1
  account.compiled(5.0)
  assert spent(account) == dict(start=0, sample=0, compile=1)


def test_what_other_threads_compile_is_not_waited_for():
  hands, account = new()
  hands.now += 10
  other = threading.Thread(target=account.compiled, args=(5.0,))
  other.start()
  other.join()
  assert spent(account) == dict(start=10)


NAMES = st.sampled_from(['sample', 'update', 'heldout', 'exchange', 'other'])
ACTIONS = st.one_of(
  st.tuples(st.just('phases'), st.lists(NAMES, max_size=3).map(tuple)),
  st.tuples(st.just('compiled'), st.floats(0, 100)),
  st.tuples(st.just('settle')),
  st.tuples(st.just('steps_begin')),
)


@hypothesis.given(st.lists(st.tuples(st.floats(0, 50), ACTIONS)))
def test_all_kinds_sum_to_the_time(actions):
  hands, account = new(age=3.0)
  settled = []
  for seconds, (name, *given) in actions:
    hands.now += seconds
    if name == 'settle':
      settled.append(spent(account))
      given = [settled[-1]]
    getattr(account, name)(*given)
  found = [*settled, spent(account)]
  assert all(s > -1e-9 for line in found for s in line.values())
  total = math.fsum(s for line in found for s in line.values())
  assert total == pytest.approx(hands.now - 97.0, abs=1e-6)


def phases_of(path):
  """The names in `watchdog.phase('name', ...)` of a file."""
  for node in ast.walk(ast.parse(path.read_text())):
    match node:
      case ast.Call(ast.Attribute(ast.Name('watchdog'), 'phase'), [name, *_]):
        yield ast.literal_eval(name)


def test_each_phase_of_a_run_has_a_kind():
  files = [*(PACKAGE / 'run').glob('*.py'), PACKAGE / 'train.py']
  found = {name for file in files for name in phases_of(file)}
  assert found - INNER == account_lib.KINDS.keys()
  assert found > INNER


LINE = account_lib.Line(1, 3, 1.79e9 + 0.25, dict(sample=1.5, update=0.125))


def test_a_line_comes_back():
  text = account_lib.to_text(LINE)
  assert account_lib.read(text) == [LINE]
  assert json.loads(text) == dict(
    start=1, step=3, time=1.79e9 + 0.25, seconds=dict(sample=1.5, update=0.125)
  )


def test_a_torn_line_is_dropped():
  text = account_lib.to_text(LINE)
  for end in range(len(text) - 1):
    assert account_lib.read(text + text[:end]) == [LINE]


def test_lines_of_no_run_are_dropped():
  good = json.loads(account_lib.to_text(LINE))
  bad = [
    *('', '[]', 'null', '{}', '\0', '[' * 10**5, '9' * 10**5),
    *(json.dumps(good | dict(start=x)) for x in (-1, True, 1.0, '1', 1 << 60)),
    *(json.dumps(good | dict(step=x)) for x in (-1, None, 1e300)),
    *(json.dumps(good | dict(time=x)) for x in (-1, math.nan, math.inf, '1')),
    *(
      json.dumps(good | dict(seconds=x))
      for x in (
        [],
        dict(sample=-1),
        dict(sample=math.nan),
        dict(sample=True),
        {'<script>': 1},
        {'': 1},
        {'a' * 33: 1},
        {'sample\n': 1},
      )
    ),
  ]
  text = '\n'.join([*bad, json.dumps(good), *bad])
  assert account_lib.read(text) == [LINE]


AGE = """
import time
time.sleep(0.3)
from acereason_jax.run import account
time.sleep(0.1)
print(account.process_age())
"""


def test_a_process_knows_when_it_began(tmp_path):
  began = time.monotonic()
  said = subprocess.check_output(
    [sys.executable, '-c', AGE], env=tiny.environment(tmp_path), text=True
  )
  tick = 0.02
  assert 0.4 - tick <= float(said) <= time.monotonic() - began + tick


def test_without_proc_it_began_with_the_import(monkeypatch):
  def missing(*_):
    raise FileNotFoundError

  monkeypatch.setattr(account_lib, 'open', missing, raising=False)
  began = time.monotonic() - 1000
  monkeypatch.setattr(account_lib, '_IMPORTED', began)
  assert 1000 <= account_lib.process_age() <= time.monotonic() - began
