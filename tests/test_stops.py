"""A signal stops a run wherever it is, soon, and nothing is lost.

What it costs is seen in what the next start has to decode. Waiting has a
guard, which says that a run hangs; nothing here is timed.
"""

import json
import random
import re
import signal
import time

import gangs
import pytest
from runs import assert_same_run, metrics_of, saved_steps

STOPPED = 75


def wait_for_entries(run, file):
  """Until the journal's file has more than its head; the run goes on."""
  while not file.exists() or file.stat().st_size < 200:
    assert run.process.poll() is None, run.end()
    time.sleep(0.01)


def test_in_the_first_look_what_was_asked_is_kept(folder, command):
  flags = ['--config.heldout.per_prompt=20', '--config.steps=1']
  command(folder / 'looked', *flags).ends(0)
  workdir = folder / 'looks'
  run = command(workdir, *flags)
  wait_for_entries(run, workdir / 'journal' / '0-0.journal')
  run.process.send_signal(signal.SIGTERM)
  last = run.ends(STOPPED).splitlines()[-1]
  assert last == 'stopped before step 1 was saved; run it again'
  kept = (workdir / 'journal' / '0-0.journal').stat().st_size
  run = command(workdir, *flags)
  run.wait_for('held-out pass rate before')
  run.ends(0)
  assert kept > 200
  assert_same_run(workdir, folder / 'looked', 1)
  one, two = (
    json.loads((folder / name / 'summary.json').read_text())
    for name in ('looks', 'looked')
  )
  assert one['heldout'] == two['heldout']


def test_the_step_before_is_saved_and_the_rest_is_in_the_journal(
  folder, command
):
  flags = ['--config.checkpoint.every=1000', '--config.rollout.per_prompt=50']
  workdir = folder / 'rare'
  run = command(workdir, *flags, '--config.steps=1000')
  run.wait_for('\nstep 2/')
  wait_for_entries(run, workdir / 'journal' / '0-2.journal')
  run.process.send_signal(signal.SIGTERM)
  last = run.ends(STOPPED).splitlines()[-1]
  (done,) = saved_steps(workdir)
  assert last == f'stopped and saved after step {done}; run it again'
  assert done >= 2 and metrics_of(workdir)[-1]['step'] == done
  more = f'--config.steps={done + 1}'
  command(workdir, *flags, more).ends(0)
  command(folder / 'unbroken', *flags, more).ends(0)
  assert_same_run(workdir, folder / 'unbroken', done + 1)
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  row = json.loads(rows[-1])
  assert row['decoded_tokens'] < row['response_tokens']


def test_in_a_later_look_only_updates_are_made_again(folder, command):
  flags = ['--config.steps=2', '--config.heldout.per_prompt=20']
  flags += ['--config.heldout.every=1', '--config.checkpoint.every=1000']
  workdir, file = folder / 'later', folder / 'later' / 'journal/0-1.journal'
  run = command(workdir, *flags)
  run.wait_for('\nstep 1/')
  while not (file.exists() and b'"heldout"' in file.read_bytes()):
    time.sleep(0.01)
  run.process.send_signal(signal.SIGTERM)
  run.ends(STOPPED)
  command(workdir, *flags).ends(0)
  command(folder / 'sooner', *flags).ends(0)
  assert_same_run(workdir, folder / 'sooner', 2)
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['decoded_tokens'] for row in rows] == [0, 0]


def test_while_judges_work_it_does_not_wait_for_them(folder, command):
  """Their verdicts are asked again; those that came are kept."""
  command(folder / 'judged', '--config.steps=1').ends(0)
  flags = ['--config.steps=1', '--config.judge.verify.fn=tiny_judge:slow']
  workdir = folder / 'judges'
  run = command(workdir, *flags)
  file = workdir / 'journal' / '0-0.journal'
  # The held-out questions were judged, and then the 16 rollouts were drawn.
  run.wait_for('the first step')
  while len(re.findall(b'"train", *0', file.read_bytes())) < 16:
    time.sleep(0.01)
  run.process.send_signal(signal.SIGINT)
  run.ends(STOPPED)
  command(workdir, *flags).ends(0)
  assert_same_run(workdir, folder / 'judged', 1)


