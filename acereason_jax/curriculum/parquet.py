"""A ledger as bytes of a Parquet file, and back.

The bytes come from checkpoints and files of strangers: what they unpack to is
checked first. Equal ledgers give equal bytes.
"""

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from acereason_jax import parquet_pages
from acereason_jax.curriculum import ledger as ledger_lib

MAX_BYTES = 1 << 30
_CODED = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
_SCHEMA = pyarrow.schema(
  [
    pyarrow.field(name, ledger_lib.WIDTHS.get(name, _CODED), nullable=False)
    for name in ledger_lib.Record._fields
  ]
)


def to_bytes(ledger: ledger_lib.Ledger) -> bytes:
  """A Parquet file with a column for each field of a record.

  A record takes about 9 bytes: 5.5 MB for 640,000 of 49,000 prompts whose ids
  are 16 hexadecimal digits, with 16 rollouts each of thousands of tokens.
  """
  fields = ledger_lib.Record._fields
  texts = dict(kind=ledger_lib.KINDS)
  texts |= {name: ledger.texts(name) for name in ledger_lib.TEXTS}
  columns = {n: np.ascontiguousarray(ledger.rows[n]) for n in fields}
  for name, known in texts.items():
    columns[name] = pyarrow.DictionaryArray.from_arrays(
      columns[name], pyarrow.array(known, 'string')
    )
  sink = pyarrow.BufferOutputStream()
  pyarrow.parquet.write_table(
    pyarrow.table(columns, _SCHEMA),
    sink,
    compression='zstd',
    use_dictionary=list(texts),
    column_encoding=dict.fromkeys(ledger_lib.NUMBERS, 'DELTA_BINARY_PACKED'),
    write_statistics=False,
    write_page_checksum=True,
    # Nothing but the columns: see `_read_columns`.
    store_schema=False,
  )
  return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> ledger_lib.Ledger:
  """The ledger that `to_bytes` wrote; `data` may be anybody's.

  Raises:
    ValueError: one line saying what it is instead.
  """
  if len(data) > MAX_BYTES:
    raise ValueError(f'{len(data):,} bytes: a ledger has {MAX_BYTES:,}')
  try:
    columns = _read_columns(data)
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
    reason = ' '.join(str(e).split())
    raise ValueError(f'no readable ledger ({reason:.200})') from e
  count = len(columns['kind'])
  rows, texts = np.zeros(count, ledger_lib.ROW), {}
  for name, column in columns.items():
    if name in ledger_lib.NUMBERS:
      rows[name] = column.to_numpy()
    else:
      rows[name], texts[name] = _by_appearance(column)
  kinds = list(texts.pop('kind'))
  if wrong := [kind for kind in kinds if kind not in ledger_lib.KINDS]:
    raise ValueError(f'kinds {wrong[:2]!r:.60}: expected {ledger_lib.KINDS}')
  codes = np.array([ledger_lib.KINDS.index(kind) for kind in kinds], np.int32)
  rows['kind'] = codes[rows['kind']]
  return ledger_lib.from_columns(rows, texts)


def is_ledger(data: bytes) -> bool:
  """Whether `from_bytes` reads it."""
  try:
    from_bytes(data)
  except ValueError:
    return False
  return True


def _read_columns(data: bytes) -> dict[str, pyarrow.ChunkedArray]:
  """The columns of a file whose pages were checked first.

  Texts stay codes: otherwise a long text that the file repeats in many rows
  would fill the memory.
  """
  try:
    count = parquet_pages.check(data, ledger_lib.MAX_RECORDS, MAX_BYTES)
  except ValueError as e:
    raise ValueError(f'no readable ledger: {e}') from None
  source = pyarrow.BufferReader(data)
  head = pyarrow.parquet.read_metadata(source)
  expected = (
    f'no ledger: expected the columns {", ".join(_SCHEMA.names)} as '
    'acereason_jax.ledger writes them'
  )
  names = [head.schema.column(i).path for i in range(head.num_columns)]
  # Metadata next to the columns may name types that a reader would then build.
  if head.metadata or names != _SCHEMA.names:
    raise ValueError(expected)
  with pyarrow.parquet.ParquetFile(
    source,
    metadata=head,
    read_dictionary=[n for n in _SCHEMA.names if n not in ledger_lib.NUMBERS],
    page_checksum_verification=True,
  ) as file:
    if file.schema_arrow != _SCHEMA:
      raise ValueError(expected)
    # Where the columns are was checked only if they have rows.
    table = file.read(use_threads=False) if count else _SCHEMA.empty_table()
  table.validate(full=True)
  if table.num_rows != count:
    raise ValueError(f'{table.num_rows:,} records, not {count:,}')
  return dict(zip(table.column_names, table.columns))


def _by_appearance(
  column: pyarrow.ChunkedArray,
) -> tuple[np.ndarray, dict[str, int]]:
  """(codes, {text: code}), where codes count up by first appearance."""
  texts: dict[str, int] = {}
  parts = [np.zeros(0, np.int32)]
  for chunk in column.chunks:
    local = chunk.indices.to_numpy()
    used, firsts = np.unique(local, return_index=True)
    used = used[np.argsort(firsts)]
    # No entry becomes an object before it is known to be short and used.
    known = chunk.dictionary.take(pyarrow.array(used))
    longest = pyarrow.compute.max(pyarrow.compute.utf8_length(known)).as_py()
    if (longest or 0) > ledger_lib.MAX_CHARS:
      raise ValueError(
        f'a text of {longest:,} characters: expected at most '
        f'{ledger_lib.MAX_CHARS} characters'
      )
    code_of = np.zeros(len(chunk.dictionary), np.int32)
    code_of[used] = [
      texts.setdefault(text, len(texts)) for text in known.to_pylist()
    ]
    parts.append(code_of[local])
  return np.concatenate(parts), texts
