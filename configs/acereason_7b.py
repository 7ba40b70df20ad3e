"""AceReason-Nemotron-7B: the whole published order of stages in one run.

    python -m acereason_jax.train --config=configs/acereason_7b.py \\
      --config.model=/models/DeepSeek-R1-Distill-Qwen-7B --coordinator=auto

One stage alone, from where another run ended:

    ... --config.start.run=runs/before --config.start.stages="('math_24k',)"

Hardware: the paper used 128 H100s. Expected [P Table 1 and 3.4], AIME24: 55.5
at the start, 62 after math_16k, 65.9 after math_24k, 66.9 after code_32k, 69.0
at the end. Not measured by us: no accelerator ran this yet.
Data, JSON lines of problem and answer: nvidia/AceReason-Math (49,585 rows) and,
for code, tasks of data/code_tasks.py with a `difficulty` of 0 to 8, the
failures in 8 attempts of R1 [P 3.3.1], which were not released.
"""

from configs import base

CODE_SUFFIX = (
  '\nPlease place the solution code in the following format:\n'
  '```python\n# Your solution code here\n```'
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


def stages(first_difficulty):
  """[P 3.4], in order; `first_difficulty` is the most in the first of code."""
  # Truncated responses are masked up to 24K, and scored 0 at 32K [1.1]. Stages
  # end after their steps, or when the mean reward has not risen [open].
  math = dict(mix=dict(math=1.0))
  plateau = dict(stop=dict(metric='reward', window=200, gain=0.0))
  code = dict(
    mix=dict(code=1.0),
    # [P]: 5e-6 for code, 1e-6 for math.
    optim=dict(learning_rate=5e-6),
    stop=dict(metric='reward', window=200, gain=0.0),
  )
  # Drops prompts solved more than 6 of 16 times by the current model: 2.2K of
  # 49K were left for 7B [P Table 3].
  hard = dict(of=16, max_solved=6)
  return (
    # Accuracy drops first and recovers after 1K-2K steps [P 3.4].
    stage('math_8k', 8192, steps=2500, **math),
    # G is 16 from 16K on [P]; a sharp gain within 500 steps.
    stage(
      'math_16k',
      16384,
      steps=1000,
      rollout=dict(groups=16),
      **math,
      **plateau,
    ),
    stage(
      'math_24k',
      24576,
      steps=500,
      rollout=dict(groups=16),
      filter=hard,
      **math,
      **plateau,
    ),
    # [P 3.3.2]: 24,000 tokens at 0.6, easier problems first.
    stage(
      'code_24k',
      24000,
      steps=500,
      rollout=dict(groups=8, temperature=0.6),
      filter=dict(max_difficulty=first_difficulty),
      **code,
    ),
    # [P 3.3.2]: temperature 0.6 -> 1.0 over the epochs; the steps between are
    # [open], and so are those of G 8 -> 16, which is 16 at once here. From the
    # second epoch on without what was solved every time [1.1].
    stage(
      'code_32k',
      32768,
      steps=500,
      rollout=dict(groups=16, temperature=by_epoch(0.6, 0.7, 0.8, 0.9, 1.0)),
      filter=dict(drop_solved=True),
      truncated='zero',
      **code,
    ),
    stage(
      'math_32k',
      32768,
      steps=500,
      rollout=dict(groups=16),
      filter=hard,
      truncated='zero',
      **math,
      **plateau,
    ),
  )


def get_config():
  c = base.get_config()
  c.model = 'DeepSeek-R1-Distill-Qwen-7B'
  jsonl = 'acereason_jax.data.sources:jsonl'
  c.domains = dict(
    math=dict(
      train_data=dict(fn=jsonl, path='acereason_math.jsonl'),
      heldout_data=dict(fn=jsonl, path='aime24.jsonl'),
    ),
    code=dict(
      train_data=dict(fn=jsonl, path='code.jsonl'),
      heldout_data=dict(fn=jsonl, path='livecodebench_v5.jsonl'),
      prompt=dict(suffix=CODE_SUFFIX),
      judge=dict(
        fn='acereason_jax.verifiers.code:verify',
        reference='acereason_jax.verifiers.code:reference',
        confine=False,
        timeout_seconds=300.0,
      ),
    ),
  )
  c.stages = stages(first_difficulty=5.0)
  # [1.1] keeps the entropy near 0.3, which 0.85 gave.
  c.rollout.temperature = 0.85
  # At every 50 steps the held-out questions; the best checkpoint is kept.
  # 30 questions, 16 times each: a standard error of 2 points.
  c.heldout.groups = 16
  c.evaluate_every = 50
  c.best = 'heldout/math'
  return c
