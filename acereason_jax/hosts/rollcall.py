"""The roll call: all processes of a run meet at process 0 before it starts.

Process 0 waits for the others and says who is missing; each of them tries to
reach it and says if it cannot. Whoever else connects is not heard.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection
from typing import Any, NamedTuple

from acereason_jax.console import terminal
from acereason_jax.hosts import lines
from acereason_jax.hosts.ids import Ids

# Both sides must speak alike; other versions of this program may not.
PROTOCOL = 'acereason_jax 1'
BEAT_SECONDS = 2.0
_FIRST_NOTE_SECONDS = 5.0
_NOTE_SECONDS = 30.0
# One that connects must say who it is within this time.
_HELLO_SECONDS = 10.0
_MOST_STRANGERS = 256
_CONNECT_SECONDS = 5.0
# Process 0 says every two seconds that it still waits.
_SILENT_SECONDS = 30.0
_RETRY_SECONDS = 0.5

Say = Callable[[str], None]


class Who(NamedTuple):
  """A process, as it calls itself.

  process: its index.
  processes: the number of processes that it expects.
  host: the name of its machine.
  pid: its number there.
  """

  process: int
  processes: int
  host: str
  pid: int

  def __str__(self) -> str:
    return f'process {self.process} on {self.host}'


def me(ids: Ids) -> Who:
  return Who(ids.process, ids.processes, socket.gethostname(), os.getpid())


class Peer:
  """Another process: its connection, and what it last said of itself."""

  def __init__(self, who: Who, line: lines.Line) -> None:
    self.who, self.line = who, line
    self.status = ''
    # It said that it ends: its silence is no loss.
    self.left = False

  def fileno(self) -> int:
    return self.line.fileno()


class Start(NamedTuple):
  """What process 0 tells all when all are there.

  hosts: the name of each process's machine.
  service: where jax's own service is to be.
  word: drawn by process 0 for this start of the run.
  """

  hosts: tuple[str, ...]
  service: lines.Address
  word: str


class Refused(Exception):
  """The run cannot start, for a reason in one line."""


class Door:
  """Where processes come in: the port, and who has not said its name yet."""

  def __init__(self, listener: socket.socket) -> None:
    listener.setblocking(False)
    self._listener = listener
    self._strangers: dict[lines.Line, float] = {}

  def waited_for(self) -> list[Any]:
    """What `select` should wait for."""
    return [self._listener, *self._strangers]

  def come_in(self, ready: list[Any]) -> list[Peer]:
    """Those who have said their names; others that were too slow are gone."""
    now = time.monotonic()
    if self._listener in ready:
      self._accept(now)
    named = []
    for line, until in list(self._strangers.items()):
      try:
        messages = line.receive() if line in ready else []
        if not messages and now < until:
          continue
        if messages and (who := _who(messages[0])):
          line.most_bytes = lines.MOST_BYTES
          named.append(Peer(who, line))
        else:
          line.close()
      except lines.Closed:
        line.close()
      del self._strangers[line]
    return named

  def _accept(self, now: float) -> None:
    try:
      found, _ = self._listener.accept()
    except OSError:
      return  # It has gone already, or there are too many open files.
    line = lines.Line(found, lines.MOST_HELLO_BYTES)
    self._strangers[line] = now + _HELLO_SECONDS
    if len(self._strangers) > _MOST_STRANGERS:
      oldest = next(iter(self._strangers))
      del self._strangers[oldest]
      oldest.close()


def _who(hello: Mapping[str, Any]) -> Who | None:
  match hello:
    case {
      'kind': 'hello',
      'protocol': str(protocol),
      'process': int(process),
      'processes': int(processes),
      'host': str(host),
      'pid': int(pid),
    } if protocol == PROTOCOL and process >= 0:
      return Who(process, processes, printable(host), pid)
  return None


def printable(text: str) -> str:
  """Another process's text, in one short line."""
  return terminal.one_line(text, 600)


