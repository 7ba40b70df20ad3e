"""Problems with ratings: CodeContests' and open-r1's Codeforces files.

All rows are made here, in the form of the data sets.
"""

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax.data import task_store
from acereason_jax.evaluation import contests
from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import stored


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
  monkeypatch.setenv(stored.VARIABLE, str(tmp_path / 'tasks'))
  stored._known.clear()
  task_store._sweep.cache_clear()


def _tests(*pairs):
  inputs, outputs = zip(*pairs) if pairs else ((), ())
  return {'input': list(inputs), 'output': list(outputs)}


def _code_contests(name, **fields):
  return {
    'name': name,
    'description': 'Print twice the number.',
    'public_tests': _tests(('1\n', '2\n')),
    'private_tests': _tests(('3\n', '6\n'), ('0\n', '0\n')),
    'generated_tests': _tests(('5\n', '10\n')),
    'source': 2,
    'difficulty': 9,
    'solutions': {'language': [3], 'solution': ['print(0)']},
    'time_limit': {'seconds': 1, 'nanos': 500_000_000},
    'memory_limit_bytes': 2 << 30,
    'cf_contest_id': 1,
    'cf_rating': 1900,
    'input_file': '',
    'output_file': '',
    **fields,
  }


def _codeforces(name, **fields):
  return {
    'id': name,
    'title': 'Twice',
    'description': 'Print twice the number.',
    'input_format': 'A number.',
    'output_format': 'Twice that.',
    'examples': [{'input': '1\n', 'output': '2\n'}],
    'note': None,
    'rating': 800,
    'time_limit': 2.0,
    'memory_limit': 4096.0,
    'input_mode': 'stdio',
    'interaction_format': None,
    'generated_checker': None,
    'official_tests': [{'input': '7\n', 'output': '14\n'}],
    **fields,
  }


def _write(path, rows):
  if path.suffix == '.parquet':
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  else:
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


@pytest.fixture(params=['a.parquet', 'a.jsonl'])
def file(request, tmp_path):
  return tmp_path / request.param


def test_code_contests(file):
  path = _write(
    file,
    [
      _code_contests('1_A. Twice'),
      _code_contests('unrated', cf_rating=0, source=1, difficulty=0),
      _code_contests('of files', input_file='in.txt'),
      _code_contests('silent', generated_tests=_tests()),
    ],
  )
  found = contests.code_contests([path])
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  assert found.files == {file.name: digest}
  assert [p.row.id for p in found.problems] == [
    '1_A. Twice',
    'unrated',
    'silent',
  ]
  ((name, reason),) = found.missing
  assert (name, 'read or write a file' in reason) == ('of files', True)
  first, second, _ = found.problems
  assert first.row.question == 'Print twice the number.'
  assert (first.rating, type(first.rating)) == (1900.0, float)
  assert second.rating is None
  assert first.strata == {'difficulty': 'C', 'source': 'codeforces'}
  assert second.strata == {'difficulty': 'unknown', 'source': 'codechef'}
  task = code.task_of(first.row.answer)
  assert [(t.stdin, t.expected) for t in task.tests] == [
    ('1\n', '2\n'),
    ('3\n', '6\n'),
    ('0\n', '0\n'),
    ('5\n', '10\n'),
  ]
  # Three times the limit for C++.
  assert (task.time_limit_seconds, task.memory_bytes) == (4.5, 2 << 30)


def test_codeforces(file):
  path = _write(
    file,
    [
      _codeforces('1/A', note='So simple.'),
      _codeforces('1/B', interaction_format='Ask.'),
      _codeforces('1/C', rating=None, official_tests=[]),
      _codeforces('1/D', rating=None),
    ],
  )
  found = contests.codeforces([path])
  assert [(p.row.id, p.rating) for p in found.problems] == [
    ('1/A', 800.0),
    ('1/D', None),
  ]
  assert [name for name, _ in found.missing] == ['1/B', '1/C']
  question = found.problems[0].row.question
  assert question == (
    'Print twice the number.\n\nInput\nA number.\n\nOutput\nTwice that.\n\n'
    'Example input\n1\n\nExample output\n2\n\nNote\nSo simple.'
  )
  task = code.task_of(found.problems[0].row.answer)
  assert (task.time_limit_seconds, task.memory_bytes) == (6.0, 4 << 30)
  assert [(t.stdin, t.expected) for t in task.tests] == [('7\n', '14\n')]


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'time_limit': {'seconds': 'soon', 'nanos': 0}}, 'not a number'),
    ({'time_limit': 'nan'}, 'no time'),
    ({'memory_limit_bytes': -1}, 'no size'),
    ({'cf_rating': 'high'}, 'not a number'),
    ({'cf_rating': '1e999'}, 'not a number'),
    ({'description': ' '}, 'a statement of 1'),
    ({'description': 7}, ''),
    ({'description': None}, 'not text'),
    ({'public_tests': 3}, 'not an object'),
    ({'private_tests': {'input': ['1'], 'output': []}}, 'do not match'),
    ({'generated_tests': {'input': [1], 'output': [{}]}}, 'not text'),
  ],
)
def test_bad_rows_are_missing_with_their_reason(tmp_path, fields, words):
  rows = [_code_contests('good'), _code_contests('bad', **fields)]
  found = contests.code_contests([_write(tmp_path / 'a.jsonl', rows)])
  if words:
    assert [p.row.id for p in found.problems] == ['good']
    ((name, reason),) = found.missing
    assert (name, words in reason, reason.isprintable()) == ('bad', True, True)
  else:
    # Numbers in a file are text.
    assert len(found.problems) == 2


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    ([], 'no rows'),
    ([[1]], 'no name and description'),
    ([{'problem': '1', 'answer': '2'}], 'expected the columns name'),
    ([_code_contests('')], 'printable'),
    ([_code_contests('a\x1b')], 'printable'),
    ([_code_contests(None)], 'printable'),
    ([_code_contests('a'), _code_contests('a')], 'a.jsonl:1 too'),
  ],
)
def test_other_files_are_refused(tmp_path, rows, words):
  with pytest.raises(ValueError, match=words) as e:
    contests.code_contests([_write(tmp_path / 'a.jsonl', rows)])
  assert '\n' not in str(e.value)


def test_paths_are_a_list(tmp_path):
  for paths in ('a.parquet', ()):
    with pytest.raises(ValueError, match='expected a list of files'):
      contests.codeforces(paths)
