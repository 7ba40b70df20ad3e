r"""Speed and memory of reading LiveCodeBench's files, on generated ones.

    python -m benchmarks.livecodebench            1 GB, rows of about 5 MB
    python -m benchmarks.livecodebench --mb=300 --row_mb=300

Rows are random numbers in the form of code_generation_lite, which compress
badly. The floor is the time of four calls in C on the same rows: JSON of the
row, base64, zlib, JSON of the tests. Times are CPU seconds of one process.
"""

import argparse
import base64
import json
import os
import pathlib
import pickle
import resource
import tempfile
import time
import zlib

import numpy as np

from acereason_jax.evaluation import livecodebench
from acereason_jax.verifiers.programs import stored

# Bytes of tests that become a byte of such a row.
_UNPACKED = 1.57


def _row(name: str, size: float, random: np.random.Generator) -> str:
  """A row of about `size` bytes."""
  cases, left = [], _UNPACKED * size
  while left > 0:
    count = int(random.integers(2, 200_000))
    numbers = random.integers(0, 10**9, count).tolist()
    stdin = f'{count}\n{" ".join(map(str, numbers))}\n'
    output = '\n'.join(map(str, sorted(numbers)[: count // 4 + 1]))
    cases.append({'input': stdin, 'output': output, 'testtype': 'stdin'})
    left -= len(stdin) + len(output)
  packed = zlib.compress(pickle.dumps(json.dumps(cases)), 1)
  return json.dumps(
    {
      'question_content': 'Sort.',
      'platform': 'atcoder',
      'question_id': name,
      'contest_date': '2024-08-17T00:00:00',
      'starter_code': '',
      'difficulty': 'easy',
      'public_test_cases': json.dumps(cases[:1]),
      'private_test_cases': base64.b64encode(packed).decode(),
      'metadata': '{}',
    }
  )


def _generate(path: pathlib.Path, size: float, row_size: float) -> int:
  """Writes a file of at least `size` bytes; returns its size."""
  random, written, rows = np.random.default_rng(0), 0, 0
  with open(path, 'w') as file:
    while written < size:
      written += file.write(_row(f'q{rows}', row_size, random) + '\n')
      rows += 1
  return written


def _floor_seconds(path: pathlib.Path) -> float:
  spent = 0.0
  with open(path, 'rb') as file:
    for line in file:
      start = time.process_time()
      field = json.loads(line)['private_test_cases']
      data = zlib.decompress(base64.b64decode(field))
      json.loads(data[data.index(b'[{') : data.rindex(b']') + 1])
      spent += time.process_time() - start
  return spent


def _measured(path: pathlib.Path, size: int, what: str) -> None:
  start, wall = time.process_time(), time.perf_counter()
  found = livecodebench.livecodebench([str(path)])
  seconds, wall = time.process_time() - start, time.perf_counter() - wall
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(
    f'{what}: {len(found.problems)} rows, {size / 1e6:,.0f} MB, '
    f'{seconds:.1f} s of CPU = {size / 1e6 / seconds:,.0f} MB/s '
    f'({wall:.1f} s of wall time), peak {peak / 1e9:.2f} GB'
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.livecodebench',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--mb', type=float, default=1000.0)
  parser.add_argument('--row_mb', type=float, default=5.0)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as place:
    os.environ[stored.VARIABLE] = os.path.join(place, 'tasks')
    path = pathlib.Path(place, 'test.jsonl')
    # In a child, whose memory does not count.
    if (child := os.fork()) == 0:
      _generate(path, 1e6 * args.mb, 1e6 * args.row_mb)
      os._exit(0)
    os.waitpid(child, 0)
    size = path.stat().st_size
    _measured(path, size, 'first load')
    _measured(path, size, 'second load')
    floor = _floor_seconds(path)
    print(f'floor: {floor:.1f} s of CPU = {size / 1e6 / floor:,.0f} MB/s')


if __name__ == '__main__':
  main()
