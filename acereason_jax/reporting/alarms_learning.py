"""Rules about learning: the update, entropy, lengths, held-out rates."""

import math
from collections.abc import Iterator

from acereason_jax.reporting import evidence as lib
from acereason_jax.reporting import values
from acereason_jax.reporting.evidence import BAD, GOOD, WARN, Evidence
from acereason_jax.rl import mismatch as mismatch_lib

# From this pass rate on, a policy that is sure of itself has learned its task.
SOLVED = 0.8
# A metric fell to, or rose to, so many times its value at the stage's start.
HALVED, GREW = 0.5, 2.0
# Shares: of responses cut off, and of groups without a gradient.
TRUNCATED, VERY_TRUNCATED = 0.3, 0.6
DULL, VERY_DULL = 0.6, 0.9
# Share of unread answers that explains groups without a gradient.
UNREAD = 0.5
# Mean reward of so little of the pass rate, where so many answers are right.
UNREWARDED, SOME = 0.5, 0.1
# Held-out rates differ from this many errors on. The best of several looks is
# high by luck, so more is asked of a fall from it.
ERRORS, ERRORS_A_LOOK = 2.0, 0.5
# Mismatch: so many times that of the stage's start is a rise.
RISEN = 5.0
_LOSSES = 'acereason_jax.rl.losses:'


def nonfinite(e: Evidence) -> Iterator[values.Alarm]:
  steps = [m['step'] for m in e.metrics if m.get('nonfinite')]
  if steps:
    yield values.Alarm(
      BAD,
      f'{len(steps)} updates had no finite gradient',
      f'Steps {_listed(steps)}: these updates changed nothing. '
      f'nonfinite_{steps[0]}.npz has the first batch. Go on from an earlier '
      'checkpoint (start.run) at a lower optim.learning_rate'
      f'{lib.setting(e, "optim.learning_rate")}.',
      'curves',
      {},
    )


def mismatch(e: Evidence) -> Iterator[values.Alarm]:
  found = lib.points(e, 'mismatch')
  if (now := lib.newest(found)) is None:
    return
  most, first = mismatch_limit(e), lib.oldest(found)
  told = f'{now.mean:.1e} nats a token in {now.steps}'
  remedy = (
    'The sampler is then not the policy that is trained. Look at engine.weights'
    f'{lib.setting(e, "engine.weights")}, engine.kv_dtype'
    f'{lib.setting(e, "engine.kv_dtype")} and dtype{lib.setting(e, "dtype")}; '
    'losses:truncated_importance corrects for a known difference. With none of '
    'them, please report it.'
  )
  if now.mean > most:
    yield values.Alarm(
      BAD,
      'Sampler and trainer disagree',
      f'{told}; rounding gives at most {most:.0e}. {remedy}',
      'curves',
      {},
    )
  elif first and now.mean > max(RISEN * first.mean, most / 10):
    yield values.Alarm(
      WARN,
      'Sampler and trainer drift apart',
      f'{told}, {first.mean:.1e} in {first.steps}; up to {most:.0e} is '
      f'rounding. {remedy}',
      'curves',
      {},
    )


def mismatch_limit(e: Evidence) -> float:
  """The largest healthy mismatch of the run's dtypes, nats per token."""
  dtype = lib.field(e, 'dtype')
  named = [
    lib.field(e, f'engine.{n}') or dtype for n in ('kv_dtype', 'weights')
  ]
  known = [d for d in (dtype, *named) if d in mismatch_lib.LIMITS]
  return mismatch_lib.limit(known or mismatch_lib.LIMITS)


def entropy(e: Evidence) -> Iterator[values.Alarm]:
  """The newest stage in which entropy left its range."""
  for band in reversed(e.bands):
    if found := list(_entropy(e, band)):
      yield from found
      return


