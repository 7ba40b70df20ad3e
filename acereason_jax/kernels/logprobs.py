"""Log-probabilities of given tokens, without a [B, T, V] array.

Forward and backward walk the vocabulary in chunks, all tokens of a device at
once; the backward pass computes the logits again. Each chunk completes its rows
of the head's gradient: on a mesh they are summed and sharded at once, so
neither the head nor its gradient is ever whole on a device.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition

ROWS = PartitionSpec(mesh_lib.PACKED, 'sequence')
ONE = PartitionSpec()
# Finite: its product with a sum of 0 must be 0.
LOWEST = float(jnp.finfo(jnp.float32).min)


class _Sums(NamedTuple):
  """Sums over the logits z seen so far; float32 [B, T] each.

  top: max z.
  total: sum of exp(z - top).
  moment: sum of exp(z - top) * (z - top).
  chosen: z of the target, or 0 if it has not been seen.
  """

  top: jax.Array
  total: jax.Array
  moment: jax.Array
  chosen: jax.Array


class _Axes(NamedTuple):
  """Mesh axes of more than one device over which arrays are sharded.

  rows: axes for the rows of x.
  vocab: axes for the rows of w.
  embed: axes for the columns of w.
  """

  rows: tuple[str, ...] = ()
  vocab: tuple[str, ...] = ()
  embed: tuple[str, ...] = ()


def token_logp(
  x_BTD: jax.Array,
  w_VD: jax.Array,
  target_BT: jax.Array,
  temperature: jax.Array,
  chunk: int,
  placed: NamedSharding | None = None,
  entropy_gradient: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """(logp_BT, entropy_BT) of softmax(x @ w.T / temperature).

  Both are float32, natural log; logp is that of the target. `temperature` is a
  float32 scalar above 0, which may be traced and has no gradient. Without
  `entropy_gradient` the entropy is a metric: no gradient flows through it, and
  nothing is kept or computed for one. w is read `chunk` rows at a time and cast
  to x's dtype. Products accumulate in float32, and the gradient of w has w's
  dtype.

  `placed` is the sharding of w (`sharding.param_shardings`), None for one
  device. x is sharded as `mesh_lib.packed`, whose axes must divide B and T. In
  each pass a device gathers V / tensor rows of w, and their gradient is summed
  over the batch axes once. If 'tensor' does not divide V, its devices repeat
  the same work.

  Temporaries of a device, in bytes, with N = B T / (data fsdp sequence) tokens,
  C = chunk, and b the bytes of x's dtype, are at most

    forward   (4 + b) (N C + C D) + b N D
    backward  (4 + b) (N C + N D) + (8 + b) C D

  in addition to arguments and results. w and its gradient are V D / (tensor
  fsdp) numbers each. b N D is x in another layout, which TPUs may need. GPUs
  hold the sum of x's gradient twice, 4 N D bytes more.
  """
  temperature = jnp.float32(temperature)
  static = chunk, placed, entropy_gradient
  return _token_logp(x_BTD, w_VD, target_BT, temperature, *static)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _token_logp(x_BTD, w_VD, target_BT, temperature, *static):
  return _forward(x_BTD, w_VD, target_BT, temperature, *static)[0]


def _forward(
  x_BTD, w_VD, target_BT, temperature, chunk, placed, entropy_gradient
):
  run = functools.partial(_local_forward, chunk)
  run = _on_mesh(run, placed, lambda w: ((ROWS, w, ROWS, ONE), (ROWS,) * 3))
  arrays = x_BTD, w_VD, target_BT, temperature
  logp_BT, entropy_BT, norm_BT = run(*arrays)
  kept_BT = entropy_BT if entropy_gradient else None
  return (logp_BT, entropy_BT), (*arrays, norm_BT, kept_BT)


def _backward(chunk, placed, entropy_gradient, residual, grads):
  run = functools.partial(_local_backward, chunk)
  specs = lambda w: ((ROWS, w, ROWS, ONE, *(ROWS,) * 4), (ROWS, w))
  grad_BT, slope_BT = grads if entropy_gradient else (grads[0], None)
  run = _on_mesh(run, placed, specs)
  dx_BTD, dw_VD = run(*residual, grad_BT, slope_BT)
  return dx_BTD, dw_VD, None, None


_token_logp.defvjp(_forward, _backward)


def _on_mesh(
  run: Callable,
  placed: NamedSharding | None,
  specs: Callable[[PartitionSpec], tuple[Any, Any]],
) -> Callable:
  """run(axes, ...) for whole arrays; `specs` gives run's specs, in and out."""
  if placed is None or placed.mesh.size == 1:
    return functools.partial(run, _Axes())
  mesh = placed.mesh
  vocab, embed = (*placed.spec, None, None)[:2]
  taken = partition.taken(mesh)
  wide = lambda names: tuple(
    a for a in names if mesh.shape[a] > 1 and a not in taken
  )
  axes = _Axes(*map(wide, (mesh_lib.BATCH, _names(vocab), _names(embed))))
  ins, outs = specs(placed.spec)
  return partition.map_shards(functools.partial(run, axes), mesh, ins, outs)


