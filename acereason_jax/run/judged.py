"""Statistics of judged groups: metrics, pass rates, failures of the judge.

A failed verdict is not an answer: means and rates are over judged rollouts.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from acereason_jax import types
from acereason_jax.evaluation import estimators
from acereason_jax.rl import objective
from acereason_jax.run.values import Judges


class JudgeFailed(RuntimeError):
  """Too many verdicts failed: the judge has to be fixed."""


class PassRate(NamedTuple):
  """The mean over prompts of the share of rollouts that were right.

  A prompt without a judged rollout is left out.

  rate: the mean; nan if nothing was judged.
  error: its standard error over other draws on the same prompts, which is what
    a change of the model has to exceed. With one rollout a prompt there is no
    such error, and this is the error over other prompts like these, which is
    larger. nan if neither exists. An estimate of 0 is none either: every prompt
    was always or never right.
  judged: number of judged rollouts.
  failed: number of failed verdicts.
  """

  rate: float
  error: float
  judged: int
  failed: int


def response_metrics(groups: Sequence[types.Group]) -> dict[str, float]:
  """Lengths of the rollouts, and entropy of the distributions drawn from.

  Sums are in order, so the bits do not depend on which rollout ended first.
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


def judge_metrics(
  groups: Sequence[types.Group], rules: objective.Rules
) -> dict[str, float]:
  """Mean reward and shares of verdicts; by domain too, if there are several.

  `reward` is the reward that the stage trains with, by its rules.
  `solved_share` is the share of groups with a reward above 0. `pass_rate` is
  the judge's. `zero_signal_share` is the share of groups without a gradient.
  """
  parts = by_domain(groups)
  each = {}
  if len(parts) > 1:
    for domain, part in sorted(parts.items()):
      each |= {
        f'{domain}/{k}': v for k, v in judge_metrics(part, rules).items()
      }
  reward, judged = objective.rewards(groups, rules)
  statuses = [v.status for g in groups for v in g.verdicts]
  return each | dict(
    reward=float(reward.sum() / max(judged.sum(), 1)),
    pass_rate=statuses.count('right') / max(judged.sum(), 1),
    solved_share=float((reward > 0).any(1).mean()),
    unparsed_share=statuses.count('unparsed') / len(statuses),
    judge_failed_share=1.0 - float(judged.mean()),
    zero_signal_share=zero_signal_share(groups, rules),
  )


def zero_signal_share(
  groups: Sequence[types.Group], rules: objective.Rules
) -> float:
  """The share of groups that have no gradient."""
  dull = [not objective.has_signal(g, rules) for g in groups]
  return sum(dull) / len(dull)


def pass_rate(groups: Sequence[types.Group]) -> PassRate:
  judged, right = collections.Counter(), collections.Counter()
  asked = 0
  for group in groups:
    asked += len(group.verdicts)
    judged[group.prompt.id] += sum(v.judged for v in group.verdicts)
    right[group.prompt.id] += sum(v.status == 'right' for v in group.verdicts)
  judged = +judged
  found = estimators.average(
    list(judged.values()), [right[prompt] for prompt in judged]
  )
  error = found.rerun_error
  if math.isnan(error):
    error = found.problems_error
  total = judged.total()
  return PassRate(found.avg, error or math.nan, total, asked - total)


def by_domain(
  groups: Sequence[types.Group],
) -> dict[str, list[types.Group]]:
  parts = collections.defaultdict(list)
  for group in groups:
    parts[group.prompt.domain].append(group)
  return dict(parts)


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
    broken = sum(r.stop == 'error' for r, _ in failed)
    rollout, verdict = failed[0]
    raise judge_failed(
      len(failed),
      len(pairs),
      max_failed_share,
      broken,
      rollout.prompt_id,
      verdict,
    )


def judge_failed(
  failed: int,
  total: int,
  max_failed_share: float,
  broken: int,
  prompt_id: str,
  verdict: types.Verdict,
) -> JudgeFailed:
  """The error of a judge that failed on `failed` of `total` rollouts.

  `broken` of them could not end. The prompt and the verdict are an example.
  """
  remedy = 'fix the judge config.judge.verify'
  if broken:
    remedy = f'{broken} are rollouts that could not end, whoever judges'
  return JudgeFailed(
    f'{failed} of {total} verdicts failed, a larger share than '
    f'config.judge.max_failed_share={max_failed_share}; {remedy}; the first: '
    f'{prompt_id}: {verdict.status}: {verdict.detail}'
  )
