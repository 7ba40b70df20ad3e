"""Paged decode attention on TPU: one Mosaic kernel for all slots of a layer.

Note that in the kernel no slot has a beginning or an end. The running softmax
of every row is in the kernel's output, which is set to "nothing seen" once. So
every block of every row runs the same branchless code, and page copies run
ahead of it across rows.

Dimensions: B slots, N query heads, K key/value heads, L layers, X pages of S
tokens, P pages per slot, H head size; M query heads of a key/value head, padded
to whole sublanes. A TPU core C owns the slots r * C + core, its R rows; it
processes a row in blocks of `pages` pages.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from acereason_jax.kernels.attention import MASKED

LANES, SUBLANES = 128, 8


def serves(pool_LXK2SH: jax.Array) -> bool:
  """Whether pages and heads fill lanes; XLA would copy the pool to pad them."""
  return not any(n % LANES for n in pool_LXK2SH.shape[4:])


def paged_attention(
  q_BNH: jax.Array,
  pool_LXK2SH: jax.Array,
  layer: jax.Array | int,
  table_BP: jax.Array,
  prefix_B: jax.Array,
  start_B: jax.Array,
  length_B: jax.Array,
  *,
  cores: int = 1,
  pages: int | None = None,
  buffers: int = 3,
  estimate_tokens: int | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """One query per slot over its pages: out [B, N, H], lse [B, N], float32.

  Slot b sees the positions before `length_B` that are before `prefix_B` or not
  before `start_B` (prefix <= start <= any); position p is entry p % S of page
  `table_BP[b, p // S]` of `layer`. Unseen positions may hold NaN. A slot that
  sees nothing gives out 0, lse MASKED. `lse` is the log of the sum of
  exp(score), scores scaled by H**-0.5, for merging with attention over other
  keys.

  Args:
    cores: TensorCores of a device, 2 on v4 and v5p; all are used if they divide
      B.
    pages: pages of a block; default 2048 tokens for one head, else 1024.
    buffers: blocks in VMEM; buffers - 1 of them are being copied.
    estimate_tokens: mean length, for XLA's cost analysis; default all P * S.
    interpret: as in pallas_call.

  Raises:
    ValueError: S or H is not a multiple of 128, outside of interpret mode. XLA
      would copy the whole pool to pad its H to the 128 lanes.
  """
  B, N, H = q_BNH.shape
  L, X, K, _, S, _ = pool_LXK2SH.shape
  if not serves(pool_LXK2SH) and not interpret:
    raise ValueError(f'TPU needs multiples of {LANES}: pages of {S}, heads {H}')
  P = table_BP.shape[1]
  pages = min(P, pages or max(1, (2048 if K == 1 else 1024) // S))
  cores = math.gcd(B, cores)
  M = pl.cdiv(N // K, SUBLANES) * SUBLANES
  # The loop over rows ends at an empty row, and reads whole blocks of a table.
  ends = [jnp.pad(x, (0, cores)) for x in (prefix_B, start_B, length_B)]
  table_BP = jnp.clip(table_BP, 0, X - 1)
  table_BP = jnp.pad(table_BP, ((0, cores), (0, -P % pages)))
  q_RCKMH = q_BNH.reshape(B // cores, cores, K, N // K, H)
  q_RCKMH = jnp.pad(q_RCKMH, [(0, 0)] * 3 + [(0, M - N // K), (0, 0)])
  acc, top, total = _call(
    q_RCKMH, pool_LXK2SH, pages, buffers, estimate_tokens or P * S, interpret
  )(
    jnp.asarray(layer, jnp.int32).reshape(1) * X,
    table_BP.ravel(),
    *ends,
    q_RCKMH,
    pool_LXK2SH.reshape(L * X, K, 2, S, H),
  )
  seen = top > MASKED
  out = jnp.where(seen, acc / total, 0)[..., : N // K, :]
  lse = jnp.where(seen, top + jnp.log(total), MASKED)[..., : N // K, 0]
  return out.reshape(B, N, H), lse.reshape(B, N)


def _call(q_RCKMH, pool_LXK2SH, pages, buffers, tokens, interpret):
  """The pallas_call, for arrays of these shapes."""
  R, C, K, M, H = q_RCKMH.shape
  S, dtype = pool_LXK2SH.shape[4], pool_LXK2SH.dtype
  queries, widths = R * C * K * M, (H, 1, 1)
  specs = [
    pl.BlockSpec((R, None, K, M, width), lambda core, *_: (0, core, 0, 0, 0))
    for width in widths
  ]
  shapes = [
    jax.ShapeDtypeStruct((R, C, K, M, width), jnp.float32) for width in widths
  ]
  block = pltpu.VMEM((buffers, pages, K, 2, S, H), dtype)
  block_bytes = math.prod(block.shape) * dtype.itemsize
  # q and three outputs, each padded to lanes and double buffered by Pallas.
  state_bytes = 2 * 4 * 4 * queries // C * pl.cdiv(H, LANES) * LANES
  return pl.pallas_call(
    _kernel,
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=5,
      grid=(C,),
      in_specs=[specs[0], pl.BlockSpec(memory_space=pl.ANY)],
      out_specs=specs,
      scratch_shapes=[
        block,
        pltpu.SMEM((R + 2,), jnp.int32),
        pltpu.SemaphoreType.DMA((buffers,)),
      ],
    ),
    out_shape=shapes,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel',),
      # Page numbers are clipped already.
      disable_bounds_checks=True,
      vmem_limit_bytes=block_bytes + state_bytes + 4 * 2**20,
    ),
    cost_estimate=pl.CostEstimate(
      flops=4 * queries * H * tokens,
      transcendentals=queries * tokens,
      bytes_accessed=R * C * tokens * K * 2 * H * dtype.itemsize
      + queries * (H * q_RCKMH.dtype.itemsize + 4 * sum(widths)),
    ),
    interpret=interpret,
    name='paged_attention',
  )


def _kernel(
  first_page_ref,
  table_ref,
  prefix_ref,
  start_ref,
  length_ref,
  q_ref,
  pool_ref,
  acc_ref,
  top_ref,
  total_ref,
  block_ref,
  chain_ref,
  semaphores,
):
  """All rows of a core; see the module's docstring."""
  R, K = q_ref.shape[:2]
  buffers, pages, _, _, S, H = block_ref.shape
  size, first_page = pages * S, first_page_ref[0]
  core, cores = pl.program_id(0), length_ref.shape[0] // (R + 1)
  stride = table_ref.shape[0] // length_ref.shape[0]

  def left(row, block):
    return length_ref[row * cores + core] - block * size

  def advance(row, block):
    done = left(row, block) <= size
    return (
      jnp.where(done, chain_ref[row + 1], row),
      jnp.where(done, 0, block + 1),
    )

  def copy(page, buffer, i):
    return pltpu.make_async_copy(
      pool_ref.at[page], block_ref.at[buffer, i], semaphores.at[buffer]
    )

  def fetch(row, block, buffer):
    tokens = left(row, block)
    entry = (row * cores + core) * stride + block * pages
    for i in range(pages):
      page = first_page + table_ref[entry + i]
      pl.when(i * S < tokens)(copy(page, buffer, i).start)

  def step(state):
    row, block, next_row, next_block, buffer = state
    slot, low = row * cores + core, block * size
    prefix, start = prefix_ref[slot], start_ref[slot]
    length = length_ref[slot]
    hole = (prefix < start) & (prefix < low + size) & (start > low)
    whole = (length >= low + size) & jnp.logical_not(hole)

    def visible(shape, axis, first):
      position = first + lax.broadcasted_iota(jnp.int32, shape, axis)
      return (position < length) & ((position < prefix) | (position >= start))

    def clear(page, _):
      # A weight of zero does not hide a value that is NaN.
      seen_SH = visible((S, H), 0, low + page * S)
      for k in range(K):
        v_SH = block_ref[buffer, page, k, 1].astype(jnp.float32)
        v_SH = jnp.where(seen_SH, v_SH, 0).astype(block_ref.dtype)
        block_ref[buffer, page, k, 1] = v_SH

    def clear_between(first, last):
      first, last = lax.div(first, S), lax.div(last + S - 1, S)
      first, last = (x - block * pages for x in (first, last))
      lax.fori_loop(
        jnp.maximum(first, 0), jnp.minimum(last, pages), clear, None
      )

    @pl.when(whole)
    def _():
      all_pages = block_ref.at[buffer]
      pltpu.make_async_copy(all_pages, all_pages, semaphores.at[buffer]).wait()

    @pl.when(jnp.logical_not(whole))
    def _():
      for i in range(pages):
        pl.when(i * S < length - low)(copy(0, buffer, i).wait)
      clear_between(prefix, jnp.minimum(start, length))
      clear_between(length, low + size)

    seen_1T = visible((1, size), 1, low)
    for k in range(K):
      keys, values = (
        block_ref[buffer, :, k, i].reshape(size, H).astype(q_ref.dtype)
        for i in range(2)
      )
      state_refs = (ref.at[row, k] for ref in (acc_ref, top_ref, total_ref))
      _attend(q_ref[row, k], keys, values, seen_1T, *state_refs)
    # This comes last, since no load of this block may move before a copy that
    # might overlap it.
    fetch(next_row, next_block, jnp.where(buffer == 0, buffers, buffer) - 1)
    buffer = jnp.where(buffer == buffers - 1, 0, buffer + 1)
    return *advance(row, block), *advance(next_row, next_block), buffer

  acc_ref[...] = jnp.zeros_like(acc_ref)
  top_ref[...] = jnp.full_like(top_ref, MASKED)
  total_ref[...] = jnp.zeros_like(total_ref)
  _link_rows(length_ref, chain_ref, core, cores)
  here = ahead = chain_ref[0], 0
  for buffer in range(buffers - 1):
    fetch(*ahead, buffer)
    ahead = advance(*ahead)
  lax.while_loop(lambda state: state[0] < R, step, (*here, *ahead, 0))


