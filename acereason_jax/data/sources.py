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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax import resolve, types
from acereason_jax.data import parquet_rows, records

# Questions go to a tokenizer; answers may be code tasks with all their tests.
_MAX_QUESTION_CHARS = 1 << 20
_MAX_ANSWER_CHARS = records.MAX_LINE_BYTES
_MAX_ID_CHARS = 200
# Of questions and answers together: all of them are kept in memory.
_MAX_TOTAL_CHARS = 4 << 30
# Names of columns, in any case; docs/data.md tells whose they are.
_QUESTION_FIELDS = ('prompt', 'problem', 'question')
_ANSWER_FIELDS = ('answer', 'expected_answer', 'final_answer', 'ground_truth')
# verl's: an object whose `ground_truth` is the answer.
_REWARD_FIELD = 'reward_model'
_OTHER_FIELDS = ('id', 'difficulty', 'starter')
# Of a message, by two conventions: who speaks, and what.
_MESSAGE_FIELDS = (('role', 'content'), ('from', 'value'))
_ROLES = {'human': 'user'}
_SHOWN_COLUMNS = 20
_SHOWN_IDS = 3
# The code of a row, in the words of a prompt.
STARTER = '{starter}'
# No judge reads quotes, so that nothing else can be meant. A backslash is two
# there: of one alone nobody knows whether it is LaTeX or a control character.
_LIST_OF_TEXT = re.compile(
  r"""\[(?P<quote>["'])(?P<text>(?:(?!(?P=quote))[^\\]|\\\\)+)(?P=quote)\]"""
)
_MAX_LISTED_CHARS = 100_000
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
  `system` is the text of the row's own system turn, None where it has none.
  """

  id: str
  question: str
  answer: str
  difficulty: float | None = None
  starter: str = ''
  system: str | None = None


def jsonl(path: str | os.PathLike, answers: bool = True) -> list[Row]:
  """Rows of a JSON-lines file, in file order; see `_row` for the fields.

  Without `answers` nothing reads them, so that a row needs none.

  Raises:
    ValueError: one line naming file:line, or the empty file.
  """
  found = records.jsonl(path)
  return _unique(((w, _row(w, record, answers)) for w, record in found), path)


def joined(sources: Sequence[Mapping[str, Any]]) -> list[Row]:
  """The rows of several components, one after the other.

  Raises:
    ValueError: one line; what a component says, or an id that stands twice.
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
  # Repeats within a component it has told of itself.
  alone = [{_asked(r): r for r in part}.values() for part in parts]
  _say_repeated('sources', itertools.chain(*alone))
  return rows


def digest(rows: Iterable[Row]) -> str:
  """SHA-256 of ids, questions, answers and what else is known, in order."""
  whole = hashlib.sha256()
  for row in rows:
    fields = [row.id, row.question, row.answer]
    if row.difficulty is not None:
      fields.append(row.difficulty)
    if row.starter:
      fields.append(dict(starter=row.starter))
    if row.system is not None:
      fields.append(dict(system=row.system))
    whole.update(json.dumps(fields).encode() + b'\n')
  return whole.hexdigest()


