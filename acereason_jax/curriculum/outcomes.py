"""Questions to a ledger: a prompt's newest record, its counts, what changed.

`right` counts the judge's verdicts: what the model can do. `solvable`, `lost`,
`summary` and `recent`, which compares stages, use it. `solved` counts the
rollouts that the stage rewarded. `counts` gives it to filters, which select the
prompts left to train on.
"""

import math
from typing import NamedTuple

import numpy as np

from acereason_jax.curriculum.ledger import (
  JUDGED,
  KINDS,
  NUMBERS,
  PROBE,
  TRAIN,
  VERDICTS,
  Ledger,
  Record,
)

_NEVER = np.iinfo(np.int64).max


def chosen(
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
  """The last record of each prompt that has one; None: of any kind or stage."""
  places = chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  places = _last_of_each_prompt(ledger, places)
  return {record.prompt: record for record in ledger.at(places)}


def mean_lengths(ledger: Ledger) -> dict[str, float]:
  """The mean length of a response in each prompt's last record, in tokens.

  Stored pass counts tell no lengths; see `ledger.stored`.
  """
  # Column by column, as in `counts`: every step calls this.
  told = np.flatnonzero(ledger.rows['tokens'])
  places = _last_of_each_prompt(ledger, told)
  column = lambda name: ledger.rows[name][places].astype(np.int64)
  means = column('tokens') / sum(column(name) for name in VERDICTS)
  names = ledger.texts('prompt')
  return dict(zip((names[p] for p in column('prompt')), means.tolist()))


def unsolved(ledger: Ledger) -> set[str]:
  """The prompts that were judged and never had a reward above 0."""
  rows, names = ledger.rows, ledger.texts('prompt')
  total = lambda column: np.bincount(rows['prompt'], rows[column], len(names))
  never = (sum(map(total, JUDGED)) > 0) & (total('solved') == 0)
  return {names[code] for code in np.flatnonzero(never).tolist()}


def _last_of_each_prompt(ledger: Ledger, chosen: np.ndarray) -> np.ndarray:
  """The chosen places that have a prompt's last record; int [P]."""
  last = np.full(len(ledger.texts('prompt')), -1)
  np.maximum.at(last, ledger.rows['prompt'][chosen], chosen)
  return last[last >= 0]


def asked(
  ledger: Ledger,
  *,
  kind: str,
  stage: str,
  before_step: int,
  since_step: int,
) -> set[str]:
  """The prompts of records of a kind, of a stage, of these steps."""
  places = chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  places = places[ledger.rows['step'][places] >= since_step]
  names = ledger.texts('prompt')
  codes = np.unique(ledger.rows['prompt'][places])
  return {names[code] for code in codes.tolist()}


class Counts(NamedTuple):
  """The results of a prompt.

  solved: rollouts with a reward above 0.
  judged: rollouts with a verdict, 1 or more.
  """

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
  """The sums over each prompt's newest epoch in a stage.

  Records of steps before `since_step` belong to another stage of that name.

  A record is ignored if no rollout of it was judged, or less than the share
  `min_judged`. The epoch before it is then the newest one.
  """
  rows = ledger.rows
  places = chosen(ledger, kind=kind, stage=stage, before_step=before_step)
  places = places[rows['step'][places] >= since_step]
  # Column by column: copying whole rows takes several times as long.
  column = lambda name: rows[name][places].astype(np.int64)
  judged = sum(column(name) for name in JUDGED)
  rollouts = sum(column(name) for name in VERDICTS)
  known = (judged > 0) & (judged >= min_judged * rollouts)
  solved, judged = (np.where(known, n, 0) for n in (column('solved'), judged))
  prompt, epoch = (rows[name][places] for name in ('prompt', 'epoch'))
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


def recent(
  ledger: Ledger,
  tries: int,
  *,
  stage: str,
  until_step: int,
  min_judged: float = 0.0,
) -> dict[str, Counts]:
  """The newest results of the prompts with `tries` verdicts or more.

  Records of any kind and stage up to `until_step` count, newest first, until
  they have so many verdicts. The probe that `stage` made at that step does not.
  Here right answers count as solved: the rules of another stage, with another
  length, do not say what this stage would reward. A record is ignored as in
  `counts`.
  """
  rows = ledger.rows
  rows = rows[: np.searchsorted(rows['step'], until_step, side='right')]
  judged = _judged(rows)
  rollouts = sum(rows[name].astype(np.int64) for name in VERDICTS)
  known = (judged > 0) & (judged >= min_judged * rollouts)
  own = chosen(ledger, kind=PROBE, stage=stage)
  own = own[own < len(rows)]
  known[own[rows['step'][own] == until_step]] = False
  places = np.flatnonzero(known)[::-1]
  places = places[np.argsort(rows['prompt'][places], kind='stable')]
  prompt = rows['prompt'][places]
  right, judged = rows['right'][places].astype(np.int64), judged[places]
  # Verdicts of newer records of the same prompt.
  before = np.cumsum(judged) - judged
  firsts = np.flatnonzero(np.diff(prompt, prepend=-1))
  before -= np.repeat(before[firsts], np.diff([*firsts, len(prompt)]))
  counted = before < tries
  names = ledger.texts('prompt')
  right, judged = (
    np.bincount(prompt[counted], n[counted], len(names)).astype(np.int64)
    for n in (right, judged)
  )
  codes = np.flatnonzero(judged >= max(tries, 1))
  found = (values[codes].tolist() for values in (right, judged))
  return {
    names[code]: Counts(*both) for code, *both in zip(codes.tolist(), *found)
  }


def newest_stage(ledger: Ledger, domain: str) -> set[str]:
  """The prompts of the stage that trained on a domain last."""
  rows, domains = ledger.rows, ledger.texts('domain')
  if domain not in domains:
    return set()
  trained = rows[
    (rows['domain'] == domains.index(domain))
    & (rows['kind'] == KINDS.index(TRAIN))
  ]
  names = ledger.texts('prompt')
  last = trained['prompt'][trained['stage'] == trained['stage'][-1:]]
  return {names[code] for code in np.unique(last).tolist()}


def _judged(rows: np.ndarray) -> np.ndarray:
  return sum(rows[name].astype(np.int64) for name in JUDGED)


def solvable(ledger: Ledger) -> dict[str, int]:
  """{id: the step of its first right answer} of prompts that became solvable.

  No rollout of such a prompt was right in the first step that judged it.
  """
  rows = ledger.rows
  judged = rows[_judged(rows) > 0]
  seen = _first_step(ledger, judged)
  solved = _first_step(ledger, judged[judged['right'] > 0])
  names = ledger.texts('prompt')
  became = np.flatnonzero((solved > seen) & (solved < _NEVER))
  return {names[code]: int(solved[code]) for code in became.tolist()}


class Halves(NamedTuple):
  """Verdicts of each prompt that two steps or more judged; int64 [P].

  first_judged, first_right: those of the first step that judged it.
  later_judged, later_right: those of all later steps.
  """

  first_judged: np.ndarray
  first_right: np.ndarray
  later_judged: np.ndarray
  later_right: np.ndarray


def halves(ledger: Ledger) -> Halves:
  """What `solvable` compares: each prompt's first step with all later ones."""
  rows = ledger.rows
  judged = _judged(rows)
  rows, judged = rows[judged > 0], judged[judged > 0]
  seen = _first_step(ledger, rows)
  begins = rows['step'] == seen[rows['prompt']]
  total = lambda chosen, values: np.bincount(
    rows['prompt'][chosen], values[chosen], minlength=len(seen)
  ).astype(np.int64)
  right = rows['right'].astype(np.int64)
  found = [
    total(chosen, values)
    for chosen in (begins, ~begins)
    for values in (judged, right)
  ]
  twice = found[2] > 0
  return Halves(*(values[twice] for values in found))


def asked_unequally(ledger: Ledger) -> bool:
  """Whether some prompts of a domain were asked more often than others.

  So they are after a filter left some out, and within an epoch.
  """
  domain, prompt = ledger.rows['domain'], ledger.rows['prompt']
  times = np.bincount(prompt, minlength=len(ledger.texts('prompt')))
  return any(
    len(np.unique(times[np.unique(prompt[domain == each])])) > 1
    for each in np.unique(domain)
  )


def lost(ledger: Ledger, misses: int = 1) -> dict[str, int]:
  """{id: the step of its last right answer} of prompts solved once, not now.

  A rollout of such a prompt was right in the first step that judged it. None
  was right in its last `misses` records, all of later steps.
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
  """The first step of each prompt among the rows, by its code, or _NEVER."""
  first = np.full(len(ledger.texts('prompt')), _NEVER)
  np.minimum.at(first, rows['prompt'], rows['step'])
  return first


class Summary(NamedTuple):
  """An epoch of a stage. Groups without a verdict are in no share of groups.

  stage, kind, epoch: as in `Record`.
  prompts, rollouts: how many.
  pass_rate: right answers among the rollouts that were judged.
  all_right, mixed, all_wrong: shares of the groups.
  truncated: the share of all rollouts that were cut off at the longest length.
  mean_length: tokens per response.
  failed: how many verdicts failed. A share of nothing is nan.
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
  """One summary per kind, stage and epoch, in order of their first records."""
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
  """The fields of a Summary after `epoch`."""
  total = {name: int(rows[name].sum(dtype=np.int64)) for name in NUMBERS}
  judged = _judged(rows)
  right, judged = rows['right'][judged > 0], judged[judged > 0]
  rollouts = sum(total[name] for name in VERDICTS)
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
