"""Stores code tasks as files that answers refer to; `stored` reads them.

A row with such a reference is small, whatever its tests are: use it for tasks
whose JSON would be megabytes in every prompt and every request to a judge.

    task = code_tasks.codecontests(row)
    answer = task_store.store(task, task.pop('tests'))
"""

import contextlib
import functools
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from acereason_jax import files
from acereason_jax.verifiers.programs import jail, stored, tasks

# A program that prints more is wrong.
_OUTPUT_BYTES = jail.Limits(1, 1, 1).output_bytes
_PARTIAL = '.partial'
# Room in the header for the number of tests, and for fields that come later.
_MORE_BYTES = 256
# No task takes as long to write.
_ABANDONED_SECONDS = 86_400.0


def store(
  task: Mapping[str, Any],
  tests: Iterable[Mapping[str, Any]],
  more: Callable[[], Mapping[str, Any]] | None = None,
) -> str:
  """Writes a task's file; returns the answer that refers to it.

  `task` has the fields of a `CodeTask`'s JSON form without tests; `more`
  returns those that are known only after the last test. `tests` are in JSON
  form too, and only one of them is in memory. The file is named by its content,
  so any number of processes and hosts may store the same task at once. A
  damaged file is replaced.

  Raises:
    ValueError: one line; a field or a test is invalid or too large, or programs
      that are judged could read the folder.
    OSError: the file cannot be written.
  """
  folder = made_folder()
  try:
    return stored.reference(_written(folder, task, tests, more))
  except OSError as e:
    raise _unwritten(folder, e) from e


def _written(
  folder: str,
  task: Mapping[str, Any],
  tests: Iterable[Mapping[str, Any]],
  more: Callable[[], Mapping[str, Any]] | None,
) -> str:
  """Writes a task's file; returns its digest."""
  part = os.path.join(folder, f'.{uuid.uuid4().hex}{_PARTIAL}')
  try:
    with open(part, 'x+b') as file:
      room = _room(task)
      file.seek(room)
      count = _write_tests(file, tests, task.get('kind'))
      fields = dict(task) | dict(more() if more else {})
      file.seek(0)
      file.write(_header(fields, count, room))
      file.flush()
      digest = _digest(file)
      path = stored.path_of(digest)
      if not _is_there(path, digest):
        os.fsync(file.fileno())
        os.replace(part, path)
        files.sync_folder(folder)
    return digest
  finally:
    with contextlib.suppress(OSError):
      os.unlink(part)


def _unwritten(folder: str, error: OSError) -> OSError:
  return OSError(
    f'{folder}: a task cannot be stored ({error.strerror}); make room there, '
    f'or set {stored.VARIABLE} to a folder that can be written',
  )


def made_folder() -> str:
  """The folder of stored tasks, which is made if need be.

  Raises:
    ValueError: one line; programs that are judged could read it.
    OSError: it cannot be made.
  """
  folder = stored.folder()
  stored.check_hidden(folder)
  # Others need not see what programs must print.
  try:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _sweep(folder)
  except OSError as e:
    raise _unwritten(folder, e) from e
  return folder


def _write_tests(
  file: IO[bytes], tests: Iterable[Mapping[str, Any]], kind: Any
) -> int:
  """Writes a line for each test; returns their number."""
  number = 0
  for number, test in enumerate(tests, 1):
    if number > stored.MAX_TESTS:
      raise ValueError(f'over {stored.MAX_TESTS:,} tests; leave some out')
    expected = tasks.test_of(test, kind).expected
    # Only the test's own keys are sorted: programs see the order of others.
    test = dict(sorted(test.items()))
    line = json.dumps(test, separators=(',', ':'), allow_nan=False)
    if len(line) > stored.MAX_TEST_BYTES - 1:
      raise ValueError(
        f'test {number} has {len(line):,} bytes, at most '
        f'{stored.MAX_TEST_BYTES - 1:,} are judged; leave it out'
      )
    if isinstance(expected, str) and len(expected) > _OUTPUT_BYTES:
      raise ValueError(
        f'test {number} expects {len(expected):,} characters, and programs may '
        f'print {_OUTPUT_BYTES:,} bytes; leave it out'
      )
    file.write(line.encode() + b'\n')
  if not number:
    raise ValueError('a code task without tests: nothing could be wrong')
  return number


def _room(fields: Mapping[str, Any]) -> int:
  """Bytes to leave for the header."""
  size = len(json.dumps(dict(fields))) + _MORE_BYTES
  room = -(-size // stored.HEADER_BYTES) * stored.HEADER_BYTES
  if room > stored.MAX_HEADER_BYTES:
    raise ValueError(
      f'the fields of a code task besides its tests have {size:,} bytes, more '
      f'than {stored.MAX_HEADER_BYTES:,}; shorten them'
    )
  return room


def _header(fields: Mapping[str, Any], count: int, room: int) -> bytes:
  """The header's line, padded."""
  tasks.task_of(fields, ())
  text = json.dumps(dict(fields) | {'tests': count}, sort_keys=True)
  if len(text) > room - 1:
    raise ValueError(
      f'the last fields of a code task have over {_MORE_BYTES} bytes; give '
      'them with the others'
    )
  return text.ljust(room - 1).encode() + b'\n'


def _is_there(path: str, digest: str) -> bool:
  """Whether the file is there and whole."""
  try:
    with open(path, 'rb') as file:
      return _digest(file) == digest
  except OSError:
    return False


def _digest(file: IO[bytes]) -> str:
  file.seek(0)
  return hashlib.file_digest(file, 'sha256').hexdigest()


@functools.cache
def _sweep(folder: str) -> None:
  """Removes what killed processes left, once in a process."""
  for entry in os.scandir(folder):
    if entry.name.startswith('.') and entry.name.endswith(_PARTIAL):
      # Another process may remove it too, and the folder may be read-only.
      with contextlib.suppress(OSError):
        if time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
          os.unlink(entry.path)
