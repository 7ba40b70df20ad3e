"""Reads the rows of a config's inputs, within bounds.

What is wrong with a file is one line. Columns are read by the names that
training knows (data/fields.py), or by those that a config gives.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import resolve
from acereason_jax.data import fields
from acereason_jax.data.curate import input_files, plan, record_rows, values

READ = 'read'
_SHOWN = 3


class Read(NamedTuple):
  """The rows of an input.

  rows: different rows, in the order of their ids.
  refused: fates of rows that no step can read.
  files: SHA-256 of each file by its name.
  lines: number of rows in the files, with repeats.
  """

  rows: tuple[values.Row, ...]
  refused: tuple[values.Fate, ...]
  files: Mapping[str, str]
  lines: int


def read(source: plan.Input) -> Read:
  """The rows of an input.

  Raises:
    ValueError: one line; a file or a row cannot be read, there is none, or two
      different rows have one id.
  """
  if source.rows is not None:
    where = f'config.inputs.{source.name}.rows'
    found = [
      record_rows.Found(f'{where}[{i}]', _own(row, source))
      for i, row in enumerate(built(source.rows, where))
    ]
    files = {}
  else:
    found, files = [], {}
    for path in input_files.paths(source.paths, source.revision):
      file = input_files.opened(
        path, source.format, record_rows.columns(source)
      )
      files[input_files.name(path, files)] = file.digest
      found += _rows(path, file, source)
  if not found:
    raise ValueError(f'config.inputs.{source.name}: holds no rows')
  different = _different(found)
  return Read(
    tuple(f.row for f in different if not f.reason),
    tuple(
      values.Fate(values.DROPPED, f.row, f.reason, f.evidence)
      for f in different
      if f.reason
    ),
    files,
    len(found),
  )


def joined(sources: Sequence[plan.Input]) -> dict[str, Read]:
  """The rows of all inputs by name. Raises: ValueError, as `read` does."""
  found = {source.name: read(source) for source in sources}
  first: dict[str, str] = {}
  for name, each in found.items():
    rows = (*each.rows, *(fate.row for fate in each.refused))
    for row in rows:
      if row.id in first:
        raise ValueError(
          f'config.inputs: id {row.id!r:.60} is in {first[row.id]} and in '
          f'{name}; give one of them a prefix, such as '
          f'config.inputs.{name}.prefix={f"{name}-"!r}'
        )
    first |= dict.fromkeys((row.id for row in rows), name)
  return found


def built(component: Mapping[str, Any], where: str) -> Sequence[values.Row]:
  """The rows of a component.

  Raises:
    ValueError: one line; it fails, or returns something else.
  """
  try:
    rows = resolve.build(component, where)
  except ValueError as e:
    told = str(e)
    raise ValueError(
      told if told.startswith(where) else f'{where}: {told}'
    ) from e
  if not isinstance(rows, list) or not all(
    isinstance(row, values.Row) for row in rows
  ):
    raise ValueError(f'{where}: expected a list of data.curate.values.Row')
  return rows


def _own(row: values.Row, source: plan.Input) -> values.Row:
  """The row with the id and the source of an input."""
  return dataclasses.replace(
    row,
    id=f'{source.prefix}{row.id}',
    source=source.name,
    about=dict(row.about),
  )


def _rows(
  path: str, file: input_files.Opened, source: plan.Input
) -> list[record_rows.Found]:
  """The rows of a file. Raises ValueError: a column is in no row."""
  if file.columns is not None:
    _check_columns(path, {*file.columns}, source)
  found, seen = [], set()
  wanted = {*record_rows.columns(source)}
  for where, record in file.records:
    if not isinstance(record, Mapping):
      raise ValueError(f'{where}: expected an object, got {record!r:.60}')
    if not seen >= record.keys():
      seen |= record.keys()
    found.append(record_rows.read(where, record, source, wanted))
  if found:
    _check_columns(path, seen, source)
  return found


def _check_columns(path: str, columns: set[str], source: plan.Input) -> None:
  """Raises ValueError, one line: a column that is needed is not there."""
  where = f'config.inputs.{source.name}.fields'
  it_has = f'it has: {fields.listed(sorted(columns))}'
  named = {*filter(None, source.fields.values()), *source.keep}
  for name in sorted(named - columns):
    raise ValueError(
      f'{path}: has no column {name!r:.60}, which {where} or .keep names; '
      f'{it_has}'
    )
  lower = {name.lower() for name in columns}
  for name, usual in record_rows.NEEDED.items():
    if name not in source.fields and not lower & {*usual}:
      raise ValueError(
        f'{path}: has no column for the {name}, such as '
        f'{fields.listed(usual)}; name it in {where}.{name}; {it_has}'
      )


def _different(found: Sequence[record_rows.Found]) -> list[record_rows.Found]:
  """The rows with repeats dropped, in the order of their ids.

  Of rows of one content that differ in the rest, such as their addresses, one
  stays, whatever the order of the files.
  """
  first: dict[str, record_rows.Found] = {}
  clashes = []
  for each in found:
    other = first.setdefault(each.row.id, each)
    if other.row == each.row:
      continue
    if not other.named and not each.named:
      first[each.row.id] = min(other, each, key=lambda f: repr(f.row))
    else:
      clashes.append(f'id {each.row.id!r:.60} at {other.where}, {each.where}')
  if clashes:
    raise ValueError(
      f'{len(clashes):,} rows have the id of another row with other content; '
      'remove or rename one of each, or name another column for the id: '
      f'{"; ".join(clashes[:_SHOWN])}'
    )
  return [first[row_id] for row_id in sorted(first)]
