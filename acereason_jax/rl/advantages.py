"""Rewards to advantages, one group at a time; numpy, on the host.

A rollout that the judge failed on is in no statistic and gets advantage 0.
"""

import numpy as np


def group_normalised(
  reward_PG: np.ndarray, judged_PG: np.ndarray, epsilon: float, scale: bool
) -> np.ndarray:
  """(S - mean(S)) / (std(S) + epsilon) within a group, float32 [P, G].

  arXiv 2505.16400, equation 2 (population std). Without `scale` only the
  mean is taken off (Dr. GRPO, arXiv 2503.20783). A group whose judged
  rewards are all equal gets exactly 0.
  """
  reward_PG = np.where(judged_PG, reward_PG, 0.0).astype(np.float64)
  count_P1 = np.maximum(judged_PG.sum(1, keepdims=True), 1)
  mean_P1 = reward_PG.sum(1, keepdims=True) / count_P1
  centred_PG = np.where(judged_PG, reward_PG - mean_P1, 0.0)
  low_P1 = np.where(judged_PG, reward_PG, np.inf).min(1, keepdims=True)
  high_P1 = np.where(judged_PG, reward_PG, -np.inf).max(1, keepdims=True)
  # Rounding of the mean must not turn into advantages of 1e-16 / 1e-6.
  centred_PG = np.where(high_P1 > low_P1, centred_PG, 0.0)
  if scale:
    var_P1 = (centred_PG**2).sum(1, keepdims=True) / count_P1
    std_P1 = np.where(high_P1 > low_P1, np.sqrt(var_P1) + epsilon, 1.0)
    centred_PG = centred_PG / std_P1
  return centred_PG.astype(np.float32)
