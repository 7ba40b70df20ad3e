"""Cases, measurements and targets of `python -m benchmarks.aot decode`."""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import base
from acereason_jax.kernels import paged_attention_tpu
from acereason_jax.planning import (
  compiled,
  compiler,
  copies,
  hlo,
  llo,
  ptx,
  sends,
)
from acereason_jax.rollout import serve
from acereason_jax.run import calls

KERNEL = 'paged_attention'
DTYPE = jnp.dtype(jnp.bfloat16)
WINDOW, ROOM, CHUNK = 1024, 32768, 128
TARGETS = dict(
  hbm_share=0.92,
  copy_share=0.25,
  bytes_vs_count=1.15,
  time_vs_roofline=1.35,
  sent_vs_count=1.05,
  bundles_vs_dma=0.8,
  spills=0,
)
COLUMNS = ('hbm_share', 'alias_share', *list(TARGETS)[1:], 'compile_seconds')


class Case(NamedTuple):
  """A decode program on data x tensor devices.

  model: name that models/sizes.py knows.
  machine: machines as --hardware names them.
  data, tensor: sizes of the mesh.
  slots: number of slots over all devices.
  context: mean context of a slot, tokens.
  pool: room in the cache per slot, tokens.
  page: tokens of a cache page.
  """

  model: str
  machine: str
  data: int
  tensor: int
  slots: int
  context: int
  pool: int
  page: int = 128


KI = 1024
CASES = {
  '1.5b-v5e': Case('qwen2-1.5b-tied', 'v5e:2x2', 2, 2, 64, 12 * KI, 24 * KI),
  '7b-v5e': Case('qwen2-7b', 'v5e:4x4', 4, 4, 256, 10 * KI, 10 * KI),
  '7b-v5p': Case('qwen2-7b', 'v5p:2x2x2', 2, 4, 256, 16 * KI, 32 * KI),
  '7b-v6e': Case('qwen2-7b', 'v6e:4x4', 4, 4, 256, 16 * KI, 24 * KI),
  '7b-v7x': Case('qwen2-7b', 'tpu7x:2x2x1', 2, 4, 256, 16 * KI, 32 * KI, 256),
  '14b-v5p': Case('qwen2-14b', 'v5p:2x2x2', 1, 8, 128, 16 * KI, 24 * KI),
  '7b-h100': Case('qwen2-7b', 'h100:8', 8, 1, 512, 12 * KI, 12 * KI),
}


def make_config(case: Case) -> ml_collections.ConfigDict:
  c = base.get_config()
  c.model = case.model
  c.mesh = dict(data=case.data, fsdp=1, tensor=case.tensor, sequence=1)
  c.prompt.window, c.rollout.max_tokens = WINDOW, ROOM
  c.engine.update(
    slots=case.slots,
    page=case.page,
    chunk=CHUNK,
    pages=case.slots * case.pool // case.page,
  )
  return c


# This runs in a separate process.


