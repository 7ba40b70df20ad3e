"""What the commands share: how they end, and jax as they want it."""

import contextlib
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from absl import flags, logging

from acereason_jax.console import oserrors
from acereason_jax.run import metrics

# The exit status of a command that a signal stopped and that can go on.
STOPPED = os.EX_TEMPFAIL
_COMPILE_CACHE = '~/.cache/acereason_jax/compiled'


@contextlib.contextmanager
def mendable(*kinds: type[Exception], where: str = '') -> Iterator[None]:
  """Ends the run with one line for errors of these kinds.

  Wraps the reading of what a user gave, and known ends of a run; anything
  else is a bug, which keeps its traceback.
  """
  try:
    yield
  except kinds as e:
    logging.debug('where the error below comes from', exc_info=True)
    said = oserrors.explained(e) if isinstance(e, OSError) else e
    text = metrics.printable(' '.join(f'{where}{said}'.split()))
    raise SystemExit(f'error: {text}') from e


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
