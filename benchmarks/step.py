"""The cost of one GRPO step: CPU seconds, wall seconds and peak memory.

    python -m benchmarks.step
    python -m benchmarks.step --peer trl=/tmp/trl/bin/python

One step samples 8 prompts x 8 rollouts x 64 tokens from SmolLM2-135M and
makes one AdamW update, in float32. No token stops a rollout, and no advantage
is zero, so all 4096 tokens are sampled and trained on: a real run is cheaper,
as it leaves out groups whose rewards agree. Judging is left out.

Each case is a separate process: it reads the case from stdin as JSON, takes one
step to warm up, then measures. The peers run between two runs of ours, to
reveal a machine whose speed changes; peers/*.py say how to install them. The
last line is JSON; seconds are medians over steps, peak_gb is the whole
process's, loading and compilation included. vs_NAME is a peer's CPU seconds
over ours.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition, types
from acereason_jax.kernels import attention
from acereason_jax.models import base, decoder, embedded, hf, sharding, tokens
from acereason_jax.models import remat as remat_lib
from acereason_jax.rl import gradients, losses, optim, packing, update
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import (
  engine_sizes,
  programs,
  sampling,
  serve,
)
from acereason_jax.run import metrics

MODEL = 'smollm2-135m'
PEERS = pathlib.Path(__file__).parent / 'peers'
PROMPT = (
  'Question {}: A farmer sells apples at the market. On the first day she '
  'sells 12 apples, on the second day she sells twice as many, and on the '
  'third day she gives {} away to her neighbours. How many apples did she '
  'have at the start, if none are left now? Explain each of your steps. '
)


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = functools.partial(parser.add_argument, type=int)
  add('--steps', default=3, help='Measured steps, after one to warm up.')
  add('--prompts', default=8)
  add('--groups', default=8, help='Rollouts of a prompt.')
  add('--prompt-tokens', default=55)
  add('--tokens', default=64, help='Tokens of a rollout.')
  add('--rows', default=2, help='Rows of a microbatch.')
  add('--columns', default=576, help='Tokens of a row.')
  add('--vocab-chunk', default=2048, help='Vocabulary with logits at once.')
  parser.add_argument('--remat', default='dots', choices=remat_lib.POLICIES)
  add('--peer-rows', default=64, help="Rollouts of a peer's microbatch.")
  parser.add_argument(
    '--peer', action='append', default=[], metavar='NAME=PYTHON'
  )
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  return parser.parse_args()


# The case itself, in a separate process.


class Step(NamedTuple):
  """The parts of a step of ours.

  prompts: prompts of the step.
  groups: number of rollouts per prompt.
  engine: engine that draws the rollouts.
  pack: groups of rollouts to train on -> microbatches.
  update: jitted functions of an update.
  state: train state before the step.
  to_rollouts: parameters of the state -> those that the engine reads.
  """

  prompts: list[types.Prompt]
  groups: int
  engine: engine_lib.Engine
  pack: Callable[..., list[packing.PackedBatch]]
  update: update.Update
  state: update.TrainState
  to_rollouts: Callable[[base.Tree], base.Tree]


def random_advantages(
  prompts: Sequence[types.Prompt],
  rollouts: Sequence[Sequence[types.Rollout]],
  seed: int,
) -> list[list[rows_lib.Trained]]:
  """All rollouts, each with an advantage of 1 or -1."""
  count = sum(len(r.tokens) for group in rollouts for r in group)
  rng = np.random.default_rng(seed)
  return [
    [
      rows_lib.Trained(prompt, r, float(rng.choice((-1.0, 1.0))), 1 / count)
      for r in group
    ]
    for prompt, group in zip(prompts, rollouts)
  ]


def build(case: dict[str, Any]) -> Step:
  """Everything that does not change from step to step, as in train.py."""
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=1)
  place = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
  tokenizer = tokens.load_tokenizer(case['model'])
  config = decoder.DecoderConfig.from_hf(hf.read_config(case['model']))
  model = decoder.make_model(
    config,
    remat=case['remat'],
    attend=partition.split_attention(mesh, attention.packed_attention),
    **partition.pins(mesh),
  )
  encode = functools.partial(tokenizer.encode, add_special_tokens=False)
  prompts = [
    types.Prompt(str(i), text, '', np.asarray(encode(text), np.int32))
    for i, text in enumerate(case['prompts'])
  ]
  window = max(len(p.tokens) for p in prompts)
  page = 64
  sizes = engine_sizes.Sizes(
    slots=len(prompts) * case['groups'],
    shards=mesh_lib.row_shards(mesh),
    page=page,
    chunk=16,
    pages=0,
    rows=8,
    piece=-(-window // page) * page,
    window=window,
    max_tokens=case['tokens'],
  )
  engine = engine_lib.make_engine(
    model,
    mesh,
    sizes=sizes._replace(pages=sizes.slots * sizes.table + 1),
    sampling=sampling.Sampling(),
    ending=programs.Ending(()),
    kv_dtype=jnp.float32,
    to_text=functools.partial(tokens.decode, tokenizer),
  )
  params = hf.load(
    case['model'],
    model.specs,
    dtype=jnp.float32,
    shardings=sharding.param_shardings(model.specs, mesh),
  )
  optimizer = optim.make_optimizer(
    dict(fn='optax:adamw', learning_rate=1e-6, weight_decay=0.0),
    model.specs,
    warmup_steps=0,
    clip_norm=1.0,
  )
  init = functools.partial(update.init_state, optimizer=optimizer)

  def pack(groups) -> list[packing.PackedBatch]:
    packed = packing.pack(
      groups, rows=case['rows'], columns=case['columns'], pad_token=0
    )
    return [packing.PackedBatch(*map(place, p.batch)) for p in packed]

  return Step(
    prompts,
    case['groups'],
    engine,
    pack,
    update.make_update(
      model,
      losses.on_policy(),
      optimizer,
      vocab_chunk=case['vocab_chunk'],
      dtype=jnp.float32,
    ),
    jax.jit(init, donate_argnums=0)(params),
    serve.form(model.specs, mesh),
  )


def take_step(step: Step, index: int) -> tuple[Step, dict[str, float]]:
  """The next state, and the seconds of this step."""
  clock = []
  tick = lambda: clock.append((time.process_time(), time.perf_counter()))
  tick()
  rollouts = step.engine.sample(
    step.to_rollouts(step.state.params),
    step.prompts,
    groups=step.groups,
    seed=0,
    step=index,
    temperature=1.0,
  )
  tick()
  groups = random_advantages(step.prompts, rollouts, index)
  sums = step.update.zeros(step.state.params)
  for batch in step.pack(groups):
    sums, _ = step.update.add(
      step.state.params, sums, batch, gradients.make_knobs(1.0)
    )
  state, updated = jax.block_until_ready(step.update.apply(step.state, sums))
  tick()
  sampled = sum(len(r.tokens) for group in rollouts for r in group)
  assert updated['trained_tokens'] == sampled
  (sample_cpu, sample_wall), (update_cpu, update_wall) = np.diff(clock, axis=0)
  return step._replace(state=state), dict(
    cpu_seconds=sample_cpu + update_cpu,
    wall_seconds=sample_wall + update_wall,
    sample_cpu_seconds=sample_cpu,
    update_cpu_seconds=update_cpu,
  )


def work() -> None:
  """Reads a case, prints its measurements."""
  case = json.load(sys.stdin)
  step, steps = build(case), []
  for i in range(case['steps'] + 1):
    step, seconds = take_step(step, i)
    steps.append(seconds)
  prompt_tokens = statistics.mean(len(p.tokens) for p in step.prompts)
  result = dict(
    steps=steps[1:],
    peak_gb=metrics.peak_gb(),
    prompt_tokens=prompt_tokens,
    versions=dict(jax=jax.__version__),
  )
  print(json.dumps(result))


# The comparison.


def flops(
  c: decoder.DecoderConfig, P: int, G: int, S: int, R: int
) -> dict[str, float]:
  """The least multiplications and additions that a step needs.

  With W the weights of the layers, VD those of the head, A = 4 L N H for
  each pair of query and key, P prompts of S tokens, G rollouts of R tokens:

    prefill  P (2 W S + 2 VD + A S (S + 1) / 2)
    decode   P G (2 (W + VD) (R - 1) + A sum over 0 < i < R of (S + i))
    update   P (6 W (S - 1 + G R) + 6 VD G R + 3 A (S (S - 1) / 2
               + G sum over 0 < i <= R of (S - 1 + i)))
    again    P G R 2 VD

  A prompt is processed once for its group, both times. The backward pass costs
  twice the forward one. `again` is for the logits that the backward pass
  recomputes to keep few in memory: a choice, so it is not in the floor. The
  optimizer and all operations linear in activations are left out.
  """
  Q, KV = c.heads * c.head_dim, c.kv_heads * c.head_dim
  W = c.layers * (2 * c.embed * (Q + KV) + 3 * c.embed * c.mlp)
  VD = c.vocab * c.embed
  A = 4 * c.layers * Q
  decoded = (R - 1) * S + R * (R - 1) // 2
  trained = R * (S - 1) + R * (R + 1) // 2
  return dict(
    prefill=P * (2 * W * S + 2 * VD + A * S * (S + 1) / 2),
    decode=P * G * (2 * (W + VD) * (R - 1) + A * decoded),
    update=P
    * (
      6 * W * (S - 1 + G * R)
      + 6 * VD * G * R
      + 3 * A * (S * (S - 1) / 2 + G * trained)
    ),
    again=P * G * R * 2 * VD,
  )


def peak_flops(size: int = 3072, repeats: int = 6) -> float:
  """FLOPs per second of one core: the best float32 product, by CPU time."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.dot)
  product(x, x).block_until_ready()
  seconds = []
  for _ in range(repeats):
    began = time.process_time()
    product(x, x).block_until_ready()
    seconds.append(time.process_time() - began)
  return 2 * size**3 / min(seconds)


