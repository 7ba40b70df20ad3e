"""Memory of a device, phase by phase, of a stage that was built for it.

Bytes of state, weights and cache follow from shapes and shardings; those of
temporaries are formulas by hand (activations.py, and here for rollouts). Room
for pages is what `rollout.cache.fit_pages` leaves, the same rule as in a run.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base, sharding
from acereason_jax.planning import activations
from acereason_jax.planning.values import Phase
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine_sizes, sampling, serve

# Copies of a chunk's keys and values that XLA holds at once: by the temporaries
# of our compiles (docs/measured.md), where v5p has a third of one more. Layers
# that are apart are stacked at the end of a chunk.
_STAGED = {'tpu': 1, 'gpu': 2, 'cpu': 2}
# XLA for TPU7x lays all weights of products out anew, once for each call of
# decode (libtpu 0.0.52; seen in our compiles).
_LAYS_OUT_ANEW = 'TPU7x'


class Rollouts(NamedTuple):
  """The engine of rollouts on a device.

  mesh: the mesh of rollouts.
  sizes: the engine's.
  weights: bytes of the rollouts' weights in addition to the state.
  """

  mesh: Mesh
  sizes: engine_sizes.Sizes
  weights: float


def rollouts(programs: Any, engine: Any) -> Rollouts:
  """An engine of `programs` as it is built."""
  own = programs.rollouts
  return Rollouts(own.mesh, engine.sizes, own.extra)


def refitted(
  programs: Any, engine: Any, c: Any, memory: int, state: int, count: int
) -> Rollouts:
  """The engine of programs for endless memory, in `memory` bytes of a device.

  `c` is the config of its stage, `state` the bytes of a device's train state,
  `count` the most rollouts of a batch.

  Raises:
    ValueError: one line; the memory is too small.
  """
  own = rollouts(programs, engine)
  sizes = serve.fit_sizes(
    engine.sizes._replace(slots=c.engine.slots, pages=c.engine.pages),
    programs.rollouts.model,
    own.mesh,
    jnp.dtype(c.dtype),
    kv_dtype(c),
    state + own.weights,
    memory,
    count,
  )
  return own._replace(sizes=sizes)


def kv_dtype(c: Any) -> jnp.dtype:
  return jnp.dtype(c.engine.kv_dtype or c.dtype)


def state_parts(programs: Any, stage: Any, c: Any) -> dict[str, float]:
  """Bytes of a device's train state, by part.

  Frozen weights, beside adapters, are loaded in the compute dtype. Offloaded
  moments are in the host's memory and count 0 here.
  """
  network, state = programs.network, stage.abstract_state
  frozen = network.parts.frozen
  placed = sharding.param_shardings(frozen, network.mesh)
  frozen = sharding.abstract(frozen, placed, jnp.dtype(c.dtype))
  parts = {
    'trained weights': mesh_lib.device_bytes(state.params),
    'optimizer': mesh_lib.device_bytes(state.opt_state),
    'frozen weights': mesh_lib.device_bytes(frozen),
    'reference': mesh_lib.device_bytes(state.reference),
  }
  return {name: float(size) for name, size in parts.items() if size}


def decode_parts(
  sizes: engine_sizes.Sizes,
  *,
  layers: int,
  kv_heads: int,
  head_dim: int,
  vocab: int,
  itemsize: int,
  platform: str,
  cuts: bool = False,
) -> dict[str, float]:
  """Bytes of the temporaries of a chunk of decode steps on a device.

  `kv_heads` and `vocab` are those of one device. The tokens of a chunk are
  staged for all slots of its shard, L B K 2 T H numbers; logits are float32.
  `cuts` says that draws search them (top-p, top-k).
  """
  slots = sizes.slots // sizes.shards
  staged = layers * slots * kv_heads * 2 * sizes.chunk * head_dim * itemsize
  arrays = sampling.ARRAYS + sampling.SEARCHED * cuts
  return {
    'tokens of a chunk': float(_STAGED[platform] * staged),
    'logits': 4.0 * arrays * slots * vocab,
  }


def prefill_bytes(
  sizes: engine_sizes.Sizes,
  *,
  layers: int,
  kv_heads: int,
  head_dim: int,
  wide: int,
  itemsize: int,
) -> float:
  """Bytes of the temporaries of one prefill call on a device.

  Keys and values of a piece of each prompt, in two layouts, and the activations
  of one layer: `wide` numbers a token.
  """
  tokens = sizes.rows // sizes.shards * sizes.piece
  kv = 2 * layers * tokens * kv_heads * 2 * head_dim
  return float((kv + tokens * wide) * itemsize)


def laid_out_anew(
  kind: str, weights: float, config: Any, itemsize: int, tensor: int
) -> float:
  """Bytes of the weights that a call of decode copies, on a kind of device.

  All weights of products; the embedding is none, unless it is the head too.
  """
  if kind != _LAYS_OUT_ANEW:
    return 0.0
  table = 0 if config.tied else config.vocab * config.embed
  return weights - table * itemsize / tensor


def pool_bytes(programs: Any, found: Rollouts, c: Any) -> float:
  """Bytes of the cache's pages on a device."""
  cache = cache_lib.make_cache(programs.rollouts.model, found.mesh)
  sizes = found.sizes
  shape = cache.shape(sizes.shards * sizes.pages, sizes.page)
  numbers = math.prod(cache.sharding.shard_shape(shape))
  return float(numbers * kv_dtype(c).itemsize)


