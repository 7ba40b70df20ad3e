"""A plan of this machine next to what runs take on it.

    python -m benchmarks.plan

Three cases: the first steps of the quick start (configs/quickstart.py), the
step of benchmarks/step.py, and the heavy tail of benchmarks/rollout.py, of
fewer rollouts. The programs of each are measured one by one on random weights
(planning/calibrate.py), before its run and after it. From these seconds and the
lengths of the run's own responses the plan's simulation gives the time of the
run, which is not fitted to it. The program prints predicted and measured
seconds, on the wall and of CPU time: on a machine that has other work, CPU
seconds are disturbed less. The last line is JSON.

Everything is a separate process: a peak of memory is that of a whole process.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import base as base_config
from acereason_jax.console import jax_setup
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import parquet
from acereason_jax.models import embedded
from acereason_jax.planning import (
  calibrate,
  fitting,
  rollouts,
  updates,
  values,
)
from acereason_jax.rollout import serve
from acereason_jax.run import build, checkpoint, metrics
from benchmarks import rollout as rollout_benchmark
from benchmarks import step as step_benchmark

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'quickstart.py'
HERE = machines.hardware('cpu:1')
CLOCKS = 'wall', 'cpu'
# Fields of the config for a stage with the sizes of the other benchmarks.
STEP = {
  'rollout.prompts': 8,
  'rollout.per_prompt': 8,
  'rollout.max_tokens': 64,
  'prompt.window': 55,
  'engine.slots': 64,
  'engine.page': 64,
  'engine.chunk': 16,
  'engine.prefill_prompts': 8,
  'engine.prefill_tokens': 64,
  'microbatch.rows': 2,
  'microbatch.columns': 576,
}
TAIL = {
  'rollout.per_prompt': rollout_benchmark.TAIL_GROUPS,
  'prompt.window': rollout_benchmark.TAIL_PROMPT,
  'engine.page': 64,
  'engine.chunk': 4,
  'engine.prefill_tokens': 64,
}


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = functools.partial(parser.add_argument, type=int)
  add('--steps', default=7, help='Of the quick start; the first compiles.')
  add('--repeats', default=2, help='Of the step, after one that compiles.')
  add('--rollouts', default=64, help='Of the heavy tail.')
  add('--cap', default=256, help='Longest rollout of the heavy tail.')
  add('--slots', default=16, help='Of the heavy tail.')
  add('--calibrations', default=2, choices=(1, 2), help='1: none after a run.')
  parser.add_argument('--seconds', type=float, default=1.0, help='A program.')
  parser.add_argument('--cases', nargs='+', default=list(CASES), choices=CASES)
  parser.add_argument('--worker', default='', help=argparse.SUPPRESS)
  return parser.parse_args()


def quick_fields(args: argparse.Namespace) -> dict[str, int]:
  """Fields of the config; a checkpoint is written before the last step."""
  return {
    'steps': args.steps,
    'heldout_data.count': 8,
    'checkpoint.every': args.steps - 1,
  }


def configured(
  case: str, args: argparse.Namespace
) -> ml_collections.ConfigDict:
  """The config whose only stage has the sizes of a case."""
  config = base_config.beside(str(CONFIG), 'quickstart').get_config()
  changes = dict(
    quick=quick_fields(args),
    step=STEP,
    tail=TAIL
    | {
      'rollout.prompts': args.rollouts // rollout_benchmark.TAIL_GROUPS,
      'rollout.max_tokens': args.cap,
      'engine.slots': args.slots,
      'microbatch.rows': 1,
      'microbatch.columns': rollout_benchmark.TAIL_PROMPT + args.cap,
    },
  )[case]
  fields = {f'config.{name}': value for name, value in changes.items()}
  return fitting.with_values(config, fields)


# What runs in a process of its own.


def calibrated(case: str, args: argparse.Namespace) -> dict[str, Any]:
  """The seconds of the case's programs, by clock."""
  config = configured(case, args)
  assumed = values.Assumed(mean_tokens={args.cap: 0.3 * args.cap})
  (fit,) = fitting.fit(config, HERE, assumed)
  files = serve.read_model_sizes(embedded.resolve_model(config.model))
  programs = build.build_programs(config, mesh_lib.this_machine(), files)
  found = calibrate.calibrate(
    programs,
    programs.stages[0],
    fit.work,
    assumed,
    seconds=args.seconds,
    # Nothing is trained in the heavy tail.
    trains=case != 'tail',
  )
  return {
    clock: one._replace(
      rollouts=one.rollouts._asdict(), heldout=one.heldout._asdict()
    )._asdict()
    for clock, one in found._asdict().items()
  }


def heavy_tail(args: argparse.Namespace) -> dict[str, Any]:
  """The heavy tail, measured."""
  (cpu, wall), trace, _ = rollout_benchmark.tail_ours(
    rollout_benchmark.setup(), args
  )
  return dict(
    wall=float(wall),
    cpu=float(cpu),
    steps=trace.steps,
    occupancy=trace.metrics()['occupancy'],
    peak_gb=metrics.peak_gb(),
  )


