import collections
import fractions
import itertools
import math

import hypothesis
import numpy as np
import properties
import pytest
from hypothesis import strategies as st
from scipy import stats

from acereason_jax.evaluation import pairs

Fraction = fractions.Fraction
SEED = 11
SPREAD = 0.6, 0.45


def draws(times, problems, n_a, n_b, gain=0.0, spread=SPREAD):
  """(cA, cB) of repeated comparisons; B's solve rates are `gain` higher."""
  rng = np.random.default_rng(SEED)
  for _ in range(times):
    p = rng.beta(*spread, size=problems)
    better = np.minimum(p + gain, 1)
    yield rng.binomial(n_a, p), rng.binomial(n_b, better)


def compared(function, problems, n_a, n_b, both):
  a, b = np.full(problems, n_a), np.full(problems, n_b)
  return function(a, both[0], b, both[1])


def fisher(a, c_a, b, c_b, alternative='two-sided'):
  table = [[c_a, a - c_a], [c_b, b - c_b]]
  return stats.fisher_exact(table, alternative=alternative).pvalue


def labelled(a, b, t):
  """The right rollouts in B of every way in which t of a + b are right."""
  for places in itertools.combinations(range(a + b), t):
    yield sum(place >= a for place in places)


def test_the_difference_by_hand():
  # d = 1/2, 0, 1/4.
  found = pairs.paired([4, 2, 4], [0, 2, 1], [2, 2, 4], [1, 2, 2])
  assert found.difference == pytest.approx(0.25) and found.problems == 3
  # Variances of the means: 0, 0, 3/16/3 of A and 1/4, 0, 1/4/3 of B.
  assert found.rerun_error == pytest.approx(
    math.sqrt(1 / 16 + 1 / 4 + 1 / 12) / 3
  )
  assert found.problems_error == pytest.approx(0.25 / math.sqrt(3))
  # The signs of 1/2 and 1/4 in 4 ways: two of them are as far from 0.
  assert found.p == 0.5
  # t with two degrees: 4.303 at 97.5%, 1.061 at 80%.
  assert found.detectable / found.problems_error == pytest.approx(5.363, 1e-3)


def test_a_comparison_of_equals_and_of_little():
  same = pairs.paired([4, 4], [1, 2], [4, 4], [1, 2])
  assert same.difference == 0 and same.p == 1
  assert math.isnan(same.detectable)
  one = pairs.paired([4], [1], [4], [4])
  assert one.difference == 0.75 and one.p == 1
  assert math.isnan(one.problems_error) and math.isnan(one.detectable)
  assert pairs.paired([], [], [], []).problems == 0
  assert math.isnan(pairs.paired([], [], [], []).difference)
  assert math.isnan(pairs.paired([1, 1], [1, 0], [9, 9], [4, 3]).rerun_error)
  with pytest.raises(ValueError, match='2 problems of A and 1 of B'):
    pairs.paired([1, 1], [1, 0], [1], [1])
  with pytest.raises(ValueError, match='problem 0: 2 of 1'):
    pairs.flips([1], [1], [1], [2])


def test_the_p_of_rollouts_dealt_anew_is_that_of_all_ways():
  n_a, c_a, n_b, c_b = [3, 4, 2], [0, 1, 1], [1, 2, 3], [1, 1, 3]
  found = collections.Counter()
  ways = [
    [Fraction(x, b) - Fraction(c + d - x, a) for x in labelled(a, b, c + d)]
    for a, c, b, d in zip(n_a, c_a, n_b, c_b)
  ]
  for values in itertools.product(*ways):
    found[abs(sum(values))] += 1
  seen = 1 + Fraction(1, 4) + Fraction(1, 2)
  p = sum(n for value, n in found.items() if value >= seen) / found.total()
  # Three standard errors of 100,000 draws.
  assert pairs.dealt_anew(n_a, c_a, n_b, c_b) == pytest.approx(p, abs=0.005)
  assert pairs.dealt_anew([3], [0], [1], [0]) == 1


def test_unequal_numbers_of_rollouts_do_not_make_a_gain():
  # 12 hard problems, 64 rollouts in A and one in B: without a change exchanged
  # signs reject a quarter of the runs.
  signs = rejected = 0
  for c_a, c_b in draws(120, 12, 64, 1, spread=(0.3, 3)):
    signs += pairs.sign_flip(c_b - c_a / 64) <= 0.05
    found = compared(pairs.paired, 12, 64, 1, (c_a, c_b))
    rejected += found.p <= 0.05
  assert signs > 15 and rejected <= 12


