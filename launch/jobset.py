"""A JobSet of Kubernetes: slices of TPUs, or nodes of GPUs.

It needs JobSet 0.10 or newer, for the patterns of messages in its failure
policy; an older one refuses it.
"""

import re
from collections.abc import Sequence
from typing import Any

from acereason_jax.machines import Hardware
from launch import job as job_lib
from launch.job import Job

# Free on the hosts, if nobody else uses them: jax's own is 8476 too.
PORT = 8476
# The Secret of Kubernetes that holds the values of --secret.
SECRET = 'acereason-jax'
# The user of launch/Dockerfile; no host knows it.
USER = 1000
LONGEST_LABEL = 63


def jobset(job: Job) -> str:
  """A JobSet, for TPU slices and for nodes of GPUs.

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
      dict(name=part, replicas=hardware.slices, template=dict(spec=template))
    ],
  )
  return job_lib.as_yaml(
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
    exited(job_lib.ERRORS),
    exited(job_lib.MOVED),
    dict(action='FailJob', onPodConditions=[lost]),
  ]


def _job_failures() -> dict[str, Any]:
  """What follows: an end, a restart that is not counted, or one that is.

  The messages are those of Kubernetes' pkg/controller/job.
  """
  codes = '|'.join(map(str, job_lib.ERRORS))
  return dict(
    maxRestarts=job_lib.RESTARTS,
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
    terminationGracePeriodSeconds=job_lib.GRACE_SECONDS,
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
  if (hardware.kind.platform == 'gpu' and hardware.hosts > 1) or (
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
  index = dict(name='JOB_INDEX', valueFrom=dict(fieldRef=dict(fieldPath=label)))
  secrets = [
    dict(name=name, valueFrom=dict(secretKeyRef=dict(name=SECRET, key=name)))
    for name in job.secrets
  ]
  given = [dict(name=n, value=v) for n, v in job_lib.environment(job).items()]
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
  start = job_lib.command(['exec', *job_lib.TRAIN], job.flags)
  # Kubernetes reads $$ as $.
  start = start.replace('$', '$$')
  hardware = job.hardware
  if hardware.processes == 1:
    return start
  # Pods of a job are numbered from 0, and so are the jobs, one a slice.
  meet = (
    f'--coordinator={job.name}-{part}-0-0.{job.name}:{PORT}',
    f'--processes={hardware.processes}',
    f'--process=$((JOB_INDEX * {hardware.hosts} + JOB_COMPLETION_INDEX))',
  )
  return ' \\\n  '.join([start, *meet])
