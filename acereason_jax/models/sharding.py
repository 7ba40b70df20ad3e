"""Shardings of parameters and optimizer state: one table from logical axes.

A dimension that its mesh axis does not divide is replicated.
"""

from collections.abc import Mapping

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base

RULES: Mapping[str, tuple[str, ...]] = {
  'layer': (),
  'norm': (),
  'embed': mesh_lib.SHARDED,
  'heads': ('tensor',),
  'kv_heads': ('tensor',),
  'mlp': ('tensor',),
  'vocab': ('tensor',),
  # Every device has a part of each expert; there is no expert parallelism.
  'expert': (),
}


def param_shardings(
  specs: base.Tree, mesh: Mesh, *, gathered: bool = False
) -> base.Tree:
  """A tree of NamedSharding like `specs`.

  `gathered` leaves out SHARDED. Each token of a rollout reads every weight, so
  rollouts need whole weights, up to tensor parallelism.
  """

  def one(spec: base.ParamSpec) -> NamedSharding:
    places = []
    for size, axis in zip(spec.shape, spec.axes):
      names = () if axis is None else RULES[axis]
      names = () if gathered and names == mesh_lib.SHARDED else names
      # An axis of one device is left out, so equal specs are spelled alike.
      names = tuple(n for n in names if mesh.shape[n] > 1)
      fits = names and size % mesh_lib.size(mesh, names) == 0
      places.append(names if fits else None)
    return NamedSharding(mesh, PartitionSpec(*places))

  return base.map_specs(one, specs)


def apart(specs: base.Tree, placed: base.Tree) -> base.Tree:
  """`placed`, the shardings of `specs`, for params that are `base.apart`."""

  def one(place: NamedSharding) -> NamedSharding:
    return NamedSharding(place.mesh, PartitionSpec(*place.spec[1:]))

  leaves = jax.tree.leaves(specs['layers'], is_leaf=base.is_spec)
  layer = {name: one(place) for name, place in placed['layers'].items()}
  return {**placed, 'layers': (layer,) * leaves[0].shape[0]}


def is_gathered(mesh: Mesh) -> bool:
  """Whether this mesh keeps parameters whole, up to tensor parallelism."""
  return mesh_lib.size(mesh, mesh_lib.SHARDED) == 1


def like_params(
  tree: base.Tree,
  params: base.Tree,
  placed: base.Tree,
  otherwise: NamedSharding,
  *,
  offload: bool = False,
) -> base.Tree:
  """The sharding of each leaf of an optimizer's state, whatever its structure.

  A leaf with the shape of a parameter, whose path ends like that parameter's,
  is placed as the parameter. Any other leaf is placed as `otherwise`. With
  `offload` leaves placed as parameters are in the memory of that device's host.
  """
  leaves = zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(placed)
  )
  known = {jax.tree_util.keystr(p): (x.shape, s) for (p, x), s in leaves}

  def place(path, leaf) -> NamedSharding:
    for start in range(len(path)):
      shape, found = known.get(jax.tree_util.keystr(path[start:]), (None, None))
      if shape == leaf.shape:
        return found.with_memory_kind(mesh_lib.HOST) if offload else found
    return otherwise

  return jax.tree_util.tree_map_with_path(place, tree)


def abstract(specs: base.Tree, placed: base.Tree, dtype) -> base.Tree:
  """Parameters as shapes with shardings, in `dtype` or their spec's own."""
  one = lambda s, place: jax.ShapeDtypeStruct(
    s.shape, s.dtype or dtype, sharding=place
  )
  return jax.tree.map(one, specs, placed, is_leaf=base.is_spec)
