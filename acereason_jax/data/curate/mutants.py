"""Wrong versions of a right program: each has one small change.

Tests that many of them pass are weak. Mutants are made of the syntax tree, so
they are valid programs; some do the same as the original, so no test can find
those. Nothing is executed here.
"""

import ast
import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from acereason_jax.data import python_source

# Unparsing takes a time as the size, for each mutant.
_SOURCE_CHARS = 1 << 16
_COMPARISONS = {
  ast.Lt: ast.LtE,
  ast.LtE: ast.Lt,
  ast.Gt: ast.GtE,
  ast.GtE: ast.Gt,
  ast.Eq: ast.NotEq,
  ast.NotEq: ast.Eq,
  ast.In: ast.NotIn,
  ast.NotIn: ast.In,
  ast.Is: ast.IsNot,
  ast.IsNot: ast.Is,
}
_ARITHMETIC = {
  ast.Add: ast.Sub,
  ast.Sub: ast.Add,
  ast.Mult: ast.Add,
  ast.Div: ast.Mult,
  ast.FloorDiv: ast.Mult,
  ast.Mod: ast.FloorDiv,
  ast.Pow: ast.Mult,
  ast.BitAnd: ast.BitOr,
  ast.BitOr: ast.BitAnd,
  ast.BitXor: ast.BitOr,
  ast.LShift: ast.RShift,
  ast.RShift: ast.LShift,
}
_BOOLEAN = {ast.And: ast.Or, ast.Or: ast.And}
# They make room for a program, and do not change what it does.
_ROOM = ('setrecursionlimit', 'stack_size', 'set_int_max_str_digits')


class Mutant(NamedTuple):
  """A changed program.

  change: kind of the change and its line, for people.
  text: its source.
  """

  change: str
  text: str


class _Place(NamedTuple):
  """A change that can be made.

  kind: its kind.
  line: line in the source.
  make: makes it, and returns what undoes it.
  """

  kind: str
  line: int
  make: Callable[[], Callable[[], None]]


def of(program: str, most: int) -> list[Mutant]:
  """At most `most` different mutants, chosen by hash.

  None if the program is too long, or no Python 3.
  """
  if not (tree := parsed(program)):
    return []
  places = list(_places(tree))
  chosen = sorted(range(len(places)), key=lambda i: _hash(program, i))
  found: dict[str, Mutant] = {}
  # What is nested too deep, or holds too long an integer, has no mutants.
  with contextlib.suppress(RecursionError, ValueError):
    seen = {ast.unparse(tree)}
    for index in chosen:
      if len(found) == most:
        break
      undo = places[index].make()
      text = ast.unparse(tree)
      undo()
      if text not in seen:
        seen.add(text)
        change = f'{places[index].kind} in line {places[index].line}'
        found[text] = Mutant(change, text)
  return list(found.values())


def parsed(program: str) -> ast.Module | None:
  """The syntax tree; None if it is too long, or no Python 3."""
  if len(program) > _SOURCE_CHARS:
    return None
  with contextlib.suppress(ValueError), warnings.catch_warnings():
    # Of the program's own text.
    warnings.simplefilter('ignore')
    return python_source.parsed(program, 'exec')
  return None


def some(programs: Sequence[str], most: int) -> list[str]:
  """At most `most` different programs in Python 3, chosen by hash."""
  texts = sorted(dict.fromkeys(programs), key=lambda p: _hash(p, 0))
  found = (p for p in texts if parsed(p))
  return [p for p, _ in zip(found, range(most))]


def _hash(program: str, index: int) -> bytes:
  text = f'{index} {program}'.encode('utf-8', 'surrogatepass')
  return hashlib.sha256(text).digest()


def _places(tree: ast.Module) -> Iterator[_Place]:
  """All changes, in an order that only depends on the source."""
  todo: list[ast.AST] = [tree]
  while todo:
    node = todo.pop()
    if not _is_left_alone(node):
      yield from _of_node(node)
      todo += reversed(list(_parts(node)))


def _parts(node: ast.AST) -> Iterator[ast.AST]:
  """The nodes in a node, except types."""
  for name, value in ast.iter_fields(node):
    if name not in ('annotation', 'returns'):
      parts = value if isinstance(value, list) else [value]
      yield from (p for p in parts if isinstance(p, ast.AST))


def _is_left_alone(node: ast.AST) -> bool:
  if isinstance(node, ast.Call):
    name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
    return name in _ROOM
  return _is_main(node)


def _is_main(node: ast.AST) -> bool:
  """Whether it compares __name__ with something."""
  if not isinstance(node, ast.Compare):
    return False
  return isinstance(node.left, ast.Name) and node.left.id == '__name__'


def _of_node(node: ast.AST) -> Iterator[_Place]:
  """The changes of one node."""
  match node:
    case ast.Compare(ops=ops):
      for index, op in enumerate(ops):
        other = _COMPARISONS[type(op)]()
        yield _Place('comparison', node.lineno, _item(ops, index, other))
    case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
      other = _ARITHMETIC[type(op)]()
      yield _Place('arithmetic', node.lineno, _field(node, 'op', other))
    case ast.BoolOp(op=op):
      other = _BOOLEAN[type(op)]()
      yield _Place('boolean', node.lineno, _field(node, 'op', other))
    case ast.UnaryOp(op=ast.Not(), operand=operand):
      twice = ast.UnaryOp(ast.Not(), operand)
      yield _Place('boolean', node.lineno, _field(node, 'operand', twice))
    case ast.Constant(value=bool(value)):
      yield _Place('constant', node.lineno, _field(node, 'value', not value))
    case ast.Constant(value=int(value) | float(value)):
      yield _Place('constant', node.lineno, _field(node, 'value', value + 1))
    case ast.If(test=test) | ast.IfExp(test=test) if not _is_main(test):
      true = ast.Constant(True)
      yield _Place('condition', node.lineno, _field(node, 'test', true))
    case ast.Return(value=ast.expr()):
      none = ast.Constant(None)
      yield _Place('return', node.lineno, _field(node, 'value', none))


def _field(node: ast.AST, name: str, value: object) -> Callable:
  def make() -> Callable[[], None]:
    before = getattr(node, name)
    setattr(node, name, value)
    return lambda: setattr(node, name, before)

  return make


def _item(values: list, index: int, value: object) -> Callable:
  def make() -> Callable[[], None]:
    before = values[index]
    values[index] = value
    return lambda: values.__setitem__(index, before)

  return make
