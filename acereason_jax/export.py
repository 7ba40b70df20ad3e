"""A run's checkpoint as a Hugging Face directory.

    python -m acereason_jax.export --checkpoint=runs/quickstart --out=my_model

A run's folder is its newest checkpoint; runs/quickstart/checkpoints/6 is that
of step 6, while the run keeps it. Tensors get the types they have in the model
the run started from, and its config and tokenizer files are copied as they are.
Adapters are merged as for rollouts: what is written is what the run's dtype
made of them.
"""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from acereason_jax import mesh as mesh_lib
from acereason_jax.console import command_line, exits, terminal
from acereason_jax.models import base, embedded, families, hf, lora, sharding
from acereason_jax.rl import update
from acereason_jax.run import checkpoint

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
  meta = checkpoint.load_meta(path)
  if meta is None:
    raise FileNotFoundError(
      f'{path}: holds no checkpoint; give the folder of a run that has saved '
      'one, or RUN/checkpoints/STEP'
    )
  match meta:
    case {
      'config': {
        'model': str(),
        'dtype': 'float32' | 'bfloat16',
        'lora': {'rank': int(), 'alpha': int() | float(), 'on': str()},
      },
      'data': dict(),
    }:
      run = meta['config']
    case _:
      raise ValueError(
        f'{path}: its meta is not that of a run; give RUN/checkpoints/STEP of '
        'one that is whole'
      )
  directory = embedded.resolve_model(run['model'])
  specs = families.read(directory).specs
  parts = lora.split(specs, **run['lora'])
  mesh = mesh_lib.make_mesh(data=1, fsdp=-1, tensor=1)
  abstract = sharding.abstract(
    parts.trained, sharding.param_shardings(parts.trained, mesh), jnp.float32
  )
  restored = checkpoint.load(path, {'params': abstract})
  params = restored.state['params']
  if parts.frozen:
    if restored.meta['data'].get('model') != hf.model_digest(directory):
      raise ValueError(
        f'{directory}: not the model that the adapters of {path} were '
        'trained beside; put that back'
      )
    params = merged(params, parts, jnp.dtype(run['dtype']), mesh, directory)
  hf.export(params, specs, directory, out)
  return restored.step


def merged(
  adapters: base.Tree,
  parts: lora.Parts,
  dtype: jnp.dtype,
  mesh: jax.sharding.Mesh,
  directory: str,
) -> base.Tree:
  """The model of `directory` with the adapters in its matrices."""
  placed = sharding.param_shardings(parts.frozen, mesh)
  frozen = hf.load(directory, parts.frozen, dtype=dtype, shardings=placed)
  merge = lambda frozen, adapters: lora.merged(
    base.overlaid(frozen, update.cast(adapters, dtype)), scale=parts.scale
  )
  return jax.jit(merge, out_shardings=placed)(frozen, adapters)


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = command_line.parse(FLAGS, argv, __doc__)
  with exits.one_line_for(ValueError, OSError):
    step = export(args.checkpoint, args.out)
  terminal.say(f'{args.out}: the parameters after step {step}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
