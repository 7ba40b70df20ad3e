"""The table of results: its cells by hand, and never more than 80 columns."""

import json

import evaluated
import hypothesis
import pytest
from hypothesis import strategies as st

from acereason_jax.evaluation import reading, shown, table

SUMS = {'aime24': dict(a=64, b=32, c=0, d=16)}


def made(**changes):
  found = evaluated.results(SUMS, n=64, judges=('strict', 'toolkit'))
  found['benchmarks']['aime24']['strict'].update(changes)
  return found


def told(results):
  reading.check(results, 'these results')
  lines = table.told(results)
  for line in lines:
    assert evaluated.columns(line) <= 80 and line.isprintable(), line
  return lines


def row_of(lines, name):
  (found,) = (x.split() for x in lines if x.startswith(f'aime24  {name} '))
  return found


def test_a_table_by_hand():
  lines = told(made())
  assert lines[0] == 'a-model'
  header, strict, toolkit = (x.split() for x in lines[1:4])
  assert header == ['n', 'avg', 'rerun', 'problems', 'trunc', 'len']
  # m = 1, .5, 0, .25: mean .4375; .4375 / 63 under the root, over 4; standard
  # deviation .42696, over 2.
  numbers = ['4x64', '43.8', '+-2.1', '+-21.3']
  length = shown.size(made()['rollouts']['aime24']['length']['mean'])
  assert strict == ['aime24', 'strict', *numbers, '0.0%', length]
  # The rollouts are the same, so the second row does not repeat them.
  assert toolkit == ['aime24', 'toolkit', *numbers]
  assert 'judge failures 0 of 512' in lines
  assert lines[-1] == (
    '42.5M tokens, 41 min on 16 cpu = 10.9 chip-h '
    '($45.78 at price_per_chip_hour=4.2)'
  )


def test_the_published_number():
  paper = dict(value=0.69, k=64, error=0.01, difference=-12.34, source='x')
  paper['percentile'] = None
  found = made(published=paper)
  found['published'] = 'acereason-7b'
  lines = told(found)
  assert lines[1].split()[-2:] == ['published', 'diff']
  assert row_of(lines, 'strict')[-3:] == ['69.0', '-12.3', 'SE']
  assert row_of(lines, 'toolkit')[-1] == '+-21.3'
  assert 'published: acereason-7b (x)' in lines
  paper['estimated'] = True
  text = ' '.join(' '.join(told(found)).split())
  assert 'gives no error, its error is that of our solve rates' in text
  paper['difference'] = None
  assert row_of(told(found), 'strict')[-2:] == ['69.0', '-']
  paper['difference'] = -1e9
  assert row_of(told(found), 'strict')[-2:] == ['>-99.9', 'SE']
  paper['value'] = 1475
  assert row_of(told(found), 'strict')[-3] == '1475'


def test_no_error_is_a_dash():
  found = evaluated.results({'aime24': dict(a=1)}, n=1)
  row = row_of(told(found), 'strict')
  assert row[2:6] == ['1x1', '100.0', '-', '-']


def test_always_or_never_right_gives_a_bound_in_place_of_an_error():
  lines = told(evaluated.results({'aime24': dict(a=64, b=0)}, n=64))
  assert row_of(lines, 'strict')[4] == '-'
  text = ' '.join(' '.join(lines).split())
  # 1 - 0.05^(1/64).
  assert '0 of 64 fits a solve rate of up to 4.6% (95%)' in text


def test_judgements_that_failed():
  found = made()
  entry = found['benchmarks']['aime24']['strict']
  entry['by_problem'][1].update(n=60, right=30, failed=4)
  entry.update(judged=252, failed=4, k=63.0, marked=True)
  lines = told(found)
  assert row_of(lines, 'strict')[2:4] == ['4x63', '43.8!']
  assert row_of(lines, 'toolkit')[2:4] == ['4x64', '43.8']
  assert 'aime24 strict: avg@63 of 64: 4 judgements failed' in lines
  assert any(x.startswith('judge failures 4 of 512; ! marks') for x in lines)


