"""Opens the files of a config: what they are, and their SHA-256."""

import hashlib
import itertools
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from acereason_jax import hub
from acereason_jax.data import fields, parquet_rows, records

_HEAD_BYTES = 1024
_PARQUET, _ARRAY, _BOM = b'PAR1', b'[', b'\xef\xbb\xbf'


def paths(given: Sequence[str], revision: str) -> Iterator[str]:
  for path in given:
    if revision and hub.is_file(path):
      place = hub.place(path)
      path = str(place._replace(revision=place.revision or revision))
    yield path


def name(path: str, taken: Collection[str]) -> str:
  """The file's name; two files of one name are told apart."""
  own = pathlib.PurePosixPath(path).name
  names = itertools.chain([own], (f'{i}-{own}' for i in itertools.count(2)))
  return next(each for each in names if each not in taken)


class Opened(NamedTuple):
  """A file that is open.

  digest: its SHA-256.
  columns: names of its columns; None for JSON, where each row has its own.
  records: ('path:line', record) of each row.
  """

  digest: str
  columns: Sequence[str] | None
  records: Iterator[tuple[str, Any]]


def opened(path: str, kind: str, columns: Sequence[str]) -> Opened:
  """A file of rows; of Parquet, questions, answers and `columns` are read.

  Raises:
    ValueError: one line.
  """
  with records.opened(path) as file:
    head = file.read(_HEAD_BYTES).removeprefix(_BOM).lstrip()
    file.seek(0)
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if kind == 'parquet' or (not kind and head.startswith(_PARQUET)):
    names, found = parquet_rows.read(
      path,
      any_case=(*fields.QUESTION, *fields.ANSWER, fields.REWARD),
      exact=columns,
    )
    return Opened(digest, names, found)
  is_array = kind == 'json' or (not kind and head.startswith(_ARRAY))
  read = records.array if is_array else records.jsonl
  return Opened(digest, None, read(path))
