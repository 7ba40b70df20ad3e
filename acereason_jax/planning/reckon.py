"""Memory by sizes alone: which changes of a config are worth planning.

A plan of one change takes a third of a second, and there are thousands. These
sums take microseconds, so `knobs` and `search` plan only what comes out here.
They assume AdamW, and that the mesh divides every weight.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_collections

from acereason_jax.config import stages as stages_lib
from acereason_jax.models import base, families, lora
from acereason_jax.planning import activations, memory
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine_sizes

# `rollout.cache.fit_pages` leaves a tenth of the memory.
_PAGES = 0.9
# What comes out so much too large is not planned.
SLACK = 1.05


class Model(NamedTuple):
  """Sizes of a model.

  config: its sizes, from `families.Network`.
  params, trained: numbers of all parameters, and of those that are trained.
  layer: numbers of one layer.
  """

  config: Any
  params: int
  trained: int
  layer: int


class Stage(NamedTuple):
  """Sizes of a stage, and what of it a change may set.

  tensor, shards: sizes of the mesh: of tensor, and of all axes that shard the
    parameters (fsdp x sequence x tensor).
  sequence: devices that share a row.
  data: groups with gradients of their own.
  groups: row shards of rollouts: devices by `rollouts_tensor`.
  rollouts_tensor: tensor axis of the rollouts' mesh.
  rows, columns: of a microbatch on a shard.
  remat, offload, vocab_chunk, itemsize, kv_itemsize: see config/base.py.
  matrix_itemsize: bytes of a weight of a layer that rollouts read.
  page, chunk: tokens of a page, and decode steps of a call.
  longest: tokens of the longest prompt and response, held-out ones included.
  kernel, gpu: see `activations.Load`.
  """

  tensor: int
  shards: int
  sequence: int
  data: int
  groups: int
  rollouts_tensor: int
  rows: int
  columns: int
  remat: str
  offload: bool
  vocab_chunk: int
  itemsize: int
  kv_itemsize: int
  matrix_itemsize: int
  page: int
  chunk: int
  longest: int
  kernel: str
  gpu: bool


def model_of(
  network: families.Network, config: ml_collections.ConfigDict
) -> Model:
  trained = lora.split(network.specs, **config.lora.to_dict()).trained
  layers = base.param_count(network.specs['layers']) // network.config.layers
  count = base.param_count
  return Model(network.config, count(network.specs), count(trained), layers)


def stage_of(
  config: ml_collections.ConfigDict,
  c: ml_collections.ConfigDict,
  mesh: Mapping[str, int],
  kernel: str,
  gpu: bool,
  rollouts_tensor: int = 0,
) -> Stage:
  """A stage of a run's `config` whose own config is `c`, on a mesh."""
  longest = c.heldout.max_tokens or max(
    own.rollout.max_tokens for own in stages_lib.every_stage(config).values()
  )
  window = max(own.prompt.window for own in stages_lib.domains(config).values())
  found = Stage(
    tensor=1,
    shards=1,
    sequence=1,
    data=1,
    groups=1,
    rollouts_tensor=1,
    rows=c.microbatch.rows,
    columns=c.microbatch.columns,
    remat=c.remat,
    offload=c.optim.offload,
    vocab_chunk=c.microbatch.vocab_chunk,
    itemsize=jnp.dtype(c.dtype).itemsize,
    kv_itemsize=jnp.dtype(c.engine.kv_dtype or c.dtype).itemsize,
    matrix_itemsize=jnp.dtype(c.engine.weights or c.dtype).itemsize,
    page=c.engine.page,
    chunk=c.engine.chunk,
    longest=window + max(longest, c.rollout.max_tokens),
    kernel=kernel,
    gpu=gpu,
  )
  return moved(found, mesh, rollouts_tensor)


def moved(
  stage: Stage, mesh: Mapping[str, int], rollouts_tensor: int = 0
) -> Stage:
  """The stage on another mesh, with rollouts on one of such a tensor axis."""
  devices = mesh['data'] * mesh['fsdp'] * mesh['sequence'] * mesh['tensor']
  rollouts_tensor = rollouts_tensor or mesh['tensor']
  return stage._replace(
    tensor=mesh['tensor'],
    shards=mesh['fsdp'] * mesh['sequence'] * mesh['tensor'],
    sequence=mesh['sequence'],
    data=mesh['data'],
    groups=devices // rollouts_tensor,
    rollouts_tensor=rollouts_tensor,
  )


