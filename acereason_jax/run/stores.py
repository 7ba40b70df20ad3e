"""Where a journal's bytes are kept: files on a disk, or objects at gs://.

A file `PROCESS-STEP.journal` grows by a record at a time. An object never
grows, so there the records of some seconds become one segment,
`PROCESS-STEP-NUMBER.journal`. Both stores have the same functions, which any
thread may call. A place is owned by one process at a time, which alone changes
what is there.
"""

import contextlib
import errno
import os
import pathlib
import re
import threading
from collections.abc import Iterator
from typing import NamedTuple

from acereason_jax import files, storage
from acereason_jax.console import oserrors

_NAME = re.compile(
  r'(0|[1-9][0-9]*)-(0|-?[1-9][0-9]*)(?:-(0|[1-9][0-9]*))?\.journal'
)
# Refuses links, and does not wait for the reader of a pipe.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# More than the rollouts of a step of any recipe, and less than a host has.
_MOST_BYTES = 4 << 30
_SEGMENT_BYTES = 16 << 20
_MOST_TRIES = 100
_CANNOT_SYNC = errno.EINVAL, errno.ENOTSUP
_GONE = errno.ENOENT, errno.ESTALE


class Place(NamedTuple):
  """The name of a file or a segment, in the order in which they are read.

  step: step of its entries.
  process: process that wrote it.
  number: number of the segment among those of its process; -1 for a file.
  """

  step: int
  process: int
  number: int = -1

  @property
  def name(self) -> str:
    number = '' if self.number < 0 else f'-{self.number}'
    return f'{self.process}-{self.step}{number}.journal'


def _place(name: str) -> Place | None:
  if (match := _NAME.fullmatch(name)) is None:
    return None
  process, step, number = match.groups()
  return Place(int(step), int(process), -1 if number is None else int(number))


