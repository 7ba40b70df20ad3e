"""A run that is to be started, and what every way to start it has in common.

The trainer runs once on each host. What happens when it ends follows its exit
status, the same wherever it runs: see `ERRORS`, `MOVED` and `AGAIN`.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from acereason_jax.console import exits
from acereason_jax.machines import Hardware

TRAIN = ('python', '-m', 'acereason_jax.train')
# The user has something to fix: no restart.
ERRORS = (exits.FOR_USER, exits.USAGE)
# A signal came and the run is saved: the host is being taken away. It does not
# count as a restart; whoever deletes the job ends it.
MOVED = (exits.STOPPED,)
# A peer was lost, or a bug; jax's own abort; killed.
AGAIN = (exits.LOST, 134, 137, 143)
# The trainer itself stops after a few starts without progress.
RESTARTS = 20
# jax's platforms by a kind's. With one of them alone jax ends where there is no
# such device, and does not train on a CPU; 'cuda,cpu' would.
PLATFORMS = {'cpu': 'cpu', 'gpu': 'cuda', 'tpu': 'tpu'}
# Time to finish a step and save after SIGTERM.
GRACE_SECONDS = 600


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


def environment(job: Job) -> dict[str, str]:
  """Variables that a run starts with, beside those of its host."""
  kind = job.hardware.kind
  return dict(
    kind.flags, JAX_PLATFORMS=PLATFORMS[kind.platform], PYTHONUNBUFFERED='1'
  )


def merged(job: Job, own: Mapping[str, str]) -> dict[str, str]:
  """`environment` of a job where the user has variables of their own.

  The last of two equal flags counts, so the user's wins. The platform is
  --hardware's.
  """
  return {
    name: f'{value} {own.get(name, "")}'.strip()
    if name.endswith(('FLAGS', 'ARGS'))
    else value
    if name == 'JAX_PLATFORMS'
    else own.get(name, value)
    for name, value in environment(job).items()
  }


def exports(job: Job) -> Iterator[str]:
  """`merged` as lines of bash."""
  for name, value in environment(job).items():
    if name.endswith(('FLAGS', 'ARGS')):
      yield f'export {name}="{value} ${{{name}:-}}"'
    elif name == 'JAX_PLATFORMS':
      yield f'export {name}={value}'
    else:
      yield f'export {name}="${{{name}:-{value}}}"'


def command(start: Sequence[str], flags: Sequence[str]) -> str:
  """A command for a shell, a flag a line; both are quoted where needed."""
  return ' \\\n  '.join([shlex.join(start), *map(shlex.quote, flags)])


def meeting(hardware: Hardware) -> list[str]:
  """The flag of processes that find each other by their environment."""
  return ['--coordinator=auto'] if hardware.processes > 1 else []


class _Dumper(yaml.SafeDumper):
  """Writes texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
  style = '|' if '\n' in text else None
  return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(value: Any) -> str:
  return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10**6)
