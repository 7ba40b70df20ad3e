"""Groups to packed rows: the one crossing from host to device values.

With shared prompts a row holds a prompt once, then the rollouts of its group in
that row. The prefix is the prompt without its last token; a rollout's segment
begins with that token, so every target of a segment is predicted inside it:

    tokens   p0 p1 | p2 a0 a1 | p2 b0
    target    .  . | a0 a1 a2 | b0 b1
    segment   1  1 |  2  2  2 |  3  3
    prefix    0  0 |  1  1  1 |  1  1

Without shared prompts each rollout is one segment that begins with its whole
prompt, and every prefix is 0:

    tokens   p0 p1 p2 a0 a1 | p0 p1 p2 b0
    target    .  . a0 a1 a2 |  .  . b0 b1
    segment   1  1  1  1  1 |  2  2  2  2
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rl.rows import Trained

AVERAGES = ('token', 'group', 'sequence', 'constant')
# The fields of a batch that are int32; the others are float32.
WHOLE = 'tokens_BT', 'target_BT', 'segment_BT', 'prefix_BT', 'position_BT'


class PackedBatch(NamedTuple):
  """B rows of T tokens; all [B, T], `WHOLE` int32 and the others float32.

  tokens_BT: input tokens of the model.
  target_BT: token that each position predicts.
  segment_BT: number of the token's segment in its row, from 1; 0 is padding.
  prefix_BT: number of the segment that the token's segment sees too; 0 for
    none.
  position_BT: position of the token in its prompt and response, from 0.
  logp_old_BT: the sampler's logp of the target, nats.
  adv_BT: advantage of the rollout.
  weight_BT: weight of the token in the loss; 0 wherever the target is not a
    token that the policy drew.
  logp_ref_BT: the reference model's logp; 0 until it has scored the batch
    (`update.Update.score`).
  logp_first_BT: the policy's logp before the first of several updates; 0 until
    it has scored the batch (`update.Update.first_pass`).
  """

  tokens_BT: np.ndarray
  target_BT: np.ndarray
  segment_BT: np.ndarray
  prefix_BT: np.ndarray
  position_BT: np.ndarray
  logp_old_BT: np.ndarray
  adv_BT: np.ndarray
  weight_BT: np.ndarray
  logp_ref_BT: np.ndarray
  logp_first_BT: np.ndarray


def token_weights(
  length_PG: np.ndarray, counted_PG: np.ndarray, average: str, max_tokens: int
) -> np.ndarray:
  """The weight of each token of each rollout, [P, G]; 0 where not counted.

  token: 1 / tokens of the whole batch (DAPO's token-level loss).
  group: each prompt's tokens share 1 / P (arXiv 2505.16400, equation 1).
  sequence: each rollout's tokens share 1 / rollouts (GRPO, 2402.03300).
  constant: 1 / (rollouts * max_tokens) (Dr. GRPO, 2503.20783).
  """
  length_PG = np.where(counted_PG, length_PG, 0).astype(np.float64)
  rollouts = max(counted_PG.sum(), 1)
  group_P1 = np.maximum(length_PG.sum(1, keepdims=True), 1)
  groups = max(counted_PG.any(1).sum(), 1)
  weight_PG = {
    'token': np.full(length_PG.shape, 1 / max(length_PG.sum(), 1)),
    'group': np.broadcast_to(1 / (groups * group_P1), length_PG.shape),
    'sequence': 1 / (rollouts * np.maximum(length_PG, 1)),
    'constant': np.full(length_PG.shape, 1 / (rollouts * max_tokens)),
  }[average]
  return np.where(counted_PG, weight_PG, 0.0)


def trained_rollouts(
  groups: Sequence[types.Group],
  adv_PG: np.ndarray,
  weight_PG: np.ndarray,
  *,
  every: bool = False,
) -> list[list[Trained]]:
  """The rollouts of each group that have a gradient.

  A rollout with advantage 0 or weight 0 has no gradient. Leaving it out is
  exact, since weights are already normalised over the whole batch. At least one
  rollout is always kept, so every step measures the mismatch of sampler and
  trainer.

  `every=True` keeps rollouts with advantage 0: an entropy bonus and some losses
  (`losses.needs_every`) have a gradient there.
  """
  chosen = [
    [
      Trained(group.prompt, rollout, float(adv), float(weight))
      for rollout, adv, weight in zip(group.rollouts, advs, weights)
      if weight != 0.0 and (every or adv != 0.0)
    ]
    for group, advs, weights in zip(groups, adv_PG, weight_PG)
  ]
  # The weight of this rollout is arbitrary, so it must have no gradient.
  if not every and not any(chosen):
    said = ((g.prompt, r) for g in groups for r in g.rollouts if len(r.tokens))
    chosen = [[Trained(*one, 0.0, 1.0)] for one in itertools.islice(said, 1)]
  return [group for group in chosen if group]


class Packed(NamedTuple):
  """A microbatch, and where it has the rollouts.

  batch: its rows.
  places: where it has each rollout, by (prompt id, index).
  """

  batch: PackedBatch
  places: dict[tuple[str, int], rows_lib.Place]


def _padding(rows: int, columns: int, pad_token: int) -> PackedBatch:
  """Rows that hold nothing."""
  shape = rows, columns
  batch = PackedBatch(
    *(
      np.zeros(shape, np.int32 if name in WHOLE else np.float32)
      for name in PackedBatch._fields
    )
  )
  batch.tokens_BT[:] = pad_token
  return batch


def _write(row: PackedBatch, segment: rows_lib.Segment) -> None:
  """Writes a segment into its row, given as views of [T]."""
  columns, t = segment.columns, segment.trained
  if t is None:
    inputs = segment.prompt.tokens[:-1]
  else:
    prompt = segment.prompt.tokens[segment.before :]
    inputs = np.concatenate([prompt, t.rollout.tokens[:-1]])
  row.tokens_BT[columns] = inputs
  row.segment_BT[columns] = segment.number
  row.prefix_BT[columns] = segment.prefix
  row.position_BT[columns] = segment.before + np.arange(len(inputs))
  if t is None:
    return
  targets = segment.targets
  row.target_BT[targets] = t.rollout.tokens
  row.logp_old_BT[targets] = t.rollout.logp
  row.adv_BT[targets] = t.adv
  row.weight_BT[targets] = t.weight
  first, last = t.rollout.forced
  row.weight_BT[targets][first:last] = 0.0


def pack(
  groups: Sequence[Sequence[Trained]],
  *,
  rows: int,
  columns: int,
  pad_token: int,
  multiple: int = 0,
  share_prompts: bool = True,
  even_tokens: float = math.inf,
) -> list[Packed]:
  """Microbatches of `rows` x `columns`, placed as by `rows.plan`; at least one.

  Some may be narrower: of a width of `rows.ladder`. Weights are over the whole
  batch, so the sums of their gradients do not depend on it, except for
  rounding.

  `rows` is a multiple of the mesh's row shards; missing rows are padding.
  Sharing saves the prompt's tokens for every further rollout of its group in a
  row. So it pays where prompts are long compared to responses, or where rows
  hold many rollouts of a group (sums with examples: 7 times fewer tokens). With
  prompts of 150 and responses of 10,000 tokens it saves less than 1 in 100, and
  a kernel that knows only segments is worth more. `even_tokens` is that of
  `rows.row_cost`; inf means that attention costs nothing.

  Raises:
    ValueError: a prompt and one response are longer than a row.
  """
  planned = rows_lib.plan(
    groups,
    rows=rows,
    columns=columns,
    multiple=multiple,
    share_prompts=share_prompts,
    even_tokens=even_tokens,
  )
  found = []
  for width, planned_rows in planned or [rows_lib.Microbatch(columns, [])]:
    batch = _padding(rows, width, pad_token)
    for i, row in enumerate(planned_rows):
      views = PackedBatch(*(x[i] for x in batch))
      for segment in rows_lib.segments(row, share_prompts):
        _write(views, segment)
    found.append(Packed(batch, rows_lib.places(planned_rows, share_prompts)))
  return found