class Notes:
  """Says how long one waits: after 5 seconds, then every 30."""

  def __init__(self, seconds: float) -> None:
    self.seconds = seconds
    self._began = time.monotonic()
    self._next = self._began + _FIRST_NOTE_SECONDS
    self._until = self._began + seconds

  def left(self) -> float:
    return self._until - time.monotonic()

  def note(self, text: str, say: Say = terminal.say) -> None:
    if (now := time.monotonic()) >= self._next:
      self._next = now + _NOTE_SECONDS
      say(f'{text} ({max(0, self.left()):.0f} s left)')


# --- process 0 --------------------------------------------------------------


def open_door(at: lines.Address, notes: Notes) -> socket.socket:
  """Listens at an address; waits for its name to be known.

  A cluster may tell a host its own name only some time after it has started.

  Raises:
    OSError: one line.
  """
  while True:
    try:
      return lines.listen(at)
    except socket.gaierror as e:
      if notes.left() <= 0:
        raise
      notes.note(f'process 0: cannot look up {e}')
      time.sleep(_RETRY_SECONDS)


def call(
  door: Door, at: lines.Address, own: Who, notes: Notes
) -> dict[int, Peer]:
  """Waits for the other processes; returns them by index.

  Raises:
    Refused: they cannot become one run, or not all came. All who came are told.
  """
  peers: dict[int, Peer] = {}

  def tell(text: str) -> None:
    terminal.say(text)
    broadcast(peers.values(), 'note', text=text)

  beat = 0.0
  try:
    while len(peers) < own.processes - 1:
      missing = missing_of(own.processes, peers)
      if notes.left() <= 0:
        raise Refused(
          f'error: {missing} of {own.processes} did not come to {at} within '
          f'{notes.seconds:g} s; look at their output, or raise --join_seconds'
        )
      notes.note(f'waiting for {missing} of {own.processes} at {at}', tell)
      wait = [*door.waited_for(), *peers.values()]
      ready = connection.wait(wait, _RETRY_SECONDS)
      hear(peers, ready)
      for peer in door.come_in(ready):
        admit(peer, peers, own)
      if time.monotonic() - beat > BEAT_SECONDS:
        beat = time.monotonic()
        broadcast(peers.values(), 'beat', status='')
  except BaseException as e:
    text = str(e) if isinstance(e, Refused) else f'error: {own} was stopped'
    broadcast(peers.values(), 'end', text=text, code=1)
    lines.drain([p.line for p in peers.values()], 3.0)
    raise
  return peers


def missing_of(processes: int, peers: Mapping[int, Peer]) -> str:
  """'process 2', 'processes 1, 3'; of many only the first."""
  missing = [i for i in range(1, processes) if i not in peers]
  shown = ', '.join(map(str, missing[:16]))
  more = f' and {len(missing) - 16} more' if len(missing) > 16 else ''
  return f'process{"es" if len(missing) > 1 else ""} {shown}{more}'


def hear(peers: dict[int, Peer], ready: list[Any]) -> None:
  """Forgets those whose connection ended: they may come again."""
  for peer in [p for p in peers.values() if p in ready]:
    try:
      peer.line.receive()
    except lines.Closed:
      del peers[peer.who.process]
      peer.line.close()


def admit(peer: Peer, peers: dict[int, Peer], own: Who) -> None:
  """Adds a process to those who came. Raises Refused, after telling it."""
  who = peer.who
  earlier = own if who.process == own.process else None
  if who.process in peers:
    before = peers[who.process]
    # Its machine may have died, and started it anew.
    if time.monotonic() - before.line.heard < 5 * BEAT_SECONDS:
      earlier = before.who
    else:
      before.line.close()
  if who.processes != own.processes:
    reason = (
      f'error: --processes={own.processes} on {own.host} (process 0), '
      f'{who.processes} on {who.host} (process {who.process}); give the same '
      'to all'
    )
  elif earlier:
    reason = (
      f'error: two processes say that they are process {who.process}: pid '
      f'{earlier.pid} on {earlier.host} and pid {who.pid} on {who.host}; give '
      'each its own --process'
    )
  elif who.process >= own.processes:
    reason = f'error: {who}: --processes={own.processes} leaves no such index'
  else:
    peers[who.process] = peer
    return
  refuse(peer, reason)
  raise Refused(reason)


