"""Qwen3-MoE: Qwen3's decoder, in which a router picks experts for each token.

The number of tokens of an expert is not limited, so routing does not depend on
other tokens, and a rollout is trained as it was sampled. The loss has no term
that balances the experts.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from acereason_jax.models import base, decoder, quantized
from acereason_jax.models import config_json as fields

MOST_EXPERTS = 4096
# With fewer tokens on a device, reading weights takes longer than products.
MANY = 256
_MATRICES = ('gate', 'up', 'down')
# The dimension of each weight [E, out, in], and of each scale [E, 1, out], that
# is F, the width of an expert; the scale of `down` has none.
_CUT = dict(gate=1, up=1, down=2, gate_scale=2, up_scale=2)


@dataclasses.dataclass(frozen=True)
class MoeConfig(decoder.DecoderConfig):
  """Sizes and switches; `mlp` is the width of one expert.

  experts: experts of a layer.
  picked: experts that a token passes in a layer.
  renormalized: whether the weights of the picked experts add up to 1.
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
  """The field of `experts`, whose name depends on transformers' version."""
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

  The logits stay float32: rounded to bfloat16, many would be equal, and the
  order of a sum would decide which are the largest.
  """
  logits_XE = jnp.einsum(
    '...d,ed->...e', x_XD, router_ED, preferred_element_type=jnp.float32
  )
  probs_XE = jax.nn.softmax(logits_XE, axis=-1)
  weight_XK, expert_XK = jax.lax.top_k(probs_XE, c.picked)
  if c.renormalized:
    weight_XK /= weight_XK.sum(-1, keepdims=True)
  return weight_XK, expert_XK


def every_expert(x_MD, weight_MK, expert_MK, w) -> jax.Array:
  """The experts' outputs, weighted and summed, float32 [M, D].

  Each expert is computed for all tokens, one after the other. That is E / K
  times as many products as needed, but each weight is read once.
  """

  @jax.checkpoint
  def add(y_MD, expert):
    index, w = expert
    linear = functools.partial(quantized.product, lambda x, w: x @ w.T, w)
    h_MF = jax.nn.silu(linear('gate', x_MD)) * linear('up', x_MD)
    share_M = jnp.where(expert_MK == index, weight_MK, 0.0).sum(-1)
    out_MD = linear('down', h_MF).astype(jnp.float32)
    return y_MD + share_M[:, None] * out_MD, None

  start = jnp.zeros(x_MD.shape, jnp.float32)
  experts = jnp.arange(w['gate'].shape[0]), w
  return jax.lax.scan(add, start, experts)[0]


def grouped(x_MD, weight_MK, expert_MK, w) -> jax.Array:
  """As `every_expert`, with about 2 P products for P = M K pairs.

  The pairs (token, expert) are sorted by expert, and each expert's pairs are
  padded to whole blocks of C pairs. The J blocks are enough for any routing.
  Each block gets a copy of its expert's weights, so memory holds about two
  layers of experts. `lax.ragged_dot` would need no padding, but XLA computes
  all its rows for each expert, on TPUs too.
  """
  (M, K), (E, _, D) = expert_MK.shape, w['gate'].shape
  P = M * K
  C = max(8, -(-P // E))
  J = P // C + E
  order_P = jnp.argsort(expert_MK.reshape(-1))
  expert_P = expert_MK.reshape(-1)[order_P]
  count_E = jnp.bincount(expert_P, length=E)
  blocks_E = -(-count_E // C)
  end_E = jnp.cumsum(blocks_E)
  # The place of each pair: its expert's first block plus its rank in that
  # expert.
  place_P = jnp.arange(P) - (jnp.cumsum(count_E) - count_E)[expert_P]
  slot_P = (end_E - blocks_E)[expert_P] * C + place_P
  token_S = jnp.full(J * C, M).at[slot_P].set(order_P // K)
  share_S = jnp.zeros(J * C).at[slot_P].set(weight_MK.reshape(-1)[order_P])
  x_JCD = x_MD.at[token_S].get(mode='fill', fill_value=0).reshape(J, C, D)
  expert_J = jnp.searchsorted(end_E, jnp.arange(J), side='right')
  w = {n: jnp.take(v, expert_J, axis=0, mode='clip') for n, v in w.items()}
  einsum = functools.partial(jnp.einsum, 'jcd,jfd->jcf')
  linear = functools.partial(quantized.product, einsum, w)
  h_JCF = jax.nn.silu(linear('gate', x_JCD)) * linear('up', x_JCD)
  y_JCD = linear('down', h_JCF).astype(jnp.float32)
  y_SD = share_S[:, None] * y_JCD.reshape(J * C, D)
  return jnp.zeros(x_MD.shape, jnp.float32).at[token_S].add(y_SD, mode='drop')


def _experts(c: MoeConfig, split, h, w) -> jax.Array:
  """The MLP of a layer on h [..., D]."""

  def own(h, w):
    x_MD = h.reshape(-1, h.shape[-1])
    w = dict(w)
    weight_MK, expert_MK = route(c, x_MD, w.pop('router'))
    compute = every_expert if len(x_MD) < MANY else grouped
    y_MD = compute(x_MD, weight_MK, expert_MK, w)
    return y_MD.astype(h.dtype).reshape(h.shape)

  with jax.named_scope('experts'):
    own_weights = quantized.of(w, ('router', *_MATRICES))
    cut = {n: axis for n, axis in _CUT.items() if n in own_weights}
    return split(own, h, own_weights, cut)


EXPERTS = decoder.Mlp(_expert_specs, _experts)


def param_specs(c: MoeConfig) -> base.Tree:
  """The parameter tree; experts have an axis E of their own after L."""
  return decoder.param_specs(c, EXPERTS)


def make_model(c: MoeConfig, **options: Any) -> base.Model:
  """The pure functions of `base.Model`; see `families.Family` for options."""
  model = decoder.make_model(c, mlp=EXPERTS, **options)
  share = c.picked / c.experts
  return model._replace(even_tokens=decoder.even_tokens(model.specs, share))
