"""AceReason-Nemotron-7B: the whole published order of stages in one run.

    python -m acereason_jax.train --config=configs/acereason_7b.py \\
      --coordinator=auto

The papers' ablations are other orders of the same stages, by a name after the
file's; docs/recipe.md lists them. This one needs nothing but the hub:

    ... --config=configs/acereason_7b.py:math_only

One stage, from where another run ended:

    ... --config.start.run=runs/before --config.start.stages="('math_24k',)"

Hardware: the paper used 128 H100s. Expected [P Table 1 and 3.4], AIME24: 55.5
at the start, 62 after math_16k, 65.9 after math_24k, 66.9 after code_32k, 69.0
at the end. Not measured by us: no accelerator ran this yet.
Model and math are fetched from the hub: 15 GB, nvidia/AceReason-Math (49,585
rows of problem and answer) and AIME24. Names and columns are as others' public
code reads them; we fetched neither.
Code is yet to be put there by hand, as JSON lines: code.jsonl, tasks of
data/code_tasks.py with a `difficulty` of 0 to 8, the failures in 8 attempts of
R1 [P 3.3.1], and, where a program must begin with given code, a `starter`; they
were not released. livecodebench_v5.jsonl, the same without a difficulty: its
`code_tasks.livecodebench` converts livecodebench/code_generation_lite.
"""

from acereason_jax.config import base

MATH = 'hf://datasets/nvidia/AceReason-Math/math.jsonl'
AIME24 = 'hf://datasets/Maxwell-Jia/AIME_2024/aime_2024_problems.parquet'
# As released for evaluation [K]; that of training is not reported.
_PROGRAM = (
  'Please place the solution code in the following format:\n'
  '```python\n# Your solution code here\n```'
)
CODE_SUFFIX = '\n\nWrite Python code to solve the problem. ' + _PROGRAM
CODE_STARTER = (
  '\n\nSolve the problem starting with the provided function header.\n\n'
  'Function header:\n```\n{starter}\n```\n\n' + _PROGRAM
)
# Room for a prompt before the response, in a row of the update.
WINDOW = 1024


def stage(name, tokens, rollout=None, **changes):
  """A stage with responses of up to `tokens`."""
  rollout = dict(max_tokens=tokens) | (rollout or {})
  return dict(
    name=name,
    rollout=rollout,
    microbatch=dict(columns=tokens + WINDOW),
    **changes,
  )


def by_epoch(*values):
  return dict(fn='acereason_jax.rl.control:by_epoch', values=values)


# The orders of stages that the paper tells of, by name: '' is the published
# one [P 3.4]. An order without stages of code needs no files of code.
ORDERS = {
  '': ('math_8k', 'math_16k', 'math_24k', 'code_24k', 'code_32k', 'math_32k'),
  # [P Fig. 2, Table 1]: math only, up to 24K; and code only.
  'math_only': ('math_8k', 'math_16k', 'math_24k'),
  'code_only': ('code_24k', 'code_32k'),
  # The order of the two swapped.
  'code_first': ('code_24k', 'code_32k', 'math_8k', 'math_16k', 'math_24k'),
  # [P Fig. 3b]: without the stages of shorter responses.
  'start_16k': ('math_16k', 'math_24k'),
  'start_24k': ('math_24k',),
}
# [P Table 3]: the same with other prompts at 24K; by name, what is the most
# that a prompt is solved of 16 times. None: all prompts.
TABLE_3 = {'full': None, 'easy': 14, 'medium': 10, 'hard': 6}


def hard(max_solved):
  """Drops what the model solves more often, of 16 times [P 3.2.2].

  Ours: by the verdicts that the stages before have in the ledger. The paper
  asks the current model again, at a length and a time that it does not report
  [open]: 793,360 rollouts. source='probe' does that. A prompt's newest verdicts
  are up to an epoch old and of shorter responses, so some more prompts stay.
  """
  if max_solved is None:
    return {}
  return dict(filter=dict(of=16, max_solved=max_solved, source='ledger'))


# Ends a stage whose prompts, asked again, surely gain less than a point of pass
# rate in 200 steps [open]; docs/recipe.md says how sure.
PLATEAU = dict(stop=dict(metric='same_prompts', window=200, gain=0.01))


