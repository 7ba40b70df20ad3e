"""The off-policy ablation of [P Fig. 3c] in miniature: updates a batch.

    python -m acereason_jax.train --config=configs/updates_cpu.py
    python -m acereason_jax.train --config=configs/updates_cpu.py \\
      --config.optim.updates=4 --workdir=runs/updates_cpu_4

The quick start with the clipped ratio of [P eq. 1], which one update a batch
never clips. The paper saw the entropy collapse near step 100 with 2 and 4, and
never with 1. docs/measured.md has what 18 steps show here.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')


def get_config():
  c = quickstart.get_config()
  c.objective.loss = dict(
    fn='acereason_jax.rl.losses:clipped', clip_low=0.2, clip_high=0.2
  )
  return c
