"""What became of every prompt: a record of each judged group, for good.

    python -m acereason_jax.ledger runs/quickstart
    python -m acereason_jax.ledger runs/quickstart --prompt=sum-3-4
    python -m acereason_jax.ledger ledger.parquet --became_solvable

A ledger is a value: `extended` gives another one and leaves it as it was. Only
verdicts are counted: a `timeout` or an `error` is no wrong answer, so shares
are of what was judged. `right` is the judge's word, and what the reports here
count: what the model can do. `solved` is what the stage gave a reward for, and
what filters go by: what is left to train on. Prompts are told apart by their
ids only, which must differ over all data of a run.
"""

import argparse
import itertools
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from absl import logging

from acereason_jax import types
from acereason_jax.console import oserrors
from acereason_jax.data import records as record_files
from acereason_jax.rl import advantages
from acereason_jax.run import checkpoint, metrics

KINDS = TRAIN, PROBE = 'train', 'probe'

_TEXTS = 'stage', 'domain', 'prompt'
_JUDGED = 'right', 'wrong', 'unparsed'
_VERDICTS = (*_JUDGED, 'timeout', 'error')
_MAX_RECORDS = 1 << 23
_MAX_CHARS = 1024
_MAX_BYTES = 1 << 30
_SHOWN_CHARS = 80
_NEVER = np.iinfo(np.int64).max


class Record(NamedTuple):
  """A judged group: how many rollouts of a prompt got which verdict.

  `kind` is 'train', of the batch of `step` (from 1, over all stages), or
  'probe', asked after `step` steps (0: before the first). `prompt` is its id,
  `epoch` that of its domain in the stage, from 0. `truncated` rollouts ran
  out of room; `tokens` is the sum of the lengths of all responses, `longest`
  the largest of them. `solved` of the right ones had a reward above 0 by the
  rules of their stage.
  """

  kind: str
  stage: str
  epoch: int
  step: int
  domain: str
  prompt: str
  right: int
  wrong: int
  unparsed: int
  timeout: int
  error: int
  truncated: int
  tokens: int
  longest: int
  solved: int

  @property
  def judged(self) -> int:
    return self.right + self.wrong + self.unparsed

  @property
  def rollouts(self) -> int:
    return self.judged + self.timeout + self.error


_NUMBERS = [n for n in Record._fields if n not in ('kind', *_TEXTS)]
_WIDTHS = {n: 'int64' if n == 'tokens' else 'int32' for n in _NUMBERS}
_CODED = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
_SCHEMA = pyarrow.schema(
  [
    pyarrow.field(name, _WIDTHS.get(name, _CODED), nullable=False)
    for name in Record._fields
  ]
)
# Texts and kinds as codes.
_ROW = np.dtype([(name, _WIDTHS.get(name, 'int32')) for name in Record._fields])


def records(
  groups: Sequence[types.Group],
  kind: str,
  stage: str,
  epochs: Sequence[int],
  step: int,
  rules: advantages.Rules,
) -> list[Record]:
  """A record a group, in order; `epochs` holds that of each group's prompt.

  A prompt that stands twice in a batch has two groups, maybe of two epochs.

  Raises:
    ValueError: not as many epochs as groups.
  """
  if len(groups) != len(epochs):
    raise ValueError(
      f'{len(groups)} groups, {len(epochs)} epochs: give one a group'
    )
  return [
    _record(group, kind, stage, epoch, step, rules)
    for group, epoch in zip(groups, epochs)
  ]


