"""The parameters that a run's checkpoint holds, to serve or to export.

It is here and not in rollout/, because that folder may not know of runs:
rollout/serve.py takes a function that loads, whatever it loads from.
"""

import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh

from acereason_jax.models import base, embedded, hf, lora, sharding
from acereason_jax.rl import update
from acereason_jax.rollout import serve
from acereason_jax.run import checkpoint


class Trained(NamedTuple):
  """A checkpoint, read without its arrays.

  path: the folder RUN/checkpoints/STEP.
  step: how many batches were trained on.
  directory: the model that the run started from.
  dtype: of compute in the run, by name.
  lora: the arguments of `lora.split` beside the specs.
  model_digest: of the directory's files, if adapters are trained beside them;
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
  place = pathlib.Path(os.path.abspath(path))
  if is_step(place):
    return not (place / 'config.json').exists()
  return (place / 'checkpoints').is_dir() and not any(
    place.glob('*.safetensors')
  )


def is_step(place: pathlib.Path) -> bool:
  """Whether this is called like one checkpoint of a run."""
  return place.name.isdigit() and place.parent.name == 'checkpoints'


def find(model: str) -> serve.Weights:
  """The weights of a model directory, an embedded model's name, a run's folder
  (its newest checkpoint) or RUN/checkpoints/STEP.

  Raises:
    ValueError, OSError: one line.
  """
  if model not in embedded.EMBEDDED and is_run(model):
    return of_run(model)
  return serve.from_directory(model)


def of_run(path: str) -> serve.Weights:
  """The weights of a run's checkpoint, as the run's own rollouts read them.

  The newest checkpoint is looked up once: a run that goes on changes nothing.

  Raises:
    ValueError, OSError: one line.
  """
  trained = read(path)

  def load(specs: base.Tree, mesh: Mesh, dtype: jnp.dtype) -> base.Tree:
    return load_trained(trained, specs, mesh, dtype)

  def digests() -> dict[str, str]:
    model = hf.model_digest(trained.directory)
    return dict(model=model, checkpoint=checkpoint.stamp(trained.path))

  return serve.Weights(trained.directory, load, digests)


def read(path: str | os.PathLike) -> Trained:
  """Raises ValueError or OSError, one line: no checkpoint, or a damaged one."""
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
  place = pathlib.Path(os.path.abspath(path))
  if not is_step(place):
    place = place / 'checkpoints' / str(step)
  return Trained(
    path=str(place),
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

  The checkpoint is read as float32 over the fsdp axis of the mesh; a larger
  one takes less of each device until the parameters are in `dtype`.
  """
  parts, weights = restore(trained, specs, mesh)
  # Adapters are merged as the run does it, in its own dtype.
  merging = jnp.dtype(trained.dtype) if parts.frozen else dtype
  to_rollouts, _ = serve.rollout_params(specs, parts, mesh, merging)
  params = to_rollouts(weights)
  return params if merging == dtype else update.cast(params, dtype)


def restore(
  trained: Trained, specs: base.Tree, mesh: Mesh
) -> tuple[lora.Parts, base.Tree]:
  """What of the parameters was trained, and all of them, spread over fsdp.

  What was trained is float32. The rest, beside adapters, is in the run's dtype.

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
