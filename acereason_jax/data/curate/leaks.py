r"""Statements that tell their own answer: 'answer: 42', '\boxed{42}'.

The reference somewhere in a statement is no leak: it is in every seventh.
"""

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from acereason_jax.data.curate import gates, statements
from acereason_jax.data.curate.values import Row

_MARK = gates.Gated(
  # One alternative: the marks are looked at in their order.
  r'(?:'
  r'\\boxed\s{0,9}\{(?!\s{0,9}\})|####|\b(?:answers?|ans|solution|result'
  r'|response|key)\b\W{0,3}?'
  r'(?:(?:to (?:this|the) (?:problem|question|exercise)|here|therefore|then'
  r'|thus|of the (?:problem|question)),? )?(?: ?(?:is|are|was|equals?|will be'
  r'|should be'
  r'|must be|would be|comes? (?:out )?to|turns out to be)\b'
  r'(?: (?:therefore|thus|hence|then|simply|just|clearly|equal to'
  r'|exactly))? ?:?| ?[:=]|'
  r' [-\u2013\u2014](?= )|\.(?= ?\S))'
  r'|\bans(?:wer)?\s?[\])]\s?:?'
  # Answer, and the value on the next line.
  r'|(?<=\n)(?:final )?(?:answer|ans|solution|key)\s{0,3}\n'
  # Answer 24.
  r'|(?<=[.?!$)\n] )(?:answer|ans)\b(?= ?[$\\\d(])'
  r'|(?<=\n)(?:answer|ans)\b(?= ?[$\\\d(]))',
)
_MARKS = 200
_ANSWER_CHARS = 1000
_SKIPPED = re.compile(
  r'</?[a-z][a-z0-9]{0,9}(?: [^<>\n]{0,80})?/?>'
  r'|\\(?:left|right|displaystyle|boxed|fbox|(?:text|math)(?:bf|rm|it|sf)?|mbox'
  r'|[,;:!() \[\]])(?![a-zA-Z])|[$\s*{}"\u201c\u201d~]|(?<=\d),(?=\d{3}(?!\d))'
)
_OPENING = re.compile(r'[:=>]*')
_NAMED = re.compile(r'[:=.>]*(?:[a-z0-9()+\-*^_|/]{1,20}=)?')
_NUMBER = re.compile(
  r'(-?)(?:\\frac(-?\d{1,40})/(\d{1,40})/'
  r'|(\d{1,40}(?:\.\d{1,40})?)(?:/(\d{1,40}))?)'
)
_FRACTION = re.compile(
  r'\\[dt]?frac\s?(?:\{\s?(-?\d{1,40})\s?\}|(\d))\s?'
  r'(?:\{\s?(\d{1,40})\s?\}|(\d))'
)
# Words behind a value that do not make it another one.
_WORDS_AFTER = re.compile(
  r'(\w[$)}]{0,3})(\s+(?!(?:and|or|to|times|plus|minus|more|less|over|of|mod'
  r'|modulo|divided|by|per|percent|x|multiplied|squared|cubed|factorial'
  r'|percent|thousand|hundred|million|dozen|out)\b)[a-z]{2,}\b)',
  re.IGNORECASE,
)
_GOES_ON = re.compile(
  # A percentage may be asked for as its number.
  r'[\w^/+*=<>(]|-\d|[.,]\d|\\(?:frac|sqrt|pi|cdot|times)'
)


def leak(row: Row) -> Mapping[str, Any] | None:
  r"""An 'answer is', 'answer:' or \boxed with the reference right behind it."""
  if len(row.answer) > _ANSWER_CHARS:
    return None
  problem = row.problem[: statements.CHARS]
  if not _MARK.admits(small := gates.small(problem)):
    return None
  wanted = _squeezed(row.answer)
  if not wanted:
    return None
  value = _whole_number(wanted)
  for count, match in enumerate(_MARK.finditer(problem, small)):
    if count == _MARKS:
      return None
    end = match.end()
    told = problem[end : end + 3 * len(row.answer) + 80]
    # The answer is 30 but why?
    for form in (told, _WORDS_AFTER.sub(r'\1;\2', told)):
      after = _squeezed(form)
      # x = 5 may be the reference, or name it.
      starts = _OPENING.match(after).end(), _NAMED.match(after).end()
      if any(_begins(after[start:], wanted, value) for start in starts):
        return {'matched': statements.shown(problem, match.start(), end + 40)}
  return None


def _begins(after: str, wanted: str, value: Fraction | None) -> bool:
  """Whether a text begins with the reference and does not go on with it."""
  if after.startswith(wanted) and not _GOES_ON.match(after, len(wanted)):
    return True
  match = None if value is None else _NUMBER.match(after)
  if match is None or _GOES_ON.match(after, match.end()):
    return False
  return _number(match) == value


def _squeezed(text: str) -> str:
  """A text without blanks, `$`, braces and what only sets type."""
  text = unicodedata.normalize('NFKC', text).lower().replace('{,}', ',')
  text = _FRACTION.sub(lambda m: rf'\frac{m[1] or m[2]}/{m[3] or m[4]}/', text)
  return _SKIPPED.sub('', text).rstrip('.')


def _whole_number(wanted: str) -> Fraction | None:
  match = _NUMBER.fullmatch(wanted)
  return None if match is None else _number(match)


def _number(match: re.Match) -> Fraction | None:
  sign, above, below, plain, over = match.groups()
  if above is not None:
    if int(below) == 0:
      return None
    value = Fraction(int(above), int(below))
  elif over is not None:
    if int(over) == 0:
      return None
    value = Fraction(plain) / int(over)
  else:
    value = Fraction(plain)
  return -value if sign else value
