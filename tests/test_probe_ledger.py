"""A ledger in place of a probe: whom a stage still asks, and what that costs.

The last tests take the stages of the 7B recipe over as many prompts as it has,
with rollouts that are drawn by a prompt's rate, without a model.
"""

import collections
import types as python_types

import hypothesis
import numpy as np
import properties
import pytest
import tiny
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import filtering, outcomes
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum.filtering import Filter
from acereason_jax.curriculum.ledger import Ledger, Record
from acereason_jax.rl import objective
from acereason_jax.rollout import engine_sizes
from acereason_jax.run import collect, deciding, probe, values

TOKENS = np.zeros(1, np.int32)


def prompt(name, domain='d'):
  return types.Prompt(name, '', '', TOKENS, domain)


def record(name, step, right, judged=8, failed=0, **changes):
  values = dict(
    kind='train',
    stage='before',
    epoch=0,
    step=step,
    domain='d',
    prompt=name,
    right=right,
    wrong=judged - right,
    unparsed=0,
    timeout=failed,
    error=0,
    truncated=0,
    tokens=judged + failed,
    longest=1,
    solved=right,
  )
  return Record(**values | changes)


def stage(filter, name='now'):
  return python_types.SimpleNamespace(name=name, filters=dict(d=filter))


def standing(ledger, step):
  progress = python_types.SimpleNamespace(step=step)
  return python_types.SimpleNamespace(ledger=ledger, progress=progress)


def asked(records, filter, step=9, names='abcdef', counted=()):
  """The prompts that a stage asks after a step, in order."""
  at = standing(Ledger(records), step)
  prompts = [prompt(name) for name in names]
  found = probe.to_ask(stage(filter), 'd', at, prompts, counted)
  return [p.id for p in found]


def kept(records, filter, step=9, names='abcdef', epoch=0, **more):
  """The prompts of an epoch of a stage that began after a step."""
  found = filtering.survivors(
    [prompt(name) for name in names],
    Ledger(records),
    filter,
    stage='now',
    epoch=epoch,
    before_step=more.pop('before_step', step + 1),
    seed=0,
    since=step,
  )
  return ''.join(p.id for p in found)


HARD = Filter(of=16, max_solved=6, source='ledger')


def test_the_newest_verdicts_until_they_are_enough():
  records = [
    record('a', 1, 8),
    record('b', 1, 8),
    record('c', 1, 4, 4),
    record('d', 1, 0),
    record('a', 2, 0),
    record('b', 2, 4, 4),
    record('c', 3, 0, 3),
    record('d', 9, 8),
    # This comes after the stage began.
    record('a', 10, 8),
  ]
  counts = outcomes.recent(Ledger(records), 8, stage='now', until_step=9)
  assert counts == {
    'a': (0, 8),
    # 4 of 4, and then 8 of 8.
    'b': (12, 12),
    'd': (8, 8),
  }
  assert asked(records[:-1], HARD) == ['c', 'e', 'f']
  assert asked(records[:-1], HARD._replace(source='probe')) == list('abcdef')
  own = lambda name, right: record(
    name, 9, right, 16, kind='probe', stage='now'
  )
  found = [*records[:-1], own('c', 6), own('e', 7), own('f', 0)]
  assert kept(found, HARD) == 'acf'
  # Its own probe is not taken for older verdicts, and what was known stays so.
  assert asked(found, HARD) == ['c', 'e', 'f']


def test_counts_are_scaled_to_of():
  """More than 6 of 16 are 4 of 8, and 5 of 12."""
  for judged, right, stays in (
    (8, 3, True),
    (8, 4, False),
    (12, 4, True),
    (12, 5, False),
    (16, 6, True),
    (16, 7, False),
    (48, 18, True),
    (48, 19, False),
  ):
    records = [record('a', 1, right, judged), record('b', 1, 0, 16)]
    assert ('a' in kept(records, HARD, names='ab')) == stays
    # Failed verdicts leave that as it is, up to half of them.
    records[0] = record('a', 1, right, judged, judged)
    assert ('a' in kept(records, HARD, names='ab')) == stays
    records[0] = record('a', 1, right, judged, judged + 1)
    assert asked(records, HARD, names='ab') == ['a']


def test_the_judges_word_counts_not_the_reward_of_another_stage():
  """It cut responses off that this stage does not."""
  known = record('a', 1, 8, truncated=8, solved=0), record('b', 1, 0)
  assert kept(known, HARD, names='ab') == 'b'


def test_prompts_that_were_never_solved():
  hard = HARD._replace(keep_unsolved=False)
  records = [record('a', 1, 0), record('b', 1, 1), record('c', 1, 0, 7)]
  records += [record('c', 9, 0, 10, kind='probe', stage='now')]
  assert kept(records, HARD, names='abc') == 'abc'
  assert kept(records, hard, names='abc') == 'b'
  # Once it is solved in the stage, it is asked on.
  later = [*records, record('a', 10, 1, stage='now')]
  assert kept(later, hard, names='abc', epoch=1, before_step=11) == 'ab'


