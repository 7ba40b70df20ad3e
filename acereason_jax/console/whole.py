"""Where the exception that a signal raises has to wait.

Python runs a signal's handler between two bytecodes of the main thread, and
what the handler raises appears there. In most places that only ends the work.
In these it would do harm:

- While a condition or logging takes or gives back its lock, which would stay
  taken: threads would wait for it for ever, and the command's end for them.
- Where Python ignores errors: in `__del__`, in callbacks of the collector and
  in weakref.py. The signal would be forgotten.
- In functions marked `whole`.
"""

import gc
import logging
import threading
import types
import typing
from collections.abc import Callable
from concurrent.futures import _base
from typing import Any

Call = typing.TypeVar('Call', bound=Callable[..., Any])

_codes: set[types.CodeType] = set()
# Modules of such callbacks; their other functions are short too.
_IGNORING = 'weakref', '_weakrefset'


def whole(call: Call) -> Call:
  """Makes a function one that no signal cuts in two.

  It is for what other threads read, and must find whole. It should wait for
  nothing: until it returns, a signal waits too.
  """
  _codes.add(call.__code__)
  return call


for _call in (
  *(threading.Condition.__enter__, threading.Condition.__exit__),
  *(threading.Condition._release_save, threading.Condition._acquire_restore),
  *(_base._AcquireFutures.__enter__, _base._AcquireFutures.__exit__),
  *(logging.Handler.acquire, logging.Handler.release),
):
  whole(_call)
# Functions that Python 3.13 no longer has.
for _name in ('_acquireLock', '_releaseLock'):
  if hasattr(logging, _name):
    whole(getattr(logging, _name))
_WAIT = threading.Condition.wait.__code__


def may_raise(frame: types.FrameType | None) -> bool:
  """Whether a handler that was called in this frame may raise an exception."""
  collecting = {getattr(call, '__code__', None) for call in gc.callbacks}
  while frame is not None:
    code = frame.f_code
    if (
      code in _codes
      # It has given its lock back, and does not expect an exception yet.
      or (code is _WAIT and 'gotit' not in frame.f_locals)
      or code in collecting
      or code.co_name == '__del__'
      or frame.f_globals.get('__name__') in _IGNORING
    ):
      return False
    frame = frame.f_back
  return True
