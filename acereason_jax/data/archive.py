"""The rollouts of a run, in files of Parquet: their columns, bytes and names.

    rollouts/00000017.parquet          a row for each rollout of step 17
    rollouts/00000017-heldout.parquet  held-out answers after step 17
    rollouts/00000000-before.parquet   those before the first step
    rollouts/00000017-probe.parquet    answers of probes between steps 17 and 18
    rollouts/texts/...                 texts and tokens of sampled groups

Files of rows are small and stay; files of texts, which have the same names, may
be removed. Equal rows give equal bytes. The files may be a stranger's: sizes
are checked before anything is unpacked.

Numbers of a token are one byte on a scale of logarithms: small values, which
most are, keep two digits.
"""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from acereason_jax import parquet_pages

FOLDER = 'rollouts'
TEXTS = 'texts'
PHASES = 'train', 'heldout', 'before', 'probe'
TRAIN, HELDOUT, BEFORE, PROBE = PHASES
# Why a group's texts are kept: the first of these that holds.
REASONS = (
  *('first_solved', 'failed', 'truncated', 'wrong', 'mixed', 'drawn'),
  'heldout',
)
DETAIL_CHARS = 300
MAX_FILE_BYTES = 1 << 30
_MAX_UNPACKED = 2 << 30
# So many bytes of texts and numbers may a run put into a file: readers, whose
# limits are above, then take it.
MOST_TEXT_BYTES = 1_000_000_000
MAX_ROWS = 1 << 22
# Each becomes objects of Python.
_MAX_TEXTS = 1 << 18
_NAME = re.compile(r'([0-9]{8,18})(?:-(heldout|before|probe))?\.parquet')


class Scale(NamedTuple):
  """Codes 0 to 255 of values from 0 to `most`, even in log1p(value / unit).

  unit: below it codes are even in the value itself.
  most: larger values have the code of this one.
  """

  unit: float
  most: float

  def codes(self, values: np.ndarray) -> np.ndarray:
    """uint8, of the values' shape; 0 for values that are not above 0."""
    top = math.log1p(self.most / self.unit)
    kept = np.clip(np.nan_to_num(values), 0.0, self.most)
    return np.round(255 * np.log1p(kept / self.unit) / top).astype(np.uint8)

  def values(self, codes: np.ndarray) -> np.ndarray:
    """float64 in the middle of each code's bin; exactly 0 for code 0."""
    top = math.log1p(self.most / self.unit)
    return self.unit * np.expm1(np.asarray(codes) * (top / 255))


# Nats: -logp of the sampler, the trainer's entropy, |trainer - sampler|.
SURPRISE = Scale(1e-3, 50.0)
ENTROPY = Scale(1e-3, 15.0)
MISMATCH = Scale(1e-7, 10.0)


class Row(NamedTuple):
  """A rollout; all fields except the last come without its text.

  step: number of steps done with it: 17 for the batch of step 17.
  phase: one of PHASES.
  stage: name of the stage; '' before the first.
  domain: name of the prompt's domain.
  prompt: the prompt's id.
  index: index among the prompt's rollouts.
  status: the judge's status.
  detail: its reason, cut.
  reward: reward that trains; nan where the judge failed.
  solved: whether the judge's status is right and the reward is above 0.
  advantage: advantage; nan if the group is not in the batch.
  counted: whether its tokens are in the loss's average (not masked, judged).
  trained: whether it has a gradient.
  length: tokens of the response.
  stop: 'stop', 'length' or 'error'.
  logp: sum of the sampler's logp, nats.
  entropy: sum of the sampler's entropies, nats.
  kept: why its text is kept, one of REASONS; '' if it is not.
  """

  step: int
  phase: str
  stage: str
  domain: str
  prompt: str
  index: int
  status: str
  detail: str
  reward: float
  solved: bool
  advantage: float
  counted: bool
  trained: bool
  length: int
  stop: str
  logp: float
  entropy: float
  kept: str


class Text(NamedTuple):
  """A rollout of a sampled group, whole.

  prompt, index: which rollout.
  question: the bare problem.
  answer: its reference answer or, for code, its task, as the judge gets it.
  text: the response.
  tokens: ids, int32 [R].
  characters: characters of `text` that each token adds, uint16 [R]; they add up
    to len(text) at most. The rest of the text has no token.
  surprise: codes of SURPRISE for -logp of the sampler, uint8 [R].
  entropy: codes of ENTROPY for the trainer's entropy, uint8 [R]; None if the
    rollout was not trained on.
  mismatch: codes of MISMATCH for |trainer's logp - sampler's logp|; likewise.
  """

  prompt: str
  index: int
  question: str
  answer: str
  text: str
  tokens: np.ndarray
  characters: np.ndarray
  surprise: np.ndarray
  entropy: np.ndarray | None
  mismatch: np.ndarray | None