def test_what_was_solved_in_the_stage_leaves_it_too():
  hard = HARD._replace(drop_solved=True)
  records = [record(name, 1, 3) for name in 'abc'] + [record('d', 1, 8)]
  # All right there, but not in this stage.
  records += [record('d', 2, 0)]
  assert kept(records, hard, names='abcd') == 'abcd'
  now = [record('a', 10, 8, stage='now'), record('b', 10, 7, stage='now')]
  later = dict(names='abcd', epoch=1, before_step=11)
  assert kept(records + now, hard, **later) == 'bcd'
  # What the stage itself asks is no news of what came before.
  easy = [record('c', 10, 8, stage='now'), record('c', 11, 0, stage='now')]
  assert kept(records + easy, HARD, names='abcd', before_step=12) == 'abcd'


def test_a_ledger_of_other_prompts_knows_nothing():
  records = [record(f'other/{i}', 1, 8) for i in range(3)]
  assert asked(records, HARD, names='ab') == ['a', 'b']
  with pytest.raises(ValueError, match=r'of=16: the ledger has no probe'):
    kept(records, HARD, names='ab')
  assert asked([], HARD, names='ab') == ['a', 'b']


def test_who_has_counts_in_the_data_is_not_asked():
  records = [record('a', 1, 8)]
  assert asked(records, HARD, names='abc', counted={'c': None}) == ['b']
  # And the counts, which the stage notes as its own, are what counts.
  own = record('a', 9, 0, 16, kind='probe', stage='now')
  assert kept([*records, own], HARD, names='a') == 'a'


def test_survivors_of_the_stage_before_come_first():
  """Then the longest, and those whose length is not known."""
  long = lambda name, step, length, **more: record(
    name, step, 0, 1, tokens=length, longest=length, **more
  )
  records = [long(name, 1, 5 + i) for i, name in enumerate('abcde')]
  records += [long('b', 2, 3, stage='hard'), long('d', 3, 4, stage='hard')]
  # Another domain's stage changes nothing.
  records += [long('x', 4, 4, stage='code', domain='code')]
  every = HARD._replace(source='probe')
  assert asked(records, every) == ['d', 'b', 'f', 'e', 'c', 'a']


RECORDS = st.lists(
  st.tuples(
    st.sampled_from('abc'),
    st.integers(1, 6),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([('train', 'x'), ('train', 'now'), ('probe', 'now')]),
  ),
  max_size=12,
)


@pytest.mark.hypothesis
@properties.tried(400)
@hypothesis.given(RECORDS, st.integers(0, 6), st.integers(1, 12))
def test_recent_verdicts_one_by_one(rows, until, tries):
  records = [
    record(name, step, right, right + wrong, failed, kind=kind, stage=stage)
    for name, step, right, wrong, failed, (kind, stage) in rows
    if right + wrong + failed
  ]
  records.sort(key=lambda r: r.step)
  expected = {}
  for name in 'abc':
    right = judged = 0
    for r in reversed(records):
      if r.prompt != name or r.step > until or judged >= tries:
        continue
      if (r.kind, r.stage, r.step) == ('probe', 'now', until):
        continue
      if r.judged and r.judged >= 0.5 * r.rollouts:
        right, judged = right + r.right, judged + r.judged
    if judged >= tries:
      expected[name] = (right, judged)
  found = outcomes.recent(
    Ledger(records), tries, stage='now', until_step=until, min_judged=0.5
  )
  assert found == expected


# The recipe.


ROWS = 49_585
FULL = 16 * ROWS
FAILED = 0.01


