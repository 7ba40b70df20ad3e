r"""The lenient judge: the rules of the released AceReason evaluation toolkit.

It is for comparing with published scores, never for rewards: it accepts many
wrong answers. These are the rules in order; text after | is refused.

  extraction, from the whole response, its thinking included
    last box, braces at most three deep  \boxed{4} \boxed{5     -> 4
    else last bold text                  is **4** | is *4*
    else last display, on its own lines  \[\n4\n\] | \[4\]
    else last inline after `is`          is \(4\) | be \(4\)
    else last display between literal \n
  cleaning, of both sides
    all commas, spaces and line ends go  1, 2 -> 12, 1 000 -> 1000
    \text{..}, ^\circ, \$, \quad go      5\text{ cm} -> 5 | 5cm
    \text{..} around all is taken off    \text{(Yes)} -> yes
    powers of ten become floats          3\times10^{4} -> 3e4
    all letters become small             X -> x
    f(x)= or up to three characters and = go    y_1=2 -> 2 | ab+c=2
  equality
    string                               \text{Yes} = yes
    number: 1e-4 relative, also of the
      hundredth and the hundredfold      50\% = 0.5 = 50 | 0.5 = 0.51
    brackets: without any {} and ()      \frac{1}{23} = \frac{12}{3}
    inside of [..] or (..)               [0.5] = (1/2) | [0.5] = 1/3
    matrix: cells by all of these rules  (1.00001 2) = (1 2)
    symbolic: numbers to 1e-4, others
      exactly; pi, e and i are variables 0.33333 = 1/3 | 6.28319 = 2\pi
    relations: same difference of sides  x+1<y = y-x\ge1 | 2x<2 = x<1
  further, by benchmark
    two digits, of floats below 1        0.123 = 0.12   (AIME, AMC and alike)
    arithmetic, in Python's spelling     2**3 = 8       (all)
    fraction text, \frac{a}{b} as a/b    \frac{a;b}{2} = a;b/2   (MATH-500)

Some behaviour is not reproduced, on purpose: running the answer as Python code
(there `2^3` is 1), giving up after 5 s, and the results of its LaTeX parsers on
text that they cannot read, often its beginning (`7.5.3` is 7.5). Nor is
`x(x+1)` a function here, or \sqrt[3]{-8} complex. Answers over 4,000 characters
are 'unparsed' here, and over 400 never symbolic.
"""

import collections
import dataclasses
import re
import time
from collections.abc import Callable
from fractions import Fraction

import mpmath

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers.answers import toolkit, values

_EXTRACT_CHARS = 4000
_SHOWN_CHARS = 1000
_DEPTH = 4

Rule = Callable[[str, str], str]


