"""Reinforcement learning from one command: sample, judge, update, repeat.

    python -m acereason_jax.train --config=configs/quickstart.py

The same command again goes on where the run stopped. Exit status 75 means
stopped by a signal and saved; 1, something for the user to mend, in one line
(--verbosity=1 shows the traceback too).
"""

import contextlib
import functools
import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import app, flags, logging
from ml_collections import config_flags

from acereason_jax import checkpoint as checkpoint_lib
from acereason_jax import collect, metrics, settings, sharding, types
from acereason_jax.data import sources
from acereason_jax.models import base, decoder, embedded, hf, tokens
from acereason_jax.rl import advantages, optim, packing, update
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling
from acereason_jax.verifiers import pool as pool_lib

STOPPED = os.EX_TEMPFAIL
COMPILE_CACHE = '~/.cache/acereason_jax/compiled'

CONFIG = config_flags.DEFINE_config_file('config', None, 'A file of configs/.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder; default runs/<name of the config>."
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' on TPU pods and Slurm."
)
PROCESSES = flags.DEFINE_integer('processes', 1, 'Processes of this run.')
PROCESS = flags.DEFINE_integer('process', 0, 'Index of this process.')


class Run(NamedTuple):
  """Everything a run needs, built from its config before it starts."""

  config: dict[str, Any]
  seed: int
  steps: int
  engine: engine_lib.Engine
  heldout_engine: engine_lib.Engine
  heldout: list[types.Prompt]
  batches: grain.DatasetIterator
  open_pool: Callable[[], pool_lib.VerifierPool]
  max_failed_share: float
  load_state: Callable[[], update.TrainState]
  abstract_state: update.TrainState
  rollout_params: Callable[[base.Tree], base.Tree]
  pack: Callable[[list[types.Group]], list[packing.PackedBatch]]
  update: update.Update
  checkpoint_every: int
  checkpoint_keep: int
  samples: dict[str, int]


def say(*args: Any) -> None:
  """Prints, on the first process alone."""
  if jax.process_index() == 0:
    print(*args, flush=True)


def read_prompts(
  c: settings.Reader, name: str, tokenizer: Any
) -> list[types.Prompt]:
  """The prompts of config.train_data or config.heldout_data."""
  rows = getattr(c, name).build()
  prompts, dropped = sources.to_prompts(
    rows,
    tokenizer,
    chat_tokens=tokens.chat_tokens,
    system=c.prompt.system or None,
    examples=c.prompt.examples,
    suffix=c.prompt.suffix,
    max_tokens=c.prompt.window,
  )
  if dropped:
    shown = ', '.join(dropped[:5]) + (', ...' if len(dropped) > 5 else '')
    say(
      f'{name}: dropped {len(dropped)} of {len(rows)} prompts longer than '
      f'config.prompt.window={c.prompt.window} tokens: {shown}'
    )
  return prompts


def build_state(c: settings.Reader, specs: base.Tree, mesh, directory: str):
  """(optimiser, load: () -> TrainState, abstract TrainState)."""
  optimizer = optim.make_optimizer(
    c.optim.kwargs(), warmup_steps=c.warmup_steps, clip_norm=c.clip_norm
  )
  placed = sharding.param_shardings(specs, mesh)
  shapes = base.map_specs(
    lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), specs
  )
  init = functools.partial(update.init_state, optimizer=optimizer)
  abstract = jax.eval_shape(init, shapes)
  everywhere = sharding.replicated(mesh)
  shardings = update.TrainState(
    placed,
    optax.tree_map_params(
      optimizer,
      lambda _, s: s,
      abstract.opt_state,
      placed,
      transform_non_params=lambda _: everywhere,
    ),
    everywhere,
  )
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    shardings,
  )

  def load() -> update.TrainState:
    params = hf.load(directory, specs, dtype=jnp.float32, shardings=placed)
    # Donated: the state takes the parameters over, it does not copy them.
    return jax.jit(init, out_shardings=shardings, donate_argnums=0)(params)

  return optimizer, load, abstract


def build_rollout_params(specs: base.Tree, mesh, dtype: jnp.dtype):
  """params -> what rollouts read: compute dtype, whole along fsdp."""
  if dtype == jnp.float32 and mesh.shape['fsdp'] == 1:
    return lambda params: params
  return jax.jit(
    functools.partial(update.cast, dtype=dtype),
    out_shardings=sharding.param_shardings(specs, mesh, gathered=True),
  )


def build_pack(c: settings.Reader, shards: int, pad_token: int):
  """Judged groups -> microbatches; the recipe's choices of what counts."""
  mask_truncated = c.truncated == 'mask'
  normalise = functools.partial(
    advantages.group_normalised, **c.advantage.kwargs()
  )
  weights = functools.partial(
    packing.token_weights, average=c.average, room=c.rollout.max_tokens
  )
  rows, columns = shards * c.microbatch.rows, c.microbatch.columns

  def pack(groups: list[types.Group]) -> list[packing.PackedBatch]:
    reward_PG, judged_PG = collect.rewards(groups)
    adv_PG = normalise(reward_PG, judged_PG)
    every = [g.rollouts for g in groups]
    length_PG = np.array([[len(r.tokens) for r in g] for g in every])
    cut_PG = np.array([[r.stop == 'length' for r in g] for g in every])
    counted_PG = judged_PG & ~(cut_PG & mask_truncated)
    chosen = packing.trained_rollouts(
      groups, adv_PG, weights(length_PG, counted_PG)
    )
    return packing.pack(chosen, rows=rows, columns=columns, pad_token=pad_token)

  return pack


