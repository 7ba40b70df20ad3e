"""The rules over statements: labelled statements, hostile ones, and keys."""

import pickle
import time

import curate_statements as labelled
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason_jax.data.curate import code_text, keys, labels, text, values

RULES = sorted({s['rule'] for s in labelled.STATEMENTS})
row, fate = labelled.row, labelled.fate


@pytest.mark.parametrize('rule', RULES)
def test_labelled_statements(rule):
  """At least 95% of a kind are found, and at most 1% of its look-alikes."""
  wanted = labelled.rows(rule, drop=True)
  others = labelled.rows(rule, drop=False)
  assert min(len(wanted), len(others)) >= 15
  found = [r for r in wanted if fate(rule, r).kind == values.DROPPED]
  false = [r.problem for r in others if fate(rule, r).kind == values.DROPPED]
  assert len(found) >= 0.95 * len(wanted)
  assert len(false) <= 0.01 * len(others), false


@pytest.mark.parametrize('rule', RULES)
def test_statements_that_the_rules_have_not_seen(rule):
  """What was found of the last set at first; 95% and 1% are not reached."""
  wanted = labelled.rows(rule, drop=True, last=True)
  others = labelled.rows(rule, drop=False, last=True)
  assert len(wanted) == len(others) == 26
  found = [r for r in wanted if fate(rule, r).kind == values.DROPPED]
  false = [r.problem for r in others if fate(rule, r).kind == values.DROPPED]
  least, most = labelled.UNSEEN[rule]
  assert len(found) >= least
  assert len(false) <= most, false


def test_there_are_enough_statements():
  assert len(labelled.STATEMENTS) >= 240
  texts = [
    (s['rule'], s['problem'], s.get('answer'), s.get('starter'))
    for s in labelled.STATEMENTS
  ]
  assert len(set(texts)) == len(texts)


def test_languages():
  """98% of ten statements in each language, at least six words long."""
  foreign = [s for s in labelled.STATEMENTS if s.get('language', 'en') != 'en']
  assert len({s['language'] for s in foreign}) >= 13
  found = [
    fate('language', row(s['problem'])).evidence.get('language')
    for s in foreign
  ]
  right = [f == s['language'] for f, s in zip(found, foreign)]
  assert sum(f is not None for f in found) >= 0.98 * len(foreign)
  assert sum(right) >= 0.95 * len(foreign)


def test_english_that_looks_like_pidgin():
  given = 'Can $n+2$ be factor of $1+2+n$ for some $n$?'
  assert fate('language', row(given)).kind == 'kept'


def test_a_short_statement_has_no_language():
  assert fate('language', row('Berechne die Summe aller Zahlen')).kind == 'kept'
  assert fate('language', row('$x^2 + y^2 = z^2$')).kind == 'kept'
  code = r'\begin{align*} x &= 3 \\ y &= 4 \end{align*}'
  assert fate('language', row(code * 30)).kind == 'kept'


@pytest.mark.parametrize(
  'label',
  [
    'Problem 4.1: ',
    'Problem 12. ',
    '12. ',
    '12) ',
    '(12) ',
    '4.1.3. ',
    '(2019 AMC 10A) ',
    '[AIME 1999] ',
    '2012 AMC 8 Problem 5: ',
    'Exercise 3. ',
    'Example 7 ',
    'Question 5) ',
    '### Problem 3\n',
    '**Problem 3.** ',
    'Q7. ',
    '5. (10 points) ',
    'Problem: ',
    '3. (2004 IMO Shortlist) ',
    'Task 2 - ',
  ],
)
def test_a_label_goes_away(label):
  statement = 'Find the sum of 3 and 4, and halve it.'
  found = text.normalise().each(row(label + statement))
  assert found.row.problem == statement
  assert (found.kind, found.reason) == ('changed', 'label')
  assert found.evidence['label'] == label.strip()
  assert keys.key(label + statement) == keys.key(statement)


