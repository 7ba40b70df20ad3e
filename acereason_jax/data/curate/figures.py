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
  r'|<(?:svg|figure|picture|canvas|iframe|embed)\b|\\begin\{figure'
  r'|\[attach\w*\b|\\(?:epsf\w*|psfig|epsfig'
  r'|includesvg|pgfimage)\b|\[\[file:|\b[\w-]{1,80}\.(?:eps|tiff?)\b'
  r'|\bcdn\.mathpix\b|\(image (?:omitted|not shown)\)',
)
_WHOLE_IMAGE = re.compile(
  r'!\[[^\]\n]{0,200}\]\s?\([^)\n]{0,500}\)|<img[^>\n]{0,500}>'
  r'|\\includegraphics(?:\[[^\]\n]{0,80}\])?\{[^}\n]{0,200}\}|</?figure>'
  r'|\[img[^\]\n]{0,40}\][^\[\]\n]{0,300}\[/img\]|\(image [^)\n]{0,20}\)'
  r'|<image[^>\n]{0,40}>',
  re.IGNORECASE,
)
_URL = gates.Gated(r'\b(?:(?:https?|ftp)://|www\.\w)')

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
  r'(?:below|above|(?:at|on|to) (?:the )?(?:right|left)(?! (?:end|side|of'
  r'|edge|half|corner|hand))|here|opposite|alongside'
  r'|overleaf|underneath)'
)
_SHOWN = (
  r'(?:shown|pictured|depicted|illustrated|drawn|sketched|displayed|given'
  r'|graphed|plotted|indicated|marked)'
)
_SEEN = r'(?:shown|pictured|depicted|illustrated|graphed|displayed)'
_FIGURES = gates.Gated(
  '|'.join(
    (
      # As shown; but not: as shown by the formula.
      rf'\bas (?:is |are |it is )?(?:{_SEEN}|drawn|sketched|indicated)\b'
      r'(?! (?:by|that|earlier|when|if)\b)',
      # The figure below, the picture shown on the right, the bar chart above.
      rf'\b{_PICTURE} (?:(?:is|are|as|that is|which is) )?(?:{_SHOWN}'
      rf' )?{_PLACE}\b(?! \$?[0-9])'
      rf'|\b(?<!number of )(?!figures\b){_PICTURE} (?:provided|attached'
      r'|represents?|shows?'
      r'|illustrates?|depicts?)\b'
      rf'|\b{_PICTURE} shown\b(?! (?:at|on|to|by) )'
      rf'|\b(?:the|this|these) (?:[\w-]+ ){{0,2}}?{_CHART} (?:{_SHOWN}'
      rf' )?{_PLACE}\b(?! (?:is|are) (?:described|defined|specified'
      r'|represented)'
      rf' (?:by|as|in)\b)'
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
      r'|referring to|based on|according to|see|looking at|look at|study'
      r'|observe)'
      rf' (?:the |this |these |each |each of the )?'
      r'(?:given |following |above |below )?'
      rf'(?:{_PICTURE}|fig\.)'
      r'(?= ?[,.:;)?]| ?\Z|\n| (?:below|above|shown|at|on|to|find|what|how'
      r'|we|you'
      r'|the|an?|there|is|are|all|each|two|three|four|five|if|lines?|points?'
      r'|(?-i:[A-Z$\\])))',
      rf'\b(?:marked|shaded|labell?ed|numbered|drawn|given|shown|seen|darkened'
      r'|indicated|unshaded|colou?red) (?:parts? |regions? |areas? )?(?:in'
      r'|on) '
      rf'(?:the|this) {_PICTURE}\b'
      r'|\b(?:in|from|on) the (?:figure|diagram)(?= ?[.,?;)]|\Z)',
      # Figure 3, fig. 2(a), see figure; but not the figure 8.
      r'(?<!the )(?<!a )(?<!of )\b(?:figure \(?|figs?\.? ?\(?)[0-9]{1,2}'
      r'(?:[.\-][0-9]{1,2})?(?:\s?\([a-d]\))?'
      r'(?! (?:shape|skat|pattern|loop|track|knot|times|cm)|\d|,\d)'
      r'|\bfigures \(?[0-9a-d]{1,2}\)?(?:, \([b-d]\))? (?:and|to) \(?[0-9b-d]'
      r'|\bsee (?:the )?(?:attached |accompanying )?(?:figure|fig\.|diagram'
      r'|picture'
      r'|image|graph|sketch|drawing)',
      r'\b(?:according to|based on|refer(?:ring)? to|looking at|study)'
      r' (?:the|this) (?:(?:bar|line|pie|circle) )?(?:graphs?|charts?'
      r'|histogram|tables?|plot)'
      r'(?= ?[,.?;)])'
      rf'|\b(?:{_PICTURE}|graph)s? (?:is |are )?not (?:drawn )?to scale'
      rf'|\bas in (?:the|this) {_PICTURE}\b'
      r'|\bgraph of (?!the (?:equation|function|inequality|relation|system'
      r'|curve|line|parabola|polynomial))[^.?!,\n]{1,40} (?:shown|pictured'
      r'|below|above|on the right|on the left)\b(?! (?:that|to|by|the|an?'
      r'|\$?[xy0-9])\b)',
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
      # The spiral depicted below.
      r'\b(?:the|this|these|an?) (?:[\w-]+ ){1,3}?(?:depicted|pictured'
      r'|illustrated'
      rf'|displayed) {_PLACE}\b',
    )
  )
)
# A figure that is spoken of as known, and that nothing in the text makes known.
_KNOWN = gates.Gated(
  r'(?P<use>\b(?:in|on|from|of|within|to|see|use|using|study|consider|examine'
  r'|observe|consult|read|at|with|inspect|given|by|per)'
  r' )?\b(?P<the>the|this|that|these|those|our|following|given|attached|above'
  r'|accompanying|adjoining|provided|enclosed) (?P<kind>[\w-]+ ){0,2}?(?:'
  r'(?P<sure>figures?|diagrams?|sketch(?:es)?|histograms?|pictograms?'
  r'|pictographs?|scatter ?plots?|box plots?|boxplots?|box-and-whisker plots?'
  r'|dot plots?|line plots?|pie charts?|bar charts?|bar graphs?|line graphs?'
  r'|circle graphs?|stem-and-leaf (?:plots?|displays?)|tally charts?'
  r'|flow ?charts?|blueprint|schematic|screenshots?)'
  r'|(?P<seen>pictures?|drawings?|illustrations?|images?|photos?|photographs?'
  r'|graphs?|charts?|tables?|plots?|grids?|frequency tables?))\b',
)
# It is told what it is: the figure formed by, the image of, the table that.
_TOLD = re.compile(
  r' ?(?:of|formed|form|obtained|enclosed|bounded|whose|having|consisting|made'
  r'|so|thus|then|he|she|they|it|his|her|by|when|if|must|as|is given'
  r'|are given|is described|are (?:listed|described)|is represented'
  r'|has (?:an?|area'
  r'|perimeter)|frames?|books?|cards?|tiles?|puzzles?|paper|robots?|arts?'
  r'|galler\w+|rails?|eight'
  r'|hang\w*|cost\w*|weigh\w*|sold|sells|skat\w+|rose|fell|out|tops?|and'
  r'|\$?[0-9]|theory|with|resulting|created|produced|traced|swept|described'
  r'|defined|generated|determined|cut|has been|had|being|y =|intersects?'
  r'|crosses|passes|meets)\b'
  r'|[-\u2019\']',
  re.IGNORECASE,
)
_MADE = re.compile(
  r'\b(?:next|previous|fourth|fifth|tenth|\w+th|solid|plane|geometric'
  r'|geometrical|resulting|new|same|whole|entire'
  r'|final|last|first|human|sales|key|single|double|stick|action|public|wooden'
  r'|dining|kitchen|round|coffee|picnic|ping|pool|multiplication|periodic|truth'
  r'|complete|directed|simple|connected|bipartite|original|new|reflected|mirror'
  r'|painted|framed|times|Young|Ferrers|Hasse|lucky|raffle|exact|correct|total'
  r'|largest|smallest|right|second|third) \Z',
  re.IGNORECASE,
)
_MAKING = re.compile(
  r'\b(?:draw|draws|drew|drawn|drawing|sketch|make|makes|made|complete|copy'
  r'|paint|paints|painted|took|take|takes|set|hang|hung|hangs|buy|bought|sold'
  r'|around|onto|under|build|builds|clear|create|construct|trace|form|forms'
  r'|print|prints|frame|plot|bought|under|clean\w*|wip\w+|fill\w*) \Z',
  re.IGNORECASE,
)
# Or a number: the population is 48 276; round this figure.
_MAKES = re.compile(
  r'\d[\d ,.]{2,}\d|\b(?:draw|sketch|construct|form|arrang|cut|fold|glue'
  r'|join|connect|combin'
  r'|attach|overlap|inscrib)\w*',
  re.IGNORECASE,
)
_DATA = re.compile(r'\d[^A-Za-z]{1,6}\d[^A-Za-z]{1,6}(?:and )?\$?\d')
_NAMED = re.compile(r' [A-Z][a-z]+ ')
_VERTICES = re.compile(r'\b(?:vert(?:ex|ices)|edges?|nodes?)\b', re.IGNORECASE)
_POINTS = ('this', 'that', 'these', 'those')
_USED = frozenset(
  (
    'from', 'using', 'use', 'study', 'consider', 'examine', 'observe',
    'consult', 'see', 'inspect', 'in', 'read', 'given', 'per',
  )
)  # fmt: skip
_SHADED = gates.Gated(
  r'\bthe (?:total |entire )?(?:area of the )?(?P<how>shaded|unshaded|hatched'
  r'|darkened|cross-hatched) (?:\w+ )?(?:regions?|areas?|parts?|portions?'
  r'|sections?|triangles?|squares?|sectors?|rectangles?|circles?|segments?'
  r'|rings?|figures?|shapes?)\b',
)
_IS_SHADED = re.compile(
  r'\b(?:is|are|be|being|was|were|been|and|then|not) (?:\w+ )?(?:shaded|hatched'
  r'|darkened)\b|\bshad(?:e|es|ing)\b|\b(?:an?|two|three|four|\d+|some|of which'
  r'|each) (?:\w+ )?(?:shaded|unshaded|hatched|darkened)\b',
  re.IGNORECASE,
)
_MARKED = gates.Gated(
  r'\bthe (?:sides?|segments?|angles?|arcs?|lengths?|edges?|distances?|missing'
  r' \w+|unknown \w+) (?:that is |which is )?(?:labell?ed|marked)(?: with| by'
  r'| as)? ["\'$\\]{0,3}(?:[a-z?]\b|\?|theta|alpha|beta)'
  r'|\bnot (?:drawn |necessarily )?to (?:exact )?scale\b|\b(?:you|we'
  r'|one) (?:can'
  r' |may )?see (?:here|below|above|on the (?:right|left)|in the)\b'
  r'|\b(?:in|see|from|to) the attach(?:ment|ed)\b|\baccording to the (?:\w+ )?'
  r'(?:map|plan|scheme|layout|floor plan|chart|pictures?)\b(?! (?:of|that))'
  r'|\b(?:based on|using|use|from|see|consult|refer to|look at) the (?:map'
  r'|plan|floor plan|layout)\b(?! (?:of|that|with))'
  r'|\b(?:shown|drawn|plotted|graphed|pictured|depicted|marked'
  rf'|sketched) (?:in|on) (?:the|an?) (?:[\w-]+ ){{1,3}}?{_PLACE}\b'
  r'|\b(?:the )?following (?:\w+ )?(?:shape|figure|solid|triangle|polygon'
  r'|region|diagram|picture|quadrilateral|angle)s?(?= ?(?:[?.,]|\Z))'
  rf'|{statements.START}(?:figure|diagram|picture|image) ?:'
  r'|\battached (?:is|are|you)\b|\b(?:below|above|here) (?:you|we) (?:can '
  r'|may )?see\b|\((?:see )?(?:picture|figure|image|diagram|photo|drawing)\)'
  r'|\b(?:seen|visible|reproduced|pasted|attached) (?:here|below|above)\b',
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
  for match in _FIGURES.finditer(text, small):
    if _PLANE.match(text, max(match.end() - 5, 0)):
      continue
    before = text[max(match.start() - 40, 0) : match.end()]
    if _EXAMPLE.search(before):
      continue
    # A map with its scale is told.
    if 'map' in match[0].lower() and ' scale' in small:
      continue
    if _TABLE_WORDS.search(match[0]) and _TABLE.search(raw):
      continue
    if _FOLLOWS.match(text, match.end()) and not _IN_PICTURE.search(match[0]):
      continue
    return statements.shown(text, *match.span())
  return _unknown(text, raw, small)


def _unknown(text: str, raw: str, small: str) -> str | None:
  """Words for a figure that the statement does not describe."""
  for match in _KNOWN.finditer(text, small):
    noun = match['sure'] or match['seen']
    use = (match['use'] or '').strip().lower()
    if match['seen'] and use not in _USED:
      continue
    if noun.lower() == 'figures' and use not in _USED:
      continue
    # The Petersen graph; a graph of vertices and edges.
    if _NAMED.search(match[0], 1) or (
      'graph' in noun.lower() and _VERTICES.search(text)
    ):
      continue
    before = text[: match.start()]
    stem = re.compile(re.escape(noun[:5]), re.IGNORECASE)
    if (
      stem.search(before)
      or _TOLD.match(text, match.end())
      or _MADE.search(match[0][: -len(noun)])
      or _MAKING.search(before[-20:] + (match['use'] or ''))
      or _EXAMPLE.search(before[-80:])
      or (match['the'].lower() in _POINTS and _MAKES.search(before))
      or (match['sure'] and len(noun) > 8 and _DATA.search(text))
    ):
      continue
    if _TABLE_WORDS.search(noun) and _TABLE.search(raw):
      continue
    if _FOLLOWS.match(text, match.end()) and not _IN_PICTURE.search(noun):
      continue
    return statements.shown(text, *match.span())
  match = _SHADED.search(text, small)
  if match and not _IS_SHADED.search(text[: match.start()]):
    return statements.shown(text, *match.span())
  if match := _MARKED.search(text, small):
    return statements.shown(text, *match.span())
  return None


def without_images(raw: str) -> str:
  """A statement without the addresses of its images."""
  return _WHOLE_IMAGE.sub(' ', raw)


def drawings(row: Row) -> tuple[str, ...]:
  """Kinds of the drawings in words in a row's statement."""
  return statements.prepared(row.problem).drawings
