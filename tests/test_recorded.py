"""The config of a run's folder, read as it was; a stranger's is one line."""

import json

import pytest
import tiny

from acereason_jax.config import recorded
from acereason_jax.rl import objective

MATH = 'acereason_jax.verifiers.math:verify'


def written(config):
  """As a run writes it."""
  return json.dumps(json.loads(config.to_json())).encode()


def test_a_config_comes_back(tmp_path):
  config = tiny.config(tmp_path)
  found = recorded.parse(written(config))
  assert json.loads(found.to_json()) == json.loads(config.to_json())
  o = config.objective
  assert recorded.rules(found) == {
    'main': objective.Rules(
      o.truncated, o.overlong_tokens, config.rollout.max_tokens
    )
  }
  (judge,) = recorded.judges(found).values()
  assert judge.fn == config.judge.verify.fn
  assert judge.arguments['reasons'] is config.prompt.reasons
  assert judge.timeout_seconds == config.judge.timeout_seconds


def test_stages_and_domains_have_their_own(tmp_path):
  config = tiny.config(tmp_path)
  code = dict(fn='acereason_jax.verifiers.code:verify', tier='T2')
  with config.unlocked(), config.ignore_type():
    config.stages = (
      dict(name='short', rollout=dict(max_tokens=5)),
      dict(name='long', objective=dict(truncated='zero', overlong_tokens=2)),
    )
    config.domains = dict(
      math=dict(prompt=dict(reasons=False), judge=dict(verify=dict(fn=MATH))),
      code=dict(judge=dict(verify=code, timeout_seconds=300.0, confine=False)),
    )
  found = recorded.parse(written(config))
  longest = config.rollout.max_tokens
  assert recorded.rules(found) == dict(
    short=objective.Rules(config.objective.truncated, 0, 5),
    long=objective.Rules('zero', 2, longest),
  )
  judges = recorded.judges(found)
  assert judges['math'].fn == MATH
  assert judges['math'].arguments == dict(reasons=False)
  assert judges['code'] == recorded.Judge(
    code['fn'], dict(reasons=config.prompt.reasons, tier='T2'), 300.0, False
  )


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'[]',
    b'{',
    b'\xff',
    b'{}',
    b'{"a.b": 1}',
    b'{"copy_and_resolve_references": 1}',
    b'[' * 10**6,
    b'{"a":' * 10**5 + b'1' + b'}' * 10**5,
    b'{"stages": [{"name": "\\u001b[2J", "x": {"\\n": 1}}], "domains": {}}',
    b'{"stages": 3, "domains": 3}',
  ],
)
def test_what_is_no_config_is_one_line(content):
  with pytest.raises(ValueError, match='not the config of a run') as e:
    recorded.judges(recorded.parse(content))
  assert len(str(e.value).splitlines()) == 1 and len(str(e.value)) < 300


@pytest.mark.parametrize(
  'path, value',
  [
    ('judge.verify', 'x'),
    ('judge.verify', {'fn': 3}),
    ('judge.verify', {}),
    ('judge.timeout_seconds', 1e9),
    ('judge.timeout_seconds', 'x'),
    ('judge.confine', 1),
    ('objective.truncated', 'x'),
    ('objective.overlong_tokens', -1),
    ('objective.overlong_tokens', 10**9),
    ('rollout.max_tokens', 1.5),
    ('rollout', []),
  ],
)
def test_a_field_that_is_none(path, value, tmp_path):
  plain = json.loads(tiny.config(tmp_path).to_json())
  *sections, name = path.split('.')
  at = plain
  for section in sections:
    at = at[section]
  at[name] = value
  with pytest.raises(ValueError, match='not the config of a run'):
    found = recorded.parse(json.dumps(plain).encode())
    recorded.judges(found), recorded.rules(found)
