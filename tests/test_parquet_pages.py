"""Files of Parquet that would fill the memory: refused before they unpack.

They are made by hand, for both readers: of ledgers, and of kept rollouts. A
child with little address space and time reads them, and an honest one too.
"""

import io
import os
import struct
import subprocess
import sys

import forged_parquet as forged
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import test_archive_files
from forged_parquet import CODES, DELTA, PLAIN, TEXT, Column, Page

from acereason_jax import parquet_pages
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import parquet
from acereason_jax.data import archive
from acereason_jax.planning import questions

MOST = (1 << 31) - 1
GOOD = ledger_lib.Record(
  *('train', 's', 0, 1, 'math', 'p', 1, 3, 0, 0, 0, 0, 40, 10, 1)
)
LARGE_BLOCK = (1 << 32) - 128


def numbers(count, value, kind):
  return Column(kind, [Page(count, DELTA, forged.steady(count, value))])


def texts(count, *entries):
  dictionary = Page(len(entries), PLAIN, forged.plain(*entries), True)
  return Column(TEXT, [dictionary, Page(count, CODES, forged.same(count))])


def group(count=1, **columns):
  """GOOD, so many times, with some columns in another form."""
  found = {}
  for name, value in GOOD._asdict().items():
    kind = forged.INT64 if name == 'tokens' else forged.INT32
    found[name] = columns.get(name) or (
      texts(count, value.encode())
      if isinstance(value, str)
      else numbers(count, value, kind)
    )
  return found


def ledger(count=1, rows=None, group_rows=None, **columns):
  return forged.file([group(count, **columns)], rows, group_rows)


def one_block(count):
  """The number 1, so many times: a block of all of them, in 13 bytes."""
  head = forged.varint(LARGE_BLOCK) + forged.varint(1)
  return head + forged.varint(count) + forged.zigzag(1) + b'\0\0'


def bombs(name):
  """Columns of texts and of numbers whose pages promise too much."""
  zeros = forged.bomb(MOST)
  one = forged.same(1)
  return {
    'a page': {name: [Page(1, PLAIN, b'', frame=zeros, unpacked=MOST)]},
    'a dictionary': {
      name: [
        Page(1, PLAIN, b'', True, frame=zeros, unpacked=MOST),
        Page(1, CODES, one),
      ]
    },
    'a dictionary of many entries': {
      name: [Page(MOST, PLAIN, forged.plain(b'p'), True), Page(1, CODES, one)]
    },
    'many dictionaries': {
      name: [
        *[Page(1, PLAIN, b'', True, forged.bomb(1 << 26), 1 << 26)] * 40,
        Page(1, CODES, one),
      ]
    },
  }


def hostile_ledgers():
  """{what it is: the bytes}, each small."""
  found = {
    what: ledger(prompt=Column(TEXT, columns['prompt']))
    for what, columns in bombs('prompt').items()
  }
  count = 1 << 28
  run = Page(count, CODES, forged.same(count))
  blocks = [Page(count, DELTA, one_block(count))]
  entry = Page(1, PLAIN, forged.plain(b'p'), True)
  small, each = group(), {}
  for what, column, name in (
    ('a run of codes', Column(TEXT, [entry, run]), 'prompt'),
    ('a block of numbers', Column(forged.INT32, blocks), 'right'),
  ):
    found[what] = ledger(**{name: column})
    found[f'{what} of a group'] = ledger(
      rows=1, group_rows=count, **{name: column}
    )
    each[column.kind] = column
  each[forged.INT64] = each[forged.INT32]._replace(kind=forged.INT64)
  every = {name: each[column.kind] for name, column in small.items()}
  found['all columns of a group'] = forged.file([every], rows=1)
  found['entries that are numbers'] = ledger(
    right=Column(
      forged.INT32,
      [Page(MOST, PLAIN, bytes(4), True), Page(1, CODES, forged.same(1))],
    )
  )
  found['texts of many pages'] = ledger(
    150, prompt=Column(TEXT, [Page(1, PLAIN, b'', False, *large())] * 150)
  )
  found['values of a column'] = ledger(
    right=numbers(1, 1, forged.INT32)._replace(count=1 << 33)
  )
  found['rows of groups'] = forged.file([small] * 3, 1, 1 << 31)
  found['groups'] = forged.file([group(1 << 22)] * 3)
  found['groups without rows'] = forged.file([small] * 17, 1, 0)
  found['rows below 0'] = ledger(rows=-5)
  found['a schema'] = footer(900_000, 0)
  found['groups without columns'] = footer(0, 900_000)
  return found


def large():
  """A page of a text of 10 MB."""
  size = 10 << 20
  head = struct.pack('<I', size - 4)
  frame = pyarrow.compress(head + bytes(size - 4), 'zstd', asbytes=True)
  return frame, size


