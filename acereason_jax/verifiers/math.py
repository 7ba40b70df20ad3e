r"""Judges a math response: its last `\boxed{}` against the reference answer.

`verify` holds no clock: sympy can loop for ever on `9^{9^9}`, so run it in a
`VerifierPool`, whose parent kills what overruns. Equality is strict, since a
false positive teaches a wrong answer: decimals are exact rationals, units and
percent signs are dropped on both sides (`10\%` is 10, and never 0.1), and
unbracketed lists have neither order nor repetition.
"""

import logging
import re
import time
from fractions import Fraction

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify.grader import unwrap_eq

from acereason_jax.types import Status, Verdict

# It warns on first use that its own timeouts are off, as they are meant to be.
logging.getLogger('math_verify').setLevel(logging.ERROR)

_BOX_CHARS = 4000
_EXACT_CHARS = 1000
# Every exception class the sympy and antlr calls below were seen to raise, and
# no more: anything else is a bug and should reach the pool as one.
_SYMPY_ERRORS = (
  ArithmeticError,
  AttributeError,
  IndexError,
  KeyError,
  NotImplementedError,
  RecursionError,
  TypeError,
  ValueError,
)
# Without `units` here: math-verify's own rule reads `3t` and `2c` as 3 and 2.
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

_BOX_TOKEN = re.compile(r'\\boxed\s*\{|\\.|[{}]', re.DOTALL)
_UNICODE = str.maketrans(
  dict.fromkeys('\u2212\u2013', '-')
  | {'\u00a0': ' ', '\u00b0': r'^\circ', '\u00d7': r'\times '}
  | {'\u03c0': r'\pi ', '\u221e': r'\infty ', '\u222a': r'\cup '}
  | {'\u2264': r'\le ', '\u2265': r'\ge ', '\u2260': r'\neq '}
)
_THOUSANDS = re.compile(
  r'[-+]?[1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,)[0-9]{3})+(?:\.[0-9]+)?'
)
_SPACED_COMMA = re.compile(r',(?:\\!)?\s+|,\\!')
_WRAPPED = re.compile(
  r'\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|boxed)'
  r'\s*\{([^{}]*)\}|\\\((.*)\\\)|\\\[(.*)\\\]',
  re.DOTALL,
)
_UNIT = re.compile(
  r'(?<=[0-9})])\s*(?:'
  r'\^\s*(?:\\circ|\{\s*\\circ\s*\})'
  r'|\\?%'
  r'|\\(?:text|textbf|textit|textrm|mathrm|mbox)\{(?!\s*[eiEI]\s*\})[^{}]*\}'
  r'(?:\^(?:[23]|\{[23]\}))?'
  r'|\s(?:square |cubic )?(?:units?|degrees?|inch(?:es)?|feet|foot|miles?|'
  r'meters?|grams?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|'
  r'dollars?|cents?|percent(?:age)?|pct|points?|cm|mm|km|kg)(?:\^(?:[23]|\{[23]\}))?'
  r')$'
)
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r'\\[dtc]frac(?![A-Za-z])', r'\\frac'),
    (r'\\(?:left|right)(?=\s*(?:[()\[\]|]|\\[{}|]))', ''),
    (r'(?<![\\A-Za-z])pi(?![A-Za-z])', r'\\pi'),
    (r'\\varnothing(?![A-Za-z])', r'\\emptyset'),
    (r'\\?\$|\\!\s*|\\displaystyle(?![A-Za-z])', ''),
    # TeX reads one token as an argument: \frac12 is a half, \sqrt[3]2 a root.
    (r'\\frac\s*([0-9])\s*(?=[0-9{])', r'\\frac{\1}'),
    (r'(\\frac\s*\{[^{}]*\})\s*([0-9])', r'\1{\2}'),
    (r'\\sqrt(\[[^\[\]{}]*\])\s*([A-Za-z0-9])', r'\\sqrt\1{\2}'),
    (r'_\{([A-Za-z0-9])\}', r'_\1'),
    (r'(?<!\\)\\[,;: ]|~|\\q?quad(?![A-Za-z])', ' '),
  )
)
_TRIG = re.compile(r'\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])')
_DEGREES = re.compile(r'([0-9]+)\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})')
_LOOSE_SPACE = re.compile(r'(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])|\s+(?=\s)')

