"""EvalPlus' files and comparison, on problems of our own."""

import json
import math
import random

import numpy as np
import pytest

from acereason_jax.evaluation import evalplus, evalplus_check
from acereason_jax.verifiers import code

pytestmark = pytest.mark.usefixtures('jails')


def _row(name, solution, base, plus=(), task_id='HumanEval/900', **fields):
  return {
    'task_id': task_id,
    'prompt': f'def {name}(*args):\n  """Text."""\n',
    'entry_point': name,
    'canonical_solution': solution,
    'base_input': list(base),
    'plus_input': list(plus),
    'atol': 0,
    'contract': '',
  } | fields


def _mbpp(name, source, base, number, **fields):
  return _row(
    name,
    source,
    base,
    task_id=f'Mbpp/{number}',
    prompt='"""Text."""\n',
    **fields,
  )


def _load(folder, *rows, tests='plus'):
  path = folder / 'Plus.jsonl'
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return evalplus.evalplus((str(path),), tests=tests)


def _verify(folder, row, program, tests='plus'):
  (problem,) = _load(folder, row, tests=tests).problems
  response = f'```python\n{program}\n```'
  verdict = code.verify(response, problem.row.answer, reasons=False)
  assert verdict.status in ('right', 'wrong'), verdict.detail
  return verdict.status == 'right'


def test_base_and_plus(tmp_path):
  row = _row('f', '  return max(args)\n', [[1, 2]], [[5, 3], [10**30, 0]])
  assert _verify(tmp_path, row, '  return max(args)')
  assert _verify(tmp_path, row, 'def f(a, b): return b', tests='base')
  assert not _verify(tmp_path, row, 'def f(a, b): return b')


def test_the_two_sets_are_groups(tmp_path):
  rows = [
    _row('f', '  return 1\n', [[1]], [[2]]),
    _mbpp('f', 'def f(a): return 1\n', [[1]], number=2),
  ]
  found = _load(tmp_path, *rows).problems
  assert [p.strata['set'] for p in found] == ['HumanEval', 'Mbpp']


def test_arguments_stay_as_they_are(tmp_path):
  # The reference and the program change their arguments.
  solution = '  args[0].append(1)\n  return len(args[0])\n'
  row = _row('f', solution, [[[]], [[]], [[7]]])
  assert _verify(tmp_path, row, solution)


@pytest.mark.parametrize(
  'reference, result, atol, right',
  [
    ('1.0', '1.0 + 1e-7', 0, True),
    ('1.0', '1.0 + 1e-5', 0, False),
    ('1.0', '1.0 + 1e-5', 1e-4, True),
    ('1.0', '1', 0, True),
    ('1.0000001', '1', 0, False),
    ('1e9', '1e9 + 50', 0, True),
    ('1e9', '1e9 + 200', 0, False),
    ('[1.0, 2.0]', '[1.0, 2.0 + 1e-7]', 0, True),
    ('[1.0, 2.0]', '(1.0, 2.0 + 1e-7)', 0, False),
    ('[1.0, 2.0]', '[1.0]', 0, False),
    ('[[1.0], [2.0]]', '[[1.0], [2.0 + 1e-7]]', 0, False),
    ('[[1.0], [2.0]]', '[[1.0], [2.0 + 1e-7]]', 1e-6, True),
    ('3', '3 + 1e-7', 0, False),
    ('(1, 2)', '[1, 2]', 0, False),
    ('(1, 2)', '(1, 2)', 0, True),
    ('[]', '()', 1e-6, False),
    ('{1: 2.0}', '{1: 2.0 + 1e-9}', 1e-6, False),
    ('float("inf")', 'float("inf")', 0, True),
    ('float("inf")', '1e300', 1e-4, False),
    ('1.0', 'float("nan")', 1e-4, False),
    ('float("nan")', 'float("nan")', 1e-4, False),
    ('True', '1', 0, True),
    ('None', 'False', 0, False),
    ('"a"', '"a "', 0, False),
    ('{1, 2}', '{2, 1}', 0, True),
  ],
)
def test_comparison(tmp_path, reference, result, atol, right):
  row = _row('f', f'  return {reference}\n', [[]], atol=atol)
  assert _verify(tmp_path, row, f'  return {result}') == right


