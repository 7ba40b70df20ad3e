"""Prompts to judged groups: rollouts go to the judges, verdicts come back.

A verdict that failed is no reward: it stays in its group as it is, and too
many of them stop the run.
"""

import typing
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.verifiers import pool as pool_lib

_STATUSES = typing.get_args(types.Status)


class JudgeFailed(RuntimeError):
  """Too many verdicts failed: it is the judge that needs mending."""


def judge(
  prompts: Sequence[types.Prompt],
  rollouts: Sequence[tuple[types.Rollout, ...]],
  pool: pool_lib.VerifierPool,
) -> list[types.Group]:
  """Groups with their verdicts, in order; the same on every process.

  Each process judges its share. A status decides the reward, so statuses
  travel; the details of other processes' verdicts stay there.
  """
  flat = [
    (rollout, prompt)
    for prompt, group in zip(prompts, rollouts)
    for rollout in group
  ]
  here, processes = jax.process_index(), jax.process_count()
  futures = {
    i: pool.submit(rollout.text, prompt.answer)
    for i, (rollout, prompt) in enumerate(flat)
    if i % processes == here
  }
  verdicts = {i: future.result() for i, future in futures.items()}
  if processes > 1:
    verdicts = _exchange(verdicts, len(flat))
  groups, i = [], 0
  for prompt, group in zip(prompts, rollouts):
    mine = tuple(verdicts[i + j] for j in range(len(group)))
    groups.append(types.Group(prompt, group, mine))
    i += len(group)
  return groups


def _exchange(
  mine: dict[int, types.Verdict], count: int
) -> dict[int, types.Verdict]:
  codes = np.zeros(count, np.int32)
  for i, verdict in mine.items():
    codes[i] = 1 + _STATUSES.index(verdict.status)
  codes = multihost_utils.process_allgather(codes).reshape(-1, count).sum(0)
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
  verdicts = [v for g in groups for v in g.verdicts]
  failed = [v for v in verdicts if not v.judged]
  if len(failed) > max_failed_share * len(verdicts):
    raise JudgeFailed(
      f'{len(failed)} of {len(verdicts)} verdicts failed, a larger share than '
      f'config.judge.max_failed_share={max_failed_share}; mend the judge '
      f'config.judge.fn; the first: {failed[0].status}: {failed[0].detail}'
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
  seed: int,
  max_failed_share: float,
) -> float:
  """The share of rollouts judged right; the same draws every time.

  Raises:
    JudgeFailed: see `check_judged`; asked of each batch.
  """
  right = 0
  for first in range(0, len(prompts), engine.prompts):
    batch = prompts[first : first + engine.prompts]
    rollouts, _ = engine.sample(params, batch, seed=seed, step=0)
    groups = judge(batch, rollouts, pool)
    check_judged(groups, max_failed_share)
    right += rewards(groups)[0].sum()
  return float(right / (len(prompts) * engine.groups))
