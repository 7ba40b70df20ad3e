r"""Values of expressions, exact or at the precision that they need."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import mpmath

from acereason_jax.verifiers.answers import evaluation, latex, numbers, tree
from acereason_jax.verifiers.answers.numbers import Number, Undefined
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Ambiguous,
  TooLarge,
  Unreadable,
)

# A first evaluation, of FIRST_BITS, finds the largest size 2^k or 2^-k of any
# part. The second has three times k bits more than BITS. There a difference
# below 2^-(2k + _MARGIN) is rounding: 10^{100} \sin\pi is 0, and \sqrt{10^{400}
# + 1} is not 10^{200}. If parts of a larger size appear, they set k for the
# next evaluation.
_MARGIN = 200
# The number of bits by which a part may exceed the size found before.
_SLACK = 50
# A value below this share of the parts that cancelled may be rounding in the
# first evaluation. It counts as 0 there: (\sin\pi)^{100} would have a size of
# 20000 bits.
_NOISE = mpmath.ldexp(1, -150)
_LARGEST_SIZE = 1 << 14


def show(value: Number) -> str:
  """Returns a number for reading, in 30 digits or as a power of two."""
  value = numbers.inexact(value)
  size = int(mpmath.mag(value)) if value and mpmath.isfinite(value) else 0
  return mpmath.nstr(value, 30) if abs(size) < 10_000 else f'about 2^{size}'


def constant(node: Node) -> Number | None:
  """Returns the value of an expression without variables, else None.

  Raises:
    TooLarge: it would take too long.
  """
  if tree.symbols(node):
    return None
  try:
    with at([node], {}, numbers.budget()) as ((value,), _):
      return value
  except (Undefined, Unreadable):
    return None


@contextlib.contextmanager
def at(
  expressions: Sequence[Node],
  point: Mapping[str, Fraction],
  budget: numbers.Budget,
  real: bool = False,
  roots: bool = False,
) -> Iterator[tuple[list[Number], mpmath.mpf]]:
  """Yields their values at a point, and the bound below which a value is 0.

  Raises:
    Unreadable, TooLarge, Undefined, NotReal: as in `evaluate`.
  """
  budget.inexact = False
  size, bits = -math.inf, numbers.FIRST_BITS
  scope = numbers.Scope(point, budget, noise=_NOISE, real=real, roots=roots)
  while True:
    with mpmath.workprec(bits):
      values = _evaluated(expressions, scope, size)
      if values is not None:
        yield values, scope.zero
        return
    size = budget.size
    if size > _LARGEST_SIZE:
      raise TooLarge(f'parts of {size} bits')
    budget.spend(len(expressions) * size * size)
    bits = 3 * size + numbers.BITS
    zero = mpmath.ldexp(1, -2 * size - _MARGIN)
    scope = scope._replace(zero=zero, noise=mpmath.mpf(0))


def _evaluated(
  expressions: Sequence[Node], scope: numbers.Scope, size: float
) -> list[Number] | None:
  """Returns their values, or None if the precision was for smaller parts.

  The size of the largest part is then in `scope.budget`.
  """
  budget = scope.budget
  budget.size = 0
  try:
    values = [evaluation.evaluate(node, scope) for node in expressions]
  except Undefined:
    # 1/0, but the 0 may be a small number that was rounded.
    if not budget.inexact or budget.size <= size + _SLACK:
      raise
    return None
  # A rational may be the floor of an irrational value.
  if not budget.inexact:
    return values
  for value in values:
    if isinstance(value, Fraction) and 0 < abs(value) < 1:
      numbers.note(value, scope)
  return values if budget.size <= size + _SLACK else None


def rounded(value: Number) -> Fraction | None:
  """Returns a real number to 60 digits, or None; equal numbers are equal.

  Raises:
    TooLarge: it is huge.
  """
  if isinstance(value, Fraction):
    return value
  if not mpmath.isfinite(value) or not numbers.is_real(value):
    return None
  value = mpmath.re(value)
  if value and abs(int(mpmath.mag(value))) > _LARGEST_SIZE:
    raise TooLarge('the end of an interval')
  with mpmath.workprec(numbers.FIRST_BITS):
    mantissa, exponent = mpmath.frexp(+value)
    digits = int(mpmath.nint(mpmath.ldexp(mantissa, numbers.FIRST_BITS)))
  return Fraction(digits) * Fraction(2) ** (int(exponent) - numbers.FIRST_BITS)


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
