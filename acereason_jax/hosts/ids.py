"""Which process of a run this is, from its flags and its environment.

Every launcher tells it in variables of its own. What none of these says, jax
may find: hosts/cluster.py.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from acereason_jax.hosts import lines

Environment = Mapping[str, str]
# Where process 0 listens if nothing says so: jax's own port for TPU pods.
PORT = 8482


class Ids(NamedTuple):
  """A process among those of its run.

  coordinator: host:port of process 0; '' for a run of one process.
  processes: number of processes.
  process: index of this one.
  local_devices: the accelerators of this machine that are this process's; None:
    all that it sees.
  """

  coordinator: str = ''
  processes: int = 1
  process: int = 0
  local_devices: tuple[int, ...] | None = None


class Flags(NamedTuple):
  """What the command line says; None: nothing.

  coordinator: host:port of process 0, or 'auto'.
  processes: number of processes.
  process: index of this one.
  """

  coordinator: str | None
  processes: int | None
  process: int | None


def find(
  given: Flags,
  environment: Environment,
  detect: Callable[[], Ids | None] = lambda: None,
) -> Ids:
  """The ids of this process; flags come before the environment.

  `detect` finds them where the environment does not tell.

  Raises:
    ValueError: in one line.
  """
  if given.coordinator is None:
    if (given.processes or 1) > 1 or given.process:
      raise ValueError(
        f'--processes={given.processes or 1} --process={given.process or 0} '
        "without --coordinator: give the host:port of process 0, or 'auto'"
      )
    return Ids()
  whole = None not in (given.processes, given.process)
  auto = given.coordinator == 'auto'
  found = None
  if auto or not whole:
    found = from_environment(environment) or detect()
  if found is None and (auto or not whole):
    raise ValueError(
      f'--coordinator={given.coordinator}: nothing here says which process of '
      'how many this is (JAX_NUM_PROCESSES, SLURM_PROCID, '
      'JOB_COMPLETION_INDEX, SKYPILOT_NODE_RANK, a TPU pod); give '
      '--coordinator=host:port, --processes and --process'
    )
  ids = found or Ids()
  if not auto:
    ids = ids._replace(coordinator=given.coordinator)
  if given.processes is not None:
    ids = ids._replace(processes=given.processes)
  if given.process is not None:
    ids = ids._replace(process=given.process)
  return checked(ids)


def checked(ids: Ids) -> Ids:
  """The same ids. Raises ValueError if they cannot be."""
  if ids.processes < 1:
    raise ValueError(f'--processes={ids.processes}: expected at least 1')
  if not 0 <= ids.process < ids.processes:
    raise ValueError(
      f'--process={ids.process}: expected 0 to {ids.processes - 1}, because '
      f'--processes={ids.processes}'
    )
  lines.address(ids.coordinator, '--coordinator')
  return ids


def from_environment(environment: Environment) -> Ids | None:
  """What the first launcher says that says anything. Raises ValueError."""
  for source in (_jax, _slurm, _tpu, _skypilot):
    if found := source(environment):
      return found
  return None


def _jax(environment: Environment) -> Ids | None:
  """Variables with jax in their name, jax's own and those of xpk.

  In Kubernetes the index may be that of a pod in its job and of the job in its
  set, and the address that of the set's first pod.
  """
  total = _first(environment, 'JAX_NUM_PROCESSES', 'JAX_PROCESS_COUNT')
  host = environment.get('JAX_COORDINATOR_ADDRESS') or _first_pod(environment)
  index = _first(environment, 'JAX_PROCESS_ID')
  if index is None:
    index = _pod(environment)
  if None in (host, total, index):
    return None
  return Ids(_with_port(host, environment), total, index)


def _first_pod(environment: Environment) -> str | None:
  names = 'JOBSET_NAME', 'REPLICATED_JOB_NAME'
  jobset, job = map(environment.get, names)
  return f'{jobset}-{job}-0-0.{jobset}' if jobset and job else None


def _pod(environment: Environment) -> int | None:
  """The index of a pod among those of all jobs of its set."""
  index = _first(environment, 'JOB_COMPLETION_INDEX')
  job = _first(environment, 'JOB_INDEX') or 0
  if index is None or not job:
    return index
  if (each := _first(environment, 'PROCESSES_IN_JOB')) is None:
    raise ValueError(
      f'JOB_INDEX={job} without PROCESSES_IN_JOB: set it to the pods of a job'
    )
  return job * each + index


def _slurm(environment: Environment) -> Ids | None:
  """One task a host has all of its devices; of several, each has one."""
  names = 'SLURM_JOB_ID', 'SLURM_NTASKS', 'SLURM_PROCID'
  hosts = environment.get('SLURM_STEP_NODELIST')
  job, total, index = (_first(environment, name) for name in names)
  if None in (hosts, job, total, index):
    return None
  step = _first(environment, 'SLURM_STEP_ID') or 0
  nodes = _first(environment, 'SLURM_STEP_NUM_NODES', 'SLURM_NNODES')
  local = _first(environment, 'SLURM_LOCALID')
  shares = nodes is not None and total > nodes and local is not None
  # Two ports: jobs that share a host should not meet.
  port = 61440 + 2 * ((job + step) % 2000)
  return Ids(
    _with_port(first_host(hosts), environment, port),
    total,
    index,
    (local,) if shares else None,
  )


def first_host(hosts: str) -> str:
  """'node001' of Slurm's 'node[001-015,020],other'."""
  first = re.match(r'(?:[^,\[]|\[[^\]]*\])*', hosts)[0]
  return re.sub(r'\[([^\],-]*)[^\]]*\]', r'\1', first)


def _tpu(environment: Environment) -> Ids | None:
  """TPU hosts of Kubernetes, of one slice or of several, as jax counts them."""
  names = 'TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES'
  hosts = next(filter(None, map(environment.get, names)), None)
  index = _first(environment, 'TPU_WORKER_ID')
  if hosts is None or index is None:
    return None
  hosts = hosts.split(',')
  slices = _first(environment, 'MEGASCALE_NUM_SLICES') or 1
  slice_index = _first(environment, 'MEGASCALE_SLICE_ID') or 0
  leader = environment.get('MEGASCALE_COORDINATOR_ADDRESS') or hosts[0]
  return Ids(
    _with_port(_without_port(leader), environment),
    len(hosts) * slices,
    index + slice_index * len(hosts),
  )


def _skypilot(environment: Environment) -> Ids | None:
  hosts = environment.get('SKYPILOT_NODE_IPS', '').split()
  total = _first(environment, 'SKYPILOT_NUM_NODES')
  index = _first(environment, 'SKYPILOT_NODE_RANK')
  if not hosts or total is None or index is None:
    return None
  return Ids(_with_port(hosts[0], environment), total, index)


def _first(environment: Environment, *names: str) -> int | None:
  """The first of some variables that is set, a whole number."""
  for name in names:
    if text := environment.get(name):
      if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
      raise ValueError(f'{name}={text!r}: expected a whole number')
  return None


def _with_port(host: str, environment: Environment, default: int = PORT) -> str:
  """host:port; a host that has a port keeps it."""
  if host.count(':') == 1 or ']:' in host:
    return host
  port = _first(environment, 'JAX_COORDINATOR_PORT') or default
  return str(lines.Address(host.strip('[]'), port))


def _without_port(host: str) -> str:
  return host.rpartition(':')[0] if host.count(':') == 1 else host
