"""One optimiser step: microbatches add gradients, then one update.

Weights are over the whole batch (`packing.token_weights`), so gradients of
microbatches simply add and any split gives the same step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import logprobs
from acereason_jax.models import base, sharding
from acereason_jax.rl import losses
from acereason_jax.rl.packing import PackedBatch


@flax.struct.dataclass
class TrainState:
  """float32 parameters, the optimiser's state, steps taken.

  `frozen` holds what the model reads beside `params` and no step changes, in
  the compute dtype: nothing in full training. `reference` is `params` as they
  once were, in that dtype, for a loss that reads logp_ref; else nothing.
  """

  params: base.Tree
  opt_state: base.Tree
  step: jax.Array
  frozen: base.Tree = flax.struct.field(default_factory=dict)
  reference: base.Tree = flax.struct.field(default_factory=dict)

  @property
  def weights(self) -> base.Tree:
    """What the model reads; a tree of the same arrays."""
    return base.overlaid(self.frozen, self.params)

  @property
  def reference_weights(self) -> base.Tree:
    """The same of the reference model."""
    return base.overlaid(self.frozen, self.reference)

  def saved(self) -> 'TrainState':
    """What a checkpoint holds; `frozen` is in the files of the model."""
    return self.replace(frozen={})


class Knobs(NamedTuple):
  """What may change at any step; float32 scalars, so that nothing compiles.

  temperature: that of the policy that is trained. entropy_weight: of the
  entropy bonus; read by an update that is made with one.
  """

  temperature: jax.Array
  entropy_weight: jax.Array


class Sums(NamedTuple):
  """What microbatches add up to; scalars but for grads.

  kl is 0 where the loss reads no reference.
  """

  grads: base.Tree
  loss: jax.Array
  tokens: jax.Array
  entropy: jax.Array
  mismatch: jax.Array
  mismatch_max: jax.Array
  kl: jax.Array


@dataclasses.dataclass(frozen=True)
class Update:
  """zeros(params) -> Sums; add(weights, Sums, batch, knobs) -> Sums (donated);
  apply(state, Sums) -> (state, metrics), state donated.

  For a loss that reads logp_ref: score(reference_weights, batch, knobs) ->
  the batch with it; reset_reference(state) -> state (donated) whose reference
  is its parameters. For one that reads logp_first, where a batch has several
  updates: first_pass(weights, batch, knobs) -> the batch with it, to be called
  before the first of them.
  """

  zeros: Callable[[base.Tree], Sums]
  add: Callable[[base.Tree, Sums, PackedBatch, Knobs], Sums]
  apply: Callable[[TrainState, Sums], tuple[TrainState, dict]]
  score: Callable[[base.Tree, PackedBatch, Knobs], PackedBatch]
  first_pass: Callable[[base.Tree, PackedBatch, Knobs], PackedBatch]
  reset_reference: Callable[[TrainState], TrainState]


def make_knobs(temperature: float, entropy_weight: float = 0.0) -> Knobs:
  return Knobs(np.float32(temperature), np.float32(entropy_weight))


def cast(params: base.Tree, dtype: jnp.dtype) -> base.Tree:
  return jax.tree.map(lambda x: x.astype(dtype), params)


def init_state(
  params: base.Tree, optimizer: optax.GradientTransformation
) -> TrainState:
  return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def zeros(params: base.Tree) -> Sums:
  grads = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
  return Sums(grads, *(jnp.zeros((), jnp.float32) for _ in Sums._fields[1:]))


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

  The logits of `vocab_chunk` tokens of the vocabulary are held at once; `head`
  is where the head lies on a mesh, None for one device. It goes in uncast:
  `logprobs.token_logp` casts it chunk by chunk, and gives its gradient in its
  own dtype.
  """
  x_BTD = model.apply(
    cast(weights, dtype),
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
  *,
  forward: Callable[..., tuple[jax.Array, jax.Array]],
  loss: losses.Loss,
  entropy_bonus: bool = False,
  reference: bool = False,
  has_first: bool = False,
) -> Sums:
  """Adds the gradient and the metrics of one microbatch.

  The gradient is that of those weights that `sums.grads` has; `forward` is
  `token_logp` of a model. With `entropy_bonus` the loss of a token is less by
  entropy_weight * its entropy. `reference` says that the batch has logp_ref,
  `has_first` that it has logp_first; without, this is the trainer's first pass
  over the batch, so that logp_first is logp as a number.

  The mismatch is |logp - sampler's logp| over the response tokens: the
  forward is the same function, so it should be rounding alone.
  """

  def objective(params):
    logp_BT, entropy_BT = forward(
      base.overlaid(weights, params),
      batch,
      knobs.temperature,
      entropy_gradient=entropy_bonus,
    )
    said_BT = batch.weight_BT > 0
    # Before the loss: a `where` after it alone leaves 0 * inf in the gradient.
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
    return total, (said_BT.sum(), entropy, gap_BT.sum(), gap_BT.max(), kl)

  (value, (tokens, entropy, gap, gap_max, kl)), grads = jax.value_and_grad(
    objective, has_aux=True
  )(base.part_of(weights, sums.grads))
  return Sums(
    jax.tree.map(jnp.add, sums.grads, grads),
    sums.loss + value,
    sums.tokens + tokens,
    sums.entropy + entropy,
    sums.mismatch + gap,
    jnp.maximum(sums.mismatch_max, gap_max),
    sums.kl + kl,
  )


