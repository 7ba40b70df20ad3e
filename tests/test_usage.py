"""What became of slot steps and of packed columns, recounted one by one."""

import collections
import dataclasses

import hypothesis
import numpy as np
import pytest
import test_rewards
from hypothesis import strategies as st
from test_rewards import LATE, MASK, RIGHT, RIGHT_BUT_CUT, SCORE, WRONG, group

from acereason_jax import types
from acereason_jax.models import shape as shape_lib
from acereason_jax.rl import objective
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import metrics, usage

RULES = objective.Objective(
  SCORE, 0.0, 'group', 'token', 'tempered', updates=1, every=False
)
MASKING = RULES._replace(rules=MASK)


def fates(groups, chosen, batch=None):
  parts = objective.assign_advantages(batch or groups, chosen)
  found = usage.fates(groups, parts, chosen)
  return [[found[r.key] for r in g.rollouts] for g in groups]


def broken(name):
  found = group(RIGHT, WRONG, LATE, name=name)
  *others, last = found.rollouts
  last = dataclasses.replace(last, stop='error')
  return dataclasses.replace(found, rollouts=(*others, last))


def test_the_fate_of_each_rollout():
  mixed = group(RIGHT, WRONG, LATE, name='mixed')
  dull = group(RIGHT, RIGHT, RIGHT, name='dull')
  cut = group(RIGHT, WRONG, RIGHT_BUT_CUT, name='cut')
  groups = [mixed, dull, cut, broken('broken')]
  want = [
    ['trained', 'trained', 'failed'],
    ['no_signal'] * 3,
    ['trained', 'trained', 'masked'],
    ['trained', 'trained', 'error'],
  ]
  assert fates(groups, MASKING) == want
  want[2][2] = 'trained'
  assert fates(groups, RULES) == want


def test_a_group_that_is_not_in_the_batch_has_no_signal():
  mixed, dull = group(RIGHT, WRONG, name='a'), group(WRONG, WRONG, name='b')
  assert fates([mixed, dull], RULES, [mixed])[1] == ['no_signal'] * 2


def test_what_is_kept_only_to_measure_the_mismatch_is_not_trained():
  dull = [group(RIGHT, RIGHT)]
  assert fates(dull, RULES) == [['no_signal'] * 2]
  # An entropy bonus has a gradient there.
  assert fates(dull, RULES._replace(every=True)) == [['trained'] * 2]


def test_shares_by_hand():
  """Two slots, ten steps.

  slot 0  a a a a b b b . . .
  slot 1  c c . . c c c c c d    one waits in the first five steps
  """
  event = trace_lib.Event
  trace = trace_lib.Trace(slots=2, steps=10, draft_steps=1, full=[(0, 5)])
  trace.events = [
    event(0, 'a', 0, 0, 4, 'stop'),
    event(0, 'b', 0, 4, 7, 'length'),
    event(1, 'c', 0, 0, 2, 'preempted'),
    event(1, 'c', 0, 4, 9, 'stop'),
    event(1, 'd', 0, 9, 10, 'error'),
  ]
  kinds = dict(a='trained', b='masked', c='failed', d='error')
  found = usage.slot_shares(trace, {(k, 0): v for k, v in kinds.items()})
  slots = dict(
    trained=4, no_signal=0, masked=3, failed=5, error=1, recomputed=2
  ) | dict(drafts=1, waiting=2, tail=2)
  assert found == {f'slot_share_{k}': n / 20 for k, n in slots.items()}
  assert sum(found.values()) == pytest.approx(1)
  assert all(name.startswith(metrics.MEASURED) for name in found)


def test_a_batch_out_of_the_journal_has_no_shares():
  assert usage.slot_shares(trace_lib.Trace(slots=4), {}) == {}


