"""Measures the programs of a stage on the machine that is here.

A machine without known rates can still be planned for: each program is compiled
and called for about a second on random weights and an invented batch, with the
stage's own shapes. A call of decode takes

    call + steps * (step + token * cached positions)

seconds, and three kinds of calls give the three numbers: one step, and a whole
chunk at a short and at a long context. No data, checkpoint or weights are read,
and nothing is fitted to the seconds of a run.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from acereason_jax import machines, types
from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import paged_attention
from acereason_jax.models import base
from acereason_jax.planning import fitting, lengths, timing, values
from acereason_jax.rl import gradients, packing, update
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import (
  engine_sizes,
  exchange,
  requests,
  schedule,
  serve,
)
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import build

# Numbers of weights: as in a new model, so that no value is special.
_STD = 0.02
# A product of this size runs at the best rate.
_PRODUCT = 2048


class Clocks(NamedTuple):
  """The same programs by two clocks.

  wall: seconds that pass.
  cpu: CPU seconds of all threads; other work on the machine disturbs them less.
  """

  wall: values.Measured
  cpu: values.Measured


class _Timer(NamedTuple):
  """Calls a function for some time.

  seconds: how long, at least; after one call to compile.
  least: fewest calls.
  """

  seconds: float
  least: int = 3

  def __call__(self, run: Callable[[], Any]) -> np.ndarray:
    """Medians of (wall, CPU) seconds of a call."""
    run()
    found, began = [], time.perf_counter()
    while len(found) < self.least or (
      time.perf_counter() - began < self.seconds
    ):
      before = np.array([time.perf_counter(), time.process_time()])
      run()
      after = np.array([time.perf_counter(), time.process_time()])
      found.append(after - before)
    return np.median(found, axis=0)


def check(hardware: machines.Hardware) -> None:
  """Raises ValueError, one line, unless the hardware is this machine."""
  here, count = jax.default_backend(), jax.device_count()
  if hardware.kind.platform != here or hardware.devices != count:
    raise ValueError(
      f'--calibrate: --hardware={hardware.text} is not here, and only this '
      f'machine can be measured; it has {count} device(s) of jax on {here}'
    )


def measured(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: values.Assumed,
  known: timing.Known = types.EMPTY,
) -> dict[str, values.Measured]:
  """Wall seconds of the programs of each stage, by its name.

  `known` are lengths as of `timing.timed`.

  Raises:
    ValueError: one line; the hardware is not here, or a stage does not fit it.
  """
  check(hardware)
  fits = fitting.fit(config, hardware, assumed)
  if large := [fit.name for fit in fits if not fit.fits]:
    raise ValueError(
      f'--calibrate: stage {large[0]!r} does not fit {hardware.text}, so its '
      'programs cannot run here; plan it for a larger machine'
    )
  files = serve.read_model_sizes(config.model)
  programs = build.build_programs(config, mesh_lib.this_machine(), files)
  works = {fit.name: fit.work for fit in fits}
  return {
    stage.name: calibrate(
      programs, stage, works[stage.name], assumed, known=known
    ).wall
    for stage in programs.stages
  }


def calibrate(
  programs: build.Programs,
  stage: Any,
  work: values.Work,
  assumed: values.Assumed,
  *,
  known: timing.Known = types.EMPTY,
  seconds: float = 1.0,
  trains: bool = True,
) -> Clocks:
  """Measures the programs of one stage, for `timing.timed`.

  `programs` were built for this machine. Each program runs for `seconds` after
  it is compiled. `known` are lengths as of `timing.timed`; the microbatch that
  is measured is packed of such lengths. Without `trains` those of the update
  are left out, and count 0.
  """
  timer, random = _Timer(seconds), np.random.default_rng(assumed.seed)
  state = stage.init(_random(programs.abstract_params, random))
  frozen = _random(programs.params.abstract_frozen, random)
  state = state.replace(frozen=frozen)
  weights = lambda: programs.rollouts.params(state.weights)
  found = dict(rollout_params=timer(lambda: jax.block_until_ready(weights())))
  params = weights()
  rollouts = engine_times(stage.engine, params, work, assumed, timer)
  heldout = rollouts
  if programs.heldout_engine is not stage.engine:
    heldout = engine_times(
      programs.heldout_engine, params, work, assumed, timer
    )
  del params
  found |= dict.fromkeys(('add', 'score', 'apply'), np.zeros(2))
  if trains:
    batch = stage.place(typical(stage, work, assumed, known, random))
    found |= update_times(stage, state, batch, timer)
  best = peak(programs.network.mesh, timer)
  wall, cpu = (
    values.Measured(
      rollouts=rollouts[i],
      heldout=heldout[i],
      peak=float(best[i]),
      **{name: float(value[i]) for name, value in found.items()},
    )
    for i in range(2)
  )
  return Clocks(wall, cpu)


def _random(abstract: base.Tree, random: np.random.Generator) -> base.Tree:
  """Arrays of these shapes, dtypes and shardings."""

  def one(x: jax.ShapeDtypeStruct) -> jax.Array:
    value = random.standard_normal(x.shape, np.float32) * _STD
    return mesh_lib.spread(value.astype(x.dtype), x.sharding)

  return jax.tree.map(one, abstract)


# Decoding and prefill.


def engine_times(
  engine: engine_lib.Engine,
  params: base.Tree,
  work: values.Work,
  assumed: values.Assumed,
  timer: _Timer,
) -> tuple[values.Timings, values.Timings]:
  """The seconds of an engine's programs: (wall, CPU)."""
  sizes = engine.sizes
  plan, calls = full_schedule(sizes, round(assumed.prompt_tokens))
  pool = [engine.empty_pool()]

  def fill() -> None:
    pieces = exchange.Pieces(*map(engine.place, calls[0]))
    pool[0] = jax.block_until_ready(engine.prefill(params, pool[0], pieces))

  # A prompt of one token has nothing to prefill.
  prefill = timer(fill) if calls else np.zeros(2)
  width = read_width(work, sizes)
  origin = np.zeros(2, np.int32)
  temperature = np.float32(0.0 if engine.greedy else 1.0)

  def decoded(limit: int) -> tuple[np.ndarray, float, float]:
    """(seconds of a call, its steps, positions that a step of it reads)."""
    control_BF, table_BP = plan.control()
    slot = exchange.Slot(*control_BF.T)
    control_BF = np.stack(
      slot._replace(limit=slot.drawn + limit * slot.live), axis=1
    )
    steps = []

    def call() -> None:
      rows = engine.rows(control_BF, table_BP)
      pool[0], drawn = engine.decode(
        params, pool[0], origin, temperature, *rows
      )
      steps.append(int(jax.device_get(drawn).steps))

    seconds = timer(call)
    return seconds, statistics.mean(steps), read(slot.length, sizes, width)

  short = [decoded(1), decoded(sizes.chunk)]
  grow(plan, sizes.max_tokens - sizes.chunk)
  found = solve([*short, decoded(sizes.chunk)])
  return tuple(
    values.Timings(*map(float, found[:, i]), float(prefill[i]), width)
    for i in range(2)
  )


