"""Matrices of layers in 8 bits, with a scale for each output channel.

For rollouts only: what a decode step reads from memory is mostly weights, and
8 bits of each are half of bfloat16. A matrix is q * scale, and x @ (q * scale)
is (x @ q) * scale, so q is widened inside the product and activations stay in
the compute dtype. The sampler is then another policy than the trainer's.

The scale of layers.q is next to it in the tree of parameters, as
layers.q_scale. Embedding, head, norms, biases and routers stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from acereason_jax.models import base

SCALE = '_scale'
# The largest number of each dtype that a weight may become. -128 is not used,
# so that the range is symmetric.
LARGEST = {'int8': 127.0, 'float8_e4m3fn': 448.0}


def specs(of: base.Tree, dtype: str) -> base.Tree:
  """The specs of a model whose matrices of layers are stored as `dtype`.

  `dtype` is a key of LARGEST, or '' for `of` itself.
  """
  if not dtype:
    return of
  layers = dict(of['layers'])
  for name, spec in of['layers'].items():
    if spec.role.adapts:
      layers[name] = spec._replace(dtype=dtype)
      layers[name + SCALE] = _scale_of(spec)
  return {**of, 'layers': layers}


def _scale_of(spec: base.ParamSpec) -> base.ParamSpec:
  """[.., 1, out] for [.., out, in]; it is sharded as the channels are."""
  return base.ParamSpec(
    (*spec.shape[:-2], 1, spec.shape[-2]),
    (*spec.axes[:-2], None, spec.axes[-2]),
    None,
    spec.name.removesuffix('weight') + 'scale',
    base.VECTOR,
    'float32',
  )


def names(of: base.Tree) -> dict[str, str]:
  """The 8-bit dtype of each matrix of layers that has one in these specs."""
  layers = of['layers']
  return {n: s.dtype for n, s in layers.items() if n + SCALE in layers}


def layers(
  w: Mapping[str, jax.Array], dtypes: Mapping[str, str]
) -> dict[str, jax.Array]:
  """Weights of a layer, or of all stacked, with the matrices of `dtypes`.

  `dtypes` are `names`. A matrix that has a scale already stays as it is.
  """
  new = dict(w)
  for name, dtype in dtypes.items():
    if name in w and name + SCALE not in w:
      new[name], new[name + SCALE] = quantize(w[name], dtype)
  return new


def quantize(w_FD: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
  """(q_FD, scale_1F) with q * scale near w; both may have leading dimensions.

  Symmetric: the largest |w| of a channel becomes the largest number of `dtype`.
  A weight of int8 differs by half a scale at most, one of float8 by a 16th of
  itself. A channel of zeros has scale 1, as one whose scale would be below the
  least normal number: devices take that for 0, and 0 / 0 is nan.
  """
  w32_FD = w_FD.astype(jnp.float32)
  most_F1 = jnp.max(jnp.abs(w32_FD), axis=-1, keepdims=True)
  scale_F1 = most_F1 / LARGEST[dtype]
  scale_F1 = jnp.where(scale_F1 >= jnp.finfo(jnp.float32).tiny, scale_F1, 1.0)
  q_FD = w32_FD / scale_F1
  if dtype == 'int8':
    q_FD = jnp.round(q_FD)
  q_FD = jnp.clip(q_FD, -LARGEST[dtype], LARGEST[dtype]).astype(dtype)
  return q_FD, jnp.swapaxes(scale_F1, -1, -2)


def of(
  w: Mapping[str, jax.Array], wanted: Sequence[str]
) -> dict[str, jax.Array]:
  """The wanted weights of a layer, with the scales of those in 8 bits."""
  scales = [n + SCALE for n in wanted if n + SCALE in w]
  return {n: w[n] for n in (*wanted, *scales)}


def product(
  multiply: Callable[[jax.Array, jax.Array], jax.Array],
  w: Mapping[str, jax.Array],
  name: str,
  x: jax.Array,
) -> jax.Array:
  """multiply(x, w[name]) -> y, whose last dimension is w's channels.

  y is rounded to its dtype before it is scaled: a sum over the tensor axis then
  sends no more bytes than without 8 bits.
  """
  scale_1F = w.get(name + SCALE)
  if scale_1F is None:
    return multiply(x, w[name])
  y = multiply(x, w[name].astype(x.dtype))
  return (y.astype(jnp.float32) * scale_1F).astype(y.dtype)
