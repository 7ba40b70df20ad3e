"""Training on several hosts that disagree, or lose each other.

A host is a folder: its process works there, with its own model and data.
Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import os
import re
import shutil
import signal

import gangs
import numpy as np
import pytest
import safetensors.numpy
import tiny
from runs import Command, assert_same_run, saved_steps

pytestmark = pytest.mark.hosts
STEPS = 6
OWN = (
  '--config.model=model',
  '--config.train_data.path=train.jsonl',
  '--config.heldout_data.path=heldout.jsonl',
  f'--config.steps={STEPS}',
)
# The loss of one is found at once; a real run has minutes. All come, however
# busy the machine is.
LOW = ('--join_seconds=600', '--peer_seconds=15')
COUNT = 2


@pytest.fixture
def hosts(folder, tmp_path):
  """Folders of hosts that are alike."""
  return settled(folder, tmp_path)


def settled(folder, home):
  found = [home / f'host-{i}' for i in range(COUNT)]
  for host in found:
    shutil.copytree(folder / 'model', host / 'model')
    for data in ('train', 'heldout'):
      shutil.copy(folder / f'{data}.jsonl', host)
  return found


def start(folder, cache, workdir, hosts, own=(), **how):
  """A process on each host; `own` are flags and `how` words for the last."""
  meeting, last = gangs.flags(COUNT), COUNT - 1
  return [
    Command(
      folder,
      cache,
      workdir,
      *(*OWN, *LOW, *meeting[i], *(own if i == last else ())),
      cwd=host,
      **(how if i == last else {}),
    )
    for i, host in enumerate(hosts)
  ]


@pytest.fixture(scope='module')
def reference(folder, compiled, tmp_path_factory):
  """The folder of a run that nothing broke."""
  home = tmp_path_factory.mktemp('reference')
  hosts = settled(folder, home)
  for run in start(folder, compiled, home / 'run', hosts):
    run.ends(0)
  return home / 'run'


def errors(run):
  return [x for x in run.output.splitlines() if x.startswith('error: ')]


def weights(hosts):
  file = hosts[-1] / 'model' / 'model.safetensors'
  tensors = dict(safetensors.numpy.load_file(file))
  name = sorted(tensors)[0]
  tensors[name] = tensors[name] + np.float32(1e-3)
  safetensors.numpy.save_file(tensors, file)
  return {}


def tokenizer(hosts):
  file = hosts[-1] / 'model' / 'tokenizer.json'
  text = file.read_text()
  swapped = text.replace('"a": ', '"\0": ').replace('"b": ', '"a": ')
  assert text != swapped
  file.write_text(swapped.replace('"\0": ', '"b": '))
  return {}


def data(hosts):
  file = hosts[-1] / 'train.jsonl'
  file.write_text(file.read_text().replace('"1"', '"0"', 1))
  return {}


def field(text):
  return lambda hosts: dict(own=[f'--config.{text}'])


def code(hosts):
  """A copy of the package with one more comment, which no fork has read."""
  copy = hosts[-1] / 'code'
  shutil.copytree(tiny.TESTS.parent / 'acereason_jax', copy / 'acereason_jax')
  with (copy / 'acereason_jax' / 'types.py').open('a') as file:
    file.write('# Another version.\n')
  paths = os.pathsep.join([str(copy), str(tiny.TESTS)])
  return dict(fresh=True, env=dict(PYTHONPATH=paths))


BOTH = r'.* on \S+ \(process 0\), .* on \S+ \(process 1\)'


@pytest.mark.parametrize(
  'change, words',
  [
    (weights, rf'model file model\.safetensors: {BOTH}'),
    (tokenizer, rf'model file tokenizer\.json: {BOTH}'),
    (data, rf'config\.train_data: {BOTH}'),
    (code, rf'source acereason_jax/types\.py: {BOTH}'),
    (
      field('rollout.per_prompt=8'),
      r'config\.rollout\.per_prompt: 4 on \S+ \(process 0\), 8 on \S+ \(proc',
    ),
    (field('seed=7'), r'config\.seed: 0 on \S+ \(process 0\), 7 on \S+ \(proc'),
  ],
)
def test_hosts_that_differ_compile_nothing(
  folder, hosts, tmp_path, change, words
):
  cache, workdir = tmp_path / 'cache', tmp_path / 'run'
  runs = start(folder, cache, workdir, hosts, **change(hosts))
  lines = set()
  for run in runs:
    run.ends(1)
    (line,) = errors(run)
    assert re.match(f'error: the processes differ in {words}', line)
    lines.add(line)
  assert len(lines) == 1
  # Not even the first program: all that was exchanged is the free memory.
  compiled = cache.iterdir() if cache.exists() else ()
  assert all(path.name.startswith('jit__identity_fn') for path in compiled)
  # Nor is anything left that a later run would find.
  assert not workdir.exists() or not list(workdir.iterdir())


def test_hosts_that_share_no_folder(folder, hosts, tmp_path):
  runs = start(folder, tmp_path / 'cache', 'run', hosts)
  for run in runs:
    run.ends(1)
    (line,) = errors(run)
    assert re.match(
      r'error: process 1 on \S+ sees another folder at run than process 0', line
    )


def test_a_resumed_run_compares_again(folder, hosts, tmp_path, reference):
  workdir = tmp_path / 'run'
  shutil.copytree(reference, workdir)
  weights(hosts)
  for run in start(folder, tmp_path / 'cache', workdir, hosts):
    assert 'differ in model file' in run.ends(1)


def test_an_error_of_one_ends_all_with_its_words(folder, hosts, tmp_path):
  shutil.rmtree(hosts[1] / 'model')
  first, second = start(folder, tmp_path / 'cache', tmp_path / 'run', hosts)
  second.ends(1)
  first.ends(1)
  (line,) = errors(second)
  assert line.startswith("error: model='model': no such directory")
  (told,) = errors(first)
  words = line.removeprefix('error: ')
  assert re.fullmatch(
    rf'error: process 1 on \S+ ended: {re.escape(words)}', told
  )


@pytest.mark.parametrize('victim', range(COUNT))
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_the_loss_of_one_is_one_line_and_nothing_is_lost(
  folder, compiled, hosts, tmp_path, reference, victim, number
):
  workdir = tmp_path / 'run'
  runs = start(folder, compiled, workdir, hosts)
  runs[0].wait_for('step 2/')
  lost = runs[victim]
  lost.process.send_signal(number)
  for run in runs:
    if run is not lost:
      run.ends(70)
      (line,) = errors(run)
      assert line.startswith(f'error: lost process {victim} on ')
      # Nothing of jax's about what this broke.
      after = run.output.partition(line)
      assert not re.search(r'Gloo|oordination|absl', ''.join(after))
  lost.process.kill()
  lost.end()
  for run in start(folder, compiled, workdir, hosts):
    run.ends(0)
  assert saved_steps(workdir)[-1] == STEPS
  assert_same_run(workdir, reference, STEPS)
