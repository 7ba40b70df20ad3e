"""Signals that ask a command to stop: what each does, and when."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest
from jax.experimental import multihost_utils

from acereason_jax.console import signals
from acereason_jax.hosts import together

SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
GUARD = 60
pytestmark = pytest.mark.usefixtures('told_to_end')


class Dying:
  """Sends signals where Python ignores errors."""

  def __init__(self, *numbers):
    self._numbers = numbers

  def __del__(self):
    for number in self._numbers:
      signal.raise_signal(number)


def after(number, before):
  """The handlers once this signal asked: only SIGINT does not end processes."""
  if number == signal.SIGINT:
    return before
  return [signal.SIG_IGN, before[1], signal.SIG_IGN]


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_sets_the_flag_and_handlers_come_back(number):
  before = [signal.getsignal(n) for n in SIGNALS]
  with signals.StopRequest() as stop:
    stop.heed()
    assert not stop.agreed()
    os.kill(os.getpid(), number)
    assert stop.agreed()
    with pytest.raises(signals.Asked):
      stop.heed()
  assert [signal.getsignal(n) for n in SIGNALS] == after(number, before)


def test_a_hangup_that_nohup_has_ignored_stays_so():
  previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.StopRequest() as stop:
      signal.raise_signal(signal.SIGHUP)
      assert not stop.agreed()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, previous)


def test_the_second_interrupt_is_immediate():
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt), signals.StopRequest():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) == before


def test_only_a_second_interrupt_is():
  """`timeout` sends SIGTERM twice, and a closed terminal SIGHUP."""
  with signals.StopRequest() as stop:
    for number in (signal.SIGTERM, signal.SIGHUP) * 3:
      signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    assert stop.agreed()


@pytest.mark.parametrize('number', SIGNALS)
def test_where_every_point_is_safe_the_first_signal_is_immediate(number):
  with signals.StopRequest() as stop:
    with pytest.raises(signals.Asked), stop.interruptible():
      signal.raise_signal(number)
      raise AssertionError('not reached')
    assert stop.agreed()
    # The same signal does not cut short the writing on the way out.
    for again in (signal.SIGTERM, signal.SIGHUP):
      signal.raise_signal(again)


def test_a_command_that_loses_nothing_takes_no_hangup():
  """It ends as others do; `terminal.say` counts on that."""
  before = signal.getsignal(signal.SIGHUP)
  with signals.at_once():
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_loses_nothing_ends_at_once(number):
  before = [signal.getsignal(n) for n in SIGNALS]
  with pytest.raises(signals.Asked), signals.at_once():
    signal.raise_signal(number)
    raise AssertionError('not reached')
  want = before if number == signal.SIGINT else [signal.SIG_IGN, *before[1:]]
  assert [signal.getsignal(n) for n in SIGNALS] == want


def test_a_second_signal_changes_no_status_before_the_end():
  """As its handlers are gone, and the command has yet to end."""
  with signals.StopRequest() as stop:
    signal.raise_signal(signal.SIGTERM)
  for number in (signal.SIGTERM, signal.SIGHUP):
    signal.raise_signal(number)
  assert stop.agreed()


def test_commands_that_need_no_jax_load_none():
  code = (
    'import sys\n'
    'from acereason_jax import curate, judge\n'
    'from acereason_jax.console import signals\n'
    'with signals.at_once(): assert "jax" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_a_signal_that_a_library_swallowed_is_heeded():
  with signals.StopRequest() as stop:
    with (
      pytest.raises(KeyboardInterrupt),
      stop.interruptible(),
      contextlib.suppress(KeyboardInterrupt),
    ):
      signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop.interruptible():
      raise AssertionError('not reached: it was asked before')
  with signals.StopRequest() as stop, stop.interruptible():
    pass
  assert not stop.agreed()


def collect(number):
  """Sends a signal in a callback of the collector."""

  def collected(phase, info):
    if phase == 'stop':
      signal.raise_signal(number)

  gc.callbacks.append(collected)
  try:
    gc.collect()
  finally:
    gc.callbacks.remove(collected)


@pytest.mark.parametrize('send', [Dying, collect])
@pytest.mark.parametrize('number', SIGNALS)
def test_where_python_ignores_errors_it_waits(number, send):
  with (
    signals.StopRequest() as stop,
    pytest.raises(signals.Asked),
    stop.interruptible(),
  ):
    send(number)
    time.sleep(GUARD)
    raise AssertionError('not reached')


def test_the_second_interrupt_waits_there_too():
  with pytest.raises(KeyboardInterrupt) as e, signals.StopRequest():
    Dying(signal.SIGINT, signal.SIGINT)
    time.sleep(GUARD)
  assert not isinstance(e.value, signals.Asked)


def test_the_third_interrupt_waits_for_nothing():
  """As where another thread keeps a lock for ever."""
  source, reached = threading.Condition(), []
  release = threading.Event()

  def keep():
    with source:
      reached.append(True)
      release.wait()

  keeper = threading.Thread(target=keep)
  keeper.start()
  while not reached:
    time.sleep(0.001)
  main = threading.main_thread().ident
  sender = threading.Thread(
    target=lambda: [
      (time.sleep(0.1), signal.pthread_kill(main, signal.SIGINT))
      for _ in range(3)
    ]
  )
  try:
    with pytest.raises(KeyboardInterrupt) as e, signals.StopRequest() as stop:
      sender.start()
      with source:
        raise AssertionError('not reached')
    assert not isinstance(e.value, signals.Asked) and stop._interrupts == 3
  finally:
    release.set()
    sender.join()
    keeper.join()


def test_a_hurry_ends_once():
  """The way out is not cut by what comes next, except by one more Ctrl+C."""
  left = []
  with pytest.raises(KeyboardInterrupt), signals.StopRequest():
    try:
      Dying(signal.SIGINT, signal.SIGINT)
      time.sleep(GUARD)
    finally:
      for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)
      time.sleep(0.05)
      left.append(True)
  assert left


def test_one_that_waited_does_not_cut_the_way_out():
  left = []
  with (
    signals.StopRequest() as stop,
    pytest.raises(signals.Asked),
    stop.interruptible(),
  ):
    try:
      Dying(signal.SIGTERM)
      stop.heed()
    finally:
      # It would be raised here, a millisecond after it came.
      time.sleep(0.05)
      left.append(stop)
  assert left


def test_an_error_of_the_work_is_not_hidden_by_a_signal():
  with (
    signals.StopRequest() as stop,
    pytest.raises(ValueError, match='bad'),
    stop.interruptible(),
  ):
    with contextlib.suppress(KeyboardInterrupt):
      signal.raise_signal(signal.SIGTERM)
    raise ValueError('bad')


def test_with_many_processes_jax_gets_the_signal_and_decides(monkeypatch):
  """Each safe point has a number of its own; once agreed, it stays so."""
  asked, terminated = [], []
  alone = together.stop_request()
  previous = signal.signal(signal.SIGTERM, lambda *_: terminated.append(1))
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    multihost_utils,
    'reached_preemption_sync_point',
    lambda point: asked.append(point) or point == 4,
  )
  try:
    with together.stop_request() as stop:
      # No point between the two ends of the block is safe.
      with stop.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
      assert terminated == [1]
      assert [stop.agreed() for _ in range(4)] == [False, True, True, True]
      with pytest.raises(signals.Asked), stop.interruptible():
        raise AssertionError('not reached: it was asked before')
  finally:
    signal.signal(signal.SIGTERM, previous)
  assert asked == [1, 2, 3, 4]
  with alone:
    assert not alone.agreed()
