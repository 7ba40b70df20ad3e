import collections
import hashlib
import itertools
import json
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax import types
from acereason_jax.data import sources


def write_lines(path, *records):
  lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
  path.write_text('\n'.join(lines) + '\n')
  return path


def sums(split, count=64, seed=0):
  return sources.arithmetic(
    split=split, count=count, seed=seed, largest=20, held_out=64
  )


def pair_of(row):
  _, a, b = row.id.split('-')
  assert row.question == f'What is {a} + {b}?'
  assert row.answer == str(int(a) + int(b))
  return frozenset((int(a), int(b)))


def char_tokens(tokenizer, chats):
  assert tokenizer == 'tokenizer'
  texts = [
    ''.join(f'<{m["role"]}>{m["content"]}' for m in chat) for chat in chats
  ]
  return [np.array([ord(c) for c in text], np.int64) for text in texts]


def some_prompts(n):
  tokens = np.zeros(3, np.int32)
  return [types.Prompt(f'p{i}', '', '', tokens) for i in range(n)]


def ids(batch):
  return [prompt.id for prompt in batch]


def test_jsonl_reads_both_field_names_and_keeps_numbers_as_written(tmp_path):
  path = write_lines(
    tmp_path / 'a.jsonl',
    {'id': 'x', 'prompt': '1+1?', 'answer': '2', 'other': [1]},
    '',
    '{"problem": "π?", "answer": 3.140}',
  )
  digest = hashlib.sha256('π?'.encode()).hexdigest()[:16]
  assert sources.jsonl(path) == [
    sources.Row('x', '1+1?', '2'),
    sources.Row(digest, 'π?', '3.140'),
  ]


def test_a_difficulty_is_a_number_or_nothing(tmp_path):
  row = {'problem': 'a?', 'answer': '1', 'id': 'a'}
  given = [5, 5.5, -1e-3, '7', 0, None]
  records = [
    {**row, 'id': f'{i}', 'difficulty': d} for i, d in enumerate(given)
  ]
  rows = sources.jsonl(write_lines(tmp_path / 'a.jsonl', *records, row))
  assert [r.difficulty for r in rows] == [5.0, 5.5, -1e-3, 7.0, 0.0, None, None]
  assert all(isinstance(r.difficulty, float) for r in rows[:5])
  prompts, _ = sources.to_prompts(
    rows,
    'tokenizer',
    chats_tokens=char_tokens,
    system=None,
    examples=[],
    suffix='',
    max_tokens=99,
  )
  assert [p.difficulty for p in prompts] == [r.difficulty for r in rows]
  for column in ([5, None], [5.0, None], ['5', None]):
    table = pyarrow.table(
      {'problem': ['a', 'b'], 'answer': ['1', '2'], 'difficulty': column}
    )
    path = tmp_path / 'a.parquet'
    pyarrow.parquet.write_table(table, path)
    assert [r.difficulty for r in sources.parquet(path)] == [5.0, None]
  clash = [{**row, 'difficulty': 1}, {**row, 'difficulty': 2}]
  with pytest.raises(ValueError, match='another question, answer or difficu'):
    sources.jsonl(write_lines(tmp_path / 'b.jsonl', *clash))


def test_the_digest_of_rows_without_difficulty_is_what_it_was():
  """Else no run that began earlier could go on."""
  rows = [sources.Row('a', 'q', '1'), sources.Row('π', '"\n', '')]
  digest = '62c4735e7dbe9d4a59255f855830fee2e1b9a3b9c7fa5750a78d21dbfcf9fa79'
  assert sources.digest(rows) == digest
  others = [
    [sources.Row('a', 'q', '1', d), rows[1]] for d in (0.0, 1.0, 2.0)
  ] + [[rows[0], sources.Row('π', '"\n', '', 1.0)]]
  assert len({digest, *map(sources.digest, others)}) == 5


