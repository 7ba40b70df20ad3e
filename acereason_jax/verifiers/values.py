r"""Expression trees as numbers, exactly or to 150 digits, within a budget.

Two expressions are equal if they agree at every sample point of their
variables: exactly where both are rational, else to many more digits than
chance allows. Nothing here can loop: sizes are refused before they are built.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

import mpmath

from acereason_jax.verifiers import latex, vocabulary
from acereason_jax.verifiers.latex import Node
from acereason_jax.verifiers.vocabulary import TooLarge, Unreadable

Number = Fraction | mpmath.mpf | mpmath.mpc

# Digits of the two evaluations: what shrinks from one to the other is rounding.
_DIGITS = (60, 150)
_CONVERGED = mpmath.mpf('1e-30')
_AGREED = mpmath.mpf('1e-100')
_EXACT_BITS = 1 << 17
_LARGEST_EXPONENT = 1 << 20
# Of sin and the like: to the fewer digits there must remain digits of a turn.
_LARGEST_ARGUMENT_BITS = 100
_EXACT_FACTORIAL = 5000
# Work of one comparison, in squared bits of its rationals plus a share for each
# operation: some tenths of a second.
_BUDGET = 2 << 37
_OPERATION = 1 << 22
# A decimal with that many right digits is no accident.
_LONG_DECIMAL = 12


class Undefined(ArithmeticError):
  """No value at this point, like 1/0."""


class _Budget:
  """What may still be spent; shared by one comparison."""

  def __init__(self):
    self.left = _BUDGET

  def spend(self, work: int) -> None:
    self.left -= work
    if self.left < 0:
      raise TooLarge('too much arithmetic')


class _Scope(NamedTuple):
  """Where an expression is evaluated."""

  point: Mapping[str, Fraction]
  budget: _Budget
  trigonometric: bool = False


# --- evaluation -------------------------------------------------------------


def evaluate(node: Node, scope: _Scope) -> Number:
  """Returns the value of an expression at `scope.point`.

  Raises:
    Unreadable: it is no expression.
    TooLarge: it would take too long.
    Undefined: it has no value there.
  """
  scope.budget.spend(_OPERATION)
  operation = _OPERATIONS.get(node.op)
  if operation is None:
    raise Unreadable(f'a {node.op} in an expression')
  try:
    value = operation(node, scope)
  except (Unreadable, TooLarge):
    raise
  except (ValueError, ArithmeticError) as e:
    # mpmath's poles and domains, or Undefined from below.
    raise Undefined(str(e)) from e
  if isinstance(value, Fraction):
    return _charge(value, scope)
  if not mpmath.isfinite(value) and not mpmath.isinf(value):
    raise Undefined('no number')
  if mpmath.isinf(value) and node.op not in ('constant', 'negate'):
    raise Undefined('infinity in an expression')
  if value and mpmath.isfinite(value) and _exponent(value) > _LARGEST_EXPONENT:
    raise TooLarge('a number of over a million bits')
  return value


def _exponent(value: mpmath.mpf | mpmath.mpc) -> int:
  """Returns the size of log2 |value|."""
  return abs(int(mpmath.mag(value)))


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
  if b == 0:
    raise Undefined('division by zero')
  return a / b if _exact(a, b) else _real(a) / _real(b)


def _operands(node: Node, scope: _Scope) -> list[Number]:
  return [_finite(evaluate(arg, scope)) for arg in node.args]


def _exact(*values: Number) -> bool:
  return all(isinstance(value, Fraction) for value in values)


def _negate(node: Node, scope: _Scope) -> Number:
  return -evaluate(node.args[0], scope)


def _power(node: Node, scope: _Scope) -> Number:
  base, exponent = _operands(node, scope)
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
  if not 1 <= index <= 10**6:
    raise Unreadable(f'a root of index {index}')
  if value == 0:
    return Fraction(0)
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
  if marks == 2:
    raise TooLarge('a double factorial')
  return mpmath.gamma(_argument(n) + 1)


def _degree(node: Node, scope: _Scope) -> Number:
  value = _finite(evaluate(node.args[0], scope))
  return _real(value) * mpmath.pi / 180 if scope.trigonometric else value


def _apply(node: Node, scope: _Scope) -> Number:
  """An unknown function: some number that only equal arguments share."""
  name, *arguments = node.args
  seed = sum(map(ord, name))
  value = mpmath.mpf(seed % 97 + 2) / 101
  for i, argument in enumerate(arguments):
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
    trigonometric=scope.trigonometric or name in vocabulary.TRIGONOMETRIC
  )
  if any(
    argument.op in ('tuple', 'list', 'relation') for argument in arguments
  ):
    raise Unreadable(f'{name} of a list')
  values = [_finite(evaluate(argument, inner)) for argument in arguments]
  scope.budget.spend(8 * _OPERATION)
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
    return (max if name == 'max' else min)(values, key=_real)
  if len(values) < 2:
    raise Unreadable(f'{name} of one number')
  if not _exact(*values) or any(v.denominator != 1 for v in values):
    if name == 'binom' and len(values) == 2:
      return mpmath.binomial(*map(_argument, values))
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
  if n.bit_length() > 40:
    raise TooLarge('a binomial of huge numbers')
  log = mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1)
  log -= mpmath.loggamma(n - k + 1)
  if log > _LARGEST_EXPONENT:
    raise TooLarge('a binomial of over a million bits')
  return mpmath.exp(log)


def _demand_real(value: Number) -> None:
  if mpmath.im(_real(value)) != 0:
    raise Undefined('no real number')


def _function(f: Callable) -> Callable[[Number], Number]:
  return lambda value: f(_argument(value))


def _exp(value: Number) -> Number:
  if abs(mpmath.re(_real(value))) > _LARGEST_EXPONENT:
    raise TooLarge('a power of over a million bits')
  return mpmath.exp(_real(value))


def _log(value: Number, base: Number | None = None) -> Number:
  """The natural logarithm, or one to a base."""
  if value == 0:
    raise Undefined('the logarithm of 0')
  if base is None:
    return mpmath.log(_real(value))
  below = _log(base)
  if below == 0:
    raise Undefined('a logarithm to base 1')
  return _log(value) / below


def _abs(value: Number) -> Number:
  return abs(value)


def _rounded(rounding: Callable) -> Callable[[Number], Number]:
  def function(value: Number) -> Number:
    if isinstance(value, Fraction):
      return Fraction(rounding(value))
    _demand_real(value)
    if int(mpmath.mag(value) if value else 0) > 128:
      raise TooLarge('rounding a huge number')
    nearest = mpmath.nint(mpmath.re(value))
    # \lfloor \log_2 8 \rfloor must not hang on the last digit.
    if abs(value - nearest) < mpmath.mpf(10) ** (10 - mpmath.mp.dps):
      return Fraction(int(nearest))
    return Fraction(int(rounding(mpmath.re(value))))

  return function


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
  'Gamma': _function(mpmath.gamma),
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
  'abs': _abs,
  'floor': _rounded(math.floor),
  'ceil': _rounded(math.ceil),
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
    with mpmath.workdps(_DIGITS[1]):
      return evaluate(node, _Scope({}, _Budget()))
  except (Undefined, Unreadable):
    return None


def rounded(value: Number) -> Fraction | None:
  """Returns a real number to 60 digits, or None; equal numbers are equal."""
  if isinstance(value, Fraction):
    return value
  if not mpmath.isfinite(value) or not _is_real(value):
    return None
  with mpmath.workdps(_DIGITS[1]):
    value = mpmath.re(value)
    scale = mpmath.mpf(10) ** (_DIGITS[0] - int(mpmath.log10(abs(value) or 1)))
    return Fraction(int(mpmath.nint(value * scale)), 1) / Fraction(int(scale))


def real(text: str) -> Fraction | mpmath.mpf | None:
  """Returns the real number that a normalised text spells out, or None."""
  try:
    value = constant(latex.parse(text))
  except (Unreadable, TooLarge):
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

# Two points of small and one of large positive numbers, where roots and
# logarithms are real, and two with signs, which tell |x| from x.
_RANGES = ((3, 7, 1), (2, 5, 1), (2311, 53, 1), (5, 3, -1), (7, 11, -1))


def points(names: frozenset[str]) -> list[dict[str, Fraction]]:
  """Returns where expressions of these variables are compared."""
  if not names:
    return [{}]
  return [
    {
      name: Fraction(above + 2 * i * i + 3 * i, below + 4 * i) * sign
      for i, name in enumerate(sorted(names))
    }
    for above, below, sign in _RANGES
  ]


def equal(a: Node, b: Node) -> bool:
  """Whether two expressions are equal.

  Raises:
    Unreadable: one is no expression, or has no value at any point.
    TooLarge: one would take too long.
  """
  rounded = _rounded_equal(a, b)
  return _same_function(a, b) if rounded is None else rounded


def _same_function(a: Node, b: Node) -> bool:
  budget = _Budget()
  complex_too = any(n == Node('constant', ('i',)) for n in nodes(a)) or any(
    n == Node('constant', ('i',)) for n in nodes(b)
  )
  names = symbols(a) | symbols(b)
  seen = skipped = False
  for point in points(names):
    scope = _Scope(point, budget)
    signed = any(value < 0 for value in point.values())
    outcome = _agree(a, b, scope, complex_too, signed)
    if outcome is False:
      return False
    seen |= outcome is True
    skipped |= outcome is None
  if not seen:
    raise Unreadable('no value at any point')
  return True


def _agree(
  a: Node, b: Node, scope: _Scope, complex_too: bool, signed: bool
) -> bool | None:
  """Whether both agree at a point; None where that says nothing.

  Branches: with negative variables, or where both are complex without saying
  i, equal forms may lie on different branches.
  """
  low, high = [], []
  try:
    for digits, found in zip(_DIGITS, (low, high)):
      with mpmath.workdps(digits):
        found.extend(evaluate(node, scope) for node in (a, b))
      if _exact(*found):
        return found[0] == found[1]
  except Undefined:
    if not scope.point:
      raise Unreadable('an undefined expression') from None
    return None
  with mpmath.workdps(_DIGITS[1]):
    if scope.point and not complex_too:
      real = [_is_real(value) for value in high]
      if not all(real) and (signed or not any(real)):
        return None
    return close(low, high)


def _is_real(value: Number) -> bool:
  if isinstance(value, Fraction):
    return True
  return abs(mpmath.im(value)) <= abs(value) * _AGREED


def close(low: list[Number], high: list[Number]) -> bool:
  """Whether two numbers are one, from evaluations with fewer and more digits.

  The difference of equal numbers is rounding alone, and shrinks with it;
  comparing with zero absolutely would take 10^{-20} for 10^{-21}.
  """
  (a, b), (c, d) = map(_real, low), map(_real, high)
  if not (mpmath.isfinite(c) and mpmath.isfinite(d)):
    return c == d
  coarse, fine = abs(a - b), abs(c - d)
  if fine == 0:
    return True
  if coarse == 0:
    return bool(fine <= _AGREED * max(abs(c), abs(d)))
  return bool(fine <= _CONVERGED * coarse)


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
    with mpmath.workdps(_DIGITS[1]):
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
    Unreadable, TooLarge: as `equal`.
  """
  names = symbols(a) | symbols(b)
  for point in points(names):
    scope = _Scope(point, _Budget())
    try:
      with mpmath.workdps(_DIGITS[1]):
        above, below = (evaluate(node, scope) for node in (a, b))
    except Undefined:
      continue
    if below != 0 and above != 0 and _is_real(above) and _is_real(below):
      if not _exact(above, below):
        above, below = mpmath.re(_real(above)), mpmath.re(_real(below))
      break
  else:
    raise Unreadable('no value at any point')
  # c = above / below at that point; then below a = above b must hold at all.
  if not _same_function(_times(a, below), _times(b, above)):
    return None
  return above / below


def _times(node: Node, factor: Number) -> Node:
  return Node('multiply', (node, Node('number', (factor, 0))))


def linear(node: Node, name: str) -> tuple[Fraction, Fraction]:
  """Returns (slope, offset) of an exactly linear expression in `name`.

  Raises:
    Unreadable: it is not linear with rational coefficients.
    TooLarge: it would take too long.
  """
  scope, at = _Scope({}, _Budget()), {}
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
