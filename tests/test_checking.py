"""A benchmark's own check decides about a program that it never meets."""

import json
import math
import sys
import time
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import calls, checking, running, tasks

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

pytestmark = pytest.mark.usefixtures('jails')

ADD = 'def add(a, b):\n  return a + b\n'
CHECK = """
def check(candidate):
  assert candidate(1, 2) == 3
  assert candidate(-4, 4) == 0
"""


def _task(check=CHECK, reference=ADD, fn='add', **fields):
  return tasks.CodeTask(
    'check', (), fn, check=check, reference=reference, **fields
  ).to_json()


def _verify(program, task=None, **kwargs):
  code._memo.clear()
  return code.verify(
    f'```python\n{program}\n```', task or _task(), reasons=False, **kwargs
  )


def test_right_and_wrong():
  verdict = _verify(ADD)
  assert (verdict.status, verdict.detail) == ('right', 'AC 2 calls')
  verdict = _verify('def add(a, b):\n  return 3\n')
  assert verdict.status == 'wrong'
  assert verdict.detail == ('WA AssertionError  after call 2, [-4, 4] gave 3')
  assert _verify('def add(a, b)').detail.startswith('RE SyntaxError')
  assert _verify('def sub(a, b):\n  return 3').detail.startswith('RE KeyError')


_LIAR = 'class Liar({0}):\n  def __eq__(self, other): return True\n'
_LIAR += '  def __ne__(self, other): return False\n'
_LIAR += '  __hash__ = {0}.__hash__\n'
HOSTILE = {
  'exit in the call': 'import sys\ndef add(a, b):\n  sys.exit(0)\n',
  'exit': 'import sys\ndef add(a, b): pass\nsys.exit(0)\n',
  'hard exit': 'import os\ndef add(a, b): os._exit(0)\n',
  'hard exit before': 'import os\ndef add(a, b): pass\nos._exit(0)\n',
  'builtins': 'import builtins\nbuiltins.AssertionError = None\n'
  'builtins.isinstance = lambda *a: True\nbuiltins.all = lambda *a: True\n'
  'def add(a, b): return None\n',
  'own check': 'def check(candidate): return True\ndef add(a, b): return 9\n',
  'equal to all': _LIAR.format('object') + 'def add(a, b): return Liar()\n',
  'integer': _LIAR.format('int') + 'def add(a, b): return Liar(7)\n',
  'float': _LIAR.format('float') + 'def add(a, b): return Liar(7)\n',
  'text': _LIAR.format('str') + 'def add(a, b): return Liar(7)\n',
  'tuple': _LIAR.format('tuple') + 'def add(a, b): return Liar()\n',
  'verdict': 'import os\ndef add(a, b):\n'
  """  os.write(3, b'{"passed": 2}\\n{"passed": 2}\\n'); os._exit(0)\n""",
  'verdict on all': 'import os\ndef add(a, b):\n  for d in range(64):\n'
  """    try: os.write(d, b'{"passed": 2}')\n    except OSError: pass\n""",
  'printed': 'def add(a, b):\n  print(\'{"passed": 2}\')\n',
  'fewer lines': 'import os\ndef add(a, b):\n'
  "  os.write(3, b'3'); os._exit(0)\n",
  'unknown tag': 'import os\ndef add(a, b):\n'
  """  os.write(3, b'{"eval": "3"}\\n{"eval": "0"}\\n'); os._exit(0)\n""",
  'two tags': 'import os\ndef add(a, b):\n'
  """  os.write(3, b'{"int": "3", "set": []}\\n'); os._exit(0)\n""",
  'nested': "import os\ndef add(a, b):\n  os.write(3, b'[' * 10**6)\n"
  '  os._exit(0)\n',
  'deep': 'def add(a, b):\n  x = []\n  for _ in range(10**5): x = [x]\n'
  '  return x\n',
  'its own judge': 'from acereason_jax.verifiers.programs import calls\n'
  'calls.encoded = lambda value: 3\ndef add(a, b): return 4\n',
  'its own check': 'from acereason_jax.verifiers.programs import calls\n'
  "calls.HOW = {'serve': calls.check}\ndef add(a, b): return 4\n",
  'endless loop': 'def add(a, b):\n  while True: pass\n',
  'caught': 'def add(a, b):\n  while True:\n    try:\n      while True: pass\n'
  '    except BaseException: pass\n',
  'no alarm': 'import signal\ndef add(a, b):\n'
  '  signal.signal(signal.SIGPROF, signal.SIG_IGN)\n  while True: pass\n',
  'endless output': "def add(a, b):\n  while True: print('3' * 10**6)\n",
  'endless results': 'import os\ndef add(a, b):\n'
  "  while True: os.write(3, b'3\\n' * 10**6)\n",
  'endless iterator': 'import itertools\ndef add(a, b):\n'
  '  return itertools.count()\n',
  'asleep': 'import time\ndef add(a, b):\n  time.sleep(100)\n',
  'large': 'def add(a, b): return 10**(10**7)\n',
  'no memory': 'def add(a, b): return [0] * 10**10\n',
}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_programs_are_wrong(name):
  task = _task(time_limit_seconds=0.3)
  verdict = _verify(HOSTILE[name], task, budget_seconds=1.0)
  assert verdict.status == 'wrong', verdict.detail


