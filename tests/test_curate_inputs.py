"""Rows of strangers' files: ids, columns, and what is wrong with them."""

import hashlib
import json
import random
import time

import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax.data.curate import inputs, items, plan

ROWS = [
  dict(id='a', problem='One?', answer='1'),
  dict(id='b', problem='Two?', answer='2'),
  dict(id='c', problem='Three?', answer='3'),
]


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def read(path, **changes):
  return inputs.read(plan.Input('mine', (str(path),), **changes))


def of(tmp_path, *rows, **changes):
  return read(write(tmp_path / 'rows.jsonl', rows), **changes)


def test_three_formats_give_the_same_rows(tmp_path):
  lines = write(tmp_path / 'r.jsonl', ROWS)
  array = tmp_path / 'r.json'
  array.write_text(json.dumps(ROWS))
  table = tmp_path / 'r.parquet'
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), table)
  found = [read(path) for path in (lines, array, table)]
  assert found[0].rows == found[1].rows == found[2].rows
  assert [(r.id, r.problem, r.answer, r.source) for r in found[0].rows] == [
    ('a', 'One?', '1', 'mine'),
    ('b', 'Two?', '2', 'mine'),
    ('c', 'Three?', '3', 'mine'),
  ]
  digest = hashlib.sha256(array.read_bytes()).hexdigest()
  assert found[1].files == {'r.json': digest}
  for path, format in ((lines, 'jsonl'), (array, 'json'), (table, 'parquet')):
    assert read(path, format=format).rows == found[0].rows


def test_an_id_comes_from_the_content_where_the_file_has_none(tmp_path):
  rows = [dict(problem='One?', answer='1'), dict(problem='One?', answer='2')]
  one = of(tmp_path, *rows)
  two = of(tmp_path, *rows[::-1], rows[0])
  assert one.rows == two.rows and (one.lines, two.lines) == (2, 3)
  assert all(r.id.startswith('mine-') and len(r.id) == 21 for r in one.rows)
  other = inputs.read(plan.Input('other', (str(tmp_path / 'rows.jsonl'),)))
  assert not {r.id for r in one.rows} & {r.id for r in other.rows}
  # Rows that differ only in a program are two.
  programs = [dict(problem='P', answer='', solutions=[s]) for s in 'ab']
  assert len(of(tmp_path, *programs).rows) == 2
  # A null is no id.
  assert of(tmp_path, rows[0] | dict(id=None)).rows == one.rows[:1] or (
    of(tmp_path, rows[0] | dict(id=None)).rows == one.rows[1:]
  )


def test_rows_of_one_content_are_one_row_whatever_their_address(tmp_path):
  row = dict(problem='One?', answer='1')
  rows = [row | dict(url=f'https://example.org/{i}') for i in range(3)]
  one, two = (of(tmp_path, *r) for r in (rows, rows[::-1]))
  assert one.rows == two.rows and len(one.rows) == 1 and one.lines == 3
  # A file's own id names one row only.
  with pytest.raises(ValueError, match='id of another row'):
    of(tmp_path, *(r | dict(id='a') for r in rows))


def test_columns_that_steps_add_come_back_as_they_were(tmp_path):
  told = dict(tokens=3.5, right=2, judged=4, model='m', flags=['a', 'b'])
  found = of(tmp_path, ROWS[0] | told, keep=tuple(told))
  assert found.rows[0].about == told


def test_columns_with_other_names(tmp_path):
  row = dict(
    text='One?',
    gold=' 1',
    key=7,
    link='https://example.org',
    when='2024-08-02 10:00',
    level='0.5',
    right=['a', ' ', 'b'],
    tags=['x', {'y': [1]}],
    id='not this',
    difficulty='hard',
  )
  (found,) = of(
    tmp_path,
    row,
    fields=dict(
      problem='text',
      answer='gold',
      id='key',
      url='link',
      date='when',
      difficulty='level',
      solutions='right',
    ),
    keep=('tags',),
    prefix='p-',
  ).rows
  assert (found.id, found.problem, found.answer) == ('p-7', 'One?', ' 1')
  assert (found.url, found.date) == ('https://example.org', '2024-08-02')
  assert (found.difficulty, found.solutions) == (0.5, ('a', 'b'))
  assert found.about == {'tags': ['x', {'y': ['1']}]}
  assert found.source == 'mine'


