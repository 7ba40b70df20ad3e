"""Programming problems of which several outputs are right.

The statement says that any of several answers will do, that their order or
letter case is free, that an error is allowed, or that better ones score more.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data import tolerance
from acereason_jax.data.curate import demands, gates, statements
from acereason_jax.data.curate import several as several_lib
from acereason_jax.data.curate.values import Row

# It does not matter; it is of no importance.
_NO_MATTER = gates.Gated(
  r'\b(?:(?:does|do|did|will|would|is|are|need|should|shall)(?: not|n\'t)'
  r'|not|neither|nor|no|never|hardly)\b[^.?!\n]{0,70}?\b(?:matters?|relevant'
  r'|important|importance|significance|consequence|significant|difference'
  r'|specified|prescribed|checked)\b'
  r'|\b(?:irrelevant|immaterial|unimportant|insignificant|inessential'
  r'|ignored|disregarded|up to you|your choice|(?:plays?|play|has|have'
  r'|makes?) no (?:role|part|influence|effect|difference))\b',
)
_OF_OUTPUT = re.compile(
  r'\border\b|\bwhich\b|\bcase\b|\bsequence\b|\bspelling\b|\bcapital\w*'
  r'|\bdirection\b|\borientation\b|\bspaces?\b|\bsign\b',
  re.IGNORECASE,
)
_PRINTED = re.compile(
  r'\b(?:print\w*|output\w*|return\w*|report\w*|list\w*|written|write'
  r'|answers?|results?|groups?|your|checker|lines?|pairs?|response)\b',
  re.IGNORECASE,
)
_COMPARED = re.compile(r'\b(?:compar\w+|sort|sort the)\b', re.IGNORECASE)
_SPELLINGS = gates.Gated(
  r'\b(yes|no|true|false|possible|impossible|alice|bob|first|second|win'
  r'|lose)\b["\'`\u201d]?(?:,|/| or| and)(?: or| and)? ["\'`\u201c]?(\1)\b',
)
# What a rule chooses, and moves of a game, are not free.
_ORDERED = gates.Gated(
  r'\border (?:of|in which|within|among|between|and'
  r'|that)\b[^.?!\n;]{0,70}?\b(?:can be any|may be any|is any'
  r'thing|be anything|arbitrary|free|irrelevant|immaterial|unimportant'
  r'|of no (?:importance|consequence)|up to you'
  r'|(?:not|n\'t|never) (?:matter|important|relevant|checked|fixed'
  r'|considered|specified|count))'
  r'|\b(?:may|can|could) be (?:listed|printed|output|reported|written'
  r'|returned|shown|named|put|separated|ordered) (?:in|from|by) (?:any'
  r'|either|whatever|an arbitrary|arbitrary)\b'
  r'|\b(?:in|from) (?:any|either|an arbitrary|arbitrary|whatever'
  r'|no (?:particular|special|specific|certain)) (?:order|sequence|end'
  r'|direction)\b[^.?!\n]{0,30}\b(?:accepted|fine|ok|okay|allowed|permitted'
  r'|will do)'
  r'|\b(?:come|appear|be|stand|follow) in (?:any|arbitrary|an arbitrary'
  r'|whatever|no particular) order in (?:the|your) (?:output|answer|list)'
  r'|\b(?:edges|pairs|lines|numbers|vertices|names|indices|elements|items'
  r'|answers|results|words) (?:may|can|could) (?:come|appear|be|stand'
  r'|follow) in (?:any|arbitrary|an arbitrary|whatever'
  r'|no particular) order\b(?! in (?:the|each|every)? ?input)',
)
# An order of the output, not of the input or of moves.
_ORDER = gates.Gated(
  r'\b(?:print|output|return|returned|printed|report|list|display|write'
  r'|answers?'
  r'|results?|solutions?|accepted)\b[^.?!\n]{0,100}?\bin (?:any|arbitrary|an'
  r' arbitrary|whatever|no particular|no specific) order\b'
  r'|\bin (?:any|arbitrary|an arbitrary) order,? (?:\w+ ){0,2}(?:is|are|will'
  r' be) accepted|\border of (?:the )?(?:output|answers?|results?|printed \w+'
  r'|returned \w+)\b[^.?!\n]{0,40}(?:does not|doesn\'t|is not|isn\'t|not)'
  r' (?:matter|important)',
)
_ERROR = gates.Gated(
  r'\b(?:absolute|relative) or (?:absolute|relative) (?:error|difference)\b'
  r'|(?<!greatest )(?<!largest )(?<!smallest )(?<!mean )(?<!maximum )(?<!mini'
  r'mum )(?<!total )(?<!average )(?<!least )\b(?:absolute|relative) (?:error'
  r'|precision|tolerance)\b'
  r'|\b(?:off by|deviat\w+|differ\w*) [^.?!\n]{0,40}\b(?:tolerance|error'
  r'|at most \$?(?:10|1e|0\.0)|small amount)'
  r'|\brelative difference\b|\b(?:error|precision|tolerance|accuracy) of'
  r' (?:at most |no more than |less than )?\$?10'
  r'|\bwithin (?:an? )?(?:\w+ ){0,3}(?:error|tolerance)\b'
  r'|\b(?:answers?|outputs?) within \$?(?:10|1e|0\.0)|\bwithin (?:10|1e-)',
)
_CASE = gates.Gated(
  r'\bnot case[- ]sensitive|\b(?:regardless|irrespective'
  r'|independent) of (?:the |their |its )?(?:letter )?case\b|'
  r'\bcase[- ]insensitive|\bignor(?:es?|ing) (?:the )?(?:letter )?case\b'
  r'|\bcase (?:is|will be) ignored'
  r'|\bin (?:any|either|arbitrary) (?:letter )?case\b'
  r'|\b(?:upper|lower)[- ]?case (?:or|and|and/or) (?:upper|lower)[-'
  r' ]?case[^.?!\n]{0,60}'
  r'(?:accept|allow|recogni[sz]|match)|\bany register\b|\bin any case \(upper'
  r'|\bcase (?:of (?:the )?letters )?(?:does not|doesn\'t) matter'
  r'|\b(?:print|output) (?:each|every|any) letter [^.?!\n]{0,30}case',
)
_JUDGED = re.compile(
  r'\b(?:checker|checking|checked|judge|judging|judged|grader|grading|jury'
  r'|your|accepted|compared|comparison)\b',
  re.IGNORECASE,
)
_OUTPUTS = re.compile(
  r'\b(?:print|output|answers?|letters?|yes|no|display|verdict|replies|response'
  r'|checker|judge)\b',
  re.IGNORECASE,
)


def special(row: Row) -> Mapping[str, Any] | None:
  """Several outputs are right: any of them, in any order or case, or nearly."""
  words, _, small = statements.prepared(row.problem)
  for kind, found in (
    ('several', several_lib.several(words, small)),
    ('order', _ordered(words, small)),
    ('case', _case(words, small)),
    ('error', _ERROR.search(words, small)),
  ):
    if found is None:
      continue
    # The judge allows an error whose size it can read.
    if kind != 'error' or not tolerance.allowed_error(row.problem):
      return {
        'kind': kind,
        'matched': statements.shown(found.string, *found.span()),
      }
  return None


def _no_matter(words: str, small: str, what: str) -> re.Match | None:
  """Words by which the order or the case of an output is of no importance."""
  if not _NO_MATTER.admits(small):
    return None
  before = ''
  for sentence in demands.sentences(words):
    told = sentence.text
    match = _NO_MATTER.search(told, gates.small(told))
    of = _OF_OUTPUT.search(told)
    if (
      match
      and of
      and (of[0].lower() == 'case') == (what == 'case')
      and (_PRINTED.search(told) or _PRINTED.search(before[:60]))
      and not several_lib.INPUT.search(told)
      and not _COMPARED.search(told)
      and not several_lib.COUNTED.search(told)
    ):
      return match
    before = told
  return None


def _ordered(words: str, small: str) -> re.Match | None:
  """Words that leave the order of an output, not of moves or of the input."""
  if match := _ORDER.search(words, small) or _no_matter(words, small, 'order'):
    return match
  return next(
    (
      match
      for match in _ORDERED.finditer(words, small)
      if not several_lib.INPUT.search(demands.around(words, match))
    ),
    None,
  )


def _case(words: str, small: str) -> re.Match | None:
  """Words that allow small and capital letters in an output."""
  for match in _CASE.finditer(words, small):
    sentence = demands.around(words, match)
    # A program may have to ignore case itself.
    own = match[0].lower().startswith('ignor')
    # 'In any case' at the start is no case of letters.
    if match[0].lower().startswith('in ') and not _OUTPUTS.search(
      sentence.split(match[0])[0]
    ):
      continue
    if _COMPARED.search(sentence) and not _JUDGED.search(sentence):
      continue
    if (_JUDGED if own else _OUTPUTS).search(sentence):
      return match
  for match in _SPELLINGS.finditer(words, small):
    if match[1] != match[2] and match[1].lower() == match[2].lower():
      return match
  return _no_matter(words, small, 'case')