def footer(leaves, groups):
  """A file without columns: so many in its schema, and so many groups."""
  leaf = forged.thrift((1, forged.I32, 1), (4, forged.BINARY, b'x'))
  none = (1, forged.LIST, (forged.STRUCT, []))
  each = forged.thrift(none, (2, forged.I64, 0), (3, forged.I64, 0))
  schema = forged.schema(group()) + [leaf] * leaves
  head = forged.thrift(
    (1, forged.I32, 1),
    (2, forged.LIST, (forged.STRUCT, schema)),
    (3, forged.I64, 0),
    (4, forged.LIST, (forged.STRUCT, [each] * groups)),
  )
  return forged.ended(b'PAR1', head)


# Reads files in turn, with 250 MB and 60 seconds more than it has; a line each.
READER = """
import pathlib, re, resource, sys
import pyarrow
from acereason_jax.curriculum import parquet
from acereason_jax.data import archive
from acereason_jax.planning import questions
pyarrow.set_memory_pool(pyarrow.system_memory_pool())
parquet.MAX_BYTES = archive._MAX_UNPACKED = 50_000_000
read = dict(ledger=parquet.from_bytes, texts=archive.read_texts)[sys.argv[1]]
status = pathlib.Path('/proc/self/status').read_text()
most = 1024 * int(re.search('VmSize: *([0-9]+)', status.replace('\\t', ' '))[1])
resource.setrlimit(resource.RLIMIT_AS, (most + 250_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for name in sys.argv[2:]:
  try:
    print('read', len(read(open(name, 'rb').read())))
  except ValueError as e:
    print('refused', e)
"""


def refused_in_little_memory(kind, honest, files, folder):
  """Reads them in a child: an honest file first, which is read."""
  paths = [folder / 'honest']
  paths[0].write_bytes(honest)
  for i, data in enumerate(files.values()):
    assert len(data) < 8 << 20
    paths.append(folder / str(i))
    paths[-1].write_bytes(data)
  done = subprocess.run(
    [sys.executable, '-c', READER, kind, *map(str, paths)],
    capture_output=True,
    text=True,
    timeout=170,
    env=os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
  )
  assert done.returncode == 0, (done.stdout, done.stderr[-2000:])
  first, *lines = done.stdout.splitlines()
  assert first.startswith('read')
  assert len(lines) == len(files)
  for what, line in zip(files, lines):
    # Not because there was no memory for it.
    assert line.startswith('refused') and 'alloc' not in line, (what, line)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_ledgers_that_would_fill_the_memory(tmp_path):
  honest = ledger(20_000)
  assert list(parquet.from_bytes(honest)) == [GOOD] * 20_000
  refused_in_little_memory('ledger', honest, hostile_ledgers(), tmp_path)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_kept_texts_that_would_fill_the_memory(tmp_path):
  """The columns of a file of texts, which may be null, except one."""
  honest = test_archive_files.FILES['texts']
  files = {}
  for what, columns in bombs('text').items():
    plain = dict(prompt=b'p', question=b'q', answer=b'a')
    made = {name: texts(1, text) for name, text in plain.items()}
    made |= dict(text=Column(TEXT, columns['text']))
    made |= dict(index=numbers(1, 0, forged.INT32))
    for name in archive.WHOLE.names[5:]:
      made[name] = texts(1, b'1')
    files[what] = forged.file([{n: made[n] for n in archive.WHOLE.names}])
  refused_in_little_memory('texts', honest, files, tmp_path)


def checked(data):
  return parquet_pages.check(data, 1 << 23, 1 << 30)


@pytest.mark.parametrize('count', [1, 2, 128, 129, 130, 5000])
def test_values_are_counted(count):
  data = ledger(count)
  assert checked(data) == count
  assert parquet.from_bytes(data) == ledger_lib.Ledger([GOOD] * count)
  for wrong in (count - 1, count + 1):
    fewer = numbers(wrong, 1, forged.INT32)
    with pytest.raises(ValueError, match='values, its group'):
      checked(ledger(count, right=fewer))
    with pytest.raises(ValueError, match='values in its pages and promises'):
      checked(ledger(count, right=fewer._replace(count=count)))


def test_limits_are_the_largest_that_pass():
  data = ledger(200, prompt=texts(200, *[b'x%d' % i for i in range(300)]))
  unpacked = (
    sum(
      len(page.raw) for column in group(200).values() for page in column.pages
    )
    + sum(4 + len(b'x%d' % i) for i in range(300))
    - len(forged.plain(b'p'))
  )
  assert parquet_pages.check(data, 300, unpacked) == 200
  with pytest.raises(ValueError, match='bytes unpacked'):
    parquet_pages.check(data, 300, unpacked - 1)
  with pytest.raises(ValueError, match='a dictionary of more than 299'):
    parquet_pages.check(data, 299, unpacked)
  with pytest.raises(ValueError, match='200 rows in 1 groups: at most 199'):
    parquet_pages.check(data, 199, unpacked)


