"""Tasks of reasoning-gym: splits that never meet, and judges that are strict.

Right answers are worked out here, from the question, where it is possible.
"""

import ast
import inspect
import json
import math as numbers
import os
import re
import subprocess
import sys
from fractions import Fraction

import pytest
import tiny

pytest.importorskip('reasoning_gym')

import reasoning_gym
from reasoning_gym import factory

from acereason_jax import resolve
from acereason_jax.data import gym as source
from acereason_jax.verifiers import gym, math
from acereason_jax.verifiers.pool import pool as pool_lib

ROWS = 'acereason_jax.data.gym:rows'
SUMS = dict(
  generator='chain_sum',
  arguments=dict(min_terms=2, max_terms=2, min_digits=1, max_digits=2),
)
# Words, a matrix, a list and a name, and two that take many answers.
SCORED = (
  *('word_sequence_reversal', 'spell_backward', 'word_sorting', 'jugs'),
  *('rotate_matrix', 'number_filtering', 'zebra_puzzles', 'tower_of_hanoi'),
)
GUARD = 60


def rows(split='train', count=40, seed=0, **kwargs):
  return source.rows(split=split, count=count, seed=seed, **kwargs)


def boxed(text):
  return f'so \\boxed{{{text}}}'


def expression(question):
  return re.search(r'(-?[0-9]+) ([+-]) ([0-9]+) =', question).groups()


def test_the_splits_never_meet_whatever_the_seeds():
  train, heldout = (
    {
      frozenset([a, b]) if sign == '+' else (a, b)
      for seed in (0, 1, 10**9)
      for row in rows(split, 300, seed, **SUMS)
      for a, sign, b in [expression(row.question)]
    }
    for split in ('train', 'heldout')
  )
  assert len(train) > 500 and len(heldout) > 300
  # Neither a + b nor b + a; a - b is another question.
  assert not {p for p in train if isinstance(p, frozenset)} & heldout
  questions = [
    {r.question for r in rows(split, 300, seed, **SUMS)}
    for split, seed in (('train', 5), ('heldout', 6))
  ]
  assert not questions[0] & questions[1]


@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_the_share_that_is_held_out(share):
  empty = {0.0: 'heldout', 1.0: 'train'}.get(share)
  if empty:
    with pytest.raises(ValueError, match='few different questions: 0 '):
      rows(empty, 1, held_out=share, **SUMS)
    return
  tasks = gym.tasks(**_taken(SUMS), seed=3, count=500)
  asked = {t['question'] for t in tasks}
  held = sum(source._is_held_out(q, share) for q in asked)
  # Five standard deviations of a binomial.
  spread = 5 * numbers.sqrt(len(asked) * share * (1 - share))
  assert abs(held - share * len(asked)) < spread


def _taken(of):
  return dict(name=of['generator'], arguments=of['arguments'])


def test_more_rows_begin_with_fewer_and_seeds_differ():
  many = rows(count=600, **SUMS)
  assert many[:50] == rows(count=50, **SUMS)
  assert len({r.id for r in many}) == len({r.question for r in many}) == 600
  other = rows(count=50, seed=1, **SUMS)
  assert other != many[:50]
  ids = {r.id: r.question for r in many}
  assert all(ids.get(r.id, r.question) == r.question for r in other)


