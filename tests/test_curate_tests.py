"""Which tests a task keeps, and how the fields of sources become tasks."""

import dataclasses
import json
import pickle

import curate_code
import hypothesis
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.data.curate import (
  code,
  golden,
  strength,
  values,
)
from acereason_jax.data.curate import tests as tests_lib
from acereason_jax.verifiers import code as code_judge

# --- equal inputs -------------------------------------------------------------


def _unique(answer):
  return curate_code.of(tests_lib.unique(), curate_code.row(answer))


def _pairs(answer):
  return [(t.stdin, t.expected) for t in code_judge.task_of(answer).tests]


def test_equal_inputs_are_one_test():
  tests = [('1\n', 'a\n'), ('2\n', 'b'), ('1', 'a'), ('1  \r\n', 'a \n')]
  fate = _unique(curate_code.task(tests, float_tol=1e-3))
  assert fate.evidence == {'tests': 4, 'left': 2}
  assert _pairs(fate.row.answer) == tests[:2]
  assert code_judge.task_of(fate.row.answer).float_tol == 1e-3
  assert _unique(fate.row.answer).kind == 'kept'


def test_an_input_with_two_outputs_is_no_test():
  tests = [('1', 'a'), ('2', 'b'), ('1', 'c'), ('1', 'a'), ('3', 'd')]
  fate = _unique(curate_code.task(tests))
  assert _pairs(fate.row.answer) == [('2', 'b'), ('3', 'd')]
  assert fate.evidence['inputs with two outputs'] == 1
  assert fate.row.about['flags'] == ['conflict']
  fate = _unique(curate_code.task([('1', 'a'), ('1', 'c')]))
  assert (fate.kind, fate.reason) == ('dropped', 'conflict')


def test_outputs_that_the_judge_calls_equal_are_no_conflict():
  tests = [('1', '0.5'), ('1', '0.500001')]
  assert _unique(curate_code.task(tests)).reason == 'conflict'
  fate = _unique(curate_code.task(tests, float_tol=1e-4))
  assert _pairs(fate.row.answer) == tests[:1]


def test_arguments_of_other_types_are_other_inputs():
  tests = [([1], 1), ([True], 1), ([1.0], 1), (['1'], 1), ([[1]], 1)]
  assert _unique(curate_code.call_task(tests)).kind == 'kept'
  fate = _unique(curate_code.call_task([*tests, ([1], 1)]))
  assert fate.evidence == {'tests': 6, 'left': 5}


# --- which tests are kept -----------------------------------------------------


def _sized(*sizes):
  return curate_code.task([(f'{i}'.zfill(s), 'o') for i, s in enumerate(sizes)])


def _kept(row, **arguments):
  """Numbers of the tests that are kept; each input is its number."""
  fate = curate_code.of(tests_lib.tests(**arguments), row)
  found = code_judge.task_of(fate.row.answer).tests
  return [int(t.stdin) for t in found]


def test_killers_then_the_largest():
  answer = _sized(5, 9, 2, 7, 8, 3)
  row = curate_code.row(answer, killers=[2, 5])
  assert _kept(row, most=1) == [2]
  assert _kept(row, most=2) == [2, 5]
  assert _kept(row, most=4) == [1, 2, 4, 5]
  assert _kept(row) == [0, 1, 2, 3, 4, 5]
  assert _kept(curate_code.row(answer), most=2) == [1, 4]


def test_bytes():
  # Each output has one.
  row = curate_code.row(_sized(5, 9, 2, 7), killers=[2])
  assert _kept(row, most_bytes=3) == [2]
  # Not the largest, which has no room, but the next.
  assert _kept(row, most_bytes=3 + 9) == [2, 3]
  assert _kept(row, most_bytes=3 + 10) == [1, 2]
  fate = curate_code.of(tests_lib.tests(most_bytes=2), row)
  assert (fate.kind, fate.reason) == ('dropped', 'too large')


def test_the_accepted_program_s_time():
  """Digit 3 is up to a second: eight times an eighth."""
  row = curate_code.row(_sized(2, 9, 8, 7), golden={'times': '0333'})
  assert _kept(row, seconds=3.2) == [0, 1, 2, 3]
  assert _kept(row, seconds=3) == [1, 2, 3]
  assert _kept(row, seconds=2.5) == [0, 1, 2]
  assert _kept(row, seconds=1) == [1]


def test_columns_of_earlier_steps_end_here():
  about = {'golden': {'times': ''}, 'killers': [0], 'flags': ['suspect']}
  row = curate_code.row(_sized(3, 4), **about)
  fate = curate_code.of(tests_lib.tests(), row)
  assert fate.row == dataclasses.replace(row, about={'flags': ['suspect']})
  assert curate_code.of(tests_lib.tests(), fate.row).kind == 'kept'


