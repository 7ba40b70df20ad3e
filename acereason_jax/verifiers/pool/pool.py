"""Runs a verify function in worker processes that the parent can kill.

A worker cannot stop its clock: the parent holds the deadline, which covers one
task's running time, never its queueing or a worker's start. One thread owns
each worker (see `process`), which runs `worker` in a `sandbox`. Responses to
one question go to one worker where none waits for that: see `affinity`.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import math
import queue
import threading
import time
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acereason_jax.console import whole
from acereason_jax.types import Verdict
from acereason_jax.verifiers.pool import affinity, worker
from acereason_jax.verifiers.pool.process import (
  Died,
  Garbage,
  NoWorker,
  Overran,
  Process,
)

Key = typing.TypeVar('Key')

# 2,048 rollouts of 120 KB, the paper's batch, are 246 MB: two such batches may
# wait. The limit is in bytes, since responses differ a thousandfold in size.
# The overhead of a task counts too, so the number of tiny tasks is bounded (by
# 500,000).
_WAITING_BYTES = 512 << 20
_TASK_BYTES = 1 << 10
# Tasks per worker that `as_completed` reads ahead, so no worker is idle while
# the caller handles a verdict, and the caller's data stay on disk.
_AHEAD = 8
_MAX_SECONDS = 1e6
# Detail of the verdict on what was not judged at `until`.
ENDED = "the pool's time was over"


@dataclasses.dataclass(frozen=True)
class Stats:
  """The work of a pool since it was opened, and its current load.

  verdicts: number of verdicts of each status.
  restarts: number of workers replaced because they died or were killed.
  recycled: number of workers replaced between tasks for their age, their growth
    or exhausted memory.
  queued: number of tasks that wait for a worker.
  running: number of tasks that workers are judging.
  busy_seconds: sum of the verdicts' running times.
  slowest_seconds: longest of these times.
  worker_bytes: largest resident size of a worker that was seen.
  """

  verdicts: dict[str, int]
  restarts: int
  recycled: int
  queued: int
  running: int
  busy_seconds: float
  slowest_seconds: float
  worker_bytes: int


@dataclasses.dataclass(frozen=True)
class _Task:
  """A response to judge.

  id: its number in this pool.
  key: equal for equal answers.
  message: message that the worker gets.
  future: future that gets the verdict.
  """

  id: int
  key: int
  message: bytes
  future: concurrent.futures.Future[Verdict]

  @property
  def size(self) -> int:
    return len(self.message) + _TASK_BYTES


class VerifierPool:
  """Judges responses with `verify(response, answer, **kwargs)` in workers.

  `verify` is a 'module:function' path. A task that runs longer than
  `timeout_seconds` is killed: 'timeout'. One whose worker dies runs once more
  on a fresh worker, then is 'error'; garbage from a worker is 'error'.
  `confinement` lists the layers that confine the workers: see
  `sandbox.confine`. A verify function may have an attribute
  prepare_worker(timeout_seconds, confine, **kwargs), which is called as a
  worker starts; the line it returns is added.
  """

  def __init__(
    self,
    verify: str,
    kwargs: Mapping[str, Any],
    workers: int,
    timeout_seconds: float,
    confine: bool = True,
    until: float = math.inf,
  ):
    """Starts the workers and waits until all are warm.

    Without `confine` they may use the network, files and programs, as a
    judge that asks a server must. At `until`, a time of time.monotonic(), every
    task that is not judged is a 'timeout'.

    Raises:
      ValueError: fewer than one worker, an invalid time limit, or `verify`
        cannot be resolved or called with `kwargs`; the message includes the
        worker's.
      RuntimeError: a worker could not be started.
    """
    if workers < 1 or not 0 < timeout_seconds <= _MAX_SECONDS:
      raise ValueError(
        f'workers={workers}, timeout_seconds={timeout_seconds}: both must be '
        f'positive, and the time at most {_MAX_SECONDS:.0f}'
      )
    self._setup = worker.encode(
      {
        'verify': verify,
        'kwargs': dict(kwargs),
        'confine': confine,
        'timeout_seconds': timeout_seconds,
      }
    )
    self._timeout_seconds = timeout_seconds
    self._until = until
    self._ids = itertools.count()
    self._waiting: affinity.Waiting[_Task] = affinity.Waiting()
    self._waiting_bytes = 0
    self._closed = False
    self._lock = threading.Lock()
    # One a worker, and the workers that wait for theirs, longest first.
    self._work = [threading.Condition(self._lock) for _ in range(workers)]
    self._idle: dict[int, None] = {}
    self._room = threading.Condition(self._lock)
    self._verdicts: collections.Counter[str] = collections.Counter()
    self._totals: collections.Counter[str] = collections.Counter()
    self._slowest_seconds = 0.0
    self._worker_bytes = 0
    self._threads: list[threading.Thread] = []
    started = [concurrent.futures.Future() for _ in range(workers)]
    try:
      for index, future in enumerate(started):
        thread = threading.Thread(
          target=self._supervise, args=(index, future), daemon=True
        )
        thread.start()
        self._threads.append(thread)
      lines = [future.result() for future in started]
    except BaseException:
      self.close()
      raise
    self.confinement: str = lines[0]

  def __enter__(self) -> 'VerifierPool':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def submit(
    self, response: str, answer: str
  ) -> concurrent.futures.Future[Verdict]:
    """Returns the verdict's future; callable from any thread.

    Blocks while too many tasks wait for a judge.

    Raises:
      RuntimeError: the pool is closed, maybe while this waited.
    """
    task_id = next(self._ids)
    message = worker.encode(
      {'id': task_id, 'response': response, 'answer': answer}
    )
    future = concurrent.futures.Future()
    task = _Task(task_id, hash(answer), message, future)
    with self._lock:
      self._room.wait_for(lambda: self._closed or self._has_room(task))
      if self._closed:
        raise RuntimeError('submit() on a closed VerifierPool')
      self._add(task)
    return task.future

  def as_completed(
    self, tasks: Iterable[tuple[Key, str, str]]
  ) -> Iterator[tuple[Key, Verdict]]:
    """Judges (key, response, answer) and yields (key, verdict) as they end.

    Reads `tasks`, which may be endless, only as far as the workers need. An
    error that it raises ends this too, and so does closing the iterator.
    Waiting tasks are cancelled then, and the pool stays usable.

    Raises:
      RuntimeError: the pool is closed, maybe meanwhile.
    """
    ended: queue.SimpleQueue = queue.SimpleQueue()
    keys: dict[concurrent.futures.Future, Key] = {}

    def take() -> tuple[Key, Verdict]:
      future = ended.get()
      try:
        return keys.pop(future), future.result()
      except concurrent.futures.CancelledError as e:
        raise RuntimeError('the VerifierPool was closed meanwhile') from e

    try:
      for key, response, answer in tasks:
        future = self.submit(response, answer)
        keys[future] = key
        future.add_done_callback(ended.put)
        while len(keys) >= _AHEAD * len(self._threads) or not ended.empty():
          yield take()
      while keys:
        yield take()
    finally:
      for future in keys:
        future.cancel()

  def stats(self) -> Stats:
    """Returns the current counts; cheap."""
    with self._lock:
      return Stats(
        verdicts=dict(self._verdicts),
        restarts=self._totals['restarts'],
        recycled=self._totals['recycled'],
        queued=len(self._waiting),
        running=self._totals['running'],
        busy_seconds=float(self._totals['busy_seconds']),
        slowest_seconds=self._slowest_seconds,
        worker_bytes=self._worker_bytes,
      )

  def close(self) -> None:
    """Cancels queued tasks, waits for running ones, leaves no process."""
    with self._lock:
      self._closed = True
      cancelled = list(self._waiting)
      self._waiting.clear()
      self._waiting_bytes = 0
      for condition in self._work:
        condition.notify_all()
      self._room.notify_all()
    for task in cancelled:
      task.future.cancel()
      # Callers of concurrent.futures.wait are notified only now.
      task.future.set_running_or_notify_cancel()
    for thread in self._threads:
      thread.join()

  def _has_room(self, task: _Task) -> bool:
    """Whether `task` may wait too; called with the lock held."""
    if not self._waiting or self._waiting_bytes + task.size <= _WAITING_BYTES:
      return True
    # A future's callback runs in a supervisor thread, which must not wait for
    # itself.
    return threading.current_thread() in self._threads

  @whole.whole
  def _add(self, task: _Task) -> None:
    """Lets `task` wait; called with the lock held."""
    self._waiting.add(task.key, task)
    self._waiting_bytes += task.size
    self._wake(task.key)

  def _wake(self, key: int) -> None:
    """Wakes a worker for a task, if one is idle; called with the lock held."""
    known = (w for w in self._waiting.workers(key) if w in self._idle)
    index = next(known, next(iter(self._idle), None))
    if index is not None:
      del self._idle[index]
      self._work[index].notify()

  def _take(self, index: int) -> _Task | None:
    """Returns a task, now counted as running; None if the pool is closed."""
    with self._lock:
      while True:
        while not self._waiting and not self._closed:
          self._idle[index] = None
          self._work[index].wait()
        self._idle.pop(index, None)
        if not self._waiting:
          return None
        task = self._waiting.take(index)
        self._waiting_bytes -= task.size
        self._room.notify_all()
        if task.future.set_running_or_notify_cancel():
          self._totals['running'] += 1
          return task

  def _supervise(
    self, index: int, started: concurrent.futures.Future[str]
  ) -> None:
    """Owns one worker for life; the kernel ties the worker to this thread."""
    process = Process(self._setup)
    try:
      started.set_result(process.start())
    except (NoWorker, ValueError) as e:
      started.set_exception(e)
      return
    try:
      while (task := self._take(index)) is not None:
        self._resolve(task, process)
        if process.worn() and time.monotonic() < self._until:
          # Renewed at once, not when it is needed; the next task reports a
          # failure.
          with contextlib.suppress(NoWorker, ValueError):
            self._renew(process)
    finally:
      process.kill()

  def _renew(self, process: Process) -> None:
    """Replaces a dead or worn worker; raises as Process.start does."""
    if not process.idle():
      reason = 'restarts'
    elif process.worn():
      reason = 'recycled'
    else:
      return
    process.kill()
    process.start()
    with self._lock:
      self._totals[reason] += 1

  def _resolve(self, task: _Task, process: Process) -> None:
    """Sets the verdict of one task, whatever happens to the worker."""
    try:
      verdict = self._judge(task, process)
    # A bug here must reach the caller instead of blocking it.
    except Exception as e:  # noqa: BLE001
      process.kill()
      with self._lock:
        self._totals['running'] -= 1
      task.future.set_exception(e)
      return
    with self._lock:
      self._totals.update(running=-1, busy_seconds=verdict.seconds)
      self._verdicts[verdict.status] += 1
      self._slowest_seconds = max(self._slowest_seconds, verdict.seconds)
      self._worker_bytes = max(self._worker_bytes, process.resident_bytes)
    task.future.set_result(verdict)

  def _judge(self, task: _Task, process: Process) -> Verdict:
    """Returns the verdict on one task, tried twice if the worker dies."""
    for _ in range(2):
      # Starting a worker takes a second.
      if time.monotonic() >= self._until:
        return Verdict('timeout', ENDED, 0.0)
      try:
        self._renew(process)
      except (NoWorker, ValueError) as e:
        return Verdict('error', f'no worker: {e}', 0.0)
      start = time.monotonic()
      deadline = start + self._timeout_seconds
      try:
        verdict = process.judge(
          task.id, task.message, min(deadline, self._until)
        )
        return dataclasses.replace(verdict, seconds=time.monotonic() - start)
      except Died:
        status, detail = 'error', f'worker died twice ({process.kill()})'
      except Overran:
        process.kill()
        over = f'over {self._timeout_seconds} s'
        status, detail = 'timeout', over if deadline < self._until else ENDED
        break
      except Garbage as e:
        process.kill()
        status, detail = 'error', f'worker sent garbage ({e})'
        break
    return Verdict(status, detail, time.monotonic() - start)
