r"""Tokens of a statement: what n-grams, duplicates and lengths are counted in.

How a text is split decides which copies are found. Words between blanks keep
`$` and full stops, so a copy with other punctuation shares few n-grams with its
original. Here a token is a run of letters or a run of digits, after one form of
Unicode and in small letters; a symbol is no token.
"""

import re
import unicodedata

from acereason_jax.data.curate import labels

_TOKEN = re.compile(r'[^\W\d_]+|\d+')
_FRACTION = re.compile(r'\\[dt]frac(?![a-z])')
# \frac12 is 1 over 2.
_BARE_FRACTION = re.compile(r'\\frac\s?(\d)\s?(?=\d)')
# They change how a formula looks, never what it says.
_TYPESETTING = re.compile(
  r'\\(?:left|right|big{1,2}[lrm]?|displaystyle|textstyle|limits|nolimits'
  r'|q?quad|(?:text|math)(?:rm|bf|it|sf|tt)|text|mbox|operatorname)(?![a-z])'
)
# Unicode's signs for commands of TeX.
_SIGNS = str.maketrans(
  {
    '\N{MULTIPLICATION SIGN}': ' \\times ',
    '\N{MIDDLE DOT}': ' \\cdot ',
    '\N{DOT OPERATOR}': ' \\cdot ',
    '\N{DIVISION SIGN}': ' \\div ',
    '\N{LESS-THAN OR EQUAL TO}': ' \\le ',
    '\N{GREATER-THAN OR EQUAL TO}': ' \\ge ',
    '\N{NOT EQUAL TO}': ' \\ne ',
    '\N{MINUS SIGN}': '-',
    '\N{EN DASH}': '-',
    '\N{HYPHEN}': '-',
    '\N{SQUARE ROOT}': ' \\sqrt ',
    '\N{GREEK SMALL LETTER PI}': ' \\pi ',
    '\N{DEGREE SIGN}': ' ^\\circ ',
    '\N{INFINITY}': ' \\infty ',
    **{sign: f'^{i}' for i, sign in enumerate('\u2070\xb9\xb2\xb3\u2074')},
    **{chr(0x2070 + i): f'^{i}' for i in range(5, 10)},
  }
)
_LONG_SIGN = re.compile(r'\\(le|ge|ne)q(?![a-z])')
_BLANKS = re.compile(r'[^\S\n]+')
# x^{2} is x^2.
_ONE_IN_BRACES = re.compile(r'\{ ?(\w) ?\}')
_THOUSANDS = re.compile(r'(?<=\d),(?=\d{3}(?!\d))')
# 8-sided is 8 sided, and x-1 is no such word.
_HYPHEN = re.compile(r'(?<=\w)-(?=[^\W\d_]{2})')
# A decimal point, digits, letters, and the signs that change a formula.
_SIGNIFICANT = re.compile(
  r'(?<=\d)\.(?=\d)|[^\W\d_]+|\d+|[^\w\s.,;:?$\'"\\`~&#]'
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


def key(problem: str) -> str:
  r"""What two statements of one problem share; two problems differ in it.

  The tokens, and besides them the signs that make 3 + 4 and 3 - 4 two problems.
  Case, blanks, `$`, punctuation, typesetting, a label at the start and a
  sentence on the form of the answer do not count.
  """
  text, _ = labels.without_label(_BLANKS.sub(' ', problem))
  text = labels.without_ending(text).replace('$', '')
  text = folded(text.translate(_SIGNS))
  text = _ONE_IN_BRACES.sub(r' \1 ', _LONG_SIGN.sub(r'\\\1', text))
  text = _HYPHEN.sub(' ', _THOUSANDS.sub('', text))
  return ' '.join(_SIGNIFICANT.findall(_BARE_FRACTION.sub(r'\\frac \1 ', text)))
