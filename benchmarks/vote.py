r"""The vote of 8 responses to 1,000 rows, next to its verdicts alone.

    python -m benchmarks.vote --rows=1000

The rows are sums of fractions, and the responses texts of about 1,500
characters that end in a box: right ones in four spellings, wrong ones of few
values, some without an answer. Medians of --runs:
`judging_seconds` is the time that workers spend in the judge,
`asking_cpu_seconds` the CPU time of this process for the same verdicts without
a vote, and `vote_cpu_seconds` that for the whole step. `ratio` is the step's
time by that of its verdicts, which include their way to a worker and back. The
second run of the step finds all verdicts. `direct_ratio` is the same without a
pool: the judge runs in this process.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import types
from acereason_jax.data.curate import values, vote
from acereason_jax.verifiers import math
from acereason_jax.verifiers.pool import pool as pool_lib

_K = 8
_ARGUMENTS = dict(reasons=False)


class Here:
  """The judge in this process, with the one method of a pool that is used."""

  def as_completed(
    self, tasks: Iterable[tuple[Any, str, str]]
  ) -> Iterator[tuple[Any, types.Verdict]]:
    for key, response, answer in tasks:
      yield key, math.verify(response, answer, **_ARGUMENTS)


class Judge:
  """A pool that remembers its verdicts, as a curation's state does."""

  def __init__(self, pool: pool_lib.VerifierPool | Here):
    self._pool = pool
    self.known: dict[tuple[str, str], types.Verdict] = {}
    self.batches: list[list[tuple[str, str]]] = []

  def __call__(
    self, component: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
  ) -> list[types.Verdict]:
    todo = [p for p in dict.fromkeys(pairs) if p not in self.known]
    if todo:
      self.batches.append(todo)
    for pair, verdict in self._pool.as_completed((p, *p) for p in todo):
      self.known[pair] = verdict
    return [self.known[p] for p in pairs]


def rows(count: int) -> tuple[list[values.Row], dict[str, tuple]]:
  """Rows and 8 attempts at each, the same every time."""
  rng = random.Random(0)
  found, attempts = [], {}
  for n in range(count):
    over, under = rng.randrange(1, 40), rng.choice([3, 7, 9, 11])
    name = f'row-{n:05}'
    found.append(
      values.Row(
        name, f'What is {over}/{under}?', f'\\frac{{{over}}}{{{under}}}'
      )
    )
    spelled = [
      *(f'{over}/{under}', f'\\dfrac{{{over}}}{{{under}}}'),
      *(f'\\frac{{{2 * over}}}{{{2 * under}}}', f'x = {over}/{under}'),
      *(f'{over + 1}/{under}', f'{over}', f'\\frac{{{over + 1}}}{{{under}}}'),
      '',
    ]
    attempts[name] = tuple(
      values.Attempt(_text(rng, rng.choice(spelled))) for _ in range(_K)
    )
  return found, attempts


def _text(rng: random.Random, answer: str) -> str:
  steps = ' '.join(f'then {rng.randrange(999)} is added' for _ in range(70))
  return f'{steps}: \\boxed{{{answer}}}' if answer else steps


def measure(count: int, workers: int, runs: int) -> dict[str, Any]:
  found, attempts = rows(count)
  step = vote.vote(arguments=_ARGUMENTS, k=_K, ask=_K)
  votes, alone, repeats, judged = [], [], [], []
  asked = again = kept = 0
  with pool_lib.VerifierPool(vote.MATH, _ARGUMENTS, workers, 8.0) as pool:
    for _ in range(runs):
      judge = Judge(pool)
      context = values.Context(
        0, (), attempts, judge, None, None, lambda name: True
      )
      began = time.process_time()
      fates = step.whole(found, context)
      votes.append(time.process_time() - began)
      batches, asked = list(judge.batches), len(judge.known)
      began = time.process_time()
      step.whole(found, context)
      repeats.append(time.process_time() - began)
      again = len(judge.known) - asked
      began = time.process_time()
      verdicts = [
        verdict
        for batch in batches
        for _, verdict in pool.as_completed((p, *p) for p in batch)
      ]
      alone.append(time.process_time() - began)
      judged.append(sum(verdict.seconds for verdict in verdicts))
      kept = sum(f.kind == values.KEPT for f in fates)
  judging, asking, voting, repeat = map(
    statistics.median, (judged, alone, votes, repeats)
  )
  return dict(
    rows=count,
    verdicts=asked,
    judging_seconds=round(judging, 3),
    asking_cpu_seconds=round(asking, 3),
    vote_cpu_seconds=round(voting, 3),
    ratio=round((judging + voting) / (judging + asking), 3),
    second_run_verdicts=again,
    second_run_cpu_seconds=round(repeat, 3),
    kept=kept,
  )


def direct_ratio(count: int, runs: int) -> float:
  """The step's CPU time by that of its verdicts, all in this process."""
  found, attempts = rows(count)
  step = vote.vote(arguments=_ARGUMENTS, k=_K, ask=_K)
  votes, alone = [], []
  # The first run warms the judge's caches.
  for _ in range(runs + 1):
    judge, again = Judge(Here()), Judge(Here())
    context = values.Context(
      0, (), attempts, judge, None, None, lambda name: True
    )
    began = time.process_time()
    step.whole(found, context)
    votes.append(time.process_time() - began)
    began = time.process_time()
    for batch in judge.batches:
      again({}, batch)
    alone.append(time.process_time() - began)
  return round(statistics.median(votes[1:]) / statistics.median(alone[1:]), 3)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rows', type=int, default=1000)
  parser.add_argument('--workers', type=int, default=1)
  parser.add_argument('--runs', type=int, default=5)
  args = parser.parse_args()
  found = measure(args.rows, args.workers, args.runs)
  found['direct_ratio'] = direct_ratio(args.rows, args.runs)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
