"""Decoding inside an evaluation, next to the engine by itself.

    python -m benchmarks.evaluate --config=configs/eval_sums.py --rounds=3

The same rollouts are drawn by the engine's stream alone and by the evaluation,
which also writes them, has them judged and writes the verdicts. They take
turns, on one engine that is compiled before. CPU seconds are of this process,
so that they do not depend on what else the machine does; wall seconds do.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

from acereason_jax.config import evaluation, from_flags
from acereason_jax.console import command_line, exits, jax_setup, signals
from acereason_jax.evaluation import judges, problems, run, samples
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import weights

FLAGS = command_line.Flags()
from_flags.define(FLAGS.values)
FLAGS.string('model', None, 'As of evaluate; default: config.model.')
FLAGS.integer('rounds', 3, 'Measurements of each.', lower_bound=1)
FLAGS.integer('rollouts', 240, 'Rollouts of a measurement.', lower_bound=1)


def timed(call: Callable[[], int]) -> tuple[int, float, float]:
  """(tokens, CPU seconds, wall seconds) of a call that returns its tokens."""
  cpu, wall = time.process_time(), time.perf_counter()
  tokens = call()
  return tokens, time.process_time() - cpu, time.perf_counter() - wall


def alone(job: run.Job, served, asked) -> int:
  trace = trace_lib.Trace()
  stream = served.engine.stream(
    served.params,
    asked.requests,
    seed=job.plan.seed,
    step=0,
    temperature=job.plan.sampling.temperature,
    trace=trace,
  )
  return sum(len(rollout.tokens) for rollout in stream)


def evaluated(job: run.Job, how: run.How, asked, pools) -> int:
  trace = trace_lib.Trace()
  names = sorted({n for r in job.ready for n in r.benchmark.judges})
  with (
    tempfile.TemporaryDirectory() as folder,
    samples.Store(folder, names, new=job.settings) as store,
  ):
    judging = judges.Judging(store, pools, job.ready)
    run.decode(job, how, store, judging, asked, trace, signals.NEVER)
    while not judging.work(1.0):
      pass
    return sum(kept.length for kept in store.own.values())


def main(argv: Sequence[str]) -> int:
  args = command_line.parse(FLAGS, argv, __doc__)
  jax_setup.keep_compiled()
  name = args.model or args.config.model
  plan = evaluation.plan(args.config)
  with tempfile.TemporaryDirectory() as folder:
    how = run.How(f'{folder}/out', '', False, True, {}, lambda facts: None)
    with exits.one_line_for(ValueError, OSError):
      job = run.read(plan, run.Model(name, weights.find(name)), how)
  jax_setup.use_precision(str(job.dtype))
  served = run.make_engine(job)
  run.make_engine = lambda job: served
  asked = run.forecast.asked(plan, job.prompts, {}, job.earlier)
  # Every so many, so that there are prompts of all benchmarks.
  step = max(len(asked.requests) // args.rollouts, 1)
  asked = asked._replace(requests=asked.requests[::step], lengths={'': 0})
  found: dict[str, list[tuple[int, float, float]]] = {}
  with judges.Pools(plan.benchmarks, problems.workers(plan)) as pools:
    alone(job, served, asked)  # Compiles.
    for _ in range(args.rounds):
      for label, call in (
        ('engine', lambda: alone(job, served, asked)),
        ('evaluate', lambda: evaluated(job, how, asked, pools)),
      ):
        found.setdefault(label, []).append(timed(call))
        tokens, cpu, wall = found[label][-1]
        print(
          f'{label:9} {len(asked.requests)} rollouts {tokens} tokens '
          f'{cpu:.2f} CPU s {wall:.2f} s',
          flush=True,
        )
  for place, kind in ((1, 'CPU'), (2, 'wall')):
    own, ours = (
      statistics.median(each[place] for each in found[label])
      for label in ('engine', 'evaluate')
    )
    print(f'evaluate at {own / ours:.3f} of the engine ({kind} time)')
  return 0


if __name__ == '__main__':
  command_line.run(main)
