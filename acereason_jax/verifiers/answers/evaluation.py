"""Evaluates an expression at a point, at the current precision."""

import math
import zlib
from collections.abc import Callable
from fractions import Fraction

import mpmath

from acereason_jax.verifiers.answers import functions, numbers, vocabulary
from acereason_jax.verifiers.answers.numbers import (
  NotReal,
  Number,
  Scope,
  Undefined,
)
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import TooLarge, Unreadable


def evaluate(node: Node, scope: Scope) -> Number:
  """Returns the value of an expression at `scope.point`.

  Raises:
    Unreadable: it is not an expression.
    TooLarge: it would take too long.
    Undefined: it has no value there.
    NotReal: `scope.real`, and a function has no real value there.
  """
  scope.budget.spend(numbers.OPERATION)
  operation = _OPERATIONS.get(node.op)
  if operation is None:
    raise Unreadable(f'a {node.op} in an expression')
  try:
    value = operation(node, scope)
  except (Unreadable, TooLarge, NotReal):
    raise
  except (ValueError, ArithmeticError) as e:
    # A pole or a domain error of mpmath, or Undefined from a function called
    # here.
    raise Undefined(str(e)) from e
  if isinstance(value, Fraction):
    return numbers.charge(value, scope)
  scope.budget.inexact = True
  if not mpmath.isfinite(value) and not mpmath.isinf(value):
    raise Undefined('no number')
  if mpmath.isinf(value) and node.op not in ('constant', 'negate'):
    raise Undefined('infinity in an expression')
  if mpmath.isfinite(value):
    numbers.note(value, scope)
  return value


def _number(node: Node, scope: Scope) -> Number:
  return node.args[0]


def _symbol(node: Node, scope: Scope) -> Number:
  return scope.point[node.args[0]]


def _constant(node: Node, scope: Scope) -> Number:
  match node.args[0]:
    case 'pi':
      return +mpmath.pi
    case 'e':
      return +mpmath.e
    case 'i':
      return mpmath.mpc(0, 1)
  return mpmath.inf


def _add(node: Node, scope: Scope) -> Number:
  parts = _operands(node, scope)
  total, *rest = parts
  for value in rest:
    x, y = numbers.alike(total, value)
    total = numbers.charge(x + y, scope)
  return numbers.cancelled(total, parts, scope)


def _multiply(node: Node, scope: Scope) -> Number:
  product, *rest = _operands(node, scope)
  for value in rest:
    x, y = numbers.alike(product, value)
    product = numbers.charge(x * y, scope)
  return product


def _divide(node: Node, scope: Scope) -> Number:
  a, b = _operands(node, scope)
  if numbers.vanishes(b, scope.zero):
    raise Undefined('division by zero')
  above, below = numbers.alike(a, b)
  return above / below


def _operands(node: Node, scope: Scope) -> list[Number]:
  values = [numbers.finite(evaluate(arg, scope)) for arg in node.args]
  if not numbers.exact(*values):
    # Each factor is divided out or multiplied in full.
    scope.budget.spend(len(values) * mpmath.mp.prec**2 // 2)
    for value in values:
      if isinstance(value, Fraction) and value:
        numbers.note(value, scope)
  return values


def _negate(node: Node, scope: Scope) -> Number:
  return -evaluate(node.args[0], scope)


def _power(node: Node, scope: Scope) -> Number:
  base = numbers.finite(evaluate(node.args[0], scope))
  # a^{\log_a b} is b by convention.
  exponent = numbers.finite(evaluate(node.args[1], scope._replace(real=False)))
  if not numbers.exact(base, exponent):
    for value in (base, exponent):
      if isinstance(value, Fraction) and value:
        numbers.note(value, scope)
    scope.budget.spend_on(numbers.SERIES)
  elif exponent.denominator > 1:
    scope.budget.spend_on(numbers.SERIES)
  if numbers.vanishes(base, scope.zero):
    base = Fraction(0)
  if scope.roots and has_even_root(exponent):
    numbers.demand_between(base, 0, math.inf, scope.zero)
  return power(base, exponent)


def power(base: Number, exponent: Number) -> Number:
  """Returns the principal base^exponent; 0^0 is undefined."""
  if base == 0:
    if not (mpmath.re(numbers.inexact(exponent)) > 0):
      raise Undefined('0 to no positive power')
    return Fraction(0)
  if numbers.exact(base, exponent) and exponent.denominator == 1:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) <= numbers.EXACT_BITS:
      return base**exponent.numerator
  if abs(base) == 1 and numbers.exact(base):
    if base == 1:
      return Fraction(1)
    if numbers.exact(exponent) and exponent.denominator == 1:
      return Fraction(-1 if exponent.numerator % 2 else 1)
  base, exponent = numbers.inexact(base), numbers.inexact(exponent)
  size = abs(exponent) * max(abs(mpmath.log(abs(base))), 1)
  if size > numbers.LARGEST_EXPONENT:
    raise TooLarge('a power of over a million bits')
  return mpmath.power(base, exponent)


