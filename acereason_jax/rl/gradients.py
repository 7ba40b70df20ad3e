"""What a microbatch adds to the sums of its update: gradients and metrics.

On a mesh with a 'data' axis each of its groups adds up gradients of its own
rows; they are summed over the groups once, before the update, and not with each
microbatch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acereason_jax import partition
from acereason_jax.kernels import logprobs
from acereason_jax.models import base
from acereason_jax.rl import losses
from acereason_jax.rl.packing import PackedBatch


class Knobs(NamedTuple):
  """Numbers that may change at any step; float32 scalars, so nothing compiles.

  temperature: temperature of the trained policy.
  entropy_weight: weight of the entropy bonus, if the update has one.
  """

  temperature: jax.Array
  entropy_weight: jax.Array


class Sums(NamedTuple):
  """Sums over microbatches; scalars, except the gradients.

  On a mesh with several groups of 'data' each leaf leads with a dimension of
  them: the sums over a group's own rows (`total` adds them up).

  grads: gradients of the loss, shaped like the trained parameters.
  loss: weighted loss.
  tokens: number of response tokens that were trained on.
  entropy: sum over these tokens of the policy's entropy, nats.
  mismatch: sum over them of |logp - the sampler's logp|, nats.
  mismatch_max: largest of these differences, nats.
  kl: sum over them of the KL to the reference, nats; 0 if the loss reads no
    reference.
  """

  grads: base.Tree
  loss: jax.Array
  tokens: jax.Array
  entropy: jax.Array
  mismatch: jax.Array
  mismatch_max: jax.Array
  kl: jax.Array


class Scored(NamedTuple):
  """What the forward pass of a microbatch says of each target; float32 [B, T].

  It is of the weights before the update, at the temperature of the knobs. Only
  values at targets of response tokens, forced ones included, have a meaning.

  logp_BT: logp of the target, nats.
  entropy_BT: entropy of the policy where the target is predicted, nats.
  """

  logp_BT: jax.Array
  entropy_BT: jax.Array


def make_knobs(temperature: float, entropy_weight: float = 0.0) -> Knobs:
  return Knobs(np.float32(temperature), np.float32(entropy_weight))


def zeros(params: base.Tree, groups: int = 1) -> Sums:
  """Sums of nothing, for so many groups of 'data'."""
  lead = (groups,) if groups > 1 else ()
  zero = lambda shape: jnp.zeros(lead + shape, jnp.float32)
  grads = jax.tree.map(lambda x: zero(x.shape), params)
  return Sums(grads, *(zero(()) for _ in Sums._fields[1:]))


def groups_of(param_shardings: base.Tree) -> int:
  """The groups of 'data' of the mesh of these shardings."""
  return jax.tree.leaves(param_shardings)[0].mesh.shape['data']


def place_sums(param_shardings: base.Tree) -> Sums:
  """Shardings of the sums: as the parameters, a group's part on its devices."""
  mesh = jax.tree.leaves(param_shardings)[0].mesh
  lead = ('data',) if groups_of(param_shardings) > 1 else ()
  place = lambda spec: NamedSharding(mesh, PartitionSpec(*lead, *spec))
  grads = jax.tree.map(lambda s: place(s.spec), param_shardings)
  return Sums(grads, *(place(()) for _ in Sums._fields[1:]))


def total(sums: Sums) -> Sums:
  """The sums over all groups of 'data', from those of each."""
  added = jax.tree.map(lambda x: x.sum(0), sums)
  return added._replace(mismatch_max=sums.mismatch_max.max(0))


