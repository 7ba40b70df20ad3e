"""The judge of code: what it reads, runs, compares and says.

Expectations are made by hand. Deadlines here are hang guards, not timings.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import psutil
import pytest
import test_jail

from acereason_jax.data import sources
from acereason_jax.verifiers import code
from acereason_jax.verifiers.pool import process
from acereason_jax.verifiers.pool.pool import VerifierPool
from acereason_jax.verifiers.programs import (
  block,
  compare,
  jail,
  running,
  tasks,
)

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

GUARD = 120
ADD = 'a, b = map(int, input().split())\nprint(a + b)'
SUMS = {
  'kind': 'stdin',
  'tests': [
    {'stdin': '1 2\n', 'expected': '3\n'},
    {'stdin': '10 -4\n', 'expected': '6\n'},
    {'stdin': '0 0\n', 'expected': '0\n'},
  ],
}
CALL = {'kind': 'call', 'fn': 'add', 'tests': [{'args': [1, 2], 'expected': 3}]}


pytestmark = pytest.mark.usefixtures('jails')


@pytest.fixture(autouse=True)
def _nothing_remembered():
  code._memo.clear()
  code._kills.clear()


def _response(program, before='thought </think> So:\n'):
  return f'{before}```python\n{program}\n```\n'


def _verify(program, task=SUMS, **kwargs):
  return code.verify(_response(program), json.dumps(task), **kwargs)


def _stdin_task(stdin, expected, **fields):
  tests = [{'stdin': stdin, 'expected': expected}]
  return {'kind': 'stdin', 'tests': tests, **fields}


@pytest.fixture
def runs(monkeypatch):
  """The inputs of the runs so far."""
  seen = []
  original = jail.Jail.run

  def run(self, program, stdin, limits, fn='', args=(), how=''):
    seen.append(stdin)
    return original(self, program, stdin, limits, fn, args, how)

  monkeypatch.setattr(jail.Jail, 'run', run)
  return seen


# --- extraction -------------------------------------------------------------


@pytest.mark.parametrize(
  ('response', 'expected'),
  [
    ('</think>```python\na\n```', 'a\n'),
    ('x</think>\n```python\na\n```\n```python\nb\n```\n', 'b\n'),
    ('```python\na\n```</think>```python\nb\n```', 'b\n'),
    ('```python\na\n```', None),
    ('```python\na\n```</think> none', None),
    ('</think>```python\na\n```\n</think>```python\nb\n```', 'b\n'),
    ('</think>```python\n```', ''),
    ('</think>\r\n```python\r\na\r\nb\r\n```\r\n', 'a\r\nb\r\n'),
    ('</think>```py\na\n```', 'a\n'),
    ('</think>```python3\na\n```', 'a\n'),
    ('</think>```Python\na\n```', 'a\n'),
    ('</think>``` python \na\n``` ', 'a\n'),
    ('</think>\n  ```python\n  a\n  ```\n', 'a\n'),
    ('</think>\n\t```python\na\n```', 'a\n'),
    ('</think>```python\na\n``` # no end\nb\n```', 'a\n``` # no end\nb\n'),
    ('</think>```python\nx = """\n ~~~\n"""\n```', 'x = """\n ~~~\n"""\n'),
    ('</think>```python\nx = "```"\n```', 'x = "```"\n'),
    ('</think>```python\na', None),
    ('</think>```python\na```', None),
    ('</think>```python\na\n```\n```python\nb', 'a\n'),
    ('</think>```\na\n```', None),
    ('</think>```c++\na\n```', None),
    ('</think>```python\na\n```\n```c\nint x;\n```\n', 'a\n'),
    ('</think>```pythonic\na\n```', None),
    ('</think>```python a\n```', ''),
    ('</think>print(1)', None),
    ('</think>', None),
    ('', None),
  ],
)
def test_extraction(response, expected):
  # A fence begins a line.
  response = response.replace('</think>```', '</think>\n```')
  assert block.extract(response, reasons=True) == expected


def test_without_reasons_the_whole_response_counts():
  response = '```python\na\n```\nso </think>'
  assert block.extract(response, reasons=False) == 'a\n'
  assert block.extract(response, reasons=True) is None


@pytest.mark.parametrize(
  'text',
  [
    '`' * (1 << 20),
    '```python\n' * (1 << 17),
    '```\n' * (1 << 18),
    ' ' * (1 << 20),
    ('\t' * 1000 + '\n') * 1000,
    '```python\n' + ' \n' * (1 << 19),
    '```python\n' + ' ```x\n' * (1 << 17),
    '~' * (1 << 20),
    '~~~python\n' * (1 << 16),
    '- ' * (1 << 19),
    '> ' * (1 << 19),
    '1) ' * (1 << 18) + '```python',
    '```python\n' + '"' * (1 << 20) + '\n```',
    '```python\n' + '\\"' * (1 << 19) + '\n```',
    '```python\n' + "#'" * (1 << 19) + '\n```',
    '```python\n' + '"""\n```\n' * (1 << 16),
    '```python\n"""\n' + "'''\n```\n```python\n" * (1 << 15),
    "```python\n'''\n```\n" * (1 << 15) + '```python\n"""\n```\n',
    ''.join('`' * (3 + i) + 'python\n' for i in range(1400)),
    ' ' * (1 << 18) + '```python\n' + (' ' * (1 << 12) + 'x\n') * 128 + '```',
    '```python\n```\n' * (1 << 15) + '```python',
  ],
)
def test_extraction_is_linear(text):
  begin = time.process_time()
  block.extract(f'</think>\n{text}', reasons=True)
  # A quadratic one takes minutes.
  assert time.process_time() - begin < 10


# --- tasks ------------------------------------------------------------------


