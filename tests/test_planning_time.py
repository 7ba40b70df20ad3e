"""Lengths, bytes, FLOPs and links of a plan, next to hands and real arrays."""

import collections
import itertools
import math

import jax.numpy as jnp
import numpy as np
import oracles
import planned
import pytest

from acereason_jax import machines, partition, stand_ins
from acereason_jax import mesh as mesh_lib
from acereason_jax.curriculum import ledger
from acereason_jax.models import base, decoder, sharding
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import lengths, links, rollouts, traffic, values
from acereason_jax.rollout import cache as cache_lib

ASSUMED = values.Assumed()


# Lengths.


@pytest.mark.parametrize('limit, mean', [*ASSUMED.mean_tokens.items()])
def test_the_truncated_mean_is_the_assumed_one(mean, limit):
  """By numeric integration of min(L, limit), for the paper's limits."""
  for spread in (0.0, 0.3, 0.6, 1.2):
    mu = lengths.solve(mean, limit, spread)
    x = np.linspace(-9, 9, 200_001)
    weight = np.exp(-(x**2) / 2)
    natural = np.minimum(np.exp(mu + spread * x), limit)
    assert np.average(natural, weights=weight) == pytest.approx(mean, rel=1e-3)


def test_drawn_lengths_have_the_mean_the_limit_and_the_spread():
  d = lengths.Draws(128, 16, 32768, 13000, 0.6, 0)
  found = lengths.draw(d)
  assert found.shape == (128, 16) and found.max() == 32768
  assert found.mean() == pytest.approx(13000, rel=0.01)
  np.testing.assert_array_equal(found, lengths.draw(d))
  other = lengths.draw(d._replace(seed=1))
  assert (found != other).any()
  assert other.mean() == pytest.approx(13000, rel=0.01)
  # No limit in reach: half of the variance is between prompts.
  log = np.log(lengths.draw(d._replace(limit=10**9, mean=10**5)))
  assert log.std() == pytest.approx(0.6, rel=0.02)
  between = log.mean(1).var() - log.var(1, ddof=1).mean() / 16
  assert between / log.var() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize('mean', [0.5, 65, 100])
def test_an_impossible_mean(mean):
  with pytest.raises(ValueError, match=f'mean response of {mean:g} tokens'):
    lengths.solve(mean, 64, 0.6)


@pytest.mark.parametrize('spread', [-0.1, 3.1, 30.0, math.nan])
def test_an_impossible_spread(spread):
  with pytest.raises(ValueError, match=f'--spread={spread:g}: expected 0 to 3'):
    lengths.solve(100, 8192, spread)


@pytest.mark.parametrize('limit', [1, 2, 64])
def test_a_mean_that_is_the_limit_cuts_all_responses_off(limit):
  found = lengths.draw(lengths.Draws(4, 4, limit, limit, 0.6, 0))
  assert (found == limit).all()
  # Stages of one token have no other mean.
  assert lengths.mean_of(1, ASSUMED) == 1


@pytest.mark.parametrize(
  'limit, mean',
  [
    (8192, 4500),
    (12288, 5500),
    (4096, 2250),
    (1, 1),
    (32768, 13000),
    (65536, 13000),
  ],
)
def test_means_between_those_that_are_known(limit, mean):
  assert lengths.mean_of(limit, ASSUMED) == mean


def record(tokens, longest, truncated, right=2, wrong=1, timeout=1):
  counts = dict(right=right, wrong=wrong, unparsed=0, timeout=timeout, error=0)
  return ledger.Record(
    'train',
    'stage',
    0,
    1,
    'math',
    'q',
    **counts,
    truncated=truncated,
    tokens=tokens,
    longest=longest,
    solved=right,
  )


def test_lengths_of_a_ledger_keep_sums_longest_and_truncated():
  records = [
    record(100, 40, 2),
    record(91, 60, 0),
    record(4, 1, 0),
    record(0, 0, 0, 0, 0, 0),
  ]
  groups = lengths.known_groups(records)
  assert [sum(g) for g in groups] == [100, 91, 4]
  assert groups[0] == (40, 40, 10, 10)
  assert groups[1] == (60, 10, 10, 11)
  d = lengths.Draws(50, 8, 50, 0, 0, 3, known=groups)
  found = lengths.draw(d)
  assert found.shape == (50, 8) and found.max() == 50
  rows = {tuple(sorted(row)) for row in found.tolist()}
  assert rows == {tuple(sorted(min(n, 50) for n in g * 2)) for g in groups}


def test_fewer_rollouts_than_a_ledgers_are_not_its_longest():
  """A group has its longest first; means of pairs are those of groups."""
  d = lengths.Draws(4000, 2, 64, 0, 0, 3, known=((40, 40, 10, 10),))
  found = lengths.draw(d)
  assert found.mean() == pytest.approx(25, rel=0.02)
  # Of four two are drawn without repetition: both long in one of six pairs.
  assert (found == 40).all(1).mean() == pytest.approx(1 / 6, abs=0.02)


