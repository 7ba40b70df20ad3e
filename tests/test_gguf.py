"""GGUF files to Hugging Face directories.

The oracles are llama.cpp's own row order, written out again here, and the
values that transformers' GGUF reader gave for the embedded model.
"""

import json

import gguf as reader
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from acereason_jax.models import decoder, gguf, hf

D, F, L, N, K, H, V = 64, 96, 2, 4, 2, 16, 40
TYPES = reader.GGMLQuantizationType


def vocabulary():
  """Bytes a..z and more, a merge, and two control tokens: V tokens."""
  letters = ['<s>', '</s>', *'abcdefghijklmnopqrstuvwxyz0123456789', 'Ġ', 'th']
  return letters[:V]


def permute(w, heads):
  """As convert_hf_to_gguf.py of llama.cpp writes q and k."""
  split = w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:])
  return split.swapaxes(1, 2).reshape(w.shape)


def tensors_of(family):
  """{(GGUF name, HF name): float32 array in HF order}"""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  out = {
    ('token_embd.weight', 'model.embed_tokens.weight'): draw(V, D),
    ('output_norm.weight', 'model.norm.weight'): draw(D),
  }
  for i in range(L):
    layer = {
      ('attn_norm.weight', 'input_layernorm.weight'): draw(D),
      ('ffn_norm.weight', 'post_attention_layernorm.weight'): draw(D),
      ('attn_q.weight', 'self_attn.q_proj.weight'): draw(N * H, D),
      ('attn_k.weight', 'self_attn.k_proj.weight'): draw(K * H, D),
      ('attn_v.weight', 'self_attn.v_proj.weight'): draw(K * H, D),
      ('attn_output.weight', 'self_attn.o_proj.weight'): draw(D, N * H),
      ('ffn_gate.weight', 'mlp.gate_proj.weight'): draw(F, D),
      ('ffn_up.weight', 'mlp.up_proj.weight'): draw(F, D),
      ('ffn_down.weight', 'mlp.down_proj.weight'): draw(D, F),
    }
    if family == 'qwen2':
      layer |= {
        ('attn_q.bias', 'self_attn.q_proj.bias'): draw(N * H),
        ('attn_k.bias', 'self_attn.k_proj.bias'): draw(K * H),
        ('attn_v.bias', 'self_attn.v_proj.bias'): draw(K * H),
      }
    if family == 'qwen3':
      layer |= {
        ('attn_q_norm.weight', 'self_attn.q_norm.weight'): draw(H),
        ('attn_k_norm.weight', 'self_attn.k_norm.weight'): draw(H),
      }
    out |= {
      (f'blk.{i}.{g}', f'model.layers.{i}.{h}'): w
      for (g, h), w in layer.items()
    }
  return out


def write_gguf(
  path, family='llama', *, pre='smollm', tied=True, kind=TYPES.F32
):
  """Writes a tiny model; returns {HF name: what dequantising should give}."""
  w = reader.GGUFWriter(path, family)
  w.add_block_count(L)
  w.add_context_length(128)
  w.add_embedding_length(D)
  w.add_feed_forward_length(F)
  w.add_head_count(N)
  w.add_head_count_kv(K)
  w.add_rope_freq_base(5000.0)
  w.add_layer_norm_rms_eps(1e-6)
  w.add_tokenizer_model('gpt2')
  w.add_tokenizer_pre(pre)
  tokens = vocabulary()
  w.add_token_list(tokens)
  w.add_token_types([3, 3] + [1] * (len(tokens) - 2))
  w.add_token_merges(['t h'])
  w.add_bos_token_id(0)
  w.add_eos_token_id(1)
  tensors, want = tensors_of(family), {}
  if not tied:
    tensors['output.weight', 'lm_head.weight'] = np.ones((V, D), np.float32)
  for (name, hf_name), value in tensors.items():
    heads = {'attn_q': N, 'attn_k': K}.get(name.split('.')[-2])
    stored = permute(value, heads) if heads and family == 'llama' else value
    kept = TYPES.F32 if value.ndim == 1 else kind
    data = reader.quants.quantize(stored, kept)
    w.add_tensor(name, data, raw_dtype=kept)
    # Quantisation is by row, so that it commutes with their order.
    coded = reader.quants.quantize(value, kept)
    want[hf_name] = reader.quants.dequantize(coded, kept)
  w.write_header_to_file()
  w.write_kv_data_to_file()
  w.write_tensors_to_file()
  w.close()
  return want


@pytest.mark.parametrize(
  ('family', 'kind', 'tied'),
  [
    ('llama', TYPES.F32, True),
    ('llama', TYPES.Q8_0, False),
    ('llama', TYPES.Q4_1, True),
    ('qwen2', TYPES.F16, True),
    ('qwen3', TYPES.BF16, False),
  ],
)
def test_weights_are_exactly_the_dequantised_values(
  family, kind, tied, tmp_path
):
  pre = 'smollm' if family == 'llama' else 'qwen2'
  want = write_gguf(tmp_path / 'm.gguf', family, pre=pre, tied=tied, kind=kind)
  gguf.to_hf(tmp_path / 'm.gguf', tmp_path / 'out')
  got = safetensors.numpy.load_file(tmp_path / 'out' / 'model.safetensors')
  assert got.keys() == want.keys()
  for name, value in want.items():
    assert got[name].dtype == np.float32
    np.testing.assert_array_equal(got[name], value)
  config = decoder.DecoderConfig.from_hf(hf.read_config(tmp_path / 'out'))
  hf.load(tmp_path / 'out', decoder.param_specs(config), dtype=jnp.float32)
  assert config.rope['rope_theta'] == 5000.0
  assert (config.norm_epsilon, config.tied) == (1e-6, tied)


