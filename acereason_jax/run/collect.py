"""Collects judged groups for prompts: rollouts are judged as they end.

A failed verdict is not a reward: it stays in its group unchanged, and
`judged.check_judged` stops the run if there are too many. Rollouts and verdicts
in the journal of an interrupted try are neither decoded nor judged again.
"""

import collections
import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.data import archive
from acereason_jax.hosts import gather, watchdog
from acereason_jax.models import base
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import judging, requests
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import clock
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Tools


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
  judge: seconds from there until this process's last verdict.
  waits: the wall seconds of `judge` of every process, in their order.
  """

  groups: list[types.Group]
  trace: trace_lib.Trace
  sample: clock.Seconds
  judge: clock.Seconds
  waits: np.ndarray


def collect(
  engine: engine_lib.Engine,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  tools: Tools,
  asking: Asking,
  *,
  groups: int,
  expected: Mapping[str, float] = types.EMPTY,
) -> Collected:
  """Samples `groups` rollouts of each prompt, and has them judged.

  A rollout goes to its domain's judges when it ends, while others are decoded.
  Prompts with the longest `expected` rollouts (tokens, by id) come first.

  Raises:
    signals.Asked: between chunks, or while judges work. What has ended is in
      the journal.
  """
  asked = requests.for_prompts(
    prompts, groups, engine.sizes.max_tokens, asking.taken
  )
  batch = _batch(asked, tools, asking)
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
    until=tools.stop.agreed,
  )
  began = clock.now()
  rollouts, verdicts, waiting = {}, {}, {}
  drawn = itertools.chain(
    (entry.rollout for entry in batch.earlier.values()), _kept(batch, stream)
  )
  judge = functools.partial(_judge, batch)
  # An engine compiles when it draws, not when all is in the journal.
  with watchdog.phase('sample', id(engine) if missing else 'journal'):
    for rollout, verdict in judging.judged(drawn, judge, waiting):
      rollouts[rollout.key] = rollout
      _take(batch, verdicts, rollout, verdict)
  tools.stop.heed()
  rollouts |= {rollout.key: rollout for rollout in waiting.values()}
  sampled = clock.now()
  with watchdog.phase('judge'):
    verdicts, judged, waits = _wait(batch, verdicts, waiting, sampled)
  found = []
  for prompt, group in zip(prompts, asked):
    pairs = [(rollouts[r.key], verdicts[r.key]) for r in group]
    found.append(types.Group(prompt, *zip(*pairs)))
  return Collected(found, trace, clock.between(began, sampled), judged, waits)


class _Batch(NamedTuple):
  """The requests of `collect`, and their results from an interrupted try.

  Each process judges its share. Processes exchange statuses each second, and
  at the end the details, which decide nothing.

  requests: requests in order.
  place: (prompt id, index) -> place in `requests`.
  earlier: (prompt id, index) -> entry of the journal; each has its rollout.
  tools: judges, the journal that keeps the results, and the stop.
  asking: how the rollouts are drawn.
  """

  requests: list[requests.Request]
  place: dict[tuple[str, int], int]
  earlier: dict[tuple[str, int], journal_lib.Entry]
  tools: Tools
  asking: Asking

  def is_mine(self, key: tuple[str, int]) -> bool:
    """Whether this process judges and keeps the rollout."""
    return self.place[key] % jax.process_count() == jax.process_index()

  def prompt(self, key: tuple[str, int]) -> types.Prompt:
    return self.requests[self.place[key]].prompt


def _batch(
  asked: Sequence[Sequence[requests.Request]],
  tools: Tools,
  asking: Asking,
) -> _Batch:
  flat = [request for group in asked for request in group]
  earlier = {}
  for request in flat:
    key = journal_lib.Key(asking.phase, asking.step, *request.key)
    entry = tools.journal.found.get(key)
    if entry is not None and entry.rollout is not None:
      earlier[request.key] = entry
  place = {request.key: i for i, request in enumerate(flat)}
  return _Batch(flat, place, earlier, tools, asking)


def _kept(
  batch: _Batch, stream: Iterator[types.Rollout]
) -> Iterator[types.Rollout]:
  """The stream; writes this process's share to the journal before it yields."""
  asking = batch.asking
  for rollout in stream:
    if asking.phase and batch.is_mine(rollout.key):
      batch.tools.journal.rollout(asking.phase, asking.step, rollout)
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
  pool = batch.tools.judges[prompt.domain].pool
  return pool.submit(rollout.text, prompt.answer)


