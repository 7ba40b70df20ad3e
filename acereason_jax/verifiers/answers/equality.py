r"""Decides whether two parsed answers are the same.

Structure is compared first, then values. Order counts in tuples and intervals,
but not in lists and sets. Equations are compared up to a factor, and
inequalities by their solutions. Units must not contradict each other. A name
with its value (`x = 5`) is that value.
"""

from collections.abc import Iterable
from fractions import Fraction

from acereason_jax.verifiers.answers import (
  agreement,
  forms,
  inequalities,
  intervals,
  numbers,
  tree,
  units,
  values,
)
from acereason_jax.verifiers.answers.forms import Item
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Refused,
  TooLarge,
  Unreadable,
)

_HUNDRED = Node('number', (Fraction(100), 0))
_PI = Node('constant', ('pi',))
_DEGREE = Node('divide', (_PI, Node('number', (Fraction(180), 0))))
_ORDER = frozenset(['<', '>', '<=', '>='])
# `x \approx 11` is an answer, but 42 is not about 43.
_NEAR = Fraction(1, 100)
_MATCHED = 40
_SETS = 3


def same(given: Node, wanted: Node) -> bool:
  """Whether two answers are the same.

  Raises:
    Unreadable: one of them has no meaning here.
    Refused: one contradicts itself.
    TooLarge: one would take too long.
  """
  with numbers.one_budget():
    equations = _equation(given), _equation(wanted)
    if None not in equations and not _both_name_values(given, wanted):
      return _proportional(*equations, signed=False)
    return _same_item(_item(given), _item(wanted))


def _equation(node: Node) -> Node | None:
  """Returns left - right of a single equation between expressions."""
  if node.op != 'relation' or node.args[0] != ('=',):
    return None
  left, right = node.args[1:]
  if not (forms.is_expression(left) and forms.is_expression(right)):
    return None
  difference = forms.difference(left, right)
  return difference if tree.symbols(difference) else None


def _both_name_values(a: Node, b: Node) -> bool:
  """Whether both are like `f(x) = ...` with one name, so values suffice."""
  return bool(
    forms.name(a.args[1]) and forms.name(a.args[1]) == forms.name(b.args[1])
  )


def _proportional(a: Node, b: Node, signed: bool) -> bool:
  """Whether a = c b with a constant c, which must be positive if `signed`."""
  factor = agreement.ratio(a, b)
  return factor is not None and (not signed or factor > 0)


def _item(node: Node) -> Item:
  """Returns the content of a statement.

  Raises:
    Unreadable, Refused: see `same`.
  """
  if node.op == 'quantity':
    inner = _item(node.args[0])
    return inner._replace(unit=units.combined(inner.unit, node.args[1]))
  if node.op == 'degree':
    return Item('', 'degree', node.args[0])
  if node.op == 'relation':
    return _relation(node.args[0], node.args[1:])
  return Item('', '', _value(node))


def _value(node: Node) -> Node:
  """Returns a value in its form for comparison."""
  if node == Node('symbol', ('blackboardR',)):
    return forms.REALS
  if node.op in ('multiply', 'negate') and _has_matrix(node):
    return _scaled(node)
  if node.op in ('list', 'both', 'either'):
    return _inequalities(node)
  if node.op == 'setminus':
    return _without(*map(_value, node.args))
  return node


def _has_matrix(node: Node) -> bool:
  return any(arg.op == 'matrix' for arg in node.args)


def _scaled(node: Node) -> Node:
  """Multiplies a matrix by numbers, or negates it, element by element."""
  factors = [arg for arg in node.args if arg.op != 'matrix']
  if len(factors) != len(node.args) - 1:
    raise Unreadable('a product of matrices')
  (matrix,) = (arg for arg in node.args if arg.op == 'matrix')
  return Node(
    'matrix',
    tuple(
      tuple(node._replace(args=(*factors, cell)) for cell in row)
      for row in matrix.args
    ),
  )


