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


# Verdicts that are missing, each with its rollout.
Waiting = dict[concurrent.futures.Future, types.Rollout]


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
  waiting: Waiting | None = None,
) -> Iterator[Judged]:
  """Yields rollouts that end, each when its verdict is known.

  `rollouts` may be an engine's stream: it continues while judges work. `judge`
  is called once for each rollout, in order. Those whose verdicts are missing
  when the last rollout has ended are left in `waiting`: see `late`.
  """
  waiting = {} if waiting is None else waiting
  for rollout in rollouts:
    answer = judge(rollout)
    if isinstance(answer, concurrent.futures.Future):
      waiting[answer] = rollout
    else:
      yield Judged(rollout, answer)
    yield from _done(waiting)


def late(
  waiting: Waiting,
  patience: Callable[[types.Rollout], float],
  each_second: Callable[[], None] = lambda: None,
) -> Iterator[Judged]:
  """The rollouts of `waiting`, each when its verdict is known.

  A verdict still missing after `patience` seconds becomes a 'timeout'.
  `each_second` is called while verdicts are missing; an error that it raises
  ends the wait.
  """
  began = time.monotonic()
  limits = {future: patience(rollout) for future, rollout in waiting.items()}
  while waiting:
    left = began + min(limits[f] for f in waiting) - time.monotonic()
    concurrent.futures.wait(waiting, min(max(left, 0.0), 1.0))
    yield from _done(waiting)
    spent = time.monotonic() - began
    for future in [f for f in waiting if limits[f] <= spent]:
      # The judge's own limit ends it; nothing waits for it.
      future.cancel()
      detail = f'{limits[future]:g} s after the last token'
      verdict = types.Verdict('timeout', detail, 0.0)
      yield Judged(waiting.pop(future), verdict)
    if waiting:
      each_second()


def _done(waiting: Waiting) -> Iterator[Judged]:
  for future in [f for f in waiting if f.done()]:
    yield Judged(waiting.pop(future), future.result())
