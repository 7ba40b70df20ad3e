r"""Expression trees as numbers, exactly or to enough digits, within a budget.

Two expressions are equal if they agree at every sample point of their
variables: exactly where both are rational, else to as many digits as their
largest and smallest parts need to be told apart. Nothing here can loop: sizes
are refused before they are built.
"""

import contextlib
import contextvars
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import mpmath

from acereason_jax.verifiers.answers import latex, vocabulary
from acereason_jax.verifiers.answers.latex import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Ambiguous,
  TooLarge,
  Unreadable,
)

Number = Fraction | mpmath.mpf | mpmath.mpc

# A first evaluation, of so many bits, finds the largest size 2^k or 2^-k of any
# part; the second has three times k bits more than this, and there a difference
# below 2^-(2k + _MARGIN) is rounding: 10^{100} \sin\pi is 0, and
# \sqrt{10^{400} + 1} is not 10^{200}.
_FIRST_BITS = 200
_BITS = 600
_MARGIN = 200
_LARGEST_SIZE = 1 << 14
_EXACT_BITS = 1 << 17
_LARGEST_EXPONENT = 1 << 20
# Of sin and the like: to the fewer digits there must remain digits of a turn.
_LARGEST_ARGUMENT_BITS = 100
_EXACT_FACTORIAL = 5000
# Work of one comparison, in squared bits of its rationals plus a share for each
# operation: about a second.
_BUDGET = 2 << 37
_OPERATION = 1 << 21
# What one more bit of precision, squared, costs where a series is summed, a
# root is taken and where the gamma function is: measured, of complex numbers.
_SERIES, _ROOT, _GAMMA = 40, 8, 3000
# A decimal with that many right digits is no accident.
_LONG_DECIMAL = 12


class Refused(ValueError):
  """An answer that says nothing, or contradicts itself: it equals nothing."""


class Undefined(ArithmeticError):
  """No value at this point, like 1/0."""


class NotReal(Undefined):
  """The point is outside the real domain, like -1 is for a logarithm."""


class _Budget:
  """What may still be spent; shared within one comparison."""

  def __init__(self):
    self.left = _BUDGET
    # The largest size of an inexact part, as a power of two.
    self.size = 0
    self.inexact = False

  def spend(self, work: int) -> None:
    self.left -= work
    if self.left < 0:
      raise TooLarge('too much arithmetic')

  def spend_on(self, function: int) -> None:
    """Pays for one value of a function at the precision of now."""
    self.spend(8 * _OPERATION + function * mpmath.mp.prec**2)


_SHARED: contextvars.ContextVar[_Budget | None] = contextvars.ContextVar(
  'shared', default=None
)


@contextlib.contextmanager
def one_budget() -> Iterator[None]:
  """Within it all comparisons share one budget, as those of a list do."""
  token = _SHARED.set(_Budget())
  try:
    yield
  finally:
    _SHARED.reset(token)


def _budget() -> _Budget:
  return _SHARED.get() or _Budget()


class _Scope(NamedTuple):
  """Where an expression is evaluated.

  point: the value of each variable.
  budget: what may be spent, and the sizes that were seen.
  zero: a number below it is 0.
  trigonometric: whether a degree sign says radians here.
  real: whether functions are those of real numbers.
  roots: whether square roots are, too.
  """

  point: Mapping[str, Fraction]
  budget: _Budget
  zero: mpmath.mpf = mpmath.mpf(0)
  trigonometric: bool = False
  real: bool = False
  roots: bool = False


# --- evaluation -------------------------------------------------------------


