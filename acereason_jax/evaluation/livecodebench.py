"""LiveCodeBench's problems, from the files of code_generation_lite.

`lcb_v5` and `lcb_v6` are the two sets of the papers. The dates that are printed
for the second do not select it: 44 of its 175 problems are older. So it is
defined as a file, and both are checked by their number of problems.

A file is read once: each row's tests go to the store of tasks, and only its
other fields stay. The store also keeps those, by the file's SHA-256, so the
same file loads in seconds the next time.
"""

import collections
import contextlib
import datetime
import functools
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from acereason_jax import files
from acereason_jax.console import terminal
from acereason_jax.data import (
  code_tasks,
  questions,
  records,
  task_store,
  tolerance,
  unpacking,
  untrusted,
)
from acereason_jax.evaluation import values
from acereason_jax.verifiers.programs import stored, tasks

MAX_LINE_BYTES = 512 << 20
# Fields that must be text.
_TEXTS = (
  *('question_id', 'question_content', 'platform', 'contest_date'),
  *('difficulty', 'public_test_cases', 'private_test_cases', 'metadata'),
)
_DATE = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}')
_TESTS = 'all', 'private'
_ID_CHARS = questions.MAX_ID_CHARS
_REASON_CHARS = 200
# What a file is converted to depends on their code: an index of an earlier
# version must not be taken for one of this.
_CONVERTERS = code_tasks, task_store, tolerance, unpacking, untrusted, tasks
_SUFFIX = '.rows.jsonl'
_V5_START, _V5, _V6 = '2024-08-01', 279, 175
_V5_FILES = 'test.jsonl', *(f'test{i}.jsonl' for i in range(2, 6))
_V6_FILE = 'test6.jsonl'
_WHAT = {
  _V5: f'v5 is {_V5_FILES[0]} to {_V5_FILES[-1]} from {_V5_START} on, {_V5}',
  _V6: (
    f'v6 is {_V6_FILE} whole, {_V6}: 44 of its problems are dated 2025-01, so '
    'no window of dates selects it'
  ),
}
_OF_V = {_V5: _V5_FILES, _V6: (_V6_FILE,)}


class _Entry(NamedTuple):
  """A row without its tests.

  id: question_id.
  date: day of the contest, YYYY-MM-DD.
  platform, difficulty: strata.
  question: statement.
  starter: code that a program must begin with; '' for none.
  answer: reference to the stored task; '' if there is none.
  size: bytes of the task's file.
  reason: why there is none.
  """

  id: str
  date: str
  platform: str = ''
  difficulty: str = ''
  question: str = ''
  starter: str = ''
  answer: str = ''
  size: int = 0
  reason: str = ''


def lcb_v5(paths: Sequence[str], tests: str = 'all') -> values.Loaded:
  """The 279 problems of LiveCodeBench v5: test.jsonl to test5.jsonl.

  See `livecodebench`.
  """
  return livecodebench(paths, start=_V5_START, expect=_V5, tests=tests)


def lcb_v6(paths: Sequence[str], tests: str = 'all') -> values.Loaded:
  """The 175 problems of LiveCodeBench v6: test6.jsonl.

  See `livecodebench`.
  """
  return livecodebench(paths, expect=_V6, tests=tests)


def livecodebench(
  paths: Sequence[str],
  start: str = '',
  end: str = '',
  expect: int = 0,
  tests: str = 'all',
) -> values.Loaded:
  """Problems of the days `start` to `end`, both included; '' for no bound.

  With `expect`, there must be so many rows. `tests='private'` leaves out the
  public tests, as the toolkit of AceReason does. Rows that cannot be converted
  are `missing`.

  Raises:
    ValueError: one line; a file cannot be read, an argument is invalid, an id
      occurs twice, or the number of rows is another.
    OSError: the tasks cannot be stored.
  """
  _check_arguments(paths, start, end, tests)
  digests, found = {}, []
  for path in paths:
    digest, entries = _entries(path, tests, start, end)
    name = os.path.basename(os.fspath(path))
    if name in digests:
      raise ValueError(
        f'{path}: two files are named {name}; name each file once'
      )
    digests[name] = digest
    found += [(name, entry) for entry in entries]
  _check_ids(found)
  _check_count(found, expect, list(digests), start or end)
  return values.Loaded(
    tuple(_problem(entry) for _, entry in found if entry.answer),
    digests,
    tuple((entry.id, entry.reason) for _, entry in found if not entry.answer),
  )


