"""One optimizer step: microbatches add gradients, then one update.

Weights are over the whole batch (`packing.token_weights`), so gradients of
microbatches (gradients.py) add up and any split gives the same step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base, sharding
from acereason_jax.rl import gradients, losses
from acereason_jax.rl.gradients import Knobs, Scored, Sums
from acereason_jax.rl.packing import PackedBatch


@flax.struct.dataclass
class TrainState:
  """The state that training changes.

  params: trained parameters, float32.
  opt_state: state of the optimizer.
  step: number of updates taken, int32.
  frozen: other parameters of the model, which no update changes, in the compute
    dtype; {} in full training.
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
    """The tree that the model reads, `params` and `frozen` without copies."""
    return base.overlaid(self.frozen, self.params)

  @property
  def reference_weights(self) -> base.Tree:
    """The tree that the reference model reads."""
    return base.overlaid(self.frozen, self.reference)

  def saved(self) -> 'TrainState':
    """The part that a checkpoint holds; `frozen` is in the model's files."""
    return self.replace(frozen={})


class Places(NamedTuple):
  """Shardings of an update's values on a mesh.

  XLA needs these: nothing in `zeros` determines the sharding of gradients, and
  the new state of `apply` would be whole on every GPU.

  params: shardings of the trained parameters.
  frozen: shardings of the frozen parameters; {} if there are none.
  everywhere: sharding of a scalar.
  rows: sharding of packed rows.
  head: sharding of the head.
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
  add: (weights, Sums, batch, knobs) -> (Sums, Scored); the Sums are donated.
  apply: (state, Sums) -> (state, metrics); the state is donated.
  logp: (weights, batch, knobs) -> logp_BT; what `score` and `first_pass` run.
  score: (reference weights, batch, knobs) -> the batch with logp_ref.
  first_pass: (weights, batch, knobs) -> the batch with logp_first. Call it
    before the first of several updates, if the loss reads logp_first.
  reset_reference: (state) -> the state whose reference is its parameters; the
    state is donated.
  """

  zeros: Callable[[base.Tree], Sums]
  add: Callable[[base.Tree, Sums, PackedBatch, Knobs], tuple[Sums, Scored]]
  apply: Callable[[TrainState, Sums], tuple[TrainState, dict]]
  logp: Callable[[base.Tree, PackedBatch, Knobs], jax.Array]
  score: Callable[[base.Tree, PackedBatch, Knobs], PackedBatch]
  first_pass: Callable[[base.Tree, PackedBatch, Knobs], PackedBatch]
  reset_reference: Callable[[TrainState], TrainState]


def init_state(
  params: base.Tree, optimizer: optax.GradientTransformation
) -> TrainState:
  return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def apply(
  state: TrainState,
  sums: Sums,
  *,
  optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Takes one update.

  A loss or gradient that is not finite changes nothing, and is counted.
  """
  norm = optax.tree.norm(sums.grads)
  finite = jnp.isfinite(norm) & jnp.isfinite(sums.loss)

  def step(params, opt_state):
    updates, opt_state = optimizer.update(sums.grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  params, opt_state = jax.lax.platform_dependent(
    state.params,
    state.opt_state,
    cpu=functools.partial(branched, finite, step),
    default=functools.partial(selected, finite, step),
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


def selected(
  finite: jax.Array, step: Callable[..., Any], *state: base.Tree
) -> tuple[base.Tree, ...]:
  """step(*state), or the state as it is: each number is chosen.

  XLA for GPUs and TPUs writes the branches of a conditional to arrays of their
  own, all of the state once more; it selects in place.
  """
  choose = functools.partial(jnp.where, finite)
  return jax.tree.map(choose, step(*state), state)


def branched(
  finite: jax.Array, step: Callable[..., Any], *state: base.Tree
) -> tuple[base.Tree, ...]:
  """step(*state), or the state as it is: a conditional, faster on CPUs."""
  return jax.lax.cond(finite, step, lambda *same: same, *state)


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
  """The jitted functions; see `gradients.weighted_loss` for `entropy_bonus`.

  `several` says that a batch has several updates. Gradients and the state are
  sharded as `param_shardings` (None for one device), and frozen parameters as
  `frozen_shardings`. With `offload` a state's moments are in the hosts' memory
  (`sharding.like_params`), except while `apply` runs.
  """
  places, sums, rows, groups = None, None, None, 1
  if param_shardings is not None:
    places = _places(model, param_shardings, frozen_shardings)
    sums, rows = gradients.place_sums(param_shardings), places.rows
    groups = gradients.groups_of(param_shardings)
  reference = 'logp_ref_BT' in losses.reads(loss)
  forward = functools.partial(
    gradients.token_logp,
    model=model,
    vocab_chunk=vocab_chunk,
    dtype=dtype,
    head=None if places is None else places.head,
  )
  step = dict(optimizer=optimizer, reference=reference, groups=groups)
  placed = dict(places=places, offload=offload)
  added = _adder(forward, loss, entropy_bonus, several, groups, places)
  scored = jax.jit(
    functools.partial(_score, forward=forward), out_shardings=rows
  )
  return Update(
    zeros=jax.jit(
      functools.partial(gradients.zeros, groups=groups), out_shardings=sums
    ),
    add=jax.jit(added, out_shardings=(sums, rows), donate_argnums=1),
    apply=jax.jit(
      functools.partial(_apply, **step, **placed), donate_argnums=0
    ),
    logp=scored,
    score=functools.partial(_scored, 'logp_ref_BT', scored),
    first_pass=functools.partial(_scored, 'logp_first_BT', scored),
    # An unused argument, the old reference, is donated only if it is kept.
    reset_reference=jax.jit(
      functools.partial(_reset, dtype=dtype, **placed),
      donate_argnums=0,
      keep_unused=True,
    ),
  )


def _adder(
  forward: Callable[..., tuple[jax.Array, jax.Array]],
  loss: losses.Loss,
  entropy_bonus: bool,
  several: bool,
  groups: int,
  places: Places | None,
) -> Callable[..., tuple[Sums, Scored]]:
  """`gradients.add`, or `gradients.add_by_group` where there are several."""
  read = losses.reads(loss)
  how = dict(
    forward=forward,
    loss=loss,
    entropy_bonus=entropy_bonus,
    reference='logp_ref_BT' in read,
    has_first=several and 'logp_first_BT' in read,
  )
  if groups == 1:
    return functools.partial(gradients.add, **how)
  mesh = places.everywhere.mesh
  return functools.partial(gradients.add_by_group, mesh=mesh, **how)


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
  groups: int,
  places: Places | None,
  offload: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """`apply` on a mesh; without the metric kl if there is no `reference`."""
  if groups > 1:
    sums = gradients.total(sums)
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
  """The state with its own parameters as the reference."""
  state = state.replace(reference=base.cast(state.params, dtype))
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
  """logp_BT of a batch's response tokens; 0 at other tokens."""
  logp_BT, _ = forward(weights, batch, knobs.temperature)
  return jnp.where(batch.weight_BT > 0, logp_BT, 0.0)


def _scored(
  field: str,
  score: Callable[[base.Tree, PackedBatch, Knobs], jax.Array],
  weights: base.Tree,
  batch: PackedBatch,
  knobs: Knobs,
) -> PackedBatch:
  """The batch with its scores as a field."""
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
  """The state, unmoved, except that its moments are placed as `opt_state`."""
  where = TrainState(
    places.params,
    opt_state,
    places.everywhere,
    places.frozen,
    places.params if state.reference else {},
  )
  return jax.lax.with_sharding_constraint(state, where)
