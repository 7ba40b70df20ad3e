"""Data files of other people: their forms, and what they can do wrong."""

import datetime
import decimal
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny

from acereason_jax.data import parquet_rows, questions, sources


def write_lines(path, *rows):
  lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
  path.write_text('\n'.join(lines) + '\n')
  return path


def write_table(path, columns, **options):
  table = pyarrow.table(columns)
  pyarrow.parquet.write_table(table, path, **options)
  return path


def refused(read, path, words):
  with pytest.raises(ValueError, match=words) as e:
    read(path)
  message = str(e.value)
  assert message.startswith(str(path))
  assert message.isprintable() and len(message) < 700
  return message


def asked(role, text):
  return {'role': role, 'content': text}


# Rows as in public data sets, each with its meaning.
FORMS = {
  'AceReason-Math': ({'problem': 'q?', 'answer': '5'}, ('q?', '5')),
  'DeepScaleR': (
    {'problem': 'q?', 'answer': '5', 'solution': 'it is 5'},
    ('q?', '5'),
  ),
  'DAPO and verl': (
    {
      'data_source': 'somewhere',
      'prompt': [asked('user', 'q?')],
      'ability': 'math',
      'reward_model': {'ground_truth': '34', 'style': 'rule'},
      'extra_info': {'index': 7},
    },
    ('q?', '34'),
  ),
  'verl, answers as lists': (
    {
      'prompt': [asked('user', 'q?')],
      'reward_model': {'style': 'rule', 'ground_truth': ['72']},
    },
    ('q?', '72'),
  ),
  'verl with a system turn': (
    {
      'prompt': [asked('system', 'Think.'), asked('user', 'q?')],
      'reward_model': {'ground_truth': '1'},
    },
    ('q?', '1', 'Think.'),
  ),
  'Open-Reasoner-Zero': (
    {'prompt': [{'from': 'human', 'value': 'q?'}], 'final_answer': '5'},
    ('q?', '5'),
  ),
  'its evaluation': (
    {'prompt': [{'from': 'user', 'value': 'q?'}], 'final_answer': '\\pi'},
    ('q?', '\\pi'),
  ),
  'capitals': ({'Problem': 'q?', 'Answer': '5'}, ('q?', '5')),
  'GSM8K': ({'question': 'q?', 'answer': 'so\n#### 5'}, ('q?', '5')),
  'Skywork-OR1, math': (
    {
      'prompt': [asked('user', 'q?')],
      'reward_model': {'ground_truth': '["5"]', 'style': 'rule'},
    },
    ('q?', '5'),
  ),
  'NeMo': ({'problem': 'q?', 'expected_answer': '5'}, ('q?', '5')),
  'flat verl': ({'question': 'q?', 'ground_truth': '5'}, ('q?', '5')),
  'fields that agree': (
    {'answer': '5', 'Answer': '5', 'problem': 'q?', 'question': 'q?'},
    ('q?', '5'),
  ),
  'a null beside an answer': (
    {'problem': 'q?', 'answer': None, 'reward_model': {'ground_truth': '5'}},
    ('q?', '5'),
  ),
  'messages with fields of others': (
    {'prompt': [{**asked('user', 'q?'), 'tool_calls': None}], 'answer': '5'},
    ('q?', '5'),
  ),
}


@pytest.mark.parametrize('name', FORMS)
def test_forms_of_rows_load_as_lines_and_as_parquet(tmp_path, name):
  record, (question, answer, *system) = FORMS[name]
  rows = sources.jsonl(write_lines(tmp_path / 'a.jsonl', record))
  (row,) = rows
  assert (row.question, row.answer) == (question, answer)
  assert row.system == (system[0] if system else None)
  table = pyarrow.Table.from_pylist([record])
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  assert sources.parquet(tmp_path / 'a.parquet') == rows


