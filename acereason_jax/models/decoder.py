"""One pre-norm GQA decoder: Qwen2/2.5, Qwen3, Llama 3, SmolLM2.

The same `block` trains, prefills and decodes; only the attention callback
differs, so what was sampled is what is trained. Weights keep Hugging Face's
[out, in] layout. A plain causal pass is `segment_BT` = 1, `prefix_BT` = 0.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax.kernels import attention
from acereason_jax.models import base

ARCHITECTURES = {
  'Qwen2ForCausalLM': dict(qkv_bias=True, qk_norm=False),
  'Qwen3ForCausalLM': dict(qkv_bias=False, qk_norm=True),
  'LlamaForCausalLM': dict(qkv_bias=False, qk_norm=False),
}

REQUIRED = (
  'vocab_size',
  'num_hidden_layers',
  'hidden_size',
  'intermediate_size',
  'num_attention_heads',
  'rms_norm_eps',
  'max_position_embeddings',
)
# Far beyond what there is. A number outside of them asks for memory that no
# weights file has.
LARGEST = {
  'vocab_size': 1 << 24,
  'num_hidden_layers': 1024,
  'hidden_size': 1 << 17,
  'intermediate_size': 1 << 20,
  'num_attention_heads': 4096,
  'num_key_value_heads': 4096,
  'head_dim': 4096,
  'max_position_embeddings': 1 << 30,
}
LARGEST_NUMBER = 1e15
# By type its numbers: the least each may be, and whether it must be there.
ROPES = {
  'default': {},
  'linear': {'factor': (1, True)},
  'llama3': {
    'factor': (1, True),
    'low_freq_factor': (0, True),
    'high_freq_factor': (0, True),
  },
  'yarn': {
    'factor': (1, True),
    'attention_factor': (0, False),
    'beta_fast': (0, False),
    'beta_slow': (0, False),
    'mscale': (0, False),
    'mscale_all_dim': (0, False),
  },
}
_KEEP = jax.checkpoint_policies
REMAT = {
  # Products of weights and attention: what is cheap is computed again. Also
  # the fastest on a CPU, which writes memory slower than it multiplies.
  'dots': _KEEP.save_from_both_policies(
    _KEEP.dots_with_no_batch_dims_saveable,
    _KEEP.save_only_these_names(attention.SAVED),
  ),
  # Attention alone: its cost grows with T squared, the others' with T.
  'attention': _KEEP.save_only_these_names(attention.SAVED),
  'block': _KEEP.nothing_saveable,
}

Pin = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Sizes and switches; `rope` is Hugging Face's rope parameters dict."""

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
    """Reads a config.json of transformers 4 or 5.

    Raises:
      ValueError: an architecture or a feature that this decoder lacks.
    """
    name = _architecture(config)
    if missing := [field for field in REQUIRED if field not in config]:
      raise ValueError(
        f'config.json: lacks {", ".join(missing)}; is it that of a whole model?'
      )
    _refuse_unsupported(config, name)
    sizes = {field: _size(config, field) for field in LARGEST}
    embed, heads = sizes['hidden_size'], sizes['num_attention_heads']
    kv_heads = sizes['num_key_value_heads'] or heads
    if heads % kv_heads:
      raise _refused(
        config, 'num_key_value_heads', f'a divisor of {heads} heads'
      )
    if not sizes['head_dim'] and embed % heads:
      raise _refused(config, 'num_attention_heads', f'a divisor of {embed}')
    head_dim = sizes['head_dim'] or embed // heads
    if head_dim % 2:
      raise ValueError(
        f'config.json: heads of {head_dim} numbers; expected an even number, '
        'for pairs that are rotated'
      )
    epsilon = _number(config, 'rms_norm_eps')
    if not 0 < epsilon < 1:
      raise _refused(config, 'rms_norm_eps', 'a number between 0 and 1')
    tied = config.get('tie_word_embeddings', False)
    if not isinstance(tied, bool):
      raise _refused(config, 'tie_word_embeddings', 'true or false')
    return cls(
      vocab=sizes['vocab_size'],
      layers=sizes['num_hidden_layers'],
      embed=embed,
      mlp=sizes['intermediate_size'],
      heads=heads,
      kv_heads=kv_heads,
      head_dim=head_dim,
      norm_epsilon=epsilon,
      tied=tied,
      context=sizes['max_position_embeddings'],
      rope=_rope_parameters(config),
      **ARCHITECTURES[name],
    )


