"""Rules that ask the judge: repeated statements, and references it reads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acereason_jax.data.curate import keys
from acereason_jax.data.curate.values import (
  UNDECIDED,
  Context,
  Fate,
  Row,
  dropped,
  kept,
)

_SHOWN = 8
_SHOWN_CHARS = 80
_REASON_CHARS = 300
# How the pool's own errors begin; those of a reference begin otherwise.
_OF_POOL = ('worker ', 'no worker')


def exact(
  judge: Mapping[str, Any] | None, rows: Sequence[Row], context: Context
) -> list[Fate]:
  """One row of each key; see `one_of_each`."""
  groups: dict[str, list[int]] = {}
  for at, row in enumerate(rows):
    groups.setdefault(keys.key(row.problem), []).append(at)
  return one_of_each(judge, rows, groups.values(), context)


def one_of_each(
  judge: Mapping[str, Any] | None,
  rows: Sequence[Row],
  groups: Iterable[Sequence[int]],
  context: Context,
) -> list[Fate]:
  """One row of each group; rows whose answers are unequal are all out.

  A group is positions of rows. The row with the smallest id stays. Without a
  judge answers don't count.
  """
  repeated = [
    sorted(group, key=lambda at: rows[at].id)
    for group in groups
    if len(group) > 1
  ]
  found = {} if judge is None else _differences(rows, repeated, judge, context)
  fates = [kept(row) for row in rows]
  for group in repeated:
    members = [rows[at] for at in group]
    for at, fate in zip(group, _of_group(members, found.get(group[0]))):
      fates[at] = fate
  return fates


def _of_group(
  members: Sequence[Row], difference: tuple[str, str] | None
) -> list[Fate]:
  """Fates of rows with one key; `difference` is a status and an answer."""
  if difference is None:
    first, *others = members
    return [
      kept(first),
      *(dropped(row, 'repeat', of=first.id) for row in others),
    ]
  status, other = difference
  evidence = {
    'ids': [row.id for row in members[:_SHOWN]],
    'rows': len(members),
    'answers': [members[0].answer[:_SHOWN_CHARS], other[:_SHOWN_CHARS]],
  }
  if status == 'wrong':
    return [dropped(row, 'conflict', **evidence) for row in members]
  evidence['status'] = status
  return [Fate(UNDECIDED, row, 'not compared', evidence) for row in members]


def _differences(
  rows: Sequence[Row],
  repeated: Sequence[Sequence[int]],
  judge: Mapping[str, Any],
  context: Context,
) -> dict[int, tuple[str, str]]:
  """For groups whose answers are not all equal: why, and one that differs.

  A judge reads a response otherwise than a reference, so each pair is asked in
  both directions: right in one is equal, and else wrong in one is unequal.
  """
  pairs = []
  for group in repeated:
    first = rows[group[0]].answer
    others = dict.fromkeys(rows[at].answer for at in group)
    pairs += [
      (group[0], first, o) for o in others if o.strip() != first.strip()
    ]
  asked = [
    (rf'\boxed{{{given}}}', wanted)
    for _, first, other in pairs
    for given, wanted in ((other, first), (first, other))
  ]
  verdicts = context.judge(judge, asked) if asked else []
  found: dict[int, tuple[str, str]] = {}
  for (group, _, other), one, two in zip(pairs, verdicts[::2], verdicts[1::2]):
    statuses = {one.status, two.status}
    if 'right' in statuses:
      continue
    status = 'wrong' if 'wrong' in statuses else min(statuses)
    if group not in found or status == 'wrong' != found[group][0]:
      found[group] = status, other
  return found


def reference(
  judge: Mapping[str, Any], rows: Sequence[Row], context: Context
) -> list[Fate]:
  """Rows whose reference the judge reads and finds equal to itself.

  A judge that ran out of time, or died, says nothing about a reference.
  """
  answers = sorted({row.answer for row in rows})
  verdicts = dict(zip(answers, context.judge(judge, [(a, a) for a in answers])))
  fates = []
  for row in rows:
    verdict = verdicts[row.answer]
    evidence = {
      'answer': row.answer[:_SHOWN_CHARS],
      'status': verdict.status,
      'detail': verdict.detail[:_REASON_CHARS],
    }
    if verdict.status == 'right':
      fates.append(kept(row))
    elif verdict.status == 'timeout' or verdict.detail.startswith(_OF_POOL):
      fates.append(Fate(UNDECIDED, row, 'not read', evidence))
    else:
      fates.append(dropped(row, 'unreadable', **evidence))
  return fates