@pytest.mark.parametrize(
  'record, words',
  [
    (dict(problem='q', answer='1', Answer='2'), "'answer' and 'Answer' differ"),
    (dict(problem='q', question='p', answer='1'), "'question' differ"),
    (
      dict(problem='q', answer='1', reward_model=dict(ground_truth='2')),
      "'answer' and 'reward_model.ground_truth' differ",
    ),
    (dict(problem='q', solution='so 5'), "a 'solution' is not read"),
    (dict(problem='q', reward_model='5'), 'reward_model must be an object'),
    (dict(problem='q', reward_model=dict(style='rule')), "'ground_truth'"),
    (dict(problem='q', answer=['1', '2']), 'answer must be text'),
    (dict(problem='q', answer={'kind': 'call'}), 'answer must be text'),
    (dict(prompt=[], answer='1'), 'has the turns none'),
    (dict(prompt=[asked('system', 's')], answer='1'), "turns 'system'"),
    (
      dict(prompt=[asked('user', 'a'), asked('assistant', 'b')], answer='1'),
      "'user', 'assistant'; expected one of the user",
    ),
    (
      dict(prompt=[asked('user', 'a'), asked('user', 'b')], answer='1'),
      "'user', 'user'; expected one of the user",
    ),
    (
      dict(prompt=[asked('user', 'a'), asked('system', 's')], answer='1'),
      "'user', 'system'; expected one of the user",
    ),
    (dict(prompt=['a'], answer='1'), r'prompt\[0\] must be an object of'),
    (dict(prompt=[{'role': 'user'}], answer='1'), r'prompt\[0\] must be'),
    (
      dict(prompt=[asked('user', [{'text': 'a'}])], answer='1'),
      r'prompt\[0\] must be text',
    ),
    (
      dict(prompt=[{**asked('user', 'a'), 'images': ['x']}], answer='1'),
      r'prompt\[0\] must be an object of',
    ),
    (dict(problem='a\0b', answer='1'), 'problem holds a NUL'),
    (dict(problem='a', answer='1\0'), 'answer holds a NUL'),
  ],
)
def test_rows_of_which_no_one_knows_what_they_mean(tmp_path, record, words):
  path = write_lines(
    tmp_path / 'a.jsonl', dict(problem='q', answer='1'), record
  )
  assert refused(sources.jsonl, path, words).startswith(f'{path}:2: ')


def prompts_of(rows, system):
  said = []

  def tokens(tokenizer, chats):
    said.extend([(m['role'], m['content']) for m in chat] for chat in chats)
    return [np.zeros(3, np.int32)] * len(chats)

  sources.to_prompts(
    rows,
    'tokenizer',
    chats_tokens=tokens,
    system=system,
    examples=[('u', 'a')],
    suffix='!',
    max_tokens=9,
  )
  return said


def test_the_system_turn_of_a_row_is_the_prompts():
  own = sources.Row('r', 'q', '1', system='S')
  after = [('user', 'u'), ('assistant', 'a'), ('user', 'q!')]
  for system in (None, 'S'):
    assert prompts_of([own], system) == [[('system', 'S'), *after]]
  empty = sources.Row('r', 'q', '1', system='')
  assert prompts_of([empty], None) == [[('system', ''), *after]]
  assert prompts_of([sources.Row('r', 'q', '1')], None) == [after]
  with pytest.raises(ValueError, match=r"id 'r': has a system turn .*'S', and"):
    prompts_of([own], 'T')
  digests = {sources.digest([row]) for row in (own, empty)}
  assert len(digests | {sources.digest([sources.Row('r', 'q', '1')])}) == 3


def test_rows_that_differ_in_the_system_turn_alone_are_two(tmp_path):
  rows = [
    dict(prompt=[asked('system', s), asked('user', 'q')], answer='1')
    for s in 'ab'
  ]
  found = sources.jsonl(write_lines(tmp_path / 'a.jsonl', *rows))
  assert len({row.id for row in found}) == 2


@pytest.mark.parametrize(
  'values, texts',
  [
    (pyarrow.array([0.1, 1 / 3], pyarrow.float32()), ['0.1', '0.33333334']),
    (pyarrow.array([0.1, 2.5], pyarrow.float16()), ['0.1', '2.5']),
    (pyarrow.array([1e-7, 5.0], pyarrow.float32()), ['1e-07', '5.0']),
    (pyarrow.array([0.1, 5.0], pyarrow.float64()), ['0.1', '5.0']),
    (pyarrow.array([16777216, 3], pyarrow.float32()), ['16777216.0', '3.0']),
    (
      pyarrow.array([decimal.Decimal(x) for x in ('1.50', '-0.01')]),
      ['1.50', '-0.01'],
    ),
    (pyarrow.array([2**63 - 1, -3], pyarrow.int64()), [str(2**63 - 1), '-3']),
    (pyarrow.array([2**64 - 1, 3], pyarrow.uint64()), [str(2**64 - 1), '3']),
    (pyarrow.array(['1.50', '2']).dictionary_encode(), ['1.50', '2']),
    (pyarrow.array(['1.50', '2'], pyarrow.large_string()), ['1.50', '2']),
    (pyarrow.array([b'1.50', b'2'], pyarrow.binary()), ['1.50', '2']),
  ],
  ids=lambda value: str(getattr(value, 'type', '')),
)
def test_a_number_of_a_column_keeps_its_text(tmp_path, values, texts):
  path = write_table(
    tmp_path / 'a.parquet', dict(problem=list('ab'), answer=values)
  )
  assert [row.answer for row in sources.parquet(path)] == texts
  if isinstance(values, pyarrow.DictionaryArray):
    values = values.dictionary_decode()
  nested = pyarrow.StructArray.from_arrays([values], ['ground_truth'])
  path = write_table(
    tmp_path / 'b.parquet', dict(problem=list('ab'), reward_model=nested)
  )
  assert [row.answer for row in sources.parquet(path)] == texts


