"""Accepted programs, wrong programs and the tests that tell them apart."""

import dataclasses
import json
import random
import time

import curate_code
import pytest

from acereason_jax.data.curate import (
  code,
  golden,
  judging,
  mutants,
  state,
  strength,
  values,
)
from acereason_jax.data.curate import tests as tests_lib
from acereason_jax.verifiers import code as code_judge
from acereason_jax.verifiers import trial

pytestmark = pytest.mark.usefixtures('jails')

DOUBLES = [(f'{n}\n', f'{2 * n}\n') for n in (3, 0, -7, 12, 100)]
DOUBLE = 'print(2 * int(input()))'
# The words of a line, in any order.
WORDS = [('b a c\n', 'b a c\n'), ('x\n', 'x\n'), ('z y\n', 'z y\n')]


@pytest.fixture(autouse=True)
def tasks_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('ACEREASON_TASKS', str(tmp_path / 'tasks'))


def _golden(answer, *solutions, **arguments):
  row = curate_code.row(answer, *solutions)
  return curate_code.of(golden.golden(**arguments), row)


# --- golden -------------------------------------------------------------------


def test_all_pass():
  other = 'n = int(input())\nprint(n + n)'
  fate = _golden(curate_code.task(DOUBLES), DOUBLE, other)
  assert fate.kind == 'changed'
  assert fate.row.solutions == (DOUBLE, other)
  assert 'flags' not in fate.row.about
  assert curate_code.of(golden.one_output(), fate.row).kind == 'kept'


def test_none_passes():
  fate = _golden(curate_code.task(DOUBLES), 'print(int(input()))', 'print(1)')
  assert (fate.kind, fate.reason) == ('dropped', 'golden fails')
  assert fate.evidence['solutions'] == ['WA test 1', 'WA test 1']
  assert 'expected' in fate.evidence['notes'][0]


def test_some_pass():
  fate = _golden(curate_code.task(DOUBLES), 'print(1 // 0)', DOUBLE)
  assert fate.kind == 'changed'
  assert fate.row.about['flags'] == ['suspect']
  assert fate.row.solutions == (DOUBLE,)
  # A crash is not another output.
  assert curate_code.of(golden.one_output(), fate.row).kind == 'kept'


@pytest.mark.parametrize(
  ('tests', 'programs', 'reason'),
  [
    (WORDS, ('print(input())', 'print(*sorted(input().split()))'), 'order'),
    (
      [('1\n', 'Yes\n'), ('2\n', 'No\n')],
      (
        "print('Yes' if input() == '1' else 'No')",
        "print('YES' if input() == '1' else 'NO')",
      ),
      'letter case',
    ),
    (
      [('1\n', '0.333333\n'), ('2\n', '0.666667\n')],
      (
        "print('%.6f' % (int(input()) / 3))",
        'print(int(input()) / 3)',
      ),
      'float',
    ),
    (
      [('10\n', '3 7\n'), ('4\n', '2 2\n')],
      (
        "n = int(input())\nprint('3 7' if n == 10 else '2 2')",
        "n = int(input())\nprint('5 5' if n == 10 else '2 2')",
      ),
      'output',
    ),
  ],
)
def test_two_right_programs_that_disagree(tests, programs, reason):
  answer = curate_code.task(tests)
  for order in (programs, programs[::-1]):
    fate = _golden(answer, *order)
    assert fate.row.solutions == programs[:1]
    fate = curate_code.of(golden.one_output(), fate.row)
    assert (fate.kind, fate.reason) == ('dropped', f'special judge: {reason}')
    assert 'expected' in fate.evidence['outputs']


def test_results_that_disagree():
  answer = curate_code.call_task([([[2, 1]], [2, 1]), ([[]], [])])
  fate = _golden(answer, 'def f(x): return x', 'def f(x): return sorted(x)')
  fate = curate_code.of(golden.one_output(), fate.row)
  assert fate.reason == 'special judge: order'


