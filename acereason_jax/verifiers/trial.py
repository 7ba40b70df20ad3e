"""Runs a program on a task and says more than a verdict, to prepare data.

A response is what `asked` returns: a program, its time limit for a test, and
whether it is one that ought to be right. Such a program runs on every test,
twice; others run until a test fails. The verdict's detail is a `Trial`.
Nothing in it depends on the clock, except by a factor of two: the same
programs give the same data.
"""

import collections
import dataclasses
import hashlib
import json
import math
import time
from typing import Any, NamedTuple

from acereason_jax.types import Verdict
from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import (
  checking,
  compare,
  running,
  stored,
  tasks,
)

# Shorter times are equal: they are mostly the interpreter's.
LEAST_SECONDS = 0.125
# Tests whose times are told; those of others are equal to the longest.
_TIMES = 1000
# Accepted programs whose numbers differ by less were judged with a tolerance.
_FLOAT_ERROR = 1e-4
_SHOWN = 160
# Larger outputs differ by 'output'.
_COMPARED = 1 << 20


class Trial(NamedTuple):
  """What a program did.

  status: 'AC', or the status of the first test that failed.
  test: index of that test; -1 for none.
  note: the first output that differed, and its test.
  differs: kind of that difference: 'letter case', 'order', 'float' for numbers
    that are close, 'output' for others; '' if no output differed.
  flaky: whether it did something else when it ran again.
  times: a digit for each test up to the last slow one, see `longest`.
  """

  status: str
  test: int = -1
  note: str = ''
  differs: str = ''
  flaky: bool = False
  times: str = ''


def asked(program: str, seconds: float, twice: bool) -> str:
  """The response that asks for a trial."""
  return json.dumps([program, seconds, twice])


def said(verdict: Verdict) -> Trial:
  """The trial in a verdict that is 'right' or 'wrong'."""
  return Trial(**json.loads(verdict.detail))


def longest(times: str) -> float:
  """CPU time of the slowest test, rounded up.

  It is LEAST_SECONDS times a power of two: the digit 3 is up to eight times.
  """
  return LEAST_SECONDS * 2 ** max(map(int, times), default=0)


def of_test(times: str, test: int) -> float:
  """CPU time of a test, rounded up."""
  return longest(times if test >= _TIMES else times[test : test + 1])