def parquet(path: str | os.PathLike) -> list[Row]:
  """Rows of a Parquet file, in file order; see `_row` for the fields.

  Raises:
    ValueError: one line naming file:row (from 1), or the empty file.
  """
  columns, found = parquet_rows.read(
    path,
    any_case=(*_QUESTION_FIELDS, *_ANSWER_FIELDS, _REWARD_FIELD),
    exact=_OTHER_FIELDS,
  )
  lower = {name.lower() for name in columns}
  for what, names in (
    ('question', _QUESTION_FIELDS),
    ('answer', (*_ANSWER_FIELDS, _REWARD_FIELD)),
  ):
    if not lower & set(names):
      raise ValueError(
        f'{path}: has no column for the {what}: expected '
        f'{_listed(names)}; it has: {_listed(columns)}{_hint(columns)}'
      )
  return _unique(((w, _row(w, record)) for w, record in found), path)


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

  A prompt is `system` (None: no such turn), or the row's own, the (user,
  assistant) turns of `examples`, then question + `suffix`, as `chat_tokens`
  templates them. A row with a starter has `starter` instead of `suffix`, and
  the row's own where that says {starter}. White space around a question is left
  out, as the released evaluation does.

  Raises:
    ValueError: no row is left, a row has a starter that `starter` lacks, or a
      system turn other than `system`.
  """
  turns = []
  for user, assistant in examples:
    turns.append({'role': 'user', 'content': user})
    turns.append({'role': 'assistant', 'content': assistant})
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
    own = _system_of(row, system)
    head = [{'role': 'system', 'content': own}] if own is not None else []
    end = starter.replace(STARTER, row.starter) if row.starter else suffix
    turn = {'role': 'user', 'content': row.question.strip() + end}
    messages = [*head, *turns, turn]
    tokens = np.asarray(chat_tokens(tokenizer, messages), np.int32)
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


def _system_of(row: Row, system: str | None) -> str | None:
  if None not in (row.system, system) and row.system != system:
    raise ValueError(
      f'id {row.id!r:.60}: has a system turn of its own, {row.system!r:.60}, '
      f'and the prompt is given {system!r:.60}; leave one of them out'
    )
  return system if row.system is None else row.system


def _digest(text: str) -> str:
  # Not `random` or numpy: their streams may change with their versions.
  return hashlib.sha256(text.encode()).hexdigest()


def _row(where: str, record: Any, answers: bool = True) -> Row:
  """A row of a question and, with `answers`, its answer; see docs/data.md.

  The question is text, or a list of messages: maybe a system turn, then one of
  the user. Fields may repeat each other, but not differ.
  """
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  system, question = _agreed(
    where,
    _QUESTION_FIELDS,
    [
      (name, _turns(where, name, value))
      for name, value in _given(record, _QUESTION_FIELDS)
    ],
    record,
  )
  # Data sets hold blank answers, of proofs say: those the judge refuses.
  answer = ''
  if answers:
    found = _given(record, _ANSWER_FIELDS) + _reward_answer(where, record)
    # A null says nothing where another field has the answer.
    told = [pair for pair in found if pair[1] is not None]
    answer = _agreed(
      where,
      (*_ANSWER_FIELDS, f'{_REWARD_FIELD}.ground_truth'),
      [(name, _answer(where, name, value)) for name, value in told or found],
      record,
    )
  if 'id' in record:
    row_id = _text(where, 'id', record['id'], _MAX_QUESTION_CHARS)
    if len(row_id) > _MAX_ID_CHARS or not row_id.isprintable():
      raise ValueError(
        f'{where}: id must be at most {_MAX_ID_CHARS} printable characters, '
        f'got {row_id!r:.60}'
      )
  else:
    row_id = _digest(question if system is None else f'{system}\0{question}')
    row_id = row_id[:16]
  return Row(
    row_id,
    question,
    answer,
    _difficulty(where, record),
    _starter(where, record),
    system,
  )


def _given(
  record: Mapping[str, Any], names: Sequence[str]
) -> list[tuple[str, Any]]:
  """The fields of these names, in any case; nulls only if all are."""
  found = [(k, v) for k, v in record.items() if k.lower() in names]
  return [(k, v) for k, v in found if v is not None] or found


def _agreed(
  where: str,
  names: Sequence[str],
  found: Sequence[tuple[str, Any]],
  record: Mapping[str, Any],
) -> Any:
  """The value of the fields that were found, which must be one."""
  if not found:
    raise ValueError(
      f'{where}: needs exactly one of {_listed(names)}; it has: '
      f'{_listed(record)}{_hint(record)}'
    )
  (name, value), *others = found
  for other, different in others:
    if different != value:
      raise ValueError(
        f'{where}: needs exactly one of {_listed(names)}: {name!r} and '
        f'{other!r} differ; remove one of them'
      )
  return value


def _listed(names: Iterable[str]) -> str:
  """At most so many, each cut: a stranger chose them."""
  names = list(names)
  shown = [f'{name!r:.60}' for name in names[:_SHOWN_COLUMNS]]
  more = f', ... ({len(names):,})' if len(names) > _SHOWN_COLUMNS else ''
  return (', '.join(shown) or 'none') + more


def _hint(names: Iterable[str]) -> str:
  if 'solution' in {name.lower() for name in names}:
    return (
      "; a 'solution' is not read: in most data sets it is worked out, not an "
      'answer'
    )
  return ''


def _reward_answer(
  where: str, record: Mapping[str, Any]
) -> list[tuple[str, Any]]:
  """[('reward_model.ground_truth', value)] of a row as verl has it."""
  found = []
  for name, value in _given(record, (_REWARD_FIELD,)):
    if value is None:
      continue
    if not isinstance(value, Mapping) or 'ground_truth' not in value:
      raise ValueError(
        f"{where}: {name} must be an object with 'ground_truth', got "
        f'{value!r:.60}'
      )
    found.append((f'{name}.ground_truth', value['ground_truth']))
  return found


def _turns(where: str, field: str, value: Any) -> tuple[str | None, str]:
  """(system turn or None, the user's) of a text or of a list of messages."""
  if not isinstance(value, list):
    return None, _text(where, field, value, _MAX_QUESTION_CHARS)
  messages = [_message(where, f'{field}[{i}]', m) for i, m in enumerate(value)]
  roles = [_ROLES.get(role, role) for role, _ in messages]
  if roles not in (['user'], ['system', 'user']):
    raise ValueError(
      f'{where}: {field} has the turns {_listed(roles)}; expected one of the '
      'user, after one of the system if there is one: conversations of several '
      'turns are not trained on'
    )
  texts = {
    role: _text(
      where,
      f'{field}[{i}]',
      text,
      _MAX_QUESTION_CHARS,
      may_be_blank=role == 'system',
    )
    for i, (role, (_, text)) in enumerate(zip(roles, messages))
  }
  return texts.get('system'), texts['user']


def _message(where: str, name: str, message: Any) -> tuple[str, Any]:
  """(who speaks, what) of a message."""
  if isinstance(message, Mapping):
    # Tables give every message the fields of all.
    known = {k: v for k, v in message.items() if v is not None}
    for who, what in _MESSAGE_FIELDS:
      if known.keys() == {who, what} and isinstance(known[who], str):
        return known[who], known[what]
  raise ValueError(
    f"{where}: {name} must be an object of 'role' and 'content', or of 'from' "
    f"and 'value', got {message!r:.60}"
  )


def _answer(where: str, field: str, value: Any) -> str:
  text = _text(
    where, field, _of_one(value), _MAX_ANSWER_CHARS, may_be_blank=True
  )
  # GSM8K's: a worked solution, then a line of the answer.
  mark, _, answer = text.rstrip().rpartition('\n')[2].strip().partition(' ')
  return answer.strip() if mark == '####' and answer else text


def _of_one(value: Any) -> Any:
  """The answer of a list of one: verl's examples have lists, and Skywork-OR1
  has them as text."""
  if isinstance(value, list) and len(value) == 1:
    return value[0]
  if not isinstance(value, str) or len(value) > _MAX_LISTED_CHARS:
    return value
  found = _LIST_OF_TEXT.fullmatch(value.strip())
  return found['text'].replace('\\\\', '\\') if found else value


def _starter(where: str, record: Mapping[str, Any]) -> str:
  """'' for none, null and blank text."""
  value = record.get('starter')
  if value is None:
    return ''
  text = _text(where, 'starter', value, _MAX_QUESTION_CHARS, may_be_blank=True)
  return text if text.strip() else ''


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
  field: str,
  value: Any,
  most: int,
  may_be_blank: bool = False,
) -> str:
  """The value as text; files give numbers as their digits."""
  if not isinstance(value, str) or not (may_be_blank or value.strip()):
    raise ValueError(
      f'{where}: {field} must be text, got {value!r:.60}; correct or remove '
      'the row'
    )
  if len(value) > most:
    raise ValueError(
      f'{where}: {field} has {len(value):,} characters, more than {most:,}; '
      'shorten or remove it'
    )
  try:
    value.encode()
  except UnicodeEncodeError as e:
    raise ValueError(
      f'{where}: {field} is not valid Unicode ({e.reason} at {e.start}); '
      'correct or remove the row'
    ) from e
  if '\0' in value:
    raise ValueError(
      f'{where}: {field} holds a NUL character; correct or remove the row'
    )
  return value


def _unique(
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
  _say_repeated(path, rows)
  return rows


def _asked(row: Row) -> str:
  """The digest of a question; runs of white space count as one space."""
  return _digest(' '.join(row.question.split()))


def _say_repeated(where: str | os.PathLike, rows: Iterable[Row]) -> None:
  """Says which questions stand under several ids; their rows stay."""
  same = collections.defaultdict(list)
  for row in rows:
    same[_asked(row)].append(row)
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
