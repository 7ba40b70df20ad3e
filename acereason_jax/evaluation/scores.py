"""The numbers of one benchmark and judge, from the counts of its rollouts.

Every number is a pure function of the outcomes and does not depend on their
order. Shares are of judged rollouts: a judgement that failed makes `judged`
smaller and never an average. A number that does not exist is None.
"""

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acereason_jax.evaluation import estimators, humans, unread, values
from acereason_jax.evaluation import published as papers
from acereason_jax.evaluation.values import Outcome

_FAILED = ('timeout', 'error')
# Counting all subsets of k rollouts takes a second a problem at this k of 1,024
# rollouts, and minutes at 512. maj@k hardly changes any more there.
MOST_VOTES = 64
# Columns of ratings, and of the share of humans below them.
_RATING, _PERCENTILE = 'codeforces', 'codeforces_percentile'


class Tally(NamedTuple):
  """The rollouts of one problem, as one judge sees them.

  problem: the problem.
  judged: outcomes that have a verdict.
  right: how many of them are right.
  failed: number of outcomes without a verdict.
  unparsed: how many of `judged` hold no readable answer.
  truncated: how many of `judged` reached the limit of tokens.
  truncated_right: how many of `truncated` are right all the same.
  """

  problem: values.Problem
  judged: tuple[Outcome, ...]
  right: int
  failed: int
  unparsed: int
  truncated: int
  truncated_right: int

  @property
  def n(self) -> int:
    return len(self.judged)


def score(
  benchmark: values.Benchmark,
  judge: str,
  problems: Sequence[values.Problem],
  outcomes: Iterable[Outcome],
  max_failed_share: float,
  contestants: values.Humans = values.NOBODY,
) -> dict[str, Any]:
  """One entry of results.json, without the published number.

  avg, rerun_error, problems_error, interval: avg@k over the problems that have
    a verdict, its two standard errors, and the 95% interval of avg@k on
    problems like these. An error of 0 says that nothing varied, not that the
    number is exact; there is no interval then.
  judged, failed, asked: numbers of rollouts. problems: those with a verdict.
  k: rollouts judged per problem, on average.
  unparsed, truncated: shares of the judged rollouts.
  unread: number and commonest reason of the responses that ended without an
    answer; see `unread.counted`.
  if_truncated_right, if_truncated_left_out: avg@k if every truncated rollout
    were right, and of the other rollouts, over the problems that have such.
  all_right: share of problems whose judged rollouts are all right.
  marked: more than `max_failed_share` of the judgements failed.
  rating: see `humans.standing`.

  Raises:
    ValueError: one line; outcomes of another problem, or one that comes twice.
  """
  tallies = _tallies(benchmark.name, judge, problems, outcomes)
  judged = sum(t.n for t in tallies)
  failed = sum(t.failed for t in tallies)
  share = lambda number: number / judged if judged else None
  some = [t for t in tallies if t.n]
  return dict(
    _average(tallies),
    judged=judged,
    failed=failed,
    asked=benchmark.n * len(problems),
    problems=len(some),
    k=judged / len(some) if some else None,
    unparsed=share(sum(t.unparsed for t in some)),
    truncated=share(sum(t.truncated for t in some)),
    unread=unread.counted((o for t in some for o in t.judged), judge),
    **_bounds(some),
    all_right=_mean(t.right == t.n for t in some),
    lengths=dict(
      right=spread(o.length for o in _those(some, judge, right=True)),
      wrong=spread(o.length for o in _those(some, judge, right=False)),
    ),
    pass_at_k=_pass_at_k(benchmark, some),
    majority=_majority(benchmark, judge, some),
    strata=_strata(tallies),
    rating=humans.standing(
      [t.problem for t in some],
      [_tries(t, judge) for t in some],
      contestants,
    ),
    by_problem=[_of_problem(t) for t in tallies],
    marked=not judged or failed > max_failed_share * (judged + failed),
  )


