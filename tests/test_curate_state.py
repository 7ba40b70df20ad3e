"""What was costly is kept, whatever kills the process that learned it."""

import functools
import json
import pathlib
import random
import subprocess
import sys

import pytest

from acereason_jax.data.curate import judging, state

TESTS = pathlib.Path(__file__).parent


@pytest.fixture(autouse=True)
def judges_in_workers(monkeypatch):
  monkeypatch.syspath_prepend(str(TESTS))


def test_what_was_made_once_is_never_made_again(tmp_path):
  made = []

  def make():
    made.append(1)
    return dict(list=[1, None], text='π')

  for _ in range(2):
    with state.State(tmp_path) as known:
      first = known.remember('runs', 'a', make)
      assert known.remember('runs', 'a', make) == first
      assert known.remember('runs', 'b', lambda: None) is None
  assert made == [1] and first == dict(list=[1, None], text='π')


def test_a_full_disk_names_the_file(tmp_path):
  (tmp_path / 'runs').mkdir()
  with state.State(tmp_path) as known:
    known.get('runs', '00')
    known._out['runs'].close()
    known._out['runs'] = open('/dev/full', 'ab')  # noqa: SIM115
    with pytest.raises(OSError, match=r'No space left.*runs/main\.jsonl'):
      known.remember('runs', 'a', lambda: 1)


def test_kinds_and_keys_are_apart(tmp_path):
  with state.State(tmp_path) as known:
    assert known.remember('one', 'a', lambda: 1) == 1
    assert known.remember('two', 'a', lambda: 2) == 2
    assert known.remember('one', 'b', lambda: 3) == 3
    with pytest.raises(ValueError, match=r"kind '\.\./out'"):
      known.remember('../out', 'a', lambda: 4)
  # A value that JSON has no form for is not kept.
  with state.State(tmp_path) as known:
    with pytest.raises(TypeError):
      known.remember('one', 'c', object)
    assert known.remember('one', 'c', lambda: 5) == 5


def test_a_file_that_is_cut_anywhere_loses_only_its_last_line(tmp_path):
  with state.State(tmp_path) as known:
    for i in range(20):
      known.remember('runs', f'{i}', lambda i=i: f'{i}' * 40)
  (path,) = (tmp_path / 'runs').glob('*.jsonl')
  whole = path.read_bytes()
  source = random.Random(0)
  for cut in [
    0,
    1,
    len(whole) - 1,
    *(source.randrange(len(whole)) for _ in range(20)),
  ]:
    path.write_bytes(whole[:cut])
    left = whole[:cut].count(b'\n')
    made = []

    def make(i, made=made):
      made.append(i)
      return f'{i}' * 40

    with state.State(tmp_path) as known:
      for i in range(20):
        value = known.remember('runs', f'{i}', functools.partial(make, i))
        assert value == f'{i}' * 40
    assert made == list(range(left, 20))
    assert path.read_bytes() == whole


def test_a_damaged_line_is_one_line(tmp_path):
  with state.State(tmp_path) as known:
    known.remember('runs', 'a', lambda: 1)
  (path,) = (tmp_path / 'runs').glob('*.jsonl')
  for bad in ('{"key": 1, "value": 2}', 'x', '[]', '{"key": "zz", "value": 1}'):
    path.write_text(f'{bad}\n')
    message = r'main.jsonl:1: holds no result'
    with (
      state.State(tmp_path) as known,
      pytest.raises(ValueError, match=message),
    ):
      known.get('runs', state.key_of('a'))


def test_writers_find_what_others_wrote(tmp_path):
  with state.State(tmp_path, '1-of-2') as one:
    one.remember('runs', 'a', lambda: 1)
  with state.State(tmp_path, '2-of-2') as two:
    assert two.remember('runs', 'a', lambda: 2) == 1
    two.remember('runs', 'b', lambda: 3)
  with state.State(tmp_path) as known:
    assert known.remember('runs', 'b', lambda: 4) == 3
  names = sorted(p.name for p in (tmp_path / 'runs').iterdir())
  assert names == ['1-of-2.jsonl', '2-of-2.jsonl', 'main.jsonl']


WRITER = """
import sys
from acereason_jax.data.curate import state
with state.State(sys.argv[1]) as known:
  for i in range(200):
    known.remember('runs', str(i), lambda: print(i, flush=True) or 'x' * 1000)
"""


def test_kill_9_loses_no_result_that_was_told(tmp_path):
  """What comes after a kill makes only what was not kept."""
  made, folder = [], tmp_path / 'state'
  source = random.Random(1)
  for _ in range(12):
    with subprocess.Popen(
      [sys.executable, '-c', WRITER, folder], stdout=subprocess.PIPE, text=True
    ) as process:
      for line, _ in zip(process.stdout, range(source.randrange(1, 30))):
        made.append(int(line))
      process.kill()
      made += map(int, process.stdout.read().split())
  # One that was being made when the kill came may be made again.
  assert len(made) - len({*made}) <= 12
  lines = (folder / 'runs' / 'main.jsonl').read_text().splitlines()
  keys = [json.loads(line)['key'] for line in lines]
  assert len(keys) == len({*keys}) >= len({*made}) - 12


def judges(folder):
  return judging.Judges(folder, workers=1)


def test_verdicts_are_asked_for_once_and_in_order(tmp_path):
  log = tmp_path / 'log'
  judge = dict(fn='curate_steps:verify', log=str(log), confine=False)
  pairs = [('a b', 'b'), ('c', 'd'), ('a b', 'b'), ('e', 'e')]
  with state.State(tmp_path / 's') as known, judges(known) as asked:
    found = asked.judge(judge, pairs)
    assert [v.status for v in found] == ['right', 'wrong', 'right', 'right']
    assert [v.detail for v in found] == ['3', '1', '3', '1']
    assert asked.asked == 3
  with state.State(tmp_path / 's') as known, judges(known) as asked:
    assert asked.judge(judge, pairs[::-1]) == found[::-1]
    assert asked.asked == 0
    # Another judge, or other arguments: another verdict.
    other = judge | dict(log='')
    assert [v.status for v in asked.judge(other, pairs)] == [
      v.status for v in found
    ]
    assert asked.asked == 3
  assert len(log.read_text().splitlines()) == 3


def test_a_failure_is_no_finding(tmp_path):
  log = tmp_path / 'log'
  judge = dict(fn='curate_steps:breaks', log=str(log), confine=False)
  for count in (2, 0):
    with state.State(tmp_path / 's') as known, judges(known) as asked:
      (verdict,) = asked.judge(judge, [('a', 'a')])
      assert verdict.status == 'error' and asked.asked == count
  assert len(log.read_text().splitlines()) == 2


def test_a_judge_that_is_not_there_is_one_line(tmp_path):
  with state.State(tmp_path) as known, judges(known) as asked:
    with pytest.raises(ValueError, match='nothing_of_this') as e:
      asked.judge(dict(fn='curate_steps:nothing_of_this'), [('a', 'a')])
    assert '\n' not in str(e.value)
