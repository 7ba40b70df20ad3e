"""A run's folder in a bucket; whole runs there: test_storage_runs.py."""

import pytest

from acereason_jax import storage
from acereason_jax.run import folder


@pytest.fixture
def root(store, tmp_path):
  return f'gs://runs/{tmp_path.name}'


@pytest.fixture
def impatient(monkeypatch):
  monkeypatch.setattr(storage, '_RETRIES', 0)
  storage._store.cache_clear()
  yield
  storage._store.cache_clear()


def test_on_a_disk_it_is_the_folder_itself(tmp_path):
  with folder.opened(tmp_path / 'a' / 'run') as place:
    (place.local / 'x').write_text('1')
    folder.upload(place)
    folder.check_there(place)
    assert place.local == tmp_path / 'a' / 'run'
  names = {p.name for p in place.local.iterdir()}
  assert names == {'x', '0.lock'}


def test_files_for_people_are_uploaded_and_continued(root, store):
  with folder.opened(root) as place:
    local = place.local
    (local / 'tensorboard').mkdir()
    for name in ('metrics.jsonl', 'tensorboard/events', 'summary.json'):
      (local / name).write_text('one\n')
    folder.upload(place)
    assert storage.read(f'{root}/tensorboard/events', 99) == b'one\n'
    del store.seen[:]
    folder.upload(place)
    assert not [path for _, path in store.seen if 'lock' not in path]
    with (local / 'metrics.jsonl').open('a') as file:
      file.write('two\n')
  assert not local.exists()
  assert storage.read(f'{root}/metrics.jsonl', 99) == b'one\ntwo\n'
  assert not [n for n in storage.names(root) if 'lock' in n]
  with folder.opened(root) as place:
    assert (place.local / 'metrics.jsonl').read_text() == 'one\ntwo\n'
    (place.local / 'metrics.jsonl').write_text('one\n')
  assert storage.read(f'{root}/metrics.jsonl', 99) == b'one\n'
  assert storage.read(f'{root}/summary.json', 99) == b'one\n'


def test_an_upload_that_fails_is_made_up_for(root, store, impatient, capsys):
  with folder.opened(root) as place:
    (place.local / 'metrics.jsonl').write_text('one\n')
    store.status = 503
    folder.upload(place)
    store.status = 0
    said = capsys.readouterr().out
    assert 'WARNING: not uploaded: gs://' in said and said.count('\n') == 1
    folder.upload(place)
    assert storage.read(f'{root}/metrics.jsonl', 99) == b'one\n'


def test_a_last_upload_that_fails_is_told(root, store, impatient):
  with (
    pytest.raises(OSError, match='the store cannot be reached'),
    folder.opened(root) as place,
  ):
    (place.local / 'metrics.jsonl').write_text('one\n')
    store.status = 503
  store.status = 0


def test_an_error_that_names_a_file_leaves_it_in_the_bucket(root, store):
  with pytest.raises(RuntimeError), folder.opened(root) as place:
    (place.local / 'nonfinite_3.npz').write_bytes(b'1')
    raise RuntimeError('its batch is in nonfinite_*.npz')
  assert storage.read(f'{root}/nonfinite_3.npz', 9) == b'1'
