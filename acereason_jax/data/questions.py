"""Rows: questions with their answers, each with a unique id."""

import collections
import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterable

from acereason_jax import types

MAX_ID_CHARS = 200
# Characters of all questions and answers, which are kept in memory.
_MAX_TOTAL_CHARS = 4 << 30
_SHOWN_IDS = 3


@dataclasses.dataclass(frozen=True)
class Row:
  """One question and its reference answer.

  id: stable and unique.
  question: the user's turn.
  answer: the reference that the judge compares with.
  difficulty: a number that the data set gives, None where it gives none.
  starter: the code that a program must begin with, '' for none.
  system: the text of the row's own system turn, None where it has none.
  passes: how often a model solved it, None where that is not stored.
  """

  id: str
  question: str
  answer: str
  difficulty: float | None = None
  starter: str = ''
  system: str | None = None
  passes: types.Passes | None = None


def text_digest(text: str) -> str:
  # Not `random` or numpy: their streams may change with their versions.
  return hashlib.sha256(text.encode()).hexdigest()


def unique(
  found: Iterable[tuple[str, Row]], path: str | os.PathLike
) -> list[Row]:
  """The rows with repeats dropped; an id must not name two different rows."""
  first: dict[str, tuple[Row, str]] = {}
  clashes, repeats, size = [], 0, 0
  for number, (where, row) in enumerate(found, 1):
    size += len(row.question) + len(row.answer)
    if size > _MAX_TOTAL_CHARS:
      raise ValueError(
        f'{path}: the questions and answers of the first {number:,} rows have '
        f'more than {_MAX_TOTAL_CHARS:,} characters; split it'
      )
    if row.id not in first:
      first[row.id] = row, where
    elif first[row.id][0] == row:
      repeats += 1
    else:
      clashes.append(f'id {row.id!r} at {first[row.id][1]} and {where}')
  if clashes:
    raise ValueError(
      f'{path}: {len(clashes)} rows share an id with another question, answer '
      'or difficulty; remove or rename one of each: '
      f'{"; ".join(clashes[:3])}'
    )
  if not first:
    raise ValueError(f'{path}: holds no rows; name a file that has some')
  if repeats:
    logging.warning('%s: dropped %d repeated rows', path, repeats)
  rows = [row for row, _ in first.values()]
  say_repeated(path, rows)
  return rows


def asked(row: Row) -> str:
  """The digest of a question; runs of white space count as one space."""
  return text_digest(' '.join(row.question.split()))


def say_repeated(where: str | os.PathLike, rows: Iterable[Row]) -> None:
  """Prints which questions have several ids; their rows stay."""
  same = collections.defaultdict(list)
  for row in rows:
    same[asked(row)].append(row)
  repeated = [group for group in same.values() if len(group) > 1]
  if not repeated:
    return
  contradict = sum(len({r.answer for r in group}) > 1 for group in repeated)
  named = '; '.join(
    f'{", ".join(r.id for r in group[:_SHOWN_IDS])}'
    f'{", ..." if len(group) > _SHOWN_IDS else ""}'
    for group in repeated[:_SHOWN_IDS]
  )
  logging.warning(
    '%s: %d questions stand under several ids, %d rows in all%s; each row '
    'counts in training; the first: %s%s',
    where,
    len(repeated),
    sum(map(len, repeated)),
    f', {contradict} of them with different answers' if contradict else '',
    named,
    '; ...' if len(repeated) > _SHOWN_IDS else '',
  )
