"""Evaluates held-out questions: pass rates by domain."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.config import stages
from acereason_jax.data import references
from acereason_jax.evaluation import shown
from acereason_jax.hosts import watchdog
from acereason_jax.rl import update
from acereason_jax.run import collect, judged, metrics
from acereason_jax.run.values import Run, Tools


class Look(NamedTuple):
  """The result of `ask_heldout`.

  values: metrics.
  groups: judged answers, one in each group.
  """

  values: dict[str, float]
  groups: list[types.Group]


def ask_heldout(
  run: Run,
  state: update.TrainState,
  step: int,
  tools: Tools,
  domains: Sequence[str],
  phase: str = 'heldout',
) -> Look:
  """Pass rates on held-out questions of domains; the same draws every time.

  `heldout/DOMAIN` is the rate and `heldout_error/DOMAIN` the error that
  `judged.PassRate` describes; no error is given where none exists. Because the
  draws are the same every time, two looks differ by less than their errors
  where the model has not changed.

  A failed verdict is in no rate; the number of failed verdicts is printed.

  Raises:
    judged.JudgeFailed: see `judged.check_judged`.
    signals.Asked: what has ended is in the journal.
  """
  if not domains:
    return Look({}, [])
  with watchdog.phase('heldout'):
    groups = answers(run, state, step, tools, domains, phase)
  rates = {d: judged.pass_rate(g) for d, g in judged.by_domain(groups).items()}
  found = {}
  for domain, r in rates.items():
    if r.failed:
      metrics.say(
        f'held-out questions of {domain}: {r.failed} of {r.judged + r.failed} '
        'verdicts failed; the pass rate is of the others'
      )
    found[f'heldout/{domain}'] = r.rate
    found[f'heldout_failed/{domain}'] = float(r.failed)
    if not math.isnan(r.error):
      found[f'heldout_error/{domain}'] = r.error
  return Look(found, groups)


def answers(
  run: Run,
  state: update.TrainState,
  step: int,
  tools: Tools,
  domains: Sequence[str],
  phase: str,
) -> list[types.Group]:
  """Judged answers; the journal keeps them at `phase` and `step`."""
  asking = collect.Asking((run.seed, 0), phase, step, run.heldout_temperature)
  # A prompt that is listed again goes on with its next index, so domains with
  # different numbers of rollouts are one stream.
  listed = [
    prompt
    for domain in domains
    for prompt in tools.prompts[domain][references.HELDOUT]
    for _ in range(run.domains[domain].heldout_per_prompt)
  ]
  groups = collect.collect(
    run.heldout_engine,
    run.rollout_params(state.weights),
    listed,
    tools,
    asking,
    groups=1,
  ).groups
  judged.check_judged(groups, tools.judges)
  collect.keep_failed(groups, tools.journal, asking)
  return groups


def format_rates(heldout: Mapping[str, Any]) -> str:
  """'41.0% +-2.1', or for domains 'code 30.0% +-1.0, math 52.0% +-2.1'.

  '' without a rate. What follows +- is the error, in points. The domain of a
  run that has no domains is not named.
  """
  told = []
  for name, value in sorted(heldout.items()):
    section, _, domain = name.partition('/')
    if section == 'heldout':
      who = '' if domain == stages.MAIN else f'{domain} '
      error = heldout.get(f'heldout_error/{domain}')
      bar = '' if error is None else f' {shown.error(error)}'
      told.append(f'{who}{value:.1%}{bar}')
  return ', '.join(told)


def mean_rate(
  heldout: Mapping[str, Any], domains: Collection[str]
) -> float | None:
  """The mean of the domains' rates; None if one of them was not asked."""
  rates = [heldout.get(f'heldout/{domain}') for domain in domains]
  return None if None in rates else sum(rates) / len(rates)
