"""Programs in a jail: what they may and may not do, in every tier, as any user.

Deadlines here are hang guards, not timings: the machine may be busy.
"""

import contextlib
import functools
import gc
import os
import pathlib
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile

import psutil
import pytest

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import jail

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

GUARD = 120
HERE = pathlib.Path(__file__).parent
NOBODY = 65534
USERS = [os.getuid(), NOBODY] if os.getuid() == 0 else [os.getuid()]
COMBINATIONS = [(user, tier) for user in USERS for tier in jail.TIERS]
# Landlock ABIs of older kernels, 0 being none; none of them covers signals.
OLDER = [
  (user, tier, abi)
  for user in USERS
  for tier, abi in (('T1', 0), ('T2', 1), ('T2', 3), ('T2', 5), ('T3', 1))
]
QUICK = jail.Limits(cpu_seconds=5, wall_seconds=GUARD, memory_bytes=1 << 30)


def _limits(**changes):
  fields = dict(cpu_seconds=5, wall_seconds=GUARD, memory_bytes=1 << 30)
  return jail.Limits(**fields | changes)


def _until(condition):
  deadline = time.monotonic() + GUARD
  while not condition():
    if time.monotonic() > deadline:
      return False
    time.sleep(0.01)
  return True


# --- as other users ---------------------------------------------------------


def as_user(user):
  """The arguments of subprocess to run something as a user."""
  path = os.pathsep.join([str(HERE), str(HERE.parent)])
  if user == os.getuid():
    path = os.pathsep.join([path, *sys.path])
  other = dict(user=user, group=user, extra_groups=[])
  same = user == os.getuid()
  return dict(cwd='/', env={'PYTHONPATH': path}, **({} if same else other))


@functools.cache
def _python(user):
  """An interpreter that the user can run, or skips."""
  again = 'import subprocess, sys, code_attacks; assert sys.version_info > '
  again += '(3, 11); subprocess.check_call([sys.executable, "-c", ""])'
  for python in (sys.executable, '/usr/bin/python3'):
    try:
      done = subprocess.run(
        [python, '-c', again], capture_output=True, **as_user(user)
      )
    except OSError:
      continue
    if done.returncode == 0:
      return python
  return None


def command(user, *arguments):
  if not (python := _python(user)):
    pytest.skip(f'user {user} can run no interpreter here')
  return [python, str(HERE / 'jailed.py'), *arguments]


class Remote:
  """A jail in another user's process."""

  def __init__(self, user, tier, abi=sandbox.EVERY_ABI):
    self._process = subprocess.Popen(
      command(user, 'serve', tier, str(abi)),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      **as_user(user),
    )
    self.tier = self._reply()

  def run(self, *arguments):
    pickle.dump(arguments, self._process.stdin)
    self._process.stdin.flush()
    return self._reply()

  def _reply(self):
    try:
      return pickle.load(self._process.stdout)
    except EOFError:
      error = self._process.stderr.read().decode().strip().splitlines()[-1]
      raise jail.SandboxError(error) from None

  def close(self):
    self._process.communicate()


@pytest.fixture(scope='module', params=COMBINATIONS, ids=str)
def jailed(request):
  """A jail of each tier, as each user, that this host allows."""
  user, tier = request.param
  try:
    jailed = jail.Jail(tier) if user == os.getuid() else Remote(user, tier)
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier} to {user}: {e}')
  assert jailed.tier == tier
  yield jailed
  jailed.close()


@pytest.fixture(scope='module', params=OLDER, ids=str)
def older(request):
  """A jail as kernels before 6.12 have it."""
  user, tier, abi = request.param
  start = jail.Jail if user == os.getuid() else functools.partial(Remote, user)
  try:
    jailed = start(tier, abi)
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier} to {user}: {e}')
  yield jailed
  jailed.close()


@pytest.fixture
def own():
  """A jail for only this test."""
  try:
    jailed = jail.Jail()
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses jails: {e}')
  with jailed:
    yield jailed


def _run(jailed, program, stdin=b'', limits=QUICK, fn='', args=()):
  text = program if isinstance(program, bytes) else program.encode()
  return jailed.run(text, stdin, limits, fn, args)


def _printed(jailed, program, stdin=b'', **kwargs):
  outcome = _run(jailed, program, stdin, **kwargs)
  assert outcome.exit == 0, outcome
  return outcome.stdout.decode().strip()


# --- an outcome -------------------------------------------------------------


def test_an_outcome_has_all_its_fields(jailed):
  program = 'import sys\nsys.stderr.write("e")\nprint(input()[::-1])'
  outcome = _run(jailed, program, b'abc\n')
  assert (outcome.exit, outcome.timed_out) == (0, False)
  assert outcome.stdout == b'cba\n'
  assert (outcome.result, outcome.stderr) == (b'', b'e')
  assert 0 < outcome.cpu_seconds < 5
  assert 0 < outcome.wall_seconds < GUARD
  assert 1 << 20 < outcome.peak_bytes < 1 << 30


@pytest.mark.parametrize(
  ('program', 'fn', 'args', 'result'),
  [
    ('def f(a, b): return [a + b]', 'f', (1, 2), b'[3]'),
    ('class Solution:\n  def f(s, x): return x', 'Solution().f', ('é',), None),
    ('def f(): return {1: (2, None)}', 'f', (), b'{"1": [2, null]}'),
    ('f = lambda x: x', 'f', ([[], {}, 1e300],), b'[[], {}, 1e+300]'),
    ('class Solution:\n  def f(s, x): return x', 'f', (1,), b'1'),
    ('def f(x): return x', 'Solution().f', (1,), b'1'),
    ('class Solution: pass\ndef f(x): return x', 'f', (1,), b'1'),
    ('from math import gcd', 'gcd', (4, 6), b'2'),
    ('def f(): return 10**5000', 'f', (), b'1' + b'0' * 5000),
    ('def f(): return {1}', 'f', (), b''),
    ('def f(): yield 1', 'f', (), b''),
    ('import os\ndef f(): os._exit(0)', 'f', (), b''),
  ],
)
def test_calls(jailed, program, fn, args, result):
  outcome = _run(jailed, program, fn=fn, args=args)
  assert outcome.exit == 0, outcome
  assert outcome.result == (b'"\\u00e9"' if result is None else result)
  assert outcome.stdout == b''


@pytest.mark.parametrize(
  ('program', 'fn'),
  [
    ('', 'f'),
    ('', 'floor'),
    ('', 'Solution().floor'),
    ('f = 1', 'f'),
    ('def f(a): pass', 'f'),
    ('class Solution: pass', 'Solution().f'),
    ('class Solution:\n  def __init__(s, x): pass', 'Solution().f'),
    ('def f(): 1 / 0', 'f'),
  ],
)
def test_calls_that_raise(jailed, program, fn):
  outcome = _run(jailed, program, fn=fn)
  assert (outcome.exit, outcome.result) == (1, b'')
  assert b'Error' in outcome.stderr


# --- as Python does it ------------------------------------------------------

