"""The shipped configs of curation, on small files of these tests' own rows."""

import json
import pathlib
import types

import pyarrow.parquet
import pytest
import tiny

from acereason_jax import curate
from acereason_jax.console import exits
from acereason_jax.data import sources
from acereason_jax.data.curate import outputs, pipeline, rounds

STORY = 'A baker sells {} trays of {} rolls each and then {} more single rolls.'
# What each row is dropped by; '' for those that stay.
MATH = {
  'kept': (
    'Problem 4.1: A baker sells 12 trays of 8 rolls each and then 5 more '
    'single rolls. How many rolls does the baker sell in all?',
    '101',
    '',
  ),
  'twin': (
    'A baker sells 12 trays of 8 rolls each and then 5 more single rolls. How '
    'many rolls does the baker sell in all?',
    '101',
    'exact',
  ),
  'other': (
    'A gardener plants tulips in rows so that each row has two more tulips '
    'than the row before it. The first row has 3 tulips. How many are there in '
    'seven rows?',
    '63',
    '',
  ),
  'empty': ('Find the number of primes below forty one.', 'N/A', 'sentinels'),
  'copied': (
    'Warm up. The lighthouse keeper counts every second flash of the lamp from '
    'dusk until dawn. How many does she count in ten hours?',
    '9',
    'contaminated',
  ),
  'parts': (
    'A cube has a side of 3.\n(a) Find its volume.\n(b) Find its surface.',
    '27',
    'parts',
  ),
  'choice': (
    'Which of these is a prime?\n(A) 21\n(B) 23\n(C) 25\n(D) 27',
    'B',
    'choice',
  ),
  'claim': ('Is it true that every square is a rhombus?', 'Yes', 'true_false'),
  'proof': (
    'Prove that the sum of two odd numbers is even.',
    'even',
    'proof',
  ),
  'spanish': (
    'Un panadero vende doce bandejas de panecillos cada mañana y quiere saber '
    'cuántos panecillos vende durante toda la semana.',
    '84',
    'language',
  ),
  'figure': (
    'In the figure below, find the area of the shaded triangle.',
    '12',
    'figure',
  ),
  'brief': ('Compute 2.', '2', 'brief'),
  'wrong': (
    'A train has nine cars and each car has forty seats, of which three are '
    'broken. How many seats can be used?',
    '360',
    'vote',
  ),
}
RIGHT = {'kept': '101', 'other': '63', 'wrong': '333'}
ITEMS = [
  'The lighthouse keeper counts every second flash of the lamp from dusk until '
  'dawn. How many does she count in one night?',
  'Twenty sailors share forty two oranges so that nobody gets more than three.',
  'The mayor paints each bridge of the town in one of four colours at random.',
  'A clock loses five minutes in each hour of the day but none in the night.',
  'Nine cats and eleven dogs stand in a circle and each looks to its left.',
]


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def run(c):
  return curate.curate(
    types.SimpleNamespace(
      config=c, share=pipeline.Shard(), shard=None, plant=False, workers=1
    )
  )


def fates(out):
  read = lambda name: pyarrow.parquet.read_table(f'{out}/{name}').to_pylist()
  kept = {row['id']: '' for row in read(outputs.ROWS)}
  return kept | {row['id']: row['step'] for row in read(outputs.DROPPED)}


def answer(c):
  """Plays `generate`: responses to what the newest round asks."""
  *_, asked = rounds.find(c.out)
  text = 'so ' * 1400 + '</think> \\boxed{%s}'
  lines = [
    dict(
      id=row.id,
      index=i,
      text=text % RIGHT[row.id],
      # The tiny tokenizer has a token for each character.
      length=len(text % RIGHT[row.id]) + 1,
      stop='stop',
    )
    for row in sources.jsonl(asked.prompts, answers=False)
    for i in range(asked.n)
  ]
  write(pathlib.Path(asked.rollouts), lines)
  header = dict(prompts=rounds.responses.digest(asked.prompts))
  pathlib.Path(f'{asked.rollouts}.json').write_text(json.dumps(header))


def test_the_math_list_from_files_to_rows(tmp_path, capsys):
  c = tiny.shipped('curate_math').get_config()
  c.out = str(tmp_path / 'out')
  tiny.write_tokenizer(tmp_path)
  c.tokenizer = str(tmp_path)
  half = [
    dict(id=name, problem=problem, answer=reference)
    for name, (problem, reference, _) in MATH.items()
  ]
  c.inputs.deepscaler.path = write(tmp_path / 'a', half[:6])
  c.inputs.numina.path = write(tmp_path / 'b', half[6:])
  names = [*c.benchmarks]
  for name in names:
    rows = [dict(problem=f'{text} {name}') for text in ITEMS]
    c.benchmarks[name].path = write(tmp_path / name, rows)
  # After 4 of 8, those that cannot lose any more are not asked again.
  for told in (
    '3 rows need responses, 4 each',
    '1 rows need responses, 8 each',
  ):
    assert run(c) == exits.STOPPED
    assert told in capsys.readouterr().out
    answer(c)
  assert run(c) == 0
  assert fates(c.out) == {name: step for name, (*_, step) in MATH.items()}
  rows = {row.id: row for row in sources.parquet(f'{c.out}/{outputs.ROWS}')}
  # Its label is gone, and all responses are right.
  assert rows['kept'].question.startswith('A baker sells 12 trays')
  assert rows['kept'].difficulty == 0


