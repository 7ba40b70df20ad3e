"""The papers' table with few rollouts, to follow a run; its errors are wide.

    python -m acereason_jax.evaluate --config=configs/eval_quick.py \\
      --model=MODEL --out=evals/my_model

4 rollouts of contests' and LiveCodeBench's problems, 1 of the others: a fifth
of the rollouts of configs/eval_paper.py, which goes on from these in the same
folder. An average of AIME 2024 has a standard error of 3 to 4 points over
reruns here, so do not choose checkpoints by it.
"""

from acereason_jax.config import base

eval_paper = base.beside(__file__, 'eval_paper')


def get_config(prompt=''):
  return eval_paper.get_config(prompt, contests=4, lcb=4, others=1)
