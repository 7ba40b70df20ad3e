"""The pool survives what a verify function can do to its own process.

Deadlines here are hang guards, not timings: the machine may be busy.
"""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from acereason_jax.verifiers.pool import VerifierPool

GUARD = 60
OBEY = 'hostile_verifiers:obey'

if sys.platform != 'linux':
  pytest.skip('the tests read /proc', allow_module_level=True)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))


def _pool(path=OBEY, workers=1, timeout_seconds=30.0, **kwargs):
  return VerifierPool(path, kwargs, workers, timeout_seconds)


def _judge(pool, response, answer=''):
  return pool.submit(response, answer).result(GUARD)


def _gone(pids):
  deadline = time.monotonic() + GUARD
  while any(psutil.pid_exists(pid) for pid in pids):
    if time.monotonic() > deadline:
      return False
    time.sleep(0.05)
  return True


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
    'import sys, acereason_jax.verifiers.math, acereason_jax.verifiers.pool\n'
    'assert not {"jax", "jaxlib"} & set(sys.modules)\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  subprocess.run([sys.executable, '-c', code], check=True, env=env)


def test_environment_holds_no_secret(monkeypatch):
  monkeypatch.setenv('SECRET_TOKEN', 'x')
  with _pool('hostile_verifiers:environment') as pool:
    names = _judge(pool, '').detail.split(',')
  assert 'SECRET_TOKEN' not in names
  assert 'SYMPY_GROUND_TYPES' in names


def test_ctrl_c_does_not_reach_the_worker():
  with _pool('hostile_verifiers:session') as pool:
    pid, sid = map(int, _judge(pool, '').detail.split())
  assert pid == sid != os.getsid(0)


@pytest.mark.parametrize('hang', ['sleep 600', 'compute'])
def test_overrun_is_killed_and_the_worker_replaced(hang):
  with _pool(timeout_seconds=1.0) as pool:
    assert _judge(pool, hang).status == 'timeout'
    assert _judge(pool, 'nothing').status == 'right'
    assert pool.stats() == {'timeout': 1, 'right': 1, 'restarts': 1}


def test_big_powers_time_out_in_the_math_verifier():
  path = 'acereason_jax.verifiers.math:verify'
  with _pool(path, timeout_seconds=3.0, reasons=False) as pool:
    futures = [
      pool.submit(rf'\boxed{{{power}}}', r'\sqrt{2}')
      for power in ('9^{9^{9^{9}}}', '2^{10^{10}}')
    ]
    statuses = {f.result(GUARD).status for f in futures}
    assert _judge(pool, r'\boxed{3}', '3').status == 'right'
  assert statuses <= {'timeout', 'wrong', 'error'}


@pytest.mark.parametrize('death', ['exit 0', 'exit 7', 'kill'])
def test_crash_is_an_error_after_one_retry(death):
  with _pool() as pool:
    assert _judge(pool, death).status == 'error'
    assert _judge(pool, 'nothing').status == 'right'
    assert pool.stats()['restarts'] == 2


def test_one_crash_is_forgiven(tmp_path):
  with _pool() as pool:
    assert _judge(pool, f'once {tmp_path / "crashed"}').status == 'right'


def test_prints_are_no_replies():
  with _pool() as pool:
    assert _judge(pool, 'print').detail == 'print'
    assert pool.stats() == {'right': 1}


@pytest.mark.parametrize('data', ['A' * 40, '\x00\x00\x00\x02{}', '\x00' * 4])
def test_garbage_is_an_error(data):
  with _pool() as pool:
    assert _judge(pool, f'garbage {data}').status == 'error'
    assert _judge(pool, 'nothing').status == 'right'


@pytest.mark.parametrize('task', ['raise \ud800 boom', 'allocate'])
def test_exceptions_are_errors(task):
  with _pool() as pool:
    verdict = _judge(pool, task)
    assert verdict.status == 'error'
    assert verdict.detail.isprintable()
    with pytest.raises(ValueError, match='no reward'):
      verdict.reward  # noqa: B018


def test_queueing_is_not_running():
  with _pool(timeout_seconds=4.0) as pool:
    futures = [pool.submit('sleep 1', '') for _ in range(6)]
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


def test_close_leaves_no_child_and_cancels_the_queue():
  pool = _pool(workers=2)
  children = psutil.Process().children(recursive=True)
  assert len(children) >= 2
  running = [pool.submit('sleep 1', '') for _ in range(2)]
  while not all(f.running() for f in running):
    time.sleep(0.01)
  queued = pool.submit('nothing', '')
  pool.close()
  pool.close()
  assert queued.cancelled()
  assert {f.result(0).status for f in running} == {'right'}
  assert _gone([child.pid for child in children])
  with pytest.raises(RuntimeError, match='closed'):
    pool.submit('', '')


def test_killed_parent_leaves_no_worker():
  code = (
    'import psutil, time\n'
    'from acereason_jax.verifiers.pool import VerifierPool\n'
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
