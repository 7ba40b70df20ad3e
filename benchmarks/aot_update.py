"""Cases, measurements and targets of `python -m benchmarks.aot update`."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
from jax.experimental import pallas

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import base as base_config
from acereason_jax.kernels import attention, attention_tpu, pinned
from acereason_jax.models import base, decoder, families
from acereason_jax.models import sizes as known
from acereason_jax.planning import compiler, copies, hlo, sends
from acereason_jax.rollout import serve
from acereason_jax.run import calls

DTYPE = jnp.dtype(jnp.bfloat16)
# A prompt and a response of the longest stage, on each data x fsdp shard.
WINDOW = 1024
TOKENS = WINDOW + 32768
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

  model: name that models/sizes.py knows.
  machine: machines as --hardware names them.
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
  '7b-v5p': Case('qwen2-7b', 'v5p:4x4x4', 64, 1, 'block', mfu=0.6),
  '7b-v5p-kept': Case('qwen2-7b', 'v5p:4x4x4', 64, 1, 'attention', mfu=0.7),
  '7b-v5e': Case('qwen2-7b', 'v5e:16x16', 64, 4, 'block'),
  '7b-v5e-offload': Case('qwen2-7b', 'v5e:16x16', 64, 4, 'block', offload=True),
  '7b-v6e': Case('qwen2-7b', 'v6e:16x16', 256, 1, 'block'),
  '7b-v7x': Case('qwen2-7b', 'tpu7x:2x2x1', 8, 1, 'block'),
  '14b-v5p': Case('qwen2-14b', 'v5p:4x4x4', 64, 1, 'block'),
  # A row over four devices.
  '14b-v5p-rows': Case('qwen2-14b', 'v5p:2x2x2', 2, 1, 'block', sequence=4),
  '1.5b-v5e': Case('qwen2-1.5b-tied', 'v5e:16x16', 256, 1, 'block'),
  '7b-h100': Case('qwen2-7b', 'h100:8', 8, 1, 'block', 'triton'),
}
if pinned.has_tokamax():
  CASES['7b-h100-mosaic'] = Case(
    'qwen2-7b', 'h100:8', 8, 1, 'block', 'mosaic_gpu'
  )


# The functions below run in a separate process.


def make_config(case: Case) -> ml_collections.ConfigDict:
  c = base_config.get_config()
  c.model, c.remat, c.attention = case.model, case.remat, case.kernel
  c.mesh = dict(
    data=1, fsdp=case.fsdp, tensor=case.tensor, sequence=case.sequence
  )
  c.engine.slots = case.fsdp * case.sequence
  c.prompt.window, c.rollout.max_tokens = WINDOW, TOKENS - WINDOW
  c.microbatch = dict(rows=1, columns=TOKENS, vocab_chunk=VOCAB_CHUNK)
  c.optim.offload = case.offload
  return c


def make_calls(case: Case, **sizes: int) -> dict[str, calls.Call]:
  """The calls of a stage; `sizes` replace some of the model's config.json."""
  network = families.from_config(known.config_json(case.model) | sizes)
  files = serve.ModelFiles(
    case.model, network, None, (network.config.vocab - 1,)
  )
  hardware = machines.hardware(case.machine)
  programs = compiler.programs_for(make_config(case), hardware, files)
  return calls.abstract_calls(programs, programs.stages[0])


def memory_worker(case: Case) -> dict[str, float]:
  """Measures training programs: compile time, memory, arrays, collectives."""
  hardware = machines.hardware(case.machine)
  config = serve.read_model_sizes(case.model).network.config
  found = make_calls(case)
  began = time.perf_counter()
  add = compiler.compile_call(found['add'], hardware)
  seconds = time.perf_counter() - began
  apply = compiler.compile_call(found['apply'], hardware)
  moments = mesh_lib.device_bytes(found['apply'].arguments[0].opt_state)
  needs = compiler.own_bytes(add) + moments, compiler.own_bytes(apply)
  ops = [hlo.parse(x.as_text()) for x in (add, apply)]
  arrays = copies.largest_array(ops[0], stacked=config.layers)
  tokens = TOKENS // case.sequence
  sent = sum(map(sends.sent, ops))
  return dict(
    compile_seconds=seconds,
    add_gb=needs[0] / 1e9,
    add_temp_gb=add.memory_analysis().temp_size_in_bytes / 1e9,
    apply_gb=needs[1] / 1e9,
    moments_gb=moments / 1e9,
    hbm_share=max(needs) / hardware.kind.memory,
    largest_share=arrays / (tokens * min(TOKENS, config.vocab // case.tensor)),
    sent_gb=sent / 1e9,
    ici_seconds=sent / hardware.kind.sends,
  )


def cost_worker(case: Case) -> dict[str, float]:
  """XLA's time of one step, and the useful FLOPs in it.

  The time of `add` is linear in layers and in chunks of the vocabulary; three
  small models with unrolled loops determine it. XLA counts a loop's body once.
  """
  hardware = machines.hardware(case.machine)
  config = serve.read_model_sizes(case.model).network.config
  chunks = config.vocab / case.tensor / VOCAB_CHUNK

  def seconds(layers: int, chunks: int) -> float:
    vocab = chunks * VOCAB_CHUNK * case.tensor
    small = make_calls(case, num_hidden_layers=layers, vocab_size=vocab)
    done = compiler.compile_call(small['add'], hardware, **WHOLE)
    return xla_seconds(hardware.kind, done)

  heads = config.heads // (case.tensor * case.sequence)
  with priced_kernels(heads), unrolled():
    least = seconds(1, 1)
    layer, chunk = seconds(2, 1) - least, seconds(1, 2) - least
  add = least + (config.layers - 1) * layer + (chunks - 1) * chunk
  whole = compiler.compile_call(make_calls(case)['apply'], hardware)
  apply = xla_seconds(hardware.kind, whole)
  return dict(
    add_seconds=add,
    apply_seconds=apply,
    layer_seconds=layer,
    head_seconds=chunks * chunk,
    model_tflop=model_flops(case, config) / 1e12,
  )


def xla_seconds(kind: machines.Kind, compiled: jax.stages.Compiled) -> float:
  """XLA's estimate; it adds -1 s for each op that it cannot price.

  So the estimate must be below one second.

  Raises:
    ValueError: it is less than the products take.
  """
  costs = compiled.cost_analysis()
  seconds = costs['optimal_seconds'] % 1.0
  if seconds < costs['flops'] / kind.flops:
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
  """`start(name, worker)` returns the worker's measurements."""
  hardware = machines.hardware(CASES[name].machine)
  result = dict(case=name) | start(name, 'memory')
  if hardware.kind.platform != 'tpu':
    return result
  result |= start(name, 'cost')
  step = result['add_seconds'] + result['apply_seconds']
  seconds = step + result['ici_seconds']
  peak = result['model_tflop'] * 1e12 / hardware.kind.flops
  return result | dict(mfu_bound=peak / seconds, mfu_without_ici=peak / step)


def missed(result: dict[str, Any]) -> list[str]:
  """The targets that a result misses."""
  over = [k for k, most in TARGETS.items() if result[k] >= most]
  short = result.get('mfu_bound', 1.0) < CASES[result['case']].mfu
  return over + ['mfu_bound'] * short
