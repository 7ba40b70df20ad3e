"""LiveCodeBench's files: which problems, which tests, what is refused.

All rows are made here, in the form of code_generation_lite.
"""

import base64
import collections
import hashlib
import inspect
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import zlib

import pytest

from acereason_jax.data import code_tasks, task_store, unpacking
from acereason_jax.evaluation import livecodebench, problems, values
from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import stored

GUARD = 120
NAMES = 'test.jsonl', *(f'test{i}.jsonl' for i in range(2, 7))
ROWS = 400, 111, 101, 101, 167, 175


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv(stored.VARIABLE, str(tmp_path / 'tasks'))
  for memory in (code._memo, code._kills, stored._known):
    memory.clear()
  task_store._sweep.cache_clear()
  return tmp_path / 'tasks'


def stdin_case(stdin, output):
  return {'input': stdin, 'output': output, 'testtype': 'stdin'}


def call_case(arguments, output):
  return {'input': arguments, 'output': output, 'testtype': 'functional'}


def packed(data, level=6):
  return base64.b64encode(zlib.compress(data, level)).decode()


def pickled(*cases):
  return packed(pickle.dumps(json.dumps(cases)))


def row(name, date='2024-08-17', **fields):
  return {
    'question_title': 'Twice',
    'question_content': 'Print twice the number.',
    'platform': 'atcoder',
    'question_id': name,
    'contest_id': 'abc001',
    'contest_date': f'{date}T00:00:00',
    'starter_code': '',
    'difficulty': 'easy',
    'public_test_cases': json.dumps([stdin_case('1\n', '2\n')]),
    'private_test_cases': pickled(stdin_case('4\n', '8\n')),
    'metadata': '{}',
    **fields,
  }


def write(path, rows):
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return str(path)


def refused(*args, **kwargs):
  with pytest.raises(ValueError) as e:
    livecodebench.livecodebench(*args, **kwargs)
  assert '\n' not in str(e.value)
  return str(e.value)


# --- the sets of the papers -------------------------------------------------


def days(month, count):
  return [f'{month}-{1 + i % 28:02}' for i in range(count)]


def dates():
  """880 days of files 1 to 5 in order, 279 of them from 2024-08 on, and 175."""
  early = [f'2023-{m:02}' for m in range(5, 13)]
  early += [f'2024-{m:02}' for m in range(1, 8)]
  counts = [40] * 14 + [41]
  first = [d for m, n in zip(early, counts, strict=True) for d in days(m, n)]
  counts = {'2024-08': 60, '2024-09': 50, '2024-10': 54, '2024-11': 58}
  counts |= {'2024-12': 50, '2025-01': 7}
  first += [d for m, n in counts.items() for d in days(m, n)]
  last = {'2025-01': 44, '2025-02': 50, '2025-03': 41, '2025-04': 40}
  return first, [d for m, n in last.items() for d in days(m, n)]


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """The paths of six files, with the numbers of rows that were released."""
  place, (first, last) = tmp_path_factory.mktemp('released'), dates()
  # In a file the order is not that of the dates.
  random.Random(0).shuffle(last)
  every = iter(enumerate([*first, *last]))
  paths = []
  for name, count in zip(NAMES, ROWS, strict=True):
    rows = []
    for i, date in itertools.islice(every, count):
      kind = dict(
        platform=('atcoder', 'leetcode')[i % 2],
        difficulty=('easy', 'medium', 'hard')[i % 3],
        private_test_cases=pickled(stdin_case(f'{i % 5}\n', f'{i % 5 * 2}\n')),
      )
      rows.append(row(f'q{i}', date, **kind))
    paths.append(write(place / name, rows))
  assert next(every, None) is None
  return paths


def test_the_sets_of_the_papers(released):
  """1,055 rows of 24 months: 880 in files 1 to 5, 175 in the sixth."""
  everything = livecodebench.livecodebench(released)
  assert len(everything.problems) == 1055
  assert len({p.strata['month'] for p in everything.problems}) == 24
  assert not everything.missing
  fifth = livecodebench.lcb_v5(released[:5])
  assert [p.row.id for p in fifth.problems] == [
    f'q{i}' for i in range(601, 880)
  ]
  months = collections.Counter(p.strata['month'] for p in fifth.problems)
  assert len(fifth.problems) == 279
  assert (months.pop('2025-01'), sum(months.values())) == (7, 272)
  sixth = livecodebench.lcb_v6(released[5:])
  assert [p.row.id for p in sixth.problems] == [
    f'q{i}' for i in range(880, 1055)
  ]
  months = collections.Counter(p.strata['month'] for p in sixth.problems)
  assert (len(sixth.problems), months['2025-01']) == (175, 44)
  # By the dates that are printed for it, it is another set.
  window = livecodebench.livecodebench(released, '2025-02-01', '2025-04-30')
  assert len(window.problems) == 131
  # The order of the files does not matter to the counts.
  assert len(livecodebench.lcb_v5(released[4::-1]).problems) == 279


