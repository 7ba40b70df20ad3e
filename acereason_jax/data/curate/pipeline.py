"""From inputs to rows: every step in order, and what it did with each row.

Rows are in the order of their ids, and a choice is made by the hash of an id.
So the result depends neither on the order of the input nor on processes.
"""

import collections
import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import resolve
from acereason_jax.data.curate import (
  inputs,
  items,
  judging,
  plan,
  plant,
  rounds,
  rowwise,
  state,
  values,
)

_COUNTING = 'acereason_jax.data.curate.counting:counter'
CONTAMINATED = 'contaminated'
STATE = 'state'


class Change(NamedTuple):
  """What a step did with a row: it changed it, flagged it or dropped it.

  step: name of the step.
  fate: what it did; the row of a change is the one before.
  flagged: whether the row stayed, with a flag.
  """

  step: str
  fate: values.Fate
  flagged: bool = False


class Tally(NamedTuple):
  """What a step did, counted.

  name: name of the step.
  rows_in, rows_out: rows before and after it.
  seconds: time that it took; that of all processes together.
  reasons: rows that it dropped or flagged, by reason.
  changed: rows that it changed.
  flagged: whether the rows of `reasons` stayed.
  """

  name: str
  rows_in: int
  rows_out: int
  seconds: float
  reasons: Mapping[str, int]
  changed: int = 0
  flagged: bool = False


class Shard(NamedTuple):
  """A share of the costly work: rows whose hash is `index` modulo `count`."""

  index: int = 0
  count: int = 1

  def has(self, row_id: str) -> bool:
    digest = hashlib.sha256(row_id.encode()).digest()
    return int.from_bytes(digest[:8]) % self.count == self.index

  @property
  def writer(self) -> str:
    alone = self.count == 1
    return 'main' if alone else f'{self.index + 1}-of-{self.count}'


class Result(NamedTuple):
  """A curation that is done.

  reads: inputs by name.
  benchmarks: problems of each benchmark by its name.
  before: all different rows, as they were read, in the order of their ids.
  rows: the rows that are left.
  dropped: the others.
  changes: what else happened: changes and flags.
  tallies: what each step did.
  planted: what became of planted copies; None if none were.
  asked: number of verdicts that judges were asked for.
  """

  reads: Mapping[str, inputs.Read]
  benchmarks: Mapping[str, items.Items]
  before: tuple[values.Row, ...]
  rows: tuple[values.Row, ...]
  dropped: tuple[Change, ...]
  changes: tuple[Change, ...]
  tallies: tuple[Tally, ...]
  planted: plant.Found | None = None
  asked: int = 0


class Waiting(Exception):
  """Rows need responses that are not there.

  missing: which, and how many.
  attempts: the responses that there are, by row id.
  read: their problems as they are in the inputs, by row id.
  """

  def __init__(
    self,
    missing: values.Missing,
    attempts: Mapping[str, Sequence[values.Attempt]],
    read: Mapping[str, str],
  ):
    super().__init__(str(missing))
    self.missing, self.attempts, self.read = missing, attempts, read


class How(NamedTuple):
  """What a curation's result does not depend on.

  folder: folder of the results, which has the state and rounds of responses.
  workers: processes.
  shard: share of the costly work that is done here.
  plant: whether copies of benchmark problems are planted.
  say: called with a line when a step is done.
  """

  folder: str
  workers: int = 1
  shard: Shard = Shard()
  plant: bool = False
  say: Callable[[str], None] = lambda line: None


