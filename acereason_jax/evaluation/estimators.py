"""Rates of one model on one benchmark, with the errors that belong to them.

Problem i was judged n_i times and was right c_i times; m_i = c_i / n_i. Failed
judgements are in neither count. Two questions have two errors:

- rerun: other draws on the same problems. It shrinks with the rollouts.
- problems: other problems like these. It contains the first one and shrinks
  only with the number of problems.

A number that does not exist is nan; without problems, every number is.
"""

import collections
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


class Average(NamedTuple):
  """avg@k: the mean of the problems' shares of right rollouts.

  avg: mean of m_i, 0 to 1.
  k: judged rollouts of a problem, in the mean: 63.9 if some judgements failed.
  rerun_error: standard error over other draws on the same problems; 0 if every
    problem was always or never right, which `never_bound` puts a limit on.
  problems_error: standard error over other problems like these; nan for one.
  problems: number of problems.
  """

  avg: float
  k: float
  rerun_error: float
  problems_error: float
  problems: int


class PassAtK(NamedTuple):
  """A point of the curve of pass@k.

  k: rollouts of which one must be right.
  value: mean of the problems' estimates.
  rerun_error: as in Average; None if a problem has no more than k rollouts.
  problems_error: as in Average.
  few: whether a problem has fewer than 2 k rollouts, so that the estimates of
    its subsets are close to one and the same.
  """

  k: int
  value: float
  rerun_error: float | None
  problems_error: float
  few: bool


