"""Files of kept rollouts that no run wrote: one line, and bounded memory.

Bombs are read in children with little address space, which the honest files
of the same tests are read in too.
"""

import io
import math
import os
import struct
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax import parquet_pages
from acereason_jax.data import archive

MEMORY = 3 << 30
ROW = archive.Row(
  *(1, 'train', 'first', 'math', 'p', 0, 'right', 'detail', 1.0, True, 0.5),
  *(True, True, 5, 'stop', -1.0, 2.0, ''),
)
# Reads files in turn, with 250 MB more than it has; a line each: how many
# texts, or the error.
READER = """
import pathlib, re, resource, sys
import pyarrow
from acereason_jax.data import archive
pyarrow.set_memory_pool(pyarrow.system_memory_pool())
archive._MAX_UNPACKED = 50_000_000
status = pathlib.Path('/proc/self/status').read_text()
most = 1024 * int(re.search('VmSize: *([0-9]+)', status.replace('\\t', ' '))[1])
resource.setrlimit(resource.RLIMIT_AS, (most + 250_000_000,) * 2)
for name in sys.argv[1:]:
  try:
    found = archive.read_texts(open(name, 'rb').read())
    print('read', len(found))
  except ValueError as e:
    print('refused', e)
"""


def rows(count):
  return [
    ROW._replace(index=i, prompt=f'p{i % 7}', solved=bool(i % 2))
    for i in range(count)
  ]


def texts(count):
  source = np.random.default_rng(0)
  found = []
  for i in range(count):
    n = int(source.integers(0, 300))
    codes = source.integers(0, 256, n)
    more = None if i % 3 else codes
    tokens = source.integers(0, 150_000, n)
    found.append(
      archive.Text(
        *(f'p{i % 3}', i, 'question', 'answer', 'text é' * n, tokens),
        *(source.integers(0, 9, n), codes, more, more),
      )
    )
  return found


def bare(data):
  """The file without checksums and compression: damage comes further."""
  sink = io.BytesIO()
  table = pyarrow.parquet.read_table(io.BytesIO(data))
  options = dict(compression='none', write_statistics=False)
  pyarrow.parquet.write_table(table, sink, store_schema=False, **options)
  return sink.getvalue()


FILES = dict(
  rows=archive.rows_to_bytes(rows(500)), texts=archive.texts_to_bytes(texts(20))
)
DAMAGED = FILES | {f'bare {name}': bare(data) for name, data in FILES.items()}


def read(kind, data):
  return getattr(archive, f'read_{kind}')(data)


def test_rows_come_back():
  given = rows(500)
  table = archive.read_rows(FILES['rows'])
  assert table.schema == archive.ROWS
  assert [archive.Row(**row) for row in table.to_pylist()] == given
  some = archive.read_rows(FILES['rows'], ['status', 'step'])
  assert some.column_names == ['status', 'step'] and some.num_rows == 500
  odd = ROW._replace(prompt='\ud800', reward=math.nan)
  (found,) = archive.read_rows(archive.rows_to_bytes([odd])).to_pylist()
  assert found['prompt'] == '\\ud800' and math.isnan(found['reward'])


@pytest.mark.parametrize('wanted', [None, ['p1'], ['p0', 'p2', 'none'], []])
def test_texts_come_back(wanted):
  given = [t for t in texts(20) if wanted is None or t.prompt in wanted]
  found = archive.read_texts(FILES['texts'], wanted)
  assert len(found) == len(given)
  for a, b in zip(given, found):
    for name, x, y in zip(archive.Text._fields, a, b):
      assert (x is None) == (y is None), name
      assert x is None or np.array_equal(x, y), name
    assert b.tokens.dtype == np.int32 and b.characters.dtype == np.uint16


def test_texts_in_groups_of_rows():
  source = pyarrow.parquet.read_table(io.BytesIO(FILES['texts']))
  sink = io.BytesIO()
  pyarrow.parquet.write_table(
    source, sink, row_group_size=3, store_schema=False, write_statistics=False
  )
  for wanted in (None, ['p2']):
    found = archive.read_texts(sink.getvalue(), wanted)
    given = archive.read_texts(FILES['texts'], wanted)
    assert [(t.index, t.text) for t in found] == [
      (t.index, t.text) for t in given
    ]


