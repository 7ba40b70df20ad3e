"""Files of benchmarks load as their packagers publish them.

The texts are our own; columns, types and spellings are those of the files.
"""

import hashlib
import json
import logging

import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax import resolve
from acereason_jax.data import questions, records, sources
from acereason_jax.evaluation import files, values
from acereason_jax.verifiers import math as math_judge

URL = 'https://artofproblemsolving.com/wiki/index.php/2024_AIME_{}_Problems/{}'


def jsonl(path, *records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return str(path)


def parquet(path, **columns):
  pyarrow.parquet.write_table(pyarrow.table(columns), path)
  return str(path)


def told(loaded):
  return [
    (p.row.id, p.row.question, p.row.answer, dict(p.strata))
    for p in loaded.problems
  ]


def digest(path):
  with open(path, 'rb') as file:
    return hashlib.sha256(file.read()).hexdigest()


def hashed(question):
  return hashlib.sha256(question.encode()).hexdigest()[:16]


def test_aime_2024_of_hugging_face_h4(tmp_path):
  path = parquet(
    tmp_path / 'train-00000-of-00001.parquet',
    id=[60, 75],
    problem=['Cats and $3$ dogs?', 'Birds?'],
    solution=['It is $204$.', 'So \\boxed{073}.'],
    answer=['204', '073'],
    url=[URL.format('I', 'Problem_1'), URL.format('II', 'Problem_1')],
    year=['2024', '2024'],
  )
  loaded = files.aime((path,))
  assert told(loaded) == [
    ('60', 'Cats and $3$ dogs?', '204', {'paper': 'I'}),
    ('75', 'Birds?', '73', {'paper': 'II'}),
  ]
  assert loaded.files == {'train-00000-of-00001.parquet': digest(path)}
  assert loaded.missing == ()


def test_aime_2024_of_maxwell_jia(tmp_path):
  path = parquet(
    tmp_path / 'aime_2024_problems.parquet',
    ID=['2024-II-4', '2024-I-12'],
    Problem=['How many cats?', 'How many dogs?'],
    Solution=['Count.', 'Count.'],
    Answer=[33, 5],
  )
  assert told(files.aime(path)) == [
    ('2024-II-4', 'How many cats?', '33', {'paper': 'II'}),
    ('2024-I-12', 'How many dogs?', '5', {'paper': 'I'}),
  ]


def test_aime_of_the_toolkit_and_of_nemo_skills(tmp_path):
  toolkit = jsonl(
    tmp_path / 'aime24.jsonl',
    {
      **{'id': 61, 'problem': 'Cats?', 'solution': '...', 'answer': '025'},
      **{'url': URL.format('II', 'Problem_10'), 'question': 'Cats?'},
    },
  )
  assert told(files.aime(toolkit)) == [('61', 'Cats?', '25', {'paper': 'II'})]
  skills = jsonl(
    tmp_path / 'test.txt',
    *(
      {'id': f'aime25-{i}', 'problem': f'Of {i}?', 'expected_answer': str(i)}
      for i in range(30)
    ),
  )
  loaded = files.aime(skills)
  assert [p.strata['paper'] for p in loaded.problems] == [
    *['I'] * 15,
    *['II'] * 15,
  ]
  assert [p.row.answer for p in loaded.problems] == [*map(str, range(30))]


def test_a_paper_is_not_guessed_from_fewer_problems(tmp_path):
  some = [{'id': i, 'problem': f'Of {i}?', 'answer': '1'} for i in range(1, 30)]
  loaded = files.aime(jsonl(tmp_path / 'test.jsonl', *some))
  assert all(not p.strata for p in loaded.problems)


def test_aime_2025_of_matharena(tmp_path):
  path = parquet(
    tmp_path / 'train-00000-of-00001.parquet',
    problem_idx=[*range(1, 31)],
    problem=[f'Problem {i}?' for i in range(1, 31)],
    answer=pyarrow.array(range(30), pyarrow.int64()),
    problem_type=[['Number Theory'], ['Geometry', 'Algebra'], *[[]] * 28],
  )
  loaded = files.aime((path,))
  assert told(loaded)[:2] == [
    (
      *('1', 'Problem 1?', '0'),
      {'problem_type': 'Number Theory', 'paper': 'I'},
    ),
    (
      *('2', 'Problem 2?', '1'),
      {'problem_type': 'Algebra, Geometry', 'paper': 'I'},
    ),
  ]
  assert loaded.problems[14].strata['paper'] == 'I'
  assert loaded.problems[15].strata['paper'] == 'II'


def test_aime_2025_of_math_ai_and_of_yentinglin(tmp_path):
  math_ai = jsonl(
    tmp_path / 'test.jsonl', {'problem': 'Cats?', 'answer': '70', 'id': '0'}
  )
  assert told(files.aime(math_ai)) == [('0', 'Cats?', '70', {})]
  yentinglin = parquet(
    tmp_path / 'train-00000-of-00001.parquet',
    id=pyarrow.array([3], pyarrow.int64()),
    problem=['Dogs?'],
    answer=['117'],
    solution=['...'],
    url=[None],
    year=pyarrow.array([2025], pyarrow.int64()),
    __index_level_0__=[0],
  )
  assert told(files.aime(yentinglin)) == [('3', 'Dogs?', '117', {})]


def test_aime_2025_of_opencompass_joins_two_papers_without_ids(tmp_path):
  first = jsonl(
    tmp_path / 'aime2025-I.jsonl', {'question': 'Cats?', 'answer': '70'}
  )
  second = jsonl(
    tmp_path / 'aime2025-II.jsonl',
    {'question': 'What angle?', 'answer': '336^\\circ'},
    {'question': 'What price?', 'answer': '$104$'},
  )
  loaded = files.aime((first, second))
  assert told(loaded) == [
    (hashed('Cats?'), 'Cats?', '70', {'paper': 'I'}),
    (hashed('What angle?'), 'What angle?', '336', {'paper': 'II'}),
    (hashed('What price?'), 'What price?', '104', {'paper': 'II'}),
  ]
  assert loaded.files == {
    'aime2025-I.jsonl': digest(first),
    'aime2025-II.jsonl': digest(second),
  }


def test_joined_files_that_count_alike_get_ids_of_their_own(tmp_path):
  paths = []
  for folder in 'ab':
    (tmp_path / folder).mkdir()
    paths.append(
      jsonl(
        tmp_path / folder / 'test.jsonl',
        *({'id': i, 'problem': f'{folder}{i}', 'answer': i} for i in (1, 2)),
      )
    )
  loaded = files.rows_of(paths)
  assert [(p.row.id, p.row.question) for p in loaded.problems] == [
    *(('1-test-1', 'a1'), ('1-test-2', 'a2')),
    *(('2-test-1', 'b1'), ('2-test-2', 'b2')),
  ]
  assert set(loaded.files) == {'1-test.jsonl', '2-test.jsonl'}


@pytest.mark.parametrize('spelled', ['73', '073', '73°', '73^{\\circ}'])
def test_every_spelling_of_an_aime_answer_is_the_integer(tmp_path, spelled):
  path = jsonl(tmp_path / 'a.jsonl', {'problem': 'x?', 'answer': spelled})
  (problem,) = files.aime(path).problems
  response = 'so </think> \\boxed{73}'
  assert math_judge.verify(response, problem.row.answer).status == 'right'


def test_problems_without_a_usable_answer_are_named(tmp_path):
  path = jsonl(
    tmp_path / 'a.jsonl',
    {'id': 1, 'problem': 'Cats?', 'answer': '7'},
    {'id': 2, 'problem': 'Dogs?', 'answer': '50/3'},
    {'id': 3, 'problem': 'Birds?', 'answer': None},
    {'id': 4, 'problem': 'Fish?', 'answer': ' '},
  )
  loaded = files.aime(path)
  assert [p.row.id for p in loaded.problems] == ['1']
  assert loaded.missing == (
    ('2', "answer '50/3' is no integer from 0 to 999"),
    ('3', 'it has no answer'),
    ('4', 'it has no answer'),
  )
  of_any = files.rows_of(path)
  assert [i for i, _ in of_any.missing] == ['3', '4']


def test_hmmt_of_matharena(tmp_path):
  path = parquet(
    tmp_path / 'train-00000-of-00001.parquet',
    problem_idx=[1, 2],
    problem=['Area?', 'Number?'],
    answer=['9 \\sqrt{23}', '103'],
    problem_type=[['Geometry'], ['Number Theory']],
  )
  assert told(files.matharena(path)) == [
    ('1', 'Area?', '9 \\sqrt{23}', {'problem_type': 'Geometry'}),
    ('2', 'Number?', '103', {'problem_type': 'Number Theory'}),
  ]


def test_math_500_of_hugging_face_h4(tmp_path):
  path = jsonl(
    tmp_path / 'test.jsonl',
    {
      **{'problem': 'Half?', 'solution': 'It is \\boxed{\\frac12}.'},
      **{'answer': '\\frac{1}{2}', 'subject': 'Algebra', 'level': 2},
      'unique_id': 'test/algebra/1.json',
    },
  )
  assert told(files.math500(path)) == [
    (
      *('test/algebra/1.json', 'Half?', '\\frac{1}{2}'),
      {'subject': 'Algebra', 'level': '2'},
    )
  ]


@pytest.mark.parametrize('mark', ['', '\ufeff', ' \n'])
def test_math_500_of_open_reasoner_zero_is_an_array(tmp_path, mark):
  path = tmp_path / 'math500.json'
  records = [
    {'prompt': [{'from': 'user', 'value': 'Half?'}], 'final_answer': '0.5'}
  ]
  path.write_text(mark + json.dumps(records, indent=4), encoding='utf-8')
  assert told(files.math500(str(path))) == [
    (hashed('Half?'), 'Half?', '0.5', {})
  ]


def test_gsm8k(tmp_path):
  path = jsonl(
    tmp_path / 'test.jsonl',
    {'question': 'Eggs?', 'answer': '2 * 9 = <<2*9=18>>18\n#### 1,018'},
  )
  assert told(files.gsm8k(path)) == [(hashed('Eggs?'), 'Eggs?', '1,018', {})]


def test_any_columns_may_be_ids_and_groups(tmp_path):
  path = jsonl(
    tmp_path / 'a.jsonl',
    {
      **{'nr': 'q7', 'id': 1, 'question': 'x?', 'expected_answer': 3.50},
      **{'difficulty': 'hard', 'subset': 'hmmt', 'note': None},
    },
  )
  loaded = files.rows_of(path, id='nr', strata=('difficulty', 'subset', 'note'))
  assert told(loaded) == [
    ('q7', 'x?', '3.5', {'difficulty': 'hard', 'subset': 'hmmt'})
  ]


ROW = {'id': 1, 'problem': 'x?', 'answer': '1'}


@pytest.mark.parametrize(
  'lines, message',
  [
    (
      ['{"text": "x?", "target": "1"}'],
      "has no column for the question: expected 'prompt', 'problem', "
      "'question'; it has: 'text', 'target'; formats known",
    ),
    (
      ['{"problem": "x?", "solution": "so 1"}'],
      "has no column for the answer.*a 'solution' is not read.*formats known",
    ),
    ([json.dumps(ROW), json.dumps(ROW | {'answer': '2'})], "share an id.*'1'"),
    (['{"id": 1, "problem": "x?", "answer": {"a": 1}}'], 'answer must be text'),
    (['7'], "expected an object, got '7'"),
    (['[{"problem": "x?", "answer": "1"}'], 'not one JSON object'),
    (['[7]'], "expected an object, got '7'"),
    (['[]'], 'holds no rows'),
    (['[' * 100_000], 'nested too deep'),
    (['[{"id": 1, "id": 2}]'], "the key 'id' stands twice"),
    ([''], 'holds no rows'),
    (['{"problem": "x?", "answer": null}'], 'none of 1 problems can be used'),
  ],
)
def test_bad_files_are_one_line(tmp_path, lines, message):
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(lines) + '\n')
  with pytest.raises(ValueError, match=message) as caught:
    files.rows_of(str(path))
  assert '\n' not in str(caught.value)