def test_a_tolerance_of_the_task_covers_floats():
  tests = [('1\n', '0.333333\n'), ('2\n', '0.666667\n')]
  answer = curate_code.task(tests, float_tol=1e-5)
  fate = _golden(answer, 'print(int(input()) / 3)')
  assert fate.row.solutions
  assert curate_code.of(golden.one_output(), fate.row).kind == 'kept'


@pytest.mark.parametrize(
  'program',
  [
    'import os\nn = int(input())\nprint(2 * n + os.urandom(1)[0] % 2)',
    # What it prints is wrong each time, but not the same.
    'import time\nprint(time.time_ns())',
  ],
)
def test_a_program_that_passes_at_times(program):
  many = [(f'{n}\n', f'{2 * n}\n') for n in range(24)]
  fate = _golden(curate_code.task(many), DOUBLE, program)
  assert (fate.kind, fate.reason) == ('dropped', 'flaky')


@pytest.mark.parametrize(
  ('program', 'status'),
  [
    ('import os\nwhile True: os.fork()', 'RE'),
    ('while True: pass', 'TLE'),
    ('import time\ntime.sleep(1000)', 'TLE'),
    ("while True: print('x' * 1000000)", 'OLE|TLE'),
    ('x = []\nwhile True: x.append(bytearray(1 << 26))', 'MLE|TLE'),
    ('import os, signal\nos.kill(os.getpid(), 9)', 'RE'),
    ('import os\nos.kill(os.getppid(), 9)', 'RE'),
    ('\0', None),
    ('print "Python 2"', None),
    ('(' * 9000, None),
    ('x = ' + '-' * 60000 + '1', None),
  ],
)
def test_a_hostile_program_has_a_fate(program, status):
  start = time.monotonic()
  fate = _golden(
    curate_code.task(DOUBLES), program, seconds=0.25, budget_seconds=4.0
  )
  assert fate.kind == 'dropped'
  if status:
    assert fate.reason == 'golden fails'
    shown, test = fate.evidence['solutions'][0].split(' ', 1)
    assert test == 'test 1'
    assert shown in status.split('|')
  # The wall time of a submission with this budget, twice.
  assert time.monotonic() - start < 60


def test_programs_in_python_2_and_too_many_are_not_run():
  judge = curate_code.Judge()
  solutions = ['print 1', DOUBLE, DOUBLE, *(f'{DOUBLE}  # {i}' for i in '1234')]
  row = curate_code.row(curate_code.task(DOUBLES), *solutions)
  fate = curate_code.of(golden.golden(most=3), row, judge=judge)
  assert fate.row.solutions == (DOUBLE, f'{DOUBLE}  # 1', f'{DOUBLE}  # 2')
  assert len(judge.asked) == 3


def test_the_time_limit_has_room():
  """A program that takes a time t may take 4 t in training."""
  slow = (
    'import time\n'
    'while time.process_time() < 0.3: pass\n'
    'print(2 * int(input()))'
  )
  tests = DOUBLES[:2]
  fate = _golden(curate_code.task(tests, time_limit_seconds=0.5), slow, DOUBLE)
  limit = code_judge.task_of(fate.row.answer).time_limit_seconds
  assert 4 * 0.3 < limit <= 16
  # A limit that has room stays.
  fate = _golden(curate_code.task(tests, time_limit_seconds=30), slow)
  assert code_judge.task_of(fate.row.answer).time_limit_seconds == 30


def test_a_stored_task_gets_its_limit_too():
  tests = [*DOUBLES[:1], (f'4{" " * (1 << 17)}\n', '8\n')]
  row = curate_code.row(curate_code.task(tests, time_limit_seconds=0.4))
  fields = {'kind': 'stdin', 'time_limit_seconds': 0.4}
  records = [{'stdin': i, 'expected': o} for i, o in tests]
  answer = code.written(fields, iter(records))
  assert json.loads(answer).keys() == {'tests'}
  row = dataclasses.replace(row, answer=answer, solutions=(DOUBLE,))
  fate = curate_code.of(golden.golden(), row)
  task = code_judge.task_of(fate.row.answer)
  assert task.time_limit_seconds == 0.5
  assert [t.stdin for t in task.tests] == [i for i, _ in tests]


