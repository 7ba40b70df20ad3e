"""Starts or resumes a run: finds and opens what it needs.

A new run begins at its model, or where `start.run` ended. A run with a
checkpoint resumes there, if it is of the same run (resuming.py).
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import storage, types
from acereason_jax.config import steering
from acereason_jax.console import exits, signals
from acereason_jax.curriculum import (
  filtering,
  ledger,
  outcomes,
  parquet,
)
from acereason_jax.data import references
from acereason_jax.hosts import gather, watchdog
from acereason_jax.rl import update
from acereason_jax.run import checkpoint as checkpoint_lib
from acereason_jax.run import folder, loop, metrics, probe, resuming, saving
from acereason_jax.run import heldout as heldout_lib
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Progress, Run, Stage, Standing, Tools

_MAX_SUMMARY_BYTES = 16 << 20


def finished(run: Run, checkpoints, workdir: str) -> str | None:
  """The summary, if the newest checkpoint is the end of this run."""
  progress = resuming.progress_of(run, checkpoints.latest_progress())
  stage = loop.stage_of(run, progress)
  resuming.check_steps(stage, progress)
  if stage is not run.stages[-1]:
    return None
  known = parquet.from_bytes(checkpoint_lib.load_ledger(workdir))
  if not loop.stop_reason(stage, progress, known):
    return None
  summary = final_summary(workdir, progress.step)
  # A network disk may show it to one process and not yet to another.
  there = np.int32(summary is not None)
  if jax.process_count() > 1:
    there = multihost_utils.broadcast_one_to_all(there)
  return (summary or '') if there else None


def final_summary(workdir: str, steps: int) -> str | None:
  """The summary of a run of `steps` steps, if there is one."""
  file = storage.join(workdir, 'summary.json')
  try:
    values = json.loads(storage.read(file, _MAX_SUMMARY_BYTES) or b'')
  except (ValueError, RecursionError):
    return None  # Torn, or not ours: written again.
  match values:
    case {'steps': int(found)} if found == steps:
      return json.dumps(values)
  return None


def screen(run: Run, place: folder.Folder) -> dict[str, dict[str, list[str]]]:
  """The ids that a new run leaves out, by domain and source.

  It prints and lists them.
  """
  every, gone = [], {}
  name = 'dropped.jsonl'
  file = storage.join(place.root, name)
  for domain in run.domains.values():
    where = f'config.{domain.where}judge.reference: '
    with contextlib.ExitStack() as stack:
      pool = None
      if domain.open_reference_pool is not None:
        with exits.one_line_for(ValueError, RuntimeError, where=where):
          pool = stack.enter_context(domain.open_reference_pool())
      with exits.one_line_for(ValueError), watchdog.phase('screen'):
        dropped = references.find(domain.prompts, domain.digests, pool)
    for line in references.report(domain.prompts, dropped, file):
      metrics.say(domain.where + line)
    gone[domain.name] = references.ids(dropped)
    every += dropped
  if jax.process_index() == 0:
    references.write(every, place.local / name)
  return gone


def open_tools(
  run: Run,
  workdir: str,
  dropped: Mapping[str, Mapping[str, Sequence[str]]],
  saved: int | None,
  stop: signals.StopRequest,
  stack: contextlib.ExitStack,
) -> Tools:
  """Starts the judges and opens the journal; prints what it found.

  The journal forgets the steps that the checkpoint of step `saved` holds.
  """
  prompts, judges = {}, {}
  for name, domain in run.domains.items():
    prompts[name] = references.without(domain.prompts, dropped[name])
    with exits.one_line_for(
      ValueError, RuntimeError, where=f'config.{domain.where}judge: '
    ):
      judges[name] = domain.open_judges()
      stack.enter_context(judges[name].pool)
    metrics.say(f'{domain.where}judge workers: {judges[name].pool.confinement}')
  for stage in run.stages:
    with exits.one_line_for(
      ValueError, where=f'stage {stage.name!r}: config.filter.'
    ):
      for domain in stage.mix:
        train = prompts[domain][references.TRAIN]
        filtering.check(stage.filters[domain], train)
        probe.easy_prompts(stage, domain, train)
  journal = stack.enter_context(
    journal_lib.Journal(
      storage.join(workdir, 'journal'),
      fingerprint(run, dropped),
      jax.process_index(),
      jax.process_count(),
      gather.everyones,
    )
  )
  for note in journal.notes:
    metrics.say(note)
  # A kill may have come after a save and before the journal forgot.
  if saved is not None:
    journal.forget(saved)
  first = saved if saved is not None else first_step(run)
  if journal.found and min(k.step for k in journal.found) != first:
    # Steps in between are missing, so other parameters would draw these.
    metrics.say(f'{journal.folder}: does not begin at step {first}: not used')
    journal.forget(max(k.step for k in journal.found) + 1)
  return Tools(prompts, judges, journal, stop)


def first_step(run: Run) -> int:
  """The step that a new run begins with."""
  if not run.start_run:
    return 0
  progress = checkpoint_lib.load_progress(run.start_run)
  return 0 if progress is None else resuming.step_of(progress)


def fingerprint(run: Run, dropped: Any) -> str:
  """Hash of everything rollouts depend on: config, data, start of the run."""
  fields = steering.fixed(steering.by_name(run.config), steering.MAY_CHANGE)
  began = run.model_stamp
  if run.start_run:
    began = checkpoint_lib.stamp(run.start_run)
  whole = json.dumps([fields, run.digests, dropped, began], sort_keys=True)
  return hashlib.sha256(whole.encode()).hexdigest()


def restore(
  run: Run,
  checkpoints: saving.Checkpoints,
  meta: Mapping[str, Any],
) -> Standing:
  """The standing in the newest checkpoint, which has `meta`.

  Raises:
    ValueError: it has another model, or other stages.
  """
  progress = resuming.progress_of(run, checkpoints.latest_progress())
  stage = loop.stage_of(run, progress)
  resuming.check_steps(stage, progress)
  restored = checkpoints.restore(stage.abstract_state.saved())
  state = restored.state.replace(frozen=run.load_frozen())
  known = parquet.from_bytes(restored.ledger)
  now = [c['field'] for c in meta['changes'] if c['step'] == progress.step]
  if any(map(steering.measures_anew, now)):
    # Its values are of another metric, or of one that is measured differently.
    progress = progress._replace(history=())
  metrics.say(f'going on after step {progress.step}')
  return Standing(state, progress, known, meta['seconds'])


def begin(run: Run) -> Standing:
  """The standing of a new run: at its model, or where `start.run` ended.

  Raises:
    ValueError: that run has another model, optimizer or data set.
  """
  first = run.stages[0]
  if not run.start_run:
    state = first.init(run.load_params()).replace(frozen=run.load_frozen())
    return Standing(state, Progress(first.name), ledger.Ledger())
  with named_field('config.start.run'):
    return begin_from(run, first)


def begin_from(run: Run, first: Stage) -> Standing:
  abstract = first.abstract_state
  wanted = dict(params=abstract.params, step=abstract.step)
  if first.carry is not None:
    wanted['opt_state'] = abstract.opt_state
  found = checkpoint_lib.load(run.start_run, wanted)
  if found is None:
    raise ValueError(f'{run.start_run}: holds no checkpoint')
  resuming.check_meta(found.meta)
  step = resuming.step_of(found.progress)
  check_order(run, first, found.progress)
  if found.meta['config']['lora'] != run.config['lora']:
    raise ValueError(
      f'{run.start_run}: was trained with config.lora='
      f'{found.meta["config"]["lora"]}; give the same'
    )
  before = found.meta['data'].get('model')
  if before != run.digests.get('model'):
    raise ValueError(f'{run.start_run}: was trained beside another model')
  known = parquet.from_bytes(found.ledger)
  prompts = {
    p.id for d in run.domains.values() for p in d.prompts[references.TRAIN]
  }
  if len(known) and not prompts & outcomes.newest(known).keys():
    raise ValueError(
      f'{run.start_run}: its ledger is of another data set: it has none of '
      'these prompts (ids of one domain of several begin with its name); give '
      'the data it was trained on'
    )
  if first.carry is not None:
    state = update.TrainState(
      found.state['params'], found.state['opt_state'], found.state['step']
    )
  else:
    state = first.init(found.state['params'])
    state = state.replace(step=found.state['step'])
  progress = Progress(
    first.name, step=step, carried=found.progress.get('carried')
  )
  metrics.say(f'going on from step {found.step} of {run.start_run}')
  return Standing(state.replace(frozen=run.load_frozen()), progress, known)


def check_order(run: Run, first: Stage, found: Mapping[str, Any]) -> None:
  """Raises ValueError unless a run ended with the stage before `first`."""
  order = [stage['name'] for stage in run.config['stages']]
  stood = found['stage']
  metrics.say(
    f'{run.start_run}: stands at step {found["step"]}, in stage {stood!r}'
  )
  if first.index and stood in order and stood != order[first.index - 1]:
    raise ValueError(
      f'{run.start_run}: stands in stage {stood!r}, and {first.name!r} goes on '
      f'from {order[first.index - 1]!r}; give RUN/checkpoints/STEP of that'
    )


@contextlib.contextmanager
def named_field(field: str) -> Iterator[None]:
  try:
    yield
  except ValueError as e:
    raise ValueError(f'{field}: {e}') from e


def first_look(
  run: Run, at: Standing, tools: Tools
) -> tuple[Standing, list[types.Group]]:
  """Asks the held-out questions that are asked before the first step.

  Returns the standing after it, and the judged answers.
  """
  began = time.monotonic()
  domains = [name for name, d in run.domains.items() if d.evaluate_before]
  if not domains:
    return at, []
  count = sum(len(tools.prompts[d][references.HELDOUT]) for d in domains)
  metrics.say(
    f'compiling, then asking {count} held-out '
    'questions; compiled '
    f'programs are kept in {jax.config.jax_compilation_cache_dir}'
  )
  before, groups = heldout_lib.ask_heldout(
    run, at.state, at.progress.step, tools, domains, 'before'
  )
  metrics.say(f'held-out pass rate before: {heldout_lib.format_rates(before)}')
  progress = at.progress._replace(
    heldout=[dict(stage='', step=at.progress.step, **before)]
  )
  seconds = at.seconds + time.monotonic() - began
  return at._replace(progress=progress, seconds=seconds), groups