@pytest.mark.parametrize(
  'task',
  [
    SUMS,
    CALL,
    CALL | {'fn': 'Solution().add'},
    SUMS | {'time_limit_seconds': 0.5, 'memory_bytes': 1 << 28},
    SUMS | {'float_tol': 0},
    {'kind': 'stdin', 'tests': []},
    {'kind': 'stdin', 'tests': [{'stdin': '\ud800\0', 'expected': 'é\n'}]},
    {
      'kind': 'call',
      'fn': 'f',
      'tests': [{'args': [None, {'a': [1.5]}], 'expected': None}],
    },
  ],
)
def test_tasks_survive_json(task):
  read = tasks.CodeTask.from_json(json.dumps(task))
  assert tasks.CodeTask.from_json(read.to_json()) == read
  given = json.loads(read.to_json())
  for field in task:
    assert field == 'tests' or given[field] == task[field]
  assert len(read.tests) == len(task['tests'])


def test_defaults():
  task = tasks.CodeTask.from_json(json.dumps(SUMS))
  assert task.time_limit_seconds == 6.0
  assert task.memory_bytes == 1 << 30
  assert task.float_tol == 0.0
  assert task.float_error == 'either'
  assert task.fn == ''
  assert task.tests[1] == tasks.Test('10 -4\n', (), '6\n')


BAD = [
  '',
  '{',
  '[]',
  '3',
  'null',
  '"text"',
  '[' * 100_000,
  '{"a":' * 100_000,
  '1' * 10_000,
  '{"kind": "stdin"}',
  '{"kind": "stdin", "tests": 3}',
  '{"kind": "stdin", "tests": {}}',
  *(
    json.dumps(SUMS | fields)
    for fields in (
      {'kind': 'other'},
      {'kind': None},
      {'kind': ['stdin']},
      {'kind': 'call'},
      {'fn': 'f'},
      {'unknown': 1},
      {'time_limit_seconds': 0},
      {'time_limit_seconds': -1},
      {'time_limit_seconds': 601},
      {'time_limit_seconds': '6'},
      {'time_limit_seconds': None},
      {'time_limit_seconds': True},
      {'time_limit_seconds': float('nan')},
      {'time_limit_seconds': float('inf')},
      {'memory_bytes': 1 << 19},
      {'memory_bytes': 1 << 37},
      {'memory_bytes': 1.5e9},
      {'memory_bytes': 'much'},
      {'float_tol': -1},
      {'float_tol': 1},
      {'float_tol': float('nan')},
      {'float_tol': []},
      {'float_error': 'any'},
      {'float_error': []},
      {'tests': [3]},
      {'tests': [[]]},
      {'tests': [{}]},
      {'tests': [{'stdin': ''}]},
      {'tests': [{'stdin': 3, 'expected': ''}]},
      {'tests': [{'stdin': '', 'expected': 3}]},
      {'tests': [{'stdin': '', 'expected': None}]},
      {'tests': [{'stdin': '', 'expected': '', 'args': 3}]},
    )
  ),
  *(
    json.dumps(CALL | {'fn': fn})
    for fn in (
      '',
      None,
      3,
      'a b',
      'a.b',
      'Solution.add',
      'Solution().',
      'f()',
      'f\n',
      '1a',
      '__import__("os")',
      'é',
    )
  ),
  json.dumps(CALL | {'tests': [{'args': {'a': 1}, 'expected': 3}]}),
]


@pytest.mark.parametrize('text', BAD, ids=lambda text: ascii(text[:70]))
def test_a_bad_task_is_one_line(text, runs):
  with pytest.raises(ValueError) as e:
    tasks.CodeTask.from_json(text)
  message = str(e.value)
  assert message.strip()
  assert '\n' not in message
  assert len(message) < 400
  for verdict in (code.verify(_response(ADD), text), code.reference('', text)):
    assert verdict.status == 'error'
    assert verdict.detail.isprintable()
    assert verdict.detail.isascii()
  assert not runs


def test_no_tests_is_an_error(runs):
  verdict = _verify(ADD, {'kind': 'stdin', 'tests': []})
  assert verdict.status == 'error'
  assert 'without tests' in verdict.detail
  assert not runs


def test_reference():
  assert code.reference('anything', json.dumps(SUMS)).status == 'right'


# --- comparing --------------------------------------------------------------


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', ''),
    ('\n\n', ''),
    ('3', '3\n'),
    ('3 \n', '3'),
    ('\n\n3\n', '3'),
    ('3\n\n\n', '3'),
    ('  3\n\t4  \n', '3\n4'),
    ('3\r\n4\r\n', '3\n4\n'),
    ('1  2\t3', '1 2 3'),
    ('a\n\nb', 'a\n\nb'),
    ('a\n   \nb', 'a\n\nb'),
    ('2.0', '2'),
    ('2', '2.0'),
    ('2.50', '2.5'),
    ('-0', '0'),
    ('-0.0', '0.0'),
    ('1e-3', '0.001'),
    ('1.0000001', '1'),
    ('1E+3', '1000.0'),
    ('.5', '0.5'),
    ('5.', '5'),
    ('0.3333334', '0.333333333'),
    ('1000000.4', '1000000.5'),
    ('0.0000001', '0.0'),
    ('x 0.10000001 y', 'x 0.1 y'),
    ('1' * 900, '1' * 900),
    ('1' * 5000, '1' * 5000),
    ('é', 'é'),
    ('nan', 'nan'),
    ('inf', 'inf'),
  ],
)
def test_texts_that_are_the_same(given, expected):
  assert compare.printed(given.encode(), expected, 1e-6) == ''


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', '3'),
    ('3', ''),
    ('3', '4'),
    ('3\n4', '3'),
    ('3', '3\n4'),
    ('3 4', '3\n4'),
    ('3\n4', '3 4'),
    ('34', '3 4'),
    ('a\nb', 'a\n\nb'),
    ('a\n\nb', 'a\nb'),
    ('YES', 'Yes'),
    ('Yes', 'YES'),
    ('1000000000000000001', '1000000000000000000'),
    ('1.00001', '1'),
    ('+3', '3'),
    ('007', '7'),
    ('1e3', '1000'),
    ('0.1', '0.2'),
    ('0.33333', '0.333333333'),
    ('1000002', '1000000.0'),
    ('1e400', '1e401'),
    ('1e99999', '1.0'),
    ('inf', '1e308'),
    ('nan', '0.0'),
    ('0.0', 'nan'),
    ('1_000', '1000'),
    ('\uff11', '1'),
    ('\u0663', '3'),
    ('0x10', '16'),
    ('1,000', '1000'),
    ('3+0', '3'),
    ('True', '1'),
    ('1' * 5000 + '2', '1' * 5000 + '3'),
    ('[1,2]', '[1, 2]'),
    ('é', 'e'),
    ('3\0', '3'),
    ('\ufeff3', '3'),
  ],
)
def test_texts_that_differ(given, expected):
  difference = compare.printed(given.encode(), expected, 1e-6)
  assert difference
  assert difference.isprintable()
  assert difference.isascii()


