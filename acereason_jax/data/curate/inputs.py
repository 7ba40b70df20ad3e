"""Reads rows and benchmark problems from files, within bounds.

What is wrong with a file is one line; what is wrong with the text of one row is
that row's fate, because a public data set of a million rows has a few that
nobody can use. Columns are read by the names that training knows (data/
fields.py), or by those that a config gives.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import hub, resolve
from acereason_jax.data import fields, parquet_rows, questions, records
from acereason_jax.data.curate import keys, plan, values

READ = 'read'
_MAX_CHARS = 1 << 20
_HEAD_BYTES = 1024
_PARQUET, _ARRAY, _BOM = b'PAR1', b'[', b'\xef\xbb\xbf'
_DAY = re.compile(r'(\d{4}-\d{2}-\d{2})(?!\d)', re.ASCII)
_NUMBER = re.compile(r'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?')
_TEXTS = ('url', 'date', 'starter', 'source')
_PROGRAMS = ('solutions', 'wrong')
_STATEMENTS = (*fields.QUESTION, 'statement')
_LEAST_ITEMS = 5
_SHOWN = 3


class Read(NamedTuple):
  """The rows of an input.

  rows: different rows, in the order of their ids.
  refused: fates of rows that no step can read.
  files: SHA-256 of each file by its name.
  lines: number of rows in the files, with repeats.
  """

  rows: tuple[values.Row, ...]
  refused: tuple[values.Fate, ...]
  files: Mapping[str, str]
  lines: int


class Items(NamedTuple):
  """The problems of a benchmark.

  items: problems, in the order of its files.
  files: SHA-256 of each file by its name.
  """

  items: tuple[values.Item, ...]
  files: Mapping[str, str]


class _Found(NamedTuple):
  """A row as it was read; `reason` says why no step can use it."""

  where: str
  row: values.Row
  reason: str = ''
  evidence: Mapping[str, Any] = values.types.EMPTY


def read(source: plan.Input) -> Read:
  """The rows of an input.

  Raises:
    ValueError: one line; a file or a row cannot be read, there is none, or two
      different rows have one id.
  """
  if source.rows is not None:
    where = f'config.inputs.{source.name}.rows'
    rows = _built(source, where)
    found = [_Found(f'{where}[{i}]', row) for i, row in enumerate(rows)]
    files = {}
  else:
    found, files = [], {}
    for path in _paths(source.paths, source.revision):
      digest, parts = _opened(path, source.format, _wanted(source))
      files[_name(path, files)] = digest
      found += _rows(path, parts, source)
  if not found:
    raise ValueError(f'config.inputs.{source.name}: holds no rows')
  different = _different(found)
  return Read(
    tuple(f.row for f in different if not f.reason),
    tuple(
      values.Fate(values.DROPPED, f.row, f.reason, f.evidence)
      for f in different
      if f.reason
    ),
    files,
    len(found),
  )


def joined(sources: Sequence[plan.Input]) -> dict[str, Read]:
  """The rows of all inputs by name. Raises: ValueError, as `read` does."""
  found = {source.name: read(source) for source in sources}
  first: dict[str, str] = {}
  for name, each in found.items():
    rows = (*each.rows, *(fate.row for fate in each.refused))
    for row in rows:
      if row.id in first:
        raise ValueError(
          f'config.inputs: id {row.id!r:.60} is in {first[row.id]} and in '
          f'{name}; give one of them a prefix, such as '
          f'config.inputs.{name}.prefix={f"{name}-"!r}'
        )
    first |= dict.fromkeys((row.id for row in rows), name)
  return found


def benchmark(source: plan.Benchmark) -> Items:
  """The problems of a benchmark's files.

  Raises:
    ValueError: one line; a file cannot be read, or has fewer than 5 problems
      with a word or a number in them, which any rule needs.
  """
  where = f'config.benchmarks.{source.name}'
  found, files = [], {}
  for path in _paths(source.paths, source.revision):
    names = (source.field,) if source.field else _STATEMENTS
    digest, parts = _opened(path, source.format, [*names, source.id or 'id'])
    files[_name(path, files)] = digest
    for number, (place, record) in enumerate(parts, 1):
      found.append(_item(place, record, source, names, f'{number}'))
  able = sum(bool(keys.tokens(item.text)) for item in found)
  if able < _LEAST_ITEMS:
    raise ValueError(
      f'{where}: {able} of {len(found)} problems hold a word or a number; '
      f'expected at least {_LEAST_ITEMS}: is {source.paths[0]} its file?'
    )
  return Items(tuple(found), files)


def distinct(
  found: Mapping[str, Iterable[values.Item]],
) -> tuple[values.Item, ...]:
  """The problems of all benchmarks, those of equal tokens once."""
  first: dict[tuple[str, ...], values.Item] = {}
  for items in found.values():
    for item in items:
      first.setdefault(tuple(keys.tokens(item.text)), item)
  first.pop((), None)
  return tuple(first.values())


def _built(source: plan.Input, where: str) -> Sequence[values.Row]:
  rows = resolve.build(source.rows, where)
  rows = rows if isinstance(rows, Sequence) else ()
  if not all(isinstance(row, values.Row) for row in rows):
    raise ValueError(f'{where}: expected a list of data.curate.values.Row')
  return [
    dataclasses.replace(row, id=f'{source.prefix}{row.id}', source=source.name)
    for row in rows
  ]


# --- files ------------------------------------------------------------------


def _paths(paths: Sequence[str], revision: str) -> Iterator[str]:
  for path in paths:
    if revision and hub.is_file(path):
      place = hub.place(path)
      path = str(place._replace(revision=place.revision or revision))
    yield path


def _name(path: str, taken: Iterable[str]) -> str:
  """The file's name; two files of one name are told apart."""
  name = pathlib.PurePosixPath(path).name
  return name if name not in taken else f'{len(list(taken)) + 1}-{name}'


