"""Continuous batching against a device that only moves numbers.

`Device` stands in for the two compiled programs. It keeps, of each cache
entry, which token at which position was written there, and looks at every
call whether a slot sees exactly its own past.
"""

import collections
import itertools
import math

import hypothesis
import numpy as np
import properties
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.rollout import engine_sizes, exchange, schedule
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib

JUNK = (-1, -1)
SIZES = engine_sizes.Sizes(
  slots=4,
  shards=1,
  page=4,
  chunk=2,
  pages=60,
  rows=2,
  piece=8,
  window=20,
  max_tokens=24,
)


def prompt(name, length):
  """Its tokens depend on its name and length; no two prompts share a prefix."""
  rng = np.random.default_rng([*name.encode(), length])
  tokens = rng.integers(100, 10**6, length)
  return types.Prompt(name, '', '', tokens.astype(np.int32))


def seed_of(prompt_id):
  return int.from_bytes(prompt_id.encode())


def said(seed, index, place):
  """The token at a place of a rollout: the same however often it starts."""
  return hash((int(seed), int(index), int(place))) % 90


class Device:
  """Draws rollouts of forced `lengths[seed, index]` tokens, then stops."""

  def __init__(self, sizes, lengths):
    self.sizes, self.lengths = sizes, lengths
    self.memory = collections.defaultdict(lambda: JUNK)
    self.prefilled = collections.Counter()

  def seen(self, shard, table_P, positions):
    size = self.sizes.page
    return [
      self.memory[shard, int(table_P[p // size]), p % size] for p in positions
    ]

  def prefill(self, pieces):
    s = self.sizes
    for row in range(s.rows):
      shard = row // (s.rows // s.shards)
      first, table = int(pieces.first_A[row]), pieces.table_AP[row]
      # Earlier calls wrote the keys that a piece attends to.
      before = self.seen(shard, table, range(first))
      assert [position for _, position in before] == list(range(first))
      for i, token in enumerate(pieces.tokens_AT[row].tolist()):
        page = int(pieces.page_AP[row, i // s.page])
        self.memory[shard, page, i % s.page] = token, first + i
        if page and not i % s.page:
          self.prefilled[shard, page] += 1

  def decode(self, control_BF, table_BP):
    s = self.sizes
    slots = [exchange.Slot(*row) for row in control_BF.tolist()]
    live = [b for b, slot in enumerate(slots) if slot.live]
    wants = {b: self.wanted(slots[b]) for b in live}
    count = np.zeros(s.slots, np.int32)
    ended = np.full(s.slots, exchange.STOP, np.int32)
    tokens = np.zeros((s.slots, s.chunk), np.int32)
    for b in live:
      slot, left = slots[b], wants[b] - slots[b].drawn
      assert left > 0
      count[b] = min(left, s.chunk)
      if left > s.chunk:
        ended[b] = exchange.RUNNING
      elif slot.limit == wants[b]:
        ended[b] = exchange.LENGTH
      new = [
        said(slot.seed, slot.index, slot.drawn + i) for i in range(s.chunk)
      ]
      tokens[b] = new
      self.write(b, slot, [slot.token, *new[:-1]])
    for b in set(range(s.slots)) - set(live):
      assert slots[b] == exchange.Slot()
    # As the device does: it goes on until no slot runs.
    steps = max(count[live], default=0)
    numbers = 0.5 * tokens.astype(np.float32)
    zeros = np.zeros(s.slots, np.int32)
    return exchange.Drawn(
      steps, tokens, -numbers, -2 * numbers, numbers, count, ended, zeros, zeros
    )

  def wanted(self, slot):
    return min(self.lengths[slot.seed, slot.index], slot.limit)

  def write(self, b, slot, fed):
    shard = b // (self.sizes.slots // self.sizes.shards)
    for i, token in enumerate(fed):
      entry = shard, slot.page, slot.offset + i
      self.memory[entry] = token, slot.position + i


def run(sizes, requests, lengths, inspect=lambda plan: None, find_stop=None):
  """All rollouts in the order of their ends, with what was left."""
  trace = trace_lib.Trace()
  plan = schedule.Schedule(sizes, requests, trace)
  device = Device(sizes, lengths)
  ended = []
  while plan.busy:
    oldest = [oldest_of(shard) for shard in plan.shards]
    calls = plan.admit(seed_of)
    check_pages(plan)
    for shard, live in zip(plan.shards, oldest):
      assert live is None or live in shard.slots
    for pieces in calls:
      device.prefill(pieces)
    control, table = plan.control()
    assert control.dtype == table.dtype == np.int32
    check_reads(plan, device, control, table)
    inspect(plan)
    before = trace.steps
    ended += plan.record(device.decode(control, table), find_stop)
    assert trace.steps > before
  return ended, trace, plan, device


def oldest_of(shard):
  return min(shard.live(), key=lambda live: live.order, default=None)


def check_pages(plan):
  """No page is in two hands, none is lost, and page 0 is nobody's."""
  for shard in plan.shards:
    hands = [shard.free]
    hands += [live.pages for live in shard.live()]
    hands += [prefix.pages for prefix in shard.prefixes.values()]
    pages = sorted(itertools.chain(*hands))
    assert pages == list(range(1, plan.sizes.pages))
    for prefix in shard.prefixes.values():
      users = [live for live in shard.live() if live.prefix is prefix]
      assert prefix.users == len(users)
    for live in shard.live():
      assert live.prefix in shard.prefixes.values()


def check_reads(plan, device, control_BF, table_BP):
  """Each slot sees all tokens before the one it is given, in order."""
  s = plan.sizes
  for shard_index, shard in enumerate(plan.shards):
    for b, live in enumerate(shard.slots, shard.first):
      slot = exchange.Slot(*control_BF[b].tolist())
      assert bool(slot.live) == (live is not None)
      if live is None:
        continue
      past = live.request.prompt.tokens.tolist()
      past += [said(slot.seed, slot.index, i) for i in range(live.drawn)]
      assert slot.token == past[-1]
      assert slot.position == len(past) - 1
      positions = [
        p for p in range(slot.length) if p < slot.prefix or p >= slot.start
      ]
      # No more is read than must be.
      assert slot.length == max(positions, default=-1) + 1
      seen = device.seen(shard_index, table_BP[b], positions)
      assert seen == list(zip(past[:-1], range(slot.position)))
      # The tokens of this call have room on a page of only that rollout.
      assert slot.page in live.pages
      assert slot.offset + s.chunk <= s.page
      assert table_BP[b, (slot.start + slot.drawn) // s.page] == slot.page
      own = {*live.prefix.pages, *live.pages}
      assert {*table_BP[b].tolist()} <= own | {0}


def check_results(requests, lengths, ended):
  """Every request ended once, with its right tokens and reason."""
  found = {(x.request.prompt.id, x.request.index): (x, r) for x, r in ended}
  assert len(found) == len(ended) == len(requests)
  for request in requests:
    live, reason = found[request.prompt.id, request.index]
    seed = seed_of(request.prompt.id)
    length = lengths[seed, request.index]
    want = [
      said(seed, request.index, i) for i in range(min(length, request.limit))
    ]
    assert live.drawn == len(want)
    assert live.tokens().tolist() == want
    columns = [np.concatenate(part) for part in zip(*live.parts)]
    for column, times in zip(columns, (1, -0.5, -1, 0.5)):
      assert column.tolist() == [times * token for token in want]
    cut = length >= request.limit
    assert reason == (exchange.LENGTH if cut else exchange.STOP)


def check_trace(trace, sizes, requests, ended):
  """Stays in one slot never overlap, and the counters are their sums."""
  stays = collections.defaultdict(list)
  for event in trace.events:
    assert 0 <= event.began < event.ended <= trace.steps
    stays[event.slot].append((event.began, event.ended))
  assert stays.keys() <= set(range(sizes.slots))
  for times in stays.values():
    times.sort()
    for (_, end), (begin, _) in itertools.pairwise(times):
      assert end <= begin
  final = [e for e in trace.events if e.reason != trace_lib.PREEMPTED]
  asked = sorted((r.prompt.id, r.index) for r in requests)
  assert sorted((e.prompt_id, e.index) for e in final) == asked
  assert len(trace.events) - len(final) == trace.preempted
  tokens = sum(live.drawn for live, _ in ended)
  assert trace.tokens == tokens == sum(e.ended - e.began for e in final)
  again = sum(e.ended - e.began for e in trace.events) - tokens
  assert trace.recomputed == again
  assert trace.busy == tokens + again
  assert trace.finished == len(requests)
  assert 0 < trace.peak_pages <= trace.pages
  lengths = [last - first for first, last in trace.full]
  assert sum(lengths) == trace.full_steps and all(n > 0 for n in lengths)
  assert all(a < b for (_, a), (b, _) in itertools.pairwise(trace.full))
  fates = {(e.prompt_id, e.index): 'ended' for e in final}
  used = trace_lib.slot_steps(trace, fates, ['ended'])
  assert (used['ended'], used['recomputed']) == (tokens, again)
  waiting = sizes.slots * trace.full_steps - trace.full_busy
  assert used['waiting'] == waiting
  assert sum(used.values()) == sizes.slots * trace.steps
  got = trace.metrics()
  whole = sizes.slots * trace.steps
  assert got['occupancy'] == pytest.approx((tokens + again) / whole)
  assert got['wasted_steps'] == whole - tokens
  assert got['decoded_tokens'] == tokens


def check_left(plan):
  """All pages are back, except prompts that a later rollout could use."""
  for shard in plan.shards:
    assert shard.live() == []
    assert shard.available(None) == plan.sizes.pages - 1


@st.composite
def workloads(draw):
  """(sizes, requests, lengths): pools from the least that one needs."""
  number = lambda low, high: draw(st.integers(low, high))
  shards, chunk = number(1, 4), number(1, 3)
  page = chunk * number(1, 3)
  sizes = engine_sizes.Sizes(
    slots=shards * number(1, 4),
    shards=shards,
    page=page,
    chunk=chunk,
    pages=0,
    rows=shards * number(1, 2),
    piece=page * number(1, 3),
    window=number(1, 14),
    max_tokens=number(1, 20),
  )
  sizes = sizes._replace(pages=sizes.table + 1 + number(0, 12))
  engine_sizes.check(sizes)
  asked = []
  for i in range(number(0, 6)):
    one = prompt(f'p{i}', number(1, sizes.window))
    limit = number(1, sizes.max_tokens)
    asked += requests_lib.for_prompts([one], number(1, 5), limit)[0]
  asked = draw(st.permutations(asked))
  # Right or wrong, or nothing known.
  guesses = st.one_of(st.just(math.inf), st.floats(0, 2 * sizes.max_tokens))
  asked = [r._replace(expected=draw(guesses)) for r in asked]
  lengths = {
    (seed_of(r.prompt.id), r.index): number(1, sizes.max_tokens) for r in asked
  }
  return sizes, asked, lengths


@hypothesis.given(workloads())
@properties.tried(200, derandomize=True)
def test_every_request_ends_once_with_its_tokens(workload):
  sizes, asked, lengths = workload
  ended, trace, plan, _ = run(sizes, asked, lengths)
  check_results(asked, lengths, ended)
  check_left(plan)
  if asked:
    check_trace(trace, sizes, asked, ended)


def group_of(one, groups, limit=SIZES.max_tokens):
  return requests_lib.for_prompts([one], groups, limit)[0]


def constant(requests, length):
  return {(seed_of(r.prompt.id), r.index): length for r in requests}


def test_nothing_asked_is_nothing_done():
  _, trace, plan, _ = run(SIZES, [], {})
  assert not plan.busy
  assert trace.events == []
  assert all(np.isfinite(x) for x in trace.metrics().values())


def test_tight_pools_preempt_the_youngest_and_end_all():
  """Room for one whole rollout and a little: the worst that `check` allows."""
  asked = [r for n in 'abc' for r in group_of(prompt(n, 17), 3)]
  lengths = constant(asked, SIZES.max_tokens)
  preempted = []
  for spare in range(8):
    sizes = SIZES._replace(pages=SIZES.table + 1 + spare)
    ended, trace, plan, _ = run(sizes, asked, lengths)
    check_results(asked, lengths, ended)
    check_trace(trace, sizes, asked, ended)
    check_left(plan)
    first = ended[0][0].request
    assert (first.prompt.id, first.index) == ('a', 0)
    preempted.append(trace.preempted)
  assert max(preempted) > 0


def test_a_preempted_rollout_goes_before_those_that_never_ran():
  """Both of the youngest leave, and come back in their old order."""
  sizes = SIZES._replace(pages=SIZES.table + 1 + 1, slots=3)
  asked = [r for n in 'abcd' for r in group_of(prompt(n, 1), 1)]
  lengths = constant(asked, SIZES.max_tokens)
  queues = []

  def watch(plan):
    queues.append([r.prompt.id for r in plan.waiting])

  _, trace, _, _ = run(sizes, asked, lengths, watch)
  assert trace.preempted > 0
  assert all(queue == sorted(queue) for queue in queues)


def test_a_group_shares_its_prompt_and_prefills_it_once():
  one = prompt('a', 18)
  asked = group_of(one, 8)
  tables = []

  def watch(plan):
    for live in plan.shards[0].live():
      tables.append(tuple(live.prefix.pages))

  lengths = constant(asked, 7)
  _, trace, _, device = run(SIZES, asked, lengths, watch)
  assert trace.prompt_tokens == 17
  # 17 tokens are 5 pages: two whole pieces and one of a single page.
  assert len(set(tables)) == 1
  assert device.prefilled == {(0, page): 1 for page in tables[0]}
  assert len(tables[0]) == 5


def test_two_names_of_the_same_tokens_share_pages():
  one = prompt('a', 9)
  asked = group_of(one, 2) + group_of(types.Prompt('b', '', '', one.tokens), 2)
  lengths = constant(asked, 5)
  ended, trace, _, _ = run(SIZES, asked, lengths)
  assert trace.prompt_tokens == 8
  check_results(asked, lengths, ended)


def test_each_shard_prefills_a_prompt_for_itself():
  sizes = SIZES._replace(shards=2)
  asked = group_of(prompt('a', 10), 4)
  _, trace, plan, _ = run(sizes, asked, constant(asked, 5))
  assert trace.prompt_tokens == 2 * 9
  assert {e.slot for e in trace.events} == {0, 1, 2, 3}
  check_left(plan)


def homes(plan):
  """The ids of the prompts whose rollouts each shard has, in order of slots."""
  return [[live.request.prompt.id for live in s.live()] for s in plan.shards]


def admitted(sizes, asked):
  plan = schedule.Schedule(sizes, asked, trace_lib.Trace())
  return plan, plan.admit(seed_of)


def test_a_group_of_long_rollouts_is_spread():
  """4 tokens of a prompt are filled four times, not to wait for one shard."""
  sizes = HEAVY._replace(slots=32, shards=4, rows=4)
  asked = [r for n in 'ab' for r in group_of(prompt(n, 5), 4, 512)]
  plan, calls = admitted(sizes, asked)
  assert homes(plan) == [['a', 'b']] * 4
  # Each shard has a row of the first call, and one of the second.
  assert len(calls) == 2
  assert all(call.page_AP[:, 0].all() for call in calls)


def test_a_group_of_short_rollouts_stays_with_its_long_prompt():
  """20 tokens of a prompt cost more than rollouts of 8 tokens read."""
  sizes = SIZES._replace(slots=32, shards=4, rows=4)
  asked = [r for n in 'abcde' for r in group_of(prompt(n, 20), 4, 8)]
  plan, _ = admitted(sizes, asked)
  assert homes(plan) == [['a'] * 4 + ['e'] * 4, ['b'] * 4, ['c'] * 4, ['d'] * 4]


def test_a_long_rollout_is_worth_several_short_ones():
  """Whose expectation is short goes where there is least left to read."""
  sizes = HEAVY._replace(slots=16, shards=2, rows=2)
  asked = [requests_lib.Request(prompt(str(i), 1), 0, 512) for i in range(5)]
  told = {'0': 400.0, '1': 100.0, '2': 100.0, '3': 100.0, '4': 100.0}
  plan, _ = admitted(sizes, requests_lib.longest_first(asked, told))
  # To read: 400 x 200 is more than 4 x 100 x 50.
  assert homes(plan) == [['0'], ['1', '2', '3', '4']]


def test_a_freed_slot_of_the_shard_with_least_to_read_is_next():
  sizes = HEAVY._replace(slots=4, shards=2, rows=2, chunk=32)
  asked = [requests_lib.Request(prompt(str(i), 1), 0, 512) for i in range(6)]
  lengths = constant(asked, 500)
  # One rollout of each shard ends in the first call, and only then.
  for name in '13':
    lengths[seed_of(name), 0] = 20
  seen = []
  expected = {n: 500.0 - int(n) for n in '012345'}
  run(
    sizes,
    requests_lib.longest_first(asked, expected),
    lengths,
    lambda plan: seen.append(homes(plan)),
  )
  assert seen[0] == [['0', '3'], ['1', '2']]
  # What is left of 0 is longer than what is left of 2, so 4 goes to 2.
  assert seen[1] == [['0', '5'], ['4', '2']]


@pytest.mark.parametrize('count, most', [(3, 1), (6, 2), (12, 3), (40, 4)])
def test_shards_are_filled_evenly(count, most):
  """A shard's pages and its time are its own: none runs for another."""
  sizes = SIZES._replace(slots=16, shards=4, rows=4)
  asked = [requests_lib.Request(prompt(str(i), 5), 0, 8) for i in range(count)]
  plan = schedule.Schedule(sizes, asked, trace_lib.Trace())
  plan.admit(seed_of)
  assert max(len(shard.live()) for shard in plan.shards) == most
  assert sum(len(shard.live()) for shard in plan.shards) == min(count, 16)


def test_a_prompt_of_one_token_needs_no_prefill():
  asked = group_of(prompt('a', 1), 2)
  plan = schedule.Schedule(SIZES, asked, trace_lib.Trace())
  assert plan.admit(seed_of) == []
  control, _ = plan.control()
  first = exchange.Slot(*control[0].tolist())
  assert (first.position, first.prefix, first.start, first.length) == (0,) * 4


def test_prefill_calls_go_piece_by_piece_over_full_batches():
  """Five prompts of 1, 2 or 3 pieces: 3 calls of two rows, then 2, then 1."""
  sizes = SIZES._replace(slots=5)
  lengths = [17, 5, 10, 9, 20]
  prompts = [prompt(n, length) for n, length in zip('abcde', lengths)]
  asked = [r for one in prompts for r in group_of(one, 1)]
  plan = schedule.Schedule(sizes, asked, trace_lib.Trace())
  calls = plan.admit(seed_of)
  firsts = [call.first_A.tolist() for call in calls]
  # The last of 9 tokens is not part of the prefix: 8 are one piece.
  assert firsts == [[0, 0], [0, 0], [0, 0], [8, 8], [8, 0], [16, 0]]
  for call in calls:
    assert {x.dtype for x in call} == {np.dtype(np.int32)}
    shapes = [x.shape for x in call]
    assert shapes == [(2, 8), (2,), (2, sizes.prefix_pages), (2, 2)]
  # Rows without a piece write to page 0.
  assert not calls[-1].page_AP[1].any()
  assert not calls[2].page_AP[1].any()


def test_idle_prompts_give_way_least_recently_used_first():
  # Each prompt takes 2 of 9 pages, and each rollout one.
  sizes = SIZES._replace(pages=10, slots=1, window=9, max_tokens=4)
  names = 'abcaded'
  asked = [r for n in names for r in group_of(prompt(n, 9), 1)]
  asked = [r._replace(index=i) for i, r in enumerate(asked)]
  _, trace, plan, _ = run(sizes, asked, constant(asked, 2))
  # Four prompts stay: a, b, c, then d; e takes the pages of b.
  assert trace.prompt_tokens == 5 * 8
  kept = [p.tokens.tolist() for p in plan.shards[0].prefixes.values()]
  want = [prompt(n, 9).tokens[:-1].tolist() for n in 'caed']
  assert kept == want


HEAVY = SIZES._replace(
  slots=16, chunk=4, page=32, piece=32, pages=600, max_tokens=512
)


def heavy_tailed(sizes, count, seed=0):
  """Log-normal lengths with a mean of 0.3 of `max_tokens`, cut off there."""
  rng = np.random.default_rng(seed)
  asked = [
    r for i in range(count // 4) for r in group_of(prompt(f'{i}', 9), 4, 512)
  ]
  drawn = rng.lognormal(np.log(0.3 * sizes.max_tokens) - 0.5, 1.0, count)
  drawn = np.clip(drawn, 1, sizes.max_tokens).astype(int).tolist()
  return asked, {
    (seed_of(r.prompt.id), r.index): n for r, n in zip(asked, drawn)
  }


@pytest.mark.parametrize('shards', [1, 4])
def test_slots_are_full_while_any_rollout_waits(shards):
  asked, lengths = heavy_tailed(HEAVY, 256)
  sizes = HEAVY._replace(shards=shards, rows=4)
  ended, trace, _, _ = run(sizes, asked, lengths)
  check_results(asked, lengths, ended)
  assert trace.preempted == 0
  assert trace.full_steps > 1500
  assert trace.metrics()['occupancy_waiting'] >= 0.98


def test_longest_first_shortens_the_makespan():
  asked, lengths = heavy_tailed(HEAVY, 64)
  of = lambda r: lengths[seed_of(r.prompt.id), r.index]
  mean = collections.defaultdict(float)
  for r in asked:
    mean[r.prompt.id] += of(r) / 4
  steps = lambda order: run(HEAVY, order, lengths)[1].steps
  given = steps(asked)
  sorted_by_mean = requests_lib.longest_first(asked, mean)
  assert steps(sorted_by_mean) < 0.9 * given
  # No order can do better than this.
  least = max(sum(map(of, asked)) / HEAVY.slots, max(map(of, asked)))
  assert given >= steps(sorted_by_mean) >= least


def test_longest_first_keeps_order_and_puts_the_unknown_in_front():
  asked = [r for n in 'abcd' for r in group_of(prompt(n, 3), 2)]
  got = requests_lib.longest_first(asked, dict(a=5.0, b=9.0, d=5.0))
  assert [(r.prompt.id, r.index) for r in got] == [
    (n, i) for n in 'cbad' for i in range(2)
  ]


def test_a_prompt_that_stands_twice_goes_on_with_its_indices():
  a, b = prompt('a', 3), prompt('b', 4)
  got = requests_lib.for_prompts([a, b, a], 2, 7)
  names = [[(r.prompt.id, r.index, r.limit) for r in group] for group in got]
  assert names == [
    [('a', 0, 7), ('a', 1, 7)],
    [('b', 0, 7), ('b', 1, 7)],
    [('a', 2, 7), ('a', 3, 7)],
  ]


def test_a_stop_string_cuts_what_was_drawn_past_it():
  asked = group_of(prompt('a', 5), 2)
  lengths = constant(asked, SIZES.max_tokens)

  def find_stop(live, fresh):
    # Only rollout 0, at its 7th token: the first of its call.
    if live.request.index or live.drawn < 7:
      return None
    assert fresh == 2
    assert live.drawn == len(live.tokens()) == 8
    return 7

  ended, trace, plan, _ = run(SIZES, asked, lengths, find_stop=find_stop)
  (first, why), (second, then) = ended
  assert (first.request.index, first.drawn, why) == (0, 7, exchange.STOP)
  assert (second.drawn, then) == (SIZES.max_tokens, exchange.LENGTH)
  assert trace.tokens == 7 + SIZES.max_tokens
  assert trace.events[0][3:] == (0, 7, 'stop')
  # The cut token was drawn, and is wasted.
  assert trace.busy == trace.tokens + 1
  check_left(plan)


def test_an_error_ends_a_rollout_with_the_tokens_before_it():
  asked = group_of(prompt('a', 5), 2)
  plan = schedule.Schedule(SIZES, asked, trace := trace_lib.Trace())
  device = Device(SIZES, constant(asked, SIZES.max_tokens))
  for pieces in plan.admit(seed_of):
    device.prefill(pieces)
  drawn = device.decode(*plan.control())
  drawn.count_B[0], drawn.ended_B[0] = 1, exchange.ERROR
  ((live, reason),) = plan.record(drawn)
  assert (live.request.index, live.drawn, reason) == (0, 1, exchange.ERROR)
  assert trace.errors == 1
  assert plan.shards[0].slots[0] is None


def test_the_same_requests_make_the_same_schedule():
  """Every process of a run decides alike."""
  asked, lengths = heavy_tailed(HEAVY, 64)
  sizes = HEAVY._replace(pages=HEAVY.table + 30)
  calls = []
  for _ in range(2):
    seen = []
    watch = lambda plan, seen=seen: seen.append(
      [x.tobytes() for x in plan.control()]
    )
    _, trace, _, _ = run(sizes, asked, lengths, watch)
    calls.append((seen, trace.events))
  assert trace.preempted > 0
  assert calls[0] == calls[1]


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(slots=5, shards=2, rows=2), 'slots=5: give a multiple of shards, 2'),
    (dict(slots=0), 'slots=0: give a multiple of shards, 1'),
    (dict(shards=4, rows=6), 'rows=6: give a multiple of shards, 4'),
    (dict(rows=0), 'rows=0: give a multiple of shards, 1'),
    (dict(page=6, chunk=4), 'page=6: give a multiple of chunk, 4'),
    (dict(chunk=0), 'page=4: give a multiple of chunk, 0'),
    (dict(page=8, piece=12), 'piece=12: give a multiple of page, 8'),
    (dict(max_tokens=0), 'window=20 max_tokens=0: give at least 1'),
    (dict(window=0), 'window=0 max_tokens=24: give at least 1'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(changes, said):
  engine_sizes.check(SIZES)
  with pytest.raises(ValueError) as e:
    engine_sizes.check(SIZES._replace(**changes))
  assert str(e.value) == said


def test_a_pool_too_small_for_one_rollout_is_refused():
  # 19 tokens of prompt are 5 pages, 24 of response 6, and one is nobody's.
  assert (SIZES.prefix_pages, SIZES.table) == (5, 11)
  engine_sizes.check(SIZES._replace(pages=12))
  with pytest.raises(ValueError, match=r'^pages=11 on each of 1 shards') as e:
    engine_sizes.check(SIZES._replace(pages=11))
  assert 'needs 12' in str(e.value)
  assert '\n' not in str(e.value)
