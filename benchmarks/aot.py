"""Does it compile and fit, and what does it cost? Without the hardware.

    python -m benchmarks.aot decode
    python -m benchmarks.aot update --cases 7b-v5p 7b-h100

Compiles the decode chunk as the engine runs it, or the whole update, for absent
machines (ahead of time, AOT) and reads the compilers' reports. TPUs need `pip
install libtpu`, H100s `pip install 'jax[cuda12]'`; cases without their compiler
are left out. Nothing runs, and no network is timed.

The programs are those of a config, as `planning.compiled` compiles them; none
of the flags that a run of that machine starts with is set. Both give hbm_share:
arguments, outputs not aliased and temporaries, as a share of memory. decode
gives:

  alias_share       of the cache: 1 if it is updated in place
  copy_share        the largest array written anew, of the cache
  bytes_vs_count    XLA's bytes of a step, to weights and cache read once
  time_vs_roofline  XLA's time of a step, to that count at full bandwidth
  sent_vs_count     bytes of collectives, to two sums a layer and the embedding
  bundles_vs_dma    instructions of the attention kernel's loop, to its copies
  spills            of the attention kernel: vectors on TPU, bytes on GPU

The chunk is compiled as it is, with the compiler's dumps switched on, and a
second time with its layers unrolled: XLA counts the body of a loop once. Work
done once per chunk is subtracted.

update compiles one microbatch and the optimizer's step, with a row of 33,792
tokens on each data x fsdp shard. Its memory is the larger of `add`'s, with the
optimizer's moments if they stay there, and `apply`'s. It gives:

  mfu_bound         FLOPs of use at the vendor's peak, of the time that XLA and
                    the links' bandwidth allow
  largest_share     the largest array except stacks of layers, to tokens times
                    the least of tokens and a device's vocabulary
  sent_gb           what a device sends in all
  ici_seconds       that, at the bandwidth of all of its links, hiding nothing

XLA's time is a linear function of layers and chunks of the vocabulary, fitted
to three small models with unrolled loops. We price the attention kernels for a
row of one segment. The result is a bound, not a forecast. Useful FLOPs are 6
per token and weight and 3 times causal attention.

XLA prices no op of a GPU. Each case prints a line of a table as it ends, and
appends its figures as a JSON line to the file --out. The exit status is 1 if a
target is missed or a case fails.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from acereason_jax import machines, outfile
from acereason_jax.console import exits
from acereason_jax.planning import topologies
from benchmarks import aot_decode, aot_update

KIND = outfile.Kind('the figures of cases', re.compile(rb'\{"case": "').match)
PROGRAMS = {'decode': aot_decode, 'update': aot_update}


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parsers = parser.add_subparsers(dest='what', required=True)
  for what, program in PROGRAMS.items():
    one, cases = parsers.add_parser(what), [*program.CASES]
    one.add_argument('--cases', nargs='+', choices=cases, default=cases)
    one.add_argument('--out', type=pathlib.Path, help='JSON lines')
    workers = [*program.WORKERS]
    one.add_argument('--worker', choices=workers, help=argparse.SUPPRESS)
  return parser.parse_args()


def start(what: str, name: str, worker: str) -> dict[str, float]:
  """Raises RuntimeError with the reason if the case does not compile."""
  hardware = machines.hardware(PROGRAMS[what].CASES[name].machine)
  command = [sys.executable, '-m', __spec__.name, what]
  command += ['--cases', name, '--worker', worker]
  environment = topologies.environment(hardware, None, {})
  done = subprocess.run(
    command, env=os.environ | environment, capture_output=True, text=True
  )
  if done.returncode:
    errors = [x for x in done.stderr.splitlines() if 'error' in x.lower()]
    raise RuntimeError((errors or done.stderr.splitlines() or ['killed'])[-1])
  return json.loads(done.stdout.splitlines()[-1])


def row(columns: Sequence[str], values: Sequence[Any]) -> str:
  cells = [f'{x:.3f}' if isinstance(x, float) else str(x) for x in values]
  widths = [14, *(max(8, len(c)) for c in columns), 0]
  return '  '.join(f'{c:>{w}}' for c, w in zip(cells, widths)).rstrip()


def main() -> None:
  args = parse_args()
  program = PROGRAMS[args.what]
  if args.worker:
    case = program.CASES[args.cases[0]]
    print(json.dumps(program.WORKERS[args.worker](case)))
    return
  if args.out:
    with exits.one_line_for(ValueError, OSError):
      outfile.check('--out', args.out, KIND)
  cases = []
  for name in args.cases:
    hardware = machines.hardware(program.CASES[name].machine)
    if reason := topologies.lacks(hardware):
      print(f'{name} is left out: {reason}')
    else:
      cases.append(name)
  failed = False
  line = functools.partial(row, program.COLUMNS)
  print(line(('case', *program.COLUMNS, 'missed')), flush=True)
  for name in cases:
    try:
      result = program.run_case(name, functools.partial(start, args.what))
    except RuntimeError as e:
      failed = True
      print(f'{name:>14}  {e}', flush=True)
      continue
    result['missed'] = program.missed(result)
    failed = failed or bool(result['missed'])
    values = [result.get(c, '') for c in program.COLUMNS]
    print(line((name, *values, ' '.join(result['missed']))), flush=True)
    if args.out:
      with args.out.open('a') as file:
        print(json.dumps(result), file=file)
  sys.exit(failed)


if __name__ == '__main__':
  main()
