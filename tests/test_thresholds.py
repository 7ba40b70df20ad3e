"""Top-k and top-p without a sort keep what their definition says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax.rollout import sampling, thresholds

# Of the mass: a target in float32, and weights that are cut off.
ROUNDING = 3e-7


@functools.partial(jax.jit, static_argnums=1)
def keep(logits_BV, s):
  return sampling.keep_top(logits_BV, s)


def kept(logits_BV, **cut):
  out = np.asarray(keep(jnp.asarray(logits_BV), sampling.Sampling(**cut)))
  np.testing.assert_array_equal(out[out > -np.inf], logits_BV[out > -np.inf])
  return out > -np.inf


@functools.partial(jax.jit, static_argnames=('top_p', 'top_k'))
def by_sorting(logits_BV, *, top_p=1.0, top_k=0):
  """The tokens that a sort of float32 logits keeps."""
  sorted_BV = -jnp.sort(-logits_BV, axis=-1)
  if top_k:
    rank_V = jnp.arange(logits_BV.shape[-1])
    sorted_BV = jnp.where(rank_V < top_k, sorted_BV, -jnp.inf)
  probs_BV = jax.nn.softmax(sorted_BV, axis=-1)
  before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
  kept_BV = (before_BV < top_p) & (sorted_BV > -jnp.inf)
  least_B1 = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), -1, keepdims=True)
  return (logits_BV >= least_B1) & (logits_BV > -jnp.inf)


def rows(V, seed=0):
  """Logits of many kinds, by name."""
  rng = np.random.default_rng(seed)
  smooth = rng.normal(size=V)
  found = dict(
    smooth=smooth,
    wide=8 * smooth,
    shifted=3 * smooth - 1000,
    tied=rng.integers(-3, 4, size=V),
    flat=np.full(V, 1.5),
    two=np.where(np.arange(V) < V // 3, 1.0, -1.0),
    peaked=np.where(np.arange(V) == V // 2, 60.0, smooth),
    # Together as much as the largest, but each far below it.
    tail=np.where(np.arange(V) == 3, np.log(V), 0.01 * smooth),
    steps=-np.arange(V) / 3,
    huge=1e38 * np.clip(smooth, -3, 3),
    close=np.nextafter(np.float32(20), np.float32(30)) - 1e-6 * (smooth > 0),
    cut=np.where(rng.random(V) < 0.4, -np.inf, 4 * smooth),
    one=np.where(np.arange(V) == V - 1, -7.0, -np.inf),
    zeros=np.where(np.arange(V) % 2, 0.0, -0.0),
  )
  return {name: x.astype(np.float32) for name, x in found.items()}


def check_top_p(logits_V, kept_V, top_p, rounding=ROUNDING):
  """Asserts that `kept_V` is the smallest set of mass >= top_p, with ties.

  Masses are those of float64, so only within `rounding`.
  """
  logits_V = logits_V.astype(np.float64)
  probs_V = np.exp(logits_V - logits_V.max())
  probs_V /= probs_V.sum()
  least = logits_V[kept_V].min()
  assert (kept_V == ((logits_V >= least) & (logits_V > -np.inf))).all()
  assert probs_V[kept_V].sum() >= top_p - rounding
  assert probs_V[logits_V > least].sum() < top_p + rounding


@pytest.mark.parametrize('V', [97, 4096, 152_064])
@pytest.mark.parametrize('top_p', [1e-6, 0.3, 0.95, 0.999999])
def test_top_p_keeps_the_smallest_set_with_that_mass(V, top_p):
  every = rows(V)
  kept_BV = kept(np.stack([*every.values()]), top_p=top_p)
  for (name, logits_V), kept_V in zip(every.items(), kept_BV):
    try:
      check_top_p(logits_V, kept_V, top_p)
    except AssertionError as e:
      raise AssertionError(name) from e


@pytest.mark.parametrize('V', [3, 152_064])
@pytest.mark.parametrize('cut', [{}, dict(top_k=2), dict(top_k=1_000_000)])
@pytest.mark.parametrize('top_p', [1e-9, 1e-14, 1e-30, 5e-324])
def test_a_mass_near_zero_keeps_the_most_likely(V, cut, top_p):
  every = np.stack([*rows(V).values()])
  kept_BV = kept(every, top_p=top_p, **cut)
  np.testing.assert_array_equal(kept_BV, every == every.max(1, keepdims=True))


def test_the_check_sees_one_token_too_many_or_too_few():
  logits_V = rows(97)['smooth']
  order = np.argsort(-logits_V)
  (kept_V,) = kept(logits_V[None], top_p=0.8)
  count = kept_V.sum()
  for wrong in (count - 1, count + 1):
    with pytest.raises(AssertionError):
      check_top_p(logits_V, np.isin(np.arange(97), order[:wrong]), 0.8)


@pytest.mark.parametrize('V', [97, 4096])
@pytest.mark.parametrize('top_k', [1, 2, 20, 96, 97, 5000])
def test_top_k_is_exact(V, top_k):
  every = np.stack([*rows(V, top_k).values()])
  for logits_V, kept_V in zip(every, kept(every, top_k=top_k)):
    least = np.sort(logits_V)[::-1][min(top_k, V) - 1]
    want_V = (logits_V >= least) & (logits_V > -np.inf)
    np.testing.assert_array_equal(kept_V, want_V)


@pytest.mark.parametrize(
  'cut', [dict(top_p=0.6), dict(top_k=9), dict(top_p=0.7, top_k=40)]
)
def test_it_keeps_what_a_sort_keeps(cut):
  """Except where one token has all of a sort's mass in float32.

  Then a sort keeps only that one, even with top_k alone.
  """
  every = rows(300, 1)
  del every['peaked'], every['huge']
  every = np.stack([*every.values()])
  np.testing.assert_array_equal(kept(every, **cut), by_sorting(every, **cut))


def test_mass_beyond_top_k_does_not_count_though_ties_are_kept():
  # Of 3 tokens the first has half of the mass; of all 4 ties it has less.
  logits_V = np.log(np.float32([[4, 2, 2, 2, 2, 1]]))
  cut = dict(top_k=3, top_p=0.5)
  assert kept(logits_V, **cut).tolist() == [[True] + [False] * 5]
  cut = dict(top_k=3, top_p=0.51)
  assert kept(logits_V, **cut).tolist() == [[True] * 5 + [False]]


def test_small_masses_add_up():
  """100,000 tokens at 1e-9 of the largest have 1e-4 of the mass."""
  logits_V = np.full(100_001, np.log(1e-9), np.float32)
  logits_V[7] = 0.0
  (few,) = kept(logits_V[None], top_p=0.9998)
  assert few.sum() == 1 and few[7]
  assert kept(logits_V[None], top_p=0.99995).all()


@pytest.mark.parametrize(
  'cut', [dict(top_p=0.95), dict(top_k=50), dict(top_p=0.9, top_k=300)]
)
def test_a_vocabulary_in_shards_keeps_the_very_same(cut):
  every = np.stack([*rows(4096, 2).values()])
  for tensor in (2, 4):
    mesh = mesh_lib.make_mesh(data=4 // tensor, fsdp=1, tensor=tensor)
    place = NamedSharding(mesh, PartitionSpec(None, 'tensor'))
    got = keep(jax.device_put(every, place), sampling.Sampling(**cut))
    np.testing.assert_array_equal(np.asarray(got) > -np.inf, kept(every, **cut))


def test_rows_do_not_depend_on_each_other():
  cut = dict(top_p=0.9, top_k=300)
  every = np.stack([*rows(1000, 3).values()])
  want = kept(every, **cut)
  bad = np.full_like(every, np.nan)
  bad[1], bad[2, 5] = np.inf, np.nan
  for place in range(len(every)):
    moved = bad.copy()
    moved[place] = every[place - 1]
    out = keep(jnp.asarray(moved), sampling.Sampling(**cut))
    got = np.asarray(out)[place] > -np.inf
    np.testing.assert_array_equal(got, want[place - 1])


def test_the_order_of_tokens_does_not_matter():
  rng = np.random.default_rng(4)
  every = np.stack([*rows(4096, 4).values()])
  order = rng.permutation(4096)
  cut = dict(top_p=0.97)
  got = kept(every[:, order], **cut)
  np.testing.assert_array_equal(got, kept(every, **cut)[:, order])


@pytest.mark.parametrize('V', [1, 2, 255, 256, 152_064, 1 << 20])
def test_sums_over_a_vocabulary_fit_into_int32(V):
  bits = thresholds.limb_bits(V)
  assert V << bits < 1 << 31
  assert bits * thresholds.LIMBS >= 30


def test_no_program_sorts():
  s = sampling.Sampling(top_p=0.9, top_k=40)
  text = jax.jit(sampling.keep_top, static_argnums=1).lower(
    jnp.zeros((2, 512)), s
  )
  assert 'sort' not in text.as_text() and 'top_k' not in text.as_text()