def prompt_texts(directory: str, count: int, length: int) -> list[str]:
  """Texts of exactly `length` tokens."""
  tokenizer = tokens.load_tokenizer(directory)
  encode = functools.partial(tokenizer.encode, add_special_tokens=False)
  texts = []
  for i in range(count):
    text = tokenizer.decode(encode(PROMPT.format(i, i) * length)[:length])
    if len(encode(text)) != length:
      raise ValueError(f'--prompt-tokens={length} splits a word; try another')
    texts.append(text)
  return texts


def measure(
  name: str, command: Sequence[str], case: dict[str, Any]
) -> dict[str, Any]:
  """Runs a case in a separate process; returns the content of its last line."""
  load = os.getloadavg()[0]
  done = subprocess.run(
    command,
    input=json.dumps(case),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env=os.environ | dict(HF_HUB_OFFLINE='1', TOKENIZERS_PARALLELISM='false'),
  )
  result = json.loads(done.stdout.strip().rpartition('\n')[-1])
  seconds = ' '.join(f'{s["cpu_seconds"]:.1f}' for s in result['steps'])
  print(f'{name}: steps of {seconds} CPU s; load {load:.1f} before', flush=True)
  return result


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """Medians over the steps of all runs, and the highest peak."""
  steps = [step for run in runs for step in run['steps']]
  medians = {k: statistics.median(s[k] for s in steps) for k in steps[0]}
  return dict(
    {k: round(v, 1) for k, v in medians.items()},
    peak_gb=round(max(run['peak_gb'] for run in runs), 2),
    prompt_tokens=runs[0]['prompt_tokens'],
    versions=runs[0]['versions'],
  )


