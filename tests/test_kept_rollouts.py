"""The files of rollouts that a run leaves, whatever interrupts it.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import json
import random
import re
import shutil
import signal
import time

import gangs
import numpy as np
import pytest
import tiny
from runs import Command, kept_rollouts, ledger_of, metrics_of

from acereason_jax.data import archive

pytestmark = pytest.mark.usefixtures('compiled_once')
STEPS = 7
# As many as a step has: texts of all, thinned early.
MORE = '--config.keep.groups=3', '--config.keep.budget_gb=12e-6'
SAYS = '--config.judge.verify.fn=tiny_judge:says'
PROBES = '--config.filter.of=4', '--config.filter.max_solved=3'


@pytest.fixture(scope='module')
def command(folder, compiled):
  """A run of the three stages, given its workdir and flags."""
  return lambda *args, **kwargs: Command(
    folder, compiled, *args, **dict(config='staged_config') | kwargs
  )


@pytest.fixture(scope='module')
def reference(folder, command):
  workdir = folder / 'reference'
  command(workdir, '--config.checkpoint.keep=9').ends(0)
  return workdir


@pytest.fixture(scope='module')
def thinned(folder, command):
  """The run whose texts are too many."""
  workdir = folder / 'thinned'
  command(workdir, *MORE).ends(0)
  return workdir


def rows_of(workdir):
  """All rows, by place."""
  return {
    archive.place(name): archive.read_rows(content).to_pylist()
    for name, content in kept_rollouts(workdir).items()
    if archive.place(name)
  }


def texts_of(workdir):
  return {
    archive.place(name.split('/')[1]): archive.read_texts(content)
    for name, content in kept_rollouts(workdir).items()
    if name.startswith('texts/') and name.endswith('.parquet')
  }


def mean(rows, field):
  return sum(row[field] for row in rows) / len(rows)


def test_rows_recount_the_metrics(reference):
  rows = rows_of(reference)
  assert {p.step for p in rows if p.phase == 'train'} == {*range(1, STEPS + 1)}
  for values in metrics_of(reference):
    found = rows[archive.Place(values['step'], 'train')]
    assert {row['step'] for row in found} == {values['step']}
    tokens = sum(row['length'] for row in found)
    assert values['response_tokens'] == tokens
    assert values['response_length'] == pytest.approx(mean(found, 'length'))
    judged = [r for r in found if r['status'] in ('right', 'wrong', 'unparsed')]
    right = sum(row['status'] == 'right' for row in found)
    assert values['pass_rate'] == pytest.approx(right / len(judged))
    assert values['reward'] == pytest.approx(mean(judged, 'reward'))
    cut = sum(row['stop'] == 'length' for row in found)
    assert values['truncated_share'] == pytest.approx(cut / len(found))
    entropy = sum(row['entropy'] for row in found) / tokens
    assert values['entropy'] == pytest.approx(entropy, rel=1e-6)
    trained = [row for row in found if row['trained']]
    # Without a gradient one rollout is packed all the same.
    if trained:
      total = sum(row['length'] for row in trained)
      assert values['trained_tokens'] == total
    for row in found:
      assert row['solved'] == (row['status'] == 'right' and row['reward'] > 0)
      assert not row['trained'] or (row['counted'] and row['advantage'] != 0)


def test_rows_recount_the_ledger(reference):
  rows = rows_of(reference)
  records = [r for r in ledger_of(reference, STEPS) if r.kind == 'train']
  assert records
  for record in records:
    found = [
      row
      for row in rows[archive.Place(record.step, 'train')]
      if row['prompt'] == record.prompt
    ]
    # A prompt may be in a batch twice.
    groups = sum(
      r.step == record.step and r.prompt == record.prompt for r in records
    )
    if groups == 1:
      statuses = [row['status'] for row in found]
      assert statuses.count('right') == record.right
      assert statuses.count('wrong') == record.wrong
      assert sum(row['solved'] for row in found) == record.solved
      assert sum(row['length'] for row in found) == record.tokens
      assert {row['stage'] for row in found} == {record.stage}
      assert {row['domain'] for row in found} == {record.domain}


def test_rows_of_a_probe_recount_the_ledger(reference):
  """A row for each rollout that counted, and for no other."""
  rows = {
    p: found for p, found in rows_of(reference).items() if p[1] == 'probe'
  }
  assert rows.keys() == {archive.Place(2, 'probe')}
  records = [r for r in ledger_of(reference, STEPS) if r.kind == 'probe']
  (found,) = rows.values()
  assert len(found) == sum(r.rollouts for r in records) > len(records) > 0
  for record in records:
    mine = [row for row in found if row['prompt'] == record.prompt]
    assert [row['index'] for row in mine] == [*range(record.rollouts)]
    statuses = [row['status'] for row in mine]
    assert all(statuses.count(s) == getattr(record, s) for s in set(statuses))
    assert sum(row['solved'] for row in mine) == record.solved
    assert sum(row['length'] for row in mine) == record.tokens
    assert sum(row['stop'] == 'length' for row in mine) == record.truncated
    for row in mine:
      assert (row['stage'], row['domain']) == (record.stage, record.domain)
      assert row['step'] == record.step and row['kept'] == ''
      assert row['reward'] == float(row['status'] == 'right')
      assert row['logp'] < 0 < row['entropy']
      assert np.isnan(row['advantage'])
      assert not row['counted'] and not row['trained']


@pytest.mark.slow
def test_a_probe_killed_at_calls_leaves_the_same_rows(
  reference, folder, command
):
  """While it draws, after it, and in the first step of its stage."""
  workdir = folder / 'probed'
  # The number of a probe's step in the keys of its rollouts.
  probe = (1 << 30) + 1
  for script in (f'sample@{probe}', 'sample@2', 'judge@2', 'add@3'):
    assert command(workdir, script=script).end() == -signal.SIGKILL
    (workdir / 'starts.jsonl').unlink()
  command(workdir).ends(0)
  ours, theirs = kept_rollouts(workdir), kept_rollouts(reference)
  assert ours.keys() == theirs.keys() and ours == theirs


@pytest.mark.slow
def test_a_stage_that_is_over_at_once_leaves_the_rows_of_its_probe(
  folder, command
):
  """In the file of the next stage's probe, which is at the same step."""
  (folder / 'over.py').write_text(
    'import pathlib, tiny\n'
    'def get_config():\n'
    f'  c = tiny.config(pathlib.Path({str(folder)!r}))\n'
    '  none = dict(of=2, max_solved=0, keep_unsolved=False)\n'
    '  some = dict(of=3, max_solved=2)\n'
    '  c.stages = (dict(name="none", steps=1, filter=none),\n'
    '    dict(name="some", steps=1, filter=some))\n'
    '  return c\n'
  )
  whole, killed = folder / 'over', folder / 'over_killed'
  command(whole, config='over').ends(0)
  found = rows_of(whole)[archive.Place(0, 'probe')]
  stages = [row['stage'] for row in found]
  assert stages == sorted(stages) and set(stages) == {'none', 'some'}
  records = [r for r in ledger_of(whole, 1) if r.kind == 'probe']
  assert len(found) == sum(r.rollouts for r in records)
  run = command(killed, config='over', script=f'sample@{(1 << 30) + 1}')
  assert run.end() == -signal.SIGKILL
  command(killed, config='over').ends(0)
  assert kept_rollouts(killed) == kept_rollouts(whole)