def _inequalities(node: Node) -> Node:
  """`x < 1 or x > 3` as a union, `x > 1, x < 3` as an intersection.

  Other lists are returned unchanged.
  """
  if not all(i.op == 'relation' and _ORDER & {*i.args[0]} for i in node.args):
    return Node('list', node.args)
  items = [_item(item) for item in node.args]
  if len({item.name for item in items}) != 1 or not items[0].name:
    return Node('list', node.args)
  if node.op == 'either':
    return Node('union', tuple(item.value for item in items))
  value = items[0].value
  for item in items[1:]:
    value = intervals.common(*map(intervals.pieces, (value, item.value)))
  return value


def _without(whole: Node, removed: Node) -> Node:
  """`\\mathbb{R} \\setminus \\{0\\}` as a union."""
  if removed.op != 'set':
    raise Unreadable('a set without more than points')
  value = whole
  for point in removed.args:
    below = Node('tuple', ('(', ')', forms.MINUS_INFINITY, point))
    above = Node('tuple', ('(', ')', point, forms.INFINITY))
    value = intervals.common(_pieces(value), [below, above])
  return value


def _relation(operators: tuple[str, ...], operands: tuple[Node, ...]) -> Item:
  if operators == ('in',):
    return Item(_demand_name(operands[0]), '', _value(operands[1]))
  if _ORDER.issuperset(operators):
    return inequalities.solution(operators, operands)
  if operators == ('!=',):
    return inequalities.excluded(*operands)
  if {'=', '~'}.issuperset(operators):
    return _chain(operators, operands)
  raise Unreadable('a mixed chain of relations')


def _demand_name(node: Node) -> str:
  if not (name := forms.name(node)):
    raise Unreadable('a membership of no name')
  return name


def _chain(operators: tuple[str, ...], operands: tuple[Node, ...]) -> Item:
  """`x = 2 + 3 = 5 \\approx 5.0`: the name, and the last exact value."""
  name = forms.name(operands[0])
  if not name and len(operands) == 2 and forms.name(operands[1]):
    operands, name = operands[::-1], forms.name(operands[1])
  if name:
    operators, operands = operators[1:], operands[1:]
    while len(operands) > 1 and forms.name(operands[0]):
      # x = y = 5 has two names.
      name = f'{name} = {forms.name(operands[0])}'
      operators, operands = operators[1:], operands[1:]
  elif any(forms.is_expression(o) and tree.symbols(o) for o in operands):
    if len(operands) > 2 or operators != ('=',):
      raise Unreadable('a chain of expressions')
    return Item('', '', Node('relation', (operators, *operands)))
  exact = list(operands[: _first(operators, '~') + 1])
  items = [_item(operand) for operand in operands]
  shares = len({item.unit == 'percent' for item in items}) > 1
  compared = [_share(item) for item in items] if shares else items
  for item in compared[1 : len(exact)]:
    if not _same_item(compared[0], item):
      raise Refused('a contradictory chain')
  for item in compared[len(exact) :]:
    if not _near(compared[0].value, item.value):
      raise Refused('a contradictory chain')
  if shares:
    return _with_share(name, items[: len(exact)])
  chosen = items[len(exact) - 1]
  named = [item.unit for item in items if item.unit]
  return Item(name, named[-1] if named else '', chosen.value)


def _share(item: Item) -> Item:
  """80% as 80/100."""
  if item.unit != 'percent':
    return item
  return Item('', '', Node('divide', (item.value, _HUNDRED)))


def _with_share(name: str, items: list[Item]) -> Item:
  """The exact members of a chain in which some may be percents."""
  percents = [item.value for item in items if item.unit == 'percent']
  others = [item for item in items if item.unit != 'percent']
  if percents and others:
    return Item(name, 'percent', percents[-1], others[-1].value)
  return items[-1]._replace(name=name)


def _first(operators: tuple[str, ...], operator: str) -> int:
  return (*operators, operator).index(operator)


