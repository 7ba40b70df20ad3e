"""Firefox and WebKit of the system, by the commands of WebDriver.

Firefox takes them itself, from a socket (Marionette). WebKit has a program that
takes them by HTTP, and needs a screen, which Xvfb gives. No package of Python
is needed.
"""

import base64
import contextlib
import glob
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

# A guard: a busy machine takes more than 30 to start a browser.
SECONDS = 120
# How WebDriver names a key that has no character, and an element.
KEYS = dict(
  Tab='\ue004', Shift='\ue008', Escape='\ue00c', Home='\ue011',
  ArrowLeft='\ue012', ArrowRight='\ue014',
)  # fmt: skip
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'
MINI_BROWSER = '/usr/lib/*/webkit2gtk-4.*/MiniBrowser'
PREFERENCES = """
user_pref("marionette.port", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("layout.css.prefers-color-scheme.content-override", 1);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
"""
# What a page complained of, not what Firefox's own files did.
CONSOLE = """return Services.console.getMessageArray().filter((message) =>
  message instanceof Ci.nsIScriptError &&
  /^(file|http|data):/.test(message.sourceName)).map(String)"""
# WebKit has no command for its console.
LISTENER = """window.complaints = [];
addEventListener('error', (e) => complaints.push(String(e.message)));
addEventListener('unhandledrejection',
  (e) => complaints.push(String(e.reason)));
document.addEventListener('securitypolicyviolation',
  (e) => complaints.push(`${e.violatedDirective}: ${e.blockedURI}`));"""


def missing(engine: str) -> str:
  """How to install what an engine lacks here; empty if it lacks nothing."""
  programs, packages = dict(
    firefox=(['firefox-esr'], 'firefox-esr'),
    webkit=(['WebKitWebDriver', 'Xvfb'], 'webkit2gtk-driver xvfb'),
  )[engine]
  if all(map(shutil.which, programs)):
    return ''
  return f'needs apt-get install --no-install-recommends {packages}'


class Browser:
  """A window. Scripts are bodies of functions, which run in the open page."""

  def send(self, command: str, **parameters: Any) -> Any:
    """Does a command of WebDriver; an error of it fails the test."""
    raise NotImplementedError

  def prepared(self, html: str) -> str:
    """A page whose complaints can be read."""
    return html

  def complaints(self) -> list[str]:
    """The errors and warnings of the page since it was opened."""
    raise NotImplementedError

  def open(self, address: str) -> None:
    # Between addresses that differ only after # nothing would be loaded.
    self.send('Navigate', url='about:blank')
    self.send('Navigate', url=address)

  def run(self, script: str, *args: Any) -> Any:
    return self.send('ExecuteScript', script=script, args=list(args))

  def wait(self, script: str, *args: Any) -> Any:
    """What a script returns, once that is not empty."""
    return eventually(
      lambda: self.run(script, *args),
      lambda: f'{script} {args} {self.complaints()}',
    )

  def resize(self, width: int, height: int) -> None:
    """Makes the page so large, which is less than its window."""
    wide, high = self.run(
      'return [outerWidth - innerWidth, outerHeight - innerHeight]'
    )
    self.send('SetWindowRect', width=width + wide, height=height + high)
    self.wait('return innerWidth === arguments[0]', width)

  def press(self, key: str, *held: str) -> None:
    keys = [KEYS.get(name, name) for name in (*held, key)]
    down = [dict(type='keyDown', value=value) for value in keys]
    up = [dict(type='keyUp', value=value) for value in reversed(keys)]
    self.send(
      'PerformActions', actions=[dict(type='key', id='keys', actions=down + up)]
    )

  def click(self, selector: str, number: int = 0, times: int = 1) -> None:
    """Clicks the middle of an element, so often in a row."""
    node = self.run(
      """const node = document.querySelectorAll(arguments[0])[arguments[1]];
      node.scrollIntoView({block: 'center', behavior: 'instant'});
      return node;""",
      selector,
      number,
    )
    middle = dict(x=0, y=0, origin={ELEMENT: node[ELEMENT]})
    self._mouse([_move(**middle), *[DOWN, UP] * times])

  def drag(self, x: float, y: float, to_x: float) -> None:
    """Presses the button at a place and lets it go beside it, in steps."""
    places = [x + (to_x - x) * i / 4 for i in range(5)]
    moves = [_move(x=round(each), y=round(y)) for each in places]
    self._mouse([moves[0], DOWN, *moves[1:], UP])

  def point(self, x: float, y: float) -> None:
    self._mouse([_move(x=round(x), y=round(y))])

  def _mouse(self, actions: list[dict[str, Any]]) -> None:
    kind = dict(pointerType='mouse')
    device = dict(type='pointer', id='mouse', parameters=kind, actions=actions)
    self.send('PerformActions', actions=[device])


