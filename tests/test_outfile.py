"""A command replaces what it wrote itself, and no other file."""

import io
import json
import os
import stat

import called
import kept_runs
import pyarrow
import pyarrow.parquet
import pytest
import reporting_rows
import tiny

from acereason_jax import (
  files,
  judge,
  ledger,
  plan,
  report,
  storage,
  timeline,
  train,
  types,
)
from acereason_jax.curriculum import parquet
from acereason_jax.curriculum.ledger import Ledger, Record
from acereason_jax.data import rollouts, verdicts
from acereason_jax.rollout import output, trace
from acereason_jax.run import folder

PLAN = (
  f'--config={tiny.TESTS.parent}/configs/acereason_7b.py',
  *('--hardware=v5p:4x4x4', '--model=qwen2-7b', '--stage=math_8k'),
)
# What is given to each command, and the flag that names its output.
COMMANDS = {
  'timeline': (timeline, ['events.jsonl'], ''),
  'ledger': (ledger, ['ledger.parquet'], '--out='),
  'ledger of a stage': (ledger, ['ledger.parquet', '--stage=s'], '--out='),
  'judge': (
    judge,
    ['--rollouts=rollouts.jsonl', '--fn=tiny_judge:verify', '--workers=1'],
    '--out=',
  ),
  'report': (report, ['run', '--explain_seconds=0'], '--out='),
  'json': (plan, PLAN, '--json='),
  'markdown': (plan, PLAN, '--markdown='),
}
USERS = {
  'data.jsonl': b'{"id": "q", "index": 0, "problem": "1+1?", "answer": "2"}\n',
  'verdicts.jsonl': b'{"benchmark": "b", "id": "q", "index": 0, "status": "",',
  'own.py': b'print()\n',
  'page.html': b'<!DOCTYPE html>\n<html lang="en"><title>Mine</title></html>\n',
  'settings.json': b'{\n "config": "mine"\n}\n',
  'README.md': b'# simulated, not measured: mine\n',
  'zeros': bytes(1 << 20),
}


def records():
  return [
    Record('train', stage, 0, step, 'math', 'q', 2, 2, 0, 0, 0, 0, 40, 10, 2)
    for step, stage in ((1, 's'), (2, 't'))
  ]


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A run's folder, inputs of all commands and files of a user."""
  monkeypatch.chdir(tmp_path)
  run = tmp_path / 'run'
  kept_runs.write_config(run)
  reporting_rows.write_metrics(run, [dict(step=1, reward=0.5)])
  rows = [kept_runs.row(index=i) for i in range(2)]
  kept_runs.write(run, rows, [(each, kept_runs.text(each)) for each in rows])
  for name, content in {
    'checkpoints/6/_CHECKPOINT_METADATA': b'{"item_handlers": null}',
    'journal/0-6.journal': b'\x04\0\0\0abcd',
    'journal/0-7.journal': b'',
    '0.lock': b'',
    'summary.json': b'{"steps": 1}',
  }.items():
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(content)
  for name, content in USERS.items():
    (tmp_path / name).write_bytes(content)
  table = pyarrow.table(dict(id=['q'], answer=['2']))
  pyarrow.parquet.write_table(table, tmp_path / 'rows.parquet')
  (tmp_path / 'ledger.parquet').write_bytes(parquet.to_bytes(Ledger(records())))
  trace.write_events(
    tmp_path / 'events.jsonl',
    [trace.Event(0, 'q', 0, 0, 8, 'stop')],
    slots=1,
    steps=8,
  )
  line = dict(id='q', index=0, stop='stop', length=1, text='2', answer='2')
  (tmp_path / 'rollouts.jsonl').write_text(json.dumps(line) + '\n')
  return tmp_path


def snapshot(folder):
  """Each path below a folder, with what it holds or where it leads."""
  return {
    str(path): os.readlink(path) if path.is_symlink() else path.read_bytes()
    for path in folder.rglob('*')
    if not path.is_dir() or path.is_symlink()
  }


