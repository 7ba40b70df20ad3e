"""Cases, measurements and targets of `python -m benchmarks.aot update`."""

import contextlib
import dataclasses
import functools
import importlib
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from absl import flags
from jax.experimental import pallas

from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import attention, attention_tpu, pinned
from acereason_jax.models import base, decoder, sharding
from acereason_jax.rl import losses, optim, packing, update
from benchmarks import aot_machines, hlo, ptx

DTYPE = jnp.dtype(jnp.bfloat16)
# A prompt and a response of the longest stage, on each data x fsdp shard.
TOKENS = 1024 + 32768
VOCAB_CHUNK = 2048
# Products per tile of scores in jax's splash kernels. The two kernels of the
# backward pass compute the scores twice.
PRODUCTS = {'_fwd': 2, '_dq': 3, '_dkv': 4}
SPLASH, _ = attention.choose('auto', 'tpu', DTYPE.name)
# Disables loops of products and permutations, of which XLA would count only one
# round.
WHOLE = dict(xla_jf_spmd_threshold_for_windowed_einsum_mib='1000000')
TARGETS = dict(hbm_share=0.92, largest_share=1.0)
COLUMNS = (
  'hbm_share',
  'mfu_bound',
  'largest_share',
  'sent_gb',
  'ici_seconds',
  'compile_seconds',
)


class Case(NamedTuple):
  """A row of `TOKENS` on each of `fsdp` shards of tensor x sequence devices.

  model: key of `aot_machines.MODELS`.
  machine: key of `aot_machines.MACHINES`.
  fsdp, tensor, sequence: sizes of the mesh.
  remat: name in `remat.POLICIES`.
  kernel: name of the attention kernel.
  mfu: target for mfu_bound.
  offload: whether the optimizer's moments are in the hosts' memory.
  """

  model: str
  machine: str
  fsdp: int
  tensor: int
  remat: str
  kernel: str = SPLASH
  mfu: float = 0.0
  sequence: int = 1
  offload: bool = False


CASES = {
  '7b-v5p': Case('7b', 'v5p:4x4x4', 64, 1, 'block', mfu=0.6),
  '7b-v5p-kept': Case('7b', 'v5p:4x4x4', 64, 1, 'attention', mfu=0.7),
  '7b-v5e': Case('7b', 'v5e:16x16', 64, 4, 'block'),
  '7b-v5e-offload': Case('7b', 'v5e:16x16', 64, 4, 'block', offload=True),
  '7b-v6e': Case('7b', 'v6e:16x16', 256, 1, 'block'),
  '7b-v7x': Case('7b', 'tpu7x:2x2x1', 8, 1, 'block'),
  '14b-v5p': Case('14b', 'v5p:4x4x4', 64, 1, 'block'),
  # A row over four devices.
  '14b-v5p-rows': Case('14b', 'v5p:2x2x2', 2, 1, 'block', sequence=4),
  '1.5b-v5e': Case('1.5b', 'v5e:16x16', 256, 1, 'block'),
  '7b-h100': Case('7b', 'h100x8', 8, 1, 'block', 'triton'),
}
if pinned.has_tokamax():
  CASES['7b-h100-mosaic'] = Case('7b', 'h100x8', 8, 1, 'block', 'mosaic_gpu')


# The functions below run in a separate process.


class Program(NamedTuple):
  """The update's functions, and the shapes of their arguments.

  update: jitted functions.
  state: train state, as shapes.
  sums: sums over microbatches, as shapes.
  batch: one microbatch, as shapes.
  knobs: scalars that may change at any step, as shapes.
  """

  update: update.Update
  state: update.TrainState
  sums: update.Sums
  batch: packing.PackedBatch
  knobs: update.Knobs


