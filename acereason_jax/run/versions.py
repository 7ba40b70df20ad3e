"""What makes a run: versions of programs, the commit of this one, devices."""

import contextlib
import os
import pathlib
import platform
import subprocess
from typing import NamedTuple

import jax
import jaxlib

import acereason_jax

# git reads the package's files for so long at most.
_SECONDS = 5.0
_DIGITS = 10
# Only files of the package count. Optional locks would disturb others' git;
# fsmonitor and hooks would start a user's programs.
_STATUS = (
  *('git', '--no-optional-locks', '-c', 'core.fsmonitor=false'),
  *('-c', 'core.hooksPath=/dev/null', 'status', '--porcelain=v2', '--branch'),
  *('--untracked-files=normal', '--ignore-submodules=all', '--', '.'),
)
_HEAD = '# branch.oid '


class Made(NamedTuple):
  """What makes a start of a run; a text is '' where it is unknown.

  version: version of this package.
  commit: the first digits of the git commit that it runs from, with '+' if
    files of the package are not as in it.
  python, jax, jaxlib: versions.
  device: kind of the devices, as jax names it.
  devices: number of devices of all processes.
  """

  version: str
  commit: str
  python: str
  jax: str
  jaxlib: str
  device: str
  devices: int


def here() -> Made:
  """This process, whose jax has started."""
  package = pathlib.Path(acereason_jax.__file__).parent
  return Made(
    version=acereason_jax.__version__,
    commit=commit(package),
    python=platform.python_version(),
    jax=jax.__version__,
    jaxlib=jaxlib.__version__,
    device=jax.devices()[0].device_kind,
    devices=jax.device_count(),
  )


def commit(package: pathlib.Path) -> str:
  """See `Made`; '' if the package is in no checkout of its own.

  A package that is installed somewhere within another's checkout is not of
  that commit.
  """
  root = package.parent
  if not (root / '.git').exists():
    return ''
  told = _asked(package, root)
  heads = [line for line in told if line.startswith(_HEAD)]
  digits = heads[0].removeprefix(_HEAD) if heads else ''
  # '(initial)' before the first commit.
  if not digits.isalnum():
    return ''
  changed = any(not line.startswith('#') for line in told)
  return digits[:_DIGITS] + '+' * changed


def _asked(package: pathlib.Path, root: pathlib.Path) -> list[str]:
  """The lines of git's status; none if it cannot tell, or not in time.

  Of the environment it gets only where programs are, and the home, as its
  settings there say which folders of other users it may read.
  """
  kept = {n: os.environ[n] for n in ('PATH', 'HOME') if n in os.environ}
  found = dict(kept, LC_ALL='C', GIT_CEILING_DIRECTORIES=str(root.parent))
  try:
    git = subprocess.Popen(
      _STATUS,
      cwd=package,
      env=found,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    )
  except OSError:
    return []
  with contextlib.closing(git.stdout):
    try:
      out, _ = git.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
      git.kill()
      # A disk that hangs may keep it; the run does not wait for that.
      with contextlib.suppress(subprocess.TimeoutExpired):
        git.wait(1.0)
      return []
  return [] if git.returncode else out.decode(errors='replace').splitlines()
