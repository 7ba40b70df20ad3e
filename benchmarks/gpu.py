"""One pass over what a machine with a GPU can tell, in at most 12 minutes.

    python -m benchmarks.gpu --out=gpu.json
    python -m benchmarks.gpu --interpret

attention   attention over packed rows, both passes
paged       attention of decoding over pages
logp        log-probabilities of tokens, both passes
decode      a step of decoding and a call of prefill of the 1.5B shape
update      a microbatch and the optimizer's step of the 1.5B shape
quickstart  configs/quickstart.py: seconds of a step

Beside each time is its floor: the bytes or FLOPs counted by hand
(`planning.traffic`), over the vendor's bandwidth or peak of machines.py.
`share` is floor / time, 1 at best. `error` is that next to NumPy in float64,
relative to the largest entry, and of the quick start |logp - sampler's|, nats;
more than `limit` is a failure.

Each part is a process of its own with a time limit; one that fails is a line,
and exit status 1, and the others still run. `--interpret` runs all of it at
tiny sizes on a CPU, with Pallas interpreted, in about a minute: it proves the
script, and times nothing. The last line, and the file --out, are JSON.
"""

import argparse
import functools
import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from acereason_jax import machines, outfile
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import base as base_config
from acereason_jax.config import stages
from acereason_jax.console import exits
from acereason_jax.kernels import (
  attention,
  attention_gpu,
  logprobs,
  paged_attention_gpu,
)
from acereason_jax.models import families, sizes
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import (
  calibrate,
  lengths,
  timing,
  traffic,
  updates,
  values,
  works,
)
from acereason_jax.rl import mismatch
from acereason_jax.rollout import serve
from acereason_jax.run import build

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODEL = 'qwen2-1.5b-tied'
# Seconds that each part may take, 12 minutes in all.
PARTS = {
  **dict.fromkeys(('attention', 'paged', 'logp'), 75),
  **dict.fromkeys(('decode', 'update', 'quickstart'), 150),
}
COLUMNS = (
  *('what', 'seconds', 'floor', 'floor_seconds', 'share', 'error', 'limit'),
)
# Errors of bfloat16, some roundings of 2^-9, and of a float32 run's logp, which
# is its alarm's too (`rl.mismatch.LIMITS`).
NARROW, MISMATCH = 0.02, mismatch.LIMITS['float32']
TINY = dict(
  hidden_size=64,
  intermediate_size=128,
  num_attention_heads=4,
  num_key_value_heads=2,
  num_hidden_layers=2,
  vocab_size=512,
)
# The quick start with as little work as it takes.
SHORT = (
  *('rollout.prompts=2', 'rollout.per_prompt=2', 'rollout.max_tokens=8'),
  *('heldout_data.count=2', 'steps=1', 'engine.slots=4'),
)


class Peaks(NamedTuple):
  """What the vendor says of a device; 0: not in machines.py.

  bandwidth: bytes per second.
  flops: bfloat16 FLOPs per second.
  """

  bandwidth: float = 0.0
  flops: float = 0.0


def kind_here() -> machines.Kind | None:
  """The kind of this machine's devices; None if machines.py has none."""
  return machines.kind_of(jax.devices()[0].device_kind)


def peaks() -> Peaks:
  kind = kind_here()
  return Peaks(kind.bandwidth, kind.flops) if kind else Peaks()


def row(
  what: str,
  seconds: float,
  *,
  size: float = 0.0,
  flops: float = 0.0,
  error: float | None = None,
) -> dict[str, Any]:
  """A row of the table; `size` bytes or `flops` of a device are its floor."""
  found = dict(what=what, seconds=seconds)
  if error is not None:
    found |= dict(error=error, limit=NARROW)
  if size or flops:
    best, rate = peaks(), 0.0
    rate = best.bandwidth if size else best.flops
    found['floor'] = (
      f'{size / 1e9:.3g} GB' if size else f'{flops / 1e12:.3g} TF'
    )
    if rate:
      found['floor_seconds'] = (size or flops) / rate
      found['share'] = found['floor_seconds'] / seconds
  return found