class Place(NamedTuple):
  """The name of a file, in the order of a run.

  step: see `Row`.
  phase: see `Row`.
  """

  step: int
  phase: str

  @property
  def name(self) -> str:
    suffix = '' if self.phase == TRAIN else f'-{self.phase}'
    return f'{self.step:08d}{suffix}.parquet'


def place(name: str) -> Place | None:
  """The place of a file's name; None if it is another file's."""
  if (match := _NAME.fullmatch(name)) is None:
    return None
  return Place(int(match[1]), match[2] or TRAIN)


_CODED = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
_ROW_TYPES = dict(
  step=pyarrow.int32(),
  index=pyarrow.int32(),
  detail=_CODED,
  reward=pyarrow.float32(),
  solved=pyarrow.bool_(),
  advantage=pyarrow.float32(),
  counted=pyarrow.bool_(),
  trained=pyarrow.bool_(),
  length=pyarrow.int32(),
  logp=pyarrow.float32(),
  entropy=pyarrow.float32(),
)
ROWS = pyarrow.schema(
  [
    pyarrow.field(name, _ROW_TYPES.get(name, _CODED), nullable=False)
    for name in Row._fields
  ]
)
WHOLE = pyarrow.schema(
  [
    pyarrow.field('prompt', pyarrow.string(), nullable=False),
    pyarrow.field('index', pyarrow.int32(), nullable=False),
    pyarrow.field('question', pyarrow.string(), nullable=False),
    pyarrow.field('answer', pyarrow.string(), nullable=False),
    pyarrow.field('text', pyarrow.string(), nullable=False),
    # Not a list: a small file could hold one of any length.
    pyarrow.field('tokens', pyarrow.binary(), nullable=False),
    pyarrow.field('characters', pyarrow.binary(), nullable=False),
    pyarrow.field('surprise', pyarrow.binary(), nullable=False),
    pyarrow.field('entropy', pyarrow.binary()),
    pyarrow.field('mismatch', pyarrow.binary()),
  ]
)


def rows_to_bytes(rows: Iterable[Row]) -> bytes:
  """A file of rows."""
  columns = list(zip(*rows)) or [()] * len(Row._fields)
  data = dict(zip(Row._fields, columns))
  for name in ('prompt', 'stage', 'domain', 'detail'):
    data[name] = [safe(text) for text in data[name]]
  arrays = [
    pyarrow.array(data[f.name], f.type.value_type).dictionary_encode()
    if f.type == _CODED
    else pyarrow.array(data[f.name], f.type)
    for f in ROWS
  ]
  coded = [f.name for f in ROWS if f.type == _CODED]
  return _to_bytes(pyarrow.table(arrays, ROWS), coded)


def texts_to_bytes(texts: Sequence[Text]) -> bytes:
  """A file of texts."""
  raw = lambda x, dtype: None if x is None else np.asarray(x, dtype).tobytes()
  columns = dict(
    prompt=[safe(t.prompt) for t in texts],
    index=[t.index for t in texts],
    question=[safe(t.question) for t in texts],
    answer=[safe(t.answer) for t in texts],
    text=[safe(t.text) for t in texts],
    tokens=[raw(t.tokens, '<i4') for t in texts],
    characters=[raw(t.characters, '<u2') for t in texts],
    surprise=[raw(t.surprise, np.uint8) for t in texts],
    entropy=[raw(t.entropy, np.uint8) for t in texts],
    mismatch=[raw(t.mismatch, np.uint8) for t in texts],
  )
  arrays = [pyarrow.array(columns[f.name], f.type) for f in WHOLE]
  repeated = ['prompt', 'question', 'answer']
  return _to_bytes(pyarrow.table(arrays, WHOLE), repeated)


def safe(text: str) -> str:
  """The text with lone surrogates, which no file can hold, escaped."""
  return text.encode(errors='backslashreplace').decode()


def read_rows(data: bytes, columns: Sequence[str] | None = None) -> Any:
  """A pyarrow.Table of `columns` (None: all) of a file of rows.

  Texts stay codes. Raises ValueError, one line, for any other bytes.
  """
  coded = [f.name for f in ROWS if f.type == _CODED]
  return _read(data, ROWS, coded, MAX_ROWS, columns)