def refuse(peer: Peer, reason: str) -> None:
  """Ends a process that has come, but is not one of this run."""
  broadcast([peer], 'end', text=reason, code=1)
  peer.line.finish()


def broadcast(peers: Any, kind: str, **values: Any) -> None:
  """Sends to all; a connection that has ended is noticed where it is read."""
  for peer in list(peers):
    try:
      peer.line.send(kind, **values)
    except lines.Closed:
      continue


# --- the others -------------------------------------------------------------


def answer(at: lines.Address, own: Who, notes: Notes) -> tuple[Peer, Start]:
  """Joins process 0; returns it and what it says when all are there.

  Raises:
    Refused: it cannot be reached, or refuses.
  """
  trouble = 'no answer'
  while True:
    try:
      with contextlib.ExitStack() as stack:
        line = lines.connect(at, _CONNECT_SECONDS)
        stack.callback(line.close)
        trouble = 'it does not answer'
        if start := wait_for_start(line, own, notes, at):
          stack.pop_all()
          return Peer(Who(0, own.processes, start.hosts[0], 0), line), start
    except (lines.Closed, OSError) as e:
      trouble = _trouble(e)
    if notes.left() <= 0:
      break
    notes.note(
      f'process {own.process} of {own.processes}: cannot reach process 0 at '
      f'{at} ({trouble}), trying on'
    )
    time.sleep(_RETRY_SECONDS)
  raise Refused(
    f'error: {own}: could not join process 0 at {at} within '
    f'{notes.seconds:g} s ({trouble}); look at its output, and whether a '
    'firewall closes the port'
  )


def _trouble(error: Exception) -> str:
  if isinstance(error, TimeoutError):
    return 'no answer'
  if isinstance(error, OSError):
    return error.strerror or str(error)
  return str(error)


def wait_for_start(
  line: lines.Line, own: Who, notes: Notes, at: lines.Address
) -> Start | None:
  """None if the time is over. Raises lines.Closed, OSError, Refused.

  Once process 0 answers, its clock counts: it may have begun later, and it
  tells all who is missing.
  """
  line.send('hello', protocol=PROTOCOL, **own._asdict())
  beat = time.monotonic()
  joined = False
  while notes.left() > 0 or (
    joined and time.monotonic() - line.heard < _SILENT_SECONDS
  ):
    ready = connection.wait([line], _RETRY_SECONDS)
    messages = line.receive() if ready else []
    while messages:
      message, *messages = messages
      joined = True
      match message:
        case {'kind': 'end', 'text': str(text)}:
          raise Refused(printable(text))
        case {'kind': 'note', 'text': str(text)}:
          terminal.say(printable(text))
        case {'kind': 'start'}:
          line.put_back(messages)
          return start_of(message, own.processes)
    if not joined:
      notes.note(f'{own}: process 0 at {at} does not answer')
    if time.monotonic() - beat > BEAT_SECONDS:
      beat = time.monotonic()
      line.send('beat', status='')
  return None


def start_of(message: Mapping[str, Any], processes: int) -> Start:
  """Raises lines.Closed for what process 0 never says."""
  match message:
    case {
      'hosts': [*hosts],
      'service': [str(host), int(port)],
      'word': str(word),
    } if len(hosts) == processes and word.isalnum() and len(word) < 99:
      names = tuple(printable(str(h)) for h in hosts)
      return Start(names, lines.Address(host, port), word)
  raise lines.Closed('it answers with something else; is it another program?')