def verify(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  """Returns the verdict by the rules for AIME, AMC and other competitions.

  `detail` names where the answer was found and the rule that accepted it.
  `reasons` changes nothing: the toolkit reads the thinking too.
  """
  return _timed(response, answer, _COMPETITION)


def verify_math500(
  response: str, answer: str, *, reasons: bool = True
) -> Verdict:
  """Returns the verdict by the rules for MATH-500; otherwise as `verify`."""
  return _timed(response, answer, _MATH500)


def explain(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  """Returns `verify`'s verdict with a detail of several lines."""
  return _explained(verify(response, answer), response, answer)


def explain_math500(
  response: str, answer: str, *, reasons: bool = True
) -> Verdict:
  """Returns `verify_math500`'s verdict with a detail of several lines."""
  return _explained(verify_math500(response, answer), response, answer)


def _explained(verdict: Verdict, response: str, answer: str) -> Verdict:
  shown = lambda text: ascii(text[:_SHOWN_CHARS])
  place, text = extract(response)
  if text is None:
    lines = ['extracted: nothing']
  else:
    lines = [f'extracted: {shown(text)}', f'found in: {place}']
    if len(text) <= _EXTRACT_CHARS:
      lines.append(f'given: {shown(clean(text))}')
  if len(answer) <= _EXTRACT_CHARS:
    lines.append(f'reference: {shown(clean(answer))}')
  lines.append(f'decided by: {verdict.detail}')
  return dataclasses.replace(verdict, detail='\n'.join(lines))


def _timed(response: str, answer: str, rules: tuple[Rule, ...]) -> Verdict:
  start = time.perf_counter()
  status, detail = _judge(response, answer, rules)
  return Verdict(status, detail, time.perf_counter() - start)


def _judge(
  response: str, answer: str, rules: tuple[Rule, ...]
) -> tuple[Status, str]:
  """Returns status and a one-line detail."""
  if len(answer) > _EXTRACT_CHARS:
    return 'error', f'a reference of {len(answer)} characters'
  wanted = clean(answer)
  if not wanted:
    return 'error', f'empty reference {answer[:80]!a}'
  place, text = extract(response)
  if text is None:
    return 'unparsed', 'neither box nor bold nor formula'
  if len(text) > _EXTRACT_CHARS:
    return 'unparsed', f'{len(text)} characters in {place}'
  given = clean(text)
  if not given:
    return 'unparsed', f'empty {place}'
  names = (rule(given, wanted) for rule in rules)
  name = next(filter(None, names), '')
  return 'right' if name else 'wrong', f'{place}, {name or "-"}: {text[:80]!a}'


# Braces count even after a backslash. The next character determines every step,
# so a failure costs one pass, and at most three boxes can be open at one
# character.
_BOX = re.compile(
  r'\\boxed\{([^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*)\}'
)
_DELIMITERS = (
  ('bold', '**', '**'),
  ('display', '\\[\n', '\n\\]'),
  ('inline', r'is \(', r'\)'),
  ('display', r'\[\n', r'\n\]'),
)


def extract(response: str) -> tuple[str, str | None]:
  """Returns where the answer is in the response, and the answer if any."""
  boxes = collections.deque(_BOX.finditer(response), maxlen=1)
  if boxes:
    return 'box', boxes[0][1]
  for place, opening, closing in _DELIMITERS:
    text = _last_between(response, opening, closing)
    if text is not None:
      return place, text
  return '', None


def _last_between(text: str, opening: str, closing: str) -> str | None:
  """Returns the last of the disjoint stretches, left to right, or None."""
  found, position = None, 0
  while (start := text.find(opening, position)) >= 0:
    start += len(opening)
    end = text.find(closing, start)
    if end < 0:
      break
    found, position = text[start:end], end + len(closing)
  return found


def given(response: str, *, reasons: bool = True) -> str | None:
  """Returns the answer that both judges compare, None if there is none."""
  return extract(response)[1]


# Wrong answers are grouped by it; see votes.py.
verify.given = verify_math500.given = given

_ALL_TEXT = re.compile(r'\\text\{(.*)\}')
_CLEANING = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r',\\!|\{,\}|\\\$', ''),
    (r'[dt]frac\{', 'frac{'),
    (r'\^(?:\\circ|\{\\circ\})|\\quad', ''),
    (r'(?:\\,)?\\text\{[^}\n]*\}', ''),
    (r'\s\^\{-\d+\}', ''),
    (r'[ \n]', ''),
    # The pattern is meant for line ends, but \neq and \nu begin with it too.
    (r'\\n', ''),
    (r'(\d)\\times10\^\{([-+]?\d+)\}', r'\1e\2'),
    (r'(\d)\\times10\^([-+]?\d+)', r'\1e\2'),
    (r'(\d)\^\{(\d+)\}', r'\1^\2'),
    (r'10\^\{(-?\d+)\}', r'1e\1'),
    (r',', ''),
  )
)
_FUNCTION = re.compile(r'[a-zA-Z_]\w*\([a-zA-Z_]\w*\)')
_SHORT_NAME = 3


def clean(text: str) -> str:
  """Returns an answer without decoration, in small letters."""
  wrapped = _ALL_TEXT.fullmatch(text)
  text = (wrapped and re.sub('[(),]', '', wrapped[1])) or text
  for pattern, replacement in _CLEANING:
    text = pattern.sub(replacement, text)
  text = text.lower().removesuffix('\\')
  name, equals, value = text.partition('=')
  named = len(name) <= _SHORT_NAME or _FUNCTION.fullmatch(name)
  return value if equals and named else text


_BEGIN = (r'\begin{pmatrix}', r'\begin{bmatrix}')
_END = (r'\end{pmatrix}', r'\end{bmatrix}')
_BRACES = str.maketrans('', '', '{}()')


def _equal(given: str, wanted: str, depth: int = 0) -> str:
  """Returns the rule by which two cleaned answers are equal, or ''."""
  given, wanted = given.strip(), wanted.strip()
  if given.lower() == wanted.lower():
    return 'string'
  numbers = _number(given), _number(wanted)
  if None not in numbers:
    return 'number' if _near_percent(*numbers) else ''
  if not given or ('pmatrix' in given and 'pmatrix' not in wanted):
    return ''
  if _equal_without_brackets(given, wanted):
    return 'brackets'
  if depth < _DEPTH:
    if _equal_inside(given, wanted, depth + 1):
      return 'inside'
    if _equal_cells(given, wanted, depth + 1):
      return 'matrix'
    if _equal_values(given, wanted, depth + 1):
      return 'value'
  return 'symbolic' if toolkit.equal(given, wanted) else ''


