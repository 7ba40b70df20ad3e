"""HumanEval through the steps for code: right solutions stay, mutants fail."""

import dataclasses
import gzip
import json
import pathlib

import curate_code
import pytest

from acereason_jax.data.curate import code, golden, human_eval, strength, values
from acereason_jax.data.curate import tests as tests_lib
from acereason_jax.verifiers import code as code_judge

pytestmark = pytest.mark.usefixtures('jails')


def _human_eval_rows():
  with gzip.open(pathlib.Path(human_eval.packaged()), 'rt') as file:
    for line in file:
      found = json.loads(line)
      yield values.Row(
        found['task_id'],
        found['prompt'],
        found['test'],
        solutions=(found['prompt'] + found['canonical_solution'],),
        about={'entry_point': found['entry_point']},
      )


@pytest.mark.slow
def test_human_eval():
  """A share of it; `benchmarks.human_eval_mutants` takes all.

  All tests fail more than 85% of its mutants; with its first test alone, more
  tasks are dropped than kept.
  """
  convert = code.task('asserts')
  fates = [convert.each(row) for row in _human_eval_rows()]
  tasks = [f.row for f in fates if f.kind == 'changed'][::13]
  fates = golden.golden().whole(tasks, curate_code.context())
  assert [f.kind for f in fates] == ['changed'] * 12
  step = strength.strength(share=0.0)
  kept = [f.row for f in fates]
  counts = [
    f.evidence
    for f in step.whole(kept, curate_code.context())
    if f.reason != 'trivial'
  ]
  failed = sum(c['failed'] for c in counts)
  assert failed >= 0.85 * sum(c['programs'] for c in counts)

  first = [
    dataclasses.replace(
      row, answer=code.with_tests(code_judge.task_of(row.answer), [0])
    )
    for row in kept
  ]
  fates = strength.strength().whole(first, curate_code.context())
  assert sum(f.kind == 'dropped' for f in fates) > len(fates) / 2


def test_human_eval_by_its_own_check():
  rows = list(_human_eval_rows())[:3]
  rows = [
    dataclasses.replace(r, solutions=(r.solutions[0][len(r.problem) :],))
    for r in rows
  ]
  rows = [code.task('human_eval').each(row).row for row in rows]
  context = curate_code.context()
  for step in (golden.golden(), strength.strength()):
    fates = step.whole(rows, context)
    assert [f.kind for f in fates] == ['changed'] * 3
    rows = [f.row for f in fates]
  done = [tests_lib.tests().each(row).row for row in rows]
  assert [row.about for row in done] == [{}] * 3
  assert [row.answer for row in done] == [row.answer for row in rows]
