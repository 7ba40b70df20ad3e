# ruff: noqa: RUF001 (the signs that this file is about)
r"""Normalises the spelling of a LaTeX answer, from its text only.

It decides only typography: sizes, spaces, wrappers, names of one sign,
thousands separators. Patterns are linear in the text.
"""

import functools
import re

_PASSES = 8

_SUPERSCRIPTS = dict(zip('⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ', '0123456789-+n'))
_SUBSCRIPTS = dict(zip('₀₁₂₃₄₅₆₇₈₉ₙ', '0123456789n'))
_GREEK = (
  'α=alpha β=beta γ=gamma δ=delta ε=epsilon ζ=zeta η=eta θ=theta λ=lambda '
  'μ=mu µ=mu ν=nu ξ=xi ρ=rho σ=sigma τ=tau φ=phi ϕ=phi χ=chi ψ=psi ω=omega '
  'Γ=Gamma Δ=Delta Θ=Theta Λ=Lambda Σ=Sigma Φ=Phi Ψ=Psi Ω=Omega Ω=Omega π=pi'
)
_FRACTIONS = (
  '½=1/2 ⅓=1/3 ⅔=2/3 ¼=1/4 ¾=3/4 ⅕=1/5 ⅖=2/5 ⅗=3/5 ⅘=4/5 ⅙=1/6 ⅚=5/6 ⅛=1/8 '
  '⅜=3/8 ⅝=5/8 ⅞=7/8'
)
# The letters, digits and signs of Chinese and Japanese keyboards are those of
# ASCII; other digits, such as Arabic ones, are not read, and int() never gets
# them.
_FULL_WIDTH = {chr(c + 0xFEE0): chr(c) for c in range(0x21, 0x7F)}
_FULL_WIDTH |= {'｛': r'\{', '｝': r'\}', '％': r'\%', '＄': r'\$', '，': ', '}
for _sign in '＼＂＃＆＇｀～':
  del _FULL_WIDTH[_sign]
