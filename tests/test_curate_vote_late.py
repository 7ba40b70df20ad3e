"""Comparisons that take too long decide no vote."""

import pytest

from acereason_jax import types
from acereason_jax.data.curate import values, vote
from acereason_jax.verifiers import math


def outcome(answers, late, reference='3'):
  """The fate of a row where the judge never finishes on references `late`."""

  def judge(component, pairs):
    return [
      types.Verdict('timeout', '', 8.0)
      if wanted in late
      else math.verify(response, wanted, reasons=False)
      for response, wanted in pairs
    ]

  attempts = [values.Attempt(f'\\boxed{{{answer}}}') for answer in answers]
  context = values.Context(
    0, (), {'a': attempts}, judge, None, None, lambda _: True
  )
  step = vote.vote(k=len(answers), arguments=dict(reasons=False))
  (fate,) = step.whole([values.Row('a', '', reference)], context)
  return fate.kind, fate.reason


# If x and y were one answer, it would have four votes, or five.
SPLIT = ['x', 'y', 'x', 'y', '5', '3', '3', '3']


@pytest.mark.parametrize(
  ('answers', 'late', 'expected'),
  [
    (SPLIT, (), ('kept', '')),
    (SPLIT, ('x',), ('undecided', 'judge failed')),
    # All that were not compared are fewer than the right ones.
    (['x', 'y', '5', '6', '3', '3', '3', '3'], ('5',), ('kept', '')),
    # It is dropped in any case.
    (['x', 'x', 'x', 'y', 'y', '3', '3', '3'], ('x',), ('dropped', 'tie')),
    (['x', 'x', 'x', 'x', 'x', 'y', '3', '3'], ('x',), ('dropped', 'disputed')),
  ],
)
def test_late_comparisons(answers, late, expected):
  assert outcome(answers, late) == expected
