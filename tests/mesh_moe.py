"""Experts on meshes of eight devices.

    python mesh_moe.py FILE

writes what `test_qwen3_moe` compares, by mesh: the gradient of its batch, and
what `extend` makes of a few tokens.
"""

import os
import sys

import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags.flags(devices=8)

import functools

import jax
import numpy as np
import test_qwen3_moe

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.models import qwen3_moe, sharding
from acereason_jax.rl import gradients, packing

MESHES = {
  'fsdp': dict(data=1, fsdp=8, tensor=1),
  'all': dict(data=1, fsdp=2, tensor=2, sequence=2),
  'groups': dict(data=2, fsdp=2, tensor=2),
}


def main(file: str) -> None:
  found = {}
  for name, sizes in MESHES.items():
    # Both ways to compute experts.
    qwen3_moe.MANY = 1 if name == 'fsdp' else 1 << 20
    mesh = mesh_lib.make_mesh(**sizes)
    model = qwen3_moe.make_model(test_qwen3_moe.CONFIG, **partition.pins(mesh))
    placed = sharding.param_shardings(model.specs, mesh)
    params = jax.tree.map(jax.device_put, test_qwen3_moe.PARAMS, placed)
    made = test_qwen3_moe.updater(model, placed)
    spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
    (batch,) = test_qwen3_moe.batches(rows=8)
    batch = packing.PackedBatch(*map(spread, batch))
    sums, _ = made.add(
      params, made.zeros(params), batch, test_qwen3_moe.test_update.KNOBS
    )
    groups = sizes['data'] > 1
    grads = gradients.total(sums).grads if groups else sums.grads
    for n, x in test_qwen3_moe.flat(grads).items():
      found[f'{name}.grads.{n}'] = x
    found[f'{name}.placed'] = str(
      tuple(sums.grads['layers']['gate'].sharding.spec)[groups:]
    )
    # As many tokens as devices, and a number that they do not divide.
    for count in (8, 3):
      found[f'{name}.extend.{count}'] = test_qwen3_moe.extended(
        model, params, count
      )
  np.savez(file, **found)


if __name__ == '__main__':
  main(sys.argv[1])