def test_no_rollouts_are_a_file_too():
  assert archive.read_texts(archive.texts_to_bytes([])) == []
  table = archive.read_rows(archive.rows_to_bytes([]), ['step'])
  assert table.num_rows == 0 and table.column_names == ['step']


WRITTEN = dict(compression='zstd', store_schema=False, write_statistics=False)


def written(schema=archive.WHOLE, count=1, **columns):
  """A file of texts in which some columns are others."""
  plain = dict(prompt=['p'], index=[0], question=['q'], answer=['a'])
  plain |= dict(text=['t'], tokens=[b'1234'], characters=[b'12'])
  plain |= dict(surprise=[b'1'], entropy=[b'1'], mismatch=[b'1'])
  options = columns.pop('options', {})
  arrays, fields = [], []
  for field in schema:
    made = columns.get(field.name)
    if made is None:
      value = pyarrow.array(plain[field.name], field.type)
      made = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(count, np.int32)), value
      )
      if field.name == 'index':
        made = made.dictionary_decode()
    arrays.append(made)
    fields.append(field.with_type(made.type))
  sink = io.BytesIO()
  pyarrow.parquet.write_table(
    pyarrow.table(arrays, pyarrow.schema(fields)),
    sink,
    **WRITTEN | options,
  )
  return sink.getvalue()


def repeated(value, count):
  codes = pyarrow.array(np.zeros(count, np.int32))
  return pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array([value]))


def test_a_file_of_another_writer_is_read():
  (found,) = archive.read_texts(written())
  assert found.text == 't' and found.tokens.tobytes() == b'1234'
  assert len(archive.read_texts(written(count=5))) == 5


def test_text_that_is_repeated_in_many_rows():
  count = 100_000
  data = written(count=count, text=repeated('x' * 100_000, count))
  assert len(data) < 10_000
  with pytest.raises(ValueError, match='bytes unpacked: at most'):
    archive.read_texts(data)
  # Rows that are not wanted take nothing.
  assert archive.read_texts(data, ['other']) == []
  data = written(count=count, prompt=repeated('p' * 100_000, count))
  assert archive.read_texts(data, ['p']) == []


def test_rows_that_are_too_many(monkeypatch):
  count = archive._MAX_TEXTS + 1
  with pytest.raises(ValueError, match=f'{count:,} rows in 1 groups: at most'):
    archive.read_texts(written(count=count))
  monkeypatch.setattr(archive, 'MAX_ROWS', 499)
  with pytest.raises(ValueError, match='500 rows in 1 groups: at most 499'):
    archive.read_rows(FILES['rows'])
  monkeypatch.setattr(parquet_pages, '_MOST_GROUPS', 1)
  data = written(count=4, options=dict(row_group_size=2))
  with pytest.raises(ValueError, match='4 rows in 2 groups'):
    archive.read_texts(data)


@pytest.mark.parametrize(
  'encoding', ['DELTA_BYTE_ARRAY', 'DELTA_LENGTH_BYTE_ARRAY']
)
def test_text_that_repeats_the_text_before(encoding):
  same = pyarrow.array([f'{"x" * 1000}{i}' for i in range(1000)])
  options = dict(use_dictionary=False, column_encoding={'text': encoding})
  data = written(count=1000, text=same, options=options)
  with pytest.raises(ValueError, match='a kind that no run writes'):
    archive.read_texts(data)
  with pytest.raises(ValueError, match='a kind that no run writes'):
    archive.read_texts(written(options=dict(data_page_version='2.0')))


def test_a_page_that_unpacks_to_more(monkeypatch):
  big = pyarrow.array(['x' * 3_000_000])
  data = written(text=big, options=dict(use_dictionary=False))
  assert len(data) < 10_000 and len(archive.read_texts(data)) == 1
  monkeypatch.setattr(archive, '_MAX_UNPACKED', 2_000_000)
  with pytest.raises(ValueError, match='more than 2,000,000 bytes unpacked'):
    archive.read_texts(data)