def stages(first_difficulty, max_solved=6):
  """[P 3.4], in order; `first_difficulty` is the most in the first of code,
  `max_solved` of 16 the most in math_24k (None: no matter)."""
  # Truncated responses are masked up to 24K, and scored 0 at 32K [1.1]. Stages
  # end after their steps, or when the same prompts gain no more [open].
  math = dict(mix=dict(math=1.0))
  # [P]: 5e-6 for code, 1e-6 for math.
  code = dict(mix=dict(code=1.0), optim=dict(learning_rate=5e-6), **PLATEAU)
  return (
    # Accuracy drops first and recovers after 1K-2K steps [P 3.4], which a look
    # every 500 steps shows; it lasts as long as three or four of these steps.
    stage('math_8k', 8192, steps=2500, heldout=dict(every=500), **math),
    # G is 16 from 16K on [P]; a sharp gain within 500 steps.
    stage(
      'math_16k',
      16384,
      steps=1000,
      rollout=dict(per_prompt=16),
      **math,
      **PLATEAU,
    ),
    # Hard: 2.2K prompts of 49K were left for 7B [P Table 3].
    stage(
      'math_24k',
      24576,
      steps=500,
      rollout=dict(per_prompt=16),
      **hard(max_solved),
      **math,
      **PLATEAU,
    ),
    # [P 3.3.2]: 24,000 tokens at 0.6, easier problems first.
    stage(
      'code_24k',
      24000,
      steps=500,
      rollout=dict(per_prompt=8, temperature=0.6),
      filter=dict(max_difficulty=first_difficulty),
      **code,
    ),
    # [P 3.3.2]: over the epochs, temperature 0.6 -> 1.0 and G 8 -> 16; the
    # numbers between are [open]. From the second epoch on without what was
    # solved every time [1.1], be that of 8 or of 16.
    stage(
      'code_32k',
      32768,
      steps=500,
      rollout=dict(
        per_prompt=by_epoch(8, 12, 16),
        temperature=by_epoch(0.6, 0.7, 0.8, 0.9, 1.0),
      ),
      filter=dict(drop_solved=True),
      objective=dict(truncated='zero'),
      **code,
    ),
    stage(
      'math_32k',
      32768,
      steps=500,
      rollout=dict(per_prompt=16),
      objective=dict(truncated='zero'),
      **hard(6),
      **math,
      **PLATEAU,
    ),
  )


def ordered(every, order):
  """The stages of an order, and their domains."""
  if order not in ORDERS:
    names = ', '.join(filter(None, [*ORDERS, *TABLE_3]))
    raise ValueError(f'order {order!r}: there are: {names}')
  by_name = {stage['name']: stage for stage in every}
  chosen = tuple(by_name[name] for name in ORDERS[order])
  return chosen, {domain for stage in chosen for domain in stage['mix']}


def get_config(order=''):
  """`order`: of ORDERS or, with the stages of 'math_only', of TABLE_3."""
  return recipe(order, first_difficulty=5.0)


def recipe(order, first_difficulty):
  c = base.get_config()
  c.model = 'deepseek-ai/DeepSeek-R1-Distill-Qwen-7B'
  max_solved = TABLE_3.get(order, 6)
  every = stages(first_difficulty, max_solved)
  order = 'math_only' if order in TABLE_3 else order
  c.stages, used = ordered(every, order)
  jsonl = 'acereason_jax.data.sources:jsonl'
  parquet = 'acereason_jax.data.sources:parquet'
  domains = dict(
    math=dict(
      # Or Parquet, as curation writes it: train_data.path=DIR/rows.parquet.
      train_data=dict(fn='acereason_jax.data.sources:file', path=MATH),
      heldout_data=dict(fn=parquet, path=AIME24),
    ),
    code=dict(
      train_data=dict(fn=jsonl, path='code.jsonl'),
      heldout_data=dict(fn=jsonl, path='livecodebench_v5.jsonl'),
      prompt=dict(suffix=CODE_SUFFIX, starter=CODE_STARTER),
      judge=dict(
        verify=dict(fn='acereason_jax.verifiers.code:verify'),
        reference='acereason_jax.verifiers.code:reference',
        confine=False,
        timeout_seconds=300.0,
      ),
      # 279 problems: the standard error of 4 answers to each is 1 point; of the
      # paper's 8 [P 4.1], which evaluation gives, 0.7. The one look before the
      # run tests these judges before days of math.
      heldout=dict(every=100, per_prompt=4),
    ),
  )
  c.domains = {name: domains[name] for name in domains if name in used}
  # [K]; some copies of the chat template end with it, and some do not.
  c.prompt.opens = '<think>\n'
  # [1.1] keeps the entropy near 0.3, which 0.85 gave.
  c.rollout.temperature = 0.85
  # Looks at held-out questions take at most 2% of a stage's time, by the plan
  # for 64 TPU v5p. A look lasts as long as its longest responses, 32K tokens:
  # few looks with many answers tell more than many with few. 30 questions, 16,
  # 32 or 64 times each, have a standard error of 1.8, 1.2 or 0.7 points [P];
  # the paper's tables have 64, as evaluation has. The checkpoint that is best
  # in these looks is kept.
  c.heldout.update(per_prompt=32, every=100)
  c.checkpoint.best = 'heldout/math' if 'math' in used else 'heldout/code'
  return c
