"""Runs a verify function in worker processes that the parent can kill.

Nothing the worker does can stop its clock: the deadline is the parent's, and
covers one task's running time, never its queueing nor a worker's start. The
workers are fresh interpreters (`python -m acereason_jax.verifiers.pool`), not
multiprocessing's: that re-imports the trainer's `__main__`, hence jax.
"""

import collections
import concurrent.futures
import contextlib
import ctypes
import dataclasses
import functools
import inspect
import itertools
import json
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from acereason_jax.resolve import resolve
from acereason_jax.types import Status, Verdict

_START_SECONDS = 120.0
_MEMORY_BYTES = 2 << 30
_REPLY_BYTES = 1 << 20
_LENGTH = struct.Struct('>I')
_KEPT_VARIABLES = ('PATH', 'LD_LIBRARY_PATH', 'PYTHONHOME')
_PR_SET_PDEATHSIG = 1


class _Died(Exception):
  """The worker's end of a pipe is closed."""


class _Overran(Exception):
  """The deadline passed."""


class _Garbage(Exception):
  """The worker sent what is no reply to the task it was given."""


class VerifierPool:
  """Judges responses with `verify(response, answer, **kwargs)` in workers.

  `verify` is a 'module:function' path. A task that runs longer than
  `timeout_seconds` is killed: 'timeout'. One whose worker dies runs once more
  on a fresh worker, then is 'error'; garbage from a worker is 'error'.
  """

  def __init__(
    self,
    verify: str,
    kwargs: Mapping[str, Any],
    workers: int,
    timeout_seconds: float,
  ):
    """Starts the workers and waits until all are warm.

    Raises:
      ValueError: fewer than one worker, or `verify` cannot be resolved or
        called with `kwargs`; the worker's own words are in the message.
      RuntimeError: a worker could not be started.
    """
    if workers < 1 or timeout_seconds <= 0:
      raise ValueError(
        f'workers={workers}, timeout_seconds={timeout_seconds}: '
        'both must be positive'
      )
    self._setup = _encode({'verify': verify, 'kwargs': dict(kwargs)})
    self._timeout_seconds = timeout_seconds
    self._tasks: queue.SimpleQueue = queue.SimpleQueue()
    self._ids = itertools.count()
    self._lock = threading.Lock()
    self._closed = False
    self._counts: collections.Counter[str] = collections.Counter()
    started = [concurrent.futures.Future() for _ in range(workers)]
    self._threads = [
      threading.Thread(target=self._supervise, args=(f,), daemon=True)
      for f in started
    ]
    for thread in self._threads:
      thread.start()
    try:
      for future in started:
        future.result()
    except BaseException:
      self.close()
      raise

  def __enter__(self) -> 'VerifierPool':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def submit(
    self, response: str, answer: str
  ) -> concurrent.futures.Future[Verdict]:
    """Returns the verdict's future; callable from any thread.

    Raises:
      RuntimeError: the pool is closed.
    """
    task_id = next(self._ids)
    task = _encode({'id': task_id, 'response': response, 'answer': answer})
    future: concurrent.futures.Future[Verdict] = concurrent.futures.Future()
    with self._lock:
      if self._closed:
        raise RuntimeError('submit() on a closed VerifierPool')
      self._tasks.put((future, task_id, task))
    return future

  def stats(self) -> dict[str, int]:
    """Returns how many verdicts had each status, and 'restarts'."""
    with self._lock:
      return dict(self._counts)

  def close(self) -> None:
    """Cancels what is queued, waits for what runs, leaves no process."""
    with self._lock:
      self._closed = True
    with contextlib.suppress(queue.Empty):
      while item := self._tasks.get_nowait():
        item[0].cancel()
    for _ in self._threads:
      self._tasks.put(None)
    for thread in self._threads:
      thread.join()

  def _supervise(self, started: concurrent.futures.Future) -> None:
    """Owns one worker for life; the kernel ties the worker to this thread."""
    worker = _Worker(self._setup)
    try:
      worker.start()
    except (OSError, RuntimeError, ValueError) as e:
      started.set_exception(e)
      return
    started.set_result(None)
    try:
      while (item := self._tasks.get()) is not None:
        future, task_id, task = item
        if future.set_running_or_notify_cancel():
          self._resolve(future, worker, task_id, task)
    finally:
      worker.kill()

  def _resolve(self, future, worker: '_Worker', task_id: int, task: bytes):
    """Sets the verdict of one task, whatever becomes of the worker."""
    try:
      verdict = self._judge(worker, task_id, task)
    # A bug in here must reach the caller instead of hanging it.
    except Exception as e:  # noqa: BLE001
      worker.kill()
      future.set_exception(e)
      return
    with self._lock:
      self._counts[verdict.status] += 1
    future.set_result(verdict)

  def _judge(self, worker: '_Worker', task_id: int, task: bytes) -> Verdict:
    """Returns the verdict on one task, tried twice if the worker dies."""
    for _ in range(2):
      if not worker.idle():
        worker.kill()
        try:
          worker.start()
        except (OSError, RuntimeError, ValueError) as e:
          return Verdict('error', f'no worker: {e}', 0.0)
        with self._lock:
          self._counts['restarts'] += 1
      start = time.monotonic()
      try:
        verdict = worker.judge(task_id, task, start + self._timeout_seconds)
        return dataclasses.replace(verdict, seconds=time.monotonic() - start)
      except _Died:
        status, detail = 'error', f'worker died twice ({worker.kill()})'
      except _Overran:
        worker.kill()
        status, detail = 'timeout', f'over {self._timeout_seconds} s'
        break
      except _Garbage as e:
        worker.kill()
        status, detail = 'error', f'worker sent garbage ({e})'
        break
    return Verdict(status, detail, time.monotonic() - start)


