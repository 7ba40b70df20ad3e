"""token_logp on meshes of eight devices, of which other tests have four.

    python mesh_logprobs.py DIRECTORY

writes what `test_logprobs` compares: for each case an .npz of values and
gradients, and the optimised HLO of the largest.
"""

import os
import pathlib
import sys

import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags.flags(devices=8)

import jax
import numpy as np
import test_logprobs

from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import logprobs
from acereason_jax.models import base, sharding


def step(case):
  """(jitted value_and_grads, its arguments where they belong)."""
  mesh = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, case.mesh)))
  spec = base.ParamSpec(
    (case.V, case.D), ('vocab', 'embed'), None, '', base.TABLE
  )
  placed = sharding.param_shardings(spec, mesh)
  rows = mesh_lib.packed(mesh)
  everything = test_logprobs.inputs(case.B, case.T, case.D, case.V)
  places = rows, placed, rows, rows

  def run(x, w, target, cotangent):
    if case.entropy_gradient:
      return test_logprobs.value_and_both_grads(
        *(x, w, target, cotangent, test_logprobs.slope_of(everything[-1])),
        *(test_logprobs.TEMPERATURE, case.chunk, placed),
      )
    fn = lambda *args: logprobs.token_logp(
      *args, test_logprobs.TEMPERATURE, case.chunk, placed
    )
    return test_logprobs.value_and_grads(fn, x, w, target, cotangent)

  run = jax.jit(run, out_shardings=(rows, rows, rows, placed))
  return run, jax.tree.map(jax.device_put, everything, places)


def main(directory: pathlib.Path) -> None:
  for case in test_logprobs.MESH_CASES:
    run, arguments = step(case)
    np.savez(directory / f'{case.name}.npz', *run(*arguments))
  run, arguments = step(test_logprobs.LARGE)
  text = run.lower(*arguments).compile().as_text()
  (directory / 'large.hlo').write_text(text)


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
