"""Untrusted fields of a data set's row as JSON values, within bounds."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

_DEPTH = 64
# Python reads and writes at most 4,300 decimal digits.
_BITS = 14_000
_SHOWN_CHARS = 80


def expect(condition: bool, otherwise: str) -> None:
  """Raises ValueError(otherwise) unless the condition holds."""
  if not condition:
    raise ValueError(otherwise)


def shown(value: Any) -> str:
  """Returns a short piece of a text or of a list of texts, on one line."""
  return ascii(value)[:_SHOWN_CHARS]


def pairs(data: Mapping, inputs: str, outputs: str) -> list[tuple[Any, Any]]:
  """Returns the elements of two lists of one length, side by side."""
  left, right = data.get(inputs), data.get(outputs)
  expect(
    isinstance(left, list) and isinstance(right, list),
    f'{inputs} and {outputs} are not both lists',
  )
  expect(
    len(left) == len(right),
    f'{len(left)} {inputs} do not match {len(right)} {outputs}',
  )
  return list(zip(left, right))


def cases(value: Any, what: str) -> list[Mapping[str, Any]]:
  """Returns the list, maybe as JSON text, of {'input', 'output'} objects."""
  found = loads(value, what) if isinstance(value, str) else value
  expect(isinstance(found, list), f'{what} is not a list')
  for case in found:
    expect(
      isinstance(case, Mapping) and 'input' in case and 'output' in case,
      f'{what} has an element without input and output',
    )
    expect(
      isinstance(case.get('testtype', ''), str), f'{what} has a bad testtype'
    )
  return list(found)


def text(value: Any) -> str:
  """Returns the text of stdin or stdout, given whole or as a list of lines."""
  if isinstance(value, list) and all(isinstance(line, str) for line in value):
    value = ''.join(line.removesuffix('\n') + '\n' for line in value)
  expect(isinstance(value, str), 'an input or output is not text')
  return _encodable(value)


def _encodable(text: str) -> str:
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise ValueError('a text has half a surrogate pair') from e
  return text


def seconds(limit: Any) -> float:
  """Returns a time limit, {'seconds', 'nanos'} or a number; 0 for none."""
  if isinstance(limit, Mapping):
    parts = [limit.get('seconds') or 0, limit.get('nanos') or 0]
  else:
    parts = [limit or 0, 0]
  expect(
    all(type(p) in (int, float) and 0 <= p < 1e12 for p in parts),
    'time_limit is no time',
  )
  return parts[0] + parts[1] / 1e9


def loads(text: Any, what: str) -> Any:
  """Returns the value of a JSON text; `what` names the text in errors."""
  expect(isinstance(text, str), f'{what} is not text')
  try:
    return json.loads(text, parse_constant=refuse)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{what} is not JSON: {shown(text)}') from e


def refuse(constant: str) -> NoReturn:
  """Raises ValueError for NaN and Infinity, which Python's reader accepts."""
  raise ValueError(f'{constant} is not JSON')


def lines(text: Any) -> list:
  """Returns the arguments in a text of one JSON value per line."""
  expect(isinstance(text, str), 'an input is not text')
  values = text.strip().split('\n') if text.strip() else []
  return [loads(value, 'a line of an input') for value in values]


def argument(value: Any, depth: int = _DEPTH) -> Any:
  """Returns `value` if JSON carries it unchanged."""
  expect(depth > 0, f'a value is nested more than {_DEPTH} deep')
  if isinstance(value, list):
    return [argument(v, depth - 1) for v in value]
  if isinstance(value, dict):
    expect(
      all(isinstance(key, str) for key in value),
      'an argument has keys that are not text',
    )
    return {_encodable(k): argument(v, depth - 1) for k, v in value.items()}
  if isinstance(value, str):
    return _encodable(value)
  expect(
    value is None or type(value) in (bool, int, float),
    f'JSON has no {type(value).__name__}',
  )
  if isinstance(value, float):
    expect(math.isfinite(value), 'a number is infinite')
  elif isinstance(value, int):
    expect(value.bit_length() <= _BITS, 'an integer is too long for JSON')
  return value


def result(value: Any, depth: int = _DEPTH) -> Any:
  """Returns a result as JSON carries it: tuples as lists, keys as text."""
  expect(depth > 0, f'a value is nested more than {_DEPTH} deep')
  if isinstance(value, (list, tuple)):
    return [result(v, depth - 1) for v in value]
  if isinstance(value, dict):
    expect(
      all(type(key) in (str, int) for key in value),
      'a result has keys that are neither text nor integers',
    )
    keys = [_encodable(str(key)) for key in value]
    expect(len(set(keys)) == len(keys), 'two keys of a result are one text')
    values = [result(v, depth - 1) for v in value.values()]
    return dict(zip(keys, values))
  return argument(value)
