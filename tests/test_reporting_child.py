"""The report that a run writes by itself: it never harms the run."""

import json
import os
import pathlib
import time
import types

import pytest
import tiny
from runs import GUARD, Command, metrics_of

from acereason_jax.console import signals
from acereason_jax.run import build, folder, reporting_child, whole

pytestmark = pytest.mark.usefixtures('compiled_once')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  tiny.write(path)
  return path


@pytest.fixture
def own(monkeypatch):
  monkeypatch.setattr(reporting_child, 'MODULE', 'own_report')


def tools(stop=signals.NEVER):
  return types.SimpleNamespace(stop=stop)


def place(path, how):
  path.mkdir(exist_ok=True)
  (path / 'how').write_text(how)
  return folder.Folder(str(path), path, {})


def until(condition):
  """Waits for it, but not for ever: that is no measure of time."""
  ends = time.monotonic() + GUARD
  while not condition():
    assert time.monotonic() < ends
    time.sleep(0.01)


def gone(pid):
  """Whether a process has ended; one that nobody has waited for counts."""
  try:
    state = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return True
  return state.rpartition(')')[2].split()[0] == 'Z'


def test_how_a_report_is_started(tmp_path, own, monkeypatch, capsys):
  monkeypatch.setenv('SECRET_TOKEN', 'x')
  monkeypatch.chdir(tmp_path)
  with reporting_child.Reporter(place(tmp_path / 'run', 'write')) as reporter:
    reporter.finish(tools())
  told = json.loads((tmp_path / 'run' / 'report.html').read_text())
  # It waited for the lowest priority.
  assert told['session']
  assert told['variables']['JAX_PLATFORMS'] == 'cpu'
  assert 'SECRET_TOKEN' not in told['variables']
  assert 'HOME' not in told['variables']
  assert '--trusted' in told['flags']
  assert 'report.html: the report of the run' in capsys.readouterr().out
  log = (tmp_path / 'run' / 'report.log').read_text()
  assert log == 'told to write\n'


def test_a_bucket_gets_what_leads_there(monkeypatch):
  monkeypatch.setenv('GOOGLE_APPLICATION_CREDENTIALS', '/key.json')
  monkeypatch.setenv('HOME', '/home/me')
  monkeypatch.setenv('SECRET_TOKEN', 'x')
  there = reporting_child.environment(True)
  assert there['GOOGLE_APPLICATION_CREDENTIALS'] == '/key.json'
  assert there['HOME'] == '/home/me' and 'SECRET_TOKEN' not in there
  assert 'HOME' not in reporting_child.environment(False)


def test_a_report_that_crashes_is_a_warning(tmp_path, own, capsys):
  with reporting_child.Reporter(place(tmp_path, 'crash')) as reporter:
    reporter.finish(tools())
  said = capsys.readouterr().out
  assert said.startswith('WARNING: ') and 'report.log says why' in said
  assert 'a report that crashes' in (tmp_path / 'report.log').read_text()


def test_a_report_that_cannot_be_started_is_a_warning(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(reporting_child.sys, 'executable', '/nothing/there')
  with reporting_child.Reporter(place(tmp_path, 'write')) as reporter:
    reporter.finish(tools())
  assert 'WARNING: no report is written' in capsys.readouterr().out


def test_one_report_at_a_time_and_none_is_left(tmp_path, own):
  """Neither the report nor the judges that it started."""
  there = place(tmp_path, 'hang')
  pids = tmp_path / 'pids'
  with reporting_child.Reporter(there) as reporter:
    seen = []
    for _ in range(2):
      pids.unlink(missing_ok=True)
      reporter.begin()
      until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
      until(lambda: all(map(gone, seen)))
      seen.extend(map(int, pids.read_text().split()))
    assert not any(map(gone, seen[2:]))
  until(lambda: all(map(gone, seen)))


def test_the_wait_at_the_end_is_bounded(tmp_path, own, monkeypatch, capsys):
  monkeypatch.setattr(reporting_child, 'SECONDS', 0.0)
  with reporting_child.Reporter(place(tmp_path, 'hang')) as reporter:
    reporter.finish(tools())
  assert 'no report yet: python -m own_report' in capsys.readouterr().out


def test_the_wait_at_the_end_heeds_signals(tmp_path, own, capsys):
  stop = types.SimpleNamespace(asked=lambda: True)
  with reporting_child.Reporter(place(tmp_path, 'hang')) as reporter:
    reporter.finish(tools(stop))
  assert 'no report yet' in capsys.readouterr().out


def test_other_processes_of_a_run_write_none(tmp_path, own, monkeypatch):
  monkeypatch.setattr(reporting_child.jax, 'process_index', lambda: 1)
  with reporting_child.Reporter(place(tmp_path, 'write')) as reporter:
    reporter.finish(tools())
  assert os.listdir(tmp_path) == ['how']


def trained(files, workdir, how):
  """Runs the tiny config here; the files that it leaves, by name."""
  place(workdir, how)
  config = tiny.config(files)
  with config.unlocked():
    config.steps = 2
  assert whole.train(build.build(config), workdir) == 0
  return {
    str(path.relative_to(workdir)): path.read_bytes()
    for path in workdir.rglob('*')
    # Names of others' files differ from run to run.
    if path.is_file() and not {'tensorboard', 'checkpoints'} & {*path.parts}
  }


def test_a_run_does_not_care_about_its_report(files, tmp_path, own):
  runs = {
    how: trained(files, tmp_path / how, how) for how in ('write', 'crash')
  }
  good, bad = (runs[how] for how in ('write', 'crash'))
  assert good.keys() - bad.keys() == {'report.html'}
  assert not bad.keys() - good.keys()
  assert metrics_of(tmp_path / 'write') == metrics_of(tmp_path / 'crash')
  same = [name for name in bad if name.startswith('rollouts/')]
  assert all(good[name] == bad[name] for name in same)


def test_a_real_run_leaves_its_page(files, compiled, tmp_path):
  """From the shell, with the report's own command."""
  command = Command(files, compiled, tmp_path / 'run', fresh=True)
  said = command.ends(0)
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'report.html: the report of the run' in said
  assert page.startswith('<!DOCTYPE html>')
  for words in ('step 4', 'over', 'tiny_config'):
    assert words in page
