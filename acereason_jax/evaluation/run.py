"""Draws and judges the rollouts of an evaluation: one engine, one stream.

All benchmarks share the engine and its two compiled programs, and one stream,
so that nothing waits between them. A rollout's key depends on the seed, on
'benchmark/id' and on its index. So other benchmarks, n, the order and the
number of processes change no rollout.
"""

import collections
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.console import exits, signals, terminal
from acereason_jax.evaluation import (
  forecast,
  judges,
  kept,
  problems,
  prompts,
  reading,
  results,
  samples,
  settings,
  values,
)
from acereason_jax.hosts import gather, watchdog
from acereason_jax.models import tokens
from acereason_jax.rollout import output, programs, sampling, serve
from acereason_jax.rollout import trace as trace_lib

# Rollouts that tell something about the others.
_FEWEST_EARLY = 8
_WORK_SECONDS = 1.0
# Pages of a prompt that a call of prefill takes.
_PIECE_PAGES = 4
TIMELINE = 'timeline.jsonl'


class Model(NamedTuple):
  """The model that is evaluated.

  name: as the user gave it.
  weights: source of its parameters.
  """

  name: str
  weights: serve.Weights


class How(NamedTuple):
  """What an evaluation does besides its plan.

  out: folder of the results.
  like: folder of results whose lengths and speed are expected; '' for none.
  tokens: whether samples hold token ids and their log-probabilities.
  dry_run: whether to stop before anything is decoded.
  config: config of the plan, as JSON gives it; it is kept for --judge.
  agree: ends all processes unless they give it the same texts.
  """

  out: str
  like: str
  tokens: bool
  dry_run: bool
  config: Mapping[str, Any]
  agree: Callable[[Mapping[str, str]], None]


class Job(NamedTuple):
  """An evaluation whose files were read and whose values were checked.

  plan: benchmarks and how they are sampled.
  model, files: the model and its small files.
  mesh: the devices.
  ready: benchmarks with their problems.
  prompts: prompts of each benchmark, in the order of its problems.
  earlier: what other results tell about lengths.
  window: most tokens of a prompt.
  dtype, kv_dtype: of weights and compute, and of the cache.
  settings: what settings.json holds.
  """

  plan: values.Plan
  model: Model
  files: serve.ModelFiles
  mesh: jax.sharding.Mesh
  ready: tuple[problems.Ready, ...]
  prompts: Mapping[str, list[types.Prompt]]
  earlier: forecast.Earlier
  window: int
  dtype: jnp.dtype
  kv_dtype: jnp.dtype
  settings: Mapping[str, Any]

  @property
  def chips(self) -> int:
    device = self.mesh.devices.flat[0]
    return 0 if device.platform == 'cpu' else self.mesh.devices.size


# --- before anything is compiled --------------------------------------------


def read(plan: values.Plan, model: Model, how: How) -> Job:
  """Reads the small files and checks everything.

  Raises:
    ValueError, OSError: one line.
  """
  mesh = mesh_lib.make_mesh(**plan.mesh)
  device = mesh.devices.flat[0]
  on_cpu = device.platform == 'cpu'
  if plan.price_per_chip_hour and on_cpu:
    raise ValueError(
      f'config.price_per_chip_hour={plan.price_per_chip_hour:g}: this machine '
      'has no accelerator, and a CPU has no chip-hours; give 0'
    )
  earlier = forecast.NOTHING
  if how.like:
    earlier = forecast.of(reading.read(how.like))
  folder = samples.folder_at(how.out)
  old = settings.read(folder)
  ready = problems.read(plan, old)
  files = serve.read_model(model.weights.directory)
  asked = {
    r.benchmark.name: prompts.read(r, files.tokenizer, files.stops)
    for r in ready
  }
  dtype = plan.dtype or ('float32' if on_cpu else 'bfloat16')
  job = Job(
    plan=plan,
    model=model,
    files=files,
    mesh=mesh,
    ready=ready,
    prompts=asked,
    earlier=earlier,
    window=_window(plan, files, model, asked),
    dtype=jnp.dtype(dtype),
    kv_dtype=jnp.dtype(plan.kv_dtype or dtype),
    settings={},
  )
  fresh = _settings(job)
  files.tokenizer.close()
  if files.tokenizer.reads_clock:
    terminal.say(tokens.clock_line(files.tokenizer), to_stderr=True)
  return job._replace(settings=settings.merged(folder, old, fresh))


