"""Steps that look at one row at a time, in several processes.

A row depends on nothing else, so any number of processes gives the same. Steps
that follow each other run together: a row goes to a process once.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import process
from multiprocessing import connection
from typing import Any, NamedTuple

from acereason_jax.data.curate import plan, values

FLAGS = 'flags'
_ROWS = 256
_CHARS = 4 << 20
# The start of a process takes as long as many rows.
_LEAST_ROWS = 1024


class Event(NamedTuple):
  """What a step did with a row, if it did anything.

  place: number of the step among those that ran together.
  fate: its fate; a row that was kept with a flag has the kind 'dropped'.
  flagged: whether it was.
  """

  place: int
  fate: values.Fate
  flagged: bool = False


class Done(NamedTuple):
  """A row after steps.

  row: the row; None if it is as it was.
  events: what happened to it.
  alive: whether it is still there.
  """

  row: values.Row | None
  events: tuple[Event, ...]
  alive: bool


def settle(
  rule: plan.Rule, place: int, before: values.Row, fate: values.Fate
) -> tuple[values.Row, Event | None, bool]:
  """(row, what happened or None, whether the row stays).

  Raises:
    ValueError: one line; the step broke its contract.
  """
  _check(rule, before, fate)
  if fate.kind == values.KEPT:
    return fate.row, None, True
  fate = fate._replace(evidence=_plain(rule, before, fate.evidence))
  if fate.kind == values.CHANGED:
    return fate.row, Event(place, fate), True
  if rule.action == plan.DROP:
    return fate.row, Event(place, fate), False
  flags = [*fate.row.about.get(FLAGS, ()), _flag(rule, fate)]
  # Every step that flags adds to one list; twice the same says no more.
  about = dict(fate.row.about) | {FLAGS: list(dict.fromkeys(flags))}
  row = dataclasses.replace(fate.row, about=about)
  return row, Event(place, fate, True), True


def _plain(
  rule: plan.Rule, row: values.Row, evidence: Mapping[str, Any]
) -> dict[str, Any]:
  """The evidence as JSON gives it back; processes can send that."""
  try:
    return json.loads(json.dumps(dict(evidence), allow_nan=False))
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'step {rule.name}: the evidence for row {row.id!r} is not JSON: {e}'
    ) from e


def _flag(rule: plan.Rule, fate: values.Fate) -> str:
  reason = fate.reason or fate.kind
  return rule.name if reason == rule.name else f'{rule.name}: {reason}'


def _check(rule: plan.Rule, before: values.Row, fate: values.Fate) -> None:
  kinds = (values.KEPT, values.CHANGED, values.DROPPED, values.UNDECIDED)
  if not isinstance(fate, values.Fate) or fate.kind not in kinds:
    raise ValueError(
      f'step {rule.name}: gave {fate!r:.60} for row {before.id!r}; expected a '
      'values.Fate'
    )
  if not isinstance(fate.row, values.Row) or fate.row.id != before.id:
    raise ValueError(
      f'step {rule.name}: gave the fate of another row for {before.id!r}; a '
      'row keeps its id'
    )


def run(
  rules: Sequence[plan.Rule], rows: Sequence[values.Row], workers: int
) -> Iterator[tuple[list[Done], list[float]]]:
  """Yields parts of the rows after all rules, in order, and seconds of each.

  An interrupt, or the iterator's end before its last part, ends the processes
  at once, in the middle of a row: nothing of it is kept.

  Raises:
    ValueError: one line; a step failed at a row, or a process died.
  """
  parts = list(_parts(rows))
  if workers == 1 or len(rows) < _LEAST_ROWS:
    for part in parts:
      yield _apply(rules, part)
    return
  context = multiprocessing.get_context('spawn')
  # The processes end when this end of the pipe is closed.
  theirs, ours = context.Pipe(duplex=False)
  with (
    theirs,
    concurrent.futures.ProcessPoolExecutor(
      min(workers, len(parts)), context, initializer=_begin, initargs=(theirs,)
    ) as pool,
    ours,
  ):
    try:
      for future in [pool.submit(_apply, rules, part) for part in parts]:
        yield future.result()
    except process.BrokenProcessPool as e:
      names = ', '.join(rule.name for rule in rules)
      raise ValueError(
        f'steps {names}: a process died; is there enough memory? Try '
        '--workers=1, which names the step'
      ) from e


def _begin(stop: connection.Connection) -> None:
  """This process ends when its parent is killed or closes the pipe."""
  # Ctrl+C reaches all processes of a terminal; the parent decides.
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def wait() -> None:
    connection.wait([multiprocessing.parent_process().sentinel, stop])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _parts(rows: Sequence[values.Row]) -> Iterator[list[values.Row]]:
  part, size = [], 0
  for row in rows:
    part.append(row)
    size += len(row.problem) + len(row.answer)
    size += sum(map(len, (*row.solutions, *row.wrong)))
    if len(part) == _ROWS or size > _CHARS:
      yield part
      part, size = [], 0
  if part:
    yield part


def _apply(
  rules: Sequence[plan.Rule], rows: Sequence[values.Row]
) -> tuple[list[Done], list[float]]:
  """The rows after all rules, and the seconds of each rule."""
  now, seconds = list(rows), []
  alive = [True] * len(now)
  events: list[list[Event]] = [[] for _ in now]
  for place, rule in enumerate(rules):
    start = time.monotonic()
    for i, row in enumerate(now):
      if alive[i] and rule.sees(row):
        fate = _fate(rule, rule.step.each, row)
        now[i], event, alive[i] = settle(rule, place, row, fate)
        if event is not None:
          events[i].append(event)
    seconds.append(time.monotonic() - start)
  return [
    Done(row if row is not before else None, tuple(events[i]), alive[i])
    for i, (before, row) in enumerate(zip(rows, now, strict=True))
  ], seconds


def _fate(
  rule: plan.Rule, each: Callable[[values.Row], values.Fate], row: values.Row
) -> values.Fate:
  try:
    return each(row)
  except (ValueError, RecursionError) as e:
    reason = ' '.join(str(e).split())
    raise ValueError(f'step {rule.name}: row {row.id!r}: {reason:.300}') from e
