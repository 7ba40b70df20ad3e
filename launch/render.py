"""Texts that start a run elsewhere: a JobSet, an sbatch file, a SkyPilot task.

Pure: a job goes in, a text comes out. Every text starts the trainer once on
each host. What happens when it ends follows its exit status, the same in all
of them: see `ERRORS`, `MOVED` and `AGAIN`.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from acereason_jax.console import exits
from acereason_jax.machines import Hardware

TRAIN = ('python', '-m', 'acereason_jax.train')
# The user has something to fix: no restart.
ERRORS = (1, exits.USAGE)
# A signal came and the run is saved: the host is being taken away. It does not
# count as a restart; whoever deletes the job ends it.
MOVED = (exits.STOPPED,)
# A peer was lost, or a bug; jax's own abort; killed.
AGAIN = (exits.BUG, 134, 137, 143)
# The trainer itself stops after a few starts without progress.
RESTARTS = 20
# Time to finish a step and save after SIGTERM.
GRACE_SECONDS = 600
# Free on the hosts, if nobody else uses them: jax's own is 8476 too.
PORT = 8476
# The Secret of Kubernetes that holds the values of --secret.
SECRET = 'acereason-jax'
# A user that images/ makes; no host knows it.
USER = 1000
LONGEST_LABEL = 63


class Job(NamedTuple):
  """One run, to be started somewhere.

  name: name of the run, for people and for the scheduler.
  hardware: the machines it runs on.
  flags: the trainer's flags, but those that say which process it is.
  image: container image; '' where none is used.
  queue: Kueue's queue or Slurm's partition; '' is the default one.
  secrets: names of environment variables whose values stay where they are.
  """

  name: str
  hardware: Hardware
  flags: tuple[str, ...]
  image: str = ''
  queue: str = ''
  secrets: tuple[str, ...] = ()


def jobset(job: Job) -> str:
  """A JobSet, for TPU slices and for nodes of GPUs.

  It needs JobSet 0.10 or newer (patterns of messages in its failure policy).

  Raises:
    ValueError: Kubernetes would refuse the name.
  """
  hardware = job.hardware
  part = 'slice' if hardware.kind.platform == 'tpu' else 'nodes'
  check_label(job, part)
  labels = {'kueue.x-k8s.io/queue-name': job.queue} if job.queue else {}
  metadata = dict(name=job.name, labels=labels)
  if hardware.kind.platform == 'tpu':
    # A slice has a pool of nodes for itself.
    metadata['annotations'] = {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': (
        'cloud.google.com/gke-nodepool'
      )
    }
  template = dict(
    parallelism=hardware.hosts,
    completions=hardware.hosts,
    completionMode='Indexed',
    backoffLimit=0,
    podFailurePolicy=dict(rules=_pod_failures()),
    template=dict(spec=_pod(job, part)),
  )
  spec = dict(
    # The coordinator's name must be found before its pod is ready.
    network=dict(enableDNSHostnames=True, publishNotReadyAddresses=True),
    failurePolicy=_job_failures(),
    ttlSecondsAfterFinished=24 * 3600,
    replicatedJobs=[
      dict(
        name=part, replicas=hardware.slices, template=dict(spec=template)
      )
    ],
  )
  return _yaml(
    dict(
      apiVersion='jobset.x-k8s.io/v1alpha2',
      kind='JobSet',
      metadata={key: value for key, value in metadata.items() if value},
      spec=spec,
    )
  )


def check_label(job: Job, part: str) -> None:
  """Raises ValueError unless pods may be named after the job."""
  last = job.hardware.slices - 1, job.hardware.hosts - 1
  # Kubernetes adds five characters of its own.
  tail = len('-{}-{}-{}-12345'.format(part, *last))
  room = LONGEST_LABEL - tail
  if not re.fullmatch('[a-z]([-a-z0-9]*[a-z0-9])?', job.name):
    raise ValueError(
      f'--name={job.name}: Kubernetes expects lower-case letters, digits and '
      '-, a letter first and no - last'
    )
  if len(job.name) > room:
    raise ValueError(
      f'--name={job.name}: has {len(job.name)} characters; Kubernetes leaves '
      f'room for {room}'
    )


def _pod_failures() -> list[dict[str, Any]]:
  """The ends of a pod that are told apart; any other is a plain failure."""

  def exited(codes: Sequence[int]) -> dict[str, Any]:
    return dict(
      action='FailJob',
      onExitCodes=dict(
        containerName='trainer', operator='In', values=list(codes)
      ),
    )

  lost = dict(type='DisruptionTarget', status='True')
  return [
    exited(ERRORS),
    exited(MOVED),
    dict(action='FailJob', onPodConditions=[lost]),
  ]


def _job_failures() -> dict[str, Any]:
  """What follows: an end, a restart that is not counted, or one that is.

  The messages are those of Kubernetes' pkg/controller/job.
  """
  codes = '|'.join(map(str, ERRORS))
  return dict(
    maxRestarts=RESTARTS,
    # A new pod must not meet an old one, which holds the run's folder.
    restartStrategy='BlockingRecreate',
    rules=[
      dict(
        name='usersError',
        action='FailJobSet',
        onJobFailureReasons=['PodFailurePolicy'],
        onJobFailureMessagePatterns=[f'failed with exit code ({codes}) '],
      ),
      dict(
        name='hostTakenAway',
        action='RestartJobSetAndIgnoreMaxRestarts',
        onJobFailureReasons=['PodFailurePolicy'],
      ),
    ],
  )


def _pod(job: Job, part: str) -> dict[str, Any]:
  hardware = job.hardware
  pod = dict(
    restartPolicy='Never',
    terminationGracePeriodSeconds=GRACE_SECONDS,
    # Programs that a model wrote run in it.
    automountServiceAccountToken=False,
    # Otherwise the trainer is process 1, which ignores SIGTERM until it has a
    # handler, and has to reap what others leave.
    shareProcessNamespace=True,
    securityContext=dict(
      runAsNonRoot=True,
      runAsUser=USER,
      runAsGroup=USER,
      fsGroup=USER,
      seccompProfile=dict(type='RuntimeDefault'),
    ),
    nodeSelector=_selector(hardware),
    tolerations=[
      dict(key=device, operator='Exists') for device in _limits(hardware)
    ],
    containers=[_container(job, part)],
    # The default of 64 MB is too little for NCCL.
    volumes=[dict(name='shm', emptyDir=dict(medium='Memory'))],
  )
  if hardware.kind.platform == 'gpu' and hardware.hosts > 1 or (
    hardware.slices > 1
  ):
    # Arrays go over this network; a pod's own is slower.
    pod |= dict(hostNetwork=True, dnsPolicy='ClusterFirstWithHostNet')
  return {key: value for key, value in pod.items() if value not in ({}, [])}


def _selector(hardware: Hardware) -> dict[str, str]:
  if hardware.kind.platform == 'tpu':
    return {
      'cloud.google.com/gke-tpu-accelerator': hardware.kind.label,
      'cloud.google.com/gke-tpu-topology': hardware.topology,
    }
  if hardware.kind.platform == 'gpu':
    return {'cloud.google.com/gke-accelerator': hardware.kind.label}
  return {}


def _limits(hardware: Hardware) -> dict[str, str]:
  device = {'tpu': 'google.com/tpu', 'gpu': 'nvidia.com/gpu'}
  name = device.get(hardware.kind.platform)
  return {name: str(hardware.chips)} if name else {}


def _container(job: Job, part: str) -> dict[str, Any]:
  label = "metadata.labels['jobset.sigs.k8s.io/job-index']"
  index = dict(
    name='JOB_INDEX', valueFrom=dict(fieldRef=dict(fieldPath=label))
  )
  secrets = [
    dict(
      name=name, valueFrom=dict(secretKeyRef=dict(name=SECRET, key=name))
    )
    for name in job.secrets
  ]
  given = [dict(name=n, value=v) for n, v in _environment(job).items()]
  container = dict(
    name='trainer',
    image=job.image,
    command=['bash', '-c'],
    args=[_in_pod(job, part)],
    env=[index, *given, *secrets],
    securityContext=dict(
      allowPrivilegeEscalation=False, capabilities=dict(drop=['ALL'])
    ),
    volumeMounts=[dict(name='shm', mountPath='/dev/shm')],
  )
  if limits := _limits(job.hardware):
    container['resources'] = dict(limits=limits)
  return container


def _in_pod(job: Job, part: str) -> str:
  """The shell's text of a pod, which becomes the trainer."""
  flags = [*map(shlex.quote, job.flags)]
  if job.hardware.processes > 1:
    # Pods of a job are numbered from 0, and so are the jobs, one a slice.
    first = f'{job.name}-{part}-0-0.{job.name}'
    place = f'$((JOB_INDEX * {job.hardware.hosts} + JOB_COMPLETION_INDEX))'
    flags += [
      f'--coordinator={first}:{PORT}',
      f'--processes={job.hardware.processes}',
      f'--process={place}',
    ]
  return _command(['exec', *TRAIN], flags)