def _names(place: str | tuple[str, ...] | None) -> tuple[str, ...]:
  """The mesh axes of a dimension, however a PartitionSpec spells them."""
  return (place,) if isinstance(place, str) else place or ()


def _for_chunks(body: Callable, V: int, chunk: int, state: Any) -> Any:
  """body(start, size, state) over [0, V).

  The odd chunk comes first: after the loop, the state it adds to would be held
  twice.
  """
  chunk = min(chunk, V)
  odd = V % chunk
  if odd:
    state = body(0, odd, state)
  step = lambda i, state: body(odd + i * chunk, chunk, state)
  return jax.lax.fori_loop(0, V // chunk, step, state)


def _local_forward(chunk, axes, x_BTD, w_VD, target_BT, temperature):
  """(logp, entropy, log of the sum of exp(logits)), each [B, T]."""
  V = w_VD.shape[0]
  row_BT = _row_of(target_BT, V, axes)

  def body(start, size, sums):
    w_CD = _gathered(w_VD, start, size, x_BTD.dtype, axes)
    logits_BTC = _logits(x_BTD, w_CD, temperature)
    sums = _rescaled(sums, jnp.maximum(sums.top, logits_BTC.max(-1)))
    gap_BTC = logits_BTC - sums.top[..., None]
    exp_BTC = jnp.exp(gap_BTC)
    hit_BTC = _is_target(row_BT, start, size)
    return _Sums(
      sums.top,
      sums.total + exp_BTC.sum(-1),
      sums.moment + (exp_BTC * gap_BTC).sum(-1),
      sums.chosen + jnp.where(hit_BTC, logits_BTC, 0.0).sum(-1),
    )

  zero_BT = jnp.zeros(target_BT.shape, jnp.float32)
  sums = _Sums(jnp.full_like(zero_BT, LOWEST), zero_BT, zero_BT, zero_BT)
  sums = _for_chunks(body, V, chunk, sums)
  if axes.vocab:
    sums = _rescaled(sums, jax.lax.pmax(sums.top, axes.vocab))
    sums = _Sums(sums.top, *jax.lax.psum(sums[1:], axes.vocab))
  # With z - top instead of z no large numbers cancel.
  log_BT = jnp.log(sums.total)
  entropy_BT = log_BT - sums.moment / sums.total
  norm_BT = sums.top + log_BT
  return sums.chosen - norm_BT, entropy_BT, norm_BT


def _local_backward(
  chunk,
  axes,
  x_BTD,
  w_VD,
  target_BT,
  temperature,
  norm_BT,
  entropy_BT,
  grad_BT,
  slope_BT,
):
  """The gradients of x and w, from those of logp and of the entropy.

  The latter may be None.
  """
  V = w_VD.shape[0]
  row_BT = _row_of(target_BT, V, axes)
  inverse = 1.0 / temperature

  def body(start, size, state):
    dx_BTD, dw_VD = state
    w_CD = _gathered(w_VD, start, size, x_BTD.dtype, axes)
    logp_BTC = _logits(x_BTD, w_CD, temperature) - norm_BT[..., None]
    probs_BTC = jnp.exp(logp_BTC)
    hit_BTC = _is_target(row_BT, start, size)
    dlogits_BTC = (grad_BT * inverse)[..., None] * (hit_BTC - probs_BTC)
    if slope_BT is not None:
      # d entropy / d logits = -p (log p + entropy).
      gap_BTC = logp_BTC + entropy_BT[..., None]
      dlogits_BTC -= (slope_BT * inverse)[..., None] * probs_BTC * gap_BTC
    dlogits_BTC = dlogits_BTC.astype(x_BTD.dtype)
    dw_CD = jnp.einsum(
      'BTC,BTD->CD', dlogits_BTC, x_BTD, preferred_element_type=jnp.float32
    )
    dw_CD = _scattered(dw_CD, axes).astype(dw_VD.dtype)
    dw_VD = jax.lax.dynamic_update_slice_in_dim(dw_VD, dw_CD, start, 0)
    dx_BTD += jnp.einsum(
      'BTC,CD->BTD', dlogits_BTC, w_CD, preferred_element_type=jnp.float32
    )
    return dx_BTD, dw_VD

  state = jnp.zeros(x_BTD.shape, jnp.float32), jnp.zeros_like(w_VD)
  dx_BTD, dw_VD = _for_chunks(body, V, chunk, state)
  if axes.vocab:
    dx_BTD = jax.lax.psum(dx_BTD, axes.vocab)
  return dx_BTD.astype(x_BTD.dtype), dw_VD


def _logits(x_BTD, w_CD, temperature):
  logits_BTC = jnp.einsum(
    'BTD,CD->BTC', x_BTD, w_CD, preferred_element_type=jnp.float32
  )
  # A product, because XLA makes one of a division by a constant, and `draw`
  # does the same.
  return logits_BTC * (1.0 / temperature)


def _row_of(target_BT, V, axes):
  """The target's row in this device's w; out of range on other devices."""
  if axes.vocab:
    target_BT = target_BT - V * jax.lax.axis_index(axes.vocab)
  return target_BT


def _is_target(row_BT, start, size):
  # A comparison, not a gather: it fuses, and matches no row of other devices.
  return (row_BT - start)[..., None] == jnp.arange(size)


def _rescaled(sums: _Sums, top_BT: jax.Array) -> _Sums:
  """The same sums, relative to `top_BT` instead of `sums.top`."""
  gap_BT = sums.top - top_BT
  scale_BT = jnp.exp(gap_BT)
  return _Sums(
    top_BT,
    scale_BT * sums.total,
    scale_BT * (sums.moment + gap_BT * sums.total),
    sums.chosen,
  )


def _gathered(w_VD, start, size, dtype, axes):
  """Rows [start, start + size) with all of their columns."""
  w_CD = jax.lax.dynamic_slice_in_dim(w_VD, start, size).astype(dtype)
  if not axes.embed:
    return w_CD
  # Shards are gathered along a new axis. Their columns are seldom whole tiles
  # of a TPU, so joining them in place would cost permutations or a sum of
  # padded arrays.
  w_SCE = jax.lax.all_gather(w_CD, axes.embed)
  return w_SCE.swapaxes(0, 1).reshape(size, -1)


def _scattered(dw_CD, axes):
  """The sum over the batch axes, only the columns that this device holds."""
  if axes.embed:
    shards = jax.lax.axis_size(axes.embed)
    dw_CSE = dw_CD.reshape(dw_CD.shape[0], shards, -1)
    dw_CD = jax.lax.psum_scatter(dw_CSE.swapaxes(0, 1), axes.embed)
  rest = tuple(a for a in axes.rows if a not in axes.embed)
  return jax.lax.psum(dw_CD, rest) if rest else dw_CD