@pytest.mark.parametrize(
  'line, words',
  [
    ('{"prompt": "a", "answer"', 'not one JSON object'),
    ('[' * 100_000, 'nested too deep'),
    ('[1]', 'expected an object'),
    ('{"query": "a", "answer": "1"}', "exactly one of 'prompt'"),
    ('{"prompt": "a", "problem": "b", "answer": "1"}', 'exactly one'),
    ('{"prompt": "a"}', "exactly one of 'answer'.* it has: 'prompt'"),
    ('{"prompt": "a", "answer": null}', 'answer must be text'),
    ('{"prompt": "a", "answer": true}', 'answer must be text'),
    ('{"prompt": "a", "answer": NaN}', 'answer must be text'),
    ('{"prompt": " ", "answer": "1"}', 'prompt must be text'),
    (
      '{"prompt": "a", "answer": "1", "difficulty": "hard"}',
      'difficulty must be',
    ),
    (
      '{"prompt": "a", "answer": "1", "difficulty": true}',
      'difficulty must be',
    ),
    ('{"prompt": "a", "answer": "1", "difficulty": [5]}', 'difficulty must be'),
    ('{"prompt": "a", "answer": "1", "difficulty": NaN}', 'difficulty must be'),
    (
      '{"prompt": "a", "answer": "1", "difficulty": 1e999}',
      'difficulty must be',
    ),
    (
      '{"prompt": "a", "answer": "1", "difficulty": "5_0"}',
      'difficulty must be',
    ),
    (
      '{"prompt": "a", "answer": "1", "difficulty": " 5"}',
      'difficulty must be',
    ),
    ('{"prompt": "a", "answer": "1", "difficulty": ""}', 'difficulty must be'),
    ('{"prompt": "\\ud800", "answer": "1"}', 'not valid Unicode'),
    ('{"prompt": "a", "answer": "1", "id": "\\u001b[2J"}', 'id must be'),
    ('{"prompt": "%s", "answer": "1"}' % ('a' * 1_100_000), 'characters'),
  ],
)
def test_a_bad_line_is_one_line_naming_file_and_line(tmp_path, line, words):
  good = {'prompt': 'ok?', 'answer': '1'}
  path = write_lines(tmp_path / 'a.jsonl', good, line)
  with pytest.raises(ValueError, match=words) as e:
    sources.jsonl(path)
  message = str(e.value)
  assert message.startswith(f'{path}:2: ')
  assert '\n' not in message and message.isprintable() and len(message) < 500


def test_bytes_that_are_not_text_are_named(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"prompt": "\xff", "answer": "1"}\n')
  with pytest.raises(ValueError, match=r'a\.jsonl:1: .*byte 13 is not utf-8'):
    sources.jsonl(path)


def test_repeats_are_dropped_and_counted_but_contradictions_raise(
  tmp_path, caplog
):
  row = {'prompt': 'a?', 'answer': '1'}
  path = write_lines(tmp_path / 'a.jsonl', row, row, row)
  assert len(sources.jsonl(path)) == 1
  assert 'dropped 2 repeated rows' in caplog.text
  path = write_lines(tmp_path / 'b.jsonl', row, {**row, 'answer': '2'})
  with pytest.raises(ValueError, match=r'b\.jsonl:1 and .*b\.jsonl:2'):
    sources.jsonl(path)


def test_an_empty_file_is_named(tmp_path):
  path = write_lines(tmp_path / 'empty.jsonl')
  with pytest.raises(ValueError, match=r'empty\.jsonl: holds no rows'):
    sources.jsonl(path)


def test_parquet_gives_the_rows_of_the_same_jsonl(tmp_path):
  records = [
    {'problem': f'{i}?', 'answer': str(i), 'extra': 0} for i in range(600)
  ]
  path = tmp_path / 'a.parquet'
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
  lines = write_lines(tmp_path / 'a.jsonl', *records)
  assert sources.parquet(path) == sources.jsonl(lines)


def test_a_file_is_read_as_what_it_is(tmp_path):
  lines = write_lines(tmp_path / 'a', dict(id='x', problem='p', answer='1'))
  table = pyarrow.table(dict(id=['x'], problem=['p'], answer=['1']))
  pyarrow.parquet.write_table(table, tmp_path / 'b')
  assert sources.file(lines) == sources.file(tmp_path / 'b')
  assert sources.file(lines) == sources.jsonl(lines)
  (tmp_path / 'c').write_bytes(b'PAR1 and no more')
  with pytest.raises(ValueError, match='not readable as Parquet'):
    sources.file(tmp_path / 'c')


