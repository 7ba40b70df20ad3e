"""Checkpoints in a bucket, on a real server."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time

import gangs
import pytest
import tiny
from test_checkpoint import CHILD, abstract_of, assert_same_bits, some_state

from acereason_jax import storage
from acereason_jax.run import bucket, checkpoint, saving, weights

TWO = """
import sys
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from acereason_jax.run import saving

address, process, root = sys.argv[1:]
jax.distributed.initialize(address, 2, int(process))
mesh = jax.make_mesh((jax.device_count(),), ('x',))
lies = NamedSharding(mesh, PartitionSpec('x'))
state = jax.jit(lambda: {'x': jnp.arange(16.0)}, out_shardings=lies)()
abstract = {'x': jax.ShapeDtypeStruct((16,), jnp.float32, sharding=lies)}
with saving.Checkpoints(root, keep=1) as checkpoints:
  first = checkpoints.latest_step() or 0
  for step in (first + 1, first + 2):
    checkpoints.save(step, state, {'at': step}, {'b': 1}, b'a file')
  checkpoints.wait()
  restored = checkpoints.restore(abstract)
  assert restored.step == step == checkpoints.latest_step()
  assert restored[2:] == ({'at': step}, {'b': 1}, b'a file')
  for shard in restored.state['x'].addressable_shards:
    assert (shard.data == jnp.arange(16.0)[shard.index]).all()
print('restored', step, flush=True)
"""


@pytest.fixture
def root(store, tmp_path):
  return f'gs://runs/{tmp_path.name}'


def saved(root, *steps, **values):
  with saving.Checkpoints(root, keep=9) as checkpoints:
    for step in steps:
      checkpoints.save(step, some_state(), {'at': step}, {'a': 1}, b'a file')


def child(program, *arguments):
  return subprocess.Popen(
    [sys.executable, '-c', program, *arguments],
    cwd=tiny.TESTS.parent,
    env=os.environ | {'XLA_FLAGS': ''},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def message_of(error):
  text = str(error.value)
  assert '\n' not in text and len(text) < 600
  return text


def test_everything_is_read_as_it_was_written(root):
  state, abstract = some_state(), abstract_of(some_state())
  assert checkpoint.load(root, abstract) is None
  assert checkpoint.load_meta(root) is checkpoint.load_ledger(root) is None
  assert checkpoint.stamp(root) == ''
  with saving.Checkpoints(root, keep=1, best='good') as checkpoints:
    assert checkpoints.restore(abstract) is None
    for step, score in ((2, 0.9), (3, 0.1), (4, 0.2)):
      value = {'at': step}
      checkpoints.save(step, state, value, {'a': 1}, b'a file', score)
    checkpoints.wait()
    assert_same_bits(checkpoints.restore(abstract).state, state)
    assert checkpoints.best_step() == 2
  for path, step in ((root, 4), (f'{root}/checkpoints/2', 2), (f'{root}/', 4)):
    loaded = checkpoint.load(path, abstract)
    assert_same_bits(loaded.state, state)
    assert loaded.step == step and loaded.meta == {'a': 1}
    assert checkpoint.load_progress(path) == {'at': step}
    assert checkpoint.load_ledger(path) == b'a file'
  assert checkpoint.load_meta(f'{root}/checkpoints/3') is None
  assert checkpoint.split(f'{root}/checkpoints/2') == (root, 2)
  for path in ('gs://checkpoints/5', '/checkpoints/5', '/run/checkpoints/²'):
    assert checkpoint.split(path) == (path, None)
  assert weights.is_run(root)


@pytest.mark.parametrize('where', ['disk', 'bucket'])
def test_a_stamp_is_of_one_save(where, root, tmp_path):
  folders = [f'{root if where == "bucket" else tmp_path}/{i}' for i in range(2)]
  for folder in folders:
    saved(folder, 1)
  one, other = (checkpoint.stamp(folder) for folder in folders)
  assert one != other and '' not in (one, other)
  assert one == checkpoint.stamp(f'{folders[0]}/checkpoints/1')


@pytest.mark.hosts
def test_a_save_that_was_killed_leaves_the_one_before(root, store):
  rng = random.Random(0)
  committed = 0
  for _ in range(3):
    run = child(CHILD, root)
    first = run.stdout.readline()
    assert int(first.split()[1]) in (committed, committed + 1)
    for _ in range(2):
      committed = int(run.stdout.readline().split()[1])
    time.sleep(rng.uniform(0, 0.5))
    run.kill()
    rest = run.stdout.read().splitlines()
    committed = int(rest[-1].split()[1]) if rest else committed
    run.communicate()
  with saving.Checkpoints(root, keep=2) as checkpoints:
    newest = checkpoints.latest_step()
    assert newest in (committed, committed + 1)
  names = storage.names(f'{root}/checkpoints')
  steps = {name.split('/')[0] for name in names}
  done = {n.split('/')[0] for n in names if n.endswith('/commit_success.txt')}
  assert steps == done


@pytest.mark.parametrize('name', ['meta/metadata', 'state/_METADATA'])
def test_a_file_without_limit_is_refused_unread(root, name, monkeypatch):
  saved(root, 1)
  monkeypatch.setattr(checkpoint, '_MAX_JSON_BYTES', 100_000)
  storage.write(f'{root}/checkpoints/1/{name}', b' ' * 100_001)
  for read in (checkpoint.load_meta, checkpoint.load_ledger):
    with pytest.raises(checkpoint.Damaged, match='expected a file of') as e:
      read(root)
    assert name in message_of(e)


@pytest.mark.parametrize(
  'status, match',
  [(400, 'the store refused; see its words'), (401, 'log in with')],
)
def test_a_refusal_has_a_remedy_of_its_kind(
  root, store, status, match, monkeypatch
):
  saved(root, 1)
  monkeypatch.setattr(bucket, '_WAITS', (0,))
  monkeypatch.setattr(store, 'status', status)
  with pytest.raises(OSError, match=match):
    checkpoint.load_meta(root)


def test_a_store_that_refuses_is_not_one_without_checkpoints(root, store):
  saved(root, 1)
  store.forbidden.add('runs')
  try:
    for read in (checkpoint.load_meta, checkpoint.stamp):
      with pytest.raises(PermissionError, match='give it the role') as e:
        read(root)
      message_of(e)
    with pytest.raises(PermissionError):
      saving.Checkpoints(root, keep=1)
  finally:
    store.forbidden.clear()


@pytest.mark.hosts
def test_a_store_that_is_back_soon_interrupts_no_save(root, store):
  with saving.Checkpoints(root, keep=1) as checkpoints:
    store.stop()
    back = threading.Timer(2, store.start)
    back.start()
    checkpoints.save(1, some_state(), {}, {}, b'-')
    store.status = 503
    fine = threading.Timer(4, setattr, [store, 'status', 0])
    fine.start()
    checkpoints.wait()
    back.join()
    fine.join()
    restored = checkpoints.restore(abstract_of(some_state()))
  assert_same_bits(restored.state, some_state())


def test_a_store_that_stays_away_is_one_line(root, store, monkeypatch, caplog):
  monkeypatch.setattr(bucket, '_WAITS', (0, 0.1))
  with saving.Checkpoints(root, keep=1) as checkpoints:
    checkpoints.save(1, some_state(), {}, {}, b'-')
    checkpoints.wait()
    store.stop()
    try:
      with pytest.raises(OSError, match='cannot be reached') as e:
        checkpoints.save(2, some_state(), {}, {}, b'-')
        checkpoints.wait()
    finally:
      store.start()
    message_of(e)
  assert 'Traceback' not in caplog.text
  with saving.Checkpoints(root, keep=1) as checkpoints:
    assert checkpoints.latest_step() == 1
    restored = checkpoints.restore(abstract_of(some_state()))
  assert_same_bits(restored.state, some_state())


@pytest.mark.hosts
def test_two_processes_restore_right_after_a_save(root):
  for steps in (2, 4):
    address = f'127.0.0.1:{gangs.free_port()}'
    both = [child(TWO, address, str(process), root) for process in range(2)]
    try:
      for process in both:
        out, error = process.communicate(timeout=120)
        assert f'restored {steps}\n' in out, error
    finally:
      for process in both:
        process.kill()


LISTS = """
import sys
import jax
from acereason_jax.run import saving

