"""How commands end: their exit statuses, and one line for what a user can fix.

0    done (for `judge`, whatever the verdict)
1    something for the user to fix, in one line: 'error: ...'; also a
     traceback, which is a bug
2    a command line that cannot be read; `--help` lists the flags
70   of a run of several processes, or one that hangs: a process was lost, did
     not go on, or met a bug; all of them end, and the same command resumes
75   stopped by a signal, nothing lost: the same command goes on, or starts
     again if it keeps nothing (`judge`, `report`)
134  jax ended the process because its processes no longer meet; the same
     command resumes
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from absl import logging

from acereason_jax.console import oserrors, terminal

FOR_USER = 1
USAGE = 2
STOPPED = os.EX_TEMPFAIL
BUG = LOST = os.EX_SOFTWARE


@contextlib.contextmanager
def one_line_for(*kinds: type[Exception], where: str = '') -> Iterator[None]:
  """Ends the command, status 1, with one line for errors of these kinds.

  Put it around the code that reads a user's input, and around known ends of a
  run. Any other error is a bug and keeps its traceback. `where` goes before the
  error's own words. --verbosity=1 shows the traceback too.
  """
  try:
    yield
  except kinds as e:
    logging.debug('where the error below comes from', exc_info=True)
    words = oserrors.explained(e) if isinstance(e, OSError) else e
    text = terminal.printable(' '.join(f'{where}{words}'.split()))
    raise SystemExit(f'error: {text}') from e


def leave(status: int) -> NoReturn:
  """Does what Python does at its end, except its last step; ends the process.

  That step stops daemon threads where they ask for Python's lock. In the C++ of
  jax or TensorStore it aborts the process, with status 134 in place of its own.
  A signal no longer changes the status. The first Ctrl+C ends the wait for
  threads, the next one ends the process.
  """
  try:
    for number in (signal.SIGTERM, signal.SIGHUP):
      signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(KeyboardInterrupt):
      threading._shutdown()
    signal.signal(signal.SIGINT, lambda *_: _end(status))
    atexit._run_exitfuncs()
  finally:
    _end(status)


def _end(status: int) -> NoReturn:
  """Ends the process; lost output is status 120, as Python has it."""
  try:
    for stream in (sys.stderr, sys.stdout):
      if stream is not None and not stream.closed:
        stream.flush()
  except OSError:
    status = status or 120
  finally:
    os._exit(status)
