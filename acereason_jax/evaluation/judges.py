"""The judges of an evaluation: each rollout gets a verdict of each of them.

A rollout is judged when it has ended, while others are decoded. A verdict that
failed is asked for once more at the end, when nothing else is decoded. If it
fails again, the rollout is left out of the average and counted.
"""

import collections
import concurrent.futures
import contextlib
import json
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from acereason_jax import types
from acereason_jax.evaluation import samples, values
from acereason_jax.evaluation.problems import Ready
from acereason_jax.verifiers.pool import pool as pool_lib

# A judge that fails more often is broken, and nobody waits for it one by one.
_ALONE = 64
# Verdicts that rollouts of earlier starts wait for at a time: their texts are
# on the disk, and stay there until then.
_AHEAD = 512
# Verdicts on one rollout: a failed one is asked for once more.
TRIES = 2


class Asked(NamedTuple):
  """A verdict that was asked for.

  key: rollout.
  judge: name of the judge.
  """

  key: samples.Key
  judge: str


class Pools:
  """Context manager: the workers of all judges.

  Judges of equal settings share their workers.

  Raises:
    ValueError: one line; a judge cannot be found, or cannot start.
  """

  def __init__(self, benchmarks: Sequence[values.Benchmark], workers: int):
    self._judges = {
      (b.name, name): judge
      for b in benchmarks
      for name, judge in b.judges.items()
    }
    self._workers = workers
    self._pools: dict[str, pool_lib.VerifierPool] = {}
    self._ended: queue.SimpleQueue = queue.SimpleQueue()
    self._asked: dict[concurrent.futures.Future, Asked] = {}

  def __enter__(self) -> 'Pools':
    with contextlib.ExitStack() as stack:
      for (benchmark, name), judge in self._judges.items():
        if (key := _settings(judge)) in self._pools:
          continue
        try:
          pool = _open(judge, self._workers)
        except (ValueError, RuntimeError) as e:
          raise ValueError(
            f'config.benchmarks.{benchmark}.judges.{name}: {e}'
          ) from e
        self._pools[key] = stack.enter_context(pool)
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exc: object) -> None:
    self._stack.close()

  @property
  def pending(self) -> int:
    """Number of verdicts that were asked for and not taken."""
    return len(self._asked)

  def of(self, benchmark: str, judge: str) -> pool_lib.VerifierPool:
    return self._pools[_settings(self._judges[benchmark, judge])]

  def ask(self, asked: Asked, text: str, answer: str) -> None:
    """Asks for a verdict; waits while too many texts wait for judges."""
    pool = self.of(asked.key.benchmark, asked.judge)
    future = pool.submit(text, answer)
    self._asked[future] = asked
    future.add_done_callback(self._ended.put)

  def ended(
    self, seconds: float = 0.0
  ) -> Iterator[tuple[Asked, types.Verdict]]:
    """The verdicts that came; waits `seconds` at most for the first."""
    while self._asked:
      try:
        future = (
          self._ended.get(timeout=seconds)
          if seconds
          else (self._ended.get_nowait())
        )
      except queue.Empty:
        return
      seconds = 0.0
      yield self._asked.pop(future), future.result()


def _open(judge: values.Judge, workers: int) -> pool_lib.VerifierPool:
  arguments = dict(judge.verify)
  return pool_lib.VerifierPool(
    arguments.pop('fn'),
    arguments,
    workers,
    judge.timeout_seconds,
    confine=judge.confine,
  )


def _settings(judge: values.Judge) -> str:
  """Equal for judges that may share workers."""
  return json.dumps(
    [judge.verify, judge.timeout_seconds, judge.confine], sort_keys=True
  )


class Judging:
  """Asks the judges and writes their verdicts into a store.

  `judges` are the names of each benchmark's judges.
  """

  def __init__(
    self, store: samples.Store, pools: Pools, ready: Sequence[Ready]
  ):
    self._store, self._pools = store, pools
    self._judges: Mapping[str, tuple[str, ...]] = {
      r.benchmark.name: tuple(r.benchmark.judges) for r in ready
    }
    self._answers = {
      (r.benchmark.name, p.row.id): p.row.answer
      for r in ready
      for p in r.problems
    }
    self._kept = collections.deque(
      key
      for key in store.own
      if key[:2] in self._answers and self._lacking(key)
    )

  def ask(self, key: samples.Key, text: str) -> None:
    """Asks each judge that a rollout lacks, and takes verdicts that came."""
    for judge in self._lacking(key):
      self._pools.ask(Asked(key, judge), text, self._answers[key[:2]])
    self._ask_for_kept()
    self.take()

  def take(self, seconds: float = 0.0) -> None:
    """Writes the verdicts that came; waits `seconds` at most for the first."""
    for (key, judge), verdict in self._pools.ended(seconds):
      self._store.write_verdict(judge, key, verdict)

  def work(self, seconds: float) -> bool:
    """Goes on for about `seconds`; whether all verdicts are there."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
      self._ask_for_kept()
      if not self._pools.pending and not self._ask_again():
        return True
      self.take(left)
    return False

  def _ask_for_kept(self) -> None:
    """Asks for some verdicts that rollouts of earlier starts lack."""
    while self._kept and self._pools.pending < _AHEAD:
      key = self._kept.popleft()
      text = self._store.text(key)
      for judge in self._lacking(key):
        self._pools.ask(Asked(key, judge), text, self._answers[key[:2]])

  def _lacking(self, key: samples.Key) -> list[str]:
    if self._store.own[key].stop == 'error':
      return []  # There is nothing to judge.
    return [
      judge
      for judge in self._judges[key.benchmark]
      if key not in self._store.verdicts[judge]
    ]

  def _ask_again(self) -> bool:
    """Asks for verdicts that failed once; whether there was one."""
    failed = [
      Asked(key, judge)
      for judge, found in self._store.verdicts.items()
      for key, verdict in found.items()
      if verdict.status in ('timeout', 'error')
      and verdict.failed < TRIES
      and key in self._store.own
      and key[:2] in self._answers
      and judge in self._judges[key.benchmark]
    ]
    # One by one, so that nothing else slows them down.
    for asked in failed[:_AHEAD] if len(failed) > _ALONE else failed[:1]:
      text = self._store.text(asked.key)
      self._pools.ask(asked, text, self._answers[asked.key[:2]])
    return bool(failed)
