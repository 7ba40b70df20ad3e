"""A row from a record of a file, whatever its columns are called.

What is wrong with the text of one row is that row's fate, not an error, because
a public data set of a million rows has a few that nobody can use.
"""

import collections
import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data import fields, questions
from acereason_jax.data.curate import dates, plan, values

# Fields that every row has, and the usual names of their columns.
NEEDED = dict(problem=fields.QUESTION, answer=(*fields.ANSWER, fields.REWARD))
_USUAL = frozenset(name for names in NEEDED.values() for name in names)
_MAX_CHARS = 1 << 20
_NUMBER = re.compile(r'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?')
_WHOLE = re.compile(r'[0-9]{1,9}')
_TEXTS = ('url', 'date', 'starter')
_PROGRAMS = ('solutions', 'wrong')


class Found(NamedTuple):
  """A row as it was read.

  where: 'file:line'.
  row: the row.
  reason: why no step can use it, '' if one can.
  evidence: what shows it.
  named: whether its file gives its id, which is made of its content otherwise.
  """

  where: str
  row: values.Row
  reason: str = ''
  evidence: Mapping[str, Any] = types.EMPTY
  named: bool = True


def columns(source: plan.Input) -> list[str]:
  """The columns that are read beside the usual ones of question and answer.

  '' in `fields` leaves a column out.
  """
  usual = [c for c in plan.COLUMNS if c not in NEEDED]
  named = [*source.fields.values(), *(source.fields.get(c, c) for c in usual)]
  return [*filter(None, named), *source.keep]


def read(
  where: str,
  record: Mapping[str, Any],
  source: plan.Input,
  wanted: Collection[str],
) -> Found:
  """The row of a record, of which `wanted` are the `columns` of its source.

  Raises:
    ValueError: one line; it is no row.
  """
  named = {n for n in record if n in wanted or n.lower() in _USUAL}
  record, reason, evidence = cleaned(where, record, named)
  told = _told(record, source.fields)
  found, more, why = _question(where, told)
  reason, evidence = reason or more, evidence or why
  texts = {n: _text(where, n, record, source) for n in _TEXTS}
  programs = {n: _programs(where, n, record, source) for n in _PROGRAMS}
  about = {
    n: _kept(where, n, record[n])
    for n in source.keep
    if record.get(n) is not None
  }
  if found.system is not None:
    about['system'] = found.system
  row = values.Row(
    id='',
    problem=found.question,
    answer=found.answer,
    source=source.name,
    url=texts['url'],
    date=dates.known(texts['date']),
    starter=texts['starter'],
    difficulty=_difficulty(where, record, source.fields),
    about=about,
    **programs,
  )
  given = told.get('id')
  # A null is no id.
  row_id = f'{source.prefix}{found.id}' if given else _content_id(row, source)
  if len(row_id) > questions.MAX_ID_CHARS:
    raise ValueError(
      f'{where}: id must be at most {questions.MAX_ID_CHARS} characters with '
      f'config.inputs.{source.name}.prefix, got {len(row_id)}: {row_id!r:.60}'
    )
  row = dataclasses.replace(row, id=row_id)
  return Found(where, row, reason, evidence, bool(given))


def _told(
  record: Mapping[str, Any], named: Mapping[str, str]
) -> dict[str, Any]:
  """The columns of question, answer and id, by the names of training."""
  told = {}
  for name, usual in (*NEEDED.items(), ('id', ('id',))):
    if name in named:
      # A list of messages stays one; a null stays a null.
      told[name] = record.get(named[name])
    else:
      told |= {k: v for k, v in record.items() if k.lower() in usual}
  return {k: v for k, v in told.items() if k != 'id' or v is not None}


def _question(
  where: str, told: dict[str, Any]
) -> tuple[questions.Row, str, dict[str, Any]]:
  """(row, reason why no step can use it, evidence)."""
  asked = {k: v for k, v in told.items() if k.lower() in fields.QUESTION}
  reason, evidence = '', {}
  if not any(_is_said(v) for v in asked.values()):
    reason = 'no problem'
    told = {k: v for k, v in told.items() if k not in asked} | dict(problem='-')
  for name, value in asked.items():
    if isinstance(value, str) and len(value) > _MAX_CHARS:
      reason, evidence = 'too long', dict(characters=len(value))
      told = told | {name: value[:_MAX_CHARS]}
  found = fields.row_of(where, told, fields.has_answer(told))
  if reason == 'no problem':
    found = dataclasses.replace(found, question='')
  return found, reason, evidence


def _is_said(value: Any) -> bool:
  return bool(value.strip()) if isinstance(value, str) else value is not None


def _of(record: Mapping[str, Any], source: plan.Input, name: str) -> Any:
  return record.get(source.fields.get(name, name))


