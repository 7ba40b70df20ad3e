"""What each process reads of a model, and that it becomes the right shards."""

import json
import os
import pathlib
import subprocess
import sys

import gangs
import jax
import numpy as np
import pytest
import tiny

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import base, families, hf, rows, sharding

# The vocabulary of the tiny model is not divided by four devices.
LLAMA = tiny.LLAMA | dict(vocab_size=64)
MESHES = {
  'fsdp': dict(data=1, fsdp=4, tensor=1),
  'tensor': dict(data=2, fsdp=1, tensor=2),
  'both': dict(data=1, fsdp=2, tensor=2),
  'sequence': dict(data=1, fsdp=2, tensor=1, sequence=2),
  'data': dict(data=4, fsdp=1, tensor=1),
}


def matrices(config, mesh, gathered=False):
  """(shape, stacked, sharding) of each matrix of the model."""
  specs = families.from_config(config).specs
  placed = sharding.param_shardings(specs, mesh, gathered=gathered)
  leaves = jax.tree.leaves(specs, is_leaf=base.is_spec)
  pairs = zip(leaves, jax.tree.leaves(placed))
  matrix = lambda spec: len(spec.shape) - spec.stacked == 2
  return [(s.shape, s.stacked, p) for s, p in pairs if matrix(s)]


@pytest.mark.parametrize('gathered', [False, True])
@pytest.mark.parametrize('name', MESHES)
def test_rows_become_any_shards_bit_for_bit(name, gathered):
  """Signs of zeros and the bits of NaN too: values only move."""
  mesh = mesh_lib.make_mesh(**MESHES[name])
  random = np.random.default_rng(0)
  for shape, stacked, wanted in matrices(LLAMA, mesh, gathered):
    bits = random.integers(0, 1 << 32, shape, np.uint32)
    bits[..., 0], bits[..., 1] = 1 << 31, 0x7FC00123
    whole = bits.view(np.float32)
    way = rows.route(shape, stacked, wanted)
    read = mesh_lib.spread(whole, way.read)
    parts = [s.data.shape for s in read.addressable_shards]
    assert parts == [(*shape[:-2], shape[-2] // 4, shape[-1])] * 4
    got = way.move(read)
    assert got.sharding == wanted
    for shard in got.addressable_shards:
      own = np.asarray(shard.data).view(np.uint32)
      np.testing.assert_array_equal(own, bits[shard.index])


def test_rows_that_are_not_divided_are_read_as_they_are_wanted():
  mesh = mesh_lib.make_mesh(data=1, fsdp=4, tensor=1)
  found = {
    shape: rows.route(shape, stacked, wanted).read == wanted
    for shape, stacked, wanted in matrices(tiny.LLAMA, mesh)
  }
  assert found.pop((43, 32))
  assert found and not any(found.values())


def test_each_of_two_processes_reads_its_share(tmp_path):
  """Two devices each; both hold the file's own bits, over any mesh."""
  model = tiny.write_model(tmp_path / 'model', vocab_size=64)
  at = f'127.0.0.1:{gangs.free_port()}'
  script = pathlib.Path(__file__).parent / 'mesh_loading.py'
  env = tiny.environment(tmp_path / 'cache', devices=2)
  files = [tmp_path / str(i) for i in range(2)]
  started = [
    subprocess.Popen(
      [sys.executable, script, model, at, '2', str(i), file],
      env=env | {'MESHES': json.dumps(MESHES)},
    )
    for i, file in enumerate(files)
  ]
  try:
    assert [p.wait(300) for p in started] == [0, 0]
  finally:
    for process in started:
      process.kill()
  told = [json.loads(file.read_text()) for file in files]
  want = hf.model_digest(str(model))
  assert [t.pop('digest') for t in told] == [[want, 1], [want, 0]]
  size = os.path.getsize(model / 'model.safetensors')
  for name in MESHES:
    for one, other in zip(*(t[name] for t in told)):
      assert one['same'] and other['same'] and one['checked'] > 20
      # Twice only what is small: norms.
      assert one['read'] + other['read'] < 1.1 * size
      assert abs(one['read'] - other['read']) < 0.1 * size
