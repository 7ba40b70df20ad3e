"""Two models on the same problems: did anything change, and where?

Problem i was judged nA_i and nB_i times, and was right cA_i and cB_i times.
The null hypothesis of all tests here: a problem's solve rate is the same in A
and B. A number that does not exist is nan.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from acereason_jax.evaluation import estimators

# Sums over all 2^20 choices of signs take 0.1 s and 16 MB.
_MOST_EXACT = 20
_DRAWS = 100_000
_SEED = 19
# Sums that differ by rounding only are equal.
_SLACK = 1e-9


class Paired(NamedTuple):
  """The difference of two models, problem by problem.

  difference: mean of m_iB - m_iA.
  rerun_error: its standard error over other draws on the same problems.
  problems_error: its standard error over other problems like these; nan for
    one.
  p: chance of a difference as large as this if nothing changed: `sign_flip`,
    or `dealt_anew` if that is larger.
  detectable: smallest difference that these problems and rollouts would show
    at 5% in 80% of the runs; nan if the problems do not differ.
  problems: number of problems.
  """

  difference: float
  rerun_error: float
  problems_error: float
  p: float
  detectable: float
  problems: int


class Flips(NamedTuple):
  """Problems whose solve rates differ by more than other draws explain.

  up: places of problems that B solves more often, with p at most the level.
  down: places of those that it solves less often.
  p: two-sided Fisher p of every problem; float [N].
  expected_up: number of problems that no change would put in `up`, exact for
    these numbers of right rollouts.
  expected_down: the same for `down`.
  """

  up: list[int]
  down: list[int]
  p: np.ndarray
  expected_up: float
  expected_down: float


class Newly(NamedTuple):
  """Problems that A never solved and B did, next to what luck gives.

  places: places of these problems.
  fisher: one-sided Fisher p of each of `places`.
  expected: number of such problems that no change would give.
  p: chance of so many if nothing changed.
  sure: those of `places` with a Fisher p of at most 0.05.
  """

  places: list[int]
  fisher: list[float]
  expected: float
  p: float
  sure: list[int]


def paired(
  n_a: ArrayLike, c_a: ArrayLike, n_b: ArrayLike, c_b: ArrayLike
) -> Paired:
  """The mean difference with both errors and its p.

  rerun: sqrt(sum_i v_iA / n_iA + v_iB / n_iB) / N; problems: sd(d_i) / sqrt(N),
  the error of paired differences (Miller 2024, arXiv 2411.00640, sec. 4.2).
  Problems that both find hard or both find easy cancel out, which an unpaired
  test of two averages ignores.

  Signs may be exchanged only where A and B have as many rollouts: with 64 and 1
  of hard problems, they reject 27% of the runs without a change at 5%. So
  `dealt_anew`, which is exact for any numbers, is asked too if they differ.
  """
  n_a, c_a, n_b, c_b = _counts(n_a, c_a, n_b, c_b)
  d = c_b / n_b - c_a / n_a
  if not len(d):
    return Paired(*[math.nan] * 5, 0)
  a, b = estimators.average(n_a, c_a), estimators.average(n_b, c_b)
  p = sign_flip(d)
  if (n_a != n_b).any():
    p = max(p, dealt_anew(n_a, c_a, n_b, c_b))
  error = math.nan
  detectable = math.nan
  if len(d) > 1:
    error = float(d.std(ddof=1)) / math.sqrt(len(d))
    if error > 0:
      reach = special.stdtrit(len(d) - 1, [0.975, 0.8]).sum()
      detectable = float(reach) * error
  return Paired(
    float(d.mean()),
    math.hypot(a.rerun_error, b.rerun_error),
    error,
    p,
    detectable,
    len(d),
  )


def sign_flip(differences: ArrayLike) -> float:
  """p of a mean: how often random signs give one as far from 0.

  Fisher's randomization test (The Design of Experiments, 1935, sec. 21). If
  nothing changed, A and B may be exchanged in each problem. All signs are tried
  for up to 20 differences other than 0, else 100,000 draws of a fixed seed.
  """
  d = np.asarray(differences, np.float64)
  d = d[d != 0]
  level = abs(d.sum()) - _SLACK * abs(d).sum()
  if len(d) <= _MOST_EXACT:
    sums = np.zeros(1)
    for value in d:
      sums = np.concatenate([sums + value, sums - value])
    return float((abs(sums) >= level).mean())
  above = sum(
    int((abs(2 * (bits @ d) - d.sum()) >= level).sum())
    for bits in _random_bits(_DRAWS, len(d))
  )
  # The observed signs are one more draw: a p of 0 cannot be.
  return (1 + above) / (1 + _DRAWS)


def dealt_anew(
  n_a: ArrayLike, c_a: ArrayLike, n_b: ArrayLike, c_b: ArrayLike
) -> float:
  """p of the mean difference: how often rollouts dealt anew give one as large.

  If nothing changed, the t right rollouts of a problem are anywhere among its
  nA + nB. 100,000 draws of a fixed seed.
  """
  n_a, c_a, n_b, c_b = _counts(n_a, c_a, n_b, c_b)
  d = c_b / n_b - c_a / n_a
  source = np.random.default_rng(_SEED)
  sums = np.zeros(_DRAWS)
  for a, b, t in np.stack([n_a, n_b, c_a + c_b]).T.tolist():
    if 0 < t < a + b:
      x = np.arange(max(0, t - a), min(b, t) + 1)
      edges = np.cumsum(_hypergeometric(a, b, t))[:-1]
      rank = np.searchsorted(edges, source.random(_DRAWS), side='right')
      sums += (x / b - (t - x) / a)[rank]
  level = abs(d.sum()) - _SLACK * abs(d).sum()
  return (1 + int((abs(sums) >= level).sum())) / (1 + _DRAWS)


def _random_bits(rows: int, columns: int) -> Iterator[np.ndarray]:
  """Blocks of a float64 [rows, columns] of 0 and 1, the same on every host."""
  source = np.random.default_rng(_SEED)
  width = -(-columns // 8)
  block = max(1, (1 << 21) // columns)
  for start in range(0, rows, block):
    count = min(block, rows - start)
    packed = np.frombuffer(source.bytes(count * width), np.uint8)
    bits = np.unpackbits(packed.reshape(count, width), axis=1, count=columns)
    yield bits.astype(np.float64)


def flips(
  n_a: ArrayLike,
  c_a: ArrayLike,
  n_b: ArrayLike,
  c_b: ArrayLike,
  level: float = 0.05,
) -> Flips:
  """The problems that changed, by Fisher's exact test of each.

  Given the t right rollouts of both, their number in B is hypergeometric if
  nothing changed. The two-sided p is the chance of all numbers that are no more
  likely than the one found. The expected numbers are the chances that p is at
  most `level`, summed over the problems: less than `level` of them, because few
  rollouts cannot reach it.
  """
  n_a, c_a, n_b, c_b = _counts(n_a, c_a, n_b, c_b)
  tables = np.stack([n_a, n_b, c_a + c_b])
  tables, which = np.unique(tables, axis=1, return_inverse=True)
  p = np.ones(len(n_a))
  expected_up = expected_down = 0.0
  for j, (a, b, t) in enumerate(tables.T.tolist()):
    mine = np.flatnonzero(which == j)
    chances = _hypergeometric(a, b, t)
    low = max(0, t - a)
    two_sided = _two_sided(chances)
    p[mine] = two_sided[c_b[mine] - low]
    # m_B above m_A if and only if c_B / t is above B's share of the rollouts.
    lead = (np.arange(len(chances)) + low) * (a + b) - t * b
    rare = two_sided <= level
    expected_up += len(mine) * float(chances[rare & (lead > 0)].sum())
    expected_down += len(mine) * float(chances[rare & (lead < 0)].sum())
  rise = c_b * n_a - c_a * n_b
  return Flips(
    np.flatnonzero((p <= level) & (rise > 0)).tolist(),
    np.flatnonzero((p <= level) & (rise < 0)).tolist(),
    p,
    expected_up,
    expected_down,
  )


def _hypergeometric(a: int, b: int, t: int) -> np.ndarray:
  """The chances of max(0, t - a) ... min(b, t) of t right rollouts in B."""
  x = np.arange(max(0, t - a), min(b, t) + 1)
  log = -sum(special.gammaln(i + 1) for i in (x, b - x, t - x, a - t + x))
  found = np.exp(log - log.max())
  return found / found.sum()


def _two_sided(chances: np.ndarray) -> np.ndarray:
  """For each outcome, the chance of all that are no more likely."""
  order = np.argsort(chances)
  rising = chances[order]
  last = np.searchsorted(rising, rising * (1 + 1e-7), side='right') - 1
  found = np.empty_like(chances)
  found[order] = np.minimum(np.cumsum(rising)[last], 1.0)
  return found


def newly_solved(
  n_a: ArrayLike, c_a: ArrayLike, n_b: ArrayLike, c_b: ArrayLike
) -> Newly:
  """Problems with no right rollout in A and one or more in B.

  If nothing changed, the t right rollouts of a problem are anywhere among its
  nA + nB, so all are in B with the chance C(nB, t) / C(nA + nB, t), which is
  also the one-sided Fisher p of such a problem. The sum over problems with
  t > 0 is the number to expect. p is the tail of the number of these
  independent events. For newly lost problems, exchange A and B.
  """
  n_a, c_a, n_b, c_b = _counts(n_a, c_a, n_b, c_b)
  total = c_a + c_b
  # None of the right ones is among A's rollouts.
  luck = np.array(
    [
      estimators.all_wrong(*table)
      for table in zip((n_a + n_b).tolist(), n_a.tolist(), total.tolist())
    ]
  )
  found = np.flatnonzero((c_a == 0) & (c_b > 0))
  chances = luck[total > 0]
  return Newly(
    found.tolist(),
    luck[found].tolist(),
    float(chances.sum()),
    at_least(len(found), chances),
    found[luck[found] <= 0.05].tolist(),
  )


def at_least(count: int, chances: ArrayLike) -> float:
  """The chance that `count` or more of independent events happen.

  The tail of the Poisson binomial distribution, by its exact convolution, so
  that small tails keep their digits.
  """
  if count <= 0:
    return 1.0
  parts = [np.array([1 - q, q]) for q in np.asarray(chances, np.float64)]
  while len(parts) > 1:
    odd = parts[len(parts) & ~1 :]
    parts = [np.convolve(*pair) for pair in zip(parts[::2], parts[1::2])] + odd
  return min(float(parts[0][count:].sum()), 1.0) if parts else 0.0


def holm(ps: Sequence[float]) -> list[float]:
  """p values adjusted for several comparisons (Holm 1979), in their order.

  A p that is nan is of no comparison and stays nan.
  """
  found = list(map(float, ps))
  known = sorted((i for i, p in enumerate(ps) if p == p), key=found.__getitem__)
  largest = 0.0
  for rank, i in enumerate(known):
    largest = max(largest, min(1.0, (len(known) - rank) * found[i]))
    found[i] = largest
  return found


def _counts(*given: ArrayLike) -> tuple[np.ndarray, ...]:
  n_a, c_a = estimators.counts(*given[:2])
  n_b, c_b = estimators.counts(*given[2:])
  if len(n_a) != len(n_b):
    raise ValueError(
      f'{len(n_a)} problems of A and {len(n_b)} of B: expected the same, in '
      'one order'
    )
  return n_a, c_a, n_b, c_b