def _near(exact: Node, rough: Node) -> bool:
  """Whether a rounded value belongs to an exact one; True if unknown."""
  a, b = intervals.place(exact), intervals.place(rough)
  return a is None or b is None or abs(a - b) <= _NEAR * abs(a)


def _same_item(a: Item, b: Item, inner: bool = False) -> bool:
  if a.share is not None and not b.unit:
    plain = a._replace(unit='', value=a.share, share=None)
    return _same_item(a._replace(share=None), b) or _same_item(plain, b)
  if b.share is not None and not a.unit:
    return _same_item(b, a)
  if not units.agree(a.unit, b.unit):
    return False
  if a.name and b.name and a.name != b.name:
    return False
  if _same_value(_value(a.value), _value(b.value), inner):
    return True
  if {a.unit, b.unit} == {'degree', ''}:
    angle, plain = (a, b) if a.unit else (b, a)
    return any(map(_says_radians, tree.nodes(plain.value))) and _same_value(
      Node('multiply', (angle.value, _DEGREE)), plain.value
    )
  return False


def _says_radians(node: Node) -> bool:
  return node == _PI or str(node.args[:1]).startswith("('arc")


def _same_value(a: Node, b: Node, inner: bool = False) -> bool:
  """Whether two values are equal; kinds that never meet are not."""
  if a != b:
    # One has words where the other has symbols.
    a, b = (
      forms.WORDS.get(n.args[0], n) if n.op == 'text' else n for n in (a, b)
    )
  kinds = {a.op, b.op}
  if kinds == {'list', 'tuple'}:
    return _ordered(a, b)
  if kinds == {'tuple', 'matrix'}:
    return _vector(a, b)
  if 'union' in kinds:
    merged = intervals.merged(_pieces(a)), intervals.merged(_pieces(b))
    if None not in merged:
      return merged[0] == merged[1]
    return _unordered(_pieces(a), _pieces(b))
  if inner and kinds != {'set'} and 'set' in kinds:
    # {{1}, {2}} is not {1, 2}.
    return False
  if kinds & {'list', 'set'} or _has_pm(a) or _has_pm(b):
    return _same_elements(a, b)
  if len(kinds) > 1 and kinds & forms.STRUCTURES:
    return False
  match a.op:
    case 'tuple':
      return intervals.brackets(a) == intervals.brackets(b) and _each(
        a.args[2:], b.args[2:]
      )
    case 'matrix':
      return len(a.args) == len(b.args) and all(map(_each, a.args, b.args))
    case 'ratio':
      return _each(a.args, b.args)
    case 'text' | 'based':
      return a.args == b.args
    case 'congruence':
      return _congruent(a, b)
    case 'relation':
      return _same_relation(a, b)
  return agreement.equal(a, b)


def _each(a: Iterable[Node], b: Iterable[Node]) -> bool:
  a, b = tuple(a), tuple(b)
  return len(a) == len(b) and all(
    _same_item(_item(x), _item(y)) for x, y in zip(a, b)
  )


def _ordered(a: Node, b: Node) -> bool:
  """Whether an unbracketed list equals a tuple with the same order."""
  bare, bracketed = (a, b) if a.op == 'list' else (b, a)
  if bracketed.args[:2] != ('(', ')'):
    return False
  names = [name for item in bare.args if (name := _item(item).name)]
  if names != sorted(names):
    # y = 1, x = 2 is (2, 1).
    return False
  return _each(bare.args, bracketed.args[2:])


def _vector(a: Node, b: Node) -> bool:
  """Whether a matrix of one row or column holds a tuple's components."""
  matrix, bracketed = (a, b) if a.op == 'matrix' else (b, a)
  cells = [cell for row in matrix.args for cell in row]
  if 1 not in (len(matrix.args), len(matrix.args[0])):
    return False
  return bracketed.args[:2] == ('(', ')') and _each(cells, bracketed.args[2:])


def _pieces(node: Node) -> list[Node]:
  return list(map(_value, intervals.pieces(node)))


