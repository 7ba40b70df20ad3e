"""The optimiser: any optax transform by import path, behind a clip.

The learning rate is the transform's own argument, given as a schedule.
"""

from collections.abc import Mapping
from typing import Any

import optax

from acereason_jax import resolve


def make_optimizer(
  component: Mapping[str, Any], *, warmup_steps: int, clip_norm: float
) -> optax.GradientTransformation:
  """clip_by_global_norm, then dict(fn='optax:...', learning_rate=..., ...).

  The learning rate rises linearly over `warmup_steps`, then is constant.
  """
  peak = component['learning_rate']
  schedule = peak
  if warmup_steps:
    # Step 0 already learns: a first update of 0 would be a wasted batch.
    schedule = optax.linear_schedule(
      peak / (warmup_steps + 1), peak, warmup_steps
    )
  transform = resolve.build(
    {**component, 'learning_rate': schedule}, 'config.optim'
  )
  return optax.chain(optax.clip_by_global_norm(clip_norm), transform)
