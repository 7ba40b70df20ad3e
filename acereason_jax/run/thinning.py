"""Which files of texts stay within a number of bytes: fewer of older ones.

Files are of two kinds, of training and of held-out answers, and have a rank in
their kind. At level k a file stays if its rank is a multiple of 2^k, or if it
is the newest of its kind. The level depends only on the sizes of all files that
were ever written, and never falls, so a run that was killed and went on ends
with the same files.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.data import archive

_MOST_LEVEL = 62


class Written(NamedTuple):
  """A file of texts that was written.

  place: its name.
  size: its bytes.
  """

  place: archive.Place
  size: int


def staying(written: Sequence[Written], most_bytes: float) -> list[bool]:
  """Whether each file stays; `written` has all files, in order.

  Those that stay have at most so many bytes in all, unless the first and the
  newest of each kind have more.
  """
  is_train = np.array([w.place.phase == archive.TRAIN for w in written], bool)
  sizes = np.array([w.size for w in written], np.int64)
  kinds = [np.flatnonzero(kind) for kind in (is_train, ~is_train)]
  # The newest may be any of them.
  spare = sum(int(sizes[kind].max(initial=0)) for kind in kinds)
  level = 0
  while level < _MOST_LEVEL:
    stride = 1 << level
    total = sum(int(sizes[kind[::stride]].sum()) for kind in kinds)
    if total + (spare if level else 0) <= most_bytes:
      break
    if all(len(kind) <= stride for kind in kinds):
      break
    level += 1
  stays = np.zeros(len(written), bool)
  for kind in kinds:
    stays[kind[:: 1 << level]] = True
    stays[kind[-1:]] = True
  return stays.tolist()


def to_text(written: Sequence[Written]) -> str:
  """A line of JSON for each file."""
  return ''.join(
    json.dumps(dict(w.place._asdict(), bytes=w.size)) + '\n' for w in written
  )


def from_text(text: str) -> list[Written]:
  """Raises ValueError, one line, for any other text."""
  found = []
  for number, line in enumerate(text.splitlines(), 1):
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      value = None
    found.append(_one(value, number))
  return found


def _one(value: object, number: int) -> Written:
  match value:
    case {'step': int(step), 'phase': str(phase), 'bytes': int(size)} if (
      phase in archive.PHASES and 0 <= size < 1 << 40 and 0 <= step < 1 << 53
    ):
      return Written(archive.Place(step, phase), size)
  raise ValueError(f'line {number}: no size of a file of rollouts')
