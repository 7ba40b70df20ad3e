"""RUN/clock.jsonl: where the wall time of a run went, step by step.

A start of the run adds a line at the end of each step, and one at its own end.
Meanwhile a thread keeps the last line up to date: it is written anew, in its
place, until it is the line of a step. So a process that is killed, in a long
compile too, loses some seconds and the file has a line a step. The lines of
earlier starts stay as they are, those of repeated steps too.

Nothing here ends a run: what cannot be written is told in one line.
"""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator

from acereason_jax import storage
from acereason_jax.run import account as account_lib

NAME = 'clock.jsonl'
# The last line is as old as this at most, and its copy at gs:// as that.
SECONDS = 10.0
UPLOAD_SECONDS = 60.0
MOST_BYTES = 64 << 20

# Refuses links, and does not wait for the reader of a pipe.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Clock:
  """The lines of one start of a run."""

  def __init__(
    self,
    account: account_lib.Account,
    write: Callable[[int, bytes], None],
    size: int,
    start: int,
    step: int,
    say: Callable[[str], None],
  ):
    """`write(place, bytes)` ends the file with bytes that begin at a place."""
    self._account, self._write_at, self._say = account, write, say
    self._place, self._start, self._step = size, start, step
    self._warned = False
    self._lock = threading.Lock()

  def steps_begin(self, step: int) -> None:
    """`step` steps are done, and the others follow."""
    self._account.steps_begin()
    self.step_ended(step)

  def step_ended(self, step: int) -> None:
    """`step` steps are done."""
    self._step = step
    self.write(ends=True)

  def write(self, ends: bool = False) -> bool:
    """Brings the last line up to date, and begins the next if this one `ends`.

    Returns whether it is written. If it is not, its seconds are in the next.
    """
    with self._lock:
      seconds, now = self._account.spent()
      line = account_lib.Line(self._start, self._step, now, seconds)
      text = account_lib.to_text(line).encode()
      try:
        self._write_at(self._place, text)
      except OSError as e:
        self.warn(e)
        return False
      if ends:
        self._place += len(text)
        self._account.settle(seconds)
      return True

  def warn(self, error: OSError) -> None:
    """Tells the first error; the run goes on."""
    if not self._warned:
      self._warned = True
      why = error.strerror or type(error).__name__
      self._say(f'WARNING: {NAME}: {why}; the clock of this run has gaps')


@contextlib.contextmanager
def opened(
  folder: str | os.PathLike,
  root: str,
  account: account_lib.Account,
  step: int,
  say: Callable[[str], None],
) -> Iterator[Clock | None]:
  """Inside, the clock of a start runs; None if the file cannot be used.

  Args:
    folder: the run's folder on this host.
    root: the run's folder; the file is copied there, if it is at gs://.
    account: the seconds of this process.
    step: steps that the newest checkpoint holds.
    say: prints a line.
  """
  path = os.path.join(folder, NAME)
  try:
    file, size, start = _open(path)
  except (OSError, ValueError) as e:
    why = e.strerror if isinstance(e, OSError) else e
    say(f'WARNING: {path}: {why}; this start has no clock')
    yield None
    return
  with os.fdopen(file, 'r+b', 0):
    write = lambda place, data: _end_with(file, place, data)
    clock = Clock(account, write, size, start, step, say)
    copy = storage.join(root, NAME) if storage.is_remote(root) else ''
    over = threading.Event()
    clock.write()
    keeper = threading.Thread(
      target=_keep, args=(clock, path, copy, over), daemon=True, name='clock'
    )
    keeper.start()
    try:
      yield clock
    finally:
      over.set()
      keeper.join()
      clock.write(ends=True)


def _keep(clock: Clock, path: str, copy: str, over: threading.Event) -> None:
  copied = -UPLOAD_SECONDS
  while True:
    if copy and time.monotonic() - copied >= UPLOAD_SECONDS:
      copied = time.monotonic()
      try:
        with open(path, 'rb') as file:
          storage.write(copy, file.read())
      except OSError as e:
        clock.warn(e)
    if over.wait(SECONDS):
      return
    clock.write()


def _open(path: str) -> tuple[int, int, int]:
  """(descriptor, bytes, number of this start). Raises: OSError, ValueError."""
  file = os.open(path, _FLAGS, 0o666)
  try:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
      raise ValueError('not a file; remove it')
    content = storage.read(path, MOST_BYTES) or b''
    if content and not content.endswith(b'\n'):
      # The line that a kill tore would spoil the next.
      content += b'\n'
      _end_with(file, len(content) - 1, b'\n')
    lines = account_lib.read(content.decode(errors='replace'))
    start = max((line.start for line in lines), default=-1) + 1
    return file, len(content), start
  except BaseException:
    os.close(file)
    raise


def _end_with(file: int, place: int, data: bytes) -> None:
  """Writes all of `data` at a place of a file, and ends the file there."""
  view, at = memoryview(data), place
  while view:
    written = os.pwrite(file, view, at)
    view, at = view[written:], at + written
  os.ftruncate(file, at)
