"""Runs jobs on this machine, one after the other, each under a supervisor."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from acereason_jax.console import exits, terminal
from launch import job as job_lib
from launch import render
from launch.job import Job

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(jobs: Sequence[Job]) -> int:
  """Runs one after the other; returns the first error's exit status."""
  state, failed = 0, []
  for job in jobs:
    if len(jobs) > 1:
      terminal.say(f'run {job.name}: {job.flags[-1]}')
    ended = wait_for(
      subprocess.Popen(
        command(job), env=environment(job), stdin=subprocess.DEVNULL
      )
    )
    if ended == exits.STOPPED:
      state = ended
      break
    if ended:
      failed.append(job.name)
    state = state or ended
  tell_failed(failed, len(jobs))
  return state


def tell_failed(names: Sequence[str], count: int) -> None:
  """Ends a sweep with a line about the runs that failed, if any did."""
  if names and count > 1:
    terminal.say(f'{len(names)} of {count} runs failed: {", ".join(names)}')


def command(job: Job) -> list[str]:
  """The command of a run on this machine, with this Python."""
  python, *rest = (
    sys.executable if word == 'python' else word
    for word in render.supervised(job)
  )
  place = rest.index('--')
  return [python, *rest[:place], f'--launcher={os.getpid()}', *rest[place:]]


def environment(job: Job) -> dict[str, str]:
  """The variables of a run on this machine."""
  flags = job_lib.merged(job, os.environ)
  paths = filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')])
  return os.environ | flags | {'PYTHONPATH': os.pathsep.join(paths)}


def wait_for(process: subprocess.Popen) -> int:
  """The exit status of a supervisor, to which signals are passed on."""

  def pass_on(number: int, frame: object) -> None:
    process.send_signal(signal.SIGTERM)

  numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
  heeded = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]
  before = {number: signal.signal(number, pass_on) for number in heeded}
  try:
    return process.wait()
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
