"""A run's newest checkpoint as a Hugging Face directory.

    python -m acereason_jax.export runs/quickstart my_model

Tensors get the types they have in the model the run started from, and its
config and tokenizer files are copied as they are.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
from absl import app, logging

from acereason_jax import checkpoint, sharding
from acereason_jax.models import base, decoder, embedded, hf


def export(workdir: pathlib.Path, out: str) -> int:
  """Writes `out`; returns the step whose parameters it holds.

  Raises:
    ValueError, OSError: one line for the user.
  """
  file = workdir / 'config.json'
  if not file.exists():
    raise FileNotFoundError(f'{file}: not found; give the folder of a run')
  directory = embedded.resolve_model(json.loads(file.read_text())['model'])
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  specs = decoder.param_specs(config)
  mesh = sharding.make_mesh(data=1, fsdp=-1, tensor=1)
  abstract = jax.tree.map(
    lambda spec, place: jax.ShapeDtypeStruct(
      spec.shape, jnp.float32, sharding=place
    ),
    specs,
    sharding.param_shardings(specs, mesh),
    is_leaf=base.is_spec,
  )
  restored = checkpoint.load(workdir, {'params': abstract})
  if restored is None:
    raise FileNotFoundError(
      f'{workdir}/checkpoints: holds no checkpoint; let the run save one'
    )
  hf.export(restored.state['params'], specs, directory, out)
  return restored.step


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
