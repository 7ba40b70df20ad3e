"""Draws follow softmax; logp and entropy are those of what was drawn from."""

import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats

from acereason_jax.rollout import sampling

DRAWS = 20_000


def slow_keep(logits_V, top_p, top_k):
  """The kept tokens, by the words of keep_top's docstring."""
  order = sorted(range(len(logits_V)), key=lambda v: -logits_V[v])
  head = order[:top_k] if top_k > 0 else order
  probs = np.exp(oracles.log_softmax(np.array([logits_V[v] for v in head])))
  kept, mass = [], 0.0
  for v, p in zip(head, probs):
    kept.append(v)
    mass += p
    if mass >= top_p:
      break
  least = logits_V[kept[-1]]
  return {v for v in range(len(logits_V)) if logits_V[v] >= least}


def slow_log_softmax(logits_V, s):
  """float64 log-probabilities that a draw has; -inf where it never goes."""
  logits_V = np.asarray(logits_V, np.float64) / s.temperature
  kept = slow_keep(logits_V, s.top_p, s.top_k)
  masked = np.full(len(logits_V), -np.inf)
  for v in kept:
    masked[v] = logits_V[v]
  return oracles.log_softmax(masked)


def draws(logits_V, s, count):
  """`count` tokens with their logp and entropy, in batches of 4000."""
  V = len(logits_V)

  @jax.jit
  def some(first):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(
      first + jnp.arange(4000)
    )
    logits_BV = jnp.broadcast_to(jnp.asarray(logits_V), (4000, V))
    return sampling.draw(keys, logits_BV, s)

  parts = [some(i) for i in range(0, count, 4000)]
  return [np.concatenate(x) for x in zip(*parts)]


draw = jax.jit(sampling.draw, static_argnums=2)


def chi_square(tokens, probs_V):
  want = len(tokens) * probs_V
  got = np.bincount(tokens, minlength=len(probs_V))
  return np.sum((got - want)[want > 0] ** 2 / want[want > 0])


PLAIN = sampling.Sampling(1.0, 1.0, 0)
HOT = sampling.Sampling(0.7, 1.0, 0)
CUT = sampling.Sampling(1.3, 0.8, 60)


@pytest.mark.parametrize('V, s', [(300, PLAIN), (40, HOT), (300, CUT)])
def test_draws_follow_softmax(V, s):
  logits_V = 0.4 * np.random.default_rng(V).normal(size=V).astype(np.float32)
  tokens, logp, entropy = draws(logits_V, s, DRAWS)
  logp_V = slow_log_softmax(logits_V, s)
  probs_V = np.exp(logp_V)
  # Every expected count is at least 4, so the statistic is near chi-square;
  # a right sampler stays under this bound for all but one seed in 10000.
  kept = probs_V > 0
  assert DRAWS * probs_V[kept].min() > 4
  bound = scipy.stats.chi2.ppf(1 - 1e-4, kept.sum() - 1)
  assert kept[tokens].all()
  assert chi_square(tokens, probs_V) < bound
  # The bound sees what a mistake in the last block would look like.
  uniform_V = kept / kept.sum()
  assert chi_square(tokens, uniform_V) > 2 * bound
  # Measured: 4e-7.
  np.testing.assert_allclose(logp, logp_V[tokens], rtol=0, atol=1e-6)
  want = -np.sum(probs_V[kept] * logp_V[kept])
  np.testing.assert_allclose(entropy, want, rtol=0, atol=1e-6)


def test_block_and_place_and_neighbours_are_independent(monkeypatch):
  # Block i is likely iff place i is, where one key serves both; and what the
  # next row draws is likely the same, where one key serves the batch.
  monkeypatch.setattr(sampling, 'BLOCK', 4)
  tokens, _, _ = draws(np.zeros(16, np.float32), PLAIN, DRAWS)
  pairs = 16 * tokens[:-1:2] + tokens[1::2]
  for x, kinds in ((tokens, 16), (pairs, 256)):
    bound = scipy.stats.chi2.ppf(1 - 1e-4, kinds - 1)
    assert chi_square(x, np.full(kinds, 1 / kinds)) < bound


def test_logp_under_top_k_and_top_p_is_that_of_the_kept():
  rng = np.random.default_rng(3)
  logits = (2 * rng.normal(size=(8, 300))).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 8)
  for s in (
    sampling.Sampling(0.6, 0.95, 0),
    sampling.Sampling(1.5, 0.7, 20),
  ):
    token_B, logp_B, entropy_B = map(np.asarray, draw(keys, logits, s))
    for b in range(8):
      logp_V = slow_log_softmax(logits[b], s)
      probs_V = np.exp(logp_V)
      want = -np.sum(probs_V[probs_V > 0] * logp_V[probs_V > 0])
      assert abs(logp_B[b] - logp_V[token_B[b]]) < 2e-6
      assert abs(entropy_B[b] - want) < 2e-6


