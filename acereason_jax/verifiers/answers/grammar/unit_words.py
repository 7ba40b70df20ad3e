r"""Words after a value: its unit, or the things that it counts."""

from acereason_jax.verifiers.answers import (
  tokens,
  unit_table,
  units,
  vocabulary,
)
from acereason_jax.verifiers.answers.grammar.cursor import Cursor
from acereason_jax.verifiers.answers.tokens import Token
from acereason_jax.verifiers.answers.vocabulary import Unreadable

TIMES = ('cdot', 'times', 'ast')
NAMED_KINDS = ('word', 'text', 'command')


class UnitWords(Cursor):
  r"""`\text{km}/\text{h}`, `apples`, `\%`."""

  def _unit(self) -> str | None:
    """Takes a unit, percent or plain words after a value."""
    token = self.peek()
    if self._take('sign', '%') or self._take('escaped', '\\%'):
      return 'percent'
    if self._take('escaped', '\\$'):
      return 'dollar'
    if tokens.separates(token) or not self._names_unit():
      return None
    return units.unit(self._unit_words())

  def _names_unit(self) -> bool:
    token = self.peek()
    return (token.kind == 'text' and not is_letter(token.text)) or (
      self._is_unit()
    )

  def _is_unit(self) -> bool:
    """Whether a value is followed by its unit rather than a factor."""
    token = self.peek()
    if (
      token.text.strip(' .') in unit_table.FUNCTIONS
      and token.kind in NAMED_KINDS
    ):
      return not self._starts_argument()
    if self._is('word'):
      after = self.peek(-1)
      numbered = token.spaced and after.kind in ('number', 'scientific')
      return _is_unit_word(token) or (
        numbered and token.text in unit_table.SPACED
      )
    if self._is('command', 'Omega'):
      return self.peek(-1).kind == 'number'
    # 10 \\frac{\\mathrm{m}}{\\mathrm{s}^2}
    above = self.peek(2)
    return (
      self._is('command', 'frac')
      and above.kind == 'text'
      and not is_letter(above.text)
    )

  def _starts_argument(self) -> bool:
    """Whether the next tokens could be the argument of a function."""
    start = self._position
    self._position += 1
    if self._take('sign', '^'):
      self._position += 3 if self._is('sign', '{') else 1
    begins = self._starts_factor() or self._is('sign', '_')
    self._position = start
    return begins

  def _unit_words(self) -> str:
    """Takes factors and divisors: `\\text{km}/\\text{h}`."""
    parts = [self._unit_factor()]
    while True:
      sign = self.peek()
      if self._names_unit() and not tokens.separates(sign):
        parts += [' ', self._unit_factor()]
      elif self.peek(1).kind == 'text' and (
        self._take('sign', '/', '*') or self._take('command', *TIMES)
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
    """Whether a unit follows an operator: km/h, \\text{N}-\\text{m}."""
    below = self.peek(1)
    if below.text == '(':
      return self.peek(2).kind == 'text'
    return below.kind in NAMED_KINDS and bool(units.known(below.text.strip()))

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
      if tokens.separates(self.peek()):
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


def is_letter(text: str) -> bool:
  """Whether the \\text after a value is a factor, like \\text{e}."""
  text = text.strip()
  if text in vocabulary.FUNCTIONS or text == 'pi':
    return True
  return len(text) == 1 and not units.known(text)


def _is_unit_word(token: Token) -> bool:
  """Whether a word after a value, without \\text, is not a product."""
  word = token.text
  # mL and KM are products.
  known = word in unit_table.BARE or (
    len(word) > 2 and word.lower() in unit_table.BARE
  )
  # `5 apples`, but not `4abcd`.
  plain = word not in vocabulary.FUNCTIONS and word.islower()
  return known or (plain and len(word) > 3 and token.spaced)