def evaluate(node: Node, scope: _Scope) -> Number:
  """Returns the value of an expression at `scope.point`.

  Raises:
    Unreadable: it is no expression.
    TooLarge: it would take too long.
    Undefined: it has no value there.
    NotReal: `scope.real`, and a function has no real value there.
  """
  scope.budget.spend(_OPERATION)
  operation = _OPERATIONS.get(node.op)
  if operation is None:
    raise Unreadable(f'a {node.op} in an expression')
  try:
    value = operation(node, scope)
  except (Unreadable, TooLarge, NotReal):
    raise
  except (ValueError, ArithmeticError) as e:
    # mpmath's poles and domains, or Undefined from below.
    raise Undefined(str(e)) from e
  if isinstance(value, Fraction):
    return _charge(value, scope)
  scope.budget.inexact = True
  if not mpmath.isfinite(value) and not mpmath.isinf(value):
    raise Undefined('no number')
  if mpmath.isinf(value) and node.op not in ('constant', 'negate'):
    raise Undefined('infinity in an expression')
  if mpmath.isfinite(value):
    _note(value, scope)
  return value


def show(value: Number) -> str:
  """Returns a number for reading, in 30 digits or as a power of two."""
  value = _real(value)
  size = int(mpmath.mag(value)) if value and mpmath.isfinite(value) else 0
  return mpmath.nstr(value, 30) if abs(size) < 10_000 else f'about 2^{size}'


def _vanishes(value: Number, zero: mpmath.mpf) -> bool:
  """Whether it is 0 but for rounding; rationals have none."""
  return value == 0 if isinstance(value, Fraction) else abs(value) <= zero


def _note(value: Number, scope: _Scope) -> None:
  """Has the precision allow for a part of this size."""
  if not _vanishes(value, scope.zero):
    size = abs(int(mpmath.mag(_real(value))))
    scope.budget.size = max(scope.budget.size, size)
    if size > _LARGEST_EXPONENT:
      raise TooLarge('a number of over a million bits')


def _real(value: Number) -> mpmath.mpf | mpmath.mpc:
  if isinstance(value, Fraction):
    return mpmath.mpf(value.numerator) / value.denominator
  return value


def _finite(value: Number) -> Number:
  if not isinstance(value, Fraction) and not mpmath.isfinite(value):
    raise Undefined('infinity in an expression')
  return value


def _number(node: Node, scope: _Scope) -> Number:
  return node.args[0]


def _symbol(node: Node, scope: _Scope) -> Number:
  return scope.point[node.args[0]]


def _constant(node: Node, scope: _Scope) -> Number:
  match node.args[0]:
    case 'pi':
      return +mpmath.pi
    case 'e':
      return +mpmath.e
    case 'i':
      return mpmath.mpc(0, 1)
  return mpmath.inf


def _add(node: Node, scope: _Scope) -> Number:
  total, *rest = _operands(node, scope)
  for value in rest:
    exact = _exact(total, value)
    total = total + value if exact else _real(total) + _real(value)
    total = _charge(total, scope)
  return total


def _multiply(node: Node, scope: _Scope) -> Number:
  product, *rest = _operands(node, scope)
  for value in rest:
    exact = _exact(product, value)
    product = product * value if exact else _real(product) * _real(value)
    product = _charge(product, scope)
  return product


def _charge(value: Number, scope: _Scope) -> Number:
  """Returns a value that was paid for, in few enough bits."""
  if not isinstance(value, Fraction):
    return value
  bits = value.numerator.bit_length() + value.denominator.bit_length()
  scope.budget.spend(bits * bits)
  return value if bits <= _EXACT_BITS else _real(value)


def _divide(node: Node, scope: _Scope) -> Number:
  a, b = _operands(node, scope)
  if _vanishes(b, scope.zero):
    raise Undefined('division by zero')
  return a / b if _exact(a, b) else _real(a) / _real(b)


