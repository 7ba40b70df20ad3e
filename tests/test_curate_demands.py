"""What a sentence demands: a value, or yes or no; and labels of parts."""

import curate_statements as labelled
import pytest

from acereason_jax.data.curate import demands

ABOUT_TRUTH = [
  'Is $n$ prime?',
  'If $n$ is odd, must $n^2$ be odd?',
  'Given any six people, do there have to be three friends?',
  'Can a square be cut into 5 squares?',
  'is 2^67-1 prime',
  '(Does the series converge?)',
]
ABOUT_VALUES = [
  'Is the least one 2 or 3?',
  'Can you find the number of primes below 20?',
  'For how many $n$ is $n^2 < 50$?',
  'Which of them is prime?',
  'Is the sequence increasing, decreasing, or neither?',
  'Tell me the maximum, is it above 30?',
  'Is it possible to say how many there are?',
]


@pytest.mark.parametrize('sentence', ABOUT_TRUTH)
def test_a_question_for_yes_or_no(sentence):
  assert demands.polar(sentence, last=True)


@pytest.mark.parametrize('sentence', ABOUT_VALUES)
def test_a_question_for_a_value(sentence):
  assert not demands.polar(sentence, last=True)


@pytest.mark.parametrize(
  'sentence, value',
  [
    ('Find $x$.', True),
    ('If so, give the least one.', True),
    ('In how many ways?', True),
    ('just give the max', True),
    ('Explain your answer.', False),
    ('Answer yes or no.', False),
    ('It has 3 sides.', False),
  ],
)
def test_a_demand_for_a_value(sentence, value):
  assert demands.asks_value(sentence) == value


@pytest.mark.parametrize(
  'text, wanted',
  [
    ('Let $x=3.5$. Find $2x$!', ['Let $x=3.5$.', 'Find $2x$!']),
    ('Mr. Lee has 5! ways. How many?', ['Mr. Lee has 5! ways.', 'How many?']),
    ('A line\nand (another.) End', ['A line', 'and (another.)', 'End']),
    ('It is so; prove it.', ['It is so;', 'prove it.']),
    ('...', []),
    ('', []),
  ],
)
def test_sentences(text, wanted):
  found = demands.sentences(text)
  assert [sentence.text for sentence in found] == wanted
  assert all(s.text in text[s.start : s.end] for s in found)


@pytest.mark.parametrize(
  'labels',
  [
    *(('(a)', '(b)'), ('a)', 'b)'), ('a.)', 'b.)'), ('1.', '2.')),
    *(('Q1', 'Q2'), ('Q.1', 'Q.2'), ('Part A:', 'Part B:'), ('i/', 'ii/')),
    *(('#1', '#2'), ('1.1', '1.2'), ('II.1', 'II.2'), ('First,', 'Second,')),
    *(('Subtask 1.', 'Subtask 2.'), ('$1^\\circ$', '$2^\\circ$')),
    *(('Question one:', 'Question two:'), ('\u2460', '\u2461')),
    *(('**(i)**', '**(ii)**'), ('\\item', '\\item'), ('-', '-')),
  ],
)
def test_labels_of_two_questions(labels):
  text = 'Let $x=3$.\n{} Find $x^2$.\n{} What is $x^3$?'.format(*labels)
  assert labelled.fate('parts', labelled.row(text)).kind == 'dropped'
  told = (
    'It knows two rules.\n{} It adds 3.\n{} It halves. Find its 9th number.'
  )
  told = told.format(*labels)
  assert labelled.fate('parts', labelled.row(told)).kind == 'kept'
