"""A hub on this machine: what huggingface_hub asks of the real one.

Commits of a repository are dicts of file contents. A file of weights is stored
apart, as the real hub's LFS does: a redirect, whose ETag is the SHA-256.
"""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator

REVISION = 'main'
_API = re.compile(
  r'/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/?]+))?'
)
_FILE = re.compile(r'/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)')
_CDN = re.compile(r'/cdn/([0-9a-f]{64})')


@dataclasses.dataclass
class Hub:
  """State of the server, which a test may change between requests.

  url: its address.
  store: the address of large files, of another host for the library.
  commits: repository ('owner/name', 'datasets/owner/name') -> commit -> file ->
    content.
  heads: repository -> commit of main.
  gated: repositories that need TOKEN.
  broken: file -> bytes after which the next download of it breaks off.
  held: file or repository -> an event that its next download, or question,
    waits for.
  headers: file -> headers that replace those of its HEAD.
  endless: files that are sent without an end.
  listed: names in every listing beside the files that there are.
  down: the status of every answer; 0 for none.
  asked: (method, path, value of the header Range) of every request.
  """

  url: str = ''
  store: str = ''
  commits: dict = dataclasses.field(default_factory=dict)
  heads: dict = dataclasses.field(default_factory=dict)
  gated: set = dataclasses.field(default_factory=set)
  broken: dict = dataclasses.field(default_factory=dict)
  held: dict = dataclasses.field(default_factory=dict)
  headers: dict = dataclasses.field(default_factory=dict)
  endless: set = dataclasses.field(default_factory=set)
  listed: list = dataclasses.field(default_factory=list)
  down: int = 0
  asked: list = dataclasses.field(default_factory=list)

  def commit(self, repo: str, files: dict[str, bytes]) -> str:
    """Makes these the files of main; returns the commit."""
    made = self.commits.setdefault(repo, {})
    commit = hashlib.sha1(f'{repo} {len(made)}'.encode()).hexdigest()
    made[commit] = files
    self.heads[repo] = commit
    return commit

  def fetched(self) -> list[str]:
    """The files whose content was asked for, in order."""
    stored = {
      hashlib.sha256(content).hexdigest(): name
      for commits in self.commits.values()
      for files in commits.values()
      for name, content in files.items()
    }
    names = []
    for method, path, _ in self.asked:
      if method == 'GET' and (found := _FILE.fullmatch(path)):
        names.append(found[4])
      elif method == 'GET' and (found := _CDN.fullmatch(path)):
        names.append(stored[found[1]])
    return names


TOKEN = 'hf_the_secret'


