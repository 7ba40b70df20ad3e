r"""The letter of a multiple-choice answer, and the text after it.

`(B) 14`, `\textbf{(B)}\ 14`, `B. 14` and `B) 14` are a letter and a value, not
a product. One box holds one option: `(A) 5 (B) 6` and `(A) B` are ambiguous.
"""

import re
from typing import NamedTuple

from acereason_jax.verifiers.answers.spelling import WORD_COMMAND as _WORD
from acereason_jax.verifiers.answers.vocabulary import Ambiguous

_LABEL = r'(?:(?:Option|Choice) )?(?:\( ?[A-J] ?\)|[A-J])'
# \textbf{(B)} 14, \text{B) }14 and \text{E. the value }5
_WRAPPED_LABEL = re.compile(
  rf'{_WORD} ?\{{ ?(?P<label>{_LABEL} ?[.):]?) ?\}}'
  rf'|(?P<command>{_WORD}) ?\{{ ?(?P<first>{_LABEL}[.):]?) '
  r'(?P<rest>[^{}]*)\}'
)
_INNER = re.compile(rf'\( ?{_WORD} ?\{{ ?([A-J]) ?\}} ?\)')
_OPTION = re.compile(
  r'(?:(?P<named>Option|Choice) )?'
  r'(?:\( ?(?P<bracketed>[A-J]) ?\)|(?P<bare>[A-J]))'
  r'(?: ?(?P<stop>[.):]))?(?P<space> *)(?P<value>.*)',
  re.DOTALL,
)
_LETTER = re.compile(rf'(?:\(|{_WORD} ?\{{| )*([A-J])[) }}]*')
# Text that continues an expression in which (A) is a variable.
_GOES_ON = re.compile(
  r"[-+=<>*/^_!',;|)\]}&]|\\(?:cdot|times|div|cup|cap|in|le|ge|ne|pm|to|approx"
  rf'|equiv|setminus)(?![A-Za-z])|(?:{_WORD} ?\{{ ?)?(?:and|or)(?![A-Za-z])'
)
_NEGATIVE = re.compile(r'-[0-9.\\A-Za-z(]')
_ANOTHER = re.compile(
  rf'(?<![A-Za-z0-9])\( ?(?:{_WORD} ?\{{ ?)?[A-J] ?\}}? ?\)'
  r'|(?<![A-Za-z\\])[A-J][.):](?= |$|\})'
  rf'|^(?:{_WORD} ?\{{ ?)?(?:and|n?or|not)(?![A-Za-z])'
  r'|(?<![A-Za-z])(?:wrong|incorrect|false)(?![A-Za-z])'
  # B is not right, cannot be the answer; but B: it does not exist.
  r"|(?:(?<![A-Za-z])(?:not|never|cannot)|n['\u2019]t)(?![A-Za-z])[a-z ]{0,30}"
  r'(?<![A-Za-z])(?:correct|right|true|valid|answer|option|choice|chosen|it)'
  r'(?![A-Za-z])'
)
_NUMBER = re.compile('[-+]?[.0-9]')
_NAMED = re.compile('([A-J]) ?= ?(.+)', re.DOTALL)
_LONE = re.compile(r'(?<![A-Za-z\\])[A-J](?![A-Za-z])')
# The beginning of an option's text.
_FIRST = frozenset('\\(ABCDEFGHIJO')
_DOUBT = re.compile(
  r'(?<![A-Za-z])(?:and|n?or|not|never|cannot|wrong|incorrect|false)'
  r"(?![A-Za-z])|n['\u2019]t(?![A-Za-z])"
)


class Option(NamedTuple):
  """An option of a multiple-choice question.

  letter: letter of the option.
  value: text of its value, '' without one.
  colon: whether a colon divides them; it may be part of a ratio or a name.
  """

  letter: str
  value: str
  colon: bool = False


def split(text: str) -> Option | None:
  """Returns the option that a typeset text states, None if there is none.

  Raises:
    Ambiguous: it may be an option or a product, or it names two.
  """
  if text[0] not in _FIRST:
    return None
  plain, decorated = _unwrapped(text)
  match = _OPTION.fullmatch(plain)
  if match is None:
    return None
  letter, value = match['bracketed'] or match['bare'], match['value'].strip()
  if match['bare'] and not match['named']:
    if not match['stop']:
      if decorated and _NUMBER.match(value):
        raise Ambiguous('a letter in front of a number')
      return None
    if value and match['stop'] in '.:' and not match['space']:
      if match['stop'] == '.' and value[0].isdigit():
        raise Ambiguous('a letter in front of a number')
      return None
  elif not match['stop'] and value and not _begins(match, decorated):
    return None
  colon = match['stop'] == ':'
  if _ANOTHER.search(value) or _LETTER.fullmatch(value):
    if colon:
      # A: B: C = 1: 2: 3
      return None
    raise Ambiguous('more than one option')
  return Option(letter, value, colon)


def letter(text: str) -> str:
  """Returns the letter in a text of one decorated letter, or ''."""
  match = _LETTER.fullmatch(text)
  return '' if match is None else match[1]


def named(text: str) -> Option | None:
  """Returns the option in `A = 5`, if A is the letter of an option."""
  match = _NAMED.fullmatch(text)
  return None if match is None else Option(*match.groups())


def doubts(text: str) -> bool:
  """Whether words change the meaning of a letter: `A is wrong`."""
  return _DOUBT.search(text) is not None


def letters(text: str) -> set[str]:
  """Returns the letters of options that stand on their own in a text."""
  return {*_LONE.findall(text)}


def _unwrapped(text: str) -> tuple[str, bool]:
  r"""Returns `text` with a plain label, and whether it was in a \text."""
  text = _INNER.sub(r'(\1)', text)
  match = _WRAPPED_LABEL.match(text)
  if match is None:
    return text, False
  behind = text[match.end() :]
  if match['label'] is not None:
    return f'{match["label"]} {behind.lstrip()}', True
  words = f'{match["command"]}{{{match["rest"]}}}'
  return f'{match["first"]} {words}{behind}', True


def _begins(match: re.Match, decorated: bool) -> bool:
  """Whether a value follows (A), rather than an expression with A."""
  value, apart = match['value'], bool(match['space']) or decorated
  if _NEGATIVE.match(value) and apart:
    return True
  if _GOES_ON.match(value):
    return False
  return apart or value[0].isdigit() or value[0] in '\\$'
