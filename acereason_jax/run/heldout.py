"""Evaluates held-out questions: pass rates by domain."""

from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.data import references
from acereason_jax.hosts import watchdog
from acereason_jax.rl import update
from acereason_jax.run import collect, judged, metrics
from acereason_jax.run.values import Run, Tools


def ask_heldout(
  run: Run,
  state: update.TrainState,
  step: int,
  tools: Tools,
  domains: Sequence[str],
  phase: str = 'heldout',
) -> dict[str, float]:
  """Pass rates on held-out questions of domains; the same draws every time.

  A failed verdict is in no rate; the number of failed verdicts is printed.

  Raises:
    judged.JudgeFailed: see `judged.check_judged`.
    signals.Asked: what has ended is in the journal.
  """
  if not domains:
    return {}
  with watchdog.phase('heldout'):
    rates = pass_rates(run, state, step, tools, domains, phase)
  for domain, (_, count, failed) in rates.items():
    if failed:
      metrics.say(
        f'held-out questions of {domain}: {failed} of {count + failed} '
        'verdicts failed; the pass rate is of the others'
      )
  found = {f'heldout/{domain}': r.rate for domain, r in rates.items()}
  return found | {
    f'heldout_failed/{d}': float(r.failed) for d, r in rates.items()
  }


def pass_rates(
  run: Run,
  state: update.TrainState,
  step: int,
  tools: Tools,
  domains: Sequence[str],
  phase: str,
) -> dict[str, judged.PassRate]:
  """Pass rates by domain; the journal keeps answers at `phase` and `step`."""
  asking = collect.Asking((run.seed, 0), phase, step, run.heldout_temperature)
  groups = collect.collect(
    run.heldout_engine,
    run.rollout_params(state.weights),
    [p for d in domains for p in tools.prompts[d][references.HELDOUT]],
    tools,
    asking,
    groups=run.heldout_groups,
  ).groups
  judged.check_judged(groups, tools.judges)
  collect.keep_failed(groups, tools.journal, asking)
  return {d: judged.pass_rate(g) for d, g in judged.by_domain(groups).items()}


def format_rates(heldout: Mapping[str, Any]) -> str:
  """'41.0%', or for several domains 'math 52.0%, code 30.0%'."""
  rates = {
    k.removeprefix('heldout/'): f'{v:.1%}'
    for k, v in heldout.items()
    if k.startswith('heldout/')
  }
  if len(rates) == 1:
    return next(iter(rates.values()))
  return ', '.join(f'{k} {v}' for k, v in rates.items())


def mean_rate(heldout: Mapping[str, Any]) -> float:
  """The mean of the domains' rates."""
  rates = [v for k, v in heldout.items() if k.startswith('heldout/')]
  return sum(rates) / len(rates)
