"""Reads rows of a Parquet file in a separate process.

A small file can unpack to any size, and its metadata may be false. So a child
with limited memory unpacks it, refuses data that are too large, and sends rows
as JSON. If it fails or dies, the caller gets one line.

    python -m acereason_jax.data.parquet_rows FILE IN_ANY_CASE... -- EXACT...
"""

import contextlib
import decimal
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TextIO

import numpy as np
import pyarrow
import pyarrow.parquet
from pyarrow import types as kinds

from acereason_jax import children, hub
from acereason_jax.data import records

# Unpacked size of the columns that are read; all their text is kept in memory.
MAX_BYTES = 4 << 30
MAX_ROWS = 10_000_000
# The child's address space, bytes: a batch, its text, and a page of a column.
MEMORY_BYTES = 3 << 30
_BATCH_BYTES = 64 << 20
_BATCH_ROWS = 256
_NAME = 'acereason_jax.data.parquet_rows'
_THEN = '--'


def read(
  path: str | os.PathLike, any_case: Collection[str], exact: Collection[str]
) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
  """(names of all columns, iterator of ('path:row', record)).

  A record has the columns whose name is in `exact` or, in lower case, in
  `any_case`. Numbers are text: float16 and float32 values with the digits that
  they need, decimals with all digits. Infinities and NaN stay numbers.

  Raises:
    ValueError: one line naming path, or path:row (from 1); the iterator too.
  """
  with records.opened(path):
    pass
  rows = _messages(path, [*any_case, _THEN, *exact])
  columns = next(rows)
  return columns, _numbered(path, rows)


def _numbered(
  path: str | os.PathLike, rows: Iterator[dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, row in enumerate(rows, 1):
    yield f'{path}:{number}', row


def _messages(path: str | os.PathLike, columns: Sequence[str]) -> Iterator:
  """Yields the list of all columns, then each row."""
  file = hub.local(path)
  with contextlib.ExitStack() as stack:
    said = stack.enter_context(tempfile.TemporaryFile())
    child = subprocess.Popen(
      [sys.executable, '-P', '-m', _NAME, os.fspath(file), *columns],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=said,
      # Arrow's other pools reserve more address space than they use.
      env=children.environment(ARROW_DEFAULT_MEMORY_POOL='system'),
      # Only the caller handles a Ctrl+C at the terminal.
      start_new_session=True,
    )
    stack.callback(_end, child)
    for line in child.stdout:
      match json.loads(line):
        case {'failed': str(reason)}:
          raise ValueError(f'{path}{reason}')
        case {'done': True}:
          return
        case {'value': value}:
          yield value
    status = child.wait()
    said.seek(0)
    last = said.read()[-4000:].decode(errors='replace')
  if status == 1:
    raise RuntimeError(f'the reader of {path} failed:\n{last}')
  how = f'exit status {status}'
  if status < 0:
    how = signal.Signals(-status).name
  raise ValueError(
    f'{path}: not readable as Parquet: its reader ended by {how}; is it '
    'damaged? Write it again'
  )


def _end(child: subprocess.Popen) -> None:
  child.kill()
  child.wait()
  child.stdout.close()


# The functions below run in the child.


class Refused(Exception):
  """The reason why a file is refused, after its name."""


def _send(
  path: str, any_case: Collection[str], exact: Collection[str], out: TextIO
) -> None:
  """Writes a JSON line for the columns, each row and the end."""
  row = 0
  try:
    with pyarrow.parquet.ParquetFile(
      path, pre_buffer=False, buffer_size=1 << 20
    ) as file:
      names = file.schema_arrow.names
      columns = [n for n in names if n in exact or n.lower() in any_case]
      _check_names(columns)
      _check_sizes(file, columns)
      _say(out, value=names)
      for batch in _batches(file, columns):
        for values in zip(*batch.columns):
          row += 1
          _say(out, value=dict(zip(columns, map(plain, values))))
    _say(out, done=True)
  except Refused as e:
    _say(out, failed=f':{row}{e}' if row else str(e))
  except (
    MemoryError,
    pyarrow.ArrowException,
    UnicodeDecodeError,
    OSError,
  ) as e:
    if isinstance(e, BrokenPipeError):
      raise
    reason = ' '.join(str(e).split())[:200]
    if isinstance(e, MemoryError):
      reason = f'it takes more than {MEMORY_BYTES:,} bytes of memory to unpack'
    _say(
      out,
      failed=f': not readable as Parquet after row {row} ({reason}); is it '
      'damaged, or of another kind? Write it again, in smaller row groups',
    )


def _say(out: TextIO, **message: Any) -> None:
  line = json.dumps(message, ensure_ascii=False)
  if len(line) > records.MAX_LINE_BYTES:
    raise Refused(
      f': longer than {records.MAX_LINE_BYTES:,} characters; shorten or remove '
      'the row'
    )
  out.write(line + '\n')


def _check_names(columns: Sequence[str]) -> None:
  """Refuses two columns of one name, because either could be meant."""
  for name in columns:
    if columns.count(name) > 1:
      raise Refused(f': has the column {name!r} twice; remove one of them')


def _check_sizes(
  file: pyarrow.parquet.ParquetFile, columns: Sequence[str]
) -> None:
  """Checks the metadata, then the pages, since a run may repeat a value."""
  about = file.metadata
  if about.num_rows > MAX_ROWS:
    raise Refused(
      f': {about.num_rows:,} rows, more than {MAX_ROWS:,}; split it'
    )
  _check_bytes(_stored_bytes(file, columns))
  rows = size = 0
  for batch in _batches(file, columns):
    rows += batch.num_rows
    size += sum(map(_spread_bytes, batch.columns))
    _check_bytes(size)
    if rows > MAX_ROWS:
      raise Refused(f': more than {MAX_ROWS:,} rows; split it')


def _spread_bytes(values: pyarrow.Array) -> int:
  """Bytes of an array's values; one that a dictionary shares counts again."""
  if kinds.is_dictionary(values.type):
    parts = values.indices.drop_null().value_counts()
    return sum(
      count.as_py() * values.dictionary.slice(index.as_py(), 1).nbytes
      for index, count in zip(*parts.flatten())
    )
  if kinds.is_struct(values.type):
    return sum(map(_spread_bytes, values.flatten()))
  if _is_list(values.type):
    return _spread_bytes(values.flatten())
  return values.nbytes


def _is_list(kind: pyarrow.DataType) -> bool:
  return (
    kinds.is_list(kind)
    or kinds.is_large_list(kind)
    or kinds.is_fixed_size_list(kind)
  )


def _check_bytes(size: int) -> None:
  if size > MAX_BYTES:
    raise Refused(
      f': unpacks to more than {MAX_BYTES:,} bytes in the columns that are '
      'read; split it'
    )


def _stored_bytes(
  file: pyarrow.parquet.ParquetFile, columns: Sequence[str]
) -> int:
  about = file.metadata
  chosen = [
    i
    for i in range(about.num_columns)
    if about.schema.column(i).path.split('.')[0] in columns
  ]
  return sum(
    about.row_group(group).column(i).total_uncompressed_size
    for group in range(about.num_row_groups)
    for i in chosen
  )


def _batches(
  file: pyarrow.parquet.ParquetFile, columns: Sequence[str]
) -> Iterator[pyarrow.RecordBatch]:
  """Yields batches of a row group, each small according to the metadata."""
  if not columns:
    return
  row_bytes = _stored_bytes(file, columns) // max(file.metadata.num_rows, 1)
  rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (row_bytes + 1)))
  for group in range(file.metadata.num_row_groups):
    yield from file.iter_batches(
      rows, row_groups=[group], columns=list(columns), use_threads=False
    )