class Refused(Exception):
  """status, and the header X-Error-Code."""


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  hub: Hub

  def log_message(self, *_) -> None:
    pass

  def do_HEAD(self) -> None:
    self._answer()

  def do_GET(self) -> None:
    self._answer()

  def _answer(self) -> None:
    path = urllib.parse.urlsplit(self.path).path
    self.hub.asked.append((self.command, path, self.headers.get('Range')))
    try:
      if self.hub.down:
        raise Refused(self.hub.down, 'Down')
      if found := _API.fullmatch(path):
        self._api(*found.groups())
      elif found := _FILE.fullmatch(path):
        self._file(*found.groups())
      elif found := _CDN.fullmatch(path):
        # The token is for the hub alone.
        assert not self.headers.get('Authorization')
        self._stored(found[1])
      else:
        raise Refused(404, 'NoRoute')
    except Refused as e:
      status, code = e.args
      # A hostile one repeats what it was given.
      told = self.headers.get('Authorization', '')
      self._send(
        status, told.encode(), {'X-Error-Code': code, 'X-Error-Message': told}
      )
    except (BrokenPipeError, ConnectionResetError):
      self.close_connection = True

  def _files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
    if repo not in self.hub.commits:
      raise Refused(404 if self._has_token() else 401, 'RepoNotFound')
    if repo in self.hub.gated and not self._has_token():
      raise Refused(401, 'GatedRepo')
    revision = urllib.parse.unquote(revision)
    commit = self.hub.heads[repo] if revision == REVISION else revision
    if commit not in self.hub.commits[repo]:
      raise Refused(404, 'RevisionNotFound')
    return commit, self.hub.commits[repo][commit]

  def _has_token(self) -> bool:
    return self.headers.get('Authorization') == f'Bearer {TOKEN}'

  def _api(self, kind: str, name: str, what: str, revision: str) -> None:
    repo = name if kind == 'models' else f'datasets/{name}'
    if repo in self.hub.held:
      self.hub.held.pop(repo).wait()
    commit, files = self._files(repo, revision or REVISION)
    if what == 'tree':
      values = [
        dict(type='file', path=n, size=len(c), oid=_oid(c)) | _lfs(n, c)
        for n, c in [*files.items(), *((n, b'') for n in self.hub.listed)]
      ]
    else:
      siblings = [dict(rfilename=n) for n in files]
      values = dict(id=name, sha=commit, siblings=siblings, tags=[])
    kind = {'Content-Type': 'application/json'}
    self._send(200, json.dumps(values).encode(), kind)

  def _file(self, data: str, name: str, revision: str, path: str) -> None:
    commit, files = self._files(f'{data or ""}{name}', revision)
    path = urllib.parse.unquote(path)
    if path not in files:
      raise Refused(404, 'EntryNotFound')
    content = files[path]
    headers = {'X-Repo-Commit': commit, 'ETag': f'"{_oid(content)}"'}
    if lfs := _lfs(path, content):
      digest = lfs['lfs']['oid']
      headers |= {
        'X-Linked-ETag': f'"{digest}"',
        'X-Linked-Size': str(len(content)),
        'Location': f'{self.hub.store}/cdn/{digest}',
      }
      headers |= self.hub.headers.get(path, {})
      self._send(302, b'', headers)
    else:
      headers |= self.hub.headers.get(path, {})
      self._content(path, content, headers)

  def _stored(self, digest: str) -> None:
    for commits in self.hub.commits.values():
      for files in commits.values():
        for name, content in files.items():
          if hashlib.sha256(content).hexdigest() == digest:
            self._content(name, content, {'ETag': f'"{digest}"'})
            return
    raise Refused(404, 'NoRoute')

  def _content(self, name: str, content: bytes, headers: dict) -> None:
    status, start = 200, 0
    if wanted := self.headers.get('Range'):
      start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
      whole = f'bytes {start}-{len(content) - 1}/{len(content)}'
      status, headers = 206, headers | {'Content-Range': whole}
    part = content[start:]
    if self.command == 'HEAD':
      self._send(status, part, headers)
    elif name in self.hub.endless:
      self._send_endlessly(headers)
    elif name in self.hub.broken:
      self._send(status, part, headers, stop=self.hub.broken.pop(name))
    else:
      if name in self.hub.held:
        self.hub.held.pop(name).wait()
      self._send(status, part, headers)

  def _send_endlessly(self, headers: dict) -> None:
    self.send_response(200)
    for name, value in (headers | {'Transfer-Encoding': 'chunked'}).items():
      self.send_header(name, value)
    self.end_headers()
    while True:
      self.wfile.write(b'%x\r\n%s\r\n' % (1 << 20, bytes(1 << 20)))

  def _send(
    self, status: int, body: bytes, headers: dict, stop: int | None = None
  ) -> None:
    self.send_response(status)
    for name, value in ({'Content-Length': str(len(body))} | headers).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(body[:stop])
    if stop is not None:
      self.close_connection = True


def _oid(content: bytes) -> str:
  return hashlib.sha1(content).hexdigest()


def _lfs(name: str, content: bytes) -> dict:
  if not name.endswith('.safetensors'):
    return {}
  digest = hashlib.sha256(content).hexdigest()
  return dict(lfs=dict(oid=digest, size=len(content), pointerSize=130))


@contextlib.contextmanager
def started() -> Iterator[Hub]:
  """A hub without repositories, while the block runs."""
  hub = Hub()
  handler = type('OfHub', (Handler,), dict(hub=hub))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    server.daemon_threads = True
    hub.url = f'http://127.0.0.1:{server.server_port}'
    hub.store = f'http://localhost:{server.server_port}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hub
    server.shutdown()


def environment(hub: Hub, home: str, **others: str) -> dict[str, str]:
  """The variables of a process that uses this hub, with its cache in `home`."""
  return dict(
    HF_ENDPOINT=hub.url,
    HF_HOME=str(home),
    HF_TOKEN=TOKEN,
    HF_HUB_OFFLINE='0',
    HF_HUB_DISABLE_TELEMETRY='1',
    # This server always answers, but a busy machine may have no time for it.
    HF_HUB_ETAG_TIMEOUT='600',
    HF_HUB_DOWNLOAD_TIMEOUT='600',
    NO_PROXY='127.0.0.1,localhost',
  ) | dict(others)
