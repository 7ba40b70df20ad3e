"""Simulated updates next to the real packer, the compiler and hands."""

import math

import numpy as np
import planned
import pytest

from acereason_jax import machines, types
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import traffic, updates, values
from acereason_jax.rl import packing
from acereason_jax.rl import rows as rows_lib

FREE = values.Assumed(links=1e9, hop_seconds=0.0, kept=1.0)


def real_batches(work, lengths_PG, prompt_tokens):
  """The packer's arrays for rollouts of these lengths."""
  prompts = [
    types.Prompt(str(i), '', '', np.arange(prompt_tokens, dtype=np.int32))
    for i in range(len(lengths_PG))
  ]
  groups = [
    [
      rows_lib.Trained(
        prompt,
        types.Rollout(
          prompt.id,
          i,
          np.ones(n, np.int32),
          np.zeros(n, np.float32),
          np.zeros(n, np.float32),
          'stop',
          '',
        ),
        0.5,
        1.0,
      )
      for i, n in enumerate(group)
    ]
    for prompt, group in zip(prompts, lengths_PG.tolist())
  ]
  packed = packing.pack(
    groups,
    rows=work.rows,
    columns=work.columns,
    multiple=work.multiple,
    pad_token=0,
    share_prompts=work.share_prompts,
    even_tokens=work.even_tokens,
  )
  return [batch for batch, _ in packed]


def pairs_of(batch, row):
  """Queries and the keys that they see, counted one by one."""
  segment, prefix = batch.segment_BT[row], batch.prefix_BT[row]
  count = 0
  for i, own in enumerate(segment.tolist()):
    if own:
      count += int((segment[: i + 1] == own).sum())
      count += int((segment == prefix[i]).sum()) if prefix[i] else 0
  return count


@pytest.mark.parametrize('multiple', [0, 4])
@pytest.mark.parametrize('share_prompts', [False, True])
def test_microbatches_are_those_of_the_real_packer(share_prompts, multiple):
  work = planned.work(
    mesh=planned.mesh(fsdp=2),
    rows=4,
    columns=60,
    multiple=multiple,
    share_prompts=share_prompts,
    even_tokens=40.0,
  )
  lengths_PG = np.random.default_rng(0).integers(1, 50, (5, 4))
  packed = updates.pack(work, lengths_PG, 9, kept=1.0)
  batches = real_batches(work, lengths_PG, 9)
  assert packed.microbatches == (len(batches),)
  real = [batch.segment_BT > 0 for batch in batches]
  assert packed.tokens == sum(x.sum() for x in real)
  assert packed.columns == tuple(x.shape[1] for x in real)
  assert len({*packed.columns}) == 1 + bool(multiple)
  room = sum(x.size for x in real)
  assert packed.filled == pytest.approx(packed.tokens / room)
  pairs = [[pairs_of(batch, row) for row in range(4)] for batch in batches]
  assert packed.pairs == np.sum(pairs)
  # Two rows on each of two shards.
  assert packed.slowest == tuple(max(a + b, c + d) for a, b, c, d in pairs)


def test_only_groups_with_a_gradient_are_packed():
  work = planned.work(rows=1, mesh=planned.mesh(), columns=100)
  lengths_PG = np.full((10, 2), 41)
  assert updates.pack(work, lengths_PG, 9, kept=0.6).tokens == 6 * 2 * 49
  assert updates.pack(work, lengths_PG, 9, kept=0.01).tokens == 2 * 49
  several = updates.pack(work._replace(updates=2), lengths_PG, 9, kept=0.6)
  assert several.microbatches == (3, 3) and several.tokens == 6 * 2 * 49


@pytest.mark.parametrize(
  'hardware, shape, fsdp, tensor, remat, bound',
  [
    ('v5p:4x4x4', planned.QWEN_7B, 64, 1, 'block', 0.60),
    ('v5p:4x4x4', planned.QWEN_7B, 64, 1, 'attention', 0.66),
    ('v6e:16x16', planned.QWEN_7B, 256, 1, 'block', 0.60),
    ('v5e:16x16', planned.QWEN_7B, 64, 4, 'block', 0.55),
    ('v5e:16x16', planned.QWEN_1_5B, 256, 1, 'block', 0.55),
  ],
)
def test_the_compilers_bounds_of_mfu(
  hardware, shape, fsdp, tensor, remat, bound
):
  """docs/measured.md: a row of 33,792 tokens on each shard, no network."""
  machine = machines.hardware(hardware)
  state = 12 * shape.params / machine.devices
  work = planned.work(
    shape=shape,
    mesh=planned.mesh(fsdp=fsdp, tensor=tensor),
    sizes=planned.SIZES._replace(window=1024),
    columns=33792,
    rows=fsdp,
    remat=remat,
    state_bytes=state,
    train_sums=state / 3,
  )
  lengths_PG = np.full((fsdp, 1), 33792 - 1023)
  found = updates.update(
    work, lengths_PG, machine, FREE._replace(prompt_tokens=1024)
  )
  assert found.packed.filled == 1.0 and found.packed.microbatches == (1,)
  assert found.mfu == pytest.approx(bound, rel=0.03)


