"""Accepted programs of a source, run on its tests: are the tests right?

Each runs twice on every test, in the jail that judges training. What was found
is in the column `golden` of the row: `tests.tests` reads it, and leaves it out.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax import types
from acereason_jax.data.curate import code, mutants, values
from acereason_jax.verifiers import code as code_judge
from acereason_jax.verifiers import trial
from acereason_jax.verifiers.programs import running

# A right program of a model may take this many times the time of the source's.
TIME_FACTOR = 4.0


def component(budget_seconds: float) -> dict[str, Any]:
  """The judge that runs the programs."""
  return {
    'fn': 'acereason_jax.verifiers.trial:verify',
    'budget_seconds': budget_seconds,
    # A trial ends by itself, within twice what one submission may take.
    'timeout_seconds': 2 * running.longest_seconds(budget_seconds) + 60.0,
    'confine': False,
  }


def golden(
  most: int = 5, seconds: float = 15.0, budget_seconds: float = 240.0
) -> values.Step:
  """Keeps tasks whose accepted programs pass the tests, and those programs.

  At most `most` programs run; those in Python 2 do not. None passes: 'golden
  fails'. Two runs of one differ: 'flaky'. If some fail, the row is flagged
  'suspect', since the tests may be wrong. `seconds` is the CPU time that they
  may take for a test, and `budget_seconds` for all tests. The task's time limit
  becomes at least TIME_FACTOR times what the slowest took.
  """
  whole = functools.partial(
    _golden, most=most, seconds=seconds, judge=component(budget_seconds)
  )
  return values.Step('golden', whole=whole)


def one_output() -> values.Step:
  """Drops tasks for which right programs print different outputs.

  It follows `golden`. Two accepted programs disagree on a test, so only a judge
  of the source's own can say what is right. The reason is the kind of the
  difference: 'letter case', 'float', 'order' or 'output'.
  """
  return values.Step('one_output', each=_one_output)


def _one_output(row: values.Row) -> values.Fate:
  found = row.about.get('golden', {})
  if not found.get('differs'):
    return values.kept(row)
  return values.dropped(
    row,
    f'special judge: {found["differs"]}',
    outputs=found['note'],
  )


def _golden(
  rows: Sequence[values.Row],
  context: values.Context,
  most: int,
  seconds: float,
  judge: Mapping[str, Any],
) -> list[values.Fate]:
  def work(part: list[values.Row]) -> list[values.Fate]:
    programs = [_chosen(row, most) for row in part]
    pairs = [
      (trial.asked(program, seconds, twice=True), row.answer)
      for row, of in zip(part, programs)
      for program in of
    ]
    verdicts = iter(context.judge(judge, pairs))
    return [
      _fate(row, of, [next(verdicts) for _ in of])
      for row, of in zip(part, programs)
    ]

  return code.in_parts(rows, context, work)


def _chosen(row: values.Row, most: int) -> list[str]:
  """The first of the programs that are Python 3."""
  found = (p for p in dict.fromkeys(row.solutions) if mutants.parsed(p))
  return [p for p, _ in zip(found, range(most))]


def _fate(
  row: values.Row, programs: Sequence[str], verdicts: Sequence[types.Verdict]
) -> values.Fate:
  if not programs:
    return values.dropped(row, 'no solution', given=len(row.solutions))
  failed = [v for v in verdicts if not v.judged]
  if failed:
    why = {'judge': failed[0].status, 'why': failed[0].detail}
    return values.Fate(values.UNDECIDED, row, 'not judged', why)
  trials = [trial.said(v) for v in verdicts]
  evidence = {'solutions': [_shown(t) for t in trials]}
  if any(t.flaky for t in trials):
    return values.dropped(row, 'flaky', **evidence)
  right = [p for p, t in zip(programs, trials) if t.status == 'AC']
  if not right:
    notes = [t.note for t in trials if t.note][:1]
    return values.dropped(row, 'golden fails', **evidence, notes=notes)
  new = _trusted(row, right, trials)
  return values.Fate(values.CHANGED, new, '', evidence)


def _shown(one: trial.Trial) -> str:
  status = 'flaky' if one.flaky else one.status
  return status if one.test < 0 else f'{status} test {one.test + 1}'


def _trusted(
  row: values.Row, right: Sequence[str], trials: Sequence[trial.Trial]
) -> values.Row:
  """The row with the programs that pass, and what is known of them."""
  times = [t.times for t in trials if t.status == 'AC']
  found: dict[str, Any] = {'times': _slowest(times)}
  seconds = trial.longest(found['times'])
  if differs := next((t for t in trials if t.differs), None):
    found |= {
      'differs': differs.differs,
      'note': differs.note,
    }
  about = {**row.about, 'golden': found}
  if len(right) < len(trials):
    about = code.flagged(about, 'suspect')
  return dataclasses.replace(
    row,
    answer=_with_time(row.answer, TIME_FACTOR * seconds),
    solutions=tuple(right),
    about=about,
  )


def _slowest(times: Sequence[str]) -> str:
  """For each test, the longest time."""
  digits = itertools.zip_longest(*times, fillvalue='0')
  return ''.join(map(max, digits))


def _with_time(answer: str, seconds: float) -> str:
  """The answer of the task with at least this time limit."""
  task = code_judge.task_of(answer)
  if task.time_limit_seconds >= seconds:
    return answer
  longer = dataclasses.replace(task, time_limit_seconds=seconds)
  return code.answer_of(longer)
