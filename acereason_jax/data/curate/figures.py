"""Statements that need a figure or a link that is not in them."""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import gates, statements
from acereason_jax.data.curate.values import Row

# Images and addresses, in the statement as it is written.
IMAGE = gates.Gated(
  r'!\[[^\]\n]{0,200}\]\s?\(|<img\b|\\includegraphics\b|\[\[?image|<image'
  r'|\[(?:figure|img|pic(?:ture)?|diagram|graph)\b[^\]\n]{0,40}\]'
  r'|\bdata:image/|\b[\w-]{1,80}\.(?:png|jpe?g|gif|svg|bmp|webp)\b'
  r'|\bcdn\.mathpix\b|\(image (?:omitted|not shown)\)',
)
_WHOLE_IMAGE = re.compile(
  r'!\[[^\]\n]{0,200}\]\s?\([^)\n]{0,500}\)|<img[^>\n]{0,500}>'
  r'|\\includegraphics(?:\[[^\]\n]{0,80}\])?\{[^}\n]{0,200}\}',
  re.IGNORECASE,
)
_URL = gates.Gated(r'\b(?:https?|ftp)://|\bwww\.\w')

_PICTURE = (
  r'(?:figures?|diagrams?|pictures?|drawings?|sketch(?:es)?|illustrations?'
  r'|images?|photos?|photographs?)'
)
_CHART = (
  r'(?:graphs?|charts?|tables?|grids?|maps?|number lines?|plots?|histograms?'
  r'|spinners?|nets?|box plots?|scatter ?plots?|dot plots?|pie charts?'
  r'|bar graphs?|venn diagrams?|spreadsheets?|mazes?|tree diagrams?)'
)
_DRAWN = (
  r'(?:shapes?|triangles?|squares?|rectangles?|circles?|polygons?|solids?'
  r'|regions?'
  r'|(?:hexa|penta|octa|paralle?lo)\w+|trapezo?i\w+|quadrilaterals?|patterns?'
  r'|angles?|boards?|cubes?|prisms?|pyramids?|cones?|cylinders?|curves?|lines?'
  r'|segments?|arcs?|sectors?|rhombus|kite|semicircles?|clocks?|scales?'
  r'|paths?|arrangements?'
  r'|configurations?|blocks?|tiles?|parabolas?|functions?|design|logo|flag)'
)
_PLACE = (
  r'(?:below|above|(?:at|on|to) (?:the )?(?:right|left)|here|opposite|alongside'
  r'|overleaf|underneath)'
)
_SHOWN = (
  r'(?:shown|pictured|depicted|illustrated|drawn|sketched|displayed|given'
  r'|graphed|plotted|indicated|marked)'
)
_SEEN = r'(?:shown|pictured|depicted|illustrated|graphed|displayed)'
# Cheap, and in every statement that the patterns below can match.
_HINT = gates.Gated(
  r'show|figure|fig\.|diagram|pictu|draw|sketch|illustrat|image|photo|depict'
  r'|graph|chart|table|grid|map|plot|below|above|right|left|indicated',
)
_FIGURES = tuple(
  gates.Gated(pattern)
  for pattern in (
    # As shown; but not: as shown by the formula.
    rf'\bas (?:is |are |it is )?(?:{_SEEN}|drawn|sketched|indicated)\b'
    r'(?! (?:by|that|earlier|when|if)\b)',
    # The figure below, the picture shown on the right, the bar chart above.
    rf'\b{_PICTURE} (?:(?:is|are|as|that is|which is) )?(?:{_SHOWN}'
    rf' )?{_PLACE}\b(?! \$?[0-9])'
    rf'|\b(?<!number of ){_PICTURE} (?:provided|attached|represents?|shows?'
    r'|illustrates?|depicts?)\b'
    rf'|\b{_PICTURE} shown\b(?! (?:at|on|to|by) )'
    rf'|\b(?:the|this|these) (?:[\w-]+ ){{0,2}}?{_CHART} (?:{_SHOWN}'
    rf' )?{_PLACE}\b'
    rf'|\b(?:the|this|these) (?:[\w-]+ ){{0,2}}?{_CHART} (?:shows?|provided'
    rf'|pictured)\b(?! that\b| ?:)',
    # The following diagram, the table above.
    rf'\b(?:following|accompanying|adjoining|adjacent|attached|above|below) '
    rf'{_PICTURE}\b|\b(?:accompanying|adjoining|attached) (?:\w+ )?{_CHART}\b'
    rf'|\bfollowing (?:\w+ )?{_CHART} (?:represents?|shows?|gives?|displays?'
    r'|illustrates?|depicts?)\b(?! ?:)',
    # The graph of f is shown below; is shown in the figure.
    rf'\b(?:is|are|was|were|and) (?:partly |partially |also )?{_SHOWN}'
    rf' (?:(?:in|on'
    rf'|by) (?:the|this) (?:\w+ )?(?:{_PICTURE}|{_CHART})|figure|here|below'
    rf'|above'
    r'|(?:at|on|to) (?:the )?(?:right|left))\b',
    # In the diagram, ...; use the figure to ...
    rf'(?:{statements.START}|, |\()(?:in|on|from|using|use|consider|refer to'
    r'|referring to|based on|according to|see|looking at|look at|study|observe)'
    rf' (?:the |this |these |each |each of the )?'
    r'(?:given |following |above |below )?'
    rf'(?:{_PICTURE}|fig\.)'
    r'(?= ?[,.:;)?]| ?\Z|\n| (?:below|above|shown|at|on|to|find|what|how|we|you'
    r'|the|an?|there|is|are|all|each|two|three|four|five|if|lines?|points?'
    r'|(?-i:[A-Z$\\])))',
    rf'\b(?:marked|shaded|labell?ed|numbered|drawn|given|shown|seen|darkened'
    rf'|indicated|unshaded|colou?red) (?:parts? |regions? |areas? )?(?:in|on) '
    rf'(?:the|this) {_PICTURE}\b'
    r'|\b(?:in|from|on) the (?:figure|diagram)(?= ?[.,?;)]|\Z)',
    # Figure 3, fig. 2(a), see figure; but not the figure 8.
    r'(?<!the )(?<!a )(?<!of )\b(?:figure \(?|figs?\. ?\(?)[0-9]{1,2}'
    r'(?:[.\-][0-9]{1,2})?(?:\s?\([a-d]\))?'
    r'(?! (?:shape|skat|pattern|loop|track|knot|times|cm)|\d|,\d)'
    r'|\bfigures [0-9]{1,2} (?:and|to) [0-9]'
    r'|\bsee (?:the )?(?:attached |accompanying )?(?:figure|fig\.|diagram'
    r'|picture'
    r'|image|graph|sketch|drawing)',
    r'\b(?:according to|based on|refer(?:ring)? to|looking at|study)'
    r' (?:the|this) (?:(?:bar|line|pie|circle) )?(?:graphs?|charts?'
    r'|histogram|tables?|plot)'
    r'(?= ?[,.?;)])'
    rf'|\b(?:{_PICTURE}|graph)s? (?:is |are )?not (?:drawn )?to scale'
    rf'|\bas in (?:the|this) {_PICTURE}\b'
    r'|\bgraph of [^.?!,\n]{1,40} (?:shown|pictured)\b(?! (?:that|to|by)\b)',
    # The triangle shown; the spinner pictured below.
    rf'\b(?:the|this|these|each|following) (?:[\w-]+ ){{0,2}}?(?:{_DRAWN}'
    rf'|{_CHART})'
    rf' (?:(?:is|are) )?{_SEEN}\b(?! (?:to|that|by|at|on|as|how)\b)',
    rf'\b(?:the|this|these|each|following) (?:[\w-]+ ){{0,2}}?{_DRAWN}'
    r' (?:drawn |given )?(?:below|(?:at|on|to) the (?:right|left))(?=[ ,.?:;]'
    r'|\Z)'
    r'(?! the)',
    rf'{statements.START}(?:(?:shown |pictured |drawn |sketched |given )?'
    rf'(?:below|here|above|(?:at|on|to) the (?:right|left))|shown|pictured)'
    rf' (?:is|are) (?:an?|the|shown'
    rf'|some|two'
    rf'|three|part of)[^.?!\n]{{0,30}}\b(?:{_PICTURE}|{_CHART}|{_DRAWN})\b',
  )
)
# The table below is there if it is in words.
_TABLE_WORDS = re.compile(
  r'\b(?:table|grid|chart|spreadsheet)s?\b', re.IGNORECASE
)
_TABLE = re.compile(
  r'\\begin\{(?:tabular|array|matrix|[bpvV]matrix|table)|\|.{1,200}\|.{0,200}\n'
  r'|<table|\t.{1,80}\t|&.{1,200}\\\\'
)
# What is shown below is there: a formula, or lines of numbers.
_FOLLOWS = re.compile(
  rf'(?: {_PLACE})? ?(?:: ?\n?|\n)(?=[ \n]?(?:\\\[|\$\$|\\begin'
  r'|\$[^$\n]{1,200}\$|[^A-Za-z\n]{0,10}\d))',
  re.IGNORECASE,
)
_IN_PICTURE = re.compile(rf'\b{_PICTURE}\b', re.IGNORECASE)
# The statement goes without the picture of an example.
_EXAMPLE = re.compile(r'\bexamples?\b[^.?!\n]*\Z', re.IGNORECASE)
# Not a place in a text but one in a plane.
_PLANE = re.compile(
  r'\b(?:below|above) (?:the )?(?:\$?[xyz]\$?[ -]?axis|line|curve|plane|ground'
  r'|zero|sea|water|surface|average|mean|parabola|graph|\$)',
  re.IGNORECASE,
)