DOWN = dict(type='pointerDown', button=0)
UP = dict(type='pointerUp', button=0)


def _move(**place: Any) -> dict[str, Any]:
  return dict(type='pointerMove', duration=0) | place


class Firefox(Browser):
  """Firefox without a screen."""

  def __init__(self, link: socket.socket) -> None:
    self._link = link
    self._count = 0
    self._message()
    self.send('NewSession', capabilities={})

  def send(self, command: str, **parameters: Any) -> Any:
    prefix = '' if ':' in command else 'WebDriver:'
    self._count += 1
    asked = [0, self._count, prefix + command, parameters]
    data = json.dumps(asked).encode()
    self._link.sendall(b'%d:%s' % (len(data), data))
    _, number, error, found = self._message()
    assert number == self._count and error is None, error
    return found.get('value')

  def _message(self) -> Any:
    """The next message: its bytes, a colon, JSON."""
    size = b''
    while (byte := self._link.recv(1)) != b':':
      assert byte, 'Firefox has gone'
      size += byte
    data = bytearray()
    while len(data) < int(size):
      data += self._link.recv(int(size) - len(data))
    return json.loads(data)

  def complaints(self) -> list[str]:
    return self._above(CONSOLE)

  def open(self, address: str) -> None:
    self._above('Services.console.reset()')
    super().open(address)

  def prefer(self, *, scheme: str, scripts: bool) -> None:
    """What pages opened from now on see of the system, and may do."""
    self._above(
      """const [scheme, scripts] = arguments;
      const content = 'layout.css.prefers-color-scheme.content-override';
      Services.prefs.setIntPref(content, {dark: 0, light: 1}[scheme]);
      Services.prefs.setBoolPref('javascript.enabled', scripts);""",
      scheme,
      scripts,
    )

  def draw_as_paper(self) -> None:
    """Has the open page look as it would in print."""
    self._above(
      "gBrowser.selectedBrowser.browsingContext.mediumOverride = 'print';"
    )

  def _above(self, script: str, *args: Any) -> Any:
    """Runs a script outside of the page, which may do everything."""
    self.send('Marionette:SetContext', value='chrome')
    found = self.run(script, *args)
    self.send('Marionette:SetContext', value='content')
    return found


@contextlib.contextmanager
def firefox(folder: pathlib.Path) -> Iterator[Firefox]:
  """Firefox with a profile of its own in an empty folder."""
  (folder / 'user.js').write_text(PREFERENCES)
  command = [
    *('firefox-esr', '--headless', '--no-remote', '--profile', str(folder)),
    # The second lets a test read the console and prefer a scheme.
    *('--marionette', '--remote-allow-system-access'),
  ]
  port = folder / 'MarionetteActivePort'
  with _running(command, folder, HOME=str(folder)) as process:
    number = eventually(
      lambda: port.exists() and port.read_text(), lambda: _said(process, folder)
    )
    address = ('127.0.0.1', int(number))
    with socket.create_connection(address, SECONDS) as link:
      yield Firefox(link)


