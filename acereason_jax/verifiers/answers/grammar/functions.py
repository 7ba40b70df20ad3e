"""Named functions and their arguments."""

from acereason_jax.verifiers.answers import tree, vocabulary
from acereason_jax.verifiers.answers.grammar.brackets import Brackets
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Unreadable


class Functions(Brackets):
  r"""`\sin^2 x`, `\log_2 8`, `\gcd(4, 6)`."""

  def _function(self, name: str) -> Node:
    """A named function, its power or base, and its argument."""
    power = base = None
    while self._is('sign', '^', '_'):
      if self._next().text == '^':
        power = self._exponent()
      else:
        base = self._argument()
    if name in vocabulary.INVERSE and power == tree.MINUS_ONE:
      name, power = vocabulary.INVERSE[name], None
    node = Node('call', (name, *self._function_arguments()))
    if base is not None:
      if name != 'log':
        raise Unreadable(f'a subscript of {name}')
      node = Node('call', ('log', *node.args[1:], base))
    return node if power is None else Node('power', (node, power))

  def _function_arguments(self) -> tuple[Node, ...]:
    if self._is('sign', '(', '['):
      bracket = self._next().text
      node = self._nested(lambda: self._tuple(bracket))
      return node.args[2:] if node.op == 'tuple' else (node,)
    if self._is('sign', '{'):
      self._next()
      return (self._nested(self._braced),)
    if self._take('escaped', '\\{'):
      return self._nested(self._set).args
    return (self._nested(self._bare_argument),)

  def _bare_argument(self) -> Node:
    """`\\sin 2x`: factors up to an operator or the next function."""
    negative = self._take('sign', '-')
    node = self._power()
    factors = [node]
    while self._starts_factor() and not self._starts_function():
      # In \\sin x(1 + \\cos x) and \\ln 2(x + 1) the bracket is not an
      # argument.
      if self._is('sign', '(', '['):
        break
      factors.append(self._juxtaposed(factors))
    node = tree.joined('multiply', factors)
    return Node('negate', (node,)) if negative else node

  def _starts_function(self) -> bool:
    token = self.peek()
    return (
      token.kind in ('word', 'command') and token.text in vocabulary.FUNCTIONS
    )