def plain(scalar: pyarrow.Scalar) -> Any:
  """None, a bool, a text, or lists and dicts of them; see `read`."""
  if not scalar.is_valid:
    return None
  kind = scalar.type
  if kinds.is_dictionary(kind):
    return plain(scalar.value)
  if isinstance(kind, pyarrow.ExtensionType):
    return plain(scalar.value)
  if kinds.is_struct(kind):
    return {name: plain(value) for name, value in scalar.items()}
  if _is_list(kind):
    return [plain(value) for value in scalar]
  value = scalar.as_py()
  if kinds.is_floating(kind):
    if not math.isfinite(value):
      return float(value)
    # Converts to text first: a short decimal gets many digits in 64 bits.
    return repr(float(str(np.dtype(kind.to_pandas_dtype()).type(value))))
  if isinstance(value, decimal.Decimal):
    return format(value, 'f')
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  if isinstance(value, bytes):
    # Some writers do not mark text as such.
    return value.decode()
  if isinstance(value, str | bool):
    return value
  # Such as a time, which has more than one spelling.
  raise Refused(
    f': holds a value of type {kind}; expected text or numbers: write it as '
    'text'
  )


def main(argv: Sequence[str]) -> None:
  path, *columns = argv
  end = columns.index(_THEN)
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  most = min(MEMORY_BYTES, hard) if hard >= 0 else MEMORY_BYTES
  resource.setrlimit(resource.RLIMIT_AS, (most, hard))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  with open(sys.stdout.fileno(), 'w', encoding='utf-8', closefd=False) as out:
    _send(path, columns[:end], columns[end + 1 :], out)


if __name__ == '__main__':
  with contextlib.suppress(BrokenPipeError):
    main(sys.argv[1:])
