"""Rows with code tasks of our own, and a context that judges them here."""

import json

from acereason_jax.data.curate import values
from acereason_jax.verifiers import code as code_judge
from acereason_jax.verifiers import trial

_VERIFY = {
  'acereason_jax.verifiers.trial:verify': trial.verify,
  'acereason_jax.verifiers.code:verify': code_judge.verify,
}
_OF_POOL = ('fn', 'timeout_seconds', 'confine')


class Judge:
  """Judges; `asked` has every question."""

  def __init__(self):
    self.asked = []

  def __call__(self, component, pairs):
    verify = _VERIFY[component['fn']]
    arguments = {k: v for k, v in component.items() if k not in _OF_POOL}
    self.asked += pairs
    return [verify(*pair, **arguments) for pair in pairs]


def context(judge=None, attempts=None, mine=lambda row_id: True):
  return values.Context(
    seed=0,
    items=(),
    attempts=attempts or {},
    judge=judge or Judge(),
    remember=None,
    count_tokens=None,
    mine=mine,
  )


def task(tests, **fields):
  """A task of (stdin, expected)."""
  listed = [{'stdin': i, 'expected': o} for i, o in tests]
  return json.dumps({'kind': 'stdin', 'tests': listed, **fields})


def call_task(tests, fn='f', **fields):
  """A task of (arguments, expected)."""
  listed = [{'args': a, 'expected': o} for a, o in tests]
  return json.dumps({'kind': 'call', 'fn': fn, 'tests': listed, **fields})


def row(answer, *solutions, wrong=(), row_id='r', **about):
  return values.Row(
    row_id, 'a problem', answer, solutions=solutions, wrong=wrong, about=about
  )


def of(step, row, **more):
  """The fate of one row."""
  if step.each:
    fate = step.each(row)
  else:
    (fate,) = step.whole([row], context(**more))
  # It is written to a file.
  json.dumps(dict(fate.evidence))
  json.dumps(dict(fate.row.about))
  return fate