def _content_id(row: values.Row, source: plan.Input) -> str:
  known = (row.problem, row.answer, row.starter, row.solutions, row.wrong)
  digest = questions.text_digest(json.dumps(known))
  return f'{source.name}-{digest[:16]}'


def _text(
  where: str, name: str, record: Mapping[str, Any], source: plan.Input
) -> str:
  value = _of(record, source, name)
  if isinstance(value, str):
    return value if value.strip() else ''
  if value is None or name not in source.fields:
    return ''
  raise ValueError(f'{where}: {name} must be text, got {value!r:.60}')


def _programs(
  where: str, name: str, record: Mapping[str, Any], source: plan.Input
) -> tuple[str, ...]:
  """Programs: a text, a list of texts, or such a list as JSON text."""
  value = _of(record, source, name)
  if isinstance(value, str) and value.lstrip().startswith('['):
    # A program may begin so too.
    with contextlib.suppress(ValueError, RecursionError):
      value = json.loads(value)
  listed = [value] if isinstance(value, str) else value or []
  if isinstance(listed, list) and all(isinstance(t, str) for t in listed):
    return tuple(text for text in listed if text.strip())
  # A column of this name that no config names may hold anything.
  if name not in source.fields:
    return ()
  raise ValueError(
    f'{where}: {name} must be a text or a list of texts, got {value!r:.60}'
  )


def _kept(where: str, name: str, value: Any) -> Any:
  """A column for Row.about; those that steps add are of their kind again.

  Raises:
    ValueError: one line; it is of another kind, or no JSON.
  """
  if name == 'flags':
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(isinstance(t, str) for t in texts):
      return texts
    raise ValueError(
      f'{where}: {name} must be a list of texts, got {value!r:.60}'
    )
  if kind := _KINDS.get(name):
    with contextlib.suppress(TypeError, ValueError):
      return kind(value)
    raise ValueError(
      f'{where}: {name} must be {_KIND_NAMES[kind]}, got {value!r:.60}; '
      'it is a column that steps add: leave it out of .keep'
    )
  try:
    json.dumps(value, allow_nan=False)
  except ValueError as e:
    raise ValueError(
      f'{where}: {name} holds a number that is infinite or none; leave it out '
      'of .keep'
    ) from e
  return value


def _finite(text: str) -> float:
  if not isinstance(text, str) or not math.isfinite(number := float(text)):
    raise ValueError
  return number


def _whole(text: str) -> int:
  if not isinstance(text, str) or not _WHOLE.fullmatch(text):
    raise ValueError
  return int(text)


def _said(text: str) -> str:
  if not isinstance(text, str):
    raise ValueError
  return text


# Columns that steps add, as files give them: numbers are their digits.
_KINDS = dict(tokens=_finite, right=_whole, judged=_whole, model=_said)
_KIND_NAMES = {_finite: 'a number', _whole: 'a whole number', _said: 'text'}


def _difficulty(
  where: str, record: Mapping[str, Any], named: Mapping[str, str]
) -> float | None:
  value = record.get(named.get('difficulty', 'difficulty'))
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    number = float(value)
    # Digits may say more than a number holds.
    if math.isfinite(number):
      return number
  # A column of this name that no config names may hold words.
  if value is None or 'difficulty' not in named:
    return None
  raise ValueError(
    f'{where}: difficulty must be a finite number or null, got {value!r:.60}'
  )


def cleaned(
  where: str, record: Mapping[str, Any], wanted: Collection[str]
) -> tuple[dict[str, Any], str, dict[str, Any]]:
  """(`wanted` columns without what no file can hold, reason, evidence).

  Raises:
    ValueError: one line; a column is nested too deep.
  """
  odd: collections.Counter[str] = collections.Counter()

  def clean(value: Any) -> Any:
    if isinstance(value, str):
      return _safe(value, odd)
    if isinstance(value, list):
      return [clean(each) for each in value]
    if isinstance(value, Mapping):
      return {_safe(k, odd): clean(v) for k, v in value.items()}
    return value

  try:
    found = {k: clean(v) for k, v in record.items() if k in wanted}
  except RecursionError as e:
    raise ValueError(f'{where}: nested too deep; expected texts') from e
  return found, 'unreadable' if odd else '', dict(sorted(odd.items()))


def _safe(text: str, odd: collections.Counter[str]) -> str:
  """The text with NUL and half surrogates spelled out, which are counted."""
  if '\0' in text:
    odd['NUL'] += text.count('\0')
    text = text.replace('\0', '\\x00')
  try:
    text.encode()
  except UnicodeEncodeError:
    odd['half surrogates'] += sum('\ud800' <= c <= '\udfff' for c in text)
    text = text.encode('utf-8', 'backslashreplace').decode()
  return text
