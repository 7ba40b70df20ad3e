"""The processes of one run, tied to each other from its start to its end.

Each of the others has a connection to process 0, apart from jax's. All compare
what they know before they start; each says every two seconds that it lives and
what it does. When one is lost, or ends for a reason, every other says so in one
line and ends at once: jax would wait, or report its own consequences of it.
"""

import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple, NoReturn

from acereason_jax.console import exits, terminal
from acereason_jax.hosts import lines, rollcall
from acereason_jax.hosts.ids import Ids

# Others get this long to hear of an end before this process is gone.
_DRAIN_SECONDS = 3.0
# What a lost process breaks in jax, and its loss, come within this time.
SETTLE_SECONDS = 5.0

Facts = Mapping[str, str]


class Told(NamedTuple):
  """What one process knows.

  process: its index.
  host: the name of its machine.
  facts: text by name.
  """

  process: int
  host: str
  facts: Facts


class Gang:
  """All processes of a run.

  One process alone is a gang too, without connections. `start` is what process
  0 told all when they met; `bind` is where it may serve jax (None: this is not
  process 0).
  """

  def __init__(
    self,
    ids: Ids,
    own: rollcall.Who,
    start: rollcall.Start,
    peers: Mapping[int, rollcall.Peer],
    door: rollcall.Door | None,
    bind: lines.Address | None,
    status: Callable[[], str],
    peer_seconds: float,
  ) -> None:
    self.ids, self.own = ids, own
    self.start, self.bind = start, bind
    self._peers, self._door = dict(peers), door
    self._status, self._peer_seconds = status, peer_seconds
    self._changed = threading.Condition()
    self._facts: dict[int, dict[int, Facts]] = {}
    self._rounds = self._agreed = 0
    self._ending = threading.Lock()
    # Called if another process did not end well: this one may be the reason.
    self.witness: Callable[[], None] = lambda: None
    for peer in self._peers.values():
      peer.line.heard = time.monotonic()
    if self._peers:
      threading.Thread(target=self._watch, name='gang', daemon=True).start()

  @property
  def alone(self) -> bool:
    return self.own.processes == 1

  def agree(
    self, facts: Facts, difference: Callable[[Sequence[Told]], str]
  ) -> None:
    """Returns if all processes know the same; ends all of them if not.

    Each must call it, as often as the others. `difference` is the line for
    what every process knows, or '' if there is none; process 0 asks it.
    """
    if self.alone:
      return
    self._rounds += 1
    if self.own.process:
      self._send('facts', round=self._rounds, facts=dict(facts))
      with self._changed:
        self._changed.wait_for(lambda: self._agreed >= self._rounds)
      return
    with self._changed:
      told = self._facts.setdefault(self._rounds, {})
      self._changed.wait_for(lambda: len(told) == self.own.processes - 1)
    told[0] = facts
    every = [Told(i, self.start.hosts[i], told[i]) for i in sorted(told)]
    if line := difference(every):
      self.end(line, exits.FOR_USER, told=line)
    self._send('agreed', round=self._rounds)

  def leave(self) -> None:
    """Says that this process is about to end, and that nothing is wrong."""
    self._send('bye')

  def end(self, text: str, code: int, told: str | None = None) -> NoReturn:
    """Prints a text and ends this process at once, and every other.

    They print `told`, by default that this process ended with that text. If a
    reason to end came before, that one is printed and not this.
    """
    if told is None:
      *_, last = text.strip().splitlines() or ['']
      told = f'error: {self.own} ended: {last.removeprefix("error: ")}'
    self._finish(text, code, told)

  def _finish(
    self, text: str, code: int, told: str, source: Any = None
  ) -> NoReturn:
    if not self._ending.acquire(blocking=False):
      # Another thread is ending this process.
      time.sleep(2 * _DRAIN_SECONDS)
      os._exit(code)
    peers = list(self._peers.values())
    others = [p for p in peers if p is not source]
    # First, because nobody may read this process's standard error.
    rollcall.broadcast(others, 'end', text=told, code=code)
    terminal.say(text, to_stderr=True)
    if source is not None and code == exits.BUG:
      self.witness()
    lines.drain([p.line for p in peers], _DRAIN_SECONDS)
    os._exit(code)

  def _send(self, kind: str, **values: Any) -> None:
    rollcall.broadcast(self._peers.values(), kind, **values)

  def _name(self, process: int) -> str:
    return f'process {process} on {self.start.hosts[process]}'

  def _watch(self) -> None:
    """The thread: hears the others, tells them that this one lives."""
    beat = 0.0
    every = min(rollcall.BEAT_SECONDS, self._peer_seconds / 4)
    try:
      while self._peers and not self._ending.locked():
        self._hear_all(every / 2)
        if time.monotonic() - beat > every:
          beat = time.monotonic()
          self._send('beat', status=self._status()[:200])
    except BaseException as e:
      told = f'error: {self.own} ended: a bug, {type(e).__name__}'
      self._finish(traceback.format_exc(), exits.BUG, told)
      raise

  def _hear_all(self, seconds: float) -> None:
    wait = [*self._peers.values()]
    wait += self._door.waited_for() if self._door else []
    ready = connection.wait(wait, seconds)
    for peer in [p for p in self._peers.values() if p in ready]:
      self._hear(peer)
    for late in self._door.come_in(ready) if self._door else ():
      self._refuse(late)
    # Only after all that came was read: this process may have been stopped.
    now = time.monotonic()
    for peer in self._peers.values():
      silent = now - peer.line.heard
      if silent > self._peer_seconds and not peer.left:
        self._lose(peer, f'it said nothing for {silent:.0f} s')

  def _hear(self, peer: rollcall.Peer) -> None:
    try:
      messages = peer.line.receive()
    except lines.Closed as e:
      if self._ending.locked():
        return
      if not peer.left:
        self._lose(peer, str(e))
      del self._peers[peer.who.process]
      peer.line.close()
      return
    for message in messages:
      self._take(peer, message)

  def _take(self, peer: rollcall.Peer, message: Mapping[str, Any]) -> None:
    match message:
      case {'kind': 'beat', 'status': str(status)}:
        peer.status = rollcall.printable(status)
      case {'kind': 'bye'}:
        peer.left = True
      case {'kind': 'end', 'text': str(text), 'code': int(code)}:
        text = rollcall.printable(text)
        self._finish(text, code if 0 < code < 256 else exits.BUG, text, peer)
      case {'kind': 'facts', 'round': int(round_), 'facts': dict(facts)}:
        with self._changed:
          told = self._facts.setdefault(round_, {})
          told[peer.who.process] = {k: str(v) for k, v in facts.items()}
          self._changed.notify_all()
      case {'kind': 'agreed', 'round': int(round_)}:
        with self._changed:
          self._agreed = round_
          self._changed.notify_all()

  def _lose(self, peer: rollcall.Peer, how: str) -> NoReturn:
    where = f" in '{peer.status}'" if peer.status else ''
    line = (
      f'error: lost {self._name(peer.who.process)}{where} ({how}); the same '
      'command on all hosts resumes'
    )
    self._finish(line, exits.LOST, line, peer)

  def _refuse(self, late: rollcall.Peer) -> None:
    """One that comes to a run that is complete."""
    own = next(
      (
        p.who for p in self._peers.values() if p.who.process == late.who.process
      ),
      self.own,
    )
    rollcall.refuse(
      late,
      f'error: the run at this address has all of its {self.own.processes} '
      f'processes: {own} is pid {own.pid}; if that is of an earlier start, end '
      'it',
    )
    late.line.close()


