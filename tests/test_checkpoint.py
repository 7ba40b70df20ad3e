import contextlib
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import tensorstore
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from acereason_jax.config import steering
from acereason_jax.run import checkpoint, saving

REPLICATED = PartitionSpec()

CHILD = """
import itertools, sys
import jax, jax.numpy as jnp
from acereason_jax.run import saving

def state_at(step):
  return {'x': jnp.full((64, 1024), step), 'step': jnp.int32(step)}

with saving.Checkpoints(sys.argv[1], keep=2) as checkpoints:
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    state_at(0))
  restored = checkpoints.restore(abstract)
  start = 0
  if restored is not None:
    start = int(restored.state['step'])
    assert (restored.state['x'] == start).all()
    assert restored.progress == {'next_index': start}, restored.progress
    assert restored.meta == {'step': start}, restored.meta
    assert checkpoints.latest_step() == start
  print('at', start, flush=True)
  for step in itertools.count(start + 1):
    checkpoints.wait()
    print('done', step - 1, flush=True)
    checkpoints.save(
      step, state_at(step), {'next_index': step}, {'step': step}, b'-')
"""


@flax.struct.dataclass
class TrainState:
  params: dict
  opt_state: optax.OptState
  step: jax.Array


def some_state(width=4):
  params = {
    'layers': {'w': jax.random.normal(jax.random.key(0), (2, 8, width))},
    'bias': jnp.arange(8, dtype=jnp.bfloat16) / 3,
  }
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.masked(optax.adamw(1e-3), {'layers': True, 'bias': False}),
  )
  return TrainState(params, optimizer.init(params), jnp.int32(7))


def abstract_of(state, spec=REPLICATED, shape=(1,)):
  """`state` without values, 8-long leading axes laid out as `spec`."""
  mesh = jax.make_mesh(
    shape, ('x', 'y')[: len(shape)], axis_types=(AxisType.Auto,) * len(shape)
  )

  def leaf(x):
    fits = x.ndim and x.shape[0] == 8
    sharding = NamedSharding(mesh, spec if fits else REPLICATED)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree.map(leaf, state)


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def message_of(error):
  text = str(error.value)
  assert '\n' not in text and len(text) < 600
  return text


def test_restores_every_bit_and_both_json_values(tmp_path):
  state, abstract = some_state(), abstract_of(some_state())
  progress, meta = {'next_index': 12}, {'config': {'a': [1, None]}}
  with saving.Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.restore(abstract) is None
    assert checkpoints.latest_step() is checkpoints.latest_meta() is None
    checkpoints.save(3, state, progress, meta, b'a file')
  with saving.Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest_step() == 3
    assert checkpoints.latest_meta() == meta
    restored = checkpoints.restore(abstract)
  assert_same_bits(restored.state, state)
  assert restored[2:] == (progress, meta, b'a file')


def test_keeps_the_newest(tmp_path):
  with saving.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 5):
      checkpoints.save(step, {'x': jnp.arange(3)}, {}, {}, b'-')
    with pytest.raises(ValueError, match='already exists'):
      checkpoints.save(5, {'x': jnp.arange(3)}, {}, {}, b'-')
  steps = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert steps == {'2', '5'}


def test_restores_onto_another_mesh(tmp_path):
  assert jax.device_count() >= 4, 'XLA_FLAGS came too late'
  state = {'w': jnp.arange(32.0).reshape(8, 4), 'step': jnp.int32(1)}
  one = abstract_of(state, PartitionSpec('x'), (4,))
  two = abstract_of(state, PartitionSpec('y', 'x'), (2, 2))
  sharded = jax.device_put(state, jax.tree.map(lambda x: x.sharding, one))
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, sharded, {}, {}, b'-')
    checkpoints.wait()
    restored = checkpoints.restore(two).state
  assert_same_bits(restored, state)
  assert restored['w'].sharding == two['w'].sharding
  assert restored['w'].addressable_shards[0].data.shape == (4, 2)


