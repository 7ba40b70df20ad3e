"""Each loss is its paper's formula, by hand and in float64.

`test_update` has the two that came first, and what an update makes of them.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import own_parts
import pytest

from acereason_jax import mesh as mesh_lib
from acereason_jax import resolve
from acereason_jax.rl import losses, packing

# (segment, tokens, indices of those not drawn by the policy); 0 is padding. Row
# by row: a prompt and three responses, one with forced tokens inside; one
# whole; only padding.
ROWS = [
  [(1, 2, (0, 1)), (2, 3, ()), (3, 1, ()), (4, 4, (1, 2)), (0, 2, (0, 1))],
  [(1, 8, (0, 1, 2)), (0, 4, (0, 1, 2, 3))],
  [(0, 12, tuple(range(12)))],
  [(1, 1, ()), (2, 1, ()), (3, 10, ())],
]
T = 12


def make_batch(spread=0.4):
  """(logp_BT, batch) of ROWS with ratios about exp(+-spread), float32."""
  rng = np.random.default_rng(3)
  B = len(ROWS)
  segment_BT = np.zeros((B, T), np.int32)
  adv_BT, weight_BT = np.zeros((2, B, T), np.float32)
  for b, row in enumerate(ROWS):
    start = 0
    for segment, count, silent in row:
      place = slice(start, start + count)
      segment_BT[b, place] = segment
      said = np.array([t not in silent for t in range(count)])
      adv_BT[b, place] = rng.normal() * said
      weight_BT[b, place] = rng.uniform(0.1, 1.0) * said
      start += count
    assert start == T
  said_BT = weight_BT > 0
  draw = lambda mean, std: rng.normal(mean, std, (B, T)).astype(np.float32)
  logp_BT = np.where(said_BT, draw(-2.0, 0.5), 0.0)
  zero = np.zeros((B, T), np.int32)
  return logp_BT, packing.PackedBatch(
    tokens_BT=zero,
    target_BT=zero,
    segment_BT=segment_BT,
    prefix_BT=zero,
    position_BT=zero,
    logp_old_BT=np.where(said_BT, logp_BT + draw(0, spread), 0.0),
    adv_BT=adv_BT,
    weight_BT=weight_BT,
    logp_ref_BT=np.where(said_BT, logp_BT + draw(0, spread), 0.0),
    logp_first_BT=np.where(said_BT, logp_BT + draw(0, spread), 0.0),
  )


LOGP, BATCH = make_batch()
SAID = BATCH.weight_BT > 0


def clip(x, low, high):
  return min(max(x, low), high)


# The papers' formulas, one response at a time, in float64: [its tokens' losses]
# of (logp, was, old, first, ref, adv), lists over response tokens. `was` is
# logp where a formula stops the gradient.


def slow_surrogate(ratio, adv, low, high):
  return -min(ratio * adv, clip(ratio, 1 - low, 1 + high) * adv)


def slow_clipped(logp, was, old, first, ref, adv):
  ratios = [math.exp(x - o) for x, o in zip(logp, old)]
  return [slow_surrogate(r, adv, 0.2, 0.28) for r in ratios]


def slow_gspo(logp, was, old, first, ref, adv):
  mean = sum(x - o for x, o in zip(logp, old)) / len(logp)
  return [slow_surrogate(math.exp(mean), adv, 0.1, 0.15)] * len(logp)


def slow_cispo(logp, was, old, first, ref, adv):
  ratios = [math.exp(x - o) for x, o in zip(was, old)]
  return [-clip(r, 0.7, 1.2) * adv * x for r, x in zip(ratios, logp)]


def truncated(old, first):
  return [min(math.exp(f - o), 1.1) for f, o in zip(first, old)]


def masked(old, first):
  ratios = [math.exp(f - o) for f, o in zip(first, old)]
  return [r if 0.7 <= r <= 1.4 else 0.0 for r in ratios]


def slow_tis(logp, was, old, first, ref, adv):
  ratios = [math.exp(x - w) for x, w in zip(logp, was)]
  return [-f * r * adv for f, r in zip(truncated(old, first), ratios)]


def slow_icepop(logp, was, old, first, ref, adv):
  ratios = [math.exp(x - w) for x, w in zip(logp, was)]
  return [-f * r * adv for f, r in zip(masked(old, first), ratios)]


def slow_tis_clipped(logp, was, old, first, ref, adv):
  own = slow_clipped(logp, was, first, first, ref, adv)
  return [f * x for f, x in zip(truncated(old, first), own)]


def slow_icepop_clipped(logp, was, old, first, ref, adv):
  own = slow_clipped(logp, was, first, first, ref, adv)
  return [f * x for f, x in zip(masked(old, first), own)]


def slow_kl(logp, was, old, first, ref, adv):
  terms = [math.exp(r - x) - (r - x) - 1 for r, x in zip(ref, logp)]
  own = slow_clipped(logp, was, old, first, ref, adv)
  return [x + 0.3 * term for x, term in zip(own, terms)]


CLIPPED = losses.clipped(0.2, 0.28)
CASES = {
  'clipped': (CLIPPED, slow_clipped),
  'gspo': (losses.gspo(0.1, 0.15), slow_gspo),
  'cispo': (losses.cispo(0.3, 0.2), slow_cispo),
  'tis': (losses.truncated_importance(losses.on_policy(), 1.1), slow_tis),
  'tis of clipped': (
    losses.truncated_importance(CLIPPED, 1.1),
    slow_tis_clipped,
  ),
  'icepop': (losses.icepop(losses.on_policy(), 0.7, 1.4), slow_icepop),
  'icepop of clipped': (
    losses.icepop(CLIPPED, 0.7, 1.4),
    slow_icepop_clipped,
  ),
  'kl': (losses.with_kl(CLIPPED, 0.3), slow_kl),
}


def slow_total(slow, logp_BT):
  """Sum of weight * loss over all responses, float64."""
  total = 0.0
  for b, row in enumerate(ROWS):
    start = 0
    for _, count, silent in row:
      at = [start + t for t in range(count) if t not in silent]
      start += count
      if at:
        lists = (
          [float(x[b, t]) for t in at]
          for x in (
            logp_BT,
            LOGP,
            BATCH.logp_old_BT,
            BATCH.logp_first_BT,
            BATCH.logp_ref_BT,
          )
        )
        per_token = slow(*lists, float(BATCH.adv_BT[b, at[0]]))
        weights = [float(BATCH.weight_BT[b, t]) for t in at]
        total += sum(w * x for w, x in zip(weights, per_token, strict=True))
  return total


def total(loss, logp_BT, batch):
  loss_BT = jnp.where(batch.weight_BT > 0, loss(logp_BT, batch), 0.0)
  return jnp.sum(loss_BT * batch.weight_BT)


value_and_grad = jax.jit(jax.value_and_grad(total, 1), static_argnums=0)


@pytest.mark.parametrize('name', CASES)
def test_value_and_gradient_are_the_papers(name):
  loss, slow = CASES[name]
  value, grad_BT = value_and_grad(loss, LOGP, BATCH)
  assert value == pytest.approx(slow_total(slow, LOGP), rel=2e-6)
  logp64_BT, want_BT = LOGP.astype(np.float64), np.zeros(LOGP.shape)
  h = 1e-6
  for b, t in np.argwhere(SAID):
    move = h * (np.arange(T) == t) * (np.arange(len(ROWS)) == b)[:, None]
    up, down = (slow_total(slow, logp64_BT + x) for x in (move, -move))
    want_BT[b, t] = (up - down) / (2 * h)
  assert oracles.relative_error(grad_BT, want_BT) < 2e-6
  # Both sides of every bound were met.
  assert (want_BT[SAID] != 0).any()
  assert (np.asarray(grad_BT)[~SAID] == 0).all()


def test_the_bounds_of_these_cases_bind_and_leave_free():
  ratio = np.exp(LOGP - BATCH.logp_old_BT)[SAID]
  for bound in (0.7, 0.8, 1.1, 1.2, 1.28, 1.4):
    assert 2 < (ratio > bound).sum() < len(ratio) - 2


@pytest.mark.parametrize(
  'adv, gaps, want, slopes',
  [
    # The ratio is exp of the mean: sqrt(2).
    (-1.0, [math.log(2), 0.0], math.sqrt(2), [math.sqrt(2)] * 2),
    (1.0, [math.log(2), 0.0], -1.28, [0.0] * 2),
    # Far off one by one, but not together.
    (1.0, [3.0, -3.0], -1.0, [-1.0] * 2),
    (2.0, [math.log(1.25)], -2.5, [-2.5]),
    (-2.0, [math.log(0.5)], 1.6, [0.0]),
  ],
)
def test_gspo_by_hand(adv, gaps, want, slopes):
  n = len(gaps)
  row = lambda x: np.full((1, n), x, np.float32)
  batch = BATCH._replace(
    segment_BT=np.ones((1, n), np.int32),
    weight_BT=row(1 / n),
    adv_BT=row(adv),
    logp_old_BT=row(-1.0),
  )
  logp_BT = np.float32([gaps]) - 1
  loss = losses.gspo(0.2, 0.28)
  np.testing.assert_allclose(loss(logp_BT, batch), row(want), rtol=1e-6)
  # The gradient of the response's mean: each token has 1 / n of it.
  value, grad_BT = value_and_grad(loss, logp_BT, batch)
  assert value == pytest.approx(want, rel=1e-6)
  np.testing.assert_allclose(n * grad_BT, [slopes], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('name', CASES)
def test_any_split_of_the_rows_adds_up_to_the_same(name):
  loss, _ = CASES[name]
  value, grad_BT = value_and_grad(loss, LOGP, BATCH)
  rows = (packing.PackedBatch(*x) for x in zip(*(x[:, None] for x in BATCH)))
  parts = [value_and_grad(loss, x[None], row) for x, row in zip(LOGP, rows)]
  assert sum(x for x, _ in parts) == pytest.approx(float(value), rel=1e-6)
  got = np.concatenate([grad for _, grad in parts])
  np.testing.assert_allclose(got, grad_BT, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
  'sizes', [(4, 1, 1, 1), (1, 1, 1, 4), (2, 1, 1, 2), (1, 2, 2, 1)]
)
@pytest.mark.parametrize('name', ['gspo', 'kl'])
def test_any_mesh_gives_the_same(name, sizes):
  """Also where a response's tokens are on several devices."""
  loss, _ = CASES[name]
  mesh = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, sizes)))
  rows = mesh_lib.packed(mesh)
  spread = functools.partial(mesh_lib.spread, sharding=rows)
  batch = packing.PackedBatch(*map(spread, BATCH))
  run = jax.jit(
    jax.value_and_grad(functools.partial(total, loss)),
    out_shardings=(mesh_lib.replicated(mesh), rows),
  )
  value, grad_BT = run(spread(LOGP), batch)
  assert not grad_BT.sharding.is_fully_replicated
  want, want_BT = value_and_grad(loss, LOGP, BATCH)
  assert float(value) == pytest.approx(float(want), rel=1e-6)
  np.testing.assert_allclose(grad_BT, want_BT, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', CASES)
def test_a_batch_of_padding_alone_has_no_loss_and_no_gradient(name):
  loss, _ = CASES[name]
  nothing = jax.tree.map(np.zeros_like, BATCH)
  value, grad_BT = value_and_grad(loss, np.zeros_like(LOGP), nothing)
  assert value == 0.0
  np.testing.assert_array_equal(grad_BT, np.zeros_like(LOGP))


@pytest.mark.parametrize('name', sorted(set(CASES) - {'kl'}))
def test_where_pi_is_the_samplers_all_are_reinforce(name):
  """The result of a strictly on-policy step with each loss."""
  loss, _ = CASES[name]
  batch = BATCH._replace(logp_old_BT=LOGP, logp_first_BT=LOGP)
  _, grad_BT = value_and_grad(loss, LOGP, batch)
  want = -batch.adv_BT * batch.weight_BT
  np.testing.assert_allclose(grad_BT, want, rtol=1e-5, atol=1e-7)


def test_corrections_by_hand():
  """pi_old / pi_sampler of 3, 1.5 and 0.25, advantage 2, pi = pi_old."""
  ratio = np.float32([[3.0, 1.5, 0.25]])
  batch = BATCH._replace(
    adv_BT=np.full((1, 3), 2.0, np.float32),
    logp_old_BT=np.float32([[-1.0] * 3]),
    weight_BT=np.ones((1, 3), np.float32),
  )
  logp_BT = np.log(ratio) - 1
  batch = batch._replace(logp_first_BT=logp_BT)
  inside = losses.on_policy()
  for loss, want in (
    (losses.truncated_importance(inside, 2.0), [[2.0, 1.5, 0.25]]),
    (losses.icepop(inside, 0.5, 5.0), [[3.0, 1.5, 0.0]]),
    (losses.icepop(inside, 0.25, 2.0), [[0.0, 1.5, 0.25]]),
  ):
    value, grad_BT = value_and_grad(loss, logp_BT, batch)
    np.testing.assert_allclose(grad_BT, -2 * np.array(want), rtol=1e-6)
    assert value == pytest.approx(-2 * np.sum(want), rel=1e-6)


def test_kl_is_unbiased_never_negative_and_0_for_the_same():
  rng = np.random.default_rng(0)
  for size in (1e-3, 0.1, 3.0):
    logits = rng.normal(size=9)
    pi, ref = map(
      oracles.log_softmax, (logits, logits + size * rng.normal(size=9))
    )
    every = np.asarray(losses.kl(np.float32(pi), np.float32(ref)), np.float64)
    assert (every >= 0).all()
    # Every token, as often as pi draws it.
    want = np.sum(np.exp(pi) * (pi - ref))
    # float32 of a logp of 2 is 1e-7 off, and a gap of 1e-3 by 1e-4 of it.
    assert np.sum(np.exp(pi) * every) == pytest.approx(want, rel=1e-3)
  assert float(losses.kl(jnp.float32(-1.7), jnp.float32(-1.7))) == 0.0
  # 1e-3: half its square, less a sixth of its cube.
  small = losses.kl(jnp.float32(1e-3), jnp.float32(0.0))
  assert small == pytest.approx(5e-7 - 1e-9 / 6, rel=1e-3)


def test_the_gradient_of_kl_by_hand():
  # d/d logp = 1 - pi_ref / pi.
  for gap, want in ((0.0, 0.0), (math.log(2), -1.0), (-math.log(2), 0.5)):
    grad = jax.grad(losses.kl)(jnp.float32(-1.0), jnp.float32(gap - 1.0))
    assert float(grad) == pytest.approx(want, abs=2e-7)


@pytest.mark.parametrize('correct', ['tis', 'icepop'])
def test_a_correction_leaves_ppos_clip_as_it_is(correct):
  """Where sampler and trainer agree nothing is corrected, and a later update
  of the batch clips the tokens that PPO clips."""
  batch = BATCH._replace(logp_first_BT=BATCH.logp_old_BT)
  loss = dict(
    tis=losses.truncated_importance(CLIPPED, 2.0),
    icepop=losses.icepop(CLIPPED, 0.5, 5.0),
  )[correct]
  value, grad_BT = value_and_grad(loss, LOGP, batch)
  want, want_BT = value_and_grad(CLIPPED, LOGP, batch)
  assert float(value) == float(want)
  np.testing.assert_array_equal(grad_BT, want_BT)
  clipped = (np.asarray(grad_BT) == 0) & SAID
  assert 3 < clipped.sum() < SAID.sum() - 3


@pytest.mark.parametrize(
  'sampler, first, now, adv, want, slope',
  [
    # pi_old / pi_sampler, pi / pi_old; TIS at 2 around a clip of 0.2 and 0.28.
    (1.0, 1.5, 1.1, 1.0, -1.5 * 1.1, -1.5 * 1.1),
    (1.0, 1.5, 1.5, 1.0, -1.5 * 1.28, 0.0),
    (1.0, 3.0, 0.5, -1.0, 2.0 * 0.8, 0.0),
    (1.0, 3.0, 1.5, -1.0, 2.0 * 1.5, 2.0 * 1.5),
    # The ratio to the sampler is 1, and the clip holds all the same.
    (1.0, 0.5, 2.0, 1.0, -0.5 * 1.28, 0.0),
    # It is far off, and the clip does not hold.
    (1.0, 4.0, 1.0, 1.0, -2.0, -2.0),
  ],
)
def test_a_correction_and_a_clip_by_hand(sampler, first, now, adv, want, slope):
  row = lambda x: np.float32([[x]])
  old = math.log(sampler) - 3
  batch = BATCH._replace(
    adv_BT=row(adv),
    weight_BT=row(1.0),
    logp_old_BT=row(old),
    logp_first_BT=row(old + math.log(first)),
  )
  loss = losses.truncated_importance(CLIPPED, 2.0)
  logp_BT = row(old + math.log(first) + math.log(now))
  value, grad_BT = value_and_grad(loss, logp_BT, batch)
  assert value == pytest.approx(want, rel=1e-6)
  assert float(grad_BT[0, 0]) == pytest.approx(slope, rel=1e-6)


def kl_where_it_is_bad(logp_BT, batch):
  pull_BT = losses.kl(logp_BT, batch.logp_ref_BT)
  return jnp.where(batch.adv_BT < 0, pull_BT, -batch.adv_BT * logp_BT)


def hinge(logp_BT, batch):
  gap_BT = jnp.abs(logp_BT - batch.logp_ref_BT)
  return -batch.adv_BT * logp_BT + jnp.maximum(gap_BT - 1.0, 0.0)


@jax.custom_vjp
def straight(logp_BT, logp_ref_BT):
  return logp_BT


# The value reads no reference; the gradient does.
straight.defvjp(
  lambda logp_BT, ref_BT: (logp_BT, ref_BT),
  lambda ref_BT, slope_BT: (slope_BT * ref_BT, jnp.zeros_like(ref_BT)),
)


def through_custom_vjp(logp_BT, batch):
  return -batch.adv_BT * straight(logp_BT, batch.logp_ref_BT)


def through_scan(logp_BT, batch):
  def one(total_B, column):
    logp_B, ref_B = column
    total_B = total_B + logp_B - ref_B
    return total_B, total_B

  columns = logp_BT.T, batch.logp_ref_BT.T
  _, sums_TB = jax.lax.scan(one, jnp.zeros(len(logp_BT)), columns)
  return -batch.adv_BT * sums_TB.T


def scan_that_only_carries_it(logp_BT, batch):
  """The reference goes in and nothing that comes out depends on it."""

  def one(unused_B, column):
    logp_B, ref_B = column
    return unused_B + ref_B, 2 * logp_B

  columns = logp_BT.T, batch.logp_ref_BT.T
  _, twice_TB = jax.lax.scan(one, jnp.zeros(len(logp_BT)), columns)
  return -batch.adv_BT * twice_TB.T


def as_a_number(logp_BT, batch):
  factor_BT = jax.lax.stop_gradient(jnp.exp(batch.logp_ref_BT - logp_BT))
  return -jnp.minimum(factor_BT, 2.0) * batch.adv_BT * logp_BT


def as_a_number_beside(logp_BT, batch):
  """The gradient does not read it, but the loss that is reported does."""
  beside_BT = jax.lax.stop_gradient(losses.kl(logp_BT, batch.logp_ref_BT))
  return -batch.adv_BT * logp_BT + beside_BT


def in_a_branch(logp_BT, batch):
  far = lambda: losses.kl(logp_BT, batch.logp_ref_BT)
  near = lambda: jnp.zeros_like(logp_BT)
  pull_BT = jax.lax.cond(batch.adv_BT.min() < -9, far, near)
  return -batch.adv_BT * logp_BT + pull_BT


def in_a_jitted_function(logp_BT, batch):
  pull = jax.jit(lambda x, y: (losses.kl(x, y), x))
  return -batch.adv_BT * logp_BT + pull(logp_BT, batch.logp_ref_BT)[0]


def what_a_jitted_function_ignores(logp_BT, batch):
  pull = jax.jit(lambda x, y: (losses.kl(x, y), x))
  return -batch.adv_BT * pull(logp_BT, batch.logp_ref_BT)[1]


def times_zero(logp_BT, batch):
  return -batch.adv_BT * logp_BT + 0.0 * batch.logp_ref_BT


def looked_at_and_dropped(logp_BT, batch):
  del_BT = losses.kl(logp_BT, batch.logp_ref_BT)
  return -batch.adv_BT * logp_BT if del_BT is not None else del_BT


@pytest.mark.parametrize(
  'loss, expected',
  [
    (losses.on_policy(), False),
    *((loss, name == 'kl') for name, (loss, _) in CASES.items()),
    (losses.with_kl(losses.on_policy(), 1e-9), True),
    (losses.icepop(losses.with_kl(CLIPPED, 1e-3), 0.5, 5.0), True),
    (losses.truncated_importance(losses.gspo(0.1, 0.1), 2.0), False),
    (own_parts.squared(0.1), False),
    (kl_where_it_is_bad, True),
    (hinge, True),
    (through_custom_vjp, True),
    (through_scan, True),
    (scan_that_only_carries_it, False),
    (as_a_number, True),
    (as_a_number_beside, True),
    (in_a_branch, True),
    (in_a_jitted_function, True),
    (what_a_jitted_function_ignores, False),
    (looked_at_and_dropped, False),
    # It is there, if for nothing.
    (times_zero, True),
  ],
)
def test_whether_a_loss_reads_the_reference(loss, expected):
  assert ('logp_ref_BT' in losses.reads(loss)) == expected


@pytest.mark.parametrize(
  'loss, fields',
  [
    (losses.on_policy(), 'adv'),
    (CLIPPED, 'adv logp_old'),
    (losses.gspo(0.1, 0.1), 'adv logp_old segment weight'),
    (losses.truncated_importance(CLIPPED, 2.0), 'adv logp_old logp_first'),
    (losses.with_kl(losses.on_policy(), 0.1), 'adv logp_ref'),
    (lambda logp_BT, batch: -logp_BT, ''),
  ],
)
def test_what_a_loss_reads(loss, fields):
  assert losses.reads(loss) == {f'{name}_BT' for name in fields.split()}


def reinforce(logp_BT, batch):
  return -batch.adv_BT * logp_BT


@pytest.mark.parametrize(
  'loss, every',
  [
    # Who says nothing may have a gradient anywhere.
    (reinforce, True),
    (own_parts.squared(0.0), True),
    (hinge, True),
    (losses.advantage_only(lambda logp_BT, batch: -batch.adv_BT), False),
    *((loss, name == 'kl') for name, (loss, _) in CASES.items()),
    (losses.with_kl(losses.on_policy(), 0.0), True),
    (losses.icepop(losses.with_kl(CLIPPED, 1e-3), 0.5, 5.0), True),
    (losses.truncated_importance(reinforce, 2.0), True),
    (losses.truncated_importance(losses.icepop(CLIPPED, 0.5, 2), 2.0), False),
  ],
)
def test_whether_rollouts_without_advantage_are_kept(loss, every):
  assert losses.needs_every(loss) == every


@pytest.mark.parametrize('name', sorted(set(CASES) - {'kl'}))
def test_what_is_declared_is_so(name):
  loss, _ = CASES[name]
  batch = BATCH._replace(adv_BT=np.zeros_like(BATCH.adv_BT))
  _, grad_BT = value_and_grad(loss, LOGP, batch)
  np.testing.assert_array_equal(grad_BT, np.zeros_like(LOGP))


TIS = losses.truncated_importance


@pytest.mark.parametrize(
  'loss, expected',
  [
    (losses.on_policy(), False),
    (reinforce, False),
    (CLIPPED, True),
    (losses.gspo(0.1, 0.1), True),
    (losses.cispo(1.0, 0.28), True),
    (own_parts.squared(0.1), True),
    (TIS(CLIPPED, 2.0), True),
    # The wrapper reads log-probabilities too, for another purpose.
    (TIS(losses.on_policy(), 2.0), False),
    (losses.icepop(reinforce, 0.5, 2.0), False),
    (losses.with_kl(losses.on_policy(), 0.1), False),
    (losses.with_kl(TIS(losses.on_policy(), 2.0), 0.1), False),
    (losses.with_kl(TIS(CLIPPED, 2.0), 0.1), True),
  ],
)
def test_whether_a_loss_is_right_for_a_second_update(loss, expected):
  assert losses.has_ratio(loss) == expected


def broken(logp_BT, batch):
  return logp_BT * batch.advantages


@pytest.mark.parametrize(
  'loss, match',
  [
    (None, '^gave a NoneType, expected a function'),
    (3.0, '^gave a float, expected'),
    ('clipped', '^gave a str'),
    (lambda logp_BT: logp_BT, r'is no loss \(TypeError: .*2 were given'),
    (lambda a, b, c: a, "is no loss .*missing 1 required .*'c'"),
    (
      lambda logp_BT, batch: logp_BT.mean(),
      r'no loss .*result is float32\[\]\)',
    ),
    (lambda logp_BT, batch: logp_BT[0], r'no loss .*is float32\[1024\]\)'),
    (lambda logp_BT, batch: (logp_BT, {}), 'no loss .*result is a tuple'),
    (lambda logp_BT, batch: None, 'no loss .*result is a None'),
    (lambda logp_BT, batch: batch.segment_BT, r'no loss .*is int32\[2, 10'),
    (lambda logp_BT, batch: logp_BT > 0, r'no loss .*is bool\[2, 10'),
    (broken, "is no loss .AttributeError: .*'advantages'"),
    # It asks for a number where there is none yet.
    (
      lambda logp_BT, batch: logp_BT if batch.adv_BT.sum() > 0 else -logp_BT,
      'is no loss .TracerBoolConversionError',
    ),
    (lambda logp_BT, batch: batch.adv_BT, 'is no loss: it has no gradient'),
    (
      lambda logp_BT, batch: jax.lax.stop_gradient(logp_BT) * batch.adv_BT,
      'is no loss: it has no gradient',
    ),
  ],
)
def test_what_is_no_loss(loss, match):
  with pytest.raises(ValueError, match=match) as e:
    losses.reads(loss)
  assert '\n' not in str(e.value)


NAME = 'acereason_jax.rl.losses:'
KL = dict(
  fn=NAME + 'with_kl',
  weight=0.3,
  loss=dict(
    fn=NAME + 'truncated_importance',
    limit=1.1,
    loss=dict(fn=NAME + 'clipped', clip_low=0.2, clip_high=0.28),
  ),
)


def test_a_loss_is_a_component_in_a_component():
  built = resolve.build(KL, 'config.loss')
  inside = losses.truncated_importance(CLIPPED, 1.1)
  want = losses.with_kl(inside, 0.3)
  np.testing.assert_array_equal(built(LOGP, BATCH), want(LOGP, BATCH))


@pytest.mark.parametrize(
  'inside, match',
  [
    (
      dict(fn=NAME + 'clipped', clip_low=0.2),
      r'^config\.loss\.loss: .*clip_hi',
    ),
    (dict(fn=NAME + 'gpso'), r"^config\.loss\.loss\.fn='.*no 'gpso'"),
  ],
)
def test_a_bad_component_inside_is_named(inside, match):
  with pytest.raises(ValueError, match=match) as e:
    resolve.build(KL | dict(loss=inside), 'config.loss')
  assert '\n' not in str(e.value)