def _record(
  group: types.Group,
  kind: str,
  stage: str,
  epoch: int,
  step: int,
  rules: advantages.Rules,
) -> Record:
  statuses = [verdict.status for verdict in group.verdicts]
  lengths = [len(rollout.tokens) for rollout in group.rollouts]
  return Record(
    kind,
    stage,
    epoch,
    step,
    group.prompt.domain,
    group.prompt.id,
    right=statuses.count('right'),
    wrong=statuses.count('wrong'),
    unparsed=statuses.count('unparsed'),
    timeout=statuses.count('timeout'),
    error=statuses.count('error'),
    truncated=sum(rollout.stop == 'length' for rollout in group.rollouts),
    tokens=sum(lengths),
    longest=max(lengths),
    solved=sum(
      verdict.judged and advantages.reward(rollout, verdict, rules) > 0
      for rollout, verdict in zip(group.rollouts, group.verdicts)
    ),
  )


class Ledger:
  """Records in order of their steps; equal to another with the same records.

  To extend the newest of a line of ledgers costs what the new records cost:
  they share memory, and each sees its own first records alone. To extend an
  older one copies it.
  """

  def __init__(self, records: Iterable[Record] = ()):
    """Raises: ValueError, see `extended`."""
    self._memory = _Memory(np.zeros(0, _ROW), {name: {} for name in _TEXTS})
    self._count = self._memory.append(records)

  def extended(self, records: Iterable[Record]) -> 'Ledger':
    """This and then `records`.

    Raises:
      ValueError: one line naming the first record that cannot be.
    """
    if self._count != self._memory.count:
      return Ledger(self).extended(records)
    return _of(self._memory, self._memory.append(records))

  def __len__(self) -> int:
    return self._count

  def __iter__(self) -> Iterator[Record]:
    return self.at(np.arange(self._count))

  def __eq__(self, other: Any) -> bool:
    if not isinstance(other, Ledger):
      return NotImplemented
    # Codes count up by first appearance, so equal records have equal codes.
    return np.array_equal(self.rows, other.rows) and all(
      self.texts(name) == other.texts(name) for name in _TEXTS
    )

  __hash__ = None

  @property
  def rows(self) -> np.ndarray:
    """[len] of `_ROW`, read-only; texts and kinds are codes."""
    view = self._memory.rows[: self._count]
    view.flags.writeable = False
    return view

  def texts(self, name: str) -> list[str]:
    """What the codes 0, 1, ... of a column stand for, as far as used here."""
    used = int(self.rows[name].max(initial=-1)) + 1
    return list(itertools.islice(self._memory.texts[name], used))

  def at(self, places: np.ndarray) -> Iterator[Record]:
    """The records at these places, int [N]."""
    stages, domains, prompts = (self.texts(name) for name in _TEXTS)
    for kind, stage, epoch, step, domain, prompt, *counts in self.rows[
      places
    ].tolist():
      yield Record(
        KINDS[kind],
        stages[stage],
        epoch,
        step,
        domains[domain],
        prompts[prompt],
        *counts,
      )

  def to_parquet(self) -> bytes:
    """A Parquet file of a column a field; equal ledgers give equal bytes.

    About 9 bytes a record: 5.5 MB for 640,000 of 49,000 prompts whose ids are
    16 hexadecimal digits, with 16 rollouts each of thousands of tokens.
    """
    texts = dict(kind=KINDS) | {name: self.texts(name) for name in _TEXTS}
    columns = {n: np.ascontiguousarray(self.rows[n]) for n in Record._fields}
    for name, known in texts.items():
      columns[name] = pyarrow.DictionaryArray.from_arrays(
        columns[name], pyarrow.array(known, 'string')
      )
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(
      pyarrow.table(columns, _SCHEMA),
      sink,
      compression='zstd',
      use_dictionary=list(texts),
      column_encoding=dict.fromkeys(_NUMBERS, 'DELTA_BINARY_PACKED'),
      write_statistics=False,
      write_page_checksum=True,
      # Nothing but the columns: see `_read_columns`.
      store_schema=False,
    )
    return sink.getvalue().to_pybytes()


