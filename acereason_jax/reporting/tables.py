"""Tables of a report: looks, evaluations, a plan, verdicts, their details."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acereason_jax import storage, types
from acereason_jax.data import archive
from acereason_jax.evaluation import reading, shown
from acereason_jax.reporting import files, tallies, values

EVALS = 'evals'
_MOST_EVALS, _MOST_DETAILS, _MOST_LOOKS = 50, 40, 200
_NONE = shown.NONE
# The measured seconds of a step that the phases of a plan add up to.
PHASES = {
  'prefill': 'seconds_sample',
  'decode': 'seconds_sample',
  'judges': 'seconds_judge',
  'reshard': 'seconds_reshard',
  'update': 'seconds_update',
}


def verdicts(tally: tallies.Tally) -> values.Table:
  """Verdicts by phase, stage and domain."""
  keys = sorted({key[:3] for key in tally.cells})
  rows = []
  for key in keys:
    cells = [tally.cells.get((*key, status)) for status in types.STATUSES]
    there = [cell for cell in cells if cell is not None]
    total = sum(cell.rollouts for cell in there)
    part = lambda count, total=total: f'{count / total:.1%}'
    rows.append(
      [
        *(name or _NONE for name in key),
        f'{total:,}',
        *(part(cell.rollouts if cell else 0) for cell in cells),
        part(sum(cell.truncated for cell in there)),
        part(sum(cell.trained for cell in there)),
        f'{sum(cell.tokens for cell in there) / total:,.0f}',
      ]
    )
  head = ['phase', 'stage', 'domain', 'rollouts', *types.STATUSES]
  note = "Shares of rollouts. 'trained' is those with a gradient."
  if any(phase == archive.PROBE for phase, *_ in keys):
    note += (
      ' A probe stops asking a prompt once it is decided, so its shares are no '
      'pass rates.'
    )
  return values.Table(
    'Verdicts', note, [*head, 'cut off', 'trained', 'mean tokens'], rows
  )


def details(tally: tallies.Tally) -> values.Table:
  """Why rollouts are not right: the most frequent details of the judges."""
  rows = [
    [
      d.phase,
      d.domain,
      d.status,
      d.kind or '(none)',
      f'{d.count:,}',
      f'{d.first} to {d.last}',
      d.prompt,
    ]
    for d in tally.details[:_MOST_DETAILS]
  ]
  head = (
    'phase',
    'domain',
    'verdict',
    'detail',
    'rollouts',
    'steps',
    'example',
  )
  note = "# is any number, '..' any quoted text; the example is a prompt's id."
  return values.Table('Why answers are not right', note, head, rows)


def looks(metrics: Sequence[Mapping[str, Any]]) -> values.Table:
  """Held-out pass rates, the newest first."""
  rows = []
  for record in reversed(metrics):
    for name, rate in record.items():
      kind, _, domain = name.partition('/')
      if kind == 'heldout' and rate is not None:
        error = record.get(f'heldout_error/{domain}')
        failed = record.get(f'heldout_failed/{domain}') or 0
        rows.append(
          [
            str(record['step']),
            domain,
            shown.percent(rate),
            shown.error(error),
            f'{failed:.0f}',
          ]
        )
  head = 'after step', 'domain', 'pass rate, %', 'error', 'failed verdicts'
  cut = f'The newest {_MOST_LOOKS} of {len(rows)}.'
  note = cut if len(rows) > _MOST_LOOKS else ''
  return values.Table('Held-out looks', note, head, rows[:_MOST_LOOKS])


def evaluations(
  folder: str, more: Sequence[str]
) -> tuple[list[values.Table], list[str]]:
  """(tables, notes) of evaluations below the run, and in folders `more`.

  Raises:
    ValueError, OSError: one line; no results in one of `more`.
  """
  rows, notes = [], []
  for path in _found(folder):
    try:
      rows += _rows(path, reading.read(path))
    except (ValueError, OSError) as e:
      notes.append(f'Not read: {" ".join(str(e).split())[:200]}.')
  for path in more:
    rows += _rows(path, reading.read(path))
  if not rows:
    return [], notes
  head = (
    *('folder', 'step', 'benchmark', 'judge', 'right, %', 'error'),
    *('problems', 'answers', 'unparsed, %', 'cut off, %'),
  )
  return [values.Table('Evaluations', '', head, rows)], notes


def _found(folder: str) -> list[str]:
  """Files of results below the folder of a run's evaluations."""
  below = storage.join(folder, EVALS)
  return [
    storage.join(below, *name.split('/'))
    for name in storage.names(below)
    if os.path.basename(name) == reading.NAME
  ][:_MOST_EVALS]


def _rows(path: str, results: Mapping[str, Any]) -> Iterable[list[str]]:
  place = path.rstrip('/').removesuffix(reading.NAME).rstrip('/')
  step = results['model']['step']
  for bench, judges in results['benchmarks'].items():
    for judge, entry in judges.items():
      error = entry['rerun_error'] or entry['problems_error']
      yield [
        os.path.basename(place),
        _NONE if step is None else str(step),
        bench,
        judge,
        shown.percent(entry['avg']),
        shown.error(error),
        str(entry['problems']),
        str(entry['judged']),
        shown.percent(entry['unparsed']),
        shown.percent(entry['truncated']),
      ]


def plan(
  record: Any,
  metrics: Sequence[Mapping[str, Any]],
  bands: Sequence[values.Band],
) -> values.Table | None:
  """A plan of the run (`plan --json`) beside its measured seconds a step.

  None if the record plans no stage of the run.
  """
  stages = files.at(record, 'stages')
  rows = []
  for stage in stages if isinstance(stages, list) else ():
    name = files.at(stage, 'name')
    took = [b for b in bands if b.stage == name]
    planned = _planned(stage)
    if took and planned:
      steps = range(took[0].first, took[-1].last + 1)
      mine = [m for m in metrics if m['step'] in steps]
      rows += [
        [str(name), what, f'{seconds:,.2f}', *_measured(what, seconds, mine)]
        for what, seconds in planned.items()
      ]
  if not rows:
    return None
  head = 'stage', 'metric', 'planned, s', 'measured, s', 'measured / planned'
  where = files.at(record, 'hardware')
  note = f'Means of steps. The plan is simulated, for {str(where)[:100]}.'
  return values.Table('Plan and run', note, head, rows)


def _planned(stage: Any) -> dict[str, float]:
  """Planned seconds of a step by the metric that measures them."""
  found = {}
  for phase, metric in PHASES.items():
    seconds = files.at(stage, 'seconds', phase)
    if type(seconds) in (int, float):
      found[metric] = found.get(metric, 0.0) + seconds
  return found


def _measured(
  metric: str, planned: float, metrics: Sequence[Mapping[str, Any]]
) -> list[str]:
  seen = [v for m in metrics if (v := m.get(metric)) is not None]
  if not seen:
    return [_NONE, _NONE]
  mean = sum(seen) / len(seen)
  return [f'{mean:,.2f}', f'{mean / planned:.2f}' if planned else _NONE]


def all_tables(
  tally: tallies.Tally, metrics: Sequence[Mapping[str, Any]]
) -> list[values.Table]:
  """The tables that every run has, without those that have no row."""
  found = [looks(metrics), verdicts(tally), details(tally)]
  return [table for table in found if table.rows]
