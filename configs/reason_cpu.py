"""SmolLM2-135M-Instruct learns to reverse lists of words on two CPU cores.

    pip install -e '.[gym]'
    python -m acereason_jax.train --config=configs/reason_cpu.py

The tasks are reasoning-gym's, and so is the scorer. No constant answer is ever
right, and no list of the held-out split is trained on in any order.
docs/measured.md has the curve, and the rates of 24 generators before training.
"""

from acereason_jax.config import base

TASK = (
  'Solve the following problem.\n\nProvide you answer as a comma-separated '
  'list of words with a space after the comma.\n\nReverse this list of words: '
)


def get_config():
  c = base.get_config()
  c.steps = 8
  c.model = 'smollm2-135m'
  c.dtype = 'float32'
  c.remat = 'dots'
  c.prompt.update(
    system='You solve problems.',
    suffix='',
    # Without them the model rarely writes \\boxed{}.
    examples=(
      (TASK + 'red, sun', '\\boxed{sun, red}'),
      (TASK + 'big, tree', '\\boxed{tree, big}'),
    ),
    window=176,
    reasons=False,
  )
  lists = dict(
    fn='acereason_jax.data.gym:rows',
    generator='word_sequence_reversal',
    arguments=dict(min_words=2, max_words=2),
    seed=0,
    held_out=0.25,
    own_scorer=True,
  )
  c.train_data = dict(lists, split='train', count=400)
  c.heldout_data = dict(lists, split='heldout', count=64)
  c.rollout.update(prompts=8, per_prompt=8, max_tokens=16, temperature=1.0)
  c.heldout.update(per_prompt=1, temperature=1.0, top_p=1.0, top_k=0)
  c.engine.update(page=16, chunk=4, prefill_prompts=8, prefill_tokens=176)
  c.judge.update(
    verify=dict(fn='acereason_jax.verifiers.gym:verify'),
    reference='acereason_jax.verifiers.gym:reference',
    workers=1,
  )
  c.objective.truncated = 'score'
  c.optim.learning_rate = 1e-5
  c.microbatch = dict(rows=2, columns=384, vocab_chunk=2048)
  c.checkpoint.update(every=8, keep=1)
  c.samples = dict(every=4, count=3, characters=200)
  return c