def test_columns_that_mean_something_else_are_left_alone(tmp_path):
  row = dict(
    problem='One?',
    answer='1',
    id='a',
    difficulty='hard',
    solutions=[{'language': 3}],
    source='amc',
    date=5,
    url=None,
  )
  (found,) = of(tmp_path, row).rows
  assert (found.difficulty, found.solutions, found.date) == (None, (), '5') or (
    found.date == ''
  )
  assert found.source == 'mine'


def test_rows_that_no_step_can_read_have_a_fate(tmp_path):
  (tmp_path / 'r').write_text(
    '\n'.join(
      [
        json.dumps(dict(id='good', problem='One?', answer='1')),
        '{"id": "nul", "problem": "One\\u0000?", "answer": "1"}',
        '{"id": "half", "problem": "One \\ud800", "answer": "\\udc00"}',
        '{"id": "blank", "problem": "  ", "answer": "1"}',
        '{"id": "null", "problem": null, "answer": "1"}',
        '{"id": "absent", "answer": "1"}',
        json.dumps(dict(id='long', problem='a' * (1 << 22), answer='1')),
        '{"id": "other", "problem": "One?", "answer": "1", "x": "\\u0000"}',
        '{"id": "no answer", "problem": "One?", "answer": null}',
      ]
    )
  )
  found = read(tmp_path / 'r')
  assert [r.id for r in found.rows] == ['good', 'no answer', 'other']
  assert found.rows[1].answer == ''
  told = {f.row.id: (f.reason, dict(f.evidence)) for f in found.refused}
  assert told == {
    'nul': ('unreadable', {'NUL': 1}),
    'half': ('unreadable', {'half surrogates': 2}),
    'blank': ('no problem', {}),
    'null': ('no problem', {}),
    'absent': ('no problem', {}),
    'long': ('too long', {'characters': 1 << 22}),
  }
  for fate in found.refused:
    assert '\0' not in fate.row.problem
    fate.row.problem.encode()


@pytest.mark.parametrize(
  'rows, changes, message',
  [
    ([], {}, 'mine: holds no rows'),
    ([dict(text='One?', answer='1')], {}, 'no column for the problem'),
    ([dict(problem='One?')], {}, 'no column for the answer'),
    (ROWS, dict(fields=dict(answer='gold')), "no column 'gold'"),
    (ROWS, dict(keep=('tags',)), "no column 'tags'"),
    ([ROWS[0], ROWS[0] | dict(answer='5')], {}, "id 'a' at .*:1, .*:2"),
    ([ROWS[0], dict(problem=['x'], answer='1')], {}, ':2: problem'),
    ([ROWS[0], dict(problem='x', answer=[1, 2])], {}, ':2: answer'),
    ([ROWS[0] | dict(id='x' * 201)], {}, 'at most 200 printable'),
    ([ROWS[0] | dict(url=[1])], dict(fields=dict(url='url')), 'url must be'),
    (
      [ROWS[0] | dict(d='x')],
      dict(fields=dict(difficulty='d')),
      'a finite number',
    ),
    ([ROWS[0] | dict(s=[{}])], dict(fields=dict(wrong='s')), 'list of texts'),
    ([[1]], {}, 'expected an object'),
  ],
)
def test_a_bad_file_is_one_line(tmp_path, rows, changes, message):
  with pytest.raises(ValueError, match=message) as e:
    of(tmp_path, *rows, **changes)
  assert '\n' not in str(e.value) and len(str(e.value)) < 700


@pytest.mark.parametrize('depth', [500, 5_000, 200_000])
def test_nested_json_is_one_line_or_is_not_read(tmp_path, depth):
  row = '{"problem": "One?", "answer": "1", "x": %s}'
  nested = '[' * depth + ']' * depth
  (tmp_path / 'r').write_text(row % nested)
  try:
    assert len(read(tmp_path / 'r').rows) == 1
  except ValueError as e:
    assert 'nested too deep' in str(e)
  with pytest.raises(ValueError, match=r'nested too deep|must be'):
    read(tmp_path / 'r', fields=dict(problem='x'))


@pytest.mark.parametrize(
  'row, changes, message',
  [
    (
      dict(tokens='many'),
      dict(keep=('tokens',)),
      ':1: tokens must be a number',
    ),
    (dict(tokens=1e999), dict(keep=('tokens',)), ':1: tokens must be a number'),
    (dict(right=1.5), dict(keep=('right',)), ':1: right must be a whole'),
    (dict(flags=[1, None]), dict(keep=('flags',)), ':1: flags must be a list'),
    (dict(x=[float('nan')]), dict(keep=('x',)), ':1: x holds a number that'),
    (
      dict(difficulty=float('inf')),
      dict(fields=dict(difficulty='difficulty')),
      ':1: difficulty must be a finite number',
    ),
    (dict(id='a' * 199), dict(prefix='p-'), ':1: id must be at most 200'),
  ],
)
def test_what_training_or_a_file_cannot_hold_is_one_line(
  tmp_path, row, changes, message
):
  with pytest.raises(ValueError, match=message) as e:
    of(tmp_path, ROWS[0] | row, **changes)
  assert '\n' not in str(e.value)


