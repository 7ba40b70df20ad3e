"""Packing loses nothing, adds nothing, and weighs by hand."""

import collections
import dataclasses
import math

import hypothesis
import numpy as np
import properties
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.planning import lengths
from acereason_jax.rl import advantages, packing
from acereason_jax.rl import rows as rows_lib

PAD = 999


def prompt(name, tokens):
  return types.Prompt(name, '', '', np.array(tokens, np.int32))


def rollout(name, index, tokens, logp=None):
  logp = -np.arange(1, len(tokens) + 1) if logp is None else logp
  return types.Rollout(
    name,
    index,
    np.array(tokens, np.int32),
    np.array(logp, np.float32),
    np.array(logp, np.float32),
    'stop',
    '',
  )


def pack(groups, **kwargs):
  """The batches without the places."""
  return [batch for batch, _ in packing.pack(groups, **kwargs)]


def test_the_example_of_the_docstring():
  p = prompt('p', [10, 11, 12])
  a = rollout('p', 0, [20, 21, 22], [-0.1, -0.2, -0.3])
  b = rollout('p', 1, [30, 31], [-0.4, -0.5])
  group = [rows_lib.Trained(p, a, 2.0, 0.25), rows_lib.Trained(p, b, -1.0, 0.5)]
  (batch,) = pack([group], rows=2, columns=9, pad_token=PAD)
  rows = {
    'tokens_BT': [10, 11, 12, 20, 21, 12, 30, PAD, PAD],
    'target_BT': [0, 0, 20, 21, 22, 30, 31, 0, 0],
    'segment_BT': [1, 1, 2, 2, 2, 3, 3, 0, 0],
    'prefix_BT': [0, 0, 1, 1, 1, 1, 1, 0, 0],
    'position_BT': [0, 1, 2, 3, 4, 2, 3, 0, 0],
    'logp_old_BT': [0, 0, -0.1, -0.2, -0.3, -0.4, -0.5, 0, 0],
    'adv_BT': [0, 0, 2, 2, 2, -1, -1, 0, 0],
    'weight_BT': [0, 0, 0.25, 0.25, 0.25, 0.5, 0.5, 0, 0],
    'logp_ref_BT': [0] * 9,
    'logp_first_BT': [0] * 9,
  }
  assert set(rows) == set(batch._fields)
  for name, row in rows.items():
    got = getattr(batch, name)
    np.testing.assert_array_equal(got[0], np.array(row, got.dtype), name)
    # The second row is empty.
    want = PAD if name == 'tokens_BT' else 0
    np.testing.assert_array_equal(got[1], np.full(9, want), name)


def test_a_prompt_of_one_token_has_no_prefix():
  p = prompt('p', [10])
  group = [
    rows_lib.Trained(p, rollout('p', i, [20 + i, 21 + i]), 1.0, 1.0)
    for i in range(2)
  ]
  (batch,) = pack([group], rows=1, columns=5, pad_token=PAD)
  assert batch.tokens_BT[0].tolist() == [10, 20, 10, 21, PAD]
  assert batch.segment_BT[0].tolist() == [1, 1, 2, 2, 0]
  assert batch.prefix_BT[0].tolist() == [0] * 5
  assert batch.position_BT[0].tolist() == [0, 1, 0, 1, 0]


def test_without_sharing_a_rollout_is_one_segment():
  p = prompt('p', [10, 11, 12])
  a = rollout('p', 0, [20, 21, 22], [-0.1, -0.2, -0.3])
  a = dataclasses.replace(a, forced=(1, 2))
  b = rollout('p', 1, [30], [-0.4])
  group = [rows_lib.Trained(p, a, 2.0, 0.25), rows_lib.Trained(p, b, -1.0, 0.5)]
  (batch,) = pack(
    [group], rows=1, columns=9, pad_token=PAD, share_prompts=False
  )
  rows = {
    'tokens_BT': [10, 11, 12, 20, 21, 10, 11, 12, PAD],
    'target_BT': [0, 0, 20, 21, 22, 0, 0, 30, 0],
    'segment_BT': [1, 1, 1, 1, 1, 2, 2, 2, 0],
    'prefix_BT': [0] * 9,
    'position_BT': [0, 1, 2, 3, 4, 0, 1, 2, 0],
    'logp_old_BT': [0, 0, -0.1, -0.2, -0.3, 0, 0, -0.4, 0],
    'adv_BT': [0, 0, 2, 2, 2, 0, 0, -1, 0],
    'weight_BT': [0, 0, 0.25, 0, 0.25, 0, 0, 0.5, 0],
  }
  for name, row in rows.items():
    got = getattr(batch, name)[0]
    np.testing.assert_array_equal(got, np.array(row, got.dtype), name)


