"""How many prompts the probe before a stage asks, and how often each.

With `filter.source='ledger'` that depends on the stages before. They are
assumed to take all of their steps, and no verdict fails. An epoch asks every
prompt once, and epochs of two stages are shuffled apart. Stages that leave
prompts out by difficulty count for nothing, since it is not known which. A
stage that asks prompts itself leaves none unknown.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import ml_collections

from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import filtering
from acereason_jax.run import parts


def unknown_share(
  filter: filtering.Filter,
  domain: str,
  before: Sequence[ml_collections.ConfigDict],
  rows: int,
) -> float:
  """The share of a domain's `rows` prompts that a stage must ask.

  `before` holds the configs of the stages before it, in order.
  """
  if filter.source != 'ledger':
    return 1.0
  # The probability of each number of verdicts of a prompt, up to `tries`.
  verdicts = {0: 1.0}
  for c in before:
    share = stages_lib.mix(c).get(domain)
    if share is None:
      continue
    own = stages_lib.filters(c)[domain]
    if own['of']:
      return 0.0
    if own['max_difficulty'] < 0:
      epochs = c.steps * c.rollout.prompts * share / rows
      groups = int(parts.build_groups(reader.Reader(c)).low)
      verdicts = _asked(verdicts, epochs, groups, filter.tries)
  return sum(p for count, p in verdicts.items() if count < filter.tries)


def _asked(
  verdicts: Mapping[int, float], epochs: float, groups: int, most: int
) -> dict[int, float]:
  """The probabilities after a stage of so many epochs."""
  whole, part = divmod(epochs, 1.0)
  found: dict[int, float] = {}
  for count, probability in verdicts.items():
    for times, share in ((whole, 1 - part), (whole + 1, part)):
      total = min(most, count + int(times) * groups)
      found[total] = found.get(total, 0.0) + probability * share
  return found


@functools.cache
def mean_tries(filter: filtering.Filter) -> float:
  """The mean number of rollouts that decide, for evenly spread pass rates."""
  # By the number solved so far: the share of prompts that are asked on. After n
  # rollouts of which s were solved, the next is with (s + 1) / (n + 2).
  alive, mean = {0: 1.0}, 0.0
  for n in range(filter.of):
    mean += math.fsum(alive.values())
    later: dict[int, float] = {}
    for solved, share in alive.items():
      right = (solved + 1) / (n + 2)
      for total, part in ((solved + 1, right), (solved, 1 - right)):
        if not filtering.decided(filter, total, n + 1, n + 1):
          later[total] = later.get(total, 0.0) + share * part
    alive = later
  return mean
