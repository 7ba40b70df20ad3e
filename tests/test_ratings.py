import math

import numpy as np
import pytest

from acereason_jax.evaluation import ratings

SEED = 5


def chance(rating, other):
  return 1 / (1 + 10 ** ((other - rating) / 400))


def test_ratings_by_hand():
  # One of two at 1500: even chances.
  found = ratings.rating([1500], [2], [1])
  assert found.value == pytest.approx(1500) and found.bound == ''
  a = math.log(10) / 400
  assert found.error == pytest.approx(1 / (a * math.sqrt(2 / 4)))
  # 10 of 11 tries: ten to one are 400 points.
  assert ratings.rating([1500], [11], [10]).value == pytest.approx(1900)
  found = ratings.rating([1000, 2000], [3, 3], [3, 0])
  assert found.value == pytest.approx(1500)
  assert found.error == pytest.approx(
    1 / (a * math.sqrt(6 * chance(1500, 1000) * chance(1000, 1500)))
  )


def test_a_rating_far_from_all_problems():
  found = ratings.rating([800, 900], [1000, 1000], [1000, 999])
  assert found.value == pytest.approx(850 + 400 * math.log10(1999), abs=10)


def test_all_or_none_solved_is_a_bound():
  d, n = [1200, 1900, 2600], [1, 2, 1]
  top = ratings.rating(d, n, n)
  assert top.bound == 'all' and math.isnan(top.error)
  found = math.prod(chance(top.value, x) ** k for x, k in zip(d, n))
  assert found == pytest.approx(0.05)
  low = ratings.rating(d, n, [0, 0, 0])
  assert low.bound == 'none' and math.isnan(low.error)
  found = math.prod((1 - chance(low.value, x)) ** k for x, k in zip(d, n))
  assert found == pytest.approx(0.05)
  empty = ratings.rating([], [], [])
  assert math.isnan(empty.value) and empty.bound == ''


@pytest.mark.parametrize(
  'd, n, c, words',
  [
    ([1500], [1, 1], [1, 0], r'shape \(1,\): .* each of 2'),
    ([math.nan], [1], [1], 'finite'),
    ([1500], [1], [2], 'problem 0: 2 of 1'),
  ],
)
def test_problems_without_a_rating(d, n, c, words):
  with pytest.raises(ValueError, match=words):
    ratings.rating(d, n, c)


def test_a_rating_has_no_bias_and_the_error_that_it_tells():
  """150 problems, one try each, of a solver of 1475."""
  rng = np.random.default_rng(SEED)
  values, errors = [], []
  for _ in range(1500):
    d = rng.uniform(800, 3000, 150)
    c = rng.binomial(1, chance(1475, d))
    found = ratings.rating(d, np.ones(150, int), c)
    values.append(found.value)
    errors.append(found.error)
  assert abs(np.mean(values) - 1475) < 10
  assert 0.9 <= np.std(values) / np.mean(errors) <= 1.1


def contest(**changes):
  """Ten contestants of ratings 1000 to 1900, the best first."""
  return {
    'contestId': 7,
    'problems': [
      {'index': 'A', 'points': 500},
      {'index': 'B', 'points': 1000},
    ],
    'rows': [
      {'points': points, 'penalty': 0}
      for points in (1450, 1400, 1300, 950, 900, 900, 450, 400, 0, 0)
    ],
    'oldRatings': list(range(1900, 900, -100)),
  } | changes


def by_scan(contest, place):
  """The largest whole rating whose expected place is not better."""
  old = contest['oldRatings']
  found = 0
  for rating in range(max(old) + 100):
    if 1 + sum(chance(r, rating) for r in old) >= place:
      found = rating
  return found


