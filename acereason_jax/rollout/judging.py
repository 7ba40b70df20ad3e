"""Yields rollouts with their verdicts, as they end.

Training, generate and evaluate share this loop: a rollout goes to its judge
the moment it ends, while the engine decodes the others.
"""

import concurrent.futures
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
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


class Patience(NamedTuple):
  """How long a verdict is waited for.

  judges: name of the judges that give it; equal for rollouts of one queue.
  seconds: seconds in which those judges may give no verdict at all.
  """

  judges: Hashable
  seconds: float


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
  patience: Callable[[types.Rollout], Patience],
  each_second: Callable[[], None] = lambda: None,
) -> Iterator[Judged]:
  """The rollouts of `waiting`, each when its verdict is known.

  Judges that still give verdicts are waited for, however long their queue is. A
  verdict is 'timeout' if, for the seconds of its patience, its judges have
  given none. A failed verdict is none: where every response hangs, the wait
  ends.

  `each_second` is called while verdicts are missing; an error that it raises
  ends the wait.
  """
  began = time.monotonic()
  limits = {rollout.key: patience(rollout) for rollout in waiting.values()}
  newest = {limit.judges: began for limit in limits.values()}

  def ends(future: concurrent.futures.Future) -> float:
    limit = limits[waiting[future].key]
    return newest[limit.judges] + limit.seconds

  while waiting:
    left = min(map(ends, waiting)) - time.monotonic()
    concurrent.futures.wait(waiting, min(max(left, 0.0), 1.0))
    now = time.monotonic()
    for found in _done(waiting):
      if found.verdict.judged:
        newest[limits[found.rollout.key].judges] = now
      yield found
    for future in [f for f in waiting if ends(f) <= now]:
      # The judge's own limit ends it; nothing waits for it.
      future.cancel()
      rollout = waiting.pop(future)
      seconds = limits[rollout.key].seconds
      detail = f'its judges gave no verdict for {seconds:g} s'
      yield Judged(rollout, types.Verdict('timeout', detail, 0.0))
    if waiting:
      each_second()


def _done(waiting: Waiting) -> Iterator[Judged]:
  for future in [f for f in waiting if f.done()]:
    yield Judged(waiting.pop(future), future.result())
