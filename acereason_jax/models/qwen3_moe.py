"""Qwen3-MoE: Qwen3's decoder, in which a router picks experts for each token.

Nothing limits the tokens of an expert, so a token's output depends on no other
token, and a rollout is trained as it was sampled. The loss has no term that
balances the experts.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from acereason_jax.models import base, decoder
from acereason_jax.models import config_json as fields

MOST_EXPERTS = 4096
# [out, in] of every expert: rows of tokens times w.T, in groups by expert.
_BY_EXPERT = jax.lax.RaggedDotDimensionNumbers(
  dot_dimension_numbers=(((1,), (2,)), ((), ())),
  lhs_ragged_dimensions=(0,),
  rhs_group_dimensions=(0,),
)
# The dimension of each weight [E, out, in] that is F, the width of an expert.
_CUT = dict(gate=1, up=1, down=2)


@dataclasses.dataclass(frozen=True)
class MoeConfig(decoder.DecoderConfig):
  """Sizes and switches; `mlp` is the width of one expert.

  experts: experts of a layer.
  picked: how many of them a token passes.
  renormalized: the weights of those add up to 1.
  """

  experts: int
  picked: int
  renormalized: bool

  @classmethod
  def from_hf(cls, config: Mapping[str, Any]) -> 'MoeConfig':
    """Reads a config.json of transformers 4 or 5.

    Raises:
      ValueError: one line; a feature that is not supported, or a size that is
        missing or impossible.
    """
    sizes = decoder.read_sizes(
      config, qkv_bias=False, qk_norm=True, mlp='moe_intermediate_size'
    )
    experts = fields.whole(config, _experts_field(config), MOST_EXPERTS)
    if config.get('decoder_sparse_step', 1) != 1:
      raise fields.refused(
        config, 'decoder_sparse_step', '1: experts in every layer'
      )
    if config.get('mlp_only_layers') not in (None, []):
      raise fields.refused(
        config, 'mlp_only_layers', '[]: experts in every layer'
      )
    return cls(
      **sizes,
      experts=experts,
      picked=fields.whole(config, 'num_experts_per_tok', experts),
      renormalized=fields.flag(config, 'norm_topk_prob'),
    )


def _experts_field(config: Mapping[str, Any]) -> str:
  """transformers 5 writes another name than 4 and the published files."""
  names = [n for n in ('num_experts', 'num_local_experts') if n in config]
  if len({str(config[n]) for n in names}) > 1:
    raise fields.refused(config, names[0], f'{names[1]}, or one of them')
  return names[0] if names else 'num_experts'


def _expert_specs(c: MoeConfig, layer) -> dict[str, base.ParamSpec]:
  E, D, F = c.experts, c.embed, c.mlp
  expert = 'mlp.experts.{}.'
  return dict(
    router=layer((E, D), ('expert', 'embed'), 'mlp.gate', base.ROUTER),
    gate=layer((E, F, D), ('expert', 'mlp', 'embed'), f'{expert}gate_proj'),
    up=layer((E, F, D), ('expert', 'mlp', 'embed'), f'{expert}up_proj'),
    down=layer((E, D, F), ('expert', 'embed', 'mlp'), f'{expert}down_proj'),
  )


def route(
  c: MoeConfig, x_XD: jax.Array, router_ED: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """(weight_XK in float32, expert_XK): the K experts that each token passes.

  The logits stay float32: rounded to bfloat16, many would be equal, and which
  of them are the largest would depend on the order of a sum.
  """
  logits_XE = jnp.einsum(
    '...d,ed->...e', x_XD, router_ED, preferred_element_type=jnp.float32
  )
  probs_XE = jax.nn.softmax(logits_XE, axis=-1)
  weight_XK, expert_XK = jax.lax.top_k(probs_XE, c.picked)
  if c.renormalized:
    weight_XK /= weight_XK.sum(-1, keepdims=True)
  return weight_XK, expert_XK


def grouped(x_MD, weight_MK, expert_MK, w) -> jax.Array:
  """The experts' outputs, weighted and summed, float32 [M, D].

  Pairs of a token and an expert are sorted by expert; each product then is one
  of ragged groups, of which a TPU computes nothing twice.
  """
  K = expert_MK.shape[1]
  expert_P = expert_MK.reshape(-1)
  order_P = jnp.argsort(expert_P)
  sizes_E = jnp.bincount(expert_P, length=w['gate'].shape[0])
  product = functools.partial(
    jax.lax.ragged_dot_general,
    group_sizes=sizes_E.astype(jnp.int32),
    ragged_dot_dimension_numbers=_BY_EXPERT,
  )
  x_PD = x_MD[order_P // K]
  h_PF = jax.nn.silu(product(x_PD, w['gate'])) * product(x_PD, w['up'])
  y_PD = product(h_PF, w['down']).astype(jnp.float32)
  y_PD *= weight_MK.reshape(-1)[order_P, None]
  return jnp.zeros(x_MD.shape, jnp.float32).at[order_P // K].add(y_PD)


def every_expert(x_MD, weight_MK, expert_MK, w) -> jax.Array:
  """The same, with each expert computed for all tokens, one after the other.

  It computes E / K times as much, yet needs no more memory than one expert
  does. Platforms other than a TPU turn ragged groups into E copies of them.
  """
  E = w['gate'].shape[0]

  @jax.checkpoint
  def add(y_MD, expert):
    index, w = expert
    h_MF = decoder.linear(x_MD, w['gate'])
    h_MF = jax.nn.silu(h_MF) * decoder.linear(x_MD, w['up'])
    share_M = jnp.where(expert_MK == index, weight_MK, 0.0).sum(-1)
    out_MD = decoder.linear(h_MF, w['down']).astype(jnp.float32)
    return y_MD + share_M[:, None] * out_MD, None

  start = jnp.zeros(x_MD.shape, jnp.float32)
  return jax.lax.scan(add, start, (jnp.arange(E), w))[0]


def _experts(c: MoeConfig, split, h, w) -> jax.Array:
  """The MLP of a layer on h [..., D]."""

  def own(h, w):
    x_MD = h.reshape(-1, h.shape[-1])
    w = dict(w)
    weight_MK, expert_MK = route(c, x_MD, w.pop('router'))
    y_MD = jax.lax.platform_dependent(
      *(x_MD, weight_MK, expert_MK, w), tpu=grouped, default=every_expert
    )
    return y_MD.astype(h.dtype).reshape(h.shape)

  with jax.named_scope('experts'):
    return split(own, h, {n: w[n] for n in ('router', *_CUT)}, _CUT)


EXPERTS = decoder.Mlp(_expert_specs, _experts)


def param_specs(c: MoeConfig) -> base.Tree:
  """The parameter tree; experts have an axis E of their own after L."""
  return decoder.param_specs(c, EXPERTS)


def make_model(c: MoeConfig, **options: Any) -> base.Model:
  """The pure functions of `base.Model`; see `families.Family` for options."""
  model = decoder.make_model(c, mlp=EXPERTS, **options)
  share = c.picked / c.experts
  return model._replace(even_tokens=decoder.even_tokens(model.specs, share))
