r"""The vote: groups by the judge's equality, and what their sizes decide."""

import collections
import dataclasses
import json
import random
import statistics

import hypothesis
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.data.curate import passes, values
from acereason_jax.data.curate import vote as vote_lib
from acereason_jax.verifiers import math

PLAIN = dict(reasons=False)
# Marks of attempts in the cases below.
NO_ANSWER, TIMES_OUT, FAILS, NO_TEXT = 'none', 'slow', 'broken', ''


class Judge:
  """The judge of math in this process, which counts what it is asked."""

  def __init__(self):
    self.known = {}
    self.asked = collections.Counter()

  def __call__(self, component, pairs):
    assert component['fn'] == vote_lib.MATH
    found = []
    for pair in pairs:
      if pair not in self.known:
        self.asked[pair] += 1
        self.known[pair] = self._verdict(component, *pair)
      found.append(self.known[pair])
    return found

  def _verdict(self, component, response, answer):
    if response == TIMES_OUT:
      return types.Verdict('timeout', '', 8.0)
    if response == FAILS:
      return types.Verdict('error', '', 0.1)
    return math.verify(response, answer, reasons=component['reasons'])


def said(answer):
  if answer in (NO_ANSWER, TIMES_OUT, FAILS, NO_TEXT):
    return answer
  return f'so it is \\boxed{{{answer}}}'


def context(attempts, judge=None, mine=lambda _: True, count=None, seed=0):
  def refuse(texts):
    raise ValueError('no tokenizer')

  return values.Context(
    seed=seed,
    items=(),
    attempts={
      name: tuple(
        a if isinstance(a, values.Attempt) else values.Attempt(said(a))
        for a in each
      )
      for name, each in attempts.items()
    },
    judge=judge or Judge(),
    remember=lambda kind, key, make: make(),
    count_tokens=count or refuse,
    mine=mine,
  )


def row(answer, name='r', **about):
  return values.Row(name, f'What is {name}?', answer, about=about)


def fates(rows, attempts, k=8, **more):
  step = vote_lib.vote(arguments=PLAIN, k=k, ask=k)
  return step.whole(rows, context(attempts, **more))


def of(reference, answers, **more):
  (found,) = fates([row(reference)], {'r': answers}, len(answers), **more)
  return found


HALF = ['1/2', '0.5', r'\frac12', r'\dfrac{1}{2}']
KEPT, UNDECIDED = 'kept', 'judge failed'
# (reference, answers of all attempts, reason)
CASES = [
  ('7', ['7'] * 8, KEPT),
  ('7', ['7', '7', '7', '7', '7', '8', '8', '8'], KEPT),
  ('0.5', [*HALF, '2', '2', '2', '3'], KEPT),
  (r'\frac{1}{2}', [*HALF, *'33333'[:4]], 'tie'),
  ('3', [*HALF, '0.50', '3', '3', '3'], 'disputed'),
  ('3', [*HALF, '3', '3', '3', '3'], 'tie'),
  ('1/3', [*HALF, '0.50', '.5', '1/3', '1/3'], 'disputed'),
  ('x = 4', ['4', '4.0', 'x=4', '5', '5', '6', '6', '1'], KEPT),
  ('4', ['5', '5', '6', '6', '4', '4', '4', '1'], KEPT),
  ('4', ['5', '6', '7', '8', '9', '10', '11', '4'], 'tie'),
  ('4', ['5', '5', '6', '7', '8', '9', '10', '4'], 'minority'),
  ('4', ['5', '5', '5', '5', '4', '4', '4', '4'], 'tie'),
  ('4', ['5', '5', '5', '5', '4', '4', '4', '6'], 'minority'),
  ('4', ['5', '5', '5', '5', '5', '4', '4', '4'], 'disputed'),
  ('4', ['5'] * 8, 'disputed'),
  ('4', ['5', '6', '7', '8', '9', '10', '11', '12'], 'unsolved'),
  ('4', ['5', '5', '5', '5', '6', '6', '6', '6'], 'unsolved'),
  ('4', [NO_ANSWER] * 8, 'unsolved'),
  ('4', [NO_ANSWER] * 7 + ['4'], KEPT),
  ('4', [NO_ANSWER] * 6 + ['4', '5'], 'tie'),
  ('4', [NO_ANSWER] * 5 + ['4', '4', '5'], KEPT),
  # Four of five is a majority, of too few votes to dispute anything if four.
  ('4', [NO_ANSWER] * 3 + ['5', '5', '5', '5', '6'], 'disputed'),
  ('4', [NO_ANSWER] * 4 + ['5', '5', '5', '5'], 'unsolved'),
  # What failed votes for nothing, and cannot make a reference wrong.
  ('4', [TIMES_OUT] * 3 + ['4'] * 5, KEPT),
  ('4', [TIMES_OUT] * 3 + ['5'] * 5, 'disputed'),
  ('4', [TIMES_OUT] * 7 + ['4'], UNDECIDED),
  ('4', [TIMES_OUT] * 4 + ['4', '4', '4', '4'], UNDECIDED),
  ('4', [TIMES_OUT, '4', '4', '4', '4', '5', '5', '5'], UNDECIDED),
  ('4', [TIMES_OUT, '4', '4', '4', '4', '5', '5', '6'], KEPT),
  ('4', [FAILS] * 8, UNDECIDED),
  ('4', [FAILS] * 2 + ['5', '5', '5', '6', '6', '7'], 'unsolved'),
  ('4', [NO_TEXT] * 8, 'no response'),
  ('4', [NO_TEXT] * 7 + ['4'], KEPT),
  (r'(1,2)', ['(1, 2)', '(1,2)', '(2,1)', r'\left(1,2\right)'], KEPT),
  (r'\{1,2\}', [r'\{2,1\}', r'\{1, 2\}', r'\{3\}', '1'], KEPT),
  (r'\sqrt{8}', [r'2\sqrt{2}', r'2\sqrt2', '8', '8'], 'tie'),
]


