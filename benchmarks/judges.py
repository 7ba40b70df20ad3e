r"""The cost of a verdict: `python -m benchmarks.judges math`, or `code`.

Everything is judged in confined workers of a VerifierPool, as in training, with
8,000 characters of thinking before the box. `exact` has answers of AIME-like
data: integers, some decimals and fractions. `mixed` is every pair of
tests/math_pairs.py once, also through math-verify called directly with its own
time limits. `batch` is the paper's 1,024 responses (128 prompts x 8) on all
cores, 1% of them hostile texts of tests/hostile_math.py. `hostile` judges all
of those texts against six references each. `memory` is the growth of one worker
over `--runs` verdicts, whole thousands. Rates are verdicts per CPU second of a
worker; the floor of the exact tier only finds </think> and the box, and
floor_ratio is how many times faster that is.

`code`: problems of 1, 20 and 100 trivial tests (runs per CPU second of all
processes, including worker and zygote), the CPU time in addition to the
program's own for one that computes for about 70 ms, the start times of a run
and of a worker, and the remains of `--runs` verdicts of new programs.
"""

import argparse
import functools
import json
import logging
import os
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import math_verify
import psutil

from acereason_jax.types import Verdict
from acereason_jax.verifiers import math
from acereason_jax.verifiers.pool.pool import VerifierPool
from acereason_jax.verifiers.programs import jail, tasks

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'tests'))
import hostile_math
import math_pairs

_THINKING = 'So let me think about that once more, from the start. ' * 148
_REFERENCES = ('42', r'\sqrt{2}', 'x^2+1', '(1,2)', r'\frac{3}{7}', '[0,1]')
_GROUP = 8

Pair = tuple[str, str]


def response(box: str) -> str:
  return rf'{_THINKING}</think>Therefore the answer is $$\boxed{{{box}}}$$'