def test_a_list_of_another_type_than_thrift_reads():
  """A reader that believes the type would see the metadata inside a name.

  Thrift reads structs; bytes would end inside the first, where other metadata
  tell of one small file.
  """
  small = forged.file([group()])
  size = int.from_bytes(small[-8:-4], 'little')
  seen = small[-8 - size : -8]
  # From the number of rows on: the type of a list is told by its first byte.
  seen = seen[seen.index(b'\x16\x02\x19') :]
  leaves = forged.schema(group())
  inside = forged.thrift(
    (4, forged.BINARY, b'schema'),
    (5, forged.I32, len(GOOD)),
    (15, forged.BINARY, bytes(3) + seen),
  )
  assert inside.index(seen) == 16
  large = forged.thrift(
    (1, forged.LIST, (forged.STRUCT, [])),
    (2, forged.I64, 0),
    (3, forged.I64, 1 << 31),
  )
  for kind in (forged.STRUCT, 3):
    schema = bytes([0xF0 | kind, 16]) + inside + b''.join(leaves[1:])
    head = b'\x15\x02\x19' + schema + b'\x16' + forged.zigzag(1 << 31)
    head += b'\x19' + forged.encoded(forged.LIST, (forged.STRUCT, [large]))
    data = forged.ended(small[: -8 - size], head + b'\0')
    about = pyarrow.parquet.read_metadata(io.BytesIO(data))
    assert about.num_rows == 1 << 31
    with pytest.raises(ValueError):
      checked(data)


def test_a_field_that_is_there_twice():
  """Thrift would join both: the place of a dictionary stays from the first."""
  data = ledger()
  size = int.from_bytes(data[-8:-4], 'little')
  head = data[-8 - size : -8]
  assert checked(forged.ended(data[: -8 - size], head)) == 1
  # The number of rows once more, at the end.
  more = head[:-1] + bytes([forged.I64]) + forged.zigzag(3) + b'\x02\0'
  twice = forged.ended(data[: -8 - size], more)
  assert pyarrow.parquet.read_metadata(io.BytesIO(twice)).num_rows == 1
  with pytest.raises(ValueError, match='damaged'):
    checked(twice)


def test_a_page_after_the_end_of_a_column():
  """Of an old writer's files Arrow reads 100 bytes more than they promise."""
  after = Page(1, PLAIN, b'', frame=forged.bomb(1 << 20), unpacked=MOST)
  kept = numbers(1, 1, forged.INT32)
  old = b'parquet-mr version 1.2.8 (build x)'
  column = kept._replace(count=2, after=after.bytes())
  data = forged.file([group(solved=column)], 1, 1, created_by=old)
  with pytest.raises(ValueError, match='promises 2 values, its group 1'):
    checked(data)
  data = forged.file([group(2, solved=column)], created_by=old)
  with pytest.raises(ValueError, match=r'has 1 values .* and promises 2'):
    checked(data)


@pytest.mark.parametrize('size', [1, 7, 20])
def test_ledgers_of_several_groups(size):
  """Each group has all entries of a dictionary, as the writer leaves them."""
  records = [
    GOOD._replace(step=1 + i, prompt=f'p{i % 9}', right=i, wrong=20, solved=0)
    for i in range(20)
  ]
  table = pyarrow.parquet.read_table(
    io.BytesIO(parquet.to_bytes(ledger_lib.Ledger(records))),
    read_dictionary=['kind', *ledger_lib.TEXTS],
  )
  sink = io.BytesIO()
  pyarrow.parquet.write_table(
    table,
    sink,
    row_group_size=size,
    store_schema=False,
    use_dictionary=['kind', *ledger_lib.TEXTS],
    column_encoding=dict.fromkeys(ledger_lib.NUMBERS, 'DELTA_BINARY_PACKED'),
  )
  if size > 1:
    assert list(parquet.from_bytes(sink.getvalue())) == records
  else:
    with pytest.raises(ValueError, match='20 rows in 20 groups'):
      parquet.from_bytes(sink.getvalue())


def test_a_ledger_of_the_oldest_pyarrow():
  """Written by pyarrow 18.1."""
  folder = os.path.join(os.path.dirname(__file__), 'golden', 'ledger')
  with open(os.path.join(folder, 'pyarrow_18.parquet'), 'rb') as file:
    found = parquet.from_bytes(file.read())
  probe = GOOD._replace(kind='probe', step=0, prompt='π', stage='')
  assert list(found) == [probe, GOOD, GOOD._replace(step=2, tokens=30)]


