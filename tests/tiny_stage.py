"""What `step.update_policy` needs of a stage, over the model of test_update."""

import functools
import types

import jax
import jax.numpy as jnp
import optax
import test_update

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.curriculum import ledger
from acereason_jax.kernels import attention
from acereason_jax.models import decoder, sharding
from acereason_jax.rl import control, losses, packing, update
from acereason_jax.run import values

TEMPERATURE = test_update.TEMPERATURE


def stage(loss, *, sizes=None, several=False, rate=1e-3):
  """A stage on one device, or on a mesh of (data, fsdp, tensor)."""
  kwargs, placed = {}, None
  place = functools.partial(jax.tree.map, jnp.asarray)
  if sizes:
    mesh = test_update.make_mesh(sizes)
    kwargs = partition.pins(mesh)
    kwargs['attend'] = partition.split_attention(
      mesh, attention.packed_attention
    )
    placed = sharding.param_shardings(test_update.MODEL.specs, mesh)
    spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
    place = lambda batch: packing.PackedBatch(*map(spread, batch))
  read = losses.reads(loss)
  made = update.make_update(
    decoder.make_model(test_update.CONFIG, **kwargs),
    loss,
    optax.sgd(rate),
    vocab_chunk=40,
    dtype=jnp.float32,
    several=several,
    param_shardings=placed,
  )
  return types.SimpleNamespace(
    name='tiny',
    update=made,
    place=place,
    tempered=True,
    entropy_bonus=control.constant(0.0),
    has_reference='logp_ref_BT' in read,
    has_first=several and 'logp_first_BT' in read,
    placed=placed,
  )


def standing(stage):
  """The standing before the first step; an update gives its state away."""
  params = jax.tree.map(jnp.array, test_update.PARAMS)
  if stage.placed is not None:
    spread = lambda x, s: mesh_lib.spread(x, s)
    params = jax.tree.map(spread, test_update.PARAMS, stage.placed)
  state = update.init_state(params, optax.sgd(1e-3))
  if stage.has_reference:
    state = stage.update.reset_reference(state)
  progress = values.Progress(stage.name, temperature=TEMPERATURE)
  return values.Standing(state, progress, ledger.Ledger())


def packed(groups, rows, columns, **kwargs):
  return packing.pack(groups, rows=rows, columns=columns, pad_token=0, **kwargs)
