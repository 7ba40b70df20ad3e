"""The parent's side of one judging process: starts, asks and kills it.

The process is a fresh interpreter (`python -m
acereason_jax.verifiers.pool.worker`), not multiprocessing's, which re-imports
the trainer's `__main__` and so jax. Its messages are data of unknown origin,
since anything may have run in it.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import typing
from typing import Any, BinaryIO

from acereason_jax import children
from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers.pool import worker
from acereason_jax.verifiers.programs import stored

_START_SECONDS = 120.0
_REPLY_BYTES = 1 << 20

# A start costs half a CPU second with sympy, spread here over 10,000 tasks.
_TASKS = 10_000
# The math judge starts at 60 MB, keeps its size over 16,000 mixed answers, and
# peaks at 500 MB on big powers; a worker that keeps more memory is replaced.
_GROWTH_BYTES = 400 << 20
# After a task the size is read again only if the last reading is older than
# this: opening files for every answer of 50 microseconds would be most of the
# parent's work.
_SIZE_SECONDS = 0.1


class NoWorker(RuntimeError):
  """The process could not be started."""


class Died(Exception):
  """The worker's end of a pipe is closed."""


class Overran(Exception):
  """The deadline passed."""


class Garbage(Exception):
  """The worker sent something other than a reply to its task."""


class Process:
  """One worker process and its two pipes.

  It serves one thread; when the thread ends, the kernel kills the process too.
  `resident_bytes` is its last known size; 0 where there is no /proc.
  """

  def __init__(self, setup: bytes):
    self._setup = setup
    self._process: subprocess.Popen | None = None
    self.resident_bytes = 0

  def start(self) -> str:
    """Returns its confinement once its verify function is imported.

    Raises:
      ValueError: the verify function cannot be used.
      NoWorker: the process could not be started, died or did not answer.
    """
    try:
      self._process = subprocess.Popen(
        [sys.executable, '-P', '-m', worker.__name__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        # gmpy2 and flint would compute 10^9! in C endlessly; Python integers
        # can be interrupted.
        env=children.environment(
          SYMPY_GROUND_TYPES='python', **stored.environment()
        ),
        # Only the trainer handles a Ctrl+C at the terminal; it saves first.
        start_new_session=True,
      )
    except OSError as e:
      raise NoWorker(f'a verifier worker did not start: {e}') from e
    os.set_blocking(self._process.stdin.fileno(), False)
    try:
      reply = self._exchange(self._setup, time.monotonic() + _START_SECONDS)
    except (Died, Overran, Garbage) as e:
      raise NoWorker(
        f'a verifier worker did not start: {type(e).__name__.lower()} '
        f'({self.kill()}); its stderr says more'
      ) from e
    if 'failed' in reply:
      self.kill()
      raise ValueError(reply['failed'])
    self._tasks, self._spent = 0, False
    self.resident_bytes = _resident_bytes(self._process.pid)
    self._first_bytes, self._read_at = self.resident_bytes, time.monotonic()
    return str(reply.get('ready'))

  def idle(self) -> bool:
    """Whether it is alive and has sent nothing unasked."""
    return self._process is not None and not _ready(
      self._process.stdout, select.POLLIN, 0
    )

  def worn(self) -> bool:
    """Whether it is dead, or should be replaced before the next task."""
    growth = self.resident_bytes - self._first_bytes
    old = self._tasks >= _TASKS or growth > _GROWTH_BYTES
    return self._process is None or self._spent or old

  def judge(self, task_id: int, message: bytes, deadline: float) -> Verdict:
    """Returns the verdict; raises Died, Overran or Garbage."""
    reply = self._exchange(message, deadline)
    if reply.get('id') != task_id:
      raise Garbage('another id')
    status, detail = reply.get('status'), reply.get('detail')
    if status not in typing.get_args(Status) or not isinstance(detail, str):
      raise Garbage('no verdict')
    self._tasks += 1
    self._spent = bool(reply.get('spent'))
    if time.monotonic() - self._read_at >= _SIZE_SECONDS:
      self.resident_bytes = _resident_bytes(self._process.pid)
      self._read_at = time.monotonic()
    return Verdict(status, detail, 0.0)

  def kill(self) -> str:
    """Kills the process with its whole group; returns how it ended."""
    if self._process is None:
      return 'not running'
    process, self._process = self._process, None
    # The group comes first: once reaped, its id may belong to another process.
    try:
      os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
      process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    return f'exit status {process.returncode}'

  def _exchange(self, message: bytes, deadline: float) -> dict[str, Any]:
    """Returns the reply to one framed message."""
    fd = self._process.stdin.fileno()
    rest = memoryview(message)
    while rest:
      self._wait(self._process.stdin, select.POLLOUT, deadline)
      try:
        rest = rest[os.write(fd, rest) :]
      except BlockingIOError:
        continue
      except BrokenPipeError as e:
        raise Died from e
    header = self._read(worker.LENGTH.size, deadline)
    (size,) = worker.LENGTH.unpack(header)
    if size > _REPLY_BYTES:
      raise Garbage(f'a reply of {size} bytes')
    try:
      reply = json.loads(self._read(size, deadline))
    except (ValueError, RecursionError) as e:
      raise Garbage('no JSON') from e
    if not isinstance(reply, dict):
      raise Garbage('no object')
    return reply

  def _read(self, size: int, deadline: float) -> bytes:
    data = b''
    while len(data) < size:
      self._wait(self._process.stdout, select.POLLIN, deadline)
      chunk = os.read(self._process.stdout.fileno(), size - len(data))
      if not chunk:
        raise Died
      data += chunk
    return data

  def _wait(self, pipe: BinaryIO, event: int, deadline: float) -> None:
    if not _ready(pipe, event, deadline - time.monotonic()):
      raise Overran


def _ready(pipe: BinaryIO, event: int, seconds: float) -> bool:
  """Whether `pipe` can be used, or has hung up, within `seconds`."""
  poll = select.poll()
  poll.register(pipe, event)
  return bool(poll.poll(max(0, int(seconds * 1000))))


def _resident_bytes(pid: int) -> int:
  """Returns the size of a process in memory; 0 where it cannot be read."""
  try:
    with open(f'/proc/{pid}/statm', 'rb') as file:
      return int(file.read().split()[1]) * resource.getpagesize()
  except OSError:
    return 0