def test_another_set_is_refused_and_the_message_says_why(released):
  words = refused(released, '2025-02-01', '2025-05-01', expect=175)
  assert words.startswith('got 131 rows of 2025-02..2025-04 (test.jsonl 0,')
  assert 'v6 is test6.jsonl whole, 175' in words
  assert 'named, and not of it: test.jsonl' in words
  words = refused(released[:4], '2024-08-01', expect=279)
  assert 'not named: test5.jsonl' in words
  with pytest.raises(ValueError, match=r'got 454 .* not of it: test6\.jsonl'):
    livecodebench.lcb_v5(released)
  with pytest.raises(ValueError, match=r'v6 is test6\.jsonl .* named: test6'):
    livecodebench.lcb_v6(released[4:5])
  assert 'expected 3' in refused(released[5:], expect=3)


# --- a row ------------------------------------------------------------------


@pytest.mark.parametrize('hidden', ['json', 'pickle 2', 'pickle 4', 'pickle 5'])
def test_a_row_has_the_tests_of_its_fields(tmp_path, hidden):
  """Next to the same row converted whole, without files."""
  cases = [stdin_case('3\n', 'é\n'), stdin_case('', '0.5\n')]
  private = json.dumps(cases)
  if hidden != 'json':
    private = packed(pickle.dumps(json.dumps(cases), int(hidden[-1])))
  made = row(
    'abc_1',
    private_test_cases=private,
    question_content='An absolute or relative error of 10^{-6} is allowed.',
    starter_code=' \n',
  )
  path = write(tmp_path / 'a.jsonl', [made])
  found = livecodebench.livecodebench([path])
  (problem,) = found.problems
  assert problem.row.id == 'abc_1'
  assert problem.row.question == made['question_content']
  assert problem.row.starter == ''
  assert problem.strata == {
    'difficulty': 'easy',
    'platform': 'atcoder',
    'month': '2024-08',
  }
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  assert found.files == {'a.jsonl': digest}
  names = 'public_test_cases', 'private_test_cases', 'metadata'
  whole = code_tasks.livecodebench(
    *(made[n] for n in names), made['question_content']
  )
  ours = code.task_of(problem.row.answer)
  theirs = code.task_of(json.dumps(whole))
  assert list(ours.tests) == list(theirs.tests)
  assert [t.expected for t in ours.tests] == ['2\n', 'é\n', '0.5\n']
  assert ours.float_tol == theirs.float_tol == 1e-6
  (only,) = livecodebench.livecodebench([path], tests='private').problems
  assert [t.stdin for t in code.task_of(only.row.answer).tests] == ['3\n', '']


def test_a_row_of_a_function(tmp_path):
  starter = 'class Solution:\n    def half(self, n: int) -> float:\n        '
  made = row(
    '3000',
    platform='leetcode',
    starter_code=starter,
    metadata='{"func_name": "half"}',
    public_test_cases=json.dumps([call_case('3', '1.5')]),
    private_test_cases=pickled(call_case('4', '2')),
  )
  (problem,) = livecodebench.livecodebench(
    [write(tmp_path / 'a.jsonl', [made])]
  ).problems
  task = code.task_of(problem.row.answer)
  assert problem.row.starter == starter
  assert (task.kind, task.fn) == ('call', 'Solution().half')
  assert [(t.args, t.expected) for t in task.tests] == [((3,), 1.5), ((4,), 2)]
  # LeetCode allows an error where a result is a float, wherever it stands.
  assert (task.float_tol, task.float_error) == (1e-5, 'absolute')


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux confines')
@pytest.mark.usefixtures('jails')
def test_programs_are_judged_by_it(tmp_path):
  path = write(tmp_path / 'a.jsonl', [row('a')])
  (problem,) = livecodebench.livecodebench([path]).problems
  for program, detail in (
    ('print(2 * int(input()))', 'AC 2 tests'),
    ('input()\nprint(2)', "WA test 2: line 1: got '2', expected '8'"),
  ):
    response = f'</think>\n```python\n{program}\n```\n'
    assert code.verify(response, problem.row.answer).detail == detail


