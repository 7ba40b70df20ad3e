"""Code tasks as rows' answers: from a source's fields, with or without a file.

`task` comes first. Then `tests.unique`, `golden.golden`, `golden.one_output`,
`strength.strength` and `tests.tests` make a task that can be trusted, in this
order. Last, `difficulty` leaves out what a model never solves.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import types
from acereason_jax.data import code_tasks, task_store
from acereason_jax.data.curate import values
from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import stored, tasks

# A longer task is stored; its row refers to the file.
_INLINE_CHARS = 1 << 16
_JUDGE = {
  'fn': 'acereason_jax.verifiers.code:verify',
  'timeout_seconds': 300.0,
  'confine': False,
}
# Rows whose programs are asked for together.
_TOGETHER = 64


def task(source: str, fields: Mapping[str, str] = types.EMPTY) -> values.Step:
  """Turns a source's own fields into a task.

  `source` names how: 'apps' (also TACO), 'codecontests', 'codeforces',
  'livecodebench', 'leetcode', 'toolkit', 'asserts' (MBPP) or 'human_eval'.
  `fields` says where a row has a field of the source, if not in the usual
  place: a field of `Row`, or a column that was kept. A row whose answer is a
  task already keeps it.

  Raises:
    ValueError: there is no such source.
  """
  if source not in _SOURCES:
    raise ValueError(
      f'source={source!r}: expected one of {", ".join(sorted(_SOURCES))}'
    )
  each = functools.partial(_converted, source=source, fields=dict(fields))
  return values.Step('task', each=each)


def difficulty(
  judge: Mapping[str, Any] = types.EMPTY, k: int = 8
) -> values.Step:
  """Failures of a model's first k responses; out if it never succeeds.

  `judge` is the component that judges responses; the code judge by default.

  Its `whole` raises values.Missing: rows have fewer than k responses.
  """
  if k < 1:
    raise ValueError(f'k={k}: expected at least 1')
  whole = functools.partial(_difficulty, judge=dict(judge) or _JUDGE, k=k)
  return values.Step('difficulty', whole=whole)


def in_parts(
  rows: Sequence[values.Row],
  context: values.Context,
  work: Callable[[list[values.Row]], list[values.Fate]],
) -> list[values.Fate]:
  """What `work` does with some rows at a time; other shards' rows are kept."""
  mine = [i for i, row in enumerate(rows) if context.mine(row.id)]
  fates = [values.kept(row) for row in rows]
  for start in range(0, len(mine), _TOGETHER):
    part = mine[start : start + _TOGETHER]
    for i, fate in zip(part, work([rows[i] for i in part]), strict=True):
      fates[i] = fate
  return fates


def flagged(about: Mapping[str, Any], flag: str) -> dict[str, Any]:
  """`about` with one more flag."""
  return {**about, 'flags': [*about.get('flags', ()), flag]}


def answer_of(made: tasks.CodeTask) -> str:
  """The answer that is a task, or refers to its file.

  Raises:
    ValueError: one line; a test is too large, or none is left.
  """
  return written(_fields(made), (_record(t, made.kind) for t in made.tests))


def with_tests(made: tasks.CodeTask, numbers: Sequence[int]) -> str:
  """The answer with some of the tests; one test is in memory at a time."""
  chosen = (_record(made.tests[n], made.kind) for n in numbers)
  return written(_fields(made), chosen)


def written(fields: Mapping[str, Any], records: Iterable[dict]) -> str:
  """The answer of a task's fields and tests, in their JSON form."""
  held, size, records = [], len(json.dumps(dict(fields))), iter(records)
  for record in records:
    held.append(record)
    size += len(json.dumps(record))
    if size > _INLINE_CHARS:
      return task_store.store(fields, _chained(held, records))
  return json.dumps({**fields, 'tests': held})


def _chained(held: list[dict], rest: Iterator[dict]) -> Iterator[dict]:
  yield from held
  held.clear()
  yield from rest


def _fields(made: tasks.CodeTask) -> dict[str, Any]:
  """The fields without tests, except those of the usual value."""
  usual = {
    f.name: f.default for f in dataclasses.fields(made) if f.name != 'tests'
  }
  found = {name: getattr(made, name) for name in usual}
  return {n: v for n, v in found.items() if n == 'kind' or v != usual[n]}


def _record(test: tasks.Test, kind: str) -> dict[str, Any]:
  if kind == 'stdin':
    return {'stdin': test.stdin, 'expected': test.expected}
  return {'args': list(test.args), 'expected': test.expected}


def task_of(row: values.Row) -> tasks.CodeTask | None:
  """The task of a row; None if its answer is none, and `task` flagged it.

  Raises:
    ValueError: one line; the task's file cannot be read.
  """
  try:
    return code.task_of(row.answer)
  except stored.Unreadable:
    raise
  except ValueError:
    return None


