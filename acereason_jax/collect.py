"""Prompts to judged groups: rollouts go to the judges as they end.

A verdict that failed is no reward: it stays in its group as it is, and too
many of them stop the run.
"""

import concurrent.futures
import itertools
import time
import typing
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import schedule
from acereason_jax.verifiers import pool as pool_lib

_STATUSES = typing.get_args(types.Status)


class JudgeFailed(RuntimeError):
  """Too many verdicts failed: it is the judge that needs mending."""


def collect(
  engine: engine_lib.Engine,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  pool: pool_lib.VerifierPool,
  *,
  groups: int,
  seed: int,
  step: int,
  batch_seconds: float,
) -> tuple[list[types.Group], dict[str, float], schedule.Trace]:
  """Judged groups in order, the same on every process; metrics; the trace.

  A rollout goes to a judge when it ends, while others are decoded. Each
  process judges its share. A status decides the reward, so statuses travel;
  the details of other processes' verdicts stay there. What is not judged
  `batch_seconds` after the last token is waited for no longer: 'timeout'.
  """
  asked = schedule.requests(prompts, groups, engine.sizes.room)
  flat = [request for group in asked for request in group]
  place = {(r.prompt.id, r.index): i for i, r in enumerate(flat)}
  rollouts, futures = {}, {}
  trace = schedule.Trace()
  began = time.monotonic()
  for rollout in engine.stream(params, flat, seed=seed, step=step, trace=trace):
    i = place[rollout.prompt_id, rollout.index]
    rollouts[i] = rollout
    mine = i % jax.process_count() == jax.process_index()
    if mine and rollout.stop != 'error':
      futures[i] = pool.submit(rollout.text, flat[i].prompt.answer)
  sampled = time.monotonic()
  verdicts = _verdicts(futures, batch_seconds)
  judged = time.monotonic()
  # Every process knows of these.
  for i, rollout in rollouts.items():
    if rollout.stop == 'error':
      verdicts[i] = types.Verdict('error', rollout.detail, 0.0)
  if jax.process_count() > 1:
    verdicts = _exchange(verdicts, len(flat))
  order = iter(range(len(flat)))
  found = [
    types.Group(prompt, *zip(*((rollouts[i], verdicts[i]) for i in indices)))
    for prompt, indices in (
      (prompt, list(itertools.islice(order, groups))) for prompt in prompts
    )
  ]
  seconds = dict(
    tokens_per_second=trace.tokens / max(sampled - began, 1e-9),
    seconds_sample=sampled - began,
    seconds_judge=judged - sampled,
  )
  return found, trace.metrics() | said(found) | seconds, trace


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
  futures: Mapping[int, concurrent.futures.Future], seconds: float
) -> dict[int, types.Verdict]:
  """The verdicts that are there after `seconds`; the others are 'timeout'."""
  concurrent.futures.wait(futures.values(), seconds)
  late = types.Verdict('timeout', f'{seconds:g} s after the last token', 0.0)
  verdicts = {i: f.result() if f.done() else late for i, f in futures.items()}
  for future in futures.values():
    # Those that run on are ended by their own limit; nobody asks them.
    future.cancel()
  return verdicts


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


def rewards(groups: Sequence[types.Group]) -> tuple[np.ndarray, np.ndarray]:
  """Rewards and whether the judge succeeded, both [P, G]."""
  judged = np.array([[v.judged for v in g.verdicts] for g in groups])
  reward = np.array(
    [[v.reward if v.judged else 0.0 for v in g.verdicts] for g in groups]
  )
  return reward, judged


def check_judged(
  groups: Sequence[types.Group], max_failed_share: float
) -> None:
  """Raises JudgeFailed if more than this share of the verdicts failed."""
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


def judge_metrics(groups: Sequence[types.Group]) -> dict[str, float]:
  """Mean reward and shares of verdicts."""
  reward, judged = rewards(groups)
  statuses = [v.status for g in groups for v in g.verdicts]
  return dict(
    reward=float(reward.sum() / max(judged.sum(), 1)),
    pass_rate=statuses.count('right') / max(judged.sum(), 1),
    solved_share=float(reward.any(1).mean()),
    unparsed_share=statuses.count('unparsed') / len(statuses),
    judge_failed_share=1.0 - float(judged.mean()),
  )


def heldout_pass_rate(
  engine: engine_lib.Engine,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  pool: pool_lib.VerifierPool,
  *,
  groups: int,
  seed: int,
  batch_seconds: float,
  max_failed_share: float,
) -> float:
  """The share of rollouts judged right; the same draws every time.

  Raises:
    JudgeFailed: see `check_judged`.
  """
  judged, _, _ = collect(
    engine,
    params,
    prompts,
    pool,
    groups=groups,
    seed=seed,
    step=0,
    batch_seconds=batch_seconds,
  )
  check_judged(judged, max_failed_share)
  return float(rewards(judged)[0].mean())
