"""Attacks that a confined process can no longer make, one by one.

Every attack is tried without confinement too: one that cannot succeed would
prove nothing. As root, all is tried once more as another user.
"""

import errno
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import hostile_verifiers
import pytest
import test_pool

from acereason_jax.verifiers.isolation import sandbox, syscalls
from acereason_jax.verifiers.pool.pool import VerifierPool

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

GUARD = 120
HERE = pathlib.Path(__file__).parent
NOBODY = 65534
USERS = [os.getuid(), NOBODY] if os.getuid() == 0 else [os.getuid()]
ATTACKS = sorted(hostile_verifiers.ATTACKS)
MACHINE = os.uname().machine

# Some hosts refuse these to all.
RARE = {
  'attribute',
  'exec memfd',
  'i386',
  'io_uring',
  'lease',
  'mem',
  'mem of sibling',
  'openat2',
  'raw clone3',
  'trace',
  'unnamed file',
  'vm read',
  'vm write',
}
# Attacks that only Landlock refuses, by the ABI that brought this, ...
LANDLOCK = {
  'append': 1,
  'descriptors': 1,
  'environ': 1,
  'environ of sibling': 1,
  'exec': 1,
  'exec memfd': 1,
  'execveat': 1,
  'link': 1,
  'make folder': 1,
  'make pipe': 1,
  'mem': 1,
  'mem of sibling': 1,
  'openat2': 1,
  'remove folder': 1,
  'rename': 1,
  'spawn': 1,
  'subprocess': 1,
  'symlink': 1,
  'system': 1,
  'thread writes': 1,
  'trace': 1,
  'unlink': 1,
  'unnamed file': 1,
  'vm read': 1,
  'vm write': 1,
  'write': 1,
  'write here': 1,
  'write in memory': 1,
  'truncate': 3,
  'truncate on open': 3,
  'listen': 4,
  'tcp': 4,
  'kill parent': 6,
  'kill sibling': 6,
  'pidfd': 6,
  'sigqueue': 6,
  'tgkill': 6,
  'tkill': 6,
}
# ... and what the filter cannot: it sees no paths.
READING = {
  'descriptors',
  'environ',
  'environ of sibling',
  'mem',
  'mem of sibling',
}