def seconds_of(run: Callable[[], Any], calls: int) -> float:
  """Median seconds of a call, after one that compiles."""
  jax.block_until_ready(run())
  found = []
  for _ in range(calls):
    began = time.perf_counter()
    jax.block_until_ready(run())
    found.append(time.perf_counter() - began)
  return statistics.median(found)


def error_of(got: Any, want: np.ndarray) -> float:
  got = np.asarray(got, np.float64)
  return float(np.abs(got - want).max() / np.abs(want).max())


# Kernels.


def softmax(x: np.ndarray) -> np.ndarray:
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def attended(q_TNH, k_SKH, v_SKH, seen_TS) -> np.ndarray:
  """Attention in float64; every query sees a key."""
  q, k, v = (np.asarray(x, np.float64) for x in (q_TNH, k_SKH, v_SKH))
  repeat = q.shape[1] // k.shape[1]
  k, v = (x.repeat(repeat, 1) for x in (k, v))
  scores = np.einsum('tnh,snh->nts', q, k) * q.shape[-1] ** -0.5
  weights = softmax(np.where(seen_TS, scores, -np.inf))
  return np.einsum('nts,snh->tnh', weights, v)


def normal(random: np.random.Generator, *shape: int, dtype=jnp.bfloat16):
  return jnp.asarray(random.standard_normal(shape, np.float32), dtype)


def attention_rows(interpret: bool) -> Iterator[dict[str, Any]]:
  """Causal attention over packed rows: the best kernel and the fallback."""
  if interpret:
    yield attention_row(
      'triton',
      lambda q, k, v, layout: attention_gpu.triton(
        q, k, v, layout.segment_BT, interpret=True
      ),
      *(4, 2, 64),
      tokens=256,
      calls=1,
    )
    return
  device, done = jax.devices()[0], set()
  capability = str(getattr(device, 'compute_capability', ''))
  for asked in ('auto', 'triton'):
    name, kernel = attention.choose(
      asked, device.platform, 'bfloat16', capability
    )
    if name not in done:
      done.add(name)
      yield attention_row(
        name, kernel.attend, *(12, 2, 128), tokens=8192, calls=10
      )


def attention_row(
  name: str,
  attend: attention.Attend,
  N: int,
  K: int,
  H: int,
  tokens: int,
  calls: int,
) -> dict[str, Any]:
  """Whether it is right, on three segments, and the time of both passes."""
  random = np.random.default_rng(0)

  @jax.jit
  def out_and_grads(q, k, v, layout):
    total = lambda *x: attend(*x, layout).astype(jnp.float32).sum()
    return attend(q, k, v, layout), jax.grad(total, (0, 1, 2))(q, k, v)

  def inputs(segment_T: np.ndarray):
    segment_BT = jnp.asarray(segment_T[None], jnp.int32)
    arrays = (normal(random, 1, len(segment_T), n, H) for n in (N, K, K))
    return *arrays, attention.layout(segment_BT, jnp.zeros_like(segment_BT))

  segment_T = np.repeat([1, 2, 3], [90, 100, 10])
  q, k, v, layout = inputs(segment_T)
  seen = np.tri(len(segment_T), dtype=bool)
  seen &= segment_T[:, None] == segment_T
  out, _ = out_and_grads(q, k, v, layout)
  error = error_of(out[0], attended(q[0], k[0], v[0], seen))
  arrays = inputs(np.ones(tokens, np.int32))
  seconds = seconds_of(lambda: out_and_grads(*arrays), calls)
  # The forward pass twice, once for its output, and scores again.
  flops = 4.5 * 4 * N * H * traffic.causal_pairs(tokens)
  return row(f'attention {name}, {tokens}', seconds, flops=flops, error=error)


