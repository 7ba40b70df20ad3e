"""Permanently takes from a process the rights that judging text does not need.

It cannot use the network, write files, run programs, or start or reach
processes. It can still read files, run threads and use its open pipes. Each
layer is tried and reported in one line, so a host that allows little still runs
and says so. The layers overlap on purpose: a seccomp filter holds all threads
and sees no paths; Landlock, and giving up root's capabilities, hold the calling
thread and what it starts. Without Landlock, the environment and memory of the
same user's processes can be read; without seccomp, only Landlock's part holds.
Signals depend on the filter: Landlock handles them only from ABI 6 on (Linux
6.12), so no call that makes the kernel send a signal is allowed.
"""

import ctypes
import errno
import functools
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Sequence

from acereason_jax.verifiers.isolation import syscalls

_OPEN_FILES = 64

_PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_THREAD = 0x10000

# linux/capability.h, version 3.
_CAPABILITY_VERSION = 0x20080522
# CAP_DAC_READ_SEARCH: root's right to read any file.
READING = 1 << 2

_SECCOMP = {'x86_64': 317, 'aarch64': 277}
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_PATH_BENEATH = 1

# linux/landlock.h: rights are bits, and rights that are not handled stay
# allowed.
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV; the other rights are for
# folders.
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
# How many rights an ABI has: REFER came with 2, TRUNCATE 3, IOCTL_DEV 5.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1 << 0, 1 << 1
# Newer than any ABI.
EVERY_ABI = 1 << 16

# linux/seccomp.h, linux/audit.h.
_SET_MODE_FILTER = 1
_ALL_THREADS = 1
_ARCHITECTURE = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
# Calls that C libraries can do without, or replace.
_UNKNOWN = 0x00050000 | errno.ENOSYS
# struct seccomp_data: number, architecture, instruction pointer, arguments.
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
# linux/bpf_common.h; each instruction is (code, skip if, skip if not, value).
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_INSTRUCTION = struct.Struct('HBBI')

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_AF_UNIX = 1
_FLAGS_OF_OPEN = {'open': 1, 'openat': 2}
# The kernel can act on any process that the caller names as a file's owner:
# F_SETOWN, FIOSETOWN, SIOCSPGRP and F_SETOWN_EX name one, F_SETSIG and TIOCSIG
# a signal, O_ASYNC and FIOASYNC send it; F_NOTIFY, F_SETLEASE, locks and each
# driver have more. So only these commands of both calls are allowed; their
# numbers are the same on both machines. F_DUPFD, F_GETFD, F_SETFD, F_GETFL,
# F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS; F_SETFL without O_ASYNC.
_FCNTL = (0, 1, 2, 3, 1030, 1032, 1034)
_F_SETFL = 4
_O_ASYNC = 0o20000
# TCGETS and TCGETS2 (isatty), TIOCGWINSZ, FIONREAD, FIONBIO (set_blocking),
# FIONCLEX and FIOCLEX (set_inheritable).
_IOCTL = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_SET_PDEATHSIG; PR_SET_DUMPABLE, after which a crash may start the host's
# helper for core files; PR_SCHED_CORE, which places other processes.
_PRCTL = (1, 4, 62)


def confine() -> str:
  """Confines this process for good; returns a line that lists the layers.

  For example 'landlock=abi7 seccomp=yes no_new_privs=yes capabilities=dropped
  network=denied'; 'no(ENOSYS)' gives the kernel's answer.
  """
  os.environ.clear()
  # RLIMIT_NPROC is not among these limits: it does not bind root, and counts
  # all threads of the user. The filter refuses processes instead.
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
  # A host may allow fewer; no limit (-1) allows all.
  _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  files = min(_OPEN_FILES, hard) if hard >= 0 else _OPEN_FILES
  resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
  if sys.platform != 'linux':
    return f'landlock=no seccomp=no network=open ({sys.platform})'
  privileges = no_new_privs()
  capabilities = drop_capabilities()
  rules = landlock()
  machine = os.uname().machine
  calls = f'no({machine})'
  if machine in syscalls.NUMBERS:
    calls = seccomp(program(machine, os.getpid()))
  # Landlock handles only TCP, so this claims nothing for it.
  network = 'denied' if calls == 'yes' else 'open'
  return (
    f'landlock={rules} seccomp={calls} no_new_privs={privileges} '
    f'capabilities={capabilities} network={network}'
  )


def no_new_privs() -> str:
  """No program that it runs can gain rights; the other layers need this one."""
  done = libc().prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
  return 'yes' if done == 0 else _why_not()


