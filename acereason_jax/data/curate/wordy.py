r"""Patterns of many alternatives, of which a text can match only a few.

Each alternative needs one of some words: 'the judge will reply' needs 'judge'.
They come from the pattern itself, so they cannot fall behind it, and to look
for them costs a hundredth of a search. An alternative is searched only if one
of its words is there.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from re import _constants as codes
from re import _parser as parser
from typing import Any, NamedTuple

_ZERO_WIDTH = (codes.AT, codes.ASSERT, codes.ASSERT_NOT)
# They are in most texts.
_COMMON = frozenset(
  (
    *('the', 'a', 'an', 'one', 'any', 'all', 'each', 'both', 'is', 'are', 'be'),
    *('of', 'of the', 'in', 'in the', 'to', 'and', 'or', 'this', 'that', 'it'),
    *('you', 'with', 'for', 'from', 'has', 'have', 'two', 'will', 'can', 'her'),
    *('many', 'some', 'such', 'then', 'if', 'by', 'at', 'on', 'as', 'here'),
  )
)
# More of them cost more than they spare.
_GROUPS = 3
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


class Gate(NamedTuple):
  """An alternative behind its words.

  needs: of each of these groups a text with a match has at least one string,
    in small letters. The first group is the rarest.
  pattern: the alternative.
  """

  needs: tuple[tuple[str, ...], ...]
  pattern: re.Pattern


def gates(pattern: str, flags: int = re.IGNORECASE) -> tuple[Gate, ...]:
  """The alternatives of a pattern, each behind its words."""
  return tuple(
    Gate(needs(branch, flags), re.compile(branch, flags))
    for branch in branches(pattern)
  )


def search(gated: Sequence[Gate], text: str, low: str) -> re.Match | None:
  """The first match of the first alternative that has one.

  low: the text in small letters.
  """
  return next(found(gated, text, low), None)


def found(gated: Sequence[Gate], text: str, low: str) -> Iterator[re.Match]:
  """All matches, one alternative after the other."""
  for gate in gated:
    for group in gate.needs:
      for word in group:
        if word in low:
          break
      else:
        break
    else:
      yield from gate.pattern.finditer(text)


def words(*gated: Sequence[Gate]) -> tuple[str, ...]:
  """The words of all alternatives: without one of them none has a match."""
  firsts = [gate.needs[:1] for gates_ in gated for gate in gates_]
  if not all(firsts):
    return ('',)
  return _shortest(word for (group,) in firsts for word in group)


def branches(pattern: str) -> list[str]:
  """The alternatives of a pattern that are in no group."""
  pieces, start, depth, at = [], 0, 0, 0
  while at < len(pattern):
    sign = pattern[at]
    if sign == '\\':
      at += 1
    elif sign == '[':
      # A bracket right behind the opening one is a member.
      at += 1 + (pattern[at + 1] == '^')
      at = _class_end(pattern, at)
    elif sign in '()':
      depth += 1 if sign == '(' else -1
    elif sign == '|' and depth == 0:
      pieces.append(pattern[start:at])
      start = at + 1
    at += 1
  return [*pieces, pattern[start:]]


def _class_end(pattern: str, at: int) -> int:
  """The place of the bracket that closes a class of characters."""
  if pattern[at] == '\\':
    at += 1
  at += 1
  while pattern[at] != ']':
    at += 2 if pattern[at] == '\\' else 1
  return at


def needs(
  pattern: str, flags: int = re.IGNORECASE
) -> tuple[tuple[str, ...], ...]:
  """Groups of strings of which every match has at least one each."""
  found = _needs(parser.parse(pattern, flags).data)
  groups = sorted({*found} - {frozenset()}, key=_worth, reverse=True)
  return tuple(map(_shortest, groups[:_GROUPS]))


def _shortest(strings: Iterable[str]) -> tuple[str, ...]:
  """The strings that hold no other of them."""
  kept: list[str] = []
  for word in sorted(set(strings), key=lambda word: (len(word), word)):
    if not any(other in word for other in kept):
      kept.append(word)
  return tuple(kept)


def _needs(items: Sequence[tuple[Any, Any]]) -> list[frozenset[str]]:
  """The groups of a sequence: one of each of its parts that has one."""
  groups: list[frozenset[str]] = []
  run = ''
  for code, argument in items:
    if code is codes.LITERAL:
      run += chr(argument).lower()
    elif code not in _ZERO_WIDTH:
      starts = _starts(code, argument)
      groups += _needs_of(code, argument)
      # j(?:udge|ury) has judge and jury.
      whole = run and starts and all(starts)
      groups.append(
        frozenset(run + s for s in starts) if whole else frozenset((run,))
      )
      run = ''
  return [group for group in (*groups, frozenset((run,))) if all(group)]


def _worth(strings: frozenset[str]) -> tuple[int, int]:
  """Long and rare strings are worth most, and few of them."""
  bare = [string.strip() for string in strings]
  sizes = [1 if word in _COMMON else len(word) for word in bare]
  return min(sizes, default=0), -len(strings)


def _needs_of(code: Any, argument: Any) -> list[frozenset[str]]:
  """The groups of one part of a sequence, none if it may be empty."""
  if code is codes.SUBPATTERN:
    return _needs(argument[3])
  if code is codes.ATOMIC_GROUP:
    return _needs(argument)
  if code in _REPEATS:
    return _needs(argument[2]) if argument[0] else []
  if code is codes.BRANCH:
    parts = [_needs(branch) for branch in argument[1]]
    return [_either(parts)] if all(parts) else []
  return []


def _either(parts: Sequence[list[frozenset[str]]]) -> frozenset[str]:
  return frozenset().union(*(max(part, key=_worth) for part in parts))


def _starts(code: Any, argument: Any) -> list[str]:
  """The letters that the alternatives of a part begin with."""
  if code is codes.SUBPATTERN and len(argument[3]) == 1:
    return _starts(*argument[3][0])
  if code is codes.SUBPATTERN:
    return [_start(argument[3])]
  if code is codes.BRANCH:
    return [_start(branch) for branch in argument[1]]
  return []


def _start(items: Sequence[tuple[Any, Any]]) -> str:
  run = ''
  for code, argument in items:
    if code is not codes.LITERAL:
      break
    run += chr(argument).lower()
  return run
