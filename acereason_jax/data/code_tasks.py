"""Turns public data sets' tests into code tasks, when data are prepared.

Every converter is a pure function of a source's own fields, and returns the
JSON form of a `CodeTask`: {'kind': 'stdin', 'tests': [{'stdin': '1 2\\n',
'expected': '3\\n'}]}, or {'kind': 'call', 'fn': 'Solution().add', 'tests':
[{'args': [1, 2], 'expected': 3}]}, with 'time_limit_seconds' and 'memory_bytes'
where the source has limits, and 'float_tol' and 'float_error' where its
statement or its judge allows an error. It raises ValueError, one line, for a
row that it cannot convert. The fields are untrusted: nothing in them is
executed, evaluated or unpickled, and their unpacked size is bounded.

`statement` is the problem's text, in which `tolerance` looks for an allowed
error. If it finds none, numbers must be exact.

A call's arguments are plain JSON values, so tuples, sets and integer keys
cannot be passed; an expected tuple becomes a list, and an integer key becomes
text.
"""

import ast
import itertools
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.data import python_source, tolerance, unpacking, untrusted
from acereason_jax.data.untrusted import expect

# Limits are set for compiled languages. An interpreter with its usual modules
# has used 100 MB before a program's own first line.
_TIME_FACTOR = 3.0
_MAX_TIME_SECONDS = 60.0
_LEAST_MEMORY_BYTES = 1 << 30
_MOST_MEMORY_BYTES = 1 << 36
# LeetCode's judge allows this error for every float result; most statements say
# so: "Answers within 10^-5 of the actual value will be accepted".
_LEETCODE_ERROR = {'float_tol': 1e-5, 'float_error': 'absolute'}
_FUNCTION = re.compile(r'(Solution\(\)\.)?([A-Za-z_][A-Za-z0-9_]*)')
_CLASS = re.compile(r'^class\s+(\w+)', re.MULTILINE)
_INTEGER = re.compile(r'-?[0-9]+')
Task = dict[str, Any]


def apps(
  input_output: str, starter_code: str = '', statement: str = ''
) -> Task:
  """The tests of APPS, TACO or PRIME, from their field `input_output`.

  Arguments are a list, or text with one JSON value per line; then the result is
  JSON text too. If there is no class Solution and every result is a list of one
  element, that element is the result, because Codewars problems are stored so.
  The data do not distinguish them from functions that return such lists.
  """
  data = untrusted.loads(input_output, 'input_output')
  expect(isinstance(data, dict), 'input_output is not an object')
  pairs = untrusted.pairs(data, 'inputs', 'outputs')
  name = data.get('fn_name')
  if name is None:
    return _stdin_task((_stdin_test(i, o) for i, o in pairs), statement)
  expect(isinstance(name, str), 'fn_name is not text')
  in_class = 'Solution' in _CLASS.findall(
    python_source.uncommented(starter_code)
  )
  wrapped = not in_class and all(
    isinstance(inputs, list) and isinstance(output, list) and len(output) == 1
    for inputs, output in pairs
  )
  tests = [_apps_call(i, o[0] if wrapped else o) for i, o in pairs]
  name = f'Solution().{name}' if in_class else name
  return _call_task(name, tests, statement)


def codecontests(row: Mapping[str, Any]) -> Task:
  """The public, private and generated tests of a CodeContests row.

  Times are three times the source's, since that is meant for C++, and memory is
  at least 1 GiB; the allowed error is read from `description`. The data do not
  say which problems have several right outputs. Those few problems judge other
  right programs wrong.
  """
  expect(
    not row.get('input_file') and not row.get('output_file'),
    'the program would have to read or write a file',
  )
  pairs = []
  for part in ('public_tests', 'private_tests', 'generated_tests'):
    if (tests := row.get(part)) is not None:
      expect(isinstance(tests, Mapping), f'{part} is not an object')
      pairs += untrusted.pairs(tests, 'input', 'output')
  tests = (_stdin_test(i, o) for i, o in pairs)
  task = _stdin_task(tests, row.get('description') or '')
  return task | _limits(row.get('time_limit'), row.get('memory_limit_bytes'))


def codeforces(row: Mapping[str, Any]) -> Task:
  """The official tests of an open-r1/codeforces row.

  Limits are as for CodeContests; the allowed error is read from
  `output_format`, `description` and `note`. Interactive problems, problems with
  files and problems that need their `generated_checker` are refused.
  """
  expect(row.get('input_mode', 'stdio') == 'stdio', 'input is not stdin')
  expect(not row.get('interaction_format'), 'the problem is interactive')
  statement = '\n\n'.join(
    str(row.get(field) or '')
    for field in ('description', 'output_format', 'note')
  )
  expect(
    not row.get('generated_checker')
    or bool(tolerance.allowed_error(statement)),
    'a checker decides: there are several right outputs',
  )
  cases = untrusted.cases(row.get('official_tests'), 'official_tests')
  megabytes = row.get('memory_limit') or 0
  expect(
    type(megabytes) in (int, float) and 0 <= megabytes <= 1 << 16,
    'memory_limit is no size',
  )
  limits = _limits(row.get('time_limit'), int(megabytes * (1 << 20)))
  return _stdin_task(_texts(cases), statement) | limits