ADD = 'a, b = map(int, input().split())\nprint(a + b)\n'


def test_the_code_list_from_files_to_rows(tmp_path, jails, capsys):
  c = tiny.shipped('curate_code').get_config()
  c.out = str(tmp_path / 'out')
  tests = dict(
    inputs=['1 2\n', '5 -3\n', '10 4\n', '0 0\n'],
    outputs=['3\n', '2\n', '14\n', '0\n'],
  )
  row = dict(
    question='Two farmers bring a and b sacks of grain. Print their sum.',
    input_output=json.dumps(tests),
    starter_code='',
    solutions=json.dumps([ADD]),
    url='https://example.org/1',
    date='2023-01-01',
    id='sum',
    difficulty='EASY',
  )
  several = 'Print any way to reach the sum. If there are several, print any.'
  rows = [
    row,
    row | dict(id='late', question='Late. Print a + b.', date='2024-09-01'),
    row | dict(id='several', question=several),
    row
    | dict(
      id='fails',
      question='Subtract. Print a - b, as it is.',
      solutions=json.dumps([ADD.replace('+', '-')]),
    ),
    row
    | dict(
      id='weak',
      question='Add, as the only test shows, a and b.',
      input_output=json.dumps(dict(inputs=['0 0\n'], outputs=['0\n'])),
    ),
  ]
  c.inputs.taco.path = write(tmp_path / 'taco', rows)
  for name in [*c.benchmarks]:
    items = [dict(question_content=f'{t} {name}') for t in ITEMS]
    c.benchmarks[name].path = write(tmp_path / name, items)
    c.benchmarks[name].id = ''
  c.steps = c.steps[:-1]
  assert run(c) == 0
  assert fates(c.out) == {
    'sum': '',
    'late': 'released',
    'several': 'special_judge',
    'fails': 'golden',
    'weak': 'strength',
  }
  (found,) = sources.parquet(f'{c.out}/{outputs.ROWS}')
  assert json.loads(found.answer)['kind'] == 'stdin'


@pytest.mark.slow
def test_real_problems_through_both_lists(tmp_path, jails):
  c = tiny.shipped('curate_cpu').get_config()
  c.out = str(tmp_path / 'out')
  assert run(c) == 0
  sheet = json.loads((tmp_path / 'out' / outputs.SHEET).read_text())
  assert sheet['rows_in'] == 270 + 164
  sources_left = sheet['distributions']['after']['source']
  assert sources_left['champ'] > 50 and sources_left['human_eval'] > 120
  first = [
    (tmp_path / 'out' / n).read_bytes() for n in (outputs.ROWS, outputs.DROPPED)
  ]
  assert run(c) == 0
  assert first == [
    (tmp_path / 'out' / n).read_bytes() for n in (outputs.ROWS, outputs.DROPPED)
  ]


def test_a_model_is_asked_until_all_rows_are_decided(tmp_path, monkeypatch):
  """With config.model the command calls `generate`, round after round."""
  c = tiny.shipped('curate_math').get_config()
  c.out, c.model = str(tmp_path / 'out'), 'a-model'
  c.inputs.deepscaler.path = write(
    tmp_path / 'a',
    [
      dict(id=name, problem=MATH[name][0], answer=MATH[name][1])
      for name in RIGHT
    ],
  )
  del c.inputs.numina
  for name in [*c.benchmarks]:
    del c.benchmarks[name]
  c.steps = c.steps[-3:-2]
  calls = []

  def run_generate(arguments):
    calls.append(arguments)
    answer(c)
    return True

  monkeypatch.setattr(rounds, 'run', run_generate)
  assert run(c) == 0
  assert fates(c.out) == {'kept': '', 'other': '', 'wrong': 'vote'}
  assert len(calls) == 2 and len({*map(tuple, calls)}) == 2
  for call in calls:
    assert '--model=a-model' in call and '--max_tokens=32768' in call
  # A model that is stopped: it can go on.
  c.out = str(tmp_path / 'stopped')
  monkeypatch.setattr(rounds, 'run', lambda arguments: False)
  assert run(c) == exits.STOPPED
