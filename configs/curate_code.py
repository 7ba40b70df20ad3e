"""Curates code as the paper does [P 3.3.1]: its rules and its order.

    python -m acereason_jax.curate --config=configs/curate_code.py \\
      --config.out=curated/code

The paper names AtCoder, LeetCode and Aizu; its set is not public. TACO stands
here for such sources: a fifth of its problems need a special judge. Files of
the hub are named as others' public code names them; we fetched none. For
another source, change the input and the argument of `task`.
"""

from acereason_jax.config import base, curation

eval_paper = base.beside(__file__, 'eval_paper')

_HUB = 'hf://datasets/'
_TEXT = 'acereason_jax.data.curate.text:'
_RULES = 'acereason_jax.data.curate.code_text:'
_TESTS = 'acereason_jax.data.curate.tests:'
_GOLDEN = 'acereason_jax.data.curate.golden:'
# Before `task`: what statements alone show.
STATEMENT_STEPS = (
  dict(fn=f'{_TEXT}normalise'),
  # One problem may have other tests elsewhere, so answers are not compared.
  dict(fn=f'{_TEXT}exact', judge=None),
  # Nothing after this day [P]. A row without a date is flagged [open].
  dict(fn=f'{_RULES}released', until='2024-08-01', undated='flag'),
  dict(fn='acereason_jax.data.curate.overlap:contaminated', n=14, code=True),
  dict(fn=f'{_RULES}special_judge'),
  dict(fn=f'{_RULES}interactive'),
  dict(fn=f'{_RULES}image'),
  dict(fn=f'{_RULES}template'),
  dict(fn=f'{_RULES}file_io'),
)
# After `task`: what programs show.
PROGRAM_STEPS = (
  dict(fn=f'{_TESTS}unique'),
  # Accepted programs pass all tests, twice.
  dict(fn=f'{_GOLDEN}golden', most=5),
  # Two of them print one output.
  dict(fn=f'{_GOLDEN}one_output'),
  # Tests find at least 7 of 10 wrong programs [open].
  dict(fn='acereason_jax.data.curate.strength:strength', share=0.7, most=50),
  dict(fn=f'{_TESTS}tests', most=64, most_bytes=4 << 20),
)


def get_config():
  c = curation.get_config()
  c.inputs.taco = curation.source(
    f'{_HUB}BAAI/TACO/ALL/train-00000-of-00009.parquet',
    # Of the collection; each problem is its source's, HackerRank's unclear.
    licence='Apache-2.0',
    fields=dict(
      problem='question',
      answer='input_output',
      starter='starter_code',
      solutions='solutions',
      url='url',
      date='date',
      # Words such as 'HARD'.
      difficulty='',
    ),
  )
  for i, path in enumerate(eval_paper.LCB_V5 + eval_paper.LCB_V6):
    c.benchmarks[f'lcb{i + 1}'] = curation.benchmark(
      path, field='question_content', id='question_id'
    )
  c.generate = dict(
    max_tokens=32768,
    suffix=eval_paper.acereason_7b.CODE_SUFFIX,
    starter=eval_paper.acereason_7b.CODE_STARTER,
  )
  c.steps = (
    *STATEMENT_STEPS,
    dict(fn='acereason_jax.data.curate.code:task', source='apps'),
    *PROGRAM_STEPS,
    # Failures of 8 responses; what none of them solves is out [P].
    dict(fn='acereason_jax.data.curate.code:difficulty', k=8),
  )
  return c
