"""The machines that a run can use: one table, for launch, plan and benchmarks.

Sizes and names only; nothing here asks a device, and jax is not imported. All
numbers are the vendors', of one of jax's devices: a chip, except for TPU7x,
whose chips are two devices each.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_TPU_DOCS = 'docs.cloud.google.com/tpu/docs'
_XPK = 'xpk 1.16, core/system_characteristics.py'

# Gathers of weights beside the products that need them.
# Source: MaxText, benchmarks/xla_flags_library.py, CF_FOR_ALL_GATHER. It gives
# them to other TPUs too, but libtpu 0.0.50 refuses to compile with them there:
# "might lead to incorrect results, hang". The others get libtpu's defaults.
_V5E_FLAGS = (
  '--xla_tpu_enable_async_collective_fusion=true',
  '--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true',
  '--xla_tpu_enable_async_collective_fusion_multiple_steps=true',
  '--xla_tpu_overlap_compute_collective_tc=true',
  '--xla_enable_async_all_gather=true',
)
_GPU_FLAGS = (
  # Source: docs.jax.dev/en/latest/gpu_performance_tips.html, and NVIDIA's jax
  # images: gathers and sums beside the products. XLA has it off by default.
  '--xla_gpu_enable_latency_hiding_scheduler=true',
)
# Source: docs.nvidia.com/jax-toolbox, GPU performance: "0.9 or 0.8". jax's own
# 0.75 leaves 20 GB of an H100 unused.
_GPU_FRACTION = '0.9'

_NONE = {}
_V5E = {'LIBTPU_INIT_ARGS': ' '.join(_V5E_FLAGS)}
_GPU = {
  'XLA_FLAGS': ' '.join(_GPU_FLAGS),
  'XLA_PYTHON_CLIENT_MEM_FRACTION': _GPU_FRACTION,
}


class Kind(NamedTuple):
  """A kind of accelerator, and the hosts that hold it.

  name: name in --hardware.
  platform: platform by jax's name, 'cpu', 'gpu' or 'tpu'.
  chips: chips of a full host.
  devices: jax's devices of a chip.
  memory: bytes of a device. Of v5e and v6e the part that libtpu leaves to a
    program; of the GPUs all of it.
  bandwidth: bytes per second of a device's memory.
  flops: dense bfloat16 FLOPs per second of a device.
  sends: bytes per second that a device's links send to others of its slice or
    node, all together.
  network: bytes per second that a device can send to other slices or nodes.
  clock: clock rate, GHz, our assumption; for the decode kernel's benchmark.
  cores: tensor cores of a device.
  model: name of a device, as jax gives it.
  capability: compute capability of a GPU; '' for others.
  flat: topologies of two dimensions that exist.
  cubes: most cubes of 4 x 4 x 4 chips; 0: no topologies of three dimensions.
  label: accelerator by GKE's name, for its node selector.
  cloud: accelerator by SkyPilot's name; '' if it knows none.
  flags: environment variables that the run starts with.
  source: where the figures are from.
  """

  name: str
  platform: str
  chips: int
  devices: int = 1
  memory: float = 0.0
  bandwidth: float = 0.0
  flops: float = 0.0
  sends: float = 0.0
  network: float = 0.0
  clock: float = 0.0
  cores: int = 1
  model: str = ''
  capability: str = ''
  flat: tuple[str, ...] = ()
  cubes: int = 0
  label: str = ''
  cloud: str = ''
  flags: Mapping[str, str] = _NONE
  source: str = ''

  @property
  def room(self) -> int:
    """Bytes of a device that jax takes for programs, in whole MiB."""
    share = float(self.flags.get('XLA_PYTHON_CLIENT_MEM_FRACTION', 1))
    return int(self.memory * share) >> 20 << 20


def _tpu(name: str, **sizes) -> Kind:
  return Kind(name, 'tpu', chips=4, **sizes)


def _gpu(name: str, **sizes) -> Kind:
  return Kind(name, 'gpu', chips=8, flags=_GPU, **sizes)


_FLAT = '1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16'

KINDS = {
  kind.name: kind
  for kind in (
    Kind('cpu', 'cpu', chips=1, cloud='cpu', model='cpu'),
    _tpu(
      'v5e',
      model='TPU v5 lite',
      memory=15.75 * 2**30,
      bandwidth=819e9,
      flops=197e12,
      sends=200e9,
      network=3.1e9,
      clock=1.5,
      flat=_FLAT,
      label='tpu-v5-lite-podslice',
      flags=_V5E,
      cloud='tpu-v5litepod',
      source=f'{_TPU_DOCS}/v5e; {_XPK}',
    ),
    _tpu(
      'v5p',
      model='TPU v5',
      # The docs say 95 GiB.
      memory=95e9,
      bandwidth=2765e9,
      flops=459e12,
      sends=600e9,
      network=6.2e9,
      clock=1.75,
      cores=2,
      cubes=140,
      label='tpu-v5p-slice',
      cloud='tpu-v5p',
      source=f'{_TPU_DOCS}/v5p; {_XPK}',
    ),
    _tpu(
      'v6e',
      model='TPU v6 lite',
      memory=31.25 * 2**30,
      bandwidth=1640e9,
      flops=918e12,
      sends=400e9,
      network=12.5e9,
      clock=1.75,
      flat=_FLAT,
      label='tpu-v6e-slice',
      cloud='tpu-v6e',
      source=f'{_TPU_DOCS}/v6e; {_XPK}',
    ),
    _tpu(
      'tpu7x',
      model='TPU7x',
      devices=2,
      memory=96e9,
      bandwidth=3690e9,
      flops=1153e12,
      sends=300e9,
      network=6.2e9,
      clock=1.75,
      cubes=144,
      label='tpu7x',
      source=f'{_TPU_DOCS}/tpu7x; {_XPK}',
    ),
    # The networks of the GPUs are an adapter a GPU as in DGX: 200 Gb/s for
    # A100, 400 Gb/s for the others. Cloud machines may have less: a3-highgpu
    # has a quarter. The sheets were read in copies, not at the vendor's.
    _gpu(
      'a100',
      model='NVIDIA A100-SXM4-80GB',
      capability='8.0',
      memory=80e9,
      bandwidth=2039e9,
      flops=312e12,
      sends=300e9,
      network=25e9,
      label='nvidia-a100-80gb',
      cloud='A100-80GB',
      source='NVIDIA A100 80GB SXM data sheet',
    ),
    _gpu(
      'h100',
      model='NVIDIA H100 80GB HBM3',
      capability='9.0',
      memory=84942979072,
      bandwidth=3352e9,
      flops=989e12,
      sends=450e9,
      network=50e9,
      label='nvidia-h100-80gb',
      cloud='H100',
      source=f'NVIDIA H100 SXM data sheet; {_XPK}',
    ),
    _gpu(
      'h200',
      model='NVIDIA H200',
      capability='9.0',
      memory=141e9,
      bandwidth=4800e9,
      flops=989e12,
      sends=450e9,
      network=50e9,
      label='nvidia-h200-141gb',
      cloud='H200',
      source=f'NVIDIA H200 SXM data sheet; {_XPK}',
    ),
    _gpu(
      'b200',
      model='NVIDIA B200',
      capability='10.0',
      memory=180e9,
      bandwidth=8000e9,
      flops=2250e12,
      sends=900e9,
      network=50e9,
      label='nvidia-b200',
      cloud='B200',
      source=f'NVIDIA HGX B200 data sheet; {_XPK}',
    ),
  )
}


def kind_of(model: str) -> Kind | None:
  """The kind of a device by the name that jax gives it; None if unknown."""
  return next((kind for kind in KINDS.values() if kind.model == model), None)


def missing_flags(kind: Kind, environment: Mapping[str, str]) -> list[str]:
  """Flags of a kind that a run's environment does not give, as NAME=value.

  A flag with another value is the user's own choice.
  """
  missing = []
  for name, value in kind.flags.items():
    own = environment.get(name, '')
    if not value.startswith('--'):
      missing += [f'{name}={value}'] * (not own)
      continue
    given = {flag.partition('=')[0] for flag in own.split()}
    rest = [x for x in value.split() if x.partition('=')[0] not in given]
    if rest:
      missing.append(f'{name}={" ".join(rest)}')
  return missing


class Hardware(NamedTuple):
  """The machines of one run.

  text: as --hardware gives it.
  kind: the kind of accelerator.
  topology: how a TPU slice's chips are arranged, 4x4x8; '' for others.
  slices: slices of TPUs; 1 for others.
  hosts: hosts of a slice, or all hosts.
  chips: chips of a host.
  """

  text: str
  kind: Kind
  topology: str
  slices: int
  hosts: int
  chips: int

  @property
  def processes(self) -> int:
    """All processes of the run, one a host."""
    return self.slices * self.hosts

  @property
  def devices(self) -> int:
    """All of jax's devices."""
    return self.processes * self.chips * self.kind.devices


