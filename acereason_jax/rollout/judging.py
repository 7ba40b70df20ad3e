"""Yields rollouts with their verdicts, as they end.

Training, generate and evaluate share this loop: a rollout goes to its judge
the moment it ends, while the engine decodes the others.
"""

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from acereason_jax import types

# A known verdict, a pending verdict, or None if this process does not judge the
# rollout.
Answer = types.Verdict | concurrent.futures.Future | None


class Judged(NamedTuple):
  """A rollout that has ended.

  rollout: rollout that the engine drew.
  verdict: verdict of its judge; None if this process does not judge it.
  """

  rollout: types.Rollout
  verdict: types.Verdict | None


def nobody(rollout: types.Rollout) -> None:
  """The judge of rollouts that are only drawn."""


def judged(
  rollouts: Iterable[types.Rollout],
  judge: Callable[[types.Rollout], Answer] = nobody,
  patience: Callable[[types.Rollout], float] = lambda rollout: 0.0,
) -> Iterator[Judged]:
  """Yields each rollout once, when its verdict is known.

  `rollouts` may be an engine's stream: it continues while judges work. `judge`
  is called once for each rollout, in order. A verdict still missing `patience`
  seconds after the last rollout ended becomes a 'timeout'.
  """
  waiting: dict[concurrent.futures.Future, types.Rollout] = {}
  for rollout in rollouts:
    answer = judge(rollout)
    if isinstance(answer, concurrent.futures.Future):
      waiting[answer] = rollout
    else:
      yield Judged(rollout, answer)
    for future in [f for f in waiting if f.done()]:
      yield Judged(waiting.pop(future), future.result())
  yield from _last(waiting, {f: patience(r) for f, r in waiting.items()})


def _last(
  waiting: dict[concurrent.futures.Future, types.Rollout],
  seconds: dict[concurrent.futures.Future, float],
) -> Iterator[Judged]:
  """The rollouts whose verdicts came in time, then the others."""
  began = time.monotonic()
  for limit in sorted(set(seconds.values())):
    left = max(began + limit - time.monotonic(), 0.0)
    concurrent.futures.wait([f for f in waiting if seconds[f] == limit], left)
  for future, rollout in waiting.items():
    if future.done():
      yield Judged(rollout, future.result())
    else:
      # The judge's own limit ends it; nothing waits for it.
      future.cancel()
      late = f'{seconds[future]:g} s after the last token'
      yield Judged(rollout, types.Verdict('timeout', late, 0.0))