def test_a_mean_of_counts_is_never_rounded_up_to_what_was_asked():
  found = made()
  entry = found['benchmarks']['aime24']['strict']
  entry['by_problem'][2].update(n=63, failed=1)
  entry.update(judged=255, failed=1, k=63.75)
  lines = told(found)
  assert row_of(lines, 'strict')[2] == '4x63.7'
  assert shown.mean(63.999) == '63.9' and shown.mean(64.0) == '64'


def test_truncation_that_matters():
  cut = [
    *(evaluated.outcome('a', i) for i in range(6)),
    evaluated.outcome('a', 6, 'wrong', 'length'),
    evaluated.outcome('a', 7, 'unparsed', 'length'),
  ]
  found = evaluated.results({'aime24': dict(a=6)}, n=8)
  entry = evaluated.scores.score(
    evaluated.benchmark(n=8), 'strict', [evaluated.problem('a')], cut, 0.01
  )
  found['benchmarks']['aime24']['strict'] = json.loads(
    json.dumps(entry | dict(published=None))
  )
  text = ' '.join(' '.join(told(found)).split())
  assert '75.0 would be 100.0 with every truncated response right' in text
  assert 'and is 100.0 without them' in text


def test_nothing_was_judged():
  found = evaluated.results({'aime24': dict(a=0)}, n=2)
  entry = evaluated.scores.score(
    evaluated.benchmark(n=2), 'strict', [evaluated.problem('a')], [], 0.01
  )
  found['benchmarks']['aime24']['strict'] = entry | dict(published=None)
  lines = told(found)
  assert row_of(lines, 'strict')[2:6] == ['0/1x-', '-!', '-', '-']
  assert 'aime24 strict: no rollout was judged' in lines


def test_what_is_missing_is_named():
  found = made()
  found['data']['aime24']['missing'] = [
    [f'\x1bid-{i}', 'why'] for i in range(5)
  ]
  lines = told(found)
  start = (
    r'aime24: 4 problems, without 5 that cannot be used: \x1bid-0, \x1bid-1'
  )
  assert ' '.join(lines).count(start) == 1


def test_groups_are_told_with_their_errors():
  group = dict(problems=2, avg=0.75, rerun_error=0.03, problems_error=0.25)
  lonely = dict(group, problems=1, problems_error=None)
  found = made(strata=dict(level={'1': group, '5': lonely}))
  line = 'aime24 strict: by level (problems): 1 75.0 +-25.0 (2), 5 75.0 - (1)'
  assert line in told(found)
  many = {str(i): group for i in range(40)}
  text = ' '.join(' '.join(told(made(strata=dict(level=many)))).split())
  assert '11 75.0 +-25.0 (2), 28 more in results.json' in text


def test_a_machine_without_accelerators_has_no_chip_hours():
  found = made()
  found['cost'].update(chips=0, chip_hours=0.0, price=None, seconds=100.0)
  assert told(found)[-1] == '42.5M tokens, 100 s'


def test_pass_at_k_and_majority_and_rating_are_told():
  bare = dict(bound='', percentile=None, contests=None)
  found = made(rating=dict(bare, value=1475.4, error=59.7))
  text = ' '.join(' '.join(told(found)).split())
  # Once: the notes of the other judge are the same.
  assert text.count('pass@32') == 1 and text.count('maj@64 56.3') == 1
  assert 'rating 1475 +-60' in text
  found = made(rating=dict(bare, value=2000.0, error=None, bound='all'))
  text = ' '.join(' '.join(told(found)).split())
  assert 'rating at least 2000: everything was solved' in text


def test_percentile_contests_and_the_published_rating_are_told():
  standings = dict(
    value=1502.0, error=80.4, percentile=0.8612, contests=12, given=14
  )
  rating = dict(
    value=1475.4, error=59.7, bound='', percentile=0.848, contests=standings
  )
  paper = dict(
    value=1189, difference=None, source='x', error=None, percentile=0.574
  )
  text = ' '.join(' '.join(told(made(rating=rating, published=paper))).split())
  assert (
    'rating 1475 +-60 rerun (above 84.8% of contestants); published: 1189 '
    '(above 57.4% of contestants)'
  ) in text
  assert (
    'rating in 12 of 14 contests: 1502 +-80 over contests (above 86.1% of '
    'contestants)'
  ) in text
  standings.update(value=None, error=None, percentile=None, contests=0)
  text = ' '.join(' '.join(told(made(rating=rating))).split())
  assert 'no rating in contests: 0 of 14 contests have a verdict' in text


