"""A run's checkpoint as a Hugging Face directory.

    python -m acereason_jax.export --checkpoint=runs/quickstart --out=my_model

A run's folder is its newest checkpoint; runs/quickstart/checkpoints/6 is that
of step 6, while the run keeps it. Tensors get the types they have in the model
the run started from, and its config and tokenizer files are copied as they are.
Adapters are merged as for rollouts: what is written is what the run's dtype
made of them.
"""

import os

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from acereason_jax import checkpoint, cli, sharding
from acereason_jax.models import base, decoder, embedded, hf, lora
from acereason_jax.rl import update

CHECKPOINT = flags.DEFINE_string(
  'checkpoint', None, "A run's folder, or one of its checkpoints."
)
OUT = flags.DEFINE_string('out', None, 'The directory to make.')


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
  run = meta['config']
  directory = embedded.resolve_model(run['model'])
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  specs = decoder.param_specs(config)
  parts = lora.split(specs, **run['lora'])
  mesh = sharding.make_mesh(data=1, fsdp=-1, tensor=1)
  abstract = sharding.abstract(
    parts.trained, sharding.param_shardings(parts.trained, mesh), jnp.float32
  )
  restored = checkpoint.load(path, {'params': abstract})
  params = restored.state['params']
  if parts.frozen:
    if restored.meta['data']['model'] != hf.model_digest(directory):
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


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  logging.set_verbosity(logging.ERROR)
  with cli.mendable(ValueError, OSError):
    step = export(CHECKPOINT.value, OUT.value)
  print(f'{OUT.value}: the parameters after step {step}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'out'])
  app.run(main)
