"""Tasks for programs: tests and limits, and their JSON."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from acereason_jax.verifiers.programs import compare


class Test(NamedTuple):
  """One test of a task.

  stdin: input, for kind 'stdin'.
  args: arguments, JSON values, for kind 'call'.
  expected: expected output or return value.
  """

  stdin: str
  args: tuple[Any, ...]
  expected: Any


@dataclasses.dataclass(frozen=True)
class CodeTask:
  """A task for a program.

  kind: 'stdin': the program reads `stdin` and prints `expected`. 'call': its
    function is called with `args` and returns `expected`. 'check': the source
    `check` decides about its function; see `checking`.
  tests: tests, which must all pass; for kind 'check' arguments that the source
    finds as INPUTS, with the tags of `calls`. Those of a stored task are read
    one at a time (see `stored`).
  fn: function, 'f' or 'Solution().f'; '' for kind 'stdin', 'f' for 'check'.
  time_limit_seconds: CPU time of one test, or of one call of a check.
  memory_bytes: memory of one test.
  float_tol: error that the problem allows where two numbers are not both
    integers; 0 is exact.
  float_error: kind of error that it limits: absolute, relative, or either.
  before: source that the program continues, for kind 'check'.
  check: source that defines `check(candidate)`, for kind 'check'.
  reference: source of a right program, for kind 'check'.
  """

  kind: Literal['stdin', 'call', 'check']
  tests: Sequence[Test]
  fn: str = ''
  time_limit_seconds: float = 6.0
  memory_bytes: int = 1 << 30
  float_tol: float = 0.0
  float_error: compare.FloatError = 'either'
  before: str = ''
  check: str = ''
  reference: str = ''

  def to_json(self) -> str:
    """Returns the text that `from_json` reads."""
    tests = [
      dict(stdin=t.stdin, expected=t.expected)
      if self.kind == 'stdin'
      else dict(args=list(t.args), expected=t.expected)
      for t in self.tests
    ]
    return json.dumps(dataclasses.asdict(self) | dict(tests=tests))

  @staticmethod
  def from_json(text: str) -> 'CodeTask':
    """Reads a task.

    Raises:
      ValueError: one line that says what is wrong with it.
    """
    try:
      record = json.loads(text)
    except (ValueError, RecursionError) as e:
      raise ValueError(f'a code task that is no JSON ({e})') from e
    if not isinstance(record, dict) or not isinstance(
      record.get('tests'), list
    ):
      raise ValueError('a code task needs an object with a list of tests')
    tests = tuple(test_of(t, record.get('kind')) for t in record['tests'])
    return task_of(record, tests)


def task_of(record: Mapping[str, Any], tests: Sequence[Test]) -> CodeTask:
  """A task of the fields of its JSON form, with these tests.

  Raises:
    ValueError: one line; a field is unknown or invalid.
  """
  known = {f.name for f in dataclasses.fields(CodeTask)}
  if unknown := sorted(set(record) - known):
    raise ValueError(f'a code task has no field {unknown[0]!r:.60}')
  if 'kind' not in record:
    raise ValueError("a code task without a kind: 'stdin' or 'call'")
  task = CodeTask(**{**record, 'tests': tests})
  _check(task)
  return task


def test_of(record: Any, kind: Any) -> Test:
  """A test of its JSON form, for a task of this kind.

  Raises:
    ValueError: one line that says what is wrong with it.
  """
  if not isinstance(record, dict) or 'expected' not in record:
    raise ValueError(f'a test without what is expected: {record!r:.60}')
  stdin, args = record.get('stdin', ''), record.get('args', [])
  if not isinstance(stdin, str) or not isinstance(args, list):
    raise ValueError(
      f'a test needs text for stdin, a list of args: {record!r:.60}'
    )
  expected = record['expected']
  if kind == 'stdin' and not isinstance(expected, str):
    raise ValueError(f'expected output must be text: {expected!r:.60}')
  if not compare.same_value(expected, expected, lambda a, b: False, 0):
    # Otherwise no program could be right.
    raise ValueError(
      f'an expected value must be equal to itself, without NaN, and nested at '
      f'most {compare.DEPTH} deep'
    )
  return Test(stdin, tuple(args), expected)


def _check(task: CodeTask) -> None:
  """Raises ValueError for an invalid field."""
  name = '[A-Za-z_][A-Za-z0-9_]*'
  names = {'call': rf'(?:Solution\(\)\.)?{name}', 'check': name}
  sources = task.before, task.check, task.reference
  checked = task.kind == 'check'
  for field, good, expected in (
    (
      'kind',
      task.kind in ('stdin', 'call', 'check'),
      "'stdin', 'call' or 'check'",
    ),
    (
      'fn',
      isinstance(task.fn, str)
      and re.fullmatch(names.get(str(task.kind), ''), task.fn),
      "'f' or 'Solution().f' for kind 'call', 'f' for 'check', '' for 'stdin'",
    ),
    (
      'time_limit_seconds',
      _is_number(task.time_limit_seconds)
      and 0 < task.time_limit_seconds <= 600,
      'more than 0, at most 600',
    ),
    (
      'memory_bytes',
      isinstance(task.memory_bytes, int)
      and 1 << 20 <= task.memory_bytes <= 1 << 36,
      'at least a mebibyte, at most 64 gibibytes',
    ),
    (
      'float_tol',
      _is_number(task.float_tol) and 0 <= task.float_tol < 1,
      'at least 0, less than 1',
    ),
    (
      'float_error',
      task.float_error in ('either', 'absolute', 'relative'),
      "'either', 'absolute' or 'relative'",
    ),
    (
      'check',
      all(isinstance(s, str) for s in sources)
      and [checked] * 2 == [bool(task.check), bool(task.reference)]
      and (checked or not task.before),
      "with reference: texts for kind 'check', with before; '' for others",
    ),
  ):
    if not good:
      value = getattr(task, field)
      raise ValueError(f'{field}={value!r:.60} of a code task: {expected}')


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
