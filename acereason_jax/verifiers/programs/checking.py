"""Judges a program by a benchmark's own `check(candidate)`, in three steps.

1. The calls that the check makes become known: they are the task's tests, or
   the check runs with the reference as its candidate, once a worker and task.
2. The program is called with these arguments, in a jail.
3. The check runs in another jail, without the program: its candidate gives back
   the results. If the check makes another call, steps 2 and 3 are repeated with
   the calls that it has made so far.

So a check may loop, compare within an error, use helpers of the prompt and draw
random numbers. All calls of a check are made in one process, as in public
harnesses. The check has a budget of its own, as large as the program's. If it
is stopped, or the reference raises in it, the reference is checked too: the
verdict is an error if it does not pass, since the check is to blame. Otherwise
what the program returned is, and the program is wrong.
"""

import collections
import dataclasses
import hashlib
import json
from typing import Any

from acereason_jax.verifiers.programs import running, tasks

# CPU time of a reference, and of its check.
_REFERENCE_SECONDS = 60.0
# Most repetitions for checks whose calls depend on the results.
_ROUNDS = 64
_REMEMBERED = 512
_NOTE_CHARS = 400
# A finding becomes many times as large in this process. Only calls are large.
_FOUND_BYTES = 16 << 20
# The reference runs twice in its own check if that calls it too.
_TWICE = 2.0

# Calls of the reference as JSON, by task, the last used at the end: the values
# would take ten times as much memory.
_calls: collections.OrderedDict[bytes, str] = collections.OrderedDict()
# Tasks whose reference passes, with the seconds that it had.
_passed: collections.OrderedDict[tuple, None] = collections.OrderedDict()


def run(
  program: str, task: tasks.CodeTask, tier: str, seconds: float
) -> running.TestRun:
  """Returns the outcome of the check of a program, as of one test.

  The program has `seconds` of CPU time for all calls, and so has the check.
  """
  try:
    made = [list(t.args) for t in task.tests] or _recorded(task, tier)
  except ValueError as e:
    return running.TestRun(0, 'SANDBOX_ERROR', str(e), 0.0, 0, '')
  # A budget also ends by wall time, so each begins when it is first needed: on
  # a busy machine the reference must not use up the program's budget, nor the
  # program the check's.
  budget, checks = running.Budget(task, seconds), None
  for _ in range(_ROUNDS):
    ran = _served(program, task, made, tier, budget)
    if ran.status != 'AC':
      return ran
    checks = checks or running.Budget(task, seconds)
    if (lines := ran.result.count(b'\n')) < len(made):
      note = f'it ended after {lines} of {len(made)} calls'
      return ran._replace(status='WA', note=note)
    found = _checked(task, made, ran.result, tier, checks)
    if found.status == 'SANDBOX_ERROR':
      return found
    said = _said(found)
    if 'passed' in said:
      return ran._replace(note=f'{said["passed"]} calls')
    if found.status != 'AC' or 'broken' in said:
      try:
        _check_passes(task, tier, seconds)
      except ValueError as e:
        return ran._replace(status='SANDBOX_ERROR', note=str(e))
      said = {'failed': said.get('broken') or said['failed']}
    if 'failed' in said:
      return ran._replace(status='WA', note=said['failed'])
    made = said['calls']
  return ran._replace(status='WA', note=f'the check asks {_ROUNDS} times')


def check_reference(task: tasks.CodeTask, tier: str) -> None:
  """Judges the task's reference as if it were a program.

  Raises:
    ValueError: it is not right; one line says why.
  """
  ran = run(task.reference, task, tier, _REFERENCE_SECONDS)
  if ran.status != 'AC':
    raise ValueError(f'the reference is {ran.status} itself: {ran.note}')


def _recorded(task: tasks.CodeTask, tier: str) -> list:
  """Returns the arguments of the calls that the check makes of the reference.

  Raises:
    ValueError: the reference does not pass; or the jail failed.
  """
  key = _key(task)
  if key not in _calls:
    made = _passes(task, tier, _REFERENCE_SECONDS)
    _remember(_calls, key, json.dumps(made))
  _calls.move_to_end(key)
  return json.loads(_calls[key])


def _check_passes(task: tasks.CodeTask, tier: str, seconds: float) -> None:
  """Raises ValueError if the reference does not pass in a program's time."""
  key = _key(task), seconds
  if key not in _passed:
    _passes(task, tier, _TWICE * seconds)
    _remember(_passed, key, None)


def _passes(task: tasks.CodeTask, tier: str, seconds: float) -> list:
  """Returns the calls of the reference, which passes the check.

  Raises:
    ValueError: it does not; or the jail failed.
  """
  found = _checked(task, None, b'', tier, running.Budget(task, seconds))
  said = _said(found)
  if not said.get('passed'):
    reason = said.get('broken') or said.get('failed') or 'it calls nothing'
    raise ValueError(f'the reference does not pass the check: {reason}')
  return said['calls']


def _key(task: tasks.CodeTask) -> bytes:
  inputs = [list(t.args) for t in task.tests]
  about = [task.fn, task.before, task.check, task.reference, inputs]
  return hashlib.sha256(json.dumps(about).encode()).digest()


def _remember(memory: collections.OrderedDict, key: Any, value: Any) -> None:
  memory[key] = value
  if len(memory) > _REMEMBERED:
    memory.popitem(last=False)


def _served(
  program: str,
  task: tasks.CodeTask,
  made: list,
  tier: str,
  budget: running.Budget,
) -> running.TestRun:
  """Returns the outcome of the calls; its result has a line for each."""
  test = tasks.Test('', (task.time_limit_seconds, made), None)
  # All calls together may take what is left.
  one = dataclasses.replace(
    task, tests=(test,), time_limit_seconds=max(budget.cpu_seconds, 0.0)
  )
  return running.run_test(task.before + program, one, 0, tier, budget, 'serve')


def _checked(
  task: tasks.CodeTask,
  made: list | None,
  results: bytes,
  tier: str,
  budget: running.Budget,
) -> running.TestRun:
  """Returns the outcome of a check; its result is what it found."""
  inputs = [list(t.args) for t in task.tests]
  stdin = results.decode('ascii', 'replace')
  test = tasks.Test(stdin, (task.reference, inputs, made), None)
  one = dataclasses.replace(
    task, tests=(test,), time_limit_seconds=max(budget.cpu_seconds, 0.0)
  )
  source = f'{task.before}\n{task.check}\n'
  return running.run_test(source, one, 0, tier, budget, 'check')


def _said(found: running.TestRun) -> dict[str, Any]:
  """Returns what a check found, or 'failed' with what stopped it."""
  if len(found.result) > _FOUND_BYTES:
    return {'failed': f'its calls take {len(found.result):,} bytes'}
  try:
    said = json.loads(found.result)
  except (ValueError, RecursionError):
    why = f'the check ended early: {found.status} {found.note}'
    return {'failed': why[:_NOTE_CHARS]}
  return {
    k: ascii(v)[1:-1][:_NOTE_CHARS] if isinstance(v, str) else v
    for k, v in said.items()
  }
