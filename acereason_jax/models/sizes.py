"""Models whose sizes are known by name: the config.json that each publishes.

For plans of models that are not here. Only fields that families read are kept.
Checked against the published numbers of parameters, in tests/test_sizes.py.
"""

from collections.abc import Mapping
from typing import Any


def _qwen2(**sizes: Any) -> dict[str, Any]:
  return dict(
    architectures=['Qwen2ForCausalLM'],
    hidden_act='silu',
    max_position_embeddings=131072,
    rms_norm_eps=1e-6,
    use_sliding_window=False,
    tie_word_embeddings=False,
    **sizes,
  )


def _qwen3(architecture: str, **sizes: Any) -> dict[str, Any]:
  return dict(
    architectures=[architecture],
    attention_bias=False,
    head_dim=128,
    hidden_act='silu',
    max_position_embeddings=40960,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    tie_word_embeddings=False,
    use_sliding_window=False,
    vocab_size=151936,
    **sizes,
  )


# The Qwen2 sizes are those of DeepSeek-R1-Distill-Qwen, whose 1.5B has a head
# of its own; Qwen's has the embedding's.
_QWEN2_1_5B = _qwen2(
  vocab_size=151936,
  num_hidden_layers=28,
  hidden_size=1536,
  intermediate_size=8960,
  num_attention_heads=12,
  num_key_value_heads=2,
  rope_theta=1e4,
)
_QWEN2_7B = _qwen2(
  vocab_size=152064,
  num_hidden_layers=28,
  hidden_size=3584,
  intermediate_size=18944,
  num_attention_heads=28,
  num_key_value_heads=4,
  rope_theta=1e4,
)
_QWEN2_14B = _qwen2(
  vocab_size=152064,
  num_hidden_layers=48,
  hidden_size=5120,
  intermediate_size=13824,
  num_attention_heads=40,
  num_key_value_heads=8,
  rope_theta=1e6,
) | dict(rms_norm_eps=1e-5)

CONFIGS: Mapping[str, Mapping[str, Any]] = {
  'qwen2-1.5b': _QWEN2_1_5B,
  'qwen2-1.5b-tied': _QWEN2_1_5B
  | dict(tie_word_embeddings=True, rope_theta=1e6),
  'qwen2-7b': _QWEN2_7B,
  'qwen2-14b': _QWEN2_14B,
  'qwen3-8b': _qwen3(
    'Qwen3ForCausalLM',
    num_hidden_layers=36,
    hidden_size=4096,
    intermediate_size=12288,
    num_attention_heads=32,
    num_key_value_heads=8,
  ),
  'qwen3-30b-a3b': _qwen3(
    'Qwen3MoeForCausalLM',
    num_hidden_layers=48,
    hidden_size=2048,
    intermediate_size=6144,
    moe_intermediate_size=768,
    num_attention_heads=32,
    num_key_value_heads=4,
    num_experts=128,
    num_experts_per_tok=8,
    norm_topk_prob=True,
    decoder_sparse_step=1,
    mlp_only_layers=[],
  ),
  'smollm2-135m': dict(
    architectures=['LlamaForCausalLM'],
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    hidden_act='silu',
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=1e5,
    tie_word_embeddings=True,
  ),
}
# Names of the hub, by the name here whose sizes they have. The bases of the
# rotation of some differ, on which no memory and no time depends.
HUB: Mapping[str, str] = {
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B': 'qwen2-1.5b',
  'Qwen/Qwen2.5-1.5B': 'qwen2-1.5b-tied',
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-7B': 'qwen2-7b',
  'nvidia/AceReason-Nemotron-7B': 'qwen2-7b',
  'nvidia/AceReason-Nemotron-1.1-7B': 'qwen2-7b',
  'Qwen/Qwen2.5-7B': 'qwen2-7b',
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-14B': 'qwen2-14b',
  'nvidia/AceReason-Nemotron-14B': 'qwen2-14b',
  'Qwen/Qwen2.5-14B': 'qwen2-14b',
  'Qwen/Qwen3-8B': 'qwen3-8b',
  'Qwen/Qwen3-30B-A3B': 'qwen3-30b-a3b',
}


def config_json(name: str) -> Mapping[str, Any]:
  """The config.json of a name of `CONFIGS`, or of the hub.

  Raises:
    FileNotFoundError: one line; no such name.
  """
  found = CONFIGS.get(HUB.get(name, name))
  if found is None:
    raise FileNotFoundError(
      f'model={name!r}: no such folder, and its sizes are not known; give a '
      "folder that has the model's config.json, or one of "
      f'{", ".join((*CONFIGS, *HUB))}'
    )
  return found