def test_a_bad_parquet_row_or_file_is_named(tmp_path):
  path = tmp_path / 'a.parquet'
  table = pyarrow.table({'problem': ['a', 'b'], 'answer': ['1', None]})
  pyarrow.parquet.write_table(table, path)
  with pytest.raises(ValueError, match=r'a\.parquet:2: answer must be text'):
    sources.parquet(path)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r'a\.parquet: not readable') as e:
    sources.parquet(path)
  assert '\n' not in str(e.value)


def test_no_held_out_pair_is_in_train_whatever_the_seeds():
  train = {pair_of(row) for row in sums('train', count=300, seed=1)}
  held_out = {pair_of(row) for row in sums('heldout', count=100, seed=2)}
  assert len(train) > 150 and len(held_out) > 50
  assert not train & held_out


def test_the_splits_together_are_all_sums_once():
  spare = 21 * 21
  with pytest.raises(ValueError, match='ask for 1 to') as e:
    sums('train', count=spare)
  n_train = int(str(e.value).rsplit(' ', 1)[1])
  rows = sums('train', n_train) + sums('heldout', spare - n_train)
  assert len({row.id for row in rows}) == spare
  with pytest.raises(ValueError, match='ask for 1 to'):
    sums('heldout', spare - n_train + 1)


def test_seed_orders_the_sums_and_nothing_else_does():
  assert sums('train', seed=3) == sums('train', seed=3)
  assert sums('train', 20, seed=3) == sums('train', 64, seed=3)[:20]
  n = 300
  assert sums('train', n, seed=3) != sums('train', n, seed=4)
  with pytest.raises(ValueError, match="split='test'"):
    sums('test')


# How the questions of `programs` are read here.
PHRASES = (
  (r'the remainder of (.+) divided by (\d+)', '{} % {}'),
  (r'the larger of (.+) and (\d+)', 'max({}, {})'),
  (r'the smaller of (.+) and (\d+)', 'min({}, {})'),
  (r'(.+) plus (\d+)', '{} + {}'),
  (r'(.+) minus (\d+)', '{} - {}'),
  (r'(.+) times (\d+)', '{} * {}'),
)


def programs(split, operations=1, count=48, seed=0, largest=40, held_out=0.25):
  return sources.programs(
    split=split,
    count=count,
    seed=seed,
    operations=operations,
    largest=largest,
    held_out=held_out,
  )


def all_programs(split, operations, **kwargs):
  with pytest.raises(ValueError, match='ask for 1 to') as e:
    programs(split, operations, count=10**6, **kwargs)
  count = int(str(e.value).rsplit(' ', 1)[1])
  return programs(split, operations, count=count, **kwargs)


def python_of(asked):
  """The requested function, read here, as a Python expression of x."""
  for pattern, expression in PHRASES:
    if match := re.fullmatch(pattern, asked):
      inner = match[1]
      if inner.startswith('('):
        inner = f'({python_of(inner[1:-1])})'
      return expression.format(inner, match[2])
  raise AssertionError(asked)


def function_of(row):
  match = re.fullmatch(
    r'Write a Python function f\(x\) that returns (.+)\.', row.question
  )
  return eval(f'lambda x: {python_of(match[1])}')


def test_programs_ask_in_words_for_what_the_tests_expect():
  asked = {
    row.id: row.question
    for operations in (1, 2)
    for split in ('train', 'heldout')
    for row in all_programs(split, operations)
  }
  start = 'Write a Python function f(x) that returns '
  assert asked['program-plus-7'] == f'{start}x plus 7.'
  assert asked['program-minus-3-larger-8'] == (
    f'{start}the larger of (x minus 3) and 8.'
  )
  for row in programs('train', count=150) + programs('heldout', 2, count=500):
    task, f = json.loads(row.answer), function_of(row)
    assert (task['kind'], task['fn']) == ('call', 'f')
    assert len(task['tests']) >= 6
    for test in task['tests']:
      assert test['expected'] == f(*test['args'])


def test_the_tests_of_programs_tell_every_two_functions_apart():
  same = collections.defaultdict(list)
  for operations, split in itertools.product((1, 2), ('train', 'heldout')):
    for row in all_programs(split, operations, largest=50):
      same[row.answer].append((split, row))
  assert len(same) > 25_000
  shared = [rows for rows in same.values() if len(rows) > 1]
  assert len(shared) > 500
  for rows in shared:
    # Two ways to ask for one function, and both in one split.
    assert len({split for split, _ in rows}) == 1
    least = 0 if 'remainder' in rows[0][1].id else -300
    results = {
      tuple(map(function_of(row), range(least, 300))) for _, row in rows
    }
    assert len(results) == 1, rows


