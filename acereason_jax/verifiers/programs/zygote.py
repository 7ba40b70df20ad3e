"""The process that model-written programs are forked from, one for each run.

A fresh interpreter with an empty environment that has never seen an expected
output; `jail` starts it and asks it. It enters its namespaces once (tier T3),
imports what programs are given, and then for each run forks a child that
confines itself and becomes the program. The zygote runs no such code itself,
reads nothing that a child wrote but what confined it, and ends with its parent.
Every child has a copy of its memory, so programs, inputs and outputs pass it by
in files that it only hands on.
"""

import atexit
import builtins
import contextlib
import ctypes
import decimal
import fractions
import functools
import gc
import importlib.machinery
import importlib.util
import io
import json
import linecache
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from acereason_jax.verifiers.isolation import sandbox, syscalls
from acereason_jax.verifiers.programs import prelude

HEADER = struct.Struct('>I')

_STACK_BYTES = 256 << 20
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_NEW_NS, _NEW_UTS, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
# Users of jails, one each while there are enough: what a user may have is
# counted for all its processes together.
_FIRST_USER, _USERS = 61001, 3000
# Not /tmp: the interpreter may lie there.
_SCRATCH = '/scratch'
_MOUNT_POINT = '/sys'
# Programs open these too; without /proc they lead to a copy, made for programs
# in which one of their folders is named.
_STDIN = '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'
_STDIN_FOLDERS, _STDIN_COPY = (b'/dev', b'/proc'), f'{_SCRATCH}/.stdin'
_SCRATCH_OPTIONS = b'size=64m,nr_inodes=1024,mode=1777'
_OPEN_FILES = 64
_FILES_OF_A_RUN = 5
# A thread's stack is by default as large as the main thread's may become.
_THREAD_STACK_BYTES = 8 << 20
# A program is killed at so much more than its CPU time, which says that it was
# not the measuring. The kernel's own limit counts ticks, which on a busy
# machine are a quarter off.
_CPU_FACTOR = 1.3
_CHECK_SECONDS = 0.1
# How long a host that has no process left is asked again for one.
_FORK_SECONDS = 5.0
# The names of a program's file, and of its module if its function is called.
_NAME, _MODULE = 'solution.py', 'solution'
# What LiveCodeBench sets; LeetCode allows more. A key of `sorted` that sorts
# takes most of the stack, 5 kB a call, and _STACK_BYTES have room for so many.
_RECURSION_LIMIT = 50_000
# What a traceback shows: the last calls of the last exceptions.
_CALLS_SHOWN, _EXCEPTIONS_SHOWN = 20, 10
# What a program may leave unwritten.
_FILES = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
# The descriptor after the program's own, and how what it says begins.
_CONFINING, _CONFINED = 4, b'confined: '
# Folders that hold installed libraries and nothing else; and the library that
# programs are allowed wherever it lies.
_LIBRARY_FOLDERS = 'site-packages', 'dist-packages'
_LIBRARY = 'numpy'
# Waiting is believed to this multiple of the CPU time where threads may have
# waited for each other.
_WAIT_FACTOR = 3.0
# Address space that the interpreter and its libraries take before a program.
_BASE_BYTES = 256 << 20
# asyncio talks to itself by socketpair. Files are Landlock's, and the mounts';
# where there is neither, the filter lets nothing be opened but for reading.
_ALLOWED = {'T1': frozenset(('socketpair',))}
_ALLOWED['T2'] = _ALLOWED['T1'] | {'open', 'openat'}
# What Landlock knows nothing of (times, attributes), mounts keep from others.
_ALLOWED['T3'] = _ALLOWED['T2'] | {
  *('creat', 'truncate', 'rename', 'renameat', 'renameat2', 'mkdir', 'mkdirat'),
  *('rmdir', 'unlink', 'unlinkat', 'utimensat'),
  *('getxattr', 'lgetxattr', 'fgetxattr'),
  *('listxattr', 'llistxattr', 'flistxattr'),
}


