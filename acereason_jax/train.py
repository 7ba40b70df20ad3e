"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again goes on where the run stopped. Exit status 75 means
stopped by a signal and saved; 1, something for the user to mend, in one line
(--verbosity=1 shows the traceback too).
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from acereason_jax import checkpoint as checkpoint_lib
from acereason_jax import (
  cli,
  collect,
  metrics,
  references,
  settings,
  timeline,
  types,
)
from acereason_jax.build import Run, build, say
from acereason_jax.rl import update
from acereason_jax.rollout import schedule
from acereason_jax.verifiers import pool as pool_lib

CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' on TPU pods and Slurm."
)
PROCESSES = flags.DEFINE_integer('processes', 1, 'Processes of this run.')
PROCESS = flags.DEFINE_integer('process', 0, 'Index of this process.')


def train_step(
  run: Run,
  state: update.TrainState,
  prompts: list[types.Prompt],
  pool: pool_lib.VerifierPool,
  step: int,
) -> tuple[
  update.TrainState, list[types.Group], dict[str, float], schedule.Trace
]:
  """One batch: sample and judge, update."""
  began = time.monotonic()
  groups, sampled, trace = collect.collect(
    run.engine,
    run.rollout_params(state.weights),
    prompts,
    pool,
    groups=run.groups,
    seed=run.seed,
    step=step,
    batch_seconds=run.batch_seconds,
  )
  collect.check_judged(groups, run.max_failed_share)
  judged = collect.judge_metrics(groups)
  collected = time.monotonic()
  sums = run.update.zeros(state.params)
  for batch in run.pack(groups):
    sums = run.update.add(state.weights, sums, batch)
  state, updated = run.update.apply(state, sums)
  updated = {k: float(v) for k, v in jax.device_get(updated).items()}
  ended = time.monotonic()
  values = dict(
    **judged,
    **sampled,
    **updated,
    seconds_update=ended - collected,
    seconds_step=ended - began,
    judge_wait_share=sampled['seconds_judge'] / max(ended - began, 1e-9),
    peak_gb=metrics.peak_gb(),
  )
  return state, groups, values, trace


def pass_rate(run: Run, state: update.TrainState, pool) -> float:
  return collect.heldout_pass_rate(
    run.heldout_engine,
    run.rollout_params(state.weights),
    run.prompts[references.HELDOUT],
    pool,
    groups=run.heldout_groups,
    seed=run.seed,
    batch_seconds=run.batch_seconds,
    max_failed_share=run.max_failed_share,
  )


def earlier(run: Run, checkpoints) -> dict | None:
  """What the newest checkpoint says of its run, if there is one.

  Raises:
    ValueError: this run cannot go on from it.
  """
  if (meta := checkpoints.latest_meta()) is None:
    return None
  checkpoint_lib.check_resume(meta['config'], run.config, settings.MAY_CHANGE)
  if (done := checkpoints.latest_step()) > run.steps:
    raise ValueError(
      f'config.steps={run.steps}: this workdir holds a run that has taken '
      f'{done} steps; give at least that, or use another --workdir'
    )
  for name, digest in run.digests.items():
    if (before := meta['data'][name]) != digest:
      raise ValueError(
        f"config.{name}: gives other data than this workdir's run began with "
        f'(SHA-256 {before[:12]}... -> {digest[:12]}...); put it back, or use '
        'another --workdir'
      )
  return dict(meta, config=run.config)


def final_summary(run: Run, checkpoints, workdir: pathlib.Path) -> str | None:
  """The summary, if this run is over; one of fewer steps is not its own."""
  file = workdir / 'summary.json'
  if checkpoints.latest_step() != run.steps or not file.exists():
    return None
  values = json.loads(file.read_text())
  return json.dumps(values) if values['steps'] == run.steps else None


def screen(run: Run, workdir: pathlib.Path) -> dict[str, list[str]]:
  """The ids that a new run leaves out, by source; says and lists them."""
  with contextlib.ExitStack() as stack:
    pool = None
    if run.open_reference_pool is not None:
      where = 'config.judge.reference: '
      with cli.mendable(ValueError, RuntimeError, where=where):
        pool = stack.enter_context(run.open_reference_pool())
    with cli.mendable(ValueError):
      dropped = references.find(run.prompts, run.digests, pool)
  file = workdir / 'dropped.jsonl'
  if jax.process_index() == 0:
    references.write(dropped, file)
  for line in references.report(run.prompts, dropped, file):
    say(line)
  return references.ids(dropped)


def start(run: Run, checkpoints, batches) -> update.TrainState:
  """The state to go on from: the newest checkpoint's, or the model's.

  Raises:
    ValueError: the checkpoint is of another model.
  """
  if checkpoints.latest_step() is None:
    return run.load_state()
  restored = checkpoints.restore(run.abstract_state.saved())
  batches.set_state(restored.data_state)
  say(f'going on after step {int(restored.state.step)}')
  return restored.state.replace(frozen=run.load_frozen())


def first_look(run: Run, state: update.TrainState, pool) -> dict:
  """What a new run's checkpoints say of it: what it could do before."""
  began = time.monotonic()
  say(
    f'compiling, then asking {len(run.prompts[references.HELDOUT])} held-out '
    'questions; compiled '
    f'programs are kept in {jax.config.jax_compilation_cache_dir}'
  )
  before = pass_rate(run, state, pool)
  say(f'held-out pass rate before: {before:.1%}')
  seconds = time.monotonic() - began
  return dict(heldout_before=before, seconds=seconds)


