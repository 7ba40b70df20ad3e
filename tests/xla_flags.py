"""XLA's flags of the tests, for before jax is imported.

Their time goes into compiling tiny programs. At level 0 that takes half. Of jax
0.10, without the emitters of fusions, it takes a third of the rest; jax 0.12
has no others. XLA_FLAGS of one's own win: with
`--xla_cpu_use_fusion_emitters=true` programs are nearer to those of users.
"""

import importlib.metadata
import os

_DEVICES = '--xla_force_host_platform_device_count'
_OLD = importlib.metadata.version('jaxlib').startswith('0.10.')


def flags(devices: int) -> str:
  """The value of XLA_FLAGS for so many devices on the CPU."""
  own = os.environ.get('XLA_FLAGS', '').split()
  return ' '.join(
    [
      '--xla_backend_optimization_level=0',
      *(['--xla_cpu_use_fusion_emitters=false'] if _OLD else []),
      *(flag for flag in own if not flag.startswith(_DEVICES)),
      f'{_DEVICES}={devices}',
    ]
  )
