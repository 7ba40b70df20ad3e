"""The pool survives what a verify function can do to its own process.

Deadlines here are hang guards, not timings: the machine may be busy. What has
to last lasts until a file is there.
"""

import concurrent.futures
import contextlib
import gc
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import psutil
import pytest

from acereason_jax.verifiers.pool import pool as pool_lib
from acereason_jax.verifiers.pool import process, worker
from acereason_jax.verifiers.pool.pool import VerifierPool

GUARD = 300
OBEY = 'hostile_verifiers:obey'

if sys.platform != 'linux':
  pytest.skip('the tests read /proc', allow_module_level=True)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))


def _pool(path=OBEY, workers=1, timeout_seconds=30.0, confine=True, **kwargs):
  return VerifierPool(path, kwargs, workers, timeout_seconds, confine)


def _judge(pool, response, answer=''):
  return pool.submit(response, answer).result(GUARD)


@pytest.fixture
def gate(tmp_path):
  """A file that 'wait' waits for."""
  return tmp_path / 'gate'


def _until(condition):
  deadline = time.monotonic() + GUARD
  while not condition():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.01)
  return True


def _occupy(pool, gate):
  """A task that a worker has begun, and that ends when `gate` is there."""
  future = pool.submit(f'wait {gate}', '')
  assert _until(future.running)
  return future


def _gone(pids):
  return _until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def _descriptors():
  # What earlier tests left open is closed now, not between two counts.
  gc.collect()
  return len(os.listdir('/proc/self/fd'))


def _workers():
  """The workers of this process's pools, with all that they started.

  The process may have other children: the tracker of multiprocessing, which an
  earlier test started, stays until the process ends.
  """
  found = []
  for child in psutil.Process().children():
    # One of another test may be ending.
    with contextlib.suppress(psutil.NoSuchProcess):
      if worker.__name__ in child.cmdline():
        found += [child, *child.children(recursive=True)]
  return found


def _zombies():
  found = set()
  for child in psutil.Process().children(recursive=True):
    with contextlib.suppress(psutil.NoSuchProcess):
      if child.status() == psutil.STATUS_ZOMBIE:
        found.add(child)
  return found


def test_kwargs_reach_the_function():
  with _pool('hostile_verifiers:echo', prefix='n=') as pool:
    verdict = _judge(pool, 'abc', 'abc')
  assert (verdict.status, verdict.detail) == ('right', 'n=3')
  assert verdict.seconds > 0


@pytest.mark.parametrize(
  'text',
  ['\x00' * 9, '\ud800 lone', 'é\u2028\n', 'x' * (1 << 20), '\\"}{'],
  ids=['nul', 'surrogate', 'lines', 'megabyte', 'quotes'],
)
def test_any_text_arrives_whole(text):
  with _pool('hostile_verifiers:echo') as pool:
    assert _judge(pool, text, text).status == 'right'


def test_worker_is_clean():
  with _pool('hostile_verifiers:modules') as pool:
    names = _judge(pool, '').detail.split(',')
  assert not {'jax', 'jaxlib', 'flax'} & set(names)
  with _pool('acereason_jax.verifiers.math:verify', reasons=False) as pool:
    assert _judge(pool, r'\boxed{2\sqrt2}', r'\sqrt{8}').status == 'right'