@hypothesis.given(
  st.lists(st.integers(2, 9), min_size=1, max_size=12),
  st.integers(1, 12),
  st.integers(12, 60),
  st.randoms(use_true_random=False),
)
def test_what_is_kept_has_room_and_nothing_else_has(sizes, most, room, rng):
  numbers = list(range(len(sizes)))
  killers = rng.sample(numbers, rng.randint(0, len(numbers)))
  row = curate_code.row(_sized(*sizes), killers=killers)
  kept = _kept(row, most=most, most_bytes=room)
  used = sum(sizes[n] + 1 for n in kept)
  assert kept == sorted(set(kept))
  assert len(kept) <= most
  assert used <= room
  if len(kept) < most:
    assert all(used + sizes[n] + 1 > room for n in set(numbers) - set(kept))
  # A test that is not kept has no room beside killers and larger ones.
  again = curate_code.of(tests_lib.tests(most=most, most_bytes=room), row)
  rest = curate_code.of(tests_lib.tests(most=most, most_bytes=room), again.row)
  assert rest.row == again.row


@pytest.mark.parametrize('name', ['most', 'most_bytes'])
def test_room_for_nothing(name):
  with pytest.raises(ValueError, match=rf'{name}=0: expected at least 1'):
    tests_lib.tests(**{name: 0})


def test_a_large_task_is_stored(tmp_path, monkeypatch):
  monkeypatch.setenv('ACEREASON_TASKS', str(tmp_path / 'tasks'))
  answer = _sized(*[60_000] * 3)
  fate = _unique(curate_code.task([*_pairs(answer), *_pairs(answer)]))
  assert json.loads(fate.row.answer).keys() == {'tests'}
  assert _pairs(fate.row.answer) == _pairs(answer)
  # From a file, to a task that is none.
  chosen = curate_code.of(tests_lib.tests(most=1), fate.row)
  assert _pairs(chosen.row.answer) == _pairs(answer)[:1]
  assert json.loads(chosen.row.answer)['kind'] == 'stdin'


# --- a source's fields --------------------------------------------------------

CASES = json.dumps({'inputs': ['1\n', '2\n'], 'outputs': ['2\n', '4\n']})
CHECK = 'def check(candidate):\n  assert candidate(2) == 4\n'


@pytest.mark.parametrize(
  ('source', 'row', 'expected'),
  [
    ('apps', values.Row('a', 'p', CASES), [('1\n', '2\n'), ('2\n', '4\n')]),
    (
      'codecontests',
      values.Row(
        'a',
        'p',
        '',
        about={
          'public_tests': {'input': ['1\n'], 'output': ['2\n']},
          'generated_tests': {'input': ['2\n'], 'output': ['4\n']},
          'rating': 7,
        },
      ),
      [('1\n', '2\n'), ('2\n', '4\n')],
    ),
    (
      'codeforces',
      values.Row(
        'a',
        'p',
        '',
        about={
          'official_tests': [{'input': '1\n', 'output': '2\n'}],
          'rating': 7,
        },
      ),
      [('1\n', '2\n')],
    ),
    (
      'toolkit',
      values.Row('a', 'p', '[{"input": "1\\n", "output": "2\\n"}]'),
      [('1\n', '2\n')],
    ),
    (
      'livecodebench',
      values.Row(
        'a',
        'p',
        '',
        about={
          'public_test_cases': json.dumps(
            [{'input': '1\n', 'output': '2\n', 'testtype': 'stdin'}]
          ),
          'private_test_cases': '[]',
          'metadata': '{}',
          'rating': 7,
        },
      ),
      [('1\n', '2\n')],
    ),
  ],
)
def test_sources(source, row, expected):
  fate = curate_code.of(code.task(source), row)
  assert fate.kind == 'changed'
  assert _pairs(fate.row.answer) == expected
  # What was used up is not carried along.
  assert fate.row.about == {k: v for k, v in row.about.items() if k == 'rating'}
  assert curate_code.of(code.task(source), fate.row).kind == 'kept'


def test_asserts_and_checks():
  row = values.Row(
    'a',
    'def f(n):\n',
    f'{CHECK}  assert abs(candidate(3) - 6) < 1\n',
    solutions=('  return 2 * n\n',),
    about={'entry_point': 'f'},
  )
  fate = curate_code.of(code.task('asserts'), row)
  assert fate.evidence == {'tests left out': 1}
  (test,) = code_judge.task_of(fate.row.answer).tests
  assert (test.args, test.expected) == ((2,), 4)
  fate = curate_code.of(code.task('human_eval'), row)
  assert code_judge.task_of(fate.row.answer).check == row.answer
  assert fate.row.solutions == ('def f(n):\n  return 2 * n\n',)