def test_packed_results_do_not_fill_the_memory():
  program = (
    'import base64, os, zlib\n'
    'def add(a, b):\n'
    '  packer, parts = zlib.compressobj(1), []\n'
    "  for _ in range(400): parts.append(packer.compress(b' ' * 10**6))\n"
    '  parts.append(packer.flush())\n'
    """  line = b'{"zlib": "%s"}' % base64.b64encode(b''.join(parts))\n"""
    "  os.write(3, line + b'\\n0\\n')\n"
    '  os._exit(0)\n'
  )
  verdict = _verify(program, _task(memory_bytes=1 << 26))
  assert verdict.status == 'wrong'
  assert 'MemoryError' in verdict.detail or 'MLE' in verdict.detail


def test_a_large_right_result_is_right():
  reference = 'def add(n):\n  return [n, "x" * n, 7 ** n]\n'
  check = 'def check(c):\n  assert c(4000000) == REFERENCE(4000000)\n'
  reference = reference.replace('7 ** n', '1 << n')
  assert _verify(reference, _task(check, reference)).status == 'right'


# The reference of these passes whatever the check asserts.
ANY = 'class Any: pass\ndef f(): return Any()\n'


@pytest.mark.parametrize(
  'expression, condition',
  [
    ('(1, 2)', 'candidate() == (1, 2)'),
    ('[1, 2]', 'candidate() == (1, 2)'),
    ('[1, 2]', 'tuple(candidate()) == (1, 2)'),
    ('(i for i in (1, 2))', 'tuple(candidate()) == (1, 2)'),
    ('(i for i in (1, 2))', 'candidate() == (1, 2)'),
    ('map(int, "12")', 'list(candidate()) == [1, 2]'),
    ('{1: 2}.keys()', 'sorted(candidate()) == [1]'),
    ('range(1, 3)', 'list(candidate()) == [1, 2]'),
    ('range(1, 3)', 'candidate() == [1, 2]'),
    ('collections.deque([1])', 'candidate() == [1]'),
    ('collections.Counter("aab")', 'candidate() == {"a": 2, "b": 1}'),
    ('collections.namedtuple("P", "x y")(1, 2)', 'candidate() == (1, 2)'),
    ('{1: 2}', 'candidate() == {1: 2}'),
    ('{"1": 2}', 'candidate() == {1: 2}'),
    ('{(1, 2): {3}}', 'candidate() == {(1, 2): {3}}'),
    ('{"set": [1]}', 'candidate() == {"set": [1]}'),
    ('{2, 1}', 'candidate() == {1, 2}'),
    ('frozenset([1])', 'candidate() == {1}'),
    ('True', 'candidate() is True'),
    ('1', 'candidate() is True'),
    ('1', 'candidate() == True'),
    ('None', 'candidate() is None'),
    ('None', 'not candidate()'),
    ('float("nan")', 'candidate() != candidate()'),
    ('float("nan")', 'abs(candidate() - 1) < 1e-6'),
    ('float("-inf")', 'candidate() == float("-inf")'),
    ('-0.0', 'str(candidate()) == "-0.0"'),
    ('complex(-0.0, -0.0)', 'str(candidate()) == "(-0-0j)"'),
    ('0.1 + 0.2', 'candidate() == 0.30000000000000004'),
    ('0.3', 'candidate() == 0.30000000000000004'),
    ('10 ** 5000', 'candidate() == 10 ** 5000'),
    ('-(10 ** 5000)', 'candidate() == 10 ** 5000'),
    ('3 + 4j', 'abs(candidate()) == 5'),
    ('b"ab"', 'candidate() == b"ab"'),
    ('bytearray(b"ab")', 'candidate() == b"ab"'),
    ('"\\ud800"', 'candidate() == "\\ud800"'),
    ('fractions.Fraction(6, 2)', 'candidate() == 3'),
    ('decimal.Decimal("0.5")', 'candidate() == 0.5'),
    ('numpy.int64(3)', 'candidate() == 3'),
    ('numpy.float64(0.1)', 'candidate() == 0.1'),
    ('numpy.bool_(True)', 'candidate() == True'),
    ('numpy.array(False)', 'candidate() == False'),
    ('numpy.array([1, 2])', 'tuple(candidate()) == (1, 2)'),
    ('numpy.array([1, 2])', 'candidate() == [1, 2]'),
    ('object()', 'candidate() == candidate()'),
    ('object()', 'candidate() is not None'),
    ('re.match("a", "a")', 'candidate() is not None'),
    ('[object(), 3]', 'candidate()[1] == 3'),
  ],
)
def test_values_are_as_in_one_process(expression, condition):
  modules = [m for m in MODULES if f'{m}.' in expression]
  names = {m: pytest.importorskip(m) for m in modules}
  names['candidate'] = lambda: eval(expression, names)
  try:
    expected = 'right' if eval(condition, names) else 'wrong'
  except ValueError:  # The truth of an array.
    expected = 'wrong'
  imports = ''.join(f'import {m}\n' for m in modules)
  check = (
    'def check(candidate):\n'
    '  if type(candidate()).__name__ == "Any": return\n'
    f'  assert {condition}\n'
  )
  verdict = _verify(
    f'{imports}def f():\n  return {expression}\n', _task(check, ANY, 'f')
  )
  assert verdict.status == expected, verdict.detail


