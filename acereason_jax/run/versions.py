"""What makes a run: versions of programs, the commit of this one, devices."""

import platform
from typing import NamedTuple

import jax
import jaxlib

import acereason_jax
from acereason_jax import checkout


class Made(NamedTuple):
  """What makes a start of a run; a text is '' where it is unknown.

  version: version of this package.
  commit: see `checkout.commit`.
  python, jax, jaxlib: versions.
  device: kind of the devices, as jax names it.
  devices: number of devices of all processes.
  """

  version: str
  commit: str
  python: str
  jax: str
  jaxlib: str
  device: str
  devices: int


def here() -> Made:
  """This process, whose jax has started."""
  return Made(
    version=acereason_jax.__version__,
    commit=checkout.commit(),
    python=platform.python_version(),
    jax=jax.__version__,
    jaxlib=jaxlib.__version__,
    device=jax.devices()[0].device_kind,
    devices=jax.device_count(),
  )
