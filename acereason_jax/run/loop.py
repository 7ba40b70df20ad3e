"""A run's stages, step by step: how they begin, continue and end.

Everything that a step needs from the past is in `Standing`, and a checkpoint
holds all of it. So a restart takes the same steps, and the journal has the
rollouts of the steps that were already taken.
"""

import time
from collections.abc import Mapping, Sequence

from acereason_jax.console import signals
from acereason_jax.curriculum import (
  ending,
  filtering,
  ledger,
  plateau,
  selection,
)
from acereason_jax.hosts import watchdog
from acereason_jax.rl import update
from acereason_jax.run import answers, folder, limits, metrics, writing
from acereason_jax.run import heldout as heldout_lib
from acereason_jax.run import probe as probe_lib
from acereason_jax.run import step as step_lib
from acereason_jax.run.values import (
  CONTROLS,
  Progress,
  Run,
  Stage,
  Standing,
  Step,
  Tools,
)


def run_stages(
  run: Run, at: Standing, tools: Tools, records: writing.Records
) -> Standing:
  """Takes all steps that are left, and saves on the way.

  Raises:
    signals.Asked: its work is saved, or in the journal.
    Stopped, judged.JudgeFailed, OSError: one line for the user.
  """
  total = total_steps(run, at.progress)
  done, doing = at.progress.step, watchdog.doing
  with metrics.display(total, done=done, doing=doing) as advance:
    if at.progress.step < total:
      metrics.say('the first step compiles the update too')
    records = records._replace(advance=advance)
    if records.clock is not None:
      records.clock.steps_begin(at.progress.step)
    here = run.stages.index(stage_of(run, at.progress))
    probes: list[answers.Probe] = []
    for stage in run.stages[here:]:
      if at.progress.stage != stage.name or not at.progress.stage_step:
        at, probes = begin(run, stage, at, tools, records, probes)
      at = run_stage(run, stage, at, tools, records)
      if stage is not run.stages[-1]:
        records.report()
  return at


def begin(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  records: writing.Records,
  probes: Sequence[answers.Probe],
) -> tuple[Standing, list[answers.Probe]]:
  """Begins a stage and keeps its probes; see `enter`.

  `probes` are those of stages that were over at once, at the same step: a file
  has all of a step. Returns those of the next stage's file.
  """
  began = time.monotonic()
  with watchdog.phase('enter', stage.name):
    at, more = enter(run, stage, at, tools)
  probes = [*probes, *more]
  writing.keep_probes(records, at, probes)
  at = add_seconds(at, began)
  over = stop_reason(stage, at.progress, at.ledger)
  # Else they would stay in memory to the end of the stage.
  return at, probes if over else []


def run_stage(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  records: writing.Records,
) -> Standing:
  """Takes steps until the stage is over. Raises: see `run_stages`."""
  unsaved = None
  reason = stop_reason(stage, at.progress, at.ledger)
  if reason is None:
    # A run does not look ahead at its end; now it may continue from there.
    at = look_ahead(run, stage, at, tools)
    reason = stop_reason(stage, at.progress, at.ledger)
  while reason is None:
    began = time.monotonic()
    try:
      with records.tracer.step(at.progress.step + 1):
        at, step = step_lib.take_step(run, stage, at, tools)
    except signals.Asked:
      if unsaved is not None:
        save(run, records, tools, at, unsaved)
      raise
    at, step = look_back(run, stage, at, tools, step)
    reason, done = step.reason, at.progress.step
    writing.write_step(run, records, at, step, total_steps(run, at.progress))
    limits.check_limits(stage, at, step)
    ends = reason and stage is run.stages[-1]
    stops = tools.stop.agreed() and not ends
    at = add_seconds(at, began)
    folder.check_there(records.folder)
    scored = run.best in step.values
    due = stops or reason or scored or done % run.checkpoint_every == 0
    if due:
      save(run, records, tools, at, step.values)
    unsaved = None if due else step.values
    # Its rollouts would stay in memory while the next ones are drawn.
    del step
    if records.clock is not None:
      with watchdog.phase('write'):
        records.clock.step_ended(done)
    if stops:
      raise signals.Asked
  if reason and (len(run.stages) > 1 or at.progress.over):
    metrics.say(f'stage {stage.name}: over, {reason}')
  return at


def save(
  run: Run,
  records: writing.Records,
  tools: Tools,
  at: Standing,
  values: Mapping[str, float],
) -> None:
  with watchdog.phase('save'):
    writing.save(run, records, tools.journal, at, values)


def add_seconds(at: Standing, began: float) -> Standing:
  return at._replace(seconds=at.seconds + time.monotonic() - began)


def total_steps(run: Run, progress: Progress) -> int:
  """Steps of this run if no stage ends before its last step."""
  here = run.stages.index(stage_of(run, progress))
  ahead = sum(s.stop.steps for s in run.stages[here:])
  return progress.step - progress.stage_step + ahead


def stage_of(run: Run, progress: Progress) -> Stage:
  return next(s for s in run.stages if s.name == progress.stage)


