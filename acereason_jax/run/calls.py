"""The calls of a stage: each jitted function, with the shapes it is called on.

To compile ahead of time what a run compiles, without its arrays.
tests/test_calls.py records a run's own arguments, so that these cannot drift.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base
from acereason_jax.rl import gradients, packing, update
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import exchange, serve, tail
from acereason_jax.run import build, values


class Call(NamedTuple):
  """A call of a jitted function.

  function: jitted function; it has `trace` and `lower`.
  arguments: its arguments, as shapes with dtypes and shardings. What the host
    passes as numpy has no sharding.
  """

  function: Any
  arguments: tuple[Any, ...]


def abstract_calls(
  programs: build.Programs, stage: values.Stage
) -> dict[str, Call]:
  """The calls of a stage, by name, in the order in which a run begins them.

  Those of a microbatch are of the widest; `narrower_calls` has the others.

  Always: 'init', 'empty_pool', 'prefill', 'decode', 'zeros', 'add', 'apply',
  and 'heldout_prefill', 'heldout_decode' of the held-out engine. Where the
  stage has them: 'rollout_params', 'first_pass', 'score', 'reset_reference'.
  With a reference, 'reset_reference' is the call of a stage that a run begins
  with; the later ones also pass the old reference.

  Not among them: those that only move arrays, and the few leaves of `carry`.
  """
  state, engine = abstract_state(programs, stage), stage.engine
  sums = abstract_sums(state)
  own = microbatch_calls(stage, state, sums, stage.layout.columns)
  found = dict(init=Call(stage.init, (programs.abstract_params,)))
  if stage.has_reference:
    found['reset_reference'] = Call(
      stage.update.reset_reference, (state.replace(reference={}),)
    )
  params, crossing = rollout_weights(programs, state.weights)
  if crossing is not None:
    found['rollout_params'] = crossing
  found |= engine_calls(engine, params, programs.rollouts.mesh)
  if stage.has_first:
    found['first_pass'] = own.pop('first_pass')
  found['zeros'] = Call(stage.update.zeros, (state.params,))
  heldout = engine_calls(
    programs.heldout_engine, params, programs.rollouts.mesh
  )
  found |= own
  return found | dict(
    apply=Call(stage.update.apply, (state, sums)),
    heldout_prefill=heldout['prefill'],
    heldout_decode=heldout['decode'],
  )


def narrower_calls(
  programs: build.Programs, stage: values.Stage
) -> dict[int, dict[str, Call]]:
  """The calls of narrower microbatches: by width, then by name.

  A run compiles one when the packer first takes its width (`rows.plan`), and
  most of them never. Each takes less memory than that of the widest.
  """
  state = abstract_state(programs, stage)
  sums = abstract_sums(state)
  _, *narrower = rows_lib.widths(stage.layout)
  return {
    width: microbatch_calls(stage, state, sums, width) for width in narrower
  }


def microbatch_calls(
  stage: values.Stage,
  state: update.TrainState,
  sums: gradients.Sums,
  width: int,
) -> dict[str, Call]:
  """'first_pass' and 'score', if the stage has them, and 'add', of a width."""
  mesh = jax.tree.leaves(state.params)[0].sharding.mesh
  batch, knobs = abstract_batch(stage, mesh, width), abstract_knobs()
  found = {}
  if stage.has_first:
    found['first_pass'] = Call(stage.update.logp, (state.weights, batch, knobs))
  if stage.has_reference:
    found['score'] = Call(
      stage.update.logp, (state.reference_weights, batch, knobs)
    )
  found['add'] = Call(stage.update.add, (state.weights, sums, batch, knobs))
  return found


def abstract_state(
  programs: build.Programs, stage: values.Stage
) -> update.TrainState:
  """The stage's whole train state; a checkpoint does not hold all of it."""
  return stage.abstract_state.replace(frozen=programs.params.abstract_frozen)


def rollout_weights(
  programs: build.Programs, weights: base.Tree
) -> tuple[base.Tree, Call | None]:
  """(parameters that the engines read, the call that makes them).

  The call is None if engines read the weights of the train state.
  """
  mesh, make = programs.rollouts.mesh, programs.rollouts.params
  made = jax.eval_shape(make, weights)
  apart = base.are_apart(made)
  if hasattr(make, 'lower'):
    call = Call(make, (weights,))
  elif apart:
    call = Call(base.unstacked, (weights['layers'],))
  else:
    return weights, None
  places = serve.placed(programs.rollouts.specs, mesh, apart=apart)
  return jax.tree.map(_put, made, places), call


def engine_calls(
  engine: engine_lib.Engine, params: base.Tree, mesh: jax.sharding.Mesh
) -> dict[str, Call]:
  """'empty_pool', 'prefill' and 'decode' of an engine."""
  s, rows = engine.sizes, mesh_lib.rows(mesh)
  integers = lambda *shape, place=None: jax.ShapeDtypeStruct(
    shape, jnp.int32, sharding=place
  )
  pieces = exchange.Pieces(
    tokens_AT=integers(s.rows, s.piece, place=rows),
    first_A=integers(s.rows, place=rows),
    table_AP=integers(s.rows, s.prefix_pages, place=rows),
    page_AP=integers(s.rows, s.piece // s.page, place=rows),
  )
  origin, temperature = integers(2), jax.ShapeDtypeStruct((), jnp.float32)
  control = (
    integers(s.slots, len(exchange.Slot._fields), place=rows),
    integers(s.slots, s.table, place=rows),
  )
  if s.speculate:
    control += integers(*tail.history_shape(s), place=rows), integers()
  return dict(
    empty_pool=Call(engine.empty_pool, ()),
    prefill=Call(engine.prefill, (params, engine.pool, pieces)),
    decode=Call(
      engine.decode, (params, engine.pool, origin, temperature, *control)
    ),
  )


def abstract_batch(
  stage: values.Stage, mesh: jax.sharding.Mesh, width: int
) -> packing.PackedBatch:
  """One microbatch of the stage, with rows of `width` tokens."""
  shape = stage.layout.rows, width
  packed = mesh_lib.packed(mesh)
  types = dict.fromkeys(packing.WHOLE, jnp.int32)
  return packing.PackedBatch(
    *(
      jax.ShapeDtypeStruct(shape, types.get(name, jnp.float32), sharding=packed)
      for name in packing.PackedBatch._fields
    )
  )


def abstract_sums(state: update.TrainState) -> gradients.Sums:
  """The sums over microbatches: gradients, placed as the parameters."""
  placed = jax.tree.map(lambda x: x.sharding, state.params)
  zeros = functools.partial(gradients.zeros, groups=gradients.groups_of(placed))
  sums = jax.eval_shape(zeros, state.params)
  return jax.tree.map(_put, sums, gradients.place_sums(placed))


def abstract_knobs() -> gradients.Knobs:
  scalar = jax.ShapeDtypeStruct((), jnp.float32)
  return gradients.Knobs(*(scalar for _ in gradients.Knobs._fields))


def _put(x: jax.ShapeDtypeStruct, place) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
