"""Assigns rollouts to slots and pages; no jax.

Everything here is a function of the requests and of the drawn tokens, so every
process of a run makes the same schedule.
"""

import collections
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from acereason_jax.rollout import engine_sizes, exchange, slots
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib

# Cached tokens that a decode step reads in the time in which one token of a
# prompt is prefilled: 2 FLOPs a weight over the peak, against the token's bytes
# over the bandwidth. 7B: 500 (v6e) to 1,400 (v5p), H100 1,000.
PREFILLED = 1000
# More than any shard has to read; no more rollouts go to such a shard.
_FULL = 1 << 62


def _left_to_read(live: slots.Live) -> int:
  """Cached tokens that the rest of a rollout's steps read, as expected.

  A rollout that is as long as expected goes on for a quarter of its length.
  """
  request = live.request
  rest = max(min(request.expected, request.limit) - live.drawn, live.drawn / 4)
  rest = min(rest, request.limit - live.drawn)
  return int(rest * (len(live.prefix.tokens) + live.drawn + rest / 2))


class Schedule:
  """Continuous batching: `admit`, `control`, call the device, `record`."""

  def __init__(
    self,
    sizes: engine_sizes.Sizes,
    requests: Iterable[requests_lib.Request],
    trace: trace_lib.Trace,
  ):
    self.sizes = sizes
    self.waiting = collections.deque(requests)
    self.trace = trace
    self.order = 0
    each = sizes.slots // sizes.shards
    self.shards = [slots.Shard(sizes, i * each) for i in range(sizes.shards)]
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

  def admit(self, seed_of: Callable[[str], int]) -> list[exchange.Pieces]:
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

  def _grow(self, shard: slots.Shard) -> None:
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

  def _preempt(self, shard: slots.Shard, live: slots.Live) -> None:
    self._event(shard, shard.leave(live), live, trace_lib.PREEMPTED)
    self.waiting.appendleft(live.request)
    self.trace.preempted += 1
    self.trace.recomputed += live.drawn

  def _deal(self, seed_of) -> list[list[slots.Prefix]]:
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
        prefix = slots.Prefix(prompt.tokens[:-1], shard.take(count, None))
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

  def _start(
    self, shard: slots.Shard, place: int, prefix: slots.Prefix, seed_of
  ) -> slots.Live:
    """Moves the first waiting rollout to a slot of a shard."""
    request = self.waiting.popleft()
    prefix.users += 1
    live = slots.Live(
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

  def _growing(self, shard: slots.Shard) -> int:
    """The number of rollouts that may need more pages than they have."""
    return sum(map(self._grows, shard.live()))

  def _grows(self, live: slots.Live) -> bool:
    return len(live.pages) * self.sizes.page < live.request.limit

  def _pieces(
    self, new: Sequence[Sequence[slots.Prefix]]
  ) -> Iterator[exchange.Pieces]:
    """Prefill calls: first pieces come first, since later pieces read them."""
    s = self.sizes
    rows = s.rows // s.shards
    longest = max((len(p.tokens) for shard in new for p in shard), default=0)
    for first in range(0, longest, s.piece):
      left = [[p for p in shard if len(p.tokens) > first] for shard in new]
      for i in range(0, max(map(len, left)), rows):
        batch = [shard[i : i + rows] for shard in left]
        yield self._call(batch, first, rows)

  def _call(self, batch, first: int, rows: int) -> exchange.Pieces:
    s = self.sizes
    call = exchange.Pieces(
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
          rows.append(exchange.Slot())
          continue
        pages = live.prefix.pages + live.pages
        table_BP[b, : len(pages)] = pages
        prefix, before = len(live.prefix.tokens), len(live.prefix.pages)
        start = before * s.page
        rows.append(
          exchange.Slot(
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

  def record(
    self, drawn: exchange.Drawn, find_stop=None
  ) -> list[tuple[slots.Live, int]]:
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
  ) -> list[tuple[slots.Live, int]]:
    """`record` for a plan of lengths: there are no tokens, only their numbers.

    The arguments are the fields of `exchange.Drawn` of these names.
    """
    for shard in self.shards:
      for b, live in enumerate(shard.slots, shard.first):
        if live is not None:
          live.drawn += count_B[b]
          live.steps += min(count_B[b], steps)
    return self._end(steps, sum(count_B), ended_B)

  def _end(
    self, steps: int, count: int, ended_B: Sequence[int]
  ) -> list[tuple[slots.Live, int]]:
    """Counts a call, and empties the slots of rollouts that ended."""
    trace = self.trace
    trace.took(steps, count, waited=bool(self.waiting))
    ended = []
    for shard in self.shards:
      for b, live in enumerate(list(shard.slots), shard.first):
        reason = ended_B[b]
        if live is None or reason == exchange.RUNNING:
          continue
        place = shard.leave(live)
        self._event(shard, place, live, exchange.REASONS[reason])
        trace.finished += 1
        trace.truncated += reason == exchange.LENGTH
        trace.errors += reason == exchange.ERROR
        trace.tokens += live.drawn
        ended.append((live, reason))
    return ended

  def _take_in(
    self, live: slots.Live, drawn: exchange.Drawn, b: int, find_stop
  ) -> int:
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
      live.drawn, reason = length, exchange.STOP
    return reason

  def _event(
    self, shard: slots.Shard, place: int, live: slots.Live, reason: str
  ) -> None:
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
