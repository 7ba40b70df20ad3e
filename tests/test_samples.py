"""The rollouts of a page: whole groups, of every kind, within its bytes."""

import collections
import functools
import itertools
import math

import kept_runs
import numpy as np
import pytest

from acereason_jax.data import archive
from acereason_jax.reporting import samples

STATUSES = ('right', 'wrong', 'unparsed', 'timeout', 'error')


def size(sample):
  return 2 * len(sample.text) + 100


def drawn_run(folder, seed, steps=40, looks=(0, 10, 20, 40)):
  """A run of two stages; each step keeps two of its four groups."""
  random = np.random.default_rng(seed)
  pairs, rows = [], []

  def group(step, phase, prompt, kept, count):
    for index in range(count):
      status = str(random.choice(STATUSES, p=[0.5, 0.3, 0.18, 0.01, 0.01]))
      stop = str(random.choice(['stop', 'length'], p=[0.9, 0.1]))
      length = int(random.integers(1, 60))
      reward = float(status == 'right')
      if status in ('timeout', 'error'):
        reward = math.nan
      row = kept_runs.row(
        prompt,
        index,
        step=step,
        phase=phase,
        stage='' if phase == 'before' else f's{step // 21}',
        status=status,
        stop=stop,
        length=length,
        reward=reward,
        kept=kept,
      )
      rows.append(row)
      if kept:
        pairs.append((row, kept_runs.text(row, 'x' * length)))

  for step in range(1, steps + 1):
    for place, kept in enumerate(['drawn', 'mixed', '', '']):
      group(step, 'train', f'p{(7 * step + place) % 31}-{place}', kept, 4)
  for step in looks:
    for name in range(6):
      phase = 'heldout' if step else 'before'
      group(step, phase, f'h{name}', 'heldout', 2)
  kept_runs.write(folder, rows, pairs)
  return rows, pairs


def cells_of(rows):
  """The (stage, phase, verdict) of rows, by group."""
  found = collections.defaultdict(set)
  for row in rows:
    key = row.step, row.phase, row.prompt
    found[key].add((row.stage, row.phase, row.status))
    if row.stop == 'length':
      found[key].add((row.stage, row.phase, 'truncated'))
  return found


def chosen_groups(found):
  """How many rollouts the page has of each group."""
  return collections.Counter(samples.place_of(s)[:3] for s in found.samples)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """(folder, rows, pairs) of a run, which no test changes."""

  @functools.cache
  def drawn(seed):
    folder = tmp_path_factory.mktemp('run')
    return folder, *drawn_run(folder, seed)

  return drawn


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('share', [0.0, 0.02, 0.3, 0.7, 1.0])
def test_whole_groups_of_every_kind_within_the_bytes(seed, share, drawn):
  folder, rows, pairs = drawn(seed)
  cost = collections.Counter()
  for row, text in pairs:
    # What an explanation may take is counted too.
    cost[row.step, row.phase, row.prompt] += 2 * len(text.text) + 1600
  sizes = collections.Counter(
    (row.step, row.phase, row.prompt) for row, _ in pairs
  )
  cells = cells_of([row for row, _ in pairs])
  most = int(share * sum(cost.values()))
  found = samples.choose(folder, most_bytes=most, size=size)
  taken = chosen_groups(found)
  assert all(taken[key] == sizes[key] for key in taken)
  assert sum(cost[key] for key in taken) <= most
  kinds = set().union(*cells.values())
  dearest = {
    cell: max(cost[key] for key in cells if cell in cells[key])
    for cell in kinds
  }
  if sum(dearest.values()) <= most:
    assert set().union(*(cells[key] for key in taken)) == kinds
  if share == 1.0:
    assert taken == sizes and found.note == ''
  else:
    assert 'do not fit' in found.note
  assert (found.held, found.rollouts) == (len(pairs), len(rows))
  # There is no room for two more.
  left = most - sum(cost[key] for key in taken)
  others = [cost[key] for key in cost if key not in taken]
  assert not others or left < 2 * max(others)
  again = samples.choose(folder, most_bytes=most, size=size)
  assert again == found
  places = [samples.place_of(s) for s in found.samples]
  assert places == sorted(set(places))


@pytest.mark.parametrize('seed', range(3))
def test_early_and_late_are_there(seed, drawn):
  folder, _, pairs = drawn(seed)
  found = samples.choose(folder, most_bytes=250_000, size=size)
  steps = [s.row['step'] for s in found.samples if s.row['phase'] == 'train']
  for stage in ('s0', 's1'):
    of = [r.step for r, _ in pairs if r.stage == stage and r.phase == 'train']
    quarter = (max(of) - min(of)) / 4
    assert min(s for s in steps if s >= min(of)) <= min(of) + quarter
    assert max(s for s in steps if s <= max(of)) >= max(of) - quarter


def test_the_newest_look_is_whole_if_it_fits(drawn):
  folder, *_ = drawn(0)
  found = samples.choose(folder, most_bytes=150_000, size=size)
  look = [s for s in found.samples if s.row['phase'] == 'heldout']
  newest = [s for s in look if s.row['step'] == 40]
  assert len(newest) == 12 and len(found.samples) < found.held
  older = collections.Counter(s.row['step'] for s in look)
  assert older[10] < 12 or older[20] < 12