def test_held_out_rows_recount_the_pass_rates(reference):
  rows, looks = rows_of(reference), 0
  summary = json.loads((reference / 'summary.json').read_text())
  known = [*metrics_of(reference), *summary['heldout']]
  for values in known:
    for name, rate in values.items():
      section, _, domain = name.partition('/')
      if section == 'heldout':
        phase = 'heldout' if values['step'] else 'before'
        found = [
          row
          for row in rows[archive.Place(values['step'], phase)]
          if row['domain'] == domain
        ]
        assert rate == pytest.approx(mean(found, 'solved'))
        assert {row['kept'] for row in found} == {'heldout'}
        assert all(np.isnan(row['advantage']) for row in found)
        looks += 1
  assert looks > 6
  assert {row['stage'] for row in rows[archive.Place(0, 'before')]} == {''}


def test_texts_are_those_of_whole_groups(reference):
  rows, texts = rows_of(reference), texts_of(reference)
  assert texts.keys() == {p for p in rows if p.phase != 'probe'}
  for place, found in texts.items():
    kept = [row for row in rows[place] if row['kept']]
    assert [(t.prompt, t.index) for t in found] == [
      (row['prompt'], row['index']) for row in kept
    ]
    if place.phase == 'train':
      assert 0 < len({row['prompt'] for row in kept}) <= 2 + 5
      # 4 rollouts a prompt.
      assert len(kept) % 4 == 0
    for text, row in zip(found, kept):
      assert len(text.tokens) == row['length']
      # Each token of the tiny tokenizer is a character, or special.
      is_character = np.array(text.tokens) >= len(tiny.SPECIAL)
      assert text.characters.tolist() == is_character.tolist()
      assert len(text.text) == is_character.sum()
      surprise = archive.SURPRISE.values(text.surprise).sum()
      assert surprise == pytest.approx(-row['logp'], rel=0.05)