def _operands(node: Node, scope: _Scope) -> list[Number]:
  values = [_finite(evaluate(arg, scope)) for arg in node.args]
  if not _exact(*values):
    # Each is divided out or multiplied in full.
    scope.budget.spend(len(values) * mpmath.mp.prec**2 // 2)
    for value in values:
      if isinstance(value, Fraction) and value:
        _note(value, scope)
  return values


def _exact(*values: Number) -> bool:
  return all(isinstance(value, Fraction) for value in values)


def _negate(node: Node, scope: _Scope) -> Number:
  return -evaluate(node.args[0], scope)


def _power(node: Node, scope: _Scope) -> Number:
  base = _finite(evaluate(node.args[0], scope))
  # a^{\log_a b} is b, as everybody writes.
  exponent = _finite(evaluate(node.args[1], scope._replace(real=False)))
  if not _exact(base, exponent):
    for value in (base, exponent):
      if isinstance(value, Fraction) and value:
        _note(value, scope)
    scope.budget.spend_on(_SERIES)
  elif exponent.denominator > 1:
    scope.budget.spend_on(_SERIES)
  if _vanishes(base, scope.zero):
    base = Fraction(0)
  if scope.roots and _has_even_root(exponent):
    _demand_between(base, 0, math.inf, scope.zero)
  return power(base, exponent)


def power(base: Number, exponent: Number) -> Number:
  """Returns the principal base^exponent; 0^0 is undefined."""
  if base == 0:
    if not (mpmath.re(_real(exponent)) > 0):
      raise Undefined('0 to no positive power')
    return Fraction(0)
  if _exact(base, exponent) and exponent.denominator == 1:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) <= _EXACT_BITS:
      return base**exponent.numerator
  if abs(base) == 1 and _exact(base):
    if base == 1:
      return Fraction(1)
    if _exact(exponent) and exponent.denominator == 1:
      return Fraction(-1 if exponent.numerator % 2 else 1)
  base, exponent = _real(base), _real(exponent)
  size = abs(exponent) * max(abs(mpmath.log(abs(base))), 1)
  if size > _LARGEST_EXPONENT:
    raise TooLarge('a power of over a million bits')
  return mpmath.power(base, exponent)


def _root(node: Node, scope: _Scope) -> Number:
  """The real root of a negative number, if the index is odd."""
  value, index = _finite(evaluate(node.args[0], scope)), node.args[1]
  if value:
    _note(value, scope)
  if not 1 <= index <= 10**6:
    raise Unreadable(f'a root of index {index}')
  scope.budget.spend_on(_ROOT)
  if _vanishes(value, scope.zero):
    return Fraction(0)
  if scope.roots and index % 2 == 0:
    _demand_between(value, 0, math.inf, scope.zero)
  if isinstance(value, Fraction) and index == 2 and value > 0:
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above**2 == value.numerator and below**2 == value.denominator:
      return Fraction(above, below)
  value = _real(value)
  if index % 2 and mpmath.im(value) == 0 and mpmath.re(value) < 0:
    return -mpmath.root(-mpmath.re(value), index)
  return mpmath.root(value, index)


def _factorial(node: Node, scope: _Scope) -> Number:
  n, marks = _finite(evaluate(node.args[0], scope)), node.args[1]
  whole = isinstance(n, Fraction) and n.denominator == 1
  if whole and n < 0:
    raise Undefined('the factorial of a negative number')
  if whole and n <= _EXACT_FACTORIAL:
    n = int(n)
    return Fraction(math.prod(range(n, 0, -marks)) if n else 1)
  if whole or marks == 2:
    raise TooLarge('a large factorial')
  scope.budget.spend_on(_GAMMA)
  return _gamma(n + 1 if isinstance(n, Fraction) else _real(n) + 1)


def _gamma(value: Number) -> Number:
  # Its time grows with the cube of the digits.
  if mpmath.mp.prec > 4 * _BITS:
    raise TooLarge('a gamma function of many digits')
  return mpmath.gamma(_argument(value))


def _degree(node: Node, scope: _Scope) -> Number:
  value = _finite(evaluate(node.args[0], scope))
  return _real(value) * mpmath.pi / 180 if scope.trigonometric else value


def _apply(node: Node, scope: _Scope) -> Number:
  """An unknown function: some number that only equal arguments share."""
  name, *arguments = node.args
  seed = zlib.crc32(name.encode()) % 10**6
  value = mpmath.mpf(seed + 2) / 101
  for i, argument in enumerate(arguments):
    scope.budget.spend_on(_SERIES)
    x = _argument(_finite(evaluate(argument, scope)))
    value += mpmath.sin(x + seed + i) / (i + 2) + x * (i + 3) / 11
  return value