class Files:
  """Append-only files in a folder of a disk.

  A kill loses nothing that `append` returned from; a power cut loses what was
  appended after the last `sync`, which `seconds` asks for.
  """

  seconds = 1.0

  def __init__(self, folder: str | os.PathLike, head: bytes, process: int):
    self._folder = pathlib.Path(folder)
    self._folder.mkdir(parents=True, exist_ok=True)
    self._head, self._process = head, process
    # The bytes of whole records in this process's file, by step.
    self._ends: dict[int, int] = {}
    self._file: tuple[int, int] | None = None  # Step and descriptor.
    self._dirty = False
    self._writing, self._syncing = threading.Lock(), threading.Lock()

  def places(self) -> list[Place]:
    found = [(_place(p.name), p) for p in self._folder.iterdir()]
    return [
      place
      for place, path in found
      if place is not None and place.number < 0
      if path.is_file() and not path.is_symlink()
    ]

  def read(self, place: Place) -> bytes | None:
    """The content; None if it is gone."""
    try:
      with os.fdopen(os.open(self._path(place), _READ), 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        return file.read(min(size, _MOST_BYTES))
    except OSError as e:
      if e.errno in _GONE:
        return None
      raise

  def settle(self, place: Place, size: int, end: int) -> None:
    """Ends the file of `size` bytes at `end`, where its whole records do."""
    path = self._path(place)
    with contextlib.suppress(FileNotFoundError):
      if not end:
        path.unlink()
      elif end < size:
        os.truncate(path, end)
    if end and place.process == self._process:
      self._ends[place.step] = end

  def append(self, step: int, record: bytes) -> bool:
    """Keeps a record; returns False, as there is no need to hurry.

    Raises:
      OSError: one line. This record is not kept; later ones may be.
    """
    path = self._path(Place(step, self._process))
    with self._writing:
      if self._file is not None and self._file[0] != step:
        self._close()
      with _told(path, 'an entry was not kept'):
        if self._file is None:
          self._file = step, os.open(path, _WRITE, 0o666)
          files.sync_folder(os.fspath(self._folder))
        self._write(*self._file, record)
    return False

  def sync(self) -> None:
    """Returns when all that was appended is on the disk. Raises: OSError."""
    with self._syncing:
      with self._writing:
        if self._file is None or not self._dirty:
          return
        # A disk may take its time, and nobody waits for it with this lock.
        copy, self._dirty = os.dup(self._file[1]), False
      try:
        self._put_on_disk(copy)
      finally:
        os.close(copy)

  def remove(self, place: Place) -> None:
    with self._writing:
      if self._file is not None and self._file[0] == place.step:
        self._close()
      self._path(place).unlink(missing_ok=True)
      if place.process == self._process:
        self._ends.pop(place.step, None)

  def close(self) -> None:
    with self._writing:
      self._close()

  def _path(self, place: Place) -> pathlib.Path:
    return self._folder / place.name

  def _write(self, step: int, descriptor: int, record: bytes) -> None:
    if not os.fstat(descriptor).st_nlink:
      # The file was deleted; later records in it would be lost.
      raise OSError(errno.ENOENT, 'it was deleted while it was written')
    end = self._ends.get(step, 0)
    data = record if end else self._head + record
    try:
      _write(descriptor, data, end)
    except OSError:
      # A part of a record would hide the records after it. The exception of a
      # signal cuts nothing: it may come after the last byte was written.
      with contextlib.suppress(OSError):
        os.ftruncate(descriptor, end)
      raise
    self._ends[step], self._dirty = end + len(data), True

  def _close(self) -> None:
    if self._file is not None:
      (_, descriptor), self._file = self._file, None
      try:
        if self._dirty:
          self._put_on_disk(descriptor)
      finally:
        self._dirty = False
        os.close(descriptor)

  def _put_on_disk(self, descriptor: int) -> None:
    with _told(self._folder, 'entries may not be on the disk'):
      try:
        os.fdatasync(descriptor)
      except OSError as e:
        if e.errno not in _CANNOT_SYNC:
          raise


class Segments:
  """Objects below a folder at gs://, each whole or not there.

  A kill loses what was appended after the last `sync`, which `seconds` asks
  for, or `append` if the next segment is full.
  """

  seconds = 10.0

  def __init__(self, folder: str, head: bytes, process: int):
    self._folder, self._head, self._process = folder, head, process
    self._next = 0  # The number of the next segment.
    self._waiting: dict[int, list[bytes]] = {}  # Records by step.
    self._bytes = 0
    self._writing, self._syncing = threading.Lock(), threading.Lock()

  def places(self) -> list[Place]:
    found = map(_place, storage.names(self._folder))
    return [p for p in found if p is not None and p.number >= 0]

  def read(self, place: Place) -> bytes | None:
    """The content; None if it is gone."""
    try:
      return storage.read(self._path(place), _MOST_BYTES)
    except ValueError:  # It is larger; so it has no whole record.
      return b''

  def settle(self, place: Place, size: int, end: int) -> None:
    """Removes a segment without any whole record; an object cannot be cut."""
    if not end:
      storage.remove(self._path(place))
    if place.process == self._process:
      self._next = max(self._next, place.number + 1)

  def append(self, step: int, record: bytes) -> bool:
    """Keeps a record for the next `sync`; returns whether that is due."""
    with self._writing:
      self._waiting.setdefault(step, []).append(record)
      self._bytes += len(record)
      return self._bytes >= _SEGMENT_BYTES

  def sync(self) -> None:
    """Returns when all that was appended is stored. Raises: OSError."""
    with self._syncing:
      with self._writing:
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
      for step, records in waiting.items():
        self._create(step, b''.join((self._head, *records)))

  def _create(self, step: int, content: bytes) -> None:
    for _ in range(_MOST_TRIES):
      path = self._path(Place(step, self._process, self._next))
      self._next += 1
      # What is there stays. It may be this segment, of a try whose answer was
      # lost: then it is there twice, which does no harm.
      if storage.create(path, content):
        return
    raise OSError(
      errno.EEXIST,
      f'{path}: {_MOST_TRIES} segments that this run did not write; does '
      'another run write here? wait until it has ended, or use another '
      '--workdir',
    )

  def remove(self, place: Place) -> None:
    storage.remove(self._path(place))

  def close(self) -> None:
    """Nothing is open."""

  def _path(self, place: Place) -> str:
    return storage.join(self._folder, place.name)


def store(
  folder: str | os.PathLike, head: bytes, process: int
) -> Files | Segments:
  """The store of a journal in `folder`, for the files of `process`."""
  if storage.is_remote(folder):
    return Segments(os.fspath(folder), head, process)
  return Files(folder, head, process)


@contextlib.contextmanager
def _told(path: pathlib.Path, what: str) -> Iterator[None]:
  """Makes an OSError name the file and the remedy."""
  try:
    yield
  except OSError as e:
    remedy = oserrors.remedy(e.errno) or 'look at the disk'
    raise OSError(
      e.errno,
      f'{path}: {what}: {e.strerror}; {remedy} and start the same command '
      'again: it goes on from those that were kept',
    ) from e


def _write(descriptor: int, data: bytes, offset: int) -> None:
  """Writes all of `data`: if space runs out, the system first writes a part."""
  view = memoryview(data)
  while view:
    written = os.pwrite(descriptor, view, offset)
    view, offset = view[written:], offset + written
