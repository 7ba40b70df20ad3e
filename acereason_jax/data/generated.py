"""Generated rows, which need no files: sums, and programs to write.

Which generated rows are held out depends on neither seed nor count: a seed only
orders rows, so no choice of seeds can make a train and a held-out source
overlap.
"""

import itertools
import json
import operator
from collections.abc import Sequence

from acereason_jax.data import questions

# Names of the operations in the programs to write, and their functions.
_OPERATIONS = {
  'plus': ('{} plus {}', operator.add),
  'minus': ('{} minus {}', operator.sub),
  'times': ('{} times {}', operator.mul),
  'remainder': ('the remainder of {} divided by {}', operator.mod),
  'larger': ('the larger of {} and {}', max),
  'smaller': ('the smaller of {} and {}', min),
}
# Leaves out pairs that can reduce to one operation or to a constant, such as
# two sums or the remainder of a product, and the remainder of a difference,
# which is often below 0.
_CHAINS = {
  1: tuple((name,) for name in _OPERATIONS),
  2: (
    *(('plus', name) for name in ('times', 'remainder', 'larger', 'smaller')),
    *(('minus', name) for name in ('times', 'larger', 'smaller')),
    *(('times', name) for name in ('plus', 'minus', 'larger', 'smaller')),
  ),
}
# Chosen so that no two functions with constants up to _LARGEST agree on all.
_INPUTS = (-109, 0, 11, 41, 55, 74, 109)
_LARGEST = 50


def arithmetic(
  *, split: str, count: int, seed: int, largest: int, held_out: int
) -> list[questions.Row]:
  """`count` different sums 'What is a + b?' with 0 <= a, b <= `largest`.

  `held_out` unordered pairs {a, b} are set aside: both of their orders belong
  to split 'heldout', all others to 'train'.

  Raises:
    ValueError: an unknown split, or a count larger than the split.
  """
  pairs = [(a, b) for a in range(largest + 1) for b in range(a, largest + 1)]
  pairs.sort(key=lambda pair: questions.text_digest(f'split {pair}'))
  splits = {'heldout': pairs[:held_out], 'train': pairs[held_out:]}
  if split not in splits:
    raise ValueError(f"split={split!r}: expected 'train' or 'heldout'")
  rows = [
    questions.Row(f'sum-{a}-{b}', f'What is {a} + {b}?', str(a + b))
    for pair in splits[split]
    for a, b in sorted({pair, pair[::-1]})
  ]
  if not 0 < count <= len(rows):
    raise ValueError(
      f'count={count}: split {split!r} with largest={largest} and '
      f'held_out={held_out} has {len(rows)} sums; ask for 1 to {len(rows)}'
    )
  rows.sort(key=lambda row: questions.text_digest(f'{seed} {row.id}'))
  return rows[:count]


def programs(
  *,
  split: str,
  count: int,
  seed: int,
  operations: int,
  largest: int,
  held_out: float,
) -> list[questions.Row]:
  """`count` different tasks 'Write a Python function f(x) that returns ...'.

  The value of f takes 1 or 2 `operations`, its difficulty, as 'the larger of (x
  plus 3) and 8', with constants from 2 to `largest`. The answer is a task of
  `verifiers/code.py`, as JSON; its tests distinguish f from every other
  generated function. The share `held_out` (0 to 1) of these functions belongs
  to split 'heldout', all others to 'train'. The split depends only on the
  function: if two texts describe it, both are in the same split.

  Raises:
    ValueError: an argument out of its range, or a count larger than the split.
  """
  if split not in ('train', 'heldout'):
    raise ValueError(f"split={split!r}: expected 'train' or 'heldout'")
  if operations not in _CHAINS:
    raise ValueError(f'operations={operations}: expected 1 or 2')
  if not 2 <= largest <= _LARGEST:
    raise ValueError(f'largest={largest}: expected 2 to {_LARGEST}')
  if not 0 <= held_out <= 1:
    raise ValueError(f'held_out={held_out}: expected a share, 0 to 1')
  constants = itertools.product(range(2, largest + 1), repeat=operations)
  chains = itertools.product(_CHAINS[operations], constants)
  rows = [
    row
    for row in itertools.starmap(_program, chains)
    if _is_held_out(row, held_out) == (split == 'heldout')
  ]
  if not 0 < count <= len(rows):
    raise ValueError(
      f'count={count}: split {split!r} with operations={operations}, '
      f'largest={largest} and held_out={held_out} has {len(rows)} programs; '
      f'ask for 1 to {len(rows)}'
    )
  rows.sort(key=lambda row: questions.text_digest(f'{seed} {row.id}'))
  return rows[:count]


def _program(names: Sequence[str], constants: Sequence[int]) -> questions.Row:
  """The task that applies these operations in order, each with its constant."""
  # Languages do not agree on the remainder of a number below 0.
  inputs = [x for x in _INPUTS if x >= 0 or 'remainder' not in names]
  asked, results = '', inputs
  for name, constant in zip(names, constants):
    phrase, operation = _OPERATIONS[name]
    asked = phrase.format(f'({asked})' if asked else 'x', constant)
    results = [operation(result, constant) for result in results]
  tests = [{'args': [x], 'expected': y} for x, y in zip(inputs, results)]
  name = '-'.join(f'{n}-{c}' for n, c in zip(names, constants))
  return questions.Row(
    f'program-{name}',
    f'Write a Python function f(x) that returns {asked}.',
    json.dumps({'kind': 'call', 'fn': 'f', 'tests': tests}),
    difficulty=float(len(names)),
  )


def _is_held_out(row: questions.Row, share: float) -> bool:
  # By its tests, which all rows of the same function share.
  return int(questions.text_digest(f'split {row.answer}'), 16) < share * 16**64
