"""A process of several that load one model; see test_hf.

    python mesh_loading.py MODEL COORDINATOR PROCESSES PROCESS FILE

writes for each mesh whether this process's shards hold the file's own bits, and
how many bytes of the file it read; then the model's digest, and how often this
process hashed the files for it.
"""

import json
import os
import pathlib
import sys

import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags.flags(devices=2)

import jax
import numpy as np
import safetensors.numpy

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import families, hf, sharding, tensorfiles
from acereason_jax.run import network


class Counted:
  """A view of a tensor that counts the bytes of what is taken from it."""

  read = 0

  def __init__(self, array: np.ndarray):
    self._array = array

  def __getitem__(self, index):
    part = self._array[index]
    Counted.read += part.nbytes
    return part


def check(model: str, mesh: jax.sharding.Mesh, gathered: bool) -> dict:
  specs = families.read(model).specs
  placed = sharding.param_shardings(specs, mesh, gathered=gathered)
  Counted.read = 0
  params = hf.load(model, specs, dtype=np.float32, shardings=placed)
  read = Counted.read
  want = safetensors.numpy.load_file(pathlib.Path(model) / 'model.safetensors')
  same = []

  def compare(spec, x, sharding):
    whole = np.empty(spec.shape, np.float32)
    for index in np.ndindex(spec.shape[: spec.stacked]):
      whole[index] = want[spec.name.format(*index)]
    same.append(x.sharding == sharding)
    for shard in x.addressable_shards:
      got = np.asarray(shard.data)
      same.append(got.tobytes() == whole[shard.index].tobytes())

  jax.tree.map(
    compare, specs, params, placed, is_leaf=lambda x: hasattr(x, 'stacked')
  )
  return dict(same=all(same), read=read, checked=len(same))


def main(model: str, at: str, count: str, index: str, file: str) -> None:
  jax.distributed.initialize(at, int(count), int(index))
  view, read_into = tensorfiles.viewer, tensorfiles._read_into
  tensorfiles.viewer = lambda tensors: lambda name: Counted(view(tensors)(name))

  def counted(file, offset, raw):
    Counted.read += raw.nbytes
    read_into(file, offset, raw)

  tensorfiles._read_into = counted
  found = {}
  for name, sizes in json.loads(os.environ['MESHES']).items():
    mesh = mesh_lib.make_mesh(**sizes)
    found[name] = [check(model, mesh, gathered) for gathered in (False, True)]
  digest, hashed = hf.digest, []
  hf.digest = lambda paths: hashed.append(paths) or digest(paths)
  found['digest'] = [network.model_digest(model), len(hashed)]
  pathlib.Path(file).write_text(json.dumps(found))


if __name__ == '__main__':
  main(*sys.argv[1:])
