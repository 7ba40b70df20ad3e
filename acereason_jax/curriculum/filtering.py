"""Which prompts an epoch leaves out, by difficulty and by what was solved.

A pure function of the data and of the ledger's records of earlier steps, so a
resumed run finds the same prompts. `decided` says when a prompt that is asked
need not be asked again.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from acereason_jax import types
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes

# Where `Filter.max_solved` finds what was solved.
SOURCES = 'probe', 'ledger'


class NothingLeft(ValueError):
  """A filter leaves no prompt for an epoch, so that its stage is over."""


class Filter(NamedTuple):
  """Which prompts an epoch leaves out; the defaults keep all.

  A rollout is solved if its reward in training was above 0 (`ledger.Record`).

  max_difficulty: leaves out harder prompts, by their data set's number (None:
    keeps all).
  max_solved: leaves out prompts with more than `max_solved` of `of` rollouts
    solved when this stage asked them before it began. Verdicts that failed
    leave both numbers in proportion. Easy, Medium and Hard of arXiv 2505.16400
    are 14, 10 and 6 of 16.
  of: how many rollouts of a prompt the stage asks for before it begins, at
    most: fewer, once they decide; 0: none.
  source: one of SOURCES. 'probe': the stage asks all prompts. 'ledger': it asks
    only those without `tries` verdicts in the ledger; the share of right ones
    among the newest of these verdicts is compared with `max_solved` / `of`.
  tries: how many verdicts of earlier stages replace a probe.
  keep_unsolved: whether to keep prompts without a solved rollout, when they
    were last in an epoch of this stage or, before that, asked by it.
  drop_solved: leaves out prompts all of whose rollouts were solved when they
    were last in an epoch of this stage.
  readmit: the share of the prompts left out for the model's results (never for
    their difficulty) that an epoch takes nevertheless. Nothing else brings a
    prompt back, since one that is left out is not asked again.
  min_judged: the share of a prompt's verdicts that must not have failed. A
    prompt with fewer stays, since too little is known about it.
  """

  max_difficulty: float | None = None
  max_solved: int = 0
  of: int = 0
  source: str = 'probe'
  tries: int = 8
  keep_unsolved: bool = True
  drop_solved: bool = False
  readmit: float = 0.0
  min_judged: float = 0.5


def check(filter: Filter, prompts: Sequence[types.Prompt]) -> None:
  """Checks that a filter is valid and that it can judge every prompt.

  Raises:
    ValueError: one line that begins with the name of a field of `Filter`.
  """
  f = filter
  if not 0.0 <= f.readmit <= 1.0:
    raise ValueError(f'readmit={f.readmit}: give a share, 0.0 to 1.0')
  if not 0.0 <= f.min_judged <= 1.0:
    raise ValueError(f'min_judged={f.min_judged}: give a share, 0.0 to 1.0')
  if not 0 <= f.max_solved <= f.of:
    raise ValueError(
      f'max_solved={f.max_solved}: give 0 to of={f.of}, the rollouts of a '
      'prompt that the stage asks for before it begins'
    )
  if f.source not in SOURCES:
    raise ValueError(f'source={f.source!r}: give {" or ".join(SOURCES)}')
  if f.tries < 1:
    raise ValueError(f'tries={f.tries}: give 1 or more')
  if f.max_difficulty is None:
    return
  # If such prompts stayed, a misspelt field of the data would disable the
  # filter silently.
  unknown = [p.id for p in prompts if p.difficulty is None]
  if unknown:
    raise ValueError(
      f'max_difficulty={f.max_difficulty}: {len(unknown):,} of '
      f'{len(prompts):,} prompts have no difficulty, the first '
      f"{unknown[0]!r:.60}; give each row a 'difficulty', or set this to -1"
    )


def survivors(
  prompts: Sequence[types.Prompt],
  ledger: ledger_lib.Ledger,
  filter: Filter,
  *,
  stage: str,
  epoch: int,
  before_step: int,
  seed: int,
  since: int = 0,
) -> list[types.Prompt]:
  """The prompts of an epoch, in the given order.

  Only records of `stage` from step `since` on and before `before_step` count;
  older ones are of earlier stages, see `known`. Which prompts come back depends
  only on `seed`, stage, epoch and id.

  Raises:
    NothingLeft: one line that begins with the name of a field of `Filter`.
    ValueError: such a line; see `check`, or the stage has asked no prompts.
  """
  check(filter, prompts)
  count = functools.partial(
    outcomes.counts,
    ledger,
    stage=stage,
    before_step=before_step,
    min_judged=filter.min_judged,
  )
  asked = known(ledger, filter, stage=stage, since=since)
  if (
    filter.of
    and not any(p.id in asked for p in prompts)
    and not _was_probed(prompts, ledger, stage, before_step, since)
  ):
    raise ValueError(
      f'of={filter.of}: the ledger has no probe of stage {stage!r:.60} before '
      f'step {before_step}; make one before the first batch, or set this to 0'
    )
  if filter.of:
    asked |= count(kind=ledger_lib.PROBE, since_step=since)
  judges = filter.drop_solved or not filter.keep_unsolved
  trained = {}
  if judges:
    trained = count(kind=ledger_lib.TRAIN, since_step=since + 1)
  reasons = {
    p.id: _reason(p, filter, asked.get(p.id), trained.get(p.id))
    for p in prompts
  }
  kept = [
    p
    for p in prompts
    if (why := reasons[p.id]) is None
    or (
      filter.readmit > 0
      and why != 'max_difficulty'
      and _luck(seed, stage, epoch, p) < filter.readmit
    )
  ]
  if not kept:
    raise NothingLeft(
      _nothing_left(list(reasons.values()), filter, stage, epoch)
    )
  return kept


def known(
  ledger: ledger_lib.Ledger, filter: Filter, *, stage: str, since: int
) -> dict[str, outcomes.Counts]:
  """The results of the prompts that `stage` need not ask, by id.

  The stage begins after step `since`.
  """
  if not filter.of or filter.source != 'ledger':
    return {}
  return outcomes.recent(
    ledger,
    filter.tries,
    stage=stage,
    until_step=since,
    min_judged=filter.min_judged,
  )


@functools.lru_cache(1 << 16)
def decided(filter: Filter, solved: int, judged: int, asked: int) -> bool:
  """Whether what the filter says of a prompt no longer depends on what follows.

  Of the `asked` first of its `of` rollouts, `judged` have a verdict and
  `solved` are solved. The filter then says of these what it would say of all.
  """
  left = filter.of - asked
  # All that may follow is between these: all solved, none solved, none judged.
  ends = (
    outcomes.Counts(solved + left, judged + left),
    outcomes.Counts(solved, judged + left),
    outcomes.Counts(solved, judged),
  )
  reasons = {
    _of_asked(filter, end)
    if end.judged > 0 and end.judged >= filter.min_judged * filter.of
    else None
    for end in ends
  }
  return len(reasons) == 1


def deciding(
  filter: Filter, results: Sequence[ledger_lib.Result | None]
) -> list[ledger_lib.Result] | None:
  """The first results of a prompt that decide; None if one of them is missing.

  `results` are by index, None where there is none yet.
  """
  solved = judged = 0
  for count, result in enumerate(results, 1):
    if result is None:
      return None
    solved += result.solved
    judged += result.judged
    if decided(filter, solved, judged, count):
      return list(results[:count])
  return None


def fewest(filter: Filter) -> int:
  """The least number of rollouts of a prompt that can decide."""
  return next(
    n
    for n in range(1, filter.of + 1)
    for judged in range(n + 1)
    for solved in range(judged + 1)
    if decided(filter, solved, judged, n)
  )


def _was_probed(
  prompts: Sequence[types.Prompt],
  ledger: ledger_lib.Ledger,
  stage: str,
  before_step: int,
  since: int,
) -> bool:
  """Whether the stage asked one of these prompts before it began."""
  asked = outcomes.asked(
    ledger,
    kind=ledger_lib.PROBE,
    stage=stage,
    before_step=before_step,
    since_step=since,
  )
  return any(p.id in asked for p in prompts)


def _reason(
  prompt: types.Prompt,
  filter: Filter,
  asked: outcomes.Counts | None,
  trained: outcomes.Counts | None,
) -> str | None:
  """The field of the filter that leaves a prompt out, or None."""
  f, newest = filter, trained or asked
  if f.max_difficulty is not None and prompt.difficulty > f.max_difficulty:
    return 'max_difficulty'
  by_asked = _of_asked(f, asked) if asked else None
  if by_asked == 'max_solved':
    return by_asked
  if f.drop_solved and trained and trained.solved == trained.judged:
    return 'drop_solved'
  if not f.keep_unsolved and newest and newest.solved == 0:
    return 'keep_unsolved'
  return None


def _of_asked(f: Filter, asked: outcomes.Counts) -> str | None:
  """`_reason` of a prompt that no epoch had."""
  if asked.solved * f.of > f.max_solved * asked.judged:
    return 'max_solved'
  if not f.keep_unsolved and asked.solved == 0:
    return 'keep_unsolved'
  return None


def _luck(seed: int, stage: str, epoch: int, prompt: types.Prompt) -> float:
  """A number in [0, 1) for a prompt and an epoch."""
  # Not `random` or numpy: their streams may change with their versions.
  text = json.dumps([seed, stage, epoch, prompt.id])
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _nothing_left(
  reasons: Sequence[str | None], filter: Filter, stage: str, epoch: int
) -> str:
  lost = {field: reasons.count(field) for field in dict.fromkeys(reasons)}
  worst = max(lost, key=lost.get)
  return (
    f'{worst}={getattr(filter, worst)}: nothing is left of {len(reasons):,} '
    f'prompts for epoch {epoch} of stage {stage!r:.60} (left out by '
    f'{", ".join(f"{field}: {n:,}" for field, n in lost.items())}); loosen '
    f'it, raise readmit={filter.readmit}, or end the stage earlier'
  )
