"""Packing loses nothing, adds nothing, and weighs by hand."""

import collections

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.rl import advantages, packing

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


def test_the_example_of_the_docstring():
  p = prompt('p', [10, 11, 12])
  a = rollout('p', 0, [20, 21, 22], [-0.1, -0.2, -0.3])
  b = rollout('p', 1, [30, 31], [-0.4, -0.5])
  group = [packing.Trained(p, a, 2.0, 0.25), packing.Trained(p, b, -1.0, 0.5)]
  (batch,) = packing.pack([group], rows=2, columns=9, pad_token=PAD)
  rows = {
    'tokens_BT': [10, 11, 12, 20, 21, 12, 30, PAD, PAD],
    'target_BT': [0, 0, 20, 21, 22, 30, 31, 0, 0],
    'segment_BT': [1, 1, 2, 2, 2, 3, 3, 0, 0],
    'prefix_BT': [0, 0, 1, 1, 1, 1, 1, 0, 0],
    'position_BT': [0, 1, 2, 3, 4, 2, 3, 0, 0],
    'logp_old_BT': [0, 0, -0.1, -0.2, -0.3, -0.4, -0.5, 0, 0],
    'adv_BT': [0, 0, 2, 2, 2, -1, -1, 0, 0],
    'weight_BT': [0, 0, 0.25, 0.25, 0.25, 0.5, 0.5, 0, 0],
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
    packing.Trained(p, rollout('p', i, [20 + i, 21 + i]), 1.0, 1.0)
    for i in range(2)
  ]
  (batch,) = packing.pack([group], rows=1, columns=5, pad_token=PAD)
  assert batch.tokens_BT[0].tolist() == [10, 20, 10, 21, PAD]
  assert batch.segment_BT[0].tolist() == [1, 1, 2, 2, 0]
  assert batch.prefix_BT[0].tolist() == [0] * 5
  assert batch.position_BT[0].tolist() == [0, 1, 0, 1, 0]


def test_a_prompt_is_written_once_a_row():
  p, q = prompt('p', [1, 2, 3]), prompt('q', [4, 5])
  trained = lambda x, i: packing.Trained(x, rollout(x.id, i, [7, 8]), 1.0, 1.0)
  groups = [[trained(p, 0), trained(p, 1), trained(p, 2)], [trained(q, 0)]]
  batches = packing.pack(groups, rows=1, columns=7, pad_token=PAD)
  assert [b.tokens_BT[0].tolist() for b in batches] == [
    [1, 2, 3, 7, 3, 7, PAD],
    [1, 2, 3, 7, 4, 5, 7],
  ]
  assert batches[1].prefix_BT[0].tolist() == [0, 0, 1, 1, 0, 3, 3]


def unpack(batches):
  """Every (prompt, response, logp, adv, weight) that the rows hold."""
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
          # A prefix: it is said by nobody, and stands at position 0.
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
    groups.append(
      [
        packing.Trained(
          source,
          rollout(source.id, i, rng.integers(0, 50, n), rng.normal(size=n)),
          float(rng.normal()),
          float(rng.uniform(0.1, 1.0)),
        )
        for i, n in enumerate(lengths)
      ]
    )
  longest = max(
    len(t.prompt.tokens) - 1 + len(t.rollout.tokens) for g in groups for t in g
  )
  columns = longest + draw(st.integers(0, 40))
  return groups, draw(st.integers(1, 4)), columns


@hypothesis.given(packed_cases())
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_packing_then_unpacking_recovers_every_rollout_once(case):
  groups, rows, columns = case
  batches = packing.pack(groups, rows=rows, columns=columns, pad_token=PAD)
  for batch in batches:
    for name, x in batch._asdict().items():
      assert x.shape == (rows, columns)
      floats = name in ('logp_old_BT', 'adv_BT', 'weight_BT')
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
  assert collections.Counter(unpack(batches)) == want
  # No row is left empty but in the last microbatch.
  empty = [not (row > 0).any() for b in batches for row in b.segment_BT]
  assert not any(empty[: len(empty) - rows + 1])


def test_what_is_longer_than_a_row_is_refused():
  p = prompt('geometry-7', [1, 2, 3])
  fits = [[packing.Trained(p, rollout('p', 4, [5, 6]), 1.0, 1.0)]]
  packing.pack(fits, rows=1, columns=4, pad_token=PAD)
  with pytest.raises(ValueError, match=r'^config\.microbatch\.columns=3') as e:
    packing.pack(fits, rows=1, columns=3, pad_token=PAD)
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
  got = packing.token_weights(LENGTH, counted, average, room=16)
  np.testing.assert_allclose(got, want, rtol=1e-15)
  if average != 'constant':
    assert np.sum(got * LENGTH) == pytest.approx(1.0, rel=1e-14)


@pytest.mark.parametrize('average', packing.AVERAGES)
def test_nothing_counted_weighs_nothing(average):
  got = packing.token_weights(LENGTH, COUNTED & False, average, room=16)
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
  (batch,) = packing.pack([], rows=2, columns=4, pad_token=PAD)
  assert not batch.weight_BT.any()


def normalised(reward, judged=None, epsilon=0.0, scale=True):
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
  got = normalised([[1, 0, 0, 0]], scale=False)
  np.testing.assert_array_equal(got, [[0.75, -0.25, -0.25, -0.25]])


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1, 1 / 3])
def test_equal_rewards_have_exactly_no_advantage(value):
  # The mean of seven 0.1 is not 0.1.
  assert (normalised([[value] * 7], epsilon=1e-6) == 0).all()
  assert (normalised([[value] * 7], scale=False) == 0).all()


def test_equal_rewards_have_no_advantage_without_epsilon():
  assert (normalised([[1.0] * 7], epsilon=0.0) == 0).all()


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
