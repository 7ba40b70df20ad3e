"""The plan of a run, made by a process of its own: here jax is not loaded."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from acereason_jax.console import terminal

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, '-m', 'acereason_jax.plan')
# A plan takes seconds; on a machine that is busy, a minute.
_MOST_SECONDS = 300
_REASON_CHARS = 300


class Plan(NamedTuple):
  """What the command said.

  lines: its tables; () if it made no plan.
  fits: whether the run fits; None if that is not known.
  hours: of the whole run; None if that is not known.
  bad: names of the stages that do not fit.
  reason: why there is no plan, in one line; '' if there is one.
  """

  lines: tuple[str, ...] = ()
  fits: bool | None = None
  hours: float | None = None
  bad: tuple[str, ...] = ()
  reason: str = ''


def made(
  config: str, variants: Sequence[Sequence[str]], hardware: str
) -> list[Plan]:
  """Plans of a config with each of some lists of flags, all at once."""
  with concurrent.futures.ThreadPoolExecutor(len(variants)) as pool:
    return list(pool.map(lambda given: one(config, given, hardware), variants))


def one(config: str, given: Sequence[str], hardware: str) -> Plan:
  """The plan of a config with flags such as --config.mesh.tensor=4."""
  paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
  variables = dict(
    JAX_PLATFORMS='cpu', PYTHONPATH=os.pathsep.join(filter(None, paths))
  )
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / 'plan.json'
    try:
      done = subprocess.run(
        [
          *(*COMMAND, f'--config={config}', *given),
          *(f'--hardware={hardware}', f'--json={file}'),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
        env=os.environ | variables,
        timeout=_MOST_SECONDS,
        check=False,
      )
    except subprocess.TimeoutExpired:
      return Plan(reason=f'it took more than {_MOST_SECONDS} seconds')
    try:
      plan = json.loads(file.read_text())
      return Plan(
        lines=tuple(done.stdout.splitlines()),
        fits=plan['fits'],
        hours=plan['hours'],
        bad=tuple(s['name'] for s in plan['stages'] if not s['fits']),
      )
    except (OSError, ValueError, KeyError):
      said = done.stderr.strip().splitlines() or [f'status {done.returncode}']
      reason = said[-1].removeprefix('error: ')
      return Plan(reason=terminal.one_line(reason, _REASON_CHARS))
