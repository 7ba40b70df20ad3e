"""Finished rollouts and their verdicts on disk, so a killed step can resume.

There is one append-only file for each process and step,
`<process>-<step>.journal`. A record is read back bit for bit, or not at all;
then its rollout is decoded and judged again. Numbers are little-endian.

    file    8 bytes of magic, version (u32), SHA-256 of the fingerprint; records
    record  bytes of JSON (u64), bytes of numbers (u64), CRC-32 of all else in
            the record (u32), JSON, numbers
    numbers of a verdict: seconds (float64); of a rollout: entropy (float64),
            tokens (int32), logp and full_logp (float32)
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import re
import socket
import stat
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.console import oserrors

_MAGIC, _VERSION = b'rollouts', 1
_HEAD = struct.Struct('<8sI32s')
_SIZES = struct.Struct('<QQ')
_CRC = struct.Struct('<I')
_NUMBER = struct.Struct('<d')
_NAME = re.compile(r'(0|[1-9][0-9]*)-(0|-?[1-9][0-9]*)\.journal')
_ARRAYS = dict(tokens='int32', logp='float32', full_logp='float32')
# Refuses links, and does not wait for the reader of a pipe.
_NO_DETOUR = os.O_NOFOLLOW | os.O_NONBLOCK
_NO_LOCKS = errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK


class Key(NamedTuple):
  """The rollout that an entry is about.

  phase: purpose of the rollout, such as 'train' or 'heldout'.
  step: step that draws the rollout.
  prompt_id: id of its prompt.
  index: index among the prompt's rollouts, from 0.
  """

  phase: str
  step: int
  prompt_id: str
  index: int


class Entry(NamedTuple):
  """The known results of a key.

  rollout: rollout; None if it is not finished, or was lost.
  verdict: verdict; None if there is none. It may exist without its rollout.
  """

  rollout: types.Rollout | None = None
  verdict: types.Verdict | None = None


class Journal:
  """Context manager: the entries of the steps since the last checkpoint.

  When it is opened, `found` holds everything that all processes of the last run
  left in `folder`, read into memory. `notes` lists parts that were damaged,
  torn or of another `fingerprint`. This process's files are cut there or
  removed; files of others are only read. If a key was written twice, the first
  rollout counts (a draw depends only on its key, so they are equal) and the
  last verdict. The order is the order of writing and, between files, that of
  processes.

  Several processes share `folder`. All of them must have opened it before one
  of them writes; otherwise one may find more than another.

  A kill loses nothing that a call returned from. A lost host or a power cut
  loses records that its system had not yet written to the disk. Any thread may
  write.

  Raises:
    OSError: one line; another run writes this process's files.
  """

  def __init__(self, folder: str | os.PathLike, fingerprint: str, process: int):
    self.folder = pathlib.Path(folder)
    self.found: Mapping[Key, Entry] = {}
    self.notes: list[str] = []
    self._process = process
    digest = hashlib.sha256(fingerprint.encode('utf-8', 'surrogatepass'))
    self._head = _HEAD.pack(_MAGIC, _VERSION, digest.digest())
    # The bytes of whole records in this process's file, by step.
    self._ends: dict[int, int] = {}
    self._file: tuple[int, int] | None = None  # Step and descriptor.
    self._writing = threading.Lock()
    self._stack: contextlib.ExitStack | None = None

  def __enter__(self) -> 'Journal':
    self.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
      lock = self.folder / f'{self._process}.lock'
      self.notes += stack.enter_context(locked(lock))
      self.found = self._read()
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exc) -> None:
    with self._writing:
      self._close()
      self._stack.close()
      self._stack = None

  def rollout(self, phase: str, step: int, rollout: types.Rollout) -> None:
    """Keeps a finished rollout.

    Raises:
      ValueError: arrays whose dtypes or shapes differ from `types.Rollout`.
      OSError: one line. This rollout is not kept; those before it are, and
        those after it will be.
    """
    key = Key(phase, int(step), rollout.prompt_id, int(rollout.index))
    self._append(key.step, _rollout_record(key, rollout))

  def verdict(
    self,
    phase: str,
    step: int,
    prompt_id: str,
    index: int,
    verdict: types.Verdict,
  ) -> None:
    """Keeps a verdict. Raises: OSError, as `rollout` does."""
    key = Key(phase, int(step), prompt_id, int(index))
    head = dict(key=key, status=verdict.status, detail=verdict.detail)
    record = _record(head, _NUMBER.pack(verdict.seconds))
    self._append(key.step, record)

  def forget(self, before_step: int) -> None:
    """Drops the entries of earlier steps, on disk and in `found`.

    Call it when a checkpoint of `before_step` is on disk. Process 0 also
    removes other processes' files, because a run of fewer processes has no
    other process to do it.
    """
    with self._writing:
      if self._file is not None and self._file[0] < before_step:
        self._close()
      for step, process, path in _files(self.folder):
        if step < before_step and self._process in (0, process):
          path.unlink(missing_ok=True)
      self._ends = {s: n for s, n in self._ends.items() if s >= before_step}
      self.found = {
        k: e for k, e in self.found.items() if k.step >= before_step
      }

  def _read(self) -> dict[Key, Entry]:
    """All entries; repairs this process's files and takes notes."""
    found: dict[Key, Entry] = {}
    for step, process, path in sorted(_files(self.folder)):
      mine = process == self._process
      try:
        records, end, problem = _read_file(path, self._head)
        if mine and problem:
          os.truncate(path, end) if end else path.unlink()
      except FileNotFoundError:
        continue  # Another process forgot it meanwhile.
      if problem:
        done = 'removed' if mine else 'not used'
        if end:
          done = 'cut' if mine else 'read no further'
          done += f' after {len(records):,} whole records'
        self.notes.append(f'{path}: {problem}: {done}')
      if mine and end:
        self._ends[step] = end
      for key, value in records:
        entry = found.get(key, Entry())
        if isinstance(value, types.Verdict):
          found[key] = entry._replace(verdict=value)
        elif entry.rollout is None:
          found[key] = entry._replace(rollout=value)
    return found

  def _append(self, step: int, record: bytes) -> None:
    path = self.folder / f'{self._process}-{step}.journal'
    with self._writing, _one_line(path):
      if self._stack is None:
        raise ValueError(f'{path}: written to while its journal is not open')
      if self._file is None or self._file[0] != step:
        self._close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | _NO_DETOUR
        self._file = step, os.open(path, flags, 0o666)
      if not os.fstat(self._file[1]).st_nlink:
        # The file was deleted; later records in it would be lost.
        raise OSError(errno.ENOENT, 'it was deleted while it was written')
      end = self._ends.get(step, 0)
      data = record if end else self._head + record
      try:
        _write(self._file[1], data, end)
      except BaseException:
        # A part of a record would hide the records after it.
        with contextlib.suppress(OSError):
          os.ftruncate(self._file[1], end)
        raise
      self._ends[step] = end + len(data)

  def _close(self) -> None:
    if self._file is not None:
      (_, descriptor), self._file = self._file, None
      # If a network disk loses the record this late, it is decoded again.
      with contextlib.suppress(OSError):
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[list[str]]:
  """Locks `path` for this process and writes the process's id into it.

  Yields notes for the user: a file system may have no locks.

  Raises:
    OSError: one line; another process holds the lock, or `path` is a link or
      not a regular file. Through a link another file would be overwritten.
  """
  notes = []
  with _own_file(path) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      other = file.read(300) or 'another process'
      raise OSError(
        f'{path}: {other} is a run that writes here; wait until it has ended, '
        'or use another --workdir'
      ) from None
    except OSError as e:
      if e.errno not in _NO_LOCKS:
        raise
      notes.append(
        f'{path}: no locks on this file system ({e.strerror}): make sure that '
        'no two runs use this folder'
      )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    yield notes


