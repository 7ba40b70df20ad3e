r"""Judges a response's program: the last ```python block, against every test.

All tests must pass; the first that does not ends it (arXiv 2505.16400, section
3.1). A program runs as a real `__main__` in a `jail`, in a fresh process for
each test, its source untouched; what it is compared with never enters a process
that runs it, and no verdict is read from it, only bytes. CPU time decides TLE,
so that a busy machine does not; as much as for one test, and two seconds, may
be slept in all tests together.

| status | when | verdict |
|---|---|---|
| AC | all tests pass | right |
| WA | other output, or another value | wrong |
| TLE | CPU time over the limit or the budget, or asleep | wrong |
| MLE | memory over the limit | wrong |
| RE | an exception, an exit status but 0, a signal | wrong |
| OLE | more output than may be | wrong |
| NO_CODE | no closed ```python block | unparsed |
| SANDBOX_ERROR | the jail failed twice; or a task without tests | error |

A program under which the jail fails twice is RE if an empty program then runs.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers import jail

CodeStatus = Literal[
  'AC', 'WA', 'TLE', 'MLE', 'RE', 'OLE', 'NO_CODE', 'SANDBOX_ERROR'
]
STATUS_OF: dict[str, Status] = {
  'AC': 'right',
  'NO_CODE': 'unparsed',
  'SANDBOX_ERROR': 'error',
}

_CODE_CHARS = 1 << 18
_OPENING = re.compile(
  r'^[ \t]*```[ \t]*(?:python3?|py)[ \t]*\r?\n', re.MULTILINE | re.IGNORECASE
)
_CLOSING = re.compile(r'^[ \t]*```[ \t]*\r?$', re.MULTILINE)
_NUMBER = re.compile(
  r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?'
)
_INTEGER = re.compile(r'[-+]?[0-9]+')
_SHOWN = 60
_DEPTH = 50
# Digits of floats, spaces: an answer is never so much longer than expected.
_LONGER, _LONG = 30, 100_000
# Wall time a program may take over its CPU limit, on a busy machine, and time
# asleep, which reading its modules may take.
_WALL_FACTOR, _WALL_SECONDS = 4.0, 4.0
_ASLEEP_SECONDS = 2.0
# As far over the limit as measuring may be off: such a run is tried again.
_NEAR = 1.25


class Test(NamedTuple):
  """One test: `stdin` and the expected output, or `args` and the value."""

  stdin: str
  args: tuple[Any, ...]
  expected: Any


@dataclasses.dataclass(frozen=True)
class CodeTask:
  """What a program has to do.

  kind 'stdin': the program reads `stdin` and prints `expected`. 'call': its
  function `fn` ('f' or 'Solution().f') is called with `args` and returns
  `expected`, both JSON values. Numbers that are no integers may be off by
  `float_tol`, absolute or relative.
  """

  kind: Literal['stdin', 'call']
  tests: tuple[Test, ...]
  fn: str = ''
  time_limit_seconds: float = 6.0
  memory_bytes: int = 1 << 30
  float_tol: float = 1e-6

  def to_json(self) -> str:
    """Returns what `from_json` reads."""
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
    known = {f.name for f in dataclasses.fields(CodeTask)}
    if unknown := sorted(set(record) - known):
      raise ValueError(f'a code task has no field {unknown[0]!r:.60}')
    tests = tuple(_test(t, record.get('kind')) for t in record['tests'])
    task = CodeTask(**{**record, 'tests': tests})
    _check(task)
    return task


def _test(record: Any, kind: Any) -> Test:
  if not isinstance(record, dict) or 'expected' not in record:
    raise ValueError(f'a test without what is expected: {record!r:.60}')
  stdin, args = record.get('stdin', ''), record.get('args', [])
  if not isinstance(stdin, str) or not isinstance(args, list):
    raise ValueError(
      f'a test needs text for stdin, a list of args: {record!r:.60}'
    )
  if kind == 'stdin' and not isinstance(record['expected'], str):
    raise ValueError(
      f'expected output must be text: {record["expected"]!r:.60}'
    )
  return Test(stdin, tuple(args), record['expected'])


def _check(task: CodeTask) -> None:
  """Raises ValueError for a field that is no good."""
  name = r'(?:Solution\(\)\.)?[A-Za-z_][A-Za-z0-9_]*'
  for field, good, expected in (
    ('kind', task.kind in ('stdin', 'call'), "'stdin' or 'call'"),
    (
      'fn',
      isinstance(task.fn, str)
      and (re.fullmatch(name, task.fn) if task.kind == 'call' else not task.fn),
      "'f' or 'Solution().f' for kind 'call', '' for 'stdin'",
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
  ):
    if not good:
      value = getattr(task, field)
      raise ValueError(f'{field}={value!r:.60} of a code task: {expected}')


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


class TestRun(NamedTuple):
  """One test's outcome; `note` is the first difference or the error.

  `broke`: the jail failed while the program ran.
  """

  number: int
  status: CodeStatus
  note: str
  cpu_seconds: float
  peak_bytes: int
  stderr: str
  broke: bool = False


def verify(
  response: str,
  answer: str,
  *,
  reasons: bool = True,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> Verdict:
  """Returns the verdict on a response; `answer` is the task as JSON.

  `detail` begins with the status: 'AC 20 tests', 'WA test 3: ...'. Test 3 is
  the third of the task, whatever the order they ran in. A submission has
  `budget_seconds` of CPU time for all its tests, sleep as for one of them, and
  `longest_seconds` of wall time in all.
  """
  start = time.perf_counter()
  try:
    task = _task(answer)
  except ValueError as e:
    return Verdict('error', f'SANDBOX_ERROR {ascii(str(e))[1:-1]}', 0.0)
  program = extract(response, reasons)
  if program is None:
    status, detail = 'NO_CODE', 'no closed ```python block'
  elif len(program) > _CODE_CHARS:
    status, detail = 'NO_CODE', f'{len(program)} characters of code'
  else:
    status, detail = _judge(program, answer, task, tier, budget_seconds)
  seconds = time.perf_counter() - start
  return Verdict(
    STATUS_OF.get(status, 'wrong'), f'{status} {detail}'.strip(), seconds
  )


def longest_seconds(budget_seconds: float) -> float:
  """Returns the wall time that a submission with this budget may take."""
  return _WALL_FACTOR * budget_seconds + _WALL_SECONDS


def prepare_worker(
  timeout_seconds: float,
  confine: bool,
  *,
  reasons: bool = True,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> str:
  """Starts the jail of a pool's worker; returns what holds programs in it.

  Raises:
    ValueError: the worker would be confined too much to run anything, the pool
      would not wait for a submission that may still be right, there is no such
      tier, or the host does not allow it.
  """
  del reasons
  if confine:
    raise ValueError(
      'confine=True: this judge starts processes, which it confines; give False'
    )
  longest = longest_seconds(budget_seconds)
  if timeout_seconds <= longest:
    # Else who sleeps is not judged, instead of wrong.
    raise ValueError(
      f'timeout_seconds={timeout_seconds:g}: with budget_seconds='
      f'{budget_seconds:g} one submission may take {longest:g} s; give more'
    )
  try:
    return f'programs: {_jail(tier).confinement}'
  except jail.SandboxError as e:
    raise ValueError(f'tier={tier!r}: this host runs no jail ({e})') from e


verify.prepare_worker = prepare_worker


def reference(response: str, answer: str) -> Verdict:
  """Returns 'right' if `answer` is a task with tests, else 'error' and why."""
  del response
  try:
    _task(answer)
  except ValueError as e:
    return Verdict('error', ascii(str(e))[1:-1], 0.0)
  return Verdict('right', '', 0.0)


def explain(
  response: str,
  answer: str,
  *,
  reasons: bool = True,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> Verdict:
  """Returns `verify`'s verdict; the detail has a line for each test."""
  verdict = verify(
    response,
    answer,
    reasons=reasons,
    tier=tier,
    budget_seconds=budget_seconds,
  )
  program = extract(response, reasons)
  if program is None or verdict.status == 'error':
    return verdict
  task = _task(answer)
  lines = [f'{len(program)} characters of code']
  with contextlib.suppress(jail.SandboxError):
    lines.append(_jail(tier).confinement)
  budget = _Budget(task, budget_seconds)
  for number in range(len(task.tests)):
    ran = run_test(program, task, number, tier, budget)
    lines.append(
      f'test {number + 1}: {ran.status} {ran.cpu_seconds:.3f} s CPU, '
      f'{ran.peak_bytes / 2**20:.0f} MiB {ran.note}'.rstrip()
    )
    if ran.stderr:
      lines.append(f'  stderr: {ascii(ran.stderr[-400:])[1:-1]}')
  lines.append(f'decided by: {verdict.detail}')
  return dataclasses.replace(verdict, detail='\n'.join(lines))


