"""What a model is: pure functions over a tree of `ParamSpec`.

From the spec tree follow init in shards, abstract state, shardings, import,
export and parameter counts; nothing else says what the parameters are.
Leaves under 'layers' are stacked over a leading L axis for `lax.scan`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any


class ParamSpec(NamedTuple):
  """One parameter: shape, logical axis names, initial value, file name.

  `axes` has one logical name (see `sharding.RULES`) or None a dimension.
  `std` is that of a truncated normal; 0.0 gives zeros and None ones.
  `name` is the Hugging Face tensor name; a '{}' in it stands for the layer
  index, which is then the leading dimension of `shape`.
  """

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  std: float | None
  name: str


class Model(NamedTuple):
  """Pure functions of parameters; `params` is a tree shaped like `specs`.

  apply(params, tokens_BT, position_BT, segment_BT, prefix_BT) -> x_BTD:
    teacher forcing over packed rows.
  extend(params, tokens_X, position_X, attend) -> (x_XD, (k, v)): tokens after
    what a cache holds. X is any shape; attend(layer, q_XNH, k_XKH, v_XKH) ->
    out_XNH owns the cache; k and v, [L, X, K, H], are what to add to it.
  head(params) -> w_VD: logits are x @ w.T. A leaf of params, so that of a tree
    of their shardings it is the head's.
  """

  specs: Tree
  apply: Callable[..., jax.Array]
  extend: Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array]]]
  head: Callable[[Tree], jax.Array]


def is_spec(x: Any) -> bool:
  return isinstance(x, ParamSpec)


def map_specs(fn: Callable[[ParamSpec], Any], specs: Tree) -> Tree:
  return jax.tree.map(fn, specs, is_leaf=is_spec)


def overlaid(tree: Tree, part: Tree) -> Tree:
  """Nested dicts: `tree` with the leaves of `part`, in place of its own."""
  if not (isinstance(tree, Mapping) and isinstance(part, Mapping)):
    return part
  return {**tree, **{k: overlaid(tree.get(k), x) for k, x in part.items()}}


def part_of(tree: Tree, like: Tree) -> Tree:
  """Nested dicts: of `tree` the leaves that `like` has."""
  if not isinstance(like, Mapping):
    return tree
  return {k: part_of(tree[k], x) for k, x in like.items()}


def param_count(specs: Tree) -> int:
  leaves = jax.tree.leaves(specs, is_leaf=is_spec)
  return sum(math.prod(s.shape) for s in leaves)


def init_params(specs: Tree, key: jax.Array, dtype=jnp.float32) -> Tree:
  """Random parameters; jit it with out_shardings to start in shards."""
  leaves, treedef = jax.tree.flatten(specs, is_leaf=is_spec)
  keys = jax.random.split(key, len(leaves))

  def init(spec: ParamSpec, key: jax.Array) -> jax.Array:
    if spec.std is None:
      return jnp.ones(spec.shape, dtype)
    draw = jax.random.truncated_normal(key, -2.0, 2.0, spec.shape)
    return (spec.std * draw).astype(dtype)

  return treedef.unflatten(map(init, leaves, keys))
