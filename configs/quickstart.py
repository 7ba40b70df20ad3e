"""SmolLM2-135M-Instruct learns sums on two CPU cores, in about ten minutes.

    python -m acereason_jax.train --config=configs/quickstart.py

Two example turns teach it \\boxed{}: without them it never writes one.
"""

from acereason_jax.config import base


def get_config():
  c = base.get_config()
  c.steps = 18
  c.model = 'smollm2-135m'
  c.dtype = 'float32'
  c.remat = 'dots'
  c.prompt.update(
    system='You solve problems.',
    suffix='',
    examples=(
      ('What is 2 + 5?', '2 + 5 = \\boxed{7}'),
      ('What is 11 + 4?', '11 + 4 = \\boxed{15}'),
    ),
    window=96,
    reasons=False,
  )
  # 231 unordered pairs; 70 of them, in both orders, are never trained on.
  sums = dict(
    fn='acereason_jax.data.sources:arithmetic',
    seed=0,
    largest=20,
    held_out=70,
  )
  c.train_data = dict(sums, split='train', count=300)
  c.heldout_data = dict(sums, split='heldout', count=128)
  c.rollout.update(prompts=8, per_prompt=8, max_tokens=32, temperature=1.0)
  c.heldout.update(per_prompt=1, temperature=1.0, top_p=1.0, top_k=0)
  c.engine.update(page=16, chunk=4, prefill_prompts=8, prefill_tokens=96)
  c.judge.workers = 1
  c.objective.truncated = 'score'
  c.optim.learning_rate = 5e-6
  c.microbatch = dict(rows=2, columns=384, vocab_chunk=2048)
  c.checkpoint.update(every=6, keep=2)
  c.samples = dict(every=6, count=3, characters=200)
  return c
