"""What an evaluation will take, before it starts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.evaluation import shown, values
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


class Asked(NamedTuple):
  """The rollouts to draw.

  requests: in the order to start them.
  there: number of rollouts that are there already.
  lengths: expected lengths that rollouts tell, by prompt id.
  """

  requests: list[requests.Request]
  there: int
  lengths: Mapping[str, float]


def asked(
  plan: values.Plan,
  prompts: Mapping[str, Sequence[types.Prompt]],
  known: Mapping[str, Mapping[int, int]],
  earlier: Earlier,
) -> Asked:
  """The rollouts that are not `known`, the longest first.

  `known` has the lengths of those that are there, by prompt id and index. A
  prompt of which nothing tells a length counts as long as its limit.
  """
  found, there, lengths, limits = [], 0, {}, {}
  for bench in plan.benchmarks:
    every = prompts[bench.name]
    mean = earlier.means.get(bench.name)
    for group in requests.for_prompts(every, bench.n, bench.max_tokens):
      name = group[0].prompt.id
      limits[name] = float(bench.max_tokens)
      have = known.get(name, {})
      length = earlier.lengths.get(name, mean)
      if have:
        length = sum(have.values()) / len(have)
      if length is not None:
        lengths[name] = length
      new = [r for r in group if r.index not in have]
      there += len(group) - len(new)
      found += new
  return Asked(requests.longest_first(found, limits | lengths), there, lengths)


def told(
  asked: Asked, earlier: Earlier, chips: int, device: str, price: float
) -> list[str]:
  """Lines: rollouts, tokens, chip-hours and price, as far as they are known."""
  new = asked.requests
  line = f'{len(new):,} rollouts to draw'
  if asked.there:
    line += f', {asked.there:,} there already'
  if not new:
    return [line]
  ids = [r.prompt.id for r in new]
  known = [asked.lengths[name] for name in ids if name in asked.lengths]
  if not known:
    most = sum(r.limit for r in new)
    return [
      f'{line}, at most {shown.size(most)} tokens; an estimate follows when '
      f'{EARLY_SHARE:.0%} of the rollouts have ended',
      _place(chips, device),
    ]
  tokens = sum(known) / len(known) * len(new)
  line += f', about {shown.size(tokens)} tokens'
  place = _place(chips, device)
  if chips and earlier.tokens_per_chip_hour:
    hours = tokens / earlier.tokens_per_chip_hour
    place += f', about {hours:,.1f} chip-hours at the speed of --like'
    if price:
      place += f', ${hours * price:,.2f} at price_per_chip_hour={price:g}'
  return [line, place]


def early(lengths: Sequence[int], total: int) -> str:
  """The line after the first rollouts have ended."""
  mean = sum(lengths) / len(lengths)
  return (
    f'the first {len(lengths):,} rollouts have {mean:,.0f} tokens on average: '
    f'at least {shown.size(mean * total)} in all, because short ones end first'
  )


def _place(chips: int, device: str) -> str:
  return f'on {chips} {device}' if chips else 'on the CPU'
