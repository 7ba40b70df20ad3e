"""Checks a stranger's file of Parquet before a library unpacks it.

The sizes and counts in a file's metadata may be false, and Arrow makes room for
what they say: a file of one KB could fill the memory. An encoding may also
repeat what it read before, as lists and prefixes do, so that a page's own size
says nothing. So this reads metadata and the headers of all pages, adds up what
they promise, and lets pass only pages whose values take no more than their
bytes, are entries of a dictionary, or are numbers, one for each row.

It reads the metadata itself, too: pyarrow 26 ends the process if some of its
numbers disagree and it is asked for a column's. Both are in Thrift's compact
protocol. What Thrift would read in another way than this is refused.
"""

from collections.abc import Mapping
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
_MOST_PAGES, _MOST_GROUPS = 20_000, 16
# Kinds of pages, and encodings: plain, differences of numbers, and codes of a
# dictionary (old, new). For forged differences Arrow may reserve 128 MB, of
# which it uses little.
_DATA, _DICTIONARY = 0, 2
_ENCODINGS = 0, 2, 5, 8

# Number and type of the fields that are read: of a file, ...
_SCHEMA, _ROWS, _GROUPS = (2, _LIST), (3, _I64), (4, _LIST)
# ... of a group of rows, of a column there, of its metadata, ...
_COLUMNS, _GROUP_ROWS = (1, _LIST), (3, _I64)
_ABOUT = 3, _STRUCT
_VALUES, _SIZE = (5, _I64), (7, _I64)
_FIRST_DATA, _FIRST_DICTIONARY = (9, _I64), (11, _I64)
# ... of a page, and of the header of its kind.
_KIND, _UNPACKED, _PACKED = (1, _I32), (2, _I32), (3, _I32)
_OF_KIND = {_DATA: (5, _STRUCT), _DICTIONARY: (7, _STRUCT)}
_COUNT, _ENCODING = (1, _I32), (2, _I32)
# The types of lists in the metadata, by the numbers of the fields that lead
# there. Thrift reads these types, whatever the file says. A list elsewhere is
# refused.
_LISTS = {
  (2,): _STRUCT,  # the schema
  (4,): _STRUCT,  # groups of rows
  (5,): _STRUCT,  # keys and values
  (7,): _STRUCT,  # orders of columns
  (4, 1): _STRUCT,  # columns
  (4, 4): _STRUCT,  # columns that are sorted
  (4, 1, 3, 2): _I32,  # encodings
  (4, 1, 3, 3): _BINARY,  # names on the way to the column
  (4, 1, 3, 8): _STRUCT,  # keys and values of a column
  (4, 1, 3, 13): _STRUCT,  # pages of an encoding
  (4, 1, 3, 16, 2): _I64,  # histograms of levels
  (4, 1, 3, 16, 3): _I64,
}

# Fields of a struct by number and type: a number, a struct, a list, or None.
_Fields = dict[tuple[int, int], Any]
# The numbers of the fields that lead to a value.
_Path = tuple[int, ...]
_Lists = Mapping[_Path, int]


class _Chunk(NamedTuple):
  """A column in a group of rows.

  begin, end: where its pages begin and end, as Arrow reads them.
  values: number of its values.
  """

  begin: int
  end: int
  values: int


class _Page(NamedTuple):
  """A page.

  unpacked: bytes that it unpacks to.
  values: values of the column in it.
  entries: entries of a dictionary in it.
  end: where the next one begins.
  """

  unpacked: int
  values: int
  entries: int
  end: int


def check(data: bytes, most_rows: int, most_bytes: int) -> int:
  """The rows of a file that cannot fill the memory, with all columns flat.

  If it has none, its columns may not be read: where they are was not checked.

  Args:
    data: a file.
    most_rows: the most rows, and the most entries of a dictionary.
    most_bytes: the most bytes of all pages, unpacked.

  Raises:
    ValueError: one line saying what the file has instead.
  """
  rows, chunks = _promises(data, most_rows)
  count = size = 0
  for chunk in chunks:
    at, values = chunk.begin, 0
    while at < chunk.end:
      page = _page(data, at, chunk.end)
      at, values = page.end, values + page.values
      count, size = count + 1, size + page.unpacked
      if size > most_bytes:
        raise ValueError(f'more than {most_bytes:,} bytes unpacked')
      if count > _MOST_PAGES:
        raise ValueError(f'more than {_MOST_PAGES:,} pages')
      if page.entries > most_rows:
        raise ValueError(f'a dictionary of more than {most_rows:,} entries')
    # Arrow stops here, so it reads no page that was not seen.
    if values != chunk.values:
      raise ValueError(
        f'a column has {values:,} values in its pages and promises '
        f'{chunk.values:,}'
      )
  return rows


