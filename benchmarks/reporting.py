"""Measures the report of a long run: seconds of CPU, peak memory, and bytes.

    python -m benchmarks.reporting --steps=6000 --prompts=128 --per_prompt=16

It makes up a run in a temporary folder: the metrics of all steps, a clock and
the rows of all rollouts. A few hundred files of rows are made, and copied for
the steps after them, so that a prompt comes again as in another epoch.
"""

import json
import os
import pathlib
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from acereason_jax import report
from acereason_jax.console import command_line, terminal
from acereason_jax.data import archive
from acereason_jax.reporting import read, samples, tallies

FLAGS = command_line.Flags()
FLAGS.integer('steps', 6000, 'Steps of the run.')
FLAGS.integer('prompts', 128, 'Prompts of a step.')
FLAGS.integer('per_prompt', 16, 'Rollouts of a prompt.')
FLAGS.integer('files', 384, 'Different files of rows.')

# Chances of the verdicts, and a detail of each; wrong ones differ.
VERDICTS = dict(right=45, wrong=40, unparsed=12, timeout=2, error=1)
DETAILS = dict(
  right='string',
  unparsed='no boxed answer',
  timeout='over 8.0 s',
  error='worker died twice (-9)',
)
METRICS = 60


def rows(
  draw: random.Random, step: int, prompts: Sequence[str], each: int
) -> Iterator[archive.Row]:
  """The rows of a step; two of its groups have texts, as by default."""
  for place, prompt in enumerate(prompts):
    statuses = draw.choices(list(VERDICTS), list(VERDICTS.values()), k=each)
    for index, status in enumerate(statuses):
      detail = DETAILS.get(status, f"exact: '{draw.randrange(10**6)}'")
      yield archive.Row(
        step,
        archive.TRAIN,
        f'stage_{step % 3}',
        'math',
        prompt,
        index,
        status,
        detail,
        float(status == 'right'),
        status == 'right',
        draw.gauss(0, 1),
        True,
        draw.random() < 0.6,
        draw.randrange(1, 16384),
        draw.choice(('stop', 'stop', 'stop', 'length')),
        -draw.uniform(1e2, 1e4),
        draw.uniform(1e2, 1e4),
        'drawn' if place < 2 else '',
      )


def write_run(
  folder: pathlib.Path, steps: int, prompts: int, each: int, files: int
) -> None:
  """Writes the files of a run."""
  draw, made = random.Random(0), []
  (folder / archive.FOLDER).mkdir(parents=True)
  for step in range(1, steps + 1):
    if len(made) < files:
      first = len(made) * prompts
      ids = [f'problem-{i}' for i in range(first, first + prompts)]
      made.append(archive.rows_to_bytes(rows(draw, step, ids, each)))
    name = archive.Place(step, archive.TRAIN).name
    content = made[(step - 1) % len(made)]
    (folder / archive.FOLDER / name).write_bytes(content)
  names = ['reward', 'pass_rate', 'entropy', 'mismatch', 'seconds_step']
  names += [f'metric_{i}' for i in range(METRICS - len(names))]
  with (folder / 'metrics.jsonl').open('w') as lines:
    for step in range(1, steps + 1):
      values = {name: draw.random() for name in names}
      record = dict(step=step, stage=0.0, response_tokens=1e7, **values)
      lines.write(json.dumps(record) + '\n')


def main(argv: Sequence[str]) -> int:
  """Prints what a report takes."""
  args = command_line.parse(FLAGS, argv, __doc__)
  with tempfile.TemporaryDirectory() as root:
    run = pathlib.Path(root) / 'run'
    write_run(run, args.steps, args.prompts, args.per_prompt, args.files)
    sizes = [p.stat().st_size for p in run.rglob('*.parquet')]
    terminal.say(
      f'{args.steps:,} steps, {sum(sizes) / 1e6:,.0f} MB of rows, '
      f'{sum(sizes) / len(sizes) / args.prompts / args.per_prompt:.1f} bytes a '
      'row'
    )
    for what, call in (
      ('verdicts', lambda: tallies.tally(str(run), read.EVERY)),
      ('texts to choose', lambda: samples.read_index(str(run))),
      ('page', lambda: report.main(['report', str(run)])),
    ):
      wall, cpu = time.perf_counter(), time.process_time()
      call()
      cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
      peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
      terminal.say(
        f'{what}: {cpu:.1f} s CPU, {wall:.1f} s wall, peak so far {peak:.2f} GB'
      )
    size = os.path.getsize(run / report.PAGE)
    terminal.say(f'page: {size / 1e6:.1f} MB')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
