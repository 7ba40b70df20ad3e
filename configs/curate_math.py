"""Curates math as the paper does [P 3.2.1]: its sources, its rules, its order.

    python -m acereason_jax.curate --config=configs/curate_math.py \\
      --config.out=curated/math

    python -m acereason_jax.train --config=configs/acereason_7b.py \\
      --config.domains.math.train_data.path=curated/math/rows.parquet

Where responses are missing it says the command that makes them; --config.model
names a model, and it makes them itself. Files of the hub are named as others'
public code names them; we fetched none. --config.inputs.numina.path=FILE reads
another file. Thresholds that the paper leaves open are arguments of the steps.
"""

from acereason_jax.config import base, curation

eval_paper = base.beside(__file__, 'eval_paper')

_HUB = 'hf://datasets/'
_TEXT = 'acereason_jax.data.curate.text:'
_PASSES = 'acereason_jax.data.curate.passes:'
# Problems of the paper's benchmarks; its list is longer [open].
BENCHMARKS = {
  **{name: path for name, (_, path, _) in eval_paper.CONTESTS.items()},
  'math500': eval_paper.MATH500,
}
# What a text alone shows, the cheapest first.
TEXT_STEPS = (
  # Labels such as 'Problem 4.1:' go away, before anything is compared.
  dict(fn=f'{_TEXT}normalise'),
  dict(fn=f'{_TEXT}sentinels'),
  dict(fn=f'{_TEXT}exact'),
  # Any n-gram of 9 tokens that a row shares with a benchmark [P].
  dict(fn='acereason_jax.data.curate.overlap:contaminated', n=9),
  dict(fn=f'{_TEXT}parts'),
  dict(fn=f'{_TEXT}choice'),
  dict(fn=f'{_TEXT}true_false'),
  dict(fn=f'{_TEXT}proof'),
  dict(fn=f'{_TEXT}language'),
  dict(fn=f'{_TEXT}figure'),
  dict(fn=f'{_TEXT}brief'),
  dict(fn=f'{_TEXT}long'),
  dict(fn=f'{_TEXT}leak'),
  # What the judge cannot read, it can never find right.
  dict(fn=f'{_TEXT}reference'),
  dict(fn='acereason_jax.data.curate.near:near'),
)


def get_config():
  c = curation.get_config()
  c.inputs.deepscaler = curation.source(
    f'{_HUB}agentica-org/DeepScaleR-Preview-Dataset/deepscaler.json',
    licence='MIT',
  )
  c.inputs.numina = curation.source(
    tuple(
      f'{_HUB}AI-MO/NuminaMath-1.5/data/train-{i:05}-of-00003.parquet'
      for i in range(3)
    ),
    licence='Apache-2.0',
  )
  for name, path in BENCHMARKS.items():
    c.benchmarks[name] = curation.benchmark(path)
  # Its tokens are counted: the paper's lengths are of DeepSeek-R1's responses.
  c.tokenizer = 'deepseek-ai/DeepSeek-R1'
  c.generate = dict(
    max_tokens=32768, suffix=eval_paper.aime24.PROMPTS['']['suffix']
  )
  c.steps = (
    *TEXT_STEPS,
    # The reference is what most of up to 8 responses say [P].
    dict(fn='acereason_jax.data.curate.vote:vote', k=8),
    # Under 2,000 tokens out [P]; of those under 4,000 a half [open] stays.
    dict(fn=f'{_PASSES}length', least=2000, most=4000, share=0.5),
    dict(fn=f'{_PASSES}difficulty', k=8),
  )
  return c
