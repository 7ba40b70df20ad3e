"""Responses to rows, from `generate` or from files of another engine.

    responses=(
      dict(fn='acereason_jax.data.curate.responses:generated', path=...),
      dict(fn='acereason_jax.data.curate.responses:columns', path=..., ...),
    )

A component is called with the rows, and returns their attempts by id. Responses
count for a row only if they answer its question. An id alone does not show
that: the numbers of lines change when a file does. So the question is compared
where it is known, and a file for other questions is refused as a whole.
"""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from acereason_jax.data import fields, parquet_rows, records, rollouts, sources
from acereason_jax.data.curate import values

# A label before a question, such as 'Problem 4.1:', may be gone or be new.
_LABEL_CHARS = 60
_MAX_HEADER_BYTES = 16 << 20
_HEAD_BYTES = 1024
_PARQUET, _ARRAY, _BOM = b'PAR1', b'[', b'\xef\xbb\xbf'
_WHOLE = re.compile(r'[0-9]{1,12}')
Attempts = dict[str, list[values.Attempt]]


class _Response(NamedTuple):
  """A response in a file.

  where: 'file:line'.
  id: id of its row, '' if only its question is known.
  question: question that it answers, '' if unknown.
  index: its place among those of the row.
  attempt: what it says.
  """

  where: str
  id: str
  question: str
  index: int
  attempt: values.Attempt


class _Texts:
  """The texts of rollouts, read where their lines begin."""

  def __init__(self, path: str):
    self._path = path
    self._file: BinaryIO | None = None
    self._stack = contextlib.ExitStack()

  def at(self, offset: int) -> str:
    """Raises ValueError, one line, if the file is another one now."""
    if self._file is None:
      opened = records.opened(self._path, most_bytes=None)
      self._file = self._stack.enter_context(opened)
    self._file.seek(offset)
    line = self._file.readline(rollouts.MAX_LINE_BYTES)
    try:
      match json.loads(line):
        case {'text': str(), 'stop': 'error'}:
          return ''
        case {'text': str(text)}:
          return _bounded(text)
    except (ValueError, RecursionError):
      pass
    raise ValueError(
      f'{self._path}: was changed while it was read; start again when nothing '
      'writes it'
    )


class _Place(NamedTuple):
  """Where the text of a rollout is."""

  texts: _Texts
  offset: int


class _Stored(values.Attempt):
  """An attempt whose text is read from its file each time that it is used."""

  @property
  def text(self) -> str:
    place = self[0]
    return place.texts.at(place.offset)


def generated(
  path: str, rows: Sequence[values.Row], prompts: str = ''
) -> Attempts:
  """The rollouts in a file of `generate`, in the order of their indices.

  Their texts stay in the file until a step reads them: eight long ones to each
  of 50,000 rows are more than many a memory holds.

  `prompts` is the file that --prompts named. With it, this checks that the
  rollouts were drawn from that file, and that its questions are those of the
  rows. An id that no row has then stands for the row of its question, as where
  neither file has ids. A rollout that could not be drawn is an attempt without
  a text.

  Raises:
    ValueError: one line; the file is damaged, or answers other questions.
  """
  header = _header(path)
  texts = _Texts(path)
  asked = {}
  if prompts:
    if header:
      _check_digest(path, header, prompts)
    found = sources.jsonl(prompts, answers=False)
    asked = {row.id: row.question for row in found}
  known = {_plain(row.problem): row.id for row in rows} if asked else {}
  ids = {row.id for row in rows}
  model = rollouts.model_key(header)

  def read() -> Iterator[_Response]:
    for where, offset, record in rollouts.read_places(path):
      name, length = record['id'], record.get('length')
      tokens = length if isinstance(length, int) else None
      attempt = _Stored(_Place(texts, offset), tokens, model)
      question = asked.get(name, '')
      if prompts and not question:
        raise ValueError(
          f'{where}: id {name!r:.60} is not in {prompts}; give the file that '
          '--prompts named'
        )
      if name not in ids:
        name = known.get(_plain(question), name)
      yield _Response(where, name, question, record['index'], attempt)

  return by_row(path, read(), rows)


def columns(
  path: str,
  rows: Sequence[values.Row],
  *,
  text: str,
  id: str = '',
  question: str = '',
  tokens: str = '',
  model: str = '',
  prefix: str = '',
) -> Attempts:
  """Responses in columns of a file: JSON lines, a JSON array or Parquet.

  text: column of a response, or of a list of responses to one question.
  id: column of the row's id, '' for none.
  question: column of the question, '' for none; without an id it says whose
    response it is, and with one the two must agree.
  tokens: column of the length in tokens, or of a list of them; '' for none.
  model: name of the model.
  prefix: text before the ids of the file, as the input's.

  Raises:
    ValueError: one line; a column is missing, or the file answers other
      questions.
  """
  if not id and not question:
    raise ValueError(
      "id='': name the column of a row's id, or in question= that of its "
      'question'
    )
  known = {_plain(row.problem): row.id for row in rows} if not id else {}
  named = [name for name in (text, id, question, tokens) if name]

  def read() -> Iterator[_Response]:
    for where, record in _records(path, named):
      asked = _text(where, record, question) if question else ''
      name = known.get(_plain(asked), '')
      if id:
        name = prefix + _text(where, record, id)
      told = _listed(record[text])
      lengths = _listed(record[tokens]) if tokens else [None] * len(told)
      if len(lengths) != len(told):
        raise ValueError(
          f'{where}: {len(told)} responses in {text!r}, {len(lengths)} lengths '
          f'in {tokens!r}; expected one each'
        )
      for i, (each, length) in enumerate(zip(told, lengths)):
        attempt = values.Attempt(
          _response(where, text, each), _length(where, tokens, length), model
        )
        yield _Response(where, name, asked, i, attempt)

  return by_row(path, read(), rows)


