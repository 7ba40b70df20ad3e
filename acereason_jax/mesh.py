"""The machine and its mesh: axes, how arrays are sharded, bytes on each device.

A dimension that its mesh axis does not divide is replicated, so the same code
serves 3 kv heads on a laptop and 8 on a pod.
"""

import collections
import functools
import math
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from acereason_jax import machines, stand_ins

AXES = ('data', 'fsdp', 'tensor', 'sequence')
# Packed rows are spread over both: fsdp is data parallelism whose parameters
# are sharded too. Their tokens are spread over 'sequence'. Only attention
# needs all tokens of a row; it splits heads instead (arXiv 2309.14509).
PACKED = ('data', 'fsdp')
# A rollout has one token at a time, so 'sequence' holds other rollouts.
BATCH = (*PACKED, 'sequence')
# Parameters are sharded over the other axes of data parallelism.
SHARDED = ('fsdp', 'sequence')
HEADS = ('tensor', 'sequence')
# The memory of the host that a device can copy to and from directly.
HOST = 'pinned_host'


class Machine(NamedTuple):
  """The machine that programs are built for; it need not be this one.

  devices: jax's devices, or objects with their fields (`stand_ins.Device`).
  platform: 'cpu', 'gpu' or 'tpu'.
  capability: compute capability of a GPU, such as '9.0'; '' for others.
  memory: bytes of a device that programs may take.
  kind: its row of `machines.KINDS`; None if the table has none.
  """

  devices: Sequence[Any]
  platform: str
  capability: str
  memory: int
  kind: machines.Kind | None = None


def this_machine() -> Machine:
  """All devices of this run; all of its processes must call it.

  Raises:
    ValueError: one line; a process has no device.
  """
  devices = _everyones()
  return Machine(
    devices=devices,
    platform=jax.default_backend(),
    capability=str(getattr(devices[0], 'compute_capability', '')),
    memory=device_memory(jax.local_devices()),
    kind=machines.kind_of(devices[0].device_kind),
  )


def absent(
  hardware: machines.Hardware, devices: Sequence[Any] | None = None
) -> Machine:
  """A machine that is not here, of stand-ins for its devices.

  Shapes, shardings and sizes need no more. To compile, give the `devices` of
  the compiler's own topology. The memory of CPUs is taken to be this host's.
  """
  kind = hardware.kind
  memory = kind.room or (_host_bytes() >> 20) // hardware.devices << 20
  return Machine(
    stand_ins.devices(hardware) if devices is None else devices,
    kind.platform,
    kind.capability,
    memory,
    kind,
  )


def _everyones() -> Sequence[jax.Device]:
  devices = jax.devices()
  owners = {d.process_index for d in devices}
  if len(owners) < jax.process_count():
    none = sorted(set(range(jax.process_count())) - owners)
    raise ValueError(
      f'config.mesh: {len(devices)} devices for {jax.process_count()} '
      f'processes, and none for processes {none}; start fewer processes'
    )
  return devices


def device_memory(devices: Sequence[Any]) -> int:
  """Bytes of memory of a device, in whole MiB; the least of all processes.

  `devices` are this process's. All processes make the same schedule, so all
  need the same number of pages. CPU devices share the memory of their host or
  container.
  """
  stats = devices[0].memory_stats()
  if stats and 'bytes_limit' in stats:
    mine = stats['bytes_limit'] >> 20
  else:
    mine = (_host_bytes() >> 20) // len(devices)
  if jax.process_count() > 1:
    mine = multihost_utils.process_allgather(np.int32(mine)).min()
  return int(mine) << 20


def _host_bytes() -> int:
  """Bytes of the machine's memory, or of its control group's limit if less."""
  limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for name in ('memory.max', 'memory/memory.limit_in_bytes'):
    file = pathlib.Path('/sys/fs/cgroup') / name
    if file.is_file() and (text := file.read_text().strip()).isdigit():
      limits.append(int(text))
  return min(limits)


