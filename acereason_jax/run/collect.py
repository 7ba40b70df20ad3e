"""Prompts to judged groups: rollouts go to the judges as they end.

A verdict that failed is no reward: it stays in its group as it is, and too
many of them stop the run. What the journal holds of an interrupted try is
neither decoded nor judged again.
"""

import collections
import functools
import math
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rl import advantages
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import judging, requests
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import journal as journal_lib
from acereason_jax.verifiers.pool import pool as pool_lib

_STATUSES = typing.get_args(types.Status)


class JudgeFailed(RuntimeError):
  """Too many verdicts failed: it is the judge that needs mending."""


class Judges(NamedTuple):
  """Who judges the rollouts of a domain.

  What is not judged `batch_seconds` after a batch's last token is waited for
  no longer; more than `max_failed_share` of failed verdicts stop the run.
  """

  pool: pool_lib.VerifierPool
  batch_seconds: float
  max_failed_share: float


class Asking(NamedTuple):
  """Where rollouts come from, and where they are kept.

  `origin` is (seed, step) of their keys; `phase` and `step` are their place in
  the journal, which has none for the phase ''. `taken` is how many rollouts of
  a prompt this step has already: further ones get further indices.
  """

  origin: tuple[int, int]
  phase: str
  step: int
  temperature: float
  taken: Mapping[str, int] = types.EMPTY


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
) -> tuple[list[types.Group], dict[str, float], trace_lib.Trace]:
  """Judged groups in order, the same on every process; metrics; the trace.

  A rollout goes to its domain's judges when it ends, while others are decoded,
  those first that are `expected` (by prompt id) to be long. Each process
  judges its share. A status decides the reward, so statuses travel; the
  details of other processes' verdicts stay there.
  """
  asked = requests.for_prompts(prompts, groups, engine.sizes.room, asking.taken)
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
  began = sampled = time.monotonic()

  def drawn() -> Iterator[types.Rollout]:
    nonlocal sampled
    yield from (entry.rollout for entry in batch.earlier.values())
    yield from _kept(batch, stream)
    sampled = time.monotonic()

  rollouts, verdicts = {}, {}
  judge = functools.partial(_judge, batch)
  patience = functools.partial(_patience, batch)
  for rollout, verdict in judging.judged(drawn(), judge, patience):
    rollouts[rollout.key] = rollout
    if verdict is not None:
      verdicts[rollout.key] = verdict
      _keep(batch, rollout, verdict)
  judged = time.monotonic()
  if jax.process_count() > 1:
    verdicts = _exchange(verdicts, batch.place)
  found = []
  for prompt, group in zip(prompts, asked):
    pairs = [(rollouts[r.key], verdicts[r.key]) for r in group]
    found.append(types.Group(prompt, *zip(*pairs)))
  measured = dict(
    tokens_per_second=trace.tokens / max(sampled - began, 1e-9),
    seconds_sample=sampled - began,
    seconds_judge=judged - sampled,
  )
  return found, trace.metrics() | said(found) | measured, trace


class _Batch(NamedTuple):
  """What `collect` asks for, and what an interrupted try left of it.

  requests: in order.
  place: (prompt id, index) to the place in `requests`.
  earlier: (prompt id, index) to what the journal has; each with its rollout.
  judges: by domain.
  journal: where rollouts and verdicts are kept.
  asking: see `Asking`.
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
  """The stream; this process's share is in the journal when it comes."""
  asking = batch.asking
  for rollout in stream:
    if asking.phase and batch.is_mine(rollout.key):
      batch.journal.rollout(asking.phase, asking.step, rollout)
    yield rollout


def _judge(batch: _Batch, rollout: types.Rollout) -> judging.Answer:
  if rollout.stop == 'error':
    # Every process knows of these.
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
  """Seconds after a batch's last token."""
  prompt = batch.prompt(rollout.key)
  return batch.judges[prompt.domain].batch_seconds


def _keep(
  batch: _Batch, rollout: types.Rollout, verdict: types.Verdict
) -> None:
  """Writes a verdict to the journal, if it is new.

  One that failed is kept only with a batch that goes on (`keep_failed`): else
  a judge that was fixed would never be asked again.
  """
  entry, asking = batch.earlier.get(rollout.key), batch.asking
  new = entry is None or entry.verdict is not verdict
  if new and verdict.judged and asking.phase:
    batch.journal.verdict(asking.phase, asking.step, *rollout.key, verdict)


def keep_failed(
  groups: Sequence[types.Group], journal: journal_lib.Journal, asking: Asking
) -> None:
  """Has the journal know which verdicts failed: a replay must not ask again."""
  if jax.process_index() == 0:
    for group in groups:
      for r, verdict in zip(group.rollouts, group.verdicts):
        if not verdict.judged:
          journal.verdict(asking.phase, asking.step, *r.key, verdict)


