"""Draws follow softmax; logp and entropy are those of what was drawn from."""

import functools
import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats
from jax.sharding import NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax.rollout import sampling

DRAWS = 20_000


def slow_keep(logits_V, s):
  """The kept tokens, by the words of keep_top's docstring."""
  order = sorted(range(len(logits_V)), key=lambda v: -logits_V[v])
  probs = np.exp(oracles.log_softmax(logits_V))
  head = [v for v in order if probs[v] >= s.min_p * probs.max()]
  head = head[: s.top_k] if s.top_k > 0 else head
  probs = np.exp(oracles.log_softmax(np.array([logits_V[v] for v in head])))
  kept, mass = [], 0.0
  for v, p in zip(head, probs):
    kept.append(v)
    mass += p
    if mass >= s.top_p:
      break
  least = logits_V[kept[-1]]
  return {v for v in range(len(logits_V)) if logits_V[v] >= least}


def slow_log_softmax(logits_V, s, temperature):
  """float64 log-probabilities that a draw has; -inf where it never goes."""
  logits_V = np.asarray(logits_V, np.float64) / temperature
  masked = np.full(len(logits_V), -np.inf)
  for v in slow_keep(logits_V, s):
    masked[v] = logits_V[v]
  return oracles.log_softmax(masked)


def draws(logits_V, s, temperature, count):
  """`count` draws of one row of logits, in batches of 4000."""
  V = len(logits_V)

  @jax.jit
  def some(first):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(
      first + jnp.arange(4000)
    )
    logits_BV = jnp.broadcast_to(jnp.asarray(logits_V), (4000, V))
    return sampling.draw(keys, logits_BV, s, temperature)

  parts = [some(i) for i in range(0, count, 4000)]
  return sampling.Draw(*(np.concatenate(x) for x in zip(*parts)))


draw = jax.jit(sampling.draw, static_argnums=2)


def chi_square(tokens, probs_V):
  want = len(tokens) * probs_V
  got = np.bincount(tokens, minlength=len(probs_V))
  return np.sum((got - want)[want > 0] ** 2 / want[want > 0])


PLAIN = sampling.Sampling()
CUT = sampling.Sampling(top_p=0.8, top_k=60)
MIN = sampling.Sampling(min_p=0.3)
ALL = sampling.Sampling(top_p=0.9, top_k=150, min_p=0.2)


# With 300 tokens the last block is short; 304 are 152 blocks, 40 as many as
# tokens.
@pytest.mark.parametrize(
  'V, s, temperature',
  [
    (300, PLAIN, 1.0),
    (304, PLAIN, 1.0),
    (40, PLAIN, 0.7),
    (300, CUT, 1.3),
    (300, MIN, 1.3),
  ],
)
def test_draws_follow_softmax(V, s, temperature):
  logits_V = 0.4 * np.random.default_rng(V).normal(size=V).astype(np.float32)
  drawn = draws(logits_V, s, temperature, DRAWS)
  logp_V = slow_log_softmax(logits_V, s, temperature)
  probs_V = np.exp(logp_V)
  # Every expected count is at least 4, so the statistic is near chi-square;
  # a right sampler stays under this bound for all but one seed in 10000.
  kept = probs_V > 0
  assert DRAWS * probs_V[kept].min() > 4
  bound = scipy.stats.chi2.ppf(1 - 1e-4, kept.sum() - 1)
  assert kept[drawn.token_B].all()
  assert chi_square(drawn.token_B, probs_V) < bound
  # The bound sees what a mistake in the last block would look like.
  uniform_V = kept / kept.sum()
  assert chi_square(drawn.token_B, uniform_V) > 2 * bound
  # Measured: 1.4e-6.
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-6)
  close(drawn.logp_B, logp_V[drawn.token_B])
  close(drawn.full_logp_B, oracles.log_softmax(logits_V)[drawn.token_B])
  close(drawn.entropy_B, -np.sum(probs_V[kept] * logp_V[kept]))
  assert drawn.sound_B.all()


def test_block_and_place_and_neighbours_are_independent(monkeypatch):
  # Block i is likely iff place i is, where one key serves both; and what the
  # next row draws is likely the same, where one key serves the batch.
  monkeypatch.setattr(sampling, 'BLOCK', 4)
  assert sampling.block_size(16) == 2
  tokens = draws(np.zeros(16, np.float32), PLAIN, 1.0, DRAWS).token_B
  pairs = 16 * tokens[:-1:2] + tokens[1::2]
  for x, kinds in ((tokens, 16), (pairs, 256)):
    bound = scipy.stats.chi2.ppf(1 - 1e-4, kinds - 1)
    assert chi_square(x, np.full(kinds, 1 / kinds)) < bound


