"""Metrics of what became useful: slot steps, packed columns, FLOPs.

A rollout costs slot steps whether or not it is trained on later. So its fate is
known only when advantages are assigned.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from acereason_jax import types
from acereason_jax.models import shape as shape_lib
from acereason_jax.rl import objective, packing
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import trace as trace_lib

# The fates of a rollout that ended.
FATES = 'trained', 'no_signal', 'masked', 'failed', 'error'
Parts = Sequence[Sequence[Sequence[rows_lib.Trained]]]
Microbatches = Sequence[Sequence[packing.Packed]]


def fates(
  groups: Sequence[types.Group], parts: Parts, chosen: objective.Objective
) -> dict[tuple[str, int], str]:
  """The fate of each rollout of `groups`, by its key; see FATES.

  trained: its tokens have a gradient. no_signal: its advantage is 0, or its
  group is not in the batch for lack of signal. masked: it was cut off, and the
  stage does not train on those. failed: the judge failed. error: the engine
  could not continue it. `parts` is what `objective.assign_advantages` chose.
  """
  trained = objective.gradient_keys(parts, chosen.every)
  found = {}
  for group in groups:
    for rollout, verdict in zip(group.rollouts, group.verdicts):
      if rollout.stop == 'error':
        fate = 'error'
      elif not verdict.judged:
        fate = 'failed'
      elif rollout.key in trained:
        fate = 'trained'
      elif rollout.stop == 'length' and chosen.rules.truncated == 'mask':
        fate = 'masked'
      else:
        fate = 'no_signal'
      found[rollout.key] = fate
  return found


def slot_shares(
  trace: trace_lib.Trace, fates: Mapping[tuple[str, int], str]
) -> dict[str, float]:
  """`slot_share_*`: shares of the slot steps of a stream; they sum to 1.

  Names are those of `trace.slot_steps`. A stream without a step, of a batch
  that was in the journal, has none.
  """
  found = trace_lib.slot_steps(trace, fates, FATES)
  total = sum(found.values())
  if not total:
    return {}
  return {f'slot_share_{name}': n / total for name, n in found.items()}


def packed_tokens(parts: Parts, microbatches: Microbatches) -> dict[str, float]:
  """Columns of all microbatches of a step, in tokens; the rest is padding.

  packed_tokens: rows x columns. packed_prompt_tokens: those with a prompt's
  token, each time that it is repeated. packed_response_tokens: those that
  predict a token of a response.
  """
  batches = [packed.batch for part in microbatches for packed in part]
  used = sum(int(np.count_nonzero(batch.segment_BT)) for batch in batches)
  response = sum(
    len(t.rollout.tokens) for part in parts for group in part for t in group
  )
  return dict(
    packed_tokens=float(sum(batch.segment_BT.size for batch in batches)),
    packed_prompt_tokens=float(used - response),
    packed_response_tokens=float(response),
  )


def mfu(
  shape: shape_lib.Shape,
  microbatches: Microbatches,
  seconds: float,
  peak: float,
) -> dict[str, float]:
  """`mfu`: FLOPs of the model in the updates of a step, as a share of the peak.

  What the backward pass computes again is not among them, nor is padding, or a
  pass that only scores.

  Args:
    shape: sizes of the model.
    microbatches: those of each update.
    seconds: what the updates took.
    peak: FLOPs per second of all devices at most; 0 if that is unknown, as of
      CPUs: then there is no such metric.
  """
  if not peak:
    return {}
  tokens, pairs = 0, 0
  for part in microbatches:
    for packed in part:
      real_BT = packed.batch.segment_BT != 0
      tokens += int(np.count_nonzero(real_BT))
      # A token sees all before it, in its prompt and response, and itself.
      seen_BT = packed.batch.position_BT.astype(np.int64) + 1
      pairs += int(seen_BT[real_BT].sum())
  flops = shape_lib.useful_flops(shape, tokens, pairs)
  return dict(mfu=flops / (max(seconds, 1e-9) * peak))