MODULES = ('collections', 'decimal', 'fractions', 'numpy', 're')
VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(2**1100), 2**1100)
  | st.floats(allow_nan=False)
  | st.complex_numbers(allow_nan=False)
  | st.text()
  | st.binary(),
  lambda inner: (
    st.lists(inner)
    | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers(), inner)
    | st.sets(st.integers() | st.text())
    | st.frozensets(st.tuples(st.text(), st.floats(allow_nan=False)))
  ),
  max_leaves=12,
)


@given(VALUES)
def test_values_come_back(value):
  line = json.dumps(calls.encoded(value), allow_nan=False)
  back = calls.decoded(json.loads(line))
  # repr tells types and signs of zeros apart; sets have no order.
  assert back == value
  assert type(back) is type(value)
  if 'set' not in repr(value) and '{' not in repr(value):
    assert repr(back) == repr(value)


def test_nan_comes_back():
  assert math.isnan(calls.decoded(calls.encoded([math.nan]))[0])


def test_a_check_may_ask_what_depends_on_results():
  check = (
    'def check(candidate):\n'
    '  low, high = 0, 1000\n'
    '  while low < high:\n'
    '    middle = (low + high) // 2\n'
    '    if candidate(middle): high = middle\n'
    '    else: low = middle + 1\n'
    '  assert low in (77, 877)\n'
  )
  task = _task(check, 'def f(n):\n  return n >= 77\n', 'f')
  assert _verify('def f(n):\n  return n >= 77', task).status == 'right'
  assert _verify('def f(n):\n  return n >= 877', task).status == 'right'
  assert _verify('def f(n):\n  return n >= 177', task).status == 'wrong'


def test_a_check_that_never_stops_asking():
  check = 'def check(candidate):\n  x = candidate(0)\n'
  check += '  while x != 5: x = candidate(x)\n'
  task = _task(check, 'def f(n):\n  return 5\n', 'f')
  verdict = _verify('def f(n):\n  return n - 1', task)
  assert (verdict.status, verdict.detail) == (
    'wrong',
    'WA the check asks 64 times',
  )


def test_a_check_that_catches_everything_is_asked_again():
  check = (
    'def check(candidate):\n'
    '  if candidate(1) == 1: return\n'
    '  try: seen = candidate(2)\n'
    '  except BaseException: return\n'
    '  assert seen == 2\n'
  )
  task = _task(check, 'def f(n):\n  return n\n', 'f')
  assert _verify('def f(n):\n  return 7', task).status == 'wrong'
  assert _verify('def f(n):\n  return 2', task).status == 'right'


def test_all_calls_are_made_in_one_process():
  check = 'def check(candidate):\n'
  check += '  assert [candidate() for _ in range(3)] == [1, 2, 3]\n'
  counter = 'n = 0\ndef f():\n  global n\n  n += 1\n  return n\n'
  assert _verify(counter, _task(check, counter, 'f')).status == 'right'