def sbatch(job: Job) -> str:
  """A file for sbatch; the environment is the one that submits it.

  Raises:
    ValueError: Slurm does not run on these machines.
  """
  hardware = job.hardware
  if hardware.kind.platform == 'tpu':
    raise ValueError(
      f'--backend=slurm: has no {hardware.kind.name}; give --backend=gke'
    )
  options = {
    'job-name': job.name,
    'nodes': hardware.hosts,
    'ntasks-per-node': 1,
  }
  if hardware.kind.platform == 'gpu':
    options['gpus-per-node'] = hardware.chips
  if hardware.chips < hardware.kind.chips:
    options['cpus-per-gpu'] = 8
  else:
    options['exclusive'] = None
  options |= {
    'requeue': None,
    'open-mode': 'append',
    'output': '%x-%j.log',
    # Before the time limit, so that the run is saved and queued again.
    'signal': f'TERM@{GRACE_SECONDS}',
  }
  if job.queue:
    options['partition'] = job.queue
  several = ['--coordinator=auto'] if hardware.processes > 1 else []
  start = [
    *('srun', '--label', '--kill-on-bad-exit=0', f'--wait={GRACE_SECONDS}'),
    # Otherwise the one task of a node gets one core.
    '--cpu-bind=none',
    *TRAIN,
  ]
  again = '|'.join(map(str, sorted(MOVED + AGAIN)))
  lines = [
    '#!/bin/bash',
    *(_slurm_option(name, value) for name, value in options.items()),
    '',
    *_exports(job),
    _command(start, [*map(shlex.quote, job.flags), *several]),
    'status=$?',
    '',
    '# 0 done, 1 and 2 something to fix; scancel ends the job for good.',
    'case $status in',
    f'  {again})',
    f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {RESTARTS} ]; then',
    '      scontrol requeue "$SLURM_JOB_ID"',
    '    fi',
    '    ;;',
    'esac',
    'exit $status',
  ]
  return '\n'.join(lines) + '\n'


