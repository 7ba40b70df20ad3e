"""AceReason-Nemotron-14B: as the 7B model, except where the paper differs.

    python -m acereason_jax.train --config=configs/acereason_14b.py \\
      --coordinator=auto

Hardware: the paper used 128 H100s. Expected [P Table 1], AIME24: 69.7 at the
start, 76.6 after math_24k, 78.6 at the end. Not measured by us: no accelerator
ran this yet.
"""

from acereason_jax.config import base

acereason_7b = base.beside(__file__, 'acereason_7b')


def get_config(order=''):
  # [P 3.3.2]: difficulty of up to 7 in the first stage of code.
  c = acereason_7b.recipe(order, first_difficulty=7.0)
  c.model = 'deepseek-ai/DeepSeek-R1-Distill-Qwen-14B'
  return c