def test_while_a_model_is_read(folder, command):
  run = command(folder / 'reads', script='load@-1', by='hanging')
  run.wait_for('hangs')
  run.process.send_signal(signal.SIGTERM)
  last = run.ends(STOPPED).splitlines()[-1]
  assert last == 'stopped before the run began; run it again'


# Two processes.


@pytest.fixture(scope='module')
def gang(folder, command):
  """(workdir, flags) -> two processes of a run of three stages."""
  return lambda workdir, *flags: gangs.start(
    command, workdir, 2, *flags, config='staged_config'
  )


@pytest.fixture(scope='module')
def both(folder, gang):
  """The workdir of two processes that nothing disturbed."""
  keep = '--config.checkpoint.keep=7'
  workdir = folder / 'both'
  assert [run.end() for run in gang(workdir, keep)] == [0, 0]
  return workdir


@pytest.mark.hosts
def test_two_stop_together_wherever_one_is_told_to(folder, gang, both):
  """At random moments, by any signal, to any of them; five runs."""
  random.seed(0)
  seen = set()
  for i in range(5):
    workdir = folder / f'told-{i}'
    for _ in range(random.randint(1, 3)):
      runs = gang(workdir)
      # Moments are counted in lines, which no machine's speed changes.
      runs[0].wait_for('judge workers')
      for _ in range(random.randint(0, 9)):
        runs[0].output += runs[0].process.stdout.readline()
      time.sleep(random.random() / 2)
      told = random.choice(runs)
      told.process.send_signal(random.choice((signal.SIGTERM, signal.SIGINT)))
      ends = [run.end() for run in runs]
      assert ends in ([STOPPED] * 2, [0, 0]), [run.output for run in runs]
      assert all('Traceback' not in run.output for run in runs)
      seen.add(runs[0].output.splitlines()[-1])
      if ends == [0, 0]:
        break
    assert [run.end() for run in gang(workdir)] == [0, 0]
    assert_same_run(workdir, both, 7)
  assert len(seen) > 2, seen


@pytest.mark.hosts
def test_two_stop_after_a_signal_while_both_save(folder, command):
  """Orbax asks jax about preemption too, by steps: another counter."""
  how = dict(script='saved@2', by='hanging')
  runs = gangs.start(command, folder / 'saves', 2, '--config.steps=99', **how)
  for run in runs:
    run.wait_for('rests')
  runs[1].process.send_signal(signal.SIGTERM)
  assert [run.end() for run in runs] == [STOPPED] * 2, runs[0].output


@pytest.mark.hosts
def test_two_wait_for_judges_together(folder, command):
  """As many rounds on both, though one has nothing to wait for."""
  slow = '--config.judge.verify.fn=tiny_judge:slow'
  workdir = folder / 'waits'
  steps = '--config.steps=2'
  assert [
    run.end() for run in gangs.start(command, folder / 'fast', 2, steps)
  ] == [0, 0]
  runs = gangs.start(command, workdir, 2, steps, slow)
  runs[0].wait_for('the first step')
  time.sleep(2)
  runs[1].process.send_signal(signal.SIGTERM)
  assert [run.end() for run in runs] == [STOPPED] * 2, runs[0].output
  runs = gangs.start(command, workdir, 2, steps, slow)
  assert [run.end() for run in runs] == [0, 0], runs[0].output
  assert_same_run(workdir, folder / 'fast', 2)
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  for row in map(json.loads, rows):
    assert row['seconds_judge_slowest'] >= row['seconds_judge'] - 1e-6
    assert row['judge_slowest_process'] in (0, 1)


@pytest.mark.hosts
def test_a_probe_of_two_is_stopped_between_its_chunks(folder, gang, both):
  workdir = folder / 'probed'
  runs = gang(workdir)
  runs[0].wait_for('of 10 prompts decided')
  runs[1].process.send_signal(signal.SIGTERM)
  assert [run.end() for run in runs] == [STOPPED] * 2
  runs = gang(workdir)
  assert [run.end() for run in runs] == [0, 0]
  assert_same_run(workdir, both, 7)
