"""Runs whose model and data are on a hub, which moves on meanwhile."""

import json
import pathlib
import shutil
import subprocess
import sys

import gangs
import hub_server
import pytest
import tiny
from runs import Command, assert_same_run

from acereason_jax.config import stages
from acereason_jax.run import pins

MODEL, DATA = 'owner/tiny', 'datasets/owner/sums'
CONFIG = f"""
import pathlib
import tiny

def get_config():
  c = tiny.config(pathlib.Path(__file__).parent)
  c.model = '{MODEL}'
  c.train_data.path = 'hf://{DATA}/train.jsonl'
  c.heldout_data.path = 'hf://{DATA}/heldout.jsonl'
  return c
"""


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write(path)
  (path / 'of_hub.py').write_text(CONFIG)
  return path


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
  """With the files of the local run; its cache is in tmp_path/home."""
  with hub_server.started() as hub:
    extra = {'LICENSE': b'free', 'pytorch_model.bin': b'pickle'}
    hub.commit(MODEL, contents(folder / 'model') | extra)
    rows = {
      n: (folder / n).read_bytes() for n in ('train.jsonl', 'heldout.jsonl')
    }
    hub.commit(DATA, rows)
    values = hub_server.environment(hub, tmp_path / 'home')
    for name, value in values.items():
      monkeypatch.setenv(name, value)
    yield hub


@pytest.fixture
def command(folder, compiled):
  def call(workdir, *flags, config='of_hub'):
    # huggingface_hub reads its variables when it is imported.
    how = dict(fresh=True, config=config)
    return Command(folder, compiled, workdir, *flags, **how)

  return call


def move(hub):
  """Other weights, a chat template and other questions at main."""
  (files,) = hub.commits[MODEL].values()
  other = files | {'chat_template.jinja': b'{{ "?" }}', 'LICENSE': b'sold'}
  other['model.safetensors'] = files['model.safetensors'][:-4] + b'\0\0\0\0'
  hub.commit(MODEL, other)
  (rows,) = hub.commits[DATA].values()
  hub.commit(DATA, dict.fromkeys(rows, rows['heldout.jsonl']))


@pytest.mark.hosts
def test_a_run_keeps_the_commits_that_it_began_with(
  hub, folder, command, tmp_path
):
  workdir = tmp_path / 'run'
  began = dict(hub.heads)
  said = command(workdir, '--config.steps=2').ends(0)
  assert f'{MODEL}: commit {began[MODEL][:12]}, from here on' in said
  assert hub_server.TOKEN not in said
  assert json.loads((workdir / 'hub.json').read_text()) == began
  assert 'pytorch_model.bin' not in hub.fetched()
  move(hub)
  # Another machine, with an empty cache.
  shutil.rmtree(tmp_path / 'home')
  said = command(workdir).ends(0)
  assert f'{MODEL}: commit {began[MODEL][:12]}, as this run began' in said
  assert 'step 3/4' in said and 'step 2/4' not in said
  local = tmp_path / 'local'
  for steps in (2, 4):
    command(local, f'--config.steps={steps}', config='tiny_config').ends(0)
  assert_same_run(workdir, local, 4)
  # The record is lost: what main is now is another run.
  (workdir / 'hub.json').unlink()
  said = command(workdir, '--config.steps=6').ends(1)
  assert said.splitlines()[-1].startswith('error: this workdir holds a run of')
  assert f'model: "{MODEL}@{began[MODEL]}" -> "{MODEL}@{hub.heads[MODEL]}"' in (
    said
  )
  exported(workdir, tmp_path / 'out')
  assert (tmp_path / 'out' / 'LICENSE').read_bytes() == b'free'
  assert not (tmp_path / 'out' / 'chat_template.jinja').exists()


def exported(workdir, out):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'acereason_jax.export'),
      *(f'--checkpoint={workdir}', f'--out={out}'),
    ],
    env=tiny.environment(workdir / 'compiled'),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr


