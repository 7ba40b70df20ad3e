"""Cases, measurements and targets of `python -m benchmarks.aot decode`."""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import paged_attention_tpu
from acereason_jax.models import decoder, sharding
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import programs, sampling, schedule
from benchmarks import aot_machines, hlo, llo, ptx
from benchmarks.aot_machines import MACHINES, MODELS

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

  model: key of `aot_machines.MODELS`.
  machine: key of `aot_machines.MACHINES`.
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
  '1.5b-v5e': Case('1.5b', 'v5e:2x2', 2, 2, 64, 12 * KI, 24 * KI),
  '7b-v5e': Case('7b', 'v5e:4x4', 4, 4, 256, 10 * KI, 10 * KI),
  '7b-v5p': Case('7b', 'v5p:2x2x2', 2, 4, 256, 16 * KI, 32 * KI),
  '7b-v6e': Case('7b', 'v6e:4x4', 4, 4, 256, 16 * KI, 24 * KI),
  '7b-v7x': Case('7b', 'tpu7x:2x2x1', 2, 4, 256, 16 * KI, 32 * KI, 256),
  '14b-v5p': Case('14b', 'v5p:2x2x2', 1, 8, 128, 16 * KI, 24 * KI),
  '7b-h100': Case('7b', 'h100x8', 8, 1, 512, 12 * KI, 12 * KI),
}


# These run in a separate process, with the environment of `run_case`.


class Program(NamedTuple):
  """The engine's decode function, and the shapes of its arguments.

  mesh: mesh of absent devices.
  decode: jitted decode function.
  params: parameters, as shapes.
  pool: cache pool, as a shape.
  rest: other arguments of decode, as shapes.
  """

  mesh: Mesh
  decode: Any
  params: Any
  pool: jax.ShapeDtypeStruct
  rest: tuple[jax.ShapeDtypeStruct, ...]


def make_program(case: Case) -> Program:
  config, machine = MODELS[case.model], MACHINES[case.machine]
  mesh = aot_machines.make_mesh(machine, (case.data, 1, case.tensor, 1))
  model = decoder.make_model(config, **mesh_lib.pins(mesh))
  pages = case.slots // case.data * case.pool // case.page + 1
  sizes = schedule.Sizes(
    slots=case.slots,
    shards=case.data,
    page=case.page,
    chunk=CHUNK,
    pages=pages,
    rows=4 * case.data,
    piece=256,
    window=WINDOW,
    max_tokens=ROOM,
  )
  engine = engine_lib.make_engine(
    model,
    mesh,
    sizes=sizes,
    sampling=sampling.Sampling(),
    ending=programs.Ending((config.vocab - 1,)),
    kv_dtype=DTYPE,
    to_text=str,
  )
  cache = cache_lib.make_cache(model, mesh)
  shape = cache.shape(case.data * pages, case.page)
  gathered = sharding.param_shardings(model.specs, mesh, gathered=True)
  rows = mesh_lib.rows(mesh)
  integers = lambda shape, place: jax.ShapeDtypeStruct(
    shape, jnp.int32, sharding=place
  )
  return Program(
    mesh,
    engine.decode,
    sharding.abstract(model.specs, gathered, DTYPE),
    jax.ShapeDtypeStruct(shape, DTYPE, sharding=cache.sharding),
    (
      integers((2,), mesh_lib.replicated(mesh)),
      jax.ShapeDtypeStruct((), jnp.float32, sharding=mesh_lib.replicated(mesh)),
      integers((case.slots, len(schedule.Slot._fields)), rows),
      integers((case.slots, sizes.table), rows),
    ),
  )


def compile_decode(case: Case, program: Program) -> jax.stages.Compiled:
  """Compiles with the kernel's costs for the mean context, not a full table."""
  kernel = functools.partial(
    paged_attention_tpu.paged_attention, estimate_tokens=case.context
  )
  with mock.patch.object(paged_attention_tpu, 'paged_attention', kernel):
    traced = program.decode.trace(program.params, program.pool, *program.rest)
  platform = MACHINES[case.machine].platform
  return traced.lower(lowering_platforms=(platform,)).compile()