def _python(*arguments, **kwargs):
  path = os.pathsep.join([str(HERE), *sys.path])
  done = subprocess.run(
    [sys.executable, *arguments],
    capture_output=True,
    text=True,
    timeout=GUARD,
    env=os.environ | {'PYTHONPATH': path},
    **kwargs,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@functools.cache
def _results(layer, user):
  file = hostile_verifiers.__file__
  return json.loads(_python(file, layer, str(user)))


def _confined(code):
  """The output of `code` after `confine`, whose line is `line`."""
  head = 'from acereason_jax.verifiers.isolation import sandbox\n'
  return _python('-c', f'{head}line = sandbox.confine()\n{code}').strip()


@functools.cache
def _line():
  return _confined('print(line)')


def _landlock_abi():
  found = re.search(r'landlock=abi(\d+)', _line())
  return int(found[1]) if found else 0


@functools.cache
def _seccomp():
  return 'seccomp=yes' in _line()


def _check(layer, user, name):
  status, detail = _results(layer, user)[name]
  assert status == 'wrong', detail
  free, why_not = _results('none', user)[name]
  if free == 'wrong' and name in RARE:
    pytest.skip(f'refused to all on this host: {why_not}')
  assert free == 'right', why_not


# --- the attacks ------------------------------------------------------------


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('name', ATTACKS)
def test_confined(name, user):
  if not (_seccomp() and _landlock_abi()):
    pytest.skip(f'this host has less: {_line()}')
  _check('all', user, name)


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('name', sorted(LANDLOCK))
def test_landlock_alone(name, user):
  if _landlock_abi() < LANDLOCK[name]:
    pytest.skip(f'this host has less: {_line()}')
  _check('landlock', user, name)


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('name', sorted(set(ATTACKS) - READING))
def test_seccomp_alone(name, user):
  if not _seccomp():
    pytest.skip(f'this host has less: {_line()}')
  _check('seccomp', user, name)


@pytest.mark.parametrize('name', ATTACKS)
def test_a_worker_of_a_pool_is_confined(name, tmp_path, monkeypatch):
  """Here the trainer is this process, and the sibling a worker."""
  if not (_seccomp() and _landlock_abi()):
    pytest.skip(f'this host has less: {_line()}')
  monkeypatch.syspath_prepend(str(HERE))
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  for file in ('old', 'renamed', 'removed'):
    (tmp_path / file).write_text('theirs')
  before = sorted(tmp_path.rglob('*'))
  target = dict(folder=str(tmp_path), tcp=9, udp=9, unix=f'{tmp_path}/none')
  pool = _attacking_pool()
  siblings = [worker.pid for worker in test_pool._workers()]
  assert len(siblings) == 2
  target |= dict(parent=os.getpid(), siblings=siblings)
  verdict = pool.submit(name, json.dumps(target)).result(GUARD)
  assert verdict.status == 'wrong', verdict.detail
  assert sorted(tmp_path.rglob('*')) == before
  assert (tmp_path / 'old').read_text() == 'theirs'


@pytest.fixture(scope='module', autouse=True)
def _close_the_pool():
  yield
  if _attacking_pool.cache_info().currsize:
    _attacking_pool().close()


@functools.cache
def _attacking_pool():
  return VerifierPool('hostile_verifiers:attack', {}, 2, 30.0)


# --- what must go on working ------------------------------------------------


@pytest.mark.parametrize(
  'code',
  [
    'import wave, ctypes, decimal; print(open(__import__("os").__file__, "rb")'
    '.read(1) != b"")',
    'import threading; r = []; t = threading.Thread(target=r.append, '
    'args=(True,)); t.start(); t.join(); print(r[0])',
    'import concurrent.futures as f; print(all(f.ThreadPoolExecutor(4).map('
    'bool, [1] * 40)))',
    'import os; a, b = os.pipe(); os.write(b, b"x"); print(os.read(a, 1) == '
    'b"x")',
    'import os, random, time; time.sleep(0.01); random.seed(); '
    'print(len(os.urandom(9)) == 9)',
    'import os, signal; r = []; signal.signal(signal.SIGUSR1, lambda *a: '
    'r.append(1)); os.kill(os.getpid(), signal.SIGUSR1); '
    'signal.raise_signal(signal.SIGUSR1); print(len(r) == 2)',
    'import signal; r = []; signal.signal(signal.SIGALRM, lambda *a: '
    'r.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01); '
    'signal.pause(); print(bool(r))',
    'import resource as r; r.setrlimit(r.RLIMIT_CPU, (99, -1)); '
    'print(r.getrlimit(r.RLIMIT_CPU)[0] == 99)',
    'print(len(bytearray(300 << 20)) == 300 << 20)',
    'import os; print(not os.environ and len(os.listdir("/")) > 0)',
    'import numpy as np; a = np.ones((300, 300)); print((a @ a)[0, 0] == 300)',
    'import os; a, b = os.pipe(); os.set_blocking(a, False); '
    'os.set_inheritable(a, True); os.set_inheritable(b, False); '
    'print(os.get_inheritable(a) and not os.get_blocking(a))',
    'import os, sys; print(not os.isatty(0) and not open(os.devnull).isatty())',
    'import os, fcntl; a, b = os.pipe(); '
    'print(fcntl.fcntl(os.dup(a), fcntl.F_GETFD) == fcntl.FD_CLOEXEC)',
    'import array, fcntl, os, termios; a, b = os.pipe(); os.write(b, b"xyz"); '
    'n = array.array("i", [0]); fcntl.ioctl(a, termios.FIONREAD, n); '
    'print(n[0] == 3)',
  ],
)
def test_confined_processes_can_still(code):
  assert _confined(code) == 'True'


def test_the_filter_holds_threads_that_were_there_before():
  if not _seccomp():
    pytest.skip(f'this host has less: {_line()}')
  code = """
import os, threading
from acereason_jax.verifiers.isolation import sandbox
go, found = threading.Event(), []
def work():
  go.wait()
  try:
    os.kill(os.getppid(), 0)
  except PermissionError:
    found.append(True)
thread = threading.Thread(target=work)
thread.start()
sandbox.confine()
go.set()
thread.join()
print(found)
"""
  assert _python('-c', code).strip() == '[True]'


# --- hosts that allow less --------------------------------------------------


def test_the_line_names_every_layer():
  assert re.fullmatch(
    r'landlock=\S+ seccomp=\S+ no_new_privs=\S+ capabilities=\S+ network=\S+',
    _line(),
  )


def test_a_kernel_without_landlock_and_seccomp_still_runs():
  code = """
import ctypes, errno
from acereason_jax.verifiers.isolation import sandbox
def none(*arguments):
  ctypes.set_errno(errno.ENOSYS)
  return -1
sandbox.syscall = none
print(sandbox.confine())
"""
  line = _python('-c', code)
  assert 'landlock=no(ENOSYS) seccomp=no(ENOSYS)' in line
  assert 'network=open' in line


def test_an_unknown_machine_still_runs():
  code = 'syscalls.NUMBERS.clear(); print(sandbox.confine())'
  head = 'from acereason_jax.verifiers.isolation import sandbox, syscalls; '
  line = _python('-c', head + code)
  assert f'seccomp=no({MACHINE})' in line
  assert 'network=open' in line


def test_another_system_still_runs():
  code = """
import sys
from acereason_jax.verifiers.isolation import sandbox
sys.platform = 'darwin'
print(sandbox.confine())
"""
  line = _python('-c', code)
  assert 'network=open' in line
  assert 'darwin' in line


# --- the filter itself, for machines that are not here ----------------------

X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003
ALLOWED = 'allowed'


def _decide(machine, architecture, number, *arguments):
  """Runs the filter as the kernel would; a second reading of its format."""
  fields = (number, architecture, 0, 0)
  words = list(fields)
  for argument in (*arguments, *[0] * (6 - len(arguments))):
    words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
  code, at, value = sandbox.program(machine, 1234), 0, None
  assert len(code) // 8 <= 4096
  while True:
    line = code[8 * at : 8 * at + 8]
    operation = int.from_bytes(line[:2], 'little')
    constant = int.from_bytes(line[4:], 'little')
    if operation == 0x20:
      assert constant % 4 == 0
      value, jump = words[constant // 4], 0
    elif operation == 0x06:
      break
    else:
      holds = {
        0x15: value == constant,
        0x25: value > constant,
        0x45: value & constant,
      }[operation]
      jump = line[2] if holds else line[3]
    at += 1 + jump
  if constant == 0x7FFF0000:
    return ALLOWED
  assert constant >> 16 == 5
  return errno.errorcode[constant & 0xFFFF]


@pytest.mark.parametrize(
  ('machine', 'architecture', 'calls'),
  [
    # write, openat, clone, kill, tgkill, prlimit64, prctl, fcntl, ioctl, sendto
    ('x86_64', X86_64, (1, 257, 56, 62, 234, 302, 157, 72, 16, 44)),
    ('aarch64', AARCH64, (64, 56, 220, 129, 131, 261, 167, 25, 29, 206)),
  ],
)
def test_the_filter_by_arguments(machine, architecture, calls):
  decide = functools.partial(_decide, machine, architecture)
  write, openat, clone, kill, tgkill, prlimit, prctl, fcntl, ioctl = calls[:-1]
  for address in (0, 1, 1 << 32, 0x7FFF12345678):
    sent = decide(calls[-1], 3, 0x7000, 1, 0, address, 16)
    assert sent == ('EPERM' if address else ALLOWED)
  at_cwd = -100 & 0xFFFFFFFFFFFFFFFF
  assert decide(write, 1, 2, 3) == ALLOWED
  assert decide(openat, at_cwd, 7, 0o2000000) == ALLOWED  # O_CLOEXEC
  for flags in (0o1, 0o2, 0o3, 0o100, 0o1000, 0o102, 1 << 32 | 1):
    assert decide(openat, at_cwd, 7, flags) == 'EPERM'
  # The flags of pthread_create, and those of fork and vfork.
  assert decide(clone, 0x3D0F00) == ALLOWED
  assert decide(clone, 0x1200011) == 'EPERM'
  assert decide(clone, 0x4111) == 'EPERM'
  for call in (kill, tgkill):
    assert decide(call, 1234, 9) == ALLOWED
    for pid in (0, 1, 1233, -1 & 0xFFFFFFFF, -1234 & 0xFFFFFFFFFFFFFFFF):
      assert decide(call, pid, 9) == 'EPERM'
  assert decide(prlimit, 0) == decide(prlimit, 1234) == ALLOWED
  assert decide(prlimit, 1) == 'EPERM'
  assert decide(prctl, 15) == ALLOWED  # PR_SET_NAME
  # PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SCHED_CORE.
  for option in (1, 4, 62, 1 << 32 | 1):
    assert decide(prctl, option) == 'EPERM'
  allowed = {c for c in range(1100) if decide(fcntl, 5, c, 0) == ALLOWED}
  assert allowed == {0, 1, 2, 3, 4, 1030, 1032, 1034}
  for command in (*allowed, 8, 10, 15, 1024, 1026, 6, 7, 37, 38):
    # The kernel reads 32 bits.
    high = decide(fcntl, 5, 1 << 32 | command, 0)
    assert (high == ALLOWED) == (command in allowed), command
  # F_SETFL: O_NONBLOCK, O_APPEND, but not O_ASYNC.
  assert decide(fcntl, 5, 4, 0o4000) == decide(fcntl, 5, 4, 0o2000) == ALLOWED
  for flags in (0o20000, 0o24000, 1 << 32 | 0o20000):
    assert decide(fcntl, 5, 4, flags) == 'EPERM'
  requests = {0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A}
  # All of terminals and files, of sockets, of files with a size, of devices.
  for command in (
    *range(0x5400, 0x5500),
    *range(0x8900, 0x8A00),
    *(0x802C542A, 0x402C542B, 0x40045436, 0x80086601, 0xC020660B, 0x4B4E),
    *(0, 1, 2, 0x40049409, 0x125E, 0x2400, 0xAA3F, 0xFFFFFFFF),
  ):
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
      found = decide(ioctl, 0, high | command)
      assert found == (ALLOWED if command in requests else 'EPERM'), command


@pytest.mark.parametrize(
  ('machine', 'architecture', 'denied'),
  [
    # socket, socketpair, connect, execve, ptrace, process_vm_writev, bpf,
    # io_uring_setup, unshare, mount, unlinkat, fchmodat, shmget, keyctl,
    # sendmsg, memfd_create, io_setup, getxattr, sync
    (
      'x86_64',
      X86_64,
      (
        *(41, 53, 42, 59, 101, 311, 321, 425, 272, 165, 263, 268, 29, 250),
        *(46, 319, 206, 191, 162),
      ),
    ),
    (
      'aarch64',
      AARCH64,
      (
        *(198, 199, 203, 221, 117, 271, 280, 425, 97, 40, 35, 53, 194, 219),
        *(211, 279, 0, 8, 81),
      ),
    ),
  ],
)
def test_the_filter_by_number(machine, architecture, denied):
  decide = functools.partial(_decide, machine, architecture)
  assert {decide(number) for number in denied} == {'EPERM'}
  # clone3 and openat2; what is newer than the table; x32's numbers.
  for number in (435, 437, 451, 463, 1 << 20, 0x40000000 | 41):
    assert decide(number) == 'ENOSYS'
  # By any other machine's calling convention, nothing.
  for other in {X86_64, AARCH64, I386} - {architecture}:
    assert {_decide(machine, other, n) for n in range(460)} == {'EPERM'}


def test_what_python_and_threads_need_is_allowed():
  x86_64 = (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 17, 20, 24, 28, 32, 35)
  x86_64 += (39, 60, 79, 89, 96, 186, 202, 217, 218, 228, 230, 231, 262, 270)
  x86_64 += (273, 293, 318, 332, 334, 436, 439, 449)
  for number in x86_64:
    assert _decide('x86_64', X86_64, number) == ALLOWED
  aarch64 = (17, 23, 24, 57, 61, 62, 63, 64, 65, 66, 67, 73, 78, 79, 80, 93)
  aarch64 += (94, 96, 98, 99, 113, 115, 124, 134, 135, 172, 178, 214, 215)
  aarch64 += (222, 226, 233, 278, 293, 436, 439, 449)
  for number in aarch64:
    assert _decide('aarch64', AARCH64, number) == ALLOWED


def test_no_name_or_number_comes_twice():
  assert len(set(syscalls.DENIED)) == len(syscalls.DENIED)
  for numbers in syscalls.NUMBERS.values():
    assert len(set(numbers.values())) == len(numbers)
    assert max(numbers.values()) <= syscalls.LAST
  x86_64, aarch64 = syscalls.NUMBERS.values()
  assert (
    set(aarch64)
    < set(x86_64)
    == set(syscalls.DENIED)
    | {
      *('open', 'openat', 'openat2', 'clone', 'clone3', 'kill', 'tgkill'),
      *('prlimit64', 'prctl', 'fcntl', 'ioctl', 'sendto'),
    }
  )
  for name in set(x86_64) & set(aarch64):
    assert x86_64[name] == aarch64[name] or aarch64[name] < 424


@pytest.mark.parametrize(
  ('machine', 'header'),
  [
    ('x86_64', 'x86_64-linux-gnu/asm/unistd_64.h'),
    ('aarch64', 'asm-generic/unistd.h'),
  ],
)
def test_the_table_agrees_with_the_kernel_headers(machine, header):
  file = pathlib.Path('/usr/include', header)
  if not file.exists():
    pytest.skip(f'{file} is not installed')
  rows = re.findall(r'#define __NR(?:3264)?_(\w+)\s+(\d+)', file.read_text())
  numbers = {name: int(number) for name, number in rows}
  assert len(numbers) > 250
  table = syscalls.NUMBERS[machine]
  known = {name: n for name, n in table.items() if name in numbers}
  assert len(known) > 0.9 * len(table)
  assert known == {name: numbers[name] for name in known}


@pytest.mark.parametrize('files', [20, 63])
def test_a_low_limit_on_open_files_is_kept(files):
  """A limit that cannot be raised stays; it used to end the worker silently."""
  code = (
    'import resource\n'
    'from acereason_jax.verifiers.isolation import sandbox\n'
    f'resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n'
    'sandbox.drop_capabilities()\n'
    'sandbox.confine()\n'
    'print(resource.getrlimit(resource.RLIMIT_NOFILE))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout == f'({files}, {files})\n', done.stderr