def system_paths() -> list[str]:
  """Returns what a Python program may have to read to start and to import."""
  paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, '/usr/lib', '/lib'}
  paths |= {'/lib64', '/usr/lib64', '/usr/local/lib', '/usr/share/zoneinfo'}
  paths |= {'/etc/ld.so.cache', '/dev/null', '/dev/zero', '/dev/urandom'}
  # Debian's libraries for linear algebra are links through the last.
  paths |= {'/etc/localtime', '/usr/lib/locale', '/etc/alternatives'}
  paths |= {p for p in library_paths() if not _lies_in(p, paths)}
  # A prefix of / would be everything.
  return sorted(p for p in paths if len(p) > 1 and os.path.exists(p))


@functools.cache
def library_paths() -> tuple[str, ...]:
  """Returns where this interpreter has libraries, be it outside its folders.

  The user's own site-packages, for example, or numpy in a folder of PYTHONPATH.
  What else is in such a folder stays hidden: it may be a repository, its data.
  """
  paths = {
    path
    for path in map(os.path.abspath, sys.path)
    if os.path.basename(path) in _LIBRARY_FOLDERS or os.path.isfile(path)
  }
  # Found, not imported. Its shared libraries lie beside it.
  with contextlib.suppress(ImportError, ValueError):
    if found := importlib.util.find_spec(_LIBRARY):
      for place in found.submodule_search_locations or ():
        paths |= {os.path.abspath(place), f'{os.path.abspath(place)}.libs'}
  paths |= set(map(os.path.realpath, paths))
  return tuple(
    sorted(p for p in paths if os.path.exists(p) and not _lies_in(p, paths))
  )


def _lies_in(path: str, folders: Iterable[str]) -> bool:
  """Whether a path is below one of these folders."""
  return any(path.startswith(f'{folder}{os.sep}') for folder in folders)


class Host(NamedTuple):
  """What a run needs of where it runs.

  `processes` is /proc, open, with the numbers that a fork returns, or -1;
  `sweep` ends what a program may have left. Of Landlock nothing newer than
  `newest_abi` is used.
  """

  tier: str
  processes: int
  sweep: Callable[[], None]
  newest_abi: int


# --- tier T3 ----------------------------------------------------------------


def enter_namespaces() -> None:
  """Becomes alone: no network, no other process's IPC, a read-only root.

  The root holds `system_paths` and an empty scratch folder, nothing else.

  Raises:
    OSError: the host refuses one of the steps.
  """
  own = os.open('/proc/self', os.O_RDONLY | os.O_DIRECTORY)
  if os.getuid() == 0:
    # Before the user changes: the interpreter may lie in root's own folder.
    _check('unshare', sandbox.libc().unshare(_NEW_NS))
    _new_root()
    _leave_root()
    # So that /proc/self, with the maps below, is this user's.
    sandbox.libc().prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    _unshare_user(own)
  else:
    _unshare_user(own)
    _new_root()
  os.close(own)


def _unshare_user(own: int) -> None:
  """Enters all namespaces; `own` is /proc/self.

  That of processes holds what is forked from now on.
  """
  user, group = os.getuid(), os.getgid()
  flags = _NEW_USER | _NEW_NS | _NEW_IPC | _NEW_NET | _NEW_UTS | _NEW_PID
  _check('unshare', sandbox.libc().unshare(flags))
  for name, text in (
    ('setgroups', 'deny'),
    ('uid_map', f'{user} {user} 1'),
    ('gid_map', f'{group} {group} 1'),
  ):
    file = os.open(name, os.O_WRONLY, dir_fd=own)
    os.write(file, text.encode())
    os.close(file)


