"""What is known of a run before it starts: its mesh, and its plan.

A process of its own makes the plan: here jax is not loaded.
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import machines
from acereason_jax.console import terminal

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, '-m', 'acereason_jax.plan')
# A plan takes seconds; on a machine that is busy, a minute.
_MOST_SECONDS = 300
_REASON_CHARS = 300


class About(NamedTuple):
  """What is known of a run without a plan.

  mesh: a line about its mesh.
  crossing: a line about weights that cross the slow network; '' if none do.
  within: flags with which they do not.
  """

  mesh: str
  crossing: str
  within: tuple[str, ...]


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


def told(
  config: str, own: Sequence[str], hardware: str, about: About
) -> tuple[Plan, list[str]]:
  """The plan of a config with the flags `own`, and lines about it.

  The mesh with which weights do not cross is planned too, to compare.
  """
  variants = [own, *([[*own, *about.within]] if about.within else [])]
  found, *others = made(config, variants, hardware)
  lines = []
  if about.crossing and (not others or others[0].fits is not False):
    lines.append(about.crossing + _instead(found, others))
  if found.reason:
    return found, [*lines, f'plan      not made: {found.reason}']
  heads = ['plan      ', *[' ' * 10] * len(found.lines)]
  lines += [(h + text).rstrip() for h, text in zip(heads, found.lines)]
  return found, lines


def _instead(found: Plan, others: Sequence[Plan]) -> str:
  """What the other mesh takes, if both are known."""
  hours = [one.hours for one in (*others, found)]
  if len(hours) < 2 or None in hours:
    return ''
  return f': {hours[0]:,.0f} hours instead of {hours[1]:,.0f}'


def crossing(
  config: Any, hardware: machines.Hardware, mesh: Mapping[str, int]
) -> tuple[str, tuple[str, ...]]:
  """A line about weights that go over the slow network, and the flags for a
  mesh with which they do not; ('', ()) if they do not.

  'fsdp' gathers them in every layer; 'data' adds gradients once a step.
  """
  tpu = hardware.kind.platform == 'tpu'
  count = hardware.slices if tpu else hardware.hosts
  alone = hardware.kind.platform == 'cpu' or count == 1
  if alone or mesh['data'] > 1 or mesh['fsdp'] % count:
    return '', ()
  within = mesh | dict(data=count, fsdp=mesh['fsdp'] // count)
  axes = ['data'] if config.mesh.fsdp == -1 else ['data', 'fsdp']
  given = tuple(f'--config.mesh.{axis}={within[axis]}' for axis in axes)
  line = (
    f'mesh      fsdp={mesh["fsdp"]} crosses {count} '
    f'{"slices" if tpu else "nodes"}; -- {" ".join(given)} keeps it within one'
  )
  return line, given
