"""One reward: what trains is what signal, refill, filters and metrics see."""

import math

import numpy as np
import pytest

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger, outcomes
from acereason_jax.rl import objective
from acereason_jax.run import judged as judged_lib
from acereason_jax.run import step as step_lib

ROOM = 10
SCORE = objective.Rules('score', 0, ROOM)
ZERO = SCORE._replace(truncated='zero')
MASK = SCORE._replace(truncated='mask')
# The last 4 tokens cost a quarter each.
SOFT = SCORE._replace(soft_tokens=4)


def group(*outcomes, name='p', domain=''):
  """Rollouts, (status, tokens) each; a response of ROOM tokens was cut off."""
  prompt = types.Prompt(name, '', '', np.zeros(1, np.int32), domain)
  rollouts = [
    types.Rollout(
      name,
      i,
      np.zeros(tokens, np.int32),
      np.zeros(tokens, np.float32),
      np.zeros(tokens, np.float32),
      'length' if tokens == ROOM else 'stop',
      '',
    )
    for i, (_, tokens) in enumerate(outcomes)
  ]
  verdicts = [types.Verdict(status, '', 0.0) for status, _ in outcomes]
  return types.Group(prompt, tuple(rollouts), tuple(verdicts))


MASKED_SOFT = SOFT._replace(truncated='mask')

RIGHT, WRONG, LATE = ('right', 3), ('wrong', 3), ('timeout', 3)
RIGHT_BUT_CUT, WRONG_AND_CUT = ('right', ROOM), ('wrong', ROOM)


@pytest.mark.parametrize(
  'outcome, rules, want',
  [
    (RIGHT, SCORE, 1.0),
    (RIGHT_BUT_CUT, SCORE, 1.0),
    (RIGHT_BUT_CUT, MASK, 1.0),
    (RIGHT_BUT_CUT, ZERO, 0.0),
    (WRONG_AND_CUT, ZERO, 0.0),
    (('unparsed', 3), ZERO, 0.0),
    (('right', 6), SOFT, 1.0),
    (('right', 7), SOFT, 0.75),
    (('wrong', 7), SOFT, -0.25),
    (('right', 9), SOFT, 0.25),
    (RIGHT_BUT_CUT, SOFT, 0.0),
    (RIGHT_BUT_CUT, SOFT._replace(truncated='zero'), -1.0),
  ],
)
def test_reward_by_hand(outcome, rules, want):
  g = group(outcome)
  assert objective.reward(g.rollouts[0], g.verdicts[0], rules) == want
  reward_PG, judged_PG = objective.rewards([g, g], rules)
  assert reward_PG.tolist() == [[want], [want]] and judged_PG.all()


def test_what_the_judge_failed_on_has_no_reward():
  g = group(RIGHT, LATE, ('error', 0))
  with pytest.raises(ValueError, match='has no reward'):
    objective.reward(g.rollouts[1], g.verdicts[1], ZERO)
  reward_PG, judged_PG = objective.rewards([g], ZERO)
  assert judged_PG.tolist() == [[True, False, False]]
  assert reward_PG.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
  'outcomes, rules, signal',
  [
    ([RIGHT, WRONG], SCORE, True),
    ([RIGHT, RIGHT], SCORE, False),
    ([RIGHT, LATE], SCORE, False),
    # All right for the judge, but one is scored 0.
    ([RIGHT, RIGHT_BUT_CUT], SCORE, False),
    ([RIGHT, RIGHT_BUT_CUT], ZERO, True),
    # Right and wrong, but both are scored 0.
    ([WRONG, RIGHT_BUT_CUT], SCORE, True),
    ([WRONG, RIGHT_BUT_CUT], ZERO, False),
    # The longer of two right answers is the worse one.
    ([RIGHT, ('right', 8)], SOFT, True),
    ([WRONG, ('wrong', 8)], SOFT, True),
    ([('right', 7), ('right', 7)], SOFT, False),
    ([RIGHT, ('right', 6)], SOFT, False),
    # The different one is in the mean, and the others are trained on.
    ([RIGHT, RIGHT, WRONG_AND_CUT], MASK, True),
    # Those in the loss have 0.5, those cut off 0; or -1 and 0, mean -0.5.
    ([('right', 8), RIGHT_BUT_CUT, RIGHT_BUT_CUT], MASKED_SOFT, True),
    ([('wrong', 8), RIGHT_BUT_CUT, WRONG_AND_CUT], MASKED_SOFT, False),
    ([RIGHT_BUT_CUT, WRONG_AND_CUT], MASK, False),
    ([RIGHT_BUT_CUT, WRONG_AND_CUT], SCORE, True),
    ([RIGHT_BUT_CUT, WRONG_AND_CUT, LATE], MASK, False),
    ([LATE, LATE], SCORE, False),
  ],
)
def test_a_group_has_signal_if_it_has_a_gradient(outcomes, rules, signal):
  g = group(*outcomes)
  assert objective.has_signal(g, rules) == signal
  # And so do refills, and the metric that a limit looks at.
  others = [group(RIGHT, RIGHT), group(WRONG, WRONG)]
  (chosen,) = step_lib.choose_groups([*others, g], 1, rules)
  assert (chosen is g) == signal
  found = judged_lib.judge_metrics([g], rules)
  assert found['zero_signal_share'] == 1.0 - signal