def network(hardware, shape=planned.QWEN_7B, assumed=FREE, **changes):
  work = planned.work(shape=shape, **changes)
  return updates.microbatch_network(work, machines.hardware(hardware), assumed)


def test_network_of_one_adapter_a_gpu_takes_as_long_as_the_products():
  """128 H100, fsdp=128, a row of 9,216 tokens: 0.9 s beside 0.9 s.

  Each GPU has one adapter of 50 GB/s: 15.2 GB of weights come twice, and as
  many bytes of gradients go. In nodes of eight a ring enters by eight adapters.
  """
  plain = values.Assumed(links=1.0, hop_seconds=0.0)
  mesh = planned.mesh(fsdp=128)
  alone = network('h100:1*128', assumed=plain, mesh=mesh, rows=128)
  assert alone.weights == pytest.approx(
    3 * 2 * 7_615_616_512 * 127 / 128 / 50e9
  )
  assert alone.weights == pytest.approx(0.9, rel=0.02) and not alone.inside
  joined = network('h100:8*16', assumed=plain, mesh=mesh, rows=128)
  assert joined.weights == pytest.approx(alone.weights / 8)
  rates = traffic.rates(machines.KINDS['h100'], plain)
  flops = traffic.update_flops(
    planned.QWEN_7B, 9216, traffic.causal_pairs(9216), 'attention'
  )
  assert flops / rates.products == pytest.approx(0.9, rel=0.05)


def test_what_a_microbatch_sends_by_hand():
  """Two nodes of two GPUs: data over nodes, fsdp inside."""
  shape = planned.SMALL
  plain = values.Assumed(links=1.0, hop_seconds=0.0)
  found = network(
    'h100:2*2', shape, plain, mesh=planned.mesh(data=2, fsdp=2), rows=4
  )
  # Three times half of 2,000 bytes inside, and nothing between nodes.
  assert found.weights == pytest.approx(3 * 1000 / 450e9)
  assert found.inside == 0.0
  # On a TPU gradients have 4 bytes; reference scores gather once more.
  found = network(
    'v5e:2x2', shape, plain, mesh=planned.mesh(fsdp=4), rows=4, scored=1
  )
  # Both dimensions, as lines: 100 GB/s.
  assert found.weights == pytest.approx((3 * 2000 + 4000) * 0.75 / 100e9)
  # A layer's output of 256 tokens: 2 x 2 sums forward, backward, and again.
  found = network(
    'h100:4',
    shape,
    plain,
    mesh=planned.mesh(fsdp=2, tensor=2),
    rows=2,
    columns=256,
    remat='block',
  )
  layer = 256 * 8 * 2
  assert found.inside == pytest.approx(2 * 2 * 3 * layer / 450e9)
  found = network(
    'h100:4',
    shape,
    plain,
    mesh=planned.mesh(fsdp=2, sequence=2),
    rows=2,
    columns=256,
    remat='dots',
  )
  # Half of the tokens on each device, of which half go: four times a pass.
  assert found.inside == pytest.approx(4 * 2 * 2 * layer / 4 / 450e9)


@pytest.mark.parametrize('updated', [1, 3])
def test_groups_of_data_sum_gradients_once_an_update(updated):
  """Two nodes of two GPUs: 500 weights each, 4 bytes, of which half, twice."""
  machine = machines.hardware('h100:2*2')
  plain = values.Assumed(links=1.0, hop_seconds=0.0, kept=1.0, prompt_tokens=9)
  mesh = planned.mesh(data=2, fsdp=2)
  work = planned.work(
    shape=planned.SMALL, mesh=mesh, rows=4, updates=updated, columns=1000
  )
  assert updates.sum_seconds(work, machine, plain) == 2000 / 50e9
  own = planned.mesh(data=1, fsdp=4)
  assert not updates.sum_seconds(work._replace(mesh=own), machine, plain)
  # Of 16 microbatches, or more, the products hide all except that sum.
  lengths_PG = np.full((8, 8), 900)
  found = updates.update(work, lengths_PG, machine, plain)
  assert sum(found.packed.microbatches) >= 16
  inside = updates.microbatch_network(work, machine, plain).weights
  assert found.products > sum(found.packed.microbatches) * inside
  assert found.network == pytest.approx(updated * 2000 / 50e9)


