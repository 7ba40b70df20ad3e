"""Policy losses: (logp_BT, batch) -> loss_BT, one number a token.

A factory returns the loss. Averaging is not done here: the update takes
sum(loss_BT * batch.weight_BT), and `config.average` fills the weights; each
docstring names the one of its paper. `batch.logp_old_BT` is the sampler's logp.
A loss that takes another is a component in a component:
dict(fn='...:with_kl', weight=1e-3, loss=dict(fn='...:on_policy')).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax.rl import packing

Loss = Callable[[jax.Array, packing.PackedBatch], jax.Array]


def on_policy() -> Loss:
  """The strictly on-policy objective of arXiv 2505.16400, section 3.1.

  pi_old is pi, so the ratio is 1 and the gradient that of REINFORCE; no
  earlier logp is read, and a sampler's rounding cannot bias it. The paper's
  average is 'token' or 'group' (configs/base.py).
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - jax.lax.stop_gradient(logp_BT))
    return -ratio_BT * batch.adv_BT

  return loss


def clipped(clip_low: float, clip_high: float) -> Loss:
  """min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), arXiv 2505.16400 eq. 1.

  r is against the sampler's logp. 0.2 and 0.28 is DAPO's clip-higher
  (arXiv 2503.14476, average 'token'); GRPO (2402.03300) has 'sequence'.
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - batch.logp_old_BT)
    return _clipped(ratio_BT, batch.adv_BT, clip_low, clip_high)

  return loss


def gspo(clip_low: float, clip_high: float) -> Loss:
  """`clipped` with one ratio for a whole response, arXiv 2507.18071 eq. 5-7.

  The ratio is exp(mean of logp - logp_old) over the tokens of a segment that
  the policy said, those of weight > 0; the gradient flows through all of them.
  A response stands in one row, so that any split of the batch gives the same.
  The paper clips at 3e-4 and 4e-4, average 'sequence'.
  """

  def loss(logp_BT, batch):
    said_BT = batch.weight_BT > 0
    gap_BT = jnp.where(said_BT, logp_BT - batch.logp_old_BT, 0.0)
    mean_BT = jax.vmap(_segment_mean)(gap_BT, said_BT, batch.segment_BT)
    return _clipped(jnp.exp(mean_BT), batch.adv_BT, clip_low, clip_high)

  return loss


def cispo(clip_low: float, clip_high: float) -> Loss:
  """-stop_gradient(clip(r, 1 - clip_low, 1 + clip_high)) A logp.

  arXiv 2506.13585, eq. 4 and 5: a ratio outside is cut, but no token loses its
  gradient. The paper has no lower bound (clip_low=1), average 'token'.
  """

  def loss(logp_BT, batch):
    ratio_BT = jnp.exp(logp_BT - batch.logp_old_BT)
    inside_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    return -jax.lax.stop_gradient(inside_BT) * batch.adv_BT * logp_BT

  return loss


def truncated_importance(loss: Loss, limit: float) -> Loss:
  """min(pi / pi_sampler, limit) times `loss`, whose pi_old is pi.

  Truncated importance sampling for what sampler and trainer differ by: TIS
  (Yao et al. 2025, 'Your efficient RL framework secretly brings you off-policy
  RL training'), limit 2; average as `loss` has it. The factor has no gradient.
  It holds the whole ratio to the sampler, so `loss` sees the trainer's own logp
  for logp_old: at the first update of a batch its ratio is 1, as in the paper.
  """
  return _corrected(loss, lambda ratio_BT: jnp.minimum(ratio_BT, limit))


def icepop(loss: Loss, low: float, high: float) -> Loss:
  """As `truncated_importance`, but a ratio outside low..high counts 0.

  IcePop, arXiv 2510.18855: 0.5 and 5. Inside, the ratio is the factor.
  """
  inside = lambda ratio_BT: (ratio_BT >= low) & (ratio_BT <= high)
  return _corrected(loss, lambda r_BT: jnp.where(inside(r_BT), r_BT, 0.0))


def with_kl(loss: Loss, weight: float) -> Loss:
  """`loss` + weight * `kl`: the penalty of arXiv 2402.03300, eq. 3 and 4.

  GRPO has 0.04 and average 'sequence'; ProRL (2505.24864) resets the reference.
  """

  def penalised(logp_BT, batch):
    return loss(logp_BT, batch) + weight * kl(logp_BT, batch.logp_ref_BT)

  return penalised


def kl(logp_BT: jax.Array, logp_ref_BT: jax.Array) -> jax.Array:
  """KL(pi || pi_ref) of a token, nats: the estimate of arXiv 2402.03300 eq. 4.

  pi_ref / pi - log(pi_ref / pi) - 1: never negative, and unbiased for tokens
  drawn from pi.
  """
  gap_BT = logp_ref_BT - logp_BT
  # exp(gap) - 1 would lose all digits of a gap of 1e-4.
  return jnp.expm1(gap_BT) - gap_BT


def reads_reference(loss: Loss) -> bool:
  """Whether the loss hangs on logp_ref: whether a reference must be kept."""
  logp_BT, batch = _probe()
  other = batch._replace(logp_ref_BT=batch.logp_ref_BT - 0.25)
  return bool((loss(logp_BT, batch) != loss(logp_BT, other)).any())


def needs_every(loss: Loss) -> bool:
  """Whether the loss has a gradient where the advantage is 0."""
  logp_BT, batch = _probe()
  grad_BT = jax.grad(lambda logp_BT: loss(logp_BT, batch).sum())(logp_BT)
  return bool((grad_BT != 0).any())


def _probe() -> tuple[np.ndarray, packing.PackedBatch]:
  """Five tokens of one response without advantage, of ratios 0.6 to 1.6."""
  row = lambda *x: np.array([x], np.float32)
  whole = np.ones((1, 5), np.int32)
  logp_BT = row(-1.0, -2.0, -0.5, -3.0, -1.5)
  zero_BT = np.zeros_like(logp_BT)
  return logp_BT, packing.PackedBatch(
    tokens_BT=whole,
    target_BT=whole,
    segment_BT=whole,
    prefix_BT=0 * whole,
    position_BT=np.arange(5, dtype=np.int32)[None],
    logp_old_BT=logp_BT + row(-0.5, -0.125, 0.0, 0.125, 0.5),
    adv_BT=zero_BT,
    weight_BT=zero_BT + 0.2,
    logp_ref_BT=logp_BT + row(0.25, -0.5, 0.125, 0.5, -0.25),
  )


def _clipped(ratio_BT, adv_BT, clip_low, clip_high):
  inside_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
  return -jnp.minimum(ratio_BT * adv_BT, inside_BT * adv_BT)


def _segment_mean(x_T, said_T, segment_T):
  """At each token the mean of x over what was said in its segment, or 0."""
  # Segments of a row are numbered from 1; padding is 0.
  count = len(segment_T) + 1
  total_S = jax.ops.segment_sum(x_T, segment_T, count)
  said_S = jax.ops.segment_sum(said_T.astype(x_T.dtype), segment_T, count)
  return (total_S / jnp.maximum(said_S, 1.0))[segment_T]


def _corrected(loss: Loss, factor: Callable[[jax.Array], jax.Array]) -> Loss:
  """factor(pi / pi_sampler), as a number, times the loss of pi alone."""

  def corrected(logp_BT, batch):
    own_BT = jax.lax.stop_gradient(logp_BT)
    ratio_BT = jnp.exp(own_BT - batch.logp_old_BT)
    return factor(ratio_BT) * loss(logp_BT, batch._replace(logp_old_BT=own_BT))

  return corrected