def _opened(
  path: str, format_: str, columns: Sequence[str]
) -> tuple[str, Iterator[tuple[str, Any]]]:
  """(SHA-256 of a file, its records as ('path:line', record))."""
  with records.opened(path) as file:
    head = file.read(_HEAD_BYTES).removeprefix(_BOM).lstrip()
    file.seek(0)
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  guess = {_PARQUET: 'parquet', _ARRAY: 'json'}
  kind = format_ or next(
    (kind for start, kind in guess.items() if head.startswith(start)), 'jsonl'
  )
  if kind == 'parquet':
    names, found = parquet_rows.read(
      path,
      any_case=(*fields.QUESTION, *fields.ANSWER, fields.REWARD),
      exact=columns,
    )
    if not {n.lower() for n in columns} & {n.lower() for n in names}:
      raise ValueError(
        f'{path}: has none of the columns {fields.listed(columns)}; it has: '
        f'{fields.listed(names)}'
      )
    return digest, found
  return digest, (records.array if kind == 'json' else records.jsonl)(path)


def _wanted(source: plan.Input) -> list[str]:
  named = source.fields
  usual = [c for c in ('id', 'url', 'date', 'starter', 'difficulty')]
  return [*named.values(), *source.keep, *usual, 'about']


# --- rows -------------------------------------------------------------------


def _rows(
  path: str, found: Iterable[tuple[str, Any]], source: plan.Input
) -> Iterator[_Found]:
  """Yields each row. Raises ValueError: a named column is in no row."""
  named = {*source.fields.values(), *source.keep}
  missing, seen = set(named), None
  for where, record in found:
    if not isinstance(record, Mapping):
      raise ValueError(f'{where}: expected an object, got {record!r:.60}')
    missing -= record.keys()
    seen = seen or record
    yield _row(where, record, source)
  if missing and seen is not None:
    raise ValueError(
      f'{path}: no row has the column {sorted(missing)[0]!r:.60} that '
      f'config.inputs.{source.name} names; the first has: '
      f'{fields.listed(seen)}'
    )


def _row(where: str, record: Mapping[str, Any], source: plan.Input) -> _Found:
  record, reason, evidence = _cleaned(record)
  told = _told(record, source.fields)
  found, more, why = _question(where, told)
  reason, evidence = reason or more, evidence or why
  texts = {n: _text(where, n, _of(record, source, n)) for n in _TEXTS}
  day = _DAY.match(texts['date'])
  programs = {
    n: _programs(where, n, _of(record, source, n)) for n in _PROGRAMS
  }
  about = {n: record[n] for n in source.keep if record.get(n) is not None}
  if found.system is not None:
    about['system'] = found.system
  row = values.Row(
    id='',
    problem=found.question,
    answer=found.answer,
    source=texts['source'] or source.name,
    url=texts['url'],
    date=day[1] if day else '',
    starter=texts['starter'],
    difficulty=_difficulty(where, record, source.fields),
    about=about,
    **programs,
  )
  given = told.get('id')
  # A null is no id.
  row_id = f'{source.prefix}{found.id}' if given else _content_id(row, source)
  return _Found(where, dataclasses.replace(row, id=row_id), reason, evidence)


