r"""Whether two parsed answers say the same.

Structure first, then values: lists and sets without order, tuples and
intervals with it, equations up to a factor, inequalities as their solutions,
units that must not contradict each other. A name that is given its value
(`x = 5`) is that value.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from acereason_jax.verifiers.answers import units, values, vocabulary
from acereason_jax.verifiers.answers.latex import Node
from acereason_jax.verifiers.answers.values import Refused
from acereason_jax.verifiers.answers.vocabulary import TooLarge, Unreadable

_INFINITY = Node('constant', ('infinity',))
_MINUS_INFINITY = Node('negate', (_INFINITY,))
_INFINITIES = (_INFINITY, _MINUS_INFINITY)
_REALS = Node('tuple', ('(', ')', _MINUS_INFINITY, _INFINITY))
_HUNDRED = Node('number', (Fraction(100), 0))
_ZERO = Node('number', (Fraction(0), 0))
_PI = Node('constant', ('pi',))
_DEGREE = Node('divide', (_PI, Node('number', (Fraction(180), 0))))
WORDS = {
  'no solution': Node('set', ()),
  'no solutions': Node('set', ()),
  'empty set': Node('set', ()),
  'none': Node('set', ()),
  'no real solution': Node('set', ()),
  'no real solutions': Node('set', ()),
  'all real numbers': _REALS,
  'all reals': _REALS,
  'infinity': _INFINITY,
}
_STRUCTURES = vocabulary.words(
  'tuple list both either set union setminus matrix relation ratio congruence '
  'text based'
)
_ORDER = frozenset(['<', '>', '<=', '>='])
_MIRRORED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
# `x \approx 11` is an answer, but 42 is not about 43.
_NEAR = Fraction(1, 100)
_MATCHED = 40
_SETS = 3


class _Item(NamedTuple):
  """What a statement says.

  name: the name it gives to the value, '' without one.
  unit: '' without one.
  value: in that unit.
  share: the value again, where the unit is percent and it is written as a
    number too: 4/5 = 80%.
  """

  name: str
  unit: str
  value: Node
  share: Node | None = None


def same(given: Node, wanted: Node) -> bool:
  """Whether two answers are the same.

  Raises:
    Unreadable: one of them means nothing here.
    Refused: one contradicts itself.
    TooLarge: one would take too long.
  """
  with values.one_budget():
    equations = _equation(given), _equation(wanted)
    if None not in equations and not _both_name_values(given, wanted):
      return _proportional(*equations, signed=False)
    return _same_item(_item(given), _item(wanted))


# --- statements -------------------------------------------------------------


def _equation(node: Node) -> Node | None:
  """Returns left - right of one equation between expressions."""
  if node.op != 'relation' or node.args[0] != ('=',):
    return None
  left, right = node.args[1:]
  if not (_is_expression(left) and _is_expression(right)):
    return None
  difference = _difference(left, right)
  return difference if values.symbols(difference) else None


def _difference(left: Node, right: Node) -> Node:
  return Node('add', (left, Node('negate', (right,))))


def _both_name_values(a: Node, b: Node) -> bool:
  """Whether both are like `f(x) = ...` with one name: values will do."""
  return bool(_name(a.args[1]) and _name(a.args[1]) == _name(b.args[1]))


def _proportional(a: Node, b: Node, signed: bool) -> bool:
  """Whether a = c b with a constant c, if `signed` a positive one."""
  factor = values.ratio(a, b)
  return factor is not None and (not signed or factor > 0)


def _item(node: Node) -> _Item:
  """Returns what a statement says.

  Raises:
    Unreadable, Refused: see `same`.
  """
  if node.op == 'quantity':
    inner = _item(node.args[0])
    return inner._replace(unit=units.combined(inner.unit, node.args[1]))
  if node.op == 'degree':
    return _Item('', 'degree', node.args[0])
  if node.op == 'relation':
    return _relation(node.args[0], node.args[1:])
  return _Item('', '', _value(node))


def _value(node: Node) -> Node:
  """Returns a value in the form that is compared."""
  if node == Node('symbol', ('blackboardR',)):
    return _REALS
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
  """A matrix times numbers, or its negative, by element."""
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
  """`x < 1 or x > 3` as a union, `x > 1, x < 3` as what both allow.

  Other lists as they are.
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
    value = _intersection(value, item.value)
  return value


