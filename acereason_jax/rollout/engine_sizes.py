"""The static sizes of an engine, to which its programs are compiled; no jax."""

from typing import NamedTuple


class Sizes(NamedTuple):
  """Static sizes of an engine.

  slots: rollouts decoded at once, over all shards.
  shards: groups of devices with slots and pages of their own; divides slots.
  page: cache positions of a page, in tokens.
  chunk: decode steps of one call; divides page.
  pages: cache pages of each shard, page 0 included.
  rows: prompts of one prefill call, over all shards; shards divide it.
  piece: tokens of each prompt that one prefill call takes; page divides it.
  window: most tokens of a prompt.
  max_tokens: most tokens of a response.
  speculate: tokens that a step of `verify` drafts for each rollout; 0: no such
    program. Slots of a shard divide by speculate + 1, and a chunk has more.
  """

  slots: int
  shards: int
  page: int
  chunk: int
  pages: int
  rows: int
  piece: int
  window: int
  max_tokens: int
  speculate: int = 0

  @property
  def prefix_pages(self) -> int:
    """Pages of the longest prompt, without its last token."""
    return -(-(self.window - 1) // self.page)

  @property
  def table(self) -> int:
    """Pages of the longest prompt and response."""
    return self.prefix_pages + -(-self.max_tokens // self.page)


def check(s: Sizes) -> None:
  """Raises ValueError for sizes that do not fit each other."""
  checks = [
    ('slots', s.slots > 0 and s.slots % s.shards == 0, 'shards'),
    ('rows', s.rows > 0 and s.rows % s.shards == 0, 'shards'),
    ('page', min(s.page, s.chunk) > 0 and s.page % s.chunk == 0, 'chunk'),
    ('piece', s.piece > 0 and s.piece % s.page == 0, 'page'),
  ]
  each, width = s.slots // s.shards, s.speculate + 1
  for name, good, of in checks:
    if not good:
      raise ValueError(
        f'{name}={getattr(s, name)}: give a multiple of {of}, {getattr(s, of)}'
      )
  if not 1 <= width <= s.chunk or each % width:
    raise ValueError(
      f'speculate={s.speculate}: give 0, or less than chunk={s.chunk} where '
      f'speculate + 1 divides the {each} slots of a shard; slots=0 is such a '
      'number'
    )
  if min(s.window, s.max_tokens) < 1:
    raise ValueError(
      f'window={s.window} max_tokens={s.max_tokens}: give at least 1'
    )
  if s.pages < (least := s.table + 1):
    raise ValueError(
      f'pages={s.pages} on each of {s.shards} shards: one rollout, with '
      f'a prompt of {s.window} and a response of {s.max_tokens} tokens, needs '
      f'{least}, that of empty slots included'
    )
