"""One row of those that are nearly the same problem."""

import itertools
import random

import pytest

from acereason_jax.data.curate import keys, near, values
from acereason_jax.verifiers import math
from benchmarks import curate_rows

STORY = (
  'A baker keeps {a} loaves on each of {b} shelves. On Monday she sells half '
  'of the loaves on the first shelf, and on Tuesday she bakes enough to fill '
  'all of the shelves again. How many loaves does she {verb} on Tuesday?'
)


def changed(texts, seed):
  """The texts, and copies of each with one or two other words."""
  draw, found = random.Random(seed), list(texts)
  for text in texts:
    words = text.split()
    plain = [
      i
      for i, word in enumerate(words)
      if word.isalpha() and not near.tells(word.lower())
    ]
    for i in draw.sample(plain, min(draw.randint(1, 2), len(plain))):
      words[i] = draw.choice(['otherwise', 'green', 'ladder'])
    found.append(' '.join(words))
  return found


def brute_force(problems, threshold):
  """Groups by the definition: every pair is compared."""

  def told(problem):
    found = keys.key(problem).split()
    words = [t for t in found if t.isalnum()]
    grams = {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}
    return grams, [t for t in found if near.tells(t)]

  every = [told(problem) for problem in problems]
  group = list(range(len(problems)))
  for i, j in itertools.combinations(range(len(problems)), 2):
    (ours, marks), (theirs, others) = every[i], every[j]
    shared = len(ours & theirs) / len(ours | theirs)
    if marks == others and shared >= threshold:
      old, new = group[j], group[i]
      group = [new if g == old else g for g in group]
  sets = [{i for i, g in enumerate(group) if g == name} for name in set(group)]
  return sorted((sorted(s) for s in sets if len(s) > 1), key=min)


@pytest.mark.parametrize('threshold', [0.6, 0.8])
def test_groups_are_those_of_brute_force(threshold):
  problems = changed(curate_rows.invented(150, seed=4), seed=5)
  expected = brute_force(problems, threshold)
  assert len(expected) > 30
  assert sorted(near.groups(problems, threshold), key=min) == expected


def test_groups_do_not_depend_on_order():
  problems = changed(curate_rows.invented(200, seed=6), seed=7)
  order = random.Random(0).sample(range(len(problems)), len(problems))
  mixed = near.groups([problems[i] for i in order], 0.8)
  told = {frozenset(order[i] for i in group) for group in mixed}
  assert told == {frozenset(g) for g in near.groups(problems, 0.8)}


def test_at_least_99_of_100_pairs_are_found():
  problems = changed(curate_rows.invented(2000, seed=8), seed=9)
  group = {
    at: number
    for number, some in enumerate(near.groups(problems, 0.8))
    for at in some
  }
  pairs = [
    (at, at + 2000)
    for at in range(2000)
    if near.alike(problems[at], problems[at + 2000], 0.8)
  ]
  found = sum(a in group and group[a] == group.get(b) for a, b in pairs)
  assert len(pairs) > 500
  assert found >= 0.99 * len(pairs)


def fates(answers, *problems, asked=None):
  rows = [
    values.Row(f'{i}', problem, answer)
    for i, (problem, answer) in enumerate(zip(problems, answers))
  ]

  def verdicts(component, pairs):
    if asked is not None:
      asked.extend(pairs)
    arguments = {k: v for k, v in component.items() if k != 'fn'}
    return [math.verify(*pair, **arguments) for pair in pairs]

  context = values.Context(0, (), {}, verdicts, None, None, None)
  return near.near().whole(rows, context)


def reasons(answers, *problems):
  return [fate.reason for fate in fates(answers, *problems)]


def test_other_numbers_and_signs_are_other_problems():
  first = STORY.format(a=3, b=5, verb='bake')
  second = STORY.format(a=3, b=6, verb='bake')
  swapped = STORY.format(a=5, b=3, verb='bake')
  assert reasons(['1', '1', '1'], first, second, swapped) == ['', '', '']
  assert near.alike(first, first.replace('baker', 'miller'), 0.8)
  formula = 'Let $f(x) = x {} y$ for all of the real numbers. ' + first
  signs = (formula.format(sign) for sign in '+-')
  assert reasons(['1', '1'], *signs) == ['', '']


def test_the_row_with_the_smallest_id_stays():
  problems = [STORY.format(a=3, b=5, verb=v) for v in ('bake', 'make', 'bring')]
  asked = []
  found = fates(['1/2', '0.5', r'\frac12'], *problems, asked=asked)
  assert [(f.kind, f.reason) for f in found] == [
    (values.KEPT, ''),
    *[(values.DROPPED, 'repeat')] * 2,
  ]
  assert found[1].evidence == {'of': '0'}
  assert all(fate.row.problem == p for fate, p in zip(found, problems))
  assert asked


def test_unequal_answers_are_a_conflict():
  problems = [STORY.format(a=3, b=5, verb=v) for v in ('bake', 'make')]
  other = 'What is the smallest prime number that is larger than two hundred?'
  found = fates(['2', '3', '211'], *problems, other)
  assert [f.reason for f in found] == ['conflict', 'conflict', '']
  assert found[0].evidence['answers'] == ['2', '3']


def test_without_a_judge_answers_do_not_count():
  step = near.near(judge=None)
  rows = [
    values.Row(f'{i}', STORY.format(a=3, b=5, verb=v), f'{i}')
    for i, v in enumerate(('bake', 'make'))
  ]
  context = values.Context(0, (), {}, None, None, None, None)
  assert [f.reason for f in step.whole(rows, context)] == ['', 'repeat']


def test_problems_without_words_are_like_no_other():
  problems = ['', '', '$+$', '?', 'Area?', 'Area!', '3 4', '34']
  assert near.groups(problems, 0.8) == [[4, 5]]
  assert near.groups([], 0.8) == []
  assert near.groups(['', '$'], 0.8) == []


def test_a_hundred_copies_of_each_are_one_group_each():
  problems = curate_rows.invented(20, seed=3)
  found = near.groups(problems * 100, 0.99)
  assert len(found) == 20
  assert {len(group) for group in found} == {100}


@pytest.mark.parametrize(
  'text',
  [
    *('a ' * 100_000, 'ab' * 100_000, '1.' * 100_000, '(' * 200_000),
    *(' '.join(map(str, range(50_000))), '\ud800 x', '\0'),
  ],
  ids=lambda text: f'{text[:8]!a}-{len(text)}',
)
def test_hostile_problems_end(text):
  found = near.groups([text, 'Area of it?', text], 0.8)
  assert found in ([[0, 2]], [])
  assert bool(found) == any(c.isalnum() for c in text)


@pytest.mark.parametrize('threshold', [0.4, 1.1, -1])
def test_a_threshold_out_of_range_is_one_line(threshold):
  with pytest.raises(ValueError, match=f'threshold={threshold}') as caught:
    near.near(threshold=threshold)
  assert '\n' not in str(caught.value)