def test_an_array_has_a_bound(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  path.write_text(json.dumps([ROW]))
  monkeypatch.setattr(records, 'MAX_LINE_BYTES', 20)
  with pytest.raises(ValueError, match='more than 20; split it'):
    files.rows_of(str(path))


def test_bad_arguments_are_one_line(tmp_path):
  path = jsonl(tmp_path / 'a.jsonl', ROW | {'x': [{}], 'y': 'a\x1b[2J'})
  for match, call in (
    ('cannot be read: No such file', lambda: files.aime(str(tmp_path / 'no'))),
    ('expected a file or a tuple', lambda: files.aime(())),
    ('the same file as', lambda: files.aime((path, path))),
    ("no column 'nr' for the id", lambda: files.rows_of(path, id='nr')),
    ('x must be text', lambda: files.rows_of(path, strata=('x',))),
    ('printable', lambda: files.rows_of(path, strata=('y',))),
  ):
    with pytest.raises(ValueError, match=match) as caught:
      call()
    assert str(caught.value).isprintable()


def test_a_row_in_two_files_is_refused(tmp_path):
  first = jsonl(tmp_path / 'a.jsonl', ROW)
  second = jsonl(tmp_path / 'b.jsonl', ROW, ROW | {'id': 2, 'problem': 'y?'})
  with pytest.raises(ValueError, match='the same row is in a and b'):
    files.rows_of((first, second))


def test_rows_that_differ_in_a_group_are_refused(tmp_path):
  path = jsonl(tmp_path / 'a.jsonl', ROW | {'g': 'a'}, ROW | {'g': 'b'})
  with pytest.raises(ValueError, match='differs in'):
    files.rows_of(path, strata=('g',))
  assert len(files.rows_of(path).problems) == 1


def test_training_and_evaluation_share_their_sources(tmp_path, caplog):
  path = jsonl(tmp_path / 'a.jsonl', ROW, ROW | {'id': 2, 'answer': 'one'})
  benchmark = dict(fn='acereason_jax.evaluation.files:aime', paths=(path,))
  source = dict(fn='acereason_jax.evaluation.files:rows', benchmark=benchmark)
  with caplog.at_level(logging.WARNING):
    assert resolve.build(source, 'heldout_data') == [
      questions.Row('1', 'x?', '1')
    ]
  assert "left out 1 problems that cannot be used: 2: answer 'one'" in (
    caplog.text
  )
  sums = dict(
    **dict(fn='acereason_jax.data.sources:arithmetic', split='heldout'),
    **dict(count=3, seed=0, largest=9, held_out=2),
  )
  loaded = resolve.build(
    dict(fn='acereason_jax.evaluation.files:problems', rows=sums), 'data'
  )
  assert isinstance(loaded, values.Loaded)
  rows = [p.row for p in loaded.problems]
  assert rows == resolve.build(sums, 'sums')
  assert loaded.files == {'rows': sources.digest(rows)}