def _refused(
  config: Mapping[str, Any], field: str, expected: str, where: str = ''
) -> ValueError:
  return ValueError(
    f'config.json: {where}{field}={config.get(field)!r:.60}; expected '
    f'{expected}: is it that of a whole model, as its authors published it?'
  )


def _architecture(config: Mapping[str, Any]) -> str:
  match config.get('architectures') or ['(none)']:
    case [str(name), *_] if name in ARCHITECTURES:
      return name
    case [first, *_]:
      pass
    case first:
      pass
  raise ValueError(
    f'config.json: architecture {first!r:.60} is not supported; '
    f'expected one of {", ".join(ARCHITECTURES)}'
  )


def _size(config: Mapping[str, Any], field: str) -> int | None:
  """A whole number; None only where the field may be left out."""
  value = config.get(field)
  if value is None and field not in REQUIRED:
    return None
  if type(value) is not int or not 1 <= value <= LARGEST[field]:
    raise _refused(config, field, f'a whole number, 1 to {LARGEST[field]}')
  return value


def _number(holder: Mapping[str, Any], field: str, where: str = '') -> float:
  """A finite number, neither huge nor so small that its inverse is."""
  value = holder.get(field)
  if type(value) not in (int, float) or not (
    value == 0 or 1 / LARGEST_NUMBER <= abs(value) <= LARGEST_NUMBER
  ):
    raise _refused(holder, field, 'a number', where)
  return value


def _refuse_unsupported(config: Mapping[str, Any], name: str) -> None:
  window = 'full_attention'
  types = config.get('layer_types') or ()
  found = {
    'use_sliding_window': config.get('use_sliding_window', False),
    'mlp_bias': config.get('mlp_bias', False),
    # It would put a bias on the output projection too; Qwen2 ignores it.
    'attention_bias': name != 'Qwen2ForCausalLM'
    and config.get('attention_bias', False),
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
        'expected a dense model with full attention, silu, whole rotary heads '
        'and no output or MLP bias'
      )


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
  """One dict with rope_type and rope_theta, whichever version wrote it.

  As transformers 5 reads it, except that parameters of a layer type count, and
  that no number is missing, unlikely or text.
  """
  field, given = _rope_field(config)
  where = f'{field}: '
  kind = given.get('rope_type') or given.get('type') or 'default'
  if not isinstance(kind, str) or kind not in ROPES:
    raise ValueError(
      f'config.json: {where}rope_type={kind!r:.60} is not supported; expected '
      f'one of {", ".join(ROPES)}'
    )
  rope = dict(rope_type=kind)
  holder = given if 'rope_theta' in given else config
  theta = 10000.0
  if 'rope_theta' in holder:
    theta = _number(holder, 'rope_theta')
    if theta <= 1:
      raise _refused(holder, 'rope_theta', 'a number above 1')
  rope['rope_theta'] = theta
  # Its place at the top is that of Phi, and comes first in transformers.
  original = 'original_max_position_embeddings'
  rope[original] = context = config['max_position_embeddings']
  holder = config if config.get(original) is not None else given
  if original in holder and kind in ('llama3', 'yarn'):
    rope[original] = _number(holder, original, where)
    if rope[original] < 1:
      raise _refused(holder, original, 'a number from 1', where)
  if kind == 'yarn' and given.get('factor', 0) is None:
    given = {**given, 'factor': context / rope[original]}
  for name, (low, needed) in ROPES[kind].items():
    if given.get(name) is not None or needed:
      rope[name] = _number(given, name, where)
      if rope[name] < low:
        raise _refused(given, name, f'a number from {low}', where)
  if kind == 'llama3' and rope['high_freq_factor'] <= rope['low_freq_factor']:
    raise _refused(
      given, 'high_freq_factor', 'more than low_freq_factor', where
    )
  if kind == 'yarn' and 'truncate' in given:
    rope['truncate'] = given['truncate']
    if not isinstance(given['truncate'], bool):
      raise _refused(given, 'truncate', 'true or false', where)
  if given.get('partial_rotary_factor') not in (None, 1):
    raise _refused(given, 'partial_rotary_factor', '1', where)
  return rope


