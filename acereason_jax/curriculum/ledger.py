"""A permanent record of every judged group: the history of every prompt.

A ledger is a value: `extended` gives another one and leaves it as it was. Only
verdicts are counted: a `timeout` or an `error` is not a wrong answer, so shares
are of judged rollouts. Prompts are told apart by their ids only, which must
differ over all data of a run.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.rl import objective

KINDS = TRAIN, PROBE = 'train', 'probe'

TEXTS = 'stage', 'domain', 'prompt'
JUDGED = 'right', 'wrong', 'unparsed'
VERDICTS = (*JUDGED, 'timeout', 'error')
MAX_RECORDS = 1 << 23
MAX_CHARS = 1024


class Record(NamedTuple):
  """A judged group: how many rollouts of a prompt got which verdict.

  kind: 'train' (in the batch of `step`) or 'probe' (asked after `step`).
  stage: the name of the stage that asked.
  epoch: the epoch of the domain in the stage, from 0.
  step: counts from 1, over all stages; 0 is before the first step.
  domain: the name of the prompt's domain.
  prompt: the prompt's id.
  right, wrong, unparsed, timeout, error: rollouts of each status.
  truncated: rollouts that were cut off at the longest length.
  tokens: the sum of the lengths of all responses.
  longest: the longest of these lengths, tokens.
  solved: how many of the right ones had a reward above 0 by the rules of their
    stage.
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


class Result(NamedTuple):
  """The result of a rollout, without its tokens.

  status: status of its verdict.
  tokens: length of the response.
  truncated: whether it was cut off at the longest length.
  solved: whether it is right and its reward is above 0 by the rules of its
    stage.
  """

  status: types.Status
  tokens: int
  truncated: bool
  solved: bool

  @property
  def judged(self) -> bool:
    return self.status in JUDGED


NUMBERS = [n for n in Record._fields if n not in ('kind', *TEXTS)]
WIDTHS = {n: 'int64' if n == 'tokens' else 'int32' for n in NUMBERS}
# Texts and kinds are stored as codes.
ROW = np.dtype([(name, WIDTHS.get(name, 'int32')) for name in Record._fields])


def records(
  groups: Sequence[types.Group],
  kind: str,
  stage: str,
  epochs: Sequence[int],
  step: int,
  rules: objective.Rules,
) -> list[Record]:
  """One record per group, in order; `epochs` holds the epoch of each prompt.

  A prompt that is in a batch twice has two groups, maybe of two epochs.

  Raises:
    ValueError: the numbers of epochs and groups differ.
  """
  if len(groups) != len(epochs):
    raise ValueError(
      f'{len(groups)} groups, {len(epochs)} epochs: give one a group'
    )
  return [
    record(
      group.prompt,
      [result(*pair, rules) for pair in zip(group.rollouts, group.verdicts)],
      kind,
      stage,
      epoch,
      step,
    )
    for group, epoch in zip(groups, epochs)
  ]


def result(
  rollout: types.Rollout, verdict: types.Verdict, rules: objective.Rules
) -> Result:
  return Result(
    verdict.status,
    len(rollout.tokens),
    rollout.stop == 'length',
    verdict.judged and objective.reward(rollout, verdict, rules) > 0,
  )


def record(
  prompt: types.Prompt,
  results: Sequence[Result],
  kind: str,
  stage: str,
  epoch: int,
  step: int,
) -> Record:
  """The record of a prompt's rollouts."""
  statuses = [r.status for r in results]
  lengths = [r.tokens for r in results]
  return Record(
    kind,
    stage,
    epoch,
    step,
    prompt.domain,
    prompt.id,
    right=statuses.count('right'),
    wrong=statuses.count('wrong'),
    unparsed=statuses.count('unparsed'),
    timeout=statuses.count('timeout'),
    error=statuses.count('error'),
    truncated=sum(r.truncated for r in results),
    tokens=sum(lengths),
    longest=max(lengths),
    solved=sum(r.solved for r in results),
  )


def stored(prompt: types.Prompt, stage: str, step: int) -> Record:
  """The record of a probe that curation made, of a prompt with `passes`.

  The lengths of its responses are not stored, and neither are their rewards: a
  right one counts as solved.
  """
  right, judged, _ = prompt.passes
  return Record(
    PROBE,
    stage,
    0,
    step,
    prompt.domain,
    prompt.id,
    right=right,
    wrong=judged - right,
    unparsed=0,
    timeout=0,
    error=0,
    truncated=0,
    tokens=0,
    longest=0,
    solved=right,
  )


