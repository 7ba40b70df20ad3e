r"""Compares a program's output or result with the expected one.

docs/judges.md lists what is equal.
"""

import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal

FloatError = Literal['either', 'absolute', 'relative']
# (given, expected) -> whether the task accepts `given`.
_IsNear = Callable[[float, float], bool]
# Numbers as programs print them. Other digits are text: 0011, +3, and 1e2,
# which has no sign and no point and may be in base 16.
_NUMBER = re.compile(
  r'-?(?:(?:0|[1-9][0-9]*)(?:[eE][-+][0-9]{1,4})?'
  r'|(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?)'
)
_INTEGER = re.compile(r'-?[0-9]+')
_SHOWN = 60
# As deep as the converters nest, plus the value inside.
DEPTH = 64
# Even with digits of floats and spaces, no right answer is this much longer.
_LONGER, _LONG = 30, 100_000


def printed(
  stdout: bytes,
  expected: str,
  float_tol: float,
  float_error: FloatError = 'either',
) -> str:
  r"""Returns the first difference, '' if there is none.

  Lines are stripped and blank ones dropped at the end. Lines that differ are
  compared word by word: as text, then as exact decimals, then within the
  tolerance: 'a \n' = 'a', '1 2' = '1 2', '2' = '2.0', '1.5e+3' = '1500.0';
  'YES' and 'Yes' differ, '11' and '0011', '1e2' and '100'. docs/judges.md.
  """
  if _far_longer(stdout, expected):
    return f'{len(stdout)} bytes, expected {len(expected)} characters'
  given = stdout.decode('utf-8', 'surrogateescape').strip()
  wanted = expected.strip()
  near = functools.partial(_near, float_tol=float_tol, float_error=float_error)
  for number, (a, b) in enumerate(zip(_lines(given), _lines(wanted)), 1):
    if a != b and (_far_longer(a, b) or not _same_line(a, b, near)):
      return f'line {number}: got {_show(a)}, expected {_show(b)}'
  lines = [text.count('\n') + 1 for text in (given, wanted)]
  if lines[0] != lines[1]:
    return f'{lines[0]} lines, expected {lines[1]}'
  return ''


def _lines(text: str) -> Iterator[str]:
  """Yields one line at a time: a list takes thirty times the text's size."""
  return map(str.strip, io.StringIO(text or '\n'))


def _far_longer(given: str | bytes, wanted: str) -> bool:
  """Whether `given` is too long to be right, so memory is better saved."""
  return len(given) > _LONGER * len(wanted) + _LONG


def _same_line(a: str, b: str, near: _IsNear) -> bool:
  words = b.split()
  # The rest is one word: words take twenty times the text's size.
  return _same_words(a.split(None, len(words)), words, near)


def _same_words(a: Sequence[str], b: Sequence[str], near: _IsNear) -> bool:
  return len(a) == len(b) and all(
    x == y or _same_number(x, y, near) for x, y in zip(a, b)
  )


def _same_number(a: str, b: str, near: _IsNear) -> bool:
  """Whether the number a is accepted where b is expected."""
  if len(a) > 1000 or len(b) > 1000:
    return False
  if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
    return False
  x, y = Decimal(a), Decimal(b)
  if not _INTEGER.fullmatch(b):
    return x == y or near(float(x), float(y))
  # Two integers are compared exactly. Nobody prints an integer with an
  # exponent.
  if _INTEGER.fullmatch(a):
    return x == y
  return (x == y and 'e' not in a.lower()) or near(float(x), float(y))


def _near(
  a: float, b: float, *, float_tol: float, float_error: FloatError
) -> bool:
  """Whether the task accepts a for b; False if it allows no error."""
  if not float_tol or not (math.isfinite(a) and math.isfinite(b)):
    return False
  scale = {'either': max(1.0, abs(b)), 'absolute': 1.0, 'relative': abs(b)}
  return abs(a - b) <= float_tol * scale[float_error]


def returned(
  result: bytes,
  expected: Any,
  float_tol: float,
  float_error: FloatError = 'either',
) -> str:
  """Returns the first difference of a JSON value, '' if there is none.

  Numbers are compared as Python's `==` does, so True is 1 and 2.0 is 2; floats
  are compared within the tolerance. Other types must match: '1' is not 1, None
  is not False. A tuple has become a list. See docs/judges.md.
  """
  wanted = json.dumps(expected)
  # Many small elements would take all memory before they are found to differ.
  if _far_longer(result, wanted) or (
    len(result) > _LONG and _outline(result) != _outline(wanted.encode())
  ):
    return f'a value of {len(result)} bytes with other elements'
  try:
    value = json.loads(result, object_pairs_hook=_once)
  except (ValueError, RecursionError):
    return 'returned nothing that JSON can say'
  near = functools.partial(_near, float_tol=float_tol, float_error=float_error)
  if same_value(value, expected, near, 0):
    return ''
  shown = _show(json.dumps(value)), _show(wanted)
  return f'got {shown[0]}, expected {shown[1]}'


def _outline(text: bytes) -> list[int]:
  """Equal for equal values, which have equal texts and keys too."""
  return [text.count(mark) for mark in (b'[', b'{', b',')]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object; refuses equal keys, since 1 and '1' become one text."""
  value = dict(pairs)
  if len(value) < len(pairs):
    raise ValueError('two keys of an object are the same')
  return value


def same_value(a: Any, b: Any, near: _IsNear, depth: int) -> bool:
  if depth > DEPTH:
    return False
  if isinstance(a, int | float) and isinstance(b, int | float):
    if isinstance(a, int) and isinstance(b, int):
      return a == b
    # A truth value is not a measurement.
    inexact = not (isinstance(a, bool) or isinstance(b, bool))
    return a == b or (inexact and near(_float(a), _float(b)))
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(
      same_value(x, y, near, depth + 1) for x, y in zip(a, b)
    )
  if isinstance(a, dict) and isinstance(b, dict):
    return a.keys() == b.keys() and all(
      same_value(a[k], b[k], near, depth + 1) for k in a
    )
  return type(a) is type(b) and a == b


def _float(value: int | float) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf


def _show(text: str) -> str:
  return ascii(text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...')