def build(config: ml_collections.ConfigDict) -> Run:
  """Reads every field of a valid config; nothing below sees it.

  Raises:
    ValueError, OSError: one line for the user.
  """
  c = settings.Reader(config)
  mesh = sharding.make_mesh(**c.mesh.kwargs())
  shards = sharding.row_shards(mesh)
  for field in ('rollout.prompts', 'heldout.prompts'):
    section, name = field.split('.')
    if (got := config[section][name]) % shards:
      raise ValueError(
        f'config.{field}={got}: give a multiple of mesh data x fsdp = {shards}'
      )
  directory = embedded.resolve_model(c.model)
  tokenizer = tokens.load_tokenizer(directory)
  decoder_config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  longest = c.prompt.window + c.rollout.max_tokens
  if longest > decoder_config.context:
    raise ValueError(
      f'config.rollout.max_tokens={c.rollout.max_tokens}: with '
      f'config.prompt.window={c.prompt.window} longer than the context of '
      f'{c.model}, {decoder_config.context}; lower one of them'
    )
  model = decoder.make_model(
    decoder_config, remat=c.remat, constrain=sharding.pin_rows(mesh)
  )
  dtype = jnp.dtype(c.dtype)
  stops = tokens.stop_token_ids(tokenizer, directory)
  make_engine = functools.partial(
    engine_lib.make_engine,
    model,
    window=c.prompt.window,
    room=c.rollout.max_tokens,
    stop_tokens=stops,
    pad_token=stops[0],
    to_text=functools.partial(tokens.decode, tokenizer),
    place=functools.partial(sharding.spread, sharding=sharding.rows(mesh)),
    replicated=sharding.replicated(mesh),
  )
  temperature = c.rollout.temperature
  heldout = c.heldout.kwargs()
  optimizer, load, abstract = build_state(c, model.specs, mesh, directory)
  place = functools.partial(sharding.spread, sharding=sharding.rows(mesh))
  pack = build_pack(c, shards, stops[0])
  run = Run(
    config=json.loads(config.to_json()),
    seed=c.seed,
    steps=c.steps,
    engine=make_engine(
      prompts=c.rollout.prompts,
      groups=c.rollout.groups,
      sampling=sampling.Sampling(temperature, top_p=1.0, top_k=0),
    ),
    heldout_engine=make_engine(
      prompts=heldout.pop('prompts'),
      groups=heldout.pop('groups'),
      sampling=sampling.Sampling(**heldout),
    ),
    heldout=read_prompts(c, 'heldout_data', tokenizer),
    batches=sources.batches(
      read_prompts(c, 'train_data', tokenizer),
      batch_size=c.rollout.prompts,
      seed=c.seed,
    ),
    open_pool=functools.partial(
      pool_lib.VerifierPool,
      c.judge.fn,
      dict(reasons=c.prompt.reasons),
      workers=c.judge.workers,
      timeout_seconds=c.judge.timeout_seconds,
    ),
    max_failed_share=c.judge.max_failed_share,
    load_state=load,
    abstract_state=abstract,
    rollout_params=build_rollout_params(model.specs, mesh, dtype),
    pack=lambda groups: [
      packing.PackedBatch(*map(place, batch)) for batch in pack(groups)
    ],
    update=update.make_update(
      model,
      c.loss.build(),
      optimizer,
      temperature=temperature,
      chunk=c.microbatch.chunk,
      dtype=dtype,
      param_shardings=sharding.param_shardings(model.specs, mesh),
    ),
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
  )
  c.check_all_read()
  return run


def train_step(
  run: Run, state: update.TrainState, pool: pool_lib.VerifierPool, step: int
) -> tuple[update.TrainState, list[types.Group], dict[str, float]]:
  """One batch: sample, judge, update."""
  clock = [time.monotonic()]
  tick = lambda: clock.append(time.monotonic())
  prompts = next(run.batches)
  rollouts, sampled = run.engine.sample(
    run.rollout_params(state.params), prompts, seed=run.seed, step=step
  )
  tick()
  groups = collect.judge(prompts, rollouts, pool)
  collect.check_judged(groups, run.max_failed_share)
  judged = collect.judge_metrics(groups)
  tick()
  sums = run.update.zeros(state.params)
  for batch in run.pack(groups):
    sums = run.update.add(state.params, sums, batch)
  state, updated = run.update.apply(state, sums)
  updated = {k: float(v) for k, v in jax.device_get(updated).items()}
  tick()
  seconds = np.diff(clock)
  return (
    state,
    groups,
    dict(
      **judged,
      **sampled,
      **updated,
      tokens_per_second=sampled['response_tokens'] / seconds[0],
      seconds_sample=seconds[0],
      seconds_judge=seconds[1],
      seconds_update=seconds[2],
      seconds_step=sum(seconds),
      peak_gb=metrics.peak_gb(),
    ),
  )