def _promises(data: bytes, most_rows: int) -> tuple[int, list[_Chunk]]:
  """(the rows, the columns of all groups; none if there are no rows)."""
  size = int.from_bytes(data[-_TAIL_BYTES:-4], 'little')
  at = len(data) - _TAIL_BYTES - size
  if data[-4:] != _MARK or at < 0 or size > _MOST_HEAD_BYTES:
    raise ValueError(
      'it does not end as Parquet does, or has more than '
      f'{_MOST_HEAD_BYTES:,} bytes of metadata'
    )
  try:
    head, _ = _struct(data[at:-_TAIL_BYTES], 0, _LISTS)
    rows, groups = head[_ROWS], head[_GROUPS]
    columns = len(head[_SCHEMA]) - 1
    if rows > most_rows or len(groups) > _MOST_GROUPS:
      raise ValueError(
        f'{rows:,} rows in {len(groups):,} groups: at most {most_rows:,} in '
        f'{_MOST_GROUPS:,}'
      )
    if sum(group[_GROUP_ROWS] for group in groups) != rows:
      raise ValueError('its groups have not the rows that it promises')
    if any(len(group[_COLUMNS]) != columns for group in groups):
      raise ValueError('its columns are not flat, or not in all groups')
    if not rows:
      return 0, []
    return rows, [
      _chunk(column[_ABOUT], group[_GROUP_ROWS], at)
      for group in groups
      for column in group[_COLUMNS]
    ]
  except (IndexError, KeyError, TypeError):
    raise ValueError('its metadata are damaged') from None


def _chunk(about: _Fields, rows: int, most: int) -> _Chunk:
  """A column of a group of so many rows; it must end at `most`."""
  begin = about[_FIRST_DATA]
  if 0 < about.get(_FIRST_DICTIONARY, 0) < begin:
    begin = about[_FIRST_DICTIONARY]
  end = begin + about[_SIZE]
  if not 0 < begin <= end <= most:
    raise ValueError('a column lies outside its place')
  if about[_VALUES] != rows:
    raise ValueError(
      f'a column promises {about[_VALUES]:,} values, its group {rows:,} rows'
    )
  return _Chunk(begin, end, rows)


def _page(data: bytes, at: int, end: int) -> _Page:
  try:
    header, size = _struct(data[at : at + _MOST_HEADER_BYTES], 0, {})
    at += size
    kind, unpacked, packed = (header[n] for n in (_KIND, _UNPACKED, _PACKED))
    about = header[_OF_KIND[kind]] if kind in _OF_KIND else {}
    encoding = about.get(_ENCODING)
    count = about[_COUNT] if about else 0
  except (IndexError, KeyError, TypeError):
    raise ValueError('the header of a page is damaged or long') from None
  if encoding not in _ENCODINGS:
    raise ValueError('a page of a kind that no run writes')
  if min(unpacked, packed, count) < 0 or at + packed > end:
    raise ValueError('a page lies outside its column')
  if kind == _DATA:
    return _Page(unpacked, count, 0, at + packed)
  return _Page(unpacked, 0, count, at + packed)


def _struct(
  data: bytes, at: int, lists: _Lists, path: _Path = ()
) -> tuple[_Fields, int]:
  """(its fields, where it ends).

  Args:
    data: bytes with a struct at place `at`.
    at: see `data`.
    lists: the types of the lists in it, by path; no other list is taken.
    path: the numbers of the fields that lead to it.

  Raises:
    IndexError, KeyError: it is cut off, or Thrift might read it otherwise.
  """
  found, seen, number = {}, set(), 0
  while byte := data[at]:
    at += 1
    step, kind = byte >> 4, byte & 15
    if step:
      number += step
    else:
      number, at = _integer(data, at, 32)
    # Of a field that is there twice Thrift joins the parts.
    if not 0 <= number <= _MOST_FIELD or number in seen:
      raise KeyError(number)
    seen.add(number)
    value, at = _value(data, at, kind, lists, (*path, number))
    found[number, kind] = value
  return found, at + 1


def _value(
  data: bytes, at: int, kind: int, lists: _Lists, path: _Path
) -> tuple[Any, int]:
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
  if kind == _STRUCT and len(path) < _DEPTH:
    return _struct(data, at, lists, path)
  if kind == _LIST:
    return _list(data, at, lists, path)
  # No file that a run writes has others.
  raise KeyError(kind)


def _list(
  data: bytes, at: int, lists: _Lists, path: _Path
) -> tuple[list[Any], int]:
  size, kind = data[at] >> 4, data[at] & 15
  at += 1
  if size == 15:
    size, at = _varint(data, at, 31)
  if kind != lists[path]:
    raise KeyError(kind)
  found = []
  for _ in range(size):
    value, at = _value(data, at, kind, lists, path)
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
