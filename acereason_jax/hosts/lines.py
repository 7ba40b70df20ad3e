"""Connections between the processes of a run: a line of JSON is a message.

Anyone on the network may connect: a message is bounded, has one kind of a few,
and what it holds is only compared or printed, escaped.
"""

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterable
from multiprocessing import connection
from typing import Any, NamedTuple

# A message of a process that has joined: the facts of a run are about 30 KB.
MOST_BYTES = 4 << 20
# A message of one that has not: it only says who it is.
MOST_HELLO_BYTES = 4096
_SEND_SECONDS = 30.0


class Address(NamedTuple):
  """Where process 0 listens; as text 'host:port', an IPv6 host in brackets.

  host: a name, or a number without brackets.
  port: number of the port.
  """

  host: str
  port: int

  def __str__(self) -> str:
    host = f'[{self.host}]' if ':' in self.host else self.host
    return f'{host}:{self.port}'


def address(text: str, field: str) -> Address:
  """The address that a text names; ValueError, one line, names `field`."""
  host, _, port = text.rpartition(':')
  bracketed = host.startswith('[') and host.endswith(']')
  host = host[1:-1] if bracketed else host
  if not host or (':' in host) != bracketed or set(host) & set('[]/ '):
    raise ValueError(f'{field}={text!r}: expected host:port of process 0')
  if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
    raise ValueError(f'{field}={text!r}: {port!r} is no port of 1 to 65535')
  return Address(host, int(port))


class Closed(Exception):
  """A connection is over; says how."""


class Line:
  """One connection. `heard` is when its last message came, monotonic seconds.

  Threads may send at once; one receives.
  """

  def __init__(
    self, stream: socket.socket, most_bytes: int = MOST_BYTES
  ) -> None:
    stream.settimeout(_SEND_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self._socket, self._lock = stream, threading.Lock()
    self._got, self._over = b'', ''
    self._back: list[dict[str, Any]] = []
    self.most_bytes = most_bytes
    self.heard = time.monotonic()

  def fileno(self) -> int:
    return self._socket.fileno()

  def send(self, kind: str, **values: Any) -> None:
    """Raises Closed."""
    line = json.dumps(dict(values, kind=kind)).encode() + b'\n'
    try:
      with self._lock:
        self._socket.sendall(line)
    except OSError as e:
      raise Closed(f'its connection ended: {e.strerror or e}') from e

  def receive(self) -> list[dict[str, Any]]:
    """The messages that have come. Raises Closed once there are no more."""
    if self._back:
      messages, self._back = self._back, []
      return messages
    if self._over:
      raise Closed(self._over)
    try:
      self._got += self._part()
      *lines, self._got = self._got.split(b'\n')
      if max(map(len, (*lines, self._got))) > self.most_bytes:
        raise Closed(f'it sent a line of more than {self.most_bytes} bytes')
      messages = [_message(line) for line in lines]
    except Closed as e:
      self._over = str(e)
      raise
    if messages:
      self.heard = time.monotonic()
    return messages

  def put_back(self, messages: list[dict[str, Any]]) -> None:
    """Makes the next `receive` return these, received but not yet heard."""
    self._back = messages

  def _part(self) -> bytes:
    try:
      part = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
    except (BlockingIOError, TimeoutError):
      return b''
    except OSError as e:
      raise Closed(f'its connection ended: {e.strerror or e}') from e
    if not part:
      raise Closed('its connection ended')
    return part

  def finish(self) -> None:
    """Says that nothing more is sent; what was sent still arrives."""
    with contextlib.suppress(OSError):
      self._socket.shutdown(socket.SHUT_WR)

  def close(self) -> None:
    self._socket.close()


def _message(line: bytes) -> dict[str, Any]:
  try:
    match json.loads(line):
      case {'kind': str()} as message:
        return message
  except (ValueError, RecursionError):
    pass
  raise Closed('it sent a line that is no message')


def drain(lines: Iterable[Line], seconds: float) -> None:
  """Finishes lines, and waits until the others have read what was sent.

  A connection that is closed with something unread in it loses what is on its
  way to the other side.
  """
  lines, until = list(lines), time.monotonic() + seconds
  for line in lines:
    line.finish()
  while lines and (left := until - time.monotonic()) > 0:
    for line in connection.wait(lines, left):
      try:
        line.receive()
      except Closed:
        lines.remove(line)


def connect(to: Address, seconds: float) -> Line:
  """Raises OSError."""
  return Line(socket.create_connection(to, timeout=seconds))


def listen(at: Address) -> socket.socket:
  """Listens at an address of this machine, and at no other of its addresses.

  A name that this machine alone knows as itself, as /etc/hosts of Debian has
  it, leads the others here by another address: then it listens at all.

  Raises:
    socket.gaierror: in one line, if its name is not known.
    OSError: in one line, if there is no such address here or its port is taken.
  """
  try:
    found = socket.getaddrinfo(*at, type=socket.SOCK_STREAM)
  except socket.gaierror as e:
    raise socket.gaierror(f'{at}: {e.strerror or e}') from e
  loops = all(where[0].startswith(('127.', '::1')) for *_, where in found)
  named = at.host != 'localhost' and at.host not in {w[0] for *_, w in found}
  try:
    if loops and named:
      both = socket.has_dualstack_ipv6()
      family = socket.AF_INET6 if both else socket.AF_INET
      return socket.create_server(
        ('', at.port), family=family, dualstack_ipv6=both
      )
    family, *_, where = found[0]
    return socket.create_server(where, family=family)
  except OSError as e:
    raise OSError(f'{at}: {_trouble(e, at)}') from e


def _trouble(error: OSError, at: Address) -> str:
  if error.errno == errno.EADDRINUSE:
    return (
      'another process listens there, maybe one of an earlier start of this '
      f"run (`ss -ltnp 'sport = :{at.port}'` names it); end it, or give "
      'another port'
    )
  if error.errno == errno.EADDRNOTAVAIL:
    return (
      f'is no address of this machine, {socket.gethostname()}; process 0 must '
      'run where --coordinator says'
    )
  return error.strerror or str(error)


def spare(listener: socket.socket) -> Address:
  """The address of the next port beside a listener's, or of any free one."""
  host, port, *_ = listener.getsockname()
  for wanted in (port + 1, 0):
    try:
      with socket.create_server((host, wanted), family=listener.family) as s:
        return Address(host, s.getsockname()[1])
    except (OSError, OverflowError):
      continue
  raise OSError(f'{host}: has no free port')