@pytest.fixture
def call(capsys, monkeypatch):
  """(exit status, what was said) of a command that writes to a path."""

  def call(name, out):
    module, words, flag = COMMANDS[name]
    by = called.by(module, capsys, monkeypatch)
    return by(*words, f'{flag}{out}')

  return call


@pytest.mark.parametrize('name', COMMANDS)
def test_no_file_that_another_wrote_is_replaced(place, call, name):
  victims = [p for p in place.rglob('*') if p.is_file()]
  if name == 'ledger of a stage':  # Its input is of its own kind.
    victims = [place / 'ledger.parquet']
  assert victims
  spelled = []
  for i, victim in enumerate(victims):
    own = victim.relative_to(place)
    (place / f'link{i}').symlink_to(victim)
    os.link(victim, place / f'hard{i}')
    spelled += [
      victim,
      f'./run/.././{own}',
      f'link{i}',
      f'/proc/self/cwd/{own}',
    ]
    if victim.stat().st_size:  # An empty file outside of a run is nobody's.
      spelled.append(f'hard{i}')
  before = snapshot(place)
  for out in spelled:
    status, said = call(name, out)
    assert status == 1, out
    assert f': {out}: ' in said and said.endswith('; give another path'), said
  assert snapshot(place) == before


@pytest.mark.parametrize('name', COMMANDS)
def test_a_folder_is_refused(place, call, name):
  for out in ('run', 'new/', 'gs://runs/new/'):
    status, said = call(name, out)
    assert status == 1 and f'{out}: is a folder; name a file in it' in said
  assert not (place / 'new').exists()


def test_rollouts_are_not_added_to_an_empty_file_of_a_run(place):
  for name in ('run/0.lock', 'run/journal/0-7.journal'):
    with pytest.raises(ValueError, match=f'{name}: is a file of the run'):
      output.Output(name, SETTINGS).__enter__()
    assert not (place / name).stat().st_size
    assert not (place / f'{name}.json').exists()


@pytest.mark.parametrize('index', [0, -1, 1 << 70, True])
@pytest.mark.parametrize('name', ['', 'a"b\\', '\n\u2028\ud800', 'e' * 999])
def test_verdicts_of_any_rollout_are_known_again(index, name):
  written = io.StringIO()
  one = rollouts.Response(name, index, 'text', 'answer', None)
  verdicts.Tally(written).add(one, types.Verdict('wrong', 'none', 0.1))
  assert judge.KIND.is_ours(written.getvalue().encode())


def test_rollouts_in_a_runs_folder_go_on_before_the_first_one_ended(place):
  for _ in range(3):
    with output.Output('run/own.jsonl', SETTINGS) as out:
      assert not out.done
  (place / 'run/own.jsonl.json').unlink()
  with pytest.raises(ValueError, match='is a file of the run'):
    output.Output('run/own.jsonl', SETTINGS).__enter__()


@pytest.mark.parametrize('name', COMMANDS)
def test_what_it_wrote_itself_is_replaced(place, call, name):
  (place / 'empty').write_bytes(b'')
  (place / 'link').symlink_to('target')
  outs = 'new/folder/file', 'run/file', 'empty', 'link'
  for out in outs:
    assert call(name, out)[0] == 0
    first = (place / out).stat()
    assert first.st_size
    assert call(name, out)[0] == 0
    assert (place / out).stat().st_ino != first.st_ino
  assert not list(place.rglob('.*.partial'))


def test_no_command_replaces_what_another_wrote(place, call):
  for name in COMMANDS:
    assert call(name, f'out of {name}')[0] == 0
  before = snapshot(place)
  for name, (module, _, flag) in COMMANDS.items():
    for other, (theirs, _, its) in COMMANDS.items():
      if (module, flag) != (theirs, its):
        status, said = call(name, f'out of {other}')
        assert status == 1 and 'give another path' in said
  assert snapshot(place) == before


