"""Questions in parts, which have no single answer.

Published filters look for '(1' or '1.' anywhere and drop coordinates, decimals
and lists of conditions. This rule looks at the starts of lines and sentences,
wants the second label after the first, and reads whether the parts ask.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from acereason_jax.data.curate import gates, statements
from acereason_jax.data.curate.values import Row

_VALUE = r'[a-h]|[A-H]|[ivx]{1,4}|[IVX]{1,4}|[0-9]{1,2}'
_PLACES = {
  **{'first': 1, 'second': 2, 'third': 3, 'fourth': 4},
  **{'one': 1, 'two': 2, 'three': 3, 'four': 4},
}
_WORDS = '|'.join(_PLACES)
# Find (a) the perimeter and (b) the area.
_VERB = (
  r'(?i:find|determine|compute|calculate|evaluate|state|give|solve|simplify'
  r'|factor|estimate|what (?:is|are)|how (?:many|much)|probability (?:of|that)'
  r'|values? of|express|write(?: down)?|expand|differentiate)'
)
# (a) find: a label anywhere if it is told what to do.
_IMPERATIVE = re.compile(
  r' ?(?:(?:find|determine|compute|calculate|evaluate|solve|simplify) '
  r'(?:the|its|all|an?|how|what|\$|\\)|(?:what|which|who|where) (?:is|are'
  r'|was|were|does|do)\b|how (?:many|much|long|far)\b)'
)
# Find the probability of getting (i) a six; not: find n with (i) ....
_OBJECTS = re.compile(
  r'\b(?i:find|determine|compute|calculate|evaluate|state|give|estimate'
  r'|write(?: down)?|work out)'
  r'(?: (?!(?i:that|such|if|where|with|when|which|who|whose|satisf\w+|given'
  r'|provided|so|both|bounded|between|from|and|is|are|has'
  r'|have)\b)[\w$\\^=()+\-]+){0,9}'
  r'(?:(?<= of)|(?<=ing)|(?<= that)|(?<= for)|(?<=[a-z])|(?<=\$))[:,]?[ \n]?\Z'
)
_OBJECT = re.compile(
  r'[ \n]{0,2}(?:the|its|their|an?|all|how|whether|at least|at most|exactly'
  r'|both|no|[\w]+\'s)\b',
  re.IGNORECASE,
)
_ONLY_VERB = re.compile(_VERB)
# Set up the function.
_TOLD_TO = re.compile(
  r'[ \n]{0,2}[A-Z][a-z]+(?<!s)(?: (?:up|out|down|off))? (?:the|an?|its|your'
  r'|all|each)\b'
)
_KINDS = (
  r'(?:sub)?parts?|(?:sub-?)?questions?|problems?|(?:sub-?)?tasks?|ques\.?'
  r'|qn\.?|exercises?|items?|steps?'
)
_Q = r'q\.?(?: ?[0-9]{1,2})?'
_LABEL = re.compile(
  rf'(?:(?P<start>{statements.START}|(?<=[.?!:;\]]) '
  r'|[.?!:;](?=\(\$?[1-9a-hiI]\$?\)))'
  rf'|\b(?P<verb>{_VERB}),?:? |[,:]? )\$?(?:'
  rf'(?:(?i:in|for) )?(?i:{_KINDS}|{_Q}) ?#?\(?(?P<named>{_VALUE}'
  rf'|(?i:{_WORDS}))\)?(?:[:.,)\]]'
  r'|(?=\n)| [-\u2013\u2014]|(?= (?:[A-Z][a-z]|\$|\\)))'
  rf'|[(\[]\$?(?P<round>{_VALUE})\$?\.?[)\]][.:]?(?![(+*/^=,;]| [+*/^=])'
  rf'|(?P<half>{_VALUE})\.?\)(?![(+*/^=,;])|(?P<dot>{_VALUE})[.:](?=[ \n]|\\'
  r'|\$)'
  rf'|(?P<slash>{_VALUE})/ ?(?=[A-Za-z])|#(?P<hash>[1-9])[:.)]?(?= )'
  r'|(?P<dash>[a-h]|[1-9]|i{1,3}) ?[-\u2013\u2014] (?=[A-Z][a-z])'
  r'|[1-9][0-9]?\.(?P<multi>[1-9])[.):]?(?= [A-Z$\\])'
  r'|(?i:(?:in |for )?the )?(?P<word>(?i:first|second'
  r'|third)(?= (?i:question|part|task|problem'
  r'|sub-?question)\b))(?i: [a-z-]+)(?: (?:is|asks|reads))?[:,]?(?= )'
  rf'|(?i:the )?(?P<word_>(?i:{_WORDS}))(?i:ly| question| part| task'
  r'| problem)?[,:.](?= )'
  r'|(?P<degree>[1-9])\^\{?\\circ\}?\$|[IVX]{1,4}\.(?P<inner>[1-9])[.):]?(?= '
  r'[A-Z$\\]))'
)
# Parts are two at least, so one of them has the second label, in small letters.
_NAMED_SECOND = r' ?#?\(?(?:b|ii|2|two|second)\)? [$\\a-z]'
_SECOND = re.compile(
  r'(?<![a-pr-z0-9])(?:b|ii|2|two|second(?:ly)?)(?:\)?\.?[\])}$:.,/*^]|\n'
  r'| ?[-\u2013\u2014]| (?:question|part|task|problem|sub-?question))|#2 '
  rf'|\.2 [$\\a-z]|{_Q}{_NAMED_SECOND}'
)
# Part 2 Find.
_SECOND_KIND = gates.Gated(rf'\b(?:{_KINDS}){_NAMED_SECOND}')
_ROMANS = ('i', 'ii', 'iii', 'iv', 'v', 'vi', 'vii', 'viii', 'ix', 'x')
# A list of what holds, not of what is asked.
_LISTS = re.compile(
  r'\b(?:conditions?|statements?|propert(?:y|ies)|rules?|facts?|equations'
  r'|axioms?'
  r'|propositions?|assertions?|claims?|operations?|moves?|steps|constraints?'
  r'|requirements?|hold|holds|satisf\w+|such that|system|types|kinds|criteria'
  r'|inequalities|clues?|ways|hints?|given that|follows|procedure|process'
  r'|algorithm|instructions|restrictions?|relations|options|defined|features'
  r'|criteria|qualities|characteristics|both|events|cases where)\b',
  re.IGNORECASE,
)
_EACH = re.compile(
  r'\b(?:each|every|all) (?:of|one of|the following|part)\b|\b(?:following'
  r'|below) (?:expressions?|integrals?|limits?|questions?|sums?|values'
  r'|problems?|quantities|derivatives|products?|numbers|functions)\b'
  r'|\b(?:solve|factori[sz]e|factor|simplify) (?:the )?(?:following )?(?:\w+ )?'
  r'(?:equations?|inequalities|expressions?|systems)\b[^.?!]{0,30}:$',
  re.IGNORECASE,
)
_WHICH = re.compile(
  r'\b(?:which|how many|the number) (?:of|one)?\b|\bcorrect|\btrue\b'
  r'|\bin (?:which|what) order',
  re.IGNORECASE,
)
_BULLET = re.compile(
  r'^[ \t]{0,8}[-*\u2022\u25cf\u25aa\u25e6][ \t]{1,4}(\S[^\n]{0,400})',
  re.MULTILINE,
)
_LAST = re.compile(r'[^.?!\n]*[.?!]?["\')\]$]{0,2} ?\n?\Z')


class _Label(NamedTuple):
  """A label of a part.

  style: how it is written, and of which alphabet.
  number: its place in that alphabet, from 1.
  start, end: where it is.
  verb: whether it is the object of a verb, as in: find (a).
  """

  style: tuple[str, str]
  number: int
  start: int
  end: int
  verb: bool


def parts(row: Row) -> Mapping[str, Any] | None:
  """A statement in parts: (a) ... (b) ..., that ask more than one thing."""
  text, _, small = statements.prepared(row.problem)
  labels = _sequence(text) if _has_second(small) else []
  if not labels:
    return _bulleted(row.problem)
  # The mark before a label ends what is before it.
  starts = [label.start for label in labels]
  marks = [start + (text[start] in '.?!:;$}') for start in starts]
  ends = [*marks[1:], len(text)]
  stem = text[: marks[0]]
  pieces = [text[label.end : end] for label, end in zip(labels, ends)]
  large = labels[0].style[1] == 'large letters'
  if large and _OBJECTS.search(stem[-120:]) and all(map(_OBJECT.match, pieces)):
    large = False
  if not _several_questions(
    stem, pieces, labels[0].verb, large, labels[0].style
  ):
    return None
  names = [text[label.start : label.end].strip(' \n.?!:;,') for label in labels]
  return {'labels': names[:8], 'matched': pieces[0].strip()[:80]}


def _several_questions(
  stem: str,
  pieces: list[str],
  verb: bool,
  large: bool,
  style: tuple[str, str],
) -> bool:
  """Whether labelled pieces ask for several answers, not list conditions.

  verb: whether the first label follows a verb that asks.
  large: whether labels are capitals, which name points, boxes and options too.
  """
  last = statements.sentences(pieces[-1])
  own = [statements.asks(f'\n{piece.strip()}') for piece in pieces[:-1]]
  own.append(bool(last) and _asks_first(pieces[-1]))
  if sum(own) > 1:
    return True
  # First, double it: such words order what one does, too.
  if 'words' in style or 'dash' in style or 'slash' in style:
    return False
  told = _LAST.search(stem[-400:].rstrip())[0]
  # Find: A. x^2 B. x^3.
  if _ONLY_VERB.fullmatch(told.strip(' $:\n')):
    return True
  if large or (_WHICH.search(told) and not own[0] and not verb):
    return False
  if verb:
    return True
  asked = statements.asks(f'\n{told.strip()}')
  if _EACH.search(told) and asked:
    return True
  if own[-1] and _TOLD_TO.match(pieces[0]):
    return True
  if sum(own):
    # A list of facts has a beginning.
    return own[0] or asked or not told.strip()
  if _LISTS.search(told):
    return False
  if any(statements.asks(f'\n{s}') for s in last[1:]):
    return False
  return asked or not statements.asks(f'\n{stem}')


def _bulleted(problem: str) -> Mapping[str, Any] | None:
  """Several lines with bullets that ask."""
  lines = _BULLET.findall(problem[: statements.CHARS])
  asked = [line for line in lines if statements.asks(f'\n{line}')]
  if len(asked) < 2 or len(asked) < len(lines):
    return None
  return {'labels': ['-'] * min(len(asked), 8), 'matched': asked[0][:80]}


def _asks_first(piece: str) -> bool:
  """Whether the first sentence of a piece asks."""
  first = re.split(r'(?<=[.?!]) |\n', piece.strip(), maxsplit=1)[0]
  return statements.asks(f'\n{first}')


def _has_second(small: str) -> bool:
  """Whether there may be a second label; fast."""
  found = _SECOND.search(small) or _SECOND_KIND.search(small, small)
  return found is not None


def _sequence(text: str) -> list[_Label]:
  """The labels of the first style whose first is before its second."""
  found: dict[tuple[str, str], list[_Label]] = {}
  for match in _LABEL.finditer(text):
    style = match.lastgroup.rstrip('_')
    first = match['start'] is not None or match['verb'] is not None
    for alphabet, number in _numbers(match[match.lastgroup]):
      run = found.setdefault((style, alphabet), [])
      # 'its double is 2. Find' has no label.
      anchored = (
        first
        or _IMPERATIVE.match(text, match.end())
        or (number == 1 and style in ('round', 'half') and _listed(text, match))
        or (run and (style, alphabet) != ('dot', 'digits'))
      )
      if anchored and number == len(run) + 1:
        run.append(
          _Label(
            (style, alphabet),
            number,
            match.start(),
            match.end(),
            match['verb'] is not None,
          )
        )
  runs = [run for run in found.values() if len(run) > 1]
  return min(runs, key=lambda run: run[0].start, default=[])


def _listed(text: str, match: re.Match) -> bool:
  """Whether a label in the middle of a sentence begins what is asked for."""
  before = text[max(0, match.start() - 120) : match.start()]
  return bool(_OBJECTS.search(before) and _OBJECT.match(text, match.end()))


def _numbers(value: str) -> list[tuple[str, int]]:
  """The places that a label has: i is the ninth letter and the first Roman."""
  if value.isdigit():
    return [('digits', int(value))]
  small = value.lower()
  if small in _PLACES:
    return [('words', _PLACES[small])]
  case = 'small' if value == small else 'large'
  found = []
  if len(value) == 1 and small < 'i':
    found.append((f'{case} letters', ord(small) - ord('a') + 1))
  if small in _ROMANS:
    found.append((f'{case} romans', _ROMANS.index(small) + 1))
  return found