# Program, stdin, exit status, stdout, and what is searched for in stderr.
PYTHON = {
  'empty': ('', '', 0, '', ''),
  'exit': ('import sys\nprint(1)\nsys.exit()', '', 0, '1\n', ''),
  'exit 3': ('raise SystemExit(3)', '', 3, '', ''),
  'exit 256': ('exit(256)', '', 0, '', ''),
  'exit -1': ('quit(-1)', '', 255, '', ''),
  'exit text': ('import sys\nsys.exit("why")', '', 1, '', '^why$'),
  'os._exit': ('import os\nprint(1)\nos._exit(7)', '', 7, '', ''),
  'exception': (
    'print(1)\n\ndef f():\n  x = 1 / 0\nf()',
    '',
    1,
    '1\n',
    r'^Traceback .*\n  File "solution.py", line 5, in <module>\n    f\(\)\n'
    r'.*line 4, in f\n    x = 1 / 0\n(.*\n)?ZeroDivisionError: division',
  ),
  'syntax error': (
    'x = (1',
    '',
    1,
    '',
    r'line 1\n    x = \(1\n.*\nSyntaxError: ',
  ),
  'null byte': ('a\0b', '', 1, '', 'null byte'),
  'too nested': (f'{"(" * 9999}', '', 1, '', 'Error'),
  'excepthook': (
    'import sys\nsys.excepthook = lambda *a: print("hook")\n1 / 0',
    '',
    1,
    'hook\n',
    '^$',
  ),
  'prompt': ('print(input("? "))', 'a\n', 0, '? a\n', ''),
  'end of input': ('input()', '', 1, '', 'EOFError'),
  'carriage return': ('print(repr(input()))', 'a\r\n', 0, "'a\\r'\n", ''),
  'lines': (
    'import sys\nprint([*sys.stdin])',
    'a\n\nb',
    0,
    "['a\\n', '\\n', 'b']\n",
    '',
  ),
  'mixed readers': (
    'import sys\nprint(input(), sys.stdin.readline(), sys.stdin.read())',
    'a\nb\nc',
    0,
    'a b\n c\n',
    '',
  ),
  'stdin is a file': (
    'import os, stat, sys\ns = os.fstat(0)\nprint(stat.S_ISREG(s.st_mode), '
    's.st_size)\nimport mmap\nprint(mmap.mmap(0, 0, prot=1)[:2])\n'
    'sys.stdin.seek(2)\nprint(open(0).read())',
    'abcd',
    0,
    "True 4\nb'ab'\ncd\n",
    '',
  ),
  'opened by name': ('print(open("/dev/stdin").read())', 'ab', 0, 'ab\n', ''),
  'streams': (
    'import sys\nfor s in sys.stdin, sys.stdout, sys.stderr:\n'
    '  print(s.name, s.mode, s.encoding, s.errors, s.isatty(), s.fileno(), '
    's.line_buffering)',
    '',
    0,
    '<stdin> r utf-8 surrogateescape False 0 False\n'
    '<stdout> w utf-8 surrogateescape False 1 False\n'
    '<stderr> w utf-8 backslashreplace False 2 True\n',
    '',
  ),
  'invalid bytes': (
    'print(ascii(input()))',
    b'\xff\xc3\xa9',
    0,
    "'\\udcff\\xe9'\n",
    '',
  ),
  'bytes': (
    'import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])',
    'abc',
    0,
    'cba',
    '',
  ),
  'lone surrogate': ('print("\\ud800")', '', 1, '', 'UnicodeEncodeError'),
  'text then bytes': (
    'import sys\nprint(1, flush=True)\nsys.stdout.buffer.write(b"2")\n'
    'sys.stdout.flush()\nimport os\nos.write(1, b"3")',
    '',
    0,
    '1\n23',
    '',
  ),
  'not closed': ('w = open(1, "w")\nw.write("x")', '', 0, 'x', ''),
  'not flushed': (
    'import io, sys\nsys.stdout = io.TextIOWrapper(io.BufferedWriter('
    'sys.stdout.buffer.raw))\nprint(1)',
    '',
    0,
    '1\n',
    '',
  ),
  'closed': ('import sys\nprint(1)\nsys.stdout.close()', '', 0, '1\n', ''),
  'none': ('import sys\nsys.stdout = None\nprint(1)', '', 0, '', ''),
  'stderr closed': ('import sys\nsys.stderr.close()\n1/0', '', 1, '', '^$'),
  'at exit': (
    'import atexit\natexit.register(print, 2)\nprint(1)\nexit(4)',
    '',
    4,
    '1\n2\n',
    '',
  ),
  'destructor': (
    'class A:\n  def __del__(self): print("gone")\na = A()',
    '',
    0,
    'gone\n',
    '',
  ),
  'thread after the end': (
    'import threading, time\nthreading.Thread(target=lambda: '
    '(time.sleep(0.1), print(2))).start()\nprint(1)',
    '',
    0,
    '1\n2\n',
    '',
  ),
  'daemon thread': (
    'import threading, time\nthreading.Thread(target=time.sleep, args=(999,),'
    ' daemon=True).start()\nprint(1)',
    '',
    0,
    '1\n',
    '',
  ),
  'exit in a thread': (
    'import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,))\n'
    't.start()\nt.join()\nprint(1)',
    '',
    0,
    '1\n',
    '^$',
  ),
  'error in a thread': (
    'import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()',
    '',
    0,
    '',
    'ZeroDivisionError',
  ),
  'main': (
    'import sys\nprint(__name__, __file__, sys.argv, '
    'sys.modules["__main__"].__dict__ is globals(), __doc__, __spec__)',
    '',
    0,
    "__main__ solution.py ['solution.py'] True None None\n",
    '',
  ),
  'pickle': (
    'import pickle, copy\ndef f(): return 3\nclass A: pass\n'
    'print(pickle.loads(pickle.dumps(f))(), type(pickle.loads(pickle.dumps('
    'A()))) is A)',
    '',
    0,
    '3 True\n',
    '',
  ),
  'future': (
    '"""Text."""\nfrom __future__ import annotations\ndef f(x: y): pass\n'
    'print(f.__annotations__, __doc__)',
    '',
    0,
    "{'x': 'y'} Text.\n",
    '',
  ),
  'digits': ('print(len(str(10**9999)))', '', 0, '10000\n', ''),
  'recursion': (
    'import sys\nsys.setrecursionlimit(10**6)\n'
    'def f(n): return n and 1 + f(n - 1)\nprint(f(50_000))',
    '',
    0,
    '50000\n',
    '',
  ),
  'recursion through C': (
    # Python 3.12 has a limit for such calls, which no program moves.
    'import functools, sys\nsys.setrecursionlimit(10**6)\n@functools.cache\n'
    'def f(n): return n and 1 + f(n - 1)\n'
    'n = 400 if sys.version_info >= (3, 12) else 50_000\nprint(f(n) == n)',
    '',
    0,
    'True\n',
    '',
  ),
  'recursion in a thread': (
    'import sys, threading\nsys.setrecursionlimit(10**6)\n'
    'threading.stack_size(1 << 28)\n'
    'def f(n): return n and 1 + f(n - 1)\n'
    't = threading.Thread(target=lambda: print(f(50_000)))\nt.start()',
    '',
    0,
    '50000\n',
    '',
  ),
  'too deep': ('def f(): f()\nf()', '', 1, '', 'RecursionError'),
  'threads': (
    'from concurrent.futures import ThreadPoolExecutor as T\nimport time\n'
    'with T(60) as t: print(sum(t.map(lambda i: time.sleep(0.1) or i, '
    'range(60))))',
    '',
    0,
    '1770\n',
    '',
  ),
  'asyncio': (
    'import asyncio\nasync def f(n):\n  await asyncio.sleep(0.01)\n  return n\n'
    'async def main():\n  print(await asyncio.gather(f(1), asyncio.to_thread('
    'int, 2)))\nasyncio.run(main())',
    '',
    0,
    '[1, 2]\n',
    '',
  ),
  'signals': (
    'import os, signal\nsignal.signal(signal.SIGUSR1, lambda *a: print(1))\n'
    'os.kill(os.getpid(), signal.SIGUSR1)\nsignal.raise_signal(10)\n'
    'signal.signal(signal.SIGALRM, lambda *a: print(2))\n'
    'signal.setitimer(signal.ITIMER_REAL, 0.01)\nsignal.pause()',
    '',
    0,
    '1\n1\n2\n',
    '',
  ),
  'segmentation fault': (
    'import ctypes\nctypes.string_at(0)',
    '',
    -signal.SIGSEGV,
    '',
    '',
  ),
  'faulthandler': (
    'import ctypes, faulthandler\nfaulthandler.enable()\nctypes.string_at(0)',
    '',
    -signal.SIGSEGV,
    '',
    'Segmentation fault[^$]*solution.py',
  ),
  'dev null': (
    'import os, sys\nsys.stderr = open(os.devnull, "w")\n'
    'print(1, file=sys.stderr)',
    '',
    0,
    '',
    '^$',
  ),
  'random': (
    'import os, random, secrets, time, uuid\nrandom.seed()\nuuid.uuid4()\n'
    'print(len(os.urandom(9)), time.time() > 1e9)',
    '',
    0,
    '9 True\n',
    '',
  ),
  'prelude': (
    'print(gcd(4, 6), defaultdict(int)[0], List[int], inf, pow(2, 3, 5), '
    'heapq.heapify([]), bisect_left([1], 1), Counter("a")["a"], sum, open)',
    '',
    0,
    '2 0 typing.List[int] inf 3 None 0 1 <built-in function sum> '
    '<built-in function open>\n',
    '',
  ),
  'multiprocessing': (
    'import multiprocessing\nmultiprocessing.Pool(2)',
    '',
    1,
    '',
    'Error',
  ),
  'source': (
    'import inspect\ndef f(): pass\nprint(inspect.getsource(f))',
    '',
    0,
    'def f(): pass\n\n',
    '',
  ),
}


