"""The judge command: what it prints, counts, writes and refuses."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import kept_runs
import numpy as np
import pytest
import tiny

from acereason_jax import judge
from acereason_jax.config import base
from acereason_jax.console import signals
from acereason_jax.data import archive, rollouts, verdicts

FN = '--fn=tiny_judge:explain'
SLOW = '--timeout_seconds=600'


def rollout(name='q', index=0, text='yes 7', **more):
  return dict(id=name, index=index, stop='stop', length=3, text=text) | more


def write(path, *records):
  lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
  path.write_text('\n'.join(lines) + '\n')
  return path


@pytest.fixture
def call(capsys):
  """Runs the command; returns the lines of its standard output."""

  def call(*args):
    assert judge.main(['', *map(str, args)]) == 0
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == '\n' for c in out)
    return out.splitlines()

  return call


def refused(match, *args):
  with pytest.raises(SystemExit, match=match) as e:
    judge.main(['', *map(str, args)])
  message = str(e.value)
  assert message.startswith('error: ') and message.isprintable()


def test_the_command_explains_a_verdict():
  command = [sys.executable, '-m', 'acereason_jax.judge', '--answer=5/10']
  ask = lambda *args: subprocess.run(
    [*command, *args], capture_output=True, text=True, cwd=tiny.TESTS.parent
  )
  done = ask(r'--response=so </think> \boxed{0.5}')
  assert (done.returncode, done.stderr) == (0, '')
  *lines, last = done.stdout.splitlines()
  assert re.fullmatch(r'verdict: right  \([0-9.]+ s\)', last)
  assert "  extracted: '0.5'" in lines
  done = ask(r'--response=so \boxed{0.5}')
  assert done.returncode == 0 and '\nverdict: unparsed  (' in done.stdout
  done = ask(r'--response=so \boxed{0.51}', '--noreasons')
  assert done.returncode == 0 and '\nverdict: wrong  (' in done.stdout
  assert ask('--respond=x').returncode == 2
  done = ask()
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.count('\n') == 1


def test_what_a_model_wrote_reaches_the_terminal_escaped(call):
  text = '\x1b[2J\x9b\rok\nverdict: right\u202e\ud800'
  lines = call(FN, '--answer=no', f'--response={text}')
  assert lines[:-1] == [
    '  \\x1b[2J\\x9b\\rok',
    '  verdict: right\\u202e\\ud800',
    '  against no, reasons=True',
  ]
  assert lines[-1].startswith('verdict: wrong  (')


def test_a_long_detail_is_cut(call):
  lines = call(FN, '--answer=1', f'--response={"1" * 50_000}')
  assert 'characters cut' in lines[0] and len(lines[0]) < 17_000


def test_a_response_from_a_file_and_from_standard_input(
  call, tmp_path, monkeypatch
):
  file = tmp_path / 'response.txt'
  file.write_text('it is π')
  assert call(FN, '--answer=π', f'--response_file={file}')[0] == '  it is π'
  stdin = io.TextIOWrapper(io.BytesIO(b'it is 4'))
  monkeypatch.setattr(sys, 'stdin', stdin)
  lines = call(FN, '--noreasons', '--answer=4', '--response_file=-')
  assert lines[:2] == ['  it is 4', '  against 4, reasons=False']
  file.write_bytes(b'\xff')
  refused('not UTF-8', '--answer=4', f'--response_file={file}')
  file.write_bytes(b' ' * (5 << 20))
  refused('more than 4194304', '--answer=4', f'--response_file={file}')
  refused('No such file', '--answer=4', f'--response_file={tmp_path / "no"}')


def test_an_unknown_tier(tmp_path):
  file = write(tmp_path / 'task.json', dict(kind='stdin', tests=[]))
  refused("tier='T9': .*T1", f'--task={file}', '--response=1', '--tier=T9')


def test_a_program_against_its_task(call, tmp_path):
  task = dict(kind='stdin', tests=[dict(stdin='4', expected='16')])
  file = write(tmp_path / 'task.json', task)
  program = 'x</think>\n```python\nprint(int(input()) ** 2)\n```'
  try:
    lines = call(f'--task={file}', f'--response={program}', SLOW)
  except SystemExit as e:
    if 'runs no jail' not in str(e):
      raise
    pytest.skip(str(e))
  assert lines[1].split()[0] in ('T3', 'T2')
  assert lines[2].startswith('  test 1: AC')
  assert lines[-1].startswith('verdict: right')
  program = program.replace('2', '3')
  lines = call(f'--task={file}', f'--response={program}', SLOW, '--tier=T2')
  assert lines[1].startswith('  T2 landlock=')
  assert "got '64', expected '16'" in lines[-2]
  assert lines[-1].startswith('verdict: wrong')


def test_unconfined_judges_have_files(call, tmp_path):
  file = tmp_path / 'written'
  writes = ('--fn=tiny_judge:write', '--answer=1', f'--response={file}')
  assert call(*writes)[-1].startswith('verdict: error')
  assert not file.exists()
  assert call(*writes, '--noconfine')[-1].startswith('verdict: right')
  assert file.exists()


@pytest.mark.parametrize(
  'args, match',
  [
    (['--answer=1'], 'got none of --response, .*give exactly one'),
    (['--answer=1', '--response=', '--rollouts=x'], 'got --response and --ro'),
    (['--response=1'], '--answer: missing'),
    (['--response=1', '--answer=1', '--id=3'], '--id goes with --rollouts'),
    (['--response=1', '--answer=1', '--out=x'], '--out goes with --rollouts'),
    (['--response=1', '--answer=1', '--tier=T2'], '--tier=T2: goes with --co'),
    (['--rollouts=x', '--answer=1'], 'with --rollouts, give --data'),
    (['--rollouts=x', '--index=1'], '--index=1: of which --id'),
    (['--rollouts=x', '--id=1', '--out=x'], '--out is for all'),
    (['--rollouts=/no/such'], 'No such file'),
    (['--response=', '--answer=1', '--timeout_seconds=0'], 'seconds=0.0: more'),
    (['--rollouts=x', '--workers=-1'], '--workers=-1: give 0 or more'),
    (['--response=', '--answer=1', '--fn=nope'], '--fn=nope: .*expected'),
    (['--response=', '--answer=1', '--fn=json:dumps'], '--fn=json:dumps: '),
    (['--response=', '--answer=1', '--fn=tiny_judge:no'], "has no 'no'"),
  ],
)
def test_a_wrong_argument_is_one_line(args, match):
  refused(match, *args)


@pytest.mark.parametrize(
  'args',
  [
    ['--rollouts={}'],
    ['--task={}', '--response=1'],
    ['--answer=1', '--response_file={}'],
  ],
)
def test_a_pipe_that_nobody_writes_to_is_one_line(args, tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  refused(
    'a pipe; expected a file', *(a.format(tmp_path / 'pipe') for a in args)
  )


def test_a_task_of_gigabytes_is_one_line(tmp_path):
  with (tmp_path / 'task').open('wb') as file:
    file.truncate(20 << 30)
  refused('more than', f'--task={tmp_path / "task"}', '--response=1')


def test_one_rollout_of_a_file(call, tmp_path):
  file = write(
    tmp_path / 'rollouts.jsonl',
    rollout(text='first 7', answer='7'),
    rollout(index=1, text='second 8', answer='7'),
    rollout('broken', stop='error', text='', detail='too\x1blong', answer='7'),
    rollout('bare'),
    '{"id": "q", "ind',
  )
  # Half a line at the end is being written.
  file.write_text(file.read_text().rstrip('\n'))
  first = call(FN, f'--rollouts={file}', '--id=q')
  assert first[0] == '  first 7' and first[-1].startswith('verdict: right')
  second = call(FN, f'--rollouts={file}', '--id=q', '--index=1')
  assert second[0] == '  second 8' and second[-1].startswith('verdict: wrong')
  refused(
    r'has indices \[0, 1\], not 2', f'--rollouts={file}', '--id=q', '--index=2'
  )
  refused("id 'r' is not in it", f'--rollouts={file}', '--id=r')
  refused('no response', f'--rollouts={file}', '--id=broken')
  refused(r":4: the line has no 'answer'", f'--rollouts={file}', '--id=bare')


def test_answers_from_the_file_of_questions(call, tmp_path):
  file = write(tmp_path / 'rollouts.jsonl', rollout(), rollout('r', answer='7'))
  data = write(tmp_path / 'data.jsonl', dict(id='q', problem='What?', answer=7))
  args = f'--rollouts={file}', f'--data={data}'
  assert call(FN, *args, '--id=q')[1] == '  against 7, reasons=True'
  # The named file has precedence.
  refused(r":2: --data has no id 'r'", *args, '--id=r')
  refused('No such file', f'--rollouts={file}', '--data=/no/such', '--id=q')


def test_a_file_is_judged_and_counted(call, tmp_path):
  rollouts = [
    rollout(f'q{i % 2}', index, text=f'{"7" if index < 3 else "8"}\x1b')
    for i in range(2)
    for index in range(10)
  ]
  broken = rollout('q0', 10, stop='error', text='', detail='no room')
  file = write(tmp_path / 'rollouts.jsonl', *rollouts, broken)
  data = write(
    tmp_path / 'data.jsonl',
    *(dict(id=f'q{i}', problem=f'{i}?', answer='7') for i in range(2)),
  )
  out = tmp_path / 'verdicts.jsonl'
  args = f'--rollouts={file}', f'--data={data}', FN, SLOW, '--workers=2'
  lines = call(*args, f'--out={out}')
  assert lines[0] == 'right 6  wrong 14  unparsed 0  timeout 0  error 1'
  assert lines[1] == 'pass rate 30.0% of 20 judged'
  assert lines[2].startswith('slowest: ') and lines[2].count(' s q') == 5
  assert lines[3] == f'all in {out}'
  verdicts = [json.loads(line) for line in out.read_text().splitlines()]
  found = {(v['id'], v['index']): v for v in verdicts}
  assert len(found) == len(verdicts) == 21
  for (_, index), verdict in found.items():
    assert set(verdict) == {'id', 'index', 'status', 'detail', 'seconds'}
    status = 'error' if index == 10 else 'right' if index < 3 else 'wrong'
    assert verdict['status'] == status
  assert found['q0', 10]['detail'] == 'no room'
  assert call(*args)[:2] == lines[:2]


def test_ids_are_escaped(call, tmp_path):
  file = write(tmp_path / 'a.jsonl', rollout('\x1b[2J\n', text='7', answer='7'))
  lines = call(f'--rollouts={file}', FN, SLOW, '--workers=1')
  assert '\\x1b[2J\\n[0] right' in lines[-1] and len(lines) == 3


@pytest.mark.parametrize(
  'line, match',
  [
    ('{"id": "q"', r'a\.jsonl:2: not one JSON object'),
    ('[' * 100_000, r'a\.jsonl:2: not one JSON object'),
    ('[1]', r'a\.jsonl:2: no rollout'),
    (rollout(index='0'), r'a\.jsonl:2: no rollout'),
    (rollout(), r"a\.jsonl:2: the line has no 'answer'"),
    (rollout(answer=7), r"a\.jsonl:2: the line has no 'answer'"),
  ],
)
def test_a_bad_line_stops_it_and_leaves_the_old_verdicts(tmp_path, line, match):
  file = write(tmp_path / 'a.jsonl', rollout(answer='7'), line, rollout())
  out = tmp_path / 'out.jsonl'
  old = dict(id='q', index=0, status='right', detail='', seconds=0.1)
  out.write_text(json.dumps(old) + '\n')
  before = out.read_text()
  refused(match, f'--rollouts={file}', f'--out={out}', FN, '--workers=1')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.jsonl', 'out.jsonl']
  assert out.read_text() == before


@pytest.mark.usefixtures('told_to_end')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_old_verdicts(tmp_path, monkeypatch, number):
  file = write(tmp_path / 'a.jsonl', *[rollout(answer='7')] * 20)
  out = tmp_path / 'out.jsonl'
  old = json.dumps(dict(id='q', index=0, status='right', detail='', seconds=1))
  out.write_text(f'{old}\n')
  judged = verdicts.judge

  def interrupted(responses, *rest):
    def some():
      yield next(responses)
      signal.raise_signal(number)

    return judged(some(), *rest)

  monkeypatch.setattr(verdicts, 'judge', interrupted)
  with pytest.raises(signals.Asked):
    judge.main(
      ['', f'--rollouts={file}', f'--out={out}', FN, SLOW, '--workers=1']
    )
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.jsonl', 'out.jsonl']
  assert out.read_text() == f'{old}\n'


def test_a_file_without_rollouts(tmp_path):
  file = write(tmp_path / 'a.jsonl')
  refused('holds no rollouts', f'--rollouts={file}', FN, '--workers=1')


def test_lines_are_read_one_at_a_time(tmp_path):
  file = write(tmp_path / 'a.jsonl', rollout(), 'nonsense')
  lines = rollouts.read_records(str(file))
  where, record = next(lines)
  assert where == f'{file}:1' and record == rollout()


def kept_run(folder, config=None):
  """The folder of a run with kept texts: two domains, two steps."""
  for step in (3, 12):
    rows, texts = [], []
    for domain in ('code', 'math'):
      for index in range(3):
        text = f'yes {7 if index else 8} at {step}\x1b'
        broken = domain == 'code' and index == 2
        rows.append(
          archive.Row(
            *(step, 'train', 's', domain, f'{domain}/q', index, 'wrong'),
            *('no room' if broken else '', 0.0, False, 0.0, True, False, 3),
            *('error' if broken else 'stop', -1.0, 1.0, 'drawn'),
          )
        )
        numbers = np.zeros(3, np.uint8)
        texts.append(
          archive.Text(
            *(f'{domain}/q', index, 'What?', '7', text, numbers, numbers),
            *(numbers, None, None),
          )
        )
    name = archive.Place(step, 'train').name
    for path, data in (
      (folder / 'rollouts' / name, archive.rows_to_bytes(rows)),
      (folder / 'rollouts' / 'texts' / name, archive.texts_to_bytes(texts)),
    ):
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(data)
  if config is not None:
    (folder / 'config.json').write_text(json.dumps(config))
  return folder


def run_config(fn='acereason_jax.verifiers.math:verify', **arguments):
  config = json.loads(base.get_config().to_json())
  config['prompt']['reasons'] = False
  config['judge']['verify'] = dict(fn=fn, **arguments)
  config['domains'] = dict(math={}, code={})
  return config


def test_the_kept_rollouts_of_a_run(call, tmp_path):
  run = kept_run(tmp_path, run_config())
  out = tmp_path / 'verdicts.jsonl'
  args = f'--rollouts={run}', FN, SLOW, '--workers=1'
  lines = call(*args, f'--out={out}')
  found = [json.loads(line) for line in out.read_text().splitlines()]
  assert len(found) == 12 and {v['step'] for v in found} == {3, 12}
  assert lines[0] == 'code:' and 'math:' in lines
  # In each step the third of code has no response; the first is not 7.
  assert lines[1] == 'right 2  wrong 2  unparsed 0  timeout 0  error 2'
  assert lines[5] == 'right 4  wrong 2  unparsed 0  timeout 0  error 0'
  assert 'step 3 code/q' in lines[3]
  lines = call(*args, '--step=12')
  assert lines[5] == 'right 2  wrong 1  unparsed 0  timeout 0  error 0'


def test_one_kept_rollout_of_a_run(call, tmp_path):
  run = kept_run(tmp_path)
  ask = lambda *args: call(FN, f'--rollouts={run}', '--id=math/q', *args)
  # Of the newest step that has it.
  assert ask()[0] == '  yes 8 at 12\\x1b'
  assert ask('--index=1', '--step=3')[0] == '  yes 7 at 3\\x1b'
  same = FN, f'--rollouts={run}'
  refused(r'indices \[0, 1, 2\], not 5', *same, '--id=math/q', '--index=5')
  refused("id 'x' of step 3 has no kept text", *same, '--id=x', '--step=3')
  refused('no kept texts of step 4', *same, '--id=math/q', '--step=4')
  refused('no room', *same, '--id=code/q', '--index=2')


def test_an_id_in_two_phases_of_a_step(call, tmp_path):
  """Training and held-out questions are of two files, each with its ids."""
  row = lambda phase, step: kept_runs.row('q', 0, phase=phase, step=step)
  rows = [row('train', 3), row('heldout', 3), row('train', 5), row('train', 2)]
  texts = [(r, kept_runs.text(r, f'{r.phase} {r.step}', '7')) for r in rows]
  probe = row('probe', 5)._replace(kept='')
  kept_runs.write(tmp_path, [*rows, probe], texts)
  ask = lambda *args: call(FN, f'--rollouts={tmp_path}', '--id=q', *args)[0]
  assert ask() == '  train 5' and ask('--step=2') == '  train 2'
  same = FN, f'--rollouts={tmp_path}'
  refused(
    "id 'q' of step 3 is in heldout and train of step 3: .*give --phase",
    *(*same, '--id=q', '--step=3'),
  )
  assert ask('--phase=heldout') == '  heldout 3'
  assert ask('--phase=train', '--step=3') == '  train 3'
  refused(r'no kept texts \(probe\)', *same, '--id=q', '--phase=probe')
  counts = lambda *args: call(*same, '--workers=1', *args)[0]
  assert counts().startswith('right 0  wrong 4 ')
  assert counts('--phase=heldout').startswith('right 0  wrong 1 ')
  refused(
    '--phase=train: goes with', '--rollouts=x', '--phase=train', '--data=x'
  )


def test_the_judge_of_a_runs_config(call, tmp_path):
  run = kept_run(tmp_path, run_config())
  lines = call(f'--rollouts={run}', '--id=math/q', '--index=1')
  assert lines[-1].startswith('verdict: unparsed')
  counts = call(f'--rollouts={run}', '--step=3', '--workers=1')
  # The last number of a response without a box is no answer.
  assert counts[5].startswith('right 0  wrong 0  unparsed 3')


@pytest.mark.parametrize(
  'config, match',
  [
    (None, 'config.json: there is none; give --fn'),
    ('[1', 'config.json: .*not the config of a run'),
    (run_config('os:system'), "'os:system' is not of this package"),
    (run_config('tiny_judge:verify'), 'is not of this package'),
    (
      run_config('acereason_jax.verifiers.code:verify', tier='T1'),
      'the weakest sandbox',
    ),
    (run_config() | dict(domains=dict(other={})), "no domain 'code'"),
  ],
)
def test_a_runs_config_that_names_no_judge_is_one_line(config, match, tmp_path):
  run = kept_run(tmp_path, config)
  if config == '[1':
    (run / 'config.json').write_text(config)
  refused(match, f'--rollouts={run}')
  assert not (tmp_path / 'written').exists()


def test_damaged_files_of_a_run_are_one_line(tmp_path):
  run = kept_run(tmp_path)
  name = archive.Place(12, 'train').name
  for file in (f'rollouts/texts/{name}', f'rollouts/{name}'):
    (run / file).write_bytes(b'PAR1 of somebody else')
    refused(f'{file}: no readable file', f'--rollouts={run}', FN, '--id=math/q')
  (run / 'rollouts' / name).unlink()
  refused(r'there is no such file', f'--rollouts={run}', FN)
  refused('omit it', f'--rollouts={run}', FN, '--data=x')
  refused('--step=3: goes with a run', '--rollouts=no.jsonl', FN, '--step=3')
