r"""LaTeX answers as trees: one spelling, tokens, a parser of bounded depth.

It reads what answers are made of: numbers, expressions, tuples, intervals,
sets, lists, matrices, equations, inequalities, units and words. What it does
not know raises `Unreadable`; nothing is guessed, and nothing is evaluated.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from acereason_jax.verifiers.answers import units, vocabulary
from acereason_jax.verifiers.answers.spelling import WORD_COMMAND
from acereason_jax.verifiers.answers.vocabulary import (
  Ambiguous,
  TooLarge,
  Unreadable,
)

# Python's stack holds this many of our frames a level; answers nest below 10.
_DEPTH = 24
_OPENING = {'(': ')', '[': ']'}


class Node(NamedTuple):
  """An operation and its arguments: nodes, or the data of a leaf.

  number (Fraction, decimal places as written) | symbol
  (name) | constant (name) | text (words) | quantity (value, unit) | based
  (digits, base) | tuple (open, close, *items) | list, both, either,
  set, union (*items) | setminus (set, removed) |
  matrix (*rows, tuples of nodes) | relation (operators, *operands) | ratio
  (*parts) | congruence (value, modulus, name) | apply (name, *arguments) | call
  (function, *arguments) | pm (left, right, sign) | add multiply divide power
  negate root factorial degree.
  """

  op: str
  args: tuple[Any, ...]


_TOKEN = re.compile(
  r'(?P<space> +)'
  # 2e-1 is 2e - 1; 2.5e-1 and 2E-1 are numbers.
  r'|(?P<scientific>[0-9]+(?:\.[0-9]+(?:[eE][-+]?|E)|e|E[-+]?)[0-9]+)'
  r'|(?P<number>[0-9]*\.[0-9]*\([0-9]{1,60}\)|(?:[0-9]+\.?[0-9]*|\.[0-9]+)'
  r'(?:\\overline ?\{ ?[0-9]+ ?\}'
  r'|\\dot ?\{[0-9]\}(?:[0-9]*\\dot ?\{[0-9]\})?)?)'
  rf'|(?P<text>{WORD_COMMAND} ?\{{(?P<words>(?:[^{{}}]|\^\{{-?[0-9]\}})*)\}})'
  r'|\\begin ?\{(?P<begin>[a-zA-Z]+\*?)\}(?:\{[lcr| ]*\})?'
  r'|\\end ?\{(?P<end>[a-zA-Z]+\*?)\}'
  r'|\\(?P<command>[A-Za-z]+)'
  r'|(?P<escaped>\\.)'
  r'|(?P<word>[A-Za-z]+)'
  r"|(?P<sign>[-+*/^_=<>(){}\[\],;:|!&%$'])",
  re.DOTALL,
)
_PLAIN_NUMBER = re.compile(r'[0-9]+(?:\.[0-9]+)?')
_BLOCK = re.compile(r'\\math(?:bb|cal|frak)\s*\{([A-Za-z])\}')


class _Token(NamedTuple):
  kind: str
  text: str
  spaced: bool


def _tokens(text: str) -> list[_Token]:
  """Returns the tokens of a normalised text.

  Raises:
    Unreadable: a character is none of ours.
  """
  text = _BLOCK.sub(r'\\blackboard\1 ', text)
  tokens, position, spaced = [], 0, False
  while position < len(text):
    match = _TOKEN.match(text, position)
    if match is None:
      raise Unreadable(f'character {text[position]!a}')
    position = match.end()
    kind = match.lastgroup
    if kind == 'space':
      spaced = True
      continue
    if kind == 'text':
      content = match['words']
    elif kind == 'escaped':
      content = match[0]
    else:
      content = match[kind]
    tokens.append(_Token(kind, content, spaced))
    spaced = False
  return tokens


def parse(text: str) -> Node:
  """Returns the tree of a normalised text.

  Raises:
    Unreadable: it is not in the grammar.
    TooLarge: it is too deep.
  """
  parser = _Parser(_tokens(text))
  node = parser.answer()
  if parser.peek().kind != 'end of text':
    raise Unreadable(f'unexpected {parser.peek().text!a}')
  return node


_END = _Token('end of text', '', False)


class _Parser:
  """Recursive descent; a method for each level of binding, loosest first."""

  def __init__(self, tokens: list[_Token]):
    self._tokens = tokens
    self._position = 0
    self._depth = 0
    self._bars = 0
    self._wraps = 0

  def peek(self, ahead: int = 0) -> _Token:
    i = self._position + ahead
    return self._tokens[i] if 0 <= i < len(self._tokens) else _END

  def _next(self) -> _Token:
    token = self.peek()
    self._position += 1
    return token

  def _is(self, kind: str, *texts: str) -> bool:
    token = self.peek()
    return token.kind == kind and (not texts or token.text in texts)

  def _take(self, kind: str, *texts: str) -> bool:
    if self._is(kind, *texts):
      self._position += 1
      return True
    return False

  def _expect(self, kind: str, *texts: str) -> _Token:
    if not self._is(kind, *texts):
      raise Unreadable(
        f'{self.peek().text or self.peek().kind!a} for {texts or kind}'
      )
    return self._next()

  def _nested(self, parse_inner: Callable[[], Any]) -> Any:
    self._depth += 1
    if self._depth > _DEPTH:
      raise TooLarge(f'nested deeper than {_DEPTH}')
    # A bar inside other brackets closes nothing outside of them.
    bars, self._bars = self._bars, 0
    node = parse_inner()
    self._bars = bars
    self._depth -= 1
    return node

  # Lists and statements.

  def answer(self) -> Node:
    """A list of lists, a list, or one statement."""
    groups = [self._commas()]
    while self._take('sign', ';'):
      if self.peek() != _END and not self._is('escaped', '\\}'):
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
      elif _separates(self.peek()):
        found = self._next().text.strip(' ,').lower()
      else:
        return found

  def _closes(self) -> bool:
    token = self.peek()
    return (
      token == _END
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
    listed |= _ROMAN.fullmatch(text) is not None
    return listed and all(
      t == _END or t.text in _AROUND or _separates(t) for t in (before, after)
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

  # Expressions.

  def _sum(self) -> Node:
    node = self._terms()
    if node.op != 'add':
      return node
    # In `3 - 2 \\text{ cm}` the unit is that of the sum.
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
        left = _joined('add', terms) if terms else _ZERO
        terms = [self._wrapped(Node('pm', (left, self._product(), sign)))]
      else:
        return _joined('add', terms)

  def _product(self) -> Node:
    factors = [self._signed()]
    while True:
      if self._take('sign', '*') or self._take('command', *_TIMES):
        factors.append(self._signed())
        continue
      if self._is('sign', '/') and _has_rate(factors) and self._is_unit_below():
        self._next()
        name = units.unit(f'/{self._unit_words()}')
        factors = [self._wrapped(Node('quantity', (factors[0], name)))]
        continue
      if self._take('sign', '/') or self._take('command', 'div'):
        # Flat, however long; NO/BO is one node, since it can be a name.
        first = len(factors) == 1 and factors[0].op != 'divide'
        left = factors.pop() if first else _ONE
        factors.append(Node('divide', (left, self._signed())))
        continue
      if self._starts_factor() and not self._is_unit():
        factors.append(self._juxtaposed(factors))
        continue
      node = _joined('multiply', factors)
      if self._take('command', 'bmod', 'mod'):
        node = Node('call', ('mod', node, self._signed()))
      elif _takes_unit(node) and (name := self._unit()) is not None:
        node = Node('quantity', (node, name))
      else:
        return node
      factors = [self._wrapped(node)]

  def _wrapped(self, node: Node) -> Node:
    """`node`, one level deeper than what it was made from."""
    self._wraps += 1
    if self._wraps > _DEPTH:
      raise TooLarge(f'over {_DEPTH} operations in a row')
    return node

  def _juxtaposed(self, factors: list[Node]) -> Node:
    """`2x`, `2 \\sqrt 3`; in `2\\frac{3}{4}` and `2 3/4` the last factor is
    taken back, for a mixed number."""
    after_number = self.peek(-1).kind == 'number'
    token = self.peek()
    grouped = self.peek(-1).text in (')', ']') or token.text in ('(', '[')
    right = self._power()
    last = factors[-1]
    negative = last.op == 'negate'
    left = last.args[0] if negative else last
    touching = not after_number or token.kind != 'number'
    if left.op == right.op == 'number' and touching and not grouped:
      # {4}2 shows 42.
      raise Ambiguous('two numbers side by side')
    if not after_number or left.op != 'number' or left.args[1]:
      return right
    part = None
    if token.kind == 'number' and right.op == 'number':
      part = self._mixed(right, token.spaced)
    elif token == _Token('command', 'frac', token.spaced):
      part = _proper_fraction(right)
    if part is None:
      return right
    mixed = Node('number', (left.args[0] + part, 0))
    factors.pop()
    return Node('negate', (mixed,)) if negative else mixed

  def _mixed(self, above: Node, spaced: bool) -> Fraction:
    """The 3/4 of `2 3/4`; other numbers side by side mean nothing."""
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
      return not _separates(token)
    if token.kind == 'text':
      return _is_letter(token.text)
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
    return after == _END or after.text in ('cup', ',', ';', ')')

  def _is_unit(self) -> bool:
    """Whether what follows a value is no factor but its unit."""
    token = self.peek()
    if token.text.strip(' .') in units.FUNCTIONS and token.kind in _NAMED_KINDS:
      return not self._starts_argument()
    if self._is('word'):
      after = self.peek(-1)
      numbered = token.spaced and after.kind in ('number', 'scientific')
      return _is_unit_word(token) or (numbered and token.text in units.SPACED)
    if self._is('command', 'Omega'):
      return self.peek(-1).kind == 'number'
    # 10 \\frac{\\mathrm{m}}{\\mathrm{s}^2}
    above = self.peek(2)
    return (
      self._is('command', 'frac')
      and above.kind == 'text'
      and not _is_letter(above.text)
    )

  def _starts_argument(self) -> bool:
    """Whether what follows is what a function could be of."""
    start = self._position
    self._position += 1
    if self._take('sign', '^'):
      self._position += 3 if self._is('sign', '{') else 1
    begins = self._starts_factor() or self._is('sign', '_')
    self._position = start
    return begins

  def _unit(self) -> str | None:
    """Takes a unit, percent or plain words behind a value."""
    token = self.peek()
    if self._take('sign', '%') or self._take('escaped', '\\%'):
      return 'percent'
    if self._take('escaped', '\\$'):
      return 'dollar'
    if _separates(token) or not self._names_unit():
      return None
    return units.unit(self._unit_words())

  def _names_unit(self) -> bool:
    token = self.peek()
    return (token.kind == 'text' and not _is_letter(token.text)) or (
      self._is_unit()
    )

  def _unit_words(self) -> str:
    """Takes factors, with what they are by: `\\text{km}/\\text{h}`."""
    parts = [self._unit_factor()]
    while True:
      sign = self.peek()
      if self._names_unit() and not _separates(sign):
        parts += [' ', self._unit_factor()]
      elif self.peek(1).kind == 'text' and (
        self._take('sign', '/', '*') or self._take('command', *_TIMES)
      ):
        parts += ['/' if sign.text == '/' else '*', self._unit_factor()]
      elif (
        sign.text == '-'
        and self.peek(1).kind == 'text'
        and self._is_unit_below()
      ):
        self._next()
        parts += ['*', self._unit_factor()]
      elif self._is('sign', '/') and self._is_unit_below():
        self._next()
        parts += ['/', self._unit_factor()]
      else:
        return ''.join(parts)

  def _is_unit_below(self) -> bool:
    """Whether a unit follows a sign: km/h, \\text{N}-\\text{m}."""
    below = self.peek(1)
    if below.text == '(':
      return self.peek(2).kind == 'text'
    return below.kind in _NAMED_KINDS and bool(units.known(below.text.strip()))

  def _unit_factor(self) -> str:
    """Takes words and their power."""
    token = self._next()
    if token.text == 'frac':
      self._expect('sign', '{')
      above = self._nested(self._unit_words)
      self._expect('sign', '}')
      self._expect('sign', '{')
      below = self._nested(self._unit_words)
      self._expect('sign', '}')
      return f'{above}/{below}'
    if token.text == '(':
      inner = self._nested(self._unit_words)
      self._expect('sign', ')')
      return inner
    parts = ['ohm' if token.text == 'Omega' else token.text]
    while token.kind == 'word' and self._is('word'):
      if _separates(self.peek()):
        break
      parts.append(self._next().text)
    text = ' '.join(parts).strip()
    if self._take('sign', '^'):
      power = self._exponent()
      inner = power.args[0] if power.op == 'negate' else power
      if inner.op != 'number' or inner.args[0] not in (1, 2, 3, 4):
        raise Unreadable('a power of a unit')
      text += f'^{"-" * (power.op == "negate")}{inner.args[0]}'
    return text

  def _power(self) -> Node:
    base = self._postfix()
    while self._take('sign', '^'):
      if self._degree():
        base = self._wrapped(Node('degree', (base,)))
        continue
      exponent = self._exponent()
      base = Node('power', (base, exponent))
      if self._is('sign', '^') and not self._tower_is_degree():
        # a^b^c is no LaTeX; as plain text it is a^(b^c).
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

  # Atoms.

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

  def _is_currency(self, token: _Token) -> bool:
    """Whether a word is the currency of a number after it: USD 5."""
    amount = self.peek(int(self._is('sign', '-')))
    return (
      token.kind in ('word', 'text')
      and amount.kind in ('number', 'scientific')
      and units.is_currency(token.text)
    )

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
    """Whether (IV) is an element of its own: as a product it equals (VI)."""
    token, before, after = self.peek(), self.peek(-2), self.peek(2)
    if token.kind != 'word' or _ROMAN.fullmatch(token.text) is None:
      return False
    return self.peek(1).text == ')' and all(
      t == _END or t.text in (',', ';') or _separates(t)
      for t in (before, after)
    )

  def _number(self, text: str) -> Node:
    if text[0] == '0' and text[1:].isdigit() and self.peek(-2).text == ':':
      # The minutes of 1:05, which is not 1:5.
      return Node('text', (text,))
    node = Node('number', (_fraction(text), _places(text)))
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

  def _word(self, token: _Token) -> Node:
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
      while self._is('word') and not _separates(self.peek()):
        words.append(self._next().text)
      return Node('text', (fold(' '.join(words)),))
    # The last letter takes the subscript, the power or the parenthesis.
    if len(text) > 1:
      self._position -= 1
      rest = [_Token('letter', c, False) for c in text]
      self._tokens[self._position : self._position + 1] = rest
      return self._atom()
    return self._letter(text)

  def _is_product(self, text: str) -> bool:
    """Whether a long word is letters to multiply, as in 4abcd and xyzt."""
    before = self.peek(-2)
    touches = before != _END and not self.peek(-1).spaced
    touches &= before.kind in ('number', 'letter') or before.text in (')', '}')
    run = ''.join(chr(ord(text[0]) + i) for i in range(len(text)))
    return touches or text == run

  def _named(self, text: str) -> Node:
    if text == 'sqrt':
      return Node('root', (self._argument(True), 2))
    return Node('constant', ('infinity',))

  def _letter(self, name: str, split: bool = False) -> Node:
    # In mg(h + 1) nothing is a function; I(0) is a value, and never I times 0.
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
    """The text of a subscript: it names, it is not computed."""
    if not self._take('sign', '{'):
      return self._next().text
    depth, parts = 1, []
    while depth:
      token = self._next()
      if token == _END:
        raise Unreadable('an open subscript')
      depth += {'{': 1, '}': -1}.get(token.text, 0)
      parts.append(token.text)
    return ''.join(parts[:-1])

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
    return Node('text', (fold(words),))

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
    """What a command or ^ takes: a group, or one token.

    TeX takes one digit, as in `\\frac12`; behind ^ people mean the number.
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
      return Node('number', (_fraction(token.text), _places(token.text)))
    if token.kind == 'word' and len(token.text) > 1 and token.text != 'pi':
      first, rest = token.text[0], token.text[1:]
      self._tokens[self._position] = token._replace(text=rest, spaced=False)
      self._tokens.insert(self._position, _Token('word', first, False))
    return self._nested(self._atom)

  def _braced(self) -> Node:
    node = self._commas()
    self._expect('sign', '}')
    return node

  def _tuple(self, bracket: str) -> Node:
    """Parentheses that group, a tuple, or an interval."""
    if self._take('sign', ')'):
      return Node('tuple', ('(', ')'))
    node = self.answer()
    close = self._expect(
      'sign', ')', ']', *('[' if bracket in '[]' else '')
    ).text
    if node.op in _LISTS:
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
    if texts[0] in ('|', ':') and self.peek(-1) != _END:
      # {x | x > 3} is what x > 3 says, but {y | x > 3} is not.
      self._position += 2
      start = self._position
      node = self._commas()
      if name not in {t.text for t in self._tokens[start : self._position]}:
        raise Unreadable('a set of another name')
      self._expect('escaped', '\\}')
      return node
    if self._take('begin', 'array'):
      # \\left\\{ in front of lines, with no other end.
      node = self._matrix('cases')
      self._take('escaped', '\\}')
      return node
    node = self.answer()
    self._expect('escaped', '\\}')
    return Node('set', node.args if node.op in _LISTS else (node,))

  def _absolute(self) -> Node:
    bars, self._bars = self._bars, self._bars + 1
    self._depth += 1
    if self._depth > _DEPTH:
      raise TooLarge(f'nested deeper than {_DEPTH}')
    node = self._sum()
    self._expect('sign', '|')
    self._depth -= 1
    self._bars = bars
    return Node('call', ('abs', node))

  def _delimited(self, name: str) -> Node:
    node = self._commas()
    closing_name = 'r' + name[1:]
    self._expect('command', closing_name)
    if name == 'langle':
      items = node.args if node.op in _LISTS else (node,)
      return Node('tuple', ('(', ')', *items))
    return Node('call', (name[1:], node))

  def _matrix(self, name: str) -> Node:
    """The rows of a matrix; of `cases` one column is a list, two are pieces."""
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

  def _function(self, name: str) -> Node:
    """A named function, its power or base, and its argument."""
    power = base = None
    while self._is('sign', '^', '_'):
      if self._next().text == '^':
        power = self._exponent()
      else:
        base = self._argument()
    if name in vocabulary.INVERSE and power == _MINUS_ONE:
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
      # In \\sin x(1 + \\cos x) and \\ln 2(x + 1) the bracket is not theirs.
      if self._is('sign', '(', '['):
        break
      factors.append(self._juxtaposed(factors))
    node = _joined('multiply', factors)
    return Node('negate', (node,)) if negative else node

  def _starts_function(self) -> bool:
    token = self.peek()
    return (
      token.kind in ('word', 'command') and token.text in vocabulary.FUNCTIONS
    )


