"""The cost of one update, next to torch: CPU seconds and peak memory.

    python -m benchmarks.update --torch=PYTHON

One update is forward, backward and AdamW on rows of random tokens of
SmolLM2-135M, in float32: every token is trained on. PYTHON is an interpreter
with torch and transformers (`pip install -e '.[parity]'`); without it torch is
left out. Each run is a separate process, torch's between two of ours; the last
line is JSON. vs_torch_ROWSxTOKENS is ours over torch's in tokens per CPU
second, memory_ the same for peak memory, loading included. peak_share is the
hand count of multiplications (`benchmarks.step.flops`, without recomputation)
over the CPU time at the machine's best product.
"""

import argparse
import functools
import json
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.models import decoder, embedded, hf, sharding
from acereason_jax.models import remat as remat_lib
from acereason_jax.rl import gradients, losses, optim, packing, update
from acereason_jax.run import metrics
from benchmarks import step

# Rows, tokens of a row, and rows of our microbatch.
CASES = {'16x128': (16, 128, 4), '2x1024': (2, 1024, 1)}
TORCH = pathlib.Path(__file__).parent / 'peers' / 'torch_update.py'
LEARNING_RATE = 1e-6


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--torch', metavar='PYTHON')
  parser.add_argument('--cases', nargs='+', default=list(CASES), choices=CASES)
  parser.add_argument('--steps', type=int, default=4, help='After one more.')
  parser.add_argument('--remat', default='dots', choices=remat_lib.POLICIES)
  parser.add_argument('--vocab-chunk', type=int, default=2048)
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  return parser.parse_args()


def batches(tokens_RT: np.ndarray, rows: int) -> list[packing.PackedBatch]:
  """Each row is one segment; its tokens are all trained on, +1 or -1."""
  R, T = tokens_RT.shape[0], tokens_RT.shape[1] - 1
  full = functools.partial(np.full, (R, T))
  adv_R1 = np.where(np.arange(R) % 2, 1.0, -1.0)[:, None]
  whole = packing.PackedBatch(
    tokens_BT=tokens_RT[:, :-1],
    target_BT=tokens_RT[:, 1:],
    segment_BT=full(1, np.int32),
    prefix_BT=full(0, np.int32),
    position_BT=np.broadcast_to(np.arange(T, dtype=np.int32), (R, T)),
    logp_old_BT=full(-10.0, np.float32),
    adv_BT=np.broadcast_to(adv_R1, (R, T)).astype(np.float32),
    weight_BT=full(1 / (R * T), np.float32),
    logp_ref_BT=full(0.0, np.float32),
    logp_first_BT=full(0.0, np.float32),
  )
  return [
    packing.PackedBatch(*(x[i : i + rows] for x in whole))
    for i in range(0, R, rows)
  ]


def work() -> None:
  """Reads a case, prints its measurements."""
  case = json.load(sys.stdin)
  config = decoder.DecoderConfig.from_hf(hf.read_config(case['model']))
  mesh = mesh_lib.make_mesh(data=1, fsdp=1, tensor=1)
  model = decoder.make_model(
    config, remat=case['remat'], **partition.pins(mesh)
  )
  params = hf.load(
    case['model'],
    model.specs,
    dtype=jnp.float32,
    shardings=sharding.param_shardings(model.specs, mesh),
  )
  optimizer = optim.make_optimizer(
    dict(fn='optax:adamw', learning_rate=LEARNING_RATE, weight_decay=0.0),
    model.specs,
    warmup_steps=0,
    clip_norm=1.0,
  )
  init = functools.partial(update.init_state, optimizer=optimizer)
  state = jax.jit(init, donate_argnums=0)(params)
  updates = update.make_update(
    model,
    losses.on_policy(),
    optimizer,
    vocab_chunk=case['vocab_chunk'],
    dtype=jnp.float32,
  )
  packed = batches(np.asarray(case['tokens_RT'], np.int32), case['rows'])
  steps = []
  for _ in range(case['steps'] + 1):
    began = time.process_time(), time.perf_counter()
    sums = updates.zeros(state.params)
    for batch in packed:
      sums, _ = updates.add(
        state.params, sums, batch, gradients.make_knobs(1.0)
      )
    state, _ = jax.block_until_ready(updates.apply(state, sums))
    ended = time.process_time(), time.perf_counter()
    cpu, wall = (b - a for a, b in zip(began, ended))
    steps.append(dict(cpu_seconds=cpu, wall_seconds=wall))
  result = dict(
    steps=steps[1:],
    peak_gb=metrics.peak_gb(),
    prompt_tokens=1,
    versions=dict(jax=jax.__version__),
  )
  print(json.dumps(result))


def run(name: str, args: argparse.Namespace, peak: float) -> dict[str, Any]:
  """Measures one case, torch between two runs of ours; prints a table."""
  directory = embedded.path(step.MODEL)
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  R, T, rows = CASES[name]
  rng = np.random.default_rng(0)
  case = dict(
    model=directory,
    tokens_RT=rng.integers(0, config.vocab, (R, T + 1)).tolist(),
    rows=rows,
    steps=args.steps,
    remat=args.remat,
    vocab_chunk=args.vocab_chunk,
    learning_rate=LEARNING_RATE,
  )
  ours = [sys.executable, '-m', 'benchmarks.update', '--worker']
  runs = [step.measure(f'ours {name}', ours, case)]
  peers = {}
  if args.torch:
    command = [args.torch, str(TORCH)]
    peers['torch'] = step.summarise([step.measure('torch', command, case)])
    runs.append(step.measure(f'ours {name}', ours, case))
  results = dict(ours=step.summarise(runs), **peers)
  flops = step.flops(config, R, 1, 1, T)['update']
  found = {}
  for who, result in results.items():
    cpu = result['cpu_seconds']
    found[f'{who}_{name}_tokens_per_cpu_s'] = R * T / cpu
    found[f'{who}_{name}_peak_gb'] = result['peak_gb']
    found[f'{who}_{name}_peak_share'] = flops / cpu / peak
  if peers:
    mine, its = results['ours'], results['torch']
    found[f'vs_torch_{name}'] = its['cpu_seconds'] / mine['cpu_seconds']
    found[f'memory_{name}'] = mine['peak_gb'] / its['peak_gb']
  return found


def main() -> None:
  args = parse_args()
  if args.worker:
    work()
    return
  peak, found = step.peak_flops(), {}
  for name in args.cases:
    found |= run(name, args, peak)
  found['peak_gflop_per_cpu_s'] = peak / 1e9
  for name, value in found.items():
    print(f'{name:32}{value:10.3f}')
  print(json.dumps(found))


if __name__ == '__main__':
  main()