class _Memory:
  """What a line of ledgers shares: rows, and a code for each text of a column.

  `rows` is longer than `count`: it doubles where it is full.
  """

  def __init__(self, rows: np.ndarray, texts: dict[str, dict[str, int]]):
    """Raises: ValueError, see `_check`."""
    _check(rows, texts, first=0, step=0)
    self.rows, self.texts, self.count = rows, texts, len(rows)

  def append(self, records: Iterable[Record]) -> int:
    """The new count. After a ValueError all is as it was."""
    fresh = {name: {} for name in _TEXTS}
    rows = np.array([self._coded(r, fresh) for r in records], _ROW)
    step = int(self.rows['step'][self.count - 1]) if self.count else 0
    _check(rows, fresh, first=self.count, step=step)
    count = self.count + len(rows)
    if count > len(self.rows):
      larger = np.zeros(2 * count, _ROW)
      larger[: self.count] = self.rows[: self.count]
      self.rows = larger
    self.rows[self.count : count] = rows
    for name, codes in fresh.items():
      self.texts[name] |= codes
    self.count = count
    return count

  def _coded(self, record: Record, fresh: dict[str, dict[str, int]]) -> tuple:
    """`record` as a row; codes of new texts go into `fresh`."""
    if record.kind not in KINDS:
      raise ValueError(f'kind {record.kind!r}: expected one of {KINDS}')
    codes = dict(kind=KINDS.index(record.kind))
    for name in _TEXTS:
      text, known = getattr(record, name), self.texts[name]
      code = known.get(text)
      if code is None:
        code = fresh[name].setdefault(text, len(known) + len(fresh[name]))
      codes[name] = code
    return tuple(record._replace(**codes))


def _of(memory: _Memory, count: int) -> Ledger:
  ledger = object.__new__(Ledger)
  ledger._memory, ledger._count = memory, count
  return ledger


def _check(
  rows: np.ndarray, texts: Mapping[str, Iterable[str]], first: int, step: int
) -> None:
  """Raises ValueError if there is a text or a row that cannot be.

  `rows` stand at `first` and on, behind a row of `step`.
  """
  for name, values in texts.items():
    for text in values:
      if not _is_text(text):
        raise ValueError(
          f'{name} {text!r:.60}: expected valid Unicode of at most '
          f'{_MAX_CHARS} characters'
        )
  if first + len(rows) > _MAX_RECORDS:
    raise ValueError(
      f'{first + len(rows):,} records: a ledger holds {_MAX_RECORDS:,}'
    )
  whole = {name: rows[name].astype(np.int64) for name in _NUMBERS}
  rollouts = sum(whole[name] for name in _VERDICTS)
  steps = np.concatenate([[step], whole['step']])
  rules = {
    'a number below 0': np.logical_or.reduce([n < 0 for n in whole.values()]),
    'no rollouts': rollouts < 1,
    'more truncated than there are': whole['truncated'] > rollouts,
    'more solved than right': whole['solved'] > whole['right'],
    'tokens that do not fit the longest': (whole['tokens'] < whole['longest'])
    | (whole['tokens'] > whole['longest'] * rollouts),
    'a step before that of the record above it': np.diff(steps) < 0,
    'a batch of step 0': (rows['kind'] == KINDS.index(TRAIN))
    & (whole['step'] < 1),
  }
  for what, wrong in rules.items():
    if wrong.any():
      place = int(wrong.argmax())
      numbers = {name: int(n[place]) for name, n in whole.items()}
      raise ValueError(f'record {first + place}: {what}: {numbers}')


def _is_text(text: Any) -> bool:
  if not isinstance(text, str) or len(text) > _MAX_CHARS:
    return False
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True


