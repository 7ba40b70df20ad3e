"""A whole run, from its folder to its summary."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jax

from acereason_jax import files, storage
from acereason_jax.console import exits, jax_setup, signals
from acereason_jax.data import archive
from acereason_jax.hosts import watchdog
from acereason_jax.run import account as account_lib
from acereason_jax.run import checkpoint as checkpoint_lib
from acereason_jax.run import (
  clock_file,
  folder,
  judged,
  keeper,
  loop,
  metrics,
  profile,
  reporting_child,
  resuming,
  saving,
  start,
  starts,
  writing,
)
from acereason_jax.run import heldout as heldout_lib
from acereason_jax.run.values import Run, Standing, Stopped


@contextlib.contextmanager
def counted() -> Iterator[account_lib.Account]:
  """The seconds of this process since it began, by the kind of its work."""
  account = account_lib.Account(account_lib.process_age())
  with (
    watchdog.told_of_phases(account.phases),
    jax_setup.told_of_compiles(account.compiled),
  ):
    yield account


def train(
  run: Run,
  workdir: str | os.PathLike,
  stop: signals.StopRequest = signals.NEVER,
  traced: profile.Steps | None = None,
  account: account_lib.Account | None = None,
) -> int:
  """Trains to the end, or until `stop` is asked to; returns the exit status.

  `workdir` may be at gs://. The profiler traces the steps `traced`. Without
  `account` the run has no clock.
  """
  kinds = OSError, judged.JudgeFailed, Stopped, checkpoint_lib.Damaged
  with (
    exits.one_line_for(*kinds, where=f'{workdir}: '),
    contextlib.ExitStack() as stack,
  ):
    # This comes before anything is removed or written: one run per folder.
    place = stack.enter_context(folder.opened(workdir))
    checkpoints = stack.enter_context(
      saving.Checkpoints(workdir, keep=run.checkpoint_keep, best=run.best)
    )
    with exits.one_line_for(ValueError):
      meta = resuming.read_meta(run, checkpoints)
      done = None
      if meta is not None:
        done = start.finished(run, checkpoints, place.root)
      if done is not None:
        more = '' if run.config['stages'] else '; a larger config.steps goes on'
        metrics.say(f'finished already: {done}{more}')
        return 0
    clock = open_clock(place, account, checkpoints, stack)
    try:
      go_on(run, place, checkpoints, meta, stop, stack, traced, clock)
    except signals.Asked:
      with watchdog.phase('save'):
        checkpoints.wait()
      saved = checkpoints.latest_step()
      what = 'stopped before step 1 was saved'
      if saved is not None:
        what = f'stopped and saved after step {saved}'
      # Nobody reads a terminal that was closed.
      with contextlib.suppress(SystemExit):
        metrics.say(f'{what}; run it again')
      return exits.STOPPED
    return 0


def go_on(
  run: Run,
  place: folder.Folder,
  checkpoints: saving.Checkpoints,
  meta: dict[str, Any] | None,
  stop: signals.StopRequest,
  stack: contextlib.ExitStack,
  traced: profile.Steps | None,
  clock: clock_file.Clock | None,
) -> None:
  """Resumes from the newest checkpoint, which has `meta` (None: there is none).

  Raises:
    signals.Asked: nothing is lost.
  """
  is_new, saved = meta is None, checkpoints.latest_step()
  with stop.interruptible():
    if is_new:
      dropped = start.screen(run, place)
      meta = dict(
        config=run.config, data=run.digests, dropped=dropped, changes=[]
      )
    with watchdog.phase('load', 'journal'):
      tools = start.open_tools(
        run, place.root, meta['dropped'], saved, stop, stack
      )
  here = starts.now(run, saved, len(tools.journal.found))
  with starts.recorded(place.root, here):
    metrics.say(f'attention of the update: {run.attention}')
    with stop.interruptible():
      with exits.one_line_for(ValueError):
        at = stand(run, checkpoints, meta, is_new)
      looked = []
      if is_new:
        at, looked = start.first_look(run, at, tools)
    writer = open_writer(run, place, meta, at, stack)
    keeps = open_keeper(run, place, saved, stack)
    tracer = stack.enter_context(profile.Tracer(traced, place.local))
    reporter = stack.enter_context(reporting_child.Reporter(place))
    records = writing.Records(
      place,
      checkpoints,
      writer,
      keeps,
      meta,
      tracer,
      clock,
      report=reporter.begin,
    )
    writing.keep_looked(records, at, archive.BEFORE, looked)
    # These answers would stay in memory to the end of the run.
    del looked
    at = loop.run_stages(run, at, tools, records)
    with watchdog.phase('save'):
      checkpoints.wait()
    with watchdog.phase('report'):
      summarise(run, records, at)
    reporter.finish(tools)


def open_clock(
  place: folder.Folder,
  account: account_lib.Account | None,
  checkpoints: saving.Checkpoints,
  stack: contextlib.ExitStack,
) -> clock_file.Clock | None:
  """The clock of this start, on the first process only."""
  if account is None or jax.process_index() != 0:
    return None
  step = checkpoints.latest_step() or 0
  return stack.enter_context(
    clock_file.opened(place.local, place.root, account, step, metrics.say)
  )


def stand(
  run: Run,
  checkpoints: saving.Checkpoints,
  meta: dict[str, Any],
  is_new: bool,
) -> Standing:
  """Where the run stands. Raises ValueError, as `begin` and `restore` do."""
  if is_new:
    with watchdog.phase('load'):
      return start.begin(run)
  with watchdog.phase('restore'):
    return start.restore(run, checkpoints, meta)


def open_writer(
  run: Run,
  place: folder.Folder,
  meta: dict[str, Any],
  at: Standing,
  stack: contextlib.ExitStack,
) -> metrics.Writer | None:
  """Writes the config and its changes; opens the metrics of later steps.

  Only the first process does so.
  """
  if jax.process_index() != 0:
    return None
  config = json.dumps(run.config, indent=2)
  files.write_atomically(place.local / 'config.json', config)
  file = place.local / 'changes.json'
  # Changes of a try that saved nothing do not count once they are undone.
  if meta['changes'] or file.exists():
    files.write_atomically(file, json.dumps(meta['changes'], indent=2))
  return stack.enter_context(
    metrics.Writer(place.local, resume_step=at.progress.step + 1)
  )


def open_keeper(
  run: Run,
  place: folder.Folder,
  saved: int | None,
  stack: contextlib.ExitStack,
) -> keeper.Keeper | None:
  """Opens the files of rollouts after step `saved`.

  Only the first process does so.
  """
  if jax.process_index() != 0:
    return None
  return stack.enter_context(
    keeper.Keeper(
      place.root, saved, run.keep['budget_gb'], run.heldout_engine.to_text
    )
  )


def summarise(run: Run, records: writing.Records, at: Standing) -> None:
  """Prints and writes the summary of a run that is over.

  `heldout_before` is null if a domain was not asked before the first step: the
  mean of other domains does not compare.
  """
  last = at.progress.heldout[-1]
  first = next((h for h in at.progress.heldout if not h['stage']), {})
  before, after = map(heldout_lib.format_rates, (first, last))
  told = f'{before} before, ' if before else ''
  metrics.say(f'held-out pass rate: {told}{after} after')
  if jax.process_index() == 0:
    values = dict(
      heldout_before=heldout_lib.mean_rate(first, run.domains),
      heldout_after=heldout_lib.mean_rate(last, run.domains),
      heldout=at.progress.heldout,
      best_step=records.checkpoints.best_step(),
      steps=at.progress.step,
      seconds=round(at.seconds, 1),
      peak_gb=round(metrics.peak_gb(), 2),
      seed=run.seed,
    )
    metrics.summary(records.folder.local, values)
    file = storage.join(records.folder.root, 'summary.json')
    metrics.say(f'{file}: {json.dumps(values)}')
