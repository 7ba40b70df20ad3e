"""Model families: what each must provide, and the family of a directory.

This is the only file that names the families' own files. All other code takes a
`Network`, which is a family with the sizes of one config.json.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from acereason_jax.models import base, decoder, hf, qwen3_moe, shape
from acereason_jax.models import config_json as fields


class Family(NamedTuple):
  """The functions that a model family must provide.

  read_config: read_config(config_json) -> config, a frozen dataclass of JSON
    values. It has at least `vocab`, `embed`, `layers`, `heads` (of queries),
    `kv_heads`, `head_dim`, `tied` (the embedding is the head too) and `context`
    (the most tokens of a prompt and its response). It raises ValueError, one
    line, for every field that is missing, impossible or not supported:
    config.json comes from strangers.
  param_specs: param_specs(config) -> the tree of `base.ParamSpec`, the only
    description of the parameters that import, export, shardings, LoRA and the
    optimizer use.
  make_model: make_model(config, **options) -> `base.Model`. The options:
    remat: name in `remat.POLICIES` of the activations that the backward pass of
      `apply` keeps of a layer.
    attend: the attention of `apply`: `attend` of the kernel of
      `attention.choose`, on a mesh through `partition.split_attention`.
    layer_weights: makes one layer's weights from its parameters, in `apply`.
    pin_packed, pin_rows: applied to the residual streams of `apply` and
      `extend`.
    look_up: look_up(table_VD, tokens_BT) -> the embeddings of `apply`.
    split_packed, split_rows: compute a function of tokens on each device's own,
      in `apply` and in `extend` (`partition.split_tokens`).
    flat: whether `apply` merges the two dimensions of tokens. XLA's CPU backend
      computes the gradient of weights up to twice as fast from one dimension.
    The last six are `partition.pins` of a mesh; without them everything is on
    one device.
  """

  read_config: Callable[[Mapping[str, Any]], Any]
  param_specs: Callable[[Any], base.Tree]
  make_model: Callable[..., base.Model]


class Network(NamedTuple):
  """A family with the sizes of one config.json.

  config: the sizes, from `Family.read_config`.
  specs: the tree of ParamSpec.
  make_model: make_model(**options) -> Model; see `Family.make_model`.
  """

  config: Any
  specs: base.Tree
  make_model: Callable[..., base.Model]


_DENSE = Family(
  decoder.DecoderConfig.from_hf, decoder.param_specs, decoder.make_model
)
# Families by the first of config.json's architectures.
FAMILIES: Mapping[str, Family] = {
  **dict.fromkeys(decoder.ARCHITECTURES, _DENSE),
  'Qwen3MoeForCausalLM': Family(
    qwen3_moe.MoeConfig.from_hf, qwen3_moe.param_specs, qwen3_moe.make_model
  ),
}


def from_config(config_json: Mapping[str, Any]) -> Network:
  """The network that a config.json describes.

  Raises:
    ValueError: one line; no such family, or its `read_config` refuses the file.
  """
  family = FAMILIES[fields.architecture(config_json, FAMILIES)]
  config = family.read_config(config_json)
  return Network(
    config,
    family.param_specs(config),
    functools.partial(family.make_model, config),
  )


def read(directory: str) -> Network:
  """The network of a Hugging Face directory.

  Raises:
    FileNotFoundError, ValueError: one line; no config.json, or as above.
  """
  return from_config(hf.read_config(directory))


def shape_of(network: Network, trained: base.Tree, name: str) -> shape.Shape:
  """The sizes of a model, by the specs of the parameters that are trained."""
  config, specs = network.config, network.specs
  count = base.param_count
  table = math.prod(specs['embed'].shape)
  products = count(specs) - (0 if config.tied else table)
  experts = getattr(config, 'experts', 0)
  expert = 0
  if experts:
    by_name = base.by_name(specs)
    every = sum(math.prod(s.shape) for s in by_name.values() if s.stacked > 1)
    expert = every // experts // config.layers
    products -= every * (experts - config.picked) // experts
  return shape.Shape(
    name=name,
    layers=config.layers,
    embed=config.embed,
    heads=config.heads,
    kv_heads=config.kv_heads,
    head_dim=config.head_dim,
    vocab=config.vocab,
    params=count(specs),
    trained=count(trained),
    products=products,
    experts=experts,
    picked=getattr(config, 'picked', 0),
    expert=expert,
  )
