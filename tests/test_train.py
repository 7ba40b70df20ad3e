"""The real command, over a tiny model: files, kills, signals, a full disk.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import time

import gangs
import jax
import numpy as np
import pytest
import tiny
from runs import (
  assert_same_run,
  metrics_of,
  saved_steps,
  state_of,
)

from acereason_jax import export, train
from acereason_jax.models import decoder, hf
from acereason_jax.run import saving

pytestmark = pytest.mark.usefixtures('compiled_once')
STEPS = 10
STOPPED = 75


@pytest.fixture(scope='module')
def reference(folder, command):
  """(workdir, printed text of each start): 4 steps, again, then up to STEPS."""
  workdir, keep = folder / 'reference', f'--config.checkpoint.keep={STEPS}'
  said = [
    command(workdir, keep).ends(0),
    command(workdir, keep).ends(0),
    command(workdir, keep, f'--config.steps={STEPS}').ends(0),
  ]
  return workdir, said


def test_a_run_leaves_its_record(reference):
  workdir, said = reference
  summary = json.loads((workdir / 'summary.json').read_text())
  assert set(summary) == {
    'heldout_before',
    'heldout_after',
    'heldout',
    'best_step',
    'steps',
    'seconds',
    'peak_gb',
    'seed',
  }
  assert summary['steps'] == STEPS
  assert json.loads((workdir / 'config.json').read_text())['steps'] == STEPS
  metrics = metrics_of(workdir)
  assert [m['step'] for m in metrics] == list(range(1, STEPS + 1))
  assert any(m['grad_norm'] > 0 for m in metrics)
  raw = (workdir / 'metrics.jsonl').read_text().splitlines()
  for values in map(json.loads, raw):
    share = values['seconds_judge'] / values['seconds_step']
    assert 0 <= share < 1
    assert values['judge_wait_share'] == pytest.approx(share)
    for kind in ('seconds', 'cpu_seconds'):
      phases = [values[f'{kind}_{p}'] for p in ('sample', 'judge', 'update')]
      # The rest of a step draws prompts and counts.
      assert min(phases) >= 0 and sum(phases) <= values[f'{kind}_step']
  assert list((workdir / 'tensorboard').glob('events.out.tfevents.*'))
  # Three samples each second step.
  assert said[0].count('  rollout 0  ') == 6
  assert said[0].count('\nstep ') == 4


def test_a_finished_run_says_so_and_a_larger_number_of_steps_goes_on(reference):
  _, (first, again, longer) = reference
  assert again.startswith('finished already: {"heldout_before": ')
  assert again.count('\n') == 1
  before = first.partition('held-out pass rate before: ')[2].split('\n')[0]
  assert re.fullmatch(r'\d+\.\d% \+-\d+\.\d', before)
  assert f'held-out pass rate: {before} before' in first
  assert 'going on after step 4\n' in longer
  assert f'held-out pass rate: {before} before' in longer
  assert 'step 4/' not in longer and f'step 5/{STEPS}' in longer


def test_killed_and_stopped_anywhere_a_run_ends_the_same(
  folder, command, reference
):
  workdir, steps = folder / 'killed', f'--config.steps={STEPS}'
  said = command(workdir, steps, script='SIGINT:says@compiling').ends(STOPPED)
  last = said.splitlines()[-1]
  assert last == 'stopped before step 1 was saved; run it again'
  for script in ('judge@1', 'sample@2', 'add@2', 'save@3'):
    assert command(workdir, steps, script=script).end() == -signal.SIGKILL
  # It ends if the kill is late.
  run = command(workdir, '--config.steps=6')
  run.wait_for('\nstep ')
  time.sleep(random.uniform(0, 0.1))  # A step takes about that.
  run.process.kill()
  run.end()
  for script, done in (('SIGTERM:says@step 7/', 7), ('SIGINT:says@step 8/', 8)):
    # A long run: it must be stopped, not end.
    run = command(workdir, '--config.steps=100000', script=script)
    said = run.ends(STOPPED)
    assert '\ngoing on after step ' in said
    last = said.splitlines()[-1]
    assert last == f'stopped and saved after step {done}; run it again'
    assert metrics_of(workdir)[-1]['step'] == saved_steps(workdir)[-1] == done
  command(workdir, steps).ends(0)
  other, _ = reference
  # These ended at steps 6 and 4 once, and looked how good they were.
  assert_same_run(workdir, other, STEPS, but=('heldout',))
  one, two = (
    json.loads((d / 'summary.json').read_text()) for d in (workdir, other)
  )
  for name in ('heldout_before', 'heldout_after', 'steps', 'seed'):
    assert one[name] == two[name]


@pytest.mark.slow
def test_a_run_that_asks_nothing_before_takes_the_same_steps(
  reference, folder, command
):
  workdir, flags = folder / 'at_once', ['--config.heldout.before=False']
  run = command(workdir, *flags, script='says@step 2/')
  assert run.end() == -signal.SIGKILL
  said = run.output + command(workdir, *flags, '--config.steps=4').ends(0)
  assert 'pass rate before' not in said and ' before, ' not in said
  assert re.search(r'held-out pass rate: \d+\.\d%( \+-\d+\.\d)? after', said)
  assert_same_run(workdir, reference[0], 4)
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['heldout_before'] is None
  assert [end['step'] for end in summary['heldout']] == [4]


def test_a_judge_that_hangs_ends_the_run_with_one_line(tmp_path, command):
  judge = ['verify.fn=tiny_judge:hangs', 'timeout_seconds=3', 'batch_seconds=4']
  said = command(tmp_path, *(f'--config.judge.{j}' for j in judge)).ends(1)
  last = said.splitlines()[-1]
  failed = re.search(r'(\d+) of (\d+) verdicts failed, a larger share', last)
  assert failed[1] == failed[2] and ': timeout: ' in last


def test_a_hangup_saves_as_other_signals_do(folder, command):
  workdir = folder / 'hung_up'
  run = command(workdir, '--config.steps=100000')
  run.wait_for('\nstep 1/')
  run.process.send_signal(signal.SIGHUP)
  last = run.ends(STOPPED).splitlines()[-1]
  done = saved_steps(workdir)[-1]
  assert last == f'stopped and saved after step {done}; run it again'


def test_a_run_is_exported_as_it_was_saved(reference, folder, tmp_path):
  workdir, _ = reference
  assert export.export(workdir, str(tmp_path / 'out')) == STEPS
  specs = decoder.param_specs(decoder.DecoderConfig.from_hf(tiny.LLAMA))
  params = hf.load(str(tmp_path / 'out'), specs, dtype=np.float32)
  saved = state_of(workdir, STEPS)['params']
  assert jax.tree.structure(params) == jax.tree.structure(saved)
  for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(saved)):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
  for name in ('config.json', 'tokenizer.json'):
    copied = (tmp_path / 'out' / name).read_bytes()
    assert copied == (folder / 'model' / name).read_bytes()
  with pytest.raises(OSError, match=r'holds no checkpoint'):
    (tmp_path / 'config.json').write_text((workdir / 'config.json').read_text())
    export.export(tmp_path, str(tmp_path / 'other'))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'optim.learning_rate': 0.5}, 'optim.learning_rate: 0.01 -> 0.5; use an'),
    (
      {'judge.verify.fn': 'tiny_judge:fail'},
      'judge.verify.fn: "tiny_judge:verify" -> ',
    ),
    ({'steps': 2}, 'config.steps=2: this workdir holds a run that has taken'),
  ],
)
def test_a_run_that_cannot_go_on_says_why(reference, folder, changes, message):
  workdir, _ = reference
  config = tiny.config(folder)
  config.update_from_flattened_dict(changes)
  with pytest.raises(SystemExit, match=re.escape(message)) as caught:
    train.train(train.build(config), workdir)
  assert str(caught.value).startswith('error: ')
  assert '\n' not in str(caught.value)


MATH = 'acereason_jax.verifiers.math:reference'
BAD = {'f': '\\frac{', 'b': '', 'z': '1/0', 'g': '\\sqrt{x', 's': '   '}


def write_mixed(path):
  """The questions of `tiny`, bad references among them and one held out."""
  tiny.write_questions(path, 10)
  with path.open('a') as file:
    for name, answer in BAD.items():
      row = dict(id=f'bad-{name}', prompt=f'{name}+1?', answer=answer)
      file.write(json.dumps(row) + '\n')
    held_out = dict(id='of-another-id', prompt='50+50?', answer='0')
    file.write(json.dumps(held_out) + '\n')
  return path


def test_rows_that_no_judge_can_read_are_left_out_for_good(
  folder, command, tmp_path
):
  data = write_mixed(tmp_path / 'mixed.jsonl')
  workdir, straight = tmp_path / 'stopped', tmp_path / 'straight'
  flags = f'--config.train_data.path={data}', f'--config.judge.reference={MATH}'
  said = command(workdir, *flags, '--config.steps=2').ends(0)
  file = workdir / 'dropped.jsonl'
  assert (
    'train_data: dropped 1 of 16 rows whose question is in heldout_data: '
    f'of-another-id; all in {file}\n'
    'train_data: dropped 5 of 16 rows whose reference the judge cannot read: '
    f'bad-f, bad-b, bad-z, bad-g, bad-s; all in {file}\n'
  ) in said
  dropped = [json.loads(line) for line in file.read_text().splitlines()]
  assert {d['id']: d['answer'] for d in dropped} == {
    f'bad-{name}': answer for name, answer in BAD.items()
  } | {'of-another-id': '0'}
  assert all(d['source'] == 'train_data' and d['reason'] for d in dropped)

  whole = data.read_text()
  data.write_text(
    whole.replace('"1+1?", "answer": "1"', '"1+1?", "answer": "0"')
  )
  refused = command(workdir, *flags).ends(1).splitlines()[-1]
  assert refused.startswith('error: config.train_data: gives other data than')
  assert 'another --workdir' in refused

  # It goes by what its checkpoint holds: nothing is asked again.
  data.write_text(whole)
  file.unlink()
  assert 'rows whose' not in command(workdir, *flags).ends(0)
  command(straight, *flags).ends(0)
  assert (straight / 'dropped.jsonl').exists() and not file.exists()
  # The first of them ended at step 2, too.
  assert_same_run(workdir, straight, 4, but=('heldout',))


def test_another_optimizer_by_flag(folder, command):
  workdir = folder / 'lion'
  command(
    workdir, '--config.optim.transform.fn=optax:lion', '--config.steps=1'
  ).ends(0)
  state = state_of(workdir, 1)
  # Lion has one moment, Adam two.
  count = lambda tree: sum(np.size(x) for x in jax.tree.leaves(tree))
  assert count(state['params']) < count(state['opt_state'])
  assert count(state['opt_state']) < 1.5 * count(state['params'])


@pytest.mark.slow
def test_moments_may_move_between_steps(folder, command, reference):
  workdir = folder / 'moved'
  # Away, back, and away for two steps of one start.
  for done, offload in ((1, True), (2, False), (4, True)):
    where = f'--config.optim.offload={offload}', f'--config.steps={done}'
    command(workdir, *where).ends(0)
  other, _ = reference
  # It ended three times, and looked how good it was.
  assert_same_run(workdir, other, 4, but=('heldout',))


ADAPTERS = '--config.lora.rank=4', '--config.lora.alpha=8'


@pytest.fixture(scope='module')
def adapted(folder, command):
  """(workdir, printed text) of a run that trains adapters."""
  workdir = folder / 'adapted'
  return workdir, command(workdir, *ADAPTERS).ends(0)


def test_adapters_by_flag(adapted, reference):
  workdir, said = adapted
  # rank * (in + out) of q and o, k and v, gate and up and down, twice.
  count = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
  assert f'trains {count:,} parameters beside ' in said
  assert 'WARNING' not in said
  state = state_of(workdir, 4)
  sizes = lambda tree: sum(np.size(x) for x in jax.tree.leaves(tree))
  assert sizes(state['params']) == count
  assert sizes(state['opt_state']) == 2 * count + 1
  assert not jax.tree.leaves(state.get('frozen'))
  moved = [np.abs(x).max() for x in jax.tree.leaves(state['params']['layers'])]
  assert min(moved) > 0 and len(moved) == 14
  # The same model is asked, whatever of it is trained.
  before = [
    json.loads((d / 'summary.json').read_text())['heldout_before']
    for d in (workdir, reference[0])
  ]
  assert before[0] == before[1]
  assert (
    metrics_of(workdir)[0]['reward'] == metrics_of(reference[0])[0]['reward']
  )


@pytest.mark.slow
def test_killed_with_adapters_a_run_ends_the_same(folder, command, adapted):
  workdir = folder / 'adapted_killed'
  for script in ('sample@0', 'add@1', 'save@2'):
    run = command(workdir, *ADAPTERS, script=script)
    assert run.end() == -signal.SIGKILL
  assert 'going on after step' in command(workdir, *ADAPTERS).ends(0)
  assert_same_run(workdir, adapted[0], 4)


def test_adapters_are_exported_in_a_model(adapted, folder, tmp_path):
  workdir, _ = adapted
  assert export.export(workdir, str(tmp_path / 'out')) == 4
  config = decoder.DecoderConfig.from_hf(tiny.LLAMA)
  model = decoder.make_model(config)
  load = lambda path: hf.load(str(path), model.specs, dtype=np.float32)
  got, source = load(tmp_path / 'out'), load(folder / 'model')
  layers = state_of(workdir, 4)['params']['layers']
  for n, x in source['layers'].items():
    if f'{n}_a' in layers:
      a, b = (np.float64(layers[n + end]) for end in ('_a', '_b'))
      np.testing.assert_allclose(
        got['layers'][n], x + 8 / 4 * np.matmul(b, a), rtol=1e-5, atol=1e-6
      )
      assert (np.asarray(got['layers'][n]) != x).mean() > 0.9
    else:
      np.testing.assert_array_equal(got['layers'][n], x)
  for n in ('embed', 'final_norm'):
    np.testing.assert_array_equal(got[n], source[n])
  # The logits of the run's own weights, as its rollouts read them.
  c = tiny.config(folder)
  c.lora.update(rank=4, alpha=8)
  c.mesh.update(fsdp=1, data=-1)
  run = train.build(c)
  with saving.Checkpoints(workdir, keep=2) as checkpoints:
    restored = checkpoints.restore(run.stages[0].abstract_state.saved())
  state = restored.state.replace(frozen=run.load_frozen())
  whole = run.rollout_params(state.weights)
  tokens_BT = np.arange(24).reshape(2, 12)
  logits = jax.jit(
    lambda params: (
      model.apply(
        params,
        tokens_BT,
        np.broadcast_to(np.arange(12), (2, 12)),
        np.ones_like(tokens_BT),
        np.zeros_like(tokens_BT),
      )
      @ model.head(params).T
    )
  )
  np.testing.assert_allclose(
    logits(jax.device_get(whole)),
    logits(jax.device_get(got)),
    rtol=1e-5,
    atol=1e-5,
  )


def test_adapters_want_the_model_that_they_were_trained_beside(
  adapted, folder, command, tmp_path
):
  shutil.copytree(adapted[0], tmp_path / 'run')
  file = folder / 'model' / 'model.safetensors'
  whole = file.read_bytes()
  try:
    # One bit of the last weight.
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    steps = '--config.steps=5'
    said = command(tmp_path / 'run', *ADAPTERS, steps).ends(1)
    assert 'error: config.model: files of another content than this' in said
    with pytest.raises(ValueError, match='not the model that the adapters of'):
      export.export(tmp_path / 'run', str(tmp_path / 'out'))
  finally:
    file.write_bytes(whole)
  assert 'going on after' in command(tmp_path / 'run', *ADAPTERS, steps).ends(0)


def write_tasks(path, first):
  """Questions whose answers are tasks: print the input, or one more."""
  rows = []
  for i in range(first, first + 10):
    test = dict(stdin='7', expected=str(7 + i % 2))
    answer = json.dumps(dict(kind='stdin', tests=[test]))
    rows.append(dict(id=f'{path.stem}-{i}', prompt=f'{i}+?', answer=answer))
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def test_a_run_on_programs(folder, command, tmp_path):
  train_data = write_tasks(tmp_path / 'train.jsonl', 10)
  heldout_data = write_tasks(tmp_path / 'heldout.jsonl', 50)
  flags = [
    f'--config.train_data.path={train_data}',
    f'--config.heldout_data.path={heldout_data}',
    '--config.judge.verify.fn=tiny_judge:program',
    '--config.judge.reference=acereason_jax.verifiers.code:reference',
    '--config.judge.confine=False',
    '--config.steps=2',
  ]
  said = command(tmp_path / 'short', *flags).ends(1).splitlines()[-1]
  if 'runs no jail' in said:
    pytest.skip(said)
  assert said.startswith('error: config.judge: timeout_seconds=60: with budget')
  flags.append('--config.judge.timeout_seconds=300')
  said = command(tmp_path / 'run', *flags).ends(0)
  assert re.search('judge workers: not confined; programs: T[23] land', said)
  rows = metrics_of(tmp_path / 'run')
  rates = [row['pass_rate'] for row in rows if 'pass_rate' in row]
  assert len(rates) == 2
  assert all(0 < rate < 1 for rate in rates)


def test_a_judge_that_fails_stops_the_run(folder, command):
  said = command(
    folder / 'bad', '--config.judge.verify.fn=tiny_judge:fail'
  ).ends(1)
  last = said.splitlines()[-1]
  assert last.startswith(f'error: {folder / "bad"}: 6 of 6 verdicts failed')
  assert 'config.judge.max_failed_share=0.05' in last
  assert 'the judge has a bad day' in last


@contextlib.contextmanager
def small_disk(path, megabytes):
  path.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'none', path]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('cannot mount a small file system; needs root')
  try:
    yield path
  finally:
    subprocess.run(['umount', '-l', path], check=True)


def test_a_full_disk_costs_one_line_and_no_checkpoint(
  folder, command, reference
):
  with small_disk(folder / 'disk', 4) as workdir:
    shutil.copytree(reference[0], workdir, dirs_exist_ok=True)
    shutil.rmtree(workdir / 'checkpoints')
    last = reference[0] / 'checkpoints' / str(STEPS)
    shutil.copytree(last, workdir / 'checkpoints' / str(STEPS))
    filler = workdir / 'filler'
    with contextlib.suppress(OSError), filler.open('wb') as file:
      while True:
        file.write(bytes(4096))
        file.flush()
    longer = f'--config.steps={STEPS + 2}'
    said = command(workdir, longer).ends(1)
    last = said.splitlines()[-1]
    assert last.startswith('error: ') and 'o space left on' in last
    assert str(workdir) in last
    filler.unlink()
    said = command(workdir, longer).ends(0)
    assert f'going on after step {STEPS}\n' in said


def test_a_device_that_is_not_there_is_a_line(folder, command):
  how = dict(fresh=True, env=dict(JAX_PLATFORMS='cuda'))
  said = command(folder / 'cuda', **how).ends(1)
  assert (
    'error: JAX_PLATFORMS=cuda: jax cannot use such a device here (' in said
  )


@pytest.mark.hosts
def test_two_processes_train_as_one(folder, command):
  data = write_mixed(folder / 'two.jsonl')
  flags = [
    '--config.steps=2',
    f'--config.train_data.path={data}',
    f'--config.judge.reference={MATH}',
  ]
  workdir = folder / 'two'
  said, silent = (r.ends(0) for r in gangs.start(command, workdir, 2, *flags))
  assert 'step 2/2' in said and 'step' not in silent
  command(folder / 'one', *flags, devices=2).ends(0)
  dropped = [folder / name / 'dropped.jsonl' for name in ('two', 'one')]
  assert len(dropped[0].read_text().splitlines()) == 1 + len(BAD)
  assert dropped[0].read_text() == dropped[1].read_text()
  two, one = state_of(workdir, 2), state_of(folder / 'one', 2)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    two['params'],
    one['params'],
  )


@pytest.mark.hosts
def test_an_error_in_one_process_ends_both(folder, command):
  flags = gangs.flags(2)
  workdir = folder / 'both'
  first = command(workdir, *flags[0])
  second = command(workdir, *flags[1], '--config.model=absent')
  said = second.ends(1)
  assert "error: model='absent': no such directory" in said
  assert first.end() != 0