def figure(row: Row, asy: str = 'keep') -> Mapping[str, Any] | None:
  """An image, an address, or words that refer to a figure.

  Code in [asy] or tikz is a figure in words: it stands for the one that the
  words refer to. With asy='drop' it is a reason itself.
  """
  raw = row.problem[: statements.CHARS]
  small = gates.small(raw)
  for kind, pattern in (('image', IMAGE), ('url', _URL)):
    if match := pattern.search(raw, small):
      return {'kind': kind, 'matched': statements.shown(raw, *match.span())}
  statement = statements.prepared(raw)
  if statement.drawings:
    return {'kind': statement.drawings[0]} if asy == 'drop' else None
  if words := reference_in_words(raw):
    return {'kind': 'words', 'matched': words}
  return None


def reference_in_words(raw: str) -> str | None:
  """The words in which a statement refers to a figure, with some around."""
  text, _, small = statements.prepared(raw)
  if not _HINT.admits(small):
    return None
  for pattern in _FIGURES:
    for match in pattern.finditer(text, small):
      if _PLANE.match(text, max(match.end() - 5, 0)):
        continue
      before = text[max(match.start() - 40, 0) : match.end()]
      if _EXAMPLE.search(before):
        continue
      if _TABLE_WORDS.search(match[0]) and _TABLE.search(raw):
        continue
      if _FOLLOWS.match(text, match.end()) and not _IN_PICTURE.search(match[0]):
        continue
      return statements.shown(text, *match.span())
  return None


def without_images(raw: str) -> str:
  """A statement without the addresses of its images."""
  return _WHOLE_IMAGE.sub(' ', raw)


def drawings(row: Row) -> tuple[str, ...]:
  """Kinds of the drawings in words in a row's statement."""
  return statements.prepared(row.problem).drawings
