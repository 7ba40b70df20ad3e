r"""Statements in the form that rules search, and the words that ask.

Statements are other people's text, so no pattern may go back over what it has
read: blanks become one blank first, drawings are cut out by position, and only
the first 32K characters count. Rules anchor at the starts of lines and of
sentences, since the same words in the middle belong to stories.
"""

import functools
import re
import unicodedata
from typing import NamedTuple

from acereason_jax.data.curate import gates

CHARS = 1 << 15
# Before a label or an imperative: the start of a line or of a sentence.
START = r'(?:\A|\n|[.?!:;]["\')\]$]{0,2} |\$\$ ?|\\\] ?|[$}] )'

_CIRCLED = {
  **{0x2460 + i: f' ({i + 1}) ' for i in range(20)},
  **{0x2776 + i: f' ({i + 1}) ' for i in range(10)},
  **{0x24B6 + i: f' ({chr(65 + i)}) ' for i in range(26)},
  **{0x24D0 + i: f' ({chr(97 + i)}) ' for i in range(26)},
}
# TeX and HTML that break a line, and that make a gap.
_BREAKS = re.compile(
  r'\\\\(?:\[[^\]\n]{0,12}\])?|\\(?:item|newline|par|bigskip|medskip|smallskip)'
  r'(?![a-zA-Z])'
  r'|</?(?:br|p|div|li|[ou]l|tr|h[1-6])(?: [a-z-]+=[^<>]{0,200})?\s?/?>',
  re.IGNORECASE,
)
_TAGS = re.compile(
  r'</?(?:b|i|u|em|strong|sub|sup|code|span|font|center)'
  r'(?: [a-z-]+=[^<>]{0,200})?\s?>',
  re.IGNORECASE,
)
# \item[(a)] has its own label.
_ITEM = re.compile(r'\\(?:item|task|choice|part)\s?\[([^\]\n]{0,12})\]')
# Items have the labels that a reader sees: 1, 2, ..., or A, B, ...
_LISTS = re.compile(
  r'\\begin\s?\{(?:enumerate|itemize|tasks|choices|parts)\}'
  r'\s?(?P<form>\[[^\]\n]{0,40}\])?'
  r'|\\(?:item|task|choice|part)(?![a-zA-Z])(?!\s?\[)|<ol(?P<type>[^<>]{0,80})>'
  r'|<li>',
  re.IGNORECASE,
)
_LETTERED = re.compile(r'\\Alph|A[.)]|\(A|type=.?A')
# [b](a)[/b] of forums; [B] alone is an option.
_FORUM = re.compile(
  r'\[(b|i|u|list|center|color|size|hide|quote)(?:=[^\[\]\n]{0,40})?\]'
  r'|\[/(?:b|i|u|list|center|color|size|hide|quote)\]'
)
_GAPS = re.compile(
  r'\\(?:q?quad|,|;|:|!|>| )|\\[hv]space\*?\{[^{}]{0,12}\}|(?<!\\)~|&nbsp;'
  r'|\\(?:noindent|hfill|left|right|displaystyle)(?![a-zA-Z])'
)
_WRAPPED = re.compile(
  r'\\(?:(?:text|math)(?:bf|rm|it|sf|normal)?|mbox|bf|emph)\s?'
  r'\{([^{}\n]{0,60})\}'
)
_BLANKS = re.compile(r'[^\S\n]+')
_LINES = re.compile(r' ?\n[ \n]*')
_BULLETS = re.compile(r'\n(?:[-*>#\u2022\u25cf]{1,6} )')
_SENTENCE = re.compile(r'[.?!;]["\')\]$]{0,2} |\n')

