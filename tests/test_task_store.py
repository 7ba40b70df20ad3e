"""Code tasks by reference: as those in the answer, and as safe as those.

Expectations are made by hand, or are those of the same task in the answer.
"""

import hashlib
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
import test_jail

from acereason_jax.data import task_store
from acereason_jax.verifiers import code
from acereason_jax.verifiers.pool.pool import VerifierPool
from acereason_jax.verifiers.programs import jail, stored

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

GUARD = 120
ADD = 'a, b = map(int, input().split())\nprint(a + b)'
SUMS = {'kind': 'stdin', 'time_limit_seconds': 5.0}
CALL = {'kind': 'call', 'fn': 'f', 'float_tol': 1e-6}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv(stored.VARIABLE, str(tmp_path / 'tasks'))
  for memory in (code._memo, code._kills, stored._known):
    memory.clear()
  task_store._sweep.cache_clear()
  return tmp_path / 'tasks'


def _sums(count):
  return [{'stdin': f'{i} 1\n', 'expected': f'{i + 1}\n'} for i in range(count)]


def _response(program):
  return f'</think>\n```python\n{program}\n```\n'


def _verify(program, answer):
  return code.verify(_response(program), answer)


def _file(folder, answer):
  return folder / f'{json.loads(answer)["tests"]}.tests.jsonl'


# --- the file ---------------------------------------------------------------


def test_a_file_is_named_by_its_content_and_has_a_line_for_each_test(folder):
  answer = task_store.store(SUMS, iter(_sums(3)))
  content = _file(folder, answer).read_bytes()
  assert [f.name for f in folder.iterdir()] == [_file(folder, answer).name]
  digest = hashlib.sha256(content).hexdigest()
  assert json.loads(answer) == {'tests': digest}
  header, *lines = content.decode().splitlines()
  assert json.loads(header) == SUMS | {'tests': 3}
  assert list(map(json.loads, lines)) == _sums(3)
  assert folder.stat().st_mode & 0o077 == 0
  # No answer names a folder: digests of data are the same on every host.
  assert str(folder) not in answer


def test_equal_tasks_have_one_file_and_others_have_others(folder):
  answers = [
    task_store.store(SUMS, _sums(3)),
    task_store.store(SUMS, (dict(reversed(t.items())) for t in _sums(3))),
    task_store.store(SUMS, _sums(3), more=lambda: {}),
    task_store.store(dict(reversed(SUMS.items())), _sums(3)),
  ]
  assert len({*answers}) == 1
  others = {
    task_store.store(SUMS, _sums(4)),
    task_store.store(SUMS, reversed(_sums(3))),
    task_store.store(SUMS | {'time_limit_seconds': 6.0}, _sums(3)),
    task_store.store(SUMS, _sums(3), more=lambda: {'float_tol': 0.1}),
  }
  assert len(others | {*answers}) == 5 == len(list(folder.iterdir()))


@pytest.mark.parametrize(
  ('task', 'tests', 'words'),
  [
    (SUMS, [], 'without tests'),
    (SUMS, [{'stdin': '1'}], 'without what is expected'),
    (SUMS, [{'stdin': '1', 'expected': 2}], 'must be text'),
    (SUMS, [{'stdin': 1, 'expected': '2'}], 'text for stdin'),
    (SUMS, [*_sums(2), 'no test'], 'without what is expected'),
    (CALL, [{'args': [], 'expected': float('nan')}], 'without NaN'),
    (CALL, [{'args': [float('inf')], 'expected': 1}], 'not JSON compliant'),
    ({}, _sums(1), 'kind'),
    (SUMS | {'fn': 'f'}, _sums(1), 'fn='),
    (
      CALL | {'fn': 'f' * (1 << 20)},
      [{'args': [], 'expected': 1}],
      'shorten them',
    ),
    (SUMS | {'tests': []}, _sums(1), ''),
    (SUMS | {'more': 1}, _sums(1), "no field 'more'"),
  ],
)
def test_what_no_judge_reads_is_not_stored(folder, task, tests, words):
  if words:
    with pytest.raises(ValueError, match=words) as e:
      task_store.store(task, tests)
    assert '\n' not in str(e.value)
    assert not list(folder.iterdir())
  else:
    # Tests of the task itself are not read.
    assert task_store.store(task, tests) == task_store.store(SUMS, tests)


