"""Programming problems whose programs talk to a judge.

What is told is a dialogue: the program asks, somebody replies, and it reads the
reply before it asks again. Queries of the input have no reply to read.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import demands, statements
from acereason_jax.data.curate.values import Row

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


def interactive(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  match = _INTERACTIVE.search(words)
  if match is None:
    return None
  return {'matched': statements.shown(words, *match.span())}
