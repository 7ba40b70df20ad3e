"""One optimizer step: microbatches add gradients, then one update.

Weights are over the whole batch (`packing.token_weights`), so gradients of
microbatches simply add and any split gives the same step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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
  """What training changes.

  params: what is trained, float32.
  opt_state: the optimizer's state.
  step: updates taken, int32.
  frozen: what the model reads beside `params` and no update changes, in the
    compute dtype; {} in full training.
  reference: `params` as they once were, in the compute dtype, for a loss that
    reads logp_ref; else {}.
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

  temperature: that of the policy that is trained.
  entropy_weight: of the entropy bonus, for an update that is made with one.
  """

  temperature: jax.Array
  entropy_weight: jax.Array


class Sums(NamedTuple):
  """What microbatches add up to; scalars, except the gradients.

  grads: of the loss, in the shape of what is trained.
  loss: the weighted loss.
  tokens: response tokens that were trained on.
  entropy: the sum over these tokens of the policy's entropy, nats.
  mismatch: the sum over them of |logp - the sampler's logp|, nats.
  mismatch_max: the largest of these, nats.
  kl: the sum over them of the KL to the reference, nats; 0 where the loss reads
    none.
  """

  grads: base.Tree
  loss: jax.Array
  tokens: jax.Array
  entropy: jax.Array
  mismatch: jax.Array
  mismatch_max: jax.Array
  kl: jax.Array


class Places(NamedTuple):
  """Where an update's values are placed on a mesh.

  XLA has to be told: nothing in `zeros` says where gradients go, and the new
  state of `apply` would be whole on every GPU.

  params: shardings of what is trained.
  frozen: shardings of what is not; {} if there is nothing.
  everywhere: the sharding of a scalar.
  rows: the sharding of packed rows.
  head: the sharding of the head.
  """

  params: base.Tree
  frozen: base.Tree
  everywhere: NamedSharding
  rows: NamedSharding
  head: NamedSharding


@dataclasses.dataclass(frozen=True)
class Update:
  """The jitted functions of an update.

  zeros: (params) -> Sums.
  add: (weights, Sums, batch, knobs) -> Sums; the Sums are donated.
  apply: (state, Sums) -> (state, metrics); the state is donated.
  score: (reference weights, batch, knobs) -> the batch with logp_ref.
  first_pass: (weights, batch, knobs) -> the batch with logp_first; to be called
    before the first of several updates, if the loss reads it.
  reset_reference: (state) -> the state whose reference is its parameters; the
    state is donated.
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
  is the head's sharding on a mesh, None for one device. It goes in uncast:
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
  **how: Any,
) -> Sums:
  """Adds the gradient and the metrics of one microbatch.

  The gradient is that of those weights that `sums.grads` has. `how` is the
  keywords of `weighted_loss`.
  """
  trained = base.part_of(weights, sums.grads)
  loss = functools.partial(weighted_loss, **how)
  (value, found), grads = jax.value_and_grad(loss, has_aux=True)(
    trained, weights, batch, knobs
  )
  return Sums(
    jax.tree.map(jnp.add, sums.grads, grads),
    sums.loss + value,
    sums.tokens + found.tokens,
    sums.entropy + found.entropy,
    sums.mismatch + found.mismatch,
    jnp.maximum(sums.mismatch_max, found.mismatch_max),
    sums.kl + found.kl,
  )