def test_the_next_step_may_donate_what_is_being_saved(tmp_path):
  state = {'x': jnp.arange(1 << 20)}
  add_one = jax.jit(
    lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0
  )
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, state, {}, {}, b'-')
    for _ in range(3):
      state = add_one(state)
    checkpoints.wait()
    restored = checkpoints.restore(abstract_of(state)).state
  assert_same_bits(restored, {'x': jnp.arange(1 << 20)})


def test_what_is_saved_from_the_hosts_memory_is_a_copy(tmp_path, monkeypatch):
  # Orbax writes such arrays in place, and what it holds cannot be donated.
  mesh = jax.make_mesh((2, 2), ('a', 'b'), axis_types=(AxisType.Auto,) * 2)
  lies = NamedSharding(mesh, PartitionSpec('a')).with_memory_kind('pinned_host')
  state = {'x': jax.device_put(jnp.arange(1 << 20), lies), 'y': jnp.ones(3)}
  held, args = [], ocp.args.PyTreeSave
  keep = lambda tree: held.append(tree) or args(tree)
  monkeypatch.setattr(ocp.args, 'PyTreeSave', keep)
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, state, {}, {}, b'-')
    checkpoints.wait()
    shape = lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=x.sharding
    )
    restored = checkpoints.restore(jax.tree.map(shape, state)).state
  buffers = lambda x: {
    s.data.unsafe_buffer_pointer() for s in x.addressable_shards
  }
  assert held[0]['x'].sharding == lies
  assert not buffers(held[0]['x']) & buffers(state['x'])
  assert held[0]['y'] is state['y']
  assert_same_bits(restored, state)
  assert restored['x'].sharding == lies


@pytest.mark.parametrize(
  'change, words',
  [
    (
      lambda s: some_state(width=5),
      r'layers\.w is float32\(2, 8, 4\), expected float32\(2, 8, 5\)',
    ),
    (
      lambda s: s.replace(step=jnp.float32(7)),
      r'step is int32\(\), expected float32\(\) \(1 of',
    ),
    (
      lambda s: s.replace(params={**s.params, 'new': jnp.zeros(2)}),
      r'params\.new is no such array, expected float32\(2,\)',
    ),
    (
      lambda s: s.replace(opt_state=optax.sgd(1.0).init(s.params)),
      r'opt_state\.\S+ is \S+, expected no such array',
    ),
  ],
)
def test_another_state_is_one_line_naming_a_leaf(tmp_path, change, words):
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, some_state(), {}, {}, b'-')
    checkpoints.wait()
    with pytest.raises(ValueError, match=words) as e:
      checkpoints.restore(abstract_of(change(some_state())))
  message = message_of(e)
  assert f'{tmp_path}/checkpoints/1: ' in message and '--workdir' in message


def test_load_reads_a_part_and_leaves_a_save_in_progress_alone(tmp_path):
  params = {'params': some_state().params}
  assert checkpoint.load(tmp_path, abstract_of(params)) is None
  assert not (tmp_path / 'checkpoints').exists()
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, some_state(), {}, {'a': 1}, b'-')
  unfinished = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
  unfinished.mkdir()
  loaded = checkpoint.load(tmp_path, abstract_of(params))
  assert_same_bits(loaded.state, params)
  assert loaded.meta == {'a': 1}
  assert unfinished.exists()
  with pytest.raises(ValueError, match=r'params\.bias is bfloat16\(8,\)'):
    checkpoint.load(tmp_path, abstract_of({'params': {'bias': jnp.ones(8)}}))


