"""The facts of a report's head."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import acereason_jax
from acereason_jax.evaluation import shown
from acereason_jax.reporting import files, made, tallies, values


def facts(
  metrics: Sequence[Mapping[str, Any]],
  curves: values.Curves,
  config: Any,
  name: str,
  summary: Any,
  starts: Sequence[files.Begun],
  lives: bool | None,
  tally: tallies.Tally,
) -> list[tuple[str, str]]:
  """(name, value) pairs.

  Args:
    metrics: all metrics of the run, the look before its first step included.
    curves: its curves.
    config: its config; None if it is unknown.
    name: what the recipe's file is called; '' if it is unknown.
    summary: summary.json of a run that is over; None without one.
    starts: its starts.
    lives: whether a process of the last start lives; None if it is unknown.
    tally: its rows.
  """
  model = files.at(config, 'model')
  pairs = [
    ('recipe', name or 'unknown'),
    ('model', model if isinstance(model, str) else 'unknown'),
    ('state', _state(starts, summary, metrics[-1]['step'], lives)),
    ('reached', _reached(curves, config)),
    *_heldout(metrics),
    ('rollouts', f'{tally.rollouts:,}' if tally.rollouts else 'not recorded'),
    (
      'tokens of training',
      f'{curves.tokens[-1]:,.0f}' if curves.tokens else 'none',
    ),
    ('wall time', f'{curves.hours[-1]:,.2f} h' if curves.hours else 'none'),
    ('starts', f'{len(starts)}' if starts else 'unknown'),
    *made.facts(starts),
    ('report made by', f'acereason_jax {acereason_jax.__version__}'),
  ]
  return [(what, value[:300]) for what, value in pairs]


def _state(
  starts: Sequence[files.Begun], summary: Any, step: int, lives: bool | None
) -> str:
  # The start that writes a summary has not ended yet.
  if files.at(summary, 'steps') == step:
    return 'over'
  if not starts:
    return 'unknown'
  told = {
    'done': 'over',
    'asked': 'stopped by a signal; the same command resumes it',
    'told': 'stopped with an error to fix; see its output',
  }
  if starts[-1].ended in told:
    return told[starts[-1].ended]
  if lives is None:
    return 'going on, or died'
  if lives:
    return 'going on'
  return 'died (no process holds its lock); the same command resumes it'


def _reached(curves: values.Curves, config: Any) -> str:
  if not curves.bands:
    return 'no step'
  last, stages = curves.bands[-1], files.stage_names(config)
  if len(stages) == 1:
    return f'step {last.last}'
  place = stages.index(last.stage) + 1 if last.stage in stages else 0
  which = f', {place} of {len(stages)}' if place else ''
  return f'step {last.last}, stage {last.stage}{which}'


def _heldout(
  metrics: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, str]]:
  """The first, best and last held-out rate of each domain."""
  looks: dict[str, list[tuple[int, float, float | None]]] = {}
  for record in metrics:
    for key, rate in record.items():
      kind, _, domain = key.partition('/')
      if kind == 'heldout' and isinstance(rate, int | float):
        error = record.get(f'heldout_error/{domain}')
        known = error if isinstance(error, int | float) else None
        looks.setdefault(domain, []).append((record['step'], rate, known))
  for domain, found in sorted(looks.items()):
    who = 'held-out' if domain == 'main' else f'held-out, {domain}'
    best = max(found, key=lambda look: look[1])
    told = dict(first=found[0], best=best, last=found[-1])
    if len(found) == 1:
      told = dict(first=found[0])
    yield (
      who,
      '; '.join(f'{which} {_rate(*look)}' for which, look in told.items()),
    )


def _rate(step: int, rate: float, error: float | None) -> str:
  bar = '' if error is None else f' {shown.error(error)}'
  return f'{shown.percent(rate)}%{bar} (step {step})'
