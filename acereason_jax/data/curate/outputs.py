"""The folder of a curation: rows, what was dropped, and what was changed.

    rows.parquet       the rows that are left; `train` reads it
    dropped.parquet    the others: step, reason, evidence and the whole row
    changes.parquet    what else steps did: changed texts, flagged rows
    datasheet.json     counts and examples; .md and .html for people
    prompts.jsonl      questions that responses are missing for

All files are written beside and renamed, when all of them are there. Only then
the datasheet.json of before goes, and the new one comes last: a folder that has
it is whole.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from acereason_jax import files
from acereason_jax.data import parquet_rows
from acereason_jax.data.curate import pipeline, rounds, values

ROWS, DROPPED, CHANGES = 'rows.parquet', 'dropped.parquet', 'changes.parquet'
SHEET, MARKDOWN, PAGE = 'datasheet.json', 'datasheet.md', 'datasheet.html'
# Everything that is written, or removed.
NAMES = (ROWS, DROPPED, CHANGES, SHEET, MARKDOWN, PAGE, rounds.PROMPTS)
# Readers unpack a group of rows at once.
_GROUP_ROWS = 4096
_GROUP_CHARS = 64 << 20
_TEXT, _TEXTS = pyarrow.string(), pyarrow.list_(pyarrow.string())
# Columns that steps add to Row.about, with kinds of their own.
_ADDED = {
  'tokens': pyarrow.float64(),
  'right': pyarrow.int64(),
  'judged': pyarrow.int64(),
  'model': _TEXT,
  'flags': _TEXTS,
}
_ROW = {
  'problem': _TEXT,
  'answer': _TEXT,
  'difficulty': pyarrow.float64(),
  'starter': _TEXT,
  'source': _TEXT,
  'url': _TEXT,
  'date': _TEXT,
  'solutions': _TEXTS,
  'wrong': _TEXTS,
  **_ADDED,
  # The other columns that steps added, as JSON.
  'about': _TEXT,
}
_WHY = {'step': _TEXT, 'reason': _TEXT, 'evidence': _TEXT}
_SCHEMAS = {
  ROWS: pyarrow.schema({'id': _TEXT, **_ROW}),
  DROPPED: pyarrow.schema({'id': _TEXT, **_WHY, **_ROW}),
  CHANGES: pyarrow.schema({'id': _TEXT, 'kind': _TEXT, **_WHY}),
}


def write(
  folder: str, result: pipeline.Result, sheet: Mapping[str, str]
) -> None:
  """Writes all files; `sheet` has the texts of the datasheet by file name.

  Raises:
    OSError: one line; the folder is as before.
  """
  place = pathlib.Path(folder)
  place.mkdir(parents=True, exist_ok=True)
  records = {
    ROWS: map(_row, result.rows),
    DROPPED: (
      _row(change.fate.row) | _why(change) for change in result.dropped
    ),
    CHANGES: (
      dict(id=c.fate.row.id, kind='flagged' if c.flagged else c.fate.kind)
      | _why(c)
      for c in sorted(result.changes, key=lambda c: c.fate.row.id)
    ),
  }
  names = (*records, *sheet)
  for name in names:
    # What a kill left; the caller sees to it that nobody else writes here.
    for left in place.glob(f'.{name}.*.partial'):
      left.unlink(missing_ok=True)
  with contextlib.ExitStack() as stack:
    # They get their names in the reverse order, so datasheet.json is the last.
    order = sorted(names, key=lambda name: name != SHEET)
    opened = {
      name: stack.enter_context(
        files.replacing(place / name, 'wb' if name in records else 'w')
      )
      for name in order
    }
    for name, text in sheet.items():
      opened[name].write(text)
    for name, found in records.items():
      _write_table(opened[name], _SCHEMAS[name], found)
    # A disk that is full says so here.
    for file in opened.values():
      file.flush()
    (place / SHEET).unlink(missing_ok=True)
  (place / rounds.PROMPTS).unlink(missing_ok=True)


def story(folder: str, row_id: str) -> list[str]:
  """Lines that tell what became of a row.

  Raises:
    ValueError: one line; there is no such row, or no finished curation.
  """
  place = pathlib.Path(folder)
  if not (place / SHEET).exists():
    raise ValueError(
      f'{folder}: holds no finished curation; run the same command without '
      '--why first'
    )
  read = lambda name: _of_id(place / name, _SCHEMAS[name], row_id)
  lines = [_step_line(r['kind'], r) for r in read(CHANGES)]
  for record in read(DROPPED):
    return [_first_line(record), *lines, _step_line('dropped', record)]
  for record in read(ROWS):
    flags = ', '.join(record['flags'] or ())
    kept = f'kept; flags: {flags}' if flags else 'kept'
    return [_first_line(record), *lines, kept]
  raise ValueError(
    f'{folder}: has no row of the id {row_id!r:.60}; rows.parquet and '
    'dropped.parquet have them all'
  )


def _first_line(record: Mapping[str, Any]) -> str:
  return f'{record["id"]} of {record["source"]}: {record["problem"]}'


def _step_line(kind: str, record: Mapping[str, Any]) -> str:
  reason = f': {record["reason"]}' * (record['reason'] != record['step'])
  evidence = '' if record['evidence'] == '{}' else f'  {record["evidence"]}'
  return f'{kind} by {record["step"]}{reason}{evidence}'


def _of_id(
  path: pathlib.Path, schema: pyarrow.Schema, row_id: str
) -> Iterator[dict[str, Any]]:
  _, found = parquet_rows.read(path, any_case=(), exact=schema.names)
  for _, record in found:
    if record['id'] == row_id:
      yield record


def _row(row: values.Row) -> dict[str, Any]:
  about = dict(row.about)
  added = {name: about.pop(name, None) for name in _ADDED}
  added['flags'] = sorted(added['flags'] or ())
  return dict(
    id=row.id,
    problem=row.problem,
    answer=row.answer,
    difficulty=row.difficulty,
    starter=row.starter,
    source=row.source,
    url=row.url,
    date=row.date,
    solutions=list(row.solutions),
    wrong=list(row.wrong),
    **added,
    about=_json(about),
  )


def _why(change: pipeline.Change) -> dict[str, str]:
  return dict(
    step=change.step,
    reason=change.fate.reason or change.fate.kind,
    evidence=_json(change.fate.evidence),
  )


def _json(value: Mapping[str, Any]) -> str:
  # The usual one; json is slow.
  if not value:
    return '{}'
  return json.dumps(dict(value), sort_keys=True, allow_nan=False)


def _write_table(
  file: Any, schema: pyarrow.Schema, found: Iterable[dict[str, Any]]
) -> None:
  with pyarrow.parquet.ParquetWriter(file, schema, compression='zstd') as out:
    for part in _parts(found, _size):
      # Numbers that a step gave as another kind, such as 3 for 3.0.
      out.write_table(pyarrow.Table.from_pylist(part, schema))


def _size(record: Mapping[str, Any]) -> int:
  """Characters of its texts; programs are lists of them."""
  return sum(
    len(value) if isinstance(value, str) else sum(map(len, value))
    for value in record.values()
    if isinstance(value, str | list)
  )


def _parts(
  found: Iterable[dict[str, Any]], size: Callable[[Mapping[str, Any]], int]
) -> Iterator[Sequence[dict[str, Any]]]:
  part, total = [], 0
  for record in found:
    part.append(record)
    total += size(record)
    if len(part) == _GROUP_ROWS or total > _GROUP_CHARS:
      yield part
      part, total = [], 0
  if part:
    yield part