def solve(
  calls: Sequence[tuple[np.ndarray, float, float]],
) -> np.ndarray:
  """(call, step, token) by each clock, [3, clocks], at least 0.

  `calls` are (seconds, steps, positions read in a step): one step and a chunk
  at one context, and a chunk at a longer one. What cannot be told apart counts
  as the step's: the call, for chunks of one step, and the reading, for contexts
  of one length.
  """
  (one, steps_1, _), (short, steps_n, least), (long, steps_m, most) = calls
  call = token = np.zeros_like(one)
  if steps_n > steps_1:
    call = (steps_n * one - steps_1 * short) / (steps_n - steps_1)
    # Noise may make it any number; a chunk takes what it was measured to take,
    # and each of its steps some of it.
    most_call = np.minimum(one, short) * steps_n / (steps_n + 1)
    call = np.clip(call, 0.0, most_call)
  # With what a step reads at that context.
  step = (short - call) / steps_n
  if most > least:
    longer = (long - call) / steps_m - step
    token = np.clip(longer / (most - least), 0.0, step / max(least, 1.0))
  return np.stack([call, step - token * least, token])


def full_schedule(
  sizes: engine_sizes.Sizes, prompt_tokens: int
) -> tuple[schedule.Schedule, list[exchange.Pieces]]:
  """(a schedule with a rollout in each slot, the prefill calls of prompts)."""
  length = max(1, min(prompt_tokens, sizes.window))
  # A prompt for each row of a prefill call: of each slots / rows rollouts.
  count = min(sizes.rows, sizes.slots)
  prompts = [
    types.Prompt(str(i), '', '', np.full(length, i, np.int32))
    for i in range(count)
  ]
  groups = -(-sizes.slots // count)
  asked = requests.for_prompts(prompts, groups, sizes.max_tokens)
  flat = [request for group in asked for request in group]
  plan = schedule.Schedule(sizes, flat[: sizes.slots], trace_lib.Trace())
  return plan, plan.admit(lambda _: 0)


def grow(plan: schedule.Schedule, tokens: int) -> None:
  """Lets all rollouts of a schedule draw so many tokens; none ends."""
  sizes, drawn = plan.sizes, 0
  while drawn + sizes.chunk <= tokens:
    live_B = [live is not None for shard in plan.shards for live in shard.slots]
    plan.advance(
      sizes.chunk,
      [sizes.chunk * live for live in live_B],
      [exchange.RUNNING] * sizes.slots,
    )
    # Those that lost their pages wait; the others are as long as can be.
    plan.waiting.clear()
    plan.admit(lambda _: 0)
    drawn += sizes.chunk


def read_width(work: values.Work, sizes: engine_sizes.Sizes) -> int:
  """See `values.Timings.width`: only the kernel in plain JAX takes blocks."""
  if jax.default_backend() != 'cpu':
    return 0
  return max(1, paged_attention.BLOCK // sizes.page) * sizes.page


def read(length_B: np.ndarray, sizes: engine_sizes.Sizes, width: int) -> float:
  """Positions of the cache that the busiest shard reads in a step."""
  length_SB = length_B.reshape(sizes.shards, -1)
  if width:
    longest = int(length_SB.max())
    return float(length_SB.shape[1] * (-(-longest // width) * width))
  return float(length_SB.sum(1).max())


# The update.


def typical(
  stage: Any,
  work: values.Work,
  assumed: values.Assumed,
  known: timing.Known,
  random: np.random.Generator,
) -> packing.PackedBatch:
  """A microbatch of simulated lengths, with tokens by chance; on the host.

  It has the widest rows.
  """
  draws = timing.lengths_of(
    work.sizes.max_tokens, work.prompts, round(work.groups), assumed, known
  )
  size = max(1, min(round(assumed.prompt_tokens), work.sizes.window))
  tokens = lambda n: random.integers(0, work.shape.vocab, n, np.int32)

  def trained(prompt: types.Prompt, index: int, n: int) -> rows_lib.Trained:
    logp = np.full(n, -1.0, np.float32)
    rollout = types.Rollout(prompt.id, index, tokens(n), logp, logp, 'stop', '')
    return rows_lib.Trained(prompt, rollout, (-1.0) ** index, 1.0)

  prompts = [
    types.Prompt(str(i), '', '', tokens(size)) for i in range(work.prompts)
  ]
  groups = [
    [trained(prompt, i, int(n)) for i, n in enumerate(row)]
    for prompt, row in zip(prompts, lengths.draw(draws))
  ]
  found = packing.pack(groups, **stage.layout._replace(multiple=0)._asdict())
  return found[len(found) // 2].batch


def update_times(
  stage: Any, state: update.TrainState, batch: Any, timer: _Timer
) -> dict[str, np.ndarray]:
  """(wall, CPU) seconds of the programs of an update."""
  knobs, fns, whole = gradients.make_knobs(1.0), stage.update, [state]
  sums = [fns.zeros(state.params)]
  ready = jax.block_until_ready

  def add() -> None:
    sums[0], _ = ready(fns.add(whole[0].weights, sums[0], batch, knobs))

  def score() -> None:
    ready(fns.logp(whole[0].weights, batch, knobs))

  def apply() -> None:
    # Its state is donated.
    whole[0], metrics = fns.apply(whole[0], sums[0])
    ready((whole[0], metrics))

  found = dict(add=timer(add), score=np.zeros(2))
  if stage.has_reference or stage.has_first:
    found['score'] = timer(score)
  zeros = timer(lambda: ready(fns.zeros(whole[0].params)))
  return found | dict(apply=zeros + timer(apply))


def peak(mesh: jax.sharding.Mesh, timer: _Timer) -> np.ndarray:
  """FLOPs per second of the best float32 product, of all devices."""
  x = jnp.ones((_PRODUCT, _PRODUCT), jnp.float32)
  product = jax.jit(functools.partial(jnp.dot, precision='highest'))
  seconds = timer(lambda: product(x, x).block_until_ready())
  return mesh.size * 2 * _PRODUCT**3 / seconds
