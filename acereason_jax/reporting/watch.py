"""Serves the page of a run that goes on, to this machine only.

    GET /                    the page; a newer one is made while it is read
    GET /steps.json?after=N  the steps after step N, from memory

No other page of the browser can read them. One under a name that leads here
would send that name as Host, which is refused; and no header lets another
origin in. A browser elsewhere reaches it through a tunnel, at any port:

    ssh -L 8000:127.0.0.1:PORT HOST
"""

import contextlib
import errno
import html
import http.server
import json
import re
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from acereason_jax.console import oserrors, signals, terminal
from acereason_jax.reporting import following

_HOSTS = '127.0.0.1', 'localhost'
_HOST = re.compile(r'(127\.0\.0\.1|localhost)(:[0-9]{1,5})?', re.IGNORECASE)
_AFTER = re.compile(r'after=(-?[0-9]{1,15})', re.ASCII)
_POLICY = re.compile(
  r'<meta http-equiv="Content-Security-Policy"\s+content="([^"]*)"'
)
_HEAD_CHARS = 8192
# Seconds that a client may be silent, and clients at a time.
_SILENT_SECONDS = 10.0
_MOST_CLIENTS = 128
_CHUNK = 1 << 16
_TICK = 0.25
# Seconds from one page to the next if the browser polls, and if it reloads; a
# page that takes long to make is made less often.
_POLLED, _RELOADED, _RETRY = 30.0, 2.0, 3.0
_SHARE = 5.0
# A browser that has not asked for so long is closed.
_GONE_SECONDS = 60.0
_WAITING = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<meta http-equiv="refresh" content="3">
<title>Waiting</title>
<p>No page yet: {words}.</p>
<p>This looks again every few seconds.</p>
</html>
"""


class _Page(NamedTuple):
  """A page.

  content: its bytes.
  policy: its Content-Security-Policy.
  number: how many were made before.
  changes: changes of the steps before it was begun.
  """

  content: bytes
  policy: str
  number: int
  changes: int


class Due(NamedTuple):
  """What decides whether a page is made now; see `is_due`.

  age: seconds since the last one was made, or could not be made.
  took: seconds that it took.
  exists: whether there is one.
  changed: whether the run has changed since it was begun.
  polled: whether a browser shows it.
  reloaded: whether a browser asked for the page since.
  """

  age: float
  took: float
  exists: bool
  changed: bool
  polled: bool
  reloaded: bool


def is_due(at: Due) -> bool:
  if not at.exists:
    return at.age >= max(_RETRY, _SHARE * at.took)
  if at.reloaded and at.changed:
    return at.age >= max(_RELOADED, at.took)
  return at.polled and at.changed and at.age >= max(_POLLED, _SHARE * at.took)


def serve(render: Callable[[], str], steps: following.Steps, port: int) -> None:
  """Serves a run until Ctrl+C.

  Args:
    render: makes the page, in this thread. A ValueError or OSError says, in one
      line, why there is none yet.
    steps: the steps of the run.
    port: the port on this machine; 0: any that is free.

  Raises:
    OSError: one line, it cannot listen there.
  """
  failed = []
  try:
    with (
      signals.at_once(),
      _listening(port, steps) as server,
      _answering(server),
    ):
      threading.Thread(
        target=_refresh, args=(steps, failed), daemon=True
      ).start()
      terminal.say(
        f'http://127.0.0.1:{server.server_port}/ shows the run as it goes on; '
        'Ctrl+C ends this'
      )
      _keep_made(server, render, failed)
  except KeyboardInterrupt:
    # Nobody reads a terminal that was closed.
    with contextlib.suppress(SystemExit):
      terminal.say('stopped')


@contextlib.contextmanager
def _answering(server: '_Server') -> Iterator[None]:
  thread = threading.Thread(target=server.serve_forever, args=(_TICK,))
  thread.daemon = True
  thread.start()
  try:
    yield
  finally:
    server.shutdown()


def _keep_made(
  server: '_Server', render: Callable[[], str], failed: list[BaseException]
) -> None:
  """Makes pages when they are due. Raises what ended the other thread."""
  ended, took = -float('inf'), 0.0
  while True:
    if failed:
      raise failed[0]
    if is_due(server.due(time.monotonic() - ended, took)):
      began = time.monotonic()
      server.make(render)
      ended = time.monotonic()
      took = ended - began
    time.sleep(_TICK)


def _refresh(steps: following.Steps, failed: list[BaseException]) -> None:
  """Looks for new steps for ever; an error of this code ends up in `failed`."""
  told = ''
  try:
    while True:
      try:
        steps.refresh()
        words = ''
      except (OSError, ValueError) as e:
        words = _words(e)
      if words and words != told:
        terminal.say(f'no new steps: {words}', to_stderr=True)
      told = words
      time.sleep(steps.every)
  except BaseException as e:
    failed.append(e)
    raise


def _listening(port: int, steps: following.Steps) -> '_Server':
  try:
    return _Server(port, steps)
  except OverflowError:
    raise OSError(
      errno.EINVAL, f'port {port}: expected one of 0 to 65535'
    ) from None
  except OSError as e:
    remedy = 'give another, or 0 for any that is free'
    raise OSError(e.errno, f'port {port}: {e.strerror}; {remedy}') from e


def _words(error: OSError | ValueError) -> str:
  words = oserrors.explained(error) if isinstance(error, OSError) else error
  return terminal.one_line(' '.join(f'{words}'.split()), 300)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
  """Listens on this machine; has the newest page."""

  daemon_threads = True
  request_queue_size = _MOST_CLIENTS

  def __init__(self, port: int, steps: following.Steps):
    self.steps = steps
    self._page, self._words = None, 'it is being made'
    # Numbers of the page that a browser got last, and times of its requests.
    self._given, self._polled, self._reloaded = 0, -float('inf'), False
    self._clients = threading.BoundedSemaphore(_MOST_CLIENTS)
    super().__init__((_HOSTS[0], port), _Handler)

  def server_bind(self) -> None:
    # HTTPServer's own asks for the host's name, which can take long.
    socketserver.TCPServer.server_bind(self)
    self.server_name, self.server_port = self.server_address[:2]

  def due(self, age: float, took: float) -> Due:
    page = self._page
    return Due(
      age=age,
      took=took,
      exists=page is not None,
      changed=page is None or page.changes != self.steps.changes,
      polled=time.monotonic() - self._polled < _GONE_SECONDS,
      reloaded=self._reloaded,
    )

  def make(self, render: Callable[[], str]) -> None:
    """Makes the page anew; if it cannot be made, the old one stays."""
    changes, before = self.steps.changes, self._page
    self._reloaded = False
    try:
      text = render()
    except (OSError, ValueError) as e:
      words = _words(e)
      if words != self._words:
        what = 'no page yet' if before is None else 'no newer page'
        terminal.say(f'{what}: {words}', to_stderr=True)
      self._words = words
      return
    found = _POLICY.search(text[:_HEAD_CHARS])
    policy = html.unescape(found[1]) if found else "default-src 'none'"
    self._page = _Page(
      text.encode(errors='backslashreplace'),
      ' '.join(policy.split()),
      1 if before is None else before.number + 1,
      changes,
    )

  def given(self) -> tuple[bytes, str]:
    """The page for a browser, and its policy."""
    self._polled, page = time.monotonic(), self._page
    if page is None:
      text = _WAITING.format(words=html.escape(self._words))
      return text.encode(errors='backslashreplace'), "default-src 'none'"
    self._reloaded, self._given = True, page.number
    return page.content, page.policy

  def news(self, after: int) -> dict[str, Any]:
    self._polled, page = time.monotonic(), self._page
    newer = page is not None and page.number > self._given
    return dict(self.steps.after(after), new=newer)

  def process_request(self, request: Any, client_address: Any) -> None:
    if not self._clients.acquire(blocking=False):
      self.shutdown_request(request)
      return
    try:
      super().process_request(request, client_address)
    except RuntimeError:  # No thread could be started.
      self._clients.release()
      raise

  def process_request_thread(self, request: Any, client_address: Any) -> None:
    try:
      super().process_request_thread(request, client_address)
    finally:
      self._clients.release()

  def handle_error(self, request: Any, client_address: Any) -> None:
    # A client that went away, or was too slow, is no news.
    if not isinstance(sys.exception(), OSError):
      super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
  timeout = _SILENT_SECONDS

  def do_GET(self) -> None:
    hosts = self.headers.get_all('Host', [])
    path, _, query = self.path.partition('?')
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
      self._send(403, f'ask for {" or ".join(_HOSTS)}')
    elif path == '/':
      content, policy = self.server.given()
      self._send(200, content, 'text/html; charset=utf-8', policy)
    elif path != '/steps.json':
      self._send(404, 'there are / and /steps.json')
    elif match := _AFTER.fullmatch(query):
      news = json.dumps(self.server.news(int(match[1])), allow_nan=False)
      self._send(200, news, 'application/json')
    else:
      self._send(400, 'expected /steps.json?after=STEP')

  def version_string(self) -> str:
    return 'acereason_jax'

  def send_error(
    self, code: int, message: str | None = None, explain: str | None = None
  ) -> None:
    """An answer without the request's own text in it."""
    self.close_connection = True
    self._send(code, f'error {int(code)}')

  def log_message(self, format: str, *args: Any) -> None:
    """Logs nothing: a request may hold anything."""

  def _send(
    self,
    code: int,
    content: str | bytes,
    kind: str = 'text/plain; charset=utf-8',
    policy: str = "default-src 'none'",
  ) -> None:
    data = content.encode() if isinstance(content, str) else content
    self.send_response(code)
    for name, value in (
      ('Content-Type', kind),
      ('Content-Length', str(len(data))),
      ('Content-Security-Policy', f"{policy}; frame-ancestors 'none'"),
      ('Cache-Control', 'no-store'),
      ('Cross-Origin-Resource-Policy', 'same-origin'),
      ('Referrer-Policy', 'no-referrer'),
      ('X-Content-Type-Options', 'nosniff'),
    ):
      self.send_header(name, value)
    self.end_headers()
    # Piece by piece: the limit is of silence, and a tunnel may be slow.
    for i in range(0, len(data), _CHUNK):
      self.wfile.write(data[i : i + _CHUNK])
