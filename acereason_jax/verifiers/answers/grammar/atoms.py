"""The tightest level: numbers, words, commands."""

import re
from fractions import Fraction

from acereason_jax.verifiers.answers import tokens, tree, units, vocabulary
from acereason_jax.verifiers.answers.grammar.functions import Functions
from acereason_jax.verifiers.answers.tokens import END, Token
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import TooLarge, Unreadable

_PLAIN_NUMBER = re.compile(r'[0-9]+(?:\.[0-9]+)?')


class Atoms(Functions):
  r"""`3.5`, `x`, `\frac{1}{2}`, `\sqrt[3]{2}`, and everything in brackets."""

  def _atom(self) -> Node:
    token = self._next()
    if self._is_currency(token):
      name = units.unit(token.text)
      return self._priced(name)
    match token.kind:
      case 'number':
        return self._number(token.text)
      case 'scientific':
        return _scientific(token.text)
      case 'word':
        return self._word(token)
      case 'letter':
        return self._letter(token.text, split=True)
      case 'text':
        return self._text(token.text)
      case 'begin':
        return self._nested(lambda: self._matrix(token.text))
      case 'command':
        return self._command(token.text)
      case 'sign' if token.text in '([{|':
        return self._bracketed(token.text)
      case 'sign' if token.text == ']':
        return self._nested(lambda: self._tuple(']'))
      case 'escaped' if token.text == '\\$':
        return self._priced('dollar')
      case 'escaped' if token.text == '\\{':
        return self._nested(self._set)
    raise Unreadable(f'unexpected {token.text or token.kind!a}')

  def _priced(self, currency: str) -> Node:
    negative = self._take('sign', '-')
    value = self._nested(self._atom)
    value = Node('negate', (value,)) if negative else value
    return Node('quantity', (value, currency))

  def _is_currency(self, token: Token) -> bool:
    """Whether a word is the currency of a number after it: USD 5."""
    amount = self.peek(int(self._is('sign', '-')))
    return (
      token.kind in ('word', 'text')
      and amount.kind in ('number', 'scientific')
      and units.is_currency(token.text)
    )

  def _number(self, text: str) -> Node:
    if text[0] == '0' and text[1:].isdigit() and self.peek(-2).text == ':':
      # Minutes as in 1:05, which is not 1:5.
      return Node('text', (text,))
    node = Node('number', (tokens.fraction(text), tokens.places(text)))
    if self._is('sign', '_') and text.isdigit():
      self._next()
      return Node('based', (text.lstrip('0') or '0', self._base()))
    return node

  def _base(self) -> int:
    node = self._nested(self._argument)
    if node.op == 'text' and node.args[0] in vocabulary.BASE_NAMES:
      return vocabulary.BASE_NAMES[node.args[0]]
    if (
      node.op == 'number'
      and node.args[0].denominator == 1
      and (2 <= node.args[0] < 100)
    ):
      return int(node.args[0])
    raise Unreadable('a base that is no number')

  def _word(self, token: Token) -> Node:
    """A function, a unit's name, a product of letters, or words."""
    text = token.text
    if text in vocabulary.FUNCTIONS:
      return self._function(text)
    if text == 'pi':
      return Node('constant', ('pi',))
    if text in ('sqrt', 'infty', 'infinity', 'oo'):
      return self._named(text)
    if len(text) > 3 and not self._is_product(text):
      words = [text]
      while self._is('word') and not tokens.separates(self.peek()):
        words.append(self._next().text)
      return Node('text', (tree.fold(' '.join(words)),))
    # The last letter takes the subscript, the power or the parenthesis.
    if len(text) > 1:
      self._position -= 1
      rest = [Token('letter', c, False) for c in text]
      self._tokens[self._position : self._position + 1] = rest
      return self._atom()
    return self._letter(text)

  def _is_product(self, text: str) -> bool:
    """Whether a long word is a product of letters, as in 4abcd and xyzt."""
    before = self.peek(-2)
    touches = before != END and not self.peek(-1).spaced
    touches &= before.kind in ('number', 'letter') or before.text in (')', '}')
    run = ''.join(chr(ord(text[0]) + i) for i in range(len(text)))
    return touches or text == run

  def _named(self, text: str) -> Node:
    if text == 'sqrt':
      return Node('root', (self._argument(True), 2))
    return Node('constant', ('infinity',))

  def _text(self, words: str) -> Node:
    words = words.strip()
    if len(words) == 1 and words.isalpha():
      return self._letter(words)
    if _PLAIN_NUMBER.fullmatch(words):
      return self._number(words)
    if words in vocabulary.FUNCTIONS:
      return self._function(words)
    if words == 'pi':
      return Node('constant', ('pi',))
    if not words:
      raise Unreadable('an empty \\text')
    return Node('text', (tree.fold(words),))

  def _command(self, name: str) -> Node:
    if name == 'frac':
      return Node('divide', (self._argument(True), self._argument(True)))
    if name == 'sqrt':
      return self._root()
    if name == 'binom':
      return Node('call', ('binom', self._argument(True), self._argument(True)))
    if name in ('boxed', 'fbox'):
      return self._argument()
    if name in vocabulary.FUNCTIONS:
      return self._function(name)
    if name in vocabulary.CONSTANTS:
      return Node('constant', (vocabulary.CONSTANTS[name],))
    if name == 'Gamma' and self._is('sign', '('):
      return self._function(name)
    if name in vocabulary.GREEK:
      return self._letter(f'\\{name}')
    if name in vocabulary.NAMING:
      return self._name(name)
    if name in vocabulary.BOLD and self._is_bold_letter():
      return Node('symbol', (f'bold {self._subscript()}',))
    if name in vocabulary.BOLD or name in vocabulary.ALPHABETS:
      return self._argument()
    if name == 'emptyset':
      return Node('set', ())
    if name.startswith('blackboard'):
      return Node('symbol', (name + self._superscript_sign(),))
    if name in ('lfloor', 'lceil', 'langle'):
      return self._nested(lambda: self._delimited(name))
    raise Unreadable(f'\\{name}')

  def _root(self) -> Node:
    index = 2
    if self._take('sign', '['):
      node = self._nested(self._sum)
      self._expect('sign', ']')
      if node.op != 'number' or node.args[0].denominator != 1:
        return Node('power', (self._argument(True), _reciprocal(node)))
      index = int(node.args[0])
    return Node('root', (self._argument(True), index))

  def _argument(self, one_digit: bool = False) -> Node:
    """The argument of a command or of ^: a group, or one token.

    TeX takes one digit, as in `\\frac12`; after ^ people mean the number.
    """
    if self._take('sign', '{'):
      return self._nested(self._braced)
    token = self.peek()
    if token.kind == 'number':
      if one_digit and len(token.text) > 1 and token.text[0] != '.':
        rest = token._replace(text=token.text[1:], spaced=False)
        self._tokens[self._position] = rest
        return Node('number', (Fraction(int(token.text[0])), 0))
      self._next()
      return Node(
        'number', (tokens.fraction(token.text), tokens.places(token.text))
      )
    if token.kind == 'word' and len(token.text) > 1 and token.text != 'pi':
      first, rest = token.text[0], token.text[1:]
      self._tokens[self._position] = token._replace(text=rest, spaced=False)
      self._tokens.insert(self._position, Token('word', first, False))
    return self._nested(self._atom)


def _scientific(text: str) -> Node:
  digits, _, exponent = text.lower().partition('e')
  if len(exponent) > 5 or abs(int(exponent)) > 9999:
    raise TooLarge('an exponent of five digits')
  value = tokens.fraction(digits) * Fraction(10) ** int(exponent)
  return Node('number', (value, 0))


def _reciprocal(node: Node) -> Node:
  return Node('divide', (tree.ONE, node))