def work(args: argparse.Namespace) -> None:
  jax_setup.keep_compiled()
  jax_setup.use_precision('float32')
  if args.worker == 'heavy_tail':
    found = heavy_tail(args)
  else:
    found = calibrated(args.worker, args)
  print(json.dumps(found))


def in_process(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """The result of `work` on `name`, in a process of its own."""
  given = {k: v for k, v in vars(args).items() if k not in ('worker', 'cases')}
  flags = [f'--{name}={value}' for name, value in given.items()]
  command = [sys.executable, '-m', 'benchmarks.plan', f'--worker={name}']
  done = subprocess.run(
    [*command, *flags], stdout=subprocess.PIPE, text=True, check=True
  )
  found = json.loads(done.stdout.strip().rpartition('\n')[-1])
  print(f'{name}: {json.dumps(found)}; load {os.getloadavg()[0]:.1f}')
  sys.stdout.flush()
  return found


# The plan.


class Planned(NamedTuple):
  """A case as it is planned.

  work: work of its stage.
  phases: memory of the device.
  host: memory of the process and of others, bytes by what takes them.
  measured: seconds of its programs, by clock.
  """

  work: values.Work
  phases: Sequence[values.Phase]
  host: Mapping[str, float]
  measured: Mapping[str, values.Measured]

  def sampled(
    self, clock: str, lengths_PG: np.ndarray, prompt_tokens: int
  ) -> values.Decoded:
    """A batch of these lengths."""
    price = rollouts.Clocked(self.measured[clock].rollouts)
    found = rollouts.run(self.work.sizes, lengths_PG, prompt_tokens, price)
    return found.decoded

  def updated(
    self, clock: str, lengths_PG: np.ndarray, prompt_tokens: int
  ) -> float:
    """Seconds of an update on these groups."""
    assumed = values.Assumed(kept=1.0, prompt_tokens=prompt_tokens)
    return updates.update(
      self.work, lengths_PG, HERE, assumed, self.measured[clock]
    ).seconds


def of_clock(found: Mapping[str, Any]) -> values.Measured:
  engines = {
    name: values.Timings(**found[name]) for name in ('rollouts', 'heldout')
  }
  return values.Measured(**(dict(found) | engines))


def mean(of: Sequence[values.Measured]) -> values.Measured:
  """The mean of each number."""
  leaves = [jax.tree.leaves(one) for one in of]
  means = [float(np.mean(each)) for each in zip(*leaves)]
  return jax.tree.unflatten(jax.tree.structure(of[0]), means)


def planned(
  case: str, args: argparse.Namespace, found: Sequence[Mapping[str, Any]]
) -> Planned:
  config = configured(case, args)
  (fit,) = fitting.fit(config, HERE, values.Assumed())
  measured = {
    clock: mean([of_clock(one[clock]) for one in found]) for clock in CLOCKS
  }
  return Planned(fit.work, fit.phases, fit.host, measured)


def calibrated_around(
  case: str, args: argparse.Namespace, run: Callable[[], Any]
) -> tuple[Planned, Any]:
  """The plan by calibrations before and after the run, and its result."""
  found = [in_process(case, args)]
  result = run()
  if args.calibrations > 1:
    found.append(in_process(case, args))
  return planned(case, args, found), result


# The cases: rows (name, predicted, measured).

Rows = list[tuple[str, float, float]]


def quick(args: argparse.Namespace) -> Rows:
  """The first steps of a real run, each with the lengths of its own groups."""
  with tempfile.TemporaryDirectory() as folder:
    plan, (steps, records) = calibrated_around(
      'quick', args, lambda: real_run(args, folder)
    )
  totals = {}

  def add(name: str, predicted: float, measured: float) -> None:
    both = totals.setdefault(name, np.zeros(2))
    both += predicted, measured

  for real in steps[1:]:
    own = [r for r in records if r.step == real['step']]
    # A ledger has the sum and the longest of a group's lengths.
    lengths_PG = np.array([even(r) for r in own])
    signal = [0 < r.solved < r.rollouts for r in own]
    kept = lengths_PG[signal] if any(signal) else lengths_PG[:1, :1]
    prompt = round(real['prefill_tokens'] / len(own)) + 1
    for clock in CLOCKS:
      name = dict(wall='seconds', cpu='cpu_seconds')[clock]
      drawn = plan.sampled(clock, lengths_PG, prompt)
      updated = plan.updated(clock, kept, prompt)
      reshard = plan.measured[clock].rollout_params
      whole = drawn.seconds + updated + reshard
      add(f'sample, {clock} s', drawn.seconds, real[f'{name}_sample'])
      add(f'update, {clock} s', updated, real[f'{name}_update'])
      add(f'step, {clock} s', whole, real[f'{name}_step'])
    count = real['decoded_tokens'] / real['occupancy'] / plan.work.sizes.slots
    add('decode steps', drawn.steps, count)
    add('occupancy', drawn.occupancy, real['occupancy'])
  number = len(steps) - 1
  rows = [(k, *(v / number).tolist()) for k, v in totals.items()]
  # Judges are processes of their own.
  memory = sum(plan.host.values()) - plan.host['judges']
  return [*rows, ('memory, GB', memory / 1e9, steps[-1]['peak_gb'])]


def even(record: ledger_lib.Record) -> list[int]:
  """Lengths of a group with the sum and the longest of a record."""
  others = record.rollouts - 1
  rest = record.tokens - record.longest
  return [record.longest, *((rest + i) // others for i in range(others))]


def real_run(
  args: argparse.Namespace, folder: str
) -> tuple[list[dict[str, float]], list[ledger_lib.Record]]:
  """The metrics of the steps of a run, and its ledger."""
  command = [sys.executable, '-m', 'acereason_jax.train']
  flags = quick_fields(args)
  subprocess.run(
    [
      *command,
      f'--config={CONFIG}',
      f'--workdir={folder}',
      *(f'--config.{name}={value}' for name, value in flags.items()),
    ],
    check=True,
    stdout=sys.stderr,
  )
  lines = pathlib.Path(folder, 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line) for line in lines]
  steps = [step for step in steps if 'seconds_step' in step]
  for real in steps:
    kept = ('step', 'seconds_step', 'cpu_seconds_step', 'peak_gb')
    print(json.dumps({name: real[name] for name in kept}), flush=True)
  return steps, list(parquet.from_bytes(checkpoint.load_ledger(folder)))


def one_step(args: argparse.Namespace) -> Rows:
  """The step of benchmarks/step.py: 64 forced tokens of each rollout."""
  directory = embedded.path(step_benchmark.MODEL)
  tokens = STEP['prompt.window']
  texts = step_benchmark.prompt_texts(directory, 8, tokens)
  case = dict(
    model=directory,
    prompts=texts,
    groups=8,
    tokens=64,
    rows=2,
    columns=576,
    vocab_chunk=2048,
    remat='dots',
    steps=args.repeats,
  )
  command = [sys.executable, '-m', 'benchmarks.step', '--worker']
  plan, real = calibrated_around(
    'step', args, lambda: step_benchmark.measure('step', command, case)
  )
  real = step_benchmark.summarise([real])
  lengths_PG = np.full((8, 8), 64)
  rows = []
  for clock in CLOCKS:
    drawn = plan.sampled(clock, lengths_PG, tokens).seconds
    drawn += plan.measured[clock].rollout_params
    updated = plan.updated(clock, lengths_PG, tokens)
    if clock == 'cpu':
      rows.append(('sample, cpu s', drawn, real['sample_cpu_seconds']))
      rows.append(('update, cpu s', updated, real['update_cpu_seconds']))
    name = f'step, {clock} s'
    rows.append((name, drawn + updated, real[f'{clock}_seconds']))
  memory = plan.host['program'] + plan.host['devices']
  return [*rows, ('memory, GB', memory / 1e9, real['peak_gb'])]


def tail(args: argparse.Namespace) -> Rows:
  """The heavy tail; nothing is trained, so there is no state."""
  run = lambda: in_process('heavy_tail', args)
  plan, real = calibrated_around('tail', args, run)
  lengths = rollout_benchmark.tail_lengths(args.rollouts, args.cap)
  lengths_PG = lengths.reshape(-1, rollout_benchmark.TAIL_GROUPS)
  rows = []
  for clock in CLOCKS:
    drawn = plan.sampled(clock, lengths_PG, rollout_benchmark.TAIL_PROMPT)
    rows.append((f'sample, {clock} s', drawn.seconds, real[clock]))
  rows.append(('decode steps', drawn.steps, real['steps']))
  rows.append(('occupancy', drawn.occupancy, real['occupancy']))
  (sample,) = (phase for phase in plan.phases if phase.name == 'sample')
  memory = plan.host['program'] + sample.need - sample.parts['optimizer']
  return [*rows, ('memory, GB', memory / 1e9, real['peak_gb'])]


CASES = dict(quick=quick, step=one_step, tail=tail)


def main() -> None:
  args = parse_args()
  if args.worker:
    work(args)
    return
  found = {}
  for case in args.cases:
    found[case] = CASES[case](args)
    print(f'{case:24}{"predicted":>10}{"measured":>10}{"ratio":>8}')
    for name, predicted, measured in found[case]:
      ratio = predicted / measured
      print(f'  {name:22}{predicted:10.3g}{measured:10.3g}{ratio:8.2f}')
    sys.stdout.flush()
  print(json.dumps(found))


if __name__ == '__main__':
  main()