def _window(
  plan: values.Plan,
  files: serve.ModelFiles,
  model: Model,
  asked: Mapping[str, list[types.Prompt]],
) -> int:
  """Most tokens of a prompt. Raises ValueError for one that does not fit."""
  config = files.network.config
  everything = [p for each in asked.values() for p in each]
  serve.check_prompts(files.directory, config.vocab, everything)
  serve.check_vocabulary(files.directory, config.vocab, files.stops)
  return prompts.window(plan, asked, model.name, config.context)


def _settings(job: Job) -> dict[str, Any]:
  """What settings.json is to hold of the benchmarks that are asked."""
  digests = job.model.weights.digests()
  sampled = job.plan.sampling._asdict()
  dtypes = dict(dtype=str(job.dtype), kv_dtype=str(job.kv_dtype))
  return dict(
    schema=reading.SCHEMA,
    model=digests,
    tokenizer=job.files.tokenizer.digest,
    stop_tokens=list(job.files.stops),
    seed=job.plan.seed,
    sampling=sampled,
    **dtypes,
    benchmarks={
      r.benchmark.name: results.benchmark_settings(
        r, tokens.digest(job.prompts[r.benchmark.name])
      )
      for r in job.ready
    },
    judges=results.all_judges(job.ready),
    about=dict(
      model=dict(
        name=job.model.name, step=job.model.weights.step, digests=digests
      ),
      sampling=dict(sampled, seed=job.plan.seed),
      engine=dict(
        dtypes,
        window=job.window,
        device=job.mesh.devices.flat[0].device_kind,
        jax=jax.__version__,
      ),
      first_prompts={
        name: prompts.about_first(each, job.files.tokenizer)
        for name, each in job.prompts.items()
      },
    ),
  )


# --- the evaluation ---------------------------------------------------------


def evaluate(job: Job, how: How, stop: signals.StopRequest) -> int:
  """Draws and judges what is missing; returns the exit status.

  Raises:
    signals.Asked: after a signal; nothing is lost.
    SystemExit: one line, something for the user to fix.
  """
  how.agree({n: json.dumps(v) for n, v in output.flat(job.settings).items()})
  names = sorted({n for r in job.ready for n in r.benchmark.judges})
  process, count = jax.process_index(), jax.process_count()
  with contextlib.ExitStack() as stack:
    with exits.one_line_for(ValueError, OSError):
      # Before settings are written: a judge may not start.
      pools = judges.Pools(job.plan.benchmarks, problems.workers(job.plan))
      if not how.dry_run:
        stack.enter_context(pools)
      store = stack.enter_context(
        samples.Store(
          how.out, names, process, count, job.settings, not how.dry_run
        )
      )
      if not how.dry_run and process == 0:
        kept.write(
          store.folder, how.config, [r.benchmark.name for r in job.ready]
        )
    asked = _asked(job, store)
    if process == 0:
      for line in _lines_before(job, asked):
        terminal.say(line)
    if how.dry_run:
      return 0
    with exits.one_line_for(OSError):
      return _judged(job, how, store, pools, asked, stop)


def _asked(job: Job, store: samples.Store) -> forecast.Asked:
  """The rollouts that no process has."""
  mine = [[*key, kept.length] for key, kept in store.own.items()]
  known: dict[str, dict[int, int]] = collections.defaultdict(dict)
  for each in gather.everyones(json.dumps(mine).encode()):
    for benchmark, name, index, length in json.loads(each):
      known[f'{benchmark}/{name}'][index] = length
  return forecast.asked(job.plan, job.prompts, known, job.earlier)


def _lines_before(job: Job, asked: forecast.Asked) -> Iterator[str]:
  """What is printed before anything is decoded."""
  about = job.settings['about']['first_prompts']
  bos = job.files.tokenizer.bos_token_id
  for each in job.ready:
    name = each.benchmark.name
    begins = prompts.opening(job.prompts[name][0], bos)
    yield prompts.told(each, about[name], begins)
    if each.missing:
      yield problems.left_out(each)
  device = job.settings['about']['engine']['device']
  price = job.plan.price_per_chip_hour
  yield from forecast.told(asked, job.earlier, job.chips, device, price)


