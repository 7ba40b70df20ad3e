"""The file of rollouts that generate writes: one JSON line each, and a header.

A line is written when its rollout ends, so a process killed at any time loses
only the rollouts in its slots. At gs:// objects do not grow: there the file is
uploaded whole every minute or so, and at the end.
"""

import contextlib
import errno
import fcntl
import functools
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from acereason_jax import files, locks, outfile, storage, types
from acereason_jax.console import terminal
from acereason_jax.data import records
from acereason_jax.rollout import trace as trace_lib

# Seconds between two lines of progress if no bar can be drawn.
SECONDS_PER_LINE = 30.0
TIMELINE = '.timeline.jsonl'
_MAX_HEADER_BYTES = 16 << 20
_MAX_REMOTE_BYTES = 16 << 30
# Seconds between two uploads, which take at most this share of the time.
_SECONDS_PER_UPLOAD, _UPLOAD_SHARE = 60.0, 0.05


def _is_header(content: bytes) -> bool:
  """Whether bytes are the settings that a file of rollouts was made with."""
  try:
    found = json.loads(content)
  except (ValueError, RecursionError):
    return False
  return isinstance(found, dict) and {'n', 'seed', 'temperature'} <= set(found)


_HEADER = outfile.Kind(
  'the settings of rollouts', _is_header, _MAX_HEADER_BYTES
)
_EVENTS = outfile.Kind(
  'a timeline of rollouts', re.compile(rb'\{"slots": [0-9]+, "steps": ').match
)


def _rollouts(path: str) -> outfile.Kind:
  """The file at `path`, which is ours if its header is.

  Rollouts are compared with that header later. There are none if a kill came
  before the first one ended.
  """
  header = lambda: storage.start(f'{path}.json', _MAX_HEADER_BYTES) or b''
  return outfile.Kind(
    'a file of rollouts', lambda head: head or _is_header(header())
  )


class Output:
  """Context manager: the file of rollouts and, next to it, their settings.

  `where` is the path that was given, maybe at gs://; `path` is the file that is
  written here. `<path>.json` holds `settings`. `done` maps (id, index) of each
  rollout that the file has to its length in tokens. A torn last line is
  dropped. Only one process may write.

  Raises:
    ValueError: the file has other settings, or another program wrote it or one
      of those next to it.
    OSError: one line.
  """

  def __init__(self, path: str, settings: Mapping[str, Any]):
    self.where, self.path = str(path), pathlib.Path(path)
    self._remote = storage.is_remote(path)
    self._settings = dict(settings)
    self.done: dict[tuple[str, int], int] = {}

  def __enter__(self) -> 'Output':
    if self._remote and (self.where.endswith('/') or self.where.count('/') < 3):
      raise ValueError(f'{self.where}: a folder; give --out=gs://BUCKET/FILE')
    if not self._remote and files.is_stream(self.where):
      raise ValueError(f'{self.where}: not a file; give another --out')
    outfile.check('--out', self.where, _rollouts(self.where))
    outfile.check('--out', f'{self.where}{TIMELINE}', _EVENTS)
    with contextlib.ExitStack() as stack:
      if self._remote:
        say = functools.partial(terminal.say, to_stderr=True)
        stack.enter_context(locks.locked(f'{self.where}.lock', say))
        folder = stack.enter_context(files.scratch())
        self.path = pathlib.Path(folder, 'rollouts.jsonl')
        self._download()
      self._header = pathlib.Path(f'{self.path}.json')
      if not self.path.exists() or not self.path.stat().st_size:
        outfile.check('--out', f'{self.where}.json', _HEADER)
      self._file = self.path.open('a+b')
      # `write` has already reported a full disk.
      stack.callback(_close, self._file)
      self._open()
      self.upload()
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exc) -> None:
    self._stack.close()

  def _download(self) -> None:
    for tail in ('', '.json'):
      content = storage.read(f'{self.where}{tail}', _MAX_REMOTE_BYTES)
      if content is not None:
        pathlib.Path(f'{self.path}{tail}').write_bytes(content)

  def upload(self) -> None:
    """Puts what is written at gs://, if that was asked for. Raises: OSError."""
    if not self._remote:
      return
    began = time.monotonic()
    # The header comes first: without it nobody may go on from the file.
    for tail in ('.json', '', TIMELINE):
      if (file := pathlib.Path(f'{self.path}{tail}')).exists():
        storage.write(f'{self.where}{tail}', file.read_bytes())
    now = time.monotonic()
    wait = max(_SECONDS_PER_UPLOAD, (now - began) / _UPLOAD_SHARE)
    self._next_upload = now + wait

  def _open(self) -> None:
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise ValueError(f'{self.where}: another process writes it') from e
    # This check comes before any byte is dropped: the file may be a stranger's.
    if os.fstat(self._file.fileno()).st_size:
      self._check_same()
    self._file.seek(0)
    whole = 0
    for number, line in enumerate(self._file, 1):
      if not line.endswith(b'\n'):
        break  # A process killed while it wrote leaves half a line.
      whole += len(line)
      key, length = _done(f'{self.where}:{number}', line)
      self.done[key] = length
    self._file.truncate(whole)
    files.write_atomically(
      self._header, json.dumps(self._settings, indent=2) + '\n'
    )

  def _check_same(self) -> None:
    if not self._header.exists():
      raise ValueError(
        f'{self.where}: has no {self.where}.json that tells what made it; give '
        'another --out'
      )
    try:
      with records.opened(self._header, _MAX_HEADER_BYTES) as file:
        old = dict(json.loads(file.read()))
    except (ValueError, TypeError, RecursionError) as e:
      raise ValueError(f'{self.where}.json: not readable ({e})') from e
    if found := changed(old, self._settings):
      raise ValueError(
        f'{self.where}: holds rollouts of other settings: '
        f'{"; ".join(found)}; give another --out, or put them back'
      )

  def write(self, record: Mapping[str, Any]) -> None:
    """Raises OSError: the disk is full, or the file was deleted."""
    line = json.dumps(record, allow_nan=False) + '\n'
    if not os.fstat(self._file.fileno()).st_nlink:
      raise OSError(errno.ENOENT, 'it was deleted while it was written')
    self._file.write(line.encode())
    self._file.flush()
    if self._remote and time.monotonic() > self._next_upload:
      self.upload()
    self.done[record['id'], record['index']] = record['length']


