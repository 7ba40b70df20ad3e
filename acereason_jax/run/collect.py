"""Prompts to judged groups: rollouts go to the judges as they end.

A verdict that failed is no reward: it stays in its group as it is, and
`judged.check_judged` stops the run where there are too many. What the journal
holds of an interrupted try is neither decoded nor judged again.
"""

import collections
import concurrent.futures
import time
import typing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import schedule
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Judges

_STATUSES = typing.get_args(types.Status)


class Asking(NamedTuple):
  """Where rollouts come from, and where they are kept.

  origin: (seed, step) of their sampling keys.
  phase: where they are in the journal, 'train' say; '': nowhere.
  step: their step in the journal.
  temperature: of the softmax that they are drawn from.
  taken: by prompt id, how many rollouts this step has already; further ones get
    further indices.
  """

  origin: tuple[int, int]
  phase: str
  step: int
  temperature: float
  taken: Mapping[str, int] = types.EMPTY


class Collected(NamedTuple):
  """What became of prompts.

  groups: judged, in the order of the prompts, the same on every process.
  trace: what the engine did.
  seconds_sample: until the last token.
  seconds_judge: from there until the last verdict.
  """

  groups: list[types.Group]
  trace: schedule.Trace
  seconds_sample: float
  seconds_judge: float


def collect(
  engine: engine_lib.Engine,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  judges: Mapping[str, Judges],
  journal: journal_lib.Journal,
  asking: Asking,
  *,
  groups: int,
  expected: Mapping[str, float] = types.EMPTY,
) -> Collected:
  """Samples `groups` rollouts of each prompt, and has them judged.

  A rollout goes to its domain's judges when it ends, while others are decoded.
  The prompts that are `expected` (by id, tokens) to have long ones come first.
  """
  asked = schedule.requests(prompts, groups, engine.sizes.room, asking.taken)
  flat = [request for group in asked for request in group]
  judging = _Judging(flat, judges, journal, asking)
  trace = schedule.Trace()
  began = time.monotonic()
  judging.replay()
  missing = judging.missing()
  seed, step = asking.origin
  for rollout in engine.stream(
    params,
    schedule.longest_first(missing, expected) if expected else missing,
    seed=seed,
    step=step,
    temperature=asking.temperature,
    trace=trace,
  ):
    judging.add(rollout)
  sampled = time.monotonic()
  judging.wait()
  ended = time.monotonic()
  pairs = iter(judging.judged())
  found = [
    types.Group(prompt, *zip(*(next(pairs) for _ in group)))
    for prompt, group in zip(prompts, asked)
  ]
  return Collected(found, trace, sampled - began, ended - sampled)


