"""LoRA: a matrix changes by the product of two thin ones (arXiv 2106.09685).

The model reads W + alpha / rank * b @ a, where W is the matrix of the model's
files. b starts at zero, so training starts at that model. The adapters of
layers.q are next to it in the tree of parameters, as layers.q_a and layers.q_b.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax.models import base

FIELD = 'config.lora'
A, B = '_a', '_b'


class Parts(NamedTuple):
  """A model's parameters, split.

  trained: specs of the trained parameters: the adapters, or all parameters.
  frozen: specs of the other parameters.
  scale: alpha / rank, the factor of the product of two adapters.
  """

  trained: base.Tree
  frozen: base.Tree
  scale: float


def split(specs: base.Tree, *, rank: int, alpha: float, on: str) -> Parts:
  """Parts with adapters for the matrices of layers that `on` matches.

  `on` is a regex of full names, such as 'layers.q'. A rank of 0 trains all
  parameters and freezes none.

  Raises:
    ValueError: one line; `on` matches no matrix.
  """
  if not rank:
    return Parts(specs, {}, 0.0)
  matrices = {n: s for n, s in specs['layers'].items() if s.role.adapts}
  names = [f'layers.{n}' for n in matrices]
  try:
    found = [n for n in matrices if re.fullmatch(on, f'layers.{n}')]
  except re.error as e:
    raise ValueError(f'{FIELD}.on={on!r}: no regular expression ({e})') from e
  if not found:
    raise ValueError(
      f'{FIELD}.on={on!r}: matches no matrix; expected a regular expression of '
      f'whole names out of {", ".join(names)}'
    )
  adapters = {}
  for n in found:
    adapters |= _adapters(n, matrices[n], rank)
  return Parts(dict(layers=adapters), specs, alpha / rank)


def _adapters(
  name: str, spec: base.ParamSpec, rank: int
) -> dict[str, base.ParamSpec]:
  """a [L, rank, in], and b [L, out, rank], which starts at zero.

  Each expert has adapters of its own, [L, E, ..]. a is initialized so that a x
  has the size of x. Both are sharded as the matrix is.
  """
  *each, out, width = spec.shape
  *every, rows, columns = spec.axes
  stem = spec.name.removesuffix('weight')
  role = spec.role._replace(adapts=False)
  return {
    name + A: base.ParamSpec(
      (*each, rank, width),
      (*every, None, columns),
      width**-0.5,
      f'{stem}lora_A.weight',
      role,
    ),
    name + B: base.ParamSpec(
      (*each, out, rank),
      (*every, rows, None),
      0.0,
      f'{stem}lora_B.weight',
      role,
    ),
  }


def merged(
  params: base.Tree,
  *,
  scale: float,
  finish: Callable[[dict], dict] = lambda w: w,
) -> base.Tree:
  """`params` with its adapters merged into its matrices.

  It merges layer by layer, as training does, so no whole stack of layers is in
  float32. `finish` is applied to the merged matrices of each layer.
  """
  layers = params['layers']
  names = _adapted(layers)
  if not names:
    return params
  own = {n + end: layers[n + end] for n in names for end in ('', A, B)}
  rest = {n: x for n, x in layers.items() if n not in own}
  merge = lambda w: finish(merged_layer(w, scale=scale))
  new = jax.lax.map(merge, own)
  return {**params, 'layers': {**rest, **new}}


def merged_layer(
  w: Mapping[str, jax.Array], *, scale: float
) -> dict[str, jax.Array]:
  """`merged` for one layer; sums in float32, each matrix keeps its dtype."""
  new = dict(w)
  for n in _adapted(w):
    new[n] = _sum(w[n], new.pop(n + B), new.pop(n + A), scale)
  return new


def _adapted(w: Mapping[str, jax.Array]) -> list[str]:
  return [n for n in w if n + A in w]


def _sum(
  w_FD: jax.Array, b_FR: jax.Array, a_RD: jax.Array, scale: float
) -> jax.Array:
  """W + scale * b @ a; all may have a leading E."""
  b_1FR, a_1RD = (x.astype(jnp.float32)[None] for x in (b_FR, a_RD))
  # The leading 1 makes it a product with a batch dimension. remat='dots' keeps
  # products without one, and over all layers this product is as large as the
  # model.
  product_FD = jnp.einsum('z...fr,z...rd->z...fd', b_1FR, a_1RD)[0]
  return (w_FD.astype(jnp.float32) + scale * product_FD).astype(w_FD.dtype)
