"""A journal in a bucket gives back the bits it was given, or nothing."""

import os
import random
import subprocess
import sys
import time

import object_store
import pytest
import tiny
import writing_journal as writing
from writing_journal import gang, is_written, put, until

from acereason_jax import storage
from acereason_jax.run import journal, stores

KILLS = 12


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  with object_store.started(tmp_path_factory.mktemp('store')) as started:
    yield started


@pytest.fixture
def folder(server, request):
  """A folder of each test's own."""
  return f'gs://runs/{abs(hash(request.node.name))}/journal'


@pytest.fixture(autouse=True)
def never_due(monkeypatch):
  """However long a test takes, only what it does sends segments."""
  monkeypatch.setattr(stores.Segments, 'seconds', 3600.0)


@pytest.fixture
def at_once(monkeypatch):
  """Segments are sent as soon as they can be."""
  monkeypatch.setattr(stores.Segments, 'seconds', 0.01)


def opened(folder, fingerprint='tiny', process=0, processes=1):
  return journal.Journal(folder, fingerprint, process, processes)


def found(folder, **given):
  with opened(folder, **given) as kept:
    return kept.found, kept.notes


def segments(folder):
  return [n for n in storage.names(folder) if n.endswith('.journal')]


@pytest.mark.parametrize('before, after', [(1, 2), (2, 1), (2, 4), (4, 2)])
def test_any_number_of_processes_finds_what_any_other_kept(
  folder, before, after
):
  with gang(folder, before) as logs:
    for i in range(32):
      put(logs[i % before], i)
    assert segments(folder) == []
  assert len(segments(folder)) == 2 * before  # The end flushes each step.
  with gang(folder, after) as logs:
    for log in logs:
      assert list(log.found) == list(logs[0].found) and log.notes == []
      assert all(is_written(log.found, i) for i in range(32))
    # What is there is not written again.
    put(logs[0], 33)
    put(logs[-1], 34)
    for log in logs:
      log.flush()
      log.forget(1)
  with gang(folder, before) as logs:
    kept = {writing.key(i) for i in (*range(16, 32), 33, 34)}
    for log in logs:
      assert log.found.keys() == kept and log.notes == []
      log.forget(9)
  assert segments(folder) == []


@pytest.mark.hosts
def test_after_kill_9_every_entry_that_was_flushed_is_there(server, folder):
  """At random moments, also in the middle of an upload."""
  chance = random.Random(0)
  first = 0
  for _ in range(KILLS):
    script = [str(tiny.TESTS / 'writing_journal.py'), folder, str(first)]
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
    entries, notes = found(folder)
    first += len(kept)
    assert notes == [] and all(is_written(entries, i) for i in range(first))
    assert entries.keys() <= {writing.key(i) for i in range(first + 1)}
    is_written(entries, first)
  assert first > KILLS


def test_a_full_segment_is_sent_before_its_time(folder, monkeypatch):
  monkeypatch.setattr(stores, '_SEGMENT_BYTES', 500_000)
  with opened(folder) as kept:
    for i in (0, 1, 2, 3):
      put(kept, i)
    assert segments(folder) == []
    put(kept, 4)
    until(lambda: segments(folder))
    put(kept, 5)
    # Another process that starts now finds what was sent.
    entries, _ = found(folder)
    assert {writing.key(i) for i in range(5)} == entries.keys()
  assert is_written(found(folder)[0], 5)


def test_while_the_store_is_away_rollouts_go_on(server, folder, at_once):
  with opened(folder) as kept:
    put(kept, 0)
    until(lambda: segments(folder))
    server.status, asked = 503, len(server.seen)
    for i in range(1, 9):
      put(kept, i)
    # A try has failed, and further entries are still taken.
    until(lambda: len(server.seen) > asked)
    put(kept, 9)
    server.status = 0
    kept.flush()
    entries, notes = found(folder)
    assert notes == [] and all(is_written(entries, i) for i in range(10))


def test_a_store_that_refuses_is_one_line(server, folder, at_once, capsys):
  with opened(folder) as kept:
    put(kept, 0)
    kept.flush()
    server.forbidden.add('runs')
    put(kept, 1)
    with pytest.raises(OSError) as error:
      until(lambda: put(kept, 2))
    for call in (kept.flush, lambda: kept.forget(0), lambda: put(kept, 3)):
      with pytest.raises(OSError, match=r'storage\.objectUser'):
        call()
  server.forbidden.clear()
  assert '\n' not in str(error.value) and folder in str(error.value)
  entries, _ = found(folder)
  assert entries.keys() == {writing.key(0)} and is_written(entries, 0)


def test_what_cannot_be_flushed_at_the_end_is_said(server, folder, capsys):
  with opened(folder) as kept:
    put(kept, 0)
    server.forbidden.add('runs')
  server.forbidden.clear()
  said = capsys.readouterr().err
  assert said.startswith('WARNING: ') and said.count('\n') == 1
  assert found(folder) == ({}, [])


def test_no_segment_is_written_over(folder):
  """By a run that does not know of another's."""
  with opened(folder) as one:
    with opened(folder) as other:
      put(other, 0)
    put(one, 1)
  entries, _ = found(folder)
  assert is_written(entries, 0) and is_written(entries, 1)


def test_damaged_segments(folder, monkeypatch):
  with opened(folder) as kept:
    for i in (0, 1, 16):
      put(kept, i)
  path = storage.join(folder, '0-0-0.journal')
  whole = storage.read(path, 1 << 30)
  with opened(folder, fingerprint='other', process=1) as kept:
    put(kept, 2)
  storage.write(storage.join(folder, '2-1-0.journal'), whole[:20])
  storage.write(storage.join(folder, '0-1.journal'), b'of a disk')
  storage.write(storage.join(folder, 'notes.txt'), b'of a person')
  storage.write(path, whole[:-1])
  entries, notes = found(folder)
  assert is_written(entries, 0) and is_written(entries, 16)
  assert not is_written(entries, 1)
  assert [n.split(': ')[0] for n in notes] == [
    storage.join(folder, name)
    for name in ('0-0-0.journal', '1-0-0.journal', '2-1-0.journal')
  ]
