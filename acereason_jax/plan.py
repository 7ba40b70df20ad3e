"""Plans a run for machines that are not here: does it fit, and what it takes.

    python -m acereason_jax.plan --config=configs/acereason_7b.py \\
      --hardware=v5p:4x4x4

Nothing is loaded or downloaded except the model's config.json, and not even
that for models whose sizes are known by name. All figures are simulated, not
measured; what they assume is printed, and each assumption is a flag. Exit
status 1 means that a stage does not fit, or something for the user to fix, in
one line; 2, a command line that cannot be read.
"""

import hashlib
import itertools
import json
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from absl import logging

from acereason_jax import ledger, machines, outfile
from acereason_jax.config import checks, from_flags
from acereason_jax.config import stages as stages_lib
from acereason_jax.console import command_line, exits, jax_setup, terminal
from acereason_jax.curriculum import parquet
from acereason_jax.planning import (
  assumptions,
  calibrate,
  compiled,
  compiled_table,
  fitting,
  lengths,
  plans,
  record,
  search,
  search_table,
  table,
  timing,
  works,
)

JSON = outfile.Kind(
  'a plan',
  re.compile(rb'\{\n "config": ".*",\n "digest": "[0-9a-f]{16}",').match,
)
MARKDOWN = outfile.Kind(
  'the tables of a plan', re.compile(record.NOT_MEASURED.encode() + b': ').match
)

FLAGS = command_line.Flags(logging.WARNING)
from_flags.define(FLAGS.values)
FLAGS.string(
  'hardware', None, 'The machines: v5p:4x4x4, v6e:16x16*2, h100:8*16.'
)
FLAGS.string(
  'model',
  None,
  'A folder with config.json, or a known name, such as qwen2-7b; default: '
  'config.model.',
)
FLAGS.string('stage', '', 'Names of stages, between commas; default: all.')
FLAGS.string(
  'lengths',
  None,
  'A run, or the file of a ledger: lengths of responses, instead of assumed '
  'ones, for stages of the same name.',
)
FLAGS.boolean('search', False, 'Also proposes meshes, slots and microbatches.')
FLAGS.boolean(
  'calibrate',
  False,
  'Measures the programs of each stage on this machine, --hardware=cpu:1.',
)
FLAGS.boolean('compile', False, 'Also compiles the programs of each stage.')
FLAGS.string('json', None, 'Writes the plan to this file as JSON.')
FLAGS.string('markdown', None, 'Writes the tables to this file as Markdown.')

assumptions.define(FLAGS)


def read_flags(argv: Sequence[str]) -> types.SimpleNamespace:
  """The values of the flags; ends with one line for a bad flag or config."""
  with from_flags.told(argv):
    args = command_line.parse(FLAGS, argv, __doc__)
    for name in ('config', 'hardware'):
      if getattr(args, name) is None:
        raise command_line.refused(f'--{name}: missing')
    # A file that is missing is reported only when its config is read.
    getattr(args.config, 'steps', None)
  args.path = from_flags.path(FLAGS.values)
  try:
    args.hardware = machines.hardware(args.hardware)
    args.assumed = assumptions.read(args)
  except ValueError as e:
    raise command_line.refused(e) from e
  return args


def chosen(config: ml_collections.ConfigDict, names: str) -> None:
  """Sets the stages to plan; ends with one line for one that is not there."""
  if not names:
    return
  wanted, known = names.split(','), [*stages_lib.every_stage(config)]
  if unknown := [name for name in wanted if name not in known]:
    raise command_line.refused(
      f'--stage={names}: no stage {unknown[0]!r}; there are: {", ".join(known)}'
    )
  if not config.stages:
    return
  with config.unlocked():
    config.start.stages = tuple(name for name in known if name in wanted)
    # The run that they would go on from.
    config.start.run = config.start.run or 'RUN'


def known_lengths(args: types.SimpleNamespace) -> timing.Known:
  """The lengths of responses by their limit, from the ledger that is given.

  Raises:
    ValueError, OSError: one line for the user.
  """
  if not args.lengths:
    return {}
  stages = stages_lib.stages(args.config)
  limits = {name: own.rollout.max_tokens for name, own in stages.items()}
  where = f'--lengths={args.lengths}: '
  with exits.one_line_for(ValueError, where=where):
    records = parquet.from_bytes(ledger.read(args.lengths))
    return lengths.by_limit(list(records), limits)


