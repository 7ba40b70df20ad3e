"""Policy losses: (logp_BT, batch) -> loss_BT, one number per token.

A factory returns the loss. Averaging is not done here: the update takes
sum(loss_BT * batch.weight_BT), and `config.objective.average` fills the
weights; each docstring names the one of its paper. `batch.logp_old_BT` is the
sampler's logp, `batch.logp_first_BT` the trainer's own before the first update
of the batch. A loss that wraps another is a component in a component:
dict(fn='...:with_kl', weight=1e-3, loss=dict(fn='...:on_policy')).

`reads` finds the fields that a loss reads in its traced program. Two facts
cannot be found there, so attributes of the loss function declare them:
`advantage_only`, that it has no gradient where the advantage is 0, and
`inside`, the loss that it wraps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from acereason_jax.rl import packing

Loss = Callable[[jax.Array, packing.PackedBatch], jax.Array]

# Shape for tracing a loss, which must accept any number of rows and columns.
_SHAPE = 2, 1024


def advantage_only(loss: Loss) -> Loss:
  """Declares that `loss` has no gradient where the advantage is 0.

  The update then leaves out rollouts with advantage 0, which saves their cost.
  Without the declaration every rollout is trained on.
  """
  loss.advantage_only = True
  return loss


def on_policy() -> Loss:
  """The strictly on-policy objective of arXiv 2505.16400, section 3.1.

  pi_old is pi, so the ratio is 1 and the gradient is that of REINFORCE. The
  loss reads no earlier logp, so a sampler's rounding cannot bias it. The
  paper's average is 'token' or 'group' (config/base.py).
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - jax.lax.stop_gradient(logp_BT))
    return -ratio_BT * batch.adv_BT

  return advantage_only(loss)


def clipped(clip_low: float, clip_high: float) -> Loss:
  """min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), arXiv 2505.16400 eq. 1.

  r is relative to the sampler's logp. 0.2 and 0.28 are DAPO's clip-higher
  (arXiv 2503.14476, average 'token'); GRPO (2402.03300) has 'sequence'.
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - batch.logp_old_BT)
    return _clipped(ratio_BT, batch.adv_BT, clip_low, clip_high)

  return advantage_only(loss)


def gspo(clip_low: float, clip_high: float) -> Loss:
  """`clipped` with one ratio per response, arXiv 2507.18071 eq. 5-7.

  The ratio is exp(mean of logp - logp_old) over the response tokens of a
  segment, those of weight > 0; the gradient flows through all of them. A
  response is in one row, so any split of the batch gives the same result. The
  paper clips at 3e-4 and 4e-4, average 'sequence'.
  """

  def loss(logp_BT, batch):
    said_BT = batch.weight_BT > 0
    gap_BT = jnp.where(said_BT, logp_BT - batch.logp_old_BT, 0.0)
    mean_BT = jax.vmap(_segment_mean)(gap_BT, said_BT, batch.segment_BT)
    return _clipped(jnp.exp(mean_BT), batch.adv_BT, clip_low, clip_high)

  return advantage_only(loss)


def cispo(clip_low: float, clip_high: float) -> Loss:
  """-stop_gradient(clip(r, 1 - clip_low, 1 + clip_high)) A logp.

  arXiv 2506.13585, eq. 4 and 5: a ratio outside the bounds is clipped, but no
  token loses its gradient. The paper has no lower bound (clip_low=1), average
  'token'.
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - batch.logp_old_BT)
    inside_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    return -jax.lax.stop_gradient(inside_BT) * batch.adv_BT * logp_BT

  return advantage_only(loss)


def truncated_importance(loss: Loss, limit: float) -> Loss:
  """min(pi_old / pi_sampler, limit) * `loss`, whose ratio is pi / pi_old.

  Truncated importance sampling for the mismatch of sampler and trainer: TIS
  (Yao et al. 2025, 'Your efficient RL framework secretly brings you off-policy
  RL training'), limit 2; average as in `loss`. pi_old is the trainer's own
  policy before the first update of the batch, logp_first, which `loss` gets as
  logp_old. So the factor depends only on sampler and trainer, has no gradient
  and is the same at every update of a batch. A clip inside is PPO's.
  """
  return _corrected(loss, lambda ratio_BT: jnp.minimum(ratio_BT, limit))


def icepop(loss: Loss, low: float, high: float) -> Loss:
  """As `truncated_importance`, but the factor is 0 outside low..high.

  IcePop, arXiv 2510.18855: 0.5 and 5. Within the bounds the factor is the
  ratio.
  """
  inside = lambda ratio_BT: (ratio_BT >= low) & (ratio_BT <= high)
  return _corrected(loss, lambda r_BT: jnp.where(inside(r_BT), r_BT, 0.0))


def with_kl(loss: Loss, weight: float) -> Loss:
  """`loss` + weight * `kl`: the penalty of arXiv 2402.03300, eq. 3 and 4.

  GRPO has 0.04 and average 'sequence'; ProRL (2505.24864) resets the reference.
  """

  def penalised(logp_BT, batch):
    return loss(logp_BT, batch) + weight * kl(logp_BT, batch.logp_ref_BT)

  penalised.inside = loss
  return penalised


