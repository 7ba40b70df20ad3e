r"""Judges a response with the scorer of the reasoning-gym task that asked it.

It is for answers that are no mathematics, such as words spelled backward, and
for tasks with several right answers. `data/gym.py` makes the references: JSON
with the names of the generator and its arguments, and with the task's question,
answer and metadata.

The last `\boxed{}` counts, as for the math judge, and only full marks are
right. Scorers that evaluate text as Python are refused, because the model could
write their verdict, and so are those that give full marks to wrong answers.
Some of the others overlook words around a right answer; where an answer is a
number, the math judge is stricter. They are somebody else's code that reads
hostile text, so judge in a `VerifierPool`, which confines it and holds the
deadline.
"""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import reasoning_gym

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers import math

# eval or sympy's parse_expr, which is eval, on the answer or on the reference.
EVALUATES = frozenset(
  [
    *('binary_matrix', 'bitwise_arithmetic', 'countdown'),
    *('intermediate_integration', 'n_queens', 'number_sorting'),
    *('polynomial_multiplication', 'puzzle24', 'simple_integration'),
    *('spiral_matrix', 'string_insertion'),
  ]
)
# Full marks for 0 next to 0.85, for nan, and for any text next to False.
FORGEABLE = frozenset(
  ['coin_flip', 'complex_arithmetic', 'game_of_life_halting']
)
# Tasks of other generators, with those generators' scorers.
COMPOSITE = 'composite'
# The moves of seven disks are 4,063 characters.
_TEXT_CHARS = 1 << 14
_SHOWN_CHARS, _EXPLAINED_CHARS = 80, 1000
_TASK_CHARS = 1 << 20
_KEYS = frozenset(['dataset', 'arguments', 'question', 'answer', 'metadata'])
# What a scorer raises for a text that it cannot read. `reference` has shown
# before that it can read the right answer, so the text is wrong.
_UNREAD = (
  *(ArithmeticError, AssertionError, AttributeError, LookupError),
  *(RecursionError, TypeError, ValueError),
)


def verify(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  """Returns the scorer's verdict on the box of `response`.

  `reasons` is the math judge's: only what follows the first `</think>` counts.
  A reference that is no task is 'error'.
  """
  start = time.perf_counter()
  box, problem = math.extract(response, reasons)
  status: Status
  if box is None:
    status, detail = 'unparsed', problem
  elif len(box) > _TEXT_CHARS:
    status, detail = 'unparsed', f'a box of {len(box)} characters'
  else:
    status, detail = _judge(box.strip(), answer)
  return Verdict(status, detail, time.perf_counter() - start)


def explain(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  """Returns `verify`'s verdict with a detail of several lines."""
  verdict = verify(response, answer, reasons=reasons)
  box, problem = math.extract(response, reasons)
  lines = [f'extracted: {problem if box is None else _long(box)}']
  try:
    task = _task(answer)
    lines += [
      f'reference: {_long(task["answer"])}',
      f'scorer: that of {task["dataset"][:_SHOWN_CHARS]!a}',
    ]
  except ValueError as e:
    lines.append(f'reference: {ascii(str(e))[1:-1]}')
  lines.append(f'decided by: {verdict.detail}')
  return dataclasses.replace(verdict, detail='\n'.join(lines))


def _long(text: str) -> str:
  return ascii(text[:_EXPLAINED_CHARS])


def reference(response: str, answer: str) -> Verdict:
  """Returns 'right' if the scorer gives the task's own answer full marks.

  `response` is ignored: the signature is that of a judge, so a pool can run it.
  """
  del response
  start = time.perf_counter()
  status, detail = 'right', ''
  try:
    own = _task(answer)['answer']
    verdict = verify(f'\\boxed{{{own}}}', answer, reasons=False)
    if verdict.status != 'right':
      status = 'error'
      detail = f"the task's own answer is {verdict.status}: {verdict.detail}"
  except ValueError as e:
    status, detail = 'error', str(e)
  return Verdict(status, detail, time.perf_counter() - start)


def _judge(text: str, answer: str) -> tuple[Status, str]:
  try:
    task = _task(answer)
    data = _scorer(task['dataset'], json.dumps(task['arguments']))
  except ValueError as e:
    return 'error', str(e)
  shown = f'{text[:_SHOWN_CHARS]!a}'
  try:
    score = data.score_answer(text, task)
  except _UNREAD as e:
    return 'wrong', f'{task["dataset"]}, {type(e).__name__}: {shown}'
  # Part marks would pay for a long text that holds the answer.
  status = 'right' if score == 1 else 'wrong'
  return status, f'{task["dataset"]}, {score:.2f}: {shown}'


def _task(answer: str) -> dict[str, Any]:
  """The task that a reference holds. Raises ValueError for any other text."""
  if len(answer) > _TASK_CHARS:
    raise ValueError(f'a task of {len(answer):,} characters')
  try:
    task = json.loads(answer)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'no JSON of a reasoning-gym task: {e}') from e
  if not isinstance(task, dict) or task.keys() != _KEYS:
    raise ValueError(f'no reasoning-gym task; expected {sorted(_KEYS)}')
  for key in ('dataset', 'question', 'answer'):
    if not isinstance(task[key], str):
      raise ValueError(f'{key} of the task is no text')
  for key in ('arguments', 'metadata'):
    if not isinstance(task[key], dict):
      raise ValueError(f'{key} of the task is no object')
  return task


@functools.lru_cache(maxsize=16)
def _scorer(name: str, arguments: str) -> Any:
  """The data set whose method score_answer judges. Raises ValueError."""
  check_scorer(name)
  taken = json.loads(arguments)
  with _refusals(name, taken):
    return _made(name, taken, seed=0, size=1)


def check_scorer(name: str) -> None:
  """Raises ValueError for a generator whose scorer may not judge."""
  for names, what in (
    (EVALUATES, 'evaluates text as Python'),
    (FORGEABLE, 'gives full marks to wrong answers'),
    ({COMPOSITE}, 'is that of other generators'),
  ):
    if name in names:
      raise ValueError(
        f'generator={name!r}: its own scorer {what}; use the math judge, or '
        'another generator'
      )


def tasks(
  name: str, arguments: Mapping[str, Any], *, seed: int, count: int
) -> Iterator[dict[str, Any]]:
  """`count` tasks of the generator `name`: question, answer and metadata.

  Raises:
    ValueError: one line; the generator refuses these arguments.
  """
  with _refusals(name, arguments):
    data = _made(name, arguments, seed=seed, size=count)
    for i in range(count):
      task = data[i]
      yield {key: task[key] for key in ('question', 'answer', 'metadata')}


def _made(
  name: str, arguments: Mapping[str, Any], *, seed: int, size: int
) -> Any:
  return reasoning_gym.create_dataset(name, **arguments, seed=seed, size=size)


@contextlib.contextmanager
def _refusals(name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
  """Makes one line of what generators raise for arguments."""
  try:
    yield
  except _UNREAD as e:
    raise ValueError(
      f'generator={name!r} with arguments={dict(arguments)!r:.200}: '
      f'{" ".join(str(e).split())[:200] or type(e).__name__}; see '
      "reasoning-gym's config of it"
    ) from e
