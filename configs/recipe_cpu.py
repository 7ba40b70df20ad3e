"""The recipe in miniature: six stages of SmolLM2-135M on two CPU cores.

    python -m acereason_jax.train --config=configs/recipe_cpu.py

Sums at growing length, then little Python programs, judged by running them,
then sums again, as math 8K -> 16K -> 24K, code 24K -> 32K, math 32K of
acereason_7b.py. It shows that stages, filters, judges and what lies between
them work together; lengths are too short to teach longer thinking.
docs/measured.md has its curves.
"""

from acereason_jax.config import base

quickstart = base.beside(__file__, 'quickstart')

SOURCES = 'acereason_jax.data.sources:'
ask = 'Write a Python function f(x) that returns {}.'.format
block = '```python\ndef f(x):\n    return {}\n```'.format


def programs(split, count):
  """As many of one operation as of two."""
  tasks = dict(fn=SOURCES + 'programs', split=split, count=count, seed=0)
  tasks |= dict(largest=40, held_out=0.25)
  parts = [tasks | dict(operations=n) for n in (1, 2)]
  return dict(fn=SOURCES + 'joined', sources=parts)


def get_config():
  c = quickstart.get_config()
  sums = dict(train_data=c.train_data.to_dict() | dict(count=160))
  sums['heldout_data'] = c.heldout_data.to_dict() | dict(count=48)
  c.domains = dict(
    math=sums,
    code=dict(
      train_data=programs('train', count=80),
      heldout_data=programs('heldout', count=24),
      prompt=dict(
        system='You write Python programs.',
        # Their constants are larger than those of any task.
        examples=(
          (ask('x plus 52'), block('x + 52')),
          (ask('the larger of x and 45'), block('max(x, 45)')),
          (
            ask('the larger of (x minus 71) and 45'),
            block('max(x - 71, 45)'),
          ),
        ),
        window=208,
      ),
      judge=dict(
        verify=dict(
          fn='acereason_jax.verifiers.code:verify', budget_seconds=10.0
        ),
        reference='acereason_jax.verifiers.code:reference',
        timeout_seconds=300.0,
        confine=False,
      ),
    ),
  )
  math, code = dict(mix=dict(math=1)), dict(mix=dict(code=1))
  length = lambda tokens: dict(max_tokens=tokens)
  # Dropped when all of 4 are right: Hard drops more than 6 of 16.
  hard = dict(of=4, max_solved=3)
  masked = dict(objective=dict(truncated='mask'))
  c.stages = (
    dict(name='math_16', steps=6, rollout=length(16), **masked, **math),
    dict(name='math_24', steps=6, rollout=length(24), **masked, **math),
    dict(name='math_32', steps=4, rollout=length(32), filter=hard, **math),
    dict(
      name='code_32',
      steps=5,
      rollout=length(32),
      filter=dict(max_difficulty=1.0),
      **code,
    ),
    dict(
      name='code_48',
      steps=5,
      rollout=dict(
        max_tokens=48,
        temperature=dict(
          fn='acereason_jax.rl.control:by_epoch', values=(0.8, 1.0)
        ),
      ),
      filter=dict(drop_solved=True),
      objective=dict(truncated='zero'),
      **code,
    ),
    dict(
      name='math_48',
      steps=4,
      rollout=length(48),
      filter=hard,
      objective=dict(truncated='zero'),
      **math,
    ),
  )
  c.engine.prefill_tokens = 208
  c.checkpoint.every = 5
  return c
