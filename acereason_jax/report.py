"""Explains a run: one page that needs no network, or why a rollout got 0.

    python -m acereason_jax.report runs/quickstart
    python -m acereason_jax.report runs/my7b --compare=runs/other \\
      --steps=2000:3200 --out=my7b.html
    python -m acereason_jax.report runs/my7b --watch
    python -m acereason_jax.report runs/my7b --why --prompt=sum-3-4 --step=12 \\
      --index=0

The run may be at gs://, and may still be going on. What is missing from an
older run is said on the page. Exit status 1 means something for the user to
fix, in one line; 2, a command line that cannot be read.
"""

import functools
import re
import types
from collections.abc import Sequence

from acereason_jax import outfile, storage
from acereason_jax.console import (
  command_line,
  exits,
  jax_setup,
  signals,
  terminal,
)
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import parquet
from acereason_jax.data import archive
from acereason_jax.reporting import files, fit, following, read, watch, why
from acereason_jax.run import checkpoint

PAGE = 'report.html'
KIND = outfile.Kind(
  'a report',
  re.compile(rb'<!DOCTYPE html>[\s\S]*? &middot; run report</title>').match,
)

FLAGS = command_line.Flags()
FLAGS.string('out', None, f"The page's file; default RUN/{PAGE}.")
FLAGS.strings('compare', [], 'Another run, drawn over this one; repeatable.')
FLAGS.strings(
  'evals', [], 'A folder that evaluate --out wrote; RUN/evals is looked into.'
)
FLAGS.string('steps', None, 'Only these steps: 2000:3200, the last included.')
FLAGS.number(
  'max_mb', 30.0, 'The size of the page, MB (1e6 bytes).', lower_bound=0.1
)
FLAGS.number(
  'explain_seconds',
  60.0,
  'Judges explain verdicts for so long; 0: none.',
  lower_bound=0.0,
)
FLAGS.boolean(
  'trusted',
  False,
  "Also asks judges of one's own that the run's config names: they are code.",
)
FLAGS.boolean('watch', False, 'Serves the page here while the run goes on.')
FLAGS.integer(
  'port', 0, 'Of --watch; 0: any.', lower_bound=0, upper_bound=65535
)
FLAGS.boolean('why', False, 'Explains one rollout in the terminal.')
FLAGS.string('prompt', None, "Of --why: the prompt's id.")
FLAGS.integer('step', None, 'Of --why: the step.', lower_bound=0)
FLAGS.integer('index', None, "Of --why: index among the prompt's rollouts.")
FLAGS.choice(
  'phase',
  archive.TRAIN,
  archive.PHASES,
  'Of --why: which answers; a probe has the step that it came after.',
)


def read_args(argv: Sequence[str]) -> types.SimpleNamespace:
  """The arguments; `steps` is a range. Ends with one line if they are wrong."""
  args = command_line.parse(FLAGS, argv, __doc__, places=('run',))
  of_why = [args.prompt, args.step, args.index]
  if args.why and None in of_why:
    raise command_line.refused('--why: give --prompt, --step and --index')
  if not args.why and of_why != [None] * 3:
    raise command_line.refused('--prompt, --step, --index: only with --why')
  if args.why and args.watch:
    raise command_line.refused('--why and --watch: give one of them')
  if (args.why or args.watch) and args.out is not None:
    raise command_line.refused(
      '--out: --watch and --why write no file; omit it'
    )
  if len(args.compare) > read.MOST_COMPARED:
    raise command_line.refused(
      f'--compare: got {len(args.compare)} runs, at most {read.MOST_COMPARED}'
    )
  try:
    args.steps = steps_of(args.steps)
    for path in (args.run, *args.compare, args.out or ''):
      storage.is_remote(path)
  except ValueError as e:
    raise command_line.refused(e) from e
  return args


def steps_of(text: str | None) -> range:
  """The steps of --steps; all for None. Raises: ValueError, one line."""
  if text is None:
    return read.EVERY
  match = re.fullmatch(r'([0-9]{1,12}):([0-9]{1,12})', text)
  if match is None or int(match[1]) > int(match[2]):
    raise ValueError(
      f'--steps={text[:40]!r}: expected FIRST:LAST, such as 2000:3200'
    )
  return range(int(match[1]), int(match[2]) + 1)


def load_ledger(run: str) -> tuple[ledger_lib.Ledger | None, str]:
  """(ledger of the newest checkpoint, note); None if it cannot be read."""
  try:
    data = checkpoint.load_ledger(run)
    return None if data is None else parquet.from_bytes(data), ''
  except (ValueError, OSError) as e:
    return None, f'Not read: {" ".join(str(e).split())[:200]}.'


def made(args: types.SimpleNamespace) -> str:
  """The page.

  Raises:
    ValueError, OSError: one line for the user.
  """
  ledger, note = load_ledger(args.run)
  report = read.report(
    args.run,
    ledger=ledger,
    samples=fit.NO_SAMPLES,
    compare=args.compare,
    evals=args.evals,
    steps=args.steps,
  )
  report = report._replace(notes=[*report.notes, *filter(None, [note])])
  return fit.page(
    report,
    args.run,
    steps=args.steps,
    most_bytes=round(args.max_mb * 1e6),
    explain=lambda chosen: why.explain(
      chosen, args.run, seconds=args.explain_seconds, trusted=args.trusted
    ),
    watch=args.watch,
  )


def write(args: types.SimpleNamespace) -> None:
  """Writes the page and says where. Raises: ValueError, OSError."""
  out = args.out or storage.join(args.run, PAGE)
  # Before minutes are spent on the page.
  outfile.check('--out', out, KIND)
  content = made(args).encode()
  with outfile.opened(out, 'wb') as file:
    file.write(content)
  terminal.say(
    f'{terminal.printable(out)}: {len(content) / 1e6:.1f} MB; open it in a '
    'browser'
  )


def tell(args: types.SimpleNamespace) -> None:
  """Prints why a rollout has its verdict. Raises: ValueError, OSError."""
  for line in why.tell(
    args.run,
    args.prompt,
    step=args.step,
    index=args.index,
    phase=args.phase,
    trusted=args.trusted,
  ):
    terminal.say(line)


def followed(run: str) -> following.Steps:
  """The steps of a run that goes on; its stages and clock are read anew."""
  return following.Steps(
    storage.join(run, files.METRICS),
    files.metrics,
    lambda metrics: read.curves_of(read.around(run, metrics)),
  )


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_args(argv)
  jax_setup.use_cpu()
  with exits.one_line_for(ValueError, OSError):
    if args.watch:
      render = functools.partial(made, args)
      watch.serve(render, followed(args.run), args.port)
    else:
      with signals.at_once():
        (tell if args.why else write)(args)
  return 0


if __name__ == '__main__':
  command_line.run(main)
