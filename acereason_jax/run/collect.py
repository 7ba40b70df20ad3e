"""Prompts to judged groups: rollouts go to the judges as they end.

A verdict that failed is no reward: it stays in its group as it is, and too
many of them stop the run. What the journal holds of an interrupted try is
neither decoded nor judged again.
"""

import collections
import concurrent.futures
import math
import time
import typing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rl import advantages
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import schedule
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
) -> tuple[list[types.Group], dict[str, float], schedule.Trace]:
  """Judged groups in order, the same on every process; metrics; the trace.

  A rollout goes to its domain's judges when it ends, while others are decoded,
  those first that are `expected` (by prompt id) to be long. Each process
  judges its share. A status decides the reward, so statuses travel; the
  details of other processes' verdicts stay there.
  """
  asked = schedule.requests(prompts, groups, engine.sizes.room, asking.taken)
  flat = [request for group in asked for request in group]
  place = {(r.prompt.id, r.index): i for i, r in enumerate(flat)}
  rollouts, verdicts, futures = {}, {}, {}
  trace = schedule.Trace()
  began = time.monotonic()

  def mine(i: int) -> bool:
    return i % jax.process_count() == jax.process_index()

  def judge(i: int, rollout: types.Rollout) -> None:
    rollouts[i] = rollout
    if rollout.stop == 'error':
      # Every process knows of these.
      verdicts[i] = types.Verdict('error', rollout.detail, 0.0)
    elif i not in verdicts and mine(i):
      prompt = flat[i].prompt
      futures[i] = judges[prompt.domain].pool.submit(
        rollout.text, prompt.answer
      )

  def keep(i: int, verdict: types.Verdict) -> None:
    verdicts[i] = verdict
    # One that failed is kept only with a batch that goes on (`keep_failed`):
    # else a judge that was mended would never be asked again.
    if verdict.judged and asking.phase:
      journal.verdict(asking.phase, asking.step, *key_of(flat[i]), verdict)

  for i, request in enumerate(flat):
    key = journal_lib.Key(asking.phase, asking.step, *key_of(request))
    rollout, verdict = journal.found.get(key, (None, None))
    if verdict is not None and rollout is not None:
      verdicts[i] = verdict
    if rollout is not None:
      judge(i, rollout)
  missing = [r for i, r in enumerate(flat) if i not in rollouts]
  seed, step = asking.origin
  for rollout in engine.stream(
    params,
    schedule.longest_first(missing, expected) if expected else missing,
    seed=seed,
    step=step,
    temperature=asking.temperature,
    trace=trace,
  ):
    i = place[rollout.prompt_id, rollout.index]
    if mine(i) and asking.phase:
      journal.rollout(asking.phase, asking.step, rollout)
    judge(i, rollout)
    for i in [i for i, future in futures.items() if future.done()]:
      keep(i, futures.pop(i).result())
  sampled = time.monotonic()
  seconds = {i: judges[flat[i].prompt.domain].batch_seconds for i in futures}
  for i, verdict in _verdicts(futures, seconds).items():
    keep(i, verdict)
  judged = time.monotonic()
  if jax.process_count() > 1:
    verdicts = _exchange(verdicts, len(flat))
  found = [
    types.Group(
      prompt, *zip(*((rollouts[i], verdicts[i]) for i in map(place.get, keys)))
    )
    for prompt, keys in zip(prompts, ([*map(key_of, g)] for g in asked))
  ]
  measured = dict(
    tokens_per_second=trace.tokens / max(sampled - began, 1e-9),
    seconds_sample=sampled - began,
    seconds_judge=judged - sampled,
  )
  return found, trace.metrics() | said(found) | measured, trace


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


def taken(groups: Sequence[types.Group]) -> dict[str, int]:
  """How many rollouts there are of each prompt."""
  return collections.Counter(r.prompt_id for g in groups for r in g.rollouts)


def key_of(request: schedule.Request) -> tuple[str, int]:
  return request.prompt.id, request.index


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
