"""Attention over packed rows on NVIDIA GPUs, with tokamax's or jax's kernels.

tokamax's kernels (Mosaic GPU; for Hopper and Blackwell, bfloat16 or float16)
are in modules that are not public. Only this file uses them; `pinned` has the
version.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from acereason_jax.kernels import pinned

# Data-center Hopper and Blackwell.
CAPABILITIES = ('9.0', '10.0')
# Queries of two warp groups: T is filled up to a multiple, so that no kernel
# reads past the end of a row.
BLOCK = 128


def mosaic_lacks(capability: str, dtype: str) -> str:
  """The missing requirement of `mosaic`; '' if it can run."""
  if not pinned.has_tokamax():
    return f"`pip install '{pinned.TOKAMAX}'`"
  if capability not in CAPABILITIES:
    return f'a GPU of compute capability {" or ".join(CAPABILITIES)}'
  return pinned.lacks(*pinned.MOSAIC) if dtype == 'bfloat16' else 'bfloat16'


def triton_lacks() -> str:
  """The missing requirement of `triton`; '' if it can run."""
  return pinned.lacks(pinned.TRITON)


def _operations(start_BT: jax.Array):
  """tokamax's forward and backward operation, and the mask for both."""
  base, forward, backward = map(pinned.module, pinned.MOSAIC)
  return (
    forward.PallasMosaicGpuFlashAttention(),
    backward.PallasMosaicGpuFlashAttentionVjp(),
    base.Mask(is_causal=True, k_start=start_BT[:, None]),
  )


def mosaic(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  start_BT: jax.Array,
  *,
  saved: str,
) -> jax.Array:
  """Causal attention from `start` on, [B, T, N, H]; 0 for segment 0.

  `saved` names the values that the backward pass needs, for remat policies.
  """
  # Only fill sees fill, because the mask is causal.
  arrays = (_fill(x) for x in (q_BTNH, k_BTKH, v_BTKH, start_BT))
  return _clear(_mosaic(saved, *arrays), segment_BT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mosaic(saved, q_BTNH, k_BTKH, v_BTKH, start_BT):
  return _mosaic_forward(saved, q_BTNH, k_BTKH, v_BTKH, start_BT)[0]


def _mosaic_forward(saved, q_BTNH, k_BTKH, v_BTKH, start_BT):
  arrays = q_BTNH, k_BTKH, v_BTKH
  forward, _, mask = _operations(start_BT)
  # Its own derivative would not name the values that it saves.
  out_and_sums = forward(*arrays, mask=mask, return_residuals=True)
  named = functools.partial(checkpoint_name, name=saved)
  out_BTNH, sums = jax.tree.map(named, out_and_sums)
  return out_BTNH, (sums, out_BTNH, arrays, start_BT)


def _mosaic_backward(saved, residual, dout_BTNH):
  sums, out_BTNH, arrays, start_BT = residual
  forward, backward, mask = _operations(start_BT)
  # It has no defaults of its own.
  options = dict(forward.bind(*arrays, mask=mask).kwargs)
  del options['return_residuals']
  grads = backward(sums, out_BTNH, dout_BTNH, *arrays, **options)
  return *(grads[name] for name in 'qkv'), None


_mosaic.defvjp(_mosaic_forward, _mosaic_backward)


def triton(
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  segment_BT: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Causal attention within segments, [B, T, N, H]; 0 for segment 0.

  This is the fallback. It repeats keys and values for each query head, computes
  blocks of two segments that do not meet, and names nothing for remat policies,
  so its forward pass runs twice.
  """
  N, H = q_BTNH.shape[2:]
  k_BTNH, v_BTNH = (
    jnp.repeat(x, N // x.shape[2], axis=2) for x in (k_BTKH, v_BTKH)
  )
  out_BTNH = pinned.module(pinned.TRITON).mha(
    *(_fill(x) for x in (q_BTNH, k_BTNH, v_BTNH)),
    _fill(segment_BT),
    sm_scale=H**-0.5,
    causal=True,
    interpret=interpret,
  )
  return _clear(out_BTNH, segment_BT)


def _fill(x_BT):
  """Pads T with zeros to a multiple of BLOCK."""
  pad = [(0, 0)] * x_BT.ndim
  pad[1] = 0, -x_BT.shape[1] % BLOCK
  return jnp.pad(x_BT, pad)


def _clear(out_BTNH, segment_BT):
  """Removes the fill and sets padding to 0."""
  out_BTNH = out_BTNH[:, : segment_BT.shape[1]]
  return jnp.where((segment_BT > 0)[..., None, None], out_BTNH, 0)
