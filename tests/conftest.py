"""Every test runs on four CPU devices; the flags must precede jax."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
)

import pathlib

import pytest

from acereason_jax.models import embedded


@pytest.fixture(scope='session')
def smollm_dir() -> pathlib.Path:
  """The embedded model, a real one; downloads 93 MB where it is not cached."""
  return pathlib.Path(embedded.path('smollm2-135m'))


def pytest_configure(config: pytest.Config) -> None:
  config.addinivalue_line('markers', 'parity: runs torch and transformers')
