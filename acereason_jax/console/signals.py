"""The one signal handler: SIGTERM, SIGINT and SIGHUP ask a command to stop.

After the first signal the command stops at its next safe point, with nothing
lost. A second Ctrl+C stops it at once, except where that would do harm
(whole.py); a third does so anywhere. A second SIGTERM or SIGHUP changes
nothing, because neither means a person in a hurry: `timeout` sends SIGTERM to a
command twice, and for a closed terminal the kernel, the shell and
`terminal.say` each send SIGHUP.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from acereason_jax.console import whole

# A signal that came where nothing may be raised is tried again after so long.
_SOON = 0.001
# They tell a process to end.
_ENDING = signal.SIGTERM, signal.SIGHUP


class Asked(KeyboardInterrupt):
  """A signal asked the command to stop, and nothing is lost."""


class StopRequest:
  """Context manager: holds whether a signal asked the command to stop.

  The handler only sets a flag, which the command reads at its safe points with
  `agreed` or `heed`. Inside `interruptible` every point is safe. SIGHUP stays
  ignored if it was ignored before, as nohup sets it. Enter this in the main
  thread. A process that was told to end ignores SIGTERM and SIGHUP afterwards,
  so it ends with its own status.

  Several processes stop at the same safe point. So all of them must pass the
  same safe points in the same order, from the first to the last, and
  `decides(n)` tells whether it is their n-th.
  """

  def __init__(
    self,
    decides: Callable[[int], bool] | None = None,
    numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
  ) -> None:
    self._decides = decides
    self._numbers = numbers
    self._asked = False
    self._ends = False
    self._interrupts = 0
    self._interruptible = False
    # Whether the command knows that it was asked, and stops by itself.
    self._known = False
    # Whether a signal waits for a place where it may raise.
    self._waits = False
    self._agreed = False
    self._points = 0

  def __enter__(self) -> 'StopRequest':
    # With several processes jax handles SIGTERM: it tells the others, and finds
    # a safe point that none has passed yet.
    left = {signal.SIGTERM} if self._decides else set()
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
      left.add(signal.SIGHUP)
    numbers = [n for n in self._numbers if n not in left]
    self._previous = {
      n: signal.signal(n, self._handle) for n in (signal.SIGALRM, *numbers)
    }
    return self

  def __exit__(self, *exc: Any) -> None:
    # SIGALRM is the last: until then another signal may need it.
    for number, handler in reversed(self._previous.items()):
      if number == signal.SIGALRM:
        signal.setitimer(signal.ITIMER_REAL, 0)
      ends = self._ends and number in _ENDING
      signal.signal(number, signal.SIG_IGN if ends else handler)

  def asked(self) -> bool:
    """Whether a signal came to this process; others may not know of it."""
    return self._asked

  def agreed(self) -> bool:
    """A safe point: whether to stop here, the same on all processes.

    Once it is true it stays so. It asks no other process: jax does, but only
    after a signal came.
    """
    if not self._decides:
      self._known = self._asked
      return self._known
    if not self._agreed:
      self._points += 1
      self._agreed = self._decides(self._points)
    return self._agreed

  def heed(self) -> None:
    """A safe point: raises Asked if the command is to stop here."""
    if self.agreed():
      raise Asked

  @contextlib.contextmanager
  def interruptible(self) -> Iterator[None]:
    """Inside, the first signal already raises Asked, if whole.py lets it.

    It is raised at the end if a library swallowed it: while jax compiles,
    Python may be in a callback that ignores errors. With several processes only
    the two ends are safe points: one that left at once would break the others.
    """
    self._interruptible = not self._decides
    try:
      self.heed()
      yield
      self.heed()
    finally:
      self._interruptible = False

  def _handle(self, number: int, frame: Any) -> None:
    if number == signal.SIGALRM:
      if not self._waits:
        return
    else:
      self._asked = True
      self._ends |= number in _ENDING
      self._interrupts += number == signal.SIGINT
      if self._decides and self._interrupts < 2:
        os.kill(os.getpid(), signal.SIGTERM)
    again = (signal.SIGINT, signal.SIGALRM)
    hurries = self._interrupts > 1 and number in again
    if not hurries and (self._known or not self._interruptible):
      return
    # A third Ctrl+C waits for nothing: what holds a lock may hold it for ever.
    self._waits = self._interrupts < 3 and not whole.may_raise(frame)
    if self._waits:
      signal.setitimer(signal.ITIMER_REAL, _SOON)
      return
    self._known = True
    raise KeyboardInterrupt if hurries else Asked


# Has no handler, so nothing asks it.
NEVER = StopRequest()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
  """For commands that lose nothing: inside, Ctrl+C and SIGTERM raise Asked.

  SIGHUP ends them as it ends others: what they print has no reader any more.
  """
  numbers = signal.SIGINT, signal.SIGTERM
  with StopRequest(numbers=numbers) as stop, stop.interruptible():
    yield
