r"""Judges a response, or a file of rollouts, and says why.

    python -m acereason_jax.judge --answer='5/10' \
      --response='so </think> \boxed{0.5}'

explains one verdict. So does this, for a rollout that `generate` wrote:

    python -m acereason_jax.judge --rollouts=rollouts.jsonl \
      --data=problems.jsonl --id=sum-1-2 --index=3

Without --id it judges them all. A run's folder in place of the file gives the
rollouts whose texts the run keeps, of one --step or of all, with their answers
and with the judge of the run's config:

    python -m acereason_jax.judge --rollouts=runs/my7b --step=300 --id=sum-1-2

--phase=heldout takes held-out answers only. With --task=problem.json (a task of
verifiers/code.py) or --code it is the code judge. The text that a model wrote
is hostile: worker processes read it, and the terminal gets it escaped. Exit
status 0 whatever the verdict; 1, something for the user to fix, in one line;
2, a command line that cannot be read.
"""

import contextlib
import os
import re
import textwrap
import types
from collections.abc import Iterator, Sequence

from acereason_jax import outfile, storage
from acereason_jax.config import recorded
from acereason_jax.console import command_line, exits, signals, terminal
from acereason_jax.data import archive, kept, records, rollouts, verdicts
from acereason_jax.verifiers.pool import pool as pool_lib

_MATH = 'acereason_jax.verifiers.math:'
_CODE = 'acereason_jax.verifiers.code:'
# Time limit of one verdict, seconds; a program must run all its tests.
_MATH_SECONDS, _CODE_SECONDS = 8.0, 600.0
_NAME_CHARS = 80
KIND = outfile.Kind(
  'a file of verdicts',
  re.compile(rb'\{"id": "(?:[^"\\]|\\.)*", "index": [^",]+, "status": "').match,
)

FLAGS = command_line.Flags()
FLAGS.string('answer', None, 'The reference answer of one response.')
FLAGS.string('task', None, 'The file of a code task, instead of --answer.')
FLAGS.boolean('code', False, 'Answers are code tasks (JSON); as with --task.')
FLAGS.string('tier', None, "Of the programs' sandbox: see jail.py.")
FLAGS.string('response', None, 'What a model wrote, whole.')
FLAGS.string('response_file', None, "Its file; '-' is standard input.")
FLAGS.string('rollouts', None, "JSON lines of generate, or a run's folder.")
FLAGS.string('data', None, "Their questions, JSON lines with 'answer' by 'id'.")
FLAGS.integer('step', None, "Of a run's folder: only rollouts of this step.")
FLAGS.choice(
  'phase', None, archive.PHASES, "Of a run's folder: only rollouts of these."
)
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
  for name in ('data', 'step', 'phase', 'id', 'index', 'out'):
    if name in given and 'rollouts' not in given:
      raise ValueError(f'--{name} goes with --rollouts only')
  if 'rollouts' in given:
    is_run = kept.is_run(args.rollouts)
    if is_run and 'data' in given:
      raise ValueError("--data: a run's rollouts have their answers; omit it")
    for name in ('step', 'phase'):
      if not is_run and name in given:
        raise ValueError(
          f"--{name}={getattr(args, name)}: goes with a run's folder only"
        )
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
  seconds = args.timeout_seconds
  if seconds is not None and not 0 < seconds <= 3600:
    raise ValueError(
      f'--timeout_seconds={args.timeout_seconds}: more than 0, at most 3600'
    )
  if args.workers < 0:
    raise ValueError(f'--workers={args.workers}: give 0 or more')


def flags_judge(args: types.SimpleNamespace, name: str) -> recorded.Judge:
  """The judge that the flags name; `name` is 'verify' or 'explain'."""
  seconds = args.timeout_seconds
  if seconds is None:
    seconds = _CODE_SECONDS if args.code else _MATH_SECONDS
  arguments = dict(reasons=args.reasons)
  if args.tier is not None:
    arguments['tier'] = args.tier
  return recorded.Judge(
    args.fn or (_CODE if args.code else _MATH) + name,
    arguments,
    seconds,
    # The code judge starts processes, and confines them itself.
    confine=args.confine and not args.code,
  )