def _number(text: str) -> float | None:
  r"""Returns what float() reads; a number with % or \% is divided by 100.

  float() reads more than digits, and so does the toolkit: `1_0` is 10.
  """
  try:
    return float(text)
  except ValueError:
    percent = text.removesuffix('%')
  if percent == text:
    return None
  try:
    return float(percent.removesuffix('\\')) / 100
  except ValueError:
    return None


def _near_percent(given: float, wanted: float) -> bool:
  return any(
    toolkit.near(given, x) for x in (wanted / 100, wanted, wanted * 100)
  )


def _equal_without_brackets(given: str, wanted: str) -> bool:
  """Whether they differ only in {}, () and a pair of outer brackets."""
  square = given.startswith('[') and given.endswith(']')
  round_ = given.startswith('(') and given.endswith(')')
  if (square and wanted[:1] != '(') or (round_ and wanted[:1] != '['):
    given, wanted = given.strip('[]()'), wanted.strip('[]()')
  return given.translate(_BRACES) == wanted.translate(_BRACES)


def _equal_inside(given: str, wanted: str, depth: int) -> bool:
  """Whether both are in brackets of any kind, and equal without them."""
  if not (_bracketed(given) and _bracketed(wanted)):
    return False
  return bool(_equal(given[1:-1], wanted[1:-1], depth))


def _bracketed(text: str) -> bool:
  """Whether it begins with a bracket and closes one somewhere after it."""
  return text[:1] in ('(', '[') and max(text.rfind(')'), text.rfind(']')) > 1


def _equal_cells(given: str, wanted: str, depth: int) -> bool:
  """Whether both are matrices of one shape with equal cells."""
  a, b = _cells(given), _cells(wanted)
  if not a or [len(row) for row in a] != [len(row) for row in b]:
    return False
  pairs = [pair for rows in zip(a, b) for pair in zip(*rows)]
  if len(pairs) > toolkit.MAX_CELLS:
    return False
  return all(_equal(x, y, depth) for x, y in pairs)


def _cells(text: str) -> list[list[str]]:
  """Returns the rows of a matrix, [] for another text."""
  if not (text.startswith(_BEGIN) and text.endswith(_END)):
    return []
  lines = text[len(_BEGIN[0]) : -len(_END[0])].split(r'\\')
  return [line.split('&') for line in lines if line.strip()]


def _equal_values(given: str, wanted: str, depth: int) -> bool:
  """Whether one is `x = value`, with a short name, and the other the value."""
  if ('=' in given) == ('=' in wanted):
    return False
  values_only = _unnamed(given), _unnamed(wanted)
  if values_only == (given, wanted):
    return False
  return bool(_equal(*values_only, depth))


def _unnamed(text: str) -> str:
  name, _, value = text.partition('=')
  short = len(name.strip()) < _SHORT_NAME
  return value if value and short and '=' not in value else text


_FRACTION = re.compile(r'\\frac\{(.*?)\}\{([^}]*)\}')
_ARITHMETIC = re.compile(r'[-+*/().0-9e]+')
_IMPLICIT_PRODUCT = re.compile(r'[)0-9.]\(|\)[.0-9]')
_SCIENTIFIC = re.compile(
  r'(?<![.0-9])([0-9]+(?:\.[0-9]*)?|\.[0-9]+)e([-+]?[0-9]{1,3})'
)


def _two_digits(given: str, wanted: str) -> str:
  same = _rounded(given) == _rounded(wanted)
  return 'two digits' if same else ''


def _rounded(text: str) -> str:
  """Returns a float below 1 in two significant digits, other text unchanged."""
  try:
    value = float(text)
  except ValueError:
    return text
  return f'{value:.2g}' if value < 1 else text


def _arithmetic(given: str, wanted: str) -> str:
  """Compares the values of plain sums and products, except zero."""
  a, b = (_computed(text) for text in (given, wanted))
  return 'arithmetic' if a and a == b else ''


def _computed(text: str) -> Fraction | mpmath.mpf | None:
  """Returns the value of a sum or product in Python's spelling, or None."""
  if len(text) > toolkit.MAX_CHARS:
    return None
  text = _FRACTION.sub(r'(\1/\2)', text)
  if not _ARITHMETIC.fullmatch(text) or _IMPLICIT_PRODUCT.search(text):
    return None
  text = _SCIENTIFIC.sub(r'(\1*10^{\2})', text).replace('**', '^')
  try:
    return values.real(text)
  except RecursionError:
    return None


def _fraction_text(given: str, wanted: str) -> str:
  a, b = (_FRACTION.sub(r'\1/\2', text) for text in (given, wanted))
  return 'fraction text' if a == b else ''


_COMPETITION = (_equal, _two_digits, _arithmetic)
_MATH500 = (_equal, _arithmetic, _fraction_text)