def test_a_narrower_microbatch_takes_as_much_less_time():
  """Two rows of 2,048 tokens and two of 512, on two GPUs."""
  work = planned.work(
    mesh=planned.mesh(fsdp=2),
    rows=2,
    columns=2048,
    state_bytes=0.0,
    train_sums=0.0,
  )
  machine = machines.hardware('h100:2')
  lengths_PG = np.array([[2048, 512], [2048, 512]])
  assumed = FREE._replace(prompt_tokens=1)
  found = updates.update(work, lengths_PG, machine, assumed)
  assert found.packed.columns == (2048, 512) and found.packed.filled == 1.0
  flops = sum(
    traffic.update_flops(
      planned.QWEN_7B, tokens, traffic.causal_pairs(tokens), work.remat
    )
    for tokens in (2048, 512)
  )
  peak = machine.kind.flops * traffic.SHARES['h100'].products
  assert found.seconds == pytest.approx(flops / peak)
  # A measured time is that of the widest.
  measured = values.Measured(None, None, 0.0, 1.0, 0.0, 0.0, peak=1e12)
  timed = updates.update(work, lengths_PG, machine, assumed, measured)
  assert timed.products == pytest.approx(1.25)


def test_products_hide_the_network_as_far_as_they_last():
  """A slower network adds only what lasts longer than products."""
  lengths_PG = np.full((8, 4), 100)
  work = planned.work(shape=planned.SMALL)
  machine = machines.hardware('v5p:4x4x4')

  def at(share):
    assumed = FREE._replace(prompt_tokens=9, links=share)
    return updates.update(work, lengths_PG, machine, assumed)

  fast = at(1e9)
  assert fast.network == 0.0
  sent = updates.microbatch_network(
    work, machine, FREE._replace(links=1.0)
  ).weights
  computing = fast.seconds / sum(fast.packed.microbatches)
  covered = at(sent / (0.9 * computing))
  assert covered.seconds == pytest.approx(fast.seconds)
  longer = at(sent / (3 * computing))
  assert longer.network == pytest.approx(2 * fast.seconds)
  assert longer.seconds == pytest.approx(3 * fast.seconds)


def test_optimizer_and_offload_by_hand():
  """8 GB of state and 2 GB of gradients: 20 GB of traffic an update."""
  work = planned.work(state_bytes=8e9, train_sums=2e9, moment_bytes=5e9)
  assert traffic.apply_bytes(work) == 20e9
  assert traffic.offload_seconds(work) == 0.0
  assert traffic.offload_seconds(work._replace(offload=True)) == pytest.approx(
    0.4
  )
  machine = machines.hardware('v5p:4x4x4')
  rest = dict(state_bytes=0.0, train_sums=0.0)
  seconds = [
    updates.update(w, np.full((8, 4), 100), machine, FREE).seconds
    for w in (work._replace(**rest), work)
  ]
  assert seconds[1] - seconds[0] == pytest.approx(20e9 / 2765e9 * 1.31)


def test_weights_of_rollouts_by_hand():
  """4,000 bytes of masters over 4 devices; 1,000 of 2,000 bytes are read."""
  work = planned.work(
    shape=planned.SMALL,
    mesh=planned.mesh(fsdp=4),
    rollout_mesh=planned.mesh(fsdp=2, tensor=2),
  )
  plain = values.Assumed(links=1.0, hop_seconds=0.0, bandwidth=1.0)
  found = updates.reshard_seconds(work, machines.hardware('h100:4'), plain)
  assert found == pytest.approx((1000 + 1000) / 3352e9 + 750 / 450e9)


def test_a_row_of_the_slowest_shard_sets_the_time():
  """One long segment takes longer than many short ones of as many tokens."""
  work = planned.work(rows=1, mesh=planned.mesh(), columns=1000)
  machine = machines.hardware('v5p:2x2x1')
  assumed = FREE._replace(prompt_tokens=1)
  long = updates.update(work, np.full((1, 1), 1000), machine, assumed)
  short = updates.update(work, np.full((1, 10), 100), machine, assumed)
  assert long.packed.tokens == short.packed.tokens == 1000
  pairs = 1000 * 1001 / 2 - 10 * 100 * 101 / 2
  flops = 3.5 * shape_lib.attention_flops(planned.QWEN_7B, pairs)
  expected = flops / (459e12 * 0.825)
  assert long.seconds - short.seconds == pytest.approx(expected)
  assert math.isclose(long.packed.pairs - short.packed.pairs, pairs)
