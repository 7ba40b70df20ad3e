"""Rows through steps: what each becomes, and that nothing else decides it."""

import errno
import json
import os
import pathlib
import random
import re
import types

import hypothesis
import pyarrow.parquet
import pytest
from hypothesis import strategies

from acereason_jax import curate
from acereason_jax.config import curation
from acereason_jax.data import sources
from acereason_jax.data.curate import (
  datasheet,
  outputs,
  pipeline,
  rowwise,
  state,
  values,
)

STEPS = 'curate_steps:'
LABELLED = dict(fn=f'{STEPS}labels')
SHORT = dict(fn=f'{STEPS}short', most=12)
SAME = dict(fn=f'{STEPS}same')
JUDGED = dict(fn=f'{STEPS}judged')
FILES = (outputs.ROWS, outputs.DROPPED, outputs.CHANGES)


@pytest.fixture(autouse=True)
def steps_in_workers(monkeypatch):
  """Workers find the steps of these tests."""
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))


def problems(count, seed=0):
  """Rows of which some are short, labelled, repeated or wrong."""
  source = random.Random(seed)
  found = []
  for i in range(count):
    text = f'What is {i % max(count - 3, 1)} plus {source.randrange(9)}?'
    kind = source.randrange(5)
    if kind == 0:
      text = f'Problem: {text}'
    elif kind == 1:
      text = text[: source.randrange(9, 16)]
    elif kind == 2:
      text = text.upper()
    answer = source.choice([f'{i % 7}', 'PLUS', 'plus'])
    found.append(dict(id=f'q{i}', problem=text, answer=answer))
  return found


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def config(out, path, *steps, **changes):
  c = curation.get_config()
  c.out = str(out)
  c.workers = 1
  c.inputs.mine = curation.source(path, licence='MIT')
  c.steps = steps
  c.update(changes)
  return c


def run(c, shard=None, plant=False, workers=None):
  index, count = map(int, (shard or '1/1').split('/'))
  return curate.curate(
    types.SimpleNamespace(
      config=c,
      share=pipeline.Shard(index - 1, count),
      shard=shard,
      plant=plant,
      workers=workers,
    )
  )


def table(out, name):
  return pyarrow.parquet.read_table(f'{out}/{name}').to_pylist()


def sheet(out):
  return json.loads(pathlib.Path(out, outputs.SHEET).read_text())


def contents(out):
  """Everything that must be the same: all but the seconds."""
  found = {name: pathlib.Path(out, name).read_bytes() for name in FILES}
  found |= {
    f'datasheet.{kind}': pathlib.Path(out, f'datasheet.{kind}').read_bytes()
    for kind in ('md', 'html')
  }
  told = sheet(out)
  for step in told['steps']:
    del step['seconds']
  return found | dict(sheet=told)


def expected(rows):
  """What becomes of each row, told the long way: {id: step or ''}."""
  fates, seen = {}, {}
  for row in sorted(rows, key=lambda row: row['id']):
    text = row['problem'].removeprefix('Problem: ')
    if len(text) < 12:
      fates[row['id']] = 'short'
    elif text.lower() in seen:
      fates[row['id']] = 'same'
    else:
      seen[text.lower()] = row
      fates[row['id']] = '' if row['answer'] in text else 'judged'
  return fates


def test_every_row_is_in_one_of_the_two_files_with_its_reason(tmp_path):
  rows = problems(60)
  c = config(
    tmp_path / 'out', write(tmp_path / 'p', rows), LABELLED, SHORT, SAME, JUDGED
  )
  assert run(c) == 0
  kept = table(c.out, outputs.ROWS)
  dropped = table(c.out, outputs.DROPPED)
  fates = {row['id']: '' for row in kept}
  fates |= {row['id']: row['step'] for row in dropped}
  assert len(kept) + len(dropped) == len(rows)
  assert fates == expected(rows)
  assert {*fates.values()} == {'', 'short', 'same', 'judged'}
  by_id = {row['id']: row for row in rows}
  for row in dropped:
    assert row['answer'] == by_id[row['id']]['answer']
    assert json.loads(row['evidence'])
  same = next(row for row in dropped if row['step'] == 'same')
  assert json.loads(same['evidence'])['other'] in fates
  changed = table(c.out, outputs.CHANGES)
  assert {row['id'] for row in changed} == {
    row['id'] for row in rows if row['problem'].startswith('Problem: ')
  }


