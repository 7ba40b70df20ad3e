"""Losses for the tiny model's configs."""

import jax.numpy as jnp

from acereason_jax.rl import losses


def not_finite() -> losses.Loss:
  return lambda logp_BT, batch: jnp.log(-jnp.exp(logp_BT))


def clipped() -> losses.Loss:
  return losses.clipped(0.2, 0.28)


def with_kl() -> losses.Loss:
  return losses.with_kl(losses.on_policy(), 0.1)
