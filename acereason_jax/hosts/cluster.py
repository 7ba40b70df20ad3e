"""What jax does about clusters: finds this process's ids, joins the others.

The search is private to jax, because jax tells what it found only after it has
joined; a test fails if it has moved.
"""

import atexit
import os
import pathlib
import socket
import subprocess
import sys

import jax
from jax._src import clusters

from acereason_jax import children
from acereason_jax.hosts import gang as gang_lib
from acereason_jax.hosts import ids as ids_lib


def detect() -> ids_lib.Ids | None:
  """What jax finds: TPU virtual machines by their metadata server, Open MPI.

  Raises:
    ValueError: it looks like such a cluster, but cannot be read.
  """
  try:
    found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      *(None, None, None, None, None), 60
    )
  # Whatever a metadata server's absence is to an HTTP library.
  except (RuntimeError, OSError, LookupError, ValueError, TypeError) as e:
    words = ' '.join(str(e).split())[:300]
    raise ValueError(
      f'--coordinator=auto: this cluster cannot be read ({words}); give '
      '--coordinator=host:port, --processes and --process'
    ) from e
  coordinator, processes, process, local = found
  if None in (coordinator, processes, process):
    return None
  return ids_lib.Ids(coordinator, processes, process, local and tuple(local))


def connect(
  gang: gang_lib.Gang, join_seconds: float, peer_seconds: float
) -> None:
  """Makes jax one of all processes of a gang.

  Raises:
    OSError: one line; jax's own service cannot be reached.
  """
  if gang.alone:
    return
  ids, service = gang.ids, gang.start.service
  try:
    jax.distributed.initialize(
      str(service),
      ids.processes,
      ids.process,
      local_device_ids=ids.local_devices,
      # Its search for what is not given would take Slurm's tasks for devices.
      cluster_detection_method='deactivate',
      initialization_timeout=int(join_seconds),
      # jax would not name the process that is lost: the gang comes first.
      heartbeat_timeout_seconds=int(2 * peer_seconds) + 60,
      # The default listens on every interface.
      coordinator_bind_address=str(gang.bind) if gang.bind else None,
    )
  except RuntimeError as e:
    words = ' '.join(str(e).split())[:300]
    raise OSError(
      f"jax's service at {service} cannot be reached ({words}); does a "
      'firewall close the port?'
    ) from e
  if gang.bind:
    _outlive(gang.bind.port)


# Reads to the end of its parent.
_KEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.read()
time.sleep(5)
"""


def _outlive(port: int) -> None:
  """Keeps jax's connections to process 0 open for 5 s if that is killed.

  jax aborts a process as soon as it loses its service, and would often be
  faster than the gang, which names what was lost. A small process has the same
  sockets.
  """
  descriptors = pathlib.Path('/proc/self/fd')
  if not descriptors.is_dir():
    return
  numbers = [int(path.name) for path in descriptors.iterdir()]
  keeper = subprocess.Popen(
    [sys.executable, '-I', '-S', '-c', _KEEPER],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    pass_fds=[n for n in numbers if _is_accepted(n, port)],
    env=children.environment(),
    start_new_session=True,
  )
  # An orderly end has jax's own.
  atexit.register(keeper.kill)


def _is_accepted(descriptor: int, port: int) -> bool:
  """Whether it is a connection that came in at a port."""
  try:
    with socket.socket(fileno=os.dup(descriptor)) as found:
      inet = found.family in (socket.AF_INET, socket.AF_INET6)
      return (
        inet and found.getsockname()[1] == port and bool(found.getpeername())
      )
  except OSError:
    return False  # No socket, one that listens, or already closed.
