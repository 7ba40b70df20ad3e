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

import collections
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types

AVERAGES = ('token', 'group', 'sequence', 'constant')
# Parts of a whole row that narrower rows have, from coarse to fine: halves,
# quarters, eighths, sixteenths.
PARTS = 2, 4, 8, 16
# A width is a program of its own to compile, so a finer one is taken only where
# it saves at least this share of the columns of an update: the compile then
# takes less than it saves in some tens of updates.
SAVES = 1 / 32
# Mixes of widths that are tried of each fineness.
TRIES = 16
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


class Trained(NamedTuple):
  """A rollout to train on.

  prompt: its prompt, of at least one token.
  rollout: the rollout, of at least one token.
  adv: advantage of the rollout.
  weight: weight of each of its tokens in the loss.
  """

  prompt: types.Prompt
  rollout: types.Rollout
  adv: float
  weight: float


class Layout(NamedTuple):
  """The shapes of microbatches; see `pack`.

  rows: number of rows of a microbatch, a multiple of the mesh's row shards.
  columns: number of tokens of a row; of some microbatches fewer, see `ladder`.
  multiple: the fewer tokens are a multiple of this; 0: no row has fewer.
  pad_token: id of the token in padding.
  share_prompts: whether a row holds a prompt once for all of its rollouts.
  even_tokens: segment length, in tokens, that sets costs; see `row_cost`.
  """

  rows: int
  columns: int
  multiple: int
  pad_token: int
  share_prompts: bool
  even_tokens: float


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


# The rollouts of a row; those of one prompt are next to each other.
Row = list[Trained]


class _Unit(NamedTuple):
  """Rollouts of one prompt that are placed together.

  members: rollouts.
  prefix: number of columns of the prompt in a row that does not hold it yet.
  tokens: number of columns of the rollouts.
  """

  members: list[Trained]
  prefix: int
  tokens: int


def _order(t: Trained) -> tuple:
  """Sort key: longest first; ids break ties, never the order of groups."""
  return -len(t.rollout.tokens), t.prompt.id, t.rollout.index


def _unit(members: list[Trained], share_prompts: bool) -> _Unit:
  prompt = len(members[0].prompt.tokens) - 1
  tokens = sum(len(t.rollout.tokens) for t in members)
  if share_prompts:
    return _Unit(members, prompt, tokens)
  return _Unit(members, 0, prompt * len(members) + tokens)


def _first_fit(units: Sequence[_Unit], room: Sequence[int]) -> list[Row] | None:
  """Largest first, each into the first row that has room; None if one has not.

  `room` has the number of columns of each row. A row that already holds the
  prompt comes before the others: units placed there need no prefix.
  """
  key = lambda u: (-u.prefix - u.tokens, *_order(u.members[0]))
  room_R = np.array(room)
  rows = [collections.defaultdict(list) for _ in room]
  holding = collections.defaultdict(list)
  for unit in sorted(units, key=key):
    name = unit.members[0].prompt.id
    place = None
    if unit.prefix:
      fits = (i for i in holding[name] if room_R[i] >= unit.tokens)
      place = next(fits, None)
    if place is None:
      has_room_R = room_R >= unit.prefix + unit.tokens
      place = int(np.argmax(has_room_R))
      if not has_room_R[place]:
        return None
      holding[name].append(place)
      room_R[place] -= unit.prefix
    room_R[place] -= unit.tokens
    rows[place][name] += unit.members
  return [[t for part in row.values() for t in part] for row in rows]


def _segments(row: Row, share_prompts: bool) -> Iterator[tuple[int, int]]:
  """(tokens of the segment, tokens of its prefix) for each segment of a row."""
  for _, members in itertools.groupby(row, key=lambda t: t.prompt.id):
    members = list(members)
    prompt = len(members[0].prompt.tokens) - 1
    if share_prompts and prompt:
      yield prompt, 0
    for t in members:
      response = len(t.rollout.tokens)
      yield (response, prompt) if share_prompts else (prompt + response, 0)


def row_tokens(row: Row, share_prompts: bool) -> int:
  """The number of columns of a row that are not padding."""
  return sum(tokens for tokens, _ in _segments(row, share_prompts))


def row_cost(row: Row, share_prompts: bool, even_tokens: float) -> float:
  """The cost of a row; the unit is a token that passes the weights.

  A token costs 1, and a query with a key that it sees costs 2 / `even_tokens`.
  A segment of `even_tokens` tokens then costs as much in attention as in
  products with weights (`Model.even_tokens`).
  """
  cost = 0.0
  for own, seen in _segments(row, share_prompts):
    pairs = own * (own + 1) / 2 + own * seen
    cost += own + 2 * pairs / even_tokens
  return cost


