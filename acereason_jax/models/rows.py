"""Which rows of a matrix a process reads, and how they become its shards.

A shard of columns is a piece of every row of the file, so each process would
read nearly all of it. Instead each reads its share of whole rows, once over all
processes, and the devices exchange pieces. Values only move, so they stay the
same bit for bit; a reshard by the compiler would add zeros, in the memory of
many whole arrays.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib


class Route(NamedTuple):
  """From a file to the devices.

  read: sharding of what is read: whole rows.
  move: an array sharded by `read` -> the same array as it is wanted.
  """

  read: NamedSharding
  move: Callable[[jax.Array], jax.Array]


def as_wanted(
  shape: tuple[int, ...], stacked: int, wanted: jax.sharding.Sharding
) -> Route:
  """The route of a process that is alone, and reads all of a file anyway."""
  return Route(wanted, lambda x: x)


def route(
  shape: tuple[int, ...], stacked: int, wanted: jax.sharding.Sharding
) -> Route:
  """The route of `stacked` dimensions of matrices to the sharding `wanted`.

  What is no matrix, or has rows that its mesh does not divide, is read as it is
  wanted.
  """
  asis = as_wanted(shape, stacked, wanted)
  if not isinstance(wanted, NamedSharding) or len(shape) - stacked != 2:
    return asis
  mesh = wanted.mesh
  places = [*wanted.spec, *[None] * (len(shape) - len(wanted.spec))]
  *lead, rows, columns = map(_names, places)
  used = {*rows, *columns}
  rest = tuple(n for n in mesh.axis_names if n not in used)
  everywhere = *rows, *rest, *columns
  if any(lead) or shape[-2] % mesh_lib.size(mesh, everywhere):
    return asis
  whole = PartitionSpec(*[None] * len(lead), everywhere)

  def one(x):
    # The devices of a group hold rows that follow each other, in its order.
    if mesh_lib.size(mesh, columns) > 1:
      x = jax.lax.all_to_all(
        x, columns, split_axis=1, concat_axis=0, tiled=True
      )
    if mesh_lib.size(mesh, rest) > 1:
      x = jax.lax.all_gather(x, rest, axis=0, tiled=True)
    return x

  def local(x):
    # One matrix at a time: for all at once the compiler of TPUs takes minutes,
    # and the exchange four times the memory.
    found = jax.lax.map(one, x.reshape(-1, *x.shape[-2:]))
    return found.reshape(*x.shape[:-2], *found.shape[-2:])

  move = jax.shard_map(
    local, mesh=mesh, in_specs=whole, out_specs=wanted.spec, check_vma=False
  )
  return Route(NamedSharding(mesh, whole), jax.jit(move, out_shardings=wanted))


def _names(place: str | tuple[str, ...] | None) -> tuple[str, ...]:
  """Mesh axes of one dimension of a PartitionSpec."""
  if place is None:
    return ()
  return (place,) if isinstance(place, str) else tuple(place)
