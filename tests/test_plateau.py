"""Where a stage's end is called, in runs whose true gain is known."""

import itertools
import math

import numpy as np
import pytest
from plateau_runs import RULE, Filter, run, stopped

from acereason_jax.curriculum import ending, plateau
from acereason_jax.curriculum.ending import Stop
from acereason_jax.curriculum.ledger import Ledger, Record

SOLVED = Filter(drop_solved=True)
MIXED = Filter(drop_solved=True, keep_unsolved=False)
SMALL = RULE._replace(window=60)
# Each with what it would do to a rule that looks at the mean of batches.
CASES = {
  'all prompts': {},
  'solved ones leave': dict(keep=SOLVED),
  'unsolved ones leave': dict(keep=Filter(keep_unsolved=False)),
  'both leave': dict(keep=MIXED),
  'some come back': dict(keep=SOLVED._replace(readmit=0.2)),
  'groups grow': dict(keep=SOLVED, sizes=(4, 8, 16)),
  'groups shrink': dict(keep=SOLVED, sizes=(16, 8, 4)),
  'verdicts fail': dict(keep=SOLVED, failed=0.1),
  'the mix gets harder': dict(keep=SOLVED, hard=(0.1, 0.9)),
  'the mix gets easier': dict(hard=(0.9, 0.1)),
  'batches are refilled': dict(keep=SOLVED, refill=2),
}


def last(**kwargs):
  *_, look = run(stop=SMALL, every=kwargs['steps'], **kwargs)
  return look.rise


@pytest.mark.parametrize('name', CASES)
def test_a_gain_is_measured_whatever_the_filter(name):
  """Without one it is 0 on average, and its error is the true one."""
  size = dict(steps=120, **CASES[name])
  none = [last(seed=seed, gain=0.0, **size) for seed in range(10)]
  some = [last(seed=seed, gain=0.06, **size) for seed in range(2)]
  in_errors = np.array([rise.gain / rise.error for rise in none])
  assert abs(in_errors.mean()) < 4 / math.sqrt(len(none))
  assert 0.5 < in_errors.std() < 1.7
  for rise in some:
    assert rise.gain > 0.02 and rise.gain > 3 * rise.error
    assert rise.prompts >= plateau.MIN_PROMPTS


@pytest.mark.parametrize('name', CASES)
def test_a_stage_without_a_gain_ends_and_one_with_it_goes_on(name):
  size = dict(steps=240, prompts=1024, batch=32, every=5, **CASES[name])
  rule = SMALL._replace(gain=0.02)
  assert stopped(rule, seed=0, gain=0.0, **size) is not None
  assert stopped(rule, seed=1, gain=0.06, **size) is None


def test_a_reward_that_falls_because_solved_prompts_leave_ends_nothing():
  """The true rate rises from .53 to .60, as it did in code_32k at step 400."""
  size = dict(seed=0, steps=400, gain=0.035, mean=0.71, prompts=2048, batch=64)
  looks = list(run(keep=SOLVED, every=10, **size))
  assert looks[0].skill < 0.54 and looks[-1].skill > 0.595
  rewards = [look.reward for look in looks]
  # This ended the previous stage: newer batches have a lower mean.
  assert np.mean(rewards[200:]) < np.mean(rewards[:200])
  ends = [ending.should_stop(RULE, 1, 0, look.rise) for look in looks]
  assert not any(ends)
  # With the same prompts, filter and noise, and no gain, it ends.
  assert stopped(RULE, keep=SOLVED, every=10, **size | dict(gain=0.0))


def test_what_draws_of_equal_size_are_for():
  """A prompt's next rate is higher than the one that let it stay."""

  def rise(rows):
    before, found = {}, []
    for row in rows:
      rate = row['right'] / (row['right'] + row['wrong'])
      if row['prompt'] in before:
        found.append(rate - before[row['prompt']])
      before[row['prompt']] = rate
    return np.mean(found)

  size = dict(seed=0, steps=200, gain=0.0, sizes=(4,))
  assert rise(rows_of(keep=SOLVED, **size)) > 0.01
  assert abs(rise(rows_of(**size))) < 0.005


def rows_of(**kwargs):
  """The groups of a run, as the rule gets them."""
  seen = []

  def note(stop, history, ledger, *args, **place):
    seen.append(ledger.rows)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('plateau_runs.ending.rise', note)
    for _ in run(every=kwargs['steps'], **kwargs):
      pass
  return seen[-1]


