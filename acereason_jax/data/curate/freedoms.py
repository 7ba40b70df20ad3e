"""Programming problems of which several outputs are right.

The statement says that any of several answers will do, that their order or
letter case is free, that an error is allowed, or that better ones score more.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data import tolerance
from acereason_jax.data.curate import demands, statements
from acereason_jax.data.curate.values import Row

_OUTPUT = (
  r'(?:print|output|return|report|display|write|give|find|answer|construct)'
)
_RIGHT = (
  r'(?:answers?|solutions?|outputs?|ways?|results?|possibilities|arrangements?'
  r'|permutations?|sequences?|strings?|arrays?|paths?|orders?|orderings?|sets?'
  r'|trees?|graphs?|matri(?:x|ces)|integers?|numbers?|pairs?|values?|routes?'
  r'|plans?|schedules?|constructions?|colou?rings?|partitions?|subsets?|cycles?'
  r'|subsequences?|such \w+|of them|optimal \w+|valid \w+|possible \w+'
  r'|correct \w+)'
)
# In the sentence after them, a rule chooses one of several.
_CHOSEN = re.compile(
  r'\b(?:lexicographical\w*|smallest|largest|minimum|minimal|maximum|maximal'
  r'|first'
  r'|last|earliest|latest|least|greatest|shortest|longest|leftmost|rightmost'
  r'|lowest|highest|number of|how many|count|modulo|alphabetical\w*|ascending'
  r'|descending|increasing|decreasing|sorted)\b',
  re.IGNORECASE,
)
_REST = re.compile(r'[^.?!\n]{0,160}\??')
_ANY = re.compile(r'\b(?:any|either|arbitrary)\b', re.IGNORECASE)
_SEVERAL = re.compile(
  # If there are multiple answers, print any of them.
  r'\b(?:multiple|several|many|more than one|various|different|two or more)'
  rf' (?:\w+ ){{0,3}}?{_RIGHT}\b[^.?!\n]{{0,80}}?[,.;]? ?[^.?!\n]{{0,60}}?'
  rf'\b(?:any|either|an arbitrary|one) (?:of (?:them|these|those|the)|one|valid'
  rf'|such|correct|possible|suitable|optimal|{_RIGHT})\b'
  rf'|\b{_OUTPUT} (?:any|an arbitrary|either)(?: one)?(?: of)?(?: the| these|'
  rf' those| them)? ?(?:\w+ ){{0,2}}?(?:{_RIGHT}|one)\b'
  r'|\b(?:print|output|return) any\b(?! (?:other|extra|additional|more|blank))'
  r'|\bany (?:valid|correct|such|possible|optimal|feasible|right|of the|one'
  r' of the) ?(?:\w+ ){0,2}(?:\w+) (?:is|are|will be|would be|can be|may be) '
  r'(?:also )?(?:accepted|acceptable|correct|ok|fine|allowed|considered'
  r' correct)'
  r'|\b(?:you (?:can|may|could|should)|please|it is allowed to|feel free to)'
  rf' (?:\w+ )?{_OUTPUT} (?:any|either|an arbitrary)\b'
  r'|\b(?:answers?|solutions?|outputs?) (?:is|are|may be|might be|need)'
  r'(?: not|n\'t) (?:necessarily |be |to be )?unique'
  r'|\b(?:print|output|return) (?:the )?(?:index|indices|position|id|name|label'
  r'|number)s? of any\b|\b(?:print|output|return) one of (?:the )?(?:possible'
  r'|valid|such|correct|optimal|them|these|those)\b|\b(?:multiple|several|all'
  r'|different|many) (?:\w+ )?(?:answers|solutions|outputs) (?:are|may be'
  r'|will be'
  r'|can be) (?:accepted|allowed|possible)\b'
  r'|\b(?:any|all|each) (?:of (?:them|these|those) )?(?:will do|is fine|is ok'
  r'|(?:is|are|will be) accepted)\b'
  r'|\b(?:print|output|return) (?:whichever|whatever) (?:one )?(?:you|of)\b'
  r'|\baccepts? (?:any|every|all) (?:valid|correct|such|optimal|possible)\b'
  r'|\b(?:special|custom) (?:judge|checker)\b|\ba checker (?:will|is)\b',
  re.IGNORECASE,
)
# An order of the output, not of the input or of moves.
_ORDER = re.compile(
  r'\b(?:print|output|return|returned|printed|report|list|display|write'
  r'|answers?'
  r'|results?|solutions?|accepted)\b[^.?!\n]{0,100}?\bin (?:any|arbitrary|an'
  r' arbitrary|whatever|no particular|no specific) order\b'
  r'|\bin (?:any|arbitrary|an arbitrary) order,? (?:\w+ ){0,2}(?:is|are|will'
  r' be) accepted|\border of (?:the )?(?:output|answers?|results?|printed \w+'
  r'|returned \w+)\b[^.?!\n]{0,40}(?:does not|doesn\'t|is not|isn\'t|not)'
  r' (?:matter|important)',
  re.IGNORECASE,
)
_ERROR = re.compile(
  r'\b(?:absolute|relative) or (?:absolute|relative) (?:error|difference)\b'
  r'|\b(?:absolute|relative) (?:error|precision|tolerance)\b'
  r'|\brelative difference\b|\b(?:error|precision|tolerance|accuracy) of'
  r' (?:at most |no more than |less than )?\$?10'
  r'|\bwithin (?:an? )?(?:\w+ ){0,3}(?:error|tolerance)\b'
  r'|\b(?:answers?|outputs?) within \$?(?:10|1e|0\.0)|\bwithin (?:10|1e-)',
  re.IGNORECASE,
)
_CASE = re.compile(
  r'\bcase[- ]insensitive|\bignor(?:es?|ing) (?:the )?(?:letter )?case\b'
  r'|\bcase (?:is|will be) ignored'
  r'|\bin (?:any|either|arbitrary) (?:letter )?case\b'
  r'|\b(?:upper|lower)[- ]?case (?:or|and|and/or) (?:upper|lower)[-'
  r' ]?case[^.?!\n]{0,60}'
  r'(?:accept|allow|recogni[sz]|match)|\bany register\b|\bin any case \(upper'
  r'|\bcase (?:of (?:the )?letters )?(?:does not|doesn\'t) matter'
  r'|\b(?:print|output) (?:each|every|any) letter [^.?!\n]{0,30}case',
  re.IGNORECASE,
)
_OUTPUTS = re.compile(
  r'\b(?:print|output|answers?|letters?|yes|no|display|verdict'
  r'|checker|judge)\b',
  re.IGNORECASE,
)


def special(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  for kind, found in (
    ('several', _several(words)),
    ('order', _ORDER.search(words)),
    ('case', _case(words)),
    ('error', _ERROR.search(words)),
  ):
    if found is None:
      continue
    # The judge allows an error whose size it can read.
    if kind != 'error' or not tolerance.allowed_error(row.problem):
      return {'kind': kind, 'matched': statements.shown(words, *found.span())}
  return None


def _several(words: str) -> re.Match | None:
  """Words that allow any of several outputs, not one that a rule chooses."""
  for match in _SEVERAL.finditer(words):
    rest = _REST.match(words, match.end())[0]
    asked = rest.endswith('?')
    if not asked and (
      _ANY.search(match[0]) or not _CHOSEN.search(match[0] + rest)
    ):
      return match
  return None


def _case(words: str) -> re.Match | None:
  """Words that allow small and capital letters in an output."""
  matches = _CASE.finditer(words)
  return next(
    (m for m in matches if _OUTPUTS.search(_sentence(words, m))), None
  )


def _sentence(words: str, match: re.Match) -> str:
  """The sentence around a match, at most 200 characters on each side."""
  before = words[max(0, match.start() - 200) : match.start()]
  after = words[match.end() : match.end() + 200]
  start = max(before.rfind(mark) for mark in '.?!\n') + 1
  return before[start:] + match[0] + re.split(r'[.?!\n]', after, maxsplit=1)[0]