@pytest.mark.parametrize(
  'logits_V, top_p, top_k, kept',
  [
    ([3, 2, 2, 1], 1.0, 2, {0, 1, 2}),
    ([2, 3, 1, 2], 1.0, 1, {1}),
    ([0, 0, 0, 0], 0.5, 0, {0, 1, 2, 3}),
    ([0, 0, 0, 0], 1.0, 3, {0, 1, 2, 3}),
    # e/(e+1) = 0.73: the second token is needed for 0.74, not for 0.73.
    ([1, 0], 0.73, 0, {0}),
    ([1, 0], 0.74, 0, {0, 1}),
    # The mass is that left after top_k: 0.73 of two, 0.58 of three.
    ([1, 0, 0.0], 0.7, 1, {0}),
    ([1, 0, -0.5], 0.7, 2, {0}),
    ([1, 0, -0.5], 0.7, 0, {0, 1}),
    ([5, 0, 0, 0], 1e-6, 0, {0}),
    ([1, 2, 3], 1.0, 99, {0, 1, 2}),
  ],
)
def test_kept_sets_by_hand(logits_V, top_p, top_k, kept):
  logits_V = np.array(logits_V, np.float32)
  out = np.asarray(sampling.keep_top(logits_V[None], top_p, top_k))[0]
  assert set(np.flatnonzero(np.isfinite(out))) == kept
  assert slow_keep(logits_V, top_p, top_k) == kept
  np.testing.assert_array_equal(out[np.isfinite(out)], logits_V[sorted(kept)])
  assert (out[~np.isfinite(out)] == -np.inf).all()


@pytest.mark.parametrize('top_p, top_k', [(0.9, 0), (1.0, 7), (0.55, 30)])
def test_kept_sets_equal_the_slow_ones(top_p, top_k):
  rng = np.random.default_rng(5)
  smooth = rng.normal(size=(100, 50))
  # Many ties: whole numbers.
  tied = rng.integers(-2, 3, size=(100, 50))
  logits = np.concatenate([smooth, tied]).astype(np.float32)
  out = np.asarray(sampling.keep_top(jnp.asarray(logits), top_p, top_k))
  for row, got in zip(logits, np.isfinite(out)):
    assert set(np.flatnonzero(got)) == slow_keep(row, top_p, top_k)


def test_temperature_0_is_greedy():
  logits = np.array([[1, 5, 5, 2], [9, 0, 0, 0]], np.float32)
  keys = jax.random.split(jax.random.key(0), 2)
  s = sampling.Sampling(0.0, 1.0, 0)
  token, logp, entropy = draw(keys, logits, s)
  assert token.tolist() == [1, 0]
  assert logp.tolist() == entropy.tolist() == [0.0, 0.0]


def bits(keys):
  return [tuple(x) for x in np.asarray(jax.random.key_data(keys)).tolist()]


def rollout_keys(seed, step, seeds, firsts, groups):
  return bits(
    sampling.rollout_keys(
      seed, step, np.array(seeds, np.uint32), np.array(firsts), groups
    )
  )


def test_rollout_keys_are_folded_in_by_name():
  got = rollout_keys(3, 5, [2**32 - 1, 7], [0, 4], 2)
  fold = jax.random.fold_in
  key = fold(jax.random.key(3), 5)
  want = [
    fold(fold(key, np.uint32(prompt)), index)
    for prompt, index in ((2**32 - 1, 0), (2**32 - 1, 1), (7, 4), (7, 5))
  ]
  assert got == bits(jnp.stack(want))


def test_rollout_keys_do_not_hang_on_the_order():
  seeds, firsts = [11, 22, 33], [0, 2, 4]
  got = rollout_keys(0, 1, seeds, firsts, 2)
  turned = rollout_keys(0, 1, seeds[::-1], firsts[::-1], 2)
  assert got == turned[4:] + turned[2:4] + turned[:2]
  # The group's size names nothing: index 3 is index 3.
  assert rollout_keys(0, 1, [22], [2], 4)[:2] == got[2:4]


def test_rollout_keys_are_distinct():
  every = [
    key
    for seed, step in itertools.product((0, 1, 2), (0, 1, 2, 1000))
    for key in rollout_keys(seed, step, [0, 1, 2, 2**31, 2**32 - 1], [0] * 5, 8)
  ]
  assert len(set(every)) == len(every) == 3 * 4 * 5 * 8


def test_prompt_seed_is_the_same_for_ever():
  # sha256('abc') is FIPS 180-2's first example: ba7816bf 8f01cfea ...
  assert sampling.prompt_seed('abc') == 0xBA7816BF
  assert sampling.prompt_seed('é') == int(
    hashlib.sha256(b'\xc3\xa9').hexdigest()[:8], 16
  )
