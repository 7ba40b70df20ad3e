"""Tier T3: namespaces without network, other processes or files to write.

The root is read-only and holds only files that programs may read. Each program
has a scratch folder of its own in memory.
"""

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable

from acereason_jax.verifiers.isolation import sandbox, syscalls
from acereason_jax.verifiers.programs import paths, users

_NEW_NS, _NEW_UTS, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
# Not /tmp: the interpreter may be there.
SCRATCH = '/scratch'
_MOUNT_POINT = '/sys'
# Programs open these files too. Without /proc they lead to a copy, made for
# programs that mention one of their folders.
_STDIN = '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'
STDIN_FOLDERS, STDIN_COPY = (b'/dev', b'/proc'), f'{SCRATCH}/.stdin'
_SCRATCH_OPTIONS = b'size=64m,nr_inodes=1024,mode=1777'


def enter() -> None:
  """Enters namespaces without network and others' IPC, with a read-only root.

  The root holds `system_paths` and an empty scratch folder, nothing else.

  Raises:
    OSError: the host refuses one of the steps.
  """
  own = os.open('/proc/self', os.O_RDONLY | os.O_DIRECTORY)
  if os.getuid() == 0:
    # Before the user changes: the interpreter may be in root's own folder.
    sandbox.check('unshare', sandbox.libc().unshare(_NEW_NS))
    _new_root()
    users.leave_root()
    # This makes /proc/self, with the maps below, belong to this user.
    sandbox.libc().prctl(sandbox.PR_SET_DUMPABLE, 1, 0, 0, 0)
    _unshare_user(own)
  else:
    _unshare_user(own)
    _new_root()
  os.close(own)


def _unshare_user(own: int) -> None:
  """Enters all namespaces; `own` is /proc/self.

  The process namespace holds processes that are forked from now on.
  """
  user, group = os.getuid(), os.getgid()
  flags = _NEW_USER | _NEW_NS | _NEW_IPC | _NEW_NET | _NEW_UTS | _NEW_PID
  sandbox.check('unshare', sandbox.libc().unshare(flags))
  for name, text in (
    ('setgroups', 'deny'),
    ('uid_map', f'{user} {user} 1'),
    ('gid_map', f'{group} {group} 1'),
  ):
    file = os.open(name, os.O_WRONLY, dir_fd=own)
    os.write(file, text.encode())
    os.close(file)


def _new_root() -> None:
  """Makes a root with only `system_paths`, read-only, less `hidden_paths`."""
  _mount(None, '/', None, _MS_REC | _MS_PRIVATE)
  readable, hidden = paths.system_paths(), paths.hidden_paths()
  _mount('tmpfs', _MOUNT_POINT, 'tmpfs', _MS_NOSUID | _MS_NODEV, b'mode=755')
  for path in readable:
    _bind(path, _MOUNT_POINT + path)
  for path in hidden:
    # An empty folder.
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount('tmpfs', _MOUNT_POINT + path, 'tmpfs', flags, b'mode=755')
  os.makedirs(_MOUNT_POINT + SCRATCH)
  for name in _STDIN:
    os.makedirs(os.path.dirname(_MOUNT_POINT + name), exist_ok=True)
    os.symlink(STDIN_COPY, _MOUNT_POINT + name)
  libraries = set(readable) & set(paths.library_paths())
  for folder in set(map(os.path.dirname, libraries)):
    # Programs may not list it. The import system's cache of it stays valid
    # while its modification time is unchanged.
    seen = os.stat(folder)
    os.utime(_MOUNT_POINT + folder, ns=(seen.st_atime_ns, seen.st_mtime_ns))
  os.chdir(_MOUNT_POINT)
  pivot_root = syscalls.NUMBERS[os.uname().machine]['pivot_root']
  sandbox.check('pivot_root', sandbox.syscall(pivot_root, b'.', b'.'))
  sandbox.check('umount', sandbox.libc().umount2(b'.', _MNT_DETACH))
  os.chdir('/')
  _mount(None, '/', None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID)


def _bind(source: str, target: str) -> None:
  if os.path.isdir(source):
    os.makedirs(target, exist_ok=True)
  else:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT, 0o644))
  _mount(source, target, None, _MS_BIND | _MS_REC)
  # Mounts that were nosuid or nodev outside must stay so.
  flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID
  flags |= os.statvfs(target).f_flag & (_MS_NODEV | _MS_NOEXEC)
  if not source.startswith('/dev/'):
    flags |= _MS_NODEV
  _mount(None, target, None, flags)


def _mount(
  source: str | None,
  target: str,
  kind: str | None,
  flags: int,
  options: bytes | None = None,
) -> None:
  encoded = [x if x is None else x.encode() for x in (source, target, kind)]
  done = sandbox.libc().mount(*encoded, ctypes.c_ulong(flags), options)
  sandbox.check(f'mount {target}', done)


def enter_scratch() -> None:
  """Gives a program a scratch folder of its own, in which it starts."""
  sandbox.check('unshare', sandbox.libc().unshare(_NEW_NS))
  flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
  _mount('tmpfs', SCRATCH, 'tmpfs', flags, _SCRATCH_OPTIONS)
  os.chdir(SCRATCH)


def start_init() -> Callable[[], None]:
  """Forks the first of the new processes; returns a function to end all others.

  It ends with the zygote, and all others with it.
  """
  ours, theirs = socket.socketpair()
  if os.fork() == 0:
    ours.close()
    os.closerange(theirs.fileno() + 1, os.sysconf('SC_OPEN_MAX'))
    os.closerange(0, theirs.fileno())
    # Nobody waits for the processes that it inherits.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while theirs.recv(1):
      with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
      theirs.send(b'.')
    os._exit(0)
  theirs.close()

  def sweep() -> None:
    ours.send(b'.')
    if not ours.recv(1):
      raise OSError('the first process of the namespace is gone')

  return sweep
