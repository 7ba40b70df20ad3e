"""Rounds of generation: questions out, rollouts in, until rows are decided.

    state/responses/<round>/prompts.jsonl           questions of a round
    state/responses/<round>/about.json              their rows, and the model
    state/responses/<round>/rollouts.jsonl (.json)  what `generate` wrote

A round asks the rows that need responses for those that they lack. Its seed is
its own, so it draws other responses than the rounds before it. `generate` goes
on where it was stopped, so a round that is not complete is asked for again
before a new one begins.

Steps may have changed a question before it was asked, and another list of steps
asks it otherwise. So a response belongs to a row as long as the row is in its
input what it was then.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import files, types
from acereason_jax.data import questions, records, rollouts, sources
from acereason_jax.data.curate import responses, values

PROMPTS, ROLLOUTS = 'prompts.jsonl', 'rollouts.jsonl'
_ABOUT = 'about.json'
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
  read: Mapping[str, str] = types.EMPTY,
  model: str = '',
) -> Round:
  """The round that gives each row `n` responses, of which it has `attempts`.

  It writes the round's questions, and out/prompts.jsonl, which equals them. If
  the round before it lacks rollouts, it is that one; one that has none at all
  is written anew, since the steps may be others now. `read` are the problems of
  the inputs by row id, `model` is who is asked, '' if unknown.

  Raises: OSError.
  """
  before = list(find(out))
  if before and not _is_begun(before[-1]):
    before.pop()
  if before and _is_incomplete(before[-1]):
    asked = before[-1]
  else:
    lacks = max(n - len(attempts.get(row.id, ())) for row in rows)
    number = before[-1].number + 1 if before else 1
    asked = Round(number, f'{out}/{FOLDER}/{number}', max(lacks, 1))
    pathlib.Path(asked.folder).mkdir(parents=True, exist_ok=True)
    # Those of a round that is written anew go first.
    pathlib.Path(asked.prompts).unlink(missing_ok=True)
    rows = sorted(rows, key=lambda row: row.id)
    lines = [_line(row) for row in rows]
    known = {
      r.id: questions.text_digest(read.get(r.id, r.problem)) for r in rows
    }
    about = json.dumps(dict(model=model, read=known))
    files.write_atomically(f'{asked.folder}/n.json', f'{asked.n}\n')
    files.write_atomically(f'{asked.folder}/{_ABOUT}', f'{about}\n')
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
  out: str, rows: Sequence[values.Row], model: str = ''
) -> dict[str, list[values.Attempt]]:
  """The rollouts of all rounds, by row id; `model` is who is asked now.

  Raises:
    ValueError: one line; a file is damaged, its questions are others now, or
      another model answered them.
  """
  found: dict[str, list[values.Attempt]] = {}
  for asked in find(out):
    if not _done(asked):
      continue
    about = _about(asked)
    if model and about['model'] and model != about['model']:
      raise ValueError(
        f'{asked.folder}: holds responses of {about["model"]!r:.100}, and '
        f'config.model={model!r:.100}; choose another config.out, or remove '
        f'{out}/{FOLDER}, and all are asked again'
      )
    texts = {q.id: q.question for q in _questions(asked)}
    mine = [_as_asked(row, about['read'], texts) for row in rows]
    if any(row.id in texts for row in mine):
      told = responses.generated(asked.rollouts, mine, asked.prompts)
      for name, each in told.items():
        found.setdefault(name, []).extend(each)
  return found


def _as_asked(
  row: values.Row, read: Mapping[str, str], texts: Mapping[str, str]
) -> values.Row:
  """The row with the question that it was asked, if it is the row of then."""
  if row.id not in texts or row.id not in read:
    return row
  if read[row.id] != questions.text_digest(row.problem):
    return row
  return dataclasses.replace(row, problem=texts[row.id])


def _about(asked: Round) -> dict[str, Any]:
  """Raises ValueError, one line: the file is damaged."""
  place = f'{asked.folder}/{_ABOUT}'
  with records.opened(place, None) as file:
    try:
      match json.loads(file.read()):
        case {'model': str(), 'read': dict()} as about:
          return about
    except (ValueError, RecursionError):
      pass
  raise ValueError(f'{place}: holds no round; remove {asked.folder}')


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


def _questions(asked: Round) -> list[questions.Row]:
  return sources.jsonl(asked.prompts, answers=False)


def _done(asked: Round) -> int:
  """Number of rollouts that a round has."""
  if not pathlib.Path(asked.rollouts).exists():
    return 0
  return sum(1 for _ in rollouts.read_records(asked.rollouts))


def _is_begun(asked: Round) -> bool:
  """Whether `generate` has begun it; its header comes first."""
  return any(map(os.path.exists, (asked.rollouts, f'{asked.rollouts}.json')))


def _is_incomplete(asked: Round) -> bool:
  return _done(asked) < asked.n * len(_questions(asked))