def _prepare_explain(timeout_seconds: float, confine: bool, **kwargs) -> str:
  # It runs all tests once more.
  return prepare_worker(timeout_seconds / 2, confine, **kwargs)


explain.prepare_worker = _prepare_explain


@functools.lru_cache(256)
def _task(answer: str) -> CodeTask:
  task = CodeTask.from_json(answer)
  if not task.tests:
    raise ValueError('a code task without tests: nothing could be wrong')
  return task


def extract(response: str, reasons: bool) -> str | None:
  """Returns the last closed ```python block after the first `</think>`."""
  if reasons:
    _, tag, response = response.partition('</think>')
    if not tag:
      return None
  program, end = None, 0
  # One pattern for both would look for an end after each of many beginnings.
  while opening := _OPENING.search(response, end):
    closing = _CLOSING.search(response, opening.end())
    if not closing:
      break
    program, end = response[opening.end() : closing.start()], closing.end()
  return program


# --- running ----------------------------------------------------------------

# By task: how often each test was the one that failed.
_kills: collections.OrderedDict = collections.OrderedDict()
# By task and program: a group often repeats itself.
_memo: collections.OrderedDict = collections.OrderedDict()
_REMEMBERED = 4096


# A jail serves one thread, and ends with the thread that started it.
_jails = threading.local()


