"""Calls of a function in one jail, and a check of their results in another.

`serve` runs next to a response's program: it calls the program's function and
writes a line of JSON for each result. `check` runs in a jail of its own, next
to the source of a benchmark's `check(candidate)`: its candidate gives back what
those lines say. So no code of a response runs where the verdict is found. A
program can write any line, but a line only stands for a result of its own.

Values are JSON; a value that JSON lacks is an object with one key, its tag:
{"tuple": [1, 2]}. A value of a subclass becomes one of the class that it
extends. Iterators, views and arrays become iterators, which are equal to no
list. Other objects become a `Foreign`, which is equal to nothing.
"""

import base64
import collections
import decimal
import fractions
import json
import math
import random
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.verifiers.programs import descriptors

_RESULT = 3
# The kernel counts its timer in ticks, which on a busy machine are a quarter
# off. So it ends a call this far above the limit, and each call is measured.
_TICKS = 1.4
_SHOWN = 100
_BITS = 1024
# Some right results of EvalPlus have 150 MB together.
_LONG = 1 << 20


class Foreign:
  """Stands for an object without a tag; `kind` is the name of its class."""

  def __init__(self, kind: str):
    self.kind = kind

  def __repr__(self) -> str:
    return f'<{self.kind}>'


def serve(names: Mapping, name: str, seconds: float, calls: list) -> None:
  """Calls the named function once for each of `calls`; writes the results.

  Each call may take `seconds` of CPU time; then a signal ends the process. A
  program that prevents this only uses up its own budget.
  """
  function = names[name]
  for call in calls:
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, _TICKS * seconds)
    result = function(*decoded(call))
    line = json.dumps(encoded(result))
    if len(line) > _LONG:
      line = json.dumps({'zlib': _packed(line)})
    descriptors.write_all(_RESULT, line.encode() + b'\n')
    if time.process_time() - began > seconds:
      signal.raise_signal(signal.SIGPROF)
  signal.setitimer(signal.ITIMER_PROF, 0)


def check(
  names: dict, name: str, reference: str, inputs: list, calls: list | None
) -> None:
  """Runs `check(candidate)`; writes what it found, as JSON.

  The candidate gives back the lines of the input, one for each of `calls`. If
  the check makes another call than the next of these, the finding is {"calls":
  those so far}. Else it is {"passed": number of calls}, {"failed": reason}, or
  {"broken": reason} if the reference raises. Without `calls` the candidate is
  the function of the source `reference`, and its calls are in the finding too.

  The candidate is also what the function's name means to the check, as it would
  be after a program. INPUTS are the decoded `inputs`, REFERENCE is the function
  of `reference`. Random numbers begin with a fixed seed.
  """
  solution: dict[str, Any] = {}
  exec(compile(reference, 'reference.py', 'exec', dont_inherit=True), solution)
  right = _trusted(solution[name])
  names.update(INPUTS=[decoded(i) for i in inputs], REFERENCE=right)
  if calls is None:
    candidate = _Recorded(right)
  else:
    candidate = _Replayed(calls, descriptors.read_all(0).split(b'\n'))
  decide = names['check']
  names[name] = candidate
  random.seed(0)
  found: dict[str, Any] = {}
  try:
    decide(candidate)
    found['passed'] = len(candidate.calls)
  except _Unrecorded:
    pass
  except _Broken as e:
    found['broken'] = f'the reference raised {e}'[:_SHOWN]
  except Exception as e:  # noqa: BLE001 (whatever a check raises, it fails)
    found['failed'] = f'{type(e).__name__} {e}'[:_SHOWN] + candidate.last()
  if candidate.asks:
    # Although the check may have caught the exception.
    found = {'calls': candidate.calls}
  elif calls is None:
    found['calls'] = candidate.calls
  descriptors.write_all(_RESULT, json.dumps(found).encode())


# How a jail may use a function, other than call it once.
HOW: Mapping[str, Callable[..., None]] = {'serve': serve, 'check': check}


class _Unrecorded(BaseException):
  """The check made a call whose result is not known yet."""


class _Broken(BaseException):
  """The reference raised an exception."""


def _trusted(function: Callable) -> Callable:
  def call(*args: Any) -> Any:
    try:
      return function(*args)
    except MemoryError:
      # A result of the program may have filled the memory.
      raise
    except Exception as e:
      raise _Broken(f'{type(e).__name__} {e}') from e

  return call


class _Recorded:
  """The reference's function, and the calls of it."""

  asks = False

  def __init__(self, function: Callable):
    self._function = function
    self.calls: list = []

  def __call__(self, *args: Any) -> Any:
    self.calls.append(encoded(list(args)))
    return self._function(*args)

  def last(self) -> str:
    """Returns the last call, for people."""
    return f' after {_shown(self.calls)}'


