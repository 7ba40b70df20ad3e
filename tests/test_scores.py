"""The numbers of a benchmark next to a slow reference in exact fractions."""

import fractions
import itertools
import json
import math
import random
import statistics

import evaluated
import pytest
from evaluated import outcome, problem

from acereason_jax.evaluation import published, scores

F = fractions.Fraction
FAILED = ('timeout', 'error')
ONE = [problem('a'), problem('b'), problem('c')]


def scored(outcomes, problems=ONE, share=0.01, **changes):
  made = evaluated.benchmark(**changes)
  return scores.score(made, 'strict', problems, outcomes, share)


def by_hand():
  """a: 3 of 4 right; b: 1 of 3, one timed out; c: 0 of 4, two truncated."""
  return [
    *(outcome('a', i, 'right', length=10 * (i + 1)) for i in range(3)),
    outcome('a', 3, 'wrong', length=100, answer=0),
    outcome('b', 0, 'timeout', length=9999),
    outcome('b', 1, 'wrong', length=200, answer=1),
    outcome('b', 2, 'right', length=60),
    outcome('b', 3, 'unparsed', length=300),
    outcome('c', 0, 'wrong', stop='length', length=512),
    outcome('c', 1, 'unparsed', stop='length', length=512),
    outcome('c', 2, 'wrong', length=50, answer=7),
    outcome('c', 3, 'wrong', length=70, answer=7),
  ]


def test_a_case_by_hand():
  found = scored(by_hand())
  assert found['avg'] == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)
  # m (1 - m) / (n - 1) of a and b; c was never right.
  error = math.sqrt(3 / 16 / 3 + 2 / 9 / 2) / 3
  assert found['rerun_error'] == pytest.approx(error)
  spread = statistics.stdev([3 / 4, 1 / 3, 0])
  assert found['problems_error'] == pytest.approx(spread / math.sqrt(3))
  assert (found['judged'], found['failed'], found['asked']) == (11, 1, 12)
  assert found['k'] == pytest.approx(11 / 3)
  assert found['unparsed'] == pytest.approx(2 / 11)
  assert found['truncated'] == pytest.approx(2 / 11)
  assert found['if_truncated_right'] == pytest.approx(
    (3 / 4 + 1 / 3 + 1 / 2) / 3
  )
  assert found['if_truncated_left_out'] == pytest.approx(
    (3 / 4 + 1 / 3 + 0) / 3
  )
  assert found['all_right'] == 0
  assert found['lengths']['right'] == pytest.approx(
    dict(mean=30, median=25, p90=51)
  )
  assert found['lengths']['wrong']['median'] == 200
  assert [p['k'] for p in found['pass_at_k']] == [1, 2]
  assert found['by_problem'][1] == dict(
    id='b',
    n=3,
    right=1,
    failed=1,
    unparsed=1,
    truncated=0,
    mean_length=pytest.approx(560 / 3),
  )
  assert found['marked']


def test_the_interval_is_students():
  # t(0.975, 2 degrees) = 4.302653; cut off at the ends of a rate.
  half = scored(
    [
      outcome(id, i, 'right' if i < 2 else 'wrong')
      for id in 'abc'
      for i in range(4)
    ]
    + [outcome('d', i) for i in range(4)],
    [*ONE, problem('d')],
  )
  error = 0.25 / 2
  low = 0.625 - 3.182446 * error
  assert half['interval'] == pytest.approx([low, 1.0], abs=1e-6)


def test_majority_by_hand():
  found = scored(by_hand())['majority']
  # maj@1 is a share of votes. maj@2 of a: all pairs but those with the wrong
  # one are won, and three are ties: (3 + 3/2) / 6. Of b, two of three pairs
  # hold the right one: a tie with the wrong one, a win over the abstention.
  assert found == [
    dict(k=1, value=pytest.approx((3 / 4 + 1 / 3) / 3)),
    dict(k=2, value=pytest.approx((4.5 / 6 + 1.5 / 3) / 3)),
  ]


def majority(votes, k):
  """maj@k by all subsets; a vote is 'right', a class or None."""
  total = F(0)
  subsets = list(itertools.combinations(votes, k))
  for subset in subsets:
    sizes = {v: subset.count(v) for v in subset if v is not None}
    front = [v for v, size in sizes.items() if size == max(sizes.values())]
    if 'right' in front:
      total += F(1, len(front))
  return total / len(subsets)


def quantile(lengths, share):
  """Between the two nearest of the sorted lengths, in proportion."""
  ordered = sorted(lengths)
  place = share * (len(ordered) - 1)
  below = ordered[math.floor(place)]
  return below + (place - math.floor(place)) * (
    ordered[math.ceil(place)] - below
  )


