"""The forms of answers: names, expressions, and words for values."""

from typing import NamedTuple

from acereason_jax.verifiers.answers import tree, vocabulary
from acereason_jax.verifiers.answers.tree import Node

INFINITY = Node('constant', ('infinity',))
MINUS_INFINITY = Node('negate', (INFINITY,))
REALS = Node('tuple', ('(', ')', MINUS_INFINITY, INFINITY))
WORDS = {
  'no solution': Node('set', ()),
  'no solutions': Node('set', ()),
  'empty set': Node('set', ()),
  'none': Node('set', ()),
  'no real solution': Node('set', ()),
  'no real solutions': Node('set', ()),
  'all real numbers': REALS,
  'all reals': REALS,
  'infinity': INFINITY,
}
STRUCTURES = vocabulary.words(
  'tuple list both either set union setminus matrix relation ratio congruence '
  'text based'
)
_NAMES = frozenset(['symbol', 'text'])


class Item(NamedTuple):
  """The content of a statement.

  name: name of the value, '' without one.
  unit: unit of the value, '' without one.
  value: value in that unit.
  share: the value as a plain number, if the unit is percent and both are
    written: 4/5 = 80%.
  """

  name: str
  unit: str
  value: Node
  share: Node | None = None


def difference(left: Node, right: Node) -> Node:
  """Returns left - right."""
  return Node('add', (left, Node('negate', (right,))))


def name(node: Node) -> str:
  """Returns the name that an answer may give its value, else ''.

  `x`, `f(x)`, `AB`, `|AB|`, `\\cos A`, `A:B`, `\\frac{NO}{BO}`, `(p, q)`: no
  numbers, and no sums, which would be equations.
  """
  if node.op in _NAMES:
    return node.args[0]
  if node.op == 'apply':
    return repr(node)
  if node.op == 'call' and node.args[0] in {'abs', *vocabulary.TRIGONOMETRIC}:
    return repr(node) if name(node.args[1]) else ''
  if node.op in ('multiply', 'divide', 'ratio', 'tuple'):
    parts = [arg for arg in node.args if isinstance(arg, Node)]
    return repr(node) if parts and all(map(name, parts)) else ''
  return ''


def is_expression(node: Node) -> bool:
  """Whether the node has one value, without a unit or plus-minus."""
  if node.op in STRUCTURES or node.op == 'quantity':
    return False
  return not any(n.op == 'pm' for n in tree.nodes(node))
