"""Reads the files of a benchmark and joins them, whatever their kind.

Rows are read as training reads them (data/fields.py). In addition there are
ids under other names, columns that group problems, and digests of the files.
"""

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.data import fields, parquet_rows, questions, records

# Columns that hold an id; the first that a row has counts.
_IDS = ('id', 'ID', 'unique_id', 'problem_idx')
_PARQUET, _ARRAY = b'PAR1', b'['
_BOM = b'\xef\xbb\xbf'
_HEAD_BYTES = 1024
_MAX_FILES = 1000


class Entry(NamedTuple):
  """A row of a benchmark's files.

  row: question, reference answer ('' if the file has none) and id.
  texts: the row's values in the columns that were asked for, as text.
  file: name of its file without folders and kind.
  """

  row: questions.Row
  texts: Mapping[str, str]
  file: str


class Entries(NamedTuple):
  """The rows of a benchmark's files.

  entries: the rows in the order of the files.
  files: SHA-256 of each file by its name without folders.
  """

  entries: tuple[Entry, ...]
  files: Mapping[str, str]


def read(
  paths: str | Sequence[str],
  columns: Sequence[str] = (),
  id_column: str = '',
  known: str = '',
) -> Entries:
  """The rows of all files, with the texts of some columns.

  Each row has an id in `id_column`. Without that its id is in id, ID, unique_id
  or problem_idx, or else it is a hash of the question. If files share ids, the
  names of the files become a part of the ids. `known` ends the message about a
  file that lacks a column.

  Raises:
    ValueError: one line; a file or a row cannot be read, or is there twice.
  """
  paths = _listed(paths)
  names = _unique([_name(path) for path in paths])
  stems = _unique([pathlib.PurePosixPath(_name(path)).stem for path in paths])
  ids = (id_column,) if id_column else _IDS
  files, parts = {}, []
  for path, name, stem in zip(paths, names, stems, strict=True):
    head, files[name] = _look(path)
    found = _records(path, head, [*ids, *columns], known)
    if id_column:
      found = _with_ids(found, id_column)
    parts.append(_entries(path, stem, found, ids, columns))
  _check_files(paths, files)
  entries = tuple(_joined(parts))
  if len(parts) > 1:
    questions.say_repeated(', '.join(names), (e.row for e in entries))
  return Entries(entries, files)


def _listed(paths: str | Sequence[str]) -> tuple[str, ...]:
  listed = (paths,) if isinstance(paths, str) else tuple(paths)
  if not 0 < len(listed) <= _MAX_FILES or not all(
    isinstance(path, str | os.PathLike) for path in listed
  ):
    raise ValueError(
      f'paths={paths!r:.100}: expected a file or a tuple of 1 to {_MAX_FILES}'
    )
  return tuple(map(os.fspath, listed))


def _name(path: str) -> str:
  return pathlib.PurePosixPath(path).name


def _unique(names: Sequence[str]) -> list[str]:
  """The names; with their positions before them if some are equal."""
  if len(set(names)) == len(names):
    return list(names)
  return [f'{position}-{name}' for position, name in enumerate(names, 1)]


def _look(path: str) -> tuple[bytes, str]:
  """(first bytes of the file's content, SHA-256 of the whole file)."""
  with records.opened(path) as file:
    head = file.read(_HEAD_BYTES).removeprefix(_BOM).lstrip()
    file.seek(0)
    return head, hashlib.file_digest(file, 'sha256').hexdigest()


def _check_files(paths: Sequence[str], files: Mapping[str, str]) -> None:
  first: dict[str, str] = {}
  for path, digest in zip(paths, files.values(), strict=True):
    if digest in first:
      raise ValueError(
        f'{path}: the same file as {first[digest]}; name each file once'
      )
    first[digest] = path


def _records(
  path: str, head: bytes, columns: Sequence[str], known: str
) -> Iterator[tuple[str, Any]]:
  """Yields (where, record); checks that question and answer have columns."""
  if head.startswith(_PARQUET):
    names, found = parquet_rows.read(
      path,
      any_case=(*fields.QUESTION, *fields.ANSWER, fields.REWARD),
      exact=(*fields.OTHERS, *columns),
    )
    fields.check_columns(path, names, known)
    yield from found
    return
  is_array = head.startswith(_ARRAY)
  found = records.array(path) if is_array else records.jsonl(path)
  for where, record in found:
    if isinstance(record, Mapping):
      fields.check_columns(where, list(record), known)
    yield where, record


def _with_ids(
  found: Iterator[tuple[str, Any]], column: str
) -> Iterator[tuple[str, Any]]:
  for where, record in found:
    if isinstance(record, Mapping) and column not in record:
      raise ValueError(
        f'{where}: has no column {column!r} for the id; it has: '
        f'{fields.listed(record)}'
      )
    yield where, record


def _entries(
  path: str,
  file: str,
  found: Iterator[tuple[str, Any]],
  ids: Sequence[str],
  columns: Sequence[str],
) -> list[Entry]:
  """The entries of one file, without repeated rows."""
  texts: dict[str, Mapping[str, str]] = {}

  def rows() -> Iterator[tuple[str, questions.Row]]:
    for where, record in found:
      row = _row(where, record, ids, columns)
      mine = {
        name: _text(where, name, record[name])
        for name in columns
        if record.get(name) is not None
      }
      if texts.setdefault(row.id, mine) != mine:
        raise ValueError(
          f'{where}: id {row.id!r:.60} is that of another row, which differs '
          f'in {fields.listed(columns)}; remove or rename one of them'
        )
      yield where, row

  return [
    Entry(row, texts[row.id], file) for row in questions.unique(rows(), path)
  ]


def _row(
  where: str, record: Any, ids: Sequence[str], columns: Sequence[str]
) -> questions.Row:
  """The row of a record; its answer is '' if the record has none."""
  if not isinstance(record, Mapping):
    return fields.row_of(where, record)
  # A column that groups problems need not be what training takes it for.
  read = {k: v for k, v in record.items() if k not in columns}
  named = next((record[name] for name in ids if name in record), None)
  read.pop('id', None)
  if named is not None:
    read['id'] = named
  return fields.row_of(where, read, fields.has_answer(record))


def _text(where: str, name: str, value: Any) -> str:
  """A column's value as text; a list is joined with commas."""
  listed = value if isinstance(value, list) else [value]
  if not all(isinstance(each, str) for each in listed):
    raise ValueError(
      f'{where}: {name} must be text, a number or a list of them, got '
      f'{value!r:.60}; do not ask for this column'
    )
  return ', '.join(sorted(listed))


def _joined(parts: Sequence[Sequence[Entry]]) -> Iterator[Entry]:
  """Yields all entries; their ids get the file's name if ids clash."""
  first: dict[str, Entry] = {}
  clash = False
  for entry in itertools.chain(*parts):
    other = first.setdefault(entry.row.id, entry)
    clash |= other is not entry
    if other is not entry and other.row == entry.row:
      raise ValueError(
        f'id {entry.row.id!r:.60}: the same row is in {other.file} and '
        f'{entry.file}; leave one of the files out'
      )
  for entry in itertools.chain(*parts):
    if clash:
      name = f'{entry.file}-{entry.row.id}'
      entry = entry._replace(row=dataclasses.replace(entry.row, id=name))
    yield entry