@pytest.mark.slow
def test_killed_ten_times_the_files_are_the_same(thinned, folder, command):
  workdir = folder / 'killed'
  rng = random.Random(4)
  kills = 0
  for number in range(10):
    run = command(workdir, *MORE)
    if number:
      run.wait_for('attention of the update')
    time.sleep(rng.uniform(0, 4))
    run.process.kill()
    status = run.end()
    assert status in (0, -signal.SIGKILL), run.output
    kills += status != 0
    # Three starts in a row that are killed early would end the run.
    (workdir / 'starts.jsonl').unlink(missing_ok=True)
  assert kills
  command(workdir, *MORE).ends(0)
  ours, theirs = kept_rollouts(workdir), kept_rollouts(thinned)
  assert ours.keys() == theirs.keys()
  assert ours == theirs


def test_killed_at_calls_the_files_are_the_same(thinned, folder, command):
  workdir = folder / 'calls'
  for script in ('judge@1', 'add@4', 'sample@6'):
    assert command(workdir, *MORE, script=script).end() == -signal.SIGKILL
  command(workdir, *MORE).ends(0)
  assert kept_rollouts(workdir) == kept_rollouts(thinned)


def test_thinned_texts_are_within_their_budget(thinned, reference):
  """And their rows are those of a run that thinned nothing."""
  names = ('sizes.jsonl', '.parquet')
  files = kept_rollouts(thinned)
  texts = {n: c for n, c in files.items() if n.startswith('texts/')}
  assert all(name.endswith(names) for name in texts)
  sizes = [
    json.loads(line) for line in texts.pop('texts/sizes.jsonl').splitlines()
  ]
  assert sum(map(len, texts.values())) <= 12_000
  assert sum(size['bytes'] for size in sizes) > 12_000
  assert len(texts) < len(sizes) == len(texts_of(reference))
  columns = [name for name in archive.Row._fields if name != 'kept']
  bare = lambda rows: {
    place: [{n: str(row[n]) for n in columns} for row in found]
    for place, found in rows.items()
  }
  assert bare(rows_of(thinned)) == bare(rows_of(reference))