_UNICODE = str.maketrans(
  _FULL_WIDTH
  | dict.fromkeys('−–‒﹣', '-')
  | dict.fromkeys('\u00a0\u2009\u202f\u2002\u2003\u2007\u200a\u3000', ' ')
  # Characters without width, except those that change the direction of text,
  # which display another answer.
  | dict.fromkeys('\u200b\u200c\u200d\u200e\u2060\u2061\u2062\ufeff\u00ad', '')
  | {
    '°': r'^\circ ',
    'º': r'^\circ ',
    '˚': r'^\circ ',
    '×': r'\times ',
    '·': r'\cdot ',
    '⋅': r'\cdot ',
  }
  | {'÷': r'\div ', '∞': r'\infty ', '∪': r'\cup ', '∩': r'\cap '}
  | {'≤': r'\le ', '≥': r'\ge ', '≠': r'\ne ', '±': r'\pm ', '∓': r'\mp '}
  | {'≦': r'\le ', '≧': r'\ge ', '⩽': r'\le ', '⩾': r'\ge ', '∶': ':'}
  | {'≈': r'\approx ', '√': r'\sqrt ', '∅': r'\emptyset ', '∈': r'\in '}
  | {'⌊': r'\lfloor ', '⌋': r'\rfloor ', '⌈': r'\lceil ', '⌉': r'\rceil '}
  | {'ℝ': r'\mathbb{R}', 'ℤ': r'\mathbb{Z}', '≡': r'\equiv ', '∠': r'\angle '}
  | {'′': "'", '、': ', ', '⁄': '/', '∕': '/', '∣': '|', '∖': r'\setminus '}
  | {'℃': ' celsius ', '℉': ' fahrenheit ', '﹪': r'\%', '∙': r'\cdot '}
  | {'€': ' EUR ', '£': ' GBP ', '¥': ' yensign ', '₹': ' INR ', '₩': ' KRW '}
  | {'₽': ' RUB ', '₱': ' MXN ', '₫': ' VND ', '₪': ' ILS ', '₦': ' NGN '}
  | {'￥': ' yensign ', '￡': ' GBP ', '￦': ' KRW ', '¢': ' cents '}
  | {'元': ' CNY ', '円': ' JPY ', '৳': ' BDT ', '฿': ' THB '}
  # (1) for ① and ⑴.
  | {chr(c + n): f'({n + 1})' for c in (0x2460, 0x2474) for n in range(20)}
  | {sign[0]: f'\\{sign[2:]} ' for sign in _GREEK.split()}
  | {f[0]: rf'\frac{{{f[2]}}}{{{f[4]}}}' for f in _FRACTIONS.split()}
)
_POWERS = re.compile(f'[{"".join(_SUPERSCRIPTS)}]+')
_INDICES = re.compile(f'[{"".join(_SUBSCRIPTS)}]+')
WORD_COMMAND = (
  r'\\(?:text(?:bf|it|rm|sf|tt|sc|sl|md|normal|up)?'
  r'|math(?:rm|bf|sf|it|tt|normal)|mbox|hbox|emph|operatorname\*?)'
)
# Text that may surround an answer and says nothing about it.
_WRAPPER = re.compile(
  rf'(?:{WORD_COMMAND}|\\(?:boxed|fbox|framebox|boldsymbol|bm|pmb|underline'
  r'|uline))\s*\{'
)
_DELIMITED = re.compile(
  r'\\\((.*)\\\)|\\\[(.*)\\\]|\$\$?([^$]*)\$?\$', re.DOTALL
)
_MARKDOWN = re.compile(r'(\*{1,3}|__?|`+)([^*_`]+)\1')
_DECORATION = re.compile(
  r'\\color\s*(?:\[[^][{}]*\]\s*)?\{[^{}]*\}'
  r'|\\(?:text|f?color)(?:color|box)\s*(?:\[[^][{}]*\]\s*)?\{[^{}]*\}'
  r'(?:\s*\{[^{}]*\}(?=\s*\{))?(?=\s*\{)'
  r'|\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge'
  r'|Huge|boldmath|unboldmath|normalfont)(?![A-Za-z])'
)
_OLD_FONT = (
  r'\\(?:bf|it|rm|sf|tt|sl|sc|em)(?:series|shape|family)?(?![A-Za-z])\s*'
)
_OLD_FONTS = re.compile(rf'(\{{\s*)?{_OLD_FONT}')
_SIZES = re.compile(
  r'\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?'
  r'|\\(?:display|text|script)style(?![A-Za-z])|\\limits(?![A-Za-z])'
  r'|\\(?:hspace|vspace|[hv]?phantom|label|tag)\s*\{[^{}]*\}|\\!'
  r'|\\[hv]?phantom\s*[-+0-9]'
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
    # 5!=120 states the value of 5!.
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
    (r'\\(?:text)?(?:dollar)(?![A-Za-z])', r'\\$'),
    (r'\\(?:text)?(?:euro|EUR)(?![A-Za-z])(?:\{\})?', ' EUR '),
    (r'\\(?:(?:text|math)?sterling|pounds)(?![A-Za-z])(?:\{\})?', ' GBP '),
    (r'\\(?:text)?yen(?![A-Za-z])(?:\{\})?', ' yensign '),
    (r'\\(?:text)?rupee(?![A-Za-z])(?:\{\})?', ' INR '),
    (r'\\(?:text)?won(?![A-Za-z])(?:\{\})?', ' KRW '),
    (r'\\(?:text)?cent(?![A-Za-z])(?:\{\})?', ' cents '),
    # The stop would be a decimal point.
    (r'(?<![A-Za-z\\])(Rs|Re|INR)\. ?(?=[0-9])', r'\1 '),
    (r'(?<![A-Za-z\\])U\.?S\.?A?\.? ?\\\$', ' USD '),
    (r'(?<![A-Za-z\\])(HK|NZ|CA|AU|SG|NT) ?\\\$', r' \1D '),
    (r'(?<![A-Za-z\\])A ?\\\$', ' AUD '),
    (r'(?<![A-Za-z\\])C ?\\\$', ' CAD '),
    # Single dollars and \( \) only delimit mathematics.
    (r'(?<!\\)\$|(?<!\\)\\[()]', ' '),
    (r'\*\*', '^'),
    # Ordinals such as the 5^{th}.
    (
      r'(?<=[0-9])\^(?:(?:st|nd|rd|th)(?![A-Za-z])|\{(?:st|nd|rd|th)\}'
      r'|\\(?:text|mathrm)\{(?:st|nd|rd|th)\}'
      r'|\{\\(?:text|mathrm)\{(?:st|nd|rd|th)\}\})',
      '',
    ),
    (r'\\textcircled ?\{ ?([0-9]{1,2}) ?\}', r'(\1)'),
    (r'\( ?\\bmod(?![A-Za-z])([^()]*)\)', r'\\pmod{\1}'),
    (r'(?<![A-Za-z\\])([ap])\. ?m(?![A-Za-z])\.?', r'\1m'),
    # About 5 is an answer; x about 5 is a chain.
    (r'^ ?\\(?:approx|simeq)(?![A-Za-z])', ' '),
    # The scale of 5^\circ C; a bare K is a variable.
    (
      r'(?:\{\})? ?\^ ?(?:\{ ?\\circ ?\}|\\circ) ?'
      rf'(?:{WORD_COMMAND} ?\{{ ?C ?\}}|C(?![A-Za-z]))',
      ' celsius ',
    ),
    (
      r'(?:\{\})? ?\^ ?(?:\{ ?\\circ ?\}|\\circ) ?'
      rf'(?:{WORD_COMMAND} ?\{{ ?F ?\}}|F(?![A-Za-z]))',
      ' fahrenheit ',
    ),
  )
)
# Groups that are unambiguous, unlike those of 1,234: see numerals.py.
_GROUPS = re.compile(
  r'(?<![0-9._^])[1-9][0-9]{0,2}(?:(?:\{,\} ?|\\,|,\\! ?)[0-9]{3})+(?![0-9])'
)
# 2 345/678 is a mixed number.
_SPACED_GROUPS = re.compile(
  r'(?<![0-9._^/] )(?<![0-9.,_^/])[1-9][0-9]{0,2}(?: [0-9]{3})+'
  r'(?![0-9]| ?/| [0-9])'
)
# JSON that was unescaped once too little: `\\\\frac`, where no row of a matrix
# can begin.
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
# 9 (apples), 36 (sq. inches)
_COUNTED = re.compile(
  r"([-+]?[0-9][0-9.,/]*) \(([A-Za-z][A-Za-z .'-]{3,57}|[ck]m|mm|kg|ml)\)"
)
_COMMA = re.compile(' , ?|, ')
_MAYBE_GROUPS = re.compile('[0-9] ?, ?[0-9]{3}')