def _rope_field(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
  """The field that tells of rope, and its dict, which is that of a layer type
  where it has one."""
  names = [n for n in ('rope_scaling', 'rope_parameters') if config.get(n)]
  if not names:
    return 'rope_parameters', {}
  first, last = names[0], names[-1]
  if config[first] != config[last]:
    raise _refused(config, first, f'{last}, which is there too, or one of them')
  given = config[first]
  if isinstance(given, Mapping) and any(
    isinstance(x, Mapping) or k.endswith('_attention') for k, x in given.items()
  ):
    # transformers 5 has one for each layer type; all layers are of one here.
    if given.keys() != {'full_attention'}:
      raise _refused(config, first, "parameters of 'full_attention' only")
    first, given = f'{first}.full_attention', given['full_attention']
  if not isinstance(given, Mapping):
    raise ValueError(f'config.json: {first}={given!r:.60}; expected an object')
  return first, given


def rope_frequencies(
  rope: Mapping[str, Any], head_dim: int
) -> tuple[np.ndarray, float]:
  """Inverse frequencies, float64 [H/2], and the scale of cos and sin.

  Sources: arXiv 2104.09864; Llama 3.1's piecewise scaling; YaRN,
  arXiv 2309.00071, section 3 (frequencies) and equation 22 (scale).
  """
  theta, kind = rope['rope_theta'], rope['rope_type']
  inverse = theta ** -(np.arange(0, head_dim, 2) / head_dim)
  if kind == 'default':
    return inverse, 1.0
  if kind == 'linear':
    return inverse / rope['factor'], 1.0
  original = rope['original_max_position_embeddings']
  if kind == 'llama3':
    low, high = rope['low_freq_factor'], rope['high_freq_factor']
    turns = original * inverse / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return inverse * (keep + (1 - keep) / rope['factor']), 1.0
  if kind == 'yarn':
    return _yarn(rope, inverse, head_dim, original)
  raise ValueError(
    f'config.json: rope_type={kind!r} is not supported; expected default, '
    'linear, llama3 or yarn'
  )


def _yarn(rope, inverse, head_dim, original) -> tuple[np.ndarray, float]:
  factor = rope['factor']

  def dimension(turns: float) -> float:
    ratio = original / (turns * 2 * math.pi)
    return head_dim * math.log(ratio) / (2 * math.log(rope['rope_theta']))

  def scale(mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

  low = dimension(rope.get('beta_fast') or 32)
  high = dimension(rope.get('beta_slow') or 1)
  if rope.get('truncate', True):
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, head_dim - 1)
  high = high if high != low else high + 0.001
  ramp = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)
  attention_factor = rope.get('attention_factor')
  if attention_factor is None:
    mscale, every = rope.get('mscale'), rope.get('mscale_all_dim')
    both = mscale and every
    attention_factor = scale(mscale) / scale(every) if both else scale(1.0)
  return inverse * (1 - ramp) + inverse / factor * ramp, attention_factor