def loop(
  run: Run,
  state: update.TrainState,
  meta: dict,
  checkpoints,
  batches,
  pool,
  writer,
  workdir: pathlib.Path,
) -> tuple[update.TrainState, dict, bool]:
  """Steps until done (True) or asked to stop (False); saves as it goes."""
  done = int(state.step)
  stop = False
  with (
    checkpoint_lib.Preemption() as preemption,
    metrics.progress_bar(run.steps, done=done) as advance,
  ):
    if done < run.steps:
      say('the first step compiles the update too')
    while done < run.steps and not stop:
      began = time.monotonic()
      state, groups, values, trace = train_step(
        run, state, next(batches), pool, done
      )
      done += 1
      if writer is not None:
        writer.write(done, values)
        timeline.write_events(
          workdir / 'timeline.jsonl', trace.events, step=done, **trace.metrics()
        )
      say(metrics.step_line(done, run.steps, values))
      if values['nonfinite']:
        say('WARNING: the gradient was not finite: this step changed nothing')
      if not values['mismatch'] <= run.mismatch_limit:
        say(
          f'WARNING: sampler and trainer differ by {values["mismatch"]:.1e} a '
          f'token, more than rounding ({run.mismatch_limit:.0e}); please report'
        )
      if done % run.samples['every'] == 0:
        say(
          metrics.format_rollouts(
            groups,
            count=run.samples['count'],
            max_chars=run.samples['characters'],
          )
        )
      advance()
      stop = preemption.requested(done) and done < run.steps
      meta = dict(meta, seconds=meta['seconds'] + time.monotonic() - began)
      if stop or done == run.steps or done % run.checkpoint_every == 0:
        checkpoints.save(done, state.saved(), batches.get_state(), meta)
  return state, meta, not stop


def train(run: Run, workdir: pathlib.Path) -> int:
  """Trains to the end, or until asked to stop; returns the exit status."""
  with (
    cli.mendable(OSError, collect.JudgeFailed, where=f'{workdir}: '),
    contextlib.ExitStack() as stack,
  ):
    checkpoints = stack.enter_context(
      checkpoint_lib.Checkpoints(workdir, keep=run.checkpoint_keep)
    )
    with cli.mendable(ValueError):
      meta = earlier(run, checkpoints)
    if (summary := final_summary(run, checkpoints, workdir)) is not None:
      say(f'finished already: {summary}; a larger config.steps goes on')
      return 0
    # Kept by the checkpoints: see references.py.
    dropped = screen(run, workdir) if meta is None else meta['dropped']
    run = run._replace(prompts=references.without(run.prompts, dropped))
    batches = run.make_batches(run.prompts[references.TRAIN])
    with cli.mendable(ValueError, RuntimeError, where='config.judge: '):
      pool = stack.enter_context(run.open_pool())
    say(f'judge workers: {pool.confinement}')
    say(f'attention of the update: {run.attention}')
    with cli.mendable(ValueError):
      state = start(run, checkpoints, batches)
    if meta is None:
      with heeded_interrupt():
        meta = first_look(run, state, pool)
      meta |= dict(config=run.config, data=run.digests, dropped=dropped)
    writer = None
    if jax.process_index() == 0:
      (workdir / 'config.json').write_text(json.dumps(run.config, indent=2))
      writer = stack.enter_context(
        metrics.Writer(workdir, resume_step=int(state.step) + 1)
      )
    state, meta, finished = loop(
      run, state, meta, checkpoints, batches, pool, writer, workdir
    )
    checkpoints.wait()
    if not finished:
      say(f'stopped and saved after step {int(state.step)}; run it again')
      return cli.STOPPED
    began = time.monotonic()
    after = pass_rate(run, state, pool)
    before = meta['heldout_before']
    say(f'held-out pass rate: {before:.1%} before, {after:.1%} after')
    if jax.process_index() == 0:
      values = dict(
        heldout_before=before,
        heldout_after=after,
        steps=run.steps,
        seconds=round(meta['seconds'] + time.monotonic() - began, 1),
        peak_gb=round(metrics.peak_gb(), 2),
        seed=run.seed,
      )
      metrics.summary(workdir, values)
      say(f'{workdir / "summary.json"}: {json.dumps(values)}')
  return 0


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
  """absl's parser, with one line where a config has no such field."""
  try:
    return app.parse_flags_with_usage(argv)
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
  """'quickstart' of --config=configs/quickstart.py."""
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  return pathlib.Path(path).stem


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise SystemExit(f'error: unexpected arguments: {argv[1:]}')
  cli.keep_compiled()
  cli.quiet_libraries()
  if '://' in (WORKDIR.value or ''):
    raise SystemExit(
      f'error: --workdir={WORKDIR.value}: expected a folder on a disk that all '
      'hosts share; mount the bucket'
    )
  # A sample may hold what the terminal's encoding has not.
  sys.stdout.reconfigure(errors='backslashreplace')
  cli.use_precision(CONFIG.value.dtype)
  workdir = pathlib.Path(WORKDIR.value or f'runs/{config_name()}')
  connect()
  with ends_all():
    try:
      with cli.mendable(ValueError, OSError):
        settings.validate(CONFIG.value)
        workdir.mkdir(parents=True, exist_ok=True)
        run = build(CONFIG.value)
      return train(run, workdir)
    except KeyboardInterrupt:
      raise SystemExit(
        'interrupted; the same command goes on from the last checkpoint'
      ) from None


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
