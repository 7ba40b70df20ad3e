"""One pre-norm GQA decoder: Qwen2/2.5, Qwen3, Llama 3, SmolLM2.

The same `block` trains, prefills and decodes; only the attention callback
differs, so sampler and trainer run one model. Weights keep Hugging Face's [out,
in] layout. A plain causal pass is `segment_BT` = 1, `prefix_BT` = 0.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import partition
from acereason_jax.kernels import attention
from acereason_jax.models import base, quantized
from acereason_jax.models import config_json as fields
from acereason_jax.models import remat as remat_lib
from acereason_jax.models import rope as rope_lib

# Dense families by their name in config.json; a new one needs one line here.
ARCHITECTURES = {
  'Qwen2ForCausalLM': dict(qkv_bias=True, qk_norm=False),
  'Qwen3ForCausalLM': dict(qkv_bias=False, qk_norm=True),
  'LlamaForCausalLM': dict(qkv_bias=False, qk_norm=False),
}
# Far larger than any model: a larger number would need memory that no weights
# file has.
MOST_VOCAB, MOST_LAYERS, MOST_EMBED = 1 << 24, 1024, 1 << 17
MOST_MLP, MOST_HEADS, MOST_HEAD_DIM, MOST_CONTEXT = 1 << 20, 4096, 4096, 1 << 30
# Up to this many rows a CPU multiplies weights @ activations. With 128 both
# orientations take the same time, with more the other is faster.
FEW_ROWS = 128

Pin = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and switches of a model.

  vocab: number of tokens that have an embedding.
  layers, embed, mlp: layers, width of the residual stream, width of an MLP.
  heads, kv_heads, head_dim: query heads, key and value heads, width of a head.
  norm_epsilon: added to the mean square in a norm.
  tied: whether the head is the embedding.
  qkv_bias: whether q, k and v have biases.
  qk_norm: whether the heads of q and k are normalized.
  context: the most tokens of a prompt and its response.
  rope: the dict that `rope.read` makes.
  """

  vocab: int
  layers: int
  embed: int
  mlp: int
  heads: int
  kv_heads: int
  head_dim: int
  norm_epsilon: float
  tied: bool
  qkv_bias: bool
  qk_norm: bool
  context: int
  rope: Mapping[str, Any]

  @classmethod
  def from_hf(cls, config: Mapping[str, Any]) -> 'DecoderConfig':
    """Reads the config.json of a dense model, of transformers 4 or 5.

    Raises:
      ValueError: one line; a feature that this decoder lacks, or a size that is
        missing or impossible.
    """
    name = fields.architecture(config, ARCHITECTURES)
    return cls(**read_sizes(config, **ARCHITECTURES[name]))


def read_sizes(
  config: Mapping[str, Any],
  *,
  qkv_bias: bool,
  qk_norm: bool,
  mlp: str = 'intermediate_size',
) -> dict[str, Any]:
  """The fields of a DecoderConfig; `mlp` is the name of the MLP's width."""
  fields.require(
    config,
    (
      *('vocab_size', 'num_hidden_layers', 'hidden_size', mlp),
      *('num_attention_heads', 'rms_norm_eps', 'max_position_embeddings'),
    ),
  )
  _refuse_unsupported(config, qkv_bias)
  embed = fields.whole(config, 'hidden_size', MOST_EMBED)
  epsilon = fields.number(config, 'rms_norm_eps')
  if not 0 < epsilon < 1:
    raise fields.refused(config, 'rms_norm_eps', 'a number between 0 and 1')
  return dict(
    vocab=fields.whole(config, 'vocab_size', MOST_VOCAB),
    layers=fields.whole(config, 'num_hidden_layers', MOST_LAYERS),
    embed=embed,
    mlp=fields.whole(config, mlp, MOST_MLP),
    **_read_heads(config, embed),
    norm_epsilon=epsilon,
    tied=fields.flag(config, 'tie_word_embeddings'),
    context=fields.whole(config, 'max_position_embeddings', MOST_CONTEXT),
    rope=rope_lib.read(config),
    qkv_bias=qkv_bias,
    qk_norm=qk_norm,
  )


