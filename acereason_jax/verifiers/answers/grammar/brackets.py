"""The contents of brackets: groups, tuples, intervals, sets and matrices."""

from acereason_jax.verifiers.answers import tokens, tree
from acereason_jax.verifiers.answers.grammar.names import Names
from acereason_jax.verifiers.answers.tokens import END
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Unreadable

_OPENING = {'(': ')', '[': ']'}
_BLOCKS = ('array', 'cases', 'aligned')
_CONDITION = ('if', 'for', 'when')


class Brackets(Names):
  r"""`(1, 2]`, `\{1, 2\}`, `|x|`, `\begin{pmatrix} ... \end{pmatrix}`."""

  def _bracketed(self, bracket: str) -> Node:
    if bracket == '{':
      return self._nested(self._braced)
    if bracket == '|':
      return self._absolute()
    if bracket == '(' and self._is_numeral():
      label = self._next().text
      self._next()
      return Node('text', (label,))
    node = self._nested(lambda: self._tuple(bracket))
    if node.op == 'number' and self._take('sign', '_'):
      if node.args[0].denominator > 1 or not 0 <= node.args[0] < 10**400:
        raise Unreadable('digits of a base')
      return Node('based', (str(node.args[0]), self._base()))
    return node

  def _is_numeral(self) -> bool:
    """Whether (IV) is an element of its own; as a product it equals (VI)."""
    token, before, after = self.peek(), self.peek(-2), self.peek(2)
    if token.kind != 'word' or tokens.ROMAN.fullmatch(token.text) is None:
      return False
    return self.peek(1).text == ')' and all(
      t == END or t.text in (',', ';') or tokens.separates(t)
      for t in (before, after)
    )

  def _braced(self) -> Node:
    node = self._commas()
    self._expect('sign', '}')
    return node

  def _tuple(self, bracket: str) -> Node:
    """Grouping parentheses, a tuple, or an interval."""
    if self._take('sign', ')'):
      return Node('tuple', ('(', ')'))
    node = self.answer()
    close = self._expect(
      'sign', ')', ']', *('[' if bracket in '[]' else '')
    ).text
    if node.op in tree.LISTS:
      return Node('tuple', (bracket, close, *node.args))
    if _OPENING.get(bracket) != close:
      raise Unreadable(f'{bracket} closed by {close}')
    return node

  def _set(self) -> Node:
    if self._take('escaped', '\\}'):
      return Node('set', ())
    name, *texts = (self.peek(i).text for i in range(4))
    if texts[:2] == ['in', 'blackboardR'] and texts[2] in ('|', ':'):
      texts, self._position = texts[2:], self._position + 2
    if texts[0] in ('|', ':') and self.peek(-1) != END:
      # {x | x > 3} means x > 3, but {y | x > 3} does not.
      self._position += 2
      start = self._position
      node = self._commas()
      if name not in {t.text for t in self._tokens[start : self._position]}:
        raise Unreadable('a set of another name')
      self._expect('escaped', '\\}')
      return node
    if self._take('begin', 'array'):
      # \\left\\{ before lines, without a closing brace.
      node = self._matrix('cases')
      self._take('escaped', '\\}')
      return node
    node = self.answer()
    self._expect('escaped', '\\}')
    return Node('set', node.args if node.op in tree.LISTS else (node,))

  def _absolute(self) -> Node:
    node = self._nested(self._to_bar, self._bars + 1)
    return Node('call', ('abs', node))

  def _to_bar(self) -> Node:
    node = self._sum()
    self._expect('sign', '|')
    return node

  def _delimited(self, name: str) -> Node:
    node = self._commas()
    closing_name = 'r' + name[1:]
    self._expect('command', closing_name)
    if name == 'langle':
      items = node.args if node.op in tree.LISTS else (node,)
      return Node('tuple', ('(', ')', *items))
    return Node('call', (name[1:], node))

  def _matrix(self, name: str) -> Node:
    """The rows of a matrix; in `cases` one column is a list, two are pieces."""
    name = name.rstrip('*')
    if not name.endswith('matrix') and name not in _BLOCKS:
      raise Unreadable(f'\\begin{{{name}}}')
    if name in ('vmatrix', 'Vmatrix'):
      raise Unreadable('a determinant')
    rows, row = [], []
    while not self._take('end'):
      row.append(self._cell(name))
      if self._take('sign', '&'):
        continue
      rows.append(tuple(row))
      row = []
      if not self._take('escaped', '\\\\') and not self._is('end'):
        raise Unreadable(f'{self.peek().text!a} in a matrix')
    if row or not rows or len({len(r) for r in rows}) != 1:
      raise Unreadable('rows of different lengths')
    if name == 'cases' and len(rows[0]) == 2:
      return Node('set', tuple(Node('tuple', ('if', 'if', *r)) for r in rows))
    if name in _BLOCKS[1:]:
      return Node('list', tuple(cell for row in rows for cell in row))
    return Node('matrix', tuple(rows))

  def _cell(self, name: str) -> Node:
    if name == 'cases' and self._is('text'):
      self._position += self.peek().text.strip(' ,').lower() in _CONDITION
    cell = self._statement()
    if name == 'cases':
      self._take('sign', ',')
    return cell
