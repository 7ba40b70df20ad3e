"""Values of the functions that answers name: sin, log, gcd, floor."""

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath

from acereason_jax.verifiers.answers import numbers, vocabulary
from acereason_jax.verifiers.answers.numbers import (
  Number,
  Scope,
  Undefined,
)
from acereason_jax.verifiers.answers.vocabulary import TooLarge, Unreadable


def call(name: str, values: list[Number], scope: Scope) -> Number:
  """Returns the value of a named function.

  Raises:
    Unreadable: no such function takes this number of arguments.
    TooLarge, Undefined, NotReal: as in `evaluation.evaluate`.
  """
  scope.budget.spend_on(numbers.GAMMA if name == 'Gamma' else numbers.SERIES)
  if name in ('exp', 'sinh', 'cosh', 'tanh') and len(values) == 1:
    # tanh(1000) is 1 except for e^-2000.
    steep = 3 * int(abs(mpmath.re(numbers.inexact(values[0]))))
    scope.budget.size = max(scope.budget.size, steep)
  if name in _ROUNDED and len(values) == 1:
    return _round(_ROUNDED[name], values[0], scope.zero)
  if name in ('ln', 'log', 'lg') and any(
    numbers.vanishes(v, scope.zero) for v in values
  ):
    raise Undefined('the logarithm of 0')
  if scope.real and name in _REAL_DOMAINS:
    low, high = _REAL_DOMAINS[name]
    for value in values:
      numbers.demand_between(value, low, high, scope.zero)
  if name in _WHOLE:
    return _whole_numbers(name, values)
  expected = 2 if name == 'log' and len(values) == 2 else 1
  if name not in _FUNCTIONS or len(values) != expected:
    raise Unreadable(f'{name} of {len(values)} arguments')
  value = _FUNCTIONS[name](*(_on_edge(name, v, scope) for v in values))
  if name in _WITH_ZEROS:
    value = numbers.cancelled(value, (*values, Fraction(1)), scope)
  if name in _WITH_POLES:
    # A large value of the gamma function need not be near a pole.
    zero = scope.zero if name == 'Gamma' else scope.zero or scope.noise
    return numbers.no_pole(value, zero)
  return value


def _on_edge(name: str, value: Number, scope: Scope) -> Number:
  """Returns 1 or -1 for values that equal it up to rounding.

  Slopes are infinite there: after rounding, arccos(1) has half as many digits.
  """
  if name not in _WITH_EDGES or isinstance(value, Fraction):
    return value
  for edge in (Fraction(1), Fraction(-1)):
    if not numbers.cancelled(value - numbers.inexact(edge), (edge,), scope):
      return edge
  return value


def _whole_numbers(name: str, values: list[Number]) -> Number:
  """gcd, lcm, mod and binom of whole numbers; max and min of any reals."""
  if name in ('max', 'min') and values:
    for value in values:
      numbers.demand_real(value)
    key = lambda value: mpmath.re(numbers.inexact(value))
    return (max if name == 'max' else min)(values, key=key)
  if len(values) < 2:
    raise Unreadable(f'{name} of one number')
  if not numbers.exact(*values) or any(v.denominator != 1 for v in values):
    raise Undefined(f'{name} of no whole numbers')
  whole = [int(v) for v in values]
  if name == 'gcd':
    return Fraction(math.gcd(*whole))
  if name == 'lcm':
    return Fraction(math.lcm(*whole))
  if len(whole) != 2:
    raise Unreadable(f'{name} of {len(whole)} whole')
  if name == 'mod':
    if whole[1] == 0:
      raise Undefined('a remainder by zero')
    return Fraction(whole[0] % whole[1])
  return _binomial(*whole)


def _binomial(n: int, k: int) -> Number:
  if n < 0 or k < 0:
    raise Undefined('a binomial of negative numbers')
  k = min(k, n - k)
  if k < 0:
    return Fraction(0)
  if (
    k * max(n.bit_length(), 1) <= numbers.EXACT_BITS
    and k <= numbers.EXACT_FACTORIAL
  ):
    return Fraction(math.comb(n, k))
  raise TooLarge('a large binomial')


def gamma(value: Number) -> Number:
  """Returns (value - 1)!, for whole numbers and others."""
  # Its time grows with the cube of the number of digits.
  if mpmath.mp.prec > 4 * numbers.BITS:
    raise TooLarge('a gamma function of many digits')
  return mpmath.gamma(numbers.argument(value))


def _function(f: Callable) -> Callable[[Number], Number]:
  return lambda value: f(numbers.argument(value))


def _exp(value: Number) -> Number:
  if abs(mpmath.re(numbers.inexact(value))) > numbers.LARGEST_EXPONENT:
    raise TooLarge('a power of over a million bits')
  return mpmath.exp(numbers.inexact(value))


def _log(value: Number, base: Number | None = None) -> Number:
  """The natural logarithm, or one to a base."""
  if base is None:
    return mpmath.log(numbers.inexact(value))
  below = _log(base)
  if below == 0:
    raise Undefined('a logarithm to base 1')
  return _log(value) / below


def _round(rounding: Callable, value: Number, zero: mpmath.mpf) -> Fraction:
  """floor or ceil; a number that is whole up to rounding counts as whole."""
  if isinstance(value, Fraction):
    return Fraction(rounding(value))
  numbers.demand_real(value)
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
  'Gamma': gamma,
  'sinh': _function(mpmath.sinh),
  'cosh': _function(mpmath.cosh),
  'tanh': _function(mpmath.tanh),
  'Re': lambda value: mpmath.re(numbers.inexact(value)),
  'Im': lambda value: mpmath.im(numbers.inexact(value)),
  'exp': _exp,
  'ln': _log,
  # The default base is ten, as in school books and math-verify.
  'log': lambda value, base=Fraction(10): _log(value, base),
  'lg': lambda value: _log(value, Fraction(10)),
  'abs': abs,
}
_WITH_ZEROS = vocabulary.words('sin cos tan cot ln log lg Re Im')
_WITH_POLES = vocabulary.words('tan cot sec csc Gamma')
_WITH_EDGES = vocabulary.words('arcsin arccos arcsec arccsc')
_ROUNDED = {'floor': math.floor, 'ceil': math.ceil}
_REAL_DOMAINS = {
  **dict.fromkeys(('ln', 'log', 'lg'), (0, math.inf)),
  **dict.fromkeys(('arcsin', 'arccos'), (-1, 1)),
}