MAKE_ALL = """
import json, sys
import reasoning_gym
from reasoning_gym import factory
from acereason_jax.data import gym, sources
from acereason_jax.verifiers import gym as judge
found = {}
for name in sorted(factory.DATASETS):
  if name in gym.UNREPEATABLE or name == judge.COMPOSITE:
    continue
  own = name not in judge.EVALUATES | judge.FORGEABLE
  try:
    rows = gym.rows(
      generator=name, split='train', count=2, seed=1, own_scorer=own)
    found[name] = sources.digest(rows), rows[0].answer, own
  except ValueError as e:
    found[name] = str(e), '', False
# Some generators print.
print()
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope='module')
def made():
  """What two processes made of all generators: digest, answer, own scorer."""
  running = [
    subprocess.Popen(
      [sys.executable, '-W', 'ignore', '-c', MAKE_ALL],
      env={**os.environ, 'PYTHONHASHSEED': seed},
      stdout=subprocess.PIPE,
    )
    for seed in ('1', '2')
  ]
  return [
    json.loads(p.communicate(timeout=GUARD * 20)[0].splitlines()[-1])
    for p in running
  ]


def test_another_process_makes_the_same_rows(made):
  assert made[0] == made[1]
  without = {name for name, (why, _, _) in made[0].items() if 'None' in why}
  assert without == {
    *('boxnet', 'graph_color', 'propositional_logic', 'rubiks_cube'),
    'rush_hour',
  }
  assert all(
    re.fullmatch('[0-9a-f]{64}', digest)
    for name, (digest, _, _) in made[0].items()
    if name not in without
  )


@pytest.mark.parametrize('split', ['train', 'heldout'])
def test_the_math_judge_knows_right_from_wrong(split):
  for row in rows(split, 30, **SUMS):
    a, sign, b = expression(row.question)
    total = int(a) + int(b) if sign == '+' else int(a) - int(b)
    assert _math(total, row) == 'right'
    assert _math(total + 1, row) == 'wrong'
    assert _math(f'{a} {sign} {b}', row) != 'error'
  kept = dict(min_value=1, max_value=40)
  for row in rows(split, 30, generator='gcd', arguments=kept):
    found = [int(n) for n in re.findall('[0-9]+', row.question)]
    assert _math(numbers.gcd(*found), row) == 'right'
    assert _math(numbers.gcd(*found) + 1, row) == 'wrong'
  kept = dict(max_value=20, max_factor=6, styles=('plain',))
  for row in rows(
    split, 30, generator='fraction_simplification', arguments=kept
  ):
    value = Fraction(re.search('[0-9]+/[0-9]+', row.question)[0])
    assert _math(
      f'\\frac{{{value.numerator}}}{{{value.denominator}}}', row
    ) == ('right')
    assert _math(value + 1, row) == 'wrong'


def _math(text, row):
  return math.verify(boxed(text), row.answer, reasons=False).status


@pytest.mark.parametrize('name', SCORED)
def test_a_scorer_gives_its_own_answer_full_marks(name):
  for row in rows(count=4, generator=name, own_scorer=True):
    assert gym.reference('', row.answer).status == 'right'
    own = json.loads(row.answer)['answer']
    assert gym.verify(boxed(own), row.answer, reasons=False).status == 'right'
    thought = f'{boxed("0")}</think>{boxed(own)}'
    assert gym.verify(thought, row.answer).status == 'right'
    assert gym.verify(boxed(own), row.answer).status == 'unparsed'
    for wrong in ('', '0', f'{own} or not', own[:-1], own * 2):
      status = gym.verify(boxed(wrong), row.answer, reasons=False).status
      assert status == 'wrong', (wrong, row.answer)


def test_a_scorer_takes_every_right_answer():
  """Words are scored without regard to case; part marks are not right."""
  (row,) = rows(count=1, generator='spell_backward', own_scorer=True)
  word = json.loads(row.answer)['question'].rsplit(maxsplit=1)[1]
  for text, status in (
    (word[::-1], 'right'),
    (word[::-1].upper(), 'right'),
    (word, 'right' if word == word[::-1] else 'wrong'),
    (f'{word[::-1]}.', 'wrong'),
  ):
    assert gym.verify(boxed(text), row.answer, reasons=False).status == status


HOSTILE = (
  *(
    '[' * 16_000,
    '(' * 16_000,
    '9' * 16_000,
    '9**9**9',
    '1e999999',
    'nan',
    '-inf',
  ),
  *('__import__("os")._exit(0)', '{' * 3, '\0', '\ud800', 'a\n' * 8_000),
  *(' '.join(map(str, range(3000))), 'True or False', 'yes or no'),
  *('[[1, 2], [3', '{"a": {"b": 1}}', '-' * 16_000, '1,' * 8_000, 'None'),
)


def test_hostile_answers_are_wrong_and_the_worker_lives(made):
  """Every scorer that may judge, confined, next to hostile texts."""
  path = 'acereason_jax.verifiers.gym:verify'
  with pool_lib.VerifierPool(path, dict(reasons=False), 1, 30.0) as pool:
    waiting = [
      (name, text, pool.submit(boxed(text), answer))
      for name, (_, answer, own) in made[0].items()
      if own
      for text in HOSTILE
    ]
    bad = [
      (name, text[:20], verdict)
      for name, text, future in waiting
      for verdict in [future.result(GUARD * 5)]
      if verdict.status not in ('wrong', 'unparsed')
    ]
    assert not bad
    assert pool.stats().restarts == 0
  assert len(waiting) > 80 * len(HOSTILE)


@pytest.mark.parametrize(
  ('text', 'why'),
  [
    ('7', 'expected'),
    ('{', 'no JSON'),
    ('[' * 100_000, 'no JSON'),
    ('x' * 2_000_000, 'characters'),
    ('{"dataset": "gcd"}', 'expected'),
    (dict(dataset='none_such'), 'none_such'),
    (dict(dataset='n_queens'), 'evaluates text'),
    (dict(dataset='composite'), 'of other generators'),
    (dict(dataset='coin_flip'), 'wrong answers'),
    (dict(dataset='gcd', arguments=dict(min_value='a')), 'gcd'),
    (dict(dataset='gcd', arguments=dict(seed=3)), 'gcd'),
    (dict(dataset='gcd', arguments=[3]), 'arguments'),
    (dict(dataset=['gcd']), 'dataset'),
  ],
)
def test_a_reference_that_is_no_task_is_an_error(text, why):
  if isinstance(text, dict):
    whole = dict(question='?', answer='1', arguments={}, metadata={})
    text = json.dumps(whole | text)
  for judged in (
    gym.reference('', text),
    gym.verify(boxed('1'), text, reasons=False),
  ):
    assert judged.status == 'error' and why in judged.detail
    assert len(judged.detail) < 700 and '\n' not in judged.detail


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('coin_flip', '0'),
    ('complex_arithmetic', 'nan'),
    ('game_of_life_halting', 'no idea'),
  ],
)
def test_scorers_that_can_be_forged_are_refused(name, text):
  """Each gives full marks to a text that is no answer."""
  data = reasoning_gym.create_dataset(name, seed=1, size=20)
  marks = [data.score_answer(text, task) for task in data]
  assert 1.0 in marks
  with pytest.raises(ValueError, match='wrong answers'):
    rows(count=1, generator=name, own_scorer=True)


def test_a_wrong_own_answer_is_no_reference():
  (row,) = rows(count=1, generator='spell_backward', own_scorer=True)
  task = json.loads(row.answer) | dict(metadata={}, answer='\\boxed{')
  judged = gym.reference('', json.dumps(task))
  assert judged.status == 'error' and 'own answer is' in judged.detail


def test_scorers_that_evaluate_text_are_listed():
  """Reads the source of all scorers' modules for calls that evaluate text."""
  calls = {'eval', 'exec', 'parse_expr', 'sympify'}
  found = set()
  for name, (made, _) in factory.DATASETS.items():
    tree = ast.parse(inspect.getsource(sys.modules[made.__module__]))
    called = {
      getattr(n.func, 'id', getattr(n.func, 'attr', ''))
      for n in ast.walk(tree)
      if isinstance(n, ast.Call)
    }
    if called & calls:
      found.add(name)
  # They evaluate what they made, and a parser of their own that is no eval.
  harmless = {'basic_arithmetic', 'codeio', 'propositional_logic'}
  assert found == gym.EVALUATES | harmless


