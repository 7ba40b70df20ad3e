"""GSPO (arXiv 2507.18071) on the quick start's sums.

    python -m acereason_jax.train --config=configs/gspo.py

The ratio is that of the whole response, to the power of 1 / its length, and is
clipped for all of its tokens at once. It moves little, so the bounds are a
thousandth of PPO's. The paper takes four updates of each batch.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')


def get_config():
  c = quickstart.get_config()
  # Section 5.1: 3e-4 and 4e-4.
  c.objective.loss = dict(
    fn='acereason_jax.rl.losses:gspo', clip_low=3e-4, clip_high=4e-4
  )
  c.objective.average = 'sequence'
  c.optim.updates = 4
  return c