def run(todo: plan.Plan, how: How) -> Result:
  """Reads the inputs and takes their rows through all steps.

  Raises:
    ValueError: one line; an input, a step or its result is wrong.
    Waiting: rows need responses.
  """
  reads = inputs.joined(todo.inputs)
  benchmarks = {b.name: items.read(b) for b in todo.benchmarks}
  rows = sorted(
    (row for read in reads.values() for row in read.rows), key=_by_id
  )
  refused = sorted(
    (fate for read in reads.values() for fate in read.refused),
    key=lambda fate: fate.row.id,
  )
  before = sorted([*rows, *(fate.row for fate in refused)], key=_by_id)
  problems = items.distinct({n: b.items for n, b in benchmarks.items()})
  with contextlib.ExitStack() as stack:
    place = os.path.join(how.folder, STATE)
    known = stack.enter_context(state.State(place, how.shard.writer))
    judges = stack.enter_context(judging.Judges(known, how.workers))
    context = values.Context(
      seed=todo.seed,
      items=problems,
      attempts=_attempts(todo, rows, how.folder),
      judge=judges.judge,
      remember=known.remember,
      count_tokens=_counter(todo.tokenizer),
      mine=how.shard.has,
    )
    work = _Work(rows, context, how)
    if refused:
      work.refuse(refused)
    try:
      for group in _groups(todo.rules):
        work.do(group)
    except values.Missing as e:
      read = {row.id: row.problem for row in rows}
      raise Waiting(e, context.attempts, read) from e
    asked = judges.asked
  return Result(
    reads=reads,
    benchmarks=benchmarks,
    before=tuple(before),
    rows=tuple(work.rows),
    dropped=tuple(sorted(work.dropped, key=lambda c: c.fate.row.id)),
    changes=tuple(work.changes),
    tallies=tuple(work.tallies),
    planted=work.planted,
    asked=asked,
  )


def _by_id(row: values.Row) -> str:
  return row.id


def _groups(rules: Sequence[plan.Rule]) -> Iterator[list[plan.Rule]]:
  """The rules in order; those of single rows in a row stay together."""
  group: list[plan.Rule] = []
  for rule in rules:
    if rule.step.whole is not None and group:
      yield group
      group = []
    group.append(rule)
    if rule.step.whole is not None:
      yield group
      group = []
  if group:
    yield group


def _attempts(
  todo: plan.Plan, rows: Sequence[values.Row], folder: str
) -> dict[str, Sequence[values.Attempt]]:
  """The responses of all sources and rounds, by row id; () for none."""
  found: dict[str, list[values.Attempt]] = collections.defaultdict(list)
  for i, component in enumerate(todo.responses):
    where = f'config.responses[{i}]'
    for row_id, attempts in resolve.build(component, where, rows=rows).items():
      found[row_id] += attempts
  for row_id, attempts in rounds.attempts(folder, rows, todo.model).items():
    found[row_id] += attempts
  return {row.id: tuple(found.get(row.id, ())) for row in rows}


def _counter(tokenizer: str) -> Callable[[Sequence[str]], list[int]]:
  if tokenizer:
    # Loaded when it is needed: most texts are too short to be counted.
    made = functools.cache(lambda: resolve.resolve(_COUNTING)(tokenizer))
    return lambda texts: made()(texts)

  def refuse(texts: Sequence[str]) -> list[int]:
    raise ValueError(
      "config.tokenizer='': a step counts tokens; name a model whose tokenizer "
      'counts them'
    )

  return refuse


