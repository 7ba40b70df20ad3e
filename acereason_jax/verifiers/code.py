r"""Judges a response's program: the last ```python block, against every test.

All tests must pass; the first failure ends the judging (arXiv 2505.16400,
section 3.1). A program runs in a `jail`, in a fresh process for each test, with
its source unchanged: as a real `__main__`, or as a module if its function is
called. The expected outputs never enter a process that runs it, and no verdict
is read from the program, only bytes. docs/judges.md lists what is read and what
is equal. CPU time decides TLE, so a busy machine does not change verdicts. All
tests together may sleep for the time limit of one test plus two seconds.

| status | when | verdict |
|---|---|---|
| AC | all tests pass, or the task's own check | right |
| WA | other output, or another value | wrong |
| TLE | CPU time over the limit or the budget, or asleep | wrong |
| MLE | memory over the limit | wrong |
| RE | an exception, an exit status other than 0, a signal | wrong |
| OLE | more output than may be | wrong |
| NO_CODE | no closed ```python block | unparsed |
| SANDBOX_ERROR | the jail failed twice; no task, or one without tests | error |

A program under which the jail fails twice is RE if an empty program then runs.
A stored task is no task if its file is missing or damaged (programs/stored.py).
Benchmarks such as HumanEval decide by a check of their own: see `checking`.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers.programs import (
  block,
  checking,
  jail,
  running,
  stored,
  tasks,
)

STATUS_OF: dict[str, Status] = {
  'AC': 'right',
  'NO_CODE': 'unparsed',
  'SANDBOX_ERROR': 'error',
}
_CODE_CHARS = 1 << 18
# What `explain` shows: characters of an input or output, lines of passed tests,
# failed tests.
_SHOWN, _LISTED, _FAILURES = 2048, 20, 3


def verify(
  response: str,
  answer: str,
  *,
  reasons: bool = True,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> Verdict:
  """Returns the verdict on a response.

  `answer` is the task as JSON, or {"tests": SHA-256} for a stored task.
  `detail` begins with the status: 'AC 20 tests', 'WA test 3: ...'. Test 3 is
  the third of the task, whatever the order in which tests ran. A submission has
  `budget_seconds` of CPU time for all its tests, sleep as for one test, and
  `longest_seconds` of wall time in all.
  """
  start = time.perf_counter()
  status, detail = _verified(response, answer, reasons, tier, budget_seconds)
  seconds = time.perf_counter() - start
  return Verdict(
    STATUS_OF.get(status, 'wrong'), f'{status} {detail}'.strip(), seconds
  )


def _verified(
  response: str, answer: str, reasons: bool, tier: str, budget_seconds: float
) -> tuple[running.CodeStatus, str]:
  try:
    task = task_of(answer)
  except ValueError as e:
    return 'SANDBOX_ERROR', ascii(str(e))[1:-1]
  program = block.extract(response, reasons)
  if program is None:
    return 'NO_CODE', 'no closed ```python block'
  if len(program) > _CODE_CHARS:
    return 'NO_CODE', f'{len(program)} characters of code'
  try:
    return _judge(program, answer, task, tier, budget_seconds)
  except stored.Unreadable as e:
    return 'SANDBOX_ERROR', ascii(str(e))[1:-1]


def prepare_worker(
  timeout_seconds: float,
  confine: bool,
  *,
  reasons: bool = True,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> str:
  """Starts the jail of a pool's worker; returns its confinement.

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
  longest = running.longest_seconds(budget_seconds)
  if timeout_seconds <= longest:
    # Otherwise a program that sleeps would be not judged instead of wrong.
    raise ValueError(
      f'timeout_seconds={timeout_seconds:g}: with budget_seconds='
      f'{budget_seconds:g} one submission may take {longest:g} s; give more'
    )
  try:
    return f'programs: {running.started_jail(tier).confinement}'
  except jail.SandboxError as e:
    raise ValueError(f'tier={tier!r}: this host runs no jail ({e})') from e


verify.prepare_worker = prepare_worker


def reference(response: str, answer: str) -> Verdict:
  """Returns 'right' if `answer` is a task with tests, else 'error' and why.

  All of a stored task's file is read, because its digest is checked. The
  reference of a check must pass it.
  """
  del response
  try:
    task = task_of(answer)
    if task.kind == 'check':
      checking.check_reference(task, 'auto')
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
  """Returns `verify`'s verdict; the detail has a line for each test that ran.

  The first test that failed is shown with its input, what is expected and what
  the program gave, each cut and escaped. No test follows the third that failed,
  or one that took too long.
  """
  verdict = verify(
    response,
    answer,
    reasons=reasons,
    tier=tier,
    budget_seconds=budget_seconds,
  )
  program = block.extract(response, reasons)
  if program is None or verdict.status in ('unparsed', 'error'):
    return verdict
  task = task_of(answer)
  lines = [f'{len(program)} characters of code']
  with contextlib.suppress(jail.SandboxError):
    lines.append(running.started_jail(tier).confinement)
  ran = _several(program, task, tier, budget_seconds)
  lines += _run_lines(ran, len(task.tests))
  if failed := next((r for r in ran if r.status != 'AC'), None):
    lines += _failed_lines(failed, task, budget_seconds)
  lines.append(f'decided by: {verdict.detail}')
  return dataclasses.replace(verdict, detail='\n'.join(lines))


