"""The budget of kept texts, over runs of thousands of steps; no files."""

import numpy as np
import pytest

from acereason_jax.data import archive
from acereason_jax.run import thinning

STEPS = 6_000


def run(seed, steps=STEPS):
  """Files of a run, in order: sizes are drawn, a look every 37 steps."""
  random = np.random.default_rng(seed)
  files = [thinning.Written(archive.Place(0, 'before'), 3_000)]
  for step in range(1, steps + 1):
    size = int(random.lognormal(7 + step / steps, 1))
    files.append(thinning.Written(archive.Place(step, 'train'), size))
    if step % 37 == 0:
      size = int(random.lognormal(8, 0.5))
      files.append(thinning.Written(archive.Place(step, 'heldout'), size))
  return files


def simulated(files, budget, begin=(), there=()):
  """The files that are there at the end; checks the budget at every one."""
  written, there = list(begin), set(there)
  for file in files:
    written.append(file)
    there.add(file.place)
    # Every file would take quadratic time here.
    if len(written) % 50 == 0 or len(written) < 300 or file is files[-1]:
      stays = thinning.staying(written, budget)
      there -= {w.place for w, stay in zip(written, stays) if not stay}
      newest = {w.place.phase == 'train': w.place for w in written}
      assert set(newest.values()) <= there
      total = sum(w.size for w in written if w.place in there)
      assert total <= budget
  return there


@pytest.mark.parametrize('budget', [2e5, 1e6, 3e6, 1e7, 1e9])
def test_the_budget_holds_and_a_restart_changes_nothing(budget):
  files = run(1)
  whole = simulated(files, budget)
  total = sum(w.size for w in files)
  if total <= budget:
    assert len(whole) == len(files)
  else:
    kept = sum(w.size for w in files if w.place in whole)
    # Halves are the step, so about half of the room may be free.
    assert kept > budget / 5
  # Killed at file 4,000; its checkpoint holds the first 3,100 of them.
  before = simulated(files[:4_000], budget)
  left = {w.place for w in files[:3_100]} & before
  assert simulated(files[3_100:], budget, files[:3_100], left) == whole


def test_those_that_stay_are_evenly_spread():
  files = run(2)
  there = simulated(files, 1e6)
  steps = sorted(p.step for p in there if p.phase == 'train')
  gaps = set(np.diff(steps[:-1]).tolist())
  assert len(gaps) == 1 and gaps.pop().bit_count() == 1
  looks = [p.step for p in there if p.phase == 'heldout']
  assert len(looks) > 3 and archive.Place(0, 'before') in there


def test_by_hand():
  train = [thinning.Written(archive.Place(i, 'train'), 10) for i in range(7)]
  stays = lambda most: thinning.staying(train, most)
  assert stays(70) == [True] * 7
  # Ranks 0, 2, 4, 6 and room for the newest.
  assert stays(69) == [True, False, True, False, True, False, True]
  assert stays(50) == stays(69)
  assert stays(49) == [True, False, False, False, True, False, True]
  # Nothing is enough: the first and the newest.
  assert stays(1) == [True] + [False] * 5 + [True]
  assert thinning.staying([], 1.0) == []


def test_sizes_come_back():
  files = run(3, steps=100)
  assert thinning.from_text(thinning.to_text(files)) == files
  assert thinning.from_text('') == []


@pytest.mark.parametrize(
  'text',
  [
    'x',
    '[' * 100_000,
    '{"step": 1, "phase": "train"}',
    '{"step": 1, "phase": "other", "bytes": 3}',
    '{"step": 1, "phase": "train", "bytes": -3}',
    '{"step": 1e99, "phase": "train", "bytes": 3}',
    'null',
  ],
)
def test_sizes_of_something_else_are_one_line(text):
  good = thinning.to_text([thinning.Written(archive.Place(0, 'train'), 1)])
  with pytest.raises(ValueError, match=r'^line 2: no size') as e:
    thinning.from_text(good + text)
  assert '\n' not in str(e.value)
