"""Questions whose answer is yes or no, and those that want a proof.

The sentence that asks decides: 'Is n prime?' and 'Decide whether n is prime.'
have no value as their answer, unless a value is asked for after them.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import answers, demands, gates, statements
from acereason_jax.data.curate.values import Row

_TWO = (
  r'(?:true|false|yes|no|correct|incorrect|right|wrong|valid|invalid|t|f|agree'
  r'|disagree|possible|impossible|y|n)'
)
# True or false, yes/no, T/F, (T) or (F); not: a true/false test.
_PAIRED = re.compile(
  rf'(?<![\w-]){_TWO}["\')*]{{0,3}}(?: \([tfyn]\))?(?:,? or |/| / )'
  rf'(?:is it |it is )?["\'(*]{{0,3}}{_TWO}(?![\w-])(?: \([tfyn]\))?',
  re.IGNORECASE,
)
# In front of or behind a pair that asks.
_BEFORE_PAIR = re.compile(
  r'(?:\A|[.?!:;,\n(\[$\u2013\u2014-]|\b(?:is|are|be|with|by|as|say|write'
  r'|state|answer|reply'
  r'|respond|mark|choose|circle|select|enter|output|only|either|simply|just'
  r'|it|whether|if|statement|claim))[ "\'(*]{0,4}\Z',
  re.IGNORECASE,
)
_AFTER_PAIR = re.compile(
  r'[ "\')*\]]{0,4}(?:[.?!:;,\n)\]\u2013\u2014-]|\Z| for| to| accord'
  r'| and (?:explain|justify|give|why)| (?:only|below|here|in|as)\b)',
  re.IGNORECASE,
)
_JUDGING = (
  r'(?:state|determine|decide|say|tell|indicate|check|answer|find out|judge'
  r'|identify|evaluate|investigate|examine|verify|test|assess|discuss'
  r'|figure out|work out|establish|comment on|consider|see|show|prove|explain'
  r'|analy[sz]e|ascertain|find|justify|argue)'
)
# Decide whether; at the start of a sentence or clause, or as what one must do.
_WHETHER = gates.Gated(
  rf'(?:(?:\A|[,:)\u2013\u2014$-] )["\'(*$]{{0,3}}|\b(?:and|then|so|please|also'
  r'|hence|now|next|is to|is'
  r'|(?:you|we|one|students?) (?:must|should|have to|need to|are to|want to'
  r'|wish to|are asked to|are required to)'
  r'|(?:asked|required|want|wish|like|necessary|try) to) )'
  rf'{_JUDGING}(?: for yourself| with (?:a )?(?:reason|proof)s?| carefully)?,?'
  r'(?: (?:whether|if)\b|'
  r' (?:on |about |upon )?the (?:truth|validity|correctness)\b)'
  r'|\b(?:asked|question is|problem is|know|interested in) whether\b',
)
# Decide whether there is one, and find it.
_ALSO_VALUE = re.compile(
  r'(?:[,;:]| and| then) (?:and |if (?:so|it is|it does|they are|yes),? )?'
  rf'(?:then |also )?(?:{demands.FINDING}|what|how many|how much)\b',
  re.IGNORECASE,
)
# Most statements end with a question for a value.
_HOW = ('How many ', 'How much ', 'How long ', 'How far ', 'How old ')


def true_false(row: Row) -> Mapping[str, Any] | None:
  """A reference of yes, no, true or false, or a question whether it is true."""
  if word := answers.truth(row.answer):
    return {'reference': word}
  text = statements.prepared(row.problem).text
  return _truth_asked(text)


def _truth_asked(text: str) -> Mapping[str, Any] | None:
  sentences = demands.sentences(text)
  # From the end, since a later question for a value decides.
  for place, sentence in reversed(list(enumerate(sentences))):
    words = sentence.text
    if words.startswith(_HOW):
      return None
    last = place == len(sentences) - 1
    if demands.polar(words, last) or _decides(words) or _pair(words):
      return {'matched': words[:160]}
    if demands.asks_value(words):
      return None
  return None


def _decides(sentence: str) -> bool:
  """Whether a sentence tells the reader to decide whether something holds."""
  match = _WHETHER.search(sentence, gates.small(sentence))
  if match is None:
    return False
  if demands.KINDS.search(sentence, match.end()):
    return False
  rest = _ALSO_VALUE.search(sentence, match.end())
  return (
    rest is None or demands.MANNER.search(sentence, rest.start()) is not None
  )


def _pair(sentence: str) -> bool:
  """Whether a sentence offers two words of truth to choose from."""
  return any(
    _BEFORE_PAIR.search(sentence, max(match.start() - 20, 0), match.start())
    and _AFTER_PAIR.match(sentence, match.end())
    for match in _PAIRED.finditer(sentence)
  )


_VERB = (
  r'(?:(?:dis)?prove|show|demonstrate|verify|establish|confirm|argue|justify'
  r'|deduce|conclude|infer|check|derive|explain)'
)
# A proof is wanted of a claim, so it is named, or told after 'that'.
_CLAIM = (
  r'(?:(?:that|there (?:is|are|exists?)|for (?:all|every|any|each)|every'
  r'|no)\b|why\b|\$|\\\(|\\\[|:|(?:algebraically|geometrically|formally'
  r'|rigorously|directly|carefully|analytically|,|by|using|with|from|via)'
  r' [^.?!\n]{0,100}?(?:that\b|\$|:)|(?:the |this |these |each of the '
  r'|both )?(?:\w+ )?(?:following'
  r'|identit(?:y|ies)|inequalit(?:y|ies)|statements?|claims?|equalit(?:y|ies)'
  r'|theorem|lemma|existence|uniqueness|assertion|proposition|corollary'
  r'|validity|correctness|truth|fact'
  r'|equivalence|convergence|divergence|irrationality|property|properties)\b)'
)
_WANTED = (
  r'(?:(?:dis)?prove\b(?! (?:to be|useful|helpful|wrong|right|yourself'
  r'|himself|herself|themselves|his|her|him|their)\b)'
  rf'|{_VERB},? {_CLAIM}'
  r'|(?:give|provide|write|find|present|supply|construct|sketch|outline|state'
  r'|produce|submit|offer|complete) (?:(?:a|the|your|an|some|us|me|out|down)'
  r' ){0,2}(?:\w+ ){0,3}?proof\b)'
)
_LEAD = (
  r'(?:(?:please|pls|plz|kindly|hence|thus|therefore|also|finally|first'
  r'|firstly|now|so'
  r'|next|then|further|furthermore|moreover|lastly|secondly|conversely|let us'
  r'|let\'s|try to|directly|carefully|rigorously|formally'
  r'|(?:hence|thus|conclude|deduce) or otherwise|or otherwise'
  r'|(?:using|by|with|without|via|from|in) [^.?!,\n]{1,60}'
  r'|(?:use|apply) [^.?!\n]{1,80} (?:to|and)'
  r'|your (?:task|job|goal) (?:is|will be) to'
  r'|(?:you|we|one|students|the reader|candidates?) (?:must|should|have to'
  r'|need to|are to|(?:are )?(?:asked|required|requested|supposed) to|want to'
  r'|wish to)'
  r'|it (?:is )?(?:remains|required|asked|necessary|suffices) to'
  r'|(?:the|our|your) (?:task|problem|goal|aim|job|objective'
  r'|exercise) (?:here )?is to'
  r'),? )'
)
# At the start of a sentence or clause, or joined to another task.
_PROOF = gates.Gated(
  rf'(?:(?:\A|[,;:)\u2013\u2014$}}\]-] )["\'(*$]{{0,3}}{_LEAD}{{0,2}}'
  rf'|\b(?:please|you (?:must|should|have to|need to|are to)) '
  rf'){_WANTED}'
  r'|\b(?:and|then|or) (?:then |also |hence |thus )?(?:'
  r'(?:dis)?prove (?:that|it|this|whether|why|or disprove|your (?:answer|claim'
  r'|result|conjecture|statement|assertion)|the|\$|:)'
  rf'|{_VERB} (?:that|why)\b)'
  r'|\b(?:can|could|would|how (?:do|can|would|could)) (?:you|we|one|i|anyone) '
  r'(?:please )?(?:prove|show that|demonstrate that|help me (?:prove'
  r'|show that))'
  r'|\b(?:help|asks?|want|wants|tells?) (?:me|you|us) (?:to )?(?:prove'
  r'|show that)',
)
# Prove Ltd., a name.
_NAME = re.compile(
  r'(?:.{0,200} )?[Pp]rove [A-Z][a-z.]+ (?!.{0,60}(?:[Tt]heorem|[Ii]nequality'
  r'|[Ll]aw|[Ii]dentity|[Ll]emma|[Ff]ormula|[Rr]ule|[Cc]riterion'
  r'|[Cc]onjecture))'
)
# It is to be shown that; the claim must be proved.
_PASSIVE = gates.Gated(
  r'\b(?:(?:is|are|remains?|has|have|needs?) to be|(?:must|should|shall) be'
  r'|is (?:wanted|required|requested) to be) (?:proved|proven|disproved'
  r'|(?:shown|demonstrated|verified|established) (?:that\b|\$|here|below)'
  r'|(?:shown|demonstrated|verified|established)\.?\Z)'
  r'|\b(?:a|the) (?:\w+ )?proof (?:is|of [^.?!\n]{1,80} is) (?:required|wanted'
  r'|requested|asked|expected|needed)'
  r'|\bcan it be (?:proved|proven|shown)\b|\bexplain,? with (?:a |full '
  r'|complete |rigorous )*proof\b|\bproof (?:wanted|required|please)'
  r'|\A(?:to prove|to show|claim|rtp|wts)\b ?:',
)
_WHY = gates.Gated(
  r'(?:\A|[,;:] )(?:(?:so|and|but|then) )?why (?:is|are|does|do|must|can|'
  r'can\'t|cannot|should|will|would|has|have) ',
)
# It is possible to show that ...; Ann wants to prove that ...
_TO = gates.Gated(
  r'\bto (?:also |then )?(?:prove|disprove|show that|demonstrate that'
  r'|verify that)\b',
)
_TASK = re.compile(
  r'(?:\A|[,:] )(?:try|you (?:are asked|need|have|want|wish|will)'
  r'|your (?:task|job|goal|aim) is'
  r'|use|we (?:want|wish|need|are asked|have|would like)'
  r'|it (?:is required|is asked|remains|suffices)|i (?:want|need|have|am trying'
  r'|\'m trying|am asked)'
  r'|(?:the|this|our|one) (?:task|problem|goal|exercise|question|aim'
  r'|homework) (?:is|asks|wants|was|asks us|requires)|trying|asked|need'
  r')\b[^.?!\n]{0,80}\Z|\bhow \Z',
  re.IGNORECASE,
)

_PROOFS = (_PROOF, _PASSIVE, _WHY, _TO)


def proof(row: Row) -> Mapping[str, Any] | None:
  """Prove, disprove or show that, as an instruction."""
  text, _, small = statements.prepared(row.problem)
  if not any(pattern.admits(small) for pattern in _PROOFS):
    return None
  found = demands.sentences(text)
  for place, sentence in enumerate(found):
    words, small = sentence.text, gates.small(sentence.text)
    if match := _wanted(words, small):
      return {'matched': statements.shown(words, *match.span())}
    passive = _PASSIVE.search(words, small)
    match = passive or _WHY.search(words, small)
    if match is None:
      continue
    # What is asked for besides is the answer.
    others = (
      found[place + 1 :] if passive else found[:place] + found[place + 1 :]
    )
    if not any(demands.asks_value(other.text) for other in others):
      return {'matched': statements.shown(words, *match.span())}
  return None


def _wanted(sentence: str, small: str) -> re.Match | None:
  """Where a sentence tells the reader to prove something, None for nowhere."""
  for match in _PROOF.finditer(sentence, small):
    if not _NAME.match(sentence):
      return match
  for match in _TO.finditer(sentence, small):
    if _TASK.search(sentence[max(0, match.start() - 120) : match.start()]):
      return match
  return None
