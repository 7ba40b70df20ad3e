"""Numbers, exact or with enough digits, and the budget of their computation.

Nothing here can loop: sizes are refused before they are built.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import mpmath

from acereason_jax.verifiers.answers.vocabulary import TooLarge

Number = Fraction | mpmath.mpf | mpmath.mpc
# Bits of a first evaluation; see `values`.
FIRST_BITS = 200
# Bits of a second evaluation, at least.
BITS = 600
EXACT_BITS = 1 << 17
LARGEST_EXPONENT = 1 << 20
# The argument of sin and similar functions must keep digits of a turn.
_LARGEST_ARGUMENT_BITS = 100
EXACT_FACTORIAL = 5000
# Work of one comparison, in squared bits of its rationals plus a share for each
# operation: about a second.
_BUDGET = 2 << 37
OPERATION = 1 << 21
# The cost of one more bit of precision, squared, of a series, a root and the
# gamma function, measured for complex numbers.
SERIES, ROOT, GAMMA = 40, 8, 3000


class Undefined(ArithmeticError):
  """No value at this point, like 1/0."""


class NotReal(Undefined):
  """The point is outside the real domain, like -1 is for a logarithm."""


class Budget:
  """The budget of one comparison.

  left: work that may still be done; `_BUDGET` at first.
  size: size of the largest inexact part so far, as a power of two.
  inexact: whether there was an inexact part.
  """

  def __init__(self):
    self.left = _BUDGET
    self.size = 0
    self.inexact = False

  def spend(self, work: int) -> None:
    self.left -= work
    if self.left < 0:
      raise TooLarge('too much arithmetic')

  def spend_on(self, function: int) -> None:
    """Pays for one value of a function at the current precision."""
    self.spend(8 * OPERATION + function * mpmath.mp.prec**2)


_SHARED: contextvars.ContextVar[Budget | None] = contextvars.ContextVar(
  'shared', default=None
)


@contextlib.contextmanager
def one_budget() -> Iterator[None]:
  """Inside, all comparisons share one budget, such as those of a list."""
  token = _SHARED.set(Budget())
  try:
    yield
  finally:
    _SHARED.reset(token)


def budget() -> Budget:
  """Returns the shared budget, or a new one."""
  return _SHARED.get() or Budget()


class Scope(NamedTuple):
  """The setting in which an expression is evaluated.

  point: value of each variable.
  budget: work that may be spent, and sizes that were seen.
  zero: bound below which a number is 0.
  noise: share of its parts below which a cancelled value is 0.
  trigonometric: whether a degree sign converts to radians here.
  real: whether functions are those of real numbers.
  roots: whether square roots are real functions, too.
  """

  point: Mapping[str, Fraction]
  budget: Budget
  zero: mpmath.mpf = mpmath.mpf(0)
  noise: mpmath.mpf = mpmath.mpf(0)
  trigonometric: bool = False
  real: bool = False
  roots: bool = False


def vanishes(value: Number, zero: mpmath.mpf) -> bool:
  """Whether it is 0 up to rounding; rationals have no rounding."""
  return value == 0 if isinstance(value, Fraction) else abs(value) <= zero


def note(value: Number, scope: Scope) -> None:
  """Makes the precision allow for a part of this size."""
  if value:
    size = abs(int(mpmath.mag(inexact(value))))
    scope.budget.size = max(scope.budget.size, size)
    if size > LARGEST_EXPONENT:
      raise TooLarge('a number of over a million bits')


def cancelled(value: Number, parts: Sequence[Number], scope: Scope) -> Number:
  """Returns 0 for a value that may be only the rounding of its parts."""
  if isinstance(value, Fraction):
    return value
  bound = scope.zero
  if scope.noise:
    bound = scope.noise * max(abs(inexact(part)) for part in parts)
  if not bound or abs(value) > bound:
    return value
  # The next evaluation must decide.
  scope.budget.size = max(scope.budget.size, FIRST_BITS)
  return mpmath.mpf(0)


def no_pole(value: Number, zero: mpmath.mpf) -> Number:
  """Returns a value that is not 1/0 up to rounding."""
  if abs(value) * zero > 1:
    raise Undefined('a pole')
  return value


def inexact(value: Number) -> mpmath.mpf | mpmath.mpc:
  """Returns a number at the current precision."""
  if isinstance(value, Fraction):
    return mpmath.mpf(value.numerator) / value.denominator
  return value


def finite(value: Number) -> Number:
  """Returns a finite number, or raises."""
  if not isinstance(value, Fraction) and not mpmath.isfinite(value):
    raise Undefined('infinity in an expression')
  return value


def charge(value: Number, scope: Scope) -> Number:
  """Returns a value that was paid for, in few enough bits."""
  if not isinstance(value, Fraction):
    return value
  bits = value.numerator.bit_length() + value.denominator.bit_length()
  scope.budget.spend(bits * bits)
  return value if bits <= EXACT_BITS else inexact(value)


def alike(a: Number, b: Number) -> tuple[Number, Number]:
  """Returns both as they are if both are exact, else both inexact."""
  return (a, b) if exact(a, b) else (inexact(a), inexact(b))


def exact(*values: Number) -> bool:
  """Whether all are rationals."""
  return all(isinstance(value, Fraction) for value in values)


def argument(value: Number) -> mpmath.mpf | mpmath.mpc:
  """Returns a valid argument of a function."""
  value = inexact(value)
  if value and int(mpmath.mag(value)) > _LARGEST_ARGUMENT_BITS:
    raise TooLarge('a function of a huge number')
  return value


def demand_real(value: Number) -> None:
  """Raises Undefined for a complex number."""
  if mpmath.im(inexact(value)) != 0:
    raise Undefined('no real number')


def demand_between(
  value: Number, low: float, high: float, zero: mpmath.mpf
) -> None:
  """Raises NotReal for a number outside a function's real domain."""
  value = inexact(value)
  inside = low - zero <= mpmath.re(value) <= high + zero
  if not (is_real(value) and inside):
    raise NotReal('a function outside its real domain')


def is_real(value: Number) -> bool:
  """Whether it is real, up to rounding."""
  if isinstance(value, Fraction):
    return True
  return abs(mpmath.im(value)) <= abs(value) * mpmath.mpf('1e-50')