def paged_rows(interpret: bool) -> Iterator[dict[str, Any]]:
  """Attention of decoding over pages: right, and its time."""
  random = np.random.default_rng(1)
  N, K, H, S = (4, 2, 64, 64) if interpret else (12, 2, 128, 128)

  def inputs(B: int, pages: int):
    q = normal(random, B, N, H)
    pool = normal(random, 1, B * pages, K, 2, S, H)
    table = jnp.asarray(random.permutation(B * pages).reshape(B, pages))
    return q, pool, 0, table, *(jnp.zeros(B, jnp.int32),) * 2

  options = dict(splits=2, interpret=True) if interpret else {}
  run = jax.jit(
    functools.partial(paged_attention_gpu.paged_attention, **options)
  )
  arrays = q, pool, _, table, *_ = inputs(3, 3)
  length = jnp.array([1, S + 1, 3 * S], jnp.int32)
  out, _ = run(*arrays, length)
  error = 0.0
  for b, n in enumerate(length.tolist()):
    # [pages, K, 2, S, H] in the order of positions.
    kv = np.asarray(pool[0][table[b]], np.float64)
    k, v = kv.transpose(2, 0, 3, 1, 4).reshape(2, -1, K, H)[:, :n]
    seen = np.ones((1, n), bool)
    error = max(error, error_of(out[b], attended(q[b][None], k, v, seen)[0]))
  B, pages = (2, 2) if interpret else (64, 64)
  arrays, length = inputs(B, pages), jnp.full(B, pages * S, jnp.int32)
  seconds = seconds_of(lambda: run(*arrays, length), 1 if interpret else 20)
  size = 2 * arrays[1].size
  yield row(
    f'paged attention, {B} x {pages * S}', seconds, size=size, error=error
  )


def logp_rows(interpret: bool) -> Iterator[dict[str, Any]]:
  """Log-probabilities of tokens: right, and the time of both passes."""
  random = np.random.default_rng(2)

  def inputs(T: int, D: int, V: int):
    x, w = normal(random, 1, T, D), normal(random, V, D) * 0.1
    return x, w.astype(jnp.float32), jnp.asarray(random.integers(0, V, (1, T)))

  def both(x, w, target, chunk):
    logp = lambda x, w: logprobs.token_logp(x, w, target, 1.0, chunk)[0]
    return logp(x, w), jax.grad(lambda *a: logp(*a).sum(), (0, 1))(x, w)

  run = jax.jit(both, static_argnums=3)
  x, w, target = inputs(50, 64, 300)
  rounded = np.asarray(w.astype(jnp.bfloat16), np.float64)
  logits = np.asarray(x[0], np.float64) @ rounded.T
  want = np.log(softmax(logits))[np.arange(50), np.asarray(target[0])]
  got, _ = run(x, w, target, 128)
  error = error_of(got[0], want)
  T, D, V = (64, 64, 512) if interpret else (8192, 1536, 151936)
  x, w, target = inputs(T, D, V)
  seconds = seconds_of(lambda: run(x, w, target, 2048), 1 if interpret else 5)
  # Forward twice, logits again, and a product for each of two gradients.
  flops = 2 * 5 * T * D * V
  yield row(f'logp, {T} of {V}', seconds, flops=flops, error=error)


# Programs of a stage.


def make_config(interpret: bool) -> ml_collections.ConfigDict:
  c = base_config.get_config()
  c.model, c.remat = MODEL, 'attention'
  c.mesh = dict(data=1, fsdp=-1, tensor=1, sequence=1)
  tokens, window = (96, 32) if interpret else (8192, 1024)
  c.rollout.update(prompts=8, per_prompt=8, max_tokens=tokens)
  c.prompt.window = window
  c.engine.update(slots=8 if interpret else 64)
  c.microbatch = dict(rows=1, columns=tokens + window, vocab_chunk=2048)
  if interpret:
    c.engine.update(page=16, chunk=4, prefill_prompts=1, prefill_tokens=32)
  return c


