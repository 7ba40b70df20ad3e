"""Patterns that are tried only where the words are without which none matches.

A rule's pattern is a hundred times as slow as the look for a word, and most
statements have none of its words. Which words these are is read from the
pattern itself, so a pattern that grows takes its gate with it. Each alternative
has a gate of its own: of fifty few are tried.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from re import _constants as ops
from re import _parser as parser
from typing import Any, NamedTuple

# Letters that a pattern in small letters matches, and `lower` leaves.
_CASES = str.maketrans({0x130: 'i', 0x131: 'i', 0x17F: 's'})
# Words of a set; of a set of phrases, that other words are spelled out in.
_MOST_WORDS, _MOST_PHRASES = 32, 10
# One letter is in every text.
_LEAST_CHARS = 2
# A letter more makes a word so much rarer, except for those that are in common
# words. Each look for a word costs some hundredths of a try of a pattern.
_RARER, _LOOK = 4.0, 0.03
_COMMON = (
  *('all', 'and', 'are', 'each', 'for', 'from', 'has', 'how', 'many', 'much'),
  *('one', 'that', 'the', 'then', 'there', 'these', 'this', 'was', 'what'),
  *('where', 'which', 'with', 'given', 'find', 'into', 'by', 'as', 'if', 'no'),
)
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_NO_WIDTH = (ops.AT, ops.ASSERT, ops.ASSERT_NOT)
Words = frozenset[str]


class Needs(NamedTuple):
  """What a part of a pattern needs of a text in small letters.

  exact: all that it can match; None if that is too much to say.
  clauses: sets of words, of each of which one is in every match.
  """

  exact: Words | None
  clauses: tuple[Words, ...] = ()


_ANYTHING = Needs(None)


class Alternative(NamedTuple):
  """An alternative behind its gate.

  clauses: sets of words, of each of which one is in every text with a match.
  pattern: what is tried.
  """

  clauses: tuple[Words, ...]
  pattern: re.Pattern[str]


class Gated:
  """A pattern whose alternatives have gates; letters are of either case.

  Alternatives are tried one after the other, so a match of the first one comes
  before an earlier match of the second; (?:a|b) is one alternative. Each call
  takes the text, and the same text in small letters (`small`).
  """

  def __init__(self, pattern: str, flags: int = 0):
    self.alternatives = tuple(
      Alternative(clauses, re.compile(part, re.IGNORECASE | flags))
      for part, clauses in zip(_split(pattern), needs(pattern))
    )
    firsts = [each.clauses[:1] for each in self.alternatives]
    self._any = tuple(
      sorted(_least(itertools.chain(*(c for first in firsts for c in first))))
      if all(firsts)
      else ('',)
    )

  def admits(self, small: str) -> bool:
    """Whether a match is possible: False is sure."""
    return next(self._admitted(small), None) is not None

  def search(self, text: str, small: str) -> re.Match[str] | None:
    """The first match of the first alternative that has one."""
    for pattern in self._admitted(small):
      if match := pattern.search(text):
        return match
    return None

  def finditer(self, text: str, small: str) -> Iterator[re.Match[str]]:
    """All matches of one alternative, then those of the next one."""
    for pattern in self._admitted(small):
      yield from pattern.finditer(text)

  def sub(
    self, made: Callable[[re.Match[str]], str], text: str, small: str
  ) -> str:
    """The text with other words for all matches."""
    for pattern in self._admitted(small):
      text = pattern.sub(made, text)
    return text

  def _admitted(self, small: str) -> Iterator[re.Pattern[str]]:
    """The alternatives that may have a match."""
    has = small.__contains__
    if any(map(has, self._any)):
      for clauses, pattern in self.alternatives:
        for clause in clauses:
          if not any(map(has, clause)):
            break
        else:
          yield pattern


def small(text: str) -> str:
  """The text in small letters, as a pattern sees it that ignores case."""
  return (text if text.isascii() else text.translate(_CASES)).lower()


def needs(pattern: str) -> tuple[tuple[Words, ...], ...]:
  """For each alternative of a pattern, sets of words of which it needs one.

  The set with the rarest words is first. An alternative without sets may match
  any text.
  """
  found = []
  for part in _split(pattern):
    clauses = _clauses(_sequence(parser.parse(part, re.IGNORECASE)))
    found.append(tuple(sorted(map(_least, clauses), key=_commonness)))
  return tuple(found)


def _split(pattern: str) -> Iterator[str]:
  """The alternatives of a pattern: it is cut at each | outside of brackets."""
  depth, start, in_set, at = 0, 0, -1, 0
  while at < len(pattern):
    sign = pattern[at]
    if sign == '\\':
      at += 1
    elif in_set >= 0:
      # A bracket that comes first is one of the set.
      if sign == ']' and at > in_set + 1:
        in_set = -1
    elif sign == '[':
      in_set = at + (pattern[at + 1 : at + 2] == '^')
    elif sign in '()':
      depth += 1 if sign == '(' else -1
    elif sign == '|' and not depth:
      yield pattern[start:at]
      start = at + 1
    at += 1
  yield pattern[start:]


def _sequence(nodes: Iterable[tuple[Any, Any]]) -> Needs:
  """What nodes need that follow each other."""
  clauses: list[Words] = []
  run, whole = frozenset(('',)), True
  for node in nodes:
    needs = _node(*node)
    if needs.exact is not None and _few(run, needs.exact):
      run = frozenset(a + b for a in run for b in needs.exact)
      continue
    clauses += [run, *needs.clauses]
    run, whole = needs.exact or frozenset(('',)), False
  if whole:
    return Needs(run)
  return Needs(None, tuple(filter(_tells, (*clauses, run))))


def _node(op: Any, value: Any) -> Needs:
  """What one node of a parsed pattern needs; a kind that is new, nothing."""
  if op is ops.LITERAL and _is_plain(chr(value)):
    return Needs(frozenset((chr(value).lower(),)))
  if op in _NO_WIDTH:
    return Needs(frozenset(('',)))
  if op is ops.SUBPATTERN:
    return _sequence(value[-1])
  if op is ops.ATOMIC_GROUP:
    return _sequence(value)
  if op is ops.IN and all(o is ops.LITERAL for o, _ in value):
    return _branch([_node(*each) for each in value])
  if op is ops.BRANCH:
    return _branch([_sequence(each) for each in value[1]])
  if op in _REPEATS:
    least, most, body = value
    needs = _sequence(body)
    if (least, most) == (0, 1) and needs.exact is not None:
      return Needs(needs.exact | {''})
    return Needs(None, tuple(_clauses(needs))) if least else _ANYTHING
  return _ANYTHING


def _branch(found: Sequence[Needs]) -> Needs:
  """What one of several needs."""
  if all(needs.exact is not None for needs in found):
    exact = frozenset().union(*(needs.exact for needs in found))
    if len(exact) <= _MOST_WORDS:
      return Needs(exact)
  best = [
    min(_clauses(needs), key=_commonness, default=None) for needs in found
  ]
  if None in best:
    return _ANYTHING
  return Needs(None, (_least(itertools.chain(*best)),))


def _few(one: Words, other: Words) -> bool:
  return len(one) * len(other) <= (
    _MOST_WORDS if min(len(one), len(other)) == 1 else _MOST_PHRASES
  )


def _clauses(needs: Needs) -> list[Words]:
  exact = () if needs.exact is None else (needs.exact,)
  return [words for words in (*exact, *needs.clauses) if _tells(words)]


def _is_plain(letter: str) -> bool:
  """Whether `small` shows a letter as a pattern that ignores case sees it."""
  return letter.isascii() or letter.lower() == letter.upper()


def _tells(words: Words) -> bool:
  return min(map(len, words), default=0) >= _LEAST_CHARS


def _least(words: Iterable[str]) -> Words:
  """The words without those that have another one in them."""
  found: list[str] = []
  for word in sorted(set(words), key=lambda w: (len(w), w)):
    if not any(short in word for short in found):
      found.append(word)
  return frozenset(found)


def _commonness(words: Words) -> float:
  return sum(
    _LOOK + (1.0 if _is_common(word) else _RARER ** -len(word))
    for word in words
  )


def _is_common(words: str) -> bool:
  return all(
    any(word in common for common in _COMMON) for word in words.split()
  )