def make_program(case: Case, config: decoder.DecoderConfig) -> Program:
  """The program of `build.build`, on a mesh of absent devices."""
  machine = aot_machines.MACHINES[case.machine]
  shape = 1, case.fsdp, case.tensor, case.sequence
  mesh = aot_machines.make_mesh(machine, shape)
  model = decoder.make_model(
    config,
    remat=case.remat,
    **mesh_lib.pins(mesh),
    attend=mesh_lib.split_attention(
      mesh, attention.KERNELS[case.kernel].attend
    ),
  )
  placed = sharding.param_shardings(model.specs, mesh)
  everywhere = mesh_lib.replicated(mesh)
  params = sharding.abstract(model.specs, placed, jnp.float32)
  optimizer = optim.make_optimizer(
    dict(fn='optax:adamw', learning_rate=1e-6, weight_decay=0.0),
    model.specs,
    warmup_steps=0,
    clip_norm=1.0,
  )
  init = functools.partial(update.init_state, optimizer=optimizer)
  state = jax.eval_shape(init, params)
  moments = sharding.like_params(
    state.opt_state, params, placed, everywhere, offload=case.offload
  )
  place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  state = jax.tree.map(
    place, state, update.TrainState(placed, moments, everywhere)
  )
  scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
  sums = update.Sums(params, *(scalar for _ in update.Sums._fields[1:]))
  array = functools.partial(
    jax.ShapeDtypeStruct, (case.fsdp, TOKENS), sharding=mesh_lib.packed(mesh)
  )
  batch = packing.PackedBatch(
    *(
      array(jnp.int32 if name in packing.WHOLE else jnp.float32)
      for name in packing.PackedBatch._fields
    )
  )
  made = update.make_update(
    model,
    losses.on_policy(),
    optimizer,
    vocab_chunk=VOCAB_CHUNK,
    dtype=DTYPE,
    param_shardings=placed,
    offload=case.offload,
  )
  knobs = update.Knobs(*(scalar for _ in update.Knobs._fields))
  return Program(made, state, sums, batch, knobs)


def compile_add(
  case: Case, program: Program, **options: str
) -> jax.stages.Compiled:
  p = program
  arguments = p.state.params, p.sums, p.batch, p.knobs
  return _compile(case, p.update.add, arguments, **options)


def compile_apply(case: Case, program: Program) -> jax.stages.Compiled:
  return _compile(case, program.update.apply, (program.state, program.sums))


def _compile(
  case: Case, function, arguments: tuple, **options: str
) -> jax.stages.Compiled:
  machine = aot_machines.MACHINES[case.machine]
  elsewhere = case.kernel == 'mosaic_gpu'
  with tokamax_for_h100() if elsewhere else contextlib.nullcontext():
    traced = function.trace(*arguments)
  lowered = traced.lower(lowering_platforms=(machine.platform,))
  return lowered.compile(compiler_options=options)


@contextlib.contextmanager
def tokamax_for_h100():
  """tokamax would ask the compiling machine whether it has such a GPU."""
  module = functools.partial(importlib.import_module, package='tokamax')
  config, utils = (module(f'._src.{n}') for n in ('config', 'gpu_utils'))
  # tokamax's flags are not on our command line.
  flags.FLAGS.mark_as_parsed()
  capability = mock.patch.object(utils, '_compute_capability', lambda _=None: 9)
  with config.cross_compile(True), capability:
    yield


