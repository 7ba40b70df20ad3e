"""What an evaluation will take, before it starts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.rollout import requests

# Share of the rollouts whose lengths are told if nothing was known before.
EARLY_SHARE = 0.02


class Earlier(NamedTuple):
  """What another evaluation's results tell.

  lengths: mean length of a rollout in tokens, by 'benchmark/id'.
  means: the same of all rollouts of a benchmark.
  tokens_per_chip_hour: speed of its decoding; 0 if unknown.
  """

  lengths: Mapping[str, float]
  means: Mapping[str, float]
  tokens_per_chip_hour: float


NOTHING = Earlier({}, {}, 0.0)


def of(results: Mapping[str, Any]) -> Earlier:
  lengths = {}
  for name, judges in results['benchmarks'].items():
    for entry in judges.values():
      for row in entry['by_problem']:
        if row['mean_length'] is not None:
          lengths[f'{name}/{row["id"]}'] = float(row['mean_length'])
  means = {
    name: float(mean)
    for name, each in results['rollouts'].items()
    if (mean := each['length']['mean']) is not None
  }
  cost = results['cost']
  hours, tokens = cost.get('chip_hours') or 0.0, cost.get('tokens') or 0
  return Earlier(lengths, means, tokens / hours if hours else 0.0)


def expected(
  limits: Mapping[str, int], own: Mapping[str, float], earlier: Earlier
) -> dict[str, float]:
  """Expected length of each prompt's rollouts, to start the longest first.

  `limits` is the most that a prompt's rollouts may have, by its id, which is
  also the guess if neither its `own` rollouts nor `earlier` ones tell.
  """
  guess = lambda name, limit: earlier.lengths.get(
    name, earlier.means.get(name.partition('/')[0], limit)
  )
  return {
    name: float(own.get(name, guess(name, limit)))
    for name, limit in limits.items()
  }


def known(
  lengths: Mapping[str, float], own: Mapping[str, float], earlier: Earlier
) -> dict[str, float]:
  """Those of `expected` that rollouts tell, not the limit."""
  return {
    name: length
    for name, length in lengths.items()
    if name in own
    or name in earlier.lengths
    or name.partition('/')[0] in earlier.means
  }


def told(
  asked: Sequence[requests.Request],
  there: int,
  lengths: Mapping[str, float],
  earlier: Earlier,
  chips: int,
  device: str,
  price: float,
) -> list[str]:
  """Lines: rollouts, tokens, chip-hours and price, as far as they are known.

  `lengths` are expected lengths that are more than a guess, by prompt id.
  """
  line = f'{len(asked):,} rollouts to draw'
  if there:
    line += f', {there:,} there already'
  known = [lengths[r.prompt.id] for r in asked if r.prompt.id in lengths]
  if not known:
    most = sum(r.limit for r in asked)
    return [
      f'{line}; tokens unknown until {EARLY_SHARE:.0%} of them have ended, at '
      f'most {size(most)}',
      _place(chips, device),
    ]
  tokens = sum(known) / len(known) * len(asked)
  line += f', about {size(tokens)} tokens'
  place = _place(chips, device)
  if chips and earlier.tokens_per_chip_hour:
    hours = tokens / earlier.tokens_per_chip_hour
    place += f', about {hours:,.1f} chip-hours at the speed of --like'
    if price:
      place += f', {hours * price:,.2f} at price_per_chip_hour={price:g}'
  return [line, place]


def early(lengths: Sequence[int], total: int) -> str:
  """The line after the first rollouts have ended."""
  mean = sum(lengths) / len(lengths)
  return (
    f'the first {len(lengths):,} rollouts have {mean:,.0f} tokens on average: '
    f'at least {size(mean * total)} in all, because short ones end first'
  )


def size(count: float) -> str:
  """'42.5 M' or '812'."""
  for unit, name in ((1e9, ' G'), (1e6, ' M'), (1e3, ' K')):
    if count >= unit:
      return f'{count / unit:,.1f}{name}'
  return f'{count:,.0f}'


def _place(chips: int, device: str) -> str:
  return f'on {chips} {device}' if chips else f'on {device}, without chips'