def _own_file(path: pathlib.Path) -> IO[str]:
  """The file `path`, created if it is missing; links are refused."""
  flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | _NO_DETOUR
  try:
    file = os.fdopen(os.open(path, flags, 0o666), 'a+', errors='replace')
  except OSError as e:
    if path.is_symlink() or (path.exists() and not path.is_file()):
      raise _no_file(path) from e
    raise
  found = os.fstat(file.fileno())
  if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
    file.close()
    raise _no_file(path)
  return file


def _no_file(path: pathlib.Path) -> OSError:
  return OSError(
    f'{path}: a link, or no regular file; expected a file that this run makes: '
    'remove it, or use another --workdir'
  )


@contextlib.contextmanager
def _one_line(path: pathlib.Path) -> Iterator[None]:
  """Makes an OSError name the file and the remedy."""
  try:
    yield
  except OSError as e:
    remedy = oserrors.remedy(e.errno) or 'look at the disk'
    raise OSError(
      e.errno,
      f'{path}: an entry was not kept: {e.strerror}; {remedy} and start the '
      'same command again: it goes on from those that were kept',
    ) from e


def _files(folder: pathlib.Path) -> Iterator[tuple[int, int, pathlib.Path]]:
  """(step, process, path) of every journal's file."""
  for path in folder.iterdir():
    if (match := _NAME.fullmatch(path.name)) and _is_own(path):
      process, step = match.groups()
      yield int(step), int(process), path


