"""Test cases of LiveCodeBench's fields, one at a time.

The private tests of a problem are a list in JSON, or base64 of zlib of a
pickled text of it, and have up to hundreds of megabytes. They are unpacked
piece by piece, so that one case is in memory, besides the field itself. No
unpickler runs: the few bytes that pickle writes around a text are matched.
"""

import binascii
import codecs
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acereason_jax.data import untrusted
from acereason_jax.data.untrusted import expect

# Unpacked size of a problem's private tests, and characters of one case.
_PRIVATE_BYTES = 2 << 30
_CASE_CHARS = 128 << 20
# Characters of base64, a multiple of four, and bytes that they unpack to at
# once.
_PACKED_CHARS, _UNPACKED_BYTES = 1 << 20, 4 << 20
_WINDOW_CHARS = 4 << 20
_SPACE = re.compile(r'[ \t\n\r]*')
# The bytes that pickle writes for one text, in protocols 2 to 5: the protocol,
# maybe the start of a frame, the text's length and the text; then it is
# memoised.
_PICKLE_START = re.compile(
  rb'\x80[\x02-\x05](?:\x95.{8})?(?:\x8c(.)|X(.{4})|\x8d(.{8}))', re.DOTALL
)
_PICKLE_END = re.compile(
  rb'(?:\x95.{8})?(?:\x94|q.|r.{4})?(?:\x95.{8})?\.', re.DOTALL
)
# More than either matches.
_START_BYTES, _END_BYTES = 32, 64
_JSON = json.JSONDecoder(parse_constant=untrusted.refuse)


def cases(text: Any, what: str) -> Iterator[Mapping[str, Any]]:
  """Yields the {'input', 'output'} objects of a list in JSON.

  Raises:
    ValueError: one line; `what` names the text.
  """
  expect(isinstance(text, str), f'{what} is not text')
  return _checked(_elements(_slices(text), what), what)


def private_cases(text: Any) -> Iterator[Mapping[str, Any]]:
  """Yields the objects of a list that may be packed.

  Raises:
    ValueError: one line.
  """
  what = 'private_test_cases'
  expect(isinstance(text, str), f'{what} is not text')
  plain = text.startswith('[', _SPACE.match(text).end())
  pieces = _slices(text) if plain else unpickled(_inflated(text))
  return _checked(_elements(pieces, what), what)


def _checked(found: Iterator[Any], what: str) -> Iterator[Mapping[str, Any]]:
  for case in found:
    expect(
      isinstance(case, Mapping) and 'input' in case and 'output' in case,
      f'{what} has an element without input and output',
    )
    expect(
      isinstance(case.get('testtype', ''), str), f'{what} has a bad testtype'
    )
    yield case


def _slices(text: str) -> Iterator[str]:
  for at in range(0, len(text), _WINDOW_CHARS):
    yield text[at : at + _WINDOW_CHARS]


def _inflated(text: str) -> Iterator[bytes]:
  """Yields what base64 of zlib unpacks to."""
  unpacker, size = zlib.decompressobj(), 0
  try:
    for packed in itertools.chain(_packed(text), [b'']):
      while True:
        data = unpacker.decompress(packed, _UNPACKED_BYTES)
        size += len(data)
        expect(
          size <= _PRIVATE_BYTES and not unpacker.unused_data,
          'private_test_cases has bytes after its end, or unpacks to more than '
          f'{_PRIVATE_BYTES} bytes',
        )
        yield data
        packed = unpacker.unconsumed_tail
        if not packed and len(data) < _UNPACKED_BYTES:
          break
  except zlib.error as e:
    raise ValueError('private_test_cases is not base64 of zlib') from e
  expect(unpacker.eof, 'private_test_cases is cut off')


def _packed(text: str) -> Iterator[bytes]:
  """Yields what base64 stands for."""
  for at in range(0, len(text), _PACKED_CHARS):
    piece = text[at : at + _PACKED_CHARS]
    try:
      packed = binascii.a2b_base64(piece, strict_mode=True)
    except ValueError as e:
      raise ValueError('private_test_cases is not base64 of zlib') from e
    expect(
      not piece.endswith('=') or at + len(piece) == len(text),
      'private_test_cases is not base64 of zlib',
    )
    yield packed


def unpickled(pieces: Iterable[bytes]) -> Iterator[str]:
  """Yields the text that a pickle consists of, without unpickling.

  Raises:
    ValueError: the pickle holds anything else.
  """
  pieces = iter(pieces)
  head = b''
  while len(head) < _START_BYTES and (piece := next(pieces, None)) is not None:
    head += piece
  start = _PICKLE_START.match(head)
  expect(start is not None, 'the pickle does not hold a text')
  size = next(group for group in start.groups() if group is not None)
  left, tail = int.from_bytes(size, 'little'), b''
  decoder = codecs.getincrementaldecoder('utf-8')()
  try:
    for piece in itertools.chain([head[start.end() :]], pieces):
      tail += piece[left:]
      expect(
        len(tail) < _END_BYTES, 'the pickle holds more or less than one text'
      )
      yield decoder.decode(piece[:left])
      left -= min(left, len(piece))
    decoder.decode(b'', final=True)
  except UnicodeDecodeError as e:
    raise ValueError('the pickled text is not UTF-8') from e
  expect(
    left == 0 and _PICKLE_END.fullmatch(tail) is not None,
    'the pickle holds more or less than one text',
  )


def _elements(pieces: Iterator[str], what: str) -> Iterator[Any]:
  """Yields the objects of a list in JSON."""
  text = _Window(pieces, what)
  expect(text.next() == '[', f'{what} is not a list')
  text.at += 1
  between = ''
  while (mark := text.next()) != ']':
    if between:
      expect(mark == between, text.not_json())
      text.at += 1
      mark = text.next()
    # What follows could be the rest of a number, but not of an object.
    if mark and mark != '{':
      text.value()
      raise ValueError(f'{what} has an element without input and output')
    yield text.value()
    between = ','
  text.at += 1
  expect(text.next() == '', text.not_json())


class _Window:
  """The place in a text that comes in pieces; what was read is dropped."""

  def __init__(self, pieces: Iterator[str], what: str):
    self._pieces, self._what = pieces, what
    self._text, self.at = '', 0

  def next(self) -> str:
    """Skips white space; returns the character there, '' at the end."""
    while True:
      self.at = _SPACE.match(self._text, self.at).end()
      if self.at < len(self._text):
        return self._text[self.at]
      if not self._extend():
        return ''

  def value(self) -> Any:
    """Returns the JSON value that begins here, and skips it."""
    while True:
      try:
        value, self.at = _JSON.raw_decode(self._text, self.at)
        return value
      except RecursionError as e:
        raise ValueError(self.not_json()) from e
      except json.JSONDecodeError as e:
        # Its end may not be here yet.
        if len(self._text) - self.at > _CASE_CHARS or not self._extend():
          raise ValueError(self.not_json()) from e

  def not_json(self) -> str:
    here = self._text[self.at : self.at + 80]
    return f'{self._what} is not JSON: {untrusted.shown(here)}'

  def _extend(self) -> bool:
    """Doubles what is here, if there is more: so no value is read often."""
    parts = [self._text[self.at :]]
    got, wanted = 0, max(len(parts[0]), _WINDOW_CHARS)
    while got < wanted and (piece := next(self._pieces, None)) is not None:
      parts.append(piece)
      got += len(piece)
    self._text, self.at = ''.join(parts), 0
    return got > 0
