"""Reads benchmarks: the problems that no training row may be like."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.data import fields
from acereason_jax.data.curate import (
  input_files,
  inputs,
  keys,
  plan,
  record_rows,
  values,
)

_STATEMENT = 'statement'
_STATEMENTS = (*fields.QUESTION, _STATEMENT)
# Names of columns that tell a problem of programming.
_URL, _TITLES = 'url', ('title', 'question_title')
_LEAST = 5


class Items(NamedTuple):
  """The problems of a benchmark.

  items: problems, in the order of its files.
  files: SHA-256 of each file by its name.
  """

  items: tuple[values.Item, ...]
  files: Mapping[str, str]


def read(source: plan.Benchmark) -> Items:
  """The problems of a benchmark's files.

  Raises:
    ValueError: one line; a file cannot be read, or has fewer than 5 problems
      with a word or a number in them, which any rule needs.
  """
  where = f'config.benchmarks.{source.name}'
  found, files = [], {}
  if source.rows is not None:
    found = [
      values.Item(source.name, row.id, row.problem, row.url)
      for row in inputs.built(source.rows, f'{where}.rows')
    ]
  for path in input_files.paths(source.paths, source.revision):
    names = (source.field,) if source.field else _STATEMENTS
    columns = [*names, source.id or 'id', _URL, *_TITLES]
    file = input_files.opened(path, source.format, columns)
    files[input_files.name(path, files)] = file.digest
    for place, record in file.records:
      number = len(found) + 1
      found.append(_item(place, record, source, names, f'{number}'))
  able = sum(bool(keys.tokens(item.text)) for item in found)
  if able < _LEAST:
    raise ValueError(
      f'{where}: {able} of {len(found)} problems hold a word or a number; '
      f'expected at least {_LEAST}: is that its file?'
    )
  return Items(tuple(found), files)


def distinct(
  found: Mapping[str, Iterable[values.Item]],
) -> tuple[values.Item, ...]:
  """The problems of all benchmarks, those of equal tokens once."""
  first: dict[tuple[str, ...], values.Item] = {}
  for items in found.values():
    for item in items:
      first.setdefault(tuple(keys.tokens(item.text)), item)
  first.pop((), None)
  return tuple(first.values())


def _item(
  where: str,
  record: Any,
  source: plan.Benchmark,
  names: Sequence[str],
  number: str,
) -> values.Item:
  """A benchmark's problem."""
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  usual = [n for n in record if n.lower() in fields.QUESTION]
  columns = [source.field] if source.field else usual or [_STATEMENT]
  told, *_ = record_rows.cleaned(
    where, record, [*columns, source.id or 'id', _URL, *_TITLES]
  )
  asked = {name: told[name] for name in columns if name in told}
  if source.field and asked:
    asked = dict(problem=asked[source.field])
  elif _STATEMENT in asked:
    asked = dict(problem=asked[_STATEMENT])
  if not asked:
    raise ValueError(
      f'{where}: has no column {fields.listed(names)} for the statement; it '
      f'has: {fields.listed(record)}; name another in '
      f'config.benchmarks.{source.name}.field'
    )
  # Also a list of messages, of which the user's turn is the statement.
  text = fields.row_of(where, asked, answers=False).question
  name = told.get(source.id or 'id')
  url = told.get(_URL)
  titles = [told[n] for n in _TITLES if isinstance(told.get(n), str)]
  return values.Item(
    benchmark=source.name,
    id=f'{number if name is None else name}',
    text=text,
    url=url if isinstance(url, str) else '',
    title=titles[0] if titles else '',
  )