def _is_own(path: pathlib.Path) -> bool:
  return path.is_file() and not path.is_symlink()


def _write(descriptor: int, data: bytes, offset: int) -> None:
  """Writes all of `data`: if space runs out, the system first writes a part."""
  view = memoryview(data)
  while view:
    written = os.pwrite(descriptor, view, offset)
    view, offset = view[written:], offset + written


def _record(head: Mapping, numbers: bytes) -> bytes:
  # Not escaped, because two lone surrogates would be read back as one letter.
  text = json.dumps(head, ensure_ascii=False).encode('utf-8', 'surrogatepass')
  sizes = _SIZES.pack(len(text), len(numbers))
  crc = _CRC.pack(_checksum(sizes, text, numbers))
  return b''.join((sizes, crc, text, numbers))


def _checksum(*parts: bytes) -> int:
  crc = 0
  for part in parts:
    crc = zlib.crc32(part, crc)
  return crc


def _rollout_record(key: Key, rollout: types.Rollout) -> bytes:
  numbers = [_NUMBER.pack(rollout.entropy)]
  shape = rollout.tokens.shape[:1]
  for name, dtype in _ARRAYS.items():
    array = getattr(rollout, name)
    if array.dtype != dtype or array.shape != shape:
      raise ValueError(
        f'rollout {key.prompt_id!r}, {key.index}: {name} is {array.dtype} '
        f'{array.shape}, expected {dtype} [R]; give what types.Rollout says'
      )
    numbers.append(array.astype(array.dtype.newbyteorder('<')).tobytes())
  head = dict(
    key=key,
    stop=rollout.stop,
    forced=[int(place) for place in rollout.forced],
    text=rollout.text,
    detail=rollout.detail,
  )
  return _record(head, b''.join(numbers))


def _read_file(
  path: pathlib.Path, head: bytes
) -> tuple[list[tuple[Key, types.Rollout | types.Verdict]], int, str]:
  """(whole records, the byte where they end, what is wrong there or '').

  Nothing larger than the file is read, whatever sizes it names.
  """
  records = []
  with path.open('rb') as file:
    size = os.fstat(file.fileno()).st_size
    if (start := file.read(len(head))) != head:
      if head.startswith(start):
        return [], 0, 'torn before its first record'
      return [], 0, 'of another configuration, data or version, or damaged'
    while (end := file.tell()) < size:
      prefix = file.read(_SIZES.size + _CRC.size)
      if len(prefix) < _SIZES.size + _CRC.size:
        return records, end, 'ends in a torn record'
      of_text, of_numbers = _SIZES.unpack_from(prefix)
      if of_text + of_numbers > size - file.tell():
        return records, end, 'ends in a torn record'
      text, numbers = file.read(of_text), file.read(of_numbers)
      crc = _checksum(prefix[: _SIZES.size], text, numbers)
      if prefix[_SIZES.size :] != _CRC.pack(crc):
        return records, end, 'a damaged record'
      try:
        records.append(_parse(text, numbers))
      except (ValueError, RecursionError):
        return records, end, 'a record of something else'
  return records, end, ''


def _parse(
  text: bytes, numbers: bytes
) -> tuple[Key, types.Rollout | types.Verdict]:
  """Raises ValueError or RecursionError for a record of another format."""
  match json.loads(text.decode('utf-8', 'surrogatepass')):
    case {
      'key': [str(phase), int(step), str(prompt_id), int(index)],
      'status': str(status),
      'detail': str(detail),
    } if len(numbers) == _NUMBER.size:
      (seconds,) = _NUMBER.unpack(numbers)
      key = Key(phase, step, prompt_id, index)
      return key, types.Verdict(status, detail, seconds)
    case {
      'key': [str(phase), int(step), str(prompt_id), int(index)],
      'stop': str(stop),
      'forced': [int(first), int(last)],
      'text': str(response),
      'detail': str(detail),
    } if len(numbers) % (4 * len(_ARRAYS)) == _NUMBER.size:
      (entropy,) = _NUMBER.unpack_from(numbers)
      words = np.frombuffer(numbers, np.uint32)[_NUMBER.size // 4 :]
      arrays = {
        name: part.view(np.dtype(dtype).newbyteorder('<')).astype(dtype)
        for part, (name, dtype) in zip(np.split(words, 3), _ARRAYS.items())
      }
      return Key(phase, step, prompt_id, index), types.Rollout(
        prompt_id=prompt_id,
        index=index,
        **arrays,
        stop=stop,
        text=response,
        entropy=entropy,
        forced=(first, last),
        detail=detail,
      )
  raise ValueError('neither a rollout nor a verdict')
