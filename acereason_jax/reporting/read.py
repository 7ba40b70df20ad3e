"""From the folder of a run to the values of its report.

The folder may be on a disk or at gs://, of an older run that lacks some files,
or of one that is still going on. What is missing is a note, not an error.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from acereason_jax import storage
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.reporting import (
  alarms,
  config,
  curves,
  evidence,
  facts,
  files,
  living,
  looks,
  made,
  recipe,
  tables,
  tallies,
  values,
  waste,
)
from acereason_jax.reporting import prompts as prompts_lib
from acereason_jax.run import account

# Runs that a run is compared with.
MOST_COMPARED = 5
EVERY = range(1 << 40)
_MOST_STAYS = 50_000


class Source(NamedTuple):
  """The files of a run.

  name: its name on the page.
  folder: its folder.
  metrics: see `files.metrics`.
  config: config as JSON; None without one.
  summary: its summary; None if it is not over.
  starts: its starts.
  clock: lines of its clock.
  notes: what could not be read, one sentence each.
  """

  name: str
  folder: str
  metrics: Sequence[dict[str, Any]]
  config: Any
  summary: Any
  starts: Sequence[files.Begun]
  clock: Sequence[account.Line]
  notes: Sequence[str]


def source(folder: str) -> Source:
  """The files of a run, without its rollouts.

  Raises:
    OSError, ValueError: one line; no such run, or one without a step.
  """
  metrics = files.metrics(files.text(folder, files.METRICS))
  if not metrics:
    raise ValueError(f'{folder}: {_no_metrics(folder)}')
  return around(folder, metrics)


def around(folder: str, metrics: Sequence[dict[str, Any]]) -> Source:
  """The files of a run whose metrics were read. Raises: OSError, ValueError."""
  notes = []
  read = lambda name: _read(folder, name, notes)
  found = Source(
    os.path.basename(os.path.normpath(folder)) or folder,
    folder,
    metrics,
    read(files.CONFIG),
    read(files.SUMMARY),
    _starts(folder, notes),
    waste.read_clock(files.text(folder, files.CLOCK)),
    notes,
  )
  missing = (
    (found.config, f'{files.CONFIG}: the run has no config to show'),
    (found.starts, f'{files.STARTS}: restarts are unknown'),
    (found.clock, f'{files.CLOCK}: hours are sums of the seconds of steps'),
  )
  notes += [f'There is no {what}.' for value, what in missing if not value]
  return found


def _no_metrics(folder: str) -> str:
  if not storage.is_remote(folder) and not os.path.isdir(folder):
    return 'no such run; give the folder of a run'
  return (
    f'its {files.METRICS} holds no step; give the folder of a run that has '
    'taken one'
  )


def _read(folder: str, name: str, notes: list[str]) -> Any:
  """The JSON value of a file; a note if it is damaged."""
  try:
    return files.value(folder, name)
  except ValueError as e:
    notes.append(f'Not read: {e}.')
    return None


def _starts(folder: str, notes: list[str]) -> list[files.Begun]:
  """The starts; a note if the file is damaged. Raises: OSError."""
  try:
    return files.starts(folder)
  except ValueError as e:
    notes.append(f'Not read: {e}.')
    return []


def report(
  folder: str,
  *,
  ledger: ledger_lib.Ledger | None,
  samples: values.Samples,
  compare: Sequence[str] = (),
  evals: Sequence[str] = (),
  steps: range = EVERY,
) -> values.Report:
  """The report of a run.

  Args:
    folder: its folder.
    ledger: ledger of its newest checkpoint; None without one.
    samples: rollouts of the page.
    compare: folders of other runs.
    evals: folders of evaluations, beside those below the run.
    steps: the steps to show.

  Raises:
    OSError, ValueError: one line; no such run, a run or an evaluation that
      cannot be read, or no step among `steps`.
  """
  run, others = source(folder), [source(other) for other in compare]
  run, *others = _named_apart([run, *others])
  tally, shown = tallies.tally(folder, steps), _among(run, steps)
  before = _before(run, steps, tally)
  drawn = [curves_of(run, steps, before)]
  drawn += [curves_of(each, steps) for each in others]
  spent = waste.tree(run.clock, run.metrics, steps) if run.clock else None
  if ledger is not None:
    ledger = ledger_lib.within(ledger, steps)
  name = recipe.name_of(folder, run.starts)
  fields, notes = _fields(run, others, name)
  first = [record for record in before if record['step'] in steps]
  tables_, more = _tables(run, first, shown, drawn[0], tally, evals)
  slots = _slots(folder, steps, more)
  notes = [*_only(shown, steps), *run.notes, *notes, *more, *tally.notes]
  notes += [*_missing(ledger, tally), *_behind(ledger, shown)]
  notes += [line for other in others for line in _differences(run, other)]
  seen = evidence.Evidence(
    shown, drawn[0].bands, run.config, tally, run.starts, spent
  )
  return values.Report(
    name=run.name,
    facts=_head(run, before, drawn[0], name, tally),
    alarms=alarms.alarms(seen),
    curves=drawn,
    samples=samples,
    prompts=None if ledger is None else prompts_lib.prompts(ledger),
    slots=slots,
    waste=spent,
    fields=fields,
    tables=tables_,
    notes=notes,
  )


def _before(
  run: Source, steps: range, tally: tallies.Tally
) -> list[dict[str, Any]]:
  """See `looks.before`; the head tells it whatever the steps are."""
  step = run.metrics[0]['step'] - 1
  if step not in steps:
    tally = tallies.tally(run.folder, range(step, step + 1))
  return looks.before(run.summary, tally, run.metrics)


def _head(
  run: Source,
  before: Sequence[dict[str, Any]],
  drawn: values.Curves,
  name: str,
  tally: tallies.Tally,
) -> list[tuple[str, str]]:
  starts, lives = living.lives(run.folder, run.starts)
  return facts.facts(
    [*before, *run.metrics],
    drawn,
    run.config,
    name,
    run.summary,
    starts,
    lives,
    tally,
  )


def _fields(
  run: Source, others: Sequence[Source], name: str
) -> tuple[list[values.Field], list[str]]:
  """(fields of the config, notes)."""
  file, note = recipe.read(name, recipe.folders())
  compared = {other.name: other.config for other in others}
  found = config.fields(run.config, file, recipe.default(), compared)
  return found, [note] if note else []


def _only(shown: Sequence[dict[str, Any]], steps: range) -> list[str]:
  """A note if only some steps are shown."""
  if steps == EVERY:
    return []
  first, last = shown[0]['step'], shown[-1]['step']
  return [
    f'--steps: only steps {first} to {last} are shown, in curves, rollouts, '
    'prompts, slots, time, tables of rows and what to look at first. The time '
    "of a step begins at the end of the step before it, and that of the run's "
    "last step ends with the run. Of the head, the run's state, starts and "
    'held-out rates are of all steps; its tokens and wall time count from the '
    f'first step of the run to step {last}.'
  ]


def _missing(
  ledger: ledger_lib.Ledger | None, tally: tallies.Tally
) -> list[str]:
  found = (
    (tally.rollouts, 'rollouts/: verdicts are known from the metrics only'),
    (ledger is not None, 'checkpoint: prompts are unknown'),
  )
  return [f'There is no {what}.' for there, what in found if not there]


def _behind(
  ledger: ledger_lib.Ledger | None, shown: Sequence[dict[str, Any]]
) -> list[str]:
  """A note if the checkpoint with the prompts is older than the metrics."""
  if ledger is None:
    return []
  if not len(ledger):
    return ['The newest checkpoint has no prompts of these steps.']
  asked, last = int(ledger.rows['step'].max()), shown[-1]['step']
  if asked >= last:
    return []
  return [
    f'Prompts are those of the newest checkpoint, until step {asked}; the '
    f'metrics go to step {last}.'
  ]


def _named_apart(sources: Sequence[Source]) -> list[Source]:
  """Runs with names that differ: those of one name have their folders'."""
  names = [each.name for each in sources]
  return [
    each._replace(name=each.folder) if names.count(each.name) > 1 else each
    for each in sources
  ]


