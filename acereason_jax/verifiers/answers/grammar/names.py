"""Letters and names: variables, unknown functions, segments and angles."""

from acereason_jax.verifiers.answers import vocabulary
from acereason_jax.verifiers.answers.grammar.unit_words import UnitWords
from acereason_jax.verifiers.answers.tokens import END
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Unreadable


class Names(UnitWords):
  r"""`x`, `a_{n}'`, `f(x)`, `\angle ABC`."""

  def _letter(self, name: str, split: bool = False) -> Node:
    # In mg(h + 1) nothing is a function; I(0) is a value, never I times 0.
    applied = name in vocabulary.APPLIED and not (split and name == 'g')
    applied |= [self.peek(i).text for i in range(3)] == ['(', '0', ')']
    name += self._primes()
    if self._is('sign', '_'):
      self._next()
      name += '_' + self._subscript()
      name += self._primes()
    if name in ('e', 'i'):
      return Node('constant', (name,))
    if (applied or "'" in name) and self._is('sign', '('):
      self._next()
      inner = self._nested(lambda: self._tuple('('))
      args = inner.args[2:] if inner.op == 'tuple' else (inner,)
      return Node('apply', (name, *args))
    return Node('symbol', (name,))

  def _primes(self) -> str:
    marks = ''
    while self._take('sign', "'"):
      marks += "'"
    if self._is('sign', '^') and self.peek(1).text == 'prime':
      self._position += 2
      marks += "'"
    return marks

  def _subscript(self) -> str:
    """The text of a subscript, which is part of a name and is not computed."""
    if not self._take('sign', '{'):
      return self._next().text
    depth, parts = 1, []
    while depth:
      token = self._next()
      if token == END:
        raise Unreadable('an open subscript')
      depth += {'{': 1, '}': -1}.get(token.text, 0)
      parts.append(token.text)
    return ''.join(parts[:-1])

  def _is_bold_letter(self) -> bool:
    letter = self.peek(int(self._is('sign', '{')))
    after = self.peek(2 if self._is('sign', '{') else 1)
    named = letter.kind in ('word', 'letter', 'command')
    return named and (after.text == '}' or not self._is('sign', '{'))

  def _superscript_sign(self) -> str:
    if self._is('sign', '^') and self.peek(1).text in '+-*':
      return self._next().text + self._next().text
    return ''

  def _name(self, command: str) -> Node:
    """`\\angle ABC`, `\\overline{AB}`: a name, whatever its letters."""
    letters = []
    if self._is('sign', '{'):
      letters.append(self._subscript())
    else:
      while self._is('word'):
        letters.append(self._next().text)
    if not letters:
      raise Unreadable(f'\\{command}')
    if any(c.isdigit() for c in letters[0]):
      raise Unreadable(f'digits under \\{command}')
    return Node('symbol', (f'\\{command} {"".join(letters)}',))