def _root(node: Node, scope: Scope) -> Number:
  """The real root of a negative number, if the index is odd."""
  value, index = numbers.finite(evaluate(node.args[0], scope)), node.args[1]
  if value:
    numbers.note(value, scope)
  if not 1 <= index <= 10**6:
    raise Unreadable(f'a root of index {index}')
  scope.budget.spend_on(numbers.ROOT)
  if numbers.vanishes(value, scope.zero):
    return Fraction(0)
  if scope.roots and index % 2 == 0:
    numbers.demand_between(value, 0, math.inf, scope.zero)
  if isinstance(value, Fraction) and index == 2 and value > 0:
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above**2 == value.numerator and below**2 == value.denominator:
      return Fraction(above, below)
  value = numbers.inexact(value)
  if index % 2 and mpmath.im(value) == 0 and mpmath.re(value) < 0:
    return -mpmath.root(-mpmath.re(value), index)
  return mpmath.root(value, index)


def _factorial(node: Node, scope: Scope) -> Number:
  n, marks = numbers.finite(evaluate(node.args[0], scope)), node.args[1]
  whole = isinstance(n, Fraction) and n.denominator == 1
  if whole and n < 0:
    raise Undefined('the factorial of a negative number')
  if whole and n <= numbers.EXACT_FACTORIAL:
    n = int(n)
    return Fraction(math.prod(range(n, 0, -marks)) if n else 1)
  if whole or marks == 2:
    raise TooLarge('a large factorial')
  scope.budget.spend_on(numbers.GAMMA)
  return numbers.no_pole(functions.gamma(n + 1), scope.zero)


def _degree(node: Node, scope: Scope) -> Number:
  value = numbers.finite(evaluate(node.args[0], scope))
  if not scope.trigonometric:
    return value
  return numbers.inexact(value) * mpmath.pi / 180


def _apply(node: Node, scope: Scope) -> Number:
  """An unknown function's value: a number that only equal arguments share."""
  name, *arguments = node.args
  seed = zlib.crc32(name.encode()) % 10**6
  value = mpmath.mpf(seed + 2) / 101
  for i, argument in enumerate(arguments):
    scope.budget.spend_on(numbers.SERIES)
    x = numbers.argument(numbers.finite(evaluate(argument, scope)))
    value += mpmath.sin(x + seed + i) / (i + 2) + x * (i + 3) / 11
  return value


def _call(node: Node, scope: Scope) -> Number:
  name, *arguments = node.args
  inner = scope._replace(
    trigonometric=scope.trigonometric or name in vocabulary.TRIGONOMETRIC,
    real=scope.real and name != 'exp',
  )
  if any(
    argument.op in ('tuple', 'list', 'relation') for argument in arguments
  ):
    raise Unreadable(f'{name} of a list')
  values = [numbers.finite(evaluate(argument, inner)) for argument in arguments]
  for value in values:
    if value:
      numbers.note(value, scope)
  return functions.call(name, values, scope)


_OPERATIONS: dict[str, Callable[[Node, Scope], Number]] = {
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


def has_even_root(exponent: Number | None) -> bool:
  """Whether a power with this exponent is a square root or the like."""
  below = denominator(exponent)
  return below is not None and below % 2 == 0


def denominator(value: Number | None) -> int | None:
  """Returns the denominator of a rational, None for other values."""
  return value.denominator if isinstance(value, Fraction) else None