def from_parquet(data: bytes) -> Ledger:
  """The ledger that `to_parquet` wrote; `data` may be anybody's.

  Raises:
    ValueError: one line saying what it is instead.
  """
  if len(data) > _MAX_BYTES:
    raise ValueError(f'{len(data):,} bytes: a ledger has {_MAX_BYTES:,}')
  try:
    columns = _read_columns(data)
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as e:
    reason = ' '.join(str(e).split())
    raise ValueError(f'no readable ledger ({reason:.200})') from e
  count = len(columns['kind'])
  rows, texts = np.zeros(count, _ROW), {}
  for name, column in columns.items():
    if name in _NUMBERS:
      rows[name] = column.to_numpy()
    else:
      rows[name], texts[name] = _by_appearance(column)
  kinds = list(texts.pop('kind'))
  if not set(kinds) <= set(KINDS):
    raise ValueError(f'kinds {kinds!r:.60}: expected {KINDS}')
  codes = np.array([KINDS.index(kind) for kind in kinds], np.int32)
  rows['kind'] = codes[rows['kind']]
  return _of(_Memory(rows, texts), count)


def _read_columns(data: bytes) -> dict[str, pyarrow.ChunkedArray]:
  """The columns of a file whose own words about itself were checked first.

  Texts stay behind their codes: a long one that is said to stand in each of
  many rows would else fill the memory.
  """
  source = pyarrow.BufferReader(data)
  head = pyarrow.parquet.read_metadata(source)
  unpacked = sum(
    head.row_group(i).total_byte_size for i in range(head.num_row_groups)
  )
  if max(head.num_rows, head.num_row_groups) > _MAX_RECORDS:
    raise ValueError(
      f'{head.num_rows:,} records: a ledger holds {_MAX_RECORDS:,}'
    )
  if unpacked > _MAX_BYTES:
    raise ValueError(f'{unpacked:,} bytes unpacked: at most {_MAX_BYTES:,}')
  expected = (
    f'no ledger: expected the columns {", ".join(_SCHEMA.names)} as '
    'acereason_jax.ledger writes them'
  )
  names = [head.schema.column(i).path for i in range(head.num_columns)]
  # Words beside the columns may name types that a reader would then make.
  if head.metadata or names != _SCHEMA.names:
    raise ValueError(expected)
  with pyarrow.parquet.ParquetFile(
    source,
    metadata=head,
    read_dictionary=[n for n in _SCHEMA.names if n not in _NUMBERS],
    page_checksum_verification=True,
  ) as file:
    if file.schema_arrow != _SCHEMA:
      raise ValueError(expected)
    table = file.read(use_threads=False)
  table.validate(full=True)
  if table.num_rows != head.num_rows:
    raise ValueError(f'{table.num_rows:,} records, not {head.num_rows:,}')
  return dict(zip(table.column_names, table.columns))


def _by_appearance(
  column: pyarrow.ChunkedArray,
) -> tuple[np.ndarray, dict[str, int]]:
  """(codes, {text: code}), where codes count up by first appearance."""
  texts: dict[str, int] = {}
  parts = [np.zeros(0, np.int32)]
  for chunk in column.chunks:
    known = chunk.dictionary.to_pylist()
    local = chunk.indices.to_numpy()
    used, firsts = np.unique(local, return_index=True)
    code_of = np.zeros(len(known), np.int32)
    for code in used[np.argsort(firsts)].tolist():
      code_of[code] = texts.setdefault(known[code], len(texts))
    parts.append(code_of[local])
  return np.concatenate(parts), texts


def _chosen(
  ledger: Ledger,
  *,
  kind: str | None = None,
  stage: str | None = None,
  before_step: int | None = None,
) -> np.ndarray:
  """Places of the records of a kind, of a stage, of earlier steps; int [N]."""
  rows = ledger.rows
  if before_step is not None:
    rows = rows[: np.searchsorted(rows['step'], before_step)]
  chosen = np.ones(len(rows), bool)
  if kind is not None:
    chosen &= rows['kind'] == KINDS.index(kind)
  if stage is not None:
    names = ledger.texts('stage')
    chosen &= rows['stage'] == (names.index(stage) if stage in names else -1)
  return np.flatnonzero(chosen)


