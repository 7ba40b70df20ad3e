"""Chooses the rollouts of a page: whole groups, spread over steps and verdicts.

A group has a cell for each (stage, phase, verdict) of its rollouts. Groups are
taken one by one, each for the cell that has the fewest so far, and each cell
gives its earliest group, its latest, the one between, and so on. So whatever
fits has early and late rollouts, and all kinds of verdicts.
"""

import collections
import concurrent.futures
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow

from acereason_jax import storage
from acereason_jax.data import archive
from acereason_jax.reporting import values

# The columns that `groups_of` reads.
COLUMNS = ('stage', 'prompt', 'status', 'length', 'stop', 'kept')
SCALES = dict(
  surprise=tuple(archive.SURPRISE),
  entropy=tuple(archive.ENTROPY),
  mismatch=tuple(archive.MISMATCH),
)
NOT_ASKED = values.Why((), 'The judge was not asked.', '')
TRUNCATED = 'truncated'
_DIGITS = dict(reward=4, advantage=4, logp=2, entropy=2)
# Bytes of a page for a token and a rollout, until some are known, and for the
# judge's explanation.
_TOKEN_BYTES, _ROLLOUT_BYTES, _WHY_BYTES = 5.5, 500, 1500
# Share of the page for the newest held-out look.
_LOOK_SHARE = 0.5
# Groups that do not fit, one after another, before the page counts as full.
_MISSES = 100
_ROUNDS, _MORE = 6, 20
# A bucket answers many at once; a disk is faster than Python.
_AT_ONCE, _AT_ONCE_REMOTE = 2, 16
_TOLD = 3


class Group(NamedTuple):
  """The rollouts of a prompt in a file, whose texts a run kept.

  place: the file.
  prompt: the prompt's id.
  rollouts: number of rollouts.
  tokens: tokens of all responses.
  cells: (stage, phase, verdict) of its rollouts; TRUNCATED is a verdict too.
  """

  place: archive.Place
  prompt: str
  rollouts: int
  tokens: int
  cells: frozenset[tuple[str, str, str]]


class Index(NamedTuple):
  """The groups of a run.

  groups: groups whose texts were kept, maybe not any more.
  rollouts: number of all rollouts, with or without texts.
  notes: what was not read, one sentence each.
  """

  groups: Sequence[Group]
  rollouts: int
  notes: Sequence[str] = ()


def groups_of(place: archive.Place, table: Any) -> list[Group]:
  """The groups of a file whose texts were kept; `table` has COLUMNS at least.

  Raises:
    ValueError, pyarrow.ArrowException: another table.
  """
  kept = table.column('kept').combine_chunks()
  empty = np.array([text == '' for text in kept.dictionary.to_pylist()], bool)
  codes = kept.indices.to_numpy(zero_copy_only=False)
  chosen = np.flatnonzero(~empty[codes]) if len(codes) else []
  part = table.select(COLUMNS).take(pyarrow.array(chosen, pyarrow.int64()))
  found = collections.defaultdict(list)
  for row in part.to_pylist():
    found[row['prompt']].append(row)
  return [_group(place, prompt, rows) for prompt, rows in found.items()]


def _group(
  place: archive.Place, prompt: str, rows: Sequence[Mapping[str, Any]]
) -> Group:
  cells = {(row['stage'], place.phase, row['status']) for row in rows}
  cells |= {
    (row['stage'], place.phase, TRUNCATED)
    for row in rows
    if row['stop'] == 'length'
  }
  tokens = sum(max(row['length'], 0) for row in rows)
  return Group(place, prompt, len(rows), tokens, frozenset(cells))


