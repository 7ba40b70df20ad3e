"""Questions in parts, which have no single answer.

Published filters look for '(1' or '1.' anywhere and drop coordinates, decimals
and lists of conditions. This rule looks at the starts of lines and sentences,
wants the second label after the first, and reads whether the parts ask.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from acereason_jax.data.curate import statements
from acereason_jax.data.curate.values import Row

_VALUE = r'[a-h]|[A-H]|[ivx]{1,4}|[IVX]{1,4}|[0-9]{1,2}'
# Find (a) the perimeter and (b) the area.
_VERB = (
  r'(?i:find|determine|compute|calculate|evaluate|state|give|solve|simplify'
  r'|factor|estimate|what (?:is|are)|how (?:many|much)|probability (?:of|that)'
  r'|values? of|express|write(?: down)?|expand|differentiate)'
)
# (a) find: a label anywhere if it is told what to do.
_IMPERATIVE = re.compile(
  r' ?(?:find|determine|compute|calculate|evaluate|solve|simplify) '
  r'(?:the|its|all|an?|how|what|\$|\\)'
)
_LABEL = re.compile(
  rf'(?:(?P<start>{statements.START}|(?<=[.?!:;]) '
  r'|[.?!:;](?=\(\$?[1-9a-hiI]\$?\)))'
  rf'|\b(?P<verb>{_VERB}),?:? |[,:]? )\$?(?:'
  r'(?:(?i:in|for) )?(?i:(?:sub)?parts?|(?:sub-?)?questions?|problems?|tasks?|q'
  rf'|exercises?|items?) ?\(?(?P<named>{_VALUE})\)?(?:[:.,)\]]|(?=\n)'
  r'| [-\u2013\u2014])'
  rf'|[(\[]\$?(?P<round>{_VALUE})\$?\.?[)\]][.:]?(?![(+*/^=,;]| [+*/^=])'
  rf'|(?P<half>{_VALUE})\)(?![(+*/^=,;])|(?P<dot>{_VALUE})[.:](?=[ \n]|\\|\$))'
)
# Parts are two at least, so one of them has the second label, in small letters.
_SECOND = re.compile(
  r'(?:b|(?<![1-9])2|ii)(?:[)\].:,\n]|\$\.?[)\]]| [-\u2013\u2014])'
)
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
  labels = _sequence(text) if _SECOND.search(small) else []
  if not labels:
    return None
  start = labels[0].start
  # The mark before a label ends the stem.
  stem = text[: start + (text[start] in '.?!:;$}')]
  ends = [label.start for label in labels[1:]] + [len(text)]
  pieces = [text[label.end : end] for label, end in zip(labels, ends)]
  large = labels[0].style[1] == 'large letters'
  if not _several_questions(stem, pieces, labels[0].verb, large):
    return None
  names = [text[label.start : label.end].strip(' \n.?!:;,') for label in labels]
  return {'labels': names[:8], 'matched': pieces[0].strip()[:80]}


def _several_questions(
  stem: str, pieces: list[str], verb: bool, large: bool
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
  told = _LAST.search(stem[-400:].rstrip())[0]
  if large or (_WHICH.search(told) and not own[0] and not verb):
    return False
  if verb:
    return True
  asked = statements.asks(f'\n{told.strip()}')
  if _EACH.search(told) and asked:
    return True
  if sum(own):
    # A list of facts has a beginning.
    return own[0] or asked or not told.strip()
  if _LISTS.search(told):
    return False
  if any(statements.asks(f'\n{s}') for s in last[1:]):
    return False
  return asked or not statements.asks(f'\n{stem}')


def _asks_first(piece: str) -> bool:
  """Whether the first sentence of a piece asks."""
  first = re.split(r'(?<=[.?!]) |\n', piece.strip(), maxsplit=1)[0]
  return statements.asks(f'\n{first}')


def _sequence(text: str) -> list[_Label]:
  """The labels of the first style whose first is before its second."""
  found: dict[tuple[str, str], list[_Label]] = {}
  for match in _LABEL.finditer(text):
    style = match.lastgroup
    first = match['start'] is not None or match['verb'] is not None
    for alphabet, number in _numbers(match[style]):
      run = found.setdefault((style, alphabet), [])
      # 'its double is 2. Find' has no label.
      anchored = (
        first
        or _IMPERATIVE.match(text, match.end())
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


def _numbers(value: str) -> list[tuple[str, int]]:
  """The places that a label has: i is the ninth letter and the first Roman."""
  if value.isdigit():
    return [('digits', int(value))]
  small = value.lower()
  case = 'small' if value == small else 'large'
  found = []
  if len(value) == 1 and small < 'i':
    found.append((f'{case} letters', ord(small) - ord('a') + 1))
  if small in _ROMANS:
    found.append((f'{case} romans', _ROMANS.index(small) + 1))
  return found