class _Judging:
  """Rollouts of a batch that are being judged; a place for each request.

  Each process judges its share. A status decides the reward, so statuses
  travel; the details of other processes' verdicts stay there.
  """

  def __init__(
    self,
    requests: Sequence[schedule.Request],
    judges: Mapping[str, Judges],
    journal: journal_lib.Journal,
    asking: Asking,
  ):
    self._requests = requests
    self._judges = judges
    self._journal = journal
    self._asking = asking
    self._places = {(r.prompt.id, r.index): i for i, r in enumerate(requests)}
    self._rollouts: dict[int, types.Rollout] = {}
    self._verdicts: dict[int, types.Verdict] = {}
    self._futures: dict[int, concurrent.futures.Future] = {}

  def replay(self) -> None:
    """Takes what the journal has of these requests."""
    for i, request in enumerate(self._requests):
      key = journal_lib.Key(
        self._asking.phase, self._asking.step, request.prompt.id, request.index
      )
      rollout, verdict = self._journal.found.get(key, (None, None))
      if rollout is not None:
        if verdict is not None:
          self._verdicts[i] = verdict
        self._judge(i, rollout)

  def missing(self) -> list[schedule.Request]:
    """The requests that have no rollout yet."""
    return [r for i, r in enumerate(self._requests) if i not in self._rollouts]

  def add(self, rollout: types.Rollout) -> None:
    """Keeps and submits a new rollout; keeps the verdicts that are there."""
    i = self._places[rollout.prompt_id, rollout.index]
    if _is_mine(i) and self._asking.phase:
      self._journal.rollout(self._asking.phase, self._asking.step, rollout)
    self._judge(i, rollout)
    for i in [i for i, future in self._futures.items() if future.done()]:
      self._keep(i, self._futures.pop(i).result())

  def wait(self) -> None:
    """Waits for the last verdicts, as long as their judges may take."""
    seconds = {
      i: self._judges[self._requests[i].prompt.domain].batch_seconds
      for i in self._futures
    }
    for i, verdict in _verdicts(self._futures, seconds).items():
      self._keep(i, verdict)

  def judged(self) -> list[tuple[types.Rollout, types.Verdict]]:
    """Every request's rollout and verdict, with other processes' verdicts."""
    verdicts, count = self._verdicts, len(self._requests)
    if jax.process_count() > 1:
      verdicts = _exchange(verdicts, count)
    return [(self._rollouts[i], verdicts[i]) for i in range(count)]

  def _judge(self, i: int, rollout: types.Rollout) -> None:
    self._rollouts[i] = rollout
    if rollout.stop == 'error':
      # Every process knows of these.
      self._verdicts[i] = types.Verdict('error', rollout.detail, 0.0)
    elif i not in self._verdicts and _is_mine(i):
      prompt = self._requests[i].prompt
      self._futures[i] = self._judges[prompt.domain].pool.submit(
        rollout.text, prompt.answer
      )

  def _keep(self, i: int, verdict: types.Verdict) -> None:
    self._verdicts[i] = verdict
    # One that failed is kept only with a batch that goes on (`keep_failed`):
    # else a judge that was fixed would never be asked again.
    if verdict.judged and self._asking.phase:
      rollout = self._rollouts[i]
      self._journal.verdict(
        self._asking.phase,
        self._asking.step,
        rollout.prompt_id,
        rollout.index,
        verdict,
      )


def _is_mine(i: int) -> bool:
  """Whether this process judges and keeps the rollout of place i."""
  return i % jax.process_count() == jax.process_index()


def keep_failed(
  groups: Sequence[types.Group], journal: journal_lib.Journal, asking: Asking
) -> None:
  """Has the journal know which verdicts failed: a replay must not ask again."""
  if jax.process_index() == 0:
    for group in groups:
      for r, verdict in zip(group.rollouts, group.verdicts):
        if not verdict.judged:
          place = r.prompt_id, r.index
          journal.verdict(asking.phase, asking.step, *place, verdict)


def count_rollouts(groups: Sequence[types.Group]) -> dict[str, int]:
  """How many rollouts there are of each prompt, by its id."""
  return collections.Counter(r.prompt_id for g in groups for r in g.rollouts)


def _verdicts(
  futures: Mapping[int, concurrent.futures.Future],
  seconds: Mapping[int, float],
) -> dict[int, types.Verdict]:
  """The verdicts that are there after `seconds`; the others are 'timeout'."""
  began = time.monotonic()
  for limit in sorted(set(seconds.values())):
    waited = [f for i, f in futures.items() if seconds[i] == limit]
    left = max(began + limit - time.monotonic(), 0.0)
    concurrent.futures.wait(waited, left)
  found = {}
  for i, future in futures.items():
    late = f'{seconds[i]:g} s after the last token'
    found[i] = (
      future.result() if future.done() else types.Verdict('timeout', late, 0.0)
    )
    # Those that run on are ended by their own limit; nobody asks them.
    future.cancel()
  return found


def _exchange(
  mine: dict[int, types.Verdict], count: int
) -> dict[int, types.Verdict]:
  """This process's verdicts and the statuses of the others', of all places."""
  codes = np.zeros(count, np.int32)
  for i, verdict in mine.items():
    codes[i] = 1 + _STATUSES.index(verdict.status)
  codes = multihost_utils.process_allgather(codes).reshape(-1, count).max(0)
  assert codes.all(), 'a rollout without a verdict'
  return {
    i: mine[i]
    if i in mine
    else types.Verdict(_STATUSES[code - 1], 'judged by another process', 0.0)
    for i, code in enumerate(codes)
  }
