"""Which prompts come next: filters, epochs, and domains in their shares.

Everything is a pure function of the data, the ledger and a `Cursor`. An epoch
of a domain is a shuffled pass over the prompts its filter leaves; they are
found anew when its first prompt is drawn, from records of earlier steps alone,
so a run that goes on finds the same ones.
"""

import fractions
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grain

from acereason_jax import types
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes, plateau

# What a stage's end can follow: the pass rate of prompts asked again, and means
# of whole batches, which change with the prompts in them.
SAME_PROMPTS = 'same_prompts'
OF_BATCHES = 'reward', 'pass_rate', 'solved_share'
# Standard errors: of a gain that lies at `Stop.gain`, one look in 40 stops.
_SURE = 2.0

# By domain the fields of a `_Place`: plain JSON values. {} is where a stage
# begins.
Cursor = Mapping[str, Mapping[str, int]]


class NothingLeft(ValueError):
  """A filter leaves no prompt for an epoch, so that its stage is over."""


class Filter(NamedTuple):
  """Which prompts an epoch leaves out; the defaults keep all.

  A rollout is solved if its reward in training was above 0 (`ledger.Record`).

  `max_difficulty`: harder ones, by what their data set says (None: keep all).
  `max_solved` and `of`: those with more than `max_solved` of `of` rollouts
  solved when this stage asked them before it began (`of` 0: it did not ask);
  verdicts that failed leave both numbers in proportion. Easy, Medium and Hard
  of arXiv 2505.16400 are 14, 10 and 6 of 16.
  `drop_solved`: those all of whose rollouts were solved when this stage last
  had them in an epoch. `keep_unsolved`: whether to keep those none of whose
  were; before their first epoch, by what the stage asked before it began.
  `min_judged`: the share of a prompt's verdicts that must not have failed; of
  a prompt with fewer nothing is known, so it stays.
  `readmit`: the share of the prompts left out for what the model makes of them
  (never for their difficulty) that an epoch takes all the same. What is left
  out is not asked again, so only this brings it back.
  """

  max_difficulty: float | None = None
  max_solved: int = 0
  of: int = 0
  keep_unsolved: bool = True
  drop_solved: bool = False
  readmit: float = 0.0
  min_judged: float = 0.5


class Stop(NamedTuple):
  """When a stage ends; 0 and '' switch a rule off.

  `steps` and `epochs` of the stage. A plateau: `metric` surely rises by less
  than `gain` over `window` steps ('same_prompts') or over `window` values of it
  (any other): its gain and two standard errors are below that. See plateau.py.
  """

  steps: int = 0
  epochs: int = 0
  metric: str = ''
  window: int = 0
  gain: float = 0.0


class _Place(NamedTuple):
  """How far a domain is: `position` of the `size` prompts of `epoch`, which
  began with the batch of step `began`; `drawn` ones over all epochs."""

  epoch: int = -1
  position: int = 0
  size: int = 0
  began: int = 0
  drawn: int = 0


def check(filter: Filter, prompts: Sequence[types.Prompt]) -> None:
  """Checks that a filter can be, and that it can judge every prompt.

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
  if f.max_difficulty is None:
    return
  # Kept, a misspelt field of the data would switch the filter off unseen.
  unknown = [p.id for p in prompts if p.difficulty is None]
  if unknown:
    raise ValueError(
      f'max_difficulty={f.max_difficulty}: {len(unknown):,} of '
      f'{len(prompts):,} prompts have no difficulty, the first '
      f"{unknown[0]!r:.60}; give each row a 'difficulty', or set this to None"
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

  Only records of `stage` and of steps before `before_step` count, and of an
  earlier stage of that name, before step `since`, none. `seed`,
  stage, epoch and id alone decide who comes back.

  Raises:
    NothingLeft: one line that begins with the name of a field of `Filter`.
    ValueError: such a line; see `check`, or the stage has asked nothing.
  """
  check(filter, prompts)
  count = functools.partial(
    outcomes.counts,
    ledger,
    stage=stage,
    before_step=before_step,
    min_judged=filter.min_judged,
  )
  asked = count(kind=ledger_lib.PROBE, since_step=since) if filter.of else {}
  if filter.of and not _was_probed(prompts, ledger, stage, before_step, since):
    raise ValueError(
      f'of={filter.of}: the ledger has no probe of stage {stage!r:.60} before '
      f'step {before_step}; make one before the first batch, or set this to 0'
    )
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


def _was_probed(
  prompts: Sequence[types.Prompt],
  ledger: ledger_lib.Ledger,
  stage: str,
  before_step: int,
  since: int,
) -> bool:
  """Whether the stage has asked one of these before it began."""
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
  if asked and asked.solved * f.of > f.max_solved * asked.judged:
    return 'max_solved'
  if f.drop_solved and trained and trained.solved == trained.judged:
    return 'drop_solved'
  if not f.keep_unsolved and newest and newest.solved == 0:
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


