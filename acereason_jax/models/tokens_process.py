"""The parent's side of the process that reads a stranger's tokenizer.

A request and its reply go through pipes; a process that takes too much memory
or time is ended, and so is one that raises an error.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from typing import Any

from acereason_jax import children

_WORKER = 'acereason_jax.models.tokens_worker'
_VARIABLES = {
  'HF_HUB_OFFLINE': '1',
  'TRANSFORMERS_VERBOSITY': 'error',
  # Threads reserve address space, which is limited.
  'TOKENIZERS_PARALLELISM': 'false',
  'RAYON_NUM_THREADS': '1',
  'MALLOC_ARENA_MAX': '1',
}
_LENGTH = struct.Struct('<Q')
_MAX_REPLY_BYTES = 512 << 20


class Failed(Exception):
  """The reason why there is no reply."""


class Worker:
  """The process of tokens_worker.py; it ends when its last reference is gone.

  It may use `memory_bytes`. `seconds` is the CPU time that it has used.
  """

  def __init__(self, memory_bytes: int):
    self._memory_bytes = memory_bytes
    self.ended = False
    self.seconds = 0.0
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    try:
      self._process = subprocess.Popen(
        [sys.executable, '-P', '-m', _WORKER, str(memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        bufsize=0,
        env=children.environment(**_VARIABLES),
        # Only this process handles a Ctrl+C at the terminal; it then ends the
        # other.
        start_new_session=True,
      )
    except OSError as e:
      raise OSError(e.errno, f'no process for the tokenizer: {e}') from e
    os.set_blocking(self._process.stdin.fileno(), False)
    self.end = weakref.finalize(self, _end, self._process, self._errors)

  def ask(
    self, cpu_seconds: int, all_seconds: float = 0.0, **request: Any
  ) -> dict[str, Any]:
    """The reply to a request, of which each text may take `cpu_seconds`.

    All texts of one that has several may take `all_seconds`.

    Raises:
      Failed: there is no reply; the process has ended.
    """
    limits = dict(cpu_seconds=cpu_seconds, all_seconds=all_seconds)
    message = json.dumps(request | limits).encode()
    # The process may wait instead of computing, and others share the cores.
    until = time.monotonic() + 60 + 10 * max(cpu_seconds, all_seconds)
    try:
      reply = self._exchange(message, until)
    except EOFError:
      reply = dict(failed=self._why(cpu_seconds))
    except BaseException:
      self._leave()
      raise
    if 'failed' in reply:
      self._leave()
      raise Failed(reply['failed'])
    self.seconds = reply['seconds']
    return reply

  def _leave(self) -> None:
    self.ended = True
    self.end()

  def _exchange(self, message: bytes, until: float) -> dict[str, Any]:
    to, rest = self._process.stdin, _LENGTH.pack(len(message)) + message
    rest = memoryview(rest)
    while rest:
      _wait(to, select.POLLOUT, until)
      try:
        rest = rest[os.write(to.fileno(), rest) :]
      except BrokenPipeError:
        raise EOFError from None
    (size,) = _LENGTH.unpack(self._read(_LENGTH.size, until))
    if size > _MAX_REPLY_BYTES:
      raise Failed(f'a reply of {size} bytes')
    return json.loads(self._read(size, until))

  def _read(self, size: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < size:
      _wait(self._process.stdout, select.POLLIN, until)
      part = os.read(
        self._process.stdout.fileno(), min(1 << 20, size - len(data))
      )
      if not part:
        raise EOFError
      data += part
    return bytes(data)

  def _why(self, cpu_seconds: int) -> str:
    """Why the process is gone."""
    try:
      status = self._process.wait(10)
    except subprocess.TimeoutExpired:
      return 'it closed its pipe'
    if status == -signal.SIGXCPU:
      return f'it takes more than {cpu_seconds} seconds of CPU time'
    self._errors.seek(0)
    said = self._errors.read(1 << 20).decode(errors='replace').strip()
    said = said.rpartition('\n')[-1][:300]
    if 'MemoryError' in said or status in (-signal.SIGABRT, -signal.SIGSEGV):
      return (
        f'it takes more than {self._memory_bytes >> 20} MiB of memory: {said}'
      )
    return f'exit status {status}: {said}'


def _end(process: subprocess.Popen, errors: Any) -> None:
  process.kill()
  process.wait()
  process.stdin.close()
  process.stdout.close()
  errors.close()


def _wait(pipe: Any, event: int, until: float) -> None:
  poll = select.poll()
  poll.register(pipe, event)
  left = until - time.monotonic()
  if left <= 0 or not poll.poll(int(1000 * left) + 1):
    raise Failed('no answer in time')
