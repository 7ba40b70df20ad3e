"""Tables of the step, rollouts, the update and the judges, as one page.

    python -m benchmarks.all --quick
    python -m benchmarks.all --torch=PYTHON --trl=PYTHON --hf=PYTHON > page.md

The benchmarks run one after the other, each in a process of its own; their
values fill the page all.md. A peer that is not given leaves its cells empty;
benchmarks/peers/ says how to install it. A part that fails gives one line, and
exit status 1; the others still run. `--quick` takes fewer steps and verdicts,
and leaves out `tail`. The page ends with all values as JSON.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import string
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import psutil

from benchmarks import step

PAGE = pathlib.Path(__file__).with_suffix('.md')
ROOT = PAGE.parents[1]


class Part(NamedTuple):
  """A benchmark with a table in the page.

  command: module in benchmarks/, and its arguments.
  quick: arguments that make it shorter; None: --quick leaves it out.
  peer: the flag here that gives the peer's interpreter; '' for none.
  option: the benchmark's argument before that interpreter.
  """

  command: str
  quick: str | None
  peer: str = ''
  option: str = ''


# By their names in the page, in its order.
PARTS = {
  'step': Part('step', '--steps 1', 'trl', '--peer=trl='),
  'tail': Part('rollout --cases tail', None),
  'short': Part('rollout --cases short', '--repeats 1', 'hf', '--hf='),
  'long': Part('rollout --cases long', '--repeats 1'),
  'kv': Part('rollout --cases kv', ''),
  'weights': Part('rollout --cases weights', ''),
  'update': Part('update', '--steps 1', 'torch', '--torch='),
  'math': Part('judges math', '--runs 2000'),
  'code': Part('judges code', '--runs 2000'),
}


class Result(NamedTuple):
  """The outcome of a part.

  command: the command, without the path of a peer.
  values: content of its last line; {} if it failed.
  problem: one line; '' if it did not fail.
  """

  command: str
  values: dict[str, Any]
  problem: str


class Cells(string.Formatter):
  """`str.format`, with nothing in place of a value that there is not."""

  def get_value(self, key: Any, args: Sequence, kwargs: Mapping) -> Any:
    return kwargs.get(key)

  def format_field(self, value: Any, spec: str) -> str:
    return '' if value is None else format(value, spec)


def run(part: Part, quick: bool, python: str | None) -> Result:
  """Runs a benchmark; `python` is the interpreter of its peer."""
  words = ['-m', *f'benchmarks.{part.command}'.split()]
  words += part.quick.split() if quick else []
  shown = ['python', *words] + ([f'{part.option}PYTHON'] if python else [])
  command = ' '.join(shown)
  print(command, file=sys.stderr, flush=True)
  words += [f'{part.option}{python}'] if python else []
  done = subprocess.run(
    [sys.executable, *words], capture_output=True, text=True
  )
  try:
    done.check_returncode()
    return Result(command, json.loads(done.stdout.splitlines()[-1]), '')
  except (subprocess.CalledProcessError, ValueError, IndexError):
    print(done.stdout, done.stderr, sep='\n', file=sys.stderr, flush=True)
    said = (done.stderr or done.stdout).strip().rpartition('\n')[-1]
    return Result(command, {}, f'exit status {done.returncode}: {said}')


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
  """The values, with those of each peer under NAME_."""
  found = dict(values)
  for name, peer in found.pop('peers', {}).items():
    found |= {f'{name}_{key}': value for key, value in peer.items()}
  return found


def page(about: Mapping[str, Any], results: Mapping[str, Result]) -> str:
  """The page; parts without a result, and sections without parts, are out."""
  fill, blocks = Cells().vformat, []
  for block in PAGE.read_text().strip().split('\n\n'):
    name, _, table = block.removeprefix('@').partition('\n')
    if name == 'values':
      values = {name: r.values for name, r in results.items() if r.values}
      blocks.append(f'    {json.dumps(values)}')
    elif not block.startswith('@'):
      blocks.append(fill(block, (), about))
    elif name in results:
      command, values, problem = results[name]
      failed = f'`{command}` **failed**: {problem}'
      blocks.append(failed if problem else f'`{command}`')
      blocks += [] if problem else [fill(table, (), flat(values))]
  text = '\n\n'.join(blocks)
  return re.sub(r'^## .*\n\n(?=## |    )', '', text, flags=re.M)


def machine() -> dict[str, Any]:
  """What the page says of this machine and these sources."""
  read = pathlib.Path('/proc/cpuinfo')
  info = read.read_text() if read.exists() else ''
  models = re.findall(r'^model name\s*: (.*)$', info, flags=re.M)
  levels = {'avx512f': 'AVX-512', 'avx2': 'AVX2', 'avx': 'AVX'}
  found = [name for flag, name in levels.items() if f' {flag} ' in info]
  return dict(
    commit=commit(),
    date=datetime.date.today().isoformat(),
    cores=os.cpu_count(),
    cpu=(models or [platform.machine()])[0],
    avx=(found or ['no AVX'])[0],
    memory_gb=psutil.virtual_memory().total / 1e9,
    python=platform.python_version(),
    jax=metadata.version('jax'),
    jaxlib=metadata.version('jaxlib'),
    load=os.getloadavg()[0],
  )


def commit() -> str:
  def git(*words: str) -> str:
    return subprocess.check_output(['git', *words], text=True, cwd=ROOT).strip()

  try:
    changed = git('status', '--porcelain', '--untracked-files=no')
    found = git('rev-parse', '--short', 'HEAD')
  except (OSError, subprocess.CalledProcessError):
    return 'an unknown commit'
  return f'{found} with changes' if changed else found


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--quick', action='store_true')
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
  for part in PARTS.values():
    if part.peer:
      parser.add_argument(f'--{part.peer}', metavar='PYTHON')
  args = parser.parse_args()
  about, results, rates = machine(), {}, []
  for name in args.parts:
    part = PARTS[name]
    if args.quick and part.quick is None:
      continue
    rates.append(step.peak_flops() / 1e9)
    python = getattr(args, part.peer) if part.peer else None
    results[name] = run(part, args.quick, python)
  if rates:
    about |= dict(best=statistics.median(rates), worst=min(rates))
  print(page(about, results))
  return int(any(r.problem for r in results.values()))


if __name__ == '__main__':
  sys.exit(main())