def test_the_datasheet_counts_what_the_files_hold(tmp_path):
  rows = problems(80)
  path = write(tmp_path / 'p', [*rows, rows[0], rows[0]])
  c = config(tmp_path / 'out', path, LABELLED, SHORT, SAME, JUDGED)
  run(c)
  told = sheet(c.out)
  left = len(table(c.out, outputs.ROWS))
  assert (told['rows_in'], told['rows_out']) == (80, left)
  assert [s['name'] for s in told['steps']] == [
    'labels',
    'short',
    'same',
    'judged',
  ]
  before = 80
  for step in told['steps']:
    assert step['rows_in'] == before and step['seconds'] >= 0
    assert sum(step['reasons'].values()) == before - step['rows_out']
    for reason, rows in step['examples'].items():
      count = step['reasons'].get(reason, step['changed'])
      assert len(rows) == min(count, 20)
    before = step['rows_out']
  assert before == left
  (source,) = told['inputs']
  assert (source['lines'], source['rows'], source['repeats']) == (82, 80, 2)
  assert source['licence'] == 'MIT'
  assert sum(told['distributions']['before']['characters'].values()) == 80
  assert sum(told['distributions']['after']['answer'].values()) == left


def test_training_reads_the_rows(tmp_path):
  c = config(tmp_path / 'out', write(tmp_path / 'p', problems(40)), SHORT)
  run(c)
  kept = table(c.out, outputs.ROWS)
  found = sources.parquet(f'{c.out}/{outputs.ROWS}')
  assert [(r.id, r.question, r.answer) for r in found] == [
    (r['id'], r['problem'], r['answer']) for r in kept
  ]


@hypothesis.settings(max_examples=10)
@hypothesis.given(
  seed=strategies.integers(0, 1 << 20), count=strategies.integers(12, 50)
)
def test_what_is_curated_stays_as_it_is(tmp_path_factory, seed, count):
  place = tmp_path_factory.mktemp('twice')
  rows = [
    *problems(count, seed),
    dict(id='k', problem='What is kept here?', answer='kept'),
  ]
  steps = (LABELLED, SHORT, SAME)
  first = config(place / 'one', write(place / 'p', rows), *steps)
  run(first)
  second = config(place / 'two', f'{first.out}/{outputs.ROWS}', *steps)
  run(second)
  assert table(second.out, outputs.ROWS) == table(first.out, outputs.ROWS)
  assert not table(second.out, outputs.DROPPED)