def run_judge(
  args: types.SimpleNamespace, domain: str, name: str
) -> recorded.Judge:
  """The judge of a run's domain, unless the flags name one.

  The folder may be a stranger's, and its config names a function. So it may
  name only a judge of this package, in a sandbox.

  Raises:
    ValueError, OSError: one line.
  """
  if args.fn or args.code:
    return flags_judge(args, name)
  path = storage.join(args.rollouts, recorded.NAME)
  content = storage.read(path, recorded.MAX_BYTES)
  if content is None:
    raise ValueError(f'{path}: there is none; give --fn, the judge')
  with exits.one_line_for(ValueError, where=f'{path}: '):
    found = recorded.judges(recorded.parse(content)).get(domain)
  if found is None:
    raise ValueError(f'{path}: no domain {domain!r:.100}; give --fn, the judge')
  if reason := recorded.unsafe(found):
    raise ValueError(
      f'{path}: {reason}, and a folder cannot choose that; give --fn'
    )
  with exits.one_line_for(ValueError, where=f'{path}: '):
    found = recorded.with_function(found, name)
  seconds = args.timeout_seconds or found.timeout_seconds
  return found._replace(timeout_seconds=seconds)


def open_pool(judge: recorded.Judge, workers: int) -> pool_lib.VerifierPool:
  """A pool of the judge; ends the command if there is none."""
  where = f'--fn={judge.fn}: '
  with exits.one_line_for(ValueError, RuntimeError, where=where):
    return pool_lib.VerifierPool(
      judge.fn, judge.arguments, workers, judge.timeout_seconds, judge.confine
    )


def read_one(args: types.SimpleNamespace) -> tuple[str, str, recorded.Judge]:
  """(response, reference answer, judge) that the arguments name."""
  judge = flags_judge(args, 'explain')
  if args.rollouts is not None and kept.is_run(args.rollouts):
    where = kept.Where(args.step, args.phase)
    domain, one = kept.find(args.rollouts, where, args.id, args.index or 0)
    return one.text, one.answer, run_judge(args, domain, 'explain')
  if args.rollouts is not None:
    answers = rollouts.read_answers(args.data)
    one = rollouts.find(args.rollouts, answers, args.id, args.index or 0)
    return one.text, one.answer, judge
  response, answer = args.response, args.answer
  if args.response_file is not None:
    with exits.one_line_for(ValueError, where='--response_file='):
      response = rollouts.read_text(args.response_file)
  if args.task is not None:
    with records.opened(args.task, records.MAX_LINE_BYTES) as file:
      answer = file.read().decode()
  return response, answer, judge


def explain(args: types.SimpleNamespace) -> None:
  """Judges one response; prints its findings, then the verdict."""
  response, answer, judge = read_one(args)
  with open_pool(judge, workers=1) as pool:
    verdict = pool.submit(response, answer).result()
  # Indented, so that a model's text cannot pass for the line below.
  detail = terminal.printable(
    terminal.cut(verdict.detail, verdicts.EXPLAINED_CHARS)
  )
  terminal.say(textwrap.indent(detail, '  ', lambda line: True))
  terminal.say(f'verdict: {verdict.status}  ({verdict.seconds:.3f} s)')


def read_all(
  args: types.SimpleNamespace,
) -> Iterator[tuple[str, recorded.Judge, Iterator[rollouts.Response]]]:
  """(domain, judge, responses) of each domain; '' if there is only one."""
  path = args.rollouts
  if not kept.is_run(path):
    answers = rollouts.read_answers(args.data)
    yield '', flags_judge(args, 'verify'), rollouts.read(path, answers)
    return
  where = kept.Where(args.step, args.phase)
  domains = kept.domains(path, where)
  for domain in domains:
    responses = kept.responses(path, where, domain)
    judge = run_judge(args, domain, 'verify')
    yield domain if len(domains) > 1 else '', judge, responses


def judge_file(args: types.SimpleNamespace) -> None:
  """Judges all rollouts of a file; prints the counts."""
  if args.out:
    outfile.check('--out', args.out, KIND)
  with contextlib.ExitStack() as stack:
    file = None
    if args.out:
      file = stack.enter_context(outfile.opened(args.out))
    for domain, judge, responses in read_all(args):
      workers = args.workers or os.cpu_count() or 1
      with open_pool(judge, workers) as pool:
        tally = verdicts.judge(responses, pool, file)
      if not tally.counts:
        raise ValueError(f'{args.rollouts}: holds no rollouts')
      if domain:
        terminal.say(f'{terminal.one_line(domain, _NAME_CHARS)}:')
      terminal.say(tally.summary())
  if args.out:
    terminal.say(f'all in {terminal.printable(args.out)}')


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = command_line.parse(FLAGS, argv, __doc__)
  with signals.at_once(), exits.one_line_for(ValueError, OSError):
    args.code |= args.task is not None
    check(args)
    if args.rollouts is not None and args.id is None:
      judge_file(args)
    else:
      explain(args)
  return 0


if __name__ == '__main__':
  command_line.run(main)
