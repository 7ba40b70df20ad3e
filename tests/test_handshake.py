"""What the processes of a run compare, and the line for what differs."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tiny

from acereason_jax.hosts import gang
from acereason_jax.models import hf
from acereason_jax.run import handshake

BASE = {'a': '1', 'config.rollout.groups': '8', handshake.WORKDIR: 'shared'}


def told(*changes, count=None):
  count = count or len(changes)
  every = [BASE | dict(c) for c in changes] + [BASE] * (count - len(changes))
  return [gang.Told(i, f'host-{i}', facts) for i, facts in enumerate(every)]


def test_nothing_differs():
  assert handshake.difference(told({}, {}, {})) == ''


def test_two_are_both_named():
  found = handshake.difference(told({}, {'config.rollout.groups': '16'}))
  assert found == (
    'error: the processes differ in config.rollout.groups: 8 on host-0 '
    '(process 0), 16 on host-1 (process 1); give all the same config and data'
  )


@pytest.mark.parametrize('odd', [0, 1, 3])
def test_of_four_the_odd_one_is_named(odd):
  changes = [{}] * odd + [{'a': '2'}]
  found = handshake.difference(told(*changes, count=4))
  other = 1 if odd == 0 else 0
  assert f'2 on host-{odd} (process {odd})' in found
  assert f'1 on host-{other} (process {other} and 2 more)' in found


def test_the_first_of_several_fields_is_named():
  found = handshake.difference(
    told({}, {'a': '2', 'config.rollout.groups': ''})
  )
  assert 'differ in a: 1 on' in found


def test_what_one_lacks():
  found = handshake.difference(told({}, {'b': '3'}))
  assert 'differ in b: nothing on host-0 (process 0), 3 on host-1' in found


def test_another_folder():
  found = handshake.difference(told({}, {handshake.WORKDIR: '/x'}), 'runs/x')
  assert found == (
    'error: process 1 on host-1 sees another folder at runs/x than process 0 '
    'on host-0; use a disk that all hosts share, or gs://'
  )


def test_a_strangers_text_is_escaped_and_cut():
  found = handshake.difference(told({}, {'a': '\x1b[2J\n' + 'x' * 10_000}))
  assert found.isprintable() and len(found) < 600


@pytest.fixture
def files(tmp_path):
  tiny.write(tmp_path)
  return tmp_path


def differing(config, other):
  a, b = handshake.facts(config), handshake.facts(other)
  return [name for name in a | b if a.get(name) != b.get(name)]


def test_the_same_twice(files):
  assert not differing(tiny.config(files), tiny.config(files))


def test_every_field_of_a_config_is_compared(files):
  config = tiny.staged(files)
  config.optim.learning_rate = 2e-2
  assert differing(tiny.staged(files), config) == ['config.optim.learning_rate']
  config = tiny.staged(files)
  config.stages[1]['steps'] = 4
  assert differing(tiny.staged(files), config) == ['config.stages.1.steps']


def test_files_of_a_model(files, tmp_path):
  config = tiny.config(files)
  before = handshake.facts(config)
  path = files / 'model' / 'model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  name = sorted(tensors)[0]
  tensors[name] = tensors[name] + np.float32(1)
  safetensors.numpy.save_file(tensors, path)
  after = handshake.facts(config)
  names = [n for n in before if before[n] != after[n]]
  assert names == ['model file model.safetensors']
  with (files / 'model' / 'tokenizer.json').open('a') as file:
    file.write(' ')
  after = handshake.facts(config)
  names = [n for n in before if before[n] != after[n]]
  assert 'model file tokenizer.json' in names


@pytest.mark.parametrize('where', [0.0, 0.3, 0.5, 0.99])
def test_a_changed_tensor_of_a_large_file_is_seen(tmp_path, monkeypatch, where):
  """Of a file of which only a sample is read, a 200th."""
  monkeypatch.setattr(hf, '_WHOLE_BYTES', 1 << 20)
  monkeypatch.setattr(hf, '_BLOCK_BYTES', 1 << 10)
  content = bytearray(np.random.default_rng(0).bytes(16 << 20))
  content[:8] = (100).to_bytes(8, 'little')
  path = tmp_path / 'large'
  path.write_bytes(content)
  before = hf.sample(path)
  size = len(content) // 200
  first = int(where * (len(content) - size))
  content[first : first + size] = bytes(size)
  path.write_bytes(content)
  assert hf.sample(path) != before
  assert 'of a sample' in before


def test_a_users_own_modules_are_compared(files, tmp_path, monkeypatch):
  own = tmp_path / 'own'
  own.mkdir()
  monkeypatch.syspath_prepend(own)
  module = own / 'judge_of_this_test.py'
  module.write_text('verify = 1\n')
  config = tiny.config(files)
  config.judge.verify = dict(fn='judge_of_this_test:verify')
  before = handshake.facts(config)
  module.write_text('verify = 2\n')
  after = handshake.facts(config)
  names = [n for n in before if before[n] != after[n]]
  assert names == ['source of judge_of_this_test']


def test_secrets_of_the_environment_are_no_facts(files, monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'a-secret-of-this-test')
  text = json.dumps(handshake.facts(tiny.config(files)))
  assert 'a-secret' not in text
  # A message of a gang has a limit.
  assert len(text) < 100_000


def test_a_model_that_is_not_there(files):
  shutil.rmtree(files / 'model')
  with pytest.raises(OSError, match=r'no such directory'):
    handshake.facts(tiny.config(files))
