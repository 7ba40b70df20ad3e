"""Decides when a stage ends: after steps, after epochs, or without gain."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from acereason_jax.curriculum import filtering, plateau
from acereason_jax.curriculum import ledger as ledger_lib

# Metrics that can end a stage: the pass rate of prompts asked again, and means
# of whole batches, which change with the prompts in them.
SAME_PROMPTS = 'same_prompts'
OF_BATCHES = 'reward', 'pass_rate', 'solved_share'
# Standard errors: a gain that is exactly `Stop.gain` stops one look in 40.
_SURE = 2.0


class Stop(NamedTuple):
  """When a stage ends; 0 and '' switch a rule off. See plateau.py.

  steps: after so many steps of the stage.
  epochs: after so many epochs of every domain.
  metric: metric that ends the stage when it surely rises by less than `gain`:
    its rise plus two standard errors is below that.
  window: steps ('same_prompts') or values of the metric (others) to compare.
  gain: least rise that counts, in the metric's own unit, such as a pass rate
    from 0 to 1.
  """

  steps: int = 0
  epochs: int = 0
  metric: str = ''
  window: int = 0
  gain: float = 0.0


def rise(
  stop: Stop,
  history: Sequence[float],
  ledger: ledger_lib.Ledger,
  filters: Mapping[str, filtering.Filter],
  *,
  stage: str,
  since: int,
  newest: int,
  temperatures: Sequence[float],
) -> plateau.Rise | None:
  """The rise of `stop.metric`; None: it is '', or too little is known yet.

  `history` holds its values in this stage, the newest last, and filters are by
  domain. The stage began after step `since` and is at step `newest`;
  `temperatures` are those of its steps.
  """
  if not stop.metric:
    return None
  if stop.metric != SAME_PROMPTS:
    return plateau.of_values(history, stop.window)
  return plateau.of_same_prompts(
    ledger,
    stage=stage,
    since=since,
    newest=newest,
    window=stop.window,
    solved_leave={d: f.drop_solved for d, f in filters.items()},
    unsolved_leave={d: not f.keep_unsolved for d, f in filters.items()},
    temperatures=temperatures,
  )


def should_stop(
  stop: Stop, stage_step: int, epochs_done: int, rise: plateau.Rise | None
) -> str | None:
  """Why a stage ends after `stage_step` of its steps, or None."""
  if stop.steps and stage_step >= stop.steps:
    return f'{stop.steps} steps'
  if stop.epochs and epochs_done >= stop.epochs:
    return f'{stop.epochs} epochs'
  if rise is None or rise.gain + _SURE * rise.error >= stop.gain:
    return None
  asked = f' of {rise.prompts:,} prompts' if rise.prompts else ''
  return (
    f'{stop.metric} rose by {rise.gain:.3g} (standard error {rise.error:.2g}) '
    f'over a window of {stop.window}{asked}, surely less than {stop.gain:g}'
  )
