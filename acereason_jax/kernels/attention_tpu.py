"""Attention over packed rows on TPU: jax's splash kernels, forward and back.

They have no cost estimates and no way to give one: XLA's cost analysis counts
none of their FLOPs. Blocks that causality hides are skipped; blocks of two
segments that do not meet are computed and masked.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention

# Two thousand run out of the default VMEM of v5e and v5p, and a thousand spill
# registers on v6e (static schedules); 512 compiles on all.
BLOCK = 512
LANES = 128


def splash(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  *,
  saved: str,
  interpret: bool = False,
) -> jax.Array:
  """Causal attention within segments, [B, T, N, H]; 0 for segment 0.

  `saved` names what the backward pass needs, for remat policies. T and H are
  filled up to whole blocks and lanes.
  """
  T, N, H = q_BTNH.shape[1:]
  block = min(BLOCK, _up(T, LANES))
  extra = _up(T, block) - T
  pad = (0, 0), (0, extra), (0, 0), (0, _up(H, LANES) - H)
  arrays = q_BTNH * H**-0.5, k_BTKH, v_BTKH
  arrays = (jnp.pad(x, pad).swapaxes(1, 2) for x in arrays)
  id_BT = jnp.pad(segment_BT, pad[:2])
  kernel = _kernel(T + extra, N, block, saved, interpret)
  out_BNTH = jax.vmap(kernel)(
    *arrays, splash_attention.SegmentIds(id_BT, id_BT)
  )
  out_BTNH = out_BNTH.swapaxes(1, 2)[:, :T, :, :H]
  return jnp.where((segment_BT > 0)[..., None, None], out_BTNH, 0)


def _up(n: int, multiple: int) -> int:
  return -(-n // multiple) * multiple


@functools.cache
def _kernel(T: int, heads: int, block: int, saved: str, interpret: bool):
  """Made once a shape: looking through the mask takes seconds at 40K tokens.

  The backward pass is two kernels. The fused one keeps a dq of each block of
  keys, 15 to 22 GB at 32K tokens of a 7B or 14B model.
  """
  mask = splash_attention.MultiHeadMask(
    [splash_attention.CausalMask((T, T)) for _ in range(heads)]
  )
  # It may be called while something is traced, and must outlive that.
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
