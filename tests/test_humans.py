"""Human contestants: the user's files, and where a model stands."""

import json

import evaluated
import pytest

from acereason_jax.evaluation import humans, published, ratings, scores, values


def contest(name=7, **changes):
  """Three contestants of 1000, 2000 and 3000; two problems."""
  return {
    'contestId': name,
    'problems': [{'index': 'A', 'points': 500}, {'index': 'B', 'points': 900}],
    'rows': [{'points': p, 'penalty': 0} for p in (1400, 900, 0)],
    'oldRatings': [3000, 2000, 1000],
  } | changes


def put(path, value):
  path.write_text(value if isinstance(value, str) else json.dumps(value))
  return str(path)


def problem(id, rating, contest):
  return evaluated.problem(id, rating)._replace(contest=contest)


ASKED = (
  problem('a', 1000.0, ('7', 'A')),
  problem('b', 1400.0, ('7', 'B')),
  problem('c', 1800.0, ('8', 'A')),
)


def test_the_files(tmp_path):
  found, digests = humans.read(
    put(tmp_path / 'ratings.json', [1500, 900, 1200.5]),
    [put(tmp_path / '7.json', contest()), put(tmp_path / '8.json', contest(8))],
  )
  assert found.ratings == (900.0, 1200.5, 1500.0)
  assert [each['contestId'] for each in found.contests] == [7, 8]
  assert list(digests) == ['ratings.json', '7.json', '8.json']
  assert humans.read('', ()) == (values.Humans(), {})


@pytest.mark.parametrize(
  'content, words',
  [
    ('[1, 2', 'not one JSON value'),
    ({'a': 1}, 'expected a JSON list of 1 to'),
    ([], 'expected a JSON list of 1 to'),
    ([1, '2'], "rating 1 is '2', expected a number"),
    ('[1, NaN]', 'rating 1 is nan, expected a number'),
    ([True], 'rating 0 is True, expected a number'),
  ],
)
def test_a_bad_file_of_ratings(tmp_path, content, words):
  path = put(tmp_path / 'r.json', content)
  with pytest.raises(ValueError, match=words) as e:
    humans.read(path, ())
  assert str(e.value).startswith(path) and '\n' not in str(e.value)


@pytest.mark.parametrize(
  'content, words',
  [
    ([], 'expected one JSON object of a contest'),
    (contest(None), 'expected one JSON object of a contest'),
    (contest(rows=3), 'rows is no list'),
    (contest(problems=[]), 'problems is empty'),
    (contest(problems=[{'index': 'A'}, {'index': 'A'}]), 'have one index'),
    # Read before anything is decoded, not when a problem is solved.
    (contest(problems=[{'index': 'A', 'points': 'x'}]), 'points is no number'),
    (contest(oldRatings=[1]), '3 rows need as many'),
  ],
)
def test_bad_standings(tmp_path, content, words):
  path = put(tmp_path / 's.json', content)
  with pytest.raises(ValueError, match=words) as e:
    humans.read('', [path])
  assert str(e.value).startswith(path)


def test_files_that_are_given_wrong(tmp_path):
  path = put(tmp_path / 's.json', contest())
  with pytest.raises(ValueError, match='expected a list of files'):
    humans.read('', path)
  with pytest.raises(ValueError, match=r'two files are called s\.json'):
    humans.read('', [path, path])
  again = put(tmp_path / 't.json', contest())
  with pytest.raises(ValueError, match="contest '7' comes twice"):
    humans.read('', [path, again])


def test_standings_of_contests_that_nobody_asks():
  humans.check_asked(ASKED, values.Humans((), (contest(), contest(99))))
  with pytest.raises(ValueError, match="contest '99': no problem is of such"):
    humans.check_asked(ASKED, values.Humans((), (contest(99),)))
  hostile = [problem('x', 1.0, ('\x1b[2J', 'A'))]
  with pytest.raises(ValueError, match="contest '99'") as e:
    humans.check_asked(hostile, values.Humans((), (contest(99),)))
  assert str(e.value).isprintable()


def test_where_a_model_stands():
  everyone = tuple(float(r) for r in range(0, 4000, 10))
  found = values.Humans(everyone, (contest(), contest(8)))
  tries = [True, True], [False, True], [False, False]
  told = humans.standing(ASKED, tries, found)
  by_problem = ratings.rating([1000, 1400, 1800], [2, 2, 2], [2, 1, 0])
  assert told['value'] == by_problem.value and told['problems'] == 3
  below = sum(r < by_problem.value for r in everyone)
  assert told['percentile'] == below / len(everyone)
  # Problem B of contest 8 was not asked, so that contest does not count.
  in_contest = ratings.contest_rating(
    contest(), {'A': [True, True], 'B': [False, True]}
  )
  assert told['contests'] == dict(
    value=in_contest,
    error=None,
    percentile=sum(r < in_contest for r in everyone) / len(everyone),
    contests=1,
    given=2,
  )


def test_a_model_without_ratings_or_files():
  bare = [evaluated.problem('a')]
  assert humans.standing(bare, [[True]], values.Humans((1.0,))) is None
  told = humans.standing(bare, [[True]], values.Humans((), (contest(),)))
  assert told['value'] is None and told['problems'] == 0
  assert told['contests']['value'] is None and told['contests']['contests'] == 0
  told = humans.standing(ASKED[:1], [[True, False]], values.Humans())
  assert told['percentile'] is None and told['contests'] is None


def test_tries_are_in_the_order_of_drawing():
  """A wrong try before the right one costs points, whichever ended first."""
  # 900 points, or 850.
  rows = [{'points': p, 'penalty': 0} for p in (1400, 870, 0)]
  found = values.Humans((), (contest(rows=rows),))
  made = evaluated.benchmark(n=2)
  scored = lambda *outcomes: scores.score(
    made, 'strict', ASKED[:2], outcomes, 0.01, found
  )['rating']['contests']['value']
  others = [evaluated.outcome('a', i, 'wrong') for i in (0, 1)]
  wrong = [evaluated.outcome('b', 0, 'wrong'), evaluated.outcome('b', 1)]
  right = [evaluated.outcome('b', 0), evaluated.outcome('b', 1, 'wrong')]
  assert scored(*wrong, *others) == scored(*wrong[::-1], *others)
  assert scored(*wrong, *others) < scored(*right, *others)


def test_the_published_rating_and_percentile():
  row = published.row('acereason-7b')
  outcomes = [
    evaluated.outcome(p.row.id, i, 'wrong' if i else 'right')
    for p in ASKED
    for i in (0, 1)
  ]
  everyone = values.Humans(tuple(float(r) for r in range(0, 4000, 10)))
  made = evaluated.benchmark(n=2, published='codeforces')
  entry = scores.score(made, 'strict', ASKED, outcomes, 0.01, everyone)
  found = scores.published(entry, made, row)
  assert found['value'] == 1475 and found['percentile'] == 0.848
  made = made._replace(published='codeforces_percentile')
  found = scores.published(entry, made, row)
  # No error is known of either percentile.
  assert found['value'] == 0.848 and found['difference'] is None
