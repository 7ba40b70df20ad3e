"""Unwanted ends: one line names the cause, and nothing is lost.

Nothing here needs root; what mounts small disks is in test_train.py.
"""

import contextlib
import errno
import multiprocessing.synchronize
import os
import pathlib
import pty
import resource
import shutil
import subprocess
import sys

import pytest
import tiny
from runs import Command, saved_steps

from acereason_jax import locks, types
from acereason_jax.console import exits, oserrors
from acereason_jax.curriculum import ledger, parquet
from acereason_jax.data import sources
from acereason_jax.run import folder as folder_lib
from acereason_jax.run import journal, metrics

STOPPED = 75
GONE = 'standard output cannot be written to (Broken pipe); send it to a file'


# Standard output.

TALKS = """
import os, signal, sys
from acereason_jax.console import terminal
{before}
terminal.use_stdout()
for _ in range(1000):
  terminal.say('a' * 1000)
sys.stderr.write('done')
"""


def talk(before='', **kwargs):
  """(exit status, stderr) of a talker of whom one line is read."""
  process = subprocess.Popen(
    [sys.executable, '-c', TALKS.format(before=before)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=tiny.environment(pathlib.Path()),
    **kwargs,
  )
  process.stdout.readline()
  process.stdout.close()
  said = process.stderr.read()
  process.stderr.close()
  return process.wait(), said


def test_output_that_nobody_reads_is_one_line():
  status, said = talk()
  assert status == 1
  assert said == f'error: {GONE}, or to something that reads to the end\n'


def test_output_that_nobody_reads_is_a_hangup():
  status, said = talk(
    'signal.signal(signal.SIGHUP, lambda *_: sys.exit("saved"))'
  )
  assert status == 1 and said.startswith(GONE) and said.endswith('\nsaved\n')
  status, said = talk('signal.signal(signal.SIGHUP, signal.SIG_IGN)')
  assert status == 0 and said.startswith(GONE) and said.endswith('\ndone')


def test_output_that_was_never_open():
  """The next file that is opened must not take its place."""
  code = (
    'import os, sys; from acereason_jax.console import terminal; '
    'terminal.use_stdout(); '
    'file = open(sys.argv[1], "w"); assert file.fileno() > 2; '
    'terminal.say("a"); os.write(1, b"b"); file.write("mine")'
  )
  path = pathlib.Path(os.environ.get('TMPDIR', '/tmp'))
  path = path / f'never-open-{os.getpid()}'
  try:
    done = subprocess.run(
      ['/bin/sh', '-c', 'exec "$@" >&-', '-', sys.executable, '-c', code, path],
      stderr=subprocess.PIPE,
      text=True,
      env=tiny.environment(pathlib.Path()),
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert path.read_text() == 'mine'
  finally:
    path.unlink(missing_ok=True)


def test_a_terminal_that_is_closed_takes_nothing_along(tmp_path):
  """Output and errors go nowhere from then on; what is saved is saved."""
  code = """
import fcntl, pathlib, signal, sys, termios, time
from acereason_jax.console import terminal
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append(1))
terminal.use_stdout()
terminal.say('ready')
while not heard:
  time.sleep(0.01)
for to_stderr in (False, True) * 3:
  terminal.say('more', to_stderr=to_stderr)
pathlib.Path(sys.argv[1]).write_text('saved')
sys.exit(75)
"""
  master, slave = pty.openpty()
  process = subprocess.Popen(
    [sys.executable, '-c', code, tmp_path / 'file'],
    stdin=slave,
    stdout=slave,
    stderr=slave,
    start_new_session=True,
    env=tiny.environment(tmp_path),
  )
  os.close(slave)
  assert os.read(master, 100).strip() == b'ready'
  os.close(master)
  assert process.wait(timeout=170) == STOPPED
  assert (tmp_path / 'file').read_text() == 'saved'


@pytest.mark.parametrize(
  'words',
  [
    ['ledger', 'ledger.parquet'],
    ['judge', '--fn=tiny_judge:explain', '--answer=1', '--response=1'],
  ],
)
def test_a_command_of_many_lines_into_head(tmp_path, words):
  path = tmp_path / 'ledger.parquet'
  path.write_bytes(parquet.to_bytes(ledger.Ledger()))
  name, *arguments = words
  # Closed before the command can have ended.
  head, out = os.pipe()
  os.close(head)
  with open(out, 'wb') as file:
    done = subprocess.run(
      [sys.executable, '-m', f'acereason_jax.{name}', *arguments],
      cwd=tmp_path,
      stdout=file,
      stderr=subprocess.PIPE,
      text=True,
      env=tiny.environment(tmp_path),
    )
  assert done.returncode == 1
  assert (
    done.stderr == f'error: {GONE}, or to something that reads to the end\n'
  )


def test_a_run_into_head_saves_and_can_go_on(folder, tmp_path):
  run = Command(
    folder, folder / 'compiled', tmp_path / 'run', '--config.steps=100000'
  )
  run.wait_for('\nstep ')
  run.process.stdout.close()
  status = run.process.wait(timeout=170)
  run._guard.cancel()
  assert status == STOPPED
  assert saved_steps(tmp_path / 'run')


# The folder of a run.


def test_a_folder_that_is_deleted_under_a_run(folder, tmp_path):
  workdir = tmp_path / 'run'
  run = Command(folder, folder / 'compiled', workdir, '--config.steps=100000')
  run.wait_for('\nstep ')
  # At once: a run that meets half a folder names the file that it missed.
  gone = workdir.rename(tmp_path / 'gone')
  for folder in (gone, workdir):
    while folder.exists():
      shutil.rmtree(folder, ignore_errors=True)
  last = run.ends(1).splitlines()[-1]
  assert last == (
    f'error: {workdir}: the folder was deleted, moved or unmounted while the '
    'run used it; put it back, or start anew in one that stays'
  )


def test_errors_of_a_folder_that_is_gone_say_so(tmp_path):
  with (
    pytest.raises(ValueError, match='of another kind'),
    folder_lib.opened(tmp_path),
  ):
    raise ValueError('of another kind')
  for error in (ValueError('no such array'), OSError(errno.EIO, 'odd')):
    with (
      pytest.raises(OSError, match='the folder was deleted'),
      folder_lib.opened(tmp_path),
    ):
      (tmp_path / '0.lock').unlink()
      raise error


def verdict():
  return types.Verdict('right', '', 0.0)


def test_a_journal_that_is_deleted_says_so(tmp_path):
  with journal.Journal(tmp_path / 'journal', 'print', 0) as log:
    log.verdict('train', 1, 'p', 0, verdict())
    shutil.rmtree(tmp_path / 'journal')
    with pytest.raises(OSError, match='it was deleted while it was written'):
      log.verdict('train', 1, 'p', 1, verdict())
    with pytest.raises(OSError, match='No such file'):
      log.verdict('train', 2, 'p', 0, verdict())


def test_a_journal_larger_than_files_may_be(tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  with journal.Journal(tmp_path, 'print', 0) as log:
    log.verdict('train', 1, 'p', 0, verdict())
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
      with pytest.raises(OSError, match=r'File too large; raise .*ulimit -f'):
        for i in range(9):
          log.verdict('train', 1, 'p' * 90, i, verdict())
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.verdict('train', 1, 'q', 0, verdict())
  with journal.Journal(tmp_path, 'print', 0) as log:
    assert not log.notes
    assert {'p', 'q'} <= {key.prompt_id for key in log.found}


def test_a_lock_that_is_no_file(tmp_path):
  kept = tmp_path / 'kept'
  kept.write_text('of another')
  link, pipe, door = (tmp_path / n for n in ('link', 'pipe', 'folder'))
  link.symlink_to(kept)
  (tmp_path / 'dangling').symlink_to(tmp_path / 'none')
  os.mkfifo(pipe)
  door.mkdir()
  for path in (link, pipe, door, tmp_path / 'dangling'):
    with (
      pytest.raises(OSError, match='expected a file that this run makes'),
      locks.locked(path, print),
    ):
      pass
  assert kept.read_text() == 'of another'
  assert not (tmp_path / 'none').exists()


def test_metrics_need_no_shared_memory(tmp_path, monkeypatch):
  """As where /dev/shm is read-only or full."""

  def refuse(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))

  monkeypatch.setattr(multiprocessing.synchronize, 'SemLock', refuse)
  with metrics.Writer(tmp_path, resume_step=1) as writer:
    writer.write(1, {'reward': 0.5})
  assert '"reward": 0.5' in (tmp_path / 'metrics.jsonl').read_text()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'reward' in events.read_bytes()


def test_metrics_that_find_no_room_say_so_at_once(tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  with metrics.Writer(tmp_path, resume_step=1) as writer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
      with pytest.raises(OSError) as e:
        for step in range(1, 99):
          writer.write(step, {'reward': 0.5})
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert e.value.errno == errno.EFBIG


# The content of a line.


@pytest.mark.parametrize(
  'number, todo',
  [
    (errno.ENOSPC, 'free space'),
    (errno.EDQUOT, 'free space'),
    (errno.EROFS, 'mount the file system for writing, or name another place'),
    (errno.EMFILE, 'raise the limit on open files (ulimit -n)'),
    (errno.EFBIG, 'raise the limit on the size of files (ulimit -f)'),
    (errno.EACCES, 'give this user the right to do so, or name another place'),
  ],
)
def test_a_system_error_is_its_words_the_file_and_the_remedy(number, todo):
  words = os.strerror(number)
  error = OSError(number, words, '/a/b')
  assert oserrors.explained(error) == f"{words}: '/a/b'; {todo}"
  assert oserrors.explained(OSError(number, words)) == f'{words}; {todo}'
  # tensorstore's and Orbax's.
  wrapped = ValueError(f'OUT_OF_RANGE: Failed writing [OS error: {words}]')
  assert oserrors.code(wrapped) == number == oserrors.code(error)


def test_errors_of_ours_stay_as_they_are():
  said = 'no room for it; buy another'
  for error in (OSError(errno.ENOSPC, said), FileNotFoundError(said)):
    assert oserrors.explained(error) == said
  assert oserrors.code(ValueError('No such file or directory')) is None
  assert oserrors.code(ValueError('shapes differ')) is None


@pytest.fixture
def no_more_files():
  """Nothing else can be opened."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
  held = []
  try:
    with contextlib.suppress(OSError):
      while True:
        held.append(os.dup(0))
    yield
  finally:
    for descriptor in held:
      os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_is_one_line(tmp_path, no_more_files):
  path = tmp_path / 'a.jsonl'
  with pytest.raises(ValueError, match='cannot be read: Too many open files'):
    sources.jsonl(path)
  with (
    pytest.raises(SystemExit, match=r'Too many open files: .*ulimit -n'),
    exits.one_line_for(OSError),
    locks.locked(tmp_path / 'lock', print),
  ):
    pass
