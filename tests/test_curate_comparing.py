"""Repeated statements and references, by what the judge calls equal."""

import itertools

import curate_statements as labelled
import pytest

from acereason_jax import types
from acereason_jax.data.curate import text, values
from acereason_jax.verifiers import math


def judge(component, pairs):
  """The judge of the steps, in this process."""
  arguments = dict(component)
  fn = {
    'acereason_jax.verifiers.math:verify': math.verify,
    'acereason_jax.verifiers.math:reference': math.reference,
  }[arguments.pop('fn')]
  return [fn(given, wanted, **arguments) for given, wanted in pairs]


def fails(component, pairs):
  return [types.Verdict('timeout', 'too slow', 8.0) for _ in pairs]


def rows(*pairs):
  return [values.Row(f'r{i}', p, a) for i, (p, a) in enumerate(pairs)]


def fates(step, given, judge=judge):
  return step.whole(given, labelled.context(judge=judge))


def told(found):
  return [(f.row.id, f.kind, f.reason) for f in found]


def test_one_row_of_a_key():
  given = rows(
    ('Find half of $x$ for x=1.', r'\frac{1}{2}'),
    ('Problem 3. Find half of x for x=1', '0.5'),
    ('Find half of x for x=2.', '1'),
    ('FIND HALF OF $x$ FOR $x=1$', r'\frac12'),
  )
  assert told(fates(text.exact(), given)) == [
    ('r0', 'kept', ''),
    ('r1', 'dropped', 'repeat'),
    ('r2', 'kept', ''),
    ('r3', 'dropped', 'repeat'),
  ]
  assert fates(text.exact(), given)[3].evidence == {'of': 'r0'}


def test_unequal_answers_are_all_out_and_listed():
  given = rows(
    ('What is 3+4?', '7'), ('What is $3+4$?', '8'), ('what is 3 + 4', '7.0')
  )
  found = fates(text.exact(), given)
  assert {(f.kind, f.reason) for f in found} == {('dropped', 'conflict')}
  assert found[0].evidence['answers'] == ['7', '8']
  assert found[0].evidence['ids'] == ['r0', 'r1', 'r2']


def test_other_signs_are_other_problems():
  given = rows(('What is 3+4?', '7'), ('What is 3-4?', '-1'))
  assert all(f.kind == 'kept' for f in fates(text.exact(), given))


def test_a_judge_that_fails_decides_nothing():
  given = rows(('What is 3+4?', '7'), ('What is $3+4$?', '6+1'))
  found = fates(text.exact(), given, fails)
  assert {(f.kind, f.reason) for f in found} == {('undecided', 'not compared')}


def test_equal_texts_ask_no_judge():
  given = rows(('What is 3+4?', '7'), ('What is $3+4$?', '7'))
  found = fates(text.exact(), given, judge=None)
  assert [f.kind for f in found] == ['kept', 'dropped']


def test_tasks_of_programs_are_no_answers():
  given = rows(('Sort it.', '{"tests": 1}'), ('Sort it', '{"tests": 2}'))
  found = fates(text.exact(judge=None), given, judge=None)
  assert [f.kind for f in found] == ['kept', 'dropped']


def test_the_order_of_rows_changes_nothing():
  given = rows(
    ('What is 3+4?', '7'),
    ('what is $3+4$', '8'),
    ('Half of 3?', '1.5'),
    ('Half of $3$', r'\frac32'),
  )
  expected = sorted(told(fates(text.exact(), given)))
  for order in itertools.permutations(given):
    assert sorted(told(fates(text.exact(), order))) == expected


def test_what_is_left_stays():
  given = rows(('Half of 3?', '1.5'), ('Half of $3$', '3/2'), ('x?', '1'))
  once = [f.row for f in fates(text.exact(), given) if f.kind == 'kept']
  assert all(f.kind == 'kept' for f in fates(text.exact(), once))


@pytest.mark.parametrize('answer', ['7', r'\frac{1}{2}', 'x=3', r'\text{east}'])
def test_references_that_the_judge_reads(answer):
  (found,) = fates(text.reference(), rows(('x', answer)))
  assert found.kind == 'kept'


@pytest.mark.parametrize('answer', ['', '(A) 5 (B) 6', r'\frac{1}{'])
def test_references_that_it_cannot_read(answer):
  (found,) = fates(text.reference(), rows(('x', answer)))
  assert (found.kind, found.reason) == ('dropped', 'unreadable')
  assert found.evidence['detail']


@pytest.mark.parametrize(
  'status, detail',
  [('timeout', 'over 8 s'), ('error', 'worker died twice (-9)')],
)
def test_a_judge_that_fails_finds_no_reference_unreadable(status, detail):
  def judge(component, pairs):
    return [types.Verdict(status, detail, 8.0) for _ in pairs]

  (found,) = fates(text.reference(), rows(('x', '7')), judge)
  assert (found.kind, found.reason) == ('undecided', 'not read')
