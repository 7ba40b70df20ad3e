"""Labels at the start of a statement, such as 'Problem 4.1:', and its ending.

They are artefacts of books and contests. A label goes away; a sentence such as
'Express your answer as a common fraction.' stays, and is no part of the key.
"""

import functools
import re
from collections.abc import Mapping

from acereason_jax.data.curate import gates

_NUMBER = (
  r'(?:[A-Z]{0,2}-?[0-9]{1,4}(?:[.\-][0-9]{1,4}){0,3}[a-z]?|[IVXL]{1,6})'
)
_KINDS = (
  r'(?:problem|exercise|example|question|task|ex|prob|puzzle|challenge|item'
  r'|bonus|variant)'
)
_CONTEST = (
  r'(?:[A-Z]{3,}|[Oo]lympiad|[Cc]ompetition|[Cc]ontest|[Ee]xam|[Ss]hortlist'
  r'|[Tt]ournament|Cup|Mathcounts|League|[Cc]hampionship|Putnam|Kangaroo'
  r'|[Qq]ualif|Test|Round|Invitational|Proposed|[Pp]roblem)'
)
_LABEL = re.compile(
  # Problem 4.1:  Exercise 12.  ### Question 7 -  **Example 3**  Q5)  Task 2
  r'(?:[#*_>\[\u3010(]{0,6} ?)'
  rf'(?:(?i:{_KINDS})\.? ?#? ?{_NUMBER}|(?i:q) ?\.? ?[0-9]{{1,4}})'
  r'(?: ?\([^()\n]{1,40}\))?'
  r'(?: ?[*_\])\u3011]{1,4}[.:]?(?= |\n)| ?[.:)\-\u2013\u2014](?= |\n'
  r'|\*)[*_]{0,2}|(?=\n)|(?= ["\'$(]{0,2}(?:[A-Z][a-z]|\\|A |\$)))'
  # Problem:  Question.
  rf'|[#*_]{{0,6}} ?(?i:{_KINDS}|problem statement)[*_]{{0,2}} ?[:](?= |\n|\*)'
  r'[*_]{0,2}'
  # (2019 AMC 10A)  [AIME 1999]
  rf'|[(\[](?=[^()\[\]\n]{{0,80}}\b(?:1[89]|20)[0-9]{{2}}\b)'
  rf'(?=[^()\[\]\n]{{0,80}}{_CONTEST})'
  r"[A-Za-z0-9 .,#'\u2019:/\u2013\u2014\-&]{4,90}[)\]][.:]?"
  # 2019 AMC 10A Problem 5:  2019 AMC 10A, Problem 5.
  r'|(?:1[89]|20)[0-9]{2} [A-Z][A-Za-z0-9 ]{2,40},? ?(?:[Pp]roblem|#|Q)'
  r' ?[0-9]{1,2}[.:)]?(?= |\n)'
  # (10 points)  [5]  (50 marks)
  r'|[(\[] ?\**[0-9]{1,3} ?(?:points?|pts?|marks?|\u5206)\**\.? ?[)\]][.:]?'
  r'|\[[0-9]{1,3}\](?= )'
)
# 12.  12)  (12)  4.1.  4.1)  A1.
_ENUMERATOR = re.compile(
  r'(?:\*\*)?(?P<open>\(?)(?P<value>(?:[A-Z]{1,2}-?)?[0-9]{1,4}'
  r'(?:[.\-][0-9]{1,4}){0,3})(?P<close>[.)]{1,2}|\u3001)(?:\*\*)?(?=[ \n])'
)
# 4.1 Find, but not 4.1 Liters.
_BARE = re.compile(
  r'[0-9]{1,3}(?:\.[0-9]{1,4}){1,3}\*{0,2} (?=(?:Find|Let|Given|Prove|In|A|An'
  r'|The|If|'
  r'Calculate|Compute|Determine|Solve|Evaluate|What|How|For|On|Two|Three|Show|'
  r'Consider|Suppose|Simplify|There|Through|It|At|Write|Is|Does|Point|Each'
  r'|By)\b)'
)
_BLANK = re.compile(r'\s*[.:]?\s*')
# Enumerators further on, which make the first one a part.
_LATER = re.compile(
  r'(?:\n|[.?!;:$)}\]] ) {0,3}(\(?)([0-9]{1,2})([.)]{1,2})(?=\s)'
)
# Task 1. ... Task 2. ...
_NUMBERED = re.compile(
  rf'\b({_KINDS}|q)\.? ?#? ?([0-9]{{1,2}})\b', re.IGNORECASE
)
_NUMBERED_LATER = re.compile(
  rf'(?:\n|[.?!;:$)}}\]*] )[*#]{{0,3}} ?({_KINDS}|q)\.? ?#? ?'
  r'([0-9]{1,2})\*{0,2}[.:)\-]',
  re.IGNORECASE,
)
_PARTS = re.compile(r'[0-9]{1,2}')