@pytest.mark.parametrize('name', PYTHON)
def test_as_python_does_it(jailed, name):
  program, stdin, status, stdout, stderr = PYTHON[name]
  given = stdin if isinstance(stdin, bytes) else stdin.encode()
  outcome = _run(jailed, program, given)
  assert outcome.exit == status, outcome
  assert outcome.stdout == stdout.encode()
  text = outcome.stderr.decode()
  assert re.search(stderr, text, re.MULTILINE), text
  assert 'zygote' not in text or 'fault' in name


@contextlib.contextmanager
def busy_cores():
  """Every core has three processes that compute, all of which have begun."""
  with contextlib.ExitStack() as stack:
    hogs = []
    for _ in range(3 * len(os.sched_getaffinity(0))):
      hog = subprocess.Popen(
        [sys.executable, '-c', 'print(1, flush=True)\nwhile True: pass'],
        stdout=subprocess.PIPE,
        # Schedulers share cores among sessions.
        start_new_session=True,
      )
      stack.enter_context(hog)
      stack.callback(hog.kill)
      hogs.append(hog)
    for hog in hogs:
      assert hog.stdout.readline() == b'1\n'
    yield


# A thread that computes without the interpreter's lock.
SPIN = 'import hashlib\n  hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)'


def test_sleep_has_a_limit_of_its_own(jailed):
  limits = _limits(asleep_seconds=1)
  for sleep in ('time.sleep(999)', 'threading.Event().wait()'):
    outcome = _run(jailed, f'import threading, time\n{sleep}', limits=limits)
    assert (outcome.exit, outcome.timed_out) == (-9, True)
    assert outcome.cpu_seconds < 1
  assert _printed(jailed, 'time.sleep(0.1)\nprint(1)', limits=limits) == '1'


def test_who_waits_for_a_core_is_not_asleep(jailed):
  program = 'while time.process_time() < 2: pass'
  with busy_cores():
    outcome = _run(jailed, program, limits=_limits(asleep_seconds=0.5))
  assert outcome.wall_seconds > outcome.cpu_seconds + 0.6
  assert (outcome.exit, outcome.timed_out) == (0, False)
  assert outcome.asleep_seconds < 0.5


@pytest.mark.parametrize(
  ('program', 'slept'),
  [
    ('print(1)', 0),
    ('import time\nwhile time.process_time() < 0.5: pass', 0),
    ('import time\ntime.sleep(1)', 1),
    ('import time\nfor _ in range(20): time.sleep(0.05)', 1),
    ('import os, select\nselect.select([os.pipe()[0]], [], [], 1)', 1),
    (
      'import threading, time\nt = [threading.Thread(target=time.sleep, '
      'args=(1,)) for _ in range(9)]\nfor x in t: x.start()',
      1,
    ),
    (
      'import ctypes, threading, time\nthreading.Thread(target=time.sleep, '
      'args=(1,)).start()\nctypes.CDLL(None).pthread_exit(None)',
      1,
    ),
  ],
)
def test_sleep_is_counted(jailed, program, slept):
  found = []
  for _ in range(5):
    outcome = _run(jailed, program)
    assert outcome.exit == 0, outcome
    found.append(outcome.asleep_seconds)
    # Less only where the zygote itself had to wait for a core. More where a
    # thread had to, which the kernel forgets at its end, or for a disk.
    if 0.9 * slept <= found[-1] < slept + 0.2:
      return
  raise AssertionError(found)


def test_threads_that_wait_for_each_other_do_not_pay_for_sleep(jailed):
  program = """
import threading, time
end = time.monotonic() + 0.3
def spin():
  while time.monotonic() < end: pass
threads = [threading.Thread(target=spin) for _ in range(100)]
for t in threads: t.start()
for t in threads: t.join()
time.sleep(999)
"""
  # Without the GIL all of them would want a core at once.
  program = program.replace('while time.monotonic() < end: pass', SPIN)
  limits = _limits(asleep_seconds=1)
  outcome = _run(jailed, program, limits=limits)
  assert (outcome.exit, outcome.timed_out) == (-9, True)
  assert outcome.asleep_seconds >= 1


def test_killing_itself(jailed):
  program = 'import os\nprint(1, flush=True)\nos.kill(os.getpid(), 9)'
  outcome = _run(jailed, program)
  assert outcome.stdout == b'1\n'
  assert outcome.exit == -signal.SIGKILL
  outcome = _run(jailed, 'import os\nos.abort()')
  assert outcome.exit == -signal.SIGABRT


def test_stopping_itself(jailed):
  program = 'import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nprint(1)'
  outcome = _run(jailed, program, limits=_limits(wall_seconds=1))
  assert outcome.timed_out


def test_numpy(jailed):
  program = """
try:
  import numpy as np
except ImportError:
  print('none')
else:
  print((np.ones((300, 300)) @ np.ones((300, 300)))[0, 0])
"""
  assert _printed(jailed, program) in ('300.0', 'none')


# --- a fresh process each time ----------------------------------------------


def test_nothing_is_left_of_a_run(jailed):
  program = """
import builtins, gc, json, math, os, sys, tempfile
try:
  open('left', 'x').close()
  tempfile.NamedTemporaryFile(delete=False)
except FileExistsError:
  raise
except OSError:
  pass
print(hasattr(math, 'left'), hasattr(builtins, 'left'), 'left' in os.environ,
      'left' in globals(), sys.getrecursionlimit(), gc.isenabled(),
      json.dumps([1]))
math.left = builtins.left = left = os.environ['left'] = 'left'
sys.setrecursionlimit(5000)
json.dumps = None
gc.disable()
"""
  first, second = (_printed(jailed, program) for _ in range(2))
  assert first == 'False False False False 50000 True [1]' == second


def test_scratch_is_empty_and_bounded(jailed):
  program = """
import os
try:
  print(os.listdir('.'))
except OSError:
  print([])
count = 0
try:
  for i in range(100):
    with open(f'f{i}', 'wb') as file:
      count += file.write(bytes(1 << 20))
except OSError:
  print('full')
print(count >> 20 if count else 'none')
"""
  listed, full, count = _printed(jailed, program).split()
  assert (listed, full) == ('[]', 'full')
  if jailed.tier == 'T3':
    assert 32 <= int(count) <= 64
  else:
    assert count == 'none'


def test_surroundings(jailed):
  program = """
import os, sys
print(sorted(os.environ), os.path.exists('/proc/self/maps'))
for path in ('/etc/passwd', '/etc/hostname', '/proc/self/maps', '/tmp',
             '/home', '/proc', '/var', '/sys'):
  try:
    found = os.listdir(path) if os.path.isdir(path) else open(path).read(1)
  except OSError:
    continue
  if found:
    print(path)
"""
  lines = _printed(jailed, program).splitlines()
  assert lines[0].startswith(
    "['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'TMPDIR'] "
  )
  assert jailed.tier == 'T2' or lines[0].endswith('False')
  assert not lines[1:]


def test_only_its_own_descriptors(jailed):
  program = """
import os
found = []
for i in range(4096):
  try:
    os.fstat(i)
  except OSError:
    continue
  found.append(i)
print(found)
"""
  assert _printed(jailed, program) == '[0, 1, 2, 3]'


