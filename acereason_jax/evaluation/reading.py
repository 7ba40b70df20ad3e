"""Reads results.json, which may be a stranger's: bounded, and checked whole.

After `read`, every number that the table, a comparison or a figure uses has
its type and its range, so none of them checks again. Fields that nothing reads
may hold anything.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax import storage
from acereason_jax.console import terminal
from acereason_jax.data import records

SCHEMA = 1
NAME = 'results.json'
MAX_BYTES = 64 << 20
MAX_ITEMS = 1 << 20
_TEXT_CHARS = 4096
_NAMES = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,39}')
_SHOWN_CHARS, _PATH_CHARS = 60, 200
# An average and the counts that it follows from may differ by this.
_ROUNDING = 1e-9
_REMEDY = 'evaluate --judge writes it anew from the samples that are kept'


class _Wrong(ValueError):
  """A value that is not as expected, with the path to it."""

  def __init__(self, path: str, value: Any, expected: str):
    super().__init__(path, value, expected)
    self.path, self.value, self.expected = path, value, expected


# Raises _Wrong unless a value is as expected; the text is the path to it.
Check = Callable[[Any, str], None]


def read(path: str | os.PathLike) -> dict[str, Any]:
  """The results in a folder that `evaluate --out` wrote, or in a file.

  Raises:
    ValueError, OSError: one line; no results, damaged, or another schema.
  """
  content, name = _content(path)
  try:
    results = json.loads(
      content, parse_constant=_no_constant, object_pairs_hook=_object
    )
  except RecursionError as e:
    raise ValueError(f'{name}: nested too deep to be results') from e
  except ValueError as e:
    reason = ' '.join(str(e).split())[:200]
    raise ValueError(
      f'{name}: not one JSON object ({reason}); {_REMEDY}'
    ) from e
  check(results, name)
  return results


def check(results: Any, name: str) -> None:
  """Raises ValueError, one line: `results` are not as the schema says."""
  try:
    _RESULTS(results, '')
    for bench, judges in results['benchmarks'].items():
      _OF_BENCHMARK(results['data'].get(bench), f'data.{bench}')
      _OF_ROLLOUTS(results['rollouts'].get(bench), f'rollouts.{bench}')
      for judge, entry in judges.items():
        _consistent(entry, f'benchmarks.{bench}.{judge}')
        # Earlier versions wrote none.
        unread = entry.get('unread')
        _OF_UNREAD(unread, f'benchmarks.{bench}.{judge}.unread')
  except _Wrong as e:
    got = ascii(e.value)[:_SHOWN_CHARS]
    path = terminal.one_line(e.path, _PATH_CHARS) or 'the file'
    remedy = _REMEDY
    if e.path == 'schema':
      remedy = 'read it with the version that wrote it'
    raise ValueError(
      f'{name}: {path} is {got}, expected {e.expected}; {remedy}'
    ) from e


def _content(path: str | os.PathLike) -> tuple[bytes, str]:
  """(bytes, path of the file)."""
  path = os.fspath(path)
  inside = storage.join(path, NAME)
  if storage.is_remote(path):
    for name in (inside, path):
      if (content := storage.read(name, MAX_BYTES)) is not None:
        return content, name
    raise FileNotFoundError(_absent(path))
  if os.path.isdir(path) and not os.path.exists(inside):
    raise FileNotFoundError(_absent(path))
  if not os.path.lexists(path):
    raise FileNotFoundError(f'{path}: no such folder; give what --out was')
  name = inside if os.path.isdir(path) else path
  with records.opened(name, MAX_BYTES) as file:
    content = file.read(MAX_BYTES + 1)
  if len(content) > MAX_BYTES:
    raise ValueError(f'{name}: more than {MAX_BYTES:,} bytes; is it results?')
  return content, name


def _absent(path: str) -> str:
  return (
    f'{path}: holds no {NAME}; give the folder of an evaluation that has ended'
  )


def _no_constant(text: str) -> None:
  raise ValueError(f'{text} is no JSON')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('a key stands twice in an object')
  return found


def _that(expected: str, test: Callable[[Any], bool]) -> Check:
  def checked(value: Any, path: str) -> None:
    if not test(value):
      raise _Wrong(path, value, expected)

  return checked


def _number(low: float, high: float) -> Check:
  return _that(
    f'a number from {low:g} to {high:g}',
    lambda v: type(v) in (int, float) and low <= v <= high,
  )


def _integer(low: int, high: int = 1 << 53) -> Check:
  return _that(
    f'an integer of at least {low}',
    lambda v: type(v) is int and low <= v <= high,
  )


def _or_null(inner: Check) -> Check:
  return lambda value, path: None if value is None else inner(value, path)


def _object_of(**fields: Check) -> Check:
  def checked(value: Any, path: str) -> None:
    if not isinstance(value, dict):
      raise _Wrong(path, value, 'an object')
    for name, inner in fields.items():
      where = f'{path}.{name}' if path else name
      if name not in value:
        raise _Wrong(where, None, 'a value')
      inner(value[name], where)

  return checked


def _maybe(**fields: Check) -> Check:
  """An object whose fields may be left out."""

  def checked(value: Any, path: str) -> None:
    if not isinstance(value, dict):
      raise _Wrong(path, value, 'an object')
    for name, inner in fields.items():
      inner(value.get(name), f'{path}.{name}')

  return checked


def _map_of(key: Check, inner: Check) -> Check:
  def checked(value: Any, path: str) -> None:
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
      raise _Wrong(path, value, 'an object')
    for name, each in value.items():
      key(name, f'a key of {path}')
      inner(each, f'{path}.{name[:_SHOWN_CHARS]}')

  return checked


def _list_of(inner: Check) -> Check:
  def checked(value: Any, path: str) -> None:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
      raise _Wrong(path, value, 'a list')
    for i, each in enumerate(value):
      inner(each, f'{path}[{i}]')

  return checked


_TEXT = _that('a text', lambda v: isinstance(v, str) and len(v) <= _TEXT_CHARS)
_NAME = _that(
  'a name of at most 40 letters, digits, - and _',
  lambda v: isinstance(v, str) and _NAMES.fullmatch(v) is not None,
)
_FLAG = _that('true or false', lambda v: isinstance(v, bool))
_SCALAR = _that(
  'a text, a number or null',
  lambda v: v is None or type(v) in (str, int, float, bool),
)
_COUNT, _SIZE = _integer(0), _integer(1)
_RATE = _or_null(_number(0, 1))
# A standard error of a rate, a length, a time.
_ERROR, _AMOUNT = _or_null(_number(0, 1)), _or_null(_number(0, 1e15))
_ANY = _or_null(_number(-1e15, 1e15))
_SPREAD = _object_of(mean=_AMOUNT, median=_AMOUNT, p90=_AMOUNT)
_STRATUM = _object_of(
  problems=_COUNT, avg=_RATE, rerun_error=_ERROR, problems_error=_ERROR
)
_ENTRY = _object_of(
  avg=_RATE,
  rerun_error=_ERROR,
  problems_error=_ERROR,
  judged=_COUNT,
  failed=_COUNT,
  asked=_COUNT,
  problems=_COUNT,
  k=_AMOUNT,
  unparsed=_RATE,
  truncated=_RATE,
  if_truncated_right=_RATE,
  if_truncated_left_out=_RATE,
  all_right=_RATE,
  lengths=_object_of(right=_SPREAD, wrong=_SPREAD),
  pass_at_k=_list_of(
    _object_of(
      k=_SIZE,
      value=_number(0, 1),
      rerun_error=_ERROR,
      problems_error=_ERROR,
      few=_FLAG,
    )
  ),
  majority=_or_null(_list_of(_object_of(k=_SIZE, value=_number(0, 1)))),
  strata=_map_of(_TEXT, _map_of(_TEXT, _STRATUM)),
  rating=_or_null(
    _object_of(
      value=_ANY,
      error=_AMOUNT,
      bound=_TEXT,
      percentile=_RATE,
      contests=_or_null(
        _object_of(
          value=_ANY,
          error=_AMOUNT,
          percentile=_RATE,
          contests=_COUNT,
          given=_COUNT,
        )
      ),
    )
  ),
  by_problem=_list_of(
    _object_of(
      id=_TEXT,
      n=_COUNT,
      right=_COUNT,
      failed=_COUNT,
      unparsed=_COUNT,
      truncated=_COUNT,
      mean_length=_AMOUNT,
    )
  ),
  marked=_FLAG,
  published=_or_null(
    _object_of(value=_ANY, difference=_ANY, source=_TEXT, percentile=_RATE),
  ),
)
_OF_UNREAD = _or_null(_object_of(count=_COUNT, reason=_TEXT))
_OF_BENCHMARK = _object_of(
  files=_map_of(_TEXT, _TEXT),
  problems=_COUNT,
  prompts=_TEXT,
  answers=_TEXT,
  n=_SIZE,
  max_tokens=_SIZE,
  missing=_list_of(
    _that(
      'a pair of texts',
      lambda v: isinstance(v, list) and list(map(type, v)) == [str, str],
    )
  ),
)
_OF_ROLLOUTS = _object_of(length=_SPREAD)
_RESULTS = _object_of(
  schema=_that(str(SCHEMA), lambda v: type(v) is int and v == SCHEMA),
  model=_object_of(name=_TEXT, step=_or_null(_COUNT)),
  sampling=_map_of(_TEXT, _SCALAR),
  engine=_map_of(_TEXT, _SCALAR),
  judges=_map_of(_TEXT, _object_of(fn=_TEXT)),
  published=_or_null(_TEXT),
  data=_map_of(_NAME, _OF_BENCHMARK),
  rollouts=_map_of(_NAME, _OF_ROLLOUTS),
  benchmarks=_map_of(_NAME, _map_of(_NAME, _ENTRY)),
  cost=_maybe(
    tokens=_AMOUNT,
    seconds=_AMOUNT,
    chips=_AMOUNT,
    chip_hours=_AMOUNT,
    price=_AMOUNT,
  ),
)


def _consistent(entry: Mapping[str, Any], path: str) -> None:
  """Raises _Wrong unless the counts of the problems give the totals."""
  rows: Sequence[Mapping[str, Any]] = entry['by_problem']
  seen: set[str] = set()
  for i, row in enumerate(rows):
    where = f'{path}.by_problem[{i}]'
    if row['id'] in seen:
      raise _Wrong(f'{where}.id', row['id'], 'ids that differ')
    seen.add(row['id'])
    if row['right'] > row['n']:
      expected = f'at most n, {row["n"]}'
      raise _Wrong(f'{where}.right', row['right'], expected)
  for total, part in (('judged', 'n'), ('failed', 'failed')):
    if entry[total] != (found := sum(row[part] for row in rows)):
      raise _Wrong(f'{path}.{total}', entry[total], f'{found} as by_problem')
  rates = [row['right'] / row['n'] for row in rows if row['n']]
  if entry['problems'] != len(rates):
    raise _Wrong(f'{path}.problems', entry['problems'], str(len(rates)))
  number = len(rates)
  _follows(entry, path, 'avg', sum(rates) / number if number else None)
  _follows(entry, path, 'k', entry['judged'] / number if number else None)


def _follows(
  entry: Mapping[str, Any], path: str, name: str, expected: float | None
) -> None:
  """Raises _Wrong unless the field is `expected`, except for rounding."""
  found = entry[name]
  if None in (found, expected):
    same = found is expected
  else:
    same = abs(found - expected) <= _ROUNDING * max(1.0, expected)
  if not same:
    raise _Wrong(f'{path}.{name}', found, f'{expected} as by_problem')