_ANSWER = (
  r'(?:your |the |all |each )?(?:final |numerical )?'
  r'(?:answers?|solutions?|result)'
)
_ENDING = gates.Gated(
  r'(?:\A|(?<=[.?!$\]})"] )|(?<=\n))(?:please )?(?:'
  rf'(?:express|give|write|enter|put|report|submit|provide|leave|state)'
  rf' {_ANSWER}'
  r'\b[^.?!\n]{0,200}'
  r"|(?:let's |please )?(?:think|reason) (?:about it )?step by"
  r' step[^.?!\n]{0,120}'
  r'|(?:please )?(?:put|present|box|enclose|place) (?:your |the )?(?:final )?'
  r'answer\b[^.?!\n]{0,100})(?:[.?!]|\Z|(?=\n))',
)
# Such an ending changes the answer, so it is a part of the question.
_MATTERS = re.compile(
  r'round|nearest|decimal|significant|\bfind\b|comput|calculat|determin|what'
  r'|how|modulo|\bmod\b|remainder|where|units?\b|\bin (?:cm|m|km|feet|inches'
  r'|meters|hours|minutes|seconds|days|dollars|cents|degrees|radians|base)\b'
  r'|percent',
  re.IGNORECASE,
)


def without_label(text: str) -> tuple[str, str]:
  """Returns (the statement without labels at its start, these labels).

  A statement that is nothing else stays as it is, and so does the first of
  several numbered parts.
  """
  at = _BLANK.match(text).end() if text[:1].isspace() else 0
  start = at
  while (after := _after_label(text, at)) is not None:
    at = after
  if at == start or not text[at:].strip():
    return text, ''
  return text[at:], text[:at].strip()


def _after_label(text: str, at: int) -> int | None:
  """The place after a label and the blanks that follow it."""
  match = _LABEL.match(text, at) or _BARE.match(text, at)
  if match is not None:
    named = _NUMBERED.search(match[0])
    if named and _later(text).get(_place(named, 1), -1) > match.end():
      return None
  else:
    match = _ENUMERATOR.match(text, at)
    if match is None or _begins_parts(match, _later(text)):
      return None
  return _BLANK.match(text, match.end()).end()


# Few statements begin with a label, and some of them with several.
@functools.lru_cache(1)
def _later(text: str) -> dict[tuple[str, str, str], int]:
  """(opening, number, closing) of enumerators -> where the last one is."""
  found = {m.groups(): m.start(2) for m in _LATER.finditer(text)}
  named = {_place(m): m.start() for m in _NUMBERED_LATER.finditer(text)}
  return found | named


def _place(match: re.Match, more: int = 0) -> tuple[str, str, str]:
  """The place of a label such as 'Task 1', or of one after it."""
  return match[1].lower(), str(int(match[2]) + more), ''


def _begins_parts(
  match: re.Match, later: Mapping[tuple[str, str, str], int]
) -> bool:
  value = match['value']
  if not _PARTS.fullmatch(value):
    return False
  following = match['open'], str(int(value) + 1), match['close']
  return later.get(following, -1) > match.start()


def without_ending(text: str) -> str:
  """The statement without sentences on the form of its answer."""
  return _ENDING.sub(
    lambda m: m[0] if _MATTERS.search(m[0]) else '', text, gates.small(text)
  ).rstrip()
