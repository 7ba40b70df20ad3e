"""Computations that GSPMD does not partition well, or not at all.

Each device computes its own part of them. A model gets those of a mesh as
options (`pins`).
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax.mesh import HEADS, PACKED, SHARDED

# (fn, x_XD, weights, cut) -> y_XD, see `split_tokens`.
Split = Callable[..., jax.Array]


def by_data(fn: Callable[..., Any], mesh: Mesh, each: Sequence[bool]) -> Any:
  """fn(*arguments) by each group of 'data' for itself.

  No value crosses groups: a sum over rows is that of a group's own. `each` says
  of an argument whether a group has its part of the leading dimension or all.
  Results are parts. The other axes are the compiler's, as outside; `map_shards`
  and `pin` see those that are left.
  """
  own, whole = PartitionSpec('data'), PartitionSpec()
  return jax.shard_map(
    fn,
    mesh=mesh,
    in_specs=tuple(own if part else whole for part in each),
    out_specs=own,
    axis_names={'data'},
    check_vma=False,
  )


def map_shards(
  fn: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
  """jax.shard_map over every axis of `mesh` that `by_data` has not taken."""
  mesh, taken = _here(mesh)
  left = functools.partial(
    jax.tree.map,
    lambda spec: without(spec, taken),
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )
  return jax.shard_map(
    fn,
    mesh=mesh,
    in_specs=left(in_specs),
    out_specs=left(out_specs),
    axis_names={*mesh.axis_names} - taken,
    check_vma=False,
  )


def pin(x: Any, sharding: NamedSharding) -> Any:
  """x with this sharding, of which `by_data` may have taken an axis."""
  mesh, taken = _here(sharding.mesh)
  spec = without(sharding.spec, taken)
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def taken(mesh: Mesh) -> frozenset[str]:
  """The axes that `by_data` has taken where this is traced."""
  return _here(mesh)[1]


def without(spec: PartitionSpec, axes: Collection[str]) -> PartitionSpec:
  """The spec without these axes."""

  def one(names):
    if isinstance(names, tuple):
      return tuple(n for n in names if n not in axes)
    return None if names in axes else names

  return PartitionSpec(*map(one, spec)) if axes else spec


def _here(mesh: Mesh) -> tuple[Any, frozenset[str]]:
  """The mesh as jax wants it where this is traced, and the axes taken."""
  here = jax.sharding.get_abstract_mesh()
  axes = frozenset(here.manual_axes)
  return (here, axes) if axes else (mesh, axes)


def unsplit(fn, x_XD, weights, cut) -> jax.Array:
  """`split_tokens` for one device."""
  return fn(x_XD, weights)


def split_tokens(
  mesh: Mesh,
  tokens: PartitionSpec,
  fn: Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array],
  x_XD: jax.Array,
  weights: Mapping[str, jax.Array],
  cut: Mapping[str, int],
) -> jax.Array:
  """fn(x_XD, weights) -> y_XD on each device's own tokens, with whole weights.

  Use it for functions that GSPMD cannot split, such as a sort of tokens.
  `tokens` is the sharding of the tokens. `cut` names weights and a dimension of
  each: a slice of all of them along it gives one term of the sum y. They are
  split over 'tensor' where it divides them. Tokens that the mesh does not
  divide are computed on every device.
  """
  shards = mesh.shape['tensor']
  cuts = shards > 1 and not any(
    weights[name].shape[axis] % shards for name, axis in cut.items()
  )
  where = {
    name: PartitionSpec(*[None] * cut[name], 'tensor')
    if cuts and name in cut
    else PartitionSpec()
    for name in weights
  }
  tokens = without(tokens, taken(mesh))
  sizes = [
    mesh_lib.size(mesh, (n,) if isinstance(n, str) else n) for n in tokens
  ]
  if any(n % s for n, s in zip(x_XD.shape, sizes)):
    tokens = PartitionSpec()

  def local(x_XD, weights):
    y_XD = fn(x_XD, weights)
    return jax.lax.psum(y_XD, 'tensor') if cuts else y_XD

  return map_shards(local, mesh, (tokens, where), tokens)(x_XD, weights)


def pins(mesh: Mesh) -> dict[str, Any]:
  """The options of `make_model` that depend on a mesh.

  `pin_*` pin activations, where GSPMD would shard D instead. `split_*` are
  `split_tokens` for rollouts and for packed rows.
  """
  return dict(
    pin_rows=lambda x: pin(x, mesh_lib.rows(mesh)),
    pin_packed=lambda x: pin(x, mesh_lib.packed(mesh)),
    look_up=functools.partial(look_up, mesh),
    split_rows=functools.partial(split_tokens, mesh, mesh_lib.rows(mesh).spec),
    split_packed=functools.partial(
      split_tokens, mesh, mesh_lib.packed(mesh).spec
    ),
    flat=mesh_lib.on_one_cpu(mesh),
  )


def look_up(mesh: Mesh, table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
  """x_BTD: the rows of a table that packed tokens name.

  Rows read from a sharded table are sharded over SHARDED in D. They are
  resharded to packed rows one axis at a time: for both at once GSPMD would
  first gather the rows of all devices on each.
  """
  if taken(mesh):
    return _look_up_by_hand(mesh, table_VD, tokens_BT)
  x_BTD = jnp.take(table_VD, tokens_BT, axis=0)
  both = min(mesh.shape[n] for n in SHARDED) > 1
  if not both or x_BTD.shape[-1] % mesh_lib.size(mesh, SHARDED):
    return x_BTD
  return pin(
    x_BTD, NamedSharding(mesh, PartitionSpec('data', 'sequence', 'fsdp'))
  )


def _look_up_by_hand(
  mesh: Mesh, table_VD: jax.Array, tokens_BT: jax.Array
) -> jax.Array:
  """`look_up` in `by_data`, where XLA crashes on a table split in V and D.

  Each device reads its part of D for the tokens of all, and these trade parts
  for tokens (jaxlib 0.10.2: spmd_partitioner_util.cc, "Check failed").
  """
  (V, D), count = table_VD.shape, mesh_lib.size(mesh, SHARDED)
  cut = count > 1 and D % count == 0
  split = mesh.shape['tensor'] > 1 and V % mesh.shape['tensor'] == 0

  def local(table_VD, tokens_BT):
    row, rows = tokens_BT, len(table_VD)
    if split:
      row = row - rows * jax.lax.axis_index('tensor')
    if cut:
      row = jax.lax.all_gather(row, SHARDED)
    x = jnp.take(table_VD, row, axis=0, mode='clip')
    if split:
      own = (row >= 0) & (row < rows)
      x = jax.lax.psum(jnp.where(own[..., None], x, 0), 'tensor')
    if cut:
      x_SBTD = jax.lax.all_to_all(x, SHARDED, 0, 0)
      x = jnp.moveaxis(x_SBTD, 0, -2).reshape(*tokens_BT.shape, D)
    return x

  spec = PartitionSpec('tensor' if split else None, SHARDED if cut else None)
  tokens = mesh_lib.packed(mesh).spec
  return map_shards(local, mesh, (spec, tokens), tokens)(table_VD, tokens_BT)


def split_attention(
  mesh: Mesh, attend: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
  """`attend` on each device's own rows and heads, as Pallas kernels need it.

  attend(q_BTNH, k_BTKH, v_BTKH, layout) -> out_BTNH; B leads in every array of
  `layout` and is a multiple of `mesh.packed_shards`. Heads are split over
  HEADS: where tokens are spread over 'sequence', the compiler trades them for
  heads, and back. If HEADS are a multiple of the kv heads, each device picks
  the kv head of its queries. If neither holds, each device computes all heads.
  """
  shards = mesh_lib.size(mesh, HEADS)
  by_rows = PartitionSpec(PACKED)
  by_heads = PartitionSpec(PACKED, None, HEADS)

  def split(q_BTNH, k_BTKH, v_BTKH, layout):
    N, K = q_BTNH.shape[2], k_BTKH.shape[2]
    divides = K % shards == 0
    picks = not divides and N % shards == 0 and shards % K == 0
    q_spec = by_heads if divides or picks else by_rows
    kv_spec = by_heads if divides else by_rows

    def local(q, k, v, layout):
      if picks:
        head = jax.lax.axis_index(HEADS) // (shards // K)
        k, v = (
          jax.lax.dynamic_slice_in_dim(x, head, 1, axis=2) for x in (k, v)
        )
      return attend(q, k, v, layout)

    specs = q_spec, kv_spec, kv_spec, by_rows
    return map_shards(local, mesh, specs, q_spec)(
      q_BTNH, k_BTKH, v_BTKH, layout
    )

  return split


def splits(heads: int, kv_heads: int, shards: int) -> bool:
  """Whether so many shards can share the heads."""
  return not heads % shards and not (kv_heads % shards and shards % kv_heads)


def check_heads(field: str, shards: int, heads: int, kv_heads: int) -> None:
  """Raises ValueError if so many shards cannot share the heads.

  `field` of the config has that number.
  """
  if not splits(heads, kv_heads, shards):
    raise ValueError(
      f'{field}={shards}: the model has {heads} query and {kv_heads} kv heads; '
      'give a divisor of the former that divides, or is a multiple of, the '
      'latter'
    )
