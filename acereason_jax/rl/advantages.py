"""Advantages from rewards, and the penalty of long responses, in numpy."""

import numpy as np

SCALES = ('group', 'batch', 'none')


def group_normalised(
  reward_PG: np.ndarray, judged_PG: np.ndarray, epsilon: float, scale: str
) -> np.ndarray:
  """(S - mean(S)) / (std + epsilon) with the group's mean, float32 [P, G].

  scale: the rewards that the (population) std is over.
  group: those of the same group (arXiv 2505.16400, equation 2).
  batch: those of all judged rollouts (arXiv 2508.08221).
  none: no std, only the mean is subtracted (Dr. GRPO, arXiv 2503.20783).
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
  length_PG: np.ndarray, max_tokens: int, soft_tokens: int
) -> np.ndarray:
  """The term added to the rewards of long responses, float64 [P, G].

  0 up to max_tokens - soft_tokens tokens, then linear to -1 at max_tokens, the
  length limit of a response. This is the soft overlong punishment of arXiv
  2503.14476, eq. 13. soft_tokens=0 punishes nothing.

  Raises:
    ValueError: more soft tokens than max_tokens.
  """
  if not 0 <= soft_tokens <= max_tokens:
    raise ValueError(
      f'soft_tokens={soft_tokens}: give 0 to {max_tokens}, the longest response'
    )
  over_PG = np.maximum(np.asarray(length_PG) - (max_tokens - soft_tokens), 0)
  return -over_PG / max(soft_tokens, 1)
