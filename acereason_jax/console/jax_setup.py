"""Settings of jax and other libraries that commands make before they start."""

import os

import jax
import jax.numpy as jnp

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