def _check_arguments(
  paths: Sequence[str], start: str, end: str, tests: str
) -> None:
  if (
    isinstance(paths, str)
    or not paths
    or not all(isinstance(path, str | os.PathLike) for path in paths)
  ):
    raise ValueError(
      f"paths={paths!r:.80}: expected the files, such as ('{_V6_FILE}',)"
    )
  for name, day in (('start', start), ('end', end)):
    if day and not _is_day(day):
      raise ValueError(f"{name}={day!r:.40}: expected YYYY-MM-DD, or ''")
  if tests not in _TESTS:
    raise ValueError(f'tests={tests!r:.40}: expected one of {_TESTS}')


def _is_day(text: object) -> bool:
  """Whether it is a day, YYYY-MM-DD, so that days sort as their texts."""
  if not isinstance(text, str) or not _DATE.fullmatch(text):
    return False
  try:
    datetime.date.fromisoformat(text)
  except ValueError:
    return False
  return True


def _check_ids(found: Iterable[tuple[str, _Entry]]) -> None:
  first: dict[str, str] = {}
  for name, entry in found:
    if (other := first.get(entry.id)) is not None:
      raise ValueError(
        f'{name}: question_id {entry.id!r:.60} is there twice; remove one'
        if other == name
        else f'{name}: question_id {entry.id!r:.60} is in {other} too; name '
        'files that share no rows'
      )
    first[entry.id] = name


def _check_count(
  found: Sequence[tuple[str, _Entry]],
  expect: int,
  names: Sequence[str],
  windowed: str,
) -> None:
  """Raises ValueError for another number of rows; says what is wrong."""
  if not found:
    window = ' of these days' if windowed else ''
    raise ValueError(f'{", ".join(names)}: no rows{window}; expected some')
  if expect in (0, len(found)):
    return
  months = sorted({entry.date[:7] for _, entry in found})
  count = collections.Counter(name for name, _ in found)
  what = f'expected {expect}'
  if expect in _WHAT:
    what = _WHAT[expect]
    if missing := [n for n in _OF_V[expect] if n not in names]:
      what += f'; not named: {", ".join(missing)}'
    if other := [n for n in names if n not in _OF_V[expect]]:
      what += f'; named, and not of it: {", ".join(other)}'
  rows = ', '.join(f'{name} {count[name]}' for name in names)
  raise ValueError(
    f'got {len(found)} rows of {months[0]}..{months[-1]} ({rows}); {what}'
  )


def _problem(entry: _Entry) -> values.Problem:
  return values.Problem(
    questions.Row(
      entry.id, entry.question, entry.answer, starter=entry.starter
    ),
    {
      'difficulty': entry.difficulty,
      'platform': entry.platform,
      'month': entry.date[:7],
    },
  )


def _entries(
  path: str, tests: str, start: str, end: str
) -> tuple[str, list[_Entry]]:
  """The file's SHA-256 and its rows of some days, whose tests are stored."""
  folder = task_store.made_folder()
  with records.opened(path) as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
    index = os.path.join(folder, _index_name(digest, tests, start, end))
    entries = _known(index)
    if entries is None:
      shown = terminal.printable(os.fspath(path))
      with _alone(index, f'waiting for another process that stores {shown}'):
        # Another process may have done it meanwhile.
        entries = _known(index)
        if entries is None:
          size = os.fstat(file.fileno()).st_size
          print(
            f'storing the tests of {shown} ({size / 1e6:,.0f} MB) in {folder}',
            file=sys.stderr,
            flush=True,
          )
          file.seek(0)
          entries = list(_converted(path, file, tests, start, end))
          _write_index(index, entries)
  return digest, entries


