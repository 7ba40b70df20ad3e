"""The mesh, and one table from logical axes to mesh axes.

A dimension that its mesh axis does not divide is replicated, so that one
table serves 3 kv heads on a laptop and 8 on a pod.
"""

import math
from collections.abc import Callable, Mapping

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from acereason_jax.models import base

AXES = ('data', 'fsdp', 'tensor')
# Rows of a batch are spread over both: fsdp is data parallelism whose
# parameters are sharded too.
BATCH = ('data', 'fsdp')
RULES: Mapping[str, str | None] = {
  'layer': None,
  'norm': None,
  'embed': 'fsdp',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'mlp': 'tensor',
  'vocab': 'tensor',
}


def make_mesh(*, data: int, fsdp: int, tensor: int) -> Mesh:
  """A mesh of all devices; one of the sizes may be -1: what is left.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  sizes, count = [data, fsdp, tensor], jax.device_count()
  if sizes.count(-1) == 1:
    rest = math.prod(s for s in sizes if s != -1)
    sizes[sizes.index(-1)] = count // rest if rest > 0 else 0
  if math.prod(sizes) != count or min(sizes) < 1:
    got = f'data={data} fsdp={fsdp} tensor={tensor}'
    raise ValueError(
      f'config.mesh: {got} does not cover {count} devices; '
      'make the product equal to it, or one of them -1'
    )
  return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def param_shardings(
  specs: base.Tree, mesh: Mesh, *, gathered: bool = False
) -> base.Tree:
  """A tree of NamedSharding like `specs`.

  `gathered` leaves out fsdp: each token of a rollout reads every weight, so
  a rollout wants them whole, up to tensor parallelism.
  """

  def one(spec: base.ParamSpec) -> NamedSharding:
    names = []
    for size, axis in zip(spec.shape, spec.axes):
      name = None if axis is None else RULES[axis]
      name = None if gathered and name == 'fsdp' else name
      fits = name is not None and size % mesh.shape[name] == 0
      names.append(name if fits else None)
    return NamedSharding(mesh, PartitionSpec(*names))

  return base.map_specs(one, specs)


def like_params(
  tree: base.Tree,
  params: base.Tree,
  placed: base.Tree,
  otherwise: NamedSharding,
) -> base.Tree:
  """Where an optimiser's state lies, whatever its structure.

  A leaf whose path ends like a parameter's and that has its shape lies where
  the parameter does, any other `otherwise`.
  """
  leaves = zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(placed)
  )
  known = {jax.tree_util.keystr(p): (x.shape, s) for (p, x), s in leaves}

  def place(path, leaf) -> NamedSharding:
    for start in range(len(path)):
      shape, found = known.get(jax.tree_util.keystr(path[start:]), (None, None))
      if shape == leaf.shape:
        return found
    return otherwise

  return jax.tree_util.tree_map_with_path(place, tree)


def rows(mesh: Mesh) -> NamedSharding:
  """Leading dimension over the batch axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def row_shards(mesh: Mesh) -> int:
  """What the number of rows of a batch must be a multiple of."""
  return math.prod(mesh.shape[a] for a in BATCH)


def pin_rows(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
  """Constrains activations [rows, ...]: GSPMD would else spread D."""
  sharding = rows(mesh)
  return lambda x: jax.lax.with_sharding_constraint(x, sharding)


def split_attention(
  mesh: Mesh, attend: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
  """`attend` on each device's own rows and heads, as Pallas kernels need it.

  attend(q_BTNH, k_BTKH, v_BTKH, layout) -> out_BTNH; B leads in every array of
  `layout` and is a multiple of `row_shards`. Of kv heads that 'tensor' is a
  multiple of, each device picks the one of its queries; if heads and 'tensor'
  fit in neither way, all heads are computed on each of its devices.
  """
  tensor = mesh.shape['tensor']
  by_rows = PartitionSpec(BATCH)
  by_heads = PartitionSpec(BATCH, None, 'tensor')

  def split(q_BTNH, k_BTKH, v_BTKH, layout):
    N, K = q_BTNH.shape[2], k_BTKH.shape[2]
    divides = K % tensor == 0
    picks = not divides and N % tensor == 0 and tensor % K == 0
    q_spec = by_heads if divides or picks else by_rows
    kv_spec = by_heads if divides else by_rows

    def local(q, k, v, layout):
      if picks:
        head = jax.lax.axis_index('tensor') // (tensor // K)
        k, v = (
          jax.lax.dynamic_slice_in_dim(x, head, 1, axis=2) for x in (k, v)
        )
      return attend(q, k, v, layout)

    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(q_spec, kv_spec, kv_spec, by_rows),
      out_specs=q_spec,
      check_vma=False,
    )(q_BTNH, k_BTKH, v_BTKH, layout)

  return split


def spread(x, sharding: NamedSharding) -> jax.Array:
  """A global array of a host array that every process holds whole.

  Never `make_array_from_process_local_data`: with tensor parallelism across
  processes it silently halves the batch.
  """
  return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])


def abstract(specs: base.Tree, placed: base.Tree, dtype) -> base.Tree:
  """Parameters as shapes that know where they lie."""
  one = lambda s, place: jax.ShapeDtypeStruct(s.shape, dtype, sharding=place)
  return jax.tree.map(one, specs, placed, is_leaf=base.is_spec)


def device_bytes(tree: base.Tree) -> int:
  """What shapes with shardings take of each device."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )
