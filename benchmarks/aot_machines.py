"""The target machines and the models: names and sizes, no arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.models import decoder
from benchmarks import ptx


class Machine(NamedTuple):
  """What a program is compiled for.

  platform: platform by the compiler's name, 'tpu' or 'cuda'.
  topology: the devices of the machine, by the compiler's name.
  kind: sizes of one device.
  """

  platform: str
  topology: str
  kind: machines.Kind


_TPUS = (
  *('v5e:2x2', 'v5e:4x4', 'v5e:16x16', 'v5p:2x2x2', 'v5p:4x4x4'),
  *('v6e:4x4', 'v6e:16x16', 'tpu7x:2x2x1'),
)
MACHINES = {t: Machine('tpu', t, machines.hardware(t).kind) for t in _TPUS}
MACHINES['h100x8'] = Machine('cuda', 'h100', machines.KINDS['h100'])


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
