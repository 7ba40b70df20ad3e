"""Simulates the update on a batch: the real packer, and the time of its rows.

Devices wait for the row that takes longest. Collectives of the weights run
beside products, and take time of their own only as far as they last longer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import machines, types
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import links, traffic, values
from acereason_jax.rl import rows as rows_lib


class Packed(NamedTuple):
  """A packed batch.

  microbatches: number of microbatches of each update.
  columns: tokens of a row of each microbatch.
  tokens: real tokens, of all updates.
  pairs: pairs of a query and a key that it sees, of all updates.
  slowest: of each microbatch, the pairs of the shard with the most.
  filled: share of the microbatches' columns that is real.
  """

  microbatches: tuple[int, ...]
  columns: tuple[int, ...]
  tokens: int
  pairs: float
  slowest: tuple[float, ...]
  filled: float


class Updated(NamedTuple):
  """The time of the updates on a batch.

  seconds: of all microbatches and of the optimizer.
  products: part of it in products and attention, padding included.
  network: part of it in which devices wait for the network only.
  mfu: useful FLOPs, of the peak over `seconds`.
  packed: the microbatches.
  """

  seconds: float
  products: float
  network: float
  mfu: float
  packed: Packed


def pack(
  work: values.Work, lengths_PG: np.ndarray, prompt_tokens: int, kept: float
) -> Packed:
  """Packs the groups that have a gradient, a share `kept` of all.

  Which groups these are is chosen evenly over the order of prompts; their
  lengths are in random order.
  """
  count = len(lengths_PG)
  left = max(1, round(kept * count))
  groups = [lengths_PG[i * count // left] for i in range(left)]
  prompt = np.zeros(max(prompt_tokens, 1), np.int32)
  trained = [
    _group(types.Prompt(str(i), '', '', prompt), group.tolist())
    for i, group in enumerate(groups)
  ]
  sizes, columns, slowest, tokens, pairs = [], [], [], 0, 0.0
  for part in np.array_split(np.arange(left), min(work.updates, left)):
    plan = rows_lib.plan(
      [trained[i] for i in part],
      rows=work.rows,
      columns=work.columns,
      multiple=work.multiple,
      share_prompts=work.share_prompts,
      even_tokens=work.even_tokens,
    )
    sizes.append(len(plan))
    for width, rows in plan:
      columns.append(width)
      found = [_row(row, work.share_prompts) for row in rows]
      tokens += sum(real for real, _ in found)
      pairs += sum(seen for _, seen in found)
      slowest.append(max(_by_shard(work, [seen for _, seen in found])))
  room = sum(columns) * work.rows
  return Packed(
    tuple(sizes), tuple(columns), tokens, pairs, tuple(slowest), tokens / room
  )


def _group(
  prompt: types.Prompt, lengths: Sequence[int]
) -> list[rows_lib.Trained]:
  """Rollouts of these lengths; the packer looks at no token of theirs."""
  nothing = np.zeros(0, np.float32)
  none = np.zeros(1, np.int32)
  return [
    rows_lib.Trained(
      prompt,
      types.Rollout(
        prompt.id,
        index,
        np.broadcast_to(none, length),
        nothing,
        nothing,
        'stop',
        '',
      ),
      1.0,
      1.0,
    )
    for index, length in enumerate(lengths)
  ]


def _row(row: rows_lib.Row, share_prompts: bool) -> tuple[int, float]:
  """(tokens, pairs of a query and a key) of a row."""
  tokens = rows_lib.row_tokens(row, share_prompts)
  # With even_tokens=2 a pair costs 1, as a token does.
  return tokens, rows_lib.row_cost(row, share_prompts, 2.0) - tokens


def _by_shard(work: values.Work, pairs: Sequence[float]) -> Iterator[float]:
  """Pairs of the rows of each data x fsdp shard; rows come in their order."""
  each = max(1, work.rows // traffic.shards(work.mesh, 'data', 'fsdp'))
  return (sum(pairs[i : i + each]) for i in range(0, len(pairs), each))


def update(
  work: values.Work,
  lengths_PG: np.ndarray,
  hardware: machines.Hardware,
  assumed: values.Assumed,
  measured: values.Measured | None = None,
) -> Updated:
  """The time of the updates on a batch of these lengths.

  The seconds of programs are those `measured`, or follow from the rates of the
  machine.
  """
  prompt = min(round(assumed.prompt_tokens), work.sizes.window)
  packed = pack(work, lengths_PG, prompt, assumed.kept)
  if measured is None:
    peak = hardware.kind.flops * hardware.devices
    seconds, products, waiting = _by_rates(work, packed, hardware, assumed)
  else:
    peak, waiting = measured.peak, 0.0
    each = measured.add + work.scored * measured.score
    # Measured of the widest.
    products = sum(packed.columns) / work.columns * each
    seconds = products + len(packed.microbatches) * measured.apply
  useful = shape_lib.useful_flops(work.shape, packed.tokens, packed.pairs)
  mfu = useful / (seconds * peak)
  return Updated(seconds, products, waiting, mfu, packed)


def _by_rates(
  work: values.Work,
  packed: Packed,
  hardware: machines.Hardware,
  assumed: values.Assumed,
) -> tuple[float, float, float]:
  """Seconds of all updates, of their products, and of waiting (`Updated`)."""
  rates = traffic.rates(hardware.kind, assumed)
  share = traffic.shards(work.mesh, 'tensor', 'sequence')
  rows = work.rows // traffic.shards(work.mesh, 'data', 'fsdp')
  computing, waiting = 0.0, 0.0
  for columns, pairs in zip(packed.columns, packed.slowest):
    network = microbatch_network(
      work._replace(columns=columns), hardware, assumed
    )
    counted = work.shape, rows * columns, pairs
    own = traffic.update_flops(*counted, work.remat)
    own += work.scored * traffic.forward_flops(*counted)
    seconds = own / share / rates.products
    computing += seconds
    waiting += network.inside + max(0.0, network.weights - seconds)
  updates = len(packed.microbatches)
  applied = traffic.apply_bytes(work) / rates.bandwidth
  applied += traffic.offload_seconds(work)
  waiting += updates * sum_seconds(work, hardware, assumed)
  seconds = computing + waiting + updates * applied
  return seconds, computing, waiting


class Network(NamedTuple):
  """Seconds of the network in a microbatch.

  weights: gathers of weights and sums of gradients, beside products.
  inside: sums and exchanges inside layers, for which the products wait.
  """

  weights: float
  inside: float


def gradient_bytes(kind: machines.Kind) -> int:
  """Bytes of a gradient on the way to its sum.

  Our compile for 8 H100 sends 38 GB for a 7B update: two gathers and one sum of
  2 bytes a weight are 40 GB, and a sum of 4 bytes would make it 53. That for
  256 v6e sends 59 GB: with a sum of 4 bytes it is 61. That for 64 v5p sends 86
  GB, 1.4 times as many as so counted (docs/measured.md).
  """
  return 2 if kind.platform == 'gpu' else 4


def microbatch_network(
  work: values.Work, hardware: machines.Hardware, assumed: values.Assumed
) -> Network:
  """What a microbatch sends.

  Along fsdp and sequence weights are gathered for the forward pass and for the
  backward pass, and gradients summed, each device keeping its part; along data
  nothing is sent (`sum_seconds`). Each pass that scores gathers once. Along
  tensor a layer sums its output twice a pass, forward and backward, and once
  more each where the backward pass computes it again. Along sequence a layer
  trades tokens for heads four times a pass (arXiv 2309.14509).
  """
  shape, rings = work.shape, links.rings(work.mesh, hardware, assumed)
  holders = _together(rings, 'fsdp', 'sequence')
  size = shape.params / work.mesh['tensor']
  trained = shape.trained / work.mesh['tensor']
  gradient = trained * gradient_bytes(hardware.kind)
  weights = (2 + work.scored) * holders.gather(size * work.dtype_bytes)
  weights += holders.scatter(gradient)
  rows = work.rows // traffic.shards(work.mesh, 'data', 'fsdp')
  tokens = rows * work.columns / work.mesh.get('sequence', 1)
  layer = tokens * shape.embed * work.dtype_bytes
  again = work.remat != 'dots'
  passes = 2 + again + work.scored
  inside = 2 * shape.layers * passes * rings['tensor'].sum(layer)
  if 'sequence' in rings:
    part = layer / work.mesh['tensor']
    inside += 4 * shape.layers * passes * rings['sequence'].exchange(part)
  return Network(weights, inside)


def sum_seconds(
  work: values.Work, hardware: machines.Hardware, assumed: values.Assumed
) -> float:
  """Seconds of an update until gradients are summed over groups of 'data'.

  Each device sums its part, float32, once; nothing runs beside it.
  """
  ring = links.rings(work.mesh, hardware, assumed)['data']
  holders = traffic.shards(work.mesh, 'fsdp', 'sequence', 'tensor')
  return ring.sum(work.shape.trained / holders * traffic.FLOAT32)


def _together(rings: Mapping[str, links.Ring], *axes: str) -> links.Ring:
  """One ring over several axes: as slow as the slowest that has devices."""
  used = [rings[a] for a in axes if a in rings and rings[a].devices > 1]
  if not used:
    return links.Ring(1, 1.0, 0.0)
  return links.Ring(
    traffic.shards({a: rings[a].devices for a in axes if a in rings}, *axes),
    min(ring.bandwidth for ring in used),
    max(ring.hop for ring in used),
  )


def reshard_seconds(
  work: values.Work, hardware: machines.Hardware, assumed: values.Assumed
) -> float:
  """Seconds until each device has its weights of rollouts.

  It casts its part of the master weights, and gathers what it lacks. Where the
  tensor axis of rollouts is another than that of training, bytes move in other
  groups, but a device receives as many.
  """
  shape, rates = work.shape, traffic.rates(hardware.kind, assumed)
  holders = _together(
    links.rings(work.mesh, hardware, assumed), 'fsdp', 'sequence'
  )
  own = shape.params * traffic.FLOAT32 / (holders.devices * work.mesh['tensor'])
  whole = traffic.all_weight_bytes(
    shape, work.dtype_bytes, work.matrix_bytes, work.rollout_mesh['tensor']
  )
  return (own + whole) / rates.bandwidth + holders.gather(whole)