@pytest.mark.parametrize(
  ('change', 'why'),
  [
    (dict(split='test'), "'train' or 'heldout'"),
    (dict(held_out=2), 'share'),
    (dict(count=0), '1 or more'),
    (
      dict(count=300, arguments=dict(max_terms=2, max_digits=1)),
      'ask for fewer',
    ),
    (dict(generator='chain_sums'), "'chain_sum'"),
    (dict(generator='composite', arguments={}), 'none of this name'),
    (dict(generator='word_ladder', arguments={}), 'could not go on'),
    (dict(generator='puzzle24', arguments={}, own_scorer=True), 'evaluates'),
    (dict(generator='graph_color', arguments={}), 'None'),
    (dict(arguments=dict(terms=2)), 'terms'),
    (dict(arguments=dict(min_terms=9, max_terms=2)), 'min_terms'),
    (dict(arguments=dict(seed=2)), '`seed`'),
  ],
)
def test_arguments_that_cannot_be_are_one_line(change, why):
  given = dict(SUMS, split='train', count=3, seed=0) | change
  with pytest.raises(ValueError) as caught:
    resolve.build(dict(given, fn=ROWS), 'train_data')
  assert why in str(caught.value) and '\n' not in str(caught.value)
  assert len(str(caught.value)) < 600


def test_the_shipped_config_asks_new_lists_in_the_words_of_its_examples():
  config = tiny.shipped('reason_cpu').get_config()
  asked = {
    name: [row.question for row in resolve.build(config[name].to_dict(), name)]
    for name in ('train_data', 'heldout_data')
  }
  examples = [user for user, _ in config.prompt.examples]
  seen = examples + asked['train_data']
  intro, colon, _ = examples[0].partition('words: ')
  intro += colon
  assert all(q.startswith(intro) for q in (*seen, *asked['heldout_data']))
  trained, held = (
    {frozenset(q.removeprefix(intro).lower().split(', ')) for q in questions}
    for questions in (seen, asked['heldout_data'])
  )
  assert len(held) > 60 and not trained & held
  for user, assistant in config.prompt.examples:
    words = user.removeprefix(intro).split(', ')
    assert assistant == f'\\boxed{{{", ".join(words[::-1])}}}'


def test_explanations():
  row = rows(generator='spell_backward', own_scorer=True)[0]
  own = json.loads(row.answer)['answer']
  for text, status in ((own, 'right'), ('no\x1b[2J', 'wrong')):
    said = gym.explain(f'</think>{boxed(text)}', row.answer)
    assert said.status == status
    judged = gym.verify(boxed(text), row.answer, reasons=False)
    assert said.detail.splitlines() == [
      f'extracted: {text!a}',
      f'reference: {own!a}',
      "scorer: that of 'spell_backward'",
      f'decided by: {judged.detail}',
    ]
  said = gym.explain(own, row.answer)
  assert said.detail.startswith('extracted: no </think>\n')
  said = gym.explain(f'</think>{boxed(1)}', '{"a": "\x1b"}')
  assert said.status == 'error' and said.detail.isascii()
  assert '\nreference: no ' in said.detail