@pytest.mark.parametrize(
  'value, words',
  [
    (True, 'answer must be text, got True'),
    (float('nan'), 'answer must be text, got nan'),
    (pyarrow.scalar(float('-inf'), pyarrow.float32()), 'text, got -inf'),
    (
      datetime.date(2020, 1, 1),
      r'type date32\[day\]; expected text or numbers',
    ),
    (b'\xff', "can't decode byte"),
    (None, 'answer must be text, got None'),
  ],
)
def test_a_column_that_is_no_answer(tmp_path, value, words):
  if isinstance(value, pyarrow.Scalar):
    values = pyarrow.array([value.as_py()], value.type)
  else:
    values = pyarrow.array([value])
  path = write_table(tmp_path / 'a.parquet', dict(problem=['a'], answer=values))
  refused(sources.parquet, path, words)


def test_a_parquet_file_without_the_columns_names_those_it_has(tmp_path):
  path = write_table(tmp_path / 'a.parquet', dict(Query=['a'], Answer=['1']))
  message = refused(sources.parquet, path, 'has no column for the question')
  assert "it has: 'Query', 'Answer'" in message
  path = write_table(tmp_path / 'b.parquet', dict(Problem=['a'], Key=['1']))
  message = refused(sources.parquet, path, 'has no column for the answer')
  assert "it has: 'Problem', 'Key'" in message
  many = {f'column {i} \x1b[2J': [1] for i in range(3000)}
  path = write_table(tmp_path / 'c.parquet', many)
  assert '(3,000)' in refused(sources.parquet, path, 'it has: ')
  path = write_table(tmp_path / 'd.parquet', {})
  refused(sources.parquet, path, 'it has: none')


# Files that unpack to far more than they hold.


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path):
  """A million references to one text: its metadata tell of that one."""
  rows = 1_000_000
  repeat = lambda text: pyarrow.DictionaryArray.from_arrays(
    np.zeros(rows, np.int32), pyarrow.array([text])
  )
  columns = dict(problem=repeat('x' * 20_000), answer=repeat('1'))
  path = write_table(tmp_path / 'a.parquet', columns, store_schema=False)
  assert path.stat().st_size < 51_000
  refused(sources.parquet, path, 'unpacks to more than 4,294,967,296 bytes')


def test_a_row_that_is_larger_than_any_task(tmp_path):
  columns = dict(problem=['a'], answer=['x' * 140_000_000])
  path = write_table(tmp_path / 'a.parquet', columns, compression='zstd')
  assert path.stat().st_size < 51_000
  words = r'a\.parquet:1: longer than 134,217,728 characters'
  refused(sources.parquet, path, words)


def test_more_rows_than_any_data_set_has(tmp_path):
  nulls = pyarrow.nulls(parquet_rows.MAX_ROWS + 1, pyarrow.string())
  path = write_table(tmp_path / 'a.parquet', dict(problem=nulls, answer=nulls))
  refused(sources.parquet, path, '10,000,001 rows, more than 10,000,000')


@pytest.mark.parametrize('limit', ['MAX_BYTES', 'MAX_ROWS'])
def test_metadata_that_lie_are_found_out(tmp_path, monkeypatch, limit):
  path = write_table(
    tmp_path / 'a.parquet', dict(problem=list('abcd'), answer=list('1234'))
  )
  with pyarrow.parquet.ParquetFile(path) as file:
    columns = ['problem', 'answer']
    parquet_rows._check_sizes(file, columns)
    monkeypatch.setattr(parquet_rows, limit, 3)
    monkeypatch.setattr(parquet_rows, '_stored_bytes', lambda *_: 0)

    class Lying:
      """The file, with another number of rows."""

      class metadata:
        num_rows = 1
        num_row_groups = file.metadata.num_row_groups

      iter_batches = file.iter_batches

    with pytest.raises(parquet_rows.Refused, match='more than 3'):
      parquet_rows._check_sizes(Lying, columns)