def published(
  entry: Mapping[str, Any],
  benchmark: values.Benchmark,
  row: Mapping[str, papers.Score] | None,
) -> dict[str, Any] | None:
  """The published number next to that of an entry; None if there is none.

  value, k, source: what was published; a rate, or a rating. error: its standard
    error over reruns; `estimated` says that it is not the source's own: it is
    what our solve rates give at the published k.
  difference: ours minus theirs, in standard errors of that difference; None if
    one of the two errors does not exist.
  percentile: with a rating, the share of humans that was published for it.

  Args:
    entry: what `score` gave.
    benchmark: names the column.
    row: scores of the model to compare with, by column.
  """
  theirs = (row or {}).get(benchmark.published)
  if theirs is None:
    return None
  error, ours, our_error = theirs.error, entry['avg'], entry['rerun_error']
  rating = entry['rating'] or {}
  share = None
  if benchmark.published == _RATING:
    ours, our_error = rating.get('value'), rating.get('error')
    share = row[_PERCENTILE].value if _PERCENTILE in row else None
  elif benchmark.published == _PERCENTILE:
    ours, our_error = rating.get('percentile'), None
  elif error is None and theirs.k and our_error is not None:
    some = [each for each in entry['by_problem'] if each['n']]
    n, c = ([each[name] for each in some] for name in ('n', 'right'))
    error = number(estimators.rerun_error_at(n, c, theirs.k))
  # An error of 0 is none: nothing varied.
  both = math.hypot(error, our_error) if error and our_error else None
  return dict(
    value=theirs.value,
    k=theirs.k,
    error=error,
    estimated=theirs.error is None and error is not None,
    difference=(ours - theirs.value) / both if both else None,
    source=theirs.source,
    percentile=share,
  )


def rollouts(outcomes: Iterable[Outcome]) -> dict[str, Any]:
  """What holds of a benchmark's rollouts under every judge.

  ended, errors, truncated: numbers of rollouts that ended, of those that ended
    with an error, and of those that reached the limit of tokens.
  length: tokens of those that ended without an error.
  """
  outcomes = list(outcomes)
  stops = collections.Counter(o.stop for o in outcomes)
  return dict(
    ended=len(outcomes),
    errors=stops['error'],
    truncated=stops['length'],
    length=spread(o.length for o in outcomes if o.stop != 'error'),
  )


def spread(lengths: Iterable[int]) -> dict[str, float | None]:
  """Mean, median and 90% quantile; quantiles lie between two of the lengths.

  A response has a token at least: a length of 0, of a user's file, is unknown.
  """
  found = np.sort(np.fromiter(filter(None, lengths), np.int64))
  if not found.size:
    return dict(mean=None, median=None, p90=None)
  return dict(
    mean=int(found.sum()) / found.size,
    median=float(np.quantile(found, 0.5)),
    p90=float(np.quantile(found, 0.9)),
  )


def _tallies(
  name: str,
  judge: str,
  problems: Sequence[values.Problem],
  outcomes: Iterable[Outcome],
) -> list[Tally]:
  by_id: dict[str, dict[int, Outcome]] = {p.row.id: {} for p in problems}
  for outcome in outcomes:
    if (mine := by_id.get(outcome.id)) is None:
      raise ValueError(
        f'{name}: a rollout of {outcome.id!r:.80}, which is none of its '
        f'{len(by_id):,} problems; give the samples of this benchmark'
      )
    if mine.setdefault(outcome.index, outcome) is not outcome:
      raise ValueError(
        f'{name}: rollout {outcome.index} of {outcome.id!r:.80} comes twice; '
        'give each rollout once'
      )
  return [
    _tally(problem, judge, by_id[problem.row.id].values())
    for problem in problems
  ]


def _tally(
  problem: values.Problem, judge: str, outcomes: Iterable[Outcome]
) -> Tally:
  every = tuple(outcomes)
  judged = tuple(o for o in every if _status(o, judge) not in _FAILED)
  statuses = collections.Counter(_status(o, judge) for o in judged)
  truncated = [o for o in judged if o.stop == 'length']
  return Tally(
    problem,
    judged,
    right=statuses['right'],
    failed=len(every) - len(judged),
    unparsed=statuses['unparsed'],
    truncated=len(truncated),
    truncated_right=sum(_status(o, judge) == 'right' for o in truncated),
  )


def _status(outcome: Outcome, judge: str) -> str:
  """The verdict; a rollout that was never judged counts as a failed one."""
  if outcome.stop == 'error':
    return 'error'
  return outcome.statuses.get(judge, 'error')


def _those(
  tallies: Iterable[Tally], judge: str, *, right: bool
) -> Iterable[Outcome]:
  for t in tallies:
    yield from (o for o in t.judged if (_status(o, judge) == 'right') is right)


def _of_problem(t: Tally) -> dict[str, Any]:
  return dict(
    id=t.problem.row.id,
    n=t.n,
    right=t.right,
    failed=t.failed,
    unparsed=t.unparsed,
    truncated=t.truncated,
    mean_length=spread(o.length for o in t.judged)['mean'],
  )


def _counts(tallies: Sequence[Tally]) -> tuple[np.ndarray, np.ndarray]:
  """(judged, right) of each problem that has a verdict."""
  some = [t for t in tallies if t.n]
  n = np.array([t.n for t in some], np.int64)
  return n, np.array([t.right for t in some], np.int64)