def _intersection(a: Node, b: Node) -> Node:
  """What two intervals, or unions of them, have in common."""
  pieces = []
  for x in _pieces(a):
    for y in _pieces(b):
      ends = [_span(piece) for piece in (x, y)]
      if None in ends:
        raise Unreadable('inequalities of no numbers')
      lows = [(e[0], e[1], p.args[2]) for e, p in zip(ends, (x, y))]
      highs = [(e[2], not e[3], p.args[3]) for e, p in zip(ends, (x, y))]
      # By where they are and whether they count, not by how they are written.
      low = max(lows, key=lambda end: end[:2])
      high = min(highs, key=lambda end: end[:2])
      if low[0] < high[0] or (low[0] == high[0] and not low[1] and high[1]):
        brackets = '(' if low[1] else '[', ']' if high[1] else ')'
        pieces.append(Node('tuple', (*brackets, low[2], high[2])))
  return pieces[0] if len(pieces) == 1 else Node('union', tuple(pieces))


def _without(whole: Node, removed: Node) -> Node:
  """`\\mathbb{R} \\setminus \\{0\\}` as a union."""
  if removed.op != 'set':
    raise Unreadable('a set without more than points')
  value = whole
  for point in removed.args:
    below = Node('tuple', ('(', ')', _MINUS_INFINITY, point))
    above = Node('tuple', ('(', ')', point, _INFINITY))
    value = _intersection(value, Node('union', (below, above)))
  return value


def _relation(operators: tuple[str, ...], operands: tuple[Node, ...]) -> _Item:
  if operators == ('in',):
    return _Item(_demand_name(operands[0]), '', _value(operands[1]))
  if _ORDER.issuperset(operators):
    return _solution(operators, operands)
  if operators == ('!=',):
    return _excluded(*operands)
  if {'=', '~'}.issuperset(operators):
    return _chain(operators, operands)
  raise Unreadable('a mixed chain of relations')


def _demand_name(node: Node) -> str:
  if not (name := _name(node)):
    raise Unreadable('a membership of no name')
  return name


def _chain(operators: tuple[str, ...], operands: tuple[Node, ...]) -> _Item:
  """`x = 2 + 3 = 5 \\approx 5.0`: the name, and the last exact value."""
  name = _name(operands[0])
  if not name and len(operands) == 2 and _name(operands[1]):
    operands, name = operands[::-1], _name(operands[1])
  if name:
    operators, operands = operators[1:], operands[1:]
    while len(operands) > 1 and _name(operands[0]):
      # x = y = 5 names two.
      name = f'{name} = {_name(operands[0])}'
      operators, operands = operators[1:], operands[1:]
  elif any(_is_expression(o) and values.symbols(o) for o in operands):
    if len(operands) > 2 or operators != ('=',):
      raise Unreadable('a chain of expressions')
    return _Item('', '', Node('relation', (operators, *operands)))
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
  return _Item(name, named[-1] if named else '', chosen.value)


def _share(item: _Item) -> _Item:
  """80% as 80/100."""
  if item.unit != 'percent':
    return item
  return _Item('', '', Node('divide', (item.value, _HUNDRED)))


def _with_share(name: str, items: list[_Item]) -> _Item:
  """The exact members of a chain in which some, maybe, are percents."""
  percents = [item.value for item in items if item.unit == 'percent']
  others = [item for item in items if item.unit != 'percent']
  if percents and others:
    return _Item(name, 'percent', percents[-1], others[-1].value)
  return items[-1]._replace(name=name)


def _first(operators: tuple[str, ...], operator: str) -> int:
  return (*operators, operator).index(operator)


def _near(exact: Node, rough: Node) -> bool:
  """Whether a rounded value belongs to an exact one; True if unknown."""
  a, b = _end(exact), _end(rough)
  return a is None or b is None or abs(a - b) <= _NEAR * abs(a)


_NAMES = frozenset(['symbol', 'text'])


def _name(node: Node) -> str:
  """Returns the name that an answer may give its value, else ''.

  `x`, `f(x)`, `AB`, `|AB|`, `\\cos A`, `A:B`, `\\frac{NO}{BO}`, `(p, q)`: no
  numbers, and no sums, which would be equations.
  """
  if node.op in _NAMES:
    return node.args[0]
  if node.op == 'apply':
    return repr(node)
  if node.op == 'call' and node.args[0] in {'abs', *vocabulary.TRIGONOMETRIC}:
    return repr(node) if _name(node.args[1]) else ''
  if node.op in ('multiply', 'divide', 'ratio', 'tuple'):
    parts = [arg for arg in node.args if isinstance(arg, Node)]
    return repr(node) if parts and all(map(_name, parts)) else ''
  return ''


def _is_expression(node: Node) -> bool:
  if node.op in _STRUCTURES or node.op == 'quantity':
    return False
  return not any(n.op == 'pm' for n in values.nodes(node))


# --- inequalities -----------------------------------------------------------