def test_two_files_of_one_name_have_two_digests(tmp_path):
  paths = []
  for i, name in enumerate(('3-x', 'x', 'x')):
    (tmp_path / f'{i}').mkdir()
    paths.append(write(tmp_path / f'{i}' / name, [ROWS[i]]))
  found = inputs.read(plan.Input('mine', tuple(paths)))
  assert found.files.keys() == {'3-x', 'x', '2-x'}


def test_a_difficulty_beyond_all_numbers_is_unknown(tmp_path):
  path = tmp_path / 'r'
  path.write_text('{"problem": "One?", "answer": "1", "difficulty": 1e999}')
  assert read(path).rows[0].difficulty is None


def test_two_inputs_may_not_share_an_id(tmp_path):
  one = plan.Input('one', (write(tmp_path / 'p', ROWS),))
  two = plan.Input('two', (write(tmp_path / 'q', ROWS[1:]),))
  with pytest.raises(ValueError, match="'b' is in one and in two; give one"):
    inputs.joined([one, two])
  found = inputs.joined([one, two._replace(prefix='two-')])
  assert [r.id for r in found['two'].rows] == ['two-b', 'two-c']


def test_the_order_of_files_and_lines_decides_nothing(tmp_path):
  rows = [dict(problem=f'{i}?', answer=f'{i}') for i in range(50)]
  parts = [rows[:20], rows[20:]]
  found = []
  for seed in range(3):
    source = random.Random(seed)
    paths = [
      write(tmp_path / f'{seed}-{i}', source.sample(part, len(part)))
      for i, part in enumerate(source.sample(parts, 2))
    ]
    found.append(inputs.read(plan.Input('mine', tuple(paths))).rows)
  assert found[0] == found[1] == found[2] and len(found[0]) == 50


def benchmark(path, **changes):
  return items.read(plan.Benchmark('b', (str(path),), **changes))


def test_benchmarks(tmp_path):
  rows = [dict(id=i, question=f'What is {i}?', answer='-') for i in range(6)]
  path = write(tmp_path / 'b', rows)
  found = benchmark(path)
  assert [(i.id, i.text) for i in found.items[:2]] == [
    ('0', 'What is 0?'),
    ('1', 'What is 1?'),
  ]
  assert [i.id for i in benchmark(path, id='none').items] == list('123456')
  rows = [dict(body=row['question'], question='-') for row in rows]
  path = write(tmp_path / 'b', rows)
  assert benchmark(path, field='body').items[5].text == 'What is 5?'
  turns = [[dict(role='user', content=row['body'])] for row in rows]
  said = write(tmp_path / 'b', [dict(prompt=turn) for turn in turns])
  assert benchmark(said).items[5].text == 'What is 5?'
  path = write(tmp_path / 'b', [dict(statement=row['body']) for row in rows])
  assert benchmark(path).items[5].text == 'What is 5?'
  twice = {'x': found.items, 'y': benchmark(path).items}
  assert [i.benchmark for i in items.distinct(twice)] == ['b'] * 6


@pytest.mark.parametrize(
  'rows, message',
  [
    ([], '0 of 0 problems hold a word or a number'),
    ([dict(problem=f'{i}?') for i in range(4)], '4 of 4 problems'),
    ([dict(problem='+ = $')] * 9, '0 of 9 problems'),
    ([dict(text='x')] * 9, "no column 'prompt', 'problem', 'question', "),
    ([dict(problem=None)] * 9, 'problem must be text'),
  ],
)
def test_a_bad_benchmark_is_one_line(tmp_path, rows, message):
  with pytest.raises(ValueError, match=message) as e:
    benchmark(write(tmp_path / 'b', rows))
  assert '\n' not in str(e.value)


def test_long_lines_are_read_in_linear_time(tmp_path):
  """A guard against loops over characters: a file of 16 MiB."""
  rows = [
    dict(id=f'{i}', problem=f'{i}' + '(' * (1 << 19), answer='1' * (1 << 21))
    for i in range(6)
  ]
  start = time.process_time()
  assert len(of(tmp_path, *rows).rows) == 6
  assert time.process_time() - start < 10