def chunk_worker(case: Case) -> dict[str, float]:
  """Measures the serving program: time to compile, memory, copies."""
  program = make_program(case)
  began = time.perf_counter()
  compiled = compile_decode(case, program)
  seconds = time.perf_counter() - began
  m = compiled.memory_analysis()
  cache = mesh_lib.device_bytes(program.pool)
  fresh = m.output_size_in_bytes - m.alias_size_in_bytes
  total = m.argument_size_in_bytes + fresh + m.temp_size_in_bytes
  return dict(
    compile_seconds=seconds,
    args_gb=m.argument_size_in_bytes / 1e9,
    temp_gb=m.temp_size_in_bytes / 1e9,
    cache_gb=cache / 1e9,
    hbm_share=total / MACHINES[case.machine].kind.memory,
    alias_share=m.alias_size_in_bytes / cache,
    copy_share=hlo.biggest_copy(hlo.parse(compiled.as_text())) / cache,
  )


def step_worker(case: Case) -> dict[str, float]:
  """Measures one step with unrolled layers: bytes, time, collectives."""
  machine, config = MACHINES[case.machine], MODELS[case.model]
  program = make_program(case)
  began = time.perf_counter()
  unrolled = functools.partial(jax.lax.scan, unroll=True)
  with mock.patch.object(jax.lax, 'scan', unrolled):
    compiled = compile_decode(case, program)
  seconds = time.perf_counter() - began
  costs = compiled.cost_analysis()
  # XLA adds -1 s for each op that it cannot price.
  step_seconds = costs['optimal_seconds'] % 1.0
  count = bytes_read(case, program)
  ops = hlo.parse(compiled.as_text())
  sent = hlo.collectives(ops)
  # Once per chunk, not per step, weights get another layout, which XLA counts
  # four times, and the room for the chunk's tokens is cleared.
  relaid = hlo.relaid(ops)
  per_token = case.slots // case.data * token_bytes(case, program)
  once = 4 * relaid + CHUNK * per_token
  step_bytes = costs['bytes accessed'] - once
  step_seconds -= once / machine.kind.bandwidth
  sums = 2 * config.layers + 1
  row = config.embed * DTYPE.itemsize
  return dict(
    unrolled_compile_seconds=seconds,
    bytes_vs_count=step_bytes / count,
    time_vs_roofline=step_seconds / (count / machine.kind.bandwidth),
    step_ms=1e3 * step_seconds,
    roofline_ms=1e3 * count / machine.kind.bandwidth,
    relaid_gb=relaid / 1e9,
    collectives=len(sent),
    sent_mb=sum(sent) / 1e6,
    sent_vs_count=sum(sent) / (sums * case.slots // case.data * row),
  )


def bytes_read(case: Case, program: Program) -> float:
  """Bytes that a device must read per step: weights, and its slots' context.

  Almost nothing is read of an embedding that is not also the head.
  """
  weights = mesh_lib.device_bytes(program.params)
  if not MODELS[case.model].tied:
    weights -= mesh_lib.device_bytes(program.params['embed'])
  context = case.slots // case.data * case.context
  return weights + context * token_bytes(case, program)


def token_bytes(case: Case, program: Program) -> float:
  """Bytes of a token in the cache, on each device that holds it."""
  X, S = program.pool.shape[1], program.pool.shape[4]
  return mesh_lib.device_bytes(program.pool) / (X // case.data * S)


WORKERS = {'chunk': chunk_worker, 'step': step_worker}


# The functions below run in the process that starts the others.


def run_case(name: str, start: Callable[..., dict]) -> dict[str, Any]:
  """`start(name, worker, environment)` returns the worker's measurements."""
  case = CASES[name]
  tpu = MACHINES[case.machine].platform == 'tpu'
  with tempfile.TemporaryDirectory() as dumps:
    flags = dict(LIBTPU_INIT_ARGS=llo.flags(dumps)) if tpu else ptx.flags(dumps)
    result = dict(case=name) | start(name, 'chunk', flags)
    result |= _loop(case, dumps) if tpu else _kernels(dumps)
  return result | start(name, 'step', {}) if tpu else result


def _loop(case: Case, dumps: str) -> dict[str, float]:
  """The decode kernel's loop over blocks, by libtpu's own schedule."""
  machine, config = MACHINES[case.machine], MODELS[case.model]
  heads = max(1, config.kv_heads // case.tensor)
  # The kernel's default number of tokens.
  tokens = 2048 if heads == 1 else 1024
  block = tokens * heads * 2 * config.head_dim * DTYPE.itemsize
  seconds = block / (machine.kind.bandwidth / machine.kind.cores)
  loop = max(llo.loops_of(dumps, KERNEL), key=lambda loop: loop.bundles)
  return dict(
    bundles=loop.always,
    bundles_vs_dma=loop.always / (machine.kind.clock * 1e9) / seconds,
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
