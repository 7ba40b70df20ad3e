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
  found = wait([done, late, running], lambda r: judging.Patience('a', 0.01))
  assert [found[i].status for i in range(3)] == ['right', 'timeout', 'timeout']
  assert not found[1].judged and 'no verdict for 0.01 s' in found[1].detail
  assert late.cancelled() and not running.cancelled()


def test_each_is_waited_for_as_long_as_its_own_patience():
  with concurrent.futures.ThreadPoolExecutor() as pool:
    never = concurrent.futures.Future()
    answers = [never, pool.submit(lambda: RIGHT)]
    patience = lambda r: judging.Patience(r.index, 60.0 * r.index)
    found = wait(answers, patience)
    assert [found[i].status for i in range(2)] == ['timeout', 'right']


class Clock:
  """Seconds that pass only while `judging.late` waits, until a judge answers.

  answers: (second, future, verdict) of the verdicts to come.
  """

  def __init__(self, monkeypatch, answers):
    self.now, self.answers = 0.0, sorted(answers, key=lambda a: a[0])
    monkeypatch.setattr(judging.time, 'monotonic', lambda: self.now)
    monkeypatch.setattr(judging.concurrent.futures, 'wait', self.wait)

  def wait(self, waiting, seconds):
    self.now += max(seconds, 1e-3)
    while self.answers and self.answers[0][0] <= self.now:
      _, future, verdict = self.answers.pop(0)
      if not future.cancelled():
        future.set_result(verdict)


def futures(count):
  return [concurrent.futures.Future() for _ in range(count)]


def every(seconds, answers, verdict=RIGHT):
  """One verdict after the other, each after so many seconds."""
  return [(seconds * i, f, verdict) for i, f in enumerate(answers, 1)]


def test_judges_that_still_give_verdicts_are_waited_for(monkeypatch):
  """16 workers' queue of 9,632 s, with the patience of 900 that ended it."""
  answers = futures(100)
  clock = Clock(monkeypatch, every(96.32, answers))
  found = wait(answers, lambda r: judging.Patience('code', 900.0))
  assert {verdict.status for verdict in found.values()} == {'right'}
  assert 9632 <= clock.now < 9640


@pytest.mark.parametrize('gap, status', [(899.0, 'right'), (902.0, 'timeout')])
def test_patience_begins_anew_with_each_verdict(monkeypatch, gap, status):
  answers = futures(2)
  Clock(
    monkeypatch, [(500.0, answers[0], RIGHT), (500 + gap, answers[1], RIGHT)]
  )
  found = wait(answers, lambda r: judging.Patience('code', 900.0))
  assert found[0].status == 'right' and found[1].status == status


def test_a_judge_that_hangs_ends_the_wait(monkeypatch):
  """Also where a pool kills each response after its own limit."""
  answers = futures(60)
  clock = Clock(monkeypatch, [])
  found = wait(answers, lambda r: judging.Patience('code', 900.0))
  assert {verdict.status for verdict in found.values()} == {'timeout'}
  assert 900 <= clock.now < 902
  answers = futures(60)
  failed = types.Verdict('timeout', 'over 300 s', 300.0)
  clock = Clock(monkeypatch, every(300.0, answers, failed))
  found = wait(answers, lambda r: judging.Patience('code', 900.0))
  assert {verdict.status for verdict in found.values()} == {'timeout'}
  assert 900 <= clock.now < 902


def test_other_judges_verdicts_do_not_help(monkeypatch):
  math, code = futures(30), futures(1)
  clock = Clock(monkeypatch, every(100.0, math))
  who = lambda r: judging.Patience('math' if r.index < 30 else 'code', 900.0)
  ended = []
  found = wait(
    math + code,
    who,
    each_second=lambda: ended.append((clock.now, code[0].cancelled())),
  )
  assert [found[i].status for i in range(31)] == 30 * ['right'] + ['timeout']
  assert 900 <= min(now for now, gone in ended if gone) < 902


def test_a_wait_is_ended_from_outside():
  """What is known by then was yielded before."""
  never, soon = concurrent.futures.Future(), concurrent.futures.Future()
  found, waiting = [], {never: rollout(0), soon: rollout(1)}

  def each_second():
    if found:
      raise KeyboardInterrupt
    soon.set_result(RIGHT)

  with pytest.raises(KeyboardInterrupt):
    patience = lambda r: judging.Patience('a', 60.0)
    for r, verdict in judging.late(waiting, patience, each_second):
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