@pytest.mark.parametrize(
  's, temperature',
  [
    (sampling.Sampling(top_p=0.95), 0.6),
    (sampling.Sampling(top_p=0.7, top_k=20), 1.5),
    (sampling.Sampling(min_p=0.1), 1.5),
    (ALL, 1.3),
  ],
)
def test_logp_under_cuts_is_that_of_the_kept(s, temperature):
  rng = np.random.default_rng(3)
  logits = (2 * rng.normal(size=(8, 300))).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 8)
  drawn = sampling.Draw(*map(np.asarray, draw(keys, logits, s, temperature)))
  for b, token in enumerate(drawn.token_B):
    logp_V = slow_log_softmax(logits[b], s, temperature)
    probs_V = np.exp(logp_V)
    want = -np.sum(probs_V[probs_V > 0] * logp_V[probs_V > 0])
    full = oracles.log_softmax(logits[b])[token]
    assert abs(drawn.logp_B[b] - logp_V[token]) < 2e-6
    assert abs(drawn.entropy_B[b] - want) < 2e-6
    # Logits up to 7 go through the temperature and back.
    assert abs(drawn.full_logp_B[b] - full) < 4e-6


@pytest.mark.parametrize(
  'logits_V, cut, kept',
  [
    ([3, 2, 2, 1], dict(top_k=2), {0, 1, 2}),
    ([2, 3, 1, 2], dict(top_k=1), {1}),
    ([0, 0, 0, 0], dict(top_p=0.5), {0, 1, 2, 3}),
    ([0, 0, 0, 0], dict(top_k=3), {0, 1, 2, 3}),
    # e/(e+1) = 0.73: the second token is needed for 0.74, not for 0.73.
    ([1, 0], dict(top_p=0.73), {0}),
    ([1, 0], dict(top_p=0.74), {0, 1}),
    # The mass is that left after top_k: 0.73 of two, 0.58 of three.
    ([1, 0, 0.0], dict(top_p=0.7, top_k=1), {0}),
    ([1, 0, -0.5], dict(top_p=0.7, top_k=2), {0}),
    ([1, 0, -0.5], dict(top_p=0.7), {0, 1}),
    ([5, 0, 0, 0], dict(top_p=1e-6), {0}),
    ([1, 2, 3], dict(top_k=99), {0, 1, 2}),
    # 1/e = 0.37 of the likeliest.
    ([2, 1, 0], dict(min_p=0.36), {0, 1}),
    ([2, 1, 0], dict(min_p=0.38), {0}),
    ([2, 2, 0], dict(min_p=1.0), {0, 1}),
    ([2, 1, 0], dict(), {0, 1, 2}),
    # And the mass that left after min_p.
    ([1, 0, -0.5], dict(top_p=0.7, min_p=0.3), {0}),
    ([1, 0, -0.5], dict(top_p=0.7, min_p=0.2), {0, 1}),
  ],
)
def test_kept_sets_by_hand(logits_V, cut, kept):
  logits_V = np.array(logits_V, np.float32)
  s = sampling.Sampling(**cut)
  assert s.cuts == bool(cut)
  out = np.asarray(sampling.keep_top(jnp.asarray(logits_V[None]), s))[0]
  assert set(np.flatnonzero(np.isfinite(out))) == kept
  assert slow_keep(logits_V, s) == kept
  np.testing.assert_array_equal(out[np.isfinite(out)], logits_V[sorted(kept)])
  assert (out[~np.isfinite(out)] == -np.inf).all()


@pytest.mark.parametrize(
  'cut',
  [
    dict(top_p=0.9),
    dict(top_k=7),
    dict(top_p=0.55, top_k=30),
    dict(min_p=0.21),
    dict(top_p=0.8, top_k=20, min_p=0.07),
  ],
)
def test_kept_sets_equal_the_slow_ones(cut):
  s = sampling.Sampling(**cut)
  rng = np.random.default_rng(5)
  smooth = rng.normal(size=(100, 50))
  # Many ties: whole numbers.
  tied = rng.integers(-2, 3, size=(100, 50))
  logits = np.concatenate([smooth, tied]).astype(np.float32)
  out = np.asarray(sampling.keep_top(jnp.asarray(logits), s))
  for row, got in zip(logits, np.isfinite(out)):
    assert set(np.flatnonzero(got)) == slow_keep(row, s)


GREEDY = sampling.Sampling(greedy=True)


def test_a_greedy_draw_takes_the_likeliest():
  logits = np.array([[1, 5, 5, 2], [9, 0, 0, 0]], np.float32)
  keys = jax.random.split(jax.random.key(0), 2)
  drawn = draw(keys, logits, GREEDY, 0.0)
  assert drawn.token_B.tolist() == [1, 0]
  assert drawn.logp_B.tolist() == drawn.entropy_B.tolist() == [0.0, 0.0]
  want = oracles.log_softmax(logits)[[0, 1], [1, 0]]
  np.testing.assert_allclose(drawn.full_logp_B, want, rtol=0, atol=1e-6)
  assert drawn.sound_B.all()