def measured(
  interpret: bool, trains: bool
) -> tuple[values.Measured, values.Work, values.Assumed]:
  """The programs of a stage on random weights (`planning.calibrate`)."""
  c = make_config(interpret)
  json_ = sizes.config_json(MODEL) | (TINY if interpret else {})
  network = families.from_config(json_)
  stop = network.config.vocab - 1
  files = serve.ModelFiles(MODEL, network, None, (stop,))
  machine = mesh_lib.this_machine()
  programs = build.build_programs(c, machine, files)
  assumed = values.Assumed(kept=1.0, prompt_tokens=16 if interpret else 200)
  (stage,), (own,) = programs.stages, stages.stages(c).values()
  counts = works.counted(c, assumed)
  work = works.work(programs, stage, own, counts, assumed, before=())
  clocks = calibrate.calibrate(
    programs,
    stage,
    work,
    assumed,
    seconds=0.0 if interpret else 2.0,
    trains=trains,
  )
  return clocks.wall, work, assumed


def decode(interpret: bool) -> Iterator[dict[str, Any]]:
  """A step with all slots busy, at half of the longest response."""
  found, work, assumed = measured(interpret, trains=False)
  times, shape, s = found.rollouts, work.shape, work.sizes
  slots = s.slots // s.shards
  context = round(assumed.prompt_tokens) + s.max_tokens // 2
  read = slots * context
  seconds = times.call / s.chunk + times.step + times.token * read
  tensor = work.rollout_mesh['tensor']
  widths = work.dtype_bytes, work.matrix_bytes
  size = traffic.weight_bytes(shape, slots, *widths, tensor)
  size += read * traffic.token_bytes(shape, work.kv_bytes, tensor)
  what = f'decode step, {slots} slots at {context}'
  yield row(what, seconds, size=size)
  rows = s.rows // s.shards
  flops = traffic.prefill_flops(shape, rows, s.piece)
  yield row(f'prefill, {rows} x {s.piece}', times.prefill, flops=flops)
  yield row('weights of rollouts', found.rollout_params)


def update(interpret: bool) -> Iterator[dict[str, Any]]:
  """A microbatch and the optimizer's step."""
  found, work, assumed = measured(interpret, trains=True)
  limit, groups = work.sizes.max_tokens, round(work.groups)
  draws = timing.lengths_of(limit, work.prompts, groups, assumed)
  prompt = round(assumed.prompt_tokens)
  packed = updates.pack(work, lengths.draw(draws), prompt, 1.0)
  shards = traffic.shards(work.mesh, 'data', 'fsdp')
  each = sum(packed.microbatches) * shards
  tokens, pairs = packed.tokens / each, packed.pairs / each
  what = f'add, {tokens:.0f} of {work.rows // shards * work.columns} tokens'
  flops = traffic.update_flops(work.shape, tokens, pairs, work.remat)
  useful = shape_lib.useful_flops(work.shape, tokens, pairs)
  yield row(what, found.add, flops=flops)
  yield row('  its useful FLOPs (MFU)', found.add, flops=useful)
  yield row('zeros and apply', found.apply, size=traffic.apply_bytes(work))


# A run.


