"""What rows of rollouts add up to, against counts in plain Python."""

import collections
import re

import pyarrow
import pytest
import reporting_rows
from reporting_rows import row, rows

from acereason_jax import types
from acereason_jax.reporting import tallies

EVERY = range(1 << 40)
PHASES = {
  (1, 'train'),
  (2, 'train'),
  (2, 'heldout'),
  (0, 'before'),
  (0, 'probe'),
  (2, 'probe'),
  (5, 'train'),
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  found = {}
  for i, (step, phase) in enumerate(sorted(PHASES)):
    found[step, phase] = rows(i, step, phase=phase)
    reporting_rows.write(folder, found[step, phase], step, phase)
  return folder, [r for part in found.values() for r in part]


def kind(detail):
  quoted = re.sub('\'[^\']*\'|"[^"]*"', "'..'", detail)
  return re.sub(r'[0-9]+(\.[0-9]+)?', '#', quoted)


def test_cells_are_those_of_a_recount(run):
  folder, every = run
  found = tallies.tally(folder, EVERY)
  sums = collections.defaultdict(lambda: [0] * 6)
  for r in every:
    numbers = (
      *(1, r.length, r.stop == 'length', r.reward > 0, r.counted, r.trained),
    )
    key = r.phase, r.stage, r.domain, r.status
    sums[key] = [a + b for a, b in zip(sums[key], numbers)]
  assert {k: list(v) for k, v in found.cells.items()} == dict(sums)
  assert found.rollouts == len(every) and not found.notes


def test_details_are_those_of_a_recount(run):
  folder, every = run
  found = tallies.tally(folder, EVERY).details
  wrong = [r for r in every if r.status != 'right']
  key = lambda r: (r.phase, r.domain, r.status, kind(r.detail))
  counts = collections.Counter(map(key, wrong))
  assert {d[:4]: d.count for d in found} == counts
  assert [d.count for d in found] == sorted(counts.values(), reverse=True)
  for d in found:
    mine = [r for r in wrong if key(r) == d[:4]]
    steps = [r.step for r in mine]
    assert (d.first, d.last) == (min(steps), max(steps))
    # The last third of steps 0 to 5 begins with step 4.
    assert d.recent == sum(step >= 4 for step in steps)
    assert (d.example, d.prompt) in {(r.detail, r.prompt) for r in mine}


def test_prompts_and_steps_are_those_of_a_recount(run):
  folder, every = run
  found = tallies.tally(folder, EVERY)
  trained = [r for r in every if r.phase == 'train']
  assert {a.prompt for a in found.prompts} == {r.prompt for r in trained}
  for asked in found.prompts:
    mine = [r for r in trained if r.prompt == asked.prompt]
    statuses = [r.status for r in mine]
    assert asked.counts == [statuses.count(s) for s in types.STATUSES]
    assert asked.steps == len({r.step for r in mine})
    assert asked.truncated == sum(r.stop == 'length' for r in mine)
    assert asked.domain == mine[0].domain
    failed = {r.detail for r in mine if r.status not in ('right', 'unparsed')}
    assert asked.detail == (None if len(failed) > 1 else ''.join(failed))
  for step, counts in found.statuses.items():
    statuses = [r.status for r in trained if r.step == step]
    assert counts == [statuses.count(s) for s in types.STATUSES]


def test_only_the_steps_that_are_asked_for(run):
  folder, every = run
  found = tallies.tally(folder, range(2, 5))
  assert found.rollouts == sum(2 <= r.step < 5 for r in every)


def test_a_prompt_that_always_fails_in_the_same_words(tmp_path):
  def written(step, details):
    found = [
      row(step=step, prompt=p, index=i, status=s, detail=d)
      for p, pairs in details.items()
      for i, (s, d) in enumerate(pairs)
    ]
    reporting_rows.write(tmp_path, found, step)

  same, right = ('wrong', 'WA test 1'), ('right', 'AC')
  written(1, dict(a=[same, same], b=[same, right], c=[right] * 2, d=[same] * 2))
  written(2, dict(a=[same, same], b=[same, same], c=[same] * 2, d=[right] * 2))
  written(3, dict(a=[same, same], d=[('wrong', 'WA test 2'), right]))
  found = {a.prompt: a for a in tallies.tally(tmp_path, EVERY).prompts}
  assert found['a'].detail == found['b'].detail == 'WA test 1'
  assert (found['a'].right, found['b'].right) == (0, 1)
  assert found['c'].detail == 'WA test 1' and found['c'].right == 2
  assert found['d'].detail is None
  assert found['a'].steps == 3


def test_kinds_of_details():
  texts = ["sympy: '1/2'", 'over 8.0 s', 'x "a 1', '', "it's 3", '\u0661']
  found = tallies.kinds_of(pyarrow.array(texts)).to_pylist()
  assert found == ["sympy: '..'", 'over # s', "x '..'", '', "it'..'", '\u0661']


def test_a_damaged_file_is_named_and_left_out(run, tmp_path):
  good = rows(9, 1)
  reporting_rows.write(tmp_path, good, 1)
  for step in range(2, 8):
    reporting_rows.write(tmp_path, good, step).write_bytes(b'PAR1 no')
  unknown = reporting_rows.write(tmp_path, [row(status='fine')], 8)
  (unknown.parent / 'notes.txt').write_text('not ours')
  found = tallies.tally(tmp_path, EVERY)
  assert found.rollouts == len(good)
  assert len(found.notes) == 4 and 'rollouts/00000002.parquet' in found.notes[0]
  assert '4 more' in found.notes[-1]


def test_an_empty_file_and_no_file(tmp_path):
  assert tallies.tally(tmp_path, EVERY) == tallies.Tally()
  reporting_rows.write(tmp_path, [], 1)
  assert tallies.tally(tmp_path, EVERY).rollouts == 0


def test_memory_is_bounded_by_kinds_and_not_by_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(tallies, '_MOST_DETAILS', 10)
  monkeypatch.setattr(tallies, '_MOST_PROMPTS', 30)
  for step in range(1, 9):
    found = [
      row(step=step, prompt=f'{step}.{i}', status='wrong', detail=word)
      for i, word in enumerate(
        ['often'] * 20 + [f'{"x" * step}y{"z" * i}' for i in range(9)]
      )
    ]
    reporting_rows.write(tmp_path, found, step)
  found = tallies.tally(tmp_path, EVERY)
  assert found.details[0].kind == 'often' and found.details[0].count == 160
  assert len(found.details) <= 20
  assert len(found.prompts) == 30 and 'first 30' in found.notes[0]