def _new_root() -> None:
  """Makes `system_paths`, read-only, all there is."""
  _mount(None, '/', None, _MS_REC | _MS_PRIVATE)
  paths = system_paths()
  _mount('tmpfs', _MOUNT_POINT, 'tmpfs', _MS_NOSUID | _MS_NODEV, b'mode=755')
  for path in paths:
    _bind(path, _MOUNT_POINT + path)
  os.makedirs(_MOUNT_POINT + _SCRATCH)
  for name in _STDIN:
    os.makedirs(os.path.dirname(_MOUNT_POINT + name), exist_ok=True)
    os.symlink(_STDIN_COPY, _MOUNT_POINT + name)
  for folder in {os.path.dirname(p) for p in paths if p in library_paths()}:
    # Programs may not list it; what the import system knows of it stays valid
    # while its time does.
    seen = os.stat(folder)
    os.utime(_MOUNT_POINT + folder, ns=(seen.st_atime_ns, seen.st_mtime_ns))
  os.chdir(_MOUNT_POINT)
  pivot_root = syscalls.NUMBERS[os.uname().machine]['pivot_root']
  _check('pivot_root', sandbox.syscall(pivot_root, b'.', b'.'))
  _check('umount', sandbox.libc().umount2(b'.', _MNT_DETACH))
  os.chdir('/')
  _mount(None, '/', None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID)


def _bind(source: str, target: str) -> None:
  if os.path.isdir(source):
    os.makedirs(target, exist_ok=True)
  else:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT, 0o644))
  _mount(source, target, None, _MS_BIND | _MS_REC)
  # What was nosuid or nodev outside has to stay so.
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
  _check(f'mount {target}', done)


def _check(what: str, done: int) -> None:
  if done != 0:
    code = ctypes.get_errno()
    raise OSError(code, f'{what}: {os.strerror(code)}')


def start_init() -> Callable[[], None]:
  """Forks the first of the new processes; returns what ends all others.

  It ends with the zygote, and all others with it.
  """
  ours, theirs = socket.socketpair()
  if os.fork() == 0:
    ours.close()
    os.closerange(theirs.fileno() + 1, os.sysconf('SC_OPEN_MAX'))
    os.closerange(0, theirs.fileno())
    # Whom it inherits, nobody waits for.
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


# --- without namespaces -----------------------------------------------------


