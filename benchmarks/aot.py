"""Does it compile and fit, and what does it read? Without the hardware.

    python -m benchmarks.aot decode
    python -m benchmarks.aot decode --cases 7b-v5e 7b-h100

Compiles the decode chunk, as the engine runs it, for machines that are not
there (ahead of time, AOT) and reads what the compilers say. TPUs need
`pip install libtpu`, H100s `pip install 'jax[cuda12]'`; cases that lack theirs
are left out. Nothing runs, and no network between chips is timed.

  hbm_share         arguments, outputs not aliased and temporaries, of memory
  alias_share       of the cache: 1 if it is updated in place
  copy_share        the largest array written anew, of the cache
  bytes_vs_count    XLA's bytes of a step, to weights and cache read once
  time_vs_roofline  XLA's time of a step, to that count at full bandwidth
  sent_vs_count     bytes of collectives, to two sums a layer and the embedding
  bundles_vs_dma    instructions of the attention kernel's loop, to its copies
  spills            of the attention kernel: vectors on TPU, bytes on GPU

The chunk is compiled as it is, with the compiler's dumps switched on, and a
second time with its layers unrolled: XLA counts the body of a loop once. What
is done once a chunk is taken off. XLA prices no op of a GPU. A table, then a
JSON line a case; exits with 1 if a target is missed or a case fails.
"""

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from acereason_jax import sharding
from acereason_jax.kernels import paged_attention_tpu
from acereason_jax.models import decoder
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling, schedule
from benchmarks import hlo, llo, ptx

KERNEL = 'paged_attention'
DTYPE = jnp.dtype(jnp.bfloat16)
WINDOW, ROOM, CHUNK = 1024, 32768, 128
PACKAGES = {
  'tpu': ('libtpu', 'pip install libtpu'),
  'cuda': ('jax_cuda12_plugin', "pip install 'jax[cuda12]'"),
}
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


class Machine(NamedTuple):
  """One device: bytes of memory, bytes a second, GHz and cores.

  Memory of v5e and v6e is what libtpu leaves a program; bandwidths are the
  vendors'; clocks are our assumption.
  """

  platform: str
  topology: str
  memory: float
  bandwidth: float
  clock: float = 0.0
  cores: int = 1


MACHINES = {
  'v5e:2x2': Machine('tpu', 'v5e:2x2', 15.75 * 2**30, 819e9, 1.5),
  'v5e:4x4': Machine('tpu', 'v5e:4x4', 15.75 * 2**30, 819e9, 1.5),
  'v5p:2x2x2': Machine('tpu', 'v5p:2x2x2', 95e9, 2765e9, 1.75, 2),
  'v6e:4x4': Machine('tpu', 'v6e:4x4', 31.25 * 2**30, 1640e9, 1.75),
  'tpu7x:2x2x1': Machine('tpu', 'tpu7x:2x2x1', 96e9, 3690e9, 1.75),
  'h100x8': Machine('cuda', 'h100', 84942979072, 3352e9),
}


def _config(vocab, layers, embed, mlp, heads, kv_heads, tied):
  return decoder.DecoderConfig(
    vocab=vocab,
    layers=layers,
    embed=embed,
    mlp=mlp,
    heads=heads,
    kv_heads=kv_heads,
    head_dim=128,
    norm_epsilon=1e-6,
    tied=tied,
    qkv_bias=True,
    qk_norm=False,
    context=131072,
    rope=dict(rope_type='default', rope_theta=1e6),
  )


# DeepSeek-R1-Distill-Qwen; Qwen2.5's sizes.
MODELS = {
  '1.5b': _config(151936, 28, 1536, 8960, 12, 2, True),
  '7b': _config(152064, 28, 3584, 18944, 28, 4, False),
  '14b': _config(152064, 48, 5120, 13824, 40, 8, False),
}


class Case(NamedTuple):
  """Slots on data x tensor devices, with a mean context of `context` tokens.

  `pool` tokens a slot are in the cache, of pages of `page`.
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
DECODE = {
  '1.5b-v5e': Case('1.5b', 'v5e:2x2', 2, 2, 64, 12 * KI, 24 * KI),
  '7b-v5e': Case('7b', 'v5e:4x4', 4, 4, 256, 10 * KI, 10 * KI),
  '7b-v5p': Case('7b', 'v5p:2x2x2', 2, 4, 256, 16 * KI, 32 * KI),
  '7b-v6e': Case('7b', 'v6e:4x4', 4, 4, 256, 16 * KI, 24 * KI),
  '7b-v7x': Case('7b', 'tpu7x:2x2x1', 2, 4, 256, 16 * KI, 32 * KI, 256),
  '14b-v5p': Case('14b', 'v5p:2x2x2', 1, 8, 128, 16 * KI, 24 * KI),
  '7b-h100': Case('7b', 'h100x8', 8, 1, 512, 12 * KI, 12 * KI),
}


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('what', choices=['decode'])
  parser.add_argument('--cases', nargs='+', choices=DECODE, default=[*DECODE])
  parser.add_argument('--worker', choices=WORKERS, help=argparse.SUPPRESS)
  return parser.parse_args()


# In a process of its own, with the environment of `_run`.


class Program(NamedTuple):
  """The engine's decode, and the shapes that it is called with."""

  mesh: Mesh
  decode: Any
  params: Any
  pool: jax.ShapeDtypeStruct
  rest: tuple[jax.ShapeDtypeStruct, ...]


