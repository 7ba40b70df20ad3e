"""LoRA (arXiv 2106.09685) on the quick start's sums.

    python -m acereason_jax.train --config=configs/lora.py

Only adapters of rank 16 are trained and saved, beside frozen weights: the
optimizer's state and the checkpoints are those of a small model. Rollouts read
merged weights, and `python -m acereason_jax.export` writes them merged.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')


def get_config():
  c = quickstart.get_config()
  # All matrices of layers; lora.on names fewer.
  c.lora.update(rank=16, alpha=32.0)
  # Ten times that of full training [open].
  c.optim.learning_rate = 5e-5
  return c