def _link_rows(length_ref, chain_ref, core, cores):
  """Sets chain[r + 1] to the first used row after r; R if there is none."""
  R = chain_ref.shape[0] - 2

  def link(i, following):
    row = R - i
    chain_ref[row + 1] = following
    return jnp.where(length_ref[row * cores + core] > 0, row, following)

  chain_ref[0] = lax.fori_loop(0, R + 1, link, R)


def _attend(q_MH, k_TH, v_TH, seen_1T, acc_ref, top_ref, total_ref):
  """Adds keys and values to a running softmax (arXiv 2205.14135)."""
  dot = functools.partial(
    lax.dot_general,
    preferred_element_type=jnp.float32,
    precision='highest' if q_MH.dtype == jnp.float32 else None,
  )
  score_MT = dot(q_MH, k_TH, (((1,), (1,)), ((), ())))
  score_MT = jnp.where(seen_1T, score_MT * q_MH.shape[1] ** -0.5, MASKED)
  old_M1 = top_ref[...]
  top_M1 = jnp.maximum(old_M1, jnp.max(score_MT, axis=1, keepdims=True))
  p_MT = jnp.exp(score_MT - top_M1)
  fade_M1 = jnp.exp(old_M1 - top_M1)
  sum_M1 = jnp.sum(p_MT, axis=1, keepdims=True)
  add_MH = dot(p_MT.astype(v_TH.dtype), v_TH, (((1,), (0,)), ((), ())))
  top_ref[...] = top_M1
  total_ref[...] = total_ref[...] * fade_M1 + sum_M1
  acc_ref[...] = acc_ref[...] * fade_M1 + add_MH
