"""Code tasks by reference: reads their tests from files, one at a time.

An answer {"tests": "SHA256"} means the file `SHA256.tests.jsonl` of `folder()`:
a header line, which has the fields of a `CodeTask` and the number of tests in
place of the tests, then a line for each test. The answer names no folder, so
digests of data are the same on every host. `data/task_store.py` writes files.

A process checks a file's digest when it first reads the file, and again when
another file has its name. Only offsets of tests stay in memory. No descriptor
of the file is open while a program runs.
"""

import array
import collections
import contextlib
import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from acereason_jax import files
from acereason_jax.verifiers.programs import paths, tasks

# Environment variable with the folder; workers get it too.
VARIABLE = 'ACEREASON_TASKS'
# A confined worker loses its environment after this is imported.
_AT_START = os.environ.get(VARIABLE)
SUFFIX = '.tests.jsonl'
# The header is padded, because it is written after the tests. With its line end
# it has a multiple of these bytes.
HEADER_BYTES = 1 << 10
MAX_HEADER_BYTES = 1 << 20
# A larger input would leave a worker too little memory to judge.
MAX_TEST_BYTES = 128 << 20
MAX_TESTS = 100_000
_SHA256 = re.compile(r'[0-9a-f]{64}')
_REFERENCE_CHARS = 200
_CHUNK_BYTES = 1 << 20
_REMEMBERED = 1024


class Unreadable(ValueError):
  """A stored task cannot be read; no program is to blame."""


class _Known(NamedTuple):
  """A file whose digest was right.

  stamp: device, inode, size and modification time of the file.
  ends: offset of the end of each line, the header's first.
  task: the task.
  """

  stamp: tuple[int, ...]
  ends: 'array.array[int]'
  task: tasks.CodeTask


class _Tests(Sequence):
  """The tests of a file; each is read when it is asked for."""

  def __init__(self, digest: str, kind: Any, count: int):
    self._digest, self._kind, self._count = digest, kind, count

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, number: int) -> tasks.Test:
    number = range(self._count)[number]
    with _opened(self._digest) as (file, known):
      start, end = known.ends[number], known.ends[number + 1]
      line = _read(file, start, end - start)
    return _test(self._digest, number, line, self._kind)


def folder() -> str:
  """The folder of stored tasks: $ACEREASON_TASKS, or `tasks` in the cache."""
  named = os.environ.get(VARIABLE) or _AT_START
  return os.path.abspath(named or os.path.join(files.cache_folder(), 'tasks'))


def environment() -> dict[str, str]:
  """The variables by which another process finds the same folder."""
  return {VARIABLE: folder()}


def path_of(digest: str) -> str:
  """The file of a task.

  Raises:
    ValueError: `digest` is no SHA-256 in hexadecimal, or programs that are
      judged may read the folder.
  """
  if not _SHA256.fullmatch(digest):
    raise ValueError(
      f'{digest!r:.80} names no stored task: expected a SHA-256, 64 digits of '
      '0-9 and a-f'
    )
  place = folder()
  check_hidden(place)
  return os.path.join(place, f'{digest}{SUFFIX}')


@functools.lru_cache(16)
def check_hidden(place: str) -> None:
  """Raises ValueError, one line, if a jail shows the folder to programs."""
  real = os.path.realpath(place)
  for readable in paths.system_paths():
    inside = os.path.realpath(readable)
    if os.path.commonpath([real, inside]) == inside:
      raise ValueError(
        f'{place}: programs that are judged may read {readable}, and so the '
        f'outputs that they must print; set {VARIABLE} to another folder'
      )


def reference(digest: str) -> str:
  """The answer that refers to a stored task."""
  return json.dumps({'tests': digest})


def digest_of(answer: str) -> str | None:
  """The digest in an answer that refers to a stored task; None for others."""
  if len(answer) > _REFERENCE_CHARS:
    return None
  try:
    record = json.loads(answer)
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict) or record.keys() != {'tests'}:
    return None
  return record['tests'] if isinstance(record['tests'], str) else None


