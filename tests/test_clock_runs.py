"""The clock of real runs: each second has a name, whatever ends a start."""

import itertools
import signal

import gangs
import pytest
from runs import metrics_of
from test_waste import check_sums, flat

from acereason_jax.reporting import waste
from acereason_jax.run import account, clock_file

# Two clocks of a host, read one after the other.
APART = 0.05
# A save that a kill tears decides nothing: there is none before the end.
SAVES = '--config.checkpoint.every=9', '--config.steps=5'


def text_of(workdir):
  return (workdir / clock_file.NAME).read_text()


def by_start(lines):
  return [list(s) for _, s in itertools.groupby(lines, lambda x: x.start)]


def check_clock(lines):
  """Lines of a start follow each other without a gap, and kinds are known."""
  kinds = {*account.KINDS.values()}
  kinds |= {account.START, account.COMPILE, account.BETWEEN}
  for i, start in enumerate(by_start(lines)):
    assert {line.start for line in start} == {i}
    for before, line in itertools.pairwise(start):
      length = sum(line.seconds.values())
      assert line.time - length == pytest.approx(before.time, abs=APART)
      assert line.step - before.step in (0, 1)
    for line in start:
      assert line.seconds.keys() <= kinds


def check_tree(lines, rows):
  found = waste.tree(lines, rows)
  check_sums(found.root)
  began = lines[0].time - sum(lines[0].seconds.values())
  whole = (lines[-1].time - began) * 1000
  assert found.root.milliseconds == pytest.approx(whole, abs=1000 * APART)
  seconds = {part.name: part.milliseconds / 1000 for part in found.root.parts}
  assert seconds.get('unrecorded', 0) < APART
  return seconds, flat(found.root)


@pytest.mark.slow
def test_a_run_that_is_killed_three_times(command, folder):
  workdir = folder / 'killed'
  before = ''
  for place in ('add@1', 'sample@2', 'judge@3'):
    run = command(workdir, *SAVES, script=place)
    assert run.end() == -signal.SIGKILL
    # What earlier starts wrote stays.
    assert text_of(workdir).startswith(before)
    before = text_of(workdir)
  command(workdir, *SAVES).ends(0)
  assert text_of(workdir).startswith(before)
  lines = account.read(text_of(workdir))
  check_clock(lines)
  starts = by_start(lines)
  # Each start took again all steps that the one before it had finished.
  ends = [[0, 1], [0, 1, 2], [0, 1, 2, 3], [*range(6)]]
  assert [sorted({x.step for x in start}) for start in starts] == ends
  rows = metrics_of(workdir, all_fields=True)
  seconds, leaves = check_tree(lines, rows)
  again = [*starts[1][1:2], *starts[2][1:3], *starts[3][1:4]]
  assert [line.step for line in again] == [1, 1, 2, 1, 2, 3]
  lost = sum(sum(line.seconds.values()) for line in again)
  assert seconds['lost'] == pytest.approx(lost, abs=0.01)
  wanted = {'start', 'load', 'compile', 'held-out questions', 'down'}
  wanted |= {'draw prompts', 'sample', 'update', 'pack rows', 'save'}
  assert wanted <= seconds.keys()
  assert ('update', 'response tokens') in leaves
  assert ('sample', 'decode', 'trained tokens') in leaves


def test_the_clock_of_a_run_and_its_metrics_agree(command, folder):
  """A metric counts from one call to another, and its compiles too."""
  workdir = folder / 'whole'
  command(workdir).ends(0)
  lines = account.read(text_of(workdir))
  check_clock(lines)
  (start,) = by_start(lines)
  rows = metrics_of(workdir, all_fields=True)
  assert [line.step for line in start] == [0, 1, 2, 3, 4, 4]
  for line, row in zip(start[1:], rows):
    spent = lambda *kinds, of=line: sum(of.seconds.get(k, 0) for k in kinds)
    assert row['seconds_step'] <= spent(*line.seconds) + APART
    assert spent('sample') <= row['seconds_sample'] + APART
    sampled = row['seconds_sample'] + row['seconds_judge']
    assert sampled <= spent('sample', 'judge', 'compile') + APART
    assert spent('reshard') <= row['seconds_reshard'] + APART
    assert row['seconds_update'] <= (
      spent('pack', 'report', 'update', 'between', 'compile') + APART
    )
  # Each step counts its slot steps once.
  for row in rows:
    shares = {k: v for k, v in row.items() if k.startswith('slot_share_')}
    assert sum(shares.values()) == pytest.approx(1)
    empty = shares['slot_share_waiting'] + shares['slot_share_tail']
    assert 1 - empty == pytest.approx(row['occupancy'])
    packed = row['packed_prompt_tokens'] + row['packed_response_tokens']
    assert 0 < packed <= row['packed_tokens']
    # A microbatch has 4 rows of 32 columns.
    assert row['packed_tokens'] % 128 == 0
    assert row['packed_response_tokens'] == row['trained_tokens']
  check_tree(lines, rows)


def test_a_run_that_is_over_adds_nothing(command, folder):
  workdir = folder / 'over'
  command(workdir, '--config.steps=1').ends(0)
  before = text_of(workdir)
  command(workdir, '--config.steps=1').ends(0)
  assert text_of(workdir) == before


@pytest.mark.hosts
def test_of_two_processes_the_first_keeps_the_clock(command, folder):
  workdir = folder / 'two'
  runs = gangs.start(command, workdir, 2, script='update@2', by='hanging')
  for run in runs:
    run.wait_for('hangs')
  for run in runs:
    run.process.kill()
    run.end()
  assert [run.end() for run in gangs.start(command, workdir, 2)] == [0, 0]
  lines = account.read(text_of(workdir))
  check_clock(lines)
  assert [start[-1].step for start in by_start(lines)] == [2, 4]
  rows = metrics_of(workdir, all_fields=True)
  seconds, _ = check_tree(lines, rows)
  assert {'start', 'sample', 'update', 'down'} <= seconds.keys()