@pytest.mark.parametrize('reference, answers, reason', CASES)
def test_votes_by_hand(reference, answers, reason):
  found = of(reference, answers)
  assert (found.reason or found.kind) == reason
  kinds = {KEPT: values.KEPT, UNDECIDED: values.UNDECIDED}
  assert found.kind == kinds.get(reason, values.DROPPED)
  about = found.row.about
  failed = sum(a in (TIMES_OUT, FAILS, NO_TEXT) for a in answers)
  assert about['judged'] == len(answers) - failed
  assert about['right'] == len(about['right_at']) <= about['judged']
  json.dumps(dict(found.evidence), allow_nan=False)


def test_spellings_of_one_answer_are_one_group():
  found = of('3', [*HALF, '0.50', '3', '7', '7'])
  first, second = found.evidence['others']
  assert (first['answer'], first['votes']) == ('1/2', 5)
  assert (second['answer'], second['votes']) == ('7', 2)
  assert found.evidence['for_reference']['votes'] == 1
  assert found.evidence['reference'] == '3'


def test_a_disputed_row_shows_a_response_for_each_answer():
  long = 'x' * 9000 + said('5')
  attempts = [values.Attempt(long)] * 5 + [values.Attempt(said('4'))] * 3
  found = of('4', attempts)
  assert found.reason == 'disputed'
  (other,) = found.evidence['others']
  assert other['response'].endswith(r'\boxed{5}')
  assert len(other['response']) <= 2000
  assert found.evidence['for_reference']['response'] == said('4')


def test_what_models_write_never_breaks_the_evidence():
  odd = ['\ud800', '\0', '\x1b[2J', '9^{9^{9^9}}', '{' * 99 + '}' * 99]
  texts = [f'{o} \\boxed{{{o}}}' for o in odd] + ['\\boxed{', '\\boxed{5}'] * 3
  found = of('4', [values.Attempt(t) for t in texts])
  json.dumps(dict(found.evidence)).encode()
  for other in found.evidence['others']:
    other['response'].encode()
    assert '\0' not in other['response'] + other['answer']


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60)
def test_the_outcome_is_that_of_counting(data):
  """Against a count of values as fractions; spellings are drawn at random."""
  spelled = {n: [str(n), f'{n}.0', f'\\frac{{{2 * n}}}{{2}}'] for n in range(4)}
  numbers = data.draw(st.lists(st.integers(0, 4), min_size=8, max_size=8))
  answers = [
    data.draw(st.sampled_from(spelled[n])) if n < 4 else NO_ANSWER
    for n in numbers
  ]
  counts = collections.Counter(n for n in numbers if n < 4)
  right = counts.pop(0, 0)
  top = max(counts.values(), default=0)
  given = right + sum(counts.values())
  if right > top:
    expected = KEPT
  elif right and right == top:
    expected = 'tie'
  elif given >= 5 and top > given / 2:
    expected = 'disputed'
  else:
    expected = 'minority' if right else 'unsolved'
  found = of('0', answers)
  assert (found.reason or found.kind) == expected


def test_answers_that_cannot_win_are_not_compared():
  """Five of eight are right: what the three others say changes nothing."""
  judge = Judge()
  assert of('4', [*'44444567'], judge=judge).kind == KEPT
  assert judge.asked.total() == 4
  # Four of them may be outvoted, or tie.
  assert of('4', [*'44445678'], judge=judge).kind == KEPT
  assert judge.asked.total() > 5


