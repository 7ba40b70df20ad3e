"""Turns a GGUF file into a Hugging Face directory.

llama.cpp reorders the rows of Llama's q and k projections for its own rotary
embedding; this puts them back. Qwen's rows keep their order.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from acereason_jax import files
from acereason_jax.console import damage
from acereason_jax.models import families, hf, tensorfiles

ARCHITECTURES = {
  'llama': 'LlamaForCausalLM',
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
}
MODULES = {
  'token_embd': 'model.embed_tokens',
  'output_norm': 'model.norm',
  'output': 'lm_head',
  'attn_norm': 'input_layernorm',
  'attn_q': 'self_attn.q_proj',
  'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj',
  'attn_q_norm': 'self_attn.q_norm',
  'attn_k_norm': 'self_attn.k_norm',
  'attn_output': 'self_attn.o_proj',
  'ffn_norm': 'post_attention_layernorm',
  'ffn_gate': 'mlp.gate_proj',
  'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj',
}
# Limits of a header. The largest vocabularies have 1.3 million values in all.
_MAX_COUNT, _MAX_VALUES, _MAX_TEXT_BYTES = 100_000, 4_000_000, 1 << 20
# Sizes in bytes of the field types, by number: u8 i8 u16 i16 u32 i32 f32 bool,
# text and array, u64 i64 f64.
_STRING, _ARRAY, _LONG = 8, 9, 12
_SIZES = dict(enumerate((1, 1, 2, 2, 4, 4, 4, 1))) | {10: 8, 11: 8, 12: 8}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # tokenizer.ggml.token_type
QWEN2_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


class Value(NamedTuple):
  """A tensor to write.

  dtype: a key of `tensorfiles.DTYPES`.
  shape: shape in Hugging Face's layout.
  """

  dtype: str
  shape: tuple[int, ...]


def to_hf(gguf_path: str, out_directory: str) -> None:
  """Writes the model, its config and its tokenizer, atomically.

  Raises:
    FileExistsError: `out_directory` exists and is not empty.
    ValueError: not a GGUF file, or a model that is not supported.
  """
  check_header(gguf_path)
  unreadable = lambda reason: ValueError(
    f'{gguf_path}: its metadata cannot be read ({reason}); expected a GGUF '
    'file of a whole model: download it again'
  )
  with damage.told(unreadable):
    reader = gguf.GGUFReader(gguf_path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {_hf_name(t.name, gguf_path): t for t in reader.tensors}
    config = _config(fields, tensors)
    families.from_config(config)
    tokenizer, tokenizer_config = _tokenizer(fields)
  with files.new_folder(out_directory) as directory:
    _write_weights(directory, tensors, config)
    tokenizer.save(os.path.join(directory, 'tokenizer.json'))
    ids = {k: v for k, v in config.items() if k.endswith('_token_id')}
    _write_json(directory, 'config.json', config)
    _write_json(directory, 'generation_config.json', ids)
    _write_json(directory, 'tokenizer_config.json', tokenizer_config)


class _Header:
  """A cursor over the bytes of a GGUF header; nothing beyond them is read.

  The gguf library trusts every length: it would loop 2**60 times and recurse
  without limit.
  """

  def __init__(self, path: str, file: BinaryIO):
    self._path, self._file = path, file
    self._left = os.fstat(file.fileno()).st_size

  def refuse(self, what: str) -> ValueError:
    return ValueError(
      f'{self._path}: {what}; expected a GGUF file, version 2 or 3: download '
      'it again'
    )

  def take(self, size: int) -> bytes:
    self._left -= size
    if self._left < 0:
      raise self.refuse(f'ends {-self._left} bytes too soon')
    return self._file.read(size)

  def number(self, size: int, most: int, what: str) -> int:
    value = int.from_bytes(self.take(size), 'little')
    if value > most:
      raise self.refuse(f'{what}: {value}, at most {most}')
    return value

  def text(self) -> None:
    self.take(self.number(8, _MAX_TEXT_BYTES, 'bytes of a text'))


def check_header(path: str) -> None:
  """Raises ValueError, OSError unless the file holds what its header lists."""
  with tensorfiles.open_regular(path) as file:
    h = _Header(path, file)
    if h.take(4) != b'GGUF' or h.number(4, 3, 'version') < 2:
      raise h.refuse('does not begin as one')
    tensors = h.number(8, _MAX_COUNT, 'tensors')
    fields = h.number(8, _MAX_COUNT, 'fields')
    values = 0
    for _ in range(fields):
      h.text()
      kind, count = h.number(4, _LONG, 'type of a field'), 1
      if kind == _ARRAY:
        kind = h.number(4, _LONG, 'type of a value')
        count = h.number(8, _MAX_VALUES, 'values')
      values += count
      if kind == _ARRAY or values > _MAX_VALUES:
        raise h.refuse('nested arrays, or too many values')
      if kind == _STRING:
        for _ in range(count):
          h.text()
      else:
        h.take(_SIZES[kind] * count)
    for _ in range(tensors):
      h.text()
      rank = h.number(4, 4, 'dimensions')
      for _ in range(rank):
        h.number(8, 1 << 31, 'size of a dimension')
      h.take(4 + 8)


def _write_json(directory: str, name: str, value: dict[str, Any]) -> None:
  with open(os.path.join(directory, name), 'w', encoding='utf-8') as f:
    json.dump(value, f, indent=2, ensure_ascii=False)


def _hf_name(name: str, path: str) -> str:
  """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
  match = re.fullmatch(r'(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)', name)
  if not match or match[2] not in MODULES:
    raise ValueError(
      f'{path}: tensor {name!r} is not supported; expected a dense Llama or '
      'Qwen model without rope factors'
    )
  layer = '' if match[1] is None else f'model.layers.{match[1]}.'
  return f'{layer}{MODULES[match[2]]}.{match[3]}'


