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

_STATEMENTS = (*fields.QUESTION, 'statement')
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
      values.Item(source.name, row.id, row.problem)
      for row in inputs.built(source.rows, f'{where}.rows')
    ]
  for path in input_files.paths(source.paths, source.revision):
    names = (source.field,) if source.field else _STATEMENTS
    file = input_files.opened(path, source.format, [*names, source.id or 'id'])
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
  wanted = [n for n in record if (n if source.field else n.lower()) in names]
  record, *_ = record_rows.cleaned(where, record, [*wanted, source.id or 'id'])
  given = [
    v for k, v in record.items() if (k if source.field else k.lower()) in names
  ]
  text = next((v for v in given if isinstance(v, str) and v.strip()), None)
  if text is None:
    raise ValueError(
      f'{where}: needs a text in {fields.listed(names)}; it has: '
      f'{fields.listed(record)}; name another in '
      f'config.benchmarks.{source.name}.field'
    )
  told = record.get(source.id or 'id')
  return values.Item(source.name, f'{number if told is None else told}', text)
