"""The trace of an engine's slots: counters, events, and their file.

`acereason_jax.timeline` draws the file as a page.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acereason_jax import files
from acereason_jax.data import records

# Why a stay in a slot ended. A preempted rollout starts again later.
PREEMPTED = 'preempted'
REASONS = ('stop', 'length', 'error', PREEMPTED)

_MAX_SLOTS = 1 << 16
_MAX_STEPS = 1 << 53
_MAX_LINE_BYTES = 1 << 20


class Event(NamedTuple):
  """A rollout's stay in a slot.

  slot: number of the slot, from 0.
  prompt_id: id of the rollout's prompt.
  index: index among the prompt's rollouts.
  began: number of decode steps of the stream before the stay.
  ended: number of decode steps of the stream after its last token.
  reason: one of REASONS.
  """

  slot: int
  prompt_id: str
  index: int
  began: int
  ended: int
  reason: str


@dataclasses.dataclass
class Trace:
  """Counters of one stream, and one event for each stay in a slot.

  slots: number of slots of the engine.
  steps: decode steps so far; a step serves all slots together.
  busy: tokens drawn; steps x slots at most.
  full_steps, full_busy: steps and busy of calls during which a rollout waited.
  full: the calls during which a rollout waited: (first step, step after the
    last), those in a row as one.
  saved_steps: steps that drafts saved: those that the call's longest rollout
    would have taken without them, less those that it took.
  draft_steps: slot steps that computed drafts for a rollout in another slot.
  finished: rollouts that ended.
  truncated: rollouts that ended because they reached their limit.
  tokens: tokens of the rollouts that ended.
  recomputed: tokens that preempted rollouts lost.
  preempted: stays that ended for lack of pages.
  errors: rollouts that could not be served or continued.
  prompt_tokens: tokens prefilled.
  peak_pages: most cache pages in use at once.
  pages: cache pages that rollouts can use.
  seconds: wall time until the tokens of the last call came.
  prefill_seconds: part of it in prefill.
  host_seconds: part of it in which the device waited for the host.
  events: in the order in which the stays ended.
  """

  slots: int = 0
  steps: int = 0
  busy: int = 0
  full_steps: int = 0
  full_busy: int = 0
  full: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  saved_steps: int = 0
  draft_steps: int = 0
  finished: int = 0
  truncated: int = 0
  tokens: int = 0
  recomputed: int = 0
  preempted: int = 0
  errors: int = 0
  prompt_tokens: int = 0
  peak_pages: int = 0
  pages: int = 0
  seconds: float = 0.0
  prefill_seconds: float = 0.0
  host_seconds: float = 0.0
  events: list[Event] = dataclasses.field(default_factory=list)

  def took(self, steps: int, tokens: int, waited: bool) -> None:
    """Counts a call; `waited`: a rollout waited during it."""
    before = self.steps
    self.steps += steps
    self.busy += tokens
    if not waited:
      return
    self.full_steps += steps
    self.full_busy += tokens
    first = before
    if self.full and self.full[-1][1] == before:
      first, _ = self.full.pop()
    self.full.append((first, self.steps))

  @property
  def tokens_per_second(self) -> float:
    return self.tokens / max(self.seconds, 1e-9)

  def metrics(self) -> dict[str, float]:
    """Shares of slot steps, pages and time; only this stream's calls count.

    Tokens decoded before a restart are not included (the run's metrics count
    all). `occupancy_waiting` covers only the calls during which a rollout
    waited. `wasted_steps` are slot steps that gave no token of a finished
    rollout.
    """
    steps = max(self.slots * self.steps, 1)
    waited = max(self.slots * self.full_steps, 1)
    seconds = max(self.seconds, 1e-9)
    return dict(
      decoded_tokens=float(self.tokens),
      occupancy=self.busy / steps,
      occupancy_waiting=self.full_busy / waited,
      wasted_steps=float(self.slots * self.steps - self.tokens),
      saved_steps=float(self.saved_steps),
      preempted=float(self.preempted),
      recomputed_tokens=float(self.recomputed),
      prefill_tokens=float(self.prompt_tokens),
      page_use=self.peak_pages / max(self.pages, 1),
      prefill_share=self.prefill_seconds / seconds,
      host_share=self.host_seconds / seconds,
    )


def slot_steps(
  trace: Trace, fates: Mapping[tuple[str, int], str], names: Sequence[str]
) -> dict[str, int]:
  """The slot steps of a stream that is over, by what became of them.

  A slot step is a slot during a decode step; the result sums to slots x steps.
  `names` are the fates of rollouts that ended, and `fates` has that of each, by
  (prompt id, index). The other names:

  recomputed: of stays that were preempted; their tokens are drawn again.
  drafts: computed drafts for a rollout in another slot.
  waiting: had no rollout while one waited.
  tail: had no rollout, and none waited.
  """
  found = dict.fromkeys([*names, 'recomputed'], 0)
  for event in trace.events:
    ended = event.reason != PREEMPTED
    fate = fates[event.prompt_id, event.index] if ended else 'recomputed'
    found[fate] += event.ended - event.began
  idle = trace.slots * trace.steps - sum(found.values())
  drafts = min(trace.draft_steps, idle)
  waiting = min(_idle_while_full(trace), idle - drafts)
  tail = idle - drafts - waiting
  return found | dict(drafts=drafts, waiting=waiting, tail=tail)


def _idle_while_full(trace: Trace) -> int:
  began_E = np.array([e.began for e in trace.events], np.int64)
  ended_E = np.array([e.ended for e in trace.events], np.int64)
  idle = 0
  for first, last in trace.full:
    inside_E = ended_E.clip(first, last) - began_E.clip(first, last)
    idle += trace.slots * (last - first) - int(inside_E.sum())
  return idle


def write_events(
  path: str | os.PathLike, events: Iterable[Event], **header: Any
) -> None:
  """Writes JSON lines, whole or not at all: the header, then each event."""
  lines = (header, *(event._asdict() for event in events))
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  files.write_atomically(pathlib.Path(path), text)


def read_events(
  path: str | os.PathLike,
) -> tuple[dict[str, Any], list[Event]]:
  """(header, events) as `write_events` was given them.

  Raises:
    ValueError: one line naming the file, and the line if there is one.
  """
  header, events = None, []
  with records.opened(path) as file:
    lines = iter(lambda: file.readline(_MAX_LINE_BYTES + 1), b'')
    for number, line in enumerate(lines, 1):
      where = f'{path}:{number}'
      if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f'{where}: longer than {_MAX_LINE_BYTES:,} bytes')
      try:
        record = json.loads(line)
      except (ValueError, RecursionError) as e:
        raise ValueError(f'{where}: not one JSON object ({e})') from e
      if not isinstance(record, dict):
        raise ValueError(f'{where}: expected an object, got {record!r:.60}')
      if header is None:
        header = record
      else:
        events.append(_event(where, record))
  if header is None:
    raise ValueError(f'{path}: holds no header; is it a timeline?')
  return header, events


def _event(where: str, record: dict[str, Any]) -> Event:
  if set(record) != set(Event._fields):
    raise ValueError(
      f'{where}: an event has {", ".join(Event._fields)}; got '
      f'{", ".join(map(repr, record))[:200]}'
    )
  event = Event(**record)
  numbers = event.slot, event.index, event.began, event.ended
  good = (
    all(type(n) is int and 0 <= n < _MAX_STEPS for n in numbers)
    and event.slot < _MAX_SLOTS
    and event.began <= event.ended
    and isinstance(event.prompt_id, str)
    and isinstance(event.reason, str)
    and event.reason in REASONS
  )
  if not good:
    raise ValueError(f'{where}: no event: {record!r:.200}')
  return event
