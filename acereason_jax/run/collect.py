"""Collects judged groups for prompts: rollouts are judged as they end.

A failed verdict is not a reward: it stays in its group unchanged, and
`judged.check_judged` stops the run if there are too many. Rollouts and verdicts
in the journal of an interrupted try are neither decoded nor judged again.
"""

import collections
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import judging, requests
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import clock
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Judges

_STATUSES = typing.get_args(types.Status)


class Asking(NamedTuple):
  """How rollouts are drawn, and where they are kept.

  origin: (seed, step) of their sampling keys.
  phase: their phase in the journal, such as 'train'; '': they are not kept.
  step: step under which the journal keeps them.
  temperature: temperature of the softmax that they are drawn from.
  taken: number of rollouts that this step already has, by prompt id; further
    ones get further indices.
  """

  origin: tuple[int, int]
  phase: str
  step: int
  temperature: float
  taken: Mapping[str, int] = types.EMPTY


class Collected(NamedTuple):
  """The result of `collect`.

  groups: judged groups, in the order of the prompts, the same on every process.
  trace: counters and events of the engine.
  sample: seconds until the last token.
  judge: seconds from there until the last verdict.
  """

  groups: list[types.Group]
  trace: trace_lib.Trace
  sample: clock.Seconds
  judge: clock.Seconds


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
  Prompts with the longest `expected` rollouts (tokens, by id) come first.
  """
  asked = requests.for_prompts(
    prompts, groups, engine.sizes.max_tokens, asking.taken
  )
  batch = _batch(asked, judges, journal, asking)
  missing = [r for r in batch.requests if r.key not in batch.earlier]
  trace = trace_lib.Trace()
  seed, step = asking.origin
  stream = engine.stream(
    params,
    requests.longest_first(missing, expected) if expected else missing,
    seed=seed,
    step=step,
    temperature=asking.temperature,
    trace=trace,
  )
  began = sampled = clock.now()

  def drawn() -> Iterator[types.Rollout]:
    nonlocal sampled
    yield from (entry.rollout for entry in batch.earlier.values())
    yield from _kept(batch, stream)
    sampled = clock.now()

  rollouts, verdicts = {}, {}
  judge = functools.partial(_judge, batch)
  patience = functools.partial(_patience, batch)
  for rollout, verdict in judging.judged(drawn(), judge, patience):
    rollouts[rollout.key] = rollout
    if verdict is not None:
      verdicts[rollout.key] = verdict
      _keep(batch, rollout, verdict)
  judged = clock.now()
  if jax.process_count() > 1:
    verdicts = _exchange(verdicts, batch.place)
  found = []
  for prompt, group in zip(prompts, asked):
    pairs = [(rollouts[r.key], verdicts[r.key]) for r in group]
    found.append(types.Group(prompt, *zip(*pairs)))
  return Collected(
    found,
    trace,
    clock.between(began, sampled),
    clock.between(sampled, judged),
  )


class _Batch(NamedTuple):
  """The requests of `collect`, and their results from an interrupted try.

  Each process judges its share. A status decides the reward, so processes
  exchange statuses; the details of a verdict stay on its process.

  requests: requests in order.
  place: (prompt id, index) -> place in `requests`.
  earlier: (prompt id, index) -> entry of the journal; each has its rollout.
  judges: judges by domain.
  journal: journal that keeps rollouts and verdicts.
  asking: how the rollouts are drawn.
  """

  requests: list[requests.Request]
  place: dict[tuple[str, int], int]
  earlier: dict[tuple[str, int], journal_lib.Entry]
  judges: Mapping[str, Judges]
  journal: journal_lib.Journal
  asking: Asking

  def is_mine(self, key: tuple[str, int]) -> bool:
    """Whether this process judges and keeps the rollout."""
    return self.place[key] % jax.process_count() == jax.process_index()

  def prompt(self, key: tuple[str, int]) -> types.Prompt:
    return self.requests[self.place[key]].prompt


def _batch(
  asked: Sequence[Sequence[requests.Request]],
  judges: Mapping[str, Judges],
  journal: journal_lib.Journal,
  asking: Asking,
) -> _Batch:
  flat = [request for group in asked for request in group]
  earlier = {}
  for request in flat:
    key = journal_lib.Key(asking.phase, asking.step, *request.key)
    entry = journal.found.get(key)
    if entry is not None and entry.rollout is not None:
      earlier[request.key] = entry
  place = {request.key: i for i, request in enumerate(flat)}
  return _Batch(flat, place, earlier, judges, journal, asking)


def _kept(
  batch: _Batch, stream: Iterator[types.Rollout]
) -> Iterator[types.Rollout]:
  """The stream; writes this process's share to the journal before it yields."""
  asking = batch.asking
  for rollout in stream:
    if asking.phase and batch.is_mine(rollout.key):
      batch.journal.rollout(asking.phase, asking.step, rollout)
    yield rollout


def _judge(batch: _Batch, rollout: types.Rollout) -> judging.Answer:
  if rollout.stop == 'error':
    # Every process knows these rollouts.
    return types.Verdict('error', rollout.detail, 0.0)
  if rollout.key in batch.earlier:
    known = batch.earlier[rollout.key].verdict
    if known is not None:
      return known
  if not batch.is_mine(rollout.key):
    return None
  prompt = batch.prompt(rollout.key)
  pool = batch.judges[prompt.domain].pool
  return pool.submit(rollout.text, prompt.answer)


def _patience(batch: _Batch, rollout: types.Rollout) -> float:
  """Seconds to wait for a verdict after a batch's last token."""
  prompt = batch.prompt(rollout.key)
  return batch.judges[prompt.domain].batch_seconds


def _keep(
  batch: _Batch, rollout: types.Rollout, verdict: types.Verdict
) -> None:
  """Writes a verdict to the journal, if it is new.

  A failed verdict is kept only with a batch that continues (`keep_failed`).
  Otherwise a judge that was fixed would never be asked again.
  """
  entry, asking = batch.earlier.get(rollout.key), batch.asking
  new = entry is None or entry.verdict is not verdict
  if new and verdict.judged and asking.phase:
    batch.journal.verdict(asking.phase, asking.step, *rollout.key, verdict)


def keep_failed(
  groups: Sequence[types.Group], journal: journal_lib.Journal, asking: Asking
) -> None:
  """Writes failed verdicts to the journal, so a replay does not ask again."""
  if jax.process_index() == 0:
    for group in groups:
      for r, verdict in zip(group.rollouts, group.verdicts):
        if not verdict.judged:
          journal.verdict(asking.phase, asking.step, *r.key, verdict)


def count_rollouts(groups: Sequence[types.Group]) -> dict[str, int]:
  """The number of rollouts of each prompt, by its id."""
  return collections.Counter(r.prompt_id for g in groups for r in g.rollouts)


def _exchange(
  mine: Mapping[tuple[str, int], types.Verdict],
  place: Mapping[tuple[str, int], int],
) -> dict[tuple[str, int], types.Verdict]:
  """All processes' verdicts; those of others have only a status."""
  codes = np.zeros(len(place), np.int32)
  for key, verdict in mine.items():
    codes[place[key]] = 1 + _STATUSES.index(verdict.status)
  codes = multihost_utils.process_allgather(codes).reshape(-1, len(place))
  codes = codes.max(0)
  assert codes.all(), 'a rollout without a verdict'
  others = 'judged by another process'
  return {
    key: mine[key]
    if key in mine
    else types.Verdict(_STATUSES[codes[i] - 1], others, 0.0)
    for key, i in place.items()
  }
