"""Writes the golden checkpoints and logits that test_parity.py reads.

Run by hand, with the extra [parity] (torch and transformers 5):

    python tests/golden/make_golden.py [name ...]

The logits are transformers' own, in float32 whatever the file's dtype.
Weights are drawn far wider than a fresh model's 0.02, so that attention is
not uniform and an error in a mask or a frequency shows in the logits.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

from acereason_jax.models import embedded, tokens

ROOT = pathlib.Path(__file__).parent
LENGTH = 64
# Every theta differs from the default, 10000, which hides a wrong reading.
PLAIN = {'rope_type': 'default', 'rope_theta': 500.0}
YARN = {
  'rope_type': 'yarn',
  'rope_theta': 2e3,
  'factor': 4.0,
  'original_max_position_embeddings': 32,
}
LLAMA3 = {
  'rope_type': 'llama3',
  'rope_theta': 1e3,
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}
SIZES = {
  'vocab_size': 160,
  'hidden_size': 48,
  'intermediate_size': 80,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 128,
  'rms_norm_eps': 1e-6,
  'bos_token_id': 1,
  'eos_token_id': 2,
  'rope_parameters': PLAIN,
}
EXPERTS = {
  'head_dim': 8,
  'hidden_size': 32,
  'moe_intermediate_size': 20,
  'num_experts': 5,
  'num_experts_per_tok': 2,
}
# name: model class, settings, dtype, transformers version of config.json.
CASES = {
  'qwen2': ('Qwen2', {'tie_word_embeddings': False}, 'bfloat16', 5),
  'qwen2_tied': ('Qwen2', {'tie_word_embeddings': True}, 'float16', 4),
  'qwen2_yarn': ('Qwen2', {'rope_parameters': YARN}, 'bfloat16', 4),
  'qwen3': ('Qwen3', {'head_dim': 20, 'num_hidden_layers': 3}, 'float32', 5),
  'qwen3_yarn': (
    'Qwen3',
    {'rope_parameters': YARN, 'head_dim': 16, 'tie_word_embeddings': True},
    'bfloat16',
    5,
  ),
  'llama3': ('Llama', {'rope_parameters': LLAMA3}, 'bfloat16', 4),
  'llama3_v5': ('Llama', {'rope_parameters': LLAMA3}, 'float16', 5),
  'qwen3_moe': ('Qwen3Moe', EXPERTS | {'norm_topk_prob': True}, 'bfloat16', 4),
  'qwen3_moe_v5': (
    'Qwen3Moe',
    EXPERTS | {'norm_topk_prob': False, 'tie_word_embeddings': True},
    'float32',
    5,
  ),
}
SHARDED = 'qwen2'
SMOLLM = 'smollm2'
MESSAGES = [{'role': 'user', 'content': 'What is 17 * 3? Think\nfirst.'}]
COLUMNS = slice(0, None, 256)  # of SmolLM2's vocabulary


def randomise(model: torch.nn.Module, seed: int) -> None:
  """Weights of about unit gain; norms near one and biases away from zero."""
  generator = torch.Generator().manual_seed(seed)
  for name, p in model.named_parameters():
    noise = torch.randn(p.shape, generator=generator)
    if 'norm' in name:
      p.data = 1 + 0.2 * noise
    elif p.ndim == 1:
      p.data = 0.3 * noise
    elif 'embed' in name or 'lm_head' in name:
      p.data = 0.5 * noise
    else:
      p.data = noise * 1.5 / p.shape[-1] ** 0.5


def as_version_4(file: pathlib.Path) -> None:
  """Rewrites a config.json as transformers 4 would have written it."""
  config = json.loads(file.read_text())
  rope = config.pop('rope_parameters')
  config['rope_theta'] = rope.pop('rope_theta')
  config['transformers_version'] = '4.57.6'
  config['torch_dtype'] = config.pop('dtype')
  if 'num_local_experts' in config:
    config['num_experts'] = config.pop('num_local_experts')
  scaled = rope['rope_type'] != 'default'
  config['rope_scaling'] = rope if scaled else None
  file.write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')


def logits(directory: pathlib.Path, tokens_T: np.ndarray) -> np.ndarray:
  """float32 [T, V], from the files only."""
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32, attn_implementation='eager'
  )
  with torch.no_grad():
    return model(torch.tensor(tokens_T[None])).logits[0].numpy()


def make(name: str, seed: int) -> None:
  family, settings, dtype, version = CASES[name]
  config_class = getattr(transformers, f'{family}Config')
  model_class = getattr(transformers, f'{family}ForCausalLM')
  model = model_class(config_class(**SIZES | settings))
  randomise(model, seed)
  directory = ROOT / name
  model.to(getattr(torch, dtype)).save_pretrained(
    directory, max_shard_size='40KB' if name == SHARDED else '1GB'
  )
  if version == 4:
    as_version_4(directory / 'config.json')
  tokens_T = np.random.default_rng(seed).integers(0, 160, LENGTH)
  np.savez_compressed(
    directory / 'golden.npz',
    tokens=tokens_T.astype(np.int32),
    logits=logits(directory, tokens_T),
  )


def make_smollm() -> None:
  """A slice of the vocabulary and the log-sum-exp over all of it."""
  source = pathlib.Path(embedded.path('smollm2-135m'))
  tokens_T = tokens.chat_tokens(tokens.load_tokenizer(source), MESSAGES)
  logits_TV = logits(source, tokens_T.astype(np.int64))
  (ROOT / SMOLLM).mkdir(exist_ok=True)
  np.savez_compressed(
    ROOT / SMOLLM / 'golden.npz',
    tokens=tokens_T,
    logits=logits_TV[:, COLUMNS],
    logsumexp=torch.logsumexp(torch.tensor(logits_TV), -1).numpy(),
  )


def main(names: list[str]) -> None:
  for seed, name in enumerate(CASES):
    if name in names or not names:
      make(name, seed)
  if SMOLLM in names or not names:
    make_smollm()


if __name__ == '__main__':
  main(sys.argv[1:])
