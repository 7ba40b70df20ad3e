"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again goes on where the run stopped. The end of a stage, the
looks at held-out questions and stages that have not begun may differ then: see
docs/recipe.md. Exit status 75 means stopped by a signal and saved; 1, something
for the user to fix, in one line (--verbosity=1 shows the traceback too).
"""

import contextlib
import errno
import json
import math
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from acereason_jax import timeline
from acereason_jax.config import reader as settings
from acereason_jax.console import exits, jax_setup, terminal
from acereason_jax.curriculum import parquet
from acereason_jax.run import checkpoint as checkpoint_lib
from acereason_jax.run import collect, loop, metrics, start
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.build import Run, Stage, build, say

CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' on TPU pods and Slurm."
)
PROCESSES = flags.DEFINE_integer('processes', 1, 'Processes of this run.')
PROCESS = flags.DEFINE_integer('process', 0, 'Index of this process.')


class Records(NamedTuple):
  """Where a run writes what it does; one process alone has a `writer`."""

  workdir: pathlib.Path
  checkpoints: checkpoint_lib.Checkpoints
  writer: metrics.Writer | None


def write_step(
  run: Run, records: Records, at: loop.Standing, step: loop.Step, total: int
) -> None:
  done = at.progress.step
  if records.writer is not None:
    records.writer.write(done, step.values)
    timeline.write_events(
      records.workdir / 'timeline.jsonl',
      step.trace.events,
      step=done,
      **step.trace.metrics(),
    )
  line = metrics.step_line(done, total, step.values)
  if len(run.stages) > 1:
    line = f'{at.progress.stage}  {line}'
  say(line)
  if done % run.samples['every'] == 0:
    say(
      metrics.format_rollouts(
        step.groups,
        count=run.samples['count'],
        max_chars=run.samples['characters'],
      )
    )


def keep_bad_batch(records: Records, done: int, step: loop.Step) -> None:
  """Keeps what a gradient that was not finite came from."""
  if step.values['nonfinite'] and records.writer is not None:
    path = records.workdir / f'nonfinite_{done}.npz'
    np.savez(path, **loop.arrays_of(step.groups))


def save(
  run: Run,
  records: Records,
  at: loop.Standing,
  meta: Mapping[str, Any],
  step: loop.Step,
) -> None:
  """Starts a checkpoint; a rate of nothing that was judged is no score."""
  checkpoints, score = records.checkpoints, step.values.get(run.best)
  checkpoints.save(
    at.progress.step,
    at.state.saved(),
    at.progress._asdict(),
    meta,
    parquet.to_bytes(at.ledger),
    score if score is not None and math.isfinite(score) else None,
  )


def run_stage(
  run: Run,
  stage: Stage,
  at: loop.Standing,
  meta: dict,
  tools: loop.Tools,
  records: Records,
  preemption: checkpoint_lib.Preemption,
  advance: Callable[[], None],
) -> tuple[loop.Standing, dict, bool]:
  """Steps until the stage is over (True) or asked to stop (False)."""
  stop = False
  reason = loop.stop_reason(stage, at.progress, at.ledger)
  if reason is None:
    # Where a run ended it did not look ahead; now it may go on from there.
    at = loop.looked_ahead(run, stage, at, tools)
    reason = loop.stop_reason(stage, at.progress, at.ledger)
  while reason is None and not stop:
    began = time.monotonic()
    at, step = loop.take_step(run, stage, at, tools)
    reason = step.reason
    done = at.progress.step
    write_step(run, records, at, step, total_steps(run, at.progress))
    advance()
    keep_bad_batch(records, done, step)
    loop.check_limits(stage, at, step)
    ends = reason and stage is run.stages[-1]
    stop = preemption.requested(done) and not ends
    meta = dict(meta, seconds=meta['seconds'] + time.monotonic() - began)
    best = run.best in step.values
    check_there(records.workdir)
    if stop or reason or best or done % run.checkpoint_every == 0:
      records.checkpoints.wait()
      if (saved := records.checkpoints.latest_step()) is not None:
        tools.journal.forget(saved)
      save(run, records, at, meta, step)
  if reason and (len(run.stages) > 1 or at.progress.over):
    say(f'stage {stage.name}: over, {reason}')
  return at, meta, not stop


def total_steps(run: Run, progress: loop.Progress) -> int:
  """Steps of this run if no stage ends before its last step."""
  here = run.stages.index(loop.stage_of(run, progress))
  ahead = sum(s.stop.steps for s in run.stages[here:])
  return progress.step - progress.stage_step + ahead


def run_stages(
  run: Run,
  at: loop.Standing,
  meta: dict,
  tools: loop.Tools,
  records: Records,
) -> tuple[loop.Standing, dict, bool]:
  """Stages until done (True) or asked to stop (False); saves as it goes."""
  total = total_steps(run, at.progress)
  with (
    checkpoint_lib.Preemption() as preemption,
    terminal.progress_bar(total, done=at.progress.step) as advance,
  ):
    if at.progress.step < total:
      say('the first step compiles the update too')
    here = run.stages.index(loop.stage_of(run, at.progress))
    for stage in run.stages[here:]:
      if at.progress.stage != stage.name or not at.progress.stage_step:
        began = time.monotonic()
        try:
          at = loop.enter(run, stage, at, tools, preemption.flagged)
        except loop.Interrupted:
          return at, meta, False
        spent = time.monotonic() - began
        meta = dict(meta, seconds=meta['seconds'] + spent)
      at, meta, over = run_stage(
        run, stage, at, meta, tools, records, preemption, advance
      )
      if not over:
        return at, meta, False
  return at, meta, True


def train(run: Run, workdir: pathlib.Path) -> int:
  """Trains to the end, or until asked to stop; returns the exit status."""
  kinds = OSError, collect.JudgeFailed, loop.Stopped, checkpoint_lib.Damaged
  with (
    exits.mendable(*kinds, where=f'{workdir}: '),
    contextlib.ExitStack() as stack,
  ):
    # Before anything is swept or written: no two runs in one folder.
    workdir.mkdir(parents=True, exist_ok=True)
    for note in stack.enter_context(journal_lib.locked(lock_of(workdir))):
      say(note)
    stack.enter_context(told_if_gone(workdir))
    checkpoints = stack.enter_context(
      checkpoint_lib.Checkpoints(
        workdir, keep=run.checkpoint_keep, best=run.best
      )
    )
    with exits.mendable(ValueError):
      meta = start.earlier(run, checkpoints)
      if meta is not None and (
        done := start.finished(run, checkpoints, workdir)
      ):
        more = '' if run.config['stages'] else '; a larger config.steps goes on'
        say(f'finished already: {done}{more}')
        return 0
    # Kept by the checkpoints: see references.py.
    dropped = start.screen(run, workdir) if meta is None else meta['dropped']
    saved = checkpoints.latest_step()
    tools = start.open_tools(run, workdir, dropped, saved, stack)
    say(f'attention of the update: {run.attention}')
    with exits.mendable(ValueError):
      if meta is None:
        at = start.begin(run)
      else:
        at = start.restore(run, checkpoints, meta['changes'])
    if meta is None:
      began = time.monotonic()
      with heeded_interrupt():
        at = start.first_look(run, at, tools)
      meta = dict(config=run.config, data=run.digests, dropped=dropped)
      meta |= dict(changes=[])
      meta |= dict(seconds=time.monotonic() - began)
    writer = None
    if jax.process_index() == 0:
      (workdir / 'config.json').write_text(json.dumps(run.config, indent=2))
      file = workdir / 'changes.json'
      # Those of a try that saved nothing are none, once they are taken back.
      if meta['changes'] or file.exists():
        file.write_text(json.dumps(meta['changes'], indent=2))
      writer = stack.enter_context(
        metrics.Writer(workdir, resume_step=at.progress.step + 1)
      )
    records = Records(workdir, checkpoints, writer)
    at, meta, over = run_stages(run, at, meta, tools, records)
    checkpoints.wait()
    if not over:
      # Who closed the terminal reads it no more.
      with contextlib.suppress(SystemExit):
        say(f'stopped and saved after step {at.progress.step}; run it again')
      return exits.STOPPED
    heldout = at.progress.heldout
    before, after = start.shown(heldout[0]), start.shown(heldout[-1])
    say(f'held-out pass rate: {before} before, {after} after')
    if jax.process_index() == 0:
      values = dict(
        heldout_before=start.rate_of(heldout[0]),
        heldout_after=start.rate_of(heldout[-1]),
        heldout=heldout,
        best_step=checkpoints.best_step(),
        steps=at.progress.step,
        seconds=round(meta['seconds'], 1),
        peak_gb=round(metrics.peak_gb(), 2),
        seed=run.seed,
      )
      metrics.summary(workdir, values)
      say(f'{workdir / "summary.json"}: {json.dumps(values)}')
  return 0


def lock_of(workdir: pathlib.Path) -> pathlib.Path:
  """This process's, which is there while a run is."""
  return workdir / f'{jax.process_index()}.lock'


