"""Printing: text made safe to show, lines, a progress bar.

Text that a model wrote is hostile: print it only through `printable`.
"""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.progress


def printable(text: str) -> str:
  """`text` with everything escaped except printable characters and newlines.

  Escaped are terminal sequences, carriage returns, and characters that reorder
  or hide others on a screen.
  """
  return ''.join(
    c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode()
    for c in text
  )


def cut(text: str, max_chars: int) -> str:
  """At most `max_chars` of `text`, with a note of how many were cut."""
  lost = len(text) - max_chars
  if lost <= 0:
    return text
  head = max_chars - max_chars // 2
  tail = text[head + lost :]
  return f'{text[:head]} ... [{lost} characters cut] ... {tail}'


def one_line(text: str, max_chars: int) -> str:
  """`text` cut and printable, newlines escaped too."""
  return printable(cut(text, max_chars)).replace('\n', '\\n')


def duration(seconds: float) -> str:
  """'2h05m', '5m10s' or '40s'; '?' for what is not finite."""
  if not math.isfinite(seconds):
    return '?'
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}h{minutes:02}m'
  return f'{minutes}m{seconds:02}s' if minutes else f'{seconds}s'


class Terminal:
  """A terminal that may go away; text written after that is lost."""

  def __init__(self, file: Any):
    self._file = file

  def __getattr__(self, name: str) -> Any:
    return getattr(self._file, name)

  def write(self, text: str) -> int:
    with contextlib.suppress(OSError):
      self._file.write(text)
    return len(text)

  def flush(self) -> None:
    try:
      self._file.flush()
    except OSError:
      _silence(self._file)


@contextlib.contextmanager
def progress_bar(total: int, *, done: int) -> Iterator[Callable[[], None]]:
  """Yields a function to call after each step.

  Draws a bar with the time left if stderr is a terminal, so that a log gets
  only the step lines. print() works while the bar is drawn.
  """
  if not sys.stderr.isatty():
    yield lambda: None
    return
  with rich.progress.Progress(
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TimeElapsedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=rich.console.Console(file=Terminal(sys.stderr)),
    transient=True,
    # The default would send output to stderr that a user sent to a file.
    redirect_stdout=sys.stdout.isatty(),
    # The default averages over 30 seconds, less than one step may take.
    speed_estimate_period=24 * 3600.0,
  ) as bar:
    task = bar.add_task('', total=total, completed=done)
    yield lambda: bar.advance(task)


def use_stdout() -> None:
  """Makes standard output and error safe to write to, even if closed.

  If it was closed, the next file that is opened would take its place. A text
  may hold characters that its encoding does not have.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
  if sys.stdout is None:
    sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115
  if sys.stderr is None:
    sys.stderr = open(2, 'w', closefd=False)  # noqa: SIM115
  sys.stdout.reconfigure(errors='backslashreplace')


def say(*args: Any, to_stderr: bool = False) -> None:
  """Prints a line at once.

  If standard output is gone, this acts as if the terminal had hung up: a
  command that saves at SIGHUP does so, and one that ignores SIGHUP goes on.

  Raises:
    SystemExit: it is gone, and the command does neither.
  """
  file = sys.stderr if to_stderr else sys.stdout
  try:
    print(*args, file=file, flush=True)
  except OSError as e:
    _silence(file)
    if not to_stderr:
      _hang_up(e)


def _silence(file: Any) -> None:
  """From now on, text written to the file is lost without an error."""
  null = os.open(os.devnull, os.O_WRONLY)
  os.dup2(null, file.fileno())
  os.close(null)


def _hang_up(error: OSError) -> None:
  line = (
    f'standard output cannot be written to ({error.strerror}); send it to a '
    'file, or to something that reads to the end'
  )
  if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
    raise SystemExit(f'error: {line}') from error
  say(line, to_stderr=True)
  signal.raise_signal(signal.SIGHUP)