def read_texts(
  data: bytes, wanted: Collection[str] | None = None
) -> list[Text]:
  """The texts of a file, or only those of the prompts in `wanted`.

  Raises ValueError, one line, for any other bytes.
  """
  # Texts are codes until it is known how much they take: a small file can
  # repeat a long text in many rows.
  coded = [f.name for f in WHOLE if f.type != pyarrow.int32()]
  table = _read(data, WHOLE, coded, _MAX_TEXTS, None)
  if wanted is not None:
    table = table.filter(_is_among(table['prompt'], wanted))
  if not table.num_rows:
    return []
  unpacked = sum(_spread_bytes(table[name]) for name in coded)
  if unpacked > _MAX_UNPACKED:
    raise ValueError(f'{unpacked:,} bytes unpacked: at most {_MAX_UNPACKED:,}')
  return list(map(_text, table.to_pylist()))


def _text(row: dict[str, Any]) -> Text:
  """Raises ValueError if counts differ."""
  count, rest = divmod(len(row['tokens']), 4)
  sizes = dict(characters=2 * count, surprise=count)
  sizes |= {n: count for n in ('entropy', 'mismatch') if row[n] is not None}
  if rest or any(len(row[name]) != size for name, size in sizes.items()):
    raise ValueError('a text whose tokens and numbers differ in count')
  return Text(
    row['prompt'],
    row['index'],
    row['question'],
    row['answer'],
    row['text'],
    np.frombuffer(row['tokens'], '<i4'),
    np.frombuffer(row['characters'], '<u2'),
    *(_codes(row[n]) for n in ('surprise', 'entropy', 'mismatch')),
  )


def _is_among(column: Any, wanted: Collection[str]) -> pyarrow.Array:
  """Whether each text of a column is wanted; the texts stay codes."""
  ids = pyarrow.array(sorted(map(safe, wanted)), pyarrow.string())
  found = [np.zeros(0, bool)]
  for part in column.chunks:
    known = pyarrow.compute.is_in(part.dictionary, ids).to_numpy(False)
    found.append(known[part.indices.to_numpy()])
  return pyarrow.array(np.concatenate(found))


def _spread_bytes(column: Any) -> int:
  """Bytes of all texts of a column, each as often as it is repeated."""
  size = 0
  for part in column.chunks:
    lengths = pyarrow.compute.binary_length(part.dictionary).to_numpy(False)
    codes = part.indices.drop_null().to_numpy()
    size += int(lengths.astype(np.int64)[codes].sum())
  return size


def _codes(data: bytes | None) -> np.ndarray | None:
  return None if data is None else np.frombuffer(data, np.uint8)


def _to_bytes(table: Any, coded: Sequence[str]) -> bytes:
  sink = pyarrow.BufferOutputStream()
  pyarrow.parquet.write_table(
    table,
    sink,
    compression='zstd',
    compression_level=3,
    use_dictionary=list(coded),
    write_statistics=False,
    write_page_checksum=True,
    store_schema=False,
  )
  return sink.getvalue().to_pybytes()


def _read(
  data: bytes,
  schema: Any,
  coded: Sequence[str],
  max_rows: int,
  columns: Sequence[str] | None,
) -> Any:
  """The table of a file, with the columns `coded` as dictionaries."""
  if len(data) > MAX_FILE_BYTES:
    raise ValueError(f'{len(data):,} bytes: at most {MAX_FILE_BYTES:,}')
  try:
    count = parquet_pages.check(data, max_rows, _MAX_UNPACKED)
  except ValueError as e:
    raise ValueError(f'no readable file of rollouts: {e}') from None
  try:
    source = pyarrow.BufferReader(data)
    head = pyarrow.parquet.read_metadata(source)
    _check_head(head, schema)
    if not count:
      # Its columns have no pages; none is looked at.
      return schema.empty_table().select(columns or schema.names)
    with pyarrow.parquet.ParquetFile(
      source,
      metadata=head,
      read_dictionary=coded,
      page_checksum_verification=True,
    ) as file:
      found = map(_uncoded, file.schema_arrow)
      if list(found) != list(map(_uncoded, schema)):
        raise ValueError(f'its columns are not {", ".join(schema.names)}')
      table = file.read(columns, use_threads=False)
      # Codes may stand for no entry, and texts be no UTF-8.
      table.validate(full=True)
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
    reason = ' '.join(str(e).split())
    raise ValueError(f'no readable file of rollouts ({reason:.200})') from e
  if table.num_rows != count:
    raise ValueError(f'{table.num_rows:,} rows, not {count:,}')
  return table


def _uncoded(field: Any) -> Any:
  """The field with the type that its codes stand for."""
  coded = pyarrow.types.is_dictionary(field.type)
  return field.with_type(field.type.value_type) if coded else field


def _check_head(head: Any, schema: Any) -> None:
  """Raises ValueError, one line, for metadata that no run writes."""
  if head.metadata:
    # They may name types that a reader would then build.
    raise ValueError('it has metadata, which no run writes')
  names = [head.schema.column(i).path for i in range(head.num_columns)]
  if names != schema.names:
    raise ValueError(f'its columns are not {", ".join(schema.names)}')