def _jail(tier: str) -> jail.Jail:
  started = vars(_jails)
  if tier not in started:
    started[tier] = jail.Jail(tier)
  return started[tier]


class _Budget:
  """What a submission may still use; as for a test, CPU time decides.

  It may sleep as long in all of its tests as in one: who sleeps holds a worker.
  """

  def __init__(self, task: CodeTask, seconds: float):
    self.cpu_seconds = seconds
    asleep = min(task.time_limit_seconds, seconds) + _ASLEEP_SECONDS
    self.asleep_seconds = asleep
    self._deadline = time.monotonic() + longest_seconds(seconds)

  def limits(self, task: CodeTask) -> jail.Limits | None:
    """Returns the limits of the next run; None if nothing is left."""
    cpu = min(task.time_limit_seconds, self.cpu_seconds)
    wall = min(longest_seconds(cpu), self._deadline - time.monotonic())
    if min(cpu, wall, self.asleep_seconds) <= 0:
      return None
    return jail.Limits(cpu, wall, task.memory_bytes, self.asleep_seconds)


def _judge(
  program: str, answer: str, task: CodeTask, tier: str, budget_seconds: float
) -> tuple[CodeStatus, str]:
  """Runs the tests, those that failed others first, until one fails."""
  problem = _digest(answer)
  submission = problem, _digest(program), tier
  if (known := _memo.get(submission)) is not None:
    return known
  kills = _remember(_kills, problem, _kills.get(problem, collections.Counter()))
  order = sorted(range(len(task.tests)), key=lambda i: (-kills[i], i))
  budget = _Budget(task, budget_seconds)
  found = 'AC', f'{len(task.tests)} tests'
  for number in order:
    ran = run_test(program, task, number, tier, budget)
    if ran.status != 'AC':
      kills[number] += ran.status != 'SANDBOX_ERROR'
      found = ran.status, f'test {number + 1}: {ran.note}'.rstrip(': ')
      break
  # What hung on the clock or the jail is asked again next time.
  if found[0] not in ('TLE', 'SANDBOX_ERROR'):
    _remember(_memo, submission, found)
  return found


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()


