"""Evaluates a model on benchmarks: averages, pass@k, maj@k and their errors.

    python -m acereason_jax.evaluate --config=configs/eval_aime24.py \\
      --model=runs/my7b/checkpoints/3200 --out=evals/my7b

Rollouts are kept as they end. The same command again goes on where it stopped,
also with a larger n or with more benchmarks. Then

    python -m acereason_jax.evaluate --compare evals/base evals/my7b

compares two models on the same problems. --show=DIR prints a table again,
or the held-out pass rates of a run's folder;
--judge=DIR asks the judges anew about the rollouts in DIR, those of its config
or of another --config; --rollouts=FILE judges the responses of a file. Exit
status 75 means stopped by a signal; 1, something for the user to fix, in one
line, or more failed verdicts than the config allows.
"""

import functools
import json
import os
import re
import types
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import logging

from acereason_jax import outfile, storage
from acereason_jax.config import evaluation, from_flags
from acereason_jax.console import (
  command_line,
  exits,
  jax_setup,
  oserrors,
  signals,
  terminal,
)
from acereason_jax.evaluation import (
  again,
  compare,
  compare_table,
  figures,
  kept,
  looks,
  problems,
  reading,
  run,
  samples,
  table,
  values,
)
from acereason_jax.hosts import cluster, together, watchdog
from acereason_jax.run import handshake, weights

FLAGS = command_line.Flags(logging.WARNING)
from_flags.define(FLAGS.values)
FLAGS.string(
  'model',
  None,
  "A Hugging Face directory, a model of the hub ('owner/name'), the name of an "
  'embedded model, the folder of a run (its newest checkpoint) or '
  'RUN/checkpoints/STEP; default: config.model.',
)
FLAGS.string('out', None, 'The folder of rollouts, verdicts and results.')
FLAGS.string('only', '', 'Names of benchmarks, between commas; default: all.')
FLAGS.string(
  'like', '', 'A folder of results that tells lengths and speed beforehand.'
)
FLAGS.boolean(
  'tokens', False, 'Also write token ids and their log-probabilities.'
)
FLAGS.boolean('dry_run', False, 'Stop before anything is decoded or written.')
FLAGS.string('rollouts', None, 'JSON lines of responses to judge; no model.')
FLAGS.string('judge', None, 'A folder whose rollouts are judged anew.')
FLAGS.string('judges', '', 'Names of the judges that --judge asks.')
FLAGS.string('show', None, "A folder, or a run's, whose table is printed.")
FLAGS.string('compare', None, 'A, followed by B: two folders to compare.')
FLAGS.boolean('anyway', False, 'Compare what was not evaluated alike.')
together.define(FLAGS)

_COMPARES = (
  '--compare: give two folders, as in --compare evals/base evals/trained'
)
_COMPARISON = outfile.Kind(
  'a comparison', re.compile(rb'\{\n "schema": [0-9]+,\n "a": \{').match
)
_MODES = ('show', 'compare', 'judge', 'rollouts')
# Flags that would change nothing, by what the command does.
_DRAWS = ('model', 'like', 'tokens', 'dry_run')
_IDLE = {
  '': ('judges', 'anyway'),
  'show': ('out', 'only', 'judges', 'anyway', *_DRAWS),
  'compare': ('out', 'judges', *_DRAWS),
  'judge': ('out', 'anyway', 'coordinator', 'processes', 'process', *_DRAWS),
  'rollouts': (
    *('judges', 'anyway', 'coordinator', 'processes', 'process'),
    *_DRAWS,
  ),
}


def read_flags(argv: Sequence[str]) -> types.SimpleNamespace:
  """The values of the flags; ends with one line for a bad flag or config."""
  compares = any(word.partition('=')[0] == '--compare' for word in argv)
  with from_flags.told(argv, 'evaluation.py'):
    args = command_line.parse(
      FLAGS,
      argv,
      __doc__,
      places=('other',) if compares else (),
      usage=_COMPARES if compares else '',
    )
    # A file that is missing is reported only when its config is read.
    getattr(args.config, 'benchmarks', None)
  modes = [name for name in _MODES if getattr(args, name) is not None]
  if len(modes) > 1:
    raise command_line.refused(f'--{" and --".join(modes)}: one at a time')
  args.mode = next(iter(modes), '')
  if idle := [name for name in _IDLE[args.mode] if getattr(args, name)]:
    place = f'--{args.mode}' if args.mode else 'drawing rollouts'
    raise command_line.refused(f'--{idle[0]}: of no use with {place}')
  args.only, args.judges = (
    tuple(filter(None, text.split(','))) for text in (args.only, args.judges)
  )
  if args.mode in ('', 'rollouts') and args.config is None:
    raise command_line.refused('--config: missing; give a file of configs/')
  if args.mode in ('', 'rollouts') and not args.out:
    raise command_line.refused('--out: missing; give a folder for the results')
  return args


