"""The git checkout that this package runs from."""

import contextlib
import os
import pathlib
import subprocess

_PACKAGE = pathlib.Path(__file__).parent
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


def commit(package: pathlib.Path = _PACKAGE) -> str:
  """The first digits of the commit, '+' behind them if its files changed since.

  It is '' if the package is in no checkout of its own. A package that is
  installed somewhere within another's checkout is not of that commit.
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
