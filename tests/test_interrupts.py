"""A signal where it may raise at once: at every point, of every part.

Python runs handlers after calls, at the start of functions and at the end of
loops. A tracer counts these points in some files and sends a signal at the
n-th, for every n. Nothing may hang then, or be left, or be lost.
"""

import concurrent.futures
import dis
import gc
import itertools
import os
import queue
import signal
import sys
import threading
import time

import numpy as np
import pytest

from acereason_jax import files, types
from acereason_jax.console import signals
from acereason_jax.evaluation import samples
from acereason_jax.rollout import judging, output
from acereason_jax.run import journal as journal_lib
from acereason_jax.verifiers.pool import pool as pool_lib

GUARD = 60
POINTS = {'RESUME', 'JUMP_BACKWARD', 'CALL', 'CALL_FUNCTION_EX'}
CONCURRENT = 'threading.py', 'futures/_base.py', 'futures/thread.py'
SETTINGS = dict(
  benchmarks={},
  judges={},
  about=dict(
    model=dict(name='m', step=None),
    sampling={},
    engine=dict(window=1),
    first_prompts={},
  ),
)
NOTHING = np.zeros(0, np.float32)

pytestmark = pytest.mark.usefixtures('told_to_end')
if sys.implementation.name != 'cpython' or sys.version_info[:2] != (3, 11):
  pytest.skip('points are those of one bytecode', allow_module_level=True)


class Signal:
  """Context manager: sends SIGTERM at the n-th point of its thread.

  `names` are the ends of the files' names; `where` is that point, '' if there
  are fewer.
  """

  def __init__(self, n, names):
    self._left, self._names, self.where = n, names, ''
    self._last = {}

  def __enter__(self):
    sys.settrace(self._call)
    return self

  def __exit__(self, *exc):
    sys.settrace(None)
    self._last.clear()  # Frames hold what they have open.

  def _call(self, frame, event, arg):
    if not frame.f_code.co_filename.endswith(self._names):
      return None
    frame.f_trace_opcodes = True
    return self._step

  def _step(self, frame, event, arg):
    if event == 'return':
      self._last.pop(frame, None)
      # No handler runs when a function of Python returns.
      self._last[frame.f_back] = ''
    if event == 'opcode':
      before = self._last.get(frame)
      name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
      # A call is two opcodes, and no handler runs between them.
      self._last[frame] = before if name == 'PRECALL' else name
      if name != 'PRECALL' and before in POINTS:
        self._left -= 1
        if not self._left:
          code = frame.f_code
          self.where = f'{code.co_filename}:{frame.f_lineno} {code.co_name}'
          sys.settrace(None)
          signal.raise_signal(signal.SIGTERM)
    return self._step


def at_every_point(work, names):
  """Calls work(n) with a signal at each point n; yields (where, n) after it."""
  for n in itertools.count(1):
    told = Signal(n, names)
    try:
      with signals.StopRequest() as stop, stop.interruptible(), told:
        work(n)
    except signals.Asked:
      assert told.where
    else:
      assert not told.where, told.where
      assert n > 20
      return
    # What a block that was left has open closes with the last reference.
    gc.collect()
    yield told.where, n


class Process:
  """A worker without a process."""

  resident_bytes = 0

  def __init__(self, setup):
    self._runs = False

  def start(self):
    self._runs = True
    return ''

  def idle(self):
    return self._runs

  def worn(self):
    return False

  def judge(self, task_id, message, deadline):
    return types.Verdict('right', '', 0.0)

  def kill(self):
    self._runs = False
    return ''


def rollout(index):
  return types.Rollout(
    prompt_id='p',
    index=index,
    tokens=NOTHING.astype(np.int32),
    logp=NOTHING,
    full_logp=NOTHING,
    stop='stop',
    text='text',
  )


def screen(pool):
  list(pool.as_completed((i, '', 'a') for i in range(3)))


def look(pool):
  waiting = {}
  judge = lambda rollout: pool.submit(rollout.text, 'a')
  list(judging.judged(map(rollout, range(3)), judge, waiting))
  list(judging.late(waiting, lambda rollout: judging.Patience('', GUARD)))


