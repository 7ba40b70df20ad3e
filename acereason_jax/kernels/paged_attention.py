"""Attention over a paged cache, in parts that are merged afterwards.

A part is (out, lse): the weighted mean of the values it saw, and the log of the
sum of their weights. Cache positions are not token positions: between a prompt
and its response the pages have a hole that nothing sees, so the rollouts of a
prompt share its pages and each starts on a page of its own.
"""

import functools

import jax
import jax.numpy as jnp

from acereason_jax.kernels import paged_attention_gpu, paged_attention_tpu
from acereason_jax.kernels.attention import MASKED

Part = tuple[jax.Array, jax.Array]

# Tokens of a row that the plain implementation takes at once. They stay in a
# CPU's cache between the gather and the product.
BLOCK = 64

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def paged_attention(
  q_BNH: jax.Array,
  pool_LXKCSH: jax.Array,
  layer: jax.Array,
  table_BP: jax.Array,
  prefix_B: jax.Array,
  start_B: jax.Array,
  length_B: jax.Array,
  *,
  platform: str,
  cores: int = 1,
  width: int = 1,
  shared: jax.Array | bool = False,
) -> Part:
  """One query per row over the pages of its row: out [B, N, H], lse [B, N].

  The pool holds X pages of S tokens for each of L layers and K kv heads; C = 2
  is key and value. Position p is visible if p < length and either p < prefix or
  p >= start; it is entry p % S of page table[p // S]. Values at other
  positions, even NaN, have no effect. A row that sees nothing gives 0 and
  MASKED. Both are float32. The layer is an index, so that the pool is never
  sliced.

  `platform` is the program's target: 'tpu', 'gpu' or 'cpu'. Only a TPU uses
  `cores`, the number of cores of a device, and `shared`, whether each `width`
  rows have the same pages: then it reads them once. Others have a cache between
  memory and kernel.
  """
  fast = {
    'tpu': (
      paged_attention_tpu.serves,
      functools.partial(paged_attention_tpu.paged_attention, cores=cores),
    ),
    'gpu': (paged_attention_gpu.serves, paged_attention_gpu.paged_attention),
  }
  serves, implementation = fast.get(platform, (None, None))
  if serves is None or not serves(pool_LXKCSH):
    implementation = functools.partial(plain_attention, flat=platform == 'cpu')
  where = table_BP, prefix_B, start_B, length_B
  rows = lambda: implementation(q_BNH, pool_LXKCSH, layer, *where)
  if platform != 'tpu' or width == 1:
    return rows()
  B, N, H = q_BNH.shape

  def groups() -> Part:
    q_RWNH = q_BNH.reshape(-1, width, N, H)
    heads = _as_heads(q_RWNH, pool_LXKCSH.shape[2])
    firsts = (x[::width] for x in where)
    out, lse = implementation(heads, pool_LXKCSH, layer, *firsts)
    out = out.reshape(-1, N, width, H).swapaxes(1, 2).reshape(B, N, H)
    return out, lse.reshape(-1, N, width).swapaxes(1, 2).reshape(B, N)

  return jax.lax.cond(shared, groups, rows)