def read_index(folder: str, steps: tuple[int, int] | None = None) -> Index:
  """Reads the rows of a run, of all steps or of first to last.

  A damaged file is left out, and a note says so. Raises: OSError.
  """
  wanted = [p for p in places(folder) if _within(p, steps)]
  groups: list[Group] = []
  rollouts, damaged = 0, []
  threads = _AT_ONCE_REMOTE if storage.is_remote(folder) else _AT_ONCE
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for place, found in zip(wanted, pool.map(_reader(folder), wanted)):
      if isinstance(found, str):
        damaged.append(f'{archive.FOLDER}/{place.name}: {found}')
      else:
        rollouts += found[0]
        groups += found[1]
  return Index(groups, rollouts, _told(damaged))


def _reader(
  folder: str,
) -> Callable[[archive.Place], tuple[int, list[Group]] | str]:
  """Reads (number of rows, groups) of a file, or what is wrong with it."""

  def read(place: archive.Place) -> tuple[int, list[Group]] | str:
    path = storage.join(folder, archive.FOLDER, place.name)
    try:
      data = storage.read(path, archive.MAX_FILE_BYTES)
      if data is None:
        return 0, []  # It was removed meanwhile.
      table = archive.read_rows(data, COLUMNS).unify_dictionaries()
      return len(table), groups_of(place, table)
    except (ValueError, pyarrow.ArrowException) as e:
      return _line(e)

  return read


def choose(
  folder: str,
  *,
  most_bytes: int,
  size: Callable[[values.Sample], int],
  steps: tuple[int, int] | None = None,
  index: Index | None = None,
) -> values.Samples:
  """Rollouts with texts that fit into `most_bytes` of a page, in order.

  Args:
    folder: folder of the run, on a disk or at gs://.
    most_bytes: bytes of the page for all of them.
    size: about the bytes of one in the page, without its explanation.
    steps: first and last step; None for all.
    index: the rows, if they were read; they are read otherwise.

  Raises: OSError.
  """
  if index is None:
    index = read_index(folder, steps)
  there = set(places(folder, f'{archive.TEXTS}/'))
  groups = [
    g for g in index.groups if g.place in there and _within(g.place, steps)
  ]
  loader = _Loader(folder, size)
  chosen = _fitting(list(_ordered(groups, most_bytes)), most_bytes, loader)
  found = [sample for group in chosen for sample in loader.samples[group]]
  held = sum(group.rollouts for group in groups)
  note = _note(len(found), held)
  return values.Samples(
    sorted(found, key=place_of),
    held,
    index.rollouts,
    ' '.join(filter(None, [note, *index.notes, *_told(loader.damaged)])),
    SCALES,
  )


def place_of(sample: values.Sample) -> tuple[int, str, str, int]:
  """(step, phase, prompt, index): rollouts of a group are neighbours."""
  row = sample.row
  return row['step'], row['phase'], row['prompt'], row['index']


def read_group(
  folder: str, place: archive.Place, prompt: str
) -> list[values.Sample]:
  """The rollouts of a group; [] if their texts are not there.

  Raises:
    ValueError, OSError: one line.
  """
  loader = _Loader(folder, lambda sample: 0)
  group = Group(place, prompt, 0, 0, frozenset())
  loader.load([group])
  if loader.damaged:
    raise ValueError(loader.damaged[0])
  return loader.samples.get(group, [])


def read_rows(
  folder: str, place: archive.Place, prompts: Iterable[str]
) -> list[dict[str, Any]] | None:
  """The rows of some prompts in a file; None without the file.

  Numbers are rounded, and nan is None. Raises: ValueError, OSError.
  """
  path = storage.join(folder, archive.FOLDER, place.name)
  data = storage.read(path, archive.MAX_FILE_BYTES)
  if data is None:
    return None
  table = archive.read_rows(data).unify_dictionaries()
  column = table.column('prompt').combine_chunks()
  wanted = set(prompts)
  ours = [text in wanted for text in column.dictionary.to_pylist()]
  codes = column.indices.to_numpy(zero_copy_only=False)
  rows = np.flatnonzero(np.array(ours, bool)[codes]) if len(codes) else []
  part = table.take(pyarrow.array(rows, pyarrow.int64()))
  # The name of the file counts: a stranger's rows may be of any step.
  here = place._asdict()
  return [_rounded(row) | here for row in part.to_pylist()]


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
  numbers = {
    name: round(row[name], digits) if math.isfinite(row[name]) else None
    for name, digits in _DIGITS.items()
  }
  return dict(row) | numbers


