"""The paged key-value cache on the mesh: its shape, reads and writes.

Pages are sharded over the batch axes and each shard numbers its own pages, so
page tables hold local numbers and nothing here crosses shards. kv heads are
repeated if the tensor axis has more shards than there are kv heads.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.kernels import paged_attention
from acereason_jax.models import base
from acereason_jax.rollout import engine_sizes, sampling

ROWS = PartitionSpec(mesh_lib.BATCH)
# Share of a device's memory for what stays while rollouts are decoded. The rest
# is for temporaries.
_USED = 0.9
# Most slots of a shard that are chosen. On accelerators the products of a step
# take longer than reading its weights from 170 (v5p) to 560 (v6e) rollouts on,
# and slots without a rollout are computed too. A CPU gains nothing by more.
_MOST = 256
_MOST_ON_CPU = 64


class Cache(NamedTuple):
  """Functions of one mesh and one model; the pool is [L, X, K, 2, S, H].

  shape: (X pages over all shards, S tokens per page) -> shape of the pool.
  sharding: sharding of the pool.
  spread_kv: k_XKH -> k with heads repeated as in the pool.
  read: `kernels.paged_attention.paged_attention` on this mesh.
  read_groups: the same as (width, shared, ...), for rows that share pages.
  prefix_read: `kernels.paged_attention.piece_attention` on this mesh.
  write: (pool, kv_LWKCTH, page_W, offset_W) -> the pool with W pieces of T
    tokens in their pages; in place if the pool is donated.
  """

  shape: Callable[[int, int], tuple[int, ...]]
  sharding: NamedSharding
  spread_kv: Callable[[jax.Array], jax.Array]
  read: Callable[..., paged_attention.Part]
  read_groups: Callable[..., paged_attention.Part]
  prefix_read: Callable[..., jax.Array]
  write: Callable[..., jax.Array]


def kv_shape(model: base.Model) -> tuple[int, int, int, int]:
  """(layers, query heads, kv heads, head dim), as the model calls attention."""
  params = base.map_specs(
    lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), model.specs
  )
  one = jax.ShapeDtypeStruct((1,), jnp.int32)
  heads = []

  def attend(layer, q_XNH, k_XKH, v_XKH):
    heads.append(q_XNH.shape[-2])
    return q_XNH

  extend = lambda *args: model.extend(*args, attend)
  _, (k, _) = jax.eval_shape(extend, params, one, one)
  layers, _, kv_heads, dim = k.shape
  return layers, heads[0], kv_heads, dim


def make_cache(model: base.Model, mesh: Mesh) -> Cache:
  """The cache of `model` on `mesh`.

  Raises:
    ValueError: the tensor axis and the heads do not fit.
  """
  L, N, K, H = kv_shape(model)
  tensor = mesh.shape['tensor']
  partition.check_heads('config.mesh.tensor', tensor, N, K)
  repeats = max(1, tensor // K)
  device = mesh.devices.flat[0]
  platform = {'cuda': 'gpu'}.get(device.platform, device.platform)
  # A TPU may have several cores; each gets its own rows.
  cores = getattr(device, 'num_cores', 1)
  heads = PartitionSpec(mesh_lib.BATCH, 'tensor')
  pool = PartitionSpec(None, mesh_lib.BATCH, 'tensor')
  queries = PartitionSpec(mesh_lib.BATCH, None, 'tensor')

  def spread_kv(k_XKH: jax.Array) -> jax.Array:
    return jnp.repeat(k_XKH, repeats, axis=-2) if repeats > 1 else k_XKH

  read = functools.partial(
    paged_attention.paged_attention, platform=platform, cores=cores
  )

  def local(fn, ins, outs):
    return jax.shard_map(
      fn, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False
    )

  whole = PartitionSpec()
  where = ROWS, ROWS, ROWS, ROWS

  def read_groups(width, shared, *args):
    one = lambda shared, *args: read(*args, width=width, shared=shared)
    ins = whole, heads, pool, whole, *where
    return local(one, ins, (heads, heads))(shared, *args)

  return Cache(
    shape=lambda pages, size: (L, pages, K * repeats, 2, size, H),
    sharding=NamedSharding(mesh, pool),
    spread_kv=spread_kv,
    read=local(read, (heads, pool, whole, *where), (heads, heads)),
    read_groups=read_groups,
    prefix_read=local(
      functools.partial(paged_attention.piece_attention, platform=platform),
      (queries, queries, queries, pool, whole, ROWS, ROWS),
      queries,
    ),
    write=local(write, (pool, pool, ROWS, ROWS), pool),
  )


def write(pool_LXKCSH, kv_LWKCTH, page_W, offset_W) -> jax.Array:
  """The pool with W pieces of T <= S tokens at offsets of pages."""

  def one(w, pool):
    piece = jax.lax.dynamic_slice_in_dim(kv_LWKCTH, w, 1, 1)
    at = 0, page_W[w], 0, 0, offset_W[w], 0
    return jax.lax.dynamic_update_slice(pool, narrow(piece, pool.dtype), at)

  return jax.lax.fori_loop(0, page_W.shape[0], one, pool_LXKCSH)


def narrow(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """`x` as `dtype`; values out of the range of float8 become its largest.

  A plain cast would make them NaN. Values that are not finite stay so.
  """
  if dtype == jnp.float8_e4m3fn:
    most = float(jnp.finfo(dtype).max)
    x = jnp.where(jnp.isfinite(x), jnp.clip(x, -most, most), x)
  return x.astype(dtype)


def staged_bytes(
  sizes: engine_sizes.Sizes, model: base.Model, mesh: Mesh, dtype: jnp.dtype
) -> int:
  """Bytes of a device that the tokens of a chunk take before they get pages."""
  cache = make_cache(model, mesh)
  # A page of each shard, of as many tokens; slots may not be valid yet.
  one = cache.sharding.shard_shape(cache.shape(sizes.shards, sizes.chunk))
  slots = -(-sizes.slots // sizes.shards)
  return slots * math.prod(one) * jnp.dtype(dtype).itemsize


def page_bytes(
  sizes: engine_sizes.Sizes, model: base.Model, mesh: Mesh, dtype: jnp.dtype
) -> int:
  """Bytes of a page on a device."""
  cache = make_cache(model, mesh)
  shape = cache.sharding.shard_shape(cache.shape(sizes.shards, sizes.page))
  return math.prod(shape) * jnp.dtype(dtype).itemsize


def slots_of_shard(
  rollouts: int,
  shards: int,
  room: float,
  slot: float,
  *,
  width: int,
  on_cpu: bool,
) -> int:
  """Slots of each shard for so many rollouts, of `slot` bytes in a `room`.

  They are groups of `width`, as drafts need them, and at least one group.
  """
  most = min(_MOST_ON_CPU if on_cpu else _MOST, int(room // slot))
  asked = -(-rollouts // (shards * width))
  return max(1, min(asked, most // width)) * width


def slot_bytes(table: int, page: float, staged: float, logits: float) -> float:
  """Bytes of a device that a slot takes on average.

  A rollout in flight has half of its pages, if it began at any time and ends at
  its limit; most end earlier. Where it is more, preemption is the guard.
  `logits` are the bytes of one float32 array of them.
  """
  arrays = sampling.ARRAYS + sampling.SEARCHED
  return table / 2 * page + staged + arrays * logits


def fit_slots(
  sizes: engine_sizes.Sizes,
  model: base.Model,
  mesh: Mesh,
  dtype: jnp.dtype,
  kv_dtype: jnp.dtype,
  reserved: int,
  memory: int,
  rollouts: int,
) -> engine_sizes.Sizes:
  """The sizes with slots, if they have 0: for all `rollouts`, or what fits.

  It depends on these arguments only, so every process and every restart on the
  same machine chooses the same.
  """
  if sizes.slots:
    return sizes
  one = page_bytes(sizes, model, mesh, kv_dtype)
  room = int(_USED * memory) - reserved
  if sizes.pages:
    room = min(room, -(-sizes.pages // sizes.shards) * one)
  vocab = -(-model.specs['embed'].shape[0] // mesh.shape['tensor'])
  staged = sizes._replace(slots=sizes.shards)
  slot = slot_bytes(
    sizes.table, one, staged_bytes(staged, model, mesh, dtype), 4 * vocab
  )
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  width = sizes.speculate + 1
  each = slots_of_shard(
    rollouts, sizes.shards, room, slot, width=width, on_cpu=on_cpu
  )
  return sizes._replace(slots=each * sizes.shards)


def fit_pages(
  sizes: engine_sizes.Sizes,
  model: base.Model,
  mesh: Mesh,
  dtype: jnp.dtype,
  reserved: int,
  memory: int,
) -> engine_sizes.Sizes:
  """The sizes with `pages` per shard; in the input they are of all shards.

  0 means as many pages as the slots can ever use, or as fit next to `reserved`
  bytes into 90% of a device's `memory` (`_USED`), if those are fewer.

  Raises:
    ValueError: more pages than fit, or too little memory for one rollout.
  """
  one = page_bytes(sizes, model, mesh, dtype)
  free = int(_USED * memory) - reserved
  fit = max(free // one - 1, 0)
  asked = -(-sizes.pages // sizes.shards)
  least = asked or sizes.table
  if least > fit:
    lengths = f'{sizes.window} + {sizes.max_tokens} tokens'
    slots = fit // sizes.table * sizes.shards
    remedy = (
      f'{fit * sizes.shards} pages fit, or slots={slots} of {lengths}: ask for '
      'fewer pages or shorter rollouts'
      if slots
      else f'one rollout of {lengths} takes {sizes.table} pages: '
      + _room_remedy(model, mesh, fit)
    )
    raise ValueError(
      f'pages={sizes.pages}: {least} pages of {sizes.page} tokens take '
      f'{least * one / 1e9:.1f} GB of each device, where {free / 1e9:.1f} GB '
      f'are free beside {reserved / 1e9:.1f} GB of weights and state; {remedy}'
    )
  most = sizes.slots // sizes.shards * sizes.table
  return sizes._replace(pages=(asked or min(most, fit)) + 1)


def _room_remedy(model: base.Model, mesh: Mesh, fit: int) -> str:
  """What gives a device room for one rollout, where only `fit` pages fit."""
  _, N, K, _ = kv_shape(model)
  tensor = mesh.shape['tensor']
  larger = [
    n
    for n in range(tensor + 1, mesh.size + 1)
    if not mesh.size % n and partition.splits(N, K, n)
  ]
  shorter = fit > 1
  if not larger:
    return (
      f'{"ask for shorter ones; n" if shorter else "n"}o tensor axis larger '
      f'than {tensor} divides {mesh.size} devices and {N} query heads: use '
      'devices of more memory, or a smaller model'
    )
  return (
    ('ask for shorter ones, or ' if shorter else 'no shorter one fits: ask ')
    + f'for rollouts on a tensor axis of more than {tensor}, such as '
    f'{" or ".join(map(str, larger[:3]))}: it splits their weights, which stay '
    'whole along all other axes'
  )