def make_program(case: Case) -> Program:
  config, mesh = MODELS[case.model], make_mesh(case)
  model = decoder.make_model(config, **sharding.pins(mesh))
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
    room=ROOM,
  )
  engine = engine_lib.make_engine(
    model,
    mesh,
    sizes=sizes,
    sampling=sampling.Sampling(0.85),
    ending=engine_lib.Ending((config.vocab - 1,)),
    kv_dtype=DTYPE,
    to_text=str,
  )
  cache = cache_lib.make_cache(model, mesh)
  shape = cache.shape(case.data * pages, case.page)
  gathered = sharding.param_shardings(model.specs, mesh, gathered=True)
  rows = sharding.rows(mesh)
  integers = lambda shape, place: jax.ShapeDtypeStruct(
    shape, jnp.int32, sharding=place
  )
  return Program(
    mesh,
    engine.decode,
    sharding.abstract(model.specs, gathered, DTYPE),
    jax.ShapeDtypeStruct(shape, DTYPE, sharding=cache.sharding),
    (
      integers((2,), sharding.replicated(mesh)),
      integers((case.slots, len(schedule.Slot._fields)), rows),
      integers((case.slots, sizes.table), rows),
    ),
  )


def make_mesh(case: Case) -> Mesh:
  machine = MACHINES[case.machine]
  if machine.platform == 'tpu':
    devices = topologies.get_topology_desc(
      platform='tpu', topology_name=machine.topology
    ).devices
  else:
    devices = ptx.h100s()
  return jax.make_mesh(
    (case.data, 1, case.tensor, 1),
    sharding.AXES,
    axis_types=(AxisType.Auto,) * len(sharding.AXES),
    devices=devices,
  )


def compile_decode(case: Case, program: Program) -> jax.stages.Compiled:
  """With the kernel's costs those of the mean context, not of a full table."""
  kernel = functools.partial(
    paged_attention_tpu.paged_attention, estimate_tokens=case.context
  )
  with mock.patch.object(paged_attention_tpu, 'paged_attention', kernel):
    traced = program.decode.trace(program.params, program.pool, *program.rest)
  platform = MACHINES[case.machine].platform
  return traced.lower(lowering_platforms=(platform,)).compile()


def chunk_worker(case: Case) -> dict[str, float]:
  """The program that serves: time to compile it, memory, copies."""
  program = make_program(case)
  began = time.perf_counter()
  compiled = compile_decode(case, program)
  seconds = time.perf_counter() - began
  m = compiled.memory_analysis()
  cache = sharding.device_bytes(program.pool)
  fresh = m.output_size_in_bytes - m.alias_size_in_bytes
  total = m.argument_size_in_bytes + fresh + m.temp_size_in_bytes
  return dict(
    compile_seconds=seconds,
    args_gb=m.argument_size_in_bytes / 1e9,
    temp_gb=m.temp_size_in_bytes / 1e9,
    cache_gb=cache / 1e9,
    hbm_share=total / MACHINES[case.machine].memory,
    alias_share=m.alias_size_in_bytes / cache,
    copy_share=hlo.biggest_copy(hlo.parse(compiled.as_text())) / cache,
  )