def become_another(tier: str) -> None:
  """Stops being root, whom no limit on threads binds.

  Where nobody else can read the interpreter, the right to read stays; what is
  read with it is Landlock's to say.

  Raises:
    OSError: that cannot be, or there is no Landlock.
  """
  if os.getuid() != 0:
    return
  _check('prctl', sandbox.libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
  _leave_root()
  kept = 0
  try:
    for path in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
      os.listdir(path)
    # T1 does without: there the right to read would be one to read all.
    for path in library_paths() if tier == 'T2' else ():
      os.close(os.open(path, os.O_RDONLY))
  except OSError:
    if tier != 'T2':
      raise
    kept = sandbox.READING
  if sandbox.drop_capabilities(kept) != 'dropped':
    raise OSError('the capabilities of root could not be dropped')


def _leave_root() -> None:
  user = _FIRST_USER + os.getpid() % _USERS
  os.setgroups([])
  os.setresgid(user, user, user)
  os.setresuid(user, user, user)


def _threads_of(user: int) -> int:
  """Returns how many threads a user has, among the processes seen from here."""
  threads = 0
  with os.scandir('/proc') as processes:
    for process in processes:
      # What has ended meanwhile has none.
      with contextlib.suppress(OSError):
        if process.name.isdecimal() and process.stat().st_uid == user:
          threads += len(os.listdir(f'{process.path}/task'))
  return threads


# --- one run ----------------------------------------------------------------


class Run(NamedTuple):
  """A program that was started.

  `pid` is its process, `began` the time.monotonic() of its start and `busy`
  what `_busy` said then; `confined` is the end of a pipe that says what
  confined it.
  """

  pid: int
  began: float
  busy: float
  confined: int


def start(request: dict, files: list[int], host: Host) -> Run:
  """Starts one program in a fresh process.

  `files` are its stdin, stdout, stderr, the result of a call, and what is
  called, JSON in a line, before the program.

  Raises:
    OSError: the host has no process or descriptor left.
  """
  if host.tier != 'T3':
    # Outside a namespace of users all that the user has counts.
    request['threads'] += _threads_of(os.getuid())
  confined, confining = os.pipe()
  end = time.monotonic() + _FORK_SECONDS
  while True:
    began, busy = time.monotonic(), _busy(host.processes)
    try:
      pid = os.fork()
      break
    except BlockingIOError:
      # Other programs' threads, or other users, may be gone in a moment.
      if time.monotonic() > end:
        raise
      time.sleep(_CHECK_SECONDS)
  if pid == 0:
    os.close(confined)
    _become(request, files, confining, host)
  os.close(confining)
  return Run(pid, began, busy, confined)


def finish(request: dict, run: Run, host: Host) -> dict:
  """Returns what happened to a program, which is gone with all it started.

  Raises:
    OSError: it cannot be waited for, or what it left not be ended.
  """
  timed_out, asleep = _wait(run, request, host.processes)
  _, status, used = os.wait4(run.pid, 0)
  host.sweep()
  said = os.read(run.confined, 1 << 12)
  happened = dict(
    exit=os.waitstatus_to_exitcode(status),
    timed_out=timed_out,
    cpu_seconds=used.ru_utime + used.ru_stime,
    wall_seconds=time.monotonic() - run.began,
    peak_bytes=used.ru_maxrss * 1024,
    asleep_seconds=asleep,
  )
  if said.startswith(_CONFINED):
    happened['confined'] = said.removeprefix(_CONFINED).decode()
  else:
    text = said.decode('utf-8', 'replace') or 'it ended'
    happened = dict(broken=f'confining failed: {text}', began=False)
  os.close(run.confined)
  return happened


def _write_all(file: int, data: bytes) -> None:
  rest = memoryview(data)
  while rest:
    rest = rest[os.write(file, rest) :]


def _read(file: int) -> bytes:
  """Returns all of a file; where it is read next does not change."""
  parts, position = [], 0
  while part := os.pread(file, 1 << 24, position):
    parts.append(part)
    position += len(part)
  return b''.join(parts)


def _wait(run: Run, request: dict, processes: int) -> tuple[bool, float]:
  """Waits for a child, and kills it at its limits.

  Returns whether it slept too long, and the seconds it slept. Neither asleep
  nor running is who waits for a core: that is the machine's affair, and its
  wall time alone is limited.
  """
  pid, busy = run.pid, run.busy
  handle = os.pidfd_open(pid)
  poll = select.poll()
  poll.register(handle, select.POLLIN)
  # linux/posix-timers.h: the clock of a process, in the scheduler's counting.
  clock, most = ~pid << 3 | 2, _CPU_FACTOR * request['cpu_seconds']
  seconds = min(most, request['wall_seconds'], request['asleep_seconds'])
  waits: dict[str, float] = {}
  timed_out = False

  def measure() -> tuple[float, float, float]:
    """Seconds since it began, on a core, and neither there nor waiting."""
    waits.update(_waits(pid, processes))
    passed, ran = time.monotonic() - run.began, time.clock_gettime(clock)
    return passed, ran, passed - ran - _believed(waits, ran)

  while not poll.poll(seconds * 1000 + 1):
    passed, ran, asleep = measure()
    wall, cpu = request['wall_seconds'] - passed, most - ran
    left = min(wall, request['asleep_seconds'] - asleep)
    timed_out = left <= 0
    if min(left, cpu) <= 0:
      os.kill(pid, signal.SIGKILL)
      break
    # Threads together may spend it faster than one can.
    seconds = max(min(left, cpu / 2), _CHECK_SECONDS)
    busy = _busy(processes)
  poll.poll()
  os.close(handle)
  # It is still there until it is waited for. While this process was on its way
  # to see that it ended, it did not sleep.
  asleep = measure()[2] - (_busy(processes) - busy)
  return timed_out, max(0.0, asleep) if processes >= 0 else 0.0


def _believed(waits: dict[str, float], ran: float) -> float:
  """Returns the seconds that a process waited for cores, from its threads'.

  Threads that wait for each other's cores wait more than the process does, and
  could so pay for sleep: all their waits count only up to a multiple of `ran`.
  """
  total, longest = sum(waits.values()), max(waits.values(), default=0.0)
  return min(total, max(longest, _WAIT_FACTOR * ran))


def _waits(pid: int, processes: int) -> dict[str, float]:
  """Returns the seconds that each thread of a process waited for cores.

  Infinity where the kernel does not count them, or does not tell.
  """
  if processes < 0:
    return {'': math.inf}
  waits = {}
  try:
    tasks = os.open(f'{pid}/task', os.O_RDONLY, dir_fd=processes)
    try:
      for thread in os.listdir(tasks):
        # Threads end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
          waits[thread] = _schedule(f'{thread}/schedstat', tasks)[1]
    finally:
      os.close(tasks)
  except OSError:
    return {'': math.inf}
  return waits


def _busy(processes: int) -> float:
  """Returns the seconds that this process ran or waited for a core."""
  return sum(_schedule('self/schedstat', processes)) if processes >= 0 else 0.0


def _schedule(path: str, folder: int) -> tuple[float, float]:
  """Returns the seconds that a thread was on a core, and waited for one."""
  ran, waited, _ = _read_text(path, folder).split()
  return int(ran) / 1e9, int(waited) / 1e9


def _open_processes() -> int:
  """Returns /proc, open, or -1 if it does not count how long threads wait."""
  try:
    processes = os.open('/proc', os.O_RDONLY | os.O_DIRECTORY)
    return processes if _schedule('self/schedstat', processes)[0] else -1
  except (OSError, ValueError):
    return -1


def _read_text(path: str, folder: int) -> str:
  file = os.open(path, os.O_RDONLY, dir_fd=folder)
  try:
    return os.read(file, 1 << 12).decode()
  finally:
    os.close(file)


def _become(
  request: dict, files: list[int], confining: int, host: Host
) -> None:
  """Turns the forked child into the program; does not return.

  What is written to `confining` says that it was confined, or why not.
  """
  said = confining
  try:
    called, _, program = _read(files.pop()).partition(b'\n')
    called = json.loads(called)
    for target, file in enumerate(files):
      os.dup2(file, target)
    said = os.dup2(confining, _CONFINING)
    by_name = any(folder in program for folder in _STDIN_FOLDERS)
    held = _confine(request, host, by_name)
    # This fails if the zygote died before its death could end this process.
    os.write(_CONFINING, _CONFINED + held.encode())
    os.close(_CONFINING)
  except BaseException as e:  # noqa: BLE001 (it is the end of this process)
    os.write(said, f'{type(e).__name__}: {e}'.encode()[:1000])
    os._exit(1)
  status = 1
  try:
    status = _main(called['fn'], called['args'], program)
  finally:
    os._exit(status)


def _confine(request: dict, host: Host, by_name: bool) -> str:
  """Leaves the child its descriptors, and the limits of a run.

  `by_name`: whether it may open its input. Returns what holds it, as
  `sandbox.confine` does.
  """
  tier = host.tier
  os.setsid()
  # An own scratch folder, before the right to mount is given up.
  if tier == 'T3':
    _check('unshare', sandbox.libc().unshare(_NEW_NS))
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount('tmpfs', _SCRATCH, 'tmpfs', flags, _SCRATCH_OPTIONS)
    os.chdir(_SCRATCH)
    if by_name:
      copy = os.open(_STDIN_COPY, os.O_WRONLY | os.O_CREAT, 0o600)
      # An input larger than the folder is not there by name.
      with contextlib.suppress(OSError):
        _write_all(copy, _read(0))
  os.closerange(_CONFINING + 1, os.sysconf('SC_OPEN_MAX'))
  sandbox.libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  # In case the zygote is not there to do it.
  cpu = int(2 * request['cpu_seconds']) + 2
  memory = request['memory_bytes'] + _BASE_BYTES
  output = request['output_bytes']
  _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
  files = min(_OPEN_FILES, files) if files >= 0 else _OPEN_FILES
  for limit, value in (
    (resource.RLIMIT_CPU, cpu),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_FSIZE, output + 1),
    (resource.RLIMIT_NOFILE, files),
    (resource.RLIMIT_NPROC, request['threads']),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_NICE, 0),
    (resource.RLIMIT_SIGPENDING, 64),
  ):
    resource.setrlimit(limit, (value, value))
  if sandbox.no_new_privs() != 'yes':
    raise OSError('no_new_privs')
  # RLIMIT_CORE does not keep a crash from the helper that the host may have.
  sandbox.libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
  capabilities = sandbox.drop_capabilities(
    0 if tier == 'T3' else sandbox.READING
  )
  writable = [os.devnull, *([_SCRATCH] if tier == 'T3' else [])]
  rules = sandbox.landlock(system_paths(), writable, host.newest_abi)
  machine = os.uname().machine
  code = sandbox.program(machine, os.getpid(), _ALLOWED[tier])
  calls = sandbox.seccomp(code)
  held = f'landlock={rules} seccomp={calls} capabilities={capabilities}'
  # Without namespaces, Landlock is all that guards files.
  if calls != 'yes' or (tier == 'T2' and not rules.startswith('abi')):
    raise OSError(held)
  counted = '' if host.processes >= 0 else ' asleep=uncounted'
  return f'{held} user={os.getuid()}{counted}'