def planned(args: types.SimpleNamespace) -> dict[str, Any]:
  """The record of the plan; of stages that do not fit, also with their knob.

  Raises:
    ValueError, OSError: one line for the user.
  """
  known, measured = known_lengths(args), {}
  if args.calibrate:
    jax_setup.use_precision(args.config.dtype)
    measured = calibrate.measured(
      args.config, args.hardware, args.assumed, known
    )

  def made(
    config: ml_collections.ConfigDict, hardware: machines.Hardware
  ) -> dict[str, Any]:
    found = plans.plan(
      config, hardware, args.assumed, known=known, measured=measured
    )
    return record.of(found, hardware, args.assumed, about(args))

  plan = made(args.config, args.hardware)
  bad = [stage for stage in plan['stages'] if stage['knob']]
  for fields, stages in itertools.groupby(bad, lambda s: s['knob']['fields']):
    fields = dict(fields)
    hardware = machines.hardware(fields.pop('hardware', args.hardware.text))
    fixed = made(fitting.with_values(args.config, fields), hardware)
    by_name = {stage['name']: stage for stage in fixed['stages']}
    for stage in stages:
      stage['with_knob'] = by_name[stage['name']]
  return plan


def compile_all(
  args: types.SimpleNamespace, plan: dict[str, Any]
) -> Iterator[str]:
  """Adds what compilers say to each stage of the plan; the lines about it.

  Raises:
    ValueError: one line for the user.
  """
  for stage in plan['stages']:
    stage['compiled'] = []
    if stage['refused']:
      yield f'{stage["name"]}: not compiled, as it cannot be built'
      continue
    for program in compiled.compiled(args.config, args.hardware, stage['name']):
      stage['compiled'].append(compiled_table.record(program))
      terminal.say(
        f'{stage["name"]}: {program.name}: {program.seconds:.0f} s',
        to_stderr=True,
      )
    fits = all(program['fits'] for program in stage['compiled'])
    stage['fits'] = stage['fits'] and fits
    yield from compiled_table.told(stage['name'], stage['compiled'])
  plan['fits'] = all(stage['fits'] for stage in plan['stages'])


def about(args: types.SimpleNamespace) -> dict[str, Any]:
  """Which run is planned."""
  text = args.config.to_json(sort_keys=True)
  return dict(
    config=from_flags.name(args.path),
    digest=hashlib.sha256(text.encode()).hexdigest()[:16],
    model=args.config.model,
    lengths=args.lengths or '',
    questions=[
      count.how for count in works.counted(args.config, args.assumed).values()
    ],
  )


def check_outputs(args: types.SimpleNamespace) -> None:
  """Raises ValueError, OSError, one line: a file would be lost."""
  if args.json:
    outfile.check('--json', args.json, JSON)
  if args.markdown:
    others = [args.json] if args.json else []
    outfile.check('--markdown', args.markdown, MARKDOWN, others)


def write(args: types.SimpleNamespace, plan: dict[str, Any]) -> None:
  """Writes the files that were asked for. Raises: OSError."""
  if args.json:
    with outfile.opened(args.json) as file:
      file.write(json.dumps(plan, indent=1, allow_nan=False) + '\n')
  if args.markdown:
    with outfile.opened(args.markdown) as file:
      file.write(table.markdown(plan))


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_flags(argv)
  with exits.one_line_for(ValueError, OSError):
    check_outputs(args)
    if args.model:
      with args.config.unlocked():
        args.config.model = args.model
    chosen(args.config, args.stage)
    checks.validate(args.config)
  jax_setup.use_cpu()
  with exits.one_line_for(ValueError, OSError):
    plan = planned(args)
  for line in table.told(plan):
    terminal.say(line)
  if args.search:
    with exits.one_line_for(ValueError, OSError):
      found = search.search(
        args.config, args.hardware, args.assumed, known=known_lengths(args)
      )
    plan['search'] = search_table.records(found, args.hardware, args.assumed)
    for line in search_table.told(plan['search']):
      terminal.say(line)
  if args.compile:
    with exits.one_line_for(ValueError, OSError):
      for line in compile_all(args, plan):
        terminal.say(line)
  with exits.one_line_for(OSError):
    write(args, plan)
  return 0 if plan['fits'] else exits.FOR_USER


if __name__ == '__main__':
  command_line.run(main)
