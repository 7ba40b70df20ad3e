"""The table of fields, the names that fields had, and the example configs."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import ml_collections
import pytest
import tiny

from acereason_jax.config import base, checks, fields, renamed, stages
from acereason_jax.kernels import attention
from acereason_jax.models import remat
from acereason_jax.rl import losses

ROOT = tiny.TESTS.parent
EXAMPLES = ('dapo', 'dr_grpo', 'gspo', 'lora')


def leaves_of(section, start=''):
  """(path, default) of base.py, by what a default is: not by the table.

  A component is one field, and so is a section whose names users choose, which
  is empty.
  """
  for name, value in section.items():
    is_section = isinstance(value, ml_collections.ConfigDict)
    if is_section and len(value) and 'fn' not in value:
      yield from leaves_of(value, f'{start}{name}.')
    else:
      yield start + name, value


DEFAULTS = dict(leaves_of(base.get_config()))


def test_the_rows_are_the_leaves_of_base():
  paths = [row.path for row in fields.FIELDS]
  assert len(paths) == len(set(paths)) > 90
  assert set(paths) == DEFAULTS.keys()


@pytest.mark.parametrize('row', fields.FIELDS, ids=lambda row: row.path)
def test_a_row_is_of_its_default(row):
  default = DEFAULTS[row.path]
  if isinstance(default, ml_collections.ConfigDict):
    assert row.kind is dict and row.component == ('fn' in default)
  else:
    assert row.kind is type(default)
  assert row.resume in (fields.FIXED, fields.SAME, fields.ANEW)
  # `stages.looks` reads the one that is both, from each stage's domains.
  assert not (row.stage and row.domain) or row.path == 'heldout.every'


def test_the_names_that_are_not_imported():
  assert set(fields.KERNELS) == set(attention.KERNELS)
  assert set(fields.REMAT) == set(remat.POLICIES)


def test_the_top_level_is_short():
  assert len(base.get_config()) <= 29


def config_with(path, value):
  config = base.get_config()
  config.model = 'somewhere'
  with config.unlocked():
    *sections, name = path.split('.')
    part = config
    for section in sections:
      if section not in part:
        part[section] = {}
      part = part[section]
    part[name] = value
  return config


@pytest.mark.parametrize('old, new', renamed.RENAMED.items())
def test_an_old_name_is_one_line_with_the_new_one(old, new):
  assert fields.row_of(old) is None, 'the old name is a field'
  assert fields.row_of(new) or fields.parts_of(new)
  said = re.escape(f'config.{old}: is called {new} now')
  with pytest.raises(ValueError, match=f'^{said}$'):
    checks.validate(config_with(old, 3))


def nested(path, value):
  for name in reversed(path.split('.')):
    value = {name: value}
  return value


@pytest.mark.parametrize('old', ['loss', 'rollout.groups', 'optim.b1'])
def test_an_old_name_in_a_stage_or_a_domain(old):
  config = base.get_config()
  config.stages = ({'name': 'a'} | nested(old, 3),)
  with pytest.raises(ValueError, match=rf'^config\.stages\[0\]\.{old}: is c'):
    stages.every_stage(config)
  config = base.get_config()
  config.domains = dict(math=nested(old, 3))
  with pytest.raises(ValueError, match=rf'^config\.domains\.math\.{old}: is c'):
    stages.domains(config)


@pytest.mark.parametrize(
  'complaint, flags, said',
  [
    ("'truncated'", '--config.truncated=mask', 'truncated is called objective'),
    ("'groups'", '--config.rollout.groups=4', 'rollout.groups is called rollo'),
    ('Key "best" does not exist', '', 'best is called checkpoint.best now'),
    (
      'Key "groups" does not exist',
      '',
      'rollout.groups is called rollo',
    ),
  ],
)
def test_an_old_name_of_a_flag_or_in_a_file(complaint, flags, said):
  assert said in renamed.hint(complaint, shlex.split(flags))


def test_no_hint_for_what_was_never_a_field():
  assert renamed.hint("'nothing'", ['--config.nothing=3']) == ''


# As an earlier version of this program wrote it, field by field.
RECORD = {
  'steps': 4,
  'updates': 2,
  'best': 'heldout/code',
  'evaluate_every': 3,
  'filter': {'of': 0},
  'filters': {'code': {'of': 4}},
  'rollout': {'prompts': 4, 'groups': {'fn': 'a:b', 'values': [2, 4]}},
  'refill': 1,
  'heldout': {'groups': 2, 'top_k': 0},
  'optim': {'fn': 'optax:sgd', 'learning_rate': 0.1, 'nesterov': True},
  'clip_norm': 1.0,
  'judge': {'fn': 'c:d', 'arguments': {'tier': 'T1'}, 'workers': 1},
  'advantage': {'epsilon': 0.0, 'scale': 'none'},
  'checkpoint': {'every': 1, 'keep': 2},
  'stages': [
    {'name': 'a', 'optim': {'learning_rate': 0.2}, 'loss': {'fn': 'e'}}
  ],
  'domains': {'code': {'evaluate_every': 9, 'judge': {'fn': 'f:g'}}},
}
TODAY = {
  'steps': 4,
  'checkpoint': {'every': 1, 'keep': 2, 'best': 'heldout/code'},
  'heldout': {'per_prompt': 2, 'top_k': 0, 'every': 3},
  'filter': {
    'of': 0,
    'domains': {'code': {'of': 4}},
    'source': 'probe',
    'tries': 8,
  },
  'engine': {'weights': ''},
  'rollout': {
    'prompts': 4,
    'per_prompt': {'fn': 'a:b', 'values': [2, 4]},
    'refill': 1,
  },
  'optim': {
    'transform': {'fn': 'optax:sgd', 'nesterov': True},
    'learning_rate': 0.1,
    'updates': 2,
    'clip_norm': 1.0,
    'groups': [],
    'decay_on': '',
  },
  'judge': {'verify': {'fn': 'c:d', 'tier': 'T1'}, 'workers': 1},
  'objective': {'advantage': {'epsilon': 0.0, 'scale': 'none'}},
  'stages': [
    {
      'name': 'a',
      'optim': {'learning_rate': 0.2},
      'objective': {'loss': {'fn': 'e'}},
    }
  ],
  'domains': {
    'code': {'heldout': {'every': 9}, 'judge': {'verify': {'fn': 'f:g'}}}
  },
}


def test_a_record_with_old_names_is_read_with_todays():
  before = json.dumps(RECORD)
  assert renamed.today(RECORD) == TODAY
  assert json.dumps(RECORD) == before
  assert renamed.today(TODAY) == TODAY


def test_a_record_without_new_fields_is_read_as_what_it_did():
  """So a run that an older version began goes on."""
  whole = json.loads(base.get_config().to_json())
  older = json.loads(json.dumps(whole))
  for path in renamed._ADDED:
    section, name = path.split('.')
    assert fields.BY_PATH[path].resume == fields.FIXED
    del older[section][name]
  assert renamed.today(older) == whole


def test_what_an_example_changes():
  """By the numbers of its paper, written out here once more."""
  configs = {name: tiny.shipped(name).get_config() for name in EXAMPLES}
  start = dict(leaves_of(tiny.shipped('quickstart').get_config()))
  changed = {
    name: {
      path: value.to_dict() if hasattr(value, 'to_dict') else value
      for path, value in leaves_of(config)
      if value != start[path]
    }
    for name, config in configs.items()
  }
  fn = losses.__name__ + ':'
  assert changed == dict(
    dapo={
      'objective.loss': dict(fn=fn + 'clipped', clip_low=0.2, clip_high=0.28),
      'objective.overlong_tokens': 6,
      'optim.updates': 2,
      'rollout.refill': 3,
    },
    dr_grpo={
      'objective.advantage.scale': 'none',
      'objective.average': 'constant',
    },
    gspo={
      'objective.loss': dict(fn=fn + 'gspo', clip_low=3e-4, clip_high=4e-4),
      'objective.average': 'sequence',
      'optim.updates': 4,
    },
    lora={'lora.rank': 16, 'optim.learning_rate': 5e-5},
  )
  # The defaults that a paper needs, which may change.
  assert configs['dapo'].objective.average == 'token'
  assert configs['dapo'].objective.truncated == 'score'


OWN = """
from acereason_jax.config import base
from configs import shared

