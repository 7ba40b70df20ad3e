"""What jax does about clusters: finds this process's ids, joins the others.

The search is private to jax, because jax tells what it found only after it has
joined; a test fails if it has moved.
"""

import jax
from jax._src import clusters

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