def ladder(columns: int, multiple: int) -> list[tuple[int, ...]]:
  """The widths of rows below `columns`, from coarse to fine, each once.

  They are halves, quarters, eighths and sixteenths of `columns`, rounded up to
  a multiple of `multiple`. So short rows have few widths, or none; if
  `multiple` is 0, no rows have.
  """
  if not multiple:
    return []
  found, seen = [], {columns}
  for parts in PARTS:
    shares = (-(-columns * i // parts) for i in range(1, parts))
    widths = {-(-share // multiple) * multiple for share in shares}
    fresh = sorted(w for w in widths - seen if w < columns)
    found.append(tuple(fresh))
    seen.update(fresh)
  return found


def widths(layout: Layout) -> list[int]:
  """All widths that microbatches may have, the widest first."""
  narrower = itertools.chain(*ladder(layout.columns, layout.multiple))
  return [layout.columns, *sorted(narrower, reverse=True)]


class _Mix(NamedTuple):
  """The widths of an update's microbatches: `wide` come first.

  columns, wide: number of columns of the wide microbatches, and of these.
  width, narrow: the same of the narrower ones.
  """

  columns: int
  wide: int
  width: int
  narrow: int

  @property
  def total(self) -> int:
    """Columns of all microbatches."""
    return self.columns * self.wide + self.width * self.narrow


class Microbatch(NamedTuple):
  """The rows of a microbatch, none of them empty.

  columns: number of tokens of a row.
  rows: rows, the one with the highest cost first.
  """

  columns: int
  rows: list[Row]


def plan(
  groups: Sequence[Sequence[Trained]],
  *,
  rows: int,
  columns: int,
  multiple: int,
  share_prompts: bool,
  even_tokens: float,
) -> list[Microbatch]:
  """Places each rollout in a row of a microbatch.

  First-fit decreasing. Devices wait for the slowest row, so rows are sorted by
  cost, the highest first, and cut into microbatches of `rows`. The last
  microbatch, with the cheapest rows, may have fewer; none is empty.

  On many shards a few microbatches hold all rows, and the last would be mostly
  padding. So some microbatches may be narrower, all of one width of `ladder`:
  rollouts that are longer are in the others. The number of microbatches does
  not grow. Of the mixes that hold all rollouts, the one with the fewest columns
  is taken, if it saves `SAVES` of those of coarser widths.

  With shared prompts rows are filled in two ways: each rollout by itself, or as
  many of a prompt's rollouts together as fit in a row. The plan with fewer
  columns is taken, or, if they are equal, the one with the cheaper highest-cost
  rows. Long rollouts leave smaller holes when placed one by one; short ones are
  shorter than the prompts that they would repeat.

  The plan is the same on every process: it depends only on lengths, prompt ids
  and indices.

  Raises:
    ValueError: a prompt and one response are longer than a row.
  """
  prompts = collections.defaultdict(list)
  for t in itertools.chain.from_iterable(groups):
    need = len(t.prompt.tokens) - 1 + len(t.rollout.tokens)
    if need > columns:
      raise ValueError(
        f'config.microbatch.columns={columns}: prompt {t.prompt.id!r} and its '
        f'rollout {t.rollout.index} need {need} tokens; raise it'
      )
    prompts[t.prompt.id].append(t)
  ways = _ways([*prompts.values()], columns, share_prompts)
  cost = lambda row: row_cost(row, share_prompts, even_tokens)
  dearest_first = lambda row: (-cost(row), *map(_order, row))

  def cut(filled: list[Row], width: int) -> list[Microbatch]:
    filled = sorted(filter(None, filled), key=dearest_first)
    return [
      Microbatch(width, filled[i : i + rows])
      for i in range(0, len(filled), rows)
    ]

  def waited_for(batches: list[Microbatch]) -> tuple[int, float]:
    return _columns(batches), sum(cost(batch.rows[0]) for batch in batches)

  def packed(mix: _Mix) -> list[Microbatch] | None:
    wide = mix.wide * rows
    room = [mix.columns] * wide + [mix.width] * (mix.narrow * rows)
    found = (_first_fit(units, room) for units in ways)
    plans = (
      cut(filled[:wide], mix.columns) + cut(filled[wide:], mix.width)
      for filled in found
      if filled is not None
    )
    return min(plans, key=waited_for, default=None)

  # As many rows as may be needed.
  most = -(-sum(map(len, groups)) // rows)
  best = packed(_Mix(columns, most, columns, 0))
  for finer in ladder(columns, multiple):
    mixes = _mixes(best, ways[0], rows, columns, finer)
    best = next(filter(None, map(packed, mixes)), best)
  return best


def _ways(
  prompts: Sequence[Sequence[Trained]], columns: int, share_prompts: bool
) -> list[list[_Unit]]:
  """The units of the ways to fill rows; in the first each rollout is one."""
  chain = lambda parts: list(itertools.chain.from_iterable(parts))
  unit = lambda members: _unit(members, share_prompts)
  alone = [[unit([t]) for t in group] for group in prompts]
  if not share_prompts:
    return [chain(alone)]
  rows = (_first_fit(group, [columns] * len(group)) for group in alone)
  return [chain(alone), [unit(row) for row in filter(None, chain(rows))]]


def _columns(batches: Sequence[Microbatch]) -> int:
  return sum(batch.columns for batch in batches)


def _mixes(
  best: Sequence[Microbatch],
  units: Sequence[_Unit],
  rows: int,
  columns: int,
  widths: Sequence[int],
) -> list[_Mix]:
  """The mixes that are worth a try instead of `best`, fewest columns first."""
  prefixes = {u.members[0].prompt.id: u.prefix for u in units}
  least = sum(u.tokens for u in units) + sum(prefixes.values())
  sizes_U = np.array([u.prefix + u.tokens for u in units])
  found = []
  for width in widths:
    longer, beside = int((sizes_U > width).sum()), columns // (width + 1)
    for wide in range(len(best)):
      # Wide rows hold what is longer than narrow ones, `beside` in each at
      # most, unless they share a prompt.
      if longer <= wide * rows * beside:
        more = range(1, len(best) - wide + 1)
        found += (_Mix(columns, wide, width, narrow) for narrow in more)
  most = _columns(best) * (1 - SAVES)
  found = [mix for mix in found if least <= mix.total * rows <= most * rows]
  found.sort(key=lambda mix: (mix.total, mix))
  return found[:: 1 + len(found) // TRIES]


class _Writer:
  """Fills one row of a batch, given as views of [T]."""

  def __init__(self, data: PackedBatch, share_prompts: bool):
    self.data = data
    self.share_prompts = share_prompts
    self.used = 0
    self.segment = 0

  def _append(self, tokens: np.ndarray, prefix: int, first: int) -> slice:
    place = slice(self.used, self.used + len(tokens))
    self.segment += 1
    self.used = place.stop
    self.data.tokens_BT[place] = tokens
    self.data.segment_BT[place] = self.segment
    self.data.prefix_BT[place] = prefix
    self.data.position_BT[place] = first + np.arange(len(tokens))
    return place

  def add(self, prompt: types.Prompt, members: Sequence[Trained]) -> None:
    """Adds a prompt with its rollouts in this row."""
    shared = len(prompt.tokens) - 1 if self.share_prompts else 0
    # A prompt of one token has an empty prefix, so its prefix is segment 0, the
    # padding that nothing sees.
    prefix = 0
    if shared:
      self._append(prompt.tokens[:shared], 0, 0)
      prefix = self.segment
    for t in members:
      response = t.rollout.tokens
      inputs = np.concatenate([prompt.tokens[shared:], response[:-1]])
      stop = self._append(inputs, prefix, shared).stop
      place = slice(stop - len(response), stop)
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
  multiple: int = 0,
  share_prompts: bool = True,
  even_tokens: float = math.inf,
) -> list[PackedBatch]:
  """Microbatches of `rows` x `columns`, placed as by `plan`; at least one.

  Some may be narrower: of a width of `ladder`. Weights are over the whole
  batch, so the sums of their gradients do not depend on it, except for
  rounding.

  `rows` is a multiple of the mesh's row shards; missing rows are padding.
  Sharing saves the prompt's tokens for every further rollout of its group in a
  row. So it pays where prompts are long compared to responses, or where rows
  hold many rollouts of a group (sums with examples: 7 times fewer tokens). With
  prompts of 150 and responses of 10,000 tokens it saves less than 1 in 100, and
  a kernel that knows only segments is worth more. `even_tokens` is that of
  `row_cost`; inf means that attention costs nothing.

  Raises:
    ValueError: a prompt and one response are longer than a row.
  """
  planned = plan(
    groups,
    rows=rows,
    columns=columns,
    multiple=multiple,
    share_prompts=share_prompts,
    even_tokens=even_tokens,
  )
  batches = []
  for width, batch_rows in planned or [Microbatch(columns, [])]:
    shape = rows, width
    batch = PackedBatch(
      *(
        np.zeros(shape, np.int32 if name in WHOLE else np.float32)
        for name in PackedBatch._fields
      )
    )
    batch.tokens_BT[:] = pad_token
    for i, row in enumerate(batch_rows):
      writer = _Writer(PackedBatch(*(x[i] for x in batch)), share_prompts)
      for _, members in itertools.groupby(row, key=lambda t: t.prompt.id):
        members = list(members)
        writer.add(members[0].prompt, members)
    batches.append(batch)
  return batches
