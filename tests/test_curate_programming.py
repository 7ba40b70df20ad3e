"""Programming problems of benchmarks: their stories, addresses and titles."""

import json

import pytest

from acereason_jax.data.curate import items as items_lib
from acereason_jax.data.curate import overlap, plan, programming, values

STORY = (
  'A gardener plants tulips along a fence and wants the colours of neighbours '
  'to differ. Each swap of two tulips costs one minute. Find the least number '
  'of minutes after which no two neighbours have the same colour.'
)
OTHER = (
  'Two robots start at the corners of a board with holes. In a turn each moves '
  'to a free cell beside it. Say whether they can ever stand on one cell.'
)
INPUT = (
  'The first line contains a single integer t - the number of test cases. The '
  'first line of each test case contains a single integer n, and the second '
  'line contains n integers separated by spaces.'
)
CODEFORCES = (
  '{}\n\nInput\n\n' + INPUT + '\n\nOutput\n\nPrint it.\n\nExample\n\n1\n'
)
ATCODER = (
  '{}\n\nConstraints\n\n- All values in the input are integers.\n\n'
  '### Input\n\n'
  + INPUT
  + '\n\nSample Input 1\n\n3 1 2\n\nSample Output 1\n\n2\n'
)
LEETCODE = (
  '{}\n\n**Example 1:**\n\nInput: nums = [1]\nOutput: 2\n\n**Constraints:**\n\n'
  '- 1 <= nums.length <= 100000 and all of the values of nums are at most n\n'
)


def reasons(items, *rows):
  context = values.Context(0, items, {}, None, None, None, None)
  step = overlap.contaminated(n=14, code=True)
  return [fate.reason for fate in step.whole(rows, context)]


def row(problem, **fields):
  return values.Row('1', problem, '{}', **fields)


@pytest.mark.parametrize('form', [CODEFORCES, ATCODER, LEETCODE])
def test_a_story_is_found_in_another_form(form):
  items = [values.Item('lcb', '1', form.format(STORY))]
  rows = [row(f.format(STORY)) for f in ('{}', CODEFORCES, ATCODER, LEETCODE)]
  assert all(reasons(items, *rows))


@pytest.mark.parametrize('form', [CODEFORCES, ATCODER, LEETCODE])
def test_constraints_examples_and_forms_of_input_do_not_count(form):
  items = [values.Item('lcb', '1', form.format(STORY))]
  assert reasons(items, row(form.format(OTHER))) == ['']
  told = programming.story(form.format(STORY))
  assert STORY in told
  assert 'integer' not in told
  assert 'Print' not in told


def test_a_story_may_go_on_after_a_part_that_is_left_out():
  text = f'Constraints\n\nn is small\n\nProblem Statement\n\n{STORY}'
  assert programming.story(text).split() == f'Problem Statement {STORY}'.split()


def test_bounds_in_brackets_do_not_count():
  text = f'{STORY} There are $n$ ($1 \\le n \\le 10^5$) tulips (red ones).'
  told = programming.story(text)
  assert '10^5' not in told
  assert '(red ones)' in told
  assert '(1 ≤ k ≤ 7)' not in programming.story(f'{STORY} (1 ≤ k ≤ 7)')


def test_a_statement_with_no_other_part_stays_whole():
  text = f'Input\n\n{INPUT}'
  assert programming.story(text) == text
  assert programming.story('') == ''


@pytest.mark.parametrize(
  'same',
  [
    (
      *(
        'https://codeforces.com/contest/1873/problem/A',
        'http://www.codeforces.com/problemset/problem/1873/a?locale=en',
      ),
      *('https://m1.codeforces.com/contest/1873/problem/A/', '1873_A'),
      'https://www.luogu.com.cn/problem/CF1873A',
      'https://vjudge.net/problem/CodeForces-1873A',
    ),
    (
      'https://atcoder.jp/contests/abc301/tasks/abc301_a#top',
      'https://abc301.contest.atcoder.jp/tasks/abc301_a',
      'abc301_a',
    ),
    (
      'https://leetcode.com/problems/two-sum/description/',
      'https://leetcode.cn/contest/weekly-9/problems/two-sum',
    ),
    (
      'https://www.codechef.com/problems/TULIPS',
      'https://www.codechef.com/START9/problems/TULIPS',
    ),
    ('https://judge.example/p/7?x=1', 'http://judge.example/p/7/'),
  ],
)
def test_addresses_of_one_problem_have_one_form(same):
  assert len({programming.address(url) for url in same} - {''}) == 1


def test_addresses_of_different_problems_differ():
  urls = (
    *('https://codeforces.com/contest/1873/problem/A', '1873_B', '1874_A'),
    *('https://codeforces.com/contest/1873/problem/A2', 'abc301_a', 'abc302_a'),
    'https://leetcode.com/problems/two-sum-ii',
  )
  assert len({programming.address(url) for url in urls}) == len(urls)
  for none in ('', ' ', 'https://codeforces.com', '17', 'x' * 5000):
    assert programming.address(none) == ''


def test_rows_of_the_same_address_or_title_go():
  items = [
    values.Item('lcb', '1873_A', STORY),
    values.Item('lcb', '2777', OTHER, title='Robots on a Board'),
  ]
  url = 'https://codeforces.com/problemset/problem/1873/A'
  other = 'Count the words of a long text that begin with the same letter.'
  rows = (
    row(other, url=url),
    row(other, url=url + 'B'),
    row(other, about={'title': 'B. Robots on a board'}),
    row(f'# Robots on a Board\n\n{other}'),
    row(f'Robots on a Board\n\n{other}'),
    row(other, about={'title': 'Robots'}),
    row(other, about={'title': 7}),
  )
  assert reasons(items, *rows) == [
    *('same address', '', 'same title', 'same title', '', '', '')
  ]


@pytest.mark.parametrize(
  'text, expected',
  [
    ('B. Robots on a Board', 'robots on a board'),
    ('1873A - Short Sort', 'short sort'),
    ('**12. Two Sum**', 'two sum'),
    # One word is the name of many problems.
    ('A. Tulips', ''),
    ('', ''),
    ('a ' * 1000, ''),
  ],
)
def test_titles(text, expected):
  assert programming.title(text) == expected


@pytest.mark.parametrize(
  'piece', ['(', '(a<', '#', '1.', ' ', '\n', 'Input\n', '((((<<<<', 'a/']
)
def test_hostile_statements_end(piece):
  text = piece * (200_000 // len(piece))
  assert isinstance(programming.story(text), str)
  assert isinstance(programming.heading(text), str)
  assert programming.address(text) == ''


def test_addresses_and_titles_of_items_come_from_their_files(tmp_path):
  path = tmp_path / 'lcb.jsonl'
  rows = [
    {
      **{'question_content': f'Story {i}', 'question_title': f'Tale {i}'},
      **{'question_id': f'18{i}_A', 'url': None if i else 'https://a.b/c'},
    }
    for i in range(5)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  read = items_lib.read(
    plan.Benchmark(
      *('lcb', (str(path),)), field='question_content', id='question_id'
    )
  )
  assert read.items[:2] == (
    values.Item('lcb', '180_A', 'Story 0', 'https://a.b/c', 'Tale 0'),
    values.Item('lcb', '181_A', 'Story 1', '', 'Tale 1'),
  )
