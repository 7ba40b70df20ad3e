"""What was costly to learn, on the disk: nothing is asked for twice.

    state/<kind>/<writer>.jsonl    a line for each result, when it is known

A result is found by the SHA-256 of everything that it depends on, never by a
row's id. So a rule that changes a text costs only the verdicts on that text. A
file is only added to: a kill leaves at most half a line at its end, which its
writer's next start drops.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

from acereason_jax.data import records

# Programs' outputs are among the results.
_MAX_LINE_BYTES = 64 << 20
_KIND = re.compile(r'[a-z0-9][a-z0-9_-]{0,39}')
_FILE = re.compile(r'[a-z0-9_-]{1,40}\.jsonl')
_BLOCK = 1 << 16


def key_of(*parts: Any) -> str:
  """The SHA-256 of JSON values."""
  text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
  return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def held(folder: str | os.PathLike, name: str) -> Iterator[None]:
  """Holds the name in a folder, which the kernel drops if the process dies.

  Raises:
    ValueError: one line; another process holds it.
    OSError: one line.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / f'{name}.lock').open('a') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise ValueError(
        f'{folder}: another process curates into this folder; wait for it, or '
        'choose another config.out'
      ) from e
    yield


class State:
  """Context manager: the results in a folder.

  `writer` is the name of this process's files. Processes of different names may
  write at once; each finds what the others wrote before it began.

  Raises:
    ValueError: one line; another process has this name, or a line is damaged.
    OSError: one line.
  """

  def __init__(self, folder: str | os.PathLike, writer: str = 'main'):
    self._folder = pathlib.Path(folder)
    self._file = f'{writer}.jsonl'
    self._out: dict[str, IO[bytes]] = {}
    self._known: dict[str, dict[bytes, Any]] = {}
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> 'State':
    self._stack.enter_context(held(self._folder, self._file))
    return self

  def __exit__(self, *exc: object) -> None:
    # A full disk has been reported where it was written.
    for each in self._out.values():
      with contextlib.suppress(OSError):
        each.close()
    self._stack.close()

  def get(self, kind: str, key: str) -> Any:
    """The result, None if there is none."""
    return self._of(kind).get(bytes.fromhex(key))

  def put(self, kind: str, key: str, value: Any) -> None:
    """Keeps a result, a JSON value that is not null.

    Raises:
      OSError: naming the file.
    """
    known = self._of(kind)
    line = json.dumps(dict(key=key, value=value), allow_nan=False)
    out = self._out[kind]
    try:
      out.write(line.encode() + b'\n')
      out.flush()
    except OSError as e:
      # The error for a full disk has no file name.
      e.filename = os.fspath(self._folder / kind / self._file)
      raise
    known[bytes.fromhex(key)] = json.loads(line)['value']

  def remember(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
    """What `make()` gave for this kind and key; it is called once."""
    digest = key_of(kind, key)
    found = self.get(kind, digest)
    if found is None:
      # As JSON gives it back, so that a repeat gives the same.
      self.put(kind, digest, [make()])
      found = self.get(kind, digest)
    return found[0]

  def _of(self, kind: str) -> dict[bytes, Any]:
    if kind not in self._known:
      if not _KIND.fullmatch(kind):
        raise ValueError(
          f'kind {kind!r:.60}: give at most 40 small letters, digits, _ and -'
        )
      folder = self._folder / kind
      folder.mkdir(exist_ok=True)
      self._out[kind] = out = (folder / self._file).open('a+b')
      out.truncate(_whole_bytes(out))
      known = self._known[kind] = {}
      for path in sorted(folder.iterdir()):
        if _FILE.fullmatch(path.name):
          known.update(_lines(path))
    return self._known[kind]


def _whole_bytes(file: IO[bytes]) -> int:
  """Bytes up to the end of the last whole line."""
  end = file.seek(0, os.SEEK_END)
  while end:
    start = max(end - _BLOCK, 0)
    file.seek(start)
    place = file.read(end - start).rfind(b'\n')
    if place >= 0:
      return start + place + 1
    end = start
  return 0


def _lines(path: pathlib.Path) -> Iterator[tuple[bytes, Any]]:
  """(key, value) of each whole line."""
  with records.opened(path, None) as file:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
      number += 1
      if not line.endswith(b'\n') and len(line) <= _MAX_LINE_BYTES:
        return  # Another process writes it, or was killed.
      try:
        match json.loads(line):
          case {'key': str(key), 'value': value} if value is not None:
            yield bytes.fromhex(key), value
            continue
      except (ValueError, RecursionError):
        pass
      raise ValueError(f'{path}:{number}: holds no result; remove the line')
