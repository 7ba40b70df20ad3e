"""The shipped evaluations ask what the papers' section 4.1 and cards say.

Numbers and prompts are typed here from the papers and the cards.
"""

import pytest
import tiny

from acereason_jax import resolve
from acereason_jax.config import evaluation
from acereason_jax.evaluation import published

# Problems and rollouts of each, by column of the papers' table.
PAPER = {
  **dict.fromkeys(('aime24', 'aime25', 'hmmt', 'brumo'), (30, 64)),
  **dict(math500=(500, 4), evalplus=(164 + 378, 4)),
  **dict(lcb_v5=(279, 8), lcb_v6=(175, 8)),
}
MATH_1_0 = (
  '\nPlease reason step by step, and put your final answer within \\boxed{}.'
)
SYSTEM_1_1 = (
  'You are a helpful and harmless assistant. You should think step-by-step.'
)
MATH_1_1 = '\n\nPlease place your final answer inside \\boxed{}.'
CODE = """

Write Python code to solve the problem. Please place the solution code in the following format:
```python
# Your solution code here
```"""  # noqa: E501
STARTER = """

Solve the problem starting with the provided function header.

Function header:
```
{starter}
```

Please place the solution code in the following format:
```python
# Your solution code here
```"""


def plan(name, *variant):
  config = tiny.shipped(name).get_config(*variant)
  config.model = config.model or 'somewhere'
  return evaluation.plan(config)


def benchmarks(name, *variant):
  return {b.name: b for b in plan(name, *variant).benchmarks}


@pytest.mark.parametrize('variant', ['', '1.1'])
def test_the_papers_table(variant):
  found = plan('eval_paper', variant)
  s = found.sampling
  assert (s.temperature, s.top_p, s.top_k, s.min_p) == (0.6, 0.95, 0, 0.0)
  sizes = {b.name: (b.expect, b.n) for b in found.benchmarks}
  assert sizes == PAPER
  assert sum(expect * n for expect, n in sizes.values()) == 15480
  for b in found.benchmarks:
    assert b.published == b.name and b.published in published.COLUMNS
    assert b.max_tokens == 32768 and not b.allow_missing
    assert published.row('acereason-7b')[b.name].k == b.n
    is_code = b.name in ('lcb_v5', 'lcb_v6', 'evalplus')
    assert b.majority is not is_code
    assert [*b.judges] == (['strict'] if is_code else ['strict', 'toolkit'])


def test_the_prompts_of_both_papers_to_the_byte():
  for name in ('eval_aime24', 'eval_paper', 'eval_quick'):
    for b in benchmarks(name).values():
      is_code = not b.majority
      assert b.prompt.system == ''
      assert b.prompt.suffix == (CODE if is_code else MATH_1_0)
      assert b.prompt.starter == (STARTER if is_code else '')
      assert b.prompt.opens == '<think>\n'
    for b in benchmarks(name, '1.1').values():
      is_code = not b.majority
      assert b.prompt.system == SYSTEM_1_1
      assert b.prompt.suffix == (CODE if is_code else MATH_1_1)
      assert b.prompt.opens == '<think>\n'


def test_only_math_500_has_the_toolkits_rules_for_it():
  fn = {
    b.name: b.judges['toolkit'].verify['fn'].rpartition(':')[2]
    for b in benchmarks('eval_paper').values()
    if 'toolkit' in b.judges
  }
  assert fn.pop('math500') == 'verify_math500'
  assert set(fn.values()) == {'verify'}


def test_files_of_live_code_bench():
  found = benchmarks('eval_paper')
  names = {
    name: [p.rpartition('/')[2] for p in found[name].data['paths']]
    for name in ('lcb_v5', 'lcb_v6')
  }
  assert names == {
    'lcb_v5': ['test.jsonl', *(f'test{i}.jsonl' for i in (2, 3, 4, 5))],
    'lcb_v6': ['test6.jsonl'],
  }


def test_the_quick_look_is_the_same_with_fewer_rollouts():
  quick, whole = benchmarks('eval_quick'), benchmarks('eval_paper')
  assert quick.keys() == whole.keys()
  for name, b in quick.items():
    few = {64: 4, 8: 4, 4: 1}[whole[name].n]
    assert b == whole[name]._replace(n=few)


def test_pass_at_k_is_the_papers_v6_with_more_rollouts():
  (b,) = benchmarks('eval_passk').values()
  assert b == benchmarks('eval_paper')['lcb_v6']._replace(n=1024)


def test_the_sums_are_asked_as_training_asks_and_never_trained_on():
  config = tiny.shipped('quickstart').get_config()
  found = plan('eval_sums')
  (b,) = found.benchmarks
  assert (b.expect, b.n) == (120, 16)
  prompt = b.prompt._asdict()
  for name, value in prompt.items():
    assert value == config.prompt[name]
  assert b.judges['strict'].verify == dict(
    config.judge.verify.to_dict(), reasons=False
  )
  heldout = config.heldout
  assert found.sampling == (
    *(heldout.temperature, heldout.top_p, heldout.top_k, 0.0),
  )
  asked = {
    frozenset(p.row.id.split('-')[1:])
    for p in resolve.build(b.data, 'data').problems
  }
  trained = {
    frozenset(row.id.split('-')[1:])
    for row in resolve.build(config.train_data.to_dict(), 'train_data')
  }
  assert len(resolve.build(b.data, 'data').problems) == 120
  assert trained and not asked & trained


@pytest.mark.parametrize(
  'name', ['eval_aime24', 'eval_paper', 'eval_quick', 'eval_passk']
)
def test_another_prompt_is_one_line(name):
  with pytest.raises(ValueError, match=r"prompt '2\.0': give none, or 1\.1"):
    tiny.shipped(name).get_config('2.0')


@pytest.mark.parametrize(
  'name',
  [
    *('eval_aime24', 'eval_paper', 'eval_quick', 'eval_passk', 'eval_sums'),
    'eval_gsm8k',
  ],
)
def test_every_part_that_a_config_names_takes_its_arguments(name):
  for b in benchmarks(name).values():
    for component in (b.data, *(j.verify for j in b.judges.values())):
      arguments = {k: v for k, v in component.items() if k != 'fn'}
      is_judge = component is not b.data
      takes = resolve.signature(component['fn'])
      takes.bind(*(['', ''] if is_judge else []), **arguments)
    for judge in b.judges.values():
      if judge.reference:
        resolve.signature(judge.reference).bind('', '')