def make_mesh(
  *,
  data: int,
  fsdp: int,
  tensor: int,
  sequence: int = 1,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh of `devices`, by default all of this run's.

  One size may be -1: all devices that are left.

  Raises:
    ValueError: one line; the sizes do not multiply to the number of devices, a
      process has none, or see `arrange`.
  """
  devices = _everyones() if devices is None else devices
  given = dict(zip(AXES, (data, fsdp, tensor, sequence)))
  sizes = [*machines.mesh_sizes(given, len(devices)).values()]
  types = (AxisType.Auto,) * len(AXES)
  return Mesh(arrange(sizes, devices), AXES, axis_types=types)


def arrange(sizes: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
  """The devices as an array of `sizes`, one of AXES each.

  Devices of a TPU slice, or of GPUs that NVLink joins, have a network of their
  own. Only 'data', or 'fsdp' where data does not suffice, goes over the slow
  network between them: 'tensor' and 'sequence' exchange activations in every
  layer. On GPUs, where groups of these do not fit, they go over it all the
  same. CPU devices stay in their order.

  Raises:
    ValueError: one line; TPU slices that such groups do not fit into.
  """
  slices = collections.defaultdict(list)
  platform = devices[0].platform
  for device in devices:
    where = None if platform == 'cpu' else getattr(device, 'slice_index', None)
    slices[where].append(device)
  data, fsdp, *inner = sizes
  count = len(slices)
  lengths = {len(part) for part in slices.values()}
  even = len(lengths) == 1 and data * fsdp % count == 0
  if not even and platform == 'tpu':
    raise ValueError(
      f'config.mesh: data={data} x fsdp={fsdp} over {count} slices of '
      f'{" and ".join(map(str, sorted(lengths)))} devices; expected slices of '
      f'one size and a product that is a multiple of {count}, as neither '
      'tensor nor sequence may go from one slice to another'
    )
  if not even or count == 1:
    return _within(sizes, devices)
  outer = math.gcd(data, count), count // math.gcd(data, count)
  own = data // outer[0], fsdp // outer[1], *inner
  parts = [_within(own, part) for _, part in sorted(slices.items())]
  whole = np.stack(parts).reshape(*outer, *own)
  return whole.transpose(0, 2, 1, 3, 4, 5).reshape(sizes)


def _within(sizes: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
  """Devices of one network, by its topology where jax knows how."""
  try:
    return mesh_utils.create_device_mesh(
      sizes, devices, allow_split_physical_axes=True
    )
  except (AssertionError, NotImplementedError, TypeError, ValueError):
    # jax raises the first for a part of a slice, the third for sizes that it
    # cannot factor (0.10.2: 10), the others for axes that it cannot lay out.
    # Neighbours in jax's order are neighbours on the board.
    return np.asarray(devices).reshape(sizes)


def rollout_mesh(mesh: Mesh, tensor: int) -> Mesh:
  """The mesh of rollouts beside `mesh`, on which updates run.

  `tensor` devices share a rollout, and each group of them has rollouts of its
  own. The devices keep the order of `mesh`, so one jit can read arrays on that
  mesh and write them to this one. In this order the devices of a group are
  neighbours (`neighbours`). An equal tensor axis gives `mesh` itself.

  Raises:
    ValueError: one line; `tensor` does not divide the devices, or its groups
      go from one TPU slice to another.
  """
  if tensor == mesh.shape['tensor']:
    return mesh
  if tensor < 1 or mesh.size % tensor:
    raise ValueError(
      f'config.rollout_mesh.tensor={tensor}: does not divide {mesh.size} '
      "devices; give a divisor, or 0 for the machine's"
    )
  if mesh.devices.flat[0].platform == 'tpu' and not neighbours(mesh, tensor):
    raise ValueError(
      f'config.rollout_mesh.tensor={tensor}: its groups go from one slice to '
      'another; give less'
    )
  # Parameters are sharded over as many devices as there: see
  # `rollout.serve.rollout_params`.
  copies = math.gcd(mesh.shape['data'], mesh.size // tensor)
  shape = copies, mesh.size // tensor // copies, tensor, 1
  return Mesh(mesh.devices.reshape(shape), AXES, axis_types=mesh.axis_types)


def neighbours(mesh: Mesh, count: int) -> bool:
  """Whether each next `count` devices share a slice of TPUs, or a node."""
  groups = mesh.devices.reshape(-1, count)
  where = lambda device: getattr(device, 'slice_index', None)
  return all(len(set(map(where, group))) == 1 for group in groups)


def rows(mesh: Mesh) -> NamedSharding:
  """For rollouts: the leading dimension over the batch axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def packed(mesh: Mesh) -> NamedSharding:
  """For packed rows [B, T, ..]."""
  return NamedSharding(mesh, PartitionSpec(PACKED, 'sequence'))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def row_shards(mesh: Mesh) -> int:
  """The number of rollouts decoded at once must be a multiple of this."""
  return size(mesh, BATCH)


def packed_shards(mesh: Mesh) -> int:
  """The number of packed rows must be a multiple of this."""
  return size(mesh, PACKED)


def size(mesh: Mesh, names: Sequence[str]) -> int:
  return math.prod(mesh.shape[n] for n in names)


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


Split = Callable[..., jax.Array]


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
  sizes = [size(mesh, (n,) if isinstance(n, str) else n) for n in tokens]
  if any(n % s for n, s in zip(x_XD.shape, sizes)):
    tokens = PartitionSpec()

  def local(x_XD, weights):
    y_XD = fn(x_XD, weights)
    return jax.lax.psum(y_XD, 'tensor') if cuts else y_XD

  return map_shards(local, mesh, (tokens, where), tokens)(x_XD, weights)


def on_one_cpu(mesh: Mesh) -> bool:
  """Whether the mesh is one CPU device.

  XLA's CPU backend copies transposed arrays, so there `apply` merges rows and
  tokens.
  """
  return mesh.size == 1 and mesh.devices.flat[0].platform == 'cpu'


def reads_apart(mesh: Mesh) -> bool:
  """Whether rollouts on the mesh read layers that are `models.base.apart`.

  XLA for CPUs and GPUs copies each layer's slice of stacked weights in every
  step; XLA for TPUs reads it where it is. Several devices of a CPU stand for
  those of a pod, and keep its form.
  """
  on_gpu = mesh.devices.flat[0].platform in ('cuda', 'gpu')
  return on_gpu or on_one_cpu(mesh)


def pins(mesh: Mesh) -> dict[str, Any]:
  """The options of `make_model` that depend on a mesh.

  `pin_*` pin activations, where GSPMD would shard D instead. `split_*` are
  `split_tokens` for rollouts and for packed rows.
  """
  return dict(
    pin_rows=lambda x: pin(x, rows(mesh)),
    pin_packed=lambda x: pin(x, packed(mesh)),
    look_up=functools.partial(look_up, mesh),
    split_rows=functools.partial(split_tokens, mesh, rows(mesh).spec),
    split_packed=functools.partial(split_tokens, mesh, packed(mesh).spec),
    flat=on_one_cpu(mesh),
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
  if not both or x_BTD.shape[-1] % size(mesh, SHARDED):
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
  (V, D), count = table_VD.shape, size(mesh, SHARDED)
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
  tokens = packed(mesh).spec
  return map_shards(local, mesh, (spec, tokens), tokens)(table_VD, tokens_BT)


def split_attention(
  mesh: Mesh, attend: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
  """`attend` on each device's own rows and heads, as Pallas kernels need it.

  attend(q_BTNH, k_BTKH, v_BTKH, layout) -> out_BTNH; B leads in every array of
  `layout` and is a multiple of `packed_shards`. Heads are split over HEADS:
  where tokens are spread over 'sequence', the compiler trades them for heads,
  and back. If HEADS are a multiple of the kv heads, each device picks the kv
  head of its queries. If neither holds, each device computes all heads.
  """
  shards = size(mesh, HEADS)
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


def spread(x, sharding: NamedSharding) -> jax.Array:
  """A global array of a host array that every process holds whole.

  Never `make_array_from_process_local_data`: with tensor parallelism across
  processes it silently halves the batch.
  """
  return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])


def device_bytes(tree: Any) -> int:
  """The bytes that shapes with shardings take of each device's own memory."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
    if x.sharding.memory_kind != HOST
  )
