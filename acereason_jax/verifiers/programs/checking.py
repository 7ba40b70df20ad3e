"""Judges a program by a benchmark's own `check(candidate)`, in three steps.

1. The calls that the check makes become known: they are the task's tests, or
   the check runs with the reference as its candidate, once a worker and task.
2. The program is called with these arguments, in a jail.
3. The check runs in another jail, without the program: its candidate gives back
   the results. If the check makes another call, steps 2 and 3 are repeated with
   the calls that it has made so far.

So a check may loop, compare within an error, use helpers of the prompt and draw
random numbers. All calls of a check are made in one process, as in public
harnesses. The check has a budget of its own, as large as the program's. A check
that is stopped by what the program returned makes the program wrong; a
reference that does not pass makes the verdict an error.
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

# Calls of the reference as JSON, by task, the last used at the end: the values
# would take ten times as much memory.
_calls: collections.OrderedDict[bytes, str] = collections.OrderedDict()


def run(
  program: str, task: tasks.CodeTask, tier: str, budget: running.Budget
) -> running.TestRun:
  """Returns the outcome of the check of a program, as of one test."""
  try:
    made = [list(t.args) for t in task.tests] or _recorded(task, tier)
  except ValueError as e:
    return running.TestRun(0, 'SANDBOX_ERROR', str(e), 0.0, 0, '')
  checks = running.Budget(task, budget.seconds)
  for _ in range(_ROUNDS):
    ran = _served(program, task, made, tier, budget)
    if ran.status != 'AC':
      return ran
    found = _checked(task, made, ran.result, tier, checks)
    if found.status == 'SANDBOX_ERROR':
      return found
    said = _said(found)
    if 'passed' in said:
      return ran._replace(note=f'{said["passed"]} calls')
    if 'broken' in said:
      return ran._replace(status='SANDBOX_ERROR', note=said['broken'])
    if 'failed' in said:
      return ran._replace(status='WA', note=said['failed'])
    made = said['calls']
  return ran._replace(status='WA', note=f'the check asks {_ROUNDS} times')


def check_reference(task: tasks.CodeTask, tier: str) -> None:
  """Judges the task's reference as if it were a program.

  Raises:
    ValueError: it is not right; one line says why.
  """
  budget = running.Budget(task, _REFERENCE_SECONDS)
  ran = run(task.reference, task, tier, budget)
  if ran.status != 'AC':
    raise ValueError(f'the reference is {ran.status} itself: {ran.note}')


def _recorded(task: tasks.CodeTask, tier: str) -> list:
  """Returns the arguments of the calls that the check makes of the reference.

  Raises:
    ValueError: the reference does not pass; or the jail failed.
  """
  about = json.dumps([task.fn, task.before, task.check, task.reference])
  key = hashlib.sha256(about.encode()).digest()
  if key not in _calls:
    budget = running.Budget(task, _REFERENCE_SECONDS)
    found = _checked(task, None, b'', tier, budget)
    said = _said(found)
    if not said.get('passed'):
      reason = said.get('broken') or said.get('failed') or 'it calls nothing'
      raise ValueError(f'the reference does not pass the check: {reason}')
    _calls[key] = json.dumps(said['calls'])
    if len(_calls) > _REMEMBERED:
      _calls.popitem(last=False)
  _calls.move_to_end(key)
  return json.loads(_calls[key])


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
  try:
    said = json.loads(found.result)
  except (ValueError, RecursionError):
    why = f'the check ended early: {found.status} {found.note}'
    return {'failed': why[:_NOTE_CHARS]}
  return {
    k: ascii(v)[1:-1][:_NOTE_CHARS] if isinstance(v, str) else v
    for k, v in said.items()
  }