def _read_heads(config: Mapping[str, Any], embed: int) -> dict[str, int]:
  heads = fields.whole(config, 'num_attention_heads', MOST_HEADS)
  kv_heads = fields.optional(config, 'num_key_value_heads', MOST_HEADS) or heads
  if heads % kv_heads:
    raise fields.refused(
      config, 'num_key_value_heads', f'a divisor of {heads} heads'
    )
  head_dim = fields.optional(config, 'head_dim', MOST_HEAD_DIM)
  if not head_dim and embed % heads:
    raise fields.refused(config, 'num_attention_heads', f'a divisor of {embed}')
  head_dim = head_dim or embed // heads
  if head_dim % 2:
    raise ValueError(
      f'config.json: heads of {head_dim} numbers; expected an even number, '
      'for pairs that are rotated'
    )
  return dict(heads=heads, kv_heads=kv_heads, head_dim=head_dim)


def _refuse_unsupported(config: Mapping[str, Any], qkv_bias: bool) -> None:
  window = 'full_attention'
  types = config.get('layer_types') or ()
  found = {
    'use_sliding_window': config.get('use_sliding_window', False),
    'mlp_bias': config.get('mlp_bias', False),
    # This field would add a bias to the output projection too; Qwen2 ignores
    # it.
    'attention_bias': not qkv_bias and config.get('attention_bias', False),
    'hidden_act': config.get('hidden_act', 'silu') != 'silu',
    'layer_types': not isinstance(types, list | tuple)
    or any(t != window for t in types),
    'partial_rotary_factor': config.get('partial_rotary_factor')
    not in (None, 1),
  }
  for field, bad in found.items():
    if bad:
      raise ValueError(
        f'config.json: {field}={config[field]!r:.60} is not supported; '
        'expected a model with full attention, silu, whole rotary heads and no '
        'output or MLP bias'
      )


class Mlp(NamedTuple):
  """The part of a layer that an architecture may replace.

  specs: specs(config, layer) -> {name: ParamSpec}; `layer` is `layer_spec` of
    the config.
  apply: apply(config, split, h, w) -> y of h's shape [..., D]; `w` is one
    layer's weights. `split` is an option of `partition.pins`.
  """

  specs: Callable[[Any, Callable[..., base.ParamSpec]], dict]
  apply: Callable[..., jax.Array]


def layer_spec(
  layers: int,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  name: str,
  role: base.Role = base.MATRIX,
) -> base.ParamSpec:
  """One parameter of every layer; `name` follows the layer's index."""
  return base.ParamSpec(
    (layers, *shape),
    ('layer', *axes),
    None if role == base.VECTOR else 0.02,
    f'model.layers.{{}}.{name}.weight',
    role,
  )


def _gated_specs(c: DecoderConfig, layer) -> dict[str, base.ParamSpec]:
  D, F = c.embed, c.mlp
  return dict(
    gate=layer((F, D), ('mlp', 'embed'), 'mlp.gate_proj'),
    up=layer((F, D), ('mlp', 'embed'), 'mlp.up_proj'),
    down=layer((D, F), ('embed', 'mlp'), 'mlp.down_proj'),
  )


def _gated(c: DecoderConfig, split, h, w) -> jax.Array:
  h = jax.nn.silu(linear(h, w, 'gate')) * linear(h, w, 'up')
  return linear(h, w, 'down')


GATED = Mlp(_gated_specs, _gated)


