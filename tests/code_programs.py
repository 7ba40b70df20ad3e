"""Programs whose verdict is known: right, however odd, wrong, however close.

`PROGRAMS` is data for a judge's tests. A program that is right is what Python
itself, given that input, makes right: it prints or returns what is expected,
and exits with 0. `needs` names a module without which a program means nothing.
Left out is what graders may settle either way: words that stand on other lines,
blank lines in between, `2.0` where 2 is expected, a float where a large integer
is, a function where a method is, output that `os._exit` loses.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Program(NamedTuple):
  """`program`, an answer to `task` (a CodeTask's JSON form), earns `status`."""

  name: str
  task: dict[str, Any]
  program: str
  status: str  # AC, WA, TLE, MLE, RE or OLE
  needs: str = ''


def _stdin(*tests: tuple[str, str], **limits: float) -> dict[str, Any]:
  """Returns a task of (stdin, expected output) tests."""
  pairs = [{'stdin': given, 'expected': wanted} for given, wanted in tests]
  return {'kind': 'stdin', 'tests': pairs, **limits}


def _call(fn: str, *tests: tuple[list, Any], **limits: float) -> dict[str, Any]:
  """Returns a task of (arguments, expected result) tests."""
  pairs = [{'args': args, 'expected': wanted} for args, wanted in tests]
  return {'kind': 'call', 'fn': fn, 'tests': pairs, **limits}


def _all(
  status: str, task: dict[str, Any], programs: Iterable[tuple[str, str]]
) -> tuple[Program, ...]:
  """Returns answers to one task that earn the same status."""
  return tuple(Program(n, task, text, status) for n, text in programs)


_ADD = 'def add(a, b):\n  return a + b\n'
# Two integers are read; their sum is printed.
_SUM = _stdin(('1 2\n', '3\n'), ('10 -4\n', '6\n'))
_QUICK = _SUM | {'time_limit_seconds': 1.0}
_HELLO = _stdin(('', 'hello\n'))
_LINES = ''.join(f'{i}\n' for i in range(1_000_000))

# How the source is written.
_SOURCES = (
  (
    'input',
    """\
a, b = map(int, input().split())
print(a + b)
""",
  ),
  (
    'crlf source',
    'a, b = map(int, input().split())\r\nif a:\r\n  print(a + b)\r\n',
  ),
  (
    'source without a final newline',
    """\
a, b = map(int, input().split())
print(a + b)""",
  ),
  ('byte order mark', '\ufeffa, b = map(int, input().split())\nprint(a + b)\n'),
  (
    'encoding cookie',
    """\
#!/usr/bin/env python3
# -*- coding: utf-8 -*-
été, b = map(int, input().split())
print(été + b)
""",
  ),
  (
    'tabs',
    (
      'def main():\n'
      '\ta, b = map(int, input().split())\n'
      '\tif True:\n'
      '\t\tprint(a + b)\n'
      'main()\n'
    ),
  ),
  (
    'form feed and blank lines with spaces',
    (
      'def main():\n'
      '  a, b = map(int, input().split())\n'
      '    \n'
      '\x0c\n'
      '  print(a + b)\n'
      '   \n'
      'main()\n'
    ),
  ),
  (
    'ends in a comment',
    """\
print(sum(map(int, input().split())))
# the sum""",
  ),
  (
    'semicolons and continuations',
    """\
a, b = \\
  map(int, input().split()); print(a + \\
b)
""",
  ),
  (
    'from __future__',
    '''\
"""A docstring first."""
from __future__ import annotations
def add(a: NoSuchType, b: int | str) -> Unknown:
  return a + b
a, b = map(int, input().split())
print(add(a, b))
''',
  ),
  (
    'name is main',
    """\
def main():
  a, b = map(int, input().split())
  print(a + b)


if __name__ == '__main__':
  main()
""",
  ),
  (
    'main is imported',
    """\
import __main__
value = sum(map(int, input().split()))
print(__main__.value)
""",
  ),
  (
    'global',
    """\
total = 0

def add(x):
  global total, seen
  total += x
  seen = True

for x in input().split():
  add(int(x))
assert seen
print(total)
""",
  ),
  (
    'exec defines globals',
    """\
exec('def add(a, b): return a + b')
exec("values = input().split()")
print(eval('add(*map(int, values))'))
""",
  ),
  (
    'locals and globals',
    """\
globals()['a'], locals()['b'] = map(int, input().split())
print(a + b, vars()['a'] - globals()['a'] or '', sep='')
""",
  ),
  (
    'comprehension over a global in a class',
    """\
data = list(map(int, input().split()))
class Sum:
  first = [x for x in data]
  total = sum(first)
print(Sum.total)
""",
  ),
  (
    'unused return of main',
    """\
import sys
def main():
  print(sum(map(int, sys.stdin.readline().split())))
sys.exit(main())
""",
  ),
  (
    'names of builtins reused',
    """\
def sum(values):
  total = 0
  for value in values:
    total += value
  return total
list = [int(x) for x in input().split()]
max = sum(list)
print(max)
""",
  ),
  (
    'names of the prelude reused',
    """\
heapq, math, Counter, bisect = 1, 2, 3, 4
def deque(x):
  return x
print(deque(sum(map(int, input().split()))))
""",
  ),
  (
    'walrus, match and star',
    """\
match input().split():
  case [first, *rest]:
    if (n := int(first)) is not None:
      print(n + sum(map(int, rest)))
""",
  ),
)

# What the language and its library do.
_LANGUAGE = (
  (
    'classes and decorators',
    """\
import functools

def twice(f):
  @functools.wraps(f)
  def wrapped(*args):
    return f(*args) * 2 // 2
  return wrapped

class Adder:
  __slots__ = ('a',)
  def __init__(self, a):
    self.a = a
  @twice
  def add(self, b):
    return self.a + b
  @property
  def zero(self):
    return 0
  @staticmethod
  def read():
    return map(int, input().split())

a, b = Adder.read()
print(Adder(a).add(b) + Adder(a).zero)
""",
  ),
  (
    'generators',
    """\
def numbers():
  yield from (int(x) for x in input().split())

def running(source):
  total = 0
  for x in source:
    total += x
    yield total

print(list(running(numbers()))[-1])
""",
  ),
  (
    'dataclass, enum and named tuple',
    """\
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

class Pair(NamedTuple):
  a: int
  b: int = 0

class Sign(IntEnum):
  PLUS = 1

@dataclass(order=True, frozen=True)
class Sum:
  pair: Pair
  more: list = field(default_factory=list, compare=False)
  def value(self):
    return self.pair.a + Sign.PLUS * self.pair.b + sum(self.more)

print(Sum(Pair(*map(int, input().split()))).value())
""",
  ),
  (
    'pickled class of main',
    """\
import copy
import pickle

class Box:
  def __init__(self, value):
    self.value = value

a, b = map(int, input().split())
box = pickle.loads(pickle.dumps(copy.deepcopy(Box(a + b))))
print(box.value)
""",
  ),
  (
    'typing names without import',
    """\
def add(values: List[int], more: Optional[Dict[str, int]] = None) -> int:
  pair: Tuple[int, int] = tuple(values)
  return sum(pair)
print(add([int(x) for x in input().split()]))
""",
  ),
  (
    'library names without import',
    """\
counts = Counter(x for x in input().split())
queue = deque(int(x) for x in counts.elements())
heap = []
groups = defaultdict(list)
for x in queue:
  heapq.heappush(heap, x)
  groups[x % 2].append(x)
assert math.gcd(4, 6) == 2 and bisect.bisect([1, 2], 1) == 1
assert list(itertools.chain([1], [2])) == [1, 2]
assert collections.OrderedDict(a=1)['a'] == 1
print(functools.reduce(lambda a, b: a + b, heap))
""",
  ),
  (
    'builtins are not hidden by a prelude',
    """\
assert pow(2, 10, 1000) == 24 and pow(2, -1, 7) == 4
assert sum([1, 2], 3) == 6 and round(2.567, 1) == 2.6
assert open and range(2)[1] == 1 and abs(-3) == 3
assert min(3, 1, 2) == 1 and type(pow(2, 3)) is int
print(sum(map(int, input().split())))
""",
  ),
  (
    'star imports',
    """\
from math import *
from itertools import *
from collections import *
from sys import stdin
a, b = map(int, stdin.readline().split())
print(next(accumulate([a + b])) + floor(e) - 2)
""",
  ),
  (
    'recursion 50,000 deep',
    """\
import sys
sys.setrecursionlimit(10 ** 6)
def count(n):
  return 0 if n == 0 else 1 + count(n - 1)
assert count(50_000) == 50_000
print(sum(map(int, input().split())))
""",
  ),
  (
    'recursion in a thread with a large stack',
    """\
import sys
import threading
sys.setrecursionlimit(10 ** 6)
threading.stack_size(1 << 27)
def count(n):
  return 0 if n == 0 else 1 + count(n - 1)
def main():
  assert count(50_000) == 50_000
  print(sum(map(int, input().split())))
thread = threading.Thread(target=main)
thread.start()
thread.join()
""",
  ),
  (
    'stack limit raised first',
    """\
import resource
import sys
resource.setrlimit(
  resource.RLIMIT_STACK, (1 << 27, resource.getrlimit(resource.RLIMIT_STACK)[1])
)
sys.setrecursionlimit(1 << 20)
def count(n):
  return 0 if n == 0 else 1 + count(n - 1)
assert count(20_000) == 20_000
print(sum(map(int, input().split())))
""",
  ),
  (
    'cached recursion',
    """\
import functools
import sys
sys.setrecursionlimit(100_000)
@functools.lru_cache(maxsize=None)
def down(n):
  return 0 if n == 0 else down(n - 1) + 1
assert down(3000) == 3000
print(sum(map(int, input().split())))
""",
  ),
  (
    'trampolined generator recursion',
    """\
from types import GeneratorType
def bootstrap(f, stack=[]):
  def wrapped(*args):
    if stack:
      return f(*args)
    to = f(*args)
    while True:
      if type(to) is GeneratorType:
        stack.append(to)
        to = next(to)
      else:
        stack.pop()
        if not stack:
          return to
        to = stack[-1].send(to)
  return wrapped
@bootstrap
def count(n):
  yield 0 if n == 0 else 1 + (yield count(n - 1))
assert count(20_000) == 20_000
print(sum(map(int, input().split())))
""",
  ),
  (
    'RecursionError caught',
    """\
def forever(n):
  return forever(n + 1)
try:
  forever(0)
except RecursionError:
  print(sum(map(int, input().split())))
""",
  ),
  (
    'threads that finish',
    """\
import threading
parts = []
lock = threading.Lock()
def work(x):
  with lock:
    parts.append(int(x))
threads = [threading.Thread(target=work, args=(x,)) for x in input().split()]
for thread in threads:
  thread.start()
for thread in threads:
  thread.join()
print(sum(parts))
""",
  ),
  (
    'sixteen threads at once',
    """\
import threading
barrier = threading.Barrier(17)
threads = [threading.Thread(target=barrier.wait) for _ in range(16)]
for thread in threads:
  thread.start()
barrier.wait()
print(sum(map(int, input().split())))
""",
  ),
  (
    'thread pool',
    """\
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(max_workers=4)
print(sum(pool.map(int, input().split())))
""",
  ),
  (
    'a thread prints after main has ended',
    """\
import threading
import time
value = sum(map(int, input().split()))
def later():
  time.sleep(0.1)
  print(value)
threading.Thread(target=later).start()
""",
  ),
  (
    'a daemon thread is left',
    """\
import threading
import time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print(sum(map(int, input().split())))
""",
  ),
  (
    'event loop',
    """\
import asyncio
async def number(text):
  await asyncio.sleep(0.01)
  return int(text)
async def main():
  values = await asyncio.gather(*map(number, input().split()))
  loop = asyncio.get_running_loop()
  print(await loop.run_in_executor(None, sum, values))
asyncio.run(main())
""",
  ),
  (
    'signal handlers and an alarm',
    """\
import signal
rang = []
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.pause()
assert rang
print(sum(map(int, input().split())))
""",
  ),
  (
    'a signal to itself',
    """\
import os
import signal
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
assert len(got) == 2
print(sum(map(int, input().split())))
""",
  ),
  (
    'garbage collection off',
    """\
import gc
gc.disable()
cycles = []
for _ in range(1000):
  cycle = []
  cycle.append(cycle)
gc.freeze()
print(sum(map(int, input().split())))
""",
  ),
  (
    'weak references and finalizers',
    """\
import weakref
class Box:
  pass
freed = []
box = Box()
weakref.finalize(box, freed.append, 1)
ref = weakref.ref(box)
del box
assert ref() is None and freed
print(sum(map(int, input().split())))
""",
  ),
  (
    'random with a seed',
    """\
import random
random.seed(7)
first = [random.random() for _ in range(3)]
random.seed(7)
assert first == [random.random() for _ in range(3)]
random.shuffle(first)
random.Random(3).choice(first)
print(sum(map(int, input().split())))
""",
  ),
  (
    'randomness of the system',
    """\
import hashlib
import os
import random
import secrets
import uuid
assert len(os.urandom(8)) == 8 and secrets.randbelow(3) < 3
random.SystemRandom().random()
uuid.uuid4()
assert hashlib.sha256(b'').hexdigest().startswith('e3b0c442')
print(sum(map(int, input().split())))
""",
  ),
  (
    'clocks and dates',
    """\
import datetime
import time
start = time.perf_counter()
time.sleep(0.3)
assert 0.3 <= time.perf_counter() - start
assert time.time() > 1e9 and time.process_time() >= 0
time.localtime()
day = datetime.date(2024, 2, 28) + datetime.timedelta(days=2)
assert day.strftime('%Y-%m-%d') == '2024-03-01'
assert datetime.datetime.strptime('2024', '%Y').year == 2024
datetime.datetime.now()
print(sum(map(int, input().split())))
""",
  ),
  (
    'decimals, fractions, complex numbers and statistics',
    """\
import cmath
import decimal
import fractions
import statistics
decimal.getcontext().prec = 50
third = decimal.Decimal(1) / 3
assert str(third) == '0.' + '3' * 50
assert fractions.Fraction(1, 3) * 3 == 1
assert abs(cmath.exp(1j * cmath.pi) + 1) < 1e-9
assert statistics.median([1, 2, 3]) == 2
print(sum(map(int, input().split())))
""",
  ),
  (
    'text modules',
    """\
import locale
import re
import string
import textwrap
locale.setlocale(locale.LC_ALL, '')
locale.setlocale(locale.LC_ALL, 'C')
assert string.ascii_lowercase[3] == 'd'
assert textwrap.dedent('  a') == 'a'
print(sum(int(x) for x in re.findall(r'-?\\d+', input())))
""",
  ),
  (
    'containers and codecs',
    """\
import array
import base64
import json
import queue
import struct
import zlib
values = array.array('q', map(int, input().split()))
line = queue.PriorityQueue()
for value in values:
  line.put(value)
packed = zlib.compress(struct.pack('<2q', line.get(), line.get()))
a, b = struct.unpack('<2q', zlib.decompress(packed))
assert base64.b64decode(base64.b64encode(b'x')) == b'x'
print(json.loads(json.dumps({'sum': a + b}))['sum'])
""",
  ),
  (
    'introspection and warnings',
    """\
import inspect
import platform
import sys
import traceback
import warnings
warnings.simplefilter('always')
warnings.warn('old')
assert inspect.signature(lambda a, b: 0).parameters
assert sys._getframe().f_code.co_name == '<module>'
assert platform.python_version() and sys.version_info >= (3,)
try:
  1 / 0
except ZeroDivisionError:
  traceback.print_exc()
print(sum(map(int, input().split())))
""",
  ),
  (
    'arguments and environment',
    """\
import os
import sys
if len(sys.argv) > 1 or 'ONLINE_JUDGE' in os.environ:
  sys.stdin = open(sys.argv[1])
assert os.getenv('HOME_OF_NOTHING') is None
assert os.environ.get('LOCAL', 'no') == 'no'
print(sum(map(int, input().split())))
""",
  ),
  (
    'its own file need not exist',
    """\
import os
import sys
try:
  folder = os.path.dirname(os.path.abspath(__file__))
except NameError:
  folder = '.'
if os.path.exists('input.txt') or os.path.isfile(folder + '/input.txt'):
  sys.stdin = open('input.txt')
  sys.stdout = open('output.txt', 'w')
print(sum(map(int, input().split())))
""",
  ),
  (
    'a file that is missing',
    """\
import sys
try:
  sys.stdin = open('data.in')
except (FileNotFoundError, OSError):
  pass
print(sum(map(int, input().split())))
""",
  ),
  (
    'a module that is missing',
    """\
try:
  from sortedcontainers_of_nowhere import SortedList
except ImportError:
  SortedList = sorted
print(sum(SortedList(map(int, input().split()))))
""",
  ),
  (
    'interpreter settings',
    """\
import sys
import threading
sys.setswitchinterval(0.01)
sys.set_int_max_str_digits(0)
sys.setrecursionlimit(1 << 30)
sys.dont_write_bytecode = True
threading.setprofile(None)
assert len(str(10 ** 5000)) == 5001
print(sum(map(int, input().split())))
""",
  ),
  (
    'int to text beyond 4,300 digits',
    """\
n = 7 ** 20_000
assert int(str(n)) == n and len(f'{n}') == 16_902
print(sum(map(int, input().split())))
""",
  ),
  (
    'exceptions handled',
    """\
class Done(Exception):
  pass
try:
  try:
    a, b = input().split()
    raise Done(int(a) + int(b)) from ValueError('x')
  finally:
    pass
except Done as e:
  print(e.args[0])
""",
  ),
  (
    'what the streams say of themselves',
    """\
import sys
assert (sys.stdin.fileno(), sys.stdout.fileno()) == (0, 1)
assert (sys.stdin.name, sys.stdout.name) == ('<stdin>', '<stdout>')
assert (sys.stdin.mode, sys.stdout.mode) == ('r', 'w')
assert sys.stdin.encoding.lower() == sys.stdout.encoding.lower() == 'utf-8'
assert sys.stdin is sys.__stdin__ and not sys.stdin.isatty()
assert sys.stdin.readable() and sys.stdout.writable()
print(sum(map(int, input().split())))
""",
  ),
  (
    'what the module says of itself',
    """\
import sys
assert __name__ == '__main__' and sys.modules['__main__'].__dict__ is globals()
assert __doc__ is None and __builtins__.len is len
assert __spec__ is None and __package__ is None
class Box:
  pass
assert Box.__module__ == '__main__' and repr(Box) == "<class '__main__.Box'>"
print(sum(map(int, input().split())))
""",
  ),
  (
    'MemoryError is not hit below the limit',
    """\
data = bytearray(300 << 20)
data[::4096] = b'x' * len(data[::4096])
print(sum(map(int, input().split())))
""",
  ),
  (
    'module attributes and subclasses of builtins',
    """\
class Number(int):
  def __add__(self, other):
    return Number(int(self) + int(other))
  __radd__ = __add__
  def __str__(self):
    return int.__repr__(self)
print(sum(map(Number, input().split()), Number(0)))
""",
  ),
  (
    'monkey patches',
    """\
import builtins
import json
import sys
json.loads = json.dumps = None
builtins.len = None
values = [int(x) for x in input().split()]
print(sum(values))
""",
  ),
)

# Ways to read.
_READERS = (
  (
    'stdin.read',
    """\
import sys
print(sum(map(int, sys.stdin.read().split())))
""",
  ),
  (
    'stdin.buffer',
    """\
import sys
print(sum(map(int, sys.stdin.buffer.read().split())))
""",
  ),
  (
    'stdin.buffer.raw',
    """\
import sys
print(sum(map(int, sys.stdin.buffer.raw.readall().split())))
""",
  ),
  (
    'lines of stdin',
    """\
import sys
for line in sys.stdin:
  print(sum(map(int, line.split())))
""",
  ),
  (
    'readlines',
    """\
import sys
lines = sys.stdin.readlines()
print(sum(map(int, lines[0].rstrip('\\n').split(' '))))
""",
  ),
  (
    'input is readline',
    """\
import sys
input = sys.stdin.readline
print(sum(map(int, input().split())))
""",
  ),
  (
    'input is the readline of the buffer',
    """\
import sys
input = sys.stdin.buffer.readline
print(sum(map(int, input().split())))
""",
  ),
  (
    'input is the next of an iterator',
    """\
import sys
input = iter(sys.stdin.read().splitlines()).__next__
print(sum(map(int, input().split())))
""",
  ),
  (
    'input is rebound in builtins',
    """\
import builtins
import sys
builtins.input = lambda: sys.stdin.readline().strip()
print(sum(map(int, input().split())))
""",
  ),
  ('open(0)', 'print(sum(map(int, open(0).read().split())))\n'),
  (
    'open(0) unpacked',
    """\
(line,) = open(0)
a, b = map(int, line.split())
print(a + b)
""",
  ),
  ('open(0) in binary', "print(sum(map(int, open(0, 'rb').read().split())))\n"),
  (
    'open(/dev/stdin)',
    "print(sum(map(int, open('/dev/stdin').read().split())))\n",
  ),
  (
    'open(stdin.fileno())',
    """\
import sys
with open(sys.stdin.fileno(), closefd=False) as lines:
  print(sum(map(int, lines.readline().split())))
""",
  ),
  (
    'os.read',
    """\
import os
print(sum(map(int, os.read(0, 1 << 16).split())))
""",
  ),
  (
    'size of stdin by fstat',
    """\
import io
import os
data = io.BytesIO(os.read(0, os.fstat(0).st_size))
input = data.readline
print(sum(map(int, input().split())))
""",
  ),
  (
    'mmap of stdin',
    """\
import mmap
import os
data = mmap.mmap(0, os.fstat(0).st_size, access=mmap.ACCESS_READ)
print(sum(map(int, data[:].split())))
""",
  ),
  (
    'fileinput',
    """\
import fileinput
for line in fileinput.input():
  print(sum(map(int, line.split())))
""",
  ),
  (
    'EOFError caught',
    """\
while True:
  try:
    line = input()
  except EOFError:
    break
  print(sum(map(int, line.split())))
""",
  ),
  (
    'input with a prompt on stderr, tokens by a generator',
    """\
import sys
def tokens():
  for line in sys.stdin:
    yield from line.split()
token = tokens()
read = lambda: int(next(token))
print(read() + read())
""",
  ),
  (
    'stdin wrapped again',
    """\
import io
import sys
sys.stdin = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8')
print(sum(map(int, input().split())))
""",
  ),
  (
    'stdin detached',
    """\
import sys
data = sys.stdin.detach()
print(sum(map(int, data.read().split())))
""",
  ),
  (
    'stdin duplicated',
    """\
import os
copy = os.dup(0)
with os.fdopen(copy) as lines:
  print(sum(map(int, lines.read().split())))
""",
  ),
  (
    'stdin closed after reading',
    """\
import sys
values = sys.stdin.read().split()
sys.stdin.close()
print(sum(map(int, values)))
""",
  ),
  (
    'stdin replaced by text',
    """\
import io
import sys
sys.stdin = io.StringIO(sys.stdin.read() + 'more')
print(sum(map(int, input().split())))
assert input() == 'more'
""",
  ),
  (
    'fast input class',
    """\
import os
import sys
from io import BytesIO, IOBase

class FastIO(IOBase):
  def __init__(self, file):
    self.fd = file.fileno()
    self.buffer = BytesIO()
    self.writable = 'x' in file.mode or 'r' not in file.mode
    self.write = self.buffer.write if self.writable else None
  def readline(self):
    pointer = self.buffer.tell()
    self.buffer.write(os.read(self.fd, max(os.fstat(self.fd).st_size, 8192)))
    self.buffer.seek(pointer)
    return self.buffer.readline()
  def flush(self):
    if self.writable:
      os.write(self.fd, self.buffer.getvalue())
      self.buffer.truncate(0)
      self.buffer.seek(0)

class Text(IOBase):
  def __init__(self, file):
    self.buffer = FastIO(file)
    self.flush = self.buffer.flush
    self.write = lambda s: self.buffer.write(s.encode('ascii'))
    self.readline = lambda: self.buffer.readline().decode('ascii')

sys.stdin, sys.stdout = Text(sys.stdin), Text(sys.stdout)
input = lambda: sys.stdin.readline().rstrip('\\r\\n')
print(sum(map(int, input().split())))
""",
  ),
)

# Ways to write, and to end.
_WRITERS = (
  (
    'stdout.write',
    """\
import sys
value = sum(map(int, input().split()))
sys.stdout.write(str(value))
""",
  ),
  (
    'stdout.writelines',
    """\
import sys
value = sum(map(int, input().split()))
sys.stdout.writelines([str(value), '\\n'])
""",
  ),
  (
    'stdout.buffer',
    """\
import sys
value = sum(map(int, input().split()))
sys.stdout.buffer.write(b'%d\\n' % value)
""",
  ),
  (
    'stdout.buffer after print',
    """\
import sys
value = sum(map(int, input().split()))

print(str(value)[:-1], end='', flush=True)
sys.stdout.buffer.write(str(value)[-1].encode())
""",
  ),
  (
    'os.write',
    """\
import os
value = sum(map(int, input().split()))
os.write(1, f'{value}\\n'.encode())
""",
  ),
  (
    'a byte at a time',
    """\
import sys
value = sum(map(int, input().split()))

for c in f'{value}\\n':
  sys.stdout.write(c)
  sys.stdout.flush()
""",
  ),
  (
    'print with every option',
    """\
import sys
value = sum(map(int, input().split()))
print('', value, sep='', end='\\n', file=sys.stdout, flush=True)
""",
  ),
  (
    'print is partial',
    """\
import functools
value = sum(map(int, input().split()))
print = functools.partial(print, flush=True)
print(value)
""",
  ),
  (
    'noise on stderr',
    """\
import sys
value = sum(map(int, input().split()))

print('debug', value, file=sys.stderr)
sys.stderr.write('x' * 100_000)
print(value)
""",
  ),
  (
    'logging to stderr',
    """\
import logging
value = sum(map(int, input().split()))

logging.basicConfig(level=logging.DEBUG)
logging.debug('value %d', value)
print(value)
""",
  ),
  (
    'stderr to nowhere',
    """\
import os
import sys
value = sum(map(int, input().split()))
sys.stderr = open(os.devnull, 'w')
print('debug', file=sys.stderr)
print(value)
""",
  ),
  (
    'carriage returns',
    """\
value = sum(map(int, input().split()))
print(value, end='\\r\\n')
""",
  ),
  (
    'trailing spaces',
    """\
value = sum(map(int, input().split()))
print(value, end='   \\t\\n')
""",
  ),
  (
    'blank lines at the end',
    """\
value = sum(map(int, input().split()))
print(value, end='\\n\\n \\n\\n')
""",
  ),
  (
    'no final newline',
    """\
value = sum(map(int, input().split()))
print(value, end='')
""",
  ),
  (
    'formatted',
    """\
value = sum(map(int, input().split()))
print('%d' % value, '{}'.format(''), sep='')
""",
  ),
  (
    'open(1)',
    """\
value = sum(map(int, input().split()))
with open(1, 'w', closefd=False) as out:
  print(value, file=out)
""",
  ),
  (
    'open(1) closed',
    """\
value = sum(map(int, input().split()))
with open(1, 'w') as out:
  print(value, file=out)
""",
  ),
  (
    'stdout duplicated',
    """\
import os
value = sum(map(int, input().split()))
with os.fdopen(os.dup(1), 'wb') as out:
  out.write(str(value).encode())
""",
  ),
  (
    'stdout wrapped again',
    """\
import io
import sys
value = sum(map(int, input().split()))

sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')
print(value)
""",
  ),
  (
    'stdout reconfigured',
    """\
import sys
value = sum(map(int, input().split()))
sys.stdout.reconfigure(line_buffering=True, encoding='utf-8')
print(value)
""",
  ),
  (
    'stdout gathered and written at once',
    """\
import io
import sys
value = sum(map(int, input().split()))

sys.stdout = io.StringIO()
print(value)
sys.__stdout__.write(sys.stdout.getvalue())
""",
  ),
  (
    'stdout redirected',
    """\
import contextlib
import io
value = sum(map(int, input().split()))

with contextlib.redirect_stdout(io.StringIO()) as text:
  print(value)
print(text.getvalue(), end='')
""",
  ),
  (
    'stdout closed',
    """\
import sys
value = sum(map(int, input().split()))
print(value)
sys.stdout.close()
""",
  ),
  (
    'stdout redirected by dup2',
    """\
import os
import sys
value = sum(map(int, input().split()))

saved = os.dup(1)
os.dup2(2, 1)
print('noise', flush=True)
os.dup2(saved, 1)
print(value)
""",
  ),
  (
    'file left open to the end',
    """\
value = sum(map(int, input().split()))
out = open(1, 'w', closefd=False)
out.write(f'{value}\\n')
""",
  ),
  (
    'printed by a destructor',
    """\
value = sum(map(int, input().split()))

class Last:
  def __del__(self, print=print):
    print(value)
last = Last()
del last
""",
  ),
  (
    'printed by a destructor at the end',
    """\
class Last:
  def __init__(self, value):
    self.value = value
  def __del__(self):
    print(self.value)
last = Last(sum(map(int, input().split())))
""",
  ),
  (
    'printed at exit',
    """\
import atexit
value = sum(map(int, input().split()))
atexit.register(print, value)
""",
  ),
  (
    'written at exit',
    """\
import atexit
import io
import sys
value = sum(map(int, input().split()))

buffer = io.BytesIO()
sys.stdout = io.TextIOWrapper(buffer, line_buffering=True)
@atexit.register
def write():
  sys.__stdout__.write(buffer.getvalue().decode())
print(value)
""",
  ),
  (
    'quit',
    """\
value = sum(map(int, input().split()))
print(value)
quit()
print('more')
""",
  ),
  (
    'exit',
    """\
value = sum(map(int, input().split()))
print(value)
exit(0)
print('more')
""",
  ),
  (
    'sys.exit',
    """\
import sys
value = sum(map(int, input().split()))
print(value)
sys.exit()
print('more')
""",
  ),
  (
    'sys.exit in a function',
    """\
import sys
value = sum(map(int, input().split()))

def main():
  try:
    print(value)
    sys.exit(0)
  finally:
    pass
main()
print('more')
""",
  ),
  (
    'SystemExit raised',
    """\
value = sum(map(int, input().split()))
print(value)
raise SystemExit
""",
  ),
  (
    'os._exit after a flush',
    """\
import os
value = sum(map(int, input().split()))
print(value, flush=True)
os._exit(0)
""",
  ),
  (
    'exception in a thread',
    """\
import threading
value = sum(map(int, input().split()))

thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
print(value)
""",
  ),
  (
    'exception at exit',
    """\
import atexit
value = sum(map(int, input().split()))

atexit.register(lambda: 1 / 0)
print(value)
""",
  ),
)

# Wrong, however close.
_WRONG = (
  (
    'off by one',
    """\
value = sum(map(int, input().split()))
print(value + 1)
""",
  ),
  ('nothing printed', 'value = sum(map(int, input().split()))\n'),
  ('nothing at all', 'pass\n'),
  (
    'an extra line',
    """\
value = sum(map(int, input().split()))
print(value)
print('done')
""",
  ),
  (
    'an extra line before',
    """\
print('Enter two numbers:')
value = sum(map(int, input().split()))
print(value)
""",
  ),
  ('a prompt', "print(sum(map(int, input('? ').split())))\n"),
  (
    'an extra word',
    """\
value = sum(map(int, input().split()))
print('Sum:', value)
""",
  ),
  (
    'right on the first test only',
    """\
value = sum(map(int, input().split()))
print(3)
""",
  ),
  (
    'right on the last test only',
    """\
value = sum(map(int, input().split()))
print(6)
""",
  ),
  (
    'prefix of the number',
    """\
value = sum(map(int, input().split()))
print(value // 10)
""",
  ),
  (
    'number and more digits',
    """\
value = sum(map(int, input().split()))
print(f'{value}0')
""",
  ),
  (
    'printed twice',
    """\
value = sum(map(int, input().split()))
print(value)
print(value)
""",
  ),
  (
    'printed twice on a line',
    """\
value = sum(map(int, input().split()))
print(value, value)
""",
  ),
  (
    'as a list',
    """\
value = sum(map(int, input().split()))
print([value])
""",
  ),
  (
    'in quotes',
    """\
value = sum(map(int, input().split()))
print(repr(str(value)))
""",
  ),
  (
    'with a stop after it',
    """\
value = sum(map(int, input().split()))
print(value, '.')
""",
  ),
  (
    'digits of another script',
    """\
value = sum(map(int, input().split()))
print(str(value).translate({ord('0') + d: 0x0660 + d for d in range(10)}))
""",
  ),
  (
    'with an invisible character',
    """\
value = sum(map(int, input().split()))
print(f'{value}\\u200b')
""",
  ),
  (
    'with a NUL',
    """\
value = sum(map(int, input().split()))
print(f'{value}\\0')
""",
  ),
  (
    'bytes that are no text',
    """\
value = sum(map(int, input().split()))
import sys
sys.stdout.buffer.write(b'\\xff\\xfe%d\\n' % value)
""",
  ),
  (
    'with an escape sequence',
    """\
value = sum(map(int, input().split()))
print(f'\\033[1m{value}\\033[0m')
""",
  ),
  (
    'taken back by backspaces',
    """\
value = sum(map(int, input().split()))
print(f'9\\b{value}')
""",
  ),
  (
    'an underscore in it',
    """\
value = sum(map(int, input().split()))
print('_'.join(f'{value:02}'))
""",
  ),
  (
    'in hexadecimal',
    """\
value = sum(map(int, input().split()))
print(hex(value))
""",
  ),
  ('as an expression', "print(input().replace(' ', '+'))\n"),
  (
    'off by a thousandth',
    """\
value = sum(map(int, input().split()))
print(value + 0.001)
""",
  ),
  (
    'on stderr',
    """\
import sys
value = sum(map(int, input().split()))
print(value, file=sys.stderr)
""",
  ),
  (
    'noise on stdout',
    """\
import this
value = sum(map(int, input().split()))
print(value)
""",
  ),
  (
    'not a number',
    """\
value = sum(map(int, input().split()))
print('nan')
""",
  ),
  (
    'a function and no call',
    """\
def main():
  print(sum(map(int, input().split())))
""",
  ),
  (
    'main under another name',
    """\
if __name__ == 'main':
  print(sum(map(int, input().split())))
""",
  ),
  ('the input again', 'print(input())\n'),
)

# Ends with an exception, a signal or a status other than 0.
_ERRORS = (
  (
    'exit status 1 after the right output',
    """\
import sys
value = sum(map(int, input().split()))
print(value)
sys.exit(1)
""",
  ),
  (
    'exit status 1 without a flush',
    """\
import os
value = sum(map(int, input().split()))
print(value, flush=True)
os._exit(1)
""",
  ),
  (
    'exit with a message',
    """\
import sys
value = sum(map(int, input().split()))
print(value)
sys.exit('done')
""",
  ),
  (
    'exception after the right output',
    """\
value = sum(map(int, input().split()))
print(value)
print(undefined)
""",
  ),
  ('exception at once', "raise ValueError('no')\n"),
  ('index error', 'print(input().split()[2])\n'),
  ('assertion', 'assert input() is None\n'),
  ('end of input', 'print(int(input()) + int(input()))\n'),
  (
    'syntax error',
    """\
a, b = map(int, input().split()
print(a + b)
""",
  ),
  (
    'Python 2',
    """\
a, b = map(int, raw_input().split())
print a + b
""",
  ),
  (
    'indentation error',
    """\
if True:
print(1)
""",
  ),
  ('prose', 'The answer is the sum of both numbers.\n'),
  ('NUL in the source', 'print(1)\x00\n'),
  (
    'missing module',
    """\
import module_of_nowhere
print(3)
""",
  ),
  (
    'unbounded recursion',
    """\
def f(n):
  return f(n + 1)
f(0)
""",
  ),
  ('division by zero', 'print(1 // 0)\n'),
  ('KeyboardInterrupt', 'raise KeyboardInterrupt\n'),
  (
    'a BaseException',
    """\
class Stop(BaseException):
  pass
raise Stop
""",
  ),
  (
    'an exception that cannot be shown',
    """\
class Odd(Exception):
  def __str__(self):
    raise Odd
raise Odd
""",
  ),
  (
    'aborted',
    """\
import os
print(3, flush=True)
os.abort()
""",
  ),
  (
    'segmentation fault',
    """\
import ctypes
print(3, flush=True)
ctypes.string_at(0)
""",
  ),
)

# Does not end in time.
_SLOW = (
  (
    'infinite loop',
    """\
value = sum(map(int, input().split()))
print(value, flush=True)
while True:
  pass
""",
  ),
  (
    'sleeps for long',
    """\
import time
value = sum(map(int, input().split()))
print(value)
time.sleep(3600)
""",
  ),
  (
    'one call in C',
    """\
value = sum(map(int, input().split()))
print(value, flush=True)
pow(3, 10 ** 9)
""",
  ),
  (
    'a loop that catches everything',
    """\
import signal
for number in range(1, 65):
  try:
    signal.signal(number, signal.SIG_IGN)
  except (OSError, ValueError):
    pass
while True:
  try:
    while True:
      pass
  except BaseException:
    pass
""",
  ),
  (
    'a thread that never ends',
    """\
import threading
value = sum(map(int, input().split()))

print(value, flush=True)
def work():
  while True:
    pass
threading.Thread(target=work).start()
""",
  ),
  (
    'a deadlock',
    """\
import threading
value = sum(map(int, input().split()))

print(value, flush=True)
lock = threading.Lock()
lock.acquire()
lock.acquire()
""",
  ),
  (
    'a loop at exit',
    """\
import atexit
value = sum(map(int, input().split()))

print(value, flush=True)
@atexit.register
def work():
  while True:
    pass
""",
  ),
  (
    'a regular expression that backtracks',
    """\
value = sum(map(int, input().split()))

import re
print(value, flush=True)
re.match('(a*)*b', 'a' * 40)
""",
  ),
)

# Needs more memory than there may be.
_GREEDY = (
  (
    'one large block',
    """\
value = sum(map(int, input().split()))
data = b'x' * (2 << 30)
print(value)
""",
  ),
  (
    'a list that grows',
    """\
value = sum(map(int, input().split()))
data = []
while True:
  data.append(bytes(1 << 20))
""",
  ),
  (
    'a large integer range as a list',
    """\
value = sum(map(int, input().split()))
data = list(range(10 ** 9))
print(value)
""",
  ),
  (
    'text that doubles',
    """\
value = sum(map(int, input().split()))
text = 'x'
while True:
  text += text
""",
  ),
)

# Prints without end.
_FLOODS = (
  (
    'one line for ever',
    """\
while True:
  print('y' * 1000)
""",
  ),
  (
    'large writes',
    """\
import sys
while True:
  sys.stdout.write('y' * (1 << 20))
""",
  ),
  (
    'right, then too much',
    """\
value = sum(map(int, input().split()))
import os
print(value, flush=True)
for _ in range(100):
  os.write(1, b' ' * (1 << 20))
""",
  ),
)

# Answers to tasks of their own.
_OWN = (
  Program(
    'input then the text below',
    _stdin(('1 2\n3 4\n', '10\n')),
    """\
import sys
a, b = map(int, input().split())
c, d = map(int, sys.stdin.read().split())
print(a + b + c + d)
""",
    'AC',
  ),
  Program(
    'lines and input mixed',
    _stdin(('1\n2\n3\n', '6\n')),
    """\
import sys
a = int(input())
b = int(next(sys.stdin))
c = int(sys.stdin.readline())
print(a + b + c)
""",
    'AC',
  ),
  Program(
    'input leaves nothing in the buffer below',
    _stdin(('1 2\n3 4\n', '3 0\n')),
    """\
import sys
a, b = map(int, input().split())
print(a + b, len(sys.stdin.buffer.read()))
""",
    'AC',
  ),
  Program(
    'buffer, then input',
    _stdin(('1\n2\n', '3\n')),
    """\
import sys
a = int(sys.stdin.buffer.readline())
print(a + int(input()))
""",
    'AC',
  ),
  Program(
    'empty input',
    _stdin(('', '0\n')),
    """\
import sys
print(len(sys.stdin.read()))
""",
    'AC',
  ),
  Program(
    'input without a final newline',
    _stdin(('1\n2', '3\n')),
    'print(int(input()) + int(input()))\n',
    'AC',
  ),
  Program(
    'input with carriage returns',
    _stdin(('1\r\n2\r\n', '3\n')),
    'print(int(input()) + int(input()))\n',
    'AC',
  ),
  Program(
    'carriage returns stay in lines of text',
    _stdin(('ab\r\ncd\r\n', '3 3\n')),
    'print(len(input()), len(input()))\n',
    'AC',
  ),
  Program(
    'carriage returns stay in bytes',
    _stdin(('ab\r\n', '4\n')),
    """\
import sys
print(len(sys.stdin.buffer.readline()))
""",
    'AC',
  ),
  Program(
    'unicode in and out',
    _stdin(('é 日本 🎉\n', '🎉 日本 é\n')),
    'print(*reversed(input().split()))\n',
    'AC',
  ),
  Program(
    'unicode length',
    _stdin(('日本🎉\n', '3 10\n')),
    """\
s = input()
print(len(s), len(s.encode()))
""",
    'AC',
  ),
  Program(
    'unicode literals',
    _HELLO,
    """\
ĥ = 'héllo'.replace('é', 'e')
print(ĥ)
""",
    'AC',
  ),
  Program(
    'unicode that looks the same', _HELLO, "print('h\\u0435llo')\n", 'WA'
  ),
  Program(
    'tabs and several spaces between words',
    _stdin(('', '1 2 3\n4\n')),
    """\
print('1\\t2   3 ')
print('  4')
""",
    'AC',
  ),
  Program(
    'a space after each number',
    _stdin(('', '1 2 3\n')),
    """\
for i in range(1, 4):
  print(i, end=' ')
print()
""",
    'AC',
  ),
  Program(
    'printing a million lines',
    _stdin(('1000000\n', _LINES)),
    """\
for i in range(int(input())):
  print(i)
""",
    'AC',
  ),
  Program(
    'last of a million lines is wrong',
    _stdin(('1000000\n', _LINES)),
    """\
for i in range(int(input()) - 1):
  print(i)
print(0)
""",
    'WA',
  ),
  Program(
    'ten megabytes on one line',
    _stdin(('10000000\n', 'x' * 10_000_000 + '\n')),
    "print('x' * int(input()))\n",
    'AC',
  ),
  Program(
    'a line that is a character short',
    _stdin(('10000000\n', 'x' * 10_000_000 + '\n')),
    "print('x' * (int(input()) - 1))\n",
    'WA',
  ),
  Program(
    'a million words on one line',
    _stdin(('1000000\n', _LINES.replace('\n', ' '))),
    'print(*range(int(input())))\n',
    'AC',
  ),
  Program(
    'reading a million lines by input',
    _stdin((_LINES, '499999500000\n')),
    'print(sum(int(input()) for _ in range(1_000_000)))\n',
    'AC',
  ),
  Program(
    'reading a million lines at once',
    _stdin((_LINES, '499999500000\n')),
    """\
import sys
print(sum(map(int, sys.stdin.buffer.read().split())))
""",
    'AC',
  ),
  Program(
    'half of the time limit',
    _SUM | {'time_limit_seconds': 2.0},
    """\
import time
while time.process_time() < 1.0:
  pass
print(sum(map(int, input().split())))
""",
    'AC',
  ),
  Program(
    'a long sleep within the limit',
    _SUM | {'time_limit_seconds': 2.0},
    """\
import time
time.sleep(1)
print(sum(map(int, input().split())))
""",
    'AC',
  ),
  Program(
    'fewer digits',
    _stdin(('', '0.333333333333\n'), float_tol=1e-6),
    "print(f'{1 / 3:.7f}')\n",
    'AC',
  ),
  Program(
    'more digits',
    _stdin(('', '0.333333333333\n'), float_tol=1e-6),
    """\
from decimal import Decimal
print(Decimal(1) / 3)
""",
    'AC',
  ),
  Program(
    'scientific notation',
    _stdin(('', '0.000012345\n')),
    'print(1.2345e-05)\n',
    'AC',
  ),
  Program(
    'large scientific notation',
    _stdin(('', '1.5e20\n')),
    "print('150000000000000000000.0')\n",
    'AC',
  ),
  Program(
    'a relative millionth',
    _stdin(('', '123456789.123456\n'), float_tol=1e-6),
    'print(123456789.2)\n',
    'AC',
  ),
  Program('minus zero', _stdin(('', '0.0\n')), 'print(-0.0)\n', 'AC'),
  Program('an integer for a float', _stdin(('', '2.0\n')), 'print(2)\n', 'AC'),
  Program(
    'no digit before the point', _stdin(('', '0.5\n')), "print('.5')\n", 'AC'
  ),
  Program(
    'floats among words',
    _stdin(('', 'Case #1: 0.5000000 YES\n')),
    "print('Case #1:', 1 / 2, 'YES')\n",
    'AC',
  ),
  Program(
    'off by 1e-4',
    _stdin(('', '0.333333333333\n'), float_tol=1e-6),
    'print(0.3334)\n',
    'WA',
  ),
  Program(
    'off by 1e-5',
    _stdin(('', '0.333333333333\n'), float_tol=1e-6),
    'print(0.33332)\n',
    'WA',
  ),
  Program(
    'relatively off by 1e-4',
    _stdin(('', '1234567.5\n'), float_tol=1e-6),
    'print(1234700.0)\n',
    'WA',
  ),
  Program(
    'another sign', _stdin(('', '0.333333333333\n')), 'print(-1 / 3)\n', 'WA'
  ),
  Program(
    'infinity', _stdin(('', '0.333333333333\n')), "print(float('inf'))\n", 'WA'
  ),
  Program(
    'a fraction', _stdin(('', '0.333333333333\n')), "print('1/3')\n", 'WA'
  ),
  Program(
    'a decimal comma',
    _stdin(('', '0.333333333333\n')),
    "print('0,333333333333')\n",
    'WA',
  ),
  Program(
    'the last of many floats is off',
    _stdin(('', '0.5 0.25 0.125\n'), float_tol=1e-6),
    'print(0.5, 0.25, 0.1251)\n',
    'WA',
  ),
  Program(
    'big integers',
    _stdin(('9007199254740993\n', '9007199254740993\n')),
    'print(int(input()))\n',
    'AC',
  ),
  Program(
    'a big integer through a float',
    _stdin(('9007199254740993\n', '9007199254740993\n')),
    'print(int(float(input())))\n',
    'WA',
  ),
  Program(
    'off by one in 10^18',
    _stdin(('1000000000000000000\n', '1000000000000000001\n')),
    'print(int(input()))\n',
    'WA',
  ),
  Program(
    'off by one in 10^18, second word',
    _stdin(('', '1 1000000000000000001\n')),
    'print(1, 10 ** 18)\n',
    'WA',
  ),
  Program(
    'six thousand digits',
    _stdin(('20000\n', f'{10**4000}{0:02000}\n')),
    """\
int(input())
print(10 ** 6000)
""",
    'AC',
  ),
  Program(
    'six thousand digits but one',
    _stdin(('20000\n', f'{10**4000}{0:02000}\n')),
    """\
int(input())
print(10 ** 6000 + 1)
""",
    'WA',
  ),
  Program(
    'a number of 10^5 digits is read',
    _stdin(('9' * 100_000 + '\n', '900000\n')),
    """\
n = int(input())
print(sum(map(int, str(n))))
""",
    'AC',
  ),
  Program(
    'words',
    _stdin(('1\n', 'YES\n'), ('2\n', 'NO\n')),
    "print('YES' if int(input()) == 1 else 'NO')\n",
    'AC',
  ),
  Program(
    'other case',
    _stdin(('1\n', 'YES\n'), ('2\n', 'NO\n')),
    "print('Yes' if int(input()) == 1 else 'No')\n",
    'WA',
  ),
  Program(
    'other words',
    _stdin(('1\n', 'YES\n'), ('2\n', 'NO\n')),
    'print(int(input()) == 1)\n',
    'WA',
  ),
  Program(
    'always yes',
    _stdin(('1\n', 'YES\n'), ('2\n', 'NO\n')),
    "print('YES')\n",
    'WA',
  ),
  Program(
    'both words',
    _stdin(('1\n', 'YES\n'), ('2\n', 'NO\n')),
    "print('YES NO')\n",
    'WA',
  ),
  Program(
    'wrong order',
    _stdin(('', '1\n2\n3\n')),
    """\
print(1)
print(3)
print(2)
""",
    'WA',
  ),
  Program(
    'missing line',
    _stdin(('', '1\n2\n3\n')),
    """\
print(1)
print(2)
""",
    'WA',
  ),
  Program('first line only', _stdin(('', '1\n2\n3\n')), 'print(1)\n', 'WA'),
  Program(
    'one line too many',
    _stdin(('', '1\n2\n3\n')),
    """\
for i in range(1, 5):
  print(i)
""",
    'WA',
  ),
  Program('digits joined', _stdin(('', '1\n2\n3\n')), "print('123')\n", 'WA'),
  Program('words joined', _stdin(('', 'a b\n')), "print('ab')\n", 'WA'),
  Program('words split', _stdin(('', 'ab\n')), "print('a b')\n", 'WA'),
  Program(
    'leading zeros of a code', _stdin(('', 'a007\n')), "print('a7')\n", 'WA'
  ),
  Program(
    'a hundred tests',
    _stdin(*((f'{i}\n', f'{i * i}\n') for i in range(100))),
    'print(int(input()) ** 2)\n',
    'AC',
  ),
  Program(
    'the last of a hundred tests',
    _stdin(*((f'{i}\n', f'{i * i}\n') for i in range(100))),
    """\
n = int(input())
print(n ** 2 if n < 99 else 0)
""",
    'WA',
  ),
  Program(
    'state does not outlive a test',
    _stdin(('', 'new\n'), ('', 'new\n')),
    """\
import builtins
import os
import sys
old = hasattr(builtins, 'seen') or 'SEEN' in os.environ or 'seen' in sys.modules
builtins.seen = sys.modules['seen'] = sys
os.environ['SEEN'] = '1'
print('old' if old else 'new')
""",
    'AC',
  ),
  Program(
    'numpy',
    _SUM,
    """\
import sys
import numpy as np
values = np.array(sys.stdin.read().split(), dtype=np.int64)
print(values.sum())
""",
    'AC',
    'numpy',
  ),
  Program(
    'numpy linear algebra',
    _stdin(('', '2.0 3.0\n')),
    """\
import numpy as np
x = np.linalg.solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([4.0, 12.0]))
assert np.allclose(np.ones((200, 200)) @ np.ones((200, 200)), 200)
print(*x)
""",
    'AC',
    'numpy',
  ),
  Program(
    'numpy reads stdin',
    _SUM,
    """\
import sys
import numpy as np
print(int(np.loadtxt(sys.stdin, dtype=np.int64).sum()))
""",
    'AC',
    'numpy',
  ),
  Program(
    'numpy scalars are printed',
    _stdin(('', '0.5 3 True\n')),
    """\
import numpy as np
print(np.float64(0.5), np.int64(3), np.bool_(True))
""",
    'AC',
    'numpy',
  ),
  Program(
    'call: function',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return a + b
""",
    'AC',
  ),
  Program(
    'call: default and annotations',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a: List[int], b: int = 0, *more, **named) -> int:
  return a + b
""",
    'AC',
  ),
  Program(
    'call: lambda',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    'add = lambda a, b: a + b\n',
    'AC',
  ),
  Program(
    'call: partial',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
import functools
add = functools.partial(lambda z, a, b: z + a + b, 0)
""",
    'AC',
  ),
  Program(
    'call: callable object',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Add:
  def __call__(self, a, b):
    return a + b
add = Add()
""",
    'AC',
  ),
  Program(
    'call: imported',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    'from operator import add\n',
    'AC',
  ),
  Program(
    'call: decorated',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
import functools
@functools.lru_cache(None)
def add(a, b):
  return a + b
""",
    'AC',
  ),
  Program(
    'call: prints while called',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  print('adding', a, b)
  return a + b
print('loaded')
""",
    'AC',
  ),
  Program(
    'call: examples under main',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return a + b

if __name__ == '__main__':
  assert add(1, 1) == 2
  print(add(2, 2))
""",
    'AC',
  ),
  *_all(
    'AC',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    (
      (f'call: {what} under {guard}', f'{guard}\n  {text}\n{_ADD}')
      for guard in ("if __name__ == '__main__':", 'if "__main__" == __name__:')
      for what, text in (
        ('unittest', 'import unittest; unittest.main()'),
        ('input', 'print(int(input()))'),
        ('arguments', 'import argparse; argparse.ArgumentParser().error("no")'),
        ('an end', 'import os; os._exit(0)'),
        ('a loop', 'while True: pass'),
        ('an exception', '1 / 0'),
        ('a thread', 'import threading as t; t.Event().wait()'),
      )
    ),
  ),
  *_all(
    'AC',
    _call('f', ([5000], 5000)),
    (
      (
        'call: recursion 5,000 deep',
        'def f(n):\n  return 0 if n == 0 else 1 + f(n - 1)\n',
      ),
      (
        'call: recursion of a method 5,000 deep',
        'class Solution:\n  def f(self, n):\n'
        '    return 0 if n == 0 else 1 + self.f(n - 1)\n',
      ),
    ),
  ),
  Program(
    'recursion 5,000 deep',
    _stdin(('5000\n', '5000\n')),
    """\
def f(n):
  return 0 if n == 0 else 1 + f(n - 1)
print(f(int(input())))
""",
    'AC',
  ),
  *(
    Program(
      f'{given} for {wanted}',
      _stdin(('', f'{wanted}\n')),
      f'print("{given}")\n',
      'WA',
    )
    for given, wanted in (
      ('11', '0011'),
      ('1e2', '100'),
      ('1500000', '1500000.5'),
    )
  ),
  *_all(
    'AC',
    _call('f', ([[1, 2, 3]], [1, 2, 3])),
    (
      ('call: a tuple for a list', 'def f(a):\n  return tuple(a)\n'),
      (
        'call: fractions for integers',
        'import fractions\ndef f(a):\n  return [*map(fractions.Fraction, a)]\n',
      ),
    ),
  ),
  Program(
    'call: a deque for a list',
    _call('f', ([[1, 2, 3]], [1, 2, 3])),
    'def f(a):\n  return deque(a)\n',
    'WA',
  ),
  Program(
    'call: a numpy array',
    _call('f', ([[1, 2, 3]], [1, 2, 3])),
    'import numpy\ndef f(a):\n  return numpy.array(a)\n',
    'AC',
    'numpy',
  ),
  Program(
    'call: a numpy number in a dict',
    _call('f', ([3], {'k': 3})),
    'import numpy\ndef f(n):\n  return {"k": numpy.int64(n)}\n',
    'AC',
    'numpy',
  ),
  Program(
    'call: helpers and globals',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
from __future__ import annotations
calls = 0
def helper(a, b):
  global calls
  calls += 1
  return a if b == 0 else helper(a + (b > 0) - (b < 0), b - (b > 0) + (b < 0))
def add(a, b):
  return helper(a, b) + calls * 0
""",
    'AC',
  ),
  Program(
    'call: defined twice, the last counts',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return 0
def add(a, b):
  return a + b
""",
    'AC',
  ),
  Program(
    'call: recursion inside',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
import sys
sys.setrecursionlimit(100_000)
def add(a, b):
  def down(n):
    return 0 if n == 0 else 1 + down(n - 1)
  return a + b + down(20_000) - 20_000
""",
    'AC',
  ),
  Program(
    'call: subclass of int',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Number(int):
  pass
def add(a, b):
  return Number(a + b)
""",
    'AC',
  ),
  Program(
    'call: wrong',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return a - b
""",
    'WA',
  ),
  Program(
    'call: right on the first test only',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return 3
""",
    'WA',
  ),
  Program(
    'call: text for a number',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return str(a + b)
""",
    'WA',
  ),
  Program(
    'call: list for a number',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return [a + b]
""",
    'WA',
  ),
  Program(
    'call: printed, not returned',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  print(a + b)
""",
    'WA',
  ),
  Program(
    'call: generator',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  yield a + b
""",
    'WA',
  ),
  Program(
    'call: always equal',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Equal:
  def __eq__(self, other):
    return True
  def __hash__(self):
    return 0
def add(a, b):
  return Equal()
""",
    'WA',
  ),
  Program(
    'call: the function itself',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return add
""",
    'WA',
  ),
  Program(
    'call: missing',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def sum_of(a, b):
  return a + b
""",
    'RE',
  ),
  Program(
    'call: no function',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    'add = 3\n',
    'RE',
  ),
  Program(
    'call: too few parameters',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a):
  return a
""",
    'RE',
  ),
  Program(
    'call: raises',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  raise ValueError(a)
""",
    'RE',
  ),
  Program(
    'call: raises while loaded',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b):
  return a + b
raise ValueError
""",
    'RE',
  ),
  Program(
    'call: exits before it returns',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
import os
def add(a, b):
  os._exit(1)
""",
    'RE',
  ),
  Program(
    'call: syntax error',
    _call('add', ([1, 2], 3), ([10, -4], 6)),
    """\
def add(a, b)
  return a + b
""",
    'RE',
  ),
  Program(
    'call: never returns',
    _call('add', ([1, 2], 3)) | {'time_limit_seconds': 1.0},
    """\
def add(a, b):
  while True:
    pass
""",
    'TLE',
  ),
  Program(
    'call: one element after another',
    _call('add', ([1, 2], 3)) | {'memory_bytes': 256 << 20},
    """\
def add(a, b):
  return len([bytes(1 << 20) for _ in range(4096)])
""",
    'MLE',
  ),
  Program(
    'method: class Solution',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Solution:
  def add(self, a: int, b: int) -> int:
    return a + b
""",
    'AC',
  ),
  Program(
    'method: self and state',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Solution(object):
  offset = 0
  def __init__(self):
    self.seen = {}
  def add(self, a, b=0):
    self.seen[a] = b
    return self._sum(*self.seen.popitem()) + self.offset
  def _sum(self, a, b):
    return a + b
""",
    'AC',
  ),
  Program(
    'method: static',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Solution:
  @staticmethod
  def add(a, b):
    return a + b
""",
    'AC',
  ),
  Program(
    'method: inherited',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Base:
  def add(self, a, b):
    return a + b
class Solution(Base):
  pass
""",
    'AC',
  ),
  Program(
    'method: misnamed',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Solution:
  def plus(self, a, b):
    return a + b
""",
    'RE',
  ),
  Program(
    'method: without self',
    _call('Solution().add', ([1, 2], 3), ([10, -4], 6)),
    """\
class Solution:
  def add(a, b):
    return a + b
""",
    'RE',
  ),
  Program(
    'call: nested lists',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [[0, 1], [2]]
""",
    'AC',
  ),
  Program(
    'call: tuples for lists',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return ((0, 1), [2])
""",
    'AC',
  ),
  Program(
    'call: a set for a list',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [{0, 1}, [2]]
""",
    'WA',
  ),
  Program(
    'call: a range for a list',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [range(2), [2]]
""",
    'WA',
  ),
  Program(
    'call: another order',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [[1, 0], [2]]
""",
    'WA',
  ),
  Program(
    'call: flat',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [0, 1, 2]
""",
    'WA',
  ),
  Program(
    'call: one element short',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [[0, 1]]
""",
    'WA',
  ),
  Program(
    'call: one element more',
    _call('f', ([3], [[0, 1], [2]])),
    """\
def f(n):
  return [[0, 1], [2], []]
""",
    'WA',
  ),
  Program(
    'call: None',
    _call('f', ([1], None)),
    """\
def f(n):
  pass
""",
    'AC',
  ),
  Program(
    'call: None expected, 0 returned',
    _call('f', ([1], None)),
    """\
def f(n):
  return 0
""",
    'WA',
  ),
  Program(
    'call: empty list',
    _call('f', ([1], [])),
    """\
def f(n):
  return []
""",
    'AC',
  ),
  Program(
    'call: None for an empty list',
    _call('f', ([1], [])),
    """\
def f(n):
  return None
""",
    'WA',
  ),
  Program(
    'call: False for an empty list',
    _call('f', ([1], [])),
    """\
def f(n):
  return False
""",
    'WA',
  ),
  Program(
    'call: no arguments',
    _call('f', ([], 7)),
    """\
def f():
  return 7
""",
    'AC',
  ),
  Program(
    'call: None and nested arguments',
    _call('f', ([None, [[1], {'a': 2}], 'x', True, 1.5], 3)),
    """\
def f(n, nested, text, flag, x):
  assert n is None and flag is True and x == 1.5 and text == 'x'
  return nested[0][0] + nested[1]['a']
""",
    'AC',
  ),
  Program(
    'call: booleans',
    _call('f', ([1], True), ([2], False)),
    """\
def f(n):
  return n == 1
""",
    'AC',
  ),
  Program(
    'call: 1 for True',
    _call('f', ([1], True)),
    """\
def f(n):
  return 1
""",
    'AC',
  ),
  Program(
    'call: True for 1',
    _call('f', ([1], 1)),
    """\
def f(n):
  return n == 1
""",
    'AC',
  ),
  Program(
    'call: text for a boolean',
    _call('f', ([1], True)),
    """\
def f(n):
  return 'True'
""",
    'WA',
  ),
  Program(
    'call: floats',
    _call('f', ([3], 0.3333333333), float_tol=1e-6),
    """\
def f(n):
  return 1 / n
""",
    'AC',
  ),
  Program(
    'call: floats in lists',
    _call('f', ([3], [[0.3333333], 0.5]), float_tol=1e-6),
    """\
def f(n):
  return [[1 / n], 0.5]
""",
    'AC',
  ),
  Program(
    'call: an integer for a float',
    _call('f', ([3], 2.0)),
    """\
def f(n):
  return 2
""",
    'AC',
  ),
  Program(
    'call: a float off by 1e-4',
    _call('f', ([3], 0.3333333333), float_tol=1e-6),
    """\
def f(n):
  return 0.3334
""",
    'WA',
  ),
  Program(
    'call: not a number',
    _call('f', ([3], 0.5)),
    """\
def f(n):
  return float('nan')
""",
    'WA',
  ),
  Program(
    'call: infinity',
    _call('f', ([3], 0.5)),
    """\
def f(n):
  return float('inf')
""",
    'WA',
  ),
  Program(
    'call: a complex number',
    _call('f', ([3], 0.5)),
    """\
def f(n):
  return 0.5 + 0j
""",
    'WA',
  ),
  Program(
    'call: big integers',
    _call('f', ([10**18], 10**36 + 1)),
    """\
def f(n):
  return n * n + 1
""",
    'AC',
  ),
  Program(
    'call: big integers off by one',
    _call('f', ([10**18], 10**36 + 1)),
    """\
def f(n):
  return n * n
""",
    'WA',
  ),
  Program(
    'call: a big integer through a float',
    _call('f', ([2**53 + 1], 2**53 + 1)),
    """\
def f(n):
  return int(float(n))
""",
    'WA',
  ),
  Program(
    'call: text',
    _call('f', (['ab'], 'ba')),
    """\
def f(s):
  return s[::-1]
""",
    'AC',
  ),
  Program(
    'call: text in unicode',
    _call('f', (['é🎉\n"'], '"\n🎉é')),
    """\
def f(s):
  return s[::-1]
""",
    'AC',
  ),
  Program(
    'call: text with a space more',
    _call('f', (['ab'], 'ba')),
    """\
def f(s):
  return s[::-1] + ' '
""",
    'WA',
  ),
  Program(
    'call: text in other case',
    _call('f', (['ab'], 'ba')),
    """\
def f(s):
  return 'BA'
""",
    'WA',
  ),
  Program(
    'call: bytes for text',
    _call('f', (['ab'], 'ba')),
    """\
def f(s):
  return b'ba'
""",
    'WA',
  ),
  Program(
    'call: a list of characters',
    _call('f', (['ab'], 'ba')),
    """\
def f(s):
  return list(reversed(s))
""",
    'WA',
  ),
  Program(
    'call: dict',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return {c: s.count(c) for c in s}
""",
    'AC',
  ),
  Program(
    'call: subclasses of dict',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return Counter(s)
""",
    'AC',
  ),
  Program(
    'call: keys in another order',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return {'b': 1, 'a': 2}
""",
    'AC',
  ),
  Program(
    'call: integer keys',
    _call('f', ([2], {'0': 'a', '1': 'b'})),
    """\
def f(n):
  return {i: 'ab'[i] for i in range(n)}
""",
    'AC',
  ),
  Program(
    'call: a key is missing',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return {'a': 2}
""",
    'WA',
  ),
  Program(
    'call: a key more',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return {'a': 2, 'b': 1, 'c': 0}
""",
    'WA',
  ),
  Program(
    'call: pairs for a dict',
    _call('f', (['aab'], {'a': 2, 'b': 1})),
    """\
def f(s):
  return [('a', 2), ('b', 1)]
""",
    'WA',
  ),
  Program(
    'call: arguments changed in place',
    _call('f', ([[3, 1, 2]], [1, 2, 3]), ([[1]], [1])),
    """\
def f(values):
  values.sort()
  return values
""",
    'AC',
  ),
  Program(
    'call: arguments changed and nothing returned',
    _call('f', ([[3, 1, 2]], [1, 2, 3])),
    """\
def f(values):
  values.sort()
""",
    'WA',
  ),
  Program(
    'call: the argument is returned',
    _call('f', ([[3, 1, 2]], [1, 2, 3])),
    """\
def f(values):
  sorted(values)
  return values
""",
    'WA',
  ),
  Program(
    'call: shared parts',
    _call('f', ([2], [[0, 0], [0, 0]])),
    """\
def f(n):
  return [[0] * n] * n
""",
    'AC',
  ),
  Program(
    'call: a list that holds itself',
    _call('f', ([2], [[0, 0], [0, 0]])),
    """\
def f(n):
  a = []
  a.append(a)
  return a
""",
    'WA',
  ),
  Program(
    'call: a hundred thousand elements',
    _call('f', ([100_000], list(range(100_000)))),
    """\
def f(n):
  return list(range(n))
""",
    'AC',
  ),
  Program(
    'call: the last of a hundred thousand',
    _call('f', ([100_000], list(range(100_000)))),
    """\
def f(n):
  return [*range(n - 1), 0]
""",
    'WA',
  ),
  Program(
    'call: numpy inside',
    _call('f', ([[1, 2]], 3)),
    """\
import numpy as np
def f(values):
  return int(np.sum(values))
""",
    'AC',
    'numpy',
  ),
)

PROGRAMS: tuple[Program, ...] = (
  *_all('AC', _SUM, _SOURCES),
  *_all('AC', _SUM, _LANGUAGE),
  *_all('AC', _SUM, _READERS),
  *_all('AC', _SUM, _WRITERS),
  *_all('WA', _SUM, _WRONG),
  *_all('RE', _SUM, _ERRORS),
  *_all('TLE', _QUICK, _SLOW),
  *_all('MLE', _SUM | {'memory_bytes': 256 << 20}, _GREEDY),
  *_all('OLE', _SUM, _FLOODS),
  *_OWN,
)
