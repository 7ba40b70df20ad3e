"""The fields that a run that has begun may still change, and the others."""

import json
import pathlib

import pytest
import tiny

from acereason_jax.config import checks, steering

STAGED = tiny.staged(pathlib.Path('/data'))
PLAIN = tiny.config(pathlib.Path('/data'))
SHORT, LONG, BOTH = STAGED.stages
NEW = dict(
  name='new', mix=dict(code=1), steps=9, objective=dict(truncated='mask')
)


def told(config, stage, stages=None, flat=()):
  """(fields that change, fields that may not) against the config as it was."""
  new = config.copy_and_resolve_references()
  if stages is not None:
    new.stages = stages
  new.update_from_flattened_dict(dict(flat))
  checks.validate(new)
  before, after = (json.loads(c.to_json()) for c in (config, new))
  changes, wrong = steering.steered(before, after, stage)
  return {c.field for c in changes}, {c.field for c in wrong}


@pytest.mark.parametrize(
  'flat',
  [
    {'steps': 9},
    {'stop.epochs': 2},
    {'stop.metric': 'same_prompts', 'stop.window': 5, 'stop.gain': 0.1},
    {'heldout.every': 7},
    {'checkpoint.best': 'heldout/main'},
    {
      'heldout.per_prompt': 4,
      'heldout.temperature': 0.2,
      'heldout.max_tokens': 5,
    },
    {'limits.zero_signal': 0.5},
    {'judge.workers': 3},
    {'keep.groups': 0, 'keep.budget_gb': 0.5},
  ],
)
def test_what_a_run_may_always_change(flat):
  assert told(PLAIN, 'main', flat=flat) == (set(flat), set())


@pytest.mark.parametrize('config, stage', [(PLAIN, 'main'), (STAGED, 'both')])
def test_a_run_from_before_it_kept_rollouts_goes_on(config, stage):
  now = json.loads(config.to_json())
  older = {name: value for name, value in now.items() if name != 'keep'}
  changes, wrong = steering.steered(older, now, stage)
  assert {c.field for c in changes} == {'keep.groups', 'keep.budget_gb'}
  assert not wrong
  # So the rollouts of an interrupted step are those of the journal.
  one, two = (
    steering.fixed(steering.by_name(c), steering.MAY_CHANGE)
    for c in (older, now)
  )
  assert one == two


@pytest.mark.parametrize(
  'flat',
  [
    {'seed': 1},
    {'optim.learning_rate': 0.5},
    {'rollout.per_prompt': 8},
    {'filter.drop_solved': True},
    {'prompt.suffix': '!'},
    {'objective.advantage.scale': 'batch', 'objective.truncated': 'mask'},
  ],
)
def test_what_a_run_of_one_stage_may_not(flat):
  assert told(PLAIN, 'main', flat=flat) == (set(flat), set(flat))


@pytest.mark.parametrize(
  'stages',
  [
    (
      SHORT,
      LONG,
      BOTH | dict(optim=dict(updates=2), objective=dict(average='group')),
    ),
    (SHORT, LONG, BOTH | dict(optim=dict(learning_rate=1e-4))),
    (SHORT, LONG, BOTH, NEW),
    (SHORT, LONG, NEW, BOTH),
    (SHORT, LONG, NEW),
    (SHORT, LONG),
    (SHORT, LONG | dict(steps=8, stop=dict(epochs=3)), BOTH),
  ],
)
def test_what_has_not_begun_may_change(stages):
  changes, wrong = told(STAGED, 'math_long', stages)
  assert changes and not wrong


@pytest.mark.parametrize(
  'stages, field',
  [
    ((SHORT | dict(steps=8), LONG, BOTH), 'stages.math_short.steps'),
    (
      (SHORT | dict(stop=dict(epochs=8)), LONG, BOTH),
      'stages.math_short.stop.epochs',
    ),
    (
      (SHORT | dict(optim=dict(updates=2)), LONG, BOTH),
      'stages.math_short.optim.updates',
    ),
    (
      (SHORT, LONG | dict(rollout=LONG['rollout'] | dict(refill=3)), BOTH),
      'stages.math_long.rollout.refill',
    ),
    ((SHORT, LONG | dict(mix=dict(code=1)), BOTH), 'stages.math_long.mix.code'),
    ((LONG, SHORT, BOTH), 'order_of_stages'),
    ((SHORT, NEW, LONG, BOTH), 'order_of_stages'),
    ((LONG, BOTH), 'order_of_stages'),
    ((SHORT, LONG | dict(name='other'), BOTH), 'order_of_stages'),
  ],
)
def test_what_happened_stays(stages, field):
  changes, wrong = told(STAGED, 'math_long', stages)
  assert field in wrong and wrong <= changes | {'order_of_stages'}


def test_the_whole_configs_fields_are_those_of_its_stages():
  """Fields of stages that began; a stage that sets them itself may differ."""
  flat = {'optim.carry': False}
  _, wrong = told(STAGED, 'math_short', flat=flat)
  assert wrong == {'stages.math_short.optim.carry'}
  flat = {'rollout.max_tokens': 6}
  _, wrong = told(STAGED, 'math_short', flat=flat)
  assert not wrong
  _, wrong = told(STAGED, 'math_long', flat=flat)
  assert wrong == {'stages.math_long.rollout.max_tokens'}


def test_steps_of_all_stages_count_for_those_ahead():
  assert told(STAGED, 'both', flat={'steps': 5}) == ({'steps'}, set())


def test_nothing_changes_by_itself():
  for config, stage in ((PLAIN, 'main'), (STAGED, 'math_long')):
    assert told(config, stage) == (set(), set())


@pytest.mark.parametrize(
  'field, value',
  [
    ('slots', 8),
    ('page', 2),
    ('chunk', 4),
    ('pages', 64),
    ('prefill_prompts', 4),
    ('prefill_tokens', 24),
  ],
)
def test_what_only_changes_speed_may_change_with_stages_too(field, value):
  flat = {f'engine.{field}': value}
  for config, stage in ((PLAIN, 'main'), (STAGED, 'both')):
    assert told(config, stage, flat=flat) == (set(flat), set())
  stages = (SHORT, LONG | dict(engine={field: value}), BOTH)
  assert told(STAGED, 'both', stages)[1] == set()


def test_every_field_of_the_engine_that_may_change_may_in_a_stage():
  """A run may change fields of the whole config that each stage may change."""
  whole = {f for f in steering.MAY_CHANGE if f.startswith('engine.')}
  assert whole == {
    f.removeprefix('stages.*.')
    for f in steering.MAY_CHANGE
    if f.startswith('stages.*.engine.')
  }


@pytest.mark.parametrize(
  'field, anew',
  [
    ('heldout.temperature', True),
    ('heldout.per_prompt', True),
    ('domains.code.heldout.per_prompt', True),
    ('stop.metric', True),
    ('stages.math.stop.metric', True),
    # How often they are asked changes no value.
    ('heldout.every', False),
    ('domains.code.heldout.every', False),
    ('stop.gain', False),
    ('steps', False),
  ],
)
def test_which_changes_make_a_metric_another_one(field, anew):
  assert steering.measures_anew(field) == anew