def test_samples_are_the_rows_and_texts_that_were_written(drawn):
  folder, _, pairs = drawn(1)
  found = samples.choose(folder, most_bytes=10**9, size=size)
  by_key = {(*samples.place_of(s),): s for s in found.samples}
  assert len(by_key) == len(pairs)
  for row, text in pairs:
    sample = by_key[row.step, row.phase, row.prompt, row.index]
    plain = {k: None if v != v else v for k, v in row._asdict().items()}
    assert sample.row == plain
    assert (sample.question, sample.answer) == (text.question, text.answer)
    assert sample.text == text.text
    assert sample.characters == text.characters.tolist()
    assert sample.surprise == text.surprise.tolist()
    assert sample.mismatch is None
    expected = None if text.entropy is None else text.entropy.tolist()
    assert sample.entropy == expected


def test_steps_and_a_given_index(drawn):
  folder, rows, pairs = drawn(2)
  found = samples.choose(folder, most_bytes=10**9, size=size, steps=(10, 20))
  keys = [samples.place_of(s) for s in found.samples]
  expected = [
    (r.step, r.phase, r.prompt, r.index) for r, _ in pairs if 10 <= r.step <= 20
  ]
  assert keys == sorted(expected)
  assert found.rollouts == sum(10 <= r.step <= 20 for r in rows)
  # A reader of rows may give what it read for other purposes.
  groups, rollouts = [], 0
  for place in samples.places(folder):
    data = (folder / archive.FOLDER / place.name).read_bytes()
    table = archive.read_rows(data)
    groups += samples.groups_of(place, table)
    rollouts += len(table)
  index = samples.Index(groups, rollouts)
  assert index[:2] == samples.read_index(folder)[:2]
  given = samples.choose(
    folder, most_bytes=50_000, size=size, steps=(10, 20), index=index
  )
  own = samples.choose(folder, most_bytes=50_000, size=size, steps=(10, 20))
  assert given.samples == own.samples


def test_removed_texts_are_not_held(tmp_path):
  rows, pairs = drawn_run(tmp_path, 3)
  for step in range(1, 40):
    name = archive.Place(step, 'train').name
    (tmp_path / archive.FOLDER / archive.TEXTS / name).unlink()
  found = samples.choose(tmp_path, most_bytes=10**9, size=size)
  left = [r for r, _ in pairs if r.phase != 'train' or r.step == 40]
  assert found.held == len(found.samples) == len(left)
  assert found.rollouts == len(rows)
  assert samples.read_group(tmp_path, archive.Place(39, 'train'), 'p') == []


def test_damaged_files_are_told_and_left_out(tmp_path):
  drawn_run(tmp_path, 0)
  whole = samples.choose(tmp_path, most_bytes=10**9, size=size)
  below = tmp_path / archive.FOLDER
  (below / archive.Place(3, 'train').name).write_bytes(b'PAR1')
  (below / archive.TEXTS / archive.Place(5, 'train').name).write_bytes(b'')
  (below / 'other.txt').write_text('not ours')
  found = samples.choose(tmp_path, most_bytes=10**9, size=size)
  steps = {s.row['step'] for s in found.samples}
  assert {s.row['step'] for s in whole.samples} - steps == {3, 5}
  assert 'Not read: rollouts/00000003.parquet: ' in found.note
  assert 'Not read: rollouts/00000005.parquet: ' in found.note
  assert len(found.note.splitlines()) == 1


def test_a_row_has_one_text(tmp_path):
  row, other = kept_runs.row(), kept_runs.row('no row of this prompt')
  twice = [(row, kept_runs.text(row, text)) for text in ('a', 'b')]
  stray = (other, kept_runs.text(other, 'c'))
  kept_runs.write(tmp_path, [row, row], [*twice, stray])
  found = samples.choose(tmp_path, most_bytes=10**6, size=size)
  assert [s.text for s in found.samples] == ['a']


def test_a_run_without_rollouts(tmp_path):
  for folder in (tmp_path, tmp_path / 'missing'):
    found = samples.choose(folder, most_bytes=10**6, size=size)
    assert (list(found.samples), found.held, found.rollouts) == ([], 0, 0)
    assert found.note == ''


@pytest.mark.parametrize('count', [0, 1, 2, 3, 7, 64, 1000])
def test_spread_takes_each_once_and_halves_the_gaps(count):
  order = list(samples.spread(count))
  assert sorted(order) == list(range(count))
  for taken in (3, 5, 9, 17):
    if taken <= count:
      found = sorted(order[:taken])
      gaps = [b - a for a, b in itertools.pairwise(found)]
      assert max(gaps) <= math.ceil((count - 1) / (taken - 1)) + 1


def test_texts_of_some_prompts_are_those_of_the_whole_file():
  rows = [
    kept_runs.row(f'p{i // 3}', i % 3, length=i, trained=i % 2 == 0)
    for i in range(30)
  ]
  data = archive.texts_to_bytes([kept_runs.text(row, 'é' * 9) for row in rows])
  whole = archive.read_texts(data)
  wanted = {'p2', 'p7', 'none'}
  some = archive.read_texts(data, wanted)
  same = [text for text in whole if text.prompt in wanted]
  assert len(whole) == 30 and len(some) == len(same) == 6
  for a, b in zip(some, same):
    for x, y in zip(a, b):
      assert type(x) is type(y) and np.array_equal(x, y)
  assert archive.read_texts(data, set()) == []
