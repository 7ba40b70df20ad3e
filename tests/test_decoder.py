"""The decoder: one forward two ways, its config, its rope, its size."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from acereason_jax.models import base, decoder
from acereason_jax.models import rope as rope_lib

YARN = dict(
  rope_type='yarn',
  rope_theta=10000.0,
  factor=4.0,
  original_max_position_embeddings=16,
)
LLAMA3 = dict(
  rope_type='llama3',
  rope_theta=10000.0,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=64,
)
LINEAR = dict(
  rope_type='linear',
  rope_theta=10000.0,
  factor=2.0,
  original_max_position_embeddings=512,
)
VARIANTS = {
  'qwen2': dict(heads=12, kv_heads=2, embed=48, qk_norm=False),
  'qwen3': dict(qkv_bias=False, head_dim=12, rope=YARN),
  'llama': dict(
    heads=9,
    kv_heads=3,
    embed=36,
    head_dim=4,
    qkv_bias=False,
    qk_norm=False,
    tied=True,
    rope=LLAMA3,
  ),
  'mha': dict(heads=4, kv_heads=4, qk_norm=False, rope=LINEAR),
}


def build(**changes):
  c = oracles.tiny_config(**changes)
  model = decoder.make_model(c)
  return c, model, oracles.rough_params(model.specs)


def causal(model, params, tokens_BT):
  """Hidden states [B, T, D] of plain causal rows."""
  ones = jnp.ones_like(tokens_BT)
  position = jnp.broadcast_to(jnp.arange(ones.shape[1]), ones.shape)
  return model.apply(params, tokens_BT, position, ones, 0 * ones)


def dense_attend(cache, length_B):
  """`extend`'s callback over a dense cache (k, v), [L, B, S, K, H].

  Row b sees the first length_B[b] cached tokens, then its own, causally.
  """

  def attend(layer, q_BTNH, k_BTKH, v_BTKH):
    T, S = q_BTNH.shape[1], cache[0].shape[2]
    times = q_BTNH.shape[2] // k_BTKH.shape[2]
    k_BSNH, v_BSNH = (
      jnp.repeat(jnp.concatenate([old[layer], new], 1), times, 2)
      for old, new in zip(cache, (k_BTKH, v_BTKH))
    )
    old_BTS = jnp.broadcast_to(
      jnp.arange(S) < length_B[:, None, None], (len(length_B), T, S)
    )
    new_BTT = jnp.broadcast_to(jnp.tri(T, dtype=bool), (len(length_B), T, T))
    seen_BTS = jnp.concatenate([old_BTS, new_BTT], -1)
    scores = jnp.einsum('btnh,bsnh->bnts', q_BTNH, k_BSNH)
    scores = jnp.where(
      seen_BTS[:, None], scores / np.sqrt(q_BTNH.shape[-1]), -jnp.inf
    )
    return jnp.einsum('bnts,bsnh->btnh', jax.nn.softmax(scores), v_BSNH)

  return attend


def extend_all(c, model, params, pieces, replies_BR, lengths_B):
  """Hidden states of `pieces` [B, i, T], and of replies after `lengths_B`.

  Both grow one dense cache, the replies token by token: each row writes over
  what stands after its own length.
  """
  B, _, T = pieces.shape
  S = pieces[0].size + replies_BR.shape[1]
  cache = [np.zeros((c.layers, B, S, c.kv_heads, c.head_dim), np.float32)] * 2

  @jax.jit
  def several(tokens_BT, cache, length_B):
    position_BT = length_B[:, None] + jnp.arange(tokens_BT.shape[1])
    attend = dense_attend(cache, length_B)
    return model.extend(params, tokens_BT, position_BT, attend)

  @jax.jit
  def single(tokens_B, cache, length_B):
    dense = dense_attend(cache, length_B)
    attend = lambda layer, *x: dense(layer, *(y[:, None] for y in x))[:, 0]
    x_BD, kv = model.extend(params, tokens_B, length_B, attend)
    return x_BD[:, None], [y[:, :, None] for y in kv]

  def call(run, tokens, cache, length_B):
    x_BTD, kv = run(tokens, cache, length_B)
    cache = [np.array(x) for x in cache]
    for b, first in enumerate(length_B):
      for old, new in zip(cache, kv):
        old[:, b, first : first + new.shape[2]] = new[:, b]
    return np.asarray(x_BTD), cache

  first, then = [], []
  for i in range(pieces.shape[1]):
    x, cache = call(several, pieces[:, i], cache, np.full(B, i * T))
    first.append(x)
  for i in range(replies_BR.shape[1]):
    x, cache = call(single, replies_BR[:, i], cache, lengths_B + i)
    then.append(x)
  return np.concatenate(first, 1), np.concatenate(then, 1)


def walking(model):
  """A model whose `extend` is given a list of layers, and returns as a scan."""

  def extend(params, *args):
    x_XD, kv = model.extend(base.apart(params), *args)
    return x_XD, base.stacked_kv(kv)

  return model._replace(extend=extend)


@pytest.mark.parametrize('through', [lambda model: model, walking])
@pytest.mark.parametrize('variant', VARIANTS)
def test_extend_equals_apply(variant, through):
  c, model, params = build(**VARIANTS[variant])
  rng = np.random.default_rng(0)
  lengths, R = np.array([6, 1, 4]), 5
  pieces = rng.integers(0, c.vocab, (3, 2, 3))
  replies = rng.integers(0, c.vocab, (3, R))
  got = extend_all(c, through(model), params, pieces, replies, lengths)
  prompts = pieces.reshape(3, 6)
  whole = np.zeros((6, 6 + R), np.int64)
  whole[:3, :6] = prompts
  for b, n in enumerate(lengths):
    whole[3 + b, : n + R] = [*prompts[b, :n], *replies[b]]
  want = np.asarray(jax.jit(lambda *x: causal(model, *x))(params, whole))
  # Measured: 6e-7.
  assert oracles.relative_error(got[0], want[:3, :6]) < 2e-6
  said = np.stack([want[3 + b, n : n + R] for b, n in enumerate(lengths)])
  assert oracles.relative_error(got[1], said) < 2e-6


@pytest.mark.parametrize('rope, tied', [(YARN, False), (LLAMA3, True)])
def test_apply_equals_float64(rope, tied):
  c, model, params = build(rope=rope, tied=tied)
  tokens_T = np.random.default_rng(1).integers(0, c.vocab, 13)
  x_TD = jax.jit(lambda *x: causal(model, *x))(params, tokens_T[None])[0]
  got = x_TD @ model.head(params).T
  want = oracles.logits(c, params, tokens_T)
  # Measured: 6e-7.
  assert oracles.relative_error(got, want) < 2e-6


@pytest.mark.parametrize('rows, columns', [(1, 5), (3, 4), (2, 150)])
@pytest.mark.parametrize('remat', ['dots', 'block'])
def test_merged_rows_have_the_same_outputs_and_gradients(rows, columns, remat):
  """Below and above the rows for which a CPU swaps a product's operands."""
  c, _, params = build(**VARIANTS['qwen3'])
  rng = np.random.default_rng(2)
  shape = rows, columns
  tokens_BT = rng.integers(0, c.vocab, shape)
  segment_BT = np.sort(rng.integers(1, 4, shape))
  segment_BT[:, -1] = 0
  position_BT = rng.integers(0, 9, shape)
  slope_BTD = rng.normal(size=(*shape, c.embed)).astype(np.float32)

  def run(flat):
    model = decoder.make_model(c, remat=remat, flat=flat)
    batch = tokens_BT, position_BT, segment_BT, 0 * segment_BT
    loss = lambda params: jnp.vdot(model.apply(params, *batch), slope_BTD)
    return jax.device_get(
      jax.jit(lambda p: (model.apply(p, *batch), jax.grad(loss)(p)))(params)
    )

  got, want = (dict(enumerate(jax.tree.leaves(run(x)))) for x in (True, False))
  assert got.keys() == want.keys()
  for i, x in want.items():
    # Measured: 1e-6. The head, of which nothing is read, has a gradient of 0.
    assert np.abs(got[i] - x).max() <= 4e-6 * np.abs(x).max()