def counts(n: ArrayLike, c: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """The counts as int64 [N].

  Raises:
    ValueError: they are not 1 <= n and 0 <= c <= n, problem by problem.
  """
  n, c = (np.asarray(x, np.int64) for x in (n, c))
  if n.ndim != 1 or n.shape != c.shape:
    raise ValueError(
      f'counts of shapes {n.shape} and {c.shape}: expected two of [problems]'
    )
  if ((n < 1) | (c < 0) | (c > n)).any():
    i = np.flatnonzero((n < 1) | (c < 0) | (c > n))[0]
    raise ValueError(
      f'problem {i}: {c[i]} of {n[i]} judged rollouts are right: expected 0 to '
      'all, of 1 or more; leave out a problem without a verdict'
    )
  return n, c


def all_wrong(n: int, c: int, k: int) -> float:
  """The share of the subsets of k of n rollouts that hold none of the c right.

  C(n - c, k) / C(n, k). With lgamma it would have errors of 1e-8.
  """
  return math.exp(_log_all_wrong(n, c, k))


def _log_all_wrong(n: int, c: int, k: int) -> float:
  """log of `all_wrong`; -inf where every subset holds a right one.

  The ratio is a product of min(c, k) factors, because it is the same with c and
  k exchanged. Only the logs are rounded, not their sum.
  """
  few, many = sorted((c, k))
  if few + many > n:
    return -math.inf
  return math.fsum(math.log1p(-many / i) for i in range(n - few + 1, n + 1))


def pass_at_k(n: int, c: int, k: int) -> float:
  """The chance that k rollouts hold a right one, from c right ones of n.

  1 - C(n - c, k) / C(n, k): unbiased for 1 - (1 - p)^k (Chen et al. 2021,
  arXiv 2107.03374, eq. 1).

  Raises:
    ValueError: no such counts, or k is above n, where no unbiased estimate
      exists.
  """
  if not (0 <= c <= n and 1 <= k <= n):
    raise ValueError(
      f'pass@{k} of {c} right in {n} rollouts: expected 0 <= c <= n and '
      '1 <= k <= n'
    )
  # expm1 keeps the digits of a chance near 0.
  return -math.expm1(_log_all_wrong(n, c, k))


def average(n: ArrayLike, c: ArrayLike) -> Average:
  """avg@k with both errors.

  rerun: sqrt(sum_i m_i (1 - m_i) / (n_i - 1)) / N, the binomial error of each
  problem's mean. problems: sd(m_i) / sqrt(N), the error of a mean of clusters
  (Miller 2024, arXiv 2411.00640, sec. 2.2).
  """
  n, c = counts(n, c)
  if not len(n):
    return Average(math.nan, math.nan, math.nan, math.nan, 0)
  m = c / n
  return Average(
    float(m.mean()),
    float(n.mean()),
    _error(_variances(n, c) / n),
    _problems_error(m),
    len(n),
  )


def rerun_error_at(n: ArrayLike, c: ArrayLike, k: float) -> float:
  """The rerun error that avg@k would have at another k, by these m_i.

  sqrt(sum_i v_i / k) / N, with v_i = n_i m_i (1 - m_i) / (n_i - 1).
  """
  n, c = counts(n, c)
  return _error(_variances(n, c) / k)


def interval(
  value: float, error: float, problems: int, share: float = 0.95
) -> tuple[float, float]:
  """(low, high) for other problems like these, by Student's t with N - 1.

  Not cut off at 0 and 1, so it can serve for a difference too.
  """
  if problems < 2:
    return math.nan, math.nan
  reach = float(special.stdtrit(problems - 1, (1 + share) / 2)) * error
  return value - reach, value + reach


def rerun_interval(
  value: float, error: float, share: float = 0.95
) -> tuple[float, float]:
  """(low, high) for other draws on the same problems, by the normal law."""
  reach = float(special.ndtri((1 + share) / 2)) * error
  return value - reach, value + reach


def doubled(most: int) -> list[int]:
  """1, 2, 4 ... and `most`, the usual k of a curve."""
  return sorted({*(1 << i for i in range(most.bit_length())), most} - {0})


def pass_curve(
  n: ArrayLike, c: ArrayLike, ks: Sequence[int] = ()
) -> list[PassAtK]:
  """pass@k with both errors for each k, or for 1, 2, 4 ... n.

  A k above the least n_i is left out: without the problem that lost a judgement
  the points of a curve would be of different problems.

  The rerun error is the jackknife over a problem's rollouts, which has a closed
  form: (n - 1) / n * c (n - c) / n * (pass(n - 1, c - 1) - pass(n - 1, c))^2.
  The difference is q k n / ((n - c) (n - k)), with q = 1 - pass(n, c). It is
  m (1 - m) / (n - 1) at k = 1; up to k = n / 2 the variance is at most 40% too
  large.
  """
  n, c = counts(n, c)
  if not len(n):
    return []
  most = int(n.min())
  pairs, place = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
  pairs = pairs.T.tolist()
  curve = []
  for k in ks or doubled(most):
    if k > most:
      continue
    value = np.array([pass_at_k(*pair, k) for pair in pairs])[place]
    if k == 1:
      error = _error(_variances(n, c) / n)
    elif k < most:
      error = _error(np.array([_jackknife(*pair, k) for pair in pairs])[place])
    else:
      error = math.nan
    curve.append(
      PassAtK(
        k,
        float(value.mean()),
        None if math.isnan(error) else error,
        _problems_error(value),
        2 * k > most,
      )
    )
  return curve


def _jackknife(n: int, c: int, k: int) -> float:
  """The jackknife variance of pass_at_k, for k < n."""
  if c == n:
    return 0.0
  change = all_wrong(n, c, k) * k * n / ((n - c) * (n - k))
  return (n - 1) / n * c * (n - c) / n * change**2


def never_bound(n: int, share: float = 0.95) -> float:
  """The largest solve rate that fits no right rollout of n.

  1 - (1 - share)^(1 / n), the exact form of the rule of three (3 / n). With
  all of n right, 1 minus it is the smallest.
  """
  return -math.expm1(math.log1p(-share) / n) if n else 1.0


def majority_at_k(
  right: int, others: Sequence[int], abstained: int, k: int
) -> float:
  """maj@k of one problem, exact over all subsets of k of its rollouts.

  See `majority_curve`.
  """
  return majority_curve(right, others, abstained, (k,))[0]


def majority_curve(
  right: int, others: Sequence[int], abstained: int, ks: Sequence[int]
) -> list[float]:
  """maj@k of one problem for several k.

  A subset votes for the class that it holds most often; t classes in front
  share the vote, 1 / t each. A subset of abstentions only has no vote: 0.

  Counts subsets in whole numbers. With r right ones in a subset, the classes
  smaller than r can neither win nor tie, so they count as abstentions. A
  polynomial says in how many ways the rest gives x rollouts, t classes in a
  tie with r. It is packed into one integer, a coefficient in each `bits` bits,
  because Python multiplies long integers fast. Coefficients that no k needs are
  cut off, so small k of many rollouts take little time.

  Args:
    right: number of right rollouts.
    others: numbers of rollouts of the classes of wrong answers.
    abstained: number of rollouts without an answer.
    ks: sizes of the subsets.

  Raises:
    ValueError: a k is below 1 or above the number of rollouts.
  """
  sizes = collections.Counter(size for size in others if size)
  n = right + abstained + sum(s * count for s, count in sizes.items())
  if any(not 1 <= k <= n for k in ks):
    raise ValueError(f'maj@k for k of {list(ks)}: expected 1 to {n} rollouts')
  # No coefficient exceeds the number of all subsets, 2^n.
  bits = n + 1
  ways = [collections.Counter() for _ in ks]
  most = max(ks, default=0)
  for r in range(1, min(right, most) + 1):
    rivals = _rivals(r, sizes, abstained, bits, most - r)
    for tied, packed in enumerate(rivals):
      for found, k in zip(ways, ks):
        if k >= r:
          x = (packed >> bits * (k - r)) & ((1 << bits) - 1)
          found[tied + 1] += math.comb(right, r) * x
  # Integers divide to the nearest float, however long they are.
  return [
    math.fsum(w / (math.comb(n, k) * share) for share, w in found.items())
    for found, k in zip(ways, ks)
  ]


def _rivals(
  r: int, sizes: collections.Counter, abstained: int, bits: int, most: int
) -> list[int]:
  """Packed polynomials by the number of classes that tie with r right ones.

  Coefficient x, up to `most`: in how many ways x rollouts can be drawn from the
  others, no class more than r times.
  """
  mask = (1 << bits * (most + 1)) - 1
  free = abstained + sum(s * count for s, count in sizes.items() if s < r)
  by_tied = [_power(1 + (1 << bits), free, mask)]
  for size, count in sizes.items():
    if size < r:
      continue
    behind = sum(math.comb(size, j) << bits * j for j in range(r))
    level = math.comb(size, r) << bits * r
    # Of `count` classes of this size, t tie and the rest stay behind.
    mine = [
      math.comb(count, t) * _power(behind, count - t, mask) * level**t & mask
      for t in range(min(count, most // r) + 1)
    ]
    joined = [0] * min(len(by_tied) + len(mine) - 1, most // r + 1)
    for (i, a), (j, b) in itertools.product(
      enumerate(by_tied), enumerate(mine)
    ):
      if i + j < len(joined):
        joined[i + j] += a * b & mask
    by_tied = joined
  return by_tied


def _power(base: int, exponent: int, mask: int) -> int:
  """base ** exponent, cut to the bits of `mask` at every step."""
  result = 1
  while exponent:
    if exponent & 1:
      result = result * base & mask
    base = base * base & mask
    exponent >>= 1
  return result


def _variances(n: np.ndarray, c: np.ndarray) -> np.ndarray:
  """Unbiased estimates of p_i (1 - p_i): n m (1 - m) / (n - 1).

  A problem with one rollout has none. It takes the mean of the others if these
  are the most; else all are nan.
  """
  m, more = c / n, n > 1
  if 2 * more.sum() <= len(n):
    return np.full(len(n), math.nan)
  found = m * (1 - m) * n / np.maximum(n - 1, 1)
  return np.where(more, found, found[more].mean())


def _error(variances: np.ndarray) -> float:
  """The standard error of the mean of values of these variances."""
  if not len(variances):
    return math.nan
  return math.sqrt(variances.sum()) / len(variances)


def _problems_error(values: np.ndarray) -> float:
  if len(values) < 2:
    return math.nan
  return float(values.std(ddof=1)) / math.sqrt(len(values))
