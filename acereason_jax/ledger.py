"""Shows what became of every prompt of a run.

python -m acereason_jax.ledger runs/quickstart
python -m acereason_jax.ledger runs/quickstart --prompt=sum-3-4
python -m acereason_jax.ledger ledger.parquet --became_solvable
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from acereason_jax.console import oserrors, terminal
from acereason_jax.curriculum import outcomes, parquet
from acereason_jax.curriculum.ledger import Ledger, Record
from acereason_jax.data import records as record_files
from acereason_jax.run import checkpoint

_SHOWN_CHARS = 80


def read(path: str) -> bytes:
  """The bytes of a run's newest ledger, or of a ledger's file.

  Raises:
    OSError, ValueError: one line; too large, or a run without a checkpoint.
  """
  if os.path.isdir(path):
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


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
  """Lines whose columns stand below each other; the last one is as it is."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  for row in rows:
    yield '  '.join(map(str.ljust, row, widths)).rstrip()


def _safe(value: Any) -> str:
  return terminal.one_line(str(value), _SHOWN_CHARS)


def make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m acereason_jax.ledger',
    description='What became of every prompt of a run.',
  )
  parser.add_argument('run', help='a ledger, as a Parquet file')
  what = parser.add_mutually_exclusive_group()
  what.add_argument('--prompt', help='shows the history of this id')
  what.add_argument(
    '--became_solvable',
    action='store_true',
    help='shows what was solved at first never, and at which step it was',
  )
  what.add_argument(
    '--lost',
    action='store_true',
    help='shows what was solved at first, and at which step last',
  )
  parser.add_argument('--stage', help='of this stage alone')
  parser.add_argument('--out', help='writes the records to this Parquet file')
  return parser


def _lines(args: argparse.Namespace, ledger: Ledger) -> Iterator[str]:
  """What the command shows."""
  if args.prompt is not None:
    return _show_prompt(ledger, args.prompt)
  if args.became_solvable:
    return _show_steps(outcomes.solvable(ledger))
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


def main(argv: Sequence[str]) -> int:
  """Shows what the command line asks for; returns the exit status."""
  args = make_parser().parse_args(argv)
  terminal.use_stdout()
  try:
    data = read(args.run)
    try:
      ledger = parquet.from_bytes(data)
    except ValueError as e:
      raise ValueError(f'{args.run}: {e}') from e
    if args.stage is not None:
      ledger = _of_stage(ledger, args.stage)
    for line in _lines(args, ledger):
      terminal.say(line)
    if args.out is not None:
      path = pathlib.Path(args.out)
      temporary = path.with_name(path.name + '.tmp')
      temporary.write_bytes(parquet.to_bytes(ledger))
      os.replace(temporary, path)
  except (ValueError, OSError) as e:
    said = oserrors.explained(e) if isinstance(e, OSError) else str(e)
    text = terminal.printable(' '.join(said.split()))
    sys.stderr.write(f'error: {text}\n')
    return 1
  return 0


if __name__ == '__main__':
  logging.set_verbosity(logging.ERROR)
  sys.exit(main(sys.argv[1:]))