_VERBS = (
  'find|determine|compute|calculate|evaluate|prove|show|solve|simplify|express'
  '|state|sketch|graph|describe|explain|estimate|verify|justify|factori[sz]e'
  '|factor|expand|differentiate|integrate|deduce|derive|work out|give (?:a|an)'
  '|write (?:down )?(?:an?|the) (?:equation|expression|formula)|convert'
  '|identify|obtain|discuss|count|list|set up|say (?:what|which|how)|tell'
  '|name (?:the|all|an?)|how|what|which|who|when|where|why|is it|is there'
  '|does there|are there|hence|using'
  '|(?:in|for|with|by|at|to|on|of|from) (?:how|what|which)'
)
# A question, or an imperative at the start of a line, sentence or clause.
_ASK = re.compile(
  rf'\?|(?:\A ?|\n|[.?!:;,] |[$\])}}] ?'
  r'|\b(?:and|then|so|also|thus|hence|please|to) )'
  rf'(?:{_VERBS})\b(?!-)',
  re.IGNORECASE,
)
# Where drawings in words begin, and how they end.
_DRAWINGS = {
  '[asy]': ('asy', '[/asy]'),
  '<asy>': ('asy', '</asy>'),
  '\\begin{asy}': ('asy', '\\end{asy}'),
  '\\begin{tikzpicture}': ('tikz', '\\end{tikzpicture}'),
}
_DRAWING = re.compile('|'.join(map(re.escape, _DRAWINGS)), re.IGNORECASE)


class Statement(NamedTuple):
  """A statement that rules can search.

  text: text in one form: one blank between words, one newline between lines,
    no drawings.
  drawings: kinds of the drawings in words that were cut out: asy, tikz.
  small: the text in small letters, for gates (gates.py).
  """

  text: str
  drawings: tuple[str, ...]
  small: str


# A part of the rows goes through all rules before the next one.
@functools.lru_cache(512)
def prepared(problem: str) -> Statement:
  """The statement in the form that rules search; linear in its length."""
  text, drawings = _cut_drawings(problem[:CHARS])
  if not text.isascii():
    text = unicodedata.normalize('NFKC', text.translate(_CIRCLED))[:CHARS]
  if '\\' in text or '<' in text or '&' in text or '*' in text or '~' in text:
    text = _TAGS.sub('', text.replace('**', ''))
    text = _WRAPPED.sub(r'\1', text)
    text = _BREAKS.sub('\n', _ITEM.sub(r'\n\1 ', _numbered(text)))
    text = _GAPS.sub(' ', text)
  if '[/' in text:
    text = _FORUM.sub('', text)
  text = text.replace('\r', '\n')
  if not has_single_blanks(text):
    text = _BLANKS.sub(' ', text)
  if '\n' in text:
    text = _LINES.sub('\n', text)
  if '\n' in text:
    text = _BULLETS.sub('\n', text)
  text = text.strip()
  return Statement(text, drawings, gates.small(text))


def has_single_blanks(text: str) -> bool:
  """Whether there are no other blanks than lone spaces and line ends; fast."""
  # No blank is printable, except for a space.
  return '  ' not in text and text.replace('\n', '').isprintable()


def _numbered(text: str) -> str:
  """The text with a label at each item of a list that has none."""
  label, place = '(%s) ', 0
  letters = False

  def shown(match: re.Match) -> str:
    nonlocal letters, place
    if match['form'] is not None or match[0][:6].lower() == '\\begin':
      letters, place = bool(_LETTERED.search(match['form'] or '')), 0
      return '\n'
    if match['type'] is not None:
      letters, place = bool(_LETTERED.search(match['type'])), 0
      return '\n'
    place += 1
    name = chr(ord('A') + place - 1) if letters and place <= 26 else place
    return '\n' + label % name

  return _LISTS.sub(shown, text)


def _cut_drawings(text: str) -> tuple[str, tuple[str, ...]]:
  """The text without drawings, and the kinds of these."""
  pieces, kinds, at = [], {}, 0
  while (match := _DRAWING.search(text, at)) is not None:
    kind, end = _DRAWINGS[gates.small(match[0])]
    kinds[kind] = None
    pieces.append(text[at : match.start()])
    # One that never ends takes the rest, so the loop stays linear.
    after = text.find(end, match.end())
    at = len(text) if after < 0 else after + len(end)
  pieces.append(text[at:])
  return '\n'.join(pieces), tuple(kinds)


def asks(text: str) -> bool:
  """Whether a part of a prepared statement asks for something."""
  return _ASK.search(text) is not None


def sentences(text: str) -> list[str]:
  """The sentences and lines of a part of a prepared statement."""
  return [s for s in _SENTENCE.split(text) if s.strip(' .$')]


def shown(text: str, start: int, end: int, margin: int = 30) -> str:
  """The text between two places and a little around it, for evidence."""
  return text[max(0, start - margin) : min(end, start + 160) + margin].strip()
