"""The rows, texts and choice of groups of a step, from judged groups."""

import collections
import dataclasses
import math

import numpy as np
import pytest
import test_rewards
from hypothesis import given
from hypothesis import strategies as st
from test_rewards import LATE, RIGHT, RIGHT_BUT_CUT, WRONG, WRONG_AND_CUT

from acereason_jax.curriculum import ledger, outcomes
from acereason_jax.data import archive
from acereason_jax.models import characters
from acereason_jax.rl import objective
from acereason_jax.run import keeping, scoring

PLACE = archive.Place(4, 'train')
UNREAD = 'unparsed', 3


def an_objective(**changes):
  o = objective.Objective(
    test_rewards.MASK, 0.0, 'group', 'token', 'tempered', 1, False
  )
  return o._replace(**changes)


def chosen(groups, unsolved=(), count=2, seed=0, step=4, rules=None):
  rules = rules or test_rewards.MASK
  return keeping.choose(
    groups, unsolved, seed=seed, step=step, count=count, rules=rules
  )


KINDS = dict(
  failed=(RIGHT, LATE, WRONG),
  truncated=(RIGHT, RIGHT_BUT_CUT, RIGHT),
  wrong=(WRONG, UNREAD, WRONG),
  mixed=(RIGHT, WRONG, WRONG),
)


@pytest.mark.parametrize('kind', KINDS)
def test_a_group_of_a_kind_is_kept_besides_those_drawn(kind):
  groups = [
    test_rewards.group(RIGHT, RIGHT, RIGHT, name=f'p{i}') for i in range(40)
  ]
  odd = test_rewards.group(*KINDS[kind], name='odd')
  for place in (0, 17, 40):
    got = chosen([*groups[:place], odd, *groups[place:]])
    assert got[place] == kind
    assert collections.Counter(got.values()) == {kind: 1, 'drawn': 2}


def test_first_solved_is_by_reward_and_comes_first():
  known = test_rewards.group(RIGHT, WRONG, name='a')
  new = test_rewards.group(RIGHT, WRONG, name='b')
  cut = test_rewards.group(RIGHT_BUT_CUT, WRONG, name='c')
  got = chosen([known, new, cut], unsolved={'b', 'c'})
  assert 'first_solved' in (got.get(1), got.get(2))
  assert got.get(0) != 'first_solved'
  zero = chosen([known, new, cut], unsolved={'b', 'c'}, rules=test_rewards.ZERO)
  assert zero[1] == 'first_solved' and zero.get(2) != 'first_solved'
  assert 'first_solved' not in chosen([known, new, cut]).values()


@pytest.mark.parametrize('count', [1, 2, 5])
def test_drawn_ones_do_not_depend_on_the_others(count):
  """A draw is a hash of seed, step and id: each prompt is as likely."""
  groups = [test_rewards.group(RIGHT, RIGHT, name=f'p{i}') for i in range(10)]
  seen = collections.Counter()
  for step in range(600):
    got = chosen(groups, count=count, step=step)
    assert set(got.values()) == {'drawn'} and len(got) == count
    seen.update(list(got))
  want = 600 * count / 10
  deviation = math.sqrt(want * (1 - count / 10))
  assert all(abs(seen[i] - want) < 5 * deviation for i in range(10))
  before = {groups[i].prompt.id for i in chosen(groups, count=count)}
  turned = groups[::-1]
  assert before == {turned[i].prompt.id for i in chosen(turned, count=count)}
  assert chosen(groups, step=1) != chosen(groups, step=2)
  assert chosen(groups, seed=1) != chosen(groups, seed=3)


OUTCOMES = st.sampled_from(
  [RIGHT, WRONG, UNREAD, LATE, RIGHT_BUT_CUT, WRONG_AND_CUT]
)


