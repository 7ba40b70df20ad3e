"""Writes a journal until it is killed; says after each entry that it is kept.

python writing_journal.py FOLDER FIRST
"""

import itertools
import os
import sys
import time

import numpy as np

from acereason_jax import types
from acereason_jax.run import journal

SIZES = (0, 7, 300, 5_000, 40_000)
PIECE = 20_000
pwrite = os.pwrite


def rollout(i: int) -> types.Rollout:
  """Another one for each `i`, with every kind of bits."""
  rng = np.random.default_rng(i)
  size = SIZES[i % len(SIZES)]
  draw = lambda: rng.integers(0, 2**32, size, np.uint32)
  return types.Rollout(
    prompt_id=f'question {i // 4}',
    index=i % 4,
    tokens=draw().view(np.int32),
    logp=draw().view(np.float32),
    full_logp=draw().view(np.float32),
    stop='length',
    text=f'{i} ' * size,
    entropy=float(rng.standard_normal()),
    forced=(i, i + 2),
    detail=f'{i}',
  )


def verdict(i: int) -> types.Verdict:
  return types.Verdict('right', f'{i}', i / 7)


def key(i: int) -> journal.Key:
  return journal.Key('train', i // 16, f'question {i // 4}', i % 4)


def slow(descriptor: int, data: memoryview, offset: int) -> int:
  """A part of it, as a system may: kills come in the middle of records."""
  time.sleep(0.001)
  return pwrite(descriptor, data[:PIECE], offset)


def main(folder: str, first: int) -> None:
  with journal.Journal(folder, 'tiny', 0) as kept:
    for i in itertools.count(first):
      phase, step, prompt_id, index = key(i)
      kept.rollout(phase, step, rollout(i))
      kept.verdict(phase, step, prompt_id, index, verdict(i))
      os.write(1, f'{i}\n'.encode())


if __name__ == '__main__':
  os.pwrite = slow
  main(sys.argv[1], int(sys.argv[2]))