def _solution(operators: tuple[str, ...], operands: tuple[Node, ...]) -> _Item:
  """The interval of a linear inequality in one variable.

  Others stay as they are, with one operator.
  """
  named = [n for n in operands if n.op == 'apply']
  if named:
    symbol = Node('symbol', (_name(named[0]),))
    operands = tuple(symbol if o == named[0] else o for o in operands)
  if not all(map(_is_expression, operands)):
    raise Unreadable('an inequality of no expressions')
  names = frozenset().union(*map(values.symbols, operands))
  if len(names) == 1 and (item := _absolute(operators, operands)) is not None:
    return item
  if len(names) != 1:
    if len(operators) > 1 and names:
      raise Unreadable('a chain of inequalities in several variables')
    return _Item('', '', Node('relation', (operators, *operands)))
  (name,) = names
  low, high = (_MINUS_INFINITY, '('), (_INFINITY, ')')
  for operator, left, right in zip(operators, operands, operands[1:]):
    bound, direction = _half_line(operator, left, right, name)
    if direction == '>':
      low = _tighter(low, (bound, '(' if len(operator) == 1 else '['))
    else:
      high = _tighter(high, (bound, ')' if len(operator) == 1 else ']'))
  return _Item(name, '', Node('tuple', (low[1], high[1], low[0], high[0])))


def _absolute(
  operators: tuple[str, ...], operands: tuple[Node, ...]
) -> _Item | None:
  """`|x - 2| < 3` and `1 < |x| < 3`: the inner expression on both sides."""
  absolute = [o for o in operands if o.args[:1] == ('abs',)]
  if len(absolute) != 1:
    return None
  pieces = []
  for sign in (1, -1):
    inner = absolute[0].args[1]
    side = inner if sign > 0 else Node('negate', (inner,))
    chain = tuple(side if o == absolute[0] else o for o in operands)
    # Where the inner expression has this sign.
    own = _solution(('>=',), (side, _ZERO))
    found = _solution(operators, chain)
    pieces += _pieces(_intersection(found.value, own.value))
  return found._replace(value=Node('union', tuple(pieces)))


def _tighter(old: tuple[Node, str], new: tuple[Node, str]):
  if old[0] in (_INFINITY, _MINUS_INFINITY):
    return new
  raise Unreadable('two bounds on one side')


def _half_line(
  operator: str, left: Node, right: Node, name: str
) -> tuple[Node, str]:
  """(bound, '>' or '<') of `left operator right`, linear in `name`.

  A bound beside the bare variable is kept as it is written.
  """
  bare = Node('symbol', (name,))
  if left == bare and not values.symbols(right):
    return right, operator[0]
  if right == bare and not values.symbols(left):
    return left, _MIRRORED[operator][0]
  slope, offset = values.linear(_difference(left, right), name)
  bound = Node('number', (-offset / slope, 0))
  return bound, (operator if slope > 0 else _MIRRORED[operator])[0]


def _excluded(left: Node, right: Node) -> _Item:
  """`x \\ne 3` as the two half-lines beside 3."""
  names = values.symbols(left) | values.symbols(right)
  if len(names) != 1 or not (_is_expression(left) and _is_expression(right)):
    raise Unreadable('an inequation')
  (name,) = names
  bound, _ = _half_line('<', left, right, name)
  below = Node('tuple', ('(', ')', _MINUS_INFINITY, bound))
  above = Node('tuple', ('(', ')', bound, _INFINITY))
  return _Item(name, '', Node('union', (below, above)))


# --- equality of values -----------------------------------------------------


def _same_item(a: _Item, b: _Item, inner: bool = False) -> bool:
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
    return any(map(_says_radians, values.nodes(plain.value))) and _same_value(
      Node('multiply', (angle.value, _DEGREE)), plain.value
    )
  return False


def _says_radians(node: Node) -> bool:
  return node == _PI or str(node.args[:1]).startswith("('arc")


def _same_value(a: Node, b: Node, inner: bool = False) -> bool:
  """Whether two values are equal; kinds that never meet are not."""
  if a != b:
    # Words for what the other writes in symbols.
    a, b = (WORDS.get(n.args[0], n) if n.op == 'text' else n for n in (a, b))
  kinds = {a.op, b.op}
  if kinds == {'list', 'tuple'}:
    return _ordered(a, b)
  if kinds == {'tuple', 'matrix'}:
    return _vector(a, b)
  if 'union' in kinds:
    merged = _merged(_pieces(a)), _merged(_pieces(b))
    if None not in merged:
      return merged[0] == merged[1]
    return _unordered(_pieces(a), _pieces(b))
  if inner and kinds != {'set'} and 'set' in kinds:
    # {{1}, {2}} is not {1, 2}.
    return False
  if kinds & {'list', 'set'} or _has_pm(a) or _has_pm(b):
    return _same_elements(a, b)
  if len(kinds) > 1 and kinds & _STRUCTURES:
    return False
  match a.op:
    case 'tuple':
      return _brackets(a) == _brackets(b) and _each(a.args[2:], b.args[2:])
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
  return values.equal(a, b)