def test_the_first_difference_is_named():
  difference = compare.printed(b'1\n2\n4\n', '1\n3\n5', 1e-6)
  assert difference == "line 2: got '2', expected '3'"
  difference = compare.printed(b'1\n2\n', '1', 1e-6)
  assert difference == '2 lines, expected 1'


def test_bytes_that_are_no_text():
  assert compare.printed(b'\xff\xfe3', '3', 1e-6)


@pytest.mark.parametrize(
  'differ, given, expected',
  [
    (compare.returned, b'[' + b'[[]],' * 150_000 + b'0]', [1] * 20_000),
    (compare.returned, b'[' + b'{},' * 300_000 + b'0]', ['x'] * 10_000),
    (compare.returned, b'[' + b'"ab",' * 200_000 + b'0]', 'x' * 50_000),
    (compare.printed, b'xy ' * 300_000, 'ab ' * 20_000),
  ],
)
def test_a_hostile_answer_does_not_fill_the_judges_memory(
  differ, given, expected
):
  # The judge would fail, and a failure is not a wrong answer.
  tracemalloc.start()
  try:
    assert differ(given, expected, 1e-6)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 12 * len(given)


def test_a_long_answer_is_compared_as_a_short_one():
  expected = [['a,[{', i, {'k': None}] for i in range(10_000)]
  given = json.dumps(expected).encode()
  assert len(given) > 100_000
  assert compare.returned(given, expected, 0.0) == ''
  assert compare.returned(given.replace(b' 77,', b' 77.0,'), expected, 0) == ''
  assert compare.returned(given.replace(b' 77,', b' 78,'), expected, 0.0)
  assert compare.returned(given.replace(b' 77,', b' [77],'), expected, 0.0)


def test_tolerance():
  assert compare.printed(b'0.51', '0.5', 0.1) == ''
  assert compare.printed(b'0.5000001', '0.5', 0.0)
  assert compare.printed(b'0.50', '0.5', 0.0) == ''
  assert compare.returned(b'0.51', 0.5, 0.1) == ''
  assert compare.returned(b'0.5000001', 0.5, 0.0)


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('3', 3),
    ('-0', 0),
    ('2.0', 2),
    ('2', 2.0),
    ('0.30000000000000004', 0.3),
    ('1000000.4', 1000000.5),
    ('[1, 2]', [1, 2]),
    ('[[1.0], []]', [[1], []]),
    ('true', True),
    ('true', 1),
    ('1', True),
    ('false', 0),
    ('0', False),
    ('{"a": true}', {'a': 1}),
    ('1.0000001', 1),
    ('null', None),
    ('"a"', 'a'),
    ('"\\u00e9"', 'é'),
    ('{"a": 1, "b": [2]}', {'b': [2], 'a': 1}),
    ('{}', {}),
    ('Infinity', float('inf')),
    (str(10**400), 10**400),
  ],
)
def test_values_that_are_the_same(given, expected):
  assert compare.returned(given.encode(), expected, 1e-6) == ''


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('', 3),
    ('', None),
    ('nothing', None),
    ('3 3', 3),
    ('4', 3),
    ('null', 0),
    ('null', False),
    ('0', None),
    ('"3"', 3),
    ('3', '3'),
    ('[]', None),
    ('[]', {}),
    ('{}', []),
    ('""', None),
    ('[1]', [1, 2]),
    ('[1, 2]', [1]),
    ('[2, 1]', [1, 2]),
    ('[[1]]', [1]),
    ('{"a": 1}', {'a': 2}),
    ('{"a": 1}', {'b': 1}),
    ('{"a": 1, "b": 1}', {'a': 1}),
    ('"A"', 'a'),
    ('"a "', 'a'),
    ('1.0001', 1),
    ('1000000000000000001', 1000000000000000000),
    ('NaN', 0),
    ('NaN', float('nan')),
    ('Infinity', 1e308),
    ('Infinity', float('-inf')),
    ('1e999', 10**400),
    (str(10**400), 1.5),
    (str(10**400), 10**400 + 1),
    ('[' * 100_000, []),
    ('[' * 900 + ']' * 900, []),
    ('{"a":' * 100_000, {}),
    ('1' * 5000, 1),
    ('1' * 200_000, 1),
    ('\xff', 'a'),
  ],
)
def test_values_that_differ(given, expected):
  difference = compare.returned(given.encode('latin-1'), expected, 1e-6)
  assert difference
  assert difference.isprintable()
  assert difference.isascii()


def test_deep_values_are_not_the_same_for_fear_of_their_depth():
  nested = []
  for _ in range(70):
    nested = [nested]
  assert compare.returned(json.dumps(nested).encode(), nested, 1e-6)