def test_a_mistake_is_a_line_before_anything_is_compiled(
  hub, command, tmp_path
):
  flag = f'--config.train_data.path=hf://{DATA}/none.jsonl'
  said = command(tmp_path / 'run', flag).ends(1)
  at = hub.heads[DATA]
  assert said.splitlines()[-1] == (
    f'error: hf://{DATA}@{at}/none.jsonl: there is no such file; see '
    f'{hub.url}/{DATA}/tree/{at}'
  )
  assert 'pytorch_model.bin' not in hub.fetched()
  assert 'model.safetensors' in hub.fetched()


@pytest.mark.hosts
def test_generate_reads_both_from_the_hub(hub, tmp_path):
  words = [
    *(sys.executable, '-m', 'acereason_jax.generate', f'--model={MODEL}'),
    *(f'--prompts=hf://{DATA}/heldout.jsonl', f'--out={tmp_path}/out.jsonl'),
    *('--n=1', '--max_tokens=4', '--temperature=1', '--top_p=1'),
  ]
  how = dict(
    env=tiny.environment(tmp_path / 'compiled'), capture_output=True, text=True
  )
  done = subprocess.run(words, **how)
  assert done.returncode == 0, done.stderr
  lines = (tmp_path / 'out.jsonl').read_text().splitlines()
  assert len(lines) == 6
  move(hub)
  done = subprocess.run(words, **how)
  assert done.returncode == 1
  assert 'holds rollouts of other settings: ' in done.stderr.splitlines()[-1]


@pytest.mark.hosts
def test_two_processes_take_the_commits_of_one(hub, command, tmp_path):
  began = dict(hub.heads)
  runs = gangs.start(command, tmp_path / 'run', 2, '--config.steps=2')
  assert [run.end() for run in runs] == [0, 0]
  assert len(hub.fetched()) == len(set(hub.fetched()))
  move(hub)
  runs = gangs.start(command, tmp_path / 'run', 2)
  assert [run.end() for run in runs] == [0, 0]
  assert json.loads((tmp_path / 'run' / 'hub.json').read_text()) == began


def test_every_name_of_a_config_gets_its_commit(folder, tmp_path):
  a, b = 'a' * 40, 'b' * 40
  record = {MODEL: a, DATA: b, f'{DATA}@v1': a}
  (tmp_path / pins.NAME).write_text(json.dumps(record))
  config = tiny.config(folder)
  jsonl = dict(fn='acereason_jax.data.sources:jsonl')
  with config.unlocked():
    config.model = MODEL
    config.train_data = dict(
      fn='acereason_jax.data.sources:joined',
      sources=[
        dict(jsonl, path=f'hf://{DATA}/1.jsonl'),
        dict(jsonl, path=f'hf://{DATA}@v1/2.jsonl'),
        dict(jsonl, path='3.jsonl'),
      ],
    )
    config.domains = dict(
      math=dict(heldout_data=dict(jsonl, path=f'hf://{DATA}@{a}/4.jsonl'))
    )
  before = config.to_json()
  pinned = pins.pinned(config, tmp_path, first=True)
  assert config.to_json() == before
  assert pinned.model == f'{MODEL}@{a}'
  assert [s['path'] for s in pinned.train_data.sources] == [
    f'hf://{DATA}@{b}/1.jsonl',
    f'hf://{DATA}@{a}/2.jsonl',
    '3.jsonl',
  ]
  math = stages.domains(pinned)['math']
  assert math.heldout_data.path == f'hf://{DATA}@{a}/4.jsonl'
  assert pins.pinned(pinned, tmp_path, first=True).to_json() == pinned.to_json()


def test_a_folder_comes_before_the_hub(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = tiny.config(folder)
  with config.unlocked():
    config.model = MODEL
  assert pins.names(config) == [MODEL]
  pathlib.Path(MODEL).mkdir(parents=True)
  assert pins.names(config) == []


@pytest.mark.parametrize(
  'content',
  ['', '[]', '{"owner/tiny": "main"}', '{"owner/tiny": 1}', '[' * 9999],
)
def test_a_damaged_record_is_a_line(folder, tmp_path, content):
  (tmp_path / pins.NAME).write_text(content)
  with pytest.raises(ValueError, match=r'hub\.json: expected a commit'):
    pins.pinned(tiny.config(folder), tmp_path, first=True)