def _remember(memory: collections.OrderedDict, key: Any, value: Any) -> Any:
  memory[key] = value
  if len(memory) > _REMEMBERED:
    memory.popitem(last=False)
  return value


def run_test(
  program: str, task: CodeTask, number: int, tier: str, budget: _Budget
) -> TestRun:
  """Runs one test; again if it was near the limit, or the jail broke."""
  ran = _run_once(program, task, number, tier, budget)
  near = task.time_limit_seconds < ran.cpu_seconds
  near &= ran.cpu_seconds < _NEAR * task.time_limit_seconds
  if ran.status == 'SANDBOX_ERROR' or (ran.status == 'TLE' and near):
    first, ran = ran, _run_once(program, task, number, tier, budget)
    ran = ran._replace(note=f'{ran.note} (run twice)'.strip())
    if first.broke and ran.broke and _empty_runs(task, number, tier):
      # Else who breaks jails would have no wrong answers.
      note = f'it breaks the jail, an empty program does not: {ran.note}'
      ran = ran._replace(status='RE', note=note)
  budget.cpu_seconds -= ran.cpu_seconds
  return ran


def _empty_runs(task: CodeTask, number: int, tier: str) -> bool:
  """Whether a fresh jail runs an empty program on a test's input."""
  limits = _Budget(task, task.time_limit_seconds).limits(task)
  stdin = task.tests[number].stdin.encode('utf-8', 'surrogatepass')
  try:
    return _jail(tier).run(b'', stdin, limits).exit == 0
  except jail.SandboxError:
    vars(_jails).clear()
    return False


def _run_once(
  program: str, task: CodeTask, number: int, tier: str, budget: _Budget
) -> TestRun:
  test, limits = task.tests[number], budget.limits(task)
  if limits is None:
    return TestRun(number, 'TLE', 'the budget of all tests', 0.0, 0, '')
  source = program.encode('utf-8', 'surrogatepass')
  stdin = test.stdin.encode('utf-8', 'surrogatepass')
  try:
    outcome = _jail(tier).run(source, stdin, limits, task.fn, test.args)
  except jail.SandboxError as e:
    vars(_jails).clear()
    note, broke = ascii(str(e))[1:-1][:200], isinstance(e, jail.Broke)
    return TestRun(number, 'SANDBOX_ERROR', note, 0.0, 0, '', broke=broke)
  # Of every run: no measuring error makes a program sleep.
  budget.asleep_seconds -= outcome.asleep_seconds
  status, note = _status(outcome, limits, task, test)
  return TestRun(
    number,
    status,
    note,
    outcome.cpu_seconds,
    outcome.peak_bytes,
    outcome.stderr.decode('utf-8', 'replace'),
  )


def _status(
  outcome: jail.Outcome, limits: jail.Limits, task: CodeTask, test: Test
) -> tuple[CodeStatus, str]:
  """Returns the status of a run and a note."""
  if outcome.cpu_seconds > limits.cpu_seconds:
    return 'TLE', f'{outcome.cpu_seconds:.2f} s of CPU time'
  if outcome.timed_out:
    return 'TLE', f'{outcome.wall_seconds:.1f} s, mostly asleep'
  if max(len(outcome.stdout), len(outcome.result)) > limits.output_bytes:
    return 'OLE', f'over {limits.output_bytes} bytes'
  if outcome.exit != 0:
    last = outcome.stderr.decode('utf-8', 'replace').strip().splitlines()[-1:]
    note = ascii(''.join(last))[1:-1][:200]
    full = outcome.peak_bytes >= limits.memory_bytes
    if full or note.startswith('MemoryError'):
      return 'MLE', f'{outcome.peak_bytes >> 20} MiB'
    return 'RE', note or f'exit status {outcome.exit}'
  if task.kind == 'call':
    difference = compare_values(outcome.result, test.expected, task.float_tol)
  else:
    difference = compare_text(outcome.stdout, test.expected, task.float_tol)
  return ('WA', difference) if difference else ('AC', '')