@pytest.mark.parametrize(
  'stdout',
  [b'a\n', b'ab\n', b'\n', b'1 ', b'ab ', '\U0001f600'.encode(), b'\xff'],
)
def test_much_output_takes_little_memory(stdout):
  """Else programs would choose to have no verdict."""
  before = psutil.Process().memory_info().rss
  difference = compare.printed(stdout * (20 << 20), 'a\nb', 1e-6)
  assert difference
  value = b'[' + b'[],' * (20 << 20) + b'0]'
  assert compare.returned(value, [0], 1e-6)
  assert psutil.Process().memory_info().rss < before + (600 << 20)


# --- statuses ---------------------------------------------------------------

QUICK = {'time_limit_seconds': 0.3}
STATUSES = {
  'right': (ADD, 'AC'),
  'wrong output': ('print(3)', 'WA'),
  'no output': ('', 'WA'),
  'one line more': (f'{ADD}\nprint(0)', 'WA'),
  'loop': ('while True: pass', 'TLE'),
  'loop after the answer': (f'{ADD}\nwhile True: pass', 'TLE'),
  'sleep': ('import time\ntime.sleep(99)', 'TLE'),
  'memory': ('x = bytearray(9 << 30)', 'MLE'),
  'memory, slowly': ('x = []\nwhile True: x.append(bytes(1 << 24))', 'MLE'),
  'exception': (f'{ADD}\n1 / 0', 'RE'),
  'exit status': (f'{ADD}\nexit(1)', 'RE'),
  'segmentation fault': (f'{ADD}\nimport ctypes\nctypes.string_at(0)', 'RE'),
  'syntax': ('print(', 'RE'),
  'null byte': (f'{ADD}\0', 'RE'),
  'surrogate': (f'{ADD}\n"\ud800"', 'RE'),
  'wrong encoding': (f'# coding: none\n{ADD}', 'RE'),
  'output': ('while True: print("x" * 1_000_000)', 'OLE'),
  'byte order mark': (f'\ufeff{ADD}', 'AC'),
  'carriage returns': (ADD.replace('\n', '\r\n'), 'AC'),
  'unicode': (f'été = "\U0001f600"\n{ADD}', 'AC'),
  'exit': (f'{ADD}\nexit()', 'AC'),
  'long': (f'{ADD}\n{"#" * 250_000}', 'AC'),
  'too long': (f'{ADD}\n{"#" * (1 << 20)}', 'NO_CODE'),
}
VERDICTS = {'AC': 'right', 'NO_CODE': 'unparsed', 'SANDBOX_ERROR': 'error'}


@pytest.mark.parametrize('tier', jail.TIERS)
@pytest.mark.parametrize('name', STATUSES)
def test_statuses(name, tier):
  program, status = STATUSES[name]
  # Only who takes too long needs a limit that ends soon: the machine is busy.
  task = SUMS | QUICK if status == 'TLE' else SUMS
  try:
    verdict = _verify(program, task, tier=tier, budget_seconds=3.0)
  except jail.SandboxError as e:
    pytest.skip(str(e))
  if verdict.status == 'error':
    pytest.skip(verdict.detail)
  assert verdict.detail.split()[0] == status, verdict
  assert verdict.status == VERDICTS.get(status, 'wrong')
  assert verdict.detail.isprintable()
  assert verdict.detail.isascii()
  assert len(verdict.detail) < 300
  assert verdict.reward == (status == 'AC')


def test_details():
  assert _verify(ADD).detail == 'AC 3 tests'
  detail = _verify('print(3)').detail
  assert detail == "WA test 2: line 1: got '3', expected '6'"
  code._kills.clear()
  assert _verify('1 / 0').detail == (
    'RE test 1: ZeroDivisionError: division by zero'
  )
  assert _verify('exit(7)').detail == 'RE test 1: exit status 7'
  assert _verify('raise Exception("\\x1b[31m\\u2028\\n")').detail.isprintable()
  assert code.verify('</think>', json.dumps(SUMS)).detail.startswith('NO_CODE')


def test_calls():
  assert _verify('def add(a, b): return a + b', CALL).detail == 'AC 1 tests'
  program = 'class Solution:\n  def add(self, a, b): return a + b'
  task = CALL | {'fn': 'Solution().add'}
  assert _verify(program, task).status == 'right'
  assert _verify(program, CALL).status == 'right'
  assert _verify('', CALL).detail.startswith('RE test 1: KeyError')
  verdict = _verify('def add(a, b): print(a + b)', CALL)
  assert verdict.detail == "WA test 1: got 'null', expected '3'"
  verdict = _verify('def add(a, b): return {a + b}', CALL)
  assert verdict.detail == 'WA test 1: returned nothing that JSON can say'


def test_a_call_cannot_answer_by_output():
  program = 'import os\nos.write(3, b"3")\ndef add(a, b): return 4'
  assert _verify(program, CALL).status == 'wrong'


def test_explain():
  verdict = code.explain(_response('print(3)'), json.dumps(SUMS))
  lines = verdict.detail.splitlines()
  assert verdict.status == 'wrong'
  assert lines[1].split()[0] in jail.TIERS
  assert [line.split(':')[0] for line in lines[2:5]] == [
    f'test {i}' for i in (1, 2, 3)
  ]
  assert ' AC ' in lines[2]
  assert ' WA ' in lines[3]
  assert lines[-1].startswith('decided by: WA test 2')
  verdict = code.explain(_response('1 / 0'), json.dumps(SUMS))
  assert 'ZeroDivisionError' in verdict.detail
  assert code.explain('', json.dumps(SUMS)).status == 'unparsed'
  assert code.explain(_response(ADD), '{').status == 'error'


TIGHT = SUMS | {'time_limit_seconds': 1.0, 'memory_bytes': 64 << 20}
AT_10 = 'a, b = map(int, input().split())\n{}\nprint(a + b)'


