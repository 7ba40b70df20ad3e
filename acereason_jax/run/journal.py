"""Finished rollouts and their verdicts, kept so that a killed step can resume.

A record is read back bit for bit (see entries.py), or not at all; then its
rollout is decoded and judged again. stores.py says where records are.
"""

import concurrent.futures
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import storage, types
from acereason_jax.console import terminal
from acereason_jax.run import entries, stores
from acereason_jax.run.entries import Entry, Key

# The bytes that each process gives -> those of all of them, by their index.
Gather = Callable[[bytes], Sequence[entries.Bytes]]
_LENGTH = struct.Struct('<Q')
_AT_ONCE = 16


def alone(mine: bytes) -> list[bytes]:
  """The `Gather` of a run of one process."""
  return [mine]


class Journal:
  """Context manager: the entries of the steps since the last checkpoint.

  When it is opened, `found` holds everything that all processes of the last run
  left in `folder`, which may be at gs://, read into memory. `notes` lists parts
  that were damaged, torn or of another `fingerprint`. Both are the same on all
  processes. If a key was written twice, the first rollout counts (a draw
  depends only on its key, so they are equal) and the last verdict. The order is
  the order of writing and, between processes, that of their indices.

  The processes of a run share `folder`; the run holds its lock. Each reads,
  repairs and forgets the files whose process, modulo the number of processes of
  today, is itself. `gather` gives what they read to all. So a run may go on
  with more or fewer processes, and nobody writes before all have read.

  A thread writes through what calls returned from: on a disk it is safe from a
  kill at once, and from a power cut after about a second; at gs:// from both
  after about ten seconds. `flush` waits for that. Bits of results never depend
  on it. Any thread may write.

  Raises:
    OSError: one line.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    fingerprint: str,
    process: int = 0,
    processes: int = 1,
    gather: Gather = alone,
  ):
    self.folder = folder
    self.found: Mapping[Key, Entry] = {}
    self.notes: list[str] = []
    self._head = entries.head(fingerprint)
    self._process, self._processes = process, processes
    self._gather = gather
    self._store: stores.Files | stores.Segments | None = None
    self._due, self._ended = threading.Event(), False
    self._failed: OSError | None = None

  def __enter__(self) -> 'Journal':
    self._store = stores.store(self.folder, self._head, self._process)
    self.found = self._read()
    self._due.clear()
    self._ended, self._failed = False, None
    self._behind = threading.Thread(target=self._write_through, daemon=True)
    self._behind.start()
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    self._ended = True
    self._due.set()
    self._behind.join()
    store, self._store = self._store, None
    try:
      if self._failed is None:
        store.sync()
      elif self._failed is not error:
        raise self._failed
      store.close()
    except OSError as e:
      # What is lost is decoded again: no reason to end otherwise.
      terminal.say(f'WARNING: {e}', to_stderr=True)

  def rollout(self, phase: str, step: int, rollout: types.Rollout) -> None:
    """Keeps a finished rollout.

    Raises:
      ValueError: arrays whose dtypes or shapes differ from `types.Rollout`.
      OSError: one line. On a disk this rollout is not kept; those before it
        are, and those after it will be. At gs:// the last seconds are lost.
    """
    key = Key(phase, int(step), rollout.prompt_id, int(rollout.index))
    self._append(key.step, entries.rollout_record(key, rollout))

  def verdict(
    self,
    phase: str,
    step: int,
    prompt_id: str,
    index: int,
    verdict: types.Verdict,
  ) -> None:
    """Keeps a verdict. Raises: OSError, as `rollout` does."""
    key = Key(phase, int(step), prompt_id, int(index))
    self._append(key.step, entries.verdict_record(key, verdict))

  def flush(self) -> None:
    """Returns when a power cut loses nothing. Raises: OSError, one line."""
    self._check()
    self._store.sync()

  def forget(self, before_step: int) -> None:
    """Drops the entries of earlier steps, where they are kept and in `found`.

    Call it when a checkpoint of `before_step` is on disk. Raises: OSError.
    """
    self._check()
    _each(self._store.remove, [p for p in self._mine() if p.step < before_step])
    self.found = {k: e for k, e in self.found.items() if k.step >= before_step}

  def _append(self, step: int, record: bytes) -> None:
    self._check()
    if self._store.append(step, record):
      self._due.set()

  def _check(self) -> None:
    if self._store is None:
      raise ValueError(f'{self.folder}: used while its journal is not open')
    if self._failed is not None:
      raise self._failed

  def _write_through(self) -> None:
    store = self._store
    while True:
      self._due.wait(store.seconds)
      self._due.clear()
      if self._ended:
        return
      try:
        store.sync()
      except OSError as e:
        self._failed = e  # The next call raises it.
        return

  def _mine(self) -> list[stores.Place]:
    return [place for place in self._store.places() if self._owns(place)]

  def _owns(self, place: stores.Place) -> bool:
    return place.process % self._processes == self._process

  def _read(self) -> dict[Key, Entry]:
    """All entries, in the order of their places; takes notes, repairs."""
    found: dict[Key, Entry] = {}
    for place, content in self._everything():
      records, end, problem = entries.read(content, self._head)
      if problem:
        used = f'its first {len(records):,} records are used' if end else ''
        where = storage.join(self.folder, place.name)
        self.notes.append(f'{where}: {problem}: {used or "not used"}')
      if self._owns(place):
        self._store.settle(place, len(content), end)
      for key, value in records:
        entry = found.get(key, Entry())
        if isinstance(value, types.Verdict):
          found[key] = entry._replace(verdict=value)
        elif entry.rollout is None:
          found[key] = entry._replace(rollout=value)
    return found

  def _everything(self) -> Iterator[tuple[stores.Place, entries.Bytes]]:
    """What all processes read, in order; one step is in memory at a time."""
    mine = self._mine()
    steps = json.dumps(sorted({place.step for place in mine})).encode()
    every = [json.loads(bytes(each)) for each in self._gather(steps)]
    for step in sorted(set().union(*every)):
      here = [place for place in mine if place.step == step]
      every = self._gather(_packed(here, _each(self._store.read, here)))
      parts = [part for each in every for part in _unpacked(each)]
      yield from sorted(parts, key=lambda part: part[0])


def _each(
  call: Callable[[stores.Place], Any], places: Sequence[stores.Place]
) -> list[Any]:
  """The results of the calls; a bucket answers many at once."""
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    return list(pool.map(call, places))


def _packed(
  places: Sequence[stores.Place], contents: Sequence[bytes | None]
) -> bytes:
  """Those that are there, in one piece."""
  there = [(p, c) for p, c in zip(places, contents) if c is not None]
  table = json.dumps([[*place, len(content)] for place, content in there])
  parts = _LENGTH.pack(len(table)), table.encode(), *(c for _, c in there)
  return b''.join(parts)


def _unpacked(
  data: entries.Bytes,
) -> Iterator[tuple[stores.Place, memoryview]]:
  view = memoryview(data)
  start = _LENGTH.size + _LENGTH.unpack_from(view)[0]
  for *place, size in json.loads(bytes(view[_LENGTH.size : start])):
    yield stores.Place(*place), view[start : start + size]
    start += size
