"""Simulates the judges of a batch: queues of workers on each host."""

import heapq
from collections.abc import Sequence

from acereason_jax.planning import values


def wait_seconds(
  ends: Sequence[tuple[int, int, float]],
  groups: int,
  judges: Sequence[values.Judged],
  hosts: int,
  prompts: int,
) -> float:
  """Seconds from a batch's last token to its last verdict.

  `ends` are (prompt, rollout, seconds), as of `rollouts.Simulated`. A rollout
  is judged by the host that its place in the batch names, and prompts are of
  domains by their shares, in turn (`run.collect`). A worker judges one response
  at a time, in the order in which they end. A verdict takes the CPU seconds of
  its domain; that workers may have no core of their own is left out.
  """
  if not ends:
    return 0.0
  domain_P = _domains(judges, prompts)
  free: dict[tuple[int, int], list[float]] = {}
  last = max(seconds for _, _, seconds in ends)
  done = last
  for prompt, rollout, seconds in sorted(ends, key=lambda end: end[2]):
    place, domain = prompt * groups + rollout, domain_P[prompt]
    if domain < 0:
      continue
    judged = judges[domain]
    key = place % hosts, domain
    workers = free.setdefault(key, [0.0] * max(1, judged.workers))
    ended = max(seconds, workers[0]) + judged.seconds
    heapq.heapreplace(workers, ended)
    done = max(done, ended)
  return done - last


def _domains(judges: Sequence[values.Judged], prompts: int) -> list[int]:
  """The domain of each prompt, each as often as its share; -1: not judged."""
  given = [0] * len(judges)
  found = []
  for count in range(1, prompts + 1):
    owed = [j.share * count - n for j, n in zip(judges, given)]
    most = max(owed, default=0.0)
    if most <= 0:
      found.append(-1)
      continue
    chosen = owed.index(most)
    given[chosen] += 1
    found.append(chosen)
  return found
