"""Adds up the rows of a run's rollouts: verdicts, their details, prompts.

A run may have millions of rows, so no row becomes a Python object. Each file is
reduced to a few counts, by threads, and these are merged in order of steps.
"""

import concurrent.futures
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute

from acereason_jax import storage, types
from acereason_jax.data import archive
from acereason_jax.reporting import samples

RIGHT, UNPARSED = map(types.STATUSES.index, ('right', 'unparsed'))
_COLUMNS = (
  *('stage', 'domain', 'prompt', 'status', 'detail', 'reward', 'counted'),
  *('trained', 'length', 'stop'),
)
# Threads: a bucket answers many at once, and a disk is faster than Python.
_AT_ONCE, _AT_ONCE_REMOTE = 2, 16
# Different details that are counted of a file and of a run, the most frequent
# first, and different prompts of a run.
_MOST_OF_FILE, _MOST_DETAILS, _MOST_PROMPTS = 200, 20_000, 1 << 18
_TOLD = 3


class Cell(NamedTuple):
  """Sums over the rollouts of a phase, stage, domain and status.

  rollouts: how many.
  tokens: tokens of their responses.
  truncated: those cut off at the longest length.
  rewarded: those with a reward above 0.
  counted: those in the average of the loss.
  trained: those with a gradient.
  """

  rollouts: int
  tokens: int
  truncated: int
  rewarded: int
  counted: int
  trained: int


class Detail(NamedTuple):
  """A kind of detail: numbers and quoted text in it do not tell kinds apart.

  phase, domain, status: of its rollouts.
  kind: the detail with # for numbers and '..' for quoted text.
  count: number of rollouts.
  recent: those in the last third of the steps.
  first, last: first and last step.
  example: the detail of one of them, whole.
  prompt: id of its prompt.
  """

  phase: str
  domain: str
  status: str
  kind: str
  count: int
  recent: int
  first: int
  last: int
  example: str
  prompt: str


class Asked(NamedTuple):
  """All training rollouts of a prompt.

  prompt, domain: which prompt.
  steps: number of steps that asked it.
  counts: number of rollouts by status, in the order of types.STATUSES.
  truncated: those cut off at the longest length.
  detail: the detail of all that are neither right nor unparsed; '' without
    such rollouts, None if it differs.
  """

  prompt: str
  domain: str
  steps: int
  counts: Sequence[int]
  truncated: int
  detail: str | None

  @property
  def rollouts(self) -> int:
    return sum(self.counts)

  @property
  def right(self) -> int:
    return self.counts[RIGHT]


class Tally(NamedTuple):
  """All rows of a run, added up.

  rollouts: number of rows.
  cells: sums by (phase, stage, domain, status).
  details: details of rollouts that are not right, most frequent first.
  prompts: the prompts that training asked.
  statuses: rollouts of training by status, as in types.STATUSES, by step.
  notes: what was not read, one sentence each.
  """

  rollouts: int = 0
  cells: Mapping[tuple[str, str, str, str], Cell] = types.EMPTY
  details: Sequence[Detail] = ()
  prompts: Sequence[Asked] = ()
  statuses: Mapping[int, Sequence[int]] = types.EMPTY
  notes: Sequence[str] = ()


class _Reduced(NamedTuple):
  """What a file of rows is reduced to."""

  place: archive.Place
  rollouts: int
  cells: list[tuple[tuple[str, str, str], list[int]]]
  details: list[tuple[str, str, str, int, str, str]]
  prompts: list[tuple[str, str, list[int], int, str | None]]


def places(folder: str, steps: range) -> list[archive.Place]:
  """The files of rows of these steps, in order. Raises: OSError."""
  return [p for p in samples.places(folder) if p.step in steps]


