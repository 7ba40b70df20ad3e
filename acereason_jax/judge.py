r"""Judges a response, or a file of rollouts, and says why.

    python -m acereason_jax.judge --answer='5/10' \
      --response='so </think> \boxed{0.5}'

explains one verdict. So it does for a rollout that `generate` wrote:

    python -m acereason_jax.judge --rollouts=rollouts.jsonl \
      --data=problems.jsonl --id=sum-1-2 --index=3

and without --id it judges them all. With --task=problem.json (a task of
verifiers/code.py) or --code it is the code judge. What a model wrote is
hostile: worker processes read it, and the terminal gets it escaped. Exit status
0 whatever the verdict; 1, something for the user to mend, in one line; 2,
usage.
"""

import argparse
import collections
import contextlib
import heapq
import itertools
import json
import os
import pathlib
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from acereason_jax import types
from acereason_jax.console import exits, terminal
from acereason_jax.data import records, sources
from acereason_jax.verifiers.pool import pool as pool_lib

_MATH = 'acereason_jax.verifiers.math:'
_CODE = 'acereason_jax.verifiers.code:'
# Of one verdict, in seconds: a program has all its tests to run.
_MATH_SECONDS, _CODE_SECONDS = 8.0, 600.0

_MAX_RESPONSE_BYTES = 4 << 20
# With its tokens and their logps, a rollout of 32K tokens takes 1 MB.
_MAX_LINE_BYTES = 64 << 20
_SHOWN_CHARS = 8000
_NAME_CHARS = 80
_SLOWEST = 5


class Task(NamedTuple):
  """A rollout of a file; `broken` says why it has no response, if so."""

  id: str
  index: int
  response: str
  answer: str
  broken: str | None

  @property
  def name(self) -> str:
    return f'{self.id}[{self.index}]'