def _among(run: Source, steps: range) -> list[dict[str, Any]]:
  """Metrics of the steps. Raises ValueError, one line, if it took none."""
  found = [record for record in run.metrics if record['step'] in steps]
  if not found:
    taken = f'{run.metrics[0]["step"]} to {run.metrics[-1]["step"]}'
    raise ValueError(
      f'{run.folder}: has none of these steps; it took steps {taken}'
    )
  return found


def curves_of(
  run: Source,
  steps: range = EVERY,
  before: Sequence[dict[str, Any]] = (),
) -> values.Curves:
  """The curves of the steps among `steps`; see `curves.curves`."""
  return curves.curves(
    run.name,
    run.metrics,
    files.stage_names(run.config),
    run.starts,
    run.clock,
    steps,
    before or looks.before(run.summary, tallies.Tally(), run.metrics),
  )


def _differences(run: Source, other: Source) -> list[str]:
  """What makes two runs hard to compare."""
  notes = []
  span = lambda source: (source.metrics[0]['step'], source.metrics[-1]['step'])
  (a, b), (c, d) = span(run), span(other)
  if (a, b) != (c, d):
    notes.append(
      f'{other.name} took steps {c} to {d}, this run {a} to {b}; curves are '
      'aligned by step.'
    )
  stages = [files.stage_names(source.config) for source in (run, other)]
  if stages[0] != stages[1]:
    mine, theirs = (', '.join(names)[:200] for names in stages)
    notes.append(f'{other.name} has the stages {theirs}, this run {mine}.')
  notes += made.differences(run.starts, other.starts, other.name)
  return [*notes, *(f'{other.name}: {line}' for line in other.notes)]


def _tables(
  run: Source,
  first: Sequence[dict[str, Any]],
  shown: Sequence[dict[str, Any]],
  drawn: values.Curves,
  tally: tallies.Tally,
  evals: Sequence[str],
) -> tuple[list[values.Table], list[str]]:
  """(tables, notes)."""
  found, notes = tables.evaluations(run.folder, evals)
  plan = tables.plan(_read(run.folder, files.PLAN, notes), shown, drawn.bands)
  found += [plan] if plan else []
  return [*found, *tables.all_tables(tally, [*first, *shown])], notes


def _slots(folder: str, steps: range, notes: list[str]) -> values.Slots | None:
  """The slots of the newest step; a note if they are not shown."""
  try:
    found = files.timeline(folder)
  except ValueError as e:
    notes.append(f'Not read: {" ".join(str(e).split())[:200]}.')
    return None
  if found is None:
    notes.append(f'There is no {files.TIMELINE}: slots are unknown.')
    return None
  header, events = found
  step = header.get('step')
  step = step if type(step) is int else 0
  if step not in steps:
    notes.append(
      f'Slots are known of the newest step only, {step}, which is not shown.'
    )
    return None
  if len(events) > _MOST_STAYS:
    notes.append(f'Drawn are the first {_MOST_STAYS:,} stays in slots.')
  number = lambda v: f'{v:,.4g}' if isinstance(v, float) else str(v)[:100]
  return values.Slots(
    step,
    [(str(k)[:100], number(v)) for k, v in list(header.items())[:100]],
    [values.Stay(*event) for event in events[:_MOST_STAYS]],
  )