# Bytes and FLOPs.


@pytest.mark.parametrize('tensor', [1, 2, 4])
def test_bytes_are_those_of_real_arrays_on_a_mesh(tensor):
  """Weights of rollouts, without the embedding, and the cache's pool."""
  config = oracles.tiny_config(qkv_bias=False, qk_norm=False)
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=tensor)
  model = decoder.make_model(config, **partition.pins(mesh))
  cache = cache_lib.make_cache(model, mesh)
  placed = sharding.param_shardings(model.specs, mesh, gathered=True)
  params = sharding.abstract(model.specs, placed, jnp.bfloat16)
  count = base.param_count(model.specs)
  shape = shape_lib.Shape(
    'tiny', 2, 32, 4, 2, 8, 96, count, count, count - 96 * 32
  )
  one = math.prod(cache.sharding.shard_shape(cache.shape(8, 16))) / 16
  one /= 8 / mesh_lib.row_shards(mesh)
  assert traffic.token_bytes(shape, 1, tensor) == one
  read = mesh_lib.device_bytes(params) - mesh_lib.device_bytes(params['embed'])
  # Norms are on every device; nothing else differs.
  norms = 2 * (2 * 2 + 1) * 32 * (1 - 1 / tensor)
  assert traffic.weight_bytes(shape, 7, 2, 2, tensor) + norms == read


def test_experts_that_a_batch_touches():
  """Next to all choices of 2 of 4 experts by three tokens."""
  pairs = list(itertools.combinations(range(4), 2))
  seen = [
    len({expert for pair in three for expert in pair})
    for three in itertools.product(pairs, repeat=3)
  ]
  assert traffic.touched(4, 2, 3) == pytest.approx(np.mean(seen))
  assert traffic.touched(0, 0, 3) == 0.0
  moe = planned.SMALL._replace(experts=4, picked=2, expert=50)
  # 800 weights, of which 2 layers x 2 experts x 50 are picked by each token.
  assert traffic.weight_bytes(moe, 1, 2, 2, 1) == pytest.approx(2 * 800)
  assert traffic.weight_bytes(moe, 3, 2, 2, 1) == pytest.approx(
    2 * (600 + 2 * 50 * np.mean(seen))
  )
  both = price_of(moe).weights(np.array([0, 1, 3]), 3)[0]
  assert both == pytest.approx(
    [1200e-9, 1600e-9, 2e-9 * (600 + 100 * np.mean(seen))]
  )


def price_of(shape):
  return rollouts.Price(
    shape,
    traffic.Rates(1e9, 1e12),
    tensor=1,
    dtype_bytes=2,
    matrix_bytes=2,
    kv_bytes=2,
    sums=0.0,
    prefill=0.0,
    host=0.0,
  )


def test_flops_by_hand():
  """One layer of 2 heads of 4: a token sees itself and all before it."""
  shape = shape_lib.Shape('one', 1, 8, 2, 1, 4, 16, 500, 500, 400)
  pairs = traffic.causal_pairs(3)
  assert pairs == 1 + 2 + 3
  # Scores and values: 2 products of 4 numbers for 2 heads and 6 pairs.
  attention = 2 * 2 * 4 * 2 * 6
  assert shape_lib.attention_flops(shape, pairs) == attention
  useful = 6 * 400 * 3 + 3 * attention
  assert shape_lib.useful_flops(shape, 3, pairs) == useful
  again = 2 * (400 - 16 * 8) * 3
  for remat, flops in (
    ('dots', useful + attention / 2),
    ('attention', useful + attention / 2 + again),
    ('block', useful + attention / 2 + again + attention),
  ):
    assert traffic.update_flops(shape, 3, pairs, remat) == flops
  # Adapters of 10 weights: only these have gradients of their own.
  adapted = shape._replace(trained=10)
  assert shape_lib.useful_flops(adapted, 3, pairs) == (
    (4 * 400 + 2 * 10) * 3 + 3 * attention
  )
  assert traffic.forward_flops(shape, 3, pairs) == 2 * 400 * 3 + attention
  assert traffic.sampler_bytes(shape, 5, 2) == 6 * 5 * 8 * 4


def test_rates_are_of_a_kind_or_as_assumed():
  v5p = machines.KINDS['v5p']
  rates = traffic.rates(v5p, ASSUMED)
  assert rates == pytest.approx((2765e9 / 1.31, 459e12 * 0.825))
  given = ASSUMED._replace(bandwidth=0.5, products=0.25)
  assert traffic.rates(v5p, given) == (2765e9 / 2, 459e12 / 4)
  with pytest.raises(ValueError, match='--hardware=cpu: its bandwidth'):
    traffic.rates(machines.KINDS['cpu'], ASSUMED)
  accelerators = {k.name for k in machines.KINDS.values() if k.bandwidth}
  assert set(traffic.SHARES) == accelerators


