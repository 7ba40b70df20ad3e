r"""Wrong answers vote together exactly where the judge calls them equal."""

import itertools
import random
import sys

import pytest

from acereason_jax.verifiers import lenient, math, votes
from acereason_jax.verifiers.pool.pool import VerifierPool

if sys.platform != 'linux':
  pytest.skip('pools are confined on Linux', allow_module_level=True)

STRICT = 'acereason_jax.verifiers.math:verify'
LENIENT = 'acereason_jax.verifiers.lenient:verify'


def judge(fn=STRICT, **arguments):
  return dict(arguments, fn=fn)


@pytest.fixture(scope='module')
def pools():
  with (
    VerifierPool(STRICT, {}, 2, 8.0) as strict,
    VerifierPool(LENIENT, {}, 1, 8.0) as toolkit,
  ):
    yield {STRICT: strict, LENIENT: toolkit}


def classes(pools, answers, fn=STRICT):
  read = votes.reader(judge(fn))
  return votes.classes(pools[fn], read, {'p': answers})['p']


def by_hand(answers, verify):
  """The first class whose representative equals each answer, one by one."""
  heads, found = [], []
  for text in answers:
    for number, head in enumerate(heads):
      response = f'</think>\\boxed{{{text}}}'
      if text == head or verify(response, head).status == 'right':
        found.append(number)
        break
    else:
      found.append(len(heads))
      heads.append(text)
  return found


def test_spellings_of_a_value_are_one_answer(pools):
  answers = [
    *('1/2', '7', None, '0.5', r'\frac12', '-7', r'\dfrac{1}{2}', None),
    *('7.0', r'\sqrt{49}', 'x=7', r'\frac{1}{3}', '0.50', r'7\text{ cats}'),
  ]
  assert classes(pools, answers) == [
    *(0, 1, None, 0, 0, 2, 0, None),
    *(1, 1, 1, 3, 0, 1),
  ]


def test_no_answers_have_no_classes(pools):
  assert classes(pools, []) == []
  assert classes(pools, [None, None]) == [None, None]
  assert classes(pools, ['4']) == [0]
  assert votes.classes(pools[STRICT], lambda _: None, {}) == {}


def test_the_toolkit_groups_by_its_own_equality(pools):
  # A hundredth, and the hundredfold, are percentages to it.
  answers = ['50', '0.5', '5000', r'50\%', '0.005', '(1,2)', '[1, 2]']
  assert classes(pools, answers, LENIENT) == [0, 0, 0, 0, 1, 2, 2]
  assert classes(pools, answers) != classes(pools, answers, LENIENT)


def test_a_class_is_what_its_first_answer_equals(pools):
  """1/3 equals both decimals, which are not equal to each other."""
  short, third, long = '0.333333333333', '1/3', '0.33333333333333'
  assert classes(pools, [third, short, long]) == [0, 0, 0]
  assert classes(pools, [short, third, long]) == [0, 0, 1]
  assert classes(pools, [long, short, third]) == [0, 1, 0]


def test_an_answer_that_cannot_be_a_reference_is_compared_the_other_way(pools):
  unsure, plain = r'\{1,200\}', r'\{200, 1\}'
  given = f'</think>\\boxed{{{plain}}}'
  assert math.verify(given, unsure).status == 'error'
  assert classes(pools, [unsure, plain, unsure]) == [0, 0, 0]
  # Texts that are equal need no judge.
  assert classes(pools, ['(a)5', '(a)6', '(a)5']) == [0, 1, 0]


@pytest.mark.parametrize('fn, verify', [(STRICT, math), (LENIENT, lenient)])
def test_classes_are_those_of_one_comparison_after_the_other(pools, fn, verify):
  spelled = [
    [str(n), f'{n}.0', f'\\frac{{{3 * n}}}{{3}}', f'x = {n}', f'{n}00\\%']
    for n in range(5)
  ]
  rng = random.Random(7)
  problems = {
    f'p{k}': rng.choices([*itertools.chain(*spelled)], k=24) for k in range(6)
  }
  found = votes.classes(pools[fn], votes.reader(judge(fn)), problems)
  assert list(found) == list(problems)
  for name, answers in problems.items():
    assert found[name] == by_hand(answers, verify.verify)


def test_readers_find_what_the_judges_compare():
  strict = votes.reader(judge())
  assert strict(r'\boxed{1} </think> so \boxed{ \frac12 }') == r'\frac12'
  assert strict(r'\boxed{1}') is None
  assert strict('</think> none') is None
  assert strict(r'</think> \boxed{ }') is None
  assert strict('</think>\\boxed{' + '7' * 4001 + '}') is None
  bare = votes.reader(judge(reasons=False))
  assert bare(r'\boxed{1}') == '1'
  toolkit = votes.reader(judge(LENIENT))
  assert toolkit('it is **4**') == '4'
  assert toolkit('it is 4') is None
  programs = judge('acereason_jax.verifiers.code:verify')
  assert votes.reader(programs) is None


def test_answers_that_fit_no_box_are_still_grouped(pools):
  """Between other marks the toolkit finds braces of any kind."""
  read = votes.reader(judge(LENIENT))
  odd = read('so **}7{**')
  assert odd == '}7{'
  answers = [odd, '8', '7', odd, read('so **7}**')]
  found = classes(pools, answers, LENIENT)
  assert found[0] == found[3] != found[1]


def test_hostile_answers_end_in_classes_of_their_own(pools):
  hostile = [
    '9' * 4000,
    '9^{9^{9^{9}}}',
    '{' * 500 + '1' + '}' * 500,
    '__import__("os")',
    '\x1b[2J',
    '\ud800',
    '{}{}{0}{x}',
    '\\frac{1}{0}',
  ]
  assert classes(pools, hostile) == [*range(len(hostile))]


def test_a_comparison_that_fails_is_no_equality():
  """A judge that names what it is asked fails on some texts, dies on none."""
  with VerifierPool('tiny_votes:verify', {}, 1, 60.0) as pool:
    read = votes.reader(judge('tiny_votes:verify'))
    answers = ['a1', 'a2', 'b1', 'raise', 'a3', 'b2', 'late']
    found = votes.classes(pool, read, {'p': answers})['p']
  assert found == [0, 0, 1, 2, 0, 1, 3]