def newest(
  ledger: Ledger,
  kind: str | None = None,
  stage: str | None = None,
  before_step: int | None = None,
) -> dict[str, Record]:
  """The last record of each prompt that has one; None: of any."""
  chosen = _chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  places = _last_of_each_prompt(ledger, chosen)
  return {record.prompt: record for record in ledger.at(places)}


def mean_lengths(ledger: Ledger) -> dict[str, float]:
  """The mean length of a response in each prompt's last record, in tokens."""
  # Column by column, as in `counts`: every step asks this.
  places = _last_of_each_prompt(ledger, np.arange(len(ledger)))
  column = lambda name: ledger.rows[name][places].astype(np.int64)
  means = column('tokens') / sum(column(name) for name in _VERDICTS)
  names = ledger.texts('prompt')
  return dict(zip((names[p] for p in column('prompt')), means.tolist()))


def _last_of_each_prompt(ledger: Ledger, chosen: np.ndarray) -> np.ndarray:
  """Of chosen places those with a prompt's last record; int [P]."""
  last = np.full(len(ledger.texts('prompt')), -1)
  np.maximum.at(last, ledger.rows['prompt'][chosen], chosen)
  return last[last >= 0]


def asked(
  ledger: Ledger, *, kind: str, stage: str, before_step: int, since_step: int
) -> set[str]:
  """The prompts of records of a kind, of a stage, of these steps."""
  chosen = _chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  chosen = chosen[ledger.rows['step'][chosen] >= since_step]
  names = ledger.texts('prompt')
  codes = np.unique(ledger.rows['prompt'][chosen])
  return {names[code] for code in codes.tolist()}


class Counts(NamedTuple):
  """Of `judged` rollouts, 1 or more, `solved` had a reward above 0."""

  solved: int
  judged: int


def counts(
  ledger: Ledger,
  *,
  kind: str,
  stage: str,
  before_step: int,
  since_step: int = 0,
  min_judged: float = 0.0,
) -> dict[str, Counts]:
  """What a stage knows of each prompt: the sums over its newest epoch.

  Records of steps before `since_step` are of another stage of that name.

  A record of which less than the share `min_judged` was judged, or nothing,
  says nothing, so the epoch before it is the newest one then.
  """
  rows = ledger.rows
  chosen = _chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  chosen = chosen[rows['step'][chosen] >= since_step]
  # Column by column: to copy rows whole takes several times as long.
  column = lambda name: rows[name][chosen].astype(np.int64)
  judged = sum(column(name) for name in _JUDGED)
  rollouts = sum(column(name) for name in _VERDICTS)
  known = (judged > 0) & (judged >= min_judged * rollouts)
  solved, judged = (np.where(known, n, 0) for n in (column('solved'), judged))
  prompt, epoch = (rows[name][chosen] for name in ('prompt', 'epoch'))
  names = ledger.texts('prompt')
  last_epoch = np.full(len(names), -1, np.int32)
  np.maximum.at(last_epoch, prompt, np.where(known, epoch, -1))
  counted = epoch == last_epoch[prompt]
  totals = [
    np.bincount(prompt[counted], values[counted], minlength=len(names))
    for values in (solved, judged)
  ]
  solved, judged = (total.astype(np.int64) for total in totals)
  return {
    names[code]: Counts(int(solved[code]), int(judged[code]))
    for code in np.flatnonzero(judged).tolist()
  }


def _judged(rows: np.ndarray) -> np.ndarray:
  return sum(rows[name].astype(np.int64) for name in _JUDGED)


def solvable(ledger: Ledger) -> dict[str, int]:
  """{id: the step of its first right answer} of prompts that became solvable.

  In the first step that judged it, no rollout of such a prompt was right.
  """
  rows = ledger.rows
  judged = rows[_judged(rows) > 0]
  seen = _first_step(ledger, judged)
  solved = _first_step(ledger, judged[judged['right'] > 0])
  names = ledger.texts('prompt')
  became = np.flatnonzero((solved > seen) & (solved < _NEVER))
  return {names[code]: int(solved[code]) for code in became.tolist()}


