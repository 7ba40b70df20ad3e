"""Rows of reasoning-gym's generators: endless questions with known answers.

    c.train_data = dict(
      fn='acereason_jax.data.gym:rows', generator='chain_sum',
      arguments=dict(min_terms=2, max_terms=2, max_digits=1),
      split='train', count=300, seed=0)

`pip install 'acereason_jax[gym]'` installs reasoning-gym (Apache-2.0).
"""

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import reasoning_gym.factory

from acereason_jax.data import questions
from acereason_jax.verifiers import gym

# Their tasks depend on Python's hash seed or on a global random state, so that
# a run would go on with other rows than it began with.
UNREPEATABLE = frozenset(
  [
    *('isomorphic_strings', 'knight_swap', 'list_functions'),
    *('polynomial_multiplication', 'ransom_note', 'word_ladder'),
  ]
)
# Of a question: letters, digits and signs.
_TOKEN = re.compile(r'[0-9]+|[^\W\d_]+|[^\w\s]|_')
# Tasks of one data set of the package, whose tables grow with its size.
_CHUNK = 500
# Tasks in a row without a new row, after which a generator has no more.
_IDLE = 2000


def rows(
  *,
  generator: str,
  split: str,
  count: int,
  seed: int,
  arguments: Mapping[str, Any] | None = None,
  held_out: float = 0.25,
  own_scorer: bool = False,
) -> list[questions.Row]:
  """`count` different tasks of a generator of reasoning-gym.

  The share `held_out` (0 to 1) of all questions belongs to split 'heldout', all
  others to 'train'. A question's split depends only on its words, numbers and
  signs, in any order: 4 + 5 and 5 + 4 are in one split. So no choice of seeds,
  counts and arguments makes the two splits meet. The first rows of a larger
  `count` are those of a smaller one.

  The answer is a text for verifiers/math.py, or with `own_scorer` the task as
  JSON for verifiers/gym.py.

  Raises:
    ValueError: an unknown generator, one whose tasks cannot be repeated or have
      no answer, arguments that it refuses, or too few different questions.
  """
  _check(generator, split, count, held_out, own_scorer)
  arguments = dict(arguments or {})
  found: dict[str, questions.Row] = {}
  idle = 0
  for task in _tasks(generator, arguments, seed):
    row = _row(generator, arguments, task, own_scorer)
    new = _is_held_out(row.question, held_out) == (split == 'heldout')
    new = new and row.id not in found
    idle = 0 if new else idle + 1
    if new:
      found[row.id] = row
    if len(found) == count or idle == _IDLE:
      break
  if len(found) < count:
    raise ValueError(
      f'count={count}: generator={generator!r} with '
      f'arguments={arguments!r:.200} makes few different questions: '
      f'{len(found)} of split {split!r}, and no new one in {_IDLE:,} tasks; '
      'ask for fewer, or widen the arguments'
    )
  return [*found.values()]


def _check(
  generator: str, split: str, count: int, held_out: float, own_scorer: bool
) -> None:
  """Raises ValueError for arguments of `rows` that cannot be."""
  if split not in ('train', 'heldout'):
    raise ValueError(f"split={split!r}: expected 'train' or 'heldout'")
  if not 0 <= held_out <= 1:
    raise ValueError(f'held_out={held_out}: expected a share, 0 to 1')
  if count < 1:
    raise ValueError(f'count={count}: expected 1 or more')
  known = reasoning_gym.factory.DATASETS.keys() - {gym.COMPOSITE}
  if generator not in known:
    near = difflib.get_close_matches(generator, known, 1) or ['chain_sum']
    raise ValueError(
      f'generator={generator!r}: reasoning-gym has none of this name; give one '
      f'of its {len(known)}, such as {near[0]!r}'
    )
  if generator in UNREPEATABLE:
    raise ValueError(
      f'generator={generator!r}: makes other tasks in each process, so a run '
      'could not go on; take another generator'
    )
  if own_scorer:
    gym.check_scorer(generator)


def _tasks(
  generator: str, arguments: Mapping[str, Any], seed: int
) -> Iterator[dict[str, Any]]:
  """Tasks without end, the same for the same generator, arguments and seed."""
  if taken := sorted({'seed', 'size'} & arguments.keys()):
    raise ValueError(
      f'arguments of generator={generator!r} hold {" and ".join(taken)}; '
      'give `seed` and `count` of the source instead'
    )
  for chunk in itertools.count():
    # A task is drawn from the sum of seed and place, so near seeds share tasks.
    digest = questions.text_digest(f'{seed} {generator} {chunk}')
    yield from gym.tasks(
      generator, arguments, seed=int(digest[:8], 16) >> 1, count=_CHUNK
    )


def _row(
  generator: str,
  arguments: Mapping[str, Any],
  task: Mapping[str, Any],
  own_scorer: bool,
) -> questions.Row:
  question, answer = task['question'].strip(), task['answer']
  if not isinstance(answer, str):
    raise ValueError(
      f'generator={generator!r}: a task has the answer {answer!r:.40}; '
      'expected a text; take another generator'
    )
  if own_scorer:
    answer = _reference(generator, arguments, task)
  name = f'{generator}-{questions.text_digest(question)[:16]}'
  return questions.Row(name, question, answer)


def _reference(
  generator: str, arguments: Mapping[str, Any], task: Mapping[str, Any]
) -> str:
  """The task as JSON, for its own scorer."""
  try:
    return json.dumps(dict(task, dataset=generator, arguments=arguments))
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'generator={generator!r} with arguments={dict(arguments)!r:.200}: '
      f'a task cannot be JSON for its own scorer ({e}); give own_scorer=False, '
      'or other arguments'
    ) from e


def _is_held_out(question: str, share: float) -> bool:
  tokens = ' '.join(sorted(_TOKEN.findall(question.lower())))
  return int(questions.text_digest(f'split {tokens}'), 16) < share * 16**64