class _Work:
  """Rows on their way, and what has happened to them so far."""

  def __init__(
    self, rows: Sequence[values.Row], context: values.Context, how: How
  ):
    self.rows = list(rows)
    self.dropped: list[Change] = []
    self.changes: list[Change] = []
    self.tallies: list[Tally] = []
    self.planted: plant.Found | None = None
    self._context, self._how = context, how

  def refuse(self, fates: Sequence[values.Fate]) -> None:
    """Drops rows that could not be read. Raises ValueError if none is left."""
    self.dropped += [Change(inputs.READ, fate) for fate in fates]
    reasons = collections.Counter(fate.reason for fate in fates)
    count = len(self.rows)
    self._count(Tally(inputs.READ, count + len(fates), count, 0.0, reasons))
    if not count:
      last = fates[-1]
      raise ValueError(
        f'config.inputs: none of the {len(fates):,} rows can be used; the '
        f'last, {last.row.id!r:.60}: {last.reason}; correct the files, or the '
        'columns that are read'
      )

  def do(self, rules: Sequence[plan.Rule]) -> None:
    """Takes all rows through rules: one over all rows, or some of single rows.

    Raises:
      ValueError: one line; a step is wrong, or drops all rows.
    """
    before = len(self.rows)
    if rules[0].step.whole is not None:
      done, seconds = self._whole(rules[0])
    else:
      done, seconds = self._each(rules)
    reasons = [collections.Counter() for _ in rules]
    changed, lost, seen = ([0] * len(rules) for _ in range(3))
    left = []
    for row, each in zip(self.rows, done, strict=True):
      reached = rules if each.alive else rules[: each.events[-1].place + 1]
      for place, rule in enumerate(reached):
        seen[place] += rule.sees(row)
      for place, fate, flagged in each.events:
        is_change = fate.kind == values.CHANGED
        change = Change(rules[place].name, fate, flagged)
        if is_change or flagged:
          self.changes.append(change)
        else:
          self.dropped.append(change)
          lost[place] += 1
        if is_change:
          changed[place] += 1
        else:
          reasons[place][fate.reason or fate.kind] += 1
      if each.alive:
        left.append(row if each.row is None else each.row)
    for place, rule in enumerate(rules):
      after = before - lost[place]
      self._count(
        Tally(
          rule.name,
          before,
          after,
          seconds[place],
          dict(sorted(reasons[place].items())),
          changed[place],
          rule.action == plan.FLAG,
        )
      )
      if seen[place] and seen[place] == lost[place]:
        last = [c for c in self.dropped if c.step == rule.name][-1]
        raise ValueError(_nothing_left(rule, seen[place], last))
      before = after
    self.rows = left

  def _count(self, tally: Tally) -> None:
    self.tallies.append(tally)
    counts = dict(tally.reasons) | {'changed': tally.changed or None}
    reasons = ', '.join(f'{name} {n:,}' for name, n in counts.items() if n)
    told = f'  ({reasons})' if reasons else ''
    self._how.say(
      f'{tally.name:20} {tally.rows_in:>9,} -> {tally.rows_out:>9,}{told}'
    )

  def _each(
    self, rules: Sequence[plan.Rule]
  ) -> tuple[list[rowwise.Done], list[float]]:
    done, seconds = [], [0.0] * len(rules)
    for part, times in rowwise.run(rules, self.rows, self._how.workers):
      done += part
      seconds = [a + b for a, b in zip(seconds, times)]
    return done, seconds

  def _whole(self, rule: plan.Rule) -> tuple[list[rowwise.Done], list[float]]:
    start = time.monotonic()
    rows = [row for row in self.rows if rule.sees(row)]
    count = len(rows)
    if self._how.plant and rule.step.name == CONTAMINATED:
      rows += plant.rows(self._context)
    fates = rule.step.whole(rows, self._context)
    if len(fates) != len(rows):
      raise ValueError(
        f'step {rule.name}: gave {len(fates):,} fates for {len(rows):,} rows'
      )
    if len(rows) > count:
      self.planted = plant.found(fates[count:], self.planted)
    done, rest = [], iter(fates)
    for row in self.rows:
      fate = next(rest) if rule.sees(row) else values.kept(row)
      after, event, alive = rowwise.settle(rule, 0, row, fate)
      events = () if event is None else (event,)
      done.append(rowwise.Done(after, events, alive))
    return done, [time.monotonic() - start]


def _nothing_left(rule: plan.Rule, count: int, last: Change) -> str:
  evidence: Any = dict(last.fate.evidence)
  return (
    f'step {rule.name}: drops all {count:,} rows; the last, '
    f'{last.fate.row.id!r:.60}: {last.fate.reason} {evidence!r:.120}; correct '
    "its arguments or the columns that are read, or give it action='flag'"
  )