def _each(a: Iterable[Node], b: Iterable[Node]) -> bool:
  a, b = tuple(a), tuple(b)
  return len(a) == len(b) and all(
    _same_item(_item(x), _item(y)) for x, y in zip(a, b)
  )


def _ordered(a: Node, b: Node) -> bool:
  """Whether an unbracketed list is the tuple of the same order."""
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


def _brackets(node: Node) -> tuple[str, str]:
  """The ends of an interval: ]a, b[ is (a, b).

  Raises:
    Refused: an end at infinity is closed, where no number is.
  """
  opening, closing, *ends = node.args
  opening, closing = opening.replace(']', '('), closing.replace('[', ')')
  if len(ends) == 2 and (
    (opening == '[' and ends[0] in _INFINITIES)
    or (closing == ']' and ends[1] in _INFINITIES)
  ):
    raise Refused('an interval closed at infinity')
  return opening, closing


def _pieces(node: Node) -> list[Node]:
  """The parts of a union; finite sets among them as one."""
  parts = node.args if node.op == 'union' else (node,)
  points = [p for part in parts if part.op == 'set' for p in part.args]
  rest = [_value(part) for part in parts if part.op != 'set']
  return rest + ([Node('set', tuple(points))] if points else [])


def _merged(pieces: list[Node]) -> list[tuple] | None:
  """Returns disjoint (low, open, high, open) of numbers; None for others."""
  spans = []
  for piece in pieces:
    if piece.op == 'set':
      points = list(map(_end, piece.args))
      spans += [None if p is None else (p, False, p, False) for p in points]
    else:
      spans.append(_span(piece))
  if None in spans:
    return None
  spans = [s for s in spans if s[0] < s[2] or (s[0] == s[2] and not s[1])]
  merged = []
  for span in sorted(spans, key=lambda span: (span[0], span[1])):
    low, low_open, high, high_open = span
    if merged and (
      low < merged[-1][2]
      or (low == merged[-1][2] and not (low_open and merged[-1][3]))
    ):
      last = merged.pop()
      # (high, closed) orders ends from the widest.
      end = max((last[2], not last[3]), (high, not high_open))
      merged.append((last[0], last[1], end[0], not end[1]))
    else:
      merged.append(span)
  return merged


def _span(piece: Node) -> tuple | None:
  """Returns (low, open, high, open) of an interval between numbers."""
  if piece.op != 'tuple' or len(piece.args) != 4:
    return None
  opening, closing = _brackets(piece)
  low, high = map(_end, piece.args[2:])
  if low is None or high is None:
    return None
  return low, opening == '(', high, closing == ')'


def _end(node: Node) -> float | Fraction | None:
  """Returns a number that orders ends and equals those of equal value."""
  if node == _INFINITY:
    return float('inf')
  if node == _MINUS_INFINITY:
    return float('-inf')
  value = values.constant(node) if _is_expression(node) else None
  return None if value is None else values.rounded(value)


def _has_pm(node: Node) -> bool:
  if node.op == 'matrix' and any(n.op == 'pm' for n in values.nodes(node)):
    raise Unreadable('plus-minus in a matrix')
  return any(n.op == 'pm' for n in values.nodes(node))


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
  """Whether two lists hold the same things, however often."""
  exact_a, rest_a = _split(a)
  exact_b, rest_b = _split(b)
  if exact_a == exact_b and not rest_a and not rest_b:
    return True
  # The rational ones too: \sqrt{4} may stand for 2.
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
  """How deep sets are nested: comparing them doubles at each level."""
  if not isinstance(node, Node):
    return 0
  below = max((_depth(arg) for arg in node.args), default=0)
  return below + (node.op in ('set', 'list'))


def _split(nodes: list[Node]) -> tuple[dict[Fraction, Node], list[Node]]:
  """The plain numbers by value, and all else."""
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
  if not values.equal(a.args[1], b.args[1]):
    return False
  residues = [values.constant(node.args[0]) for node in (a, b)]
  modulus = values.constant(a.args[1])
  if not all(isinstance(x, Fraction) for x in (*residues, modulus)):
    return values.equal(a.args[0], b.args[0])
  return modulus != 0 and (residues[0] - residues[1]) % modulus == 0


def _same_relation(a: Node, b: Node) -> bool:
  """Equations up to a factor, inequalities up to a positive one."""
  left, right = a.args[0], b.args[0]
  if not values.symbols(a) | values.symbols(b):
    return left == right and _each(a.args[1:], b.args[1:])
  mirrored = tuple(_MIRRORED.get(o, o) for o in right)
  if left != right and left != mirrored:
    return False
  first = _difference(*a.args[1:])
  second = _difference(*b.args[1:])
  if left == right:
    return _proportional(first, second, signed=left != ('=',))
  return _proportional(first, Node('negate', (second,)), signed=True)
