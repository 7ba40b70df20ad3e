"""Meshes of machines that are not here: their devices are made up.

jax lays devices out by what they say of themselves, so an object with those
fields is as good as a device.
"""

import collections
import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
import tiny
from jax.experimental import mesh_utils

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.models import families
from acereason_jax.rollout import engine_sizes, serve


@dataclasses.dataclass(frozen=True)
class Device:
  """One device, by the names that jax's have."""

  id: int
  platform: str
  device_kind: str
  process_index: int
  slice_index: int
  coords: tuple[int, int, int] = (0, 0, 0)
  core_on_chip: int = 0


def tpu(kind, topology, slices=1, cores=1):
  """Devices in jax's order: process by process, x fastest within each."""
  found = []
  for part in range(slices):
    places = itertools.product(*(range(n) for n in reversed(topology)))
    for z, y, x in sorted(
      places, key=lambda p: (p[0], p[1] // 2, p[2] // 2, p[1], p[2])
    ):
      for core in range(cores):
        i = len(found)
        found.append(
          Device(i, 'tpu', kind, i // (4 * cores), part, (x, y, z), core)
        )
  return found


def gpus(nodes, of, a_process=None):
  """`a_process` devices a process, by default all of a node."""
  kind = 'NVIDIA H100 80GB HBM3'
  a_process = a_process or of
  return [
    Device(i, 'gpu', kind, i // a_process, i // of) for i in range(nodes * of)
  ]


MACHINES = {
  'v5e 1x1': tpu('TPU v5 lite', (1, 1, 1)),
  'v5e 2x2': tpu('TPU v5 lite', (2, 2, 1)),
  'v5e 2x4': tpu('TPU v5 lite', (2, 4, 1)),
  'v5e 4x4': tpu('TPU v5 lite', (4, 4, 1)),
  'v5e 16x16': tpu('TPU v5 lite', (16, 16, 1)),
  'v5e 8x8 x 2': tpu('TPU v5 lite', (8, 8, 1), slices=2),
  'v5p 2x2x2': tpu('TPU v5', (2, 2, 2)),
  'v5p 4x4x4': tpu('TPU v5', (4, 4, 4)),
  'v5p 4x4x8 x 2': tpu('TPU v5', (4, 4, 8), slices=2),
  'v5p 2x2x4 x 3': tpu('TPU v5', (2, 2, 4), slices=3),
  # jax cannot factor 10, so some of these it does not lay out.
  'v5p 4x4x20': tpu('TPU v5', (4, 4, 20)),
  'v6e 2x4': tpu('TPU v6 lite', (2, 4, 1)),
  'v6e 8x8': tpu('TPU v6 lite', (8, 8, 1)),
  'v6e 16x16': tpu('TPU v6 lite', (16, 16, 1)),
  'v6e 16x16 x 2': tpu('TPU v6 lite', (16, 16, 1), slices=2),
  'v4 4x4x8': tpu('TPU v4', (4, 4, 8)),
  'v7x 2x2x1': tpu('TPU7x', (2, 2, 1), cores=2),
  'v7x 4x4x4': tpu('TPU7x', (4, 4, 4), cores=2),
  'h100 1x8': gpus(1, 8),
  'h100 16x8': gpus(16, 8),
  'h100 16x8, a process each': gpus(16, 8, a_process=1),
  # Slices are what NVLink joins, not hosts.
  'gb200 nvl72': gpus(2, 72, a_process=4),
}


def meshes(count):
  """All that a config may ask for: one size of three is -1."""
  divisors = [n for n in range(1, count + 1) if count % n == 0]
  for tensor, sequence in itertools.product(divisors, (1, 2, 3, 4)):
    if tensor > 16 or count % (tensor * sequence):
      continue
    rest = count // (tensor * sequence)
    for data in (n for n in divisors if rest % n == 0):
      sizes = dict(data=data, fsdp=rest // data, tensor=tensor)
      for left in ('data', 'fsdp', 'tensor'):
        yield sizes | {'sequence': sequence, left: -1}


def neighbours(array):
  """[groups of devices that exchange activations in every layer, devices]."""
  data, fsdp, tensor, sequence = array.shape
  return array.reshape(data * fsdp, tensor * sequence)


def fits(array, machine):
  """Whether these groups can lie within slices of this machine."""
  part = len(machine) // len({d.slice_index for d in machine})
  return part % neighbours(array).shape[1] == 0


@pytest.mark.parametrize('name', MACHINES)
def test_every_mesh_of_a_machine_is_built(name):
  machine = MACHINES[name]
  built, refused = 0, []
  for sizes in meshes(len(machine)):
    try:
      mesh = mesh_lib.make_mesh(**sizes, devices=machine)
    except ValueError as e:
      refused.append((sizes, str(e)))
      continue
    built += 1
    asked = {k: n for k, n in sizes.items() if n != -1}
    assert asked.items() <= dict(mesh.shape).items()
    devices = mesh.devices
    counts = collections.Counter(d.id for d in devices.flat)
    assert counts == dict.fromkeys(range(len(machine)), 1)
    if fits(devices, machine):
      for group in neighbours(devices):
        assert len({d.slice_index for d in group}) == 1
  slices = len({d.slice_index for d in machine})
  assert built
  for sizes, message in refused:
    group = math.prod(sizes[n] for n in ('tensor', 'sequence') if sizes[n] > 0)
    assert sizes['tensor'] == -1 or len(machine) // group % slices
    assert machine[0].platform == 'tpu' and '\n' not in message
    assert f'a multiple of {slices}' in message


@pytest.mark.parametrize(
  'name', ['v5e 16x16', 'v5p 4x4x4', 'v6e 16x16', 'v6e 8x8', 'v4 4x4x8']
)
@pytest.mark.parametrize('tensor', [2, 4, 8])
def test_devices_that_exchange_activations_are_neighbours(name, tensor):
  """They fill a cuboid of the torus, so that each sum stays within it."""
  mesh = mesh_lib.make_mesh(
    data=1, fsdp=-1, tensor=tensor, devices=MACHINES[name]
  )
  for group in neighbours(mesh.devices):
    spans = [max(x) - min(x) + 1 for x in zip(*(d.coords for d in group))]
    assert math.prod(spans) == tensor


@pytest.mark.parametrize('name', ['v5p 4x4x8 x 2', 'h100 16x8'])
def test_slices_are_joined_as_jax_joins_them(name):
  machine = MACHINES[name]
  slices = len({d.slice_index for d in machine})
  each = len(machine) // slices
  want = mesh_utils.create_hybrid_device_mesh(
    (1, each // 4, 4, 1),
    (slices, 1, 1, 1),
    machine,
    allow_split_physical_axes=True,
  )
  got = mesh_lib.arrange((slices, each // 4, 4, 1), machine)
  np.testing.assert_array_equal(got, want)


def test_data_takes_the_slow_network_before_fsdp():
  """With data=16 fsdp=8, parameters are gathered within a node."""
  array = mesh_lib.arrange((16, 8, 1, 1), MACHINES['h100 16x8'])
  for row in array[:, :, 0, 0]:
    assert len({d.slice_index for d in row}) == 1
  array = mesh_lib.arrange((2, 64, 1, 1), MACHINES['h100 16x8'])
  for half in array[:, :, 0, 0]:
    assert len({d.slice_index for d in half}) == 8


def test_groups_of_two_nodes_are_built_on_gpus():
  array = mesh_lib.arrange((4, 2, 16, 1), MACHINES['h100 16x8'])
  for group in neighbours(array):
    assert len({d.slice_index for d in group}) == 2


def test_groups_of_two_slices_are_refused_and_the_remedy_works():
  machine = MACHINES['v5p 2x2x4 x 3']
  with pytest.raises(ValueError, match='data=1 x fsdp=4 over 3 slices of 16'):
    mesh_lib.make_mesh(data=1, fsdp=-1, tensor=4, sequence=3, devices=machine)
  mesh_lib.make_mesh(data=1, fsdp=12, tensor=4, devices=machine)


def test_slices_of_two_sizes_are_refused():
  machine = [*tpu('TPU v5', (2, 2, 1)), *tpu('TPU v5', (2, 2, 2))]
  machine = [
    dataclasses.replace(d, id=i, slice_index=int(i >= 4))
    for i, d in enumerate(machine)
  ]
  with pytest.raises(ValueError, match='2 slices of 4 and 8 devices'):
    mesh_lib.make_mesh(data=2, fsdp=-1, tensor=1, devices=machine)


def test_a_part_of_a_slice_is_built():
  """Its devices are no cuboid, which jax refuses."""
  machine = [d for d in MACHINES['v5p 4x4x4'] if d.coords[0] != d.coords[1]]
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=4, devices=machine)
  assert {d.id for d in mesh.devices.flat} == {d.id for d in machine}


@pytest.mark.parametrize(
  'sizes', [dict(data=3, fsdp=1, tensor=1), dict(data=-1, fsdp=-1, tensor=1)]
)
def test_sizes_that_do_not_cover_the_devices(sizes):
  with pytest.raises(ValueError, match='does not cover 4 devices; make the pr'):
    mesh_lib.make_mesh(**sizes)


def test_a_process_without_a_device(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 3)
  with pytest.raises(ValueError, match=r'processes \[1, 2\]; start fewer'):
    mesh_lib.make_mesh(data=1, fsdp=-1, tensor=1)


def test_cpu_devices_stay_in_their_order():
  """So the bits of a run on one machine stay the same."""
  mesh = mesh_lib.make_mesh(data=2, fsdp=1, tensor=2)
  assert list(mesh.devices.flat) == jax.devices()


def test_too_little_memory_has_a_remedy_that_works():
  """Rollouts' weights are whole on every device, unless tensor splits them."""
  network = families.from_config(tiny.LLAMA)
  sizes = engine_sizes.Sizes(4, 4, 4, 4, 0, 4, 4, 8, 24)

  def fit(**mesh):
    mesh = mesh_lib.make_mesh(**mesh)
    model = network.make_model(**partition.pins(mesh))
    own = sizes._replace(shards=mesh_lib.row_shards(mesh))
    reserved = serve.param_bytes(model.specs, mesh, np.dtype('float32'))
    dtype = np.dtype('float32')
    return serve.fit_sizes(own, model, mesh, dtype, dtype, reserved, memory, 4)

  whole = mesh_lib.make_mesh(data=4, fsdp=1, tensor=1)
  memory = serve.param_bytes(network.specs, whole, np.dtype('float32'))
  message = (
    '-0.0 GB are free .* no shorter one fits.* more than 1, such as 2 or'
  )
  for refused in (dict(data=4, fsdp=1), dict(data=1, fsdp=4)):
    with pytest.raises(ValueError, match=message):
      fit(**refused, tensor=1)
  assert fit(data=1, fsdp=1, tensor=4).pages > sizes.table
