"""`gradients.add` as it was before it told scores, for comparison.

The same sums of the same terms, from a program that returns nothing else.
"""

import functools

import jax
import jax.numpy as jnp

from acereason_jax import partition
from acereason_jax.models import base
from acereason_jax.rl import gradients, losses


def add(weights, sums, batch, knobs, **how):
  trained = base.part_of(weights, sums.grads)
  loss = functools.partial(weighted_loss, **how)
  (value, found), grads = jax.value_and_grad(loss, has_aux=True)(
    trained, weights, batch, knobs
  )
  return gradients.Sums(
    jax.tree.map(jnp.add, sums.grads, grads),
    sums.loss + value,
    sums.tokens + found.tokens,
    sums.entropy + found.entropy,
    sums.mismatch + found.mismatch,
    jnp.maximum(sums.mismatch_max, found.mismatch_max),
    sums.kl + found.kl,
  )


def add_by_group(weights, sums, batch, knobs, *, mesh, **how):
  def own(weights, sums, batch, knobs):
    one = jax.tree.map(lambda x: x[0], sums)
    added = add(weights, one, batch, knobs, **how)
    return jax.tree.map(lambda x: x[None], added)

  parts = False, True, True, False
  return partition.by_data(own, mesh, parts)(weights, sums, batch, knobs)


def weighted_loss(
  params,
  weights,
  batch,
  knobs,
  *,
  forward,
  loss,
  entropy_bonus=False,
  reference=False,
  has_first=False,
):
  logp_BT, entropy_BT = forward(
    base.overlaid(weights, params),
    batch,
    knobs.temperature,
    entropy_gradient=entropy_bonus,
  )
  said_BT = batch.weight_BT > 0
  logp_BT = jnp.where(said_BT, logp_BT, batch.logp_old_BT)
  seen = batch
  if not has_first:
    seen = batch._replace(logp_first_BT=jax.lax.stop_gradient(logp_BT))
  loss_BT = loss(logp_BT, seen)
  if entropy_bonus:
    loss_BT -= knobs.entropy_weight * entropy_BT
  loss_BT = jnp.where(said_BT, loss_BT, 0.0)
  gap_BT = jnp.abs(logp_BT - batch.logp_old_BT)
  entropy = jnp.where(said_BT, entropy_BT, 0.0).sum()
  kl = jnp.float32(0.0)
  if reference:
    kl_BT = losses.kl(logp_BT, batch.logp_ref_BT)
    kl = jnp.where(said_BT, kl_BT, 0.0).sum()
  total = jnp.sum(loss_BT * batch.weight_BT)
  return total, gradients.Measured(
    said_BT.sum(), entropy, gap_BT.sum(), gap_BT.max(), kl
  )


def adder(model, loss, *, placed=None, frozen=None, several=False, **how):
  """The jitted `add` of `update.make_update` as it was, of float32."""
  read = losses.reads(loss)
  sums, head, add_one = None, None, add
  if placed is not None:
    mesh = jax.tree.leaves(placed)[0].mesh
    sums = gradients.place_sums(placed)
    head = model.head(base.overlaid(frozen or {}, placed))
    if gradients.groups_of(placed) > 1:
      add_one = functools.partial(add_by_group, mesh=mesh)
  forward = functools.partial(
    gradients.token_logp,
    model=model,
    vocab_chunk=40,
    dtype=jnp.float32,
    head=head,
  )
  one = functools.partial(
    add_one,
    forward=forward,
    loss=loss,
    reference='logp_ref_BT' in read,
    has_first=several and 'logp_first_BT' in read,
    **how,
  )
  return jax.jit(one, out_shardings=sums, donate_argnums=1)