class _Worker:
  """One process and its two pipes; used by one supervisor thread only."""

  def __init__(self, setup: bytes):
    self._setup = setup
    self._process: subprocess.Popen | None = None

  def start(self) -> None:
    """Returns when the process has imported its verify function.

    Raises:
      ValueError: the verify function cannot be had.
      RuntimeError: the process died or said nothing.
    """
    self._process = subprocess.Popen(
      [sys.executable, '-P', '-m', __spec__.name, str(os.getpid())],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      bufsize=0,
      env=_environment(),
      # A Ctrl+C at the terminal is for the trainer, which saves first.
      start_new_session=True,
    )
    os.set_blocking(self._process.stdin.fileno(), False)
    try:
      reply = self._exchange(self._setup, time.monotonic() + _START_SECONDS)
    except (_Died, _Overran, _Garbage) as e:
      raise RuntimeError(
        f'a verifier worker did not start: {type(e).__name__[1:].lower()} '
        f'({self.kill()}); its stderr says more'
      ) from e
    if 'failed' in reply:
      self.kill()
      raise ValueError(reply['failed'])

  def idle(self) -> bool:
    """Whether it is alive and has said nothing that nobody asked for."""
    return self._process is not None and not _ready(
      self._process.stdout, select.POLLIN, 0
    )

  def judge(self, task_id: int, task: bytes, deadline: float) -> Verdict:
    """Returns the verdict; raises _Died, _Overran or _Garbage."""
    reply = self._exchange(task, deadline)
    if reply.get('id') != task_id:
      raise _Garbage('another id')
    status, detail = reply.get('status'), reply.get('detail')
    if status not in typing.get_args(Status) or not isinstance(detail, str):
      raise _Garbage('no verdict')
    return Verdict(status, detail, 0.0)

  def kill(self) -> str:
    """Returns how the process ended, with all of its group gone."""
    if self._process is None:
      return 'not running'
    process, self._process = self._process, None
    # The group first: once reaped, its id may belong to somebody else.
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
        raise _Died from e
    (size,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
    if size > _REPLY_BYTES:
      raise _Garbage(f'a reply of {size} bytes')
    try:
      reply = json.loads(self._read(size, deadline))
    except ValueError as e:
      raise _Garbage('no JSON') from e
    if not isinstance(reply, dict):
      raise _Garbage('no object')
    return reply

  def _read(self, size: int, deadline: float) -> bytes:
    data = b''
    while len(data) < size:
      self._wait(self._process.stdout, select.POLLIN, deadline)
      chunk = os.read(self._process.stdout.fileno(), size - len(data))
      if not chunk:
        raise _Died
      data += chunk
    return data

  def _wait(self, pipe: BinaryIO, event: int, deadline: float) -> None:
    if not _ready(pipe, event, deadline - time.monotonic()):
      raise _Overran


def _ready(pipe: BinaryIO, event: int, seconds: float) -> bool:
  """Whether `pipe` can be used, or has hung up, within `seconds`."""
  poll = select.poll()
  poll.register(pipe, event)
  return bool(poll.poll(max(0, int(seconds * 1000))))


def _environment() -> dict[str, str]:
  """Returns all the environment a worker gets."""
  kept = {k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ}
  return kept | {
    'PYTHONPATH': os.pathsep.join(os.path.abspath(p) for p in sys.path),
    # Verdicts must not hang on sympy's iteration over hashed sets.
    'PYTHONHASHSEED': '0',
    # gmpy2 and flint compute 10^9! in C without end; Python integers yield.
    'SYMPY_GROUND_TYPES': 'python',
    # Each OpenBLAS thread reserves address space, which is limited.
    'OPENBLAS_NUM_THREADS': '1',
  }


def _encode(message: dict[str, Any]) -> bytes:
  """Returns length-prefixed ASCII JSON, which carries lone surrogates too."""
  body = json.dumps(message).encode('ascii')
  return _LENGTH.pack(len(body)) + body


def _receive(pipe: BinaryIO) -> dict[str, Any]:
  """Returns the next message; EOF, when the parent is gone, ends us."""
  header = pipe.read(_LENGTH.size)
  if len(header) < _LENGTH.size:
    sys.exit(0)
  return json.loads(pipe.read(_LENGTH.unpack(header)[0]))


def _limit(parent: int) -> None:
  """Dies with the parent's thread, and holds memory and integers small."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
  if os.getppid() != parent:
    sys.exit(0)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  sys.set_int_max_str_digits(4300)


def _run(verify: Callable[..., Verdict], task: dict[str, Any]) -> dict:
  """Returns the reply to one task."""
  try:
    verdict = verify(task['response'], task['answer'])
  # A failing judge is data: it becomes the status 'error', never a reward.
  except Exception as e:  # noqa: BLE001
    detail = ascii(f'{type(e).__name__}: {e}')[:200]
    return {'id': task['id'], 'status': 'error', 'detail': detail}
  return {'id': task['id']} | dataclasses.asdict(verdict)


def _load(setup: dict[str, Any]) -> Callable[..., Verdict]:
  """Returns the verify function with its keyword arguments bound.

  Raises:
    ValueError: it cannot be resolved, or does not take them.
  """
  function, kwargs = resolve(setup['verify'], 'verify'), setup['kwargs']
  try:
    inspect.signature(function).bind('', '', **kwargs)
  except TypeError as e:
    raise ValueError(f'verify={setup["verify"]!r} with {kwargs}: {e}') from e
  return functools.partial(function, **kwargs)


def _main(parent: int) -> None:
  """Serves tasks until the parent hangs up."""
  _limit(parent)
  # The pipe moves out of the way: what a verify function prints is no reply.
  replies = os.fdopen(os.dup(1), 'wb', buffering=0)
  os.dup2(2, 1)
  requests = os.fdopen(os.dup(0), 'rb')
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  try:
    verify = _load(_receive(requests))
  except ValueError as e:
    replies.write(_encode({'failed': str(e)}))
    return
  replies.write(_encode({'ready': True}))
  while True:
    replies.write(_encode(_run(verify, _receive(requests))))


if __name__ == '__main__':
  _main(int(sys.argv[1]))
