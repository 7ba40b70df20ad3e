"""Processes forked from one that has imported what they do.

A command spends seconds on imports, most of them jax's, and a run of the tiny
model hardly more on itself; a tokenizer's process is nothing but imports. Two
servers of commands take turns: a command and its successor have other seeds of
hashes, as two starts from a shell have. The start itself is what this leaves
out: `fresh` commands have it, and tests/test_tokens.py.
"""

import ast
import contextlib
import functools
import gc
import importlib
import itertools
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Sequence
from typing import Any

from acereason_jax import children

ROOT = pathlib.Path(__file__).parent.parent
# A fork of jax before it has a backend; elsewhere than on Linux nobody tried.
FORKS = sys.platform == 'linux'
# A server imports everything that these import, and then runs them.
COMMANDS = (
  *('acereason_jax.train', 'acereason_jax.generate'),
  'acereason_jax.evaluate',
)
TOKENS = 'acereason_jax.models.tokens_worker'
# Import jax, which a tokenizer's server must not have.
STARTS_TOKENS = 'acereason_jax.models.tokens_process'
REPORTS = 'acereason_jax.run.reporting_child'
# jax reads their variables when it is imported, before a command has its own.
CACHE = {
  'jax_compilation_cache_dir': str,
  'jax_persistent_cache_min_compile_time_secs': float,
}


class Popen:
  """As much of `subprocess.Popen` as is used; `arguments` lack the python."""

  def __init__(
    self,
    server: socket.socket,
    arguments: Sequence[str],
    *,
    env: dict[str, str],
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.STDOUT,
    bufsize: int = -1,
    text: bool = False,
    start_new_session: bool = False,
    cwd: str | os.PathLike | None = None,
  ):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (in_, to), (from_, out) = os.pipe(), os.pipe()
    if stdin == subprocess.DEVNULL:
      os.close(to)
    error = out if stderr == subprocess.STDOUT else stderr.fileno()
    assert stdin in (subprocess.PIPE, subprocess.DEVNULL)
    assert stdout == subprocess.PIPE
    folder = os.fspath(cwd or os.getcwd())
    request = [list(arguments), env, folder, start_new_session]
    fds = [theirs.fileno(), in_, out, error]
    socket.send_fds(server, [json.dumps(request).encode()], fds)
    theirs.close()
    os.close(in_)
    os.close(out)
    self._status, self._lock = ours, threading.Lock()
    self.returncode = None
    self.pid = int(ours.recv(64))
    if stdin == subprocess.PIPE:
      self.stdin = os.fdopen(to, 'wb', 0)
    mode = 'r' if text else 'rb'
    self.stdout = os.fdopen(from_, mode, bufsize)

  def wait(self, timeout: float | None = None) -> int:
    # Without the lock: a guard that kills must not wait for one that waits.
    # Once the status is read, the socket is at its end, and ready for all.
    ready = [self._status], [], [], timeout
    if self.returncode is None and not select.select(*ready)[0]:
      raise subprocess.TimeoutExpired('forked', timeout)
    with self._lock:
      if self.returncode is None:
        self.returncode = int(self._status.recv(64))
    return self.returncode

  def poll(self) -> int | None:
    try:
      return self.wait(0)
    except subprocess.TimeoutExpired:
      return None

  def communicate(self) -> tuple[Any, None]:
    with self.stdout:
      said = self.stdout.read()
    self.wait()
    return said, None

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      # It may have ended, and its status be on the way.
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)


