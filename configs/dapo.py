"""DAPO (arXiv 2503.14476) on the quick start's sums.

    python -m acereason_jax.train --config=configs/dapo.py

Four changes of GRPO, for long chains of thought: the ratio is clipped higher
than it is clipped low, so that rare tokens can gain; groups without a gradient
are replaced by new prompts; each token weighs the same; and the longest
responses lose reward in proportion. The paper has no KL and no entropy bonus,
as the defaults. Its lengths are 16,384 tokens and 4,096 more with a penalty.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')


def get_config():
  c = quickstart.get_config()
  # Section 3.1: 0.2 and 0.28. A ratio needs more than one update a batch; the
  # paper makes 16 of 512 prompts.
  c.objective.loss = dict(
    fn='acereason_jax.rl.losses:clipped', clip_low=0.2, clip_high=0.28
  )
  c.optim.updates = 2
  # Section 3.2, dynamic sampling: until the batch is full; here, at most three
  # further rounds.
  c.rollout.refill = 3
  # Section 3.3.
  c.objective.average = 'token'
  # Section 3.4: a fifth of the longest response, and a response that was cut
  # off is judged as all others.
  c.objective.truncated = 'score'
  c.objective.overlong_tokens = c.rollout.max_tokens // 5
  return c
