"""The target machines and the models: sizes, no arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax.models import decoder
from benchmarks import ptx


class Machine(NamedTuple):
  """One device.

  Memory of v5e and v6e is the part that libtpu leaves to a program. Bandwidths
  and FLOPs are the vendors' (half a chip's for a v7x, whose chips are two
  devices). Clock and cores matter only to the decode kernel.

  platform: platform by jax's name, 'tpu' or 'gpu'.
  topology: the devices of the machine, by the compiler's name.
  memory: memory of the device, bytes.
  bandwidth: bandwidth of its memory, bytes per second.
  flops: bfloat16 FLOPs per second.
  sends: bytes per second that all its links send together.
  clock: clock rate, GHz; our assumption.
  cores: number of its cores.
  """

  platform: str
  topology: str
  memory: float
  bandwidth: float
  flops: float
  sends: float
  clock: float = 0.0
  cores: int = 1


def _v5e(topology):
  memory = 15.75 * 2**30
  return Machine('tpu', topology, memory, 819e9, 197e12, 200e9, 1.5)


def _v5p(topology):
  return Machine('tpu', topology, 95e9, 2765e9, 459e12, 600e9, 1.75, 2)


def _v6e(topology):
  memory = 31.25 * 2**30
  return Machine('tpu', topology, memory, 1640e9, 918e12, 400e9, 1.75)


MACHINES = {
  'v5e:2x2': _v5e('v5e:2x2'),
  'v5e:4x4': _v5e('v5e:4x4'),
  'v5e:16x16': _v5e('v5e:16x16'),
  'v5p:2x2x2': _v5p('v5p:2x2x2'),
  'v5p:4x4x4': _v5p('v5p:4x4x4'),
  'v6e:4x4': _v6e('v6e:4x4'),
  'v6e:16x16': _v6e('v6e:16x16'),
  'tpu7x:2x2x1': Machine(
    'tpu', 'tpu7x:2x2x1', 96e9, 3690e9, 1153e12, 300e9, 1.75
  ),
  'h100x8': Machine('cuda', 'h100', 84942979072, 3352e9, 989e12, 450e9),
}


def _config(vocab, layers, embed, mlp, heads, kv_heads, tied):
  return decoder.DecoderConfig(
    vocab=vocab,
    layers=layers,
    embed=embed,
    mlp=mlp,
    heads=heads,
    kv_heads=kv_heads,
    head_dim=128,
    norm_epsilon=1e-6,
    tied=tied,
    qkv_bias=True,
    qk_norm=False,
    context=131072,
    rope=dict(rope_type='default', rope_theta=1e6),
  )


# DeepSeek-R1-Distill-Qwen; Qwen2.5's sizes.
MODELS = {
  '1.5b': _config(151936, 28, 1536, 8960, 12, 2, True),
  '7b': _config(152064, 28, 3584, 18944, 28, 4, False),
  '14b': _config(152064, 48, 5120, 13824, 40, 8, False),
}


def make_mesh(machine: Machine, shape: Sequence[int]) -> Mesh:
  """A mesh of sizes data, fsdp, tensor and sequence."""
  if machine.platform == 'tpu':
    devices = topologies.get_topology_desc(
      platform='tpu', topology_name=machine.topology
    ).devices
  else:
    devices = ptx.h100s()
  return jax.make_mesh(
    shape,
    mesh_lib.AXES,
    axis_types=(AxisType.Auto,) * len(mesh_lib.AXES),
    devices=devices,
  )
