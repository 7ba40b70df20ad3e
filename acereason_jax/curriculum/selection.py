"""Selects the next prompts: by epochs, and from domains by their shares.

Everything is a pure function of the data, the ledger and a `Cursor`. An epoch
of a domain is a shuffled pass over the prompts that its filter leaves. These
prompts are found when the first of them is drawn, from records of earlier steps
only, so a resumed run finds the same prompts.
"""

import fractions
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grain

from acereason_jax import types
from acereason_jax.curriculum import filtering
from acereason_jax.curriculum import ledger as ledger_lib

# The fields of a `_Place` by domain: plain JSON values. A stage begins at {}.
Cursor = Mapping[str, Mapping[str, int]]


class _Place(NamedTuple):
  """The progress of a domain.

  epoch: the current epoch, from 0; -1 before the first.
  position: how many prompts of the epoch were drawn.
  size: how many prompts the epoch has; 0 until its first is drawn.
  began: the step whose batch drew its first prompt.
  drawn: how many prompts were drawn over all epochs.
  """

  epoch: int = -1
  position: int = 0
  size: int = 0
  began: int = 0
  drawn: int = 0


def draw(
  count: int,
  prompts: Mapping[str, Sequence[types.Prompt]],
  mix: Mapping[str, float],
  filters: Mapping[str, filtering.Filter],
  ledger: ledger_lib.Ledger,
  cursor: Cursor,
  *,
  seed: int,
  stage: str,
  stage_seed: int,
  step: int,
  since: int = 0,
) -> tuple[list[tuple[types.Prompt, int]], dict[str, dict[str, int]]]:
  """The batch of `step`, `count` pairs (prompt, its epoch), and the new cursor.

  Prompts and filters are by domain; `mix` holds the share of each domain, in
  any unit. After any number of draws of a stage each domain is within one
  prompt of its share. `stage_seed` orders the prompts, epoch by epoch, as
  `grain` shuffles and repeats them. A batch can cross the end of an epoch, so a
  prompt can be in it twice. `seed` and `since`, the step that the stage began
  after, are those of `filtering.survivors`.

  Raises:
    filtering.NothingLeft: an epoch that would begin has no prompts; then
      nothing is drawn.
    ValueError: a share is not valid, a domain has no prompts (see `survivors`),
      or an epoch that has begun has other prompts now.
  """
  shares = _shares(mix)
  _check_domains(shares, prompts, filters)
  places = {d: _Place(**cursor[d]) if d in cursor else _Place() for d in shares}
  orders, drawn = {}, []
  for _ in range(count):
    domain = _next_domain(shares, {d: p.drawn for d, p in places.items()})
    place = places[domain]
    if place.position == place.size:
      place = _Place(place.epoch + 1, began=step, drawn=place.drawn)
      orders.pop(domain, None)
    if domain not in orders:
      kept = filtering.survivors(
        prompts[domain],
        ledger,
        filters[domain],
        stage=stage,
        epoch=place.epoch,
        before_step=place.began,
        seed=seed,
        since=since,
      )
      place = _sized(place, len(kept), domain, stage)
      dataset = grain.MapDataset.source(kept)
      orders[domain] = dataset.seed(stage_seed).shuffle().repeat()
    index = place.epoch * place.size + place.position
    drawn.append((orders[domain][index], place.epoch))
    places[domain] = place._replace(
      position=place.position + 1, drawn=place.drawn + 1
    )
  return drawn, {domain: place._asdict() for domain, place in places.items()}


def _check_domains(
  shares: Mapping[str, fractions.Fraction],
  prompts: Mapping[str, Sequence[types.Prompt]],
  filters: Mapping[str, filtering.Filter],
) -> None:
  """Raises ValueError if a domain has no prompts or no filter."""
  for domain in shares:
    if not prompts.get(domain) or domain not in filters:
      raise ValueError(
        f'mix: has domain {domain!r:.60}, of which there are no prompts or no '
        f'filter; the prompts are of {", ".join(map(repr, prompts))[:200]}'
      )


def _sized(place: _Place, size: int, domain: str, stage: str) -> _Place:
  """`place` with its epoch's size, `size` prompts.

  Raises:
    ValueError: the epoch began with another size.
  """
  if place.size not in (0, size):
    raise ValueError(
      f'domain {domain!r:.60}: epoch {place.epoch} of stage {stage!r:.60} '
      f'began with {place.size:,} prompts, and now has {size:,}; put '
      'its data and its filter back'
    )
  return place._replace(size=size)


def _shares(mix: Mapping[str, float]) -> dict[str, fractions.Fraction]:
  """Exact shares that add up to 1, without the domains whose share is 0."""
  wrong = [w for w in mix.values() if not 0.0 <= w < math.inf]
  total = sum(map(fractions.Fraction, mix.values())) if not wrong else 0
  if not total:
    raise ValueError(f'mix={dict(mix)!r:.200}: give shares, one above 0')
  return {d: fractions.Fraction(w) / total for d, w in mix.items() if w > 0}


def _next_domain(
  shares: Mapping[str, fractions.Fraction], drawn: Mapping[str, int]
) -> str:
  """The next domain: the earliest due of those far enough below their share.

  Taking the domain furthest below its share would not do: with shares of 10,
  10, 1, 1000, 1000, 32 and 1000 one falls more than 1.1 below. By Tijdeman
  (1980, the chairman assignment problem) it is never as much as 1 below, the
  best possible bound.
  """
  n = sum(drawn.values()) + 1
  slack = fractions.Fraction(1, max(2 * len(shares) - 2, 1))
  below = [d for d, s in shares.items() if s * n - drawn[d] >= slack]
  return min(below, key=lambda d: (drawn[d] + 1 - slack) / shares[d])


def may_begin_epoch(
  cursor: Cursor, mix: Mapping[str, float], count: int
) -> bool:
  """Whether a draw of `count` may begin an epoch of a domain of `mix`."""
  places = (_Place(**cursor[d]) if d in cursor else _Place() for d in mix)
  return any(place.position + count > place.size for place in places)


def epochs_done(cursor: Cursor) -> int:
  """The number of epochs that every domain drawn from has finished."""
  return math.floor(progress(cursor))


def progress(cursor: Cursor) -> float:
  """Epochs done, a fraction included, by the domain that has done the least."""
  places = [_Place(**place) for place in cursor.values()]
  return min((_progress(place) for place in places), default=0.0)


def _progress(place: _Place) -> float:
  return place.epoch + place.position / place.size if place.size else 0.0