def step_worker(case: Case) -> dict[str, float]:
  """One step with its layers unrolled: bytes, time, collectives."""
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
  # Not each step but once a chunk: weights get another layout, which XLA counts
  # four times, and the room for the chunk's tokens is cleared.
  relaid = hlo.relaid(ops)
  per_token = case.slots // case.data * token_bytes(case, program)
  once = 4 * relaid + CHUNK * per_token
  step_bytes = costs['bytes accessed'] - once
  step_seconds -= once / machine.bandwidth
  sums = 2 * config.layers + 1
  row = config.embed * DTYPE.itemsize
  return dict(
    unrolled_compile_seconds=seconds,
    bytes_vs_count=step_bytes / count,
    time_vs_roofline=step_seconds / (count / machine.bandwidth),
    step_ms=1e3 * step_seconds,
    roofline_ms=1e3 * count / machine.bandwidth,
    relaid_gb=relaid / 1e9,
    collectives=len(sent),
    sent_mb=sum(sent) / 1e6,
    sent_vs_count=sum(sent) / (sums * case.slots // case.data * row),
  )


def bytes_read(case: Case, program: Program) -> float:
  """What a device must read for a step: weights, and its slots' context.

  Of an embedding that is not the head too, next to nothing is read.
  """
  weights = sharding.device_bytes(program.params)
  if not MODELS[case.model].tied:
    weights -= sharding.device_bytes(program.params['embed'])
  context = case.slots // case.data * case.context
  return weights + context * token_bytes(case, program)


def token_bytes(case: Case, program: Program) -> float:
  """Of a token in the cache, on each of the devices that hold it."""
  X, S = program.pool.shape[1], program.pool.shape[4]
  return sharding.device_bytes(program.pool) / (X // case.data * S)


WORKERS = {'chunk': chunk_worker, 'step': step_worker}


# The process that starts the others.


def run_case(name: str) -> dict[str, Any]:
  """Raises RuntimeError with the reason, if the case does not compile."""
  case = DECODE[name]
  tpu = MACHINES[case.machine].platform == 'tpu'
  with tempfile.TemporaryDirectory() as dumps:
    flags = dict(LIBTPU_INIT_ARGS=llo.flags(dumps)) if tpu else ptx.flags(dumps)
    result = dict(case=name) | _run(name, 'chunk', flags)
    result |= _loop(case, dumps) if tpu else _kernels(dumps)
  return result | _run(name, 'step', {}) if tpu else result


def _run(name: str, worker: str, environment: dict[str, str]) -> dict:
  command = [sys.executable, '-m', __spec__.name, 'decode']
  command += ['--cases', name, '--worker', worker]
  # Nothing asks for the machine that this runs on, nor locks it.
  environment = environment | dict(
    JAX_PLATFORMS='cpu',
    TPU_SKIP_MDS_QUERY='1',
    ALLOW_MULTIPLE_LIBTPU_LOAD='1',
  )
  done = subprocess.run(
    command, env=os.environ | environment, capture_output=True, text=True
  )
  if done.returncode:
    errors = [x for x in done.stderr.splitlines() if 'Error' in x]
    raise RuntimeError((errors or done.stderr.splitlines() or ['killed'])[-1])
  return json.loads(done.stdout.splitlines()[-1])


def _loop(case: Case, dumps: str) -> dict[str, float]:
  """The decode kernel's loop over blocks, by libtpu's own schedule."""
  machine, config = MACHINES[case.machine], MODELS[case.model]
  heads = max(1, config.kv_heads // case.tensor)
  # As many tokens as the kernel takes by default.
  tokens = 2048 if heads == 1 else 1024
  block = tokens * heads * 2 * config.head_dim * DTYPE.itemsize
  seconds = block / (machine.bandwidth / machine.cores)
  loop = max(llo.loops_of(dumps, KERNEL), key=lambda loop: loop.bundles)
  return dict(
    bundles=loop.always,
    bundles_vs_dma=loop.always / (machine.clock * 1e9) / seconds,
    spills=loop.spills,
  )


def _kernels(dumps: str) -> dict[str, float]:
  found = ptx.usage(dumps, KERNEL).values()
  return dict(
    registers=max(k['registers'] for k in found),
    spills=sum(k['spill_stores'] + k['spill_loads'] for k in found),
  )


def missed(result: dict[str, Any]) -> list[str]:
  """The targets that a result misses; one that it lacks is none."""
  over = [k for k, most in TARGETS.items() if result.get(k, 0) > most]
  return over + ['alias_share'] * (result['alias_share'] < 1)


def row(values: Sequence[Any]) -> str:
  cells = [f'{x:.3f}' if isinstance(x, float) else str(x) for x in values]
  widths = [10, *(max(8, len(c)) for c in COLUMNS), 0]
  return '  '.join(f'{c:>{w}}' for c, w in zip(cells, widths)).rstrip()


def main() -> None:
  args = parse_args()
  if args.worker:
    print(json.dumps(WORKERS[args.worker](DECODE[args.cases[0]])))
    return
  cases = args.cases
  for platform, (module, remedy) in PACKAGES.items():
    if importlib.util.find_spec(module) is None:
      if any(_platform(c) == platform for c in cases):
        print(f'{platform} cases are left out: {remedy}')
      cases = [c for c in cases if _platform(c) != platform]
  results, failed = [], False
  print(row(('case', *COLUMNS, 'missed')), flush=True)
  for name in cases:
    try:
      result = run_case(name)
    except RuntimeError as e:
      failed = True
      print(f'{name:>10}  {e}', flush=True)
      continue
    result['missed'] = missed(result)
    failed = failed or bool(result['missed'])
    values = [result.get(c, '') for c in COLUMNS]
    print(row((name, *values, ' '.join(result['missed']))), flush=True)
    results.append(result)
  for result in results:
    print(json.dumps(result))
  sys.exit(failed)


def _platform(name: str) -> str:
  return MACHINES[DECODE[name].machine].platform


if __name__ == '__main__':
  main()
