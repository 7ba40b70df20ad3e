"""Processes that meet, compare and lose each other: real ones, without jax.

Waiting has a guard, which says that they hang; nothing here is timed.
"""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import gangs
import pytest
import tiny

from acereason_jax.hosts import lines

GUARD = 120


class Member:
  """One process; `output` is what it printed so far, its errors too."""

  def __init__(self, port, process, processes=2, **how):
    defaults = dict(
      coordinator=f'127.0.0.1:{port}',
      processes=processes,
      process=process,
      join_seconds=60,
      peer_seconds=60,
      colors=['red'],
    )
    self.output = ''
    self.process = subprocess.Popen(
      [
        *(sys.executable, tiny.TESTS / 'gang_member.py'),
        json.dumps(defaults | how),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env=tiny.environment(tiny.TESTS / 'unused'),
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()

  def wait_for(self, text):
    while text not in self.output:
      line = self.process.stdout.readline()
      assert line, f'ended without {text!r}:\n{self.output}'
      self.output += line

  def told(self, line):
    self.process.stdin.write(f'{line}\n')
    self.process.stdin.flush()

  def kill(self, number=signal.SIGKILL):
    self.process.send_signal(number)

  def end(self):
    """(exit status, lines that it printed after it agreed, or in all)."""
    self.output += self.process.stdout.read()
    self._guard.cancel()
    before, agreed, after = self.output.partition('agreed\n')
    said = after if agreed else before
    return self.process.wait(), said.splitlines()


@pytest.fixture
def start():
  """Starts a process of a gang; the port is the gang's."""
  port, members = gangs.free_port(), []

  def member(*args, **how):
    members.append(Member(port, *args, **how))
    return members[-1]

  member.port = port
  yield member
  for one in members:
    one.kill()
    one.end()
    one.process.stdin.close()


def agreed(start, count, **how):
  """`count` processes that run."""
  every = [start(i, count, **how) for i in range(count)]
  for one in every:
    one.wait_for('agreed')
  return every


def at_its_time(member, text):
  """`end` of one whose time to join is over once it has said that."""
  member.wait_for(text)
  member.told('over')
  return member.end()


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', '[::1]'])
def test_they_meet_agree_and_end(start, host):
  at = f'{host}:{start.port}'
  every = agreed(start, 3, colors=['red', 'green'], coordinator=at)
  starts = {re.search('joined .*', one.output)[0] for one in every}
  assert len(starts) == 1
  assert starts.pop().endswith('host-0 host-1 host-2')
  for one in every[::-1]:
    one.told('leave')
    assert one.end() == (0, [])


def test_a_late_one_is_waited_for_by_name(start):
  first, third = start(0, 4), start(2, 4)
  at = f'at 127.0.0.1:{start.port}'
  first.wait_for(f'waiting for processes 1, 3 of 4 {at}')
  third.wait_for(f'waiting for processes 1, 3 of 4 {at}')
  for late in (start(1, 4), start(3, 4)):
    late.wait_for('agreed')
  first.wait_for('agreed')


def test_who_never_comes_is_named_to_all_who_came(start):
  every = [start(0, 3, join_seconds=None), start(1, 3)]
  every[1].wait_for('waiting for process 2 of 3')
  every[0].told('over')
  for one in every:
    status, said = one.end()
    assert status == 1
    assert said[-1].startswith('error: process 2 of 3 did not come to 127.0')


def test_the_clock_of_process_0_counts(start):
  """Whose own time is over first is not missing."""
  every = [start(i, 3, join_seconds=None) for i in range(2)]
  for one in every[::-1]:
    every[1].output = ''
    every[1].wait_for('waiting for process 2 of 3')
    one.told('over')
  for one in every:
    status, said = one.end()
    assert status == 1
    assert said[-1].startswith('error: process 2 of 3 did not come to 127.0')


def test_a_coordinator_that_is_not_there(start):
  status, said = at_its_time(start(1, join_seconds=None), 'cannot reach')
  assert status == 1
  assert 'process 1 of 2: cannot reach process 0 at 127.0.0.1:' in said[0]
  assert 'Connection refused' in said[0]
  assert said[-1].startswith('error: process 1 on host-1: could not join proc')


def test_one_that_accepts_and_says_nothing(start):
  with socket.create_server(('127.0.0.1', start.port)):
    member = start(1, join_seconds=None)
    status, said = at_its_time(member, 'does not answer')
  assert status == 1
  assert 'does not answer' in said[0] and said[-1].startswith('error: ')


def test_a_reason_that_comes_with_the_start_is_heard(start):
  """Process 0 may start the run and end it before this process looks."""
  reason = 'error: process 0 on host-0 ended: no such model'
  with socket.create_server(('127.0.0.1', start.port)) as door:
    member = start(1)
    line, _ = door.accept()
    words = [
      dict(kind='start', hosts=['a', 'b'], service=['a', 1], word='w'),
      dict(kind='end', text=reason, code=1),
    ]
    line.sendall(b''.join(json.dumps(w).encode() + b'\n' for w in words))
    line.shutdown(socket.SHUT_WR)
    status, said = member.end()
  # Its main thread says at the same time that it has joined.
  assert status == 1 and reason in '\n'.join(said)


@pytest.mark.parametrize(
  'more, message',
  [
    (
      dict(process=1, processes=3),
      r'error: two processes say that they are process 1: pid \d+ on host-1',
    ),
    (
      dict(process=2, processes=4),
      r'error: --processes=3 on host-0 \(process 0\), 4 on host-2 \(',
    ),
  ],
)
def test_ids_that_cannot_be(start, more, message):
  every = [start(0, 3), start(1, 3)]
  every[1].wait_for('waiting for process')
  every.append(start(**more))
  for one in every:
    status, said = one.end()
    assert status == 1
    assert re.match(message, said[-1])


def test_one_that_died_before_the_start_may_come_again(start):
  first, second = start(0, 3), start(1, 3)
  second.wait_for('waiting for process 2 of 3')
  second.kill()
  second.end()
  agreed_now = [start(1, 3), start(2, 3), first]
  for one in agreed_now:
    one.wait_for('agreed')


STRANGE = (
  b'',
  b'GET / HTTP/1.1\r\n\r\n',
  b'\xff\x00\n' * 100,
  b'x' * 100_000,
  b'[' * 3000 + b'\n',
  b'{"kind": "hello"}\n',
  b'{"kind": "hello", "protocol": "acereason_jax 1", "process": -1, '
  b'"processes": 2, "host": "x", "pid": 1}\n',
  b'{"kind": "end", "text": "you are done", "code": 1}\n',
  b'{"kind": "hello", "protoc',
)


@contextlib.contextmanager
def strangers(port):
  """They send something strange and stay."""
  with contextlib.ExitStack() as stack:
    for sent in STRANGE:
      stream = socket.create_connection(('127.0.0.1', port))
      stack.enter_context(stream)
      with contextlib.suppress(OSError):
        stream.sendall(sent)
    yield


def test_strangers_change_nothing(start):
  first = start(0, 2)
  first.wait_for('waiting for process 1 of 2')
  with strangers(start.port):
    second = start(1, 2)
    for one in (first, second):
      one.wait_for('agreed')
    with strangers(start.port):
      for one in (first, second):
        one.told('leave')
        assert one.end() == (0, [])


def test_another_process_has_the_port(start):
  with socket.create_server(('127.0.0.1', start.port)):
    status, said = start(0).end()
  assert status == 1
  assert said == [
    f'error: --coordinator=127.0.0.1:{start.port}: another process listens '
    'there, maybe one of an earlier start of this run (`ss -ltnp '
    f"'sport = :{start.port}'` names it); end it, or give another port"
  ]


def test_process_0_must_be_where_the_coordinator_is(start):
  status, said = start(0, coordinator='192.0.2.1:7000').end()
  assert status == 1
  assert said[0].startswith(
    'error: --coordinator=192.0.2.1:7000: is no address of this machine, host-0'
  )


def test_a_name_that_nobody_knows(start):
  at = 'no-such-host.invalid:7000'
  member = start(0, coordinator=at, join_seconds=None)
  status, said = at_its_time(member, 'cannot look up')
  assert status == 1
  assert f'process 0: cannot look up {at}' in said[0]
  assert said[-1].startswith(f'error: --coordinator={at}: ')


def test_a_run_that_is_complete_refuses_another(start):
  every = agreed(start, 2)
  status, said = start(1).end()
  assert status == 1
  assert 'has all of its 2 processes: process 1 on host-1 is pid' in said[-1]
  for one in every:
    one.told('leave')
    assert one.end()[0] == 0


@pytest.mark.parametrize('count, odd', [(2, 1), (3, 0), (4, 2)])
def test_who_differs_ends_all(start, count, odd):
  colors = lambda i: ['red', 'blue' if i == odd else 'red']
  every = [start(i, count, colors=colors(i)) for i in range(count)]
  shown = ', '.join(f'host-{i}: {colors(i)[1]}' for i in range(count))
  for one in every:
    status, said = one.end()
    assert status == 1
    assert said[-1] == f'error: colors: {shown}'
    assert 'agreed' not in one.output


@pytest.mark.parametrize('dead', [0, 1, 2])
def test_a_killed_one_is_told_in_one_line(start, dead):
  every = agreed(start, 3)
  every[dead].told('phase sample, 43 s')
  # Process 0 names it to the others, or all have seen it themselves.
  who = [every[0]] if dead else every[1:]
  for one in who:
    one.told('until sample, 43 s')
    one.wait_for('heard')
  every[dead].kill()
  for one in every[:dead] + every[dead + 1 :]:
    status, said = one.end()
    assert status == 70
    assert re.fullmatch(
      rf"error: lost process {dead} on host-{dead} in 'sample, 43 s' \(its "
      r'connection ended.*\); the same command on all hosts resumes',
      said[-1],
    )
    assert len(said) == (2 if one in who else 1)


@pytest.mark.hosts
@pytest.mark.parametrize('stopped', [0, 1])
def test_a_silent_one_is_lost(start, stopped):
  every = agreed(start, 3, peer_seconds=6)
  every[stopped].kill(signal.SIGSTOP)
  for one in every[:stopped] + every[stopped + 1 :]:
    status, (said,) = one.end()
    assert status == 70
    assert f'error: lost process {stopped} on host-{stopped} (it said' in said
  # Once it goes on, it learns that the run is over.
  every[stopped].kill(signal.SIGCONT)
  status, (said,) = every[stopped].end()
  assert status == 70 and said.startswith('error: lost process')


@pytest.mark.parametrize('who', [0, 1])
@pytest.mark.parametrize(
  'verb, status, last', [('end', 1, 'error: none'), ('fail', 70, 'KeyError: 3')]
)
def test_an_error_of_one_ends_all_with_its_words(
  start, who, verb, status, last
):
  every = agreed(start, 3)
  every[who].told(f'{verb} {last}')
  got, said = every[who].end()
  assert got == status and said[-1] == last
  for one in every[:who] + every[who + 1 :]:
    words = last.removeprefix('error: ')
    line = f'error: process {who} on host-{who} ended: {words}'
    assert one.end() == (status, [line])


def test_terminal_sequences_of_another_process_are_not_obeyed(start):
  every = agreed(start, 2)
  every[1].told('end error: \x1b[2J\u202e')
  _, (said,) = every[0].end()
  assert said.endswith(r'ended: \x1b[2J\u202e')


@pytest.mark.parametrize(
  'text, host, port',
  [
    ('a.b:1', 'a.b', 1),
    ('10.0.0.1:65535', '10.0.0.1', 65535),
    ('[::1]:7', '::1', 7),
  ],
)
def test_addresses(text, host, port):
  found = lines.address(text, '--x')
  assert found == (host, port) and str(found) == text


@pytest.mark.parametrize(
  'text',
  ['', 'a', 'a:', ':1', 'a:0', 'a:65536', 'a:-1', '::1:7', 'a:b:7', '[a:7'],
)
def test_no_addresses(text):
  with pytest.raises(ValueError, match=r'^--x='):
    lines.address(text, '--x')