def _patience(batch: _Batch, rollout: types.Rollout) -> judging.Patience:
  domain = batch.prompt(rollout.key).domain
  seconds = batch.tools.judges[domain].batch_seconds
  return judging.Patience(domain, seconds)


def _take(
  batch: _Batch,
  verdicts: dict[tuple[str, int], types.Verdict],
  rollout: types.Rollout,
  verdict: types.Verdict | None,
) -> None:
  """Adds a verdict to `verdicts`, and to the journal if it is new.

  A failed verdict is kept only with a batch that continues (`keep_failed`).
  Otherwise a judge that was fixed would never be asked again.
  """
  if verdict is None:
    return
  verdicts[rollout.key] = verdict
  entry, asking = batch.earlier.get(rollout.key), batch.asking
  new = entry is None or entry.verdict is not verdict
  if new and verdict.judged and asking.phase:
    batch.tools.journal.verdict(
      asking.phase, asking.step, *rollout.key, verdict
    )


def _wait(
  batch: _Batch,
  mine: dict[tuple[str, int], types.Verdict],
  waiting: judging.Waiting,
  sampled: clock.Seconds,
) -> tuple[dict[tuple[str, int], types.Verdict], clock.Seconds, np.ndarray]:
  """All verdicts, this process's seconds since `sampled`, and everyone's.

  Every process does as many rounds of `_exchange` as the one that waits
  longest. So they are at the same safe points.
  """

  def each_second() -> None:
    if jax.process_count() > 1:
      _exchange(mine, batch.place, 0.0)
    watchdog.progress()
    batch.tools.stop.heed()

  patience = functools.partial(_patience, batch)
  for rollout, verdict in judging.late(waiting, patience, each_second):
    _take(batch, mine, rollout, verdict)
  judged = clock.between(sampled, clock.now())
  if jax.process_count() == 1:
    return mine, judged, np.array([judged.wall])
  while True:
    codes, waits = _exchange(mine, batch.place, judged.wall)
    if codes.all():
      return _with_others(mine, batch.place, codes), judged, waits
    watchdog.progress()
    batch.tools.stop.heed()


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
  seconds: float,
) -> tuple[np.ndarray, np.ndarray]:
  """The statuses that processes know so far, 0 for none; all their seconds."""
  codes = np.zeros(len(place) + 1, np.int32)
  for key, verdict in mine.items():
    codes[place[key]] = 1 + types.STATUSES.index(verdict.status)
  codes[-1:].view(np.float32)[:] = seconds
  with watchdog.phase('exchange'):
    every = multihost_utils.process_allgather(codes)
  every = every.reshape(-1, len(codes))
  waits = np.ascontiguousarray(every[:, -1]).view(np.float32)
  return every[:, :-1].max(0), waits


def _with_others(
  mine: Mapping[tuple[str, int], types.Verdict],
  place: Mapping[tuple[str, int], int],
  codes: np.ndarray,
) -> dict[tuple[str, int], types.Verdict]:
  """All processes' verdicts; those of others have their detail, cut."""
  count, index = jax.process_count(), jax.process_index()
  details = share_details(
    {
      place[key]: verdict.detail
      for key, verdict in mine.items()
      if place[key] % count == index
    }
  )
  return {
    key: mine[key]
    if key in mine
    else types.Verdict(types.STATUSES[codes[i] - 1], details.get(i, ''), 0.0)
    for key, i in place.items()
  }


def share_details(mine: Mapping[int, str]) -> dict[int, str]:
  """The details that all processes have, cut, by the place of their requests.

  All processes call it.
  """
  told = [(i, detail[: archive.DETAIL_CHARS]) for i, detail in mine.items()]
  with watchdog.phase('exchange'):
    every = gather.everyones(_details_to_bytes(told))
  return dict(pair for data in every for pair in _details_of(data))


def _details_to_bytes(details: Sequence[tuple[int, str]]) -> bytes:
  # Not escaped, because two lone surrogates would be read back as one letter.
  text = json.dumps(details, ensure_ascii=False, separators=(',', ':'))
  return text.encode('utf-8', 'surrogatepass')


def _details_of(data: bytes | bytearray) -> list[tuple[int, str]]:
  return json.loads(bytes(data).decode('utf-8', 'surrogatepass'))
