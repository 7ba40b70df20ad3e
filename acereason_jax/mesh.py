"""The machine and its mesh: axes, how arrays are sharded, bytes on each device.

A dimension that its mesh axis does not divide is replicated, so the same code
serves 3 kv heads on a laptop and 8 on a pod.
"""

import collections
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
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
