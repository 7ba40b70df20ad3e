"""Answers as trees of operations."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple


class Node(NamedTuple):
  """An operation and its arguments.

  op: operation, one of the names below.
  args: nodes, or the data of a leaf.

  number: (Fraction, decimal places as written)
  symbol, constant: (name)
  text: (words)
  quantity: (value, unit)
  based: (digits, base)
  tuple: (open, close, *items)
  list, both, either, set, union: (*items)
  setminus: (set, removed)
  matrix: (*rows), tuples of nodes
  relation: (operators, *operands)
  ratio: (*parts)
  congruence: (value, modulus, name)
  apply: (name, *arguments), of an unknown function
  call: (function, *arguments)
  pm: (left, right, sign), 1 for \\pm and -1 for \\mp
  add, multiply: (*operands)
  divide, power: (left, right)
  negate, degree: (operand)
  root: (operand, index)
  factorial: (operand, signs)
  """

  op: str
  args: tuple[Any, ...]


ZERO = Node('number', (Fraction(0), 0))
ONE = Node('number', (Fraction(1), 0))
MINUS_ONE = Node('negate', (ONE,))
LISTS = ('list', 'both', 'either')


def joined(op: str, parts: list[Node]) -> Node:
  """One node for a sum or product of any length, so trees stay shallow."""
  return parts[0] if len(parts) == 1 else Node(op, tuple(parts))


def show(node: Node) -> str:
  """Returns the tree in one line, as `add(power(x, 2), 1)`."""
  parts = [show(a) if isinstance(a, Node) else _leaf(a) for a in node.args]
  if node.op in ('number', 'symbol', 'constant', 'text'):
    return parts[0]
  return f'{node.op}({", ".join(parts)})'


def _leaf(value: Any) -> str:
  if isinstance(value, tuple):
    parts = [show(v) if isinstance(v, Node) else str(v) for v in value]
    return f'[{", ".join(parts)}]'
  return str(value)


def fold(words: str) -> str:
  """Returns words without regard to case, spacing and final stop."""
  words = ' '.join(words.split()).strip('.,;:! ')
  # Labels such as HT and ABCD are unchanged.
  return words if words.isupper() and len(words) < 6 else words.casefold()


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
