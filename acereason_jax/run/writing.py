"""Writes a run's lines, metrics, sample rollouts and checkpoints."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.console import live
from acereason_jax.curriculum import parquet
from acereason_jax.data import archive
from acereason_jax.hosts import watchdog
from acereason_jax.rl import objective
from acereason_jax.rollout import trace
from acereason_jax.run import (
  answers,
  clock_file,
  keeping,
  metrics,
  profile,
  saving,
)
from acereason_jax.run import folder as folder_lib
from acereason_jax.run import heldout as heldout_lib
from acereason_jax.run import journal as journal_lib
from acereason_jax.run import keeper as keeper_lib
from acereason_jax.run.values import Run, Standing, Step


class Records(NamedTuple):
  """The outputs of a run.

  folder: folder of the run.
  checkpoints: checkpoints of the run.
  writer: writer of its metrics; None on all processes except the first.
  keeper: writer of its rollouts; likewise.
  meta: facts about the run in every checkpoint: config, data, dropped, changes.
  tracer: traces the steps that the user asked for.
  clock: clock of this start; None without one, as on all processes except the
    first.
  advance: puts a step into the display of the terminal.
  report: begins a report of the run as it is.
  """

  folder: folder_lib.Folder
  checkpoints: saving.Checkpoints
  writer: metrics.Writer | None
  keeper: keeper_lib.Keeper | None
  meta: Mapping[str, Any]
  tracer: profile.Tracer
  clock: clock_file.Clock | None
  advance: Callable[[live.Row], None] = lambda row: None
  report: Callable[[], None] = lambda: None


def write_step(
  run: Run, records: Records, at: Standing, step: Step, total: int
) -> None:
  """Prints and writes the results of a step; `total` is the run's last step."""
  with watchdog.phase('write'):
    if records.writer is not None:
      write_files(records, records.writer, at.progress.step, step)
    if records.keeper is not None:
      records.keeper.keep(step.kept)
    keep_looked(records, at, archive.HELDOUT, step.looked)
  with watchdog.phase('report'):
    print_step(run, at, step, total)
    records.advance(
      metrics.table_row(
        at.progress.step,
        total,
        step.values,
        stage=at.progress.stage,
        stages=len(run.stages),
      )
    )


def write_files(
  records: Records, writer: metrics.Writer, done: int, step: Step
) -> None:
  """Writes the metrics and the timeline of step `done`."""
  writer.write(done, step.values)
  trace.write_events(
    records.folder.local / 'timeline.jsonl',
    step.trace.events,
    step=done,
    **step.trace.metrics(),
  )
  if step.values['nonfinite']:
    # The batch that produced a gradient that is not finite.
    path = records.folder.local / f'nonfinite_{done}.npz'
    np.savez(path, **batch_arrays(step.groups))


def print_step(run: Run, at: Standing, step: Step, total: int) -> None:
  """Prints the line of a step, and some of its rollouts."""
  done = at.progress.step
  line = metrics.step_line(done, total, step.values)
  if looked := heldout_lib.format_rates(step.values):
    line = f'{line}  held out {looked}'
  if len(run.stages) > 1:
    line = f'{at.progress.stage}  {line}'
  metrics.say(line)
  if done % run.samples['every'] == 0:
    metrics.say(
      metrics.format_rollouts(
        step.groups,
        _rules(run, step),
        count=run.samples['count'],
        max_chars=run.samples['characters'],
      )
    )


def keep_looked(
  records: Records, at: Standing, phase: str, groups: Sequence[types.Group]
) -> None:
  """Keeps held-out answers, of which there may be none."""
  if records.keeper is not None and groups:
    progress = at.progress
    stage = '' if phase == archive.BEFORE else progress.stage
    place = archive.Place(progress.step, phase)
    records.keeper.keep(keeping.heldout(place, stage, groups))


def keep_probes(
  records: Records, at: Standing, probes: Sequence[answers.Probe]
) -> None:
  """Keeps the rows of all probes at the step of a standing."""
  if records.keeper is not None and any(p.answers for p in probes):
    step = at.progress.step
    place = archive.Place(step, archive.PROBE)
    with watchdog.phase('write'):
      records.keeper.keep_rows(place, answers.rows(probes, step))


def _rules(run: Run, step: Step) -> objective.Rules:
  """The rules of the stage that took the step."""
  index = int(step.values['stage'])
  stage = next(stage for stage in run.stages if stage.index == index)
  return stage.objective.rules


def batch_arrays(groups: Sequence[types.Group]) -> dict[str, np.ndarray]:
  """A batch as arrays by name, for a file: all rollouts, concatenated."""
  pairs = [(g, r, v) for g in groups for r, v in zip(g.rollouts, g.verdicts)]
  return dict(
    prompt_id=np.array([r.prompt_id for _, r, _ in pairs]),
    index=np.array([r.index for _, r, _ in pairs]),
    status=np.array([v.status for _, _, v in pairs]),
    prompt_length=np.array([len(g.prompt.tokens) for g, _, _ in pairs]),
    prompt_tokens=np.concatenate([g.prompt.tokens for g, _, _ in pairs]),
    length=np.array([len(r.tokens) for _, r, _ in pairs]),
    tokens=np.concatenate([r.tokens for _, r, _ in pairs]),
    logp=np.concatenate([r.logp for _, r, _ in pairs]),
  )


def save(
  run: Run,
  records: Records,
  journal: journal_lib.Journal,
  at: Standing,
  values: Mapping[str, float],
) -> None:
  """Starts a checkpoint of the standing after a step, which has these values.

  Its score is the value of `run.best`; a rate without judged rollouts is no
  score.
  """
  checkpoints, score = records.checkpoints, values.get(run.best)
  # The order matters. Only after the wait is the previous checkpoint certainly
  # on the disk, and the journal may forget only steps that such a checkpoint
  # holds. This checkpoint is not yet on the disk when `save` returns. A kill
  # may leave it torn; then the journal still has all steps since the previous
  # one.
  checkpoints.wait()
  if (saved := checkpoints.latest_step()) is not None:
    journal.forget(saved)
  journal.flush()
  if records.keeper is not None:
    records.keeper.wait()
  folder_lib.upload(records.folder)
  checkpoints.save(
    at.progress.step,
    at.state.saved(),
    at.progress._asdict(),
    {**records.meta, 'seconds': at.seconds},
    parquet.to_bytes(at.ledger),
    score if score is not None and math.isfinite(score) else None,
  )
