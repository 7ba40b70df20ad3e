"""Files in a bucket, on a real server: promises, limits, faults."""

import contextlib
import os
import sys
import threading

import pytest

from acereason_jax import storage


@pytest.fixture(params=['disk', 'bucket'])
def root(request, store, tmp_path):
  if request.param == 'disk':
    return str(tmp_path / 'some' / 'where')
  return f'gs://runs/{tmp_path.name}/some/where'


def test_a_file_is_what_was_written_last(root):
  path = storage.join(root, 'a', 'b')
  assert storage.read(path, 9) is None
  for content in (b'', b'123', bytes(range(256)) * 4000, b'12'):
    storage.write(path, content)
    assert storage.read(path, len(content)) == content
  storage.remove(path)
  storage.remove(path)
  assert storage.read(path, 9) is None


def test_no_more_is_read_than_asked_for(root, store):
  path = storage.join(root, 'large')
  storage.write(path, b'x' * 1_000_000)
  del store.seen[:]
  with pytest.raises(ValueError, match='more than 999,999 bytes'):
    storage.read(path, 999_999)
  assert len(store.seen) <= 1
  assert len(storage.read(path, 1_000_000)) == 1_000_000


def test_the_start_of_a_file(root):
  path = storage.join(root, 'file')
  assert storage.start(path, 9) is None
  for content in (b'', b'12', b'123', b'1234' * 99_999):
    storage.write(path, content)
    assert storage.start(path, 3) == content[:3]
  # A file has no files below it.
  assert storage.start(f'{path}/x', 3) is None


def test_of_many_creators_one_wins(root):
  path = storage.join(root, 'new')
  won = []
  create = lambda i: storage.create(path, b'%d' % i) and won.append(i)
  threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  (winner,) = won
  assert storage.read(path, 9) == b'%d' % winner


def test_names_are_of_everything_below_and_of_nothing_beside(root):
  names = ['a', 'b/c', 'b/d/e', 'b.txt', 'b0', 'z z%', 'ü/ü', 'ü/f/漢']
  for name in names:
    storage.write(storage.join(root, name), b'1')
  storage.write(f'{root}0', b'beside')
  storage.write(f'{root}.x/y', b'beside')
  assert storage.names(root) == sorted(names)
  assert storage.names(storage.join(root, 'b')) == ['c', 'd/e']
  assert storage.names(storage.join(root, 'ü')) == ['f/漢', 'ü']
  assert storage.names(storage.join(root, 'none')) == []


def test_a_write_for_a_generation_never_undoes_another(store):
  path = 'gs://runs/generations'
  first = storage.replace(path, b'1', storage.MISSING)
  assert storage.replace(path, b'2', storage.MISSING) is None
  assert storage.read_at(path, 9) == (b'1', first)
  second = storage.replace(path, b'2', first)
  assert second not in (first, None)
  assert storage.replace(path, b'3', first) is None
  assert storage.replace(path, None, first) is None
  assert storage.read_at(path, 9) == (b'2', second)
  assert storage.replace(path, None, second) is not None
  assert storage.read_at(path, 9) == (None, storage.MISSING)
  assert storage.replace(path, b'3', second) is None


DOES = {
  'write': lambda path: storage.write(path, b'1'),
  'create': lambda path: storage.create(path, b'1'),
  'read': lambda path: storage.read(path, 9),
  'names': storage.names,
}


@contextlib.contextmanager
def answering(store, **faults):
  before = {name: getattr(store, name) for name in faults}
  try:
    for name, value in faults.items():
      setattr(store, name, value)
    yield
  finally:
    for name, value in before.items():
      setattr(store, name, value)


@pytest.mark.parametrize('does', DOES)
@pytest.mark.parametrize(
  'status, kind, match',
  [
    (400, OSError, 'the store refused; see its words'),
    (401, PermissionError, 'does not know who asks; log in'),
    (403, PermissionError, 'give it the role'),
    (416, OSError, 'the store refused; see its words'),
  ],
)
def test_a_store_that_refuses_is_one_line(store, does, status, kind, match):
  with answering(store, status=status), pytest.raises(kind, match=match) as e:
    DOES[does]('gs://runs/x')
  assert '\n' not in str(e.value) and 'gs://runs/x: ' in str(e.value)


