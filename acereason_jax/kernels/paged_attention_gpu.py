"""Decode attention over a paged cache for NVIDIA GPUs: Pallas through Triton.

Pallas computes addresses in 32 bits unless an array passes 4 GiB, and Triton
reads those bits as signed, so a pool of one-byte numbers between 2 and 4 GiB
would silently be read at wrong addresses. Such a pool is refused. (Two-byte
pools are safe at every size.)
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from acereason_jax.kernels.attention import MASKED

# The least number of rows of a tensor core product; a group has fewer queries.
ROWS = 16


def serves(pool_LXKCSH: jax.Array) -> bool:
  """Whether blocks divide pages and addresses fit (the module's docstring)."""
  S, H = pool_LXKCSH.shape[4:]
  is_power = lambda n: n & (n - 1) == 0
  return (
    (S % 64 == 0 or (is_power(S) and S >= ROWS))
    and is_power(H)
    and not _overflows(pool_LXKCSH)
  )


def _overflows(pool_LXKCSH: jax.Array) -> bool:
  nbytes = pool_LXKCSH.size * pool_LXKCSH.dtype.itemsize
  return pool_LXKCSH.size > 2**31 and nbytes <= 2**32


def paged_attention(
  q_BNH: jax.Array,
  pool_LXKCSH: jax.Array,
  layer: jax.Array,
  table_BP: jax.Array,
  prefix_B: jax.Array,
  start_B: jax.Array,
  length_B: jax.Array,
  *,
  splits: int | None = None,
  block: int | None = None,
  warps: int = 4,
  stages: int = 3,
  estimate_tokens: int | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """One query per row against its pages: out [B, N, H] and lse [B, N], float32.

  A row sees positions < prefix and start <= position < length of its cache;
  position p is in page table[b, p // S] of the pool, where C = 2 is key and
  value. A row that sees nothing gives out 0, lse MASKED. Scores are scaled by
  H**-0.5; lse is the log of the sum of their exponentials.

  Each row has `splits` programs, which share the row's tokens in blocks of at
  most `block`; their parts are merged (Flash-Decoding, Dao et al. 2023,
  pytorch.org/blog/flash-decoding). The split depends only on the row's own
  length, so a row's bits do not depend on the rest of the batch. H must be a
  power of two. The cost estimate counts `estimate_tokens` per row, by default a
  full table. Raises ValueError for a pool that it cannot address.
  """
  B, N, H = q_BNH.shape
  K, _, S, _ = pool_LXKCSH.shape[2:]
  # 64 programs per row are enough for one H100 when a few long rows are left.
  splits = splits or max(1, 64 // K)
  # Blocks of 64 two-byte numbers do not spill registers; four-byte ones would.
  T = min(block or 128 // q_BNH.dtype.itemsize, S)
  _check(q_BNH, pool_LXKCSH, T)
  # Blocks of all heads: Triton's arrays are powers of two, so a program with 7
  # heads, for example, reads and writes 16 and masks the others.
  rows = lambda *shape: pl.BlockSpec(
    (None, None, *shape), lambda b, k, d: (b, d, *(0 for _ in shape))
  )
  parts = pl.pallas_call(
    functools.partial(_kernel, block=T),
    grid=(B, K, splits),
    in_specs=[
      pl.BlockSpec((None, N, H), lambda b, k, d: (b, 0, 0)),
      *[pl.BlockSpec()] * 6,
    ],
    out_specs=(rows(N, H), rows(N)),
    out_shape=(
      jax.ShapeDtypeStruct((B, splits, N, H), jnp.float32),
      jax.ShapeDtypeStruct((B, splits, N), jnp.float32),
    ),
    compiler_params=plgpu.CompilerParams(num_warps=warps, num_stages=stages),
    cost_estimate=_cost(
      q_BNH, pool_LXKCSH, estimate_tokens or table_BP.shape[1] * S, splits
    ),
    interpret=interpret,
    name='paged_attention',
  )(
    q_BNH,
    pool_LXKCSH,
    jnp.asarray(layer, jnp.int32).reshape(1),
    table_BP,
    prefix_B,
    start_B,
    length_B,
  )
  return _merge(*parts)


def _check(q_BNH: jax.Array, pool_LXKCSH: jax.Array, T: int) -> None:
  K, _, S, _ = pool_LXKCSH.shape[2:]
  if q_BNH.shape[1] % K or S % T:
    raise ValueError(
      f'{q_BNH.shape[1]} heads must divide by {K}, and {S} tokens by {T}'
    )
  if _overflows(pool_LXKCSH):
    raise ValueError(
      f'a pool of {pool_LXKCSH.size} one-byte numbers would be addressed in'
      ' signed 32 bits: have at most 2 GiB, or more than 4, on a device'
    )


def _cost(
  q_BNH: jax.Array, pool_LXKCSH: jax.Array, tokens: int, splits: int
) -> pl.CostEstimate:
  """The cost for `tokens` per row. Pallas for Triton ignores it."""
  B, N, H = q_BNH.shape
  read = 2 * B * pool_LXKCSH.shape[2] * tokens * H * pool_LXKCSH.dtype.itemsize
  return pl.CostEstimate(
    flops=4 * B * N * H * tokens,
    transcendentals=B * N * tokens,
    bytes_accessed=read + q_BNH.nbytes + 4 * B * N * splits * (H + 1),
  )


def _kernel(
  q_ref,
  pool_ref,
  layer_ref,
  table_ref,
  prefix_ref,
  start_ref,
  length_ref,
  out_ref,
  lse_ref,
  *,
  block: int,
):
  """Attention over the blocks of one split of one row, for one key head."""
  b, k, split = (pl.program_id(i) for i in range(3))
  layer = layer_ref[0]
  prefix, start, length = (x[b] for x in (prefix_ref, start_ref, length_ref))
  N, H = q_ref.shape
  X, K, _, S, _ = pool_ref.shape[1:]
  M = N // K
  P = table_ref.shape[1]
  used = pl.cdiv(length, block)
  share = pl.cdiv(used, pl.num_programs(2))
  first = split * share
  last = jnp.minimum(first + share, used)
  Q = max(ROWS, pl.next_power_of_2(M))
  heads = pl.ds(k * M, Q)
  own_Q = jnp.arange(Q) < M
  across_H = lambda x_Q: jnp.broadcast_to(x_Q[:, None], (x_Q.size, H))
  q_QH = plgpu.load(q_ref.at[heads, :], mask=across_H(own_Q), other=0.0)

  def page_of(i):
    # Past the last block the entry is junk. It is not used, but must still be
    # an address.
    return jnp.clip(table_ref[b, jnp.minimum(i * block // S, P - 1)], 0, X - 1)

  # The carry brings the page's number. If it were loaded where it is used,
  # Triton would not load the next block's tokens during this block.
  def add_block(i, carry):
    page, *state = carry
    inside = pl.ds(i * block % S, block)
    position_T = i * block + jnp.arange(block)
    outside_T = (position_T < prefix) | (position_T >= start)
    seen_T = outside_T & (position_T < length)
    # Masked in the load: unseen values may be NaN, which 0 does not cancel.
    k_TH, v_TH = (
      plgpu.load(
        pool_ref.at[layer, page, k, jnp.int32(kv), inside, :],
        mask=across_H(seen_T),
        other=0.0,
      ).astype(q_QH.dtype)
      for kv in range(2)
    )
    return page_of(i + 1), *_attend(q_QH, k_TH, v_TH, seen_T, *state)

  nothing = jnp.full(Q, MASKED), jnp.zeros(Q), jnp.zeros((Q, H))
  _, top_Q, total_Q, out_QH = lax.fori_loop(
    first, last, add_block, (page_of(first), *nothing)
  )
  # At least 1 (the top's own exp(0)), unless nothing was seen.
  total_Q = jnp.maximum(total_Q, 1.0)
  plgpu.store(lse_ref.at[heads], top_Q + jnp.log(total_Q), mask=own_Q)
  # A split without blocks writes no output; `_merge` does not read it.
  plgpu.store(
    out_ref.at[heads, :],
    out_QH / total_Q[:, None],
    mask=across_H(own_Q & (first < last)),
  )


def _attend(q_QH, k_TH, v_TH, seen_T, top_Q, total_Q, out_QH):
  """Adds T tokens to a running softmax (arXiv 1805.02867)."""
  dot = functools.partial(
    lax.dot_general,
    precision=lax.Precision.HIGHEST,  # For float32: no TF32.
    preferred_element_type=jnp.float32,
  )
  scores_QT = dot(q_QH, k_TH, (((1,), (1,)), ((), ()))) * q_QH.shape[1] ** -0.5
  scores_QT = jnp.where(seen_T[None], scores_QT, MASKED)
  new_Q = jnp.maximum(top_Q, jnp.max(scores_QT, axis=1))
  # Masked again: if nothing was seen yet, every exponent is exp(0).
  probs_QT = jnp.where(seen_T[None], jnp.exp(scores_QT - new_Q[:, None]), 0.0)
  decay_Q = jnp.exp(top_Q - new_Q)
  total_Q = total_Q * decay_Q + jnp.sum(probs_QT, axis=1)
  out_QH = out_QH * decay_Q[:, None]
  out_QH += dot(probs_QT.astype(q_QH.dtype), v_TH, (((1,), (0,)), ((), ())))
  return new_Q, total_Q, out_QH


def _merge(
  out_BDNH: jax.Array, lse_BDN: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sum over splits D by their share of the exponentials, in a fixed order."""
  top_B1N = jnp.max(lse_BDN, axis=1, keepdims=True)
  weight_BDN = jnp.where(lse_BDN > MASKED, jnp.exp(lse_BDN - top_B1N), 0.0)
  total_BN = jnp.maximum(jnp.sum(weight_BDN, axis=1), 1.0)
  weight_BDN1 = weight_BDN[..., None]
  # Outputs of weight 0 may never have been written.
  out_BDNH = jnp.where(weight_BDN1 > 0, out_BDNH * weight_BDN1, 0.0)
  out_BNH = jnp.sum(out_BDNH, axis=1) / total_BN[..., None]
  return out_BNH, top_B1N[:, 0] + jnp.log(total_BN)