class Touch:
  """Its pickle makes a file when it is read."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, 'w')


def hostile(touched):
  """Rows that cannot be converted, and words of the reason."""
  text = json.dumps([stdin_case('4\n', '8\n')])
  whole = pickle.dumps(text)
  bomb = b'\x80\x04X\xff\xff\xff\x7f[' + b' ' * (65 << 20)
  return {
    'pickled call': (packed(pickle.dumps(Touch(touched))), 'pickle'),
    'call after text': (packed(whole[:-1] + pickle.dumps(Touch(touched))), ''),
    'list': (packed(pickle.dumps([text])), 'pickle'),
    'no zlib': (base64.b64encode(whole).decode(), 'base64 of zlib'),
    'no base64': ('%%%', 'base64 of zlib'),
    'padding inside': ('AAA=' + packed(whole), 'base64 of zlib'),
    'cut zlib': (packed(whole)[:-8], ''),
    'cut pickle': (packed(whole[:-4]), 'pickle'),
    'cut JSON': (packed(pickle.dumps(text[:-3])), 'not JSON'),
    'more JSON': (packed(pickle.dumps(text + '[]')), 'not JSON'),
    'more zlib': (
      base64.b64encode(zlib.compress(whole) + b'more').decode(),
      'after its end',
    ),
    'bomb': (packed(bomb), 'more than'),
    'NaN': (json.dumps([{**stdin_case('', '1'), 'x': float('nan')}]), 'NaN'),
    'deep': ('[{"a":' + '[' * 100_000, 'JSON'),
    'object': ('{}', 'base64'),
    'numbers': ('[1]', 'without input'),
    'no output': ('[{"input": ""}]', 'without input'),
    'odd kind': (json.dumps([call_case('1', '2')]), 'testtypes'),
  }


def test_hostile_rows_are_missing_with_their_reason(tmp_path, monkeypatch):
  monkeypatch.setattr(unpacking, '_PRIVATE_BYTES', 64 << 20)
  touched = tmp_path / 'touched'
  rows = hostile(touched)
  path = write(
    tmp_path / 'a.jsonl',
    [
      row('first'),
      *(row(name, private_test_cases=p) for name, (p, _) in rows.items()),
      row('no output', public_test_cases=json.dumps([]))
      | {'question_id': 'silent'}
      | {'private_test_cases': json.dumps([stdin_case('1', ' ')])},
      row('no name', public_test_cases=json.dumps([call_case('1', '2')])),
      row('last'),
    ],
  )
  found = livecodebench.livecodebench([path], expect=len(rows) + 4)
  assert [p.row.id for p in found.problems] == ['first', 'last']
  missing = dict(found.missing)
  assert missing.keys() == {*rows, 'silent', 'no name'}
  for name, (_, words) in rows.items():
    assert words in missing[name], name
  assert missing['silent'] == 'no test expects output'
  assert all(r.isprintable() and 0 < len(r) <= 220 for r in missing.values())
  assert not touched.exists()
  # The good rows have one task; what was begun is gone.
  assert len(list((tmp_path / 'tasks').glob('*.tests.jsonl'))) == 1
  assert not list((tmp_path / 'tasks').glob('.*.partial'))


# --- the file ---------------------------------------------------------------


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('', 'no rows'),
    (' \n\n', 'no rows'),
    (json.dumps(row('a'))[:-9], ':1: not one JSON object'),
    (json.dumps(row('a')) + '\n' + json.dumps(row('b'))[:80], ':2: not one'),
    ('[1]\n', ':1: expected an object'),
    ('{"question_id": "a", "question_id": "b"}', 'stands twice'),
    (json.dumps({'problem': 'x', 'answer': '1'}), 'question_id is no text'),
    (json.dumps(row('a') | {'metadata': None}), 'metadata is no text'),
    (json.dumps(row('a') | {'difficulty': [3]}), 'difficulty is no text'),
    (json.dumps(row('a', date='17.8.2024')), 'contest_date'),
    (json.dumps(row('a', date='2024-13-01')), 'contest_date'),
    (json.dumps(row('a', date='\uff12024-08-01')), 'contest_date'),
    (json.dumps(row('')), 'question_id must be'),
    (json.dumps(row('a\x1b[31m')), 'question_id must be'),
    (json.dumps(row('a' * 201)), 'question_id must be'),
    ('PAR1', 'Parquet'),
    ('version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
  ],
)
def test_files_of_another_form_are_refused(tmp_path, content, words):
  path = tmp_path / 'test6.jsonl'
  path.write_text(content)
  assert words in refused([str(path)])


def test_paths_and_arguments_are_checked(tmp_path):
  path = write(tmp_path / 'a.jsonl', [row('a')])
  for args, words in (
    ((path,), 'expected the files'),
    (([None],), 'expected the files'),
    (([path], 20240801), 'start='),
    (([path], '2024-02-30'), 'start='),
    (((),), 'expected the files'),
    (([path], '2024-8-1'), 'start='),
    (([path], '', 'now'), 'end='),
    (([path], '2024-08-18'), 'no rows of these days'),
    (([path, path],), 'two files are named a.jsonl'),
    (([str(tmp_path / 'none.jsonl')],), 'cannot be read'),
    (([str(tmp_path)],), 'a directory'),
  ):
    assert words in refused(*args)
  assert 'tests=' in refused([path], tests='public')


@pytest.mark.parametrize(
  'fields, said',
  [
    (dict(question_content='\ud800'), 'question has half a surrogate pair'),
    (dict(question_content='a\0b'), 'question has characters that cannot'),
    (dict(question_content=' \n'), 'question is blank'),
    (dict(question_content='x' * (1 << 21)), 'question has 2,097,152 char'),
    (dict(starter_code='\udfff'), 'starter has half a surrogate pair'),
    (dict(platform='x' * 81), 'platform has 81 characters'),
    (dict(difficulty='\x1b[31m'), 'difficulty has characters that cannot'),
  ],
)
def test_texts_that_no_prompt_or_table_can_hold(tmp_path, fields, said):
  path = write(tmp_path / 'a.jsonl', [row('a'), row('b', **fields)])
  fn = 'acereason_jax.evaluation.livecodebench:livecodebench'
  benchmark = values.Benchmark(
    'lcb', dict(fn=fn, paths=[path]), 1, values.Prompting(), 1, {}
  )
  with pytest.raises(ValueError, match="data: id 'b': ") as e:
    problems.load(benchmark)
  assert said in str(e.value) and str(e.value).isprintable()


def test_an_id_names_one_row(tmp_path):
  one = write(tmp_path / 'a.jsonl', [row('a'), row('b')])
  two = write(tmp_path / 'b.jsonl', [row('c'), row('b')])
  assert "b.jsonl: question_id 'b' is in a.jsonl too" in refused([one, two])
  twice = write(tmp_path / 'c.jsonl', [row('a'), row('a')])
  assert "c.jsonl: question_id 'a' is there twice" in refused([twice])


def test_both_days_of_a_window_count(tmp_path):
  dates = [f'2024-08-{day:02}' for day in range(1, 10)]
  rows = [row(date, date) for date in dates]
  path = write(tmp_path / 'a.jsonl', rows)
  for start, end in itertools.product(['', *dates], repeat=2):
    wanted = [d for d in dates if (start or d) <= d <= (end or d)]
    if wanted:
      found = livecodebench.livecodebench([path], start, end)
      assert [p.row.id for p in found.problems] == wanted


def test_a_line_over_the_limit_is_refused(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.jsonl', [row('a')])
  size = os.path.getsize(path)
  monkeypatch.setattr(livecodebench, 'MAX_LINE_BYTES', size)
  assert livecodebench.livecodebench([path]).problems
  path = write(tmp_path / 'b.jsonl', [row('longer')])
  assert 'longer than' in refused([path])


def test_a_second_load_converts_nothing(tmp_path, folder, monkeypatch):
  rows = [row('a'), row('b', private_test_cases='%'), row('c', '2024-09-01')]
  path = write(tmp_path / 'a.jsonl', rows)
  stores, store = [], task_store.store
  monkeypatch.setattr(
    task_store, 'store', lambda *args: stores.append(1) or store(*args)
  )
  load = lambda **more: livecodebench.livecodebench([path], **more)
  first = load()
  assert (load(), len(stores)) == (first, len(rows))
  assert len(first.missing) == 1
  # Another window, other tests, other content are other rows.
  assert len(load(start='2024-08-18').problems) == 1
  assert load(tests='private').problems != first.problems
  write(tmp_path / 'a.jsonl', [*rows, row('d')])
  assert len(load().problems) == 3
  write(tmp_path / 'a.jsonl', rows)
  assert load() == first
  # A task that is gone, and an index that is damaged, are made again.
  (task,) = {stored.digest_of(p.row.answer) for p in first.problems}
  (folder / f'{task}{stored.SUFFIX}').unlink()
  assert load() == first
  assert code.reference('', first.problems[0].row.answer).status == 'right'
  damages = '', '{', '[1, 2]\n', '2\n["a", "b"]\n', '3\n' + '[{}, 1, []]\n' * 3
  for damage in damages:
    for index in folder.glob(f'*{livecodebench._SUFFIX}'):
      index.write_text(damage)
    assert load() == first, damage


def test_another_version_of_the_converters_converts_again(
  tmp_path, monkeypatch
):
  path = write(tmp_path / 'a.jsonl', [row('a', question_content='Within 0.1.')])
  before = livecodebench.livecodebench([path])
  monkeypatch.setattr(
    code_tasks.tolerance, 'allowed_error', lambda text: dict(float_tol=0.25)
  )
  assert livecodebench.livecodebench([path]) == before
  # As if its file said so.
  source = inspect.getsource
  monkeypatch.setattr(
    livecodebench.inspect,
    'getsource',
    lambda m: source(m) + 'x' * (m is code_tasks.tolerance),
  )
  livecodebench._form.cache_clear()
  try:
    (after,) = livecodebench.livecodebench([path]).problems
    assert code.task_of(after.row.answer).float_tol == 0.25
  finally:
    livecodebench._form.cache_clear()


def test_processes_that_load_a_file_at_once_convert_it_once(tmp_path):
  rows = [
    row(f'q{i}', private_test_cases=pickled(*[stdin_case(f'{i}', '1')] * 9))
    for i in range(200)
  ]
  path = write(tmp_path / 'a.jsonl', rows)
  program = (
    'import sys\nfrom acereason_jax.evaluation import livecodebench\n'
    'sys.stdin.read()\n'
    'found = livecodebench.livecodebench([sys.argv[1]])\n'
    'print(*(p.row.answer for p in found.problems))\n'
  )
  env = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', program, path],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=env,
      text=True,
    )
    for _ in range(3)
  ]
  for process in processes:  # All begin now.
    process.stdin.close()
    process.stdin = None
  said = [process.communicate(timeout=GUARD) for process in processes]
  assert len({out for out, _ in said}) == 1
  assert len(said[0][0].split('{')) == 201
  assert sum('storing the tests' in err for _, err in said) == 1


# --- piece by piece ---------------------------------------------------------


@pytest.mark.parametrize('seed', range(40))
def test_cases_in_pieces_are_those_of_the_whole_text(seed, monkeypatch):
  """Texts as they are, and damaged; next to Python's own reader."""
  draw = random.Random(seed)
  for name in ('_WINDOW_CHARS', '_UNPACKED_BYTES'):
    monkeypatch.setattr(unpacking, name, draw.choice([1, 2, 7, 64]))
  monkeypatch.setattr(unpacking, '_PACKED_CHARS', 4 * draw.choice([1, 5, 40]))
  for _ in range(60):
    cases = [
      {
        'input': ''.join(draw.choices('1 \n"\\é\U0001f600[]{},', k=9)),
        'output': draw.choice(['', [1, {'a': None}], -1.5e3, True]),
        'testtype': 'stdin',
      }
      for _ in range(draw.choice([0, 1, 2, 5]))
    ]
    text = json.dumps(
      cases,
      ensure_ascii=draw.random() < 0.5,
      indent=draw.choice([None, 1]),
    )
    if draw.random() < 0.6:
      at = draw.randrange(len(text))
      text = text[:at] + draw.choice(['', ',', '"', ' ', ']']) + text[at + 1 :]
    try:
      whole = json.loads(text)
      good = isinstance(whole, list) and all(
        isinstance(c, dict) and {'input', 'output'} <= c.keys() for c in whole
      )
    except ValueError:
      good = False
    for read, given in (
      (lambda t: unpacking.cases(t, 'it'), text),
      (unpacking.private_cases, packed(pickle.dumps(text))),
    ):
      if good:
        assert list(read(given)) == whole
      else:
        with pytest.raises(ValueError) as e:
          list(read(given))
        assert '\n' not in str(e.value)


def test_a_row_takes_little_more_memory_than_its_line(tmp_path):
  """The line, its text and the field: nothing unpacked, and no second row."""
  case = stdin_case('7' * 1_000_000, '8' * 100_000)
  hidden = packed(pickle.dumps(json.dumps([case] * 30)), level=0)
  path = write(
    tmp_path / 'a.jsonl', [row(n, private_test_cases=hidden) for n in 'abc']
  )
  line = os.path.getsize(path) // 3
  assert line > 40_000_000
  tracemalloc.start()
  try:
    found = livecodebench.livecodebench([path])
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert len(found.problems) == 3
  assert peak < 3.7 * line
