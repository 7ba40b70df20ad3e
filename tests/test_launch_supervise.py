"""The supervisor of a gang on this machine: real processes, signals, kills.

The processes are small scripts here; the trainer's own are marked slow. Waiting
has a guard, which says that something hangs; nothing is timed.
"""

import contextlib
import itertools
import signal
import subprocess
import sys
import textwrap
import threading

import psutil
import pytest
import tiny

from launch import job, supervise

ROOT = tiny.TESTS.parent
GUARD = 300
# A process of a gang: it says who it is and does what the test wants. It has no
# buffer: a signal's handler must not print while a print is not over.
HEAD = """
import os, pathlib, signal, sys, time
index = next((a[10:] for a in sys.argv if a.startswith('--process=')), '0')
folder = pathlib.Path(sys.argv[1])
def say(text):
  os.write(1, f'{text}\\n'.encode())
def count():
  file = folder / f'starts-{index}'
  starts = len(file.read_text()) + 1 if file.exists() else 1
  file.write_text('x' * starts)
  return starts
def forever():
  while True:
    time.sleep(60)
def saves(*_):
  say('saving')
  os._exit(75)
start = count()
"""


class Started:
  """A process with a guard; its output is one text."""

  def __init__(self, words, **how):
    self.process = subprocess.Popen(
      words,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      cwd=ROOT,
      **how,
    )
    self.output = ''
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()

  def wait_for(self, text, times=1):
    while self.output.count(text) < times:
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


def gang(folder, body, *flags, count=2):
  (folder / 'one.py').write_text(HEAD + textwrap.dedent(body))
  return [
    *(sys.executable, '-m', 'launch.supervise', f'--processes={count}'),
    *flags,
    *('--', sys.executable, str(folder / 'one.py'), str(folder)),
    f'--workdir={folder}',
  ]


def below(pid):
  """The living processes that a process has started, and theirs."""
  with contextlib.suppress(psutil.NoSuchProcess):
    return psutil.Process(pid).children(recursive=True)
  return []


def assert_gone(processes):
  """They end, though nobody waits for them."""
  assert processes
  _, alive = psutil.wait_procs(processes, timeout=GUARD)
  assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def starts(folder):
  return [len(p.read_text()) for p in sorted(folder.glob('starts-*'))]


def test_a_gang_ends_well(tmp_path):
  """Lines are whole, and safe to show."""
  one = Started(gang(tmp_path, 'say("an ä\\u2028\\x1b[31m end")'))
  assert one.end() == 0
  assert sorted(one.output.splitlines()) == [
    f'[{i}] an ä\\u2028\\x1b[31m end' for i in range(2)
  ]
  assert starts(tmp_path) == [1, 1]


def test_who_is_who(tmp_path):
  one = Started(gang(tmp_path, 'say(" ".join(sys.argv[3:]))', count=3))
  assert one.end() == 0
  told = sorted(one.output.splitlines())
  places = {line.split()[1] for line in told}
  assert len(places) == 1 and places.pop().startswith('--coordinator=127.0.0.1')
  assert [line.split()[2:] for line in told] == [
    ['--processes=3', f'--process={i}'] for i in range(3)
  ]
  assert [line[:4] for line in told] == ['[0] ', '[1] ', '[2] ']


def test_one_process_is_told_nothing(tmp_path):
  one = Started(gang(tmp_path, 'say(sys.argv[3:])', count=1))
  assert one.end() == 0
  assert one.output == '[]\n'


@pytest.mark.parametrize('code', [1, 2])
def test_an_error_of_the_user_is_the_end(code, tmp_path):
  body = f'sys.exit({code} if index == "1" else 70)'
  one = Started(gang(tmp_path, body))
  assert one.end() == code
  assert starts(tmp_path) == [1, 1]


@pytest.mark.parametrize('code', [75, 3])
def test_it_starts_again(code, tmp_path):
  one = Started(gang(tmp_path, f'sys.exit({code} if start == 1 else 0)'))
  assert one.end() == 0
  assert starts(tmp_path) == [2, 2]
  assert f'process 0: {code}, process 1: {code}' in one.output


def test_a_killed_process_ends_its_peers(tmp_path):
  body = """
  if start > 1: sys.exit(0)
  if index == '1': os.kill(os.getpid(), 9)
  time.sleep(0.2)
  sys.exit(70)
  """
  one = Started(gang(tmp_path, body))
  assert one.end() == 0
  assert 'process 1: -9' in one.output
  assert starts(tmp_path) == [2, 2]


def test_no_progress_is_the_end(tmp_path):
  one = Started(gang(tmp_path, 'sys.exit(70)'))
  assert one.end() == 70
  assert starts(tmp_path) == [3, 3]
  last = one.output.splitlines()[-1]
  assert 'without progress' in last and str(tmp_path) in last


def test_a_run_that_goes_on_is_started_again(tmp_path):
  """Four starts; three without progress would be the end."""
  body = """
  (folder / 'metrics.jsonl').open('a').write('x')
  sys.exit(70 if start < 4 else 0)
  """
  one = Started(gang(tmp_path, body, count=1))
  assert one.end() == 0
  assert starts(tmp_path) == [4]


