"""The table of machines: what a name means, and that its flags exist."""

import itertools
import os
import subprocess
import sys

import jax
import pytest

from acereason_jax import machines, mesh


@pytest.mark.parametrize(
  ('text', 'slices', 'hosts', 'chips', 'devices'),
  [
    ('cpu:1', 1, 1, 1, 1),
    ('cpu:2', 1, 2, 1, 2),
    ('v5e:1x1', 1, 1, 1, 1),
    ('v5e:2x4', 1, 2, 4, 8),
    ('v5e:16x16', 1, 64, 4, 256),
    ('v5p:4x4x4', 1, 16, 4, 64),
    ('v5p:4x4x8*2', 2, 32, 4, 256),
    ('v6e:8x8', 1, 16, 4, 64),
    # A chip of these is two devices.
    ('tpu7x:2x2x1', 1, 1, 4, 8),
    ('tpu7x:4x4x4*3', 3, 16, 4, 384),
    ('h100:8*4', 1, 4, 8, 32),
    ('h200:1', 1, 1, 1, 1),
  ],
)
def test_what_a_name_means(text, slices, hosts, chips, devices):
  got = machines.hardware(text)
  assert (got.slices, got.hosts, got.chips) == (slices, hosts, chips)
  assert got.devices == devices
  assert got.processes == slices * hosts


@pytest.mark.parametrize(
  'text',
  [
    *('', 'v5p', 'v9:2x2', 'V5P:4x4x4', 'v5p:', 'v5p:4x4x4*', 'v5p:4x4x4*0'),
    *('v5p:4x4', 'v5p:4x4x5', 'v5p:8x4x4', 'v5p:3x3x3', 'v5p:0x4x4'),
    *('v5p:16x32x32', 'v5e:4x4x4', 'v5e:3x3', 'v6e:16x32', 'tpu7x:1x1x1'),
    *('h100:16', 'h100:3', 'h100:8x2', 'h100:8*9999', 'cpu:0', 'cpu:2*2'),
    *('cpu:2x2', ' cpu:2', 'cpu:2\n', 'cpu:-1', 'cpu:99999999999999999999'),
    'v5p:4x4x99999999999999999999999999999999',
  ],
)
def test_what_does_not_exist(text):
  with pytest.raises(ValueError, match=r'^--hardware=') as e:
    machines.hardware(text)
  assert 'expected' in str(e.value) or ' has 1, 2' in str(e.value)


def test_a_mesh_covers_what_jax_makes_one_of():
  """mesh_sizes accepts what `make_mesh` does, with the same sizes."""
  count = jax.device_count()
  accepted = 0
  for sizes in itertools.product((-1, 0, 1, 2, 3, 4), repeat=4):
    given = dict(zip(mesh.AXES, sizes))
    try:
      made = dict(mesh.make_mesh(**given).shape)
    except ValueError:
      with pytest.raises(ValueError, match=f'does not cover {count} devices'):
        machines.mesh_sizes(given, count)
    else:
      accepted += 1
      assert machines.mesh_sizes(given, count) == made
  assert accepted > 10


def test_slices_share_data_and_fsdp_alone():
  sizes = dict(data=1, fsdp=-1, tensor=2, sequence=1)
  assert machines.mesh_sizes(sizes, 128, 2)['fsdp'] == 64
  with pytest.raises(ValueError, match='data=1 x fsdp=1 over 2 slices'):
    machines.mesh_sizes(sizes | dict(tensor=-1, fsdp=1), 128, 2)


def test_every_kind_is_whole():
  for kind in machines.KINDS.values():
    if kind.platform == 'cpu':
      continue
    sizes = kind.memory, kind.bandwidth, kind.flops, kind.sends, kind.network
    assert all(size > 0 for size in sizes), kind.name
    assert kind.label and kind.source
    assert bool(kind.flat) + bool(kind.cubes) == (kind.platform == 'tpu')


def starts_with(**variables):
  code = 'import jax; jax.devices("cpu")'
  return subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | variables,
    capture_output=True,
    text=True,
  )


def test_xla_knows_the_flags_for_gpus():
  """XLA ends a process that gives it a flag of another name."""
  flags = machines.KINDS['h100'].flags['XLA_FLAGS']
  done = starts_with(XLA_FLAGS=flags)
  assert done.returncode == 0, done.stderr
  for flag in flags.split():
    done = starts_with(XLA_FLAGS=flag.replace('=', '_no_such='))
    assert done.returncode != 0
    assert 'Unknown flag' in done.stderr


# A product of rows with a matrix that is sharded, as weights are.
COMPILES = """
import sys
import jax, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
found = topologies.get_topology_desc(platform='tpu', topology_name=sys.argv[1])
mesh = Mesh(np.array(found.devices).reshape(-1), ('x',))
rows, columns = (NamedSharding(mesh, P(*s)) for s in (('x',), (None, 'x')))
multiply = jax.jit(lambda a, b: (a @ b).sum(), in_shardings=(rows, columns))
x = jax.ShapeDtypeStruct((1024, 1024), 'bfloat16')
multiply.lower(x, x).compile()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  'text', ['v5e:2x2', 'v5p:2x2x2', 'v6e:4x4', 'tpu7x:2x2x1']
)
def test_libtpu_compiles_with_the_flags_for_tpus(text):
  """It refuses some on some TPUs; it comes with the extra [plan] or [tpu]."""
  pytest.importorskip('libtpu')

  def compiled(flags):
    return subprocess.run(
      [sys.executable, '-c', COMPILES, text],
      env=os.environ
      | dict(
        JAX_PLATFORMS='cpu',
        LIBTPU_INIT_ARGS=flags,
        ALLOW_MULTIPLE_LIBTPU_LOAD='1',
      ),
      capture_output=True,
      text=True,
    )

  flags = machines.hardware(text).kind.flags.get('LIBTPU_INIT_ARGS', '')
  done = compiled(flags)
  assert done.returncode == 0, done.stderr
  done = compiled(f'{flags} --xla_tpu_no_such=true')
  assert done.returncode != 0 and 'xla_tpu_no_such' in done.stderr


@pytest.mark.parametrize(
  'environment, missing',
  [
    ({}, ['XLA_FLAGS=--a=1 --b=2', 'SHARE=0.9']),
    # Another value is the user's own.
    ({'XLA_FLAGS': '--mine --a=0', 'SHARE': '0.5'}, ['XLA_FLAGS=--b=2']),
    ({'XLA_FLAGS': '--b=2 --a=1', 'SHARE': '0.9'}, []),
  ],
)
def test_flags_that_a_run_lacks(environment, missing):
  flags = {'XLA_FLAGS': '--a=1 --b=2', 'SHARE': '0.9'}
  kind = machines.KINDS['h100']._replace(flags=flags)
  assert machines.missing_flags(kind, environment) == missing
  assert machines.missing_flags(machines.KINDS['cpu'], {}) == []