def test_no_held_out_program_is_in_train_whatever_else_is_asked_for():
  train = all_programs('train', 1, seed=1, largest=40)
  held_out = all_programs('heldout', 1, seed=2, largest=40)
  assert len(train) >= 150 and len(held_out) >= 48
  assert len({row.id for row in train + held_out}) == 6 * 39
  asked = [
    {
      row.answer
      for operations in (1, 2)
      for row in all_programs(split, operations, seed=seed, largest=largest)
    }
    for split, seed, largest in (('train', 1, 30), ('heldout', 2, 50))
  ]
  assert not asked[0] & asked[1]


def test_seed_orders_the_programs_and_nothing_else_does():
  assert programs('train', seed=3) == programs('train', seed=3)
  assert programs('train', count=20) == programs('train', count=48)[:20]
  one, other = (all_programs('train', 1, seed=seed) for seed in (3, 4))
  assert one != other and set(one) == set(other)


@pytest.mark.parametrize(
  'changed, words',
  [
    (dict(split='test'), "split='test': expected 'train' or 'heldout'"),
    (dict(operations=3), 'operations=3: expected 1 or 2'),
    (dict(largest=1), 'largest=1: expected 2 to 50'),
    (dict(largest=51), 'largest=51: expected 2 to 50'),
    (dict(held_out=1.5), 'held_out=1.5: expected a share'),
    (dict(held_out=float('nan')), 'held_out=nan: expected a share'),
    (dict(count=0), 'count=0: .* ask for 1 to'),
    (dict(held_out=1), 'has 0 programs'),
  ],
)
def test_programs_refuse_a_bad_argument_in_one_line(changed, words):
  with pytest.raises(ValueError, match=words) as e:
    programs(**dict(split='train') | changed)
  assert '\n' not in str(e.value)


def test_prompt_is_system_examples_question_suffix():
  rows = [sources.Row('r', 'Q', '7')]
  settings = {'chats_tokens': char_tokens, 'suffix': '!', 'max_tokens': 99}
  prompts, dropped = sources.to_prompts(
    rows, 'tokenizer', system='S', examples=[('u', 'a')], **settings
  )
  text = ''.join(map(chr, prompts[0].tokens))
  assert text == '<system>S<user>u<assistant>a<user>Q!'
  assert prompts[0].tokens.dtype == np.int32
  assert (prompts[0].id, prompts[0].question) == ('r', 'Q')
  assert prompts[0].answer == '7' and dropped == []
  prompts, _ = sources.to_prompts(
    rows, 'tokenizer', system=None, examples=[], **settings
  )
  assert ''.join(map(chr, prompts[0].tokens)) == '<user>Q!'


def test_a_prompt_that_is_too_long_is_dropped_and_named():
  rows = [sources.Row('fits', '1234', '1'), sources.Row('long', '12345', '1')]
  settings = {
    'chats_tokens': char_tokens,
    'system': None,
    'examples': [],
    'suffix': '',
  }
  prompts, dropped = sources.to_prompts(
    rows, 'tokenizer', max_tokens=10, **settings
  )
  assert ids(prompts) == ['fits'] and dropped == ['long']
  with pytest.raises(ValueError, match=r'all 2 prompts .* max_tokens=9;'):
    sources.to_prompts(rows, 'tokenizer', max_tokens=9, **settings)


def test_sources_joined():
  one = dict(fn='acereason_jax.data.sources:programs', split='train', count=3)
  one |= dict(seed=0, largest=9, held_out=0.25)
  parts = [one | dict(operations=1), one | dict(operations=2)]
  rows = sources.joined(parts)
  assert [row.difficulty for row in rows] == [1, 1, 1, 2, 2, 2]
  assert rows[3:] == sources.programs(
    split='train', count=3, seed=0, operations=2, largest=9, held_out=0.25
  )
  with pytest.raises(ValueError, match="2 rows have the id 'program-"):
    sources.joined([parts[0], parts[0]])
  with pytest.raises(ValueError, match=r'sources\[1\]'):
    sources.joined([parts[0], dict(fn='acereason_jax.data.sources:jsonl')])
