"""Intervals, and unions of intervals and points, by their ends."""

from fractions import Fraction

from acereason_jax.verifiers.answers import forms, values
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import Refused, Unreadable

_INFINITIES = (forms.INFINITY, forms.MINUS_INFINITY)


def brackets(node: Node) -> tuple[str, str]:
  """The ends of an interval: ]a, b[ is (a, b).

  Raises:
    Refused: an end at infinity is closed, but infinity is not a number.
  """
  opening, closing, *ends = node.args
  opening, closing = opening.replace(']', '('), closing.replace('[', ')')
  if len(ends) == 2 and (
    (opening == '[' and ends[0] in _INFINITIES)
    or (closing == ']' and ends[1] in _INFINITIES)
  ):
    raise Refused('an interval closed at infinity')
  return opening, closing


def common(a: list[Node], b: list[Node]) -> Node:
  """The intersection of two unions, each given as its pieces.

  Raises:
    Unreadable: one of them has a piece that is not an interval of numbers.
  """
  found = []
  for x in a:
    for y in b:
      ends = [_span(piece) for piece in (x, y)]
      if None in ends:
        raise Unreadable('inequalities of no numbers')
      lows = [(e[0], e[1], p.args[2]) for e, p in zip(ends, (x, y))]
      highs = [(e[2], not e[3], p.args[3]) for e, p in zip(ends, (x, y))]
      # Ends are compared by position and openness, not by spelling.
      low = max(lows, key=lambda end: end[:2])
      high = min(highs, key=lambda end: end[:2])
      if low[0] < high[0] or (low[0] == high[0] and not low[1] and high[1]):
        ends_as = '(' if low[1] else '[', ']' if high[1] else ')'
        found.append(Node('tuple', (*ends_as, low[2], high[2])))
  return found[0] if len(found) == 1 else Node('union', tuple(found))


def pieces(node: Node) -> list[Node]:
  """The parts of a union; all its finite sets become one."""
  parts = node.args if node.op == 'union' else (node,)
  points = [p for part in parts if part.op == 'set' for p in part.args]
  rest = [part for part in parts if part.op != 'set']
  return rest + ([Node('set', tuple(points))] if points else [])


def merged(pieces: list[Node]) -> list[tuple] | None:
  """Returns disjoint (low, open, high, open) of numbers; None for others."""
  spans = []
  for piece in pieces:
    if piece.op == 'set':
      points = list(map(place, piece.args))
      spans += [None if p is None else (p, False, p, False) for p in points]
    else:
      spans.append(_span(piece))
  if None in spans:
    return None
  spans = [s for s in spans if s[0] < s[2] or (s[0] == s[2] and not s[1])]
  disjoint = []
  for span in sorted(spans, key=lambda span: (span[0], span[1])):
    low, low_open, high, high_open = span
    if disjoint and (
      low < disjoint[-1][2]
      or (low == disjoint[-1][2] and not (low_open and disjoint[-1][3]))
    ):
      last = disjoint.pop()
      # (high, closed) orders ends from the widest.
      end = max((last[2], not last[3]), (high, not high_open))
      disjoint.append((last[0], last[1], end[0], not end[1]))
    else:
      disjoint.append(span)
  return disjoint


def _span(piece: Node) -> tuple | None:
  """Returns (low, open, high, open) of an interval between numbers."""
  if piece.op != 'tuple' or len(piece.args) != 4:
    return None
  opening, closing = brackets(piece)
  low, high = map(place, piece.args[2:])
  if low is None or high is None:
    return None
  return low, opening == '(', high, closing == ')'


def place(node: Node) -> float | Fraction | None:
  """Returns a number that orders ends and equals those of equal value."""
  if node == forms.INFINITY:
    return float('inf')
  if node == forms.MINUS_INFINITY:
    return float('-inf')
  value = values.constant(node) if forms.is_expression(node) else None
  return None if value is None else values.rounded(value)