def drop_capabilities(kept: int = READING) -> str:
  """Drops root's rights, except the right to read files, which is unchanged.

  With CAP_PERFMON, newer kernels let root read the memory and environment of
  any process, Landlock or not. Returns 'dropped' or 'no(reason)'.
  """
  header = struct.pack('Ii', _CAPABILITY_VERSION, 0)
  # Effective, permitted, inheritable; of capabilities 0 to 31, then the rest.
  held = ctypes.create_string_buffer(24)
  if libc().capget(header, held) != 0:
    return _why_not()
  _, permitted, *_ = struct.unpack('6I', held)
  left = struct.pack('6I', permitted & kept, permitted & kept, 0, 0, 0, 0)
  return 'dropped' if libc().capset(header, left) == 0 else _why_not()


def landlock(
  readable: Sequence[str] | None = None,
  writable: Sequence[str] = (),
  newest_abi: int = EVERY_ABI,
  listed: Sequence[str] = (),
) -> str:
  """Denies the changes, programs, TCP and signals that Landlock can deny.

  It also denies the memory, environment and descriptors of outside processes
  (/proc/PID/mem and similar files), which count as tracing. Reading is free
  unless `readable` lists the paths that may be read, with everything below
  them; folders in `listed`, and those below them, may only be listed.
  Everything in `writable` may be changed. Returns 'abi7', or 'no(ENOSYS)'.

  It uses nothing newer than `newest_abi`, and nothing at all with 0, so tests
  can act like older kernels.
  """
  if newest_abi < 1:
    return 'no(abi0)'
  abi = syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)
  if abi < 0:
    return _why_not()
  abi = min(abi, newest_abi)
  files = (1 << _RIGHTS[min(abi, max(_RIGHTS))]) - 1
  reading = _READ_FILE | _READ_DIR
  if readable is None:
    files &= ~reading
  network = _BIND_TCP | _CONNECT_TCP if abi >= 4 else 0
  scope = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if abi >= 6 else 0
  # An older kernel takes this longer structure if the rest of it is zero.
  handled = struct.pack('QQQ', files, network, scope)
  ruleset = syscall(_LANDLOCK_CREATE_RULESET, handled, len(handled), 0)
  if ruleset < 0:
    return _why_not()
  for path in readable or ():
    _grant(ruleset, path, reading)
  for path in listed:
    _grant(ruleset, path, _READ_DIR)
  for path in writable:
    _grant(ruleset, path, files & ~_EXECUTE)
  done = syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
  outcome = f'abi{abi}' if done == 0 else _why_not()
  os.close(ruleset)
  return outcome


def _grant(ruleset: int, path: str, rights: int) -> None:
  """Allows `rights` below a path; a missing path is skipped."""
  try:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
  except OSError:
    return
  if not stat.S_ISDIR(os.fstat(beneath).st_mode):
    rights &= _FILE_RIGHTS
  rule = struct.pack('=Qi', rights, beneath)
  syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
  os.close(beneath)


def seccomp(filter_program: bytes) -> str:
  """Installs a filter for all threads; returns 'yes' or 'no(reason)'."""
  buffer = ctypes.create_string_buffer(filter_program, len(filter_program))
  count = len(filter_program) // _INSTRUCTION.size
  header = struct.pack('HP', count, ctypes.addressof(buffer))
  number = _SECCOMP[os.uname().machine]
  done = syscall(number, _SET_MODE_FILTER, _ALL_THREADS, header)
  if done > 0:
    return f'no(thread {done})'
  return 'yes' if done == 0 else _why_not()


