"""Simulated batches next to real engines, and what must hold of any batch."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import planned
import properties
import pytest
from hypothesis import strategies as st

from acereason_jax import machines, partition, types
from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base, decoder
from acereason_jax.planning import lengths, links, rollouts, traffic, values
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import engine_sizes, programs, sampling
from acereason_jax.rollout import trace as trace_lib

CONFIG = oracles.tiny_config()
# One in twelve tokens ends a rollout.
STOPS = tuple(range(3, CONFIG.vocab, 12))
LIMIT = 24
REAL = engine_sizes.Sizes(
  slots=4,
  shards=1,
  page=4,
  chunk=4,
  pages=60,
  rows=2,
  piece=8,
  window=24,
  max_tokens=LIMIT,
)
RATES = traffic.Rates(1e9, 1e12)
PRICE = rollouts.Price(
  planned.SMALL,
  RATES,
  tensor=1,
  dtype_bytes=2,
  kv_bytes=2,
  matrix_bytes=2,
  sums=0.0,
  prefill=0.0,
  host=0.0,
)


def prompt(i):
  tokens = np.random.default_rng(i).integers(1, CONFIG.vocab, 1 + 5 * i % 23)
  return types.Prompt(str(i), '', '', tokens.astype(np.int32))


def drawn_by_engine(sizes, shards, prompts, groups):
  """Real rollouts of random weights, and the trace of the real engine."""
  sizes = sizes._replace(shards=shards, rows=2 * shards)
  mesh = mesh_lib.make_mesh(
    data=1, fsdp=shards, tensor=1, devices=jax.devices()[:shards]
  )
  engine = engine_lib.make_engine(
    decoder.make_model(CONFIG, **partition.pins(mesh)),
    mesh,
    sizes=sizes,
    sampling=sampling.Sampling(),
    ending=programs.Ending(STOPS),
    kv_dtype=jnp.float32,
    to_text=str,
  )
  params = oracles.rough_params(decoder.make_model(CONFIG).specs)
  trace = trace_lib.Trace()
  found = engine.sample(
    base.apart(params) if shards == 1 else params,
    prompts,
    groups=groups,
    seed=3,
    step=5,
    temperature=1.0,
    trace=trace,
  )
  lengths_PG = np.array([[len(r.tokens) for r in group] for group in found])
  return sizes, lengths_PG, trace


@pytest.mark.parametrize(
  'name, changes, shards, groups',
  [
    ('plenty', {}, 1, 4),
    ('few pages', dict(pages=14), 1, 4),
    ('short chunks', dict(chunk=2), 1, 4),
    ('two shards', dict(slots=8), 2, 5),
  ],
)
def test_steps_and_occupancy_are_those_of_a_real_engine(
  name, changes, shards, groups
):
  """With the lengths that the engine drew; all counts are equal."""
  prompts = [prompt(i) for i in range(7)]
  sizes, lengths_PG, real = drawn_by_engine(
    REAL._replace(**changes), shards, prompts, groups
  )
  assert len(set(lengths_PG.ravel().tolist())) > 5
  assert (lengths_PG == LIMIT).any()
  tokens = np.array([len(p.tokens) for p in prompts])
  decoded = rollouts.run(sizes, lengths_PG, tokens, PRICE).decoded
  assert decoded.steps == real.steps
  assert decoded.tokens == real.busy
  assert decoded.preempted == real.preempted
  assert bool(real.preempted) == (name == 'few pages')
  assert decoded.occupancy == real.metrics()['occupancy']


LENGTHS = st.lists(
  st.lists(st.integers(1, 64), min_size=3, max_size=3), min_size=1, max_size=12
)


@properties.tried(100)
@hypothesis.given(LENGTHS, st.integers(12, 60), st.integers(0, 16))
def test_tokens_are_conserved(given, pages, prompt_tokens):
  sizes = planned.SIZES._replace(pages=max(pages, planned.SIZES.table + 1))
  found = rollouts.run(sizes, np.array(given), prompt_tokens, PRICE)
  decoded, total = found.decoded, sum(map(sum, given))
  assert decoded.tokens >= total
  if not decoded.preempted:
    assert decoded.tokens == total
  # Each ends once, in order of time.
  assert sorted(end[:2] for end in found.ends) == [
    (p, g) for p in range(len(given)) for g in range(3)
  ]
  times = [seconds for _, _, seconds in found.ends]
  assert times == sorted(times)
  assert times[-1] == pytest.approx(decoded.seconds)
  assert sum(decoded.parts.values()) == pytest.approx(decoded.seconds)


@properties.tried(100)
@hypothesis.given(LENGTHS, st.integers(1, 4))
def test_more_slots_never_take_more_steps(given, slots):
  """For lengths of whole chunks: else a call may end early by chance."""
  lengths_PG = 4 * -(-np.array(given) // 4)
  one = planned.SIZES._replace(shards=1, rows=2, pages=2000)
  steps = [
    rollouts.run(one._replace(slots=n), lengths_PG, 9, PRICE).decoded.steps
    for n in (slots, slots + 1, 2 * slots + 1)
  ]
  assert steps == sorted(steps, reverse=True)
  # No schedule is shorter than the longest rollout, or than full slots.
  assert steps[0] >= max(lengths_PG.max(), lengths_PG.sum() / slots)


@properties.tried(100)
@hypothesis.given(LENGTHS, st.floats(1e6, 1e12), st.floats(1.0, 10.0))
def test_more_bandwidth_never_takes_longer(given, bandwidth, more):
  seconds = [
    rollouts.run(
      planned.SIZES,
      np.array(given),
      9,
      PRICE._replace(rates=RATES._replace(bandwidth=b)),
    ).decoded.seconds
    for b in (bandwidth, bandwidth * more)
  ]
  assert seconds[1] <= seconds[0]


def test_seconds_of_a_batch_by_hand():
  """Two prompts, one rollout each, on one shard: two calls.

  The prompts fill 8 positions, without their last tokens. In the first call of
  4 steps two contexts grow from 8: 2 (8 + 2) tokens a step. In the second call
  of 4 steps one of 12 is left: 12 + 2.
  """
  sizes = planned.SIZES._replace(shards=1, rows=2)
  price = PRICE._replace(host=5e-6, prefill=1e-3)
  found = rollouts.run(sizes, np.array([[3], [8]]), 9, price)
  token = 2 * 2 * 2 * 4 * 2  # layers, kv heads, keys and values, dims, bytes
  weights = 800 * 2
  # 8 slots of 32 logits of 4 bytes, six times.
  logits = 6 * 8 * 32 * 4
  assert found.decoded.parts == pytest.approx(
    dict(
      weights=8 * weights / 1e9,
      kv=4 * (20 + 14) * token / 1e9,
      products=0.0,
      sampler=8 * logits / 1e9,
      network=0.0,
      host=1e-5,
      prefill=1e-3,
    )
  )
  assert found.decoded.steps == 8 and found.decoded.calls == 2
  assert found.decoded.occupancy == 11 / 64


def test_a_call_waits_for_the_shard_with_the_largest_cache():
  sizes = planned.SIZES._replace(slots=4, shards=2, rows=2)
  lengths_PG = np.array([[8], [8]])
  even = rollouts.run(sizes, lengths_PG, np.array([9, 9]), PRICE).decoded
  uneven = rollouts.run(sizes, lengths_PG, np.array([1, 16]), PRICE).decoded
  assert even.busiest == pytest.approx(1.0)
  assert even.parts['kv'] < uneven.parts['kv']
  # 0 and 15 tokens at first, 2 more after half of a call, then 6 more.
  token = 2 * 2 * 2 * 4 * 2
  assert uneven.parts['kv'] == pytest.approx(4 * (17 + 21) * token / 1e9)
  # The mean of two shards is half of what both read.
  ratio = (17 + 21) / ((17 + 2) / 2 + (21 + 6) / 2)
  assert uneven.busiest == uneven.busiest_full == pytest.approx(ratio)


def test_2048_rollouts_of_13K_tokens():
  """The 7B's last stage on 64 chips: a plausible batch, of the mean asked."""
  hardware = machines.hardware('v5p:4x4x4')
  sizes = engine_sizes.Sizes(1024, 64, 128, 128, 3000, 256, 256, 1024, 32768)
  work = planned.work(sizes=sizes)
  assumed = values.Assumed()
  draws = lengths.Draws(128, 16, 32768, 13000, 0.6, 0)
  price = rollouts.price(work, sizes, hardware, assumed)
  found = rollouts.simulate(sizes, draws, 150, price)
  assert found.decoded.tokens == pytest.approx(2048 * 13000, rel=0.01)
  assert found.decoded.steps >= 32768
  # The same again is not simulated again.
  assert rollouts.simulate(sizes, draws, 150, price) is found


