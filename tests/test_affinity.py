"""Which worker gets which task: none is lost, none waits for ever."""

import collections
import pathlib
import random
import sys
import time

import pytest

from acereason_jax.verifiers.pool import affinity
from acereason_jax.verifiers.pool.pool import VerifierPool

GUARD = 60


@pytest.mark.parametrize('seed', range(60))
def test_every_task_is_taken_once_whatever_comes_when(seed, monkeypatch):
  """Next to a plain set of what waits; with few keys remembered, too."""
  draw = random.Random(seed)
  passed, workers = draw.choice([1, 5, 1000]), draw.choice([1, 2, 5])
  monkeypatch.setattr(affinity, '_PASSED', passed)
  monkeypatch.setattr(affinity, '_REMEMBERED', draw.choice([1, 3, 1000]))
  waiting, there, added = affinity.Waiting(), {}, 0
  for _ in range(3000):
    if draw.random() < draw.choice([0.4, 0.6]):
      key = draw.choice('abcdefgh')
      waiting.add(key, added)
      there[added] = key
      added += 1
    elif there:
      got = waiting.take(draw.randrange(workers))
      assert got <= min(there) + passed
      # Raises for one that was taken before.
      del there[got]
    else:
      with pytest.raises(IndexError):
        waiting.take(0)
    assert len(waiting) == len(there)
    if draw.random() < 0.002:
      assert list(waiting) == sorted(there)
      waiting.clear()
      there.clear()
  while there:
    del there[waiting.take(draw.randrange(workers))]


def test_a_worker_goes_on_with_an_answer_that_it_knows():
  waiting = affinity.Waiting()
  for number, key in enumerate('abab'):
    waiting.add(key, number)
  assert [waiting.take(0), waiting.take(1)] == [0, 1]
  assert [waiting.take(1), waiting.take(0)] == [3, 2]
  assert (waiting.workers('a'), waiting.workers('b')) == ([0], [1])
  # Nobody waits while there is a task: worker 2 helps worker 1.
  for number in (4, 5):
    waiting.add('b', number)
  assert waiting.take(2) == 4
  assert waiting.workers('b') == [1, 2]


def test_a_batch_in_any_order_brings_each_answer_to_about_one_worker():
  """16 problems of 64 rollouts, whose running times differ a hundredfold."""
  draw = random.Random(0)
  for workers in (2, 4, 8):
    batch = [p for p in range(16) for _ in range(64)]
    draw.shuffle(batch)
    waiting = affinity.Waiting()
    for problem in batch:
      waiting.add(problem, problem)
    free = [(0.0, worker) for worker in range(workers)]
    read = collections.Counter()
    while len(waiting):
      now, worker = min(free)
      problem = waiting.take(worker)
      read[worker, problem] += 1
      free.remove((now, worker))
      free.append((now + draw.uniform(0.01, 1.0), worker))
    assert sum(read.values()) == 16 * 64
    # Each worker but one may have to help another at the end, twice.
    assert len(read) <= 16 + 2 * (workers - 1)
    # First come, first served would have nearly all pairs.
    ends = sorted(now for now, _ in free)
    assert ends[-1] - ends[0] <= 1.0


@pytest.mark.skipif(sys.platform != 'linux', reason='confined workers')
def test_a_pool_reads_each_answer_about_once(monkeypatch, tmp_path):
  """By the processes that judged, all tasks in line at once."""
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
  batch = [f'answer {p}' for p in range(16) for _ in range(64)]
  random.Random(1).shuffle(batch)
  begin = tmp_path / 'begin'
  with VerifierPool('hostile_verifiers:identify', {}, 2, 300.0) as pool:
    holding = [pool.submit(str(begin), f'other {i}') for i in range(2)]
    futures = [(answer, pool.submit('', answer)) for answer in batch]
    begin.touch()
    read = {(a, future.result(GUARD).detail) for a, future in futures}
    pids = {future.result(GUARD).detail for future in holding}
  assert len(pids) == 2
  assert {pid for _, pid in read} <= pids
  assert len(read) <= 16 + 2


@pytest.mark.skipif(sys.platform != 'linux', reason='confined workers')
def test_an_idle_worker_that_knows_the_answer_is_woken(monkeypatch):
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
  with VerifierPool('hostile_verifiers:identify', {}, 3, 30.0) as pool:
    pids = collections.defaultdict(set)
    for number in range(60):
      deadline = time.monotonic() + GUARD
      while len(pool._idle) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
      answer = f'answer {number % 5}'
      pids[answer].add(pool.submit('', answer).result(GUARD).detail)
  assert [len(found) for found in pids.values()] == [1] * 5
  # Each new answer went to the worker that had been idle longest.
  assert len(set.union(*pids.values())) == 3
