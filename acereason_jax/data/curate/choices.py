"""Multiple-choice questions: options in order, or the letter of one.

Points A, B, C, initials, boxes A: 3 and B: 5, and steps that a question follows
are no options: nothing is asked after options, except which of them it is.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.data.curate import answers, gates, statements
from acereason_jax.data.curate.values import Row

# (A) 3 (B) 4; A. 3; A) 3; A: 3; [A] 3; (A)3(B)4.
_LETTER_AND_CLOSE = r'(?P<letter>%s)\$?(?P<close>[)\].:\u3001]\$?)'
_OPTION = re.compile(
  r'(?P<before>\A|\n|[ ,;$\]\[{\'"|]|(?<=[0-9.)}])(?=[(\[]))(?P<open>[(\[]?)\$?'
  rf'{_LETTER_AND_CLOSE % "[A-Ja-e]"}'
  r'(?![=+*/<>^|,;_)]|-(?![0-9$\\ ]))'
)
# Options are two at least, so one of them is the second, in small letters.
_SECOND = re.compile(_LETTER_AND_CLOSE % 'b')
_OPTION_CHARS = 400
_CHOOSE = re.compile(
  r'\b(?:choose|select|enter|write|answer|give|put|circle|mark|pick|indicate'
  r'|state)\b[^.?!\n]{0,60}\b(?:letters?|options?|choices?|answers?|response)\b'
  r'|\bwhich (?:of|one|option|choice|answer|statement)',
  re.IGNORECASE,
)
_WHICH = re.compile(r'\bwhich\b', re.IGNORECASE)
# A first label that needs no bracket: at the start of a line or a sentence.
_AT_START = re.compile(
  r'(?:\A|\n|[.?!:;)\]$_}|"\'{\[] ?|\bis ?|\bare ?|\bequals ?|\bbe ?)\Z'
)
_OF_THE_ABOVE = gates.Gated(
  r'\b(?:all|none|both|neither|any) of (?:the|these) above ?(?:[.)?\n]|\Z)'
  r'|[)\].:,;|\n] ?(?:or )?(?:all|none|neither) of (?:these|them)(?: ?[.)\n]'
  r'|\Z)',
)
# A stem that its options complete.
_ASKING = re.compile(
  r'(?:\?|\bis|\bare|\bequals?|=)[ $\n]{0,3}\Z', re.IGNORECASE
)
# The options are lost: which of the following is a prime?
_LOST = gates.Gated(
  r'\bwhich (?:one )?of the following\b[^:?\n]{0,200}\?["\')$ ]{0,3}\Z',
)
# Choose the correct option; its options may be lost.
_CHOOSE_ONE = gates.Gated(
  r'\b(?:choose|select|pick|mark|tick|circle|identify|check|click)'
  r'(?: on)? (?:the|one|only one|your) (?:\w+ )?'
  r'(?:correct|right|best|most appropriate|appropriate|proper|suitable|true) '
  r'(?:answers?|options?|choices?|alternatives?|letters?|responses?'
  r'|statements?|one)\b'
  r'|(?:\A|\n)(?:the )?(?:answer |possible )?(?:options|choices|alternatives)'
  r'(?: are)? ?[:\n]|\b(?:choose|select|pick) (?:from|among|one of) (?:the )?'
  r'(?:options|choices|alternatives|following (?:options|choices|answers))'
  r'|\b(?:choose|select|pick|mark) (?:one|an|the) (?:option|choice'
  r'|alternative|answer)\b(?! (?:of|from|that|at|by|for))'
  r'|(?<=[?.:] )(?:answer |possible )?(?:options|choices|alternatives) ?:'
  r'|\bMCQ\b'
  r'|\bmultiple[- ]choice\)|\A[^.?!\n]{0,20}multiple[- ]choice(?: question)?['
  r'.:]',
)
# Option 1: 10; choice B - 12.
_NAMED = gates.Gated(
  r'\b(?:option|choice|answer|alternative) ?\(?(?P<name>[1-9A-Fa-f])\)?'
  r' ?(?:[:.)=\u2013\u2014-]|\n)',
)
# A 5 B 6 C 7 D 8, or A - 5, B - 6, C - 7.
_BARE = re.compile(
  r'[?:)_. \n](?: ?\n)? ?A\b ?[-\u2013\u2014=]? (?P<one>[^A-Z\n.?!]{1,30}?)[ '
  r',;\n]{1,2}B\b'
  r' ?[-\u2013\u2014=]? [^A-Z\n.?!]{1,30}?[ ,;\n]{1,2}C\b ?[-\u2013\u2014=]? '
  r'[^A-Z\n?!]{1,30}(?:\Z|[ ,;\n]{1,2}D\b(?P<tail>[^\n?]{0,80}\Z))'
)
_SMALL = re.compile(
  r'(?:[?:]|\b(?:is|are|equals?)\b\??) ?\n? ?a\b[-\u2013\u2014=]? (?P<one>-?'
  r'\$?\d[^a-z\n]{0,20}) b\b[-\u2013\u2014=]? -?\$?\d[^a-z\n]{0,20} c\b[-'
  r'\u2013\u2014=]? -?\$?\d[^\n]{0,60}\Z'
)
# 1) 20 2) 21 3) 22, and i) 4 ii) 6 iii) 7.
_ROMANS = {'i': '1', 'ii': '2', 'iii': '3', 'iv': '4', 'v': '5'}
_ONE_OF = re.compile(
  r'\b(?:which|odd one|choose|select|pick|mark|largest|smallest|greatest'
  r'|least)\b[^.?!\n]{0,100}[?:.]?[ \n]*\(?\Z',
  re.IGNORECASE,
)
_NUMBERED = re.compile(
  r'(?:\A|\n|[ ?:])\(?(?:(?P<digit>[1-6]|i{1,3}|iv|v)\)[.:]?'
  r'|(?P<dot>[1-6])\.(?= )) ?(?P<text>[^()?\n]{1,60}?)(?=[ \n,;]+\(?(?:[1-6]'
  r'|i{1,3}|iv|v)[).]|\n|\Z|[.?!] )'
)
_NOT_ONE = re.compile(
  r'\bhow many|\bconditions?\b|\bnumber of\b', re.IGNORECASE
)
_JOINED = re.compile(r'[ ,;$]*(?:and|or|to|[+*/=<>\u00b7-])?[ ,;$]*')
# What a value begins with.
_VALUE = re.compile(
  r'[ $\\{}\n(]{0,4}(?:-? ?\d|\\?[dt]?frac|\\?sqrt|\\?pi|-?\\?[a-z]\b)'
)
_FINITE = re.compile(
  r'\b(?:how (?:many|much|long|far|old)|what|which|who|where|when)\b',
  re.IGNORECASE,
)


def choice(row: Row, keep: str = '') -> Mapping[str, Any] | None:
  """Lettered options, or a reference that is the letter of one.

  With keep='value' options are no reason if the reference is a value.
  """
  if letter := answers.letter(row.answer):
    return {'reference': letter}
  if keep == 'value':
    return None
  text, _, small = statements.prepared(row.problem)
  runs = _runs(text) if _SECOND.search(small) else ()
  for run in sorted(runs, key=len, reverse=True):
    if _are_options(text, run):
      start = run[0].start()
      labels = [m[0].strip() for m in run]
      return {'labels': labels, 'matched': text[start : start + 80].strip()}
  match = (
    _OF_THE_ABOVE.search(text, small)
    or _LOST.search(text, small)
    or _CHOOSE_ONE.search(text, small)
    or _named(text, small)
    or _bare(text)
    or _small(text)
    or _numbered(text)
  )
  if match:
    return {'matched': statements.shown(text, *match.span())}
  return None


def _named(text: str, small: str) -> re.Match | None:
  """Option 1, option 2 in order, with no question after them."""
  found = list(_NAMED.finditer(text, small))
  names = ''.join(m['name'] for m in found).upper()
  if len(names) > 1 and names in (
    '123456789'[: len(names)],
    'ABCDEF'[: len(names)],
  ):
    tail = statements.sentences(text[found[-1].end() :])[1:]
    if not any(statements.asks(f'\n{s}') for s in tail):
      return found[0]
  return None


def _bare(text: str) -> re.Match | None:
  """Letters without a mark behind a stem that asks."""
  if not ('A' in text and 'B' in text and 'C' in text):
    return None
  match = _BARE.search(text)
  if match and (
    statements.asks(f'\n{text[: match.start() + 1]}')
    or _ASKING.search(text[: match.start()])
    or text[match.start()] == ':'
  ):
    return match
  return None


def _small(text: str) -> re.Match | None:
  """Small letters without a mark: a 20 b 30 c 40."""
  if not any(f' b{sign}' in text for sign in ' -=\u2013\u2014'):
    return None
  return _SMALL.search(text)


def _numbered(text: str) -> re.Match | None:
  """Numbers as the labels of short options, of which one is to be chosen."""
  if not any(f'3{mark}' in text or f'iii{mark}' in text for mark in ').'):
    return None
  found = list(_NUMBERED.finditer(text))
  names = [m['digit'] or m['dot'] for m in found]
  digits = ''.join(_ROMANS.get(name, name) for name in names)
  if len(digits) < 3 or not '123456'.startswith(digits):
    return None
  stem, tail = text[: found[0].start() + 1], text[found[-1].end() :]
  if any(statements.asks(f'\n{m["text"].strip()}') for m in found):
    return None
  if _NOT_ONE.search(stem) or _NOT_ONE.search(tail):
    return None
  if _CHOOSE.search(stem) or _CHOOSE.search(tail):
    return found[0]
  values = all(_VALUE.match(m['text']) for m in found)
  if values and _ONE_OF.search(stem) and len(tail) < 40:
    return found[0]
  return None


def _runs(text: str) -> list[list[re.Match]]:
  """Labels A, B, ... of one style, in order and near each other."""
  runs: dict[tuple[str, str, bool], list[re.Match]] = {}
  done = []
  for match in _OPTION.finditer(text):
    letter = match['letter']
    style = match['open'], match['close'].strip('$'), letter.isupper()
    run = runs.setdefault(style, [])
    number = ord(letter.lower()) - ord('a')
    if number == 0:
      if len(run) > 1:
        done.append(run)
      runs[style] = [match] if _opens(text, match) else []
    elif number == len(run) and _are_near(run[-1], match):
      run.append(match)
  return done + [run for run in runs.values() if len(run) > 1]


def _are_near(one: re.Match, other: re.Match) -> bool:
  return other.start() - one.start() <= _OPTION_CHARS


def _opens(text: str, match: re.Match) -> bool:
  """Whether a first label is where options may begin."""
  if match['open']:
    return True
  before = text[max(0, match.start() - 8) : match.start()] + match['before']
  return bool(_AT_START.search(before))


def _last(stem: str) -> str:
  """The last sentence of what is in front of options."""
  return (statements.sentences(stem) or [''])[-1]


def _end_it(pieces: Sequence[str], tail: str) -> bool:
  """Whether short pieces end a statement: it is now: a) 5 b) 6 c) 7."""
  return max(map(len, (*pieces, tail))) < 40 and not statements.asks(tail)


def _are_options(text: str, run: list[re.Match]) -> bool:
  """Whether labels in order are options."""
  stem, tail = text[: run[0].start()], text[run[-1].end() :]
  pieces = [text[a.end() : b.start()] for a, b in itertools.pairwise(run)]
  if any(_JOINED.fullmatch(piece) for piece in pieces):
    return False
  if not run[0]['letter'].isupper():
    asked = any(statements.asks(f'\n{piece.strip()}') for piece in pieces)
    chosen = (
      _ASKING.search(stem)
      or any(map(_WHICH.search, (stem, tail)))
      or _CHOOSE.search(text)
    )
    ended = stem.rstrip(' $\n')
    values = all(map(_VALUE.match, [*pieces, tail]))
    completed = _end_it(pieces, tail) and (
      ended.endswith(':')
      or (values and _FINITE.search(_last(ended)))
      or (ended.endswith('.') and statements.asks(f'\n{_last(ended)}'))
    )
    return len(run) > 2 and bool(chosen or completed) and not asked
  # The options may be in front of the question.
  if (
    not stem.strip(' $\n\\{')
    and len(run) > 2
    and all(map(_VALUE.match, pieces))
  ):
    return True
  after = statements.sentences(tail)[1:]
  if any(statements.asks(f'\n{s}') for s in after):
    return any(map(_CHOOSE.search, (stem, *after)))
  if len(run) > 2:
    return True
  begins = (
    bool(run[0]['open'])
    or run[0]['before'] in ('\n', '')
    or stem.rstrip().endswith('?')
  )
  short = len(pieces[0]) < 60 and len(tail) < 60
  return begins and short and statements.asks(f'\n{stem}')