def test_from_an_earlier_checkpoint_later_files_go(reference, folder, command):
  workdir = folder / 'earlier'
  shutil.copytree(reference, workdir)
  for step in (6, 7):
    shutil.rmtree(workdir / 'checkpoints' / str(step))
  partial = workdir / 'rollouts' / 'texts' / '.00000006.parquet.abc.partial'
  partial.write_text('half')
  other = workdir / 'rollouts' / 'notes.txt'
  other.write_text("the user's")
  run = command(workdir)
  run.wait_for('going on after step 5')
  run.wait_for('step 6/')
  run.process.kill()
  run.end()
  steps = {place.step for place in rows_of(workdir)}
  assert max(steps) in (5, 6, 7) and not partial.exists()
  command(workdir).ends(0)
  files = kept_rollouts(workdir)
  assert files.pop('notes.txt') == b"the user's"
  assert files == kept_rollouts(reference)


def test_another_run_in_the_folder_of_one_that_saved_nothing(folder, command):
  """Its files are gone, not mixed."""
  workdir = folder / 'anew'
  flag, how = '--config.checkpoint.every=100', dict(script='says@step 2/')
  run = command(workdir, flag, config='tiny_config', **how)
  assert run.end() == -signal.SIGKILL
  command(workdir, '--config.steps=1', config='tiny_config').ends(0)
  assert {place.step for place in rows_of(workdir)} == {0, 1}


def test_no_texts_of_training(folder, command):
  workdir = folder / 'none'
  flags = '--config.keep.groups=0', '--config.steps=2'
  command(workdir, *flags, config='tiny_config').ends(0)
  assert {p.phase for p in texts_of(workdir)} == {'before', 'heldout'}
  assert {p.step for p in rows_of(workdir)} == {0, 1, 2}


def test_a_step_has_no_earlier_rollouts_in_memory(folder, command):
  """Neither those of the step before nor held-out answers, once written."""
  flags = '--config.steps=3', '--config.heldout.every=1'
  run = command(
    folder / 'memory', *flags, config='tiny_config', by='holding', script='all'
  )
  told = re.findall('of ([0-9]+) groups held ([0-9]+)', run.ends(0))
  assert len(told) == 3
  assert [held for _, held in told] == ['0'] * 3
  # The first step comes after a look, and each looks again.
  assert 0 < int(told[0][0]) < int(told[1][0]) < int(told[2][0])


@pytest.mark.hosts
def test_two_processes_leave_the_files_of_one(folder, command):
  """With the details of verdicts that only the other process gave."""
  two, one = folder / 'two', folder / 'one'
  flags = SAYS, *PROBES
  for run in gangs.start(command, two, 2, *flags, config='tiny_config'):
    run.ends(0)
  command(one, *flags, devices=2, config='tiny_config').ends(0)
  ours, theirs = kept_rollouts(two), kept_rollouts(one)
  assert ours.keys() == theirs.keys() and ours == theirs
  rows = rows_of(two)
  assert rows[archive.Place(0, 'probe')]
  for found in rows.values():
    for row in found:
      assert ' for ' in row['detail']
      assert len(row['detail']) == archive.DETAIL_CHARS


def test_numbers_of_the_trainer_recount_the_metrics(folder, command):
  """All groups of a batch are kept, so their codes have its means."""
  workdir = folder / 'numbers'
  flags = '--config.keep.groups=4', '--config.steps=3'
  command(workdir, *flags, config='tiny_config').ends(0)
  rows, texts = rows_of(workdir), texts_of(workdir)
  seen = 0
  for values in metrics_of(workdir):
    place = archive.Place(values['step'], 'train')
    trained = {
      (row['prompt'], row['index']) for row in rows[place] if row['trained']
    }
    found = [t for t in texts[place] if (t.prompt, t.index) in trained]
    assert len(found) == len(trained)
    if trained:
      entropy, mismatch = (
        scale.values(np.concatenate([getattr(t, name) for t in found]))
        for scale, name in (
          (archive.ENTROPY, 'entropy'),
          (archive.MISMATCH, 'mismatch'),
        )
      )
      # A code's bin is 4% of its value wide.
      assert entropy.mean() == pytest.approx(
        values['trained_entropy'], rel=0.03
      )
      assert mismatch.mean() == pytest.approx(values['mismatch'], rel=0.1)
      seen += len(entropy)
  assert seen > 100