def spread(lengths):
  if not lengths:
    return dict(mean=None, median=None, p90=None)
  return dict(
    mean=F(sum(lengths), len(lengths)),
    median=quantile(lengths, F(1, 2)),
    p90=quantile(lengths, F(9, 10)),
  )


def mean(values):
  values = list(values)
  return sum(values, F(0)) / len(values) if values else None


def root(value):
  return None if value is None else math.sqrt(value)


def slow_errors(groups):
  """(rerun, problems) errors; rerun None where a problem has one rollout."""
  n = len(groups)
  rates = [
    F(sum(o.statuses['strict'] == 'right' for o in g), len(g)) for g in groups
  ]
  rerun = problems = None
  if n and all(len(g) > 1 for g in groups):
    rerun = (
      sum(m * (1 - m) / (len(g) - 1) for m, g in zip(rates, groups)) / n**2
    )
  if n > 1:
    center = mean(rates)
    problems = sum((m - center) ** 2 for m in rates) / (n - 1) / n
  return root(rerun), root(problems)


def slow(outcomes, ids, n):
  """The numbers by their definitions, from lists of outcomes."""
  is_judged = lambda o: o.stop != 'error' and o.statuses['strict'] not in FAILED
  is_right = lambda o: o.statuses['strict'] == 'right'
  cut = lambda o: o.stop == 'length'
  judged = [o for o in outcomes if is_judged(o)]
  groups = [[o for o in judged if o.id == id] for id in ids]
  groups = [g for g in groups if g]
  least = min(map(len, groups), default=0)
  ks = [k for k in (1, 2, 4, n) if k <= min(least, n)]
  votes = [
    [
      # The specification: who was cut off has no vote, right or wrong.
      None if cut(o) else 'right' if is_right(o) else o.answer.get('strict')
      for o in g
    ]
    for g in groups
  ]
  without = [[o for o in g if not cut(o)] for g in groups]
  rerun, problems = slow_errors(groups)
  return dict(
    avg=mean(F(sum(map(is_right, g)), len(g)) for g in groups),
    rerun_error=rerun,
    problems_error=problems,
    judged=len(judged),
    failed=len(outcomes) - len(judged),
    asked=n * len(ids),
    problems=len(groups),
    k=F(len(judged), len(groups)) if groups else None,
    unparsed=mean(F(o.statuses['strict'] == 'unparsed') for o in judged),
    truncated=mean(F(cut(o)) for o in judged),
    if_truncated_right=mean(
      F(sum(is_right(o) or cut(o) for o in g), len(g)) for g in groups
    ),
    if_truncated_left_out=mean(
      F(sum(map(is_right, g)), len(g)) for g in without if g
    ),
    all_right=mean(F(all(map(is_right, g))) for g in groups),
    lengths=dict(
      right=spread([o.length for o in judged if is_right(o)]),
      wrong=spread([o.length for o in judged if not is_right(o)]),
    ),
    pass_at_k={
      k: mean(
        1
        - F(math.comb(sum(not is_right(o) for o in g), k), math.comb(len(g), k))
        for g in groups
      )
      for k in ks
    },
    majority={k: mean(majority(v, k) for v in votes) for k in ks},
  )


def invented(source):
  """Outcomes of up to 4 problems, of 6 rollouts at most, some without any."""
  n = source.randrange(1, 7)
  ids = 'abcd'[: source.randrange(1, 5)]
  kinds = ['right', 'wrong', 'unparsed', 'timeout', 'error']
  weights = [source.random() + 0.01 for _ in kinds]
  found = [
    outcome(
      id,
      i,
      *source.choices(kinds, weights),
      stop=source.choices(['stop', 'length', 'error'], [8, 2, 1])[0],
      length=source.randrange(1, 300),
      answer=source.randrange(3),
    )
    for id in ids
    for i in range(n)
    if source.random() < 0.95
  ]
  return n, ids, found


def close(found, expected):
  """Equal to 1e-12, through dicts; Fractions as floats."""
  if isinstance(expected, dict):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      close(found[key], value)
  elif expected is None:
    assert found is None
  else:
    assert found == pytest.approx(float(expected), rel=1e-12, abs=1e-12)


def test_three_hundred_cases_are_as_their_definitions_say():
  source = random.Random(5)
  with_error = 0
  for _ in range(300):
    n, ids, outcomes = invented(source)
    expected = slow(outcomes, ids, n)
    found = scored(outcomes, [problem(id) for id in ids], n=n)
    json.dumps(found, allow_nan=False)
    for part in ('pass_at_k', 'majority'):
      found[part] = {p['k']: p['value'] for p in found[part] or ()}
    # A problem with a single rollout has no variance of its own; what takes its
    # place is no matter of definition.
    if expected['rerun_error'] is None:
      expected.pop('rerun_error')
    else:
      with_error += 1
    close({name: found[name] for name in expected}, expected)
  assert with_error > 100


