"""Stand-ins for the devices of machines that are not here; no jax.

Jax's meshes and shardings take them: shapes and bytes of each device need no
more. A compile needs the compiler's own devices (planning/topologies.py).
"""

import dataclasses
import itertools
from typing import NamedTuple

from acereason_jax import machines


class Memory(str):
  """A memory that a device reaches: the name of its kind.

  A string, because jax 0.10 compares those of stand-ins with names of kinds.
  """

  @property
  def kind(self) -> str:
    return str(self)


class Client(NamedTuple):
  """What jax's shardings ask of a device's client: the process that is here."""

  here: int = 0

  def process_index(self) -> int:
    return self.here


@dataclasses.dataclass(frozen=True)
class Device:
  """A device that is not here: what jax's tools for meshes read of a device.

  Not a NamedTuple, because numpy would make an array of its fields.

  id: number among all devices.
  platform: 'cpu', 'gpu' or 'tpu'.
  device_kind: name of the kind, as jax gives it.
  process_index: host that it belongs to.
  slice_index: slice of TPUs, or node of GPUs, that it belongs to.
  coords: place of its chip in the topology of the slice.
  core_on_chip: number of the device on its chip.
  num_cores: tensor cores.
  compute_capability: of a GPU; '' for others.
  """

  id: int
  platform: str
  device_kind: str
  process_index: int
  slice_index: int
  coords: tuple[int, int, int] = (0, 0, 0)
  core_on_chip: int = 0
  num_cores: int = 1
  compute_capability: str = ''

  @property
  def client(self) -> Client:
    return Client()

  def default_memory(self) -> Memory:
    return Memory('device')

  def addressable_memories(self) -> list[Memory]:
    return [Memory('device'), Memory('pinned_host')]


def devices(hardware: machines.Hardware) -> list[Device]:
  """Stand-ins for the devices, in jax's order: host by host.

  A host of TPUs is a square of 2 x 2 chips, x fastest.
  """
  kind = hardware.kind
  each = hardware.chips * kind.devices
  if kind.platform == 'tpu':
    sizes = [int(n) for n in hardware.topology.split('x')]
    sizes += [1] * (3 - len(sizes))
    places = itertools.product(*(range(n) for n in reversed(sizes)))
    order = sorted((z, y // 2, x // 2, y, x) for z, y, x in places)
    coords = [(x, y, z) for z, _, _, y, x in order]
  else:
    coords = [(0, 0, 0)] * (hardware.hosts * hardware.chips)
  cores = range(kind.devices)
  every = itertools.product(range(hardware.slices), coords, cores)
  return [
    Device(
      id=i,
      platform=kind.platform,
      device_kind=kind.model,
      process_index=i // each,
      slice_index=i // each if kind.platform == 'gpu' else part,
      coords=place,
      core_on_chip=core,
      num_cores=kind.cores,
      compute_capability=kind.capability,
    )
    for i, (part, place, core) in enumerate(every)
  ]
