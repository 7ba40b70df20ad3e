r"""Whether expressions are equal: they agree at every sample point.

Rational values are compared exactly, others to as many digits as their largest
and smallest parts require.
"""

import hashlib
from collections.abc import Mapping
from fractions import Fraction

import mpmath

from acereason_jax.verifiers.answers import evaluation, numbers, tree, values
from acereason_jax.verifiers.answers.numbers import (
  NotReal,
  Number,
  Scope,
  Undefined,
)
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Refused,
  TooLarge,
  Unreadable,
)

# A decimal with this many right digits is no accident.
_LONG_DECIMAL = 12
# Points where all variables are positive, so roots and logarithms are real.
_POSITIVE = ((3, 7), (2, 5), (2311, 53))
# At other points each variable has a size and a sign of its own.
_SIZES = (Fraction(1, 89), Fraction(7, 5), Fraction(37, 3), Fraction(1013, 2))
_MIXED = 10
_INTEGERS = (*range(1, 13), 30, 97, 150, 1009)


def _points(
  names: frozenset[str], whole: bool, only_whole: bool
) -> list[dict[str, Fraction]]:
  """Returns the points where expressions of these variables are compared.

  It includes whole numbers if floors are taken, and only whole numbers if
  (-1)^n shows that n is one.
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
  """A number that depends on the name and on the index of the point."""
  data = hashlib.blake2b(f'{name} {k}'.encode(), digest_size=8).digest()
  draw = int.from_bytes(data)
  size = _SIZES[draw % len(_SIZES)]
  offset = Fraction(draw // 64 % 1000, 1000 + draw // 64000 % 97)
  return (size + offset * min(size, 1)) * (-1 if draw // 4 % 2 else 1)


def equal(a: Node, b: Node) -> bool:
  """Whether two expressions are equal.

  Raises:
    Unreadable: one is not an expression.
    Refused: one has no value at any point.
    TooLarge: one would take too long.
  """
  outcome = _rounded_equal(a, b)
  return _same_function(a, b) if outcome is None else outcome


_IMAGINARY = Node('constant', ('i',))


def _same_function(a: Node, b: Node) -> bool:
  if tree.symbols(a) - tree.symbols(b) and tree.symbols(b) - tree.symbols(a):
    return False  # They have different variables.
  budget = numbers.budget()
  every = [*tree.nodes(a), *tree.nodes(b)]
  # Without i these are functions of real numbers only.
  real = bool(tree.symbols(a) | tree.symbols(b)) and _IMAGINARY not in every
  # \sqrt{a/b} is \sqrt{a}/\sqrt{b}, as people write; \sqrt{x}^2 is not x.
  roots = real and _has_roots(a) != _has_roots(b)
  only_whole = any(map(_counts, every))
  whole = any(n.op == 'call' and n.args[0] in _STEPS for n in every)
  # If no point is in their domain, complex values decide.
  for is_real in (True, False) if real else (False,):
    seen = False
    for point in _points(tree.symbols(a) | tree.symbols(b), whole, only_whole):
      outcome = _agree(a, b, point, budget, is_real, is_real and roots)
      if outcome is False:
        return False
      seen |= outcome is True
    if seen:
      return True
  raise Refused('no value')


_STEPS = ('floor', 'ceil', 'mod', 'gcd', 'lcm')


def _counts(node: Node) -> bool:
  """Whether it is like (-1)^n, n! or a binomial, so that n must be whole."""
  if node.op == 'factorial' or node.args[:1] == ('binom',):
    return bool(tree.symbols(node))
  if node.op != 'power' or not tree.symbols(node.args[1]):
    return False
  base = node.args[0]
  return base.op == 'negate' and not tree.symbols(base)


def _agree(
  a: Node,
  b: Node,
  point: Mapping[str, Fraction],
  budget: numbers.Budget,
  real: bool,
  roots: bool,
) -> bool | None:
  """Whether both agree at a point; None if the point decides nothing.

  If only one has a real value they differ: \\ln(x^2) and 2 \\ln x at -1. If
  several variables are negative that decides nothing, so \\ln(ab) is \\ln a +
  \\ln b. If both are complex, equal forms may be on different branches.
  """
  several = sum(value < 0 for value in point.values()) > 1
  roots = real and (roots or several)
  try:
    with values.at([a, b], point, budget, real, roots) as (found, zero):
      if real and not all(map(numbers.is_real, found)):
        unknown = several or not any(map(numbers.is_real, found))
        return None if unknown or _has_odd_roots(a, b) else False
      if numbers.exact(*found):
        return found[0] == found[1]
      first, second = map(numbers.inexact, found)
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
    # e^{-x^2} at 500 costs more than it tells.
    if not point or budget.left < 0:
      raise
    return None


def _has_real_value(
  node: Node, point: Mapping[str, Fraction], budget: numbers.Budget, roots: bool
) -> bool | None:
  """Whether an expression is real at a point; None at a pole."""
  try:
    with values.at([node], point, budget, True, roots) as ((value,), _):
      return numbers.is_real(value)
  except NotReal:
    return False
  except Undefined:
    return None


def _has_roots(node: Node) -> bool:
  """Whether there are roots that negative numbers lack."""
  return any(
    (n.op == 'root' and n.args[1] % 2 == 0)
    or (
      n.op == 'power' and evaluation.has_even_root(values.constant(n.args[1]))
    )
    for n in tree.nodes(node)
  )


def _has_odd_roots(*expressions: Node) -> bool:
  """Whether there are powers like x^{1/3}: some take the real root of -8."""
  powers = [n for e in expressions for n in tree.nodes(e) if n.op == 'power']
  below = [
    evaluation.denominator(values.constant(n.args[1])) or 1 for n in powers
  ]
  return any(b > 1 and b % 2 for b in below)


def _rounded_equal(a: Node, b: Node) -> bool | None:
  """Whether one is a long decimal of the other; None if neither is one."""
  for decimal, exact in ((a, b), (b, a)):
    negative = decimal.op == 'negate'
    number = decimal.args[0] if negative else decimal
    if number.op != 'number':
      continue
    written, places = number.args
    if not places or written * 10**places < 10 ** (_LONG_DECIMAL - 1):
      continue
    value = values.constant(exact)
    if value is None or _terminates(value):
      continue
    with mpmath.workprec(numbers.BITS):
      if not numbers.is_real(value):
        return False
      value = mpmath.re(numbers.inexact(value)) * (-1 if negative else 1)
      excess = (value - numbers.inexact(written)) * 10**places
      # The decimal may be cut off there, or rounded.
      return bool(0 <= excess < 1 or abs(excess) <= 0.5)
  return None


def _terminates(value: Number) -> bool:
  """Whether it is a decimal fraction, which needs no rounding."""
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
    Unreadable, TooLarge, Refused: as in `equal`.
  """
  for point in _points(tree.symbols(a) | tree.symbols(b), False, False):
    try:
      with values.at([a, b], point, numbers.budget()) as (found, zero):
        if not all(
          numbers.is_real(v) and not numbers.vanishes(v, zero) for v in found
        ):
          continue
        if not numbers.exact(*found):
          found = [mpmath.re(numbers.inexact(v)) for v in found]
        c = found[0] / found[1]
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
  scope, at = Scope({}, numbers.budget()), {}
  for x in (0, 1, 2, Fraction(-7, 3)):
    try:
      at[x] = evaluation.evaluate(
        node, scope._replace(point={name: Fraction(x)})
      )
    except Undefined as e:
      raise Unreadable('a value that is undefined') from e
  if not numbers.exact(*at.values()):
    raise Unreadable('irrational coefficients')
  offset, slope = at[0], at[1] - at[0]
  if slope == 0 or any(v != slope * x + offset for x, v in at.items()):
    raise Unreadable('not linear')
  return slope, offset
