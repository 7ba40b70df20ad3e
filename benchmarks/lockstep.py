"""The first sampler, for comparison: a lockstep batch over a dense cache.

Every rollout of a batch takes as many steps as its longest. The cache has
room for all of them, and each step reads all of that room.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax.kernels import attention
from acereason_jax.models import base
from acereason_jax.rollout import sampling as sampling_lib


class Cache(NamedTuple):
  """Keys and values of prompts and responses.

  prompt_k, prompt_v: those of prompts, shared by a group, [L, P, S, K, H].
  k, v: those of responses, [L, B, K, R, H].
  """

  prompt_k: jax.Array
  prompt_v: jax.Array
  k: jax.Array
  v: jax.Array


def make_sampler(
  model: base.Model,
  *,
  groups: int,
  max_tokens: int,
  sampling: sampling_lib.Sampling,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """sample(params, tokens_PS, length_P, limit_B, keys_B) -> (tokens, logp).

  Both are [B, R]. Rollout b has `limit` tokens; the rest is junk. The loop ends
  with the longest.
  """

  @jax.jit
  def sample(params, tokens_PS, length_P, limit_B, keys_B):
    P, S = tokens_PS.shape
    B, R = P * groups, max_tokens
    w_VD = model.head(params)
    index_S = jnp.arange(S)
    segment_PS = (index_S < length_P[:, None]).astype(jnp.int32)
    layout = attention.layout(segment_PS, jnp.zeros_like(segment_PS))
    x_PSD, prompt_kv = model.extend(
      params,
      tokens_PS,
      jnp.broadcast_to(index_S, (P, S)),
      lambda _, q, k, v: attention.packed_attention(q, k, v, layout),
    )
    x_PD = jnp.take_along_axis(x_PSD, (length_P - 1)[:, None, None], 1)[:, 0]
    prompt_kv = [t.transpose(0, 1, 3, 2, 4) for t in prompt_kv]
    L, _, K, _, H = prompt_kv[0].shape
    empty = jnp.zeros((L, B, K, R, H), x_PD.dtype)
    cache = Cache(*prompt_kv, empty, empty)
    seen_PS = index_S < length_P[:, None]

    def draw(x_BD, i):
      logits_BV = jnp.einsum(
        'bd,vd->bv', x_BD, w_VD, preferred_element_type=jnp.float32
      )
      keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
      return sampling_lib.draw(keys, logits_BV, sampling, 1.0)

    def step(carry):
      i, token_B, tokens_BR, logp_BR, cache = carry
      attend = lambda layer, q, k, v: decode_attention(
        q,
        k,
        v,
        (cache.prompt_k[layer], cache.prompt_v[layer]),
        seen_PS,
        (cache.k[layer], cache.v[layer]),
        i - 1,
      )
      position_B = jnp.repeat(length_P, groups) + i - 1
      x_BD, kv = model.extend(params, token_B, position_B, attend)
      k, v = (
        jax.lax.dynamic_update_slice_in_dim(old, t[:, :, :, None], i - 1, 3)
        for old, t in zip((cache.k, cache.v), kv)
      )
      return record(i, draw(x_BD, i), tokens_BR, logp_BR, cache, k, v)

    def record(i, new, tokens_BR, logp_BR, cache, k, v):
      put = lambda x, y: jax.lax.dynamic_update_slice(x, y[:, None], (0, i))
      tokens_BR, logp_BR = put(tokens_BR, new.token_B), put(logp_BR, new.logp_B)
      cache = cache._replace(k=k, v=v)
      return i + 1, new.token_B, tokens_BR, logp_BR, cache

    first = draw(jnp.repeat(x_PD, groups, axis=0), 0)
    zeros = jnp.zeros((B, R), jnp.int32)
    carry = record(jnp.int32(0), first, zeros, zeros * 0.0, cache, empty, empty)
    longest = jnp.minimum(jnp.max(limit_B), R)
    carry = jax.lax.while_loop(lambda c: c[0] < longest, step, carry)
    return carry[2], carry[3]

  return sample


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

  The B = P * G rollouts are in order of their groups. `prompt_kv` [P, K, S, H]
  is shared by the G rollouts of a prompt; `response_kv` [B, K, R, H] holds the
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

  dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  past_S = dot('pkxh,pksh->pkxs', q_PKXH, prompt_kv[0])
  past_S = jnp.where(prompt_seen_PS[:, None, None], past_S, attention.MASKED)
  past_R = dot('bkmh,bkrh->bkmr', q_BKMH, response_kv[0])
  R = past_R.shape[-1]
  past_R = jnp.where(jnp.arange(R) < index, past_R, attention.MASKED)
  own = dot('bkmh,bkh->bkm', q_BKMH, k_BKH)[..., None]
  scores = jnp.concatenate([to_B(past_S), past_R, own], axis=-1)
  probs = jax.nn.softmax(scores, axis=-1).astype(q_BNH.dtype)
  probs_S, probs_R, own = jnp.split(probs, [S, S + R], axis=-1)
  probs_PKXS = probs_S.reshape(P, G, K, M, S).swapaxes(1, 2)
  probs_PKXS = probs_PKXS.reshape(P, K, G * M, S)
  out = to_B(dot('pkxs,pksh->pkxh', probs_PKXS, prompt_kv[1]))
  out += dot('bkmr,bkrh->bkmh', probs_R, response_kv[1])
  out += own * v_BKH[:, :, None]
  return out.astype(q_BNH.dtype).reshape(B, N, H)
