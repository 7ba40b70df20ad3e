"""Shows the history of every prompt of a run.

    python -m acereason_jax.ledger runs/quickstart
    python -m acereason_jax.ledger runs/quickstart --prompt=sum-3-4
    python -m acereason_jax.ledger ledger.parquet --became_solvable

Exit status 1 means something for the user to fix, in one line; 2, a command
line that cannot be read.
"""

import os
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import outfile, storage
from acereason_jax.console import command_line, exits, terminal
from acereason_jax.curriculum import outcomes, parquet
from acereason_jax.curriculum.ledger import Ledger, Record
from acereason_jax.data import records as record_files
from acereason_jax.evaluation import pairs
from acereason_jax.run import checkpoint

_SHOWN_CHARS = 80
_UNEQUAL = (
  'some prompts were asked more often than others: if a filter left prompts '
  'out for their results, luck gives more than that, up to about twice as many'
)

KIND = outfile.Kind('a ledger', parquet.is_ledger, parquet.MAX_BYTES)

FLAGS = command_line.Flags()
FLAGS.string('prompt', None, 'Shows the history of this id.')
FLAGS.boolean(
  'became_solvable',
  False,
  'Shows what was never solved at first, the step at which it was, and how '
  'many such prompts luck would give.',
)
FLAGS.boolean(
  'lost',
  False,
  'Shows what was solved at first, and the step at which it last was.',
)
FLAGS.string('stage', None, 'Only this stage.')
FLAGS.string('out', None, 'Writes the records to this Parquet file.')


def read(path: str) -> bytes:
  """The bytes of a run's newest ledger, or of a ledger's file.

  Raises:
    OSError, ValueError: one line; too large, or a run without a checkpoint.
  """
  remote = storage.is_remote(path)
  if remote and (data := storage.read(path, parquet.MAX_BYTES)) is not None:
    return data
  if remote or os.path.isdir(path):
    data = checkpoint.load_ledger(path)
    if data is None:
      raise FileNotFoundError(
        f'{path}: holds no checkpoint; give the folder of a run that has saved '
        'one, RUN/checkpoints/STEP, or a Parquet file'
      )
    return data
  with record_files.opened(path, most_bytes=None) as file:
    data = file.read(parquet.MAX_BYTES + 1)
  if len(data) > parquet.MAX_BYTES:
    raise ValueError(
      f'{path}: more than {parquet.MAX_BYTES:,} bytes; is it a ledger?'
    )
  return data


def _show_summary(ledger: Ledger) -> Iterator[str]:
  number = lambda x: f'{x:.3f}' if isinstance(x, float) else _safe(x)
  rows = [[number(field) for field in row] for row in outcomes.summary(ledger)]
  return _table([outcomes.Summary._fields, *rows])


def _show_prompt(ledger: Ledger, prompt: str) -> Iterator[str]:
  mine = [record for record in ledger if record.prompt == prompt]
  if not mine:
    raise ValueError(
      f'--prompt={prompt[:_SHOWN_CHARS]}: none of the {len(ledger):,} records '
      'is of it; give the id that its data file gives it'
    )
  hidden = 'domain', 'prompt'
  names = [name for name in Record._fields if name not in hidden]
  rows = [[_safe(getattr(record, name)) for name in names] for record in mine]
  return _table([names, *rows])


def _show_steps(found: Mapping[str, int]) -> Iterator[str]:
  ordered = sorted(found.items(), key=lambda pair: (pair[1], pair[0]))
  return _table([('step', 'prompt'), *((str(n), _safe(p)) for p, n in ordered)])


def _show_solvable(ledger: Ledger) -> Iterator[str]:
  yield from _show_steps(outcomes.solvable(ledger))
  yield _luck(outcomes.halves(ledger))
  if outcomes.asked_unequally(ledger):
    yield _UNEQUAL


def _luck(halves: outcomes.Halves) -> str:
  """'34 of 160 prompts became solvable, 12.3 expected by luck, p = 2e-07'.

  The null hypothesis is that no prompt's solve rate changed between its steps.
  Then its right rollouts are anywhere among all its judged ones, and all of
  them in later steps with a chance that depends on their numbers only. Prompts
  that a single step judged cannot tell and are left out. A longer response or
  another temperature in a later stage changes solve rates as training does.

  Exact if a prompt's results do not decide how often it is asked. Filters let
  them: in simulations without a change, filters that drop what is mostly solved
  keep the expected number within 3% (groups of 8 or 16), but one that drops
  what was solved at all makes it half too small. `_UNEQUAL` says so if a filter
  may have acted.
  """
  found = pairs.newly_solved(*halves)
  p = f'= {found.p:.1g}' if found.p >= 1e-9 else '< 1e-9'
  return (
    f'{len(found.places)} of {len(halves.first_judged)} prompts became '
    f'solvable, {found.expected:.1f} expected by luck, p {p}'
  )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
  """Lines with aligned columns; the last column is not padded."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  for row in rows:
    yield '  '.join(map(str.ljust, row, widths)).rstrip()


def _safe(value: Any) -> str:
  return terminal.one_line(str(value), _SHOWN_CHARS)


def _lines(args: types.SimpleNamespace, ledger: Ledger) -> Iterator[str]:
  """The lines that the command prints."""
  if args.prompt is not None:
    return _show_prompt(ledger, args.prompt)
  if args.became_solvable:
    return _show_solvable(ledger)
  if args.lost:
    return _show_steps(outcomes.lost(ledger))
  return _show_summary(ledger)


def _of_stage(ledger: Ledger, stage: str) -> Ledger:
  if stage not in (names := ledger.texts('stage')):
    raise ValueError(
      f'--stage={stage[:_SHOWN_CHARS]}: the ledger has the stages '
      f'{", ".join(names)[:200]}'
    )
  return Ledger(ledger.at(outcomes.chosen(ledger, stage=stage)))


def _read_args(argv: Sequence[str]) -> types.SimpleNamespace:
  args = command_line.parse(FLAGS, argv, __doc__, places=('run',))
  chosen = [args.prompt is not None, args.became_solvable, args.lost]
  if sum(chosen) > 1:
    raise ValueError('give one of --prompt, --became_solvable and --lost')
  return args


def main(argv: Sequence[str]) -> int:
  """Prints what the command line requests; returns the exit status."""
  terminal.use_stdout()
  with exits.one_line_for(ValueError, OSError):
    args = _read_args(argv)
    if args.out is not None:
      outfile.check('--out', args.out, KIND, others=[args.run])
    data = read(args.run)
    with exits.one_line_for(ValueError, where=f'{args.run}: '):
      ledger = parquet.from_bytes(data)
    if args.stage is not None:
      ledger = _of_stage(ledger, args.stage)
    for line in _lines(args, ledger):
      terminal.say(line)
    if args.out is not None:
      with outfile.opened(args.out, 'wb') as file:
        file.write(parquet.to_bytes(ledger))
  return 0


if __name__ == '__main__':
  command_line.run(main)
