"""Exports a run's checkpoint as a Hugging Face directory.

    python -m acereason_jax.export --checkpoint=runs/quickstart --out=my_model

A run's folder stands for its newest checkpoint; runs/quickstart/checkpoints/6
is the checkpoint of step 6, while the run keeps it. Tensors get the types they
have in the model the run started from, and its config and tokenizer files are
copied unchanged. Adapters are merged in the run's dtype, as for rollouts.
"""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from acereason_jax import mesh as mesh_lib
from acereason_jax import storage
from acereason_jax.console import command_line, exits, terminal
from acereason_jax.models import base, families, hf, lora, sharding
from acereason_jax.run import weights

FLAGS = command_line.Flags()
FLAGS.string(
  'checkpoint',
  None,
  "A run's folder, or one of its checkpoints.",
  required=True,
)
FLAGS.string('out', None, 'The directory to make.', required=True)


def export(path: str | os.PathLike, out: str) -> int:
  """Writes `out`; returns the step whose parameters it holds.

  Raises:
    ValueError, OSError: one line for the user.
  """
  if storage.is_remote(out):
    raise ValueError(f'{out}: expected a folder on a disk; copy it from there')
  trained = weights.read(path)
  specs = families.read(trained.directory).specs
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=1)
  parts, params = weights.restore(trained, specs, mesh)
  if parts.frozen:
    params = merged(params, parts, jnp.dtype(trained.dtype), mesh)
  hf.export(params, specs, trained.directory, out)
  return trained.step


def merged(
  params: base.Tree,
  parts: lora.Parts,
  dtype: jnp.dtype,
  mesh: jax.sharding.Mesh,
) -> base.Tree:
  """A model with its adapters in its matrices, in `dtype`."""
  placed = sharding.param_shardings(parts.frozen, mesh)
  merge = lambda x: lora.merged(base.cast(x, dtype), scale=parts.scale)
  return jax.jit(merge, out_shardings=placed)(params)


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = command_line.parse(FLAGS, argv, __doc__)
  with exits.one_line_for(ValueError, OSError):
    step = export(args.checkpoint, args.out)
  terminal.say(f'{args.out}: the parameters after step {step}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
