# ruff: noqa: RUF001 (the signs that this file is about)
r"""Brings a LaTeX answer to one spelling, by text alone.

No meaning is decided here but that of typography: sizes, spaces, wrappers, the
names one sign has, thousands separators. Patterns are linear in the text.
"""

import functools
import re

_PASSES = 8

_SUPERSCRIPTS = dict(zip('⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ', '0123456789-n'))
_UNICODE = str.maketrans(
  dict.fromkeys('−–‒﹣－', '-')
  | dict.fromkeys('\u00a0\u2009\u202f\u2002\u2003\u3000', ' ')
  | {'°': r'^\circ ', '×': r'\times ', '·': r'\cdot ', '⋅': r'\cdot '}
  | {'÷': r'\div ', 'π': r'\pi ', '∞': r'\infty ', '∪': r'\cup '}
  | {'≤': r'\le ', '≥': r'\ge ', '≠': r'\ne ', '±': r'\pm ', '∓': r'\mp '}
  | {'≈': r'\approx ', '√': r'\sqrt ', '∅': r'\emptyset ', '∈': r'\in '}
  | {'⌊': r'\lfloor ', '⌋': r'\rfloor ', '⌈': r'\lceil ', '⌉': r'\rceil '}
  | {'θ': r'\theta ', 'α': r'\alpha ', 'β': r'\beta ', 'γ': r'\gamma '}
  | {'½': r'\frac{1}{2}', '¼': r'\frac{1}{4}', '¾': r'\frac{3}{4}'}
  | {'ℝ': r'\mathbb{R}', '≡': r'\equiv ', '∠': r'\angle ', '′': "'"}
  | {chr(ord('①') + i): f'({i + 1})' for i in range(20)}
  | {'，': ',', '；': ';', '：': ':', '（': '(', '）': ')'}
)
_POWERS = re.compile(f'[{"".join(_SUPERSCRIPTS)}]+')
WORD_COMMAND = (
  r'\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|sf|it|tt|normal)'
  r'|mbox|hbox|emph|operatorname\*?)'
)
_WRAPPED = re.compile(
  rf'(?:{WORD_COMMAND}|\\boxed|\\fbox)\s*\{{([^{{}}]*)\}}'
  r'|\\\((.*)\\\)|\\\[(.*)\\\]|\$\$?([^$]*)\$?\$',
  re.DOTALL,
)
_BOXED = re.compile(r'\\(?:boxed|fbox)\s*\{(.*)\}', re.DOTALL)
_SIZES = re.compile(
  r'\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?'
  r'|\\(?:display|text|script)style(?![A-Za-z])|\\limits(?![A-Za-z])'
  r'|\\(?:hspace|vspace|phantom|label|tag)\s*\{[^{}]*\}|\\!'
  r'|(?<=\\\\)\s*\[[0-9.]+ ?(?:pt|em|ex|mm|cm)\]'
)
_SPACES = re.compile(
  r'(?<!\\)\\[,;:> ]|~|\\(?:q?quad|enspace|thinspace|space)(?![A-Za-z])|\s'
)
_RENAMED = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r'\\[dtc]frac(?![A-Za-z])', r'\\frac'),
    (r'\\[dt]binom(?![A-Za-z])', r'\\binom'),
    (r'\\leq?(?:slant)?(?![A-Za-z])|<=', r'\\le '),
    (r'\\geq?(?:slant)?(?![A-Za-z])|>=', r'\\ge '),
    (r'\\lt(?![A-Za-z])', '<'),
    (r'\\gt(?![A-Za-z])', '>'),
    # 5!=120 says what 5! is.
    (r'\\neq?(?![A-Za-z])|(?<![0-9)}])!=', r'\\ne '),
    (r'\\degree(?![A-Za-z])', r'^\\circ '),
    (r'\\varnothing(?![A-Za-z])', r'\\emptyset '),
    (r'\\(?:lvert|rvert|vert|mid)(?![A-Za-z])', '|'),
    (r'\\(?:lbrace|\{)', r'\\{'),
    (r'\\(?:rbrace|\})', r'\\}'),
    (r'\\lbrack(?![A-Za-z])', '['),
    (r'\\rbrack(?![A-Za-z])', ']'),
    (r'\\colon(?![A-Za-z])', ':'),
    (r'\\(?:text|mathrm|mbox)\{\s*(\\[$%])\s*\}', r'\1'),
    # Single dollars and \( \) delimit mathematics, and say nothing.
    (r'(?<!\\)\$|(?<!\\)\\[()]', ' '),
    (r'\*\*', '^'),
    # The 5^{th}.
    (
      r'(?<=[0-9])\^(?:(?:st|nd|rd|th)(?![A-Za-z])|\{(?:st|nd|rd|th)\}'
      r'|\\(?:text|mathrm)\{(?:st|nd|rd|th)\}'
      r'|\{\\(?:text|mathrm)\{(?:st|nd|rd|th)\}\})',
      '',
    ),
  )
)
# Groups that are nothing else, unlike those of 1,234: see numerals.py.
_GROUPS = re.compile(
  r'(?<![0-9._^])[1-9][0-9]{0,2}(?:(?:\{,\} ?|\\,|,\\! ?)[0-9]{3})+(?![0-9])'
)
# 2 345/678 is a mixed number.
_SPACED_GROUPS = re.compile(
  r'(?<![0-9._^/] )(?<![0-9.,_^/])[1-9][0-9]{0,2}(?: [0-9]{3})+'
  r'(?![0-9]| ?/| [0-9])'
)
# JSON read once too little: `\\\\frac`, where no row of a matrix can begin.
_ESCAPED_TWICE = re.compile(
  r'\\\\(?:begin|d?frac|sqrt|left|text|boxed|cdot|le|pi)(?![A-Za-z])'
  r'(?![\s\S]*(?<!\\)\\begin)'
)
_BRACES = re.compile(r'\\.|[{}]', re.DOTALL)
_CHOOSE = re.compile(r'\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}')
# In 1. 5 and 1 .5 the space stays: they are not 1.5.
_LOOSE_SPACE = re.compile(
  r'(?<![A-Za-z0-9}])(?<![0-9]\.) | (?![A-Za-z0-9]|\.[0-9])'
)
_COMMA = re.compile(' , ?|, ')
_MAYBE_GROUPS = re.compile('[0-9] ?, ?[0-9]{3}')


