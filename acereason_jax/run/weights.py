"""The parameters that a run's checkpoint holds, to serve or to export.

This is not in rollout/, because that folder may not know about runs:
rollout/serve.py takes a function that loads weights from any source.
"""

import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh

from acereason_jax import storage
from acereason_jax.models import base, embedded, hf, lora, sharding
from acereason_jax.rollout import serve
from acereason_jax.run import checkpoint


class Trained(NamedTuple):
  """A checkpoint, read without its arrays.

  path: folder RUN/checkpoints/STEP.
  step: number of batches that were trained on.
  directory: model that the run started from.
  dtype: compute dtype of the run, by name.
  lora: arguments of `lora.split` except the specs.
  model_digest: digest of the directory's files if only adapters are trained;
    else None.
  """

  path: str
  step: int
  directory: str
  dtype: str
  lora: dict[str, Any]
  model_digest: str | None


def is_run(path: str) -> bool:
  """Whether this is a run's folder, or one of its checkpoints."""
  if storage.is_remote(path):  # Only runs are read from there.
    return True
  place = pathlib.Path(path)
  if checkpoint.split(path)[1] is not None:
    return not (place / 'config.json').exists()
  return (place / 'checkpoints').is_dir() and not any(
    place.glob('*.safetensors')
  )


def find(model: str) -> serve.Weights:
  """The weights that a name or a path stands for.

  `model` is a model directory, an embedded model's name, a run's folder (its
  newest checkpoint) or RUN/checkpoints/STEP.

  Raises:
    ValueError, OSError: one line.
  """
  if model not in embedded.EMBEDDED and is_run(model):
    return of_run(model)
  return serve.from_directory(model)


def of_run(path: str) -> serve.Weights:
  """The weights of a run's checkpoint, as the run's own rollouts read them.

  The newest checkpoint is looked up once, so a run in progress changes nothing.

  Raises:
    ValueError, OSError: one line.
  """
  trained = read(path)

  def load(specs: base.Tree, mesh: Mesh, dtype: jnp.dtype) -> base.Tree:
    return load_trained(trained, specs, mesh, dtype)

  def digests() -> dict[str, str]:
    model = hf.model_digest(trained.directory)
    return dict(model=model, checkpoint=checkpoint.stamp(trained.path))

  return serve.Weights(trained.directory, load, digests, trained.step)


def read(path: str | os.PathLike) -> Trained:
  """Raises ValueError or OSError, one line, if there is no valid checkpoint."""
  meta, progress = checkpoint.load_meta(path), checkpoint.load_progress(path)
  if meta is None or progress is None:
    raise FileNotFoundError(
      f'{path}: holds no checkpoint; give the folder of a run that has saved '
      'one, or RUN/checkpoints/STEP'
    )
  match meta, progress:
    case (
      {
        'config': {
          'model': str(model),
          'dtype': 'float32' | 'bfloat16' as dtype,
          'lora': {'rank': int(), 'alpha': int() | float(), 'on': str()} as own,
        },
        'data': dict(data),
      },
      {'step': int(step)},
    ):
      pass
    case _:
      raise ValueError(
        f'{path}: its meta is not that of a run; give RUN/checkpoints/STEP of '
        'one that is whole'
      )
  root, _ = checkpoint.split(path)
  return Trained(
    path=storage.join(root, 'checkpoints', str(step)),
    step=step,
    directory=embedded.resolve_model(model),
    dtype=dtype,
    lora=own,
    model_digest=data.get('model'),
  )


def load_trained(
  trained: Trained, specs: base.Tree, mesh: Mesh, dtype: jnp.dtype
) -> base.Tree:
  """All parameters in `dtype`, placed for rollouts; adapters are merged.

  The checkpoint is read as float32, sharded over the fsdp axis of the mesh. A
  larger axis takes less memory of each device until the parameters are in
  `dtype`.
  """
  parts, weights = restore(trained, specs, mesh)
  # Adapters are merged in the run's dtype, as the run merges them.
  merging = jnp.dtype(trained.dtype) if parts.frozen else dtype
  to_rollouts, _ = serve.rollout_params(
    specs, parts, mesh, merging, trained=mesh, stacked=True
  )
  params = to_rollouts(weights)
  return params if merging == dtype else base.cast(params, dtype)


def restore(
  trained: Trained, specs: base.Tree, mesh: Mesh
) -> tuple[lora.Parts, base.Tree]:
  """(the trained parameters, all parameters), both sharded over fsdp.

  Trained parameters are float32. If adapters are trained, the rest is in the
  run's dtype.

  Raises:
    ValueError, OSError: one line.
  """
  parts = lora.split(specs, **trained.lora)
  placed = sharding.param_shardings(parts.trained, mesh)
  abstract = sharding.abstract(parts.trained, placed, jnp.float32)
  restored = checkpoint.load(trained.path, {'params': abstract})
  if restored is None:
    raise FileNotFoundError(f'{trained.path}: the run has removed it meanwhile')
  params = restored.state['params']
  if not parts.frozen:
    return parts, params
  if trained.model_digest != hf.model_digest(trained.directory):
    raise ValueError(
      f'{trained.directory}: not the model that the adapters of '
      f'{trained.path} were trained beside; put that back'
    )
  frozen = hf.load(
    trained.directory,
    parts.frozen,
    dtype=jnp.dtype(trained.dtype),
    shardings=sharding.param_shardings(parts.frozen, mesh),
  )
  return parts, base.overlaid(frozen, params)
