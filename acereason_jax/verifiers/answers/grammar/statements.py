"""Whole answers: statements, ratios and unions, and lists of them."""

from acereason_jax.verifiers.answers import tokens, vocabulary
from acereason_jax.verifiers.answers.grammar.expressions import Expressions
from acereason_jax.verifiers.answers.tokens import END
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Unreadable

_NAMED = ('pi', 'sqrt', 'infty', 'infinity', 'oo')
_AROUND = (',', ';', '\\{', '\\}', '(', ')', '[', ']')


class Statements(Expressions):
  r"""`x = 1`, `x > 2 \text{ and } x < 3`, `1, 2; 3`, `A \cup B`."""

  def answer(self) -> Node:
    """A list of lists, a list, or one statement."""
    groups = [self._commas()]
    while self._take('sign', ';'):
      if self.peek() != END and not self._is('escaped', '\\}'):
        groups.append(self._commas())
    if len(groups) == 1:
      return groups[0]
    return Node('list', tuple(groups))

  def _commas(self) -> Node:
    """A list, or inequalities that hold together ('both') or apart."""
    items, kinds = [self._statement()], set()
    while (kind := self._separator()) is not None:
      kinds.add(kind)
      if not self._closes():
        items.append(self._statement())
    if len(items) == 1:
      return items[0]
    if kinds == {'or'}:
      return Node('either', tuple(items))
    return Node('both' if kinds == {'and'} else 'list', tuple(items))

  def _separator(self) -> str | None:
    """Takes commas, `and`, `or`; returns the last word or ','."""
    found = None
    while True:
      if self._take('sign', ','):
        found = found or ','
      elif tokens.separates(self.peek()):
        found = self._next().text.strip(' ,').lower()
      else:
        return found

  def _closes(self) -> bool:
    token = self.peek()
    return (
      token == END
      or (token.kind == 'sign' and token.text in ')]}&')
      or (token.kind == 'escaped' and token.text in ('\\}', '\\\\'))
      or token.kind == 'end'
    )

  def _statement(self) -> Node:
    if self._is('word') and self._is_label():
      return Node('text', (self._next().text,))
    operands, operators = [self._ratio()], []
    while (operator := self._relation()) is not None:
      operators.append(operator)
      operands.append(self._ratio())
    if self._is('command', 'pmod'):
      return self._congruence(operators, operands)
    if '==' in operators:
      raise Unreadable('an identity without a modulus')
    if operators:
      return Node('relation', (tuple(operators), *operands))
    return operands[0]

  def _is_label(self) -> bool:
    """Whether a word is an element of its own in a list, as in {HH, HT}.

    As products HT and TH would be equal.
    """
    text = self.peek().text
    if len(text) < 2 or text in vocabulary.FUNCTIONS or text in _NAMED:
      return False
    before, after = self.peek(-1), self.peek(1)
    around = before.text, after.text
    listed = ',' in around or ';' in around or around == ('\\{', '\\}')
    # I and III.
    listed |= tokens.ROMAN.fullmatch(text) is not None
    return listed and all(
      t == END or t.text in _AROUND or tokens.separates(t)
      for t in (before, after)
    )

  def _congruence(self, operators: list[str], operands: list[Node]) -> Node:
    """`x \\equiv 3 \\pmod 7`: residue, modulus and name."""
    self._next()
    modulus = self._argument()
    if any(operator not in ('=', '==') for operator in operators):
      raise Unreadable('an inequality with a modulus')
    names = operands[:-1]
    if len(names) > 1 or any(name.op != 'symbol' for name in names):
      raise Unreadable('a congruence of an expression')
    name = names[0].args[0] if names else ''
    return Node('congruence', (operands[-1], modulus, name))

  def _relation(self) -> str | None:
    token = self.peek()
    if token.kind == 'sign' and token.text in '=<>':
      return self._next().text
    if token.kind == 'command' and token.text in vocabulary.RELATIONS:
      return vocabulary.RELATIONS[self._next().text]
    return None

  def _ratio(self) -> Node:
    parts = [self._union()]
    while self._take('sign', ':'):
      parts.append(self._union())
    return parts[0] if len(parts) == 1 else Node('ratio', tuple(parts))

  def _union(self) -> Node:
    parts = [self._sum()]
    while self._take('command', 'cup'):
      parts.append(self._sum())
    node = parts[0] if len(parts) == 1 else Node('union', tuple(parts))
    if self._take('command', 'setminus'):
      return Node('setminus', (node, self._sum()))
    return node
