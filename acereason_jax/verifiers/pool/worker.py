"""A judging process: reads tasks, writes verdicts. `process` starts it.

Its own limits are a second line of defence: the parent's kill stops a task.
"""

import functools
import inspect
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from acereason_jax.resolve import resolve
from acereason_jax.types import Verdict
from acereason_jax.verifiers.isolation import sandbox

_MEMORY_BYTES = 2 << 30

LENGTH = struct.Struct('>I')


def encode(message: dict[str, Any]) -> bytes:
  """Returns length-prefixed ASCII JSON, which carries lone surrogates too."""
  body = json.dumps(message).encode('ascii')
  return LENGTH.pack(len(body)) + body


def _receive(pipe: BinaryIO) -> dict[str, Any]:
  """Returns the next message; at EOF, when the parent is gone, it exits."""
  header = pipe.read(LENGTH.size)
  if len(header) < LENGTH.size:
    sys.exit(0)
  return json.loads(pipe.read(LENGTH.unpack(header)[0]))


def _send(pipe: BinaryIO, message: bytes) -> None:
  pipe.write(message)
  pipe.flush()


def _limit(parent: int) -> None:
  """Makes this process die with its parent; limits memory and integers."""
  if sys.platform == 'linux':
    sandbox.die_with_parent()
    # Sets only the soft limit: the code judge's programs have their own limits.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory(hard), hard))
  if os.getppid() != parent:
    sys.exit(0)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  sys.set_int_max_str_digits(4300)


def _memory(hard: int) -> int:
  return min(_MEMORY_BYTES, hard if hard >= 0 else _MEMORY_BYTES)


def _cores() -> int:
  if sys.platform == 'linux':
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _allow_cpu(seconds: float) -> None:
  """Renews the limit on CPU time, which counts from the process's start.

  It ends a task whose parent cannot end it, for example a stopped parent.
  """
  soft = int(time.process_time() + seconds) + 1
  _, hard = resource.getrlimit(resource.RLIMIT_CPU)
  if hard == resource.RLIM_INFINITY or soft < hard:
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _run(verify: Callable[..., Verdict], task: dict[str, Any]) -> bytes:
  """Returns the reply to one task; `spent` says to replace this worker."""
  try:
    verdict = verify(task['response'], task['answer'])
    reply = dict(status=verdict.status, detail=verdict.detail)
    return encode(reply | dict(id=task['id'], spent=False))
  # A failing judge is data: it becomes the status 'error', never a reward.
  except Exception as e:  # noqa: BLE001
    detail = ascii(f'{type(e).__name__}: {e}')[1:-1][:200]
    # Running out of memory leaves an unknown state.
    spent = isinstance(e, MemoryError)
  return encode(dict(id=task['id'], status='error', detail=detail, spent=spent))


def _load(setup: dict[str, Any]) -> tuple[Callable[..., Verdict], str]:
  """(verify function with its keyword arguments bound, report of preparation).

  Its attribute `prepare_worker`, if it has one, is called first, with the time
  limit, whether the worker will be confined, and these arguments; it returns a
  line about what it did.

  Raises:
    ValueError: it cannot be resolved, does not accept them, or preparation
      failed.
  """
  function, kwargs = resolve(setup['verify'], 'verify'), setup['kwargs']
  try:
    inspect.signature(function).bind('', '', **kwargs)
  except TypeError as e:
    raise ValueError(f'verify={setup["verify"]!r} with {kwargs}: {e}') from e
  prepared = ''
  if prepare := getattr(function, 'prepare_worker', None):
    known = setup['timeout_seconds'], setup['confine']
    prepared = f'; {prepare(*known, **kwargs)}'
  return functools.partial(function, **kwargs), prepared


def _confine() -> str:
  """Returns the result of `sandbox.confine`; from then on prints are discarded.

  stderr may be a log that could be truncated, or a terminal; parsers print
  pieces of the model's text.
  """
  null = os.open(os.devnull, os.O_WRONLY)
  os.dup2(null, 1)
  os.dup2(null, 2)
  os.close(null)
  if sys.platform == 'linux':
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory(hard), _memory(hard)))
  return sandbox.confine()


def _main(parent: int) -> None:
  """Serves tasks until the parent hangs up."""
  _limit(parent)
  # The pipe gets another descriptor, so prints of a verify function are not
  # replies.
  replies = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  requests = os.fdopen(os.dup(0), 'rb')
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  setup = _receive(requests)
  try:
    verify, prepared = _load(setup)
  except ValueError as e:
    _send(replies, encode({'failed': str(e)}))
    return
  line = _confine() if setup['confine'] else 'not confined'
  _send(replies, encode({'ready': line + prepared}))
  # All the CPU time possible until the parent's deadline.
  cpu_seconds = setup['timeout_seconds'] * _cores()
  while True:
    task = _receive(requests)
    _allow_cpu(cpu_seconds)
    _send(replies, _run(verify, task))


if __name__ == '__main__':
  _main(int(sys.argv[1]))