def param_specs(c: DecoderConfig) -> base.Tree:
  """The parameter tree; layer leaves are stacked over L."""
  L, D, F, V = c.layers, c.embed, c.mlp, c.vocab
  Q, KV = c.heads * c.head_dim, c.kv_heads * c.head_dim
  std = 0.02

  def layer(shape, axes, std, name):
    return base.ParamSpec(
      (L, *shape), ('layer', *axes), std, 'model.layers.{}.' + name + '.weight'
    )

  def bias(spec: base.ParamSpec) -> base.ParamSpec:
    name = spec.name.removesuffix('weight') + 'bias'
    return base.ParamSpec(spec.shape[:2], spec.axes[:2], 0.0, name)

  layers = dict(
    attn_norm=layer((D,), ('norm',), None, 'input_layernorm'),
    q=layer((Q, D), ('heads', 'embed'), std, 'self_attn.q_proj'),
    k=layer((KV, D), ('kv_heads', 'embed'), std, 'self_attn.k_proj'),
    v=layer((KV, D), ('kv_heads', 'embed'), std, 'self_attn.v_proj'),
    o=layer((D, Q), ('embed', 'heads'), std, 'self_attn.o_proj'),
    mlp_norm=layer((D,), ('norm',), None, 'post_attention_layernorm'),
    gate=layer((F, D), ('mlp', 'embed'), std, 'mlp.gate_proj'),
    up=layer((F, D), ('mlp', 'embed'), std, 'mlp.up_proj'),
    down=layer((D, F), ('embed', 'mlp'), std, 'mlp.down_proj'),
  )
  if c.qkv_bias:
    layers |= {f'{n}_bias': bias(layers[n]) for n in 'qkv'}
  if c.qk_norm:
    for n in 'qk':
      layers[f'{n}_norm'] = layer(
        (c.head_dim,), ('norm',), None, f'self_attn.{n}_norm'
      )
  spec = base.ParamSpec
  specs = dict(
    embed=spec((V, D), ('vocab', 'embed'), std, 'model.embed_tokens.weight'),
    layers=layers,
    final_norm=spec((D,), ('norm',), None, 'model.norm.weight'),
  )
  if not c.tied:
    specs['head'] = spec((V, D), ('vocab', 'embed'), std, 'lm_head.weight')
  return specs


def even_tokens(specs: base.Tree) -> float:
  """The length of a segment whose attention costs as much as its products.

  Of its n tokens each passes all weights but the input embedding, W products,
  and sees (n + 1) / 2 keys on average, 2 L N H products each.
  """
  L, Q, _ = specs['layers']['q'].shape
  matrices = [s for s in specs['layers'].values() if len(s.shape) == 3]
  weights = sum(math.prod(s.shape) for s in matrices)
  weights += math.prod(specs['embed'].shape)
  return weights / (L * Q)