def _slurm_option(name: str, value: Any) -> str:
  given = '' if value is None else f'={shlex.quote(str(value))}'
  return f'#SBATCH --{name}{given}'


def skypilot(job: Job) -> str:
  """A task of SkyPilot, for `sky jobs launch`.

  Raises:
    ValueError: SkyPilot does not know these machines.
  """
  hardware = job.hardware
  kind = hardware.kind
  if not kind.cloud or hardware.slices > 1:
    what = 'slices of TPUs that work together' if kind.cloud else kind.name
    raise ValueError(f'--backend=sky: has no {what}; give --backend=gke')
  resources: dict[str, Any] = {'cpus': '4+'}
  nodes = hardware.hosts
  if kind.platform == 'tpu':
    # All hosts of a slice are one node.
    cores = hardware.devices * kind.cores
    resources, nodes = {'accelerators': f'{kind.cloud}-{cores}'}, 1
  elif kind.platform == 'gpu':
    resources = {'accelerators': f'{kind.cloud}:{hardware.chips}'}
  if job.image:
    resources['image_id'] = f'docker:{job.image}'
  resources['job_recovery'] = dict(
    max_restarts_on_errors=RESTARTS,
    recover_on_exit_codes=sorted(MOVED + AGAIN),
  )
  several = ['--coordinator=auto'] if hardware.processes > 1 else []
  task = dict(
    name=job.name,
    num_nodes=nodes,
    resources=resources,
    envs=_environment(job),
    secrets=dict.fromkeys(job.secrets),
    run=_command(TRAIN, [*map(shlex.quote, job.flags), *several]),
  )
  return _yaml({key: value for key, value in task.items() if value != {}})


def supervised(job: Job) -> list[str]:
  """The command that runs all processes of a job on this machine.

  Raises:
    ValueError: they do not fit on one machine.
  """
  hardware = job.hardware
  if hardware.processes > 1 and hardware.kind.platform != 'cpu':
    raise ValueError(
      f'--backend=local: {hardware.text} has {hardware.processes} hosts; give '
      '--backend=gke, slurm or sky'
    )
  return [
    *('python', '-m', 'launch.supervise'),
    f'--processes={hardware.processes}',
    *('--', *TRAIN, *job.flags),
  ]


def script(job: Job) -> str:
  """`supervised` as a file for bash. Raises: see there."""
  head, tail = supervised(job)[:5], supervised(job)[5:]
  command = _command(['exec', *head], map(shlex.quote, tail))
  return '\n'.join(['#!/bin/bash', *_exports(job), command]) + '\n'


# By --backend: the text of a job, and the ending of its file's name.
TEXTS: Mapping[str, tuple[Callable[[Job], str], str]] = {
  'local': (script, 'sh'),
  'gke': (jobset, 'yaml'),
  'slurm': (sbatch, 'sbatch'),
  'sky': (skypilot, 'yaml'),
}


def _environment(job: Job) -> dict[str, str]:
  return dict(job.hardware.kind.flags, PYTHONUNBUFFERED='1')


def _exports(job: Job) -> Iterator[str]:
  """Lines of bash; the last of two equal flags counts, so the user's wins."""
  for name, value in _environment(job).items():
    if name.endswith(('FLAGS', 'ARGS')):
      yield f'export {name}="{value} ${{{name}:-}}"'
    else:
      yield f'export {name}="${{{name}:-{value}}}"'


def _command(start: Sequence[str], flags: Any) -> str:
  """A command for a shell, a flag a line."""
  return ' \\\n  '.join([' '.join(start), *flags])


class _Dumper(yaml.SafeDumper):
  """Writes texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
  style = '|' if '\n' in text else None
  return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(value: Any) -> str:
  return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10**6)