NAMES = st.text('abcXYZ019_-', min_size=1, max_size=40).filter(
  lambda name: name[0].isalnum()
)
TEXTS = st.text(max_size=300)
NUMBERS = st.none() | st.floats(0, 1e15)


@hypothesis.given(
  benches=st.lists(NAMES, min_size=1, max_size=3, unique=True),
  judges=st.lists(NAMES, min_size=1, max_size=2, unique=True),
  texts=st.tuples(TEXTS, TEXTS, TEXTS),
  cost=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
  difference=st.floats(-1e15, 1e15),
  value=st.floats(-1e15, 1e15),
  marked=st.booleans(),
)
def test_never_more_than_eighty_columns(
  benches, judges, texts, cost, difference, value, marked
):
  found = evaluated.results(
    {bench: dict(a=1, b=2) for bench in benches}, n=3, judges=judges
  )
  model, paper, device = texts
  found['model']['name'], found['published'] = model, paper
  found['engine']['device'] = device
  names = 'tokens', 'seconds', 'chips', 'chip_hours', 'price'
  found['cost'] = dict(zip(names, cost))
  for bench in benches:
    entry = found['benchmarks'][bench][judges[0]]
    entry['marked'] = marked
    rating = dict(value=value, error=cost[0], percentile=0.5)
    contests = dict(rating, contests=3, given=4)
    entry['rating'] = dict(rating, bound='', contests=contests)
    entry['published'] = dict(
      value=value, difference=difference, source='', percentile=0.5
    )
  told(found)


def test_columns_move_together_before_a_name_is_cut():
  numbers = ['1' * 18, '2' * 18, '3' * 18]
  wide, tight = ('a' * 8, 'b' * 8), ('a' * 11, 'b' * 11)
  (line,) = shown.table([(*wide, *numbers)], names=2)
  assert line == '  '.join((*wide, *numbers)) and len(line) == 78
  (line,) = shown.table([(*tight, *numbers)], names=2)
  assert line == ' '.join((*tight, *numbers)) and len(line) == 80


def test_a_name_that_is_cut_says_so():
  long = 'a' * 25
  found = evaluated.results({long: dict(a=1, b=2)}, n=3, judges=('strict',))
  (row,) = (x for x in told(found) if x.startswith('aaa') and ':' not in x)
  assert row.split()[0] == long
  found = evaluated.results({long: dict(a=1, b=2)}, n=3, judges=('b' * 40,))
  (row,) = (x for x in told(found) if x.startswith('aaa') and ':' not in x)
  assert row.split()[1] == 'b' * (len(row.split()[1]) - 2) + '..'
  assert row.split()[2] == '2x3'


@pytest.mark.parametrize(
  'value, text',
  [
    (0, '0'),
    (812, '812'),
    (999.4, '999'),
    (999.6, '1.0K'),
    (11_847, '11.8K'),
    (42_480_000, '42.5M'),
    (1e15, '1e+15'),
    (None, '-'),
  ],
)
def test_size(value, text):
  assert shown.size(value) == text and len(text) <= 6


@pytest.mark.parametrize(
  'p, text',
  [
    (1.0, '1.00'),
    (0.346, '.35'),
    (0.0951, '.095'),
    (0.0348, '.035'),
    (0.00124, '.0012'),
    (0.00049, '5e-04'),
    (3e-10, '<1e-9'),
    (None, '-'),
  ],
)
def test_probability(p, text):
  assert shown.probability(p) == text


@pytest.mark.parametrize(
  'error, text',
  [
    (0.0, '-'),
    (0.0091, '+-0.9'),
    (0.00042, '+-0.04'),
    (0.00001, '<0.01'),
    (None, '-'),
  ],
)
def test_error(error, text):
  assert shown.error(error) == text


