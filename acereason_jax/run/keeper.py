"""Writes the kept rollouts of a run, in a thread, beside its steps.

A step hands over references; the thread makes rows and bytes of them. A file
that cannot be written is a WARNING, and the run goes on without it.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from acereason_jax import storage
from acereason_jax.console import terminal
from acereason_jax.data import archive
from acereason_jax.models import characters
from acereason_jax.run import keeping, thinning

# Sizes of all files of texts that were ever written.
SIZES = f'{archive.TEXTS}/sizes.jsonl'
_MOST_SIZES_BYTES = 256 << 20
# Steps whose rollouts may wait in memory.
_MOST_WAITING = 2
# A process that was killed while it wrote leaves such a file.
_PARTIAL = re.compile(r'\..*\.partial')


class Keeper:
  """Context manager: writes rows and texts below the run's folder `root`.

  Files of what came after the checkpoint of `step` are removed when it is
  opened, and all files if that is None: a new run has none. Of texts, about
  `budget_gb` GB (1e9 bytes) stay, see thinning.py. `to_text` gives the text of
  token ids. Only one process of a run may have a Keeper.

  Raises:
    OSError: one line; the folder cannot be listed.
  """

  def __init__(
    self,
    root: str,
    step: int | None,
    budget_gb: float,
    to_text: Callable[[np.ndarray], str],
  ):
    self._folder = storage.join(root, archive.FOLDER)
    self._step, self._most_bytes = step, budget_gb * 1e9
    self._characters = characters.Characters(to_text)
    self._waiting: collections.deque[concurrent.futures.Future] = (
      collections.deque()
    )
    self._written: list[thinning.Written] = []
    self._there: set[str] = set()

  def __enter__(self) -> 'Keeper':
    names = storage.names(self._folder)
    for name in names:
      if self._is_gone(name):
        storage.remove(self._path(name))
    if self._step is not None:
      self._written = self._read_sizes(self._step)
    texts = archive.TEXTS + '/'
    found = (n.removeprefix(texts) for n in names if n.startswith(texts))
    self._there = {n for n in found if not self._is_gone(n)}
    self._thin()
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'keeper')
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    self._thread.shutdown()
    if kind is None:
      self.wait()

  def keep(self, kept: keeping.Kept) -> None:
    """Has the rollouts written; waits while too many others are waiting."""
    self._begin(self._write, kept)

  def keep_rows(
    self, place: archive.Place, rows: Iterable[archive.Row]
  ) -> None:
    """Has rows without texts written, as `keep` does; the thread makes them."""
    self._begin(self._write_rows, place, rows)

  def wait(self) -> None:
    """Returns when all is written: a checkpoint may then follow."""
    while self._waiting:
      self._waiting.popleft().result()
    sizes = thinning.to_text(self._written)
    with _warned():
      storage.write(self._path(SIZES), sizes.encode())

  def _begin(self, write: Callable[..., None], *args: Any) -> None:
    while len(self._waiting) >= _MOST_WAITING:
      self._waiting.popleft().result()
    self._waiting.append(self._thread.submit(write, *args))

  def _write_rows(
    self, place: archive.Place, rows: Iterable[archive.Row]
  ) -> None:
    rows = iter(rows)
    first = list(itertools.islice(rows, archive.MAX_ROWS))
    if more := sum(1 for _ in rows):
      terminal.say(
        f'WARNING: {place.name}: {len(first):,} of {len(first) + more:,} rows '
        'are kept: a file has no more',
        to_stderr=True,
      )
    with _warned():
      storage.write(self._path(place.name), archive.rows_to_bytes(first))

  def _write(self, kept: keeping.Kept) -> None:
    name = kept.place.name
    self._write_rows(kept.place, keeping.rows(kept))
    if not kept.reasons:
      return
    texts = keeping.texts(kept, self._characters)
    wanted = sum(len(kept.groups[i].rollouts) for i in kept.reasons)
    if len(texts) < wanted:
      terminal.say(
        f'WARNING: {name}: {len(texts):,} of {wanted:,} texts are kept: a file '
        f'has at most {archive.MOST_TEXT_BYTES:,} bytes of them',
        to_stderr=True,
      )
    with _warned():
      data = archive.texts_to_bytes(texts)
      storage.write(self._path(archive.TEXTS, name), data)
      self._written.append(thinning.Written(kept.place, len(data)))
      self._there.add(name)
      self._thin()

  def _thin(self) -> None:
    """Removes the texts that are too many; those that are gone stay so."""
    stays = thinning.staying(self._written, self._most_bytes)
    for written, stay in zip(self._written, stays):
      if not stay and (name := written.place.name) in self._there:
        storage.remove(self._path(archive.TEXTS, name))
        self._there.remove(name)

  def _read_sizes(self, step: int) -> list[thinning.Written]:
    path = self._path(SIZES)
    try:
      content = storage.read(path, _MOST_SIZES_BYTES) or b''
      found = thinning.from_text(content.decode())
    except ValueError as e:
      terminal.say(
        f'WARNING: {path}: {e}; texts of earlier steps stay, beyond '
        'config.keep.budget_gb',
        to_stderr=True,
      )
      return []
    return [w for w in found if w.place.step <= step]

  def _is_gone(self, name: str) -> bool:
    """Whether a file is of what is done again, or was not finished."""
    folder, base = posixpath.split(name)
    if folder not in ('', archive.TEXTS):
      # Those that a user copied there.
      return False
    if _PARTIAL.fullmatch(base):
      return True
    if (place := archive.place(base)) is None:
      return False
    if self._step is None or place.step > self._step:
      return True
    # A probe at the step of a checkpoint was made after it.
    return place == archive.Place(self._step, archive.PROBE)

  def _path(self, *names: str) -> str:
    return storage.join(self._folder, *names)


@contextlib.contextmanager
def _warned() -> Iterator[None]:
  """A full disk, or a store that is away, is a WARNING."""
  try:
    yield
  except OSError as e:
    # An error of a store names the path itself.
    reason = f'{e.filename}: {e.strerror}' if e.filename else e.strerror or e
    terminal.say(
      f'WARNING: rollouts are not kept: {reason}; the run goes on',
      to_stderr=True,
    )