def kl(logp_BT: jax.Array, logp_ref_BT: jax.Array) -> jax.Array:
  """KL(pi || pi_ref) per token, nats: the estimate of arXiv 2402.03300 eq. 4.

  pi_ref / pi - log(pi_ref / pi) - 1: never negative, and unbiased for tokens
  drawn from pi.
  """
  gap_BT = logp_ref_BT - logp_BT
  # exp(gap) - 1 would lose all digits of a gap of 1e-4.
  return jnp.expm1(gap_BT) - gap_BT


def reads(loss: Loss) -> frozenset[str]:
  """The fields of a batch that the loss, or its gradient, depends on.

  They are found in the traced program, whatever the numbers are: a term that
  only some tokens have counts, and so does a term times 0.

  Raises:
    ValueError: one line that says why this is not a loss.
  """
  _, used = partial_eval.dce_jaxpr(_traced(loss), [True, True])
  return frozenset(
    name for name, is_used in zip(packing.PackedBatch._fields, used) if is_used
  )


def needs_every(loss: Loss) -> bool:
  """Whether the loss may have a gradient where the advantage is 0."""
  return not getattr(loss, 'advantage_only', False)


def has_ratio(loss: Loss) -> bool:
  """Whether the loss compares the policy with the one that sampled the batch.

  Without a ratio only the first update of a batch is right. For a loss that
  wraps another the inner one decides: the factor of a correction for the
  sampler is not such a ratio, and neither is a KL to the reference.
  """
  while hasattr(loss, 'inside'):
    loss = loss.inside
  return not reads(loss).isdisjoint({'logp_old_BT', 'logp_first_BT'})


def _clipped(ratio_BT, adv_BT, clip_low, clip_high):
  inside_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
  return -jnp.minimum(ratio_BT * adv_BT, inside_BT * adv_BT)


def _segment_mean(x_T, said_T, segment_T):
  """At each token the mean of x over its segment's response tokens, or 0."""
  # Segments of a row are numbered from 1; padding is segment 0.
  count = len(segment_T) + 1
  total_S = jax.ops.segment_sum(x_T, segment_T, count)
  said_S = jax.ops.segment_sum(said_T.astype(x_T.dtype), segment_T, count)
  return (total_S / jnp.maximum(said_S, 1.0))[segment_T]


def _corrected(loss: Loss, factor: Callable[[jax.Array], jax.Array]) -> Loss:
  """factor(pi_old / pi_sampler) * loss, which gets logp_first as logp_old."""

  def corrected(logp_BT, batch):
    first_BT = batch.logp_first_BT
    ratio_BT = jnp.exp(first_BT - batch.logp_old_BT)
    seen = batch._replace(logp_old_BT=first_BT)
    return factor(ratio_BT) * loss(logp_BT, seen)

  corrected.inside = loss
  return corrected if needs_every(loss) else advantage_only(corrected)


def _traced(loss: Loss):
  """The program (batch, logp, slope) -> (loss, its gradient times slope).

  Raises:
    ValueError: one line that says why `loss` is not a loss.
  """
  if not callable(loss):
    raise ValueError(
      f'gave a {type(loss).__name__}, expected a function '
      '(logp_BT, batch) -> loss_BT'
    )
  number = jax.ShapeDtypeStruct(_SHAPE, jnp.float32)
  whole = jax.ShapeDtypeStruct(_SHAPE, jnp.int32)
  batch = packing.PackedBatch(
    *(
      whole if name in packing.WHOLE else number
      for name in packing.PackedBatch._fields
    )
  )

  def value_and_gradient(batch, logp_BT, slope_BT):
    value, pull_back = jax.vjp(lambda x: loss(x, batch), logp_BT)
    return value, *pull_back(slope_BT.astype(value.dtype))

  try:
    got = jax.eval_shape(loss, number, batch)
    if not _is_loss(got):
      raise TypeError(f'its result is {_describe(got)}')
    program = jax.make_jaxpr(value_and_gradient)(batch, number, number).jaxpr
  # The loss is the user's function, which may raise anything.
  except Exception as e:
    reason = f'{type(e).__name__}: {str(e).strip()}'.splitlines()[0]
    raise ValueError(
      f'is no loss ({reason}); for logp_BT, float32{list(_SHAPE)}, and a batch '
      'of such arrays expected a float array of that shape'
    ) from e
  _, used = partial_eval.dce_jaxpr(program, [False, True])
  if not used[-1]:
    raise ValueError('is no loss: it has no gradient to logp_BT')
  return program


def _is_loss(got: Any) -> bool:
  if not isinstance(got, jax.ShapeDtypeStruct) or got.shape != _SHAPE:
    return False
  return jnp.issubdtype(got.dtype, jnp.floating)


def _describe(got: Any) -> str:
  if isinstance(got, jax.ShapeDtypeStruct):
    return f'{got.dtype}{list(got.shape)}'
  return f'a {type(got).__name__}'
