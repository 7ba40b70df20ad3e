import collections
import types as builtin_types

import numpy as np
import pytest

from acereason_jax import types
from acereason_jax.data import references
from acereason_jax.rollout import requests
from acereason_jax.run import collect, heldout, judged

PER_PROMPT = {'math': 10, 'code': 2}
# Statuses of the rollouts of each prompt, by index.
STATUSES = {
  'math/0': ['right', 'wrong'] * 5,
  'math/1': ['right', 'wrong'] * 4 + ['right', 'timeout'],
  'math/2': ['timeout'] * 10,
  'code/0': ['right', 'wrong'],
  'code/1': ['wrong', 'unparsed'],
}


@pytest.fixture
def run():
  domains = {
    name: builtin_types.SimpleNamespace(heldout_per_prompt=count)
    for name, count in PER_PROMPT.items()
  }
  return builtin_types.SimpleNamespace(
    seed=3,
    heldout_temperature=0.6,
    heldout_engine=None,
    rollout_params=lambda weights: weights,
    domains=domains,
  )


@pytest.fixture
def tools():
  prompts = collections.defaultdict(lambda: {references.HELDOUT: []})
  for name in STATUSES:
    domain = name.partition('/')[0]
    prompts[domain][references.HELDOUT].append(
      types.Prompt(name, '', '', np.zeros(1, np.int32), domain=domain)
    )
  judges = {
    name: builtin_types.SimpleNamespace(max_failed_share=0.5)
    for name in PER_PROMPT
  }
  return builtin_types.SimpleNamespace(
    prompts=prompts, judges=judges, journal=builtin_types.SimpleNamespace()
  )


@pytest.fixture
def asked(monkeypatch):
  """The requests of each look, answered as in STATUSES."""
  looks = []

  def collected(engine, params, prompts, tools, asking, *, groups):
    found = requests.for_prompts(prompts, groups, 8, asking.taken)
    looks.append([r.key for group in found for r in group])
    tokens = np.zeros(1, np.int32)
    answered = [
      types.Group(
        prompt,
        tuple(
          types.Rollout(*r.key, tokens, tokens, tokens, 'stop', '')
          for r in group
        ),
        tuple(
          types.Verdict(STATUSES[prompt.id][r.index], '', 0.0) for r in group
        ),
      )
      for prompt, group in zip(prompts, found)
    ]
    return builtin_types.SimpleNamespace(groups=answered)

  monkeypatch.setattr(collect, 'collect', collected)
  monkeypatch.setattr(collect, 'keep_failed', lambda *_: None)
  return looks


def look(run, tools, *domains):
  state = builtin_types.SimpleNamespace(weights=None)
  return heldout.ask_heldout(run, state, 1, tools, domains).values


def test_each_domain_asks_as_often_as_it_says(run, tools, asked):
  look(run, tools, 'math', 'code')
  (keys,) = asked
  assert keys == [
    (name, index)
    for name in STATUSES
    for index in range(PER_PROMPT[name.partition('/')[0]])
  ]
  look(run, tools, 'code')
  # The same draws, whatever else is asked.
  assert asked[1] == [key for key in keys if key[0].startswith('code/')]
  assert look(run, tools) == {} and len(asked) == 2


def test_a_look_tells_its_errors_and_leaves_failures_out(
  run, tools, asked, capsys
):
  found = look(run, tools, 'math', 'code')
  # math/0: 5 of 10; math/1: 5 of 9; nothing is known of math/2.
  assert found['heldout/math'] == pytest.approx((1 / 2 + 5 / 9) / 2)
  variances = 1 / 4 / 9, 20 / 81 / 8
  assert found['heldout_error/math'] == pytest.approx(sum(variances) ** 0.5 / 2)
  assert found['heldout_failed/math'] == 11
  assert (
    'questions of math: 11 of 30 verdicts failed' in capsys.readouterr().out
  )
  assert found['heldout/code'] == 0.25
  assert found['heldout_error/code'] == 0.25
  told = heldout.format_rates(found)
  assert told == 'code 25.0% +-25.0, math 52.8% +-12.1'
  both = pytest.approx((19 / 36 + 1 / 4) / 2)
  assert heldout.mean_rate(found, ('math', 'code')) == both
  # A mean of other domains does not compare.
  assert heldout.mean_rate(found, ('math', 'code', 'physics')) is None


def test_too_many_failures_still_stop_a_run(run, tools, asked):
  tools.judges['math'].max_failed_share = 0.3
  with pytest.raises(judged.JudgeFailed, match='11 of 30 verdicts failed'):
    look(run, tools, 'math')


def test_rates_in_words():
  assert heldout.format_rates({'loss': 1.0}) == ''
  one = {'heldout/main': 0.41, 'heldout_failed/main': 0.0}
  # No error exists, or an earlier version looked.
  assert heldout.format_rates(one) == '41.0%'
  one['heldout_error/main'] = 0.0213
  assert heldout.format_rates(one) == '41.0% +-2.1'
  # Never '+-0.0'.
  one['heldout_error/main'] = 0.0003
  assert heldout.format_rates(one) == '41.0% +-0.03'


def test_a_question_without_an_error(run, tools, asked):
  del tools.prompts['code'][references.HELDOUT][1:]
  run.domains['code'].heldout_per_prompt = 1
  found = look(run, tools, 'code')
  assert found == {'heldout/code': 1.0, 'heldout_failed/code': 0.0}