def check_there(workdir: pathlib.Path) -> None:
  """Raises OSError, one line, if a run's folder was deleted under it."""
  if not lock_of(workdir).exists():
    raise OSError(
      errno.ENOENT,
      'the folder was deleted, moved or unmounted while the run used it; put '
      'it back, or start anew in one that stays',
    )


@contextlib.contextmanager
def told_if_gone(workdir: pathlib.Path) -> Iterator[None]:
  """Has errors tell that a run's folder is gone, if that is what they are of.

  Libraries say what they missed in it.
  """
  try:
    yield
  except (OSError, ValueError) as e:
    try:
      check_there(workdir)
    except OSError as gone:
      raise gone from e
    raise


@contextlib.contextmanager
def heeded_interrupt() -> Iterator[None]:
  """Raises KeyboardInterrupt at the end if a library swallowed it inside.

  While jax compiles, Python may stand in a callback that ignores errors.
  """
  seen = []

  def handle(number: int, frame: Any) -> None:
    seen.append(number)
    raise KeyboardInterrupt

  previous = signal.signal(signal.SIGINT, handle)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, previous)
  if seen:
    raise KeyboardInterrupt


@contextlib.contextmanager
def ends_all() -> Iterator[None]:
  """Has an error of one process end the others too, at once.

  Python's own exit waits 300 seconds for them, as they wait for this one.
  """
  try:
    yield
  except BaseException as e:
    if jax.process_count() == 1:
      raise
    known = isinstance(e, SystemExit)
    sys.stderr.write(f'{e}\n' if known else traceback.format_exc())
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(1 if known else os.EX_SOFTWARE)