def _config(fields: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
  """A config.json that transformers 4 and 5 read alike."""
  family = fields['general.architecture']
  if family not in ARCHITECTURES:
    raise ValueError(
      f'GGUF architecture {family!r} is not supported; expected one of '
      f'{", ".join(ARCHITECTURES)}'
    )
  scaling = fields.get(f'{family}.rope.scaling.type', 'none')
  if scaling != 'none':
    raise ValueError(f'GGUF rope scaling {scaling!r} is not supported')
  get = lambda key: fields[f'{family}.{key}']
  heads, embed = get('attention.head_count'), get('embedding_length')
  # Stored as float32; its shortest decimal is what the author wrote.
  real = lambda key: float(str(np.float32(get(key))))
  return dict(
    architectures=[ARCHITECTURES[family]],
    model_type=family,
    torch_dtype='float32',
    vocab_size=int(tensors[hf.EMBED].shape[1]),
    hidden_size=embed,
    intermediate_size=get('feed_forward_length'),
    num_hidden_layers=get('block_count'),
    num_attention_heads=heads,
    num_key_value_heads=get('attention.head_count_kv'),
    head_dim=fields.get(f'{family}.attention.key_length', embed // heads),
    hidden_act='silu',
    max_position_embeddings=get('context_length'),
    rms_norm_eps=real('attention.layer_norm_rms_epsilon'),
    rope_theta=real('rope.freq_base'),
    tie_word_embeddings=hf.HEAD not in tensors,
    **_token_ids(fields),
  )


def _token_ids(fields: dict[str, Any]) -> dict[str, int]:
  keys = {k: f'tokenizer.ggml.{k}_token_id' for k in ('bos', 'eos')}
  keys['pad'] = 'tokenizer.ggml.padding_token_id'
  return {f'{k}_token_id': fields[f] for k, f in keys.items() if f in fields}


def _write_weights(
  directory: str, tensors: dict[str, Any], config: dict[str, Any]
) -> None:
  # float32, because dequantising gives float32: a narrower dtype would change
  # the model.
  shapes = {
    name: Value('F32', tuple(int(n) for n in reversed(t.shape)))
    for name, t in tensors.items()
  }
  values = _values(tensors, config)
  tensorfiles.write_tensors(
    os.path.join(directory, tensorfiles.SINGLE), shapes, values
  )


def _values(
  tensors: dict[str, Any], config: dict[str, Any]
) -> Iterator[np.ndarray]:
  heads = {
    'q_proj': config['num_attention_heads'],
    'k_proj': config['num_key_value_heads'],
  }
  for name, t in tensors.items():
    value = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
    module = name.split('.')[-2]
    if config['model_type'] == 'llama' and module in heads:
      value = _unpermute(value, heads[module])
    yield value


def _unpermute(w: np.ndarray, heads: int) -> np.ndarray:
  """Undoes llama.cpp's reordering of the rows [N*H, ...] of q or k."""
  pairs = w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:])
  return pairs.swapaxes(1, 2).reshape(w.shape)


def _tokenizer(
  fields: dict[str, Any],
) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
  """The byte-level BPE tokenizer and its tokenizer_config.json."""
  kind, pre = fields['tokenizer.ggml.model'], fields.get('tokenizer.ggml.pre')
  if kind != 'gpt2' or pre not in ('smollm', 'qwen2'):
    raise ValueError(
      f'GGUF tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported; '
      "expected 'gpt2' with 'smollm' or 'qwen2'"
    )
  tokens = fields['tokenizer.ggml.tokens']
  types = fields['tokenizer.ggml.token_type']
  vocab = {t: i for i, t in enumerate(tokens) if types[i] != UNUSED}
  merges = [tuple(m.split(' ')) for m in fields['tokenizer.ggml.merges']]
  tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
  if pre == 'qwen2':
    tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_split(pre))
  tokenizer.decoder = decoders.ByteLevel()
  for type_ in (CONTROL, USER_DEFINED):
    tokenizer.add_tokens(
      [
        tokenizers.AddedToken(t, normalized=False, special=type_ == CONTROL)
        for t, found in zip(tokens, types)
        if found == type_
      ]
    )
  names = {'bos': 'bos', 'eos': 'eos', 'unk': 'unknown', 'pad': 'padding'}
  ids = {
    k: fields.get(f'tokenizer.ggml.{v}_token_id') for k, v in names.items()
  }
  return tokenizer, dict(
    tokenizer_class='PreTrainedTokenizerFast',
    clean_up_tokenization_spaces=False,
    model_max_length=fields[f'{fields["general.architecture"]}.context_length'],
    chat_template=fields.get('tokenizer.chat_template'),
    **{f'{k}_token': tokens[i] for k, i in ids.items() if i is not None},
  )


def _split(pre: str) -> list[pre_tokenizers.PreTokenizer]:
  if pre == 'smollm':
    digits = pre_tokenizers.Digits(individual_digits=True)
    return [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
  pattern = tokenizers.Regex(QWEN2_SPLIT)
  split = pre_tokenizers.Split(pattern, behavior='isolated')
  return [split, pre_tokenizers.ByteLevel(False, use_regex=False)]