def test_the_order_of_outcomes_is_no_matter():
  source = random.Random(6)
  for _ in range(30):
    n, ids, outcomes = invented(source)
    problems = [problem(id, rating=1500, kind=id) for id in ids]
    first = json.dumps(scored(outcomes, problems, n=n))
    whole = json.dumps(scores.rollouts(outcomes))
    source.shuffle(outcomes)
    assert json.dumps(scored(outcomes, problems, n=n)) == first
    assert json.dumps(scores.rollouts(outcomes)) == whole


@pytest.mark.parametrize(
  'status, stop', [('timeout', 'stop'), ('right', 'error')]
)
def test_a_judgement_that_fails_changes_the_number_and_no_average(status, stop):
  """One of 10 of each problem; the other nine stay as they are."""
  nine = [
    outcome(p.row.id, i, 'right' if i < 6 else 'wrong')
    for p in ONE
    for i in range(9)
  ]
  ten = nine + [outcome(p.row.id, 9, status, stop) for p in ONE]
  without, found = scored(nine, n=10), scored(ten, n=10)
  assert found['avg'] == without['avg'] == pytest.approx(2 / 3)
  assert found['rerun_error'] == without['rerun_error']
  assert found['majority'] == without['majority']
  assert (found['judged'], found['failed'], found['k']) == (27, 3, 9)
  assert found['marked'] and not without['marked']
  assert not scored(ten, n=10, share=0.1)['marked']


def test_nothing_judged_is_null_everywhere():
  for outcomes in ([], [outcome('a', 0, 'error')]):
    found = scored(outcomes)
    json.dumps(found, allow_nan=False)
    assert found['marked'] and found['problems'] == found['judged'] == 0
    numbers = (
      'avg',
      'rerun_error',
      'problems_error',
      'interval',
      'k',
      'truncated',
    )
    assert [found[name] for name in numbers] == [None] * 6
    assert found['pass_at_k'] == [] and found['majority'] is None


def test_which_k():
  def ks(n, judged, given=()):
    entry = scored(
      [outcome('a', i, 'wrong' if i % 2 else 'right') for i in range(judged)],
      ONE[:1],
      n=n,
      ks=given,
    )
    assert [p['k'] for p in entry['majority']] == [
      p['k'] for p in entry['pass_at_k']
    ]
    return [p['k'] for p in entry['pass_at_k']]

  assert ks(64, 64) == [1, 2, 4, 8, 16, 32, 64]
  assert ks(6, 6) == [1, 2, 4, 6]
  assert ks(64, 63) == [1, 2, 4, 8, 16, 32]
  assert ks(8, 8, (5, 3)) == [3, 5]
  assert ks(8, 4, (5, 3)) == [3]


def test_majorities_of_many_rollouts_end():
  """Only of as many as can be counted soon."""
  many = evaluated.benchmark(n=130)
  outcomes = evaluated.drawn(130, dict(a=50))
  entry = scores.score(many, 'strict', [evaluated.problem('a')], outcomes, 0.01)
  assert [p['k'] for p in entry['pass_at_k']][-2:] == [128, 130]
  assert [p['k'] for p in entry['majority']] == [1, 2, 4, 8, 16, 32, 64]


def test_lengths_that_nobody_told():
  outcomes = [
    evaluated.outcome('a', i, length=length)
    for i, length in enumerate((0, 10, 0, 20))
  ]
  entry = scored(outcomes)
  (row,) = [r for r in entry['by_problem'] if r['id'] == 'a']
  assert row['mean_length'] == entry['lengths']['right']['mean'] == 15
  assert scores.rollouts(outcomes)['length']['mean'] == 15
  outcomes = [o._replace(length=0) for o in outcomes]
  assert scored(outcomes)['lengths']['right']['mean'] is None
  assert scores.rollouts(outcomes)['length']['mean'] is None


def test_no_majority_without_classes():
  programs = by_hand()
  assert scored(programs, majority=False)['majority'] is None
  unread = [o._replace(answer={}) for o in programs]
  assert scored(unread)['majority'] is None


def test_another_judge_of_the_same_rollouts():
  both = [
    outcome('a', 0, 'wrong', toolkit='right'),
    outcome('a', 1, 'right', toolkit='timeout'),
  ]
  made = evaluated.benchmark(n=2, judges=('strict', 'toolkit'))
  one, two = (
    scores.score(made, judge, ONE[:1], both, 0.01)
    for judge in ('strict', 'toolkit')
  )
  assert (one['avg'], one['judged'], one['failed']) == (0.5, 2, 0)
  assert (two['avg'], two['judged'], two['failed']) == (1.0, 1, 1)


