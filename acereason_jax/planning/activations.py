"""Bytes that an update takes of a device beside its state; formulas by hand.

Each counts the arrays of a microbatch by their sizes. How many arrays of a
layer XLA holds at once is fitted to our own compiles (docs/measured.md, "One
update"; tests/test_planning_memory.py compares), so these are estimates: they
are within 15% of the compiler's figure where there is one. Nothing ran on an
accelerator.
"""

from typing import NamedTuple

# Arrays of a layer that the backward pass holds at once, of tokens x the MLP's
# width and of tokens x the residual stream's: gate, up, their product and a
# gradient; the norms' outputs, the queries, the attention's output and
# gradients.
_WIDE, _NARROW = 4, 6
# A layer's gathered weights, and those of the next one or their gradients.
_GATHERED = 2
# jax's own splash kernels with XLA of jax 0.10 hold so many float32 arrays more
# of the queries' size; seen in compiles for v5e, v5p and v6e.
_SPLASH = 14


class Load(NamedTuple):
  """A microbatch and the model, in sizes of one device.

  tokens: tokens of the microbatch on the device.
  layers: number of layers.
  embed: width of the residual stream.
  queries, keys: width of the device's queries, and of its keys.
  heads: query heads of the device.
  mlp: width of the device's part of an MLP; of one expert's with experts.
  layer_bytes: bytes of a layer's weights, whole along fsdp.
  params: numbers of the trained parameters on the device.
  itemsize: bytes of a number in the compute dtype.
  vocab_chunk: rows of the head whose logits are in memory at once.
  remat: name in `models.remat.POLICIES`.
  kernel: name of the attention kernel.
  gpu: whether the device is a GPU.
  experts, picked: experts of a layer, and how many a token picks; 0 if dense.
  """

  tokens: int
  layers: int
  embed: int
  queries: int
  keys: int
  heads: int
  mlp: int
  layer_bytes: int
  params: int
  itemsize: int
  vocab_chunk: int
  remat: str
  kernel: str
  gpu: bool
  experts: int = 0
  picked: int = 0


def kept(load: Load) -> float:
  """Bytes that the forward pass keeps for the backward pass, of all layers.

  Of each token a layer keeps its input, D numbers. 'attention' adds its output
  (as wide as the queries) and a float32 norm of each head. 'dots' adds the
  products: queries, keys, values, the output's D, and of a dense MLP 2 F + D.
  A router's product is that of its experts; grouped experts keep nothing more.
  """
  numbers = load.embed
  norms = 0
  if load.remat in ('attention', 'dots'):
    numbers += load.queries
    norms = 4 * load.heads
  if load.remat == 'dots':
    numbers += load.queries + 2 * load.keys + load.embed
    mlp = load.experts or 2 * load.mlp + load.embed
    numbers += mlp
  each = numbers * load.itemsize + norms
  return float(load.layers * load.tokens * each)


def layer(load: Load) -> float:
  """Bytes of the backward pass of one layer, which it computes again.

  For experts see `experts`; their layer has no wide arrays of its own.
  """
  wide = 0 if load.experts else _WIDE * load.mlp
  narrow = _NARROW * max(load.embed, load.queries)
  arrays = load.tokens * (wide + narrow) * load.itemsize
  splash = load.kernel == 'splash'
  extra = splash * _SPLASH * 4 * load.tokens * load.queries
  return float(arrays + _GATHERED * load.layer_bytes + extra + experts(load))


def experts(load: Load) -> float:
  """Bytes of grouped experts beside the other arrays of a layer.

  `qwen3_moe.grouped` pads pairs of tokens and experts to at most twice their
  number, each with D numbers in the compute dtype and in float32, and F of
  gate, up and their product; the backward pass holds the same again. It copies
  about two layers of weights, and their gradients. Not compared with a compile.
  """
  if not load.experts:
    return 0.0
  rows = 2 * load.tokens * load.picked
  each = load.embed * (load.itemsize + 4) + 3 * load.mlp * load.itemsize
  return 2.0 * rows * each + 4.0 * load.layer_bytes


def logits(load: Load) -> float:
  """Bytes of the head's backward pass: the docstring of `logprobs.token_logp`.

  (4 + b) (N C + N D) + (8 + b) C D + b N D; GPUs have 4 N D more.
  """
  N, C, D, b = load.tokens, load.vocab_chunk, load.embed, load.itemsize
  whole = (4 + b) * (N * C + N * D) + (8 + b) * C * D + b * N * D
  return float(whole + load.gpu * 4 * N * D)


def update_parts(load: Load) -> dict[str, float]:
  """Bytes of the temporaries of one microbatch, by what takes them.

  Weights are cast to the compute dtype, shard by shard, unless they have it.
  The microbatch's gradients are whole before they are added to the sums. The
  head is done before the first layer's backward pass, so the larger counts.
  """
  cast = 0 if load.itemsize == 4 else load.itemsize * load.params
  return {
    'weights as computed with': float(cast),
    'gradients of a microbatch': 4.0 * load.params,
    'activations kept': kept(load),
    'a layer, or logits': max(layer(load), logits(load)),
    # Ten numbers of each token (`packing.PackedBatch`), and two that come out
    # (`gradients.Scored`).
    'packed batch': 48.0 * load.tokens,
  }
