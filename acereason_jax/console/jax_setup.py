"""What the commands set in jax and in the libraries before they start."""

import os

import jax
import jax.numpy as jnp
from absl import flags, logging

_COMPILE_CACHE = '~/.cache/acereason_jax/compiled'


def keep_compiled() -> None:
  """Compiled programs are kept in the user's cache, unless jax was told."""
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update(
      'jax_compilation_cache_dir', os.path.expanduser(_COMPILE_CACHE)
    )


def use_precision(dtype: str) -> None:
  """float32 is float32: TPUs would multiply in bfloat16, GPUs in TF32."""
  if jnp.dtype(dtype) == jnp.float32:
    jax.config.update('jax_default_matmul_precision', 'highest')


def quiet_libraries() -> None:
  """Warnings alone, unless --verbosity says otherwise.

  Orbax tells every save in twenty lines, jax of each backend it lacks.
  """
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
