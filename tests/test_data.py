import hashlib
import json

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


def char_tokens(tokenizer, messages):
  assert tokenizer == 'tokenizer'
  text = ''.join(f'<{m["role"]}>{m["content"]}' for m in messages)
  return np.array([ord(c) for c in text], np.int64)


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


@pytest.mark.parametrize(
  'line, words',
  [
    ('{"prompt": "a", "answer"', 'not one JSON object'),
    ('[' * 100_000, 'not one JSON object'),
    ('[1]', 'expected an object'),
    ('{"question": "a", "answer": "1"}', "exactly one of 'prompt'"),
    ('{"prompt": "a", "problem": "b", "answer": "1"}', 'exactly one'),
    ('{"prompt": "a"}', "has no 'answer'"),
    ('{"prompt": "a", "answer": null}', 'answer must be text'),
    ('{"prompt": "a", "answer": true}', 'answer must be text'),
    ('{"prompt": "a", "answer": NaN}', 'answer must be text'),
    ('{"prompt": " ", "answer": "1"}', 'prompt must be text'),
    ('{"prompt": "\\ud800", "answer": "1"}', 'not valid Unicode'),
    ('{"prompt": "a", "answer": "1", "id": "\\u001b[2J"}', 'id must be'),
    ('{"prompt": "%s", "answer": "1"}' % ('a' * 1_100_000), 'characters'),
    ('{"prompt": "%s", "answer": "1"}' % ('a' * 5_000_000), 'longer than'),
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
  with pytest.raises(ValueError, match=r'a\.jsonl:1: .*utf-8'):
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


def test_prompt_is_system_examples_question_suffix():
  rows = [sources.Row('r', 'Q', '7')]
  settings = {'chat_tokens': char_tokens, 'suffix': '!', 'max_tokens': 99}
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
    'chat_tokens': char_tokens,
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


def test_every_epoch_holds_each_prompt_once_in_another_order():
  it = sources.batches(some_prompts(12), batch_size=4, seed=0)
  epochs = []
  for _ in range(3):
    epochs.append(ids(next(it)) + ids(next(it)) + ids(next(it)))
  for epoch in epochs:
    assert sorted(epoch) == sorted(ids(some_prompts(12)))
  assert epochs[0] != epochs[1] != epochs[2]
  again = sources.batches(some_prompts(12), batch_size=4, seed=0)
  assert ids(next(again)) == epochs[0][:4]
  other = sources.batches(some_prompts(12), batch_size=12, seed=1)
  assert ids(next(other)) != epochs[0]


@pytest.mark.parametrize('n, batch_size', [(10, 4), (3, 8), (1, 2)])
def test_state_resumes_with_the_very_next_prompt(n, batch_size):
  prompts = some_prompts(n)
  it = sources.batches(prompts, batch_size=batch_size, seed=5)
  for _ in range(4):
    assert len(next(it)) == batch_size
  state = json.loads(json.dumps(it.get_state()))
  assert state == {'next_index': 4 * batch_size}
  expected = [ids(next(it)) for _ in range(5)]
  resumed = sources.batches(prompts, batch_size=batch_size, seed=5)
  resumed.set_state(state)
  assert [ids(next(resumed)) for _ in range(5)] == expected
