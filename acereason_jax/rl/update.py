"""One optimiser step: microbatches add gradients, then one update.

Weights are over the whole batch (`packing.token_weights`), so gradients of
microbatches simply add and any split gives the same step.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from acereason_jax import sharding
from acereason_jax.kernels import logprobs
from acereason_jax.models import base
from acereason_jax.rl import losses
from acereason_jax.rl.packing import PackedBatch


@flax.struct.dataclass
class TrainState:
  """float32 parameters, the optimiser's state, steps taken.

  `frozen` holds what the model reads beside `params` and no step changes, in
  the compute dtype: nothing in full training.
  """

  params: base.Tree
  opt_state: base.Tree
  step: jax.Array
  frozen: base.Tree = flax.struct.field(default_factory=dict)

  @property
  def weights(self) -> base.Tree:
    """What the model reads; a tree of the same arrays."""
    return base.overlaid(self.frozen, self.params)

  def saved(self) -> 'TrainState':
    """What a checkpoint holds; `frozen` is in the files of the model."""
    return self.replace(frozen={})


class Sums(NamedTuple):
  """What microbatches add up to; scalars but for grads."""

  grads: base.Tree
  loss: jax.Array
  tokens: jax.Array
  entropy: jax.Array
  mismatch: jax.Array
  mismatch_max: jax.Array


@dataclasses.dataclass(frozen=True)
class Update:
  """zeros(params) -> Sums; add(weights, Sums, batch) -> Sums (donated);
  apply(state, Sums) -> (state, metrics), state donated."""

  zeros: Callable[[base.Tree], Sums]
  add: Callable[[base.Tree, Sums, PackedBatch], Sums]
  apply: Callable[[TrainState, Sums], tuple[TrainState, dict]]


def cast(params: base.Tree, dtype: jnp.dtype) -> base.Tree:
  return jax.tree.map(lambda x: x.astype(dtype), params)


def init_state(
  params: base.Tree, optimizer: optax.GradientTransformation
) -> TrainState:
  return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def zeros(params: base.Tree) -> Sums:
  grads = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
  return Sums(grads, *(jnp.zeros((), jnp.float32) for _ in Sums._fields[1:]))


def add(
  weights: base.Tree,
  sums: Sums,
  batch: PackedBatch,
  *,
  model: base.Model,
  loss: losses.Loss,
  temperature: float,
  vocab_chunk: int,
  dtype: jnp.dtype,
  head: NamedSharding | None = None,
) -> Sums:
  """Adds the gradient and the metrics of one microbatch.

  The gradient is that of those weights that `sums.grads` has.

  The logits of `vocab_chunk` tokens of the vocabulary are held at once; `head`
  is where the head lies on a mesh, None for one device. It goes in uncast:
  `token_logp` casts it chunk by chunk and gives its gradient in float32.

  The mismatch is |logp - sampler's logp| over the response tokens: the
  forward is the same function, so it should be rounding alone.
  """

  def objective(params):
    whole = base.overlaid(weights, params)
    x_BTD = model.apply(
      cast(whole, dtype),
      batch.tokens_BT,
      batch.position_BT,
      batch.segment_BT,
      batch.prefix_BT,
    )
    with jax.named_scope('logp'):
      logp_BT, entropy_BT = logprobs.token_logp(
        x_BTD,
        model.head(whole),
        batch.target_BT,
        temperature,
        vocab_chunk,
        head,
      )
    said_BT = batch.weight_BT > 0
    # Before the loss: a `where` after it alone leaves 0 * inf in the gradient.
    logp_BT = jnp.where(said_BT, logp_BT, batch.logp_old_BT)
    loss_BT = jnp.where(said_BT, loss(logp_BT, batch), 0.0)
    gap_BT = jnp.abs(logp_BT - batch.logp_old_BT)
    entropy = jnp.where(said_BT, entropy_BT, 0.0).sum()
    total = jnp.sum(loss_BT * batch.weight_BT)
    return total, (said_BT.sum(), entropy, gap_BT.sum(), gap_BT.max())

  (value, (tokens, entropy, gap, gap_max)), grads = jax.value_and_grad(
    objective, has_aux=True
  )(base.part_of(weights, sums.grads))
  return Sums(
    jax.tree.map(jnp.add, sums.grads, grads),
    sums.loss + value,
    sums.tokens + tokens,
    sums.entropy + entropy,
    sums.mismatch + gap,
    jnp.maximum(sums.mismatch_max, gap_max),
  )


def apply(
  state: TrainState,
  sums: Sums,
  *,
  optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One update; a non-finite gradient changes nothing and is counted."""
  norm = optax.tree.norm(sums.grads)
  finite = jnp.isfinite(norm)

  def step(params, opt_state):
    updates, opt_state = optimizer.update(sums.grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  params, opt_state = jax.lax.cond(
    finite, step, lambda *same: same, state.params, state.opt_state
  )
  tokens = jnp.maximum(sums.tokens, 1)
  metrics = dict(
    loss=sums.loss,
    grad_norm=norm,
    nonfinite=1.0 - finite,
    # `entropy` is the sampler's, over all rollouts.
    trained_entropy=sums.entropy / tokens,
    mismatch=sums.mismatch / tokens,
    mismatch_max=sums.mismatch_max,
    trained_tokens=sums.tokens,
  )
  state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
  return state, metrics


def make_update(
  model: base.Model,
  loss: losses.Loss,
  optimizer: optax.GradientTransformation,
  *,
  temperature: float,
  vocab_chunk: int,
  dtype: jnp.dtype,
  param_shardings: base.Tree | None = None,
  frozen_shardings: base.Tree | None = None,
) -> Update:
  """The three jitted functions.

  Gradients and the state are placed as `param_shardings`, a tree of
  NamedSharding; None is for one device. Nothing in `zeros` would tell the
  compiler where to, and without being told XLA makes the new state of `apply`
  whole on every GPU.
  `frozen_shardings` is where a state's `frozen` lies, None if it has none.
  """
  placed = head = None
  if param_shardings is not None:
    head = model.head(base.overlaid(frozen_shardings, param_shardings))
    mesh = jax.tree.leaves(param_shardings)[0].mesh
    everywhere = sharding.replicated(mesh)
    placed = Sums(param_shardings, *(everywhere for _ in Sums._fields[1:]))

  def add_one(weights, sums, batch):
    return add(
      weights,
      sums,
      batch,
      model=model,
      loss=loss,
      temperature=temperature,
      vocab_chunk=vocab_chunk,
      dtype=dtype,
      head=head,
    )

  def apply_one(state, sums):
    after, metrics = apply(state, sums, optimizer=optimizer)
    if param_shardings is not None:
      moments = sharding.like_params(
        state.opt_state, state.params, param_shardings, everywhere
      )
      frozen = frozen_shardings or {}
      where = TrainState(param_shardings, moments, everywhere, frozen)
      after = jax.lax.with_sharding_constraint(after, where)
    return after, metrics

  return Update(
    jax.jit(zeros, out_shardings=placed),
    jax.jit(add_one, out_shardings=placed, donate_argnums=1),
    jax.jit(apply_one, donate_argnums=0),
  )
