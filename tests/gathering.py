"""A process of several that gather bytes; prints what it got.

python gathering.py COORDINATOR PROCESSES PROCESS
"""

import hashlib
import sys

import jax

from acereason_jax.hosts import gather

# Of one round, of several, with nothing, with a part of a last round.
SIZES = (0, 1, 5, 64, 100_001)


def share(process: int, size: int) -> bytes:
  """Other bytes, and another number of them, for each process."""
  return bytes((i * 7 + process) % 251 for i in range(size * process % 70_000))


def digest(parts) -> str:
  return hashlib.sha256(b'|'.join(map(bytes, parts))).hexdigest()


def main(coordinator: str, processes: int, process: int) -> None:
  jax.distributed.initialize(coordinator, processes, process)
  gather._ROUND_BYTES = 4096
  for size in SIZES:
    print(digest(gather.everyones(share(process, size))), flush=True)


if __name__ == '__main__':
  main(sys.argv[1], *map(int, sys.argv[2:]))
