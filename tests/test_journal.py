"""A journal gives back the bits it was given, or nothing, whatever happens."""

import dataclasses
import errno
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib

import hypothesis
import numpy as np
import properties
import pytest
import tiny
import writing_journal as writing
from hypothesis import strategies as st
from writing_journal import bits, gang, is_written, put, until

from acereason_jax import types
from acereason_jax.console import signals
from acereason_jax.run import entries as entries_lib
from acereason_jax.run import journal, stores
from acereason_jax.run.journal import Entry, Key

HEAD = 8 + 4 + 32
KILLS = 24


def opened(folder, fingerprint='tiny', process=0, processes=1):
  return journal.Journal(folder, fingerprint, process, processes)


def found(folder, **given):
  with opened(folder, **given) as kept:
    return kept.found, kept.notes


def small(i):
  """Two tokens: a file of a few is short enough to try every byte of it."""
  return types.Rollout(
    prompt_id='q',
    index=i,
    tokens=np.array([i, -1], np.int32),
    logp=np.array([-0.0, np.nan], np.float32),
    full_logp=np.array([-1e-42, -np.inf], np.float32),
    stop='stop',
    text='é',
  )


def small_key(i):
  return Key('train', 5, 'q', i)


def write_small(folder):
  """The bytes after each of three records: rollouts 0, 1 and 0's verdict."""
  ends = []
  with opened(folder) as kept:
    path = folder / '0-5.journal'
    for i in range(2):
      kept.rollout('train', 5, small(i))
      ends.append(path.stat().st_size)
    kept.verdict('train', 5, 'q', 0, types.Verdict('wrong', 'no', 0.5))
    ends.append(path.stat().st_size)
  return path, ends


def check_small(entries, records):
  """The first `records` of `write_small`, and nothing else."""
  wanted = {
    small_key(i): bits(small(i)) for i in range(2) if i < min(records, 2)
  }
  assert {k: bits(e.rollout) for k, e in entries.items()} == wanted
  verdicts = {k: e.verdict for k, e in entries.items() if e.verdict}
  no = types.Verdict('wrong', 'no', 0.5)
  assert verdicts == ({small_key(0): no} if records == 3 else {})


TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
FLOATS = st.integers(0, 2**64 - 1).map(
  lambda word: struct.unpack('=d', struct.pack('=Q', word))[0]
)


@st.composite
def rollouts(draw):
  size = draw(st.integers(0, 8))
  arrays = [
    np.frombuffer(draw(st.binary(min_size=4 * size, max_size=4 * size)), dtype)
    for dtype in (np.int32, np.float32, np.float32)
  ]
  return types.Rollout(
    draw(TEXT),
    draw(st.integers(0, 2**31)),
    *arrays,
    draw(st.sampled_from(['stop', 'length', 'error'])),
    draw(TEXT),
    draw(FLOATS),
    draw(st.tuples(st.integers(0, 99), st.integers(0, 99))),
    draw(TEXT),
  )


VERDICTS = st.builds(
  types.Verdict,
  st.sampled_from(['right', 'wrong', 'unparsed', 'timeout', 'error']),
  TEXT,
  FLOATS,
)


@hypothesis.given(
  st.lists(
    st.tuples(TEXT, st.integers(-2, 10**6), rollouts(), VERDICTS),
    unique_by=lambda x: (x[0], x[1], x[2].prompt_id, x[2].index),
    max_size=4,
  )
)
@properties.tried(150, derandomize=True)
def test_what_is_read_is_what_was_written(tmp_path_factory, entries):
  folder = tmp_path_factory.mktemp('journal')
  with opened(folder) as kept:
    for phase, step, rollout, verdict in entries:
      place = phase, step, rollout.prompt_id, rollout.index
      kept.rollout(phase, step, rollout)
      kept.verdict(*place, verdict)
  read, notes = found(folder)
  assert notes == [] and len(read) == len(entries)
  for phase, step, rollout, verdict in entries:
    got = read[Key(phase, step, rollout.prompt_id, rollout.index)]
    assert bits(got.rollout) == bits(rollout)
    assert bits(got.verdict) == bits(verdict)


ODD = '\0\ud83d\ude00\ude00\x7f\u2028"\\ \U0001f600'