def test_math_worker_never_imports_jax():
  code = (
    'import sys, acereason_jax.verifiers.math\n'
    'import acereason_jax.verifiers.pool.pool\n'
    'assert not {"jax", "jaxlib"} & set(sys.modules)\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  subprocess.run([sys.executable, '-c', code], check=True, env=env)


def test_environment_holds_no_secret(monkeypatch):
  monkeypatch.setenv('SECRET_TOKEN', 'x')
  with _pool('hostile_verifiers:environment', confine=False) as pool:
    names = _judge(pool, '').detail.split(',')
  assert 'SECRET_TOKEN' not in names
  assert 'SYMPY_GROUND_TYPES' in names


def test_ctrl_c_does_not_reach_the_worker():
  with _pool('hostile_verifiers:session') as pool:
    pid, sid = map(int, _judge(pool, '').detail.split())
  assert pid == sid != os.getsid(0)


@pytest.mark.parametrize('hang', ['sleep 600', 'compute'])
def test_overrun_is_killed_and_the_worker_replaced(hang):
  # So the worker's own limit, of CPU time, is far away.
  with _pool(timeout_seconds=GUARD) as pool:
    pool._timeout_seconds = 1.0
    assert _judge(pool, hang).status == 'timeout'
    pool._timeout_seconds = GUARD
    assert _judge(pool, 'nothing').status == 'right'
    stats = pool.stats()
  assert stats.verdicts == {'timeout': 1, 'right': 1}
  assert (stats.restarts, stats.recycled) == (1, 0)


def test_big_powers_do_not_stop_the_math_verifier():
  path = 'acereason_jax.verifiers.math:verify'
  with _pool(path, timeout_seconds=3.0, reasons=False) as pool:
    futures = [
      pool.submit(rf'\boxed{{{power}}}', r'\sqrt{2}')
      for power in ('9^{9^{9^{9}}}', '2^{10^{10}}')
    ]
    statuses = {f.result(GUARD).status for f in futures}
    pool._timeout_seconds = GUARD
    assert _judge(pool, r'\boxed{3}', '3').status == 'right'
  assert 'right' not in statuses


@pytest.mark.parametrize('death', ['exit 0', 'exit 7', 'kill'])
def test_crash_is_an_error_after_one_retry(death):
  with _pool() as pool:
    assert _judge(pool, death).status == 'error'
    assert _judge(pool, 'nothing').status == 'right'
    assert pool.stats().restarts == 2


def test_one_crash_is_forgiven(tmp_path):
  with _pool(confine=False) as pool:
    assert _judge(pool, f'once {tmp_path / "crashed"}').status == 'right'


def test_prints_are_no_replies():
  with _pool() as pool:
    assert _judge(pool, 'print').detail == 'print'
    assert pool.stats().verdicts == {'right': 1}
    assert pool.stats().restarts == 0


@pytest.mark.parametrize(
  'reply',
  [
    '[' * 500_000,
    '{"id": ' + '1' * 100_000 + '}',
    '"right"',
    '{"id": 0}',
    '{"id": 0, "status": ["right"], "detail": ""}',
    '{"id": 0, "status": "right", "detail": 5}',
    '{"id": 0, "status": "perfect", "detail": ""}',
    '{"id": 7, "status": "right", "detail": ""}',
    '\udcff',
  ],
  ids=lambda text: ascii(text[:40]),
)
def test_a_forged_reply_is_an_error(reply):
  with _pool() as pool:
    verdict = _judge(pool, f'reply {reply}')
    assert (verdict.status, 'garbage' in verdict.detail) == ('error', True)
    assert _judge(pool, 'nothing').status == 'right'


@pytest.mark.parametrize(
  'data', ['A' * 40, '\x00\x00\x00\x02{}', '\x00' * 4, '\udcff' * 40]
)
def test_garbage_is_an_error(data):
  with _pool() as pool:
    assert _judge(pool, f'garbage {data}').status == 'error'
    assert _judge(pool, 'nothing').status == 'right'


@pytest.mark.parametrize('task', ['raise \ud800 boom', 'allocate', 'recurse'])
def test_exceptions_are_errors(task):
  with _pool() as pool:
    verdict = _judge(pool, task)
    assert verdict.status == 'error'
    assert verdict.detail.isprintable()
    with pytest.raises(ValueError, match='no reward'):
      verdict.reward  # noqa: B018


def test_queueing_is_not_running():
  with _pool(timeout_seconds=6.0) as pool:
    futures = [pool.submit('sleep .5', '') for _ in range(13)]
    assert {f.result(GUARD).status for f in futures} == {'right'}


def test_submit_from_many_threads():
  with _pool('hostile_verifiers:echo', workers=2) as pool:
    verdicts = []

    def work(i):
      verdicts.append(_judge(pool, 'x' * i, 'x' * 3))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(GUARD)
  assert sorted(v.detail for v in verdicts) == list('01234567')
  assert sum(v.status == 'right' for v in verdicts) == 1


def test_same_verdicts_for_any_number_of_workers():
  pairs = [(str(i % 3), r'\frac{4}{2}') for i in range(9)]
  pairs += [(r'\sqrt{8}', r'2\sqrt{2}'), ('(1,2)', '(2,1)'), ('', '3')]
  results = []
  for workers in (1, 3):
    path = 'acereason_jax.verifiers.math:verify'
    with _pool(path, workers=workers, reasons=False) as pool:
      futures = [pool.submit(rf'\boxed{{{p}}}', g) for p, g in pairs]
      verdicts = [f.result(GUARD) for f in futures]
    results.append([(v.status, v.detail) for v in verdicts])
  assert results[0] == results[1]


def test_close_leaves_no_child_and_cancels_the_queue(gate):
  pool = _pool(workers=2)
  children = _workers()
  assert len(children) >= 2
  running = [_occupy(pool, gate) for _ in range(2)]
  queued = pool.submit('nothing', '')
  queued.add_done_callback(lambda _: gate.touch())
  pool.close()
  pool.close()
  assert queued.cancelled()
  assert {f.result(0).status for f in running} == {'right'}
  assert _gone([child.pid for child in children])
  with pytest.raises(RuntimeError, match='closed'):
    pool.submit('', '')


def test_the_end_of_a_pools_time_ends_what_runs_and_what_waits():
  """Nothing waits for 600 s, and no worker is started for what is left."""
  until = time.monotonic() + 4
  with VerifierPool(OBEY, {}, 1, 700.0, until=until) as pool:
    first = pool.submit('sleep 600', '')
    rest = [pool.submit('nothing', '') for _ in range(200)]
    found = [future.result(GUARD) for future in (first, *rest)]
    assert {v.status for v in found} == {'timeout'}
    assert {v.detail for v in found} == {"the pool's time was over"}
    assert pool.stats().restarts == 0
  assert _gone(w.pid for w in _workers())


def test_killed_parent_leaves_no_worker():
  code = (
    'import psutil, time\n'
    'from acereason_jax.verifiers.pool.pool import VerifierPool\n'
    f'pool = VerifierPool({OBEY!r}, {{}}, 2, 600.0)\n'
    "futures = [pool.submit('compute', ''), pool.submit('sleep 600', '')]\n"
    'while not all(f.running() for f in futures): time.sleep(0.01)\n'
    'print(*[c.pid for c in psutil.Process().children()], flush=True)\n'
    'time.sleep(600)\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  with subprocess.Popen(
    [sys.executable, '-c', code], stdout=subprocess.PIPE, env=env
  ) as parent:
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
  assert len(pids) == 2
  assert _gone(pids)


@pytest.mark.parametrize(
  ('path', 'kwargs'),
  [
    ('hostile_verifiers:nothing', {}),
    ('no_such_module:verify', {}),
    ('hostile_verifiers:echo', {'suffix': 1}),
  ],
)
def test_a_wrong_component_fails_at_once(path, kwargs):
  with pytest.raises(ValueError, match=path):
    _pool(path, **kwargs)
  with pytest.raises(ValueError, match='workers=0'):
    _pool(workers=0)


@pytest.mark.parametrize('seconds', [0.0, -1.0, float('nan'), float('inf')])
def test_a_time_limit_that_is_none_is_refused(seconds):
  with pytest.raises(ValueError, match='timeout_seconds'):
    _pool(timeout_seconds=seconds)


def _limit(pool, name):
  soft, used = _judge(pool, f'limit RLIMIT_{name}').detail.split()
  return int(soft), float(used)


def test_limits_of_a_worker():
  with _pool(timeout_seconds=40.0) as pool:
    assert _limit(pool, 'CORE')[0] == _limit(pool, 'FSIZE')[0] == 0
    assert 0 < _limit(pool, 'NOFILE')[0] <= 256
    assert 0 < _limit(pool, 'AS')[0] <= 4 << 30
    # CPU time counts from the start of the process; its limit moves along.
    allowed = 40.0 * len(os.sched_getaffinity(0))
    for _ in range(2):
      soft, used = _limit(pool, 'CPU')
      assert allowed - 1 < soft - used < allowed + 2
      _judge(pool, 'burn 1.1')
    assert _limit(pool, 'CPU')[0] > soft


def test_a_task_ends_though_its_parent_is_stopped():
  """It stops itself when it has handed the task over."""
  code = (
    'import os, psutil, signal, time\n'
    'os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n'
    'from acereason_jax.verifiers.pool.pool import VerifierPool\n'
    'from acereason_jax.verifiers.pool.process import Process\n'
    f'pool = VerifierPool({OBEY!r}, {{}}, 1, 3.0)\n'
    'print(psutil.Process().children()[0].pid, flush=True)\n'
    'def read(*_):\n'
    '  os.kill(os.getpid(), signal.SIGSTOP)\n'
    # Another thread may have the signal, and this one a moment.
    '  time.sleep(600)\n'
    'Process._read = read\n'
    "pool.submit('compute', '')\n"
    'time.sleep(600)\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  with subprocess.Popen(
    [sys.executable, '-c', code], stdout=subprocess.PIPE, env=env
  ) as parent:
    judge = psutil.Process(int(parent.stdout.readline()))
    try:
      assert _until(lambda: judge.status() == psutil.STATUS_ZOMBIE)
    finally:
      parent.kill()


# --- replacing workers ------------------------------------------------------


def test_workers_are_recycled_by_count(monkeypatch):
  monkeypatch.setattr(process, '_TASKS', 3)
  with _pool() as pool:
    pids = [_judge(pool, 'pid').detail for _ in range(10)]
    stats = pool.stats()
  assert [len(list(g)) for _, g in itertools.groupby(pids)] == [3, 3, 3, 1]
  assert (stats.recycled, stats.restarts) == (3, 0)
  assert stats.verdicts == {'right': 10}


def test_workers_are_recycled_by_size(monkeypatch):
  monkeypatch.setattr(process, '_GROWTH_BYTES', 150 << 20)
  monkeypatch.setattr(process, '_SIZE_SECONDS', 0.0)
  with _pool() as pool:
    pids = []
    for _ in range(2):
      pids.append(_judge(pool, 'pid').detail)
      assert _judge(pool, f'hold {100 << 20}').status == 'right'
      assert _judge(pool, 'pid').detail == pids[-1]
      assert _judge(pool, f'hold {100 << 20}').status == 'right'
    stats = pool.stats()
    pids.append(_judge(pool, 'pid').detail)
  assert len(set(pids)) == 3
  assert stats.worker_bytes > 200 << 20
  assert stats.restarts == 0
  # The last replacement may still have been under way.
  assert stats.recycled in (1, 2)


def test_no_proc_means_by_count_alone(monkeypatch):
  monkeypatch.setattr(process, '_resident_bytes', lambda pid: 0)
  monkeypatch.setattr(process, '_GROWTH_BYTES', 1)
  monkeypatch.setattr(process, '_TASKS', 2)
  with _pool() as pool:
    pids = [_judge(pool, 'pid').detail for _ in range(4)]
    assert pool.stats().worker_bytes == 0
  assert pids[0] == pids[1] != pids[2] == pids[3]


def test_out_of_memory_replaces_the_worker_and_recursion_does_not():
  with _pool() as pool:
    first = _judge(pool, 'pid').detail
    assert 'RecursionError' in _judge(pool, 'recurse').detail
    assert _judge(pool, 'pid').detail == first
    verdict = _judge(pool, 'allocate')
    assert (verdict.status, verdict.detail[:11]) == ('error', 'MemoryError')
    assert _judge(pool, 'pid').detail != first
    assert (pool.stats().recycled, pool.stats().restarts) == (1, 0)


def test_starting_a_worker_is_not_running_time(monkeypatch):
  slow, start, passed = 1000.0, process.Process.start, 0.0

  def start_slowly(self):
    nonlocal passed
    passed += slow
    return start(self)

  clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
  monkeypatch.setattr(pool_lib, 'time', clock)
  monkeypatch.setattr(process, '_TASKS', 1)
  monkeypatch.setattr(process.Process, 'start', start_slowly)
  with _pool() as pool:
    verdicts = [_judge(pool, 'nothing') for _ in range(2)]
    verdicts.append(_judge(pool, 'exit 0'))
    stats = pool.stats()
  assert max(v.seconds for v in verdicts) < slow
  assert stats.slowest_seconds < slow


def test_recycling_changes_no_verdict(monkeypatch):
  path = 'acereason_jax.verifiers.math:verify'
  pairs = [(str(i), r'\frac{4}{2}') for i in range(4)]
  pairs += [(r'\sqrt{8}', r'2\sqrt{2}'), ('(1,2)', '(2,1)'), ('', '3')]
  results = []
  for tasks in (10_000, 1):
    monkeypatch.setattr(process, '_TASKS', tasks)
    with _pool(path, reasons=False) as pool:
      verdicts = [_judge(pool, rf'\boxed{{{p}}}', g) for p, g in pairs]
    results.append([(v.status, v.detail) for v in verdicts])
  assert results[0] == results[1]


def test_a_worker_that_dies_between_tasks_costs_no_task():
  with _pool() as pool:
    pid = int(_judge(pool, 'pid').detail)
    os.kill(pid, signal.SIGKILL)
    assert _until(lambda: psutil.Process(pid).status() == 'zombie')
    assert _judge(pool, 'nothing').status == 'right'
    assert pool.stats().restarts == 1
    # Now it dies at no known moment.
    tasks = ['later 0.01', 'nothing'] * 10
    futures = [pool.submit(task, '') for task in tasks]
    verdicts = [f.result(GUARD) for f in futures]
  assert {v.status for v in verdicts[1::2]} == {'right'}


@pytest.mark.parametrize(
  'tasks', [10, pytest.param(100, marks=pytest.mark.slow)]
)
def test_restarts_leave_nothing(tasks):
  before, left = _descriptors(), _zombies()
  with _pool() as pool:
    _judge(pool, 'nothing')
    opened = _descriptors()
    futures = [pool.submit('exit 0', '') for _ in range(tasks)]
    assert {f.result(GUARD * 2).status for f in futures} == {'error'}
    _judge(pool, 'nothing')
    assert pool.stats().restarts == 2 * tasks
    assert _descriptors() == opened
    assert len(_workers()) == 1
    assert _zombies() <= left
  assert _descriptors() == before
  assert _zombies() <= left


# --- many tasks -------------------------------------------------------------


@pytest.fixture
def room_for_three(monkeypatch):
  """A task here is 1,024 bytes and a message of about 60."""
  monkeypatch.setattr(pool_lib, '_WAITING_BYTES', 3500)


def test_submit_waits_for_room(room_for_three, gate):
  futures = []
  with _pool() as pool:
    _occupy(pool, gate)
    thread = threading.Thread(
      target=lambda: futures.extend(
        pool.submit('nothing', '') for _ in '1234567'
      )
    )
    thread.start()
    assert _until(lambda: pool.stats().queued == 3)
    gate.touch()
    while thread.is_alive():
      assert pool.stats().queued <= 3
    assert {f.result(GUARD).status for f in futures} == {'right'}
    assert len(futures) == 7


def test_a_task_larger_than_the_room_is_judged(room_for_three):
  with _pool('hostile_verifiers:echo') as pool:
    texts, futures = ['x' * 9000, 'y' * 9000], []
    threading.Thread(
      target=lambda: futures.extend(pool.submit(t, t) for t in texts),
      daemon=True,
    ).start()
    assert _until(lambda: len(futures) == 2)
    assert {f.result(GUARD).status for f in futures} == {'right'}


def test_close_wakes_those_who_wait_for_room(room_for_three, gate):
  pool = _pool()
  running = _occupy(pool, gate)
  queued = [pool.submit('nothing', '') for _ in range(3)]
  queued[0].add_done_callback(lambda _: gate.touch())
  with concurrent.futures.ThreadPoolExecutor(4) as threads:
    waiting = [threads.submit(pool.submit, 'nothing', '') for _ in range(4)]
    assert not running.done()
    pool.close()
    for future in waiting:
      with pytest.raises(RuntimeError, match='closed'):
        future.result(GUARD)
  assert running.result(0).status == 'right'
  assert all(f.cancelled() for f in queued)
  # As the standard library's own functions see it.
  assert not concurrent.futures.wait(queued, timeout=GUARD).not_done


def test_a_callback_may_submit_into_a_full_pool(room_for_three, gate):
  later = []
  with _pool() as pool:
    first = _occupy(pool, gate)
    first.add_done_callback(
      lambda _: later.extend(pool.submit('nothing', '') for _ in range(9))
    )
    for _ in range(3):
      pool.submit('nothing', '')
    gate.touch()
    assert _until(lambda: len(later) == 9)
    assert {f.result(GUARD).status for f in later} == {'right'}


def _counted(tasks, seen):
  for task in tasks:
    seen.append(task)
    yield task


def test_as_completed_gives_every_verdict_its_key():
  tasks = [(f'k{i}', 'x' * i, 'x' * 3) for i in range(200)]
  with _pool('hostile_verifiers:echo', workers=2) as pool:
    found = dict(pool.as_completed(iter(tasks)))
    assert dict(pool.as_completed([])) == {}
  assert {k: v.detail for k, v in found.items()} == {
    f'k{i}': str(i) for i in range(200)
  }
  assert [k for k, v in found.items() if v.status == 'right'] == ['k3']


def test_as_completed_yields_what_ends_first(gate):
  with _pool(workers=2) as pool:
    tasks = [('slow', f'wait {gate}', ''), ('quick', 'nothing', '')]
    found = pool.as_completed(tasks)
    assert next(found)[0] == 'quick'
    gate.touch()
    assert [k for k, _ in found] == ['slow']


def test_as_completed_is_lazy_and_may_be_left():
  seen = []
  endless = ((i, 'nothing', '') for i in itertools.count())
  with _pool(workers=2) as pool:
    assert next(pool.as_completed([]), None) is None
    verdicts = pool.as_completed(_counted(endless, seen))
    assert not seen
    for taken in range(1, 100):
      assert next(verdicts)[1].status == 'right'
      assert len(seen) <= taken + 2 * pool_lib._AHEAD
    verdicts.close()
    assert _judge(pool, 'nothing').status == 'right'
    assert _until(lambda: pool.stats().running == pool.stats().queued == 0)
    assert sum(pool.stats().verdicts.values()) <= len(seen) + 1


def test_as_completed_raises_what_its_tasks_raise(gate):
  def tasks():
    yield 0, f'wait {gate}', ''
    assert _until(lambda: pool.stats().running)
    for i in range(5):
      yield i, 'nothing', ''
    raise OSError('disk')

  with _pool() as pool:
    with pytest.raises(OSError, match='disk'):
      list(pool.as_completed(tasks()))
    gate.touch()
    assert _judge(pool, 'nothing').status == 'right'
    # Waiting tasks were cancelled.
    assert pool.stats().verdicts == {'right': 2}


def test_as_completed_says_that_the_pool_is_closed():
  pool = _pool()
  verdicts = pool.as_completed((i, 'sleep 1', '') for i in itertools.count())
  next(verdicts)
  pool.close()
  with pytest.raises(RuntimeError, match='closed'):
    list(verdicts)
  with pytest.raises(RuntimeError, match='closed'):
    next(pool.as_completed([(0, '', '')]))


def test_stats(gate):
  with _pool(workers=2) as pool:
    futures = [_occupy(pool, gate) for _ in range(2)]
    futures += [pool.submit('sleep .1', ''), pool.submit('raise it', '')]
    now = pool.stats()
    assert (now.running, now.queued) == (2, 2)
    gate.touch()
    seconds = [future.result(GUARD).seconds for future in futures]
    pool._timeout_seconds = 1.0
    seconds.append(_judge(pool, 'sleep 600').seconds)
    stats = pool.stats()
  assert stats.verdicts == {'right': 3, 'timeout': 1, 'error': 1}
  assert (stats.running, stats.queued) == (0, 0)
  assert stats.slowest_seconds == max(seconds) >= 1.0
  assert stats.busy_seconds == pytest.approx(sum(seconds))
  assert stats.worker_bytes > 1 << 20


# --- confinement, as the pool has it (test_sandbox has the attacks) ---------


def test_confinement_is_said_and_can_be_left_out():
  with _pool('hostile_verifiers:environment') as pool:
    assert _judge(pool, '').detail == ''
    assert 'no_new_privs=yes' in pool.confinement
  with _pool('hostile_verifiers:environment', confine=False) as pool:
    assert pool.confinement == 'not confined'


def test_a_worker_is_prepared_before_its_first_task():
  path = 'hostile_verifiers:prepared'
  with _pool(path, timeout_seconds=35, ready='yes') as pool:
    assert pool.confinement.endswith('; prepared within 35')
    assert _judge(pool, '').status == 'right'
  with pytest.raises(ValueError, match='not ready in 35'):
    _pool(path, timeout_seconds=35, ready='')


def test_a_worker_has_nothing_open_but_its_pipes():
  with _pool('hostile_verifiers:descriptors') as pool:
    names = _judge(pool, '').detail.split(',')
  assert sorted(set(names)) == ['/dev/null', 'pipe']
  assert names.count('pipe') == 2


def test_the_math_judge_works_confined():
  path = 'acereason_jax.verifiers.math:verify'
  pairs = [
    (r'\frac{\sqrt{3}}{3}', r'\frac{1}{\sqrt{3}}'),
    (r'\sin 30^\circ', r'\frac12'),
    (r'x^2-1', r'(x-1)(x+1)'),
    (r'\begin{pmatrix}1\\2\end{pmatrix}', r'\begin{pmatrix}1\\2\end{pmatrix}'),
    (r'\{1,2\}', r'\{2,1\}'),
    (r'(-\infty,2)', r'(-\infty,2]'),
    (r'\int', '3'),
    (r'\frac{', '3'),
  ]
  results = []
  for confine in (True, False):
    with _pool(path, confine=confine, reasons=False) as pool:
      futures = [pool.submit(rf'\boxed{{{p}}}', g) for p, g in pairs]
      verdicts = [f.result(GUARD) for f in futures]
    results.append([(v.status, v.detail) for v in verdicts])
  assert results[0] == results[1]
  assert [status for status, _ in results[0][:3]] == ['right'] * 3
