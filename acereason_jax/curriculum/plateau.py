"""Whether a model still improves: the rise of a rate and its standard error.

The mean reward of a batch does not show it: filters, mixes and temperatures
change the mean too, and most of its changes are noise. So prompts are compared
with themselves, and a gain comes with its standard error.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.curriculum import ledger as ledger_lib

# Fewer prompts than this have no standard error to rely on.
MIN_PROMPTS = 20
# A pass rate depends on the temperature. Rates at temperatures that differ by
# more than this share are not compared.
SAME_TEMPERATURE = 0.05


class Rise(NamedTuple):
  """The rise of a rate.

  gain: the rise over a window; a rate is 0 to 1.
  error: the standard error of the gain.
  prompts: how many prompts were compared; 0: the rate is not one of prompts.
  """

  gain: float
  error: float
  prompts: int = 0


def of_values(values: Sequence[float], window: int) -> Rise | None:
  """The rise of the mean, from the previous `window` values to the newest.

  Values that are not finite are left out. None: there are not two windows of at
  least 2 values.
  """
  finite = [value for value in values if math.isfinite(value)]
  before, newest = finite[-2 * window : -window], finite[-window:]
  if window < 2 or len(before) < window:
    return None
  gain = (math.fsum(newest) - math.fsum(before)) / window
  variance = np.var(before, ddof=1) + np.var(newest, ddof=1)
  return Rise(gain, math.sqrt(variance / window))


def of_same_prompts(
  ledger: ledger_lib.Ledger,
  *,
  stage: str,
  since: int,
  newest: int,
  window: int,
  solved_leave: Mapping[str, bool],
  unsolved_leave: Mapping[str, bool],
  temperatures: Sequence[float],
) -> Rise | None:
  """How much the solve rate of the same prompts rises in `window` steps.

  Solved means what filters use (`ledger.Record`), since they choose which
  prompts are asked again.

  The stage began after step `since` and is at step `newest`. Each group of the
  newest `window` steps is compared with the one before it of the same prompt,
  whenever that was. Probes do not count, since they chose which prompts stay.
  `temperatures` are those of the stage's steps.

  A filter that drops prompts solved every time (`solved_leave`, by domain)
  keeps those that had bad luck, which then seem to gain. So for such a domain
  only groups count that are not solved every time, before and after alike. If
  the two groups differ in size, the mean is over all draws of the smaller size
  from the larger group that are not solved every time. Without a gain the two
  then differ only by chance, whatever the size and the filter. The same holds
  for prompts never solved (`unsolved_leave`).

  None: too few prompts were asked twice, or the stage is shorter than a window.
  """
  if newest - since < window:
    return None
  before, after = _pairs(ledger, stage, since, newest - window)
  steps = [rows['step'].astype(np.int64) for rows in (before, after)]
  alike = _same_temperature(temperatures, *(s - since - 1 for s in steps))
  before, after = before[alike], after[alike]
  domains = ledger.texts('domain')
  leaves = [
    np.array([bool(by_domain.get(d)) for d in domains], bool)[after['domain']]
    for by_domain in (solved_leave, unsolved_leave)
  ]
  size = np.minimum(_judged(before), _judged(after))
  was, share_before = _mean_if_kept(before, size, *leaves)
  now, share_after = _mean_if_kept(after, size, *leaves)
  gain = now * share_before - was * share_after
  weight = share_before * share_after
  length = weight * (steps[1] - steps[0])[alike]
  prompts = len(np.unique(after['prompt'][weight > 0]))
  if prompts < MIN_PROMPTS or not length.sum():
    return None
  slope = gain.sum() / length.sum()
  # A prompt's groups depend on each other, so a prompt is one observation.
  left = np.bincount(after['prompt'], gain - slope * length)
  error = math.sqrt((left**2).sum() * prompts / (prompts - 1)) / length.sum()
  return Rise(float(slope * window), float(error * window), prompts)


def _pairs(
  ledger: ledger_lib.Ledger, stage: str, since: int, after: int
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of each group after step `after`, and of its prompt's group before."""
  rows = ledger.rows[np.searchsorted(ledger.rows['step'], since + 1) :]
  names = ledger.texts('stage')
  mine = rows['stage'] == (names.index(stage) if stage in names else -1)
  mine &= rows['kind'] == ledger_lib.KINDS.index(ledger_lib.TRAIN)
  rows = rows[np.flatnonzero(mine & (_judged(rows) > 0))]
  # The rows are in order of their steps.
  rows = rows[np.argsort(rows['prompt'], kind='stable')]
  pair = (rows['prompt'][1:] == rows['prompt'][:-1]) & (
    rows['step'][1:] > after
  )
  return rows[:-1][pair], rows[1:][pair]


def _judged(rows: np.ndarray) -> np.ndarray:
  return sum(rows[n].astype(np.int64) for n in ('right', 'wrong', 'unparsed'))


def _same_temperature(
  temperatures: Sequence[float], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Whether two steps of the stage, from 0, were asked alike; [N] bool."""
  known = np.array([*temperatures, math.nan], float)
  a, b = (known[np.clip(i, -1, len(temperatures))] for i in (first, second))
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.abs(np.log(b / a)) <= math.log1p(SAME_TEMPERATURE)


def _mean_if_kept(
  rows: np.ndarray,
  size: np.ndarray,
  solved_leave: np.ndarray,
  unsolved_leave: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """(mean rate, 0 where a draw would leave; the share of draws that stay).

  Over all draws of `size` rollouts from each row's.
  """
  solved, judged = rows['solved'].astype(np.int64), _judged(rows)
  every = _chance_all(solved, judged, size) * solved_leave
  none = _chance_all(judged - solved, judged, size) * unsolved_leave
  return solved / np.maximum(judged, 1) - every, 1.0 - every - none


def _chance_all(
  solved: np.ndarray, judged: np.ndarray, size: np.ndarray
) -> np.ndarray:
  """The chance that `size` of `judged` rollouts are all among the `solved`."""
  if not len(solved):
    return np.zeros(0)
  cases, place = np.unique(
    np.stack([solved, judged, size], 1), axis=0, return_inverse=True
  )
  chances = np.array([_chance(*case) for case in cases.tolist()])
  return chances[place.reshape(-1)]


@functools.cache
def _chance(solved: int, judged: int, size: int) -> float:
  return math.comb(solved, size) / math.comb(judged, size)