def _entropy(e: Evidence, band: values.Band) -> Iterator[values.Alarm]:
  found = lib.points(e, 'entropy', band)
  now, first = lib.newest(found), lib.oldest(found)
  if not first or first.mean <= 0:
    return
  told = (
    f'From {first.mean:.3g} nats a token in {first.steps} to {now.mean:.3g} in '
    f'{now.steps} (stage {band.stage})'
  )
  if now.mean < HALVED * first.mean:
    below = lib.since(found, HALVED * first.mean)
    told += f'; below half since step {below}'
    rate = lib.newest(lib.points(e, 'pass_rate', band))
    if rate and rate.mean >= SOLVED:
      yield values.Alarm(
        GOOD,
        'Entropy shrank as the task was learned',
        f'{told}. {rate.mean:.0%} of answers are right in {rate.steps}, so '
        'little is left to explore.',
        'curves',
        {},
      )
      return
    risen = _rose(e, 'pass_rate', band)
    if risen:
      told += ', while the pass rate rose'
    yield values.Alarm(
      WARN if risen else BAD,
      f'Entropy fell to {now.mean / first.mean:.0%} of its start',
      f'{told}. The policy stops exploring, and what it cannot solve now stays '
      f'unsolved. {_own_loss(e)}Raise rollout.temperature'
      f'{lib.setting(e, "rollout.temperature")} or let it hold the entropy '
      '(rl.control:near_entropy), give objective.entropy_bonus'
      f'{lib.setting(e, "objective.entropy_bonus")}, or lower '
      f'optim.learning_rate{lib.setting(e, "optim.learning_rate")}.',
      'curves',
      {},
    )
  elif now.mean > GREW * first.mean:
    yield values.Alarm(
      BAD,
      f'Entropy rose to {now.mean / first.mean:.1f} times its start',
      f'{told}. The policy becomes random. Lower optim.learning_rate'
      f'{lib.setting(e, "optim.learning_rate")}, objective.entropy_bonus'
      f'{lib.setting(e, "objective.entropy_bonus")} or rollout.temperature'
      f'{lib.setting(e, "rollout.temperature")}.',
      'curves',
      {},
    )


def _own_loss(e: Evidence) -> str:
  loss = lib.field(e, 'objective.loss.fn')
  if loss is None or str(loss).startswith(_LOSSES):
    return ''
  return (
    f'Look at objective.loss{lib.setting(e, "objective.loss.fn")} first, a '
    'loss of your own. '
  )


def length(e: Evidence) -> Iterator[values.Alarm]:
  found = lib.points(e, 'response_length')
  now, first = lib.newest(found), lib.oldest(found)
  if not first or first.mean <= 0:
    return
  told = (
    f'From {first.mean:,.0f} tokens in {first.steps} to {now.mean:,.0f} in '
    f'{now.steps}'
  )
  if now.mean < HALVED * first.mean and not _rose(e, 'pass_rate'):
    yield values.Alarm(
      WARN,
      'Responses collapse',
      f'{told}, and the pass rate did not rise. Read some: the policy may give '
      'up, or a short answer may be rewarded that should not be '
      '(objective.truncated, objective.overlong_tokens, judge.verify).',
      'rollouts',
      lib.filters('', now),
    )
  cut = lib.newest(lib.points(e, 'truncated_share'))
  if now.mean > GREW * first.mean and cut and cut.mean > TRUNCATED / 3:
    yield values.Alarm(
      WARN,
      'Responses run away',
      f'{told}; {cut.mean:.0%} are cut off at rollout.max_tokens'
      f'{lib.setting(e, "rollout.max_tokens")}. Read some that repeat '
      'themselves; objective.overlong_tokens makes long ones cost.',
      'rollouts',
      lib.filters('', now, stop='length'),
    )


def truncated(e: Evidence) -> Iterator[values.Alarm]:
  now = lib.newest(lib.points(e, 'truncated_share'))
  if now and now.mean > TRUNCATED:
    yield values.Alarm(
      BAD if now.mean > VERY_TRUNCATED else WARN,
      f'{now.mean:.0%} of responses are cut off',
      f'In {now.steps} they reach rollout.max_tokens'
      f'{lib.setting(e, "rollout.max_tokens")}, and objective.truncated'
      f'{lib.setting(e, "objective.truncated")} decides whether they train. '
      'Give a larger rollout.max_tokens, or a stage with longer responses.',
      'rollouts',
      lib.filters('', now, stop='length'),
    )


