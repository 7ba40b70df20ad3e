"""Reads a row from a record of a data set, by the names its fields may have.

docs/data.md lists the data sets that use these names.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acereason_jax import types
from acereason_jax.data import questions, records

# Questions go to a tokenizer; answers may be code tasks with all their tests.
_MAX_QUESTION_CHARS = 1 << 20
_MAX_ANSWER_CHARS = records.MAX_LINE_BYTES
# Names of columns, in any case; docs/data.md lists who uses them.
QUESTION = ('prompt', 'problem', 'question')
ANSWER = ('answer', 'expected_answer', 'final_answer', 'ground_truth')
# verl's: an object whose `ground_truth` is the answer.
REWARD = 'reward_model'
OTHERS = ('id', 'difficulty', 'starter', 'right', 'judged', 'model')
# The fields of a message in two conventions: the speaker and the text.
_MESSAGE_FIELDS = (('role', 'content'), ('from', 'value'))
_ROLES = {'human': 'user'}
_SHOWN_COLUMNS = 20
# No judge reads quotes, so the quoted text must be meant. A backslash must be
# doubled in it: a single one may be LaTeX or a control character.
_LIST_OF_TEXT = re.compile(
  r"""\[(?P<quote>["'])(?P<text>(?:(?!(?P=quote))[^\\]|\\\\)+)(?P=quote)\]"""
)
_MAX_LISTED_CHARS = 100_000
_WHOLE = re.compile(r'[0-9]{1,9}')
_MODEL = re.compile(r'[0-9a-f]{64}')
_NUMBER = re.compile(r'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?')


def row_of(where: str, record: Any, answers: bool = True) -> questions.Row:
  """A row of a question and, with `answers`, its answer; see docs/data.md.

  The question is text, or a list of messages: an optional system turn, then one
  user turn. Fields may repeat each other, but not differ.
  """
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  system, question = _agreed(
    where,
    QUESTION,
    [
      (name, _turns(where, name, value))
      for name, value in _given(record, QUESTION)
    ],
    record,
  )
  # Data sets have blank answers, for example to proofs. The judge refuses
  # those.
  answer = ''
  if answers:
    found = _given(record, ANSWER) + _reward_answer(where, record)
    # A null is ignored where another field has the answer.
    told = [pair for pair in found if pair[1] is not None]
    answer = _agreed(
      where,
      (*ANSWER, f'{REWARD}.ground_truth'),
      [(name, _answer(where, name, value)) for name, value in told or found],
      record,
    )
  if 'id' in record:
    row_id = _text(where, 'id', record['id'], _MAX_QUESTION_CHARS)
    if len(row_id) > questions.MAX_ID_CHARS or not row_id.isprintable():
      raise ValueError(
        f'{where}: id must be at most {questions.MAX_ID_CHARS} printable '
        f'characters, got {row_id!r:.60}'
      )
  else:
    row_id = questions.text_digest(
      question if system is None else f'{system}\0{question}'
    )
    row_id = row_id[:16]
  return questions.Row(
    row_id,
    question,
    answer,
    _difficulty(where, record),
    _starter(where, record),
    system,
    _passes(record),
  )


def has_answer(record: Mapping[str, Any]) -> bool:
  """Whether a record tells an answer: not only nulls and blank texts."""
  told = _given(record, (*ANSWER, REWARD))
  return any(
    value is not None and not (isinstance(value, str) and not value.strip())
    for _, value in told
  )


def _given(
  record: Mapping[str, Any], names: Sequence[str]
) -> list[tuple[str, Any]]:
  """The fields with these names, in any case; nulls only if all are null."""
  found = [(k, v) for k, v in record.items() if k.lower() in names]
  return [(k, v) for k, v in found if v is not None] or found


def _agreed(
  where: str,
  names: Sequence[str],
  found: Sequence[tuple[str, Any]],
  record: Mapping[str, Any],
) -> Any:
  """The value of the fields that were found, which must agree."""
  if not found:
    raise ValueError(
      f'{where}: needs exactly one of {listed(names)}; it has: '
      f'{listed(record)}{hint(record)}'
    )
  (name, value), *others = found
  for other, different in others:
    if different != value:
      raise ValueError(
        f'{where}: needs exactly one of {listed(names)}: {name!r} and '
        f'{other!r} differ; remove one of them'
      )
  return value


def listed(names: Iterable[str]) -> str:
  """The first few names, each cut short, because a stranger chose them."""
  names = list(names)
  shown = [f'{name!r:.60}' for name in names[:_SHOWN_COLUMNS]]
  more = f', ... ({len(names):,})' if len(names) > _SHOWN_COLUMNS else ''
  return (', '.join(shown) or 'none') + more


def check_columns(
  path: str | os.PathLike, columns: Sequence[str], known: str = ''
) -> None:
  """Checks that columns for question and answer are among a file's columns.

  Raises:
    ValueError: one line naming path and all columns; `known` is its end.
  """
  lower = {name.lower() for name in columns}
  for what, names in (('question', QUESTION), ('answer', (*ANSWER, REWARD))):
    if not lower & set(names):
      raise ValueError(
        f'{path}: has no column for the {what}: expected {listed(names)}; it '
        f'has: {listed(columns)}{hint(columns)}{known}'
      )


def hint(names: Iterable[str]) -> str:
  if 'solution' in {name.lower() for name in names}:
    return (
      "; a 'solution' is not read: in most data sets it is worked out, not an "
      'answer'
    )
  return ''


def _reward_answer(
  where: str, record: Mapping[str, Any]
) -> list[tuple[str, Any]]:
  """[('reward_model.ground_truth', value)] of a row in verl's format."""
  found = []
  for name, value in _given(record, (REWARD,)):
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
  """(system turn or None, user turn) of a text or of a list of messages."""
  if not isinstance(value, list):
    return None, _text(where, field, value, _MAX_QUESTION_CHARS)
  messages = [_message(where, f'{field}[{i}]', m) for i, m in enumerate(value)]
  roles = [_ROLES.get(role, role) for role, _ in messages]
  if roles not in (['user'], ['system', 'user']):
    raise ValueError(
      f'{where}: {field} has the turns {listed(roles)}; expected one of the '
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
  """(speaker, text) of a message."""
  if isinstance(message, Mapping):
    # Tables give every message the fields of all messages.
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
  """The answer in a list of one.

  verl's examples have lists, and Skywork-OR1 has them as text.
  """
  if isinstance(value, list) and len(value) == 1:
    return value[0]
  if not isinstance(value, str) or len(value) > _MAX_LISTED_CHARS:
    return value
  found = _LIST_OF_TEXT.fullmatch(value.strip())
  return found['text'].replace('\\\\', '\\') if found else value


def _starter(where: str, record: Mapping[str, Any]) -> str:
  """The starter; '' for none, null and blank text."""
  value = record.get('starter')
  if value is None:
    return ''
  text = _text(where, 'starter', value, _MAX_QUESTION_CHARS, may_be_blank=True)
  return text if text.strip() else ''


def _difficulty(where: str, record: Mapping[str, Any]) -> float | None:
  """The difficulty, a number or its text in a JSON line; None for null."""
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


def _passes(record: Mapping[str, Any]) -> types.Passes | None:
  """The pass counts that curation stored.

  Other data sets have columns of these names too, which mean other things: only
  counts that fit each other, of a model that is named by its hash, are read.
  """
  right, judged, model = (
    f'{record.get(name)}' for name in ('right', 'judged', 'model')
  )
  if (
    _MODEL.fullmatch(model)
    and _WHOLE.fullmatch(right)
    and _WHOLE.fullmatch(judged)
    and 0 < int(judged) >= int(right)
  ):
    return types.Passes(int(right), int(judged), model)
  return None


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