@pytest.mark.parametrize(
  'program, task, status, got, given, expected',
  [
    ('print(3)', SUMS, 'WA', r"'3\n'", r"'10 -4\n'", r"'6\n'"),
    (
      'print("\\x1b[31m\\u202e\\x00")',
      SUMS,
      'WA',
      r"'\x1b[31m\u202e\x00\n'",
      r"'1 2\n'",
      r"'3\n'",
    ),
    (
      AT_10.format('1 / (a - 10)'),
      SUMS,
      'RE',
      'RE ZeroDivisionError: division by zero',
      r"'10 -4\n'",
      r"'6\n'",
    ),
    (
      AT_10.format('while a == 10: pass'),
      TIGHT,
      'TLE',
      'TLE 1.',
      r"'10 -4\n'",
      r"'6\n'",
    ),
    (
      AT_10.format('x = [0] * (10 ** 9 if a == 10 else 1)'),
      TIGHT,
      'MLE',
      'MLE ',
      r"'10 -4\n'",
      r"'6\n'",
    ),
    (
      'def plus(a, b): return a + b',
      CALL,
      'RE',
      "RE KeyError: 'add'",
      'add(1, 2)',
      "'3'",
    ),
    (
      'def add(a, b): return str(a + b)',
      CALL,
      'WA',
      """'"3"'""",
      'add(1, 2)',
      "'3'",
    ),
  ],
)
def test_explain_shows_the_first_failed_test(
  program, task, status, got, given, expected
):
  detail = code.explain(_response(program), json.dumps(task)).detail
  assert all(c.isprintable() or c == '\n' for c in detail)
  lines = detail.splitlines()
  said = dict(line.split(': ', 1) for line in lines if ': ' in line)
  number = 1 if given != r"'10 -4\n'" else 2
  assert said['first failed test'] == f'{number}'
  assert said[f'test {number}'].startswith(f'{status} ')
  assert (said['input'], said['expected']) == (given, expected)
  assert said['got'].startswith(got)
  limits = '6 s CPU, 28 s wall and 1024 MiB a test; 60 s CPU for all tests'
  if task is TIGHT:
    limits = '1 s CPU, 8 s wall and 64 MiB a test; 60 s CPU for all tests'
  assert said['limits'] == limits
  assert lines[-1].startswith(f'decided by: {status} test {number}')


def test_explain_cuts_what_is_long(runs):
  """Each part to 2 KB; tests after the third failure are not run."""
  tests = [{'stdin': f'{i}\n', 'expected': f'{i}\n'} for i in range(30)]
  tests += [{'stdin': '7' * 5000, 'expected': '\u202e' * 5000}] * 40
  task = json.dumps(SUMS | {'tests': tests})
  program = 'x = input()\nprint(x if len(x) < 9 else x * 9)'
  detail = code.explain(_response(program), task).detail
  lines = detail.splitlines()
  assert len(detail) < 10_000 and all(len(line) < 2200 for line in lines)
  assert any(l.startswith('tests 21 to 30: AC, each 0.') for l in lines)
  assert [l for l in lines if ' WA ' in l and l.startswith('test ')] != []
  assert lines[-6] == 'first failed test: 31'
  assert lines[-5].endswith('777 ... cut, of 5,000 characters')
  assert lines[-4].endswith(' ... cut, of 5,000 characters')
  assert lines[-3].endswith('777 ... cut, of 45,001 characters')
  assert 'not run: the other 37 tests' in lines
  assert len(runs) == 31 + 33


# --- what is run ------------------------------------------------------------


def test_the_first_failure_ends_it(runs):
  program = 'a, b = map(int, input().split())\nprint(3)'
  assert _verify(program).status == 'wrong'
  assert runs == [b'1 2\n', b'10 -4\n']


def test_tests_that_failed_others_run_first(runs):
  only_last = 'a, b = map(int, input().split())\nprint(a + b or "zero")'
  first = _verify(only_last)
  assert runs == [b'1 2\n', b'10 -4\n', b'0 0\n']
  runs.clear()
  # Another program that fails there: one run, and the same words.
  second = _verify(f'{only_last} # again')
  assert runs == [b'0 0\n']
  assert second.detail == first.detail
  runs.clear()
  assert _verify(ADD).detail == 'AC 3 tests'
  assert runs == [b'0 0\n', b'1 2\n', b'10 -4\n']


def test_another_task_has_its_own_order(runs):
  _verify('print(int(input().split()[0]) or "zero")')
  runs.clear()
  other = SUMS | {'time_limit_seconds': 5}
  _verify(ADD, other)
  assert runs[0] == b'1 2\n'


@pytest.mark.parametrize('program', [ADD, 'print(3)', '1 / 0', 'print('])
def test_the_same_program_is_run_once(program, runs):
  first = _verify(program)
  count = len(runs)
  again = _verify(program)
  assert (again.status, again.detail) == (first.status, first.detail)
  assert len(runs) == count
  _verify(f'{program} ')
  assert len(runs) > count


def test_time_is_not_remembered(runs):
  program = 'while True: pass'
  for _ in range(2):
    assert _verify(program, SUMS | QUICK).detail.startswith('TLE')
  assert len(runs) == 2


def test_memory_is_bounded(monkeypatch):
  monkeypatch.setattr(code, '_REMEMBERED', 3)
  for i in range(6):
    _verify(f'print({i})', _stdin_task('', str(i)))
  assert len(code._memo) == len(code._kills) == 3


def test_a_confined_worker_is_told_that_it_runs_nothing():
  path = 'acereason_jax.verifiers.code:verify'
  with pytest.raises(ValueError, match='confine=True: this judge starts'):
    VerifierPool(path, {}, 1, 300.0, confine=True)


def test_the_budget_of_a_submission(runs):
  tests = [{'stdin': str(i), 'expected': ''} for i in range(100)]
  task = {'kind': 'stdin', 'tests': tests}
  program = 'import time\nwhile time.process_time() < 0.2: pass'
  verdict = _verify(program, task, budget_seconds=1.0)
  assert verdict.status == 'wrong'
  assert verdict.detail.startswith('TLE')
  assert 5 <= len(runs) <= 7