class _Loader:
  """The samples of groups, read file by file, and their bytes in the page."""

  def __init__(self, folder: str, size: Callable[[values.Sample], int]):
    self._folder, self._size = folder, size
    self.samples: dict[Group, list[values.Sample]] = {}
    self.sizes: dict[Group, float] = {}
    self.damaged: list[str] = []
    self._token_bytes = _TOKEN_BYTES

  def estimated(self, group: Group) -> float:
    """The bytes of a group in the page; about, until it is loaded."""
    if (size := self.sizes.get(group)) is not None:
      return size
    return _about(group, self._token_bytes)

  def load(self, groups: Iterable[Group]) -> None:
    """Reads groups; one without texts takes infinitely many bytes."""
    by_place = collections.defaultdict(list)
    for group in groups:
      by_place[group.place].append(group)
    for place, part in sorted(by_place.items()):
      found = self._read(place, {group.prompt for group in part})
      for group in part:
        samples = found.get(group.prompt, [])
        sizes = [self._size(sample) + _WHY_BYTES for sample in samples]
        self.sizes[group] = sum(sizes) if samples else math.inf
        if samples:
          self.samples[group] = samples
    self._learn()

  def _learn(self) -> None:
    """Estimates bytes of a token from the groups that are known."""
    rollouts = sum(group.rollouts for group in self.samples)
    tokens = sum(group.tokens for group in self.samples)
    total = sum(self.sizes[group] for group in self.samples)
    if tokens:
      rest = total - (_ROLLOUT_BYTES + _WHY_BYTES) * rollouts
      self._token_bytes = max(rest / tokens, 0.0)

  def _read(
    self, place: archive.Place, prompts: set[str]
  ) -> dict[str, list[values.Sample]]:
    path = storage.join(self._folder, archive.FOLDER, archive.TEXTS, place.name)
    try:
      data = storage.read(path, archive.MAX_FILE_BYTES)
      rows = read_rows(self._folder, place, prompts)
      if data is None or rows is None:
        return {}
      texts = archive.read_texts(data, prompts)
    except (ValueError, pyarrow.ArrowException) as e:
      line = f'{archive.FOLDER}/{place.name}: {_line(e)}'
      if line not in self.damaged:
        self.damaged.append(line)
      return {}
    by_key = {(row['prompt'], row['index']): row for row in rows}
    found = collections.defaultdict(list)
    for text in texts:
      # A row has one text, whatever a stranger's file holds.
      if (row := by_key.pop((text.prompt, text.index), None)) is not None:
        found[text.prompt].append(_sample(row, text))
    return found


def _about(group: Group, token_bytes: float) -> float:
  constant = (_ROLLOUT_BYTES + _WHY_BYTES) * group.rollouts
  return token_bytes * group.tokens + constant


def _sample(row: Mapping[str, Any], text: archive.Text) -> values.Sample:
  numbers = (text.characters, text.surprise, text.entropy, text.mismatch)
  return values.Sample(
    row,
    text.question,
    text.answer,
    text.text,
    *(None if each is None else each.tolist() for each in numbers),
    NOT_ASKED,
  )


def _fitting(
  order: Sequence[Group], most_bytes: int, loader: _Loader
) -> list[Group]:
  """The groups that fit, in their order of importance; they are loaded."""
  for _ in range(_ROUNDS):
    chosen = _taken(order, most_bytes, loader.estimated)
    missing = [group for group in chosen if group not in loader.sizes]
    if not missing:
      left = most_bytes - sum(loader.sizes[group] for group in chosen)
      missing = _near(order, left, loader)
    if not missing:
      return chosen
    loader.load(missing)
  loaded = [group for group in order if group in loader.sizes]
  return _taken(loaded, most_bytes, loader.estimated)