def _argument(value: Number) -> mpmath.mpf | mpmath.mpc:
  """Returns what a function may be asked about."""
  value = _real(value)
  if value and int(mpmath.mag(value)) > _LARGEST_ARGUMENT_BITS:
    raise TooLarge('a function of a huge number')
  return value


def _call(node: Node, scope: _Scope) -> Number:
  name, *arguments = node.args
  inner = scope._replace(
    trigonometric=scope.trigonometric or name in vocabulary.TRIGONOMETRIC,
    real=scope.real and name != 'exp',
  )
  if any(
    argument.op in ('tuple', 'list', 'relation') for argument in arguments
  ):
    raise Unreadable(f'{name} of a list')
  values = [_finite(evaluate(argument, inner)) for argument in arguments]
  for value in values:
    if value:
      _note(value, scope)
  scope.budget.spend_on(_GAMMA if name == 'Gamma' else _SERIES)
  if name in ('exp', 'sinh', 'cosh', 'tanh') and len(values) == 1:
    # tanh(1000) is 1 but for e^-2000.
    steep = 3 * int(abs(mpmath.re(_real(values[0]))))
    scope.budget.size = max(scope.budget.size, steep)
  if name in _ROUNDED and len(values) == 1:
    return _round(_ROUNDED[name], values[0], scope.zero)
  if name in ('ln', 'log', 'lg') and any(
    _vanishes(v, scope.zero) for v in values
  ):
    raise Undefined('the logarithm of 0')
  if scope.real and name in _REAL_DOMAINS:
    low, high = _REAL_DOMAINS[name]
    for value in values:
      _demand_between(value, low, high, scope.zero)
  if name in _WHOLE:
    return _whole_numbers(name, values)
  expected = 2 if name == 'log' and len(values) == 2 else 1
  if name not in _FUNCTIONS or len(values) != expected:
    raise Unreadable(f'{name} of {len(values)} arguments')
  return _FUNCTIONS[name](*values)


def _whole_numbers(name: str, values: list[Number]) -> Number:
  """gcd, lcm, mod, binom of whole numbers; max and min of any reals."""
  if name in ('max', 'min') and values:
    for value in values:
      _demand_real(value)
    key = lambda value: mpmath.re(_real(value))
    return (max if name == 'max' else min)(values, key=key)
  if len(values) < 2:
    raise Unreadable(f'{name} of one number')
  if not _exact(*values) or any(v.denominator != 1 for v in values):
    raise Undefined(f'{name} of no whole numbers')
  numbers = [int(v) for v in values]
  if name == 'gcd':
    return Fraction(math.gcd(*numbers))
  if name == 'lcm':
    return Fraction(math.lcm(*numbers))
  if len(numbers) != 2:
    raise Unreadable(f'{name} of {len(numbers)} numbers')
  if name == 'mod':
    if numbers[1] == 0:
      raise Undefined('a remainder by zero')
    return Fraction(numbers[0] % numbers[1])
  return _binomial(*numbers)


def _binomial(n: int, k: int) -> Number:
  if n < 0 or k < 0:
    raise Undefined('a binomial of negative numbers')
  k = min(k, n - k)
  if k < 0:
    return Fraction(0)
  if k * max(n.bit_length(), 1) <= _EXACT_BITS and k <= _EXACT_FACTORIAL:
    return Fraction(math.comb(n, k))
  raise TooLarge('a large binomial')


def _demand_real(value: Number) -> None:
  if mpmath.im(_real(value)) != 0:
    raise Undefined('no real number')


def _demand_between(
  value: Number, low: float, high: float, zero: mpmath.mpf
) -> None:
  value = _real(value)
  inside = low - zero <= mpmath.re(value) <= high + zero
  if not (_is_real(value) and inside):
    raise NotReal('a function outside its real domain')


