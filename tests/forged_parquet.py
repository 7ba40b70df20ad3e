"""Files of Parquet made by hand, in which any number may be false.

`file` writes what it is told to, in Thrift's compact protocol. A page's bytes
are given as they unpack, or as a frame of zstd that unpacks to any size.
"""

import struct
from typing import NamedTuple

import pyarrow

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
INT32, INT64, TEXT = 1, 2, 6
PLAIN, DELTA, CODES = 0, 5, 8
_MARK, _UTF8, _ZSTD = b'PAR1', 0, 6
_BLOCK = 1 << 17


def varint(number: int) -> bytes:
  out = b''
  while number > 127:
    out += bytes([number & 127 | 128])
    number >>= 7
  return out + bytes([number])


def zigzag(number: int) -> bytes:
  return varint(number << 1 if number >= 0 else -2 * number - 1)


def thrift(*fields) -> bytes:
  """A struct of (number, type, value), in order of their numbers."""
  out, before = b'', 0
  for number, kind, value in fields:
    out += bytes([number - before << 4 | kind]) + encoded(kind, value)
    before = number
  return out + b'\0'


def encoded(kind, value) -> bytes:
  if kind in (I32, I64):
    return zigzag(value)
  if kind == BINARY:
    return varint(len(value)) + value
  if kind == LIST:
    of, items = value
    return b'%c%b%b' % (
      0xF0 | of,
      varint(len(items)),
      b''.join(encoded(of, item) for item in items),
    )
  return value


class Page(NamedTuple):
  """A page.

  count: number of values that its header promises.
  encoding: of its values.
  raw: its bytes, unpacked.
  dictionary: whether it is one.
  frame: its bytes, packed; empty: those of `raw`.
  unpacked: the size that its header promises; -1: that of `raw`.
  """

  count: int
  encoding: int
  raw: bytes
  dictionary: bool = False
  frame: bytes = b''
  unpacked: int = -1

  def bytes(self) -> bytes:
    body = self.frame or pyarrow.compress(self.raw, 'zstd', asbytes=True)
    about = [(1, I32, self.count), (2, I32, self.encoding)]
    if self.dictionary:
      number = 7
    else:
      number = 5
      about += [(3, I32, 3), (4, I32, 3)]
    header = thrift(
      (1, I32, 2 if self.dictionary else 0),
      (2, I32, len(self.raw) if self.unpacked < 0 else self.unpacked),
      (3, I32, len(body)),
      (number, STRUCT, thrift(*about)),
    )
    return header + body


class Column(NamedTuple):
  """A column in a group of rows.

  kind: INT32, INT64 or TEXT.
  pages: its pages, with the dictionary's first.
  count: values that its metadata promise; -1: those that its pages do.
  after: bytes that follow its pages and are not in its size.
  """

  kind: int
  pages: list[Page]
  count: int = -1
  after: bytes = b''

  def promised(self) -> int:
    if self.count >= 0:
      return self.count
    return sum(p.count for p in self.pages if not p.dictionary)


def file(groups, rows=None, group_rows=None, created_by=b'x') -> bytes:
  """A file of groups of rows, each a dict of columns by name.

  rows: rows that its metadata promise; group_rows: those of each group.
  """
  body, described = _MARK, []
  for group in groups:
    columns, sizes = [], []
    for name, column in group.items():
      parts = [page.bytes() for page in column.pages]
      at = len(body)
      body += b''.join(parts)
      coded = column.pages[0].dictionary
      first = at + (len(parts[0]) if coded else 0)
      fields = [
        (1, I32, column.kind),
        (2, LIST, (I32, sorted({p.encoding for p in column.pages}))),
        (3, LIST, (BINARY, [name.encode()])),
        (4, I32, _ZSTD),
        (5, I64, column.promised()),
        # What a reader must not believe.
        (6, I64, 100),
        (7, I64, len(body) - at),
        (9, I64, first),
      ]
      if coded:
        fields.append((11, I64, at))
      body += column.after
      columns.append(thrift((2, I64, at), (3, STRUCT, thrift(*fields))))
      sizes.append(column.promised())
    count = sizes[0] if group_rows is None else group_rows
    described.append(
      thrift(
        (1, LIST, (STRUCT, columns)),
        (2, I64, 100 * len(columns)),
        (3, I64, count),
      )
    )
  if rows is None:
    rows = sum(next(iter(g.values())).promised() for g in groups)
  head = thrift(
    (1, I32, 1),
    (2, LIST, (STRUCT, schema(groups[0]))),
    (3, I64, rows),
    (4, LIST, (STRUCT, described)),
    (6, BINARY, created_by),
  )
  return ended(body, head)


def ended(body: bytes, head: bytes) -> bytes:
  """A file of columns and their metadata."""
  return body + head + struct.pack('<I', len(head)) + _MARK


def schema(group) -> list[bytes]:
  found = [thrift((4, BINARY, b'schema'), (5, I32, len(group)))]
  for name, column in group.items():
    fields = [(1, I32, column.kind), (3, I32, 0), (4, BINARY, name.encode())]
    if column.kind == TEXT:
      fields.append((6, I32, _UTF8))
    found.append(thrift(*fields))
  return found


def bomb(size: int) -> bytes:
  """A frame of zstd that unpacks to `size` zeros: 4 bytes for 128 KB."""
  frame = struct.pack('<IBQ', 0xFD2FB528, 0xE0, size)
  while size:
    block = min(size, _BLOCK)
    size -= block
    # Its last bit, a kind (one byte, repeated), how often, and the byte.
    frame += (block << 3 | 1 << 1 | (not size)).to_bytes(3, 'little') + b'\0'
  return frame


def plain(*texts: bytes) -> bytes:
  return b''.join(struct.pack('<I', len(t)) + t for t in texts)


def same(count: int, code: int = 0, width: int = 1) -> bytes:
  """Codes of a dictionary: one of them, so many times."""
  run = varint(count << 1) + code.to_bytes((width + 7) // 8, 'little')
  return bytes([width]) + run


def steady(count: int, first: int, block: int = 128, parts: int = 4) -> bytes:
  """Numbers, all `first`, as differences of no bits each."""
  head = varint(block) + varint(parts) + varint(count) + zigzag(first)
  blocks = -(-max(count - 1, 0) // block)
  return head + blocks * (zigzag(0) + bytes(parts))
