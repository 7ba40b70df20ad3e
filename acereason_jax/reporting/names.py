"""The metrics of a run in words: title, unit, heading, and order of drawing.

A metric of one domain, DOMAIN/NAME, follows NAME. A metric that is not listed
is drawn last, under its own name.
"""

from typing import NamedTuple

LEARNS = 'Does it learn?'
ANSWERS = 'What it writes'
POLICY = 'Is the update healthy?'
BATCH = 'Batches and schedule'
SPEED = 'Where the time goes'
MACHINE = 'Machine'
MORE = 'more'
GROUPS = (LEARNS, ANSWERS, POLICY, BATCH, SPEED, MACHINE, MORE)
HELDOUT = 'heldout/'
HELDOUT_ERROR = 'heldout_error/'


class Named(NamedTuple):
  """A metric in words; see `values.Series`."""

  title: str
  unit: str
  group: str


_TABLE = {
  'reward': Named('Mean reward of a batch', '', LEARNS),
  'pass_rate': Named('Share of answers judged right', '', LEARNS),
  'heldout': Named('Held-out pass rate', '', LEARNS),
  'heldout_error': Named('Standard error of it', '', LEARNS),
  'solved_share': Named('Prompts solved at least once', '', LEARNS),
  'response_length': Named('Mean response length', 'tokens', ANSWERS),
  'truncated_share': Named('Responses cut off at the limit', '', ANSWERS),
  'unparsed_share': Named('Responses without a readable answer', '', ANSWERS),
  'judge_failed_share': Named('Verdicts that failed', '', ANSWERS),
  'rollout_errors': Named('Rollouts that broke off', 'rollouts', ANSWERS),
  'heldout_failed': Named('Held-out verdicts that failed', '', ANSWERS),
  'entropy': Named('Entropy of the sampling policy', 'nats/token', POLICY),
  'mismatch': Named(
    'Sampler against trainer, mean |difference of logp|', 'nats', POLICY
  ),
  'mismatch_max': Named(
    'Sampler against trainer, largest |difference of logp|', 'nats', POLICY
  ),
  'grad_norm': Named('Gradient norm before clipping', '', POLICY),
  'loss': Named('Loss', '', POLICY),
  'kl': Named('KL from the reference policy', 'nats/token', POLICY),
  'trained_entropy': Named('Entropy on trained tokens', 'nats/token', POLICY),
  'nonfinite': Named('Updates skipped, gradient not finite', '', POLICY),
  'learning_rate': Named('Learning rate', '', POLICY),
  'zero_signal_share': Named('Groups without a gradient', '', BATCH),
  'temperature': Named('Sampling temperature', '', BATCH),
  'entropy_bonus': Named('Weight of the entropy bonus', '', BATCH),
  'rollouts_a_prompt': Named('Rollouts per prompt', '', BATCH),
  'epoch': Named('Epochs done in the stage', '', BATCH),
  'rounds': Named('Rounds of sampling per batch', '', BATCH),
  'asked': Named('Prompts asked per batch', '', BATCH),
  'trained_tokens': Named('Tokens with a gradient', 'tokens', BATCH),
  'response_tokens': Named('Tokens of all responses', 'tokens', BATCH),
  'stop_gain': Named('Rise of the metric that ends the stage', '', BATCH),
  'stop_gain_error': Named('Standard error of that rise', '', BATCH),
  'seconds_step': Named('Whole step', 's', SPEED),
  'seconds_sample': Named('Sampling', 's', SPEED),
  'seconds_judge': Named('Waiting for judges', 's', SPEED),
  'seconds_update': Named('Update', 's', SPEED),
  'seconds_reshard': Named('Copying weights to the sampler', 's', SPEED),
  'mfu': Named('Model FLOPs of the update, of the peak (MFU)', '', SPEED),
  'tokens_per_second': Named('Sampling speed', 'tokens/s', SPEED),
  'judge_wait_share': Named('Share of a step spent on judges', '', SPEED),
  'occupancy': Named('Slots in use while sampling', '', SPEED),
  'occupancy_waiting': Named('Slots in use while others wait', '', SPEED),
  'prefill_share': Named('Share of sampling spent on prefill', '', SPEED),
  'host_share': Named('Share of sampling spent on the host', '', SPEED),
  'seconds_judge_slowest': Named('Wait of the slowest process', 's', SPEED),
  'peak_gb': Named('Peak host memory', 'GB', MACHINE),
  'hbm_gb': Named('Device memory in use', 'GB', MACHINE),
  'hbm_peak_gb': Named('Peak device memory', 'GB', MACHINE),
  'reshard_gb': Named('Device memory of rollout weights', 'GB', MACHINE),
  'page_use': Named('Cache pages in use at the peak', '', MACHINE),
  'preempted': Named('Rollouts restarted for lack of pages', '', MACHINE),
  'recomputed_tokens': Named('Tokens computed twice', 'tokens', MACHINE),
}
# Known from `Curves` itself: step is its axis, and stage its bands.
_HIDDEN = 'step', 'stage'
_ORDER = {name: i for i, name in enumerate(_TABLE)}


def named(name: str) -> Named:
  """The words for a metric."""
  base, domain = _split(name)
  if (found := _TABLE.get(base)) is None:
    return Named(name, '', MORE)
  return found._replace(
    title=f'{found.title}, {domain}' if domain else found.title
  )


def ordered(names: set[str]) -> list[str]:
  """The metrics to draw, the most telling first."""

  def place(name: str) -> tuple[int, int, str, str]:
    base, domain = _split(name)
    group = GROUPS.index(named(name).group)
    return group, _ORDER.get(base, len(_ORDER)), domain, name

  return sorted(names.difference(_HIDDEN), key=place)


def _split(name: str) -> tuple[str, str]:
  """('reward', 'math') of math/reward, ('heldout', 'math') of heldout/math.

  The one domain of a run without domains is not named.
  """
  first, slash, rest = name.partition('/')
  if not slash:
    return name, ''
  if f'{first}/' in (HELDOUT, HELDOUT_ERROR, 'heldout_failed/'):
    return first, '' if rest == 'main' else rest
  return rest, first