def _main(fn: str, args: list, program: bytes) -> int:
  """Runs the program, calls fn; returns its exit status.

  It is `__main__`, as a script is. A program whose function is called is a
  module that something else imported, as LeetCode and LiveCodeBench have it:
  what it guards with `if __name__ == '__main__'` does not run.
  """
  sys.stdin = sys.__stdin__ = _stream(0, 'stdin', 'r')
  sys.stdout = sys.__stdout__ = _stream(1, 'stdout', 'w')
  sys.stderr = sys.__stderr__ = _stream(2, 'stderr', 'w', 'backslashreplace')
  sys.argv = ['' if fn else _NAME]
  sys.path[:0] = ['']
  # Programs print numbers of any length; the limit guards servers.
  sys.set_int_max_str_digits(0)
  sys.setrecursionlimit(_RECURSION_LIMIT)
  module = types.ModuleType(_MODULE if fn else '__main__')
  module.__dict__.update(
    prelude.NAMES, __builtins__=builtins, __file__=_NAME, __annotations__={}
  )
  # What is asked for, the program has to write itself.
  name = fn.rpartition('.')[2]
  module.__dict__.pop(name, None)
  module.__loader__ = importlib.machinery.SourceFileLoader(
    module.__name__, _NAME
  )
  # Else a program that is a module would find the zygote there.
  sys.modules['__main__'] = types.ModuleType('__main__')
  # Pickles, data classes and type hints look a program up by its name.
  sys.modules[module.__name__] = module
  # Tracebacks show the program's lines, of which there is no file.
  lines = program.decode('utf-8', 'replace').splitlines(keepends=True)
  linecache.cache[_NAME] = (len(program), None, lines, _NAME)
  gc.enable()
  try:
    code = compile(program, _NAME, 'exec', dont_inherit=True)
    exec(code, module.__dict__)
    if fn:
      _call(module.__dict__, name, args)
    status = 0
  except SystemExit as e:
    status = _exit_status(e.code)
  except BaseException as e:  # noqa: BLE001 (the program's own affair)
    _report(e)
    status = 1
  return _finish(status, module.__dict__ if b'__del__' in program else {})


