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
  attend_drafts, put_drafts: the same for B rows of which each W may hold a
    token of one rollout and its drafts, see `Rows`, which they take in place of
    i. A row attends the very arrays that it would attend by itself.
  whole: (staged) -> one array, [L, B, K, 2, T, H].
  """

  empty: Callable[..., Any]
  attend: Callable[..., tuple[paged_attention.Part, Any]]
  put: Callable[..., Any]
  attend_drafts: Callable[..., tuple[paged_attention.Part, Any]]
  put_drafts: Callable[..., Any]
  whole: Callable[[Any], jax.Array]


class Rows(NamedTuple):
  """The rows of a step.

  width: W; B rows are groups of W.
  shared: scalar; whether a group holds W tokens of one rollout, in order, or W
    rollouts.
  count_B: tokens staged of each row's rollout before the step.
  """

  width: int
  shared: jax.Array
  count_B: jax.Array

  @property
  def place_B(self) -> jax.Array:
    """Number of tokens staged before each row's own."""
    (B,) = self.count_B.shape
    return self.count_B + self.shared * (jnp.arange(B) % self.width)

  def of(self, i: int, x: jax.Array) -> jax.Array:
    """For each row of x [B, ...] row i of its group; not shared, it itself."""
    x_RW = x.reshape(-1, self.width, *x.shape[1:])
    there = jnp.broadcast_to(x_RW[:, i : i + 1], x_RW.shape).reshape(x.shape)
    return jnp.where(self.shared, there, x)


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


def _put_apart(staged, puts, kv, i):
  return tuple(puts)


def _whole(staged):
  return jnp.stack([jnp.stack(kv, axis=2) for kv in staged])


def _attend_drafts(staged_LBKCTH, layer, q_BNH, k_BKH, v_BKH, rows):
  kv_BKCH = jnp.stack([k_BKH, v_BKH], axis=-2)
  staged_BKCTH = _insert(staged_LBKCTH[layer], kv_BKCH, rows)
  staged_BKCTH = _first(staged_BKCTH, rows.place_B)
  count_B111 = rows.place_B[:, None, None, None]
  own = paged_attention.own_attention(
    q_BNH, k_BKH, v_BKH, staged_BKCTH, count_B111
  )
  return own, None


def _put_drafts(staged_LBKCTH, puts, kv, rows):
  insert = jax.vmap(lambda old, new: _insert(old, new, rows))
  return insert(staged_LBKCTH, jnp.stack(kv, axis=-2))


def _attend_drafts_apart(staged, layer, q_BNH, k_BKH, v_BKH, rows):
  def insert(old, new):
    arguments = old, new, rows.shared, rows.count_B
    form = lambda insert: (
      lambda old, new, *x: insert(old, new, Rows(rows.width, *x))
    )
    return jax.lax.platform_dependent(
      *arguments, cpu=form(_insert_in_place), default=form(_insert)
    )

  k_BKTH, v_BKTH = map(insert, staged[layer], (k_BKH, v_BKH))
  count_B = rows.place_B + 1
  count_B111 = count_B[:, None, None, None]
  own = paged_attention.staged_attention(
    q_BNH, k_BKTH, _first(v_BKTH, count_B), count_B111
  )
  return own, (k_BKTH, v_BKTH)


def _insert(old: jax.Array, new: jax.Array, rows: Rows) -> jax.Array:
  """`old` [B, ..., T, H] with the tokens `new` [B, ..., H] of each row's group.

  Those past the room are dropped.
  """
  place = jnp.arange(old.shape[-2]) - rows.count_B[:, None]
  place = _over_tokens(place, old)
  for i in range(rows.width):
    here = place == i if i == 0 else (place == i) & rows.shared
    old = jnp.where(here, rows.of(i, new)[..., None, :], old)
  return old


def _insert_in_place(old: jax.Array, new: jax.Array, rows: Rows) -> jax.Array:
  """`_insert` row by row.

  XLA for CPUs would compute what is inserted again for each place.
  """
  B, T, W = len(old), old.shape[-2], rows.width
  room = (1, *old.shape[1:-2], W, old.shape[-1])

  def one(b, old):
    first = jnp.minimum(rows.count_B[b], T - W)
    at = (b, *[0] * (old.ndim - 3), first, 0)
    place_W = first + jnp.arange(W) - rows.count_B[b]
    from_W = jnp.where(rows.shared, b // W * W + jnp.maximum(place_W, 0), b)
    mine = jnp.moveaxis(jnp.take(new, from_W, axis=0, mode='clip'), 0, -2)
    fresh_W = (place_W >= 0) & (rows.shared | (place_W == 0))
    window = jax.lax.dynamic_slice(old, at, room)
    window = jnp.where(fresh_W[:, None], mine, window)
    return jax.lax.dynamic_update_slice(old, window, at)

  return jax.lax.fori_loop(0, B, one, old)


def _first(staged: jax.Array, count_B: jax.Array) -> jax.Array:
  """The first `count` tokens of each row; zeros behind them, as before a put.

  So drafts that were wrong have no effect, even if they gave NaN.
  """
  seen_BT = jnp.arange(staged.shape[-2]) < count_B[:, None]
  return jnp.where(_over_tokens(seen_BT, staged), staged, 0)


def _over_tokens(x_BT: jax.Array, like: jax.Array) -> jax.Array:
  """`x` with the dimensions of `like`, [B, ..., T, H]."""
  B, T = x_BT.shape
  return x_BT.reshape(B, *[1] * (like.ndim - 3), T, 1)


STACKED = Staging(
  jnp.zeros, _attend, _put, _attend_drafts, _put_drafts, lambda staged: staged
)
APART = Staging(
  _apart, _attend_apart, _put_apart, _attend_drafts_apart, _put_apart, _whole
)
