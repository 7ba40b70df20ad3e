"""A terminal: what is on its screen, and what has scrolled away above.

It knows what this project may send to a terminal, and refuses all else.
"""

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence

import tiny

GUARD = 600
_CODE = re.compile(r'\x1b\[([0-9;]*)([a-zA-Z])')


class Screen:
  """`rows` from the first line ever; each is [text, goes on below]."""

  def __init__(self, width: int, height: int):
    self.width, self.height = width, height
    self.rows, self.x, self.y = [['', False]], 0, 0

  def feed(self, text: str) -> None:
    while text:
      if text[0] == '\x1b':
        match = _CODE.match(text)
        assert match, f'a code that no terminal should get: {text[:20]!r}'
        self._code(match[2], match[1])
        text = text[match.end() :]
        continue
      self._character(text[0])
      text = text[1:]

  def lines(self) -> list[str]:
    """The lines as they were sent, those that the screen cut joined.

    Empty ones below the last are left out.
    """
    joined, open_ = [], False
    for text, goes_on in self.rows:
      if open_:
        joined[-1] += text
      else:
        joined.append(text)
      open_ = goes_on
    while joined and not joined[-1].strip():
      joined.pop()
    return [line.rstrip() for line in joined]

  def _character(self, c: str) -> None:
    if c == '\r':
      self.x = 0
    elif c == '\n':
      self._down()
    else:
      assert c.isprintable(), f'{c!r} on a terminal'
      if self.x == self.width:
        self.rows[self.y][1] = True
        self.x = 0
        self._down()
      row = self.rows[self.y]
      row[0] = row[0].ljust(self.x)[: self.x] + c + row[0][self.x + 1 :]
      self.x += 1

  def _down(self) -> None:
    self.y += 1
    if self.y == len(self.rows):
      self.rows.append(['', False])

  def _code(self, name: str, numbers: str) -> None:
    if name == 'A':
      top = max(0, len(self.rows) - self.height)
      self.y = max(top, self.y - int(numbers or 1))
    elif name == 'K' and numbers == '2':
      self.rows[self.y] = ['', False]
    else:
      assert name == 'm', f'a code that this project does not send: {name!r}'


class Terminal:
  """A command in a terminal of its own, which controls it.

  `sent` are the bytes that it sent so far. `stdout` is a file that takes its
  standard output instead.
  """

  def __init__(
    self,
    arguments: Sequence[str],
    env: dict[str, str],
    *,
    width: int = 100,
    height: int = 40,
    stdout: int | None = None,
    head: str = '',
  ):
    self.master, slave = pty.openpty()
    self.resize(width, height)
    # A child that has the terminal before the command begins.
    code = (
      'import fcntl, os, sys, termios\n'
      'fcntl.ioctl(2, termios.TIOCSCTTY, 0)\n'
      f'{head}\n'
      'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n'
    )
    self.process = subprocess.Popen(
      [sys.executable, '-c', code, *map(str, arguments)],
      stdin=slave,
      stdout=slave if stdout is None else stdout,
      stderr=slave,
      start_new_session=True,
      env=env,
    )
    os.close(slave)
    self.sent = b''
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()

  def resize(self, width: int, height: int) -> None:
    size = struct.pack('HHHH', height, width, 0, 0)
    fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

  def wait_for(self, text: str) -> None:
    while text.encode() not in self.sent:
      assert self._read(), f'ended without {text!r}:\n{self.sent[-3000:]!r}'

  def sent_until(self, pattern: str) -> str:
    """What it sent up to the end of the first match of a pattern."""
    while not (match := re.search(pattern, self.sent.decode(errors='ignore'))):
      assert self._read(), f'ended without {pattern!r}:\n{self.sent[-3000:]!r}'
    return match.string[: match.end()]

  def press(self, keys: bytes) -> None:
    os.write(self.master, keys)

  def close(self) -> None:
    """The user closes it."""
    os.close(self.master)

  def ends(self, status: int) -> str:
    """All that it sent; it ends with this status."""
    while self._read():
      pass
    return self.ended(status)

  def ended(self, status: int) -> str:
    got = self.process.wait(timeout=GUARD)
    self._guard.cancel()
    text = self.sent.decode()
    assert got == status, f'exit status {got}:\n{text}'
    assert 'Traceback' not in text
    return text

  def _read(self) -> bool:
    try:
      found = os.read(self.master, 1 << 16)
    except OSError as e:
      assert e.errno == errno.EIO
      return False
    self.sent += found
    return bool(found)


def environment(**more: str) -> dict[str, str]:
  """For a command in a terminal; the tests' own terminal tells it nothing."""
  names = 'NO_COLOR', 'FORCE_COLOR', 'COLUMNS', 'LINES', 'TTY_INTERACTIVE'
  kept = {k: v for k, v in os.environ.items() if k not in names}
  paths = [str(tiny.TESTS), str(tiny.TESTS.parent)]
  path = os.pathsep.join([*paths, os.environ.get('PYTHONPATH', '')])
  base = dict(TERM='xterm-256color', LC_ALL='C.UTF-8', PYTHONPATH=path)
  return kept | base | more
