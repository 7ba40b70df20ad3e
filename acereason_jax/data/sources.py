"""Where questions come from, and how they become prompts.

Which generated rows are held out depends on neither seed nor count: a seed only
orders rows, so a train and a held-out source can never meet by choosing seeds.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import logging
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from acereason_jax import resolve, types

_MAX_LINE_BYTES = 4 << 20
_MAX_TEXT_CHARS = 1 << 20
_MAX_ID_CHARS = 200
_MAX_PARQUET_BYTES = 8 << 30
_PARQUET_ROWS = 256
_QUESTION_FIELDS = ('prompt', 'problem')
# The code of a row, in the words of a prompt.
STARTER = '{starter}'
_NUMBER = re.compile(r'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?')

# What programs are asked for, and what they compute.
_OPERATIONS = {
  'plus': ('{} plus {}', operator.add),
  'minus': ('{} minus {}', operator.sub),
  'times': ('{} times {}', operator.mul),
  'remainder': ('the remainder of {} divided by {}', operator.mod),
  'larger': ('the larger of {} and {}', max),
  'smaller': ('the smaller of {} and {}', min),
}
# No pair that comes to one operation or to a constant, as two sums and the
# remainder of a product may, and no remainder of a difference, often below 0.
_CHAINS = {
  1: tuple((name,) for name in _OPERATIONS),
  2: (
    *(('plus', name) for name in ('times', 'remainder', 'larger', 'smaller')),
    *(('minus', name) for name in ('times', 'larger', 'smaller')),
    *(('times', name) for name in ('plus', 'minus', 'larger', 'smaller')),
  ),
}
# Chosen so that no two functions with constants to _LARGEST agree on all.
_INPUTS = (-109, 0, 11, 41, 55, 74, 109)
_LARGEST = 50


@dataclasses.dataclass(frozen=True)
class Row:
  """One question, its reference answer and a stable, unique id.

  `difficulty` is a number of the data set's own, None where it gives none;
  `starter` is the code that a program must begin with, '' where it is free.
  """

  id: str
  question: str
  answer: str
  difficulty: float | None = None
  starter: str = ''


def jsonl(path: str | os.PathLike, answers: bool = True) -> list[Row]:
  """Rows of a JSON-lines file, in file order; see `_row` for the fields.

  Without `answers` nothing reads them, so that a row needs none.

  Raises:
    ValueError: one line naming file:line, or the empty file.
  """
  records = _jsonl_records(path)
  if not answers:
    records = ((where, _unanswered(record)) for where, record in records)
  return _unique(records, path)


def joined(sources: Sequence[Mapping[str, Any]]) -> list[Row]:
  """The rows of several components, one after the other.

  Raises:
    ValueError: one line; what a component says, or an id that stands twice.
  """
  rows = []
  for i, source in enumerate(sources):
    rows += resolve.build(source, f'sources[{i}]')
  (name, count), *_ = collections.Counter(r.id for r in rows).most_common(1)
  if count > 1:
    raise ValueError(
      f'sources: {count} rows have the id {name!r}; give each an id of its own'
    )
  return rows


def digest(rows: Iterable[Row]) -> str:
  """SHA-256 of ids, questions, answers and, where a row has them, difficulty
  and starter, in order."""
  whole = hashlib.sha256()
  for row in rows:
    fields = [row.id, row.question, row.answer]
    if row.difficulty is not None:
      fields.append(row.difficulty)
    if row.starter:
      fields.append(dict(starter=row.starter))
    whole.update(json.dumps(fields).encode() + b'\n')
  return whole.hexdigest()


def _unanswered(record: Any) -> Any:
  is_row = isinstance(record, Mapping)
  return {**record, 'answer': 'unread'} if is_row else record


def parquet(path: str | os.PathLike) -> list[Row]:
  """Rows of a Parquet file, in file order; see `_row` for the fields.

  Raises:
    ValueError: one line naming file:row (from 1), or the empty file.
  """
  return _unique(_parquet_records(path), path)


def arithmetic(
  *, split: str, count: int, seed: int, largest: int, held_out: int
) -> list[Row]:
  """`count` different sums 'What is a + b?' with 0 <= a, b <= `largest`.

  `held_out` unordered pairs {a, b} are set aside: both of their orders belong
  to split 'heldout', all others to 'train'.

  Raises:
    ValueError: an unknown split, or more rows asked for than the split has.
  """
  pairs = [(a, b) for a in range(largest + 1) for b in range(a, largest + 1)]
  pairs.sort(key=lambda pair: _digest(f'split {pair}'))
  splits = {'heldout': pairs[:held_out], 'train': pairs[held_out:]}
  if split not in splits:
    raise ValueError(f"split={split!r}: expected 'train' or 'heldout'")
  rows = [
    Row(f'sum-{a}-{b}', f'What is {a} + {b}?', str(a + b))
    for pair in splits[split]
    for a, b in sorted({pair, pair[::-1]})
  ]
  if not 0 < count <= len(rows):
    raise ValueError(
      f'count={count}: split {split!r} with largest={largest} and '
      f'held_out={held_out} has {len(rows)} sums; ask for 1 to {len(rows)}'
    )
  rows.sort(key=lambda row: _digest(f'{seed} {row.id}'))
  return rows[:count]


def programs(
  *,
  split: str,
  count: int,
  seed: int,
  operations: int,
  largest: int,
  held_out: float,
) -> list[Row]:
  """`count` different tasks 'Write a Python function f(x) that returns ...'.

  What f returns takes 1 or 2 `operations`, its difficulty, as 'the larger of
  (x plus 3) and 8', with constants from 2 to `largest`. The answer is a task of
  `verifiers/code.py`, as JSON; its tests tell f from every other function that
  is asked for. The share `held_out` (0 to 1) of these functions belongs to
  split 'heldout', all others to 'train', by the function alone: there may be
  two ways to ask for one, and both are in the same split.

  Raises:
    ValueError: an argument out of its range, or more rows asked for than the
      split has.
  """
  if split not in ('train', 'heldout'):
    raise ValueError(f"split={split!r}: expected 'train' or 'heldout'")
  if operations not in _CHAINS:
    raise ValueError(f'operations={operations}: expected 1 or 2')
  if not 2 <= largest <= _LARGEST:
    raise ValueError(f'largest={largest}: expected 2 to {_LARGEST}')
  if not 0 <= held_out <= 1:
    raise ValueError(f'held_out={held_out}: expected a share, 0 to 1')
  constants = itertools.product(range(2, largest + 1), repeat=operations)
  chains = itertools.product(_CHAINS[operations], constants)
  rows = [
    row
    for row in itertools.starmap(_program, chains)
    if _is_held_out(row, held_out) == (split == 'heldout')
  ]
  if not 0 < count <= len(rows):
    raise ValueError(
      f'count={count}: split {split!r} with operations={operations}, '
      f'largest={largest} and held_out={held_out} has {len(rows)} programs; '
      f'ask for 1 to {len(rows)}'
    )
  rows.sort(key=lambda row: _digest(f'{seed} {row.id}'))
  return rows[:count]


def _program(names: Sequence[str], constants: Sequence[int]) -> Row:
  """The task of these operations, in order, each with its constant."""
  # What remains of a number below 0, languages do not agree on.
  inputs = [x for x in _INPUTS if x >= 0 or 'remainder' not in names]
  asked, results = '', inputs
  for name, constant in zip(names, constants):
    phrase, operation = _OPERATIONS[name]
    asked = phrase.format(f'({asked})' if asked else 'x', constant)
    results = [operation(result, constant) for result in results]
  tests = [{'args': [x], 'expected': y} for x, y in zip(inputs, results)]
  name = '-'.join(f'{n}-{c}' for n, c in zip(names, constants))
  return Row(
    f'program-{name}',
    f'Write a Python function f(x) that returns {asked}.',
    json.dumps({'kind': 'call', 'fn': 'f', 'tests': tests}),
    difficulty=float(len(names)),
  )


def _is_held_out(row: Row, share: float) -> bool:
  # By its tests, which are those of all rows of the same function.
  return int(_digest(f'split {row.answer}'), 16) < share * 16**64


def to_prompts(
  rows: Sequence[Row],
  tokenizer: Any,
  *,
  chat_tokens: Callable[[Any, list[dict[str, str]]], np.ndarray],
  system: str | None,
  examples: Sequence[tuple[str, str]],
  suffix: str,
  max_tokens: int,
  starter: str = '',
) -> tuple[list[types.Prompt], list[str]]:
  """(prompts, ids of the rows dropped for exceeding `max_tokens`).

  A prompt is `system` (None: no such turn), the (user, assistant) turns of
  `examples`, then question + `suffix`, as `chat_tokens` templates them. A row
  with a starter has `starter` instead of `suffix`, and the row's own where that
  says {starter}. White space around a question is left out, as the released
  evaluation does.

  Raises:
    ValueError: no row is left, or one has a starter that `starter` lacks.
  """
  head = [{'role': 'system', 'content': system}] if system is not None else []
  for user, assistant in examples:
    head.append({'role': 'user', 'content': user})
    head.append({'role': 'assistant', 'content': assistant})
  prompts, dropped = [], []
  for row in rows:
    if len(row.id) > _MAX_ID_CHARS or not row.id.isprintable():
      raise ValueError(
        f'id {row.id!r:.60}: give at most {_MAX_ID_CHARS} printable characters'
      )
    if row.starter and STARTER not in starter:
      raise ValueError(
        f'row {row.id!r} has a starter, code that its program must begin with, '
        f'and starter={starter!r:.60} has no place for it; give '
        'config.prompt.starter (of generate: --starter) the words for it, with '
        f'{STARTER} in its place'
      )
    end = starter.replace(STARTER, row.starter) if row.starter else suffix
    turn = {'role': 'user', 'content': row.question.strip() + end}
    tokens = np.asarray(chat_tokens(tokenizer, [*head, turn]), np.int32)
    if len(tokens) > max_tokens:
      dropped.append(row.id)
    else:
      prompts.append(
        types.Prompt(
          row.id,
          row.question,
          row.answer,
          tokens,
          difficulty=row.difficulty,
        )
      )
  if not prompts:
    raise ValueError(
      f'all {len(rows)} prompts are longer than max_tokens={max_tokens}; '
      'raise it, or shorten the system text and the examples'
    )
  return prompts, dropped


def _digest(text: str) -> str:
  # Not `random` or numpy: their streams may change with their versions.
  return hashlib.sha256(text.encode()).hexdigest()


def _jsonl_records(path) -> Iterator[tuple[str, Any]]:
  """Yields ('path:line', parsed line); numbers stay text as written."""
  with open(path, 'rb') as file:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
      number += 1
      where = f'{path}:{number}'
      if len(line) > _MAX_LINE_BYTES:
        raise ValueError(
          f'{where}: longer than {_MAX_LINE_BYTES} bytes; is this JSON lines?'
        )
      if not line.strip():
        continue
      try:
        record = json.loads(line.decode(), parse_int=str, parse_float=str)
      except (ValueError, RecursionError) as e:
        raise ValueError(f'{where}: not one JSON object ({e})') from e
      yield where, record


def _parquet_records(path) -> Iterator[tuple[str, Any]]:
  """Yields ('path:row', columns of the row) without loading the file whole."""
  number = 0
  try:
    with pyarrow.parquet.ParquetFile(path) as file:
      metadata = file.metadata
      size = sum(
        metadata.row_group(i).total_byte_size
        for i in range(metadata.num_row_groups)
      )
      if size > _MAX_PARQUET_BYTES:
        raise ValueError(
          f'{path}: {size} bytes unpacked, more than {_MAX_PARQUET_BYTES}; '
          'split it'
        )
      wanted = {*_QUESTION_FIELDS, 'answer', 'id', 'difficulty', 'starter'}
      columns = [name for name in file.schema_arrow.names if name in wanted]
      for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
        for record in batch.to_pylist():
          number += 1
          yield f'{path}:{number}', record
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
    reason = str(e).splitlines()[0]
    raise ValueError(
      f'{path}: not readable as Parquet after row {number} ({reason})'
    ) from e


def _row(where: str, record: Any) -> Row:
  """A row of `prompt` or `problem`, `answer`; if there, `id`, `difficulty`
  and `starter`."""
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  fields = [name for name in _QUESTION_FIELDS if name in record]
  if len(fields) != 1:
    raise ValueError(
      f"{where}: needs exactly one of 'prompt' and 'problem'; it has: "
      f'{", ".join(map(repr, record))[:200]}'
    )
  question = _text(where, record, fields[0])
  if 'id' in record:
    row_id = _text(where, record, 'id')
    if len(row_id) > _MAX_ID_CHARS or not row_id.isprintable():
      raise ValueError(
        f'{where}: id must be at most {_MAX_ID_CHARS} printable characters, '
        f'got {row_id!r:.60}'
      )
  else:
    row_id = _digest(question)[:16]
  # Data sets hold such answers, of proofs say: that is for the judge to refuse.
  answer = _text(where, record, 'answer', may_be_blank=True)
  # null and '' are no starter.
  starter = ''
  if record.get('starter') is not None:
    starter = _text(where, record, 'starter', may_be_blank=True)
  starter = starter if starter.strip() else ''
  return Row(row_id, question, answer, _difficulty(where, record), starter)


def _difficulty(where: str, record: Mapping[str, Any]) -> float | None:
  """The number, which JSON lines give as it is written; None for null."""
  value = record.get('difficulty')
  if value is None:
    return None
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value)):
    number = float(value)
    if math.isfinite(number):
      return number
  raise ValueError(
    f'{where}: difficulty must be a finite number or null, got {value!r:.60}; '
    'rename the field if it means something else'
  )


def _text(
  where: str,
  record: Mapping[str, Any],
  field: str,
  may_be_blank: bool = False,
) -> str:
  """The field as text; an answer or id given as a number is its digits."""
  if field not in record:
    raise ValueError(f'{where}: has no {field!r}')
  value = record[field]
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if is_number and math.isfinite(value):
    value = str(value)
  if not isinstance(value, str) or not (may_be_blank or value.strip()):
    raise ValueError(f'{where}: {field} must be text, got {value!r:.60}')
  if len(value) > _MAX_TEXT_CHARS:
    raise ValueError(
      f'{where}: {field} has {len(value)} characters, more than '
      f'{_MAX_TEXT_CHARS}'
    )
  try:
    value.encode()
  except UnicodeEncodeError as e:
    raise ValueError(f'{where}: {field} is not valid Unicode ({e})') from e
  return value


def _unique(records: Iterable[tuple[str, Any]], path) -> list[Row]:
  """The rows with repeats dropped; an id must not name two different rows."""
  first: dict[str, tuple[Row, str]] = {}
  clashes, repeats = [], 0
  for where, record in records:
    row = _row(where, record)
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
  return [row for row, _ in first.values()]