def _asleep_task(count, seconds=1.0, **fields):
  tests = [{'stdin': str(i), 'expected': ''} for i in range(count)]
  return dict(kind='stdin', tests=tests, time_limit_seconds=seconds, **fields)


@pytest.mark.parametrize(
  'program',
  [
    'import time\ntime.sleep(0.7)',
    'import threading\nthreading.Event().wait(0.7)',
    'import select\nselect.select([], [], [], 0.7)',
    'import time\nfor _ in range(70): time.sleep(0.01)',
    'import asyncio\nasyncio.run(asyncio.sleep(0.7))',
    'import atexit, time\natexit.register(time.sleep, 0.7)',
    'import threading, time\nt = threading.Thread(target=time.sleep, args='
    '(0.7,))\nt.start()\nt.join()',
    'import signal\nsignal.signal(14, lambda *a: None)\n'
    'signal.setitimer(signal.ITIMER_REAL, 0.7)\nsignal.pause()',
    'import os, time\nif os.fstat(0).st_size: time.sleep(0.7)',
  ],
)
def test_sleep_is_charged_to_the_submission(program, runs):
  """A second a test, and two in all: three of any number of tests."""
  verdict = _verify(program, _asleep_task(50))
  assert verdict.status == 'wrong'
  assert verdict.detail.startswith('TLE')
  # Less is counted where the machine is very busy.
  assert 4 <= len(runs) < 50


def test_the_budget_of_sleep_is_bounded_by_that_of_all_tests(runs):
  task = _asleep_task(50, seconds=100.0)
  verdict = _verify('import time\ntime.sleep(1)', task, budget_seconds=2.0)
  assert verdict.detail.startswith('TLE')
  # By wall time, 12 seconds, it would be twelve.
  assert 4 <= len(runs) < 11


@pytest.mark.parametrize('name', ['cpu_seconds', 'asleep_seconds', '_deadline'])
@pytest.mark.parametrize('left', [1e-6, 1e-3, 0.02])
def test_a_rest_of_a_budget_is_no_error_of_the_sandbox(name, left):
  """A run that ends before it is confined would be one."""
  task = tasks.CodeTask('stdin', (tasks.Test('', (), 'x'),))
  for _ in range(3):
    budget = running.Budget(task, 60.0)
    now = time.monotonic() if name == '_deadline' else 0.0
    setattr(budget, name, now + left)
    ran = running.run_test('print("x")', task, 0, 'auto', budget)
    assert ran.status in ('AC', 'TLE'), ran


def test_who_sleeps_little_is_right(runs):
  program = 'import time\ntime.sleep(0.02)'
  assert _verify(program, _asleep_task(40)).status == 'right'
  assert len(runs) == 40


def test_a_busy_machine_is_no_sleep():
  """Many short tests, while others take the cores."""
  with test_jail.busy_cores():
    budget = running.Budget(tasks.CodeTask('stdin', ()), 60.0)
    task = tasks.CodeTask('stdin', (tasks.Test('', (), 'x'),))
    left = budget.asleep_seconds
    for _ in range(40):
      ran = running.run_test('print("x")', task, 0, 'auto', budget)
      assert ran.status == 'AC', ran
  # It had 8 seconds.
  assert budget.asleep_seconds > left - 1


def test_a_worker_says_what_holds_its_programs():
  try:
    line = code.prepare_worker(300.0, False, reasons=True)
  except ValueError as e:
    pytest.skip(str(e))
  assert line.startswith(('programs: T3 landlock=', 'programs: T2 landlock='))
  with pytest.raises(ValueError, match="'T9'"):
    code.prepare_worker(300.0, False, tier='T9')
  with pytest.raises(ValueError, match=r'=60: with budget_seconds=60 .* 244 s'):
    code.prepare_worker(60.0, False)


@pytest.mark.parametrize(
  ('seconds', 'count'),
  [((1.1, 0.5), 2), ((1.1, 1.1), 2), ((1.5,), 1), ((0.9,), 1)],
)
def test_near_the_limit_it_runs_again(seconds, count, monkeypatch):
  asked = []

  class Measured:
    tier = 'T3'

    def run(self, *_):
      asked.append(1)
      used = seconds[len(asked) - 1]
      return jail.Outcome(0, False, used, used, 1 << 20, '', b'3', b'', b'')

  monkeypatch.setattr(running, 'started_jail', lambda tier: Measured())
  task = _stdin_task('', '3', time_limit_seconds=1)
  verdict = _verify('any', task)
  assert len(asked) == count
  assert verdict.status == ('right' if seconds[-1] < 1 else 'wrong')


def test_each_run_is_paid_for(monkeypatch):
  seconds = iter([1.1, 0.5, 1.1, 0.5, 1.1, 0.5])

  class Measured:
    tier = 'T3'

    def run(self, *_):
      used = next(seconds)
      return jail.Outcome(0, False, used, used, 1 << 20, '', b'3', b'', b'')

  monkeypatch.setattr(running, 'started_jail', lambda tier: Measured())
  tests = [{'stdin': '', 'expected': '3'}] * 3
  task = {'kind': 'stdin', 'tests': tests, 'time_limit_seconds': 1}
  verdict = _verify('any', task, budget_seconds=3.5)
  assert verdict.status == 'wrong'
  assert verdict.detail.startswith('TLE test 3')
  assert len(list(seconds)) == 1


def test_text_goes_in_and_out_whole():
  text = ''.join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x10000, 7)]))
  task = _stdin_task(text, text)
  program = 'import sys\nsys.stdout.write(sys.stdin.read())'
  assert _verify(program, task).status == 'right'


# --- jails that fail --------------------------------------------------------


