"""Files that are there whole or not at all, whatever happens meanwhile."""

import contextlib
import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading

import pytest
import tiny

from acereason_jax import files

KILLED = """
import os, pathlib, signal, sys
from acereason_jax import files
path, at = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if at == 'rename':
  os.replace = die
elif at == 'sync':
  os.fsync = die
with files.replacing(path) as file:
  file.write('new' * 100_000)
  if at == 'write':
    die()
"""


def names(folder):
  return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize('old', [None, 'old'])
@pytest.mark.parametrize('content', ['', 'é\n\r\n', b'\xff\0'])
def test_what_is_written_is_there(tmp_path, old, content):
  path = tmp_path / 'file'
  if old is not None:
    path.write_text(old)
  files.write_atomically(path, content)
  expected = content.encode() if isinstance(content, str) else content
  assert path.read_bytes() == expected
  assert names(tmp_path) == ['file']


def test_it_has_the_rights_that_a_new_file_has(tmp_path):
  (tmp_path / 'plain').write_text('')
  files.write_atomically(tmp_path / 'file', '')
  mode = (tmp_path / 'plain').stat().st_mode
  assert (tmp_path / 'file').stat().st_mode == mode


@pytest.mark.parametrize('at', ['write', 'sync', 'rename'])
def test_a_kill_leaves_the_old_one(tmp_path, at):
  path = tmp_path / 'file'
  path.write_text('old')
  done = subprocess.run(
    [sys.executable, '-c', KILLED, path, at], env=tiny.environment(tmp_path)
  )
  assert done.returncode == -signal.SIGKILL
  assert path.read_text() == 'old'
  # The remains of a kill disturb nobody.
  files.write_atomically(path, 'new')
  assert path.read_text() == 'new'
  left = names(tmp_path)
  assert len(left) == 2 and left[0].endswith('.partial')