def test_long_and_odd_values(tmp_path):
  rng = np.random.default_rng(0)
  logp = rng.integers(0, 2**32, 32_768, np.uint32).view(np.float32)
  # -0.0, the least subnormal, NaNs that differ: quiet, signalling, negative.
  words = np.array([1 << 31, 1, 0x7FC00001, 0x7F800001, 0xFFC00000], np.uint32)
  logp[:5] = words.view(np.float32)
  tokens = np.arange(32_768, dtype=np.int32)
  long = types.Rollout(ODD, 3, tokens, logp, -logp, 'length', ODD * 10**5)
  # Neither contiguous nor owned, and numbers of numpy.
  strided = dataclasses.replace(
    long, index=np.int64(4), tokens=long.tokens[::-2], logp=logp[::2],
    full_logp=logp[1::2], forced=(np.int32(1), np.int64(2)),
    entropy=np.float64(-0.0),
  )  # fmt: skip
  with opened(tmp_path) as kept:
    kept.rollout(ODD, np.int64(1), long)
    kept.rollout(ODD, 1, strided)
  read, _ = found(tmp_path)
  assert bits(read[ODD, 1, ODD, 3].rollout) == bits(long)
  plain = dataclasses.replace(strided, index=4, forced=(1, 2), entropy=-0.0)
  assert bits(read[ODD, 1, ODD, 4].rollout) == bits(plain)
  assert read[ODD, 1, ODD, 4].rollout.tokens.flags.writeable


@pytest.mark.parametrize(
  'wrong',
  [
    dict(tokens=np.zeros(2, np.int64)),
    dict(logp=np.zeros(3, np.float32)),
    dict(full_logp=np.zeros((2, 1), np.float32)),
  ],
)
def test_arrays_that_would_come_back_otherwise_are_refused(tmp_path, wrong):
  (name,) = wrong
  with opened(tmp_path) as kept:
    with pytest.raises(ValueError, match=f"'q', 0: {name} is .* expected"):
      kept.rollout('train', 0, dataclasses.replace(small(0), **wrong))
    kept.rollout('train', 0, small(1))
  assert found(tmp_path)[0].keys() == {Key('train', 0, 'q', 1)}


@pytest.mark.parametrize('order', [iter, reversed])
def test_twice_the_first_rollout_and_the_last_verdict_stand(
  tmp_path, monkeypatch, order
):
  right, wrong = (types.Verdict(s, '', 0.0) for s in ('right', 'wrong'))
  with opened(tmp_path) as kept:
    # A verdict without a rollout is known too: its rollout may have been lost.
    kept.verdict('train', 1, 'q', 1, right)
    for verdict in (right, wrong):
      kept.rollout('train', 1, small(0))
      kept.verdict('train', 1, 'q', 0, verdict)
    # A key is all four.
    kept.rollout('probe', 1, small(0))
  with opened(tmp_path, process=1, processes=2) as kept:
    kept.rollout('train', 1, dataclasses.replace(small(0), text='second'))
    kept.verdict('train', 1, 'q', 1, wrong)
  # In whatever order the system lists the files.
  places = stores.Files.places
  listed = lambda store: list(order(sorted(places(store))))
  monkeypatch.setattr(stores.Files, 'places', listed)
  entries, _ = found(tmp_path)
  assert entries['train', 1, 'q', 1] == Entry(None, wrong)
  assert entries['train', 1, 'q', 0].rollout.text == 'é'
  assert entries['train', 1, 'q', 0].verdict == wrong
  assert entries['probe', 1, 'q', 0].verdict is None
  assert len(entries) == 3


def test_after_kill_9_every_entry_that_was_kept_is_there(tmp_path):
  """Again and again in one folder, in the middle of whatever it does."""
  chance = random.Random(0)
  first = torn = 0
  for _ in range(KILLS):
    script = [str(tiny.TESTS / 'writing_journal.py'), str(tmp_path), str(first)]
    writer = subprocess.Popen(
      [sys.executable, *script],
      stdout=subprocess.PIPE,
      env=os.environ | {'PYTHONPATH': str(tiny.TESTS.parent)},
    )
    with writer:
      said = b''.join(
        writer.stdout.readline() for _ in range(chance.randrange(1, 9))
      )
      time.sleep(chance.random() * 0.02)
      writer.kill()
      said += writer.stdout.read()
    kept = [int(line) for line in said.splitlines()]
    assert kept == list(range(first, first + len(kept)))
    entries, notes = found(tmp_path)
    first += len(kept)
    assert all(is_written(entries, i) for i in range(first))
    # At most one more exists: the record that was not yet reported.
    assert entries.keys() <= {writing.key(i) for i in range(first + 1)}
    is_written(entries, first)
    torn += bool(notes)
    assert found(tmp_path)[1] == []
  assert first > KILLS and torn


