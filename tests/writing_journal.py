"""Entries for journals, and a program that writes them until it is killed.

    python writing_journal.py FOLDER FIRST

says after each entry that it is kept. At gs:// each is flushed by itself.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
import struct
import sys
import threading
import time

import numpy as np

from acereason_jax import storage, types
from acereason_jax.run import journal

SIZES = (0, 7, 300, 5_000, 40_000)
PIECE = 20_000
GUARD = 60
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


def put(kept, i):
  phase, step, prompt_id, index = key(i)
  kept.rollout(phase, step, rollout(i))
  kept.verdict(phase, step, prompt_id, index, verdict(i))


def bits(value):
  """A whole rollout or verdict as comparable bytes, with its types."""
  parts = []
  for field in dataclasses.fields(value):
    x = getattr(value, field.name)
    if isinstance(x, np.ndarray):
      x = x.dtype.str, x.shape, x.tobytes()
    elif isinstance(x, float):
      x = struct.pack('=d', x)
    elif isinstance(x, str):
      x = x.encode('utf-8', 'surrogatepass')
    parts.append((field.name, type(getattr(value, field.name)), x))
  return parts


def is_written(entries, i):
  """Whether `i` is there whole; it is never there with another value."""
  entry = entries.get(key(i), journal.Entry())
  if entry.rollout is not None:
    assert bits(entry.rollout) == bits(rollout(i))
  if entry.verdict is not None:
    assert bits(entry.verdict) == bits(verdict(i))
  return None not in entry


@contextlib.contextmanager
def gang(folder, count, fingerprint='tiny'):
  """The journals of a run of `count` processes, opened at once."""
  shares, meeting = {}, threading.Barrier(count, timeout=GUARD)

  def gather(i, mine):
    shares[i] = mine
    meeting.wait()
    every = [shares[j] for j in range(count)]
    meeting.wait()
    return every

  logs = [
    journal.Journal(folder, fingerprint, i, count, functools.partial(gather, i))
    for i in range(count)
  ]
  with (
    concurrent.futures.ThreadPoolExecutor(count) as pool,
    contextlib.ExitStack() as stack,
  ):
    yield list(pool.map(stack.enter_context, logs))


def until(is_so):
  give_up = time.monotonic() + GUARD
  while not is_so():
    assert time.monotonic() < give_up, 'it never comes'
    time.sleep(0.01)


def slow(descriptor: int, data: memoryview, offset: int) -> int:
  """A part of it, as a system may: kills come in the middle of records."""
  time.sleep(0.001)
  return pwrite(descriptor, data[:PIECE], offset)


def main(folder: str, first: int) -> None:
  with journal.Journal(folder, 'tiny', 0) as kept:
    for i in itertools.count(first):
      put(kept, i)
      if storage.is_remote(folder):
        kept.flush()
      os.write(1, f'{i}\n'.encode())


if __name__ == '__main__':
  os.pwrite = slow
  main(sys.argv[1], int(sys.argv[2]))
