"""Attention: over packed rows (training, prefill) and over a cache (decode).

A row holds several segments, and a query sees its own segment and one other,
its `prefix`: the prompt that the rollouts of a group share. Segment 0 is
padding; it sees nothing real and nothing sees it.
"""

import jax
import jax.numpy as jnp

# Scores are [.., CHUNK, T]: bounds the temporary memory and skips the key
# blocks that causality hides; smaller chunks cost more dispatch than they save.
CHUNK = 256
# Finite, so that a row of padding gives a mean of values and not NaN.
MASKED = -1e30


def packed_attention(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  prefix_BT: jax.Array,
) -> jax.Array:
  """Causal attention within segments and their prefixes, [B, T, N, H].

  Causal means by index in the row; a prefix must stand before the segments
  that name it. Scores are scaled by H**-0.5 and normalised in float32.
  """
  B, T, N, H = q_BTNH.shape
  K = k_BTKH.shape[2]
  q_BKMTH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  q_BKMTH = q_BKMTH.transpose(0, 2, 3, 1, 4)
  k_BKSH, v_BKSH = (x.transpose(0, 2, 1, 3) for x in (k_BTKH, v_BTKH))
  index_T = jnp.arange(T)
  chunks = []
  for start in range(0, T, CHUNK):
    stop = min(start + CHUNK, T)
    rows, keys = slice(start, stop), slice(0, stop)
    own_BTS = segment_BT[:, rows, None] == segment_BT[:, None, keys]
    shared_BTS = prefix_BT[:, rows, None] == segment_BT[:, None, keys]
    causal_TS = index_T[rows, None] >= index_T[None, keys]
    seen_BTS = (own_BTS | shared_BTS) & causal_TS
    seen_BTS &= (segment_BT > 0)[:, None, keys]
    scores = jnp.einsum(
      'bkmth,bksh->bkmts', q_BKMTH[:, :, :, rows], k_BKSH[:, :, keys]
    ).astype(jnp.float32)
    scores = jnp.where(seen_BTS[:, None, None], scores, MASKED)
    probs = jax.nn.softmax(scores, axis=-1).astype(v_BKSH.dtype)
    chunks.append(jnp.einsum('bkmts,bksh->bkmth', probs, v_BKSH[:, :, keys]))
  out_BKMTH = jnp.concatenate(chunks, axis=3)
  return out_BKMTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def decode_attention(
  q_BNH: jax.Array,
  k_BKH: jax.Array,
  v_BKH: jax.Array,
  prompt_kv: tuple[jax.Array, jax.Array],
  prompt_seen_PS: jax.Array,
  response_kv: tuple[jax.Array, jax.Array],
  index: jax.Array,
) -> jax.Array:
  """One query per rollout against its cache and itself, [B, N, H].

  The B = P * G rollouts stand group by group. `prompt_kv` [P, K, S, H] is
  shared by the G rollouts of a prompt; `response_kv` [B, K, R, H] holds the
  `index` tokens before this one, whose own key and value are k and v.
  """
  B, N, H = q_BNH.shape
  P, K, S = prompt_kv[0].shape[:3]
  G, M = B // P, N // K
  q_BKMH = (q_BNH * H**-0.5).reshape(B, K, M, H)
  # Rollouts of a prompt become rows of one matrix against its keys.
  q_PKXH = q_BKMH.reshape(P, G, K, M, H).swapaxes(1, 2)
  q_PKXH = q_PKXH.reshape(P, K, G * M, H)

  def to_B(x_PKXS: jax.Array) -> jax.Array:
    last = x_PKXS.shape[-1]
    x = x_PKXS.reshape(P, K, G, M, last).swapaxes(1, 2)
    return x.reshape(B, K, M, last)

  past_S = jnp.einsum('pkxh,pksh->pkxs', q_PKXH, prompt_kv[0])
  past_S = jnp.where(prompt_seen_PS[:, None, None], past_S, MASKED)
  past_R = jnp.einsum('bkmh,bkrh->bkmr', q_BKMH, response_kv[0])
  R = past_R.shape[-1]
  past_R = jnp.where(jnp.arange(R) < index, past_R, MASKED)
  own = jnp.einsum('bkmh,bkh->bkm', q_BKMH, k_BKH)[..., None]
  scores = jnp.concatenate([to_B(past_S), past_R, own], axis=-1)
  probs = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(q_BNH.dtype)
  probs_S, probs_R, own = jnp.split(probs, [S, S + R], axis=-1)
  probs_PKXS = probs_S.reshape(P, G, K, M, S).swapaxes(1, 2)
  probs_PKXS = probs_PKXS.reshape(P, K, G * M, S)
  out = to_B(jnp.einsum('pkxs,pksh->pkxh', probs_PKXS, prompt_kv[1]))
  out += jnp.einsum('bkmr,bkrh->bkmh', probs_R, response_kv[1])
  out += own * v_BKH[:, :, None]
  return out.reshape(B, N, H)