def test_cut_anywhere_the_whole_records_stay_and_writing_goes_on(tmp_path):
  path, ends = write_small(tmp_path)
  whole = path.read_bytes()
  assert ends[-1] == len(whole) < 800
  for size in range(len(whole) + 1):
    path.write_bytes(whole[:size])
    records = sum(end <= size for end in ends)
    with opened(tmp_path) as kept:
      check_small(kept.found, records)
      clean = size in (HEAD, *ends)
      assert len(kept.notes) == (not clean)
      if not clean:
        assert str(path) in kept.notes[0] and 'torn' in kept.notes[0]
      kept.rollout('train', 5, small(7))
    entries, notes = found(tmp_path)
    assert notes == []
    assert bits(entries.pop(small_key(7)).rollout) == bits(small(7))
    check_small(entries, records)


def test_no_flipped_bit_gives_a_wrong_value(tmp_path):
  path, ends = write_small(tmp_path)
  whole = path.read_bytes()
  for place in range(len(whole)):
    records = sum(end <= place for end in ends) if place >= HEAD else 0
    for bit in range(8):
      broken = bytearray(whole)
      broken[place] ^= 1 << bit
      path.write_bytes(broken)
      entries, notes = found(tmp_path)
      check_small(entries, records)
      assert len(notes) == 1


@hypothesis.given(st.data())
@properties.tried(300, derandomize=True)
def test_no_damage_gives_a_wrong_value(tmp_path_factory, data):
  folder = tmp_path_factory.mktemp('journal')
  path, ends = write_small(folder)
  whole = path.read_bytes()
  start = data.draw(st.integers(0, len(whole)))
  # Overwritten, inserted, left out; a power cut's zeros; its own parts.
  end = data.draw(st.integers(start, len(whole)))
  there = data.draw(st.integers(0, len(whole)))
  middle = data.draw(
    st.binary(max_size=99)
    | st.integers(0, 99).map(bytes)
    | st.just(whole[there:])
  )
  path.write_bytes(whole[:start] + middle + whole[end:])
  entries, _ = found(folder)
  no = types.Verdict('wrong', 'no', 0.5)
  for key, entry in entries.items():
    assert key in (small_key(0), small_key(1))
    if entry.rollout is not None:
      assert bits(entry.rollout) == bits(small(key.index))
    assert entry.verdict in (None, no)
  untouched = sum(e <= start for e in ends)
  assert sum(x is not None for e in entries.values() for x in e) >= untouched


def forged(text, numbers=b'', sizes=None, crc=None):
  """A record whose checksum is right, unless one is given."""
  sizes = struct.pack('<QQ', *(sizes or (len(text), len(numbers))))
  crc = zlib.crc32(sizes + text + numbers) if crc is None else crc
  return sizes + struct.pack('<I', crc) + text + numbers


PLACE = b'"key": ["train", 5, "q", 0]'


def test_a_forged_record_would_be_believed_if_it_were_right(tmp_path):
  path, _ = write_small(tmp_path)
  text = b'{%s, "status": "right", "detail": ""}' % PLACE
  with path.open('ab') as file:
    file.write(forged(text, bytes(8)))
  entries, notes = found(tmp_path)
  assert notes == [] and entries[small_key(0)].verdict.status == 'right'