def test_reward_is_what_trains_and_pass_is_the_judges():
  groups = [
    group(RIGHT, RIGHT_BUT_CUT, WRONG, LATE),
    group(RIGHT_BUT_CUT, WRONG_AND_CUT, WRONG, WRONG, name='q'),
  ]
  found = judged_lib.judge_metrics(groups, ZERO)
  assert found['reward'] == pytest.approx(1 / 7)
  assert found['pass_rate'] == pytest.approx(3 / 7)
  assert found['solved_share'] == 0.5
  assert found['judge_failed_share'] == pytest.approx(1 / 8)
  found = judged_lib.judge_metrics(groups, SCORE)
  assert found['reward'] == found['pass_rate'] == pytest.approx(3 / 7)
  assert found['solved_share'] == 1.0
  # Rewards below 0 are none that was earned.
  long = [group(('wrong', 9), ('wrong', 8)), group(('right', 9), WRONG)]
  found = judged_lib.judge_metrics(long, SOFT)
  assert found['reward'] == pytest.approx((-0.75 - 0.5 + 0.25) / 4)
  assert found['pass_rate'] == 0.25 and found['solved_share'] == 0.5


def test_domains_have_the_same_rules():
  groups = [
    group(RIGHT_BUT_CUT, domain='math'),
    group(RIGHT, domain='code', name='q'),
  ]
  found = judged_lib.judge_metrics(groups, ZERO)
  assert (found['math/reward'], found['code/reward']) == (0.0, 1.0)
  assert (found['math/pass_rate'], found['code/pass_rate']) == (1.0, 1.0)


def survivors(groups, rules, filter, kind='train'):
  """Ids left for the next epoch by what became of these."""
  step = int(kind == 'train')
  known = ledger.Ledger(
    ledger.records(groups, kind, 's', [0] * len(groups), step, rules)
  )
  kept = filtering.survivors(
    [g.prompt for g in groups],
    known,
    filter,
    stage='s',
    epoch=1,
    before_step=9,
    seed=0,
  )
  return [p.id for p in kept]


def test_filters_go_by_what_trains():
  groups = [
    group(RIGHT, RIGHT_BUT_CUT, name='a'),
    group(RIGHT_BUT_CUT, RIGHT_BUT_CUT, name='b'),
    group(RIGHT, RIGHT, name='c'),
    group(WRONG, WRONG, name='d'),
    group(('right', 9), ('right', 8), name='e'),
  ]
  solved = filtering.Filter(drop_solved=True)
  unsolved = filtering.Filter(keep_unsolved=False)
  assert survivors(groups, SCORE, solved) == ['d']
  assert survivors(groups, ZERO, solved) == ['a', 'b', 'd']
  # A long solved response counts as solved; at full length no reward is left.
  assert survivors(groups, SOFT, solved) == ['a', 'b', 'd']
  assert survivors(groups, ZERO, unsolved) == ['a', 'c', 'e']
  assert survivors(groups, SCORE, unsolved) == ['a', 'b', 'c', 'e']
  probe = filtering.Filter(of=2, max_solved=1)
  assert survivors(groups, SCORE, probe, 'probe') == ['d']
  assert survivors(groups, ZERO, probe, 'probe') == ['a', 'b', 'd']


