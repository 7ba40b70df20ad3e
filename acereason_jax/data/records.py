"""Rows of other people's files as records, within bounds of time and memory.

A file may be damaged, of another kind, or made to harm: it is opened only if
it is a regular file, and nothing is read beyond the limits below.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from acereason_jax import hub

# A code task is one line with all its tests; the largest known have about ten
# million characters. A line takes up to 25 times its size when parsed.
MAX_LINE_BYTES = 128 << 20
MAX_FILE_BYTES = 8 << 30
_REASON_CHARS = 200

# The first bytes of files of other kinds, their names, and the remedy.
_OTHERS = (
  (b'PAR1', 'Parquet', 'read it with acereason_jax.data.sources:parquet'),
  (b'\x1f\x8b', 'gzip', 'unpack it: gunzip'),
  (b'\x28\xb5\x2f\xfd', 'zstd', 'unpack it: unzstd'),
  (b'BZh', 'bzip2', 'unpack it: bunzip2'),
  (b'\xfd7zXZ', 'xz', 'unpack it: unxz'),
  (b'PK\x03\x04', 'zip', 'unpack it: unzip'),
  (b'\xff\xfe', 'UTF-16', 'save it as UTF-8'),
  (b'\xfe\xff', 'UTF-16', 'save it as UTF-8'),
  (b'ARROW1', 'Arrow', 'write it as Parquet or JSON lines'),
  (b'\0', 'binary', 'was its download cut off?'),
)
_BOM = b'\xef\xbb\xbf'
_LFS = b'version https://git-lfs'
_A_FILE = 'expected a file; save what it gives to one'
_KINDS = (
  (stat.S_ISDIR, 'a directory'),
  (stat.S_ISFIFO, 'a pipe'),
  (stat.S_ISSOCK, 'a socket'),
  (stat.S_ISCHR, 'a device'),
  (stat.S_ISBLK, 'a device'),
)


@contextlib.contextmanager
def opened(
  path: str | os.PathLike, most_bytes: int | None = MAX_FILE_BYTES
) -> Iterator[BinaryIO]:
  """The file, open for reading; that of a path with hf:// is fetched first.

  Raises:
    ValueError: one line; the file cannot be opened, is not regular, or has more
      bytes.
  """
  path = hub.local(path, most_bytes)
  try:
    # A pipe without a writer, for example, would wait forever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags)
  except OSError as e:
    raise ValueError(_unopened(path, e)) from e
  about = os.fstat(descriptor)
  if not stat.S_ISREG(about.st_mode):
    os.close(descriptor)
    raise ValueError(f'{path}: {_kind(about)}; {_A_FILE}')
  with open(descriptor, 'rb') as file:
    if most_bytes is not None and about.st_size > most_bytes:
      raise ValueError(
        f'{path}: {about.st_size:,} bytes, more than {most_bytes:,}; '
        'split it, or leave out columns that nothing reads'
      )
    yield file


def _kind(about: os.stat_result) -> str:
  kinds = (name for test, name in _KINDS if test(about.st_mode))
  return next(kinds, 'no regular file')


def _unopened(path: str | os.PathLike, error: OSError) -> str:
  """The reason in one line."""
  with contextlib.suppress(OSError):
    about = os.stat(path)
    if stat.S_ISSOCK(about.st_mode):  # It cannot be opened at all.
      return f'{path}: a socket; {_A_FILE}'
  if isinstance(error, FileNotFoundError) and os.path.islink(path):
    target = os.readlink(path)
    return (
      f'{path}: a link to {target!r:.200}, which is not there; put the file '
      'there, or name another'
    )
  return f'{path}: cannot be read: {error.strerror}; give a file of rows'


def jsonl(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
  """Yields ('path:line', parsed line); numbers stay text, as written.

  Raises:
    ValueError: one line, naming path:line where there is one.
  """
  with opened(path) as file:
    yield from parsed_lines(path, file)


def parsed_lines(
  path: str | os.PathLike,
  file: BinaryIO,
  most_bytes: int = MAX_LINE_BYTES,
  numbers: bool = False,
) -> Iterator[tuple[str, Any]]:
  """`jsonl` of a file that is open, with lines of at most so many bytes.

  With `numbers` they are no text, and of equal keys the last counts: values of
  a language whose keys are not only texts have some.
  """
  number = 0
  while line := file.readline(most_bytes + 1):
    number += 1
    if number == 1:
      _check_kind(path, line)
      line = line.removeprefix(_BOM)
    where = f'{path}:{number}'
    if len(line) > most_bytes:
      raise ValueError(
        f'{where}: longer than {most_bytes:,} bytes; expected JSON lines: one '
        'object a line'
      )
    if line and not line.isspace():
      record = _parsed(where, line, numbers)
      # Lines may be large: nothing is kept while the next one is read.
      del line
      yield where, record
      del record


def array(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
  """Yields ('path[i]', element) of a file that is one JSON array, i from 0.

  The whole file is parsed, so it may be as long as one line of `jsonl`.

  Raises:
    ValueError: one line naming path.
  """
  with opened(path, MAX_LINE_BYTES) as file:
    content = file.read(MAX_LINE_BYTES).removeprefix(_BOM)
  found = _parsed(os.fspath(path), content)
  if not isinstance(found, list):
    raise ValueError(
      f'{path}: expected a JSON array of objects, got {found!r:.60}'
    )
  for number, element in enumerate(found):
    yield f'{path}[{number}]', element


def _check_kind(path: str | os.PathLike, line: bytes) -> None:
  for start, name, remedy in _OTHERS:
    if line.startswith(start):
      raise ValueError(
        f'{path}:1: expected JSON lines, and this is a {name} file; {remedy}'
      )
  if line.startswith(_LFS):
    raise ValueError(
      f'{path}:1: expected JSON lines, and this is a pointer of Git LFS; fetch '
      'the file: git lfs pull'
    )


def _parsed(where: str, line: bytes, numbers: bool = False) -> Any:
  as_text = dict(parse_int=str, parse_float=str, object_pairs_hook=_object)
  try:
    return json.loads(line.decode(), **({} if numbers else as_text))
  except RecursionError as e:
    raise ValueError(f'{where}: nested too deep; expected a flat object') from e
  except ValueError as e:
    remedy = _remedy(where, line)
    raise ValueError(
      f'{where}: not one JSON object ({_reason(e)}); {remedy}'
    ) from e


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Refuses repeated keys: readers of JSON differ on which value counts."""
  if len(found := dict(pairs)) == len(pairs):
    return found
  seen: set[str] = set()
  for key, _ in pairs:
    if key in seen:
      raise ValueError(f'the key {key!r:.60} stands twice')
    seen.add(key)
  return found


def _reason(error: ValueError) -> str:
  if isinstance(error, UnicodeDecodeError):
    return f'byte {error.start + 1} is not utf-8'
  # json's message shows the text at the error, which is the user's.
  return ' '.join(str(error).split())[:_REASON_CHARS]


def _remedy(where: str, line: bytes) -> str:
  text = line.strip()
  if where.endswith(':1') and text.startswith(b'['):
    return "expected one object a line: rewrite the array with jq -c '.[]'"
  if where.endswith(':1') and text == b'{':
    return 'expected one object a line: rewrite the objects with jq -c .'
  return 'expected one object a line: correct it or remove it'
