"""Log-probabilities of given tokens, never holding a [B, T, V] array.

Forward and backward walk the rows in chunks of tokens and recompute the
logits, so the largest temporary is [B, chunk, V] and the one unavoidable
[V, D] gradient of the head.
"""

import functools

import jax
import jax.numpy as jnp


def token_logp(
  x_BTD: jax.Array,
  w_VD: jax.Array,
  target_BT: jax.Array,
  temperature: float,
  chunk: int,
) -> jax.Array:
  """log softmax(x @ w.T / temperature)[target], float32 [B, T].

  Natural log. `chunk` tokens of each row are taken at a time; T is padded to
  a multiple of it here.
  """
  T = x_BTD.shape[1]
  chunk = min(chunk, T)
  pad = -T % chunk
  x_BTD = jnp.pad(x_BTD, ((0, 0), (0, pad), (0, 0)))
  target_BT = jnp.pad(target_BT, ((0, 0), (0, pad)))
  return _token_logp(x_BTD, w_VD, target_BT, temperature, chunk)[:, :T]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _token_logp(x_BTD, w_VD, target_BT, temperature, chunk):
  return _forward(x_BTD, w_VD, target_BT, temperature, chunk)[0]


def _split(x_BT, chunk: int):
  """[B, T, ...] -> [T / chunk, B, chunk, ...], for scan."""
  B, T = x_BT.shape[:2]
  return x_BT.reshape(B, T // chunk, chunk, *x_BT.shape[2:]).swapaxes(0, 1)


def _join(x_NBC):
  N, B, C = x_NBC.shape[:3]
  return x_NBC.swapaxes(0, 1).reshape(B, N * C, *x_NBC.shape[3:])


def _logits(x_BCD, w_VD, temperature):
  logits_BCV = jnp.einsum(
    'bcd,vd->bcv', x_BCD, w_VD, preferred_element_type=jnp.float32
  )
  return logits_BCV / temperature


def _is_target(target_BC, V: int):
  # A comparison, not a gather: it stays local where V is sharded.
  return target_BC[..., None] == jnp.arange(V)


def _forward(x_BTD, w_VD, target_BT, temperature, chunk):
  def body(_, args):
    x_BCD, target_BC = args
    logits_BCV = _logits(x_BCD, w_VD, temperature)
    norm_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
    hit_BCV = _is_target(target_BC, w_VD.shape[0])
    chosen_BC = jnp.sum(jnp.where(hit_BCV, logits_BCV, 0.0), -1)
    return None, (chosen_BC - norm_BC, norm_BC)

  xs = _split(x_BTD, chunk), _split(target_BT, chunk)
  _, (logp_NBC, norm_NBC) = jax.lax.scan(body, None, xs)
  return _join(logp_NBC), (x_BTD, w_VD, target_BT, norm_NBC)


def _backward(temperature, chunk, residual, grad_BT):
  x_BTD, w_VD, target_BT, norm_NBC = residual

  def body(dw_VD, args):
    x_BCD, target_BC, norm_BC, grad_BC = args
    probs_BCV = jnp.exp(_logits(x_BCD, w_VD, temperature) - norm_BC[..., None])
    hit_BCV = _is_target(target_BC, w_VD.shape[0])
    scale_BC1 = (grad_BC / temperature)[..., None]
    dlogits_BCV = (scale_BC1 * (hit_BCV - probs_BCV)).astype(x_BCD.dtype)
    dx_BCD = jnp.einsum('bcv,vd->bcd', dlogits_BCV, w_VD)
    dw_VD += jnp.einsum(
      'bcv,bcd->vd', dlogits_BCV, x_BCD, preferred_element_type=jnp.float32
    )
    return dw_VD, dx_BCD

  xs = _split(x_BTD, chunk), _split(target_BT, chunk), norm_NBC
  xs = (*xs, _split(grad_BT, chunk))
  zero = jnp.zeros(w_VD.shape, jnp.float32)
  dw_VD, dx_NBCD = jax.lax.scan(body, zero, xs)
  return _join(dx_NBCD), dw_VD.astype(w_VD.dtype), None


_token_logp.defvjp(_forward, _backward)