def normalise(text: str) -> str:
  """Returns `text` in one spelling: no wrapper, sizes or loose spacing."""
  return packed(typeset(text))


def packed(text: str) -> str:
  """Returns a typeset text without loose spacing."""
  if _MAYBE_GROUPS.search(text):
    # There the space behind a comma tells it from that of 1,234.
    return ', '.join(map(_tight, _COMMA.split(text)))
  return _tight(text)


@functools.lru_cache(4096)
def typeset(text: str) -> str:
  """Returns `text` in one spelling, with its spaces."""
  text = text.translate(_UNICODE)
  if _ESCAPED_TWICE.search(text):
    text = text.replace('\\\\', '\\')
  text = _GROUPS.sub(_digits, _POWERS.sub(_superscript, text))
  text = _SPACES.sub(' ', _SIZES.sub(' ', text))
  text = _CHOOSE.sub(r'\\binom{\1}{\2}', ' '.join(text.split()))
  for _ in range(_PASSES):
    previous, text = text, _unwrapped(text.strip())
    if previous == text:
      break
  for pattern, replacement in _RENAMED:
    text = pattern.sub(replacement, text)
  return _SPACED_GROUPS.sub(_digits, ' '.join(text.split()))


def _tight(text: str) -> str:
  return _LOOSE_SPACE.sub('', text)


def _superscript(match: re.Match) -> str:
  return '^{' + ''.join(_SUPERSCRIPTS[c] for c in match[0]) + '}'


def _digits(match: re.Match) -> str:
  return re.sub('[^0-9]', '', match[0])


def _unwrapped(text: str) -> str:
  """Returns `text` with one layer less around it."""
  text = text.rstrip('.,;:\\ ') if not text.endswith('...') else text
  if match := _WRAPPED.fullmatch(text):
    return next(inner for inner in match.groups() if inner is not None)
  if match := _BOXED.fullmatch(text):
    return match[1] if closing(text, match.start(1)) == match.end(1) else text
  if text.startswith('{') and closing(text, 1) == len(text) - 1:
    return text[1:-1]
  return text


def closing(text: str, start: int) -> int | None:
  r"""Returns where the brace that is open at `start` closes; \} is none."""
  depth = 1
  for token in _BRACES.finditer(text, start):
    if token[0] == '{':
      depth += 1
    elif token[0] == '}':
      depth -= 1
      if depth == 0:
        return token.start()
  return None
