"""Attention over packed rows on TPU, with splash kernels of jax or tokamax.

jax's kernels have no cost estimates and no way to set one, so XLA's cost
analysis counts none of their FLOPs. They skip blocks that causality hides; they
compute and mask blocks of two segments that do not meet. Their backward pass is
two kernels, which both compute the scores.

tokamax's kernels skip blocks of two segments that do not meet too, and have one
kernel for the backward pass. Its modules are not public. Only this file uses
them, and `pinned` has the version.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas

from acereason_jax.kernels import pinned

# Blocks of 2048 tokens exceed the default VMEM of v5e and v5p, and blocks of
# 1024 spill registers on v6e (static schedules); 512 compiles on all.
BLOCK = 512
# Tokens of a block that tokamax's kernels hold in memory. Each block of queries
# reads all keys that it sees; in the backward pass each block of keys reads all
# queries and their gradients. With 512 tokens, v6e would wait for those reads.
HELD = 1024
LANES = 128
SUBLANES = 8
LOG2E = float(np.log2(np.e))


def splash(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  *,
  saved: str,
  interpret: bool = False,
) -> jax.Array:
  """jax's: causal attention within segments, [B, T, N, H]; 0 for segment 0.

  `saved` names what the backward pass needs, for remat policies. T and H are
  filled up to whole blocks and lanes.
  """
  T, N, H = q_BTNH.shape[1:]
  block = min(BLOCK, _up(T, LANES))
  length = _up(T, block)
  arrays = (_heads_first(x, length) for x in (q_BTNH * H**-0.5, k_BTKH, v_BTKH))
  id_BT = jnp.pad(segment_BT, ((0, 0), (0, length - T)))
  kernel = _kernel(length, N, block, saved, interpret)
  ids = pinned.module(pinned.SPLASH).SegmentIds(id_BT, id_BT)
  out_BNTH = jax.vmap(kernel)(*arrays, ids)
  return _cleared(out_BNTH, segment_BT, H)


def splash_lacks() -> str:
  """The missing requirement of `splash`; '' if it can run."""
  return pinned.lacks(pinned.SPLASH)


def _heads_first(x_BTNH, length: int):
  """[B, N, T, H], with T padded to `length` and H to whole lanes."""
  T, H = x_BTNH.shape[1], x_BTNH.shape[3]
  pad = (0, 0), (0, length - T), (0, 0), (0, _up(H, LANES) - H)
  return jnp.pad(x_BTNH, pad).swapaxes(1, 2)


def _cleared(out_BNTH, segment_BT, H: int):
  """[B, T, N, H] without the fill, and 0 for padding."""
  out_BTNH = out_BNTH.swapaxes(1, 2)[:, : segment_BT.shape[1], :, :H]
  return jnp.where((segment_BT > 0)[..., None, None], out_BTNH, 0)


def _up(n: int, multiple: int) -> int:
  return -(-n // multiple) * multiple


@functools.cache
def _kernel(T: int, heads: int, block: int, saved: str, interpret: bool):
  """Made once per shape: processing the mask takes seconds at 40K tokens.

  The backward pass is two kernels. The fused one would keep a dq for each block
  of keys, 15 to 22 GB at 32K tokens of a 7B or 14B model.
  """
  splash_attention = pinned.module(pinned.SPLASH)
  mask = splash_attention.MultiHeadMask(
    [splash_attention.CausalMask((T, T)) for _ in range(heads)]
  )
  # It may be called during a trace, and its arrays must outlive the trace.
  with jax.ensure_compile_time_eval():
    kernel = splash_attention.make_splash_mha(
      mask,
      head_shards=1,
      q_seq_shards=1,
      block_sizes=splash_attention.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
      ),
      residual_checkpoint_name=saved,
      interpret=interpret,
    )
    return jax.tree.map(np.asarray, kernel)


def fused_lacks() -> str:
  """The missing requirement of `fused_splash`; '' if it can run."""
  if not pinned.NEW:
    return 'Python 3.12 or newer'
  if not pinned.has_tokamax():
    return f"`pip install '{pinned.TOKAMAX}'`"
  return pinned.lacks(pinned.FUSED_SPLASH)


def fused_splash(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  start_BT: jax.Array,
  *,
  saved: str,
  interpret: bool = False,
) -> jax.Array:
  """tokamax's: causal attention from `start` on, [B, T, N, H]; 0 in segment 0.

  `start_BT` is the column where a token's segment begins. `saved` names the
  values that the backward pass needs, for remat policies. T and H are padded to
  whole blocks and lanes. In bfloat16, dq is summed over blocks of keys in
  bfloat16.
  """
  T, N, H = q_BTNH.shape[1:]
  block, held = _blocks(T)
  length = _up(T, held)
  # The kernel's exponentials have base 2. One scaling rounds only once.
  q_BTNH = q_BTNH * (H**-0.5 * LOG2E)
  arrays = [_heads_first(x, length) for x in (q_BTNH, k_BTKH, v_BTKH)]
  # The kernel prunes by ranges of ids, so ids must not decrease, wherever the
  # padding is. The fill is a segment of its own.
  pad = (0, 0), (0, length - T)
  id_BT = jnp.pad(start_BT, pad, constant_values=T)
  kernel = _fused_kernel(
    length, N, block, held, arrays[0].dtype.itemsize, saved, interpret
  )
  ids = _tokamax_splash().SegmentIds(id_BT, id_BT)
  return _cleared(jax.vmap(kernel)(*arrays, ids), segment_BT, H)


def _blocks(T: int) -> tuple[int, int]:
  """(tokens that are multiplied at once, tokens that are held in memory)."""
  block = min(BLOCK, _up(T, LANES))
  return block, min(HELD, _up(T, block))


def _tokamax_splash() -> types.ModuleType:
  return pinned.module(pinned.FUSED_SPLASH)


def fused_costs(
  T: int, heads: int, block: int, held: int, itemsize: int
) -> tuple[pallas.CostEstimate, pallas.CostEstimate]:
  """The costs of the forward and the backward kernel, for a row of one segment.

  They count the tiles that causality leaves, diagonal tiles whole. Each tile
  reads again the arrays that are not held. The kernels' own estimates count all
  tiles.
  """
  blocks, parts = T // held, held // block
  # Held block i meets parts * (i + 1) others, in either pass.
  tiles = heads * parts * blocks * (blocks + 1) // 2
  scores = tiles * block * held
  token, column = LANES * itemsize, 4 * LANES
  make = lambda products, moved: pallas.CostEstimate(
    flops=2 * products * scores * LANES,
    transcendentals=scores,
    bytes_accessed=moved,
  )
  return (
    # Keys and values; queries, outputs and two float32 columns, a lane wide.
    make(2, tiles * block * 2 * token + heads * T * (2 * token + 2 * column)),
    # Queries, their gradients, dq in and out, two rows a sublane wide; keys,
    # values, and their float32 gradients in and out.
    make(
      5,
      tiles * block * (4 * token + 2 * 4 * SUBLANES)
      + heads * T * (2 * token + 4 * column),
    ),
  )


@functools.cache
def _fused_kernel(
  T: int,
  heads: int,
  block: int,
  held: int,
  itemsize: int,
  saved: str,
  interpret: bool,
):
  """Made once per shape, as `_kernel`."""
  module = _tokamax_splash()
  forward, backward = fused_costs(T, heads, block, held, itemsize)
  config = module.SplashConfig(
    block_q=held,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=held,
    block_kv_dkv_compute=block,
    q_prescaled_log2e=True,
    fwd_cost_estimate=forward,
    bwd_cost_estimate=backward,
    # dq is summed in three parts, not in one part per block of keys.
    dq_reduction_steps=3,
    residual_checkpoint_name=saved,
    interpret=interpret,
  )
  with jax.ensure_compile_time_eval():
    mask = module.mask_lib.CausalMask((T, T))
    kernel = module.make_splash_mha(mask, config=config, q_seq_shards=1)
    return jax.tree.map(np.asarray, kernel)
