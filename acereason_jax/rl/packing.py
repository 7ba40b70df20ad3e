"""Groups to packed rows: the one crossing from host to device values.

A row holds a prompt once, then the rollouts of its group that fit. The
prefix is the prompt without its last token; a rollout's segment begins with
that token, so that every target of a segment is predicted inside it:

    tokens   p0 p1 | p2 a0 a1 | p2 b0
    target    .  . | a0 a1 a2 | b0 b1
    segment   1  1 |  2  2  2 |  3  3
    prefix    0  0 |  1  1  1 |  1  1
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types

AVERAGES = ('token', 'group', 'sequence', 'constant')


class PackedBatch(NamedTuple):
  """Rows of T tokens; all [B, T], int32 but for the three floats.

  weight_BT is 0 wherever target_BT is nothing the policy said.
  """

  tokens_BT: np.ndarray
  target_BT: np.ndarray
  segment_BT: np.ndarray
  prefix_BT: np.ndarray
  position_BT: np.ndarray
  logp_old_BT: np.ndarray
  adv_BT: np.ndarray
  weight_BT: np.ndarray


class Trained(NamedTuple):
  """One rollout to train on: its prompt, advantage and weight a token."""

  prompt: types.Prompt
  rollout: types.Rollout
  adv: float
  weight: float


def token_weights(
  length_PG: np.ndarray, counted_PG: np.ndarray, average: str, room: int
) -> np.ndarray:
  """The weight of each token of each rollout, [P, G]; 0 where not counted.

  token: 1 / tokens of the whole batch (DAPO's token-level loss).
  group: each prompt's tokens share 1 / P (arXiv 2505.16400, equation 1).
  sequence: each rollout's tokens share 1 / rollouts (GRPO, 2402.03300).
  constant: 1 / (rollouts * room) (Dr. GRPO, 2503.20783).
  """
  length_PG = np.where(counted_PG, length_PG, 0).astype(np.float64)
  rollouts = max(counted_PG.sum(), 1)
  group_P1 = np.maximum(length_PG.sum(1, keepdims=True), 1)
  groups = max(counted_PG.any(1).sum(), 1)
  weight_PG = {
    'token': np.full(length_PG.shape, 1 / max(length_PG.sum(), 1)),
    'group': np.broadcast_to(1 / (groups * group_P1), length_PG.shape),
    'sequence': 1 / (rollouts * np.maximum(length_PG, 1)),
    'constant': np.full(length_PG.shape, 1 / (rollouts * room)),
  }[average]
  return np.where(counted_PG, weight_PG, 0.0)


def trained_rollouts(
  groups: Sequence[types.Group],
  adv_PG: np.ndarray,
  weight_PG: np.ndarray,
) -> list[list[Trained]]:
  """Per group the rollouts that have a gradient.

  Advantage 0 or weight 0 is no gradient: leaving those out is exact, since
  weights are already over the whole batch. One rollout is always left, so
  that every step measures the mismatch of sampler and trainer.
  """
  chosen = [
    [
      Trained(group.prompt, rollout, float(adv), float(weight))
      for rollout, adv, weight in zip(group.rollouts, advs, weights)
      if adv != 0.0 and weight != 0.0
    ]
    for group, advs, weights in zip(groups, adv_PG, weight_PG)
  ]
  if not any(chosen):
    said = ((g.prompt, r) for g in groups for r in g.rollouts if len(r.tokens))
    chosen = [[Trained(*one, 0.0, 1.0)] for one in itertools.islice(said, 1)]
  return [group for group in chosen if group]


class _Row:
  """A row being filled; the prompt whose prefix it holds last, by id."""

  def __init__(self, columns: int, pad_token: int):
    self.columns = columns
    self.used = 0
    self.segment = 0
    self.prefix: tuple[str, int] | None = None
    shape = (columns,)
    self.data = PackedBatch(
      *(np.zeros(shape, np.int32) for _ in range(5)),
      *(np.zeros(shape, np.float32) for _ in range(3)),
    )
    self.data.tokens_BT[:] = pad_token

  def needs(self, t: Trained) -> int:
    has_prefix = self.prefix is not None and self.prefix[0] == t.prompt.id
    prefix = 0 if has_prefix else len(t.prompt.tokens) - 1
    return prefix + len(t.rollout.tokens)

  def _append(self, tokens: np.ndarray, prefix: int, first: int) -> slice:
    place = slice(self.used, self.used + len(tokens))
    self.segment += 1
    self.used = place.stop
    self.data.tokens_BT[place] = tokens
    self.data.segment_BT[place] = self.segment
    self.data.prefix_BT[place] = prefix
    self.data.position_BT[place] = first + np.arange(len(tokens))
    return place

  def add(self, t: Trained) -> None:
    prompt, response = t.prompt.tokens, t.rollout.tokens
    if self.prefix is None or self.prefix[0] != t.prompt.id:
      # A prompt of one token has an empty prefix: segment 0 is padding,
      # which nothing sees.
      if len(prompt) > 1:
        self._append(prompt[:-1], 0, 0)
      self.prefix = t.prompt.id, self.segment if len(prompt) > 1 else 0
    inputs = np.concatenate([prompt[-1:], response[:-1]])
    place = self._append(inputs, self.prefix[1], len(prompt) - 1)
    self.data.target_BT[place] = response
    self.data.logp_old_BT[place] = t.rollout.logp
    self.data.adv_BT[place] = t.adv
    self.data.weight_BT[place] = t.weight
    first, last = t.rollout.forced
    self.data.weight_BT[place][first:last] = 0.0


def pack(
  groups: Sequence[Sequence[Trained]],
  *,
  rows: int,
  columns: int,
  pad_token: int,
) -> list[PackedBatch]:
  """Microbatches of `rows` x `columns`, in order; the last may have empty rows.

  Raises:
    ValueError: a prompt and one response are longer than a row.
  """
  filled = [_Row(columns, pad_token)]
  for t in (t for group in groups for t in group):
    if filled[-1].used + filled[-1].needs(t) > columns:
      filled.append(_Row(columns, pad_token))
    if filled[-1].needs(t) > columns:
      raise ValueError(
        f'config.microbatch.columns={columns}: prompt {t.prompt.id!r} and its '
        f'rollout {t.rollout.index} need {filled[-1].needs(t)} tokens; raise it'
      )
    filled[-1].add(t)
  filled += [_Row(columns, pad_token) for _ in range(-len(filled) % rows)]
  batches = (filled[i : i + rows] for i in range(0, len(filled), rows))
  return [
    PackedBatch(*(np.stack(x) for x in zip(*(row.data for row in batch))))
    for batch in batches
  ]
