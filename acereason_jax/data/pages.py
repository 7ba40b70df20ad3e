"""Checks the pages of a Parquet file before a library unpacks them.

The sizes in a file's metadata may be false: a library unpacks what the header
of each page says, to any size. An encoding may also repeat what it read before,
as lists and prefixes do, so that a page's own size says nothing. So this reads
the headers, adds up their sizes, and lets pass only pages whose values take no
more than their bytes, or are entries of a dictionary.

It reads the metadata itself, too: pyarrow 26 ends the process if some of its
numbers disagree and it is asked for a column's. Both are in Thrift's compact
protocol. What Thrift would read in another way than this is refused.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

# Thrift's types: what follows the header of a field.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE = range(1, 8)
_BINARY, _LIST, _STRUCT = 8, 9, 12
_DEPTH = 12
_MOST_FIELD = (1 << 15) - 1
# The end of a file: the size of its metadata, and a mark.
_MARK, _TAIL_BYTES = b'PAR1', 8
# Each byte of a header costs time and memory.
_MOST_HEAD_BYTES, _MOST_HEADER_BYTES = 1 << 18, 1 << 10
_MOST_PAGES = 20_000
# Kinds of pages, and encodings: plain, and codes of a dictionary (old, new).
_DATA, _DICTIONARY = 0, 2
_ENCODINGS = 0, 2, 8

# Number and type of the fields that are read: of a file, of a group of rows, of
# a column there, of its metadata, ...
_GROUPS = 4, _LIST
_COLUMNS = 1, _LIST
_ABOUT = 3, _STRUCT
_SIZE, _FIRST_DATA, _FIRST_DICTIONARY = (7, _I64), (9, _I64), (11, _I64)
# ... of a page, and of the header of its kind.
_KIND, _UNPACKED, _PACKED = (1, _I32), (2, _I32), (3, _I32)
_OF_KIND = {_DATA: (5, _STRUCT), _DICTIONARY: (7, _STRUCT)}
_ENCODING = 2, _I32

# Fields of a struct by number and type: a number, a struct, a list, or None.
_Fields = dict[tuple[int, int], Any]


def check(data: bytes, columns: int, most_bytes: int) -> None:
  """Raises ValueError, one line, for a file that could fill the memory.

  Args:
    data: a file.
    columns: number of its columns, all of them flat.
    most_bytes: the most bytes of all pages, unpacked.
  """
  count = size = 0
  for begin, end in _extents(data, columns):
    while begin < end:
      page = _page(data, begin, end)
      begin, count, size = page.end, count + 1, size + page.unpacked
      if size > most_bytes:
        raise ValueError(f'more than {most_bytes:,} bytes unpacked')
      if count > _MOST_PAGES:
        raise ValueError(f'more than {_MOST_PAGES:,} pages')


class _Page(NamedTuple):
  """A page.

  unpacked: bytes that it unpacks to.
  end: where the next one begins.
  """

  unpacked: int
  end: int


def _extents(data: bytes, columns: int) -> Iterator[tuple[int, int]]:
  """Where the pages of each column begin and end, as Arrow reads them."""
  size = int.from_bytes(data[-_TAIL_BYTES:-4], 'little')
  at = len(data) - _TAIL_BYTES - size
  if data[-4:] != _MARK or at < 0 or size > _MOST_HEAD_BYTES:
    raise ValueError('no metadata, or too many')
  try:
    head, _ = _struct(data[at:-_TAIL_BYTES], 0, _DEPTH)
    for group in head[_GROUPS]:
      abouts = [column[_ABOUT] for column in group[_COLUMNS]]
      if len(abouts) != columns:
        raise ValueError(f'{len(abouts)} columns, not {columns}')
      for about in abouts:
        begin = about[_FIRST_DATA]
        if 0 < about.get(_FIRST_DICTIONARY, 0) < begin:
          begin = about[_FIRST_DICTIONARY]
        end = begin + about[_SIZE]
        if not 0 < begin <= end <= at:
          raise ValueError('a column lies outside its place')
        yield begin, end
  except (IndexError, KeyError, TypeError):
    raise ValueError('the metadata are damaged') from None


def _page(data: bytes, at: int, end: int) -> _Page:
  try:
    header, size = _struct(data[at : at + _MOST_HEADER_BYTES], 0, _DEPTH)
    at += size
    kind, unpacked, packed = (header[n] for n in (_KIND, _UNPACKED, _PACKED))
    encoding = header[_OF_KIND[kind]][_ENCODING] if kind in _OF_KIND else None
  except (IndexError, KeyError, TypeError):
    raise ValueError('the header of a page is damaged') from None
  if encoding not in _ENCODINGS:
    raise ValueError('a page of a kind that no run writes')
  if min(unpacked, packed) < 0 or at + packed > end:
    raise ValueError('a page lies outside its column')
  return _Page(unpacked, at + packed)


def _struct(data: bytes, at: int, depth: int) -> tuple[_Fields, int]:
  """(its fields, where it ends).

  Raises:
    IndexError, KeyError: it is cut off, or Thrift might read it otherwise.
  """
  found, number = {}, 0
  while byte := data[at]:
    at += 1
    step, kind = byte >> 4, byte & 15
    if step:
      number += step
    else:
      number, at = _integer(data, at, 32)
    if not 0 <= number <= _MOST_FIELD:
      raise KeyError(number)
    found[number, kind], at = _value(data, at, kind, depth - 1)
  return found, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
  """(a number, a struct's fields, a list or, for others, None, its end)."""
  if kind in (_TRUE, _FALSE):
    return None, at
  if kind == _BYTE:
    return None, at + 1
  if kind in (_I16, _I32, _I64):
    return _integer(data, at, 64 if kind == _I64 else 32)
  if kind == _DOUBLE:
    return None, at + 8
  if kind == _BINARY:
    size, at = _varint(data, at, 31)
    return None, at + size
  if kind == _STRUCT and depth > 0:
    return _struct(data, at, depth)
  if kind == _LIST and depth > 0:
    return _list(data, at, depth)
  # No file that a run writes has others.
  raise KeyError(kind)


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
  size, kind = data[at] >> 4, data[at] & 15
  at += 1
  if size == 15:
    size, at = _varint(data, at, 31)
  if kind in (_TRUE, _FALSE):
    kind = _BYTE
  found = []
  for _ in range(size):
    value, at = _value(data, at, kind, depth - 1)
    found.append(value)
    if at > len(data):
      raise IndexError(at)
  return found, at


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
  raw, at = _varint(data, at, bits)
  return (raw >> 1) ^ -(raw & 1), at


def _varint(data: bytes, at: int, bits: int) -> tuple[int, int]:
  """(a number of at most so many bits, where it ends)."""
  value = 0
  for shift in range(0, 64, 7):
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      if value >> bits:
        # Thrift would cut it.
        raise KeyError(value)
      return value, at
  raise IndexError(at)
