"""Configs of evaluations: defaults, checks, and the plan that they give."""

import pytest

from acereason_jax.config import checks, evaluation
from acereason_jax.evaluation import values

# A name is part of a path.
NAMED_BADLY = {n: evaluation.judge('m:f') for n in ('strict', 'a/b')}


def config():
  c = evaluation.get_config()
  judge = evaluation.judge('m:strict', reasons=False)
  for name in ('one', 'two'):
    c.benchmarks[name] = evaluation.benchmark(
      data=dict(fn='m:data', paths=('x',)),
      n=4,
      judges=dict(strict=judge, loose=evaluation.judge('m:loose')),
      prompt=dict(suffix=' why?', examples=[('a', 'b')]),
    )
  return c


def test_every_field_has_a_value():
  plan = evaluation.plan(config())
  assert plan.sampling == values.Sampling(0.6, 0.95, 0, 0.0)
  one = plan.benchmarks[0]
  assert one.prompt == values.Prompting('', ' why?', '', '', (('a', 'b'),))
  # The one that is named first comes first.
  assert list(one.judges) == ['strict', 'loose']
  assert one.judges['strict'].verify == dict(fn='m:strict', reasons=False)
  assert (one.n, one.max_tokens, one.expect) == (4, 32768, 0)


def test_benchmarks_do_not_share_their_judges():
  c = config()
  c.benchmarks.one.judges.strict.timeout_seconds = 1.0
  one, two = evaluation.plan(c).benchmarks
  assert one.judges['strict'].timeout_seconds == 1.0
  assert two.judges['strict'].timeout_seconds == 8.0


def test_a_field_that_does_not_exist_cannot_be_set():
  c = config()
  with pytest.raises(AttributeError):
    c.sampling.top = 1
  with pytest.raises(TypeError):
    evaluation.benchmark(data={}, judges={}, limit=3)


@pytest.mark.parametrize(
  'path, value, words',
  [
    ('seed', -1, 'give 0 to 2**31 - 1'),
    ('dtype', 'int8', 'give bfloat16, float32'),
    ('sampling.top_p', 0.0, 'more than 0'),
    ('sampling.temperature', -1.0, 'give 0 or more'),
    ('sampling.top_k', 1.5, 'type int'),
    ('engine.kv_dtype', 'int8', 'float8_e4m3fn'),
    ('judge.max_failed_share', 2.0, 'give 0 to 1'),
    ('published', 'gpt', 'acereason-7b'),
    ('price_per_chip_hour', float('inf'), 'give 0 or more'),
    ('steps', 3, 'no such field'),
    ('benchmarks', {}, 'empty'),
    ('benchmarks', {'a/b': {}}, 'at most 40 letters'),
    ('benchmarks', {'a': 3}, 'give a dict of'),
    ('benchmarks', {'a': {'n': 1}}, 'config/evaluation.py'),
    ('benchmarks.one.n', 0, 'at least 1'),
    ('benchmarks.one.max_tokens', 0, 'at least 1'),
    ('benchmarks.one.ks', (1, 5), 'from 1 to n=4'),
    ('benchmarks.one.data', dict(path='x'), 'fn'),
    ('benchmarks.one.headline', 'best', 'one of its judges'),
    ('benchmarks.one.published', 'gsm8k', 'aime24'),
    ('benchmarks.one.prompt.examples', (('a',),), '(user, assistant)'),
    ('benchmarks.one.prompt.starter', 'x', 'with one {starter}'),
    ('benchmarks.one.judges.strict.timeout_seconds', 0.0, 'more than 0'),
    ('benchmarks.one.judges', {}, 'one judge or more'),
    ('benchmarks.one.judges', NAMED_BADLY, 'at most 40 letters'),
  ],
)
def test_a_bad_value_is_one_line(path, value, words):
  c = config()
  *sections, name = path.split('.')
  section = c
  for each in sections:
    section = section[each]
  with section.unlocked():
    section[name] = value
  with pytest.raises(ValueError) as e:
    evaluation.plan(c)
  assert str(e.value).startswith(f'config.{path}'), e.value
  assert words in str(e.value)


def test_train_refuses_the_config_of_an_evaluation():
  with pytest.raises(ValueError, match=r'give it to acereason_jax\.evaluate'):
    checks.validate(config())