def exact_pairs(count: int, seed: int) -> list[Pair]:
  """(box, reference): groups of eight, about half right, few alike."""
  rng = random.Random(seed)
  pairs = []
  for _ in range(count // _GROUP):
    answer = rng.randint(0, 10**6)
    for _ in range(_GROUP):
      other = rng.randint(0, 10**6)
      below = rng.randint(2, 99)
      boxes = [f'{answer}', f'{answer}', f'{answer}.0', f'{other}']
      boxes += [rf'\frac{{{answer * below}}}{{{below}}}', f'{other}/{below}']
      box = rng.choice(boxes)
      pairs.append((box, str(answer)))
  return pairs


def mixed_pairs() -> list[Pair]:
  return [(given, reference) for _, given, reference, _ in math_pairs.PAIRS]


def hostile_pairs() -> list[Pair]:
  return [(t, r) for _, t in hostile_math.HOSTILE for r in _REFERENCES]


def _ours(pairs: Iterable[Pair]) -> int:
  return sum(
    math.verify(response(box), answer).status == 'right'
    for box, answer in pairs
  )


def _find_boxes(pairs: Iterable[Pair]) -> int:
  return sum(math.extract(response(box), True)[0] == box for box, _ in pairs)


def _direct(pairs: Iterable[Pair]) -> int:
  """Runs math-verify on only the boxes; its failures count as wrong."""
  logging.disable(logging.ERROR)
  parse = functools.partial(
    math_verify.parse,
    extraction_config=[math_verify.LatexExtractionConfig()],
  )
  right = 0
  for box, answer in pairs:
    gold, given = (parse(rf'\boxed{{{text}}}') for text in (answer, box))
    right += math_verify.verify(gold, given)
  return right


_RUNS: dict[str, Callable[[Iterable[Pair]], int]] = {
  'ours': _ours,
  'boxes': _find_boxes,
  'direct': _direct,
}


def timed(response: str, answer: str) -> Verdict:
  """A judge that times judging: `answer` names a run, `response` its pairs."""
  pairs = json.loads(response)
  began, before = time.process_time(), _resident()
  right = _RUNS[answer](pairs)
  seconds = time.process_time() - began
  found = dict(
    per_s=len(pairs) / seconds, right=right, grown_mb=_resident() - before
  )
  return Verdict('right', json.dumps(found), 0.0)


def memory(response: str, answer: str) -> Verdict:
  """A judge that judges `answer` times, and returns its growth in MB."""
  mixed = mixed_pairs()
  _ours(mixed[:500])
  before = _resident()
  for i in range(int(answer) // 1000):
    _ours(exact_pairs(800, seed=i))
    _ours(mixed[i * 200 % 700 :][:200])
  return Verdict('right', json.dumps(_resident() - before), 0.0)


def _resident() -> float:
  return psutil.Process().memory_info().rss / 2**20


def in_worker(name: str, pairs: list[Pair]) -> dict[str, float]:
  """Returns the result of `timed`, in a worker of its own."""
  with VerifierPool('benchmarks.judges:timed', {}, 1, 600.0) as pool:
    return json.loads(pool.submit(json.dumps(pairs), name).result().detail)


def rates() -> dict[str, float]:
  exact, mixed = exact_pairs(40_000, seed=0), mixed_pairs()
  ours, boxes = in_worker('ours', exact), in_worker('boxes', exact)
  all_ours, direct = in_worker('ours', mixed), in_worker('direct', mixed)
  return dict(
    exact_per_s=ours['per_s'],
    exact_floor_per_s=boxes['per_s'],
    floor_ratio=boxes['per_s'] / ours['per_s'],
    mixed_per_s=all_ours['per_s'],
    mixed_math_verify_per_s=direct['per_s'],
  )


def judged(
  pairs: list[Pair], workers: int
) -> tuple[list[Verdict], float, VerifierPool]:
  """(verdicts, seconds from the first submission to the last, the pool)."""
  verify = 'acereason_jax.verifiers.math:verify'
  with VerifierPool(verify, dict(reasons=True), workers, 8.0) as pool:
    began = time.monotonic()
    futures = [pool.submit(response(box), answer) for box, answer in pairs]
    verdicts = [future.result() for future in futures]
    return verdicts, time.monotonic() - began, pool


def batch(workers: int) -> dict[str, float]:
  """The paper's batch of math responses, one in a hundred hostile."""
  rng = random.Random(0)
  pairs = rng.sample(mixed_pairs(), 512) + exact_pairs(512, seed=1)
  for i, (_, text) in zip(
    rng.sample(range(1024), 10), rng.sample(hostile_math.HOSTILE, 10)
  ):
    pairs[i] = text, pairs[i][1]
  verdicts, seconds, pool = judged(pairs, workers)
  return dict(
    batch_1024_seconds=seconds,
    batch_slowest_seconds=pool.stats().slowest_seconds,
    batch_failed=sum(not v.judged for v in verdicts),
  )


def hostile(workers: int) -> dict[str, float]:
  verdicts, seconds, pool = judged(hostile_pairs(), workers)
  each = sorted(v.seconds for v in verdicts)
  return dict(
    hostile_count=len(each),
    hostile_seconds=seconds,
    hostile_p50_ms=each[len(each) // 2] * 1e3,
    hostile_p99_ms=each[len(each) * 99 // 100] * 1e3,
    hostile_slowest_ms=each[-1] * 1e3,
    hostile_right=sum(v.status == 'right' for v in verdicts),
    hostile_failed=sum(not v.judged for v in verdicts),
    hostile_worker_mb=pool.stats().worker_bytes / 2**20,
  )


def grown(runs: int) -> dict[str, float]:
  """Growth of a worker over about that many verdicts, in whole thousands."""
  count = max(1000, runs // 1000 * 1000)
  with VerifierPool('benchmarks.judges:memory', {}, 1, 3600.0) as pool:
    detail = pool.submit('', str(count)).result().detail
  return dict(memory_verdicts=count, memory_grown_mb=json.loads(detail))


# --- code -------------------------------------------------------------------

_SUM = 'a, b = map(int, input().split())\nprint(a + b)\n'
_BUSY = 'n = int(input())\nprint(sum(i * i % 7 for i in range(n)))\n'
_BUSY_N = 1_500_000


def sum_task(tests: int) -> str:
  return tasks.CodeTask(
    'stdin',
    tuple(
      tasks.Test(f'{i} {i + 1}\n', (), f'{2 * i + 1}\n') for i in range(tests)
    ),
  ).to_json()


def program(text: str, number: int) -> str:
  """A response with a unique program, so no verdict is remembered."""
  return f'So.</think>\n```python\n# {number}\n{text}```\n'


def cpu_seconds(process: psutil.Process) -> float:
  """CPU time of a process, of its children, and of those they reaped."""
  total = 0.0
  for each in [process, *process.children(recursive=True)]:
    times = each.cpu_times()
    total += times.user + times.system
    total += times.children_user + times.children_system
  return total


def code_judged(
  pool: VerifierPool, tasks: list[Pair]
) -> tuple[list[Verdict], float]:
  """(verdicts, CPU seconds of this process and all below it)."""
  began = cpu_seconds(psutil.Process())
  futures = [pool.submit(*task) for task in tasks]
  verdicts = [future.result() for future in futures]
  return verdicts, cpu_seconds(psutil.Process()) - began


def code_cases(workers: int, runs: int, tier: str) -> dict[str, Any]:
  verify, found = 'acereason_jax.verifiers.code:verify', {}
  began = time.monotonic()
  with VerifierPool(
    verify, dict(reasons=True, tier=tier), workers, 600.0, confine=False
  ) as pool:
    first = [(program(_SUM, -1 - i), sum_task(1)) for i in range(workers)]
    code_judged(pool, first)
    found['worker_start_s'] = time.monotonic() - began
    found['confinement'] = pool.confinement
    for tests, programs in ((1, 400), (20, 20), (100, 4)):
      pairs = [(program(_SUM, i), sum_task(tests)) for i in range(programs)]
      verdicts, seconds = code_judged(pool, pairs)
      assert all(v.status == 'right' for v in verdicts), verdicts
      name = 'trivial_per_s' if tests == 1 else f'trivial_{tests}_tests_per_s'
      found[name] = tests * programs / seconds
    found |= overhead(pool)
    found |= left_behind(pool, runs)
  return found


def overhead(pool: VerifierPool) -> dict[str, float]:
  """The judge's CPU time as a share of the programs' own."""
  with jail.Jail('auto') as own:
    limits = jail.Limits(10, 60, 1 << 30)
    source, stdin = _BUSY.encode(), f'{_BUSY_N}\n'.encode()
    outcomes = [own.run(source, stdin, limits) for _ in range(15)]
    idle = [own.run(b'pass', b'', limits).cpu_seconds for _ in range(15)]
    walls = [own.run(b'pass', b'', limits).wall_seconds for _ in range(15)]
  busy = statistics.median(o.cpu_seconds for o in outcomes)
  task = tasks.CodeTask(
    'stdin', (tasks.Test(stdin.decode(), (), outcomes[0].stdout.decode()),)
  ).to_json()
  pairs = [(program(_BUSY, i), task) for i in range(60)]
  verdicts, seconds = code_judged(pool, pairs)
  assert all(v.status == 'right' for v in verdicts), verdicts
  pure = busy - statistics.median(idle)
  return dict(
    program_ms=pure * 1e3,
    overhead_share=seconds / len(pairs) / pure - 1,
    start_ms=statistics.median(walls) * 1e3,
  )


def left_behind(pool: VerifierPool, runs: int) -> dict[str, float]:
  """Processes and memory after many verdicts, against after a few."""
  me = psutil.Process()

  def size() -> float:
    every = [me, *me.children(recursive=True)]
    return sum(p.memory_info().rss for p in every) / 2**20

  task = sum_task(1)
  pairs = ((i, program(_SUM, 10**6 + i), task) for i in range(runs))
  right, before, family = 0, 0.0, len(me.children(recursive=True))
  for number, (_, verdict) in enumerate(pool.as_completed(pairs), 1):
    right += verdict.status == 'right'
    if number == min(1000, runs // 2):
      before = size()
  return dict(
    runs=runs,
    runs_right=right,
    runs_grown_mb=size() - before,
    runs_stray_processes=len(me.children(recursive=True)) - family,
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('judge', choices=['math', 'code'])
  parser.add_argument('--runs', type=int, default=100_000, help='Verdicts.')
  parser.add_argument('--tier', default='auto', help='Of `code`.')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  args = parser.parse_args()
  result: dict[str, Any] = {'case': args.judge, 'workers': args.workers}
  if args.judge == 'math':
    result |= rates()
    result |= batch(args.workers)
    result |= hostile(args.workers)
    result |= grown(args.runs)
  else:
    with jail.Jail(args.tier) as best:
      result['tier'] = best.tier
    result |= code_cases(args.workers, args.runs, args.tier)
  for name, value in result.items():
    if name != 'case':
      shown = value if isinstance(value, str) else f'{value:.4g}'
      print(f'{name:28}{shown:>14}')
  print(json.dumps(result))


if __name__ == '__main__':
  main()
