"""What a researcher brings: a transform and a loss of their own."""

import jax
import jax.numpy as jnp
import optax


def sign_descent(learning_rate, decay):
  """Steps of one size against the sign of an average of gradients."""

  def update(grads, average, params=None):
    average = optax.incremental_update(grads, average, 1 - decay)
    return jax.tree.map(jnp.sign, average), average

  average = optax.GradientTransformation(optax.tree.zeros_like, update)
  return optax.chain(average, optax.scale_by_learning_rate(learning_rate))


def squared(strength):
  """REINFORCE, and a pull towards the sampler's log-probabilities."""

  def loss(logp_BT, batch):
    gap_BT = logp_BT - batch.logp_old_BT
    return -batch.adv_BT * logp_BT + strength * gap_BT**2

  return loss


def nothing(learning_rate):
  """No transform: what `optim` has to refuse."""
  return [learning_rate]


def forgetful(learning_rate):
  """Its state has another dtype after a step."""

  def update(grads, count, params=None):
    return grads, count + 0.5 * learning_rate

  return optax.GradientTransformation(lambda _: jnp.int32(0), update)
