"""Inequalities in one variable as the intervals that solve them."""

from acereason_jax.verifiers.answers import agreement, forms, intervals, tree
from acereason_jax.verifiers.answers.forms import Item
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Unreadable

MIRRORED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}


def solution(operators: tuple[str, ...], operands: tuple[Node, ...]) -> Item:
  """The interval of a linear inequality in one variable.

  Other inequalities stay unchanged, with one operator.
  """
  named = [n for n in operands if n.op == 'apply']
  if named:
    symbol = Node('symbol', (forms.name(named[0]),))
    operands = tuple(symbol if o == named[0] else o for o in operands)
  if not all(map(forms.is_expression, operands)):
    raise Unreadable('an inequality of no expressions')
  names = frozenset().union(*map(tree.symbols, operands))
  if len(names) == 1 and (item := _absolute(operators, operands)) is not None:
    return item
  if len(names) != 1:
    if len(operators) > 1 and names:
      raise Unreadable('a chain of inequalities in several variables')
    return Item('', '', Node('relation', (operators, *operands)))
  (name,) = names
  low, high = (forms.MINUS_INFINITY, '('), (forms.INFINITY, ')')
  for operator, left, right in zip(operators, operands, operands[1:]):
    bound, direction = _half_line(operator, left, right, name)
    if direction == '>':
      low = _tighter(low, (bound, '(' if len(operator) == 1 else '['))
    else:
      high = _tighter(high, (bound, ')' if len(operator) == 1 else ']'))
  return Item(name, '', Node('tuple', (low[1], high[1], low[0], high[0])))


def _absolute(
  operators: tuple[str, ...], operands: tuple[Node, ...]
) -> Item | None:
  """`|x - 2| < 3` and `1 < |x| < 3`: the inner expression on both sides."""
  absolute = [o for o in operands if o.args[:1] == ('abs',)]
  if len(absolute) != 1:
    return None
  pieces = []
  for sign in (1, -1):
    inner = absolute[0].args[1]
    side = inner if sign > 0 else Node('negate', (inner,))
    chain = tuple(side if o == absolute[0] else o for o in operands)
    # The case in which the inner expression has this sign.
    own = solution(('>=',), (side, tree.ZERO))
    found = solution(operators, chain)
    both = intervals.common(*map(intervals.pieces, (found.value, own.value)))
    pieces += intervals.pieces(both)
  return found._replace(value=Node('union', tuple(pieces)))


def _tighter(old: tuple[Node, str], new: tuple[Node, str]):
  if old[0] in (forms.INFINITY, forms.MINUS_INFINITY):
    return new
  raise Unreadable('two bounds on one side')


def _half_line(
  operator: str, left: Node, right: Node, name: str
) -> tuple[Node, str]:
  """(bound, '>' or '<') of `left operator right`, linear in `name`.

  A bound next to the bare variable is kept as written.
  """
  bare = Node('symbol', (name,))
  if left == bare and not tree.symbols(right):
    return right, operator[0]
  if right == bare and not tree.symbols(left):
    return left, MIRRORED[operator][0]
  slope, offset = agreement.linear(forms.difference(left, right), name)
  bound = Node('number', (-offset / slope, 0))
  return bound, (operator if slope > 0 else MIRRORED[operator])[0]


def excluded(left: Node, right: Node) -> Item:
  """`x \\ne 3` as the two half-lines next to 3."""
  names = tree.symbols(left) | tree.symbols(right)
  if len(names) != 1 or not (
    forms.is_expression(left) and forms.is_expression(right)
  ):
    raise Unreadable('an inequation')
  (name,) = names
  bound, _ = _half_line('<', left, right, name)
  below = Node('tuple', ('(', ')', forms.MINUS_INFINITY, bound))
  above = Node('tuple', ('(', ')', bound, forms.INFINITY))
  return Item(name, '', Node('union', (below, above)))
