"""The papers' whole table: contests, MATH-500, LiveCodeBench and EvalPlus.

    python -m acereason_jax.evaluate --config=configs/eval_paper.py \\
      --model=MODEL --out=evals/my_model --config.published=acereason-7b

    ... --config=configs/eval_paper.py:1.1 --config.published=acereason-1.1-7b

15,480 rollouts; --only=aime24,lcb_v6 asks some of it, and a later run of the
same folder adds the rest.
Files of the hub are named as others' public code names them; we fetched none.
LiveCodeBench takes 4.5 GB. EvalPlus is yet to be put there by hand: the two
files of github.com/evalplus, humanevalplus_release and mbppplus_release. The
paper's Codeforces column needs files of your own; see the end of this file.
"""

from acereason_jax.config import base, evaluation

acereason_7b = base.beside(__file__, 'acereason_7b')
aime24 = base.beside(__file__, 'eval_aime24')

_HUB = 'hf://datasets/'
_TRAIN = 'data/train-00000-of-00001.parquet'
_FILES = 'acereason_jax.evaluation.files:'
# By name: source, file and number of problems.
CONTESTS = {
  'aime24': ('aime', f'{_HUB}HuggingFaceH4/aime_2024/{_TRAIN}', 30),
  'aime25': ('aime', f'{_HUB}MathArena/aime_2025/{_TRAIN}', 30),
  'hmmt': ('matharena', f'{_HUB}MathArena/hmmt_feb_2025/{_TRAIN}', 30),
  'brumo': ('matharena', f'{_HUB}MathArena/brumo_2025/{_TRAIN}', 30),
}
MATH500 = f'{_HUB}HuggingFaceH4/MATH-500/test.jsonl'
_LCB = f'{_HUB}livecodebench/code_generation_lite/'
# v5 is the problems of these since 2024-08-01, v6 the whole of the next file.
LCB_V5 = tuple(f'{_LCB}test{i}.jsonl' for i in ('', 2, 3, 4, 5))
LCB_V6 = (f'{_LCB}test6.jsonl',)
EVALPLUS = ('HumanEvalPlus.jsonl.gz', 'MbppPlus.jsonl.gz')


def math(name, source, path, expect, n, prompt, toolkit='verify'):
  """A benchmark of answers, with training's judge and the toolkit's rules."""
  return evaluation.benchmark(
    data=dict(fn=_FILES + source, paths=(path,)),
    expect=expect,
    n=n,
    prompt=prompt,
    judges=dict(
      strict=evaluation.judge(
        'acereason_jax.verifiers.math:verify',
        reference='acereason_jax.verifiers.math:reference',
      ),
      toolkit=evaluation.judge(f'acereason_jax.verifiers.lenient:{toolkit}'),
    ),
    published=name,
  )


def code(name, source, paths, expect, n, prompt):
  """A benchmark of programs; code is asked for in one way by both papers."""
  return evaluation.benchmark(
    data=dict(fn=f'acereason_jax.evaluation.{source}', paths=paths),
    expect=expect,
    n=n,
    prompt=prompt
    | dict(suffix=acereason_7b.CODE_SUFFIX, starter=acereason_7b.CODE_STARTER),
    judges=dict(
      strict=evaluation.judge(
        'acereason_jax.verifiers.code:verify',
        reference='acereason_jax.verifiers.code:reference',
        # The judge stops and confines the programs itself.
        timeout_seconds=300.0,
        confine=False,
      ),
    ),
    majority=False,
    published=name,
  )


def get_config(prompt='', contests=64, lcb=8, others=4):
  """`prompt` is '' or '1.1'; the numbers are rollouts of each problem."""
  if prompt not in aime24.PROMPTS:
    raise ValueError(f'prompt {prompt!r}: give none, or 1.1')
  ask = aime24.PROMPTS[prompt]
  c = evaluation.get_config()
  for name, (source, path, expect) in CONTESTS.items():
    c.benchmarks[name] = math(name, source, path, expect, contests, ask)
  c.benchmarks.math500 = math(
    *('math500', 'math500', MATH500, 500, others, ask),
    toolkit='verify_math500',
  )
  for name, paths, expect in (('v5', LCB_V5, 279), ('v6', LCB_V6, 175)):
    c.benchmarks[f'lcb_{name}'] = code(
      *(f'lcb_{name}', f'livecodebench:lcb_{name}', paths, expect, lcb, ask)
    )
  # Over all 542 problems. The papers do not say whether theirs is the mean of
  # HumanEval+ and MBPP+; the table's groups give both.
  c.benchmarks.evalplus = code(
    'evalplus', 'evalplus:evalplus', EVALPLUS, 542, others, ask
  )
  # Codeforces: problems with ratings, in the form of open-r1/codeforces. The
  # paper's set may not be passed on, so its column needs your own files. Two
  # more tell a percentile (all contestants' ratings, a JSON list) and a rating
  # in contests (their standings); see evaluation/humans.py.
  #
  # c.benchmarks.codeforces = code(
  #   'codeforces', 'contests:codeforces', ('problems.parquet',), 0, lcb, ask
  # )
  # c.benchmarks.codeforces.data.ratings = 'all_ratings.json'
  # c.benchmarks.codeforces.data.standings = ('contest_1987.json',)
  return c
