"""Writes a run's report in a child process, which the run does not wait for.

The child is `python -m acereason_jax.report RUN --out=RUN/report.html`, at the
lowest priority. What it prints is in RUN/report.log. Whatever becomes of it,
the run goes on as without it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

import jax

from acereason_jax import children, storage
from acereason_jax.hosts import watchdog
from acereason_jax.run import folder as folder_lib
from acereason_jax.run import metrics
from acereason_jax.run.values import Tools

PAGE, LOG = 'report.html', 'report.log'
MODULE = 'acereason_jax.report'
# The run waits so long for its last report: less than the 300 s that the other
# processes of a run wait at their end for the first.
SECONDS = 240.0
_LOOK_SECONDS = 0.2
_LOWEST = 19
# Variables by which a process finds a bucket and logs in.
_STORE = ('GOOGLE_', 'GCE_', 'CLOUDSDK_', 'TENSORSTORE_', 'STORAGE_EMULATOR_')
_STORE_NAMES = (
  *('HOME', 'HTTPS_PROXY', 'https_proxy', 'NO_PROXY', 'no_proxy'),
  *('SSL_CERT_FILE', 'SSL_CERT_DIR'),
)


class Reporter:
  """Context manager: the reports of a run, one at a time.

  Only the first process of a run writes them; on others it does nothing. A
  report that is not finished at the end of the block is given up.
  """

  def __init__(self, folder: folder_lib.Folder):
    self._folder = folder
    self._child: subprocess.Popen | None = None

  def __enter__(self) -> 'Reporter':
    return self

  def __exit__(self, *exc: object) -> None:
    self._give_up()

  def begin(self) -> None:
    """Begins a report of the run as it is now; gives up the one before."""
    if jax.process_index() != 0:
      return
    self._give_up()
    try:
      self._child = self._start()
    except OSError as e:
      metrics.say(f'WARNING: no report is written: {e}')

  def finish(self, tools: Tools) -> None:
    """Begins a report and waits for it, `SECONDS` or until a signal comes."""
    folder_lib.upload(self._folder)
    self.begin()
    if (child := self._child) is None:
      return
    until = time.monotonic() + SECONDS
    with watchdog.phase('report'):
      while child.poll() is None:
        if time.monotonic() > until or tools.stop.asked():
          metrics.say(
            f'no report yet: python -m {MODULE} {self._folder.root} writes it'
          )
          return
        watchdog.progress()
        time.sleep(_LOOK_SECONDS)
    where = storage.join(self._folder.root, PAGE)
    if child.returncode == 0:
      metrics.say(f'{where}: the report of the run; open it in a browser')
      return
    log = storage.join(self._folder.root, LOG)
    metrics.say(f'WARNING: {where} was not written; {log} says why')

  def _start(self) -> subprocess.Popen:
    root = self._folder.root
    place = root if storage.is_remote(root) else os.path.abspath(root)
    page = storage.join(place, PAGE)
    with (self._folder.local / LOG).open('wb') as log:
      child = subprocess.Popen(
        # The judges that the config names are those of this run.
        [sys.executable, '-m', MODULE, place, f'--out={page}', '--trusted'],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment(storage.is_remote(root)),
        # Ctrl+C in the run's terminal is for the run.
        start_new_session=True,
      )
    with contextlib.suppress(OSError):  # It may have ended.
      os.setpriority(os.PRIO_PROCESS, child.pid, _LOWEST)
    return child

  def _give_up(self) -> None:
    """Ends the child, and the judges that it may have started."""
    child, self._child = self._child, None
    if child is None or child.poll() is not None:
      return
    with contextlib.suppress(ProcessLookupError):
      os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def environment(remote: bool) -> dict[str, str]:
  """The child's variables; for a run at gs:// those that lead there too.

  The child is this program over its own files. The judges that it starts get
  none of these.
  """
  store = {
    name: value
    for name, value in os.environ.items()
    if name.startswith(_STORE) or name in _STORE_NAMES
  }
  return children.environment(JAX_PLATFORMS='cpu') | (store if remote else {})