def _told(
  record: Mapping[str, Any], named: Mapping[str, str]
) -> dict[str, Any]:
  """The columns of question, answer and id, by the names of training."""
  told = {}
  for name, usual in (
    ('problem', fields.QUESTION),
    ('answer', (*fields.ANSWER, fields.REWARD)),
    ('id', ('id',)),
  ):
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
  if asked and not any(_is_said(v) for v in asked.values()):
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
  # A column 'source' of a data set means what it likes, so it must be named.
  usual = '' if name == 'source' else name
  return record.get(source.fields.get(name, usual))


def _content_id(row: values.Row, source: plan.Input) -> str:
  known = (row.problem, row.answer, row.starter, row.solutions, row.wrong)
  digest = questions.text_digest(json.dumps(known))
  return f'{source.name}-{digest[:16]}'


def _different(found: Sequence[_Found]) -> list[_Found]:
  """The rows with repeats dropped, in the order of their ids."""
  first: dict[str, _Found] = {}
  clashes = []
  for each in found:
    other = first.setdefault(each.row.id, each)
    if other.row != each.row:
      clashes.append(f'id {each.row.id!r:.60} at {other.where}, {each.where}')
  if clashes:
    raise ValueError(
      f'{len(clashes):,} rows have the id of another row with other content; '
      'remove or rename one of each, or name another column for the id: '
      f'{"; ".join(clashes[:_SHOWN])}'
    )
  return [first[row_id] for row_id in sorted(first)]


def _text(where: str, name: str, value: Any) -> str:
  if value is None:
    return ''
  if not isinstance(value, str):
    raise ValueError(f'{where}: {name} must be text, got {value!r:.60}')
  return value if value.strip() else ''


def _programs(where: str, name: str, value: Any) -> tuple[str, ...]:
  """Programs: a text, a list of texts, or such a list as JSON text."""
  if isinstance(value, str) and value.lstrip().startswith('['):
    try:
      value = json.loads(value)
    except (ValueError, RecursionError):
      value = [value]
  listed = [value] if isinstance(value, str) else value or []
  if not isinstance(listed, list) or not all(
    isinstance(text, str) for text in listed
  ):
    raise ValueError(
      f'{where}: {name} must be a text or a list of texts, got {value!r:.60}'
    )
  return tuple(text for text in listed if text.strip())


def _difficulty(
  where: str, record: Mapping[str, Any], named: Mapping[str, str]
) -> float | None:
  value = record.get(named.get('difficulty', 'difficulty'))
  if isinstance(value, str) and _NUMBER.fullmatch(value):
    return float(value)
  # A column of this name that no config names may hold words.
  if value is None or 'difficulty' not in named:
    return None
  raise ValueError(
    f'{where}: difficulty must be a number or null, got {value!r:.60}'
  )


# --- text -------------------------------------------------------------------


def _cleaned(
  record: Mapping[str, Any],
) -> tuple[dict[str, Any], str, dict[str, Any]]:
  """(record without what no file can hold, reason, evidence)."""
  odd: collections.Counter[str] = collections.Counter()

  def clean(value: Any) -> Any:
    if isinstance(value, str):
      return _safe(value, odd)
    if isinstance(value, list):
      return [clean(each) for each in value]
    if isinstance(value, Mapping):
      return {_safe(k, odd): clean(v) for k, v in value.items()}
    return value

  cleaned = {k: clean(v) for k, v in record.items()}
  return cleaned, 'unreadable' if odd else '', dict(sorted(odd.items()))


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


def _item(
  where: str,
  record: Any,
  source: plan.Benchmark,
  names: Sequence[str],
  number: str,
) -> values.Item:
  """A benchmark's problem."""
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  record, *_ = _cleaned(record)
  given = [
    v for k, v in record.items() if (k if source.field else k.lower()) in names
  ]
  text = next((v for v in given if isinstance(v, str) and v.strip()), None)
  if text is None:
    raise ValueError(
      f'{where}: needs a text in {fields.listed(names)}; it has: '
      f'{fields.listed(record)}; name another in '
      f'config.benchmarks.{source.name}.field'
    )
  told = record.get(source.id or 'id')
  return values.Item(source.name, f'{number if told is None else told}', text)