def get_config():
  c = base.get_config()
  c.update(shared.CHANGES)
  return c
"""
LOADS = """
from acereason_jax import train
from acereason_jax.config import checks
config = train.read_flags(['train', *sys.argv[1:]]).config
checks.validate(config)
print(train.__file__, config.model)
"""


@pytest.mark.slow
def test_an_installed_package_beside_a_users_own_configs(tmp_path):
  """Not editable, in a folder whose package has the name of ours."""
  pytest.importorskip('setuptools')
  source, site, work = (tmp_path / n for n in ('source', 'site', 'work'))
  source.mkdir()
  for name in ('setup.py', 'acereason_jax', 'configs'):
    (source / name).symlink_to(ROOT / name)
  build = "from setuptools import build_meta; build_meta.build_wheel('.')"
  subprocess.run([sys.executable, '-c', build], cwd=source, check=True)
  (wheel,) = source.glob('*.whl')
  # A wheel of pure Python is installed by unpacking it.
  shutil.unpack_archive(wheel, site, 'zip')
  names = {path.name for path in site.iterdir()}
  assert 'acereason_jax' in names and 'configs' not in names
  assets = pathlib.Path('acereason_jax/reporting/assets')
  held = {path.name for path in (ROOT / assets).iterdir()}
  assert held == {path.name for path in (site / assets).iterdir()}
  assert 'LICENSE.uPlot' in held
  mine = work / 'configs'
  mine.mkdir(parents=True)
  (mine / '__init__.py').touch()
  (mine / 'shared.py').write_text("CHANGES = dict(model='mine')\n")
  (mine / 'own.py').write_text(OWN)
  for file, model in (
    ('configs/own.py', 'mine'),
    # Ours, which take from each other, work beside it too.
    (f'{ROOT}/configs/recipe_cpu.py', 'smollm2-135m'),
  ):
    # Without the editable install of the tests, whose path comes later.
    code = f'import sys; sys.path.insert(0, {str(site)!r})\n{LOADS}'
    done = subprocess.run(
      [sys.executable, '-c', code, f'--config={file}'],
      cwd=work,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    path, got = done.stdout.split()
    assert path.startswith(str(site)) and got == model