@pytest.mark.parametrize(
  'program',
  [
    'for i in range(64):\n  try: os.write(i, b"\\xff" * 999)\n'
    '  except OSError: pass',
    'os.closerange(0, 64)',
    'for i in range(4): os.ftruncate(i, 1 << 20)',
    'for i in range(4): os.lseek(i, 1 << 20, 0); os.write(i, b"x")',
    'for i in range(4):\n  for j in range(4, 60): os.dup2(i, j)',
    'import fcntl\nfor i in range(4): fcntl.fcntl(i, fcntl.F_SETFL, '
    'os.O_NONBLOCK | os.O_APPEND)',
    'sys.stderr.write("Traceback\\nOSError: seccomp=no"); os._exit(113)',
    'os.write(3, b"confined"); os._exit(1)',
  ],
)
def test_nothing_confuses_the_parent(jailed, program):
  for fn in ('', 'f'):
    outcome = _run(jailed, f'import os, sys\n{program}\ndef f(): pass', fn=fn)
    assert isinstance(outcome, jail.Outcome)
    assert not outcome.timed_out
    assert _printed(jailed, 'print(input())', b'next') == 'next'


# --- limits -----------------------------------------------------------------


@pytest.mark.parametrize(
  'program',
  [
    'while True: pass',
    'sum(range(10**12))',
    '"a" * 10**8 in "a" * 10**9',
    'x = 3 ** 10**8',
    'while True:\n  try:\n    while True: pass\n  except BaseException: pass',
    'import threading\n'
    'for i in range(4): threading.Thread(target=sum, args=(range(10**11),))'
    '.start()',
  ],
)
def test_cpu_time(jailed, program):
  limits = _limits(cpu_seconds=0.2)
  outcome = _run(jailed, program, limits=limits)
  assert outcome.exit == -9
  assert not outcome.timed_out
  assert 0.2 < outcome.cpu_seconds < 3


@pytest.mark.parametrize(
  'program',
  [
    'import time\ntime.sleep(999)',
    'import threading\nthreading.Lock().acquire()\nthreading.Event().wait()',
    'import signal\nsignal.pause()',
    'import atexit, time\natexit.register(time.sleep, 999)',
    'import threading, time\n'
    'threading.Thread(target=time.sleep, args=(999,)).start()',
  ],
)
def test_wall_time(jailed, program):
  outcome = _run(jailed, program, limits=_limits(wall_seconds=0.2))
  assert (outcome.exit, outcome.timed_out) == (-9, True)
  assert 0.2 <= outcome.wall_seconds < GUARD


@pytest.mark.parametrize(
  'program',
  [
    'x = bytearray(1 << 30)',
    'x = []\nwhile True: x.append(bytes(1 << 20))',
    'x = [0] * 10**9',
    'x = 1 << (1 << 34)',
  ],
)
def test_memory(jailed, program):
  outcome = _run(jailed, program, limits=_limits(memory_bytes=256 << 20))
  assert (outcome.exit, outcome.stderr.split()[-1]) == (1, b'MemoryError')
  assert outcome.peak_bytes < 600 << 20


def test_memory_below_the_limit(jailed):
  program = 'x = bytearray(b"x") * (200 << 20)'
  outcome = _run(jailed, program, limits=_limits(memory_bytes=256 << 20))
  assert outcome.exit == 0
  assert 200 << 20 < outcome.peak_bytes < 256 << 20


@pytest.mark.parametrize('descriptor', [1, 2, 3])
def test_output(jailed, descriptor):
  limits = _limits(output_bytes=1 << 20, stderr_bytes=1 << 10)
  program = f"""
import os
os.write({descriptor}, b'first')
while True:
  os.write({descriptor}, b'x' * 100_000)
"""
  outcome = _run(jailed, program, limits=limits)
  assert outcome.exit == 1
  outputs = [outcome.stdout, outcome.stderr, outcome.result]
  assert len(outputs[{1: 0, 2: 1, 3: 2}[descriptor]]) == (
    1 << 10 if descriptor == 2 else (1 << 20) + 1
  )


def test_the_end_of_stderr_is_kept(jailed):
  program = 'import sys\nsys.stderr.write("x" * 100_000)\n1 / 0'
  outcome = _run(jailed, program)
  assert len(outcome.stderr) == QUICK.stderr_bytes
  assert outcome.stderr.strip().endswith(b'ZeroDivisionError: division by zero')


def test_descriptors(jailed):
  program = """
import os
count = 0
try:
  while True:
    os.dup(0)
    count += 1
except OSError:
  print(count)
"""
  assert int(_printed(jailed, program)) <= 60


def test_threads_are_bounded(jailed):
  program = """
import threading
threading.stack_size(65536)
done = threading.Event()
count = 0
try:
  while count < 2000:
    threading.Thread(target=done.wait).start()
    count += 1
except RuntimeError:
  pass
done.set()
print(count)
"""
  count = int(_printed(jailed, program, limits=_limits(threads=16)))
  assert 0 < count <= 16


def test_limits_cannot_be_raised(jailed):
  program = """
import resource
for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE,
              resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
  soft, hard = resource.getrlimit(limit)
  assert hard not in (resource.RLIM_INFINITY, 0), limit
  try:
    resource.setrlimit(limit, (hard + 1, hard + 1))
  except (OSError, ValueError):
    continue
  print(limit)
"""
  assert _printed(jailed, program) == ''


def test_large_input_and_output(own):
  data = os.urandom(1 << 20) * 100
  program = 'import hashlib, sys\nd = sys.stdin.buffer.read()\n'
  program += 'print(len(d), hashlib.md5(d[-999:]).hexdigest(), flush=True)\n'
  program += 'sys.stdout.buffer.write(d[: 60 << 20])\n'
  outcome = own.run(program.encode(), data, QUICK)
  assert outcome.exit == 0
  assert outcome.stdout.endswith(data[: 60 << 20])


# --- what becomes of the processes ------------------------------------------


def _descendants(pid):
  try:
    return psutil.Process(pid).children(recursive=True)
  except psutil.NoSuchProcess:
    return []


def _ended(processes):
  """Whether all are gone; orphans wait for whoever reaps them."""
  for process in processes:
    # It may go between two looks.
    with contextlib.suppress(psutil.NoSuchProcess):
      if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        return False
  return True


def _descriptors(pid):
  # What earlier tests left open is closed now, not between two counts.
  gc.collect()
  return len(os.listdir(f'/proc/{pid}/fd'))


def test_300_runs_leave_nothing(own):
  pid = own._process.pid
  for _ in range(50):
    own.run(b'print(1)', b'', QUICK)
  before = _descriptors(os.getpid()), _descriptors(pid)
  others = _descendants(pid)
  bytes_before = psutil.Process(pid).memory_info().rss
  for i in range(300):
    program = b'print(1)' if i % 3 else b'import os\nos._exit(1)'
    own.run(program, bytes(100_000), QUICK)
  assert (_descriptors(os.getpid()), _descriptors(pid)) == before
  assert psutil.Process(pid).memory_info().rss < bytes_before + (1 << 19)
  assert _descendants(pid) == others
  assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize('tier', jail.TIERS)
def test_a_killed_zygote_is_an_error_and_the_next_one_works(tier):
  try:
    jailed = jail.Jail(tier)
  except jail.SandboxError as e:
    pytest.skip(str(e))
  ended = []
  thread = threading.Thread(
    target=lambda: ended.append(_error(jailed, 'import time\ntime.sleep(999)'))
  )
  thread.start()
  assert _until(lambda: _descendants(jailed._process.pid))
  children = _descendants(jailed._process.pid)
  jailed._process.send_signal(signal.SIGKILL)
  thread.join(GUARD)
  assert 'the zygote failed' in ended[0]
  assert _until(lambda: _ended(children))
  # It stays an error, and closing it again is none.
  assert 'the zygote failed' in _error(jailed, 'print(1)')
  jailed.close()
  with jail.Jail(tier) as jailed:
    assert _printed(jailed, 'print(1)') == '1'


def _error(jailed, program):
  with pytest.raises(jail.SandboxError) as e:
    jailed.run(program.encode(), b'', QUICK)
  return str(e.value)


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('tier', jail.TIERS)
def test_a_killed_parent_leaves_nothing(user, tier):
  parent = subprocess.Popen(
    command(user, 'serve', tier),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    **as_user(user),
  )
  try:
    pickle.load(parent.stdout)
  except EOFError:
    pytest.skip(f'this host refuses {tier} to {user}')
  program = b'import time\ntime.sleep(999)'
  pickle.dump((program, b'', QUICK), parent.stdin)
  parent.stdin.flush()
  # The zygote, the program, and the first process of its namespace.
  count = 3 if tier == 'T3' else 2
  assert _until(lambda: len(_descendants(parent.pid)) == count)
  started = _descendants(parent.pid)
  parent.kill()
  parent.communicate()
  assert _until(lambda: _ended(started))