def _report(error: BaseException) -> None:
  """Writes a traceback, without the frame that ran the program."""
  error.__traceback__ = error.__traceback__.tb_next
  if sys.excepthook is not sys.__excepthook__:
    sys.excepthook(type(error), error, error.__traceback__)
  else:
    _shorten(error)
    # The interpreter's own would look for the file.
    traceback.print_exception(error, limit=-_CALLS_SHOWN)


def _shorten(error: BaseException) -> None:
  """Leaves the last calls of an exception and of those before it.

  To format 100,000 takes seconds in Python, and next to nothing in C, which a
  bare interpreter does.
  """
  for left in reversed(range(_EXCEPTIONS_SHOWN)):
    last = shown = error.__traceback__
    for _ in range(_CALLS_SHOWN):
      last = last and last.tb_next
    while last:
      last, shown = last.tb_next, shown.tb_next
    error.__traceback__ = shown
    if not left:
      error.__cause__ = error.__context__ = None
    before = error.__cause__
    before = error.__context__ if before is None else before
    if before is None:
      return
    error = before


def _stream(
  descriptor: int, name: str, mode: str, errors: str = 'surrogateescape'
) -> io.TextIOWrapper:
  """Returns what the interpreter makes of a descriptor in a UTF-8 locale."""
  buffering = 1 if descriptor == 2 else -1
  stream = open(  # noqa: SIM115 (it stays open)
    descriptor, mode, buffering, 'utf-8', errors, newline='\n', closefd=False
  )
  stream.buffer.raw.name = f'<{name}>'
  return stream