def test_a_reader_that_dies_is_a_line(tmp_path, monkeypatch):
  path = write_table(tmp_path / 'a.parquet', dict(problem=['a'], answer=['1']))
  monkeypatch.setattr(parquet_rows, '_NAME', 'killed_reader')
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  reader = tmp_path / 'killed_reader.py'
  reader.write_text('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)')
  refused(sources.parquet, path, 'not readable as Parquet: .* by SIGSEGV')
  reader.write_text('1 / 0')
  with pytest.raises(RuntimeError, match='ZeroDivisionError'):
    sources.parquet(path)


def test_a_damaged_page_is_a_line(tmp_path):
  rows = [f'{i} what is this?' for i in range(5000)]
  path = write_table(
    tmp_path / 'a.parquet',
    dict(problem=rows, answer=rows),
    compression='zstd',
    use_dictionary=False,
  )
  data = bytearray(path.read_bytes())
  data[200:1200] = bytes(1000)
  path.write_bytes(data)
  refused(sources.parquet, path, 'not readable as Parquet')


def test_what_is_no_file(tmp_path):
  pipe, link = tmp_path / 'pipe', tmp_path / 'link'
  os.mkfifo(pipe)
  link.symlink_to(tmp_path / 'nothing')
  loop = tmp_path / 'loop'
  loop.symlink_to(loop)
  door = socket.socket(socket.AF_UNIX)
  here = os.getcwd()
  os.chdir(tmp_path)  # A socket's path is short.
  door.bind('socket')
  os.chdir(here)
  expected = {
    pipe: 'a pipe; expected a file',
    link: 'a link to .*nothing.*, which is not there',
    loop: 'cannot be read: Too many levels',
    tmp_path: 'a directory; expected a file',
    tmp_path / 'socket': 'a socket; expected a file',
    tmp_path / 'none': 'cannot be read: No such file',
    '/dev/zero': 'a device; expected a file',
    tmp_path / ('n' * 300): 'cannot be read: File name too long',
  }
  for path, words in expected.items():
    for read in (sources.jsonl, sources.parquet):
      refused(read, path, words)
  door.close()


def test_a_file_that_may_not_be_read(tmp_path):
  path = write_lines(tmp_path / 'a.jsonl', dict(problem='a', answer='1'))
  path.chmod(0)
  if os.access(path, os.R_OK):
    pytest.skip('root may read every file')
  refused(sources.jsonl, path, 'cannot be read: Permission denied')