def _as_heads(q_BTNH: jax.Array, K: int) -> jax.Array:
  """T queries that see the same keys, as query heads, [B, N T, H]."""
  B, T, N, H = q_BTNH.shape
  q_BTKMH = q_BTNH.reshape(B, T, K, N // K, H)
  return q_BTKMH.transpose(0, 2, 3, 1, 4).reshape(B, N * T, H)


def plain_attention(
  q_BNH: jax.Array,
  pool_LXKCSH: jax.Array,
  layer: jax.Array,
  table_BP: jax.Array,
  prefix_B: jax.Array,
  start_B: jax.Array,
  length_B: jax.Array,
  *,
  block: int = BLOCK,
  flat: bool = True,
) -> Part:
  """`paged_attention` in plain JAX, for any platform.

  Goes through blocks of about `block` tokens up to the longest row in use. A
  block that a row does not see changes no bit of the row's result. `flat`
  gathers a page as one row, which XLA's CPU backend copies fastest; a TPU would
  first write the whole pool anew, in another layout.
  """
  B, N, H = q_BNH.shape
  L, X, K, _, S, _ = pool_LXKCSH.shape
  pages = max(1, block // S)
  width, shape = pages * S, (B, K, N // K)
  q_BKMH = (q_BNH * H**-0.5).reshape(*shape, H)
  table_BP = jnp.pad(table_BP, ((0, 0), (0, -table_BP.shape[1] % pages)))
  page_dims = (-1,) if flat else pool_LXKCSH.shape[2:]
  rows = pool_LXKCSH.reshape(L * X, *page_dims)

  def body(carry):
    j, top, total, out = carry
    page_BP = jax.lax.dynamic_slice_in_dim(table_BP, j * pages, pages, 1)
    kv = jnp.take(rows, layer * X + page_BP, axis=0, mode='clip')
    kv = kv.reshape(B, pages, K, 2, S, H).astype(q_BNH.dtype)
    position = j * width + jnp.arange(width)
    seen = _visible(position, prefix_B, start_B, length_B)
    seen_BPS = seen.reshape(B, pages, S)
    # 0 times NaN is NaN, so values in a hole must not get that far.
    v = jnp.where(seen_BPS[:, :, None, :, None], kv[:, :, :, 1], 0)
    scores = _dot('bkmh,bpksh->bkmps', q_BKMH, kv[:, :, :, 0])
    scores = jnp.where(seen_BPS[:, None, None], scores, MASKED)
    new_top = jnp.maximum(top, jnp.max(scores, axis=(-2, -1)))
    weights = jnp.exp(scores - new_top[..., None, None])
    weights = jnp.where(seen_BPS[:, None, None], weights, 0)
    keep = jnp.exp(top - new_top)
    total = total * keep + jnp.sum(weights, axis=(-2, -1))
    seen_out = _dot('bkmps,bpksh->bkmh', weights.astype(v.dtype), v)
    return j + 1, new_top, total, out * keep[..., None] + seen_out

  blocks = (jnp.max(length_B) + width - 1) // width
  start = jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros((*shape, H))
  carry = jnp.int32(0), *start
  more = lambda carry: carry[0] < blocks
  _, top, total, out = jax.lax.while_loop(more, body, carry)
  total = jnp.where(total > 0, total, 1.0)
  out = (out / total[..., None]).reshape(B, N, H)
  return out, (top + jnp.log(total)).reshape(B, N)


def _visible(position_S, prefix_B, start_B, length_B):
  """Whether each row sees each cache position, [B, S]."""
  seen_BS = (position_S < prefix_B[:, None]) | (position_S >= start_B[:, None])
  return seen_BS & (position_S < length_B[:, None])


def own_attention(
  q_BNH: jax.Array,
  k_BKH: jax.Array,
  v_BKH: jax.Array,
  staged_BKCTH: jax.Array,
  count: jax.Array,
) -> Part:
  """One query per row over the `count` tokens staged before it, and itself.

  C = 2 is key and value; T is the room for staged tokens. `count` is a scalar,
  or [B, 1, 1, 1]. Shapes and dtypes of the result are those of
  `paged_attention`.
  """
  B, N, H = q_BNH.shape
  K, T = staged_BKCTH.shape[1], staged_BKCTH.shape[3]
  q_BKMH = (q_BNH * H**-0.5).reshape(B, K, N // K, H)
  past = _dot('bkmh,bkth->bkmt', q_BKMH, staged_BKCTH[:, :, 0])
  past = jnp.where(jnp.arange(T) < count, past, MASKED)
  own = _dot('bkmh,bkh->bkm', q_BKMH, k_BKH)[..., None]
  top = jnp.maximum(jnp.max(past, axis=-1, keepdims=True), own)
  past, own = jnp.exp(past - top), jnp.exp(own - top)
  total = jnp.sum(past, axis=-1, keepdims=True) + own
  v = staged_BKCTH[:, :, 1]
  out = _dot('bkmt,bkth->bkmh', past.astype(v.dtype), v)
  out = (out + own * v_BKH[:, :, None]) / total
  return out.reshape(B, N, H), (top + jnp.log(total)).reshape(B, N)


def staged_attention(
  q_BNH: jax.Array, k_BKTH: jax.Array, v_BKTH: jax.Array, count: jax.Array
) -> Part:
  """`own_attention` where the token itself is staged: over `count` >= 1."""
  B, N, H = q_BNH.shape
  K, T = k_BKTH.shape[1:3]
  q_BKMH = (q_BNH * H**-0.5).reshape(B, K, N // K, H)
  scores = _dot('bkmh,bkth->bkmt', q_BKMH, k_BKTH)
  scores = jnp.where(jnp.arange(T) < count, scores, MASKED)
  top = jnp.max(scores, axis=-1, keepdims=True)
  weights = jnp.exp(scores - top)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  out = _dot('bkmt,bkth->bkmh', weights.astype(v_BKTH.dtype), v_BKTH) / total
  return out.reshape(B, N, H), (top + jnp.log(total)).reshape(B, N)


def piece_attention(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  pool_LXKCSH: jax.Array,
  layer: jax.Array,
  table_BP: jax.Array,
  first_B: jax.Array,
  *,
  platform: str = 'cpu',
) -> jax.Array:
  """A piece of a prompt over itself, causally, and the `first` tokens before.

  Those are in the pool from position 0 on. The result is [B, T, N, H] in q's
  dtype. Prompts are cut into pieces of T tokens so that one shape caches them
  all. `platform` is as in `paged_attention`.
  """
  B, T, N, H = q_BTNH.shape
  K = k_BTKH.shape[2]
  q = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  scores = _dot('btkmh,bskh->bkmts', q, k_BTKH)
  scores = jnp.where(jnp.tri(T, dtype=bool), scores, MASKED)
  top = jnp.max(scores, axis=-1, keepdims=True)
  weights = jnp.exp(scores - top)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  out = _dot('bkmts,bskh->bkmth', weights.astype(v_BTKH.dtype), v_BTKH) / total
  own = out, (top + jnp.log(total))[..., 0]
  # All queries of a piece see the same pages.
  before, lse = plain_attention(
    _as_heads(q_BTNH, K),
    pool_LXKCSH,
    layer,
    table_BP,
    first_B,
    first_B,
    first_B,
    block=4 * BLOCK,
    flat=platform == 'cpu',
  )
  earlier = before.reshape(out.shape), lse.reshape(out.shape[:-1])
  out = merge(own, earlier).transpose(0, 3, 1, 2, 4)
  return out.reshape(B, T, N, H).astype(q_BTNH.dtype)


def merge(*parts: Part) -> jax.Array:
  """Attention over the keys of all parts, float32; one part must see a key."""
  top = functools.reduce(jnp.maximum, (lse for _, lse in parts))
  shares = [jnp.exp(lse - top) for _, lse in parts]
  total = sum(shares)
  return sum(
    out * (share / total)[..., None] for (out, _), share in zip(parts, shares)
  )
