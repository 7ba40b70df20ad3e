"""The thread that writes kept rollouts: what it leaves and survives."""

import errno
import threading

import numpy as np
import object_store
import pytest
import reporting_rows
import test_rewards
from test_rewards import RIGHT, WRONG

from acereason_jax import storage
from acereason_jax.data import archive
from acereason_jax.run import keeper, keeping


@pytest.fixture(params=['disk', 'bucket'])
def root(request, tmp_path):
  if request.param == 'disk':
    yield str(tmp_path / 'run')
    return
  (tmp_path / 'objects').mkdir()
  with object_store.started(tmp_path / 'objects') as store:
    yield storage.join(store.make_bucket('runs'), 'run')


def kept(step, phase='train', size=3):
  """A step of a group, whose text takes about `size` bytes."""
  random = np.random.default_rng(step)
  letters = random.integers(97, 123, size).astype(np.uint8).tobytes().decode()
  group = test_rewards.group(RIGHT, WRONG, name=letters)
  place = archive.Place(step, phase)
  return keeping.heldout(place, 'stage', [group])


def opened(root, step=None, budget_gb=1.0):
  return keeper.Keeper(root, step, budget_gb, lambda ids: '')


def files(root):
  folder = storage.join(root, archive.FOLDER)
  return {
    name: storage.read(storage.join(folder, name), 1 << 30)
    for name in storage.names(folder)
  }


def run(root, first, last, step=None, budget_gb=1.0):
  with opened(root, step, budget_gb) as writer:
    for i in range(first, last + 1):
      writer.keep(kept(i))
      if i % 2 == 0:
        writer.keep(kept(i, 'heldout'))
    writer.wait()


def test_a_run_in_parts_leaves_what_it_leaves_in_one(root, tmp_path):
  run(root, 0, 5)
  assert len(files(root)) == 2 * (6 + 3) + 1
  # The checkpoint of step 3 is the newest that was saved.
  run(root, 4, 9, step=3)
  other = str(tmp_path / 'other')
  run(other, 0, 9)
  assert files(root) == files(other)
  # A new run has no files.
  run(root, 0, 1)
  run(other, 0, 1)
  assert files(root) == files(other)


def probed(writer, step):
  place = archive.Place(step, 'probe')
  writer.keep_rows(place, iter([reporting_rows.row(step=step, phase='probe')]))


def test_a_probe_at_the_step_of_a_checkpoint_came_after_it(root):
  with opened(root) as writer:
    probed(writer, 0)
    writer.keep(kept(1))
    writer.keep(kept(2))
    probed(writer, 2)
    writer.wait()
  before = files(root)
  rows = archive.read_rows(before['00000002-probe.parquet']).to_pylist()
  assert [row['phase'] for row in rows] == ['probe']
  # It was over, and the next step was not saved: it is made again.
  with opened(root, 2):
    pass
  gone = {'00000002-probe.parquet'}
  assert files(root) == {n: c for n, c in before.items() if n not in gone}
  with opened(root, 2) as writer:
    probed(writer, 2)
    writer.wait()
  assert files(root) == before
  # Of the checkpoint of step 3 it is a part.
  with opened(root, 3):
    pass
  assert files(root) == before


