"""Settings of jax and of the libraries that commands make before they start."""

import os

import jax
import jax.numpy as jnp
from absl import flags, logging

_COMPILE_CACHE = '~/.cache/acereason_jax/compiled'


def keep_compiled() -> None:
  """Keeps compiled programs in the user's cache, unless jax has another."""
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update(
      'jax_compilation_cache_dir', os.path.expanduser(_COMPILE_CACHE)
    )


def use_precision(dtype: str) -> None:
  """Makes float32 mean float32: TPUs would use bfloat16, GPUs TF32."""
  if jnp.dtype(dtype) == jnp.float32:
    jax.config.update('jax_default_matmul_precision', 'highest')


def quiet_libraries() -> None:
  """Shows only warnings, unless --verbosity says otherwise.

  Orbax logs twenty lines for every save, jax one for each backend it lacks.
  """
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
