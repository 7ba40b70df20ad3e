"""Ratings on the scale of Codeforces, from problems' ratings or from contests.

A solver of rating R solves a problem of rating d, or beats a contestant of that
rating, with the chance 1 / (1 + 10^((d - R) / 400)).
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from acereason_jax.evaluation import estimators

_SCALE = math.log(10) / 400
_WRONG_TRY_POINTS = 50
_WRONG_TRY_PENALTY = 10


class Rating(NamedTuple):
  """A rating.

  value: the rating; with `bound` its 95% limit; nan without problems.
  error: its standard error; nan with `bound`.
  bound: '', or 'all' if everything was solved and the rating is at least
    `value`, or 'none' if nothing was and it is at most `value`.
  """

  value: float
  error: float
  bound: str


def rating(ratings: ArrayLike, n: ArrayLike, c: ArrayLike) -> Rating:
  """The rating R with sum_i n_i p_i(R) = sum_i c_i, by maximum likelihood.

  Its error is 1 / (a sqrt(sum_i n_i p_i (1 - p_i))), with a = ln 10 / 400. It
  is of other draws on the same problems.

  Args:
    ratings: ratings d_i of the problems.
    n: judged rollouts of each.
    c: right rollouts of each.
  """
  n, c = estimators.counts(n, c)
  d = np.asarray(ratings, np.float64)
  if d.shape != n.shape or not np.isfinite(d).all():
    raise ValueError(
      f'ratings of shape {d.shape}: expected a finite one for each of {len(n)} '
      'problems'
    )
  if not len(n):
    return Rating(math.nan, math.nan, '')
  total, right = int(n.sum()), int(c.sum())
  chance = lambda r: special.expit((r - d) * _SCALE)
  # At these ends less than half a rollout is right, or wrong.
  ends = d.min() - _wide(total), d.max() + _wide(total)
  if right in (0, total):
    sign = 1 if right else -1
    excess = lambda r: (
      n @ special.log_expit(sign * (r - d) * _SCALE) - math.log(0.05)
    )
    bound = 'all' if right else 'none'
    return Rating(optimize.brentq(excess, *ends), math.nan, bound)
  value = optimize.brentq(lambda r: n @ chance(r) - right, *ends)
  p = chance(value)
  return Rating(value, 1 / (_SCALE * math.sqrt(n @ (p * (1 - p)))), '')


def _wide(total: int) -> float:
  return math.log(2 * total + 40) / _SCALE


def contest_rating(
  contest: Mapping[str, Any], tries: Mapping[str, Sequence[bool]]
) -> float:
  """The rating that a contest's standings give, by CodeElo's arithmetic.

  The first right try of a problem earns its points - 50 for each wrong try
  before it, or, in a contest without points, one point and a penalty of 10 for
  each. The place among the rated contestants is the number of those who are not
  behind. The rating is the largest whole number from 0 to 99 above the best
  contestant's whose expected place, 1 + the chances of all to be ahead, is not
  better (Quan et al. 2025, arXiv 2501.01257). As there, the expected place
  counts from 1 and the place from 0.

  Args:
    contest: contestId; problems, a list of {index, points}; rows, a list of
      {points, penalty} and, if oldRatings is by name, handle; and oldRatings,
      the ratings of the rows before the contest, in their order, or an object
      of ratings by handle. Rows without a rating are left out.
    tries: verdicts of the tries of a problem, in order, by its index.

  Raises:
    ValueError: one line; the contest is not like that.
  """
  points, penalty = _score(contest, tries)
  rows, ratings = _rated(contest)
  place = sum(
    got > points or (got == points and lost <= penalty) for got, lost in rows
  )
  low, high = 0, int(ratings.max()) + 100
  while high - low > 1:
    middle = (low + high) // 2
    ahead = special.expit((ratings - middle) * _SCALE).sum()
    low, high = (low, middle) if 1 + ahead < place else (middle, high)
  return float(low)


def check_contest(contest: Any) -> str:
  """The contest's id; raises ValueError if `contest_rating` cannot read it."""
  if (name := _name(contest, 'contestId')) is None:
    raise ValueError(
      'expected one JSON object of a contest: contestId, problems, rows and '
      'oldRatings'
    )
  indices = [_name(p, 'index') for p in _list(contest, 'problems')]
  # A solved problem is the one whose points are read.
  contest_rating(contest, {str(index): (True,) for index in indices})
  if not indices:
    raise _wrong(contest, 'problems is empty')
  if len(set(map(str, indices))) < len(indices):
    raise _wrong(contest, 'two problems have one index')
  return str(name)


