r"""Tokens of a statement: what n-grams, duplicates and lengths are counted in.

How a text is split decides which copies are found. Words between blanks keep
`$` and full stops, so a copy with other punctuation shares few n-grams with its
original. Here a token is a run of letters or a run of digits, after one form of
Unicode and in small letters; a symbol is no token.
"""

import html
import re
import unicodedata

from acereason_jax.data.curate import labels, statements

_TOKEN = re.compile(r'[^\W\d_]+|\d+')
# The same for small letters of ASCII, which is twice as fast.
_ASCII_TOKEN = re.compile('[a-z]+|[0-9]+')
_FRACTION = re.compile(r'\\[dt]frac(?![a-z])')
# \frac12 is 1 over 2.
_BARE_FRACTION = re.compile(r'\\frac\s?(\d)\s?(?=\d)')
# They change how a formula looks, never what it says.
_TYPESETTING = re.compile(
  r'\\(?:left|right|big{1,2}[lrm]?|displaystyle|textstyle|limits|nolimits'
  r'|q?quad|(?:text|math)(?:rm|bf|it|sf|tt)|text|mbox|operatorname)(?![a-z])'
)
# Unicode's signs for commands of TeX; small Greek letters for capitals, too.
_GREEK = (
  'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta', 'iota',
  'kappa', 'lambda', 'mu', 'nu', 'xi', 'omicron', 'pi', 'rho', 'varsigma',
  'sigma', 'tau', 'upsilon', 'phi', 'chi', 'psi', 'omega',
)  # fmt: skip
# Letters of other alphabets that look like Latin ones, as in 'triangle ABC'
# written on another keyboard.
_LOOK_ALIKES = dict(
  zip(
    '\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0423'
    '\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456\u0458\u0455'
    '\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4'
    '\u03a5\u03a7\u03bf',
    'abekmhopctxyaeopcxyijsabezhikmnoptyxo',
    strict=True,
  )
)
_SIGNS = str.maketrans(
  {
    **{chr(0x3B1 + i): f' \\{name} ' for i, name in enumerate(_GREEK)},
    **{
      chr(0x391 + i): f' \\{name} '
      for i, name in enumerate(_GREEK)
      if name != 'varsigma'
    },
    '\N{GREEK PHI SYMBOL}': ' \\phi ',
    '\N{GREEK LUNATE EPSILON SYMBOL}': ' \\epsilon ',
    '\N{GREEK THETA SYMBOL}': ' \\theta ',
    **_LOOK_ALIKES,
    # Phrases in one character, of which a text could be made 18 times as long.
    '\ufdfa': ' ',
    '\ufdfb': ' ',
    '\N{RIGHT SINGLE QUOTATION MARK}': "'",
    '\N{PRIME}': "'",
    '\N{DOUBLE PRIME}': "''",
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
    '\N{DEGREE SIGN}': ' ^\\circ ',
    '\N{INFINITY}': ' \\infty ',
    **{sign: f'^{i}' for i, sign in enumerate('\u2070\xb9\xb2\xb3\u2074')},
    **{chr(0x2070 + i): f'^{i}' for i in range(5, 10)},
  }
)
# \leq is \le, \varphi is \phi.
_SAME_SIGNS = re.compile(
  r'\\(?:(le|ge|ne)q|var(epsilon|theta|phi|rho|pi|kappa|sigma))(?![a-z])'
)
# Tags and names of signs in HTML; `a<b` and `&` of a matrix are neither.
_TAGS = re.compile(
  r'</?(?:p|b|i|u|em|strong|su[bp]|div|span|br|li|[ou]l|t[dhr]|code|pre|center'
  r'|h[1-6]|table|tbody|img|a|font)(?:\s[^<>]{0,200})?\s?/?>'
)
_NAMED_SIGNS = re.compile(r'&(?:[a-z]{2,8}|#[0-9]{1,6}|#x[0-9a-f]{1,5});')
_SOFT = re.compile('[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]')
# Accents, but not the stroke that makes = to a sign of its own.
_ACCENTS = re.compile('[\u0300-\u0334\u0339-\u036f]')
_BLANKS = re.compile(r'[^\S\n]+')
# x^{2} is x^2.
_ONE_IN_BRACES = re.compile(r'\{ ?(\w) ?\}')
# 1,000 and 1{,}000 and 1\\,000 are 1000.
_THOUSANDS = re.compile(r'(?<=\d)(?:\{,\}|\\?,)(?=\d{3}(?!\d))')
# 8-sided is 8 sided, and x-1 is no such word.
_HYPHEN = re.compile(r'(?<=\w)-(?=[^\W\d_]{2})')
# Letters, digits, a decimal point, the marks of f'' and A', and the signs that
# change a formula.
_SIGNIFICANT = re.compile(
  r"[^\W\d_]+|\d+|(?<=\d)\.(?=\d)|(?<![^\W\d_]{2})(?<=[^\W\d_])'+"
  r'|[^\w\s.,;:?$\'"\\`~&#]'
)
_ASCII_SIGNIFICANT = re.compile(
  r"[a-z]+|[0-9]+|(?<=[0-9])\.(?=[0-9])|(?<![a-z]{2})(?<=[a-z])'+"
  r'|[^a-z0-9_\s.,;:?$\'"\\`~&#]'
)