def join(
  ids: Ids,
  status: Callable[[], str],
  *,
  join_seconds: float,
  peer_seconds: float,
) -> Gang:
  """Waits until all processes of this run have met.

  `status` says what this process is doing, in a few words. All must come within
  `join_seconds`; one that says nothing for `peer_seconds` is lost.

  Raises:
    SystemExit: in one line, if they do not meet.
  """
  own = rollcall.me(ids)
  if ids.processes == 1:
    nowhere = lines.Address('', 0)
    start = rollcall.Start((own.host,), nowhere, secrets.token_hex(16))
    return Gang(ids, own, start, {}, None, None, status, peer_seconds)
  at = lines.address(ids.coordinator, '--coordinator')
  notes = rollcall.Notes(join_seconds)
  try:
    if ids.process:
      peer, start = rollcall.answer(at, own, notes)
      peers, door, bind = {0: peer}, None, None
    else:
      listener = rollcall.open_door(at, notes)
      door = rollcall.Door(listener)
      peers = rollcall.call(door, at, own, notes)
      # Not before all are there: jax crashes if another takes it meanwhile.
      bind = lines.spare(listener)
      start = open_run(own, peers, lines.Address(at.host, bind.port))
  except rollcall.Refused as e:
    raise SystemExit(str(e)) from e
  except OSError as e:
    raise SystemExit(f'error: --coordinator={e}') from e
  return Gang(ids, own, start, peers, door, bind, status, peer_seconds)


def open_run(
  own: rollcall.Who,
  peers: Mapping[int, rollcall.Peer],
  service: lines.Address,
) -> rollcall.Start:
  """Tells all that the run starts; returns what it told."""
  hosts = own.host, *(peers[i].who.host for i in sorted(peers))
  start = rollcall.Start(hosts, service, secrets.token_hex(16))
  rollcall.broadcast(peers.values(), 'start', **start._asdict())
  return start