def enter(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
) -> tuple[Standing, list[answers.Probe]]:
  """Begins a stage, with its probes; `at` is the end of the previous stage.

  Raises:
    signals.Asked: nothing is lost, the journal has the results so far.
  """
  before, settings = at.progress.carried or {}, {}
  for name in CONTROLS:
    control = getattr(stage, name)
    settings[name] = control.first
    if control.carried is not None and name in before:
      settings[name] = control.carried(before[name])
  progress = at.progress._replace(
    stage=stage.name,
    stage_step=0,
    cursor=None,
    carried=step_lib.carried_settings(stage, settings),
    temperatures=(),
    history=(),
    over='',
    **settings,
  )
  at = at._replace(state=first_state(stage, at), progress=progress)
  probes = []
  for domain, own in stage.filters.items():
    if own.of:
      at, probe = probe_lib.probe(run, stage, domain, at, tools)
      probes.append(probe)
  return look_ahead(run, stage, at, tools), probes


def first_state(stage: Stage, at: Standing) -> update.TrainState:
  """The initial train state of a stage, from the last state before it."""
  state = at.state
  if at.progress.step and stage.carry is not None:
    state = stage.carry(state)
  elif at.progress.step:
    fresh = stage.init(state.params)
    state = fresh.replace(frozen=state.frozen, step=state.step)
  if stage.has_reference:
    return stage.update.reset_reference(state)
  return state.replace(reference={})


def look_ahead(run: Run, stage: Stage, at: Standing, tools: Tools) -> Standing:
  """`at`, with a reason in `over` if there is no next batch.

  A batch that cannot be filled is not begun: if the last epoch has fewer
  prompts left than a batch, they stay out. Raises: Stopped, see `step.draw`.
  """
  cursor = at.progress.cursor or {}
  if not selection.may_begin_epoch(cursor, stage.mix, stage.prompts):
    return at
  try:
    with watchdog.phase('draw'):
      step_lib.draw(run, stage, at, tools, cursor, stage.prompts)
  except filtering.NothingLeft as e:
    over = f'config.filter.{e}'
    return at._replace(progress=at.progress._replace(over=over))
  return at


def look_back(
  run: Run, stage: Stage, at: Standing, tools: Tools, step: Step
) -> tuple[Standing, Step]:
  """Asks held-out questions due after a step; checks whether the stage ends.

  Only questions of the stage's own domains are due; at a stage's end those of
  all domains are asked.

  Raises:
    Stopped, judged.JudgeFailed: one line for the user.
    signals.Asked: the journal has what was asked; the step is taken again.
  """
  done = at.progress.step
  ask = lambda domains: heldout_lib.ask_heldout(
    run, at.state, done - 1, tools, domains
  )
  due = ask([name for name in run.domains if is_due(stage, name, done)])
  heldout, looked = due.values, due.groups
  values = metrics.merge(step.values, heldout)
  history = newest_values(stage.stop, at.progress.history, values)
  at = at._replace(progress=at.progress._replace(history=history))
  if (found := rise(stage, at.progress, at.ledger)) is not None:
    gain = dict(stop_gain=found.gain, stop_gain_error=found.error)
    values = metrics.merge(values, gain)
  if not stop_reason(stage, at.progress, at.ledger):
    at = look_ahead(run, stage, at, tools)
  reason = stop_reason(stage, at.progress, at.ledger)
  if reason:
    rest = ask([n for n in run.domains if f'heldout/{n}' not in heldout])
    values = metrics.merge(values, rest.values)
    looked = looked + rest.groups
    end = dict(stage=stage.name, step=done, **heldout, **rest.values)
    ends = [*at.progress.heldout, end]
    at = at._replace(progress=at.progress._replace(heldout=ends))
  return at, step._replace(values=values, looked=looked, reason=reason)


def is_due(stage: Stage, domain: str, step: int) -> bool:
  """Whether a domain's held-out questions are asked after a step."""
  every = stage.evaluate_every.get(domain)
  return bool(every) and not step % every


def newest_values(
  stop: ending.Stop, history: Sequence[float], values: Mapping[str, float]
) -> list[float]:
  """The newest values of the stop rule's metric, as many as it uses."""
  if stop.metric not in values:
    return list(history)
  return [*history, values[stop.metric]][-2 * stop.window :]


def stop_reason(
  stage: Stage, progress: Progress, known: ledger.Ledger
) -> str | None:
  """Why a stage is over, or None."""
  reason = ending.should_stop(
    stage.stop,
    progress.stage_step,
    selection.epochs_done(progress.cursor or {}),
    rise(stage, progress, known),
  )
  return reason or progress.over or None


def rise(
  stage: Stage, progress: Progress, known: ledger.Ledger
) -> plateau.Rise | None:
  """The rise that the stop rule uses; see `ending.rise`."""
  return ending.rise(
    stage.stop,
    progress.history,
    known,
    stage.filters,
    stage=stage.name,
    since=progress.step - progress.stage_step,
    newest=progress.step,
    temperatures=progress.temperatures,
  )