@given(
  kinds=st.lists(st.lists(OUTCOMES, min_size=3, max_size=3), max_size=12),
  unsolved=st.sets(st.integers(0, 11)),
  count=st.integers(0, 4),
  step=st.integers(0, 1000),
)
def test_what_holds_of_any_choice(kinds, unsolved, count, step):
  groups = [
    test_rewards.group(*kind, name=f'p{i}') for i, kind in enumerate(kinds)
  ]
  names = {f'p{i}' for i in unsolved}
  got = chosen(groups, names, count, step=step)
  assert got == chosen(groups, set(names), count, step=step)
  assert list(got) == sorted(got)
  if not count:
    assert not got
    return
  assert min(count, len(groups)) <= len(got) <= count + 5
  counts = collections.Counter(got.values())
  assert counts.pop('drawn', 0) <= count
  assert all(n == 1 for n in counts.values())
  for odd in ({LATE}, {RIGHT_BUT_CUT, WRONG_AND_CUT}):
    able = {i for i, kind in enumerate(kinds) if odd & set(kind)}
    # One of them is there, perhaps for a reason before its own.
    assert not able or able & got.keys()


def trained_on(groups, asked=None, scores=None, **changes):
  o = an_objective(**changes)
  parts = objective.assign_advantages(groups, o)
  training = keeping.Training(
    o, groups, objective.gradient_keys(parts, o.every), scores or {}
  )
  asked = asked or groups
  return keeping.Kept(PLACE, 'long', asked, {0: 'mixed'}, training)


def test_rows_by_hand():
  group = test_rewards.group(
    RIGHT, WRONG, WRONG_AND_CUT, LATE, name='a', domain='math'
  )
  dull = test_rewards.group(RIGHT, RIGHT, RIGHT, RIGHT, name='b')
  left = test_rewards.group(WRONG, RIGHT, WRONG, WRONG, name='c')
  kept = trained_on([group, dull], [group, left, dull])
  rows = list(keeping.rows(kept))
  assert [(r.prompt, r.index) for r in rows] == [
    (name, i) for name in 'acb' for i in range(4)
  ]
  a, c, b = rows[:4], rows[4:8], rows[8:]
  # Rewards 1, 0, 0: the mean is 1/3, the deviation sqrt(2)/3.
  high = math.sqrt(2)
  assert [r.advantage for r in a] == pytest.approx(
    [high, -high / 2, -high / 2, 0.0]
  )
  assert [r.counted for r in a] == [True, True, False, False]
  assert [r.trained for r in a] == [True, True, False, False]
  assert [r.reward for r in a[:3]] == [1.0, 0.0, 0.0]
  assert math.isnan(a[3].reward) and a[3].status == 'timeout'
  assert [r.solved for r in a] == [True, False, False, False]
  assert {(r.kept, r.stage, r.domain) for r in a} == {('mixed', 'long', 'math')}
  assert [r.stop for r in a] == ['stop', 'stop', 'length', 'stop']
  # Asked, and not in the batch.
  assert all(math.isnan(r.advantage) for r in c)
  assert not any(r.counted or r.trained or r.kept for r in c)
  assert [r.reward for r in c] == [0.0, 1.0, 0.0, 0.0]
  assert all(r.counted and not r.trained and r.advantage == 0 for r in b)


def test_a_batch_without_a_gradient_trains_on_nothing():
  """One rollout of it is packed, so that the mismatch is measured."""
  dull = [test_rewards.group(WRONG, WRONG, name=n) for n in 'ab']
  assert not any(r.trained for r in keeping.rows(trained_on(dull)))
  # With an entropy bonus all of them have one.
  assert all(r.trained for r in keeping.rows(trained_on(dull, every=True)))


def test_several_updates_are_one_batch():
  groups = [test_rewards.group(RIGHT, WRONG, name=n) for n in 'abcd']
  one, two = (list(keeping.rows(trained_on(groups, updates=n))) for n in (1, 2))
  assert one == two and all(r.trained for r in one)


def whole(group, random):
  """The group with drawn tokens, logps and details."""
  rollouts = tuple(
    dataclasses.replace(
      r,
      tokens=random.integers(0, 50, len(r.tokens)).astype(np.int32),
      logp=-random.exponential(1, len(r.tokens)).astype(np.float32),
      entropy=float(random.exponential()),
      text='x' * len(r.tokens),
    )
    for r in group.rollouts
  )
  verdicts = tuple(
    dataclasses.replace(v, detail='d' * 1000) for v in group.verdicts
  )
  return dataclasses.replace(group, rollouts=rollouts, verdicts=verdicts)


