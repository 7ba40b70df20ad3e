"""The table of docs/plan.md: models x hardware x stages, by the plan command.

    python -m benchmarks.plan_table --page=docs/plan.md
    python -m benchmarks.plan_table --models=qwen2-7b --hardware=v5p:4x4x4

Each pair of a model and of hardware is one run of `python -m
acereason_jax.plan`, whose seconds and memory are measured here; all else is
simulated. --page writes the section "The table" of that page; otherwise it is
printed. All stages of the config are planned.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.planning import table

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = 'configs/acereason_7b.py'
MODELS = ('qwen2-1.5b', 'qwen2-7b', 'qwen2-14b', 'qwen3-30b-a3b')
HARDWARE = (
  *('v5e:16x16', 'v5p:4x4x4', 'v6e:16x16', 'tpu7x:4x4x4', 'h100:8'),
  'h100:8*16',
)
SECTION = 'The table'
_ABOUT = (
  '`python -m benchmarks.plan_table --page=docs/plan.md` writes this section. '
  'A run chooses `rollout_mesh.tensor` and its slots, and so do these plans. '
  'A change is one that makes the row fit; the figures are those with it. '
  'fullest: memory of a device when it is fullest; other columns as above.'
)
_HEAD = (
  *('hardware', 'stage', 'change', 'slots', 'fullest', 'step', 'decode'),
  *('update', 'full', 'tail', 'tok/s', 'MFU', 'hours', 'chip-h'),
)


class Made(NamedTuple):
  """One run of the command.

  plan: what --json wrote; None if it made no plan.
  seconds: of the wall clock.
  peak: bytes of memory that the process took at most.
  reason: the line that it ended with if there is no plan.
  """

  plan: Mapping[str, Any] | None
  seconds: float
  peak: int
  reason: str


def made(model: str, hardware: str, config: str, extra: Sequence[str]) -> Made:
  """Runs the command."""
  with tempfile.TemporaryDirectory() as folder:
    file, errors = (pathlib.Path(folder) / n for n in ('plan.json', 'stderr'))
    command = [
      *(sys.executable, '-m', 'acereason_jax.plan', f'--config={config}'),
      *(f'--model={model}', f'--hardware={hardware}', f'--json={file}'),
      *extra,
    ]
    before = time.monotonic()
    with errors.open('w') as err:
      process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=err, cwd=ROOT
      )
      # Of this process alone; `resource` knows only the largest of all.
      _, _, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - before
    plan = json.loads(file.read_text()) if file.exists() else None
    said = errors.read_text().strip().splitlines() or ['']
    return Made(plan, seconds, usage.ru_maxrss * 1024, said[-1])


def rows(found: Made, hardware: str) -> Iterator[list[str]]:
  """A row a stage; with the change that makes it fit, if it needs one."""
  if found.plan is None:
    yield [hardware, '', found.reason, *[''] * (len(_HEAD) - 3)]
    return
  for stage in found.plan['stages']:
    shown = table.figures(stage)
    change = table.change(stage).replace('--config.', '')
    row = [hardware, stage['name']]
    if not stage['fits']:
      change = change or f'none is known: {table.why(stage)}'
    if not shown['fits'] or shown['seconds'] is None:
      yield [*row, change, *[''] * (len(_HEAD) - 3)]
      continue
    phase = table.fullest(shown)
    most = phase['bytes'] / phase['room'] if phase and phase['room'] else None
    yield [
      *(*row, change, f'{shown["slots"]:,}', table.percent(most)),
      table.seconds(shown['step_seconds']),
      table.seconds(shown['seconds']['decode']),
      table.seconds(shown['seconds']['update']),
      *(table.percent(shown[n]) for n in ('occupancy', 'tail')),
      table.whole(shown['tokens_per_second_a_chip']),
      table.percent(shown['mfu']),
      table.hours(shown['hours']),
      table.whole(shown['chip_hours']),
    ]


def section(
  models: Sequence[str], hardware: Sequence[str], config: str, extra: list[str]
) -> str:
  parts, taken = [f'## {SECTION}', _ABOUT], []
  for model in models:
    lines = []
    for text in hardware:
      found = made(model, text, config, extra)
      taken.append((f'{model}, {text}', found))
      lines += rows(found, text)
      print(f'{model} {text}: {found.seconds:.1f} s', file=sys.stderr)
    parts += [f'### {model}', _pipes(lines)]
  parts.append(_cost(taken))
  return '\n\n'.join(parts) + '\n'


def _pipes(lines: Sequence[Sequence[str]]) -> str:
  text = table.pipes(table.Table(_HEAD, lines))
  # Three columns of names.
  return text.replace('| --- | --: | --: |', '| --- | --- | --- |', 1)


def _cost(taken: Sequence[tuple[str, Made]]) -> str:
  """What the commands took, the longest by name."""
  seconds = [found.seconds for _, found in taken]
  name, longest = max(taken, key=lambda each: each[1].seconds)
  peak = max(found.peak for _, found in taken)
  return (
    f'Made at {_commit()}, {datetime.date.today()}. The {len(taken)} commands '
    f'took {sum(seconds):.0f} s in all, one after the other; the longest '
    f'{longest.seconds:.1f} s ({name}). None took more than {peak / 1e9:.2f} '
    'GB.'
  )


def _commit() -> str:
  command = ['git', 'rev-parse', '--short=7', 'HEAD']
  return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--models', default=','.join(MODELS))
  parser.add_argument('--hardware', default=','.join(HARDWARE))
  parser.add_argument('--config', default=CONFIG)
  parser.add_argument('--page', type=pathlib.Path)
  args, extra = parser.parse_known_args()
  text = section(
    args.models.split(','), args.hardware.split(','), args.config, extra
  )
  if args.page is None:
    print(text)
    return
  page = args.page.read_text()
  title = rf'^## {SECTION}\n'
  if not re.search(title, page, re.M):
    raise SystemExit(f'error: {args.page}: has no section "{SECTION}"')
  new = re.sub(rf'{title}[\s\S]*?(?=^## |\Z)', lambda _: text, page, flags=re.M)
  args.page.write_text(new)


if __name__ == '__main__':
  main()