def _limits(time_limit: Any, memory_bytes: Any) -> Task:
  """Returns the fields of a source's limits, which are for C++."""
  limits: Task = {}
  if (seconds := untrusted.seconds(time_limit)) > 0:
    limits['time_limit_seconds'] = min(
      _TIME_FACTOR * seconds, _MAX_TIME_SECONDS
    )
  memory = memory_bytes or 0
  expect(
    type(memory) is int and 0 <= memory <= _MOST_MEMORY_BYTES,
    'memory_limit_bytes is no size',
  )
  if memory > _LEAST_MEMORY_BYTES:
    limits['memory_bytes'] = memory
  return limits


def livecodebench(
  public_test_cases: str,
  private_test_cases: str,
  metadata: str,
  statement: str = '',
) -> Task:
  """All tests of a LiveCodeBench row, from its text fields.

  Private tests are JSON, or base64 of zlib of a pickled text of JSON; see
  `unpacking`.
  """
  task, tests, more = livecodebench_parts(
    public_test_cases, private_test_cases, metadata, statement
  )
  return task | {'tests': list(tests)} | more()


def livecodebench_parts(
  public_test_cases: str,
  private_test_cases: str,
  metadata: str,
  statement: str = '',
) -> tuple[Task, Iterator[Task], Callable[[], Task]]:
  """The task of `livecodebench` as `task_store.store` takes it.

  The second part holds one test in memory, and raises ValueError as
  `livecodebench` does.
  """
  cases = itertools.chain(
    unpacking.cases(public_test_cases, 'public_test_cases'),
    unpacking.private_cases(private_test_cases),
  )
  first = next(cases, None)
  kinds = [] if first is None else [first.get('testtype', '')]
  expect(
    kinds in (['stdin'], ['functional']),
    f'testtypes are {untrusted.shown(kinds)}',
  )
  cases = _of_one_kind(itertools.chain([first], cases), kinds[0])
  if kinds == ['stdin']:
    seen = _Seen(_texts(cases), statement)
    return {'kind': 'stdin'}, seen.tests(), seen.more
  about = untrusted.loads(metadata, 'metadata')
  name = about.get('func_name') if isinstance(about, dict) else None
  expect(isinstance(name, str), 'metadata has no func_name')
  fn = f'Solution().{name}'
  _check_function(fn)
  calls = _call_tests(
    (untrusted.lines(c['input']), untrusted.loads(c['output'], 'output'))
    for c in cases
  )
  seen = _Seen(calls, statement, of_leetcode=True)
  return {'kind': 'call', 'fn': fn}, seen.tests(), seen.more


def _of_one_kind(
  cases: Iterable[Mapping[str, Any]], kind: str
) -> Iterator[Mapping[str, Any]]:
  for case in cases:
    other = case.get('testtype', '')
    expect(
      other == kind, f'testtypes are {untrusted.shown(sorted([kind, other]))}'
    )
    yield case


def leetcode(
  entry_point: str,
  starter_code: str,
  input_output: Sequence[Mapping[str, str]],
  statement: str = '',
) -> Task:
  """The tests of a LeetCode-style row, such as LeetCodeDataset's.

  An input reads 'nums = [3,3], target = 6'; its values are put in the order
  of the parameters that `starter_code` declares. Problems about linked lists,
  trees and arguments changed in place are refused.
  """
  expect(isinstance(entry_point, str), 'entry_point is not text')
  match = _FUNCTION.fullmatch(entry_point)
  expect(match is not None, f'entry_point is {untrusted.shown(entry_point)}')
  parameters = python_source.parameters(starter_code, match[2])
  cases = untrusted.cases(input_output, 'input_output')
  tests = [
    (
      python_source.arguments(c['input'], parameters),
      python_source.literal(c['output']),
    )
    for c in cases
  ]
  return _call_task(entry_point, tests, statement)


def toolkit(
  starter_code: str,
  input_output: Sequence[Mapping[str, str]],
  statement: str = '',
) -> Task:
  """The tests of a row of the AceReason evaluation toolkit.

  Without starter code the inputs are stdin. With it they are the arguments of
  its one function as Python source, with or without the call around them, or
  one JSON value per line. Inputs that are paths are read as text.
  """
  cases = untrusted.cases(input_output, 'input_output')
  code = python_source.uncommented(starter_code)
  if not code.strip():
    return _stdin_task(_texts(cases), statement)
  names, classes = python_source.DEFINITION.findall(code), _CLASS.findall(code)
  expect(len(names) == 1, f'starter_code defines {len(names)} functions')
  expect(classes in ([], ['Solution']), 'starter_code has another class')
  name, parameters = names[0], python_source.parameters(code, names[0])
  tests = [
    (
      _toolkit_arguments(c['input'], name, parameters),
      python_source.literal(c['output']),
    )
    for c in cases
  ]
  name = f'Solution().{name}' if classes else name
  return _call_task(name, tests, statement)