class Ledger:
  """Records in order of their steps; equal to another with the same records.

  Ledgers extended from one another share memory, and each sees only its own
  first records. Extending the newest costs only the new records. Extending an
  older one copies it.
  """

  def __init__(self, records: Iterable[Record] = ()):
    """Raises: ValueError, see `extended`."""
    self._memory = _Memory(np.zeros(0, ROW), {name: {} for name in TEXTS})
    self._count = self._memory.append(records)

  def extended(self, records: Iterable[Record]) -> 'Ledger':
    """A ledger of these records and then `records`.

    Raises:
      ValueError: one line naming the first record that is not valid.
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
      self.texts(name) == other.texts(name) for name in TEXTS
    )

  __hash__ = None

  @property
  def rows(self) -> np.ndarray:
    """[len] of `ROW`, read-only; texts and kinds are codes."""
    view = self._memory.rows[: self._count]
    view.flags.writeable = False
    return view

  def texts(self, name: str) -> list[str]:
    """The texts of the codes 0, 1, ... of a column, as far as used here."""
    used = int(self.rows[name].max(initial=-1)) + 1
    return list(itertools.islice(self._memory.texts[name], used))

  def at(self, places: np.ndarray) -> Iterator[Record]:
    """The records at these places, int [N]."""
    stages, domains, prompts = (self.texts(name) for name in TEXTS)
    for row in self.rows[places].tolist():
      kind, stage, epoch, step, domain, prompt, *counts = row
      yield Record(
        KINDS[kind],
        stages[stage],
        epoch,
        step,
        domains[domain],
        prompts[prompt],
        *counts,
      )


class _Memory:
  """Memory that a line of ledgers shares: rows, and codes of a column's texts.

  `rows` is longer than `count`: it doubles where it is full.
  """

  def __init__(self, rows: np.ndarray, texts: dict[str, dict[str, int]]):
    """Raises: ValueError, see `_check`."""
    _check(rows, texts, first=0, step=0)
    self.rows, self.texts, self.count = rows, texts, len(rows)

  def append(self, records: Iterable[Record]) -> int:
    """The new count. After a ValueError all is as it was."""
    fresh = {name: {} for name in TEXTS}
    rows = np.array([self._coded(r, fresh) for r in records], ROW)
    step = int(self.rows['step'][self.count - 1]) if self.count else 0
    _check(rows, fresh, first=self.count, step=step)
    count = self.count + len(rows)
    if count > len(self.rows):
      larger = np.zeros(2 * count, ROW)
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
    for name in TEXTS:
      text, known = getattr(record, name), self.texts[name]
      code = known.get(text)
      if code is None:
        code = fresh[name].setdefault(text, len(known) + len(fresh[name]))
      codes[name] = code
    return tuple(record._replace(**codes))


def from_columns(rows: np.ndarray, texts: dict[str, dict[str, int]]) -> Ledger:
  """A ledger of `rows`, [N] of ROW, and of the codes of each column's texts.

  Raises: ValueError, see `Ledger.extended`.
  """
  return _of(_Memory(rows, texts), len(rows))


def within(ledger: Ledger, steps: range) -> Ledger:
  """The records of these steps, in order; their texts keep their codes."""
  of = ledger.rows['step'].astype(np.int64)
  rows = ledger.rows[(of >= steps.start) & (of < steps.stop)]
  texts = {
    name: {text: code for code, text in enumerate(ledger.texts(name))}
    for name in TEXTS
  }
  return from_columns(rows, texts)


def _of(memory: _Memory, count: int) -> Ledger:
  ledger = object.__new__(Ledger)
  ledger._memory, ledger._count = memory, count
  return ledger


def _check(
  rows: np.ndarray, texts: Mapping[str, Iterable[str]], first: int, step: int
) -> None:
  """Raises ValueError for a text or a row that is not valid.

  `rows` begin at place `first` and follow a row of `step`.
  """
  for name, values in texts.items():
    for text in values:
      if not _is_text(text):
        raise ValueError(
          f'{name} {text!r:.60}: expected valid Unicode of at most '
          f'{MAX_CHARS} characters'
        )
  if first + len(rows) > MAX_RECORDS:
    raise ValueError(
      f'{first + len(rows):,} records: a ledger holds {MAX_RECORDS:,}'
    )
  whole = {name: rows[name].astype(np.int64) for name in NUMBERS}
  rollouts = sum(whole[name] for name in VERDICTS)
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
  if not isinstance(text, str) or len(text) > MAX_CHARS:
    return False
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True
