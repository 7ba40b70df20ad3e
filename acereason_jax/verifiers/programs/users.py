"""Jails of root run as users of their own, each with its limits."""

import contextlib
import os
import sys

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import paths

_PR_SET_KEEPCAPS = 8
# Users of jails, one each while there are enough: what a user may have is
# counted for all its processes together.
_FIRST_USER, _USERS = 61001, 3000


def become_another(tier: str) -> None:
  """Stops being root, whom no limit on threads binds.

  Where nobody else can read the interpreter, the right to read stays; what is
  read with it is Landlock's to say.

  Raises:
    OSError: that cannot be, or there is no Landlock.
  """
  if os.getuid() != 0:
    return
  sandbox.check('prctl', sandbox.libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
  leave_root()
  kept = 0
  try:
    for path in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
      os.listdir(path)
    # T1 does without: there the right to read would be one to read all.
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
      # What has ended meanwhile has none.
      with contextlib.suppress(OSError):
        if process.name.isdecimal() and process.stat().st_uid == user:
          threads += len(os.listdir(f'{process.path}/task'))
  return threads
