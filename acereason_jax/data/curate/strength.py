"""Would wrong programs fail a task's tests? Mutants and others are tried.

The mutants are of the first program that `golden.golden` left; with them run
programs that the source refused. Each runs until a test fails, in the order of
the tests. So the tests that ended programs, in the column `killers`, end all of
them together: `tests.tests` keeps these first, and leaves the column out.
"""

import collections
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data.curate import code, golden, mutants, values
from acereason_jax.verifiers import trial
from acereason_jax.verifiers.programs import tasks

_CONSTANT_CHARS = 1 << 16
_SHOWN = 5


def strength(
  share: float = 0.7, most: int = 50, budget_seconds: float = 240.0
) -> values.Step:
  """Keeps tasks whose tests at least this share of wrong programs fails.

  They are at most `most` mutants and `most` programs of the source, chosen by
  hash. A task is 'trivial' if a program passes that does nothing, returns its
  input, or always gives the first test's output.
  """
  if not 0 <= share <= 1:
    raise ValueError(f'share={share}: expected 0 to 1')
  whole = functools.partial(
    _strength, share=share, most=most, judge=golden.component(budget_seconds)
  )
  return values.Step('strength', whole=whole)


class _Wrong(NamedTuple):
  """A program that should fail.

  name: what it is.
  text: its source.
  """

  name: str
  text: str


def _strength(
  rows: Sequence[values.Row],
  context: values.Context,
  share: float,
  most: int,
  judge: Mapping[str, Any],
) -> list[values.Fate]:
  def work(part: list[values.Row]) -> list[values.Fate]:
    simple = [trivial(code.task_of(row)) for row in part]
    tried = _tried(part, simple, context, judge)
    easy = [_passed(*pair) for pair in zip(simple, tried)]
    # Nothing more is asked about a task that they pass.
    wrong = [
      [] if passed else _wrong(row, most) for row, passed in zip(part, easy)
    ]
    ended = _tried(part, wrong, context, judge)
    return [
      _fate(row, share, passed, simply, programs, verdicts)
      for row, passed, simply, programs, verdicts in zip(
        part, easy, tried, wrong, ended
      )
    ]

  return code.in_parts(rows, context, work)


def _wrong(row: values.Row, most: int) -> list[_Wrong]:
  """Mutants, and what the source refused."""
  # Mutants of a program that no one found right would prove nothing.
  found = mutants.of(row.solutions[0], most) if 'golden' in row.about else []
  refused = mutants.some(row.wrong, most) if code.task_of(row) else []
  return [
    *(_Wrong(m.change, m.text) for m in found),
    *(_Wrong('refused by the source', text) for text in refused),
  ]


def _tried(
  rows: Sequence[values.Row],
  programs: Sequence[Sequence[_Wrong]],
  context: values.Context,
  judge: Mapping[str, Any],
) -> list[list[types.Verdict]]:
  """The verdicts on each row's programs."""
  pairs = [
    (trial.asked(p.text, _seconds(row), twice=False), row.answer)
    for row, of in zip(rows, programs)
    for p in of
  ]
  verdicts = iter(context.judge(judge, pairs) if pairs else ())
  return [[next(verdicts) for _ in of] for of in programs]


def _seconds(row: values.Row) -> float:
  """CPU time that a test may take: many mutants never end."""
  times = row.about.get('golden', {}).get('times', '')
  return golden.TIME_FACTOR * trial.longest(times)


def _passed(
  programs: Sequence[_Wrong], verdicts: Sequence[types.Verdict]
) -> list[str]:
  """Names of the programs that pass all tests."""
  return [p.name for p, v in zip(programs, verdicts) if v.status == 'right']


def _fate(
  row: values.Row,
  share: float,
  trivially: Sequence[str],
  simply: Sequence[types.Verdict],
  programs: Sequence[_Wrong],
  verdicts: Sequence[types.Verdict],
) -> values.Fate:
  if trivially:
    return values.dropped(row, 'trivial', passes=list(trivially))
  judged = [(p, v) for p, v in zip(programs, verdicts) if v.judged]
  if programs and not judged:
    why = {'judge': verdicts[0].status, 'why': verdicts[0].detail}
    return values.Fate(values.UNDECIDED, row, 'not judged', why)
  passed = _passed(*zip(*judged)) if judged else []
  counts = {'programs': len(judged), 'failed': len(judged) - len(passed)}
  if judged and counts['failed'] / counts['programs'] < share:
    kinds = collections.Counter(passed).most_common(_SHOWN)
    return values.dropped(row, 'weak tests', **counts, passes=dict(kinds))
  found = (*simply, *(v for _, v in judged))
  ended = collections.Counter(
    trial.said(v).test for v in found if v.status == 'wrong'
  )
  # Those that end most programs first.
  killers = sorted(ended, key=lambda test: (-ended[test], test))
  new = dataclasses.replace(row, about={**row.about, 'killers': killers})
  return values.Fate(values.CHANGED, new, '', counts)


def trivial(task: tasks.CodeTask | None) -> list[_Wrong]:
  """Programs that no good tests let pass."""
  if task is None:
    return []
  if task.kind == 'stdin':
    found = [
      _Wrong('an empty program', ''),
      _Wrong('its input', 'import sys\nsys.stdout.write(sys.stdin.read())\n'),
    ]
    expected = task.tests[0].expected
    if len(expected) <= _CONSTANT_CHARS:
      text = f'import sys\nsys.stdout.write({expected!a})\n'
      found.append(_Wrong("the first test's output", text))
    return found
  found = [
    _Wrong('an empty program', _function(task, 'None')),
    _Wrong('its input', _function(task, 'args[0] if args else None')),
  ]
  if task.tests and task.kind == 'call':
    expected = json.dumps(task.tests[0].expected)
    if len(expected) <= _CONSTANT_CHARS:
      constant = f'__import__("json").loads({expected!a})'
      text = _function(task, constant)
      found.append(_Wrong("the first test's output", text))
  return found


def _function(task: tasks.CodeTask, result: str) -> str:
  """A program whose function returns this."""
  *classes, name = task.fn.split('.')
  if classes:
    return f'class Solution:\n  def {name}(self, *args):\n    return {result}\n'
  return f'def {name}(*args):\n  return {result}\n'
