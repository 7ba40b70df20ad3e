"""The quick start's held-out sums, 16 times each: before and after training.

    python -m acereason_jax.evaluate --config=configs/eval_sums.py \\
      --out=evals/before
    python -m acereason_jax.train --config=configs/quickstart.py \\
      --workdir=runs/sums
    python -m acereason_jax.evaluate --config=configs/eval_sums.py \\
      --model=runs/sums --out=evals/after
    python -m acereason_jax.evaluate --compare evals/before evals/after

Needs no files and no network; two CPU cores are enough.
"""

from acereason_jax.config import base, evaluation

quickstart = base.beside(__file__, 'quickstart').get_config()


def get_config():
  c = evaluation.get_config()
  c.model = quickstart.model
  c.dtype = quickstart.dtype
  # As the model is trained and looked at.
  c.sampling.update(temperature=1.0, top_p=1.0)
  c.engine.update(page=16, chunk=4)
  c.judge.workers = 1
  ask = quickstart.prompt
  c.benchmarks.sums = evaluation.benchmark(
    data=dict(
      fn='acereason_jax.evaluation.files:problems',
      # 120 of the 140 sums that training never sees.
      rows=dict(quickstart.heldout_data, count=120),
    ),
    expect=120,
    n=16,
    prompt=dict(system=ask.system, examples=ask.examples),
    max_tokens=quickstart.rollout.max_tokens,
    judges=dict(
      strict=evaluation.judge(
        quickstart.judge.verify.fn,
        reference=quickstart.judge.reference,
        reasons=ask.reasons,
      ),
    ),
  )
  return c