def _converted(
  row: values.Row, source: str, fields: Mapping[str, str]
) -> values.Fate:
  if task_of(row):
    return values.kept(row)
  names, convert = _SOURCES[source]
  names = {**names, **fields}
  try:
    found = {name: _field(row, place) for name, place in names.items()}
    made, left_out = convert(**found)
    made = dict(made)
    answer = written(made, made.pop('tests'))
    code.task_of(answer)
  except ValueError as e:
    return values.dropped(row, 'no task', why=str(e))
  about = {k: v for k, v in row.about.items() if k not in names.values()}
  new = dataclasses.replace(row, answer=answer, about=about)
  if source == 'human_eval':
    whole = tuple(row.problem + s for s in row.solutions)
    new = dataclasses.replace(new, solutions=whole)
  evidence = {'tests left out': left_out} if left_out else {}
  return values.Fate(values.CHANGED, new, '', evidence)


def _field(row: values.Row, place: str) -> Any:
  """A field of a row, or a column that was kept; None if it has none."""
  if place in _OWN:
    return getattr(row, place)
  return row.about.get(place)


_OWN = tuple(f.name for f in dataclasses.fields(values.Row))


def _whole(convert: Callable[..., dict]) -> Callable[..., tuple[dict, int]]:
  """For a converter that leaves no test out."""
  return lambda **found: (convert(**found), 0)


def _of_row(convert: Callable[[Mapping], dict]) -> Callable:
  """For a converter that takes a row of its source."""

  def converted(**found: Any) -> tuple[dict, int]:
    return convert({k: v for k, v in found.items() if v is not None}), 0

  return converted


def _asserts(source: str, entry_point: str | None) -> tuple[dict, int]:
  return code_tasks.asserts(source, entry_point or '')


def _human_eval(
  prompt: str, entry_point: Any, test: str, solutions: Sequence[str]
) -> tuple[dict, int]:
  if not solutions:
    raise ValueError('no solution, and the check calls one')
  made = dict(kind='check', fn=entry_point, before=prompt, check=test)
  return made | dict(reference=prompt + solutions[0], tests=[]), 0


_STATEMENT = {'statement': 'problem'}
# For each source: where its converter's arguments are, and the converter.
_SOURCES: Mapping[str, tuple[Mapping[str, str], Callable]] = {
  'apps': (
    {'input_output': 'answer', 'starter_code': 'starter', **_STATEMENT},
    _whole(code_tasks.apps),
  ),
  'toolkit': (
    {'input_output': 'answer', 'starter_code': 'starter', **_STATEMENT},
    _whole(code_tasks.toolkit),
  ),
  'leetcode': (
    {
      'entry_point': 'entry_point',
      'input_output': 'answer',
      'starter_code': 'starter',
      **_STATEMENT,
    },
    _whole(code_tasks.leetcode),
  ),
  'livecodebench': (
    {
      'public_test_cases': 'public_test_cases',
      'private_test_cases': 'private_test_cases',
      'metadata': 'metadata',
      **_STATEMENT,
    },
    _whole(code_tasks.livecodebench),
  ),
  'codecontests': (
    {
      'description': 'problem',
      **{
        name: name
        for name in (
          *('public_tests', 'private_tests', 'generated_tests'),
          *('time_limit', 'memory_limit_bytes', 'input_file', 'output_file'),
        )
      },
    },
    _of_row(code_tasks.codecontests),
  ),
  'codeforces': (
    {
      'description': 'problem',
      **{
        name: name
        for name in (
          *('official_tests', 'time_limit', 'memory_limit', 'output_format'),
          *('note', 'input_mode', 'interaction_format', 'generated_checker'),
        )
      },
    },
    _of_row(code_tasks.codeforces),
  ),
  'asserts': ({'source': 'answer', 'entry_point': 'entry_point'}, _asserts),
  'human_eval': (
    {
      'prompt': 'problem',
      'entry_point': 'entry_point',
      'test': 'answer',
      'solutions': 'solutions',
    },
    _human_eval,
  ),
}


def _difficulty(
  rows: Sequence[values.Row],
  context: values.Context,
  judge: Mapping[str, Any],
  k: int,
) -> list[values.Fate]:
  lack = [r for r in rows if len(_texts(r, context, k)) < k]
  if lack:
    raise values.Missing(lack, k)

  def work(part: list[values.Row]) -> list[values.Fate]:
    pairs = [(t, r.answer) for r in part for t in _texts(r, context, k)]
    verdicts = iter(context.judge(judge, pairs))
    return [_by_failures(r, [next(verdicts) for _ in range(k)]) for r in part]

  return in_parts(rows, context, work)


def _texts(row: values.Row, context: values.Context, k: int) -> list[str]:
  return [a.text for a in context.attempts.get(row.id, ())[:k]]


def _by_failures(
  row: values.Row, verdicts: Sequence[types.Verdict]
) -> values.Fate:
  judged = [v for v in verdicts if v.judged]
  right = sum(v.status == 'right' for v in judged)
  counts = {'right': right, 'judged': len(judged)}
  if not judged:
    why = {'judge': verdicts[0].status, 'why': verdicts[0].detail}
    return values.Fate(values.UNDECIDED, row, 'not judged', why)
  if not right:
    return values.dropped(row, 'unsolved', **counts)
  new = dataclasses.replace(
    row,
    difficulty=float(len(judged) - right),
    about={**row.about, **counts},
  )
  return values.Fate(values.CHANGED, new, '', counts)