def test_the_order_of_the_input_and_processes_decide_nothing(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(rowwise, '_LEAST_ROWS', 0)
  monkeypatch.setattr(rowwise, '_ROWS', 7)
  rows = problems(60, seed=3)
  steps = (LABELLED, SHORT, SAME, JUDGED)
  found = []
  for number, workers in ((0, 1), (1, 4), (2, 2)):
    order = random.Random(number).sample(rows, len(rows))
    folder = tmp_path / f'{number}'
    folder.mkdir()
    # The file's SHA-256 is in the datasheet, so the rows come in two files.
    path = write(folder / 'p', order)
    c = config(folder / 'out', path, *steps)
    run(c, workers=workers)
    found.append(contents(c.out))
    for part in ('sheet', 'datasheet.md', 'datasheet.html'):
      text = json.dumps(found[-1].pop(part), default=bytes.decode)
      for digest in sheet(c.out)['inputs'][0]['files'].values():
        text = text.replace(digest, '').replace(digest[:16], '')
      found[-1][part] = text.replace(str(folder), '')
  assert found[0] == found[1] == found[2]


def test_shards_together_do_what_one_does_and_ask_nothing_twice(tmp_path):
  path = write(tmp_path / 'p', problems(60))
  log = tmp_path / 'log'
  judged = JUDGED | dict(log=str(log))
  c = config(tmp_path / 'whole', path, SHORT, judged)
  run(c)
  whole = contents(c.out)
  asked = log.read_text().splitlines()
  log.unlink()
  c = config(tmp_path / 'parts', path, SHORT, judged)
  for shard in ('3/3', '1/3', '2/3'):
    assert run(c, shard) == 0
    assert not os.path.exists(f'{c.out}/{outputs.ROWS}')
  run(c)
  parts = contents(c.out)
  assert parts == whole
  assert sorted(log.read_text().splitlines()) == sorted(asked)


def test_drop_and_flag_agree(tmp_path):
  path = write(tmp_path / 'p', problems(60))
  one = config(tmp_path / 'one', path, SHORT)
  two = config(tmp_path / 'two', path, SHORT | dict(action='flag'))
  run(one)
  run(two)
  rows = table(two.out, outputs.ROWS)
  assert len(rows) == 60 and not table(two.out, outputs.DROPPED)
  assert {row['id'] for row in rows if row['flags'] == ['short']} == {
    row['id'] for row in table(one.out, outputs.DROPPED)
  }
  (step,) = sheet(two.out)['steps']
  assert step['rows_in'] == step['rows_out'] == 60 and step['reasons']


def test_another_benchmark_never_adds_rows(tmp_path):
  rows = problems(60)
  items = [dict(id=i, question=row['problem']) for i, row in enumerate(rows)]
  one = write(tmp_path / 'b1', items[:8])
  two = write(tmp_path / 'b2', items[4:20])
  left = []
  for names in ((one,), (one, two)):
    out = tmp_path / f'{len(names)}'
    c = config(out, write(tmp_path / 'p', rows), dict(fn=f'{STEPS}copied'))
    for i, path in enumerate(names):
      c.benchmarks[f'b{i}'] = curation.benchmark(path)
    run(c)
    left.append({row['id'] for row in table(c.out, outputs.ROWS)})
  assert left[1] < left[0] and not left[0] & {f'q{i}' for i in range(8)}


def test_planted_copies_are_counted_and_change_nothing(tmp_path):
  items = [
    dict(id=i, problem=f'How many of the ${i}$ apples, if any, are red today?')
    for i in range(9)
  ]
  rows = [
    *problems(30),
    dict(id='twin', answer='1', problem=items[4]['problem']),
  ]
  found = []
  for plant in (False, True):
    c = config(
      tmp_path / f'{plant}',
      write(tmp_path / 'p', rows),
      dict(fn=f'{STEPS}copied'),
    )
    c.benchmarks.apples = curation.benchmark(write(tmp_path / 'b', items))
    run(c, plant=plant)
    found.append(contents(c.out))
  planted = found[1]['sheet'].pop('planted')
  assert found[0]['sheet'].pop('planted') is None
  assert all(found[0][n] == found[1][n] for n in (*FILES, 'sheet'))
  # The step of this test finds whole copies, whatever their symbols and case.
  whole = {w for w, (hits, count) in planted['ways'].items() if hits == count}
  assert {'verbatim', 'no dollars', 'upper case', 'no punctuation'} <= whole
  assert planted['ways']['two thirds'] == [0, 9] == planted['ways']['one word']
  assert planted['planted'] == 72 and planted['missed']


def test_a_judge_that_fails_is_asked_twice_and_never_again(tmp_path):
  log = tmp_path / 'log'
  rows = [dict(id=f'q{i}', problem=f'{i} is {i}', answer=i) for i in '12']
  step = JUDGED | dict(judge=f'{STEPS}breaks', log=str(log), action='flag')
  c = config(tmp_path / 'out', write(tmp_path / 'p', rows), step)
  found = []
  for _ in range(2):
    run(c)
    found.append(contents(c.out))
  assert found[0] == found[1]
  flags = [row['flags'] for row in table(c.out, outputs.ROWS)]
  assert flags == [['judged: undecided']] * 2
  asked = sorted(log.read_text().splitlines())
  assert asked == ['1 is 1 -> 1', '1 is 1 -> 1', '2 is 2 -> 2', '2 is 2 -> 2']


def test_a_changed_rule_costs_no_verdict(tmp_path):
  path = write(tmp_path / 'p', problems(40))
  log = tmp_path / 'log'
  judged = JUDGED | dict(log=str(log))
  run(config(tmp_path / 'out', path, judged))
  before = log.read_text()
  c = config(tmp_path / 'out', path, SHORT | dict(most=14), judged)
  run(c)
  assert log.read_text() == before
  assert [s['name'] for s in sheet(c.out)['steps']] == ['short', 'judged']


@pytest.mark.parametrize('bad', FILES)
def test_a_disk_that_is_full_leaves_the_folder_as_it_was(
  tmp_path, monkeypatch, bad
):
  c = config(tmp_path / 'out', write(tmp_path / 'p', problems(30)), SHORT)
  run(c)
  before, names = contents(c.out), sorted(os.listdir(c.out))
  write_table = outputs._write_table

  def full(file, schema, found):
    if schema is outputs._SCHEMAS[bad]:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write_table(file, schema, found)

  monkeypatch.setattr(outputs, '_write_table', full)
  c.steps = (SHORT | dict(most=14),)
  with pytest.raises(OSError, match='No space left'):
    run(c)
  assert contents(c.out) == before and sorted(os.listdir(c.out)) == names


def test_what_a_kill_left_is_removed(tmp_path):
  c = config(tmp_path / 'out', write(tmp_path / 'p', problems(30)), SHORT)
  run(c)
  names = sorted(os.listdir(c.out))
  pathlib.Path(c.out, '.rows.parquet.0123abcd.partial').write_text('half')
  run(c)
  assert sorted(os.listdir(c.out)) == names


def test_nobody_else_writes_until_all_is_written(tmp_path, monkeypatch):
  """Else the rows of one command could stand beside the sheet of another."""
  path = write(tmp_path / 'p', problems(30))
  c = config(tmp_path / 'out', path, SHORT)
  other = config(tmp_path / 'out', path, SHORT | dict(most=14))
  write_all = outputs.write

  def meanwhile(*args):
    with pytest.raises(ValueError, match='another process curates'):
      run(other)
    write_all(*args)

  monkeypatch.setattr(outputs, 'write', meanwhile)
  assert run(c) == 0


def test_numbers_of_their_own_do_not_fill_the_datasheet():
  source = random.Random(0)
  rows = [
    values.Row('a', '?', '1', difficulty=source.uniform(800, 3500))
    for _ in range(2000)
  ]
  rows += [values.Row('a', '?', '1', difficulty=d) for d in (None, 3.0, 8 / 7)]
  told = datasheet.distributions(rows)['difficulty']
  assert len(told) < 60 and sum(told.values()) == 2003
  assert told['3'] == told['1.1'] == told['unknown'] == 1


def test_rows_are_written_by_size_with_their_programs():
  rows = [dict(id='a', solutions=['x' * 10, 'yy'], difficulty=1.0)] * 3
  assert [outputs._size(row) for row in rows] == [13] * 3


def test_rows_of_which_none_can_be_read_are_one_line(tmp_path):
  rows = [dict(id='a', problem='a\0b', answer='1')]
  c = config(tmp_path / 'out', write(tmp_path / 'p', rows), SHORT)
  with pytest.raises(ValueError, match=r"none of the 1 rows.*'a': unreadable"):
    run(c)
  assert not os.path.exists(f'{c.out}/{outputs.ROWS}')


def test_rows_of_a_component(tmp_path):
  c = config(tmp_path / 'out', '', SHORT | dict(most=1))
  c.inputs.mine = curation.source(
    rows=dict(fn=f'{STEPS}rows', count=3), prefix='made-'
  )
  run(c)
  rows = table(c.out, outputs.ROWS)
  assert [(r['id'], r['source'], r['answer']) for r in rows] == [
    ('made-r0', 'mine', '0'),
    ('made-r1', 'mine', '1'),
    ('made-r2', 'mine', '2'),
  ]


def test_the_story_of_a_row(tmp_path):
  rows = [
    dict(id='a', problem='Problem: What is one and one?', answer='one'),
    dict(id='b', problem='What is one and one?', answer='one'),
    dict(id='c', problem='Why?', answer='-'),
  ]
  c = config(
    tmp_path / 'out', write(tmp_path / 'p', rows), LABELLED, SHORT, SAME
  )
  run(c)
  story = outputs.story(c.out, 'a')
  assert story[0] == 'a of mine: What is one and one?'
  assert story[1].startswith('changed by labels: label') and story[2] == 'kept'
  assert 'Problem: What' in story[1]
  assert outputs.story(c.out, 'b')[1:] == ['dropped by same  {"other": "a"}']
  assert outputs.story(c.out, 'c')[1:] == [
    'dropped by short  {"characters": 4}'
  ]
  with pytest.raises(ValueError, match="has no row of the id 'd'"):
    outputs.story(c.out, 'd')
  with pytest.raises(ValueError, match='no finished curation'):
    outputs.story(str(tmp_path), 'a')


@pytest.mark.parametrize(
  'step, message',
  [
    (dict(fn=f'{STEPS}short', most=999), 'step short: drops all 3 rows'),
    (dict(fn=f'{STEPS}short', most=0), r'config.steps\[0\]: most=0: expected'),
    (dict(fn=f'{STEPS}short'), r"config.steps\[0\].*missing.*'most'"),
    (SHORT | dict(least=1), r'config.steps\[0\].*it accepts: most'),
    (dict(fn=f'{STEPS}shorter'), r"config.steps\[0\].fn.*such as 'short'"),
    (dict(fn='nowhere:short'), r'config.steps\[0\].fn.*cannot import'),
    (SHORT | dict(action='hide'), "action='hide': give drop or flag"),
    (SHORT | dict(name='a b'), "name='a b': give at most 40"),
    (dict(fn=f'{STEPS}no_step'), 'expected a function that returns a'),
    ('short', r"config.steps\[0\]='short': give dict"),
    (dict(fn=f'{STEPS}broken', kind='few'), '2 fates for 3 rows'),
    (dict(fn=f'{STEPS}broken', kind='other'), 'a row keeps its id'),
    (dict(fn=f'{STEPS}broken', kind='evidence'), "row 'a' is not JSON"),
    (dict(fn=f'{STEPS}broken', kind='kind'), 'expected a values.Fate'),
    (dict(fn=f'{STEPS}broken', kind='none'), 'expected a values.Fate'),
  ],
)
def test_a_bad_step_is_one_line_and_leaves_nothing(tmp_path, step, message):
  rows = [dict(id=f'{i}', problem=f'What is {i}?', answer='1') for i in 'abc']
  c = config(tmp_path / 'out', write(tmp_path / 'p', rows), step)
  with pytest.raises(ValueError, match=message) as e:
    run(c)
  assert '\n' not in str(e.value)
  assert not [n for n in FILES if os.path.exists(f'{c.out}/{n}')]


def test_two_steps_of_one_name(tmp_path):
  path = write(tmp_path / 'p', problems(20))
  with pytest.raises(ValueError, match="second step of the name 'short'"):
    run(config(tmp_path / 'out', path, SHORT, SHORT))
  run(config(tmp_path / 'out', path, SHORT, SHORT | dict(name='again')))
  assert sheet(tmp_path / 'out')['steps'][1]['reasons'] == {}


def test_strangers_texts_are_no_markup(tmp_path):
  bad = '<script>alert(1)</script> | [x](http://y) \x1b[2J \u202e & `rm`'
  rows = [
    dict(id='a', problem=bad, answer='<b>'),
    dict(id='b', problem='b', answer=bad),
  ]
  flag = SHORT | dict(most=1000, action='flag')
  c = config(tmp_path / 'out', write(tmp_path / 'p', rows), flag)
  run(c)
  page = pathlib.Path(c.out, 'datasheet.html').read_text()
  text = pathlib.Path(c.out, 'datasheet.md').read_text()
  assert '<script' not in page and '&lt;script&gt;' in page
  assert not re.search(r'(?<!\\)(<|\]\(|`)', text)
  assert not {'\x1b', '\u202e'} & {*page, *text}


def test_a_state_has_one_writer_of_a_name(tmp_path):
  with (
    state.State(tmp_path),
    pytest.raises(ValueError, match='another process'),
  ):
    state.State(tmp_path).__enter__()
  with state.State(tmp_path), state.State(tmp_path, '1-of-2'):
    pass


def test_values_of_rows_stay_what_they_are(tmp_path):
  """What a row may hold goes through files and processes unchanged."""
  row = dict(
    id='a',
    problem='π ≈ 3 \n two lines',
    answer='\\frac{1}{2}',
    difficulty=3,
    url='https://example.org/1',
    date='2024-05-01T10:00:00',
    starter='def f():',
    solutions=['a = 1', 'b = 2'],
    wrong='["c"]',
  )
  c = config(tmp_path / 'out', write(tmp_path / 'p', [row]), SHORT)
  run(c)
  (found,) = table(c.out, outputs.ROWS)
  expected = row | dict(
    difficulty=3.0,
    date='2024-05-01',
    wrong=['c'],
    source='mine',
    tokens=None,
    right=None,
    judged=None,
    model=None,
    flags=[],
    about='{}',
  )
  assert found == expected


def test_a_step_sees_only_its_inputs(tmp_path):
  two = [row | dict(id=f'z{row["id"]}') for row in problems(29, seed=1)]
  two.append(two[0] | dict(id='again'))
  c = config(
    tmp_path / 'out',
    write(tmp_path / 'p', problems(30)),
    SHORT | dict(only=('mine',)),
    SAME | dict(only=('two',)),
  )
  c.inputs.two = curation.source(write(tmp_path / 'q', two))
  run(c)
  dropped = table(c.out, outputs.DROPPED)
  assert {(r['step'], r['source']) for r in dropped} == {
    ('short', 'mine'),
    ('same', 'two'),
  }
  alone = config(tmp_path / 'alone', str(tmp_path / 'q'), SAME)
  run(alone)
  assert {r['id'] for r in dropped if r['source'] == 'two'} == {
    r['id'] for r in table(alone.out, outputs.DROPPED)
  }
  c.steps = (SHORT | dict(most=10**6, only=('two',)),)
  with pytest.raises(ValueError, match='short: drops all 30 rows'):
    run(c)
  c.steps = (SHORT | dict(only=('three',)),)
  with pytest.raises(ValueError, match='names of inputs, which are mine, two'):
    run(c)
