"""The server of a run that goes on: what it answers, whom, and what it reads.

Real files and real sockets; waiting has a guard, and nothing here is timed.
"""

import base64
import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import reports
import tiny
from watching import POLICY, curves, line, parse

from acereason_jax.reporting import following, page, watch

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

  def has_newest_page(self):
    """Reloads until no page is newer, such as one of a step seen meanwhile."""
    while self.steps()['new']:
      self.ask()

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
  assert headers['Server'] == 'acereason_jax'


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
  server.newest(1)
  server.page('steps [1]')
  server.has_newest_page()
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
  server.has_newest_page()
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


def test_the_policy_of_a_real_page_is_sent_as_a_header():
  """Without it a browser would refuse the page's scripts."""
  steps = following.Steps('nowhere', parse, curves)
  report = reports.report(steps=5, groups=1, tokens=20)
  with watch._Server(0, steps) as server:
    server.make(lambda: page.to_html(report, watch=True))
    content, policy = server.given()
  said = dict(part.split(' ', 1) for part in policy.split('; '))
  assert said['default-src'] == "'none'" and said['connect-src'] == "'self'"
  scripts = re.findall(r'<script>(.*?)</script>', content.decode(), re.DOTALL)
  hashes = [hashlib.sha256(text.encode()).digest() for text in scripts]
  assert len(hashes) > 1
  assert said['script-src'].split() == [
    f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes
  ]


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
