r"""What a reference is: none at all, a letter, a truth, several values."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate.values import Row

_CHARS = 4096
_WRAPPED = re.compile(
  r'\\(?:boxed|fbox|(?:text|math)(?:bf|rm|it|sf|tt)?|mbox|emph|operatorname)'
  r'\s?\{([^{}]{0,200})\}'
)
_COMMAND = re.compile(r'\\[a-zA-Z]+')
_NO_MARKS = re.compile(r'(?<!\\)[${}]|\\[()\[\],;:! ]|\*\*|[`"\u201c\u201d]')
_EDGES = " \t\r\n.,:;?!()[]-_\u2013\u2014/'#*"

_SENTINELS = frozenset(
  (
    '', 'proof', 'proofs', 'proved', 'proven', 'proof omitted', 'omitted',
    'qed', 'q.e.d', 'not found', 'notfound', 'not_found', 'none', 'null', 'nil',
    'nan', 'n/a', 'n.a', 'na', 'n\\a', 'not available', 'not applicable',
    'unavailable', 'not provided', 'not given', 'no answer',
    'no answer provided', 'no answer given', 'no answer found',
    'no solution provided', 'no solution given', 'answer not found',
    'answer not provided', 'answer not given', 'answer not available',
    'unknown', 'unspecified', 'missing answer', 'todo', 'tbd', 'tba', 'pending',
    'undetermined answer', 'see solution', 'see solutions', 'see the solution',
    'see above', 'see below', 'see proof', 'see the proof', 'see explanation',
    'see figure', 'see graph', 'see diagram', 'see text', 'see answer',
    'see attached', 'see image', 'see picture', 'see work',
    'see solution above', 'see solution below', 'refer to solution',
    'refer to the solution', 'as above', 'shown above', 'as shown',
    'as required', 'answer', 'answers', 'answer key', 'solution', 'solutions',
    'solution omitted', 'final answer', 'the answer', 'the proof',
    'the proof is complete', 'proof is complete', 'proof complete',
    'see proof above', 'see proof below', 'answers vary', 'answers may vary',
    'answers will vary', 'varies', 'open-ended', 'open ended', 'not a number',
    'undefined answer', 'placeholder', 'statement proved',
    'statement is proved', 'proved above', 'proof above', 'proof below',
    'proof in solution', 'the statement is proved',
  )
)  # fmt: skip
_SEE = re.compile(
  r'(?:see|refer to|check|look at|given in|provided in|as in)\b.{0,20}\b'
  r'(?:solutions?|proofs?|explanations?|figures?|above|below|work|textbook|book'
  r'|images?|answers?|hints?|appendix|notes?|link|attachment)'
)
# Only such words, and one that says that there is none: answer missing.
_ABSENT = frozenset(
  (
    'missing', 'omitted', 'unavailable', 'pending', 'absent', 'lacking', 'lost',
    'unanswered', 'unsolved', 'hidden', 'withheld', 'blank',
  )
)  # fmt: skip
_FOUND = frozenset(
  (
    'found', 'provided', 'given', 'available', 'known', 'supplied', 'included',
    'recorded', 'stated', 'listed', 'shown', 'specified', 'published',
    'released',
  )
)  # fmt: skip
_NOT = frozenset(
  ('not', "isn't", "wasn't", "aren't", "hasn't", 'no', 'without')
)
_FILLING = frozenset(
  (
    'answer', 'answers', 'solution', 'solutions', 'proof', 'proofs', 'result',
    'key', 'the', 'final', 'is', 'was', 'are', 'reference', 'correct', 'not',
    'yet', 'here', 'to', 'be', 'for', 'this', 'problem', 'question', 'it',
    'has', 'been', 'currently', 'still', 'in', 'data', 'field', 'official',
    'expected', 'value', 'left', 'text', 'dataset', 'source',
  )
)  # fmt: skip
_ELSEWHERE = re.compile(
  r'(?:the |this |its )?(?:proof|solution|answer|rest|verification'
  r'|it) (?:is |was )?(?:left|omitted|trivial|obvious|immediate|clear'
  r'|straightforward|easy|skipped)\b.{0,40}'
  r'|left (?:to|as|for) (?:the |an? )?(?:reader|exercise|student)s?|'
  r'(?:proven|proved|proof|shown|derived|explained|demonstrated|answer'
  r'|solution|solved|worked out|done|discussed) (?:is |are |was )?(?:given '
  r'|found |provided |shown )?'
  r'(?:in|by|within|at|on|above|below|elsewhere)\b(?: the| its'
  r'| a)?(?: \w+)?(?: (?:solution|proof|text|book|appendix|explanation'
  r'|article|paper|answer|section|notes?|page|back|end|figure|manual|key'
  r'|lecture))?'
)
_NAMED = re.compile(r'(?:proof|solution|answer) ?: ?')
# No solution exists is an answer.
_NO_ANSWER = re.compile(
  r'(?:no|without) (?:(?:final |reference )?answer|solution|proof) '
  r'(?:is |was )?(?:available|provided|given|needed|required)'
  r'|no answer (?:was |is )?found'
)
_LETTER = re.compile(
  r'(?:(?:the )?(?:correct )?(?:answer|option|choice)(?: is|:)? ?)?'
  r'(?:\(\s*([A-Ja-j])\s*\)|\[([A-J])\]|([A-J]))\s*[.)]?',
  re.IGNORECASE,
)
# (B) 14, B. 14 and B) 14; not (B) + 2.
_LETTER_AND = re.compile(
  r'\(([A-J])\)\s*[.:]?\s*[^\s+\-*/^=,(].*|([A-J])[.)]\s+\S.*'
)
_TRUTHS = frozenset(
  (
    'yes', 'no', 'true', 'false', 'correct', 'incorrect', 'always true',
    'sometimes true', 'never true', 'not true', 'not always', 'not necessarily',
    'it is true', 'it is false', 'the statement is true', 'yes it is',
    'the statement is false', 'no it is not', 'it does', 'it does not',
    'yes it does', 'no it does not', 'yes it is possible',
    'no it is impossible', 'no it is not possible', 'yes they are',
    'no they are not', 'yes there is', 'no there is not', 'yes we can',
    'no we cannot',
  )
)  # fmt: skip
_YES = re.compile(
  r'(?:yes|no|true|false)\b(?:[,.;:!]| (?:it|they|there|because|since)\b).*'
)


def plain(answer: str) -> str:
  r"""A reference without \boxed, \text, `$` and quotes, in small letters."""
  text = unicodedata.normalize('NFKC', answer[:_CHARS])
  if '\\' in text:
    for _ in range(3):
      text = _WRAPPED.sub(r' \1 ', text)
  return ' '.join(_NO_MARKS.sub(' ', text).split()).lower()


def sentinel(row: Row) -> Mapping[str, Any] | None:
  """No answer, or a word that stands for none."""
  text = plain(row.answer).strip(_EDGES).replace(' / ', '/')
  text = _NAMED.sub('', text)
  words = set(text.replace(',', ' ').split())
  if (
    words
    and words <= _FILLING | _ABSENT | _FOUND | _NOT
    and (
      words & _ABSENT
      or (words & _NOT and words & _FOUND)
      or ({'no', 'answer'} <= words and not words & _FOUND)
    )
  ):
    return {'answer': row.answer[:80]}
  if len(text) < 80 and _ELSEWHERE.fullmatch(text):
    return {'answer': row.answer[:80]}
  if text in _SENTINELS or (
    len(text) < 80 and (_SEE.match(text) or _NO_ANSWER.fullmatch(text))
  ):
    return {'answer': row.answer[:80]}
  return None


def letter(answer: str) -> str:
  """The letter of an option if a reference is one, with or without a value."""
  text = unicodedata.normalize('NFKC', answer[:_CHARS])
  if '\\' in text:
    for _ in range(2):
      text = _WRAPPED.sub(r'\1', text)
  text = ' '.join(_NO_MARKS.sub(' ', text).split())
  if match := _LETTER.fullmatch(text):
    found = match[1] or match[2] or match[3]
    # A lone small letter is a variable.
    bare = text.rstrip('.') == found
    return '' if bare and found.islower() else found
  match = _LETTER_AND.fullmatch(text)
  return (match[1] or match[2]) if match else ''


def truth(answer: str) -> str:
  """The word if a reference is yes, no, true or false."""
  text = plain(answer).strip(_EDGES)
  if text.replace(',', '') in _TRUTHS or _YES.fullmatch(text):
    return text[:40]
  return ''


# Numbers, and words of prose between them.
_PIECE = re.compile(r'(?P<number>\d+(?:[.,]\d+)*)|(?P<word>[^\W\d_]{2,})')
# They join numbers to one value, or list values that the judge reads as a set.
_JOINS = frozenset(
  (
    'and', 'or', 'to', 'by', 'mod', 'over', 'plus', 'minus', 'times', 'in',
    'out', 'of', 'per', 'than', 'the', 'th', 'st', 'nd', 'rd', 'pm', 'am',
    'base', 'sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'log', 'ln', 'exp',
    'sqrt', 'frac', 'max', 'min', 'gcd', 'lcm', 'pi', 'arctan', 'arcsin',
    'arccos', 'deg', 'choose', 'less', 'more', 'equal', 'between', 'modulo',
    'equivalently', 'equivalent', 'approximately', 'approx', 'about', 'floor',
    'ceil', 'ceiling', 'hundred', 'thousand', 'million', 'billion', 'percent',
    'dozen', 'degrees', 'degree', 'half', 'remainder', 'hours', 'hour', 'hr',
    'hrs', 'minutes', 'minute', 'mins', 'seconds', 'second', 'secs', 'days',
    'day', 'weeks', 'week', 'months', 'month', 'years', 'year', 'dollars',
    'dollar', 'cents', 'cent', 'euros', 'euro', 'pounds', 'pound', 'pence',
    'ounces', 'ounce', 'oz', 'lb', 'lbs', 'feet', 'foot', 'ft', 'inches',
    'inch', 'yards', 'yard', 'miles', 'mile', 'meters', 'meter', 'metres',
    'metre', 'cm', 'mm', 'km', 'kg', 'mg', 'grams', 'gram', 'centimeters',
    'kilometers', 'liters', 'liter', 'litres', 'ml', 'units', 'unit', 'square',
    'cubic', 'sq', 'january', 'february', 'march', 'april', 'may', 'june',
    'july', 'august', 'september', 'october', 'november', 'december',
  )
)  # fmt: skip
_CASES = re.compile(
  r'\b(?:if|when|where|otherwise|for (?:all|even|odd|each|every|some|any|\w'
  r' ?[=<>])|respectively|depending|unless|while|whereas)\b'
)
_LABELLED = re.compile(
  r'(?:\A|[\s,;])\(?(?:a|i|1)[).:]\s?.{1,80}?[\s,;]\(?(?:b|ii|2)[).:]'
)
# Two unknowns, x = 2 and y = -1; the second is not another value of the first.
_NAMED_VALUE = re.compile(
  r'(?:\b|\\)([a-z]|alpha|beta|gamma|delta|lambda|mu|sigma|theta|rho|phi'
  r'|omega)(?:_\w)? ?(?:=|is\b)'
)
_BETWEEN_NAMED = re.compile(
  r'\d[^\w=<>]{0,3} (?:and|while|with|but) (?:\\?(?:alpha|beta|gamma|delta'
  r'|lambda|mu|sigma|theta|rho|phi|omega)|[a-z])(?:_\w)? ?(?:=|is\b)'
  r'|\b[a-z] is [a-z]{2,}[^a-z0-9]{1,3}(?:and |while |but )?[a-z] is [a-z]{2,}'
)
# A sentence about several values: the numbers are 13 and 17.
_TOLD = re.compile(
  r'[a-z]{3,} (?:are|were|is)\b[^=]*\d[^=]*?(?:,|\band\b|\bor\b)[^=]*\d'
)
_KINDS = {
  unit: kind
  for kind, units in (
    (
      'time',
      'h hr hrs hour hours min mins minute minutes s sec second seconds'
      ' day days week weeks month months year years',
    ),
    (
      'length',
      'mm cm m km ft feet foot inch inches in mile miles yard yards'
      ' metre metres meter meters',
    ),
    ('mass', 'g kg mg lb lbs gram grams pound pounds ounce ounces oz'),
    ('money', 'dollar dollars cent cents euro euros'),
    ('angle', 'degree degrees'),
  )
  for unit in units.split()
}
# 50 degrees and 60 degrees: two values of one kind.
_REPEATED = re.compile(
  r'\d ?([a-z]{1,12})\b ?(?:,|;|,? ?and|,? ?or) ?[^\d]{0,4}\d[\d.]* ?\1\b'
)
# 2.5 hours, 140 km: a length does not go on a time.
_MEASURED = re.compile(
  r'\d ?([a-z]{1,12})\b[^\d,;]{0,20}[,;] ?[^\d]{0,20}?\d[\d.]* ?([a-z]{1,12})\b'
)


def long(row: Row, chars: int) -> Mapping[str, Any] | None:
  """A reference of many characters, or several values with words between."""
  if len(row.answer) > chars:
    return {'characters': len(row.answer), 'most': chars}
  text = plain(row.answer)
  if match := _LABELLED.search(text):
    return {'matched': match[0][:80]}
  names = _NAMED_VALUE.findall(text)
  for match in (
    # x = 0, y = 2 and x = 9, y = 11 are points, which the judge compares.
    1 < len(names) == len({*names}) and _BETWEEN_NAMED.search(text),
    _TOLD.search(text),
    _measures(text),
    _repeated(text),
  ):
    if match:
      return {'matched': match[0][:80]}
  words, numbers = [], 0
  cases = _CASES.search(text)
  text = _COMMAND.sub(' ', text)
  for piece in _PIECE.finditer(text):
    if piece['number']:
      if numbers and (words or cases):
        return {'between': words[:8] or [cases[0]]}
      numbers, words = numbers + 1, []
    elif piece['word'] not in _JOINS and not _is_product(text, piece):
      words.append(piece['word'])
  return None


def _measures(text: str) -> re.Match | None:
  """Two measures of different kinds, with a comma between them."""
  match = _MEASURED.search(text)
  if match is None:
    return None
  kinds = [_KINDS.get(unit) for unit in match.groups()]
  return match if None not in kinds and kinds[0] != kinds[1] else None


def _repeated(text: str) -> re.Match | None:
  """Two measures with one unit."""
  match = _REPEATED.search(text)
  return match if match and match[1] in _KINDS else None


def _is_product(text: str, piece: re.Match) -> bool:
  """Whether letters are variables behind a number, as in 4ac."""
  start = piece.start()
  return len(piece[0]) < 4 and start > 0 and text[start - 1].isdigit()
