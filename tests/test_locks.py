"""Locks in a bucket, between real processes, and who holds a lock.

More of those of a disk: test_endings.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import tiny

from acereason_jax import locks, storage

# Holds the lock until it is killed, or its standard input ends.
HOLDER = """
import sys
from acereason_jax import locks
locks._REFRESH, locks._LOOK = 0.2, 0.2
with locks.locked(sys.argv[1], lambda said: print(said, flush=True)):
  print('held', flush=True)
  sys.stdin.read()
print('over', flush=True)
"""


@pytest.fixture
def path(store, tmp_path):
  return f'gs://runs/{tmp_path.name}/0.lock'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(locks, '_LOOK', 0.2)


@contextlib.contextmanager
def holder(path):
  process = subprocess.Popen(
    [sys.executable, '-c', HOLDER, path],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=tiny.TESTS.parent,
    env=os.environ,
  )
  try:
    assert process.stdout.readline() == 'held\n'
    yield process
  finally:
    process.kill()
    process.communicate()


def taken(path):
  """What was said before the lock was taken."""
  said = []
  with locks.locked(path, said.append):
    pass
  return said


def test_a_lock_is_free_again_when_its_block_is_over(path):
  for _ in range(2):
    assert taken(path) == []
  assert storage.read(path, 9) is None


def test_a_process_that_runs_keeps_its_lock(path):
  with holder(path) as other:
    for _ in range(2):
      words = f'process {other.pid} on {socket.gethostname()} is a run that wri'
      with pytest.raises(OSError, match=words) as e:
        taken(path)
      assert '\n' not in str(e.value) and 'another --workdir' in str(e.value)
      time.sleep(0.5)
    _, error = other.communicate('')
    assert other.returncode == 0, error
  assert taken(path) == []


def test_a_process_of_this_host_that_was_killed_keeps_nobody_waiting(path):
  with holder(path) as other:
    other.kill()
    # Not waited for, as by a supervisor that has other things to do.
    while locks._began(other.pid) is not None:
      time.sleep(0.01)
    assert taken(path) == []


def of_another_host(path, times):
  owner = locks._this_process() | {'host': 'elsewhere', 'id': 'x'}
  storage.write(path, json.dumps(owner | {'times': times}).encode())


def test_the_lock_of_a_silent_host_is_taken_after_a_while(path):
  of_another_host(path, 0)
  (said,) = taken(path)
  assert 'elsewhere was a run that writes here; waiting' in said


def test_the_lock_of_a_host_that_lives_is_not_taken(path):
  of_another_host(path, 0)
  # It is said when the wait begins.
  lives = lambda said: of_another_host(path, 1)
  with (
    pytest.raises(OSError, match='elsewhere is a run that writes here'),
    locks.locked(path, lives),
  ):
    pass


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'{"pid": "x"}'])
def test_a_lock_that_is_no_lock_is_taken_after_a_while(path, content):
  storage.write(path, content)
  assert len(taken(path)) == 1


def test_a_lock_that_is_too_large_is_one_line(path):
  storage.write(path, b' ' * 100_000)
  with pytest.raises(OSError, match='not the lock of a run; remove it'):
    taken(path)


def test_of_many_takers_one_gets_the_lock(path, monkeypatch):
  of_another_host(path, 0)
  held, refused = [], []
  enough = threading.Event()

  def take(number):
    try:
      with locks._leased(path, lambda said: None):
        held.append(number)
        enough.wait(60)
    except OSError as e:
      refused.append(e)

  threads = [threading.Thread(target=take, args=(i,)) for i in range(5)]
  for thread in threads:
    thread.start()
  while len(held) + len(refused) < len(threads):
    time.sleep(0.05)
  enough.set()
  for thread in threads:
    thread.join()
  assert len(held) == 1 and len(refused) == 4


def test_who_lost_the_lock_ends_in_one_line(path):
  with holder(path) as other:
    of_another_host(path, 0)
    other.wait(60)
    out, error = other.communicate()
  assert other.returncode == 1 and out == ''
  (line,) = [x for x in error.splitlines() if x.startswith('error: ')]
  assert 'elsewhere took this run over' in line and 'go on with one' in line


def test_a_lock_that_was_deleted_ends_its_run_in_one_line(path):
  with holder(path) as other:
    storage.remove(path)
    other.wait(60)
    _, error = other.communicate()
  assert other.returncode == 1
  assert 'it was deleted while the run used it; ' in error


def test_an_answer_that_is_lost_does_not_lose_the_lock(store, path):
  with holder(path) as other:
    for _ in range(3):
      store.lost = 1
      while store.lost:
        time.sleep(0.01)
    time.sleep(1)
    _, error = other.communicate('')
    assert other.returncode == 0, error
  store.lost = 1
  assert taken(path) == []


def test_an_outage_does_not_lose_the_lock(store, path):
  with holder(path) as other:
    store.stop()
    time.sleep(2)
    store.start()
    time.sleep(1)
    _, error = other.communicate('')
  assert other.returncode == 0, error


def test_a_process_that_is_gone_does_not_live():
  child = subprocess.Popen([sys.executable, '-c', ''])
  child.wait()
  gone = locks._this_process() | dict(pid=child.pid)
  assert locks._lives(locks._this_process())
  assert locks._lives(gone) is False
  assert locks._lives({k: v for k, v in gone.items() if k != 'began'}) is False


# Who holds a lock.


# Asks it as a user to whom /proc shows only his own processes.
STRANGER = """
import os, sys
from acereason_jax import locks
os.setgid(65534)
os.setuid(65534)
pid, path = sys.argv[1:]
assert not os.path.exists(f'/proc/{pid}')
print(locks.held(path))
"""
HIDES = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'


def test_a_process_that_proc_hides_is_not_taken_for_dead(tmp_path):
  # Folders of pytest are their user's.
  with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)
    path = os.path.join(folder, '0.lock')
    with holder(path) as other:
      done = subprocess.run(
        [
          *('unshare', '--mount', 'sh', '-c', HIDES, 'sh', sys.executable),
          *('-c', STRANGER, str(other.pid), path),
        ],
        capture_output=True,
        text=True,
        cwd=tiny.TESTS.parent,
      )
  if 'unshare' in done.stderr or 'mount' in done.stderr:
    pytest.skip(f'only root can hide processes: {done.stderr}')
  assert (done.stdout, done.stderr) == ('None\n', '')


@pytest.fixture(params=['disk', 'bucket'])
def place(request, tmp_path):
  if request.param == 'disk':
    return tmp_path / '0.lock'
  return request.getfixturevalue('path')


def test_a_lock_is_held_as_long_as_its_process_lives(place):
  with holder(place) as other:
    assert locks.held(place)
    other.kill()
    while locks._began(other.pid) is not None:
      time.sleep(0.01)
    assert locks.held(place) is False
  with holder(place) as other:
    assert locks.held(place)
    other.communicate('')
  assert locks.held(place) is False


def test_a_copy_of_a_runs_folder_is_not_that_run(tmp_path):
  (tmp_path / 'run').mkdir()
  with holder(tmp_path / 'run' / '0.lock') as other:
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    assert locks.held(tmp_path / 'copy' / '0.lock') is None
    (tmp_path / 'run').rename(tmp_path / 'moved')
    assert locks.held(tmp_path / 'moved' / '0.lock')
    other.communicate('')
  for name in ('copy', 'moved'):
    assert locks.held(tmp_path / name / '0.lock') is False


def test_whoever_asks_keeps_no_run_from_its_lock(tmp_path):
  """A lock that were only tried would be refused to some of these."""
  path, over = tmp_path / '0.lock', threading.Event()

  def ask():
    while not over.is_set():
      locks.held(path)

  threads = [threading.Thread(target=ask) for _ in range(4)]
  for thread in threads:
    thread.start()
  try:
    for _ in range(300):
      with locks.locked(path, print):
        pass
  finally:
    over.set()
    for thread in threads:
      thread.join()


def test_a_process_with_the_number_of_a_dead_one_holds_no_lock(place):
  mine = locks._this_process()
  for owner, lives in (
    (mine, True),
    (mine | dict(began='1'), False),
    (mine | dict(host='elsewhere'), None),
    (mine | dict(boot='before'), None),
    (mine | dict(namespace='pid:[1]'), None),
    (mine | dict(pid='1'), None),
    (mine | dict(pid=-1), False),
    (mine | dict(pid=10**400), False),
  ):
    if isinstance(place, str):
      storage.write(place, json.dumps(owner).encode())
    else:
      place.touch()
      place.write_text(json.dumps(owner | dict(inode=place.stat().st_ino)))
    assert locks.held(place) is lives


@pytest.mark.parametrize(
  'content',
  [b'', b'{', b'[]', b'process 1 on host', b'\0', b'[' * 60_000, b'x' * 10**6],
)
def test_a_file_that_is_no_lock_tells_nothing(place, content):
  storage.write(place, content)
  assert locks.held(place) is None


def test_what_is_no_file_tells_nothing(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  for name in ('absent', 'pipe', '.'):
    assert locks.held(tmp_path / name) is None


def test_a_host_without_proc_tells_nothing(tmp_path, monkeypatch):
  """As a Mac. Its runs have locks all the same."""
  monkeypatch.setattr(locks, '_text', lambda path: None)
  monkeypatch.setattr(locks, '_namespace', lambda: None)
  path = tmp_path / '0.lock'
  with locks.locked(path, print):
    assert locks.held(path) is None
    with (
      pytest.raises(OSError, match=f'process {os.getpid()} on '),
      locks.locked(path, print),
    ):
      pass
