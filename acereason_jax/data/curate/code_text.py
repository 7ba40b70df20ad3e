"""Steps over the statements of code problems, for a config's `steps`.

They find what tests of one right output, standard input and plain programs
cannot judge. All rules are anchored at words of instructions: stories mention
queries, files, pictures and any order too.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data import tolerance
from acereason_jax.data.curate import (
  dates,
  figures,
  gates,
  keys,
  statements,
  text,
)
from acereason_jax.data.curate.values import (
  CHANGED,
  Fate,
  Row,
  Step,
  dropped,
  kept,
)

LAST_DAY = '2024-08-01'
_DATE = re.compile(r'\d{4}-\d\d-\d\d')

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
_INTERACTIVE = re.compile(
  r'\b(?:responses?|reply|replies|answers?) (?:of|from|by) the (?:judge|jury'
  r'|grader|interactor)\b|\bflush (?:after|your|stdout)\b'
  r'|\binteractive (?:problem|task|mode|program|protocol|judge|communication)'
  r'|\bis interactive\b|\binteractors?\b|\binteraction (?:protocol|format|with'
  r' (?:the )?(?:judge|jury|grader|system|interactor))'
  r'|\bflush(?:ing|ed|es)? (?:the |your |its |standard )?(?:standard'
  r' )?(?:output'
  r'|stdout|buffer|stream)|\b(?:output|stdout) (?:must|should|needs to|has'
  r' to) be flushed|\bfflush\b|\bstdout\.flush|\bcout\.flush|\bflush=true'
  r'|\b(?:output|print|end of line|query|line),? (?:do not|don\'t) forget to'
  r' flush|\b(?:to|then|and|should|must) flush\b(?= ?[.,;)]| after| once| it\b)'
  r'|\b(?:judge|jury|grader) will (?:answer|reply|respond|tell)\b'
  r'|\b(?:judge|jury|grader|jury\'s program|system|checker) (?:will'
  r' )?(?:respond|repl|answers? (?:your|each|the) (?:quer|question))'
  r'|\b(?:communicates?|interacts?|talks?) (?:with|to) (?:the |an? )?(?:judge'
  r'|jury|grader|hidden|interactor|program|library|system|testing)'
  r'|\b(?:ask|make|perform|send|submit|use) (?:up to|at most|no more than|not'
  r' more than) [^.?!\n]{1,25}(?:queries|questions|requests|guesses|calls)\b'
  r'|\b(?:output|print)(?:t?ing|s)? [^.?!\n]{0,30}["\'`\u201c]\? '
  r'|\b(?:output|print)(?:t?ing|s)? (?:a line |a single line |one line )?'
  r'(?:in the (?:form|format) |of the form |containing |with'
  r' )?["\'`$\u201c]{0,3}\? '
  r'|\b(?:pre-?defined|given|provided|hidden|following)? ?(?:API|interface)s?\b'
  r'[^.?!\n]{0,40}\b(?:guess|isbadversion|knows|read4|query|reader|which'
  r' (?:will )?returns?|is (?:already )?defined for you|that returns)\b'
  r'|\byou (?:can|may|must|should) (?:only )?(?:access|call|use) (?:the|this'
  r'|it|an)'
  r' ?(?:\w+ )?(?:API|interface)\b',
  re.IGNORECASE,
)
_CLASSES = re.compile(
  r'\b(?:class|struct) +(?:ListNode|TreeNode|Node|NestedInteger|Employee'
  r'|Interval'
  r'|MountainArray|GraphNode|UndirectedGraphNode|RandomListNode|PolyNode'
  r'|TreeLinkNode|DoublyListNode|Point|HtmlParser|Master|Robot|CustomFunction'
  r'|BinaryMatrix|ArrayReader|Sea|Iterator)\b'
  r'|\b(?:Optional\[)?["\']?(?:ListNode|TreeNode|NestedInteger|MountainArray'
  r'|GraphNode|PolyNode)\b'
  r'|\bDefinition for (?:a |an )?(?:singly|doubly|binary|n-?ary|tree|linked'
  r'|node|polynomial|quad|undirected|interval|\w+ (?:list|tree|node))'
)
_CLASS = re.compile(r'^[ \t]{0,8}class +(\w{1,60})', re.MULTILINE)
_DESIGN = re.compile(
  r'\b(?i:implement|design|complete|write|create) (?:the |a |an )?(?:data'
  r' structure )?(?:called |named )?[`\'"]{0,2}[A-Z]\w{2,40}[`\'"]{0,2} class\b'
  r'|\bobject will be instantiated and called\b|\b(?i:implement|complete|fill'
  r' in) the (?:class|following class|class template|template|given (?:class'
  r'|template))\b|\b(?:initiali[sz]es? the|constructor of the)'
  r' [`\'"]{0,2}[A-Z]\w+[`\'"]{0,2} (?:object'
  r'|class)\b|\bdo not (?:change|modify) the (?:class|template|signature of'
  r' the class)'
)
_FILE_NAME = r'[`"\'*$]{0,3}[\w\-*]{1,40}\.(?:in|out|inp|txt|dat|ans)\b'
_FILES = re.compile(
  # INPUT FORMAT (file cow.in), input file: b.in, Input is in the file a.txt
  rf'\b(?:input|output)s?\b[^\w\n]{{0,4}}(?:format|data|is|are|will be|file'
  rf' ?name|files?'
  rf'|from|to|in|name|of the program| ){{0,4}}[^\w\n]{{0,4}}\bfiles?\b(?:'
  rf' named?| called| is| with name| name)?[^\w\n]{{0,6}} ?{_FILE_NAME}'
  rf'|\b(?:input|output)[ :]{{0,3}}\n? ?(?:input|output)\.txt\b'
  rf'|\b(?:read|reads|reading|given|contained|stored|provided|written|write'
  rf'|writes|output|print|printed|placed|entered|saved'
  rf'|located)\b[^.?!\n]{{0,60}}\b(?:file'
  rf'|files) (?:named |called |with the name )?{_FILE_NAME}'
  rf'|\b(?:read|reads|input|write|writes|written|output'
  rf'|print)\b[^.?!\n]{{0,40}}'
  r'\b(?:from|to|in|into) [`"\']{0,2}(?:input|output)\.(?:txt|in|out|dat)\b'
  rf'|\bfile ?(?:name)?s?[ :]{{1,3}}{_FILE_NAME}'
  r'|\b(?:input|output) files? (?:is|are|will be) (?:named|called) '
  r'|\b(?:read|reads|write|writes|input|output|from|to|into) ["\'`]{1,2}'
  r'[\w\-*]{1,40}\.(?:in|out|inp|ans)\b["\'`]{1,2}'
  rf'|^\(?{_FILE_NAME}\)?(?:/| ?, ?| and ){_FILE_NAME}',
  re.IGNORECASE | re.MULTILINE,
)
# Sections whose pictures only illustrate.
_EXAMPLES = re.compile(
  r'\n ?(?:#|\*|-){0,5} ?(?:(?:sample|example)s?\b|notes?\b|explanations?\b'
  r'|input\b'
  r'|output\b|constraints?\b)',
  re.IGNORECASE,
)
# As shown below: *** is a picture in words, and so is an example.
_IN_TEXT = re.compile(
  r'\b(?:below|here|above|shown|following)\b[^.?!\n]{0,30}(?:[:\n]|examples?\b'
  r'|samples?\b)',
  re.IGNORECASE,
)
_PICTURE = re.compile(
  r'\b(?:figures?|pictures?|images?|diagrams?|drawings?|illustrations?)\b',
  re.IGNORECASE,
)
_STANDS_ALONE = 12


def special_judge() -> Step:
  """Statements that accept several outputs for one input.

  An error of floats is accepted if its size can be read, since the judge then
  allows it; letter case and order are not.
  """
  return text.step('special_judge', _special)


def interactive() -> Step:
  """Programs that talk to a judge, or call what only its system has."""
  return text.step('interactive', _interactive)


def image() -> Step:
  """Statements that need an image."""
  return text.step('image', _image)


def template() -> Step:
  """Programs around classes that the source's system provides or calls."""
  return text.step('template', _template)


