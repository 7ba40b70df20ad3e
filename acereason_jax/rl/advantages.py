"""Verdicts to rewards to advantages, one group at a time; numpy, on the host.

`reward` is the one place where a verdict becomes a number: the loss, the
filters, refills and metrics of a stage all see that. A rollout that the judge
failed on is in no statistic and gets advantage 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types

SCALES = ('group', 'batch', 'none')


class Rules(NamedTuple):
  """What a stage makes of verdicts.

  truncated: of responses cut off at `room` tokens, 'zero': their reward is 0;
  'mask': they are not trained on, but count in their group's mean; 'score':
  they are as all others.
  soft_tokens: see `overlong_penalty`.
  room: the longest that a response can be, tokens.
  """

  truncated: str
  soft_tokens: int
  room: int


def reward(
  rollout: types.Rollout, verdict: types.Verdict, rules: Rules
) -> float:
  """The reward that a stage trains with; 1 at most, and above 0 for what it
  takes for solved.

  Raises:
    ValueError: the judge failed, so that there is none.
  """
  earned = verdict.reward
  if rules.truncated == 'zero' and rollout.stop == 'length':
    earned = 0.0
  length = len(rollout.tokens)
  return earned + float(overlong_penalty(length, rules.room, rules.soft_tokens))


def rewards(
  groups: Sequence[types.Group], rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
  """Rewards, 0 where the judge failed, and whether it did not; both [P, G]."""
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
  adv_1G = group_normalised(*rewards([group], rules), 0.0, 'none')
  return bool((adv_1G[counted([group], rules)] != 0).any())


def group_normalised(
  reward_PG: np.ndarray, judged_PG: np.ndarray, epsilon: float, scale: str
) -> np.ndarray:
  """(S - mean(S)) / (std + epsilon), mean of the group, float32 [P, G].

  scale: whose rewards the (population) std is of.
  group: the same group (arXiv 2505.16400, equation 2).
  batch: all judged rollouts (arXiv 2508.08221).
  none: only the mean is taken off (Dr. GRPO, arXiv 2503.20783).
  A group whose judged rewards are all equal gets exactly 0.

  Raises:
    ValueError: another scale.
  """
  if scale not in SCALES:
    raise ValueError(
      f'config.objective.advantage.scale={scale!r}: give one of '
      f'{", ".join(SCALES)}'
    )
  reward_PG = np.where(judged_PG, reward_PG, 0.0).astype(np.float64)
  count_P1 = np.maximum(judged_PG.sum(1, keepdims=True), 1)
  mean_P1 = reward_PG.sum(1, keepdims=True) / count_P1
  centred_PG = np.where(judged_PG, reward_PG - mean_P1, 0.0)
  low_P1 = np.where(judged_PG, reward_PG, np.inf).min(1, keepdims=True)
  high_P1 = np.where(judged_PG, reward_PG, -np.inf).max(1, keepdims=True)
  # Rounding of the mean must not turn into advantages of 1e-16 / 1e-6.
  mixed_P1 = high_P1 > low_P1
  centred_PG = np.where(mixed_P1, centred_PG, 0.0)
  if scale == 'none':
    return centred_PG.astype(np.float32)
  if scale == 'group':
    std_P1 = np.sqrt((centred_PG**2).sum(1, keepdims=True) / count_P1)
  else:
    judged = reward_PG[judged_PG]
    std_P1 = np.full_like(mean_P1, judged.std() if judged.size else 0.0)
  return (centred_PG / np.where(mixed_P1, std_P1 + epsilon, 1.0)).astype(
    np.float32
  )


def overlong_penalty(
  length_PG: np.ndarray, room: int, soft_tokens: int
) -> np.ndarray:
  """What is added to the rewards of long responses, float64 [P, G].

  0 up to room - soft_tokens tokens, then linear to -1 at room, the longest a
  response can be: the soft overlong punishment of arXiv 2503.14476, eq. 13.
  soft_tokens=0 punishes nothing.

  Raises:
    ValueError: more soft tokens than room.
  """
  if not 0 <= soft_tokens <= room:
    raise ValueError(
      f'soft_tokens={soft_tokens}: give 0 to {room}, the longest response'
    )
  over_PG = np.maximum(np.asarray(length_PG) - (room - soft_tokens), 0)
  return -over_PG / max(soft_tokens, 1)