def asserts(source: str, entry_point: str = '') -> tuple[Task, int]:
  """(task of the tests in `assert f(1, 2) == 3` lines, number left out).

  Reads MBPP's tests joined by line ends, and HumanEval's `check(candidate)`.
  The second result counts the asserts that are not a call on literals equal to
  a literal, such as those in loops, with tolerances or with tuples as
  arguments; if some are left out, the task is weaker than its source. The
  default entry point is the one name that the asserts call. Floats are exact,
  as `==` is.
  """
  tree = python_source.parsed(source, 'exec')
  candidates = {
    argument.arg
    for node in tree.body
    if isinstance(node, ast.FunctionDef) and node.name == 'check'
    for argument in node.args.args
  }
  found = [node for node in ast.walk(tree) if python_source.is_test(node)]
  tests = [
    t
    for node in python_source.straight(tree)
    if (t := python_source.assertion(node))
  ]
  expect(bool(tests), f'none of {len(found)} asserts compares literals')
  names = {entry_point if n in candidates else n for n, _, _ in tests}
  name = entry_point or next(iter(names))
  expect(names == {name}, f'the asserts call {untrusted.shown(sorted(names))}')
  task = _call_task(name, [(args, expected) for _, args, expected in tests])
  return task, len(found) - len(tests)


def _texts(cases: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
  """Yields tests of stdin and expected output."""
  return (_stdin_test(c['input'], c['output']) for c in cases)


def _stdin_test(stdin: Any, expected: Any) -> Task:
  return {'stdin': untrusted.text(stdin), 'expected': untrusted.text(expected)}


class _Seen:
  """Passes tests on, and remembers what the fields of the task depend on."""

  def __init__(
    self, tests: Iterable[Task], statement: str, of_leetcode: bool = False
  ):
    self._tests, self._of_leetcode = tests, of_leetcode
    self._error = tolerance.allowed_error(statement)
    self._any = self._output = self._float = False

  def tests(self) -> Iterator[Task]:
    for test in self._tests:
      expected = test['expected']
      self._any = True
      self._output = self._output or 'args' in test or bool(expected.strip())
      if self._of_leetcode and not self._float:
        self._float = _has_float(expected)
      yield test
    expect(self._any, 'there are no tests')
    # A program that does nothing would pass.
    expect(self._output, 'no test expects output')

  def more(self) -> Task:
    """The fields for an allowed error, once the tests are read."""
    if not self._error and self._float:
      return dict(_LEETCODE_ERROR)
    return self._error


def _call_tests(tests: Iterable[tuple[list, Any]]) -> Iterator[Task]:
  for args, expected in tests:
    yield {
      'args': [untrusted.argument(a) for a in args],
      'expected': untrusted.result(expected),
    }


def _stdin_task(tests: Iterable[Task], statement: str) -> Task:
  seen = _Seen(tests, statement)
  return {'kind': 'stdin', 'tests': list(seen.tests()), **seen.more()}


def _call_task(
  fn: str, tests: Iterable[tuple[list, Any]], statement: str = ''
) -> Task:
  _check_function(fn)
  # A class Solution is LeetCode's.
  seen = _Seen(_call_tests(tests), statement, of_leetcode='.' in fn)
  tests = list(seen.tests())  # Before `more`.
  return {'kind': 'call', 'fn': fn, 'tests': tests, **seen.more()}


def _check_function(fn: str) -> None:
  match = _FUNCTION.fullmatch(fn)
  expect(
    match is not None
    and not keyword.iskeyword(match[2])
    # A task must not call what every program has.
    and not match[2].startswith('__'),
    f'{untrusted.shown(fn)} is no name of a function',
  )


def _has_float(value: Any) -> bool:
  if isinstance(value, list | dict):
    values = value.values() if isinstance(value, dict) else value
    return any(map(_has_float, values))
  return isinstance(value, float)


def _apps_call(inputs: Any, output: Any) -> tuple[list, Any]:
  """Returns (arguments, result) of one call in the format of APPS."""
  if isinstance(inputs, str):
    return untrusted.lines(inputs), untrusted.loads(output, 'an output')
  expect(isinstance(inputs, list), 'inputs are not a list of arguments')
  for value in inputs:
    # JSON made their keys text, and the keys' types are lost.
    expect(
      not isinstance(value, dict)
      or not value
      or not all(_INTEGER.fullmatch(key) for key in value),
      'the keys of an argument were integers',
    )
  return inputs, output


def _toolkit_arguments(
  text: Any, name: str, parameters: tuple[str, ...]
) -> list:
  expect(isinstance(text, str), 'an input is not text')
  if '\n' in text.strip():
    return untrusted.lines(text)
  return python_source.arguments(text, parameters, name)