def test_entries_that_no_row_uses_are_no_texts():
  """Nor are entries that are too long, in a file that is small."""
  many = texts(2, b'p', *[b'%07d' % i for i in range(1000)])
  found = parquet.from_bytes(ledger(2, prompt=many))
  assert found.texts('prompt') == ['p']
  long = texts(2, b'\0' * 5000, b'p')
  with pytest.raises(ValueError, match='text of 5,000 characters: expected at'):
    parquet.from_bytes(ledger(2, prompt=long))
  kinds = texts(2, b'other' * 100)
  with pytest.raises(ValueError, match=r'kinds ..other.*: expected') as e:
    parquet.from_bytes(ledger(2, kind=kinds))
  assert len(str(e.value)) < 200


def test_ledgers_of_many_pages():
  """As large as a run's: every page is read, and the limits are far."""
  source = np.random.default_rng(0)
  count = 300_000
  rows = np.zeros(count, ledger_lib.ROW)
  rows['step'] = 1 + np.arange(count) // 128
  rows['right'] = rows['solved'] = source.integers(0, 17, count)
  rows['wrong'] = 16 - rows['right']
  rows['longest'] = source.integers(1, 1 << 20, count)
  rows['tokens'] = 3 * rows['longest'].astype(np.int64)
  rows['prompt'] = np.arange(count) % 60_000
  names = dict(stage=['s'], domain=['math'])
  names |= dict(prompt=[source.bytes(8).hex() for _ in range(60_000)])
  known = {n: {t: i for i, t in enumerate(ts)} for n, ts in names.items()}
  given = ledger_lib.from_columns(rows, known)
  data = parquet.to_bytes(given)
  assert parquet_pages.check(data, count, len(data) * 2) == count
  assert parquet.from_bytes(data) == given


FUZZ = """
import random, resource, sys
import pyarrow
pyarrow.set_memory_pool(pyarrow.system_memory_pool())
import test_archive_files, test_parquet_pages as tests
from acereason_jax.curriculum import parquet
resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)
good, refused = tests.damageable(sys.argv[1]), 0
for i in range(int(sys.argv[2])):
  data = test_archive_files.damaged(good, random.Random(f'ledger {i}'))
  print(i, flush=True)
  try:
    parquet.from_bytes(data)
  except ValueError as e:
    assert '\\n' not in str(e) and len(str(e)) < 500, e
    refused += 1
assert refused > int(sys.argv[2]) / 4, refused
"""


def damageable(kind):
  """A ledger as it is written, or without checksums and compression."""
  records = [
    GOOD._replace(step=1 + i // 8, prompt=f'p{i % 90}', longest=10 + i % 30)
    for i in range(300)
  ]
  data = parquet.to_bytes(ledger_lib.Ledger(records))
  if kind == 'written':
    return data
  coded = ['kind', *ledger_lib.TEXTS]
  table = pyarrow.parquet.read_table(io.BytesIO(data), read_dictionary=coded)
  sink = io.BytesIO()
  pyarrow.parquet.write_table(
    table,
    sink,
    compression='none',
    write_statistics=False,
    store_schema=False,
    use_dictionary=coded,
    column_encoding=dict.fromkeys(ledger_lib.NUMBERS, 'DELTA_BINARY_PACKED'),
  )
  return sink.getvalue()


@pytest.mark.parametrize('kind', ['written', 'bare'])
def test_ledgers_with_damaged_bytes(kind):
  done = test_archive_files.child(FUZZ, kind, 500)
  assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])


def test_questions_are_not_counted_by_metadata_of_any_size(tmp_path):
  """Each byte of a column without metadata becomes two hundred."""
  path = tmp_path / 'rows.parquet'
  source = dict(path=str(path), fn='x')
  path.write_bytes(ledger(7))
  assert questions.count(source, {}).number == 7
  path.write_bytes(ledger(7, rows=-7))
  assert questions.count(source, {}).number == questions.UNKNOWN
  column = forged.thrift((2, forged.I64, 0))
  columns = (1, forged.LIST, (forged.STRUCT, [column] * 900_000))
  each = forged.thrift(columns, (2, forged.I64, 0), (3, forged.I64, 7))
  head = forged.thrift(
    (1, forged.I32, 1),
    (2, forged.LIST, (forged.STRUCT, forged.schema(group()))),
    (3, forged.I64, 7),
    (4, forged.LIST, (forged.STRUCT, [each] * 2)),
  )
  path.write_bytes(forged.ended(b'PAR1', head))
  assert questions.count(source, {}).number == questions.UNKNOWN