class Failing:
  """A jail that fails so often, then does as asked."""

  tier = 'T3'

  def __init__(self, failures):
    self.failures = failures
    self.asked = 0

  def run(self, *_):
    self.asked += 1
    if self.asked <= self.failures:
      raise jail.SandboxError('broke \ud800\n')
    return jail.Outcome(0, False, 0.1, 0.1, 1 << 20, '', b'3', b'', b'')


def _with(monkeypatch, failing):
  monkeypatch.setattr(running, 'started_jail', lambda tier: failing)


def test_a_jail_that_fails_is_asked_again(monkeypatch):
  failing = Failing(1)
  _with(monkeypatch, failing)
  assert _verify(ADD, _stdin_task('', '3')).status == 'right'
  assert failing.asked == 2


def test_a_jail_that_fails_twice_has_no_reward(monkeypatch):
  failing = Failing(2)
  _with(monkeypatch, failing)
  task = _stdin_task('', '3')
  verdict = _verify(ADD, task)
  assert verdict.status == 'error'
  assert verdict.detail.startswith('SANDBOX_ERROR test 1: broke')
  assert verdict.detail.isprintable()
  assert verdict.detail.isascii()
  with pytest.raises(ValueError, match='no reward'):
    verdict.reward  # noqa: B018
  # It is not the program's fault: nothing is remembered.
  assert _verify(ADD, task).status == 'right'


class Breakable:
  """A jail that some programs break."""

  tier = 'T3'

  def __init__(self, breaks, error=jail.Broke):
    self.breaks, self.error = breaks, error
    self.asked = []

  def run(self, program, stdin, limits, fn='', args=(), how=''):
    self.asked.append(program)
    if self.breaks(program):
      raise self.error('the zygote failed: it closed its end')
    return jail.Outcome(0, False, 0.1, 0.1, 1 << 20, '', b'3', b'', b'')


def test_who_breaks_the_jail_is_wrong(monkeypatch):
  breakable = Breakable(lambda program: b'harm' in program)
  _with(monkeypatch, breakable)
  verdict = _verify('harm()', _stdin_task('', '3'))
  assert verdict.status == 'wrong'
  assert verdict.detail == (
    'RE test 1: it breaks the jail, an empty program does not: the zygote '
    'failed: it closed its end (run twice)'
  )
  assert breakable.asked == [b'harm()\n', b'harm()\n', b'']


@pytest.mark.parametrize(
  'breakable',
  [
    Breakable(lambda program: True),
    # It did not even begin.
    Breakable(lambda program: b'harm' in program, jail.SandboxError),
  ],
)
def test_a_jail_that_breaks_for_all_is_no_wrong_answer(breakable, monkeypatch):
  _with(monkeypatch, breakable)
  verdict = _verify('harm()', _stdin_task('', '3'))
  assert verdict.status == 'error'
  assert verdict.detail.startswith('SANDBOX_ERROR test 1: the zygote failed')


# Attacks that end the zygote where the filter does not prevent it.
ENDS = {
  'kill': 'os.kill(os.getppid(), 9)',
  'termination': 'os.kill(os.getppid(), signal.SIGTERM)',
  'alarm': 'os.kill(os.getppid(), signal.SIGALRM)',
  'real-time': 'os.kill(os.getppid(), signal.SIGRTMIN)',
  'queue': 'signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 10)',
  'owner': 'a, b = socket.socketpair()\nfcntl.ioctl(a, 0x8901, '
  'struct.pack("i", os.getppid()))\nfcntl.ioctl(a, 0x5452, struct.pack("i", '
  '1))\nb.send(b"x")',
  'limit': 'resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))',
}


@pytest.mark.parametrize('name', ENDS)
def test_who_ends_its_zygote_is_wrong(name, monkeypatch):
  """As a hole in the filter would let it, on a kernel before 6.12."""
  original = jail.subprocess.Popen

  def unfiltered(command, **kwargs):
    *_, descriptor, tier, _ = command
    lines = f"""
import sys
from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import zygote
sys.orig_argv[:] = [sys.executable, '-c', '']
sandbox.seccomp = lambda *arguments: 'yes'
zygote._STACK_BYTES = 0
zygote.main({os.getpid()}, {descriptor}, {tier!r}, 5)
"""
    return original([sys.executable, '-P', '-c', lines], **kwargs)

  monkeypatch.setattr(jail.subprocess, 'Popen', unfiltered)
  monkeypatch.setattr(jail, '_SELF_TEST', b'print("nothing of 1")')
  vars(running.jails).clear()
  program = (
    'import fcntl, os, resource, signal, socket, struct, time\n'
    f'{ENDS[name]}\ntime.sleep(0.5)\nprint(input())'
  )
  try:
    verdict = _verify(program, _stdin_task('1', '1'), tier='T2')
    if 'this host' in verdict.detail or 'landlock' in verdict.detail:
      pytest.skip(verdict.detail)
    assert verdict.status == 'wrong', verdict
    assert verdict.detail.startswith('RE test 1: it breaks the jail')
    honest = _verify('print(input())', _stdin_task('1', '1'), tier='T2')
    assert honest.status == 'right'
  finally:
    vars(running.jails).clear()


def test_a_host_without_jails_has_no_verdicts(monkeypatch):
  def refuse(self, tier='auto'):
    raise jail.SandboxError('T3: no; T2: no')

  monkeypatch.setattr(jail.Jail, '__init__', refuse)
  vars(running.jails).clear()
  verdict = _verify(ADD)
  assert verdict.status == 'error'
  assert 'T3: no' in verdict.detail


def test_a_killed_zygote_is_replaced():
  assert _verify(ADD).status == 'right'
  running.started_jail('auto')._process.kill()
  assert _verify(f'{ADD} #').status == 'right'


def test_an_unknown_tier_is_an_error_of_the_caller():
  with pytest.raises(ValueError, match='T9'):
    _verify(ADD, tier='T9')


