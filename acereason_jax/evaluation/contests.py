"""Problems of contests with ratings: CodeContests' and open-r1's files.

Parquet or JSON lines, as downloaded. Tests go to the store of tasks, row by
row. A rating is that of Codeforces. Files of human contestants, see humans.py,
are the user's own: they tell a model's percentile, and its rating in contests.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.console import terminal
from acereason_jax.data import (
  code_tasks,
  parquet_rows,
  questions,
  records,
  task_store,
)
from acereason_jax.evaluation import humans, values

_PARQUET = b'PAR1'
_REASON_CHARS = 200
_QUESTION_CHARS = 1 << 20
_CODE_CONTESTS = (
  *('name', 'description', 'public_tests', 'private_tests'),
  *('generated_tests', 'source', 'difficulty', 'time_limit'),
  *('memory_limit_bytes', 'cf_rating', 'input_file', 'output_file'),
  *('cf_contest_id', 'cf_index'),
)
# Enumerations of CodeContests, contest_problem.proto.
_SOURCES = (
  *('unknown', 'codechef', 'codeforces', 'hackerearth', 'codejam'),
  *('atcoder', 'aizu'),
)
_DIFFICULTIES = (
  *('unknown', 'easy', 'medium', 'hard', 'harder', 'hardest', 'external'),
  *'ABCDEFGHIJKLMNOPQRSTUV',
)
_CODEFORCES = (
  *('id', 'description', 'input_format', 'output_format', 'examples'),
  *('note', 'rating', 'time_limit', 'memory_limit', 'input_mode'),
  *('interaction_format', 'generated_checker', 'official_tests'),
  *('contest_id', 'index'),
)
_Converter = Callable[[Mapping[str, Any]], values.Problem]


def code_contests(
  paths: Sequence[str], ratings: str = '', standings: Sequence[str] = ()
) -> values.Loaded:
  """Problems of deepmind/code_contests; ids are their names.

  Args:
    paths: files of problems.
    ratings: file of the ratings of all contestants; '' for none.
    standings: files of the standings of contests.

  Raises:
    ValueError: one line; a file cannot be read, or a name occurs twice.
    OSError: the tasks cannot be stored.
  """
  found = humans.read(ratings, standings)
  return _with(
    *found, _loaded(paths, _CODE_CONTESTS, 'name', _of_code_contests)
  )


def codeforces(
  paths: Sequence[str], ratings: str = '', standings: Sequence[str] = ()
) -> values.Loaded:
  """Problems of open-r1/codeforces, whose official tests are complete.

  Args, Raises: as `code_contests`.
  """
  found = humans.read(ratings, standings)
  return _with(*found, _loaded(paths, _CODEFORCES, 'id', _of_codeforces))


def _with(
  found: values.Humans, digests: Mapping[str, str], loaded: values.Loaded
) -> values.Loaded:
  humans.check_asked(loaded.problems, found)
  return loaded._replace(files={**loaded.files, **digests}, humans=found)


def _of_code_contests(row: Mapping[str, Any]) -> values.Problem:
  limit = row.get('time_limit')
  if isinstance(limit, Mapping):
    limit = {unit: _number(limit.get(unit)) for unit in ('seconds', 'nanos')}
  task = code_tasks.codecontests(
    dict(row)
    | dict(
      time_limit=limit,
      memory_limit_bytes=_number(row.get('memory_limit_bytes')),
    )
  )
  strata = dict(
    difficulty=_named(row.get('difficulty'), _DIFFICULTIES),
    source=_named(row.get('source'), _SOURCES),
  )
  question = _text(row, 'description')
  return _problem(
    row['name'],
    question,
    task,
    strata,
    row.get('cf_rating'),
    (row.get('cf_contest_id'), row.get('cf_index')),
  )


def _of_codeforces(row: Mapping[str, Any]) -> values.Problem:
  limits = {f: _number(row.get(f)) for f in ('time_limit', 'memory_limit')}
  task = code_tasks.codeforces(dict(row) | limits)
  parts = [_text(row, 'description')]
  for title, field in (('Input', 'input_format'), ('Output', 'output_format')):
    if row.get(field):
      parts.append(f'{title}\n{_text(row, field)}')
  for case in row.get('examples') or ():
    parts.append(
      f'Example input\n{_text(case, "input")}\n'
      f'Example output\n{_text(case, "output")}'
    )
  if row.get('note'):
    parts.append(f'Note\n{_text(row, "note")}')
  question = '\n\n'.join(part.strip() for part in parts)
  return _problem(
    row['id'],
    question,
    task,
    {},
    row.get('rating'),
    (row.get('contest_id'), row.get('index')),
  )


def _problem(
  name: str,
  question: str,
  task: dict[str, Any],
  strata: Mapping[str, str],
  rating: Any,
  contest: tuple[Any, Any],
) -> values.Problem:
  if not question.strip() or len(question) > _QUESTION_CHARS:
    raise ValueError(f'a statement of {len(question):,} characters')
  answer = task_store.store(task, task.pop('tests'))
  # CodeContests has 0 where there is none.
  rated = _number(rating) or None
  return values.Problem(
    questions.Row(name, question, answer),
    strata,
    rated and float(rated),
    # CodeContests has 0 and '' where there are none.
    tuple(map(str, contest)) if all(contest) and '0' not in contest else None,
  )


def _loaded(
  paths: Sequence[str],
  columns: Sequence[str],
  id_field: str,
  convert: _Converter,
) -> values.Loaded:
  """The problems of files, and the rows that cannot be converted."""
  if (
    isinstance(paths, str)
    or not paths
    or not all(isinstance(path, str | os.PathLike) for path in paths)
  ):
    raise ValueError(f'paths={paths!r:.80}: expected a list of files')
  problems, digests, missing = [], {}, []
  first: dict[str, str] = {}
  for path in paths:
    name = os.path.basename(os.fspath(path))
    if name in digests:
      raise ValueError(f'{path}: two files are named {name}; rename one')
    digests[name] = _digest(path)
    for where, row in _rows(path, columns):
      name = _id(where, row, id_field, columns)
      if name in first:
        raise ValueError(
          f'{where}: {id_field} {name!r:.60} is at {first[name]} too; name '
          'files that share no rows'
        )
      first[name] = where
      try:
        problems.append(convert(row))
      except ValueError as e:
        missing.append((name, terminal.one_line(str(e), _REASON_CHARS)))
      # The next row is read without this one in memory.
      del row
  if not first:
    raise ValueError(f'{paths[0]}: no rows; name a file that has some')
  return values.Loaded(tuple(problems), digests, tuple(missing))


def _digest(path: str) -> str:
  with records.opened(path) as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
  """Yields ('path:row', record); numbers are text."""
  with records.opened(path) as file:
    parquet = file.read(len(_PARQUET)) == _PARQUET
  if parquet:
    return parquet_rows.read(path, (), columns)[1]
  return records.jsonl(path)


def _id(where: str, row: Any, id_field: str, columns: Sequence[str]) -> str:
  """The row's id; raises ValueError for rows of another form."""
  found = row.get(id_field) if isinstance(row, Mapping) else None
  missing = [c for c in columns if not isinstance(row, Mapping) or c not in row]
  if id_field in missing or 'description' in missing:
    raise ValueError(
      f'{where}: has no {id_field} and description; expected the columns '
      f'{", ".join(columns)}'
    )
  if (
    not isinstance(found, str)
    or not 0 < len(found) <= questions.MAX_ID_CHARS
    or not found.isprintable()
  ):
    raise ValueError(
      f'{where}: {id_field} must be 1 to {questions.MAX_ID_CHARS} printable '
      f'characters, got {found!r:.60}'
    )
  return found


def _text(record: Any, field: str) -> str:
  found = record.get(field) if isinstance(record, Mapping) else None
  if not isinstance(found, str):
    raise ValueError(f'{field} is not text')
  return found


def _number(value: Any) -> int | float | None:
  """The number of its text, as files give it; None for null."""
  if value is None or value == '':
    return None
  try:
    number = float(value)
  except (TypeError, ValueError) as e:
    raise ValueError(f'{ascii(value)[:40]} is not a number') from e
  if not math.isfinite(number):
    raise ValueError(f'{ascii(value)[:40]} is not a number')
  return int(number) if number.is_integer() else number


def _named(value: Any, names: Sequence[str]) -> str:
  """The name of a number of an enumeration; a text is a name."""
  if isinstance(value, str) and not value.isdecimal():
    return value.lower() if len(value) > 1 else value
  number = _number(value) or 0
  known = isinstance(number, int) and 0 <= number < len(names)
  return names[number] if known else names[0]