def quickstart(interpret: bool) -> Iterator[dict[str, Any]]:
  """Steps of the quick start; the second and later are compiled."""
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, '-m', 'acereason_jax.train']
    command += ['--config', str(ROOT / 'configs/quickstart.py')]
    command += [f'--workdir={folder}/run']
    chosen = SHORT if interpret else ('steps=5',)
    command += [f'--config.{each}' for each in chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
      raise RuntimeError(last_line(done.stderr) or f'exit {done.returncode}')
    lines = pathlib.Path(folder, 'run/metrics.jsonl').read_text().splitlines()
  steps = [x for x in map(json.loads, lines) if 'seconds_step' in x]
  for name in ('step', 'sample', 'update'):
    every = [x[f'seconds_{name}'] for x in steps]
    yield row(f'quick start: {name}', statistics.median(every[1:] or every))
  worst = max(x['mismatch'] for x in steps)
  yield dict(what="  |logp - sampler's|", error=worst, limit=MISMATCH)


RUNS = dict(
  attention=attention_rows,
  paged=paged_rows,
  logp=logp_rows,
  decode=decode,
  update=update,
  quickstart=quickstart,
)


# The table.


def last_line(text: str) -> str:
  lines = text.strip().splitlines()
  errors = [line for line in lines if 'rror' in line]
  return (errors or lines or [''])[-1].strip()[:200]


def run_part(name: str, limit: float, interpret: bool) -> dict[str, Any]:
  """The rows of a part, with what ended it, '' if nothing did."""
  command = [sys.executable, '-m', 'benchmarks.gpu', f'--worker={name}']
  command += ['--interpret'] * interpret
  with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
    process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
    try:
      status = process.wait(limit)
      ended = f'exit status {status}' if status else ''
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
      ended = f'more than {limit:.0f} s'
    out.seek(0)
    err.seek(0)
    rows = [json.loads(x) for x in out if x.startswith('{')]
    if ended:
      ended = f'{ended}: {last_line(err.read())}'
  wrong = [x for x in rows if not x.get('error', 0.0) <= x.get('limit', 0.0)]
  if wrong and not ended:
    ended = f'{wrong[0]["what"].strip()}: error above its limit'
  return dict(rows=rows, failed=ended)


def line(cells: Sequence[Any]) -> str:
  texts = [f'{x:.4g}' if isinstance(x, float) else str(x) for x in cells]
  first, *rest = texts
  return '  '.join([f'{first:<32}', *(f'{x:>13}' for x in rest)]).rstrip()


def about() -> dict[str, Any]:
  """Which machine and versions; asked in a process of its own."""
  device = jax.devices()[0]
  return dict(
    devices=len(jax.devices()),
    device=device.device_kind,
    platform=device.platform,
    jax=jax.__version__,
    python=platform.python_version(),
    peaks=peaks()._asdict(),
  )


def work(name: str, interpret: bool) -> None:
  if interpret:
    jax.config.update('jax_platforms', 'cpu')
  elif jax.default_backend() != 'gpu':
    raise SystemExit(
      f'error: jax is on {jax.default_backend()}; expected a GPU and '
      "`pip install -e '.[cuda12]'`, or give --interpret"
    )
  made = [about()] if name == 'about' else RUNS[name](interpret)
  for each in made:
    print(json.dumps(each), flush=True)


def told(found: Mapping[str, Any]) -> None:
  """Prints the rows of a part."""
  for each in found['rows']:
    print(line([each.get(c, '') for c in COLUMNS]), flush=True)
  if found['failed']:
    print(f'  failed: {found["failed"]}', flush=True)


KIND = outfile.Kind(
  'the figures of a GPU', re.compile(rb'\{"interpret": (true|false), ').match
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--interpret', action='store_true')
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=[*PARTS])
  parser.add_argument('--out', type=pathlib.Path, help='a file for the JSON')
  workers = ['about', *PARTS]
  parser.add_argument('--worker', choices=workers, help=argparse.SUPPRESS)
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
  args = parse_args(argv)
  if args.worker:
    work(args.worker, args.interpret)
    return 0
  if args.out:
    with exits.one_line_for(ValueError, OSError):
      outfile.check('--out', args.out, KIND)
  results = dict(about=run_part('about', 60, args.interpret))
  print(json.dumps(results['about']['rows'] or results['about']['failed']))
  print(line(COLUMNS), flush=True)
  for name in args.parts:
    print(f'{name}:', flush=True)
    results[name] = run_part(name, PARTS[name], args.interpret)
    told(results[name])
  text = json.dumps(dict(interpret=args.interpret, **results))
  print(text)
  if args.out:
    with outfile.opened(args.out) as file:
      file.write(text + '\n')
  return int(any(each['failed'] for each in results.values()))


if __name__ == '__main__':
  sys.exit(main())
