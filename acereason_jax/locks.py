"""One run at a time writes in a place: locks on a disk, leases in a bucket.

A disk's lock ends with its process. A bucket has none: there the holder writes
an object anew every ten seconds, and whoever finds it unchanged for half a
minute takes it over. Both say which process the holder is.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any

from acereason_jax import storage

_NO_LOCKS = errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK
# Refuses links, and does not wait for the reader of a pipe.
_NO_DETOUR = os.O_NOFOLLOW | os.O_NONBLOCK
_MOST_BYTES = 64 << 10
# Seconds between two signs of life of a holder; and looks of a taker, one
# every _LOOK seconds, that must find none. A look that the store delays does
# not count: the holder may have met the same delay.
_REFRESH, _LOOK, _LOOKS = 10.0, 5.0, 6


@contextlib.contextmanager
def locked(path: str | os.PathLike, say: Callable[[str], None]) -> Iterator:
  """Holds the lock at `path`, whose folder exists, until the block ends.

  `say` is given notes for the user: that a file system has no locks, or that
  this waits. If a bucket's lock is lost, the process ends at once, status 1,
  with one line: another run writes there.

  Raises:
    OSError: one line; another process holds the lock, or `path` is a link or
      not a regular file. Through a link another file would be overwritten.
  """
  hold = _leased if storage.is_remote(path) else _flocked
  with hold(path, say):
    yield


def of_process(folder: str | os.PathLike, process: int) -> str:
  """The path of the lock that a process of a run has in the run's folder."""
  return storage.join(folder, f'{process}.lock')


def held(path: str | os.PathLike) -> bool | None:
  """Whether a living process holds the lock at `path`; None: it is unknown.

  Nothing is taken: a lock that is tried is held for a moment, in which a run
  could not start. The process that wrote the file last is looked for instead.
  It is unknown of another host, of a lock on a disk that is not there or was
  written by an older version, of a copy while the holder lives, and while the
  lock is being written.
  """
  remote = storage.is_remote(path)
  try:
    found = storage.read(path, _MOST_BYTES)
    inode = None if remote or found is None else os.stat(path).st_ino
  except (OSError, ValueError):
    return None
  if found is None and remote:
    return False  # Its holder removed it.
  other = _parsed(found)
  lives = _lives(other)
  # The process may hold the lock that this is a copy of.
  return None if lives and other.get('inode') != inode else lives


@contextlib.contextmanager
def _flocked(path: str | os.PathLike, say: Callable[[str], None]) -> Iterator:
  path = pathlib.Path(path)
  with _own_file(path) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      other = _parsed(file.read(_MOST_BYTES).encode())
      raise _taken(path, _name(other)) from None
    except OSError as e:
      if e.errno not in _NO_LOCKS:
        raise
      say(
        f'{path}: no locks on this file system ({e.strerror}): make sure that '
        'no two runs use this folder'
      )
    file.truncate(0)
    inode = os.fstat(file.fileno()).st_ino
    file.write(json.dumps(_this_process() | dict(inode=inode)))
    file.flush()
    yield


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


def _taken(path: str | os.PathLike, other: str) -> OSError:
  return OSError(
    f'{path}: {other} is a run that writes here; wait until it has ended, or '
    'use another --workdir'
  )


@contextlib.contextmanager
def _leased(path: str, say: Callable[[str], None]) -> Iterator:
  owner = _this_process() | {'id': uuid.uuid4().hex}
  lease = _Lease(path, owner, _take(path, owner, say))
  over = threading.Event()
  keeper = threading.Thread(target=lease.keep, args=(over,), daemon=True)
  keeper.start()
  try:
    yield
  finally:
    over.set()
    keeper.join(_REFRESH)
    # A taker waits for half a minute if this is not done: it asks nothing more
    # of a store that is away.
    if not keeper.is_alive():
      with contextlib.suppress(OSError):
        storage.replace(path, None, lease.generation)