def print_table(results: dict[str, dict[str, Any]]) -> None:
  ours = results['ours']
  print(f'{"":8}{"CPU s":>9}{"wall s":>9}{"peak GB":>9}{"CPU":>8}{"peak":>8}')
  for name, r in results.items():
    cpu = r['cpu_seconds'] / ours['cpu_seconds']
    peak = r['peak_gb'] / ours['peak_gb']
    print(
      f'{name:8}{r["cpu_seconds"]:9.1f}{r["wall_seconds"]:9.1f}'
      f'{r["peak_gb"]:9.2f}{cpu:7.2f}x{peak:7.2f}x'
    )
  for name, r in results.items():
    print(f'{name}: {r["versions"]}, prompts of {r["prompt_tokens"]:g} tokens')
  print(
    f'ours: sample {ours["sample_cpu_seconds"]:.1f} CPU s, '
    f'update {ours["update_cpu_seconds"]:.1f} CPU s'
  )


def print_floor(count: dict[str, float], peak: float, cpu: float) -> float:
  """Prints the parts of the floor; returns it, in CPU seconds."""
  for name, value in count.items():
    print(f'{name:8}{value / 1e12:6.2f} TFLOP{value / peak:7.1f} CPU s')
  floor = (sum(count.values()) - count['again']) / peak
  print(
    f'floor {floor:.1f} CPU s at {peak / 1e9:.0f} GFLOP per CPU s, '
    f"'again' left out; ours takes {cpu / floor:.2f} times that"
  )
  return floor


def compare(args: argparse.Namespace) -> dict[str, Any]:
  """Runs all cases and prints the tables; returns the last line's content."""
  directory = embedded.path(MODEL)
  texts = prompt_texts(directory, args.prompts, args.prompt_tokens)
  case = dict(vars(args), model=directory, prompts=texts)
  load = os.getloadavg()[0]
  peak = peak_flops()
  ours = [sys.executable, '-m', 'benchmarks.step', '--worker']
  runs, peers = [measure('ours', ours, case)], {}
  for name, _, python in (p.partition('=') for p in args.peer):
    script = str(PEERS / f'{name}_step.py')
    peers[name] = summarise([measure(name, [python, script], case)])
  if peers:
    runs.append(measure('ours', ours, case))
  result = summarise(runs)
  print_table(dict(ours=result, **peers))
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  shape = args.prompts, args.groups, args.prompt_tokens, args.tokens
  cpu = result['cpu_seconds']
  peak = max(peak, peak_flops())
  floor = print_floor(flops(config, *shape), peak, cpu)
  return dict(
    result,
    **{f'vs_{n}': round(p['cpu_seconds'] / cpu, 2) for n, p in peers.items()},
    peak_gflop_per_cpu_s=round(peak / 1e9, 1),
    floor_tflop=round(floor * peak / 1e12, 2),
    floor_cpu_seconds=round(floor, 1),
    floor_ratio=round(cpu / floor, 2),
    load_before=round(load, 2),
    load_after=round(os.getloadavg()[0], 2),
    peers=peers,
  )


def main() -> None:
  args = parse_args()
  if args.worker:
    work()
  else:
    print(json.dumps(compare(args)))


if __name__ == '__main__':
  main()
