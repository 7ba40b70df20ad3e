"""Why a rollout has its reward, advantage and gradient: sentences by hand."""

import math

import pytest

from acereason_jax.rl import objective, reasons

MASK = objective.Rules('mask', 0, 100)
ZERO = objective.Rules('zero', 0, 100)
SOFT = objective.Rules('score', 20, 100)
CUT = 'the response was cut off at 100 tokens'


def facts(**changes):
  """A right rollout with a gradient, in a group of four."""
  made = reasons.Facts(
    status='right',
    stop='stop',
    length=50,
    reward=1.0,
    advantage=1.5,
    counted=True,
    trained=True,
    group=(1.0, 0.0, 0.0, 0.0),
  )
  return made._replace(**changes)


def told(rules=MASK, **changes):
  return dict(reasons.sentences(facts(**changes), rules))


def test_a_plain_one():
  assert told() == {
    'reward': '1, because the answer is right',
    'advantage': '1.5, because the mean reward of the 4 judged rollouts of the '
    'group is 0.25',
    'in the loss': 'yes, with a gradient',
  }


@pytest.mark.parametrize(
  'rules, changes, sentence',
  [
    (MASK, dict(status='wrong', reward=0), '0, because the answer is wrong'),
    (
      MASK,
      dict(status='unparsed', reward=0),
      '0, because the judge finds no answer in the response',
    ),
    (
      ZERO,
      dict(stop='length', length=100, reward=0),
      f'0, because the answer is right; {CUT} and '
      "objective.truncated is 'zero'",
    ),
    (
      MASK,
      dict(stop='length', length=100),
      f'1, because the answer is right; {CUT}',
    ),
    (
      SOFT,
      dict(length=95, reward=0.25),
      '0.25, because the answer is right; it loses 0.75 because 95 tokens are '
      'among the last 20 before the limit of 100 (objective.overlong_tokens)',
    ),
    (SOFT, dict(length=80), '1, because the answer is right'),
    (MASK, dict(status='error', reward=math.nan), 'none, because the judge f'),
    (
      MASK,
      dict(status='error', stop='error', reward=math.nan),
      'none, because the rollout ended with an error',
    ),
    # Neither an unknown rule nor another config becomes a false reason.
    (
      None,
      dict(stop='length', reward=0),
      'known rules of the stage do not exp',
    ),
    (MASK, dict(reward=0.5), 'the known rules of the stage do not explain'),
  ],
)
def test_rewards(rules, changes, sentence):
  said = told(rules, **changes)['reward']
  assert sentence in said and said.startswith(f'{changes.get("reward", 1)}'[:1])


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      dict(advantage=0.0, group=[1.0] * 8),
      '0, because all 8 judged rollouts of the group got reward 1',
    ),
    (
      dict(advantage=0.0, reward=0.0, group=[0.0] * 3),
      '0, because all 3 judged rollouts of the group got reward 0',
    ),
    (
      dict(advantage=0.0, group=[1.0]),
      '0, because no other rollout of the group was judged',
    ),
    (
      dict(advantage=0.0, reward=0.5, group=[0.0, 0.5, 1.0]),
      '0, because the mean reward of the 3 judged rollouts of the group is 0.5',
    ),
    (
      dict(advantage=math.nan, group=[0.0] * 8),
      'none, because its group is not in the batch: groups of a refill '
      '(rollout.refill) took its place (all 8 judged rollouts of the group got '
      'reward 0)',
    ),
    (dict(status='timeout', advantage=0.0), 'none, because the judge failed'),
    # Two groups of one prompt in a step: rather no sentence than a false one.
    (dict(advantage=0.0, group=[1.0, 0.0]), '0'),
    (dict(advantage=-1.0), '-1'),
  ],
)
def test_advantages(changes, sentence):
  assert told(**changes)['advantage'] == sentence


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      dict(counted=False, trained=False, stop='length', length=100),
      f"no: masked, because {CUT} and objective.truncated is 'mask'",
    ),
    (dict(advantage=math.nan), 'no: its group is not in the batch'),
    (dict(status='timeout', counted=False), 'no: the judge failed'),
    (
      dict(advantage=0.0, trained=False),
      'its tokens count in the average, without a gradient: advantage 0',
    ),
    (dict(heldout=True), 'no: it is a held-out question'),
  ],
)
def test_the_loss(changes, sentence):
  assert told(**changes)['in the loss'] == sentence


def test_held_out_ones_have_the_reward_of_their_verdict():
  said = told(ZERO, heldout=True, stop='length', length=100)
  assert said['reward'] == f'1, because the answer is right; {CUT}'
  assert said.keys() == {'reward', 'in the loss'}
