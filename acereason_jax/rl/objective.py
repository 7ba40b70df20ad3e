"""The objective in one place: (reward - mean) / std, weighted and packed.

    groups -> reward_PG -> adv_PG -> weight_PG -> rollouts to train on -> rows

Averages are decided here, on the host, in numpy; the loss of a token is in
losses.py. `reward` is the one place where a verdict becomes a number. Training,
filters, refills and metrics of a stage all use that number. A rollout that the
judge failed on is in no statistic and is not trained on.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.rl import advantages, packing
from acereason_jax.rl import rows as rows_lib


class Rules(NamedTuple):
  """The rules that turn a verdict into a reward.

  truncated: how a response that was cut off at `max_tokens` counts. 'zero':
    reward 0. 'mask': it is not trained on, but counts in the mean of its group.
    'score': the reward of its verdict, like all others.
  soft_tokens: number of tokens before `max_tokens` that are punished; see
    `advantages.overlong_penalty`; 0 for none.
  max_tokens: longest possible response, tokens.
  """

  truncated: str
  soft_tokens: int
  max_tokens: int


class Objective(NamedTuple):
  """The objective of a stage; each field is a choice of its config.

  rules: rules for the reward of a verdict, and for which rollouts count.
  epsilon: added to the std that divides a reward.
  scale: rewards that the std is taken over, one of `advantages.SCALES`.
  average: how tokens share the loss, one of `packing.AVERAGES`.
  policy: policy whose logp is trained. 'tempered': the distribution that the
    rollouts were drawn from. 'full': softmax(logits).
  updates: updates per batch, each on an equal share of the prompts.
  every: whether to keep rollouts with advantage 0, see
    `packing.trained_rollouts`.
  """

  rules: Rules
  epsilon: float
  scale: str
  average: str
  policy: str
  updates: int
  every: bool


def assign_advantages(
  groups: Sequence[types.Group], objective: Objective
) -> list[list[list[rows_lib.Trained]]]:
  """The rollouts that each update trains on, by group, from judged groups.

  Each rollout has its advantage and the weight of each of its tokens. Weights
  are normalised over all groups of the same update.
  """
  o = objective
  adv_PG = advantages_of(groups, o)
  counted_PG = counted(groups, o.rules)
  if o.policy == 'full':
    groups = [under_full_policy(group) for group in groups]
  # Groups are in the order in which they were drawn, which is random.
  parts = np.array_split(np.arange(len(groups)), min(o.updates, len(groups)))
  trained = []
  for places in parts:
    part = [groups[i] for i in places]
    weight_PG = token_weights(part, counted_PG[places], o)
    trained.append(
      packing.trained_rollouts(part, adv_PG[places], weight_PG, every=o.every)
    )
  return trained


def advantages_of(
  groups: Sequence[types.Group], objective: Objective
) -> np.ndarray:
  """The advantages of all rollouts of a batch, float32 [P, G]."""
  return advantages.group_normalised(
    *rewards(groups, objective.rules),
    epsilon=objective.epsilon,
    scale=objective.scale,
  )


def gradient_keys(
  parts: Sequence[Sequence[Sequence[rows_lib.Trained]]], every: bool
) -> set[tuple[str, int]]:
  """The rollouts that have a gradient, from those of each update.

  A batch without any gradient still packs one rollout.
  """
  return {
    t.rollout.key
    for part in parts
    for group in part
    for t in group
    if every or t.adv != 0
  }


def pack(
  parts: Sequence[Sequence[Sequence[rows_lib.Trained]]], layout: rows_lib.Layout
) -> list[list[packing.Packed]]:
  """The microbatches of each update, from the rollouts that it trains on."""
  return [packing.pack(part, **layout._asdict()) for part in parts]


def reward(
  rollout: types.Rollout, verdict: types.Verdict, rules: Rules
) -> float:
  """The reward that a stage trains with: at most 1; above 0 counts as solved.

  Raises:
    ValueError: the judge failed, so there is no reward.
  """
  earned = verdict.reward
  if rules.truncated == 'zero' and rollout.stop == 'length':
    earned = 0.0
  penalty = advantages.overlong_penalty(
    len(rollout.tokens), rules.max_tokens, rules.soft_tokens
  )
  return earned + float(penalty)


def rewards(
  groups: Sequence[types.Group], rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
  """(rewards, 0 where the judge failed; whether it judged), both [P, G]."""
  judged_PG = np.array([[v.judged for v in g.verdicts] for g in groups])
  reward_PG = np.array(
    [
      [
        reward(r, v, rules) if v.judged else 0.0
        for r, v in zip(g.rollouts, g.verdicts)
      ]
      for g in groups
    ]
  )
  return reward_PG, judged_PG


def counted(groups: Sequence[types.Group], rules: Rules) -> np.ndarray:
  """Whether a rollout is in the loss, bool [P, G]."""
  return np.array(
    [
      [
        v.judged and not (rules.truncated == 'mask' and r.stop == 'length')
        for r, v in zip(g.rollouts, g.verdicts)
      ]
      for g in groups
    ]
  )


def has_signal(group: types.Group, rules: Rules) -> bool:
  """Whether a rollout in the loss is better or worse than its group."""
  adv_1G = advantages.group_normalised(*rewards([group], rules), 0.0, 'none')
  return bool((adv_1G[counted([group], rules)] != 0).any())


def token_weights(
  groups: Sequence[types.Group], counted_PG: np.ndarray, objective: Objective
) -> np.ndarray:
  """The weight of each token of each rollout, [P, G]; 0 where not counted."""
  length_PG = np.array([[len(r.tokens) for r in g.rollouts] for g in groups])
  return packing.token_weights(
    length_PG, counted_PG, objective.average, objective.rules.max_tokens
  )


def under_full_policy(group: types.Group) -> types.Group:
  """The same group with `logp` under the policy without temperature."""
  rollouts = (dataclasses.replace(r, logp=r.full_logp) for r in group.rollouts)
  return dataclasses.replace(group, rollouts=tuple(rollouts))