def test_many_threads_get_their_own_verdicts():
  found = {}

  def work(i):
    task = _stdin_task(f'{i}', str(i))
    right = _verify('print(input())', task)
    wrong = _verify(f'print({i} + 1)', task)
    found[i] = right.status, wrong.status

  threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(GUARD)
  assert found == dict.fromkeys(range(8), ('right', 'wrong'))


# --- in a pool --------------------------------------------------------------


BUDGET = 10.0


def _pool(timeout_seconds=60.0):
  path = 'acereason_jax.verifiers.code:verify'
  kwargs = dict(budget_seconds=BUDGET)
  return VerifierPool(path, kwargs, 1, timeout_seconds, confine=False)


def _until(condition):
  deadline = time.monotonic() + GUARD
  while not condition():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.01)
  return True


@pytest.mark.parametrize(
  ('program', 'status'),
  [
    (ADD, 'AC'),
    ('print(3)', 'WA'),
    ('while True: pass', 'TLE'),
    ('x = bytearray(9 << 30)', 'MLE'),
    ('print("\ud800")', 'RE'),
    ('while True: print("x" * 1_000_000)', 'OLE'),
  ],
)
def test_verdicts_of_a_pool(program, status):
  task = json.dumps(SUMS | {'time_limit_seconds': 2})
  with _pool() as pool:
    verdict = pool.submit(_response(program), task).result(GUARD)
    assert verdict.detail.split()[0] == status
    assert pool.submit(_response(ADD), task).result(GUARD).status == 'right'
    assert pool.stats().restarts == 0


def test_a_task_may_have_more_memory_than_the_worker():
  # Limits count address space; the machine may have less memory to touch.
  program = 'import mmap\nx = mmap.mmap(-1, 2300 << 20)\nprint(len(x) >> 20)'
  task = dict(kind='stdin', tests=[dict(expected='2300')], memory_bytes=3 << 30)
  with _pool() as pool:
    verdict = pool.submit(_response(program), json.dumps(task)).result(GUARD)
    assert verdict.status == 'right', verdict.detail


def test_what_the_pool_kills_leaves_nothing(monkeypatch):
  program = 'import time\ntime.sleep(99)'
  over, ready = threading.Event(), process._ready

  def until_over(pipe, event, seconds):
    """The time of a task is over when the test says so."""
    while seconds > 0 and not over.is_set():
      if ready(pipe, event, 0.01):
        return True
    return ready(pipe, event, 0)

  monkeypatch.setattr(process, '_ready', until_over)
  me = psutil.Process()
  others = set(me.children())
  with _pool() as pool:
    (worker,) = set(me.children()) - others
    zygote = worker.children(recursive=True)
    task = json.dumps(SUMS | {'time_limit_seconds': 60})
    future = pool.submit(_response(program), task)
    family = lambda: worker.children(recursive=True)
    assert _until(lambda: len(family()) > len(zygote) > 0)
    started = [worker, *family()]
    over.set()
    assert future.result(GUARD).status == 'timeout'
    over.clear()
    assert _until(lambda: test_jail._ended(started))
    verdict = pool.submit(_response(ADD), json.dumps(SUMS)).result(GUARD)
    assert verdict.status == 'right'


def test_a_killed_parent_leaves_nothing():
  program = 'import time\ntime.sleep(99)'
  script = f"""
import json
from acereason_jax.verifiers.pool.pool import VerifierPool
pool = VerifierPool(
  'acereason_jax.verifiers.code:verify', {{}}, 1, 300.0, confine=False
)
pool.submit({_response(program)!r}, {json.dumps(SUMS)!r})
print('asked', flush=True)
import time
time.sleep(999)
"""
  parent = subprocess.Popen(
    [sys.executable, '-c', script],
    stdout=subprocess.PIPE,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert parent.stdout.readline() == b'asked\n'
  family = psutil.Process(parent.pid)
  assert _until(lambda: len(family.children(recursive=True)) >= 3)
  started = family.children(recursive=True)
  parent.send_signal(signal.SIGKILL)
  parent.communicate()
  assert _until(lambda: test_jail._ended(started))


# --- the generated programs -------------------------------------------------


@pytest.fixture(scope='module')
def asked():
  """The answers of all programs with constants from 2 to 40, by id."""
  return {
    row.id: row.answer
    for operations, count in ((1, 6 * 39), (2, 11 * 39**2))
    for row in sources.programs(
      split='train',
      count=count,
      seed=0,
      operations=operations,
      largest=40,
      held_out=0,
    )
  }


@pytest.mark.parametrize(
  ('row_id', 'right', 'wrong'),
  [
    ('program-plus-7', 'x + 7', 'x + 8'),
    ('program-minus-30', 'x - 30', '30 - x'),
    ('program-times-40', '40 * x', 'x * 39'),
    ('program-remainder-12', 'x % 12', 'x % 24'),
    ('program-larger-20', 'max(20, x)', 'max(19, x)'),
    ('program-smaller-5', 'x if x < 5 else 5', 'min(x, 6)'),
    ('program-minus-3-times-4', '(x - 3) * 4', 'x - 3 * 4'),
    ('program-plus-8-remainder-40', '(x + 8) % 40', 'x + 8 % 40'),
    ('program-times-9-larger-31', 'max(x * 9, 31)', '9 * max(x, 31)'),
    ('program-plus-40-smaller-2', 'min(x + 40, 2)', 'min(x + 39, 2)'),
  ],
)
def test_a_generated_program_is_judged_by_its_function(
  asked, row_id, right, wrong
):
  answer = asked[row_id]
  assert code.reference('', answer).status == 'right'
  of = lambda expression: _response(f'def f(x):\n  return {expression}')
  verdict = code.verify(of(right), answer)
  assert verdict.status == 'right', verdict.detail
  verdict = code.verify(of(wrong), answer)
  assert verdict.detail.startswith('WA test'), verdict.detail
