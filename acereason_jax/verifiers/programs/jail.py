"""Runs programs of unknown intent, one fresh process each; the parent's side.

Tiers, best first. T3: user, mount, network, IPC, UTS and process namespaces,
Landlock, seccomp, resource limits, a private scratch folder. T2, for containers
that refuse namespaces: Landlock without any writable path, seccomp, resource
limits. T1, for kernels without Landlock, must be requested by name: programs
can read everything that the jail's user can, even the environment of its
processes. A host that refuses seccomp runs no programs. docs/judges.md lists
what each version of Landlock prevents.

Covered: other processes (memory, signals, limits), files (writing any, reading
any except the Python installation and system libraries), network, IPC, new
processes and programs, memory, CPU, output, threads, descriptors, processes
that outlive the run. Not covered: bugs of the kernel in the allowed calls,
timing and cache side channels, and load on the machine within the limits. Below
T3 programs can read names, sizes and owners of files. Limits on threads, timers
and pending signals are per user, so other jails of that user may use them up;
each of root's jails has a user of its own. `Jail.run` has the interface that a
remote backend needs: bytes in, bytes out.
"""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
import time

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import descriptors, zygote

# Tiers tried in this order; the weak tier is not tried.
TIERS = ('T3', 'T2')
WEAK = ('T1',)
_START_SECONDS = 60.0
# Where files come over a network, importing libraries sleeps in each run. Sleep
# measured for numpy above the first value is not a program's fault: a multiple
# of it is free, up to the last value.
_LOCAL_SECONDS, _IMPORTS, _FREE_SECONDS = 0.05, 2.0, 1.0
_REPLY_BYTES = 1 << 16


class SandboxError(RuntimeError):
  """The jail failed, not the program."""


class Broke(SandboxError):
  """The jail failed while a program ran; it may be the program's fault."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """The limits of one run.

  cpu_seconds: CPU time, which decides TLE.
  wall_seconds: wall time, a last resort for machines that are too busy.
  memory_bytes: memory of the program, beyond the interpreter's own.
  asleep_seconds: time spent neither on a core nor waiting for one.
  output_bytes: size of stdout, and of the result.
  stderr_bytes: size of the end of stderr that is kept.
  threads: number of threads that may run at once.
  """

  cpu_seconds: float
  wall_seconds: float
  memory_bytes: int
  asleep_seconds: float = math.inf
  output_bytes: int = 64 << 20
  stderr_bytes: int = 16 << 10
  threads: int = 256


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The outcome of a run.

  Outputs are at most one byte longer than allowed; that byte shows that there
  was more.

  exit: exit status, or -signal.
  timed_out: whether it slept too long, or exceeded its wall time.
  cpu_seconds: CPU time of all its threads.
  wall_seconds: wall time from its start to its end.
  peak_bytes: the most memory it had.
  confined: its confinement, as `sandbox.confine` returns it.
  stdout: its output.
  result: result of the called function, JSON or b''.
  stderr: end of its stderr.
  asleep_seconds: time it slept, beyond the time to read libraries on this host;
    0 if the kernel does not report waits for a core.
  """

  exit: int
  timed_out: bool
  cpu_seconds: float
  wall_seconds: float
  peak_bytes: int
  confined: str
  stdout: bytes
  result: bytes
  stderr: bytes
  asleep_seconds: float = 0.0