def rms_norm(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
  x32 = x.astype(jnp.float32)
  scale = jax.lax.rsqrt(jnp.mean(x32 * x32, -1, keepdims=True) + epsilon)
  return (x32 * scale).astype(x.dtype) * weight


def linear(x: jax.Array, w_FD: jax.Array, bias_F=None) -> jax.Array:
  """x @ w.T + bias."""
  product = functools.partial(jnp.einsum, '...d,fd->...f')
  if x.ndim == 2:
    y = jax.lax.platform_dependent(x, w_FD, cpu=_few_rows, default=product)
  else:
    y = product(x, w_FD)
  return y if bias_F is None else y + bias_F


def _few_rows(x_BD: jax.Array, w_FD: jax.Array) -> jax.Array:
  """x @ w.T for decoding on a CPU: weights on the left, a fourth faster.

  The barrier keeps XLA from turning the product around again.
  """
  y_FB = jnp.einsum('fd,bd->fb', w_FD, x_BD)
  return jax.lax.optimization_barrier(y_FB).T


def rope_rotation(
  frequencies: np.ndarray, scale: float, position: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """cos and sin, each [..., 1, H], of positions [...]."""
  angle = position[..., None].astype(jnp.float32) * frequencies
  angle = jnp.concatenate([angle, angle], -1)[..., None, :]
  return jnp.cos(angle) * scale, jnp.sin(angle) * scale


def rotate(x: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
  """x [..., heads, H] turned by `rope_rotation`: pairs (i, i + H / 2)."""
  cos, sin = turn
  first, second = jnp.split(x.astype(jnp.float32), 2, -1)
  turned = jnp.concatenate([-second, first], -1)
  return (x * cos + turned * sin).astype(x.dtype)


def block(c: DecoderConfig, pin, x, w, turn, attend):
  """One layer on x [..., D]; returns the new x and this layer's (k, v)."""
  h = rms_norm(x, w['attn_norm'], c.norm_epsilon)
  q, k, v = (linear(h, w[n], w.get(f'{n}_bias')) for n in 'qkv')
  q = q.reshape(*q.shape[:-1], c.heads, c.head_dim)
  k, v = (t.reshape(*t.shape[:-1], c.kv_heads, c.head_dim) for t in (k, v))
  if c.qk_norm:
    q = rms_norm(q, w['q_norm'], c.norm_epsilon)
    k = rms_norm(k, w['k_norm'], c.norm_epsilon)
  q, k = rotate(q, turn), rotate(k, turn)
  with jax.named_scope('attention'):
    out = attend(q, k, v)
  x = pin(x + linear(out.reshape(*out.shape[:-2], -1), w['o']))
  h = rms_norm(x, w['mlp_norm'], c.norm_epsilon)
  h = jax.nn.silu(linear(h, w['gate'])) * linear(h, w['up'])
  return pin(x + linear(h, w['down'])), (k, v)


def make_model(
  c: DecoderConfig,
  *,
  remat: str = 'dots',
  pin_rows: Pin = lambda x: x,
  pin_packed: Pin = lambda x: x,
  pin_embedded: Pin = lambda x: x,
  attend: attention.Attend = attention.packed_attention,
  layer_weights: Callable[[base.Tree], base.Tree] = lambda w: w,
) -> base.Model:
  """The family's pure functions; see `base.Model`.

  `remat` names what the backward pass of `apply` keeps of a block (`REMAT`);
  the rest is computed again. `pin_packed` and `pin_rows` are applied to the
  residual streams of `apply` and `extend`, and before the former `pin_embedded`
  to the embeddings, to pin their shardings (`mesh_lib.pins`). `attend` is what
  `apply` attends with: that of a kernel of `attention.choose`, on a mesh
  through `mesh_lib.split_attention`.
  `layer_weights` makes a layer's weights of its parameters, for `apply` alone.
  """
  frequencies, scale = rope_frequencies(c.rope, c.head_dim)
  frequencies = np.asarray(frequencies, np.float32)
  rotation = functools.partial(rope_rotation, frequencies, scale)
  run = functools.partial(block, c)

  def embed(params, tokens):
    return jnp.take(params['embed'], tokens, axis=0)

  def finish(params, x):
    return rms_norm(x, params['final_norm'], c.norm_epsilon)

  def apply(params, tokens_BT, position_BT, segment_BT, prefix_BT):
    turn = rotation(position_BT)
    layout = attention.layout(segment_BT, prefix_BT)

    def body(x_BTD, w):
      within_rows = lambda q, k, v: attend(q, k, v, layout)
      return run(pin_packed, x_BTD, layer_weights(w), turn, within_rows)[
        0
      ], None

    body = jax.checkpoint(body, policy=REMAT[remat])
    x_BTD = pin_packed(pin_embedded(embed(params, tokens_BT)))
    x_BTD, _ = jax.lax.scan(body, x_BTD, params['layers'])
    return finish(params, x_BTD)

  def extend(params, tokens_X, position_X, attend):
    turn = rotation(position_X)

    def body(x_XD, layer):
      index, w = layer
      return run(pin_rows, x_XD, w, turn, functools.partial(attend, index))

    layers = jnp.arange(c.layers), params['layers']
    x_XD = pin_rows(embed(params, tokens_X))
    x_XD, kv = jax.lax.scan(body, x_XD, layers)
    return finish(params, x_XD), kv

  def head(params):
    return params['embed'] if c.tied else params['head']

  return base.Model(param_specs(c), apply, extend, head)