def _several(
  program: str, task: tasks.CodeTask, tier: str, budget_seconds: float
) -> list[running.TestRun]:
  """The outcomes of tests in their order, as long as few fail."""
  if task.kind == 'check':
    return [checking.run(program, task, tier, budget_seconds)]
  budget = running.Budget(task, budget_seconds)
  outcomes, failed = [], 0
  for number in range(len(task.tests)):
    ran = running.run_test(program, task, number, tier, budget)
    # Outputs that passed are not shown, and may take 64 MiB each.
    outcomes.append(ran if ran.status == 'WA' else ran._replace(output=b''))
    failed += ran.status != 'AC'
    if failed == _FAILURES or ran.status in ('TLE', 'SANDBOX_ERROR'):
      break
  return outcomes


def _run_lines(ran: Sequence[running.TestRun], tests: int) -> Iterator[str]:
  """A line for each outcome; one for a run of later tests that passed."""
  many = lambda r: r.status == 'AC' and r.number >= _LISTED
  for together, part in itertools.groupby(ran, many):
    found = list(part)
    if together and len(found) > 1:
      first, last = found[0].number + 1, found[-1].number + 1
      seconds = max(r.cpu_seconds for r in found)
      yield f'tests {first} to {last}: AC, each {seconds:.3f} s CPU or less'
      continue
    for r in found:
      yield (
        f'test {r.number + 1}: {r.status} {r.cpu_seconds:.3f} s CPU, '
        f'{r.peak_bytes / 2**20:.0f} MiB {r.note}'.rstrip()
      )
      if r.stderr:
        yield f'  stderr: {ascii(r.stderr[-400:])[1:-1]}'
  if 0 < len(ran) < tests and ran[-1].status != 'AC':
    yield f'not run: the other {tests - len(ran)} tests'


def _failed_lines(
  ran: running.TestRun, task: tasks.CodeTask, budget_seconds: float
) -> Iterator[str]:
  """A test that failed, and the limits that it had.

  The judge shows what is expected to people; no program has seen it.
  """
  if task.kind != 'check':
    test = task.tests[ran.number]
    given, expected = _shown(test.stdin), test.expected
    if task.kind == 'call':
      arguments = ', '.join(map(json.dumps, test.args))
      given = _cut(f'{task.fn}({arguments})', len(arguments))
      expected = json.dumps(expected)
    got = f'{ran.status} {ran.note}'
    if ran.status == 'WA':
      start = ran.output[: 4 * _SHOWN].decode('utf-8', 'backslashreplace')
      got = _cut(ascii(start), len(ran.output))
    yield f'first failed test: {ran.number + 1}'
    yield f'input: {given}'
    yield f'expected: {_shown(expected)}'
    yield f'got: {got}'
  cpu = min(task.time_limit_seconds, budget_seconds)
  yield (
    f'limits: {cpu:g} s CPU, {running.longest_seconds(cpu):g} s wall and '
    f'{task.memory_bytes / 2**20:g} MiB a test; {budget_seconds:g} s CPU for '
    'all tests'
  )


def _shown(text: str) -> str:
  """A text on one line, escaped and cut."""
  return _cut(ascii(text[:_SHOWN]), len(text))


def _cut(escaped: str, size: int) -> str:
  if len(escaped) <= _SHOWN:
    return escaped
  return f'{escaped[: _SHOWN - 40]} ... cut, of {size:,} characters'


def _prepare_explain(timeout_seconds: float, confine: bool, **kwargs) -> str:
  # This runs all tests once more.
  return prepare_worker(timeout_seconds / 2, confine, **kwargs)


explain.prepare_worker = _prepare_explain


def task_of(answer: str) -> tasks.CodeTask:
  """Returns the task of an answer; ValueError: there is none, and why."""
  digest = stored.digest_of(answer)
  task = _parsed(answer) if digest is None else stored.task(digest)
  if not task.tests and task.kind != 'check':
    raise ValueError('a code task without tests: nothing could be wrong')
  return task


_parsed = functools.lru_cache(256)(tasks.CodeTask.from_json)


# By task: how often each test was the first to fail.
_kills: collections.OrderedDict = collections.OrderedDict()
# By task and program, because a group often repeats programs.
_memo: collections.OrderedDict = collections.OrderedDict()
_REMEMBERED = 4096


def _judge(
  program: str,
  answer: str,
  task: tasks.CodeTask,
  tier: str,
  budget_seconds: float,
) -> tuple[running.CodeStatus, str]:
  """Runs tests until one fails, starting with those that failed others.

  The benchmark's own check decides for tasks of kind 'check'.
  """
  problem = _digest(answer)
  submission = problem, _digest(program), tier
  if (known := _memo.get(submission)) is not None:
    return known
  if task.kind == 'check':
    ran = checking.run(program, task, tier, budget_seconds)
    found = ran.status, ran.note
  else:
    budget = running.Budget(task, budget_seconds)
    found = _tested(program, problem, task, tier, budget)
  # A verdict that depended on the clock or the jail is not stored.
  if found[0] not in ('TLE', 'SANDBOX_ERROR'):
    _remember(_memo, submission, found)
  return found


def _tested(
  program: str,
  problem: bytes,
  task: tasks.CodeTask,
  tier: str,
  budget: running.Budget,
) -> tuple[running.CodeStatus, str]:
  kills = _remember(_kills, problem, _kills.get(problem, collections.Counter()))
  for number in sorted(range(len(task.tests)), key=lambda i: (-kills[i], i)):
    ran = running.run_test(program, task, number, tier, budget)
    if ran.status != 'AC':
      kills[number] += ran.status != 'SANDBOX_ERROR'
      return ran.status, f'test {number + 1}: {ran.note}'.rstrip(': ')
  return 'AC', f'{len(task.tests)} tests'


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()


def _remember(memory: collections.OrderedDict, key: Any, value: Any) -> Any:
  memory[key] = value
  if len(memory) > _REMEMBERED:
    memory.popitem(last=False)
  return value
