r"""Curates data sets: problems with answers and tests that can be trusted.

    python -m acereason_jax.curate --config=configs/curate_math.py \
      --config.out=curated/math

takes the rows of the config's inputs through its steps and writes rows.parquet,
which training reads, dropped.parquet with a reason and evidence for each other
row, and a datasheet (.json, .md, .html). Verdicts and program runs are kept in
the folder's state/: the same command after a kill goes on, and asks for none of
them again.

--why=ID tells what became of one row. --shard=i/n (i from 1) does the i-th of n
shares of the costly work; when all are done, the command without it finishes.
--plant copies benchmark problems among the rows, and the datasheet says how
many were found.

Exit status 75 means that it can go on: responses are missing, and it says which
command makes them, or a signal stopped it; 1, something for the user to fix, in
one line.
"""

import contextlib
import os
import re
import types
from collections.abc import Sequence

from acereason_jax import outfile, storage
from acereason_jax.config import curation, from_flags
from acereason_jax.console import command_line, exits, signals, terminal
from acereason_jax.data.curate import (
  datasheet,
  datasheet_page,
  outputs,
  pipeline,
  plan,
  rounds,
  state,
)

FLAGS = command_line.Flags()
from_flags.define(FLAGS.values)
FLAGS.string('why', None, "A row's id: tells what became of it.")
FLAGS.string('shard', None, 'i/n: only the costly work of share i of n.')
FLAGS.boolean('plant', False, 'Says how many planted copies are found.')
FLAGS.integer('workers', None, 'Processes; default: config.workers.')

_SHEET = re.compile(rb'\{\n "rows_in": [0-9]+,\n "rows_out": ')
_SHARD = re.compile(r'([1-9]\d{0,5})/([1-9]\d{0,5})', re.ASCII)


def read_flags(argv: Sequence[str]) -> types.SimpleNamespace:
  """The values of the flags; ends with one line for a bad flag or config."""
  with from_flags.told(argv):
    args = command_line.parse(FLAGS, argv, __doc__)
    # A file that is missing is reported only when its config is read.
    getattr(args.config, 'inputs', None)
  if args.config is None:
    raise command_line.refused('--config: missing; give a file of configs/')
  args.share = pipeline.Shard()
  if args.shard is not None:
    found = _SHARD.fullmatch(args.shard)
    if not found or int(found[1]) > int(found[2]):
      raise command_line.refused(
        f'--shard={args.shard}: expected i/n, such as 1/4'
      )
    args.share = pipeline.Shard(int(found[1]) - 1, int(found[2]))
  return args


def folder(args: types.SimpleNamespace) -> str:
  """Raises ValueError, one line: config.out is no folder of a disk."""
  out = args.config.get('out')
  if not isinstance(out, str) or not out or '://' in out:
    raise ValueError(
      f'config.out={out!r}: give a folder of a disk, such as '
      '--config.out=curated/math'
    )
  return out


def check_folder(out: str, todo: plan.Plan) -> None:
  """Refuses a folder whose files are inputs, or no curation's.

  Raises:
    ValueError, OSError: one line.
  """
  head = storage.start(os.path.join(out, outputs.SHEET), 1024) or b''
  ours = os.path.isdir(os.path.join(out, pipeline.STATE)) or _SHEET.match(head)
  kind = outfile.Kind("a curation's", lambda head: ours)
  sources = *todo.inputs, *todo.benchmarks
  read = [path for source in sources for path in source.paths]
  for name in outputs.NAMES:
    outfile.check('config.out', os.path.join(out, name), kind, read)


def workers(args: types.SimpleNamespace) -> int:
  """Raises ValueError, one line: fewer than 0."""
  count = args.config.workers if args.workers is None else args.workers
  if count < 0:
    raise ValueError(f'--workers={count}: give 0 (one a CPU) or more')
  return count or len(os.sched_getaffinity(0))


def curate(args: types.SimpleNamespace) -> int:
  """Runs all steps; returns the exit status."""
  out = folder(args)
  todo = curation.plan(args.config)
  check_folder(out, todo)
  if args.share.count > 1:
    return curate_into(out, todo, args)
  # From the first row to the last file: shares write no files but the state.
  with state.held(os.path.join(out, pipeline.STATE), 'files'):
    return curate_into(out, todo, args)


def curate_into(out: str, todo: plan.Plan, args: types.SimpleNamespace) -> int:
  how = pipeline.How(
    folder=out,
    workers=workers(args),
    shard=args.share,
    plant=args.plant,
    say=lambda line: terminal.say(terminal.printable(line)),
  )
  while True:
    try:
      result = pipeline.run(todo, how)
    except pipeline.Waiting as e:
      if args.share.count > 1:
        terminal.say(f'{e}: the same command without --shard asks for them')
        return exits.STOPPED
      if not answered(todo, out, e):
        return exits.STOPPED
    else:
      break
  if args.share.count > 1:
    terminal.say(
      f'share {args.shard} is done; when all are, the same command without '
      '--shard writes the rows'
    )
    return 0
  outputs.write(out, result, sheets(todo, result))
  terminal.say(
    f'{len(result.rows):,} of {len(result.before):,} rows in '
    f'{terminal.printable(os.path.join(out, outputs.ROWS))}; verdicts asked '
    f'for: {result.asked:,}'
  )
  return 0


def answered(todo: plan.Plan, out: str, waiting: pipeline.Waiting) -> bool:
  """Asks config.model for missing responses; False if they are still missing.

  Without a model it says the command that does so.
  """
  rows, n = waiting.missing.rows, waiting.missing.n
  asked = rounds.begin(out, rows, n, waiting.attempts, waiting.read, todo.model)
  command = rounds.command(
    asked, todo.model or 'MODEL', todo.generate, todo.seed
  )
  told = f'{len(rows):,} rows need responses, {n} each'
  if todo.model:
    terminal.say(f'{told}: {todo.model} gives them')
    return rounds.run(command)
  questions = os.path.join(out, rounds.PROMPTS)
  shown = f'{told}; their questions are in {questions}. To go on:'
  terminal.say(terminal.printable(shown))
  terminal.say(terminal.printable(f'  {rounds.shown(command)}'))
  terminal.say('and then the same command again')
  return False


def sheets(todo: plan.Plan, result: pipeline.Result) -> dict[str, str]:
  """The texts of the datasheet by file name."""
  sheet = datasheet.of(todo, result)
  return {
    outputs.SHEET: datasheet.text(sheet),
    outputs.MARKDOWN: datasheet.markdown(sheet),
    outputs.PAGE: datasheet_page.page(sheet),
  }


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_flags(argv)
  try:
    with signals.at_once(), exits.one_line_for(ValueError, OSError):
      if args.why is not None:
        for line in outputs.story(folder(args), args.why):
          terminal.say(terminal.printable(line))
        return 0
      return curate(args)
  except KeyboardInterrupt:
    # Nobody reads a terminal that was closed.
    with contextlib.suppress(SystemExit):
      terminal.say('stopped; the same command goes on')
    return exits.STOPPED


if __name__ == '__main__':
  command_line.run(main)