@pytest.mark.parametrize(
  'statement',
  [
    '12 apples cost 3 dollars. What does one cost?',
    '3.5 liters of water fill 7 cups. What does one hold?',
    '(2019 - x) is a square. Find the largest x.',
    '(1, 2) and (3, 4) are two points. How far apart are they?',
    '2019 is how many more than 1990?',
    '1. Find 3 + 4. 2. Find 3 - 4.',
    '(1) Find 3 + 4.\n(2) Find 3 - 4.',
    'Problem solving takes 3 hours a day. How much is that a week?',
    'Question 5 on the test is worth twice as much as question 4.',
    'Problem 3.',
    'A. Smith has 3 cats. How many legs do they have?',
    'In 2019, the AMC had 25 problems. What is half of that?',
  ],
)
def test_what_is_no_label_stays(statement):
  assert text.normalise().each(row(statement)).kind == 'kept'


LABELS = ('1. ', '2. ', '(2) ', 'a) ', 'Problem 3: ', 'Example 4 ', '[5] ')
PIECES = st.sampled_from(
  (
    *LABELS,
    *('(2019 AMC 8) ', '(10 points)', 'Find x. ', '\n', ' ', '.', ': '),
    *('\u200b', '\r\n', '\x00', '\ud800', 'e\u0301'),
  )
)


@given(st.lists(PIECES, max_size=8).map(''.join))
def test_to_normalise_twice_is_to_normalise_once(problem):
  once = text.normalise().each(row(problem)).row
  assert text.normalise().each(once) == values.kept(once)
  once.problem.encode()


@given(st.text(max_size=40), st.text(max_size=40))
def test_every_rule_takes_any_text(problem, answer):
  for rule in RULES:
    found = fate(rule, row(problem, answer, starter=problem))
    assert found.row.problem == problem


def test_what_cannot_be_seen_goes_away():
  found = text.normalise().each(row('\ufeffFind\u200b x.\r\nNow\x00!', ' 7\n'))
  assert (found.row.problem, found.row.answer) == ('Find x.\nNow!', '7')


def test_tokens():
  wide = '\N{FULLWIDTH LATIN CAPITAL LETTER A}b12'
  given = (
    rf'Let $x^{{2}}=\dfrac12$; \left(\tfrac{{3}}{{4}}\right) and ½ {wide}.'
  )
  wanted = 'let x 2 frac 1 2 frac 3 4 and 1 2 ab 12'
  assert ' '.join(keys.tokens(given)) == wanted
  assert keys.tokens(given.upper()) == keys.tokens(given)


SAME = [
  ('Find $x^2$.', 'find x^{2}'),
  ('What is 3\N{MULTIPLICATION SIGN}4?', r'What is $3\times 4$?'),
  (r'Compute $\frac{1}{2}$ of 1,000.', r'Compute \dfrac12 of 1000'),
  ('Solve $a \\le 3$.', r'Solve $a\leq3$'),
  ('An 8-sided die.', 'An $8$-sided die'),
  ('Find x.  Express your answer as a common fraction.', 'Find x.'),
  ('Find x. Please reason step by step.', 'Find x.'),
  ('x² + 1', 'x^2+1'),
]
DIFFERENT = [
  ('What is 3 + 4?', 'What is 3 - 4?'),
  ('What is $3 \\times 4$?', 'What is $3 \\div 4$?'),
  ('Find (2+3)*4.', 'Find 2+(3*4).'),
  ('Find x^2.', 'Find x2.'),
  (r'Find $\sqrt{2x}$.', r'Find $\sqrt{2}x$.'),
  ('Half of 1.5', 'Half of 15'),
  ('Find x. Round your answer to the nearest tenth.', 'Find x.'),
  ('Find n with n < 5.', 'Find n with n > 5.'),
]


@pytest.mark.parametrize('one, other', SAME)
def test_one_key(one, other):
  assert keys.key(one) == keys.key(other)


@pytest.mark.parametrize('one, other', DIFFERENT)
def test_two_keys(one, other):
  assert keys.key(one) != keys.key(other)


def test_a_figure_in_words_is_flagged():
  drawn = row('As shown below, find AB. [asy] draw((0,0)--(1,1)); [/asy]')
  found = text.figure().each(drawn)
  assert (found.kind, found.reason) == ('changed', 'drawing')
  assert found.row.about['flags'] == ['asy']
  assert text.figure().each(found.row).kind == 'kept'
  assert text.figure(asy='drop').each(drawn).kind == 'dropped'
  # A long s is an s if case is ignored.
  odd = row('Find AB. [a\u017fy] draw((0,0)--(1,1)); [/asy]')
  assert text.figure().each(odd).row.about['flags'] == ['asy']
  tikz = row(r'Find AB. \begin{tikzpicture} \draw (0,0); \end{tikzpicture}')
  assert text.figure().each(tikz).row.about['flags'] == ['tikz']


