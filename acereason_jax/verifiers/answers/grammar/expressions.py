"""Sums, products, powers, and a value with its unit."""

from fractions import Fraction

from acereason_jax.verifiers.answers import tokens, tree, units, vocabulary
from acereason_jax.verifiers.answers.grammar import unit_words
from acereason_jax.verifiers.answers.grammar.atoms import Atoms
from acereason_jax.verifiers.answers.tokens import END, Token
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Ambiguous, Unreadable

_INFIX = vocabulary.words(
  'cdot times ast div pm mp cup cap setminus bmod mod pmod rfloor '
  'rceil rangle lor land vee circ prime'
)


class Expressions(Atoms):
  r"""`2x^2 - 3\frac{1}{2}`, `5!`, `60^\circ`, `3 \text{ cm}`."""

  def _sum(self) -> Node:
    node = self._terms()
    if node.op != 'add':
      return node
    # In `3 - 2 \\text{ cm}` the unit belongs to the sum.
    last = node.args[-1]
    negative = last.op == 'negate'
    bare = last.args[0] if negative else last
    if bare.op != 'quantity':
      return node
    value, name = bare.args
    last = Node('negate', (value,)) if negative else value
    return Node('quantity', (Node('add', (*node.args[:-1], last)), name))

  def _terms(self) -> Node:
    terms = []
    if not self._is('command', 'pm', 'mp'):
      terms.append(self._product())
    while True:
      if self._take('sign', '+'):
        terms.append(self._product())
      elif self._take('sign', '-'):
        terms.append(Node('negate', (self._product(),)))
      elif self._is('command', 'pm', 'mp'):
        sign = 1 if self._next().text == 'pm' else -1
        left = tree.joined('add', terms) if terms else tree.ZERO
        terms = [self._wrapped(Node('pm', (left, self._product(), sign)))]
      else:
        return tree.joined('add', terms)

  def _product(self) -> Node:
    factors = [self._signed()]
    while True:
      if self._take('sign', '*') or self._take('command', *unit_words.TIMES):
        factors.append(self._signed())
        continue
      if self._is('sign', '/') and _has_rate(factors) and self._is_unit_below():
        self._next()
        name = units.unit(f'/{self._unit_words()}')
        factors = [self._wrapped(Node('quantity', (factors[0], name)))]
        continue
      if self._take('sign', '/') or self._take('command', 'div'):
        # Products are flat, however long; NO/BO is one node, since it can be a
        # name.
        first = len(factors) == 1 and factors[0].op != 'divide'
        left = factors.pop() if first else tree.ONE
        factors.append(Node('divide', (left, self._signed())))
        continue
      if self._starts_factor() and not self._is_unit():
        factors.append(self._juxtaposed(factors))
        continue
      node = tree.joined('multiply', factors)
      if self._take('command', 'bmod', 'mod'):
        node = Node('call', ('mod', node, self._signed()))
      elif _takes_unit(node) and (name := self._unit()) is not None:
        node = Node('quantity', (node, name))
      else:
        return node
      factors = [self._wrapped(node)]

  def _juxtaposed(self, factors: list[Node]) -> Node:
    """`2x`, `2 \\sqrt 3`.

    In `2\\frac{3}{4}` and `2 3/4` the last factor is replaced by a mixed
    number.
    """
    after_number = self.peek(-1).kind == 'number'
    token = self.peek()
    grouped = self.peek(-1).text in (')', ']') or token.text in ('(', '[')
    right = self._power()
    last = factors[-1]
    negative = last.op == 'negate'
    left = last.args[0] if negative else last
    touching = not after_number or token.kind != 'number'
    if left.op == right.op == 'number' and touching and not grouped:
      # {4}2 is displayed as 42.
      raise Ambiguous('two numbers side by side')
    if not after_number or left.op != 'number' or left.args[1]:
      return right
    part = None
    if token.kind == 'number' and right.op == 'number':
      part = self._mixed(right, token.spaced)
    elif token == Token('command', 'frac', token.spaced):
      part = _proper_fraction(right)
    if part is None:
      return right
    mixed = Node('number', (left.args[0] + part, 0))
    factors.pop()
    return Node('negate', (mixed,)) if negative else mixed

  def _mixed(self, above: Node, spaced: bool) -> Fraction:
    """The 3/4 of `2 3/4`; other adjacent numbers have no meaning."""
    if spaced and self._take('sign', '/') and self.peek().kind == 'number':
      part = _proper_fraction(Node('divide', (above, self._atom())))
      if part is not None:
        return part
    raise Ambiguous('two numbers side by side')

  def _signed(self) -> Node:
    negative = False
    while self._is('sign', '+', '-'):
      negative ^= self._next().text == '-'
    node = self._power()
    if negative and node.op == 'based':
      return node._replace(args=(f'-{node.args[0]}', node.args[1]))
    if negative and node.op == 'quantity':
      return node._replace(args=(Node('negate', node.args[:1]), node.args[1]))
    return Node('negate', (node,)) if negative else node

  def _starts_factor(self) -> bool:
    token = self.peek()
    if token.kind in ('number', 'scientific', 'begin', 'letter'):
      return True
    if token.kind == 'word':
      return not tokens.separates(token)
    if token.kind == 'text':
      return unit_words.is_letter(token.text)
    if token.kind == 'sign':
      if token.text == '[':
        return not self._ends_interval()
      return token.text in '({' or (token.text == '|' and not self._bars)
    if token.kind == 'command':
      name = token.text
      return name not in vocabulary.RELATIONS and name not in _INFIX
    return token.text == '\\{'

  def _ends_interval(self) -> bool:
    """Whether [ closes, as in `[0, 1[`."""
    after = self.peek(1)
    return after == END or after.text in ('cup', ',', ';', ')')

  def _power(self) -> Node:
    base = self._postfix()
    while self._take('sign', '^'):
      if self._degree():
        base = self._wrapped(Node('degree', (base,)))
        continue
      exponent = self._exponent()
      base = Node('power', (base, exponent))
      if self._is('sign', '^') and not self._tower_is_degree():
        # a^b^c is not LaTeX; as plain text it is a^(b^c).
        self._next()
        base = Node('power', (base.args[0], self._tower(exponent)))
    return self._factorials(base)

  def _tower_is_degree(self) -> bool:
    return self.peek(1).text == 'circ'

  def _tower(self, base: Node) -> Node:
    exponent = self._exponent()
    if self._take('sign', '^'):
      exponent = self._nested(lambda: self._tower(exponent))
    return Node('power', (base, exponent))

  def _degree(self) -> bool:
    if self._take('command', 'circ'):
      return True
    braced = [self.peek(i).text for i in range(3)] == ['{', 'circ', '}']
    self._position += 3 * braced
    return braced

  def _exponent(self) -> Node:
    negative = False
    while self._is('sign', '+', '-'):
      negative ^= self._next().text == '-'
    node = self._argument()
    return Node('negate', (node,)) if negative else node

  def _postfix(self) -> Node:
    return self._factorials(self._atom())

  def _factorials(self, node: Node) -> Node:
    marks = 0
    while self._is('sign', '!') or self._is('escaped', '\\!'):
      self._next()
      marks += 1
    if marks > 2:
      raise Unreadable('more than two factorial signs')
    return Node('factorial', (node, marks)) if marks else node


def _takes_unit(node: Node) -> bool:
  """Whether a value has no unit yet; \\$5 may also be 5 per hour."""
  return node.op != 'quantity' or units.is_prefix(node.args[1])


def _has_rate(factors: list[Node]) -> bool:
  """Whether the factors are one amount of money, as in \\$5/\\text{h}."""
  return len(factors) == 1 and factors[0].op == 'quantity'


def _proper_fraction(node: Node) -> Fraction | None:
  """Returns the value of a fraction of two whole numbers below 1."""
  if node.op != 'divide' or any(arg.op != 'number' for arg in node.args):
    return None
  above, below = (arg.args[0] for arg in node.args)
  whole = above.denominator == below.denominator == 1
  return above / below if whole and 0 < above < below else None
