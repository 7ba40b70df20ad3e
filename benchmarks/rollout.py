"""The cost of a rollout: slots in use, against lockstep and Hugging Face.

    python -m benchmarks.rollout
    python -m benchmarks.rollout --hf=hf/bin/python

Everything runs SmolLM2-135M in float32 on this machine's CPU. `tail` draws
rollouts of heavy-tailed lengths, forced and unknown to the scheduler, through
the engine and through lockstep batches. `short` is 64 prompt and 64 forced
tokens, against the first sampler (vs_lockstep_) and Hugging Face's generate
(vs_hf_; peers/hf_generate.py says how to install it), by their CPU seconds over
ours; ours runs before and after, to reveal a machine whose speed changes.
`long` times decoding steps at several context lengths, next to the bytes and
multiplications that they need at least; floor_ratio_ is over the larger of the
two. `kv` compares logp with the trainer's by the cache's dtype, `weights` by
that of rollouts' weights. It prints a table, then one JSON line per case;
seconds are medians.
"""

import argparse
import functools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition, types
from acereason_jax.kernels import logprobs
from acereason_jax.models import (
  base,
  decoder,
  embedded,
  hf,
  lora,
  quantized,
  sharding,
  tokens,
)
from acereason_jax.rl import packing
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import (
  engine_sizes,
  exchange,
  programs,
  sampling,
  serve,
)
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib
from benchmarks import lockstep, step

MODEL = 'smollm2-135m'
PLAIN = sampling.Sampling()
HF = step.PEERS / 'hf_generate.py'
# Rollouts of a prompt of `tail`, and tokens of a prompt.
TAIL_GROUPS, TAIL_PROMPT = 8, 64


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = functools.partial(parser.add_argument, type=int)
  add('--cap', default=512, help='Longest rollout of `tail`.')
  add('--rollouts', default=256, help='Of `tail`.')
  add('--slots', default=16, help='Of `tail`, and of a lockstep batch.')
  add('--repeats', default=3, help='Of `short` and `long`.')
  add('--contexts', default=[256, 2048], nargs='+', help='Of `long`.')
  parser.add_argument('--hf', help='A Python that has torch and transformers.')
  parser.add_argument(
    '--cases', nargs='+', default=['tail', 'short', 'long', 'kv', 'weights']
  )
  return parser.parse_args()


class Setup(NamedTuple):
  """The model in float32 on a mesh of one device.

  directory: Hugging Face directory of the model.
  config: sizes of the model.
  model: functions of the model.
  params: parameters, float32.
  own: the same as the engine reads them.
  mesh: mesh of one device.
  """

  directory: str
  config: decoder.DecoderConfig
  model: base.Model
  params: base.Tree
  own: base.Tree
  mesh: jax.sharding.Mesh


def setup() -> Setup:
  directory = embedded.path(MODEL)
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=1)
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  model = decoder.make_model(config, **partition.pins(mesh))
  params = hf.load(
    directory,
    model.specs,
    dtype=jnp.float32,
    shardings=sharding.param_shardings(model.specs, mesh),
  )
  own = serve.form(model.specs, mesh)(params)
  return Setup(directory, config, model, params, own, mesh)


