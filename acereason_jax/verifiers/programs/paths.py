"""The files a Python program may have to read, wherever they are installed."""

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterable

# Folders that hold only installed libraries, and the library that programs may
# use wherever it is.
_LIBRARY_FOLDERS = 'site-packages', 'dist-packages'
_LIBRARY = 'numpy'


def system_paths() -> list[str]:
  """Returns the paths that a Python program may read to start and to import."""
  paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, '/usr/lib', '/lib'}
  paths |= {'/lib64', '/usr/lib64', '/usr/local/lib', '/usr/share/zoneinfo'}
  paths |= {'/etc/ld.so.cache', '/dev/null', '/dev/zero', '/dev/urandom'}
  # Debian's libraries for linear algebra are links through the last.
  paths |= {'/etc/localtime', '/usr/lib/locale', '/etc/alternatives'}
  paths |= {p for p in library_paths() if not _is_in(p, paths)}
  # A prefix of / would be everything.
  return sorted(p for p in paths if len(p) > 1 and os.path.exists(p))


@functools.cache
def library_paths() -> tuple[str, ...]:
  """Returns where this interpreter has libraries, even outside its folders.

  The user's own site-packages, for example, or numpy in a folder of PYTHONPATH.
  Other contents of such a folder stay hidden: it may be a repository with data.
  """
  paths = {
    path
    for path in map(os.path.abspath, sys.path)
    if os.path.basename(path) in _LIBRARY_FOLDERS or os.path.isfile(path)
  }
  # It is found, not imported. Its shared libraries are next to it.
  with contextlib.suppress(ImportError, ValueError):
    if found := importlib.util.find_spec(_LIBRARY):
      for place in found.submodule_search_locations or ():
        paths |= {os.path.abspath(place), f'{os.path.abspath(place)}.libs'}
  paths |= set(map(os.path.realpath, paths))
  return tuple(
    sorted(p for p in paths if os.path.exists(p) and not _is_in(p, paths))
  )


def _is_in(path: str, folders: Iterable[str]) -> bool:
  """Whether a path is below one of these folders."""
  return any(path.startswith(f'{folder}{os.sep}') for folder in folders)