def program(
  machine: str, pid: int, allowed: frozenset[str] = frozenset()
) -> bytes:
  """Returns the filter for process `pid`, as the kernel reads it.

  `allowed` are calls that it does not check, except for the bounds of
  `_bounded`, which Landlock, or an older version of it, does not enforce.

  It refuses all calls of other architectures, such as i386's on x86-64; x32's
  numbers are above `syscalls.LAST`.
  """
  numbers = syscalls.NUMBERS[machine]
  code = [
    (_LOAD, 0, 0, _ARCHITECTURE_AT),
    (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
    (_RETURN, 0, 0, _REFUSE),
    (_LOAD, 0, 0, _NUMBER_AT),
    (_ABOVE, 0, 1, syscalls.LAST),
    (_RETURN, 0, 0, _UNKNOWN),
  ]
  bodies = {name: [(_RETURN, 0, 0, _REFUSE)] for name in syscalls.DENIED}
  for name, body in (bodies | _by_argument(pid)).items():
    if name in allowed:
      body = _bounded(name)
    if name in numbers and body:
      code += [(_EQUAL, 0, len(body), numbers[name]), *body]
  code.append((_RETURN, 0, 0, _ALLOW))
  return b''.join(_INSTRUCTION.pack(*line) for line in code)


def _bounded(name: str) -> list[tuple[int, int, int, int]]:
  """Returns the bounds of an allowed call.

  It denies O_TRUNC without writing, opening for neither reading nor writing,
  and pairs of sockets except AF_UNIX, for which a kernel may load code.
  """
  if name == 'socketpair':
    return _test(0, _EQUAL, (_AF_UNIX,), _ALLOW, _REFUSE)
  if name not in _FLAGS_OF_OPEN:
    return []
  argument = _FLAGS_OF_OPEN[name]
  # Neither reading nor writing: Landlock has no rule for it, and drivers have
  # their own uses.
  at = _ARGUMENTS_AT + 8 * argument
  neither = [
    (_LOAD, 0, 0, at),
    (_ANY_BIT, 0, 2, os.O_WRONLY),
    (_ANY_BIT, 0, 1, os.O_RDWR),
    (_RETURN, 0, 0, _REFUSE),
  ]
  reading = _test(argument, _ANY_BIT, (os.O_TRUNC,), _REFUSE, _ALLOW)
  writing = _test(argument, _ANY_BIT, (os.O_WRONLY, os.O_RDWR), _ALLOW, _ALLOW)
  return [*neither, *writing[:-1], *reading]


def _by_argument(pid: int) -> dict[str, list[tuple[int, int, int, int]]]:
  """Returns instructions by the name of the system call."""
  unknown = [(_RETURN, 0, 0, _UNKNOWN)]
  return {
    **{
      name: _test(argument, _ANY_BIT, (_WRITING,), _REFUSE, _ALLOW)
      for name, argument in _FLAGS_OF_OPEN.items()
    },
    'clone': _test(0, _ANY_BIT, (_CLONE_THREAD,), _ALLOW, _REFUSE),
    # Their flags are in memory, which a filter cannot read.
    'openat2': unknown,
    'clone3': unknown,
    'kill': _test(0, _EQUAL, (pid,), _ALLOW, _REFUSE),
    'tgkill': _test(0, _EQUAL, (pid,), _ALLOW, _REFUSE),
    'prlimit64': _test(0, _EQUAL, (0, pid), _ALLOW, _REFUSE),
    'prctl': _test(0, _EQUAL, _PRCTL, _REFUSE, _ALLOW),
    'sendto': _null(4),
    'fcntl': [
      *_test(1, _EQUAL, _FCNTL, _ALLOW, _REFUSE)[:-1],
      (_EQUAL, 1, 0, _F_SETFL),
      (_RETURN, 0, 0, _REFUSE),
      *_test(2, _ANY_BIT, (_O_ASYNC,), _REFUSE, _ALLOW),
    ],
    'ioctl': _test(1, _EQUAL, _IOCTL, _ALLOW, _REFUSE),
  }


def _test(
  argument: int, test: int, values: tuple[int, ...], then: int, otherwise: int
) -> list[tuple[int, int, int, int]]:
  """Returns instructions that check the low 32 bits of one argument.

  The kernel reads these arguments as 32 bits too, except `clone`'s flags, which
  all fit there.
  """
  code = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)]
  for value in values:
    code += [(test, 0, 1, value), (_RETURN, 0, 0, then)]
  return [*code, (_RETURN, 0, 0, otherwise)]


def _null(argument: int) -> list[tuple[int, int, int, int]]:
  """Returns instructions that refuse a pointer."""
  code, at = [], _ARGUMENTS_AT + 8 * argument
  for half in (at, at + 4):
    code += [(_LOAD, 0, 0, half), (_ANY_BIT, 0, 1, 0xFFFFFFFF)]
    code.append((_RETURN, 0, 0, _REFUSE))
  return [*code, (_RETURN, 0, 0, _ALLOW)]


def die_with_parent() -> None:
  """Makes the kernel kill this process when the thread that started it ends."""
  libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def check(what: str, done: int) -> None:
  """Raises OSError with the kernel's error unless `done` is 0."""
  if done != 0:
    code = ctypes.get_errno()
    raise OSError(code, f'{what}: {os.strerror(code)}')


# Each CDLL is a class, which only the garbage collector removes.
@functools.cache
def libc() -> ctypes.CDLL:
  return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | bytes | None) -> int:
  function = libc().syscall
  function.restype = ctypes.c_long
  return function(
    *(
      ctypes.c_long(a) if isinstance(a, int) else a
      for a in (number, *arguments)
    )
  )


def _why_not() -> str:
  """Returns 'no(NAME)' for the error of the last call."""
  code = ctypes.get_errno()
  return f'no({errno.errorcode.get(code, code)})'
