"""Bytes and FLOPs of a device by hand, and the rates that it reaches.

A decode step reads weights and the cache, so its time is bytes over bandwidth.
Prefill and updates are products, so their time is FLOPs over the peak. What a
real program needs beyond these counts is in the rates, which are from the
compiler of the absent machine where it prices one.
"""

import math
from typing import NamedTuple

from acereason_jax import machines
from acereason_jax.models import shape as shape_lib
from acereason_jax.models.shape import Shape
from acereason_jax.planning import values

# Bytes of a logit, of a master weight, and of a gradient.
FLOAT32 = 4
# Times that sampling writes or reads all logits of a step: written by the
# head's product, scaled, read by three sums over the vocabulary and by the
# entropy (`rollout.sampling.draw`).
LOGIT_PASSES = 6
# Bytes per second from a device to its host: PCIe 4 with 16 lanes [open].
HOST_LINK = 25e9


class Share(NamedTuple):
  """The share of a kind's peak rates that our programs reach.

  roofline: time of a decode step over that of its bytes at full bandwidth.
  products: share of the peak that the products of an update reach, counted with
    what the backward pass computes again.
  source: where both are from.
  """

  roofline: float
  products: float
  source: str


_UPDATE = '; products: so that its MFU bound of a 7B update comes out'
_NO_PRICE = (
  'assumed: XLA prices no GPU; 1.30 as on v5p, and 0.48 of the peak in useful '
  'FLOPs of a 7B update, as public trainers report'
)
# docs/measured.md, "Ahead-of-time compiles": time / roofline of the decode
# chunk, and the MFU bound of the update.
SHARES = {
  'v5e': Share(
    1.25, 0.75, f'compiled{_UPDATE}, with the unfused attention kernel'
  ),
  'v5p': Share(1.31, 0.825, f'compiled{_UPDATE}'),
  'v6e': Share(1.12, 0.825, f'compiled{_UPDATE}'),
  'tpu7x': Share(1.07, 0.825, 'compiled; products: not priced, as on v6e'),
  'a100': Share(1.30, 0.62, _NO_PRICE),
  'h100': Share(1.30, 0.62, _NO_PRICE),
  'h200': Share(1.30, 0.62, _NO_PRICE),
  'b200': Share(1.30, 0.62, _NO_PRICE),
}


class Rates(NamedTuple):
  """What a device reaches.

  bandwidth: bytes per second of its memory.
  products: FLOPs per second of products.
  """

  bandwidth: float
  products: float


def rates(kind: machines.Kind, assumed: values.Assumed) -> Rates:
  """The rates of a kind; a share of `assumed` comes before that of SHARES.

  Raises:
    ValueError: nothing is known of the kind.
  """
  assumed = of_kind(kind, assumed)
  if not kind.bandwidth or not kind.flops:
    raise ValueError(
      f'--hardware={kind.name}: its bandwidth and peak are not known; expected '
      'TPUs or GPUs, such as v5p:4x4x4 or h100:8*4, or --calibrate to measure '
      'this machine'
    )
  return Rates(
    kind.bandwidth * assumed.bandwidth, kind.flops * assumed.products
  )


def of_kind(kind: machines.Kind, assumed: values.Assumed) -> values.Assumed:
  """`assumed` with the shares of SHARES where it has 0."""
  share = SHARES.get(kind.name, Share(1.0, 1.0, 'as given'))
  return assumed._replace(
    bandwidth=assumed.bandwidth or 1 / share.roofline,
    products=assumed.products or share.products,
  )


def touched(experts: int, picked: int, tokens: float) -> float:
  """Experts that `tokens` tokens pick between them, on average.

  E (1 - (1 - k/E)^n), if each token picks k of the E experts by chance.
  """
  if not experts:
    return 0.0
  return experts * (1 - (1 - picked / experts) ** tokens)


def dense_weights(shape: Shape) -> float:
  """Weights that every token reads; without experts and the embedding."""
  return shape.products - shape.layers * shape.picked * shape.expert