def file_io() -> Step:
  """Programs that read and write named files."""
  return text.step('file_io', _file_io)


def released(until: str = LAST_DAY, undated: str = 'flag') -> Step:
  """Problems published after a day.

  until: the last day, YYYY-MM-DD.
  undated: 'flag' keeps rows without a date and flags them, 'drop' drops them.
  """
  if not _DATE.fullmatch(until):
    raise ValueError(f'released: until={until!r}: expected YYYY-MM-DD')
  text.check('released', 'undated', undated, ('flag', 'drop'))
  return Step('released', functools.partial(_released, until, undated))


def _released(until: str, undated: str, row: Row) -> Fate:
  date = dates.known(row.date)
  if date:
    # Of a month or a year, any day may be its own.
    if dates.last_day(date) > until:
      return dropped(row, 'released', date=date, until=until)
    return kept(row)
  if undated == 'drop':
    return dropped(row, 'undated', date=row.date[:40])
  new = text.flagged(row, 'undated')
  same = new.about == row.about
  return kept(row) if same else Fate(CHANGED, new, 'undated', {})


def _special(row: Row) -> Mapping[str, Any] | None:
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


def _interactive(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  match = _INTERACTIVE.search(words)
  if match is None:
    return None
  return {'matched': statements.shown(words, *match.span())}


def _image(row: Row) -> Mapping[str, Any] | None:
  raw = row.problem[: statements.CHARS]
  section = _EXAMPLES.search(raw)
  told = raw[: section.start()] if section else raw
  image = figures.IMAGE.search(raw, gates.small(raw))
  words = figures.reference_in_words(told)
  if words and (image or not _IN_TEXT.search(words) or _PICTURE.search(words)):
    return {'matched': words, 'image': image is not None}
  if image and len(keys.tokens(figures.without_images(told))) < _STANDS_ALONE:
    return {'matched': image[0][:80], 'image': True}
  return None


def _template(row: Row) -> Mapping[str, Any] | None:
  names = [n for n in _CLASS.findall(row.starter) if n != 'Solution']
  if names:
    return {'classes': names[:5]}
  raw = row.problem[: statements.CHARS]
  for place, source in (('starter', row.starter), ('problem', raw)):
    match = _CLASSES.search(source) or (
      _DESIGN.search(source) if place == 'problem' else None
    )
    if match:
      return {'in': place, 'matched': match[0][:80]}
  return None


def _file_io(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  match = _FILES.search(words)
  if match is None:
    return None
  return {'matched': statements.shown(words, *match.span())}
