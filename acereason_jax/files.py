"""Files and folders that are there whole or not at all.

The content is written to a temporary name next to the path, synced to the disk,
and only then renamed to the path. So after a second writer, a full disk, a kill
or a power cut a reader finds the old file or the new one, never a part. After a
call has returned, it finds the new one. A link at the path is replaced, not
followed.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO

Path = str | os.PathLike

_SCRATCH = 'acereason_jax-'
# Other names below /proc may lead to files on a disk, such as /proc/self/cwd.
_DESCRIPTOR = re.compile(r'/proc/[^/]+/(task/[^/]+/)?fd/[0-9]+')
_CACHE = 'ACEREASON_CACHE'
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def cache_folder() -> str:
  """The folder for what can be made again: $ACEREASON_CACHE or ~/.cache/...."""
  home = os.path.expanduser('~/.cache/acereason_jax')
  return os.environ.get(_CACHE, home)


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes the file whole; text as UTF-8. Raises: OSError, naming `path`."""
  with replacing(path, 'w' if isinstance(content, str) else 'wb') as file:
    file.write(content)


@contextlib.contextmanager
def replacing(path: Path, mode: str = 'w') -> Iterator[IO]:
  """A file to write, mode 'w' or 'wb', that becomes `path` after the block.

  An error in the block removes what was written and leaves `path` as it was; a
  kill leaves a file `.NAME.*.partial`. The last of several writers wins.

  Raises:
    OSError: with the name of `path`, not of the temporary file.
  """
  temporary = _temporary(path, digits=8)
  try:
    with _opened(os.open(temporary, _NEW, 0o666), mode) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException as e:
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    # The error for a full disk has no file name.
    if isinstance(e, OSError) and e.errno and e.filename in (None, temporary):
      e.filename, e.filename2 = os.fspath(path), None
    raise
  sync_folder(os.path.dirname(temporary))


@contextlib.contextmanager
def output(path: Path, mode: str = 'w') -> Iterator[IO]:
  """`replacing` for a path that a user named: it may be a stream.

  /dev/stdout, a pipe or a device is written to as it is.
  """
  if is_stream(path):
    with _opened(path, mode) as file:
      yield file
    return
  with replacing(path, mode) as file:
    yield file


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[str]:
  """A temporary folder that becomes `path` if the block succeeds.

  Raises:
    FileExistsError: `path` exists and is not an empty folder.
  """
  refuse_existing(path)
  temporary = _temporary(path, digits=32)
  os.makedirs(temporary)
  try:
    yield temporary
    os.rename(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path) -> None:
  """Raises FileExistsError: `path` exists and is not an empty folder."""
  if os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)):
    raise FileExistsError(
      f'{path}: already exists and is not empty; remove it or choose '
      'another output directory'
    )


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
  """Holds an exclusive lock, which the kernel drops if the process dies.

  `busy` is printed if another process holds it, before this one waits.
  """
  # Never opens a link, which could lead to another user's file.
  flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
  with os.fdopen(os.open(path, flags, 0o666), 'r+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(busy, file=sys.stderr, flush=True)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def scratch() -> Iterator[str]:
  """A temporary folder. Those that killed processes left are removed first."""
  _remove_abandoned(tempfile.gettempdir())
  while True:
    folder = tempfile.mkdtemp(prefix=_SCRATCH)
    # Another process may remove it as long as it is not locked.
    try:
      descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError:
      continue
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.path.isdir(folder):
      break
    os.close(descriptor)
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)


def is_stream(path: Path) -> bool:
  """Whether a path is a pipe or a device, or a descriptor such as /dev/stdout.

  /dev/stdout is a link to a file if a shell redirects it.
  """
  place = os.path.abspath(path)
  if place.startswith('/dev/') and not place.startswith('/dev/shm/'):
    return True
  if _DESCRIPTOR.fullmatch(place):
    return True
  try:
    mode = os.stat(path).st_mode
  except OSError:
    return False
  return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _remove_abandoned(place: str) -> None:
  """Removes this user's scratch folders that no process holds."""
  for name in os.listdir(place):
    folder = os.path.join(place, name)
    if not name.startswith(_SCRATCH):
      continue
    with contextlib.suppress(OSError):
      descriptor = os.open(folder, _FOLDER)
      try:
        if os.fstat(descriptor).st_uid == os.geteuid():
          fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
          shutil.rmtree(folder, ignore_errors=True)
      finally:
        os.close(descriptor)


def _temporary(path: Path, digits: int) -> str:
  folder, name = os.path.split(os.path.abspath(path))
  tail = f'.{uuid.uuid4().hex[:digits]}.partial'
  # A name may have 255 bytes, and the path's own may have them all.
  head = os.fsencode(name)[: 255 - 1 - len(tail)].decode(errors='ignore')
  return os.path.join(folder, f'.{head}{tail}')


def _opened(file: int | Path, mode: str) -> IO:
  text = {} if 'b' in mode else dict(encoding='utf-8', newline='')
  return open(file, mode, **text)


def sync_folder(folder: str) -> None:
  """Puts the new name on the disk; some file systems cannot be asked to."""
  with contextlib.suppress(OSError):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