def _function(f: Callable) -> Callable[[Number], Number]:
  return lambda value: f(_argument(value))


def _exp(value: Number) -> Number:
  if abs(mpmath.re(_real(value))) > _LARGEST_EXPONENT:
    raise TooLarge('a power of over a million bits')
  return mpmath.exp(_real(value))


def _log(value: Number, base: Number | None = None) -> Number:
  """The natural logarithm, or one to a base."""
  if base is None:
    return mpmath.log(_real(value))
  below = _log(base)
  if below == 0:
    raise Undefined('a logarithm to base 1')
  return _log(value) / below


def _round(rounding: Callable, value: Number, zero: mpmath.mpf) -> Fraction:
  """floor or ceil; what is next to a whole number but for rounding is it."""
  if isinstance(value, Fraction):
    return Fraction(rounding(value))
  _demand_real(value)
  value = mpmath.re(value)
  if int(mpmath.mag(value) if value else 0) > 128:
    raise TooLarge('rounding a huge number')
  nearest = mpmath.nint(value)
  if abs(value - nearest) <= zero:
    return Fraction(int(nearest))
  above = nearest > value
  if rounding is math.floor:
    return Fraction(int(nearest) - above)
  return Fraction(int(nearest) + (not above))


_WHOLE = frozenset(['gcd', 'lcm', 'mod', 'binom', 'max', 'min'])
_FUNCTIONS: dict[str, Callable] = {
  **{
    name: _function(getattr(mpmath, name)) for name in vocabulary.TRIGONOMETRIC
  },
  'arcsin': _function(mpmath.asin),
  'arccos': _function(mpmath.acos),
  'arctan': _function(mpmath.atan),
  'arccot': _function(mpmath.acot),
  'arcsec': _function(mpmath.asec),
  'arccsc': _function(mpmath.acsc),
  'Gamma': _gamma,
  'sinh': _function(mpmath.sinh),
  'cosh': _function(mpmath.cosh),
  'tanh': _function(mpmath.tanh),
  'Re': lambda value: mpmath.re(_real(value)),
  'Im': lambda value: mpmath.im(_real(value)),
  'exp': _exp,
  'ln': _log,
  # Without a base: ten, as in school books and math-verify.
  'log': lambda value, base=Fraction(10): _log(value, base),
  'lg': lambda value: _log(value, Fraction(10)),
  'abs': abs,
}
_ROUNDED = {'floor': math.floor, 'ceil': math.ceil}
_REAL_DOMAINS = {
  **dict.fromkeys(('ln', 'log', 'lg'), (0, math.inf)),
  **dict.fromkeys(('arcsin', 'arccos'), (-1, 1)),
}
_OPERATIONS: dict[str, Callable[[Node, _Scope], Number]] = {
  'number': _number,
  'symbol': _symbol,
  'constant': _constant,
  'add': _add,
  'multiply': _multiply,
  'divide': _divide,
  'negate': _negate,
  'power': _power,
  'root': _root,
  'factorial': _factorial,
  'degree': _degree,
  'apply': _apply,
  'call': _call,
}


def constant(node: Node) -> Number | None:
  """Returns the value of an expression without variables, else None.

  Raises:
    TooLarge: it would take too long.
  """
  if symbols(node):
    return None
  try:
    with _values([node], {}, _budget()) as ((value,), _):
      return value
  except (Undefined, Unreadable):
    return None


