"""Makes each jail of root run as a user of its own, with its own limits."""

import contextlib
import os
import sys

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import paths

_PR_SET_KEEPCAPS = 8
# Users of jails, one each while there are enough: the limits of a user count
# all its processes together.
_FIRST_USER, _USERS = 61001, 3000


def become_another(tier: str) -> None:
  """Stops being root, because no limit on threads binds root.

  If no other user can read the interpreter, the right to read stays; Landlock
  then decides what may be read.

  Raises:
    OSError: this is not possible, or there is no Landlock.
  """
  if os.getuid() != 0:
    return
  sandbox.check('prctl', sandbox.libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
  leave_root()
  kept = 0
  try:
    for path in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
      os.listdir(path)
    # T1 drops it: without Landlock the right to read would cover all files.
    for path in paths.library_paths() if tier == 'T2' else ():
      os.close(os.open(path, os.O_RDONLY))
  except OSError:
    if tier != 'T2':
      raise
    kept = sandbox.READING
  if sandbox.drop_capabilities(kept) != 'dropped':
    raise OSError('the capabilities of root could not be dropped')


def leave_root() -> None:
  user = _FIRST_USER + os.getpid() % _USERS
  os.setgroups([])
  os.setresgid(user, user, user)
  os.setresuid(user, user, user)


def threads_of(user: int) -> int:
  """Returns how many threads a user has, among the processes seen from here."""
  threads = 0
  with os.scandir('/proc') as processes:
    for process in processes:
      # A process that has ended meanwhile has no threads.
      with contextlib.suppress(OSError):
        if process.name.isdecimal() and process.stat().st_uid == user:
          threads += len(os.listdir(f'{process.path}/task'))
  return threads
