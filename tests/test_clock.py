"""A step charges seconds to the phase that spends them, by a clock we turn."""

import concurrent.futures
import dataclasses
import time
import types as python_types

import pytest
import test_rewards

from acereason_jax import types
from acereason_jax.console import signals
from acereason_jax.rl import objective
from acereason_jax.run import clock, collect, metrics, values
from acereason_jax.run import step as step_lib

# Wall and CPU seconds of each kind of work below; no two sums are equal.
SAMPLE, JUDGE, UPDATE, DRAW = (1.0, 2.0), (4.0, 0.5), (8.0, 16.0), (32.0, 64.0)
RESHARD = 128.0, 256.0


class Clock:
  """Stands still, except when work is done."""

  def __init__(self):
    self.now = clock.Seconds(1000.0, 5.0)

  def read(self):
    return self.now

  def spend(self, seconds):
    self.now = clock.total([self.now, clock.Seconds(*seconds)])


class Engine:
  """Draws rollouts of three tokens."""

  sizes = python_types.SimpleNamespace(max_tokens=test_rewards.ROOM)

  def __init__(self, hands):
    self._hands = hands

  def stream(self, params, asked, *, trace, **_):
    for request in asked:
      self._hands.spend(SAMPLE)
      trace.tokens += 3
      (rollout,) = test_rewards.group(('right', 3)).rollouts
      yield dataclasses.replace(rollout, index=request.index)


class Late(concurrent.futures.Future):
  """A verdict that is there only when it is waited for no longer."""

  def __init__(self, hands):
    super().__init__()
    self._hands = hands

  def cancel(self):
    self._hands.spend(JUDGE)
    return super().cancel()


class Pool:
  """Judges the first rollout at once, others late."""

  def __init__(self, hands):
    self._hands, self._asked = hands, 0

  def submit(self, text, answer):
    self._asked += 1
    if self._asked > 1:
      return Late(self._hands)
    done = concurrent.futures.Future()
    done.set_result(types.Verdict('right', '', 0.0))
    return done


class Journal:
  """Keeps nothing."""

  found = types.EMPTY

  def rollout(self, *_):
    pass

  verdict = rollout


@pytest.fixture
def hands(monkeypatch):
  hands = Clock()
  monkeypatch.setattr(clock, 'now', hands.read)
  return hands


def tools(hands):
  judges = {'': values.Judges(Pool(hands), 0.0, 1.0)}
  return values.Tools({}, judges, Journal(), signals.StopRequest())


def prompt():
  return test_rewards.group(('right', 3)).prompt


def test_sampling_and_the_wait_for_judges_are_apart(hands):
  asking = collect.Asking((0, 0), 'train', 0, 1.0)
  found = collect.collect(
    Engine(hands), {}, [prompt()], tools(hands), asking, groups=3
  )
  assert [v.status for v in found.groups[0].verdicts] == [
    'right',
    'timeout',
    'timeout',
  ]
  assert found.sample == (3 * SAMPLE[0], 3 * SAMPLE[1])
  assert found.judge == (2 * JUDGE[0], 2 * JUDGE[1])


def test_the_phases_of_a_step_and_the_rest(hands, monkeypatch):
  def draw(run, stage, at, tools, cursor, count):
    hands.spend(DRAW)
    return [(prompt(), 0)], {}

  def update_policy(stage, at, microbatches, entropy, wanted):
    hands.spend(UPDATE)
    return {}, {}, {}

  instead = dict(
    draw=draw,
    update_policy=update_policy,
    reset_reference=lambda stage, state, step: state,
    setting_metrics=lambda *_: {},
    record=lambda stage, at, *_: at,
  )
  for name, function in instead.items():
    monkeypatch.setattr(step_lib, name, function)
  for name in ('assign_advantages', 'pack'):
    monkeypatch.setattr(objective, name, lambda *_: [])
  stage = python_types.SimpleNamespace(
    objective=python_types.SimpleNamespace(
      rules=test_rewards.SCORE, every=False
    ),
    engine=Engine(hands),
    layout=None,
    name='one',
    prompts=1,
    # No group has a gradient, so there is a second round.
    refill=1,
  )
  run = python_types.SimpleNamespace(
    seed=0,
    rollout_params=lambda w: hands.spend(RESHARD) or w,
    rollout_bytes=3e9,
    # Of a CPU: no metric says how near it is to its peak.
    shape=None,
    peak=0.0,
    keep=dict(groups=0),
  )
  at = python_types.SimpleNamespace(
    state=python_types.SimpleNamespace(weights={}),
    progress=values.Progress('one', temperature=1.0, groups=2.0),
    ledger=None,
  )
  monkeypatch.setattr(step_lib.outcomes, 'mean_lengths', lambda _: {})
  monkeypatch.setattr(step_lib.outcomes, 'unsolved', lambda _: set())
  _, step = step_lib.take_step(run, stage, at, tools(hands))
  got = step.values
  assert got['rounds'] == 2
  for i, kind in enumerate(('seconds', 'cpu_seconds')):
    assert got[f'{kind}_sample'] == 4 * SAMPLE[i]
    assert got[f'{kind}_judge'] == 3 * JUDGE[i]
    assert got[f'{kind}_update'] == UPDATE[i]
    # Once, though the batch has two rounds.
    assert got[f'{kind}_reshard'] == RESHARD[i]
    names = 'reshard', 'sample', 'judge', 'update'
    phases = sum(got[f'{kind}_{name}'] for name in names)
    assert got[f'{kind}_step'] == phases + 2 * DRAW[i]
  assert got['reshard_gb'] == 3.0
  assert got['tokens_per_second'] == 6 / (2 * SAMPLE[0])
  assert got['seconds_judge_slowest'] == got['seconds_judge']
  assert got['judge_slowest_process'] == 0
  assert got['judge_wait_share'] == got['seconds_judge'] / got['seconds_step']


def test_cpu_time_is_that_of_all_threads_and_is_measured():
  """Another thread computes; this one only waits."""
  began = clock.now()
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    cpu = pool.submit(_burn, 0.05).result()
  spent = clock.between(began, clock.now())
  assert spent.cpu >= cpu >= 0.05
  assert all(n.startswith(metrics.MEASURED) for n in clock.named('x', spent))


def _burn(seconds):
  """Computes for CPU seconds of this thread, however long they last."""
  began = time.thread_time()
  while (spent := time.thread_time() - began) < seconds:
    sum(range(1000))
  return spent
