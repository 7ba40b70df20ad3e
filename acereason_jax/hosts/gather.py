"""Bytes of every process, on every process."""

import jax
import numpy as np
from jax.experimental import multihost_utils

# Every device holds a round of all processes at once.
_ROUND_BYTES = 64 << 20
_WORD = 1 << 32


def everyones(mine: bytes) -> list[bytearray]:
  """The bytes that each process gave, by its index; the same on all of them.

  All processes of the run must call it. They go in rounds of at most 64 MB, in
  which each process has an equal share, so it is quickest if all give the same
  amount.
  """
  count = jax.process_count()
  if count == 1:
    return [bytearray(mine)]
  # In two words, because jax has no integers of 64 bits by default.
  words = np.array(divmod(len(mine), _WORD), np.uint32)
  words = multihost_utils.process_allgather(words).reshape(count, 2)
  sizes = [int(high) * _WORD + int(low) for high, low in words]
  most = max(sizes)
  piece = min(most, max(_ROUND_BYTES // count, 1))
  data, every = np.frombuffer(mine, np.uint8), [bytearray() for _ in sizes]
  for start in range(0, most, max(piece, 1)):
    part = data[start : start + piece]
    # All rounds have one shape, so that they are one compiled program.
    part = np.pad(part, (0, piece - len(part)))
    rows = multihost_utils.process_allgather(part).reshape(count, piece)
    for whole, row, size in zip(every, rows, sizes):
      whole += row[: max(size - start, 0)].data
  return every
