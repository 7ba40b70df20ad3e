"""The keys and values of a chunk's own tokens, before they are in the pool.

They are one array where layers are scanned. Layers that are apart have arrays
of their own: XLA for CPUs copies whatever it slices, and whatever it reads
before it writes to it, and XLA for GPUs slices of arrays in loops.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax.kernels import paged_attention
from acereason_jax.models import base


class Staging(NamedTuple):
  """Functions of what is staged.

  empty: (shape, dtype) -> staged; the shape is L, B, K, 2, T, H.
  attend: (staged, layer, q_BNH, k_BKH, v_BKH, i) -> (part, put): attention of
    step i over the i tokens before it and itself, and what `put` needs.
  put: (staged, puts, kv, i) -> staged, with the tokens of step i. The puts are
    those of `attend`, kv is what `base.Model.extend` returned.
  whole: (staged) -> one array, [L, B, K, 2, T, H].
  """

  empty: Callable[..., Any]
  attend: Callable[..., tuple[paged_attention.Part, Any]]
  put: Callable[..., Any]
  whole: Callable[[Any], jax.Array]


def choose(params: base.Tree) -> Staging:
  return APART if base.are_apart(params) else STACKED


def _attend(staged_LBKCTH, layer, q_BNH, k_BKH, v_BKH, i):
  staged_BKCTH = staged_LBKCTH[layer]
  own = paged_attention.own_attention(q_BNH, k_BKH, v_BKH, staged_BKCTH, i)
  return own, None


def _put(staged_LBKCTH, puts, kv, i):
  kv_LBKC1H = jnp.stack(kv, axis=-2)[:, :, :, :, None]
  return _update(staged_LBKCTH, kv_LBKC1H, i, 4)


def _update(old: jax.Array, new: jax.Array, i: jax.Array, axis: int):
  return jax.lax.dynamic_update_slice_in_dim(old, new, i, axis)


def _apart(shape: Sequence[int], dtype: jnp.dtype):
  L, B, K, C, T, H = shape
  return ((jnp.zeros((B, K, T, H), dtype),) * C,) * L


def _attend_apart(staged, layer, q_BNH, k_BKH, v_BKH, i):
  k_BKTH, v_BKTH = (
    _update(old, new[:, :, None], i, 2)
    for old, new in zip(staged[layer], (k_BKH, v_BKH))
  )
  own = paged_attention.staged_attention(q_BNH, k_BKTH, v_BKTH, i + 1)
  return own, (k_BKTH, v_BKTH)


def _whole(staged):
  return jnp.stack([jnp.stack(kv, axis=2) for kv in staged])


STACKED = Staging(jnp.zeros, _attend, _put, lambda staged: staged)
APART = Staging(
  _apart, _attend_apart, lambda staged, puts, kv, i: tuple(puts), _whole
)