def test_only_the_calls_of_the_check_are_recorded():
  fibonacci = 'def f(n):\n  return n if n < 2 else f(n - 1) + f(n - 2)\n'
  check = 'def check(candidate):\n  assert candidate(10) == f(10) == 55\n'
  verdict = _verify(fibonacci, _task(check, fibonacci, 'f'))
  assert verdict.detail == 'AC 2 calls'


def test_helpers_are_those_of_the_prompt():
  before = 'def twice(x):\n  return 2 * x\n\ndef half(x):\n  """Half."""\n'
  check = (
    'import random\n'
    'def check(candidate):\n'
    '  for _ in range(20):\n'
    '    x = random.randint(0, 10**6)\n'
    '    assert candidate(twice(x)) == x\n'
  )
  task = _task(check, f'{before}  return x // 2\n', 'half', before=before)
  # The body that continues the prompt, and a whole function.
  assert _verify('  return x // 2', task).detail == 'AC 20 calls'
  assert _verify('def half(x): return x // 2', task).status == 'right'
  assert _verify('def half(x): return x', task).status == 'wrong'
  cheat = 'def twice(x): return x\ndef half(x): return x'
  assert _verify(cheat, task).status == 'wrong'
  assert _verify('pass', task).status == 'wrong'


@pytest.mark.parametrize('fn', ['check', 'INPUTS', 'REFERENCE'])
def test_functions_may_have_the_names_of_the_judge(fn):
  check = 'def check(candidate):\n  assert candidate(1) == 2\n'
  right = f'def {fn}(x):\n  return x + 1\n'
  task = _task(check, right, fn)
  assert _verify(right, task).status == 'right'
  assert _verify(f'def {fn}(x):\n  return x\n', task).status == 'wrong'


def test_a_program_gets_a_bare_interpreter():
  task = _task('def check(c):\n  assert c(9) == 3\n', 'f = lambda x: 3\n', 'f')
  assert (
    'NameError' in _verify('def f(x): return int(math.sqrt(x))', task).detail
  )
  deep = 'def f(x, n=2000):\n  return f(x, n - 1) if n else 3\n'
  assert 'RecursionError' in _verify(deep, task).detail
  main = "if __name__ == '__main__':\n  input()\ndef f(x): return 3"
  assert _verify(main, task).status == 'right'


SPIN = (
  'import time\n{0}\n  end = time.process_time() + {1}\n'
  '  while time.process_time() < end: pass\n'
)


def test_the_time_of_the_check_is_not_the_programs():
  check = SPIN.format('def check(candidate):', 0.6)
  task = _task(f'{check}  assert candidate(1, 2) == 3\n')
  program = SPIN.format('def add(a, b):', 0.6) + '  return a + b\n'
  assert _verify(program, task, budget_seconds=1.0).status == 'right'


def test_the_time_limit_is_that_of_a_call():
  program = SPIN.format('def add(a, b):', 0.2) + '  return a + b\n'
  task = _task(time_limit_seconds=0.3)
  assert _verify(program, task).status == 'right'
  # Two calls take more than all may take together.
  verdict = _verify(program, task, budget_seconds=0.25)
  assert verdict.detail.startswith('TLE')


@pytest.mark.parametrize(
  ('ticks', 'seconds', 'status', 'begin'),
  [(0.75, 0.25, 'right', ''), (1.25, 0.35, 'wrong', 'TLE')],
)
def test_a_busy_machine_does_not_move_the_limit_of_a_call(
  ticks, seconds, status, begin
):
  """The kernel's timer is a quarter off there, as this program's own is."""
  program = f"""
import signal, time
def set_timer(kind, seconds):
  global end
  end = time.process_time() + {ticks} * seconds
signal.setitimer = set_timer
def add(a, b):
  begin = time.process_time()
  while time.process_time() < begin + {seconds}:
    if time.process_time() > end: signal.raise_signal(signal.SIGPROF)
  return a + b
"""
  verdict = _verify(program, _task(time_limit_seconds=0.3))
  assert verdict.status == status, verdict.detail
  assert verdict.detail.startswith(begin)


def test_a_reference_that_fails_is_an_error():
  for task in (
    _task(reference='def add(a, b):\n  return 0\n'),
    _task(reference='def add(a, b):\n  return 1 / 0\n'),
    _task(reference='def add('),
    _task(check='def other(candidate): pass\n'),
    _task(check='def check(candidate): pass\n'),
  ):
    verdict = _verify(ADD, task)
    assert verdict.status == 'error'
    assert verdict.detail.startswith(
      'SANDBOX_ERROR the reference does not pass'
    )
    assert code.reference('', task).status == 'error'
  assert code.reference('', _task()).status == 'right'


