"""Sizes of a model as numbers, and the FLOPs of an update that they give.

Planning and running share this count: the MFU of a plan and that of a run are
of the same FLOPs.
"""

from typing import NamedTuple


class Shape(NamedTuple):
  """Sizes of a model, as far as time and memory depend on them.

  name: name for people.
  layers: number of layers.
  embed: width of the residual stream, D.
  heads, kv_heads, head_dim: attention's sizes.
  vocab: size of the vocabulary.
  params: all parameters.
  trained: parameters that are trained; `params`, or those of the adapters.
  products: parameters that the products of one token read: with the head,
    without the embedding, and of the experts those that the token picks.
  experts, picked: experts of a layer, and how many a token picks; 0 if dense.
  expert: parameters of one expert of one layer; 0 if dense.
  """

  name: str
  layers: int
  embed: int
  heads: int
  kv_heads: int
  head_dim: int
  vocab: int
  params: int
  trained: int
  products: int
  experts: int = 0
  picked: int = 0
  expert: int = 0


def attention_flops(shape: Shape, pairs: float) -> float:
  """FLOPs of attention's forward pass: scores and values, 2 products a pair."""
  return 4 * shape.layers * shape.heads * shape.head_dim * pairs


def useful_flops(shape: Shape, tokens: float, pairs: float) -> float:
  """FLOPs of an update without what is computed again; what MFU counts.

  A weight takes 2 FLOPs a token forward, 2 for the gradient of its input, and
  2 for its own, if it is trained. Attention takes three times its forward pass.
  """
  trained = min(shape.trained, shape.products)
  products = (4 * shape.products + 2 * trained) * tokens
  return products + 3 * attention_flops(shape, pairs)