class WebKit(Browser):
  """WebKitGTK's MiniBrowser."""

  def __init__(
    self, connection: http.client.HTTPConnection, flags: list[str]
  ) -> None:
    self._connection = connection
    self._session = ''
    mini = dict(binary=glob.glob(MINI_BROWSER)[0], args=flags)
    wanted = dict(alwaysMatch={'webkitgtk:browserOptions': mini})
    found = self.send('NewSession', capabilities=wanted)
    self._session = '/' + found['sessionId']

  def send(self, command: str, **parameters: Any) -> Any:
    path = dict(
      NewSession='', Navigate='/url', ExecuteScript='/execute/sync',
      PerformActions='/actions', SetWindowRect='/window/rect',
    )[command]  # fmt: skip
    return self._ask('POST', path, json.dumps(parameters))

  def _ask(self, method: str, path: str, data: str | None = None) -> Any:
    address = f'/session{self._session}{path}'
    self._connection.request(method, address, data)
    answer = self._connection.getresponse()
    found = json.load(answer)['value']
    assert answer.status == 200, found
    return found

  def prepared(self, html: str) -> str:
    digest = hashlib.sha256(LISTENER.encode()).digest()
    allowed = f"script-src 'sha256-{base64.b64encode(digest).decode()}' "
    html = html.replace('script-src ', allowed, 1)
    return html.replace('<title>', f'<script>{LISTENER}</script><title>', 1)

  def complaints(self) -> list[str]:
    # None of a page without scripts.
    return self.run('return window.complaints ?? []')

  def end(self) -> None:
    self._ask('DELETE', '')


@contextlib.contextmanager
def webkit(
  folder: pathlib.Path, *, scheme: str = 'light', scripts: bool = True
) -> Iterator[WebKit]:
  """WebKit on a dark or a light system, with or without the pages' scripts."""
  screen = ['Xvfb', '-displayfd', '1', '-screen', '0', '1600x1200x24']
  with contextlib.ExitStack() as stack:
    place = folder / 'screen'
    place.mkdir()
    shown = stack.enter_context(_running([*screen, '-nolisten', 'tcp'], place))
    display = eventually(
      lambda: _first_line(place / 'log'),
      lambda: _said(shown, place),
    )
    port = _free_port()
    process = stack.enter_context(
      _running(
        ['WebKitWebDriver', f'--port={port}'],
        folder,
        DISPLAY=f':{display}',
        GDK_BACKEND='x11',
        GTK_THEME=f'Adwaita:{scheme}',
        HOME=str(folder),
      )
    )
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=SECONDS)
    eventually(lambda: _connects(connection), lambda: _said(process, folder))
    stack.callback(connection.close)
    markup = f'--enable-javascript-markup={str(scripts).lower()}'
    found = WebKit(connection, ['--automation', markup])
    stack.callback(found.end)
    yield found


def _first_line(path: pathlib.Path) -> str:
  """Empty until it is whole."""
  line, end, _ = path.read_text().partition('\n')
  return line if end else ''


def _connects(connection: http.client.HTTPConnection) -> bool:
  try:
    connection.connect()
  except ConnectionRefusedError:
    return False
  return True


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def _running(
  command: list[str], folder: pathlib.Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
  """A program while it is needed; its words go to the folder's log."""
  with open(folder / 'log', 'wb') as log:
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.DEVNULL,
      env=os.environ | variables,
    )
  try:
    yield process
  finally:
    process.terminate()
    try:
      process.wait(SECONDS)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _said(process: subprocess.Popen[bytes], folder: pathlib.Path) -> str:
  text = (folder / 'log').read_text(errors='replace')
  return f'{process.args}, exit code {process.poll()}: {text[-500:]}'


def eventually(look: Callable[[], Any], words: Callable[[], str]) -> Any:
  """What a look finds, once that is not empty."""
  end = time.monotonic() + SECONDS
  while not (found := look()):
    assert time.monotonic() < end, words()
    time.sleep(0.01)
  return found
