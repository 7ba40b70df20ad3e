r"""The meaning of commas between digits: one number, or a list.

`1,000` is one number wherever it stands, and `12,34` are two. `1,234` can be
either: next to spaced commas, as in `1,234, 5,678`, or in an expression it is
one number; in `(1,234)` it is two. If both are possible a response may mean
either, and a reference cannot be read. Only a text of nothing else, such as
`12,345`, is one number by convention.
"""

import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

from acereason_jax.verifiers.answers import vocabulary
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Ambiguous,
  TooLarge,
  Unreadable,
)

# Commas without a space after them; a text in an index is a name.
_RUN = re.compile(r'(?<![0-9._^])(?<![_^]\{)[0-9]+(?:,[0-9]+)+')
_CANDIDATE = re.compile(r'[0-9],[0-9]{3}')
_HEAD = re.compile('[1-9][0-9]{0,2}')
# In a list, 007 may be the end of 1,007.
_PADDED = re.compile(
  r'(?<=[,;])[-+( ]*0[0-9]+(?![0-9_]|\)_)'
  r'|(?<![0-9._^:])(?<![a-z] )0[0-9]+ ?[,;]'
)
_BROKEN = re.compile(r'[0-9]\{,\}[0-9]|[0-9]\. [0-9]|[0-9] \.[0-9]')
_LINK = re.compile(r'(?<![A-Za-z])(?:and|or)(?![A-Za-z])')
_BEFORE = re.compile(r'(\\[A-Za-z]+ ?|.|)(\(|\[|\\\{|\\langle ?)[-+]?')
_AFTER = re.compile(r'(?:\.[0-9]+)?(?:\)|\]|\\\}|\\rangle)')
_CALLED = frozenset(f'\\{name}' for name in vocabulary.FUNCTIONS)
_LISTS = frozenset(['list', 'both', 'either'])
_NO_OPERANDS = _LISTS | {'tuple', 'set', 'union'}
_ARITHMETIC = vocabulary.words(
  'add multiply divide power root negate factorial pm ratio quantity'
)
_SEVERAL = frozenset(['gcd', 'lcm', 'max', 'min'])
_PAIRS = frozenset(['log', 'binom', 'mod'])
_INFINITY = Node('constant', ('infinity',))


class Reading(NamedTuple):
  """A text read in one way.

  text: text in which commas only separate.
  node: tree of the text.
  """

  text: str
  node: Node


class Texts(NamedTuple):
  """The one or two texts that a text can stand for.

  texts: one or two texts, the more likely first; commas only separate.
  conventional: whether the first is the conventional reading of a lone number.
  odd: whether neither is certain for a reference.
  """

  texts: tuple[str, ...]
  conventional: bool = False
  odd: bool = False


def texts(text: str) -> Texts:
  """Returns the texts that a normalised text can stand for, by its commas.

  Raises:
    Ambiguous: digits that may not be numbers, like those of `1, 002`.
  """
  if _BROKEN.search(text):
    raise Ambiguous('digits that are no number for sure')
  if _CANDIDATE.search(text) is None:
    found = Texts((text.replace(', ', ','),))
  else:
    found = _candidates(text)
  possible = tuple(t for t in found.texts if not _PADDED.search(t))
  if not possible:
    raise Ambiguous('a number of a list that begins with 0')
  return found._replace(texts=possible)


def readings(
  text: str, parse: Callable[[str], Node]
) -> tuple[list[Reading], bool]:
  """Returns the readings of a normalised text, and whether the first is
  certain.

  Raises:
    Unreadable, TooLarge: as in `parse`, if it reads none of them.
    Ambiguous: as in `texts`, or no reading makes sense.
  """
  possible = texts(text)
  parsed, problem = [], None
  for candidate in possible.texts:
    try:
      parsed.append(Reading(candidate, parse(candidate)))
    except (Unreadable, TooLarge) as e:
      problem = problem or e
  if not parsed:
    raise problem
  if _CANDIDATE.search(text) is None:
    return parsed, True
  found = [reading for reading in parsed if _is_plausible(reading.node)]
  if not found:
    raise Ambiguous('commas between digits that can be read in two ways')
  sure = len(found) == 1 or possible.conventional
  return found, sure and not possible.odd


def _candidates(text: str) -> Texts:
  """Returns the text with its digits grouped, and as a list, if possible."""
  runs = list(_RUN.finditer(text))
  where = [_alone(text, run) for run in runs]
  most = [_likely(run, place) for run, place in zip(runs, where)]
  least = [_least(run[0]) for run in runs]
  open_ones = [i for i, run in enumerate(runs) if most[i] != least[i]]
  grouped, listed = _rebuilt(text, runs, most), _rebuilt(text, runs, least)
  one, two = grouped.replace(', ', ','), listed.replace(', ', ',')
  if not open_ones:
    return Texts((one,), odd=any(map(_is_odd, runs, least, where)))
  links = [link.start() for link in _LINK.finditer(text)]
  if links and links[0] < runs[open_ones[-1]].start():
    # One element follows the `and` of a list.
    return Texts((one,))
  if {'set', 'call'} & {where[i] for i in open_ones}:
    return Texts((one, two))
  if re.search(',(?! )', grouped):
    if ', ' in text or all(map(_is_grouped, runs, most)):
      return Texts((one, two))
    return Texts((two,))
  if ', ' in text:
    return Texts((one,))
  return Texts((one, two), conventional=not links and ';' not in text)