def test_an_answer_that_is_no_task_is_undecided():
  fate = _golden('{"kind": "stdin", "tests": []}', DOUBLE)
  assert (fate.kind, fate.reason) == ('undecided', 'not judged')
  assert 'without tests' in fate.evidence['why']


def test_rows_of_other_shards_are_kept():
  judge = curate_code.Judge()
  row = curate_code.row(curate_code.task(DOUBLES), 'print(1)')
  for step in (golden.golden(), strength.strength()):
    fate = curate_code.of(step, row, judge=judge, mine=lambda row_id: False)
    assert fate == values.kept(row)
  assert not judge.asked


def test_nothing_is_run_twice(tmp_path):
  """Through the pool, with the state that a curation has."""
  rows = [
    curate_code.row(curate_code.task(DOUBLES), DOUBLE, row_id='a'),
    curate_code.row(curate_code.task(DOUBLES), DOUBLE, row_id='b'),
    curate_code.row(curate_code.task(WORDS), 'print(1 // 0)', row_id='c'),
  ]
  found, asked = [], []
  for _ in range(2):
    with (
      state.State(tmp_path / 'state') as known,
      judging.Judges(known, 1) as judges,
    ):
      context = curate_code.context(judges.judge)
      fates = golden.golden().whole(rows, context)
      left = [f.row for f in fates if f.kind != 'dropped']
      fates += strength.strength().whole(left, context)
      found.append(fates)
      asked.append(judges.asked)
  assert found[0] == found[1]
  assert [f.kind for f in found[0]][:3] == ['changed', 'changed', 'dropped']
  assert asked[0] and not asked[1]
  # Equal rows share their verdicts.
  assert asked[0] == 2 + 3 + len(mutants.of(DOUBLE, 50))


# --- strength -----------------------------------------------------------------


def _strength(tests, solution, wrong=(), **arguments):
  row = curate_code.row(
    curate_code.task(tests), solution, wrong=wrong, golden={'times': ''}
  )
  return curate_code.of(strength.strength(**arguments), row)


CLAMP = """
def clamp(x, low, high):
  if x < low:
    return low
  if x > high:
    return high
  return x
print(clamp(*map(int, input().split())))
"""


def test_strong_tests():
  tests = [
    *(('5 0 9\n', '5\n'), ('-3 0 9\n', '0\n'), ('12 0 9\n', '9\n')),
    *(('0 0 9\n', '0\n'), ('9 0 9\n', '9\n')),
  ]
  fate = _strength(tests, CLAMP)
  assert fate.kind == 'changed'
  # Two of the mutants clamp as well: <= and >=.
  assert fate.evidence == {'programs': 7, 'failed': 5}
  # Both conditions and the last return, then one return each.
  assert fate.row.about['killers'] == [0, 1, 2]


def test_weak_tests():
  tests = [('5 0 9\n', '5\n'), ('6 0 9\n', '6\n')]
  fate = _strength(tests, CLAMP)
  assert (fate.kind, fate.reason) == ('dropped', 'weak tests')
  assert fate.evidence['programs'] == 7
  assert fate.evidence['failed'] == 3
  assert _strength(tests, CLAMP, share=0.42).kind == 'changed'
  assert _strength(tests, CLAMP, share=0.43).kind == 'dropped'


def test_programs_that_the_source_refused_count():
  tests = [('3\n', '6\n'), ('2\n', '4\n')]
  wrong = ['n = int(input())\nprint(n + n if n < 50 else n)', 'print 2']
  fate = _strength(tests, DOUBLE, wrong, share=1.0)
  assert fate.reason == 'weak tests'
  assert fate.evidence['passes'] == {'refused by the source': 1}
  tests.append(('60\n', '120\n'))
  assert _strength(tests, DOUBLE, wrong, share=1.0).kind == 'changed'


