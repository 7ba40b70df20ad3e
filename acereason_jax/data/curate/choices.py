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
# Options are two at least, so one of them is the second.
_SECOND = gates.Gated(_LETTER_AND_CLOSE % '[Bb]')
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
  r'(?:\A|\n|[.?!:;)\]$_}|"\'] ?|\bis ?|\bare ?|\bequals ?|\bbe ?)\Z'
)
_OF_THE_ABOVE = gates.Gated(
  r'\b(?:all|none|both|neither) of (?:the|these) above ?(?:[.)?\n]|\Z)',
)
# A stem that its options complete.
_ASKING = re.compile(
  r'(?:\?|\bis|\bare|\bequals?|=)[ $\n]{0,3}\Z', re.IGNORECASE
)
# The options are lost: which of the following is a prime?
_LOST = gates.Gated(
  r'\bwhich (?:one )?of the following\b[^:?\n]{0,200}\?["\')$ ]{0,3}\Z',
)
_JOINED = re.compile(r'[ ,;$]*(?:and|or|to)?[ ,;$]*')


def choice(row: Row, keep: str = '') -> Mapping[str, Any] | None:
  """Lettered options, or a reference that is the letter of one.

  With keep='value' options are no reason if the reference is a value.
  """
  if letter := answers.letter(row.answer):
    return {'reference': letter}
  if keep == 'value':
    return None
  text, _, small = statements.prepared(row.problem)
  runs = _runs(text) if _SECOND.admits(small) else ()
  for run in sorted(runs, key=len, reverse=True):
    if _are_options(text, run):
      start = run[0].start()
      labels = [m[0].strip() for m in run]
      return {'labels': labels, 'matched': text[start : start + 80].strip()}
  match = _OF_THE_ABOVE.search(text, small) or _LOST.search(text, small)
  if match:
    return {'matched': statements.shown(text, *match.span())}
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
    completed = stem.rstrip(' $\n').endswith(':') and _end_it(pieces, tail)
    return len(run) > 2 and bool(chosen or completed) and not asked
  after = statements.sentences(tail)[1:]
  if any(statements.asks(f'\n{s}') for s in after):
    return any(map(_CHOOSE.search, (stem, *after)))
  if len(run) > 2:
    return True
  begins = bool(run[0]['open']) or run[0]['before'] in ('\n', '')
  short = len(pieces[0]) < 60 and len(tail) < 60
  return begins and short and statements.asks(f'\n{stem}')