def test_two_outputs_are_two_files(place, capsys, monkeypatch):
  by = called.by(plan, capsys, monkeypatch)
  for other in ('both', './both', f'{place}/run/../both'):
    status, said = by(*PLAN, '--json=both', f'--markdown={other}')
    assert (
      status == 1 and f'--markdown: {other}: is the same file as bo' in said
    )
  assert not (place / 'both').exists()


def test_a_stream_is_written_as_it_is(place, call):
  assert call('json', '/dev/null')[0] == 0
  assert stat.S_ISCHR(os.stat('/dev/null').st_mode)
  with open('to', 'w+') as file:
    assert call('timeline', f'/proc/self/fd/{file.fileno()}')[0] == 0
    assert 'Timeline of slots' in file.read()
  assert files.is_stream('/dev/fd/1') and not files.is_stream('/dev/shm/x')


@pytest.mark.usefixtures('store')
def test_a_bucket(place, call):
  root = f'gs://runs/{place.name}'
  foreign = f'{root}/run/metrics.jsonl'
  storage.write(foreign, b'{"step": 1}\n')
  for name in COMMANDS:
    out = f'{root}/out/{name}'
    assert call(name, foreign)[0] == 1
    assert call(name, out)[0] == 0
    content, first = storage.read_at(out, 1 << 30)
    assert content and call(name, out)[0] == 0
    assert storage.read_at(out, 1 << 30)[1] != first
  assert storage.read(foreign, 99) == b'{"step": 1}\n'


SETTINGS = dict(n=1, seed=0, temperature=1.0)


@pytest.mark.usefixtures('store')
@pytest.mark.parametrize('root', ['{}', 'gs://runs{}'])
def test_files_next_to_rollouts(tmp_path, root):
  out = storage.join(root.format(tmp_path), 'config')
  for tail in ('.json', output.TIMELINE):
    for content in (b'{"seed": 0}', b'\xff', b'[' * 99_999):
      storage.write(f'{out}{tail}', content)
      with pytest.raises(ValueError, match=f'--out: {out}{tail}: .*another'):
        output.Output(out, SETTINGS).__enter__()
      assert storage.read(f'{out}{tail}', 1 << 20) == content
      assert storage.read(out, 9) is None
    storage.remove(f'{out}{tail}')
  with output.Output(out, SETTINGS):
    pass
  output.write_timeline(f'{tmp_path}/t', trace.Trace())
  storage.write(f'{out}{output.TIMELINE}', (tmp_path / 't').read_bytes())
  # A user removed the rollouts, to draw others.
  storage.remove(out)
  with output.Output(out, SETTINGS | dict(seed=1)):
    pass


@pytest.mark.parametrize(
  'name, content',
  [
    ('config.json', b'{"model_type": "llama", "hidden_size": 8}'),
    ('config.json', b'{"benchmarks": {}, "seed": 0}'),
    ('config.json', b'[]'),
    ('config.json', b'{"seed": 0, "train_data'),
    ('metrics.jsonl', b'{"loss": 1.0, "step": 1}\n'),
  ],
)
def test_a_run_in_a_folder_that_is_no_runs(
  tmp_path, capsys, monkeypatch, name, content
):
  tiny.write(tmp_path)
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / name).write_bytes(content)
  before = snapshot(tmp_path)
  status, said = called.by(train, capsys, monkeypatch)(
    f'--config={tmp_path}/tiny_config.py', f'--workdir={tmp_path}/other'
  )
  assert status == 1 and f'--workdir: {tmp_path}/other/{name}: there is' in said
  assert snapshot(tmp_path) == before


@pytest.mark.parametrize('line', [b'', b'{"st', b'\0' * 99, b'{"step": 1}\n'])
def test_a_run_that_was_killed_at_any_moment(place, line):
  (place / 'run/metrics.jsonl').write_bytes(line)
  folder.check_ours(place / 'run')
  folder.check_ours(place / 'new')
