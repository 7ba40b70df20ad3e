"""Measured programs of a stage, and a plan made of their seconds."""

import math

import jax
import numpy as np
import planned
import pytest
import tiny

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import stages as stages_lib
from acereason_jax.planning import (
  calibrate,
  fitting,
  rollouts,
  timing,
  values,
)
from acereason_jax.rollout import exchange, serve
from acereason_jax.run import build

pytestmark = pytest.mark.usefixtures('compiled_once')

HERE = machines.hardware('cpu:1')
TIMINGS = values.Timings(call=3.0, step=2.0, token=0.5, prefill=7.0)
MEASURED = values.Measured(
  rollouts=TIMINGS,
  heldout=TIMINGS._replace(step=20.0),
  rollout_params=11.0,
  add=100.0,
  score=30.0,
  apply=10.0,
  peak=1e6,
)


CLIPPED = dict(
  fn='acereason_jax.rl.losses:clipped', clip_low=0.2, clip_high=0.2
)
KL = dict(fn='acereason_jax.rl.losses:with_kl', loss=CLIPPED, weight=0.1)
CASES = {
  'plain': {},
  'adapters, an engine for held-out questions': dict(
    lora=dict(rank=2), dtype='bfloat16', heldout=dict(temperature=0.0)
  ),
  'a reference, two updates, chunks of one step': dict(
    objective=dict(loss=KL),
    optim=dict(updates=2, offload=True),
    engine=dict(chunk=1),
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_programs_of_the_tiny_model(name, folder):
  """Every number is finite, and every program takes time."""
  config = stages_lib.with_overrides(tiny.config(folder), CASES[name])
  assumed = values.Assumed(prompt_tokens=6)
  (fit,) = fitting.fit(config, HERE, assumed)
  machine = mesh_lib.this_machine()
  machine = machine._replace(devices=machine.devices[:1])
  files = serve.read_model_sizes(config.model)
  programs = build.build_programs(config, machine, files)
  (stage,) = programs.stages
  clocks = calibrate.calibrate(programs, stage, fit.work, assumed, seconds=0.0)
  for found in clocks:
    for engine in (found.rollouts, found.heldout):
      assert all(math.isfinite(x) and x >= 0 for x in engine)
      assert engine.call + engine.step > 0 < engine.prefill
      # Two pages of four tokens are not a block of the kernel.
      assert engine.width == 64
    rest = found[2:]
    scored = found.score > 0
    assert all(math.isfinite(x) and x > 0 for x in rest if x != found.score)
    assert scored == ('reference' in name)
  own = programs.heldout_engine is not stage.engine
  assert (clocks.wall.heldout != clocks.wall.rollouts) == own
  timed = timing.timed(fit.work, HERE, assumed, measured=clocks.wall)
  assert 0 < timed.step_seconds < math.inf and 0 < timed.mfu < math.inf
  with pytest.raises(ValueError, match='--hardware=cpu: its bandwidth'):
    timing.timed(fit.work, HERE, assumed)


def test_a_machine_that_is_not_here():
  count = jax.device_count()
  calibrate.check(machines.hardware(f'cpu:{count}'))
  for other in ('v5p:2x2x1', f'cpu:{count + 1}'):
    with pytest.raises(ValueError, match=f'--hardware={other} is not here'):
      calibrate.check(machines.hardware(other))


# From seconds of calls to numbers, and back.


def call(number, step, token, steps, read):
  return np.array([1.0, 2.0]) * (number + steps * (step + token * read))


@pytest.mark.parametrize(
  'true, steps, reads, expected',
  [
    ((3.0, 2.0, 0.5), (1, 8), (64, 640), (3.0, 2.0, 0.5)),
    # An end of all rollouts before the end of the chunk.
    ((3.0, 2.0, 0.5), (1, 5.5), (64, 640), (3.0, 2.0, 0.5)),
    # Contexts of one length: a step takes what it reads there.
    ((3.0, 2.0, 0.5), (1, 8), (64, 64), (3.0, 34.0, 0.0)),
    # Chunks of one step: the call is a part of the step.
    ((3.0, 2.0, 0.5), (1, 1), (64, 640), (0.0, 5.0, 0.5)),
  ],
)
def test_three_calls_give_three_numbers(true, steps, reads, expected):
  (one, chunk), (short, long) = steps, reads
  calls = [(one, short), (chunk, short), (chunk, long)]
  found = calibrate.solve([(call(*true, *c), *c) for c in calls])
  np.testing.assert_allclose(found[:, 0], expected)
  np.testing.assert_allclose(found[:, 1], 2 * np.array(expected))


@pytest.mark.parametrize('one', [0.1, 9.0])
def test_noise_gives_no_negative_number_and_keeps_the_time_of_a_chunk(one):
  """The difference of two calls is noise where both take as long."""
  calls = [(np.full(2, one), 1, 64), (np.full(2, 5.0), 8, 64)]
  found = calibrate.solve([*calls, (np.full(2, 1.0), 8, 640)])
  assert (found >= 0).all()
  call, step, token = found
  # A plan in which decoding took no time would have no share of it.
  assert (step + 64 * token > 0).all()
  np.testing.assert_allclose(call + 8 * (step + 64 * token), 5.0)


def test_a_full_schedule_grows():
  """Six rollouts of three prompts; their pages are those of an engine."""
  sizes = planned.SIZES._replace(slots=6, shards=1, rows=3)
  plan, calls = calibrate.full_schedule(sizes, 7)
  (pieces,) = calls
  assert len(set(map(tuple, pieces.page_AP[:, :2].tolist()))) == 3
  slot = lambda: exchange.Slot(*plan.control()[0].T)
  assert slot().length.tolist() == [6] * 6 and slot().live.all()
  calibrate.grow(plan, 60)
  # Six tokens of a prompt take two pages of four.
  assert slot().length.tolist() == [8 + 60] * 6
  assert slot().drawn.tolist() == [60] * 6


def test_what_a_step_reads():
  sizes = planned.SIZES._replace(slots=6, shards=2)
  length_B = np.array([1, 2, 3, 10, 20, 65])
  assert calibrate.read(length_B, sizes, 0) == 95
  # All three rows of a shard go through the blocks of the longest row.
  assert calibrate.read(length_B, sizes, 64) == 3 * 128


# A plan of measured seconds, by hand.


def test_seconds_of_calls_by_hand():
  """Two slots; rollouts of 6 and 3 tokens after a prompt of 5; chunks of 4."""
  sizes = planned.SIZES._replace(slots=2, shards=1)
  lengths_PG = np.array([[6, 3]])
  run = lambda timings: (
    rollouts.run(sizes, lengths_PG, 5, rollouts.Clocked(timings)).decoded
  )
  # Four cached tokens of the prompt; contexts are those after half of a call:
  # two rollouts of 4 + 2 for four steps, then one of 4 + 4 + 1 for two.
  kv = 0.5 * (4 * 2 * 6 + 2 * 9)
  own = run(TIMINGS)
  assert own.steps == 6 and own.calls == 2
  assert own.parts['kv'] == pytest.approx(kv)
  assert own.seconds == pytest.approx(7 + 2 * 3 + 6 * 2 + kv)
  # In blocks of 6: one of the first call's 4 positions, and two of the 8 after
  # it, for both slots, as a slot without a rollout is computed too.
  blocks = 0.5 * (4 * 2 * 6 + 2 * 2 * 12)
  walked = run(TIMINGS._replace(width=6))
  assert walked.parts['kv'] == pytest.approx(blocks)
  assert walked.seconds == pytest.approx(7 + 2 * 3 + 6 * 2 + blocks)


def test_a_stage_by_hand():
  """Each look has the seconds of the held-out engine."""
  held = planned.SIZES._replace(max_tokens=32)
  work = planned.work(
    shape=planned.SMALL,
    heldout=held,
    looks=(values.Look('math', 8, 1, 5),),
    updates=2,
    scored=1,
  )
  assumed = values.Assumed(prompt_tokens=5, kept=1.0, mean_tokens={64: 20})
  timed = timing.timed(work, HERE, assumed, measured=MEASURED)
  assert timed.phases['reshard'] == 11.0
  # Each of the two updates has one microbatch.
  assert timed.microbatches == 1.0
  assert timed.phases['update'] == 2 * (100.0 + 30.0 + 10.0)
  batch = timed.batch
  assert timed.phases['host'] == pytest.approx(3.0 * batch.calls)
  prefills = timed.phases['prefill'] / 7.0
  assert prefills == pytest.approx(round(prefills)) and prefills >= 1
  kv = batch.parts['kv']
  assert timed.phases['decode'] == pytest.approx(2.0 * batch.steps + kv)
  faster = MEASURED._replace(heldout=TIMINGS)
  other = timing.timed(work, HERE, assumed, measured=faster)
  assert other.phases['decode'] == timed.phases['decode']
  # Two looks in ten steps, whose decode steps took 20 seconds and take 2.
  saved = timed.phases['heldout'] - other.phases['heldout']
  steps = saved / (20.0 - 2.0) * 10 / 2
  assert steps == pytest.approx(round(steps)) and 1 <= steps <= 32
