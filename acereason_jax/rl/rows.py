"""Rows of microbatches: which rollouts each holds, and in which columns."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types

# Parts of a whole row that narrower rows have, from coarse to fine: halves,
# quarters, eighths, sixteenths.
PARTS = 2, 4, 8, 16
# A width is a program of its own to compile, so a finer one is taken only where
# it saves at least this share of the columns of an update: the compile then
# takes less than it saves in some tens of updates.
SAVES = 1 / 32
# Mixes of widths that are tried of each fineness.
TRIES = 16


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

  @property
  def key(self) -> tuple[str, int]:
    """(prompt id, index), unique among the rollouts of a batch."""
    return self.prompt.id, self.rollout.index


class Layout(NamedTuple):
  """The shapes of microbatches; see `packing.pack`.

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


# The rollouts of a row; those of one prompt are next to each other.
Row = list[Trained]


class Segment(NamedTuple):
  """A segment of a row: a rollout, or a prompt that rollouts of the row share.

  number: its number in the row, from 1.
  prompt: its prompt, or that of its rollout.
  trained: its rollout; None for a shared prompt.
  columns: its columns in the row.
  before: number of tokens of the prompt that precede it, in its prefix.
  prefix: number of the segment that it sees too; 0 for none.
  """

  number: int
  prompt: types.Prompt
  trained: Trained | None
  columns: slice
  before: int
  prefix: int

  @property
  def targets(self) -> slice:
    """The columns that predict the tokens of its rollout."""
    stop = self.columns.stop
    return slice(stop - len(self.trained.rollout.tokens), stop)


class Place(NamedTuple):
  """Where a microbatch has the response of a rollout.

  row: its row.
  columns: columns that predict its tokens, one each.
  """

  row: int
  columns: slice


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


def segments(row: Row, share_prompts: bool) -> Iterator[Segment]:
  """The segments of a row, in its order."""
  start, number = 0, 1
  for _, members in itertools.groupby(row, key=lambda t: t.prompt.id):
    members = list(members)
    prompt = members[0].prompt
    shared = len(prompt.tokens) - 1 if share_prompts else 0
    # A prompt of one token has an empty prefix, so its prefix is segment 0, the
    # padding that nothing sees.
    prefix = 0
    if shared:
      columns = slice(start, start + shared)
      yield Segment(number, prompt, None, columns, 0, 0)
      prefix = number
      start, number = columns.stop, number + 1
    own = len(prompt.tokens) - 1 - shared
    for t in members:
      columns = slice(start, start + own + len(t.rollout.tokens))
      yield Segment(number, prompt, t, columns, shared, prefix)
      start, number = columns.stop, number + 1


def places(
  rows: Sequence[Row], share_prompts: bool
) -> dict[tuple[str, int], Place]:
  """Where the rows of a microbatch have each rollout, by `Trained.key`."""
  return {
    segment.trained.key: Place(i, segment.targets)
    for i, row in enumerate(rows)
    for segment in segments(row, share_prompts)
    if segment.trained is not None
  }


def row_tokens(row: Row, share_prompts: bool) -> int:
  """The number of columns of a row that are not padding."""
  return max((s.columns.stop for s in segments(row, share_prompts)), default=0)


def row_cost(row: Row, share_prompts: bool, even_tokens: float) -> float:
  """The cost of a row; the unit is a token that passes the weights.

  A token costs 1, and a query with a key that it sees costs 2 / `even_tokens`.
  A segment of `even_tokens` tokens then costs as much in attention as in
  products with weights (`Model.even_tokens`).
  """
  cost = 0.0
  for segment in segments(row, share_prompts):
    own = segment.columns.stop - segment.columns.start
    pairs = own * (own + 1) / 2 + own * segment.before
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
  ways = _ways(_by_prompt(groups, columns), columns, share_prompts)
  cost = lambda row: row_cost(row, share_prompts, even_tokens)
  cut = functools.partial(_cut, rows=rows, cost=cost)

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


def _by_prompt(
  groups: Sequence[Sequence[Trained]], columns: int
) -> list[list[Trained]]:
  """The rollouts of each prompt. Raises: ValueError, see `plan`."""
  prompts = collections.defaultdict(list)
  for t in itertools.chain.from_iterable(groups):
    need = len(t.prompt.tokens) - 1 + len(t.rollout.tokens)
    if need > columns:
      raise ValueError(
        f'config.microbatch.columns={columns}: prompt {t.prompt.id!r} and its '
        f'rollout {t.rollout.index} need {need} tokens; raise it'
      )
    prompts[t.prompt.id].append(t)
  return [*prompts.values()]


def _cut(
  filled: Sequence[Row], width: int, rows: int, cost: Callable[[Row], float]
) -> list[Microbatch]:
  """Microbatches of the rows that are not empty, dearest first."""
  dearest_first = lambda row: (-cost(row), *map(_order, row))
  filled = sorted(filter(None, filled), key=dearest_first)
  return [
    Microbatch(width, filled[i : i + rows]) for i in range(0, len(filled), rows)
  ]


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