HF = {
  'architectures': ['Qwen2ForCausalLM'],
  'vocab_size': 152064,
  'hidden_size': 3584,
  'intermediate_size': 18944,
  'num_hidden_layers': 28,
  'num_attention_heads': 28,
  'num_key_value_heads': 4,
  'max_position_embeddings': 131072,
  'rms_norm_eps': 1e-6,
  'hidden_act': 'silu',
  'use_sliding_window': False,
  'sliding_window': 4096,
  'tie_word_embeddings': False,
}


def test_from_hf_reads_a_version_4_config():
  c = decoder.DecoderConfig.from_hf(HF | {'rope_theta': 1e6})
  assert c == decoder.DecoderConfig(
    vocab=152064,
    layers=28,
    embed=3584,
    mlp=18944,
    heads=28,
    kv_heads=4,
    head_dim=128,
    norm_epsilon=1e-6,
    tied=False,
    qkv_bias=True,
    qk_norm=False,
    context=131072,
    rope=dict(
      rope_type='default',
      rope_theta=1e6,
      original_max_position_embeddings=131072,
    ),
  )


@pytest.mark.parametrize('name', ['type', 'rope_type'])
def test_from_hf_reads_both_versions_alike(name):
  scaling = {k: v for k, v in LLAMA3.items() if k not in ('rope_type',)}
  theta = scaling.pop('rope_theta')
  four = HF | {
    'rope_theta': theta,
    'rope_scaling': {name: 'llama3', **scaling},
  }
  five = HF | {
    'rope_parameters': dict(LLAMA3),
    'layer_types': ['full_attention'] * 28,
  }
  c = decoder.DecoderConfig.from_hf(four)
  other = decoder.DecoderConfig.from_hf(five)
  for key, value in LLAMA3.items():
    assert c.rope[key] == other.rope[key] == value
  np.testing.assert_array_equal(
    *(rope_lib.frequencies(x.rope, x.head_dim)[0] for x in (c, other))
  )


