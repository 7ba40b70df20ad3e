"""launch/ starts runs of the tiny model: gangs, kills, sweeps, XManager."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import psutil
import pytest
import runs
import tiny

from launch import status

pytestmark = pytest.mark.hosts
ROOT = tiny.TESTS.parent
SCRIPT = str(ROOT / 'launch' / 'xm_launch.py')
# Enough that a signal comes before the end on a busy machine.
STEPS = '--config.steps=20'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp('tiny')
  tiny.write(made)
  return made


class Launched:
  """A launcher of tiny runs; its output is one text."""

  def __init__(self, words, folder, cache, *flags):
    self.output = ''
    self.process = subprocess.Popen(
      [*words, f'--config={folder / "tiny_config.py"}', *flags],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      cwd=ROOT,
      # XManager keeps a data base there.
      env=tiny.environment(cache) | dict(HOME=str(folder)),
    )
    self._guard = threading.Timer(runs.GUARD, self.process.kill)
    self._guard.start()

  def wait_for(self, text):
    while text not in self.output:
      line = self.process.stdout.readline()
      assert line, f'ended without {text!r}:\n{self.output}'
      self.output += line

  def end(self):
    try:
      self.output += self.process.communicate()[0]
    finally:
      self._guard.cancel()
      self.process.kill()
    return self.process.returncode

  def below(self, *words):
    """The processes that it started, and theirs, with these words."""
    found = psutil.Process(self.process.pid).children(recursive=True)
    return [p for p in found if set(words) <= set(p.cmdline())]


ALONE = (sys.executable, SCRIPT)
TRAINER = 'acereason_jax.train'


def assert_gone(processes):
  assert processes
  _, alive = psutil.wait_procs(processes, timeout=60)
  assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope='module')
def unbroken(folder, compiled, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  one = Launched(
    ALONE,
    folder,
    compiled,
    *('--hardware=cpu:2', f'--workdir={workdir}', '--', STEPS),
  )
  assert one.end() == 0, one.output
  assert 'Traceback' not in one.output
  # Process 0 tells of the run.
  assert '[0] step 20/20' in one.output
  return workdir


@pytest.mark.parametrize('index', [0, 1])
def test_a_kill_of_a_process_resumes(
  index, unbroken, folder, compiled, tmp_path
):
  one = Launched(
    ALONE,
    folder,
    compiled,
    *('--hardware=cpu:2', f'--workdir={tmp_path / "run"}', '--', STEPS),
  )
  one.wait_for('step 2/20')
  [victim] = one.below(TRAINER, f'--process={index}')
  victim.kill()
  assert one.end() == 0, one.output
  assert f'process {index}: -9' in one.output
  assert 'starting again' in one.output
  runs.assert_same_run(tmp_path / 'run', unbroken, 20)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_leaves_nothing(
  number, unbroken, folder, compiled, tmp_path
):
  flags = ('--hardware=cpu:2', f'--workdir={tmp_path / "run"}', '--', STEPS)
  one = Launched(ALONE, folder, compiled, *flags)
  one.wait_for('step 2/20')
  started = one.below()
  one.process.send_signal(number)
  ended = one.end()
  assert_gone(started)
  # Saved by both: after the launcher's kill the supervisor is told.
  assert ended == (75 if number == signal.SIGTERM else -number)
  assert runs.saved_steps(tmp_path / 'run')
  again = Launched(ALONE, folder, compiled, *flags)
  assert again.end() == 0, again.output
  assert 'going on after step' in again.output
  runs.assert_same_run(tmp_path / 'run', unbroken, 20)


SWEEP = (
  '--hardware=cpu:1',
  *('--sweep=optim.learning_rate=1e-2,1e-3', '--sweep=seed=0,1'),
)


def check_sweep(output, workdir):
  folders = sorted(path.name for path in workdir.iterdir())
  assert folders == [
    *('0-learning_rate=1e-2-seed=0', '1-learning_rate=1e-2-seed=1'),
    *('2-learning_rate=1e-3-seed=0', '3-learning_rate=1e-3-seed=1'),
  ]
  seen = set()
  for name in folders:
    config = json.loads((workdir / name / 'config.json').read_text())
    seen.add((config['optim']['learning_rate'], config['seed']))
    assert (workdir / name / 'summary.json').exists()
  assert seen == {(1e-2, 0), (1e-2, 1), (1e-3, 0), (1e-3, 1)}
  # One after the other.
  times = [
    (
      (workdir / name / 'config.json').stat().st_mtime,
      (workdir / name / 'summary.json').stat().st_mtime,
    )
    for name in folders
  ]
  assert [t for pair in times for t in pair] == sorted(
    t for pair in times for t in pair
  )
  rows = status.table(str(workdir)).splitlines()[1:]
  assert [row.split()[1] for row in rows] == ['done'] * 4


def test_a_sweep_alone(folder, compiled, tmp_path):
  one = Launched(
    ALONE,
    folder,
    compiled,
    *(*SWEEP, f'--workdir={tmp_path / "runs"}', '--', '--config.steps=2'),
  )
  assert one.end() == 0, one.output
  check_sweep(one.output, tmp_path / 'runs')


def by_xmanager():
  """The command; XManager comes with the extra [launch]."""
  pytest.importorskip('xmanager')
  name = str(pathlib.Path(sys.executable).with_name('xmanager'))
  return (name, 'launch', SCRIPT, '--')


def test_a_sweep_by_xmanager(folder, compiled, tmp_path):
  one = Launched(
    by_xmanager(),
    folder,
    compiled,
    *(*SWEEP, f'--workdir={tmp_path / "runs"}', '--', '--config.steps=2'),
  )
  assert one.end() == 0, one.output
  check_sweep(one.output, tmp_path / 'runs')


def test_a_kill_under_xmanager(unbroken, folder, compiled, tmp_path):
  one = Launched(
    by_xmanager(),
    folder,
    compiled,
    *('--hardware=cpu:2', f'--workdir={tmp_path / "run"}', '--', STEPS),
  )
  one.wait_for('step 2/20')
  [victim] = one.below(TRAINER, '--process=1')
  victim.kill()
  assert one.end() == 0, one.output
  runs.assert_same_run(tmp_path / 'run', unbroken, 20)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_xmanager_leaves_nothing(number, folder, compiled, tmp_path):
  one = Launched(
    by_xmanager(),
    folder,
    compiled,
    *('--hardware=cpu:2', f'--workdir={tmp_path / "run"}', '--', STEPS),
  )
  one.wait_for('step 2/20')
  started = one.below()
  os.kill(one.process.pid, number)
  one.end()
  assert_gone(started)