def _judged(
  job: Job,
  how: How,
  store: samples.Store,
  pools: judges.Pools,
  asked: forecast.Asked,
  stop: signals.StopRequest,
) -> int:
  """Draws, judges and writes the results."""
  judging = judges.Judging(store, pools, job.ready)
  trace = trace_lib.Trace()
  began, before = time.monotonic(), store.judge_seconds
  try:
    if asked.requests:
      decode(job, how, store, judging, asked, trace, stop)
    stop.heed()
    with watchdog.phase('judge'):
      while not _everyone(judging.work(_WORK_SECONDS)):
        watchdog.progress()
        stop.heed()
    with stop.interruptible(), watchdog.phase('votes'):
      found = results.told(store, pools, job.ready, watchdog.progress)
      told = json.dumps(found)
  finally:
    if jax.process_index() == 0:
      results.add_start(
        store.folder,
        tokens=trace.tokens,
        seconds=time.monotonic() - began,
        chips=job.chips,
        judge_seconds=store.judge_seconds - before,
      )
      if asked.requests:
        output.write_timeline(store.folder / TIMELINE, trace)
  with watchdog.phase('exchange'):
    every = gather.everyones(told.encode())
  if jax.process_index():
    return 0
  outcomes = (outcome for each in every for outcome in json.loads(each))
  return results.finish(job.plan, job.ready, outcomes, store)


def decode(
  job: Job,
  how: How,
  store: samples.Store,
  judging: judges.Judging,
  asked: forecast.Asked,
  trace: trace_lib.Trace,
  stop: signals.StopRequest,
) -> None:
  """Draws the rollouts; each is written and given to its judges as it ends."""
  with (
    stop.interruptible(),
    watchdog.phase('load'),
    exits.one_line_for(ValueError, OSError),
  ):
    served = make_engine(job)
  stream = served.engine.stream(
    served.params,
    asked.requests,
    seed=job.plan.seed,
    step=0,
    temperature=job.plan.sampling.temperature,
    trace=trace,
    until=stop.agreed,
  )
  said = bool(asked.lengths) or jax.process_index() > 0
  early, lengths = forecast.EARLY_SHARE * len(asked.requests), []
  total = len(asked.requests) + asked.there
  with (
    output.progress(total, asked.there, trace) as advance,
    watchdog.phase('sample', id(served.engine)),
  ):
    for rollout in stream:
      benchmark, _, name = rollout.prompt_id.partition('/')
      if store.is_mine(benchmark, name):
        key = samples.Key(benchmark, name, rollout.index)
        record = output.to_record(rollout, how.tokens)
        store.write_sample(key, record)
        judging.ask(key, rollout.text)
      advance()
      if not said:
        lengths.append(len(rollout.tokens))
        if said := len(lengths) >= max(early, _FEWEST_EARLY):
          terminal.say(forecast.early(lengths, len(asked.requests)))


def make_engine(job: Job) -> serve.Served:
  """The engine and the weights.

  Its sizes depend on the config and the devices only, not on which rollouts
  are missing: the number of slots and the size of a piece of prefill can change
  the rounding of a logit.
  """
  plan = job.plan
  sizes = serve.choose_sizes(
    serve.Asked(plan.slots, plan.page, plan.chunk, plan.pages),
    job.mesh,
    window=job.window,
    max_tokens=max(b.max_tokens for b in plan.benchmarks),
  )
  return serve.serve(
    job.model.weights,
    job.files,
    job.mesh,
    sizes=sizes._replace(piece=_PIECE_PAGES * sizes.page),
    sampling=sampling.Sampling(
      plan.sampling.top_p,
      plan.sampling.top_k,
      plan.sampling.min_p,
      greedy=plan.sampling.temperature == 0,
    ),
    ending=programs.Ending(tokens=job.files.stops),
    dtype=job.dtype,
    kv_dtype=job.kv_dtype,
    rollouts=sys.maxsize,
  )


def _everyone(done: bool) -> bool:
  """Whether all processes are done; all must ask."""
  return all(bool(each[0]) for each in gather.everyones(bytes([done])))