def _rebuilt(text: str, runs: list[re.Match], spelled: list[str]) -> str:
  parts, end = [], 0
  for run, new in zip(runs, spelled):
    parts += [text[end : run.start()], new]
    end = run.end()
  return ''.join([*parts, text[end:]])


def _most(run: str) -> str:
  """Returns a run with as many groups joined as possible."""
  numbers, is_open = [], False
  for piece in run.split(','):
    if is_open and len(piece) == 3:
      numbers[-1] += piece
      continue
    numbers.append(piece)
    is_open = _HEAD.fullmatch(piece) is not None
  return ','.join(numbers)


def _least(run: str) -> str:
  """Returns a run with only those groups joined that must be."""
  numbers, is_open = [], False
  for piece in run.split(','):
    if is_open and len(piece) == 3 and piece[0] == '0':
      numbers[-1] += piece
      continue
    numbers.append(piece)
    is_open = _HEAD.fullmatch(piece) is not None
  return ','.join(numbers)


def _likely(run: re.Match, place: str) -> str:
  """Returns a run as an author who groups digits may have meant it.

  2,3,101,103 groups none; 1,500,2,500 may.
  """
  most = _most(run[0])
  partly = ',' in most and not _is_grouped(run, most)
  return _least(run[0]) if partly or place == 'bracket' else most


def _is_grouped(run: re.Match, spelled: str) -> bool:
  """Whether each number of a run has groups."""
  pieces = set(run[0].split(','))
  return pieces.isdisjoint(spelled.split(','))


def _is_odd(run: re.Match, spelled: str, place: str) -> bool:
  """Whether digits are not groups and not certainly a list.

  0,125 and 1,2345 can be slips or decimals; (1,234,567) has three readings.
  """
  pieces = run[0].split(',')
  if place == 'bracket':
    return len(pieces) > 2 and len(pieces[0]) < 3
  if run.start() > 1 or run.end() < len(run.string):
    return False
  long = any(len(a) < 4 <= len(b) for a, b in itertools.pairwise(pieces))
  mixed = ',' in spelled and spelled != run[0] and not _is_grouped(run, spelled)
  return long or mixed or pieces[0] == '0'


def _alone(text: str, run: re.Match) -> str:
  """Returns the brackets that hold only this run: 'bracket', 'set', 'call', ''.

  Nobody puts parentheses around one number, but f(1,234) can have one.
  """
  start = max(0, run.start() - 24)
  before = re.search(rf'{_BEFORE.pattern}$', text[start : run.start()])
  if ',' in _most(run[0]) or before is None:
    return ''
  if _AFTER.match(text, run.end()) is None:
    return ''
  if before[2] == '\\{' and len(min(run[0].split(','), key=len)) < 3:
    return 'set'
  command = before[1].startswith('\\') and before[1].strip() not in _CALLED
  applied = before[1].strip()[-1:].isalnum() or before[1] == '}'
  return 'call' if applied and not command else 'bracket'


def _is_plausible(node: Node) -> bool:
  """Whether an author may have meant this rather than the other reading."""
  inner = [arg for arg in node.args if isinstance(arg, Node)]
  below = [n for row in node.args if node.op == 'matrix' for n in row]
  if not all(map(_is_plausible, (*inner, *below))):
    return False
  if node.op in _LISTS:
    return _is_plausible_list(inner)
  if node.op == 'tuple' and not _is_interval(node):
    ends = {'(': ')', '[': ']', 'if': 'if'}
    infinite = any(_is_infinite(item) for item in inner)
    return ends.get(node.args[0]) == node.args[1] and not infinite
  if node.op == 'union':
    return all(n.op != 'tuple' or _is_interval(n) for n in inner)
  if node.op == 'call':
    return _is_plausible_call(node.args[0], inner)
  if node.op in _ARITHMETIC:
    return all(n.op not in _NO_OPERANDS for n in inner)
  return True


def _is_plausible_list(items: list[Node]) -> bool:
  """Whether elements are of one kind: x > 1 and 234 are not."""
  relations = [item for item in items if item.op == 'relation']
  ratios = [item for item in items if item.op == 'ratio']
  if not relations and not ratios:
    return True
  if max(len(relations), len(ratios)) == len(items):
    return True
  # x = 100, 200 gives x two values.
  first = items[0]
  named = first.args[0] == ('=',) and first.args[1].op == 'symbol'
  return not ratios and relations == [first] and named


def _is_interval(node: Node) -> bool:
  return len(node.args) == 4


def _is_infinite(node: Node) -> bool:
  return _INFINITY in (node, *node.args[:1])


def _is_plausible_call(name: str, arguments: list[Node]) -> bool:
  if any(argument.op in _NO_OPERANDS for argument in arguments):
    return False
  if name in _SEVERAL:
    return len(arguments) > 1
  return len(arguments) <= 1 + (name in _PAIRS)