def tokens(text: str) -> list[str]:
  """The runs of letters and of digits, in small letters; time is linear."""
  text = folded(text)
  if text.isascii():
    return _ASCII_TOKEN.findall(text)
  plain = _ACCENTS.sub('', unicodedata.normalize('NFKD', text))
  return _TOKEN.findall(unicodedata.normalize('NFKC', plain))


def folded(text: str) -> str:
  r"""One form of Unicode, small letters, one \frac, no typesetting."""
  if '&' in text:
    text = _NAMED_SIGNS.sub(_unescaped, text)
  if not text.isascii():
    # Before NFKC, which makes 52 of 5 and a small 2.
    text = _SOFT.sub('', text).translate(_SIGNS)
    text = unicodedata.normalize('NFKC', text).translate(_SIGNS)
  # First, since a copy may be in capitals: \DFRAC.
  text = text.lower()
  if '<' in text:
    text = _TAGS.sub(' ', text)
  if '\\' in text:
    text = _TYPESETTING.sub(' ', text)
    text = _FRACTION.sub(r'\\frac', text)
    text = _BARE_FRACTION.sub(r'\\frac \1 ', text)
    text = _SAME_SIGNS.sub(r'\\\1\2', text)
  return text


def _unescaped(match: re.Match) -> str:
  return html.unescape(match[0])


def key(problem: str) -> str:
  r"""What two statements of one problem share; two problems differ in it.

  The tokens, and besides them the signs that make 3 + 4 and 3 - 4 two problems.
  Case, blanks, `$`, punctuation, typesetting, a label at the start and a
  sentence on the form of the answer do not count.
  """
  return ' '.join(significant(problem))


def significant(problem: str) -> list[str]:
  """The tokens and signs of which `key` is made."""
  text = problem
  if not statements.has_single_blanks(text):
    text = _BLANKS.sub(' ', text)
  text, _ = labels.without_label(text)
  text = folded(labels.without_ending(text).replace('$', ''))
  # A look for a sign is much faster than a look for a pattern with it.
  if '{' in text:
    text = _ONE_IN_BRACES.sub(r' \1 ', text)
  if ',' in text:
    text = _THOUSANDS.sub('', text)
  if '-' in text:
    text = _HYPHEN.sub(' ', text)
  if '\\' in text:
    text = _BARE_FRACTION.sub(r'\\frac \1 ', text)
  return (_ASCII_SIGNIFICANT if text.isascii() else _SIGNIFICANT).findall(text)
