"""A place among tokens, and bounds on nesting."""

from collections.abc import Callable
from typing import Any

from acereason_jax.verifiers.answers.tokens import END, Token
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import TooLarge, Unreadable

# Python's stack holds this many levels of our frames; answers nest below 10.
_DEPTH = 24


class Cursor:
  """The tokens, and the place up to which they are read.

  The levels of the grammar are its subclasses, each a subclass of the level
  below it. A method is a rule: it consumes the tokens of the node that it
  returns.
  """

  def __init__(self, tokens: list[Token]):
    self._tokens = tokens
    self._position = 0
    self._depth = 0
    self._bars = 0
    self._wraps = 0

  def peek(self, ahead: int = 0) -> Token:
    i = self._position + ahead
    return self._tokens[i] if 0 <= i < len(self._tokens) else END

  def _next(self) -> Token:
    token = self.peek()
    self._position += 1
    return token

  def _is(self, kind: str, *texts: str) -> bool:
    token = self.peek()
    return token.kind == kind and (not texts or token.text in texts)

  def _take(self, kind: str, *texts: str) -> bool:
    if self._is(kind, *texts):
      self._position += 1
      return True
    return False

  def _expect(self, kind: str, *texts: str) -> Token:
    if not self._is(kind, *texts):
      raise Unreadable(
        f'{self.peek().text or self.peek().kind!a} for {texts or kind}'
      )
    return self._next()

  def _nested(self, parse_inner: Callable[[], Any], bars: int = 0) -> Any:
    """Returns the contents of brackets, within `bars` open | of its own."""
    self._depth += 1
    if self._depth > _DEPTH:
      raise TooLarge(f'nested deeper than {_DEPTH}')
    # A bar inside other brackets closes nothing outside of them.
    outer, self._bars = self._bars, bars
    node = parse_inner()
    self._bars = outer
    self._depth -= 1
    return node

  def _wrapped(self, node: Node) -> Node:
    """`node`, counted one level deeper than its parts."""
    self._wraps += 1
    if self._wraps > _DEPTH:
      raise TooLarge(f'over {_DEPTH} operations in a row')
    return node