def param_specs(c: DecoderConfig, mlp: Mlp = GATED) -> base.Tree:
  """The parameter tree; layer leaves are stacked over L."""
  D, V = c.embed, c.vocab
  Q, KV = c.heads * c.head_dim, c.kv_heads * c.head_dim
  layer = functools.partial(layer_spec, c.layers)
  norm = functools.partial(layer, axes=('norm',), role=base.VECTOR)

  def bias(spec: base.ParamSpec) -> base.ParamSpec:
    name = spec.name.removesuffix('weight') + 'bias'
    return base.ParamSpec(spec.shape[:2], spec.axes[:2], 0.0, name, base.VECTOR)

  layers = dict(
    attn_norm=norm((D,), name='input_layernorm'),
    q=layer((Q, D), ('heads', 'embed'), 'self_attn.q_proj'),
    k=layer((KV, D), ('kv_heads', 'embed'), 'self_attn.k_proj'),
    v=layer((KV, D), ('kv_heads', 'embed'), 'self_attn.v_proj'),
    o=layer((D, Q), ('embed', 'heads'), 'self_attn.o_proj'),
    mlp_norm=norm((D,), name='post_attention_layernorm'),
    **mlp.specs(c, layer),
  )
  if c.qkv_bias:
    layers |= {f'{n}_bias': bias(layers[n]) for n in 'qkv'}
  if c.qk_norm:
    for n in 'qk':
      layers[f'{n}_norm'] = norm((c.head_dim,), name=f'self_attn.{n}_norm')
  table = lambda name: base.ParamSpec(
    (V, D), ('vocab', 'embed'), 0.02, name, base.TABLE
  )
  specs = dict(
    embed=table('model.embed_tokens.weight'),
    layers=layers,
    final_norm=base.ParamSpec(
      (D,), ('norm',), None, 'model.norm.weight', base.VECTOR
    ),
  )
  if not c.tied:
    specs['head'] = table('lm_head.weight')
  return specs


def even_tokens(specs: base.Tree, share: float = 1.0) -> float:
  """Tokens of a segment whose attention costs as much as its weight products.

  Each of its n tokens takes W products with weights (all except the input
  embedding, and `share` of the experts). It sees (n + 1) / 2 keys on average,
  which take 2 L N H products each.
  """
  L, Q, _ = specs['layers']['q'].shape
  weights = math.prod(specs['embed'].shape)
  for spec in specs['layers'].values():
    if spec.role.matrix:
      passed = share if spec.stacked > 1 else 1.0
      weights += passed * math.prod(spec.shape)
  return weights / (L * Q)


