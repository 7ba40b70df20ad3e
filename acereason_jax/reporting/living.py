"""Whether a run goes on or died, by the process that its lock names."""

from collections.abc import Sequence

from acereason_jax import locks
from acereason_jax.reporting import files


def lives(
  folder: str, starts: Sequence[files.Begun]
) -> tuple[Sequence[files.Begun], bool | None]:
  """(starts of the run, whether a process of the last one lives).

  None where that start has ended by itself, or it is unknown. The starts are
  read again where the lock says that nobody lives.

  Raises:
    OSError: they cannot be read.
  """
  if not starts or starts[-1].ended:
    return starts, None
  held = locks.held(locks.of_process(folder, 0))
  if held is not False:
    return starts, held
  # It may have ended, or another may have begun, right before that look.
  try:
    newer = files.starts(folder)
  except ValueError:
    newer = []
  return newer, False if newer == starts else None