def _separates(token: _Token) -> bool:
  """Whether it is `and` or `or`."""
  return (
    token.kind in ('text', 'word')
    and token.text.strip(' ,').lower() in vocabulary.SEPARATORS
  )


def _takes_unit(node: Node) -> bool:
  """Whether a value has no unit yet; \\$5 may also be 5 per hour."""
  return node.op != 'quantity' or units.is_prefix(node.args[1])


def _has_rate(factors: list[Node]) -> bool:
  """Whether they are one amount of money, as in \\$5/\\text{h}."""
  return len(factors) == 1 and factors[0].op == 'quantity'


def _is_letter(text: str) -> bool:
  """Whether the \\text behind a value is a factor, like \\text{e}."""
  text = text.strip()
  if text in vocabulary.FUNCTIONS or text == 'pi':
    return True
  return len(text) == 1 and not units.known(text)


def _is_unit_word(token: _Token) -> bool:
  """Whether a word behind a value, without \\text, is no product."""
  word = token.text
  # mL and KM are products.
  known = word in units.BARE or (len(word) > 2 and word.lower() in units.BARE)
  # `5 apples`, but not `4abcd`.
  plain = word not in vocabulary.FUNCTIONS and word.islower()
  return known or (plain and len(word) > 3 and token.spaced)


