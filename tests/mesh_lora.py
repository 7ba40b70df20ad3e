"""Adapters on a mesh of eight devices, of which other tests have four.

    python mesh_lora.py FILE

writes what `test_lora` compares: the gradient of its batch, where it lies, how
adapters are drawn, and the merged model as rollouts read it.
"""

import os
import sys

import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags.flags(devices=8)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import test_lora
import test_update

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.models import base, decoder, lora, sharding
from acereason_jax.rl import gradients, packing, update
from acereason_jax.rollout import serve


def main(file: str) -> None:
  parts = test_lora.split()
  mesh = mesh_lib.make_mesh(data=2, fsdp=2, tensor=2)
  placed, rest = (sharding.param_shardings(specs, mesh) for specs in parts[:2])
  adapters, frozen = map(jax.device_put, test_lora.rough(parts), (placed, rest))
  made = update.make_update(
    decoder.make_model(
      test_update.CONFIG,
      **partition.pins(mesh),
      layer_weights=functools.partial(lora.merged_layer, scale=parts.scale),
    ),
    test_update.ON_POLICY,
    optax.sgd(1.0),
    vocab_chunk=40,
    dtype=jnp.float32,
    param_shardings=placed,
    frozen_shardings=rest,
  )
  weights, sums = base.overlaid(frozen, adapters), made.zeros(adapters)
  spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
  for batch in test_update.alone():
    sums, _ = made.add(
      weights,
      sums,
      packing.PackedBatch(*map(spread, batch)),
      test_update.KNOBS,
    )
  read, _ = serve.rollout_params(
    test_update.MODEL.specs, parts, mesh, jnp.float32, trained=mesh
  )
  draw = functools.partial(base.init_params, parts.trained)
  found = dict(
    grads=gradients.total(sums).grads['layers'],
    placed=jax.tree.map(
      lambda x: str(tuple(x.sharding.spec)[1:]), sums.grads['layers']
    ),
    drawn=jax.jit(draw, out_shardings=placed)(jax.random.key(5))['layers'],
    merged=read(weights)['layers'],
  )
  np.savez(
    file,
    **{f'{k}.{n}': x for k, tree in found.items() for n, x in tree.items()},
  )


if __name__ == '__main__':
  main(sys.argv[1])