@contextlib.contextmanager
def _alone(index: str, busy: str) -> Iterator[None]:
  """One process at a time, where the file system has locks: to save work."""
  folder, name = os.path.split(index)
  with contextlib.ExitStack() as stack:
    with contextlib.suppress(OSError):
      lock = os.path.join(folder, f'.{name}.lock')
      stack.enter_context(files.locked(lock, busy))
    yield


def _write_index(index: str, entries: Sequence[_Entry]) -> None:
  lines = [json.dumps(value) + '\n' for value in (len(entries), *entries)]
  files.write_atomically(index, ''.join(lines))


def _index_name(digest: str, tests: str, start: str, end: str) -> str:
  """The name of what is known of a file, read with these arguments."""
  key = json.dumps([_form(), digest, tests, start, end])
  return f'{hashlib.sha256(key.encode()).hexdigest()}{_SUFFIX}'


@functools.cache
def _form() -> str:
  """The digest of the code that converts a file."""
  whole = hashlib.sha256()
  for module in (*_CONVERTERS, sys.modules[__name__]):
    whole.update(inspect.getsource(module).encode())
  return whole.hexdigest()


def _known(index: str) -> list[_Entry] | None:
  """The rows in an index; None if it, or a task that it names, is not there."""
  try:
    with open(index, encoding='utf-8') as file:
      count = json.loads(file.readline())
      entries = [_Entry(*json.loads(line)) for line in file]
  except (OSError, ValueError, TypeError):
    return None
  if count != len(entries):
    return None
  kinds = list(map(type, _Entry('', '')))
  for entry in entries:
    if list(map(type, entry)) != kinds:
      return None
    if entry.answer and _size(entry.answer) != entry.size:
      return None
  return entries


def _size(answer: str) -> int:
  """Bytes of the task's file; -1 if there is none."""
  try:
    return os.stat(stored.path_of(stored.digest_of(answer) or '')).st_size
  except (OSError, ValueError):
    return -1


def _converted(
  path: str, file: BinaryIO, tests: str, start: str, end: str
) -> Iterator[_Entry]:
  """Yields the rows of some days; stores their tests."""
  for where, record in records.parsed_lines(path, file, MAX_LINE_BYTES):
    entry = _described(where, record)
    if (start or entry.date) <= entry.date <= (end or entry.date):
      yield _stored(entry, record, tests)
    # The next row is read without this one in memory.
    del record


def _described(where: str, record: Any) -> _Entry:
  """The row's id, date, strata and text."""
  if not isinstance(record, Mapping):
    raise ValueError(f'{where}: expected an object, got {record!r:.60}')
  for field in _TEXTS:
    if not isinstance(record.get(field), str):
      raise ValueError(
        f'{where}: {field} is no text; expected a row of code_generation_lite: '
        f'it has {", ".join(sorted(map(ascii, record)))[:200]}'
      )
  name = record['question_id']
  if not name or len(name) > _ID_CHARS or not name.isprintable():
    raise ValueError(
      f'{where}: question_id must be 1 to {_ID_CHARS} printable characters, '
      f'got {name!r:.60}'
    )
  date = record['contest_date'][:10]
  if not _is_day(date):
    raise ValueError(
      f'{where}: contest_date {record["contest_date"]!r:.60}: expected '
      'YYYY-MM-DDTHH:MM:SS'
    )
  starter = record.get('starter_code')
  return _Entry(
    id=name,
    date=date,
    platform=record['platform'],
    difficulty=record['difficulty'],
    question=record['question_content'],
    starter=starter if isinstance(starter, str) and starter.strip() else '',
  )


def _stored(entry: _Entry, record: Mapping[str, Any], tests: str) -> _Entry:
  """The row with its answer, or the reason why it has none."""
  try:
    task, found, more = code_tasks.livecodebench_parts(
      record['public_test_cases'] if tests == 'all' else '[]',
      record['private_test_cases'],
      record['metadata'],
      record['question_content'],
    )
    answer = task_store.store(task, found, more)
  except ValueError as e:
    return entry._replace(reason=terminal.one_line(str(e), _REASON_CHARS))
  return entry._replace(answer=answer, size=_size(answer))
