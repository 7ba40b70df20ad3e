"""A run's folder: which run uses it, and where it is.

It may be at gs://. The checkpoints, the journal and the lock are there. Files
for people grow line by line, which objects cannot: they are written on this
host, and process 0 uploads them whole at each save and at the end.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax

from acereason_jax import files, locks, outfile, storage
from acereason_jax.config import recorded
from acereason_jax.run import metrics

# The files that a restart continues.
_CONTINUED = 'metrics.jsonl', 'timeline.jsonl', 'changes.json', 'clock.jsonl'
_MOST_BYTES = 16 << 30


def _is_config(content: bytes) -> bool:
  """Whether bytes are the config of a run, of this version or another."""
  try:
    found = json.loads(content)
  except (ValueError, RecursionError):
    return False
  return isinstance(found, dict) and {'seed', 'train_data'} <= set(found)


_CONFIG = outfile.Kind('the config of a run', _is_config, recorded.MAX_BYTES)
_METRICS = outfile.Kind(
  'the metrics of a run', re.compile(rb'\{"step": |\Z').match
)


class Folder(NamedTuple):
  """A run's folder while the run uses it.

  root: its path, or its URL at gs://.
  local: where this host writes files for people: `root`, if it is on a disk.
  sent: (bytes, ns of the last change) of the files that are uploaded, by path.
  """

  root: str
  local: pathlib.Path
  sent: dict[pathlib.Path, tuple[int, int]]


def check_ours(root: str | os.PathLike) -> None:
  """Refuses the folder of a model, of an evaluation or of a user's own work.

  Raises:
    ValueError, OSError: one line.
  """
  config = storage.join(root, recorded.NAME)
  outfile.check('--workdir', config, _CONFIG)
  # A run writes its config first. A kill may have left any half of a line.
  if storage.start(config, 1) is None:
    metrics_file = storage.join(root, 'metrics.jsonl')
    outfile.check('--workdir', metrics_file, _METRICS)


@contextlib.contextmanager
def opened(root: str | os.PathLike) -> Iterator[Folder]:
  """The folder, which no other run uses until the block ends; it is made.

  Raises:
    OSError: one line.
  """
  root = os.fspath(root)
  with contextlib.ExitStack() as stack:
    if not storage.is_remote(root):
      os.makedirs(root, exist_ok=True)
      stack.enter_context(locks.locked(_lock_of(root), metrics.say))
      folder = Folder(root, pathlib.Path(root), {})
      stack.enter_context(_told_if_gone(folder))
      yield folder
      return
    if jax.process_index() == 0:
      stack.enter_context(locks.locked(_lock_of(root), metrics.say))
    local = stack.enter_context(files.scratch())
    folder = Folder(root, pathlib.Path(local), {})
    _download(folder)
    try:
      yield folder
    except Exception as e:
      # Its line may name a file that is only here. A store that ended the run
      # would not take it.
      if not isinstance(e, OSError):
        upload(folder)
      raise
    _upload(folder)


def upload(folder: Folder) -> None:
  """Uploads the files that changed; the next time, if it cannot be done now."""
  try:
    _upload(folder)
  except OSError as e:
    metrics.say(f'WARNING: not uploaded: {e.strerror}; the next save tries it')


def check_there(folder: Folder) -> None:
  """Raises OSError, one line, if a run's folder was deleted under it."""
  # At gs:// the lock itself tells.
  remote = storage.is_remote(folder.root)
  if not remote and not os.path.exists(_lock_of(folder.root)):
    raise OSError(
      errno.ENOENT,
      'the folder was deleted, moved or unmounted while the run used it; put '
      'it back, or start anew in one that stays',
    )


def _lock_of(root: str) -> str:
  """On a disk each process has a lock; it exists while a run does."""
  return locks.of_process(root, jax.process_index())


def _download(folder: Folder) -> None:
  if jax.process_index() != 0:
    return
  for name in _CONTINUED:
    content = storage.read(storage.join(folder.root, name), _MOST_BYTES)
    if content is not None:
      (folder.local / name).write_bytes(content)


def _upload(folder: Folder) -> None:
  if jax.process_index() != 0 or not storage.is_remote(folder.root):
    return
  for path in sorted(folder.local.rglob('*')):
    if not path.is_file():
      continue
    found = path.stat()
    state = found.st_size, found.st_mtime_ns
    if folder.sent.get(path) != state:
      name = path.relative_to(folder.local).as_posix()
      storage.write(storage.join(folder.root, name), path.read_bytes())
      folder.sent[path] = state


@contextlib.contextmanager
def _told_if_gone(folder: Folder) -> Iterator[None]:
  """Makes errors say that a run's folder is gone, if that is their cause.

  Libraries only name the file that they missed.
  """
  try:
    yield
  except (OSError, ValueError) as e:
    try:
      check_there(folder)
    except OSError as gone:
      raise gone from e
    raise