def lost(ledger: Ledger, misses: int = 1) -> dict[str, int]:
  """{id: the step of its last right answer} of prompts solved once, not now.

  In the first step that judged it, a rollout of such a prompt was right; in
  its last `misses` records, all of later steps, none was.
  """
  rows = ledger.rows
  judged = rows[_judged(rows) > 0]
  right = judged[judged['right'] > 0]
  seen, solved = _first_step(ledger, judged), _first_step(ledger, right)
  names = ledger.texts('prompt')
  last = np.full(len(names), -1)
  np.maximum.at(last, right['prompt'], right['step'])
  since = judged['prompt'][judged['step'] > last[judged['prompt']]]
  missed = np.bincount(since, minlength=len(names))
  gone = np.flatnonzero((solved == seen) & (missed >= misses))
  return {names[code]: int(last[code]) for code in gone.tolist()}


def _first_step(ledger: Ledger, rows: np.ndarray) -> np.ndarray:
  """By code of a prompt the first step among the rows, or _NEVER."""
  first = np.full(len(ledger.texts('prompt')), _NEVER)
  np.minimum.at(first, rows['prompt'], rows['step'])
  return first


class Summary(NamedTuple):
  """An epoch of a stage. Shares of groups are of those with a verdict.

  `pass_rate` is of the `rollouts` that were judged, `truncated` a share of
  them all, `failed` a count; `mean_length` is in tokens. A share of nothing
  is nan.
  """

  stage: str
  kind: str
  epoch: int
  prompts: int
  rollouts: int
  pass_rate: float
  all_right: float
  mixed: float
  all_wrong: float
  truncated: float
  mean_length: float
  failed: int


def summary(ledger: Ledger) -> list[Summary]:
  """One of each kind, stage and epoch, in order of their first records."""
  rows = ledger.rows
  keys = rows[['stage', 'kind', 'epoch']]
  _, firsts, group = np.unique(keys, return_index=True, return_inverse=True)
  stages = ledger.texts('stage')
  return [
    Summary(
      stages[rows['stage'][firsts[i]]],
      KINDS[rows['kind'][firsts[i]]],
      int(rows['epoch'][firsts[i]]),
      *_summed(rows[group == i]),
    )
    for i in np.argsort(firsts).tolist()
  ]


def _summed(rows: np.ndarray) -> tuple:
  """The fields of a Summary behind `epoch`."""
  total = {name: int(rows[name].sum(dtype=np.int64)) for name in _NUMBERS}
  judged = _judged(rows)
  right, judged = rows['right'][judged > 0], judged[judged > 0]
  rollouts = sum(total[name] for name in _VERDICTS)
  solved, unsolved = int((right == judged).sum()), int((right == 0).sum())
  return (
    len(np.unique(rows['prompt'])),
    rollouts,
    _share(total['right'], int(judged.sum())),
    _share(solved, len(judged)),
    _share(len(judged) - solved - unsolved, len(judged)),
    _share(unsolved, len(judged)),
    _share(total['truncated'], rollouts),
    _share(total['tokens'], rollouts),
    total['timeout'] + total['error'],
  )


def _share(part: int, whole: int) -> float:
  return part / whole if whole else math.nan


def read(path: str) -> bytes:
  """The bytes of a run's newest ledger, or of a ledger's file.

  Raises:
    OSError, ValueError: one line; too large, or a run without a checkpoint.
  """
  if os.path.isdir(path):
    data = checkpoint.load_ledger(path)
    if data is None:
      raise FileNotFoundError(
        f'{path}: holds no checkpoint; give the folder of a run that has saved '
        'one, RUN/checkpoints/STEP, or a Parquet file'
      )
    return data
  with record_files.opened(path, most_bytes=None) as file:
    data = file.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES:
    raise ValueError(f'{path}: more than {_MAX_BYTES:,} bytes; is it a ledger?')
  return data