address, process, root, seconds = sys.argv[1:]
jax.distributed.initialize(address, 2, int(process))
saving._SEEN_SECONDS = float(seconds)
try:
  checkpoints = saving.Checkpoints(root, keep=1)
except OSError as e:
  print('told:', e.strerror, flush=True)
else:
  print('newest', checkpoints.latest_step(), flush=True)
# Its end would be the other's.
sys.stdin.read()
import os
os._exit(0)
"""


@pytest.mark.hosts
@pytest.mark.parametrize('seconds', [60, 1])
def test_processes_go_on_from_the_step_that_the_first_one_finds(
  tmp_path, seconds
):
  """As on a network disk that shows the second one an older list."""
  roots = tmp_path / 'first', tmp_path / 'second'
  for root, step in zip(roots, (2, 1)):
    saved(root, step)
  address = f'127.0.0.1:{gangs.free_port()}'
  both = [
    child(LISTS, address, str(process), str(root), str(seconds))
    for process, root in enumerate(roots)
  ]
  try:
    first = both[0].stdout.readline()
    while first.startswith('[Gloo]'):
      first = both[0].stdout.readline()
    assert first == 'newest 2\n'
    if seconds > 1:
      shutil.copytree(
        roots[0] / 'checkpoints' / '2', roots[1] / 'checkpoints' / '2'
      )
    out, error = both[1].communicate(timeout=120)
    line = out.splitlines()[-1]
    if seconds > 1:
      assert line == 'newest 2', error
    else:
      assert line.startswith('told: ') and 'finds step 2 as the newest' in line
      assert 'process 1 finds 1; give all hosts the same folder' in line
  finally:
    for process in both:
      process.kill()
      process.communicate()