def test_pages_are_counted_as_a_library_reads_them():
  """A writer's own sum has the headers too, of some ten bytes a page."""
  for data in FILES.values():
    head = pyarrow.parquet.read_metadata(io.BytesIO(data))
    group = head.row_group(0)
    columns = [group.column(i) for i in range(head.num_columns)]
    promised = sum(c.total_uncompressed_size for c in columns)
    parquet_pages.check(data, head.num_rows, promised)
    least = promised - 100 * len(columns)
    with pytest.raises(ValueError, match='bytes unpacked'):
      parquet_pages.check(data, head.num_rows, least)


def test_other_columns():
  table = pyarrow.table(dict(a=[1], b=['x']))
  sink = io.BytesIO()
  pyarrow.parquet.write_table(table, sink, store_schema=False)
  nested = written(tokens=pyarrow.array([[1, 2]]))
  for data in (sink.getvalue(), nested):
    for kind in FILES:
      with pytest.raises(ValueError, match='its columns are not'):
        read(kind, data)
  for kind, other in (('rows', 'texts'), ('texts', 'rows')):
    with pytest.raises(ValueError, match='its columns are not'):
      read(kind, FILES[other])
  named = written(options=dict(store_schema=True))
  with pytest.raises(ValueError, match='metadata, which no run writes'):
    archive.read_texts(named)
  wrong = written(index=pyarrow.array([0], pyarrow.int64()))
  with pytest.raises(ValueError, match='its columns are not'):
    archive.read_texts(wrong)


@pytest.mark.parametrize('size', [1, 2, 3, 5, 8])
def test_tokens_of_another_count(size):
  tokens = pyarrow.array([b'x' * size])
  with pytest.raises(ValueError, match='differ in count'):
    archive.read_texts(written(tokens=tokens))


def test_text_that_is_no_utf8():
  bad = pyarrow.array([b'\xff\xfe']).view(pyarrow.string())
  with pytest.raises(ValueError, match='no readable file'):
    archive.read_texts(written(text=bad))


def varint(number):
  out = b''
  while number > 127:
    out += bytes([number & 127 | 128])
    number >>= 7
  return out + bytes([number])


@pytest.mark.parametrize('depth', [1, 50, 1000, 100_000])
def test_types_inside_types(depth):
  """A footer by hand: a root, and groups that each hold the next."""
  group = b'\x35\x02' + b'\x18\x01s' + b'\x15\x02'
  leaf = b'\x15\x02' + b'\x25\x02' + b'\x18\x01x'
  schema = (group + b'\0') * depth + leaf + b'\0'
  count = depth + 1
  head = bytes([count << 4 | 12]) if count < 15 else b'\xfc' + varint(count)
  meta = b'\x15\x02\x19' + head + schema + b'\x16\x00\x19\x0c\x00'
  data = b'PAR1' + meta + struct.pack('<I', len(meta)) + b'PAR1'
  for kind in FILES:
    with pytest.raises(ValueError):
      read(kind, data)


def damaged(data, source):
  """The file with some bytes changed, cut out, doubled or exchanged."""
  data = bytearray(data)
  # Half of the time the metadata, at the end.
  low = 0 if source.random() < 0.5 else max(0, len(data) - 1500)
  for _ in range(source.choice([1, 1, 2, 5, 20])):
    at = source.randrange(low, len(data))
    match source.randrange(6):
      case 0 | 1:
        data[at] = source.randrange(256)
      case 2:
        data[at] ^= 1 << source.randrange(8)
      case 3:
        data[at : at + 4] = source.choice([b'\xff' * 4, b'\x80' * 4, b'\0' * 4])
      case 4:
        del data[at : at + source.randrange(1, 9)]
      case 5:
        data[at:at] = data[at : at + source.randrange(1, 9)]
    low = min(low, max(0, len(data) - 2))
    if len(data) < 16:
      break
  return bytes(data)


