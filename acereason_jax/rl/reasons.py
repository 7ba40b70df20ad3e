"""Says in sentences why a rollout has its reward, advantage and gradient.

The judge's own reason is its verdict's detail; these are the objective's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from acereason_jax import types
from acereason_jax.rl import advantages, objective

REWARD, ADVANTAGE, LOSS = WHAT = 'reward', 'advantage', 'in the loss'
# Stored rewards are float32.
_NEAR = 1e-4
_OF_STATUS = {
  'right': 'the answer is right',
  'wrong': 'the answer is wrong',
  'unparsed': 'the judge finds no answer in the response',
}


class Facts(NamedTuple):
  """What a step made of a rollout.

  status: the judge's status.
  stop: 'stop', 'length' or 'error'.
  length: tokens of the response.
  reward: reward that trains; nan where the judge failed.
  advantage: advantage; nan if its group is not in the batch.
  counted: whether its tokens are in the loss's average.
  trained: whether it has a gradient.
  group: rewards of all judged rollouts of its group.
  heldout: whether the question is a held-out one.
  probe: whether a probe asked for it.
  """

  status: str
  stop: str
  length: int
  reward: float
  advantage: float
  counted: bool
  trained: bool
  group: Sequence[float]
  heldout: bool = False
  probe: bool = False


def sentences(
  facts: Facts, rules: objective.Rules | None
) -> list[tuple[str, str]]:
  """(what, sentence) for each of WHAT; without advantage if it never trains.

  `rules` are those of the rollout's stage; None if they are unknown.
  """
  found = [(REWARD, _reward(facts, rules))]
  if facts.heldout:
    return [*found, (LOSS, 'no: it is a held-out question')]
  if facts.probe:
    return [*found, (LOSS, 'no: a probe asked for it, before the stage')]
  return [*found, (ADVANTAGE, _advantage(facts)), (LOSS, _loss(facts))]


def unusual(
  group: types.Group, place: int, rules: objective.Rules
) -> list[tuple[str, str]]:
  """The sentences that a verdict does not suggest.

  They are there if a right answer has a lower reward than 1, and if a judged
  response is masked. `place` is the rollout's place in its group.
  """
  rollout, status = group.rollouts[place], group.verdicts[place].status
  if not group.verdicts[place].judged:
    return []
  reward = objective.reward(rollout, group.verdicts[place], rules)
  counted = bool(objective.counted([group], rules)[0, place])
  facts = Facts(
    status,
    rollout.stop,
    len(rollout.tokens),
    reward,
    advantage=0.0,
    counted=counted,
    trained=False,
    group=(),
  )
  found = []
  if status == 'right' and reward < 1:
    found.append((REWARD, _reward(facts, rules)))
  if not counted:
    found.append((LOSS, _loss(facts)))
  return found


def _reward(facts: Facts, rules: objective.Rules | None) -> str:
  if (status := _OF_STATUS.get(facts.status)) is None:
    return f'none, because {_failure(facts)}'
  words, cut = [status], facts.stop == 'length'
  if cut:
    words.append(f'the response was cut off at {facts.length:,} tokens')
  expected = 1.0 if facts.status == 'right' else 0.0
  # A held-out answer keeps the reward of its verdict.
  if rules is not None and not facts.heldout:
    if cut and rules.truncated == 'zero':
      expected = 0.0
      words[-1] += " and objective.truncated is 'zero'"
    lost = -float(
      advantages.overlong_penalty(
        facts.length, rules.max_tokens, rules.soft_tokens
      )
    )
    expected -= lost
    if lost > 0:
      words.append(
        f'it loses {_number(lost)} because {facts.length:,} tokens are among '
        f'the last {rules.soft_tokens:,} before the limit of '
        f'{rules.max_tokens:,} (objective.overlong_tokens)'
      )
  if not abs(expected - facts.reward) < _NEAR:
    words.append('the known rules of the stage do not explain this reward')
  return f'{_number(facts.reward)}, because {"; ".join(words)}'


def _advantage(facts: Facts) -> str:
  judged, same = len(facts.group), _same(facts.group)
  if facts.status not in _OF_STATUS:
    return f'none, because {_failure(facts)}'
  if math.isnan(facts.advantage):
    why = f' ({_all_equal(facts)})' if same else ''
    return (
      'none, because its group is not in the batch: groups of a refill '
      f'(rollout.refill) took its place{why}'
    )
  value = _number(facts.advantage)
  if facts.advantage == 0 and judged == 1:
    return f'{value}, because no other rollout of the group was judged'
  if facts.advantage == 0 and same:
    return f'{value}, because {_all_equal(facts)}'
  mean = sum(facts.group) / max(judged, 1)
  # Rollouts of two groups of one prompt in one step cannot be told apart.
  if (facts.reward - mean) * facts.advantage > 0 or (
    facts.advantage == 0 and abs(facts.reward - mean) < _NEAR
  ):
    return (
      f'{value}, because the mean reward of the {judged} judged rollouts of '
      f'the group is {_number(mean)}'
    )
  return value


def _loss(facts: Facts) -> str:
  if facts.status not in _OF_STATUS:
    return f'no: {_failure(facts)}'
  if math.isnan(facts.advantage):
    return 'no: its group is not in the batch'
  if not facts.counted:
    return (
      f'no: masked, because the response was cut off at {facts.length:,} '
      "tokens and objective.truncated is 'mask'"
    )
  if facts.trained:
    return 'yes, with a gradient'
  if facts.advantage == 0:
    return 'its tokens count in the average, without a gradient: advantage 0'
  return 'its tokens count in the average, without a gradient'


def _failure(facts: Facts) -> str:
  if facts.stop == 'error':
    return 'the rollout ended with an error'
  return 'the judge failed'


def _all_equal(facts: Facts) -> str:
  return (
    f'all {len(facts.group)} judged rollouts of the group got reward '
    f'{_number(facts.group[0])}'
  )


def _same(rewards: Sequence[float]) -> bool:
  return bool(rewards) and max(rewards) - min(rewards) < _NEAR


def _number(value: float) -> str:
  return f'{round(value, 4) + 0.0:g}'