def test_progress_is_what_a_run_writes(tmp_path):
  told = [supervise.progress(str(tmp_path))]
  (tmp_path / 'metrics.jsonl').write_text('a')
  told.append(supervise.progress(str(tmp_path)))
  (tmp_path / 'journal').mkdir()
  (tmp_path / 'journal' / '0').write_text('a')
  told.append(supervise.progress(str(tmp_path)))
  (tmp_path / 'journal' / '0').write_text('ab')
  told.append(supervise.progress(str(tmp_path)))
  (tmp_path / 'checkpoints' / '3').mkdir(parents=True)
  told.append(supervise.progress(str(tmp_path)))
  assert all(a != b for a, b in itertools.pairwise(told))
  # What a start writes without a step is none.
  (tmp_path / 'config.json').write_text('a')
  assert supervise.progress(str(tmp_path)) == told[-1]
  assert supervise.progress('gs://bucket/run') is None


@pytest.mark.parametrize('number', ['SIGTERM', 'SIGINT', 'SIGHUP'])
def test_a_signal_saves(number, tmp_path):
  body = """
  signal.signal(15, saves)
  signal.signal(2, lambda *_: say('no'))
  say('up')
  forever()
  """
  one = Started(gang(tmp_path, body))
  one.wait_for('up', 2)
  children = below(one.process.pid)
  one.process.send_signal(getattr(signal, number))
  assert one.end() == 75
  assert one.output.count('saving') == 2 and 'no' not in one.output
  assert_gone(children)
  assert starts(tmp_path) == [1, 1]


def test_nohup(tmp_path):
  """A process that ignores SIGHUP goes on after it."""
  body = 'say("up"); time.sleep(0.5); say("done")'
  words = ['nohup', *gang(tmp_path, body)]
  one = Started(words, start_new_session=True)
  one.wait_for('up', 2)
  one.process.send_signal(signal.SIGHUP)
  assert one.end() == 0
  assert one.output.count('done') == 2


def test_ctrl_c_twice_kills(tmp_path):
  """Processes that do not heed SIGTERM, and what they started."""
  body = """
  import subprocess
  signal.signal(15, lambda *_: say('no'))
  subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])
  say('up')
  forever()
  """
  one = Started(gang(tmp_path, body))
  one.wait_for('up', 2)
  children = below(one.process.pid)
  assert len(children) == 4
  one.process.send_signal(signal.SIGINT)
  one.wait_for('no', 2)
  one.process.send_signal(signal.SIGINT)
  assert one.end() == 75
  assert_gone(children)


def test_a_kill_of_the_supervisor_leaves_nothing(tmp_path):
  body = 'signal.signal(15, signal.SIG_IGN); say("up"); forever()'
  one = Started(gang(tmp_path, body))
  one.wait_for('up', 2)
  children = below(one.process.pid)
  one.process.kill()
  assert_gone(children)
  assert one.end() == -9


def test_the_end_of_the_launcher_is_a_signal(tmp_path):
  """Also where it is no parent of the supervisor, as under a shell."""
  launcher = Started([sys.executable, '-c', 'import time; time.sleep(1000)'])
  body = 'signal.signal(15, saves); say("up"); forever()'
  flag = f'--launcher={launcher.process.pid}'
  one = Started(gang(tmp_path, body, flag), start_new_session=True)
  one.wait_for('up', 2)
  launcher.process.kill()
  launcher.end()
  assert one.end() == 75
  assert one.output.count('saving') == 2
  # It is gone before the supervisor starts.
  one = Started(gang(tmp_path, body, flag))
  assert one.end() == 75


def test_output_that_nobody_reads(tmp_path):
  """As if the terminal had hung up: the run is saved."""
  body = """
  def saved(*_):
    (folder / f'saved-{index}').touch()
    os._exit(75)
  signal.signal(15, saved)
  say('up')
  while True:
    say('x' * 1000)
    time.sleep(0.01)
  """
  one = Started(gang(tmp_path, body))
  one.wait_for('up', 2)
  one.process.stdout.close()
  assert one.process.wait(GUARD) == 75
  one._guard.cancel()
  assert len(list(tmp_path.glob('saved-*'))) == 2


def test_output_without_an_end(tmp_path):
  """A line of 10 MB is shown in parts; bytes that are no text are escaped."""
  body = """
  sys.stdout.buffer.write(b'a' * 10_000_000 + b'\\xff\\n' + b'rest')
  """
  one = Started(gang(tmp_path, body, count=1))
  assert one.end() == 0
  assert one.output.count('a') == 10_000_000
  assert '\\xff' in one.output and one.output.endswith('rest\n')
  assert max(map(len, one.output.splitlines())) <= 2 * supervise.LONGEST_LINE


def test_a_process_that_hangs_after_another_ended(tmp_path, monkeypatch):
  monkeypatch.setattr(supervise, 'NOTICE_SECONDS', 0.1)
  body = 'sys.exit(70) if index == "0" else (say("up"), forever())'
  words = gang(tmp_path, body)
  command = words[words.index('--') + 1 :]
  with supervise.Stops(0) as stops:
    assert supervise.run_once(command, 2, stops) == [70, -9]


def test_what_status_a_gang_has():
  assert supervise.worst([0, 0]) == 0
  assert supervise.worst([70, 1]) == 1
  assert supervise.worst([0, 75]) == 75
  assert supervise.worst([-9, 70]) == 137
  assert {137, 143} <= set(job.AGAIN)


def test_a_bad_command():
  for words, status, said in (
    (['--processes=2'], 2, 'got no command'),
    (['--processes=0', '--', 'true'], 2, 'processes'),
    (['--', '/no/such'], 1, '/no/such'),
  ):
    one = Started([sys.executable, '-m', 'launch.supervise', *words])
    assert one.end() == status
    [line] = one.output.splitlines()
    assert line.startswith('error: ') and said in line