@pytest.mark.parametrize('does', [DOES['write'], storage.remove])
def test_a_change_that_the_store_did_not_make_is_an_error(store, does):
  # 412 to a request that asks for no generation.
  with answering(store, status=412), pytest.raises(OSError, match='refused'):
    does('gs://runs/x')


def test_a_bucket_is_no_file(store):
  assert storage.read('gs://runs', 9) is None
  for path in ('gs://runs', 'gs://runs/'):
    with pytest.raises(OSError, match='a bucket; give gs://BUCKET/NAME'):
      storage.write(path, b'1')


@pytest.mark.parametrize('does', ['write', 'create'])
def test_a_bucket_that_is_not_there(store, does):
  with pytest.raises(FileNotFoundError, match='there is no bucket gs://nob;'):
    DOES[does]('gs://nob/x')


@pytest.mark.parametrize(
  'path, match',
  [
    ('s3://bucket/x', 'no such kind of place; give gs://BUCKET/FOLDER'),
    ('GS://bucket/x', 'no such kind of place; give gs://BUCKET/FOLDER'),
    ('gs://', "'' is not the name of a bucket; give gs://BUCKET/FOLDER"),
    ('gs:///x', "'' is not the name of a bucket"),
    ('gs://Bucket/x', "'Bucket' is not the name of a bucket"),
    ('gs://bucket//x', 'between single slashes'),
    ('gs://bucket/a/../b', 'without . and ..'),
    ('gs://bucket/' + 'x' * 1025, 'at most 1024 bytes'),
    # Other libraries take these for parts of a URL, or no name at all.
    ('gs://bucket/a#b', "without '#'"),
    ('gs://bucket/a?b', "without '?'"),
    ('gs://bucket/a\nb', r"without '\\n'"),
    ('gs://bucket/a\udce9', r"without '\\udce9'"),
  ],
)
def test_what_is_no_path_is_one_line(path, match):
  with pytest.raises(ValueError, match=match) as e:
    storage.is_remote(path)
  assert len(str(e.value)) < 500


def test_without_the_extra_there_is_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, 'gcsfs', None)
  storage._is_equipped.cache_clear()
  try:
    with pytest.raises(ValueError, match=r"pip install 'acereason_jax\[gcs\]'"):
      storage.is_remote('gs://bucket/x')
    assert not storage.is_remote('runs/x')
  finally:
    storage._is_equipped.cache_clear()


def test_a_disk_is_not_remote():
  for path in ('runs/a', '/runs/a', 'gs:/a', 'gs', '.'):
    assert not storage.is_remote(path)


def test_a_pipe_is_no_file(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(OSError, match='not a file'):
    storage.read(tmp_path / 'pipe', 9)


FAULTS = {
  'down': (lambda s: s.stop(), lambda s: s.start()),
  'paused': (lambda s: s.pause(), lambda s: s.go_on()),
  '503': (
    lambda s: setattr(s, 'status', 503),
    lambda s: setattr(s, 'status', 0),
  ),
  'slow': (
    lambda s: setattr(s, 'delay', 1.0),
    lambda s: setattr(s, 'delay', 0.0),
  ),
}


@pytest.mark.parametrize(
  'fault, does',
  [('down', 'write'), ('paused', 'read'), ('503', 'names'), ('slow', 'read')],
)
def test_a_short_outage_is_not_noticed(store, fault, does):
  path = f'gs://runs/outage-{fault}'
  storage.write(path, b'1')
  begin, end = FAULTS[fault]
  begin(store)
  back = threading.Timer(2, end, [store])
  back.start()
  DOES[does](path)
  back.join()
  assert storage.read(path, 9) == b'1'


@pytest.fixture
def impatient(monkeypatch):
  monkeypatch.setattr(storage, '_RETRIES', 1)
  storage._store.cache_clear()
  yield
  storage._store.cache_clear()


@pytest.mark.parametrize(
  'fault, does', [('down', 'read'), ('503', 'write'), ('503', 'names')]
)
def test_a_long_outage_is_one_line(store, impatient, fault, does):
  begin, end = FAULTS[fault]
  begin(store)
  try:
    with pytest.raises(OSError, match='the store cannot be reached; ') as e:
      DOES[does]('gs://runs/x')
  finally:
    end(store)
  assert '\n' not in str(e.value) and len(str(e.value)) < 500
