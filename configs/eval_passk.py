"""pass@k to k = 1,024 on LiveCodeBench v6: what a model can solve at all.

    python -m acereason_jax.evaluate --config=configs/eval_passk.py \\
      --model=MODEL --out=evals/my_model

[P Fig. 8]: after RL pass@k is higher at every k. 179,200 rollouts, about 1.8
billion tokens. A run may stop at any time and go on; with
--config.benchmarks.lcb_v6.n=64 it is a first look, from which a larger n goes
on.
"""

from acereason_jax.config import base, evaluation

eval_aime24 = base.beside(__file__, 'eval_aime24')
eval_paper = base.beside(__file__, 'eval_paper')


def get_config(prompt=''):
  if prompt not in eval_aime24.PROMPTS:
    raise ValueError(f'prompt {prompt!r}: give none, or 1.1')
  c = evaluation.get_config()
  c.benchmarks.lcb_v6 = eval_paper.code(
    *('lcb_v6', 'livecodebench:lcb_v6', eval_paper.LCB_V6, 175, 1024),
    eval_aime24.PROMPTS[prompt],
  )
  return c
