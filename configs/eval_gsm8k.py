"""GSM8K's 1,319 test problems, by decoding or by judging stored solutions.

    python -m acereason_jax.evaluate --config=configs/eval_gsm8k.py \\
      --model=MODEL --out=evals/my_model

The repository openai/grade-school-math has solutions of four models with their
labels. benchmarks/gsm8k_solutions.py makes rollouts of them:

    python -m benchmarks.gsm8k_solutions example_model_solutions.jsonl OUT
    python -m acereason_jax.evaluate --config=configs/eval_gsm8k.py \\
      --rollouts=OUT/175b_verification.jsonl --out=evals/175b_verification

test.jsonl, from the same repository, is yet to be put there by hand.
"""

from acereason_jax.config import evaluation


def get_config():
  c = evaluation.get_config()
  c.benchmarks.gsm8k = evaluation.benchmark(
    data=dict(fn='acereason_jax.evaluation.files:gsm8k', paths=('test.jsonl',)),
    expect=1319,
    prompt=dict(
      suffix='\nPlease reason step by step, and put your final answer within '
      '\\boxed{}.',
    ),
    max_tokens=2048,
    judges=dict(
      # The stored solutions, and many models, do not write </think>.
      strict=evaluation.judge(
        'acereason_jax.verifiers.math:verify',
        reference='acereason_jax.verifiers.math:reference',
        reasons=False,
      ),
      toolkit=evaluation.judge('acereason_jax.verifiers.lenient:verify'),
    ),
  )
  return c
