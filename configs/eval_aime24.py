"""AIME 2024, 64 times each problem: the number that the papers report first.

    python -m acereason_jax.evaluate --config=configs/eval_aime24.py \\
      --model=MODEL --out=evals/my_model

Copy this file for a model or a benchmark of your own. A colon and a name ask as
another model was asked: --config=configs/eval_aime24.py:1.1
One field is changed by a flag: --config.benchmarks.aime24.n=16
The file is as others' public code names it on the hub; we did not fetch it.
"""

from acereason_jax.config import evaluation

# How the papers' models are asked [K]. 1.0: AceReason-Nemotron and the models
# that it starts from. 1.1: AceReason-Nemotron-1.1.
PROMPTS = {
  '': dict(
    suffix='\nPlease reason step by step, and put your final answer within '
    '\\boxed{}.',
    # The reply follows this. It is added where the chat template does not end
    # with it. Without it these models often skip their reasoning.
    opens='<think>\n',
  ),
  '1.1': dict(
    system='You are a helpful and harmless assistant. You should think '
    'step-by-step.',
    suffix='\n\nPlease place your final answer inside \\boxed{}.',
    opens='<think>\n',
  ),
}


def get_config(prompt=''):
  if prompt not in PROMPTS:
    raise ValueError(f'prompt {prompt!r}: give none, or 1.1')
  c = evaluation.get_config()
  # Temperature 0.6, top-p 0.95 and 32,768 tokens are the defaults [P 4.1].
  # To compare with a row of evaluation/published.py:
  # c.published = 'acereason-7b'
  c.benchmarks.aime24 = evaluation.benchmark(
    # A source of evaluation/files.py; paths may also name files on disk.
    data=dict(
      fn='acereason_jax.evaluation.files:aime',
      paths=(
        'hf://datasets/HuggingFaceH4/aime_2024/data/'
        'train-00000-of-00001.parquet',
      ),
    ),
    # Any other number of problems is refused; 0 takes any.
    expect=30,
    # Rollouts of each problem. A later run with more goes on from these.
    n=64,
    prompt=PROMPTS[prompt],
    # The first is the headline.
    judges=dict(
      # Training's: only equal answers are right.
      strict=evaluation.judge(
        'acereason_jax.verifiers.math:verify',
        reference='acereason_jax.verifiers.math:reference',
      ),
      # The rules of the released evaluation, which accept more.
      toolkit=evaluation.judge('acereason_jax.verifiers.lenient:verify'),
    ),
    # Its column in evaluation/published.py.
    published='aime24',
  )
  return c
