"""A model: pure functions over a tree of `ParamSpec`.

The spec tree holds everything known about the parameters. Initialization in
shards, abstract state, shardings, import, export, LoRA, the optimizer's masks
and parameter counts follow from it. Leaves under 'layers' are stacked over a
leading L axis for `lax.scan`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any


class Role(NamedTuple):
  """The operations that others may apply to a parameter.

  matrix: whether the last two dimensions are [out, in] of a product with
    activations; Muon orthogonalizes it.
  adapts: whether LoRA may add the product of two thin matrices to it.
  decays: whether weight decay acts on it, unless the config overrides it.
  """

  matrix: bool
  adapts: bool
  decays: bool


MATRIX = Role(matrix=True, adapts=True, decays=True)
# A router picks experts. LoRA leaves it unchanged, as is customary.
ROUTER = Role(matrix=True, adapts=False, decays=True)
# Embedding and head have one row per token.
TABLE = Role(matrix=False, adapts=False, decays=True)
# Norms and biases.
VECTOR = Role(matrix=False, adapts=False, decays=False)


class ParamSpec(NamedTuple):
  """One parameter.

  shape: its dimensions; a matrix ends in [out, in], as Hugging Face stores it.
  axes: logical name (`sharding.RULES`) or None of each dimension.
  std: std of its initial truncated normal; 0.0 gives zeros and None ones.
  name: the Hugging Face tensor name. Each '{}' stands for an index, first of
    the layer and then of the expert; these are the leading dimensions of
    `shape`, and the file has a tensor for each index.
  role: the operations that the optimizer and LoRA may apply to it.
  dtype: dtype that it is always stored in, by name; '' if its users choose.
  """

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  std: float | None
  name: str
  role: Role
  dtype: str = ''

  @property
  def stacked(self) -> int:
    """How many leading dimensions are indices of tensors in the file."""
    return self.name.count('{}')


class Model(NamedTuple):
  """Pure functions of parameters; `params` is a tree shaped like `specs`.

  `extend` also takes params whose layers are `apart`.

  specs: the tree of ParamSpec. It has 'embed', [V, D], and 'layers'.
  apply: apply(params, tokens_BT, position_BT, segment_BT, prefix_BT) -> x_BTD,
    by teacher forcing over packed rows.
  extend: extend(params, tokens_X, position_X, attend) -> (x_XD, (k, v)), for
    tokens that follow those in a cache. X is any shape. attend(layer, q_XNH,
    k_XKH, v_XKH) -> out_XNH owns the cache; k and v, [L, X, K, H], are to be
    added to it. If the layers are `apart`, `layer` is an int, and instead of
    (k, v) it returns a tuple of (k_XKH, v_XKH), one of each layer.
  head: head(params) -> w_VD; logits are x @ w.T. It returns a leaf of params,
    so from a tree of shardings it returns the head's sharding.
  even_tokens: the length, in tokens, of a segment whose attention costs as much
    as its products with weights.
  """

  specs: Tree
  apply: Callable[..., jax.Array]
  extend: Callable[..., tuple[jax.Array, Tree]]
  head: Callable[[Tree], jax.Array]
  even_tokens: float


def is_spec(x: Any) -> bool:
  return isinstance(x, ParamSpec)


def map_specs(fn: Callable[[ParamSpec], Any], specs: Tree) -> Tree:
  return jax.tree.map(fn, specs, is_leaf=is_spec)


def path_name(path: tuple) -> str:
  """A parameter's full name, such as 'layers.q_bias' or 'embed'."""
  return jax.tree_util.keystr(path, simple=True, separator='.')


def by_name(specs: Tree) -> dict[str, ParamSpec]:
  leaves = jax.tree_util.tree_leaves_with_path(specs, is_leaf=is_spec)
  return {path_name(path): spec for path, spec in leaves}


def overlaid(tree: Tree, part: Tree) -> Tree:
  """`tree` with the leaves of `part` in place of its own; both nested dicts."""
  if not (isinstance(tree, Mapping) and isinstance(part, Mapping)):
    return part
  return {**tree, **{k: overlaid(tree.get(k), x) for k, x in part.items()}}


def part_of(tree: Tree, like: Tree) -> Tree:
  """The leaves of `tree` that `like` has too; both nested dicts."""
  if not isinstance(like, Mapping):
    return tree
  return {k: part_of(tree[k], x) for k, x in like.items()}


def cast(params: Tree, dtype: jnp.dtype) -> Tree:
  return jax.tree.map(lambda x: x.astype(dtype), params)


def apart(params: Tree) -> Tree:
  """`params` with 'layers' as a tuple of one tree per layer.

  The layers are copied and the rest is shared, unless this is traced.
  """
  return {**params, 'layers': unstacked(params['layers'])}


@jax.jit
def unstacked(layers: Tree) -> tuple[Tree, ...]:
  """One tree for each layer of the stacked ones."""
  count = len(jax.tree.leaves(layers)[0])
  layer = lambda i: jax.tree.map(lambda x: x[i], layers)
  return tuple(map(layer, range(count)))


def are_apart(params: Tree) -> bool:
  return isinstance(params['layers'], tuple)


def stacked_kv(kv: Tree) -> tuple[jax.Array, jax.Array]:
  """The (k, v), [L, ...] each, that `extend` returned in either form."""
  one = isinstance(kv[0], tuple)
  return tuple(jnp.stack(x) for x in zip(*kv)) if one else kv


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
