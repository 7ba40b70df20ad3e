"""`python -m acereason_jax.curate` as a user calls it, and as it is killed."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = """
from acereason_jax.config import curation

def get_config():
  c = curation.get_config()
  c.workers = 2
  c.inputs.mine = curation.source({path!r}, licence='MIT')
  c.steps = {steps!r}
  c.responses = {responses!r}
  return c
"""
FILES = ('rows.parquet', 'dropped.parquet', 'changes.parquet', 'datasheet.md')
JUDGED = dict(fn='curate_steps:judged', judge='curate_steps:slow')


def environment():
  paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
  return os.environ | dict(PYTHONPATH=paths)


def words(place, *flags):
  return [
    *(sys.executable, '-m', 'acereason_jax.curate'),
    f'--config={place}/config.py',
    *flags,
  ]


def call(place, *flags, out='out'):
  """(status, standard output, standard error)."""
  done = subprocess.run(
    words(place, f'--config.out={place}/{out}', *flags),
    capture_output=True,
    text=True,
    env=environment(),
    check=False,
  )
  return done.returncode, done.stdout, done.stderr


def prepare(place, count, *steps, responses=()):
  rows = [
    dict(id=f'q{i}', problem=f'What is {i} plus 1?', answer=f'{i % 10}')
    for i in range(count)
  ]
  path = place / 'rows.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  text = CONFIG.format(path=str(path), steps=steps, responses=responses)
  (place / 'config.py').write_text(text)


def kept(place, out='out'):
  return pyarrow.parquet.read_table(place / out / 'rows.parquet').to_pylist()


def contents(place, out):
  return [(place / out / name).read_bytes() for name in FILES]


def test_rows_and_the_story_of_one(tmp_path):
  prepare(tmp_path, 20, JUDGED)
  status, said, errors = call(tmp_path, '--workers=1')
  assert (status, errors) == (0, '')
  # The answer's digit stands in the problem for the numbers below 10, for 10
  # (a 1 and a 0), and as the last digit of the others.
  assert len(kept(tmp_path)) == 20 and '20 of 20 rows in' in said
  assert 'judged' in said and 'verdicts asked for: 20' in said
  status, said, _ = call(tmp_path, '--workers=1')
  assert status == 0 and 'verdicts asked for: 0' in said
  status, said, _ = call(tmp_path, '--why=q7')
  assert (status, said) == (0, 'q7 of mine: What is 7 plus 1?\nkept\n')
  status, _, said = call(tmp_path, '--why=q70')
  assert (status, said.count('\n')) == (
    1,
    1,
  ) and "no row of the id 'q70'" in said


@pytest.mark.parametrize(
  'flags, status, message',
  [
    (['--config.inputs.mine.path=/nowhere'], 1, '/nowhere: cannot be read'),
    (['--config.inputs.other.path=x'], 2, 'other'),
    (['--config.seed=-1'], 1, 'config.seed=-1: give 0 to'),
    (['--config.out='], 1, "config.out='': give a folder"),
    (['--config.out=gs://b/c'], 1, "config.out='gs://b/c': give a folder"),
    (['--shard=0/2'], 2, '--shard=0/2: expected i/n'),
    (['--shard=3/2'], 2, '--shard=3/2: expected i/n'),
    (['--workers=-1'], 1, '--workers=-1: give 0'),
    (['--why=q1'], 1, 'holds no finished curation'),
    (['--tokens'], 2, 'tokens'),
  ],
)
def test_a_bad_command_is_one_line(tmp_path, flags, status, message):
  prepare(tmp_path, 3, JUDGED)
  got, said, errors = call(tmp_path, *flags)
  assert got == status and not said
  assert message in errors and errors.count('\n') == 1, errors
  assert not (tmp_path / 'out' / 'rows.parquet').exists()


@pytest.mark.parametrize('name', ['rows.parquet', 'prompts.jsonl'])
def test_a_file_that_no_curation_wrote_is_not_replaced(tmp_path, name):
  prepare(tmp_path, 3, JUDGED)
  mine = tmp_path / 'out' / name
  mine.parent.mkdir()
  mine.write_bytes(b'mine')
  status, _, errors = call(tmp_path)
  assert (status, errors.count('\n')) == (1, 1)
  assert f'config.out: {mine}: there is a file that is not a cur' in errors
  assert [p.name for p in mine.parent.iterdir()] == [name]
  assert mine.read_bytes() == b'mine'
  mine.unlink()
  for _ in range(2):
    assert call(tmp_path)[0] == 0
    # What was costly to learn may be removed.
    shutil.rmtree(tmp_path / 'out' / 'state')


def test_an_input_is_not_replaced(tmp_path):
  prepare(tmp_path, 3, JUDGED)
  assert call(tmp_path)[0] == 0
  out = tmp_path / 'out'
  before = contents(tmp_path, 'out')
  for name in ('rows.parquet', '../out/rows.parquet', '../linked'):
    if name == '../linked':
      (tmp_path / 'linked').symlink_to(out / 'rows.parquet')
    flag = f'--config.inputs.mine.path={out}/{name}'
    status, _, errors = call(tmp_path, flag)
    assert (status, errors.count('\n')) == (1, 1)
    assert f'is the same file as {out}/{name}, which the comm' in errors
    assert call(tmp_path, flag, out='other')[0] == 0
  assert contents(tmp_path, 'out') == before


def test_missing_responses_end_with_the_command_that_makes_them(tmp_path):
  answers = tmp_path / 'answers'
  prepare(
    tmp_path,
    3,
    dict(fn='curate_steps:answered'),
    responses=(dict(fn='curate_steps:responses', path=str(answers)),),
  )
  status, said, errors = call(tmp_path)
  assert (status, errors) == (75, '')
  prompts = (tmp_path / 'out' / 'prompts.jsonl').read_text().splitlines()
  assert json.loads(prompts[0]) == dict(id='q0', problem='What is 0 plus 1?')
  assert '3 rows need responses, 4 each' in said and '--n=4' in said
  assert not (tmp_path / 'out' / 'rows.parquet').exists()
  answers.touch()
  status, _, errors = call(tmp_path)
  assert (status, errors) == (0, '') and len(kept(tmp_path)) == 3
  assert not (tmp_path / 'out' / 'prompts.jsonl').exists()


def test_a_signal_ends_it_with_the_status_for_going_on(tmp_path):
  prepare(tmp_path, 2000, JUDGED)
  with subprocess.Popen(
    words(tmp_path, f'--config.out={tmp_path}/out'),
    env=environment(),
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    verdicts = tmp_path / 'out' / 'state' / 'verdicts' / 'main.jsonl'
    wait_for(verdicts)
    process.send_signal(signal.SIGTERM)
    assert 'the same command goes on' in process.stdout.read()
  assert process.returncode == 75


def wait_for(path):
  until = time.monotonic() + 60
  while not (path.exists() and path.stat().st_size):
    assert time.monotonic() < until
    time.sleep(0.01)


def kills(place, count, seed):
  """Kills the command at random moments, then lets it end; its state's keys."""
  source = random.Random(seed)
  verdicts = place / 'out' / 'state' / 'verdicts' / 'main.jsonl'
  for _ in range(count):
    process = subprocess.Popen(
      words(place, f'--config.out={place}/out'),
      env=environment(),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    if source.random() < 0.7:
      before = verdicts.stat().st_size if verdicts.exists() else 0
      until = time.monotonic() + 60
      while process.poll() is None and time.monotonic() < until:
        if verdicts.exists() and verdicts.stat().st_size > before:
          break
        time.sleep(0.01)
    time.sleep(source.random() * 0.5)
    process.kill()
    process.wait()
  status, _, errors = call(place)
  assert (status, errors) == (0, '')
  return [json.loads(line)['key'] for line in verdicts.read_text().splitlines()]


@pytest.mark.parametrize('count', [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_anywhere_gives_the_same_bytes(tmp_path, count):
  prepare(tmp_path, 150, JUDGED, dict(fn='curate_steps:short', most=16))
  assert call(tmp_path, out='whole')[0] == 0
  keys = kills(tmp_path, count, seed=count)
  assert len(keys) == len({*keys}) == 150
  assert contents(tmp_path, 'out') == contents(tmp_path, 'whole')
  leftovers = [p.name for p in (tmp_path / 'out').iterdir()]
  assert not [n for n in leftovers if n.endswith('.partial')] or count == 20
