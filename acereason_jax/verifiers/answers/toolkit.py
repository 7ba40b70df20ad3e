r"""Compares two cleaned texts as mathematics, as the released toolkit does.

Its rules are laxer than `equality`: numbers to 1e-4, = and < alike, and no
words. `lenient` has the others.
"""

import math
import re
from fractions import Fraction
from typing import Any

import mpmath

from acereason_jax.verifiers.answers import (
  agreement,
  latex,
  spelling,
  values,
  vocabulary,
)
from acereason_jax.verifiers.answers.tree import Node

# Longer texts are not parsed or evaluated: both recurse as deep as a sum is
# long.
MAX_CHARS = 400
MAX_CELLS = 100
_TOLERANCE = 1e-4
# Texts that the toolkit's parsers cannot read, though others can.
_UNREAD = re.compile(
  r'\\(?:boxed|cfrac|displaystyle|text|math|mbox|operatorname|overline)'
  r'|\\(?:bmod|pmod|gcd|max|min|emptyset|varnothing|in|cup|cap|pm|mp)(?![a-z])'
  r'|\\sqrt[^\[{]|(?<!\\)%|(?<!\d)\\%|\*\*|\\\Z|[^\x00-\x7f]'
)
_COMMAND_OR_LETTER = re.compile(
  r'(?P<kept>\\(?:begin|end)\{[a-z]*\}|\\[^a-z])|\\(?P<name>[a-z]+)|[a-z]'
)
_STRUCTURE = re.compile(
  '[dt]?frac|sqrt|binom|left|right|cdot|times|div|leq?|geq?|lt|gt|infty'
  '|[lr]?vert|[lr](?:floor|ceil)|pi'
)
# Cleaning joined the base and the argument.
_BASE = re.compile(r'\\log_(\d)')
_MIXED = re.compile(r'(?<![_\d])(\d+)(?=\\frac)')
_HUNDRED = Node('number', (Fraction(100), 0))
_RELATION_SIGNS = (('=',), ('<',), ('>',), ('<=',), ('>=',))


def equal(given: str, wanted: str) -> bool:
  """Whether both can be read as mathematics and are the same."""
  if max(len(given), len(wanted)) > MAX_CHARS:
    return False
  try:
    return _same(_read(given), _read(wanted))
  except (
    vocabulary.Ambiguous,
    vocabulary.Unreadable,
    vocabulary.TooLarge,
    vocabulary.Refused,
  ):
    return False


def near(a: float, b: float) -> bool:
  """Whether two numbers are within a ten-thousandth of the larger."""
  return math.isclose(a, b, rel_tol=_TOLERANCE)


def _read(text: str) -> Node:
  r"""Returns the tree of a cleaned text, as the toolkit understands it.

  Letters are variables, never words, and so are unknown commands, such as the
  `\pir` that is left of `\pi r`; 1\frac{1}{2} is a product.

  Raises:
    Unreadable: the toolkit or our parser cannot read it.
  """
  if 'matrix' not in text:
    text = text.replace(r'\\', '\\')
  if _UNREAD.search(text):
    raise vocabulary.Unreadable('not in the grammar')
  text = spelling.normalise(_BASE.sub(r'\\log_{\1}', text.replace('$', '')))
  text = _COMMAND_OR_LETTER.sub(_spelled, _MIXED.sub(r'\1*', text))
  return _reinterpreted(latex.parse(text))


def _spelled(match: re.Match) -> str:
  """Returns a letter or a command, spaced so that no neighbour can join it."""
  name = match['name']
  if name is None:
    return match[0] + ' ' * (match['kept'] is None)
  known = name in vocabulary.FUNCTIONS or _STRUCTURE.fullmatch(name)
  return f'{match[0]} ' if known else f'u_{{{name}}} '


def _reinterpreted(item: Any) -> Any:
  """A tree without constants, percents, bases, ratios and sets of one."""
  if not isinstance(item, tuple):
    return item
  if not isinstance(item, Node):
    return tuple(_reinterpreted(part) for part in item)
  args = tuple(_reinterpreted(arg) for arg in item.args)
  match item.op, args:
    case 'constant', (name,) if name != 'infinity':
      return Node('symbol', (f'constant {name}',))
    case 'quantity', (value, 'percent'):
      return Node('divide', (value, _HUNDRED))
    case 'based', (digits, _):
      return Node('number', (Fraction(digits), 0))
    case 'set', (element,):
      return element
    case 'ratio', (above, below):
      return Node('divide', (above, below))
    case 'call', ('log', argument):
      return Node('call', ('ln', argument))
  return Node(item.op, args)


def _same(a: Node, b: Node) -> bool:
  """Whether two trees are equal.

  Raises:
    Unreadable: one of them means nothing here.
    TooLarge: one would take too long.
  """
  if a == b:
    return True
  if a.op == b.op == 'relation':
    return _same_relation(a, b)
  if a.op == b.op == 'matrix':
    return _same_matrix(a, b)
  return _same_expression(a, b)


def _same_relation(a: Node, b: Node) -> bool:
  """Whether left - right is the same except for its sign; = and < are alike."""
  if not {a.args[0], b.args[0]} <= set(_RELATION_SIGNS):
    return False
  _, left, right = b.args
  difference = _difference(*a.args[1:])
  return _same_expression(difference, _difference(left, right)) or (
    _same_expression(difference, _difference(right, left))
  )


def _difference(left: Node, right: Node) -> Node:
  return Node('add', (left, Node('negate', (right,))))


def _same_matrix(a: Node, b: Node) -> bool:
  """Whether the cells are equal, or equal to three decimals."""
  if [len(row) for row in a.args] != [len(row) for row in b.args]:
    return False
  pairs = [pair for rows in zip(a.args, b.args) for pair in zip(*rows)]
  return len(pairs) <= MAX_CELLS and all(
    _same_expression(x, y) or _same_thousandths(x, y) for x, y in pairs
  )


def _same_thousandths(a: Node, b: Node) -> bool:
  x, y = _double(a), _double(b)
  return x is not None and y is not None and round(x, 3) == round(y, 3)


def _same_expression(a: Node, b: Node) -> bool:
  """Whether two values are near, or two expressions the same function."""
  x, y = _double(a), _double(b)
  if x is not None and y is not None:
    return near(x, y)
  return agreement.equal(a, b)


def _double(node: Node) -> float | None:
  """Returns the value of a constant expression, if a float can hold it.

  Raises:
    TooLarge: it would take too long.
  """
  value = values.constant(node)
  if not isinstance(value, Fraction | mpmath.mpf):
    return None
  try:
    number = float(value)
  except OverflowError:
    return None
  return number if math.isfinite(number) else None