def test_tests_over_the_limits_are_refused(folder, monkeypatch):
  monkeypatch.setattr(stored, 'MAX_TEST_BYTES', 1000)
  monkeypatch.setattr(stored, 'MAX_TESTS', 10)
  monkeypatch.setattr(task_store, '_OUTPUT_BYTES', 100)
  # The whole line counts: '{"stdin":"...","expected":"2"}' and its end.
  most = 1000 - len('{"stdin":"","expected":"2"}\n')
  assert task_store.store(SUMS, [{'stdin': '1' * most, 'expected': '2'}])
  for tests, words in (
    ([{'stdin': '1' * (most + 1), 'expected': '2'}], 'test 1 has 1,000 bytes'),
    ([*_sums(1), {'stdin': '', 'expected': '2' * 101}], 'test 2 expects 101'),
    (_sums(11), 'over 10 tests'),
  ):
    with pytest.raises(ValueError, match=words):
      task_store.store(SUMS, tests)
  assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize('size', [1, 700, 768, 769, 1000, 5000, 500_000])
def test_a_header_has_room_for_long_fields(folder, size):
  task, tests = CALL | {'fn': 'f' * size}, [{'args': [], 'expected': 1}]
  answer = task_store.store(task, tests, more=lambda: {'memory_bytes': 1 << 36})
  assert code.task_of(answer).fn == task['fn']
  assert code.task_of(answer).memory_bytes == 1 << 36
  header = _file(folder, answer).read_bytes().partition(b'\n')[0]
  assert (len(header) + 1) % 1024 == 0
  with pytest.raises(ValueError, match='give them with the others'):
    task_store.store(CALL, tests, more=lambda: {'fn': 'f' * 2000})


def test_an_error_among_the_tests_leaves_nothing(folder):
  def tests():
    yield from _sums(2)
    raise ValueError('the source ends here')

  with pytest.raises(ValueError, match='ends here'):
    task_store.store(SUMS, tests())
  assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_a_line_with_the_remedy(
  folder, monkeypatch
):
  remedy = 'or set ACEREASON_TASKS to a folder that can be written'
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  # As on a full disk.
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
  try:
    with pytest.raises(OSError, match=remedy) as e:
      task_store.store({'kind': 'stdin'}, [dict(stdin='1', expected='2')])
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert '\n' not in str(e.value) and not list(folder.iterdir())
  (folder / 'file').touch()
  monkeypatch.setenv(stored.VARIABLE, str(folder / 'file' / 'tasks'))
  with pytest.raises(OSError, match=remedy):
    task_store.made_folder()


def test_any_number_of_processes_may_store_one_task(folder):
  program = (
    'import sys\nfrom acereason_jax.data import task_store\n'
    'tests = [dict(stdin=str(i), expected="x" * 1000) for i in range(300)]\n'
    'sys.stdin.read()\n'
    'for _ in range(20): print(task_store.store({"kind": "stdin"}, tests))\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', program],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=env,
      text=True,
    )
    for _ in range(3)
  ]
  for process in processes:  # All begin now.
    process.stdin.close()
    process.stdin = None
  said = [process.communicate(timeout=GUARD)[0] for process in processes]
  assert len({*''.join(said).split('\n')} - {''}) == 1
  answer = said[0].splitlines()[0]
  assert [f.name for f in folder.iterdir()] == [_file(folder, answer).name]
  assert code.reference('', answer).status == 'right'


