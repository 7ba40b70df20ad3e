"""The devices of absent machines, by the compilers' own descriptions of them.

Programs can be compiled for these ahead of time (AOT): TPUs need the package
libtpu, H100s the wheels of jax[cuda12]. Other GPUs are not described here.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from acereason_jax import machines
from acereason_jax.planning import llo

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
# A package by platform, and how to get it.
_PACKAGES = {
  'tpu': ('libtpu', "pip install 'acereason_jax[plan]'"),
  'gpu': ('jax_cuda12_plugin', "pip install 'jax[cuda12]'"),
}


def lacks(hardware: machines.Hardware) -> str:
  """Why nothing can be compiled for these machines here, one line; or ''."""
  kind = hardware.kind
  if kind.platform == 'gpu' and kind.name != 'h100':
    return f'{kind.name}: no description for the compiler; only of h100'
  if kind.platform in _PACKAGES:
    package, remedy = _PACKAGES[kind.platform]
    if importlib.util.find_spec(package) is None:
      return f'{kind.name}: the compiler is not installed: {remedy}'
  return ''


def devices(hardware: machines.Hardware) -> Sequence[Any]:
  """jax's devices of the machines; `environment` must be that of the process.

  Those of CPUs are this machine's own.
  """
  if hardware.kind.platform == 'cpu':
    return jax.devices()
  if hardware.kind.platform == 'tpu':
    name = f'{hardware.kind.name}:{hardware.topology}'
    return topologies.get_topology_desc(
      platform='tpu', topology_name=name, num_slices=hardware.slices
    ).devices
  return topologies.get_topology_desc(
    platform='cuda',
    topology_name=hardware.kind.name,
    target_config=H100,
    # Nodes that share a network of their own, hosts of one, devices of a host.
    topology=f'{hardware.hosts}x1x{hardware.chips}',
  ).devices


def compiler(hardware: machines.Hardware) -> str:
  """The platform by the name that `lower` takes."""
  return {'gpu': 'cuda'}.get(hardware.kind.platform, hardware.kind.platform)


def environment(
  hardware: machines.Hardware,
  dumps: str | None,
  flags: Mapping[str, str] | None,
) -> dict[str, str]:
  """The variables of a process that compiles for the machines.

  `flags` are those that the run would start with, if not the kind's own. The
  compiler writes what it makes into the folder `dumps`, if one is given. XLA
  and libtpu read all of this once, when jax first starts a backend. Nothing
  queries this machine, or locks its accelerator.
  """
  flags = hardware.kind.flags if flags is None else flags
  made = dict(
    JAX_PLATFORMS='cpu',
    TPU_SKIP_MDS_QUERY='1',
    ALLOW_MULTIPLE_LIBTPU_LOAD='1',
    JAX_SKIP_CUDA_CONSTRAINTS_CHECK='1',
    XLA_FLAGS='',
    LIBTPU_INIT_ARGS='',
  )
  made |= flags
  name, own = 'XLA_FLAGS', ''
  match hardware.kind.platform:
    case 'cpu':
      own = f'--xla_force_host_platform_device_count={hardware.devices}'
    case 'gpu' if dumps:
      own = f'--xla_dump_to={dumps}'
    case 'tpu' if dumps:
      name, own = 'LIBTPU_INIT_ARGS', llo.flags(dumps)
  return made | {name: f'{made[name]} {own}'.strip()}
