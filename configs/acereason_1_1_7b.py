"""AceReason-Nemotron-1.1-7B: the stages of 2506.13284, from a model of its own.

    python -m acereason_jax.train --config=configs/acereason_1_1_7b.py \\
      --config.model=/models/the_sft_model --coordinator=auto

The order is that of 1.0 [1.1]; what differs is the start (an SFT model on
Qwen2.5-Math-7B, ChatML), the prompt, and a temperature that keeps the entropy
near 0.3. Expected [1.1]: AIME24 72.6 at the end. Not measured by us: no
accelerator ran this yet, and accounts of 1.1 leave much open.
"""

from configs import acereason_7b


def get_config():
  c = acereason_7b.get_config()
  c.model = 'AceReason-Nemotron-1.1-7B-SFT'
  # [K] the released 1.1 prompts.
  c.prompt.system = (
    'You are a helpful and harmless assistant. You should think step-by-step.'
  )
  c.prompt.suffix = '\nPlease place your final answer inside \\boxed{}.'
  # [1.1]: 0.85 held the entropy at 0.26-0.38; the gain and bounds are [open].
  held = dict(
    fn='acereason_jax.rl.control:near_entropy',
    first=0.85,
    target=0.3,
    gain=0.05,
    low=0.6,
    high=1.2,
  )
  for stage in c.stages:
    stage['rollout']['temperature'] = held
  return c