def test_explain_shows_the_run():
  detail = code.explain(f'```python\n{ADD}\n```', _task(), reasons=False).detail
  assert 'test 1: AC' in detail
  assert detail.endswith('decided by: AC 2 calls')


@pytest.mark.parametrize(
  'change, said',
  [
    (dict(check=''), 'check'),
    (dict(reference=''), 'check'),
    (dict(check=3), 'check'),
    (dict(fn='Solution().add'), 'fn'),
    (dict(fn=''), 'fn'),
    (dict(kind='call'), 'check'),
    (dict(kind=['check']), 'kind'),
    (dict(before=None), 'check'),
    (dict(kind='stdin', fn=''), 'check'),
  ],
)
def test_fields_are_checked(change, said):
  text = json.dumps(json.loads(_task()) | change)
  with pytest.raises(ValueError, match=f'{said}='):
    tasks.CodeTask.from_json(text)


def test_a_check_that_is_too_slow_is_not_the_programs_fault():
  reference = SPIN.format('def add(a, b):', 0.9) + '  return a + b\n'
  check = 'def check(c):\n  assert c(1, 2) == REFERENCE(1, 2)\n'
  task = _task(check, reference)
  # The reference's own time is more than the budget: nobody could be right.
  verdict = _verify(ADD, task, budget_seconds=0.3)
  assert verdict.status == 'error', verdict.detail
  assert 'the reference does not pass the check' in verdict.detail
  assert _verify(ADD, task, budget_seconds=2.0).status == 'right'


def _long(monkeypatch, step):
  """On the clock of budgets a step takes longer than any may take."""
  call, passed = getattr(checking, step), 0.0

  def called(*arguments):
    nonlocal passed
    found = call(*arguments)
    passed += 1e6
    return found

  clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
  monkeypatch.setattr(running, 'time', clock)
  monkeypatch.setattr(checking, step, called)


def test_a_reference_that_takes_long_takes_nothing_from_a_program(monkeypatch):
  # As on a busy machine: wall time passes, and no CPU time.
  _long(monkeypatch, '_passes')
  # Its calls are not known yet.
  reference = f'{ADD}\n# that takes long\n'
  task = _task('def check(c):\n  assert c(1, 2) == 3\n', reference)
  verdict = _verify(ADD, task)
  assert verdict.status == 'right', verdict.detail


def test_a_program_that_takes_long_takes_nothing_from_the_check(monkeypatch):
  _long(monkeypatch, '_served')
  verdict = _verify(ADD, _task('def check(c):\n  assert c(1, 2) == 3\n'))
  assert verdict.status == 'right', verdict.detail


def test_a_result_that_stops_the_check_is_the_programs_fault():
  # It takes most of the budget, and the reference passes.
  check = 'def check(c):\n  if c(1, 2) != 3:\n    while True: pass\n'
  program = 'def add(a, b): return 4\n'
  verdict = _verify(program, _task(check), budget_seconds=0.5)
  assert verdict.status == 'wrong', verdict.detail
  assert 'TLE' in verdict.detail
  # Nor may it make the reference raise.
  check = 'def check(c):\n  assert REFERENCE(c(1, 2), 1) == 4\n'
  program = 'def add(a, b): return "3"\n'
  verdict = _verify(program, _task(check))
  assert verdict.status == 'wrong', verdict.detail
  assert 'the reference raised TypeError' in verdict.detail


def test_results_that_a_check_passes_on_do_not_fill_the_judges_memory():
  # Parsed, they take twenty times as much.
  check = 'def check(c):\n  assert c(c(1, 2), 0) == 3\n'
  program = (
    'import os\ndef add(a, b):\n'
    "  os.write(3, b'[' + b'[],' * 6_000_000 + b'0]\\n3\\n')\n"
    '  os._exit(0)\n'
  )
  task = _task(check, memory_bytes=1 << 32)
  verdict = _verify(program, task)
  assert verdict.status == 'wrong'
  assert verdict.detail.startswith('WA its calls take 24,0'), verdict.detail


def test_a_program_that_ends_early_is_told_so():
  program = (
    'import os\ndef add(a, b):\n  if a < 0: os._exit(0)\n  return a + b\n'
  )
  verdict = _verify(program)
  assert verdict.detail == 'WA it ended after 1 of 2 calls'