def verify(
  response: str,
  answer: str,
  *,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> Verdict:
  """Returns 'right' if all tests pass, else 'wrong', with a `Trial`.

  `budget_seconds` is the CPU time of all tests together, for each of two runs.
  """
  start = time.perf_counter()
  status, detail = _tried(response, answer, tier, budget_seconds)
  return Verdict(status, detail, time.perf_counter() - start)


def prepare_worker(
  timeout_seconds: float,
  confine: bool,
  *,
  tier: str = 'auto',
  budget_seconds: float = 60.0,
) -> str:
  """As `code.prepare_worker`; a program may run twice."""
  return code.prepare_worker(
    timeout_seconds / 2, confine, tier=tier, budget_seconds=budget_seconds
  )


verify.prepare_worker = prepare_worker


def _tried(
  response: str, answer: str, tier: str, budget_seconds: float
) -> tuple[Any, str]:
  try:
    task = code.task_of(answer)
    program, seconds, twice = json.loads(response)
    task = dataclasses.replace(task, time_limit_seconds=seconds)
    ran = [_run(program, task, twice, tier, budget_seconds)]
    if twice and ran[0][-1].status != 'SANDBOX_ERROR':
      ran.append(_run(program, task, twice, tier, budget_seconds))
  except stored.Unreadable as e:
    return 'error', ascii(str(e))[1:-1]
  except ValueError as e:
    return 'error', ascii(f'no trial: {e}')[1:-1]
  for runs in ran:
    if runs[-1].status == 'SANDBOX_ERROR':
      return 'error', runs[-1].note
  trial = _trial(ran, task)
  status = 'right' if trial.status == 'AC' and not trial.flaky else 'wrong'
  return status, json.dumps(trial._asdict())


class _Ran(NamedTuple):
  """One test's outcome, without what it printed.

  status: its status.
  note: its note.
  differs: as in `Trial`.
  digest: digest of a wrong output.
  seconds: CPU time.
  """

  status: str
  note: str
  differs: str
  digest: str
  seconds: float


def _run(
  program: str,
  task: tasks.CodeTask,
  every: bool,
  tier: str,
  budget_seconds: float,
) -> list[_Ran]:
  """The outcomes of tests: of all, or up to the first failure.

  None follows a test whose program took too long, and none a broken jail.
  """
  budget, outcomes = running.Budget(task, budget_seconds), []
  for number in range(len(task.tests) if task.kind != 'check' else 1):
    if task.kind == 'check':
      ran = checking.run(program, task, tier, budget_seconds)
    else:
      ran = running.run_test(program, task, number, tier, budget)
    outcomes.append(_ran(ran, task))
    ends = 'TLE', 'SANDBOX_ERROR'
    if ran.status in ends or (ran.status != 'AC' and not every):
      break
  return outcomes


def _ran(ran: running.TestRun, task: tasks.CodeTask) -> _Ran:
  differs = digest = ''
  if ran.status == 'WA' and task.kind != 'check':
    differs = difference(ran.output, task.tests[ran.number].expected, task.kind)
    digest = hashlib.sha256(ran.output).hexdigest()
  return _Ran(ran.status, ran.note, differs, digest, ran.cpu_seconds)


def _trial(ran: list[list[_Ran]], task: tasks.CodeTask) -> Trial:
  """What one or two runs say together.

  Other notes are left out: they may hold a time or an address.
  """
  first, again = ran[0], ran[-1]
  if all(r.status == 'AC' for r in first):
    first, again = again, first
  number = next((i for i, r in enumerate(first) if r.status != 'AC'), -1)
  failed = first[number] if number >= 0 else None
  wrong = next(((i, r) for i, r in enumerate(first) if r.differs), None)
  note = f'test {wrong[0] + 1}: {wrong[1].note}' if wrong else ''
  if failed and task.kind == 'check' and failed.status == 'WA':
    note = failed.note
  # A program that takes too long once in two runs is slow, not flaky.
  late = any(r.status == 'TLE' for r in (*first, *again))
  flaky = not late and _seen(first) != _seen(again)
  return Trial(
    failed.status if failed else 'AC',
    number,
    '' if flaky else note[:_SHOWN],
    wrong[1].differs if wrong else '',
    flaky,
    _times(ran),
  )


def _seen(runs: list[_Ran]) -> list[tuple[str, str]]:
  return [(r.status, r.digest) for r in runs]


def _times(ran: list[list[_Ran]]) -> str:
  most: dict[int, float] = collections.defaultdict(float)
  for runs in ran:
    for number, one in enumerate(runs):
      place = min(number, _TIMES - 1)
      most[place] = max(most[place], one.seconds)
  digits = (_digit(most[place]) for place in range(len(most)))
  return ''.join(digits).rstrip('0')


def _digit(seconds: float) -> str:
  if seconds <= LEAST_SECONDS:
    return '0'
  return str(min(9, math.ceil(math.log2(seconds / LEAST_SECONDS))))


def difference(given: bytes, expected: Any, kind: str) -> str:
  """The kind of a difference between two outputs of right programs."""
  if len(given) > _COMPARED:
    return 'output'
  if kind == 'call':
    try:
      return _between(json.loads(given), expected)
    except (ValueError, RecursionError):
      return 'output'
  text = given.decode('utf-8', 'surrogateescape')
  if not compare.printed(given, expected, _FLOAT_ERROR):
    return 'float'
  if text.casefold().split() == expected.casefold().split():
    return 'letter case'
  if sorted(text.split()) == sorted(expected.split()):
    return 'order'
  return 'output'


def _between(given: Any, expected: Any) -> str:
  texts = [json.dumps(v) for v in (given, expected)]
  if not compare.returned(texts[0].encode(), expected, _FLOAT_ERROR):
    return 'float'
  if texts[0].casefold() == texts[1].casefold():
    return 'letter case'
  lists = [v for v in (given, expected) if isinstance(v, list)]
  if len(lists) == 2:
    left, right = (sorted(map(json.dumps, v)) for v in lists)
    return 'order' if left == right else 'output'
  return 'output'