def draw(
  count: int,
  prompts: Mapping[str, Sequence[types.Prompt]],
  mix: Mapping[str, float],
  filters: Mapping[str, Filter],
  ledger: ledger_lib.Ledger,
  cursor: Cursor,
  *,
  seed: int,
  stage: str,
  stage_seed: int,
  step: int,
  since: int = 0,
) -> tuple[list[tuple[types.Prompt, int]], dict[str, dict[str, int]]]:
  """The next `count` (prompt, its epoch), the batch of `step`; the new cursor.

  Prompts and filters are by domain; `mix` holds the share of each that is
  drawn from, in any unit. After any number of draws of a stage each domain is
  within one prompt of its share. `stage_seed` orders the prompts: with one
  domain and nothing left out as `grain` shuffles and repeats them, epoch by
  epoch. Batches run across the end of an epoch: a prompt can stand twice in
  one. `seed`, and `since`, the step that the stage began after: see
  `survivors`.

  Raises:
    NothingLeft: an epoch that would begin has no prompts; nothing is drawn.
    ValueError: a share, a domain without prompts, see `survivors`; or an epoch
      that has begun has other prompts now.
  """
  shares = _shares(mix)
  for domain in shares:
    if not prompts.get(domain) or domain not in filters:
      raise ValueError(
        f'mix: has domain {domain!r:.60}, of which there are no prompts or no '
        f'filter; the prompts are of {", ".join(map(repr, prompts))[:200]}'
      )
  places = {d: _Place(**cursor[d]) if d in cursor else _Place() for d in shares}
  orders, drawn = {}, []
  for _ in range(count):
    domain = _next_domain(shares, {d: p.drawn for d, p in places.items()})
    place = places[domain]
    if over := place.position == place.size:
      place = _Place(place.epoch + 1, began=step, drawn=place.drawn)
    if over or domain not in orders:
      kept = survivors(
        prompts[domain],
        ledger,
        filters[domain],
        stage=stage,
        epoch=place.epoch,
        before_step=place.began,
        seed=seed,
        since=since,
      )
      if not over and len(kept) != place.size:
        raise ValueError(
          f'domain {domain!r:.60}: epoch {place.epoch} of stage {stage!r:.60} '
          f'began with {place.size:,} prompts, and now has {len(kept):,}; put '
          'its data and its filter back'
        )
      place = place._replace(size=len(kept))
      dataset = grain.MapDataset.source(kept)
      orders[domain] = dataset.seed(stage_seed).shuffle().repeat()
    index = place.epoch * place.size + place.position
    drawn.append((orders[domain][index], place.epoch))
    places[domain] = place._replace(
      position=place.position + 1, drawn=place.drawn + 1
    )
  return drawn, {domain: place._asdict() for domain, place in places.items()}


def _shares(mix: Mapping[str, float]) -> dict[str, fractions.Fraction]:
  """Exact shares that add up to 1; without the domains that have none."""
  wrong = [w for w in mix.values() if not 0.0 <= w < math.inf]
  total = sum(map(fractions.Fraction, mix.values())) if not wrong else 0
  if not total:
    raise ValueError(f'mix={dict(mix)!r:.200}: give shares, one above 0')
  return {d: fractions.Fraction(w) / total for d, w in mix.items() if w > 0}


def _next_domain(
  shares: Mapping[str, fractions.Fraction], drawn: Mapping[str, int]
) -> str:
  """Whose turn it is: of those far enough behind, whose is due the earliest.

  Whoever is furthest behind would not do: with shares of 10, 10, 1, 1000, 1000,
  32 and 1000 one gets more than 1.1 behind. Tijdeman (1980, the chairman
  assignment problem): never as much as 1, the least that can be promised.
  """
  n = sum(drawn.values()) + 1
  slack = fractions.Fraction(1, max(2 * len(shares) - 2, 1))
  behind = [d for d, s in shares.items() if s * n - drawn[d] >= slack]
  return min(behind, key=lambda d: (drawn[d] + 1 - slack) / shares[d])


def may_begin_epoch(
  cursor: Cursor, mix: Mapping[str, float], count: int
) -> bool:
  """Whether a draw of `count` may begin an epoch of a domain of `mix`."""
  places = (_Place(**cursor[d]) if d in cursor else _Place() for d in mix)
  return any(place.position + count > place.size for place in places)


def epochs_done(cursor: Cursor) -> int:
  """The epochs that every domain drawn from has finished."""
  return math.floor(progress(cursor))


def progress(cursor: Cursor) -> float:
  """Epochs and the part of one, of the domain that has done the least."""
  places = [_Place(**place) for place in cursor.values()]
  return min((_progress(place) for place in places), default=0.0)


def _progress(place: _Place) -> float:
  return place.epoch + place.position / place.size if place.size else 0.0


def rise(
  stop: Stop,
  history: Sequence[float],
  ledger: ledger_lib.Ledger,
  filters: Mapping[str, Filter],
  *,
  stage: str,
  since: int,
  newest: int,
  temperatures: Sequence[float],
) -> plateau.Rise | None:
  """How much `stop.metric` rises; None: it is '', or too little is known yet.

  `history` holds its values in this stage, the newest last, and filters are by
  domain. The stage began after step `since` and stands at step `newest`;
  `temperatures` are those of its steps.
  """
  if not stop.metric:
    return None
  if stop.metric != SAME_PROMPTS:
    return plateau.of_values(history, stop.window)
  return plateau.of_same_prompts(
    ledger,
    stage=stage,
    since=since,
    newest=newest,
    window=stop.window,
    solved_leave={d: f.drop_solved for d, f in filters.items()},
    unsolved_leave={d: not f.keep_unsolved for d, f in filters.items()},
    temperatures=temperatures,
  )


def should_stop(
  stop: Stop, stage_step: int, epochs_done: int, rise: plateau.Rise | None
) -> str | None:
  """Why a stage ends after `stage_step` of its steps, or None."""
  if stop.steps and stage_step >= stop.steps:
    return f'{stop.steps} steps'
  if stop.epochs and epochs_done >= stop.epochs:
    return f'{stop.epochs} epochs'
  if rise is None or rise.gain + _SURE * rise.error >= stop.gain:
    return None
  asked = f' of {rise.prompts:,} prompts' if rise.prompts else ''
  return (
    f'{stop.metric} rose by {rise.gain:.3g} (standard error {rise.error:.2g}) '
    f'over a window of {stop.window}{asked}, surely less than {stop.gain:g}'
  )