def test_it_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
  """The file before the rename, its folder after it: a power cut is no kill."""
  calls = []

  def synced(descriptor):
    calls.append(os.readlink(f'/proc/self/fd/{descriptor}'))

  def replaced(old, new):
    calls.append('rename')
    rename(old, new)

  rename = os.replace
  monkeypatch.setattr(os, 'fsync', synced)
  monkeypatch.setattr(os, 'replace', replaced)
  files.write_atomically(tmp_path / 'file', 'new')
  first, *rest = calls
  assert first.startswith(f'{tmp_path}/.file.')
  assert rest == ['rename', str(tmp_path)]


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_error_removes_what_was_written(tmp_path, error):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(error), files.replacing(path) as file:
    file.write('new')
    raise error
  assert path.read_text() == 'old' and names(tmp_path) == ['file']


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
  try:
    with pytest.raises(OSError) as e:
      files.write_atomically(path, 'new' * 1000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert e.value.errno == errno.EFBIG
  assert e.value.filename == str(path)
  assert path.read_text() == 'old' and names(tmp_path) == ['file']


def test_a_folder_that_is_missing_or_in_the_way(tmp_path):
  path = tmp_path / 'none' / 'file'
  with pytest.raises(FileNotFoundError) as e:
    files.write_atomically(path, '')
  assert e.value.filename == str(path)
  (tmp_path / 'folder').mkdir()
  with pytest.raises(IsADirectoryError) as e:
    files.write_atomically(tmp_path / 'folder', '')
  assert e.value.filename == str(tmp_path / 'folder')
  assert names(tmp_path) == ['folder']


def test_two_writers_leave_one_whole_file(tmp_path):
  path = tmp_path / 'file'
  texts = [letter * 200_000 for letter in 'abcd']

  def write(text):
    for _ in range(20):
      files.write_atomically(path, text)

  threads = [threading.Thread(target=write, args=(t,)) for t in texts]
  for thread in threads:
    thread.start()
  while any(thread.is_alive() for thread in threads):
    assert not path.exists() or path.read_text() in texts
  for thread in threads:
    thread.join()
  assert path.read_text() in texts and names(tmp_path) == ['file']


def test_a_link_is_replaced_and_not_followed(tmp_path):
  kept, path = tmp_path / 'kept', tmp_path / 'file'
  kept.write_text('of another')
  path.symlink_to(kept)
  files.write_atomically(path, 'new')
  assert kept.read_text() == 'of another'
  assert path.read_text() == 'new' and not path.is_symlink()


def test_a_stream_is_written_to(tmp_path):
  code = (
    'from acereason_jax import files\n'
    'with files.output("/dev/stdout") as file: file.write("said")'
  )
  run = lambda **kwargs: subprocess.run(
    [sys.executable, '-c', code],
    env=tiny.environment(tmp_path),
    check=True,
    **kwargs,
  )
  assert run(capture_output=True, text=True).stdout == 'said'
  with (tmp_path / 'file').open('w') as file:
    run(stdout=file)
  assert (tmp_path / 'file').read_text() == 'said'
  assert pathlib.Path('/dev/stdout').is_symlink()
  with files.output(tmp_path / 'other', 'wb') as file:
    file.write(b'whole')
    assert not (tmp_path / 'other').exists()
  assert (tmp_path / 'other').read_bytes() == b'whole'


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'model'
  with pytest.raises(ValueError), files.new_folder(path) as folder:
    (pathlib.Path(folder) / 'a').touch()
    raise ValueError
  assert names(tmp_path) == []
  path.mkdir()  # An empty one may be there.
  with files.new_folder(path) as folder:
    (pathlib.Path(folder) / 'a').touch()
    assert names(path) == []
  assert names(path) == ['a'] and names(tmp_path) == ['model']
  with (
    pytest.raises(FileExistsError, match='already exists and is not empty'),
    files.new_folder(path),
  ):
    pass


@pytest.mark.parametrize('name', ['x' * 255, 'é' * 127])
def test_a_name_may_be_as_long_as_names_may_be(tmp_path, name):
  files.write_atomically(tmp_path / name, 'whole')
  assert (tmp_path / name).read_text() == 'whole'
  assert len(list(tmp_path.iterdir())) == 1


def test_the_scratch_folder_of_a_killed_process_is_removed(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(files.tempfile, 'tempdir', str(tmp_path))
  hold = (
    'import os, pathlib, sys\n'
    'from acereason_jax import files\n'
    'with files.scratch() as folder:\n'
    "  pathlib.Path(folder, 'a').write_bytes(b'1')\n"
    '  print(folder, flush=True)\n'
    '  sys.stdin.read()\n'
  )
  environment = tiny.environment(tmp_path) | {'TMPDIR': str(tmp_path)}
  (tmp_path / 'acereason_jax-link').symlink_to('.')
  with contextlib.ExitStack() as stack:
    begin = lambda: stack.enter_context(
      subprocess.Popen(
        [sys.executable, '-c', hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
      )
    )
    killed, living = begin(), begin()
    gone, there = (p.stdout.readline().strip() for p in (killed, living))
    killed.kill()
    killed.wait()
    assert os.path.exists(f'{gone}/a')
    with files.scratch() as mine:
      assert not os.path.exists(gone)
      assert os.path.exists(f'{there}/a') and os.path.isdir(mine)
    assert not os.path.exists(mine)
    living.communicate()
  assert not os.path.exists(there)
  assert names(tmp_path) == ['acereason_jax-link']


@pytest.mark.parametrize('before', ['open', 'flock'])
def test_a_scratch_folder_that_another_removes_is_made_anew(
  tmp_path, monkeypatch, before
):
  """Until it is locked, it looks like what a killed process left."""
  monkeypatch.setattr(files.tempfile, 'tempdir', str(tmp_path))
  module = dict(open=files.os, flock=files.fcntl)[before]
  call, removed = getattr(module, before), []

  def late(*args, **kwargs):
    if not removed:
      removed.extend(tmp_path.iterdir())
      removed[0].rmdir()
    return call(*args, **kwargs)

  monkeypatch.setattr(module, before, late)
  with files.scratch() as folder:
    assert names(tmp_path) == [pathlib.Path(folder).name]
    assert pathlib.Path(folder) not in removed
  assert names(tmp_path) == []