@pytest.mark.parametrize(
  'record',
  [
    forged(b'', sizes=(2**63, 2**63)),
    forged(b'', sizes=(2**40, 0)),
    forged(b'x' * 100, sizes=(100, 2**64 - 1)),
    bytes(4096),
    b'\xff' * 4096,
    forged(b'[' * 200_000),
    forged(b'\xff\xfe'),
    forged(b'{}'),
    forged(b'7' * 10_000),
    forged(b'{%s, "status": "right", "detail": ""}' % PLACE, bytes(7)),
    forged(b'{%s, "status": 1, "detail": ""}' % PLACE, bytes(8)),
    forged(
      b'{%s, "stop": "stop", "forced": [0, 0], "text": "", "detail": ""}'
      % PLACE,
      bytes(8 + 13),
    ),
  ],
)
def test_what_is_no_record_is_cut_and_asks_for_no_memory(tmp_path, record):
  path, ends = write_small(tmp_path)
  with path.open('ab') as file:
    file.write(record)
  tracemalloc.start()
  try:
    entries, notes = found(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  check_small(entries, 3)
  assert len(notes) == 1 and 'its first 3 records are used' in notes[0]
  assert path.stat().st_size == ends[-1]
  assert peak < 20e6


def test_another_configuration_finds_nothing_of_this_one(tmp_path):
  path, _ = write_small(tmp_path)
  # It is not another process's to touch.
  assert found(tmp_path, fingerprint='other', process=1, processes=2)[0] == {}
  check_small(found(tmp_path)[0], 3)
  entries, (note,) = found(tmp_path, fingerprint='other')
  assert entries == {} and not path.exists()
  assert str(path) in note and 'another configuration' in note
  assert found(tmp_path) == ({}, [])


def test_another_version_is_not_read(tmp_path, monkeypatch):
  path, _ = write_small(tmp_path)
  monkeypatch.setattr(entries_lib, '_VERSION', 2)
  entries, (note,) = found(tmp_path)
  assert entries == {} and 'version' in note and not path.exists()


def test_what_is_not_of_the_journal_stays(tmp_path):
  names = 'notes.txt', '00-1.journal', '0-1.journal.bak', 'x-1.journal'
  for name in names:
    (tmp_path / name).write_text('mine')
  (tmp_path / '0-8.journal').mkdir()
  with opened(tmp_path) as kept:
    assert kept.notes == []
    kept.forget(100)
  assert {p.name for p in tmp_path.iterdir()} >= {*names, '0-8.journal'}


def test_forget_drops_earlier_steps_alone(tmp_path):
  with opened(tmp_path) as kept:
    for i in reversed(range(0, 80, 8)):  # Steps 4 to 0.
      put(kept, i)
    kept.forget(3)
    # One that was at work and is forgotten, and one that is not, go on.
    put(kept, 1)
    put(kept, 65)
    put(kept, 79)
  with opened(tmp_path) as kept:
    assert kept.notes == []
    steps = {0: {1}, 3: {48, 56}, 4: {64, 65, 72, 79}}
    numbers = set().union(*steps.values())
    assert kept.found.keys() == {writing.key(i) for i in numbers}
    assert all(is_written(kept.found, i) for i in numbers)
    kept.forget(4)
    assert kept.found.keys() == {writing.key(i) for i in steps[4]}
    kept.forget(4)
    left = [p for p in tmp_path.iterdir() if p.suffix == '.journal']
    assert [p.name for p in left] == ['0-4.journal']
    kept.forget(5)
    assert kept.found == {}
  assert found(tmp_path) == ({}, [])


@pytest.mark.parametrize('before', [1, 2, 3, 4])
@pytest.mark.parametrize('after', [1, 2, 4])
def test_any_number_of_processes_finds_what_any_other_kept(
  tmp_path, before, after
):
  with gang(tmp_path, before) as logs:
    for i in range(32):
      put(logs[i % before], i)
  for path in tmp_path.iterdir():
    if path.name == '0-1.journal':  # Torn by a kill.
      os.truncate(path, path.stat().st_size - 3)
  with gang(tmp_path, after) as logs:
    first = logs[0]
    for log in logs:
      assert list(log.found) == list(first.found) and log.notes == first.notes
      lost = [i for i in range(32) if not is_written(log.found, i)]
      assert len(lost) == 1 and len(log.notes) == 1
    # They go on beside, or in, the files of those before.
    put(logs[-1], lost[0])
    put(logs[0], 33)
    for log in logs:
      log.forget(1)
  with gang(tmp_path, before) as logs:
    kept = {writing.key(i) for i in (*range(16, 32), 33)}
    for log in logs:
      assert log.found.keys() == kept and log.notes == []
      log.forget(9)
  assert list(tmp_path.iterdir()) == []


def test_files_of_processes_that_are_no_more(tmp_path):
  """Of another run, they go; of this one, they are read and forgotten."""
  with gang(tmp_path, 4, 'other') as logs:
    put(logs[0], 0)
    put(logs[3], 3)
  with gang(tmp_path, 2) as logs:
    assert all(len(log.notes) == 2 and log.found == {} for log in logs)
  assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_forgotten_while_it_is_read(tmp_path, monkeypatch):
  write_small(tmp_path)
  with opened(tmp_path, process=1, processes=2) as kept:
    kept.rollout('train', 6, small(1))
  listed = [stores.Place(5, 0), stores.Place(6, 1)]
  (tmp_path / '0-5.journal').unlink()
  monkeypatch.setattr(stores.Files, 'places', lambda store: listed)
  entries, notes = found(tmp_path)
  assert entries.keys() == {Key('train', 6, 'q', 1)} and notes == []


def _link(path, target):
  path.symlink_to(target)


def _hard_link(path, target):
  path.hardlink_to(target)


@pytest.mark.parametrize(
  'make',
  [
    _link,
    _hard_link,
    lambda path, target: os.mkfifo(path),
    lambda path, target: path.mkdir(),
    lambda path, target: path.symlink_to('/dev/full'),
    lambda path, target: path.symlink_to(target.parent / 'new'),
  ],
)
def test_what_leads_elsewhere_is_not_written(tmp_path, make):
  """Through a link another's file would be written."""
  target = tmp_path / 'thesis.txt'
  target.write_text('three years of work')
  folder = tmp_path / 'journal'
  folder.mkdir()
  make(folder / '0-5.journal', target)
  if make is _hard_link:
    assert len(found(folder)[1]) == 1  # No journal: the name is removed.
  else:
    with pytest.raises(OSError) as error, opened(folder) as kept:
      kept.rollout('train', 5, small(0))
    assert '\n' not in str(error.value) and '0-5.journal' in str(error.value)
  assert target.read_text() == 'three years of work'
  assert not (tmp_path / 'new').exists()


def test_nothing_is_written_outside_of_with(tmp_path):
  kept = opened(tmp_path)
  for _ in range(2):
    with pytest.raises(ValueError, match='not open'):
      kept.rollout('train', 5, small(0))
    with kept:
      pass
  assert not (tmp_path / '0-5.journal').exists()


@pytest.fixture
def file_limit():
  """Sets the size no file may outgrow: the kernel writes a part, then fails."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(
    resource.RLIMIT_FSIZE, (size, before[1])
  )
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('there', [0, 1, 2])
def test_where_space_ends_one_entry_is_lost(tmp_path, file_limit, there):
  """At the first record of a file, too; later ones are kept again."""
  path = tmp_path / '0-5.journal'
  with opened(tmp_path) as kept:
    for i in range(there):
      kept.rollout('train', 5, small(i))
    before = path.stat().st_size if there else 0
    for room in (5, 60, 150):
      file_limit(before + room)
      with pytest.raises(OSError, match='not kept') as error:
        kept.rollout('train', 5, dataclasses.replace(small(2), text='x' * 500))
      assert error.value.errno == errno.EFBIG
      assert str(path) in str(error.value) and '\n' not in str(error.value)
      assert path.stat().st_size == before
    file_limit(2**30)
    kept.rollout('train', 5, small(3))
  entries, notes = found(tmp_path)
  assert notes == []
  assert bits(entries.pop(small_key(3)).rollout) == bits(small(3))
  check_small(entries, there)


def test_a_full_disk_that_cannot_even_be_cut(tmp_path, monkeypatch):
  """The part that was written stays, and still hides nothing."""
  pwrite, room = os.pwrite, 90

  def full(descriptor, data, offset):
    nonlocal room
    if not room:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    written = pwrite(descriptor, data[:room], offset)
    room -= written
    return written

  def cannot(descriptor, size):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  path, _ = write_small(tmp_path)
  before = path.stat().st_size
  with opened(tmp_path) as kept:
    with monkeypatch.context() as patch:
      patch.setattr(os, 'pwrite', full)
      patch.setattr(os, 'ftruncate', cannot)
      with pytest.raises(OSError, match='free space and start') as error:
        kept.rollout('train', 5, dataclasses.replace(small(2), text='x' * 500))
    assert error.value.errno == errno.ENOSPC
    assert path.stat().st_size == before + 90
    # Killed now, it would be cut.
    (copy := tmp_path / 'copy').mkdir()
    (copy / path.name).write_bytes(path.read_bytes())
    entries, (note,) = found(copy)
    check_small(entries, 3)
    assert 'torn' in note
    kept.rollout('train', 6, small(4))  # Elsewhere and back.
    kept.rollout('train', 5, small(3))
  entries, notes = found(tmp_path)
  assert notes == []
  assert bits(entries.pop(small_key(3)).rollout) == bits(small(3))
  assert bits(entries.pop(('train', 6, 'q', 4)).rollout) == bits(small(4))
  check_small(entries, 3)


@pytest.mark.usefixtures('told_to_end')
def test_a_signal_within_a_write_cuts_nothing(tmp_path, monkeypatch):
  """Its exception may come right after the last byte; then the record stays."""
  pwrite = os.pwrite

  def interrupted(descriptor, data, offset):
    pwrite(descriptor, data, offset)
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError('unreachable: a handler of a signal runs at once')

  path, _ = write_small(tmp_path)
  before = path.stat().st_size
  with signals.StopRequest() as stop, opened(tmp_path) as kept:
    monkeypatch.setattr(os, 'pwrite', interrupted)
    with pytest.raises(signals.Asked), stop.interruptible():
      kept.rollout('train', 5, small(3))
  assert path.stat().st_size > before
  entries, notes = found(tmp_path)
  assert notes == []
  assert bits(entries.pop(small_key(3)).rollout) == bits(small(3))
  check_small(entries, 3)


def test_entries_are_written_through(tmp_path, monkeypatch):
  """A disk that fails then is one line, at the next call."""
  synced, fdatasync, broken = [], os.fdatasync, False

  def seen(descriptor):
    if broken:
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    fdatasync(descriptor)
    synced.append(os.fstat(descriptor).st_size)

  monkeypatch.setattr(os, 'fdatasync', seen)
  monkeypatch.setattr(stores.Files, 'seconds', 0.01)
  path = tmp_path / '0-5.journal'
  with opened(tmp_path) as kept:
    put(kept, 80)
    until(lambda: path.stat().st_size in synced)
    kept.flush()
    put(kept, 16)  # Another file.
    put(kept, 81)
    kept.flush()
    sizes = {p.stat().st_size for p in tmp_path.iterdir()}
    assert len(sizes) == 2 and sizes <= {*synced}
    broken = True
    with pytest.raises(OSError, match='may not be on the disk') as error:
      until(lambda: put(kept, 82))
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)
  # No power was cut, so nothing is lost.
  assert all(is_written(found(tmp_path)[0], i) for i in (16, 80, 81, 82))


def test_many_threads_write(tmp_path):
  """Judges end in threads of their own."""
  with opened(tmp_path) as kept:
    share = lambda n: [put(kept, i) for i in range(n, 80, 4)]
    threads = [threading.Thread(target=share, args=(n,)) for n in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  entries, notes = found(tmp_path)
  assert notes == [] and all(is_written(entries, i) for i in range(80))


def test_the_format_is_as_described(tmp_path):
  """Read by hand: a change of it needs another version."""
  path, ends = write_small(tmp_path)
  data = path.read_bytes()
  assert data[:12] == b'rollouts\x01\0\0\0'
  of_text, of_numbers, crc = struct.unpack_from('<QQI', data, HEAD)
  body = data[HEAD + 20 : ends[0]]
  assert len(body) == of_text + of_numbers
  assert crc == zlib.crc32(data[HEAD : HEAD + 16] + body)
  assert json.loads(body[:of_text]) == dict(
    key=['train', 5, 'q', 0], stop='stop', forced=[0, 0], text='é', detail=''
  )
  numbers = body[of_text:]
  assert struct.unpack('<d2i', numbers[:16]) == (0.0, 0, -1)
  logps = small(0).logp, small(0).full_logp
  assert numbers[16:] == b''.join(x.tobytes() for x in logps)


def test_it_needs_no_jax():
  code = 'import sys, acereason_jax.run.journal; print(*sys.modules)'
  loaded = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    cwd=tiny.TESTS.parent,
  ).stdout.split()
  assert 'acereason_jax.run.journal' in loaded and 'jax' not in loaded
