"""Runs whose skill is known, to see when a stage's end is called.

    python tests/plateau_runs.py 30 0.04 0.02 0.0

prints how often, of 30 runs, a rule that wants a gain of 0.02 in 200 steps ends
a stage whose true gain is 0.04, 0.02 or 0. The stage is a quarter of code_32k:
its errors are twice as large, and so are these gains.
Each prompt has a chance to be solved; a run draws its rollouts by that and
notes them in a ledger, epoch by epoch, as training does.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.curriculum import ending, plateau
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum.ending import Stop
from acereason_jax.curriculum.filtering import Filter

KEEP_ALL = Filter()
RULE = Stop(metric='same_prompts', window=200, gain=0.01)


class Look(NamedTuple):
  """A run's knowledge after a step; `skill` is the true rate of all prompts."""

  step: int
  reward: float
  skill: float
  rise: plateau.Rise | None


class Rows(NamedTuple):
  """As much of a ledger as the rule reads; domains are easy (0) and hard."""

  rows: np.ndarray

  def texts(self, name: str) -> list[str]:
    return dict(stage=['s'], domain=['easy', 'hard'])[name]


def run(
  *,
  seed: int,
  steps: int,
  gain: float,
  prompts: int = 512,
  batch: int = 16,
  sizes: Sequence[int] = (16,),
  keep: Filter = KEEP_ALL,
  refill: int = 0,
  failed: float = 0.0,
  mean: float = 0.5,
  hard: Sequence[float] = (0.5, 0.5),
  stop: Stop = RULE,
  every: int = 1,
) -> Iterator[Look]:
  """Steps of a run whose true rate rises by `gain` in `stop.window` steps.

  Half of the prompts are hard, with half the chance; `hard` is their share of
  the first and of the last batch. `sizes` are the rollouts a prompt by epoch,
  `failed` is the share of verdicts that fail, and every so many steps it looks
  at the rule. `refill` as in the config.
  """
  draw = np.random.default_rng(seed)
  # Many hard and many easy ones, as real prompts are.
  is_hard = np.arange(prompts) % 2 == 1
  first = draw.beta(1.2 * mean, 1.2 * (1 - mean), prompts).clip(1e-6, 1 - 1e-6)
  first = np.where(is_hard, first / 2, first)
  logit = np.log(first) - np.log1p(-first)
  chance = lambda shift: 1 / (1 + np.exp(-logit - shift))
  # The shift of all logits that gives the rate wanted at each step.
  shifts = np.linspace(-8, 8, 161)
  rates = np.array([chance(s).mean() for s in shifts])
  right, judged = np.zeros((2, prompts), int)
  waiting, epochs = [np.zeros(0, int)] * 2, [-1, -1]

  def ask(count: int, kind: bool) -> tuple[np.ndarray, int]:
    """Up to so many prompts of a kind, and their epoch."""
    if not len(waiting[kind]):
      out = (judged > 0) & (right == judged) & keep.drop_solved
      out |= (judged > 0) & (right == 0) & (not keep.keep_unsolved)
      left = (is_hard == kind) & ~(out & (draw.random(prompts) > keep.readmit))
      epochs[kind] += 1
      waiting[kind] = draw.permutation(np.flatnonzero(left))
    mine, waiting[kind] = np.split(
      waiting[kind], [min(count, len(waiting[kind]))]
    )
    return mine, epochs[kind]

  every_row = []
  for step in range(1, steps + 1):
    now = chance(
      np.interp(first.mean() + gain * step / stop.window, rates, shifts)
    )
    share = hard[0] + (hard[1] - hard[0]) * step / steps
    rates_of_batch, rounds = [], 0
    missing = batch
    while missing > 0 and rounds <= refill:
      rounds += 1
      of_hard = int(draw.binomial(missing, share))
      for kind, count in enumerate((missing - of_hard, of_hard)):
        while count > 0:
          mine, epoch = ask(count, bool(kind))
          if not len(mine):
            return
          count -= len(mine)
          size = sizes[min(epoch, len(sizes) - 1)]
          done = size - draw.binomial(size, failed, len(mine))
          right[mine] = draw.binomial(done, now[mine])
          judged[mine] = done
          rows = np.zeros(len(mine), ledger_lib.Ledger().rows.dtype)
          rows['step'], rows['epoch'], rows['domain'] = step, epoch, kind
          rows['prompt'] = mine
          rows['right'] = rows['solved'] = right[mine]
          rows['wrong'], rows['timeout'] = done - right[mine], size - done
          every_row.append(rows)
          rates_of_batch += list(right[mine] / np.maximum(done, 1))
          mixed = (right[mine] > 0) & (right[mine] < done)
          missing -= int(mixed.sum()) if refill else len(mine)
    rise = None
    if not step % every:
      every_row = [np.concatenate(every_row)]
      rise = ending.rise(
        stop,
        (),
        Rows(every_row[0]),
        dict(easy=keep, hard=keep),
        stage='s',
        since=0,
        newest=step,
        temperatures=[1.0] * step,
      )
    yield Look(step, float(np.mean(rates_of_batch)), float(now.mean()), rise)


def stopped(stop: Stop = RULE, **kwargs) -> int | None:
  """The step at which a run's stage would have ended, or None."""
  for look in run(stop=stop, **kwargs):
    if ending.should_stop(stop._replace(steps=0), 1, 0, look.rise):
      return look.step
  return None


def main(runs: int, gains: Sequence[float]) -> None:
  # 66 steps an epoch, 32 prompts a step, G from 8 to 16 over the epochs.
  size = dict(prompts=2112, batch=32, steps=500, every=20)
  rule = RULE._replace(gain=2 * RULE.gain)
  case = dict(keep=Filter(drop_solved=True), sizes=(8, 12, 16))
  for gain in gains:
    ends = [
      stopped(rule, seed=seed, gain=gain, **size, **case)
      for seed in range(runs)
    ]
    found = [end for end in ends if end is not None]
    middle = f', half of them by step {np.median(found):.0f}' if found else ''
    print(f'true gain {gain}: {len(found)} of {runs} ended{middle}', flush=True)


if __name__ == '__main__':
  main(int(sys.argv[1]), [float(gain) for gain in sys.argv[2:]])