_NUMBER = r'(?:[0-9]+\.?[0-9]*|\.[0-9]+)'
_DECIMAL = re.compile(rf'([-+]?)({_NUMBER})')
_REPEATING = re.compile(r'([-+]?)([0-9]*)\.([0-9]*)\\overline\{([0-9]+)\}')
_FRACTION = re.compile(
  rf'([-+]?)(?:([0-9]+)/([0-9]+)|'
  rf'\\frac\{{([-+]?{_NUMBER})\}}\{{([-+]?{_NUMBER})\}})'
)
_MIXED = re.compile(
  r'([-+]?)([0-9]+)(?: ([0-9]+)/([0-9]+)|\\frac\{([0-9]+)\}\{([0-9]+)\})'
)
_RATIO = re.compile(r'[0-9]+(?::[0-9]+)+')
_LETTERS = re.compile(r"[A-Za-z][A-Za-z '-]*[A-Za-z]")
_EQUALS = re.compile(r'(\\approx|(?<![<>!\\])=)')
_BARE_FUNCTION = re.compile(r'\\?(?:log|ln|sin|cos|tan|exp|lim|max|min)\s*=')
_BASE = re.compile(r'[0-9]_(?:([0-9]+)|\{([0-9]+)\})')
_TEXT = re.compile(r'\\(?:text[a-z]*|mbox|operatorname)\{[^{}]*\}')
_COMMAND = re.compile(r'\\[A-Za-z]+')


def verify(response: str, answer: str, *, reasons: bool) -> Verdict:
  r"""Returns the verdict on `response`, `detail` naming layer and extract.

  With `reasons` only the text after the first `</think>` counts, and a
  response without one is 'unparsed': an answer inside the thinking is none
  (arXiv 2505.16400, section 3.1). A reference that cannot be read is 'error'.
  """
  start = time.perf_counter()
  status, detail = _judge(response, answer, reasons)
  return Verdict(status, detail, time.perf_counter() - start)


def last_box(text: str) -> str | None:
  r"""Returns what the last balanced `\boxed{...}` holds, or None.

  One pass, escaped braces skipped; of nested boxes it is the outer one.
  """
  box, open_braces = None, []
  for token in _BOX_TOKEN.finditer(text):
    if token[0].endswith('{') and token[0] != r'\{':
      open_braces.append(token.end() if len(token[0]) > 1 else None)
    elif token[0] == '}' and open_braces:
      begin = open_braces.pop()
      if begin is not None:
        box = begin, token.start()
  return None if box is None else text[slice(*box)]


def normalise(text: str) -> str:
  """Returns `text` in one spelling: no wrapper, unit or spacing left."""
  text, previous = text.translate(_UNICODE), None
  while previous != text:
    previous, text = text, _rewrite(text.strip())
  return _LOOSE_SPACE.sub('', text)


def _rewrite(text: str) -> str:
  """Returns `text` with one layer less around it."""
  text = text.removesuffix('\\').rstrip()
  if text.endswith('.') and not text.endswith(('..', r'\right.')):
    text = text[:-1]
  if wrapped := _WRAPPED.fullmatch(text):
    text = next(inner for inner in wrapped.groups() if inner is not None)
  if _THOUSANDS.fullmatch(compact := _SPACED_COMMA.sub(',', text)):
    text = re.sub(r',|\{,\}|\\,', '', compact)
  if _TRIG.search(text):
    text = _DEGREES.sub(r'(\\frac{\1\\pi}{180})', text)
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  return _UNIT.sub('', text)


def exact(text: str) -> Fraction | None:
  """Returns the rational a normalised text spells out, or None.

  ASCII integers, decimals (also repeating), fractions and mixed numbers; the
  patterns come first because int() and Fraction() take far more than that.
  """
  if len(text) > _EXACT_CHARS:
    return None
  if m := _DECIMAL.fullmatch(text):
    value = Fraction(m[2].removesuffix('.'))
  elif m := _FRACTION.fullmatch(text):
    value = _divide(m[2] or m[4], m[3] or m[5])
  elif m := _MIXED.fullmatch(text):
    part = _divide(m[3] or m[5], m[4] or m[6])
    value = None if part is None else int(m[2]) + part
  elif m := _REPEATING.fullmatch(text):
    cycle = Fraction(int(m[4]), 10 ** len(m[4]) - 1)
    value = Fraction(f'{m[2]}.{m[3]}0' if m[2] else f'0.{m[3]}0')
    value += cycle / 10 ** len(m[3])
  else:
    return None
  return -value if value is not None and m[1] == '-' else value


def _judge(response: str, answer: str, reasons: bool) -> tuple[Status, str]:
  """Returns status and a one-line detail."""
  if reasons:
    _, tag, response = response.partition('</think>')
    if not tag:
      return 'unparsed', 'no </think>'
  box = last_box(response)
  if box is None:
    return 'unparsed', r'no balanced \boxed{}'
  if len(box) > _BOX_CHARS:
    return 'unparsed', f'{len(box)} characters in the box'
  status, layer = compare(box, answer)
  return status, f'{layer}: {box[:80]!r}'