def by_row(
  path: str, found: Iterable[_Response], rows: Sequence[values.Row]
) -> Attempts:
  """The attempts at each row, by index and then in the order of the file.

  Raises:
    ValueError: one line; a question is not that of its row, or all are of
      other rows.
  """
  questions = {row.id: row.problem for row in rows}
  mine = collections.defaultdict(list)
  count, wrong = 0, []
  for response in found:
    count += 1
    if (own := questions.get(response.id)) is None:
      continue
    if response.question and not is_same(response.question, own):
      wrong.append(response)
    mine[response.id].append(response)
  if wrong:
    own = questions[wrong[0].id]
    raise ValueError(
      f'{path}: {len(wrong):,} responses answer other questions than those of '
      f'their ids, the first at {wrong[0].where}: id {wrong[0].id!r:.60} is '
      f'{_start(own)} and was asked {_start(wrong[0].question)}; give the '
      'responses to these rows, or take the file out'
    )
  if not count:
    raise ValueError(f'{path}: holds no responses; is it the right file?')
  if not mine:
    raise ValueError(
      f'{path}: holds {count:,} responses, none to one of the {len(rows):,} '
      'rows; give the file for these inputs, or name another column for the id'
    )
  return {
    name: [r.attempt for r in sorted(each, key=lambda r: r.index)]
    for name, each in mine.items()
  }


def is_same(asked: str, problem: str) -> bool:
  """Whether two texts are one question; blanks and a label do not count."""
  short, long = sorted((_plain(asked), _plain(problem)), key=len)
  if short == long:
    return True
  return (
    bool(short)
    and len(long) - len(short) <= min(_LABEL_CHARS, len(short))
    and long.endswith(short)
  )


def digest(path: str | os.PathLike) -> str:
  """The digest by which `generate`'s header names a file of prompts."""
  with records.opened(path) as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  line = f'{pathlib.Path(path).name} {found}\n'
  return hashlib.sha256(line.encode()).hexdigest()


def _header(path: str) -> dict[str, Any]:
  """What `generate` wrote next to the rollouts; {} if nothing is there."""
  place = f'{path}.json'
  if not os.path.exists(place):
    return {}
  with records.opened(place, _MAX_HEADER_BYTES) as file:
    try:
      header = json.loads(file.read())
    except (ValueError, RecursionError) as e:
      raise ValueError(f'{place}: not readable as JSON; remove it') from e
  if not isinstance(header, dict):
    raise ValueError(f'{place}: expected an object; remove it')
  return header


def _check_digest(path: str, header: Mapping[str, Any], prompts: str) -> None:
  expected, got = digest(prompts), header.get('prompts')
  if got != expected:
    raise ValueError(
      f'{path}: holds responses to other prompts: its .json names the digest '
      f'{got!s:.12}, and {prompts} has {expected[:12]}; give the file that '
      '--prompts named, or generate again'
    )


def _records(
  path: str, named: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """('path:line', record) of a file, each with all columns that are named."""
  with records.opened(path) as file:
    head = file.read(_HEAD_BYTES).removeprefix(_BOM).lstrip()
  if head.startswith(_PARQUET):
    names, found = parquet_rows.read(path, any_case=(), exact=named)
    _check_columns(path, names, named)
  elif head.startswith(_ARRAY):
    found = records.array(path)
  else:
    found = records.jsonl(path)
  for where, record in found:
    if not isinstance(record, Mapping):
      raise ValueError(f'{where}: expected an object, got {record!r:.60}')
    _check_columns(where, record, named)
    yield where, record


def _check_columns(
  where: str, names: Iterable[str], named: Sequence[str]
) -> None:
  names = list(names)
  for name in named:
    if name not in names:
      raise ValueError(
        f'{where}: has no column {name!r:.60}; it has: {fields.listed(names)}'
      )


def _listed(value: Any) -> list[Any]:
  return value if isinstance(value, list) else [value]


def _text(where: str, record: Mapping[str, Any], name: str) -> str:
  value = record[name]
  if not isinstance(value, str):
    raise ValueError(f'{where}: {name} must be text, got {value!r:.60}')
  return value


def _response(where: str, name: str, value: Any) -> str:
  """A response; '' for a null, which some engines write where they failed."""
  if value is None:
    return ''
  if not isinstance(value, str):
    raise ValueError(
      f'{where}: {name} must be a text or a list of texts, got {value!r:.60}'
    )
  return _bounded(value)


def _bounded(text: str) -> str:
  """The response; '' if it is longer than any judge reads."""
  return text if len(text) <= rollouts.MAX_RESPONSE_BYTES else ''


def _length(where: str, name: str, value: Any) -> int | None:
  if value is None:
    return None
  # Files give numbers as their digits.
  if isinstance(value, str) and _WHOLE.fullmatch(value):
    return int(value)
  raise ValueError(
    f'{where}: {name} must be a number of tokens or null, got {value!r:.60}'
  )


def _plain(text: str) -> str:
  return ' '.join(text.split())


def _start(text: str) -> str:
  return f'{_plain(text)[:60]!r}'
