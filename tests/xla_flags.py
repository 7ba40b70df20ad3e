"""XLA's flags of the tests, for before jax is imported.

Their time goes into compiling tiny programs. Level 0 halves it. Without its
emitters of fusions jax 0.10 compiles in a third of what is left; jax 0.12 has
no such choice. XLA_FLAGS of one's own win: with
`--xla_cpu_use_fusion_emitters=true` programs are more like those of users.
"""

import importlib.metadata
import os

_DEVICES = '--xla_force_host_platform_device_count'
# Whether it has emitters that can be left out.
OLD = importlib.metadata.version('jaxlib').startswith('0.10.')


def flags(devices: int) -> str:
  """The value of XLA_FLAGS for so many devices on the CPU."""
  ours = ['--xla_backend_optimization_level=0']
  if OLD:
    ours.append('--xla_cpu_use_fusion_emitters=false')
  own = [
    flag
    for flag in os.environ.get('XLA_FLAGS', '').split()
    if flag not in ours and not flag.startswith(_DEVICES)
  ]
  return ' '.join([*ours, *own, f'{_DEVICES}={devices}'])