def test_a_checkpoint_that_is_removed_while_it_is_read(tmp_path, monkeypatch):
  """As by a run that goes on: the newest is read. A damaged one is told."""
  folder = tmp_path / 'checkpoints'
  with saving.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2):
      value = {'at': step}
      checkpoints.save(step, some_state(), value, value, b'%d' % step)
  shutil.move(folder / '2', tmp_path / 'newer')
  restore = ocp.CheckpointManager.restore

  def late(manager, step, *args, **kwargs):
    if step == 1:
      # A folder goes last, so it is there while its files are gone.
      for part in (folder / '1').iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()
      shutil.copytree(tmp_path / 'newer', folder / '2')
    return restore(manager, step, *args, **kwargs)

  monkeypatch.setattr(ocp.CheckpointManager, 'restore', late)
  before = tmp_path / 'before'
  shutil.copytree(folder / '1', before)
  abstract = abstract_of(some_state())
  for read, wanted in (
    (checkpoint.load_ledger, b'2'),
    (checkpoint.load_meta, {'at': 2}),
    (checkpoint.load_progress, {'at': 2}),
    (lambda path: checkpoint.load(path, abstract).step, 2),
  ):
    assert read(tmp_path) == wanted
    for step in '12':
      shutil.rmtree(folder / step)
    shutil.copytree(before, folder / '1')
  with pytest.raises((checkpoint.Damaged, OSError)):
    checkpoint.load_ledger(folder / '1')
  shutil.rmtree(folder / '2' / 'ledger')
  with pytest.raises(checkpoint.Damaged):
    checkpoint.load_ledger(tmp_path)


def test_kill_9_in_mid_save_leaves_the_last_committed_step(tmp_path):
  rng = random.Random(0)
  command = [sys.executable, '-c', CHILD, str(tmp_path)]
  committed = 0
  for _ in range(3):
    child = subprocess.Popen(
      command,
      cwd=pathlib.Path(__file__).parents[1],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    # Everything that was on disk must exist; one more may have been just
    # committed.
    first = child.stdout.readline()
    assert first, child.stderr.read()
    assert int(first.split()[1]) in (committed, committed + 1)
    for _ in range(4):
      committed = int(child.stdout.readline().split()[1])
    time.sleep(rng.uniform(0, 0.05))
    child.kill()
    rest = child.stdout.read().splitlines()
    committed = int(rest[-1].split()[1]) if rest else committed
    child.communicate()
  with saving.Checkpoints(tmp_path, keep=2) as checkpoints:
    state = {'x': jnp.zeros((64, 1024), jnp.int32), 'step': jnp.int32(0)}
    restored = checkpoints.restore(abstract_of(state))
    assert int(restored.state['step']) in (committed, committed + 1)
    assert checkpoints.latest_meta() == {'step': int(restored.state['step'])}
  left = (tmp_path / 'checkpoints').iterdir()
  assert all(path.name.isdigit() for path in left)


@pytest.fixture
def small_disk(tmp_path):
  path = tmp_path / 'disk'
  path.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(path)]
  try:
    subprocess.run(command, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError) as e:
    pytest.skip(f'cannot mount a small disk: {e}')
  yield path
  subprocess.run(['umount', '-l', str(path)], check=True)


def test_a_full_disk_is_one_line_and_the_earlier_checkpoint_stays(
  small_disk, caplog
):
  state = {'x': jnp.arange(200_000)}
  too_much = {'x': jax.random.bits(jax.random.key(0), (2_000_000,))}
  with saving.Checkpoints(small_disk, keep=1) as checkpoints:
    checkpoints.save(4, state, {}, {}, b'-')
    checkpoints.save(6, too_much, {}, {}, b'-')
    with pytest.raises(OSError, match='no space left') as e:
      checkpoints.wait()
  assert 'checkpoint at step 6 not written' in message_of(e)
  assert 'the last good one is step 4' in message_of(e)
  assert 'Traceback' not in caplog.text
  with saving.Checkpoints(small_disk, keep=1) as checkpoints:
    assert checkpoints.latest_step() == 4
    assert_same_bits(checkpoints.restore(abstract_of(state)).state, state)
    checkpoints.save(6, state, {}, {}, b'-')
    checkpoints.wait()
    assert checkpoints.latest_step() == 6