def test_the_ledger_holds_the_judges_word_and_what_trains():
  g = group(RIGHT, RIGHT_BUT_CUT, WRONG, LATE, ('right', 9))
  found = [
    ledger.records([g], 'train', 's', [0], 1, rules)[0]
    for rules in (SCORE, ZERO, MASK, SOFT, SOFT._replace(truncated='zero'))
  ]
  assert [(r.right, r.solved) for r in found] == [
    (3, 3),
    (3, 2),
    (3, 3),
    (3, 2),
    (3, 2),
  ]
  # The model's ability does not depend on a stage's rules.
  first = ledger.records([group(WRONG)], 'train', 's', [0], 1, ZERO)
  then = ledger.records([group(RIGHT_BUT_CUT)], 'train', 's', [0], 2, ZERO)
  assert then[0].solved == 0
  assert outcomes.solvable(ledger.Ledger(first + then)) == {'p': 2}


@pytest.mark.parametrize(
  'statuses, rate, judged, failed',
  [
    (['right'] * 9 + ['timeout'], 1.0, 9, 1),
    (['right', 'wrong', 'error', 'error'], 0.5, 2, 2),
    (['unparsed', 'timeout'], 0.0, 1, 1),
    (['right', 'wrong', 'unparsed'], 1 / 3, 3, 0),
    (['timeout', 'error'], math.nan, 0, 2),
    (['right'] * 3 + ['wrong'] + ['timeout'] * 96, 0.75, 4, 96),
  ],
)
def test_a_held_out_rate_is_of_what_was_judged(statuses, rate, judged, failed):
  # Of one prompt, in one group or in several, or of a prompt each.
  for name in (lambda i: 'p', str):
    apart = [group((s, 3), name=name(i)) for i, s in enumerate(statuses)]
    found = judged_lib.pass_rate(apart)
    assert found.rate == pytest.approx(rate, nan_ok=True)
    assert (found.judged, found.failed) == (judged, failed)
  one = judged_lib.pass_rate([group(*((s, 3) for s in statuses))])
  assert one.rate == pytest.approx(rate, nan_ok=True)
  assert (one.judged, one.failed) == (judged, failed)


def test_the_error_of_a_held_out_rate():
  def rate(**statuses):
    groups = [
      group(*((s, 3) for s in mine), name=name)
      for name, mine in statuses.items()
    ]
    return judged_lib.pass_rate(groups)

  half, right, wrong = ['right', 'wrong'], ['right'] * 2, ['wrong'] * 2
  # Variances of the means: 1/4, 0, 0.
  found = rate(a=half, b=right, c=wrong)
  assert found.rate == 0.5 and found.error == pytest.approx(0.5 / 3)
  # A rate is a mean over prompts, each as much as another.
  assert rate(a=['right'], b=['wrong'] * 3).rate == 0.5
  # One rollout each: the error over prompts, sd / sqrt(4).
  single = rate(a=['right'], b=['wrong'], c=['wrong'], d=['wrong'])
  assert single.error == pytest.approx(0.25)
  assert math.isnan(rate(a=['right']).error)
  # Not 0: what was never right may be right one day.
  assert math.isnan(rate(a=wrong, b=wrong).error)
  assert math.isnan(rate(a=right, b=right).error)
  assert math.isnan(rate(a=right, b=wrong).error)
  # A judge that fails on one of ten changes what was judged, not the average.
  failing = rate(a=[*half * 4, 'right', 'timeout'], b=right * 5)
  whole = rate(a=half * 5, b=right * 5)
  assert (failing.judged, failing.failed) == (19, 1)
  assert (whole.judged, whole.failed) == (20, 0)
  lost = rate(a=['timeout'] * 10, b=half * 5)
  assert (lost.rate, lost.judged, lost.failed) == (0.5, 10, 10)
