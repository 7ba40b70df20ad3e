"""Steps and judges of the tests of curation, for processes of their own."""

import dataclasses
import functools
import os
import time
from collections.abc import Sequence

from acereason_jax.data.curate import keys, values
from acereason_jax.types import Verdict


def _short(row: values.Row, most: int) -> values.Fate:
  if len(row.problem) < most:
    return values.dropped(row, 'short', characters=len(row.problem))
  return values.kept(row)


def short(most: int) -> values.Step:
  if most < 1:
    raise ValueError(f'most={most}: expected at least 1')
  return values.Step('short', each=functools.partial(_short, most=most))


def _labels(row: values.Row) -> values.Fate:
  head, mark, rest = row.problem.partition('Problem: ')
  if mark and not head:
    changed = dataclasses.replace(row, problem=rest)
    return values.Fate(values.CHANGED, changed, 'label', dict(was=row.problem))
  return values.kept(row)


def labels() -> values.Step:
  return values.Step('labels', each=_labels)


def _same(
  rows: Sequence[values.Row], context: values.Context
) -> list[values.Fate]:
  first: dict[str, str] = {}
  fates = []
  for row in rows:
    other = first.setdefault(row.problem.lower(), row.id)
    fates.append(
      values.kept(row)
      if other == row.id
      else values.dropped(row, 'same', other=other)
    )
  return fates


def same() -> values.Step:
  return values.Step('same', whole=_same)


def _judged(
  rows: Sequence[values.Row], context: values.Context, judge: str, log: str
) -> list[values.Fate]:
  mine = [row for row in rows if context.mine(row.id)]
  component = dict(fn=judge, log=log, confine=False)
  pairs = [(row.problem, row.answer) for row in mine]
  verdicts = dict(zip((r.id for r in mine), context.judge(component, pairs)))
  fates = []
  for row in rows:
    verdict = verdicts.get(row.id)
    if verdict is None or verdict.status == 'right':
      fates.append(values.kept(row))
    elif verdict.judged:
      fates.append(values.dropped(row, 'wrong', detail=verdict.detail))
    else:
      why = dict(status=verdict.status)
      fates.append(values.Fate(values.UNDECIDED, row, 'undecided', why))
  return fates


def judged(judge: str = 'curate_steps:verify', log: str = '') -> values.Step:
  """Drops rows whose answer does not stand in their problem."""
  return values.Step(
    'judged', whole=functools.partial(_judged, judge=judge, log=log)
  )


def verify(response: str, answer: str, *, log: str) -> Verdict:
  """Right if the answer is in the response; each call is a line of `log`."""
  if log:
    with open(log, 'a') as file:
      file.write(f'{response} -> {answer}\n')
  right = answer in response
  return Verdict('right' if right else 'wrong', f'{len(response)}', 0.0)


def slow(response: str, answer: str, *, log: str) -> Verdict:
  time.sleep(0.01)
  return verify(response, answer, log=log)


def breaks(response: str, answer: str, *, log: str) -> Verdict:
  verify(response, answer, log=log)
  raise OSError('a bad day')


def _copied(
  rows: Sequence[values.Row], context: values.Context
) -> list[values.Fate]:
  known = {tuple(keys.tokens(item.text)): item.id for item in context.items}
  found = (known.get(tuple(keys.tokens(row.problem))) for row in rows)
  return [
    values.dropped(row, 'contaminated', item=item)
    if item is not None
    else values.kept(row)
    for row, item in zip(rows, found)
  ]


def copied() -> values.Step:
  """Whole copies only."""
  return values.Step('contaminated', whole=_copied)


def _answered(
  rows: Sequence[values.Row], context: values.Context
) -> list[values.Fate]:
  missing = [row for row in rows if not context.attempts[row.id]]
  if missing:
    raise values.Missing(missing, 4)
  return [values.kept(row) for row in rows]


def answered() -> values.Step:
  return values.Step('answered', whole=_answered)


def responses(rows: Sequence[values.Row], path: str) -> dict:
  if not os.path.exists(path):
    return {}
  return {row.id: [values.Attempt('one')] for row in rows}


def broken(kind: str) -> values.Step:
  """A step that breaks its contract in some way."""

  def whole(rows, context):
    fates = [values.kept(row) for row in rows]
    if kind == 'few':
      return fates[1:]
    if kind == 'other':
      return fates[::-1]
    if kind == 'kind':
      return [fate._replace(kind='gone') for fate in fates]
    return [None for _ in fates]

  return values.Step('broken', whole=whole)


def no_step() -> str:
  return 'no step'


def rows(count: int) -> list[values.Row]:
  return [values.Row(f'r{i}', f'Made {i}?', f'{i}') for i in range(count)]
