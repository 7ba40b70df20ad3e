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

Evidence = Mapping[str, Any] | None

_VALUE = r'[a-h]|[ivx]{1,4}|[IVX]{1,4}|[0-9]{1,2}'
_PART = re.compile(
  rf'{statements.START}\$?(?:'
  rf'(?P<word>(?i:parts?|questions?|problems?|tasks?|q)) ?\(?(?P<named>{_VALUE}'
  r'|[A-D])\)?(?:[:.)\]]|(?=\n)| [-\u2013\u2014])'
  rf'|\(\$?(?P<round>{_VALUE})\$?\)[.:]?|(?P<half>{_VALUE})\)'
  rf'|(?P<dot>{_VALUE})\.(?=[ \n]|\\|\$))'
)
# Find (a) the perimeter and (b) the area.
_INLINE = re.compile(
  r'(?:\b(?i:find|determine|compute|calculate|evaluate|state|give|what (?:is|are)'
  r'|and|or|then|if|for|of|when|that|by|with|in|to|at|is|are|using),?:?|[,;])'
  rf' \$?\((?P<round>{_VALUE})\)(?= ?[a-z$\\])'
)
_ROMANS = ('i', 'ii', 'iii', 'iv', 'v', 'vi', 'vii', 'viii', 'ix', 'x')
# A list of what holds, not of what is asked.
_LISTS = re.compile(
  r'\b(?:conditions?|statements?|propert(?:y|ies)|rules?|facts?|equations|axioms?'
  r'|propositions?|assertions?|claims?|operations?|moves?|steps|constraints?'
  r'|requirements?|hold|holds|satisf\w+|such that|system|types|kinds|criteria'
  r'|inequalities|clues?|ways|hints?|given that|follows|procedure|process'
  r'|algorithm|instructions|restrictions?|relations|options|defined)\b',
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
  """

  style: tuple[str, str]
  number: int
  start: int
  end: int


def parts(row: Row) -> Evidence:
  """A statement in parts: (a) ... (b) ..., that ask more than one thing."""
  text = statements.prepared(row.problem).text
  labels = _sequence(text)
  if not labels:
    return None
  stem = text[: labels[0].start + 1]
  ends = [label.start for label in labels[1:]] + [len(text)]
  pieces = [text[label.end : end] for label, end in zip(labels, ends)]
  if not _several_questions(stem, pieces):
    return None
  names = [text[label.start : label.end].strip(' \n.?!:;,') for label in labels]
  return {'labels': names[:8], 'matched': pieces[0].strip()[:80]}


def _several_questions(stem: str, pieces: list[str]) -> bool:
  """Whether labelled pieces ask for several answers, not list conditions."""
  last = statements.sentences(pieces[-1])
  own = [statements.asks(f'\n{piece.strip()}') for piece in pieces[:-1]]
  own.append(bool(last) and _asks_first(pieces[-1]))
  if sum(own) > 1:
    return True
  told = _LAST.search(stem[-400:].rstrip())[0]
  asked = statements.asks(f'\n{told.strip()}')
  if _WHICH.search(told) and not own[0]:
    return False
  if _EACH.search(told) and asked:
    return True
  if sum(own):
    return own[0] or asked
  if _LISTS.search(told):
    return False
  tail = len(last) > 1 and any(statements.asks(f'\n{s}') for s in last[1:])
  if tail:
    return False
  return asked or not statements.asks(f'\n{stem}')


def _asks_first(piece: str) -> bool:
  """Whether the first sentence of a piece asks."""
  first = re.split(r'(?<=[.?!]) |\n', piece.strip(), maxsplit=1)[0]
  return statements.asks(f'\n{first}')


def _sequence(text: str) -> list[_Label]:
  """The labels of the first style whose first is before its second."""
  found: dict[tuple[str, str], list[_Label]] = {}
  for label in _labels(text):
    known = found.setdefault(label.style, [])
    if label.number == len(known) + 1 <= 26:
      known.append(label)
  runs = [known for known in found.values() if len(known) > 1]
  return min(runs, key=lambda run: run[0].start, default=[])


def _labels(text: str) -> list[_Label]:
  labels = []
  matches = [*_PART.finditer(text), *_INLINE.finditer(text)]
  for match in sorted(matches, key=lambda m: m.end()):
    groups = match.groupdict()
    style = next(s for s in ('named', 'round', 'half', 'dot') if groups.get(s))
    value = groups[style]
    start = match.start()
    for alphabet, number in _numbers(value):
      labels.append(_Label((style, alphabet), number, start, match.end()))
  return labels


def _numbers(value: str) -> list[tuple[str, int]]:
  """The places that a label has: i is the ninth letter and the first Roman."""
  if value.isdigit():
    return [('digits', int(value))]
  small = value.lower()
  case = 'small' if value == small else 'large'
  found = []
  if len(value) == 1 and value < 'i':
    found.append((f'{case} letters', ord(small) - ord('a') + 1))
  if small in _ROMANS:
    found.append((f'{case} romans', _ROMANS.index(small) + 1))
  return found