def _close(file: IO[bytes]) -> None:
  with contextlib.suppress(OSError):
    file.close()


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """The settings that differ, each as 'name: before -> after'.

  Settings inside others have names with dots. `n` may be more than before.
  """
  before, after = flat(old), flat(new)
  return [
    f'{name}: {json.dumps(before.get(name))} -> {json.dumps(after.get(name))}'
    for name in sorted(before.keys() | after.keys())
    if before.get(name) != after.get(name)
    and not (
      name.rpartition('.')[2] == 'n'
      and _fewer(before.get(name), after.get(name))
    )
  ]


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings by dotted names, with those inside others."""
  return dict(_leaves('', settings))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
  if isinstance(value, Mapping) and value:
    for key, part in value.items():
      yield from _leaves(f'{name}.{key}' if name else key, part)
  else:
    yield name, value


def _fewer(old: Any, new: Any) -> bool:
  return type(old) is type(new) is int and old < new


def _done(where: str, line: bytes) -> tuple[tuple[str, int], int]:
  """((id, index), length) of a line of rollouts."""
  try:
    match json.loads(line):
      case {'id': str(name), 'index': int(index), 'length': int(length)}:
        return (name, index), length
  except (ValueError, RecursionError):
    pass
  raise ValueError(f'{where}: no rollout; give another --out, or fix it')


def to_record(rollout: types.Rollout, with_tokens: bool) -> dict[str, Any]:
  """The rollout as a line of the file.

  `logp` is the sum over the response's `length` tokens, natural log. With
  tokens, `tokens` holds their ids and `logps` the log-probability of each, as
  in `types.Rollout`. `forced` is as there too, and is omitted if it is empty.
  """
  record = dict(
    id=rollout.prompt_id,
    index=rollout.index,
    stop=rollout.stop,
    length=len(rollout.tokens),
    logp=float(rollout.logp.sum(dtype=np.float64)),
    text=rollout.text,
  )
  if rollout.detail:
    record['detail'] = rollout.detail
  if rollout.forced[0] < rollout.forced[1]:
    record['forced'] = [int(place) for place in rollout.forced]
  if with_tokens:
    # As text, a float32 has only the digits that it needs.
    logps = [float(x) for x in rollout.logp.astype(str)]
    record |= dict(tokens=rollout.tokens.tolist(), logps=logps)
  return record


def write_timeline(path: str | os.PathLike, trace: trace_lib.Trace) -> None:
  """Writes the events of a stream, for `acereason_jax.timeline`."""
  trace_lib.write_events(
    path,
    trace.events,
    slots=trace.slots,
    steps=trace.steps,
    tokens=trace.tokens,
    seconds=trace.seconds,
    occupancy=trace.metrics()['occupancy'],
    preempted=trace.preempted,
  )


@contextlib.contextmanager
def progress(
  total: int, done: int, trace: trace_lib.Trace
) -> Iterator[Callable[[], None]]:
  """Yields a function to call after each rollout.

  It draws a bar if stderr is a terminal; otherwise it writes a line now and
  then.
  """
  last = time.monotonic()

  def line() -> None:
    nonlocal done, last
    done += 1
    if time.monotonic() - last >= SECONDS_PER_LINE:
      last = time.monotonic()
      speed = f'{trace.tokens_per_second:.0f} tok/s'
      terminal.say(f'{done}/{total} rollouts  {speed}', to_stderr=True)

  with terminal.progress_bar(total, done=done) as advance:
    yield advance if sys.stderr.isatty() else line


def summary(trace: trace_lib.Trace) -> str:
  """One line on a stream that has ended."""
  return (
    f'{trace.tokens} tokens  '
    f'{trace.tokens_per_second:.0f} tok/s  '
    f'occupancy {trace.metrics()["occupancy"]:.2f}  '
    f'truncated {trace.truncated}  errors {trace.errors}  '
    f'preempted {trace.preempted}'
  )