def show(args: types.SimpleNamespace) -> int:
  with exits.one_line_for(ValueError, OSError):
    if looks.is_run(args.show):
      lines = looks.told(args.show)
    else:
      lines = table.told(reading.read(args.show))
  for line in lines:
    terminal.say(line)
  return 0


def compare_two(args: types.SimpleNamespace) -> int:
  """Prints what differs; writes compare.json and figures beside B's results."""
  with exits.one_line_for(ValueError, OSError):
    a, b = reading.read(args.compare), reading.read(args.other)
    found = compare.compare(a, b, args.anyway, args.only)
  for line in compare_table.told(found):
    terminal.say(line)
  folder = args.other
  if not storage.is_remote(folder) and not os.path.isdir(folder):
    folder = os.path.dirname(folder)  # The file results.json was given.
  text = json.dumps(found, indent=1, allow_nan=False) + '\n'
  try:
    path = storage.join(folder, 'compare.json')
    outfile.check('--compare', path, _COMPARISON)
    storage.write(path, text.encode())
    figures.write(storage.join(folder, 'figures'), figures.of_comparison(found))
  except (OSError, ValueError) as e:
    # B may be somebody else's; what was asked for has been printed.
    words = oserrors.explained(e) if isinstance(e, OSError) else str(e)
    reason = terminal.one_line(words, 200)
    terminal.say(f'compare.json is not written: {reason}', to_stderr=True)
  return 0


def stoppable(call: Callable[[signals.StopRequest], int]) -> int:
  """Calls it; a signal ends it with the status for that."""
  with together.stop_request() as stop:
    try:
      return call(stop)
    except signals.Asked:
      terminal.say('stopped; nothing is lost, and the same command goes on')
      return exits.STOPPED


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """As JSON gives it back. Ends with one line for what JSON has not."""
  with exits.one_line_for(TypeError, ValueError, where='config: '):
    return json.loads(config.to_json())


def draw(args: types.SimpleNamespace, plan: values.Plan) -> int:
  """Draws and judges rollouts; returns the exit status."""
  config = args.config
  config.model = args.model or config.model
  if not config.model:
    raise SystemExit('error: --model: missing, and config.model names none')
  jax_setup.keep_compiled()
  ends_in_a_line = functools.partial(together.interruptible, 'where it stopped')
  with ends_in_a_line():
    gang = together.join(args)
  with together.ends_all(gang), ends_in_a_line():
    with exits.one_line_for(ValueError, OSError):
      samples.folder_at(args.out)
      model = run.Model(config.model, weights.find(config.model))
      if not gang.alone:
        facts = handshake.facts(config, model.weights.directory)
        gang.agree(facts, handshake.difference)
      cluster.connect(gang, args.join_seconds, args.peer_seconds)
      jax_setup.check_devices()
    watchdog.start(args.out, args.hang_seconds, gang)
    how = run.How(
      out=args.out,
      like=args.like,
      tokens=args.tokens,
      dry_run=args.dry_run,
      config=plain(config),
      agree=lambda facts: gang.agree(facts, handshake.difference),
    )

    def evaluate(stop: signals.StopRequest) -> int:
      with (
        stop.interruptible(),
        watchdog.phase('load'),
        exits.one_line_for(ValueError, OSError),
      ):
        job = run.read(plan, model, how)
      jax_setup.use_precision(str(job.dtype))
      return run.evaluate(job, how, stop)

    return stoppable(evaluate)


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = read_flags(argv)
  if args.mode == 'show':
    return show(args)
  if args.mode == 'compare':
    return compare_two(args)
  with exits.one_line_for(ValueError, OSError):
    config = args.config
    if config is None:
      samples.folder_at(args.judge, '--judge')
      made = kept.read(args.judge)
      config = ml_collections.ConfigDict(made, type_safe=False)
    plan = problems.chosen(evaluation.plan(config), args.only)
  if not args.mode:
    return draw(args, plan)
  told = plain(config)
  with together.interruptible('where it stopped'):
    if args.mode == 'judge':
      return stoppable(
        lambda stop: again.judge(plan, told, args.judge, args.judges, stop)
      )
    return stoppable(
      lambda stop: again.take(plan, told, args.rollouts, args.out, stop)
    )


if __name__ == '__main__':
  command_line.run(main)