def test_the_error_of_floats_holds_for_the_inputs_that_follow(tmp_path):
  reference = '  return (1.0, [1, 2.0])[args[0]]\n'
  program = '  return (1.0, [1, 2.0 + 5e-7])[args[0]]'
  for base, plus, right in (
    ([[0], [1]], [[0]], True),
    ([[1], [0]], [[0]], False),
    # Not from one list to the other.
    ([[0]], [[1]], False),
    ([[0]], [[0], [1]], True),
  ):
    row = _row('f', reference, base, plus_input=plus)
    assert _verify(tmp_path, row, program) == right


def test_near_is_numpys():
  draw = random.Random(0)
  special = [math.inf, -math.inf, math.nan, 0.0, 1, True]

  def number():
    return draw.choice(special) if draw.random() < 0.2 else draw.gauss(0, 9)

  agreed = 0
  for _ in range(3000):
    expected = [number() for _ in range(draw.randint(1, 3))]
    given = [
      number()
      if draw.random() < 0.1
      else e + draw.choice([0, 1e-9, 1e-6, 2e-6, 1e-4, 1.0])
      for e in expected
    ]
    atol = draw.choice([1e-6, 1e-4])
    near = evalplus_check.is_near(given, expected, atol)
    assert near == np.allclose(given, expected, rtol=1e-7, atol=atol)
    agreed += near
  assert 300 < agreed < 2700


def test_every_root_is_right(tmp_path):
  # (x - 1)(x - 2)(x - 3).
  solution = '  return 1.0\n'
  row = _row('find_zero', solution, [[[-6, 11, -6, 1]]], atol=1e-4)
  for root in ('1.0', '2.0', '3.00001', '3'):
    assert _verify(tmp_path, row, f'  return {root}')
  for other in ('1.5', '1.01', 'None', 'float("nan")', '"1"', '[1.0]'):
    assert not _verify(tmp_path, row, f'  return {other}')


@pytest.mark.parametrize(
  'number, base, seen',
  [
    ('116', [[1, 2]], '((1, 2),)'),
    ('143', [[[1], [2]]], '(([1], [2]),)'),
    ('63', [[[1, 2], [3]]], '([(1, 2), (3,)],)'),
    ('75', [[[1, 2]], 5], '([(1, 2)], 5)'),
    ('106', [[1], [2]], '([1], (2,))'),
    ('405', [[1], [2]], '((1,), [2])'),
    ('307', [[1], [2], 3], '((1,), [2], 3)'),
    ('259', [[[1], [2]]], '(((1,), (2,)),)'),
    ('278', [[1, [2, 3]]], '((1, (2, 3)),)'),
    ('278', [[1, [2, [3]]]], '((1, (2, [3])),)'),
    ('615', [[[1, [2]]]], '(((1, (2,)),),)'),
    ('115', [[[1, 1], [], {'a': 1}, 'b']], '([{1}, {}, {"a": 1}, "b"],)'),
    ('124', ['1', '2j'], '(1.0, 2j)'),
    ('252', ['(1-0j)'], '(complex("1-0j"),)'),
    ('722', [{'a': [1, 2]}, 3, 4], '({"a": (1, 2)}, 3, 4)'),
    ('9', [[1], [[2]]], '([1], [[2]])'),
  ],
)
def test_forms_of_arguments(tmp_path, number, base, seen):
  source = 'def f(*args):\n  return repr(args)\n'
  row = _mbpp('f', source, [base], number)
  assert _verify(tmp_path, row, f'def f(*args): return repr({seen})')
  assert not _verify(tmp_path, row, 'def f(*args): return repr(None)')


@pytest.mark.parametrize(
  'name, reference, right, wrong',
  [
    ('Diff', '[1, 2]', ['[2, 1, 1]', '{1, 2}', '(2, 1)'], ['[1]', '7']),
    ('sum_div', '12', ['12', '0'], ['1', 'None']),
    ('are_equivalent', 'True', ['False', '3'], []),
    (
      'check_str',
      're.match("a", "a")',
      ['True', 're.match("b", "b")', '"found"'],
      ['False', 'None', 're.match("b", "a")'],
    ),
    ('check_str', 'None', ['False', 'None'], ['True', '"found"']),
  ],
)
def test_problems_with_several_right_results(
  tmp_path, name, reference, right, wrong
):
  source = f'import re\ndef {name}(x):\n  return {reference}\n'
  row = _mbpp(name, source, [[1]], '901')
  for results, expected in ((right, True), (wrong, False)):
    for result in results:
      program = f'import re\ndef {name}(x):\n  return {result}\n'
      assert _verify(tmp_path, row, program) == expected, result


