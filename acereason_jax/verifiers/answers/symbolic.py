r"""The last layer: math-verify, for texts that our own grammar cannot read.

It guesses where it should refuse, and all its errors are false 'equal' results.
So its inputs are screened (sympy may compute for hours), and its 'equal' counts
only after a check of values.
"""

import logging
import re

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify.grader import unwrap_eq

from acereason_jax.types import Status

# math-verify warns on first use that its own timeouts are off, which is
# intended.
logging.getLogger('math_verify').setLevel(logging.ERROR)

# Every exception class that the sympy and antlr calls below were seen to raise.
# Any other is a bug and should reach the pool as one.
_SYMPY_ERRORS = (
  ArithmeticError,
  AttributeError,
  IndexError,
  KeyError,
  NotImplementedError,
  RecursionError,
  TypeError,
  ValueError,
  sympy.polys.polyerrors.BasePolynomialError,
)
# `units` is left out: math-verify's own rule reads `3t` and `2c` as 3 and 2.
_LATEX = math_verify.LatexExtractionConfig(
  boxed_match_priority=0,
  normalization_config=NormalizationConfig(
    basic_latex=True,
    units=False,
    malformed_operators=True,
    nits=True,
    boxed='last',
  ),
)
_CHARS = 200
_OPERATORS = 40
# The parser takes seconds at a depth of 25.
_BRACKETS = 10
# Sympy may never finish on some of these, math-verify drops or misreads others,
# and no answer uses the rest.
_WILD = re.compile(
  r'[0-9]{7}|!|\^\s*\{?[^{}]{0,20}[\^!]|\^\s*\{?\s*-?[0-9]{4}|[eE][-+]?[0-9]{4}'
  r'|\\(?:int|oint|iint|prod|lim|partial|Gamma|zeta|binom|nabla|boxed|fbox|gcd'
  r'|lcm|mod|bmod|[lcdv]?dots[a-z]?|lfloor|lceil|text|mathrm|to)(?![A-Za-z])'
  r'|\\sum[^=]*=[^}]*\}\s*\^\s*(?:\{?[0-9]{3}|\{?\\infty)|\\sum.*\\sum'
  r'|\\sum.*\^\s*\{?\s*[0-9]{2}\s*\}?[^0-9]*\^\s*\{?\s*[0-9]{2}|d[a-z]?\s*/\s*d'
  # math-verify drops a base that it does not know, and an identity too.
  r'|\\equiv(?!.*\\pmod)'
  r"""|__|[`"@#?'\x00-\x1f]|\.\.\.|gcd|lcm|[0-9)]\s*_"""
)
# math-verify gets only matrices of plain numbers.
_MATRIX = re.compile(r'\\begin')
_NUMBERS = re.compile(
  r'(?:\\(?:begin|end)\{[bpvV]?matrix\}|\\\\|\\frac|[-+0-9&/.,{}\s()])*'
)
_ORDER = re.compile(r'[<>]|\\[lg]e(?![A-Za-z])')
_STEEP = re.compile(r'\^ ?\{? ?-?(?:[4-9]|[0-9]{2})')
_BARE_FUNCTION = re.compile(r'\\?(?:log|ln|sin|cos|tan|exp|lim|max|min)\s*=')
_TEXT = re.compile(r'\\(?:text[a-z]*|mbox|operatorname)\{[^{}]*\}')
_BLOCK = re.compile(r'\\(?:begin|end)\{[a-z]+\}')
_COMMAND = re.compile(r'\\[A-Za-z]+')


def compare(given: str, answer: str) -> tuple[Status, str]:
  """Returns the status of two normalised texts and the reason.

  'error' if it is the reference that cannot be read.
  """
  for text, status in ((answer, 'error'), (given, 'unparsed')):
    if reason := _wild(text):
      return status, reason
  try:
    return _compare(given, answer)
  except _SYMPY_ERRORS as e:
    return 'error', f'sympy {type(e).__name__}'


def _wild(text: str) -> str:
  """Returns why a text must not go to sympy, or ''."""
  if len(text) > _CHARS:
    return f'{len(text)} characters without a known form'
  if any(ord(c) > 126 for c in text):
    return 'characters beyond ASCII'
  if sum(map(text.count, '([{')) != sum(map(text.count, ')]}')):
    return 'unbalanced brackets'
  if sum(text.count(c) for c in '([|') > _BRACKETS:
    return 'too many brackets without a known form'
  if sum(text.count(c) for c in '^_{+-*/\\') > _OPERATORS:
    return 'too many operators without a known form'
  if _MATRIX.search(text) and not _NUMBERS.fullmatch(text):
    return 'a matrix of more than numbers'
  if _ORDER.search(text) and _STEEP.search(text):
    return 'an inequality of high degree'
  if match := _WILD.search(text):
    return f'no known form: {match[0][:20]!a}'
  return ''


