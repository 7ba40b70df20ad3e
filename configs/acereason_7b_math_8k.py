"""AceReason-Nemotron-7B, math stage 1: responses of up to 8K tokens.

    python -m acereason_jax.train --config=configs/acereason_7b_math_8k.py \\
      --config.model=DeepSeek-R1-Distill-Qwen-7B --coordinator=auto

Hardware: the paper used 128 H100s. Expected [P 3.4]: accuracy drops first and
recovers after 1K-2K steps. Not measured by us: no accelerator ran this yet.
Data: nvidia/AceReason-Math as JSON lines with 'problem' and 'answer'.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.model = 'DeepSeek-R1-Distill-Qwen-7B'
  c.train_data = dict(
    fn='acereason_jax.data.sources:jsonl', path='acereason_math.jsonl'
  )
  c.heldout_data = dict(
    fn='acereason_jax.data.sources:jsonl', path='aime24.jsonl'
  )
  return c