def test_a_call_that_returns_is_a_mark_of_a_talk():
  told = 'A hidden array has n numbers. At most 20 calls are made.'
  assert code_text.interactive().each(row(told)).kind == 'kept'
  told += ' The call compare(i, j) returns the sign of their difference.'
  found = code_text.interactive().each(row(told))
  assert found.kind == 'dropped'
  assert 'compare(i, j) returns' in found.evidence['marks']


def test_a_value_among_options_may_stay():
  options = 'How much is 3+4? (A) 6 (B) 7 (C) 8'
  assert text.choice().each(row(options, '7')).kind == 'dropped'
  assert text.choice(keep='value').each(row(options, '7')).kind == 'kept'
  assert text.choice(keep='value').each(row(options, 'B')).kind == 'dropped'


def test_long_counts_tokens_only_where_it_must():
  asked = []

  def count(texts):
    asked.extend(texts)
    return labelled.count_words(texts)

  rows = [row('a ' * 30), row('b ' * 600), row('c ' * 1100), row('d ' * 1024)]
  fates = text.long().whole(rows, labelled.context(count_tokens=count))
  assert [f.kind for f in fates] == ['kept', 'kept', 'dropped', 'kept']
  assert fates[2].evidence == {'tokens': 1100, 'most': 1024}
  assert asked == [r.problem for r in rows[1:]]


@pytest.mark.parametrize(
  'date, undated, kind, flags',
  [
    ('2024-08-01', 'flag', 'kept', None),
    ('2024-08-02', 'flag', 'dropped', None),
    ('2024-08-02T00:00:00', 'flag', 'dropped', None),
    ('', 'flag', 'changed', ['undated']),
    ('yesterday', 'flag', 'changed', ['undated']),
    ('', 'drop', 'dropped', None),
  ],
)
def test_released(date, undated, kind, flags):
  found = code_text.released(undated=undated).each(row('x', date=date))
  assert found.kind == kind
  assert found.row.about.get('flags') == flags


def test_an_error_of_floats_is_accepted_where_it_can_be_read():
  known = 'Print it with an absolute or relative error of at most 1e-6.'
  unknown = 'Print it. A small absolute or relative error is accepted.'
  assert fate('special_judge', row(known)).kind == 'kept'
  assert fate('special_judge', row(unknown)).evidence['kind'] == 'error'


@pytest.mark.parametrize(
  'make',
  [
    lambda: text.choice(keep='all'),
    lambda: text.figure(asy='maybe'),
    lambda: code_text.released(until='August'),
    lambda: code_text.released(undated='keep'),
  ],
)
def test_unknown_arguments(make):
  with pytest.raises(ValueError, match='expected') as e:
    make()
  assert '\n' not in str(e.value)


def test_steps_go_to_other_processes():
  for rule in [*RULES, 'normalise', 'exact', 'reference', 'released']:
    made = code_text if hasattr(code_text, rule) else text
    step = getattr(made, rule)()
    assert pickle.loads(pickle.dumps(step)).name == step.name == rule


UNITS = [
  '(',
  '1.',
  ' ',
  '\n',
  ' \n',
  '(a) ',
  '\\[',
  'A',
  'if ',
  '![',
  '[asy]',
  'the ',
  'true or ',
  'print any, ',
  'the judge "? ',
  '5 hours, ',
  '1) 2) ',
]


# CPU seconds, of which others that use the core make some: a guard against
# patterns that go back. They took 17 for 20 KB, so hours for this.
GUARD = 60


@pytest.mark.parametrize('unit', UNITS)
def test_a_million_bytes_are_read_in_linear_time(unit):
  """They take some hundredths of a second."""
  fate('language', row('Wie viele Primzahlen gibt es unter zehn?'))
  hostile = row(
    'Find x. ' + unit * ((1 << 20) // len(unit)), 'x', unit * 50_000
  )
  for rule in [*RULES, 'normalise']:
    start = time.process_time()
    fate(rule, hostile)
    assert time.process_time() - start < GUARD, rule
  start = time.process_time()
  keys.key(hostile.problem)
  labels.without_label(unit * ((1 << 20) // len(unit)))
  assert time.process_time() - start < GUARD
