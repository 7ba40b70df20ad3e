r"""What a restart reads of a journal: each process's bytes, seconds and memory.

    python -m benchmarks.journal --megabytes 200 --processes 2

Writes a journal of two steps by one process of each that later reads it, then
opens it in that many processes on this machine. `--whole` has each process read
all files by itself instead, without sending any.
"""

import argparse
import pathlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from acereason_jax import types
from acereason_jax.hosts import gather
from acereason_jax.run import journal

TOKENS = 10_000
STEPS = 2
FINGERPRINT = 'benchmark'


def rollout(i: int) -> types.Rollout:
  """A rollout of TOKENS tokens and 4 characters a token."""
  rng = np.random.default_rng(i)
  floats = lambda: rng.random(TOKENS, np.float32)
  tokens = rng.integers(0, 150_000, TOKENS, np.int32)
  text = re.sub(r'[^a-z]', 'e', rng.bytes(4 * TOKENS).decode('latin-1'))
  return types.Rollout(
    f'q{i}', 0, tokens, floats(), floats(), 'stop', text, 0.1
  )


def write(folder: pathlib.Path, megabytes: int, processes: int) -> int:
  """The number of rollouts that it wrote."""
  count = max(megabytes * 1_000_000 // (16 * TOKENS), processes * STEPS)
  for process in range(processes):
    with journal.Journal(folder, FINGERPRINT, process, processes) as log:
      for i in range(process, count, processes):
        log.rollout('train', i * STEPS // count, rollout(i))
  return count


def read(
  folder: str, count: int, whole: bool, at: str, processes: int, process: int
) -> None:
  """Opens the journal as a process of several, and prints a line."""
  jax.distributed.initialize(at, processes, process)
  gather.everyones(b'all are here')
  sent = taken = 0

  def counted(mine: bytes) -> list[bytearray]:
    nonlocal sent, taken
    every = gather.everyones(mine)
    sent, taken = sent + len(mine), taken + sum(map(len, every))
    return every

  before = resource.getrusage(resource.RUSAGE_SELF)
  began = time.monotonic()
  share = () if whole else (process, processes, counted)
  with journal.Journal(folder, FINGERPRINT, *share) as log:
    assert len(log.found) == count and not log.notes
  wall = time.monotonic() - began
  after = resource.getrusage(resource.RUSAGE_SELF)
  size = sum(p.stat().st_size for p in pathlib.Path(folder).iterdir())
  print(
    f'process {process}: read {(size if whole else sent) / 1e6:.0f} MB, '
    f'got {(taken - sent) / 1e6:.0f} MB, {wall:.1f} s, '
    f'{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.1f}'
    f' CPU s, peak {after.ru_maxrss / 1e6:.2f} GB '
    f'({before.ru_maxrss / 1e6:.2f} before)',
    flush=True,
  )
  gather.everyones(b'all have ended')


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.journal',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--megabytes', type=int, default=200)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--whole', action='store_true')
  parser.add_argument('--read', nargs=4, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.read:
    folder, count, at, process = args.read
    read(folder, int(count), args.whole, at, args.processes, int(process))
    return
  with tempfile.TemporaryDirectory() as folder, socket.socket() as s:
    count = write(pathlib.Path(folder), args.megabytes, args.processes)
    s.bind(('127.0.0.1', 0))
    at = f'127.0.0.1:{s.getsockname()[1]}'
    s.close()
    again = [sys.executable, '-m', 'benchmarks.journal', *sys.argv[1:]]
    started = [
      subprocess.Popen([*again, '--read', folder, str(count), at, str(i)])
      for i in range(args.processes)
    ]
    print(f'{count} rollouts of {TOKENS} tokens')
    sys.exit(max(p.wait() for p in started))


if __name__ == '__main__':
  main()