@pytest.mark.parametrize(
  'data, words',
  [
    (b'PAR1' + bytes(9), 'this is a Parquet file; read it with .*:parquet'),
    (b'\x1f\x8b\x08\0' + bytes(9), 'this is a gzip file; unpack it: gunzip'),
    (b'\x28\xb5\x2f\xfd' + bytes(9), 'this is a zstd file'),
    (b'BZh91AY', 'this is a bzip2 file'),
    (b'PK\x03\x04', 'this is a zip file'),
    ('{"problem": "a"}'.encode('utf-16'), 'this is a UTF-16 file'),
    (bytes(4096), 'this is a binary file'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    (b'[\n{"problem": "a"}]', r"rewrite the array with jq -c '\.\[\]'"),
    (b'{\n"problem": "a"}', 'rewrite the objects with jq -c'),
    (b'{"problem": "a", "answer": "1",}\n', 'not one JSON object'),
    (b'{"problem": "a", "answer": "1"},\n', 'not one JSON object .Extra data'),
    (b'{"problem": "a", "answer": "1"}{"problem": "b"}', 'Extra data'),
    (
      b'{"answer": "1", "problem": "a", "answer": "2"}',
      "'answer' stands twice",
    ),
    (b'{"problem": "a", "answer": "1", "x": {"y": 1, "y": 2}}', "'y' stands"),
    (b'{"problem": "\\ud83d", "answer": "1"}', 'not valid Unicode'),
    (b'{"problem": "a", "answer": "\\udc00\\ud800"}', 'not valid Unicode'),
    (b'{"problem": "a\0", "answer": "1"}', 'not one JSON object'),
    (b'{"problem": "\xc3", "answer": "1"}', 'is not utf-8'),
    (b'{"a":' * 100_000, 'nested too deep'),
    (b'"' + b'a' * 1000, 'not one JSON object'),
  ],
)
def test_lines_that_are_no_rows(tmp_path, data, words):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(data)
  assert refused(sources.jsonl, path, words).startswith(f'{path}:1: ')


def test_lines_that_only_look_odd(tmp_path):
  path = tmp_path / 'a.jsonl'
  digits = '7' * 100_000
  path.write_bytes(
    b'\xef\xbb\xbf{"problem": "a", "answer": 0.10}\r\n\r\n'
    b'{"problem": "b", "answer": 1E400, "weight": NaN}\r\n'
    b'  {"problem": "c", "answer": %s}' % digits.encode()
  )
  answers = [row.answer for row in sources.jsonl(path)]
  assert answers == ['0.10', '1E400', digits]


def test_a_line_without_end(tmp_path):
  """Sparse: it takes no room on the disk."""
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"problem": "a", "answer": "1"}\n{"problem": "')
  os.truncate(path, 1 << 30)
  refused(sources.jsonl, path, r'a\.jsonl:2: longer than 134,217,728 bytes')
  os.truncate(path, 20 << 30)
  refused(sources.jsonl, path, '21,474,836,480 bytes, more than 8,589,934,592')


def test_more_text_than_is_held(tmp_path, monkeypatch):
  rows = [dict(problem='12345', answer='1')] * 3
  path = write_lines(tmp_path / 'a.jsonl', *rows)
  monkeypatch.setattr(questions, '_MAX_TOTAL_CHARS', 17)
  refused(sources.jsonl, path, 'the first 3 rows have more than 17 characters')
  monkeypatch.setattr(questions, '_MAX_TOTAL_CHARS', 18)
  assert len(sources.jsonl(path)) == 1


def test_a_task_of_many_megabytes_loads(tmp_path):
  tests = [dict(stdin='1 ' * 3_000_000, expected='2')]
  task = json.dumps(dict(kind='stdin', tests=tests))
  assert len(task) > 6_000_000
  record = dict(problem='add', answer=task)
  for read, path in (
    (sources.jsonl, write_lines(tmp_path / 'a.jsonl', record)),
    (
      sources.parquet,
      write_table(tmp_path / 'a.parquet', dict(problem=['add'], answer=[task])),
    ),
  ):
    assert [row.answer for row in read(path)] == [task]
  path = write_lines(
    tmp_path / 'b.jsonl', dict(problem='a' * 1_100_000, answer='1')
  )
  refused(sources.jsonl, path, 'problem has 1,100,000 characters, more than')


# The same question under several ids.


def test_a_question_under_several_ids_is_said(tmp_path, caplog):
  row = lambda i, q, a='1': dict(id=i, problem=q, answer=a)
  path = write_lines(
    tmp_path / 'a.jsonl',
    row('u1', 'a'),
    row('u2', 'a'),
    row('u3', 'b'),
    row('u4', 'c'),
    row('u5', ' c\n'),
    row('u6', 'c', '2'),
    row('u7', 'c'),
  )
  assert len(sources.jsonl(path)) == 7
  assert (
    '2 questions stand under several ids, 6 rows in all, 1 of them with '
    'different answers; each row counts in training; the first: u1, u2; u4, '
    'u5, u6, ...'
  ) in caplog.text
  caplog.clear()
  sources.jsonl(write_lines(tmp_path / 'b.jsonl', row('u1', 'a')))
  assert not caplog.text


def test_a_question_in_two_files_is_said(tmp_path, caplog):
  parts = []
  for name in 'xy':
    path = write_lines(
      tmp_path / f'{name}.jsonl', dict(id=name, problem='a', answer='1')
    )
    parts.append(dict(fn='acereason_jax.data.sources:jsonl', path=str(path)))
  assert len(sources.joined(parts)) == 2
  assert 'sources: 1 questions stand under several ids, 2 rows' in caplog.text
  caplog.clear()
  twice = [dict(id=f'z{i}', problem='b', answer='1') for i in range(2)]
  parts[0]['path'] = str(write_lines(tmp_path / 'z.jsonl', *twice))
  sources.joined(parts)
  assert caplog.text.count('stand under several ids') == 1


def test_columns_that_are_not_read_may_hold_anything(tmp_path):
  columns = dict(Problem=['a'], Answer=['1'], ID=[b'\xff'], Difficulty=['hard'])
  (row,) = sources.parquet(write_table(tmp_path / 'a.parquet', columns))
  assert (row.question, row.answer, row.difficulty) == ('a', '1', None)


def test_generate_needs_no_answers_of_any_name(tmp_path):
  rows = [dict(question='a'), dict(prompt=[asked('user', 'b')], Answer=None)]
  found = sources.jsonl(write_lines(tmp_path / 'a.jsonl', *rows), answers=False)
  assert [row.question for row in found] == ['a', 'b']


def test_a_command_ends_in_one_line_for_a_bad_file(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'acereason_jax.judge', '--rollouts=/dev/null'),
      f'--data={tmp_path / "pipe"}',
    ],
    env=tiny.environment(tmp_path),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert done.stderr == (
    f'error: {tmp_path / "pipe"}: a pipe; expected a file; save what it gives '
    'to one\n'
  )