@hypothesis.given(st.data())
def test_each_slot_step_has_one_name(data):
  """Against a grid of all slot steps."""
  slots, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
  cuts = lambda most: sorted(
    data.draw(st.sets(st.integers(0, steps), min_size=2, max_size=most))
  )
  full = cuts(4)
  full = list(zip(full[::2], full[1::2]))
  trace = trace_lib.Trace(slots=slots, steps=steps, full=full)
  grid, known = np.full((slots, steps), 'tail', object), {}
  for first, last in full:
    grid[:, first:last] = 'waiting'
  for slot in range(slots):
    ends = cuts(6)
    for i, (began, ended) in enumerate(zip(ends[::2], ends[1::2])):
      fate = data.draw(st.sampled_from([*usage.FATES, 'recomputed']))
      reason = 'preempted' if fate == 'recomputed' else 'stop'
      known[str(slot), i] = fate
      stay = trace_lib.Event(slot, str(slot), i, began, ended, reason)
      trace.events.append(stay)
      grid[slot, began:ended] = fate
  want = collections.Counter(grid.ravel().tolist())
  found = trace_lib.slot_steps(trace, known, usage.FATES)
  assert {k: n for k, n in found.items() if n} == want


def packed_rows(prompt_tokens, lengths, share_prompts):
  """(parts, microbatches) of rollouts of one prompt, in two rows of 16."""
  prompt = types.Prompt('p', '', '', np.arange(prompt_tokens, dtype=np.int32))
  (base,) = test_rewards.group(('right', 3)).rollouts
  rollouts = []
  for i, length in enumerate(lengths):
    zeros = np.zeros(length, np.float32)
    rollouts.append(
      dataclasses.replace(
        base, index=i, tokens=zeros.astype(np.int32), logp=zeros
      )
    )
  part = [[rows_lib.Trained(prompt, r, 1.0, 0.5) for r in rollouts]]
  layout = rows_lib.Layout(2, 16, 0, 0, share_prompts, 1e9)
  return [part], objective.pack([part], layout)


@pytest.mark.parametrize('share_prompts', [False, True])
def test_packed_columns_by_hand(share_prompts):
  """Two rollouts of 3 and 5 tokens of a prompt of 4, in a row of 16."""
  found = usage.packed_tokens(*packed_rows(4, (3, 5), share_prompts))
  # A prompt's last token predicts the first of a response, and is one of its.
  assert found == dict(
    packed_tokens=32.0,
    packed_prompt_tokens=3.0 if share_prompts else 6.0,
    packed_response_tokens=8.0,
  )
  assert not any(name.startswith(metrics.MEASURED) for name in found)


# Sizes of a network by hand: 2 layers of width 8 with 2 heads of 4 over 1 of
# keys and values, 16 between, 32 tokens, and a head of its own.
HAND = shape_lib.Shape('hand', 2, 8, 2, 1, 4, 32, 1616, 1616, 1360)


@pytest.mark.parametrize('share_prompts', [False, True])
@pytest.mark.parametrize('adapters', [0, 48])
def test_mfu_by_hand(share_prompts, adapters):
  """Two rollouts of 3 and 5 tokens of a prompt of 4, in rows of 16.

  Their last tokens are only predicted. So a row has 6 and 8 tokens, or, if they
  share the first 3 of the prompt, 3 and 3 and 5.
  """
  shape = HAND._replace(trained=adapters) if adapters else HAND
  _, found = packed_rows(4, (3, 5), share_prompts)
  # The keys that each token sees: those of its prompt and response so far.
  first, second = (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7, 8)
  seen = [*first, *(second[3:] if share_prompts else second)]
  assert len(seen) == (11 if share_prompts else 14)
  # A product has 2 FLOPs a weight: forward, for its input, and for the weight,
  # if that is trained. LoRA trains 48 weights; products with them are left out.
  weights = 2 * 1360 + 2 * 1360 + 2 * (adapters or 1360)
  # Of 2 layers and 2 heads: 4 products and sums for a score, 4 for the value;
  # and twice that again backward.
  attention = 3 * 2 * 2 * (2 * 4 + 2 * 4)
  flops = weights * len(seen) + attention * sum(seen)
  # No remat: 2 s at 1000 FLOPs a second.
  got = usage.mfu(shape, found, 2.0, 1000.0)
  assert got == dict(mfu=pytest.approx(flops / 2000))
  assert all(name.startswith(metrics.MEASURED) for name in got)


def test_a_machine_of_unknown_peak_has_no_mfu():
  _, found = packed_rows(4, (3,), True)
  assert usage.mfu(HAND, found, 1.0, 0.0) == {}
