"""The folder of an evaluation: its settings, rollouts and verdicts.

    settings.json               everything that the rollouts depend on
    samples/<process>.jsonl     a line for each rollout, when it ends
    verdicts/<judge>/<process>.jsonl
                                a line for each verdict; those of a round that
                                is over count no more: see settings.py

They are plain JSON lines: a kill leaves at most half a line at the end, which
the next start drops, and any tool can read them while they grow. A rollout of
1 MB in a compressed frame of its own would save little disk, and frames of many
rollouts would lose them.

A problem belongs to one process, by the digest of its id. That process writes
and judges all of its rollouts. So a folder that all processes share may go on
with another number of processes.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from acereason_jax import storage, types
from acereason_jax.data import records
from acereason_jax.evaluation import settings

# A rollout of 32K tokens takes 1 MB with its tokens and their logps.
_MAX_LINE_BYTES = 64 << 20
_REASON_CHARS = 80
_FILE = re.compile(r'(\d+)\.jsonl')
_STATUSES = types.STATUSES


class Key(NamedTuple):
  """A rollout's name.

  benchmark: name of its benchmark.
  id: id of its problem, without the benchmark's name.
  index: index among the problem's rollouts.
  """

  benchmark: str
  id: str
  index: int


class Kept(NamedTuple):
  """What is kept in memory of a rollout on the disk.

  length: tokens of the response.
  stop: 'stop', 'length' or 'error'.
  file, offset: where its line is; '' if another process has it.
  """

  length: int
  stop: str
  file: str = ''
  offset: int = 0


class Found(NamedTuple):
  """A verdict.

  status: its status; one that judged replaces one that failed.
  failed: number of verdicts on this rollout that failed.
  reason: why it holds no answer, cut; '' for other statuses.
  """

  status: types.Status
  failed: int
  reason: str = ''


class Store:
  """Context manager: the folder, open for one process of an evaluation.

  The settings `new`, if they are given, are merged with those of the folder
  and written. That happens while no other evaluation can write the folder: it
  may have changed since the caller has read it.

  settings: those of the folder; None if it has none and none are given.
  own: rollouts of this process's problems, of this start and of earlier ones.
  verdicts: verdicts on them, by judge.
  judge_seconds: sum of the verdicts' running times.

  Raises:
    ValueError: one line; the folder is not that of an evaluation, another
      process writes it, or a line is damaged.
    OSError: one line.
  """

  def __init__(
    self,
    folder: str,
    judges: Iterable[str],
    process: int = 0,
    processes: int = 1,
    new: Mapping[str, Any] | None = None,
    writes: bool = True,
  ):
    self.folder = folder_at(folder)
    self.own: dict[Key, Kept] = {}
    self.verdicts: dict[str, dict[Key, Found]] = {j: {} for j in judges}
    self.judge_seconds = 0.0
    self.settings: Mapping[str, Any] | None = None
    self._process, self._processes = process, processes
    self._new, self._writes = new, writes
    self._name = f'{process}.jsonl'
    self._out: dict[str, IO[bytes]] = {}

  def __enter__(self) -> 'Store':
    with contextlib.ExitStack() as stack:
      if self._writes:
        stack.callback(self._close)
        self._lock('samples')
      # Before any rollout, so that there are none that nothing describes.
      self._read_settings()
      if self._writes:
        for judge in self.verdicts:
          self._lock(f'verdicts/{judge}')
        for file in self._out.values():
          file.truncate(_whole_bytes(file))
      self._read_samples()
      self._read_verdicts()
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exc: object) -> None:
    self._stack.close()

  def is_mine(self, benchmark: str, problem: str) -> bool:
    """Whether this process writes and judges the rollouts of a problem."""
    name = f'{benchmark}/{problem}'.encode(errors='surrogatepass')
    digest = hashlib.sha256(name).digest()
    return int.from_bytes(digest[:8]) % self._processes == self._process

  def write_sample(self, key: Key, record: Mapping[str, Any]) -> None:
    """Keeps a rollout, as `output.to_record` gives it.

    Raises:
      OSError: the disk is full, or the file was deleted.
    """
    offset = self._write('samples', key._asdict() | record | key._asdict())
    path = os.path.join('samples', self._name)
    self.own[key] = Kept(record['length'], record['stop'], path, offset)

  def write_verdict(self, judge: str, key: Key, verdict: types.Verdict) -> None:
    """Keeps a verdict. Raises OSError, as `write_sample` does."""
    record = dict(
      key._asdict(),
      status=verdict.status,
      detail=verdict.detail,
      seconds=round(verdict.seconds, 4),
    )
    if number := self._round(judge, key.benchmark):
      record['round'] = number
    self._write(f'verdicts/{judge}', record)
    reason = _reason(verdict.status, verdict.detail)
    self._learn(judge, key, verdict.status, verdict.seconds, reason)

  def text(self, key: Key) -> str:
    """The text of one of `own`."""
    kept = self.own[key]
    with records.opened(self.folder / kept.file, None) as file:
      file.seek(kept.offset)
      line = file.readline(_MAX_LINE_BYTES)
    return str(json.loads(line)['text'])

  def change(self, new: Mapping[str, Any]) -> None:
    """Replaces the settings; forgets verdicts of rounds that are over then.

    Raises:
      ValueError, OSError: one line.
    """
    settings.write(self.folder, new)
    self.settings = new
    self.verdicts = {judge: {} for judge in self.verdicts}
    self.judge_seconds = 0.0
    self._read_verdicts()

  def _round(self, judge: str, benchmark: str) -> int:
    return settings.round_of(self.settings, benchmark, judge)

  def _lock(self, part: str) -> None:
    """Opens this process's file of a part, for no other to write it."""
    path = self.folder / part / self._name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = self._out[part] = path.open('a+b')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise ValueError(f'{path}: another process writes it') from e

  def _close(self) -> None:
    for file in self._out.values():
      # `_write` has already reported a full disk.
      with contextlib.suppress(OSError):
        file.close()

  def _write(self, part: str, record: Mapping[str, Any]) -> int:
    """Adds a line; returns its offset."""
    file = self._out[part]
    if not os.fstat(file.fileno()).st_nlink:
      raise OSError(errno.ENOENT, 'it was deleted while it was written', part)
    offset = file.seek(0, os.SEEK_END)
    try:
      file.write(json.dumps(record, allow_nan=False).encode() + b'\n')
      file.flush()
    except OSError as e:
      e.filename = file.name  # That of a full disk has none.
      raise
    return offset

  def _read_settings(self) -> None:
    old = settings.read(self.folder)
    if self._new is None:
      self.settings = old
      return
    self.settings = settings.merged(self.folder, old, self._new)
    if self._writes and self.settings != old:
      settings.write(self.folder, self.settings)

  def _read_samples(self) -> None:
    for path in _files(self.folder / 'samples'):
      place = os.path.join('samples', path.name)
      for offset, record, _ in _lines(path):
        key, kept = _sample(f'{path}', record)
        if self.is_mine(*key[:2]):
          self.own.setdefault(key, kept._replace(file=place, offset=offset))

  def _read_verdicts(self) -> None:
    for judge in self.verdicts:
      for path in _files(self.folder / 'verdicts' / judge):
        for _, record, _ in _lines(path):
          key, *verdict = _verdict(f'{path}', record)
          current = self._round(judge, key.benchmark)
          if record.get('round', 0) == current and self.is_mine(*key[:2]):
            self._learn(judge, key, *verdict)

  def _learn(
    self,
    judge: str,
    key: Key,
    status: types.Status,
    seconds: float,
    reason: str,
  ) -> None:
    before = self.verdicts[judge].get(key)
    failed = status in ('timeout', 'error')
    count = (before.failed if before else 0) + failed
    if before and before.status not in ('timeout', 'error'):
      status, reason = before.status, before.reason
    self.verdicts[judge][key] = Found(status, count, reason)
    self.judge_seconds += seconds