def memory_worker(case: Case) -> dict[str, float]:
  """Measures training programs: compile time, memory, arrays, collectives."""
  machine = aot_machines.MACHINES[case.machine]
  config = aot_machines.MODELS[case.model]
  program = make_program(case, config)
  began = time.perf_counter()
  add = compile_add(case, program)
  seconds = time.perf_counter() - began
  apply = compile_apply(case, program)
  moments = mesh_lib.device_bytes(program.state.opt_state)
  needs = _needs(add) + moments, _needs(apply)
  ops = [hlo.parse(x.as_text()) for x in (add, apply)]
  arrays = hlo.largest_array(ops[0], stacked=config.layers)
  tokens = TOKENS // case.sequence
  sent = sum(map(hlo.sent, ops))
  return dict(
    compile_seconds=seconds,
    add_gb=needs[0] / 1e9,
    add_temp_gb=add.memory_analysis().temp_size_in_bytes / 1e9,
    apply_gb=needs[1] / 1e9,
    moments_gb=moments / 1e9,
    hbm_share=max(needs) / machine.kind.memory,
    largest_share=arrays / (tokens * min(TOKENS, config.vocab // case.tensor)),
    sent_gb=sent / 1e9,
    ici_seconds=sent / machine.kind.sends,
  )


def _needs(compiled: jax.stages.Compiled) -> int:
  m = compiled.memory_analysis()
  fresh = m.output_size_in_bytes - m.alias_size_in_bytes
  return m.argument_size_in_bytes + fresh + m.temp_size_in_bytes


def cost_worker(case: Case) -> dict[str, float]:
  """XLA's time of one step, and the useful FLOPs in it.

  The time of `add` is linear in layers and in chunks of the vocabulary; three
  small models with unrolled loops determine it. XLA counts a loop's body once.
  """
  machine = aot_machines.MACHINES[case.machine]
  config = aot_machines.MODELS[case.model]
  chunks = config.vocab / case.tensor / VOCAB_CHUNK

  def seconds(layers: int, chunks: int) -> float:
    vocab = chunks * VOCAB_CHUNK * case.tensor
    small = dataclasses.replace(config, layers=layers, vocab=vocab)
    program = make_program(case, small)
    return xla_seconds(machine, compile_add(case, program, **WHOLE))

  heads = config.heads // (case.tensor * case.sequence)
  with priced_kernels(heads), unrolled():
    least = seconds(1, 1)
    layer, chunk = seconds(2, 1) - least, seconds(1, 2) - least
  add = least + (config.layers - 1) * layer + (chunks - 1) * chunk
  program = make_program(case, config)
  apply = xla_seconds(machine, compile_apply(case, program))
  return dict(
    add_seconds=add,
    apply_seconds=apply,
    layer_seconds=layer,
    head_seconds=chunks * chunk,
    model_tflop=model_flops(case, config) / 1e12,
  )


def xla_seconds(machine, compiled: jax.stages.Compiled) -> float:
  """XLA's estimate; it adds -1 s for each op that it cannot price.

  So the estimate must be below one second.

  Raises:
    ValueError: it is less than the products take.
  """
  costs = compiled.cost_analysis()
  seconds = costs['optimal_seconds'] % 1.0
  if seconds < costs['flops'] / machine.kind.flops:
    raise ValueError(f'{seconds} s for {costs["flops"]} FLOPs')
  return seconds


def unrolled():
  return mock.patch.multiple(
    jax.lax,
    scan=functools.partial(jax.lax.scan, unroll=True),
    fori_loop=functools.partial(jax.lax.fori_loop, unroll=True),
  )


def priced_kernels(heads: int):
  """jax's splash kernels with the costs of the tiles that causality leaves.

  Each tile reads its blocks of keys, or queries, again, as in the kernels.
  tokamax's kernels have costs.
  """
  blocks = -(-TOKENS // attention_tpu.BLOCK)
  tiles = heads * blocks * (blocks + 1) // 2
  scores = tiles * attention_tpu.BLOCK**2
  block_bytes = attention_tpu.BLOCK * attention_tpu.LANES * DTYPE.itemsize
  pallas_call = pallas.pallas_call

  def call(kernel, *args, name=None, **kwargs):
    for part, products in PRODUCTS.items():
      ours = name and name.startswith('splash') and part in name
      if ours and kwargs.get('cost_estimate') is None:
        kwargs['cost_estimate'] = pallas.CostEstimate(
          flops=2 * products * scores * attention_tpu.LANES,
          bytes_accessed=2 * tiles * block_bytes,
          transcendentals=scores,
        )
    return pallas_call(kernel, *args, name=name, **kwargs)

  return mock.patch.object(pallas, 'pallas_call', call)


def model_flops(case: Case, config: decoder.DecoderConfig) -> float:
  """FLOPs of a step on each device, without recomputation.

  6 for each token and weight except the input embedding, plus three times the
  forward pass of causal attention.
  """
  specs = decoder.param_specs(config)
  weights = base.param_count(specs)
  if not config.tied:
    weights -= math.prod(specs['embed'].shape)
  pairs = TOKENS * (TOKENS + 1) / 2
  products = 2 * config.layers * config.heads * config.head_dim * pairs
  flops = 6 * weights * TOKENS + 3 * 2 * products
  return flops / (case.tensor * case.sequence)


WORKERS = {'memory': memory_worker, 'cost': cost_worker}


# The functions below run in the process that starts the others.


def run_case(name: str, start: Callable[..., dict]) -> dict[str, Any]:
  """`start(name, worker, environment)` returns the worker's measurements."""
  machine = aot_machines.MACHINES[CASES[name].machine]
  if machine.platform != 'tpu':
    with tempfile.TemporaryDirectory() as dumps:
      return dict(case=name) | start(name, 'memory', ptx.flags(dumps))
  result = dict(case=name) | start(name, 'memory', {})
  result |= start(name, 'cost', {})
  step = result['add_seconds'] + result['apply_seconds']
  seconds = step + result['ici_seconds']
  peak = result['model_tflop'] * 1e12 / machine.kind.flops
  return result | dict(mfu_bound=peak / seconds, mfu_without_ici=peak / step)


def missed(result: dict[str, Any]) -> list[str]:
  """The targets that a result misses."""
  over = [k for k, most in TARGETS.items() if result[k] >= most]
  short = result.get('mfu_bound', 1.0) < CASES[result['case']].mfu
  return over + ['mfu_bound'] * short
