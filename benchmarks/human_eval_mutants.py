"""How many mutants of HumanEval's own solutions do its tests find?

    python -m benchmarks.human_eval_mutants

The tasks are those of `code_tasks.asserts`. Prints the share of mutants that
the first test finds, the first three, and all; tasks of which a share under 0.7
is found; and the CPU seconds of everything next to those of the programs.
"""

import gzip
import json
import resource
import tempfile

from acereason_jax.data.curate import (
  code,
  golden,
  human_eval,
  judging,
  mutants,
  state,
  values,
)
from acereason_jax.data.curate import tests as tests_lib
from acereason_jax.verifiers import code as code_judge
from acereason_jax.verifiers import trial

_WEAK = 0.7


def rows() -> list[values.Row]:
  """HumanEval's problems as rows of a source."""
  with gzip.open(human_eval.packaged(), 'rt') as file:
    found = [json.loads(line) for line in file]
  return [
    values.Row(
      id=r['task_id'],
      problem=r['prompt'],
      answer=r['test'],
      solutions=(r['prompt'] + r['canonical_solution'],),
      about={'entry_point': r['entry_point']},
    )
    for r in found
  ]


def main() -> None:
  step = code.task('asserts')
  fates = [step.each(row) for row in rows()]
  tasks = [f.row for f in fates if f.kind == values.CHANGED]
  print(f'{len(tasks)} of {len(fates)} tasks can be converted')
  with (
    tempfile.TemporaryDirectory() as folder,
    state.State(folder) as known,
    judging.Judges(known, 2) as judges,
  ):
    context = values.Context(
      0, (), {}, judges.judge, known.remember, lambda t: [], lambda i: True
    )
    fates = [tests_lib.unique().each(row) for row in tasks]
    fates = golden.golden().whole([f.row for f in fates], context)
    kept = [f.row for f in fates if f.kind == values.CHANGED]
    print(f'{len(kept)} keep their solution')
    _report(kept, context)


def _report(kept: list[values.Row], context: values.Context) -> None:
  firsts = []
  weak = [0, 0]
  seconds = 0.0
  for row in kept:
    programs = [m.text for m in mutants.of(row.solutions[0], 50)]
    pairs = [(trial.asked(p, 1.0, twice=False), row.answer) for p in programs]
    verdicts = context.judge(golden.component(240.0), pairs)
    seconds += sum(v.seconds for v in verdicts)
    found = [trial.said(v).test for v in verdicts if v.judged]
    firsts += found
    for i, most in enumerate((1, len(code_judge.task_of(row.answer).tests))):
      killed = sum(0 <= t < most for t in found)
      weak[i] += killed < _WEAK * len(found)
  total = len(firsts)
  for name, most in (('first', 1), ('three', 3), ('all', 1 << 30)):
    killed = sum(0 <= test < most for test in firsts)
    print(f'{name}: {killed} of {total} mutants, {killed / total:.1%}')
  print(f'under {_WEAK}: {weak[0]} with the first test, {weak[1]} with all')
  used = resource.getrusage(resource.RUSAGE_SELF)
  child = resource.getrusage(resource.RUSAGE_CHILDREN)
  print(
    f'verdicts {seconds:.1f} s of wall time; this process '
    f'{used.ru_utime + used.ru_stime:.1f} s CPU, its workers '
    f'{child.ru_utime + child.ru_stime:.1f} s'
  )


if __name__ == '__main__':
  main()
