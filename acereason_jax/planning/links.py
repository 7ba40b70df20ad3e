"""Seconds of collectives, by the formulas of rings and a machine's links.

A ring of n devices sends (n - 1) / n of the bytes over each link in n - 1 hops;
a sum that every device gets is two such rounds.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from acereason_jax import machines
from acereason_jax.planning import values

# From the innermost, whose devices are neighbours, to the outermost.
INNER_FIRST = ('tensor', 'sequence', 'fsdp', 'data')


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


def across(mesh: Mapping[str, int], groups: int, *, strict: bool) -> set[str]:
  """The axes that go from one slice or node to another; see `mesh.arrange`.

  `strict`: only 'data' and 'fsdp' may, as on TPUs.
  """
  if groups == 1:
    return set()
  data, fsdp = mesh.get('data', 1), mesh.get('fsdp', 1)
  if strict or data * fsdp % groups == 0:
    outer = math.gcd(data, groups)
    return {
      axis
      for axis, parts in (('data', outer), ('fsdp', groups // outer))
      if parts > 1
    }
  return {axis for axis, size in mesh.items() if size > 1}


def _nodes(
  mesh: Mapping[str, int], hardware: machines.Hardware
) -> dict[str, float]:
  """Bytes per second of a GPU on each axis.

  Inside a node NVSwitch gives each all that it can send. A ring over several
  nodes enters a node through the adapters of all its members there, and each
  member gets what goes through them, if NVSwitch can pass that on.
  """
  kind, nodes = hardware.kind, hardware.hosts
  crossing = across(mesh, nodes, strict=False)
  found, inside = {}, hardware.chips
  for axis in INNER_FIRST:
    size = mesh.get(axis, 1)
    members = math.gcd(size, inside)
    inside //= members
    found[axis] = kind.sends
    if axis in crossing:
      found[axis] = min(kind.sends, members * kind.network)
  return found


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
  crossing = across(mesh, hardware.slices, strict=True)
  inner = _inner(mesh, hardware.slices)
  lengths = [int(n) for n in hardware.topology.split('x')]
  # Flat pods have ends that meet at 16, others in whole cubes.
  meets = [n == 16 if kind.flat else n % 4 == 0 for n in lengths]
  left = list(lengths)
  cores = kind.devices
  found = {}
  for axis in INNER_FIRST:
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
    if axis in crossing:
      found[axis] = min(found[axis], inner[axis] * kind.network)
  return found


def _inner(mesh: Mapping[str, int], slices: int) -> dict[str, int]:
  """Sizes of the axes within one slice."""
  sizes = {axis: mesh.get(axis, 1) for axis in INNER_FIRST}
  outer = math.gcd(sizes['data'], slices)
  sizes['data'] //= outer
  sizes['fsdp'] = max(1, sizes['fsdp'] // (slices // outer))
  return sizes