@hypothesis.given(
  st.lists(st.sampled_from(['4', '5', '6', NO_ANSWER, FAILS]), max_size=8)
)
@hypothesis.settings(max_examples=200)
def test_more_responses_are_asked_for_unless_they_change_nothing(answers):
  """Against all that responses to come may say."""
  hypothesis.assume(len(answers) % 4 == 0)
  asked = missing([row('4')], {'r': answers}) is not None
  right = answers.count('4')
  worst = max(answers.count('5'), answers.count('6'))
  worst += answers.count(FAILS) + 8 - len(answers)
  assert asked == (len(answers) < 8 and (len(answers) < 4 or right < worst))


def some_rows():
  """Rows with attempts, all different."""
  rng = random.Random(3)
  rows = [row(str(n), f'r{n:02}') for n in range(20)]
  attempts = {
    r.id: [str(rng.choice([int(r.answer), 100, 101])) for _ in range(8)]
    for r in rows
  }
  return rows, attempts


def test_the_order_of_rows_and_other_rows_change_nothing():
  rows, attempts = some_rows()
  whole = {f.row.id: f for f in fates(rows, attempts)}
  turned = {f.row.id: f for f in fates(rows[::-1], attempts)}
  alone = {r.id: fates([r], attempts)[0] for r in rows}
  assert whole == turned == alone
  assert len({f.reason for f in whole.values()}) >= 3


def test_a_second_run_asks_for_no_verdict():
  rows, attempts = some_rows()
  judge = Judge()
  first = fates(rows, attempts, judge=judge)
  asked = judge.asked.total()
  assert fates(rows, attempts, judge=judge) == first
  # A changed text of the question costs none either.
  again = [dataclasses.replace(r, problem=f'{r.problem} Say it.') for r in rows]
  fates(again, attempts, judge=judge)
  assert judge.asked.total() == asked
  assert max(judge.asked.values()) == 1


def test_a_shard_judges_its_rows_only():
  rows, attempts = some_rows()
  whole = {f.row.id: f for f in fates(rows, attempts)}
  judge = Judge()
  mine = lambda name: name < 'r10'
  found = fates(rows, attempts, judge=judge, mine=mine)
  for each in found:
    if mine(each.row.id):
      assert each == whole[each.row.id]
    else:
      assert each == values.kept(each.row) and not each.row.about
  assert {answer for _, answer in judge.asked} <= {
    *(r.answer for r in rows if mine(r.id)),
    *('100', '101'),
  }


def test_attempts_after_k_are_not_read():
  found = fates([row('4')], {'r': ['4'] * 4 + ['5'] * 9}, k=4)
  assert found[0].kind == values.KEPT
  assert found[0].row.about['judged'] == 4


# --- rounds -----------------------------------------------------------------


def missing(rows, attempts, **more):
  """(n, ids) of what the vote asks for; None if it asks for nothing."""
  step = vote_lib.vote(arguments=PLAIN, k=8, ask=4)
  try:
    step.whole(rows, context(attempts, **more))
  except values.Missing as e:
    return e.n, [r.id for r in e.rows]
  return None


def test_rows_are_asked_in_rounds_until_they_are_decided():
  rows = [row('4', n) for n in 'abcde']
  attempts = {n: [] for n in 'abcde'}
  assert missing(rows, attempts) == (4, [*'abcde'])
  attempts = {
    'a': ['4', '4', '4', '4'],  # At worst a tie: decided.
    'b': ['4', '4', '4', '5'],
    'c': ['5', '5', '5', '5'],
    'd': [NO_ANSWER] * 4,
    'e': ['4', '4'],
  }
  assert missing(rows, attempts) == (4, ['e'])
  attempts['e'] = ['4', '4', '4', TIMES_OUT]
  assert missing(rows, attempts) == (8, [*'bcde'])
  for name in 'bcde':
    attempts[name] += ['4'] * 4
  assert missing(rows, attempts) is None


def test_a_row_that_is_decided_stays_decided():
  """Whatever the other half says, four right ones are never outvoted."""
  for others in (['5'] * 4, [TIMES_OUT] * 4, ['4'] * 4, [NO_ANSWER] * 4):
    assert of('4', ['4'] * 4 + others).reason in ('', 'tie', UNDECIDED)


def test_a_shard_asks_for_its_rows_only():
  rows = [row('4', n) for n in 'abc']
  found = missing(rows, {}, mine=lambda name: name == 'b')
  assert found == (4, ['b'])


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(k=0), 'k=0'),
    (dict(ask=0), 'ask=0'),
    (dict(majority=-1), 'majority=-1'),
    (dict(judge='acereason_jax.verifiers.code:verify'), 'no answers'),
    (dict(judge='acereason_jax.verifiers.math:vote'), "'vote'"),
  ],
)
def test_arguments_of_the_vote(arguments, message):
  with pytest.raises(ValueError, match=message) as error:
    vote_lib.vote(**arguments)
  assert '\n' not in str(error.value)