# Links.


def test_rings_by_hand():
  """1 GB over 4 devices: three quarters of it go over each link."""
  ring = links.Ring(4, 1e9, 0.01)
  assert ring.gather(1e9) == pytest.approx(0.75 + 3 * 0.01)
  assert ring.scatter(1e9) == ring.gather(1e9)
  assert ring.sum(1e9) == pytest.approx(1.5 + 6 * 0.01)
  assert ring.exchange(1e9) == pytest.approx(0.75 + 3 * 0.01)
  alone = ring._replace(devices=1)
  assert alone.gather(1e9) == alone.sum(1e9) == alone.exchange(1e9) == 0.0


def bandwidths(hardware, **mesh):
  assumed = ASSUMED._replace(links=1.0)
  found = links.rings(
    planned.mesh(**mesh), machines.hardware(hardware), assumed
  )
  return {a: r.bandwidth / 1e9 for a, r in found.items() if r.devices > 1}


@pytest.mark.parametrize(
  'hardware, mesh, expected',
  [
    # Six links of 100 GB/s: all, or two in each dimension.
    ('v5p:4x4x4', dict(fsdp=64), dict(fsdp=600)),
    ('v5p:4x4x4', dict(fsdp=16, tensor=4), dict(tensor=200, fsdp=400)),
    ('v5p:4x4x4', dict(fsdp=32, tensor=2), dict(tensor=100, fsdp=500)),
    # Ends meet at 16 chips only.
    ('v6e:16x16', dict(fsdp=16, tensor=16), dict(tensor=200, fsdp=200)),
    ('v6e:4x4', dict(fsdp=4, tensor=4), dict(tensor=100, fsdp=100)),
    # Two devices are one chip.
    ('tpu7x:4x4x4', dict(fsdp=64, tensor=2), dict(tensor=300, fsdp=300)),
    # Slices: 64 chips of 6.2 GB/s each.
    ('v5p:4x4x4*2', dict(data=2, fsdp=64), dict(data=6.2, fsdp=600)),
    ('v5p:4x4x4*2', dict(fsdp=128), dict(fsdp=396.8)),
    ('h100:8', dict(fsdp=2, tensor=4), dict(tensor=450, fsdp=450)),
    # Eight adapters of 50 GB/s lead into a node.
    ('h100:8*16', dict(fsdp=128), dict(fsdp=400)),
    ('h100:8*16', dict(data=16, fsdp=8), dict(data=50, fsdp=450)),
    ('h100:8*16', dict(fsdp=32, tensor=4), dict(fsdp=100, tensor=450)),
    ('h100:8*2', dict(tensor=16), dict(tensor=400)),
    # Neither data nor fsdp suffices: sequence is inside, tensor goes over.
    ('h100:8*2', dict(tensor=4, sequence=4), dict(tensor=100, sequence=450)),
    ('h100:8*2', dict(tensor=2, sequence=8), dict(tensor=50, sequence=450)),
    ('h100:1*128', dict(fsdp=128), dict(fsdp=50)),
  ],
)
def test_which_links_an_axis_has(hardware, mesh, expected):
  assert bandwidths(hardware, **mesh) == pytest.approx(expected)


@pytest.mark.parametrize(
  'hardware',
  [
    *('h100:8*4', 'h100:4*3', 'h100:1*8', 'h100:8*6', 'v5e:4x4*2'),
    *('v5p:2x2x2*3', 'tpu7x:2x2x1*4'),
  ],
)
def test_members_of_rings_are_those_of_the_arranged_mesh(hardware):
  """All meshes; slices and nodes are counted on each ring of devices."""
  machine = machines.hardware(hardware)
  devices, count = stand_ins.devices(machine), machine.devices
  groups = len({d.slice_index for d in devices})
  divisors = [n for n in range(1, count + 1) if not count % n]
  tried = 0
  for sizes in itertools.product(divisors, repeat=4):
    if math.prod(sizes) != count:
      continue
    if machine.slices > 1 and sizes[0] * sizes[1] % groups:
      continue  # Refused on TPUs.
    tried += 1
    placed = mesh_lib.arrange(sizes, devices)
    where = np.vectorize(lambda d: d.slice_index)(placed)
    least = {
      axis: min(
        min(collections.Counter(ring).values())
        for ring in np.moveaxis(where, i, -1).reshape(-1, n).tolist()
      )
      for i, (axis, n) in enumerate(zip(mesh_lib.AXES, sizes))
    }
    assert links.members(dict(zip(mesh_lib.AXES, sizes)), groups) == least
  assert tried > 3


def test_links_that_are_not_known():
  assert bandwidths('cpu:2') == {}
  with pytest.raises(
    ValueError, match=r'--hardware=cpu:2: the links .* fsdp=2'
  ):
    bandwidths('cpu:2', fsdp=2)
