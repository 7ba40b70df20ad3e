"""Runs a program as the interpreter would, or as a module that is called."""

import atexit
import builtins
import decimal
import fractions
import gc
import importlib.machinery
import io
import json
import linecache
import sys
import threading
import traceback
import types
from typing import Any

from acereason_jax.verifiers.programs import calls, descriptors, prelude

# Names of a program's file, and of its module if its function is called.
_NAME, _MODULE = 'solution.py', 'solution'
# LiveCodeBench sets this limit; LeetCode allows more. A `sorted` key that sorts
# takes the most stack, 5 kB per call, and the zygote leaves room for this many.
_RECURSION_LIMIT = 50_000
# The interpreter's own, which the public harnesses of `check` leave.
_BARE_RECURSION_LIMIT = 1000
# A traceback shows only the last calls of the last exceptions.
_CALLS_SHOWN, _EXCEPTIONS_SHOWN = 20, 10
# Files that a program may leave unwritten.
_FILES = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def run(fn: str, args: list, program: bytes, how: str = '') -> int:
  """Runs the program, calls fn; returns its exit status.

  It is `__main__`, as a script is. A program whose function is called is an
  imported module, as on LeetCode and LiveCodeBench: code under `if __name__ ==
  '__main__'` does not run. `how` is '' or a name in `calls.HOW`; such programs
  have only what a bare interpreter gives.
  """
  sys.stdin = sys.__stdin__ = _stream(0, 'stdin', 'r')
  sys.stdout = sys.__stdout__ = _stream(1, 'stdout', 'w')
  sys.stderr = sys.__stderr__ = _stream(2, 'stderr', 'w', 'backslashreplace')
  sys.argv = ['' if fn else _NAME]
  sys.path[:0] = ['']
  # Programs print numbers of any length; the limit guards servers.
  sys.set_int_max_str_digits(0)
  sys.setrecursionlimit(_BARE_RECURSION_LIMIT if how else _RECURSION_LIMIT)
  module = types.ModuleType(_MODULE if fn else '__main__')
  module.__dict__.update({} if how else prelude.NAMES)
  module.__dict__.update(
    __builtins__=builtins, __file__=_NAME, __annotations__={}
  )
  # The program must define the function itself.
  name = fn.rpartition('.')[2]
  module.__dict__.pop(name, None)
  module.__loader__ = importlib.machinery.SourceFileLoader(
    module.__name__, _NAME
  )
  # Otherwise a program that is a module would find the zygote there.
  sys.modules['__main__'] = types.ModuleType('__main__')
  # Pickles, data classes and type hints look a program up by its name.
  sys.modules[module.__name__] = module
  # Tracebacks show the program's lines, which are in no file.
  lines = program.decode('utf-8', 'replace').splitlines(keepends=True)
  linecache.cache[_NAME] = (len(program), None, lines, _NAME)
  gc.enable()
  try:
    code = compile(program, _NAME, 'exec', dont_inherit=True)
    exec(code, module.__dict__)
    if how:
      calls.HOW[how](module.__dict__, name, *args)
    elif fn:
      _call(module.__dict__, name, args)
    status = 0
  except SystemExit as e:
    status = _exit_status(e.code)
  except BaseException as e:  # noqa: BLE001 (the program's own affair)
    _report(e)
    status = 1
  return _finish(status, module.__dict__ if b'__del__' in program else {})


def _report(error: BaseException) -> None:
  """Writes a traceback, without the frame that ran the program."""
  error.__traceback__ = error.__traceback__.tb_next
  if sys.excepthook is not sys.__excepthook__:
    sys.excepthook(type(error), error, error.__traceback__)
  else:
    _shorten(error)
    # The interpreter's own traceback would look for the file.
    traceback.print_exception(error, limit=-_CALLS_SHOWN)


def _shorten(error: BaseException) -> None:
  """Keeps only the last calls of an exception and of the exceptions before it.

  Formatting 100,000 calls takes seconds in Python, but almost nothing in C, as
  in a bare interpreter.
  """
  for left in reversed(range(_EXCEPTIONS_SHOWN)):
    last = shown = error.__traceback__
    for _ in range(_CALLS_SHOWN):
      last = last and last.tb_next
    while last:
      last, shown = last.tb_next, shown.tb_next
    error.__traceback__ = shown
    if not left:
      error.__cause__ = error.__context__ = None
    before = error.__cause__
    before = error.__context__ if before is None else before
    if before is None:
      return
    error = before


