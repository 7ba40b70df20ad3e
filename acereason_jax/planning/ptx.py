"""Compiles for absent H100s, and reads ptxas' report on the kernels.

Needs `pip install 'jax[cuda12]'`. Two versions may be installed: the plugin's
compiler and this assembler both come from the wheels.
"""

import os
import pathlib
import re
import subprocess
import sysconfig

import jax
from jax.experimental import topologies

# The facts about a device that the compiler asks for; values as in OpenXLA's
# xla/backends/gpu/target_config/specs/h100_sxm.txtpb (Apache 2.0).
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  cuda_compute_capability {
    major: 9
    feature_extension: ACCELERATED_FEATURES
  }
  name: "NVIDIA H100 80GB HBM3"
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  device_memory_size: 84942979072
  runtime_version: "12.9.0"
  driver_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0"
}
"""


def flags(directory: str | os.PathLike) -> dict[str, str]:
  """The environment that dumps everything compiled to `directory`.

  XLA reads its flags once, when jax first starts a backend.
  """
  return dict(
    JAX_SKIP_CUDA_CONSTRAINTS_CHECK='1',
    XLA_FLAGS=f'--xla_dump_to={directory}',
  )


def h100s() -> list[jax.Device]:
  """Eight H100s of one host."""
  return topologies.get_topology_desc(
    platform='cuda',
    topology_name='h100',
    target_config=H100,
    topology='1x8x1',
  ).devices


def usage(
  directory: str | os.PathLike, pattern: str
) -> dict[str, dict[str, int]]:
  """The resources of the kernels of a dump whose names match `pattern`.

  By 'module:kernel': `registers` per thread, and bytes of `spill_stores`,
  `spill_loads` and `stack`.

  Raises:
    FileNotFoundError: no kernel matches. One that XLA replaced must not count
      as one without spills.
  """
  found = {}
  for path in sorted(pathlib.Path(directory).glob('*.ptx')):
    text = path.read_text()
    names = re.findall(r'\.entry\s+(\w+)', text)
    names = [name for name in names if re.search(pattern, name)]
    if not names:
      continue
    log = _ptxas(path, re.search(r'^\.target\s+(\w+)', text, re.M)[1])
    for name in names:
      found[f'{path.stem}:{name}'] = _parse(log[log.index(f"'{name}'") :])
  if not found:
    raise FileNotFoundError(f'no kernel like {pattern!r} in {directory}')
  return found


def _ptxas(path: pathlib.Path, arch: str) -> str:
  # The assembler of the nvidia-cuda-nvcc wheel, a namespace package.
  wheels = pathlib.Path(sysconfig.get_path('purelib'), 'nvidia')
  ptxas = wheels / 'cuda_nvcc' / 'bin' / 'ptxas'
  command = [ptxas, '-v', f'-arch={arch}', '-o', os.devnull, path]
  return subprocess.run(
    command, capture_output=True, text=True, check=True
  ).stderr


def _parse(log: str) -> dict[str, int]:
  patterns = {
    'registers': r'Used (\d+) registers',
    'spill_stores': r'(\d+) bytes spill stores',
    'spill_loads': r'(\d+) bytes spill loads',
    'stack': r'(\d+) bytes stack frame',
  }
  return {k: int(re.search(v, log)[1]) for k, v in patterns.items()}