@contextlib.contextmanager
def files_of_at_most(size):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_on_the_size_of_files_is_one_line(tmp_path, caplog):
  """No disk is full, and nobody need be root."""
  state = {'x': jnp.arange(3)}
  too_much = {'x': jax.random.bits(jax.random.key(0), (200_000,))}
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(4, state, {}, {}, b'-')
    checkpoints.wait()
    with files_of_at_most(100_000):
      checkpoints.save(6, too_much, {}, {}, b'-')
      with pytest.raises(OSError, match=r'file too large: .*ulimit -f') as e:
        checkpoints.wait()
  assert 'checkpoint at step 6 not written' in message_of(e)
  assert 'the last good one is step 4' in message_of(e)
  assert 'Traceback' not in caplog.text
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    assert_same_bits(checkpoints.restore(abstract_of(state)).state, state)


@pytest.mark.parametrize('method', ['save', 'close'])
def test_an_unnoticed_full_disk_is_told_later(small_disk, method):
  too_much = {'x': jax.random.bits(jax.random.key(0), (2_000_000,))}
  checkpoints = saving.Checkpoints(small_disk, keep=1)
  checkpoints.save(6, too_much, {}, {}, b'-')
  with pytest.raises(OSError, match=r'step 6 .* there is no earlier one'):
    if method == 'save':
      checkpoints.save(8, {'x': jnp.zeros(3)}, {}, {}, b'-')
    else:
      checkpoints.close()
  checkpoints.close()


def test_check_resume_lists_what_changed():
  stored = {'model': {'layers': 2, 'dtype': 'bf16'}, 'seed': 0, 'old': {}}
  steering.check(stored, stored, may_change=())
  now = {'model': {'layers': 3, 'dtype': 'bf16'}, 'seed': 0, 'new': None}
  with pytest.raises(ValueError, match='another --workdir') as e:
    steering.check(stored, now, may_change={'mod', 'model.layer'})
  assert 'model.layers: 2 -> 3; new: absent -> null; old: {} -> absent;' in (
    message_of(e)
  )
  may_change = {'model', 'new', 'old'}
  steering.check(stored, now, may_change=may_change)


def test_check_resume_takes_a_tuple_for_the_list_that_json_made_of_it():
  steering.check({'a': [1, 2]}, {'a': (1, 2)}, may_change=())
  with pytest.raises(ValueError, match=r'a: \[1, 2\] -> \[1, 3\]'):
    steering.check({'a': [1, 2]}, {'a': (1, 3)}, may_change=())


@pytest.mark.parametrize('item', ['ledger', 'state'])
def test_chunks_that_are_larger_than_their_array(tmp_path, item):
  """A chunk is unpacked whole: one of 150 KB took 3 GB, for 400 bytes."""
  state = {'x': jnp.ones((3, 5)), 'n': jnp.int32(1)}
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, state, {}, {}, b'a file')
    checkpoints.wait()
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state
  )
  restored = checkpoint.load(tmp_path, abstract)
  assert restored.ledger == b'a file' and (restored.state['x'] == 1).all()
  place = tmp_path / 'checkpoints' / '1' / item
  store = tensorstore.KvStore.open(
    {'driver': 'ocdbt', 'base': f'file://{place}/'}
  ).result()
  key = b'parquet/.zarray' if item == 'ledger' else b'x/.zarray'
  about = json.loads(store.read(key).result().value)
  about['chunks'][-1] += 1
  store.write(key, json.dumps(about).encode()).result()
  with pytest.raises(checkpoint.Damaged, match='has chunks of shape') as e:
    checkpoint.load(tmp_path, abstract)
  assert '\n' not in str(e.value)
  if item == 'ledger':
    with pytest.raises(checkpoint.Damaged, match='has chunks of shape'):
      checkpoint.load_ledger(tmp_path)