def _average(tallies: Sequence[Tally]) -> dict[str, Any]:
  n, c = _counts(tallies)
  if not n.size:
    return dict(avg=None, rerun_error=None, problems_error=None, interval=None)
  found = estimators.average(n, c)
  ends = estimators.interval(found.avg, found.problems_error, found.problems)
  # Without any difference between problems nothing tells of other problems.
  exist = found.problems_error > 0 and all(map(math.isfinite, ends))
  return dict(
    avg=float(found.avg),
    rerun_error=number(found.rerun_error),
    problems_error=number(found.problems_error),
    interval=[min(max(float(x), 0.0), 1.0) for x in ends] if exist else None,
  )


def number(value: float | None) -> float | None:
  """`value` as a float; None if it does not exist: JSON has no NaN."""
  if value is None or not math.isfinite(value):
    return None
  return float(value)


def _mean(numbers: Iterable[float]) -> float | None:
  found = list(numbers)
  return math.fsum(found) / len(found) if found else None


def _bounds(tallies: Sequence[Tally]) -> dict[str, Any]:
  """avg@k were the truncated rollouts right, and without them."""
  return dict(
    if_truncated_right=_mean(
      (t.right + t.truncated - t.truncated_right) / t.n for t in tallies
    ),
    if_truncated_left_out=_mean(
      (t.right - t.truncated_right) / (t.n - t.truncated)
      for t in tallies
      if t.n > t.truncated
    ),
  )


def _pass_at_k(
  benchmark: values.Benchmark, tallies: Sequence[Tally]
) -> list[dict[str, Any]]:
  if not (ks := _ks(benchmark, tallies)):
    return []
  return curve(*_counts(tallies), ks)


def curve(
  n: np.ndarray, c: np.ndarray, ks: Sequence[int]
) -> list[dict[str, Any]]:
  """pass@k with both errors for each of `ks`; see `estimators.pass_curve`."""
  return [
    dict(
      k=int(point.k),
      value=float(point.value),
      rerun_error=number(point.rerun_error),
      problems_error=number(point.problems_error),
      few=bool(point.few),
    )
    for point in estimators.pass_curve(n, c, ks)
  ]


def _ks(benchmark: values.Benchmark, tallies: Sequence[Tally]) -> list[int]:
  """The values of k, none of them above the fewest judged of a problem."""
  most = min((t.n for t in tallies), default=0)
  ks = benchmark.ks or estimators.doubled(benchmark.n)
  return sorted(k for k in set(ks) if k <= most)


def _majority(
  benchmark: values.Benchmark, judge: str, tallies: Sequence[Tally]
) -> list[dict[str, Any]] | None:
  """maj@k over all subsets of k judged rollouts, up to MOST_VOTES.

  None without classes.

  Rollouts whose judgement failed are in no subset. A truncated response has no
  vote, whatever it holds, so maj@1 is avg@k where none of these is right.
  """
  ks = [k for k in _ks(benchmark, tallies) if k <= MOST_VOTES]
  wrong = [o for t in tallies for o in t.judged if _status(o, judge) == 'wrong']
  classless = wrong and not any(judge in o.answer for o in wrong)
  if not benchmark.majority or not ks or classless:
    return None
  curves = [estimators.majority_curve(*_votes(t, judge), ks) for t in tallies]
  return [dict(k=k, value=_mean(at)) for k, at in zip(ks, zip(*curves))]


def _votes(t: Tally, judge: str) -> tuple[int, list[int], int]:
  """Right votes, sizes of the classes of wrong ones, number of abstentions."""
  classes = collections.Counter(
    o.answer.get(judge) for o in t.judged if _status(o, judge) != 'right'
  )
  abstained = classes.pop(None, 0) + t.truncated_right
  right = t.right - t.truncated_right
  return right, sorted(classes.values(), reverse=True), abstained


def _strata(tallies: Sequence[Tally]) -> dict[str, dict[str, Any]]:
  """avg@k of each group of problems, by kind; both in the order of names."""
  groups = collections.defaultdict(lambda: collections.defaultdict(list))
  for t in tallies:
    for kind, value in t.problem.strata.items():
      groups[kind][value].append(t)
  return {
    kind: {value: _stratum(mine) for value, mine in sorted(by_value.items())}
    for kind, by_value in sorted(groups.items())
  }


def _stratum(tallies: Sequence[Tally]) -> dict[str, Any]:
  found = _average(tallies)
  names = 'avg', 'rerun_error', 'problems_error'
  return dict(
    problems=sum(t.n > 0 for t in tallies),
    **{name: found[name] for name in names},
  )


def _tries(t: Tally, judge: str) -> list[bool]:
  """Whether each judged rollout is right, in the order of drawing."""
  return [
    _status(o, judge) == 'right'
    for o in sorted(t.judged, key=lambda o: o.index)
  ]