def step_worker(case: Case) -> dict[str, float]:
  """Measures one step with unrolled layers: bytes, time, collectives.

  The kernel's costs are those of the mean context, not of a full table.
  """
  hardware = machines.hardware(case.machine)
  files = serve.read_model_sizes(case.model)
  programs = compiler.programs_for(make_config(case), hardware, files)
  call = calls.abstract_calls(programs, programs.stages[0])['decode']
  config, kind = files.network.config, hardware.kind
  kernel = functools.partial(
    paged_attention_tpu.paged_attention, estimate_tokens=case.context
  )
  unrolled = functools.partial(jax.lax.scan, unroll=True)
  began = time.perf_counter()
  with (
    mock.patch.object(paged_attention_tpu, 'paged_attention', kernel),
    mock.patch.object(jax.lax, 'scan', unrolled),
  ):
    compiled = compiler.compile_call(call, hardware)
  seconds = time.perf_counter() - began
  costs = compiled.cost_analysis()
  # XLA adds -1 s for each op that it cannot price.
  step_seconds = costs['optimal_seconds'] % 1.0
  params, pool, *_ = call.arguments
  token = token_bytes(case, pool)
  count = bytes_read(case, config, params, token)
  ops = hlo.parse(compiled.as_text())
  sent = sends.collectives(ops)
  # Once per chunk, not per step, weights get another layout, which XLA counts
  # four times, and the room for the chunk's tokens is cleared.
  relaid = copies.relaid(ops)
  once = 4 * relaid + CHUNK * case.slots // case.data * token
  step_bytes = costs['bytes accessed'] - once
  step_seconds -= once / kind.bandwidth
  sums = 2 * config.layers + 1
  row = config.embed * DTYPE.itemsize
  return dict(
    unrolled_compile_seconds=seconds,
    bytes_vs_count=step_bytes / count,
    time_vs_roofline=step_seconds / (count / kind.bandwidth),
    step_ms=1e3 * step_seconds,
    roofline_ms=1e3 * count / kind.bandwidth,
    relaid_gb=relaid / 1e9,
    collectives=len(sent),
    sent_mb=sum(sent) / 1e6,
    sent_vs_count=sum(sent) / (sums * case.slots // case.data * row),
  )


def bytes_read(case: Case, config, params: Any, token: float) -> float:
  """Bytes that a device must read per step: weights, and its slots' context.

  Almost nothing is read of an embedding that is not also the head.
  """
  weights = mesh_lib.device_bytes(params)
  if not config.tied:
    weights -= mesh_lib.device_bytes(params['embed'])
  return weights + case.slots // case.data * case.context * token


def token_bytes(case: Case, pool: jax.ShapeDtypeStruct) -> float:
  """Bytes of a token in the cache, on each device that holds it."""
  X, S = pool.shape[1], pool.shape[4]
  return mesh_lib.device_bytes(pool) / (X // case.data * S)


WORKERS = {'step': step_worker}


# The functions below run in the process that starts the others.


def run_case(name: str, start: Callable[..., dict]) -> dict[str, Any]:
  """`start(name, worker)` returns the worker's measurements.

  Raises:
    RuntimeError: the program does not compile.
  """
  case = CASES[name]
  hardware = machines.hardware(case.machine)
  tpu = hardware.kind.platform == 'tpu'
  with tempfile.TemporaryDirectory() as dumps:
    (program,) = compiled.compiled(
      make_config(case),
      hardware,
      'main',
      only=('decode',),
      flags={},
      dumps=dumps,
    )
    if program.problem:
      raise RuntimeError(program.problem)
    result = dict(
      case=name,
      compile_seconds=program.seconds,
      args_gb=program.arguments / 1e9,
      temp_gb=program.temporaries / 1e9,
      cache_gb=program.donated / 1e9,
      hbm_share=program.own / hardware.kind.memory,
      alias_share=program.aliased / program.donated,
      copy_share=program.copied / program.donated,
    )
    result |= _loop(case, dumps) if tpu else _kernels(dumps)
    return result | start(name, 'step') if tpu else result


def _loop(case: Case, dumps: str) -> dict[str, float]:
  """The decode kernel's loop over blocks, by libtpu's own schedule."""
  kind = machines.hardware(case.machine).kind
  config = serve.read_model_sizes(case.model).network.config
  heads = max(1, config.kv_heads // case.tensor)
  # The kernel's default number of tokens.
  tokens = 2048 if heads == 1 else 1024
  block = tokens * heads * 2 * config.head_dim * DTYPE.itemsize
  seconds = block / (kind.bandwidth / kind.cores)
  loop = max(llo.loops_of(dumps, KERNEL), key=lambda loop: loop.bundles)
  return dict(
    bundles=loop.always,
    bundles_vs_dma=loop.always / (kind.clock * 1e9) / seconds,
    spills=loop.spills,
  )


def _kernels(dumps: str) -> dict[str, float]:
  found = ptx.usage(dumps, KERNEL).values()
  return dict(
    registers=max(k['registers'] for k in found),
    spills=sum(k['spill_stores'] + k['spill_loads'] for k in found),
  )


def missed(result: dict[str, Any]) -> list[str]:
  """The targets that a result misses; one that it lacks does not count."""
  over = [k for k, most in TARGETS.items() if result.get(k, 0) > most]
  return over + ['alias_share'] * (result['alias_share'] < 1)