def taken(groups: Sequence[types.Group]) -> dict[str, int]:
  """How many rollouts there are of each prompt."""
  return collections.Counter(r.prompt_id for g in groups for r in g.rollouts)


def said(groups: Sequence[types.Group]) -> dict[str, float]:
  """How long the rollouts are, and the entropy of what they were drawn from.

  Added up in order: the same bits whichever rollout ended first.
  """
  rollouts = [r for g in groups for r in g.rollouts]
  tokens = sum(len(r.tokens) for r in rollouts)
  stops = [r.stop for r in rollouts]
  return dict(
    response_tokens=float(tokens),
    response_length=tokens / len(rollouts),
    truncated_share=stops.count('length') / len(rollouts),
    rollout_errors=float(stops.count('error')),
    entropy=sum(r.entropy for r in rollouts) / max(tokens, 1),
  )


def _exchange(
  mine: Mapping[tuple[str, int], types.Verdict],
  place: Mapping[tuple[str, int], int],
) -> dict[tuple[str, int], types.Verdict]:
  """All processes' verdicts; of others' only the status is known."""
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


def check_judged(
  groups: Sequence[types.Group], judges: Mapping[str, Judges]
) -> None:
  """Raises JudgeFailed if more than a domain's share of verdicts failed."""
  for domain, part in by_domain(groups).items():
    _check_judged(part, judges[domain].max_failed_share)


def _check_judged(
  groups: Sequence[types.Group], max_failed_share: float
) -> None:
  pairs = [pair for g in groups for pair in zip(g.rollouts, g.verdicts)]
  failed = [(r, v) for r, v in pairs if not v.judged]
  if len(failed) > max_failed_share * len(pairs):
    rollout, verdict = failed[0]
    broken = sum(r.stop == 'error' for r, _ in failed)
    remedy = 'mend the judge config.judge.fn'
    if broken:
      remedy = f'{broken} are rollouts that could not end, whoever judges'
    raise JudgeFailed(
      f'{len(failed)} of {len(pairs)} verdicts failed, a larger share than '
      f'config.judge.max_failed_share={max_failed_share}; {remedy}; the first: '
      f'{rollout.prompt_id}: {verdict.status}: {verdict.detail}'
    )


def judge_metrics(
  groups: Sequence[types.Group], rules: advantages.Rules
) -> dict[str, float]:
  """Mean reward and shares of verdicts; by domain too, if there are several.

  `reward` is what the stage trains with, by its rules, and `solved_share` that
  of groups with a reward above 0; `pass_rate` is the judge's. Means are of what
  was judged. `zero_signal_share` is that of groups without a gradient.
  """
  parts = by_domain(groups)
  each = {}
  if len(parts) > 1:
    for domain, part in sorted(parts.items()):
      each |= {
        f'{domain}/{k}': v for k, v in judge_metrics(part, rules).items()
      }
  reward, judged = advantages.rewards(groups, rules)
  dull = [not advantages.has_signal(g, rules) for g in groups]
  statuses = [v.status for g in groups for v in g.verdicts]
  return each | dict(
    reward=float(reward.sum() / max(judged.sum(), 1)),
    pass_rate=statuses.count('right') / max(judged.sum(), 1),
    solved_share=float((reward > 0).any(1).mean()),
    unparsed_share=statuses.count('unparsed') / len(statuses),
    judge_failed_share=1.0 - float(judged.mean()),
    zero_signal_share=sum(dull) / len(dull),
  )


class PassRate(NamedTuple):
  """`rate` of the `judged` verdicts were right (nan of none); others failed."""

  rate: float
  judged: int
  failed: int


def pass_rate(groups: Sequence[types.Group]) -> PassRate:
  statuses = [v.status for g in groups for v in g.verdicts]
  judged = sum(v.judged for g in groups for v in g.verdicts)
  rate = statuses.count('right') / judged if judged else math.nan
  return PassRate(rate, judged, len(statuses) - judged)


def heldout_pass_rates(
  engine: engine_lib.Engine,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  judges: Mapping[str, Judges],
  journal: journal_lib.Journal,
  asking: Asking,
  *,
  groups: int,
) -> dict[str, PassRate]:
  """The share of the judged rollouts that were right, by domain.

  Raises:
    JudgeFailed: see `check_judged`.
  """
  judged, _, _ = collect(
    engine, params, prompts, judges, journal, asking, groups=groups
  )
  check_judged(judged, judges)
  keep_failed(judged, journal, asking)
  return {d: pass_rate(part) for d, part in by_domain(judged).items()}


def by_domain(
  groups: Sequence[types.Group],
) -> dict[str, list[types.Group]]:
  parts = collections.defaultdict(list)
  for group in groups:
    parts[group.prompt.domain].append(group)
  return dict(parts)