@pytest.mark.parametrize(
  'architecture, bias, norm',
  [('Qwen3ForCausalLM', False, True), ('LlamaForCausalLM', False, False)],
)
def test_from_hf_of_the_other_families(architecture, bias, norm):
  config = HF | {'architectures': [architecture], 'head_dim': 64}
  del config['num_key_value_heads'], config['tie_word_embeddings']
  c = decoder.DecoderConfig.from_hf(config)
  assert (c.qkv_bias, c.qk_norm) == (bias, norm)
  assert (c.head_dim, c.kv_heads, c.tied) == (64, 28, False)


@pytest.mark.parametrize(
  'change, said',
  [
    ({'use_sliding_window': True}, 'use_sliding_window=True'),
    ({'mlp_bias': True}, 'mlp_bias=True'),
    ({'hidden_act': 'gelu'}, "hidden_act='gelu'"),
    (
      {'layer_types': ['full_attention', 'sliding_attention']},
      "layer_types=['full_attention', 'sliding_attention']",
    ),
    (
      {'architectures': ['LlamaForCausalLM'], 'attention_bias': True},
      'attention_bias=True',
    ),
    # Qwen3's bias is on the output projection too, as Llama's is.
    (
      {'architectures': ['Qwen3ForCausalLM'], 'attention_bias': True},
      'attention_bias=True',
    ),
    ({'architectures': ['MixtralForCausalLM']}, "'MixtralForCausalLM'"),
    ({'architectures': None}, "'(none)'"),
  ],
)
def test_from_hf_refuses_what_the_decoder_lacks(change, said):
  with pytest.raises(ValueError, match=r'^config\.json: ') as e:
    decoder.DecoderConfig.from_hf(HF | change)
  message = str(e.value)
  assert said in message
  assert 'expected' in message
  assert '\n' not in message


def test_an_unknown_rope_is_refused():
  rope = oracles.DEFAULT_ROPE | dict(rope_type='dynamic')
  with pytest.raises(ValueError, match="rope_type='dynamic'") as e:
    rope_lib.frequencies(rope, 8)
  assert '\n' not in str(e.value)


def test_param_counts_of_published_models():
  qwen = decoder.DecoderConfig.from_hf(HF)
  by_hand = 2 * 152064 * 3584 + 3584
  by_hand += 28 * (
    2 * 3584
    + 3584 * (3584 + 512 + 512)
    + (3584 + 512 + 512)
    + 3584 * 3584
    + 3 * 3584 * 18944
  )
  count = base.param_count(decoder.param_specs(qwen))
  assert count == by_hand == 7_615_616_512
  smollm = oracles.tiny_config(
    vocab=49152,
    layers=30,
    embed=576,
    mlp=1536,
    heads=9,
    kv_heads=3,
    head_dim=64,
    tied=True,
    qkv_bias=False,
    qk_norm=False,
  )
  count = base.param_count(decoder.param_specs(smollm))
  assert count == 134_515_008


def test_every_dimension_has_an_axis():
  for variant in VARIANTS.values():
    specs = build(**variant)[1].specs
    for spec in jax.tree.leaves(specs, is_leaf=base.is_spec):
      assert len(spec.shape) == len(spec.axes)