def connect() -> None:
  """Joins the processes of this run, if there are several."""
  if PROCESSES.value > 1 and COORDINATOR.value is None:
    raise SystemExit(
      f'error: --processes={PROCESSES.value} without --coordinator: give the '
      'host:port of process 0'
    )
  if COORDINATOR.value == 'auto':
    jax.distributed.initialize()
  elif COORDINATOR.value is not None:
    first = PROCESS.value == 0
    jax.distributed.initialize(
      COORDINATOR.value,
      PROCESSES.value,
      PROCESS.value,
      # The default listens on every interface.
      coordinator_bind_address=COORDINATOR.value if first else None,
    )


def parse_flags(argv: list[str]) -> list[str]:
  """absl's parser, with one line for a flag or a config that is no good."""
  try:
    rest = flags.FLAGS(argv)
    # A file that is not there is told only to who asks for the config.
    getattr(CONFIG.value, 'steps', None)
    return rest
  except (flags.Error, OSError) as e:
    # absl puts a traceback of the config's file before what it says.
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    raise SystemExit(
      f'error: {terminal.printable(lines[-1])} (--help lists the flags)'
    ) from e
  except (AttributeError, KeyError) as e:
    frames = traceback.extract_tb(e.__traceback__)
    mine = [f for f in frames if 'site-packages' not in f.filename][-1]
    in_file = f'{mine.filename}:{mine.lineno}: '
    reason = e.args[0]
    while isinstance(reason, Exception):  # ml_collections wraps them.
      reason = reason.args[0]
    reason = ' '.join(str(reason).partition('Other fields')[0].split())
    raise SystemExit(
      f'error: {"--config: " if mine.filename == __file__ else in_file}'
      f'{reason} (no such field; configs/base.py lists them)'
    ) from e


def config_name() -> str:
  """'quickstart' of --config=configs/quickstart.py; of FILE:NAME both."""
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  file, _, name = path.partition(':')
  return '-'.join(filter(None, (pathlib.Path(file).stem, name)))


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise SystemExit(f'error: unexpected arguments: {argv[1:]}')
  jax_setup.keep_compiled()
  jax_setup.quiet_libraries()
  if '://' in (WORKDIR.value or ''):
    raise SystemExit(
      f'error: --workdir={WORKDIR.value}: expected a folder on a disk that all '
      'hosts share; mount the bucket'
    )
  terminal.use_stdout()
  jax_setup.use_precision(CONFIG.value.dtype)
  workdir = pathlib.Path(WORKDIR.value or f'runs/{config_name()}')
  connect()
  with ends_all():
    try:
      with exits.mendable(ValueError, OSError):
        settings.validate(CONFIG.value)
        run = build(CONFIG.value)
      return train(run, workdir)
    except KeyboardInterrupt:
      raise SystemExit(
        'interrupted; the same command goes on from the last checkpoint'
      ) from None


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