def rms_norm(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
  x32 = x.astype(jnp.float32)
  scale = jax.lax.rsqrt(jnp.mean(x32 * x32, -1, keepdims=True) + epsilon)
  return (x32 * scale).astype(x.dtype) * weight


def linear(x: jax.Array, w: Mapping[str, jax.Array], name: str) -> jax.Array:
  """x @ w[name].T, plus the bias of that name if the layer has one."""
  y = quantized.product(_product, w, name, x)
  bias_F = w.get(f'{name}_bias')
  return y if bias_F is None else y + bias_F


def _product(x: jax.Array, w_FD: jax.Array) -> jax.Array:
  product = functools.partial(jnp.einsum, '...d,fd->...f')
  if x.ndim == 2 and len(x) <= FEW_ROWS:
    return jax.lax.platform_dependent(x, w_FD, cpu=_few_rows, default=product)
  return product(x, w_FD)


def _few_rows(x_BD: jax.Array, w_FD: jax.Array) -> jax.Array:
  """x @ w.T for decoding on a CPU; weights on the left are a fourth faster.

  The barrier keeps XLA from swapping the operands back.
  """
  y_FB = jnp.einsum('fd,bd->fb', w_FD, x_BD)
  return jax.lax.optimization_barrier(y_FB).T


def block(c: DecoderConfig, pin, mlp, x, w, turn, attend):
  """One layer on x [..., D]; returns the new x and this layer's (k, v).

  mlp(h, w) -> y of h's shape.
  """
  h = rms_norm(x, w['attn_norm'], c.norm_epsilon)
  q, k, v = (linear(h, w, n) for n in 'qkv')
  q = q.reshape(*q.shape[:-1], c.heads, c.head_dim)
  k, v = (t.reshape(*t.shape[:-1], c.kv_heads, c.head_dim) for t in (k, v))
  if c.qk_norm:
    q = rms_norm(q, w['q_norm'], c.norm_epsilon)
    k = rms_norm(k, w['k_norm'], c.norm_epsilon)
  q, k = rope_lib.rotate(q, turn), rope_lib.rotate(k, turn)
  with jax.named_scope('attention'):
    out = attend(q, k, v)
  x = pin(x + linear(out.reshape(*out.shape[:-2], -1), w, 'o'))
  h = rms_norm(x, w['mlp_norm'], c.norm_epsilon)
  return pin(x + mlp(h, w)), (k, v)


def _attend_rows(attend, layout, *qkv) -> jax.Array:
  """`attend` for q, k and v whose rows and tokens may be merged."""
  rows = layout.segment_BT.shape
  qkv_BTNH = (x.reshape(*rows, *x.shape[-2:]) for x in qkv)
  return attend(*qkv_BTNH, layout).reshape(qkv[0].shape)


def _through(body, x_XD, layers):
  """A scan of body(x, (index, weights)), or a walk where layers are apart."""
  if not isinstance(layers, tuple):
    count = len(jax.tree.leaves(layers)[0])
    return jax.lax.scan(body, x_XD, (jnp.arange(count), layers))
  kv = []
  for layer in enumerate(layers):
    x_XD, kv_X = body(x_XD, layer)
    kv.append(kv_X)
  return x_XD, tuple(kv)


def make_model(
  c: DecoderConfig,
  *,
  mlp: Mlp = GATED,
  remat: str = 'dots',
  pin_rows: Pin = lambda x: x,
  pin_packed: Pin = lambda x: x,
  look_up: Callable[..., jax.Array] = lambda w_VD, t: jnp.take(w_VD, t, axis=0),
  split_rows: partition.Split = partition.unsplit,
  split_packed: partition.Split = partition.unsplit,
  attend: attention.Attend = attention.packed_attention,
  layer_weights: Callable[[base.Tree], base.Tree] = lambda w: w,
  flat: bool = False,
) -> base.Model:
  """The pure functions of `base.Model`.

  `families.Family` documents each keyword except `mlp`, the MLP of the
  architecture.
  """
  frequencies, scale = rope_lib.frequencies(c.rope, c.head_dim)
  frequencies = np.asarray(frequencies, np.float32)
  rotation = functools.partial(rope_lib.rotation, frequencies, scale)
  finish = lambda params, x: rms_norm(x, params['final_norm'], c.norm_epsilon)
  packed_mlp = functools.partial(mlp.apply, c, split_packed)
  packed_block = functools.partial(block, c, pin_packed, packed_mlp)
  rows_mlp = functools.partial(mlp.apply, c, split_rows)
  rows_block = functools.partial(block, c, pin_rows, rows_mlp)

  def apply(params, tokens_BT, position_BT, segment_BT, prefix_BT):
    # With `flat` X is B T. Pins name B and T; on one device they do nothing.
    shape = (-1,) if flat else tokens_BT.shape
    tokens_X, position_X = tokens_BT.reshape(shape), position_BT.reshape(shape)
    turn = rotation(position_X)
    layout = attention.layout(segment_BT, prefix_BT)
    within_rows = functools.partial(_attend_rows, attend, layout)

    def body(x_XD, w):
      x_XD, _ = packed_block(x_XD, layer_weights(w), turn, within_rows)
      return x_XD, None

    body = jax.checkpoint(body, policy=remat_lib.POLICIES[remat])
    x_XD = pin_packed(look_up(params['embed'], tokens_X))
    x_XD, _ = jax.lax.scan(body, x_XD, params['layers'])
    return finish(params, x_XD).reshape(*tokens_BT.shape, -1)

  def extend(params, tokens_X, position_X, attend):
    turn = rotation(position_X)

    def body(x_XD, layer):
      index, w = layer
      return rows_block(x_XD, w, turn, functools.partial(attend, index))

    x_XD = pin_rows(jnp.take(params['embed'], tokens_X, axis=0))
    x_XD, kv = _through(body, x_XD, params['layers'])
    return finish(params, x_XD), kv

  head = lambda params: params['embed' if c.tied else 'head']
  specs = param_specs(c, mlp)
  return base.Model(specs, apply, extend, head, even_tokens(specs))