@hypothesis.given(st.lists(st.integers(-4, 4), max_size=9))
@properties.tried(200)
def test_the_p_of_signs_is_that_of_all_signs(values):
  sums = [
    abs(sum(s * v for s, v in zip(signs, values)))
    for signs in itertools.product([1, -1], repeat=len(values))
  ]
  wanted = sum(s >= abs(sum(values)) for s in sums) / len(sums)
  # Thirds are not exact in floats: sums that are equal must count as equal.
  assert pairs.sign_flip([v / 3 for v in values]) == pytest.approx(wanted)


@pytest.mark.parametrize('problems', [20, 21, 60, 300])
def test_the_p_of_drawn_signs_is_near_that_of_all_signs(problems):
  values = np.random.default_rng(SEED).integers(-7, 8, problems)
  # The number of choices of signs by their sum, by convolution.
  ways = np.ones(1)
  for v in abs(values):
    step = np.zeros(2 * v + 1)
    step[0] += 0.5
    step[-1] += 0.5
    ways = np.convolve(ways, step)
  sums = np.arange(len(ways)) - len(ways) // 2
  wanted = ways[abs(sums) >= abs(values.sum())].sum()
  found = pairs.sign_flip(values / 16)
  noise = 0 if problems <= 20 else math.sqrt(wanted * (1 - wanted) / 1e5)
  assert found == pytest.approx(wanted, abs=5 * noise + 1e-5)
  assert found == pairs.sign_flip(values / 16)
  assert pairs.sign_flip(np.ones(300)) == pytest.approx(1 / 100_001)


def test_compare_rejects_five_percent_without_a_change():
  found = [
    compared(pairs.paired, 30, 16, 16, both) for both in draws(1200, 30, 16, 16)
  ]
  assert 0.03 <= np.mean([f.p <= 0.05 for f in found]) <= 0.07
  beyond = [abs(f.difference) > 1.96 * f.rerun_error for f in found]
  assert 0.03 <= np.mean(beyond) <= 0.07
  spread = np.std([f.difference for f in found])
  told = np.sqrt(np.mean([f.rerun_error**2 for f in found]))
  assert told == pytest.approx(spread, rel=0.05)


def test_the_detectable_difference_is_found_in_four_of_five_runs():
  # All rates are 1/2, so a gain is the same everywhere.
  flat = 1e6, 1e6
  null = [
    compared(pairs.paired, 40, 64, 64, both)
    for both in draws(40, 40, 64, 64, 0, flat)
  ]
  gain = np.median([f.detectable for f in null])
  found = [
    compared(pairs.paired, 40, 64, 64, both).p <= 0.05
    for both in draws(300, 40, 64, 64, gain, flat)
  ]
  assert 0.73 <= np.mean(found) <= 0.87


def some_tables():
  return st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda n: st.tuples(
      st.just(n[0]), st.integers(0, n[0]), st.just(n[1]), st.integers(0, n[1])
    )
  )


@hypothesis.given(st.lists(some_tables(), min_size=1, max_size=4))
@properties.tried(150)
def test_flips_are_those_of_fishers_test(tables):
  found = pairs.flips(*np.array(tables).T)
  up, down, expected = [], [], [Fraction(0), Fraction(0)]
  for i, (a, c_a, b, c_b) in enumerate(tables):
    p = fisher(a, c_a, b, c_b)
    assert found.p[i] == pytest.approx(p)
    if p <= 0.05:
      (up if c_b * a > c_a * b else down).append(i)
    t = c_a + c_b
    ways = list(labelled(a, b, t))
    for x in ways:
      if fisher(a, t - x, b, x) <= 0.05:
        expected[x * a < (t - x) * b] += Fraction(1, len(ways))
  assert (found.up, found.down) == (up, down)
  assert [found.expected_up, found.expected_down] == pytest.approx(
    [float(e) for e in expected]
  )


def test_flips_of_many_rollouts_next_to_fishers_test():
  rng = np.random.default_rng(SEED)
  n_a, n_b = rng.integers(1, 1025, (2, 200))
  p = rng.beta(*SPREAD, size=200)
  c_a, c_b = rng.binomial(n_a, p), rng.binomial(n_b, p)
  found = pairs.flips(n_a, c_a, n_b, c_b)
  for i in range(200):
    wanted = fisher(n_a[i], c_a[i], n_b[i], c_b[i])
    assert found.p[i] == pytest.approx(wanted, rel=1e-6)


