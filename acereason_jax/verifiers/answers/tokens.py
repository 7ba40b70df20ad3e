r"""A normalised LaTeX text as tokens."""

import re
from fractions import Fraction
from typing import NamedTuple

from acereason_jax.verifiers.answers.spelling import WORD_COMMAND
from acereason_jax.verifiers.answers.vocabulary import SEPARATORS, Unreadable

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
# A numeral, not a product of variables.
ROMAN = re.compile('[IVX]{2,}|[ivx]{2,}')
_BLOCK = re.compile(r'\\math(?:bb|cal|frak)\s*\{([A-Za-z])\}')


class Token(NamedTuple):
  """A token of a text.

  kind: group of `_TOKEN` that it matched, or 'letter', split from a word.
  text: its text; for \\text and similar commands, the words inside.
  spaced: whether a space comes before it.
  """

  kind: str
  text: str
  spaced: bool


END = Token('end of text', '', False)


def tokens(text: str) -> list[Token]:
  """Returns the tokens of a normalised text.

  Raises:
    Unreadable: a character is unknown.
  """
  text = _BLOCK.sub(r'\\blackboard\1 ', text)
  found, position, spaced = [], 0, False
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
    found.append(Token(kind, content, spaced))
    spaced = False
  return found


def separates(token: Token) -> bool:
  """Whether the token is `and` or `or`."""
  return (
    token.kind in ('text', 'word')
    and token.text.strip(' ,').lower() in SEPARATORS
  )


def fraction(text: str) -> Fraction:
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


def places(text: str) -> int:
  """Returns the number of digits after the point; 0 for a repeating decimal."""
  return 0 if {'\\', '('} & {*text} else len(text.partition('.')[2])