def test_tokenizer_merges_and_splits_digits(tmp_path):
  write_gguf(tmp_path / 'm.gguf')
  gguf.to_hf(tmp_path / 'm.gguf', tmp_path / 'out')
  tokenizer = tokenizers.Tokenizer.from_file(
    str(tmp_path / 'out' / 'tokenizer.json')
  )
  assert tokenizer.encode('the 12</s>').tokens == [
    *('th', 'e', 'Ġ', '1', '2', '</s>')
  ]
  config = json.loads((tmp_path / 'out/tokenizer_config.json').read_text())
  assert (config['bos_token'], config['eos_token']) == ('<s>', '</s>')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'family': 'gemma'}, "architecture 'gemma' is not supported; expected"),
    ({'pre': 'bloom'}, "pre-tokenizer 'bloom' is not supported; expected"),
  ],
)
def test_what_is_not_supported_is_named(options, message, tmp_path):
  write_gguf(tmp_path / 'm.gguf', **options)
  with pytest.raises(ValueError, match=message):
    gguf.to_hf(tmp_path / 'm.gguf', tmp_path / 'out')
  assert [p.name for p in tmp_path.iterdir()] == ['m.gguf']


def test_an_unknown_tensor_is_named(tmp_path):
  w = reader.GGUFWriter(tmp_path / 'm.gguf', 'llama')
  w.add_tensor('rope_freqs.weight', np.ones(8, np.float32))
  w.write_header_to_file()
  w.write_kv_data_to_file()
  w.write_tensors_to_file()
  w.close()
  with pytest.raises(ValueError, match=r"'rope_freqs\.weight' is not"):
    gguf.to_hf(tmp_path / 'm.gguf', tmp_path / 'out')


def spoiled(at, content):
  return lambda raw: raw[:at] + content + raw[at + len(content) :]


def renamed(old, new):
  """It has the same length, so everything after it keeps its place."""
  assert len(old) == len(new)
  return lambda raw: raw.replace(old, new, 1)


HUGE = (2**60).to_bytes(8, 'little')
KEY = b'tokenizer.ggml.tokens'


def after(key, skip, content):
  """Overwrites what follows a field's key."""
  return lambda raw: spoiled(raw.index(key) + len(key) + skip, content)(raw)


@pytest.mark.parametrize(
  'spoil',
  [
    lambda raw: b'',
    lambda raw: raw[:100],
    lambda raw: raw[:-1000],
    lambda raw: b'\0' * len(raw),
    spoiled(0, b'GGML'),
    spoiled(4, b'\1'),
    spoiled(4, b'\xff' * 4),
    spoiled(8, HUGE),  # tensors
    spoiled(16, HUGE),  # fields
    spoiled(24, HUGE),  # bytes of the first key
    after(KEY, 0, b'\x63'),  # an unknown type
    after(KEY, 4, b'\x09'),  # an array of arrays
    after(KEY, 4, b'\x00'),  # of another type than its values
    after(KEY, 8, HUGE),  # its length
    after(KEY, 16, HUGE),  # the length of its first text
    after(b'token_embd.weight', 0, b'\xff'),  # dimensions
    after(b'token_embd.weight', 4, HUGE),  # the size of one
    after(b'token_embd.weight', 20, b'\xfe'),  # dtype
    after(b'token_embd.weight', 24, HUGE),  # where it is
    renamed(b'llama.block_count', b'llama.clock_count'),
    renamed(b'general.architecture', b'general.brchitecture'),
    renamed(b'llama.attention.head_count', b'llama.attention.dead_count'),
    renamed(b'tokenizer.ggml.tokens', b'tokenizer.ggml.tokenz'),
    renamed(b'tokenizer.ggml.merges', b'tokenizer.ggml.mergez'),
    renamed(b'token_embd.weight', b'token_embs.weight'),
    after(b'llama.attention.head_count', 4, b'\0\0\0\0'),
    after(b'llama.block_count', 4, b'\xff\xff\xff\xff'),
    after(b'llama.rope.freq_base', 4, b'\0\0\xc0\x7f'),  # not a number
    after(b'tokenizer.ggml.eos_token_id', 4, b'\xff\xff\xff\x7f'),
  ],
)
def test_a_hostile_file_is_one_line(spoil, tmp_path):
  write_gguf(tmp_path / 'm.gguf')
  raw = (tmp_path / 'm.gguf').read_bytes()
  assert spoil(raw) != raw
  (tmp_path / 'm.gguf').write_bytes(spoil(raw))
  with pytest.raises((ValueError, OSError)) as error:
    gguf.to_hf(tmp_path / 'm.gguf', tmp_path / 'out')
  assert '\n' not in str(error.value) and len(str(error.value)) < 900
  assert [p.name for p in tmp_path.iterdir()] == ['m.gguf']


def test_the_embedded_model_keeps_its_configuration(smollm_dir):
  config = decoder.DecoderConfig.from_hf(hf.read_config(smollm_dir))
  assert (config.layers, config.embed, config.mlp) == (30, 576, 1536)
  assert (config.heads, config.kv_heads, config.head_dim) == (9, 3, 64)
  assert (config.rope['rope_theta'], config.norm_epsilon) == (100000.0, 1e-5)
  assert config.tied and config.context == 8192