@pytest.mark.parametrize(
  ('answer', 'solution', 'name'),
  [
    (curate_code.task(WORDS), 'print(input())', 'its input'),
    (
      curate_code.task([('1\n', 'a\n'), ('2\n', 'a\n')]),
      "print('a')",
      "the first test's output",
    ),
    (
      curate_code.call_task([([[2, 1]], [2, 1])]),
      'def f(x): return list(x)',
      'its input',
    ),
    (
      curate_code.call_task([([1], None), ([2], None)]),
      'def f(x): x += 1',
      'an empty program',
    ),
    (
      curate_code.call_task([([1], 'é'), ([2], 'é')], fn='Solution().f'),
      "class Solution:\n  def f(self, x): return 'é'",
      "the first test's output",
    ),
  ],
)
def test_trivial_programs(answer, solution, name):
  row = curate_code.row(answer, solution)
  fate = curate_code.of(strength.strength(), row)
  assert fate.reason == 'trivial'
  assert name in fate.evidence['passes']


def test_a_solution_that_fails_has_no_mutants():
  """If `golden` only flags, its failures must not look like strong tests."""
  row = curate_code.row(curate_code.task(DOUBLES), 'print(1)')
  fate = curate_code.of(strength.strength(), row)
  assert fate.evidence == {'programs': 0, 'failed': 0}


def test_mutants_that_never_end_are_ended():
  program = """
n = int(input())
total = 0
while n > 0:
  total += n
  n -= 1
print(total)
"""
  tests = [(f'{n}\n', f'{n * (n + 1) // 2}\n') for n in (4, 0, 1, 9)]
  fate = _strength(tests, program)
  assert fate.kind == 'changed'


def test_killers_fail_all_that_any_test_fails():
  """The tests that are kept first are worth all tests."""
  rng = random.Random(0)
  inputs = [[rng.randint(-3, 9), 0, 5] for _ in range(20)]
  program = CLAMP.replace('print(clamp(*map(int, input().split())))', '')
  tests = [(i, sorted([i[0], 0, 5])[1]) for i in inputs]
  answer = curate_code.call_task(tests, fn='clamp')
  row = curate_code.row(answer, program, golden={'times': ''})
  fate = curate_code.of(strength.strength(share=0.0), row)
  some = len(fate.row.about['killers'])
  assert some < 6
  chosen = curate_code.of(tests_lib.tests(most=some), fate.row)
  assert len(code_judge.task_of(chosen.row.answer).tests) == some
  assert chosen.row.about == {}
  again = curate_code.of(
    strength.strength(share=0.0),
    dataclasses.replace(chosen.row, about=row.about),
  )
  assert again.evidence == fate.evidence


def test_tests_that_fail_trivial_programs_are_kept_too():
  """Else a constant would pass what is left: here the larger inputs."""
  tests = [('x' * 9, 'X' * 9), ('x' * 9 + ' x', 'X' * 9), ('y', 'Y')]
  row = curate_code.row(
    curate_code.task(tests), 'print(input().upper().split()[0])'
  )
  fate = curate_code.of(strength.strength(), row)
  assert fate.row.about['killers'] == [0, 2]
  chosen = curate_code.of(tests_lib.tests(most=2), fate.row)
  found = code_judge.task_of(chosen.row.answer).tests
  assert [t.stdin for t in found] == ['x' * 9, 'y']


def test_a_verdict_says_what_happened():
  answer = curate_code.task([*DOUBLES, ('x\n', 'y\n')])
  for twice in (True, False):
    verdict = trial.verify(trial.asked(DOUBLE, 5.0, twice), answer)
    assert verdict.status == 'wrong'
    said = trial.said(verdict)
    assert (said.status, said.test, said.flaky) == ('RE', 5, False)