def _show_summary(ledger: Ledger) -> Iterator[str]:
  number = lambda x: f'{x:.3f}' if isinstance(x, float) else _safe(x)
  rows = [[number(field) for field in row] for row in summary(ledger)]
  return _table([Summary._fields, *rows])


def _show_prompt(ledger: Ledger, prompt: str) -> Iterator[str]:
  mine = [record for record in ledger if record.prompt == prompt]
  if not mine:
    raise ValueError(
      f'--prompt={prompt[:_SHOWN_CHARS]}: none of the {len(ledger):,} records '
      'is of it; give the id that its data file gives it'
    )
  hidden = 'domain', 'prompt'
  names = [name for name in Record._fields if name not in hidden]
  rows = [[_safe(getattr(record, name)) for name in names] for record in mine]
  return _table([names, *rows])


def _show_steps(found: Mapping[str, int]) -> Iterator[str]:
  ordered = sorted(found.items(), key=lambda pair: (pair[1], pair[0]))
  return _table([('step', 'prompt'), *((str(n), _safe(p)) for p, n in ordered)])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
  """Lines whose columns stand below each other; the last one is as it is."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  for row in rows:
    yield '  '.join(map(str.ljust, row, widths)).rstrip()


def _safe(value: Any) -> str:
  return metrics.one_line(str(value), _SHOWN_CHARS)


def make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m acereason_jax.ledger',
    description='What became of every prompt of a run.',
  )
  parser.add_argument('run', help='a ledger, as a Parquet file')
  what = parser.add_mutually_exclusive_group()
  what.add_argument('--prompt', help='shows the history of this id')
  what.add_argument(
    '--became_solvable',
    action='store_true',
    help='shows what was solved at first never, and at which step it was',
  )
  what.add_argument(
    '--lost',
    action='store_true',
    help='shows what was solved at first, and at which step last',
  )
  parser.add_argument('--stage', help='of this stage alone')
  parser.add_argument('--out', help='writes the records to this Parquet file')
  return parser


def _lines(args: argparse.Namespace, ledger: Ledger) -> Iterator[str]:
  """What the command shows."""
  if args.prompt is not None:
    return _show_prompt(ledger, args.prompt)
  if args.became_solvable:
    return _show_steps(solvable(ledger))
  if args.lost:
    return _show_steps(lost(ledger))
  return _show_summary(ledger)


def _of_stage(ledger: Ledger, stage: str) -> Ledger:
  if stage not in (names := ledger.texts('stage')):
    raise ValueError(
      f'--stage={stage[:_SHOWN_CHARS]}: the ledger has the stages '
      f'{", ".join(names)[:200]}'
    )
  return Ledger(ledger.at(_chosen(ledger, stage=stage)))


def main(argv: Sequence[str]) -> int:
  """Shows what the command line asks for; returns the exit status."""
  args = make_parser().parse_args(argv)
  metrics.use_stdout()
  try:
    data = read(args.run)
    try:
      ledger = from_parquet(data)
    except ValueError as e:
      raise ValueError(f'{args.run}: {e}') from e
    if args.stage is not None:
      ledger = _of_stage(ledger, args.stage)
    for line in _lines(args, ledger):
      metrics.say(line)
    if args.out is not None:
      path = pathlib.Path(args.out)
      temporary = path.with_name(path.name + '.tmp')
      temporary.write_bytes(ledger.to_parquet())
      os.replace(temporary, path)
  except (ValueError, OSError) as e:
    said = oserrors.explained(e) if isinstance(e, OSError) else str(e)
    text = metrics.printable(' '.join(said.split()))
    sys.stderr.write(f'error: {text}\n')
    return 1
  return 0


if __name__ == '__main__':
  logging.set_verbosity(logging.ERROR)
  sys.exit(main(sys.argv[1:]))