def test_closing_ends_what_runs():
  with jail.Jail() as jailed:
    pid = jailed._process.pid
    run = threading.Thread(target=_error, args=(jailed, 'while True: pass'))
    run.start()
    assert _until(lambda: _descendants(pid))
    started = _descendants(pid)
  run.join(GUARD)
  assert _until(lambda: _ended(started))
  assert not psutil.pid_exists(pid)


def test_an_interrupted_run_is_not_the_next_ones(own, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  # A signal while it waits for the outcome.
  monkeypatch.setattr(own, '_receive', interrupt)
  with pytest.raises(KeyboardInterrupt):
    own.run(b'print("late")', b'', QUICK)
  monkeypatch.undo()
  assert 'the zygote failed' in _error(own, 'print(1)')


# --- jails that are refused, and that fail ----------------------------------


def test_an_unknown_tier_is_a_value_error():
  with pytest.raises(ValueError, match="'T9'"):
    jail.Jail('T9')


def _refusing(monkeypatch, lines, condition='True'):
  """Zygotes begin with `lines`."""
  original = jail.subprocess.Popen

  def started(command, **kwargs):
    *_, descriptor, tier, abi = command
    code = f"""
import sys
from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import (
  interpreter, namespaces, waiting, zygote)
sys.orig_argv[:] = [sys.executable, '-c', '']
tier = {tier!r}
if {condition}:
{lines}
zygote._STACK_BYTES = 0
zygote.main({os.getpid()}, {descriptor}, tier, {abi})
"""
    return original([sys.executable, '-P', '-c', code], **kwargs)

  monkeypatch.setattr(jail.subprocess, 'Popen', started)


NO_UNSHARE = """
  def refused(*arguments):
    raise PermissionError(1, 'unshare: Operation not permitted')
  namespaces.enter = refused
"""
NO_LANDLOCK = """
  sandbox.landlock = lambda *arguments: 'no(ENOSYS)'
"""
NO_SECCOMP = """
  sandbox.seccomp = lambda *arguments: 'no(EINVAL)'
"""


def test_auto_takes_the_next_tier(monkeypatch):
  _refusing(monkeypatch, NO_UNSHARE)
  with pytest.raises(jail.SandboxError, match=r'^T3: .*unshare'):
    jail.Jail('T3')
  try:
    jailed = jail.Jail()
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    assert jailed.tier == 'T2'
    assert _printed(jailed, 'print(1)') == '1'


def test_unshare_denied_by_a_filter():
  """As containers do it, for a whole tree of processes."""
  code = """
import ctypes, os, struct, sys
from acereason_jax.verifiers.isolation import sandbox, syscalls
from acereason_jax.verifiers.programs import jail
numbers = syscalls.NUMBERS[os.uname().machine]
lines = [(0x20, 0, 0, 0)]
for name in ('unshare', 'mount'):
  lines += [(0x15, 0, 1, numbers[name]), (6, 0, 0, 0x50001)]
lines.append((6, 0, 0, 0x7fff0000))
sandbox.no_new_privs()
code = b''.join(sandbox._INSTRUCTION.pack(*line) for line in lines)
assert sandbox.seccomp(code) == 'yes'
try:
  with jail.Jail() as jailed:
    print(jailed.tier)
except jail.SandboxError as e:
  print(e)
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    timeout=GUARD,
    **as_user(os.getuid()),
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == 'T2' or 'T2: ' in done.stdout


def test_a_refusal_names_all_tiers(monkeypatch):
  _refusing(monkeypatch, NO_UNSHARE + NO_LANDLOCK)
  with pytest.raises(jail.SandboxError) as e:
    jail.Jail()
  assert re.fullmatch('T3: .*unshare.*; T2: .*landlock.*ENOSYS.*', str(e.value))


def test_without_schedstat_sleep_is_not_counted(monkeypatch):
  _refusing(monkeypatch, '  waiting.open_processes = lambda: -1\n')
  try:
    jailed = jail.Jail()
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    assert ' asleep=uncounted' in jailed.confinement
    program = 'import time\ntime.sleep(0.5)\nprint(1)'
    outcome = _run(jailed, program, limits=_limits(asleep_seconds=0.1))
    assert (outcome.stdout, outcome.asleep_seconds) == (b'1\n', 0)
    outcome = _run(jailed, program, limits=_limits(wall_seconds=0.1))
    assert outcome.timed_out


@pytest.mark.parametrize('limit', ['cpu', 'wall', 'asleep'])
@pytest.mark.parametrize('tier', jail.TIERS)
def test_no_limit_ends_a_program_before_it_begins(tier, limit, monkeypatch):
  """Where confining it takes longer than the limit, as on a busy machine."""
  lines = """
  import time
  confine = zygote.child._confine
  def late(request, *rest):
    if request['stderr_bytes'] == 99:
      time.sleep(0.3)
      while time.process_time() < 0.3:
        pass
    return confine(request, *rest)
  zygote.child._confine = late
"""
  _refusing(monkeypatch, lines)
  try:
    jailed = jail.Jail(tier)
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    limits = _limits(stderr_bytes=99, **{f'{limit}_seconds': 0.1})
    rests = 'import time\nwhile True: time.sleep(9)'
    program = rests if limit == 'asleep' else 'while True: pass'
    outcome = _run(jailed, program, limits=limits)
    assert (outcome.exit, outcome.timed_out) == (-9, limit != 'cpu')
    if limit != 'cpu':
      # It takes nothing from a program that ends soon, as one of five does.
      limits = _limits(stderr_bytes=99, **{f'{limit}_seconds': 0.25})
      tries = (_run(jailed, 'print(1)', limits=limits) for _ in range(5))
      assert any((o.exit, o.timed_out) == (0, False) for o in tries)
    assert _printed(jailed, 'print(1)') == '1'


def test_programs_are_the_first_to_go_without_memory(own):
  scores = pathlib.Path('/proc', str(own._process.pid), 'oom_score_adj')
  mine = pathlib.Path('/proc/self/oom_score_adj')
  assert int(scores.read_text()) == 1000 > int(mine.read_text())


def test_a_host_without_processes_is_asked_again(monkeypatch):
  lines = """
  fork, failures = zygote.os.fork, [1, 2, 3]
  def often_refused():
    if failures:
      failures.pop()
      raise BlockingIOError(11, 'Resource temporarily unavailable')
    return fork()
  zygote.os.fork = often_refused
"""
  _refusing(monkeypatch, lines, "tier == 'T2'")
  try:
    jailed = jail.Jail('T2')
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    assert _printed(jailed, 'print(1)') == '1'


@pytest.mark.parametrize('tier', jail.TIERS)
def test_no_tier_goes_without_seccomp(tier, monkeypatch):
  _refusing(monkeypatch, NO_SECCOMP)
  with pytest.raises(jail.SandboxError, match=r'seccomp|unshare'):
    jail.Jail(tier)


def test_namespaces_make_up_for_landlock(monkeypatch):
  _refusing(monkeypatch, NO_LANDLOCK)
  try:
    jailed = jail.Jail('T3')
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    assert _printed(jailed, 'print(1)') == '1'


def test_without_landlock_only_by_name(monkeypatch):
  _refusing(monkeypatch, NO_LANDLOCK + NO_UNSHARE)
  with pytest.raises(jail.SandboxError, match='ENOSYS'):
    jail.Jail()
  # Also where only root can read the interpreter, which T1 refuses.
  readable = '  zygote.os.listdir = lambda path: []\n'
  monkeypatch.undo()
  _refusing(monkeypatch, NO_LANDLOCK + NO_UNSHARE + readable)
  with jail.Jail('T1') as jailed:
    assert jailed.tier == 'T1'
    assert 'landlock=no(ENOSYS)' in jailed.confinement
    assert re.search(r'self-test=\d+/23 \(not read,list', jailed.confinement)
    assert _printed(jailed, 'print(1)') == '1'
    for action in ("open('/tmp/x', 'w')", 'os.fork()', 'os.mkdir("/tmp/x")'):
      outcome = _run(jailed, f'import os\n{action}')
      assert b'PermissionError' in outcome.stderr


@pytest.mark.skipif(os.getuid() != 0, reason='only root leaves root')
@pytest.mark.parametrize('tier', ['T2', 'T1'])
def test_the_right_to_read_stays_behind_landlock_alone(tier, monkeypatch):
  """Where no other user can read the interpreter."""
  lines = """
  def refused(path):
    raise PermissionError(13, 'Permission denied')
  zygote.os.listdir = refused
"""
  _refusing(monkeypatch, lines)
  if tier == 'T1':
    with pytest.raises(jail.SandboxError, match='Permission denied'):
      jail.Jail(tier)
    return
  program = "print(open('/proc/self/status').read())"
  with jail.Jail(tier) as jailed:
    assert b'Permission' in _run(jailed, program).stderr
    assert _printed(jailed, 'import decimal\nprint(1)') == '1'


def test_a_jail_says_what_holds_it(monkeypatch):
  _refusing(monkeypatch, NO_UNSHARE, "tier == 'T3'")
  try:
    jailed = jail.Jail()
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    assert re.fullmatch(
      r'T2 landlock=abi\d+ seccomp=yes capabilities=dropped user=\d+ '
      r'self-test=23/23 numpy=\S+; T3: unshare: Operation not permitted',
      jailed.confinement.replace('[Errno 1] ', ''),
    )


def test_what_escapes_the_filter_ends_with_the_run(monkeypatch):
  """The namespace's first process ends all others, then waits for more."""
  lines = "  sandbox.seccomp = lambda *arguments: 'yes'\n"
  _refusing(monkeypatch, lines)
  monkeypatch.setattr(jail, '_SELF_TEST', b'print("nothing of 1")')
  try:
    jailed = jail.Jail('T3')
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    family = lambda: _descendants(jailed._process.pid)
    before = {p.pid for p in family()}
    program = """
import os, time
for _ in range(5):
  if os.fork() == 0:
    os.setsid()
    time.sleep(999)
print(1)
"""
    assert _printed(jailed, program) == '1'
    assert _printed(jailed, 'print(2)') == '2'
    assert _until(lambda: {p.pid for p in family()} == before)


def test_a_namespace_without_its_first_process_is_no_outcome(own):
  if own.tier != 'T3':
    pytest.skip('no namespace of processes')
  (first,) = psutil.Process(own._process.pid).children()
  first.kill()
  with pytest.raises(jail.SandboxError):
    own.run(b'print(1)', b'', QUICK)


def test_a_self_test_that_finds_something_refuses(monkeypatch):
  monkeypatch.setattr(jail, '_SELF_TEST', b'print("read write")')
  for tier in ('auto', *jail.TIERS):
    with pytest.raises(jail.SandboxError, match=r'read write|unshare|landlock'):
      jail.Jail(tier)


@pytest.mark.parametrize(
  'lines',
  [
    '  zygote.resource.setrlimit = lambda *a: 1 / 0\n',
    "  zygote.os.fork = lambda: zygote.os.open('/none', 0)\n",
    "  sandbox.no_new_privs = lambda: 'no(EPERM)'\n",
    '  zygote.serve = lambda *a: None\n',
    "  zygote.serve = lambda channel, tier: channel.send(b'\\xff' * 99)\n",
    '  zygote.main = lambda *a: None\n',
    '  interpreter.prelude = None\n',
  ],
)
def test_a_jail_that_fails_is_no_outcome(lines, monkeypatch):
  _refusing(monkeypatch, lines)
  before = _descriptors(os.getpid())
  with pytest.raises(jail.SandboxError) as e:
    jail.Jail()
  assert str(e.value).startswith('T3: ')
  assert 'T2: ' in str(e.value)
  assert _descriptors(os.getpid()) == before
  assert not [p for p in _descendants(os.getpid()) if 'zygote' in str(p)]


def test_no_interpreter(monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/none/python')
  with pytest.raises(jail.SandboxError, match='No such file'):
    jail.Jail()


def test_programs_that_could_not_be_confined_are_no_outcome(own, monkeypatch):
  """A limit above what the host allows, for example."""
  limits = _limits(memory_bytes=1 << 63)
  with pytest.raises(jail.SandboxError, match='confining failed'):
    own.run(b'print(1)', b'', limits)
  with pytest.raises(jail.SandboxError, match='the zygote failed'):
    own.run(b'print(1)', b'', QUICK)


# --- what passes from one run to another, or to others ----------------------

SEARCH = """
import ctypes, gc, os, sys
found, other = set(), bytes((i + 1) % 256 for i in range(256))
# What is searched for must not be there for being searched for.
there = lambda data: MASKED in data.translate(other)
frame = sys._getframe()
while frame:
  text = repr([*frame.f_locals.values(), *frame.f_globals.values()])
  if there(text.encode()):
    found.add('frame')
  frame = frame.f_back
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
read, write = os.pipe()
tops = id(gc.get_objects()[-1]), id(sys), id(bytearray(10**6))
for top in (libc.sbrk(0), *tops):
  for page in range(top - (32 << 20) & -4096, top + (1 << 20), 4096):
    # Where nothing is, this fails, and a read would not.
    if libc.write(write, ctypes.c_void_p(page), 4096) == 4096:
      if there(os.read(read, 4096)):
        found.add('memory')
print(*sorted(found))
"""


def test_nothing_of_a_run_is_left_for_the_next(jailed):
  token = 'answer-of-the-run-before-8471'
  masked = bytes(ord(c) + 1 for c in token)
  search = SEARCH.replace('MASKED', repr(masked))
  limits = _limits(cpu_seconds=20)
  # It finds what is there.
  mine = f'x = b"{token}" * 9\n{search}'
  assert _printed(jailed, mine, limits=limits) == 'frame memory'
  for size in (1, 3000, 100_000):
    program = f'''
import sys
def f(x):
  print(("{token}" + " ") * {size})
  print("{token}", file=sys.stderr)
  return x
'''
    outcome = _run(jailed, program, token.encode() * size, fn='f', args=[token])
    assert outcome.result == f'"{token}"'.encode()
    assert _printed(jailed, search, limits=limits) == ''


def test_memory_that_no_limit_counts_is_refused(jailed):
  program = """
import ctypes, os
try:
  os.memfd_create('x')
except OSError as e:
  print(e.errno)
libc = ctypes.CDLL(None, use_errno=True)
number = {'x86_64': 206, 'aarch64': 0}[os.uname().machine]
print(libc.syscall(number, 128, ctypes.byref(ctypes.c_ulong(0))))
print(ctypes.get_errno())
"""
  assert _printed(jailed, program).split() == ['1', '-1', '1']


def test_no_socket_outside_is_reached_nor_file_sent(jailed, tmp_path):
  with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
    os.chmod(tmp_path, 0o777)
    name = str(tmp_path / 'server')
    server.bind(name)
    os.chmod(name, 0o777)
    server.settimeout(0.2)
    program = f"""
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for send in (
  lambda: a.sendto(b"x", {name!r}),
  lambda: a.sendmsg([b"x"], [], 0, {name!r}),
  lambda: socket.send_fds(a, [b"x"], [0]),
):
  try:
    send()
  except OSError:
    continue
  print("sent")
a.send(b"hi")
print(b.recv(9))
"""
    assert _printed(jailed, program) == "b'hi'"
    with pytest.raises(TimeoutError):
      server.recv(9)


def test_a_large_input_does_without_its_names(jailed):
  """The scratch folder holds 64 MiB."""
  program = 'import sys\n# /dev/stdin\nprint(len(sys.stdin.read()))'
  size = 65 << 20
  limits = _limits(memory_bytes=1 << 30)
  assert _printed(jailed, program, b'x' * size, limits=limits) == str(size)


def test_sockets_are_of_one_family(jailed):
  program = """
import errno, socket
for family in (socket.AF_INET, socket.AF_NETLINK, 38, 30):
  try:
    socket.socketpair(family)
  except OSError as e:
    print(errno.errorcode[e.errno])
"""
  assert _printed(jailed, program).split() == ['EPERM'] * 4


def test_no_file_of_others_is_locked(jailed):
  program = """
import fcntl, os
for lock in (fcntl.flock, fcntl.lockf):
  for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX | fcntl.LOCK_NB):
    try:
      lock(open(os.__file__), kind)
    except OSError:
      continue
    print(lock, kind)
"""
  assert _printed(jailed, program) == ''


@pytest.mark.parametrize('name', ['/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'])
def test_the_input_has_its_usual_names(jailed, name):
  program = f'print(open({name[:5]!r} + {name[5:]!r}).read())'
  assert _printed(jailed, program, b'abc') == 'abc'


# --- signals that the kernel sends for a program ----------------------------

_SOCKETS = """
import ctypes, fcntl, os, select, signal, socket, struct, time
FIOSETOWN, SIOCSPGRP, FIOASYNC = 0x8901, 0x8902, 0x5452
F_SETSIG, F_SETOWN_EX = 10, 15
one, other = socket.socketpair()
pid = os.getppid() or 1
number = lambda n: struct.pack('i', n)
libc = ctypes.CDLL(None, use_errno=True)
"""
_SEND = """
fcntl.ioctl(one, FIOASYNC, number(1))
other.send(b'.')
time.sleep(0.1)
"""
SIGNALS = {
  'owner': f'fcntl.ioctl(one, FIOSETOWN, number(pid)){_SEND}',
  'group': f'fcntl.ioctl(one, SIOCSPGRP, number(-pid)){_SEND}',
  'another end': f'fcntl.ioctl(other, FIOSETOWN, number(pid)){_SEND}',
  'high word': 'if libc.ioctl(one.fileno(), ctypes.c_ulong(3 << 32 | FIOSETOWN)'
  ', number(pid)): raise OSError(1, "")',
  'by command': f'fcntl.fcntl(one, fcntl.F_SETOWN, pid){_SEND}',
  'by command of a structure': 'fcntl.fcntl(one, F_SETOWN_EX, '
  'struct.pack("ii", 1, pid))',
  'another signal': 'fcntl.fcntl(one, F_SETSIG, signal.SIGKILL)',
  'asynchronous': 'fcntl.ioctl(one, FIOASYNC, number(1))',
  'asynchronous pipe': 'fcntl.ioctl(os.pipe()[0], FIOASYNC, number(1))',
  'asynchronous by flag': 'fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)',
  'asynchronous output': 'fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC)',
  'a folder': 'fcntl.fcntl(os.open(os.path.dirname(os.__file__), 0), '
  'fcntl.F_NOTIFY, 4)',
  'a lease': 'fcntl.fcntl(os.open(os.__file__, 0), fcntl.F_SETLEASE, 0)',
  'a terminal signal': 'fcntl.ioctl(0, 0x40045436, 9)',
  'typing': 'fcntl.ioctl(0, 0x5412, b"x")',
  'kill': 'os.kill(pid, signal.SIGIO)',
  'kill the group': 'os.killpg(os.getpgid(pid), signal.SIGIO)',
  'kill all': 'os.kill(-1, signal.SIGIO)',
  'pidfd': 'signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGIO)',
  'limits': 'import resource; resource.prlimit(pid, resource.RLIMIT_CPU, '
  '(0, 0))',
  'core helper': 'if libc.prctl(4, 1): raise OSError(1, "")',
  'core scheduling': 'if libc.prctl(62, 1, pid, 0, 0): raise OSError(1, "")',
}


@pytest.mark.parametrize('name', SIGNALS)
def test_no_signal_leaves_a_jail(older, name):
  """The zygote, which has the same user, is still there."""
  body = SIGNALS[name].replace('\n', '\n  ')
  program = f"""{_SOCKETS}
try:
  {body}
  print('worked')
except OSError:
  print('held')
"""
  assert _printed(older, program) == 'held'
  assert _printed(older, 'print(2)') == '2'


@pytest.mark.parametrize(
  'program',
  [
    'import os; os.set_blocking(os.pipe()[0], False)',
    'import os; os.set_inheritable(os.pipe()[0], True)',
    'import socket; a, b = socket.socketpair(); a.setblocking(False); '
    'a.settimeout(1); b.send(b"x"); assert a.recv(1) == b"x"',
    'import os, sys; assert not os.isatty(0) and not sys.stdout.isatty()',
    'import os, shutil; assert shutil.get_terminal_size() == (80, 24)',
    'import os; assert os.dup(0) > 2; os.dup2(0, 9); os.close(9)',
    'import fcntl; fcntl.fcntl(0, 4, fcntl.fcntl(0, 3))',
    'import asyncio; asyncio.run(asyncio.sleep(0.01))',
    'import signal; signal.signal(signal.SIGALRM, lambda *a: None); '
    'signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()',
    'import signal, socket; a, b = socket.socketpair(); a.setblocking(False); '
    'b.setblocking(False); signal.set_wakeup_fd(b.fileno())',
    'import subprocess, tempfile, getpass, curses, pty, termios',
  ],
)
def test_what_programs_need_of_descriptors_works(older, program):
  outcome = _run(older, program)
  assert outcome.exit == 0, outcome


# --- what harms a zygote ----------------------------------------------------

# By kind; of each at least five. A program may fail; its jail may not.
HARM = {
  'descriptors': [
    'while True: os.pipe()',
    'while True: socket.socketpair()',
    'while True: os.dup(0)',
    'files = []\nwhile True: files.append(open(os.__file__))',
    'while True: select.epoll().fileno; keep.append(select.epoll())',
    'os.closerange(0, 1024)',
    'for i in range(64):\n  try: os.dup2(os.pipe()[1], i)\n  except OSError: '
    'pass',
  ],
  'tasks': [
    'event = threading.Event()\nwhile True: threading.Thread('
    'target=event.wait, daemon=True).start()',
    'for _ in range(2000):\n  threading.Thread(target=int).start()',
    'event = threading.Event()\nfor _ in range(99): threading.Thread('
    'target=event.wait, daemon=True).start()\nos._exit(3)',
    'for _ in range(99): threading.Thread(target=time.sleep, args=(9,), '
    'daemon=True).start()\nos.kill(os.getpid(), 9)',
    'os.fork()',
    'libc.syscall({"x86_64": 60}.get(os.uname().machine, 93), 3)',
    'threading.Thread(target=os._exit, args=(4,)).start()\n'
    'libc.pthread_exit(None)',
  ],
  'memory': [
    'while True: keep.append(bytes(1 << 24))',
    'x = [0] * 10**10',
    'keep.append(mmap.mmap(-1, 900 << 20))\nkeep[-1].write(bytes(800 << 20))',
    'while True: keep.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_SHARED))',
    'f = lambda x: (f(x + 1), x)\nsys.setrecursionlimit(10**9)\nf(0)',
    'x = "a" * (1 << 29)\nx.encode("utf-32")',
    'libc.mlockall(3)\nwhile True: keep.append(bytearray(1 << 24))',
  ],
  'files': [
    'for i in range(5000): open(f"f{i}", "w")',
    'f = open("full", "w")\nwhile True: f.write("x" * (1 << 20))',
    'for place in ("/dev/shm", "/tmp", "/run", "."):\n  try: open(place + '
    '"/x", "wb").write(bytes(1 << 30))\n  except OSError: pass\n1 / 0',
    'path = "d"\nwhile True: os.mkdir(path); path += "/d"',
    'for i in range(4): os.ftruncate(i, 1 << 62)',
    'for i in range(4): os.posix_fallocate(i, 0, 1 << 40)',
    'for i in range(4): mmap.mmap(i, 1 << 20)[-1] = 1',
  ],
  'outputs': [
    'while True: os.write(1, bytes(1 << 20))',
    'while True: os.write(2, bytes(1 << 20))',
    'while True: os.write(3, bytes(1 << 20))',
    'os.lseek(2, 1 << 40, 0)\nos.write(2, b"x")',
    'for i in range(4, 64):\n  try: os.write(i, b"\\0" * 99)\n'
    '  except OSError: pass\nos._exit(1)',
    'os.write(2, b"\\xff\\xfe\\ud800")\nos.write(3, b"[" * 100_000)',
    'os.write(2, b"confining failed: x\\n")\nos._exit(1)',
  ],
  'signals': [
    *(
      f'signal.signal({n}, signal.SIG_DFL)\nos.kill(os.getpid(), {n})'
      for n in (4, 6, 7, 8, 11, 13, 15, 24, 25, 29, 31, 34, 64)
    ),
    'signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nos.abort()',
    'resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass',
    'resource.setrlimit(resource.RLIMIT_AS, (1, 1))\nkeep[0]',
    'resource.setrlimit(resource.RLIMIT_STACK, (0, 0))\n'
    'f = lambda: f()\nsys.setrecursionlimit(10**9)\nf()',
    'signal.setitimer(signal.ITIMER_REAL, 0.001)\ntime.sleep(9)',
    'libc.prctl(4, 1)\nctypes.string_at(0)',
  ],
  'ends': [
    'os._exit(255)',
    'os.close(1); os.close(2); os.close(3); 1 / 0',
    'atexit.register(os._exit, 7)',
    'class A:\n  def __del__(self): os._exit(9)\na = A()\n1 / 0',
    'sys.stdout = 1\nsys.stderr = 2\nraise KeyboardInterrupt',
    'sys.excepthook = lambda *a: os._exit(5)\n1 / 0',
    'raise SystemExit([1] * 10**6)',
    'sys.modules.clear()\nbuiltins.__dict__.clear()\n1 / 0',
  ],
}
_HARM_HEAD = """
import atexit, builtins, ctypes, mmap, os, resource, select, signal, socket, sys
import threading, time
keep, libc = [], ctypes.CDLL(None)
"""


@pytest.mark.parametrize(
  'program',
  [pytest.param(p, id=f'{k}: {p[:40]!a}') for k in HARM for p in HARM[k]],
)
def test_no_program_harms_its_zygote(jailed, program):
  limits = _limits(
    cpu_seconds=2, asleep_seconds=1, memory_bytes=256 << 20, threads=120
  )
  outcome = _run(jailed, _HARM_HEAD + program, limits=limits)
  assert isinstance(outcome, jail.Outcome)
  assert len(outcome.stderr) <= limits.stderr_bytes
  assert _printed(jailed, 'print(input())', b'next') == 'next'


# --- libraries that lie elsewhere -------------------------------------------

_PACKAGE = '__version__ = "9.8.7"\n'


def _package(folder, name='numpy'):
  package = folder / name
  package.mkdir(parents=True)
  (package / '__init__.py').write_text(_PACKAGE)
  return package


def _in_a_folder(tmp_path):
  _package(tmp_path / 'path')
  return 'numpy', tmp_path / 'path'


def _in_a_linked_folder(tmp_path):
  _package(tmp_path / 'real')
  (tmp_path / 'path').symlink_to(tmp_path / 'real')
  return 'numpy', tmp_path / 'path'


def _as_a_link(tmp_path):
  package = _package(tmp_path / 'cache', 'numpy-9')
  (tmp_path / 'path').mkdir()
  (tmp_path / 'path' / 'numpy').symlink_to(package)
  return 'numpy', tmp_path / 'path'


def _in_site_packages(tmp_path):
  folder = tmp_path / 'home' / '.local' / 'lib' / 'site-packages'
  _package(folder)
  return 'numpy', folder


def _another_in_site_packages(tmp_path):
  folder = tmp_path / 'base' / 'site-packages'
  _package(folder, 'somelibrary')
  return 'somelibrary', folder


def _another_in_dist_packages(tmp_path):
  folder = tmp_path / 'lib' / 'dist-packages'
  _package(folder, 'somelibrary')
  return 'somelibrary', folder


def _in_a_zip(tmp_path):
  with zipfile.ZipFile(tmp_path / 'libraries.zip', 'w') as file:
    file.writestr('somelibrary/__init__.py', _PACKAGE)
  return 'somelibrary', tmp_path / 'libraries.zip'


@pytest.mark.parametrize('tier', jail.TIERS)
@pytest.mark.parametrize(
  'build',
  [
    _in_a_folder,
    _in_a_linked_folder,
    _as_a_link,
    _in_site_packages,
    _another_in_site_packages,
    _another_in_dist_packages,
    _in_a_zip,
  ],
)
def test_libraries_of_the_interpreter_are_there(
  build, tier, tmp_path, monkeypatch
):
  """Root's, for example: no other user may enter `tmp_path`."""
  tmp_path.chmod(0o700)
  name, path = build(tmp_path)
  # Files next to it, and above.
  (tmp_path / 'secret').write_text('secret')
  secrets = [tmp_path / 'secret']
  if path.name == 'path':
    (path / 'answers').mkdir()
    (path / 'answers' / 'secret').write_text('secret')
    secrets.append(path / 'answers' / 'secret')
  monkeypatch.setattr(sys, 'path', [str(path), *sys.path])
  try:
    jailed = jail.Jail(tier)
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier}: {e}')
  with jailed:
    program = f'import {name}\nprint({name}.__version__)'
    assert _printed(jailed, program) == '9.8.7'
    if name == 'numpy':
      assert ' numpy=9.8.7' in jailed.confinement
    for secret in secrets:
      outcome = _run(jailed, f'print(open({str(secret)!r}).read())')
      assert outcome.exit == 1
      assert outcome.stdout == b''
    writing = f'import {name}, os\nopen({name}.__file__, "a")'
    assert _run(jailed, writing).exit == 1


@pytest.mark.parametrize('tier', jail.TIERS)
@pytest.mark.parametrize(
  ('source', 'said'),
  [
    ('raise ImportError("no engine")', r'numpy=no\(ImportError: no engine\)'),
    ('__version__ = "1\\n; T3: all is well"', r'numpy=1 T3: all is well$'),
  ],
)
def test_a_jail_says_that_it_has_no_numpy(
  source, said, tier, tmp_path, monkeypatch
):
  (_package(tmp_path) / '__init__.py').write_text(source)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  try:
    jailed = jail.Jail(tier)
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier}: {e}')
  with jailed:
    assert re.search(said, jailed.confinement)