class Measured(NamedTuple):
  """What a microbatch adds to the fields of `Sums` that have these names."""

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
) -> tuple[jax.Array, Measured]:
  """The sum of a microbatch's loss_BT * weight_BT, at `params` of the weights.

  `forward` is `token_logp` of a model. With `entropy_bonus` the loss of a token
  is less by entropy_weight * its entropy. `reference` says that the batch has
  logp_ref, `has_first` that it has logp_first; without, this is the trainer's
  first pass over the batch, so that logp_first is logp as a number.

  The mismatch is |logp - sampler's logp| over the response tokens: the forward
  is the same function, so it should be rounding only.
  """
  logp_BT, entropy_BT = forward(
    base.overlaid(weights, params),
    batch,
    knobs.temperature,
    entropy_gradient=entropy_bonus,
  )
  said_BT = batch.weight_BT > 0
  # Before the loss: only a `where` after it leaves 0 * inf in the gradient.
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
  return total, Measured(said_BT.sum(), entropy, gap_BT.sum(), gap_BT.max(), kl)


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
  """The jitted functions; see `weighted_loss` for `entropy_bonus`.

  `several` says that a batch has several updates. Gradients and the state are
  placed as `param_shardings`, None for one device, and what is frozen as
  `frozen_shardings`. With `offload` a state's moments are in the hosts' memory
  (`sharding.like_params`), except while `apply` runs.
  """
  places, sums, rows = None, None, None
  if param_shardings is not None:
    places = _places(model, param_shardings, frozen_shardings)
    scalars = (places.everywhere for _ in Sums._fields[1:])
    sums, rows = Sums(param_shardings, *scalars), places.rows
  read = losses.reads(loss)
  reference = 'logp_ref_BT' in read
  head = None if places is None else places.head
  forward = functools.partial(
    token_logp, model=model, vocab_chunk=vocab_chunk, dtype=dtype, head=head
  )
  how = dict(
    forward=forward,
    loss=loss,
    entropy_bonus=entropy_bonus,
    reference=reference,
    has_first=several and 'logp_first_BT' in read,
  )
  step = dict(optimizer=optimizer, reference=reference)
  placed = dict(places=places, offload=offload)
  scored = jax.jit(
    functools.partial(_score, forward=forward), out_shardings=rows
  )
  return Update(
    zeros=jax.jit(zeros, out_shardings=sums),
    add=jax.jit(
      functools.partial(add, **how), out_shardings=sums, donate_argnums=1
    ),
    apply=jax.jit(
      functools.partial(_apply, **step, **placed), donate_argnums=0
    ),
    score=functools.partial(_scored, 'logp_ref_BT', scored),
    first_pass=functools.partial(_scored, 'logp_first_BT', scored),
    # The old reference is not read: it gives its memory only if it is kept.
    reset_reference=jax.jit(
      functools.partial(_reset, dtype=dtype, **placed),
      donate_argnums=0,
      keep_unused=True,
    ),
  )


def _places(
  model: base.Model,
  param_shardings: base.Tree,
  frozen_shardings: base.Tree | None,
) -> Places:
  mesh = jax.tree.leaves(param_shardings)[0].mesh
  return Places(
    params=param_shardings,
    frozen=frozen_shardings or {},
    everywhere=mesh_lib.replicated(mesh),
    rows=mesh_lib.packed(mesh),
    head=model.head(base.overlaid(frozen_shardings, param_shardings)),
  )


def _apply(
  state: TrainState,
  sums: Sums,
  *,
  optimizer: optax.GradientTransformation,
  reference: bool,
  places: Places | None,
  offload: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """`apply` on a mesh; without the kl where there is no `reference`."""
  if offload:
    state = _with_moments(state, places, offload=False)
  after, metrics = apply(state, sums, optimizer=optimizer)
  if not reference:
    del metrics['kl']
  if places is not None:
    after = _pinned(after, places, _moments(after, places, offload=False))
  return _with_moments(after, places, offload) if offload else after, metrics


def _reset(
  state: TrainState, *, dtype: jnp.dtype, places: Places | None, offload: bool
) -> TrainState:
  """The state with its parameters as the reference."""
  state = state.replace(reference=cast(state.params, dtype))
  if places is None:
    return state
  return _pinned(state, places, _moments(state, places, offload))


def _score(
  weights: base.Tree,
  batch: PackedBatch,
  knobs: Knobs,
  *,
  forward: Callable[..., tuple[jax.Array, jax.Array]],
) -> jax.Array:
  """logp_BT of a batch's response tokens, else 0."""
  logp_BT, _ = forward(weights, batch, knobs.temperature)
  return jnp.where(batch.weight_BT > 0, logp_BT, 0.0)


def _scored(
  field: str,
  score: Callable[[base.Tree, PackedBatch, Knobs], jax.Array],
  weights: base.Tree,
  batch: PackedBatch,
  knobs: Knobs,
) -> PackedBatch:
  """The batch with its score as a field."""
  return batch._replace(**{field: score(weights, batch, knobs)})


def _moments(state: TrainState, places: Places, offload: bool) -> base.Tree:
  """Where the optimizer's state is placed."""
  return sharding.like_params(
    state.opt_state,
    state.params,
    places.params,
    places.everywhere,
    offload=offload,
  )


def _with_moments(
  state: TrainState, places: Places, offload: bool
) -> TrainState:
  """The state with its moments moved to the hosts, or to the devices."""
  to = _moments(state, places, offload)
  return state.replace(opt_state=jax.device_put(state.opt_state, to))


def _pinned(
  state: TrainState, places: Places, opt_state: base.Tree
) -> TrainState:
  """The state where it is, with its moments placed as `opt_state`."""
  where = TrainState(
    places.params,
    opt_state,
    places.everywhere,
    places.frozen,
    places.params if state.reference else {},
  )
  return jax.lax.with_sharding_constraint(state, where)
