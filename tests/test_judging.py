"""Rollouts come with their verdicts, as judges give them."""

import concurrent.futures

import numpy as np
import pytest

from acereason_jax import types
from acereason_jax.rollout import judging

RIGHT = types.Verdict('right', '', 0.1)


def rollout(index):
  nothing = np.zeros(0, np.float32)
  tokens = nothing.astype(np.int32)
  return types.Rollout('q', index, tokens, nothing, nothing, 'stop', '')


def wait(answers, patience, **more):
  """The verdicts, by the place of their future among `answers`."""
  waiting = {}
  drawn = map(rollout, range(len(answers)))
  found = list(judging.judged(drawn, lambda r: answers[r.index], waiting))
  found += judging.late(waiting, patience, **more)
  assert not waiting
  return {r.index: verdict for r, verdict in found}


def test_a_late_verdict_is_a_timeout_and_is_cancelled():
  done, late, running = (concurrent.futures.Future() for _ in range(3))
  done.set_result(RIGHT)
  running.set_running_or_notify_cancel()
  found = wait([done, late, running], lambda r: 0.01)
  assert [found[i].status for i in range(3)] == ['right', 'timeout', 'timeout']
  assert not found[1].judged and '0.01 s after' in found[1].detail
  assert late.cancelled() and not running.cancelled()


def test_each_is_waited_for_as_long_as_its_own_patience():
  with concurrent.futures.ThreadPoolExecutor() as pool:
    never = concurrent.futures.Future()
    answers = [never, pool.submit(lambda: RIGHT)]
    found = wait(answers, lambda r: 60.0 * r.index)
    assert [found[i].status for i in range(2)] == ['timeout', 'right']


def test_a_wait_is_ended_from_outside():
  """What is known by then was yielded before."""
  never, soon = concurrent.futures.Future(), concurrent.futures.Future()
  found, waiting = [], {never: rollout(0), soon: rollout(1)}

  def each_second():
    if found:
      raise KeyboardInterrupt
    soon.set_result(RIGHT)

  with pytest.raises(KeyboardInterrupt):
    for r, verdict in judging.late(waiting, lambda r: 60.0, each_second):
      found.append((r.index, verdict))
  assert found == [(1, RIGHT)] and list(waiting) == [never]


def test_nothing_to_wait_for():
  assert list(judging.judged([])) == []
  one, two = rollout(0), rollout(1)
  assert list(judging.judged([one, two])) == [(one, None), (two, None)]


def test_a_verdict_comes_while_others_are_drawn():
  """A verdict is not requested before its rollout has ended."""
  first = concurrent.futures.Future()
  log = []

  def drawn():
    for i in range(3):
      log.append(f'draws {i}')
      yield rollout(i)
      if i == 1:
        first.set_result(RIGHT)

  def judge(r):
    log.append(f'judges {r.index}')
    return first if r.index == 0 else RIGHT

  for r, verdict in judging.judged(drawn(), judge):
    log.append(f'{verdict.status} {r.index}')
  assert log == [
    *('draws 0', 'judges 0', 'draws 1', 'judges 1', 'right 1'),
    *('draws 2', 'judges 2', 'right 2', 'right 0'),
  ]