def test_rows_and_texts_come_back_from_bytes():
  random = np.random.default_rng(0)
  groups = [
    whole(test_rewards.group(RIGHT, WRONG, LATE, name=n), random) for n in 'ab'
  ]
  first = groups[0].rollouts[0]
  score = scoring.Score(
    np.zeros(3, np.float32),
    random.exponential(1, 3).astype(np.float32),
    random.exponential(1e-4, 3).astype(np.float32),
  )
  kept = trained_on(groups, scores={first.key: score})
  rows = list(keeping.rows(kept))
  table = archive.read_rows(archive.rows_to_bytes(rows)).to_pylist()
  for got, row, (g, i) in zip(
    table, rows, [(g, i) for g in groups for i in range(3)]
  ):
    for name, value in row._asdict().items():
      if isinstance(value, float):
        assert got[name] == pytest.approx(value, nan_ok=True)
      else:
        assert got[name] == value
    assert got['detail'] == 'd' * archive.DETAIL_CHARS
    assert got['logp'] == pytest.approx(g.rollouts[i].logp.sum())
  found = characters.Characters(lambda ids: 'x' * len(ids))
  data = archive.texts_to_bytes(keeping.texts(kept, found))
  texts = archive.read_texts(data)
  assert [(t.prompt, t.index) for t in texts] == [('a', i) for i in range(3)]
  for text, rollout in zip(texts, groups[0].rollouts):
    assert text.tokens.tolist() == rollout.tokens.tolist()
    assert text.text == rollout.text and text.characters.tolist() == [1] * 3
    near(archive.SURPRISE, text.surprise, -rollout.logp)
  # Codes are those of the scores, within their bin.
  near(archive.ENTROPY, texts[0].entropy, score.entropy)
  near(archive.MISMATCH, texts[0].mismatch, score.mismatch)
  assert texts[1].entropy is None and texts[1].mismatch is None


def near(scale, codes, values):
  """Half a bin at most, on the scale of the codes."""
  top = math.log1p(scale.most / scale.unit)
  places = 255 * np.log1p(np.asarray(values, float) / scale.unit) / top
  assert np.abs(np.asarray(codes, float) - places).max() <= 0.5 + 1e-6


def test_hostile_texts_come_back():
  names = ('\ud800', 'a\0b', '</script>', '\u202e', 'x' * 1024)
  text = '\udfff' + 'y' * (1 << 20) + '\0'
  groups = [
    dataclasses.replace(g, rollouts=tuple(rollouts))
    for name in names
    for g in [test_rewards.group(RIGHT, WRONG, name=name)]
    for rollouts in [[dataclasses.replace(r, text=text) for r in g.rollouts]]
  ]
  kept = keeping.heldout(archive.Place(3, 'heldout'), 's\ud800', groups)
  table = archive.read_rows(archive.rows_to_bytes(keeping.rows(kept)))
  safe = [name.replace('\ud800', '\\ud800') for name in names]
  assert table['prompt'].to_pylist() == [n for n in safe for _ in range(2)]
  found = characters.Characters(lambda ids: '')
  data = archive.texts_to_bytes(keeping.texts(kept, found))
  for got, name in zip(archive.read_texts(data)[::2], safe):
    assert got.prompt == name
    assert got.text == text.replace('\udfff', '\\udfff')
    assert not got.characters.any()


def test_the_same_rows_are_the_same_bytes():
  random = np.random.default_rng(1)
  groups = [whole(test_rewards.group(RIGHT, WRONG), random)]
  one, two = (
    archive.rows_to_bytes(keeping.rows(trained_on(groups))) for _ in range(2)
  )
  assert one == two


def test_unsolved_prompts_of_a_ledger():
  records = []
  for step, outcome in enumerate(
    [
      dict(a=(WRONG, WRONG), b=(RIGHT, WRONG), c=(LATE, LATE)),
      dict(a=(WRONG, LATE), b=(WRONG, WRONG), d=(RIGHT_BUT_CUT, WRONG)),
    ],
    1,
  ):
    groups = [test_rewards.group(*kind, name=n) for n, kind in outcome.items()]
    records += ledger.records(
      groups, 'train', 's', [0] * 3, step, test_rewards.ZERO
    )
  # 'c' was never judged, and what 'd' got right had no reward.
  assert outcomes.unsolved(ledger.Ledger(records)) == {'a', 'd'}
  assert outcomes.unsolved(ledger.Ledger()) == set()