def test_rows_that_are_too_many_for_a_reader(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(archive, 'MAX_ROWS', 5)
  place = archive.Place(3, 'probe')
  with opened(str(tmp_path)) as writer:
    rows = [reporting_rows.row(index=i) for i in range(7)]
    writer.keep_rows(place, rows)
    writer.keep_rows(archive.Place(4, 'probe'), rows[:5])
    writer.wait()
  said = capfd.readouterr().err.splitlines()
  assert said == [
    f'WARNING: {place.name}: 5 of 7 rows are kept: a file has no more'
  ]
  for name in (place.name, '00000004-probe.parquet'):
    found = archive.read_rows(files(tmp_path)[name]).to_pylist()
    assert [row['index'] for row in found] == [0, 1, 2, 3, 4]


def test_a_budget_in_parts_is_that_in_one(root, tmp_path):
  budget = 12e-6
  run(root, 0, 30, budget_gb=budget)
  run(root, 18, 40, step=17, budget_gb=budget)
  other = str(tmp_path / 'other')
  run(other, 0, 40, budget_gb=budget)
  assert files(root) == files(other)
  texts = [c for n, c in files(root).items() if n.startswith('texts/0')]
  assert 0 < sum(map(len, texts)) <= 12_000 and len(texts) < 61
  # A smaller budget later removes more at once.
  with opened(root, 40, budget / 2):
    pass
  texts = [c for n, c in files(root).items() if n.startswith('texts/0')]
  assert 0 < sum(map(len, texts)) <= 6_000


def test_files_of_others_stay_and_halves_go(tmp_path):
  run(str(tmp_path), 0, 2)
  folder = tmp_path / 'rollouts'
  (folder / 'notes.txt').write_text('mine')
  (folder / 'texts' / '.00000001.parquet.x1.partial').write_text('half')
  (folder / 'mine').mkdir()
  (folder / 'mine' / '00000009.parquet').write_text('a copy')
  before = files(tmp_path)
  with opened(str(tmp_path), 2):
    pass
  gone = {'texts/.00000001.parquet.x1.partial'}
  assert files(tmp_path) == {n: c for n, c in before.items() if n not in gone}


def test_a_full_disk_is_a_line_and_the_run_goes_on(
  tmp_path, monkeypatch, capfd
):
  whole = storage.write
  full = threading.Event()

  def write(path, content):
    if full.is_set():
      raise OSError(errno.ENOSPC, 'No space left on device', path)
    whole(path, content)

  monkeypatch.setattr(storage, 'write', write)
  root = str(tmp_path)
  with opened(root) as writer:
    writer.keep(kept(1))
    writer.wait()
    full.set()
    writer.keep(kept(2))
    writer.wait()
    full.clear()
    writer.keep(kept(3))
    writer.wait()
  said = capfd.readouterr().err.splitlines()
  # Its rows, its texts, and the sizes.
  assert len(said) == 3
  for line in said:
    assert line.startswith('WARNING: rollouts are not kept: ' + root)
    assert line.endswith('No space left on device; the run goes on')
  steps = {archive.place(n.split('/')[-1]) for n in files(tmp_path)} - {None}
  assert {place.step for place in steps} == {1, 3}
  monkeypatch.undo()
  run(root, 2, 3, step=1)
  other = tmp_path / 'other'
  run(str(other), 1, 3)
  ours = {n: c for n, c in files(tmp_path).items() if n in files(other)}
  assert (
    ours['texts/00000002.parquet'] == files(other)['texts/00000002.parquet']
  )


def test_no_file_of_texts_is_too_large_for_readers(
  tmp_path, monkeypatch, capfd
):
  """A look at many questions with long answers, one of them not ASCII."""
  groups = [
    test_rewards.group(RIGHT, name=f'{i}' + 'é' * 100) for i in range(60)
  ]
  place = archive.Place(3, 'heldout')
  monkeypatch.setattr(archive, 'MOST_TEXT_BYTES', 8_000)
  with opened(str(tmp_path)) as writer:
    writer.keep(keeping.heldout(place, 'stage', groups))
  monkeypatch.setattr(archive, 'MOST_TEXT_BYTES', 1 << 30)
  found = files(tmp_path)
  assert archive.read_rows(found[place.name]).num_rows == 60
  monkeypatch.setattr(archive, '_MAX_UNPACKED', 10_000)
  texts = archive.read_texts(found[f'texts/{place.name}'])
  # An id of 201 or 202 bytes, and 3 tokens of 9: 10 * 228 + 24 * 229 <= 8,000.
  assert len(texts) == 34
  assert [t.prompt for t in texts] == [
    g.prompt.id for g in groups[: len(texts)]
  ]
  # All of them would be refused.
  every = keeping.texts(
    keeping.heldout(place, 'stage', groups), writer._characters
  )
  with pytest.raises(ValueError, match='unpacked'):
    archive.read_texts(archive.texts_to_bytes(every))
  (line,) = [x for x in capfd.readouterr().err.splitlines() if 'WARNING' in x]
  assert f'{len(texts)} of 60 texts are kept' in line


def test_what_waits_is_bounded_and_all_is_written(tmp_path, monkeypatch):
  """The steps of a run that is faster than its disk wait for it."""
  whole, go, seen = storage.write, threading.Semaphore(0), []

  def write(path, content):
    if not path.endswith('.jsonl'):
      go.acquire()
    whole(path, content)

  monkeypatch.setattr(storage, 'write', write)
  with opened(str(tmp_path)) as writer:

    def fill():
      for i in range(6):
        writer.keep(kept(i))
        seen.append(i)

    thread = threading.Thread(target=fill)
    thread.start()
    while thread.is_alive() and len(seen) < 2:
      thread.join(0.01)
    thread.join(1.0)
    assert len(seen) == 2
    go.release(100)
    thread.join()
    writer.wait()
  assert len(files(tmp_path)) == 6 * 2 + 1


def test_a_mistake_of_ours_is_not_hidden(tmp_path, monkeypatch):
  monkeypatch.setattr(keeping, 'rows', lambda _: [(1, 2)])
  with pytest.raises(KeyError), opened(str(tmp_path)) as writer:
    writer.keep(kept(1))
    writer.wait()


@pytest.mark.parametrize('content', [b'\xff', b'x\n', b'{"step": 1}\n'])
def test_damaged_sizes_are_a_line(tmp_path, capfd, content):
  run(str(tmp_path), 0, 4)
  (tmp_path / 'rollouts' / keeper.SIZES).write_bytes(content)
  before = files(tmp_path)
  with opened(str(tmp_path), 4, budget_gb=1e-9):
    pass
  after = files(tmp_path)
  assert before.pop(keeper.SIZES) == content and after.pop(keeper.SIZES) == b''
  assert after == before
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith('WARNING: ') and 'sizes.jsonl' in line
