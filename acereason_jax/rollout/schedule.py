"""Assigns rollouts to slots and pages; no jax.

Everything here is a function of the requests and of the drawn tokens, so every
process of a run makes the same schedule. Page 0 of a shard belongs to no
rollout: slots without a rollout write there.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib

# The state of each slot's rollout, which the device reports after a call.
RUNNING, STOP, LENGTH, ERROR = range(4)
REASONS = ('running', 'stop', 'length', 'error')
# Cached tokens that a decode step reads in the time in which one token of a
# prompt is prefilled: 2 FLOPs a weight over the peak, against the token's bytes
# over the bandwidth. 7B: 500 (v6e) to 1,400 (v5p), H100 1,000.
PREFILLED = 1000
# More than any shard has to read; no more rollouts go to such a shard.
_FULL = 1 << 62


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


class Slot(NamedTuple):
  """The state of a slot at the start of a call; int32 each.

  live: 1 if it holds a rollout.
  token: id of the next input token.
  position: position of that token in prompt and response.
  prefix, start, length: see `paged_attention.paged_attention`.
  page, offset: place of this call's keys and values.
  drawn: number of tokens of the response so far.
  limit: most tokens of the response.
  forced: how many of the drawn tokens are an inserted end of thinking.
  closed: 1 if the thinking is over.
  seed: `sampling.prompt_seed` of the prompt's id.
  index: index among the prompt's rollouts; gives the key, with `seed`.
  """

  live: int = 0
  token: int = 0
  position: int = 0
  prefix: int = 0
  start: int = 0
  length: int = 0
  page: int = 0
  offset: int = 0
  drawn: int = 0
  limit: int = 0
  forced: int = 0
  closed: int = 0
  seed: int = 0
  index: int = 0


class Drawn(NamedTuple):
  """The result of a call for B slots and at most T steps.

  steps: number of decode steps that the call took, int32.
  tokens_BT: token ids, int32; the first count_B[b] columns of row b are valid.
  logp_BT: natural log-probability under the distribution drawn from, float32.
  full_logp_BT: log-probability under softmax(logits), float32.
  entropy_BT: entropy of the distribution drawn from, nats, float32.
  count_B: number of tokens drawn, int32.
  ended_B: RUNNING, STOP, LENGTH or ERROR, int32.
  forced_B, closed_B: as in `Slot`, after the call.
  """

  steps: np.ndarray
  tokens_BT: np.ndarray
  logp_BT: np.ndarray
  full_logp_BT: np.ndarray
  entropy_BT: np.ndarray
  count_B: np.ndarray
  ended_B: np.ndarray
  forced_B: np.ndarray
  closed_B: np.ndarray


class Pieces(NamedTuple):
  """One prefill call of A prompts; int32. Rows without a piece use page 0.

  tokens_AT: token ids of the piece.
  first_A: position of its first token in the prompt.
  table_AP: pages of the whole prompt.
  page_AP: pages that the piece fills.
  """

  tokens_AT: np.ndarray
  first_A: np.ndarray
  table_AP: np.ndarray
  page_AP: np.ndarray


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
  forced, closed: as in `Slot`.
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


def _left_to_read(live: Live) -> int:
  """Cached tokens that the rest of a rollout's steps read, as expected.

  A rollout that is as long as expected goes on for a quarter of its length.
  """
  request = live.request
  rest = max(min(request.expected, request.limit) - live.drawn, live.drawn / 4)
  rest = min(rest, request.limit - live.drawn)
  return int(rest * (len(live.prefix.tokens) + live.drawn + rest / 2))


class Shard:
  """The slots and pages of one data shard."""

  def __init__(self, sizes: Sizes, first: int):
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


class Schedule:
  """Continuous batching: `admit`, `control`, call the device, `record`."""

  def __init__(
    self,
    sizes: Sizes,
    requests: Iterable[requests_lib.Request],
    trace: trace_lib.Trace,
  ):
    self.sizes = sizes
    self.waiting = collections.deque(requests)
    self.trace = trace
    self.order = 0
    each = sizes.slots // sizes.shards
    self.shards = [Shard(sizes, i * each) for i in range(sizes.shards)]
    trace.slots = sizes.slots
    trace.pages = sizes.shards * (sizes.pages - 1)

  @property
  def busy(self) -> bool:
    return bool(self.waiting) or any(s.live() for s in self.shards)

  def drop(self, prompts: Collection[str]) -> None:
    """Forgets the waiting requests of prompts, given by their ids."""
    if prompts:
      left = (r for r in self.waiting if r.prompt.id not in prompts)
      self.waiting = collections.deque(left)

  def admit(self, seed_of: Callable[[str], int]) -> list[Pieces]:
    """Gives each rollout the page it will fill, and waiting ones free slots.

    `seed_of` maps a prompt's id to the number that its keys depend on.

    When pages run out, the youngest rollouts go back to the front of the
    queue. They start again later and draw the same tokens from the same keys.
    Returns the prefill calls that new prompts need, in order.
    """
    for shard in self.shards:
      self._grow(shard)
    new = self._deal(seed_of)
    used = sum(self.sizes.pages - 1 - len(shard.free) for shard in self.shards)
    self.trace.peak_pages = max(self.trace.peak_pages, used)
    return list(self._pieces(new))

  def _grow(self, shard: Shard) -> None:
    alive = sorted(shard.live(), key=lambda live: live.order)
    gone = set()
    for live in tuple(alive):
      if live in gone or live.drawn % self.sizes.page:
        continue
      # Free pages are looked at first, as counting the others takes longer.
      while live not in gone and not (shard.free or shard.available(None)):
        gone.add(youngest := alive.pop())
        self._preempt(shard, youngest)
      if live not in gone:
        live.pages += shard.take(1, None)

  def _preempt(self, shard: Shard, live: Live) -> None:
    self._event(shard, shard.leave(live), live, trace_lib.PREEMPTED)
    self.waiting.appendleft(live.request)
    self.trace.preempted += 1
    self.trace.recomputed += live.drawn

  def _deal(self, seed_of) -> list[list[Prefix]]:
    """Admits the rollouts that fit, in order; each goes to the best shard.

    All shards take steps together, at the speed of the one with the most to
    read. So the best shard is the one that has the least left to read, where
    filling a prompt's pages counts too (`PREFILLED`). Rollouts of a prompt stay
    together if that pays: long prompts with short responses.

    Returns for each shard the prompts whose pages must be filled.
    """
    new = [[] for _ in self.shards]
    if not self.waiting:
      return new
    places = [shard.places() for shard in self.shards]
    left_S = np.array(
      [
        sum(map(_left_to_read, shard.live())) if free else _FULL
        for shard, free in zip(self.shards, places)
      ]
    )
    growing = [
      self._growing(shard) if p else 0 for shard, p in zip(self.shards, places)
    ]
    while self.waiting and left_S.min() < _FULL:
      prompt = self.waiting[0].prompt
      key = prompt.tokens[:-1].tobytes()
      best = self._best(key, len(prompt.tokens) - 1, left_S)
      shard = self.shards[best]
      prefix = shard.prefixes.get(key)
      count = -(-(len(prompt.tokens) - 1) // self.sizes.page)
      need = 1 + (count if prefix is None else 0)
      # One page is reserved for each growing rollout; otherwise one is soon
      # preempted.
      if shard.available(prefix) < need + growing[best]:
        left_S[best] = _FULL
        continue
      if prefix is None:
        prefix = Prefix(prompt.tokens[:-1], shard.take(count, None))
        shard.prefixes[key] = prefix
        new[best].append(prefix)
        self.trace.prompt_tokens += len(prefix.tokens)
      shard.prefixes.move_to_end(key)
      live = self._start(shard, places[best].pop(0), prefix, seed_of)
      growing[best] += self._grows(live)
      left_S[best] += _left_to_read(live)
      if not places[best]:
        left_S[best] = _FULL
    return new

  def _best(self, key: bytes, tokens: int, left_S: np.ndarray) -> int:
    """The shard for a rollout whose prompt's pages take `tokens` tokens."""
    there = [key in shard.prefixes for shard in self.shards]
    return int(np.where(there, left_S, left_S + PREFILLED * tokens).argmin())

  def _start(self, shard: Shard, place: int, prefix: Prefix, seed_of) -> Live:
    """Moves the first waiting rollout to a slot of a shard."""
    request = self.waiting.popleft()
    prefix.users += 1
    live = Live(
      request,
      seed_of(request.prompt.id),
      prefix,
      self.order,
      self.trace.steps,
      shard.take(1, prefix),
      last=int(request.prompt.tokens[-1]),
    )
    self.order += 1
    shard.slots[place] = live
    return live

  def _growing(self, shard: Shard) -> int:
    """The number of rollouts that may need more pages than they have."""
    return sum(map(self._grows, shard.live()))

  def _grows(self, live: Live) -> bool:
    return len(live.pages) * self.sizes.page < live.request.limit

  def _pieces(self, new: Sequence[Sequence[Prefix]]) -> Iterator[Pieces]:
    """Prefill calls: first pieces come first, since later pieces read them."""
    s = self.sizes
    rows = s.rows // s.shards
    longest = max((len(p.tokens) for shard in new for p in shard), default=0)
    for first in range(0, longest, s.piece):
      left = [[p for p in shard if len(p.tokens) > first] for shard in new]
      for i in range(0, max(map(len, left)), rows):
        batch = [shard[i : i + rows] for shard in left]
        yield self._call(batch, first, rows)

  def _call(self, batch, first: int, rows: int) -> Pieces:
    s = self.sizes
    call = Pieces(
      np.zeros((s.rows, s.piece), np.int32),
      np.zeros(s.rows, np.int32),
      np.zeros((s.rows, s.prefix_pages), np.int32),
      np.zeros((s.rows, s.piece // s.page), np.int32),
    )
    for shard, prefixes in enumerate(batch):
      for row, prefix in enumerate(prefixes, shard * rows):
        tokens = prefix.tokens[first : first + s.piece]
        pages = prefix.pages[first // s.page :][: s.piece // s.page]
        # Padded with the prompt's own token: another token's embedding could be
        # NaN, which causal weights of 0 do not stop.
        call.tokens_AT[row] = tokens[-1]
        call.tokens_AT[row, : len(tokens)] = tokens
        call.first_A[row] = first
        call.table_AP[row, : len(prefix.pages)] = prefix.pages
        call.page_AP[row, : len(pages)] = pages
    return call

  def control(self) -> tuple[np.ndarray, np.ndarray]:
    """(int32 [B, fields of Slot], page table [B, P])."""
    s = self.sizes
    rows = []
    table_BP = np.zeros((s.slots, s.table), np.int32)
    for shard in self.shards:
      for b, live in enumerate(shard.slots, shard.first):
        if live is None:
          rows.append(Slot())
          continue
        pages = live.prefix.pages + live.pages
        table_BP[b, : len(pages)] = pages
        prefix, before = len(live.prefix.tokens), len(live.prefix.pages)
        start = before * s.page
        rows.append(
          Slot(
            live=1,
            token=live.last,
            position=prefix + live.drawn,
            prefix=prefix,
            start=start,
            length=start + live.drawn if live.drawn else prefix,
            page=live.pages[-1],
            offset=live.drawn % s.page,
            drawn=live.drawn,
            limit=live.request.limit,
            forced=live.forced,
            closed=live.closed,
            seed=live.seed,
            index=live.request.index,
          )
        )
    return np.array(rows, np.int64).astype(np.int32), table_BP

  def record(self, drawn: Drawn, find_stop=None) -> list[tuple[Live, int]]:
    """Records the result of a call; returns the rollouts that ended, and how.

    `find_stop(live, fresh)` returns the length at which a stop string ends a
    rollout whose last `fresh` tokens are new, or None.
    """
    ended_B = drawn.ended_B.tolist()
    for shard in self.shards:
      for b, live in enumerate(shard.slots, shard.first):
        if live is not None:
          ended_B[b] = self._take_in(live, drawn, b, find_stop)
    return self._end(int(drawn.steps), int(drawn.count_B.sum()), ended_B)

  def advance(
    self, steps: int, count_B: Sequence[int], ended_B: Sequence[int]
  ) -> list[tuple[Live, int]]:
    """`record` for a plan of lengths: there are no tokens, only their numbers.

    The arguments are the fields of `Drawn` of these names.
    """
    for shard in self.shards:
      for b, live in enumerate(shard.slots, shard.first):
        if live is not None:
          live.drawn += count_B[b]
          live.steps += min(count_B[b], steps)
    return self._end(steps, sum(count_B), ended_B)

  def _end(
    self, steps: int, count: int, ended_B: Sequence[int]
  ) -> list[tuple[Live, int]]:
    """Counts a call, and empties the slots of rollouts that ended."""
    trace = self.trace
    trace.took(steps, count, waited=bool(self.waiting))
    ended = []
    for shard in self.shards:
      for b, live in enumerate(list(shard.slots), shard.first):
        reason = ended_B[b]
        if live is None or reason == RUNNING:
          continue
        place = shard.leave(live)
        self._event(shard, place, live, REASONS[reason])
        trace.finished += 1
        trace.truncated += reason == LENGTH
        trace.errors += reason == ERROR
        trace.tokens += live.drawn
        ended.append((live, reason))
    return ended

  def _take_in(self, live: Live, drawn: Drawn, b: int, find_stop) -> int:
    count = int(drawn.count_B[b])
    columns = drawn.tokens_BT, drawn.logp_BT, drawn.full_logp_BT
    columns = *columns, drawn.entropy_BT
    live.parts.append(tuple(np.array(x[b, :count]) for x in columns))
    live.drawn += count
    live.steps += min(count, int(drawn.steps))
    live.forced, live.closed = int(drawn.forced_B[b]), int(drawn.closed_B[b])
    if count:
      live.last = int(drawn.tokens_BT[b, count - 1])
    reason = int(drawn.ended_B[b])
    length = find_stop(live, count) if find_stop and count else None
    if length is not None:
      live.drawn, reason = length, STOP
    return reason

  def _event(self, shard: Shard, place: int, live: Live, reason: str) -> None:
    request = live.request
    self.trace.events.append(
      trace_lib.Event(
        shard.first + place,
        request.prompt.id,
        request.index,
        live.began,
        live.began + min(live.drawn, live.steps),
        reason,
      )
    )