@hypothesis.given(
  st.lists(st.text(min_size=1, max_size=120), max_size=60), st.integers(1, 5)
)
def test_a_list_says_how_many_are_missing(items, lines):
  items = [''.join(x.split()) or 'x' for x in items]
  found = list(shown.listed('  up: ', items, indent=4, lines=lines))
  assert len(found) <= lines and all(evaluated.columns(x) <= 80 for x in found)
  text = ' '.join(found)
  if '... ' in text and text.endswith(' more'):
    missing = int(text.split()[-2].replace(',', ''))
    assert 0 < missing <= len(items)


def test_rollouts_without_lengths_have_none():
  found = made()
  found['rollouts']['aime24']['length']['mean'] = 0.0
  assert row_of(told(found), 'strict')[-2:] == ['0.0%', '-']


def test_a_number_of_problems_is_exact():
  assert shown.count(1319) == '1319' and shown.count(10**15) == '1e+15'


@pytest.mark.parametrize(
  'rate, text',
  [
    (0.8125, '81.3'),
    (0.1235, '12.4'),
    (0.0625, '6.3'),
    (0.12349, '12.3'),
    (1.0, '100.0'),
    (0.9996, '>99.9'),
    (0.0, '0.0'),
    (1e-5, '<0.1'),
    # 0 of a million.
    (3e-6, '<0.1'),
    (None, '-'),
  ],
)
def test_percent_rounds_halves_up(rate, text):
  assert shown.percent(rate) == text


@pytest.mark.parametrize(
  'difference, text',
  [
    (0.1256, '+12.6'),
    (-0.0625, '-6.3'),
    (0.0, '0.0'),
    (-0.0, '0.0'),
    # Neither better nor worse, to a tenth.
    (-0.0004, '0.0'),
    (0.0005, '+0.1'),
    (None, '-'),
  ],
)
def test_points(difference, text):
  assert shown.points(difference) == text


def test_what_the_average_is_not_over_is_told():
  """A problem that failed everywhere, and rollouts that are not there yet."""
  outcomes = [
    *(evaluated.outcome('a', i) for i in range(3)),
    evaluated.outcome('a', 3, 'error'),
    *(evaluated.outcome('b', i, 'timeout') for i in range(4)),
    *(evaluated.outcome('c', i, 'wrong') for i in range(2)),
  ]
  found = evaluated.results({'aime24': dict(a=3, b=0, c=0)}, n=4)
  entry = evaluated.scores.score(
    evaluated.benchmark(n=4),
    'strict',
    [evaluated.problem(id) for id in 'abc'],
    outcomes,
    0.01,
  )
  found['benchmarks']['aime24']['strict'] = json.loads(
    json.dumps(entry | dict(published=None))
  )
  found['data']['aime24']['missing'] = [['d', 'unreadable']]
  lines = told(found)
  assert row_of(lines, 'strict')[2] == '2/4x2.5'
  text = ' '.join(' '.join(lines).split())
  assert (
    'avg@2.5 of 4: 5 judgements failed, 2 rollouts not there yet, 1 problem '
    'without a verdict left out'
  ) in text
  assert 'pass@k and maj@k end at k = 2, the fewest verdicts' in text


def test_responses_without_an_answer_are_told():
  outcomes = [
    evaluated.outcome(id, i, 'unparsed', ('length', 'stop')[i])._replace(
      reasons=dict(strict='no </think>')
    )
    if i < 2
    else evaluated.outcome(id, i)
    for id in 'ab'
    for i in range(4)
  ]
  found = evaluated.results({'aime24': dict(a=2, b=2)}, n=4)
  entry = evaluated.scores.score(
    evaluated.benchmark(n=4),
    'strict',
    [evaluated.problem(id) for id in 'ab'],
    outcomes,
    0.01,
  )
  found['benchmarks']['aime24']['strict'] = json.loads(
    json.dumps(entry | dict(published=None))
  )
  text = ' '.join(' '.join(told(found)).split())
  # The truncated ones are not among them.
  assert (
    '2 of 8 responses ended without an answer that the judge can read, most '
    'often: no </think>; give the judge reasons=False'
  ) in text
  # Both m are 2/4: nothing tells of other problems.
  assert entry['interval'] is None and row_of(told(found), 'strict')[5] == '-'