def test_a_killed_writer_leaves_no_task_and_is_swept_later(folder):
  program = (
    'import time\nfrom acereason_jax.data import task_store\n'
    'def tests():\n'
    '  for _ in range(100): yield dict(stdin="1" * 100_000, expected="2")\n'
    '  time.sleep(600)\n'
    'task_store.store({"kind": "stdin"}, tests())\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  with subprocess.Popen([sys.executable, '-c', program], env=env) as process:
    deadline = time.monotonic() + GUARD
    while not any(f.stat().st_size for f in folder.glob('.*.partial')):
      assert time.monotonic() < deadline
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
  (left,) = folder.iterdir()
  assert left.name.startswith('.')
  task_store.store(SUMS, _sums(1))
  assert left.exists(), 'its writer may be alive'
  os.utime(left, (0, 0))
  task_store._sweep.cache_clear()
  task_store.store(SUMS, _sums(1))
  assert not left.exists()


# --- judged -----------------------------------------------------------------


PROGRAMS = {
  'right': ADD,
  'wrong at 4': ADD + ' if a != 3 else print(0)',
  'wrong at once': 'print(0)',
  'raises at 2': ADD.replace('print', 'assert a != 1\nprint'),
  'ends': 'raise SystemExit(3)',
  'syntax': 'x = (',
}


@pytest.mark.usefixtures('jails')
def test_verdicts_are_those_of_the_same_task_in_the_answer():
  """In one process, so kills reorder the tests of both alike."""
  whole = json.dumps(SUMS | {'tests': _sums(6)})
  answer = task_store.store(SUMS, _sums(6))
  for _ in range(2):
    for program in (*PROGRAMS.values(), *reversed(PROGRAMS.values())):
      ours, theirs = _verify(program, answer), _verify(program, whole)
      assert (ours.status, ours.detail) == (theirs.status, theirs.detail)
  told = code.explain(_response(PROGRAMS['wrong at 4']), answer)
  assert told.status == 'wrong'
  lines = [l for l in told.detail.splitlines() if l.startswith('test ')]
  assert [l.split()[2] for l in lines] == [*['AC'] * 3, 'WA', *['AC'] * 2]


@pytest.mark.usefixtures('jails')
def test_calls_with_every_kind_of_value():
  values = [None, True, 0, -1.5, 'é\ud800\0', [], [[1, {'a': [2.0]}]], {}]
  tests = [{'args': [v], 'expected': v} for v in values]
  answer = task_store.store(CALL, tests)
  task = code.task_of(answer)
  assert (
    [t.args[0] for t in task.tests]
    == values
    == [t.expected for t in task.tests]
  )
  assert (task.fn, task.float_tol, len(task.tests)) == ('f', 1e-6, 8)
  assert _verify('def f(x): return x', answer).detail == 'AC 8 tests'
  assert _verify('def f(x): return x or 1', answer).status == 'wrong'


@pytest.mark.usefixtures('jails')
def test_one_test_is_in_memory():
  """160 MB of tests, of 4 MB each, next to the peak of what Python holds."""
  size = 2_000_000

  def tests():
    for i in range(40):
      yield {'stdin': f'{i}' + 'x' * size, 'expected': f'{i}' + 'x' * size}

  tracemalloc.start()
  try:
    answer = task_store.store(SUMS, tests())
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    verdict = _verify('print(input())', answer)
    judged = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert verdict.detail == 'AC 40 tests'
  # A test, its line, and copies of these: never ten tests.
  assert max(written, judged) < 10 * 2 * size


@pytest.mark.usefixtures('jails')
def test_a_file_is_read_whole_once_and_again_if_it_is_another(
  folder, monkeypatch
):
  answer, read = task_store.store(SUMS, _sums(5)), []
  learn = stored._learnt
  monkeypatch.setattr(
    stored, '_learnt', lambda *args: read.append(args[0]) or learn(*args)
  )
  for program in PROGRAMS.values():
    _verify(program, answer)
  assert len(read) == 1
  # Another process has written the same task meanwhile.
  path = _file(folder, answer)
  (folder / 'new').write_bytes(path.read_bytes())
  (folder / 'new').replace(path)
  assert _verify(ADD + ' # again', answer).detail == 'AC 5 tests'
  assert len(read) == 2


@pytest.mark.usefixtures('jails')
def test_no_descriptor_is_open_while_a_program_runs(folder, monkeypatch):
  answer, opened = task_store.store(SUMS, _sums(3)), []
  run = jail.Jail.run

  def watched(*args):
    for number in os.listdir('/proc/self/fd'):
      try:
        opened.append(os.readlink(f'/proc/self/fd/{number}'))
      except FileNotFoundError:
        continue  # That of the listing itself.
    return run(*args)

  monkeypatch.setattr(jail.Jail, 'run', watched)
  assert _verify(ADD, answer).status == 'right'
  assert opened
  assert not [path for path in opened if str(folder) in path]


def _cut(path):
  path.write_bytes(path.read_bytes()[:-5])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[-4] ^= 1
  path.write_bytes(content)
  # Two writes within a tick of the kernel's clock may have the same time.
  os.utime(path, (1, 1))


def _longer(path):
  path.write_bytes(path.read_bytes() + b'{"stdin": "", "expected": "1"}\n')


def _empty(path):
  path.write_bytes(b'')


def _missing(path):
  path.unlink()


def _is_folder(path):
  path.unlink()
  path.mkdir()


def _is_pipe(path):
  path.unlink()
  os.mkfifo(path)


def _loop(path):
  path.unlink()
  path.symlink_to(path)


DAMAGES = [_cut, _flip, _longer, _empty, _missing, _is_folder, _is_pipe, _loop]


@pytest.mark.usefixtures('jails')
@pytest.mark.parametrize('known', [False, True])
@pytest.mark.parametrize('damage', DAMAGES, ids=lambda d: d.__name__)
def test_a_damaged_task_is_a_failure_of_the_judge(folder, damage, known):
  """Whatever the program does; also where the file was whole before."""
  answer = task_store.store(SUMS, _sums(4))
  if known:
    assert _verify(ADD, answer).status == 'right'
  damage(_file(folder, answer))
  for program in (ADD + '\n', *PROGRAMS.values()):
    verdict = _verify(program, answer)
    assert verdict.status == 'error'
    assert verdict.detail.startswith('SANDBOX_ERROR ')
    assert verdict.detail.isprintable()
    assert any(word in verdict.detail for word in ('load the data', 'readable'))
  assert code.reference('', answer).status == 'error'


@pytest.mark.usefixtures('jails')
def test_damage_between_two_tests_is_a_failure_of_the_judge(
  folder, monkeypatch
):
  answer, run = task_store.store(SUMS, _sums(4)), jail.Jail.run

  def damaging(self, program, stdin, *more):
    if stdin == b'1 1\n':
      _file(folder, answer).unlink()
    return run(self, program, stdin, *more)

  code.task_of(answer)
  monkeypatch.setattr(jail.Jail, 'run', damaging)
  assert _verify(ADD, answer).status == 'error'


def test_storing_again_repairs_a_damaged_file(folder):
  for damage in (_cut, _flip, _longer, _empty, _missing, _loop):
    answer = task_store.store(SUMS, _sums(4))
    damage(_file(folder, answer))
    assert code.reference('', answer).status == 'error'
    assert task_store.store(SUMS, _sums(4)) == answer
    assert code.reference('', answer).status == 'right'


def _named_by_content(folder, content):
  digest = hashlib.sha256(content).hexdigest()
  folder.mkdir(exist_ok=True)
  (folder / f'{digest}.tests.jsonl').write_bytes(content)
  return json.dumps({'tests': digest})


TEST = b'{"stdin": "1 1", "expected": "2"}\n'


@pytest.mark.usefixtures('jails')
@pytest.mark.parametrize(
  'content',
  [
    b'\n',
    b'{"kind": "stdin", "tests": 1}',
    b'{"kind": "stdin", "tests": 1}\n',
    b'{"kind": "stdin", "tests": 0}\n',
    b'{"kind": "stdin", "tests": true}\n' + TEST,
    b'{"kind": "stdin", "tests": [1]}\n' + TEST,
    b'{"kind": "stdin", "tests": 1}\n' + TEST + b'rest',
    b'{"kind": "stdin"}\n' + TEST,
    b'{"kind": "other", "tests": 1}\n' + TEST,
    b'{"kind": "stdin", "tests": 1, "odd": 1}\n' + TEST,
    b'["kind"]\n' + TEST,
    b'"tests"\n' + TEST,
    b'[' * 100_000 + b'\n' + TEST,
    b'{"kind": "stdin", "tests": 1}\n\n',
    b'{"kind": "stdin", "tests": 1}\n{"stdin": 1, "expected": "2"}\n',
    b'{"kind": "stdin", "tests": 1}\n' + b'[' * 100_000 + b'\n',
    b'{"kind": "stdin", "tests": 1}\n\xff\n',
    b'{"kind": "stdin", "tests": 1}\n' + TEST.strip() * 2 + b'\n',
  ],
  ids=lambda content: repr(content[-40:]),
)
def test_hostile_files_are_failures_of_the_judge(folder, content):
  verdict = _verify(ADD, _named_by_content(folder, content))
  assert verdict.status == 'error'
  assert '\n' not in verdict.detail


@pytest.mark.usefixtures('jails')
def test_a_file_as_another_writer_may_write_it(folder):
  content = b'{"tests": 2, "kind": "stdin"}\n' + 2 * TEST
  answer = _named_by_content(folder, content)
  assert _verify(ADD, answer).detail == 'AC 2 tests'


@pytest.mark.parametrize(
  'name',
  [
    '',
    '..',
    '../' + 'a' * 64,
    'a' * 63,
    'a' * 65,
    'A' * 64,
    'a' * 64 + '\n',
    '/' + 'a' * 63,
    '\0' * 64,
    'é' * 64,
    '\uff11' * 64,
    'g' * 64,
    '/etc/passwd',
  ],
)
def test_a_name_that_is_no_digest_opens_nothing(name, monkeypatch):
  opened = []
  monkeypatch.setattr(os, 'open', lambda *args, **more: opened.append(args))
  answer = json.dumps({'tests': name})
  assert code.reference('', answer).status == 'error'
  assert _verify(ADD, answer).status == 'error'
  assert not opened


@pytest.mark.parametrize('inside', ['', 'tasks', 'lib/../tasks'])
def test_a_folder_that_programs_may_read_is_refused(monkeypatch, inside):
  monkeypatch.setenv(stored.VARIABLE, os.path.join(sys.prefix, inside))
  with pytest.raises(ValueError, match='programs that are judged may read'):
    task_store.store(SUMS, _sums(1))
  verdict = _verify(ADD, json.dumps({'tests': 'a' * 64}))
  assert verdict.status == 'error'
  assert stored.VARIABLE in verdict.detail


def test_a_link_to_a_folder_that_programs_may_read_is_refused(
  monkeypatch, tmp_path
):
  (tmp_path / 'link').symlink_to(sys.prefix)
  monkeypatch.setenv(stored.VARIABLE, str(tmp_path / 'link' / 'tasks'))
  with pytest.raises(ValueError, match='programs that are judged may read'):
    task_store.store(SUMS, _sums(1))


# --- workers ----------------------------------------------------------------


@pytest.mark.parametrize(
  'variable', [stored.VARIABLE, 'ACEREASON_CACHE', 'HOME']
)
def test_workers_find_the_folder(monkeypatch, tmp_path, variable):
  """Their environment has none of these variables, except the first."""
  for name in (stored.VARIABLE, 'ACEREASON_CACHE'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv(variable, str(tmp_path))
  below = {
    stored.VARIABLE: '',
    'ACEREASON_CACHE': 'tasks',
    'HOME': '.cache/acereason_jax/tasks',
  }[variable]
  assert stored.folder() == os.path.join(tmp_path, below).rstrip('/')
  answer = task_store.store(SUMS, _sums(3))
  path = 'acereason_jax.verifiers.code:verify'
  try:
    pool = VerifierPool(path, {}, 1, 300.0, confine=False)
  except ValueError as e:
    pytest.skip(f'this host refuses jails: {e}')
  with pool:
    assert pool.submit(_response(ADD), answer).result(GUARD).status == 'right'
  path = 'acereason_jax.verifiers.code:reference'
  with VerifierPool(path, {}, 1, 30.0) as pool:
    assert pool.submit('', answer).result(GUARD).status == 'right'


# --- programs that look for the file ----------------------------------------

_THIEF = """
import ctypes, os, sys
PATH, PIDS, SECRET = @PATH@, @PIDS@, @SECRET@
FOLDER = os.path.dirname(PATH)
def inside(text):
  return SECRET in (text if isinstance(text, bytes) else text.encode())
def content(path):
  with open(path, 'rb') as file:
    return file.read()
def listed():
  return b''.join(content(f'{FOLDER}/{name}') for name in os.listdir(FOLDER))
def descriptors():
  found = b''
  for pid in ('self', os.getppid(), *PIDS):
    try:
      for name in os.listdir(f'/proc/{pid}/fd'):
        place = f'/proc/{pid}/fd/{name}'
        if os.path.isfile(place):
          found += content(place)
    except OSError:
      continue
  return found
def handed():
  for number in range(3, 64):
    try:
      if found := os.pread(number, 1 << 20, 0):
        if inside(found):
          return found
    except OSError:
      continue
  return b''
def roots(name):
  found = b''
  for pid in ('self', 1, os.getppid(), *PIDS):
    try:
      found += content(f'/proc/{pid}/{name}/../../../../../..{PATH}')
    except OSError:
      continue
  return found
def linked(link):
  place = f'stolen{os.getpid()}'
  link(PATH, place)
  try:
    return content(place)
  finally:
    os.unlink(place)
def by_path_only():
  file = os.open(PATH, os.O_PATH)
  return content(f'/proc/self/fd/{file}')
def in_c():
  libc = ctypes.CDLL(None)
  libc.fopen.restype = ctypes.c_void_p
  file = libc.fopen(PATH.encode(), b'r')
  if not file:
    return b''
  buffer = ctypes.create_string_buffer(1 << 16)
  libc.fread(buffer, 1, 1 << 16, ctypes.c_void_p(file))
  return buffer.raw
def from_folder():
  folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
  file = os.open(os.path.basename(PATH), os.O_RDONLY, dir_fd=folder)
  return os.read(file, 1 << 20)
def environment():
  value = os.environ.get('ACEREASON_TASKS', '')
  return SECRET if value else b''
WAYS = dict(
  path=lambda: content(PATH), listed=listed, descriptors=descriptors,
  handed=handed, root=lambda: roots('root'), cwd=lambda: roots('cwd'),
  symbolic=lambda: linked(os.symlink), hard=lambda: linked(os.link),
  by_path_only=by_path_only, in_c=in_c, from_folder=from_folder,
  environment=environment,
)
worked = []
for name, way in WAYS.items():
  try:
    if inside(way()):
      worked.append(name)
  except OSError:
    continue
print(*worked)
"""


@pytest.fixture
def secret(tmp_path_factory, monkeypatch):
  """A stored task that every user of the machine may read, held open."""
  place = tmp_path_factory.mktemp('shared')
  for above in (place, *place.parents):
    # pytest's own folders are for this user only.
    if above.owner() == pathlib.Path.home().owner() and os.getuid() == 0:
      above.chmod(above.stat().st_mode | 0o755)
  folder = place / 'tasks'
  monkeypatch.setenv(stored.VARIABLE, str(folder))
  token = f'SECRET{random.getrandbits(64)}'
  answer = task_store.store(SUMS, [{'stdin': '', 'expected': token}])
  folder.chmod(0o755)
  path = _file(folder, answer)
  path.chmod(0o644)
  file = os.open(path, os.O_RDONLY)
  os.set_inheritable(file, True)
  fields = {'PATH': str(path), 'PIDS': [os.getpid()], 'SECRET': token.encode()}
  program = _THIEF
  for name, value in fields.items():
    program = program.replace(f'@{name}@', repr(value))
  yield answer, token, program
  os.close(file)


def test_without_a_jail_the_thief_finds_it(secret, tmp_path):
  """Otherwise the next tests would show nothing."""
  _, _, program = secret
  done = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    close_fds=False,
  )
  ways = {
    *('path', 'listed', 'descriptors', 'handed', 'root', 'cwd', 'symbolic'),
    *('hard', 'by_path_only', 'in_c', 'from_folder', 'environment'),
  }
  assert set(done.stdout.split()) == ways, done.stderr


@pytest.mark.parametrize(('user', 'tier'), test_jail.COMBINATIONS)
def test_no_program_reads_a_stored_task(secret, user, tier):
  _, _, program = secret
  own = user == os.getuid()
  try:
    jailed = jail.Jail(tier) if own else test_jail.Remote(user, tier)
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier} to {user}: {e}')
  try:
    outcome = jailed.run(program.encode(), b'', test_jail.QUICK)
  finally:
    jailed.close()
  assert (outcome.exit, outcome.stdout.split()) == (0, []), outcome


@pytest.mark.parametrize('tier', jail.TIERS)
def test_no_program_prints_what_its_own_test_expects(secret, tier):
  """The whole judge, which has just read the file."""
  answer, token, program = secret
  try:
    jail.Jail(tier).close()
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier}: {e}')
  program += f'if worked: print({token!r})\n'
  verdict = code.verify(_response(program), answer, tier=tier)
  assert (verdict.status, verdict.detail[:2]) == ('wrong', 'WA')
  verdict = code.verify(_response(f'print({token!r})'), answer, tier=tier)
  assert verdict.status == 'right'
