"""Has XManager's Local executor start runs: an experiment, a work unit a run.

Only `xmanager launch` loads this file. XManager would start all work units
together and leave them alive after a signal; here each waits for the one
before, and the supervisor that it starts ends with this process.
"""

import asyncio
import sys
from collections.abc import Sequence

from xmanager import xm, xm_local

from launch import local
from launch.job import Job


def run(jobs: Sequence[Job]) -> int:
  """Runs one after the other; returns the worst exit status."""
  return asyncio.run(_run(jobs))


async def _run(jobs: Sequence[Job]) -> int:
  title = jobs[0].name
  async with xm_local.create_experiment(experiment_title=title) as experiment:
    [executable] = experiment.package(
      [
        xm.Packageable(
          xm.Binary(path=sys.executable),
          executor_spec=xm_local.Local.Spec(),
        )
      ]
    )
    failed = []
    for job in jobs:
      unit = await experiment.add(
        xm.Job(
          executable,
          xm_local.Local(),
          name=job.name,
          args=local.command(job)[1:],
          env_vars=local.environment(job),
        )
      )
      try:
        await unit.wait_until_complete()
      except xm.ExperimentUnitError as e:
        failed.append(job.name)
        print(f'error: run {job.name}: {e}', file=sys.stderr)
    local.tell_failed(failed, len(jobs))
    return int(bool(failed))