def state_bytes(model: Model, stage: Stage) -> float:
  """Bytes of the train state on a device between updates."""
  trained = model.trained / stage.shards
  frozen = model.params * (model.trained != model.params) / stage.shards
  return trained * (4 if stage.offload else 12) + stage.itemsize * frozen


def update_bytes(model: Model, stage: Stage) -> float:
  """Bytes of an update, or of the optimizer's step if that takes more."""
  config, t = model.config, stage.tensor
  load = activations.Load(
    tokens=stage.rows * stage.columns // stage.sequence,
    layers=config.layers,
    embed=config.embed,
    queries=config.heads * config.head_dim // t,
    keys=max(1, config.kv_heads // t) * config.head_dim,
    heads=config.heads // t,
    mlp=config.mlp // t,
    layer_bytes=stage.itemsize * model.layer // t,
    params=model.trained // stage.shards,
    itemsize=stage.itemsize,
    vocab_chunk=stage.vocab_chunk,
    remat=stage.remat,
    kernel=stage.kernel,
    gpu=stage.gpu,
    experts=getattr(config, 'experts', 0),
    picked=getattr(config, 'picked', 0),
  )
  state = state_bytes(model, stage)
  sums = 4 * model.trained / stage.shards
  # `memory.applied`: gradients of groups twice.
  apply = state + sums + stage.offload * 2 * sums + (stage.data > 1) * sums
  add = state + sums + sum(activations.update_parts(load).values())
  return max(add, apply)


def weights_bytes(model: Model, stage: Stage) -> float:
  """Bytes of the rollouts' weights on a device."""
  layers = model.config.layers * model.layer
  size = stage.itemsize * (model.params - layers)
  return (size + stage.matrix_itemsize * layers) / stage.rollouts_tensor


def token_bytes(model: Model, stage: Stage) -> float:
  """Bytes of a token in the cache of a device."""
  c = model.config
  heads = max(1, c.kv_heads // stage.rollouts_tensor)
  return 2 * c.layers * heads * c.head_dim * stage.kv_itemsize


def pages_room(model: Model, stage: Stage, room: float) -> float:
  """Bytes of a device that pages may take; below 0 if weights do not fit."""
  state = state_bytes(model, stage)
  return _PAGES * room - state - weights_bytes(model, stage)


def may_fit(model: Model, stage: Stage, room: float) -> bool:
  """Whether a stage may fit into a device's `room`, bytes, within SLACK."""
  room = SLACK * room
  least = (stage.longest + 2 * stage.page) * token_bytes(model, stage)
  if pages_room(model, stage, room) < least:
    return False
  return update_bytes(model, stage) < room


def slots_of_shard(
  model: Model,
  stage: Stage,
  room: float,
  table: int,
  rollouts: int,
  width: int,
) -> int:
  """Slots of a row shard as `rollout.cache.fit_slots` chooses them.

  `table` is the pages of the longest prompt and response, `rollouts` the most
  of a batch, `width` the slots of a group.
  """
  parts = _chunk_parts(model, stage)
  slot = cache_lib.slot_bytes(
    table,
    stage.page * token_bytes(model, stage),
    parts['tokens of a chunk'],
    4 * model.config.vocab / stage.rollouts_tensor,
  )
  left = pages_room(model, stage, room)
  return cache_lib.slots_of_shard(
    rollouts, stage.groups, left, slot, width=width, on_cpu=False
  )


def slots_of_chunks(model: Model, stage: Stage, room: float) -> float:
  """Slots of a row shard whose tokens of a chunk fit beside the pages."""
  return (1 - _PAGES) * room / sum(_chunk_parts(model, stage).values())


def _chunk_parts(model: Model, stage: Stage) -> dict[str, float]:
  """Bytes of the temporaries of a chunk for one slot."""
  return memory.decode_parts(
    _one_slot(stage.chunk),
    layers=model.config.layers,
    kv_heads=max(1, model.config.kv_heads // stage.rollouts_tensor),
    head_dim=model.config.head_dim,
    vocab=model.config.vocab // stage.rollouts_tensor,
    itemsize=stage.itemsize,
    platform='gpu' if stage.gpu else 'tpu',
  )


def _one_slot(chunk: int) -> engine_sizes.Sizes:
  """An engine of one slot; only its slots and its chunk are read."""
  return engine_sizes.Sizes(1, 1, chunk, chunk, 2, 1, chunk, 1, 1)
