r"""What the sentences of a statement demand: a value, or yes or no.

The sentence that asks tells the kind of a problem: an auxiliary verb before its
subject asks for yes or no, an interrogative or an imperative of finding asks
for a value. Words in front, such as 'if n is odd,', change nothing of it.
"""

import functools
import re
from typing import NamedTuple

_END = re.compile(
  r'(?:[.?]|!(?! [^A-Z\\$]))(?:["\')\]$*]{1,3}(?=[ \n])|(?=[ \n]|\Z))'
  r'(?<!\bMr\.)(?<!Mrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!Ltd\.)(?<!\b[Ff]ig\.)'
  r'(?<!e\.g\.)(?<!i\.e\.)(?<!\bvs\.)|\n|;(?= )|\Z'
)
_LETTER = re.compile(r'[^\W\d_]')

_AUXILIARY = (
  r'(?:is|are|was|were|does|do|did|can|could|will|would|must|should|has|have'
  r'|may|might|need|am|isn\'t|aren\'t|doesn\'t|don\'t|can\'t|won\'t)'
)
# After words in front, which end with a comma.
_POLAR = re.compile(
  r'["\'(*$]{0,3}(?:[^?\n]{1,400}?[,:\-\u2013\u2014)$] )??'
  r'(?:(?:but|so|and|then|now|or|also|hence|thus|therefore|for example'
  r'|in that case|in general|if so),? ){0,2}'
  rf'(?P<aux>{_AUXILIARY})(?: not)? (?![,.?!=])',
  re.IGNORECASE,
)
_INTERROGATIVE = r'(?:how|what|whose|who|whom|when|where|why|which|what\'s)'
_WH = re.compile(rf'\b{_INTERROGATIVE}\b', re.IGNORECASE)
_HOW_MANY = re.compile(
  r'\bhow (?:many|much|long|far|old|tall|often|big|fast|high|large)\b'
  r'|\bwhat (?:is|are|was|were|will|would|does|do|number|fraction|percent)\b',
  re.IGNORECASE,
)
FINDING = (
  r'(?:find|determine|compute|calculate|evaluate|solve|simplify|express|give'
  r'|estimate|work out|write(?: down)?|convert|tell|help|figure out|name|list'
  r'|count|state|provide|specify|enter|report|identify|round|guess|suggest'
  r'|describe|draw|sketch|construct|explain how|say (?:how|what|which))'
)
# Can you find ... asks to find it.
_POLITE = re.compile(
  r'(?:can|could|would|will|do) (?:you|we|i|anyone|anybody|someone)'
  r' (?:please |also |kindly |then |now |know )?'
  rf'(?:(?:be able to |like to |manage to |mind )?{FINDING}\b|how|what)',
  re.IGNORECASE,
)
# What tells how to answer, and asks for no other answer.
MANNER = re.compile(
  r'\b(?:yes|no|true|false|reasons?|reasoning|your answer|proof|prove|explain'
  r'|justif\w+|why|explanation|counter-?examples?|briefly|T|F|Y|N)\b'
)
_VALUE = re.compile(
  r'(?:["\'(*$]{0,3}|[^?\n]{0,200}(?:, | and | then | so |: |\) ))'
  r'(?:(?:please|just|only|simply|but|also|then|next|now|finally|hence|thus'
  r'|and|so|what|by|to|in|of'
  rf'|for|at|on|with|from|if so|otherwise),? ){{0,3}}'
  rf'(?:{_INTERROGATIVE}\b|{FINDING}\b(?! (?:if|whether)))',
  re.IGNORECASE,
)


# One of several kinds is no truth: a circle, an ellipse, or a line.
KINDS = re.compile(r'\d\$? or \$?\d|,[^,.?!$]{1,60},? or [\w$]')


class Sentence(NamedTuple):
  """A sentence or line of a prepared statement.

  start, end: its place.
  text: the words, with the mark that ends them.
  """

  start: int
  end: int
  text: str


@functools.lru_cache(512)
def sentences(text: str) -> tuple[Sentence, ...]:
  """The sentences and lines of a prepared statement that have words."""
  found, at = [], 0
  for match in _END.finditer(text):
    end = match.end()
    if _LETTER.search(text, at, end):
      found.append(Sentence(at, end, text[at:end].strip()))
    at = end
  return tuple(found)


def asks_value(sentence: str) -> bool:
  """Whether a sentence demands a value, not a reason or yes or no."""
  if _HOW_MANY.search(sentence):
    return True
  if MANNER.search(sentence):
    return False
  return _VALUE.match(sentence) is not None


def polar(sentence: str, last: bool) -> bool:
  """Whether a sentence is a question for yes or no.

  last: whether no sentence follows, so that its mark may be missing.
  """
  asked = sentence.rstrip('"\')]$* ').endswith('?')
  if not asked and not (last and sentence[-1:] not in '.!:;'):
    return False
  match = _POLAR.match(sentence)
  if match is None:
    return False
  if not asked and match.start('aux') > 3:
    return False
  if not asked and match['aux'].lower() in ('do', 'have', 'need', 'may'):
    return False
  before = sentence[: match.start('aux')]
  if _WH.search(before) or _VALUE.match(before):
    return False
  rest = sentence[match.start('aux') :]
  if KINDS.search(rest):
    return False
  if rest.lower().startswith('are you able to'):
    return False
  return not (_POLITE.match(rest) or _HOW_MANY.search(rest))


def around(words: str, match: re.Match) -> str:
  """The sentence around a match, at most 200 characters on each side."""
  before = words[max(0, match.start() - 200) : match.start()]
  after = words[match.end() : match.end() + 200]
  start = max(before.rfind(mark) for mark in '.?!\n') + 1
  return before[start:] + match[0] + re.split(r'[.?!\n]', after, maxsplit=1)[0]
