"""The model of a run, from the config: its functions, parameters, engines.

rollout/serve.py has the parts that serve a model in general. Here are the parts
that training adds, and the fields of the config that set them.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from acereason_jax import machines, partition
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.kernels import attention
from acereason_jax.models import (
  base,
  hf,
  lora,
  quantized,
  sharding,
  tokens,
)
from acereason_jax.rollout import (
  cache,
  engine_sizes,
  programs,
  sampling,
  serve,
  tensor,
)
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.run import metrics
from acereason_jax.run import parts as parts_lib


class Network(NamedTuple):
  """The model of a run and its tokenizer.

  files: small files of the model: sizes, tokenizer and stop tokens.
  mesh: the devices, for updates.
  memory: bytes of a device that programs may take.
  kind: kind of the devices; None if `machines.KINDS` has none.
  attention: name of the kernel for training.
  kernel: kernel of that name.
  model: functions of the model.
  parts: trained and frozen parts of its parameters.
  """

  files: serve.ModelFiles
  mesh: Mesh
  memory: int
  kind: machines.Kind | None
  attention: str
  kernel: attention.Kernel
  model: base.Model
  parts: lora.Parts


class Rollouts(NamedTuple):
  """What the engines of a run have in common.

  mesh: the devices, in the order of the training mesh.
  model: functions of the model on it.
  specs: specs of the parameters of the engines.
  params: `weights` of a train state -> parameters of the engines, on it.
  extra: bytes of a device that these take in addition to the state.
  """

  mesh: Mesh
  model: base.Model
  specs: base.Tree
  params: Callable[[base.Tree], base.Tree]
  extra: int


class Params(NamedTuple):
  """The source of the parameters of a new run.

  load: () -> trained parameters, float32, on the devices.
  load_frozen: () -> frozen parameters, in the compute dtype; {} in full
    training.
  abstract: shapes, dtypes and shardings of the trained parameters.
  abstract_frozen: the same of the frozen ones; {} in full training.
  """

  load: Callable[[], base.Tree]
  load_frozen: Callable[[], base.Tree]
  abstract: base.Tree
  abstract_frozen: base.Tree


def build_mesh(c: reader.Reader, machine: mesh_lib.Machine) -> Mesh:
  """Raises ValueError, one line."""
  return mesh_lib.make_mesh(**c.mesh.kwargs(), devices=machine.devices)


def build_network(
  c: reader.Reader,
  machine: mesh_lib.Machine,
  mesh: Mesh,
  files: serve.ModelFiles,
) -> Network:
  """The model of `files` on a mesh of the machine.

  Which kernel 'auto' is depends on the machine, and on the packages that are
  installed here.

  Raises:
    ValueError: one line.
  """
  try:
    name, kernel = attention.choose(
      c.attention, machine.platform, c.dtype, machine.capability
    )
  except ValueError as e:
    raise ValueError(f'config.{e}') from e
  config = files.network.config
  partition.check_heads(
    f'config.mesh.{" x ".join(mesh_lib.HEADS)}',
    mesh_lib.size(mesh, mesh_lib.HEADS),
    config.heads,
    config.kv_heads,
  )
  parts = lora.split(files.network.specs, **c.lora.kwargs())
  model = files.network.make_model(
    remat=c.remat,
    attend=partition.split_attention(mesh, kernel.attend),
    layer_weights=functools.partial(lora.merged_layer, scale=parts.scale),
    **partition.pins(mesh),
  )
  memory, kind = machine.memory, machine.kind
  return Network(files, mesh, memory, kind, name, kernel, model, parts)


def build_rollouts(
  c: reader.Reader,
  network: Network,
  stages: Mapping[str, reader.Reader],
  window: int,
  longest: int,
  reserved: int,
) -> Rollouts:
  """The mesh of rollouts, and the model on it.

  `stages` are the configs of all stages, `window` and `longest` the most tokens
  of a prompt and of a response. The state takes `reserved` bytes of a device.

  Raises:
    ValueError: one line; the devices or the heads do not allow the tensor axis
      of the config.
  """
  files, dtype = network.files, jnp.dtype(c.dtype)
  size = c.rollout_mesh.tensor or choose_tensor(
    c, network, stages, window, longest, reserved
  )
  mesh = mesh_lib.rollout_mesh(network.mesh, size)
  config = files.network.config
  partition.check_heads(
    'config.rollout_mesh.tensor', size, config.heads, config.kv_heads
  )
  specs = quantized.specs(network.model.specs, c.engine.weights)
  params, extra = serve.rollout_params(
    specs, network.parts, mesh, dtype, trained=network.mesh
  )
  return Rollouts(mesh, serve.make_model(files, mesh), specs, params, extra)


def choose_tensor(
  c: reader.Reader,
  network: Network,
  stages: Mapping[str, reader.Reader],
  window: int,
  longest: int,
  reserved: int,
) -> int:
  """The tensor axis of rollouts by `rollout.tensor`; see `build_rollouts`.

  It suits the largest batch of all stages, so that a stage that is run by
  itself has the same. Where rates are known, its groups divide the slots.
  """
  mesh, dtype = network.mesh, jnp.dtype(c.dtype)
  specs = quantized.specs(network.model.specs, c.engine.weights)
  layers, heads, kv_heads, dim = cache.kv_shape(network.model)
  own, each = mesh.shape['tensor'], stages.values()
  rates = network.kind is not None and network.kind.bandwidth > 0
  batches = {}
  for name, stage in stages.items():
    with stages_lib.named('stage', name):
      groups = parts_lib.build_groups(stage)
      batches[name] = parts_lib.most_rollouts(stage, groups)

  def allowed(size: int) -> bool:
    shards = mesh.size // size
    return (
      not mesh.size % size
      and partition.splits(heads, kv_heads, size)
      and (size == own or mesh_lib.neighbours(mesh, size))
      and not (rates and any(s.engine.slots % shards for s in each))
    )

  kv_dtypes = [jnp.dtype(s.engine.kv_dtype or c.dtype) for s in each]
  load = tensor.Load(
    devices=mesh.size,
    layers=layers,
    embed=specs['embed'].shape[1],
    kv_heads=kv_heads,
    itemsize=dtype.itemsize,
    token=2 * layers * kv_heads * dim * max(k.itemsize for k in kv_dtypes),
    rollouts=max(
      min(s.engine.slots or batches[n], batches[n]) for n, s in stages.items()
    ),
    context=(window + longest) / 2,
    longest=window + longest + max(2 * s.engine.page for s in each),
  )
  weights = lambda size: serve.param_bytes(
    specs, mesh_lib.rollout_mesh(mesh, size), dtype
  )
  room = 0.9 * network.memory - reserved
  sizes = [n for n in range(1, mesh.size + 1) if allowed(n)]
  return tensor.choose(sizes, own, load, weights, room, network.kind)


def digests_of(network: Network) -> dict[str, Any]:
  """Digests of the model's files that a run reads again when it resumes.

  Closes the tokenizer's worker, which is not needed after this.
  """
  files, parts = network.files, network.parts
  digests = dict(
    decoder=dataclasses.asdict(files.network.config),
    tokenizer=files.tokenizer.digest,
    stop_tokens=list(files.stops),
  )
  files.tokenizer.close()
  if files.tokenizer.reads_clock:
    metrics.say(tokens.clock_line(files.tokenizer))
  if parts.frozen:
    # Checkpoints lack these weights, so a resumed run must find them unchanged.
    digests['model'] = model_digest(files.directory)
    metrics.say(
      f'trains {base.param_count(parts.trained):,} parameters beside '
      f'{base.param_count(parts.frozen):,} frozen ones'
    )
  return digests


def model_digest(directory: str) -> str:
  """`hf.model_digest` of the first process, which alone reads all files."""
  own = np.zeros(32, np.uint8)
  if jax.process_index() == 0:
    own = np.frombuffer(bytes.fromhex(hf.model_digest(directory)), np.uint8)
  if jax.process_count() > 1:
    own = multihost_utils.broadcast_one_to_all(own)
  return np.asarray(own).tobytes().hex()


def stamp(directory: str) -> str:
  """A text that differs if other weights are put into the directory later.

  Another host's copy has the same.
  """
  files = sorted(pathlib.Path(directory).glob('*.safetensors'))
  return json.dumps([(file.name, hf.sample(file)) for file in files])


def build_params(c: reader.Reader, network: Network) -> Params:
  """The parameters that a new run begins with."""
  seed, dtype, parts = c.seed, jnp.dtype(c.dtype), network.parts
  directory, mesh = network.files.directory, network.mesh
  placed = sharding.param_shardings(parts.trained, mesh)
  frozen = sharding.param_shardings(parts.frozen, mesh)

  def load_frozen() -> base.Tree:
    if not parts.frozen:
      return {}
    return hf.load(directory, parts.frozen, dtype=dtype, shardings=frozen)

  def load() -> base.Tree:
    if parts.frozen:
      draw = functools.partial(base.init_params, parts.trained)
      return jax.jit(draw, out_shardings=placed)(jax.random.key(seed))
    return hf.load(
      directory, parts.trained, dtype=jnp.float32, shardings=placed
    )

  abstract = sharding.abstract(parts.trained, placed, jnp.float32)
  return Params(
    load,
    load_frozen,
    abstract,
    sharding.abstract(parts.frozen, frozen, dtype),
  )


def check_lengths(
  c: reader.Reader, network: Network, rollouts: Mesh, window: int
) -> None:
  """Raises ValueError if sizes of a stage do not fit.

  The context must hold a rollout, the mesh of `rollouts` must divide the slots,
  and that of updates the columns.
  """
  lengths = {
    'config.rollout.max_tokens': c.rollout.max_tokens,
    'config.prompt.window': window,
  }
  serve.check_context(lengths, c.model, network.files.network.config.context)
  shards = mesh_lib.row_shards(rollouts)
  if c.engine.slots % shards:
    raise ValueError(
      f'config.engine.slots={c.engine.slots}: not a multiple of {shards}, the '
      f'groups of {rollouts.shape["tensor"]} devices that have rollouts of '
      'their own; give one, 0, or another config.rollout_mesh.tensor'
    )
  shards = network.mesh.shape['sequence']
  if c.microbatch.columns % shards:
    raise ValueError(
      f'config.microbatch.columns={c.microbatch.columns}: not a multiple of '
      f'config.mesh.sequence={shards}; give one'
    )


def build_engine(
  c: reader.Reader,
  network: Network,
  rollouts: Rollouts,
  *,
  window: int,
  max_tokens: int,
  own: sampling.Sampling,
  reserved: int,
  most_rollouts: int,
) -> engine_lib.Engine:
  """An engine for prompts of `window` and responses of `max_tokens` tokens.

  It leaves `reserved` bytes of each device free. Slots are chosen for
  `most_rollouts`, the most of a batch.
  """
  shards = mesh_lib.row_shards(rollouts.mesh)
  sizes = engine_sizes.Sizes(
    slots=c.engine.slots,
    shards=shards,
    page=c.engine.page,
    chunk=c.engine.chunk,
    pages=c.engine.pages,
    rows=c.engine.prefill_prompts * shards,
    piece=c.engine.prefill_tokens,
    window=window,
    max_tokens=max_tokens,
    speculate=c.engine.speculate,
  )
  kv_dtype = jnp.dtype(c.engine.kv_dtype or c.dtype)
  try:
    sizes = serve.fit_sizes(
      sizes,
      rollouts.model,
      rollouts.mesh,
      jnp.dtype(c.dtype),
      kv_dtype,
      reserved,
      network.memory,
      most_rollouts,
    )
  except ValueError as e:
    raise ValueError(f'config.engine: {e}') from e
  return serve.make_engine(
    rollouts.model,
    rollouts.mesh,
    network.files.tokenizer,
    sizes=sizes,
    sampling=own,
    ending=programs.Ending(network.files.stops),
    kv_dtype=kv_dtype,
  )
