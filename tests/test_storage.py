import object_store, pytest
from acereason_jax import storage


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  with object_store.started(tmp_path_factory.mktemp('objects')) as s:
    yield s


def test_a(store, tmp_path):
  for root in ('gs://runs/a', str(tmp_path / 'a')):
    p = storage.join(root, 'x')
    assert storage.read(p, 10) is None
    storage.write(p, b'12')
    assert storage.read(p, 2) == b'12'
    with pytest.raises(ValueError, match='more than 1 bytes'):
      storage.read(p, 1)
    storage.write(p, b'')
    assert storage.read(p, 0) == b''
    assert not storage.create(p, b'4')
    assert storage.create(storage.join(root, 'b', 'y'), b'4')
    assert storage.names(root) == ['b/y', 'x']
    storage.remove(p)
    storage.remove(p)
    assert storage.names(root) == ['b/y']
    storage.remove_below(root)
    assert storage.names(root) == []


def test_gen(store):
  p = 'gs://runs/g'
  g = storage.replace(p, b'1', storage.MISSING)
  assert g and storage.replace(p, b'2', storage.MISSING) is None
  c, h = storage.read_at(p, 10)
  assert (c, h) == (b'1', g)
  g2 = storage.replace(p, b'3', g)
  assert g2 and g2 != g and storage.replace(p, b'3', g) is None
  assert storage.replace(p, None, g) is None
  assert storage.replace(p, None, g2) is not None
  assert storage.read(p, 10) is None
  assert storage.replace(p, None, g2) is None


def test_err(store):
  for f in (
    lambda p: storage.write(p, b'1'),
    lambda p: storage.read(p, 1),
    lambda p: storage.names(p),
  ):
    for p in ('gs://nobucket/x', 'gs://forb/x'):
      store.forbidden.add('forb')
      try:
        print(p, f(p))
      except OSError as e:
        print(p, repr(e))
  for p in ('s3://a/b', 'gs://', 'gs://B/x', 'gs://abc/a/../b'):
    try:
      storage.is_remote(p)
    except ValueError as e:
      print(e)


def test_b(store):
  store.forbidden.add('forb')
  del store.seen[:]
  print(storage.names('gs://forb/x'), store.seen)
  for st in (401, 403, 400):
    store.status = st
    for f in (
      lambda p: storage.write(p, b'1'),
      lambda p: storage.read(p, 1),
      lambda p: storage.names(p),
    ):
      try:
        print(st, f('gs://runs/x'))
      except OSError as e:
        print(st, repr(e))
  store.status = 0