def _stream(
  descriptor: int, name: str, mode: str, errors: str = 'surrogateescape'
) -> io.TextIOWrapper:
  """Returns the stream that the interpreter makes of a descriptor in UTF-8."""
  buffering = 1 if descriptor == 2 else -1
  stream = open(  # noqa: SIM115 (it stays open)
    descriptor, mode, buffering, 'utf-8', errors, newline='\n', closefd=False
  )
  stream.buffer.raw.name = f'<{name}>'
  return stream


def _call(names: dict, name: str, args: list) -> None:
  """Writes the result of the named function, as JSON, to its descriptor.

  It may be a method of a class Solution: problems ask for either, and programs
  answer either with the other. Nothing is written if JSON cannot express it.
  """
  if callable(owner := names.get('Solution')) and hasattr(owner, name):
    function = getattr(owner(), name)
  else:
    function = names[name]
  result = function(*args)
  sys.setrecursionlimit(_RECURSION_LIMIT)
  try:
    text = _as_json(result)
  except (TypeError, ValueError, OverflowError, RecursionError) as e:
    # This is a wrong answer, not an error of the program.
    print(f'{name} returned: {e}', file=sys.stderr)
    return
  descriptors.write_all(3, text.encode())


def _as_json(result: Any) -> str:
  try:
    return json.dumps(result)
  except TypeError:
    return json.dumps(_plain(result))


def _plain(value: Any) -> Any:
  """Converts numbers and arrays that JSON lacks to those it has.

  These are numpy's, and the library's exact numbers: values that `==` of a
  benchmark finds equal to plain ones. Others (a deque, a set, a range) stay
  unchanged.
  """
  if isinstance(value, dict):
    plain = {_plain(k): _plain(v) for k, v in value.items()}
    if len(plain) < len(value):
      raise ValueError('two of its keys are one in JSON')
    return plain
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  kind = type(value)
  if kind in (decimal.Decimal, fractions.Fraction):
    whole = int(value)
    return whole if whole == value else float(value)
  numpy = sys.modules.get('numpy')
  if numpy is None:
    return value
  if kind is numpy.ndarray:
    if value.dtype.char in '?d' + numpy.typecodes['AllInteger']:
      return value.tolist()
    return _plain(list(value) if value.ndim else value[()])
  numbers = numpy.bool_ | numpy.integer | numpy.floating
  # Not a class that the program defines. In numpy a time span is an integer.
  if (
    not issubclass(kind, numbers)
    or issubclass(kind, numpy.timedelta64)
    or numpy.dtype(kind).type is not kind
  ):
    return value
  # 0.1 in 32 bits is 0.1, as it is for `==`.
  is_float = issubclass(kind, numpy.floating)
  return float(str(value)) if is_float else value.item()


def _exit_status(code: object) -> int:
  if code is None:
    return 0
  if isinstance(code, int):
    return code & 0xFF
  print(code, file=sys.stderr)
  return 1


def _finish(status: int, names: dict) -> int:
  """Does the work of the interpreter's exit, without tearing it down.

  `names` are cleared, so the output of destructors is included.
  """
  for step in (threading._shutdown, atexit._run_exitfuncs):
    try:
      step()
    except BaseException:  # noqa: BLE001 (the program's own affair)
      traceback.print_exc()
  for name in names.keys() - {'__builtins__'}:
    names[name] = None
  flushed = _flush(sys.stdout)
  # A file that was not closed is written when it is collected.
  for value in gc.get_objects():
    if isinstance(value, _FILES):
      _flush(value)
  return status if flushed else 120


def _flush(stream: Any) -> bool:
  """Returns whether flushing worked; a closed stream or None needs none."""
  try:
    if stream is not None and not stream.closed:
      stream.flush()
  except BaseException:  # noqa: BLE001 (a full file, a closed descriptor)
    return False
  return True