def apply(
  state: TrainState,
  sums: Sums,
  *,
  optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One update; a loss or gradient that is not finite changes nothing, and is
  counted."""
  norm = optax.tree.norm(sums.grads)
  finite = jnp.isfinite(norm) & jnp.isfinite(sums.loss)

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
    kl=sums.kl / tokens,
  )
  state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
  return state, metrics


def make_update(
  model: base.Model,
  loss: losses.Loss,
  optimizer: optax.GradientTransformation,
  *,
  vocab_chunk: int,
  dtype: jnp.dtype,
  entropy_bonus: bool = False,
  several: bool = False,
  param_shardings: base.Tree | None = None,
  frozen_shardings: base.Tree | None = None,
  offload: bool = False,
) -> Update:
  """The jitted functions; see `add` for `entropy_bonus`.

  `several` says that a batch has several updates: where the loss reads
  logp_first, batches then come from `first_pass`.
  Gradients and the state are placed as `param_shardings`, a tree of
  NamedSharding; None is for one device. Nothing in `zeros` would tell the
  compiler where to, and without being told XLA makes the new state of `apply`
  whole on every GPU.
  `frozen_shardings` is where a state's `frozen` lies, None if it has none.
  With `offload` a state's moments lie in the hosts' memory
  (`sharding.like_params`); `apply` has them on the devices while it runs.
  """
  placed = head = rows = None
  if param_shardings is not None:
    head = model.head(base.overlaid(frozen_shardings, param_shardings))
    mesh = jax.tree.leaves(param_shardings)[0].mesh
    everywhere = mesh_lib.replicated(mesh)
    placed = Sums(param_shardings, *(everywhere for _ in Sums._fields[1:]))
    rows = mesh_lib.packed(mesh)
  forward = functools.partial(
    token_logp, model=model, vocab_chunk=vocab_chunk, dtype=dtype, head=head
  )
  read = losses.reads(loss)
  reference = 'logp_ref_BT' in read
  has_first = several and 'logp_first_BT' in read

  def add_one(weights, sums, batch, knobs):
    return add(
      weights,
      sums,
      batch,
      knobs,
      forward=forward,
      loss=loss,
      entropy_bonus=entropy_bonus,
      reference=reference,
      has_first=has_first,
    )

  def moments(state, offload):
    """Where the optimiser's state lies."""
    return sharding.like_params(
      state.opt_state,
      state.params,
      param_shardings,
      everywhere,
      offload=offload,
    )

  def keep(state, opt_state):
    """The same, where it lies but for its moments, which are at `opt_state`."""
    where = TrainState(
      param_shardings,
      opt_state,
      everywhere,
      frozen_shardings or {},
      param_shardings if state.reference else {},
    )
    return jax.lax.with_sharding_constraint(state, where)

  def moved(state, offload):
    to = moments(state, offload)
    return state.replace(opt_state=jax.device_put(state.opt_state, to))

  def apply_one(state, sums):
    if offload:
      state = moved(state, False)
    after, metrics = apply(state, sums, optimizer=optimizer)
    if not reference:
      del metrics['kl']
    if param_shardings is not None:
      after = keep(after, moments(after, False))
    return moved(after, True) if offload else after, metrics

  def score_one(weights, batch, knobs):
    logp_BT, _ = forward(weights, batch, knobs.temperature)
    return jnp.where(batch.weight_BT > 0, logp_BT, 0.0)

  scored = jax.jit(score_one, out_shardings=rows)

  def reset_one(state):
    state = state.replace(reference=cast(state.params, dtype))
    if param_shardings is None:
      return state
    return keep(state, moments(state, offload))

  return Update(
    jax.jit(zeros, out_shardings=placed),
    jax.jit(add_one, out_shardings=placed, donate_argnums=1),
    jax.jit(apply_one, donate_argnums=0),
    lambda weights, batch, knobs: batch._replace(
      logp_ref_BT=scored(weights, batch, knobs)
    ),
    lambda weights, batch, knobs: batch._replace(
      logp_first_BT=scored(weights, batch, knobs)
    ),
    # The old reference is not read: only kept has it room to give away.
    jax.jit(reset_one, donate_argnums=0, keep_unused=True),
  )