@contextlib.contextmanager
def _values(
  expressions: Sequence[Node],
  point: Mapping[str, Fraction],
  budget: _Budget,
  real: bool = False,
  roots: bool = False,
) -> Iterator[tuple[list[Number], mpmath.mpf]]:
  """Yields their values at a point and what is 0, at that precision.

  Raises:
    Unreadable, TooLarge, Undefined, NotReal: as `evaluate`.
  """
  budget.size, budget.inexact = 0, False
  scope = _Scope(point, budget, real=real, roots=roots)
  with mpmath.workprec(_FIRST_BITS):
    values = [evaluate(node, scope) for node in expressions]
    # A rational may be the floor of what is none.
    if not budget.inexact:
      yield values, mpmath.mpf(0)
      return
  size = budget.size
  if size > _LARGEST_SIZE:
    raise TooLarge(f'parts of {size} bits')
  with mpmath.workprec(3 * size + _BITS):
    zero = mpmath.ldexp(1, -2 * size - _MARGIN)
    scope = scope._replace(zero=zero)
    budget.spend(len(expressions) * size * size)
    yield [evaluate(node, scope) for node in expressions], zero


def rounded(value: Number) -> Fraction | None:
  """Returns a real number to 60 digits, or None; equal numbers are equal.

  Raises:
    TooLarge: it is huge.
  """
  if isinstance(value, Fraction):
    return value
  if not mpmath.isfinite(value) or not _is_real(value):
    return None
  value = mpmath.re(value)
  if value and abs(int(mpmath.mag(value))) > _LARGEST_SIZE:
    raise TooLarge('the end of an interval')
  with mpmath.workprec(_FIRST_BITS):
    mantissa, exponent = mpmath.frexp(+value)
    digits = int(mpmath.nint(mpmath.ldexp(mantissa, _FIRST_BITS)))
  return Fraction(digits) * Fraction(2) ** (int(exponent) - _FIRST_BITS)


def real(text: str) -> Fraction | mpmath.mpf | None:
  """Returns the real number that a normalised text spells out, or None."""
  try:
    value = constant(latex.parse(text))
  except (Ambiguous, Unreadable, TooLarge):
    return None
  if value is None or isinstance(value, Fraction):
    return value
  if not mpmath.isfinite(value) or mpmath.im(value) != 0:
    return None
  return mpmath.re(value)


def nodes(node: Node) -> Iterator[Node]:
  """Yields the node and all below it."""
  stack = [node]
  while stack:
    current = stack.pop()
    if isinstance(current, Node):
      yield current
      stack.extend(current.args)
    elif isinstance(current, tuple):
      stack.extend(current)


def symbols(node: Node) -> frozenset[str]:
  """Returns the names of the variables."""
  return frozenset(n.args[0] for n in nodes(node) if n.op == 'symbol')


# --- equality ---------------------------------------------------------------

# Where all are positive, roots and logarithms are real.
_POSITIVE = ((3, 7), (2, 5), (2311, 53))
# Elsewhere each variable has a size and a sign of its own.
_SIZES = (Fraction(1, 89), Fraction(7, 5), Fraction(37, 3), Fraction(1013, 2))
_MIXED = 10
_INTEGERS = (*range(1, 13), 30, 97, 150, 1009)


def points(
  names: frozenset[str], whole: bool, only_whole: bool
) -> list[dict[str, Fraction]]:
  """Returns where expressions of these variables are compared.

  `whole` numbers too where floors are taken, and these alone where (-1)^n
  says that n is one.
  """
  if not names:
    return [{}]
  order = sorted(names)
  found = []
  if not only_whole:
    for above, below in _POSITIVE:
      found.append(
        {
          name: Fraction(above + 2 * i * i + 3 * i, below + 4 * i)
          for i, name in enumerate(order)
        }
      )
    for k in range(_MIXED):
      found.append({name: _mixed(name, k) for name in order})
  if whole or only_whole:
    for n in _INTEGERS:
      found.append(
        {name: Fraction(n + 5 * i * i) for i, name in enumerate(order)}
      )
  return found


