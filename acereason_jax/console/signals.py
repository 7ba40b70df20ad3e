"""The one signal handler: SIGTERM, SIGINT and SIGHUP ask a command to stop.

After the first signal the command stops at its next safe point, with nothing
lost. A second Ctrl+C stops it at once. A second SIGTERM or SIGHUP changes
nothing, because neither means a person in a hurry: `timeout` sends SIGTERM to a
command twice, and for a closed terminal the kernel, the shell and
`terminal.say` each send SIGHUP.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopRequest:
  """Context manager: holds whether a signal asked the command to stop.

  The handler only sets a flag, which the command reads at its safe points with
  `agreed`, or with `asked` where no other process has to agree. Inside
  `interruptible` every point is safe. SIGHUP stays ignored if it was ignored
  before, as nohup sets it. Enter this after jax.distributed.initialize, in the
  main thread.
  """

  def __init__(self) -> None:
    self._asked = False
    self._interrupts = 0
    self._interruptible = False

  def __enter__(self) -> 'StopRequest':
    # With several processes jax handles SIGTERM: it finds a step common to all.
    self._shared = jax.distributed.is_initialized() and jax.process_count() > 1
    numbers = [signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
      numbers.append(signal.SIGHUP)
    if not self._shared:
      numbers.append(signal.SIGTERM)
    self._previous = {n: signal.signal(n, self._handle) for n in numbers}
    return self

  def __exit__(self, *exc: Any) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def asked(self) -> bool:
    """Whether a signal came; with several processes False: see `agreed`."""
    return self._asked and not self._shared

  def agreed(self, step: int) -> bool:
    """Whether to stop after `step`: the same answer on all processes.

    With several processes each must ask at every step, in order.
    """
    if self._shared:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._asked

  @contextlib.contextmanager
  def interruptible(self) -> Iterator[None]:
    """Inside, the first signal already raises KeyboardInterrupt.

    It is raised at the end if a library swallowed it: while jax compiles,
    Python may be in a callback that ignores errors.
    """
    self._interruptible = True
    try:
      self._heed()
      yield
      self._heed()
    finally:
      self._interruptible = False

  def _heed(self) -> None:
    if self._asked:
      raise KeyboardInterrupt

  def _handle(self, number: int, frame: Any) -> None:
    first, self._asked = not self._asked, True
    self._interrupts += number == signal.SIGINT
    if self._interrupts > 1 or (first and self._interruptible):
      raise KeyboardInterrupt
    if self._shared:
      os.kill(os.getpid(), signal.SIGTERM)
