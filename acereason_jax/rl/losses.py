"""Policy losses: (logp_BT, batch) -> loss_BT, one number a token.

A factory returns the loss. Averaging is not done here: the update takes
sum(loss_BT * batch.weight_BT). `batch.logp_old_BT` is the sampler's logp.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from acereason_jax.rl import packing

Loss = Callable[[jax.Array, packing.PackedBatch], jax.Array]


def on_policy() -> Loss:
  """The strictly on-policy objective of arXiv 2505.16400, section 3.1.

  pi_old is pi, so the ratio is 1 and the gradient that of REINFORCE; no
  earlier logp is read, and a sampler's rounding cannot bias it.
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - jax.lax.stop_gradient(logp_BT))
    return -ratio_BT * batch.adv_BT

  return loss


def clipped(clip_low: float, clip_high: float) -> Loss:
  """min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), arXiv 2505.16400 eq. 1.

  r is against the sampler's logp. 0.2 and 0.28 is DAPO's clip-higher
  (arXiv 2503.14476).
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - batch.logp_old_BT)
    inside_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    return -jnp.minimum(ratio_BT * batch.adv_BT, inside_BT * batch.adv_BT)

  return loss
