"""Attention over packed rows: what training scores rollouts with.

A row holds several segments, and a query sees its own segment and one other,
its `prefix`: the prompt that the rollouts of a group share. Segment 0 is
padding: nothing sees it, and what comes out for it means nothing.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# What the backward pass of attention needs, by name for remat policies.
SAVED = 'attention'
# Scores are [.., CHUNK, T]: bounds the temporary memory and skips the key
# blocks that causality hides; smaller chunks cost more dispatch than they save.
CHUNK = 256
# Finite, so that a row of padding gives a mean of values and not NaN.
MASKED = -1e30


def packed_attention(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  bias_BTS: jax.Array,
) -> jax.Array:
  """Causal attention within segments and their prefixes, [B, T, N, H].

  `bias_BTS` is that of `packed_bias`. Scores are scaled by H**-0.5 and
  normalised in float32. The backward pass recomputes them from each query's
  log normaliser (arXiv 2307.08691), so nothing of size T x T is kept.
  """
  B, T, N, H = q_BTNH.shape
  K = k_BTKH.shape[2]
  q_BKMTH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  q_BKMTH = q_BKMTH.transpose(0, 2, 3, 1, 4)
  k_BKSH, v_BKSH = (x.transpose(0, 2, 1, 3) for x in (k_BTKH, v_BTKH))
  out_BKMTH = _attend(q_BKMTH, k_BKSH, v_BKSH, bias_BTS)
  return out_BKMTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def packed_bias(segment_BT: jax.Array, prefix_BT: jax.Array) -> jax.Array:
  """0 where query t sees key s, MASKED elsewhere; float32 [B, T, S].

  Causal means by index in the row; a prefix must stand before the segments
  that name it. Made once for all layers.
  """
  index_T = jnp.arange(segment_BT.shape[1])
  own_BTS = segment_BT[:, :, None] == segment_BT[:, None]
  shared_BTS = prefix_BT[:, :, None] == segment_BT[:, None]
  seen_BTS = (own_BTS | shared_BTS) & (segment_BT > 0)[:, None]
  seen_BTS &= index_T[:, None] >= index_T
  return jnp.where(seen_BTS, 0.0, MASKED)


def _chunks(T: int) -> list[tuple[slice, slice]]:
  """Query chunks, each with the keys that causality leaves it."""
  starts = range(0, T, CHUNK)
  return [
    (slice(i, min(i + CHUNK, T)), slice(0, min(i + CHUNK, T))) for i in starts
  ]


def _scores(q_BKMTH, k_BKSH, bias_BTS, rows, keys):
  scores = jnp.einsum(
    'bkmth,bksh->bkmts',
    q_BKMTH[:, :, :, rows],
    k_BKSH[:, :, keys],
    preferred_element_type=jnp.float32,
  )
  return scores + bias_BTS[:, None, None, rows, keys]


@jax.custom_vjp
def _attend(q_BKMTH, k_BKSH, v_BKSH, bias_BTS):
  return _attend_forward(q_BKMTH, k_BKSH, v_BKSH, bias_BTS)[0]


def _attend_forward(q_BKMTH, k_BKSH, v_BKSH, bias_BTS):
  outs, norms = [], []
  for rows, keys in _chunks(q_BKMTH.shape[3]):
    scores = _scores(q_BKMTH, k_BKSH, bias_BTS, rows, keys)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = jnp.einsum(
      'bkmts,bksh->bkmth',
      weights.astype(v_BKSH.dtype),
      v_BKSH[:, :, keys],
      preferred_element_type=jnp.float32,
    )
    # Divided after the product: H numbers a query instead of S.
    outs.append((out / total).astype(v_BKSH.dtype))
    norms.append(top + jnp.log(total))
  out_BKMTH = checkpoint_name(jnp.concatenate(outs, 3), SAVED)
  norm_BKMT1 = checkpoint_name(jnp.concatenate(norms, 3), SAVED)
  return out_BKMTH, (q_BKMTH, k_BKSH, v_BKSH, bias_BTS, out_BKMTH, norm_BKMT1)


def _attend_backward(residual, dout_BKMTH):
  q_BKMTH, k_BKSH, v_BKSH, bias_BTS, out_BKMTH, norm_BKMT1 = residual
  dtype = q_BKMTH.dtype
  inner_BKMT1 = jnp.sum(
    dout_BKMTH.astype(jnp.float32) * out_BKMTH, -1, keepdims=True
  )
  dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  dq = []
  # Sums over chunks: in bfloat16 their error would grow with T.
  dk, dv = (jnp.zeros(x.shape, jnp.float32) for x in (k_BKSH, v_BKSH))
  for rows, keys in _chunks(q_BKMTH.shape[3]):
    scores = _scores(q_BKMTH, k_BKSH, bias_BTS, rows, keys)
    probs = jnp.exp(scores - norm_BKMT1[:, :, :, rows])
    dout = dout_BKMTH[:, :, :, rows]
    dprobs = dot('bkmth,bksh->bkmts', dout, v_BKSH[:, :, keys])
    dscores = (probs * (dprobs - inner_BKMT1[:, :, :, rows])).astype(dtype)
    probs = probs.astype(dtype)
    dq.append(jnp.einsum('bkmts,bksh->bkmth', dscores, k_BKSH[:, :, keys]))
    dk = dk.at[:, :, keys].add(
      dot('bkmts,bkmth->bksh', dscores, q_BKMTH[:, :, :, rows])
    )
    dv = dv.at[:, :, keys].add(dot('bkmts,bkmth->bksh', probs, dout))
  dq_BKMTH = jnp.concatenate(dq, 3)
  return dq_BKMTH, dk.astype(dtype), dv.astype(dtype), jnp.zeros_like(bias_BTS)


_attend.defvjp(_attend_forward, _attend_backward)
