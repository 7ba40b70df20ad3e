"""A run's folder: which run uses it, and whether it still exists."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator

import jax


def lock_of(workdir: pathlib.Path) -> pathlib.Path:
  """The path of this process's lock file, which exists while a run does."""
  return workdir / f'{jax.process_index()}.lock'


def check_there(workdir: pathlib.Path) -> None:
  """Raises OSError, one line, if a run's folder was deleted under it."""
  if not lock_of(workdir).exists():
    raise OSError(
      errno.ENOENT,
      'the folder was deleted, moved or unmounted while the run used it; put '
      'it back, or start anew in one that stays',
    )


@contextlib.contextmanager
def told_if_gone(workdir: pathlib.Path) -> Iterator[None]:
  """Makes errors say that a run's folder is gone, if that is their cause.

  Libraries only name the file that they missed.
  """
  try:
    yield
  except (OSError, ValueError) as e:
    try:
      check_there(workdir)
    except OSError as gone:
      raise gone from e
    raise