def test_fields_may_have_other_places():
  row = values.Row('a', 'p', '', about={'tests': CASES, 'code': ''})
  step = code.task('apps', {'input_output': 'tests', 'starter_code': 'code'})
  fate = curate_code.of(step, row)
  assert len(_pairs(fate.row.answer)) == 2
  assert fate.row.about == {}


@pytest.mark.parametrize(
  ('source', 'row', 'why'),
  [
    ('apps', values.Row('a', 'p', '{}'), 'inputs and outputs are not both'),
    ('apps', values.Row('a', 'p', '[' * 99999), 'is not JSON'),
    ('codeforces', values.Row('a', 'p', ''), 'official_tests is not a list'),
    (
      'codecontests',
      values.Row('a', 'p', '', about={'input_file': 'in.txt'}),
      'read or write a file',
    ),
    ('livecodebench', values.Row('a', 'p', ''), 'public_test_cases'),
    ('leetcode', values.Row('a', 'p', ''), 'entry_point is not text'),
    ('human_eval', values.Row('a', 'p', CHECK), 'no solution'),
    (
      'human_eval',
      values.Row('a', 'p', CHECK, solutions=('x',), about={'entry_point': 3}),
      'fn=3',
    ),
  ],
)
def test_what_cannot_be_converted_says_why(source, row, why):
  fate = curate_code.of(code.task(source), row)
  assert (fate.kind, fate.reason) == ('dropped', 'no task')
  assert why in fate.evidence['why']
  assert '\n' not in fate.evidence['why']
  assert fate.row == row


def test_rows_that_are_flagged_as_no_tasks_go_through():
  row = curate_code.row('no task', 'print(1)', wrong=['print(2)'])
  steps = tests_lib.unique(), tests_lib.tests()
  assert [curate_code.of(step, row).row for step in steps] == [row, row]
  fate = curate_code.of(strength.strength(), row)
  assert fate.evidence == {'programs': 0, 'failed': 0}


def test_a_stored_task_that_is_gone_is_an_error(tmp_path, monkeypatch):
  monkeypatch.setenv('ACEREASON_TASKS', str(tmp_path / 'tasks'))
  row = curate_code.row(json.dumps({'tests': '0' * 64}))
  for step in (code.task('apps'), tests_lib.unique(), tests_lib.tests()):
    with pytest.raises(ValueError, match='there is no such stored task'):
      curate_code.of(step, row)


def test_steps_go_to_other_processes():
  steps = (
    *(code.task(source) for source in ('apps', 'codecontests', 'asserts')),
    *(tests_lib.unique(), tests_lib.tests(), golden.one_output()),
  )
  row = values.Row('a', 'p', CASES)
  for step in steps:
    again = pickle.loads(pickle.dumps(step.each))
    assert again(row).kind == step.each(row).kind


def test_an_unknown_source():
  with pytest.raises(ValueError, match="source='taco': expected one of apps"):
    code.task('taco')


# --- difficulty ---------------------------------------------------------------


def _attempts(count):
  return {'r': [values.Attempt(f'{i}') for i in range(count)]}


@pytest.mark.parametrize(
  ('statuses', 'kind', 'reason', 'level'),
  [
    ('rrrrrrrr', 'changed', '', 0),
    ('rwwuwwww', 'changed', '', 7),
    ('wwwwwwww', 'dropped', 'unsolved', None),
    # A judge that fails finds nothing.
    ('rteerwww', 'changed', '', 3),
    ('wwwwwwwt', 'dropped', 'unsolved', None),
    ('tttteeee', 'undecided', 'not judged', None),
  ],
)
def test_difficulty(statuses, kind, reason, level):
  names = dict(r='right', w='wrong', u='unparsed', t='timeout', e='error')

  def judge(component, pairs):
    assert [r for r, _ in pairs] == list('01234567')
    return [types.Verdict(names[s], '', 0.0) for s in statuses]

  fate = curate_code.of(
    code.difficulty(),
    curate_code.row('a task'),
    judge=judge,
    attempts=_attempts(9),
  )
  assert (fate.kind, fate.reason) == (kind, reason)
  assert fate.row.difficulty == level
  if level is not None:
    right, judged = statuses.count('r'), sum(s in 'rwu' for s in statuses)
    assert fate.row.about == {'right': right, 'judged': judged}


def test_rows_without_responses_are_named():
  with pytest.raises(values.Missing) as caught:
    curate_code.of(
      code.difficulty(), curate_code.row('a'), attempts=_attempts(7)
    )
  assert [row.id for row in caught.value.rows] == ['r']
  assert caught.value.n == 8
