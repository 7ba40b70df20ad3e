"""Settings of jax and other libraries that commands make before they start."""

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator

import jax
import jax.monitoring
import jax.numpy as jnp

from acereason_jax import machines
from acereason_jax.console import terminal

_COMPILE_CACHE = '~/.cache/acereason_jax/compiled'
# jax tells what it traced, lowered and compiled, or read from its cache.
_COMPILES = '/jax/core/compile/'


def keep_compiled() -> None:
  """Keeps compiled programs in the user's cache, unless jax has another."""
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update(
      'jax_compilation_cache_dir', os.path.expanduser(_COMPILE_CACHE)
    )


def use_cpu() -> None:
  """Makes jax use the CPU, whatever else is here; call it before jax starts."""
  jax.config.update('jax_platforms', 'cpu')


def check_devices() -> None:
  """Raises ValueError, one line, if jax finds none of the devices asked for."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as e:
    words = ' '.join(str(e).split())[:200] or 'no such device'
    raise ValueError(
      f'JAX_PLATFORMS={jax.config.jax_platforms or ""}: jax cannot use such a '
      f'device here ({words}); install the extra for it (tpu, cuda12 or '
      'cuda13), look at its driver, or give another JAX_PLATFORMS'
    ) from e


def tell_flags() -> None:
  """A line if this run lacks flags that launched runs start with.

  XLA and libtpu read them when jax starts, so it is too late to set them.
  """
  kind = machines.kind_of(jax.devices()[0].device_kind)
  missing = kind and machines.missing_flags(kind, os.environ)
  if missing:
    terminal.say(
      f'without the flags of {kind.name} machines, which launch/xm_launch.py '
      f'sets: {shlex.join(missing)}'
    )


def use_precision(dtype: str) -> None:
  """Makes float32 mean float32: TPUs would use bfloat16, GPUs TF32."""
  if jnp.dtype(dtype) == jnp.float32:
    jax.config.update('jax_default_matmul_precision', 'highest')


@contextlib.contextmanager
def told_of_compiles(call: Callable[[float], None]) -> Iterator[None]:
  """Inside, `call` gets the seconds of each part of a compile, as it ends.

  A part may be inside another, and in any thread.
  """

  def listen(event: str, seconds: float, **_) -> None:
    if event.startswith(_COMPILES):
      call(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
