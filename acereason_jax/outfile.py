"""Which file a command's output may replace, and how the output is written.

A slip at a shell, such as --out=RUN/metrics.jsonl, must not cost a user a file.
So there is one rule: a command replaces a file only if the same command wrote
it, as its first bytes show, or if it is empty. It replaces no file that it
reads, and no empty file of a training run, which may be a lock. It follows
links before it looks.

A command calls `check` before it works for minutes, and `opened` at the end.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from acereason_jax import files, storage

_HEAD_BYTES = 64 << 10


class Kind(NamedTuple):
  """What a command writes.

  what: its name with an article, such as 'a page of slots'.
  is_ours: whether a file with these bytes at its start is one that the command
    wrote; a false value if not.
  most_bytes: how many bytes it is given, at most.
  """

  what: str
  is_ours: Callable[[bytes], object]
  most_bytes: int = _HEAD_BYTES


def check(
  flag: str, path: files.Path, kind: Kind, others: Iterable[files.Path] = ()
) -> None:
  """Refuses a path at which the output would cost the user a file.

  Args:
    flag: what names the path, or its folder, such as '--out'.
    path: the file to write; it may be at gs://, or a stream.
    kind: what is written.
    others: files that the command reads, or also writes.

  Raises:
    ValueError, OSError: one line.
  """
  path = os.fspath(path)
  where = f'{flag}: {path}'
  remote = storage.is_remote(path)
  if not remote and files.is_stream(path):
    return
  if path.endswith('/') or (not remote and os.path.isdir(path)):
    raise ValueError(f'{where}: is a folder; name a file in it')
  for other in others:
    if _is_same(path, os.fspath(other)):
      raise ValueError(
        f'{where}: is the same file as {other}, which the command uses too; '
        'give another path'
      )
  head = storage.start(path, kind.most_bytes)
  if head is None or kind.is_ours(head):
    return
  if head:
    raise ValueError(
      f'{where}: there is a file that is not {kind.what}, and it is not '
      'replaced; give another path'
    )
  if not remote and (run := _run_around(path)):
    raise ValueError(f'{where}: is a file of the run {run}; give another path')


@contextlib.contextmanager
def opened(path: files.Path, mode: str = 'w') -> Iterator[IO]:
  """A file to write, mode 'w' or 'wb', that becomes `path` after the block.

  The path may be at gs://, or a stream. Folders are made. An error in the block
  leaves the path as it was.

  Raises:
    OSError: one line.
  """
  if storage.is_remote(path):
    file = io.BytesIO() if 'b' in mode else io.StringIO()
    yield file
    content = file.getvalue()
    storage.write(path, content if 'b' in mode else content.encode())
    return
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  with files.output(path, mode) as file:
    yield file


def _is_same(path: str, other: str) -> bool:
  """Whether two paths lead to one file, which need not exist."""
  if '://' in path or '://' in other:
    return path.rstrip('/') == other.rstrip('/')
  if os.path.exists(path) and os.path.exists(other):
    return os.path.samefile(path, other)  # Hard links too.
  return os.path.realpath(path) == os.path.realpath(other)


def _run_around(path: str) -> str:
  """The folder of the training run that a file is in; '' for none."""
  for folder in pathlib.Path(os.path.realpath(path)).parents:
    if (folder / 'checkpoints').is_dir() and (folder / 'config.json').exists():
      return str(folder)
  return ''
