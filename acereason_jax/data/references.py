"""Finds the rows that a run leaves out: unreadable answers, held-out questions.

A reference that cannot be read, or does not equal itself, would waste all
rollouts of its question: each gets 'error', hours later. So a new run judges
every distinct answer once, before its first step. References are data from
elsewhere, as hostile as responses, so a `VerifierPool` reads them.

A verdict can depend on the clock (a slow machine, a deadline), and the order of
batches depends on which rows there are. So a run checks once and its
checkpoints hold the result. A run without a checkpoint has nothing to
contradict.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from acereason_jax import files, types
from acereason_jax.console import terminal
from acereason_jax.hosts import gather
from acereason_jax.verifiers.pool import pool as pool_lib

TRAIN, HELDOUT = 'train_data', 'heldout_data'
# By source.
Prompts = Mapping[str, Sequence[types.Prompt]]

_HELD_OUT = f'its question is in {HELDOUT}'
_REASON_CHARS = 300
_SHOWN = 5
_SHOWN_CHARS = 80


class Dropped(NamedTuple):
  """A row that is left out.

  source: 'train_data' or 'heldout_data'.
  id: id of the row.
  answer: its reference answer.
  reason: why its answer cannot be read, or the fact that it is held out.
  """

  source: str
  id: str
  answer: str
  reason: str


def find(
  prompts: Prompts,
  digests: Mapping[str, str],
  pool: pool_lib.VerifierPool | None,
) -> list[Dropped]:
  """The rows to leave out, the same on every process of a run.

  `pool` runs a function such as verifiers/math.py:reference; None accepts all
  references. Each process checks its share.

  Raises:
    ValueError: the processes read different rows (`digests`), or no row is
      left.
  """
  failed = {}
  if pool is not None:
    answers = dict.fromkeys(p.answer for rows in prompts.values() for p in rows)
    mine = list(answers)[jax.process_index() :: jax.process_count()]
    failed = unreadable(mine, pool)
  failed = _everyones(failed, digests)
  asked = {p.question for p in prompts[HELDOUT]}
  dropped = [
    Dropped(name, p.id, p.answer, _HELD_OUT if twice else failed[p.answer])
    for name, rows in prompts.items()
    for p in rows
    if (twice := name == TRAIN and p.question in asked) or p.answer in failed
  ]
  _check_some_left(prompts, dropped)
  return dropped


def unreadable(
  answers: Sequence[str], pool: pool_lib.VerifierPool
) -> dict[str, str]:
  """The answers that `pool` does not find right, and the reasons."""
  verdicts = pool.as_completed((a, '', a) for a in answers)
  return {
    answer: f'{verdict.status}: {verdict.detail}'[:_REASON_CHARS]
    for answer, verdict in verdicts
    if verdict.status != 'right'
  }


def _everyones(
  mine: Mapping[str, str], digests: Mapping[str, str]
) -> dict[str, str]:
  """The findings of all processes of a run; each checked a share."""
  own = json.dumps(dict(rows=dict(digests), failed=dict(mine)))
  every = [json.loads(each) for each in gather.everyones(own.encode())]
  for name in digests:
    if len({each['rows'][name] for each in every}) > 1:
      raise ValueError(
        f'config.{name}: processes read other rows than each other; give all '
        'of them the same file'
      )
  return {a: reason for each in every for a, reason in each['failed'].items()}


def _check_some_left(prompts: Prompts, dropped: Sequence[Dropped]) -> None:
  for name, rows in prompts.items():
    gone = [d for d in dropped if d.source == name]
    if len(gone) == len(rows):
      unread = [d for d in gone if d.reason != _HELD_OUT]
      remedy = 'give it other questions'
      if unread:
        remedy = (
          'expected answers that config.judge.reference can read; fix them, '
          "or set it to '' for a judge that reads others"
        )
      first = (unread or gone)[0]
      raise ValueError(
        f'config.{name}: all {len(rows):,} rows would be dropped, the first '
        f'({first.id}, answer {first.answer[:60]!r}) because: {first.reason}; '
        f'{remedy}'
      )


def ids(dropped: Sequence[Dropped]) -> dict[str, list[str]]:
  """Ids of the dropped rows by source; plain JSON, for a checkpoint."""
  return {
    name: [d.id for d in dropped if d.source == name]
    for name in (TRAIN, HELDOUT)
  }


def without(
  prompts: Prompts, gone: Mapping[str, Sequence[str]]
) -> dict[str, list[types.Prompt]]:
  """The prompts except those whose id is among their source's `gone`."""
  names = {name: set(gone[name]) for name in prompts}
  return {
    name: [p for p in rows if p.id not in names[name]]
    for name, rows in prompts.items()
  }


def report(
  prompts: Prompts, dropped: Sequence[Dropped], file: str | pathlib.Path
) -> list[str]:
  """Prints a line for each source and kind of reason."""
  lines = []
  for name, rows in prompts.items():
    mine = [d for d in dropped if d.source == name]
    # A slow machine causes them too, so they deserve a look.
    slow = sum(d.reason.startswith('timeout') for d in mine)
    unread = 'reference the judge cannot read'
    if slow:
      unread += f' ({slow:,} by timeout)'
    for held_out, what in (
      (True, f'question is in {HELDOUT}'),
      (False, unread),
    ):
      if names := [d.id for d in mine if (d.reason == _HELD_OUT) == held_out]:
        lines.append(
          f'{name}: dropped {len(names):,} of {len(rows):,} rows whose {what}: '
          f'{first_few(names)}; all in {file}'
        )
  return lines


def write(dropped: Sequence[Dropped], file: pathlib.Path) -> None:
  """Writes one JSON line per row; no file if there are no rows."""
  file.unlink(missing_ok=True)
  if dropped:
    lines = [json.dumps(d._asdict()) + '\n' for d in dropped]
    files.write_atomically(file, ''.join(lines))


def first_few(names: Sequence[str]) -> str:
  """The first few names, safe to print."""
  shown = [terminal.one_line(name, _SHOWN_CHARS) for name in names[:_SHOWN]]
  return ', '.join(shown) + (', ...' if len(names) > _SHOWN else '')