def task(digest: str) -> tasks.CodeTask:
  """The task of a file, whose digest is checked; tests are read as needed.

  Raises:
    Unreadable: one line with the remedy; the file is missing or damaged, is no
      task, or the digest cannot be one.
  """
  with _opened(digest) as (_, known):
    return known.task


# By digest, the last used at the end.
_known: collections.OrderedDict[str, _Known] = collections.OrderedDict()


@contextlib.contextmanager
def _opened(digest: str) -> Iterator[tuple[int, _Known]]:
  """The descriptor of a file, and what is known of it."""
  try:
    path = path_of(digest)
  except ValueError as e:
    raise Unreadable(str(e)) from e
  try:
    # A pipe would wait forever.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  except FileNotFoundError as e:
    raise Unreadable(
      f'{path}: there is no such stored task on this host; load the data set '
      f'here, which stores its tasks, or set {VARIABLE} to a folder with them'
    ) from e
  except OSError as e:
    raise Unreadable(f'{path}: {e.strerror}; make it readable') from e
  try:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
      raise Unreadable(f'{path}: no regular file; {_AGAIN}')
    stamp = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    known = _known.get(digest)
    if known is None or known.stamp != stamp:
      known = _learnt(path, digest, file, stamp)
      _known[digest] = known
      if len(_known) > _REMEMBERED:
        _known.popitem(last=False)
    _known.move_to_end(digest)
    yield file, known
  except OSError as e:
    raise Unreadable(f'{path}: {e.strerror}; {_AGAIN}') from e
  finally:
    os.close(file)


_AGAIN = 'remove it and load the data set again, which stores its tasks'


def _learnt(
  path: str, digest: str, file: int, stamp: tuple[int, ...]
) -> _Known:
  """Reads a file once, and checks it.

  Raises:
    Unreadable: it is not what its name says.
  """
  ends, whole = array.array('Q'), hashlib.sha256()
  size = 0
  while chunk := os.read(file, _CHUNK_BYTES):
    whole.update(chunk)
    at = -1
    while (at := chunk.find(b'\n', at + 1)) >= 0:
      ends.append(size + at + 1)
      if len(ends) > MAX_TESTS + 1:
        raise Unreadable(f'{path}: over {MAX_TESTS:,} tests; {_AGAIN}')
    size += len(chunk)
  if (got := whole.hexdigest()) != digest:
    raise Unreadable(f'{path}: damaged, its SHA-256 is {got}; {_AGAIN}')
  try:
    header = json.loads(_read(file, 0, min(ends[0], MAX_HEADER_BYTES)))
    count = header.pop('tests')
    if type(count) is not int or [count + 1, size] != [len(ends), ends[-1]]:
      raise ValueError(f'{len(ends) - 1} whole lines of {count!r:.60} tests')
    found = tasks.task_of(header, _Tests(digest, header.get('kind'), count))
  except (
    *(ValueError, LookupError, TypeError),
    *(AttributeError, RecursionError),
  ) as e:
    raise Unreadable(
      f'{path}: no stored task ({ascii(str(e))[1:-1]:.200}); {_AGAIN}'
    ) from e
  return _Known(stamp, ends, found)


def _read(file: int, start: int, size: int) -> bytes:
  """The bytes of a part of a file; fewer if the file has become shorter."""
  parts, end = [], start + size
  while start < end and (part := os.pread(file, end - start, start)):
    parts.append(part)
    start += len(part)
  return parts[0] if len(parts) == 1 else b''.join(parts)


def _test(digest: str, number: int, line: bytes, kind: Any) -> tasks.Test:
  """A test of its line.

  Raises:
    Unreadable: it is none, or too large.
  """
  try:
    if len(line) > MAX_TEST_BYTES:
      raise ValueError(f'{len(line):,} bytes, more than {MAX_TEST_BYTES:,}')
    return tasks.test_of(json.loads(line), kind)
  except (ValueError, RecursionError) as e:
    raise Unreadable(
      f'test {number + 1} of the stored task {digest} is no test '
      f'({ascii(str(e))[1:-1]:.200}); {_AGAIN}'
    ) from e
