"""A report of a folder that somebody else wrote: bounded, and one line."""

import json
import re

import kept_runs
import pytest
import reporting_rows
from reporting_rows import row

from acereason_jax import storage, types
from acereason_jax.config import recorded
from acereason_jax.reporting import (
  alarms_verdicts,
  asking,
  evidence,
  files,
  fit,
  read,
  tallies,
)

HUGE = '1' + '0' * 400


def values_of(folder):
  return read.report(str(folder), ledger=None, samples=fit.NO_SAMPLES)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    (
      files.PLAN,
      '{"stages": [{"name": "main", "seconds": {"decode": HUGE}}]}',
    ),
    (
      files.SUMMARY,
      '{"heldout": [{"stage": "", "heldout/main": HUGE, '
      '"heldout_error/main": -HUGE}]}',
    ),
    (files.SUMMARY, '{"steps": HUGE}'),
    (files.CONFIG, '{"rollout": {"max_tokens": HUGE}}'),
    (files.STARTS, '{"step": HUGE, "config": "tiny"}'),
  ],
)
def test_an_integer_that_is_no_float(tmp_path, name, content):
  record = dict(step=1, stage=0, reward=0.5, seconds_sample=3.0)
  reporting_rows.write_metrics(tmp_path, [record])
  (tmp_path / name).write_text(content.replace('HUGE', HUGE))
  got = values_of(tmp_path)
  assert got.curves[0].steps == [1]


def test_integers_that_are_floats_stay_exact(tmp_path):
  (tmp_path / files.CONFIG).write_text('{"seed": 9223372036854775807}')
  assert files.value(str(tmp_path), files.CONFIG)['seed'] == 2**63 - 1


@pytest.mark.parametrize('name', [files.STARTS, files.CLOCK, files.CONFIG])
def test_a_folder_in_place_of_a_file_is_named(tmp_path, name):
  reporting_rows.write_metrics(tmp_path, [dict(step=1, reward=0.5)])
  (tmp_path / name).mkdir()
  with pytest.raises(OSError, match=re.escape(str(tmp_path / name))):
    values_of(tmp_path)
  with pytest.raises(OSError, match='not a file'):
    storage.read(tmp_path / name, 9)


def test_other_names_in_each_step_are_bounded():
  """Each would become a curve with a value for every step."""
  lines = [
    json.dumps({f'{step}_{i}': i for i in range(900)} | dict(step=step))
    for step in range(1, 6)
  ]
  got = files.metrics('\n'.join(lines))
  names = set().union(*got) - {'step'}
  assert [m['step'] for m in got] == [1, 2, 3, 4, 5]
  assert len(names) <= 2000 and {'1_0', '1_899', '2_899'} <= names
  assert got[4] == dict(step=5)


def test_ids_without_numbers_do_not_take_their_square(tmp_path, monkeypatch):
  """Each such id is a set of its own."""

  def looked_at(count):
    letters = str.maketrans('0123456789', 'abcdefghij')
    ids = [str(i).translate(letters) for i in range(count)]
    rows = [row(prompt=name, status='wrong', reward=0.0) for name in ids]
    reporting_rows.write(tmp_path, rows, 1)
    tally = tallies.tally(str(tmp_path), range(9))
    assert len(tally.prompts) == count
    calls = []
    counted = lambda asked: calls.append(asked) or asked.rollouts
    monkeypatch.setattr(alarms_verdicts, '_judged', counted)
    found = evidence.Evidence([], [], None, tally, (), None)
    assert not list(alarms_verdicts.families(found))
    return len(calls)

  assert looked_at(200) <= 2 * looked_at(100)


@pytest.mark.parametrize('seconds', [60.0, 1e-9])
def test_so_many_judges_are_not_started(monkeypatch, seconds):
  started = []

  def fails(fn, arguments, *rest):
    started.append(arguments['n'])
    raise ValueError('no such judge')

  monkeypatch.setattr(asking.pool_lib, 'VerifierPool', fails)
  judges = {
    f'd{n}': recorded.Judge(kept_runs.MATH, dict(n=n), 8.0, True)
    for n in range(100)
  }
  pairs = [
    (each, kept_runs.text(each))
    for n in range(100)
    for each in [kept_runs.row(f'p{n}', domain=f'd{n}')]
  ]
  found = kept_runs.samples(pairs).samples
  facts = asking.Known(judges, types.EMPTY, '')
  said = asking.ask(found, facts, seconds, False)
  assert sum('more than 16 judges' in text for text in said) == 84
  if seconds < 1:
    assert not started
    assert sum('were over' in text for text in said) == 16
    return
  assert len(started) == 16 == len(set(started))
  assert sum('no such judge' in text for text in said) == 16
