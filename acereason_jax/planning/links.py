"""Seconds of collectives, by the formulas of rings and a machine's links.

A ring of n devices sends (n - 1) / n of the bytes over each link in n - 1 hops;
a sum that every device gets is two such rounds.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from acereason_jax import machines
from acereason_jax.planning import values

# From the outermost to the innermost, whose devices are neighbours.
AXES = ('data', 'fsdp', 'tensor', 'sequence')


class Ring(NamedTuple):
  """A group of devices that share a collective.

  devices: number of devices of the group.
  bandwidth: bytes per second that each sends.
  hop: seconds of one hop.
  """

  devices: int
  bandwidth: float
  hop: float

  def _seconds(self, size: float, rounds: int) -> float:
    n = self.devices
    if n == 1:
      return 0.0
    sent = size * (n - 1) / n / self.bandwidth
    return rounds * (sent + (n - 1) * self.hop)

  def gather(self, size: float) -> float:
    """Seconds until each device has all `size` bytes of the group."""
    return self._seconds(size, 1)

  def scatter(self, size: float) -> float:
    """Seconds of a sum of `size` bytes, of which each device gets its part."""
    return self._seconds(size, 1)

  def sum(self, size: float) -> float:
    """Seconds of a sum of `size` bytes that each device gets."""
    return self._seconds(size, 2)

  def exchange(self, size: float) -> float:
    """Seconds in which each device sends a part of its `size` bytes to all.

    As through a switch. On a ring parts pass other devices: of more than four
    it takes up to n / 4 times as long.
    """
    return self._seconds(size, 1)


def rings(
  mesh: Mapping[str, int], hardware: machines.Hardware, assumed: values.Assumed
) -> dict[str, Ring]:
  """The ring of each axis of a mesh.

  Raises:
    ValueError: an axis has devices whose links are not known.
  """
  kind = hardware.kind
  own = _torus if kind.platform == 'tpu' else _nodes
  bandwidth = own(mesh, hardware)
  for axis, size in mesh.items():
    if size > 1 and not bandwidth[axis]:
      raise ValueError(
        f'--hardware={hardware.text}: the links of its devices are not known, '
        f'and the mesh has {axis}={size}; expected an accelerator, or 1'
      )
  return {
    axis: Ring(size, bandwidth[axis] * assumed.links, assumed.hop_seconds)
    for axis, size in mesh.items()
  }


def members(mesh: Mapping[str, int], groups: int) -> dict[str, int]:
  """Devices of each axis in the same slice or node, the least of its rings.

  Devices are placed as by `mesh.arrange`: only 'data' and 'fsdp' go from one
  group to another, or, where these do not suffice, devices stay in their order.
  """
  sizes = [mesh.get(axis, 1) for axis in AXES]
  data, fsdp, *_ = sizes
  if data * fsdp % groups:
    count = math.prod(sizes)
    each = max(1, count // groups)
    where = (np.arange(count) // each).reshape(sizes)
  else:
    outer = math.gcd(data, groups)
    inner = data // outer, fsdp // (groups // outer)
    places = np.indices(sizes)
    where = places[0] // inner[0] * (groups // outer) + places[1] // inner[1]
  found = {}
  for i, (axis, size) in enumerate(zip(AXES, sizes)):
    rings = np.moveaxis(where, i, -1).reshape(-1, size)
    marked = rings + (where.max() + 1) * np.arange(len(rings))[:, None]
    found[axis] = int(np.unique(marked, return_counts=True)[1].min())
  return found


def _nodes(
  mesh: Mapping[str, int], hardware: machines.Hardware
) -> dict[str, float]:
  """Bytes per second of a GPU on each axis.

  Inside a node NVSwitch gives each all that it can send. A ring over several
  nodes enters a node through the adapters of all its members there, and each
  member gets what goes through them, if NVSwitch can pass that on.
  """
  kind = hardware.kind
  return {
    axis: kind.sends
    if count == mesh.get(axis, 1)
    else min(kind.sends, count * kind.network)
    for axis, count in members(mesh, hardware.hosts).items()
  }


def _torus(
  mesh: Mapping[str, int], hardware: machines.Hardware
) -> dict[str, float]:
  """Bytes per second of a TPU on each axis.

  `Kind.sends` is all links together, an equal share in each dimension of the
  torus. An axis has the links of the dimensions that it spans. Half of them if
  it has a part of a dimension or one whose ends do not meet: a line, not a
  ring. An axis over slices has the network of all its members in a slice.
  """
  kind = hardware.kind
  inner = members(mesh, hardware.slices)
  lengths = [int(n) for n in hardware.topology.split('x')]
  # Flat pods have ends that meet at 16, others in whole cubes.
  meets = [n == 16 if kind.flat else n % 4 == 0 for n in lengths]
  left = list(lengths)
  cores = kind.devices
  found = {}
  for axis in reversed(AXES):
    size, share = inner[axis], 0.0
    # Two devices of a chip are nearer than two chips.
    both = math.gcd(size, cores)
    cores //= both
    size //= both
    exact = sorted(range(len(left)), key=lambda i: left[i] != size)
    for i in exact:
      part = math.gcd(size, left[i])
      if part == 1:
        continue
      ring = part == lengths[i] and meets[i]
      share += (1 if ring else 0.5) / len(lengths)
      left[i] //= part
      size //= part
    # Nothing is left that divides it: it goes where it can.
    found[axis] = kind.sends * (share or 1.0)
    if inner[axis] < mesh.get(axis, 1):
      found[axis] = min(found[axis], inner[axis] * kind.network)
  return found