def trained(source, index, size=2):
  return rows_lib.Trained(
    source, rollout(source.id, index, [7] * size), 1.0, 1.0
  )


def rows_of(groups, rows, columns, **kwargs):
  """Per microbatch and row the (prompt, index) of what stands there."""
  kwargs = dict(share_prompts=True, even_tokens=math.inf, multiple=0) | kwargs
  return [
    [[(t.prompt.id, t.rollout.index) for t in row] for row in batch.rows]
    for batch in rows_lib.plan(groups, rows=rows, columns=columns, **kwargs)
  ]


def test_a_prompt_is_written_once_a_row():
  p, q = prompt('p', [1, 2, 3]), prompt('q', [4, 5])
  groups = [[trained(q, 0)], [trained(p, 0), trained(p, 1), trained(p, 2)]]
  batches = pack(groups, rows=1, columns=8, pad_token=PAD)
  assert [b.tokens_BT[0].tolist() for b in batches] == [
    [1, 2, 3, 7, 3, 7, 3, 7],
    [4, 5, 7, PAD, PAD, PAD, PAD, PAD],
  ]
  assert batches[0].prefix_BT[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
  # Where they do not all fit, it is written again.
  again = pack(groups[1:], rows=1, columns=7, pad_token=PAD)
  assert sorted(b.tokens_BT[0].tolist() for b in again) == [
    [1, 2, 3, 7, 3, 7, PAD],
    [1, 2, 3, 7, PAD, PAD, PAD],
  ]


def test_long_rollouts_leave_their_group_to_fill_holes():
  p, q, r = (prompt(name, [1, 2]) for name in 'pqr')
  groups = [[trained(p, 0, 5), trained(p, 1, 1)], [trained(q, 0, 7)]]
  groups += [[trained(r, 0, 3)]]
  # Together p takes 7 of 10, and r, of 4, would need a third row.
  assert rows_of(groups, 1, 10) == [
    [[('q', 0), ('p', 1)]],
    [[('p', 0), ('r', 0)]],
  ]


def test_dear_rows_stand_with_dear_rows():
  names = 'abcdef'
  sizes = [40, 10, 10, 10, 10, 40]
  groups = [[trained(prompt(n, [1]), 0, size)] for n, size in zip(names, sizes)]
  got = rows_of(groups, 2, 40, even_tokens=10.0)
  # The same 40 tokens cost less in four segments.
  assert got == [
    [[('a', 0)], [('f', 0)]],
    [[('b', 0), ('c', 0), ('d', 0), ('e', 0)]],
  ]


def test_few_rollouts_are_padded_to_the_shards():
  p = prompt('p', [1, 2, 3])
  (batch,) = pack([[trained(p, 0)]], rows=8, columns=6, pad_token=PAD)
  assert (batch.segment_BT > 0).any(1).tolist() == [True] + [False] * 7
  assert (batch.tokens_BT[1:] == PAD).all() and not batch.weight_BT[1:].any()


def unpack(batches):
  """Every (prompt, response, logp, adv, weight) that shared rows hold."""
  for batch in batches:
    for row in zip(*batch):
      row = packing.PackedBatch(*row)
      assert (row.weight_BT[row.segment_BT == 0] == 0).all()
      # Segments stand one after the other, padding last.
      order = [s for s in row.segment_BT if s > 0]
      assert order == sorted(order)
      assert (row.segment_BT[len(order) :] == 0).all()
      assert (row.tokens_BT[len(order) :] == PAD).all()
      for segment in range(1, max(order, default=0) + 1):
        own = np.flatnonzero(row.segment_BT == segment)
        if not row.weight_BT[own].any():
          # A prefix: the policy drew none of it, and it begins at position 0.
          assert (row.prefix_BT[own] == 0).all()
          assert row.position_BT[own].tolist() == list(range(len(own)))
          continue
        prefix = set(row.prefix_BT[own].tolist())
        assert len(prefix) == 1
        before = (
          np.flatnonzero(row.segment_BT == prefix.pop())
          if prefix != {0}
          else np.array([], int)
        )
        assert (before < own[0]).all()
        first = len(before)
        want = list(range(first, first + len(own)))
        assert row.position_BT[own].tolist() == want
        # Each target but the last is the next input.
        assert (row.tokens_BT[own[1:]] == row.target_BT[own[:-1]]).all()
        yield (
          (*row.tokens_BT[before], row.tokens_BT[own[0]]),
          tuple(row.target_BT[own]),
          tuple(row.logp_old_BT[own]),
          tuple(row.adv_BT[own]),
          tuple(row.weight_BT[own]),
        )


def unpack_alone(batches):
  """The same of rows where every rollout brings its prompt."""
  for batch in batches:
    assert not batch.prefix_BT.any()
    assert (batch.weight_BT[batch.segment_BT == 0] == 0).all()
    assert (batch.tokens_BT[batch.segment_BT == 0] == PAD).all()
    for b, row in enumerate(batch.segment_BT):
      count = row.max()
      assert row[row > 0].tolist() == sorted(row[row > 0])
      assert not row[(row > 0).sum() :].any()
      for segment in range(1, count + 1):
        own = packing.PackedBatch(*(x[b][row == segment] for x in batch))
        first = int(np.flatnonzero(own.weight_BT)[0])
        assert (own.weight_BT[first:] > 0).all()
        assert not own.target_BT[:first].any()
        assert own.position_BT.tolist() == list(range(len(own.position_BT)))
        assert (own.tokens_BT[first + 1 :] == own.target_BT[first:-1]).all()
        yield (
          tuple(own.tokens_BT[: first + 1]),
          tuple(own.target_BT[first:]),
          tuple(own.logp_old_BT[first:]),
          tuple(own.adv_BT[first:]),
          tuple(own.weight_BT[first:]),
        )


@st.composite
def packed_cases(draw):
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  groups = []
  for p in range(draw(st.integers(1, 5))):
    tokens = rng.integers(0, 50, draw(st.integers(1, 9)))
    # Few names: a prompt may stand twice in a batch.
    source = prompt(f'p{p}', tokens)
    if groups and draw(st.booleans()):
      source = groups[-1][0].prompt
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    # Its indices continue then (`requests.for_prompts`).
    first = sum(len(g) for g in groups if g[0].prompt is source)
    groups.append(
      [
        rows_lib.Trained(
          source,
          rollout(source.id, i, rng.integers(0, 50, n), rng.normal(size=n)),
          float(rng.normal()),
          float(rng.uniform(0.1, 1.0)),
        )
        for i, n in enumerate(lengths, start=first)
      ]
    )
  longest = max(
    len(t.prompt.tokens) - 1 + len(t.rollout.tokens) for g in groups for t in g
  )
  columns = longest + draw(st.integers(0, 40))
  return groups, draw(st.integers(1, 4)), columns


@hypothesis.given(packed_cases(), st.booleans())
@properties.tried(200, derandomize=True)
def test_packing_then_unpacking_recovers_every_rollout_once(case, share):
  groups, rows, columns = case
  batches = pack(
    groups, rows=rows, columns=columns, pad_token=PAD, share_prompts=share
  )
  for batch in batches:
    for name, x in batch._asdict().items():
      assert x.shape == (rows, columns)
      floats = name.startswith(('logp_', 'adv', 'weight'))
      assert x.dtype == (np.float32 if floats else np.int32)
  f32 = lambda x, n: (np.float32(x),) * n
  want = collections.Counter(
    (
      tuple(t.prompt.tokens),
      tuple(t.rollout.tokens),
      tuple(t.rollout.logp),
      f32(t.adv, len(t.rollout.tokens)),
      f32(t.weight, len(t.rollout.tokens)),
    )
    for group in groups
    for t in group
  )
  found = unpack(batches) if share else unpack_alone(batches)
  assert collections.Counter(found) == want
  # No row is left empty but at the end of the last microbatch.
  empty = [not (row > 0).any() for b in batches for row in b.segment_BT]
  assert not any(empty[: len(empty) - rows + 1])
  assert empty == sorted(empty)


def test_places_by_hand():
  p, q = prompt('p', [10, 11, 12]), prompt('q', [13])
  group = [
    trained(p, 0, 3),
    # Two tokens of it were forced, and it has a place all the same.
    trained(p, 1, 4)._replace(
      rollout=dataclasses.replace(rollout('p', 1, [7] * 4), forced=(1, 3))
    ),
  ]
  groups = [[trained(q, 5, 2)], group]
  (shared,) = packing.pack(groups, rows=2, columns=12, pad_token=PAD)
  # Row 0: p0 p1 | p2 a a a | p2 b b | q c.
  assert shared.places == {
    ('p', 1): (0, slice(2, 6)),
    ('p', 0): (0, slice(6, 9)),
    ('q', 5): (0, slice(9, 11)),
  }
  (alone,) = packing.pack(
    groups, rows=2, columns=8, pad_token=PAD, share_prompts=False
  )
  # Rows p0 p1 p2 a a a | q c and p0 p1 p2 b b.
  assert alone.places == {
    ('p', 1): (0, slice(2, 6)),
    ('q', 5): (0, slice(6, 8)),
    ('p', 0): (1, slice(2, 5)),
  }


@hypothesis.given(packed_cases(), st.booleans(), st.integers(0, 8))
@properties.tried(200, derandomize=True)
def test_each_rollout_is_where_its_place_says(case, share, multiple):
  groups, rows, columns = case
  found = packing.pack(
    groups,
    rows=rows,
    columns=columns,
    pad_token=PAD,
    multiple=multiple,
    share_prompts=share,
  )
  left = {(t.prompt.id, t.rollout.index): t for g in groups for t in g}
  assert len(left) == sum(map(len, groups))
  for batch, places in found:
    taken = np.zeros(batch.tokens_BT.shape, int)
    for key, (row, columns) in places.items():
      t = left.pop(key)
      at = row, columns
      taken[at] += 1
      inputs = [t.prompt.tokens[-1], *t.rollout.tokens[:-1]]
      assert batch.tokens_BT[at].tolist() == inputs
      assert batch.target_BT[at].tolist() == t.rollout.tokens.tolist()
      assert batch.logp_old_BT[at].tolist() == t.rollout.logp.tolist()
      first = len(t.prompt.tokens) - 1
      want = range(first, first + len(t.rollout.tokens))
      assert batch.position_BT[at].tolist() == list(want)
    # No column is two rollouts', and nothing else is trained on.
    np.testing.assert_array_equal(taken, batch.weight_BT > 0)
  assert not left


def test_widths_by_hand():
  assert rows_lib.ladder(32, 1) == [
    (16,),
    (8, 24),
    (4, 12, 20, 28),
    (2, 6, 10, 14, 18, 22, 26, 30),
  ]
  # Rounded up, each once, and none as wide as whole rows.
  assert rows_lib.ladder(33792, 512) == [
    (16896,),
    (8704, 25600),
    (4608, 12800, 21504, 29696),
    (2560, 6656, 10752, 14848, 19456, 23552, 27648, 31744),
  ]
  assert rows_lib.ladder(384, 512) == [()] * 4
  assert rows_lib.ladder(33792, 0) == []
  layout = rows_lib.Layout(4, 9216, 4096, PAD, False, 1.0)
  assert rows_lib.widths(layout) == [9216, 8192, 4096]


def test_what_two_whole_microbatches_hold_fits_one_and_a_half():
  """Rows of 40: 38 + 2, 35 + 5, 30; half as wide: 19, 18, 15."""
  sizes = [35, 30, 38, 18, 15, 19, 5, 2]
  groups = [[trained(prompt(f'{n}', [1]), 0, n)] for n in sizes]
  kwargs = dict(
    rows=3, columns=40, multiple=20, share_prompts=True, even_tokens=math.inf
  )
  plan = rows_lib.plan(groups, **kwargs)
  got = [
    (b.columns, [rows_lib.row_tokens(r, True) for r in b.rows]) for b in plan
  ]
  assert got == [(40, [40, 40, 30]), (20, [19, 18, 15])]
  whole = rows_lib.plan(groups, **kwargs | dict(multiple=0))
  assert [b.columns for b in whole] == [40, 40]
  # One batch is as narrow as its longest rollout allows.
  (only,) = rows_lib.plan(groups[3:], **kwargs)
  assert only.columns == 20


def test_a_width_that_saves_little_is_not_worth_a_compile():
  """31 of 64 are saved; of 33 microbatches, one half of one is too little."""
  kwargs = dict(
    rows=1, columns=64, multiple=1, share_prompts=True, even_tokens=math.inf
  )
  full = [[trained(prompt(f'{i}', [1]), 0, 64)] for i in range(32)]
  short = [[trained(prompt('short', [1]), 0, 32)]]
  columns = lambda groups: [b.columns for b in rows_lib.plan(groups, **kwargs)]
  assert columns(full[:1] + short) == [64, 32]
  assert columns(full + short) == [64] * 33


@hypothesis.given(packed_cases(), st.booleans(), st.integers(1, 8))
@properties.tried(200, derandomize=True)
def test_narrower_rows_lose_nothing_and_take_less(case, share, multiple):
  groups, rows, columns = case
  kwargs = dict(rows=rows, columns=columns, share_prompts=share)
  kwargs['even_tokens'] = 20.0
  wide = rows_lib.plan(groups, multiple=0, **kwargs)
  plan = rows_lib.plan(groups, multiple=multiple, **kwargs)
  assert len(plan) <= len(wide)
  allowed = rows_lib.widths(
    rows_lib.Layout(rows, columns, multiple, PAD, share, 20.0)
  )
  used = [batch.columns for batch in plan]
  assert set(used) <= set(allowed) and len(set(used)) <= 2
  assert all(w == columns or w % multiple == 0 for w in allowed)
  # Whole rows come first.
  assert used == sorted(used, reverse=True)
  assert sum(used) <= len(wide) * columns
  if used != [columns] * len(wide):
    assert sum(used) <= (1 - rows_lib.SAVES) * len(wide) * columns
  for width in set(used):
    found = [b.rows for b in plan if b.columns == width]
    assert all(len(part) == rows for part in found[:-1]) and found[-1]
    costs = [rows_lib.row_cost(r, share, 20.0) for part in found for r in part]
    assert costs == sorted(costs, reverse=True)
  batches = pack(groups, pad_token=PAD, multiple=multiple, **kwargs)
  assert [b.tokens_BT.shape for b in batches] == [(rows, w) for w in used]
  unpacked = unpack if share else unpack_alone
  before = pack(groups, pad_token=PAD, **kwargs)
  assert collections.Counter(unpacked(batches)) == (
    collections.Counter(unpacked(before))
  )


def seen_pairs(segment_T, prefix_T):
  """Pairs of a query and a key that it sees, one by one."""
  T = int((segment_T > 0).sum())
  return sum(
    segment_T[s] in (segment_T[t], prefix_T[t])
    for t in range(T)
    for s in range(t + 1)
  )


@hypothesis.given(packed_cases(), st.booleans(), st.floats(1.0, 1e6))
@properties.tried(60, derandomize=True)
def test_rows_are_sorted_by_what_their_masks_say_they_cost(case, share, even):
  groups, rows, columns = case
  kwargs = dict(
    rows=rows,
    columns=columns,
    multiple=0,
    share_prompts=share,
    even_tokens=even,
  )
  plan = rows_lib.plan(groups, **kwargs)
  batches = pack(groups, pad_token=PAD, **kwargs)
  costs = [
    rows_lib.row_cost(row, share, even) for batch in plan for row in batch.rows
  ]
  used = [
    rows_lib.row_tokens(row, share) for batch in plan for row in batch.rows
  ]
  assert costs == sorted(costs, reverse=True)
  segment_RT = np.concatenate([b.segment_BT for b in batches])[: len(costs)]
  prefix_RT = np.concatenate([b.prefix_BT for b in batches])[: len(costs)]
  assert used == (segment_RT > 0).sum(1).tolist()
  want = [
    tokens + 2 * seen_pairs(*row) / even
    for tokens, *row in zip(used, segment_RT, prefix_RT)
  ]
  np.testing.assert_allclose(costs, want, rtol=1e-12)


@hypothesis.given(
  packed_cases(), st.booleans(), st.sampled_from([0, 1, 4]), st.randoms()
)
@properties.tried(90, derandomize=True)
def test_the_order_of_groups_and_rollouts_changes_nothing(
  case, share, multiple, random
):
  groups, rows, columns = case
  # A name for each group, else two rollouts may have the same one.
  groups = [
    [t._replace(prompt=prompt(f'g{i}', t.prompt.tokens)) for t in group]
    for i, group in enumerate(groups)
  ]
  kwargs = dict(
    rows=rows,
    columns=columns,
    pad_token=PAD,
    multiple=multiple,
    share_prompts=share,
    even_tokens=20.0,
  )
  want = pack(groups, **kwargs)
  turned = [random.sample(group, len(group)) for group in groups]
  got = pack(random.sample(turned, len(turned)), **kwargs)
  for x, y in zip(want, got, strict=True):
    for a, b in zip(x, y):
      np.testing.assert_array_equal(a, b)


def drawn_groups(mean, cap, groups, window=1024, masked=False):
  """1,024 rollouts of log-normal lengths (sigma 0.8), cut at `cap`.

  Prompts are log-normal too, 150 tokens on average. `masked` leaves out what
  was cut, as config.objective.truncated='mask' does.
  """
  rng = np.random.default_rng(0)
  draw = lambda mean, n: rng.lognormal(np.log(mean) - 0.8**2 / 2, 0.8, n)
  made = []
  for i in range(1024 // groups):
    size = int(np.clip(draw(150, 1)[0], 16, window))
    source = prompt(f'{i}', np.zeros(size))
    lengths = np.clip(draw(mean, groups), 1, cap).astype(int)
    made.append(
      [
        trained(source, j, n)
        for j, n in enumerate(lengths)
        if not (masked and n == cap)
      ]
    )
  return made


def fewest_rows(sizes, columns):
  """No packing needs fewer rows (Martello and Toth's L2, 1990)."""
  sizes, best = np.asarray(sizes), 0
  for small in [0, *np.unique(sizes[sizes <= columns / 2])]:
    alone = (sizes > columns - small).sum()
    large = sizes[(sizes > columns / 2) & (sizes <= columns - small)]
    rest = sizes[(sizes >= small) & (sizes <= columns / 2)].sum()
    over = rest - (columns * len(large) - large.sum())
    more = max(0, math.ceil(over / columns))
    best = max(best, int(alone + len(large) + more))
  return best


# (mean, cap, rollouts a prompt, whether cut ones are masked), padding's limit,
# and rows over the fewest possible. Cut ones that are kept are 40% of the
# second: a row of 9,216 holds no other beside one but the shortest.
STAGES = {
  '32K': ((10_000, 32_768, 8, False), 0.02, 0.02),
  '32K, 16 a prompt': ((10_000, 32_768, 16, False), 0.04, 0.04),
  '8K, masked': ((5_000, 8_192, 8, True), 0.02, 0.05),
  '8K, kept': ((10_000, 8_192, 8, False), 0.075, 0.02),
}


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('stage', STAGES)
def test_padding_and_balance_of_the_papers_lengths(stage, share):
  (mean, cap, size, masked), padding, over = STAGES[stage]
  groups = drawn_groups(mean, cap, size, masked=masked)
  rows, columns, even = 8, 1024 + cap, 70_000.0
  plan = rows_lib.plan(
    groups,
    rows=rows,
    columns=columns,
    multiple=0,
    share_prompts=share,
    even_tokens=even,
  )
  filled = [row for batch in plan for row in batch.rows]
  used = sum(rows_lib.row_tokens(row, share) for row in filled)
  places = len(plan) * rows * columns
  assert 1 - used / places < padding
  prefix = lambda t: 0 if share else len(t.prompt.tokens) - 1
  fewest = fewest_rows(
    [prefix(t) + len(t.rollout.tokens) for group in groups for t in group],
    columns,
  )
  assert fewest <= len(filled) <= (1 + over) * fewest
  if stage == '8K, kept':
    # No packing has less than 5% here.
    assert 1 - used / (fewest * columns) > 0.05

  def balance(costs):
    batches = [costs[i : i + rows] for i in range(0, len(costs), rows)]
    return sum(costs) / sum(len(b) * max(b) for b in batches)

  costs = [rows_lib.row_cost(row, share, even) for row in filled]
  assert balance(costs) > 0.99
  assert balance(np.random.default_rng(0).permutation(costs)) < 0.98


@pytest.mark.parametrize('kept', [0.5, 0.6, 1.0])
@pytest.mark.parametrize('shards', [64, 128, 256])
@pytest.mark.parametrize('stage', ['math_24k', 'math_32k'])
def test_most_columns_are_real_on_many_shards(stage, shards, kept):
  """2,048 rollouts of configs/acereason_7b.py, of a plan's own lengths."""
  limit, mean = {'math_24k': (24576, 11_000), 'math_32k': (32768, 13_000)}[
    stage
  ]
  per_prompt = 16
  draws = lengths.Draws(128, per_prompt, limit, mean, 0.6, seed=0)
  drawn = lengths.draw(draws)[: round(128 * kept)]
  groups = [
    [trained(prompt(f'{i}', [1] * 150), j, n) for j, n in enumerate(group)]
    for i, group in enumerate(drawn.tolist())
  ]

  def filled(multiple):
    plan = rows_lib.plan(
      groups,
      rows=shards,
      columns=limit + 1024,
      multiple=multiple,
      share_prompts=False,
      even_tokens=70_000.0,
    )
    real = sum(rows_lib.row_tokens(r, False) for b in plan for r in b.rows)
    return real / (shards * sum(b.columns for b in plan))

  narrower, whole = filled(512), filled(0)
  assert narrower >= whole
  # 2.0 times as much as 256 rows of 25,600 hold: 0.67 before.
  hard = (stage, shards, kept) == ('math_24k', 256, 0.6)
  assert narrower > (0.87 if hard else 0.92)


def test_short_rollouts_share_their_prompts():
  groups = drawn_groups(30, 64, 8, window=96)
  kwargs = dict(rows=8, columns=160, multiple=0, even_tokens=math.inf)
  shared, alone = (
    rows_lib.plan(groups, share_prompts=share, **kwargs)
    for share in (True, False)
  )
  assert len(shared) < 0.6 * len(alone)


def test_what_is_longer_than_a_row_is_refused():
  p = prompt('geometry-7', [1, 2, 3])
  fits = [[rows_lib.Trained(p, rollout('p', 4, [5, 6]), 1.0, 1.0)]]
  pack(fits, rows=1, columns=4, pad_token=PAD)
  with pytest.raises(ValueError, match=r'^config\.microbatch\.columns=3') as e:
    pack(fits, rows=1, columns=3, pad_token=PAD)
  for said in ("'geometry-7'", 'rollout 4', 'need 4 tokens', 'raise it'):
    assert said in str(e.value)
  assert '\n' not in str(e.value)


# Two groups of three; one rollout is masked, then a whole group.
LENGTH = np.array([[2, 6, 4], [10, 3, 5]])
COUNTED = np.array([[True, True, False], [True, True, True]])
ONE_GROUP = np.array([[False] * 3, [True] * 3])


@pytest.mark.parametrize(
  'average, counted, want',
  [
    ('token', COUNTED, [[1 / 26] * 2 + [0], [1 / 26] * 3]),
    ('group', COUNTED, [[1 / 16] * 2 + [0], [1 / 36] * 3]),
    ('sequence', COUNTED, [[1 / 10, 1 / 30, 0], [1 / 50, 1 / 15, 1 / 25]]),
    ('constant', COUNTED, [[1 / 80] * 2 + [0], [1 / 80] * 3]),
    ('token', ONE_GROUP, [[0] * 3, [1 / 18] * 3]),
    ('group', ONE_GROUP, [[0] * 3, [1 / 18] * 3]),
    ('sequence', ONE_GROUP, [[0] * 3, [1 / 30, 1 / 9, 1 / 15]]),
    ('constant', ONE_GROUP, [[0] * 3, [1 / 48] * 3]),
  ],
)
def test_token_weights_by_hand(average, counted, want):
  got = packing.token_weights(LENGTH, counted, average, max_tokens=16)
  np.testing.assert_allclose(got, want, rtol=1e-15)
  if average != 'constant':
    assert np.sum(got * LENGTH) == pytest.approx(1.0, rel=1e-14)


@pytest.mark.parametrize('average', packing.AVERAGES)
def test_nothing_counted_weighs_nothing(average):
  got = packing.token_weights(LENGTH, COUNTED & False, average, max_tokens=16)
  assert (got == 0).all()


def judged_groups():
  verdict = types.Verdict('right', '', 0.0)
  return [
    types.Group(
      prompt(name, [1, 2]),
      tuple(rollout(name, i, [3, 4]) for i in range(2)),
      (verdict, verdict),
    )
    for name in ('a', 'b', 'c')
  ]


def test_rollouts_without_a_gradient_are_left_out():
  adv = np.array([[1.0, 0.0], [0.0, 0.0], [-0.5, 2.0]], np.float32)
  weight = np.array([[0.1, 0.1], [0.1, 0.1], [0.0, 0.3]])
  got = packing.trained_rollouts(judged_groups(), adv, weight)
  assert [
    [(t.prompt.id, t.rollout.index, t.adv, t.weight) for t in group]
    for group in got
  ] == [[('a', 0, 1.0, 0.1)], [('c', 1, 2.0, 0.3)]]


def test_one_rollout_without_advantage_is_left_to_measure():
  none = np.zeros((3, 2))
  ((kept,),) = packing.trained_rollouts(judged_groups(), none, none + 0.1)
  assert kept.adv == 0.0
  # Weight 0 would leave it out of the mismatch.
  assert kept.weight > 0.0


def test_where_all_have_a_gradient_only_weight_0_leaves_out():
  adv = np.array([[1.0, 0.0], [0.0, 0.0], [-0.5, 2.0]], np.float32)
  weight = np.array([[0.1, 0.1], [0.0, 0.2], [0.0, 0.3]])
  got = packing.trained_rollouts(judged_groups(), adv, weight, every=True)
  assert [
    [(t.prompt.id, t.rollout.index, t.adv, t.weight) for t in group]
    for group in got
  ] == [
    [('a', 0, 1.0, 0.1), ('a', 1, 0.0, 0.1)],
    [('b', 1, 0.0, 0.2)],
    [('c', 1, 2.0, 0.3)],
  ]
  # A stand-in's weight of 1 would be a gradient of its own.
  assert not packing.trained_rollouts(
    judged_groups(), adv, 0 * weight, every=True
  )


def test_a_rollout_without_tokens_is_never_packed():
  """One that could not be served, in a batch that has no gradient."""
  p = prompt('p', [10, 11, 12])
  empty, said = rollout('p', 0, []), rollout('p', 1, [20, 21])
  verdict = types.Verdict('error', 'no', 0.0)
  none = np.zeros((1, 2))

  def left(*rollouts):
    groups = [types.Group(p, rollouts, (verdict, verdict))]
    return packing.trained_rollouts(groups, none, none)

  ((kept,),) = left(empty, said)
  assert kept.rollout is said
  assert left(empty, empty) == []
  (batch,) = pack([], rows=2, columns=4, pad_token=PAD)
  assert not batch.weight_BT.any()


def normalised(reward, judged=None, epsilon=0.0, scale='group'):
  reward = np.array(reward, np.float64)
  judged = np.ones(reward.shape, bool) if judged is None else np.array(judged)
  return advantages.group_normalised(reward, judged, epsilon, scale)


def test_advantages_by_hand():
  got = normalised([[1, 0, 0, 0], [1, 1, 0, 0]])
  root = np.sqrt(3)
  want = [[root, -1 / root, -1 / root, -1 / root], [1, 1, -1, -1]]
  np.testing.assert_allclose(got, want, rtol=1e-7)
  assert got.dtype == np.float32
  # std of [1, 1, 0, 0] is 1/2, and 0.5 / (0.5 + 0.5) is 1/2.
  got = normalised([[1, 1, 0, 0]], epsilon=0.5)
  np.testing.assert_array_equal(got, [[0.5, 0.5, -0.5, -0.5]])
  got = normalised([[1, 0, 0, 0]], scale='none')
  np.testing.assert_array_equal(got, [[0.75, -0.25, -0.25, -0.25]])


def test_advantages_over_the_std_of_the_batch_by_hand():
  # The mean of 1 1 0 0 1 0 0 0 is 3/8 and the variance 15/64.
  root = np.sqrt(15) / 8
  got = normalised([[1, 1, 0, 0], [1, 0, 0, 0]], scale='batch')
  want = [[0.5, 0.5, -0.5, -0.5], [0.75, -0.25, -0.25, -0.25]]
  np.testing.assert_allclose(got, np.array(want) / root, rtol=1e-6)
  assert got.dtype == np.float32
  # A group that is all right counts in the std, and has no advantage itself.
  got = normalised([[1, 0], [1, 1]], epsilon=0.5, scale='batch')
  want = 0.5 / (np.sqrt(3) / 4 + 0.5)
  np.testing.assert_allclose(got, [[want, -want], [0, 0]], rtol=1e-6)
  # Rollouts that were not judged count in neither.
  judged = [[True, True, False], [True, True, False]]
  got = normalised([[1, 0, 7], [0, 0, np.nan]], judged, 0.0, 'batch')
  want = 0.5 / (np.sqrt(3) / 4)
  np.testing.assert_allclose(got, [[want, -want, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize('scale', advantages.SCALES)
@pytest.mark.parametrize('value', [0.0, 1.0, 0.1, 1 / 3])
def test_equal_rewards_have_exactly_no_advantage(value, scale):
  # The mean of seven 0.1 is not 0.1.
  for epsilon in (0.0, 1e-6):
    assert (normalised([[value] * 7], None, epsilon, scale) == 0).all()
    # Nor where another group makes a std.
    got = normalised([[value] * 7, [1, *[0] * 6]], None, epsilon, scale)
    assert (got[0] == 0).all() and got[1].any()


@pytest.mark.parametrize('scale', advantages.SCALES)
def test_a_batch_that_no_judge_could_judge_has_no_advantage(scale):
  nobody = np.zeros((2, 3), bool)
  assert (normalised([[1, 0, 1]] * 2, nobody, 0.0, scale) == 0).all()


@pytest.mark.parametrize('scale', [True, False, 'std', ''])
def test_another_scale_is_one_line(scale):
  with pytest.raises(
    ValueError, match=r'^config\.objective\.advantage\.scale=.*: give'
  ) as e:
    normalised([[1, 0]], scale=scale)
  assert 'group, batch, none' in str(e.value)


def test_the_overlong_penalty_by_hand():
  length = np.array([[0, 60, 80], [81, 90, 100]])
  got = advantages.overlong_penalty(length, max_tokens=100, soft_tokens=20)
  np.testing.assert_allclose(got, [[0, 0, 0], [-0.05, -0.5, -1]])
  # Nothing soft: no penalty, though the room is full.
  assert not advantages.overlong_penalty(length, 100, 0).any()
  # All of it: from the first token.
  got = advantages.overlong_penalty(length, 100, 100)
  np.testing.assert_allclose(got, -length / 100)


@pytest.mark.parametrize('soft', [-1, 101])
def test_a_penalty_longer_than_a_response_is_one_line(soft):
  with pytest.raises(ValueError, match=f'^soft_tokens={soft}: give 0 to 100'):
    advantages.overlong_penalty(np.zeros((1, 1)), 100, soft)


def test_failed_judgements_are_in_no_statistic():
  judged = [[True, False, True, True], [False] * 4, [True] + [False] * 3]
  reward = [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
  got = normalised(reward, judged, epsilon=1e-6)
  root = np.sqrt(2)
  np.testing.assert_allclose(
    got[0], [root, 0.0, -1 / root, -1 / root], rtol=1e-5
  )
  assert (got[1:] == 0).all()
  assert got[0, 1] == 0.0
  nan = normalised([[1, np.nan, 0, 0]], judged[:1], epsilon=1e-6)
  np.testing.assert_array_equal(nan, got[:1])
