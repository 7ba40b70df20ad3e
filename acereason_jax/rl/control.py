"""One number that changes between steps, such as a temperature.

A `Control` is pure functions, and its only state is that number: a run that
saves it resumes as if nothing stopped it. The config names one as a component,
dict(fn='acereason_jax.rl.control:near_entropy', first=1.0, ...).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Seen(NamedTuple):
  """The values known between two steps.

  step: number of steps taken in this stage.
  epoch: number of epochs done in this stage.
  entropy: the last batch's mean entropy of softmax(logits / T), nats per token;
    NaN before the first batch.
  """

  step: int
  epoch: int
  entropy: float


class Control(NamedTuple):
  """How a number changes between steps.

  first: the number at the start of a stage.
  after: (number, seen) -> the number of the next step.
  used: (number, seen) -> the value that a step uses; by default the number
    itself.
  low, high: lower and upper bound of the number.
  carried: number at the end of the previous stage -> number at the start of
    this stage, if both have such a control; None: it begins at `first`.
  """

  first: float
  after: Callable[[float, Seen], float]
  used: Callable[[float, Seen], float] = lambda number, seen: number
  low: float = -math.inf
  carried: Callable[[float], float] | None = None
  high: float = math.inf


def constant(value: float) -> Control:
  """Always `value`."""
  _check_finite('constant', value=value)
  return Control(value, lambda number, seen: value, low=value, high=value)


def by_epoch(values: Sequence[float]) -> Control:
  """values[epoch]; the last value stays. Example: temperatures 0.6 to 1.0."""
  _check_values('by_epoch', values)
  last = len(values) - 1
  at = lambda number, seen: values[min(seen.epoch, last)]
  return Control(values[0], at, low=min(values), high=max(values))


def by_step(values: Sequence[float], steps: Sequence[int]) -> Control:
  """Linear between values[i] at steps[i]; constant outside."""
  _check_values('by_step', values)
  rising = all(a < b for a, b in itertools.pairwise(steps))
  if len(steps) != len(values) or not rising:
    raise ValueError(
      f'by_step: steps={tuple(steps)}: give {len(values)} rising numbers, one '
      'for each value'
    )
  at = lambda step: float(np.interp(step, steps, values))
  after = lambda number, seen: at(seen.step)
  return Control(at(0), after, low=min(values), high=max(values))


def near_entropy(
  first: float, target: float, gain: float, low: float, high: float
) -> Control:
  """A temperature that keeps the entropy of softmax(logits / T) near `target`.

  T <- clip(T exp(gain (target - entropy)), low, high). arXiv 2506.13284 keeps
  the entropy near 0.3 by choosing T by hand; this rule is ours. Entropy rises
  with T. With a gain of 1 an entropy that is 0.1 off changes T by a tenth. The
  next stage continues from the T that this stage found.
  """
  _check_finite(
    'near_entropy', first=first, target=target, gain=gain, high=high
  )
  if not (0 < low <= first <= high and gain >= 0):
    raise ValueError(
      f'near_entropy: first={first}, low={low}, high={high}, gain={gain}: give '
      '0 < low <= first <= high, and a gain of 0 or more'
    )

  def after(number: float, seen: Seen) -> float:
    if math.isnan(seen.entropy):
      return number
    # A larger exponent is past any bound, and would overflow.
    move = min(max(gain * (target - seen.entropy), -100.0), 100.0)
    return min(max(number * math.exp(move), low), high)

  carried = lambda number: min(max(number, low), high)
  return Control(first, after, low=low, carried=carried, high=high)


def adaptive_entropy(
  first: float, target: float, delta: float, high: float
) -> Control:
  """An entropy bonus that keeps the entropy from falling: arXiv 2505.22312.

  The coefficient rises by `delta` while entropy is below `target` and falls by
  `delta` above, within 0..high. It is used only while entropy <= target (0.2 in
  the paper).
  """
  _check_finite('adaptive_entropy', first=first, target=target, high=high)
  if not (0 <= first <= high and delta >= 0):
    raise ValueError(
      f'adaptive_entropy: first={first}, high={high}, delta={delta}: give '
      '0 <= first <= high, and a delta of 0 or more'
    )

  def after(number: float, seen: Seen) -> float:
    # NaN is neither below nor above.
    move = delta * ((seen.entropy < target) - (seen.entropy > target))
    return min(max(number + move, 0.0), high)

  def used(number: float, seen: Seen) -> float:
    return number if seen.entropy <= target else 0.0

  carried = lambda number: min(max(number, 0.0), high)
  return Control(first, after, used, low=0.0, carried=carried, high=high)


def _check_finite(name: str, **values: float) -> None:
  for field, value in values.items():
    if not math.isfinite(value):
      raise ValueError(f'{name}: {field}={value}: give a finite number')


def _check_values(name: str, values: Sequence[float]) -> None:
  if not values:
    raise ValueError(f'{name}: values={values}: give at least one')
  for value in values:
    _check_finite(name, values=value)