# --- comparing --------------------------------------------------------------


def compare_text(stdout: bytes, expected: str, float_tol: float) -> str:
  r"""Returns the first difference, '' if there is none.

  Lines are stripped and blank ones dropped at the end; lines that differ are
  compared word by word, numbers by value:
  'a \n' = 'a', '1  2' = '1 2', '2' = '2.0', '0.3333334' = '0.333333333';
  'YES' and 'Yes' differ, and '1000000000000000001' and '1000000000000000000'.
  """
  if _far_longer(stdout, expected):
    return f'{len(stdout)} bytes, expected {len(expected)} characters'
  given = stdout.decode('utf-8', 'surrogateescape').strip()
  wanted = expected.strip()
  for number, (a, b) in enumerate(zip(_lines(given), _lines(wanted)), 1):
    if a != b and (
      _far_longer(a, b) or not _same_words(a.split(), b.split(), float_tol)
    ):
      return f'line {number}: got {_show(a)}, expected {_show(b)}'
  lines = [text.count('\n') + 1 for text in (given, wanted)]
  if lines[0] != lines[1]:
    return f'{lines[0]} lines, expected {lines[1]}'
  return ''


def _lines(text: str) -> Iterator[str]:
  """Yields one at a time: a list takes thirty times the text's size."""
  return map(str.strip, io.StringIO(text or '\n'))


def _far_longer(given: str | bytes, wanted: str) -> bool:
  """Whether nobody need read `given`: memory is worth more than its words."""
  return len(given) > _LONGER * len(wanted) + _LONG


def _same_words(a: Sequence[str], b: Sequence[str], float_tol: float) -> bool:
  return len(a) == len(b) and all(
    x == y or _same_number(x, y, float_tol) for x, y in zip(a, b)
  )


def _same_number(a: str, b: str, float_tol: float) -> bool:
  """Whether two ASCII decimals are one number; integers exactly."""
  if len(a) > 1000 or len(b) > 1000:
    return False
  if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
    return False
  try:
    x, y = Decimal(a), Decimal(b)
  except InvalidOperation:
    return False
  if x == y:
    return True
  if _INTEGER.fullmatch(b):
    return False
  return _near(float(x), float(y), float_tol)


def _near(a: float, b: float, float_tol: float) -> bool:
  if not (math.isfinite(a) and math.isfinite(b)):
    return False
  return abs(a - b) <= float_tol * max(1.0, abs(b))


def compare_values(result: bytes, expected: Any, float_tol: float) -> str:
  """Returns the first difference of a JSON value, '' if there is none.

  Types count: True is not 1, '1' is not 1; a tuple was a list. An expected
  integer is exact: 2.0 is 2, 2.0000001 is not.
  """
  if _far_longer(result, json.dumps(expected)):
    return f'a value of {len(result)} bytes'
  try:
    value = json.loads(result)
  except (ValueError, RecursionError):
    return 'returned nothing that JSON can say'
  if _same_value(value, expected, float_tol, 0):
    return ''
  shown = _show(json.dumps(value)), _show(json.dumps(expected))
  return f'got {shown[0]}, expected {shown[1]}'


def _same_value(a: Any, b: Any, float_tol: float, depth: int) -> bool:
  if depth > _DEPTH:
    return False
  if isinstance(a, bool) or isinstance(b, bool):
    return a is b
  if _is_number(a) and _is_number(b):
    if isinstance(b, int):
      return a == b
    return a == b or _near(_float(a), _float(b), float_tol)
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(
      _same_value(x, y, float_tol, depth + 1) for x, y in zip(a, b)
    )
  if isinstance(a, dict) and isinstance(b, dict):
    return a.keys() == b.keys() and all(
      _same_value(a[k], b[k], float_tol, depth + 1) for k in a
    )
  return type(a) is type(b) and a == b


def _float(value: int | float) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf


def _show(text: str) -> str:
  return ascii(text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...')
