"""What a config of a curation may be: every other one is one line."""

import ml_collections
import pytest
import tiny

from acereason_jax.config import base, checks, curation, evaluation

STEP = dict(fn='curate_steps:short', most=3)


def config(**changes):
  c = curation.get_config()
  c.inputs.mine = curation.source('rows.jsonl')
  c.steps = (STEP,)
  for name, value in changes.items():
    c[name] = value
  return c


def test_a_plan():
  c = config(steps=(STEP | dict(action='flag', name='few', only=('mine',)),))
  c.inputs.mine.fields.answer = 'gold'
  c.benchmarks.aime = curation.benchmark(('a', 'b'), field='text')
  plan = curation.plan(c)
  (source,) = plan.inputs
  assert (source.name, source.paths, source.rows) == (
    'mine',
    ('rows.jsonl',),
    None,
  )
  assert source.fields == dict(answer='gold')
  (rule,) = plan.rules
  assert (rule.name, rule.action, rule.only) == ('few', 'flag', ('mine',))
  assert rule.step.name == 'short'
  (benchmark,) = plan.benchmarks
  assert (benchmark.paths, benchmark.field) == (('a', 'b'), 'text')
  # The result does not depend on these.
  assert not {'out', 'workers'} & {*plan.config}
  assert curation.plan(config(out='x', workers=3)).config == (
    curation.plan(config()).config
  )


def source(**changes):
  c = config()
  for name, value in changes.items():
    c.inputs.mine[name] = value
  return c


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: config(steps=()), 'config.steps: empty'),
    (lambda: config(inputs={}), 'config.inputs: empty'),
    (lambda: config(workers=-1), 'config.workers=-1: give 0'),
    (lambda: config(seed=2.5), 'config.seed=2.5: give a value of type int'),
    (lambda: config(responses=('x',)), r'config.responses\[0\]=.x.: give dict'),
    (lambda: config(inputs={'a/b': {}}), r"config.inputs.'a/b': give a name"),
    (lambda: config(inputs={'a': 'x'}), "config.inputs.a='x': give curation"),
    (lambda: source(path=3), 'mine.path=3: give a file, or several'),
    (lambda: source(path=''), 'mine: give either path, files, or rows'),
    (lambda: source(rows=dict(fn='x:y')), 'mine: give either path, files'),
    (lambda: source(format='csv'), "mine.format='csv': give jsonl, json"),
    (lambda: source(fields=dict(title='x')), 'mine.fields=.*give a column'),
    (lambda: source(fields=dict(answer=3)), 'mine.fields=.*give a column'),
    (lambda: source(fields=3), 'mine.fields=3: give a dict'),
    (lambda: source(licence=None), 'mine.licence=None: give a value of type'),
    (lambda: config(generate=dict(x=float('nan'))), 'no such value'),
    (lambda: config(generate=dict(x=object())), 'no such value'),
  ],
)
def test_a_bad_config_is_one_line(make, message):
  with pytest.raises(ValueError, match=message) as e:
    curation.plan(make())
  assert '\n' not in str(e.value)


def test_a_field_that_nobody_knows():
  c = config()
  with c.unlocked():
    c.minibatch = 3
  with pytest.raises(ValueError, match=r'config\.minibatch=3: no such field'):
    curation.plan(c)
  c = config()
  del c.inputs.mine.licence
  with pytest.raises(ValueError, match=r'mine\.licence: missing; give it'):
    curation.plan(c)


def test_the_configs_of_other_commands_are_told_apart():
  with pytest.raises(ValueError, match=r'config\.inputs: missing; give the'):
    curation.plan(base.get_config())
  with pytest.raises(ValueError, match=r'give it to acereason_jax\.curate'):
    checks.validate(config())
  assert not evaluation.is_evaluation(config())
  assert not curation.is_curation(ml_collections.ConfigDict())


@pytest.mark.parametrize('domain', ['', 'math', 'code'])
def test_the_cpu_config_takes_a_domain(domain):
  plan = curation.plan(tiny.shipped('curate_cpu').get_config(domain))
  names = {source.name for source in plan.inputs}
  expected = dict(math={'champ'}, code={'human_eval'})
  assert names == expected.get(domain, {'champ', 'human_eval'})
  assert all({*rule.only} <= names and rule.only for rule in plan.rules)