def weight_bytes(
  shape: Shape,
  tokens: float,
  dtype_bytes: int,
  matrix_bytes: int,
  tensor: int,
) -> float:
  """Bytes of weights that a device reads for a batch of `tokens` tokens.

  All except the input embedding, of which a token reads one row, and, in layers
  of experts, those that the batch picks. The tensor axis divides them. A weight
  of the head has `dtype_bytes`, one of a layer `matrix_bytes`.
  """
  head = head_weights(shape)
  picked = touched(shape.experts, shape.picked, tokens) * shape.expert
  layers = dense_weights(shape) - head + shape.layers * picked
  return (head * dtype_bytes + layers * matrix_bytes) / tensor


def all_weight_bytes(
  shape: Shape, dtype_bytes: int, matrix_bytes: int, tensor: int
) -> float:
  """Bytes of all weights of rollouts on a device."""
  layers = layer_weights(shape)
  tables = shape.params - layers
  return (tables * dtype_bytes + layers * matrix_bytes) / tensor


def token_bytes(shape: Shape, kv_bytes: int, tensor: int) -> float:
  """Bytes of a cached token on a device: keys and values of its heads.

  A device holds at least one kv head: heads are repeated where the tensor axis
  has more devices than there are kv heads (`rollout.cache.make_cache`).
  """
  heads = max(1.0, shape.kv_heads / tensor)
  return shape.layers * heads * 2 * shape.head_dim * kv_bytes


def sampler_bytes(shape: Shape, rows: float, tensor: int) -> float:
  """Bytes of float32 logits that sampling moves for `rows` rollouts."""
  return LOGIT_PASSES * rows * shape.vocab / tensor * FLOAT32


def head_weights(shape: Shape) -> int:
  return shape.vocab * shape.embed


def layer_weights(shape: Shape) -> int:
  """Weights of all layers, with all of their experts."""
  others = shape.layers * (shape.experts - shape.picked) * shape.expert
  return shape.products - head_weights(shape) + others


def causal_pairs(tokens: float) -> float:
  """Pairs of a query and a key that it sees, in one segment."""
  return tokens * (tokens + 1) / 2


def update_flops(
  shape: Shape, tokens: float, pairs: float, remat: str
) -> float:
  """FLOPs of an update as it runs, by its policy in `models.remat`.

  The backward pass of attention computes the scores again: 2.5 times the
  forward pass, not 2. 'attention' and 'block' compute the products of layers
  again, and 'block' attention too; none the head's.
  """
  flops = shape_lib.useful_flops(shape, tokens, pairs)
  flops += 0.5 * shape_lib.attention_flops(shape, pairs)
  if remat != 'dots':
    flops += 2 * (shape.products - head_weights(shape)) * tokens
  if remat == 'block':
    flops += shape_lib.attention_flops(shape, pairs)
  return flops


def forward_flops(shape: Shape, tokens: float, pairs: float) -> float:
  """FLOPs of one pass that only scores tokens."""
  return 2 * shape.products * tokens + shape_lib.attention_flops(shape, pairs)


def prefill_flops(shape: Shape, rows: int, piece: int) -> float:
  """FLOPs of a prefill call of `rows` pieces; nothing is read from the head."""
  weights = shape.products - head_weights(shape)
  pairs = rows * causal_pairs(piece)
  return 2 * weights * rows * piece + shape_lib.attention_flops(shape, pairs)


def apply_bytes(work: values.Work) -> float:
  """Bytes of a device's memory that the optimizer moves.

  It reads and writes the state, and reads the gradients twice: for their norm,
  and for the update.
  """
  return 2 * work.state_bytes + 2 * work.train_sums


def offload_seconds(work: values.Work) -> float:
  """Seconds that the moments take from the host and back."""
  return 2 * work.moment_bytes / HOST_LINK if work.offload else 0.0


def shards(mesh, *axes: str) -> int:
  """The product of the sizes of axes; an axis that is not there has 1."""
  return math.prod(mesh.get(axis, 1) for axis in axes)