def contests_rating(
  contests: Sequence[tuple[Mapping[str, Any], Mapping[str, Sequence[bool]]]],
) -> Rating:
  """The mean of the ratings of contests, and its error over contests.

  `contests` are pairs of a contest and its tries; see `contest_rating`.
  """
  found = [contest_rating(contest, tries) for contest, tries in contests]
  if not found:
    return Rating(math.nan, math.nan, '')
  error = math.nan
  if len(found) > 1:
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
  return Rating(float(np.mean(found)), error, '')


def percentile(value: float, ratings: Sequence[float]) -> float:
  """The share of sorted ratings below a value, 0 to 1; nan without any."""
  if not len(ratings):
    return math.nan
  return bisect.bisect_left(ratings, value) / len(ratings)


def _score(
  contest: Mapping[str, Any], tries: Mapping[str, Sequence[bool]]
) -> tuple[float, float]:
  """(points, penalty) of the tries."""
  total = penalty = 0.0
  for i, problem in enumerate(_list(contest, 'problems')):
    if _name(problem, 'index') is None:
      raise _wrong(contest, f'problems[{i}] has no index')
    verdicts = list(tries.get(str(problem['index']), ()))
    if True not in verdicts:
      continue
    wrong = verdicts.index(True)
    if 'points' in problem:
      worth = _number(contest, problem, 'points', f'problems[{i}]')
      total += max(0.0, worth - _WRONG_TRY_POINTS * wrong)
    else:
      total += 1
      penalty += _WRONG_TRY_PENALTY * wrong
  return total, penalty


def _rated(
  contest: Mapping[str, Any],
) -> tuple[list[tuple[float, float]], np.ndarray]:
  """(points, penalty) of the rated contestants, and their ratings."""
  rows, given = _list(contest, 'rows'), contest.get('oldRatings')
  if isinstance(given, Mapping):
    rows = [row for row in rows if _name(row, 'handle') in given]
    given = [given[row['handle']] for row in rows]
  if not isinstance(given, list) or len(given) != len(rows):
    raise _wrong(
      contest,
      f'{len(rows)} rows need as many oldRatings, or an object of them by '
      'handle',
    )
  if not rows:
    raise _wrong(contest, 'no row has a rating')
  results = [
    tuple(
      _number(contest, r, name, f'rows[{i}]') for name in ('points', 'penalty')
    )
    for i, r in enumerate(rows)
  ]
  ratings = [
    _number(contest, {'rating': r}, 'rating', f'oldRatings[{i}]')
    for i, r in enumerate(given)
  ]
  return results, np.array(ratings)


def _name(row: Any, field: str) -> str | int | None:
  """A name in a stranger's row; None if it has none."""
  name = row.get(field) if isinstance(row, Mapping) else None
  return name if type(name) in (str, int) else None


def _list(contest: Mapping[str, Any], name: str) -> list[Any]:
  if not isinstance(contest.get(name), list):
    raise _wrong(contest, f'{name} is no list')
  return contest[name]


def _number(
  contest: Mapping[str, Any], row: Any, name: str, where: str
) -> float:
  value = row.get(name) if isinstance(row, Mapping) else None
  if type(value) not in (int, float) or not abs(value) < 1e9:
    raise _wrong(contest, f'{where}: {name} is no number below 1e9')
  return float(value)


def _wrong(contest: Mapping[str, Any], what: str) -> ValueError:
  who = str(contest.get('contestId'))[:20]
  return ValueError(f'contest {who!r}: {what}')
