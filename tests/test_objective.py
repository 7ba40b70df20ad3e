"""The objective, from verdicts to packed rows, against sums by hand.

What a token adds to the gradient is its advantage times its weight. Here that
product is worked out rollout by rollout, with the statistics module and plain
loops, and compared with what stands in the packed rows.
"""

import statistics

import numpy as np
import pytest

from acereason_jax import types
from acereason_jax.rl import objective, packing
from acereason_jax.rl import rows as rows_lib
from acereason_jax.run import metrics
from acereason_jax.run import step as step_lib

MAX_TOKENS = 6
LAYOUT = rows_lib.Layout(
  rows=2,
  columns=10,
  multiple=0,
  pad_token=0,
  share_prompts=True,
  even_tokens=1e9,
)
# Status, stop and length of each rollout; the third group has no gradient, and
# each judged rollout of the second is of another length.
GROUPS = [
  [
    ('right', 'stop', 2),
    ('wrong', 'stop', 3),
    ('right', 'length', 6),
    ('timeout', 'stop', 4),
  ],
  [
    ('wrong', 'length', 6),
    ('unparsed', 'stop', 1),
    ('right', 'stop', 5),
    ('wrong', 'stop', 4),
  ],
  [('right', 'stop', 3)] * 4,
]


def groups():
  made, first = [], 10
  for name, outcomes in zip('abc', GROUPS):
    rollouts, verdicts = [], []
    for index, (status, stop, length) in enumerate(outcomes):
      # No token twice, so that each can be found in the rows.
      tokens = np.arange(first, first + length, dtype=np.int32)
      first += length
      logp = -0.25 * np.ones(length, np.float32)
      rollouts.append(
        types.Rollout(name, index, tokens, logp, 2 * logp, stop, '')
      )
      verdicts.append(types.Verdict(status, '', 0.0))
    prompt = types.Prompt(name, '', '', np.array([1, 2, 3], np.int32))
    made.append(types.Group(prompt, tuple(rollouts), tuple(verdicts)))
  return made


def choices(**changes):
  made = objective.Objective(
    rules=objective.Rules('score', 0, MAX_TOKENS),
    epsilon=0.5,
    scale='group',
    average='token',
    policy='tempered',
    updates=1,
    every=False,
  )
  rules = {k: v for k, v in changes.items() if k in made.rules._fields}
  rest = {k: v for k, v in changes.items() if k not in rules}
  return made._replace(rules=made.rules._replace(**rules), **rest)


def packed(o):
  """For each update {token: (advantage x weight, logp)} of all rows."""
  trained = objective.assign_advantages(groups(), o)
  found = []
  for batches in objective.pack(trained, LAYOUT):
    tokens = {}
    for b, _ in batches:
      said = b.weight_BT > 0
      product = b.adv_BT[said].astype(np.float64) * b.weight_BT[said]
      pairs = zip(product.tolist(), b.logp_old_BT[said].tolist())
      tokens.update(zip(b.target_BT[said].tolist(), pairs))
    found.append(tokens)
  return found


def by_hand(o, names='abc'):
  """{token: advantage x weight} of one update of these groups."""
  r = o.rules
  rewards, in_loss = {}, {}
  for group in (g for g in groups() if g.prompt.id in names):
    for rollout, verdict in zip(group.rollouts, group.verdicts):
      if verdict.status == 'timeout':
        continue
      cut = rollout.stop == 'length'
      reward = float(verdict.status == 'right')
      if cut and r.truncated == 'zero':
        reward = 0.0
      if r.soft_tokens:
        over = len(rollout.tokens) - (r.max_tokens - r.soft_tokens)
        reward -= max(over, 0) / r.soft_tokens
      rewards.setdefault(group.prompt.id, []).append((rollout, reward))
      if not (cut and r.truncated == 'mask'):
        in_loss.setdefault(group.prompt.id, []).append(rollout)
  lengths = {
    name: [len(x.tokens) for x in rollouts]
    for name, rollouts in in_loss.items()
  }
  every = [n for ns in lengths.values() for n in ns]
  found = {}
  for name, pairs in rewards.items():
    numbers = [reward for _, reward in pairs]
    mean, std = statistics.fmean(numbers), statistics.pstdev(numbers)
    for rollout, reward in pairs:
      if not any(rollout is x for x in in_loss.get(name, ())) or not std:
        continue
      advantage = (reward - mean) / (std + o.epsilon)
      if o.scale == 'none':
        advantage = reward - mean
      weight = {
        'token': 1 / sum(every),
        'group': 1 / (len(lengths) * sum(lengths[name])),
        'sequence': 1 / (len(every) * len(rollout.tokens)),
        'constant': 1 / (len(every) * r.max_tokens),
      }[o.average]
      for token in rollout.tokens.tolist():
        found[token] = advantage * weight
  return {token: x for token, x in found.items() if x}


@pytest.mark.parametrize('average', packing.AVERAGES)
@pytest.mark.parametrize('truncated', ['score', 'zero', 'mask'])
def test_each_token_weighs_what_it_does_by_hand(average, truncated):
  for changes in ({}, dict(soft_tokens=4), dict(scale='none')):
    o = choices(average=average, truncated=truncated, **changes)
    (got,) = packed(o)
    want = by_hand(o)
    assert len(want) > 10 and got.keys() == want.keys()
    products = [got[token][0] for token in want]
    np.testing.assert_allclose(products, [*want.values()], rtol=1e-5)


def test_the_full_policy_has_the_logp_of_softmax_of_the_logits():
  (tempered,), (full,) = packed(choices()), packed(choices(policy='full'))
  assert {logp for _, logp in tempered.values()} == {-0.25}
  assert {logp for _, logp in full.values()} == {-0.5}
  assert {t: x for t, (x, _) in tempered.items()} == {
    t: x for t, (x, _) in full.items()
  }


def test_each_update_has_weights_of_its_own_prompts():
  """Three groups in two updates: two, then the one without a gradient."""
  o = choices(updates=2)
  first, second = packed(o)
  want = by_hand(o, 'ab')
  assert first.keys() == want.keys()
  products = [first[token][0] for token in want]
  np.testing.assert_allclose(products, [*want.values()], rtol=1e-5)
  # One rollout stays to measure the mismatch, and has no gradient.
  assert len(second) == 3 and {x for x, _ in second.values()} == {0.0}


def test_a_metric_has_one_value():
  assert metrics.merge(dict(a=1.0), {}, dict(b=2.0)) == dict(a=1.0, b=2.0)
  with pytest.raises(ValueError, match=r'^a, b: a metric of two values$'):
    metrics.merge(dict(a=1.0, b=1.0), dict(b=1.0, a=1.0))


def test_metrics_of_several_updates():
  names = 'loss', 'trained_tokens', 'nonfinite', 'mismatch', 'mismatch_max'
  rows = [(1.0, 30, 0.0, 0.1, 0.2), (3.0, 50, 1.0, 0.5, 0.9)]
  found = [dict(zip(names, map(np.float32, row), strict=True)) for row in rows]
  got = step_lib.merge_updates(found)
  want = dict(zip(names, (2.0, 80.0, 1.0, 0.1, 0.2)))
  assert got == pytest.approx(want)