def test_strata():
  problems = [
    problem('a', level='5', subject='algebra'),
    problem('b', level='5'),
    problem('c', level='1', subject='geometry'),
  ]
  found = scored(by_hand(), problems)['strata']
  assert list(found) == ['level', 'subject']
  assert list(found['level']) == ['1', '5']
  five = found['level']['5']
  assert five['problems'] == 2
  assert five['avg'] == pytest.approx((3 / 4 + 1 / 3) / 2)
  assert five['problems_error'] == pytest.approx((3 / 4 - 1 / 3) / 2)
  assert found['subject']['geometry']['avg'] == 0
  assert found['subject']['geometry']['problems_error'] is None


def test_rating():
  half = [
    outcome(id, i, 'wrong' if i else 'right') for id in 'ab' for i in (0, 1)
  ]
  assert scored(half, ONE[:2])['rating'] is None
  rated = [problem('a', rating=1500.0), problem('b')]
  found = scored(half, rated)['rating']
  # Half of the tries at 1500 succeed. Its error: 1 / (a sqrt(n p (1 - p))).
  error = 400 / math.log(10) / math.sqrt(2 * 0.25)
  assert found == dict(
    value=pytest.approx(1500),
    error=pytest.approx(error),
    bound='',
    problems=1,
    percentile=None,
    contests=None,
  )
  solved = [outcome('a', 0), outcome('a', 1)]
  assert scored(solved, rated)['rating']['bound'] == 'all'


def test_the_published_number_in_standard_errors():
  entry = scored(by_hand())
  made = evaluated.benchmark(published='aime24')
  row = published.row('acereason-7b')
  found = scores.published(entry, made, row)
  both = math.hypot(entry['rerun_error'], row['aime24'].error)
  assert found['value'] == 0.69 and found['k'] == 64
  assert found['difference'] == pytest.approx((entry['avg'] - 0.69) / both)
  assert not found['estimated']
  # Without an error of the paper's: by our solve rates at its k, here 8.
  theirs = math.sqrt((3 / 16 * 4 / 3 + 2 / 9 * 3 / 2) / 8) / 3
  found = scores.published(entry, made._replace(published='lcb_v6'), row)
  assert found['estimated'] and found['error'] == pytest.approx(theirs)
  both = math.hypot(entry['rerun_error'], theirs)
  assert found['difference'] == pytest.approx((entry['avg'] - 0.441) / both)


def test_nothing_published():
  entry = scored(by_hand())
  row = published.row('acereason-7b')
  made = evaluated.benchmark(published='aime24')
  assert scores.published(entry, made, None) is None
  assert scores.published(entry, evaluated.benchmark(), row) is None
  # Without a rating of ours, the published one is told all the same.
  for column in ('codeforces', 'codeforces_percentile'):
    only = evaluated.benchmark(published=column)
    assert scores.published(entry, only, row)['difference'] is None
  # One rollout of each problem: no error, and so no difference.
  one = scored([outcome(id, 0) for id in 'abc'], n=1)
  found = scores.published(one, made, row)
  assert found['difference'] is None and found['value'] == 0.69
  # Never right: no error of ours, and not an exact 0.
  none = scored([outcome(id, i, 'wrong') for id in 'abc' for i in range(4)])
  assert none['rerun_error'] == 0 and none['interval'] is None
  assert scores.published(none, made, row)['difference'] is None


def test_a_published_rating_is_next_to_our_rating():
  made = evaluated.benchmark(published='codeforces')
  row = published.row('acereason-7b')
  rated = [problem(id, rating=1400.0) for id in 'abc']
  found = scores.published(scored(by_hand(), rated), made, row)
  # The paper gives no error of a rating.
  assert found['value'] == 1475 and found['difference'] is None
  exact = dict(row, codeforces=row['codeforces']._replace(error=50.0))
  entry = scored(by_hand(), rated)
  ours = entry['rating']
  found = scores.published(entry, made, exact)
  assert found['difference'] == pytest.approx(
    (ours['value'] - 1475) / math.hypot(ours['error'], 50.0)
  )


def test_rollouts():
  found = scores.rollouts(
    by_hand()[:3]
    + by_hand()[8:10]
    + [outcome('b', 9, stop='error', length=1000)]
  )
  assert found == dict(
    ended=6,
    errors=1,
    truncated=2,
    length=dict(mean=pytest.approx(1084 / 5), median=30, p90=512),
  )
  assert scores.rollouts([])['length']['mean'] is None


@pytest.mark.parametrize(
  'more, line',
  [
    (outcome('z', 0), "a rollout of 'z', which is none of its 3 problems"),
    (outcome('a', 2), "rollout 2 of 'a' comes twice"),
  ],
)
def test_outcomes_of_something_else(more, line):
  with pytest.raises(ValueError, match=f'^sums: {line}'):
    scored([*by_hand(), more])