def batch_of_24k(slots, shards, ordered, seed=0):
  """A batch of math_24k; of its prompts a ledger has 16 more rollouts each."""
  sizes = engine_sizes.Sizes(
    slots=slots,
    shards=shards,
    page=128,
    chunk=128,
    pages=slots // shards * 200 + 1,
    rows=4 * shards,
    piece=256,
    window=1024,
    max_tokens=24576,
  )
  rollout_mesh = planned.mesh(fsdp=shards, tensor=64 // shards)
  work = planned.work(sizes=sizes, rollout_mesh=rollout_mesh)
  price = rollouts.price(
    work, sizes, machines.hardware('v5p:4x4x4'), values.Assumed()
  )
  both = lengths.draw(lengths.Draws(128, 32, 24576, 11000, 0.6, seed))
  earlier = both[:, 16:].mean(1) if ordered else None
  return rollouts.run(sizes, both[:, :16], 150, price, earlier).decoded


@pytest.mark.parametrize('slots', [1024, 2048])
def test_16_shards_of_64_chips_read_evenly(slots):
  """SCALE row 6: the busiest read 1.8 to 3.3 times the mean.

  Lengths are known of prompts, not of rollouts, so more shards are less even.
  """
  for seed in (0, 1):
    found = batch_of_24k(slots, 16, ordered=True, seed=seed)
    assert 1 <= found.busiest_full <= 1.15
    assert found.busiest <= 1.25
  assert batch_of_24k(slots, 64, ordered=True).busiest_full < 1.35


@pytest.mark.parametrize('shards', [16, 64])
def test_the_longest_first_are_never_slower(shards):
  """They were, at 2,048 slots: the longest went to the first shards."""
  for slots in (256, 512, 1024, 1536, 2048):
    given, longest = (
      batch_of_24k(slots, shards, ordered).seconds for ordered in (False, True)
    )
    assert longest <= 1.001 * given


# KERNELS: bytes of a decode step at full bandwidth, ms.
ROOFLINES = [
  (planned.QWEN_7B, 'v5e', 4, 4, 256, 10, 15.79),
  (planned.QWEN_7B, 'v5p', 2, 4, 256, 16, 12.15),
  (planned.QWEN_7B, 'v6e', 4, 4, 256, 16, 11.32),
  (planned.QWEN_7B, 'tpu7x', 2, 4, 256, 16, 9.11),
  (planned.QWEN_14B, 'v5p', 1, 8, 128, 16, 19.91),
  (planned.QWEN_1_5B, 'v5e', 2, 2, 64, 12, 8.77),
  # The compiler prices no GPU. By hand: 14.14 GB of weights and 64 x 12,288
  # tokens of 57,344 bytes at 3,352 GB/s.
  (planned.QWEN_7B, 'h100', 8, 1, 512, 12, 17.66),
]


@pytest.mark.parametrize(
  'shape, kind, data, tensor, slots, context, expected', ROOFLINES
)
def test_rooflines_of_a_decode_step(
  shape, kind, data, tensor, slots, context, expected
):
  """As a price gives them: all slots at one context, nothing but reads."""
  full = values.Assumed(bandwidth=1.0)
  rates = traffic.rates(machines.KINDS[kind], full)
  price = PRICE._replace(shape=shape, rates=rates, tensor=tensor)
  weights, products = price.weights(np.array([slots // data]), slots // data)
  token = traffic.token_bytes(shape, 2, tensor)
  kv = slots // data * context * 1024 * token / rates.bandwidth
  # In some rows sampling is of other sizes; it is not in these figures.
  assert 1e3 * (weights[0] + kv) == pytest.approx(expected, rel=0.02)
  assert products[0] == 0.0


def test_products_count_where_they_take_longer_than_weights():
  """At 2 FLOPs a weight and row and 2 bytes a weight: peak / bandwidth rows."""
  price = PRICE._replace(rates=traffic.Rates(1e9, 100e9))
  for slots, beyond in ((50, 0.0), (100, 0.0), (300, 2 * 1.6e-6)):
    weights, products = price.weights(np.array([1, slots]), slots)
    assert weights == pytest.approx([1.6e-6] * 2)
    # Slots without a rollout are computed too.
    assert products == pytest.approx([beyond] * 2)


def test_idle_slots_cost_products():
  """One rollout in 8 or in 800 slots, where a slot's products take 1.6 us."""
  price = PRICE._replace(rates=traffic.Rates(1e12, 1e9))
  parts = [
    rollouts.run(
      planned.SIZES._replace(slots=slots, shards=1, rows=2),
      np.array([[4]]),
      9,
      price,
    ).decoded.parts
    for slots in (8, 800)
  ]
  for found, slots in zip(parts, (8, 800)):
    spent = found['products'] + found['weights']
    assert spent == pytest.approx(4 * slots * 2 * 800 / 1e9)


def test_prefill_and_sums_by_hand():
  """A call of 2 rows of 8 tokens, on two devices a shard."""
  work = planned.work(shape=planned.SMALL, rollout_mesh=planned.mesh(tensor=2))
  sizes = planned.SIZES
  ring = links.Ring(2, 1e6, 1e-3)
  seconds = rollouts.prefill_seconds(work, sizes, RATES, ring)
  # 5 sums of 16 rows of 8 numbers of 2 bytes: half of them sent, twice.
  sums = 5 * 2 * (16 * 8 * 2 / 2 / 1e6 + 1e-3)
  # The weights of 800 numbers take longer than the products.
  assert seconds == pytest.approx(sums + 800 / 1e9)
  slow = RATES._replace(products=1e6)
  seconds = rollouts.prefill_seconds(work, sizes, slow, ring)
  head, pairs = 32 * 8, 2 * 36
  flops = 2 * (800 - head) * 16 + 4 * 2 * 4 * 4 * pairs
  assert seconds == pytest.approx(sums + flops / 2 / 1e6)


def test_drafts_save_steps_of_the_last_rollouts():
  """Of eight slots two rollouts may draft: from the 13th of 40 tokens on."""
  sizes = REAL._replace(slots=8, chunk=4, max_tokens=40, pages=120, speculate=3)
  lengths_PG = np.array([[12, 12, 40, 36]])
  steps = lambda accepted, sizes=sizes: (
    rollouts.run(
      sizes, lengths_PG, 5, PRICE._replace(accepted=accepted)
    ).decoded.steps
  )
  assert steps(1.0) == steps(2.0, sizes._replace(speculate=0)) == 40
  assert steps(2.0) == 12 + 28 / 2
  # A chunk of 4 tokens takes whole steps.
  assert steps(1.5) == 12 + 7 * 3
