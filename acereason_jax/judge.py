r"""Judges a response, or a file of rollouts, and says why.

    python -m acereason_jax.judge --answer='5/10' \
      --response='so </think> \boxed{0.5}'

explains one verdict. So does this, for a rollout that `generate` wrote:

    python -m acereason_jax.judge --rollouts=rollouts.jsonl \
      --data=problems.jsonl --id=sum-1-2 --index=3

Without --id it judges them all. With --task=problem.json (a task of
verifiers/code.py) or --code it is the code judge. The text that a model wrote
is hostile: worker processes read it, and the terminal gets it escaped. Exit
status 0 whatever the verdict; 1, something for the user to fix, in one line;
2, a command line that cannot be read.
"""

import contextlib
import os
import textwrap
import types
from collections.abc import Sequence

from acereason_jax import files
from acereason_jax.console import command_line, exits, terminal
from acereason_jax.data import records, rollouts, verdicts
from acereason_jax.verifiers.pool import pool as pool_lib

_MATH = 'acereason_jax.verifiers.math:'
_CODE = 'acereason_jax.verifiers.code:'
# Time limit of one verdict, seconds; a program must run all its tests.
_MATH_SECONDS, _CODE_SECONDS = 8.0, 600.0

FLAGS = command_line.Flags()
FLAGS.string('answer', None, 'The reference answer of one response.')
FLAGS.string('task', None, 'The file of a code task, instead of --answer.')
FLAGS.boolean('code', False, 'Answers are code tasks (JSON); as with --task.')
FLAGS.string('tier', None, "Of the programs' sandbox: see jail.py.")
FLAGS.string('response', None, 'What a model wrote, whole.')
FLAGS.string('response_file', None, "Its file; '-' is standard input.")
FLAGS.string('rollouts', None, 'JSON lines of generate, instead of a response.')
FLAGS.string('data', None, "Their questions, JSON lines with 'answer' by 'id'.")
FLAGS.string('id', None, 'Explains only one rollout: of this prompt id.')
FLAGS.integer('index', None, 'Which rollout of --id; 0 if not given.')
FLAGS.string('out', None, 'A file for the verdicts of all, JSON lines.')
FLAGS.string('fn', None, "'module:function' of another judge.")
FLAGS.boolean('reasons', True, 'Only an answer after </think> counts.')
FLAGS.boolean('confine', True, 'Keeps the judge from network and files.')
FLAGS.number(
  'timeout_seconds',
  None,
  f'For one verdict; {_MATH_SECONDS}, with --code {_CODE_SECONDS}.',
)
FLAGS.integer('workers', 0, 'Processes for a file; 0: one for each CPU.')


def check(args: types.SimpleNamespace) -> None:
  """Raises ValueError, one line, for arguments that do not go together."""
  given = {name for name, value in vars(args).items() if value is not None}
  one = given & {'response', 'response_file', 'rollouts'}
  if len(one) != 1:
    raise ValueError(
      f'got {" and ".join(f"--{name}" for name in sorted(one)) or "none"} of '
      '--response, --response_file and --rollouts; give exactly one'
    )
  for name in ('data', 'id', 'index', 'out'):
    if name in given and 'rollouts' not in given:
      raise ValueError(f'--{name} goes with --rollouts only')
  if 'index' in given and 'id' not in given:
    raise ValueError(f'--index={args.index}: of which --id?')
  if {'out', 'id'} <= given:
    raise ValueError('--out is for all verdicts; leave it or --id out')
  references = given & {'answer', 'task'}
  if bool(references) == ('rollouts' in given) or len(references) > 1:
    raise ValueError(
      f'--{" and --".join(sorted(references))}: one of them, with one '
      'response; with --rollouts, give --data'
      if references
      else '--answer: missing; give the reference answer, or a --task'
    )
  if 'tier' in given and not args.code:
    raise ValueError(f'--tier={args.tier}: goes with --code or --task only')
  if not 0 < args.timeout_seconds <= 3600:
    raise ValueError(
      f'--timeout_seconds={args.timeout_seconds}: more than 0, at most 3600'
    )
  if args.workers < 0:
    raise ValueError(f'--workers={args.workers}: give 0 or more')


def open_pool(
  args: types.SimpleNamespace, name: str, workers: int
) -> pool_lib.VerifierPool:
  """A pool of the judge that --fn names; ends the command if there is none."""
  fn = args.fn or (_CODE if args.code else _MATH) + name
  arguments = dict(reasons=args.reasons)
  if args.tier is not None:
    arguments['tier'] = args.tier
  with exits.one_line_for(ValueError, RuntimeError, where=f'--fn={fn}: '):
    return pool_lib.VerifierPool(
      fn,
      arguments,
      workers,
      args.timeout_seconds,
      # The code judge starts processes, and confines them itself.
      confine=args.confine and not args.code,
    )


def read_one(args: types.SimpleNamespace) -> tuple[str, str]:
  """(response, reference answer) of the rollout that the arguments name."""
  if args.rollouts is not None:
    answers = rollouts.read_answers(args.data)
    one = rollouts.find(args.rollouts, answers, args.id, args.index or 0)
    return one.text, one.answer
  response, answer = args.response, args.answer
  if args.response_file is not None:
    with exits.one_line_for(ValueError, where='--response_file='):
      response = rollouts.read_text(args.response_file)
  if args.task is not None:
    with records.opened(args.task, records.MAX_LINE_BYTES) as file:
      answer = file.read().decode()
  return response, answer


def explain(args: types.SimpleNamespace) -> None:
  """Judges one response; prints its findings, then the verdict."""
  response, answer = read_one(args)
  with open_pool(args, 'explain', workers=1) as pool:
    verdict = pool.submit(response, answer).result()
  # Indented, so that a model's text cannot pass for the line below.
  detail = terminal.printable(
    terminal.cut(verdict.detail, verdicts.EXPLAINED_CHARS)
  )
  terminal.say(textwrap.indent(detail, '  ', lambda line: True))
  terminal.say(f'verdict: {verdict.status}  ({verdict.seconds:.3f} s)')


def judge_file(args: types.SimpleNamespace) -> None:
  """Judges all rollouts of a file; prints the counts."""
  if args.out and os.path.exists(args.out):
    for other in filter(None, (args.rollouts, args.data)):
      if os.path.samefile(args.out, other):
        raise ValueError(f'--out={args.out}: it is read; give another file')
  responses = rollouts.read(args.rollouts, rollouts.read_answers(args.data))
  with contextlib.ExitStack() as stack:
    file = stack.enter_context(files.output(args.out)) if args.out else None
    pool = open_pool(args, 'verify', args.workers or os.cpu_count() or 1)
    tally = verdicts.judge(responses, stack.enter_context(pool), file)
    if not tally.counts:
      raise ValueError(f'{args.rollouts}: holds no rollouts')
  terminal.say(tally.summary())
  if args.out:
    terminal.say(f'all in {terminal.printable(args.out)}')


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = command_line.parse(FLAGS, argv, __doc__)
  try:
    with exits.one_line_for(ValueError, OSError):
      args.code |= args.task is not None
      if args.timeout_seconds is None:
        args.timeout_seconds = _CODE_SECONDS if args.code else _MATH_SECONDS
      check(args)
      if args.rollouts is not None and args.id is None:
        judge_file(args)
      else:
        explain(args)
  except KeyboardInterrupt:
    raise SystemExit('interrupted') from None
  return 0


if __name__ == '__main__':
  command_line.run(main)
