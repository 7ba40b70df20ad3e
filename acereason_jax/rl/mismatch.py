"""How far the logp of sampler and trainer may differ by rounding."""

from collections.abc import Iterable

# Nats per token, on average over a batch, by dtype. A larger difference is a
# bug, and the run reports it. bfloat16's rounding grows with the spread of the
# logits: healthy runs reached 9e-3. The cache's values are rounded too; float8
# gives 5e-2. Weights in 8 bits are another policy: on SmolLM2-135M int8 gives
# 5e-2, float8 0.11.
LIMITS = {
  'float32': 1e-4,
  'bfloat16': 2e-2,
  'int8': 0.2,
  'float8_e4m3fn': 0.2,
}


def limit(dtypes: Iterable[str]) -> float:
  """The largest healthy mismatch; of compute, cache and rollout weights.

  Raises:
    KeyError: an unknown dtype.
  """
  return max(LIMITS[dtype] for dtype in dtypes)
