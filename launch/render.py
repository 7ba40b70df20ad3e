"""The text that starts a run, by --backend: a job goes in, a text comes out.

The JobSet has a file of its own; a file for sbatch, a task of SkyPilot and a
script for bash are here.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from launch import job as job_lib
from launch.job import Job
from launch.jobset import jobset


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
    'signal': f'TERM@{job_lib.GRACE_SECONDS}',
  }
  if job.queue:
    options['partition'] = job.queue
  start = [
    'srun',
    '--label',
    # The others end by themselves, and say why.
    '--kill-on-bad-exit=0',
    f'--wait={job_lib.GRACE_SECONDS}',
    # Otherwise the one task of a node gets one core.
    '--cpu-bind=none',
    *job_lib.TRAIN,
  ]
  again = '|'.join(map(str, sorted(job_lib.MOVED + job_lib.AGAIN)))
  lines = [
    '#!/bin/bash',
    *(_slurm_option(name, value) for name, value in options.items()),
    '',
    *job_lib.exports(job),
    job_lib.command(start, [*job.flags, *job_lib.meeting(hardware)]),
    'status=$?',
    '',
    '# 0 done, 1 and 2 something to fix; scancel ends the job for good.',
    'case $status in',
    f'  {again})',
    f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job_lib.RESTARTS} ]; then',
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
    setup = {}
  else:
    extra = {'tpu': 'tpu,', 'gpu': 'cuda12,', 'cpu': ''}[kind.platform]
    setup = dict(workdir='.', setup=f"pip install -e '.[{extra}gcs]'")
  resources['job_recovery'] = dict(
    max_restarts_on_errors=job_lib.RESTARTS,
    recover_on_exit_codes=sorted(job_lib.MOVED + job_lib.AGAIN),
  )
  task = dict(
    name=job.name,
    num_nodes=nodes,
    resources=resources,
    **setup,
    envs=job_lib.environment(job),
    secrets=dict.fromkeys(job.secrets),
    run=job_lib.command(
      job_lib.TRAIN, [*job.flags, *job_lib.meeting(hardware)]
    ),
  )
  return job_lib.as_yaml({k: v for k, v in task.items() if v != {}})


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
    *('--', *job_lib.TRAIN, *job.flags),
  ]


def script(job: Job) -> str:
  """`supervised` as a file for bash. Raises: see there."""
  start = supervised(job)[: -len(job.flags)]
  start = job_lib.command(['exec', *start], job.flags)
  return '\n'.join(['#!/bin/bash', *job_lib.exports(job), start]) + '\n'


# By --backend: the text of a job, and the ending of its file's name.
TEXTS: Mapping[str, tuple[Callable[[Job], str], str]] = {
  'local': (script, 'sh'),
  'gke': (jobset, 'yaml'),
  'slurm': (sbatch, 'sbatch'),
  'sky': (skypilot, 'sky.yaml'),
}
