"""What a command prints: text that is safe to show, lines, a progress bar.

Text that a model wrote is hostile: nothing here prints it unescaped.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.progress


def printable(text: str) -> str:
  """`text` with all but printable characters and newlines escaped.

  That takes in terminal escape sequences, carriage returns, and characters
  that reorder or hide others on a screen.
  """
  return ''.join(
    c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode()
    for c in text
  )


def cut(text: str, max_chars: int) -> str:
  """`text` of at most `max_chars`, plus a note of how many were cut."""
  lost = len(text) - max_chars
  if lost <= 0:
    return text
  head = max_chars - max_chars // 2
  tail = text[head + lost :]
  return f'{text[:head]} ... [{lost} characters cut] ... {tail}'


def one_line(text: str, max_chars: int) -> str:
  """`text` cut and printable, newlines escaped too."""
  return printable(cut(text, max_chars)).replace('\n', '\\n')


class _Terminal:
  """A terminal that may go away: what is written then is lost."""

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

  Draws a bar with the time left when stderr is a terminal, else nothing:
  a log gets the step lines alone. print() works while the bar is drawn.
  """
  if not sys.stderr.isatty():
    yield lambda: None
    return
  with rich.progress.Progress(
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TimeElapsedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=rich.console.Console(file=_Terminal(sys.stderr)),
    transient=True,
    # The default would send to stderr what a user sent to a file.
    redirect_stdout=sys.stdout.isatty(),
    # The default looks back 30 seconds: less than one step may take.
    speed_estimate_period=24 * 3600.0,
  ) as bar:
    task = bar.add_task('', total=total, completed=done)
    yield lambda: bar.advance(task)


def use_stdout() -> None:
  """Makes standard output fit to be written to, closed or not.

  Where it was closed, a file that is opened next would take its place. A text
  may hold what its encoding has not.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
  if sys.stdout is None:
    sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115
  sys.stdout.reconfigure(errors='backslashreplace')


def say(*args: Any, to_stderr: bool = False) -> None:
  """Prints a line at once.

  Where standard output is gone, this is as if the terminal had hung up: a
  command that saves at SIGHUP does so, and one that ignores it goes on.

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
  """What is written from now on is lost, without an error."""
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
