"""Reads the rows of benchmarks of programs, and makes their prompts."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from acereason_jax.data import parquet_rows, questions, records
from acereason_jax.evaluation import values
from acereason_jax.verifiers.programs import tasks

# The largest published file has 8 MB unpacked.
_MAX_BYTES, _MAX_LINE_BYTES = 1 << 30, 64 << 20
_MAX_FILE_BYTES = 256 << 20
_GZIP, _PARQUET = b'\x1f\x8b', b'PAR1'


def load(
  paths: Sequence[str],
  columns: Sequence[str],
  task_of: Callable[[Mapping[str, Any]], tasks.CodeTask],
) -> values.Loaded:
  """The problems of files of JSON lines, gzipped or not, or of Parquet.

  `columns` must all be there. `task_of` returns a row's task, or raises
  ValueError: the problem is then missing.

  Raises:
    ValueError: one line; a file cannot be read, lacks columns, has no rows, or
      has an id twice.
  """
  if isinstance(paths, str) or not all(
    isinstance(path, str | os.PathLike) for path in paths
  ):
    raise ValueError(f'paths={paths!r:.80}: expected a tuple of paths')
  problems, files, missing = [], {}, []
  seen: dict[str, str] = {}
  for path in paths:
    name = os.path.basename(path)
    if name in files:
      raise ValueError(f'{path}: two files are named {name}; rename one')
    with records.opened(path, _MAX_FILE_BYTES) as file:
      files[name] = hashlib.file_digest(file, 'sha256').hexdigest()
    for where, row in _rows(path, columns):
      id_ = _checked(where, row, columns)
      if id_ in seen:
        raise ValueError(
          f'{where}: the id {id_!r} is that of {seen[id_]}; give each file once'
        )
      seen[id_] = where
      try:
        answer = task_of(row).to_json()
        tasks.CodeTask.from_json(answer)
      except (ValueError, RecursionError) as e:
        missing.append((id_, str(e)))
        continue
      question = fenced(row['prompt'])
      problems.append(values.Problem(questions.Row(id_, question, answer)))
  if not seen:
    raise ValueError(f'paths={paths!r}: there are no rows; name a file of some')
  return values.Loaded(tuple(problems), files, tuple(missing))


def fenced(prompt: str) -> str:
  """The beginning of a program, as a question shows it."""
  return f'```python\n{prompt.strip()}\n```'


def _checked(where: str, row: Any, columns: Sequence[str]) -> str:
  """The row's id; raises ValueError if a column is missing."""
  if not isinstance(row, dict):
    raise ValueError(f'{where}: expected a JSON object, got {row!r:.60}')
  lacking = [name for name in columns if name not in row]
  if lacking:
    raise ValueError(
      f'{where}: no field {", ".join(lacking)}; it has {", ".join(row):.200}; '
      f'expected {", ".join(columns)}'
    )
  for name in ('task_id', 'prompt', 'entry_point', 'canonical_solution'):
    if not isinstance(row[name], str):
      raise ValueError(f'{where}: {name} is no text: {row[name]!r:.60}')
  return row['task_id']


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
  with records.opened(path, _MAX_FILE_BYTES) as file:
    start = file.read(len(_PARQUET))
  if start == _PARQUET:
    yield from parquet_rows.read(path, any_case=(), exact=columns)[1]
    return
  with records.opened(path, _MAX_FILE_BYTES) as file:
    packed = start.startswith(_GZIP)
    yield from _lines(path, gzip.GzipFile(fileobj=file) if packed else file)


class _Bounded:
  """The lines of a file, which may unpack to a thousand times its size."""

  def __init__(self, file: IO[bytes]):
    self._file = file

  def readline(self, most: int) -> bytes:
    line = self._file.readline(most)
    if self._file.tell() > _MAX_BYTES:
      raise ValueError(
        f'{self._file.name}: more than {_MAX_BYTES:,} bytes unpacked; split it'
      )
    return line


def _lines(path: str, file: IO[bytes]) -> Iterator[tuple[str, Any]]:
  """Yields ('path:line', value) of the lines, with their numbers as numbers."""
  lines = records.parsed_lines(
    path, _Bounded(file), _MAX_LINE_BYTES, numbers=True
  )
  try:
    yield from lines
  except (EOFError, OSError, zlib.error) as e:
    raise ValueError(
      f'{path}: cannot be unpacked ({" ".join(str(e).split())[:200]}); is the '
      'download complete?'
    ) from e
