r"""Judges a response's program: the last ```python block, against every test.

All tests must pass; the first that does not ends it (arXiv 2505.16400, section
3.1). A program runs in a `jail`, in a fresh process for each test, its source
untouched: as a real `__main__`, or, where its function is called, as a module.
What it is compared with never enters a process that runs it, and no verdict is
read from it, only bytes. docs/judges.md has what is read and what is equal.
CPU time decides TLE, so that a busy machine does not; as much as for one test,
and two seconds, may be slept in all tests together.

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
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers.programs import jail

CodeStatus = Literal[
  'AC', 'WA', 'TLE', 'MLE', 'RE', 'OLE', 'NO_CODE', 'SANDBOX_ERROR'
]
FloatError = Literal['either', 'absolute', 'relative']
_IsNear = Callable[[float, float], bool]
STATUS_OF: dict[str, Status] = {
  'AC': 'right',
  'NO_CODE': 'unparsed',
  'SANDBOX_ERROR': 'error',
}

_CODE_CHARS = 1 << 18
# A line that opens a block: the lists and quotes it is in, the fence, and the
# language. A title or attributes may follow.
_OPENING = re.compile(
  r'((?:[ \t]*+(?:>|(?:[-*+]|[0-9]{1,9}[.)])(?=[ \t]))){0,9}+[ \t]*+)'
  r'(`{3,}+(?=[^`]*$)|~{3,}+)[ \t]*+(?:\{[ \t]*+(?:#[\w-]++[ \t]++)?\.?)?'
  r'(?:python(?:3(?:\.[0-9]+)?)?|py3?)(?![\w+#.-])',
  re.IGNORECASE,
)
_CLOSING = re.compile(r'[ \t]*+(`{3,}+|~{3,}+)[ \t\r]*+$')
_TAB = 4
# In a line of Python: a comment, the quotes of a long string, a short string.
_LEXEME = re.compile(
  r'#.*|("""|\'{3})|"(?:[^"\\]++|\\.)*+"?+|' r"'(?:[^'\\]++|\\.)*+'?+"
)
# The rest of a long string, by its quotes.
_REST = {
  3 * quote: re.compile(
    rf'(?:[^{quote}\\]++|\\.|{quote}(?!{2 * quote}))*+{3 * quote}'
  )
  for quote in ('"', "'")
}
# What programs print for a number. Other digits are text: 0011, +3, and 1e2,
# which has no sign and no point, and may be of base 16.
_NUMBER = re.compile(
  r'-?(?:(?:0|[1-9][0-9]*)(?:[eE][-+][0-9]{1,4})?'
  r'|(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?)'
)
_INTEGER = re.compile(r'-?[0-9]+')
_SHOWN = 60
# As deep as the converters go, and the value in it.
_DEPTH = 64
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
  `expected`, both JSON values. Numbers are exact unless the problem allows an
  error: then two that are not both integers may differ by `float_tol`.
  `float_error` says of what: the absolute error, the relative, or either.
  """

  kind: Literal['stdin', 'call']
  tests: tuple[Test, ...]
  fn: str = ''
  time_limit_seconds: float = 6.0
  memory_bytes: int = 1 << 30
  float_tol: float = 0.0
  float_error: FloatError = 'either'

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
  expected = record['expected']
  if kind == 'stdin' and not isinstance(expected, str):
    raise ValueError(f'expected output must be text: {expected!r:.60}')
  if not _same_value(expected, expected, lambda a, b: False, 0):
    # Else no program could be right.
    raise ValueError(
      f'an expected value must be equal to itself, without NaN, and nested at '
      f'most {_DEPTH} deep'
    )
  return Test(stdin, tuple(args), expected)


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
    (
      'float_error',
      task.float_error in ('either', 'absolute', 'relative'),
      "'either', 'absolute' or 'relative'",
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
  """Returns the last closed ```python block after the first `</think>`.

  A block begins with a line of three or more ` or ~ and the language: python,
  python3 or py, in any case. It ends at the first line of as many, or more, of
  that character, except inside a long string of the program. If such a string
  never ends, the first such line ends the block. Each line loses the fence's
  own indentation, as in CommonMark, but no more than the first line has.
  """
  if reasons:
    _, tag, response = response.partition('</think>')
    if not tag:
      return None
  lines = response.split('\n')
  program, number, lexed = None, 0, True
  while number < len(lines):
    opening = _OPENING.match(lines[number])
    number += 1
    if not opening:
      continue
    lead, fence = opening.groups()
    quoted = re.compile(rf'(?:[ \t]*+> ?){{0,{lead.count(">")}}}+')
    end = _end(lines, number, fence, quoted, lexed)
    if end is None and lexed:
      # Only once, so that the time is linear in the text.
      lexed = False
      end = _end(lines, number, fence, quoted, lexed)
    if end is None:
      break
    block = [_unquoted(line, quoted) for line in lines[number:end]]
    program = _dedented(block, _columns(_unquoted(lead, quoted)))
    number = end + 1
  return program


def _end(
  lines: list[str], number: int, fence: str, quoted: re.Pattern, lexed: bool
) -> int | None:
  """Returns which line closes the block that begins with line `number`."""
  string = ''
  for i in range(number, len(lines)):
    line = _unquoted(lines[i], quoted)
    closing = _CLOSING.match(line)
    if closing and not string and closing[1].startswith(fence):
      return i
    if lexed:
      string = _string_after(line, string)
  return None


def _string_after(line: str, string: str) -> str:
  """Returns the quotes of the long string that is open after a line.

  `string`: of the one that was open before it; '' is none.
  """
  at = 0
  while True:
    following = _REST[string].match if string else _LEXEME.search
    found = following(line, at)
    if not found:
      return string
    at, string = found.end(), '' if string else found[1] or ''


def _unquoted(line: str, quoted: re.Pattern) -> str:
  return line[quoted.match(line).end() :]


def _columns(text: str) -> int:
  return len(text.expandtabs(_TAB))


def _dedented(lines: list[str], columns: int) -> str:
  """Returns the lines with at most so many columns of indentation less."""
  first = next(filter(str.strip, lines), '')
  own = first[: len(first) - len(first.lstrip(' \t'))]
  columns = min(columns, _columns(own))
  return ''.join(f'{_without(line, columns)}\n' for line in lines)


def _without(line: str, columns: int) -> str:
  at = column = 0
  while column < columns and line[at : at + 1] in (' ', '\t'):
    column += 1 if line[at] == ' ' else _TAB - column % _TAB
    at += 1
  # Of a tab, the rest stays.
  return ' ' * (column - columns) + line[at:]


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
  # Of every run, of the one that is tried again too: a program whose time is
  # chance would have some of it for nothing.
  budget.cpu_seconds -= outcome.cpu_seconds
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
    compare, given = compare_values, outcome.result
  else:
    compare, given = compare_text, outcome.stdout
  difference = compare(given, test.expected, task.float_tol, task.float_error)
  return ('WA', difference) if difference else ('AC', '')


# --- comparing --------------------------------------------------------------


def compare_text(
  stdout: bytes,
  expected: str,
  float_tol: float,
  float_error: FloatError = 'either',
) -> str:
  r"""Returns the first difference, '' if there is none.

  Lines are stripped and blank ones dropped at the end. Lines that differ are
  compared word by word: as text, then as exact decimals, then as far as the
  tolerance goes:
  'a \n' = 'a', '1  2' = '1 2', '2' = '2.0', '1.5e+3' = '1500.0';
  'YES' and 'Yes' differ, '11' and '0011', '1e2' and '100'. docs/judges.md.
  """
  if _far_longer(stdout, expected):
    return f'{len(stdout)} bytes, expected {len(expected)} characters'
  given = stdout.decode('utf-8', 'surrogateescape').strip()
  wanted = expected.strip()
  near = functools.partial(_near, float_tol=float_tol, float_error=float_error)
  for number, (a, b) in enumerate(zip(_lines(given), _lines(wanted)), 1):
    if a != b and (
      _far_longer(a, b) or not _same_words(a.split(), b.split(), near)
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


def _same_words(a: Sequence[str], b: Sequence[str], near: _IsNear) -> bool:
  return len(a) == len(b) and all(
    x == y or _same_number(x, y, near) for x, y in zip(a, b)
  )


def _same_number(a: str, b: str, near: _IsNear) -> bool:
  """Whether the number a is what is expected where b is."""
  if len(a) > 1000 or len(b) > 1000:
    return False
  if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
    return False
  x, y = Decimal(a), Decimal(b)
  if not _INTEGER.fullmatch(b):
    return x == y or near(float(x), float(y))
  # An integer for an integer is exact. Nobody prints one with an exponent.
  if _INTEGER.fullmatch(a):
    return x == y
  return (x == y and 'e' not in a.lower()) or near(float(x), float(y))


def _near(
  a: float, b: float, *, float_tol: float, float_error: FloatError
) -> bool:
  """Whether the task allows a for b; False if it allows no error."""
  if not float_tol or not (math.isfinite(a) and math.isfinite(b)):
    return False
  scale = {'either': max(1.0, abs(b)), 'absolute': 1.0, 'relative': abs(b)}
  return abs(a - b) <= float_tol * scale[float_error]


def compare_values(
  result: bytes,
  expected: Any,
  float_tol: float,
  float_error: FloatError = 'either',
) -> str:
  """Returns the first difference of a JSON value, '' if there is none.

  Numbers are compared as Python's `==` does, so True is 1 and 2.0 is 2; floats,
  as far as the tolerance goes. Other types count: '1' is not 1, None is not
  False. A tuple is a list by now. docs/judges.md.
  """
  if _far_longer(result, json.dumps(expected)):
    return f'a value of {len(result)} bytes'
  try:
    value = json.loads(result, object_pairs_hook=_once)
  except (ValueError, RecursionError):
    return 'returned nothing that JSON can say'
  near = functools.partial(_near, float_tol=float_tol, float_error=float_error)
  if _same_value(value, expected, near, 0):
    return ''
  shown = _show(json.dumps(value)), _show(json.dumps(expected))
  return f'got {shown[0]}, expected {shown[1]}'


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object whose keys are different: 1 and '1' are one text."""
  value = dict(pairs)
  if len(value) < len(pairs):
    raise ValueError('two keys of an object are the same')
  return value


def _same_value(a: Any, b: Any, near: _IsNear, depth: int) -> bool:
  if depth > _DEPTH:
    return False
  if isinstance(a, int | float) and isinstance(b, int | float):
    if isinstance(a, int) and isinstance(b, int):
      return a == b
    # A truth value is no measurement.
    inexact = not (isinstance(a, bool) or isinstance(b, bool))
    return a == b or (inexact and near(_float(a), _float(b)))
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(
      _same_value(x, y, near, depth + 1) for x, y in zip(a, b)
    )
  if isinstance(a, dict) and isinstance(b, dict):
    return a.keys() == b.keys() and all(
      _same_value(a[k], b[k], near, depth + 1) for k in a
    )
  return type(a) is type(b) and a == b


def _float(value: int | float) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf


def _show(text: str) -> str:
  return ascii(text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...')