def sample_parts(
  programs: Any,
  found: Rollouts,
  c: Any,
  machine: mesh_lib.Machine,
  cuts: bool = False,
) -> dict[str, float]:
  """Bytes that rollouts take beside the train state, by part."""
  network, sizes = programs.network, found.sizes
  config = network.files.network.config
  tensor = found.mesh.shape['tensor']
  itemsize = jnp.dtype(c.dtype).itemsize
  one = dict(
    layers=config.layers,
    kv_heads=max(1, config.kv_heads // tensor),
    head_dim=config.head_dim,
    itemsize=itemsize,
  )
  parts = {
    'weights of rollouts': float(found.weights),
    'pages': pool_bytes(programs, found, c),
  }
  vocab = -(-config.vocab // tensor)
  parts |= decode_parts(
    sizes, **one, vocab=vocab, platform=machine.platform, cuts=cuts
  )
  wide = 4 * config.embed + 3 * config.mlp // tensor
  parts['prefill'] = prefill_bytes(sizes, **one, wide=wide)
  kind = machine.devices[0].device_kind
  if anew := laid_out_anew(kind, found.weights, config, itemsize, tensor):
    parts['weights laid out anew'] = anew
  # Decoding and prefill do not run at once.
  prefill = parts.pop('prefill')
  decode = parts['tokens of a chunk'] + parts['logits']
  if prefill > decode:
    del parts['tokens of a chunk'], parts['logits']
    parts['prefill'] = prefill
  return parts


def layer_bytes(programs: Any, mesh: Mesh, c: Any) -> int:
  """Bytes of a layer's weights on a device, split by the tensor axis only."""
  network = programs.network
  specs = network.model.specs['layers']
  whole = serve.param_bytes(specs, mesh, jnp.dtype(c.dtype))
  return whole // network.files.network.config.layers


def load_of(programs: Any, stage: Any, c: Any) -> activations.Load:
  """The sizes of a microbatch of a stage on one device."""
  network = programs.network
  config, mesh = network.files.network.config, network.mesh
  tensor = mesh.shape['tensor']
  params = mesh_lib.device_bytes(stage.abstract_state.params) // 4
  rows = stage.layout.rows // mesh_lib.packed_shards(mesh)
  return activations.Load(
    tokens=rows * stage.layout.columns // mesh.shape['sequence'],
    layers=config.layers,
    embed=config.embed,
    queries=config.heads * config.head_dim // tensor,
    keys=max(1, config.kv_heads // tensor) * config.head_dim,
    heads=config.heads // tensor,
    mlp=config.mlp // tensor,
    layer_bytes=layer_bytes(programs, mesh, c),
    params=params,
    itemsize=jnp.dtype(c.dtype).itemsize,
    vocab_chunk=c.microbatch.vocab_chunk,
    remat=c.remat,
    kernel=network.attention,
    gpu=mesh.devices.flat[0].platform == 'gpu',
    experts=getattr(config, 'experts', 0),
    picked=getattr(config, 'picked', 0),
  )


def moment_bytes(state: Any) -> tuple[float, float]:
  """(bytes of a device's moments, of those the ones in its host's memory)."""
  every = jax.tree.leaves(state.opt_state)
  away = [x for x in every if x.sharding.memory_kind == mesh_lib.HOST]
  return sum(map(shard_bytes, every)), sum(map(shard_bytes, away))


def shard_bytes(x: jax.ShapeDtypeStruct) -> float:
  """Bytes of a device's part of an array, in whichever memory."""
  return float(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize)


def applied(platform: str, weights: float, groups: int) -> dict[str, float]:
  """Bytes of the temporaries of the optimizer's step, AdamW's, by part.

  TPUs and GPUs update the state in place (compiled: 5 MB beside 7.1 GB on v5e,
  and nothing beside 11.4 GB on 8 H100). A CPU makes the updates first, as large
  as the trained `weights`. Gradients of several `groups` of 'data' are there
  once more while they are summed (compiled: 3.86 GB for 7B on 2 x 8 H100).
  """
  found = {}
  if platform == 'cpu':
    found['updates'] = weights
  if groups > 1:
    found['gradients of all groups'] = weights
  return found


def largest_leaf(abstract: base.Tree) -> float:
  """Bytes of the largest parameter's part on a device."""
  return float(max(map(mesh_lib.device_bytes, jax.tree.leaves(abstract))))


def phases(
  programs: Any,
  stage: Any,
  c: Any,
  machine: mesh_lib.Machine,
  found: Rollouts | None = None,
  heldout: Rollouts | None = None,
) -> tuple[Phase, ...]:
  """What fills a device at each time of a stage.

  load: the trained weights as float32; a matrix that several processes read is
    there twice while its rows move, before the optimizer's state is made.
  sample, heldout: the state, and an engine.
  update: the state, sums of gradients, and a microbatch.
  apply: the state with all of its moments, the sums, and what `applied` says.

  `c` is the config of the stage; `found` and `heldout` are its engines, by
  default those of the programs.
  """
  state = state_parts(programs, stage, c)
  train, held = stage.engine, programs.heldout_engine
  found = found or rollouts(programs, train)
  heldout = heldout or rollouts(programs, held)
  sums = {'sums of gradients': state['trained weights']}
  moving = largest_leaf(stage.abstract_state.params)
  loaded = dict(state)
  loaded['optimizer'] = max(moving, state.get('optimizer', 0.0))
  _, away = moment_bytes(stage.abstract_state)
  back = {'moments from the host': away} if away else {}
  groups = programs.network.mesh.shape['data']
  anew = applied(machine.platform, state['trained weights'], groups)
  cut = c.heldout.top_p < 1 or c.heldout.top_k > 0
  made = {
    'load': loaded,
    'sample': state | sample_parts(programs, found, c, machine),
    'update': state
    | sums
    | activations.update_parts(load_of(programs, stage, c)),
    'apply': state | back | sums | anew,
    'heldout': state | sample_parts(programs, heldout, c, machine, cut),
  }
  room = float(machine.memory)
  return tuple(Phase(name, parts, room) for name, parts in made.items())