@pytest.mark.parametrize(
  'text, answer',
  [
    ('2 + 2 = 4, so\n#### 4', '4'),
    ('a\n#### 1,000 \n\n', '1,000'),
    ('a\r\n####  -7.5\r\n', '-7.5'),
    ('#### 12', '12'),
    # None of its form: left as they are.
    ('a\n#### 4\nso it is', None),
    ('so #### 4', None),
    ('a\n####', None),
    ('a\n####4', None),
    ('a\n##### 4', None),
    ('a\n### 4', None),
  ],
)
def test_a_worked_solution_as_gsm8k_has_it_gives_its_last_line(
  text, answer, tmp_path
):
  path = write_lines(tmp_path / 'rows', {'question': 'q?', 'answer': text})
  (row,) = sources.jsonl(path)
  assert row.answer == (text if answer is None else answer)


@pytest.mark.parametrize(
  'text, answer',
  [
    ('["34"]', '34'),
    (' ["\\\\frac{1}{2}"] ', '\\frac{1}{2}'),
    ('["x = 3, y = 4"]', 'x = 3, y = 4'),
    ("['34']", '34'),
    ('["f\'(x)"]', "f'(x)"),
    # Which of two is meant, or whether a list is, is not for us to say.
    ('["3", "4"]', None),
    ('[3]', None),
    ('[[3]]', None),
    ('["3"', None),
    ('["\\frac{1}{2}"]', None),
    ('["\\u0033"]', None),
    ('["a\\"]', None),
    ("['3', '4']", None),
    ('["3\']', None),
    ('[""]', None),
  ],
)
def test_a_list_of_one_answer_as_text(text, answer, tmp_path):
  row = {'prompt': 'q?', 'reward_model': {'ground_truth': text}}
  (row,) = sources.jsonl(write_lines(tmp_path / 'rows', row))
  assert row.answer == (text if answer is None else answer)


def test_a_column_that_stands_twice_is_refused(tmp_path):
  table = pyarrow.table([['q?'], ['1'], ['2']], ['problem', 'answer', 'answer'])
  pyarrow.parquet.write_table(table, tmp_path / 'rows')
  refused(sources.parquet, tmp_path / 'rows', "column 'answer' twice")


def test_what_a_dictionary_shares_counts_for_each_row(tmp_path, monkeypatch):
  """A small file: the one long text is stored once."""
  rows = 40
  texts = pyarrow.DictionaryArray.from_arrays(
    pyarrow.array([0] * rows, pyarrow.int32()), pyarrow.array(['1' * 300_000])
  )
  path = write_table(
    tmp_path / 'rows',
    {'problem': [f'q{i}?' for i in range(rows)], 'answer': texts},
  )
  monkeypatch.setattr(parquet_rows, 'MAX_BYTES', 10 << 20)
  with (
    pyarrow.parquet.ParquetFile(path) as file,
    pytest.raises(parquet_rows.Refused, match='unpacks to more than'),
  ):
    parquet_rows._check_sizes(file, ['problem', 'answer'])


@pytest.mark.parametrize(
  'values, spread',
  [
    (['aa', None, 'aa', 'b'], 2 + 2 + 1),
    ([], 0),
  ],
)
def test_spread_bytes_are_those_of_all_values(values, spread):
  dense = pyarrow.array(values, pyarrow.string())
  found = parquet_rows._spread_bytes(dense.dictionary_encode())
  # Beside the letters, a slice counts one offset.
  known = sum(v is not None for v in values)
  assert found == spread + 4 * known
  lists = pyarrow.array([[v] for v in values], pyarrow.list_(dense.type))
  assert parquet_rows._spread_bytes(lists) >= spread
