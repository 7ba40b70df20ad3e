"""The metrics of a run as curves, with its stages, restarts, hours and tokens.

hours  wall time from the first start to the end of each step, with what
       restarts lost; the sum of the steps' seconds without a clock
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.reporting import files, names, values
from acereason_jax.run import account

Metrics = Sequence[Mapping[str, Any]]


def curves(
  run: str,
  metrics: Metrics,
  stages: Sequence[str],
  starts: Sequence[files.Begun],
  clock: Sequence[account.Line],
  steps: range,
  before: Metrics = (),
) -> values.Curves:
  """The curves of the steps among `steps`.

  Args:
    run: name of the run.
    metrics: see `files.metrics`.
    stages: names of the config's stages, in order.
    starts: starts of the run.
    clock: lines of its clock; () if it has none.
    steps: the steps to show; hours and tokens count from the first of all.
    before: what was measured before the first step, with its place.
  """
  early = [record for record in before if record['step'] in steps]
  shown = [i for i, m in enumerate(metrics) if m['step'] in steps]
  drawn = [*early, *(metrics[i] for i in shown)]
  every = set().union(*drawn)
  hours, tokens = hours_of(metrics, clock), tokens_of(metrics)
  series = [
    values.Series(
      name, *names.named(name), [record.get(name) for record in drawn]
    )
    for name in names.ordered(every)
  ]
  return values.Curves(
    run,
    [record['step'] for record in drawn],
    [0.0] * len(early) + [hours[i] for i in shown],
    [0.0] * len(early) + [tokens[i] for i in shown],
    bands([metrics[i] for i in shown], stages),
    sorted({s.step for s in starts[1:] if s.step in steps}),
    [s for s in series if any(v is not None for v in s.values)],
  )


def bands(metrics: Metrics, stages: Sequence[str]) -> list[values.Band]:
  """The steps of each stage; a stage that the config lacks has its number."""

  def stage(record: Mapping[str, Any]) -> str:
    index = record.get('stage')
    if index is None or not 0 <= index < len(stages):
      return '' if index is None else f'stage {index:.0f}'
    return stages[int(index)]

  found = []
  for name, group in itertools.groupby(metrics, stage):
    steps = [record['step'] for record in group]
    found.append(values.Band(name or 'unknown', steps[0], steps[-1]))
  return found


def hours_of(metrics: Metrics, clock: Sequence[account.Line]) -> list[float]:
  """Wall hours at the end of each step, never falling."""
  ended, hours, latest = _ends(clock), [], 0.0
  for record in metrics:
    known = ended.get(record['step'])
    seconds = record.get('seconds_step') or 0.0
    latest = max(latest, latest + seconds / 3600 if known is None else known)
    hours.append(latest)
  return hours


def _ends(clock: Sequence[account.Line]) -> dict[int, float]:
  """The hour at which each step was done, the last time that it was taken."""
  if not clock:
    return {}
  began = clock[0].time - sum(clock[0].seconds.values())
  found, before = {0: 0.0}, None
  for line in clock:
    same = before is not None and before.start == line.start
    # The first line of a start may only say where the start began.
    if line.step > before.step if same else line.step not in found:
      found[line.step] = (line.time - began) / 3600
    before = line
  return found


def tokens_of(metrics: Metrics) -> list[float]:
  """Tokens of all responses until the end of each step."""
  tokens = (record.get('response_tokens') or 0.0 for record in metrics)
  return list(itertools.accumulate(tokens))
