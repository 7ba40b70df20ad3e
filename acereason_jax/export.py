"""A run's newest checkpoint as a Hugging Face directory.

    python -m acereason_jax.export runs/quickstart my_model

Tensors get the types they have in the model the run started from, and its
config and tokenizer files are copied as they are. Adapters are merged as for
rollouts: what is written is what the run's dtype made of them.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
from absl import app, logging

from acereason_jax import checkpoint, sharding
from acereason_jax.models import base, decoder, embedded, hf, lora
from acereason_jax.rl import update


def export(workdir: pathlib.Path, out: str) -> int:
  """Writes `out`; returns the step whose parameters it holds.

  Raises:
    ValueError, OSError: one line for the user.
  """
  file = workdir / 'config.json'
  if not file.exists():
    raise FileNotFoundError(f'{file}: not found; give the folder of a run')
  run = json.loads(file.read_text())
  directory = embedded.resolve_model(run['model'])
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  specs = decoder.param_specs(config)
  parts = lora.split(specs, **run['lora'])
  mesh = sharding.make_mesh(data=1, fsdp=-1, tensor=1)
  abstract = sharding.abstract(
    parts.trained, sharding.param_shardings(parts.trained, mesh), jnp.float32
  )
  restored = checkpoint.load(workdir, {'params': abstract})
  if restored is None:
    raise FileNotFoundError(
      f'{workdir}/checkpoints: holds no checkpoint; let the run save one'
    )
  params = restored.state['params']
  if parts.frozen:
    if restored.meta['data']['model'] != hf.model_digest(directory):
      raise ValueError(
        f'{directory}: not the model that the adapters of {workdir} were '
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
  if len(argv) != 3:
    raise app.UsageError("give a run's folder and the directory to make")
  logging.set_verbosity(logging.ERROR)
  try:
    step = export(pathlib.Path(argv[1]), argv[2])
  except (ValueError, OSError) as e:
    raise SystemExit(f'error: {e}') from e
  print(f'{argv[2]}: the parameters after step {step}')


if __name__ == '__main__':
  app.run(main)