def test_libraries_that_are_slow_to_read_are_no_sleep(tmp_path, monkeypatch):
  """As over a network."""
  source = f'{_PACKAGE}import time\ntime.sleep(0.3)\n'
  (_package(tmp_path) / '__init__.py').write_text(source)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  try:
    jailed = jail.Jail()
  except jail.SandboxError as e:
    pytest.skip(str(e))
  with jailed:
    limits = _limits(asleep_seconds=0.2)
    outcome = _run(jailed, 'import numpy\nprint(1)', limits=limits)
    assert (outcome.stdout, outcome.asleep_seconds) == (b'1\n', 0)
    sleep = 'import time\ntime.sleep(999)'
    assert _run(jailed, sleep, limits=limits).timed_out


# --- the filter -------------------------------------------------------------


@pytest.mark.parametrize('name', ['open', 'openat'])
def test_truncating_what_is_read_is_refused(name):
  """As Landlock does only from its third version on."""
  body = sandbox._bounded(name)
  for flags, decision in (
    (os.O_RDONLY, 'allowed'),
    (os.O_RDONLY | os.O_CLOEXEC, 'allowed'),
    (os.O_RDONLY | os.O_TRUNC, 'refused'),
    (os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 'allowed'),
    (os.O_RDWR | os.O_TRUNC, 'allowed'),
    (os.O_WRONLY | os.O_RDWR, 'refused'),
    (os.O_WRONLY | os.O_RDWR | os.O_TRUNC, 'refused'),
  ):
    at = 1
    while body[at][0] != 6:
      _, then, otherwise, value = body[at]
      if body[at][0] == 0x20:
        at += 1
      else:
        at += 1 + (then if flags & value else otherwise)
    found = 'allowed' if body[at][3] == 0x7FFF0000 else 'refused'
    assert found == decision, oct(flags)


def test_tiers_without_mounts_change_nothing(jailed):
  """Landlock knows nothing of times and locks."""
  if jailed.tier != 'T2':
    pytest.skip('mounts are read-only')
  program = """
import fcntl, os
for action in (
  lambda: os.utime(os.__file__),
  lambda: os.chmod(os.__file__, 0o644),
  lambda: os.truncate(os.__file__, 1 << 30),
  lambda: os.open(os.__file__, os.O_TRUNC),
  lambda: fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX),
):
  try:
    action()
  except OSError:
    continue
  print(action.__code__.co_firstlineno)
"""
  assert _printed(jailed, program) == ''