def _call(names: dict, name: str, args: list) -> None:
  """Writes what the named function returns, as JSON, where it is read.

  It may be a method of a class Solution: problems ask for either, and either
  is answered with the other. Nothing is written if JSON cannot say it.
  """
  if callable(owner := names.get('Solution')) and hasattr(owner, name):
    function = getattr(owner(), name)
  else:
    function = names[name]
  result = function(*args)
  sys.setrecursionlimit(_RECURSION_LIMIT)
  try:
    text = _as_json(result)
  except (TypeError, ValueError, OverflowError, RecursionError) as e:
    # A wrong answer, not an error of the program's.
    print(f'{name} returned: {e}', file=sys.stderr)
    return
  _write_all(3, text.encode())


def _as_json(result: Any) -> str:
  try:
    return json.dumps(result)
  except TypeError:
    return json.dumps(_plain(result))


def _plain(value: Any) -> Any:
  """Returns numbers and arrays that JSON does not know as those it knows.

  They are numpy's, and the library's exact ones: what `==` of a benchmark calls
  equal to a plain value. What it does not (a deque, a set, a range) stays.
  """
  if isinstance(value, dict):
    plain = {_plain(k): _plain(v) for k, v in value.items()}
    if len(plain) < len(value):
      raise ValueError('two of its keys are one in JSON')
    return plain
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  kind = type(value)
  if kind in (decimal.Decimal, fractions.Fraction):
    whole = int(value)
    return whole if whole == value else float(value)
  numpy = sys.modules.get('numpy')
  if numpy is None:
    return value
  if kind is numpy.ndarray:
    if value.dtype.char in '?d' + numpy.typecodes['AllInteger']:
      return value.tolist()
    return _plain(list(value) if value.ndim else value[()])
  numbers = numpy.bool_ | numpy.integer | numpy.floating
  # Not a class of the program's own. To numpy a time span is an integer.
  if (
    not issubclass(kind, numbers)
    or issubclass(kind, numpy.timedelta64)
    or numpy.dtype(kind).type is not kind
  ):
    return value
  # 0.1 in 32 bits is 0.1, as it is for `==`.
  is_float = issubclass(kind, numpy.floating)
  return float(str(value)) if is_float else value.item()


def _exit_status(code: object) -> int:
  if code is None:
    return 0
  if isinstance(code, int):
    return code & 0xFF
  print(code, file=sys.stderr)
  return 1


