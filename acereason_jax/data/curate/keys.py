r"""Tokens of a statement: what n-grams, duplicates and lengths are counted in.

How a text is split decides which copies are found. Words between blanks keep
`$` and full stops, so a copy with other punctuation shares few n-grams with its
original. Here a token is a run of letters or a run of digits, after one form of
Unicode and in small letters; a symbol is no token.
"""

import re
import unicodedata

_TOKEN = re.compile(r'[^\W\d_]+|\d+')
_FRACTION = re.compile(r'\\[dt]frac(?![a-z])')
# \frac12 is 1 over 2.
_BARE_FRACTION = re.compile(r'\\frac\s?(\d)\s?(?=\d)')
# They change how a formula looks, never what it says.
_TYPESETTING = re.compile(
  r'\\(?:left|right|big{1,2}[lrm]?|displaystyle|textstyle|limits|nolimits'
  r'|q?quad|(?:text|math)(?:rm|bf|it|sf|tt)|text|mbox|operatorname'
  r')(?![a-z])'
)


def tokens(text: str) -> list[str]:
  """The runs of letters and of digits, in small letters; time is linear."""
  return _TOKEN.findall(folded(text))


def folded(text: str) -> str:
  r"""One form of Unicode, small letters, one \frac, no typesetting."""
  if not text.isascii():
    text = unicodedata.normalize('NFKC', text)
  # First, since a copy may be in capitals: \DFRAC.
  text = text.lower()
  if '\\' in text:
    text = _TYPESETTING.sub(' ', text)
    text = _FRACTION.sub(r'\\frac', text)
    text = _BARE_FRACTION.sub(r'\\frac \1 ', text)
  return text
