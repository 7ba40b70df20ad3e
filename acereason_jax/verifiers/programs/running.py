"""Runs a program on a task's tests, within a budget, and returns outcomes.

A program under which the jail fails twice is RE if an empty program then runs.
"""

import signal
import threading
import time
from typing import Literal, NamedTuple

from acereason_jax.verifiers.programs import compare, jail, tasks

CodeStatus = Literal[
  'AC', 'WA', 'TLE', 'MLE', 'RE', 'OLE', 'NO_CODE', 'SANDBOX_ERROR'
]
# Wall time that a program may take beyond its CPU limit, on a busy machine, and
# time asleep, for reading its modules.
_WALL_FACTOR, _WALL_SECONDS = 4.0, 4.0
_ASLEEP_SECONDS = 2.0
# A run needs so much to be confined and to begin, also on a busy machine. With
# less CPU or wall time left, no test is begun; less sleep is raised to it.
_LEAST_SECONDS = 0.05
_LEAST_ASLEEP = 0.5
# Relative error of measuring: a run this close above the limit is repeated.
_NEAR = 1.25


class TestRun(NamedTuple):
  """One test's outcome.

  number: index of the test in the task, from 0.
  status: status, 'AC' if it passed.
  note: first difference, or the error.
  cpu_seconds: CPU time that the program used.
  peak_bytes: most memory that it had.
  stderr: end of its stderr.
  broke: whether the jail failed while the program ran.
  result: what it wrote to its result; b'' if it did not end well.
  output: what was compared with what is expected, for 'AC' and 'WA'.
  """

  number: int
  status: CodeStatus
  note: str
  cpu_seconds: float
  peak_bytes: int
  stderr: str
  broke: bool = False
  result: bytes = b''
  output: bytes = b''


def longest_seconds(budget_seconds: float) -> float:
  """Returns the wall time that a submission with this budget may take."""
  return _WALL_FACTOR * budget_seconds + _WALL_SECONDS


# A jail serves one thread, and ends with the thread that started it.
jails = threading.local()


def started_jail(tier: str) -> jail.Jail:
  """Returns this thread's jail of a tier, which is started on first use."""
  started = vars(jails)
  if tier not in started:
    started[tier] = jail.Jail(tier)
  return started[tier]


class Budget:
  """The time that a submission has left; as for a test, CPU time decides.

  It may sleep as long in all of its tests together as in one, because a
  sleeping program occupies a worker.
  """

  def __init__(self, task: tasks.CodeTask, seconds: float):
    self.cpu_seconds = seconds
    asleep = min(task.time_limit_seconds, seconds) + _ASLEEP_SECONDS
    self.asleep_seconds = asleep
    self._deadline = time.monotonic() + longest_seconds(seconds)

  def limits(self, task: tasks.CodeTask) -> jail.Limits | None:
    """Returns the limits of the next run; None if nothing is left."""
    left = self._deadline - time.monotonic()
    if min(self.cpu_seconds, left) < _LEAST_SECONDS or self.asleep_seconds <= 0:
      return None
    cpu = min(task.time_limit_seconds, self.cpu_seconds)
    wall = min(longest_seconds(cpu), left)
    asleep = max(self.asleep_seconds, _LEAST_ASLEEP)
    return jail.Limits(cpu, wall, task.memory_bytes, asleep)


def run_test(
  program: str,
  task: tasks.CodeTask,
  number: int,
  tier: str,
  budget: Budget,
  how: str = '',
) -> TestRun:
  """Runs one test; again if it was near the limit, or the jail broke.

  With `how`, a name in `calls.HOW`, the result is only returned.
  """
  ran = _run_once(program, task, number, tier, budget, how)
  near = task.time_limit_seconds < ran.cpu_seconds
  near &= ran.cpu_seconds < _NEAR * task.time_limit_seconds
  if ran.status == 'SANDBOX_ERROR' or (ran.status == 'TLE' and near):
    first, ran = ran, _run_once(program, task, number, tier, budget, how)
    ran = ran._replace(note=f'{ran.note} (run twice)'.strip())
    if first.broke and ran.broke and _empty_runs(task, number, tier):
      # Otherwise a program that breaks jails would have no wrong answers.
      note = f'it breaks the jail, an empty program does not: {ran.note}'
      ran = ran._replace(status='RE', note=note)
  return ran


def _empty_runs(task: tasks.CodeTask, number: int, tier: str) -> bool:
  """Whether a fresh jail runs an empty program on a test's input."""
  limits = Budget(task, task.time_limit_seconds).limits(task)
  stdin = task.tests[number].stdin.encode('utf-8', 'surrogatepass')
  try:
    return started_jail(tier).run(b'', stdin, limits).exit == 0
  except jail.SandboxError:
    vars(jails).clear()
    return False


def _run_once(
  program: str,
  task: tasks.CodeTask,
  number: int,
  tier: str,
  budget: Budget,
  how: str,
) -> TestRun:
  test, limits = task.tests[number], budget.limits(task)
  if limits is None:
    return TestRun(number, 'TLE', 'the budget of all tests', 0.0, 0, '')
  source = program.encode('utf-8', 'surrogatepass')
  stdin = test.stdin.encode('utf-8', 'surrogatepass')
  try:
    outcome = started_jail(tier).run(
      source, stdin, limits, task.fn, test.args, how
    )
  except jail.SandboxError as e:
    vars(jails).clear()
    note, broke = ascii(str(e))[1:-1][:200], isinstance(e, jail.Broke)
    return TestRun(number, 'SANDBOX_ERROR', note, 0.0, 0, '', broke=broke)
  # Every run counts, even one that is repeated: otherwise a program with random
  # running times would get some of it free.
  budget.cpu_seconds -= outcome.cpu_seconds
  budget.asleep_seconds -= outcome.asleep_seconds
  status, note = _status(outcome, limits, task, test, how)
  return TestRun(
    number,
    status,
    note,
    outcome.cpu_seconds,
    outcome.peak_bytes,
    outcome.stderr.decode('utf-8', 'replace'),
    result=outcome.result if status == 'AC' else b'',
    output=_compared(outcome, task) if status in ('AC', 'WA') else b'',
  )


def _status(
  outcome: jail.Outcome,
  limits: jail.Limits,
  task: tasks.CodeTask,
  test: tasks.Test,
  how: str,
) -> tuple[CodeStatus, str]:
  """Returns the status of a run and a note."""
  if outcome.cpu_seconds > limits.cpu_seconds:
    return 'TLE', f'{outcome.cpu_seconds:.2f} s of CPU time'
  if how and outcome.exit == -signal.SIGPROF:
    return 'TLE', 'one call took all of its CPU time'
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
  if how:
    return 'AC', ''
  differ = compare.returned if task.kind == 'call' else compare.printed
  given = _compared(outcome, task)
  difference = differ(given, test.expected, task.float_tol, task.float_error)
  return ('WA', difference) if difference else ('AC', '')


def _compared(outcome: jail.Outcome, task: tasks.CodeTask) -> bytes:
  return outcome.result if task.kind == 'call' else outcome.stdout