def every_bit(drawn, rows):
  """Bytes, as NaN is not NaN."""
  return [np.asarray(x)[rows].tobytes() for x in drawn]


@pytest.mark.parametrize('s', [GREEDY, PLAIN, ALL])
def test_logits_that_are_not_finite_are_unsound_and_alone(s):
  rng = np.random.default_rng(6)
  logits = rng.normal(size=(6, 300)).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 6)
  clean = draw(keys, logits, s, 1.3)
  assert clean.sound_B.all()
  logits[1, 7] = np.nan
  logits[2, 299] = np.inf
  logits[3] = -np.inf
  logits[4] = np.nan
  # A token that never comes is no mistake: a padded vocabulary has such.
  logits[5, :9] = -np.inf
  drawn = draw(keys, logits, s, 1.3)
  assert drawn.sound_B.tolist() == [True, False, False, False, False, True]
  assert every_bit(drawn, [0]) == every_bit(clean, [0])
  assert ((drawn.token_B >= 0) & (drawn.token_B < 300)).all()
  assert drawn.token_B[5] >= 9
  assert all(np.isfinite(x[5]) for x in drawn)


def test_a_row_hangs_on_its_own_key_and_logits():
  rng = np.random.default_rng(8)
  logits = rng.normal(size=(8, 304)).astype(np.float32)
  keys = jax.random.split(jax.random.key(1), 8)
  order = rng.permutation(8)
  want = draw(keys, logits, ALL, 1.3)
  got = draw(keys[order], logits[order], ALL, 1.3)
  assert every_bit(got, np.argsort(order)) == every_bit(want, np.arange(8))


@pytest.mark.parametrize('s', [PLAIN, ALL])
def test_a_vocabulary_in_shards_draws_the_same(s):
  rng = np.random.default_rng(9)
  logits = rng.normal(size=(64, 320)).astype(np.float32)
  keys = jax.random.split(jax.random.key(2), 64)
  mesh = mesh_lib.make_mesh(data=1, fsdp=1, tensor=4)
  spread = NamedSharding(mesh, PartitionSpec(None, 'tensor'))
  want, got = (
    draw(keys, logits, s, 1.3),
    draw(keys, jax.device_put(logits, spread), s, 1.3),
  )
  assert got.token_B.tolist() == want.token_B.tolist()
  for x, y in zip(got[1:], want[1:]):
    np.testing.assert_allclose(x, y, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
  'vocab, size',
  [
    (49152, 256),
    (152064, 64),
    (151936, 16),
    (96, 4),
    (8, 1),
    # Nothing keeps blocks on one of eight shards.
    (300, 256),
    (97, 256),
  ],
)
def test_block_sizes_by_hand(vocab, size):
  assert sampling.block_size(vocab) == size


def bits(keys):
  return [tuple(x) for x in np.asarray(jax.random.key_data(keys)).tolist()]


def rollout_keys(seed, step, prompts, indices):
  return bits(
    sampling.rollout_keys(
      seed, step, np.array(prompts, np.uint32), np.array(indices)
    )
  )


def test_rollout_keys_are_folded_in_by_name():
  rows = [(2**32 - 1, 0), (2**32 - 1, 1), (7, 4), (7, 5)]
  got = rollout_keys(3, 5, *zip(*rows))
  fold = jax.random.fold_in
  key = fold(jax.random.key(3), 5)
  want = [fold(fold(key, np.uint32(prompt)), index) for prompt, index in rows]
  assert got == bits(jnp.stack(want))


def test_rollout_keys_do_not_hang_on_the_row():
  prompts, indices = [11, 11, 22, 33], [0, 1, 1, 4]
  got = rollout_keys(0, 1, prompts, indices)
  assert rollout_keys(0, 1, prompts[::-1], indices[::-1]) == got[::-1]
  assert rollout_keys(0, 1, [22], [1]) == got[2:3]


def test_rollout_keys_are_distinct():
  rows = list(itertools.product([0, 1, 2, 2**31, 2**32 - 1], range(8)))
  every = [
    key
    for seed, step in itertools.product((0, 1, 2), (0, 1, 2, 1000))
    for key in rollout_keys(seed, step, *zip(*rows))
  ]
  assert len(set(every)) == len(every) == 3 * 4 * 5 * 8


def test_prompt_seed_is_the_same_for_ever():
  # sha256('abc') is FIPS 180-2's first example: ba7816bf 8f01cfea ...
  assert sampling.prompt_seed('abc') == 0xBA7816BF
  assert sampling.prompt_seed('é') == int(
    hashlib.sha256(b'\xc3\xa9').hexdigest()[:8], 16
  )
