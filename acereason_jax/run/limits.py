"""Stops a run when a step passes a limit of the config."""

from acereason_jax.run import metrics
from acereason_jax.run.values import Stage, Standing, Step, Stopped


def check_limits(stage: Stage, at: Standing, step: Step) -> None:
  """Raises Stopped if a limit of the stage is passed; warns before."""
  values, limits = step.values, stage.limits
  where = f'step {at.progress.step}'
  if values['nonfinite']:
    metrics.say(
      'WARNING: the gradient was not finite: that update changed nothing'
    )
    if at.progress.nonfinite >= limits['nonfinite']:
      raise Stopped(
        f'{where}: the gradient was not finite in {at.progress.nonfinite} '
        f'steps in a row (config.limits.nonfinite={limits["nonfinite"]}); its '
        'batch is in nonfinite_*.npz; go on from an earlier checkpoint '
        '(config.start.run, another --workdir) at a lower learning rate'
      )
  if limits['mismatch'] and not values['mismatch'] <= limits['mismatch']:
    raise Stopped(
      f'{where}: sampler and trainer differ by {values["mismatch"]:.1e} a '
      f'token, more than config.limits.mismatch={limits["mismatch"]}; rounding '
      f'alone is up to {stage.mismatch_limit:.0e}: please report'
    )
  if not values['mismatch'] <= stage.mismatch_limit:
    metrics.say(
      f'WARNING: sampler and trainer differ by {values["mismatch"]:.1e} a '
      f'token, more than rounding ({stage.mismatch_limit:.0e}); please report'
    )
  if values['zero_signal_share'] > limits['zero_signal']:
    raise Stopped(
      f'{where}: {values["zero_signal_share"]:.0%} of the groups have no '
      f'gradient, more than config.limits.zero_signal={limits["zero_signal"]}; '
      'go on with config.start.run and another --workdir, and other prompts '
      '(config.filter) or more rounds of config.rollout.refill'
    )