def pass_rate(run: Run, state: update.TrainState, pool) -> float:
  return collect.heldout_pass_rate(
    run.heldout_engine,
    run.rollout_params(state.params),
    run.heldout,
    pool,
    run.seed,
    run.max_failed_share,
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
  return dict(meta, config=run.config)


def final_summary(run: Run, checkpoints, workdir: pathlib.Path) -> str | None:
  """The summary, if this run is over; one of fewer steps is not its own."""
  file = workdir / 'summary.json'
  if checkpoints.latest_step() != run.steps or not file.exists():
    return None
  values = json.loads(file.read_text())
  return json.dumps(values) if values['steps'] == run.steps else None


def start(run: Run, checkpoints) -> update.TrainState:
  """The state to go on from: the newest checkpoint's, or the model's.

  Raises:
    ValueError: the checkpoint is of another model.
  """
  if checkpoints.latest_step() is None:
    return run.load_state()
  restored = checkpoints.restore(run.abstract_state)
  run.batches.set_state(restored.data_state)
  say(f'going on after step {int(restored.state.step)}')
  return restored.state


def first_look(run: Run, state: update.TrainState, pool) -> dict:
  """The meta of a new run: its config and what it could do before."""
  began = time.monotonic()
  say(
    f'compiling, then asking {len(run.heldout)} held-out questions; compiled '
    f'programs are kept in {jax.config.jax_compilation_cache_dir}'
  )
  before = pass_rate(run, state, pool)
  say(f'held-out pass rate before: {before:.1%}')
  seconds = time.monotonic() - began
  return dict(config=run.config, heldout_before=before, seconds=seconds)


def loop(
  run: Run, state: update.TrainState, meta: dict, checkpoints, pool, writer
) -> tuple[update.TrainState, dict, bool]:
  """Steps until done (True) or asked to stop (False); saves as it goes."""
  done = int(state.step)
  stop = False
  with (
    checkpoint_lib.Preemption() as preemption,
    metrics.progress_bar(run.steps, done=done) as advance,
  ):
    say('the first step compiles the update too')
    while done < run.steps and not stop:
      began = time.monotonic()
      state, groups, values = train_step(run, state, pool, done)
      done += 1
      if writer is not None:
        writer.write(done, values)
      say(metrics.step_line(done, run.steps, values))
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
        checkpoints.save(done, state, run.batches.get_state(), meta)
  return state, meta, not stop


def train(run: Run, workdir: pathlib.Path) -> int:
  """Trains to the end, or until asked to stop; returns the exit status."""
  with (
    mendable(OSError, collect.JudgeFailed, where=f'{workdir}: '),
    contextlib.ExitStack() as stack,
  ):
    checkpoints = stack.enter_context(
      checkpoint_lib.Checkpoints(workdir, keep=run.checkpoint_keep)
    )
    with mendable(ValueError):
      meta = earlier(run, checkpoints)
    if (summary := final_summary(run, checkpoints, workdir)) is not None:
      say(f'finished already: {summary}; a larger config.steps goes on')
      return 0
    with mendable(ValueError, RuntimeError, where='config.judge: '):
      pool = stack.enter_context(run.open_pool())
    with mendable(ValueError):
      state = start(run, checkpoints)
    if meta is None:
      meta = first_look(run, state, pool)
    writer = None
    if jax.process_index() == 0:
      (workdir / 'config.json').write_text(json.dumps(run.config, indent=2))
      writer = stack.enter_context(
        metrics.Writer(workdir, resume_step=int(state.step) + 1)
      )
    state, meta, finished = loop(run, state, meta, checkpoints, pool, writer)
    checkpoints.wait()
    if not finished:
      say(f'stopped and saved after step {int(state.step)}; run it again')
      return STOPPED
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
def mendable(*kinds: type[Exception], where: str = '') -> Iterator[None]:
  """Ends the run with one line for errors of these kinds.

  Wraps the reading of what a user gave, and known ends of a run; anything
  else is a bug, which keeps its traceback.
  """
  try:
    yield
  except kinds as e:
    logging.debug('where the error below comes from', exc_info=True)
    raise SystemExit(f'error: {where}{" ".join(str(e).split())}') from e


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
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update(
      'jax_compilation_cache_dir', os.path.expanduser(COMPILE_CACHE)
    )
  if not flags.FLAGS['verbosity'].present:
    # Orbax tells every save in twenty lines; what matters is said above.
    logging.set_verbosity(logging.WARNING)
  workdir = pathlib.Path(WORKDIR.value or f'runs/{config_name()}')
  connect()
  with ends_all():
    try:
      with mendable(ValueError, OSError):
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
