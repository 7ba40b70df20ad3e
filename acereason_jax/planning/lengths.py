"""The lengths of simulated responses: by assumption, or from a run's ledger.

A response's natural length is log-normal, and what is longer than the limit is
cut off there. The natural logarithm of the length is

    mu + spread * (sqrt(BETWEEN) * a_P + sqrt(1 - BETWEEN) * b_PG)

with a standard normal number a for each prompt, and one, b, for each of its
rollouts. The numbers are evenly spaced quantiles in random order. So each batch
is a typical one: its mean and its longest responses hardly depend on the seed.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.curriculum import ledger
from acereason_jax.planning import values

# Share of the variance of a length's logarithm that is between prompts, not
# between rollouts of a prompt [open]: hard problems take longer.
BETWEEN = 0.5
_NORMAL = statistics.NormalDist()


class Draws(NamedTuple):
  """Which lengths to draw; equal values give equal lengths.

  prompts, groups: number of prompts, and of rollouts of each.
  limit: most tokens of a response.
  mean: mean length after the limit, tokens.
  spread: see the file's docstring.
  seed: of the random order.
  known: lengths of groups of an earlier run, tokens; if there are any, groups
    are drawn from them and `mean` and `spread` are not read.
  """

  prompts: int
  groups: int
  limit: int
  mean: float
  spread: float
  seed: int
  known: tuple[tuple[int, ...], ...] = ()


def draw(d: Draws) -> np.ndarray:
  """The length of each rollout, int64 [prompts, groups], 1 to `limit`.

  Raises:
    ValueError: see `solve`.
  """
  random = np.random.default_rng(d.seed)
  if d.known:
    return _from_known(d, random)
  between = _quantiles(d.prompts, random)[:, None]
  within = _quantiles(d.prompts * d.groups, random)
  within = within.reshape(d.prompts, d.groups)
  normal = math.sqrt(BETWEEN) * between + math.sqrt(1 - BETWEEN) * within
  natural = np.exp(solve(d.mean, d.limit, d.spread) + d.spread * normal)
  return np.clip(np.rint(natural), 1, d.limit).astype(np.int64)


def _quantiles(count: int, random: np.random.Generator) -> np.ndarray:
  """Quantiles of the standard normal distribution in random order, [count]."""
  middle = [_NORMAL.inv_cdf((i + 0.5) / count) for i in range(count)]
  return random.permutation(np.array(middle))


def _from_known(d: Draws, random: np.random.Generator) -> np.ndarray:
  """Groups drawn with repetition, and of each its rollouts by chance.

  A rollout is drawn again when all of its group have been.
  """
  chosen = random.integers(len(d.known), size=d.prompts)
  mixed = (random.permutation(d.known[i]) for i in chosen)
  groups = [np.resize(group, d.groups) for group in mixed]
  return np.clip(groups, 1, d.limit).astype(np.int64)


def truncated_mean(mu: float, limit: float, spread: float) -> float:
  """E[min(L, limit)] of a log-normal L, tokens.

  exp(mu + s^2 / 2) P(z < (ln limit - mu - s^2) / s) from the responses that
  end, and limit P(z > (ln limit - mu) / s) from the others, for s = spread.
  """
  top = math.log(limit)
  if not spread:
    return min(math.exp(mu), limit)
  ended = _NORMAL.cdf((top - mu - spread**2) / spread)
  cut = _NORMAL.cdf((mu - top) / spread)
  return math.exp(mu + spread**2 / 2) * ended + limit * cut


def solve(mean: float, limit: float, spread: float) -> float:
  """The mu for which the mean after the limit is `mean`.

  A mean of `limit` has a mu at which every response is cut off.

  Raises:
    ValueError: no responses have such a mean or spread.
  """
  if not 1 <= mean <= limit:
    raise ValueError(
      f'mean response of {mean:g} tokens: expected at least 1 and at most the '
      f'{limit} tokens of the longest response; change --mean_tokens'
    )
  # Beyond 3 the terms of the mean are too large for their differences.
  if not 0 <= spread <= 3:
    raise ValueError(
      f'--spread={spread:g}: expected 0 to 3, the standard deviation of the '
      "logarithm of a response's length"
    )
  low, high = -20.0, math.log(limit) + 40 * max(spread, 1e-3)
  for _ in range(100):
    middle = (low + high) / 2
    if truncated_mean(middle, limit, spread) < mean:
      low = middle
    else:
      high = middle
  return (low + high) / 2


def mean_of(limit: int, assumed: values.Assumed) -> float:
  """The assumed mean response of a limit, tokens.

  Between two limits that are known it is interpolated. Below the least it has
  the same share of the limit, and above the largest it is that one's.
  """
  known = sorted(assumed.mean_tokens.items())
  least, most = known[0], known[-1]
  if limit < least[0]:
    return max(1.0, limit * least[1] / least[0])
  if limit > most[0]:
    return most[1]
  return float(np.interp(limit, *zip(*known)))


def known_groups(
  records: Sequence[ledger.Record],
) -> tuple[tuple[int, ...], ...]:
  """Lengths of a ledger's groups, for `Draws.known`.

  A record has the sum of its rollouts' lengths, the longest, and how many were
  cut off. Those that were cut off, or one, get the longest length. The others
  share the rest equally, so they are more even than they were.
  """
  groups = []
  for record in records:
    count = record.rollouts
    if not count or not record.tokens:
      continue
    longest = min(max(record.truncated, 1), count)
    rest = record.tokens - longest * record.longest
    others = count - longest
    even = [(rest + i) // others for i in range(others)]
    groups.append((record.longest,) * longest + tuple(max(n, 1) for n in even))
  return tuple(groups)


def by_limit(
  records: Sequence[ledger.Record], limits: Mapping[str, int]
) -> dict[int, tuple[tuple[int, ...], ...]]:
  """`known_groups` of each limit of a response, tokens.

  `limits` are those of stages by name. Stages of one limit share their groups,
  and probes are left out: they ask other prompts.

  Raises:
    ValueError: one line; no record is of these stages, or a response is longer
      than its stage allows.
  """
  found = {}
  for name, limit in limits.items():
    own = [r for r in records if r.stage == name and r.kind == 'train']
    if longer := [r for r in own if r.longest > limit]:
      raise ValueError(
        f'stage {name!r}: a response to {longer[0].prompt!r} has '
        f'{longer[0].longest} tokens, but rollout.max_tokens={limit}; give the '
        'ledger of a run with the lengths of this config'
      )
    if groups := known_groups(own):
      found[limit] = found.get(limit, ()) + groups
  if not found:
    stages = sorted({r.stage for r in records})
    raise ValueError(
      f'no record is of the stages {", ".join(map(repr, limits))}; there are '
      f'{", ".join(map(repr, stages)) or "none"}'
    )
  return found
