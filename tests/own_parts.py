"""A researcher's own parts: a transform and a loss."""

from typing import NamedTuple

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


def reinforce():
  return lambda logp_BT, batch: -batch.adv_BT * logp_BT


def one_number():
  return lambda logp_BT, batch: -(batch.adv_BT * logp_BT).sum()


def misspelt():
  return lambda logp_BT, batch: logp_BT - batch.logp_odl_BT


def nothing(learning_rate):
  """No transform: what `optim` has to refuse."""
  return [learning_rate]


def forgetful(learning_rate):
  """Its state has another dtype after a step."""

  def update(grads, count, params=None):
    return grads, count + 0.5 * learning_rate

  return optax.GradientTransformation(lambda _: jnp.int32(0), update)


class Counted(NamedTuple):
  count: jax.Array


class Averaged(NamedTuple):
  count: jax.Array
  average: dict


def fading(learning_rate, steps):
  """A schedule of one's own: nothing is left after `steps`."""

  def update(grads, state, params=None):
    left = jnp.maximum(1 - state.count / steps, 0)
    grads = jax.tree.map(lambda g: -learning_rate * left * g, grads)
    return grads, Counted(state.count + 1)

  return optax.GradientTransformation(lambda _: Counted(jnp.int32(0)), update)


def unbiased(learning_rate, decay, plain=False):
  """An average of gradients with a bias correction of one's own.

  `plain`: its state is a plain tuple.
  """
  make = (lambda *state: state) if plain else Averaged

  def init(params):
    return make(jnp.int32(0), optax.tree.zeros_like(params))

  def update(grads, state, params=None):
    count, average = state
    average = optax.incremental_update(grads, average, 1 - decay)
    scale = -learning_rate / (1 - decay ** (count + 1.0))
    updates = jax.tree.map(lambda x: scale * x, average)
    return updates, make(count + 1, average)

  return optax.GradientTransformation(init, update)


def accumulated(learning_rate, every):
  steps = optax.MultiSteps(optax.adamw(learning_rate), every)
  return steps.gradient_transformation()


def injected(learning_rate):
  """A learning rate that is in the state."""
  return optax.inject_hyperparams(optax.adam)(learning_rate)