class _Replayed:
  """Gives back recorded results, as long as the calls are those recorded."""

  asks = False

  def __init__(self, recorded: list, results: Sequence[bytes]):
    self._recorded, self._results = recorded, results
    self.calls: list = []

  def __call__(self, *args: Any) -> Any:
    number = len(self.calls)
    self.calls.append(encoded(list(args)))
    known = number < len(self._recorded) and not self.asks
    # Compared as text: 1 is equal to True.
    if not known or json.dumps(self.calls[-1]) != json.dumps(
      self._recorded[number]
    ):
      self.asks = True
      raise _Unrecorded
    return _loads(self._results[number])

  def last(self) -> str:
    """Returns the last call with its result, for people."""
    if not self.calls:
      return ''
    result = self._results[len(self.calls) - 1][:_SHOWN].decode(
      'ascii', 'replace'
    )
    return f' after {_shown(self.calls)} gave {result}'


def _shown(calls: list) -> str:
  return f'call {len(calls)}, {json.dumps(calls[-1:])[1:-1][:_SHOWN]}'


def encoded(value: Any) -> Any:
  """A value as JSON, without NaN and infinities."""
  kind = type(value)
  if value is None or kind in (bool, str):
    return value
  if kind is int:
    # Decimal digits would take time as their square.
    return value if value.bit_length() < _BITS else {'int': hex(value)}
  if kind is list:
    return [encoded(v) for v in value]
  if kind is float:
    return value if math.isfinite(value) else {'float': str(value)}
  for known, parts in _PLAIN:
    if isinstance(value, known):
      return encoded(parts(value))
  for known, tag, parts in _TAGS:
    if isinstance(value, known):
      return {tag: parts(value)}
  return _of_numpy(value)


def decoded(value: Any) -> Any:
  """The value of what `encoded` returned."""
  return _loads(json.dumps(value))


def _loads(text: str | bytes) -> Any:
  return json.loads(text, object_hook=_untagged)


def _packed(line: str) -> str:
  return base64.b64encode(zlib.compress(line.encode(), 1)).decode()


def _unpacked(text: str) -> Any:
  return _loads(zlib.decompress(base64.b64decode(text)))


def _untagged(tagged: dict[str, Any]) -> Any:
  ((tag, parts),) = tagged.items()
  return _MADE[tag](parts)


def _all(values: Any) -> list:
  return [encoded(v) for v in values]


def _sorted(values: Any) -> list:
  # The order of a set depends on how it was made.
  return sorted(_all(values), key=json.dumps)


# Subclasses cannot change what their classes' own methods return.
_PLAIN: tuple[tuple[type, Callable], ...] = (
  (list, list.copy),
  (int, int.__int__),
  (float, float.__float__),
  (str, str.__str__),
)
_TAGS: tuple[tuple[Any, str, Callable], ...] = (
  (tuple, 'tuple', lambda v: _all(tuple.__iter__(v))),
  (dict, 'dict', lambda v: [_all(pair) for pair in dict.items(v)]),
  (set, 'set', lambda v: _sorted(set.copy(v))),
  (frozenset, 'frozenset', lambda v: _sorted(frozenset.__iter__(v))),
  (complex, 'complex', lambda v: [str(v.real), str(v.imag)]),
  (bytes, 'bytes', lambda v: bytes.hex(v)),
  (bytearray, 'bytearray', lambda v: bytearray.hex(v)),
  (range, 'range', lambda v: [v.start, v.stop, v.step]),
  (collections.deque, 'deque', lambda v: _all(collections.deque.__iter__(v))),
  (decimal.Decimal, 'decimal', lambda v: decimal.Decimal.__str__(v)),
  (fractions.Fraction, 'fraction', lambda v: fractions.Fraction.__str__(v)),
  (
    (Iterator, *map(type, ({}.keys(), {}.values(), {}.items()))),
    'iterator',
    _all,
  ),
)
_MADE: Mapping[str, Callable[[Any], Any]] = {
  'tuple': tuple,
  'dict': dict,
  'set': set,
  'frozenset': frozenset,
  'int': lambda text: int(text, 16),
  'float': float,
  'complex': lambda parts: complex(*map(float, parts)),
  'bytes': bytes.fromhex,
  'bytearray': bytearray.fromhex,
  'range': lambda parts: range(*parts),
  'deque': collections.deque,
  'decimal': decimal.Decimal,
  'fraction': fractions.Fraction,
  'iterator': iter,
  'foreign': Foreign,
  'zlib': _unpacked,
}


def _of_numpy(value: Any) -> Any:
  """Numpy's numbers as plain ones, arrays as iterators; others as foreign."""
  numpy = sys.modules.get('numpy')
  if numpy is not None and isinstance(value, numpy.ndarray):
    # Without dimensions it is equal to its one element.
    return {'iterator': _all(value)} if value.ndim else encoded(value[()])
  if numpy is not None and isinstance(value, numpy.bool_ | numpy.integer):
    return encoded(value.item())
  if numpy is not None and isinstance(value, numpy.floating):
    # 0.1 in 32 bits is equal to 0.1.
    return encoded(float(str(value)))
  return {'foreign': type(value).__name__}