def test_a_problem_never_solved_and_now_solved_by_hand():
  """0 of 64, then 1 to 6 of 64: p = .50 .25 .12 .06 .03 .014."""
  n, c_b = [64] * 6, [1, 2, 3, 4, 5, 6]
  found = pairs.newly_solved(n, [0] * 6, n, c_b)
  assert found.places == [0, 1, 2, 3, 4, 5]
  told = [0.5, 0.25, 0.12, 0.06, 0.03, 0.014]
  assert found.fisher == pytest.approx(told, rel=0.04)
  assert found.sure == [4, 5]
  assert found.expected == pytest.approx(sum(found.fisher))
  # All six at once.
  assert found.p == pytest.approx(math.prod(found.fisher))
  for right, p in zip(c_b, found.fisher):
    assert p == pytest.approx(fisher(64, 0, 64, right, 'less'))


def test_problems_solved_by_both_or_by_none_count_towards_luck():
  # t = 2 of 2 + 4 rollouts: both in B with C(4, 2) / C(6, 2) = 6 / 15.
  found = pairs.newly_solved([2, 2, 2], [0, 1, 0], [4, 4, 4], [2, 1, 0])
  assert found.places == [0] and found.fisher == pytest.approx([0.4])
  assert found.expected == pytest.approx(0.8)
  assert found.p == pytest.approx(1 - 0.6**2)
  # Newly lost: t = 2 in A with C(2, 2) / C(6, 2) = 1 / 15.
  lost = pairs.newly_solved([4, 4, 4], [2, 1, 0], [2, 2, 2], [0, 1, 0])
  assert lost.places == [] and lost.p == 1
  assert lost.expected == pytest.approx(2 / 15)
  nothing = pairs.newly_solved([4], [0], [4], [0])
  assert (nothing.places, nothing.expected, nothing.p) == ([], 0, 1)
  assert pairs.newly_solved([], [], [], []).p == 1


@hypothesis.given(st.lists(some_tables(), min_size=1, max_size=4))
@properties.tried(100)
def test_luck_is_the_share_of_all_ways_to_place_the_right_rollouts(tables):
  found = pairs.newly_solved(*np.array(tables).T)
  chances, seen = [], 0
  for a, c_a, b, c_b in tables:
    t = c_a + c_b
    ways = list(labelled(a, b, t))
    chances.append(Fraction(sum(x == t and t > 0 for x in ways), len(ways)))
    seen += c_a == 0 < c_b
  assert found.expected == pytest.approx(float(sum(chances)))
  tail = sum(
    math.prod(q if hit else 1 - q for q, hit in zip(chances, hits))
    for hits in itertools.product([True, False], repeat=len(chances))
    if sum(hits) >= seen
  )
  assert found.p == pytest.approx(float(tail))


def test_a_tail_keeps_its_digits():
  assert pairs.at_least(40, [0.01] * 40) == pytest.approx(1e-80)
  wanted = stats.binom.sf(99, 3000, 0.02)
  assert pairs.at_least(100, [0.02] * 3000) == pytest.approx(wanted)
  assert pairs.at_least(3, [0.5, 0.5]) == 0 and pairs.at_least(1, []) == 0


@pytest.mark.parametrize('n_a, n_b', [(64, 64), (8, 8), (64, 128), (4, 1)])
def test_luck_of_279_problems_without_a_change(n_a, n_b):
  found = [
    compared(pairs.newly_solved, 279, n_a, n_b, both)
    for both in draws(1500, 279, n_a, n_b, 0, (0.35, 0.6))
  ]
  seen = np.mean([len(f.places) for f in found])
  assert np.mean([f.expected for f in found]) == pytest.approx(seen, rel=0.1)
  assert np.mean([f.p <= 0.05 for f in found]) <= 0.06


def test_a_real_gain_is_no_luck():
  found = [
    compared(pairs.newly_solved, 279, 64, 64, both)
    for both in draws(50, 279, 64, 64, 0.1, (0.35, 0.6))
  ]
  assert all(f.p < 1e-6 for f in found)
  assert np.mean([len(f.sure) for f in found]) > 10


def test_holm_by_hand():
  # Sorted: .005 x 4, .01 x 3, .03 x 2, .04 x 1, each at least the one before.
  wanted = [0.03, 0.06, 0.06, 0.02]
  assert pairs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(wanted)
  assert pairs.holm([0.7, 0.6]) == [1, 1]
  first, nan, last = pairs.holm([0.01, math.nan, 0.02])
  assert (first, last) == (0.02, 0.02) and math.isnan(nan)
  assert pairs.holm([]) == []