class Recipe:
  """The stages of math of acereason_7b.py over a ledger, without a model.

  A prompt's rate is a logistic function of its ease; training adds to it.
  """

  def __init__(self, config, seed=0):
    self.random = np.random.default_rng(seed)
    self.prompts = [prompt(f'{i}') for i in range(ROWS)]
    # A few are hopeless, most are easy: 2 of 3 are solved at first.
    self.ease = self.random.normal(1.2, 1.8, ROWS)
    self.stages = {
      name: c
      for name, c in stages_lib.every_stage(config).items()
      if 'math' in stages_lib.mix(c)
    }
    self.step, self.ledger, self.asked = 0, Ledger(), {}

  def rate(self, gain=0.0):
    return 1 / (1 + np.exp(-self.ease - gain))

  def run(self):
    """All steps until the last stage begins, which nothing follows."""
    for name, c in self.stages.items():
      fields = stages_lib.filters(c)['math']
      filter = Filter(**fields | dict(max_difficulty=None))
      since = self.step
      if filter.of:
        self.probe(name, filter)
      epoch, last = 0, name == [*self.stages][-1]
      left = c.steps * c.rollout.prompts
      while left > 0:
        survivors = filtering.survivors(
          self.prompts,
          self.ledger,
          filter,
          stage=name,
          epoch=epoch,
          before_step=self.step + 1,
          seed=0,
          since=since,
        )
        if last:
          self.kept = len(survivors)
          return
        order = self.random.permutation([int(p.id) for p in survivors])[:left]
        self.train(name, epoch, order, c.rollout.prompts, c.rollout.per_prompt)
        left, epoch = left - len(order), epoch + 1

  def train(self, name, epoch, order, batch, groups):
    """An epoch's records, column by column: there are many."""
    failed = self.random.binomial(groups, FAILED, len(order))
    right = self.random.binomial(groups - failed, self.rate()[order])
    steps = self.step + 1 + np.arange(len(order)) // batch
    self.step = int(steps[-1])
    self.ease += 0.1
    rows = np.zeros(len(order), ledger_lib.ROW)
    texts = {
      'stage': {n: i for i, n in enumerate(self.stages)},
      'domain': {'d': 0},
      'prompt': {p.id: i for i, p in enumerate(self.prompts)},
    }
    columns = dict(
      kind=ledger_lib.KINDS.index('train'),
      stage=texts['stage'][name],
      epoch=epoch,
      step=steps,
      prompt=order,
      right=right,
      wrong=groups - failed - right,
      timeout=failed,
      solved=right,
      tokens=groups,
      longest=1,
    )
    for column, numbers in columns.items():
      rows[column] = numbers
    rows = np.concatenate([self.ledger.rows, rows])
    self.ledger = ledger_lib.from_columns(rows, texts)

  def probe(self, name, filter):
    at = standing(self.ledger, self.step)
    prompts = probe.to_ask(stage(filter, name), 'd', at, self.prompts)
    engine = Coins(self.rate(), self.random)
    results = ask(prompts, filter, engine) if prompts else {}
    self.asked[name] = engine.drawn
    self.ledger = self.ledger.extended(
      ledger_lib.record(
        p, [a.result for a in results[p.id]], 'probe', name, 0, self.step
      )
      for p in prompts
    )


class Coins:
  """An engine and a judge: a rollout of a token, right by its prompt's rate."""

  sizes = engine_sizes.Sizes(
    slots=256,
    shards=1,
    page=1,
    chunk=1,
    pages=1000,
    rows=1,
    piece=1,
    window=1,
    max_tokens=1,
  )

  def __init__(self, rate, random):
    self.rate, self.random, self.drawn = rate, random, 0

  def stream(self, params, requests, *, until, unwanted, **_):
    waiting = collections.deque(requests)
    while waiting:
      for _ in range(min(self.sizes.slots, len(waiting))):
        name, index = waiting.popleft().key
        self.drawn += 1
        number = np.zeros(1, np.float32)
        yield types.Rollout(
          name, index, TOKENS, number, number, 'stop', text=name
        )
      until()
      if closed := unwanted():
        waiting = collections.deque(
          r for r in waiting if r.prompt.id not in closed
        )

  def submit(self, text, answer):
    luck = self.random.random()
    right = 'right' if luck < self.rate[int(text)] else 'wrong'
    failed = self.random.random() < FAILED
    return types.Verdict('timeout' if failed else right, '', 0.0)


def ask(prompts, filter, engine):
  quiet = python_types.SimpleNamespace(
    found={},
    verdict=lambda *_: None,
    agreed=lambda: False,
    heed=lambda: None,
  )
  tools = values.Tools(
    prompts={},
    judges=dict(d=values.Judges(engine, 60.0, 0.05)),
    journal=quiet,
    stop=quiet,
  )
  question = deciding.Question(
    's', filter, objective.Rules('mask', 0, 1), 2048, 10**6
  )
  asking = collect.Asking((0, 0), 'probe', 0, 1.0)
  return deciding.decide(engine, lambda: None, prompts, tools, asking, question)


def recipe_config(**steps):
  config = tiny.shipped('acereason_7b').get_config()
  config.stages = tuple(
    s | dict(steps=steps.get(s['name'], s['steps'])) for s in config.stages
  )
  return config


def test_the_recipe_asks_few_prompts_again():
  recipe = Recipe(recipe_config())
  recipe.run()
  # All prompts were asked at 16K, two times and more.
  assert recipe.asked.keys() == {'math_24k', 'math_32k'}
  assert all(n <= 0.05 * FULL for n in recipe.asked.values())
  # Hard is a small part of the data, as in the paper.
  assert 0.01 * ROWS < recipe.kept < 0.2 * ROWS


def test_so_it_does_where_a_stage_ends_early():
  """At the first look for a plateau at 16K, and after an epoch at 8K.

  Half of the prompts were not asked at 16K. 8 verdicts at 8K are enough.
  """
  recipe = Recipe(recipe_config(math_8k=390, math_16k=200, math_24k=100))
  recipe.run()
  assert 0 < recipe.asked['math_24k'] <= 0.05 * FULL
  assert recipe.asked['math_32k'] <= 0.05 * FULL


def test_what_a_probe_of_all_asks():
  """Of 2,000 prompts, as the first stage of a run."""
  recipe = Recipe(recipe_config())
  some = recipe.prompts[:2000]
  engine = Coins(recipe.rate(), recipe.random)
  found = ask(some, Filter(of=16, max_solved=6), engine)
  counted = sum(map(len, found.values()))
  # 8 right or 10 wrong decide.
  assert 8 * 2000 < counted <= engine.drawn < 12 * 2000