def compare(given: str, answer: str) -> tuple[Status, str]:
  """Returns status and the layer that decided; `answer` is the reference."""
  a, b = normalise(given), normalise(answer)
  if not b:
    return 'error', 'empty reference'
  if not a:
    return 'unparsed', 'empty'
  if a == b:
    return 'right', 'string'
  x, y = exact(a), exact(b)
  if x is not None and y is not None:
    return _status(x == y), 'exact'
  if _RATIO.fullmatch(a) and _RATIO.fullmatch(b):
    return 'wrong', 'ratio'
  if _are_words(a, b):
    return _status(_fold(a) == _fold(b)), 'words'
  try:
    return _compare_sympy(a, b)
  except _SYMPY_ERRORS as e:
    return 'error', f'sympy {type(e).__name__}'


def _status(equal: bool) -> Status:
  return 'right' if equal else 'wrong'


def _divide(numerator: str, denominator: str) -> Fraction | None:
  low = Fraction(denominator.removesuffix('.'))
  return Fraction(numerator.removesuffix('.')) / low if low else None


def _fold(text: str) -> str:
  return ' '.join(text.split()).casefold() if not text.isupper() else text


def _are_words(a: str, b: str) -> bool:
  """Whether these are prose or labels, not products of variables.

  As products `stop` and `pots`, or `BCA` and `ABC`, would be equal.
  """
  if not (_LETTERS.fullmatch(a) and _LETTERS.fullmatch(b)):
    return False
  prose = any(t.istitle() or (len(t) > 3 and not t.isupper()) for t in (a, b))
  return prose or (a.isupper() and b.isupper())


def _compare_sympy(a: str, b: str) -> tuple[Status, str]:
  """Returns what math-verify finds, less the equalities it gets wrong.

  Raises:
    One of `_SYMPY_ERRORS`: the comparison itself failed.
  """
  gold = _parse(b)
  if gold is None or gold.has(sympy.nan, sympy.zoo, sympy.Ne):
    return 'error', f'unreadable reference {b[:80]!r}'
  if not a.isascii() and any(c.isdigit() and not c.isascii() for c in a):
    return 'unparsed', 'non-ASCII digits'
  pred = _parse(a)
  if pred is None:
    return 'unparsed', 'unreadable box'
  if reason := _refusal(a, b):
    return 'wrong', reason
  if not _equal(gold, pred):
    gold, pred = _with_imaginary_unit(gold), _with_imaginary_unit(pred)
    if not _equal(gold, pred):
      return 'wrong', 'sympy'
  return _status(_agree(gold, pred)), 'sympy'


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


def _with_imaginary_unit(expr: sympy.Basic) -> sympy.Basic:
  return expr.subs({s: sympy.I for s in expr.free_symbols if s.name == 'i'})


def _refusal(a: str, b: str) -> str:
  """Returns why math-verify's 'equal' would be worth nothing, or ''."""
  if re.search(r'\\neq?(?![A-Za-z])|!=', a):
    return 'an inequation'
  if _BARE_FUNCTION.match(a):
    return 'a function without argument'
  if _contradicts_itself(a):
    return 'a contradictory chain'
  bases = [{x or y for x, y in _BASE.findall(text)} for text in (a, b)]
  if all(bases) and bases[0] != bases[1]:
    return 'another base'
  # math-verify's parser lowers every letter.
  given, wanted = _letters(a), _letters(b)
  swapped = {c.swapcase() for c in given - wanted} & (wanted - given)
  return 'letters of another case' if swapped else ''


def _letters(text: str) -> set[str]:
  text = _COMMAND.sub(' ', _TEXT.sub(' ', text))
  return {c for c in text if c.isalpha()}


def _contradicts_itself(text: str) -> bool:
  """Whether it is a chain of plain numbers that differ, like `41=42`."""
  first, *rest = _EQUALS.split(text)
  values = [exact(part.strip()) for part in [first, *rest[1::2]]]
  if not rest or None in values:
    return False
  slack = abs(values[0]) / 100 if r'\approx' in rest else 0
  return any(abs(v - values[0]) > slack for v in values)


def _agree(gold: sympy.Basic, pred: sympy.Basic) -> bool:
  """Whether both have the same values, relatively, at one generic point.

  math-verify compares differences with zero and so takes 10^{-20} for
  10^{-21}, and it rounds decimals to six places.
  """
  lists = _values(gold), _values(pred)
  if None in lists:
    # A relation's interval is no list: 1<x<2 is not {1, 2}.
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
  # A decimal with 12 right digits is no accident; exact forms get no slack.
  slack = 1e-12 if gold.has(sympy.Float) or pred.has(sympy.Float) else 1e-25
  if g.is_zero or p.is_zero:
    return bool(abs(g - p) < sympy.Float('1e-80'))
  return bool(abs(g - p) <= slack * max(abs(g), abs(p)))