def test_init_draws_by_the_spec():
  spec = lambda std: base.ParamSpec(
    (300, 64), ('vocab', 'embed'), std, 'x', base.TABLE
  )
  specs = dict(a=spec(0.02), b=spec(0.02), ones=spec(None), zeros=spec(0.0))
  drawn = base.init_params(specs, jax.random.key(0), jnp.bfloat16)
  # A normal cut at two deviations keeps 0.8796 of its deviation.
  a, b = (np.asarray(drawn[n], np.float64) for n in 'ab')
  assert np.std(a) == pytest.approx(0.8796 * 0.02, rel=0.02)
  assert np.abs(a).max() <= np.float64(jnp.bfloat16(0.04))
  assert (a != b).mean() > 0.9
  assert (drawn['ones'] == 1).all()
  assert (drawn['zeros'] == 0).all()
  assert {x.dtype for x in drawn.values()} == {jnp.dtype(jnp.bfloat16)}


def test_default_and_linear_frequencies():
  plain = dict(rope_type='default', rope_theta=100.0)
  got, scale = rope_lib.frequencies(plain, 4)
  np.testing.assert_allclose(got, [1.0, 0.1], rtol=1e-15)
  assert scale == 1.0
  got, scale = rope_lib.frequencies(
    dict(
      rope_type='linear',
      rope_theta=100.0,
      factor=4.0,
      original_max_position_embeddings=8,
    ),
    4,
  )
  np.testing.assert_allclose(got, [0.25, 0.025], rtol=1e-15)
  assert scale == 1.0


def test_llama3_frequencies_by_wavelength():
  rope = dict(
    rope_type='llama3',
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
  )
  got, scale = rope_lib.frequencies(rope, 128)
  kinds = set()
  for i, value in enumerate(got):
    frequency = 500000.0 ** (-2 * i / 128)
    wavelength = 2 * np.pi / frequency
    if wavelength < 8192 / 4:
      kind, want = 'kept', frequency
    elif wavelength > 8192 / 1:
      kind, want = 'scaled', frequency / 8
    else:
      smooth = (8192 / wavelength - 1) / (4 - 1)
      kind, want = 'between', (1 - smooth) * frequency / 8 + smooth * frequency
    kinds.add(kind)
    np.testing.assert_allclose(value, want, rtol=1e-12)
  assert kinds == {'kept', 'scaled', 'between'}
  assert scale == 1.0


def test_yarn_frequencies_by_turns():
  # Qwen2.5's: the corners are where a dimension turns 32 times and once.
  rope = dict(
    rope_type='yarn',
    rope_theta=1e6,
    factor=4.0,
    original_max_position_embeddings=32768,
  )
  got, scale = rope_lib.frequencies(rope, 128)
  assert scale == pytest.approx(0.1 * np.log(4.0) + 1.0, rel=1e-12)
  corner = lambda turns: (
    128 * np.log(32768 / (turns * 2 * np.pi)) / (2 * np.log(1e6))
  )
  low, high = np.floor(corner(32)), np.ceil(corner(1))
  assert (low, high) == (23, 40)
  for i, value in enumerate(got):
    frequency = 1e6 ** (-2 * i / 128)
    share = min(max((i - low) / (high - low), 0), 1)
    want = frequency * (1 - share) + frequency / 4 * share
    np.testing.assert_allclose(value, want, rtol=1e-12)


@pytest.mark.parametrize(
  'more, want',
  [
    (dict(attention_factor=0.7), 0.7),
    # DeepSeek's pair: the two scales divide.
    (
      dict(mscale=1.0, mscale_all_dim=0.5),
      (0.1 * np.log(4) + 1) / (0.05 * np.log(4) + 1),
    ),
    (dict(factor=1.0), 1.0),
  ],
)
def test_yarn_scale(more, want):
  _, scale = rope_lib.frequencies(YARN | more, 8)
  assert scale == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize('tied', [True, False])
def test_even_tokens_cost_as_much_in_attention_as_in_products(tied):
  config = oracles.tiny_config(layers=3, tied=tied)
  n = decoder.make_model(config).even_tokens
  # Multiplications of one segment, from the sizes.
  query, kv = 4 * 8, 2 * 8
  layer = 32 * query + 2 * 32 * kv + query * 32 + 3 * 32 * 48
  products = n * (3 * layer + 96 * 32)
  # Scores and their sums of values, for each head.
  attention = 3 * n**2 / 2 * 4 * 2 * 8
  assert products == pytest.approx(attention, rel=1e-12)