def token_logp(
  weights: base.Tree,
  batch: PackedBatch,
  temperature: jax.Array,
  *,
  model: base.Model,
  vocab_chunk: int,
  dtype: jnp.dtype,
  head: NamedSharding | None = None,
  entropy_gradient: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """(logp_BT, entropy_BT) of a batch's targets, float32; one forward pass.

  The logits of `vocab_chunk` tokens of the vocabulary are in memory at once.
  `head` is the head's sharding on a mesh, None for one device. The head's
  weights are not cast here: `logprobs.token_logp` casts them chunk by chunk,
  and returns their gradient in their own dtype.
  """
  x_BTD = model.apply(
    base.cast(weights, dtype),
    batch.tokens_BT,
    batch.position_BT,
    batch.segment_BT,
    batch.prefix_BT,
  )
  with jax.named_scope('logp'):
    return logprobs.token_logp(
      x_BTD,
      model.head(weights),
      batch.target_BT,
      temperature,
      vocab_chunk,
      head,
      entropy_gradient,
    )


def add(
  weights: base.Tree,
  sums: Sums,
  batch: PackedBatch,
  knobs: Knobs,
  **how: Any,
) -> tuple[Sums, Scored]:
  """Adds the gradient and the metrics of one microbatch, and tells its scores.

  The gradient is with respect to the weights in `sums.grads`. `how` holds the
  keywords of `weighted_loss`. The scores are by-products of the forward pass.
  """
  trained = base.part_of(weights, sums.grads)
  loss = functools.partial(weighted_loss, **how)
  (value, (found, scored)), grads = jax.value_and_grad(loss, has_aux=True)(
    trained, weights, batch, knobs
  )
  sums = Sums(
    jax.tree.map(jnp.add, sums.grads, grads),
    sums.loss + value,
    sums.tokens + found.tokens,
    sums.entropy + found.entropy,
    sums.mismatch + found.mismatch,
    jnp.maximum(sums.mismatch_max, found.mismatch_max),
    sums.kl + found.kl,
  )
  return sums, scored


def add_by_group(
  weights: base.Tree,
  sums: Sums,
  batch: PackedBatch,
  knobs: Knobs,
  *,
  mesh: Mesh,
  **how: Any,
) -> tuple[Sums, Scored]:
  """`add` where each group of 'data' has sums of its own.

  Along the other axes gradients are summed and sharded at once, as ever. A
  group has the scores of its own rows.
  """

  def own(weights, sums, batch, knobs):
    one = jax.tree.map(lambda x: x[0], sums)
    added, scored = add(weights, one, batch, knobs, **how)
    return jax.tree.map(lambda x: x[None], added), scored

  parts = False, True, True, False
  return partition.by_data(own, mesh, parts)(weights, sums, batch, knobs)


class Measured(NamedTuple):
  """A microbatch's terms of the sums in `Sums`.

  tokens: number of response tokens trained on.
  entropy: sum over these tokens of the policy's entropy, nats.
  mismatch: sum over them of |logp - the sampler's logp|, nats.
  mismatch_max: largest of these differences, nats.
  kl: sum over them of the KL to the reference, nats.
  """

  tokens: jax.Array
  entropy: jax.Array
  mismatch: jax.Array
  mismatch_max: jax.Array
  kl: jax.Array


def weighted_loss(
  params: base.Tree,
  weights: base.Tree,
  batch: PackedBatch,
  knobs: Knobs,
  *,
  forward: Callable[..., tuple[jax.Array, jax.Array]],
  loss: losses.Loss,
  entropy_bonus: bool = False,
  reference: bool = False,
  has_first: bool = False,
) -> tuple[jax.Array, tuple[Measured, Scored]]:
  """The sum of a microbatch's loss_BT * weight_BT, at `params` of the weights.

  With it, without a gradient: the terms of the metrics, and the scores.

  `forward` is `token_logp` of a model. With `entropy_bonus` the loss of a token
  is reduced by entropy_weight * its entropy. `reference` says that the batch
  has logp_ref, `has_first` that it has logp_first. Without `has_first` this is
  the trainer's first pass over the batch, so logp_first is logp without a
  gradient.

  The mismatch is |logp - sampler's logp| over the response tokens: the forward
  pass is the same function, so the mismatch should be only rounding.
  """
  logp_BT, entropy_BT = forward(
    base.overlaid(weights, params),
    batch,
    knobs.temperature,
    entropy_gradient=entropy_bonus,
  )
  scored = Scored(logp_BT, entropy_BT)
  said_BT = batch.weight_BT > 0
  # This `where` comes before the loss: one only after it would leave 0 * inf in
  # the gradient.
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
  found = Measured(said_BT.sum(), entropy, gap_BT.sum(), gap_BT.max(), kl)
  return total, (found, scored)