def zero_signal(e: Evidence) -> Iterator[values.Alarm]:
  now = lib.newest(lib.points(e, 'zero_signal_share'))
  rate = lib.newest(lib.points(e, 'pass_rate'))
  if not now or not rate or now.mean <= DULL:
    return
  told = f'{now.mean:.0%} of groups in {now.steps} are all right or all wrong'
  if rate.mean >= SOLVED:
    yield values.Alarm(
      GOOD,
      'Most prompts are solved',
      f'{told}, at a pass rate of {rate.mean:.0%}: these prompts have little '
      'left to teach. Go on with harder ones.',
      'prompts',
      {},
    )
    return
  reward = lib.newest(lib.points(e, 'reward')) or rate
  unread = lib.newest(lib.points(e, 'unparsed_share'))
  if unread and unread.mean >= UNREAD:
    yield values.Alarm(
      WARN,
      f'{now.mean:.0%} of groups have no gradient',
      f'{told}, because {unread.mean:.0%} of answers cannot be read. That '
      'comes first.',
      'prompts',
      {},
    )
    return
  easy = reward.mean > 0.5
  remedy = (
    'Most groups are all right: leave easy prompts out (filter.drop_solved, '
    'filter.of and filter.max_solved)'
    if easy
    else 'Most groups are all wrong: give easier prompts, more rollouts for '
    'each (rollout.per_prompt) or longer responses'
  )
  yield values.Alarm(
    BAD if now.mean > VERY_DULL else WARN,
    f'{now.mean:.0%} of groups have no gradient',
    f'{told}; the mean reward is {reward.mean:.2f}. {remedy}. rollout.refill'
    f'{lib.setting(e, "rollout.refill")} replaces such groups.',
    'prompts',
    {},
  )


def unrewarded(e: Evidence) -> Iterator[values.Alarm]:
  """Right answers that train as if they were wrong."""
  rate = lib.newest(lib.points(e, 'pass_rate'))
  reward = lib.newest(lib.points(e, 'reward'))
  if not rate or not reward or rate.mean < SOME:
    return
  if reward.mean < UNREWARDED * rate.mean:
    yield values.Alarm(
      WARN,
      'Most right answers get no reward',
      f'In {rate.steps} {rate.mean:.0%} of answers are right, but the mean '
      f'reward is {reward.mean:.2f}. Look at objective.truncated'
      f'{lib.setting(e, "objective.truncated")}, objective.overlong_tokens'
      f'{lib.setting(e, "objective.overlong_tokens")} and rollout.max_tokens'
      f'{lib.setting(e, "rollout.max_tokens")}.',
      'rollouts',
      lib.filters('', rate, status='right', stop='length'),
    )


def heldout(e: Evidence) -> Iterator[values.Alarm]:
  """A fall of a held-out rate from its best look, or a rise from its first."""
  names = {n for m in e.metrics for n in m if n.startswith('heldout/')}
  for name in sorted(names):
    domain = name.partition('/')[2]
    looks = [
      (m['step'], m[name], m.get(f'heldout_error/{domain}'))
      for m in e.metrics
      if m.get(name) is not None
    ]
    yield from _compared('' if domain == 'main' else domain, looks)


def _compared(
  domain: str, looks: list[tuple[int, float, float | None]]
) -> Iterator[values.Alarm]:
  known = [look for look in looks if look[2]]
  if len(known) < 2:
    return
  last, best = known[-1], max(known, key=lambda look: look[1])
  first = known[0]
  limit = ERRORS + ERRORS_A_LOOK * math.log(len(known) - 1)
  if best[1] - last[1] > limit * math.hypot(best[2], last[2]):
    yield values.Alarm(
      BAD,
      f'The held-out rate{lib.of(domain)} fell',
      f'From {_rate(best)} to {_rate(last)}: more than luck. Export the '
      'checkpoint of the best step (checkpoint.best keeps it), and look at '
      'what changed after it.',
      'curves',
      {},
    )
  elif last[1] - first[1] > ERRORS * math.hypot(first[2], last[2]):
    yield values.Alarm(
      GOOD,
      f'The held-out rate{lib.of(domain)} rose',
      f'From {_rate(first)} to {_rate(last)}.',
      'curves',
      {},
    )


def _rate(look: tuple[int, float, float]) -> str:
  return f'{look[1]:.1%} +-{100 * look[2]:.1f} (step {look[0]})'


def _rose(e: Evidence, name: str, band: values.Band | None = None) -> bool:
  """Whether a rate rose by more than a point in a stage; None: the last."""
  found = lib.points(e, name, band)
  now, first = lib.newest(found), lib.oldest(found)
  return bool(first) and now.mean > first.mean + 0.01


def _listed(steps: list[int]) -> str:
  shown = ', '.join(map(str, steps[:5]))
  return shown if len(steps) <= 5 else f'{shown} and {len(steps) - 5} more'


RULES = (
  *(nonfinite, mismatch, entropy, length, truncated, unrewarded),
  *(zero_signal, heldout),
)
