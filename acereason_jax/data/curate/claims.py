"""Questions whose answer is yes or no, and those that want a proof."""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import answers, gates, statements
from acereason_jax.data.curate.values import Row

_START = statements.START
# 'For how many n is it true that ...' has a number as its answer.
_TRUE = gates.Gated(
  rf'{_START}(?:but |so |and |then |now |if [^.?!\n]{{1,200}}, (?:then )?)?'
  r'is (?:it|this|that|the (?:following |above |given )?'
  r'(?:statement|claim|assertion|proposition|converse|inequality|identity))\b'
  r'(?: below)?(?:[^.?!\n]{0,200})? ?(?:(?:also|always|necessarily|still'
  r'|ever) )?(?:true|false|correct|valid)\b'
  rf'|{_START}(?:is it|does it) (?:true|the case|(?:always |necessarily'
  rf' )?follow)'
  r'|[?.!:,] is it (?:\w+ )?true that\b'
  rf'|{_START}\(?true (?:or|/) false\b[?.:)]?(?!-)(?= |\n|\Z)'
  r'|\btrue(?: or |/)false ?[?.)]* ?\Z|\(true(?: or |/)false\)'
  r'|\b(?:state|determine|decide|say|tell|indicate|check|answer|find out|judge'
  r'|identify|evaluate)\b[^.?!\n]{0,120}?\b(?:(?:whether|if|is'
  r'|are)\b[^.?!\n]{0,120}'
  r'\b(?:true or false|true|false|correct or incorrect|valid or invalid)\b'
  r'|true or false)'
  r'|\b(?:answer|respond|reply)(?: with| by)?:? (?:only |just |simply'
  r' )?["\'(]{0,2}'
  r'(?:yes or no|yes/no|true/false|true or false)\b|\byes or no ?[?.)]* ?\Z'
  r'|\(yes(?: or |/)no\)|(?:\A|\n|[.?!] |\()t(?:rue)?(?: or |/| /'
  r' )f(?:alse)?[:?.)]',
)
_COUNTS = re.compile(
  r'\b(?:how many|which|what|whose|values?|number of|all (?:\w+ ){0,3}(?:for'
  r'|such)'
  r'|find|smallest|largest|least|greatest|probability|sum|quiz|test|exam)\b',
  re.IGNORECASE,
)
_CLAIM = (
  r'(?:that|why|\$|\\\(|\\\[|(?:the |this )?(?:following|identity|identities'
  r'|inequality|inequalities|statement|claim|equality|theorem|lemma|existence'
  r'|uniqueness)\b|:)'
)
_PROOF = gates.Gated(
  # At the start of a sentence or clause: any proof, and no show.
  rf'(?:{_START}|, )(?:(?:please|hence|thus|therefore|also|finally|first|now'
  r'|next|then|further|moreover|lastly|secondly|using [^.?!,\n]{1,60}'
  r'|use [^.?!\n]{1,60} to|by [^.?!,\n]{1,60}),? ){0,2}'
  r'(?:(?:dis)?prove\b(?! (?:to be|useful)\b)'
  rf'|(?:show|demonstrate|verify|establish) {_CLAIM}'
  r'|(?:deduce|conclude|explain) (?:that|why)\b'
  r'|show,? (?:by|using|with) [^.?!\n]{1,60} that'
  r'|(?:give|provide|write|find|present) (?:a |the )?(?:\w+ )?proof\b)'
  r'|\b(?:and|then|or|to) (?:then |also |hence |thus )?(?:'
  r'(?:dis)?prove (?:that|it|this|whether|why|or disprove|your (?:answer|claim'
  r'|result|conjecture|statement|assertion)|the (?:following|inequality'
  r'|identity|claim|statement|formula|result|theorem|conjecture)|\$|:)'
  r'|show that)|\b(?:can|could|how (?:do|can|would|could)) you (?:prove|show'
  r' that)',
)
# It is possible to show that ...; Ann wants to prove that ...
_TOLD = re.compile(
  r'(?:to (?:also |then )?(?:prove|disprove|show)\b)', re.IGNORECASE
)
_TASK = re.compile(
  rf'{_START}(?:try|you (?:are asked|need|have)|your (?:task|job|goal) is|use'
  r'|we (?:want|wish|need)|it is required|the (?:task|problem|goal) is)\b'
  r'[^.?!\n]{0,80}\Z',
  re.IGNORECASE,
)


def true_false(row: Row) -> Mapping[str, Any] | None:
  """A reference of yes, no, true or false, or a question whether it is true."""
  if word := answers.truth(row.answer):
    return {'reference': word}
  text, _, small = statements.prepared(row.problem)
  for match in _TRUE.finditer(text, small):
    begin = max(text.rfind(mark, 0, match.start() + 1) for mark in '.?!\n')
    if not _COUNTS.search(text[begin + 1 : match.end()]):
      return {'matched': statements.shown(text, *match.span())}
  return None


def proof(row: Row) -> Mapping[str, Any] | None:
  """Prove, disprove or show that, as an instruction."""
  text, _, small = statements.prepared(row.problem)
  for match in _PROOF.finditer(text, small):
    before = text[max(0, match.start() - 120) : match.start()]
    if _TOLD.match(match[0]) and not _TASK.search(before):
      continue
    return {'matched': statements.shown(text, *match.span())}
  return None