def normalise(text: str) -> str:
  """Returns `text` in one spelling: no wrapper, sizes or loose spacing."""
  return packed(typeset(text))


def packed(text: str) -> str:
  """Returns a typeset text without loose spacing."""
  if _MAYBE_GROUPS.search(text):
    # There the space after a comma distinguishes it from the comma of 1,234.
    return ', '.join(map(_tight, _COMMA.split(text)))
  return _tight(text)


@functools.lru_cache(4096)
def typeset(text: str) -> str:
  """Returns `text` in one spelling, with its spaces."""
  text = text.translate(_UNICODE)
  if _ESCAPED_TWICE.search(text):
    text = text.replace('\\\\', '\\')
  text = _INDICES.sub(_subscript, _POWERS.sub(_superscript, text))
  text = _OLD_FONTS.sub(_font, _DECORATION.sub(' ', text))
  text = _SPACES.sub(' ', _SIZES.sub(' ', _GROUPS.sub(_digits, text)))
  text = _CHOOSE.sub(r'\\binom{\1}{\2}', ' '.join(text.split()))
  for _ in range(_PASSES):
    previous, text = text, _unwrapped(text.strip())
    if previous == text:
      break
  for pattern, replacement in _RENAMED:
    text = pattern.sub(replacement, text)
  if match := _COUNTED.fullmatch(text):
    text = rf'{match[1]} \text{{{match[2]}}}'
  return _SPACED_GROUPS.sub(_digits, ' '.join(text.split()))


def _tight(text: str) -> str:
  return _LOOSE_SPACE.sub('', text)


def _superscript(match: re.Match) -> str:
  return '^{' + ''.join(_SUPERSCRIPTS[c] for c in match[0]) + '}'


def _subscript(match: re.Match) -> str:
  return '_{' + ''.join(_SUBSCRIPTS[c] for c in match[0]) + '}'


def _font(match: re.Match) -> str:
  return r'\mathrm{' if match[1] else ' '


def _digits(match: re.Match) -> str:
  return re.sub('[^0-9]', '', match[0])


def _unwrapped(text: str) -> str:
  """Returns `text` without its outermost layer."""
  text = text.rstrip('.,;:\\ 。') if not text.endswith('...') else text
  match = _DELIMITED.fullmatch(text) or _MARKDOWN.fullmatch(text)
  if match:
    return next(inner for inner in match.groups()[::-1] if inner is not None)
  if match := _WRAPPER.match(text):
    inner = match.end()
    return text[inner:-1] if closing(text, inner) == len(text) - 1 else text
  if text.startswith('{') and closing(text, 1) == len(text) - 1:
    return text[1:-1]
  return text


def closing(text: str, start: int) -> int | None:
  r"""Returns where the brace opened at `start` closes; \} does not count."""
  # Mostly no brace is inside, or none is left.
  end = text.find('}', start)
  if end < 0:
    return None
  if text.find('{', start, end) < 0 and text.find('\\', start, end) < 0:
    return end
  depth = 1
  for token in _BRACES.finditer(text, start):
    if token[0] == '{':
      depth += 1
    elif token[0] == '}':
      depth -= 1
      if depth == 0:
        return token.start()
  return None