@pytest.mark.parametrize(
  'tries, place',
  [
    # 1500 points: ahead of everyone; 1000 - 50 are level with the fourth.
    ({'A': [True], 'B': [True]}, 0),
    ({'B': [False, True]}, 4),
    # 1000 - 2 x 50 = 900; wrong tries after the right one cost nothing.
    ({'B': [False, False, True, False]}, 6),
    ({'A': [False, True], 'B': [False, True, False]}, 2),
    ({'A': [False] * 12 + [True]}, 10),
    ({'A': [False], 'B': []}, 10),
    ({}, 10),
  ],
)
def test_a_contest_by_hand(tries, place):
  given = contest()
  assert ratings.contest_rating(given, tries) == by_scan(given, place)


def test_a_contest_without_points_counts_problems_and_penalties():
  rows = [(2, 0), (2, 20), (1, 0), (1, 10), (1, 30), (0, 0)]
  given = contest(
    problems=[{'index': 'A'}, {'index': 'B'}],
    rows=[{'points': p, 'penalty': q} for p, q in rows],
    oldRatings=[2000, 1800, 1600, 1400, 1200, 1000],
  )
  both = {'A': [False, True], 'B': [True]}
  # 2 problems and a penalty of 10: behind the first only.
  assert ratings.contest_rating(given, both) == by_scan(given, 1)
  one = {'B': [False, True]}
  assert ratings.contest_rating(given, one) == by_scan(given, 4)


def test_contestants_and_ratings_are_joined_by_handle():
  listed = contest()
  named = contest(
    rows=[dict(row, handle=f'h{i}') for i, row in enumerate(listed['rows'])]
    # Unrated, and in the standings only.
    + [{'handle': 'x', 'points': 9999, 'penalty': 0}, {'points': 'no handle'}],
    # And one who is in the ratings only.
    oldRatings={f'h{i}': r for i, r in enumerate(listed['oldRatings'])}
    | {'y': 3500},
  )
  for tries in ({'B': [True]}, {'A': [True]}, {}):
    found = ratings.contest_rating(named, tries)
    assert found == ratings.contest_rating(listed, tries)


def test_the_mean_of_contests():
  given = [(contest(contestId=1), {'B': [True]}), (contest(contestId=2), {})]
  values = [ratings.contest_rating(*each) for each in given]
  found = ratings.contests_rating(given)
  assert found.value == pytest.approx(sum(values) / 2) and found.bound == ''
  assert found.error == pytest.approx(abs(values[0] - values[1]) / 2)
  one = ratings.contests_rating(given[:1])
  assert one.value == values[0] and math.isnan(one.error)
  assert math.isnan(ratings.contests_rating([]).value)


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(problems=None), 'problems is no list'),
    (dict(problems=[{'points': 1}]), r'problems\[0\] has no index'),
    (dict(problems=[{'index': ['A']}]), r'problems\[0\] has no index'),
    (dict(problems=['A']), r'problems\[0\] has no index'),
    (dict(problems=[{'index': 'A', 'points': 'x'}]), r'problems\[0\]: points'),
    (dict(rows='x'), 'rows is no list'),
    (dict(rows=[]), '0 rows need as many oldRatings'),
    (dict(rows=[], oldRatings=[]), 'no row has a rating'),
    (dict(oldRatings={}), 'no row has a rating'),
    (dict(oldRatings=[1]), '10 rows need as many'),
    (dict(rows=[3] * 10), r'rows\[0\]: points is no number'),
    (dict(oldRatings=[True] * 10), r'oldRatings\[0\]: rating is no number'),
    (dict(oldRatings=[math.inf] * 10), r'oldRatings\[0\]: rating is no'),
    (dict(contestId='x\x1b[2J', rows=0), r"contest 'x\\x1b\[2J': rows"),
  ],
)
def test_a_contest_of_another_form(changes, words):
  with pytest.raises(ValueError, match=words) as e:
    ratings.contest_rating(contest(**changes), {'A': [True]})
  assert str(e.value).isprintable()


def test_percentiles():
  assert ratings.percentile(15, [10, 15, 15, 20]) == 0.25
  assert ratings.percentile(9, [10, 20]) == 0
  assert ratings.percentile(21, [10, 20]) == 1
  assert math.isnan(ratings.percentile(9, []))
