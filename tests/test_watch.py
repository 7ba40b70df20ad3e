"""The server of a run that goes on: what it answers, whom, and what it reads.

Real files and real sockets; waiting has a guard, and nothing here is timed.
"""

import contextlib
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import object_store
import pytest
import tiny
from watching import POLICY, curves, line, parse

from acereason_jax import storage
from acereason_jax.reporting import following, watch

GUARD = 170


class Server:
  """The command over a folder; `said` is what it printed."""

  def __init__(self, folder, port=0):
    self.process = subprocess.Popen(
      [sys.executable, tiny.TESTS / 'watching.py', folder, str(port)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env=tiny.environment(folder),
    )
    self._guard = threading.Timer(GUARD, self.process.kill)
    self._guard.start()
    self.said = self.process.stdout.readline()
    if match := re.match(r'http://127\.0\.0\.1:([0-9]+)/ ', self.said):
      self.port = int(match[1])

  def ends(self, number=signal.SIGINT):
    if self.process.poll() is None:
      self.process.send_signal(number)
    self.said += self.process.stdout.read()
    self._guard.cancel()
    return self.process.wait()

  def connect(self):
    return socket.create_connection(('127.0.0.1', self.port), GUARD)

  def send(self, request):
    with self.connect() as client, contextlib.suppress(ConnectionError):
      client.sendall(request)
      return b''.join(iter(lambda: client.recv(1 << 16), b''))
    return b''

  def ask(self, path='/', host='localhost', method='GET'):
    """(status, headers, text) of an answer."""
    request = f'{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n'
    return answered(self.send(request.encode()))

  def steps(self, after=-1):
    status, _, text = self.ask(f'/steps.json?after={after}')
    assert status == 200
    return json.loads(text)

  def page(self, wanted):
    """Reloads until the page shows this."""
    while wanted not in (text := self.ask()[2]):
      assert self.process.poll() is None
      time.sleep(0.05)
    return text

  def newest(self, step):
    """Polls until there is this step."""
    while (found := self.steps())['steps'][-1:] != [step]:
      assert self.process.poll() is None
      time.sleep(0.05)
    return found


def answered(data):
  head, _, text = data.decode().partition('\r\n\r\n')
  first, *lines = head.split('\r\n')
  headers = dict(x.split(': ', 1) for x in lines)
  assert int(headers['Content-Length']) == len(text.encode())
  return int(first.split()[1]), headers, text


@pytest.fixture(scope='module')
def served(tmp_path_factory):
  folder = tmp_path_factory.mktemp('served')
  (folder / 'metrics.jsonl').write_text(line(1) + line(2, b=1.5))
  server = Server(folder)
  server.newest(2)
  server.page('steps [1, 2]')
  yield server
  assert server.ends() == 0


def test_the_page_and_its_headers(served):
  status, headers, text = served.ask()
  assert status == 200 and 'steps [1, 2] \\udc80' in text
  assert headers['Content-Type'] == 'text/html; charset=utf-8'
  policy = f"{POLICY}; frame-ancestors 'none'"
  assert headers['Content-Security-Policy'] == policy
  assert headers['Cache-Control'] == 'no-store'
  assert headers['X-Content-Type-Options'] == 'nosniff'
  assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'
  assert not any(name.startswith('Access-Control') for name in headers)
  assert 'Python' not in headers['Server']


def test_the_steps_and_their_headers(served):
  status, headers, text = served.ask('/steps.json?after=1')
  assert status == 200
  assert headers['Content-Type'] == 'application/json'
  assert headers['X-Content-Type-Options'] == 'nosniff'
  assert not any(name.startswith('Access-Control') for name in headers)
  assert json.loads(text) == dict(
    steps=[2],
    hours=[1.0],
    tokens=[20],
    series=dict(a=[0.5], b=[1.5]),
    restarts=[],
    bands=[['stage 0', 2, 2]],
    new=False,
  )
  assert served.steps(2)['steps'] == []
  assert served.steps(-1)['steps'] == [1, 2]


@pytest.mark.parametrize(
  'host',
  [
    *('evil.example', 'localhost.evil.example', 'evil.example:80'),
    *('127.0.0.1.evil.example', '127.0.0.2', 'localhost:', 'localhost:80:80'),
    *('x@localhost', 'localhost/', '', '0.0.0.0', '[::1]', 'localhost:123456'),
    'localhost\r\nHost: evil.example',
  ],
)
@pytest.mark.parametrize('path', ['/', '/steps.json?after=0'])
def test_a_foreign_host_is_refused(served, host, path):
  status, _, text = served.ask(path, host)
  assert status == 403 and 'steps [' not in text and 'hours' not in text


def test_no_host_is_refused(served):
  for request in (b'GET / HTTP/1.0\r\n\r\n', b'GET /\r\n\r\n'):
    assert b'steps [' not in served.send(request)


@pytest.mark.parametrize(
  'host', ['localhost', 'LOCALHOST:8000', '127.0.0.1', '127.0.0.1:1']
)
def test_own_hosts_are_served(served, host):
  """A tunnel has another port at its other end."""
  assert served.ask('/', host)[0] == 200


@pytest.mark.parametrize('method', ['POST', 'PUT', 'HEAD', 'OPTIONS', 'X'])
def test_other_methods_are_refused(served, method):
  status, headers, text = served.ask('/', method=method)
  assert status == 501 and 'steps [' not in text
  assert not any(name.startswith('Access-Control') for name in headers)


@pytest.mark.parametrize(
  'path',
  [
    *('/x', '/metrics.jsonl', '/../metrics.jsonl', '//metrics.jsonl', '*'),
    *('/steps.json/', '/%2e%2e/metrics.jsonl', '/.', 'http://localhost/'),
    *('/etc/passwd', '/favicon.ico', '/<script>alert(1)</script>', '/steps'),
  ],
)
def test_other_paths_are_not_found(served, path):
  status, _, text = served.ask(path)
  assert status == 404 and 'script' not in text


@pytest.mark.parametrize(
  'query',
  [
    *(
      '',
      '?',
      '?after=',
      '?after=x',
      '?after=1.5',
      '?after=1e9',
      '?after=\u0661',
    ),
    *('?after=1&after=2', f'?after={"9" * 5000}', '?before=1', '?after=+1'),
  ],
)
def test_other_questions_are_bad_ones(served, query):
  assert served.ask(f'/steps.json{query}')[0] == 400


@pytest.mark.parametrize(
  'request_',
  [
    b'GET /' + b'x' * 70_000 + b' HTTP/1.1\r\nHost: localhost\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: localhost\r\n' + b'a: b\r\n' * 200 + b'\r\n',
    b'GET / HTTP/1.1\r\na: ' + b'x' * 70_000 + b'\r\n\r\n',
    b'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01' + bytes(range(256)) + b'\r\n\r\n',
    b'GET <script>\x1b[2J HTTP/1.1 x\r\n\r\n',
    b'\r\n\r\n',
    b'',
  ],
  ids=range(8),
)
def test_a_bad_request_breaks_nothing(served, request_):
  with served.connect() as client, contextlib.suppress(ConnectionError):
    client.sendall(request_)
    client.shutdown(socket.SHUT_WR)
    found = b''.join(iter(lambda: client.recv(1 << 16), b''))
    assert b'steps [' not in found and b'script' not in found
  assert served.ask()[0] == 200


def test_slow_clients_do_not_block_others(served):
  """Those that send nothing, or half a request."""
  with contextlib.ExitStack() as stack:
    for i in range(90):
      client = stack.enter_context(served.connect())
      client.sendall((b'', b'GET / HT', b'GET / HTTP/1.1\r\nHost: l')[i % 3])
    assert served.ask()[0] == 200 and served.steps()['steps'] == [1, 2]


def test_too_many_clients_at_once_are_sent_away_and_it_lives_on(served):
  with contextlib.ExitStack() as stack:
    for _ in range(300):
      with contextlib.suppress(ConnectionError):
        stack.enter_context(served.connect())
  while not served.send(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'):
    time.sleep(0.05)
  assert served.ask()[0] == 200


def test_a_run_that_does_not_exist_yet(tmp_path):
  folder = tmp_path / 'later'
  server = Server(folder)
  text = server.page('no such')
  assert 'no such &lt;run&gt;' in text and '<run>' not in text
  status, headers, _ = server.ask()
  assert status == 200
  policy = "default-src 'none'; frame-ancestors 'none'"
  assert headers['Content-Security-Policy'] == policy
  assert server.steps() == dict(
    steps=[],
    hours=[],
    tokens=[],
    series={},
    restarts=[],
    bands=[],
    new=False,
  )
  folder.mkdir()
  (folder / 'metrics.jsonl').write_text(line(1))
  server.newest(1)
  server.page('steps [1]')
  assert server.ends() == 0
  said = server.said.splitlines()
  assert said[1:] == [f'no page yet: {folder}: no such <run>', 'stopped']


def test_steps_that_come_while_it_is_watched(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(line(1))
  server = Server(tmp_path)
  server.page('steps [1]')
  assert server.newest(1)['new'] is False
  with path.open('a') as file:
    file.write(line(2) + line(3)[:9])
    file.flush()
    assert server.newest(2)['steps'] == [1, 2]
    file.write(line(3)[9:])
    file.flush()
    assert server.newest(3)['series']['a'] == [0.25, 0.5, 0.75]
  while not server.steps()['new']:
    time.sleep(0.05)
  server.page('steps [1, 2, 3]')
  assert server.steps()['new'] is False
  # A restart writes the file anew, and takes the last step again.
  new = tmp_path / 'new'
  new.write_text(line(1) + line(2, a=9.0))
  new.replace(path)
  assert server.newest(2)['series']['a'] == [0.25, 9.0]
  path.unlink()
  while server.steps()['steps']:
    time.sleep(0.05)
  # The page is not given up for what is not there.
  assert 'steps [1' in server.ask()[2]
  assert server.ends() == 0


def test_a_port_that_is_taken(tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as other:
    port = other.getsockname()[1]
    server = Server(tmp_path, port)
    assert server.ends(0) == 1
  assert server.said == (
    f'error: port {port}: Address already in use; give another, or 0 for any '
    'that is free\n'
  )


@pytest.mark.parametrize('port', [-1, 65536, 10**30])
def test_a_port_that_is_none(tmp_path, port):
  server = Server(tmp_path, port)
  assert server.ends(0) == 1
  assert server.said == f'error: port {port}: expected one of 0 to 65535\n'


def test_an_error_of_the_code_is_not_hidden(tmp_path, monkeypatch):
  monkeypatch.setattr(threading, 'excepthook', lambda _: None)
  steps = following.Steps(str(tmp_path / 'x'), parse, lambda records: 1 / 0)
  (tmp_path / 'x').write_text(line(1))
  with pytest.raises(ZeroDivisionError):
    watch.serve(lambda: '<p>', steps, 0)


POINT = dict(
  age=1e9, took=0.0, exists=True, changed=True, polled=True, reloaded=False
)


@pytest.mark.parametrize(
  'due, more',
  [
    (True, {}),
    (False, dict(changed=False)),
    (False, dict(polled=False)),
    (False, dict(age=29.0)),
    (True, dict(age=29.0, reloaded=True)),
    (False, dict(age=1.0, reloaded=True)),
    (False, dict(age=9.0, took=10.0, reloaded=True)),
    (False, dict(age=99.0, took=20.0)),
    (True, dict(age=101.0, took=20.0)),
    (False, dict(reloaded=True, changed=False)),
    (True, dict(exists=False, polled=False, age=4.0)),
    (False, dict(exists=False, age=2.0)),
  ],
)
def test_when_a_page_is_made(due, more):
  assert watch.is_due(watch.Due(**POINT | more)) is due


# What is read.


def test_answers_are_bounded_and_add_up():
  steps = list(range(3, 7000, 2))
  whole = curves([dict(step=s, a=float(s)) for s in steps])
  got, after, bands = [], -1, []
  while part := following.answer(whole, after)['steps']:
    found = following.answer(whole, after)
    assert len(part) <= following.MOST_STEPS
    assert found['series']['a'] == part
    assert found['restarts'] == [s for s in part if s % 5 == 0]
    for stage, first, last in found['bands']:
      assert {f'stage {s // 10}' for s in part if first <= s <= last} == {stage}
      bands.append((first, last))
    got += part
    after = part[-1]
  assert got == steps
  covered = [s for s in steps if any(a <= s <= b for a, b in bands)]
  assert covered == steps


def test_numbers_that_are_none_are_null():
  odd = (math.nan, math.inf, -math.inf, None, 1.0)
  whole = curves([dict(step=i, a=x) for i, x in enumerate(odd)])
  found = following.answer(whole, -1)
  assert found['series']['a'] == [None, None, None, None, 1.0]
  json.dumps(found, allow_nan=False)


def drained(lines):
  other, text = lines.read()
  while more := lines.read()[1]:
    text += '\n' + more
  return other, text.split('\n') if text else []


def test_each_line_comes_once_however_it_was_written(tmp_path):
  path = tmp_path / 'lines'
  source, lines = random.Random(5), following.Lines(str(path))
  assert lines.read() == (False, '')
  written, got = [], []
  with path.open('ab', buffering=0) as file:
    for i in range(300):
      text = f'{i} ' + 'é' * source.choice([0, 1, 30])
      data, written = text.encode() + b'\n', [*written, text]
      cut = source.randrange(len(data) + 1)
      for part in (data[:cut], data[cut:]):
        file.write(part)
        if source.random() < 0.5:
          other, fresh = drained(lines)
          got += fresh
          assert not other and got == written[: len(got)]
  assert got + drained(lines)[1] == written


def test_a_line_that_is_too_long_is_left_out(tmp_path, monkeypatch):
  monkeypatch.setattr(following, '_MOST_LINE', 20)
  monkeypatch.setattr(following, '_CHUNK', 7)
  path = tmp_path / 'lines'
  for long in (21, 27, 28, 29, 100, 101, 102, 103, 104, 105, 106, 107):
    path.write_text(f'before\n{"x" * long}\nafter\nlast\n')
    lines, got = following.Lines(str(path)), []
    for _ in range(60):
      got += [x for x in lines.read()[1].split('\n') if x]
    assert got[0] == 'before' and got[-2:] == ['after', 'last']
    assert len(got) == 3 or (len(got) == 4 and long < 28)
    lines.close()


def test_a_file_that_takes_the_place_is_another(tmp_path):
  path, new = tmp_path / 'lines', tmp_path / 'new'
  path.write_text('a\nb\nc')
  lines = following.Lines(str(path))
  assert drained(lines) == (False, ['a', 'b'])
  # The same length, and more.
  for text in ('a\nx\nc', 'a\nx\nc\nd\n'):
    new.write_text(text)
    new.replace(path)
    assert drained(lines) == (True, text.split('\n')[: text.count('\n')])
  # Cut, in place.
  path.write_text('q\n')
  assert drained(lines) == (True, ['q'])
  path.unlink()
  assert drained(lines) == (True, [])
  assert drained(lines) == (False, [])
  path.write_text('r\n')
  assert drained(lines) == (False, ['r'])


def test_what_is_no_file_and_what_is_too_large(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(OSError, match='not a file'):
    following.Lines(str(tmp_path / 'pipe')).read()
  monkeypatch.setattr(following, '_MOST_BYTES', 10)
  (tmp_path / 'large').write_text('x' * 20)
  lines = following.Lines(str(tmp_path / 'large'))
  with pytest.raises(ValueError, match='more than 10 bytes'):
    lines.read() and lines.read()


def test_that_it_was_another_file_is_not_lost_with_an_error(tmp_path):
  path = tmp_path / 'lines'
  path.write_text('a\nb\n')
  lines = following.Lines(str(path))
  assert drained(lines) == (False, ['a', 'b'])
  path.unlink()
  path.mkdir()
  with pytest.raises(OSError):
    lines.read()
  path.rmdir()
  path.write_text('a\n')
  assert drained(lines) == (True, ['a'])


def test_the_steps_of_a_bucket(tmp_path):
  with object_store.started(tmp_path) as store:
    path = f'gs://runs/{tmp_path.name}/metrics.jsonl'
    steps = following.Steps(path, parse, curves)
    seen = []
    for content in (
      None,
      line(1) + line(2)[:7],
      line(1) + line(2),
      line(1) + line(2),
      line(1) + line(2, a=9.0) + line(3),
      '',
    ):
      if content is not None:
        storage.write(path, content.encode())
      before = len(store.seen)
      steps.refresh()
      assert len(store.seen) - before <= 6
      found = steps.after(0)
      seen.append((found['steps'], found['series'].get('a'), steps.changes))
    assert seen == [
      ([], None, 0),
      ([1], [0.25], 1),
      ([1, 2], [0.25, 0.5], 2),
      ([1, 2], [0.25, 0.5], 2),
      ([1, 2, 3], [0.25, 9.0, 0.75], 3),
      ([], None, 4),
    ]
    assert steps.every >= 30