def command(
  arguments: Sequence[str],
  env: dict[str, str],
  fresh: bool = False,
  cwd: pathlib.Path | None = None,
) -> Any:
  """`python *arguments`; those begin with -m and a module, or a file."""
  if fresh or not FORKS:
    return subprocess.Popen(
      [sys.executable, *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env=env,
      cwd=cwd,
    )
  return Popen(next(_turns()), arguments, env=env, text=True, cwd=cwd)


def fork_tokenizers(server: socket.socket | None = None) -> None:
  """From here on, those that models/tokens_process.py starts here."""
  if not FORKS:
    return
  server = server or _tokens_server()

  def start(arguments: Sequence[str], **kwargs: Any) -> Popen:
    assert arguments[:4] == [sys.executable, '-P', '-m', TOKENS]
    return Popen(server, arguments[2:], **kwargs)

  replaced = vars(subprocess) | dict(Popen=start)
  importlib.import_module(STARTS_TOKENS).subprocess = types.SimpleNamespace(
    **replaced
  )


@functools.cache
def _turns():
  paths = [str(ROOT / 'tests'), str(ROOT), os.environ.get('PYTHONPATH', '')]
  env = os.environ | {
    'PYTHONPATH': os.pathsep.join(filter(None, paths)),
    'PYTHONUNBUFFERED': '1',
  }
  shared = _tokens_server()
  servers = [_server(COMMANDS, env, shared) for _ in range(2)]
  return itertools.cycle([ready() for ready in servers])


@functools.cache
def _tokens_server():
  variables = importlib.import_module(STARTS_TOKENS)._VARIABLES
  return _server([TOKENS], children.environment(**variables))()


def _server(modules, env, *sockets):
  """Starts one; returns what waits until it is ready, and where it is asked."""
  ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
  fds = [s.fileno() for s in (theirs, *sockets)]
  code = f'import forked; forked.main({fds}, {list(modules)})'
  with theirs:
    process = subprocess.Popen(
      [sys.executable, '-P', '-c', code],
      pass_fds=fds,
      stdin=subprocess.DEVNULL,
      # As those of its children: what cannot be sought in.
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      env=env,
    )

  def ready() -> socket.socket:
    assert process.wait() == 0, process.stdout.read().decode()
    return ours

  return ready


def without_reports() -> Any:
  """Runs of this process write no report, which takes seconds each time.

  Returns what they did before.
  """
  reporter = importlib.import_module(REPORTS).Reporter
  before, reporter.begin = reporter.begin, lambda self: None
  return before


# --- in the server ----------------------------------------------------------


def main(fds: list[int], modules: list[str]) -> None:
  """Serves until nobody can ask; in a child, does what was asked."""
  for name in modules:
    path = ROOT / f'{name.replace(".", "/")}.py'
    body = ast.parse(path.read_text()).body
    imports = [x for x in body if isinstance(x, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), path, 'exec'), {})
  if TOKENS not in modules:
    without_reports()
  requests, *shared = [socket.socket(fileno=fd) for fd in fds]
  for server in shared:
    fork_tokenizers(server)
  gc.freeze()
  if os.fork():
    # Tests count children, of which the server is none.
    os._exit(0)
  _run(*_serve(requests))


def _serve(requests: socket.socket) -> list:
  """A request, in the process that is to do it; the server returns never."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGCHLD, signal.SIG_IGN)
  while True:
    message, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
    if not message:
      os._exit(0)
    if not os.fork():
      requests.close()
      return _supervise(json.loads(message), *fds)
    for fd in fds:
      os.close(fd)


def _supervise(request: list, status: int, *standard: int) -> list:
  """Forks who does it; the process in between tells how that ended."""
  signal.signal(signal.SIGCHLD, signal.SIG_DFL)
  if pid := os.fork():
    for fd in standard:
      os.close(fd)
    os.write(status, str(pid).encode())
    _, how = os.waitpid(pid, 0)
    os.write(status, str(os.waitstatus_to_exitcode(how)).encode())
    os._exit(0)
  os.close(status)
  signal.signal(signal.SIGINT, signal.default_int_handler)
  for i, fd in enumerate(standard):
    os.dup2(fd, i)
    os.close(fd)
  return request


def _run(
  arguments: list[str], env: dict[str, str], folder: str, session: bool
) -> None:
  if session:
    os.setsid()
  os.chdir(folder)
  os.environ.clear()
  os.environ.update(env)
  for name, of in CACHE.items():
    if name.upper() in env:
      sys.modules['jax'].config.update(name, of(env[name.upper()]))
  if arguments[0] == '-m':
    _, name, *rest = arguments
    sys.argv = ['', *rest]
    runpy.run_module(name, run_name='__main__', alter_sys=True)
  else:
    sys.argv = arguments
    sys.path.insert(0, str(pathlib.Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name='__main__')
