"""The slots and pages of a shard, and the rollouts that hold them; no jax.

Page 0 of a shard belongs to no rollout: slots without a rollout write there.
"""

import collections
import dataclasses

import numpy as np

from acereason_jax.rollout import engine_sizes
from acereason_jax.rollout import requests as requests_lib


@dataclasses.dataclass(eq=False)
class Prefix:
  """A prompt without its last token, in pages that its rollouts share.

  tokens: ids, int32 [S].
  pages: numbers of its pages, in order.
  users: number of rollouts in slots that read it.
  """

  tokens: np.ndarray
  pages: list[int]
  users: int = 0


@dataclasses.dataclass(eq=False)
class Live:
  """A rollout in a slot. Its first input is its prompt's last token.

  request: request that it serves.
  seed: `sampling.prompt_seed` of the prompt's id.
  prefix: pages of the prompt.
  order: number of rollouts admitted before it.
  began: number of decode steps of the stream before it was admitted.
  pages: numbers of the pages of its response, in order.
  parts: arrays of each call: tokens, logp, full_logp, entropy.
  drawn: number of tokens so far.
  steps: number of decode steps that drew them, at most.
  forced, closed: as in `exchange.Slot`.
  last: id of the next input token.
  """

  request: requests_lib.Request
  seed: int
  prefix: Prefix
  order: int
  began: int
  pages: list[int] = dataclasses.field(default_factory=list)
  parts: list[tuple[np.ndarray, ...]] = dataclasses.field(default_factory=list)
  drawn: int = 0
  steps: int = 0
  forced: int = 0
  closed: int = 0
  last: int = 0

  def tokens(self) -> np.ndarray:
    return np.concatenate([part[0] for part in self.parts])


class Shard:
  """The slots and pages of one data shard."""

  def __init__(self, sizes: engine_sizes.Sizes, first: int):
    self.first = first
    self.slots: list[Live | None] = [None] * (sizes.slots // sizes.shards)
    self.free = list(range(sizes.pages - 1, 0, -1))
    # Least recently used first: prefixes without users are freed in this order.
    self.prefixes: collections.OrderedDict[bytes, Prefix] = (
      collections.OrderedDict()
    )

  def live(self) -> list[Live]:
    return [s for s in self.slots if s is not None]

  def places(self) -> list[int]:
    """The slots without a rollout."""
    return [i for i, s in enumerate(self.slots) if s is None]

  def available(self, keep: Prefix | None) -> int:
    idle = (p for p in self.prefixes.values() if not p.users and p is not keep)
    return len(self.free) + sum(len(p.pages) for p in idle)

  def take(self, count: int, keep: Prefix | None) -> list[int]:
    """`count` free pages; frees the pages of prompts that no rollout uses."""
    while len(self.free) < count:
      key = next(
        k for k, p in self.prefixes.items() if not p.users and p is not keep
      )
      self.free += self.prefixes.pop(key).pages
    return [self.free.pop() for _ in range(count)]

  def leave(self, live: Live) -> int:
    """Removes a rollout from its slot; returns the slot's place."""
    self.free += live.pages
    live.prefix.users -= 1
    place = self.slots.index(live)
    self.slots[place] = None
    return place