def _has_pm(node: Node) -> bool:
  if node.op == 'matrix' and any(n.op == 'pm' for n in tree.nodes(node)):
    raise Unreadable('plus-minus in a matrix')
  return any(n.op == 'pm' for n in tree.nodes(node))


def _same_elements(a: Node, b: Node) -> bool:
  """Whether lists, sets and plus-minus forms have the same elements."""
  return _unordered(_elements(a), _elements(b))


def _elements(node: Node) -> list[Node]:
  items = node.args if node.op in ('list', 'set') else (node,)
  return [e for item in items for e in _signs(item)]


def _signs(node: Node) -> list[Node]:
  if not _has_pm(node):
    return [node]
  return [_choose(node, 1), _choose(node, -1)]


def _choose(node: Node, sign: int) -> Node:
  """Returns the tree with the upper signs, or with the lower ones."""
  if node.op == 'pm':
    left, right, own = node.args
    left, right = _choose(left, sign), _choose(right, sign)
    if sign * own < 0:
      right = Node('negate', (right,))
    return Node('add', (left, right))
  return node._replace(
    args=tuple(
      _choose(arg, sign) if isinstance(arg, Node) else arg for arg in node.args
    )
  )


def _unordered(a: list[Node], b: list[Node]) -> bool:
  """Whether two lists hold the same elements, however often."""
  exact_a, rest_a = _split(a)
  exact_b, rest_b = _split(b)
  if exact_a == exact_b and not rest_a and not rest_b:
    return True
  # Rational elements too: \sqrt{4} may stand for 2.
  a, b = rest_a + list(exact_a.values()), rest_b + list(exact_b.values())
  if exact_a.keys() == exact_b.keys():
    a, b = rest_a, rest_b
  if max(len(a), len(b)) > _MATCHED:
    raise TooLarge(f'over {_MATCHED} elements to match')
  return _covers(a, b) and _covers(b, a)


def _covers(a: list[Node], b: list[Node]) -> bool:
  if any(_depth(node) > _SETS for node in (*a, *b)):
    raise TooLarge(f'sets nested deeper than {_SETS}')
  others = [_item(y) for y in b]
  return all(any(_same_item(_item(x), y, True) for y in others) for x in a)


def _depth(node: Node) -> int:
  """The depth of nested sets; the cost of comparing doubles at each level."""
  if not isinstance(node, Node):
    return 0
  below = max((_depth(arg) for arg in node.args), default=0)
  return below + (node.op in ('set', 'list'))


def _split(nodes: list[Node]) -> tuple[dict[Fraction, Node], list[Node]]:
  """(plain numbers by value, other nodes)."""
  exact, rest = {}, []
  for node in nodes:
    negative = node.op == 'negate'
    number = node.args[0] if negative else node
    if number.op == 'number':
      exact[-number.args[0] if negative else number.args[0]] = node
    else:
      rest.append(node)
  return exact, rest


def _congruent(a: Node, b: Node) -> bool:
  if a.args[2] and b.args[2] and a.args[2] != b.args[2]:
    return False
  if not agreement.equal(a.args[1], b.args[1]):
    return False
  residues = [values.constant(node.args[0]) for node in (a, b)]
  modulus = values.constant(a.args[1])
  if not all(isinstance(x, Fraction) for x in (*residues, modulus)):
    return agreement.equal(a.args[0], b.args[0])
  return modulus != 0 and (residues[0] - residues[1]) % modulus == 0


def _same_relation(a: Node, b: Node) -> bool:
  """Compares equations up to a factor, inequalities up to a positive one."""
  left, right = a.args[0], b.args[0]
  if not tree.symbols(a) | tree.symbols(b):
    return left == right and _each(a.args[1:], b.args[1:])
  mirrored = tuple(inequalities.MIRRORED.get(o, o) for o in right)
  if left != right and left != mirrored:
    return False
  first = forms.difference(*a.args[1:])
  second = forms.difference(*b.args[1:])
  if left == right:
    return _proportional(first, second, signed=left != ('=',))
  return _proportional(first, Node('negate', (second,)), signed=True)