def make_engine(
  s: Setup,
  *,
  slots: int,
  page: int,
  chunk: int,
  window: int,
  max_tokens: int,
  kv_dtype: str = 'float32',
  speculate: int = 0,
) -> engine_lib.Engine:
  piece = -(-window // page) * page
  sizes = engine_sizes.Sizes(
    slots,
    1,
    page,
    chunk,
    0,
    rows=8,
    piece=piece,
    window=window,
    max_tokens=max_tokens,
    speculate=speculate,
  )
  return engine_lib.make_engine(
    s.model,
    s.mesh,
    sizes=sizes._replace(pages=slots * sizes.table + 1),
    sampling=PLAIN,
    ending=programs.Ending(()),
    kv_dtype=jnp.dtype(kv_dtype),
    to_text=lambda tokens: '',
  )


def make_prompts(s: Setup, count: int, length: int) -> list[types.Prompt]:
  rng = np.random.default_rng(0)
  draw = lambda: rng.integers(0, s.config.vocab, length).astype(np.int32)
  return [types.Prompt(str(i), '', '', draw()) for i in range(count)]


def seconds(run: Callable[[], Any]) -> np.ndarray:
  """(CPU, wall) seconds of one call."""
  began = time.process_time(), time.perf_counter()
  run()
  return np.subtract((time.process_time(), time.perf_counter()), began)


# Heavy-tailed lengths.


def tail_lengths(count: int, cap: int) -> np.ndarray:
  """Log-normal, sigma 0.8, cut at `cap`, scaled to a mean of 0.3 of it."""
  raw = np.random.default_rng(0).lognormal(0.0, 0.8, count)
  low, high = 0.0, float(cap)
  for _ in range(50):
    middle = (low + high) / 2
    mean = np.clip(np.round(raw * middle), 1, cap).mean()
    low, high = (middle, high) if mean < 0.3 * cap else (low, middle)
  return np.clip(np.round(raw * high), 1, cap).astype(int)


def tail_ours(
  s: Setup, args: argparse.Namespace
) -> tuple[np.ndarray, trace_lib.Trace, list[requests_lib.Request]]:
  """The engine's (CPU, wall) seconds, its trace, and what it was asked."""
  prompts = make_prompts(s, args.rollouts // TAIL_GROUPS, TAIL_PROMPT)
  lengths = tail_lengths(args.rollouts, args.cap)
  engine = make_engine(
    s,
    slots=args.slots,
    page=64,
    chunk=4,
    window=TAIL_PROMPT,
    max_tokens=args.cap,
  )
  asked = requests_lib.for_prompts(prompts, TAIL_GROUPS, args.cap)
  flat = [r for group in asked for r in group]
  flat = [r._replace(limit=int(n)) for r, n in zip(flat, lengths)]
  warm = [r._replace(limit=8) for r in flat[: args.slots]]
  list(engine.stream(s.own, warm, seed=0, step=0, temperature=1.0))
  trace = trace_lib.Trace()
  rollouts = engine.stream(
    s.own, flat, seed=0, step=0, temperature=1.0, trace=trace
  )
  return seconds(lambda: list(rollouts)), trace, flat


def tail(s: Setup, args: argparse.Namespace) -> dict[str, float]:
  """Times the engine and lockstep over the same rollouts."""
  ours, trace, flat = tail_ours(s, args)
  lengths = tail_lengths(args.rollouts, args.cap)
  run = lockstep_runner(s, TAIL_GROUPS, args.cap)
  run(flat[: args.slots], np.full(args.slots, 8))
  batches = [
    slice(i, i + args.slots) for i in range(0, args.rollouts, args.slots)
  ]
  theirs = sum(seconds(lambda b=b: run(flat[b], lengths[b])) for b in batches)
  values = trace.metrics()
  steps = sum(lengths[b].max() for b in batches)
  count = int(lengths.sum())
  return dict(
    case='tail',
    tokens=count,
    occupancy=values['occupancy'],
    occupancy_waiting=values['occupancy_waiting'],
    lockstep_occupancy=count / (steps * args.slots),
    tokens_per_second=count / ours[1],
    cpu_seconds=ours[0],
    lockstep_cpu_seconds=theirs[0],
    vs_lockstep=theirs[1] / ours[1],
    vs_lockstep_cpu=theirs[0] / ours[0],
    host_share=values['host_share'],
    prefill_share=values['prefill_share'],
  )


def lockstep_runner(s: Setup, groups: int, max_tokens: int):
  """run(requests, limits): one batch of whole groups."""
  sample = lockstep.make_sampler(
    s.model, groups=groups, max_tokens=max_tokens, sampling=PLAIN
  )

  def run(requests: Sequence[requests_lib.Request], limits: np.ndarray) -> None:
    prompts = [r.prompt for r in requests]
    tokens_PS = np.stack([p.tokens for p in prompts[::groups]])
    keys_B = sampling.rollout_keys(
      0,
      0,
      np.array([sampling.prompt_seed(p.id) for p in prompts], np.uint32),
      np.array([r.index for r in requests], np.int32),
    )
    length_P = np.full(len(tokens_PS), tokens_PS.shape[1], np.int32)
    limit_B = np.asarray(limits, np.int32)
    jax.block_until_ready(
      sample(s.params, tokens_PS, length_P, limit_B, keys_B)
    )

  return run


# 64 + 64 tokens.


def short(s: Setup, args: argparse.Namespace) -> dict[str, float]:
  """Times 8 and 64 rollouts."""
  result = dict(case='short')
  for count, groups in ((8, 1), (64, 8)):
    values = short_of(s, args, count, groups)
    result |= {f'{name}_{count}': x for name, x in values.items()}
  return result


def short_of(
  s: Setup, args: argparse.Namespace, count: int, groups: int
) -> dict[str, float]:
  """CPU seconds; a group shares its prompt, except in Hugging Face's."""
  prompts = make_prompts(s, count // groups, 64)
  engine = make_engine(
    s, slots=count, page=64, chunk=8, window=64, max_tokens=64
  )
  asked = requests_lib.for_prompts(prompts, groups, 64)
  flat = [r for group in asked for r in group]
  lockstep_run = lockstep_runner(s, groups, 64)
  ours = lambda: list(
    engine.stream(s.own, flat, seed=0, step=0, temperature=1.0)
  )
  first = lambda: lockstep_run(flat, np.full(count, 64))
  ours(), first()
  measure = lambda: [(seconds(ours), seconds(first)) for _ in range(repeats)]
  repeats = args.repeats
  each, theirs = measure(), []
  if args.hf:
    theirs = hf_seconds(s, args, [r.prompt.tokens.tolist() for r in flat])
    each += measure()
  median = lambda xs: float(np.median(np.array(list(xs)), 0)[0])
  mine = median(a for a, _ in each)
  lockstep = median(b for _, b in each)
  result = dict(
    cpu_seconds=mine,
    lockstep_cpu_seconds=lockstep,
    vs_lockstep=lockstep / mine,
  )
  if theirs:
    hugging_face = median(theirs)
    result |= dict(hf_cpu_seconds=hugging_face, vs_hf=hugging_face / mine)
  return result


def hf_seconds(
  s: Setup, args: argparse.Namespace, tokens_BS: list[list[int]]
) -> list[list[float]]:
  case = dict(
    model=s.directory,
    tokens_BS=tokens_BS,
    max_tokens=64,
    repeats=args.repeats,
  )
  done = subprocess.run(
    [args.hf, str(HF)],
    input=json.dumps(case),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env=os.environ | dict(HF_HUB_OFFLINE='1'),
  )
  return json.loads(done.stdout.strip().rpartition('\n')[-1])['seconds']


# Loss of accuracy by narrow keys and values, and by narrow weights.


def kv(s: Setup) -> dict[str, float]:
  """|logp - the trainer's|, by the pool's dtype."""
  result: dict[str, Any] = dict(case='kv')
  for dtype in ('float32', 'bfloat16', 'float8_e4m3fn'):
    gap = np.abs(sampler_gaps(s, s.own, dtype))
    mean, most = float(gap.mean()), float(gap.max())
    result |= {f'{dtype}_mean': mean, f'{dtype}_max': most}
  return result


def weights(s: Setup) -> dict[str, float]:
  """The same by the dtype of the layers' matrices, with a float32 cache.

  `over` is the share of tokens whose ratio, trainer over sampler, a truncation
  at 2 cuts off.
  """
  result: dict[str, Any] = dict(case='weights')
  for dtype in ('float32', *quantized.LARGEST):
    specs = quantized.specs(s.model.specs, dtype * (dtype != 'float32'))
    parts = lora.split(s.model.specs, rank=0, alpha=1.0, on='')
    make, _ = serve.rollout_params(
      specs, parts, s.mesh, jnp.dtype(jnp.float32), trained=s.mesh
    )
    gap = sampler_gaps(s, make(s.params), 'float32')
    result |= {
      f'{dtype}_mean': float(np.abs(gap).mean()),
      f'{dtype}_max': float(np.abs(gap).max()),
      f'{dtype}_over': float((gap > np.log(2)).mean()),
    }
  return result


def sampler_gaps(s: Setup, own: base.Tree, kv_dtype: str) -> np.ndarray:
  """`trainer_gaps` of 64 rollouts of 64 tokens, sampled with weights `own`."""
  tokenizer = tokens.load_tokenizer(s.directory)
  encode = functools.partial(tokenizer.encode, add_special_tokens=False)
  prompts = [
    types.Prompt(str(i), '', '', np.asarray(encode(text), np.int32))
    for i, text in enumerate(step.prompt_texts(s.directory, 8, 55))
  ]
  engine = make_engine(
    s, slots=64, page=16, chunk=8, window=64, max_tokens=64, kv_dtype=kv_dtype
  )
  groups = engine.sample(
    own, prompts, groups=8, seed=0, step=0, temperature=1.0
  )
  return trainer_gaps(s, prompts, groups)


def trainer_gaps(s: Setup, prompts, groups) -> np.ndarray:
  """The trainer's logp of every token less the sampler's, nats.

  The trainer's is from teacher forcing over packed rows.
  """
  trained = [
    [rows_lib.Trained(prompt, r, 1.0, 1.0) for r in group]
    for prompt, group in zip(prompts, groups)
  ]
  packed = packing.pack(trained, rows=2, columns=576, pad_token=0)

  @jax.jit
  def score(params, b: packing.PackedBatch):
    x_BTD = s.model.apply(
      params, b.tokens_BT, b.position_BT, b.segment_BT, b.prefix_BT
    )
    w_VD = s.model.head(params)
    return logprobs.token_logp(x_BTD, w_VD, b.target_BT, 1.0, 2048)[0]

  gaps = [
    (np.asarray(score(s.params, b)) - b.logp_old_BT)[b.weight_BT > 0]
    for b, _ in packed
  ]
  return np.concatenate(gaps)


# Cost by context.


def long(s: Setup, args: argparse.Namespace) -> dict[str, float]:
  """Times a decoding step at each context length."""
  result = dict(case='long')
  peak, band = step.peak_flops(), bandwidth()
  for context in args.contexts:
    values = long_of(s, args, context, peak, band)
    result |= {f'{name}_{context}': x for name, x in values.items()}
  return result


def long_of(
  s: Setup, args: argparse.Namespace, context: int, peak: float, band: float
) -> dict[str, float]:
  """Times a decoding step of 64 slots with `context` tokens in use in each."""
  slots, chunk, page = 64, 16, 64
  engine = make_engine(
    s, slots=slots, page=page, chunk=chunk, window=2, max_tokens=context + page
  )
  table_BP = np.zeros((slots, engine.sizes.table), np.int32)
  pages = np.arange(slots * (engine.sizes.table - 1)) + 1
  table_BP[:, 1:] = pages.reshape(slots, -1)
  control_BF = np.array(
    [
      exchange.Slot(
        live=1,
        token=1,
        position=context + 1,
        prefix=1,
        start=page,
        length=page + context,
        page=table_BP[b, -1],
        drawn=context,
        limit=context + page,
        index=b,
      )
      for b in range(slots)
    ],
    np.int32,
  )
  table_BP[:, 0] = table_BP[:, 1]
  origin, temperature = np.zeros(2, np.int32), np.float32(1.0)
  pool = [engine.empty_pool()]

  def run() -> None:
    rows = engine.rows(control_BF, table_BP)
    pool[0], drawn = engine.decode(s.own, pool[0], origin, temperature, *rows)
    assert (np.asarray(drawn.count_B) == chunk).all()

  run()
  cpu, wall = np.median([seconds(run) for _ in range(args.repeats)], 0) / chunk
  c = s.config
  weights = base.param_count(s.model.specs)
  kv = slots * context * 2 * c.layers * c.kv_heads * c.head_dim
  flops = 2 * slots * weights + 4 * slots * context * (
    c.layers * c.heads * c.head_dim
  )
  floor_cpu, floor_wall = flops / peak, 4 * (weights + kv) / band
  return dict(
    cpu_ms_a_step=1e3 * cpu,
    wall_ms_a_step=1e3 * wall,
    ms_a_token=1e3 * wall / slots,
    floor_flop_cpu_ms=1e3 * floor_cpu,
    floor_byte_ms=1e3 * floor_wall,
    floor_ratio=min(cpu / floor_cpu, wall / floor_wall),
    gbytes=4 * (weights + kv) / 1e9,
  )


def bandwidth(size: int = 1 << 28, repeats: int = 5) -> float:
  """Bytes read per second by a sum over more data than the caches hold."""
  x = jnp.ones(size // 4, jnp.float32)
  total = jax.jit(jnp.sum)
  total(x).block_until_ready()
  walls = [
    seconds(lambda: total(x).block_until_ready())[1] for _ in range(repeats)
  ]
  return size / min(walls)


def cases(s: Setup, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  if 'long' in args.cases:
    yield long(s, args)
  if 'kv' in args.cases:
    yield kv(s)
  if 'weights' in args.cases:
    yield weights(s)
  if 'short' in args.cases:
    yield short(s, args)
  if 'tail' in args.cases:
    yield tail(s, args)


def main() -> None:
  args = parse_args()
  s = setup()
  results = []
  for result in cases(s, args):
    results.append(result)
    print(f'{result["case"]}; load {os.getloadavg()[0]:.1f} after')
    for name, value in result.items():
      if name != 'case':
        print(f'  {name:24}{value:12.4g}', flush=True)
  for result in results:
    print(json.dumps(result))


if __name__ == '__main__':
  main()
