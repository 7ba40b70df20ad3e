"""Human contestants, and where a model stands among them.

Files of Codeforces' contestants cannot be shipped, so a benchmark names the
user's own:

- ratings: a JSON list of the ratings of all contestants, in any order.
- standings: JSON files of a contest each, as `ratings.contest_rating` reads it.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax.console import terminal
from acereason_jax.data import records
from acereason_jax.evaluation import ratings
from acereason_jax.evaluation.values import Humans, Problem

_MOST_BYTES = 64 << 20
_MOST_RATINGS = 1 << 23


def read(
  rating_file: str, standings: Sequence[str]
) -> tuple[Humans, dict[str, str]]:
  """The contestants in the user's files, and each file's SHA-256.

  '' is no file of ratings, and () no standings.

  Raises:
    ValueError: one line; a file cannot be read, or is of another form.
  """
  if isinstance(standings, str):
    raise ValueError(f'standings={standings!r:.80}: expected a list of files')
  digests: dict[str, str] = {}
  found: list[float] = []
  if rating_file:
    found = _ratings(rating_file, _json(rating_file, digests))
  contests: dict[str, Mapping[str, Any]] = {}
  for path in standings:
    contest = _json(path, digests)
    try:
      name = ratings.check_contest(contest)
    except ValueError as e:
      raise ValueError(f'{path}: {e}') from e
    if name in contests:
      raise ValueError(f'{path}: contest {name!r:.20} comes twice')
    contests[name] = contest
  return Humans(tuple(found), tuple(contests.values())), digests


def _json(path: str, digests: dict[str, str]) -> Any:
  with records.opened(path, _MOST_BYTES) as file:
    content = file.read(_MOST_BYTES)
  if (name := os.path.basename(os.fspath(path))) in digests:
    raise ValueError(f'{path}: two files are called {name}; rename one')
  digests[name] = hashlib.sha256(content).hexdigest()
  try:
    return json.loads(content)
  except (ValueError, RecursionError) as e:
    reason = ' '.join(str(e).split())[:100]
    raise ValueError(f'{path}: not one JSON value ({reason})') from e


def _ratings(path: str, found: Any) -> list[float]:
  if not isinstance(found, list) or not 0 < len(found) <= _MOST_RATINGS:
    raise ValueError(
      f'{path}: expected a JSON list of 1 to {_MOST_RATINGS:,} ratings, such '
      'as [812, 1190, 1475]'
    )
  for i, each in enumerate(found):
    if type(each) not in (int, float) or not abs(each) < 1e9:
      raise ValueError(
        f'{path}: rating {i} is {each!r:.40}, expected a number below 1e9'
      )
  return sorted(map(float, found))


def check_asked(problems: Sequence[Problem], found: Humans) -> None:
  """Raises ValueError, one line: standings of contests that nobody asks."""
  asked = {problem.contest[0] for problem in problems if problem.contest}
  if found.contests and not asked & set(map(_name, found.contests)):
    told = terminal.one_line(', '.join(sorted(asked)[:3]) or 'none', 60)
    raise ValueError(
      f'standings of contest {_name(found.contests[0])!r:.20}: no problem is '
      f'of such a contest (the problems have {told}); give standings of '
      'the contests of the problems'
    )


def standing(
  problems: Sequence[Problem],
  tries: Sequence[Sequence[bool]],
  found: Humans,
) -> dict[str, Any] | None:
  """A model's ratings; None if no problem has a rating or a contest.

  value, error, bound: by the ratings of the problems, see `ratings.rating`;
    None without. problems: how many have a rating.
  percentile: share of contestants with a lower rating; None if unknown.
  contests: value, error and percentile by standings, over `contests` of
    `given` ones; None without standings. A contest counts only if every problem
    of it has a verdict: one that was not asked would count as unsolved.

  Args:
    problems: problems that have a verdict.
    tries: whether each rollout was right, by problem, in the order of drawing.
    found: the human contestants.
  """
  rated = [i for i, p in enumerate(problems) if p.rating is not None]
  if not rated and not found.contests:
    return None
  by_problem = ratings.rating(
    np.array([problems[i].rating for i in rated]),
    [len(tries[i]) for i in rated],
    [sum(tries[i]) for i in rated],
  )
  return dict(
    _told(by_problem, found.ratings),
    bound=by_problem.bound,
    problems=len(rated),
    contests=_in_contests(problems, tries, found),
  )


def _in_contests(
  problems: Sequence[Problem], tries: Sequence[Sequence[bool]], found: Humans
) -> dict[str, Any] | None:
  if not found.contests:
    return None
  by_contest: dict[str, dict[str, Sequence[bool]]] = {}
  for problem, mine in zip(problems, tries):
    if problem.contest:
      name, index = problem.contest
      by_contest.setdefault(name, {})[index] = mine
  whole = [
    contest
    for contest in found.contests
    if set(_indices(contest)) <= by_contest.get(_name(contest), {}).keys()
  ]
  mean = ratings.contests_rating(
    [(contest, by_contest[_name(contest)]) for contest in whole]
  )
  return dict(
    _told(mean, found.ratings), contests=len(whole), given=len(found.contests)
  )


def _told(found: ratings.Rating, everyone: Sequence[float]) -> dict[str, Any]:
  exists = math.isfinite(found.value)
  share = ratings.percentile(found.value, everyone) if exists else math.nan
  return dict(
    value=_number(found.value),
    error=_number(found.error),
    percentile=_number(share),
  )


def _number(value: float) -> float | None:
  return float(value) if math.isfinite(value) else None


def _name(contest: Mapping[str, Any]) -> str:
  return str(contest['contestId'])


def _indices(contest: Mapping[str, Any]) -> Iterator[str]:
  return (str(problem['index']) for problem in contest['problems'])