class _Lease:
  """A lock's object while this process holds it; `generation` is its newest."""

  def __init__(self, path: str, owner: dict[str, Any], generation: bytes):
    self._path, self._owner, self.generation = path, owner, generation
    self._times = 0

  def keep(self, over: threading.Event) -> None:
    """Refreshes it until `over`; ends the process if it is another's."""
    while not over.wait(_REFRESH):
      self._times += 1
      # A store that cannot be reached is for others to tell: this holds on.
      with contextlib.suppress(OSError):
        if (lost := self._refresh()) is not None:
          sys.stderr.write(f'error: {self._path}: {lost}\n')
          sys.stderr.flush()
          os._exit(1)

  def _refresh(self) -> str | None:
    """Writes the object anew; tells who else has it."""
    content = _content(self._owner, self._times)
    new = storage.replace(self._path, content, self.generation)
    if new is None:
      # It may be this very write, whose answer was lost.
      found, new = _found(self._path)
      if found is None:
        return 'it was deleted while the run used it; put the folder back'
      if found != content:
        return (
          f'{_name(_parsed(found))} took this run over, because the store '
          'had no sign of life from it; go on with one of the two'
        )
    self.generation = new
    return None


def _take(
  path: str, owner: dict[str, Any], say: Callable[[str], None]
) -> bytes:
  """The generation of a lock's object that names `owner`."""
  content = _content(owner, 0)
  held, looks, waits = None, 0, False
  while True:
    began = time.monotonic()
    found, generation = _found(path)
    slow = time.monotonic() - began > _LOOK
    if found == content:
      return generation
    other = _parsed(found)
    lives = found is not None and _lives(other)
    if lives or (waits and found is not None and held != generation):
      raise _taken(path, _name(other))
    if lives is False or looks >= _LOOKS:
      new = storage.replace(path, content, generation)
      if new is not None:
        return new
    elif not waits:
      waits = True
      say(
        f'{path}: {_name(other)} was a run that writes here; waiting '
        f'{_LOOK * _LOOKS:.0f} seconds for a sign of life from it'
      )
      held = generation
    looks = 0 if slow else looks + 1
    time.sleep(_LOOK if waits else 0)


def _found(path: str) -> tuple[bytes | None, bytes]:
  """(content, generation) of a lock's object. Raises: OSError, one line."""
  try:
    return storage.read_at(path, _MOST_BYTES)
  except ValueError as e:
    raise OSError(
      errno.EFBIG, f'{path}: not the lock of a run; remove it'
    ) from e


def _content(owner: dict[str, Any], times: int) -> bytes:
  return json.dumps(owner | {'times': times}).encode()


def _this_process() -> dict[str, Any]:
  """What tells a process from all others, and whether it still runs.

  What a host does not tell is None, such as all of /proc on a Mac.
  """
  return dict(
    host=socket.gethostname(),
    boot=_text('/proc/sys/kernel/random/boot_id'),
    namespace=_namespace(),
    pid=os.getpid(),
    began=_began(os.getpid()),
  )


def _text(path: str) -> str | None:
  try:
    return pathlib.Path(path).read_text(errors='replace').strip()
  except OSError:
    return None


def _namespace() -> str | None:
  """What tells processes that have the same number from each other."""
  try:
    return os.readlink('/proc/self/ns/pid')
  except OSError:
    return None


def _began(pid: int) -> str | None:
  """When a process of this host began, in ticks; None: it does not run."""
  if (text := _text(f'/proc/{pid}/stat')) is None:
    return None
  # The name of the program, in parentheses, may hold spaces.
  state, *rest = text.rpartition(')')[2].split()
  return None if state in 'ZX' else rest[18]


def _lives(other: dict[str, Any]) -> bool | None:
  """Whether a process still runs; None: it is unknown, as of another host."""
  mine = _this_process()
  names = 'host', 'boot', 'namespace'
  here = all(mine[k] is not None and other.get(k) == mine[k] for k in names)
  pid = other.get('pid')
  if not here or type(pid) is not int:
    return None
  began = _began(pid)
  if began is None and _is_hidden(pid):
    return None
  return began is not None and began == other.get('began')


def _is_hidden(pid: int) -> bool:
  """Whether a process of another user runs, though /proc may not show it.

  Hosts of many users mount /proc with hidepid=2.
  """
  if not 0 < pid < 1 << 31:
    return False
  try:
    os.kill(pid, 0)
  except OSError as e:
    return e.errno == errno.EPERM
  return False


def _parsed(found: bytes | None) -> dict[str, Any]:
  try:
    value = json.loads(found or b'{}')
  except (ValueError, RecursionError):
    value = {}
  return value if isinstance(value, dict) else {}


def _name(other: dict[str, Any]) -> str:
  if 'pid' not in other:
    return 'another process'
  pid, host = (str(other.get(k, 'unknown'))[:100] for k in ('pid', 'host'))
  return f'process {pid} on {host}'