def _near(order: Sequence[Group], left: float, loader: _Loader) -> list[Group]:
  """Groups that may fit into what is left: estimates are up to twice too high.

  Only those that were not loaded.
  """
  unknown = (
    group
    for group in order
    if group not in loader.sizes and loader.estimated(group) <= 2 * left
  )
  return list(itertools.islice(unknown, _MORE))


def _taken(
  order: Sequence[Group], most_bytes: int, size: Callable[[Group], float]
) -> list[Group]:
  chosen, left, misses = [], float(most_bytes), 0
  for group in order:
    if (taken := size(group)) <= left:
      chosen.append(group)
      left, misses = left - taken, 0
    elif (misses := misses + 1) > _MISSES:
      break
  return chosen


def _ordered(groups: Sequence[Group], most_bytes: int) -> Iterator[Group]:
  """All groups: one of each cell, the newest held-out look, the others."""
  evenly = _evenly(groups)
  cells = set().union(*(group.cells for group in groups))
  seen: dict[Group, None] = {}
  while cells and (group := next(evenly, None)) is not None:
    cells -= group.cells
    seen[group] = None
  look = [g for g in groups if g.place.phase == archive.HELDOUT]
  newest = max((g.place for g in look), default=None)
  look = [g for g in look if g.place == newest]
  size = sum(_about(g, _TOKEN_BYTES) for g in look)
  if size <= _LOOK_SHARE * most_bytes:
    seen |= dict.fromkeys(look)
  yield from seen
  yield from (group for group in evenly if group not in seen)


def _evenly(groups: Sequence[Group]) -> Iterator[Group]:
  """All groups; each is taken for the cell that has the fewest so far."""
  left: dict[tuple[str, str, str], Iterator[Group]] = {}
  sizes: collections.Counter = collections.Counter()
  ordered = sorted(groups, key=lambda g: (g.place, g.prompt))
  by_cell = collections.defaultdict(list)
  for group in ordered:
    for cell in group.cells:
      by_cell[cell].append(group)
  for cell, part in by_cell.items():
    left[cell] = iter([part[i] for i in spread(len(part))])
    sizes[cell] = len(part)
  taken: set[Group] = set()
  counts: collections.Counter = collections.Counter()
  while left:
    cell = min(left, key=lambda c: (counts[c], sizes[c], c))
    group = next((g for g in left[cell] if g not in taken), None)
    if group is None:
      del left[cell]
      continue
    taken.add(group)
    counts.update(group.cells)
    yield group


def spread(count: int) -> Iterator[int]:
  """0 to count - 1: the first, the last, the one between, and so on."""
  seen, parts = set(), 1
  while len(seen) < count:
    for i in range(parts + 1):
      place = round((count - 1) * i / parts)
      if place not in seen:
        seen.add(place)
        yield place
    parts *= 2


def places(folder: str, below: str = '') -> list[archive.Place]:
  """The files of rows, or those in `below`, in order. Raises: OSError."""
  names = storage.names(storage.join(folder, archive.FOLDER))
  found = [
    archive.place(name.removeprefix(below))
    for name in names
    if name.startswith(below)
  ]
  return sorted(place for place in found if place is not None)


def _within(place: archive.Place, steps: tuple[int, int] | None) -> bool:
  return steps is None or steps[0] <= place.step <= steps[1]


def _note(shown: int, held: int) -> str:
  if shown == held:
    return ''
  return (
    'The other texts do not fit (--max_mb). Those here are whole groups, '
    'thinned evenly by stage and verdict.'
  )


def _told(damaged: Sequence[str]) -> list[str]:
  """Sentences for at most a few damaged files."""
  notes = [f'Not read: {line}.' for line in damaged[:_TOLD]]
  if (more := len(damaged) - _TOLD) > 0:
    notes.append(f'Not read: {more} more files of rollouts.')
  return notes


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())[:200]