def record(prompt, step, right, judged, **changes):
  values = dict(kind='train', stage='s', epoch=0, domain='d')
  counts = dict(
    unparsed=0, timeout=0, error=0, truncated=0, tokens=9, longest=9
  )
  counts |= dict(wrong=judged - right, timeout=0 if judged else 4)
  counts |= dict(solved=right)
  return Record(
    step=step, prompt=prompt, right=right, **values | counts | changes
  )


def rises(records, *, newest=40, window=20, leave=(False, False), **changes):
  place = dict(stage='s', since=0, newest=newest, window=window)
  place |= dict(temperatures=[1.0] * newest)
  return plateau.of_same_prompts(
    Ledger(records),
    solved_leave=dict(d=leave[0]),
    unsolved_leave=dict(d=leave[1]),
    **place | changes,
  )


def twice(first, second, count=20, **changes):
  """As many prompts, asked in steps 10 and 30: (right, judged) each."""
  names = [f'p{i}' for i in range(count)]
  return [record(n, 10, *first, **changes) for n in names] + [
    record(n, 30, *second, **changes) for n in names
  ]


def test_a_gain_is_one_of_a_window():
  found = rises(twice((1, 4), (3, 8)))
  assert found == plateau.Rise(pytest.approx(0.125), pytest.approx(0.0), 20)
  # Half as many steps apart it would be twice as fast.
  records = twice((1, 4), (3, 8))
  nearer = [r._replace(step=20) if r.step == 10 else r for r in records]
  assert rises(nearer).gain == pytest.approx(0.25)


@pytest.mark.parametrize('leave', [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
  'first, second', [((3, 4), (4, 8)), ((5, 8), (4, 4)), ((0, 3), (2, 5))]
)
def test_all_draws_of_the_smaller_size(first, second, leave):
  """Counted one by one."""
  size = min(first[1], second[1])

  def draws(right, judged):
    rollouts = [1] * right + [0] * (judged - right)
    return [sum(d) for d in itertools.combinations(rollouts, size)]

  stays = lambda n: not ((n == size and leave[0]) or (n == 0 and leave[1]))
  pairs = [*itertools.product(draws(*first), draws(*second))]
  kept = [(b - a) / size for a, b in pairs if stays(a) and stays(b)]
  found = rises(twice(first, second), leave=leave)
  if not kept:
    assert found is None
  else:
    assert found.gain == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(
  'records, changes',
  [
    ([], {}),
    (twice((1, 4), (3, 4), count=19), {}),
    (twice((1, 4), (3, 4), kind='probe'), {}),
    (twice((1, 4), (3, 4), stage='t'), {}),
    (twice((1, 4), (3, 4)), dict(newest=60)),  # Not in the newest window.
    (twice((1, 4), (3, 4)), dict(window=41)),
    (twice((1, 4), (3, 4)), dict(since=20)),  # A stage of that name before.
    (twice((1, 4), (0, 0)), {}),
    (twice((4, 4), (3, 4)), dict(leave=(True, False))),
    (twice((1, 4), (3, 4)), dict(temperatures=[0.6] * 20 + [1.0] * 20)),
    (twice((1, 4), (3, 4)), dict(temperatures=())),
  ],
)
def test_when_nothing_is_known(records, changes):
  assert rises(records, **changes) is None


def test_a_temperature_that_drifts_a_little_is_the_same():
  drift = list(np.linspace(0.85, 0.87, 40))
  assert rises(twice((1, 4), (3, 4)), temperatures=drift).gain == 0.5


def test_a_group_without_verdicts_is_passed_over():
  records = twice((1, 4), (3, 4))
  between = [record(f'p{i}', 20, 0, 0) for i in range(20)]
  records = sorted(records + between, key=lambda r: r.step)
  assert rises(records).gain == 0.5


def test_means_of_values():
  assert plateau.of_values([0.1, 0.3, 0.4, 0.8], 2) == plateau.Rise(
    pytest.approx(0.4), pytest.approx(math.sqrt((0.02 + 0.08) / 2))
  )
  assert plateau.of_values([0.1, 0.2], 1) is None


@pytest.mark.parametrize('window', [4, 50, 200])
def test_noise_ends_nothing_by_values(window):
  """Which gain more than the rule wants, and are noise for the rest."""
  rule, ends = Stop(metric='reward', window=window, gain=0.0), 0
  for seed in range(40):
    draw = np.random.default_rng(seed)
    values = np.linspace(0.4, 0.44, 2 * window) + draw.normal(
      0, 0.02, 2 * window
    )
    rise = plateau.of_values(list(values), window)
    ends += ending.should_stop(rule, 1, 0, rise) is not None
  assert ends <= 1
