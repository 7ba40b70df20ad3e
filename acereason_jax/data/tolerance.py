"""Reads from a problem's statement the error that it allows in an answer."""

import html
import re
import unicodedata
from typing import Any

from acereason_jax.data.untrusted import expect

# 10^{-6}, 10 - 6 (its superscript was lost), 5*10^-3, 10**(-6), 1e-6, 0.000001.
_SMALL = re.compile(
  r'(?:([0-9](?:\.[0-9]+)?) ?(?:x|\*|\N{MULTIPLICATION SIGN}|times|cdot) ?)?'
  r'\b10 ?(?:\^|\*\*)? ?\(? ?- ?([0-9]{1,2})\b'
  r'|\b([0-9](?:\.[0-9]{1,4})?e ?- ?[0-9]{1,2})\b'
  r'|(?<![0-9.])(0?\.0*[125])(?![0-9]|\.[0-9]| ?%)'
)
# Words of sentences that allow an error in the answer. Stories mention errors
# and distances too.
_OF_ERROR = re.compile(
  r'\berrors?\b|\bdiffer|\btolerance\b|\baccura(?:cy|te)\b|\bprecis(?:ion|e)\b'
  r'|\bdeviat|\boff by\b|\baccept\w* (?:\w+ ){0,4}within [-0-9.e^ ]{2,12}'
  r'|\bwithin [-0-9.e^ ]{2,12} (?:of|from)\b'
  r'|\babsolute or relative\b|\brelative or absolute\b'
  r'|\bcorrect (?:up )?to (?:within )?[0-9.]'
  r'|\|.{1,80}\|.{0,60}(?:<|\N{LESS-THAN OR EQUAL TO}|\ble|\bleq)'
)
_OF_ANSWER = re.compile(
  r'\babsolute\b|\brelative\b|\baccepted\b|\banswers?\b|\bcorrect\b|\bjudge'
  r'|\bjury|\bchecker|\boutput|\bprint|\bpermi|\ballow|\bcontain|\bresults?\b'
  r'|\btolerated\b|\bignored\b'
)
_OF_STORY = re.compile(
  r'probability of (?:an |the )?error|error (?:rate|prob)'
  r'|\bno (?:\w+ ){0,3}errors? (?:in \w+ \w+ )?(?:is|are)\b'
)
# Words of sentences about the input, or about cases that the input excludes.
_PROMISE = re.compile(r'\bguarantee|\bassume')
# A number this large is not an error of the answer but a distance in a story.
_STORY_ERROR = 0.2
_EITHER = re.compile(r'\bmax ?\(|\bmin ?\(')
_RELATIVE = re.compile(r'\brelative\b|/ ?\||\bfrac ?\|')
# Tags, and TeX's braces and backslashes.
_MARKUP = re.compile(
  r'</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>'
  r'|\\(?:left|right|text|mathrm|,|!|;|:)?|[${}`]',
  re.ASCII,
)
_MINUS = re.compile('[\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}]')
_SENTENCE_END = re.compile(r'[.!?](?=\s|$)|\n\s*\n')
_STATEMENT_CHARS = 1 << 17


def allowed_error(statement: str) -> dict[str, Any]:
  """Returns the fields for the error that a problem's statement allows, or {}.

  "absolute or relative" allows either, "relative" allows only a relative error,
  and anything else an absolute one. If several are named, the smallest counts.
  """
  expect(isinstance(statement, str), 'the statement is not text')
  found: dict[str, Any] = {}
  for sentence in _sentences(statement[:_STATEMENT_CHARS]):
    if _OF_STORY.search(sentence) or not (
      _OF_ERROR.search(sentence) and _OF_ANSWER.search(sentence)
    ):
      continue
    if _PROMISE.search(sentence) and 'accepted' not in sentence:
      continue
    for number in _SMALL.finditer(sentence):
      times, power, scientific, decimal = number.groups()
      text = f'{times or 1}e-{power}' if power else scientific or decimal
      error = float(text.replace(' ', ''))
      if 0 < error < found.get('float_tol', _STORY_ERROR):
        found = {'float_tol': error, 'float_error': _error_of(sentence)}
  return found


def _sentences(statement: str) -> list[str]:
  """Returns sentences without markup, in lower case, with plain minus signs."""
  text = unicodedata.normalize('NFKC', html.unescape(statement))
  text = _MINUS.sub('-', _MARKUP.sub(' ', text.lower()))
  return [' '.join(s.split()) for s in _SENTENCE_END.split(text)]


def _error_of(sentence: str) -> str:
  either = _EITHER.search(sentence) or (
    'relative' in sentence and 'absolute' in sentence
  )
  if either:
    return 'either'
  return 'relative' if _RELATIVE.search(sentence) else 'absolute'
