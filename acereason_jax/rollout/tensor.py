"""The tensor axis of rollouts: how many devices share the weights of one.

A decode step reads all weights, so more devices make it shorter, up to where
the sums that they share take longer than what each still reads.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from acereason_jax import machines

# Share of the links' bandwidth that collectives reach, and the seconds of one
# hop. [open]
LINKS = 0.8
HOP_SECONDS = 1e-6


class Load(NamedTuple):
  """What decoding has to do, by all devices of a run.

  devices: number of devices.
  layers, embed: number of layers, and width of the residual stream.
  kv_heads: kv heads; more devices than these repeat them.
  itemsize: bytes of a number of the residual stream.
  token: bytes of a token's keys and values, all heads.
  rollouts: rollouts of a batch, or the slots for them.
  context: tokens of a rollout at half its length.
  longest: tokens that the cache has to hold for one rollout, with a chunk.
  """

  devices: int
  layers: int
  embed: int
  kv_heads: int
  itemsize: int
  token: int
  rollouts: int
  context: float
  longest: int


def choose(
  sizes: Sequence[int],
  own: int,
  load: Load,
  weights: Callable[[int], float],
  room: float,
  kind: machines.Kind | None,
) -> int:
  """The size of the tensor axis with the fastest decode steps.

  `sizes` are those that the heads and the devices allow, `own` is the training
  mesh's. weights(size) are the bytes of a device that weights take, `room` is
  what it has for them and the cache. Of sizes in whose room one rollout fits,
  the fastest is taken, by `step_seconds`. Where the rates of a `kind` are not
  known, as on CPUs, it is `own`, or if that does not fit, the next one. `own`
  too if none fits: building the engine then tells why.
  """
  fitting = [
    size
    for size in sizes
    if token_bytes(load, size) * load.longest <= room - weights(size)
  ]
  if kind is None or not kind.bandwidth:
    return min(fitting, key=lambda n: (n < own, abs(n - own)), default=own)
  seconds = lambda n: step_seconds(load, n, weights(n), room, kind)
  return min(fitting, key=seconds, default=own)


def token_bytes(load: Load, size: int) -> float:
  """Bytes of a token in a device's cache; each has at least one kv head."""
  return load.token / min(size, load.kv_heads)


def step_seconds(
  load: Load, size: int, weights: float, room: float, kind: machines.Kind
) -> float:
  """Seconds in which each rollout of a batch gets one token.

  A device reads its weights and the cache of its group's rollouts, and its
  group shares two sums of their residual streams a layer, and one of the
  embeddings: rings, in which each device sends 2 (n - 1) / n of the bytes in
  2 (n - 1) hops. Rollouts that do not fit into the `room` take further steps.
  """
  token = token_bytes(load, size)
  asked = load.rollouts * size / load.devices
  slots = min(asked, (room - weights) / (token * load.context))
  read = weights + slots * load.context * token
  sent = slots * load.embed * load.itemsize / size / (LINKS * kind.sends)
  sums = (2 * load.layers + 1) * 2 * (size - 1) * (sent + HOP_SECONDS)
  return asked / slots * (read / kind.bandwidth + sums)
