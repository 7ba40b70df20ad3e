"""Private or deprecated modules of other packages that the kernels use.

tokamax is pinned to the newest version that each Python has; the bounds of the
others are in setup.py. A module is imported only where it is needed: a CPU
needs none, and a deprecated module warns. A test fails if they have moved.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import types
import warnings

# 0.0.13 and newer need Python 3.12.
NEW = sys.version_info >= (3, 12)
TOKAMAX = 'tokamax==0.0.17' if NEW else 'tokamax==0.0.12'

# Modules of jax, deprecated in 0.12 in favour of tokamax's.
SPLASH = 'jax.experimental.pallas.ops.tpu.splash_attention'
TRITON = 'jax.experimental.pallas.ops.gpu.attention'
# Modules of tokamax, private.
FUSED_SPLASH = (
  'tokamax._src.ops.experimental.tpu.splash_attention.splash_attention_kernel'
)
MOSAIC = (
  'tokamax._src.ops.attention.base',
  'tokamax._src.ops.attention.pallas_mosaic_gpu',
  'tokamax._src.ops.attention.pallas_mosaic_gpu_vjp',
)
# What asks this machine's GPU, which is another than a plan's.
ELSEWHERE = ('tokamax._src.config', 'tokamax._src.gpu_utils')


def has_tokamax() -> bool:
  """Whether tokamax is installed, in the version that this project knows."""
  try:
    return f'tokamax=={importlib.metadata.version("tokamax")}' == TOKAMAX
  except importlib.metadata.PackageNotFoundError:
    return False


def lacks(*paths: str) -> str:
  """The first missing module, and the version of its package; or ''.

  A package that is not installed at all is skipped.
  """
  for path in paths:
    if importlib.util.find_spec(path.partition('.')[0]) is None:
      continue
    try:
      found = importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:
      found = False
    if not found:
      package = path.partition('.')[0]
      version = importlib.metadata.version(package)
      return f'the module {path}, which {package} {version} does not have'
  return ''


@functools.cache
def module(path: str) -> types.ModuleType:
  """One of the modules above; `lacks` tells whether it exists."""
  with warnings.catch_warnings():
    # The deprecation is known; see above.
    warnings.simplefilter('ignore', DeprecationWarning)
    return importlib.import_module(path)