def make_parser() -> argparse.ArgumentParser:
  """Not absl's flags: those are global, and `generate` has some of them."""
  parser = argparse.ArgumentParser(
    prog='python -m acereason_jax.judge',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('--answer', help='the reference answer of one response')
  add('--task', help='the file of a code task, instead of --answer')
  add(
    '--code',
    action='store_true',
    help='answers are code tasks (JSON); --task implies it',
  )
  add(
    '--tier', help="of the programs' sandbox, instead of the best; see jail.py"
  )
  add('--response', help='what a model wrote, whole')
  add('--response_file', help="the file that holds it; '-': standard input")
  add('--rollouts', help='JSON lines of generate, instead of one response')
  add('--data', help="their questions' JSON lines of 'answer', found by 'id'")
  add('--id', help='explain one of them alone: that of this prompt id')
  add('--index', type=int, help='and this index; default 0')
  add('--out', help='a file for the verdicts of all, JSON lines')
  add('--fn', help="'module:function' of another judge; its detail is shown")
  add(
    '--reasons',
    action='store_true',
    default=True,
    help='the answer counts after </think> alone: the default',
  )
  # As absl spells it, which the other commands use.
  add(
    '--noreasons',
    dest='reasons',
    action='store_false',
    help='it counts anywhere',
  )
  add(
    '--noconfine',
    dest='confine',
    action='store_false',
    help='for a judge that needs the network, files or programs',
  )
  add(
    '--timeout_seconds',
    type=float,
    help=f'of one verdict; {_MATH_SECONDS}, with --code {_CODE_SECONDS}',
  )
  add(
    '--workers', type=int, default=0, help='processes for a file; 0: one a CPU'
  )
  return parser


def check(args: argparse.Namespace) -> None:
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
      raise ValueError(f'--{name} goes with --rollouts alone')
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
    raise ValueError(f'--tier={args.tier}: goes with --code or --task alone')
  if not 0 < args.timeout_seconds <= 3600:
    raise ValueError(
      f'--timeout_seconds={args.timeout_seconds}: more than 0, at most 3600'
    )
  if args.workers < 0:
    raise ValueError(f'--workers={args.workers}: give 0 or more')


def read_response(path: str) -> str:
  """The text of a file or, for '-', of standard input."""
  with contextlib.ExitStack() as stack:
    file = sys.stdin.buffer
    if path != '-':
      file = stack.enter_context(records.opened(path))
    data = file.read(_MAX_RESPONSE_BYTES + 1)
  if len(data) > _MAX_RESPONSE_BYTES:
    raise ValueError(
      f'--response_file={path}: more than {_MAX_RESPONSE_BYTES} bytes'
    )
  try:
    return data.decode()
  except UnicodeDecodeError as e:
    raise ValueError(f'--response_file={path}: not UTF-8 text ({e})') from e


def read_rollouts(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """('path:line', record) of each line that `generate` wrote, one at a time.

  Raises:
    ValueError: one line naming path:line.
  """
  with records.opened(path, most_bytes=None) as file:
    for number in itertools.count(1):
      if not (line := file.readline(_MAX_LINE_BYTES + 1)):
        return
      where = f'{path}:{number}'
      if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f'{where}: longer than {_MAX_LINE_BYTES} bytes')
      if not line.strip():
        continue
      try:
        record = json.loads(line)
      except (ValueError, RecursionError) as e:
        if not line.endswith(b'\n'):
          return  # It is being written, or its writer was killed.
        raise ValueError(f'{where}: not one JSON object ({e})') from e
      match record:
        case {'id': str(), 'index': int(), 'text': str()}:
          yield where, record
        case _:
          raise ValueError(
            f"{where}: no rollout: expected 'id', 'index' and 'text', as "
            'acereason_jax.generate writes them'
          )


def read_answers(path: str) -> dict[str, str]:
  """Answers by id."""
  return {row.id: row.answer for row in sources.jsonl(path)}


def find_answer(
  where: str, record: Mapping[str, Any], answers: Mapping[str, str] | None
) -> str:
  """Its own 'answer', unless a file of answers was given.

  Raises:
    ValueError: there is none.
  """
  if answers is None:
    answer = record.get('answer')
    remedy = "the line has no 'answer'; give --data, the file of questions"
  else:
    answer = answers.get(record['id'])
    remedy = f'--data has no id {record["id"]!r:.220}'
  if not isinstance(answer, str):
    raise ValueError(f'{where}: {remedy}')
  return answer


def read_tasks(
  path: str, answers: Mapping[str, str] | None, wanted: str | None = None
) -> Iterator[Task]:
  """The rollouts of a file, or those of one prompt id, with their answers."""
  for where, record in read_rollouts(path):
    if wanted in (None, record['id']):
      broken = None
      if record.get('stop') == 'error':
        broken = str(record.get('detail', ''))
      yield Task(
        record['id'],
        record['index'],
        record['text'],
        find_answer(where, record, answers),
        broken,
      )


def pick(args: argparse.Namespace) -> Task:
  """The rollout that --id and --index name.

  Raises:
    ValueError: there is none, or it has no response.
  """
  answers = read_answers(args.data) if args.data else None
  index, others = args.index or 0, []
  for task in read_tasks(args.rollouts, answers, args.id):
    if task.index == index:
      break
    others.append(task.index)
  else:
    has = 'is not in it'
    if others:
      has = f'has indices {sorted(others)[:20]}, not {index}'
    raise ValueError(f'{args.rollouts}: id {args.id!r:.220} {has}')
  if task.broken is not None:
    raise ValueError(
      f'{args.rollouts}: {task.name}: no response, the rollout ended with an '
      f'error: {task.broken:.200}'
    )
  return task


def open_pool(
  args: argparse.Namespace, name: str, workers: int
) -> pool_lib.VerifierPool:
  """A pool of the judge that --fn names; ends the command if it has none."""
  fn = args.fn or (_CODE if args.code else _MATH) + name
  arguments = dict(reasons=args.reasons)
  if args.tier is not None:
    arguments['tier'] = args.tier
  with exits.mendable(ValueError, RuntimeError, where=f'--fn={fn}: '):
    return pool_lib.VerifierPool(
      fn,
      arguments,
      workers,
      args.timeout_seconds,
      # The code judge starts processes, which it confines itself.
      confine=args.confine and not args.code,
    )


def explain(args: argparse.Namespace) -> None:
  """Judges one response; prints what was found, then the verdict."""
  if args.rollouts is not None:
    task = pick(args)
    response, answer = task.response, task.answer
  else:
    response, answer = args.response, args.answer
    if args.response_file is not None:
      response = read_response(args.response_file)
    if args.task is not None:
      with records.opened(args.task, records.MAX_LINE_BYTES) as file:
        answer = file.read().decode()
  with open_pool(args, 'explain', workers=1) as pool:
    verdict = pool.submit(response, answer).result()
  # Indented: what a model wrote cannot pass for the line below.
  detail = terminal.printable(terminal.cut(verdict.detail, _SHOWN_CHARS))
  terminal.say(textwrap.indent(detail, '  ', lambda line: True))
  terminal.say(f'verdict: {verdict.status}  ({verdict.seconds:.3f} s)')


class Tally:
  """Counts verdicts and writes them down, if there is a file for them."""

  def __init__(self, file: TextIO | None):
    self._file = file
    self._order = itertools.count()
    self._slowest: list[tuple[float, int, str]] = []
    self.counts: collections.Counter[str] = collections.Counter()

  def add(self, task: Task, verdict: types.Verdict) -> None:
    self.counts[verdict.status] += 1
    name = terminal.one_line(task.name, _NAME_CHARS)
    line = f'{verdict.seconds:.3f} s {name} {verdict.status}'
    heapq.heappush(self._slowest, (verdict.seconds, next(self._order), line))
    if len(self._slowest) > _SLOWEST:
      heapq.heappop(self._slowest)
    if self._file is not None:
      record = dict(
        id=task.id,
        index=task.index,
        status=verdict.status,
        detail=verdict.detail,
        seconds=round(verdict.seconds, 4),
      )
      self._file.write(json.dumps(record) + '\n')

  def summary(self) -> str:
    """Counts, the pass rate and the slowest verdicts, a line each."""
    found = {s: self.counts[s] for s in typing.get_args(types.Status)}
    judged = found['right'] + found['wrong'] + found['unparsed']
    rate = f'{found["right"] / judged:.1%}' if judged else 'none'
    slowest = [line for _, _, line in sorted(self._slowest, reverse=True)]
    return '\n'.join(
      [
        '  '.join(f'{status} {count}' for status, count in found.items()),
        f'pass rate {rate} of {judged} judged',
        f'slowest: {", ".join(slowest)}',
      ]
    )


@contextlib.contextmanager
def replacing(path: str | None) -> Iterator[TextIO | None]:
  """A file that takes the place of `path` when all of it is written."""
  if path is None:
    yield None
    return
  temporary = pathlib.Path(f'{path}.tmp')
  try:
    with temporary.open('w') as file:
      yield file
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def respondents(
  tasks: Iterator[Task], add: Callable[[Task, types.Verdict], None]
) -> Iterator[tuple[Task, str, str]]:
  """What a pool takes; a rollout without a response is an error unasked."""
  for task in tasks:
    # The key lives as long as the verdict is awaited: without the text.
    key = task._replace(response='', answer='')
    if task.broken is not None:
      add(key, types.Verdict('error', task.broken, 0.0))
    else:
      yield key, task.response, task.answer


def judge_file(args: argparse.Namespace) -> None:
  """Judges all rollouts of a file, of which few are held at a time."""
  if args.out and os.path.exists(args.out):
    for other in filter(None, (args.rollouts, args.data)):
      if os.path.samefile(args.out, other):
        raise ValueError(f'--out={args.out}: it is read; give another file')
  answers = read_answers(args.data) if args.data else None
  workers = args.workers or os.cpu_count() or 1
  with (
    replacing(args.out) as file,
    open_pool(args, 'verify', workers) as pool,
  ):
    tally = Tally(file)
    tasks = respondents(read_tasks(args.rollouts, answers), tally.add)
    for task, verdict in pool.as_completed(tasks):
      tally.add(task, verdict)
    if not tally.counts:
      raise ValueError(f'{args.rollouts}: holds no rollouts')
  terminal.say(tally.summary())
  if args.out:
    terminal.say(f'all in {terminal.printable(args.out)}')


def main(argv: Sequence[str]) -> int:
  args = make_parser().parse_args(argv)
  terminal.use_stdout()
  try:
    with exits.mendable(ValueError, OSError):
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
  sys.exit(main(sys.argv[1:]))