FUZZ = """
import random, resource, sys
import pyarrow
pyarrow.set_memory_pool(pyarrow.system_memory_pool())
import test_archive_files as tests
resource.setrlimit(resource.RLIMIT_AS, (tests.MEMORY,) * 2)
kind, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
refused = 0
for i in range(count):
  data = tests.damaged(tests.DAMAGED[kind], random.Random(f'{seed} {i}'))
  print(i, flush=True)
  try:
    tests.read(kind.split()[-1], data)
  except ValueError as e:
    assert '\\n' not in str(e) and len(str(e)) < 400, e
    refused += 1
assert refused > count / 4, refused
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print('done', refused, peak)
"""


def child(code, *arguments):
  paths = [os.path.dirname(__file__), *sys.path]
  return subprocess.run(
    [sys.executable, '-c', code, *map(str, arguments)],
    capture_output=True,
    text=True,
    timeout=170,
    env=os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, paths))),
  )


@pytest.mark.parametrize('kind', DAMAGED)
def test_files_with_damaged_bytes(kind):
  done = child(FUZZ, kind, 0, 500)
  assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_bombs_within_a_small_memory(tmp_path):
  count, size = 200_000, 100_000_000
  zeros = pyarrow.array(np.zeros(2_000_000, np.int32))
  ends = pyarrow.array([0, len(zeros)], pyarrow.int32())
  files = dict(
    honest=FILES['texts'],
    repeated=written(count=count, text=repeated('x' * 1_000_000, count)),
    lists=written(tokens=pyarrow.ListArray.from_arrays(ends, zeros)),
    page=written(
      text=pyarrow.array(['x' * size]),
      answer=pyarrow.array(['x' * size]),
      options=dict(use_dictionary=False),
    ),
  )
  for name, data in files.items():
    (tmp_path / name).write_bytes(data)
    assert name == 'honest' or len(data) < 50_000
  paths = [str(tmp_path / name) for name in files]
  done = child(READER, *paths)
  assert done.returncode == 0, done.stderr[-2000:]
  honest, *others = done.stdout.splitlines()
  assert honest == 'read 20'
  assert len(others) == 3
  for line in others:
    assert line.startswith('refused') and 'alloc' not in line


def test_metadata_that_thrift_might_read_otherwise():
  """A number that it would cut, fields whose number it would wrap, ..."""
  good = bytes.fromhex('1502150415062c150015000000')
  assert parquet_pages._struct(good, 0, {})[0] == {
    (1, 5): 1,
    (2, 5): 2,
    (3, 5): 3,
    (5, 12): {(1, 5): 0, (2, 5): 0},
  }
  for bad in (
    '15ffffffff1f00',  # 33 bits as 32.
    '16ffffffffffffffffff0300',  # 65 bits as 64.
    '05feff0715020000',  # Field 65,535.
    '05010000',  # Field -1.
    '1000',  # An end with a number.
    '18ffffffff0f00',  # A size that would be negative.
    '1b0000',  # A map.
    '1a1500',  # A set.
    '1915000000',  # A list that no run writes.
    '150005020000',  # Field 1 twice.
    '15',  # Cut off.
    '1c' * 20 + '00' * 21,  # Structs inside structs.
  ):
    with pytest.raises((KeyError, IndexError)):
      parquet_pages._struct(bytes.fromhex(bad), 0, {})


def test_a_page_that_metadata_promise_smaller():
  """Its column says 60 bytes unpacked, its header three million."""
  big = pyarrow.array(['x' * 3_000_000])
  data = written(text=big, options=dict(use_dictionary=False))
  column = (
    pyarrow.parquet.read_metadata(io.BytesIO(data)).row_group(0).column(4)
  )
  size = column.total_uncompressed_size
  true, false = varint(2 * size), varint(120)
  # A varint may have zeros at its end, so its length stays.
  false = bytes([false[0] | 128]) + b'\x80' * (len(true) - 2) + b'\0'
  at = data.rindex(true)
  lying = data[:at] + false + data[at + len(true) :]
  about = pyarrow.parquet.read_metadata(io.BytesIO(lying)).row_group(0)
  assert about.column(4).total_uncompressed_size == 60
  with pytest.raises(ValueError, match='more than 2,000,000 bytes unpacked'):
    parquet_pages.check(lying, 1, 2_000_000)