@pytest.mark.parametrize('ask', [screen, look])
def test_judges_end(ask, monkeypatch):
  """No lock stays taken that their threads need, and none of them dies."""
  died, pools = [], []
  monkeypatch.setattr(pool_lib, 'Process', Process)
  monkeypatch.setattr(threading, 'excepthook', died.append)

  def work(n):
    pools.append(pool_lib.VerifierPool('m:f', {}, 1, GUARD))
    ask(pools[-1])

  names = *CONCURRENT, 'pool/pool.py', 'affinity.py', 'judging.py'
  for where, _ in at_every_point(work, names):
    for pool in pools:
      end = threading.Thread(target=pool.close, daemon=True)
      end.start()
      end.join(GUARD)
      assert not end.is_alive(), where
      assert not died, where
    pools.clear()


def test_a_wait_for_a_future_ends():
  """With the signal's exception, and its giver never waits for its lock."""
  asked, given = queue.SimpleQueue(), queue.SimpleQueue()

  def give():
    while (future := asked.get()) is not None:
      time.sleep(0.002)  # Most are waited for by then.
      future.set_result(1)
      given.put(future)

  giver = threading.Thread(target=give, daemon=True)
  giver.start()
  futures = []

  def work(n):
    futures.append(concurrent.futures.Future())
    asked.put(futures[-1])
    for _ in concurrent.futures.as_completed(futures[-1:], GUARD):
      pass
    futures.append(concurrent.futures.Future())
    asked.put(futures[-1])
    futures[-1].result(GUARD)

  for _ in at_every_point(work, CONCURRENT):
    while futures:
      assert given.get(timeout=GUARD) is futures.pop(0)
  asked.put(None)
  giver.join()


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  work = lambda n: files.write_atomically(path, 'new')
  for where, _ in at_every_point(work, ('/files.py', 'contextlib.py')):
    assert os.listdir(tmp_path) == ['file'], where
    assert path.read_text() in ('old', 'new'), where
    path.write_text('old')


def test_an_evaluation_keeps_what_was_written(tmp_path):
  keys = [samples.Key('b', 'p', index) for index in range(3)]
  opened = lambda n: samples.Store(tmp_path / f'{n}', ['j'], new=SETTINGS)
  written = []

  def work(n):
    written.clear()
    with opened(n) as store:
      for key in keys:
        store.write_sample(key, dict(text='', length=1, stop='stop'))
        written.append(key)
        verdict = types.Verdict('right', '', 0.0)
        store.write_verdict('j', key, verdict)

  for where, n in at_every_point(work, ('/samples.py', 'contextlib.py')):
    with opened(n) as store:
      assert written == list(store.own)[: len(written)], where
      assert len(store.own) - len(written) in (0, 1), where


def test_generate_keeps_what_was_written(tmp_path):
  header = dict(n=3, seed=0, temperature=1.0)
  written = []

  def work(n):
    written.clear()
    with output.Output(tmp_path / f'{n}', header) as out:
      for index in range(3):
        out.write(output.to_record(rollout(index), False))
        written.append(('p', index))

  for where, n in at_every_point(work, ('/output.py', 'contextlib.py')):
    with output.Output(tmp_path / f'{n}', header) as out:
      assert written == list(out.done)[: len(written)], where
      assert len(out.done) - len(written) in (0, 1), where


def test_a_journal_keeps_what_was_written(tmp_path):
  written = []

  def work(n):
    written.clear()
    with journal_lib.Journal(tmp_path / f'{n}', 'f') as journal:
      for index in range(2):
        journal.rollout('train', 0, rollout(index))
        written.append(journal_lib.Key('train', 0, 'p', index))

  names = *CONCURRENT, '/journal.py', '/stores.py'
  for where, n in at_every_point(work, names):
    with journal_lib.Journal(tmp_path / f'{n}', 'f') as journal:
      assert written == list(journal.found)[: len(written)], where