def test_two_readings_of_a_problem(tmp_path):
  # 102 and 25: digits side by side from the left, or from the right.
  left = 'def digit_distance_nums(a, b):\n  return 3 + 5\n'
  row = _mbpp('digit_distance_nums', left, [[102, 25]], '558')
  for result, right in ((8, True), (1 + 2 + 3, True), (7, False)):
    program = f'def digit_distance_nums(a, b): return {result}'
    assert _verify(tmp_path, row, program) == right
  # A pyramid with base 6, whose sides are 4 high, or whose top is.
  row = _mbpp(
    'surface_Area', 'def surface_Area(b, h):\n  return 84\n', [[6, 4]], '581'
  )
  for result, right in ((84, True), (36 + 60, True), (90, False)):
    program = f'def surface_Area(b, h): return {result}'
    assert _verify(tmp_path, row, program) == right


def test_hostile_values(tmp_path):
  row = _row('f', '  return 1.5\n', [[], []])
  liar = 'class Liar(float):\n  def __eq__(self, other): return True\n'
  liar += '  def __sub__(self, other): return 0\n'
  for program in (
    liar + 'def f(): return Liar(7)',
    'import os\nos.write(3, b"1.5")\nos._exit(0)\ndef f(): pass',
    'def assert_results(*a): pass\nREFERENCE = None\ndef f(): return 2.5',
    'import gc\ndef f():\n  return [o for o in gc.get_objects() if '
    'isinstance(o, dict) and "REFERENCE" in o][0]["REFERENCE"]()',
    'def f():\n  import reference\n  return reference.f()',
  ):
    assert not _verify(tmp_path, row, program)


def _deep(levels):
  value = []
  for _ in range(levels):
    value = [value]
  return value


def test_rows_that_cannot_be_used(tmp_path):
  solution = '  return 1\n'
  loaded = _load(
    tmp_path,
    _row('f', solution, [[]]),
    _row('f', solution, [], task_id='HumanEval/1'),
    _row('f', solution, [3], task_id='HumanEval/2'),
    _row('f', solution, [[]], task_id='HumanEval/3', plus_input={}),
    _row('f', solution, [[]], task_id='HumanEval/4', atol='1'),
    _row('f', solution, [[]], task_id='Other/5'),
    _mbpp('f', 'def f(): return 1', [['a', 'b']], '124'),
    _mbpp('f', 'def f(): return 1', [[10**4000]], '252'),
    _mbpp('f', 'def f(): return 1', [_deep(800)], '253'),
  )
  assert [p.row.id for p in loaded.problems] == ['HumanEval/900']
  assert [id_ for id_, _ in loaded.missing] == [
    *(f'HumanEval/{n}' for n in range(1, 5)),
    'Other/5',
    *('Mbpp/124', 'Mbpp/252', 'Mbpp/253'),
  ]
  reasons = [why for _, why in loaded.missing]
  assert reasons[2] == 'plus_input is no list'
  assert 'could not convert' in reasons[-3]
  assert 'too large' in reasons[-2]
  assert 'recursion' in reasons[-1]


def test_a_reference_that_raises_is_an_error(tmp_path):
  row = _row('f', '  return args[0] / args[1]\n', [[1, 2], [1, 0]])
  (problem,) = _load(tmp_path, row).problems
  verdict = code.reference('', problem.row.answer)
  assert verdict.status == 'error'
  program = '```python\ndef f(a, b): return 0.5\n```'
  verdict = code.verify(program, problem.row.answer, reasons=False)
  assert verdict.status == 'error'
  assert 'the reference raised ZeroDivisionError' in verdict.detail


def test_arguments_of_the_source(tmp_path):
  with pytest.raises(
    ValueError, match="tests='all': expected 'plus' or 'base'"
  ):
    _load(tmp_path, tests='all')
  row = _row('f', '', [[]])
  del row['atol'], row['plus_input']
  with pytest.raises(ValueError, match=':1: no field plus_input, atol; it has'):
    _load(tmp_path, row)