def _joined(op: str, parts: list[Node]) -> Node:
  """One node for a sum or product of any length, so that trees stay low."""
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


_INFIX = vocabulary.words(
  'cdot times ast div pm mp cup cap setminus bmod mod pmod rfloor '
  'rceil rangle lor land vee circ prime'
)
_ROMAN = re.compile('[IVX]{2,}|[ivx]{2,}')
_ZERO = Node('number', (Fraction(0), 0))
_CONDITION = ('if', 'for', 'when')
_BLOCKS = ('array', 'cases', 'aligned')
_LISTS = ('list', 'both', 'either')
_NAMED = ('pi', 'sqrt', 'infty', 'infinity', 'oo')
_NAMED_KINDS = ('word', 'text', 'command')
_AROUND = (',', ';', '\\{', '\\}', '(', ')', '[', ']')
_TIMES = ('cdot', 'times', 'ast')
_ONE = Node('number', (Fraction(1), 0))
_MINUS_ONE = Node('negate', (_ONE,))


def fold(words: str) -> str:
  """Returns words without regard to case, spacing and final stop."""
  words = ' '.join(words.split()).strip('.,;:! ')
  # Labels as HT and ABCD are what they are.
  return words if words.isupper() and len(words) < 6 else words.casefold()


def _fraction(text: str) -> Fraction:
  """Returns the value of a number token, periods included."""
  match = re.fullmatch(
    r'([0-9]*)\.?([0-9]*)(?:\\overline ?\{ ?([0-9]+) ?\}|'
    r'\\dot ?\{([0-9])\}(?:([0-9]*)\\dot ?\{([0-9])\})?|\(([0-9]+)\))?',
    text,
  )
  whole, places, cycle, first, middle, last, bracket = match.groups('')
  cycle = cycle or bracket or first + middle + last
  if cycle and '.' not in text:
    raise Unreadable('a period without a decimal point')
  value = Fraction(int(whole + places or '0'), 10 ** len(places))
  if cycle:
    value += Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(places))
  return value


def _scientific(text: str) -> Node:
  digits, _, exponent = text.lower().partition('e')
  if len(exponent) > 5 or abs(int(exponent)) > 9999:
    raise TooLarge('an exponent of five digits')
  value = _fraction(digits) * Fraction(10) ** int(exponent)
  return Node('number', (value, 0))


def _places(text: str) -> int:
  """Returns the digits behind the point; a period has no end of them."""
  return 0 if {'\\', '('} & {*text} else len(text.partition('.')[2])


def _proper_fraction(node: Node) -> Fraction | None:
  """Returns the value of a fraction of two whole numbers below 1."""
  if node.op != 'divide' or any(arg.op != 'number' for arg in node.args):
    return None
  above, below = (arg.args[0] for arg in node.args)
  whole = above.denominator == below.denominator == 1
  return above / below if whole and 0 < above < below else None


def _reciprocal(node: Node) -> Node:
  return Node('divide', (_ONE, node))