def hardware(text: str) -> Hardware:
  """The machines that a text names: cpu:2, v5p:4x4x8, v5p:4x4x8*2, h100:8*4.

  After the colon is the topology of a slice of TPUs, how many GPUs of a node,
  or how many processes on CPUs; after the star how many slices or nodes.

  Raises:
    ValueError: there are no such machines.
  """
  match = re.fullmatch(r'(\w+):([0-9]+(?:x[0-9]+)*)(?:\*([0-9]+))?', text)
  if match is None or match[1] not in KINDS:
    raise ValueError(
      f'--hardware={text}: expected KIND:SIZE or KIND:SIZE*COUNT, such as '
      f'cpu:2, v5p:4x4x8*2 or h100:8*4; the kinds are {", ".join(KINDS)}'
    )
  kind, count = KINDS[match[1]], int(match[3] or 1)
  sizes = [int(n) for n in match[2].split('x')]
  if not 1 <= count <= 4096:
    raise ValueError(f'--hardware={text}: expected 1 to 4096 after the star')
  if kind.platform == 'tpu':
    _check_topology(text, kind, match[2], sizes)
    chips = math.prod(sizes)
    of_host = min(chips, kind.chips)
    return Hardware(text, kind, match[2], count, chips // of_host, of_host)
  if kind.platform == 'cpu':
    if len(sizes) > 1 or count > 1 or not 1 <= sizes[0] <= 4096:
      raise ValueError(
        f'--hardware={text}: expected cpu:N, N processes from 1 to 4096'
      )
    return Hardware(text, kind, '', 1, sizes[0], 1)
  if len(sizes) > 1 or sizes[0] not in (1, 2, 4, 8):
    raise ValueError(
      f'--hardware={text}: a node of {kind.name} has 1, 2, 4 or 8 GPUs, such '
      f'as {kind.name}:8*4 for four whole nodes'
    )
  return Hardware(text, kind, '', 1, count, sizes[0])


def _check_topology(
  text: str, kind: Kind, topology: str, sizes: Sequence[int]
) -> None:
  """Raises ValueError unless the kind comes in that topology."""
  if kind.flat:
    known = topology in kind.flat
    expected = ', '.join(kind.flat)
  else:
    cubes = len(sizes) == 3 and all(n > 0 and n % 4 == 0 for n in sizes)
    known = topology in ('2x2x1', '2x2x2', '2x2x4', '2x4x4') or (
      cubes
      and list(sizes) == sorted(sizes)
      and math.prod(sizes) <= 64 * kind.cubes
    )
    expected = (
      '2x2x1, 2x2x2, 2x2x4, 2x4x4, or AxBxC of multiples of 4, A <= B <= C, '
      f'with at most {64 * kind.cubes} chips'
    )
  if not known:
    raise ValueError(
      f'--hardware={text}: {kind.name} has no topology {topology}; expected '
      f'{expected}'
    )


def mesh_sizes(
  sizes: Mapping[str, int], devices: int, slices: int = 1
) -> dict[str, int]:
  """The sizes of a mesh's axes over so many devices; one may be -1: the rest.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or slices
      would share the axes that have to stay in one.
  """
  whole = dict(sizes)
  if (free := [n for n, s in whole.items() if s == -1]) and len(free) == 1:
    rest = math.prod(s for s in whole.values() if s != -1)
    whole[free[0]] = devices // rest if rest > 0 else 0
  if math.prod(whole.values()) != devices or min(whole.values()) < 1:
    got = ' '.join(f'{name}={size}' for name, size in sizes.items())
    raise ValueError(
      f'config.mesh: {got} does not cover {devices} devices; make the product '
      'equal to it, or one of them -1'
    )
  if whole['data'] * whole['fsdp'] % slices:
    raise ValueError(
      f'config.mesh: data={whole["data"]} x fsdp={whole["fsdp"]} over {slices} '
      'slices: make the product a multiple of that, as neither tensor nor '
      'sequence may go from one slice to another'
    )
  return whole
