"""Dr. GRPO (arXiv 2503.20783) on the quick start's sums.

    python -m acereason_jax.train --config=configs/dr_grpo.py

GRPO without its two biases: an advantage is not divided by the std of its
group, which favours questions that are too easy or too hard, and a loss is not
divided by the length of its response, which favours long wrong answers.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')


def get_config():
  c = quickstart.get_config()
  c.objective.advantage.scale = 'none'
  # The same for every token of every batch: 1 / (rollouts x max_tokens).
  c.objective.average = 'constant'
  return c
