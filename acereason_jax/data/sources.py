"""The sources that a config may name, and how their rows become prompts."""

import collections
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax import resolve, types
from acereason_jax.data import (
  fields,
  generated,
  parquet_rows,
  questions,
  records,
)

# The default `starter`: how a prompt presents a row's starter code.
STARTER = '{starter}'

# The first bytes of a Parquet file.
_PARQUET = b'PAR1'
# A source returns a list of these.
Row = questions.Row
# Sources without files; configs name all of them here.
arithmetic, programs = generated.arithmetic, generated.programs


def jsonl(path: str | os.PathLike, answers: bool = True) -> list[Row]:
  """Rows of a JSON-lines file, in file order; `fields` reads each.

  Without `answers` a row needs no answer, and none is read.

  Raises:
    ValueError: one line naming file:line, or the empty file.
  """
  found = records.jsonl(path)
  return questions.unique(
    ((w, fields.row_of(w, record, answers)) for w, record in found), path
  )


def parquet(path: str | os.PathLike) -> list[Row]:
  """Rows of a Parquet file, in file order; `fields` reads each.

  Raises:
    ValueError: one line naming file:row (from 1), or the empty file.
  """
  columns, found = parquet_rows.read(
    path,
    any_case=(*fields.QUESTION, *fields.ANSWER, fields.REWARD),
    exact=fields.OTHERS,
  )
  fields.check_columns(path, columns)
  return questions.unique(
    ((w, fields.row_of(w, record)) for w, record in found), path
  )


def file(path: str | os.PathLike) -> list[Row]:
  """Rows of a Parquet file, or of any other as JSON lines.

  Raises:
    ValueError: as `parquet` and `jsonl` do.
  """
  with records.opened(path) as opened:
    is_parquet = opened.read(len(_PARQUET)) == _PARQUET
  return parquet(path) if is_parquet else jsonl(path)


def joined(sources: Sequence[Mapping[str, Any]]) -> list[Row]:
  """The rows of several components, one after the other.

  Raises:
    ValueError: one line; a component's error, or an id that occurs twice.
  """
  parts = [
    resolve.build(source, f'sources[{i}]') for i, source in enumerate(sources)
  ]
  rows = [row for part in parts for row in part]
  (name, count), *_ = collections.Counter(r.id for r in rows).most_common(1)
  if count > 1:
    raise ValueError(
      f'sources: {count} rows have the id {name!r}; give each an id of its own'
    )
  # A component reports its own repeats itself.
  alone = [{questions.asked(r): r for r in part}.values() for part in parts]
  questions.say_repeated('sources', itertools.chain(*alone))
  return rows


def digest(rows: Iterable[Row]) -> str:
  """SHA-256 of all fields of the rows, in order."""
  whole = hashlib.sha256()
  for row in rows:
    known = [row.id, row.question, row.answer]
    if row.difficulty is not None:
      known.append(row.difficulty)
    if row.starter:
      known.append(dict(starter=row.starter))
    if row.system is not None:
      known.append(dict(system=row.system))
    if row.passes is not None:
      known.append(dict(passes=row.passes))
    whole.update(json.dumps(known).encode() + b'\n')
  return whole.hexdigest()


def to_prompts(
  rows: Sequence[Row],
  tokenizer: Any,
  *,
  chats_tokens: Callable[
    [Any, list[list[dict[str, str]]]], Sequence[np.ndarray]
  ],
  system: str | None,
  examples: Sequence[tuple[str, str]],
  suffix: str,
  max_tokens: int,
  starter: str = '',
) -> tuple[list[types.Prompt], list[str]]:
  """(prompts, ids of the rows dropped for exceeding `max_tokens`).

  A prompt is `system` or the row's own system turn (None: no such turn), the
  (user, assistant) turns of `examples`, then question + `suffix`, as
  `chats_tokens` templates them all. A row with a starter gets `starter` instead
  of `suffix`, with the row's code in place of {starter}. White space around a
  question is removed, as in the released evaluation.

  Raises:
    ValueError: no row is left, a row has a starter that `starter` lacks, or a
      system turn other than `system`.
  """
  turns = []
  for user, assistant in examples:
    turns.append({'role': 'user', 'content': user})
    turns.append({'role': 'assistant', 'content': assistant})
  chats = []
  for row in rows:
    _check(row, starter)
    own = _system_of(row, system)
    head = [{'role': 'system', 'content': own}] if own is not None else []
    end = starter.replace(STARTER, row.starter) if row.starter else suffix
    turn = {'role': 'user', 'content': row.question.strip() + end}
    chats.append([*head, *turns, turn])
  prompts, dropped = [], []
  for row, tokens in zip(rows, chats_tokens(tokenizer, chats), strict=True):
    if len(tokens) > max_tokens:
      dropped.append(row.id)
    else:
      prompts.append(
        types.Prompt(
          row.id,
          row.question,
          row.answer,
          np.asarray(tokens, np.int32),
          difficulty=row.difficulty,
          passes=row.passes,
        )
      )
  if not prompts:
    raise ValueError(
      f'all {len(rows)} prompts are longer than max_tokens={max_tokens}; '
      'raise it, or shorten the system text and the examples'
    )
  return prompts, dropped


def _check(row: Row, starter: str) -> None:
  """Raises ValueError for a row that no prompt can be made of."""
  if len(row.id) > questions.MAX_ID_CHARS or not row.id.isprintable():
    raise ValueError(
      f'id {row.id!r:.60}: give at most {questions.MAX_ID_CHARS} printable '
      'characters'
    )
  if row.starter and STARTER not in starter:
    raise ValueError(
      f'row {row.id!r} has a starter, code that its program must begin with, '
      f'and starter={starter!r:.60} has no place for it; give '
      'config.prompt.starter (of generate: --starter) the words for it, with '
      f'{STARTER} in its place'
    )


def _system_of(row: Row, system: str | None) -> str | None:
  if None not in (row.system, system) and row.system != system:
    raise ValueError(
      f'id {row.id!r:.60}: has a system turn of its own, {row.system!r:.60}, '
      f'and the prompt is given {system!r:.60}; leave one of them out'
    )
  return system if row.system is None else row.system