def _compare(a: str, b: str) -> tuple[Status, str]:
  """Returns math-verify's result without its false equalities.

  Raises:
    One of `_SYMPY_ERRORS`: the comparison itself failed.
  """
  gold = _parse(b)
  if gold is None or gold.has(sympy.nan, sympy.zoo, sympy.Ne):
    return 'error', 'unreadable reference'
  pred = _parse(a)
  if pred is None:
    return 'unparsed', 'unreadable box'
  if reason := _refusal(a, b):
    return 'wrong', reason
  if not _equal(gold, pred):
    return 'wrong', 'math-verify'
  return 'right' if _agree(gold, pred) else 'wrong', 'math-verify'


def _parse(text: str) -> sympy.Basic | sympy.MatrixBase | None:
  """Returns the sympy form of a normalised text, or None."""
  found = math_verify.parse(
    rf'\boxed{{{text}}}',
    [_LATEX],
    fallback_mode='no_fallback',
    extraction_mode='first_match',
    parsing_timeout=None,
    raise_on_error=True,
  )
  return found[0] if found else None


def _equal(gold: sympy.Basic, pred: sympy.Basic) -> bool:
  return math_verify.verify(
    gold,
    pred,
    timeout_seconds=None,
    allow_set_relation_comp=True,
    raise_on_error=True,
  )


def _refusal(a: str, b: str) -> str:
  """Returns why math-verify's 'equal' would be worthless, or ''."""
  if '\\ne' in a:
    return 'an inequation'
  if _BARE_FUNCTION.match(a):
    return 'a function without argument'
  if re.search('[A-Za-z]{4}', _COMMAND.sub(' ', _BLOCK.sub(' ', a))):
    return 'words without a known form'
  # math-verify's parser lower-cases every letter.
  given, wanted = _letters(a), _letters(b)
  swapped = {c.swapcase() for c in given - wanted} & (wanted - given)
  return 'letters of another case' if swapped else ''


def _letters(text: str) -> set[str]:
  text = _COMMAND.sub(' ', _TEXT.sub(' ', text))
  return {c for c in text if c.isalpha()}


def _agree(gold: sympy.Basic, pred: sympy.Basic) -> bool:
  """Whether both have the same values, relatively, at one generic point.

  math-verify compares differences with zero and so takes 10^{-20} for
  10^{-21}, and it rounds decimals to six places.
  """
  lists = _values(gold), _values(pred)
  if None in lists:
    # A relation's interval is not a list: 1<x<2 is not {1, 2}.
    return not any(isinstance(e, sympy.FiniteSet) for e in (gold, pred))
  if len(lists[0]) != len(lists[1]):
    return False
  names = sorted({s.name for s in gold.free_symbols | pred.free_symbols})
  point = {
    name: sympy.Rational(17 + 3 * i, 101) for i, name in enumerate(names)
  }
  return all(_close(g, p, point) for g, p in zip(*lists))


def _values(expr: sympy.Basic) -> list[sympy.Basic] | None:
  """Returns the numbers that make up `expr`, or None for a relation."""
  expr = unwrap_eq(expr)
  if isinstance(expr, sympy.MatrixBase):
    return list(expr.flat())
  if isinstance(expr, sympy.Interval):
    return [expr.start, expr.end]
  if isinstance(expr, sympy.FiniteSet):
    parts = sorted(expr.args, key=_sort_key)
  elif isinstance(expr, (sympy.Tuple, sympy.Union)):
    parts = expr.args
  else:
    return [expr] if isinstance(expr, sympy.Expr) else None
  nested = [_values(part) for part in parts]
  return None if None in nested else [v for part in nested for v in part]


def _sort_key(expr: sympy.Basic) -> tuple:
  value = unwrap_eq(expr)
  number = value.evalf(40) if value.is_comparable else None
  return (number is None, str(expr) if number is None else number)


def _close(
  gold: sympy.Basic, pred: sympy.Basic, point: dict[str, sympy.Rational]
) -> bool:
  """Whether two expressions agree at `point`; True where one has no value."""
  g, p = (
    e.subs({s: point[s.name] for s in e.free_symbols}).evalf(40)
    for e in (gold, pred)
  )
  if g == p or not (g.is_number and p.is_number):
    return True
  if not (g.is_finite and p.is_finite):
    return False
  if g.is_zero or p.is_zero:
    return bool(abs(g - p) < sympy.Float('1e-80'))
  return bool(abs(g - p) <= sympy.Float('1e-25') * max(abs(g), abs(p)))