def tally(folder: str, steps: range) -> Tally:
  """Adds up the rows of the steps among `steps`.

  A damaged file is left out, and a note says so. Raises: OSError.
  """
  wanted = places(folder, steps)
  if not wanted:
    return Tally()
  sums = _Sums(recent=wanted[-1].step - (wanted[-1].step - wanted[0].step) // 3)
  threads = _AT_ONCE_REMOTE if storage.is_remote(folder) else _AT_ONCE
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    jobs = pool.map(lambda place: _read(folder, place), wanted)
    for place, found in zip(wanted, jobs):
      if isinstance(found, str):
        sums.damaged.append(f'{archive.FOLDER}/{place.name}: {found}')
      elif found is not None:
        sums.add(found)
  return sums.total()


def _read(folder: str, place: archive.Place) -> _Reduced | str | None:
  """Counts of a file; what is wrong with it; None if it is gone."""
  path = storage.join(folder, archive.FOLDER, place.name)
  try:
    data = storage.read(path, archive.MAX_FILE_BYTES)
    return None if data is None else reduced(place, data)
  except (ValueError, pyarrow.ArrowException) as e:
    return ' '.join(str(e).split())[:200]


def reduced(place: archive.Place, data: bytes) -> _Reduced:
  """Counts of a file of rows. Raises: ValueError, pyarrow.ArrowException."""
  table = archive.read_rows(data, _COLUMNS).unify_dictionaries()
  coded = {
    name: _Coded.of(table.column(name))
    for name in ('stage', 'domain', 'prompt', 'status', 'detail', 'stop')
  }
  status = _status_codes(coded['status'])
  number = lambda name: table.column(name).to_numpy()
  truncated = coded['stop'].equal('length')
  sums = (
    np.ones(len(table)),
    number('length'),
    truncated,
    np.nan_to_num(number('reward')) > 0,
    number('counted'),
    number('trained'),
  )
  cells = _cells(coded['stage'], coded['domain'], status, sums)
  details, prompts = [], []
  if len(table):
    details = _details(coded, status)
    if place.phase == archive.TRAIN:
      prompts = _prompts(coded, status, truncated)
  return _Reduced(place, len(table), cells, details, prompts)


class _Coded(NamedTuple):
  """A column of texts: the code of each row, int64, and the text of each code.

  texts: a pyarrow.Array.
  """

  codes: np.ndarray
  texts: Any

  @classmethod
  def of(cls, column: Any) -> '_Coded':
    whole = column.combine_chunks()
    codes = whole.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return cls(codes, whole.dictionary)

  def equal(self, text: str) -> np.ndarray:
    """Whether each row has this text; bool."""
    same = pyarrow.compute.equal(self.texts, text)
    return same.to_numpy(zero_copy_only=False).astype(bool)[self.codes]


def _status_codes(column: _Coded) -> np.ndarray:
  """The place of each row's status in types.STATUSES. Raises: ValueError."""
  texts = column.texts.to_pylist()
  if unknown := set(texts).difference(types.STATUSES):
    raise ValueError(f'a status {min(unknown)[:40]!r}, which no judge gives')
  places = np.array([types.STATUSES.index(text) for text in texts], np.int64)
  return places[column.codes]


def _cells(
  stage: _Coded, domain: _Coded, status: np.ndarray, sums: Sequence[np.ndarray]
) -> list[tuple[tuple[str, str, str], list[int]]]:
  width = max(len(domain.texts), 1)
  keys = (stage.codes * width + domain.codes) * len(types.STATUSES) + status
  found, places = np.unique(keys, return_inverse=True)
  totals = [np.bincount(places, each, len(found)) for each in sums]
  both, which = np.divmod(found, len(types.STATUSES))
  stages, domains = (
    _texts(c, i) for c, i in zip((stage, domain), np.divmod(both, width))
  )
  names = zip(stages, domains, [types.STATUSES[i] for i in which.tolist()])
  numbers = np.array(totals, np.int64).T.tolist()
  return list(zip(names, numbers))


def _texts(column: _Coded, codes: np.ndarray) -> list[str]:
  return column.texts.take(pyarrow.array(codes)).to_pylist()


def _details(
  coded: Mapping[str, _Coded], status: np.ndarray
) -> list[tuple[str, str, str, int, str, str]]:
  """(domain, status, kind, count, example, its prompt), most frequent first."""
  rows = np.flatnonzero(status != RIGHT)
  kinds = kinds_of(coded['detail'].texts).dictionary_encode()
  kind = kinds.indices.to_numpy(zero_copy_only=False).astype(np.int64)
  kind = kind[coded['detail'].codes[rows]]
  domain = coded['domain'].codes[rows]
  place = domain * len(types.STATUSES) + status[rows]
  keys = place * max(len(kinds), 1) + kind
  _, firsts, counts = np.unique(keys, return_index=True, return_counts=True)
  most = np.argsort(-counts, kind='stable')[:_MOST_OF_FILE]
  firsts, counts = firsts[most], counts[most]
  there = rows[firsts]
  texts = lambda name: _texts(coded[name], coded[name].codes[there])
  shown = kinds.dictionary.take(pyarrow.array(kind[firsts])).to_pylist()
  return list(
    zip(
      texts('domain'),
      [types.STATUSES[i] for i in status[there].tolist()],
      shown,
      counts.tolist(),
      [text[: archive.DETAIL_CHARS] for text in texts('detail')],
      texts('prompt'),
    )
  )


def kinds_of(details: Any) -> Any:
  """The kind of each detail, a pyarrow.Array of texts; see `Detail`."""
  cut = pyarrow.compute.utf8_slice_codeunits(details, 0, archive.DETAIL_CHARS)
  # A quote may have lost its end.
  quoted = '\'[^\']*(\'|$)|"[^"]*("|$)'
  plain = pyarrow.compute.replace_substring_regex(cut, quoted, "'..'")
  return pyarrow.compute.replace_substring_regex(
    plain, r'[0-9]+(\.[0-9]+)?', '#'
  )


def _prompts(
  coded: Mapping[str, _Coded], status: np.ndarray, truncated: np.ndarray
) -> list[tuple[str, str, list[int], int, str | None]]:
  """(prompt, domain, rollouts by status, truncated, detail if it is one)."""
  found, firsts, place = np.unique(
    coded['prompt'].codes, return_index=True, return_inverse=True
  )
  width = len(types.STATUSES)
  counts = np.bincount(place * width + status, minlength=width * len(found))
  cut = np.bincount(place, truncated, len(found)).astype(np.int64)
  detail = coded['detail']
  rows = np.flatnonzero((status != RIGHT) & (status != UNPARSED))
  low = np.full(len(found), len(detail.texts))
  high = np.full(len(found), -1)
  np.minimum.at(low, place[rows], detail.codes[rows])
  np.maximum.at(high, place[rows], detail.codes[rows])
  known = [text[: archive.DETAIL_CHARS] for text in detail.texts.to_pylist()]
  one = [
    known[b] if a == b else ('' if b < 0 else None)
    for a, b in zip(low.tolist(), high.tolist())
  ]
  return list(
    zip(
      _texts(coded['prompt'], found),
      _texts(coded['domain'], coded['domain'].codes[firsts]),
      counts.reshape(-1, width).tolist(),
      cut.tolist(),
      one,
    )
  )


@dataclasses.dataclass
class _Sums:
  """The sums of the files so far; `recent` is the first step that is recent."""

  recent: int
  rollouts: int = 0
  cells: dict = dataclasses.field(default_factory=dict)
  details: dict = dataclasses.field(default_factory=dict)
  prompts: dict = dataclasses.field(default_factory=dict)
  statuses: dict = dataclasses.field(default_factory=dict)
  damaged: list[str] = dataclasses.field(default_factory=list)
  left_out: int = 0

  def add(self, file: _Reduced) -> None:
    step, phase = file.place
    self.rollouts += file.rollouts
    by_status = dict.fromkeys(types.STATUSES, 0)
    for names, numbers in file.cells:
      total = self.cells.setdefault((phase, *names), [0] * len(numbers))
      total[:] = [a + b for a, b in zip(total, numbers)]
      by_status[names[-1]] += numbers[0]
    if phase == archive.TRAIN:
      self.statuses[step] = list(by_status.values())
    for domain, status, kind, count, example, prompt in file.details:
      key = phase, domain, status, kind
      here = [0, 0, step, step, example, prompt]
      known = self.details.setdefault(key, here)
      known[0] += count
      known[1] += count if step >= self.recent else 0
      known[3] = step
    if len(self.details) > 2 * _MOST_DETAILS:
      ranked = sorted(self.details.items(), key=lambda pair: -pair[1][0])
      self.details = dict(ranked[:_MOST_DETAILS])
    for prompt, *numbers in file.prompts:
      self._add_prompt(prompt, *numbers)

  def _add_prompt(
    self,
    prompt: str,
    domain: str,
    counts: list[int],
    truncated: int,
    detail: str | None,
  ) -> None:
    if (known := self.prompts.get(prompt)) is None:
      if len(self.prompts) >= _MOST_PROMPTS:
        self.left_out += 1
        return
      self.prompts[prompt] = [domain, 1, counts, truncated, detail]
      return
    known[1] += 1
    known[2] = [a + b for a, b in zip(known[2], counts)]
    known[3] += truncated
    # '': none so far.
    if detail != '':
      known[4] = detail if known[4] in ('', detail) else None

  def total(self) -> Tally:
    notes = [f'Not read: {line}.' for line in self.damaged[:_TOLD]]
    if (more := len(self.damaged) - _TOLD) > 0:
      notes.append(f'Not read: {more} more files of rollouts.')
    if self.left_out:
      notes.append(
        f'Rows of prompts after the first {_MOST_PROMPTS:,} are in no count of '
        'prompts.'
      )
    ranked = sorted(self.details.items(), key=lambda pair: -pair[1][0])
    return Tally(
      self.rollouts,
      {key: Cell(*numbers) for key, numbers in self.cells.items()},
      [Detail(*key, *rest) for key, rest in ranked],
      [Asked(prompt, *rest) for prompt, rest in self.prompts.items()],
      self.statuses,
      notes,
    )