def folder_at(path: str, flag: str = '--out') -> pathlib.Path:
  """Raises ValueError, one line, for a path in a bucket."""
  if storage.is_remote(path):
    raise ValueError(
      f'{flag}={path}: rollouts are added to files, and objects at gs:// do '
      'not grow; give a folder of a disk, and copy it when all is done'
    )
  return pathlib.Path(path)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of all processes, in their order."""
  if not folder.is_dir():
    return []
  found = [p for p in folder.iterdir() if _FILE.fullmatch(p.name)]
  return sorted(found, key=lambda p: int(p.stem))


def _whole_bytes(file: IO[bytes]) -> int:
  """Bytes up to the end of the last whole line."""
  end = file.seek(0, os.SEEK_END)
  step = 1 << 16
  while end:
    start = max(end - step, 0)
    file.seek(start)
    place = file.read(end - start).rfind(b'\n')
    if place >= 0:
      return start + place + 1
    end = start
  return 0


def _lines(
  path: pathlib.Path,
) -> Iterator[tuple[int, dict[str, Any], bytes]]:
  """(offset, object, bytes) of each whole line."""
  with records.opened(path, None) as file:
    offset, number = 0, 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
      number += 1
      if not line.endswith(b'\n'):
        if len(line) > _MAX_LINE_BYTES:
          raise ValueError(f'{path}:{number}: longer than {_MAX_LINE_BYTES}')
        return
      try:
        record = json.loads(line)
      except (ValueError, RecursionError):
        record = None
      if not isinstance(record, dict):
        raise ValueError(
          f'{path}:{number}: not one JSON object; remove the line'
        )
      yield offset, record, line
      offset += len(line)


def _sample(where: str, record: Mapping[str, Any]) -> tuple[Key, Kept]:
  match record:
    case {
      'benchmark': str(benchmark),
      'id': str(name),
      'index': int(index),
      'length': int(length),
      'stop': 'stop' | 'length' | 'error' as stop,
      'text': str(),
    } if _is_count(index) and _is_count(length):
      return Key(benchmark, name, index), Kept(length, stop)
  raise ValueError(f'{where}: holds a line that is no rollout; remove it')


def _verdict(
  where: str, record: Mapping[str, Any]
) -> tuple[Key, types.Status, float, str]:
  match record:
    case {
      'benchmark': str(benchmark),
      'id': str(name),
      'index': int(index),
      'status': str(status),
      'seconds': float() | int() as seconds,
    } if status in _STATUSES and _is_count(index) and 0 <= seconds < math.inf:
      reason = _reason(status, str(record.get('detail', '')))
      return Key(benchmark, name, index), status, float(seconds), reason
  raise ValueError(f'{where}: holds a line that is no verdict; remove it')


def _reason(status: str, detail: str) -> str:
  """What is kept in memory of a verdict's detail; most are equal."""
  return sys.intern(detail[:_REASON_CHARS]) if status == 'unparsed' else ''


def _is_count(number: int) -> bool:
  return type(number) is int and 0 <= number < 1 << 53
