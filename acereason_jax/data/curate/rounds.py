"""Rounds of generation: questions out, rollouts in, until rows are decided.

    state/responses/<round>/prompts.jsonl           questions of a round
    state/responses/<round>/rollouts.jsonl (.json)  what `generate` wrote

A round asks the rows that need responses for those that they lack. Its seed is
its own, so it draws other responses than the rounds before it. `generate` goes
on where it was stopped, so a round that is not complete is asked for again
before a new one begins.
"""

import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import files
from acereason_jax.data import rollouts, sources
from acereason_jax.data.curate import responses, values

PROMPTS, ROLLOUTS = 'prompts.jsonl', 'rollouts.jsonl'
FOLDER = 'state/responses'
_COMMAND = 'acereason_jax.generate'
_STOPPED = 75
# Flags that a round sets itself.
_OWN = ('prompts', 'out', 'n', 'seed')


class Round(NamedTuple):
  """A round of questions.

  number: counts from 1.
  folder: its folder.
  n: responses to each question.
  """

  number: int
  folder: str
  n: int

  @property
  def prompts(self) -> str:
    return f'{self.folder}/{PROMPTS}'

  @property
  def rollouts(self) -> str:
    return f'{self.folder}/{ROLLOUTS}'


def begin(
  out: str,
  rows: Sequence[values.Row],
  n: int,
  attempts: Mapping[str, Sequence[values.Attempt]],
) -> Round:
  """The round that gives each row `n` responses, of which it has `attempts`.

  It writes the round's questions, and out/prompts.jsonl, which equals them. If
  the round before it lacks rollouts, it is that one.

  Raises: OSError.
  """
  before = list(find(out))
  if before and _is_incomplete(before[-1]):
    asked = before[-1]
  else:
    lacks = max(n - len(attempts.get(row.id, ())) for row in rows)
    number = before[-1].number + 1 if before else 1
    asked = Round(number, f'{out}/{FOLDER}/{number}', max(lacks, 1))
    pathlib.Path(asked.folder).mkdir(parents=True, exist_ok=True)
    lines = [_line(row) for row in sorted(rows, key=lambda row: row.id)]
    files.write_atomically(f'{asked.folder}/n.json', f'{asked.n}\n')
    # It comes last: a folder that has it is whole.
    files.write_atomically(asked.prompts, ''.join(lines))
  content = pathlib.Path(asked.prompts).read_bytes()
  files.write_atomically(pathlib.Path(out, PROMPTS), content)
  return asked


def find(out: str) -> Iterator[Round]:
  """The rounds so far, in order. Raises ValueError for a damaged one."""
  number = 1
  while True:
    folder = f'{out}/{FOLDER}/{number}'
    if not pathlib.Path(folder, PROMPTS).exists():
      return
    try:
      n = int(pathlib.Path(folder, 'n.json').read_text())
    except (OSError, ValueError) as e:
      raise ValueError(f'{folder}/n.json: not a number; remove {folder}') from e
    yield Round(number, folder, n)
    number += 1


def attempts(
  out: str, rows: Sequence[values.Row]
) -> dict[str, list[values.Attempt]]:
  """The rollouts of all rounds, by row id.

  Raises:
    ValueError: one line; a file is damaged, or its questions are others now.
  """
  found: dict[str, list[values.Attempt]] = {}
  for asked in find(out):
    if not _done(asked):
      continue
    mine = {row.id for row in rows} & _ids(asked)
    if mine:
      told = responses.generated(asked.rollouts, rows, asked.prompts)
      for name, each in told.items():
        found.setdefault(name, []).extend(each)
  return found


def command(
  asked: Round, model: str, flags: Mapping[str, Any], seed: int = 0
) -> list[str]:
  """The arguments of python that fill a round.

  `flags` are those of `generate` that a config sets, such as max_tokens.

  Raises:
    ValueError: a flag is one that a round sets itself.
  """
  for name in flags:
    if name in _OWN or name == 'model':
      raise ValueError(
        f'{name}={flags[name]!r:.60}: a round sets it; remove it'
      )
  told = dict(
    model=model,
    prompts=asked.prompts,
    out=asked.rollouts,
    n=asked.n,
    seed=seed + asked.number,
    **flags,
  )
  arguments = []
  for name, value in told.items():
    many = value if isinstance(value, list | tuple) else [value]
    arguments += [f'--{name}={_flag(each)}' for each in many]
  return ['-m', _COMMAND, *arguments]


def shown(arguments: Sequence[str]) -> str:
  """The command as a line for a shell."""
  return 'python ' + shlex.join(arguments)


def run(arguments: Sequence[str]) -> bool:
  """Runs the command in a process of its own; False if it was stopped.

  Its lines go to the terminal. A process of its own, because nothing here loads
  jax, and so that all memory is free again afterwards.

  Raises:
    ValueError: it failed.
    KeyboardInterrupt: this process was stopped, and so is that one.
  """
  with subprocess.Popen([sys.executable, *arguments]) as child:
    try:
      status = child.wait()
    except KeyboardInterrupt:
      child.terminate()
      raise
  if status in (0, _STOPPED):
    return not status
  raise ValueError(
    f'config.model: generate failed with status {status}; its reason is above; '
    f'correct it, or run it yourself: {shown(arguments)}'
  )


def _flag(value: Any) -> str:
  return str(value).lower() if isinstance(value, bool) else str(value)


def _line(row: values.Row) -> str:
  record = dict(id=row.id, problem=row.problem)
  if row.starter:
    record['starter'] = row.starter
  return json.dumps(record) + '\n'


def _ids(asked: Round) -> set[str]:
  return {row.id for row in sources.jsonl(asked.prompts, answers=False)}


def _done(asked: Round) -> int:
  """Number of rollouts that a round has."""
  if not pathlib.Path(asked.rollouts).exists():
    return 0
  return sum(1 for _ in rollouts.read_records(asked.rollouts))


def _is_incomplete(asked: Round) -> bool:
  return _done(asked) < asked.n * len(_ids(asked))