# --- after the vote ---------------------------------------------------------


def attempt(answer, tokens, model='m'):
  return values.Attempt(said(answer), tokens, model)


def voted(attempts, **more):
  """(row after the vote, context)."""
  where = context({'r': attempts}, **more)
  step = vote_lib.vote(arguments=PLAIN, k=len(attempts))
  (found,) = step.whole([row('4')], where)
  return found.row, where


def test_the_length_is_the_median_of_the_right_responses():
  tokens = [2500, 9000, 3100, 5, 7]
  answers = ['4', '4', '4', '5', NO_ANSWER]
  one, where = voted([attempt(a, t) for a, t in zip(answers, tokens)])
  step = passes.length(least=0, most=0)
  (found,) = step.whole([one], where)
  assert found.row.about['tokens'] == statistics.median(tokens[:3])


def test_lengths_that_no_file_tells_are_counted():
  count = lambda texts: [len(t) for t in texts]
  attempts = [attempt('4', None), attempt('4', None), attempt('5', None)]
  one, where = voted(attempts, count=count)
  (found,) = passes.length(least=0, most=0).whole([one], where)
  assert found.row.about['tokens'] == len(said('4'))
  (found,) = passes.length(least=99, most=99).whole([one], where)
  assert found.reason == 'short'


def test_short_rows_go_and_longer_ones_are_sampled_by_their_ids():
  rows = [row('4', f'r{n}') for n in range(1200)]
  tokens = [1999, 2000, 3999, 4000]
  attempts = {r.id: [attempt('4', tokens[i % 4])] for i, r in enumerate(rows)}
  where = context(attempts)
  rows = [f.row for f in vote_lib.vote(arguments=PLAIN, k=1).whole(rows, where)]
  found = passes.length().whole(rows, where)
  kept = collections.Counter(
    f.row.about['tokens'] for f in found if f.kind == values.KEPT
  )
  assert 1999 not in kept and kept[4000] == 300
  # Four standard deviations of 600 fair coins.
  assert abs(kept[2000] + kept[3999] - 300) < 49
  reasons = {f.reason for f in found if f.row.about['tokens'] == 1999}
  assert reasons == {'short'}
  turned = passes.length().whole(rows[::-1], where)
  assert turned[::-1] == found
  some = passes.length().whole(rows[:50], where)
  assert some == found[:50]
  other = passes.length().whole(rows, where._replace(seed=1))
  assert [f.kind for f in other] != [f.kind for f in found]


def test_a_tokenizer_that_is_not_the_stored_one():
  count = lambda texts: [len(t) for t in texts]
  one, where = voted([attempt('4', 3)] * 4, count=count)
  with pytest.raises(ValueError, match=r'12 tokens by their file and') as error:
    passes.length().whole([one], where)
  assert '\n' not in str(error.value)
  # The token that ended a response is counted in files only.
  one, where = voted([attempt('4', len(said('4')) + 1)] * 4, count=count)
  passes.length().whole([one], where)


def test_the_difficulty_counts_failures_of_k():
  for answers, expected in [
    (['4'] * 8, 0.0),
    (['4'] * 6 + ['5', NO_ANSWER], 2.0),
    (['4'] * 4, 0.0),
    (['4'] * 3 + ['5'], 2.0),
    (['4'] * 3 + ['5'] + [TIMES_OUT], 2.0),
  ]:
    one, where = voted(answers)
    (found,) = passes.difficulty().whole([one], where)
    assert found.row.difficulty == expected and found.kind == values.KEPT
  one, where = voted([FAILS] * 4)
  (found,) = passes.difficulty().whole([one], where)
  assert found.row.difficulty is None


def test_counts_have_the_model_they_are_of():
  one, _ = voted([attempt('4', 3, 'a')] * 4)
  assert one.about['model'] == 'a'
  one, _ = voted([attempt('4', 3, 'a'), attempt('4', 3, 'b')])
  assert 'model' not in one.about


def test_steps_that_need_the_vote_say_so():
  where = context({'r': ['4']})
  for step in (passes.length(), passes.difficulty()):
    with pytest.raises(ValueError, match=r'vote:vote before it'):
      step.whole([row('4')], where)
    # Another shard has voted on it.
    other = where._replace(mine=lambda name: False)
    assert step.whole([row('4')], other) == [values.kept(row('4'))]
  for wrong in (dict(least=-1), dict(least=9, most=1), dict(share=2.0)):
    with pytest.raises(ValueError, match='='):
      passes.length(**wrong)
  with pytest.raises(ValueError, match='k=0'):
    passes.difficulty(k=0)