def _finish(status: int, names: dict) -> int:
  """What the interpreter does at its end, without tearing it down.

  `names` are forgotten, so that what destructors print is there.
  """
  for step in (threading._shutdown, atexit._run_exitfuncs):
    try:
      step()
    except BaseException:  # noqa: BLE001 (the program's own affair)
      traceback.print_exc()
  for name in names.keys() - {'__builtins__'}:
    names[name] = None
  flushed = _flush(sys.stdout)
  # A file that nobody closed is written when it is collected.
  for value in gc.get_objects():
    if isinstance(value, _FILES):
      _flush(value)
  return status if flushed else 120


def _flush(stream: Any) -> bool:
  """Returns whether it could be flushed; what is closed or None needs none."""
  try:
    if stream is not None and not stream.closed:
      stream.flush()
  except BaseException:  # noqa: BLE001 (a full file, a closed descriptor)
    return False
  return True


# --- the server -------------------------------------------------------------


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
  """Returns a message and the files that came with it."""
  header, files, _, _ = socket.recv_fds(channel, HEADER.size, _FILES_OF_A_RUN)
  header += _exactly(channel, HEADER.size - len(header))
  return _exactly(channel, *HEADER.unpack(header)), files


def _exactly(channel: socket.socket, size: int) -> bytes:
  data = bytearray()
  while len(data) < size:
    part = channel.recv(min(size - len(data), 1 << 20))
    if not part:
      sys.exit(0)
    data += part
  return bytes(data)


def _send(channel: socket.socket, message: dict) -> None:
  text = json.dumps(message).encode()
  channel.sendall(HEADER.pack(len(text)) + text)


def answer(channel: socket.socket, host: Host) -> bool:
  """Answers one request; returns whether there can be another."""
  text, files = _receive(channel)
  request, began = json.loads(text), False
  try:
    started = start(request, files, host)
    began = True
    happened = finish(request, started, host)
  except OSError as e:
    happened = dict(broken=str(e), began=began)
  for file in files:
    os.close(file)
  _send(channel, happened)
  return 'broken' not in happened


def serve(channel: socket.socket, host: Host) -> None:
  """Answers requests until the other end is closed, or something failed.

  Each in a call of its own, of which nothing is left for the next to see.
  """
  while answer(channel, host):
    pass


def _volunteer() -> None:
  """Has the kernel end programs, not the trainer, where memory runs out."""
  with contextlib.suppress(OSError):
    file = os.open('/proc/self/oom_score_adj', os.O_WRONLY)
    try:
      os.write(file, b'1000')
    finally:
      os.close(file)


def main(parent: int, descriptor: int, tier: str, newest_abi: int) -> None:
  soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
  if soft != resource.RLIM_INFINITY and soft < _STACK_BYTES:
    # The kernel leaves room for a deeper stack only when a program starts.
    most = hard if hard != resource.RLIM_INFINITY else _STACK_BYTES
    resource.setrlimit(resource.RLIMIT_STACK, (min(_STACK_BYTES, most), hard))
    if min(_STACK_BYTES, most) > soft:
      os.execv(sys.executable, sys.orig_argv)
  threading.stack_size(_THREAD_STACK_BYTES)
  for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
    # What the parent may do is not what programs may.
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (hard, hard))
  channel = socket.socket(fileno=descriptor)
  os.environ.clear()
  os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1')
  os.environ['TMPDIR'] = _SCRATCH
  processes = _open_processes()
  # While it sees all of them, and for all runs.
  library_paths()
  _volunteer()
  sweep = lambda: None
  try:
    if tier == 'T3':
      enter_namespaces()
      sweep = start_init()
    else:
      os.chdir('/')
      become_another(tier)
  except OSError as e:
    _send(channel, dict(refused=str(e)))
    return
  # After the change of user, which clears it.
  sandbox.libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  if os.getppid() != parent:
    return
  # Forked memory stays shared while nobody counts references in it.
  gc.disable()
  gc.freeze()
  _send(channel, dict(ready=True))
  serve(channel, Host(tier, processes, sweep, newest_abi))


if __name__ == '__main__':
  main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