class Jail:
  """One zygote, for the thread that made it; it ends with that thread.

  `confinement` is a line that begins with the `tier` and lists what confines
  programs, and why no better tier is used. After a SandboxError it is closed.
  """

  def __init__(self, tier: str = 'auto', newest_abi: int = sandbox.EVERY_ABI):
    """Starts the zygote in the best of TIERS the host allows, or in `tier`.

    It uses only features of Landlock up to `newest_abi`. Only tests should use
    less than the kernel has.

    Raises:
      ValueError: there is no such tier.
      SandboxError: the host does not allow it; the message says what is
        missing.
    """
    if tier not in ('auto', *TIERS, *WEAK):
      known = ', '.join((*TIERS, *WEAK))
      raise ValueError(f'tier={tier!r}: give auto, or one of {known}')
    self._newest_abi = newest_abi
    self._free_seconds = 0.0
    refusals = []
    for candidate in TIERS if tier == 'auto' else (tier,):
      try:
        self._start(candidate)
        held = self._test(_LEAKS if candidate in WEAK else set())
      except SandboxError as e:
        refusals.append(f'{candidate}: {e}')
        continue
      self.tier = candidate
      self.confinement = '; '.join((f'{candidate} {held}', *refusals))
      return
    raise SandboxError('; '.join(refusals))

  def run(
    self,
    program: bytes,
    stdin: bytes,
    limits: Limits,
    fn: str = '',
    args: list | tuple = (),
    how: str = '',
  ) -> Outcome:
    """Returns the outcome of the program, as `__main__` with this input.

    With `fn` ('f' or 'Solution().f') it is a module instead, and that function
    is called with `args`, JSON values, once the module has run; or `how`, a
    name in `calls.HOW`, says what is done with it and `args`.

    Raises:
      SandboxError: the zygote is gone, or could not run it.
      Broke: it ended or failed once the program was handed over.
    """
    free = self._free_seconds
    limits = dataclasses.replace(
      limits, asleep_seconds=limits.asleep_seconds + free
    )
    call = json.dumps(dict(fn=fn, args=list(args), how=how)).encode()
    deadline = time.monotonic() + limits.wall_seconds + _START_SECONDS
    files: list[int] = []
    failure = SandboxError
    try:
      # Programs and their outputs bypass the zygote, because its memory is
      # copied to all later programs.
      for content in (stdin, b'', b'', b'', call + b'\n' + program):
        files.append(os.memfd_create('run', os.MFD_CLOEXEC))
        _fill(files[-1], content)
      request = json.dumps(dataclasses.asdict(limits)).encode()
      header = zygote.HEADER.pack(len(request))
      socket.send_fds(self._channel, [header], files)
      self._channel.sendall(request)
      failure = Broke
      happened = json.loads(self._receive(deadline))
      if 'broken' in happened:
        failure = Broke if happened['began'] else SandboxError
        raise ValueError(happened['broken'])
      slept = max(0.0, happened['asleep_seconds'] - free)
      happened['asleep_seconds'] = slept
      return _outcome(happened, files, limits)
    except (OSError, ValueError) as e:
      self.close()
      raise failure(f'the zygote failed: {e}') from e
    except BaseException:
      # The next run must not read remains of this one.
      self.close()
      raise
    finally:
      for file in files:
        os.close(file)

  def close(self) -> None:
    """Ends the zygote and its programs."""
    self._channel.close()
    self._process.kill()
    self._process.wait()

  def __enter__(self) -> 'Jail':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def _start(self, tier: str) -> None:
    try:
      self._channel, theirs = socket.socketpair()
    except OSError as e:
      raise SandboxError(f'the zygote did not start: {e}') from e
    try:
      self._process = subprocess.Popen(
        [
          *(sys.executable, '-P', '-m', zygote.__name__),
          *(str(os.getpid()), str(theirs.fileno()), tier),
          str(self._newest_abi),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        cwd='/',
        env={'PYTHONPATH': os.pathsep.join(map(os.path.abspath, sys.path))}
        | {'PYTHONHASHSEED': '0', 'PYTHONDONTWRITEBYTECODE': '1'}
        # Each thread's own arena would take 64 MiB of address space.
        | {'MALLOC_ARENA_MAX': '1'},
      )
    except OSError as e:
      self._channel.close()
      raise SandboxError(f'the zygote did not start: {e}') from e
    finally:
      theirs.close()
    try:
      reply = json.loads(self._receive(time.monotonic() + _START_SECONDS))
    except (OSError, ValueError) as e:
      self.close()
      raise SandboxError(f'the zygote did not start: {e}') from e
    if 'refused' in reply:
      self.close()
      raise SandboxError(reply['refused'])

  def _receive(self, deadline: float) -> bytes:
    (size,) = zygote.HEADER.unpack(self._exactly(zygote.HEADER.size, deadline))
    if size > _REPLY_BYTES:
      raise ValueError(f'a reply of {size} bytes')
    return self._exactly(size, deadline)

  def _exactly(self, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
      self._channel.settimeout(max(0.01, deadline - time.monotonic()))
      part = self._channel.recv(min(size - len(data), 1 << 20))
      if not part:
        raise OSError('it closed its end')
      data += part
    return bytes(data)

  def _test(self, leaks: set[str]) -> str:
    """Runs attacks that must fail, except `leaks`; returns the confinement.

    Raises:
      SandboxError: another attack worked.
    """
    limits = Limits(cpu_seconds=5, wall_seconds=20, memory_bytes=1 << 30)
    outcome = self.run(_SELF_TEST, b'', limits)
    text = outcome.stdout.decode('utf-8', 'replace').strip()
    worked, _, tried = text.partition(' of ')
    found = set(worked.split(',')) - {'nothing'}
    if not tried.isdecimal() or not found <= leaks:
      self.close()
      how = text or f'nothing, exit status {outcome.exit}'
      raise SandboxError(f'the self-test found: {how}')
    held = f'self-test={int(tried) - len(found)}/{tried}'
    failed = f' (not {worked})' if found else ''
    return f'{outcome.confined} {held}{failed} {self._numpy()}'

  def _numpy(self) -> str:
    """Returns programs' version of numpy, or why there is none; times it."""
    limits = Limits(cpu_seconds=20, wall_seconds=60, memory_bytes=1 << 30)
    program = b'import numpy\nprint(numpy.__version__)'
    outcome = self.run(program, b'', limits)
    if outcome.asleep_seconds > _LOCAL_SECONDS:
      # The first run put the files into memory, so this one reads no disk.
      again = self.run(program, b'', limits)
      slept = _IMPORTS * again.asleep_seconds
      if again.asleep_seconds > _LOCAL_SECONDS:
        self._free_seconds = min(_FREE_SECONDS, slept)
    if outcome.exit == 0:
      return f'numpy={_one_line(outcome.stdout)}'
    last = b''.join(outcome.stderr.strip().splitlines()[-1:])
    return f'numpy=no({_one_line(last) or outcome.exit})'


def _outcome(happened: dict, files: list[int], limits: Limits) -> Outcome:
  _, out, err, result, _ = files
  most = limits.output_bytes + 1
  tail = os.fstat(err).st_size - limits.stderr_bytes
  return Outcome(
    **happened,
    stdout=_read(out, 0, most),
    result=_read(result, 0, most),
    # The end tells the most.
    stderr=_read(err, max(0, tail), most),
  )


def _fill(file: int, content: bytes) -> None:
  """Writes a new file, and seeks back to its start."""
  descriptors.write_all(file, content)
  os.lseek(file, 0, os.SEEK_SET)


def _one_line(text: bytes) -> str:
  """Returns short plain text, without the separators of a confinement line."""
  words = text.decode('ascii', 'replace').replace(';', ' ').split()
  return ' '.join(words)[:100]


def _read(file: int, start: int, most: int) -> bytes:
  # Python allocates as many bytes as it is asked to read.
  parts, end = [], min(start + most, os.fstat(file).st_size)
  while start < end and (part := os.pread(file, end - start, start)):
    parts.append(part)
    start += len(part)
  return b''.join(parts)


_SELF_TEST = rb"""
import ctypes, os, signal, socket
broke, tried = [], 0
def attempt(name, action):
  global tried
  tried += 1
  try:
    action()
  except (OSError, ValueError, FileNotFoundError):
    return
  broke.append(name)
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *args):
  if getattr(libc, function)(*args) < 0:
    raise OSError(ctypes.get_errno(), function)
attempt('write', lambda: open('/var/tmp/x', 'w'))
attempt('write-lib', lambda: open(os.__file__, 'a'))
attempt('neither', lambda: os.open('/etc/passwd', 3))
attempt('read', lambda: open('/etc/passwd').read())
attempt('list', lambda: os.listdir('/var'))
attempt('network', lambda: socket.socket(socket.AF_INET))
attempt('unix', lambda: socket.socket(socket.AF_UNIX))
attempt('fork', os.fork)
attempt('exec', lambda: os.execv('/bin/true', ['true']))
attempt('signal', lambda: os.kill(os.getppid() or 1, 0))
attempt('ptrace', lambda: call('ptrace', 0, 0, 0, 0))
attempt('unshare', lambda: call('unshare', 0x10000000))
attempt('limits', lambda: __import__('resource').prlimit(os.getppid() or 1, 7))
attempt('proc', lambda: open('/proc/%d/environ' % (os.getppid() or 1)).read())
attempt('mount', lambda: call('mount', b'none', b'/tmp', b'tmpfs', 0, None))
# The kernel would send a signal for a descriptor of this process.
other = os.getppid() or 1
ends = socket.socketpair()
def ioctl(request, value):
  value = ctypes.byref(ctypes.c_int(value))
  call('ioctl', ends[0].fileno(), ctypes.c_ulong(request), value)
# FIOSETOWN, SIOCSPGRP, FIOASYNC; the kernel ignores what is above 32 bits.
attempt('ioctl-owner', lambda: ioctl(0x8901, other))
attempt('ioctl-group', lambda: ioctl(0x8902, other))
attempt('ioctl-high', lambda: ioctl(1 << 32 | 0x8901, other))
attempt('ioctl-async', lambda: ioctl(0x5452, 1))
# F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETFL.
def command(number, value):
  call('fcntl', ends[0].fileno(), number, value)
attempt('owner', lambda: command(8, other))
attempt('owner-ex', lambda: command(15, (ctypes.c_int * 2)(1, other)))
attempt('signal-kind', lambda: command(10, int(signal.SIGURG)))
attempt('async', lambda: command(4, os.O_ASYNC))
print(','.join(broke) or 'nothing', 'of', tried)
"""
# Only Landlock prevents these.
_LEAKS = {'read', 'list', 'proc'}