def _mixed(name: str, k: int) -> Fraction:
  """A number that hangs on the name and on which point this is."""
  data = hashlib.blake2b(f'{name} {k}'.encode(), digest_size=8).digest()
  draw = int.from_bytes(data)
  size = _SIZES[draw % len(_SIZES)]
  offset = Fraction(draw // 64 % 1000, 1000 + draw // 64000 % 97)
  return (size + offset * min(size, 1)) * (-1 if draw // 4 % 2 else 1)


def equal(a: Node, b: Node) -> bool:
  """Whether two expressions are equal.

  Raises:
    Unreadable: one is no expression.
    Refused: one has no value at any point.
    TooLarge: one would take too long.
  """
  outcome = _rounded_equal(a, b)
  return _same_function(a, b) if outcome is None else outcome


_IMAGINARY = Node('constant', ('i',))


def _same_function(a: Node, b: Node) -> bool:
  if symbols(a) - symbols(b) and symbols(b) - symbols(a):
    return False  # Of other variables.
  budget = _budget()
  every = [*nodes(a), *nodes(b)]
  # Without i these are functions of real numbers.
  real = bool(symbols(a) | symbols(b)) and _IMAGINARY not in every
  # \sqrt{a/b} is \sqrt{a}/\sqrt{b}, as people write; \sqrt{x}^2 is not x.
  roots = real and _has_roots(a) != _has_roots(b)
  only_whole = any(map(_counts, every))
  whole = any(n.op == 'call' and n.args[0] in _STEPS for n in every)
  # Where no point lies in their domain, complex values decide.
  for is_real in (True, False) if real else (False,):
    seen = False
    for point in points(symbols(a) | symbols(b), whole, only_whole):
      outcome = _agree(a, b, point, budget, is_real, is_real and roots)
      if outcome is False:
        return False
      seen |= outcome is True
    if seen:
      return True
  raise Refused('no value')


_STEPS = ('floor', 'ceil', 'mod', 'gcd', 'lcm')


def _counts(node: Node) -> bool:
  """Whether it is like (-1)^n, n! or a binomial, which say that n is whole."""
  if node.op == 'factorial' or node.args[:1] == ('binom',):
    return bool(symbols(node))
  if node.op != 'power' or not symbols(node.args[1]):
    return False
  base = node.args[0]
  return base.op == 'negate' and not symbols(base)


def _agree(
  a: Node,
  b: Node,
  point: Mapping[str, Fraction],
  budget: _Budget,
  real: bool,
  roots: bool,
) -> bool | None:
  """Whether both agree at a point; None where that says nothing.

  Where only one has a real value they differ: \\ln(x^2) and 2 \\ln x at -1.
  Where several variables are negative that says nothing, so that \\ln(ab) is
  \\ln a + \\ln b. Where both are complex, equal forms may lie on different
  branches.
  """
  several = sum(value < 0 for value in point.values()) > 1
  roots = real and (roots or several)
  try:
    with _values([a, b], point, budget, real, roots) as (found, zero):
      if real and not all(map(_is_real, found)):
        unknown = several or not any(map(_is_real, found))
        return None if unknown or _has_odd_roots(a, b) else False
      if _exact(*found):
        return found[0] == found[1]
      first, second = map(_real, found)
      if not (mpmath.isfinite(first) and mpmath.isfinite(second)):
        return bool(first == second)
      return bool(abs(first - second) <= zero)
  except NotReal:
    if several:
      return None
    each = {_has_real_value(node, point, budget, roots) for node in (a, b)}
    return False if each == {True, False} else None
  except Undefined:
    return None
  except TooLarge:
    # e^{-x^2} at 500 says less than what it costs.
    if not point or budget.left < 0:
      raise
    return None


def _has_real_value(
  node: Node, point: Mapping[str, Fraction], budget: _Budget, roots: bool
) -> bool | None:
  """Whether an expression is real at a point; None at a pole."""
  try:
    with _values([node], point, budget, True, roots) as ((value,), _):
      return _is_real(value)
  except NotReal:
    return False
  except Undefined:
    return None


def _has_roots(node: Node) -> bool:
  """Whether there are roots that a negative number has not."""
  return any(
    (n.op == 'root' and n.args[1] % 2 == 0)
    or (n.op == 'power' and _has_even_root(constant(n.args[1])))
    for n in nodes(node)
  )


def _has_odd_roots(*expressions: Node) -> bool:
  """Whether there are powers like x^{1/3}: some take the real root of -8."""
  powers = [n for e in expressions for n in nodes(e) if n.op == 'power']
  below = [_denominator(constant(n.args[1])) or 1 for n in powers]
  return any(b > 1 and b % 2 for b in below)


def _has_even_root(exponent: Number | None) -> bool:
  below = _denominator(exponent)
  return below is not None and below % 2 == 0


def _denominator(value: Number | None) -> int | None:
  return value.denominator if isinstance(value, Fraction) else None


def _is_real(value: Number) -> bool:
  if isinstance(value, Fraction):
    return True
  return abs(mpmath.im(value)) <= abs(value) * mpmath.mpf('1e-50')


def _rounded_equal(a: Node, b: Node) -> bool | None:
  """Whether one is a long decimal of the other; None if none is one."""
  for decimal, exact in ((a, b), (b, a)):
    negative = decimal.op == 'negate'
    number = decimal.args[0] if negative else decimal
    if number.op != 'number':
      continue
    written, places = number.args
    if not places or written * 10**places < 10 ** (_LONG_DECIMAL - 1):
      continue
    value = constant(exact)
    if value is None or _terminates(value):
      continue
    with mpmath.workprec(_BITS):
      if not _is_real(value):
        return False
      value = mpmath.re(_real(value)) * (-1 if negative else 1)
      excess = (value - _real(written)) * 10**places
      # Cut off there, or rounded.
      return bool(0 <= excess < 1 or abs(excess) <= 0.5)
  return None


def _terminates(value: Number) -> bool:
  """Whether it is a decimal fraction, which leaves nothing to round."""
  if not isinstance(value, Fraction):
    return False
  below = value.denominator
  for prime in (2, 5):
    while below % prime == 0:
      below //= prime
  return below == 1


def ratio(a: Node, b: Node) -> Number | None:
  """Returns the constant c with a = c b and c != 0, or None.

  Raises:
    Unreadable, TooLarge, Refused: as `equal`.
  """
  for point in points(symbols(a) | symbols(b), False, False):
    try:
      with _values([a, b], point, _budget()) as (found, zero):
        if not all(_is_real(v) and not _vanishes(v, zero) for v in found):
          continue
        above, below = found
        if not _exact(above, below):
          above, below = mpmath.re(_real(above)), mpmath.re(_real(below))
        c = above / below
        break
    except Undefined:
      continue
  else:
    raise Refused('no value')
  # Then it must be so everywhere: b(point) a = a(point) b.
  where = dict(point)
  return (
    c
    if _same_function(_scaled_by(a, b, where), _scaled_by(b, a, where))
    else None
  )


def _scaled_by(a: Node, b: Node, point: Mapping[str, Fraction]) -> Node:
  """a times the value of b at a point, as a tree."""
  return Node('multiply', (a, _at(b, point)))


def _at(node: Node, point: Mapping[str, Fraction]) -> Node:
  if node.op == 'symbol':
    return Node('number', (point[node.args[0]], 0))
  return node._replace(
    args=tuple(_at(x, point) if isinstance(x, Node) else x for x in node.args)
  )


def linear(node: Node, name: str) -> tuple[Fraction, Fraction]:
  """Returns (slope, offset) of an exactly linear expression in `name`.

  Raises:
    Unreadable: it is not linear with rational coefficients.
    TooLarge: it would take too long.
  """
  scope, at = _Scope({}, _budget()), {}
  for x in (0, 1, 2, Fraction(-7, 3)):
    try:
      at[x] = evaluate(node, scope._replace(point={name: Fraction(x)}))
    except Undefined as e:
      raise Unreadable('a value that is undefined') from e
  if not _exact(*at.values()):
    raise Unreadable('irrational coefficients')
  offset, slope = at[0], at[1] - at[0]
  if slope == 0 or any(v != slope * x + offset for x, v in at.items()):
    raise Unreadable('not linear')
  return slope, offset
