"""Orbax's checkpoint manager, as runs use it.

It leaves jax's preemption point to the run, it logs no tracebacks of errors
that the caller gets anyway, and errors of a store of objects are one line.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import fsspec
import orbax.checkpoint as ocp
from etils import epath

from acereason_jax import storage

# Texts of Orbax warnings to hide.
_NO_NEWS = (
  *('tracked_metric', 'read_only=True', 'is read only'),
  'Waiting for previous save',
)


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which leaves jax's preemption point to the run.

  jax has one counter of safe points, signals.StopRequest's. Orbax would set it
  to the step, in a thread too: a signal just then was never heeded, or by one
  process alone.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


def open_manager(directory: epath.Path, **options) -> ocp.CheckpointManager:
  """A manager of the checkpoints in a folder; see `checkpoint.Restored`."""
  return _Manager(
    directory,
    options=ocp.CheckpointManagerOptions(**options),
    item_handlers={
      'state': ocp.PyTreeCheckpointHandler(),
      'ledger': ocp.PyTreeCheckpointHandler(),
      'progress': ocp.JsonCheckpointHandler(),
      'meta': ocp.JsonCheckpointHandler(),
    },
  )


@contextlib.contextmanager
def as_os_error() -> Iterator[None]:
  """Raises what a store of objects answered as an OSError, one line."""
  try:
    yield
  except Exception as e:
    # Orbax raises errors of its own, from these.
    cause = e
    while cause is not None and not isinstance(cause, storage.Refused):
      cause = cause.__cause__
    if cause is None:
      raise
    raise cause.error from e


def store_error(directory: epath.Path, e: Exception) -> Exception:
  """What tensorstore raised for a store of objects as an OSError, one line."""
  words = ' '.join(str(e).split())
  if storage.is_remote(directory) and re.search(r'\b[A-Z_]{6,}: ', words):
    return e if isinstance(e, OSError) else storage.error(directory, words)
  return e


def _is_news(record: logging.LogRecord) -> bool:
  """False for errors that the caller gets anyway.

  Orbax logs such errors as pages of traceback. It also warns about each
  checkpoint without a score, and about each that is opened read-only.
  """
  if any(words in str(record.msg) for words in _NO_NEWS):
    return False
  return record.levelno < logging.ERROR or not record.exc_info


def _closed_loop_is_no_news(
  kind: type[BaseException], error: BaseException, trace: Any
) -> None:
  """`sys.excepthook` without what follows from an error of Orbax.

  When one array of a save fails, Orbax leaves its event loop. tensorstore then
  prints a traceback for each array that ends after that.
  """
  if not (kind is RuntimeError and str(error) == 'Event loop is closed'):
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _closed_loop_is_no_news
fsspec.register_implementation(
  'gcs', 'acereason_jax.run.bucket.Files', clobber=True
)
# Also for what only reads a checkpoint; a filter that is there is not added.
logging.getLogger('absl').addFilter(_is_news)
